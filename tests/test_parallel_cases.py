"""More that ranks train as one process does: kinds of layers, labels, schedules, early ends."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_same as assert_same_bits
from onepass import nn, optim
from onepass.train import Callback, EarlyStopping
from onepass.train._warned import warn_of_rank
from ranks import run_threads
from test_parallel_trainer import (
    X,
    Y,
    assert_same,
    check,
    errors_of,
    fitted,
    left,
    network,
    together,
    trainer_of,
)

K = {"dtype": "float64"}
schedules = optim.lr_scheduler
IMAGES = np.random.default_rng(4).standard_normal((37, 2, 6, 6))
LABELS = np.where(np.arange(37) % 3 == 0, Y, -100)  # most do not count


def convolutions():
    nn.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False, **K), nn.BatchNorm2d(4, **K), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout2d(0.3), nn.Flatten(), nn.Linear(16, 3, **K),
    )  # fmt: skip


class Halves(nn.Module):
    """Uses one branch for samples above 0 and another for the rest: a rank may use one alone."""

    def __init__(self):
        super().__init__()
        nn.manual_seed(5)
        self.high, self.low = nn.Linear(5, 3, **K), nn.Linear(5, 3, **K)

    def forward(self, x):
        self.up = x[:, 0] > 0
        y = np.empty((len(x), 3))
        for part, layer in ((self.up, self.high), (~self.up, self.low)):
            if part.any():
                y[part] = layer(x[part])
        return y

    def backward(self, dy):
        for part, layer in ((self.up, self.high), (~self.up, self.low)):
            if part.any():
                layer.backward(dy[part])


def plateau(optimizer):
    return schedules.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)


CASES = {
    "a schedule of steps": {"scheduler": lambda o: schedules.OneCycleLR(o, 0.05, 15)},
    "warm-up": {"scheduler": lambda o: schedules.LinearWarmup(o, 4)},
    "a plateau": {"scheduler": plateau, "lr": 0.5},
    "a branch for some samples": {"model": Halves},
    "Muon": {
        "optimizer": lambda p, lr: optim.Muon([q for q in p if q.ndim == 2], lr=lr),
    },
    "a norm of gradients": {"max_norm": float("inf")},
}  # fmt: skip


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_ranks_are_one_process(case, size):
    check(size, {"validation_data": (X[:11], Y[:11])}, **CASES[case])


@pytest.mark.parametrize("size", [2, 3])
def test_convolutions(size):
    check(size, {}, (IMAGES, Y), model=convolutions)


@pytest.mark.parametrize("options", [{}, {"accumulate": 3}, {"reproducible": 4}], ids=str)
def test_labels_that_do_not_count(options):
    """Whole shares have none that does, and in the last batches all ranks."""
    labels = LABELS.copy()
    labels[20:] = -100
    size = 2 if "reproducible" in options else 3
    found = check(size, {"batch_size": 5, "shuffle": False}, (X, labels), **options)
    assert np.isfinite(found["history of loss"]).all()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_gradient_alone_that_is_not_finite_is_skipped_by_all():
    """The loss is finite on every rank."""

    def spoilt():
        inner = network()

        class Whole(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = inner

            def forward(self, x):
                self.rows = np.flatnonzero(x[:, 0] == X[5, 0])
                return self.inner(x)

            def backward(self, dy):
                dy = dy.copy()
                dy[self.rows] = np.inf
                return self.inner.backward(dy)

        return Whole()

    found = check(3, {}, model=spoilt, nonfinite="skip")
    assert found["counters"][3] == 3  # one an epoch


def spoilt_rows():
    x = X.copy()
    x[5, 2] = np.nan
    return x


class StopAt(Callback):
    def __init__(self, rank, step):
        self.at = rank, step

    def on_step_end(self, run):
        if (run.comm.rank, run.step) == self.at:
            run.stop = True


SAME_BITS = {
    "skip": ({"nonfinite": "skip"}, (spoilt_rows(), Y), {}),
    "propagate": ({"nonfinite": "propagate"}, (spoilt_rows(), Y), {}),
    "early stopping": (
        {"callbacks": [EarlyStopping(patience=2)]}, (X, Y),
        {"max_epochs": 30, "validation_data": (X[:9], Y[:9][::-1])},
    ),
    "stop": ({"callbacks": [StopAt(0, 7)]}, (X, Y), {}),
    "plateau": ({"scheduler": plateau, "lr": 0.5}, (X, Y), {}),
    "images": ({"model": convolutions}, (IMAGES, Y), {"max_epochs": 2}),
    "branches": ({"model": Halves}, (X, Y), {}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("case", SAME_BITS)
def test_reproducible_has_the_same_bits(case):
    """To the sign of 0 and the payload of NaN."""
    options, data, fit = SAME_BITS[case]

    def made(comm=None):
        options_of_rank = {
            k: v if k == "scheduler" else copy.deepcopy(v) for k, v in options.items()
        }
        return trainer_of(comm, reproducible=4, **options_of_rank)

    alone = left(fitted(made(), *data, **fit))
    for size in (2, 4):
        for rank in together(size, made, lambda t: left(fitted(t, *data, **fit))):
            assert rank.keys() == alone.keys()
            for name, array in alone.items():
                assert_same_bits(rank[name], array, name)
    if case == "early stopping":
        assert alone["counters"][0] < 30
    if case == "skip":
        assert alone["counters"][3] > 0


@pytest.mark.parametrize("norm", [False, True], ids=["", "norm"])
def test_an_error_in_a_piece_is_that_of_the_fit(norm):
    class Fails(nn.Module):
        def forward(self, x):
            if (x[:, 0] == X[9, 0]).any():
                raise KeyError("a row")
            return x

        def backward(self, dy):
            return dy

    def model():
        return nn.Sequential(Fails(), *network(norm=norm))

    trainer = trainer_of(model=model, reproducible=4)
    with pytest.raises(KeyError, match="a row"):
        fitted(trainer)
    errors = errors_of(2, lambda c: trainer_of(c, model=model, reproducible=4), fitted)
    assert "KeyError: 'a row'" in errors
    assert_same(left(fitted(trainer_of(reproducible=4))), left(fitted(trainer_of(reproducible=4))))


@pytest.mark.parametrize("size", [2, 3])
def test_parameters_of_16_bits(size):
    """Gradients are added up in float32 and rounded once: all ranks have the same bits."""

    def model():
        found = network()
        for p in found.parameters():
            p.data = p.data.astype(np.float16)
        return found

    def run(trainer):
        return left(fitted(trainer, X.astype(np.float16), Y))

    alone = run(trainer_of(model=model))
    ranks = together(size, lambda c: trainer_of(c, model=model), run)
    for rank in ranks:
        assert_same(rank, ranks[0])
    for name, array in alone.items():
        np.testing.assert_allclose(ranks[0][name], array, rtol=0.02, atol=0.02, err_msg=name)
    assert ranks[0]["0.weight"].dtype == np.float16


@pytest.mark.parametrize(
    ("size", "options"),
    [(2, {}), (3, {"metrics": ["accuracy", "auc"]}), (3, {"accumulate": 2, "max_norm": 0.3}),
     (2, {"reproducible": 4})],
    ids=str,
)  # fmt: skip
def test_tensors_of_torch(size, options):
    """Ranks take their rows of them, in the order of one process, and give the bits of arrays."""
    torch = pytest.importorskip("torch")
    x, y, weight = torch.from_numpy(X.copy()), torch.from_numpy(Y.copy()), np.linspace(0, 2, len(X))
    norm = {"model": lambda: network(norm=True, dropout=0.3), **options}

    def fit(X, Y, w):
        return {"validation_data": (X[:9], Y[:9]), "sample_weight": w}

    tensors = check(size, fit(x, y, torch.from_numpy(weight)), (x, y), **norm)
    arrays = check(size, fit(X, Y, weight), (X, Y), **norm)
    assert_same(tensors, arrays)


@pytest.mark.parametrize("size", [1, 3])
def test_what_all_ranks_would_warn_of_rank_0_alone_does(size):
    def run(trainer):
        for _ in range(2):  # the second time nothing is left to train
            fitted(trainer, y=X[:, :2], validation_data=(X[:1], X[:1, :2]))

    def made(comm):
        return trainer_of(comm, metrics=["r2"], model=lambda: network(2), loss=nn.MSELoss)

    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        together(size, made, run)
    texts = [str(w.message) for w in given]
    assert sum("the metric 'r2' is nan" in text for text in texts) == 3, texts  # one an epoch
    assert sum("nothing was trained" in text for text in texts) == 1, texts
    assert {Path(w.filename).name for w in given} == {"test_parallel_trainer.py"}


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["slow", "slow", "slow"], ["slow"]),
        ([None, "slow", None], ["rank 1 of 3: slow"]),
        (["slow", "slow", "late"], ["rank 0 of 3: slow", "rank 1 of 3: slow", "rank 2 of 3: late"]),
        ([None, None, None], []),
    ],
)
def test_a_rank_warns_of_what_it_alone_has_by_its_name(texts, said):
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        run_threads(lambda comm: warn_of_rank(comm, texts[comm.rank]), 3)
    assert sorted(str(w.message) for w in given) == said
