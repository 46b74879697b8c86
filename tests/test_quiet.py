"""Settings of the whole process that threads change for a while (onepass._quiet)."""

import threading
import warnings

import numpy as np
import pytest
from onepass import _quiet, nn, optim, train


@pytest.fixture(autouse=True)
def filters():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield warnings.filters


def test_the_last_of_two_threads_puts_the_filters_back():
    before = list(warnings.filters)
    begun, may_end = threading.Event(), threading.Event()

    def other():
        with _quiet.ignored():
            begun.set()
            may_end.wait(10)

    thread = threading.Thread(target=other)
    with _quiet.ignored("no such"):
        thread.start()
        assert begun.wait(10)
    warnings.warn("ignored by the other thread", RuntimeWarning, stacklevel=1)
    may_end.set()
    thread.join(10)
    assert list(warnings.filters) == before
    with pytest.raises(RuntimeWarning):
        warnings.warn("heard again", RuntimeWarning, stacklevel=1)


def test_a_message_and_a_category():
    with _quiet.ignored("All-NaN", RuntimeWarning):
        warnings.warn("All-NaN slice", RuntimeWarning, stacklevel=1)
        with pytest.raises(RuntimeWarning):
            warnings.warn("another", RuntimeWarning, stacklevel=1)
        with pytest.raises(DeprecationWarning):
            warnings.warn("All-NaN slice", DeprecationWarning, stacklevel=1)


def test_an_error_inside_puts_back():
    before = list(warnings.filters)
    with pytest.raises(KeyError), _quiet.ignored():
        raise KeyError
    assert list(warnings.filters) == before


@pytest.mark.parametrize("pruner", [None, "hyperband"])
def test_searches_in_threads_leave_the_settings_as_they_were(pruner):
    optuna = pytest.importorskip("optuna")
    pytest.importorskip("sklearn")
    X = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
    y = (X[:, 0] > 0).astype("int64")

    def build(lr):
        model = nn.Sequential(nn.Linear(3, 2))
        optimizer = optim.SGD(model.parameters(), lr=lr)
        return train.Trainer(model, nn.CrossEntropyLoss(), optimizer, metrics=["f1_macro"])

    def search():
        train.search(build, {"lr": train.LogUniform(1e-3, 1.0)}, X, y, trials=4, seed=1,
                     max_epochs=3, sampler="tpe", pruner=pruner, metric="val_f1_macro",
                     progress=False)  # fmt: skip

    warnings.simplefilter("ignore")
    before = list(warnings.filters), optuna.logging.get_verbosity()
    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert (list(warnings.filters), optuna.logging.get_verbosity()) == before
