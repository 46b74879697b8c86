"""Metrics of whole epochs: against their definitions in float64 and against scikit-learn."""

import functools
import math

import numpy as np
import pytest
from onepass import nn, optim
from onepass.train import Trainer
from onepass.train._metrics import resolve

N = 60
GENERATOR = np.random.default_rng(2)
LOGITS = {c: GENERATOR.standard_normal((N, c)).astype(np.float32) for c in (1, 2, 4)}
LABELS = {c: GENERATOR.integers(0, max(c, 2), N) for c in LOGITS}


def value(name, y, t, **options):
    return next(iter(resolve([name], **options).values()))(y, t)


def echo(metrics, loss=None):
    """A trainer whose model gives its inputs."""

    class Echo(nn.Module):
        def __init__(self):
            self.unused = nn.Parameter(np.zeros(1, np.float32))

        def forward(self, x):
            return x

        def backward(self, dy):
            return dy

    def zero(y, target):
        return 0.0, np.zeros_like(y)

    model = Echo()
    return Trainer(model, loss or zero, optim.SGD(model.parameters()), metrics=metrics,
                   progress=False)  # fmt: skip


def test_labels_in_a_column_are_not_broadcast():
    z = np.float32([[2, 1], [2, 1], [1, 2], [1, 2], [1, 2]])
    t = np.int64([[1], [0], [0], [0], [0]])
    assert echo(["accuracy"]).evaluate(z, t)["accuracy"] == 0.2


@pytest.mark.parametrize(("y", "t", "share"), [
    (np.float32([[1, 0], [0, 1]]), np.int64([[0], [0]]), 0.5),
    (np.float32([[1], [-1], [2]]), np.int64([1, 1, 1]), 2 / 3),
    (np.float32([1, -1, 2]), np.float32([[1], [1], [0]]), 1 / 3),
    (np.float32([[1], [-1], [2]]), np.int64([[1], [-100], [0]]), 1 / 2),
    (np.float32([[1, 0], [0, 1]]), np.float32([[0.9, 0.1], [0.8, 0.2]]), 0.5),
    (np.float32([[[1, 0]], [[0, 1]]]).transpose(0, 2, 1), np.int64([[[0]], [[-100]]]), 1.0),
    (np.float32([[[[3, 0]], [[1, 2]]]]), np.int64([[[0, 0]]]), 0.5),
    (np.float32([[[[3, 0]], [[1, 2]]]]), np.int64([[[[0, 0]]]]), 0.5),
])  # fmt: skip
def test_accuracy_of_all_shapes_of_labels(y, t, share):
    assert value("accuracy", y, t) == pytest.approx(share)


@pytest.mark.parametrize("shape", [(N + 1,), (1, N), (N, 2), (N, 4, 1), (), (1,)])
def test_accuracy_refuses_labels_that_would_broadcast(shape):
    with pytest.raises(ValueError, match="'target' has shape"):
        value("accuracy", LOGITS[4], np.zeros(shape, np.int64))


@pytest.mark.parametrize("name", ["mse", "mae", "rmse", "r2"])
def test_errors_refuse_targets_of_another_shape(name):
    with pytest.raises(ValueError, match="'target' has shape"):
        value(name, np.zeros((3, 2), np.float32), np.zeros((2, 3), np.float32))


