"""Models on several ranks: edited by hooks, with modules that take no empty batch, with norms."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from onepass import nn, optim
from onepass.data import DataLoader
from onepass.train import Callback, EarlyStopping, Trainer, _blas, _replicas, regularizers
from test_parallel_trainer import (
    N,
    T,
    X,
    Y,
    assert_close,
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


def normed():
    return network(norm=True, dropout=0.3)


# What hooks edit.


class Noise(nn.Module):
    """A layer of one's own, with an option and a list of options."""

    def __init__(self):
        super().__init__()
        self.scale, self.more = 1.0, [1.0]

    def forward(self, x):
        self.used = self.scale * self.more[0]
        return x * self.used

    def backward(self, dy):
        return dy * self.used


class Edit(Callback):
    def __init__(self, edit):
        self.edit = edit

    def on_step_end(self, run):
        if run.step in (2, 7):
            self.edit(run, run.step)


def anneal(run, step):
    run.model[3].p = 0.1 * step


def replace(run, step):
    run.model[3] = nn.Sequential(nn.Dropout(0.05 * step), nn.ReLU())
    run.seed_dropout()


def slow_norm(run, step):
    run.model[2].momentum = 0.01 * step


def freeze(run, step):
    run.model[2].freeze() if step == 2 else run.model[2].unfreeze()


def add_norm(run, step):
    if step == 2:
        run.model[1] = nn.Sequential(nn.Tanh(), nn.BatchNorm1d(8, affine=False, **K))


def of_ones_own(run, step):
    run.model[-1].scale = 1 / step
    run.model[-1].more = [0.5 * step]


EDITS = (anneal, replace, slow_norm, freeze, add_norm, of_ones_own)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_what_a_hook_edits_reaches_all_pieces(edit):
    def make(comm=None, **options):
        def model():
            return nn.Sequential(*normed(), Noise())

        return trainer_of(comm, model=model, callbacks=[Edit(edit)], **options)

    plain = left(fitted(make()))
    alone = left(fitted(make(reproducible=4)))
    assert_close(alone, plain)
    for size in (2, 4):
        for rank in together(size, lambda c: make(c, reproducible=4), lambda t: left(fitted(t))):
            assert_same(rank, alone)
    for rank in together(3, make, lambda t: left(fitted(t))):
        assert_close(rank, plain)


def test_copies_are_made_where_the_model_was_edited(monkeypatch):
    made, copied = [], _replicas._copied
    monkeypatch.setattr(_replicas, "_copied", lambda model: made.append(1) or copied(model))
    fitted(trainer_of(model=normed, reproducible=2))
    assert len(made) <= 4  # the first, and after each epoch


def test_norms_are_those_of_one_process_after_a_fit():
    trainer = trainer_of(model=normed, reproducible=4, callbacks=[Edit(add_norm)])
    fitted(trainer)
    assert [m._comm for m in trainer.model.modules() if isinstance(m, nn.BatchNorm1d)] == [None] * 2


class Calls(Callback):
    """Calls the model in training and through the trainer, on one rank alone."""

    rank_0_only = True

    def on_step_end(self, run):
        kept = copy.deepcopy(run.model.state_dict())
        masks = nn.get_rng_state(run.model)
        run.model(X[:6])
        run.model.load_state_dict(kept)
        nn.set_rng_state(masks, run.model)
        self.seen = run.evaluate(X, Y)


@pytest.mark.parametrize("options", [{}, {"reproducible": 4}], ids=["plain", "reproducible"])
def test_a_hook_of_one_rank_may_call_the_model(options):
    def norm():
        nn.manual_seed(5)
        layers = [nn.Linear(5, 4, bias=False, **K), nn.BatchNorm1d(4, **K), nn.Linear(4, 3, **K)]
        return nn.Sequential(*layers)

    expected = left(fitted(trainer_of(model=norm, **options)))
    found = together(
        2, lambda c: trainer_of(c, model=norm, callbacks=[Calls()], **options),
        lambda t: (left(fitted(t)), t.callbacks[0]),
    )  # fmt: skip
    for state, _ in found:
        assert_close(state, expected)
    assert "loss" in found[0][1].seen


