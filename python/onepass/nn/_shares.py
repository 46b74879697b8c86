"""A model that gets a share of a batch, whose other rows go to other models."""

from __future__ import annotations

from onepass.nn._module import Module
from onepass.nn._random import streams


def place(model: Module, first_row: int) -> None:
    """From now on the inputs of ``model`` are rows ``first_row``, ``first_row + 1``, … of a batch.

    Its dropout layers then draw those rows of the batch's mask, so that models that share a batch,
    each at its own place and all at the same call, drop what one model would with the whole batch.
    Samples are along axis 0 of what each of these layers gets. 0 is the place of a whole batch.
    """
    for stream in streams(model).values():
        stream.row = first_row
