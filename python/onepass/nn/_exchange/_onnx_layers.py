"""Each layer, in evaluation, as operators of ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from onepass import nn
from onepass._array import to_numpy
from onepass.nn._activation import MODULES
from onepass.nn._exchange._layers import options_of
from onepass.nn._fold import FoldedLinear


class Graph:
    """Operators and constants; values are names.

    Attributes:
        dtype: of the values.
        nodes: (operator, inputs, outputs, attributes) in their order.
        constants: name → array.
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.nodes: list[tuple[str, tuple[str, ...], tuple[str, ...], dict[str, Any]]] = []
        self.constants: dict[str, Any] = {}
        self._known: dict[Any, str] = {}
        self._count = 0

    @property
    def is_double(self) -> bool:
        return bool(self.dtype == np.float64)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """One operator; the name of its output."""
        return self.several(1, operator, *inputs, **attributes)[0]

    def several(self, count: int, operator: str, *inputs: str, **attributes: Any) -> list[str]:
        """One operator with so many outputs; their names."""
        made = [self._name() for _ in range(count)]
        self.nodes.append((operator, inputs, tuple(made), attributes))
        return made

    def value(self, array: Any) -> str:
        """A constant of the dtype of the values."""
        return self.constant(np.asarray(to_numpy(array), self.dtype))

    def whole(self, *values: int) -> str:
        """A constant of int64, such as a shape."""
        return self.constant(np.asarray(values, np.int64))

    def constant(self, array: Any) -> str:
        """The name of an array; of one that layers share, the name that it has."""
        held = array.__array_interface__
        where = held["data"][0], array.shape, array.strides, held["typestr"], array.size > 0
        if where not in self._known:  # kept, so that nothing else comes to lie there
            self._known[where] = self._name()
            self.constants[self._known[where]] = array
        return self._known[where]

    def _name(self) -> str:
        self._count += 1
        return f"v{self._count}"


Operator = Callable[[Graph, Any, str, Any, Any], str]  # graph, layer, name of x, x, y → name of y
OPERATORS: dict[type, Operator] = {}


def _of(*layers: type) -> Callable[[Operator], Operator]:
    def note(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(layers, function))
        return function

    return note


def _along(array: Any, axis: int, ndim: int) -> Any:
    """Values of an axis in a shape that broadcasts over one of so many axes."""
    values = to_numpy(array)
    return values.reshape(values.shape + (1,) * (ndim - axis - values.ndim))


# -- layers that only move or drop -----------------------------------------------------------------


@_of(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
     nn.FeatureAlphaDropout)  # fmt: skip
