"""Which threads train, read and save a model now: training excludes the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

from onepass.nn import _modes

_LOCK = threading.Lock()
_IN_USE: dict[int, _Use] = {}  # by the id of the model, while a call uses it


class _Entry(NamedTuple):
    thread: int
    call: str
    trains: bool


class _Use:
    def __init__(self) -> None:
        self.entries: list[_Entry] = []


@contextmanager
def using(
    model: Any, call: str, *, trains: bool = False, evaluates: bool = False
) -> Iterator[None]:
    """Around a call that trains or reads the model; several threads may read at once.

    Args:
        model: an ``nn.Module``.
        call: its name, for messages.
        trains: whether the call changes the model.
        evaluates: whether it needs evaluation mode.

    Raises:
        RuntimeError: another thread trains the model, or reads it and this call would train it.
    """
    entry = _Entry(threading.get_ident(), call, trains)
    with _LOCK:
        use = _IN_USE.get(id(model)) or _Use()
        _refuse_others(use, entry)
        use.entries.append(entry)
        _IN_USE[id(model)] = use
    try:
        with _modes.evaluation(model) if evaluates else nullcontext():
            yield
    finally:
        with _LOCK:
            use.entries.remove(entry)
            if not use.entries:
                del _IN_USE[id(model)]


def _refuse_others(use: _Use, entry: _Entry) -> None:
    for other in use.entries:
        if other.thread != entry.thread and (other.trains or entry.trains):
            raise RuntimeError(
                f"{entry.call}: another thread is in {other.call} with this model, expected one "
                "thread while a model is trained; wait for it, or give each thread a copy "
                "(copy.deepcopy(trainer))"
            )
