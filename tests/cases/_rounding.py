"""A bound for every element of a result, derived from the formula itself.

`Rounded` is an array that carries how far rounding may have moved each element. A formula that is
written with NumPy's operators and evaluated on it yields its result and, beside it, the bound: the
running error analysis of Wilkinson (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
§3.3). Each operation passes on the errors of its operands, times its derivative, and adds one
rounding of its own result. Cancellation needs no allowance by hand, since an error stays as large
as the terms that it came from.

A `Constant` is a hyper-parameter, or what a formula makes of several. Kernels compute constants in
double and round them once, where they meet an array. So an error has two rows: row 0 for kernels
that compute in float32, row 1 for those in float64, where the constants' own errors count.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

_U = 2.0**-24  # the unit roundoff that decides whether a sign or a root is known: float32's


def _known(value: np.ndarray, error: np.ndarray) -> np.ndarray:
    return np.abs(value) > 2 * _U * error


def _sqrt(z, x, e):
    # Where x is not known to be positive, its root may lie anywhere below √(x + error).
    smooth = np.where(e == 0, 0.0, e / (2 * z))
    return np.where((e == 0) | _known(x, e), smooth, np.sqrt(np.abs(x) + _U * e) / _U) + z


def _divide(z, x, ex, y, ey):
    return np.where(ex == 0, 0.0, ex / np.abs(y)) + np.where(ey == 0, 0.0, np.abs(z / y) * ey)


def _power(z, x, ex, y, ey):
    # By repeated squaring, or as exp(y·log x): either multiplies an error by up to y.
    passed = np.abs(y / x) * ex + np.abs(np.log(np.abs(x))) * ey + np.abs(y) + 1
    return np.where(z == 0, 0.0, np.abs(z) * passed)


def _additions(count: int) -> int:
    """How often a term of a sum is rounded, at most, before it meets others in double.

    Blocks of 1024 elements are added in 32 lanes, 32 elements each, which fold in five steps
    (cpu/row_folds.h). In float64 the blocks follow, one by one; on a device a thread of 1024 adds
    no more than one element of a block.
    """
    return min(count - 1, 32 + 5 + count // 1024)


# How an operation passes on the errors of its operands, and whether it rounds its result.
_BINARY: dict[Any, tuple[Callable[..., Any], bool]] = {
    np.add: (lambda z, x, ex, y, ey: ex + ey, True),
    np.subtract: (lambda z, x, ex, y, ey: ex + ey, True),
    np.multiply: (lambda z, x, ex, y, ey: np.abs(y) * ex + np.abs(x) * ey, True),
    np.divide: (_divide, True),
    np.maximum: (lambda z, x, ex, y, ey: np.maximum(ex, ey), False),
    np.minimum: (lambda z, x, ex, y, ey: np.maximum(ex, ey), False),
    np.power: (_power, True),
}
_UNARY: dict[Any, Callable[..., Any]] = {
    np.negative: lambda z, x, e: e,
    np.absolute: lambda z, x, e: e,
    np.square: lambda z, x, e: 2 * np.abs(x) * e + z,
    np.sqrt: _sqrt,
    np.sign: lambda z, x, e: np.where((e == 0) | _known(x, e), 0.0, 2 / _U),
    # Of core/math.h: what the derivative passes on, and an error in ulp, which is two roundings.
    np.exp: lambda z, x, e: np.where(z == 0, 0.0, z * (e + 2 * 3.0)),  # on a device; CPU 0.95
    np.log: lambda z, x, e: e / np.abs(x) + 2 * 0.94 * np.abs(z),
    np.log1p: lambda z, x, e: e / np.abs(1 + x) + 2 * 1.69 * np.abs(z),
}


class Rounded(np.lib.mixins.NDArrayOperatorsMixin):
    """value, and error: how far a computed value may lie from it, in units of roundoff.

    The unit roundoff is half an eps of the computing type; error[0] is for float32, error[1] for
    float64.
    """

    def __init__(self, value: Any, error: Any = 0.0) -> None:
        self.value = np.asarray(value, np.float64)
        self.error = np.asarray(error, np.float64)
        if self.error.shape != (2, *self.value.shape):
            self.error = np.broadcast_to(self.error, (2, *self.value.shape))

    def sum(self, axis: int, keepdims: bool = False) -> Rounded:
        """A sum along an axis, as kernels add many elements."""
        z = self.value.sum(axis=axis, keepdims=keepdims)
        each = self.error + _additions(self.value.shape[axis]) * np.abs(self.value)
        back = axis if axis < 0 else axis - self.value.ndim  # the error has an axis more in front
        return Rounded(z, each.sum(axis=back, keepdims=keepdims) + np.abs(z))

    def total(self, axis: int | None = None) -> Rounded:
        """The sum of all elements, in double and then rounded; or along an axis, which stays."""
        if axis is not None:
            z = self.value.sum(axis=axis, keepdims=True)
            added = np.reshape([0, max(self.value.shape[axis] - 1, 0)], (2, *(1,) * z.ndim))
            each = self.error + added * np.abs(self.value)
            return Rounded(z, each.sum(axis=axis, keepdims=True) + np.abs(z))
        added = np.array([0, _additions(max(self.value.size, 1))])
        each = self.error.reshape(2, -1).sum(axis=1) + added * np.abs(self.value).sum()
        z = self.value.sum()
        return Rounded(z, each + np.abs(z))

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if method != "__call__" or options:
            return NotImplemented
        if ufunc is np.power and not isinstance(inputs[1], Rounded) and inputs[1] == 2:
            ufunc, inputs = np.square, inputs[:1]
        if not (ufunc in _UNARY or ufunc in _BINARY):
            raise TypeError(f"Rounded: no error is derived for np.{ufunc.__name__}; add its rule")
        constant = not any(type(x) is Rounded for x in inputs)
        parts = [_as_constant(x) if constant else _beside_arrays(x) for x in inputs]
        with np.errstate(all="ignore"):
            z = ufunc(*(value for value, _ in parts))
            flat = [x for value, error in parts for x in (value, _wide(error, z.ndim))]
            if ufunc in _UNARY:
                error = _UNARY[ufunc](z, *flat)
            else:
                passed, rounds = _BINARY[ufunc]
                error = passed(z, *flat) + (np.abs(z) if rounds else 0.0)
        return Constant(z, error[1]) if constant else Rounded(z, error)


def where(condition: np.ndarray, x: Any, y: Any) -> Rounded:
    """np.where: nothing is rounded."""
    (a, ea), (b, eb) = map(_beside_arrays, (x, y))
    z = np.where(condition, a, b)
    return Rounded(z, np.where(condition, _wide(ea, z.ndim), _wide(eb, z.ndim)))


class Constant(Rounded):
    """A number that is known, or computed, in double; its error is in roundoffs of float64."""

    def __init__(self, value: Any, error: Any = 0.0) -> None:
        super().__init__(value, _rows(0.0, error, np.shape(error)))


def _rows(upper: Any, lower: Any, shape: tuple[int, ...]) -> np.ndarray:
    rows = np.empty((2, *shape))
    rows[0], rows[1] = upper, lower
    return rows


def _as_constant(x: Any) -> tuple[np.ndarray, np.ndarray]:
    return (x.value, x.error) if isinstance(x, Rounded) else (np.asarray(x, np.float64), _EXACT)


def _beside_arrays(x: Any) -> tuple[np.ndarray, np.ndarray]:
    if type(x) is Rounded:
        return x.value, x.error
    value, error = _as_constant(x)
    once = np.where(value == value.astype(np.float32), 0.0, np.abs(value))  # to float32
    return value, _rows(once, error[1], value.shape)


def _wide(error: np.ndarray, ndim: int) -> np.ndarray:
    """Two rows that broadcast beside values of `ndim` axes."""
    if error.ndim == ndim + 1:
        return error
    return error.reshape(2, *(1,) * (ndim + 1 - error.ndim), *error.shape[1:])


_EXACT = np.zeros(2)


def constants(options: dict[str, Any]) -> dict[str, Any]:
    """Options whose floats, alone or in tuples, are constants of a formula."""

    def wrapped(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(wrapped, value))
        return Constant(value) if isinstance(value, float) else value

    return {name: wrapped(value) for name, value in options.items()}


class Bounded(np.ndarray):
    """An array of expected values; `roundings` is the error of `Rounded` for each element."""

    roundings: np.ndarray | None = None


def derived(formula: Callable[..., Any]) -> Callable[..., Any]:
    """A formula on `Rounded` as a reference: float64 arrays in and out, which carry their bound."""

    @functools.wraps(formula)
    def reference(*inputs: Any, **options: Any) -> Any:
        results = formula(*inputs, **options)
        return tuple(map(bounded, results)) if isinstance(results, tuple) else bounded(results)

    return reference


def bounded(x: Any) -> Any:
    """The result of a formula as an array that carries its bound; None stays None."""
    if x is None:
        return None
    array = x.value.view(Bounded)
    array.roundings = _beside_arrays(x)[1]
    return array
