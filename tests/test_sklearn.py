"""The estimators of onepass.sklearn: scikit-learn's own checks, values against plain loops in
float64, what goes on and what is refused."""

from __future__ import annotations

import copy
import functools
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onepass import config, nn, optim

pd = pytest.importorskip("pandas")
pytest.importorskip("sklearn")
import joblib  # noqa: E402
import threadpoolctl  # noqa: E402
from onepass.sklearn import MLPClassifier, MLPRegressor  # noqa: E402
from onepass.sklearn._convergence import Convergence  # noqa: E402
from scipy import sparse  # noqa: E402
from sklearn import metrics  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_breast_cancer, load_iris, load_wine  # noqa: E402
from sklearn.exceptions import ConvergenceWarning, NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

short = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
pytestmark = short
BOTH = pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4)) * [1, 10, 0.1, 3] + [0, 5, 0, -2]
CLASSES = np.array(["a", "b", "c"])[np.digitize(X[:, 0] + RNG.standard_normal(60) / 4, [-0.5, 0.5])]
NUMBERS = X @ [1, 0.2, 3, -1] + 40
TARGETS = {MLPClassifier: CLASSES, MLPRegressor: NUMBERS}


def arrays_of(model) -> list[np.ndarray]:
    return [*model.coefs_, *model.intercepts_]


def assert_same(a, b) -> None:
    assert all(np.array_equal(x, y) for x, y in zip(arrays_of(a), arrays_of(b), strict=True))


# ---- scikit-learn's checks


@parametrize_with_checks(
    [
        MLPClassifier(),
        MLPRegressor(),
        MLPClassifier((8,), "tanh", norm="layer", optimizer="lbfgs", max_iter=30),
        MLPRegressor(
            (8,),
            "gelu",
            norm="rms",
            standardize=False,
            optimizer="nadam",
            learning_rate_init=0.05,
            max_iter=60,
        ),
    ]
)
def test_scikit_learns_checks(estimator, check, monkeypatch) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # without it, check_array_api_input skips
    check(estimator)


# ---- with the tools around it


def test_grid_search_in_a_pipeline_over_a_frame_with_words_as_classes() -> None:
    data = load_iris(as_frame=True)
    y = data.target_names[data.target]
    model = MLPClassifier((10,), max_iter=20, random_state=0)
    pipeline = make_pipeline(StandardScaler(), model)
    grid = {"mlpclassifier__optimizer": ["adam", "lbfgs"]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(data.data, y)
    assert search.score(data.data, y) > 0.95
    assert set(search.predict(data.data)) == set(data.target_names)
    assert search.best_params_["mlpclassifier__optimizer"] == "lbfgs"
    again = GridSearchCV(clone(pipeline), grid, cv=3).fit(data.data, y)
    scores = [found.cv_results_["mean_test_score"] for found in (search, again)]
    assert np.array_equal(*scores)


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_cross_validation_of_every_dtype(estimator, dtype) -> None:
    x, y = (10 * X).astype(dtype), TARGETS[estimator]
    model = estimator((20,), max_iter=100, learning_rate_init=0.01, random_state=0)
    assert cross_val_score(model, x, y, cv=3).mean() > 0.6
    model.fit(x, y)
    kept = np.float32 if dtype == np.float32 else np.float64
    assert model.model_.state_dict()["0.weight"].dtype == kept
    if estimator is MLPRegressor:
        assert model.predict(x).dtype == kept
    else:
        assert model.predict_proba(x).dtype == model.predict_log_proba(x).dtype == kept


def test_float32_gives_what_float64_does() -> None:
    wide = MLPRegressor(max_iter=20, random_state=0).fit(X, NUMBERS)
    narrow = MLPRegressor(max_iter=20, random_state=0).fit(X.astype(np.float32), NUMBERS)
    assert np.allclose(wide.predict(X), narrow.predict(X.astype(np.float32)), rtol=1e-4)


def test_names_of_a_frame_are_kept_and_others_refused() -> None:
    frame = pd.DataFrame(X, columns=list("pqrs"))
    model = MLPClassifier(max_iter=2, random_state=0).fit(frame, pd.Series(CLASSES))
    assert model.feature_names_in_.tolist() == list("pqrs")
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[list("sqrp")])
    with pytest.warns(UserWarning, match="feature names"):
        model.predict(X)


@BOTH
def test_copies_and_pickles_predict_and_train_the_same(estimator) -> None:
    y = TARGETS[estimator]
    options = {"classes": np.unique(y)} if estimator is MLPClassifier else {}
    model = estimator(max_iter=3, dropout=0.2, norm="batch", random_state=0)
    model.partial_fit(X, y, **options)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(model.predict(X), other.predict(X))
        first = copy.deepcopy(model).partial_fit(X, y)
        assert_same(first, other.partial_fit(X, y))
    assert len(pickle.dumps(clone(model))) < 2000


# ---- random numbers and threads


@pytest.fixture
def threads():
    before = config.get_num_threads()
    yield config.set_num_threads
    config.set_num_threads(before)


