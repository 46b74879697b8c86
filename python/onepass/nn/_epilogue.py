"""How neighbouring layers become one kernel.

Some kernels can go on after their own formula: add a residual, apply an activation, drop. The layer
in front (`Fusable`) gets what follows it as an `Epilogue`; `Sequential` decides what follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from onepass._array import Array
from onepass.nn._module import Module

if TYPE_CHECKING:
    from onepass.nn._activation import Activation
    from onepass.nn._dropout import Dropout


@dataclass(eq=False)
class Epilogue:
    """``y = dropout(activation(z + residual))``, each part optional, for one forward call."""

    activation: Activation | None = None
    dropout: Dropout | None = None
    residual: Array | None = None
    residual_grad: Array | None = None  # written by the layer's backward

    @property
    def empty(self) -> bool:
        return self.activation is None and self.dropout is None and self.residual is None

    def options(self) -> dict[str, Any]:
        """The keyword arguments of the kernel."""
        options: dict[str, Any] = {}
        if self.activation is not None:
            options["activation"] = (self.activation.kernel, self.activation.options())
        if self.dropout is not None and self.dropout.active:
            seed, offset = self.dropout.stream.peek()
            options.update(dropout_p=self.dropout.p, seed=seed, offset=offset)
        if self.residual is not None:
            options["residual"] = self.residual
        return options

    def done(self) -> None:
        """The kernel has run: the dropout layer goes on to its next mask."""
        if self.dropout is not None and self.dropout.active:
            self.dropout.stream.advance()


class Fusable(Module):
    """A module whose last kernel can run an `Epilogue`."""

    def forward(self, x: Array) -> Array:
        return self.fused_forward(x, Epilogue())

    def fused_forward(self, x: Array, epilogue: Epilogue) -> Array:
        """``forward`` and the epilogue; ``backward`` then covers both."""
        raise NotImplementedError

    def epilogue_head(self) -> Fusable | None:
        """The layer inside that would run an epilogue, or None where none can."""
        return self if keeps(self, Fusable, "forward") else None

    def takes_residual(self) -> bool:
        """Whether that kernel can also add a residual."""
        return False

    def can_drop(self) -> bool:
        """Whether the kernel of this head drops in its present mode."""
        return True


def keeps(module: Module, base: type, *methods: str) -> bool:
    """Whether ``module`` has these methods from ``base``: only then may they be bypassed."""
    cls: type = type(module)
    return _inherits(cls, base, methods) and vars(module).keys().isdisjoint(methods)


@lru_cache(maxsize=1024)
def _inherits(cls: type, base: type, methods: tuple[str, ...]) -> bool:
    return all(getattr(cls, name) is getattr(base, name) for name in methods)