@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_metrics_are_those_of_all_samples_for_any_batch_size(batch_size):
    """The classes come in order, so a batch holds few of them."""
    metrics = pytest.importorskip("sklearn.metrics")
    t = np.sort(LABELS[4])
    z = LOGITS[4] + np.eye(4, dtype=np.float32)[t]
    names = ["accuracy", "balanced_accuracy", "f1", "auc", "top_2_accuracy", "top_3_accuracy"]
    found = echo(names).evaluate(z, t, batch_size=batch_size)
    p = np.exp(z.astype(np.float64))
    p /= p.sum(1, keepdims=True)
    expected = {
        "accuracy": metrics.accuracy_score(t, z.argmax(1)),
        "balanced_accuracy": metrics.balanced_accuracy_score(t, z.argmax(1)),
        "f1": metrics.f1_score(t, z.argmax(1), average="macro"),
        "auc": metrics.roc_auc_score(t, p, multi_class="ovr"),
        "top_2_accuracy": metrics.top_k_accuracy_score(t, z, k=2),
        "top_3_accuracy": metrics.top_k_accuracy_score(t, z, k=3),
    }
    for name, number in expected.items():
        assert found[name] == pytest.approx(number, rel=1e-12), name


@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_errors_are_those_of_all_samples_for_any_batch_size(batch_size):
    y, t = LOGITS[2], LOGITS[4][:, :2] + LOGITS[2] / 2
    found = echo(["mse", "mae", "rmse", "r2"]).evaluate(y, t, batch_size=batch_size)
    e = y.astype(np.float64) - t
    spread = ((t - t.astype(np.float64).mean(0)) ** 2).sum(0)
    assert found["mse"] == pytest.approx(np.mean(e**2), rel=1e-12)
    assert found["mae"] == pytest.approx(np.mean(np.abs(e)), rel=1e-12)
    assert found["rmse"] == pytest.approx(math.sqrt(np.mean(e**2)), rel=1e-12)
    assert found["r2"] == pytest.approx(np.mean(1 - (e**2).sum(0) / spread), rel=1e-12)


@pytest.mark.parametrize("classes", [1, 2])
def test_two_classes(classes):
    z, t = np.round(LOGITS[classes], 1), LABELS[classes]
    wide = z.astype(np.float64)
    s = wide[:, -1] - (wide[:, 0] if classes == 2 else 0)
    pairs = [(a > b) + (a == b) / 2 for a in s[t == 1] for b in s[t == 0]]
    assert value("auc", z, t) == pytest.approx(np.mean(pairs), rel=1e-6)
    p = s > 0
    hits = np.sum(p & (t == 1))
    assert value("f1", z, t) == pytest.approx(2 * hits / (np.sum(p) + np.sum(t)), rel=1e-12)
    assert value("auc", z, np.zeros(N, np.int64)) is not None
    assert math.isnan(value("auc", z, np.zeros(N, np.int64)))


def test_top_k_counts_ties_and_nan_against_the_class():
    z = np.float32([[1, 1, 1], [math.nan, 0, 0], [3, 2, 1]])
    assert value("top_2_accuracy", z, np.int64([0, 0, 1])) == pytest.approx(1 / 3)


def test_names_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    for c in (2, 4):
        z, t = LOGITS[c], LABELS[c]
        p = np.exp(z.astype(np.float64))
        p /= p.sum(1, keepdims=True)
        assert value("matthews_corrcoef", z, t) == metrics.matthews_corrcoef(t, z.argmax(1))
        assert value("neg_log_loss", z, t) == pytest.approx(-metrics.log_loss(t, p), rel=1e-9)
        assert value("log_loss", z, t) == pytest.approx(metrics.log_loss(t, p), rel=1e-9)
        assert value("f1_macro", z, t) == metrics.f1_score(t, z.argmax(1), average="macro")
        assert value("hinge_loss", z, t) == pytest.approx(
            metrics.hinge_loss(t, z if c == 4 else z[:, 1] - z[:, 0])
        )
    z, t = LOGITS[2], LABELS[2]
    assert value("average_precision", z, t) == pytest.approx(
        metrics.average_precision_score(t, z[:, 1] - z[:, 0])
    )
    assert value("roc_auc", z, t) == pytest.approx(value("auc", z, t))
    assert value("roc_auc_ovr", LOGITS[4], LABELS[4]) == pytest.approx(
        value("auc", LOGITS[4], LABELS[4]), rel=1e-6
    )
    y, t = LOGITS[1], LOGITS[2][:, :1]
    assert value("max_error", y, t) == pytest.approx(metrics.max_error(t, y))
    assert value("neg_mean_squared_error", y, t) == pytest.approx(
        -metrics.mean_squared_error(t, y.astype(np.float64))
    )


