"""Layers one after the other; neighbours that one kernel can do, as one kernel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import overload

from onepass._array import Array
from onepass.nn._activation import Identity
from onepass.nn._epilogue import Epilogue, Fusable, keeps
from onepass.nn._group import Group, check_distinct, first_trained, group, unfuse
from onepass.nn._module import Module, layout


class Sequential(Fusable):
    """``y = layers[-1](… layers[0](x))``.

    Batch norm → activation → dropout run as one kernel, and so do a linear layer's bias →
    activation → dropout; ``print(model)`` shows which. The results are the same bits with
    ``fuse=False``, dropout masks included (but for a residual's subnormal numbers, which a batch
    norm takes for zero).

    Args:
        layers: modules; their names are "0", "1", ….
        fuse: False runs each layer by itself, here and in all modules inside.

    Raises:
        TypeError: something is not a `Module`.
        ValueError: the same module twice.

    Example:
        >>> nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        Sequential(
          fused(
            (0): Linear(in_features=4, out_features=8, bias=True)
            (1): ReLU()
          )
          (2): Linear(in_features=8, out_features=2, bias=True)
        )
    """

    def __init__(self, *layers: Module, fuse: bool = True) -> None:
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(f"Sequential: layer {i} is a {type(layer).__name__}, not a Module")
        self.layers = layers
        self.fuse = fuse
        check_distinct("Sequential", self.modules())
        if not fuse:
            unfuse(self)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((str(i), layer) for i, layer in enumerate(self.layers))

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Module | Sequential:
        if isinstance(index, slice):
            return Sequential(*self.layers[index], fuse=self.fuse)
        return self.layers[index]

    def groups(self) -> list[Group]:
        """The layers as they run in the present mode."""
        return group(self.layers, self.fuse)

    def _open_end(self) -> Fusable | None:
        """The last layer, where nothing is fused onto it yet."""
        groups = self.groups() if keeps(self, Fusable, "forward") else []
        open_ended = groups and self.fuse and len(groups[-1]) == 1
        return groups[-1].head if open_ended and isinstance(groups[-1].head, Fusable) else None

    def epilogue_head(self) -> Fusable | None:
        return None if (last := self._open_end()) is None else last.epilogue_head()

    def takes_residual(self) -> bool:
        return (last := self._open_end()) is not None and last.takes_residual()

    def fused_forward(self, x: Array, epilogue: Epilogue) -> Array:
        groups = self.groups() or [Group(Identity())]
        if epilogue.empty:
            for part in groups:
                x = part.forward(x)
        else:
            for part in groups[:-1]:
                x = part.forward(x)
            last = groups[-1].head
            assert isinstance(last, Fusable)  # epilogue_head said so
            x = last.fused_forward(x, epilogue)
        self.saved = groups
        return x

    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        groups: list[Group] = self.recall()
        first = 0 if need_input_grad else first_trained(groups)
        grad: Array | None = dy
        for part in reversed(groups[first + 1 :]):
            grad = part.head.backward(grad)
        if need_input_grad:
            return groups[0].head.backward(grad)
        return groups[first].head.backward(grad, need_input_grad=False)

    def __repr__(self) -> str:
        lines, i = [], 0
        for part in self.groups():
            members = [f"({j}): {self.layers[j]!r}" for j in range(i, i + len(part))]
            lines += [layout("fused", "", members)] if len(part) > 1 else members
            i += len(part)
        return layout(type(self).__name__, "", lines)
