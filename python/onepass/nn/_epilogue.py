"""The operations that a kernel can apply after its own formula: residual, activation, dropout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onepass._array import Array
from onepass.ops._declare import Kernel

if TYPE_CHECKING:
    from onepass.nn._dropout import Dropout


@dataclass(eq=False)
class Epilogue:
    """``y = dropout(activation(z + residual))``, each part optional.

    One without a residual serves all calls of a group; a residual belongs to one call.
    """

    activation: Kernel | None = None
    dropout: Dropout | None = None  # of a layer that drops in its present mode
    residual: Array | None = None
    residual_grad: Array | None = None  # written by the backward of the layer

    @property
    def empty(self) -> bool:
        return self.activation is None and self.dropout is None and self.residual is None

    def options(self, x: Array, shape: Sequence[int]) -> dict[str, Any]:
        """The keyword arguments of the kernel; takes a mask, see `refused`.

        Args:
            x: what the layer is called on.
            shape: that of y, with the samples along axis 0.
        """
        options: dict[str, Any] = {}
        if self.activation is not None:
            options["activation"] = self.activation
        if self.dropout is not None:
            stream = self.dropout.stream
            seed, offset = stream.take(x)
            first = stream.first(shape)
            options.update(dropout_p=self.dropout.p, seed=seed, offset=offset, first=first)
        if self.residual is not None:
            options["residual"] = self.residual
        return options

    def refused(self) -> None:
        """The kernel refused its input: its mask is for the next call."""
        if self.dropout is not None:
            self.dropout.stream.give_back()

    def with_residual(self, residual: Array) -> Epilogue:
        return Epilogue(self.activation, self.dropout, residual)


NOTHING = Epilogue()
