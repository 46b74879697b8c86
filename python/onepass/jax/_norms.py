"""Norms and the bias, with the activation and the dropout behind them, differentiable."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from onepass import _numbers as numbers
from onepass._docs import shares
from onepass.jax._checks import computing, floating, per_channel, same, stream
from onepass.jax._elementwise import INDEX
from onepass.jax._targets import NO_RESULT, NOTHING, call, like, result, together
from onepass.ops._fused import ActivationSpec, resolve

RULES = {"layer_norm": 0, "rms_norm": 1}  # their places in csrc/kernels/row_norm_list.h


class Arrays(NamedTuple):
    """The arrays of a norm beside ``x``; None for one that is not given."""

    weight: jax.Array | None
    bias: jax.Array | None
    residual: jax.Array | None

    @property
    def given(self) -> int:
        """A bit for each that is there."""
        return sum(1 << i for i, array in enumerate(self) if array is not None)

    @property
    def operands(self) -> list[Any]:
        return [NOTHING if array is None else array for array in self]


class Spec(NamedTuple):
    """What a function is compiled for."""

    op: str
    kernel: int  # the activation
    options: tuple[float, ...]
    place: int  # the axis of the channels; or how many axes are a row
    eps: float = 0.0
    training: bool = True

    @property
    def attributes(self) -> dict[str, Any]:
        return {"kernel": self.kernel, "options": self.options}


def _spec(op: str, activation: ActivationSpec, place: int, *more: Any) -> Spec:
    name, options = resolve(op, activation)
    return Spec(op, INDEX[name], options, place, *more)


def _gradients(
    spec: Spec, target: str, dy: jax.Array, x: jax.Array, arrays: Arrays, *kept: Any, **more: Any
) -> tuple[jax.Array, Arrays]:
    """Those of ``x`` and of the arrays, in their dtypes."""
    sums = [like_in(array, computing(x)) for array in arrays[:2]]
    residual = NO_RESULT if arrays.residual is None else like(x)
    dx, *found = call(
        target, f"{spec.op}_backward", [like(x), *sums, residual], dy, x, *arrays.operands, *kept,
        given=arrays.given, **spec.attributes, **more,
    )  # fmt: skip
    pairs = zip(found, arrays, strict=True)
    return dx, Arrays(*[None if a is None else gradient.astype(a.dtype) for gradient, a in pairs])


def like_in(array: jax.Array | None, dtype: Any) -> jax.ShapeDtypeStruct:
    """A result of the shape of ``array`` in another dtype; none where there is no array."""
    return NO_RESULT if array is None else result(array.shape, dtype)


# ---- bias_act


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _biased(spec: Spec, x: jax.Array, bias: jax.Array, random: tuple[Any, ...]) -> jax.Array:
    (y,) = call(
        "bias_act", spec.op, [like(x)], x, bias, *random, given=0, axis=spec.place,
        **spec.attributes,
    )  # fmt: skip
    return y


def _biased_forward(
    spec: Spec, x: jax.Array, bias: jax.Array, random: tuple[Any, ...]
) -> tuple[jax.Array, Any]:
    return _biased(spec, x, bias, random), (x, bias, random)


def _biased_backward(spec: Spec, kept: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array, None]:
    x, bias, random = kept
    dx, dbias = call(
        "bias_act_backward", f"{spec.op}_backward", [like(x), like_in(bias, computing(x))], dy, x,
        bias, *random, given=0, axis=spec.place, **spec.attributes,
    )  # fmt: skip
    return dx, dbias.astype(bias.dtype), None


_biased.defvjp(_biased_forward, _biased_backward)

# ---- norms of rows


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _row_normed(spec: Spec, x: jax.Array, arrays: Arrays, random: tuple[Any, ...]) -> jax.Array:
    return _row_normed_forward(spec, x, arrays, random)[0]


def _row_normed_forward(
    spec: Spec, x: jax.Array, arrays: Arrays, random: tuple[Any, ...]
) -> tuple[jax.Array, Any]:
    rows = int(np.prod(x.shape[: x.ndim - spec.place]))
    statistics = result((3, rows), computing(x))
    y, saved = call(
        "row_norm", spec.op, [like(x), statistics], x, *arrays.operands, *random,
        given=arrays.given, rule=RULES[spec.op], row_axes=spec.place, eps=spec.eps,
        **spec.attributes,
    )  # fmt: skip
    return y, (x, arrays, saved, random)


def _row_normed_backward(spec: Spec, kept: Any, dy: jax.Array) -> tuple[jax.Array, Arrays, None]:
    x, arrays, saved, random = kept
    dx, found = _gradients(
        spec, "row_norm_backward", dy, x, arrays, saved, *random, rule=RULES[spec.op],
        row_axes=spec.place,
    )  # fmt: skip
    return dx, found, None


_row_normed.defvjp(_row_normed_forward, _row_normed_backward)

# ---- batch norm

Statistics = tuple[Any, Any]  # the running ones; (NOTHING, NOTHING) for none


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _batch_normed(
    spec: Spec, x: jax.Array, arrays: Arrays, running: Statistics, random: tuple[Any, ...]
) -> tuple[jax.Array, ...]:
    return _batch_normed_forward(spec, x, arrays, running, random)[0]


def _batch_normed_forward(
    spec: Spec, x: jax.Array, arrays: Arrays, running: Statistics, random: tuple[Any, ...]
) -> tuple[tuple[jax.Array, ...], Any]:
    channels = x.shape[spec.place]
    row = result((channels,), computing(x))
    saved_like = result((3, channels), computing(x))
    y, saved, *found = call(
        "batch_norm", spec.op, [like(x), saved_like, *([row, row] if spec.training else [])], x,
        *arrays.operands, *running, *random, given=arrays.given, axis=spec.place, eps=spec.eps,
        training=int(spec.training), **spec.attributes,
    )  # fmt: skip
    return (y, *(found or running)), (x, arrays, saved, random)


def _batch_normed_backward(
    spec: Spec, kept: Any, gradients: tuple[jax.Array, ...]
) -> tuple[jax.Array, Arrays, None, None]:
    x, arrays, saved, random = kept
    dx, found = _gradients(
        spec, "batch_norm_backward", gradients[0], x, arrays, saved, *random, axis=spec.place,
        training=int(spec.training),
    )  # fmt: skip
    return dx, found, None, None


_batch_normed.defvjp(_batch_normed_forward, _batch_normed_backward)

# ---- public

_documented = shares(
    {
        "eps": "added to the variance.",
        "residual": "array like ``x``, added before the activation.",
        "activation": "name of a function in ``onepass.ops``, or (name, options); None for none.",
        "dropout_p": "probability of dropping an element; an operand, as those of `dropout`.",
        "seed": "as in `dropout`.",
        "offset": "as in `dropout`.",
        "first": "as in `dropout`.",
    },
    Raises="TypeError, ValueError: wrong dtype, shape or range.",
)


@_documented
def bias_act(
    x: Any,
    bias: Any,
    *,
    axis: int = 1,
    activation: ActivationSpec = None,
    dropout_p: Any = 0.0,
    seed: Any = 0,
    offset: Any = 0,
    first: Any = 0,
) -> jax.Array:
    """y = dropout(activation(x + bias)), the bias along ``axis``, in one pass; so is its gradient.

    Under `jax.vmap` each element of the batch is a call of its own.

    Args:
        x: array (N, C, …), or with the channels on another axis.
        bias: array (C,), float32 (float64 with float64 ``x``) or the dtype of ``x``.
        axis: axis of ``x`` that the bias runs along.

    Returns:
        y, like ``x``: the bits of `onepass.ops.bias_act`.

    Source: the epilogue of a linear or convolution layer, with Hendrycks & Gimpel, 2016, and
    Srivastava et al., 2014.

    Example:
        >>> import numpy as np
        >>> import onepass.jax
        >>> onepass.jax.bias_act(np.float32([[1, -3]]), np.float32([1, 1]), activation="relu")
        Array([[2., 0.]], dtype=float32)
    """
    op = "bias_act"
    x = floating(op, "x", x)
    axis = _axis(op, x, axis)
    bias = per_channel(op, "bias", bias, x, (x.shape[axis],))
    if bias is None:
        raise TypeError(f"{op}: 'bias' is None, expected an array of shape ({x.shape[axis]},)")
    random = stream(op, "dropout_p", dropout_p, seed, offset, first)
    x, bias, *operands = together(x, bias, *random)
    return _biased(_spec(op, activation, axis), x, bias, tuple(operands))


@_documented
def layer_norm(
    x: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    residual: Any = None,
    activation: ActivationSpec = None,
    dropout_p: Any = 0.0,
    seed: Any = 0,
    offset: Any = 0,
    first: Any = 0,
) -> jax.Array:
    """y = dropout(activation((x - mean)/√(var + eps)·weight + bias + residual)), per row.

    As `onepass.ops.layer_norm`, bit for bit. Under `jax.vmap` each element of the batch is a call
    of its own: a leading axis of ``x`` needs no vmap.

    Args:
        x: array whose shape ends in ``normalized_shape``.
        normalized_shape: extents of the last axes; an int for the last one.
        weight: of ``normalized_shape``, or None for 1; float32 (float64 with float64 ``x``) or of
            the dtype of ``x``.
        bias: of ``normalized_shape``, or None for 0.

    Returns:
        y, like ``x``.

    Source: Ba, Kiros & Hinton, Layer Normalization, 2016.

    Example:
        >>> import numpy as np
        >>> import onepass.jax
        >>> onepass.jax.layer_norm(np.float32([[1, 3]]), 2).round(3)
        Array([[-1.,  1.]], dtype=float32)
    """
    random = stream("layer_norm", "dropout_p", dropout_p, seed, offset, first)
    return _norm_of_rows(
        "layer_norm", x, normalized_shape, weight, bias, eps, residual, activation, random
    )


@_documented
def rms_norm(
    x: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    eps: float | None = None,
    *,
    residual: Any = None,
    activation: ActivationSpec = None,
    dropout_p: Any = 0.0,
    seed: Any = 0,
    offset: Any = 0,
    first: Any = 0,
) -> jax.Array:
    """y = dropout(activation(x/√(mean(x²) + eps)·weight + residual)), per row.

    As `onepass.ops.rms_norm`, bit for bit. Under `jax.vmap` each element of the batch is a call of
    its own: a leading axis of ``x`` needs no vmap.

    Args:
        x: array whose shape ends in ``normalized_shape``.
        normalized_shape: extents of the last axes; an int for the last one.
        weight: of ``normalized_shape``, or None for 1; float32 (float64 with float64 ``x``) or of
            the dtype of ``x``.
        eps: added to the mean square; None for the machine epsilon of the computing type.

    Returns:
        y, like ``x``.

    Source: Zhang & Sennrich, Root Mean Square Layer Normalization, 2019.

    Example:
        >>> import numpy as np
        >>> import onepass.jax
        >>> y = onepass.jax.rms_norm(np.float32([[3, 4]]), 2)
        >>> np.asarray(y).round(3)
        array([[0.849, 1.131]], dtype=float32)
    """
    random = stream("rms_norm", "dropout_p", dropout_p, seed, offset, first)
    return _norm_of_rows(
        "rms_norm", x, normalized_shape, weight, None, eps, residual, activation, random
    )


def _norm_of_rows(
    op: str,
    x: Any,
    normalized_shape: int | Sequence[int],
    weight: Any,
    bias: Any,
    eps: float | None,
    residual: Any,
    activation: ActivationSpec,
    random: tuple[Any, ...],
) -> jax.Array:
    x = floating(op, "x", x)
    given = np.atleast_1d(np.asarray(normalized_shape, object))
    shape = tuple(numbers.integer(op, "normalized_shape", extent) for extent in given)
    if not shape or x.shape[x.ndim - len(shape) :] != shape or len(shape) > x.ndim:
        raise ValueError(
            f"{op}: 'normalized_shape' is {normalized_shape!r}, expected the last extents of 'x', "
            f"which has shape {x.shape}"
        )
    if eps is None:
        eps = float(np.finfo(computing(x)).eps)
    arrays = Arrays(
        per_channel(op, "weight", weight, x, shape),
        per_channel(op, "bias", bias, x, shape),
        None if residual is None else same(op, "residual", residual, x),
    )
    spec = _spec(op, activation, len(shape), numbers.in_range(op, "eps", eps, 0))
    x, *others = together(x, *arrays, *random)
    return _row_normed(spec, x, Arrays(*others[:3]), tuple(others[3:]))


@_documented
def batch_norm(
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    *,
    training: bool,
    eps: float = 1e-5,
    residual: Any = None,
    activation: ActivationSpec = None,
    dropout_p: Any = 0.0,
    seed: Any = 0,
    offset: Any = 0,
    first: Any = 0,
    channels_last: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """y = dropout(activation((x - mean)/√(var + eps)·weight + bias + residual)), per channel.

    y has the bits of `onepass.ops.batch_norm`. Nothing is written: in training the caller moves the
    running statistics, ``(1 - momentum)·running + momentum·new``, with the mean and the unbiased
    variance that are returned. Otherwise the running statistics normalise, there is no dropout, and
    they are returned. Under `jax.vmap` each element of the batch is a call of its own.

    Args:
        x: array (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W), or with the channels last.
        weight: (C,) or None for 1; per-channel arrays are float32 (float64 with float64 ``x``) or
            of the dtype of ``x``.
        bias: (C,) or None for 0.
        running_mean: (C,); in training it is not read and may be None.
        running_var: likewise.
        training: normalise by the batch's statistics.
        channels_last: the channels are the last axis of ``x``.

    Returns:
        (y, mean, var): y like ``x``; no gradient goes through mean and var.

    Source: Ioffe & Szegedy, Batch Normalization, 2015, in PyTorch's convention.

    Example:
        >>> import numpy as np
        >>> import onepass.jax
        >>> y, mean, var = onepass.jax.batch_norm(
        ...     np.float32([[1], [3]]), None, None, None, None, training=True
        ... )
        >>> y.round(3).tolist(), mean.tolist(), var.tolist()
        ([[-1.0], [1.0]], [2.0], [2.0])
    """
    op = "batch_norm"
    x = floating(op, "x", x)
    if not 2 <= x.ndim <= 5:
        raise ValueError(
            f"{op}: 'x' has shape {x.shape}, expected two to five axes: (N, C), (N, C, L), "
            "(N, C, H, W), (N, C, D, H, W), or with the channels last"
        )
    axis = x.ndim - 1 if channels_last else 1
    shape = (x.shape[axis],)
    training = numbers.flag(op, "training", training)
    if training and shape[0] > 0 and x.size == shape[0]:
        raise ValueError(
            f"{op}: 'x' has shape {x.shape}: one value per channel has no variance; train on at "
            "least two samples or normalise by running statistics"
        )
    eps = numbers.in_range(op, "eps", eps, 0, above=0 if training else None)
    running: Any = (NOTHING, NOTHING)
    if not training:
        running = (
            per_channel(op, "running_mean", running_mean, x, shape),
            per_channel(op, "running_var", running_var, x, shape),
        )
        if running[0] is None or running[1] is None:
            raise ValueError(
                f"{op}: 'running_mean' and 'running_var' are needed with training=False; pass "
                "them, or training=True to normalise by the batch"
            )
    arrays = Arrays(
        per_channel(op, "weight", weight, x, shape),
        per_channel(op, "bias", bias, x, shape),
        None if residual is None else same(op, "residual", residual, x),
    )
    random = stream(op, "dropout_p", dropout_p, seed, offset, first)
    spec = _spec(op, activation, axis, eps, training)
    x, *others = together(x, *arrays, *running, *random)
    arrays = Arrays(*others[:3])
    y, mean, var = _batch_normed(spec, x, arrays, tuple(others[3:5]), tuple(others[5:]))
    return y, jax.lax.stop_gradient(mean), jax.lax.stop_gradient(var)


def _axis(op: str, x: jax.Array, axis: int) -> int:
    """``axis`` counted from the front."""
    number = numbers.integer(op, "axis", axis)
    if not -x.ndim <= number < x.ndim:
        raise ValueError(f"{op}: 'axis' is {axis!r}, expected an axis of 'x', shape {x.shape}")
    return number % x.ndim
