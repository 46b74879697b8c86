"""A model as JSON: layers with their options and modes, what is frozen, what shares a parameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from onepass._parameter import Computed, Parameter
from onepass.nn._exchange._layers import (
    NotALayerError,
    check_known,
    layers,
    option_names,
    options_of,
    place,
    set_modes,
    walk,
)
from onepass.nn._module import Module
from onepass.nn._module_list import ModuleList
from onepass.nn._residual import Residual
from onepass.nn._sequential import Sequential
from onepass.nn._sharing import overlap
from onepass.nn._signal import Norm
from onepass.nn._weight_norm import WeightNorm

MOST_LAYERS = 100_000
_AFFINE = ("weight", "bias")  # which a norm may be without
_UNUSED = ("fuse", "channels_last")  # options on which no value depends
ShapeOf = Callable[[str], "tuple[int, ...] | None"]  # of an array in the file; None: it is not


def described(model: Module) -> dict[str, Any]:
    """What `build` makes a model from that has no values yet.

    Raises:
        NotALayerError: a module inside is not a layer of onepass, or two parameters, or running
            statistics, lie in the same memory: the file would have them apart.
    """
    if (said := overlap(model)) is not None:
        raise NotALayerError(said)
    tree = walk(model, "", _tree)
    tied = _tied(model)
    frozen = [name for name, p in _slots(model) if name not in tied and not p.requires_grad]
    return {"layers": tree, "tied": tied, "frozen": frozen}


def _tied(model: Module) -> dict[str, str]:
    """Names of parameters that have another name before → that one."""
    owners: dict[int, str] = {}
    firsts = {name: owners.setdefault(id(p), name) for name, p in _slots(model)}
    return {name: first for name, first in firsts.items() if name != first}


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
        tree["options"] = packed = dict[str, Any]()
        for key, value in options.items():
            try:
                packed[key] = _packed(value)
            except NotALayerError as error:
                kind = type(module).__name__
                raise NotALayerError(f"{key!r} of {place(name)}, a {kind}, {error}") from None
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
    """A number that JSON lacks as an object; tuples as lists.

    Raises:
        NotALayerError: no file holds it.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, (list, tuple)):
        return [_packed(item) for item in value]
    if isinstance(value, dict):
        return {"options": {key: _packed(item) for key, item in value.items()}}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise NotALayerError(f"is {value!r}, which no file holds")


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_unpacked(item) for item in value)
    if not isinstance(value, dict):
        return value
    if value.keys() == {"float"}:
        return float(value["float"])
    return {key: _unpacked(item) for key, item in value["options"].items()}


def difference(model: Module, about: Any) -> str | None:
    """The first layer that is another one than in a file, or parameter that layers share in one of
    the two; modes do not count.

    Where ``model`` has modules of one's own, the layers that both have are compared.
    """
    theirs = dict(_flat(about["layers"], ""))
    ours = {name: _known(module, name) for name, module in model.named_modules()}
    for name in theirs if None in ours.values() else dict.fromkeys([*theirs, *ours]):
        was, now = theirs.get(name), ours.get(name)
        if was == now or (name in ours and now is None):
            continue
        if was is None or now is None:
            if None not in ours.values():
                where = "the model" if was is None else "the file"
                kind = (was or now or ("",))[0]
                return f"{place(name)}, a {kind}, is in {where} alone"
        elif was[0] != now[0]:
            return f"{place(name)} is a {was[0]} in the file, and a {now[0]} in the model"
        else:
            for key in {**was[1], **now[1]}:
                if was[1].get(key) != now[1].get(key):
                    return (
                        f"{key!r} of {place(name)}, a {was[0]}, is {was[1].get(key)!r} in the "
                        f"file, and {now[1].get(key)!r} in the model"
                    )
    return _other_sharing(about["tied"], _tied(model))


