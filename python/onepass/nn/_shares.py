"""A model that gets a share of a batch, whose other rows go to other models."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from onepass.nn._facts import edits
from onepass.nn._module import Module
from onepass.nn._random import Stream, streams

_known: WeakKeyDictionary[Module, tuple[int, list[Stream]]] = WeakKeyDictionary()


def streams_of(model: Module) -> list[Stream]:
    """As `streams`, at once where no module was edited since the last call: every step asks."""
    count = edits.count
    found = _known.get(model)
    if found is None or found[0] != count:
        found = _known[model] = count, [*streams(model).values()]
    return found[1]


def place(model: Module, first_row: int) -> None:
    """From now on the inputs of ``model`` are rows ``first_row``, ``first_row + 1``, … of a batch.

    Its dropout layers then draw those rows of the batch's mask, so that models that share a batch,
    each at its own place and all at the same call, drop what one model would with the whole batch.
    Samples are along axis 0 of what each of these layers gets. 0 is the place of a whole batch.
    """
    for stream in streams_of(model):
        stream.row = first_row
