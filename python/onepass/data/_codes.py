"""Encodes words as integer codes while they are read."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from onepass.data._blocks import GAP
from onepass.data._columns import Words


class Codes(dict[str, int]):
    """Words by their codes, in the order of their first row."""

    def __init__(self) -> None:
        self.parts: list[NDArray[np.int32]] = []

    def __missing__(self, word: str) -> int:
        self[word] = code = len(self)
        return code

    def add(self, words: Iterable[str], count: int) -> None:
        self.parts.append(np.fromiter(map(self.__getitem__, words), np.int32, count))

    def words(self) -> Words:
        """The words stripped, each once."""
        codes = np.concatenate(self.parts) if self.parts else np.empty(0, np.int32)
        names = ["" if word == GAP else word.strip() for word in self]
        if len(set(names)) == len(names):
            return Words(codes, tuple(names))
        stripped = Codes()
        stripped.add(names, len(names))
        return Words(stripped.parts[0][codes], tuple(stripped))
