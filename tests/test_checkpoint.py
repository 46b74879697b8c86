"""Checkpoints on disk: their contents, damaged and forged ones, writes cut short, wrong loads."""

import json
import math
import os
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
from onepass import nn, optim
from onepass.optim import lr_scheduler
from onepass.train import Callback, Checkpoint, CheckpointError, EarlyStopping, Trainer, _store
from onepass.train._checkpoint import newest
from small_training import STEPS, everything, fit, flat, make, network, uninterrupted


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


# Damaged and forged.

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


# Writes cut short.


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


# Contents and places of checkpoints.

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
        scheduler = lr_scheduler.CosineAnnealingLR(optimizer, STEPS, interval="step")
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
    with pytest.raises(ValueError, match="that of a CosineAnnealingLR"):
        fit(trainer, ckpt_path=saved)
    assert everything(trainer) == before
    with pytest.raises(NotADirectoryError):
        fit(make(), ckpt_path=__file__)


class Holds(Callback):
    def __init__(self, value):
        self.value = value

    def state_dict(self):
        return {"value": self.value}


@pytest.mark.parametrize("value", [
    np.ones(2, np.longdouble), np.longdouble(1), np.ones(2, np.clongdouble), np.array(["a", "b"]),
    np.array([1, None]), np.datetime64("2020-01-01"), np.zeros(2, [("a", "f4")]),
    np.ma.masked_equal([1.0, 2.0], 2), {1, 2}, b"x", 1j,
], ids=repr)  # fmt: skip
def test_a_state_that_no_checkpoint_can_hold_is_named_and_leaves_the_old_ones(tmp_path, value):
    whole = make().save(tmp_path)
    with pytest.raises(TypeError, match=r"callbacks\.Holds\.value: an? .* cannot be kept in a che"):
        make([Holds(value)]).save(tmp_path)
    assert _store.checkpoints(tmp_path) == [whole]
    assert newest(tmp_path) is not None
