"""The trainer: what the loop does, exact resume, checkpoints that survive, callbacks, errors."""

import copy
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from onepass import nn, optim
from onepass.data import DataLoader
from onepass.optim import lr_scheduler
from onepass.train import (
    Callback,
    Checkpoint,
    CheckpointError,
    CSVLogger,
    EarlyStopping,
    LRFinder,
    Profile,
    ProgressBar,
    TerminateOnNaN,
    Trainer,
    _store,
    find_lr,
)
from onepass.train._checkpoint import newest
from onepass.train._losses import MSELoss

GENERATOR = np.random.default_rng(0)
X = GENERATOR.standard_normal((30, 4)).astype(np.float32)
Y = (X[:, 0] + 0.5 * X[:, 1] > 0).astype(np.int64)
VALIDATION = (X[:9] + 0.1, Y[:9])
BATCH, EPOCHS = 8, 3
STEPS = 4 * EPOCHS


def network(seed=0):
    nn.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.4), nn.Linear(6, 2)
    )


def make(callbacks=(), *, scheduled=True, lr=0.02, **options):
    model = network()
    optimizer = optim.AdamW(model.parameters(), lr=lr)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, STEPS) if scheduled else None
    options = {"metrics": ["accuracy"], "progress": False, "scheduler": scheduler, **options}
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=callbacks, **options)


def fit(trainer, **options):
    defaults = {"max_epochs": EPOCHS, "batch_size": BATCH, "validation_data": VALIDATION}
    return trainer.fit(X, Y, **{**defaults, **options})


def everything(trainer):
    """All that a run leaves behind, as bytes and numbers that must be equal.

    To be taken before the next ``make``, which seeds every dropout layer there is anew.
    """
    state = copy.deepcopy(trainer.optimizer.state_dict())
    return {
        "model": {k: v.tobytes() for k, v in trainer.model.state_dict().items()},
        "moments": {
            (i, k): np.asarray(v).tobytes() for i, s in state["state"].items() for k, v in s.items()
        },
        "groups": [{k: v for k, v in g.items() if k != "params"} for g in state["param_groups"]],
        "history": dict(trainer.history),
        "counters": (trainer.epoch, trainer.step, trainer.position, trainer.stop),
        "dropout": nn.get_rng_state(trainer.model)["layers"],
        "schedule": trainer.scheduler and trainer.scheduler.state_dict(),
    }


def uninterrupted(**options):
    trainer = make(**options)
    fit(trainer)
    return everything(trainer)


class KilledError(Exception):
    pass


class StopAt(Callback):
    """What a kill looks like from inside: an exception after a step, or after an epoch."""

    def __init__(self, step=None, epoch=None, error=KilledError):
        self.step, self.epoch, self.error = step, epoch, error

    def on_step_end(self, trainer):
        if trainer.step == self.step:
            raise self.error

    def on_epoch_end(self, trainer):
        if trainer.epoch == self.epoch:
            raise self.error


# The loop.


def test_loop_is_the_plain_loop():
    """Against the same thing written out, bit for bit."""
    trainer = make(max_norm=0.5, seed=0)
    history = fit(trainer, shuffle=True)
    model = network()
    nn.manual_seed(0)
    optimizer = optim.AdamW(model.parameters(), lr=0.02)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    loss_function = nn.CrossEntropyLoss()
    losses = []
    for epoch in range(EPOCHS):
        total = 0.0
        for x, y in DataLoader(X, Y, BATCH, True).batches(epoch):
            loss, dy = loss_function(model(x), y)
            model.backward(dy)
            optimizer.step(max_norm=0.5, zero_grad=True)
            scheduler.step()
            total += float(loss) * len(y)
        losses.append(total / len(Y))
    assert history["loss"] == losses
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(trainer.model.state_dict()[name], value)
    assert trainer.step == STEPS
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy", "lr"]
    assert all(len(values) == EPOCHS for values in history.values())


@pytest.mark.parametrize("max_norm", [None, 0.05])
def test_accumulation_is_the_mean_of_the_batches(max_norm):
    """Without batch statistics, four batches of 5 are one batch of 20; the rest is a step too."""

    def run(batch_size, accumulate):
        nn.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
        optimizer = optim.SGD(model.parameters(), lr=0.5)
        options = {"accumulate": accumulate, "max_norm": max_norm, "progress": False}
        trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, **options)
        trainer.fit(X, Y, max_epochs=2, batch_size=batch_size)
        return trainer

    few, many = run(20, 1), run(5, 4)
    assert few.step == many.step == 4
    for one, other in zip(few.model.parameters(), many.model.parameters(), strict=True):
        np.testing.assert_allclose(one.data, other.data, rtol=1e-4, atol=1e-6)


def test_evaluate_and_predict():
    trainer = make()
    fit(trainer)
    model = trainer.model
    before = everything(trainer)
    found = trainer.evaluate(X, Y, batch_size=7)
    outputs = trainer.predict(X, batch_size=7)
    assert everything(trainer) == before
    assert model.training
    model.eval()
    np.testing.assert_allclose(outputs, model(X), rtol=1e-5, atol=1e-6)
    assert found["loss"] == pytest.approx(float(nn.CrossEntropyLoss()(model(X), Y)[0]), rel=1e-5)
    assert found["accuracy"] == np.mean(outputs.argmax(axis=1) == Y)


