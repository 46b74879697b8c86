"""Paths that cannot be written: refused before the first step and named; a full disk later too."""

import errno
import os
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onepass
import pytest
from onepass import _files
from onepass.data import load, read_table
from onepass.train import (
    Callback,
    Checkpoint,
    CSVLogger,
    History,
    TensorBoard,
    Trainer,
    _store,
)
from small_training import everything, fit, make, network


@pytest.fixture
def writer(monkeypatch):
    """A tensorboardX that remembers what it opened."""
    opened = []

    class SummaryWriter:
        def __init__(self, log_dir):
            opened.append(self)
            self.log_dir, self.closed = log_dir, False

        def add_scalar(self, *args):
            pass

        def flush(self):
            pass

        def close(self):
            self.closed = True

    module = types.ModuleType("tensorboardX")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    return opened


def of(kind, path):
    """A trainer that writes to ``path``, and the argument that its error names."""
    if kind == "log_dir":
        return make(log_dir=path), "Trainer: 'log_dir'"
    made = {"Checkpoint": Checkpoint, "CSVLogger": CSVLogger, "TensorBoard": TensorBoard}[kind](
        path
    )
    name = {"Checkpoint": "dir", "CSVLogger": "path", "TensorBoard": "log_dir"}[kind]
    return make([made]), f"{kind}: '{name}'"


def refused(trainer, words, error=OSError):
    before = everything(trainer)
    with pytest.raises(error, match=words) as caught:
        fit(trainer)
    assert everything(trainer) == before
    assert trainer.step == 0
    return caught.value


