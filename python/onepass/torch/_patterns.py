"""Which nodes of a recorded forward are one norm's work, batch norm → add → activation, and the
graph in which they are one call.
"""

from __future__ import annotations

import operator
from collections import Counter
from typing import Any

import torch
from torch import fx
from torch import nn as torch_nn

from onepass.torch import nn
from onepass.torch._fused_norm import OURS, entangled, replacement, said
from onepass.torch._recorded import WRITTEN
from onepass.torch.nn._activation import Activation

# torch's class → (name, its attributes that are options)
_ACTIVATIONS: dict[type, tuple[str, tuple[str, ...]]] = {
    getattr(torch_nn, cls.__name__): (cls.op, cls.options)
    for cls in vars(nn).values()
    if isinstance(cls, type) and issubclass(cls, Activation) and hasattr(torch_nn, cls.__name__)
}
_BY_NAME = {name: cls.__name__ for cls, (name, _) in _ACTIVATIONS.items()}
# Those that are recognised as functions; others only as modules, which the report says.
_FUNCTIONS = {torch.relu: "relu", torch.nn.functional.relu: "relu", torch.relu_: "relu"}
_METHODS = {"relu": "relu", "relu_": "relu"}
_ADDS = (operator.add, operator.iadd, torch.add)


def activation_of(module: Any) -> Any:
    """The specification of an activation of torch; None for what is not one."""
    if type(module) not in _ACTIVATIONS or entangled(module, Counter()):
        return None
    name, options = _ACTIVATIONS[type(module)]
    return (name, {o: getattr(module, o) for o in options}) if options else name


def fuse_node(
    graph: fx.Graph, node: fx.Node, parent: torch.nn.Module
) -> tuple[torch.nn.Module, str] | None:
    """The batch norm that does what follows ``node`` too; the graph calls it there."""
    if len(node.args) != 1 or node.kwargs:
        return None
    old: Any = parent.get_submodule(str(node.target))
    chain, residual, activation = [node], None, None
    following = _only_user(node)
    if following is not None and _is_add(following, node):
        a, b = following.args
        if isinstance(a, fx.Node) and isinstance(b, fx.Node) and a is not b:
            chain.append(following)
            residual = b if a is node else a
            following = _only_user(following)
    if (
        following is not None
        and (activation := _following_activation(following, parent)) is not None
    ):
        chain.append(following)
    end = chain[-1]
    if _is_disturbed(graph, chain, (node.args[0], residual), parent):
        return None
    with graph.inserting_before(end):
        arguments = node.args if residual is None else (node.args[0], residual)
        call = graph.call_module(str(node.target), arguments)
    end.replace_all_uses_with(call)
    for gone in reversed(chain):
        graph.erase_node(gone)
    add = None
    if residual is not None:
        add = operator.iadd if chain[1].target in (operator.iadd, "add_") else operator.add
    made = replacement(old, activation, add=add)
    became = said(old, residual is not None, activation, 0.0)
    if activation is None and (name := _called_activation(following)) is not None:
        became += f" ({name} stays a pass of its own; {_BY_NAME[name]}() would not)"
    return made, became


def _is_disturbed(
    graph: fx.Graph, chain: list[fx.Node], read: tuple[Any, Any], parent: torch.nn.Module
) -> bool:
    """Whether something between may write to what the norm reads at the end of the chain.

    It may do so by another name, but for a result of a convolution that nothing else has; what is
    added is read at its own place as before.
    """
    node, end = chain[0], chain[-1]
    private = len(read[0].users) == 1 and _is_fresh(read[0], parent)
    for other in graph.nodes:
        if not node < other < end or other in chain:
            continue
        if private and len(chain) > 1 and other < chain[1]:
            continue
        if _writes(other, parent) or any(a in read for a in other.all_input_nodes):
            return True
    return False


_FRESH = (
    torch_nn.Conv1d, torch_nn.Conv2d, torch_nn.Conv3d, torch_nn.ConvTranspose1d,
    torch_nn.ConvTranspose2d, torch_nn.ConvTranspose3d, torch_nn.Linear,
)  # fmt: skip


def _is_fresh(node: Any, parent: torch.nn.Module) -> bool:
    """Whether the result of ``node`` is memory of its own."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return False
    module = parent.get_submodule(str(node.target))
    return type(module) in _FRESH and not entangled(module, Counter())


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _writes(node: fx.Node, parent: torch.nn.Module) -> bool:
    """Whether ``node`` may change a tensor that exists already."""
    if node.op == "call_module":
        return not all(map(_is_pure, parent.get_submodule(str(node.target)).modules()))
    name = str(getattr(node.target, "__name__", node.target))
    if name.endswith("_") or name in _IN_PLACE or "out" in node.kwargs:
        return True
    functional = getattr(node.target, "__module__", "") == "torch.nn.functional"
    positional = functional and any(a is True for a in node.args)
    return bool(node.kwargs.get("inplace")) or positional


_IN_PLACE = {"setitem", *(f"i{name}" for name in WRITTEN)}


def _is_pure(module: torch.nn.Module) -> bool:
    """Whether a layer is known to write to no tensor that it is given."""
    ours = type(module).__module__.startswith("onepass.torch.nn.") or isinstance(module, OURS)
    known = ours or type(module).__module__.startswith("torch.nn.modules.")
    return known and not getattr(module, "inplace", False) and not entangled(module, Counter())


def _is_add(node: fx.Node, norm: fx.Node) -> bool:
    """Whether ``node`` adds two values and writes to neither, or to the result of ``norm``."""
    if len(node.args) != 2 or node.kwargs:
        return False
    if node.op == "call_method" and node.target in ("add", "add_"):
        return node.target == "add" or node.args[0] is norm
    if node.op == "call_function" and node.target in _ADDS:
        return node.target is not operator.iadd or node.args[0] is norm
    return False


def _following_activation(node: fx.Node, parent: torch.nn.Module) -> Any:
    if len(node.args) != 1 or set(node.kwargs) - {"inplace"}:
        return None
    if node.op == "call_module":
        return activation_of(parent.get_submodule(str(node.target)))
    if node.op == "call_function":
        return _FUNCTIONS.get(node.target)  # type: ignore[arg-type]
    return _METHODS.get(str(node.target)) if node.op == "call_method" else None


def _called_activation(node: fx.Node | None) -> str | None:
    """The name of the activation that ``node`` calls as a function or a method."""
    if node is None or node.op not in ("call_function", "call_method"):
        return None
    name = str(getattr(node.target, "__name__", node.target)).removesuffix("_")
    return name if name in _BY_NAME else None
