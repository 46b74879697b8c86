"""Scaling of features: fitted on the training part, applied to every part.

Everything is computed in float64, and right for every finite number. The result has the floating
dtype of the data; integers and booleans become float64. A constant column goes to zero, or to the
lower bound, and comes back exactly. A column also is constant where it differs by no more than
rounding: for Standardize as in scikit-learn (`_is_constant_feature`), std·√(1 - Nε) <= Nε·|mean|;
for MinMax where max - min is at most 10ε times the largest magnitude (scikit-learn's bound, 10ε
itself, would also leave a column of 1e-20 unscaled). Such a column is shifted and not scaled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass.data._fitted import Fitted, host, refuse_nonfinite, result_dtype
from onepass.data._weights import checked_weights

Floats = NDArray[np.float64]


class _Scaling(Fitted):
    """y = (x·unit - shift) / scale, feature by feature (axis 0 counts the samples).

    ``unit`` is 1 but for columns near the ends of float64: there it is a power of two that keeps
    differences from overflow and from the subnormal numbers. shift and scale are in units.
    """

    arrays = ("shift", "scale", "unit")

    shift: Floats | None = None
    scale: Floats
    unit: Floats

    def fit(self, X: Any) -> Any:
        """Learn the statistics of ``X`` (N, …); returns self."""
        return self._fit(X)

    def _fit(self, X: Any, weight: Floats | None = None) -> Any:
        x = host(type(self).__name__, X)
        if x.ndim < 1 or x.shape[0] == 0:
            raise ValueError(
                f"{type(self).__name__}: 'X' has shape {x.shape}, expected at least one sample "
                "along axis 0"
            )
        with np.errstate(over="ignore"):
            wide = x.astype(np.float64)
        refuse_nonfinite(type(self).__name__, wide)
        unit = _unit(np.abs(wide).max(axis=0))
        self.shift, scale, constant = self._statistics(wide * unit, weight)
        self.scale = np.where(constant, unit, scale)
        self.unit = unit
        return self

    def transform(self, X: Any) -> Any:
        """``X`` scaled, in its own floating dtype."""
        x, shift = self._of_fit(X)
        placed = self._placed(self._units(x.astype(np.float64), shift))
        return placed.astype(result_dtype(x), copy=False)

    def inverse_transform(self, X: Any) -> Any:
        """The data whose transform is ``X``."""
        x, shift = self._of_fit(X)
        back = (self._unplaced(x.astype(np.float64)) * self.scale + shift) / self.unit
        return back.astype(result_dtype(x), copy=False)

    def fit_transform(self, X: Any) -> Any:
        """``fit(X).transform(X)``."""
        return self.fit(X).transform(X)

    def _statistics(
        self, x: Floats, weight: Floats | None
    ) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        raise NotImplementedError

    def _placed(self, x: Any) -> Any:
        return x

    def _unplaced(self, x: Any) -> Any:
        return x

    def _units(self, x: NDArray[Any], shift: Floats) -> Any:
        return (x * self.unit - shift) / self.scale

    def _of_fit(self, X: Any) -> tuple[NDArray[Any], Floats]:
        self._check_fitted()
        assert self.shift is not None
        return self._checked(X, self.shift.shape), self.shift

    def _is_consistent(self) -> bool:
        assert self.shift is not None
        return self.shift.shape == self.scale.shape == self.unit.shape

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Standardize(_Scaling):
    """Zero mean and unit variance: y = (x - mean) / std, std over N (not N - 1).

    With weights w of samples mean = Σ w x / Σ w, std² = Σ w (x - mean)² / Σ w: whole numbers as
    weights are so many copies.

    Attributes:
        mean, std: float64, the shape of one sample; std is 1 for a constant column.

    Example:
        >>> import numpy as np
        >>> from onepass.data import Standardize
        >>> Standardize().fit_transform(np.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """

    @property
    def mean(self) -> Floats | None:
        """Mean of each feature; None before fit."""
        return None if self.shift is None else self.shift / self.unit

    @property
    def std(self) -> Floats | None:
        """Standard deviation of each feature, 1 where it is constant; None before fit."""
        return None if self.shift is None else self.scale / self.unit

    def fit(self, X: Any, sample_weight: Any = None) -> Any:
        """Learn the statistics of ``X`` (N, …); returns self.

        Args:
            sample_weight: (N,) numbers >= 0, not all 0; None: all samples count once.
        """
        if sample_weight is None:
            return self._fit(X)
        weight = checked_weights("Standardize", "sample_weight", sample_weight)
        x = host("Standardize", X)
        if weight.shape != x.shape[:1] or not weight.any():
            raise ValueError(
                f"Standardize: 'sample_weight' has shape {weight.shape} and the sum "
                f"{weight.sum():g}, expected {x.shape[:1]}, one for each sample, not all 0"
            )
        return self._fit(x[weight > 0], weight[weight > 0])

    def _statistics(
        self, x: Floats, weight: Floats | None
    ) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        constant = x.min(axis=0) == x.max(axis=0)
        mean = column_mean(x, weight)
        centred = x - mean
        # Divide by the largest before squaring, so that no square overflows.
        largest = np.where(constant, 1.0, np.abs(centred).max(axis=0))
        std = largest * np.sqrt(_mean((centred / largest) ** 2, weight))
        error = len(x) * np.finfo(np.float64).eps
        constant |= std * np.sqrt(max(1 - error, 0.0)) <= error * np.abs(mean)
        return mean, std, constant


class MinMax(_Scaling):
    """Each feature onto a range: y = low + (x - min) * (high - low) / (max - min).

    Values outside the fitted minimum and maximum fall outside the range.

    Args:
        feature_range: ``(low, high)``.

    Example:
        >>> import numpy as np
        >>> from onepass.data import MinMax
        >>> MinMax().fit_transform(np.array([[1.0], [2.0], [3.0]])).tolist()
        [[0.0], [0.5], [1.0]]
    """

    options = ("feature_range",)

    def __init__(self, feature_range: tuple[float, float] = (0.0, 1.0)) -> None:
        try:
            low, high = feature_range
        except (TypeError, ValueError):
            raise ValueError(
                f"MinMax: 'feature_range' is {feature_range!r}, expected (low, high)"
            ) from None
        self.low = numbers.in_range("MinMax", "feature_range[0]", low)
        self.high = numbers.in_range("MinMax", "feature_range[1]", high)
        if not 0 < self.high - self.low < np.inf:
            raise ValueError(
                f"MinMax: 'feature_range' is {feature_range!r}, expected (low, high) with "
                "low < high and a finite difference"
            )

    @property
    def feature_range(self) -> tuple[float, float]:
        """The range that the data of fit is brought onto."""
        return self.low, self.high

    def _placed(self, x: Any) -> Any:
        return self.low + x * (self.high - self.low)

    def _unplaced(self, x: Any) -> Any:
        return (x - self.low) / (self.high - self.low)

    def __repr__(self) -> str:
        return f"MinMax(feature_range=({self.low}, {self.high}))"

    def _statistics(
        self, x: Floats, weight: Floats | None
    ) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        low, high = x.min(axis=0), x.max(axis=0)
        span = high - low
        largest = np.maximum(np.abs(low), np.abs(high))
        return low, span, span <= 10 * np.finfo(np.float64).eps * largest


def column_mean(x: Floats, weight: Floats | None = None) -> Floats:
    """The mean of each column; exactly the value of a constant one."""
    low = x.min(axis=0)
    mean: Floats = np.where(low == x.max(axis=0), low, low + _mean(x - low, weight))
    return mean


def _mean(x: Floats, weight: Floats | None) -> Floats:
    mean: Floats = np.mean(x, axis=0) if weight is None else np.average(x, axis=0, weights=weight)
    return mean


def _unit(largest: Floats) -> Floats:
    """A power of two for each column that brings it to about 1 where it is extreme, or 1."""
    _, exponent = np.frexp(largest)
    extreme = (exponent > 1000) | ((exponent < -500) & (largest > 0))
    return np.where(extreme, np.ldexp(1.0, np.minimum(-exponent, 1023)), 1.0)
