"""The initial values of each parameter of a module, by the module's place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onepass._array import to_numpy
from onepass._parameter import Parameter
from onepass.nn import _initialisers
from onepass.nn._affine import Affine
from onepass.nn._init_walk import Place, own_parameters
from onepass.nn._module import Module
from onepass.nn._signal import Norm
from onepass.nn._weight_norm import WeightNorm

Floats = NDArray[np.float64]


class Choice(NamedTuple):
    """What a parameter got."""

    scheme: str  # a name in nn.init; "kept" where the values are those of before
    std: float  # standard deviation of the values
    why: str


def values_of(
    module: Module, prefix: str, place: Place, scheme: str, seed: int
) -> Iterator[tuple[str, Choice, Floats | None]]:
    """(attribute, choice, values) of each parameter of its own; values None where they stay."""
    if scheme != "auto":
        place = Place(place.after)
    if isinstance(module, WeightNorm):
        yield from _of_weight_norm(module, prefix, place, scheme, seed)
        return
    for key, parameter in own_parameters(module).items():
        if not parameter.requires_grad:
            yield key, _as_it_was(parameter, "frozen"), None
        elif isinstance(module, Norm) and key in ("weight", "bias"):
            value = place.scale if key == "weight" else 0.0
            name = "ones" if value == 1 else "constant" if value else "zeros"
            why = _end_of_branch(place, "norm") if key == "weight" else "norm"
            yield key, Choice(name, 0.0, why), np.full(parameter.shape, value)
        elif key == "bias" or (parameter.ndim == 1 and "bias" in key):
            yield key, Choice("zeros", 0.0, "bias"), np.zeros(parameter.shape)
        elif parameter.ndim >= 2 and (isinstance(module, Affine) or "weight" in key):
            groups = getattr(module, "groups", 1)
            name = _join(prefix, key)
            yield key, *_weight(parameter.shape, groups, name, place, scheme, seed)
        else:
            yield key, _as_it_was(parameter, f"of {type(module).__name__}, unknown"), None


def _weight(
    shape: tuple[int, ...], groups: int, name: str, place: Place, scheme: str, seed: int
) -> tuple[Choice, Floats]:
    """A function of the seed and the name; each group of a convolution is drawn by itself."""
    after = place.after
    chosen, factor, options = scheme, place.scale, {}
    why = f"before {after.label}"
    if scheme == "auto":
        chosen = f"{after.family}_normal"
        why = _end_of_branch(place, why)
        if after.family == "kaiming":
            options["a"] = after.slope
        elif after.family == "lecun":
            factor *= after.gain
    elif scheme == "orthogonal":
        options["gain"] = after.gain
    if factor == 0:
        return Choice("zeros", 0.0, why), np.zeros(shape)
    values = np.empty(shape)
    rows = shape[0] // groups
    for g in range(groups):
        part = _seed_of(seed, name, g)
        getattr(_initialisers, chosen)(values[g * rows : (g + 1) * rows], **options, seed=part)
    values *= factor
    return Choice(chosen, float(values.std()) if values.size else 0.0, why), values


def _of_weight_norm(
    module: WeightNorm, prefix: str, place: Place, scheme: str, seed: int
) -> Iterator[tuple[str, Choice, Floats | None]]:
    v, g, inner = module.weight_v, module.weight_g, module.module
    frozen = not (v.requires_grad and g.requires_grad)
    if frozen or not isinstance(inner, Affine) or v.ndim < 2:
        why = "frozen" if frozen else f"of {type(inner).__name__}, unknown"
        yield "weight_g", _as_it_was(g, why), None
        yield "weight_v", _as_it_was(v, why), None
        return
    groups = getattr(inner, "groups", 1)
    zero = place.scale == 0 or scheme == "zeros"  # the lengths: zero has no direction
    drawn = Place(place.after) if zero else place
    scheme = "auto" if scheme == "zeros" else scheme
    name = _join(prefix, "weight_v")
    choice, values = _weight(v.shape, groups, name, drawn, scheme, seed)
    others = tuple(i for i in range(v.ndim) if i != module.dim)
    lengths = np.sqrt((values**2).sum(axis=others, keepdims=True)) * (not zero)
    why = _end_of_branch(place, f"the lengths of {name}")
    scheme_of_g = "zeros" if zero else choice.scheme
    std = float(lengths.std()) if lengths.size else 0.0
    yield "weight_g", Choice(scheme_of_g, std, why), lengths
    yield "weight_v", choice, values


def _end_of_branch(place: Place, why: str) -> str:
    return why if place.scale == 1 else "end of a residual branch"


def _as_it_was(parameter: Parameter, why: str) -> Choice:
    values = to_numpy(parameter.data).astype(np.float64)
    return Choice("kept", float(values.std()) if values.size else 0.0, why)


def _seed_of(seed: int, name: str, group: int) -> int:
    text = f"{seed} {group} {name}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def _join(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key
