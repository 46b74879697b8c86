"""A subclass of a module's class with a forward that was recorded and changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from inspect import ismodule
from typing import Any, NamedTuple
from warnings import warn

import torch
from torch import fx
from torch import nn as torch_nn

from onepass.torch._recorded import ABSENT


def copies_itself(cls: type) -> str:
    """Why a class cannot be rewritten: it makes copies that would not be of the new class."""
    for name in ("__reduce__", "__reduce_ex__", "__deepcopy__"):
        if getattr(cls, name, None) is not getattr(torch_nn.Module, name, None):
            return f"{cls.__name__} has a {name} of its own"
    return ""


def rewritten(cls: type, graph: fx.Graph, holds: Mapping[str, Any]) -> type:
    """A subclass of ``cls`` whose forward is ``graph``, where ``holds`` does.

    Raises:
        SyntaxError: torch.fx cannot write it.
    """
    code = graph.python_code("self")
    source = re.sub(r"(def forward\(.*:\n)", r"\1    onepass_check(self)\n", code.src, count=1)
    return _rewritten(cls, source, _used(source, code.globals), holds)


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


def warn_of_hooks(absorbed: torch.nn.Module, name: str) -> None:
    for register in _HOOKS:
        vars(absorbed)[register] = partial(_register, absorbed, register, name)


def _register(absorbed: torch.nn.Module, register: str, name: str, *rest: Any, **more: Any) -> Any:
    warn(
        f"{register}: {name} is part of a norm since onepass.torch.fuse and is no longer called "
        "there: the hook will not fire; register it before fuse, which then leaves the layer alone",
        stacklevel=2,
    )
    return getattr(type(absorbed), register)(absorbed, *rest, **more)
