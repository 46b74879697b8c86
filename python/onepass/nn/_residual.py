"""A residual connection around a body of layers."""

from __future__ import annotations

from typing import Any

from onepass._array import Array
from onepass.nn._epilogue import Epilogue
from onepass.nn._facts import Facts, bypassable
from onepass.nn._fusable import Fusable
from onepass.nn._group import check_distinct, unfuse
from onepass.nn._module import Module, layout
from onepass.nn._module_list import check_module
from onepass.nn._sequential import Sequential


class Residual(Fusable):
    """``y = shortcut(x) + body(x)``. Source: He et al. 2016.

    Where the body ends in a batch norm, that kernel adds the shortcut, and goes on to an activation
    and a dropout that follow the block. Where it begins with one, that kernel adds the gradient of
    a shortcut ``x`` to its own.

    Args:
        body: modules, as of a `Sequential`.
        shortcut: module; None adds ``x`` itself.
        fuse: False runs each layer by itself.

    Raises:
        TypeError: something is not a `Module`.
        ValueError: the same module twice; in forward, the shapes of the two sides differ.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> block = nn.Residual(nn.Linear(3, 3), nn.BatchNorm1d(3))
        >>> x = np.eye(3, dtype=np.float32)
        >>> bool(np.allclose(block(x) - x, block.body(x)))
        True
    """

    _adds: Facts[tuple[bool, bool]] | None = None  # the last decision, see _decided

    def __init__(self, *body: Module, shortcut: Module | None = None, fuse: bool = True) -> None:
        self.body = Sequential(*body)
        if shortcut is not None:
            check_module("Residual", "shortcut", shortcut)
        self.shortcut = shortcut
        self.fuse = fuse
        check_distinct("Residual", self.modules())
        if not fuse:
            unfuse(self)

    @property
    def adds_in_kernel(self) -> bool:
        return self._decided()[0]

    def _decided(self) -> tuple[bool, bool]:
        """Whether a kernel adds the shortcut, and whether one adds its gradient."""
        facts = self._adds
        if facts is None or not facts.hold():
            facts = Facts()
            facts.value = self._decide(facts), self._decide_backward(facts)
            self._adds = facts  # complete: another thread may read it now
        return facts.value

    def _decide(self, facts: Facts[Any]) -> bool:
        return bool(facts.read(self, "fuse")) and facts.read(self, "body").takes_residual(facts)

    def _decide_backward(self, facts: Facts[Any]) -> bool:
        if not facts.read(self, "fuse") or facts.read(self, "shortcut") is not None:
            return False
        takes: bool = facts.read(self, "body").takes_gradient(facts)
        return takes

    def epilogue_head(self, facts: Facts[Any]) -> Fusable | None:
        if super().epilogue_head(facts) is None or not self._decide(facts):
            return None
        head: Fusable | None = self.body.epilogue_head(facts)
        return head

    def fused_forward(self, x: Array, epilogue: Epilogue) -> Array:
        side = x if self.shortcut is None else self.shortcut(x)
        adds, adds_back = self._decided()
        if adds:
            whole = epilogue.with_residual(side)
            y = self.body.fused_forward(x, whole)
            self._remember((whole, self._others(), adds_back))
            return y
        main = self.body(x)
        if main.shape != side.shape:
            raise ValueError(
                f"Residual: the body gives shape {tuple(main.shape)}, the shortcut "
                f"{tuple(side.shape)}; give a shortcut with the body's shape"
            )
        self._remember((None, self._others(), adds_back))
        return main + side

    def _others(self) -> list[tuple[Module, Any]]:
        """The saved values of sides in another mode than the block."""
        training = self.training
        sides = (self.body,) if self.shortcut is None else (self.body, self.shortcut)
        return [saved for s in sides if s.training != training for saved in s._all_saved()]

    @bypassable
    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        whole, others, adds_back = self.recall()
        for module, value in others:  # a call in their mode may have come in between
            module._remember(value)
        if adds_back and need_input_grad:
            return self.body.backward_onto(dy, whole or Epilogue(residual_grad=dy))
        main = self.body.backward(dy, need_input_grad=need_input_grad)
        side = dy if whole is None else whole.residual_grad
        if self.shortcut is not None:
            side = self.shortcut.backward(side, need_input_grad=need_input_grad)
        return main + side if need_input_grad else None

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k != "_adds"}

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}" for name, child in self.named_children()]
        if self.adds_in_kernel:
            lines.append("fused(the last batch norm of the body adds the shortcut)")
        return layout(type(self).__name__, "", lines)
