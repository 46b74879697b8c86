"""The arrays of each layer by its options, known before a constructor takes memory for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onepass import nn
from onepass.nn._fold import FoldedLinear

Shapes = dict[str, tuple[int, ...]]
Options = dict[str, Any]
_RULES: dict[type, Callable[[Options], Shapes]] = {}


def shapes(kind: type, options: Options) -> Shapes:
    """Name → shape of the parameters and buffers of a layer; the options are all that it has.

    Raises:
        ValueError: an option that a shape depends on is not in the form that a layer has it in.
    """
    rule = _RULES.get(kind)
    return {} if rule is None else rule(options)


def _of(*layers: type) -> Callable[[Callable[[Options], Shapes]], Callable[[Options], Shapes]]:
    def note(rule: Callable[[Options], Shapes]) -> Callable[[Options], Shapes]:
        _RULES.update(dict.fromkeys(layers, rule))
        return rule

    return note


def _extent(options: Options, name: str) -> int:
    return _extents(options, name, (options[name],))[0]


def _extents(options: Options, name: str, given: Any) -> tuple[int, ...]:
    if type(given) is not tuple or any(type(n) is not int or n < 1 for n in given):
        raise ValueError(f"{name!r} is {options[name]!r}")
    return given


def _part(options: Options, whole: str, parts: str) -> int:
    """An extent divided among groups."""
    extent, count = _extent(options, whole), _extent(options, parts)
    if extent % count:
        raise ValueError(f"{parts!r} is {count}, expected a divisor of {whole}, {extent}")
    return extent // count


def _parameters(options: Options, shape: tuple[int, ...], flag: str) -> Shapes:
    return {"weight": shape, "bias": shape} if options[flag] else {}


@_of(nn.Linear, FoldedLinear)
def _linear(options: Options) -> Shapes:
    rows = _extent(options, "out_features")
    bias = {"bias": (rows,)} if options["bias"] else {}
    return {"weight": (rows, _extent(options, "in_features")), **bias}


@_of(nn.Conv2d)
def _conv(options: Options) -> Shapes:
    rows = _extent(options, "out_channels")
    kernel = _extents(options, "kernel_size", options["kernel_size"])
    bias = {"bias": (rows,)} if options["bias"] else {}
    return {"weight": (rows, _part(options, "in_channels", "groups"), *kernel), **bias}


@_of(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d,
     nn.InstanceNorm3d, nn.BatchRenorm)  # fmt: skip
def _channel_norm(options: Options) -> Shapes:
    channels = (_extent(options, "num_features"),)
    found = _parameters(options, channels, "affine")
    if options.get("track_running_stats", True):  # which a BatchRenorm always does
        found |= {"running_mean": channels, "running_var": channels, "num_batches_tracked": ()}
    return found


@_of(nn.DecorrelatedBatchNorm)
def _decorrelated(options: Options) -> Shapes:
    channels, width = (
        (_extent(options, "num_features"),),
        _part(options, "num_features", "num_groups"),
    )
    projection = (options["num_groups"], width, width)
    found = _parameters(options, channels, "affine")
    return found | {"running_mean": channels, "running_projection": projection}


@_of(nn.LayerNorm, nn.RMSNorm)
def _row_norm(options: Options) -> Shapes:
    shape = _extents(options, "normalized_shape", options["normalized_shape"])
    found = _parameters(options, shape, "elementwise_affine")
    if not options.get("bias", False):  # which an RMSNorm lacks
        found.pop("bias", None)
    return found


@_of(nn.GroupNorm)
def _group_norm(options: Options) -> Shapes:
    return _parameters(options, (_extent(options, "num_channels"),), "affine")
