"""Every scorer of scikit-learn by name: its value, or a refusal before the first step."""

import warnings

import numpy as np
import pytest
from onepass import nn, optim
from onepass.train import Trainer
from onepass.train._classes import Classes
from onepass.train._metrics import resolve

pytest.importorskip("sklearn")
from sklearn import metrics as theirs
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

RNG = np.random.default_rng(8)
N = 45
X = RNG.standard_normal((N, 4)).astype(np.float32)
TARGETS = {
    "one logit": (BINARY := RNG.integers(0, 2, N)).astype(np.float32)[:, None],
    "two classes": BINARY,
    "three classes": RNG.integers(0, 3, N),
    "numbers": RNG.standard_normal((N, 1)).astype(np.float32),
    "positive numbers": RNG.uniform(0.5, 3, (N, 1)).astype(np.float32),
    "three numbers": RNG.standard_normal((N, 3)).astype(np.float32),
}
OUTPUTS = {"one logit": 1, "two classes": 2, "three classes": 3, "three numbers": 3}
OURS = ("accuracy", "balanced_accuracy", "f1", "r2")  # names of our own


def trainer(kind, metrics, lr=0.0):
    nn.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, OUTPUTS.get(kind, 1)))
    loss = nn.MSELoss() if "numbers" in kind else nn.CrossEntropyLoss()
    loss = nn.BCEWithLogitsLoss() if kind == "one logit" else loss
    optimizer = optim.SGD(model.parameters(), lr=lr)
    return Trainer(model, loss, optimizer, metrics=metrics, progress=False)


def estimator(kind, outputs):
    """What scikit-learn would score: a model with these outputs."""
    z = outputs.astype(np.float64)
    z = np.hstack([0 * z, z]) if kind == "one logit" else z
    shares = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)

    class Classifier(ClassifierMixin, BaseEstimator):
        classes_ = np.arange(z.shape[1])
        fitted_ = True

        def fit(self, X, y):
            return self

        def predict(self, X):
            return z.argmax(axis=1)

        def predict_proba(self, X):
            return shares

    class Regressor(RegressorMixin, BaseEstimator):
        fitted_ = True

        def fit(self, X, y):
            return self

        def predict(self, X):
            return z[:, 0] if z.shape[1] == 1 else z

    return Regressor() if "numbers" in kind else Classifier()


def of_kind(kind, name):
    """Whether a scorer is of what is trained; the others say that they are not."""
    function = theirs.get_scorer(name)._score_func
    return (function.__module__.rpartition(".")[2] == "_regression") == ("numbers" in kind)


def failure(trainer, y):
    try:
        trainer.evaluate(X, y)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", TARGETS)
def test_every_scorer_has_its_value_or_is_refused_before_the_first_step(kind):
    y = TARGETS[kind]
    t = trainer(kind, [])
    outputs = t.predict(X)
    model = estimator(kind, outputs)
    plain = y.reshape(-1).astype(int) if kind == "one logit" else y
    plain = plain[:, 0].astype(float) if plain.ndim > 1 and plain.shape[1] == 1 else plain
    valued, refused = [], []
    for name in theirs.get_scorer_names():
        if name in OURS or not of_kind(kind, name):
            continue
        t = trainer(kind, [name])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                want = theirs.get_scorer(name)(model, X, plain)
            except ValueError:
                want = None
            if want is not None:
                valued.append(name)
                found = t.evaluate(X, y, batch_size=7)[name]
                assert found == pytest.approx(want, rel=1e-6, abs=1e-9, nan_ok=True), name
                continue
            error = failure(t, y)
            if error is None:  # another model would have it
                assert np.isnan(t.evaluate(X, y)[name]), name
                continue
            refused.append(name)
            assert f"the metric {name!r} failed" in error
            with pytest.raises(ValueError, match=f"the metric {name!r} failed"):
                t.fit(X, y, max_epochs=1, batch_size=9)
            assert t.step == 0, name
    needed = {
        "one logit": {"roc_auc", "average_precision", "neg_log_loss", "neg_brier_score"},
        "two classes": {"roc_auc", "average_precision", "neg_log_loss", "precision", "recall"},
        "three classes": {"roc_auc_ovr", "roc_auc_ovo_weighted", "neg_log_loss", "f1_macro"},
        "numbers": {"neg_mean_absolute_error", "explained_variance", "neg_max_error"},
        "positive numbers": {"neg_mean_squared_error", "neg_median_absolute_error"},
        "three numbers": {"neg_root_mean_squared_error", "explained_variance"},
    }[kind]
    assert needed <= {*valued}
    never = {"three classes": {"roc_auc", "precision", "recall"},
             "three numbers": {"neg_max_error"},
             "numbers": {"neg_mean_poisson_deviance", "neg_mean_gamma_deviance"}}  # fmt: skip
    assert never.get(kind, set()) <= {*refused}


