"""Callbacks: the hooks' order, EarlyStopping, CSV, progress, LRFinder, Profile, TensorBoard."""

import math
import sys
import time

import numpy as np
import pytest
from onepass import optim
from onepass.train import (
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    LRFinder,
    Profile,
    ProgressBar,
    find_lr,
)
from small_training import KilledError, StopAt, X, Y, everything, fit, make, uninterrupted


def test_hooks_and_their_order():
    calls = []

    class Log(Callback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                calls.append(name)
            return super().__getattribute__(name)

    fit(make([Log()]), max_epochs=2)
    steps = ["on_before_step", "on_step_end"] * 4
    epoch = ["on_epoch_begin", *steps, "on_validation_end", "on_epoch_end"]
    assert calls == ["on_fit_begin", *epoch, *epoch, "on_fit_end"]
    calls.clear()
    with pytest.raises(KilledError):
        fit(make([Log(), StopAt(2)]))
    assert calls == ["on_fit_begin", "on_epoch_begin", *steps[:4], "on_abort"]


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


# Output: files and the console.


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


def test_tensorboard_needs_a_writer(monkeypatch, tmp_path):
    from onepass.train import TensorBoard

    for name in ("tensorboardX", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="pip install tensorboardX"):
        TensorBoard(tmp_path)


# LRFinder.


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


@pytest.mark.parametrize("options", [{"min_lr": 0.0}, {"min_lr": 2.0, "max_lr": 1.0}, {"steps": 2}])
def test_wrong_lr_finder(options):
    with pytest.raises(ValueError, match="expected"):
        LRFinder(**options)


# Profile.


@pytest.mark.parametrize("stop", [None, 7])
def test_profile_measures_and_unwraps(stop):
    from onepass import ops

    originals = np.matmul, np.dot, ops.bias_act, optim.AdamW.step
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
    assert (np.matmul, np.dot, ops.bias_act, type(trainer.optimizer).step) == originals
    assert "step" not in vars(trainer.optimizer)
    assert profile.counted == 4
    assert sum(profile.seconds.values()) < time.perf_counter() - began
    assert all(seconds > 0 for seconds in profile.seconds.values())
    assert len(profile.table().splitlines()) == 6


@pytest.mark.parametrize(("skip", "counted"), [(0, 12), (2, 10), (11, 1), (12, 1), (99, 1)])
def test_profile_counts_all_steps_but_those_that_warm_up(skip, counted):
    """A training that has no others is timed by its last one."""
    profile = Profile(steps=99, skip=skip)
    fit(make([profile]))
    assert profile.counted == counted
    assert "whole step" in profile.table()


# Arguments of the hooks.


def test_callbacks_and_the_trainer_share_one_run():
    """A hook reads and sets the run; the trainer shows the same attributes under the same names."""
    seen = {}

    class Ask(Callback):
        def on_epoch_end(self, trainer):
            for name, kind in vars(type(owner)).items():
                if type(kind).__name__ == "_OfRun":
                    seen[name] = getattr(trainer, name) is getattr(owner, name)
            seen["predict"] = np.array_equal(trainer.predict(X), owner.predict(X))
            seen["evaluate"] = trainer.evaluate(X, Y) == owner.evaluate(X, Y)
            trainer.stop = True

    owner = make([Ask()])
    fit(owner)
    assert {"history", "epoch", "step", "position", "stop", "lr", "batch_loss"} <= seen.keys()
    assert all(seen.values()), seen
    assert owner.stop
    assert owner.epoch == 1
    owner.max_norm = 0.25
    assert owner.run.max_norm == 0.25