def _other_sharing(theirs: dict[str, str], ours: dict[str, str]) -> str | None:
    for name in {**ours, **theirs}:
        if theirs.get(name) != ours.get(name):
            was, now = (
                f"the same as {tied[name]!r}" if name in tied else "a parameter of its own"
                for tied in (theirs, ours)
            )
            return f"{name!r} is {was} in the file, and {now} in the model"
    return None


_Layer = tuple[str, dict[str, Any]]  # the name of its class, and options


def _flat(tree: Any, name: str) -> Iterator[tuple[str, _Layer]]:
    options = {k: _unpacked(v) for k, v in tree.get("options", {}).items() if k not in _UNUSED}
    yield name, (tree["layer"], options)
    for key, child in tree.get("inside", {}).items():
        yield from _flat(child, f"{name}.{key}" if name else key)


def _known(module: Module, name: str) -> _Layer | None:
    """None for what is not a layer of onepass."""
    try:
        check_known(module, name)
        return next(_flat(_tree(module, name, {}), name))[1]
    except NotALayerError:
        return None


def build(about: Any, shape_of: ShapeOf) -> Module:
    """A model as `described`, with new values.

    Memory is taken for a layer where the file has all its arrays, of these shapes.

    Raises:
        ValueError, TypeError, KeyError, AttributeError, RecursionError: it describes no model.
    """
    if _count(about["layers"]) > MOST_LAYERS:
        raise ValueError(f"it has more than {MOST_LAYERS} layers")
    return _made(about["layers"], "", shape_of)


def _count(tree: Any) -> int:
    return 1 + sum(_count(child) for child in tree.get("inside", {}).values())


def _made(tree: Any, name: str, shape_of: ShapeOf) -> Module:
    kind, options = tree["layer"], tree.get("options", {})
    if not isinstance(kind, str) or kind not in layers():
        raise ValueError(f"{place(name)} is a {kind!r}, which this version of onepass has not")
    dot = f"{name}." if name else ""
    given = {key: _unpacked(value) for key, value in options.items()}
    within = _normed(shape_of, dot, given) if kind == "WeightNorm" else shape_of
    inside = {key: _made(child, dot + key, within) for key, child in tree.get("inside", {}).items()}
    absent = [key for key in tree.get("absent", ()) if key in _AFFINE]
    try:
        flag = _checked(layers()[kind], given, absent, dot, shape_of)
        module = _constructed(layers()[kind], given, inside)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place(name)}, a {kind}: {error}") from error
    check_known(module, name)
    if flag:
        setattr(module, flag, True)
    for key in absent:
        if key in vars(module):
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


def _normed(shape_of: ShapeOf, dot: str, options: dict[str, Any]) -> ShapeOf:
    """The layer inside a weight norm has no weight in the file: that has the shape of v."""
    weight = f"{dot}module.{options['name']}"
    return lambda name: shape_of(f"{dot}weight_v" if name == weight else name)


def _checked(
    kind: type[Module], options: dict[str, Any], absent: list[str], dot: str, shape_of: ShapeOf
) -> str:
    """Refuse a layer whose arrays are not in the file, before memory is taken for them.

    Returns the option, if any, that is set to False meanwhile, so that it takes none for those that
    are ``absent``.
    """
    from onepass.nn._exchange._shapes import shapes  # which knows all layers

    expected = option_names(kind)
    if lacking := [key for key in expected if key not in options]:
        raise ValueError(f"its {lacking[0]!r} is not in the file")
    wanted = shapes(kind, options)
    flag = next((key for key in ("affine", "elementwise_affine") if options.get(key)), "")
    none = bool(flag) and issubclass(kind, Norm) and all(
        key in absent for key in _AFFINE if key in wanted
    )  # fmt: skip
    for key, shape in wanted.items():
        if key in absent and issubclass(kind, Norm):
            continue
        found = shape_of(dot + key)
        if found is None:
            raise ValueError(f"the file lacks {dot + key!r}")
        if found != shape:
            raise ValueError(f"{dot + key!r} has shape {found}, expected {shape}")
    if none:
        options[flag] = False
    return flag if none else ""
