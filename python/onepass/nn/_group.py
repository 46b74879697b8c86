"""Groups of neighbouring layers that run as one kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from onepass._parameter import Parameter
from onepass.nn._activation import Activation
from onepass.nn._dropout import Dropout
from onepass.nn._epilogue import Epilogue
from onepass.nn._facts import Facts
from onepass.nn._fusable import Fusable
from onepass.nn._module import Module

_CALLS = ("__call__", "forward", "backward")


@dataclass(eq=False)
class Group:
    """Neighbouring layers that run as one: a layer, and what its kernel does afterwards."""

    head: Module
    activation: Activation | None = None
    dropout: Dropout | None = None
    epilogue: Epilogue | None = None  # what the kernel gets; None for a layer by itself

    def __len__(self) -> int:
        return 1 + (self.activation is not None) + (self.dropout is not None)

    def resolve(self, facts: Facts[Any]) -> None:
        if len(self) > 1:
            activation, dropout = self.activation, self.dropout
            kernel = None if activation is None else activation.kernel("Sequential", facts.read)
            drops = dropout is not None and dropout.drops(facts.read)
            self.epilogue = Epilogue(kernel, dropout if drops else None)


def group(layers: tuple[Module, ...], fuse: bool, facts: Facts[Any]) -> list[Group]:
    """The layers in their order, in groups. Reads the modes and options that hold now."""
    groups: list[Group] = []
    end: Fusable | None = None  # the layer whose kernel would run what comes next
    for layer in layers:
        if end is not None and isinstance(layer, Activation):
            fits = facts.keeps(layer, *_CALLS, unwatched=("kernel",))
            if fits and groups[-1].activation is None:
                groups[-1].activation = layer
                continue
        elif end is not None and isinstance(layer, Dropout):
            fits = facts.keeps(layer, *_CALLS, unwatched=("drops",))
            if fits and (end.can_drop(facts.read) or not layer.drops(facts.read)):
                groups[-1].dropout = layer
                end = None
                continue
        groups.append(Group(layer))
        end = layer.epilogue_head(facts) if fuse and isinstance(layer, Fusable) else None
    for part in groups:
        part.resolve(facts)
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
        if _has_trained(part.head) or any(p.requires_grad for p in part.head.parameters()):
            return i
    return len(groups) - 1  # the last always runs: its gradient may belong to a residual


def _has_trained(module: Module) -> bool:
    """Whether an attribute is trained: at every backward, so without the checks of a walk."""
    for value in vars(module).values():
        if isinstance(value, Parameter):
            if value.requires_grad:
                return True
        elif isinstance(value, Module) and _has_trained(value):
            return True
    return False


def unfuse(model: Module) -> None:
    """Switch fusion off in every module inside."""
    for module in model.modules():
        if hasattr(module, "fuse"):
            module.fuse = False
