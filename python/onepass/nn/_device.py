"""Where a module's arrays live: NumPy on the CPU, CuPy on CUDA (imported when first used)."""

from __future__ import annotations

from typing import Any

import numpy as np

from onepass._array import Array, library

DTYPES = ("float32", "float64")


def check_dtype(dtype: Any) -> np.dtype[Any]:
    """The dtype of a module's parameters."""
    try:
        known: np.dtype[Any] = np.dtype(dtype)
        if dtype is not None and known.name in DTYPES:
            return known
    except TypeError:
        pass  # not a dtype at all
    raise ValueError(f"dtype={dtype!r}: modules compute in {' or '.join(DTYPES)}")


def namespace(array: Array) -> Any:
    """The module (numpy or cupy) that ``array`` belongs to."""
    if hasattr(array, "dtype") and (lib := library(array)).__name__ in ("numpy", "cupy"):
        return lib
    raise TypeError(
        f"expected a NumPy array (or a CuPy array, after to('cuda')), got {type(array).__name__}; "
        "modules compute on these two"
    )