def test_own_metrics_and_regression():
    def bias(output, target):
        return float((output - target).mean())

    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 1))
    targets = (X @ np.array([[1.0], [2], [0], [-1]], np.float32)) + 3
    optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    trainer = Trainer(model, MSELoss(), optimizer, metrics=["mse", "mae", bias], progress=False)
    history = trainer.fit(X, targets, max_epochs=120, batch_size=10)
    assert history["loss"][-1] < 1e-3 < history["loss"][0]
    assert history["mse"] == pytest.approx(history["loss"], rel=1e-5)
    found = trainer.evaluate(X, targets)
    error = trainer.predict(X) - targets
    assert found["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-4)
    assert found["bias"] == pytest.approx(error.mean(), rel=1e-4, abs=1e-7)


def test_squared_error():
    y, target = np.array([[1.0], [4.0]], np.float32), np.array([[2.0], [1.0]], np.float32)
    loss, dy = MSELoss()(y, target)
    assert loss == 5.0
    np.testing.assert_array_equal(dy, np.array([[-1.0], [3.0]], np.float32))
    assert dy.dtype == np.float32
    with pytest.raises(ValueError, match=r"\(2,\)"):
        MSELoss()(y, target[:, 0])


def test_validation_split_holds_out():
    seen = []

    class Spy(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(4, 2)

        def forward(self, x):
            if self.training:
                seen.extend(x[:, 0].tolist())
            return self.inner(x)

        def backward(self, dy):
            return self.inner.backward(dy)

    model = Spy()
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
                      progress=False)  # fmt: skip
    history = trainer.fit(X, Y, max_epochs=2, batch_size=8, validation_split=0.2)
    assert len(set(seen)) == 24
    assert len(seen) == 48
    assert len(history["val_loss"]) == 2


def test_a_second_fit_goes_on():
    expected = uninterrupted()
    trainer = make()
    fit(trainer, max_epochs=1)
    fit(trainer)
    assert everything(trainer) == expected


def test_plateau_is_stepped_by_the_epoch():
    trainer = make(scheduled=False)
    trainer.scheduler = lr_scheduler.ReduceLROnPlateau(
        trainer.optimizer, patience=0, threshold=10, threshold_mode="abs"
    )
    history = fit(trainer, max_epochs=4)
    assert trainer.scheduler.last_epoch == 4
    assert history["lr"] == pytest.approx([0.02, 0.02, 0.002, 0.0002])


def test_loader_instead_of_arrays():
    expected = uninterrupted()
    trainer = make()
    loader = DataLoader(X, Y, BATCH, shuffle=True, seed=0)
    trainer.fit(loader, max_epochs=EPOCHS, validation_data=VALIDATION)
    assert everything(trainer) == expected
    assert loader.epoch == 0


# Non-finite numbers.


def poisoned(trainer):
    bad = X.copy()
    bad[DataLoader(X, Y, BATCH, True).order(0)[BATCH]] = np.nan  # the second batch of epoch 0
    return lambda **options: trainer.fit(bad, Y, max_epochs=2, batch_size=BATCH, **options)


def linear(**options):
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 2))
    optimizer = optim.AdamW(model.parameters(), lr=0.02)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.9)
    options = {"progress": False, "scheduler": scheduler, **options}
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, **options)


def test_nonfinite_raises():
    trainer = linear()
    with pytest.raises(FloatingPointError, match="epoch 1, batch 2"):
        poisoned(trainer)()
    assert trainer.step == 1
    assert all(np.isfinite(p.data).all() for p in trainer.model.parameters())


def test_nonfinite_skips_the_step_and_the_schedule():
    trainer = linear(nonfinite="skip")
    history = poisoned(trainer)()
    assert trainer.skipped_steps == 2
    assert trainer.step == 8
    assert trainer.scheduler.last_epoch == 6
    assert np.isfinite(history["loss"]).all()
    assert all(np.isfinite(p.data).all() for p in trainer.model.parameters())


def test_terminate_on_nan():
    trainer = linear(nonfinite="propagate", callbacks=[TerminateOnNaN()])
    poisoned(trainer)()
    assert trainer.step == 2
    assert trainer.stop


def normalised(**options):
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, momentum=None), nn.ReLU())
    optimizer = optim.AdamW(model.parameters(), lr=0.02)
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False, **options)


def buffers(trainer):
    norm = trainer.model[1]
    return [np.copy(getattr(norm, name)) for name in norm.buffer_names]


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("nonfinite", ["skip", "raise"])
def test_running_statistics_forget_a_step_not_taken(nonfinite, accumulate):
    seen = []

    class Watch(Callback):
        def on_epoch_begin(self, trainer):
            seen.append(buffers(trainer))

        def on_step_end(self, trainer):
            seen.append(buffers(trainer))

    trainer = normalised(nonfinite=nonfinite, accumulate=accumulate, callbacks=[Watch()])
    if nonfinite == "raise":
        with pytest.raises(FloatingPointError, match="epoch 1, batch 2"):
            poisoned(trainer)()
        seen.append(buffers(trainer))
    else:
        poisoned(trainer)()
        assert trainer.skipped_steps == 2
    bad = 2 if accumulate == 1 else 1  # where the second batch's step is in the list
    for before, after in zip(seen[bad - 1], seen[bad], strict=True):
        np.testing.assert_array_equal(before, after)
    assert all(np.isfinite(array).all() for array in buffers(trainer))
    assert nonfinite == "raise" or buffers(trainer)[2] > 0


def test_running_statistics_forget_a_gradient_that_is_not_finite():
    """The loss is finite: it is the optimizer that refuses."""

    class Steep(nn.CrossEntropyLoss):
        def __call__(self, y, target):
            loss, dy = super().__call__(y, target)
            return loss, dy * np.float32(np.inf)

    trainer = normalised()
    trainer.loss = Steep()
    before = buffers(trainer)
    with np.errstate(invalid="ignore"), pytest.raises(FloatingPointError, match="gradient"):
        trainer.fit(X, Y, max_epochs=1, batch_size=BATCH)
    for now, then in zip(buffers(trainer), before, strict=True):
        np.testing.assert_array_equal(now, then)


# The dtypes of data.


@pytest.mark.parametrize("dtype", ["float64", "float16", ">f4"])
def test_floating_data_is_brought_to_the_models_dtype(dtype):
    given, exact = X.astype(dtype), X.astype(dtype).astype(np.float32)
    runs = []
    for data in (given, exact):
        trainer = make()
        trainer.fit(data, Y, max_epochs=2, batch_size=BATCH, validation_data=(data[:9], Y[:9]))
        predicted = trainer.predict(data)
        assert predicted.dtype == np.float32
        runs.append((everything(trainer), trainer.evaluate(data, Y), predicted.tobytes()))
    assert runs[0] == runs[1]


def test_targets_of_a_regression_are_brought_to_the_models_dtype():
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 1))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, MSELoss(), optimizer, metrics=["mse"], progress=False)
    trainer.fit(X.astype(np.float64), X[:, :1].astype(np.float64), max_epochs=1)
    assert all(p.grad.dtype == np.float32 for p in model.parameters())


