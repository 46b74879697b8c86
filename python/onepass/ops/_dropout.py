"""Dropout without a stored mask: which elements are kept is a function of (seed, offset, index)."""

from __future__ import annotations

from collections.abc import Sequence

from onepass import _C
from onepass._array import Array


def dropout(
    x: Array,
    p: float = 0.5,
    *,
    seed: int | Array,
    offset: int | Array = 0,
    first: int = 0,
    out: Array | None = None,
) -> Array:
    """y = x/(1 - p) where the element is kept, 0 where it is dropped.

    Element ``i`` (its index in C order, whatever the strides) is kept iff u(first + i) ≥ p, where
    u(i) is a 32-bit fraction drawn by Philox4x32-10 from (seed, offset, i): equal on every device,
    for any number of threads and any layout. p has a resolution of 2⁻³². Dropped elements are
    selected, not multiplied: p = 1 gives zeros even for Inf.

    Args:
        x: array of any shape.
        p: probability of dropping an element, in [0, 1].
        seed: 64-bit key. On a CUDA device this and ``offset`` may be arrays of one number, int64 or
            uint64, which are read there: a replayed graph then has the mask of what they hold.
        offset: names an independent 64-bit stream, for instance layer and step.
        first: index that element 0 of ``x`` counts as: a slice of the rows of a larger array gets
            that slice of its mask.
        out: array like ``x`` to write to; may be ``x``.

    Returns:
        y, like ``x``.

    Raises:
        ValueError: ``p`` outside [0, 1] or NaN; ``seed`` or ``offset`` outside [0, 2⁶⁴), ``first``
            outside [0, 2⁶²).

    Source: Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting,
    2014; Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.dropout(np.ones(4, np.float32), 1.0, seed=0)
        array([0., 0., 0., 0.], dtype=float32)
    """
    return _C.dropout(x, out, p, seed, offset, first)


def dropout_backward(
    dy: Array,
    p: float = 0.5,
    *,
    seed: int | Array,
    offset: int | Array = 0,
    first: int = 0,
    out: Array | None = None,
) -> Array:
    """dx = dy/(1 - p) where the element was kept, 0 where it was dropped.

    Args:
        dy: gradient of y, any shape.
        p: as in the forward.
        seed: as in the forward.
        offset: as in the forward.
        first: as in the forward.
        out: array like ``dy`` to write to; may be ``dy``.

    Returns:
        dx, like ``dy``.

    Raises:
        ValueError: as :func:`dropout`.

    Source: the derivative of :func:`dropout`.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.dropout_backward(np.ones(2, np.float32), 0.0, seed=0)
        array([1., 1.], dtype=float32)
    """
    return dropout(dy, p, seed=seed, offset=offset, first=first, out=out)


def feature_dropout(
    x: Array,
    p: float = 0.5,
    *,
    seed: int | Array,
    offset: int | Array = 0,
    first: int = 0,
    out: Array | None = None,
) -> Array:
    """Dropout of whole maps: ``y[n, c] = x[n, c]/(1 - p)`` where map (n, c) is kept, else 0.

    Which maps are kept is ``dropout_mask(x.shape[:2], p, seed=seed, offset=offset)``. Otherwise as
    :func:`dropout`.

    Args:
        x: array of shape (N, C, …); axis 1 has the channels, whatever the strides.
        p: probability of dropping a map, in [0, 1].
        seed: 64-bit key.
        offset: names an independent 64-bit stream, for instance layer and step.
        first: number that sample 0 of ``x`` counts as: a slice of a larger batch gets that slice
            of its masks.
        out: array like ``x`` to write to; may be ``x``.

    Returns:
        y, like ``x``.

    Raises:
        ValueError: ``x`` has fewer than two axes; else as :func:`dropout`.

    Source: Tompson et al., Efficient Object Localization Using Convolutional Networks, 2015.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> y = onepass.ops.feature_dropout(np.ones((8, 4, 5, 5), np.float32), seed=0)
        >>> bool((y == y[:, :, :1, :1]).all())
        True
    """
    return _C.feature_dropout(x, out, p, seed, offset, first)


def feature_dropout_backward(
    dy: Array,
    p: float = 0.5,
    *,
    seed: int | Array,
    offset: int | Array = 0,
    first: int = 0,
    out: Array | None = None,
) -> Array:
    """dx = dy/(1 - p) in the maps that were kept, 0 in the others.

    Args:
        dy: gradient of y, of shape (N, C, …).
        p: as in the forward.
        seed: as in the forward.
        offset: as in the forward.
        first: as in the forward.
        out: array like ``dy`` to write to; may be ``dy``.

    Returns:
        dx, like ``dy``.

    Raises:
        ValueError: as :func:`feature_dropout`.

    Source: the derivative of :func:`feature_dropout`.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.feature_dropout_backward(np.ones((1, 2), np.float32), 0.0, seed=0)
        array([[1., 1.]], dtype=float32)
    """
    return feature_dropout(dy, p, seed=seed, offset=offset, first=first, out=out)


