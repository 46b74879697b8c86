"""Metrics are those of the whole epoch, and agree with scikit-learn's."""

import math

import numpy as np
import pytest
from onepass import nn, optim
from onepass.train import Trainer
from onepass.train._classes import Classes
from onepass.train._metrics import resolve

RNG = np.random.default_rng(5)
N = 40
X = RNG.standard_normal((N, 4)).astype(np.float32)
Y = RNG.integers(0, 3, N)
BINARY = RNG.integers(0, 2, N)
NUMBERS = RNG.standard_normal((N, 1)).astype(np.float32)


def trainer(metrics, outputs=3, loss=None):
    nn.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, outputs))
    return Trainer(model, loss or nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.0),
                   metrics=metrics, progress=False)  # fmt: skip


def softmax(z):
    e = np.exp(z.astype(np.float64))
    return e / e.sum(axis=1, keepdims=True)


OURS = ["accuracy", "top_2_accuracy", "balanced_accuracy", "f1", "auc"]


def of_sklearn(name, outputs, y):
    metrics = pytest.importorskip("sklearn.metrics")
    predicted, shares = outputs.argmax(axis=1), softmax(outputs)
    if name == "auc":
        binary = shares.shape[1] == 2
        return metrics.roc_auc_score(y, shares[:, 1] if binary else shares, multi_class="ovr")
    return {
        "accuracy": lambda: metrics.accuracy_score(y, predicted),
        "top_2_accuracy": lambda: metrics.top_k_accuracy_score(y, shares, k=2),
        "balanced_accuracy": lambda: metrics.balanced_accuracy_score(y, predicted),
        "f1": lambda: metrics.f1_score(y, predicted, average="binary" if y.max() < 2 else "macro"),
    }[name]()


@pytest.mark.parametrize("batch_size", [1, 7, 40])
@pytest.mark.parametrize("name", OURS)
def test_metrics_of_classes_are_scikit_learns_whatever_the_batches(name, batch_size):
    t = trainer([name])
    want = of_sklearn(name, t.predict(X), Y)
    assert t.evaluate(X, Y, batch_size=batch_size)[name] == pytest.approx(want, rel=1e-12)
    history = t.fit(X, Y, max_epochs=1, batch_size=batch_size)
    assert history[name][0] == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("name", ["balanced_accuracy", "f1", "auc"])
def test_metrics_of_two_classes(name):
    t = trainer([name], 2)
    want = of_sklearn(name, t.predict(X), BINARY)
    assert t.evaluate(X, BINARY, batch_size=3)[name] == pytest.approx(want, rel=1e-12)


def test_auc_of_one_logit_with_ties():
    metrics = pytest.importorskip("sklearn.metrics")
    score = np.round(RNG.standard_normal((N, 1)), 1)
    auc = resolve(["auc"])["auc"]
    want = metrics.roc_auc_score(BINARY, score[:, 0])
    assert auc(score, BINARY) == pytest.approx(want, rel=1e-12)
    assert auc(score, BINARY.astype(np.float32)[:, None]) == pytest.approx(want, rel=1e-12)
    assert np.isnan(auc(score, np.ones(N, int)))