def test_norms_without_running_statistics_are_over_all_ranks_in_evaluation_too():
    def norm():
        nn.manual_seed(5)
        return nn.Sequential(
            nn.Linear(5, 4, bias=False, **K),
            nn.BatchNorm1d(4, track_running_stats=False, **K), nn.Linear(4, 3, **K),
        )  # fmt: skip

    for rows in (11, 2):  # of two, a rank has none
        check(3, {"validation_data": (X[:rows], Y[:rows]), "batch_size": 9}, model=norm)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"regularizers": [regularizers.Jacobian(0.1)]}, "expected those of parameters alone"),
        ({"model": lambda: nn.Sequential(
            nn.Linear(5, 3, **K), nn.BatchNorm1d(3, track_running_stats=False, **K))},
         "expected track_running_stats=True"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 2, 4])
def test_what_reproducible_refuses_it_refuses_on_any_number_of_ranks(options, match, size):
    options = {"model": normed, "reproducible": 4, **options}
    for error in errors_of(size, lambda c: trainer_of(c, **options), fitted):
        assert match in error


def test_frozen_norms_need_no_copies():
    def frozen():
        model = network(norm=True)
        model[2].freeze()
        return model

    def make(comm=None):
        jacobian = [regularizers.Jacobian(0.1)]
        return trainer_of(comm, model=frozen, reproducible=4, regularizers=jacobian)

    alone = left(fitted(make()))
    for rank in together(2, make, lambda t: left(fitted(t))):
        assert_same(rank, alone)


# Shares without rows.


class Picky(nn.Module):
    """A layer that takes no empty batch, as many of one's own."""

    def forward(self, x):
        self.peak = np.stack([row.max() for row in x]).max()
        return x

    def backward(self, dy):
        return dy


def picky(dropout=0.3):
    inner = network(dropout=dropout)
    return nn.Sequential(Picky(), *inner)


def tied():
    """Two layers have one weight, and a third is frozen."""
    nn.manual_seed(5)
    layers = [nn.Linear(5, 5, **K), nn.Dropout(0.3), nn.Tanh(), nn.Linear(5, 5, **K), nn.Tanh()]
    layers[3].weight = layers[0].weight
    return nn.Sequential(*layers, nn.Linear(5, 4, **K).freeze(), nn.Linear(4, 3, **K))


@pytest.mark.parametrize("model", [picky, tied, lambda: picky(0.0)], ids=["picky", "tied", "dry"])
@pytest.mark.parametrize("options", [{}, {"accumulate": 3}], ids=["", "accumulated"])
def test_a_rank_without_rows_calls_no_module_with_none(model, options):
    check(3, {"batch_size": 2}, model=model, **options)


def test_pieces_without_rows_in_one_process():
    plain = left(fitted(trainer_of(model=picky), batch_size=6))
    alone = left(fitted(trainer_of(model=picky, reproducible=8), batch_size=6))
    assert_close(alone, plain)

    def make(comm):
        return trainer_of(comm, model=picky, reproducible=8)

    for rank in together(4, make, lambda t: left(fitted(t, batch_size=6))):
        assert_same(rank, alone)


def test_penalties_of_shares_without_rows():
    both = [regularizers.Jacobian(0.1), regularizers.ActivationSparsity(0.05, layers=["2"])]
    check(3, {"batch_size": 2}, model=picky, regularizers=both)


@pytest.mark.parametrize("kind", ["arrays", "data set"])
def test_a_transform_by_sample_gets_a_row_at_least(kind):
    def jitter(X, y, *, seed, epoch, index):
        return np.stack([x + 0.01 * i for x, i in zip(X, index, strict=True)]), y

    class Samples:
        def __len__(self):
            return N

        def __getitem__(self, i):
            return X[i], Y[i]

    jitter.by_sample = True
    data = (X, Y) if kind == "arrays" else (Samples(), None)
    check(3, {"batch_size": 2, "transform": jitter}, data)
    assert next(DataLoader(X, Y, 2).shares(0, 0, 0, 3)).spare[0].shape == (1, 5)


# What one output a sample is.


class Own(nn.Module):
    """Not known to be logits."""

    def __init__(self, shift):
        super().__init__()
        nn.manual_seed(5)
        self.layer, self.shift = nn.Linear(5, 1, **K), shift

    def forward(self, x):
        return self.layer(x) + self.shift

    def backward(self, dy):
        return self.layer.backward(dy)