def test_functions_of_scikit_learn_get_the_truth_first():
    metrics = pytest.importorskip("sklearn.metrics")
    z, t = LOGITS[2], np.where(np.arange(N) < 9, -100, LABELS[2])
    found = echo([metrics.recall_score, metrics.roc_auc_score]).evaluate(z, t, batch_size=7)
    assert found["recall_score"] == metrics.recall_score(t[9:], z.argmax(1)[9:])
    score = (z[:, 1] - z[:, 0])[9:]
    assert found["roc_auc_score"] == pytest.approx(metrics.roc_auc_score(t[9:], score))
    scorer = metrics.make_scorer(metrics.fbeta_score, beta=2)
    found = echo({"f2": scorer}).evaluate(z, t)
    assert found["f2"] == metrics.fbeta_score(t[9:], z.argmax(1)[9:], beta=2)


def test_certain_predictions_do_not_tie():
    """Softmax says 1 for all of them; their logits still differ."""
    metrics = pytest.importorskip("sklearn.metrics")
    z = np.float32([[0, 100], [0, 200], [0, 300], [0, 400]])
    t = np.array([0, 0, 1, 1])
    for metric in ("roc_auc", "roc_auc_score", metrics.roc_auc_score, "average_precision"):
        assert value(metric, z, t) == 1.0


def test_functions_and_dicts_see_the_whole_epoch():
    sizes = []

    def spread(outputs, targets):
        sizes.append((outputs.shape, targets.shape))
        return outputs.max() - outputs.min()

    trainer = echo({"spread": spread, "acc2": "accuracy", "median": lambda y, t: np.median(y)})
    z, t = LOGITS[2], LABELS[2]
    found = trainer.evaluate(z, t, batch_size=7)
    assert sizes == [((N, 2), (N,))]
    assert found["spread"] == z.max() - z.min()
    assert found["median"] == np.median(z)
    assert list(found) == ["loss", "spread", "acc2", "median"]


@pytest.mark.parametrize(("metrics", "words"), [
    ([lambda y, t: 0, lambda y, t: 1], r"'<lambda>'.*metrics=\{'first': f"),
    (["acc", "accuracy"], "'accuracy', expected one that is not taken"),
    (["top5_accuracy"], "did you mean 'top_5_accuracy'"), (["top_0_accuracy"], "expected"),
    (["balanced_acuracy"], "did you mean 'balanced_accuracy'"), ({"loss": "mse"}, "'loss'"),
])  # fmt: skip
def test_wrong_names_of_metrics(metrics, words):
    with pytest.raises(ValueError, match=words):
        echo(metrics)


def test_a_metric_that_is_no_number_is_named():
    with pytest.raises(TypeError, match=r"metrics\['pair'\].*expected a number"):
        echo({"pair": lambda y, t: (1, 2)}).evaluate(LOGITS[2], LABELS[2])


@pytest.mark.parametrize(
    "name",
    [
        "confusion_matrix",
        "roc_curve",
        "classification_report",
        "homogeneity_completeness_v_measure",
    ],
)
@pytest.mark.parametrize("given", ["name", "function", "partial", "dict"])
def test_a_metric_that_is_no_number_is_refused_before_the_training(name, given):
    metrics = pytest.importorskip("sklearn.metrics")
    function = getattr(metrics, name)
    chosen = {
        "name": [name],
        "function": [function],
        "partial": {"a": functools.partial(function, sample_weight=None)},
        "dict": {"a": name},
    }[given]
    with pytest.raises(ValueError, match=f"'metrics' has {name!r}, which gives no number"):
        resolve(chosen)
