"""Metrics of classes where a sample has one output: the loss says what it is, or they ask."""

import warnings

import numpy as np
import pytest
from onepass import nn, ops, optim
from onepass.train import Trainer

RNG = np.random.default_rng(4)
X = RNG.standard_normal((40, 4)).astype(np.float32)
Y = (X[:, :1] + 0.3 * RNG.standard_normal((40, 1)) > 0.2).astype(np.float32)
BORDER = {"logits": 0.0, "probabilities": 0.5, "numbers": 0.5}


class Own(nn.Module):
    """Layers in an order of declaration that says nothing about the last one."""

    def __init__(self, ends, declared="sigmoid last"):
        first, last = nn.Linear(4, 1), nn.Sigmoid()
        names = [("gate", last), ("body", first)]
        for name, layer in names if declared == "sigmoid first" else names[::-1]:
            setattr(self, name, layer)
        self.ends = ends

    def forward(self, x):
        self.saved = y = self.body(x)
        return {"logits": lambda y: y, "probabilities": ops.sigmoid, "numbers": lambda y: y}[
            self.ends
        ](y)

    def backward(self, dy, *, need_input_grad=True):
        dz = ops.sigmoid_backward(dy, self.recall()) if self.ends == "probabilities" else dy
        return self.body.backward(dz, need_input_grad=need_input_grad)


def loss_of(outputs):
    def loss(y, target):
        return nn.MSELoss()(y, target)

    if outputs is not None:
        loss.outputs = outputs
    return loss


def trainer(model, loss, metrics=("accuracy", "f1"), lr=0.0):
    return Trainer(model, loss, optim.SGD(model.parameters(), lr=lr), metrics=metrics,
                   progress=False)  # fmt: skip


@pytest.fixture(autouse=True)
def seeded():
    nn.manual_seed(1)


@pytest.mark.parametrize("declared", ["sigmoid last", "sigmoid first"])
@pytest.mark.parametrize("ends", list(BORDER))
def test_the_loss_says_what_outputs_of_ones_own_module_are(ends, declared):
    t = trainer(Own(ends, declared), loss_of(ends))
    right = float(np.mean((t.predict(X) > BORDER[ends]) == Y))
    assert t.evaluate(X, Y)["accuracy"] == pytest.approx(right)
    assert t.fit(X, Y, max_epochs=1)["accuracy"] == [pytest.approx(right)]


@pytest.mark.parametrize("declared", ["sigmoid last", "sigmoid first"])
def test_one_output_outside_of_0_to_1_shows_logits(declared):
    t = trainer(Own("logits", declared), loss_of(None))
    right = float(np.mean((t.predict(X) > 0) == Y))
    assert t.fit(X, Y, max_epochs=1)["accuracy"] == [pytest.approx(right)]
    inside = X[((t.predict(X) > 0) & (t.predict(X) < 0.5))[:, 0]]
    assert t.evaluate(inside, np.ones((len(inside), 1), np.float32))["accuracy"] == 1  # still


@pytest.mark.parametrize("metric", ["accuracy", "f1", "balanced_accuracy", "precision", "log_loss"])
def test_outputs_that_may_be_both_are_asked_about_before_the_first_step(metric):
    if metric in ("precision", "log_loss"):
        pytest.importorskip("sklearn")
    loss = loss_of(None)
    t = trainer(Own("probabilities"), loss, [metric])
    with pytest.raises(ValueError, match=f"metric '{metric}' failed: .* lie within 0 to 1"):
        t.fit(X, Y, max_epochs=3)
    assert t.step == 0
    loss.outputs = "probabilities"  # as the message says
    assert len(t.fit(X, Y, max_epochs=3)[metric]) == 3
    if metric == "accuracy":
        right = float(np.mean((t.predict(X) > 0.5) == Y))
        assert t.history["accuracy"][-1] == pytest.approx(right)


@pytest.mark.parametrize("metric", ["auc", "roc_auc", "average_precision"])
def test_metrics_of_ranks_do_not_ask(metric):
    metrics = pytest.importorskip("sklearn.metrics")
    t = trainer(Own("probabilities"), loss_of(None), [metric])
    name = {"auc": "roc_auc", "roc_auc": "roc_auc"}.get(metric, metric) + "_score"
    want = getattr(metrics, name)(Y[:, 0], t.predict(X)[:, 0])
    assert t.evaluate(X, Y)[metric] == pytest.approx(want, rel=1e-6)


def test_numbers_that_come_near_0_and_1_are_class_1_from_a_half_on():
    model = nn.Sequential(nn.Linear(4, 1))
    t = trainer(model, nn.MSELoss(), ["accuracy"], lr=0.1)
    t.fit(X, Y, max_epochs=20)
    right = np.mean((t.predict(X) > 0.5) == Y)
    assert right != np.mean((t.predict(X) > 0) == Y)
    assert t.evaluate(X, Y)["accuracy"] == pytest.approx(right)