def logistic(output, target):
    t = target.reshape(output.shape)
    p = 1 / (1 + np.exp(-output))
    return -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p)), (p - t) / len(output)


@pytest.mark.parametrize("metrics", [["accuracy"], ["accuracy", "f1", "auc"], ["auc"]], ids=str)
def test_all_ranks_decide_together_what_outputs_are(metrics):
    """Some rank has outputs within 0 to 1 alone: the others say that they are logits."""
    options = {"model": lambda: Own(0.5), "loss": lambda: logistic, "metrics": metrics}
    binary = (X * 0.3, (Y > 0).astype(np.int64))
    check(3, {"batch_size": 9}, binary, **options)
    alone = left(fitted(trainer_of(reproducible=8, **options), *binary, batch_size=8))
    assert_close(alone, left(fitted(trainer_of(**options), *binary, batch_size=8)))


def test_outputs_that_may_be_either_are_refused_by_all():
    options = {"model": lambda: Own(0.5), "loss": lambda: logistic}

    def run(trainer):
        fitted(trainer, X * 0.01, (Y > 0).astype(np.int64))

    for error in errors_of(3, lambda c: trainer_of(c, **options), run):
        assert "they may be probabilities or logits" in error


def test_numbers_need_no_decision():
    def squares(output, target):
        return float(((output - target) ** 2).mean()), 2 * (output - target) / output.size

    check(3, {}, (X, T[:, :1]), model=lambda: Own(0.0), loss=lambda: squares, metrics=["mse", "r2"])


# What is logged late.


class Late(Callback):
    logs = ("late",)
    rank_0_only = True

    def on_epoch_end(self, run):
        run.log("late", run.epoch % 2)


class Undeclared(Callback):
    def on_epoch_end(self, run):
        run.log("rank", run.comm.rank)


def test_numbers_logged_at_the_end_of_an_epoch_are_those_of_rank_0():
    def make(comm):
        stopping = EarlyStopping(monitor="late", mode="min", patience=1)
        return trainer_of(comm, callbacks=[Late(), stopping, Undeclared()])

    found = together(2, make, lambda t: dict(fitted(t, max_epochs=9).history))
    assert found[0] == found[1]
    assert found[0]["late"] == [1.0, 0.0, 1.0]
    assert found[0]["rank"] == [0.0] * 3


# Threads of BLAS.


@pytest.mark.parametrize("threads", [1, 2])
def test_reproducible_bits_do_not_depend_on_threads_of_blas(threads):
    """Large products, which have other bits with two threads."""
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    x = np.random.default_rng(0).standard_normal((4096, 1000), np.float32)
    seen = []

    class Threads(Callback):
        def on_step_end(self, run):
            seen.extend(library.get_num_threads() for library in _blas.libraries())

        on_validation_end = on_step_end

    def trained(threads):
        nn.manual_seed(5)
        model = nn.Sequential(nn.Linear(1000, 10), nn.Tanh(), nn.Linear(10, 1))
        made = optim.SGD(model.parameters(), lr=0.1)
        trainer = Trainer(
            model, nn.MSELoss(), made, reproducible=2, progress=False, callbacks=[Threads()]
        )
        with limits(threads, user_api="blas"):
            before = [library.get_num_threads() for library in _blas.libraries()]
            trainer.fit(x, x[:, :1], max_epochs=1, batch_size=4096, validation_data=(x, x[:, :1]))
            assert [library.get_num_threads() for library in _blas.libraries()] == before
        return left(trainer)

    assert_same(trained(threads), trained(1))
    assert set(seen) == {1}


def test_threads_of_blas_that_cannot_be_set_are_told(monkeypatch):
    monkeypatch.setattr(_blas, "libraries", list)
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.warns(RuntimeWarning, match="'reproducible' needs one thread of NumPy's BLAS"):
        fitted(trainer_of(reproducible=2), max_epochs=1)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    fitted(trainer_of(reproducible=2), max_epochs=1)


@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({}, 1),
        ({"MPI_LOCALNRANKS": "3"}, 3),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2),3", "SLURM_NODEID": "1"}, 4),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2),3", "SLURM_NODEID": "2"}, 3),
        ({"SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_NODEID": "0"}, 2),
        ({"SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_NODEID": "5"}, 1),
    ],
)
def test_processes_on_a_machine(variables, count):
    assert _blas._processes_here(variables) == count
