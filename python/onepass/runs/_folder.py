"""The directory of a run of ``onepass train``: its own, never that of another run."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from onepass._files import lock_folder as _lock
from onepass._files import put_aside, ready_folder
from onepass._paths import expanded
from onepass.runs import _replacing
from onepass.runs._names import (
    CHECKPOINTS,
    FILES,
    FOLDS,
    HELD_OUT,
    HISTORY,
    MODEL,
    PICTURES,
    RECORD,
)
from onepass.runs._replacing import NEW, holds_a_run
from onepass.train import _store
from onepass.train._history import History, is_other_table
from onepass.train._record import read_json, write_json

Contradiction = Callable[[dict[str, Any]], str | None]


class OtherRunError(ValueError):
    """Every run that is there was started with something else."""


class Folder:
    """A directory that this process alone writes to, as long as the object lives.

    ``Folder.new`` makes one for a run that begins, ``Folder.earlier`` opens that of a run to go on
    with.

    Attributes:
        path: the directory.
        record: what run.json holds.
        note: a sentence for the user, or "".
    """

    def __init__(
        self, path: Path, locks: Sequence[int | None], record: dict[str, Any], note: str = ""
    ) -> None:
        self._locks = list(locks)
        self.path = path
        self.record = record
        self.note = note

    @classmethod
    def new(cls, name: str, out: Path | None, *, overwrite: bool = False) -> Folder:
        """``out``, or else runs/<name>, runs/<name>-2, …: the first that holds no run.

        Args:
            overwrite: replace the run that is there, once this one is done: see ``finish``.

        Raises:
            ValueError: ``out`` holds another run. OSError: another process uses it, or nothing can
                be written there.
        """
        if out is None:
            return cls._numbered(name, overwrite)
        if out.exists() and not out.is_dir():
            raise ValueError(f"train: '--out' is {str(out)!r}, expected a directory, not a file")
        if not overwrite and holds_a_run(out.resolve()):  # of x/.. too, where x is not there
            raise ValueError(
                f"train: '--out' is {str(out)!r}, which holds a run, expected another directory "
                "(or --resume to go on with it, --overwrite to replace it)"
            )
        ready_folder("train", "--out", out)
        return cls._beginning(out, _lock(out), overwrite)

    @classmethod
    def _numbered(cls, name: str, overwrite: bool) -> Folder:
        note = ""
        for path in candidates(name):
            if not overwrite and holds_a_run(path):
                note = note or f"{path} holds another run; this one goes to "
                continue
            ready_folder("train", "--out", path)
            try:
                lock = _lock(path)
            except BlockingIOError:
                if overwrite:
                    raise
                continue
            if overwrite or not holds_a_run(path):  # another process may have been faster
                return cls._beginning(path, lock, overwrite, note and f"{note}{path}")
            cls(path, [lock], {}).close()
        raise AssertionError("names do not end")

    @classmethod
    def _beginning(cls, path: Path, lock: int | None, overwrite: bool, note: str = "") -> Folder:
        """A folder for a new run, beside the one that it is to replace."""
        folder = cls(path, [lock], {}, note)
        _replacing.settle(path)
        if not (overwrite and holds_a_run(path)):
            return folder
        folder.path = path / NEW
        folder.path.mkdir(exist_ok=True)
        folder._locks.append(_lock(folder.path))
        _replacing.clear(folder.path)
        folder.note = f"{path} keeps its run until this one is done, in {folder.path}"
        return folder

    @classmethod
    def earlier(cls, name: str, out: Path | None, contradiction: Contradiction) -> Folder | None:
        """``out``, or else the newest run of that name that nothing contradicts; None without any.

        Args:
            contradiction: of a run's record, what of it differs from what was asked for, or None.

        Raises:
            OtherRunError: every run is contradicted. ValueError: run.json is damaged. OSError:
                another process uses the directory.
        """
        if out is not None and out.name == NEW:
            settled(out.parent)
            out = out if out.is_dir() else out.parent  # it has taken its place
        reasons = []
        for path in [out] if out is not None else newest_first(name):
            settled(path)
        for path in [out] if out is not None else newest_first(name):
            if not (path / RECORD).is_file():
                if out is not None and holds_a_run(out):
                    raise ValueError(
                        f"{out}: {RECORD} is missing, expected it with --resume; put it back, or "
                        "train into another folder (--out)"
                    )
                continue
            reason = contradiction(_read(path))
            if reason is not None:
                reasons.append(f"{path} was started with {reason}")
                continue
            _refuse_bare_model(path)
            locks = [_lock(path.parent)] if _replacing.is_replacement(path) else []
            return cls(path, [*locks, _lock(path)], _read(path))
        if reasons:
            raise OtherRunError(reasons[0])
        return None

    def refuse_foreign_folds(self, count: int) -> None:
        """Refuse to train so many folds where something else is in their places.

        Raises:
            ValueError: there is; it stays as it is.
        """
        for number in range(1, count + 1):
            fold = self.whole / FOLDS / str(number)
            if _replacing.is_foreign(fold):
                raise ValueError(
                    f"train: {fold} is not a fold of a run, expected none where --cv writes one; "
                    "move it away, or train into another folder (--out)"
                )

    @classmethod
    def inside(cls, path: Path) -> Folder:
        """A folder within one that is open already; it need not be there yet.

        Raises:
            ValueError: its run.json is damaged.
        """
        return cls(path, [], _read(path) if (path / RECORD).is_file() else {})

    def write(self, **more: Any) -> None:
        """Write run.json with these entries beside those it has; None removes one."""
        self.record = {k: v for k, v in {**self.record, **more}.items() if v is not None}
        write_json(self.path / RECORD, "record of the run", self.record)

    def put_damaged_history_aside(self) -> str:
        """Keep a history.csv that is none under another name: the checkpoint has all its numbers.

        Returns:
            A sentence for the user, or "".
        """
        path = self.path / HISTORY
        try:
            is_other_table(path, History(), "train", "--out")
            return ""
        except ValueError:
            kept = put_aside(path).name
        return f"{path} was damaged: it is {kept} now, and {HISTORY} is written anew"

    def remove_figures(self) -> None:
        """They and the predictions show the part that was done before."""
        for name in (*PICTURES, HELD_OUT):
            with suppress(IsADirectoryError, PermissionError):  # what macOS says of a directory
                (self.path / name).unlink(missing_ok=True)

    @property
    def whole(self) -> Path:
        """The directory of the run, also of one that is trained inside, to replace it."""
        return self.path.parent if _replacing.is_replacement(self.path) else self.path

    def lock(self) -> None:
        """Keep other processes from it.

        Raises:
            BlockingIOError: one uses it.
        """
        self._locks.append(_lock(self.path))

    def finish(self) -> None:
        """Take the place of the run that this one replaces, if it does; ``path`` is then its."""
        if _replacing.is_replacement(self.path):
            inner, self.path = self.path, self.path.parent
            try:
                _replacing.take_place(self.path)
            except BaseException:
                if inner.is_dir():
                    self.path = inner
                raise

    def close(self) -> None:
        """Let other processes use the directory."""
        for lock in self._locks:
            if lock is not None:
                os.close(lock)
        self._locks = []

    def __del__(self) -> None:
        self.close()


def settled(path: Path) -> None:
    """Finish a replacement in the directory that a kill has cut short, if no process is at it."""
    if _replacing.is_settled(path):
        return
    with suppress(OSError):  # a process is at it, or it cannot be written: the old model is there
        lock = _lock(path)
        try:
            _replacing.settle(path)
        finally:
            if lock is not None:
                os.close(lock)


def in_use(path: Path) -> bool | None:
    """Whether a process trains in the directory; None where that cannot be told."""
    try:
        lock = _lock(path, shared=True)  # so that two who ask do not see each other
    except BlockingIOError:
        return True
    except OSError:
        return None
    if lock is None:
        return None
    os.close(lock)
    return False


def is_of_a_run(path: Path) -> bool:
    """Whether the file is, or would be, one that a run keeps in its directory."""
    real = path.resolve()
    if real.name in FILES and holds_a_run(real.parent):
        return True
    return any(f.name == CHECKPOINTS and holds_a_run(f.parent) for f in real.parents)


def doubt_of(folder: str | os.PathLike[str]) -> str | None:
    """Why the run's model may not be its last, or None; a model that was copied alone is."""
    path = expanded(folder)
    try:
        finished = "result" in _read(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return str(error)
    if finished:
        return None
    return f"{folder} is not trained to its end; these are its best weights so far"


def _refuse_bare_model(path: Path) -> None:
    """Refuses a resume without a checkpoint where a model is, which it would replace.

    A kill in the first epoch may leave a model of that epoch alone; it is begun again.
    """
    if not (path / MODEL).exists() or _store.checkpoints(path / CHECKPOINTS):
        return
    history = path / HISTORY
    lines = history.read_bytes().count(b"\n") if history.is_file() else 0
    if "finished" in _read(path) or lines > 2:  # the names, and the first epoch
        raise ValueError(
            f"{path} has a model and no checkpoint to go on from; put {CHECKPOINTS} back, train "
            "into another folder (--out), or start anew with --overwrite"
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        record = read_json(path / RECORD)
        if not isinstance(record.get("options"), dict):
            raise ValueError("expected an object with 'options'")
    except ValueError as error:
        raise ValueError(
            f"{path / RECORD} is damaged ({error}); restore it, or start anew with --overwrite"
        ) from error
    return record


def candidates(name: str) -> Iterator[Path]:
    """runs/name, runs/name-2, …"""
    runs = Path("runs")
    return itertools.chain([runs / name], (runs / f"{name}-{n}" for n in itertools.count(2)))


def newest_first(name: str) -> list[Path]:
    """The directories of runs/ with that name, the highest number first."""
    pattern = re.compile(rf"{re.escape(name)}(?:-(\d+))?")
    runs = Path("runs")
    folders = [path for path in runs.iterdir() if path.is_dir()] if runs.is_dir() else []
    found = [(pattern.fullmatch(path.name), path) for path in folders]
    numbered = [(int(match[1] or 1), path) for match, path in found if match]
    return [path for _, path in sorted(numbered, reverse=True)]