@pytest.mark.parametrize("dtype", [np.int64, bool])
def test_integers_are_not_samples(dtype):
    trainer = make()
    with pytest.raises(TypeError, match="convert"):
        trainer.fit(X.astype(dtype), Y, max_epochs=1, batch_size=BATCH)
    with pytest.raises(TypeError, match="convert"):
        trainer.predict(X.astype(dtype))


# Resume.


@pytest.mark.parametrize("way", ["fit", "load"])
def test_a_resume_takes_the_seed_of_the_checkpoint(tmp_path, way):
    """Neither the batches' order nor the split of validation begins anew."""
    split = {"validation_data": None, "validation_split": 0.3}
    whole = make(seed=4, scheduled=False)
    fit(whole, **split)
    expected = everything(whole)
    fit(make([Checkpoint(tmp_path)], seed=4, scheduled=False), max_epochs=2, **split)
    model = network(9)
    parts = model, nn.CrossEntropyLoss(), optim.AdamW(model.parameters(), lr=0.5)
    options = {"metrics": ["accuracy"], "progress": False}
    if way == "load":
        second = Trainer.load(tmp_path, *parts, **options)
        fit(second, **split)
    else:
        second = Trainer(*parts, **options)
        fit(second, ckpt_path=tmp_path, **split)
    assert second.seed == 4
    assert everything(second) == expected


def test_a_resume_with_another_seed_is_refused(tmp_path):
    fit(make([Checkpoint(tmp_path)], seed=4), max_epochs=1)
    trainer = make(seed=5)
    before = everything(trainer)
    with pytest.raises(ValueError, match=r"seed=5.*seed=4"):
        fit(trainer, ckpt_path=tmp_path)
    assert everything(trainer) == before


@pytest.mark.parametrize(("other", "words"), [
    ({"batch_size": 10}, "batch_size=8.*10"), ({"shuffle": False}, "shuffle=True.*False"),
    ({"drop_last": True}, "drop_last=False.*True"),
])  # fmt: skip
def test_a_resume_with_other_batches_is_told_between_epochs(tmp_path, other, words):
    fit(make([Checkpoint(tmp_path)]), max_epochs=1)
    with pytest.warns(RuntimeWarning, match=words):
        fit(make(), ckpt_path=tmp_path, **other)
    trainer = make()  # without a stop it is what was asked for
    fit(trainer, max_epochs=1)
    fit(trainer, **other)


def test_a_checkpoint_of_an_earlier_version(tmp_path):
    """It has neither the seed nor the modules' classes."""
    expected = uninterrupted()
    fit(make([Checkpoint(tmp_path)]), max_epochs=2)
    (path,) = _store.checkpoints(tmp_path)[-1:]

    def change(state):
        del state["parts"]["trainer"]["seed"], state["parts"]["trainer"]["modules"]

    rewrite(path, change)
    trainer = make()
    fit(trainer, ckpt_path=tmp_path)
    assert everything(trainer) == expected


@pytest.mark.parametrize("accumulate", [1, 3])
def test_resume_at_every_step_is_bitwise_equal(tmp_path, accumulate):
    def trainer(*callbacks):
        return make([EarlyStopping(patience=9), *callbacks], accumulate=accumulate, max_norm=1.0)

    whole = trainer()
    fit(whole)
    expected = everything(whole)
    assert whole.step == (STEPS if accumulate == 1 else 6)
    for step in range(1, whole.step + 1):
        folder = tmp_path / str(step)
        first = trainer(Checkpoint(folder, every_n_steps=step), StopAt(step + 1))
        if step < whole.step:
            with pytest.raises(KilledError):
                fit(first)
        else:
            fit(first)
        nn.manual_seed(1234)
        second = trainer()
        network(7)  # other random numbers drawn meanwhile
        fit(second, ckpt_path=folder)
        assert second.resumed
        assert everything(second) == expected, f"stopped after step {step}"
        assert second.callbacks[0].best == whole.callbacks[0].best


def test_resume_from_loaded_trainer(tmp_path):
    expected = uninterrupted()
    first = make([StopAt(6)])
    with pytest.raises(KilledError):
        fit(first)
    path = first.save(tmp_path / "saved")
    assert path.parent == tmp_path / "saved"
    model = network(3)
    optimizer = optim.AdamW(model.parameters(), lr=0.5)
    second = Trainer.load(
        tmp_path / "saved", model, nn.CrossEntropyLoss(), optimizer, metrics=["accuracy"],
        progress=False, scheduler=lr_scheduler.CosineAnnealingLR(optimizer, STEPS),
    )  # fmt: skip
    fit(second)
    assert everything(second) == expected


def test_resume_of_a_parameter_without_gradients(tmp_path):
    """A branch not used after the resume still counts as it did before."""

    class Branch(nn.Module):
        def __init__(self):
            self.always, self.first = nn.Linear(4, 2), nn.Linear(4, 2)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            self.used = trainer.step < 3
            return self.always(x) + self.first(x) if self.used else self.always(x)

        def backward(self, dy):
            self.always.backward(dy)
            if self.used:
                self.first.backward(dy)

    def build(*callbacks):
        nn.manual_seed(0)
        model = Branch()
        optimizer = optim.AdamW(model.parameters(), lr=0.1)
        return Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=callbacks, progress=False)

    trainer = build()
    fit(trainer)
    expected = everything(trainer)
    trainer = build(Checkpoint(tmp_path, every_n_steps=1), StopAt(6))
    with pytest.raises(KilledError):
        fit(trainer)
    trainer = build()
    fit(trainer, ckpt_path=tmp_path)
    assert everything(trainer) == expected


def test_resume_with_other_batches_is_refused_inside_an_epoch(tmp_path):
    first = make([Checkpoint(tmp_path, every_n_steps=1), StopAt(6)])
    with pytest.raises(KilledError):
        fit(first)
    trainer = make()
    before = everything(trainer)
    with pytest.raises(ValueError, match="batch_size=8"):
        fit(trainer, batch_size=10, ckpt_path=tmp_path)
    assert everything(trainer) == before


