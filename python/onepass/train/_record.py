"""The folder of a function with ``resume``: one call at a time has it, a file says what it holds.

The file is a JSON object, replaced as a whole: the arguments of the call that began it, as
`_marks.mark` describes them, and what else the function keeps there.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from onepass._files import lock_folder, ready_folder, replacing
from onepass.train._marks import LONGEST

FORMAT = 1
PYTHON = ".".join(map(str, sys.version_info[:2]))  # of which the code of functions is
ELSE = "pass another directory to resume=, or none"
ABSENT = ["not there", ""]  # the mark of what a record lacks


class Record:
    """A folder that this call alone writes to until `close`, and the file that says what it holds.

    Args:
        owner: the function, whose argument ``resume`` is the folder.
        folder: of an earlier call, an empty or a new one.
        name: of the file.

    Attributes:
        held: what the file has; None in a folder that begins.

    Raises:
        ValueError: the folder holds something else, or the file is damaged. OSError: nothing can be
            written there. BlockingIOError: another call uses it.
    """

    def __init__(self, owner: str, folder: Path, name: str) -> None:
        self.owner, self.folder, self.path = owner, folder, folder / name
        self.held: dict[str, Any] | None = None
        self._lock: int | None = None
        if not (folder.resolve() / name).is_file():  # of x/.. too, where x is not there
            self._refuse_others()
        ready_folder(owner, "resume", folder)
        self._lock = self._locked()
        try:
            if self.path.is_file():
                self.held = read(owner, self.path)
        except BaseException:
            self.close()
            raise

    def begin(self, given: Mapping[str, Any], free: Collection[str] = ()) -> None:
        """Go on with the arguments that the folder was begun with, or write them.

        Args:
            given: as `_marks.mark` has them. free: names of those that may differ, which are kept
                as they are now.

        Raises:
            ValueError: another one than before; nothing is changed.
        """
        if self.held is not None:
            self.compare({n: v for n, v in given.items() if n not in free}, self.held)
        self.write({**(self.held or {}), **given})

    def compare(self, given: Mapping[str, Any], held: Mapping[str, Any]) -> None:
        """Refuse arguments other than those that were held.

        Raises:
            ValueError: the first that differs, or is missing.
        """
        given = _as_json(given)
        lacking = next((name for name in given if name not in held), None)
        if lacking is not None:
            raise self.damaged(f"{lacking!r} is missing")
        told = _difference(given, held)
        if told is not None:
            before, why = (self.held or {}).get("python", PYTHON), ""
            if before != PYTHON:
                why = f" (begun with Python {before}; functions have other code in {PYTHON})"
            raise ValueError(f"{self.owner}: {told} as in {self.folder}{why}; {ELSE}")

    def write(self, known: Mapping[str, Any]) -> None:
        """Replace what the file has, where it differs."""
        held = self.held or {}
        known = _as_json({**known, "format": FORMAT, "python": held.get("python", PYTHON)})
        if known != self.held:
            write_json(self.path, f"record of {self.owner}", known)
            self.held = known

    def damaged(self, why: object) -> ValueError:
        """An error to raise for a file that this function cannot have written."""
        return _damaged(self.owner, self.path, why)

    def close(self) -> None:
        """Let others use the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __del__(self) -> None:
        self.close()

    def _refuse_others(self) -> None:
        there = self.folder.resolve()
        if there.is_dir() and any(not path.name.startswith(".") for path in there.iterdir()):
            raise ValueError(
                f"{self.owner}: 'resume' is {str(self.folder)!r}, which holds something else, "
                f"expected a directory of {self.owner}, an empty one or a new one"
            )

    def _locked(self) -> int | None:
        try:
            return lock_folder(self.folder)
        except BlockingIOError as error:
            raise BlockingIOError(
                f"{self.owner}: 'resume' is {str(self.folder)!r}, in which another call trains, "
                "expected one at a time"
            ) from error


def read(owner: str, path: Path) -> dict[str, Any]:
    """What the file of a folder has.

    Raises:
        ValueError: it is damaged, or of a later version.
    """
    try:
        known = read_json(path)
        if not isinstance(known.get("format"), int):
            raise ValueError("'format' is missing")
    except ValueError as error:
        raise _damaged(owner, path, error) from None
    if known["format"] > FORMAT:
        raise ValueError(
            f"{owner}: {path} has the format {known['format']}, expected at most {FORMAT} for this "
            "version"
        )
    return known


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ValueError: it holds something else; the message says what is wrong. OSError: of the file.
    """
    try:
        found = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("too many brackets") from None
    if not isinstance(found, dict):
        raise ValueError("expected an object")
    return found


def write_json(path: Path, what: str, known: Mapping[str, Any]) -> None:
    """Put a JSON object in the place of a file, as a whole.

    Args:
        what: the file's contents in words, for messages.
    """
    with replacing(path, what) as file:
        file.write(f"{json.dumps(known, indent=1)}\n".encode())


def _damaged(owner: str, path: Path, why: object) -> ValueError:
    return ValueError(f"{owner}: {path} is damaged ({why}), expected what {owner} wrote; {ELSE}")


def _as_json(known: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(known))
    return plain


def _difference(given: Mapping[str, Any], held: Mapping[str, Any]) -> str | None:
    """The first argument that is not as it was, in words that "as in FOLDER" ends."""
    for name, now in given.items():
        was = held[name]
        if now == was:
            continue
        if isinstance(now, dict) and isinstance(was, dict):
            part = next(n for n in {**now, **was} if now.get(n, ABSENT) != was.get(n, ABSENT))
            both = now.get(part, ABSENT), was.get(part, ABSENT)
            return _told(f"{part!r} in {name!r}", *both)
        return _told(repr(name), now, was)
    return None


def _told(argument: str, now: Any, was: Any) -> str:
    here, before = _text(now), _text(was)
    if here is None or before is None:
        return f"{argument} is another one, expected the same"
    if here == before:
        return f"{argument} is {here} with other contents, expected the same"
    return f"{argument} is {here}, expected {before},"


def _text(mark: Any) -> str | None:
    """What a message shows of a mark: of ``[text, digest]`` the text, where it is short."""
    if isinstance(mark, list) and len(mark) == 2 and isinstance(mark[1], str):
        text: str | None = mark[0]
        return text
    shown = repr(mark)
    return shown if len(shown) <= LONGEST else None