@pytest.mark.parametrize("name", ["mse", "rmse", "mae", "r2"])
@pytest.mark.parametrize("batch_size", [1, 7, 40])
def test_metrics_of_numbers(name, batch_size):
    t = trainer([name], 1, nn.MSELoss())
    out = t.predict(X).astype(np.float64)
    difference = out - NUMBERS
    want = {
        "mse": np.mean(difference**2),
        "rmse": np.sqrt(np.mean(difference**2)),
        "mae": np.mean(np.abs(difference)),
        "r2": 1 - np.sum(difference**2) / np.sum((NUMBERS - NUMBERS.mean(dtype=np.float64)) ** 2),
    }[name]
    assert t.evaluate(X, NUMBERS, batch_size=batch_size)[name] == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("name", [
    "f1_macro", "roc_auc_ovr", "neg_log_loss", "log_loss", "matthews_corrcoef",
    "cohen_kappa_score", "jaccard_macro",
])  # fmt: skip
def test_any_metric_of_scikit_learn_by_name(name):
    metrics = pytest.importorskip("sklearn.metrics")
    t = trainer([name])
    out = t.predict(X)
    predicted, shares = out.argmax(axis=1), softmax(out)
    want = {
        "f1_macro": lambda: metrics.f1_score(Y, predicted, average="macro"),
        "roc_auc_ovr": lambda: metrics.roc_auc_score(Y, shares, multi_class="ovr"),
        "neg_log_loss": lambda: -metrics.log_loss(Y, shares),
        "log_loss": lambda: metrics.log_loss(Y, shares),
        "matthews_corrcoef": lambda: metrics.matthews_corrcoef(Y, predicted),
        "cohen_kappa_score": lambda: metrics.cohen_kappa_score(Y, predicted),
        "jaccard_macro": lambda: metrics.jaccard_score(Y, predicted, average="macro"),
    }[name]()
    assert t.evaluate(X, Y, batch_size=7)[name] == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("name", ["neg_mean_absolute_error", "explained_variance",
                                  "median_absolute_error"])  # fmt: skip
def test_scikit_learns_regression_metrics(name):
    metrics = pytest.importorskip("sklearn.metrics")
    t = trainer([name], 1, nn.MSELoss())
    pair = NUMBERS[:, 0], t.predict(X)[:, 0]
    want = {
        "neg_mean_absolute_error": lambda: -metrics.mean_absolute_error(*pair),
        "explained_variance": lambda: metrics.explained_variance_score(*pair),
        "median_absolute_error": lambda: metrics.median_absolute_error(*pair),
    }[name]()
    assert t.evaluate(X, NUMBERS, batch_size=7)[name] == pytest.approx(want, rel=1e-6)


def test_a_function_gets_the_outputs_of_the_whole_epoch():
    seen = []

    def spread(outputs, targets):
        seen.append((outputs.shape, targets.shape))
        return float(np.median(outputs))

    t = trainer({"median": spread, "right": "accuracy", "other": lambda y, t: len(t)})
    found = t.evaluate(X, Y, batch_size=9)
    assert seen == [((N, 3), (N,))]
    assert found["median"] == float(np.median(t.predict(X)))
    assert found["other"] == N
    history = t.fit(X, Y, max_epochs=2, batch_size=8, validation_data=(X[:9], Y[:9]))
    assert list(history) == ["loss", "median", "right", "other", "val_loss", "val_median",
                             "val_right", "val_other", "lr"]  # fmt: skip


def test_labels_as_a_column_are_not_compared_with_every_output():
    outputs = np.array([[2.0, 0, 0], [0, 2, 0], [0, 0, 2], [2, 0, 0], [0, 2, 0]])
    labels = np.array([[0], [2], [1], [1], [2]])
    assert resolve(["accuracy"])["accuracy"](outputs, labels) == 0.2
    assert resolve(["acc"])["accuracy"](outputs, labels[:, 0]) == 0.2
    binary = resolve(["accuracy"])["accuracy"]
    assert binary(np.array([1.0, -1, -1, -1]), np.array([[1], [1], [1], [0]])) == 0.5
    assert binary(np.array([[1.0], [-1], [-1], [-1]]), np.array([1, 1, 1, 0])) == 0.5
    with pytest.raises(ValueError, match=r"'target' has shape \(4,\)"):
        resolve(["accuracy"])["accuracy"](outputs, np.arange(4))
    with pytest.raises(ValueError, match=r"'target' has shape \(3, 2\)"):
        binary(np.ones((3, 1)), np.ones((3, 2), int))


