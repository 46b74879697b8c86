"""Modules whose last kernel goes on with what follows them; `Sequential` decides what follows."""

from __future__ import annotations

from typing import Any

from onepass._array import Array
from onepass.nn._epilogue import NOTHING, Epilogue
from onepass.nn._facts import Facts, Read, bypassable
from onepass.nn._module import Module


class Fusable(Module):
    """A module whose last kernel can run an `Epilogue`.

    The methods below that decide take the reader of their attributes: `Facts` remember what was
    read.
    """

    @bypassable
    def forward(self, x: Array) -> Array:
        return self.fused_forward(x, NOTHING)

    def fused_forward(self, x: Array, epilogue: Epilogue) -> Array:
        """``forward`` and the epilogue; ``backward`` then covers both."""
        raise NotImplementedError

    def epilogue_head(self, facts: Facts[Any]) -> Fusable | None:
        """The layer inside that would run an epilogue, or None where none can."""
        return self if facts.keeps(self, "__call__", "forward") else None

    def takes_residual(self, facts: Facts[Any]) -> bool:
        """Whether that kernel can also add a residual."""
        return False

    def can_drop(self, read: Read) -> bool:
        """Whether the kernel of this head drops in its present mode."""
        return True
