"""Ranks that train together do what one process does, to rounding, and all the same."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
from helpers import assert_same as assert_same_bits
from onepass import nn, optim
from onepass.data import DataLoader, augment
from onepass.train import Callback, Checkpoint, CSVLogger, EarlyStopping, Trainer, regularizers
from ranks import run_threads

RNG = np.random.default_rng(3)
N = 37  # not divisible by any number of ranks or batches
X = RNG.standard_normal((N, 5))
Y = (X[:, 0] + 0.4 * X[:, 1] - 0.3 * X[:, 2] > 0).astype(np.int64) + (X[:, 3] > 1)
T = np.stack([X[:, 0] * X[:, 1], X[:, 2] - X[:, 4]], axis=1)
WEIGHT = RNG.uniform(0, 2, N)
CLOSE = {"rtol": 1e-9, "atol": 1e-12}  # of float64, after some 20 steps


def together(size, make, run):
    """``run(make(comm))`` of each rank, in a thread each; all are made first, one by one."""
    one_by_one = threading.Lock()

    def call(comm):
        with one_by_one:  # they seed the random numbers of the process
            made = make(comm)
        comm.barrier()
        return run(made)

    return run_threads(call, size)


def errors_of(size, make, run):
    """Kind and message of the error that each rank has. Who waits for one that has ended by an
    error gets one of its own, some seconds later."""
    meetings = {}

    def made(comm):
        meetings[threading.get_ident()] = comm.meeting
        return make(comm)

    def caught(trainer):
        try:
            run(trainer)
        except Exception as error:
            threading.Timer(5, meetings[threading.get_ident()].barrier.abort).start()
            return f"{type(error).__name__}: {error}"
        return "none"

    return together(size, made, caught)


def network(outputs=3, *, norm=False, dropout=0.0):
    k = {"dtype": "float64"}
    nn.manual_seed(5)
    layers = [nn.Linear(5, 8, **k), nn.Tanh()]
    layers += [nn.BatchNorm1d(8, **k)] * norm
    layers += [nn.Dropout(dropout)] * bool(dropout)
    return nn.Sequential(*layers, nn.Linear(8, outputs, **k))


def trainer_of(comm=None, *, model=None, loss=None, lr=0.02, optimizer=None, **options):
    model = model() if model else network()
    made = (optimizer or optim.AdamW)(model.parameters(), lr=lr)
    options = {"metrics": ["accuracy"], "progress": False, **options}
    loss = loss() if loss else nn.CrossEntropyLoss()
    if "scheduler" in options:
        options["scheduler"] = options["scheduler"](made)
    return Trainer(model, loss, made, parallel=comm, **options)


def fitted(trainer, X=X, y=Y, **options):
    trainer.fit(X, y, **{"max_epochs": 3, "batch_size": 8, **options})
    return trainer


def left(trainer):
    """What a training leaves, as arrays."""
    state = trainer.optimizer.state_dict()["state"]
    moments = {f"{i}.{k}": np.asarray(v) for i, s in state.items() for k, v in s.items()}
    history = {f"history of {k}": np.asarray(v) for k, v in trainer.history.items()}
    counters = np.array([trainer.epoch, trainer.step, trainer.position, trainer.skipped_steps])
    return {**trainer.model.state_dict(), **moments, **history, "counters": counters}


def assert_close(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], err_msg=name, **(tolerance or CLOSE))


def assert_same(a, b):
    """Bit for bit."""
    assert a.keys() == b.keys()
    for name in a:
        assert_same_bits(a[name], b[name], name)


def check(size, fit_options=None, data=(X, Y), **options):
    """All ranks are the same, bit for bit, and what one process has, to rounding."""
    fit_options = fit_options or {}
    alone = left(fitted(trainer_of(**copy.deepcopy(options)), *data, **fit_options))
    ranks = together(
        size,
        lambda comm: trainer_of(comm, **copy.deepcopy(options)),
        lambda trainer: left(fitted(trainer, *data, **fit_options)),
    )
    for rank in ranks[1:]:
        assert_same(ranks[0], rank)
    assert_close(ranks[0], alone)
    return ranks[0]


REGRESSION = {
    "model": lambda: network(2), "loss": nn.MSELoss, "metrics": ["mse", "r2"]
}  # fmt: skip
CASES = {
    "plain": {},
    "clipped": {"max_norm": 0.3},
    "accumulated": {"accumulate": 2, "max_norm": 0.3},
    "a sum": {"loss": lambda: nn.CrossEntropyLoss(reduction="sum"), "lr": 0.002},
    "weights of classes": {"loss": lambda: nn.CrossEntropyLoss(weight=[1.0, 0.2, 3.0])},
    "outputs are kept": {"metrics": ["accuracy", "f1", "auc"]},
    "a penalty of parameters": {"regularizers": [regularizers.L2(0.1), regularizers.L1(0.01)]},
    "dropout": {"model": lambda: network(dropout=0.4)},
    "batch norm": {"model": lambda: network(norm=True)},
    "batch norm and dropout": {"model": lambda: network(norm=True, dropout=0.4)},
    "averages": {"optimizer": lambda p, lr: optim.AdamW(p, lr=lr, ema_decay=0.9)},
}  # fmt: skip


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_ranks_are_one_process(case, size):
    check(size, {"validation_data": (X[:11], Y[:11])}, **CASES[case])


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"sample_weight": WEIGHT},
        {"class_weight": "balanced"},
        {"sample_weight": WEIGHT, "class_weight": {1: 4.0}},
        {"validation_split": 0.25},
        {"batch_size": 2},  # ranks without rows, where there are three
        {"batch_size": N},
        {"shuffle": False},
        {"validation_data": (X[:2], Y[:2])},  # a rank without rows of it
    ],
    ids=str,
)
def test_options_of_fit(options, size):
    check(size, options)


@pytest.mark.parametrize("size", [2, 3])
def test_numbers_and_a_batch_norm_with_few_rows(size):
    check(size, {"batch_size": 6}, (X, T), **REGRESSION)
    model = {"model": lambda: network(2, norm=True, dropout=0.2)}
    check(size, {"batch_size": 6, "sample_weight": WEIGHT}, (X, T), **{**REGRESSION, **model})


@pytest.mark.parametrize("weights", [{}, {"sample_weight": WEIGHT}], ids=["equal", "weighed"])
@pytest.mark.parametrize("size", [2, 3])
def test_penalties_of_batches(size, weights):
    """They are means over the samples of all ranks, with the weight of the loss of all."""
    both = [regularizers.Jacobian(0.1), regularizers.ActivationSparsity(0.05, layers=["1"])]
    check(size, weights, regularizers=both, accumulate=2)
    check(size, {"batch_size": 2, **weights}, regularizers=both)


def test_a_step_that_evaluates_the_loss_several_times():
    """Few iterations: each search of a line multiplies the rounding of the sums before it."""
    options = {"batch_size": N, "max_epochs": 2}

    def lbfgs(p, lr):
        return optim.LBFGS(p, lr=lr, max_iter=4, line_search_fn="strong_wolfe")

    check(3, options, (X, T), lr=1.0, optimizer=lbfgs, **REGRESSION)


@pytest.mark.parametrize("kind", ["loader", "iterable", "generator", "data set"])
def test_data_of_every_kind(kind):
    loader = DataLoader(X, Y, 8, True, seed=1, last_batch="balance")
    pairs = [(x, y) for x, y in zip(X, Y, strict=True)]

    class Batches:  # without a length
        def __iter__(self):
            return (batch for batch in DataLoader(X, Y, 8))

    class Samples:
        def __len__(self):
            return N

        def __getitem__(self, i):
            return pairs[i]

    given = {
        "loader": loader, "iterable": [(X[i : i + 8], Y[i : i + 8]) for i in range(0, N, 8)],
        "generator": Batches(), "data set": Samples(),
    }[kind]  # fmt: skip
    check(3, {}, (given, None))


IMAGES = RNG.uniform(0, 1, (N, 1, 4, 4))


@pytest.mark.parametrize(
    "transform",
    [augment.Mixup(num_classes=3), augment.RandomFlip("horizontal"),
     augment.Compose([augment.GaussianNoise(), augment.CutMix(num_classes=3)])],
    ids=["mixup", "flip", "composed"],
)  # fmt: skip
def test_transforms_see_what_they_see_in_one_process(transform):
    def model():
        nn.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 3, dtype="float64"))

    check(3, {"transform": transform}, (IMAGES, Y), model=model)


def test_a_share_of_a_transform_by_sample_reads_its_rows_alone():
    seen = []

    def shift(X, y, *, seed, epoch, index):
        seen.append(len(index))
        return X + index[:, None] * 0.01, y

    check(3, {"transform": shift, "num_workers": 0}, metrics=[])
    assert set(seen) == {7, 8}  # whole batches, on each rank
    shift.by_sample, seen[:] = True, []
    together(3, lambda c: trainer_of(c), lambda t: fitted(t, transform=shift, num_workers=0))
    assert set(seen) == {2, 3}


# What is not finite.


def test_a_step_is_skipped_everywhere():
    spoilt = X.copy()
    spoilt[5, 2] = np.nan  # on one rank
    result = check(3, {"max_epochs": 2}, (spoilt, Y), nonfinite="skip", max_norm=1.0)
    assert result["counters"][3] == 2
    assert np.isfinite(result["history of loss"]).all()


def test_all_ranks_name_the_sample_that_is_not_finite():
    spoilt = X.copy()
    spoilt[N - 2, 2] = np.nan

    def run(trainer):
        with np.errstate(all="ignore"):
            fitted(trainer, spoilt, Y, shuffle=False, batch_size=N)

    errors = errors_of(3, trainer_of, run)
    assert f"'X' has nan in sample {N - 2} of this batch" in errors[0]
    assert len(set(errors)) == 1


# Callbacks.


class Watch(Callback):
    def __init__(self, stop=None):
        self.stop, self.seen = stop, []

    def on_step_end(self, run):
        self.seen.append((run.step, run.batch_loss, run.comm.rank, run.comm.size))
        if self.stop == (run.comm.rank, run.step):
            run.stop = True


class OnFirst(Watch):
    rank_0_only = True


def test_hooks_are_called_on_all_ranks_or_on_rank_0():
    def make(comm):
        return trainer_of(comm, callbacks=[Watch(), OnFirst()])

    def run(trainer):
        fitted(trainer)
        return [c.seen for c in trainer.callbacks]

    (all_0, first_0), (all_1, first_1) = together(2, make, run)
    assert [s[:2] for s in all_0] == [s[:2] for s in all_1]
    assert {s[2:] for s in all_1} == {(1, 2)}
    assert (first_0, first_1) == (all_0, [])


def test_where_one_rank_is_to_stop_all_do():
    found = together(
        3, lambda c: trainer_of(c, callbacks=[Watch((1, 7))]), lambda t: left(fitted(t))
    )
    assert found[0]["counters"].tolist()[:3] == [1, 7, 2]
    for other in found[1:]:
        assert_same(found[0], other)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stop_that_comes_while_ranks_wait_for_each_other_stops_all(rank):
    """As of a signal handler, or of another thread: after the flags were read, for instance."""

    class Late:
        def __init__(self, comm):
            self.rank, self.size, self.flags = comm.rank, comm.size, 0
            self.comm = comm
            self.broadcast_, self.barrier = comm.broadcast_, comm.barrier

        def __getattr__(self, name):
            return getattr(self.comm, name)

        def sum_(self, array):
            self.comm.sum_(array)
            if self.rank == rank and np.shape(array) == (3,) and array.dtype == np.int64:
                self.flags += 1
                if self.flags == 5:
                    self.trainer.stop = True

    def make(comm):
        late = Late(comm)
        late.trainer = trainer_of(late)
        return late.trainer

    found = together(2, make, lambda t: (left(fitted(t)), t.stop))
    assert [stop for _, stop in found] == [True, True]
    assert found[0][0]["counters"].tolist()[0] < 3
    assert_same(found[0][0], found[1][0])


def test_a_penalty_of_numpy_numbers_is_one_of_all_ranks():
    class Quartic(regularizers.ParameterRegularizer):
        name = "quartic"

        def penalty(self, arrays):
            return np.float32(sum((p**4).sum() for p in arrays)), [4 * p**3 for p in arrays]

    check(2, regularizers=[Quartic(0.1)])


def test_norms_that_the_user_has_converted_keep_their_ranks():
    def make(comm):
        trainer = trainer_of(comm, model=lambda: network(norm=True), reproducible=4)
        nn.convert_sync_batch_norm(trainer.model, comm)
        return trainer

    def run(trainer):
        fitted(trainer)
        return trainer.model[2]._comm is trainer.comm

    assert together(2, make, run) == [True, True]


def test_numbers_that_ranks_log_are_those_of_rank_0():
    class Log(Callback):
        logs = ("rank",)

        def on_step_end(self, run):
            run.log("rank", run.comm.rank)

    found = together(
        2, lambda c: trainer_of(c, callbacks=[Log()]), lambda t: dict(fitted(t).history)
    )
    assert found[0] == found[1]
    assert set(found[0]["rank"]) == {0.0}


def test_early_stopping_and_the_best_weights():
    found = check(
        3,
        {"max_epochs": 30, "validation_data": (X[:9], Y[:9][::-1])},
        callbacks=[EarlyStopping(patience=2)],
    )
    assert found["counters"][0] < 30


def test_rank_0_writes(tmp_path, capsys):
    def make(comm):
        callbacks = [Checkpoint(tmp_path / "points"), CSVLogger(tmp_path / "history.csv")]
        return trainer_of(comm, callbacks=callbacks, progress=True)

    together(3, make, fitted)
    assert len(list((tmp_path / "points").iterdir())) == 3
    assert (tmp_path / "history.csv").read_text().count("\n") == 4
    assert capsys.readouterr().out.count("3/3") == 1


# Checkpoints.


@pytest.mark.parametrize("sizes", [(1, 3), (3, 1), (2, 3)])
@pytest.mark.parametrize("steps", [5, 7])
def test_a_run_goes_on_on_another_number_of_ranks(sizes, steps, tmp_path):
    """At the end of an epoch, and inside one."""
    options = {
        "model": lambda: network(dropout=0.3),
        "metrics": ["accuracy", "f1"],
        "regularizers": [regularizers.L2(0.01)],
    }
    whole = left(fitted(trainer_of(**copy.deepcopy(options))))

    class Kill(Callback):
        def on_step_end(self, run):
            if run.step == steps + 1:
                raise KeyError("killed")

    def begin(comm):
        callbacks = [Kill(), Checkpoint(tmp_path, every_n_steps=1)]
        return trainer_of(comm, callbacks=callbacks, **copy.deepcopy(options))

    if sizes[0] > 1:
        assert set(errors_of(sizes[0], begin, fitted)) == {"KeyError: 'killed'"}
    else:
        pytest.raises(KeyError, fitted, begin(None))
    found = together(
        sizes[1],
        lambda comm: trainer_of(comm, **copy.deepcopy(options)),
        lambda t: (fitted(t, ckpt_path=tmp_path), t.resumed, left(t))[1:],
    )
    assert all(resumed for resumed, _ in found)
    for _, state in found:
        assert_close(state, whole)


def test_all_ranks_save_and_rank_0_writes(tmp_path):
    paths = together(2, trainer_of, lambda t: fitted(t).save(tmp_path))
    assert paths[0] == paths[1] == next(tmp_path.iterdir())


def test_rank_0_reads_what_all_load(tmp_path):
    """The others may see no such folder, or not yet."""
    saved = fitted(trainer_of(model=lambda: network(dropout=0.3)))
    saved.save(tmp_path)

    def load(comm):
        model = network(dropout=0.3)
        made = optim.AdamW(model.parameters(), lr=0.5)
        folder = tmp_path if comm.rank == 0 else tmp_path / "not here"
        options = {"metrics": ["accuracy"], "progress": False, "parallel": comm}
        return Trainer.load(folder, model, nn.CrossEntropyLoss(), made, **options)

    whole = left(fitted(saved, max_epochs=4))
    for found in run_threads(lambda comm: left(fitted(load(comm), max_epochs=4)), 2):
        assert_close(found, whole)


@pytest.mark.filterwarnings("ignore:damaged checkpoint")
def test_a_checkpoint_that_cannot_be_read_is_refused_by_all(tmp_path):
    path = fitted(trainer_of()).save(tmp_path)
    (path / "state.json").write_text("{}")
    errors = errors_of(2, trainer_of, lambda t: fitted(t, ckpt_path=tmp_path))
    assert errors[0] == errors[1]
    assert errors[0].startswith("CheckpointError")
    assert "none of 1" in errors[0]


# The start.


def test_all_ranks_begin_with_the_weights_of_rank_0():
    def make(comm):
        trainer = trainer_of(comm)
        if comm.rank:
            trainer.model.load_state_dict({k: v + 1 for k, v in trainer.model.state_dict().items()})
        return trainer

    alone = left(fitted(trainer_of()))
    for found in together(2, make, lambda t: left(fitted(t))):
        assert_close(found, alone)


def rows_with(rank, array):
    """157 rows of it, one of them other on rank 1."""
    found = np.resize(array, (157, *array.shape[1:]))
    found[1] += rank
    return found


DIFFERENCES = {
    "X, y or sample_weight": (lambda r: {}, lambda r: (X + r, Y), {}),
    "y or sample_weight": (lambda r: {}, lambda r: (rows_with(r, X), rows_with(0, Y)), {}),
    "sample_weight": (lambda r: {}, lambda r: (rows_with(0, X), rows_with(r, Y % 2)), {}),
    "validation_data": (
        lambda r: {}, lambda r: (X, Y),
        lambda r: {"validation_data": (rows_with(r, X), rows_with(0, Y))},
    ),
    "batch_size": (lambda r: {}, lambda r: (X, Y), lambda r: {"batch_size": 8 + r}),
    "max_epochs": (lambda r: {}, lambda r: (X, Y), lambda r: {"max_epochs": 3 + r}),
    "max_norm": (lambda r: {"max_norm": 1.0 + r}, lambda r: (X, Y), {}),
    "lr": (lambda r: {"lr": 0.1 + r}, lambda r: (X, Y), {}),
    "parameters": (lambda r: {"model": lambda: network(3 + r)}, lambda r: (X, Y), {}),
    "callbacks": (
        lambda r: {"callbacks": [EarlyStopping("loss", patience=2 + r)]}, lambda r: (X, Y), {},
    ),
    "metrics": (lambda r: {"metrics": [["accuracy"], ["f1"]][r]}, lambda r: (X, Y), {}),
    "modules": (lambda r: {"model": lambda: network(dropout=0.2 + r / 2)}, lambda r: (X, Y), {}),
    "scheduler": (
        lambda r: {"optimizer": optim.SGD, "scheduler": decaying(0.5 + r / 4)},
        lambda r: (X, Y), {},
    ),
    "loss": (
        lambda r: {"loss": lambda: nn.CrossEntropyLoss(label_smoothing=r / 2)},
        lambda r: (X, Y), {},
    ),
    "optimizer": (
        lambda r: {"optimizer": lambda p, lr: optim.AdamW(list(p)[:: 1 - 2 * r], lr=lr)},
        lambda r: (X, Y), {},
    ),
}  # fmt: skip


def decaying(gamma):
    return lambda optimizer: optim.lr_scheduler.StepLR(optimizer, 5, gamma)


def test_a_rank_that_has_nothing_to_do_is_refused():
    """Others would wait for it: all epochs are done there."""

    def run(trainer):
        fitted(trainer, max_epochs=1)
        fitted(trainer, max_epochs=1 + trainer.comm.rank)

    errors = errors_of(2, trainer_of, run)
    assert errors[0] == errors[1]
    assert "'max_epochs' differs between ranks, 1 on rank 0 and 2 on rank 1" in errors[0]


def test_a_checkpoint_on_some_ranks_is_refused(tmp_path):
    def run(trainer):
        fitted(trainer, ckpt_path=None if trainer.comm.rank else tmp_path)

    errors = errors_of(2, trainer_of, run)
    assert errors[0] == errors[1]
    assert "'ckpt_path' differs between ranks, a path on rank 0 and none on rank 1" in errors[0]


@pytest.mark.parametrize("what", DIFFERENCES)
def test_ranks_that_differ_are_refused(what):
    options, data, fit = DIFFERENCES[what]

    def run(trainer):
        rank = trainer.comm.rank
        fitted(trainer, *data(rank), **(fit(rank) if fit else {}))

    errors = errors_of(2, lambda c: trainer_of(c, **options(c.rank)), run)
    assert errors[0] == errors[1]
    assert "differs between ranks" in errors[0]
    assert what in errors[0]


def test_alone_is_the_plain_loop():
    """The bits of a Trainer without the argument; "auto" is one process here."""
    plain = left(fitted(trainer_of()))
    assert_same(left(fitted(trainer_of("auto"))), plain)
    trainer = trainer_of("auto")
    assert (trainer.comm.rank, trainer.comm.size) == (0, 1)
    assert type(trainer._loop).__name__ == "Loop"


@pytest.mark.parametrize("value", [3, 0, "2", 1.5, object()])
def test_reproducible_is_a_power_of_two(value):
    with pytest.raises((TypeError, ValueError), match="'reproducible' is"):
        trainer_of(reproducible=value)


@pytest.mark.parametrize(("size", "pieces"), [(3, 8), (4, 2)])
def test_ranks_that_cannot_share_the_pieces(size, pieces):
    made = errors_of(size, lambda comm: comm, lambda comm: trainer_of(comm, reproducible=pieces))
    assert all("'reproducible' is" in error and f"{size} ranks" in error for error in made)


REPRODUCIBLE = {
    "plain": {},
    "clipped and accumulated": {"max_norm": 0.3, "accumulate": 2},
    "dropout": {"model": lambda: network(dropout=0.4), "metrics": ["accuracy", "auc"]},
    "penalties": {"regularizers": [regularizers.L2(0.1), regularizers.Jacobian(0.1)]},
    "batch norm": {"model": lambda: network(norm=True), "max_norm": 0.5, "accumulate": 2},
    "batch norm and dropout": {
        "model": lambda: network(norm=True, dropout=0.4), "regularizers": [regularizers.L2(0.1)]
    },
    "float32": {"model": lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))},
}  # fmt: skip


@pytest.mark.parametrize("case", REPRODUCIBLE)
def test_reproducible_has_the_same_bits_on_any_number_of_ranks(case):
    def found(comm=None):
        nn.manual_seed(2)
        options = {**copy.deepcopy(REPRODUCIBLE[case]), "reproducible": True}
        return trainer_of(comm, **options)

    def run(trainer):
        return left(fitted(trainer, validation_data=(X[:11], Y[:11]), sample_weight=WEIGHT))

    alone = run(found())
    for size in (2, 4, 8):
        for rank in together(size, found, run):
            assert_same(rank, alone)
    plain = trainer_of(**copy.deepcopy(REPRODUCIBLE[case]))
    if case != "float32":
        assert_close(alone, run(plain))


def test_reproducible_runs_go_on_with_the_same_bits(tmp_path):
    def make(comm=None, callbacks=()):
        return trainer_of(
            comm, reproducible=4, callbacks=callbacks, model=lambda: network(dropout=0.3)
        )

    whole = left(fitted(make()))

    class Kill(Callback):
        def on_step_end(self, run):
            if run.step == 8:
                raise KeyError("killed")

    errors = errors_of(
        2, lambda c: make(c, [Kill(), Checkpoint(tmp_path, every_n_steps=1)]), fitted
    )
    assert set(errors) == {"KeyError: 'killed'"}
    for found in together(4, make, lambda t: left(fitted(t, ckpt_path=tmp_path))):
        assert_same(found, whole)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"regularizers": [regularizers.Jacobian(0.1)]}, "expected those of parameters alone"),
        ({"model": lambda: nn.Sequential(nn.Linear(5, 3), nn.BatchRenorm(3))}, "is a BatchRenorm"),
        (
            {"model": lambda: nn.Sequential(
                nn.Linear(5, 3), nn.BatchNorm1d(3, track_running_stats=False))},
            "expected track_running_stats=True",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_reproducible_is_refused_before_training(options, match):
    options = {"model": lambda: network(norm=True), **options}
    trainer = trainer_of(reproducible=True, **options)
    with pytest.raises(ValueError, match=match):
        fitted(trainer)
    assert trainer.step == 0
