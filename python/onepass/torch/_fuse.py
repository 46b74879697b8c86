"""``fuse(model)``: batch norm → add → activation → dropout of a torch model as one kernel each."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import nn as torch_nn

from onepass.torch import nn
from onepass.torch._fused_norm import NORMS, OURS, entangled, refusal, replacement, said
from onepass.torch._patterns import activation_of, fuse_node
from onepass.torch._recorded import UnrecordableError, record
from onepass.torch._rewritten import copies_itself, rewritten, warn_of_hooks
from onepass.torch.nn._dropout import absorb_dropout


class Fused(NamedTuple):
    """The fate of one batch norm."""

    name: str
    became: str | None  # what it does now; None where it was left alone
    why: str  # it was left alone; "" where it was not


class FuseReport(tuple[Fused, ...]):
    """One `Fused` for each batch norm of the model, in its order; ``print`` shows a table."""

    @property
    def replaced(self) -> tuple[Fused, ...]:
        return tuple(entry for entry in self if entry.became is not None)

    @property
    def left(self) -> tuple[Fused, ...]:
        return tuple(entry for entry in self if entry.became is None)

    def __str__(self) -> str:
        lines = [f"{len(self.replaced)} of {len(self)} batch norms replaced"]
        lines += [f"  {e.name}: {e.became or 'left alone: ' + e.why}" for e in self]
        return "\n".join(lines)


def fuse(model: torch.nn.Module) -> FuseReport:
    """Replaces batch norms of torch, with what follows them, by one kernel each, in place.

    In a ``Sequential``, BatchNorm → activation → Dropout; in other modules whose forward `torch.fx`
    can record with their children as they are, also BatchNorm → add → activation, as in residual
    blocks; of activations that are called as functions only ReLU, and the report names the others.
    Parameters and buffers are the same objects under the same keys; outputs and gradients
    are the same but for rounding, masks of dropout are others.

    A dropout behind a norm in a ``Sequential`` stays in its place, does nothing itself while both
    are in training, and keeps its mode and ``p``. A module whose forward is recorded gets a
    subclass of its class with the rewritten forward, as `torch.nn.utils.parametrize` does. A call
    raises RuntimeError where an attribute that the forward read, or the type of a layer in it, has
    changed since; globals and attributes of other objects that it read have the values of then, and
    prints in it are lost.

    Left alone: modules that are used twice, have hooks or parametrizations, are compiled or of a
    subclass, and forwards that are not one graph: they depend on ``training``, on whether gradients
    are computed, on the type or absence of an argument, on random numbers, on attributes of layers,
    or set attributes, or switch gradients or autocast. A ``Sequential`` whose layers a forward
    calls one by one is left alone where that forward can be recorded; who indexes it from outside
    finds at the norm's place what stands behind the activation: fuse such models by their parts. A
    hook that is registered later on a norm sees what its activation gives; on an activation that a
    rewritten forward no longer calls it warns that it will not fire.

    Args:
        model: changed in place. Fuse before `torch.compile` and wrappers such as
            `DistributedDataParallel`.

    Returns:
        report: of every batch norm what it became, or why it was left alone.

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: ``model`` is itself a batch norm, which has nothing to be replaced in.

    Example:
        >>> import torch
        >>> from onepass.torch import fuse
        >>> model = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.ReLU())
        >>> print(fuse(model))
        1 of 1 batch norms replaced
          0: BatchNorm1d → relu
    """
    if not isinstance(model, torch_nn.Module):
        raise TypeError(f"fuse: 'model' is {type(model).__name__}, expected a torch.nn.Module")
    if type(model) in NORMS:
        raise ValueError(
            f"fuse: 'model' is a {type(model).__name__} itself, expected a module that holds it"
        )
    uses = Counter(id(m) for _, m in model.named_modules(remove_duplicate=False))
    by_parts = _used_by_parts(model)
    found: dict[str, Fused] = {}
    for path, parent in list(model.named_modules()):
        own = {
            name: child
            for name, child in parent.named_children()
            if isinstance(child, torch_nn.modules.batchnorm._BatchNorm)
            and not isinstance(child, OURS)
        }
        if not own:
            continue
        prefix = f"{path}." if path else ""
        why_not = {name: refusal(child, uses) for name, child in own.items()}
        free = [name for name, why in why_not.items() if not why]
        became: dict[str, str] = {}
        why = ""
        if free and uses[id(parent)] > 1:
            why = "its parent is used at two places"
        elif free and id(parent) in by_parts:
            why = "layers of its Sequential are called one by one"
        elif free and _is_sequential(parent):
            became = _fuse_sequential(parent, free, uses)  # type: ignore[arg-type]
        elif free:
            became, why = _fuse_traced(parent, free, uses)
        for name in own:
            reason = why_not[name] or why or "its result is used in another way"
            done = became.get(name)
            found[prefix + name] = Fused(prefix + name, done, "" if done else reason)
    order = [name for name, _ in model.named_modules() if name in found]
    return FuseReport(found[name] for name in order)


def _is_sequential(module: torch.nn.Module) -> bool:
    """Whether its children are called one after the other, as they stand in it."""
    cls, plain = type(module), torch_nn.Sequential
    return (
        isinstance(module, plain)
        and all(getattr(cls, n) is getattr(plain, n) for n in ("forward", "__call__", "__iter__"))
        and "forward" not in vars(module)
    )


def _used_by_parts(model: torch.nn.Module) -> set[int]:
    """The ids of the `Sequential`s that a forward indexes or runs through."""
    found = set()
    for module in model.modules():
        inner = [m for m in module.modules() if m is not module and _is_sequential(m)]
        if not inner or _is_sequential(module):
            continue
        try:
            graph, _ = record(module)
        except UnrecordableError:
            continue
        for node in graph.nodes:
            path = str(node.target) if node.op == "call_module" else ""
            while "." in path:
                path = path.rpartition(".")[0]
                found.add(id(module.get_submodule(path)))
    return found


def _fuse_sequential(
    parent: torch.nn.Sequential, free: list[str], uses: Counter[int]
) -> dict[str, str]:
    became = {}
    layers = list(parent._modules.items())
    for at, (name, old) in enumerate(layers):
        if name not in free:
            continue
        activation, rest = None, layers[at + 1 :]
        # A shared activation may be absorbed: it has no state, and only this place changes.
        if rest and (activation := activation_of(rest[0][1])) is not None:
            parent._modules[rest.pop(0)[0]] = nn.Identity()
        last: Any = rest[0][1] if rest else None
        drops = type(last) is torch_nn.Dropout and last.p > 0 and not entangled(last, uses)
        made: Any = replacement(old, activation, last.p if drops else 0.0)
        if drops:
            parent._modules[rest[0][0]] = absorb_dropout(made, last)
        parent._modules[name] = made
        became[name] = said(old, False, activation, made.dropout)
    return became


def _fuse_traced(
    parent: torch.nn.Module, free: list[str], uses: Counter[int]
) -> tuple[dict[str, str], str]:
    """(what became of the batch norms, why of none)."""
    cls = type(parent)
    if why := entangled(parent, uses):
        return {}, f"its parent: {why}"
    if why := copies_itself(cls):
        return {}, why
    try:
        graph, holds = record(parent)
    except UnrecordableError as error:
        return {}, str(error)
    made, became = {}, {}
    before = {node.target for node in graph.nodes if node.op == "call_module"}
    for node in list(graph.nodes):
        if node.op == "call_module" and node.target in free:
            if sum(other.target == node.target for other in graph.nodes) > 1:
                continue
            found = fuse_node(graph, node, parent)
            if found is not None:
                name = str(node.target)
                made[name], became[name] = found
    if not made:
        return {}, ""
    graph.lint()
    called = {node.target for node in graph.nodes if node.op == "call_module"}
    absorbed = [str(name) for name in before - called]
    holds.update((name, type(parent.get_submodule(name))) for name in absorbed)
    holds.update((name, type(norm)) for name, norm in made.items())
    try:
        parent.__class__ = rewritten(cls, graph, holds)
    except SyntaxError as error:  # of a keyword without a default behind one that has it
        return {}, f"torch.fx cannot write the forward of {cls.__name__}: {error.msg}"
    parent._modules.update(made)
    for name in absorbed:
        warn_of_hooks(parent.get_submodule(name), f"{cls.__name__}.{name}")
    return became, ""
