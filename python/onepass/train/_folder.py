"""The directory of a run of ``onepass train``: its own, never that of another run."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onepass.train import _store

RECORD = "run.json"
FILES = (RECORD, "history.csv", "curves.png", "checkpoints")


class Folder:
    """A directory that one process writes to.

    Without ``out`` it is runs/<name>, or where that holds a run, runs/<name>-2 and so on; a resume
    takes the newest of them that was started with the same options.

    Args:
        name: of the data.
        out: the directory, or None.
        options: of the run; a resume must repeat them, but for the epochs.
        resume: go on with the run that is there.
        overwrite: delete the run that is there.

    Attributes:
        path: the directory.
        note: a sentence for the user, or "".

    Raises:
        ValueError: ``out`` holds another run, or a resume with other options.
        OSError: another process uses it, or it cannot be made.
    """

    def __init__(
        self,
        name: str,
        out: Path | None,
        options: dict[str, Any],
        *,
        resume: bool,
        overwrite: bool,
    ) -> None:
        self._lock: int | None = None
        self.note = ""
        self._options = options
        if resume and overwrite:
            raise ValueError("train: '--overwrite' is given, expected none with --resume")
        if overwrite and out is None:
            raise ValueError("train: '--overwrite' is given, expected --out with it")
        if out is not None and out.exists() and not out.is_dir():
            raise ValueError(f"train: '--out' is {str(out)!r}, expected a directory, not a file")
        if out is not None:
            if not resume and not overwrite and _holds_a_run(out):
                raise ValueError(
                    f"train: '--out' is {str(out)!r}, which holds a run, expected another "
                    "directory (or --resume to go on with it, --overwrite to replace it)"
                )
            self.path = out
            self.path.mkdir(parents=True, exist_ok=True)
        else:
            self.path = self._earlier(name) if resume else self._new(name)
        self._lock = _locked(self.path)
        try:
            self._prepare(resume)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let other processes use the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __del__(self) -> None:
        self.close()

    def _prepare(self, resume: bool) -> None:
        if resume:
            self._refuse_other_options()
            (self.path / "curves.png").unlink(missing_ok=True)  # of the part that was done
        else:
            self._clear()
        self.record(None)

    def record(self, result: dict[str, float] | None) -> None:
        """Write the options and, at the end, the result."""
        document = {"options": self._options} | ({} if result is None else {"result": result})
        text = json.dumps(document, indent=1) + "\n"
        (self.path / RECORD).write_text(text, encoding="utf-8")

    def _new(self, name: str) -> Path:
        """A directory of runs/ that this process has made, or that holds no run."""
        for path in _candidates(name):
            if path.is_dir() and not _holds_a_run(path):
                return path
            try:
                path.mkdir(parents=True)  # fails where another process was faster
            except FileExistsError:
                self.note = f"{path} holds another run; this one "
                continue
            self.note = f"{self.note}goes to {path}" if self.note else ""
            return path
        raise AssertionError("names do not end")

    def _earlier(self, name: str) -> Path:
        """The newest run with these options; else the first name."""
        there = list(itertools.takewhile(Path.is_dir, _candidates(name)))
        same = [path for path in there if self._other_option(path) is None and _holds_a_run(path)]
        path = (same or [next(_candidates(name))])[-1]
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _refuse_other_options(self) -> None:
        other = self._other_option(self.path)
        if other is not None and other[0] == "contents":
            raise ValueError(
                f"{self.path} was started with other contents of {self._options['data']}; --resume "
                "cannot go on with these"
            )
        if other is not None:
            name, before = other
            raise ValueError(
                f"{self.path} was started with {name}={before!r}; --resume cannot go on with "
                f"{self._options[name]!r}"
            )

    def _other_option(self, path: Path) -> tuple[str, Any] | None:
        """The first option, but for the epochs, that the run in ``path`` had otherwise."""
        record = path / RECORD
        if not record.is_file():
            return None
        try:
            before = json.loads(record.read_text(encoding="utf-8"))["options"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{record} is damaged: {error}") from error
        return next(
            (
                (name, before.get(name))
                for name, value in self._options.items()
                if name != "epochs" and before.get(name, value) != value
            ),
            None,
        )

    def _clear(self) -> None:
        for checkpoint in _store.checkpoints(self.path / "checkpoints"):
            _store.retire(checkpoint)
        for name in FILES[:-1]:
            (self.path / name).unlink(missing_ok=True)


def _candidates(name: str) -> Iterator[Path]:
    """runs/name, runs/name-2, …"""
    runs = Path("runs")
    return itertools.chain([runs / name], (runs / f"{name}-{n}" for n in itertools.count(2)))


def _holds_a_run(path: Path) -> bool:
    return any((path / name).exists() for name in FILES)


def _locked(path: Path) -> int | None:
    """A descriptor of the directory, locked as long as this process lives.

    None where the system has no such locks.
    """
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise OSError(f"{path} is in use by another process that trains") from None
        return None  # a file system without locks
    return descriptor
