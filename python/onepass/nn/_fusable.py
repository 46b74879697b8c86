"""Modules whose last kernel can also run the layers after them; `Sequential` decides which."""

from __future__ import annotations

from typing import Any, ClassVar

from onepass._array import Array
from onepass.nn._epilogue import NOTHING, Epilogue
from onepass.nn._facts import Facts, Read, bypassable
from onepass.nn._module import Module


class Fusable(Module):
    """A module whose last kernel can run an `Epilogue`.

    The methods below that decide take the reader of their attributes: `Facts` remember what was
    read. A subclass that overrides one of ``decides`` runs by itself.
    """

    decides: ClassVar[tuple[str, ...]] = ("backward", "takes_residual", "can_drop")

    @bypassable
    def forward(self, x: Array) -> Array:
        return self.fused_forward(x, NOTHING)

    def fused_forward(self, x: Array, epilogue: Epilogue) -> Array:
        """``forward`` and the epilogue; ``backward`` then covers both."""
        raise NotImplementedError

    def epilogue_head(self, facts: Facts[Any]) -> Fusable | None:
        """The layer inside that would run an epilogue, or None where none can."""
        return self if facts.keeps(self, "__call__", "forward", unwatched=self.decides) else None

    @bypassable
    def takes_residual(self, facts: Facts[Any]) -> bool:
        """Whether that kernel can also add a residual."""
        return False

    @bypassable
    def can_drop(self, read: Read) -> bool:
        """Whether the kernel of this head drops in its present mode."""
        return True

    def takes_gradient(self, facts: Facts[Any]) -> bool:
        """Whether its first kernel can add another gradient of x to its own: `backward_onto`."""
        return False

    def backward_onto(self, dy: Array, onto: Epilogue) -> Array:
        """``backward(dy) + onto.residual_grad``, which the kernels before the first may write.

        Where ``onto`` has a residual, the sum takes that gradient's memory.
        """
        raise NotImplementedError
