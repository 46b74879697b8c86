"""``fuse(model)``: batch norm → add → activation → dropout of a torch model as one kernel each."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from inspect import ismodule
from typing import Any, NamedTuple
from warnings import warn

import torch
from torch import fx
from torch import nn as torch_nn
from torch.nn.utils import parametrize

from onepass.torch import nn
from onepass.torch.nn._activation import Activation

_NORMS: dict[type, Any] = {
    torch_nn.BatchNorm1d: nn.BatchNorm1d,
    torch_nn.BatchNorm2d: nn.BatchNorm2d,
    torch_nn.BatchNorm3d: nn.BatchNorm3d,
}
# torch's class → (name, its attributes that are options)
_ACTIVATIONS: dict[type, tuple[str, tuple[str, ...]]] = {
    getattr(torch_nn, cls.__name__): (cls.op, cls.options)
    for cls in vars(nn).values()
    if isinstance(cls, type) and issubclass(cls, Activation) and hasattr(torch_nn, cls.__name__)
}
_FUNCTIONS = {torch.relu: "relu", torch.nn.functional.relu: "relu", torch.relu_: "relu"}
_METHODS = {"relu": "relu", "relu_": "relu"}
_ADDS = (operator.add, operator.iadd, torch.add)


class Fused(NamedTuple):
    """What became of one batch norm."""

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
    can trace with their children as they are, also BatchNorm → add → activation, as in residual
    blocks. Such a module gets a subclass of its class with the rewritten forward, as
    `torch.nn.utils.parametrize` does; its forward is the one recorded now, so that later changes of
    attributes that it reads, prints and counters in it have no effect. A ``Sequential`` that is
    iterated or indexed, not called, gives what stands behind the activation at the batch norm's
    place: fuse such models by their parts. Parameters and buffers are the same objects under the
    same keys; outputs and gradients are the same but for rounding, masks of dropout are others.
    A dropout behind a norm in a ``Sequential`` follows that norm's mode from then on. Left alone:
    modules that are used twice, have hooks or parametrizations, or are of a subclass. A hook that
    is registered later on a norm sees what its activation gives; on an activation that a rewritten
    forward no longer calls it warns that it will not fire.

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
    if type(model) in _NORMS:
        raise ValueError(
            f"fuse: 'model' is a {type(model).__name__} itself, expected a module that holds it"
        )
    uses = Counter(id(m) for _, m in model.named_modules(remove_duplicate=False))
    found: dict[str, Fused] = {}
    for path, parent in list(model.named_modules()):
        own = {
            name: child
            for name, child in parent.named_children()
            if isinstance(child, torch_nn.modules.batchnorm._BatchNorm)
            and not isinstance(child, tuple(_NORMS.values()))
        }
        if not own:
            continue
        prefix = f"{path}." if path else ""
        why_not = {name: _refusal(child, uses) for name, child in own.items()}
        free = [name for name, why in why_not.items() if not why]
        became: dict[str, str] = {}
        why = ""
        if free and uses[id(parent)] > 1:
            why = "its parent is used at two places"
        elif free and type(parent) is torch_nn.Sequential:
            became = _fuse_sequential(parent, free, uses)
        elif free:
            became, why = _fuse_traced(parent, free, uses)
        for name in own:
            reason = why_not[name] or why or "its result is used in another way"
            done = became.get(name)
            found[prefix + name] = Fused(prefix + name, done, "" if done else reason)
    order = [name for name, _ in model.named_modules() if name in found]
    return FuseReport(found[name] for name in order)


def _refusal(module: torch.nn.Module, uses: Counter[int]) -> str:
    """Why a batch norm stays as it is; "" where it need not."""
    if type(module) not in _NORMS:
        return f"{type(module).__name__} is not one of torch.nn's BatchNorm1d, 2d and 3d"
    return _entangled(module, uses)


def _entangled(module: torch.nn.Module, uses: Counter[int]) -> str:
    if uses[id(module)] > 1:
        return "it is used at two places"
    if parametrize.is_parametrized(module):
        return "it has parametrizations"
    if any(value for key, value in vars(module).items() if key.endswith("_hooks")):
        return "it has hooks"
    if "forward" in vars(module):
        return "its forward was replaced"
    return ""


def _activation(module: Any) -> Any:
    """The specification of an activation of torch; None for what is not one."""
    if type(module) not in _ACTIVATIONS or _entangled(module, Counter()):
        return None
    name, options = _ACTIVATIONS[type(module)]
    return (name, {o: getattr(module, o) for o in options}) if options else name


def _replacement(old: Any, activation: Any, dropout: float) -> torch.nn.Module:
    """The same parameters and buffers under a norm with its epilogue."""
    made = _NORMS[type(old)](
        old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats,
        device="meta", activation=activation, dropout=dropout,
    )  # fmt: skip
    made._parameters, made._buffers = old._parameters, old._buffers
    made._non_persistent_buffers_set = old._non_persistent_buffers_set
    for key, value in vars(old).items():
        if key not in vars(made):  # what a user hung on it
            vars(made)[key] = value
    made.training = old.training
    return made  # type: ignore[no-any-return]


def _said(old: Any, residual: bool, activation: Any, dropout: float) -> str:
    name = activation if isinstance(activation, str) else activation and activation[0]
    parts = [type(old).__name__, "add" if residual else "", name or "", dropout and "dropout"]
    return " → ".join(part for part in parts if part)


def _fuse_sequential(
    parent: torch.nn.Sequential, free: list[str], uses: Counter[int]
) -> dict[str, str]:
    became = {}
    layers = list(parent._modules.items())
    for at, (name, old) in enumerate(layers):
        if name not in free:
            continue
        activation, dropout, rest = None, 0.0, layers[at + 1 :]
        absorbed = []
        # A shared activation may be absorbed: it has no state, and only this place changes.
        if rest and (activation := _activation(rest[0][1])) is not None:
            absorbed.append(rest.pop(0)[0])
        last: Any = rest[0][1] if rest else None
        if (
            type(last) is torch_nn.Dropout
            and last.training == parent._modules[name].training  # type: ignore[union-attr]
            and not _entangled(last, Counter())
        ):
            dropout = last.p
            absorbed.append(rest[0][0])
        parent._modules[name] = _replacement(old, activation, dropout)
        for gone in absorbed:
            parent._modules[gone] = nn.Identity()
        became[name] = _said(old, False, activation, dropout)
    return became


class _InPlace(fx.Proxy):
    """``a += b`` is recorded as it is; fx makes an addition of it, which aliases of a lose."""

    def _write(self, function: Any, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    def __iadd__(self, other: Any) -> Any:
        return self._write(operator.iadd, other)

    def __isub__(self, other: Any) -> Any:
        return self._write(operator.isub, other)

    def __imul__(self, other: Any) -> Any:
        return self._write(operator.imul, other)

    def __itruediv__(self, other: Any) -> Any:
        return self._write(operator.itruediv, other)


class _Shallow(fx.Tracer):
    """Children are calls, whatever they are."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _InPlace(node, self)

    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        return True