@pytest.mark.parametrize("kind", ["Checkpoint", "log_dir", "TensorBoard"])
def test_a_file_where_a_directory_belongs(tmp_path, writer, kind):
    """Case 16 of the field; the file keeps its text."""
    path = tmp_path / "notes.txt"
    path.write_text("my notes")
    trainer, argument = of(kind, path)
    error = refused(trainer, f"^{argument} is .*notes.txt.*is a file", NotADirectoryError)
    assert str(path) in str(error)
    assert path.read_text() == "my notes"
    assert os.listdir(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize("kind", ["Checkpoint", "CSVLogger", "log_dir", "TensorBoard"])
def test_a_file_among_the_parents(tmp_path, writer, kind):
    (tmp_path / "notes.txt").write_text("my notes")
    trainer, argument = of(kind, tmp_path / "notes.txt" / "runs" / "a")
    refused(trainer, f"^{argument} is .*notes.txt' is a file", NotADirectoryError)


@pytest.mark.parametrize("kind", ["Checkpoint", "CSVLogger", "log_dir", "TensorBoard"])
def test_a_place_where_nothing_can_be_made(writer, kind):
    """/proc stands for a drive that is missing or read-only, for root too."""
    trainer, argument = of(kind, Path("/proc/nowhere/run"))
    refused(trainer, f"^{argument} is '/proc/nowhere/run.*expected a place to write to: No such")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("kind", ["Checkpoint", "CSVLogger", "log_dir", "TensorBoard"])
def test_a_directory_without_permission_or_room(tmp_path, writer, monkeypatch, kind, code):
    def full(self, data):
        self.touch()
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    trainer, argument = of(kind, tmp_path / "run")
    error = refused(trainer, f"^{argument} is .*a place to write to: {os.strerror(code)}")
    assert error.errno == code
    left = [p.name for p in tmp_path.rglob("*")]
    assert left in (["run"], [])
    assert not any(w.closed is False for w in writer)


def test_a_directory_where_the_table_belongs(tmp_path):
    refused(make([CSVLogger(tmp_path)]), "^CSVLogger: 'path'.*it is a directory", IsADirectoryError)


@pytest.mark.parametrize(("value", "error"), [("", ValueError), (3, TypeError), (None, TypeError),
                                              (b"run", TypeError)])  # fmt: skip
def test_no_path_at_all(value, error, writer):
    for kind in (Checkpoint, CSVLogger, TensorBoard):
        with pytest.raises(error, match=f"{kind.__name__}: '.*' is .*expected a path"):
            kind(value)
    with pytest.raises(error, match="save: 'dir' is"):
        make().save(value)
    if value is not None:
        with pytest.raises(error, match="fit: 'ckpt_path' is"):
            fit(make(), ckpt_path=value)
        with pytest.raises(error, match="Trainer: 'log_dir' is"):
            make(log_dir=value)


def test_a_tilde_is_the_home_everywhere(tmp_path, monkeypatch, writer):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    trainer = make([Checkpoint("~/c"), CSVLogger(Path("~/t/h.csv")), TensorBoard("~/b")],
                   log_dir="~/l")  # fmt: skip
    fit(trainer)
    trainer.save("~/s")
    trainer.history.to_csv("~/other.csv")
    fit(make(), ckpt_path="~/c", max_epochs=4)
    model = network(3)
    Trainer.load_weights("~/s", model, which="last")
    assert writer[0].log_dir == str(home / "b")
    assert sorted(os.listdir(home)) == ["b", "c", "l", "other.csv", "s", "t"]
    assert os.listdir(here) == []
    np.testing.assert_array_equal(model[0].weight.data, trainer.model[0].weight.data)


NOBODY = "~nobody_of_this_name/x"


@pytest.mark.parametrize("path", [NOBODY, "~nobody_of_this_name", "a\0b"])
def test_a_path_that_means_nothing_is_refused_before_the_first_step(tmp_path, monkeypatch, path):
    """Without a home for it, ``~name`` would be a folder of that name here."""
    monkeypatch.chdir(tmp_path)
    cure = "NUL characters" if "\0" in path else "no home directory is known for '~nobody_of_thi"
    for refused, words in (
        (lambda: Checkpoint(path), "Checkpoint: 'dir' is"),
        (lambda: CSVLogger(path), "CSVLogger: 'path' is"),
        (lambda: make(log_dir=path), "Trainer: 'log_dir' is"),
        (lambda: make().save(path), "save: 'dir' is"),
        (lambda: fit(make(), ckpt_path=path), "fit: 'ckpt_path' is"),
        (lambda: make().history.to_csv(path), "the path is"),
        (lambda: Trainer.load_weights(path, network(3)), "load_weights: 'dir' is"),
        (lambda: read_table(path), "read_table: 'source' is"),
        (lambda: load(path), "load: 'name_or_path' is"),
        (lambda: onepass.load_run(path), "load_run: 'folder' is"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            refused()
        assert cure in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_begins_with_a_tilde_and_is_there_is_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("~nobody_of_this_name")
    fit(make([Checkpoint(NOBODY)]))
    assert os.listdir(tmp_path / "~nobody_of_this_name" / "x")
    fit(make([Checkpoint("./~other")]))
    assert os.listdir("./~other")


def test_two_checkpoints_in_one_directory_are_refused(tmp_path):
    trainer = make([Checkpoint(tmp_path), Checkpoint(tmp_path / "x" / "..", every_n_steps=2)])
    refused(trainer, "twice in 'callbacks'", ValueError)
    fit(make([Checkpoint(tmp_path / "a"), Checkpoint(tmp_path / "b", every_n_steps=2)]))


WRITERS = {
    "a Checkpoint": lambda place: {"callbacks": [Checkpoint(place / "c")]},
    "a CSVLogger": lambda place: {"callbacks": [CSVLogger(place / "h.csv")]},
    "a log_dir": lambda place: {"log_dir": place / "l"},
}


class Inside(Callback):
    """Begin another fit within the first epoch of this one."""

    def __init__(self, begin):
        self.begin, self.refused = begin, []

    def on_step_end(self, run):
        if run.step == 1:
            try:
                self.begin()
            except RuntimeError as error:
                self.refused.append(str(error))


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "in another thread"])
def test_two_fits_at_once_do_not_write_to_one_place(tmp_path, writer, elsewhere):
    """The second one ended after its first epoch, or both mixed their files."""
    writes = WRITERS[writer]

    def second():
        other = make(writes(tmp_path / "x" / "..").get("callbacks", []),
                     log_dir=writes(tmp_path).get("log_dir"))  # fmt: skip
        if not elsewhere:
            return fit(other)
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(fit, other).result()

    inside = Inside(second)
    options = writes(tmp_path)
    (tmp_path / "x").mkdir()
    first = make([inside, *options.pop("callbacks", [])], **options)
    fit(first)
    (words,) = inside.refused
    assert "to which another fit is writing, expected a place of its own" in words
    if writer != "a Checkpoint":  # whose files now are those of a run that went on
        second()  # the first is over
    options = writes(tmp_path / "of its own")
    inside = Inside(lambda: fit(make(options.get("callbacks", []), log_dir=options.get("log_dir"))))
    fit(make([inside]))
    assert inside.refused == []


class FullDisk(Callback):
    """From a step on, no file gets its bytes on the disk."""

    def __init__(self, monkeypatch, step):
        self.monkeypatch, self.step = monkeypatch, step

    def on_step_end(self, run):
        def sync(handle):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        if run.step == self.step:
            self.monkeypatch.setattr(os, "fsync", sync)


def test_a_full_disk_names_the_file_and_what_is_whole(tmp_path, monkeypatch):
    trainer = make([FullDisk(monkeypatch, 9), Checkpoint(tmp_path)])
    with pytest.raises(OSError, match="No space left") as caught:
        fit(trainer)
    message = str(caught.value)
    assert caught.value.errno == errno.ENOSPC
    assert "model.npz" in message
    assert message.endswith(f"{tmp_path / 'step_00000008'} is whole")
    assert [p.name for p in _store.checkpoints(tmp_path)] == ["step_00000004", "step_00000008"]
    assert len(os.listdir(tmp_path)) == 2
    monkeypatch.undo()
    again = make()
    fit(again, ckpt_path=tmp_path)
    whole = make()
    fit(whole)
    assert again.epoch == whole.epoch == 3


def test_a_full_disk_at_the_first_checkpoint(tmp_path, monkeypatch):
    with pytest.raises(OSError, match=r"cannot write .*; no checkpoint was written before"):
        fit(make([FullDisk(monkeypatch, 1), Checkpoint(tmp_path)]))


def test_a_full_disk_leaves_the_table_of_before(tmp_path, monkeypatch):
    path = tmp_path / "h.csv"
    history = History({"loss": [1.0]})
    history.to_csv(path)
    before = path.read_text()

    def full(partial, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    history.append({"loss": 0.5})
    with pytest.raises(OSError, match=r"cannot write .*h\.csv: No space.*of before is whole"):
        history.to_csv(path)
    assert path.read_text() == before
    assert os.listdir(tmp_path) == ["h.csv"]


def test_a_probe_leaves_nothing(tmp_path):
    _files.ready_folder("X", "dir", tmp_path / "a" / "b")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["a", "a/b"]


def test_writers_of_one_path_do_not_meet_and_the_last_has_it(tmp_path):
    path = tmp_path / "t"
    with _files.replacing(path, "table") as first:
        first.write(b"first")
        with _files.replacing(path, "table") as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["t"]


def test_what_a_killed_writer_has_left_goes_with_the_next(tmp_path):
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                             capture_output=True, text=True, check=True)  # fmt: skip
    others = {f".t.partial-{os.getppid()}-0", ".t.partial-x-0", ".u.partial-1-0", "notes"}
    for name in (f".t.partial-{int(process.stdout)}-3", *others):
        (tmp_path / name).touch()
    with _files.replacing(tmp_path / "t", "table") as file:
        file.write(b"whole")
    assert {*os.listdir(tmp_path)} == {"t", *others}
