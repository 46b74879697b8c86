"""The graph of a module's forward, of those whose forward is one graph whatever it is given.

`torch.fx` records a single call of Python code. What that code decides by other things than
tensors is settled in the recording, without a word: modes, types and absence of arguments,
attributes, random numbers, and contexts such as ``no_grad``. `record` makes several recordings
where these differ, and gives none where the recordings do.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from inspect import Parameter, signature
from threading import RLock, get_ident
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import fx
from torch import nn as torch_nn

ABSENT = "<absent>"  # the value of an attribute that a forward looked for
_CONTAINERS = (torch_nn.ModuleList, torch_nn.ModuleDict)
_CONSTANTS = (
    type(None), bool, int, float, complex, str, Enum, type, torch.dtype, torch.device,
    FunctionType, BuiltinFunctionType,
)  # fmt: skip
# torch.fx, and `_watched`, change `torch.nn.Module` while they record.
_ONE_AT_A_TIME = RLock()
# What every module has.
_OF_MODULES = {*dir(torch_nn.Module()), "__dict__", "__class__"}


class UnrecordableError(Exception):
    """Why a forward is not one graph."""


class _Written(fx.Proxy):
    """``a += b`` is recorded as it is; fx makes an addition of it, which aliases of a lose."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("tracer", "node"):
            raise UnrecordableError(f"it sets '{name}' of a tensor")
        super().__setattr__(name, value)


def _in_place(name: str) -> Callable[[Any, Any], Any]:
    function = getattr(operator, f"i{name}")

    def write(self: Any, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return write


WRITTEN = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift",
    "rshift",
)  # fmt: skip
for _name in WRITTEN:
    setattr(_Written, f"__i{_name}__", _in_place(_name))


class _Tensor(_Written):
    """One that ``isinstance`` takes for a tensor."""

    __class__ = property(lambda self: torch.Tensor)  # type: ignore[assignment]


class _Shallow(fx.Tracer):
    """Children are calls, whatever they are."""

    proxy_buffer_attributes = True

    def __init__(self, kind: type[fx.Proxy] = _Written, **given: Any) -> None:
        super().__init__()
        self.kind, self.given = kind, given
        self.mode, self.thread = _mode(), get_ident()

    def call_module(self, m: Any, forward: Any, args: Any, kwargs: Any) -> Any:
        if get_ident() != self.thread:  # torch.fx changes the calls of all modules
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return self.kind(node, self)

    def create_arg(self, a: Any) -> Any:
        return a.node if type(a) in (_Written, _Tensor) else super().create_arg(a)

    def create_node(self, *arguments: Any, **more: Any) -> fx.Node:
        if _mode() != self.mode:
            raise UnrecordableError("it switches gradients or autocast on or off")
        return super().create_node(*arguments, **more)

    def create_args_for_root(self, *arguments: Any, **more: Any) -> Any:
        function, args = super().create_args_for_root(*arguments, **more)
        given = [self.given.get(str(a.node.target), a) if type(a) is self.kind else a for a in args]
        return function, given

    def is_leaf_module(self, m: torch_nn.Module, module_qualified_name: str) -> bool:
        return True


def _mode() -> tuple[Any, ...]:
    """What a context manager may change for the operations in it."""
    automatic = [(torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in _DEVICES]
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), automatic, hooks is not None


_DEVICES = ("cpu", "cuda")


def record(module: torch_nn.Module) -> tuple[fx.Graph, dict[str, Any]]:
    """(the graph of its forward, the attributes and their values for which it is that).

    Raises:
        UnrecordableError: it is not one graph, or changes anything but its results.
    """
    with _ONE_AT_A_TIME:
        return _recorded(module)


def _recorded(module: torch_nn.Module) -> tuple[fx.Graph, dict[str, Any]]:
    cls = type(module).__name__
    reads: dict[str, Any] = {}
    try:
        with _unchanged(module), _watched(module, reads):
            graph = _traced(module)
        form = _form(graph)
        if any(node.op == "get_attr" for node in graph.nodes):
            raise UnrecordableError("it reads tensors of the module")
        with _unchanged(module):
            with _modes_flipped(module):
                _same(form, module, "it depends on 'training'")
            with torch.no_grad():
                _same(form, module, "it depends on whether gradients are computed")
            _same(form, module, "it depends on the type of its input", kind=_Tensor)
            for name, parameter in signature(module.forward).parameters.items():
                _independent(module, graph, name, parameter)
    except UnrecordableError as error:
        raise UnrecordableError(f"the forward of {cls}: {error}") from None
    except Exception as error:
        said = str(error).strip().splitlines() or [""]
        raise UnrecordableError(f"torch.fx cannot trace the forward of {cls}: {said[0]}") from None
    for name, child in module.named_children():
        reads.update(_keys(name, child))
    return graph, reads


def _keys(name: str, module: torch_nn.Module) -> Iterator[tuple[str, Any]]:
    """The keys of lists of modules, which a forward runs through."""
    if isinstance(module, _CONTAINERS):
        yield f"{name}._modules", tuple(module._modules)
        for key, child in module.named_children():
            yield from _keys(f"{name}.{key}", child)