def test_another_loss_or_model_is_followed():
    t = trainer(Own("probabilities"), loss_of("probabilities"), ["accuracy"])
    t.loss = loss_of("logits")
    assert t.evaluate(X, Y)["accuracy"] == pytest.approx(Y.mean())  # all are above 0
    t.loss = nn.MSELoss()
    assert t.evaluate(X, Y)["accuracy"] == pytest.approx(np.mean((t.predict(X) > 0.5) == Y))
    labels = np.arange(40) % 3
    three = nn.Sequential(nn.Linear(4, 3))
    t = trainer(three, nn.CrossEntropyLoss(), ["accuracy"])
    t.loss = nn.CrossEntropyLoss(ignore_index=2)
    used = labels != 2
    want = np.mean(t.predict(X).argmax(axis=1)[used] == labels[used])
    assert t.evaluate(X, labels)["accuracy"] == pytest.approx(want)


@pytest.mark.parametrize("outputs", ["logit", "Probabilities", ""])
def test_a_loss_that_says_something_else_is_refused(outputs):
    with pytest.raises(ValueError, match=r"'loss.outputs' is .*, expected .*logits"):
        trainer(Own("logits"), loss_of(outputs))


# --------------------------------------------------------------------------- scorers of one's own


def rms(y_true, y_pred):
    return float(np.sqrt(np.mean((np.asarray(y_true, float) - y_pred) ** 2)))


def hits(y_true, y_pred):
    assert set(np.unique(y_pred)) <= {0, 1}
    return float(np.mean(y_true == y_pred))


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_a_scorer_of_ones_own_function_of_numbers_gets_numbers_though_all_are_0_or_1(dtype):
    make_scorer = pytest.importorskip("sklearn.metrics").make_scorer
    t = trainer(nn.Sequential(nn.Linear(4, 1)), nn.MSELoss(), [make_scorer(rms)])
    target = Y.astype(dtype)
    want = rms(Y, t.predict(X).astype(np.float64))
    (value,) = (v for k, v in t.evaluate(X, target).items() if k != "loss")
    assert value == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "int64"])
@pytest.mark.parametrize("ends", ["logits", "probabilities"])
def test_a_scorer_of_ones_own_function_of_classes_gets_classes(ends, dtype):
    make_scorer = pytest.importorskip("sklearn.metrics").make_scorer
    t = trainer(Own(ends), loss_of(ends), {"mine": make_scorer(hits)})
    want = np.mean((t.predict(X) > BORDER[ends]) == Y)
    assert t.evaluate(X, Y.astype(dtype))["mine"] == pytest.approx(want)


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_a_scorer_that_may_be_of_both_asks_before_the_first_step(dtype):
    make_scorer = pytest.importorskip("sklearn.metrics").make_scorer
    t = trainer(nn.Sequential(nn.Linear(4, 1)), loss_of(None), {"mine": make_scorer(rms)})
    with pytest.raises(ValueError, match="metric 'mine' failed: all targets are 0 or 1, so they"):
        t.fit(X, Y.astype(dtype), max_epochs=2)
    assert t.step == 0
    other = trainer(nn.Sequential(nn.Linear(4, 1)), loss_of(None), {"mine": make_scorer(rms)})
    target = (3 * Y).astype(dtype)  # numbers: no class is 3
    want = rms(target, other.predict(X).astype(np.float64))
    assert other.evaluate(X, target)["mine"] == pytest.approx(want, rel=1e-6)


# ---------------------------------------------------------------- epochs that lack what is counted


NAMES = ["accuracy", "top_2_accuracy", "balanced_accuracy", "f1", "auc", "f1_macro",
         "precision_macro", "roc_auc_ovr", "neg_log_loss", "matthews_corrcoef"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("outputs", [2, 3])
def test_an_epoch_without_a_label_that_counts_is_nan(name, outputs):
    pytest.importorskip("sklearn")
    if name == "top_2_accuracy" and outputs == 2:
        pytest.skip("needs more classes")
    t = trainer(nn.Sequential(nn.Linear(4, outputs)), nn.CrossEntropyLoss(), [name])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the metric .* is nan: no label counts")
        assert np.isnan(t.evaluate(X, np.full(40, -100))[name])


@pytest.mark.parametrize("name", ["roc_auc_ovr", "roc_auc_ovo", "roc_auc_ovr_weighted",
                                  "top_k_accuracy_score", "auc"])  # fmt: skip
@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_an_epoch_that_lacks_a_class_ends_without_a_traceback(name, lacking):
    pytest.importorskip("sklearn")
    labels = np.array([c for c in range(3) if c != lacking] * 20)
    t = trainer(nn.Sequential(nn.Linear(4, 3)), nn.CrossEntropyLoss(), [name])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        value = t.fit(X, labels, max_epochs=1)[name][0]
    assert np.isnan(value)
    told = [str(w.message) for w in seen if "is nan" in str(w.message)]
    assert name == "auc" or f"the metric {name!r} is nan: class {lacking} has no" in told[0]


def test_a_metric_that_fits_no_classes_still_fails():
    pytest.importorskip("sklearn")
    t = trainer(nn.Sequential(nn.Linear(4, 3)), nn.CrossEntropyLoss(), ["precision"])
    with pytest.raises(ValueError, match=r"metric 'precision' failed: .*multiclass"):
        t.evaluate(X, np.arange(40) % 3)
