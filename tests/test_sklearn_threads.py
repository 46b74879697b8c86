"""The estimators and the threads of NumPy's BLAS: with a random_state the bits do not depend on
their number, and it is what it was afterwards."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from onepass import _environment
from onepass.train import _blas
from onepass.train._blas_library import Usual, let_go, set_threads

pytest.importorskip("sklearn")
import threadpoolctl
from onepass.sklearn import MLPClassifier, MLPRegressor
from onepass.sklearn._convergence import Convergence
from sklearn.model_selection import cross_val_score

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.skipif(not _blas.libraries(), reason="threadpoolctl knows no BLAS here"),
]
X = np.random.default_rng(0).standard_normal((5000, 50))
Y = (X[:, 0] * X[:, 1] > 0).astype(int)
LARGE = {  # products whose bits are others with two threads
    "large batches": MLPClassifier(batch_size=5000, max_iter=2, random_state=0),
    "L-BFGS": MLPRegressor((200,), optimizer="lbfgs", max_iter=4, random_state=0),
    "a RandomState": MLPClassifier(
        (300,), batch_size=2500, max_iter=1, random_state=np.random.RandomState(3)
    ),
}
LARGE_TARGETS = {MLPClassifier: Y, MLPRegressor: np.sin(X[:, 0]) + X[:, 1] * X[:, 2]}


@pytest.fixture
def two_threads():
    """BLAS has two, and any thread may set another number."""
    before = [(library, library.get_num_threads()) for library in _blas.libraries()]
    for library, _ in before:
        set_threads(library, 2)
    yield
    for library, count in before:
        set_threads(library, count)


def counts() -> set[int]:
    return {library.get_num_threads() for library in _blas.libraries()}


def fitted(name: str, **changes):
    kind, parameters = type(LARGE[name]), LARGE[name].get_params()
    if isinstance(parameters["random_state"], np.random.RandomState):
        parameters["random_state"] = np.random.RandomState(3)
    return kind(**{**parameters, **changes}).fit(X, LARGE_TARGETS[kind])


def results(model) -> list[np.ndarray]:
    found = [*model.coefs_, *model.intercepts_, model.predict(X), np.array(model.loss_curve_)]
    return found + ([model.predict_proba(X)] if isinstance(model, MLPClassifier) else [])


@pytest.mark.parametrize("name", LARGE)
def test_the_bits_of_large_products_do_not_depend_on_threads_of_blas(name) -> None:
    seen = []
    for count in (1, 2):
        with threadpoolctl.threadpool_limits(count):
            seen.append(results(fitted(name)))
            assert counts() == {count}
    assert all(np.array_equal(a, b) for a, b in zip(*seen, strict=True))


@pytest.fixture
def watched(monkeypatch) -> list[set[int]]:
    """The threads of BLAS at the end of each epoch."""
    seen, before = [], Convergence.on_epoch_end

    def look(self, run):
        seen.append(counts())
        before(self, run)

    monkeypatch.setattr(Convergence, "on_epoch_end", look)
    return seen


def test_predictions_too(two_threads, monkeypatch) -> None:
    model, seen = fitted("large batches"), []
    before = type(model._network).outputs

    def look(self, x):
        seen.append(counts())
        return before(self, x)

    monkeypatch.setattr(type(model._network), "outputs", look)
    for call in (model.predict, model.predict_proba, model.decision_function):
        call(X)
    number = fitted("L-BFGS")
    number.predict(X)
    assert seen == [{1}] * 4
    number.set_params(random_state=None).predict(X)
    assert seen[-1] == {2}


def test_without_a_random_state_or_with_the_switch_they_stay(
    two_threads, watched, monkeypatch
) -> None:
    fitted("large batches", random_state=None)
    assert watched == [{2}] * 2
    monkeypatch.setenv(_environment.BLAS_THREADS, "keep")
    fitted("large batches")
    assert watched == [{2}] * 4
    monkeypatch.delenv(_environment.BLAS_THREADS)
    fitted("large batches")
    assert watched[4:] == [{1}] * 2


def test_fits_that_overlap_leave_the_threads_as_they_were(
    two_threads, watched, monkeypatch
) -> None:
    """The first to begin ends first: neither it nor the other may leave BLAS limited."""
    first_is_in, second_is_in, models = threading.Event(), threading.Event(), []
    before = Convergence.on_epoch_end

    def wait(self, run):
        before(self, run)
        if threading.current_thread() is first:
            first_is_in.set()
            assert second_is_in.wait(30)
        else:
            second_is_in.set()
            first.join(30)
            assert not first.is_alive()

    monkeypatch.setattr(Convergence, "on_epoch_end", wait)

    def work():
        models.append(fitted("large batches"))

    first, second = threading.Thread(target=work), threading.Thread(target=work)
    first.start()
    assert first_is_in.wait(30)
    second.start()
    second.join()
    assert watched == [{1}] * 4
    assert counts() == {2}
    assert all(np.array_equal(a, b) for a, b in zip(*map(results, models), strict=True))


def test_a_fit_that_fails_gives_the_threads_back(two_threads) -> None:
    with pytest.raises(FloatingPointError):
        MLPRegressor(optimizer="sgd", learning_rate_init=1e30, batch_size=5000, random_state=0).fit(
            X, 1e3 * LARGE_TARGETS[MLPRegressor]
        )
    assert counts() == {2}


def test_cross_validation_in_threads_has_the_scores_of_one(two_threads) -> None:
    """Threads other than the first one set the number too."""
    import joblib

    model, y = LARGE["L-BFGS"], LARGE_TARGETS[MLPRegressor]
    alone = cross_val_score(model, X, y, cv=2)
    with joblib.parallel_backend("threading", n_jobs=2):
        assert np.array_equal(cross_val_score(model, X, y, cv=2), alone)
    assert counts() == {2}


def test_what_another_thread_has_set_is_told(two_threads) -> None:
    """threadpoolctl takes numbers from that thread alone while it limits OpenBLAS."""
    if not hasattr(_blas.libraries()[0], "clear_controlling_thread"):
        pytest.skip("threadpoolctl before 3.7")
    places = []

    def work():
        said = "^MLPClassifier: 'random_state' needs one thread"
        with pytest.warns(RuntimeWarning, match=said) as given:
            results(fitted("large batches"))  # fit, predictions, coefs_
        places.extend(w.filename for w in given)

    with threadpoolctl.threadpool_limits(2):
        other = threading.Thread(target=work)
        other.start()
        other.join()
    assert len(places) >= 4
    assert set(places) == {__file__}


KEEPS_OTHERS_OUT = pytest.mark.skipif(
    not hasattr((_blas.libraries() or [None])[0], "clear_controlling_thread"),
    reason="threadpoolctl before 3.7",
)


class Elsewhere:
    """A limit of another thread, which begins and leaves it on demand."""

    def __init__(self, count: int) -> None:
        self.count, self.begun, self.leave = count, threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._limit)

    def _limit(self) -> None:
        with threadpoolctl.threadpool_limits(self.count):
            self.begun.set()
            assert self.leave.wait(30)

    def begin(self) -> None:
        self.thread.start()
        assert self.begun.wait(30)

    def end(self) -> None:
        self.leave.set()
        self.thread.join(30)


@pytest.fixture
def at_the_first_step(monkeypatch):
    """Calls that are made once, in the first step of a fit."""
    calls, before = [], Convergence.on_step_end

    def first(self, run):
        while calls:
            calls.pop(0)()
        before(self, run)

    monkeypatch.setattr(Convergence, "on_step_end", first)
    return calls


@KEEPS_OTHERS_OUT
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_limit_that_another_thread_begins_meanwhile_changes_nothing(
    two_threads, at_the_first_step
) -> None:
    alone, limit, seen = results(fitted("large batches")), Elsewhere(2), []
    at_the_first_step.extend([limit.begin, lambda: seen.append(counts()), limit.end])
    beside = results(fitted("large batches"))
    assert seen == [{1}]
    assert counts() == {2}
    assert all(np.array_equal(a, b) for a, b in zip(alone, beside, strict=True))


@KEEPS_OTHERS_OUT
def test_a_limit_that_ends_meanwhile_is_told(two_threads, watched, at_the_first_step) -> None:
    """It was there before, with one thread, so that nothing was to be set."""
    limit = Elsewhere(1)
    limit.begin()
    at_the_first_step.append(limit.end)
    with pytest.warns(RuntimeWarning, match="'random_state' needs .* another thread has set one"):
        fitted("large batches", batch_size=2500)
    assert watched == [{1}] * 2  # from the next step on
    assert counts() == {2}


@KEEPS_OTHERS_OUT
def test_what_such_a_limit_has_left_is_undone(two_threads, at_the_first_step, monkeypatch) -> None:
    """It began during a fit and ended after it: it puts back the 1 that it has found."""
    monkeypatch.setattr(_blas._users, "usual", Usual())
    limit = Elsewhere(1)
    at_the_first_step.append(limit.begin)
    fitted("large batches")
    limit.end()
    assert counts() == {1}
    fitted("large batches")
    assert counts() == {2}


@KEEPS_OTHERS_OUT
def test_a_limit_in_force_is_kept(two_threads, monkeypatch) -> None:
    monkeypatch.setattr(_blas._users, "usual", Usual())
    model = fitted("large batches")
    with threadpoolctl.threadpool_limits(1):
        for _ in range(3):
            model.predict(X)
            assert counts() == {1}
    limit = Elsewhere(1)
    limit.begin()
    model.predict(X)
    assert counts() == {1}
    limit.end()
    assert counts() == {2}
    chosen = threadpoolctl.threadpool_limits(1)  # for good, by this thread
    for _ in range(3):
        model.predict(X)
        assert counts() == {1}
    chosen.unregister()
    let_go()