def test_resume_after_the_end(tmp_path):
    stopping = EarlyStopping("loss", patience=1, min_delta=100.0)
    first = make([stopping, Checkpoint(tmp_path)])
    fit(first, max_epochs=9)
    expected = everything(first)
    assert first.epoch == 2
    second = make([EarlyStopping("loss", patience=1, min_delta=100.0)])
    fit(second, max_epochs=9, ckpt_path=tmp_path)
    assert second.epoch == 2
    assert everything(second) == expected


@pytest.mark.parametrize("there", [False, True])
def test_fresh_start(tmp_path, there):
    folder = tmp_path / "run"
    if there:
        folder.mkdir()
    expected = uninterrupted()
    trainer = make([Checkpoint(folder)])
    fit(trainer, ckpt_path=folder)
    assert not trainer.resumed
    assert everything(trainer) == expected


def test_killed_processes_resume(tmp_path):
    """kill -9 at arbitrary moments, over and over, until the run is done."""
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_train import *
        folder = sys.argv[1]
        trainer = make([EarlyStopping(patience=9), Checkpoint(folder, every_n_steps=1)])
        print("ready", flush=True)
        fit(trainer, max_epochs=20, ckpt_path=folder)
        trainer.save(folder + "-end")
    """)
    )
    command = [sys.executable, str(script)]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, stdout=subprocess.DEVNULL)
    delays, kills = iter([0.02, 0.05, 0.09, 0.03, 0.07]), 0
    for _ in range(20):
        with subprocess.Popen([*command, str(tmp_path / "cut")], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            try:
                process.wait(next(delays, 60))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
    assert process.returncode == 0
    assert kills
    ends = [newest(tmp_path / f"{name}-end") for name in ("whole", "cut")]
    for part in ("model", "optimizer", "callbacks", "trainer"):
        assert flat(ends[0][part]) == flat(ends[1][part])


def flat(value, path=""):
    if isinstance(value, dict):
        return {k: v for key in value for k, v in flat(value[key], f"{path}.{key}").items()}
    return {path: value.tobytes() if isinstance(value, np.ndarray) else repr(value)}


# Ctrl-C.


@pytest.mark.parametrize("mode", ["signal", "callback"])
def test_interrupt_saves_at_the_end_of_the_step(tmp_path, mode):
    class Press(nn.CrossEntropyLoss):
        calls = 0

        def __call__(self, y, target):
            Press.calls += 1
            if Press.calls == 5:
                signal.raise_signal(signal.SIGINT)
            return super().__call__(y, target)

    whole = make()
    fit(whole, validation_data=None)
    expected = everything(whole)
    callbacks = [Checkpoint(tmp_path, every_n_epochs=50)]
    callbacks += [StopAt(5, error=KeyboardInterrupt)] if mode == "callback" else []
    first = make(callbacks)
    if mode == "signal":
        first.loss = Press()
    with pytest.raises(KeyboardInterrupt):
        fit(first, validation_data=None)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert first.step == 5
    assert [p.name for p in _store.checkpoints(tmp_path)] == ["step_00000005"]
    second = make()
    fit(second, validation_data=None, ckpt_path=tmp_path)
    assert everything(second) == expected


def test_interrupt_at_the_very_end_keeps_the_last_checkpoint(tmp_path):
    """The best weights are back in the model by then: they are not the state to go on from."""

    class Late(Callback):
        def on_fit_end(self, trainer):
            raise KeyboardInterrupt

    expected = uninterrupted(callbacks=[Checkpoint(tmp_path / "whole")])
    first_is_best = EarlyStopping("lr", mode="max", patience=9)
    trainer = make([first_is_best, Late(), Checkpoint(tmp_path / "cut")])
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    last = newest(tmp_path / "cut")
    assert {k: v.tobytes() for k, v in last["model"].items()} == expected["model"]


def test_second_interrupt_is_immediate(tmp_path):
    class Press(nn.CrossEntropyLoss):
        def __call__(self, y, target):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("not reached")

    trainer = make([Checkpoint(tmp_path)])
    trainer.loss = Press()
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    assert trainer.step == 0
    assert not _store.checkpoints(tmp_path)  # the step was cut in the middle: nothing to save


# Checkpoints.


@pytest.fixture
def saved(tmp_path):
    trainer = make([EarlyStopping(), Checkpoint(tmp_path / "run", every_n_steps=5)])
    fit(trainer)
    return tmp_path / "run"


def test_keep_and_best(tmp_path):
    class Scripted(Callback):
        def on_epoch_end(self, trainer):
            trainer.history["loss"][-1] = [3.0, 1.0, 2.0, 4.0, 5.0][trainer.epoch - 1]

    checkpoint = Checkpoint(tmp_path, every_n_epochs=1, keep=2, monitor="loss")
    fit(make([checkpoint, Scripted()]), max_epochs=5)
    names = [p.name for p in _store.checkpoints(tmp_path)]
    assert names == ["step_00000008", "step_00000016", "step_00000020"]
    assert checkpoint.best_path == tmp_path / "step_00000008"
    assert sorted(os.listdir(tmp_path)) == names


def test_contents_are_plain(saved):
    path = _store.checkpoints(saved)[-1]
    names = {"callbacks.npz", "model.npz", "optimizer.npz", "state.json"}
    assert set(os.listdir(path)) == names
    state = json.loads((path / "state.json").read_text())["state"]
    assert state["format"] == 1
    for part, entry in state["files"].items():
        with np.load(path / f"{part}.npz", allow_pickle=False) as archive:
            for key, about in entry["arrays"].items():
                assert str(archive[key].dtype) == about["dtype"]
                assert list(archive[key].shape) == about["shape"]


DAMAGE = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "longer": lambda data: data + b"\0",
    "bit flip": lambda data: data[:200] + bytes([data[200] ^ 4]) + data[201:],
    "other": lambda data: b"\x80\x04\x95 pickle",
    "gone": None,
}


def damage(path, kind):
    if DAMAGE[kind] is None:
        path.unlink()
    else:
        path.write_bytes(DAMAGE[kind](path.read_bytes()))


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("name", ["callbacks.npz", "model.npz", "optimizer.npz", "state.json"])
def test_damaged_newest_falls_back(saved, name, kind):
    *_, older, last = _store.checkpoints(saved)
    damage(last / name, kind)
    expected = uninterrupted(callbacks=[EarlyStopping()])
    trainer = make([EarlyStopping()])
    with pytest.warns(RuntimeWarning, match=f"{last.name}/{name}"):
        fit(trainer, ckpt_path=saved)
    assert everything(trainer) == expected
    damage(older / name, kind)
    with pytest.warns(RuntimeWarning), pytest.raises(CheckpointError, match="none of 2"):
        fit(make([EarlyStopping()]), ckpt_path=saved)


def test_resumed_run_replaces_the_damaged_checkpoint(saved):
    last = _store.checkpoints(saved)[-1]
    damage(last / "model.npz", "empty")
    trainer = make([EarlyStopping(), Checkpoint(saved, every_n_steps=5)])
    with pytest.warns(RuntimeWarning):
        fit(trainer, ckpt_path=saved)
    assert [_store.step_of(p) for p in _store.checkpoints(saved)] == [5, 10]
    assert newest(saved)["trainer"]["step"] == 10


def test_no_byte_can_change_unnoticed(saved):
    path = _store.checkpoints(saved)[-1]
    whole = flat(_store.read(path))
    for file in sorted(path.iterdir()):
        data = file.read_bytes()
        for position in range(0, len(data), 41):
            file.write_bytes(data[:position] + bytes([data[position] ^ 16]) + data[position + 1 :])
            try:
                unchanged = flat(_store.read(path)) == whole
            except CheckpointError as error:
                unchanged = file.name in str(error)
            assert unchanged, f"{file.name}, byte {position}"
        file.write_bytes(data)
    assert flat(_store.read(path)) == whole


def rewrite(path, change):
    """A forged state.json: changed, with its hash made to fit."""
    state = json.loads((path / "state.json").read_text())["state"]
    change(state)
    document = {"sha256": _store._digest(state), "state": state}
    (path / "state.json").write_text(json.dumps(document))


def forge_shape(state):
    state["files"]["model"]["arrays"]["0.weight"]["shape"] = [2**40, 4]


def forge_name(state):
    state["files"]["../model"] = state["files"]["model"]


def forge_format(state):
    state["format"] = 99


def forge_dtype(state):
    state["files"]["model"]["arrays"]["0.weight"]["dtype"] = "object"


@pytest.mark.parametrize("change", [forge_shape, forge_name, forge_format, forge_dtype])
def test_forged_checkpoints_are_refused(saved, change):
    path = _store.checkpoints(saved)[-1]
    rewrite(path, change)
    with pytest.raises(CheckpointError):
        _store.read(path)


def test_deep_and_doubled_json(saved):
    path = _store.checkpoints(saved)[-1]
    for text in ("[" * 100_000, '{"state": {}, "state": {}}', "null", "\0"):
        (path / "state.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"state\.json"):
            _store.read(path)


def test_links_are_not_followed(saved, tmp_path):
    path = _store.checkpoints(saved)[-1]
    shutil.move(path / "model.npz", tmp_path / "elsewhere")
    (path / "model.npz").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"model\.npz"):
        _store.read(path)


class PowerCut(BaseException):
    pass


def cut_power(monkeypatch, after):
    """From the call number ``after`` on, nothing reaches the disk any more."""
    calls = 0

    def guarded(function):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls > after:
                raise PowerCut
            return function(*args, **kwargs)

        return call

    for owner, names in ((os, ("fsync", "rename", "mkdir")), (shutil, ("rmtree",))):
        for name in names:
            monkeypatch.setattr(owner, name, guarded(getattr(owner, name)))


def test_old_or_new_at_every_system_call(tmp_path):
    """A write of one more checkpoint, with retirement of the oldest, cut short at each call."""
    done = False
    for after in range(60):
        folder = tmp_path / str(after)
        for step in (1, 2):
            _store.write(folder, step, parts(step))
        with pytest.MonkeyPatch.context() as patch:
            cut_power(patch, after)
            try:
                _store.write(folder, 3, parts(3))
                _store.retire(_store.checkpoints(folder)[0])
                done = True
            except PowerCut:
                pass
        state = newest(folder)
        assert state["trainer"]["step"] in ((3,) if done else (2, 3))
        np.testing.assert_array_equal(
            state["model"]["w"], parts(state["trainer"]["step"])["model"]["w"]
        )
        _store.clean(folder)
        assert all(name.startswith("step_") for name in os.listdir(folder))
        for path in _store.checkpoints(folder):
            _store.read(path)
        if done:
            break
    assert done
    assert after > 5


def parts(step):
    return {"model": {"w": np.full(7, step)}, "trainer": {"step": step}}


def test_full_disk_leaves_the_old_checkpoint(tmp_path):
    _store.write(tmp_path, 1, parts(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            _store.write(tmp_path, 2, {"model": {"w": np.zeros(1000)}, "trainer": {"step": 2}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["step_00000001"]
    assert newest(tmp_path)["trainer"]["step"] == 1


def test_leavings_of_dead_processes_are_cleaned(tmp_path):
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                             capture_output=True, text=True, check=True)  # fmt: skip
    dead, alive = int(process.stdout), os.getppid()
    for name in (f".tmp-step_1-{dead}", f".trash-step_1-{dead}", f".tmp-step_1-{alive}", "notes"):
        (tmp_path / name).mkdir()
    _store.clean(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [f".tmp-step_1-{alive}", "notes"]


TREES = [
    {"a": [1, 2.5, None, True, "x"], "b": (1, (2,)), "c": {3: "int key", "$x": 1, None: 2}},
    {"nan": math.nan, "inf": [math.inf, -math.inf], "tiny": 5e-324, "big": 2**64 - 1, "e": {}},
    {"f": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "strided": np.arange(9)[::-2]},
    {"scalar": np.float32(0.1), "zero": np.array(3), "empty": np.zeros((0, 2)), "b": np.bool_(1)},
    {"swapped": np.arange(3, dtype=">f4"), "half": np.float16([1, 2]), "a.b": np.ones(1)},
    {"a": {"b": np.zeros(1)}, "a.b": np.ones(2), "a.b~1": np.ones(3), "../../x": np.ones(4)},
]


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: ",".join(map(str, tree)))
def test_any_state_comes_back(tmp_path, tree):
    back = _store.read(_store.write(tmp_path, 1, {"part": tree}))["part"]

    def check(one, other):
        assert type(one) is type(other) or isinstance(one, (np.generic, np.ndarray))
        if isinstance(one, dict):
            assert list(one) == list(other)
            for key in one:
                check(one[key], other[key])
        elif isinstance(one, (list, tuple)):
            assert len(one) == len(other)
            for pair in zip(one, other, strict=True):
                check(*pair)
        elif isinstance(one, (np.ndarray, np.generic)):
            assert one.dtype == other.dtype.newbyteorder(one.dtype.byteorder)
            np.testing.assert_array_equal(one, other, strict=one.dtype.isnative)
        else:
            assert one == other or (one != one and other != other)

    check(tree, back)


def test_bfloat16_state(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.array([1.5, -2, 3e38], ml_dtypes.bfloat16)
    back = _store.read(_store.write(tmp_path, 1, {"model": {"w": array}}))["model"]["w"]
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("value", [{1, 2}, object(), np.array([object()]), 1j])
def test_what_a_checkpoint_cannot_keep(tmp_path, value):
    with pytest.raises((TypeError, ValueError)):
        _store.write(tmp_path, 1, {"part": {"x": value}})
    assert os.listdir(tmp_path) == []


def test_another_runs_directory_is_not_overwritten(saved):
    trainer = make([Checkpoint(saved)])
    with pytest.raises(ValueError, match="another run"):
        fit(trainer)
    assert trainer.step == 0


def test_load_errors(tmp_path, saved):
    def load(folder, model):
        optimizer = optim.AdamW(model.parameters())
        scheduler = lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        return Trainer.load(folder, model, nn.CrossEntropyLoss(), optimizer, scheduler=scheduler)

    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(tmp_path / "nowhere", network())
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load(tmp_path / "empty", network())
    other = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    before = {k: v.tobytes() for k, v in other.state_dict().items()}
    with pytest.raises(ValueError, match="does not fit"):
        load(saved, other)
    assert {k: v.tobytes() for k, v in other.state_dict().items()} == before
    smooth = nn.Sequential(*[nn.GELU() if type(m) is nn.ReLU else m for m in network()])
    before = {k: v.tobytes() for k, v in smooth.state_dict().items()}
    with pytest.raises(ValueError, match="module '2' is GELU here and ReLU in the checkpoint"):
        load(saved, smooth)
    assert {k: v.tobytes() for k, v in smooth.state_dict().items()} == before
    with pytest.raises(ValueError, match="scheduler"):
        fit(make(scheduled=False), ckpt_path=saved)
    trainer = make(scheduled=False, lr=0.3)
    trainer.scheduler = lr_scheduler.StepLR(trainer.optimizer, 5)
    before = everything(trainer)
    with pytest.raises(ValueError, match="state_dict of CosineAnnealingLR"):
        fit(trainer, ckpt_path=saved)
    assert everything(trainer) == before
    with pytest.raises(NotADirectoryError):
        fit(make(), ckpt_path=__file__)


# EarlyStopping.


class Script(Callback):
    """Writes the monitored values, and marks the model's weights with the epoch."""

    def __init__(self, values):
        self.values = values

    def on_epoch_end(self, trainer):
        trainer.history["loss"][-1] = self.values[trainer.epoch - 1]
        next(iter(trainer.model.parameters())).data[...] = trainer.epoch


