"""Paths that users give."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | os.PathLike[str], what: str = "the path") -> Path:
    """The path, with ``~`` and ``~name`` as home directories.

    Args:
        path: as given.
        what: it is, for the message: "Checkpoint: 'dir'".

    Raises:
        ValueError: nobody of that name has one, or there is a NUL character in it.
    """
    given = os.fspath(path)
    if "\0" in given:
        raise ValueError(f"{what} is {given!r}, expected a path, without NUL characters")
    found = os.path.expanduser(given)
    home = given.partition("/")[0]
    if found == given and given.startswith("~") and not os.path.lexists(home):
        raise ValueError(
            f"{what} is {given!r}, and no home directory is known for {home!r}, expected a path "
            f"(./{given} is one in this folder)"
        )
    return Path(found)