def _same(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    return x


@_of(nn.Flatten)
def _flatten(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    start = layer.start_dim + value.ndim * (layer.start_dim < 0)
    if start == 0:
        return g.add("Reshape", x, g.whole(-1, *y.shape[1:]))
    return g.add("Reshape", x, g.whole(0, *y.shape[1:]))


@_of(nn.Rescaling)
def _rescaling(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    return g.add("Add", g.add("Mul", x, g.value(layer.scale)), g.value(layer.offset))


# -- products --------------------------------------------------------------------------------------


@_of(nn.Linear)
def _linear(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    if value.ndim == 2:
        bias = () if layer.bias is None else (g.value(layer.bias.data),)
        return g.add("Gemm", x, g.value(layer.weight.data), *bias, transB=1)
    made = g.add("MatMul", x, g.value(to_numpy(layer.weight.data).T))
    return made if layer.bias is None else g.add("Add", made, g.value(layer.bias.data))


OPERATORS[FoldedLinear] = _linear


@_of(nn.Conv2d)
def _conv(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    top, bottom, left, right = layer._convolution().padding
    bias = () if layer.bias is None else (g.value(layer.bias.data),)
    return g.add(
        "Conv", x, g.value(layer.weight.data), *bias, kernel_shape=layer.kernel_size,
        strides=layer.stride, pads=(top, left, bottom, right), dilations=layer.dilation,
        group=layer.groups,
    )  # fmt: skip


# -- pools -----------------------------------------------------------------------------------------


def _ends(layer: Any, value: Any, y: Any, spans: tuple[int, ...]) -> list[int]:
    """Padding below and on the right, so that the windows are as many as y has."""
    ends = []
    for i, (span, p) in enumerate(zip(spans, layer.padding, strict=True)):
        reach = (y.shape[2 + i] - 1) * layer.stride[i] + span
        ends.append(max(p, reach - value.shape[2 + i] - p))
    return ends


@_of(nn.MaxPool2d)
def _max_pool(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    kernel = layer.kernel_size
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, layer.dilation, strict=True))
    pads = [*layer.padding, *_ends(layer, value, y, spans)]
    if any(p >= k for p, k in zip(pads, kernel * 2, strict=True)):  # which runtimes refuse
        x = g.add("Pad", x, g.whole(0, 0, *pads[:2], 0, 0, *pads[2:]), g.value(-np.inf))
        pads = [0] * 4
    return g.add(
        "MaxPool", x, kernel_shape=kernel, strides=layer.stride, pads=pads,
        dilations=layer.dilation,
    )  # fmt: skip


@_of(nn.AvgPool2d)
def _avg_pool(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    """The mean with all padding, times what makes it that of the elements that count."""
    kernel = layer.kernel_size
    pads = [*layer.padding, *_ends(layer, value, y, kernel)]
    x = g.add("Pad", x, g.whole(0, 0, *pads[:2], 0, 0, *pads[2:])) if any(pads) else x
    mean = g.add("AveragePool", x, kernel_shape=kernel, strides=layer.stride)
    counts = [_counted(layer, value, y, axis) for axis in (0, 1)]
    share = math.prod(kernel) / (counts[0][:, None] * counts[1])
    return mean if (share == 1).all() else g.add("Mul", mean, g.value(share))


def _counted(layer: Any, value: Any, y: Any, axis: int) -> Any:
    """How many elements of each window count, along rows or columns."""
    kernel, stride, p = layer.kernel_size[axis], layer.stride[axis], layer.padding[axis]
    extent = value.shape[2 + axis]
    low, high = (-p, extent + p) if layer.count_include_pad else (0, extent)
    begin = np.arange(y.shape[2 + axis]) * stride - p
    return np.minimum(begin + kernel, high) - np.maximum(begin, low)


@_of(nn.AdaptiveAvgPool2d)
def _adaptive_pool(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    """Products with the matrices of means, which serve windows of unequal size."""
    if y.shape[2:] == (1, 1):
        return g.add("ReduceMean", x, axes=(2, 3), keepdims=1)
    rows, columns = (_means(value.shape[2 + i], y.shape[2 + i]) for i in (0, 1))
    return g.add("MatMul", g.value(rows), g.add("MatMul", x, g.value(columns.T)))


def _means(extent: int, parts: int) -> Any:
    matrix = np.zeros((parts, extent))
    for i in range(parts):
        begin, end = i * extent // parts, -(-(i + 1) * extent // parts)
        matrix[i, begin:end] = 1 / (end - begin)
    return matrix


# -- norms -----------------------------------------------------------------------------------------


def _scaled(g: Graph, layer: Any, x: str, ndim: int, axis: int = 1) -> str:
    """Times weight, plus bias, where the layer has them."""
    if layer.weight is not None:
        x = g.add("Mul", x, g.value(_along(layer.weight.data, axis, ndim)))
    if layer.bias is not None:
        x = g.add("Add", x, g.value(_along(layer.bias.data, axis, ndim)))
    return x


def _normed(g: Graph, x: str, axes: tuple[int, ...], eps: float, centred: bool = True) -> str:
    """Divided by the root of the mean square over ``axes``, the mean taken away first."""
    if centred:
        x = g.add("Sub", x, g.add("ReduceMean", x, axes=axes, keepdims=1))
    square = g.add("ReduceMean", g.add("Mul", x, x), axes=axes, keepdims=1)
    return g.add("Div", x, g.add("Sqrt", g.add("Add", square, g.value(eps))))


@_of(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.BatchRenorm)
def _batch_norm(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    if layer.running_mean is None:
        axes = (0, *range(2, value.ndim))
        return _scaled(g, layer, _normed(g, x, axes, layer.eps), value.ndim)
    return _by_statistics(g, layer, x, value)


def _by_statistics(g: Graph, layer: Any, x: str, value: Any) -> str:
    mean, var = (to_numpy(a).astype(np.float64) for a in (layer.running_mean, layer.running_var))
    if g.is_double:
        x = g.add("Sub", x, g.value(_along(mean, 1, value.ndim)))
        x = g.add("Mul", x, g.value(_along(1 / np.sqrt(var + layer.eps), 1, value.ndim)))
        return _scaled(g, layer, x, value.ndim)
    ones = np.ones(layer.num_features)
    weight = ones if layer.weight is None else layer.weight.data
    bias = 0 * ones if layer.bias is None else layer.bias.data
    parts = [g.value(part) for part in (weight, bias, mean, var)]
    return g.add("BatchNormalization", x, *parts, epsilon=layer.eps)


@_of(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
def _instance_norm(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    if layer.running_mean is not None:
        return _by_statistics(g, layer, x, value)
    axes = tuple(range(2, value.ndim))
    return _scaled(g, layer, _normed(g, x, axes, layer.eps), value.ndim)


@_of(nn.GroupNorm)
def _group_norm(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    rows = g.add("Reshape", x, g.whole(0, layer.num_groups, -1))
    whole = g.add("Reshape", _normed(g, rows, (2,), layer.eps), g.whole(0, *value.shape[1:]))
    return _scaled(g, layer, whole, value.ndim)


@_of(nn.LayerNorm)
def _layer_norm(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    first = value.ndim - len(layer.normalized_shape)
    if g.is_double or layer.weight is None:
        axes = tuple(range(first, value.ndim))
        return _scaled(g, layer, _normed(g, x, axes, layer.eps), value.ndim, first)
    parts = [g.value(p.data) for p in (layer.weight, layer.bias) if p is not None]
    return g.add("LayerNormalization", x, *parts, axis=first - value.ndim, epsilon=layer.eps)


@_of(nn.RMSNorm)
def _rms_norm(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    first = value.ndim - len(layer.normalized_shape)
    eps = float(np.finfo(g.dtype).eps) if layer.eps is None else layer.eps
    axes = tuple(range(first, value.ndim))
    return _scaled(g, layer, _normed(g, x, axes, eps, centred=False), value.ndim, first)


@_of(nn.DecorrelatedBatchNorm)
def _decorrelated(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    width = layer.num_features // layer.num_groups
    x = g.add("Sub", x, g.value(_along(layer.running_mean.reshape(-1), 1, value.ndim)))
    rows = g.add("Reshape", x, g.whole(0, layer.num_groups, width, -1))
    white = g.add("MatMul", g.value(layer.running_projection), rows)
    whole = g.add("Reshape", white, g.whole(0, *value.shape[1:]))
    return _scaled(g, layer, whole, value.ndim)


# -- softmax, gates --------------------------------------------------------------------------------


@_of(nn.Softmax)
def _softmax(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    return g.add("Softmax", x, axis=layer.dim)


@_of(nn.LogSoftmax)
def _log_softmax(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    return g.add("LogSoftmax", x, axis=layer.dim)


@_of(nn.GLU)
def _glu(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    gate = options_of(layer)["activation"] or "identity"
    label, options = (gate, {}) if isinstance(gate, str) else gate
    bent = MODULES[label](**options)
    half, other = g.several(2, "Split", x, axis=layer.dim)
    return g.add("Mul", half, OPERATORS[type(bent)](g, bent, other, y, y))


@_of(nn.Maxout)
def _maxout(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    axis = layer.dim + value.ndim * (layer.dim < 0)
    shape = [0, *y.shape[1:]] if axis else [-1, *y.shape[1:]]
    shape.insert(axis + 1, layer.pieces)
    return g.add("ReduceMax", g.add("Reshape", x, g.whole(*shape)), axes=(axis + 1,), keepdims=0)


# -- activations -----------------------------------------------------------------------------------


def _plain(operator: str, layer: type) -> None:
    """An activation that ONNX has, without options."""
    OPERATORS[layer] = lambda g, layer, x, value, y: g.add(operator, x)


for _operator, _layer in (
    ("Relu", nn.ReLU), ("Sigmoid", nn.Sigmoid), ("Tanh", nn.Tanh), ("Abs", nn.Abs),
    ("Sin", nn.Sin),
):  # fmt: skip
    _plain(_operator, _layer)


def _finite(g: Graph, x: str) -> str:
    """-Inf as the least number, whose product with 0 is a limit and no NaN."""
    return g.add("Max", x, g.value(np.finfo(g.dtype).min))


@_of(nn.Softsign)
def _softsign(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    x = g.add("Min", _finite(g, x), g.value(np.finfo(g.dtype).max))
    return g.add("Div", x, g.add("Add", g.add("Abs", x), g.value(1)))


def _below_above(g: Graph, x: str) -> tuple[str, str]:
    """min(x, 0) and max(x, 0)."""
    zero = g.value(0)
    return g.add("Min", x, zero), g.add("Max", x, zero)


def _exp_below(g: Graph, x: str, alpha: float, over: float, times: float = 1.0) -> str:
    """times · x above 0, times · alpha · (exp(x / over) - 1) below."""
    below, above = _below_above(g, x)
    power = below if over == 1 else g.add("Div", below, g.value(over))
    bent = g.add("Mul", g.add("Sub", g.add("Exp", power), g.value(1)), g.value(times * alpha))
    return g.add("Add", above if times == 1 else g.add("Mul", above, g.value(times)), bent)


@_of(nn.LeakyReLU)
def _leaky_relu(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    if not g.is_double:
        return g.add("LeakyRelu", x, alpha=layer.negative_slope)
    below, above = _below_above(g, x)
    return g.add("Add", above, g.add("Mul", below, g.value(layer.negative_slope)))


@_of(nn.ELU)
def _elu(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    if not g.is_double:
        return g.add("Elu", x, alpha=layer.alpha)
    return _exp_below(g, x, layer.alpha, 1.0)


@_of(nn.CELU)
def _celu(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    return _exp_below(g, x, layer.alpha, layer.alpha)


@_of(nn.SELU)
def _selu(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    if not g.is_double:
        return g.add("Selu", x)
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return _exp_below(g, x, alpha, 1.0, scale)


@_of(nn.SiLU)
def _silu(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    return g.add("Mul", _finite(g, x), g.add("Sigmoid", x))


@_of(nn.GELU)
def _gelu(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    if layer.approximate == "tanh":
        cube = g.add("Mul", g.add("Mul", x, x), g.add("Mul", x, g.value(0.044715)))
        inner = g.add("Mul", g.add("Add", x, cube), g.value(math.sqrt(2 / math.pi)))
        bent = g.add("Tanh", inner)
    else:
        bent = g.add("Erf", g.add("Mul", x, g.value(math.sqrt(0.5))))
    half = g.add("Mul", _finite(g, x), g.value(0.5))
    return g.add("Mul", half, g.add("Add", bent, g.value(1)))


@_of(nn.Mish)
def _mish(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    return g.add("Mul", _finite(g, x), g.add("Tanh", _softplus_of(g, x)))


def _softplus_of(g: Graph, x: str) -> str:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), which no x makes overflow."""
    small = g.add("Exp", g.add("Neg", g.add("Abs", x)))
    return g.add("Add", g.add("Max", x, g.value(0)), g.add("Log", g.add("Add", small, g.value(1))))


@_of(nn.Softplus)
def _softplus(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    steep = g.add("Mul", x, g.value(layer.beta))
    soft = g.add("Div", _softplus_of(g, steep), g.value(layer.beta))
    return g.add("Where", g.add("Greater", steep, g.value(layer.threshold)), x, soft)


def _clip(g: Graph, x: str, low: float, high: float) -> str:
    return g.add("Clip", x, g.value(low), g.value(high))


@_of(nn.ReLU6)
def _relu6(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    return _clip(g, x, 0, 6)


@_of(nn.Hardtanh)
def _hardtanh(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    return _clip(g, x, layer.min_val, layer.max_val)


@_of(nn.Hardsigmoid)
def _hardsigmoid(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    return g.add("Div", _clip(g, g.add("Add", x, g.value(3)), 0, 6), g.value(6))


@_of(nn.Hardswish)
def _hardswish(g: Graph, layer: Any, x: str, value: Any, y: Any) -> str:
    return g.add("Mul", _finite(g, x), _hardsigmoid(g, layer, x, value, y))