@pytest.mark.parametrize("name", OURS)
def test_ignored_labels_do_not_count_in_metrics_of_classes(name):
    for ignored in (-100, 7):
        y = np.where(np.arange(N) % 4 == 0, ignored, Y)
        t = trainer([name], loss=nn.CrossEntropyLoss(ignore_index=ignored))
        used = y != ignored
        want = trainer([name]).evaluate(X[used], Y[used])[name]
        assert t.evaluate(X, y, batch_size=7)[name] == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize(("metrics", "kind", "words"), [
    (["acuracy"], ValueError, "did you mean 'accuracy'"),
    (["f2"], ValueError, "expected accuracy"),
    ([lambda y, t: 0, lambda y, t: 1], ValueError, "with a dict"),
    ({"loss": "accuracy"}, ValueError, "not taken"),
    ({3: "accuracy"}, TypeError, "the name 3"),
    ({"a": 3}, TypeError, "has 3, expected a name or a callable"),
])  # fmt: skip
def test_metrics_that_cannot_be_used_are_refused(metrics, kind, words):
    with pytest.raises(kind, match=words):
        trainer(metrics)


REGRESSION = ["mse", "r2", "r2_score", "neg_mean_squared_error", "explained_variance", "max_error",
              "neg_median_absolute_error", "mean_absolute_percentage_error"]  # fmt: skip


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "float64", "bool"])
@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("name", REGRESSION)
def test_whole_numbers_are_no_classes_to_a_metric_of_regression(name, column, dtype):
    """Counts, years and prices are whole numbers."""
    metrics = pytest.importorskip("sklearn.metrics")
    outputs = RNG.standard_normal((N, 1)).astype(np.float32) + 3
    y = (RNG.integers(1, 9, (N, 1) if column else N) // (4 if dtype == "bool" else 1)).astype(dtype)
    known = {"mse": "mean_squared_error", "r2": "r2_score", "neg_mean_squared_error":
             "mean_squared_error", "explained_variance": "explained_variance_score",
             "neg_median_absolute_error": "median_absolute_error"}  # fmt: skip
    function = getattr(metrics, known.get(name, name))
    want = function(y.reshape(-1).astype(float), outputs.reshape(-1).astype(float))
    sign = -1 if name.startswith("neg_") else 1
    for metric in (name, *([function] if sign == 1 else [])):
        (found,) = resolve([metric]).values()
        assert found(outputs, y) == pytest.approx(sign * want, rel=1e-12)


def squares(y, target):
    """A loss that does not say what it takes outputs for."""
    return nn.MSELoss()(y, target)


@pytest.mark.parametrize("name", ["roc_auc", "precision", "recall", "average_precision", "f1_score",
                                  "log_loss", "neg_log_loss", "brier_score_loss"])  # fmt: skip
@pytest.mark.parametrize("dtype", ["int64", "float32", "bool"])
@pytest.mark.parametrize("ending", ["logits", "sigmoid", "sigmoid, identity", "residual"])
def test_one_output_is_a_logit_or_a_probability_to_every_metric(name, dtype, ending):
    metrics = pytest.importorskip("sklearn.metrics")
    nn.manual_seed(3)
    tail = [nn.Sigmoid(), nn.Identity(), nn.Flatten()][: ending.count(",") + ("sig" in ending)]
    if ending == "residual":  # x + a probability is none
        model = nn.Sequential(nn.Linear(4, 1), nn.Residual(nn.Linear(1, 1), nn.Sigmoid()))
    else:
        model = nn.Sequential(nn.Linear(4, 1), *tail)
    t = Trainer(model, squares, optim.SGD(model.parameters(), lr=0.0), metrics=[name],
                progress=False)  # fmt: skip
    output = t.predict(X).reshape(-1).astype(np.float64)
    share = output if tail else 1 / (1 + np.exp(-output))
    y = BINARY
    want = {
        "roc_auc": lambda: metrics.roc_auc_score(y, output),
        "precision": lambda: metrics.precision_score(y, share > 0.5),
        "recall": lambda: metrics.recall_score(y, share > 0.5),
        "average_precision": lambda: metrics.average_precision_score(y, output),
        "f1_score": lambda: metrics.f1_score(y, share > 0.5),
        "log_loss": lambda: metrics.log_loss(y, share),
        "neg_log_loss": lambda: -metrics.log_loss(y, share),
        "brier_score_loss": lambda: metrics.brier_score_loss(y, share),
    }[name]()
    target = BINARY.astype(dtype)[:, None]
    value = t.evaluate(X, target if dtype != "bool" else target.astype(np.uint8))[name]
    assert value == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("name", ["log_loss", "neg_log_loss"])
@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_the_log_loss_of_an_epoch_without_a_sample_of_some_class(name, outputs):
    pytest.importorskip("sklearn")
    scores = RNG.standard_normal((5, outputs))
    shares = softmax(scores if outputs > 1 else np.hstack([0 * scores, scores]))
    want = -np.log(shares[:, 1]).mean()
    value = resolve([name])[name](scores, np.ones(5, int))
    assert value == pytest.approx(-want if name[:3] == "neg" else want, rel=1e-12)


# Outputs that are NaN.

HOLED = {
    "several": np.array([[np.nan, 0, 0], [0, np.nan, 0], [0, 3, 0], [0, 0, np.nan], [1, 0, 0]]),
    "all": np.full((5, 3), np.nan),
    "two": np.array([[np.nan, 1], [1, np.nan], [0, 3], [np.nan, np.nan], [1, 0]]),
    "one": np.array([np.nan, np.nan, 2, np.nan, -1]),
    "column": np.array([[np.nan], [np.nan], [2.0], [np.nan], [-1]]),
}


@pytest.mark.parametrize("case", HOLED)
def test_an_output_that_is_nan_is_never_right(case):
    """A row of NaN counted as class 0, and NaN beside numbers as the class where it stands."""
    outputs = HOLED[case].astype(np.float32)
    last = 2 if case == "several" else 1
    y = np.array([0, 1, 1, last, 0])
    right = 0 if case == "all" else 2
    made = resolve(["accuracy", "balanced_accuracy", "f1", "auc"], Classes(nn.CrossEntropyLoss()))
    assert made["accuracy"](outputs, y) == right / 5
    classes = np.unique(y)
    recall = [right and np.mean([i in (2, 4) for i in np.flatnonzero(y == c)]) for c in classes]
    assert made["balanced_accuracy"](outputs, y) == pytest.approx(np.mean(recall))
    predicted = [-1, -1, 1, -1, 0] if right else [-1] * 5
    f1 = []
    for c in [1] if last == 1 and case != "all" else classes:
        hits = sum(p == t == c for p, t in zip(predicted, y, strict=True))
        f1.append(2 * hits / (predicted.count(c) + list(y).count(c)))
    assert made["f1"](outputs, y) == pytest.approx(np.mean(f1))
    assert math.isnan(made["auc"](outputs, y))
    if case == "several":
        top = resolve(["top_2_accuracy"], Classes())["top_2_accuracy"]
        assert top(outputs, y) <= 3 / 5
        assert top(outputs[[0, 1, 3]], y[[0, 1, 3]]) == 0


@pytest.mark.parametrize("name", ["accuracy_score", "f1_macro", "roc_auc_ovr", "neg_log_loss",
                                  "neg_mean_squared_error"])  # fmt: skip
def test_a_metric_of_scikit_learn_is_nan_where_an_output_is(name):
    """It failed at the end of the epoch, or took NaN for class 0."""
    pytest.importorskip("sklearn")
    X = np.zeros((9, 3), np.float32)
    y = np.arange(9) % 3
    X[4, 1] = np.nan
    target = np.eye(3, dtype=np.float32)[y] if name == "neg_mean_squared_error" else y
    loss = nn.MSELoss() if name == "neg_mean_squared_error" else nn.CrossEntropyLoss()
    model = nn.Sequential(nn.Linear(3, 3))
    t = Trainer(model, loss, optim.SGD(model.parameters(), lr=0.1), metrics=[name], progress=False)
    with pytest.warns(RuntimeWarning, match=rf"the metric '{name}' is nan: an output is NaN"):
        assert math.isnan(t.evaluate(X, target)[name])