def test_a_refusal_names_what_there_is():
    y = TARGETS["three classes"]
    for name, others in {"roc_auc": "roc_auc_ovr", "precision": "precision_macro"}.items():
        with pytest.raises(ValueError, match=f"cannot be of 3 classes: .*{others}"):
            trainer("three classes", [name]).fit(X, y, max_epochs=1)
    with pytest.raises(ValueError, match="the metric 'roc_auc_score' failed: it cannot be of 3"):
        trainer("three classes", [theirs.roc_auc_score]).fit(X, y, max_epochs=1)


def test_a_scorer_with_options_is_not_tried_on_other_data():
    """Its options may be of these samples alone."""
    weight = RNG.uniform(0, 1, N)
    scorer = theirs.make_scorer(theirs.accuracy_score, sample_weight=weight)
    t = trainer("three classes", {"weighted": scorer})
    right = t.predict(X).argmax(axis=1) == TARGETS["three classes"]
    found = t.evaluate(X, TARGETS["three classes"])["weighted"]
    assert found == pytest.approx(np.average(right, weights=weight))


def test_outputs_that_a_metric_refuses_are_nan_and_the_training_goes_on():
    """A network that is new gives negative numbers, of which a deviance is not."""
    y = TARGETS["positive numbers"]
    t = trainer("positive numbers", ["neg_mean_poisson_deviance"], lr=0.2)
    t.model[0].bias.data[:] = -9
    with pytest.warns(RuntimeWarning, match="'neg_mean_poisson_deviance' is nan: Mean Tweedie"):
        history = t.fit(0 * X, y, max_epochs=1)
    assert np.isnan(history["neg_mean_poisson_deviance"][0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = t.fit(0 * X, y, max_epochs=30)["neg_mean_poisson_deviance"][-1]
    assert value < 0
    found = t.evaluate(0 * X, y)["neg_mean_poisson_deviance"]
    want = -theirs.mean_poisson_deviance(y[:, 0], t.predict(0 * X)[:, 0])
    assert found == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("name", ["average_precision", "roc_auc_ovr", "neg_log_loss"])
def test_what_changes_no_probability_changes_no_score(name):
    """Scores of three classes are as good with a number added to all three of a sample."""
    y = TARGETS["three classes"]
    z = RNG.standard_normal((N, 3)).astype(np.float32)
    values = []
    for shift in (0, RNG.uniform(-9, 9, (N, 1)).astype(np.float32)):
        scorer = resolve([name], Classes(nn.CrossEntropyLoss()))[name]
        values.append(scorer(z + shift, y))
    assert values[0] == pytest.approx(values[1], rel=1e-5)


@pytest.mark.parametrize("name", ["neg_mean_squared_error", "max_error", "mean_squared_error"])
@pytest.mark.parametrize("kind", ["one logit", "two classes", "three classes"])
def test_metrics_of_numbers_are_refused_beside_a_loss_of_classes(kind, name):
    made = trainer(kind, [name])
    before = {name: value.copy() for name, value in made.model.state_dict().items()}
    with pytest.raises(ValueError, match="of numbers, and the loss says that outputs are logits"):
        made.fit(X, TARGETS[kind], max_epochs=1)
    after = made.model.state_dict()
    assert all(np.array_equal(after[name], value) for name, value in before.items())