@BOTH
def test_the_same_bits_on_any_number_of_threads(estimator, threads) -> None:
    def fitted(seed=0):
        model = estimator((50, 20), norm="batch", dropout=0.1, max_iter=4, random_state=seed)
        return model.fit(x, y)

    x, y = np.tile(X, (8, 12)).astype(np.float32), np.tile(TARGETS[estimator], 8)
    before = nn.get_rng_state()
    first = fitted()
    for count in (1, 2, 3, 7):
        threads(count)
        with threadpoolctl.threadpool_limits(count):
            assert_same(first, fitted())
    with ThreadPoolExecutor(3) as pool:
        for other in pool.map(fitted, [0] * 6):
            assert_same(first, other)
    assert nn.get_rng_state() == before
    nn.manual_seed(7)
    assert_same(first, fitted())
    assert not np.array_equal(first.coefs_[0], fitted(1).coefs_[0])


def test_kinds_of_random_state() -> None:
    def coefs(state):
        return MLPRegressor((3,), max_iter=1, random_state=state).fit(X, NUMBERS).coefs_[0]

    state = np.random.RandomState(3)
    first, second = coefs(state), coefs(state)
    assert np.array_equal(first, coefs(3))
    assert not np.array_equal(first, second)
    np.random.seed(3)  # noqa: NPY002
    assert np.array_equal(first, coefs(None))
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    coefs(0)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


# ---- values


def one_hot(y, classes):
    return (y[:, None] == classes).astype(float)


def softmax(z):
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def reference(kind, W, b, x, t, w, alpha, lr, steps):
    """Gradient descent on a network with one hidden layer of tanh; the losses and parameters."""
    W, b, losses = [a.copy() for a in W], [a.copy() for a in b], []
    for _ in range(steps):
        h = np.tanh(x @ W[0] + b[0])
        z = h @ W[1] + b[1]
        share = (w / w.sum())[:, None]
        if kind == "numbers":
            share = share / t.shape[1]
            loss, dz = 0.5 * (z - t) ** 2, z - t
        elif kind == "classes":
            loss, dz = -t * np.log(softmax(z)), softmax(z) - t
        else:
            loss = -t * np.log(sigmoid(z)) - (1 - t) * np.log(sigmoid(-z))
            dz = sigmoid(z) - t
        penalty = 0.5 * alpha / w.sum() * sum((a**2).sum() for a in W)
        losses.append((share * loss).sum() + penalty)
        dz = share * dz
        dh = (dz @ W[1].T) * (1 - h**2)
        W[1] -= lr * (h.T @ dz + alpha / w.sum() * W[1])
        W[0] -= lr * (x.T @ dh + alpha / w.sum() * W[0])
        b[1] -= lr * dz.sum(0)
        b[0] -= lr * dh.sum(0)
    return losses, W, b


