"""Finds leading zeros, and points that may be signs of thousands, over all bytes of a text."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.intp]
Points = tuple[dict[int, str], set[int]]  # by column: the first cell with such a point; the others


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


def is_digit(text: NDArray[np.uint8], places: Positions) -> NDArray[np.bool_]:
    """Whether there are digits at these places."""
    found: NDArray[np.bool_] = text.take(places, mode="clip") - ord("0") < 10  # unsigned
    return found


def groups_at(
    text: NDArray[np.uint8], signs: Positions, size: int = 1
) -> tuple[NDArray[np.bool_], Positions, Positions]:
    """Whether one to three digits stand before each sign, and just three behind.

    Args:
        size: bytes of a sign.

    Returns:
        That, how many digits stand before, and where the first of them is.
    """
    behind = signs + size
    right = is_digit(text, behind) & is_digit(text, behind + 1) & is_digit(text, behind + 2)
    right &= ~is_digit(text, behind + 3)
    one, two, three, four = (is_digit(text, signs - k) for k in (1, 2, 3, 4))
    count = 1 + two * (1 + three.astype(np.intp))
    right &= one & ~(two & three & four)
    return right, count, signs - count


class Marks:
    """A part of a text, whole lines without quotes."""

    def __init__(self, text: str, sep: str) -> None:
        self.bytes = np.frombuffer(f"\n{text}".encode(), np.uint8)
        self.sep = sep

    def zeros(self) -> list[int]:
        """The columns with a cell that begins with a zero and another digit."""
        return _unique(self._columns(leading_zeros(self.bytes, self.sep)))

    def points(self, doubtful: Collection[int], open_: Collection[int]) -> Points:
        """Which columns have points that may be signs of thousands, and which have others.

        Args:
            doubtful: columns that had such a point in an earlier part.
            open_: all columns that count, the doubtful ones among them.
        """
        found = self._found(".")
        group, _, head = groups_at(self.bytes, found)
        behind = self.bytes.take(found + 4, mode="clip") | 32
        group &= (self.bytes[head] != ord("0")) & (behind != ord("e"))
        signs = found[group]
        columns = self._columns(signs)
        which, first = np.unique(columns, return_index=True)
        cells = {int(c): self._cell(signs[n]) for c, n in zip(which, first, strict=True)}
        cells = {place: cell for place, cell in cells.items() if place in open_}
        if not cells and not doubtful:
            return {}, set()
        others = set(_unique(self._columns(found[~group])))
        return cells, others & {*doubtful, *cells}

    def _cell(self, place: Any) -> str:
        """The cell around this place."""
        text = self.bytes.tobytes()
        line = text[text.rfind(b"\n", 0, place) + 1 :].split(b"\n", 1)[0]
        start = place - (text.rfind(b"\n", 0, place) + 1)
        sep = self.sep.encode()
        cell = line[line.rfind(sep, 0, start) + 1 :].split(sep, 1)[0]
        return cell.decode().strip()

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
