"""Choices out of bytes: equal bytes, equal choices. Where they end, all choices are the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def bytes(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken.ljust(count, b"\0")

    def below(self, count: int) -> int:
        return int.from_bytes(self.bytes(1 if count <= 256 else 8), "little") % count

    def of(self, values: Sequence[T]) -> T:
        return values[self.below(len(values))]

    def integer(self, bits: int = 64) -> int:
        """A signed one of so many bits: often small, often at an edge."""
        kind = self.below(4)
        if kind < 2:
            return self.below(7) - (kind and 2)
        if kind == 2:
            edge = 1 << self.below(bits)
            return max(min(edge - self.below(3), 2 ** (bits - 1) - 1), -(2 ** (bits - 1)))
        return int.from_bytes(self.bytes(bits // 8), "little", signed=True)

    def rest(self) -> bytes:
        return self._data[self._at :]
