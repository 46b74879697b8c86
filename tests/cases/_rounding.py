"""A bound for every element of a result, derived from the formula itself.

`Rounded` is an array that carries how far rounding may have moved each element. A formula that is
written with NumPy's operators and evaluated on it yields its result and, beside it, the bound: the
running error analysis of Wilkinson (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
§3.3). Each operation passes on the errors of its operands, times its derivative, and adds one
rounding of its own result. Cancellation needs no allowance by hand, since an error stays as large
as the terms that it came from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_U = 2.0**-24  # the unit roundoff that decides whether a sign or a root is known: float32's


def _known(value: np.ndarray, error: np.ndarray) -> np.ndarray:
    return np.abs(value) > 2 * _U * error


def _sqrt(z, x, e):
    # Where x is not known to be positive, its root may lie anywhere below √(x + error).
    with np.errstate(all="ignore"):
        smooth = np.where(e == 0, 0.0, e / (2 * z))
    return np.where((e == 0) | _known(x, e), smooth, np.sqrt(np.abs(x) + _U * e) / _U) + z


def _divide(z, x, ex, y, ey):
    with np.errstate(all="ignore"):
        return np.where(ex == 0, 0.0, ex / np.abs(y)) + np.where(ey == 0, 0.0, np.abs(z / y) * ey)


# What an operation passes on of its operands' errors, and whether its result is rounded.
_BINARY: dict[Any, tuple[Callable[..., Any], bool]] = {
    np.add: (lambda z, x, ex, y, ey: ex + ey, True),
    np.subtract: (lambda z, x, ex, y, ey: ex + ey, True),
    np.multiply: (lambda z, x, ex, y, ey: np.abs(y) * ex + np.abs(x) * ey, True),
    np.divide: (_divide, True),
    np.maximum: (lambda z, x, ex, y, ey: np.maximum(ex, ey), False),
    np.minimum: (lambda z, x, ex, y, ey: np.maximum(ex, ey), False),
}
_UNARY: dict[Any, Callable[..., Any]] = {
    np.negative: lambda z, x, e: e,
    np.absolute: lambda z, x, e: e,
    np.square: lambda z, x, e: 2 * np.abs(x) * e + z,
    np.sqrt: _sqrt,
    np.sign: lambda z, x, e: np.where((e == 0) | _known(x, e), 0.0, 2 / _U),
}


class Rounded(np.lib.mixins.NDArrayOperatorsMixin):
    """value, and error: how far a computed value may lie from it, in units of roundoff.

    The unit roundoff is half an eps of the computing type, so one bound serves all types. A number
    beside it is a constant that the kernel rounds once to the computing type.
    """

    def __init__(self, value: Any, error: Any = 0.0) -> None:
        self.value = np.asarray(value, np.float64)
        self.error = np.broadcast_to(np.asarray(error, np.float64), self.value.shape)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if method != "__call__" or options:
            return NotImplemented
        if ufunc is np.power and inputs[1] == 2:
            ufunc, inputs = np.square, inputs[:1]
        parts = [_parts(x) for x in inputs]
        if not (ufunc in _UNARY or ufunc in _BINARY):
            raise TypeError(f"Rounded: no error is derived for np.{ufunc.__name__}; add its rule")
        with np.errstate(all="ignore"):
            z = ufunc(*(value for value, _ in parts))
            flat = [x for part in parts for x in part]
            if ufunc in _UNARY:
                return Rounded(z, _UNARY[ufunc](z, *flat))
            passed, rounds = _BINARY[ufunc]
            return Rounded(z, passed(z, *flat) + (np.abs(z) if rounds else 0.0))


def _parts(x: Any) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(x, Rounded):
        return x.value, x.error
    value = np.asarray(x, np.float64)
    return value, np.where(value == value.astype(np.float32), 0.0, np.abs(value))


class Bounded(np.ndarray):
    """An array of expected values; `roundings` is the error of `Rounded` for each element."""

    roundings: np.ndarray | None = None


def bounded(x: Any) -> Any:
    """What a formula gave, as an array that carries its bound; None stays None."""
    if x is None:
        return None
    x = x if isinstance(x, Rounded) else Rounded(x, 4 * np.abs(x))  # a few operations in double
    array = x.value.view(Bounded)
    array.roundings = x.error
    return array
