"""What run.json holds, checked before a page is made of it: any program may have written it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onepass.runs import _scores

TEXT, COUNT, NUMBER = "a text", "a whole number >= 0", "a number"


class WrongEntryError(ValueError):
    """An entry that is not what a run writes."""


def checked(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record, whose entries are of the types that the page expects.

    Raises:
        WrongEntryError: one is not; names it.
    """
    known = _object("run.json", record)
    for name in ("onepass", "started", "finished", "directory", "contents", "verdict"):
        _entry(known, name, TEXT)
    for name in ("best_epoch", "epochs"):
        _entry(known, name, COUNT)
    _listed("'classes'", known.get("classes", []), TEXT)
    for name in ("data", "ended"):
        known[name] = _object(repr(name), known.get(name, {}))
    _object("'result'", known.get("result", {}))
    for name in _scores.NAMES:
        _entry(known.get("result", {}), name, NUMBER, "result")
    _entry(known["data"], "target", TEXT, "data")
    for name in ("rows", "training", "validation", "held_out"):
        _entry(known["data"], name, COUNT, "data")
    for name in ("inputs", "notes"):
        _listed(f"'data' has {name!r}, which", known["data"].get(name, []), TEXT)
    for name in ("how", "why", "where", "when"):
        _entry(known["ended"], name, TEXT, "ended")
    for name in ("epochs", "cv"):
        _entry(known["options"], name, COUNT, "options")
    sessions = _list("'sessions'", known.get("sessions", []))
    known["sessions"] = [_session(session) for session in sessions]
    return known


def _entry(of: Mapping[str, Any], name: str, kind: str, where: str = "") -> None:
    value = of.get(name)
    if value is not None and not _KINDS[kind](value):
        said = f"{where!r} has {name!r}, which" if where else repr(name)
        raise _wrong(said, value, kind)


def _session(value: Any) -> dict[str, Any]:
    session = _object("a session", value)
    _entry(session, "began", TEXT, "sessions")
    _entry(session, "epoch", COUNT, "sessions")
    _entry(session, "epochs", COUNT, "sessions")
    environment = _object("the environment of a session", session.get("environment", {}))
    return {**session, "environment": environment}


def _object(said: str, value: Any) -> dict[str, Any]:
    """Without the entries that are null."""
    if not isinstance(value, dict):
        raise _wrong(said, value, "an object")
    return {name: entry for name, entry in value.items() if entry is not None}


def _list(said: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(said, value, "a list")
    return value


def _listed(said: str, values: Any, kind: str) -> None:
    for value in _list(said, values):
        if not _KINDS[kind](value):
            raise _wrong(said, value, f"a list, each {kind}")


def _wrong(said: str, value: Any, expected: str) -> WrongEntryError:
    return WrongEntryError(f"{said} is {str(value)[:40]!r}, expected {expected}")


def is_number(value: Any) -> bool:
    """Whether it is one that a float holds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, float) or abs(value) < 1 << 1000


_KINDS: dict[str, Callable[[Any], bool]] = {
    TEXT: lambda value: isinstance(value, str),
    COUNT: lambda value: type(value) is int and 0 <= value < 1 << 53,
    NUMBER: is_number,
}
