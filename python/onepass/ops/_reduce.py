"""Reductions over lists of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onepass import _C
from onepass._array import Array


def global_norm(arrays: Sequence[Array], ord: float = 2) -> Any:
    """‖(a₁, a₂, …)‖: the norm of all elements of a list of arrays together.

    Summed in a fixed order that depends on the sizes and strides alone, so the same bits for any
    number of threads, and right for every finite value; only subnormal float32 values on CUDA count
    as zero.

    Args:
        arrays: arrays of any shapes and strides; dtypes may differ.
        ord: 1 (Σ|a|), 2 (√Σa²) or inf (max |a|).

    Returns:
        The norm, a float; of CUDA arrays a 0-d float64 array on their device, which nothing has
        waited for. 0 for an empty list.

    Raises:
        ValueError: another ``ord``.
        TypeError: an entry that is not an array of a floating dtype.

    Source: Pascanu, Mikolov & Bengio, On the difficulty of training recurrent neural networks,
    2013.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.global_norm([np.float32([3]), np.float32([[4]])])
        5.0
    """
    return _C.global_norm(arrays, ord)