NAN = math.nan
STOPPING = [
    # values, options, epochs run, best epoch
    ([5, 4, 3, 3, 3, 2], {"patience": 2}, 5, 3),
    ([5, 4, 3, 3, 3, 2], {"patience": 3}, 6, 6),
    ([1, 2, 0, 0, 0, 0], {"patience": 1}, 2, 1),
    ([1, 2, 0, 0, 0, 0], {"patience": 0}, 2, 1),
    ([5, 4.9, 4.8, 4.7, 4.4, 9], {"patience": 3, "min_delta": 0.5}, 4, 1),
    ([5, 4.9, 4.8, 4.4, 4.3, 9], {"patience": 3, "min_delta": 0.5}, 6, 4),
    ([1, 2, 3, 2, 2, 9], {"patience": 2, "mode": "max"}, 5, 3),
    ([NAN, 3, NAN, NAN, 1, 1], {"patience": 2}, 4, 2),
    ([NAN, NAN, 1, 1, 1, 1], {"patience": 2}, 2, 0),
]


@pytest.mark.parametrize(("values", "options", "epochs", "best"), STOPPING, ids=repr)
@pytest.mark.parametrize("restore", [True, False])
def test_early_stopping(values, options, epochs, best, restore):
    stopping = EarlyStopping("loss", restore_best_weights=restore, **options)
    trainer = make([Script(values), stopping])
    fit(trainer, max_epochs=6)
    assert trainer.epoch == epochs
    assert stopping.best_epoch == best
    assert stopping.stopped_epoch == (epochs if trainer.stop else 0)
    assert trainer.stop or epochs == 6
    kept = best if restore and best else epochs
    np.testing.assert_array_equal(next(iter(trainer.model.parameters())).data, kept)


