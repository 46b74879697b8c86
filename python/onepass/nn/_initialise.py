"""Initial values of a whole model: which initialiser each parameter gets, by what follows it.

The model is walked from its end, so that each layer is met with what comes after it. The order of
the layers is that of `Sequential`; in other modules it is that in which their constructors set
them, which is the only order that can be seen without a call.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass import ops
from onepass._array import Array, to_numpy
from onepass._interruptions import to_the_end
from onepass._kind import namespace
from onepass._parameter import Computed, Parameter
from onepass.nn import _initialisers
from onepass.nn._activation import Activation, Identity
from onepass.nn._channel_norm import ChannelNorm
from onepass.nn._conv import Conv2d
from onepass.nn._decorrelated import DecorrelatedBatchNorm
from onepass.nn._dropout import _Dropping
from onepass.nn._flatten import Flatten
from onepass.nn._gated import GLU, Maxout
from onepass.nn._linear import Linear
from onepass.nn._module import Module
from onepass.nn._pool import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from onepass.nn._residual import Residual
from onepass.nn._row_norm import RowNorm
from onepass.nn._running import Running
from onepass.nn._sequential import Sequential
from onepass.nn._softmax import LogSoftmax, Softmax
from onepass.nn._use import refuse_change
from onepass.nn._weight_norm import WeightNorm
from onepass.ops._fused import resolve

NORMS = (ChannelNorm, RowNorm, DecorrelatedBatchNorm)
WEIGHTED = (Linear, Conv2d)
TRANSPARENT = (Identity, _Dropping, Flatten, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d)
SMALL = 0.1  # of a branch whose last layer must not be zero
# "constant" needs a number, and a gain fills nothing.
SCHEMES = ("auto", *(n for n in _initialisers.__all__ if n not in ("calculate_gain", "constant")))
Floats = NDArray[np.float64]


class Choice(NamedTuple):
    """What a parameter got."""

    scheme: str  # a name in nn.init; "kept" where the values are those of before
    std: float  # standard deviation of the values
    why: str


class Report(dict[str, Choice]):
    """Name of a parameter → its `Choice`; prints as a table with a row a parameter."""

    def __repr__(self) -> str:
        rows = [(name, c.scheme, f"{c.std:.3g}", c.why) for name, c in self.items()]
        rows.insert(0, ("parameter", "scheme", "std", "because"))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        cells = ("  ".join((*map(str.ljust, row, widths), row[3])) for row in rows)
        return "\n".join(map(str.rstrip, cells))


class After(NamedTuple):
    """What comes after a layer, as far as its weights depend on it."""

    label: str
    family: str = "xavier"
    gain: float = 1.0  # that keeps the mean square: √2 of ReLU
    slope: float = 0.0  # of a leaky ReLU


class Place(NamedTuple):
    """Where a module stands."""

    after: After
    scale: float = 1.0  # of its values: 0 or less than 1 at the end of a residual branch


OUTPUT = After("the output")
ORDINARY = Place(OUTPUT)


def apply(model: Module, scheme: str = "auto", seed: int = 0) -> Report:
    """Initialise a whole model, and return what each parameter got.

    ``"auto"`` looks at what comes after a linear layer or a convolution, through norms, dropout and
    pools, and keeps the mean square of the signal: `kaiming_normal` before what is like ReLU
    (GELU, SiLU, ELU, … too; with the slope of a leaky one), `lecun_normal` before SELU, and before
    Maxout with 1/√E[max²], `xavier_normal` before everything else (tanh, sigmoid, another layer,
    the output). The last layer or norm of a residual branch begins at 0, so that a block passes its
    input on; where an activation stands behind it, at a tenth. A name of an initialiser takes that
    for every weight; `orthogonal` has the gain √2 before what is like ReLU.

    With every scheme the weights of norms are 1 (but at the end of a branch), biases 0, running
    statistics those of new norms. A grouped convolution is so many convolutions. Frozen parameters
    stay as they are, and so do those of your own modules unless they are named as weights (at least
    2 axes) or biases; the report says so. In a module of your own, layers count as called in
    the order in which its constructor sets them.

    A weight is a function of (seed, its name): adding a layer does not change the others, and
    neither `nn.manual_seed` nor the values before count.

    Args:
        model: module, changed in place.
        scheme: "auto", or the name of an initialiser: kaiming_normal, kaiming_uniform,
            xavier_normal, xavier_uniform, lecun_normal, lecun_uniform, geometric_mean, orthogonal,
            normal, uniform, zeros, ones.
        seed: an integer, 0 <= seed < 2**64.

    Returns:
        A dict of names to (scheme, std, why), which prints as a table.

    Raises:
        TypeError: ``model`` is not a module, or ``seed`` not an integer.
        ValueError: another scheme or seed; nothing is changed.
        RuntimeError: the Trainer of another thread uses the model.

    Source: He et al. 2015, Glorot & Bengio 2010, Klambauer et al. 2017; the zero at the end of a
    branch: Goyal et al., Accurate, Large Minibatch SGD, 2017, and Zhang et al., Fixup
    Initialization, 2019.

    Example:
        >>> from onepass import nn
        >>> nn.init.apply(nn.Sequential(nn.Linear(50, 8), nn.ReLU(), nn.Linear(8, 2)))
        parameter  scheme          std    because
        0.weight   kaiming_normal  0.205  before ReLU
        0.bias     zeros           0      bias
        2.weight   xavier_normal   0.419  before the output
        2.bias     zeros           0      bias
    """
    if not isinstance(model, Module):
        raise TypeError(f"apply: 'model' is a {type(model).__name__}, expected an nn.Module")
    numbers.one_of("apply", "scheme", scheme, SCHEMES)
    seed = numbers.seed("apply", "seed", seed)
    refuse_change(model, "nn.init.apply")
    places: dict[int, Place] = {}
    _walk(model, OUTPUT, places)
    report, writes = Report(), list[tuple[Array, Any]]()
    drawn: dict[int, tuple[Choice, Floats | None]] = {}  # by the parameter, of its first name
    for prefix, module in model.named_modules():
        place = places.get(id(module), ORDINARY)
        for key, choice, values in _of_module(module, prefix, place, scheme, seed):
            drawn.setdefault(id(getattr(module, key)), (choice, values))
        if isinstance(module, Running) and not module.statistics_frozen:
            writes += module.fresh_statistics()
    for name, parameter in model.named_parameters():
        report[name], values = drawn[id(parameter)]
        if values is not None:
            writes.append((parameter.data, values))
    to_the_end(partial(_write, writes))
    return report


def _write(writes: list[tuple[Array, Any]]) -> None:
    for array, values in writes:
        array[...] = namespace(array).asarray(values, array.dtype)


# -- what comes after a layer ------------------------------------------------------------------


def _walk(module: Module, after: After, places: dict[int, Place]) -> After:
    """Note the place of everything inside; returns what stands before ``module`` comes upon."""
    kept = places.get(id(module), Place(after)).scale  # a residual around may have set it
    places[id(module)] = Place(after, kept)
    if isinstance(module, Activation):
        return _of_activation(module.declared.name, type(module).__name__, vars(module))
    if isinstance(module, GLU):
        return _of_activation(resolve("GLU", module.activation).name, "GLU", {})
    if isinstance(module, Maxout):
        return After("Maxout", "lecun", 1 / math.sqrt(_mean_square_of_maximum(module.pieces)))
    if isinstance(module, (Softmax, LogSoftmax)):
        return After(type(module).__name__)
    if isinstance(module, WEIGHTED):
        return After(type(module).__name__)
    if isinstance(module, Residual):
        _note_branch(module.body, places)
        if module.shortcut is not None:
            _walk(module.shortcut, after, places)
        return _walk(module.body, after, places)
    children = [child for _, child in module.named_children()]
    for child in reversed(children):
        after = _walk(child, after, places)
    if children or isinstance(module, NORMS) or not _own(module):
        return after  # norms, dropout, pools and such are looked through
    return After(type(module).__name__)


def _of_activation(name: str, label: str, options: dict[str, Any]) -> After:
    if name == "selu":
        return After(label, "lecun")
    if name == "leaky_relu":
        slope = float(options.get("negative_slope", 0.01))
        return After(label, "kaiming", math.sqrt(2 / (1 + slope**2)), slope)
    if _is_like_relu(name):
        return After(label, "kaiming", math.sqrt(2))
    return After(label)


@cache
def _is_like_relu(name: str) -> bool:
    """Whether it passes what is positive and stops most of what is negative."""
    below, above = getattr(ops, name)(np.array([-3.0, 3.0]))
    return bool(above >= 2 and abs(below) <= 1)


@cache
def _mean_square_of_maximum(pieces: int) -> float:
    """E max(z₁, …, z_k)² of normal z: ∫ z² k φ(z) Φ(z)^(k-1) dz."""
    z = np.linspace(-12, 12, 4801)
    phi = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    below = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in z])
    return float(np.sum(z**2 * pieces * phi * below ** (pieces - 1)) * (z[1] - z[0]))


def _note_branch(body: Sequential, places: dict[int, Place]) -> None:
    """The last layer or norm of a residual branch begins at 0, so that the block passes x on.

    Where an activation stands behind it, 0 would stop its gradient: it begins small instead.
    """
    layers, scale = list(_flat(body)), 0.0
    for layer in reversed(layers):
        if isinstance(layer, (Activation, GLU, Maxout)):
            scale = SMALL
        elif isinstance(layer, (*WEIGHTED, WeightNorm)) or (
            isinstance(layer, NORMS) and getattr(layer, "weight", None) is not None
        ):
            places[id(layer)] = Place(OUTPUT, scale)
            return
        elif not isinstance(layer, TRANSPARENT):
            return  # it would undo the scale, or what it does at 0 is not known


def _flat(module: Module) -> Iterator[Module]:
    if isinstance(module, Sequential):
        for layer in module.layers:
            yield from _flat(layer)
    else:
        yield module


# -- the values --------------------------------------------------------------------------------


def _of_module(
    module: Module, prefix: str, place: Place, scheme: str, seed: int
) -> Iterator[tuple[str, Choice, Floats | None]]:
    """(attribute, choice, values) of each parameter of its own; values None where they stay."""
    if scheme != "auto":
        place = Place(place.after)
    if isinstance(module, WeightNorm):
        yield from _of_weight_norm(module, prefix, place, scheme, seed)
        return
    for key, parameter in _own(module).items():
        if not parameter.requires_grad:
            yield key, _as_it_was(parameter, "frozen"), None
        elif isinstance(module, NORMS) and key in ("weight", "bias"):
            value = place.scale if key == "weight" else 0.0
            name = "ones" if value == 1 else "constant" if value else "zeros"
            why = _end_of_branch(place, "norm") if key == "weight" else "norm"
            yield key, Choice(name, 0.0, why), np.full(parameter.shape, value)
        elif key == "bias" or (parameter.ndim == 1 and "bias" in key):
            yield key, Choice("zeros", 0.0, "bias"), np.zeros(parameter.shape)
        elif parameter.ndim >= 2 and (isinstance(module, WEIGHTED) or "weight" in key):
            groups = module.groups if isinstance(module, Conv2d) else 1
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
    if frozen or not isinstance(inner, WEIGHTED) or v.ndim < 2:
        why = "frozen" if frozen else f"of {type(inner).__name__}, unknown"
        yield "weight_g", _as_it_was(g, why), None
        yield "weight_v", _as_it_was(v, why), None
        return
    groups = inner.groups if isinstance(inner, Conv2d) else 1
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


def _own(module: Module) -> dict[str, Parameter]:
    """The parameters that are attributes of this very module."""
    return {
        key: value
        for key, value in tuple(vars(module).items())
        if isinstance(value, Parameter) and not isinstance(value, Computed)
    }


def _as_it_was(parameter: Parameter, why: str) -> Choice:
    values = to_numpy(parameter.data).astype(np.float64)
    return Choice("kept", float(values.std()) if values.size else 0.0, why)


def _seed_of(seed: int, name: str, group: int) -> int:
    text = f"{seed} {group} {name}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def _join(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key
