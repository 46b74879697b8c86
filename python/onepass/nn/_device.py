"""Where a module's arrays live: NumPy on the CPU, CuPy on CUDA (imported when first used)."""

from __future__ import annotations

from collections.abc import Callable
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


def to_numpy(value: Any) -> np.ndarray[Any, Any]:
    """A host array from a NumPy, CuPy or PyTorch array, or anything NumPy reads."""
    if hasattr(value, "detach"):  # torch.Tensor
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    elif hasattr(value, "__cuda_array_interface__"):
        value = _cupy().asnumpy(value)
    return np.asarray(value)


def mover(device: str) -> Callable[[Array], Array]:
    """A function that brings an array to ``device``, and returns one that is there as it is.

    Raises:
        ValueError: the device is not "cpu", "cuda" or "cuda:N".
        RuntimeError: CuPy or the CUDA device cannot be used.
    """
    kind, _, index = device.partition(":")
    if device == "cpu":
        return to_numpy
    if kind != "cuda" or not (index.isdecimal() or device == "cuda"):
        raise ValueError(f"device={device!r}: expected 'cpu', 'cuda' or 'cuda:N'")
    cupy = _cupy()
    target = cupy.cuda.Device(int(index)) if index else cupy.cuda.Device()

    def move(array: Array) -> Array:
        with target:
            return cupy.asarray(array)

    return move


def _cupy() -> Any:
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises types of its own for a missing driver or device
        raise RuntimeError(
            f"CUDA cannot be used: {error}. Modules on CUDA hold CuPy arrays: install CuPy for "
            "your CUDA version (pip install cupy-cuda13x) on a machine with an NVIDIA driver, or "
            "stay on 'cpu'"
        ) from error
    return cupy