def _traced(module: torch_nn.Module, **options: Any) -> fx.Graph:
    return _Shallow(**options).trace(module)


def _same(form: str, module: torch_nn.Module, why: str, **options: Any) -> None:
    try:
        other = _form(_traced(module, **options))
    except Exception:
        other = ""
    if other != form:
        raise UnrecordableError(why)


def _independent(module: torch_nn.Module, graph: fx.Graph, name: str, parameter: Parameter) -> None:
    """Refuses a forward that does other things where an argument is None, or its default."""
    if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
        return
    for value in (None, parameter.default):
        if value is Parameter.empty:
            continue
        try:
            other = _form(_traced(module, **{name: value}))
        except (TypeError, AttributeError):
            continue  # so does a call with it
        except Exception:
            other = ""
        if other != _form(graph, {name: value}):
            raise UnrecordableError(f"it does other things where '{name}' is {value!r}")


def _form(graph: fx.Graph, given: Mapping[str, Any] | None = None) -> str:
    """The work of a graph, whatever its nodes are called; with the values of some arguments."""
    names: dict[fx.Node, str] = {}
    lines: list[str] = []
    for node in graph.nodes:
        if node.op == "placeholder":
            known = node.target in (given or {})
            names[node] = repr((given or {})[node.target]) if known else str(node.target)
            continue
        names[node] = f"%{len(lines)}"
        arguments = fx.map_arg((node.args, node.kwargs), lambda n: _Name(names[n]))
        lines.append(f"{node.op} {node.target} {arguments}")
    return "\n".join(lines)


class _Name(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@contextmanager
def _modes_flipped(module: torch_nn.Module) -> Iterator[None]:
    modes = [(m, m.training) for m in module.modules()]
    try:
        for m, mode in modes:
            m.training = not mode
        yield
    finally:
        for m, mode in modes:
            m.training = mode


@contextmanager
def _unchanged(module: torch_nn.Module) -> Iterator[None]:
    """Refuses a forward that sets attributes or draws random numbers, which are set back."""
    before = [(m, dict(vars(m)), _registered(m)) for m in module.modules()]
    generators = _generators()
    try:
        yield
    finally:
        changed = not all(
            _are(own, vars(m)) and all(map(_are, registered, _of(m)))
            for m, own, registered in before
        )
        for m, own, registered in before if changed else ():
            vars(m).clear()
            vars(m).update(own)
            for now, then in zip(_of(m), registered, strict=True):
                now.clear()
                now.update(then)
        drawn = str(_generators()) != str(generators)
        torch.set_rng_state(torch.tensor(generators[0], dtype=torch.uint8))
        random.setstate(generators[1])
        np.random.set_state(generators[2])  # noqa: NPY002
    if changed:
        raise UnrecordableError("it sets attributes")
    if drawn:
        raise UnrecordableError("it draws random numbers")


def _generators() -> tuple[Any, ...]:
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), legacy


def _of(module: torch_nn.Module) -> tuple[dict[str, Any], ...]:
    return module._parameters, module._buffers, module._modules


def _registered(module: torch_nn.Module) -> tuple[dict[str, Any], ...]:
    return tuple(dict(d) for d in _of(module))


def _are(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether both hold the same objects."""
    return one.keys() == other.keys() and all(other[key] is value for key, value in one.items())


@contextmanager
def _watched(module: torch_nn.Module, reads: dict[str, Any]) -> Iterator[None]:
    """Notes the attributes that are read of ``module``; refuses those of its children.

    For that `torch.nn.Module` has another ``__getattribute__`` meanwhile, which lets other threads
    through. What another tool has put there is used, and back after.
    """
    modules = {id(m) for m in module.modules()}
    thread = get_ident()

    def look(self: Any, name: str) -> Any:
        if get_ident() != thread:
            return read(self, name)
        try:
            value = read(self, name)
        except AttributeError:
            held = [d[name] for d in _of(self) if name in d]
            if held and held[0] is not None:
                raise
            value = held[0] if held else ABSENT
            if name not in _OF_MODULES and self is module:
                reads[name] = value
            raise
        mode = name == "training" and self is not module
        if (name in _OF_MODULES and not mode) or id(self) not in modules or _is_method(value):
            return value
        if self is not module:
            raise UnrecordableError(f"it reads '{name}' of a layer, which may change")
        if not _is_constant(value):
            raise UnrecordableError(f"it reads '{name}', which may change")
        reads[name] = value
        return value

    cls: Any = torch_nn.Module
    former = vars(cls).get("__getattribute__")
    read = former or object.__getattribute__
    cls.__getattribute__ = look
    try:
        yield
    finally:
        if former is None:
            del cls.__getattribute__
        else:
            cls.__getattribute__ = former


def _is_method(value: object) -> bool:
    return callable(value) and hasattr(value, "__self__") and not isinstance(
        value, BuiltinFunctionType
    )  # fmt: skip


def _is_constant(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_constant, value))
    return isinstance(value, _CONSTANTS)
