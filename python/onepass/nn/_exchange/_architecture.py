"""A model as JSON: layers with their options and modes, what is frozen, what shares a parameter."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from onepass._parameter import Computed, Parameter
from onepass.nn._exchange._layers import (
    check_known,
    layers,
    options_of,
    place,
    set_modes,
    walk,
)
from onepass.nn._module import Module
from onepass.nn._module_list import ModuleList
from onepass.nn._residual import Residual
from onepass.nn._sequential import Sequential
from onepass.nn._signal import Norm
from onepass.nn._weight_norm import WeightNorm

MOST_LAYERS = 100_000
_AFFINE = ("weight", "bias")  # which a norm may be without
# The options whose product is the number of elements that a constructor takes memory for.
_SIZES: dict[str, tuple[str, ...]] = {
    "Linear": ("out_features", "in_features"),
    "FoldedLinear": ("out_features", "in_features"),
    "Conv2d": ("out_channels", "in_channels", "kernel_size"),
    "DecorrelatedBatchNorm": ("num_features", "num_features"),
    "GroupNorm": ("num_channels",),
    "LayerNorm": ("normalized_shape",),
    "RMSNorm": ("normalized_shape",),
    **dict.fromkeys(
        ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "BatchRenorm"), ("num_features",)
    ),
    **dict.fromkeys(("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"), ("num_features",)),
}


def described(model: Module) -> dict[str, Any]:
    """What `build` makes a model from that has no values yet.

    Raises:
        NotALayerError: a module inside is not a layer of onepass.
    """
    tree = walk(model, "", _tree)
    owners: dict[int, str] = {}
    tied: dict[str, str] = {}
    frozen: list[str] = []
    for name, parameter in _slots(model):
        first = owners.setdefault(id(parameter), name)
        if first != name:
            tied[name] = first
        elif not parameter.requires_grad:
            frozen.append(name)
    return {"layers": tree, "tied": tied, "frozen": frozen}


def _slots(model: Module) -> list[tuple[str, Parameter]]:
    """Each attribute that holds a parameter, also where that stands twice."""
    return [
        (f"{prefix}.{key}" if prefix else key, value)
        for prefix, module in model.named_modules()
        for key, value in tuple(vars(module).items())
        if isinstance(value, Parameter) and not isinstance(value, Computed)
    ]


def _tree(module: Module, name: str, inside: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {"layer": type(module).__name__}
    if options := options_of(module):
        tree["options"] = {key: _packed(value) for key, value in options.items()}
    if inside:
        tree["inside"] = inside
    if isinstance(module, Norm) and (
        absent := [k for k in _AFFINE if vars(module).get(k, 0) is None]
    ):
        tree["absent"] = absent
    modes = {
        "eval": not module.training,
        "held": module._holds_eval,
        "frozen_statistics": module.statistics_frozen,
    }
    return tree | {key: True for key, value in modes.items() if value}


def _packed(value: Any) -> Any:
    """A number that JSON lacks as an object; tuples as lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, (list, tuple)):
        return [_packed(item) for item in value]
    if isinstance(value, dict):
        return {"options": {key: _packed(item) for key, item in value.items()}}
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_unpacked(item) for item in value)
    if not isinstance(value, dict):
        return value
    if value.keys() == {"float"}:
        return float(value["float"])
    return {key: _unpacked(item) for key, item in value["options"].items()}


def build(about: Any, elements: Callable[[str], int]) -> Module:
    """A model as `described`, with new values. ``elements``: prefix → elements in the file.

    Nothing takes more memory than the file has.

    Raises:
        ValueError, TypeError, KeyError, AttributeError, RecursionError: it describes no model.
    """
    if _count(about["layers"]) > MOST_LAYERS:
        raise ValueError(f"it has more than {MOST_LAYERS} layers")
    return _made(about["layers"], "", elements)


def _count(tree: Any) -> int:
    return 1 + sum(_count(child) for child in tree.get("inside", {}).values())


def _made(tree: Any, name: str, elements: Callable[[str], int]) -> Module:
    kind, options = tree["layer"], tree.get("options", {})
    if not isinstance(kind, str) or kind not in layers():
        raise ValueError(f"{place(name)} is a {kind!r}, which this version of onepass has not")
    dot = f"{name}." if name else ""
    wrapped = kind == "WeightNorm"  # whose weight is that of the layer inside
    within = (lambda _: elements(dot)) if wrapped else elements
    inside = {key: _made(child, dot + key, within) for key, child in tree.get("inside", {}).items()}
    given = {key: _unpacked(value) for key, value in options.items()}
    if kind in _SIZES:
        _check_size(kind, given, name, elements(dot))
    try:
        module = _constructed(layers()[kind], given, inside)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place(name)}: {error}") from error
    check_known(module, name)
    for key in tree.get("absent", ()) if isinstance(module, Norm) else ():
        if key in _AFFINE and key in vars(module):
            setattr(module, key, None)
    set_modes(
        module,
        not tree.get("eval", False),
        bool(tree.get("held", False)),
        bool(tree.get("frozen_statistics", False)),
    )
    return module


def _constructed(kind: type[Any], options: dict[str, Any], inside: dict[str, Module]) -> Module:
    if issubclass(kind, (Sequential, ModuleList)):
        if list(inside) != [str(i) for i in range(len(inside))]:
            raise ValueError(f"its layers have the names {list(inside)}")
        fuse = options.pop("fuse", None)
        if issubclass(kind, ModuleList):
            return kind(inside.values(), **options)
        made = kind(*inside.values(), **options)
        made.fuse = _flag(fuse)
        return made
    if issubclass(kind, Residual):
        body, fuse = inside.pop("body"), options.pop("fuse", None)
        if type(body) is not Sequential:
            raise ValueError("its body is not a Sequential")
        block = kind(*body.layers, shortcut=inside.pop("shortcut", None), **options)
        block.body, block.fuse = body, _flag(fuse)
        _refuse_more(inside)
        return block
    if issubclass(kind, WeightNorm):
        normed = kind(inside.pop("module"), **options)
        _refuse_more(inside)
        return normed
    _refuse_more(inside)
    layer: Module = kind(**options)
    return layer


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"'fuse' is {value!r}")
    return value


def _refuse_more(inside: dict[str, Module]) -> None:
    if inside:
        raise ValueError(f"it has {sorted(inside)} inside")


def _check_size(kind: str, options: dict[str, Any], name: str, given: int) -> None:
    """Refuse a layer whose values are not in the file, before memory is taken for them."""
    wanted = 1
    for option in _SIZES[kind]:
        for n in options[option] if isinstance(options[option], tuple) else (options[option],):
            if type(n) is not int or n < 1:
                raise ValueError(f"{place(name)}, a {kind}: {option!r} is {options[option]!r}")
            wanted *= n
    parts = options.get("groups" if kind == "Conv2d" else "num_groups", 1)
    if kind in ("Conv2d", "DecorrelatedBatchNorm"):
        if type(parts) is not int or parts < 1:
            raise ValueError(f"{place(name)}, a {kind}: its groups are {parts!r}")
        wanted //= parts
    plain = not options.get("affine", options.get("elementwise_affine", True))
    if plain and not options.get("track_running_stats", kind == "BatchRenorm"):
        return  # it has no values
    if wanted > given:
        raise ValueError(
            f"{place(name)}, a {kind}, has {wanted} values, and {given} are in the file"
        )
