"""``fuse(model)``: batch norm → add → activation → dropout of a torch model as one kernel each."""

from __future__ import annotations

import operator
import re
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
from onepass.torch._recorded import ABSENT, WRITTEN, UnrecordableError, record
from onepass.torch.nn._activation import Activation
from onepass.torch.nn._dropout import absorb_dropout

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
    blocks. Parameters and buffers are the same objects under the same keys; outputs and gradients
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
    if type(model) in _NORMS:
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
    if vars(module).get("_compiled_call_impl") is not None:
        return "it is compiled"
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
        if rest and (activation := _activation(rest[0][1])) is not None:
            parent._modules[rest.pop(0)[0]] = nn.Identity()
        last: Any = rest[0][1] if rest else None
        drops = type(last) is torch_nn.Dropout and last.p > 0 and not _entangled(last, uses)
        made: Any = _replacement(old, activation, last.p if drops else 0.0)
        if drops:
            parent._modules[rest[0][0]] = absorb_dropout(made, last)
        parent._modules[name] = made
        became[name] = _said(old, False, activation, made.dropout)
    return became


def _fuse_traced(
    parent: torch.nn.Module, free: list[str], uses: Counter[int]
) -> tuple[dict[str, str], str]:
    """(what became of the batch norms, why of none)."""
    cls = type(parent)
    if why := _entangled(parent, uses):
        return {}, f"its parent: {why}"
    if why := _copies_itself(cls):
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
            found = _fuse_node(graph, node, parent)
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
    code = graph.python_code("self")
    source = re.sub(r"(def forward\(.*:\n)", r"\1    onepass_check(self)\n", code.src, count=1)
    try:
        rewritten = _rewritten(cls, source, _used(source, code.globals), holds)
    except SyntaxError as error:  # of a keyword without a default behind one that has it
        return {}, f"torch.fx cannot write the forward of {cls.__name__}: {error.msg}"
    parent._modules.update(made)
    parent.__class__ = rewritten
    for name in absorbed:
        _warn_of_hooks(parent.get_submodule(name), f"{cls.__name__}.{name}")
    return became, ""


def _copies_itself(cls: type) -> str:
    """Why a class cannot be rewritten: it makes copies that would not be of the new class."""
    for name in ("__reduce__", "__reduce_ex__", "__deepcopy__"):
        if getattr(cls, name, None) is not getattr(torch_nn.Module, name, None):
            return f"{cls.__name__} has a {name} of its own"
    return ""


def _used(source: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """The objects that ``source`` refers to; modules by their names, which can be pickled."""
    (function,) = (c for c in compile(source, "", "exec").co_consts if hasattr(c, "co_names"))
    used = {name: known[name] for name in function.co_names if name in known}
    return {name: _Named(v.__name__) if ismodule(v) else v for name, v in used.items()}


class _Named(NamedTuple):
    module: str


def _rewritten(cls: type, source: str, used: Mapping[str, Any], holds: Mapping[str, Any]) -> type:
    """A subclass of ``cls`` whose forward is ``source``, where ``holds`` does."""
    names = {k: import_module(v.module) if isinstance(v, _Named) else v for k, v in used.items()}
    names["onepass_check"] = partial(_check, cls.__name__, tuple(holds.items()))
    exec(source, names)

    def reduced(self: Any, protocol: Any) -> tuple[Any, ...]:
        state = torch_nn.Module.__reduce_ex__(self, protocol)[2]
        return _restored, (cls, source, used, holds), state

    return type(
        cls.__name__,
        (cls,),
        {
            "forward": names["forward"],
            "__reduce_ex__": reduced,
            "__module__": cls.__module__,
            "__doc__": cls.__doc__,
            "__qualname__": cls.__qualname__,
        },
    )


def _restored(cls: type, source: str, used: Mapping[str, Any], holds: Mapping[str, Any]) -> Any:
    made: Any = _rewritten(cls, source, used, holds)
    return made.__new__(made)


def _check(cls: str, holds: tuple[tuple[str, Any], ...], module: torch_nn.Module) -> None:
    """Raises where the module is no longer what its forward was recorded for."""
    for name, then in holds:
        now = _now(module, name)
        if isinstance(now, torch_nn.Module):
            now = type(now)
        if now is not then and (type(now) is not type(then) or now != then):
            raise RuntimeError(
                f"{cls}.{name} is {now!r} and was {then!r} at onepass.torch.fuse, which wrote a "
                "forward for that; change it back, or fuse the model after such changes"
            )


def _now(module: Any, name: str) -> Any:
    if name.endswith("._modules"):
        return tuple(module.get_submodule(name.removesuffix("._modules"))._modules)
    for part in name.split("."):
        module = getattr(module, part, ABSENT)
    return module


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
    if _is_disturbed(graph, chain, (node.args[0], residual), parent):
        return None
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
    return type(module) in _FRESH and not _entangled(module, Counter())


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
    return bool(node.kwargs.get("inplace")) or (functional and True in map(_flag, node.args))


_IN_PLACE = {"setitem", *(f"i{name}" for name in WRITTEN)}


def _flag(argument: object) -> bool:
    return argument is True


def _is_pure(module: torch.nn.Module) -> bool:
    """Whether a layer is known to write to no tensor that it is given."""
    known = type(module).__module__.startswith(("torch.nn.modules.", "onepass.torch.nn."))
    return known and not getattr(module, "inplace", False) and not _entangled(module, Counter())


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
