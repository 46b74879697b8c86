"""Paths that users give, and errors of the file system that name the file."""

from __future__ import annotations

import glob
import itertools
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

from onepass._one_thread import Lock
from onepass._paths import expanded

GLANCES = (0.001, 0.01, 0.04)  # seconds, between tries to lock a folder


def path_of(owner: str, name: str, value: Any) -> Path:
    """``value`` as a path, with ``~`` expanded.

    Raises:
        TypeError: it is not a path. ValueError: it is empty.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{owner}: {name!r} is {value!r}, expected a path")
    if not os.fspath(value):
        raise ValueError(f"{owner}: {name!r} is {value!r}, expected a path")
    return expanded(value, f"{owner}: {name!r}")


_writing: WeakValueDictionary[Path, Any] = WeakValueDictionary()  # place → the run of a fit
_lock = Lock()


def claim(owner: str, name: str, place: Path, run: Any) -> None:
    """Refuse a place that another fit of this process, which is not over, writes to.

    Raises:
        RuntimeError: there is one.
    """
    with _lock:
        other = _writing.setdefault(place.resolve(), run)
        if other is run or not other.fitting:
            _writing[place.resolve()] = run
            return
    raise RuntimeError(
        f"{owner}: {name!r} is {str(place)!r}, to which another fit is writing, expected a place "
        "of its own for each"
    )


def ready_folder(owner: str, name: str, folder: Path, value: Path | None = None) -> None:
    """Make ``folder`` where it is missing and try a file in it, before hours of training.

    Args:
        owner, name, value: of the argument that led to ``folder``, for the message.

    Raises:
        OSError: a file is in the way, or nothing can be written there.
    """
    shown = f"{owner}: {name!r} is {str(value or folder)!r}, expected"
    in_the_way = next((p for p in [folder, *folder.parents] if p.exists()), None)
    if in_the_way is not None and not in_the_way.is_dir():
        raise NotADirectoryError(f"{shown} a directory, and {str(in_the_way)!r} is a file")
    probe = folder / ".tmp-probe"  # always this name: that of a killed process goes with the next
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(b"1")
        finally:
            with suppress(OSError):
                probe.unlink()
    except OSError as error:
        raise _same_kind(error, f"{shown} a place to write to: {error.strerror}") from error


def ready_file(owner: str, name: str, path: Path) -> None:
    """Refuse a path of a file that cannot be written, before hours of training."""
    if path.is_dir():
        raise IsADirectoryError(
            f"{owner}: {name!r} is {str(path)!r}, expected a file, and it is a directory"
        )
    ready_folder(owner, name, path.parent, path)


def put_aside(path: Path) -> Path:
    """Give the file the first free name of ``history.1.csv``, ``history.2.csv``, …"""
    target = path.resolve()  # a link stays one
    number = 1
    while (free := target.with_name(f"{target.stem}.{number}{target.suffix}")).exists():
        number += 1
    os.rename(target, free)
    return free


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """An OSError inside, such as a full disk, has ``path`` as its file name."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def naming(path: Path, kept: str) -> Iterator[None]:
    """An OSError inside says which file could not be written and what is ``kept``."""
    try:
        yield
    except OSError as error:
        file = error.filename or path
        raise _same_kind(error, f"cannot write {file}: {error.strerror}; {kept}") from error


def lock_folder(path: Path, *, shared: bool = False) -> int | None:
    """A descriptor of the directory, locked as long as this process lives.

    None where the system or the file system has no such locks.

    Raises:
        BlockingIOError: another process has the lock.
    """
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = os.open(path, os.O_RDONLY)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        for pause in () if shared else GLANCES:  # of one who asks whether it is in use
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                return descriptor
            time.sleep(pause)
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return descriptor
    except BlockingIOError:
        os.close(descriptor)
        raise BlockingIOError(f"{path} is in use by another process that trains") from None
    except OSError:
        with suppress(OSError):
            os.close(descriptor)
        return None


_numbers = itertools.count()


def _partial(target: Path) -> Path:
    """A name beside ``target`` that no other writer has; those that killed ones have left go."""
    name = f".{target.name}.partial-"
    for path in target.parent.glob(glob.escape(name) + "*-*"):
        writer = path.name.removeprefix(name).split("-")[0]
        if writer.isdecimal() and not alive(int(writer)):
            with suppress(OSError):
                path.unlink()
    return target.with_name(f"{name}{os.getpid()}-{next(_numbers)}")


def alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def replacing(path: Path, what: str, *, sync: bool = True) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` once it is whole.

    A link stays one. A pipe or a device is written, not replaced. Of several that write to one
    path at a time the last to end has it.

    Args:
        what: the file's contents in a word, for messages.
        sync: wait until the bytes are on the disk, so that they outlive a loss of power.

    Raises:
        OSError: the file that could not be written, and what is kept.
    """
    target = path.resolve()
    if target.exists() and not target.is_file() and not target.is_dir():
        with naming(path, f"the {what} is lost"), open(target, "wb") as file:
            yield file
        return
    partial = _partial(target)
    kept = f"the {what} of before is whole" if target.is_file() else f"no {what} was there before"
    with naming(path, kept):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with writing(target), open(partial, "wb") as file:
                yield file
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            if target.exists():
                partial.chmod(stat.S_IMODE(target.stat().st_mode))
            os.replace(partial, target)
        except BaseException as error:
            with suppress(OSError):
                partial.unlink()
            if isinstance(error, OSError):
                error.filename = str(path)
            raise


@contextmanager
def alone_in(folder: Path, seconds: float = 10.0) -> Iterator[None]:
    """Files that belong together are written, and read, without those of another process between
    them, where the system has such locks.

    Args:
        folder: that is there. No file is left in it.
        seconds: after which it goes on nonetheless: what has the lock may be a training.
    """
    last, lock = time.monotonic() + seconds, None
    while time.monotonic() < last:
        try:
            lock = lock_folder(folder)
            break
        except BlockingIOError:
            time.sleep(0.01)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _same_kind(error: OSError, message: str) -> OSError:
    renamed = type(error)(message)
    renamed.errno = error.errno
    return renamed
