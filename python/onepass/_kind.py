"""The kind of an array: its library, dtype and shape, checked before a kernel sees it.

For arrays that no kernel checks, such as a parameter's, or an input that a module changes first.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from onepass._array import Array, DType, library

FLOATS = ("float32", "float64", "float16", "bfloat16")  # what the kernels take
_NUMPY_FLOATS = frozenset(np.dtype(name) for name in FLOATS[:3])

Like: TypeAlias = tuple[Any, DType, tuple[int, ...]]  # library, dtype and shape


def namespace(array: Array) -> Any:
    """The module (numpy or cupy) that ``array`` belongs to."""
    if hasattr(array, "dtype") and (lib := library(array)).__name__ in ("numpy", "cupy"):
        return lib
    raise TypeError(
        f"expected a NumPy array (or a CuPy array, after to('cuda')), got {type(array).__name__}; "
        "modules compute on these two"
    )


def like(owner: str, name: str, x: Any) -> Like:
    """The kind of ``x``, an array that a kernel would take.

    Raises:
        TypeError: it is not an array, or not of floats.
    """
    if type(x) is np.ndarray and x.dtype in _NUMPY_FLOATS:  # at once: layers come here every step
        return np, x.dtype, x.shape
    try:
        if isinstance(x, np.ma.MaskedArray):
            raise TypeError
        lib = library(x)
    except TypeError:
        shown = "None" if x is None else f"a {type(x).__name__}"
        raise TypeError(f"{owner}: {name} is {shown}, expected a NumPy or CuPy array") from None
    if str(x.dtype).removeprefix("torch.") not in FLOATS:  # a big-endian one is ">f4"
        bytes_ = name == "x" and str(x.dtype) == "uint8"
        images = ", or begin the model with nn.Rescaling(1 / 255), if these are images" * bytes_
        raise TypeError(
            f"{owner}: {name} has dtype {x.dtype}, expected {', '.join(FLOATS)}; convert it with "
            f"astype('float32'){images}"
        )
    return lib, x.dtype, tuple(x.shape)


def check_owned(owner: str, name: str, array: Any) -> None:
    """``array`` is one that a module can own: floats, in NumPy or CuPy.

    Raises:
        TypeError: it is not.
    """
    like(owner, name, array)
    namespace(array)