def test_best_weights_include_the_running_statistics():
    recorded = {}

    class Record(Callback):
        def on_epoch_end(self, trainer):
            recorded[trainer.epoch] = trainer.model.state_dict()
            trainer.history["val_loss"][-1] = [1.0, 0.5, 2.0][trainer.epoch - 1]

    trainer = make([Record(), EarlyStopping()])
    fit(trainer)
    for name, value in trainer.model.state_dict().items():
        np.testing.assert_array_equal(value, recorded[2][name])
    assert "1.running_mean" in recorded[2]


@pytest.mark.parametrize(("monitor", "values", "best"), [
    ("val_accuracy", [0.2, 0.9, 0.5], 2), ("val_loss", [0.2, 0.9, 0.5], 1),
    ("accuracy", [0.9, 0.2, 0.5], 1),
])  # fmt: skip
def test_auto_mode(monitor, values, best):
    class Record(Callback):
        def on_epoch_end(self, trainer):
            trainer.history[monitor][-1] = values[trainer.epoch - 1]

    stopping = EarlyStopping(monitor, patience=9)
    fit(make([Record(), stopping]))
    assert stopping.best_epoch == best


# The other callbacks.


def test_hooks_and_their_order():
    calls = []

    class Log(Callback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                calls.append(name)
            return super().__getattribute__(name)

    fit(make([Log()]), max_epochs=2)
    epoch = ["on_epoch_begin", *["on_step_end"] * 4, "on_epoch_end"]
    assert calls == ["on_fit_begin", *epoch, *epoch, "on_fit_end"]
    calls.clear()
    with pytest.raises(KilledError):
        fit(make([Log(), StopAt(2)]))
    assert calls == ["on_fit_begin", "on_epoch_begin", "on_step_end", "on_step_end", "on_abort"]


def test_csv_has_every_epoch_once(tmp_path):
    whole = make(log_dir=tmp_path / "whole")
    fit(whole)
    path = tmp_path / "cut" / "history.csv"
    with pytest.raises(KilledError):
        fit(make([CSVLogger(path), Checkpoint(tmp_path / "c", every_n_steps=1), StopAt(10)]))
    assert len(path.read_text().splitlines()) == 3
    fit(make([CSVLogger(path)]), ckpt_path=tmp_path / "c")
    assert path.read_text() == (tmp_path / "whole" / "history.csv").read_text()
    header, *rows = path.read_text().splitlines()
    assert header == "epoch,loss,accuracy,val_loss,val_accuracy,lr"
    assert [float(row.split(",")[1]) for row in rows] == whole.history["loss"]
    assert [row.split(",")[0] for row in rows] == ["1", "2", "3"]


def test_progress_prints_a_line_an_epoch(capsys):
    fit(make(progress=True))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].split() == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "s"]
    assert [line.split()[0] for line in lines[1:]] == ["1/3", "2/3", "3/3"]


