"""Checks of a module's dtype, its input and the gradients passed to its ``backward``."""

from __future__ import annotations

from typing import Any

import numpy as np

from onepass._kind import Like as Like
from onepass._kind import like as like
from onepass._kind import namespace as namespace

DTYPES = ("float32", "float64")


def check_dtype(owner: str, dtype: Any) -> np.dtype[Any]:
    """The dtype of a module's parameters."""
    try:
        known: np.dtype[Any] = np.dtype(dtype)
        if dtype is not None and known.name in DTYPES:
            return known
    except TypeError:
        pass  # not a dtype at all
    raise ValueError(f"{owner}: 'dtype' is {dtype!r}, expected {' or '.join(map(repr, DTYPES))}")


def check_beside(owner: str, x: Any, kind: Like, weight: Any) -> None:
    """x, which is ``kind``, fits the weights; NumPy would convert them at each call, silently.

    x of 16 bits fits weights of float32, in which it is computed.

    Raises:
        TypeError: it is of another library or dtype.
    """
    lib, dtype, _ = kind
    if type(weight) is np.ndarray and lib is np and dtype == weight.dtype:
        return  # at once: layers come here every step
    if lib is not namespace(weight):
        raise TypeError(
            f"{owner}: x is a {type(x).__name__}, the parameters are {type(weight).__name__}; "
            "move the model with to('cpu') or to('cuda'), or move x"
        )
    if dtype != weight.dtype and not (dtype.itemsize == 2 and weight.dtype == "float32"):
        other = f", or build the layer with dtype='{dtype}'" if str(dtype) in DTYPES else ""
        raise TypeError(
            f"{owner}: x is {dtype} and the parameters are {weight.dtype}; convert x with "
            f"x.astype('{weight.dtype}'){other}"
        )


def check_gradient(owner: str, dy: Any, y: Like) -> None:
    """``dy`` is an array like the last output.

    Raises:
        TypeError: it is not an array, or of another library or dtype. ValueError: of another shape.
    """
    if type(dy) is np.ndarray and (np, dy.dtype, dy.shape) == y:
        return
    lib, dtype, shape = like(owner, "dy", dy)
    if (lib, dtype) != y[:2]:
        given, expected = (f"{at.__name__} {of}" for at, of in ((lib, dtype), y[:2]))
        raise TypeError(f"{owner}: dy is {given}, expected {expected} like y")
    if shape != y[2]:
        raise ValueError(f"{owner}: dy has shape {shape}, expected that of y, {y[2]}")