WEIGHT = RNG.uniform(0.5, 3, 60)
TWO = np.where(X[:, 0] > 0.3, "yes", "no")
SEVERAL = np.stack([X[:, 0] > 0, X[:, 1] > 6, X[:, 3] > -1], 1).astype(int)
ROWS = {
    "classes": ("classes", MLPClassifier, CLASSES, one_hot(CLASSES, np.unique(CLASSES)), {}),
    "two classes": ("labels", MLPClassifier, TWO, one_hot(TWO, "yes"), {}),
    "several labels": ("labels", MLPClassifier, SEVERAL, SEVERAL, {}),
    "numbers": ("numbers", MLPRegressor, NUMBERS, NUMBERS[:, None], {}),
    "two numbers": ("numbers", MLPRegressor, X[:, :2], X[:, :2], {}),
    "weighted classes": (
        *("classes", MLPClassifier, CLASSES, one_hot(CLASSES, np.unique(CLASSES))),
        {"a": 3.0, "c": 0.5},
    ),
    "balanced classes": (
        *("classes", MLPClassifier, CLASSES, one_hot(CLASSES, np.unique(CLASSES))),
        "balanced",
    ),
    "balanced, two": ("labels", MLPClassifier, TWO, one_hot(TWO, "yes"), "balanced"),
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("weighted", [False, True])
def test_steps_and_losses_are_those_of_a_plain_loop(row, weighted) -> None:
    kind, estimator, y, t, class_weight = ROWS[row]
    x, given = X / 10, WEIGHT if weighted else None
    options = {"class_weight": class_weight or None} if estimator is MLPClassifier else {}
    model = estimator(
        (5,), "tanh", optimizer="sgd", momentum=0, alpha=2.0, standardize=False, warm_start=True,
        learning_rate_init=1e-30, max_iter=1, random_state=0, n_iter_no_change=np.inf, **options,
    ).fit(x, y, given)  # fmt: skip
    W, b = model.coefs_, model.intercepts_
    model.set_params(learning_rate_init=0.1, max_iter=6).fit(x, y, given)
    w = WEIGHT if weighted else np.ones(60)
    if class_weight:
        names, index = np.unique(y, return_inverse=True)
        counts = np.bincount(index, w)
        by_class = counts.sum() / (len(names) * counts)
        if class_weight != "balanced":
            by_class = np.array([class_weight.get(name, 1.0) for name in names])
        w = w * by_class[index]
    losses, W, b = reference(kind, W, b, x, t, w, 2.0, 0.1, 6)
    assert np.allclose(model.loss_curve_[1:], losses, rtol=1e-12)
    for ours, right in zip(arrays_of(model), [*W, *b], strict=True):
        assert np.allclose(ours, right, rtol=1e-10, atol=1e-13)
    z = np.tanh(x @ W[0] + b[0]) @ W[1] + b[1]
    if kind == "numbers":
        assert np.allclose(model.predict(x), z if y.ndim > 1 else z[:, 0], rtol=1e-10)
        return
    proba = softmax(z) if kind == "classes" else sigmoid(z)
    proba = np.hstack([1 - proba, proba]) if proba.shape[1] == 1 else proba
    assert np.allclose(model.predict_proba(x), proba, rtol=1e-9)
    assert np.allclose(model.predict_log_proba(x), np.log(proba), rtol=1e-9)
    if y.ndim > 1:
        assert np.array_equal(model.predict(x), proba > 0.5)
    else:
        assert np.array_equal(model.predict(x), model.classes_[proba.argmax(1)])
        assert model.score(x, y, WEIGHT) == pytest.approx(
            np.average(model.predict(x) == y, weights=WEIGHT)
        )


@pytest.mark.parametrize("standardize", [True, False])
def test_coefficients_are_those_for_inputs_and_targets_as_they_are(standardize) -> None:
    y = np.stack([NUMBERS, 100 * X[:, 2]], 1)
    model = MLPRegressor((6, 5), max_iter=20, standardize=standardize, random_state=0).fit(X, y)
    h = X
    for i, (W, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        h = h @ W + b
        h = np.maximum(h, 0) if i < 2 else h
    assert np.allclose(h, model.predict(X), rtol=1e-10)
    assert [W.shape for W in model.coefs_] == [(4, 6), (6, 5), (5, 2)]


def test_standardize_is_a_scaler_in_front() -> None:
    inside = MLPClassifier(max_iter=5, random_state=0).fit(X, CLASSES)
    scaler = StandardScaler().fit(X)
    before = MLPClassifier(max_iter=5, random_state=0, standardize=False)
    before.fit(scaler.transform(X), CLASSES)
    expected = before.predict_proba(scaler.transform(X))
    assert np.allclose(inside.predict_proba(X), expected, rtol=1e-9)


@BOTH
def test_a_weight_of_0_is_a_sample_that_is_not_there(estimator) -> None:
    y, w = TARGETS[estimator], np.where(np.arange(60) % 4 == 0, 0.0, 1.0)
    extreme = np.where(w[:, None] == 0, 1e6, X)
    model = estimator(batch_size=7, max_iter=3, random_state=0)
    a, b = clone(model).fit(extreme, y, w), model.fit(X[w > 0], y[w > 0])
    for one, other in zip(arrays_of(a), arrays_of(b), strict=True):
        assert np.allclose(one, other, rtol=1e-9, atol=1e-12)


def test_log_probabilities_are_finite_where_probabilities_are_0() -> None:
    x = np.linspace(-1, 1, 40)[:, None]
    model = MLPClassifier(optimizer="lbfgs", alpha=0, random_state=0).fit(x, x[:, 0] > 0)
    log = model.predict_log_proba([[1e4], [-1e4]])
    assert np.isfinite(log).all()
    assert log.min() < -745  # exp is 0
    assert model.decision_function([[1e4]])[0] == pytest.approx(-log[0, 0])


# ---- going on


@BOTH
def test_partial_fits_of_the_same_data_are_a_fit(estimator) -> None:
    y = TARGETS[estimator]
    options = {"classes": np.unique(y)} if estimator is MLPClassifier else {}
    make = functools.partial(
        estimator, (9,), norm="batch", dropout=0.3, batch_size=16, random_state=0
    )
    whole = make(max_iter=4, n_iter_no_change=np.inf).fit(X, y, WEIGHT)
    parts = make()
    for epoch in range(4):
        nn.manual_seed(epoch)
        parts.partial_fit(X, y, sample_weight=WEIGHT, **(options if epoch == 0 else {}))
        assert parts.n_iter_ == 1
    assert_same(whole, parts)
    assert parts.loss_curve_ == whole.loss_curve_
    assert parts.t_ == whole.t_ == 240


def test_partial_fit_takes_classes_and_data_piece_by_piece() -> None:
    cancer = load_breast_cancer()
    y = cancer.target_names[cancer.target]
    model = MLPClassifier(random_state=0, learning_rate_init=0.01)
    for _ in range(5):
        for start in range(0, len(y), 100):
            part = slice(start, start + 100)
            model.partial_fit(cancer.data[part], y[part], classes=np.unique(y))
    assert model.score(cancer.data, y) > 0.95
    one = MLPClassifier(random_state=0).partial_fit(X[:3], ["a"] * 3, classes=["c", "b", "a"])
    assert one.predict_proba(X).shape == (60, 3)


def test_a_subclass_may_name_fewer_parameters() -> None:
    class Small(MLPRegressor):
        def __init__(self, units=3):
            super().__init__((units,), max_iter=2, random_state=0)
            self.units = units

    model = clone(Small(units=4)).fit(X, NUMBERS)
    assert_same(model, MLPRegressor((4,), max_iter=2, random_state=0).fit(X, NUMBERS))


def test_a_partial_fit_that_fails_is_named_by_predict() -> None:
    model = MLPRegressor((5,), random_state=0).partial_fit(X, NUMBERS)
    model.set_params(optimizer="sgd", learning_rate_init=1e300).partial_fit(X, NUMBERS)
    with pytest.raises(FloatingPointError):
        model.partial_fit(X, NUMBERS)
    with pytest.raises(ValueError, match="or a partial_fit has diverged"):
        model.predict(X)


@BOTH
def test_a_warm_start_goes_on(estimator) -> None:
    y = TARGETS[estimator]
    make = functools.partial(
        estimator, (9,), dropout=0.2, batch_size=16, random_state=0, n_iter_no_change=np.inf
    )
    whole = make(max_iter=6).fit(X, y)
    parts = make(max_iter=3, warm_start=True).fit(X, y).fit(X, y)
    assert_same(whole, parts)
    assert parts.n_iter_ == 3
    assert parts.loss_curve_ == whole.loss_curve_
    again = make(max_iter=6).fit(X[::2], y[::2]).fit(X, y)
    assert_same(whole, again)
    with pytest.raises(ValueError, match=r"'hidden_layer_sizes' is \(4,\), expected \(9,\)"):
        parts.set_params(hidden_layer_sizes=4).fit(X, y)


@pytest.mark.parametrize("lacking", ["a", "bc"])
def test_a_warm_start_has_all_classes(lacking) -> None:
    model = MLPClassifier((3,), max_iter=2, warm_start=True, random_state=0).fit(X, CLASSES)
    before = model.predict_proba(X)
    there = ~np.isin(CLASSES, list(lacking))
    names = ", ".join(map(repr, lacking))
    with pytest.raises(ValueError, match=rf"^MLPClassifier: 'y' lacks {names}, .*'a', 'b', 'c'\]"):
        model.fit(X[there], CLASSES[there])
    assert np.array_equal(model.predict_proba(X), before)
    model.partial_fit(X[there], CLASSES[there])
    again = model.set_params(warm_start=False).fit(X[there], CLASSES[there])
    assert again.classes_.tolist() == sorted({*"abc"} - {*lacking})


@BOTH
@pytest.mark.parametrize(
    ("count", "size", "cure"),
    [(19, 1, "a batch_size above 4"), (3, 2, "more samples"), (1, "auto", "more samples")],
)
def test_a_batch_norm_needs_more_than_one_sample(estimator, count, size, cure) -> None:
    y = TARGETS[estimator][:count]
    classes = {"classes": list("abc")} if estimator is MLPClassifier else {}
    for hidden in ((3,), ()):
        model = estimator(hidden, norm="batch", batch_size=size, random_state=0)
        if not hidden:
            model.partial_fit(X[:count], y, **classes)
            continue
        text = rf"^{estimator.__name__}: 'batch_size' is {size!r}, which leaves 1 of {count} "
        with pytest.raises(ValueError, match=text + rf"samples in a batch, expected {cure}, or no"):
            model.partial_fit(X[:count], y, **classes)


@BOTH
def test_a_warm_start_that_fails_leaves_the_estimator_as_it_was(estimator, monkeypatch) -> None:
    y = TARGETS[estimator]
    model = estimator(
        (9,), dropout=0.2, norm="batch", batch_size=16, random_state=0, max_iter=3, warm_start=True
    ).fit(X, y)
    other = pickle.loads(pickle.dumps(model)).fit(X, y)
    before, kept = vars(model).copy(), model.loss_curve_
    arrays, losses = arrays_of(model), list(kept)

    def same() -> bool:
        equal = map(np.array_equal, arrays_of(model), arrays)
        return all(equal) and kept == losses and vars(model) == before

    model.set_params(optimizer="sgd", learning_rate_init=1e300)
    with pytest.raises(FloatingPointError):
        model.fit(X, y)
    model.set_params(optimizer="adamw", learning_rate_init=None)
    assert same()

    def interrupted(self, run) -> None:
        if run.epoch == 5:
            raise KeyboardInterrupt
        watch(self, run)

    watch = Convergence.on_epoch_end
    monkeypatch.setattr(Convergence, "on_epoch_end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    monkeypatch.undo()
    assert same()
    assert_same(model.fit(X, y), other)
    assert model.loss_curve_ == other.loss_curve_
    assert kept == losses


def test_the_losses_of_a_call_are_the_users_own() -> None:
    model = MLPRegressor((5,), random_state=0, early_stopping=True, max_iter=2, warm_start=True)
    curve, scores = model.fit(X, NUMBERS).loss_curve_, model.validation_scores_
    model.fit(X, NUMBERS)
    assert [len(curve), len(scores), len(model.loss_curve_)] == [2, 2, 4]
    model = MLPRegressor((5,), random_state=0).partial_fit(X, NUMBERS)
    model.loss_curve_.clear()
    assert len(model.partial_fit(X, NUMBERS).loss_curve_) == 2


@pytest.mark.parametrize("options", [{"early_stopping": True}, {"optimizer": "lbfgs"}, {}])
@BOTH
def test_a_pickle_holds_no_data(estimator, options) -> None:
    options = {"standardize": False, "random_state": 0, "max_iter": 2, **options}
    model = estimator((5,), **options).fit(X, TARGETS[estimator])
    text = pickle.dumps(model)
    assert_same(pickle.loads(text), model)
    assert not any(row.tobytes() in text for row in X)


@BOTH
def test_the_order_of_the_data_in_memory_changes_no_bit(estimator) -> None:
    y = TARGETS[estimator] if estimator is MLPClassifier else np.column_stack([NUMBERS, X])
    make = functools.partial(estimator, (9,), random_state=0, max_iter=3)
    wanted = make().fit(X, y)
    for x, targets in ((np.asfortranarray(X), np.asfortranarray(y)), (pd.DataFrame(X), y)):
        assert_same(wanted, made := make().fit(x, targets))
        assert np.array_equal(wanted.predict(X), made.predict(x))


@BOTH
def test_early_stopping_takes_the_best_epoch(estimator) -> None:
    y = TARGETS[estimator]
    make = functools.partial(
        estimator, (20,), early_stopping=True, learning_rate_init=0.03, random_state=2,
        validation_fraction=0.3,
    )  # fmt: skip
    model = make(n_iter_no_change=3).fit(X, y)
    scores = model.validation_scores_
    best = int(np.argmax(scores)) + 1
    assert best < model.n_iter_ == len(scores) < 200
    assert model.best_validation_score_ == max(scores)
    assert model.best_loss_ is None
    assert_same(model, make(max_iter=best, n_iter_no_change=np.inf).fit(X, y))


@pytest.mark.parametrize("cut", [1, 2, 5])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_a_warm_start_keeps_the_best_epoch_of_all(kind, cut) -> None:
    """The first of those with the best score, wherever fits are cut."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((230, 6))
    y = x[:, 0] + 0.5 * rng.standard_normal(230)
    model = kind(
        (8,), learning_rate_init=0.01, early_stopping=True, tol=0, n_iter_no_change=99,
        random_state=0,
    )  # fmt: skip
    y = (y > 0).astype(int) if kind is MLPClassifier else y
    model.set_params(max_iter=cut, warm_start=True).fit(x, y)
    first, weights = list(model.validation_scores_), model.coefs_
    scores = model.fit(x, y).validation_scores_
    assert len(scores) == 2 * cut
    whole = clone(model).set_params(max_iter=2 * cut).fit(x, y)
    if np.argmax(first) == cut - 1:  # else the second fit has begun at an earlier epoch's weights
        assert scores == whole.validation_scores_
        assert all(map(np.array_equal, model.coefs_, whole.coefs_))
    if max(scores) == max(first):
        assert all(map(np.array_equal, model.coefs_, weights))
    assert model.best_validation_score_ == max(scores)


def test_the_held_out_part_has_its_share_of_each_class_and_its_weights() -> None:
    y = np.repeat([0, 1], [50, 10])
    w = np.where(y == 1, 1.0, 1e-9)
    seen = []

    class Watched(MLPClassifier):
        def _score_of(self, network, x, y, weight):
            seen.append((y, weight, super()._score_of(network, x, y, weight)))
            return seen[-1][2]

    Watched(early_stopping=True, validation_fraction=0.2, max_iter=1, random_state=0).fit(X, y, w)
    y, weight, score = seen[0]
    assert np.bincount(y[:, 0].astype(int)).tolist() == [10, 2]
    assert np.array_equal(weight, np.where(y[:, 0] == 1, 1.0, 1e-9))
    assert min(score % 0.5, 0.5 - score % 0.5) < 1e-7  # of the two that count


# ---- options


def rates(model):
    return np.array(model._network.trainer.history["lr"])


def test_learning_rates() -> None:
    make = functools.partial(MLPRegressor, (5,), learning_rate_init=0.01, random_state=0)
    options = {"max_iter": 5, "n_iter_no_change": np.inf}
    assert (rates(make(**options).fit(X, NUMBERS)) == 0.01).all()
    slower = rates(make(learning_rate="invscaling", power_t=0.25, **options).fit(X, NUMBERS))
    seen = 60 * np.arange(5) + (np.arange(5) > 0)
    assert np.allclose(slower, 0.01 / np.maximum(seen, 1) ** 0.25)
    cut = make(learning_rate="adaptive", tol=10.0, n_iter_no_change=1, optimizer="sgd")
    cut.fit(X, NUMBERS)
    assert np.allclose(np.unique(rates(cut))[::-1], 0.01 / 5.0 ** np.arange(7))
    assert cut.n_iter_ == 3 + 6 * 2
    again = cut.set_params(warm_start=True, max_iter=1).fit(X, NUMBERS)
    assert rates(again)[-1] == 0.01  # and not the 6.4e-7 at which it has ended


@pytest.mark.parametrize(
    "optimizer",
    ["adamw", "Lion", "schedulefreeadamw", "muon", functools.partial(optim.SGD, lr=0.1)],
)
def test_optimizers_by_name_and_by_function(optimizer) -> None:
    model = MLPClassifier((20,), optimizer=optimizer, max_iter=10, random_state=0).fit(X, CLASSES)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


def test_parameters_of_optimizers_reach_them() -> None:
    def group(**options):
        model = MLPRegressor((2,), max_iter=1, random_state=0, **options).fit(X, NUMBERS)
        return model._network.trainer.optimizer.param_groups[0]

    sgd = group(optimizer="sgd")
    assert (sgd["lr"], sgd["momentum"], sgd["nesterov"]) == (0.001, 0.9, True)
    sgd = group(optimizer="sgd", momentum=0.5, nesterovs_momentum=False, learning_rate_init=0.2)
    assert (sgd["lr"], sgd["momentum"], sgd["nesterov"]) == (0.2, 0.5, False)
    adam = group(beta_2=0.9, epsilon=1e-3)
    assert (adam["betas"], adam["eps"], adam["weight_decay"]) == ((0.9, 0.9), 1e-3, 1.0)
    assert group(weight_decay=0)["weight_decay"] == 0


def test_biases_and_norms_are_not_decayed() -> None:
    model = MLPRegressor((2,), norm="layer", max_iter=1, random_state=0).fit(X, NUMBERS)
    groups = model._network.trainer.optimizer.param_groups
    decays = {name: g["weight_decay"] for g in groups for name in g["param_names"]}
    assert decays == {
        "0.weight": 1.0, "3.weight": 1.0, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0,
        "3.bias": 0.0,
    }  # fmt: skip


def test_a_function_with_a_decay_needs_no_rate() -> None:
    def make(params, weight_decay):
        return optim.AdamW(params, lr=0.02, weight_decay=weight_decay)

    options = {"optimizer": make, "weight_decay": 0.5, "max_iter": 1, "random_state": 0}
    groups = MLPRegressor((2,), **options).fit(X, NUMBERS)._network.trainer.optimizer.param_groups
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.02, 0.5), (0.02, 0.0)]


def test_the_first_predictions_are_the_mean() -> None:
    options = {"max_iter": 1, "learning_rate_init": 1e-30, "random_state": 0}
    assert np.allclose(MLPRegressor(**options).fit(X, NUMBERS).predict(X), NUMBERS.mean())
    assert np.allclose(MLPClassifier(**options).fit(X, CLASSES).predict_proba(X), 1 / 3)


def test_lbfgs_converges_and_has_no_partial_fit() -> None:
    wine = load_wine()
    model = MLPClassifier((10,), optimizer="lbfgs", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(wine.data, wine.target)
    assert model.score(wine.data, wine.target) == 1
    assert model.loss_ < 1e-3
    assert model.n_iter_ < 200
    assert not hasattr(model, "partial_fit")


def test_max_iter_is_told_and_tol_stops(capsys) -> None:
    with pytest.warns(ConvergenceWarning, match="max_iter=2 epochs are done"):
        MLPRegressor(max_iter=2, random_state=0).fit(X, NUMBERS)
    model = MLPRegressor(tol=10, n_iter_no_change=4, verbose=True, random_state=0).fit(X, NUMBERS)
    assert model.n_iter_ == 6
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"Iteration 1, loss = {model.loss_curve_[0]:.8f}"
    assert printed[-1].startswith("training loss did not improve by tol=10 in more than 4")


# ---- what is refused

PARAMETERS = {
    "hidden_layer_sizes": (0, ValueError), "activation": ("rlu", ValueError),
    "norm": ("bach", ValueError), "dropout": (1.0, ValueError), "standardize": ("yes", TypeError),
    "optimizer": ("adamm", ValueError), "alpha": (-1, ValueError), "batch_size": (0, ValueError),
    "learning_rate": ("optimal", ValueError), "learning_rate_init": (0, ValueError),
    "power_t": (-1, ValueError), "max_iter": (0, ValueError), "shuffle": (None, TypeError),
    "tol": (-1, ValueError), "verbose": ("loud", TypeError), "warm_start": (2, TypeError),
    "momentum": (0.9, ValueError), "nesterovs_momentum": (True, ValueError),
    "early_stopping": ("no", TypeError), "validation_fraction": (1.0, ValueError),
    "beta_1": (1.5, ValueError), "beta_2": ("x", TypeError), "epsilon": (-1.0, ValueError),
    "weight_decay": (-1.0, ValueError),
    "n_iter_no_change": (0, ValueError), "device": (0, TypeError),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_wrong_parameter_is_refused_by_name(estimator, name) -> None:
    value, kind = PARAMETERS[name]
    with pytest.raises(kind, match=f"{name}|betas|eps"):
        estimator(**{name: value}).fit(X, TARGETS[estimator])


def test_no_parameter_is_left_out_here() -> None:
    assert MLPRegressor().get_params().keys() - PARAMETERS.keys() == {"random_state"}


REFUSED = {
    "sparse X": ({}, sparse.csr_matrix(X), CLASSES, {}, TypeError, "toarray"),
    "sparse y": ({}, X, sparse.csr_matrix(SEVERAL), {}, TypeError, "y.toarray()"),
    "NaN": ({}, np.where(X > 12, np.nan, X), CLASSES, {}, ValueError, "NaN"),
    "masked weight": ({}, X, CLASSES, {"sample_weight": np.ma.array(WEIGHT)}, TypeError,
                      "sample_weight.filled"),
    "times": ({}, X.astype("datetime64[s]"), CLASSES, {}, TypeError, "'X' has datetime64"),
    "durations": ({}, X.astype("timedelta64[s]"), CLASSES, {}, TypeError, "'X' has timedelta64"),
    "masked X": ({}, np.ma.array(X), CLASSES, {}, TypeError, "X.filled"),
    "labels of two types": ({}, X, np.array([1, "a"] * 30, object), {}, TypeError, "int, str"),
    "three axes": ({}, X[None], CLASSES, {}, ValueError, "dim 3"),
    "too few targets": ({}, X, CLASSES[:5], {}, ValueError, "inconsistent numbers of samples"),
    "numbers as classes": ({}, X, NUMBERS, {}, ValueError, "continuous"),
    "columns of classes": ({}, X, np.tile(np.arange(60)[:, None] % 3, 2), {}, ValueError,
                           "MultiOutputClassifier"),
    "negative weight": ({}, X, CLASSES, {"sample_weight": -WEIGHT}, ValueError, "at 0"),
    "no weight": ({}, X, CLASSES, {"sample_weight": 0 * WEIGHT}, ValueError, "zero"),
    "NaN as weight": ({}, X, CLASSES, {"sample_weight": WEIGHT * np.nan}, ValueError, "nan"),
    "a class that is none": ({"class_weight": {"d": 1}}, X, CLASSES, {}, ValueError, "'d'"),
    "weights of classes": ({"class_weight": "blanced"}, X, CLASSES, {}, ValueError, "'balanced'"),
    "labels of -1 and 1": ({}, X, 2 * SEVERAL - 1, {}, ValueError, "has -1 among its labels"),
    "labels of 0 and 2": ({}, X, 2.0 * SEVERAL, {}, ValueError, "has 2 among its labels"),
    "weights of labels": ({"class_weight": "balanced"}, X, SEVERAL, {}, ValueError, "labels"),
    "lbfgs in batches": ({"optimizer": "lbfgs", "batch_size": 9}, X, CLASSES, {}, ValueError,
                         "'auto' with"),
    "rates of lbfgs": ({"optimizer": "lbfgs", "learning_rate": "adaptive"}, X, CLASSES, {},
                       ValueError, "'constant' with"),
    "little held out": ({"early_stopping": True}, X[:9], CLASSES[:9], {}, ValueError, "at least 2"),
    "no device": ({"device": "tpu"}, X, CLASSES, {}, ValueError, "tpu"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_and_changes_nothing(name) -> None:
    options, x, y, more, kind, text = REFUSED[name]
    model = MLPClassifier((3,), max_iter=2, random_state=0).fit(X[:, :3], CLASSES)
    before, attributes = model.predict_proba(X[:, :3]), vars(model).copy()
    model.set_params(**options)
    with pytest.raises(kind, match=text.replace("(", r"\(").replace(")", r"\)")):
        model.fit(x, y, **more)
    assert np.array_equal(model.predict_proba(X[:, :3]), before)
    assert vars(model).keys() == attributes.keys()
    assert model.n_features_in_ == 3


def test_a_column_of_times_is_refused() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"at": pandas.date_range("2026", periods=len(X)), "b": X[:, 0]})
    with pytest.raises(TypeError, match="MLPRegressor: 'X' has datetime64"):
        MLPRegressor(max_iter=1).fit(frame, NUMBERS)
    model = MLPRegressor(max_iter=1).fit(frame[["b"]], NUMBERS)
    with pytest.raises(TypeError, match="MLPRegressor: 'X' has datetime64"):
        model.predict(frame[["at"]].rename(columns={"at": "b"}))
    with pytest.raises(ValueError, match=r"2-?[Dd]"):
        model.fit(frame["b"], NUMBERS)


@pytest.mark.parametrize("dtype", ["datetime64[D]", "timedelta64[s]"])
@pytest.mark.parametrize("columns", [(), (2,)])
def test_times_as_targets_are_refused(dtype, columns) -> None:
    y = np.zeros((len(X), *columns), int).astype(dtype)
    with pytest.raises(TypeError, match=r"MLPRegressor: 'y' has .*, expected numbers"):
        MLPRegressor(max_iter=1).fit(X, y)


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    model = MLPRegressor(
        (3,), optimizer="sgd", learning_rate_init=1e300, standardize=False, random_state=0
    )
    with pytest.raises(FloatingPointError, match="learning rate"):
        model.fit(X, NUMBERS)
    assert not hasattr(model, "coefs_")
    fine = MLPRegressor((3,), optimizer="sgd", random_state=0, batch_size=9).partial_fit(X, NUMBERS)
    with pytest.raises(FloatingPointError):
        fine.set_params(learning_rate_init=1e300).partial_fit(X, NUMBERS)
    fine.set_params(learning_rate_init=0.001)
    with pytest.raises(ValueError, match="not finite for sample 1"):
        MLPRegressor((3,), max_iter=1, random_state=0).fit(X.astype(np.float32), NUMBERS).predict(
            np.float32([[0] * 4, [3e38] * 4])
        )


def test_numbers_of_any_size_are_scaled() -> None:
    plain = MLPRegressor(max_iter=2, random_state=0).fit(X, NUMBERS).predict(X)
    for size in (1e-300, 1e300):
        model = MLPRegressor(max_iter=2, random_state=0).fit(size * X, size * NUMBERS)
        assert np.allclose(model.predict(size * X) / size, plain, rtol=1e-6)


def test_partial_fit_refuses_what_it_cannot_do() -> None:
    model, abc = MLPClassifier((3,), random_state=0), list("abc")
    with pytest.raises(ValueError, match="'classes' is None"):
        model.partial_fit(X, CLASSES)
    with pytest.raises(ValueError, match=r"has the class 'c', .* of 'classes'"):
        model.partial_fit(X, CLASSES, classes=["a", "b"])
    for wrong in ("abc", [], [["a", "b", "c"]]):
        with pytest.raises(ValueError, match="expected a list of all classes"):
            model.partial_fit(X, CLASSES, classes=wrong)
    assert not hasattr(model, "classes_")
    with pytest.raises(ValueError, match="'early_stopping' is True"):
        clone(model).set_params(early_stopping=True).partial_fit(X, CLASSES, classes=abc)
    with pytest.raises(ValueError, match="compute_class_weight"):
        clone(model).set_params(class_weight="balanced").partial_fit(X, CLASSES, classes=abc)
    model.partial_fit(X, CLASSES, classes=abc)
    with pytest.raises(ValueError, match="expected those of the first call"):
        model.partial_fit(X, CLASSES, classes=list("abcd"))
    with pytest.raises(ValueError, match="several labels"):
        model.partial_fit(X, SEVERAL)
    regressor = MLPRegressor((3,), random_state=0).partial_fit(X, NUMBERS)
    with pytest.raises(ValueError, match="2 numbers a sample, expected 1"):
        regressor.partial_fit(X, X[:, :2])


def test_before_fit_and_unknown_keywords() -> None:
    with pytest.raises(NotFittedError):
        MLPClassifier().predict_proba(X)
    assert not hasattr(MLPClassifier(), "coefs_")
    cures = {"solver": "optimizer=", "hidden": "hidden_layer_sizes", "loss": "squared"}
    for name, cure in cures.items():
        with pytest.raises(TypeError, match=f"MLPRegressor: unknown keyword '{name}'.*{cure}"):
            MLPRegressor(**{name: "adam"})


def test_without_scikit_learn_it_says_what_to_install() -> None:
    code = (
        "import sys\nsys.modules['sklearn'] = None\n"
        "try:\n    import onepass.sklearn\nexcept ImportError as error:\n    print(error)\n"
        "import types\nold = sys.modules['sklearn'] = types.ModuleType('sklearn')\n"
        "old.__version__ = '1.5.2'\n"
        "try:\n    import onepass.sklearn\nexcept ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    says = "onepass.sklearn needs scikit-learn 1.6 or later: pip install 'scikit-learn>=1.6'"
    assert done.stdout == f"{says}\n{says} (1.5.2 is installed)\n", done.stderr


# ---- what scikit-learn's tools do with both


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("framed", [False, True])
@BOTH
def test_a_search_over_a_pipeline_of_either_gives_the_same_again(estimator, framed, dtype) -> None:
    x = X.astype(dtype)
    x = pd.DataFrame(x, columns=list("pqrs")) if framed else x
    pipeline = make_pipeline(StandardScaler(), estimator((5,), max_iter=5, random_state=0))
    name = f"{estimator.__name__.lower()}__alpha"
    scoring = "roc_auc_ovr" if estimator is MLPClassifier else "neg_mean_absolute_error"
    found = []
    for jobs in (1, 2):  # threads: each fit is a function of its data all the same
        with joblib.parallel_backend("threading", n_jobs=jobs):
            search = GridSearchCV(clone(pipeline), {name: [0.0, 1.0, 50.0]}, cv=3, scoring=scoring)
            search.fit(x, TARGETS[estimator])
            scores = cross_val_score(clone(pipeline), x, TARGETS[estimator], cv=3, scoring=scoring)
        found.append((search.cv_results_["mean_test_score"].tolist(), scores.tolist()))
        model = search.best_estimator_[-1]
        assert model.model_.state_dict()["0.weight"].dtype == dtype
        if framed:
            assert search.feature_names_in_.tolist() == list("pqrs")
    assert found[0] == found[1]
    assert np.isfinite(np.concatenate(found[0])).all()


@BOTH
def test_sparse_input_is_refused_by_type_in_every_call(estimator) -> None:
    y = TARGETS[estimator]
    options = {"classes": np.unique(y)} if estimator is MLPClassifier else {}
    model = estimator((3,), max_iter=1, random_state=0).fit(X, y)
    made = (sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix, sparse.coo_array,
            sparse.dok_array, sparse.lil_matrix)  # fmt: skip
    for make in made:
        for call in (lambda x: model.fit(x, y), model.predict, lambda x: model.score(x, y),
                     lambda x: clone(model).partial_fit(x, y, **options)):  # fmt: skip
            with pytest.raises(TypeError, match=r"[Ss]parse data was passed.*toarray"):
                call(make(X))
    with pytest.raises(TypeError, match=r"[Ss]parse data"):
        model.fit(pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(X)), y)
    with pytest.raises(TypeError, match=r"[Ss]parse data"):
        cross_val_score(model, sparse.csr_matrix(X), y, cv=2, error_score="raise")


@BOTH
def test_a_whole_weight_is_so_many_copies(estimator) -> None:
    y, weight = TARGETS[estimator], np.random.default_rng(1).integers(0, 4, 60)
    copies = np.repeat(np.arange(60), weight)
    make = functools.partial(estimator, (6,), optimizer="lbfgs", max_iter=5, random_state=0)
    one, other = make().fit(X, y, weight), make().fit(X[copies], y[copies])
    for a, b in zip(arrays_of(one), arrays_of(other), strict=True):
        assert np.allclose(a, b, rtol=1e-6, atol=1e-9)


def test_scorers_of_probabilities_take_the_classifier() -> None:
    model, two = MLPClassifier((5,), max_iter=5, random_state=0), (TWO == "yes").astype(int)
    shares = {3: model.fit(X, CLASSES).predict_proba(X), 2: model.fit(X, two).predict_proba(X)}
    wanted = {
        "roc_auc_ovr": (CLASSES, metrics.roc_auc_score(CLASSES, shares[3], multi_class="ovr")),
        "roc_auc_ovo": (CLASSES, metrics.roc_auc_score(CLASSES, shares[3], multi_class="ovo")),
        "roc_auc": (two, metrics.roc_auc_score(two, shares[2][:, 1])),
        "average_precision": (two, metrics.average_precision_score(two, shares[2][:, 1])),
        "neg_log_loss": (CLASSES, -metrics.log_loss(CLASSES, shares[3])),
        "neg_brier_score": (two, -metrics.brier_score_loss(two, shares[2][:, 1])),
        "f1_macro": (CLASSES, metrics.f1_score(
            CLASSES, np.unique(CLASSES)[shares[3].argmax(axis=1)], average="macro")),
    }  # fmt: skip
    for name, (y, value) in wanted.items():
        found = metrics.get_scorer(name)(model.fit(X, y), X, y)
        assert found == pytest.approx(value, rel=1e-12), name