def _graph_of(module: torch.nn.Module) -> fx.Graph:
    return _Shallow().trace(module)


def _fuse_traced(
    parent: torch.nn.Module, free: list[str], uses: Counter[int]
) -> tuple[dict[str, str], str]:
    """(what became of the batch norms, why of none)."""
    cls = type(parent)
    if why := _entangled(parent, uses):
        return {}, f"its parent: {why}"
    try:
        graph = _graph_of(parent)
        mode = parent.training
        try:
            parent.training = not mode
            other = _graph_of(parent)
        finally:
            parent.training = mode
    except Exception as error:
        said = str(error).strip().splitlines() or [""]
        return {}, f"torch.fx cannot trace the forward of {cls.__name__}: {said[0]}"
    if str(graph) != str(other):
        return {}, f"the forward of {cls.__name__} depends on 'training'"
    if any(node.op == "get_attr" for node in graph.nodes):
        return {}, f"the forward of {cls.__name__} reads attributes, which may change"
    made, became = {}, {}
    before = {node.target for node in graph.nodes if node.op == "call_module"}
    for node in list(graph.nodes):
        if node.op == "call_module" and node.target in free:
            if sum(other.target == node.target for other in graph.nodes) > 1:
                continue
            found = _fuse_node(graph, node, parent)
            if found is not None:
                name = str(node.target)
                made[name], became[name] = found
    if not made:
        return {}, ""
    graph.lint()
    parent._modules.update(made)
    called = {node.target for node in graph.nodes if node.op == "call_module"}
    for name in before - called:
        _warn_of_hooks(parent.get_submodule(str(name)), f"{cls.__name__}.{name}")
    code = graph.python_code("self")
    parent.__class__ = _rewritten(cls, code.src, _used(code.src, code.globals))
    return became, ""


