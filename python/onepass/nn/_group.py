"""Which neighbours run as one kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onepass._array import Array
from onepass.nn._activation import Activation
from onepass.nn._dropout import Dropout
from onepass.nn._epilogue import Epilogue, Fusable, keeps
from onepass.nn._module import Module


@dataclass(eq=False)
class Group:
    """Neighbouring layers that run as one: a layer, and what its kernel does afterwards."""

    head: Module
    activation: Activation | None = None
    dropout: Dropout | None = None

    def __len__(self) -> int:
        return 1 + (self.activation is not None) + (self.dropout is not None)

    def forward(self, x: Array) -> Array:
        if len(self) > 1 and isinstance(self.head, Fusable):
            return self.head.fused_forward(x, Epilogue(self.activation, self.dropout))
        return self.head(x)


def group(layers: tuple[Module, ...], fuse: bool) -> list[Group]:
    """The layers in their order, in groups. Reads the modes and options that hold now."""
    groups: list[Group] = []
    end: Fusable | None = None  # the layer whose kernel would run what comes next
    for layer in layers:
        if end is not None and isinstance(layer, Activation):
            if groups[-1].activation is None and keeps(layer, Activation, "forward", "backward"):
                groups[-1].activation = layer
                continue
        elif end is not None and isinstance(layer, Dropout):
            fits = keeps(layer, Dropout, "forward", "backward")
            if fits and (end.can_drop() or not layer.active):
                groups[-1].dropout = layer
                end = None
                continue
        groups.append(Group(layer))
        end = layer.epilogue_head() if fuse and isinstance(layer, Fusable) else None
    return groups


def check_distinct(owner: str, modules: Iterator[Module]) -> None:
    """Each module keeps what its own backward needs, so it can stand in one place only."""
    seen: set[int] = set()
    for module in modules:
        if id(module) in seen:
            raise ValueError(
                f"{owner}: the same {type(module).__name__} stands in two places; make one for "
                "each (to share weights, share their Parameters)"
            )
        seen.add(id(module))


def first_trained(groups: list[Group]) -> int:
    """Where backward may stop when nobody needs dx: nothing before this group is trained."""
    for i, part in enumerate(groups[:-1]):
        if any(parameter.requires_grad for parameter in part.head.parameters()):
            return i
    return len(groups) - 1  # the last always runs: its gradient may be due to a residual


def unfuse(model: Module) -> None:
    """Switch fusion off in every module inside."""
    for module in model.modules():
        if hasattr(module, "fuse"):
            module.fuse = False
