"""Puts a run in the place of another one, once it is whole.

A run that is to replace another is trained in a folder within that run's, ``.new``. When it is done
that folder is renamed, which decides; the rest can be finished after a kill at any moment. Files of
the user stay where they are, and the folder itself is the same one.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from onepass._files import put_aside
from onepass._page import is_page
from onepass.runs._names import CHECKPOINTS, FILES, FOLDS, MODEL, RECORD, REPORT
from onepass.train import _store
from onepass.train._record import read_json

NEW = ".new"
_WHOLE = ".whole"  # what was .new, and is done
_CLEARED = ".taking-the-place"  # the same, when the run of before is gone, but for its model


def is_replacement(folder: Path) -> bool:
    """Whether the run in this folder is to replace the one around it."""
    return folder.name == NEW and holds_a_run(folder.parent)


def holds_a_run(folder: Path) -> bool:
    """Whether there is a file of a run, or one of its folds; a report alone may be of anything."""
    files = (folder / name for name in FILES if name != REPORT)
    return any(path.exists() for path in files) or any(_folds(folder))


def is_foreign(fold: Path) -> bool:
    """Whether something is in the place of a fold, or leads away from it, that no run has made."""
    if any(path.is_symlink() for path in (fold, fold.parent)):
        return True
    if _is_fold(fold) or not fold.exists():
        return False
    return not fold.is_dir() or any((fold / name).exists() for name in FILES)


def take_place(folder: Path) -> None:
    """Replace the run in ``folder`` by the one in its ``.new``, which is done."""
    os.rename(folder / NEW, folder / _WHOLE)
    settle(folder)


def is_settled(folder: Path) -> bool:
    """Whether no replacement was cut short here."""
    return not any((folder / name).is_dir() for name in (_WHOLE, _CLEARED))


def settle(folder: Path) -> None:
    """Finish a replacement that was cut short; the folder must be locked."""
    whole, cleared = folder / _WHOLE, folder / _CLEARED
    if whole.is_dir():
        clear(folder, but=[MODEL])  # which is replaced at once
        os.rename(whole, cleared)
    if cleared.is_dir():
        _move(cleared, folder)


def clear(folder: Path, but: Collection[str] = ()) -> None:
    """Delete the run in a folder; its record last: a kill leaves no files of another run."""
    for fold in list(_folds(folder)):
        clear(fold)
        with suppress(OSError):
            fold.rmdir()
    with suppress(OSError):
        (folder / FOLDS).rmdir()
    _store.clean(folder / CHECKPOINTS)
    for checkpoint in _store.checkpoints(folder / CHECKPOINTS):
        _store.retire(checkpoint)
    for name in FILES:
        theirs = name == REPORT and not is_page(folder / name)
        if name != CHECKPOINTS and name not in but and not theirs:
            (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # not there, or something else is in it
        (folder / CHECKPOINTS).rmdir()


def _folds(folder: Path) -> Iterator[Path]:
    """The folders of folds that a run has made here; nothing that a link leads to."""
    folds = folder / FOLDS
    if folds.is_dir() and not folds.is_symlink():
        yield from (fold for fold in folds.iterdir() if _is_fold(fold))


def _is_fold(folder: Path) -> bool:
    if not folder.name.isdecimal() or folder.is_symlink():
        return False
    try:
        return "fold" in read_json(folder / RECORD)
    except (OSError, ValueError):
        return False


def _move(source: Path, folder: Path) -> None:
    for path in source.iterdir():
        there = folder / path.name
        if path.is_dir() and there.is_dir():
            _move(path, there)
            continue
        if there.exists() and path.name not in FILES:
            put_aside(there)
        os.replace(path, there)
    source.rmdir()
