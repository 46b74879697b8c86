"""What a training step of each layer has to do: multiply-adds, and bytes that its kernels move."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from onepass.nn._activation import Activation, Identity
from onepass.nn._affine import Affine
from onepass.nn._decorrelated import DecorrelatedBatchNorm
from onepass.nn._dropout import _Dropping
from onepass.nn._exchange._layers import layers
from onepass.nn._flatten import Flatten
from onepass.nn._gated import GLU, Maxout
from onepass.nn._init_walk import own_parameters
from onepass.nn._module_list import ModuleList
from onepass.nn._pool import AdaptiveAvgPool2d, MaxPool2d, _Pool
from onepass.nn._rescaling import Rescaling
from onepass.nn._residual import Residual
from onepass.nn._sequential import Sequential
from onepass.nn._signal import Norm
from onepass.nn._softmax import _OverAxis
from onepass.nn._weight_norm import WeightNorm


class Call(NamedTuple):
    """One call of a layer: the shapes of x and y, and the bytes of an element."""

    x: tuple[int, ...]
    y: tuple[int, ...]
    x_bytes: int  # of x, which may be of bytes
    item: int  # of an element of y


class Place(NamedTuple):
    """What the rest of the model makes of a layer.

    Attributes:
        fused: its work is done by another layer's kernel.
        training: its mode in a training step.
        then: whether its kernel does an activation or dropout behind it; adds: and a residual.
        runs_back: whether backward comes to it; needs_dx: and goes on in front of it.
    """

    fused: bool = False
    training: bool = True
    then: bool = False
    adds: bool = False
    runs_back: bool = True
    needs_dx: bool = True


class Work(NamedTuple):
    """Multiply-adds and bytes, forward and backward."""

    products: tuple[int, int] = (0, 0)
    bytes: tuple[int, int] = (0, 0)

    def __add__(self, other: Any) -> Work:
        (a, b), (c, d) = self.products, other.products
        (e, f), (g, h) = self.bytes, other.bytes
        return Work((a + c, b + d), (e + g, f + h))


def work(layer: Any, call: Call, place: Place) -> Work:
    """Of one call, in a training step."""
    if place.fused:
        return Work()
    found = _work(layer, call, place)
    if place.runs_back:
        return found
    return Work((found.products[0], 0), (found.bytes[0], 0))


def _work(layer: Any, call: Call, place: Place) -> Work:
    x, y = call.x_bytes, math.prod(call.y) * call.item
    dx = math.prod(call.x) * call.item
    own = sum(p.size * p.dtype.itemsize for p in own_parameters(layer).values())
    if isinstance(layer, Affine):
        return _affine(layer, call, place)
    if isinstance(layer, WeightNorm):  # v → w, and dw, v → dv; the layer inside does the rest
        v = layer.weight_v.size * layer.weight_v.dtype.itemsize
        return Work((0, 0), (2 * v, 3 * v))
    if isinstance(layer, Residual):
        return Work((0, 0), (3 * y, 3 * dx if place.needs_dx else 0))
    if isinstance(layer, (Sequential, ModuleList, Identity, Flatten)):
        return Work()
    if isinstance(layer, Norm):
        products = (
            _whitening(layer, call, place) if type(layer) is DecorrelatedBatchNorm else (0, 0)
        )
        residual = y if place.adds else 0
        forward = x + y + own + residual
        return Work(products, (forward, 3 * dx + 2 * own + residual * (2 if place.then else 1)))
    if isinstance(layer, _Dropping):
        drops = place.training and layer.p > 0
        return Work((0, 0), (x + y, 2 * dx * place.needs_dx) if drops else (0, 0))
    if isinstance(layer, (Activation, _OverAxis, GLU, Maxout)):
        kept = y if isinstance(layer, _OverAxis) else dx
        return Work((0, 0), (x + y, (y + kept + dx) * place.needs_dx))
    if isinstance(layer, MaxPool2d):
        return Work((0, 0), (x + 2 * y, (2 * y + dx) * place.needs_dx))  # an index a window
    if isinstance(layer, (_Pool, AdaptiveAvgPool2d, Rescaling)):
        return Work((0, 0), (x + y, (y + dx) * place.needs_dx))
    kind = type(layer)
    if layers().get(kind.__name__) is kind:
        raise NotImplementedError(f"summary: nn/_exchange/_work.py has no rule for {kind.__name__}")
    # A module of one's own; without parameters, one that has layers inside calls those.
    if not own and next(layer.named_children(), None) is not None:
        return Work()
    if not own:
        return Work((0, 0), (x + y, (y + dx) * place.needs_dx))
    return Work((0, 0), (x + y + own, y + x + own + dx * place.needs_dx))


def _affine(layer: Any, call: Call, place: Place) -> Work:
    """A product; then, where there is a bias or something fused, a pass over its result."""
    item, y_bytes = call.item, math.prod(call.y) * call.item
    weight, dx = layer.weight.size * item, math.prod(call.x) * call.item
    x = call.x_bytes
    trained = layer.weight.requires_grad
    bias = 0 if layer.bias is None else layer.bias.size * item
    sums = layer.weight.size // layer.weight.shape[0]  # products of an element of y
    one = math.prod(call.y) * sums
    forward = x + weight + y_bytes + (2 * y_bytes + bias if layer.bias is not None else 0)
    backward = 0
    if place.then:
        backward += 3 * y_bytes + 2 * bias  # dy, product → dz
    elif layer.bias is not None and layer.bias.requires_grad:
        backward += y_bytes + bias
    backward += (y_bytes + x + weight) * trained + (y_bytes + weight + dx) * place.needs_dx
    return Work((one, one * (trained + place.needs_dx)), (forward, backward))


def _whitening(layer: Any, call: Call, place: Place) -> tuple[int, int]:
    """The products of `DecorrelatedBatchNorm`, whose statistics are those of the batch."""
    width, groups = layer.num_features // layer.num_groups, layer.num_groups
    over = math.prod(call.x) * width  # a matrix of a group times all values
    cube = groups * width**3
    own = place.training and not layer.statistics_frozen
    forward = over * (1 + own) + 3 * cube * layer.iterations * own
    backward = (over * (1 + 2 * own) + 10 * cube * layer.iterations * own) * place.needs_dx
    return forward, backward