def alpha_dropout(
    x: Array,
    p: float = 0.5,
    *,
    seed: int | Array,
    offset: int | Array = 0,
    first: int = 0,
    out: Array | None = None,
) -> Array:
    """Dropout for SELU: y = a·x + b where the element is kept, a·α' + b where it is dropped.

    α' = -1.7580993408473766 is SELU's lower limit -λα. a = ((α'²·p + 1)·(1 - p))^(-½) and
    b = -a·α'·p keep a mean of 0 and a variance of 1. Which elements are kept is
    :func:`dropout_mask`. p = 0 gives x, p = 1 zeros, as in PyTorch.

    Args:
        x: array of any shape.
        p: probability of dropping an element, in [0, 1].
        seed: 64-bit key. On a CUDA device this and ``offset`` may be arrays of one number, int64 or
            uint64, which are read there: a replayed graph then has the mask of what they hold.
        offset: names an independent 64-bit stream, for instance layer and step.
        first: index that element 0 of ``x`` counts as: a slice of the rows of a larger array gets
            that slice of its mask.
        out: array like ``x`` to write to; may be ``x``.

    Returns:
        y, like ``x``.

    Raises:
        ValueError: as :func:`dropout`.

    Source: Klambauer et al., Self-Normalizing Neural Networks, 2017.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> x = np.random.default_rng(0).standard_normal(100_000)
        >>> y = onepass.ops.alpha_dropout(x, 0.2, seed=0)
        >>> bool(abs(y.mean()) < 0.02), bool(abs(y.std() - 1) < 0.02)
        (True, True)
    """
    return _C.alpha_dropout(x, out, p, seed, offset, first)


def alpha_dropout_backward(
    dy: Array,
    p: float = 0.5,
    *,
    seed: int | Array,
    offset: int | Array = 0,
    first: int = 0,
    out: Array | None = None,
) -> Array:
    """dx = a·dy where the element was kept, 0 where it was dropped; a of :func:`alpha_dropout`.

    Args:
        dy: gradient of y, any shape.
        p: as in the forward.
        seed: as in the forward.
        offset: as in the forward.
        first: as in the forward.
        out: array like ``dy`` to write to; may be ``dy``.

    Returns:
        dx, like ``dy``.

    Raises:
        ValueError: as :func:`dropout`.

    Source: the derivative of :func:`alpha_dropout`.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.alpha_dropout_backward(np.ones(2, np.float32), 0.0, seed=0)
        array([1., 1.], dtype=float32)
    """
    return _C.alpha_dropout_backward(dy, out, p, seed, offset, first)


def feature_alpha_dropout(
    x: Array,
    p: float = 0.5,
    *,
    seed: int | Array,
    offset: int | Array = 0,
    first: int = 0,
    out: Array | None = None,
) -> Array:
    """Alpha dropout of whole maps: y = a·x + b in maps that are kept, a·α' + b in the others.

    Which maps are kept is ``dropout_mask(x.shape[:2], p, seed=seed, offset=offset)``. Otherwise as
    :func:`alpha_dropout`.

    Args:
        x: array of shape (N, C, …); axis 1 has the channels, whatever the strides.
        p: probability of dropping a map, in [0, 1].
        seed: 64-bit key.
        offset: names an independent 64-bit stream, for instance layer and step.
        first: number that sample 0 of ``x`` counts as: a slice of a larger batch gets that slice
            of its masks.
        out: array like ``x`` to write to; may be ``x``.

    Returns:
        y, like ``x``.

    Raises:
        ValueError: ``x`` has fewer than two axes; else as :func:`dropout`.

    Source: Klambauer et al., Self-Normalizing Neural Networks, 2017; Tompson et al., Efficient
    Object Localization Using Convolutional Networks, 2015.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> y = onepass.ops.feature_alpha_dropout(np.ones((8, 4, 5, 5), np.float32), seed=0)
        >>> bool((y == y[:, :, :1, :1]).all())
        True
    """
    return _C.feature_alpha_dropout(x, out, p, seed, offset, first)


def feature_alpha_dropout_backward(
    dy: Array,
    p: float = 0.5,
    *,
    seed: int | Array,
    offset: int | Array = 0,
    first: int = 0,
    out: Array | None = None,
) -> Array:
    """dx = a·dy in the maps that were kept, 0 in the others; a of :func:`alpha_dropout`.

    Args:
        dy: gradient of y, of shape (N, C, …).
        p: as in the forward.
        seed: as in the forward.
        offset: as in the forward.
        first: as in the forward.
        out: array like ``dy`` to write to; may be ``dy``.

    Returns:
        dx, like ``dy``.

    Raises:
        ValueError: as :func:`feature_alpha_dropout`.

    Source: the derivative of :func:`feature_alpha_dropout`.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> dy = np.ones((1, 2), np.float32)
        >>> onepass.ops.feature_alpha_dropout_backward(dy, 0.0, seed=0)
        array([[1., 1.]], dtype=float32)
    """
    return _C.feature_alpha_dropout_backward(dy, out, p, seed, offset, first)


def dropout_mask(
    shape: int | Sequence[int],
    p: float = 0.5,
    *,
    seed: int | Array,
    offset: int | Array = 0,
    first: int = 0,
    packed: bool = False,
    out: Array | None = None,
) -> Array:
    """The mask that :func:`dropout` applies: True = kept.

    Args:
        shape: shape of the array the mask is for.
        p: as in :func:`dropout`.
        seed: as in :func:`dropout`.
        offset: as in :func:`dropout`.
        first: as in :func:`dropout`.
        packed: give ceil(n/8) bytes instead, bit i of byte b for element 8b + i
            (``numpy.packbits(mask, bitorder="little")``).
        out: array to write to, of the dtype and shape below, dense in C order. One on a CUDA device
            is written there.

    Returns:
        ``out``, or a NumPy array: bool of ``shape``, or uint8 of shape (ceil(n/8),).

    Raises:
        ValueError: as :func:`dropout`; ``shape`` has a negative extent or 2⁶³ elements and more.
        TypeError: ``shape`` is not an integer or a sequence of integers; ``out`` has another dtype.

    Source: as :func:`dropout`.

    Example:
        >>> import onepass
        >>> onepass.ops.dropout_mask(3, 0.0, seed=1)
        array([ True,  True,  True])
    """
    extents = shape if isinstance(shape, Sequence) else (shape,)
    return _C.dropout_mask(out, extents, p, seed, offset, first, packed)
