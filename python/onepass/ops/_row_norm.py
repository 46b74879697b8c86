"""Norms over rows: layer, RMS, group, instance and weight norm."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from onepass import _C
from onepass._array import Array
from onepass._docs import shares
from onepass.ops._fused import ActivationSpec, resolve
from onepass.ops._norm import SavedBatchNorm, batch_norm, batch_norm_backward

__all__ = [
    "SavedRowNorm",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "rms_norm",
    "rms_norm_backward",
    "weight_norm",
    "weight_norm_backward",
]

_ARGS = {
    "eps": "added to the variance, >= 0; with 0 a constant row gives NaN, as in PyTorch.",
    "residual": "array like ``x``, added before the activation.",
    "activation": "name of a function in ``onepass.ops``, or (name, options); None for none.",
    "dropout_p": "probability of dropping an element; 0 draws nothing.",
    "seed": "as in :func:`onepass.ops.dropout`.",
    "offset": "as in :func:`onepass.ops.dropout`.",
    "first": "as in :func:`onepass.ops.dropout`.",
    "out": "array like ``x`` to write to; may not be ``x``, which the backward needs.",
}
_RETURNS = "(y, saved): y like ``x``; saved for the function of the same name and ``_backward``."
_RAISES = (
    "ValueError: wrong shape, range or overlap; nothing is written.\n"
    "    TypeError: wrong dtype or type of an argument; likewise."
)
_norm = shares(_ARGS, Returns=_RETURNS, Raises=_RAISES)
_BACKWARD_ARGS = {
    "dy": "gradient of y, like ``x``.",
    "saved": "from forward. weight, bias and residual are read again.",
    "out": "array like ``x`` for dx; may be ``dy``.",
}
_gradient = shares(
    _BACKWARD_ARGS,
    Raises="TypeError, ValueError: ``dy`` of another shape or dtype than ``x``, or ``saved`` of"
    " another function.",
)


class SavedRowNorm(NamedTuple):
    """For the backward of a norm over rows: references to the inputs, and the statistics.

    Attributes:
        op: name of the function.
        kept: what the kernel takes after ``dy``: the input as it was normalised (a copy only where
            it was not C-contiguous), weight, bias, residual, statistics, and options.
    """

    op: str
    kept: tuple[Any, ...]

    @property
    def statistics(self) -> Array:
        """(3, rows): the mean (0 of rms_norm), what rounding it lost, and the factor of x̂."""
        return self.kept[4]


@_norm
def layer_norm(
    x: Array,
    normalized_shape: int | Sequence[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    *,
    residual: Array | None = None,
    activation: ActivationSpec = None,
    dropout_p: float = 0.0,
    seed: int | Array = 0,
    offset: int | Array = 0,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, SavedRowNorm]:
    """y = dropout(activation((x - mean)/√(var + eps)·weight + bias + residual)), per row.

    A row is what the last axes hold, those of ``normalized_shape``; mean and var (biased) are its
    own, in training and evaluation alike, of distances from the row's first element, summed in
    float64 (on the CPU eight at a time in the computing type first): with eps > 0 a constant row
    gives exactly ``bias`` at any magnitude. Subnormal numbers count as zero up to the activation.

    Args:
        x: array whose shape ends in ``normalized_shape``. One that is not C-contiguous is copied
            first.
        normalized_shape: extents of the last axes; an int for the last one.
        weight: of ``normalized_shape``, or None for 1; float32 (float64 with float64 ``x``) or of
            the dtype of ``x``.
        bias: of ``normalized_shape``, or None for 0.

    Source: Ba, Kiros & Hinton, Layer Normalization, 2016.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> y, saved = onepass.ops.layer_norm(np.float32([[1, 3]]), 2)
        >>> y.round(3)
        array([[-1.,  1.]], dtype=float32)
    """
    name, options = resolve("layer_norm", activation)
    y, kept = _C.layer_norm(
        x, weight, bias, residual, out, _shape(normalized_shape), eps, name, options, dropout_p,
        seed, offset, first,
    )  # fmt: skip
    return y, SavedRowNorm("layer_norm", kept)


@_gradient
def layer_norm_backward(
    dy: Array, saved: SavedRowNorm, *, out: Array | None = None
) -> tuple[Array | None, ...]:
    """Gradients of :func:`layer_norm`.

    With g = activation'(z)·dropout'(dy), w the weight and x̂ the normalised input:
    dx = (g·w - mean(g·w) - x̂·mean(g·w·x̂))/√(var + eps), the means over a row; dweight = Σg·x̂ and
    dbias = Σg over all rows; dresidual = g. Everything is recomputed from ``x``.

    Returns:
        (dx, dweight, dbias), None where there was none, and dresidual as a fourth where a residual
        was given. dweight and dbias are float32 (float64 for float64 ``x``).

    Source: Ba, Kiros & Hinton, Layer Normalization, 2016.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> x = np.float32([[1, 3]])
        >>> y, saved = onepass.ops.layer_norm(x, 2)
        >>> dx, dweight, dbias = onepass.ops.layer_norm_backward(np.ones_like(x), saved)
        >>> dx
        array([[0., 0.]], dtype=float32)
    """
    return _C.layer_norm_backward(*(dy, *_kept("layer_norm", saved), out))


@_norm
def rms_norm(
    x: Array,
    normalized_shape: int | Sequence[int],
    weight: Array | None = None,
    eps: float | None = None,
    *,
    residual: Array | None = None,
    activation: ActivationSpec = None,
    dropout_p: float = 0.0,
    seed: int | Array = 0,
    offset: int | Array = 0,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, SavedRowNorm]:
    """y = dropout(activation(x/√(mean(x²) + eps)·weight + residual)), per row.

    A row is what the last axes hold, those of ``normalized_shape``. Subnormal numbers count as zero
    up to the activation.

    Args:
        x: array whose shape ends in ``normalized_shape``. One that is not C-contiguous is copied
            first.
        normalized_shape: extents of the last axes; an int for the last one.
        weight: of ``normalized_shape``, or None for 1; float32 (float64 with float64 ``x``) or of
            the dtype of ``x``.
        eps: added to the mean square, >= 0; None for the machine epsilon of the computing type:
            2⁻⁵² for float64, 2⁻²³ for the others.

    Source: Zhang & Sennrich, Root Mean Square Layer Normalization, 2019, in PyTorch's convention.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> y, saved = onepass.ops.rms_norm(np.float32([[3, 4]]), 2)
        >>> y.round(3)
        array([[0.849, 1.131]], dtype=float32)
    """
    name, options = resolve("rms_norm", activation)
    if eps is None:
        eps = machine_epsilon(x)
    y, kept = _C.rms_norm(
        x, weight, None, residual, out, _shape(normalized_shape), eps, name, options, dropout_p,
        seed, offset, first,
    )  # fmt: skip
    return y, SavedRowNorm("rms_norm", kept)


@_gradient
def rms_norm_backward(
    dy: Array, saved: SavedRowNorm, *, out: Array | None = None
) -> tuple[Array | None, ...]:
    """Gradients of :func:`rms_norm`.

    With g = activation'(z)·dropout'(dy), w the weight and x̂ the normalised input:
    dx = (g·w - x̂·mean(g·w·x̂))/√(mean(x²) + eps), the mean over a row; dweight = Σg·x̂ over all
    rows; dresidual = g. Everything is recomputed from ``x``.

    Returns:
        (dx, dweight), None where there was none, and dresidual as a third where a residual was
        given. dweight is float32 (float64 for float64 ``x``).

    Source: Zhang & Sennrich, Root Mean Square Layer Normalization, 2019.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> x = np.float32([[3, 4]])
        >>> y, saved = onepass.ops.rms_norm(x, 2)
        >>> dx, dweight = onepass.ops.rms_norm_backward(x, saved)
        >>> bool(abs(dx).max() < 1e-6)  # the norm does not depend on the size of x
        True
    """
    dx, dweight, _, *rest = _C.rms_norm_backward(*(dy, *_kept("rms_norm", saved), out))
    return dx, dweight, *rest


@_norm
def group_norm(
    x: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    *,
    residual: Array | None = None,
    activation: ActivationSpec = None,
    dropout_p: float = 0.0,
    seed: int | Array = 0,
    offset: int | Array = 0,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, SavedRowNorm]:
    """y = dropout(activation((x - mean)/√(var + eps)·weight + bias + residual)), per group.

    The channels of a sample are cut into ``num_groups`` groups of neighbours; mean and var (biased)
    are those of a group, in training and evaluation alike. A constant group gives exactly ``bias``
    at any magnitude.

    Args:
        x: array (N, C, …), C a multiple of ``num_groups``. One that is not C-contiguous is copied
            first.
        num_groups: number of groups; ValueError where those of a single sample have one value.
        weight: (C,) or None for 1; float32 (float64 with float64 ``x``) or of the dtype of ``x``.
        bias: (C,) or None for 0.

    Source: Wu & He, Group Normalization, 2018.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> y, saved = onepass.ops.group_norm(np.float32([[1, 3, 5, 5]]), 2)
        >>> y.round(3)
        array([[-1.,  1.,  0.,  0.]], dtype=float32)
    """
    name, options = resolve("group_norm", activation)
    y, kept = _C.group_norm(
        x, weight, bias, residual, out, num_groups, eps, name, options, dropout_p, seed, offset,
        first,
    )  # fmt: skip
    return y, SavedRowNorm("group_norm", kept)


@_gradient
def group_norm_backward(
    dy: Array, saved: SavedRowNorm, *, out: Array | None = None
) -> tuple[Array | None, ...]:
    """Gradients of :func:`group_norm`: those of :func:`layer_norm_backward`, per group.

    dweight and dbias add up over samples and positions.

    Returns:
        (dx, dweight, dbias), None where there was none, and dresidual as a fourth where a residual
        was given. dweight and dbias are float32 (float64 for float64 ``x``).

    Source: Wu & He, Group Normalization, 2018.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> x = np.float32([[1, 3, 5, 5]])
        >>> y, saved = onepass.ops.group_norm(x, 2)
        >>> dx, dweight, dbias = onepass.ops.group_norm_backward(np.ones_like(x), saved)
        >>> dx
        array([[0., 0., 0., 0.]], dtype=float32)
    """
    return _C.group_norm_backward(*(dy, *_kept("group_norm", saved), out))


@_norm
def instance_norm(
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    residual: Array | None = None,
    activation: ActivationSpec = None,
    dropout_p: float = 0.0,
    seed: int | Array = 0,
    offset: int | Array = 0,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, SavedRowNorm | SavedBatchNorm]:
    """y = dropout(activation((x - mean)/√(var + eps)·weight + bias + residual)), per map.

    A map is one channel of one sample. With ``use_input_stats`` mean and var (biased) are its own,
    and the running statistics move to their averages over the batch (var unbiased):
    running = (1 - momentum)·running + momentum·new. Otherwise the running statistics normalise and
    there is no dropout: :func:`batch_norm` outside training.

    Args:
        x: array (N, C, L), (N, C, H, W) or with more axes. One that is not C-contiguous is copied
            first.
        running_mean: (C,) or None.
        running_var: (C,) or None.
        weight: (C,) or None for 1; float32 (float64 with float64 ``x``) or of the dtype of ``x``.
        bias: (C,) or None for 0.
        use_input_stats: normalise by the statistics of each map.
        momentum: weight of the new value in the running statistics.
        eps: added to the variance, >= 0.

    Source: Ulyanov, Vedaldi & Lempitsky, Instance Normalization, 2016, in PyTorch's convention.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> y, saved = onepass.ops.instance_norm(np.float32([[[1, 3], [5, 5]]]))
        >>> y.round(3)
        array([[[-1.,  1.],
                [ 0.,  0.]]], dtype=float32)
    """
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ValueError(
                "instance_norm: 'running_mean' and 'running_var' are needed with "
                "use_input_stats=False; pass both"
            )
        if 0 < len(getattr(x, "shape", ())) < 3:
            raise ValueError(
                f"instance_norm: 'x' has shape {tuple(x.shape)}, expected three axes or more: "
                "(N, C, L), (N, C, H, W), ..."
            )
        return batch_norm(
            x, weight, bias, running_mean, running_var, training=False, momentum=momentum, eps=eps,
            residual=residual, activation=activation, dropout_p=dropout_p, seed=seed,
            offset=offset, first=first, out=out,
        )  # fmt: skip
    name, options = resolve("instance_norm", activation)
    y, kept = _C.instance_norm(
        x, weight, bias, residual, out, running_mean, running_var, momentum, eps, name, options,
        dropout_p, seed, offset, first,
    )  # fmt: skip
    return y, SavedRowNorm("instance_norm", kept)


@_gradient
def instance_norm_backward(
    dy: Array, saved: SavedRowNorm | SavedBatchNorm, *, out: Array | None = None
) -> tuple[Array | None, ...]:
    """Gradients of :func:`instance_norm`: those of :func:`layer_norm_backward`, per map.

    dweight and dbias add up over samples and positions. Where the running statistics normalised,
    dx = weight/√(running_var + eps)·g.

    Returns:
        (dx, dweight, dbias), None where there was none, and dresidual as a fourth where a residual
        was given. dweight and dbias are float32 (float64 for float64 ``x``).

    Source: Ulyanov, Vedaldi & Lempitsky, Instance Normalization, 2016.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> x = np.float32([[[1, 3]]])
        >>> y, saved = onepass.ops.instance_norm(x)
        >>> dx, dweight, dbias = onepass.ops.instance_norm_backward(np.ones_like(x), saved)
        >>> dx
        array([[[0., 0.]]], dtype=float32)
    """
    if isinstance(saved, SavedBatchNorm):
        return batch_norm_backward(dy, saved, out=out)
    return _C.instance_norm_backward(*(dy, *_kept("instance_norm", saved), out))


def weight_norm(v: Array, g: Array, dim: int = 0) -> Array:
    """w = g·v/‖v‖ for each slice v along axis ``dim``.

    Args:
        v: array of one axis or more. With another ``dim`` than 0 it is copied first, and the
            result is a view of an array whose axes 0 and ``dim`` are exchanged.
        g: a value for each slice: (n,), or (1, …, n, …, 1) as PyTorch has it.
        dim: axis of ``v`` whose slices are normalised, counted from 0.

    Returns:
        w, like ``v``.

    Raises:
        TypeError, ValueError: wrong dtype or shape; nothing is written.

    A slice of zeros gives NaN, as in PyTorch, and so does one of subnormal numbers.

    Source: Salimans & Kingma, Weight Normalization, 2016.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.weight_norm(np.float32([[3, 4]]), np.float32([10]))
        array([[6., 8.]], dtype=float32)
    """
    op = "weight_norm"
    axis = _dim(op, v, dim)
    w = _C.weight_norm(_exchanged(op, "v", v, axis), _flat(op, g, v, axis), None)
    return _exchanged(op, "w", w, axis)


def weight_norm_backward(dw: Array, v: Array, g: Array, dim: int = 0) -> tuple[Array, Array]:
    """Gradients of :func:`weight_norm`.

    With v̂ = v/‖v‖: dg = Σ dw·v̂ and dv = g/‖v‖·(dw - v̂·Σ dw·v̂), the sums over a slice.

    Args:
        dw: gradient of w, like ``v``.
        v: as in forward.
        g: as in forward.
        dim: as in forward.

    Returns:
        (dv, dg): like ``v`` and of the shape of ``g``, float32 (float64 for float64 ``v``).

    Raises:
        TypeError, ValueError: wrong dtype or shape.

    Source: Salimans & Kingma, Weight Normalization, 2016.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> dv, dg = onepass.ops.weight_norm_backward(
        ...     np.float32([[1, 0]]), np.float32([[3, 4]]), np.float32([10]))
        >>> dv.round(2), dg.round(2)
        (array([[ 1.28, -0.96]], dtype=float32), array([0.6], dtype=float32))
    """
    op = "weight_norm_backward"
    axis = _dim(op, v, dim)
    rows, flat = _exchanged(op, "v", v, axis), _flat(op, g, v, axis)
    dv, dg = _C.weight_norm_backward(_exchanged(op, "dw", dw, axis), rows, flat)
    return _exchanged(op, "dv", dv, axis), dg if flat is g else dg.reshape(g.shape)


def machine_epsilon(x: Any) -> float:
    """That of the type in which an array is computed with."""
    dtype = getattr(x, "dtype", None)
    if dtype is None and hasattr(x, "__dlpack__"):
        dtype = np.from_dlpack(x).dtype
    return 2.0**-52 if "float64" in str(dtype) else 2.0**-23


def _shape(normalized_shape: int | Sequence[int]) -> Any:
    try:
        return (operator.index(normalized_shape),)  # type: ignore[arg-type]
    except TypeError:
        return normalized_shape


def _kept(op: str, saved: SavedRowNorm) -> tuple[Any, ...]:
    if isinstance(saved, SavedRowNorm) and saved.op == op:
        return saved.kept
    given = saved.op if isinstance(saved, SavedRowNorm) else type(saved).__name__
    raise TypeError(f"{op}_backward: 'saved' is of {given}, expected the second result of {op}")


def _dim(op: str, v: Any, dim: int) -> int:
    ndim = getattr(v, "ndim", 1)
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise TypeError(f"{op}: 'dim' is {dim!r}, expected an int")
    axis = operator.index(dim)
    if not 0 <= axis < max(ndim, 1):
        raise ValueError(
            f"{op}: 'dim' is {dim!r}, expected an axis of v, which has {ndim}, counted from 0 "
            "(PyTorch takes -1 for the norm of the whole array: pass v.reshape(1, -1))"
        )
    return axis


def _exchanged(op: str, name: str, a: Any, axis: int) -> Any:
    if axis == 0:
        return a
    if not hasattr(a, "swapaxes"):
        raise TypeError(
            f"{op}: {name!r} is a {type(a).__name__} without swapaxes, expected an array of NumPy, "
            "CuPy or PyTorch where dim is not 0"
        )
    return a.swapaxes(0, axis)


def _flat(op: str, g: Any, v: Any, axis: int) -> Any:
    """g as a vector."""
    shape = tuple(getattr(g, "shape", ()))
    if len(shape) < 2:
        return g
    of_v = tuple(getattr(v, "shape", ()))
    wide = tuple(n if i == axis else 1 for i, n in enumerate(of_v))
    if shape != wide:
        raise ValueError(
            f"{op}: 'g' has shape {shape}, expected {wide[axis : axis + 1]} or {wide}: one value "
            "per slice of v"
        )
    return g.reshape(-1)
