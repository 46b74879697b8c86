"""BLAS threads while a model trains: one for small products, all for large ones; then as before."""

import json
import threading

import numpy as np
import pytest
from onepass import _environment, cli, nn, optim
from onepass.data import DataLoader
from onepass.train import Callback, Trainer, _blas
from small_training import VALIDATION, KilledError, StopAt, X, Y, fit, make


class Fake:
    """A BLAS library as threadpoolctl shows it."""

    internal_api, version, filepath = "fakeblas", "1.0", "/numpy/fake.so"

    def __init__(self, threads=8):
        self.threads = threads
        self.seen = [threads]

    def get_num_threads(self):
        return self.threads

    def set_num_threads(self, threads):
        self.threads = threads
        self.seen.append(threads)


@pytest.fixture
def blas(monkeypatch):
    fake = Fake()
    monkeypatch.setattr(_blas, "libraries", lambda: [fake])
    monkeypatch.delenv(_environment.BLAS_THREADS, raising=False)
    return fake


class Look(Callback):
    def __init__(self, blas):
        self.blas, self.seen = blas, set()

    def on_step_end(self, run):
        self.seen.add(self.blas.threads)


def wide(callbacks=()):
    """A product of 8 x 1500 x 1500 multiply-adds is a large one."""
    model = nn.Sequential(nn.Linear(4, 1500), nn.ReLU(), nn.Linear(1500, 1500), nn.Linear(1500, 2))
    optimizer = optim.SGD(model.parameters(), lr=1e-3)
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=callbacks, progress=False)


def test_small_products_get_one_thread_while_fit_runs(blas):
    look = Look(blas)
    fit(make([look]))
    assert look.seen == {1}
    assert blas.threads == 8


def test_large_products_keep_their_threads(blas):
    look = Look(blas)
    wide([look]).fit(X, Y, max_epochs=1, batch_size=8)
    assert look.seen == {8}
    assert blas.seen == [8]


def test_evaluate_and_predict_do_the_same(blas):
    make().evaluate(X, Y)
    assert blas.seen == [8, 1, 8]
    make().predict(X, batch_size=2)
    assert blas.seen == [8, 1, 8, 1, 8]


def test_a_short_prediction_does_not_ask(blas):
    make().predict(X)
    assert blas.seen == [8]


@pytest.mark.parametrize("error", [KilledError, KeyboardInterrupt])
def test_an_exception_gives_the_threads_back(blas, error):
    with pytest.raises(error):
        fit(make([StopAt(2, error=error)]))
    assert blas.threads == 8


def test_a_fit_inside_a_fit_gives_them_back_once(blas):
    class Inner(Callback):
        def on_epoch_end(self, run):
            fit(make(), max_epochs=1)
            assert blas.threads == 1

    fit(make([Inner()]))
    assert blas.seen == [8, 1, 8]


def test_trainings_at_the_same_time_agree(blas):
    """While a large one runs beside small ones, all have their threads; at the end as before."""
    small, large = Look(blas), Look(blas)
    inside, done = threading.Event(), threading.Event()

    class Wait(Callback):
        def on_step_end(self, run):
            inside.set()
            done.wait(30)

    other = threading.Thread(
        target=lambda: wide([Wait(), large]).fit(X, Y, max_epochs=1, batch_size=8)
    )
    other.start()
    inside.wait(30)
    fit(make([small]), validation_data=None)
    done.set()
    other.join()
    assert small.seen == large.seen == {8}
    assert blas.threads == 8


def test_a_number_chosen_in_between_is_kept(blas):
    class Choose(Callback):
        def on_epoch_end(self, run):
            blas.threads = 3

    fit(make([Choose()]), max_epochs=1)
    assert blas.threads == 3


def test_the_switch_leaves_the_threads_alone(blas, monkeypatch):
    monkeypatch.setenv(_environment.BLAS_THREADS, "keep")
    fit(make())
    assert blas.seen == [8]


def test_without_threadpoolctl_nothing_happens(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "threadpoolctl", None)
    _blas.libraries.cache_clear()
    try:
        assert _blas.libraries() == []
        fit(make())
        assert cli.main(["info"]) == 0
        assert "OMP_NUM_THREADS=1" in capsys.readouterr().out
    finally:
        _blas.libraries.cache_clear()


def test_info_shows_the_state(blas, capsys):
    assert cli.main(["info"]) == 0
    assert "fakeblas 1.0, 8 threads (one while small nets train)" in capsys.readouterr().out
    assert cli.main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["blas"]["threads"] == 8


def test_the_library_is_the_one_of_numpy():
    pytest.importorskip("threadpoolctl")
    found = _blas.libraries()
    if not found:
        pytest.skip("threadpoolctl knows no BLAS here")
    before = [library.get_num_threads() for library in found]
    seen = []

    class Count(Callback):
        def on_step_end(self, run):
            seen.append([library.get_num_threads() for library in found])

    fit(make([Count()]), validation_data=VALIDATION)
    assert np.array(seen).max() == 1
    assert [library.get_num_threads() for library in found] == before


def test_positions_of_a_sequence_count_as_rows_of_the_product():
    """The largest product is batch · positions · in · out multiply-adds."""
    model = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))
    for shape, rows in (((20, 5), 8), ((20, 6, 5), 8 * 6), ((20, 2, 3, 5), 8 * 6)):
        loader = DataLoader(np.zeros(shape, np.float32), np.zeros(20), batch_size=8)
        assert _blas.product(model, loader) == rows * 5 * 7