@pytest.mark.parametrize("with_tqdm", [True, False])
def test_progress_on_a_terminal(monkeypatch, tmp_path, with_tqdm):
    if not with_tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    with open(tmp_path / "out", "w+") as file:
        monkeypatch.setattr(ProgressBar, "_stream", property(lambda self: Terminal(file)))
        fit(make([ProgressBar()]))
        file.seek(0)
        assert "epoch 3/3" in file.read()


class Terminal:
    def __init__(self, file):
        self.file = file

    def isatty(self):
        return True

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_plot(tmp_path):
    trainer = make()
    fit(trainer)
    pytest.importorskip("matplotlib")
    trainer.history.plot(tmp_path / "new" / "curves.png")
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_plot_without_matplotlib(monkeypatch, tmp_path):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    trainer = make()
    fit(trainer, max_epochs=1)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        trainer.history.plot(tmp_path / "curves.png")


def test_find_lr_leaves_everything_as_it_was(tmp_path):
    trainer = make(scheduled=False)
    fit(trainer, max_epochs=1)
    before = everything(trainer)
    found = find_lr(trainer, X, Y, min_lr=1e-5, max_lr=30.0, steps=40, batch_size=10)
    assert everything(trainer) == before
    assert found.lrs[0] == pytest.approx(1e-5)
    assert 3 < len(found.lrs) == len(found.losses) <= 40
    assert found.suggestion in found.lrs
    ratios = np.divide(found.lrs[1:], found.lrs[:-1])
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-9)
    pytest.importorskip("matplotlib")
    found.plot(tmp_path / "lr.png")
    assert (tmp_path / "lr.png").exists()
    fit(trainer)
    assert everything(trainer) == uninterrupted(scheduled=False)


def test_find_lr_on_a_fresh_model():
    trainer = make(scheduled=False)
    find_lr(trainer, X, Y, steps=10)
    fit(trainer)
    assert everything(trainer) == uninterrupted(scheduled=False)


def test_training_does_not_seed_what_is_made_later():
    nn.manual_seed(0)
    first = nn.Linear(3, 3).weight.data
    fit(make(), max_epochs=1)
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5))
    after = nn.get_rng_state()["init"]
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False).fit(X, Y, max_epochs=1)
    assert nn.get_rng_state()["init"] == after
    assert not np.array_equal(nn.Linear(3, 3).weight.data, first)


@pytest.mark.parametrize("options", [{"min_lr": 0.0}, {"min_lr": 2.0, "max_lr": 1.0}, {"steps": 2}])
def test_wrong_lr_finder(options):
    with pytest.raises(ValueError, match="expected"):
        LRFinder(**options)


@pytest.mark.parametrize("stop", [None, 7])
def test_profile_measures_and_unwraps(stop):
    from onepass import ops

    originals = np.matmul, ops.bias_act, optim.AdamW.step
    profile = Profile(steps=4, skip=2)
    expected = uninterrupted()
    trainer = make([profile, StopAt(stop)])
    began = time.perf_counter()
    if stop:
        with pytest.raises(KilledError):
            fit(trainer)
    else:
        fit(trainer)
        assert everything(trainer) == expected
    assert (np.matmul, ops.bias_act, type(trainer.optimizer).step) == originals
    assert "step" not in vars(trainer.optimizer)
    assert profile.counted == 4
    assert sum(profile.seconds.values()) < time.perf_counter() - began
    assert all(seconds > 0 for seconds in profile.seconds.values())
    assert len(profile.table().splitlines()) == 6


def test_tensorboard_needs_a_writer(monkeypatch, tmp_path):
    from onepass.train import TensorBoard

    for name in ("tensorboardX", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="pip install tensorboardX"):
        TensorBoard(tmp_path)


# Errors that come early.


def early(words, kind=ValueError, **options):
    build = {k: options.pop(k) for k in list(options) if k in BUILD}
    return pytest.param(build, options, kind, words, id=words)


BUILD = ("callbacks", "metrics", "max_norm", "nonfinite", "accumulate", "optimiser", "metric")