def _used(source: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """What ``source`` refers to; modules by their names, which can be pickled."""
    (function,) = (c for c in compile(source, "", "exec").co_consts if hasattr(c, "co_names"))
    used = {name: known[name] for name in function.co_names if name in known}
    return {name: _Named(v.__name__) if ismodule(v) else v for name, v in used.items()}


class _Named(NamedTuple):
    module: str


def _rewritten(cls: type, source: str, used: Mapping[str, Any]) -> type:
    """A subclass of ``cls`` whose forward is ``source``."""
    names = {k: import_module(v.module) if isinstance(v, _Named) else v for k, v in used.items()}
    exec(source, names)
    members = {
        "forward": names["forward"],
        "__reduce_ex__": lambda self, protocol: (_restored, (cls, source, used), vars(self)),
        "__module__": cls.__module__,
        "__doc__": cls.__doc__,
        "__qualname__": cls.__qualname__,
    }
    return type(cls.__name__, (cls,), members)


def _restored(cls: type, source: str, used: Mapping[str, Any]) -> Any:
    made: Any = _rewritten(cls, source, used)
    return made.__new__(made)


_HOOKS = (
    "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_backward_hook",
)  # fmt: skip


def _warn_of_hooks(absorbed: torch.nn.Module, name: str) -> None:
    for register in _HOOKS:
        vars(absorbed)[register] = partial(_register, absorbed, register, name)


def _register(absorbed: torch.nn.Module, register: str, name: str, *rest: Any, **more: Any) -> Any:
    warn(
        f"{register}: {name} is part of a norm since onepass.torch.fuse and is no longer called "
        "there: the hook will not fire; register it before fuse, which then leaves the layer alone",
        stacklevel=2,
    )
    return getattr(type(absorbed), register)(absorbed, *rest, **more)


def _fuse_node(
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
    if following is not None and (activation := _activation_of(following, parent)) is not None:
        chain.append(following)
    end = chain[-1]
    # The norm moves to the end of the chain: what lies between must not get at what it reads.
    read = (node.args[0], residual)
    for other in graph.nodes:
        between = node < other < end and other not in chain
        if between and (_writes(other, parent) or any(a in read for a in other.all_input_nodes)):
            return None  # a write may go to what is read by another name
    with graph.inserting_before(end):
        arguments = node.args if residual is None else (node.args[0], residual)
        call = graph.call_module(str(node.target), arguments)
    end.replace_all_uses_with(call)
    for gone in reversed(chain):
        graph.erase_node(gone)
    made = _replacement(old, activation, 0.0)
    if residual is not None:
        writes = chain[1].target in (operator.iadd, "add_")
        made._adds_anything = operator.iadd if writes else operator.add  # type: ignore[assignment]
    return made, _said(old, residual is not None, activation, 0.0)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _writes(node: fx.Node, parent: torch.nn.Module) -> bool:
    """Whether ``node`` may change a tensor that exists already."""
    if node.op == "call_module":
        return bool(getattr(parent.get_submodule(str(node.target)), "inplace", False))
    name = str(getattr(node.target, "__name__", node.target))
    in_place = name.endswith("_") or name in ("iadd", "isub", "imul", "itruediv", "setitem")
    return in_place or bool(node.kwargs.get("inplace")) or "out" in node.kwargs


def _is_add(node: fx.Node, norm: fx.Node) -> bool:
    """Whether ``node`` adds two values and writes to neither, or to the result of ``norm``."""
    if len(node.args) != 2 or node.kwargs:
        return False
    if node.op == "call_method" and node.target in ("add", "add_"):
        return node.target == "add" or node.args[0] is norm
    if node.op == "call_function" and node.target in _ADDS:
        return node.target is not operator.iadd or node.args[0] is norm
    return False


def _activation_of(node: fx.Node, parent: torch.nn.Module) -> Any:
    if len(node.args) != 1 or set(node.kwargs) - {"inplace"}:
        return None
    if node.op == "call_module":
        return _activation(parent.get_submodule(str(node.target)))
    if node.op == "call_function":
        return _FUNCTIONS.get(node.target)  # type: ignore[arg-type]
    return _METHODS.get(str(node.target)) if node.op == "call_method" else None
