"""Finds columns with leading zeros in a part of a text, over all its bytes at once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.intp]


def leading_zeros(text: NDArray[np.uint8], sep: str) -> Positions:
    """Where a cell begins with a zero and another digit, after spaces of any kind.

    The text begins with a line end. Every byte of a character beyond ASCII counts as a space, as
    U+00A0 is one: a cell too many is found where it is a letter, and is then read as a word.
    """
    before = text[:-2]
    found = (before - 33) >= 128 - 33  # unsigned: up to a space, or beyond ASCII
    found |= before == ord(sep)
    found &= text[1:-1] == ord("0")
    found &= (text[2:] - ord("0")) < 10  # unsigned: what comes before "0" is large
    zeros: Positions = np.flatnonzero(found) + 1
    ends = zeros - 1
    while True:
        last = text[ends]
        border = (last == ord("\n")) | (last == ord(sep))
        space = ((last <= ord(" ")) | (last >= 128)) & ~border
        kept = border | space
        zeros, ends = zeros[kept], ends[kept]
        if not (space := space[kept]).any():
            return zeros
        ends = ends - space


class Marks:
    """A part of a text, whole lines without quotes."""

    def __init__(self, text: str, sep: str) -> None:
        self.bytes = np.frombuffer(f"\n{text}".encode(), np.uint8)
        self.sep = sep

    def zeros(self) -> list[int]:
        """The columns with a cell that begins with a zero and another digit."""
        return _unique(self._columns(leading_zeros(self.bytes, self.sep)))

    def _found(self, sign: str) -> Positions:
        return np.flatnonzero(self.bytes == ord(sign))

    @cached_property
    def _borders(self) -> tuple[Positions, Positions]:
        """Where the lines begin, and the separators."""
        return self._found("\n"), self._found(self.sep)

    def _columns(self, found: Positions) -> Positions:
        """The column of each of these positions, which increase."""
        if not len(found):
            return found
        ends, seps = self._borders
        lines = ends[np.searchsorted(ends, found, "right") - 1]
        return np.searchsorted(seps, found, "right") - np.searchsorted(seps, lines, "left")


def _unique(places: Iterable[Any]) -> list[int]:
    return [int(place) for place in np.unique(np.asarray(places))]