@pytest.mark.parametrize(("build", "options", "kind", "words"), [
    early("did you mean 'batch_size'", TypeError, batchsize=8),
    early("did you mean 'max_epochs'", TypeError, max_epoch=8),
    early("did you mean 'metrics'", TypeError, metric=["accuracy"]),
    early("unknown keyword 'optimiser'", TypeError, optimiser=1),
    early("did you mean 'accuracy'", metrics=["acuracy"]),
    early("metrics has 3", TypeError, metrics=[3]),
    early("metrics is 3", TypeError, metrics=3),
    early("callbacks is 3", TypeError, callbacks=3),
    early("validation_split=1.0", validation_data=None, validation_split=1.0),
    early("validation_split=-0.1", validation_data=None, validation_split=-0.1),
    early("validation_split=nan", validation_data=None, validation_split=math.nan),
    early("validation_split=0.01 of 30", validation_data=None, validation_split=0.01),
    early("validation_split='a'", TypeError, validation_data=None, validation_split="a"),
    early("validation_data: y is None", TypeError, validation_data=(X, None)),
    early("is taken", metrics=["mse", "mse"]),
    early("monitor='val_los'.*did you mean 'val_loss'", callbacks=[EarlyStopping("val_los")]),
    early("val_… needs validation_data", callbacks=[EarlyStopping()], validation_data=None),
    early("monitor='f1'", callbacks=[Checkpoint("x", every_n_epochs=1, monitor="f1")]),
    early("drop_last=True", batch_size=29),
    early("batch_size above 1", batch_size=1),
    early("max_epochs=0", max_epochs=0),
    early("batch_size=0", batch_size=0),
    early("both given", validation_split=0.5),
    early("a pair", TypeError, validation_data=X),
    early("max_norm=0", max_norm=0),
    early("nonfinite='ignore'", nonfinite="ignore"),
    early("accumulate=0", accumulate=0),
])  # fmt: skip
def test_early_errors(build, options, kind, words):
    with pytest.raises(kind, match=words):
        fit(make(**build), **options)


def test_drop_last_is_the_cure():
    fit(make(), batch_size=29, drop_last=True)


def test_wrong_parts():
    model = network()
    optimizer = optim.AdamW(model.parameters())
    loss = nn.CrossEntropyLoss()
    with pytest.raises(TypeError, match=r"nn\.Module"):
        Trainer(lambda x: x, loss, optimizer)
    with pytest.raises(TypeError, match=r"nn\.CrossEntropyLoss\(\)"):
        Trainer(model, nn.CrossEntropyLoss, optimizer)
    with pytest.raises(TypeError, match="optimizer is AdamW"):
        Trainer(model, loss, optim.AdamW)
    other = optim.AdamW([*model.parameters(), *network().parameters()])
    with pytest.raises(ValueError, match=r"parameter 6, .*optim\.AdamW\(model\.parameters\(\)\)"):
        Trainer(model, loss, other)
    Trainer(model, loss, optim.SGD(model[4].parameters()))  # some of them are legal
    with pytest.raises(ValueError, match=r"CrossEntropyLoss\(reduction='mean'\)"):
        Trainer(model, nn.CrossEntropyLoss(reduction="none"), optimizer)
    with pytest.raises(TypeError, match="did you mean 'patience'"):
        EarlyStopping(patient=3)
    with pytest.raises(TypeError, match="did you mean 'every_n_steps'"):
        Checkpoint("x", every_n_step=3)


@pytest.mark.parametrize(("options", "words"), [
    ({"every_n_steps": 1, "every_n_epochs": 1}, "both given"), ({"every_n_steps": 0}, "=0"),
    ({"keep": 0}, "keep=0"), ({"every_n_steps": 2, "monitor": "loss"}, "every_n_epochs"),
    ({"mode": "best"}, "mode='best'"),
])  # fmt: skip
def test_wrong_checkpoints(options, words):
    with pytest.raises(ValueError, match=words):
        Checkpoint("x", **options)


def test_intervals_are_whole_numbers():
    with pytest.raises(TypeError, match=r"every_n_steps=1\.5"):
        Checkpoint("x", every_n_steps=1.5)
    with pytest.raises(TypeError, match=r"patience=0\.5"):
        EarlyStopping(patience=0.5)
    for worst in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="min_delta"):
            EarlyStopping(min_delta=worst)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"callbacks": [3]}, TypeError, "callbacks holds 3"),
        ({"scheduler": 3}, TypeError, "scheduler is 3"),
        ({"accumulate": 1.5}, TypeError, "accumulate=1.5"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"seed": 2**64}, ValueError, "seed=18446744073709551616"),
        ({"device": "tpu"}, ValueError, "device='tpu'"),
    ],
)
def test_helpers_are_looked_at_first(options, error, words):
    model = nn.Sequential(nn.Linear(3, 2))
    optimizer = optim.SGD(model.parameters())
    with pytest.raises(error, match=words):
        Trainer(model, nn.CrossEntropyLoss(), optimizer, **options)


def test_callbacks_from_a_generator():
    trainer = make(callback for callback in [EarlyStopping()])
    assert [type(callback) for callback in trainer.callbacks] == [EarlyStopping]


def test_data_that_are_not_there():
    trainer = make()
    with pytest.raises(ValueError, match=r"predict: X has shape \(0, 4\): no samples"):
        trainer.predict(X[:0])
    with pytest.raises(ValueError, match=r"evaluate: .*no samples"):
        trainer.evaluate(X[:0], Y[:0])
    with pytest.raises(TypeError, match="evaluate: y is None"):
        trainer.evaluate(X, None)
    with pytest.raises(ValueError, match="DataLoader has no y"):
        trainer.fit(DataLoader(X), max_epochs=1)


def test_validation_data_of_another_width_is_refused_before_training():
    model = nn.Sequential(nn.Linear(3, 2))
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters()), progress=False)
    X, y = np.ones((8, 3), np.float32), np.zeros(8, np.int64)
    before = model.state_dict()
    with pytest.raises(ValueError, match="validation_data"):
        trainer.fit(X, y, max_epochs=1, validation_data=(X[:, :2], y))
    with pytest.raises(TypeError, match=r"max_epochs=1\.5"):
        trainer.fit(X, y, max_epochs=1.5)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
