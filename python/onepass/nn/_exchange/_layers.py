"""Each layer as its class and the options of its constructor, from which it can be made again.

The options have the names that PyTorch's classes have, and so serve those too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

from onepass.nn._module import Module
from onepass.nn._module_list import ModuleList
from onepass.nn._rescaling import Rescaling
from onepass.nn._residual import Residual
from onepass.nn._sequential import Sequential
from onepass.nn._weight_norm import WeightNorm
from onepass.ops._declare import Kernel

_OWN_CALL = ("__call__", "forward", "fused_forward", "backward")


class NotALayerError(ValueError):
    """A module of which it is not known how it is made; the message says which and why."""


@cache
def layers() -> dict[str, type[Module]]:
    """The classes that onepass has, by name; a file can name no other."""
    from onepass import nn
    from onepass.nn._fold import FoldedLinear

    public = [getattr(nn, name) for name in nn.__all__]
    bases = (nn.Module, nn.Activation)
    known = [c for c in public if inspect.isclass(c) and issubclass(c, nn.Module)]
    found = {c.__name__: c for c in known if c not in bases}
    return found | {FoldedLinear.__name__: FoldedLinear}


def place(name: str) -> str:
    """A layer of a model, for messages, by its name in ``named_modules``."""
    return f"layer {name!r}" if name else "the model"


def check_known(module: Module, name: str) -> None:
    """Refuse what is not a layer of onepass, or one that was changed to compute something else.

    Raises:
        NotALayerError: it is.
    """
    kind = type(module)
    if layers().get(kind.__name__) is not kind:
        raise NotALayerError(f"{place(name)} is a {kind.__name__}, which is not a layer of onepass")
    changed = [method for method in _OWN_CALL if _is_changed(module, method)]
    if changed:
        raise NotALayerError(
            f"{place(name)}, a {kind.__name__}, has a {changed[0]} of its own as an attribute"
        )
    known = {"body", "shortcut"} if kind is Residual else {"module"} if kind is WeightNorm else ()
    others = [] if kind in (Sequential, ModuleList) else [
        key for key, _ in module.named_children() if key not in known
    ]  # fmt: skip
    if others:
        raise NotALayerError(
            f"{place(name)}, a {kind.__name__}, has another module as its attribute {others[0]!r}"
        )
    if isinstance(module, Residual) and type(module.body) is not Sequential:
        raise NotALayerError(f"{place(name)} has a {type(module.body).__name__} as its body")


def _is_changed(module: Any, method: str) -> bool:
    """Whether an attribute stands in for a method of the class; one that only watches does not."""
    if method not in vars(module):
        return False
    found = vars(module)[method]
    while getattr(found, "layer", None) is module and hasattr(found, "inner"):
        found = found.inner  # a stand-in of the trainer's, which calls that
    return getattr(found, "__func__", None) is not getattr(type(module), method)


def options_of(module: Any) -> dict[str, Any]:
    """The arguments that the constructor would make the layer from, but modules and ``dtype``.

    Raises:
        NotALayerError: an activation was given in a form that no file holds.
    """
    found: dict[str, Any] = {}
    for name in option_names(type(module)):
        value = getattr(module, name)
        found[name] = value is not None if name == "bias" else value
        if isinstance(value, Kernel):
            raise NotALayerError(f"the {name} of a {type(module).__name__} is a kernel, not a name")
    return found


def option_names(kind: type[Module]) -> tuple[str, ...]:
    """What `options_of` gives of a layer of this class."""
    return tuple(
        name
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is not parameter.VAR_POSITIONAL
        and name not in ("module", "modules", "shortcut")
        and (name != "dtype" or kind is Rescaling)  # of others, that of the parameters
    )


def names_of_options(kind: type[Module]) -> list[str]:
    """The arguments of a constructor that `options_of` gives."""
    return [name for name in inspect.signature(kind).parameters if name != "dtype"]


def set_modes(module: Module, training: bool, held: bool, frozen: bool) -> None:
    """Give one module its mode, whether its own ``eval()`` holds, and frozen statistics."""
    module.training, module._holds_eval, module.statistics_frozen = training, held, frozen


def walk(module: Module, name: str, visit: Callable[[Module, str, dict[str, Any]], Any]) -> Any:
    """``visit`` of each module with what it gave of those inside, by attribute; innermost first.

    Raises:
        NotALayerError: one is not a layer of onepass.
    """
    check_known(module, name)
    dot = f"{name}." if name else ""
    inside = {key: walk(child, dot + key, visit) for key, child in module.named_children()}
    return visit(module, name, inside)
