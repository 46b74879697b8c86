"""In which columns of a part of a text certain characters stand, over all its bytes at once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.intp]


class Marks:
    """A part of a text, whole lines without quotes."""

    def __init__(self, text: str, sep: str) -> None:
        self.bytes = np.frombuffer(f"\n{text}".encode(), np.uint8)
        self.sep = sep

    def zeros(self) -> list[int]:
        """The columns with a cell that begins with a zero and another digit."""
        text = self.bytes
        before, first, second = text[:-2], text[1:-1], text[2:]
        found = first == ord("0")
        found &= (second - ord("0")) < 10  # unsigned: what comes before "0" is large
        borders = before == ord(self.sep)
        for border in "\n\t ":
            borders |= before == ord(border)
        found &= borders
        return _unique(self._columns(np.flatnonzero(found)))

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
