"""Layers one after the other; neighbours that one kernel can do, as one kernel."""

from __future__ import annotations

from collections.abc import Iterable
from threading import get_ident
from typing import Any

from onepass._array import Array
from onepass.nn._activation import Identity
from onepass.nn._epilogue import NOTHING, Epilogue
from onepass.nn._facts import Facts, bypassable
from onepass.nn._fusable import Fusable
from onepass.nn._group import Group, check_distinct, first_trained, group, unfuse
from onepass.nn._module import Module, layout
from onepass.nn._module_list import Layers
from onepass.nn._use import refuse_change


class Sequential(Layers, Fusable):
    """``y = layers[-1](… layers[0](x))``.

    Batch norm → activation → dropout run as one kernel, and so do a linear layer's bias →
    activation → dropout; ``print(model)`` shows which. The results are the same bits with
    ``fuse=False``, dropout masks included (but for subnormal numbers of a residual or its gradient,
    which a batch norm takes for zero). Layers can be replaced, added and removed as in a list.

    Args:
        layers: modules; their names are "0", "1", ….
        fuse: False runs each layer by itself, here and in all modules inside.

    Raises:
        TypeError: something is not a `Module`.
        ValueError: the same module twice.

    Example:
        >>> from onepass import nn
        >>> nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        Sequential(
          fused(
            (0): Linear(in_features=4, out_features=8, bias=True)
            (1): ReLU()
          )
          (2): Linear(in_features=8, out_features=2, bias=True)
        )
    """

    _found: Facts[list[Group]] | None = None  # the groups of the last call

    def __init__(self, *layers: Module, fuse: bool = True) -> None:
        self.fuse = fuse
        self._take(layers)

    def _take(self, layers: Iterable[Any]) -> None:
        taken = tuple(layers)
        self._check(taken)
        check_distinct("Sequential", (m for layer in taken for m in layer.modules()))
        self.layers = taken
        if not self.fuse:
            unfuse(self)

    def _of(self, layers: tuple[Module, ...]) -> Sequential:
        return Sequential(*layers, fuse=self.fuse)

    def groups(self) -> list[Group]:
        """The layers as they run in the present mode; found anew when a layer or mode changed."""
        facts = self._found
        if facts is None or not facts.hold():
            facts = Facts()
            facts.value = self._group(facts)
            self._found = facts  # complete: another thread may read it now
        return facts.value

    def _group(self, facts: Facts[Any]) -> list[Group]:
        groups: list[Group] = facts.once(self, "groups", self._grouped)
        return groups

    def _grouped(self, facts: Facts[Any]) -> list[Group]:
        return group(facts.read(self, "layers"), facts.read(self, "fuse"), facts)

    def _open_end(self, facts: Facts[Any]) -> Fusable | None:
        """The last layer, where nothing is fused onto it yet."""
        if not facts.read(self, "fuse") or super().epilogue_head(facts) is None:
            return None
        groups = self._group(facts)
        open_ended = groups and len(groups[-1]) == 1
        return groups[-1].head if open_ended and isinstance(groups[-1].head, Fusable) else None

    def epilogue_head(self, facts: Facts[Any]) -> Fusable | None:
        head: Fusable | None = facts.once(self, "head", self._head)
        return head

    def _head(self, facts: Facts[Any]) -> Fusable | None:
        return None if (last := self._open_end(facts)) is None else last.epilogue_head(facts)

    @bypassable
    def takes_residual(self, facts: Facts[Any]) -> bool:
        return (last := self._open_end(facts)) is not None and last.takes_residual(facts)

    def fused_forward(self, x: Array, epilogue: Epilogue) -> Array:
        groups = self.groups() or [Group(Identity())]
        training = self.training
        others: tuple[tuple[Module, Any], ...] = ()
        last = None if epilogue is NOTHING else groups[-1]  # its kernel goes on, says epilogue_head
        for part in groups:
            then = epilogue if part is last else part.epilogue
            head: Any = part.head
            x = head(x) if then is None else head.fused_forward(x, then)
            if head.training != training:
                others = (*others, *head._all_saved())
        if training:
            self._saved.trained = groups, others
        else:
            self._saved.here.saved = groups, others
        return x

    def takes_gradient(self, facts: Facts[Any]) -> bool:
        groups = self._group(facts) if facts.keeps(self, "forward", "backward") else ()
        if len(groups) < 2 or not isinstance(first := groups[0].head, Fusable):
            return False  # of one group, the kernel that adds is also that which writes the other
        return first.takes_gradient(facts)

    @bypassable
    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        return self._go_back(dy, need_input_grad, None)

    def backward_onto(self, dy: Array, onto: Epilogue) -> Array:
        dx: Array = self._go_back(dy, True, onto)
        return dx

    def _go_back(self, dy: Array, need_input_grad: bool, onto: Epilogue | None) -> Array | None:
        groups, others = self.recall()
        saved, thread = self._saved, get_ident()
        if self.training and saved.inside.setdefault(0, thread) != thread:
            saved.refuse(self)
        try:
            if self.training and saved.thread != thread:
                refuse_change(self, f"{type(self).__name__}.backward")
            for module, value in others:  # a call in their mode may have come in between
                module._remember(value)
            first = 0 if need_input_grad else first_trained(groups)
            grad: Array | None = dy
            for part in reversed(groups[first + 1 :]):
                grad = part.head.backward(grad)
            if onto is not None:
                head: Any = groups[0].head
                dx: Array = head.backward_onto(grad, onto)
                return dx
            if need_input_grad:
                return groups[0].head.backward(grad)
            return groups[first].head.backward(grad, need_input_grad=False)
        finally:
            if self.training:
                saved.inside.pop(0, None)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k != "_found"}

    def __repr__(self) -> str:
        lines, i = [], 0
        for part in self.groups():
            members = [f"({j}): {self.layers[j]!r}" for j in range(i, i + len(part))]
            lines += [layout("fused", "", members)] if len(part) > 1 else members
            i += len(part)
        return layout(type(self).__name__, "", lines)
