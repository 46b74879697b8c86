"""Principal components and whitening: fitted on the training part, applied to every part.

Everything is computed in float64, and the result has the floating dtype of the data; integers and
booleans become float64. The singular values are NumPy's, whatever else is installed: scikit-learn's
differ in the last bits, and a saved run is to be the same everywhere. Data is brought to about 1 by
a power of two, so that no finite number is too large. Directions that are rounding alone count as
empty.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass.data._fitted import Fitted, host, refuse_nonfinite, result_dtype
from onepass.data._scaling import Floats, column_mean

KINDS = ("pca", "zca")
TIE = 1e-10  # magnitudes that differ by less count as equal: rounding would decide


class _Projection(Fitted):
    """The mean, directions of largest variance, and the standard deviations along these.

    ``unit`` is the power of two; ``shift`` and ``spread`` are in units.
    """

    arrays = ("components", "shift", "spread", "total", "unit", "rank", "shape")
    integers = ("rank", "shape")

    shift: Floats  # (features,)
    components: Floats | None = None  # (directions, features), orthonormal rows
    spread: Floats  # (directions,), standard deviations over N - 1
    total: Floats  # (), the variance of all directions
    unit: Floats  # ()
    rank: NDArray[np.int64]  # (), directions that are not empty
    shape: NDArray[np.int64]  # of one sample

    def fit(self, X: Any) -> Any:
        """Learn the statistics of ``X`` (N, …), features flattened; returns self."""
        name = type(self).__name__
        x = host(name, X)
        if x.ndim < 2 or x.shape[0] < 2 or not math.prod(x.shape[1:]):
            raise ValueError(
                f"{name}: 'X' has shape {x.shape}, expected (N, features) with at least two samples"
            )
        wide = x.reshape(len(x), -1).astype(np.float64)
        refuse_nonfinite(name, wide)
        _, exponent = math.frexp(float(np.abs(wide).max()))
        unit = np.asarray(math.ldexp(1.0, min(-exponent, 1023)))
        wide *= unit
        mean = column_mean(wide)
        wide -= mean
        _, s, rows = np.linalg.svd(wide, full_matrices=False)
        directions = _signed(rows)
        kept = self._count(s, x)
        self.unit, self.shift = unit, mean
        self.shape = np.array(x.shape[1:])
        self.components = np.ascontiguousarray(directions[:kept])
        self.spread = s[:kept] / math.sqrt(len(x) - 1)
        self.total = np.asarray(np.sum(s**2) / (len(x) - 1))
        self.rank = np.asarray(min(kept, _rank(s, *wide.shape)))
        return self

    def fit_transform(self, X: Any) -> Any:
        """``fit(X).transform(X)``."""
        return self.fit(X).transform(X)

    @property
    def mean(self) -> Floats | None:
        """Mean of each feature, in the shape of a sample; None before fit."""
        return None if self.components is None else self._sample(self.shift / self.unit)

    @property
    @np.errstate(over="ignore", invalid="ignore")
    def explained_variance(self) -> Floats | None:
        """Variance (over N - 1) along each direction; None before fit."""
        return None if self.components is None else (self.spread / self.unit) ** 2

    @property
    def explained_variance_ratio(self) -> Floats | None:
        """Its share of the variance of all directions; None before fit."""
        if self.components is None:
            return None
        return self.spread**2 / self.total if self.total else np.zeros_like(self.spread)

    def _is_consistent(self) -> bool:
        assert self.components is not None
        sizes = (len(self.spread), math.prod(self.shape))
        return self.components.shape == sizes and self.shift.shape == sizes[1:]

    def _count(self, s: Floats, x: NDArray[Any]) -> int:
        """How many directions are kept, of those with singular values ``s``, largest first."""
        return len(s)

    def _sample(self, flat: Floats) -> Floats:
        return flat.reshape(tuple(self.shape.tolist()))

    def _centred(self, X: Any) -> tuple[NDArray[Any], Floats]:
        """``X`` as it is, and in units without the mean."""
        self._check_fitted()
        x = self._checked(X, tuple(self.shape.tolist()))
        wide = x.reshape(len(x), len(self.shift)).astype(np.float64)
        return x, wide * self.unit - self.shift

    def _given(self, X: Any, shape: tuple[int, ...]) -> tuple[NDArray[Any], Floats]:
        """The argument of an inverse: as it is, and as float64 rows."""
        self._check_fitted()
        y = self._checked(X, shape)
        return y, y.reshape(len(y), math.prod(shape)).astype(np.float64)

    def _restored(self, centred: Floats, y: NDArray[Any]) -> Any:
        back = (centred + self.shift) / self.unit
        return back.reshape(len(y), *self.shape).astype(result_dtype(y), copy=False)


class PCA(_Projection):
    """Principal components: ``y = (x - mean) Vᵀ``, V the directions of largest variance.

    With ``whiten`` each is divided by its standard deviation (over N - 1); an empty direction gives
    0. The largest element of a direction is positive. ``sklearn.decomposition.PCA`` has the same
    numbers, to rounding.

    Args:
        n_components: how many; a share of the variance, 0 < share < 1, that they must exceed; None
            for all: the smaller of N and features.
        whiten: variance 1 for each.

    Attributes:
        mean: float64, the shape of a sample.
        components: float64 (n_components, features), orthonormal rows; None before fit.
        explained_variance, explained_variance_ratio: float64 (n_components,).

    Raises:
        ValueError: an argument out of range; in fit, X has no two samples, a value that is not
            finite, or fewer features or samples than ``n_components``.
        TypeError: ``n_components`` is not a number; in fit and transform, no array of real numbers.
        RuntimeError: transform before fit.

    Source: Pearson 1901; Hotelling 1933.

    Example:
        >>> import numpy as np
        >>> from onepass.data import PCA
        >>> pca = PCA(1).fit(np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]))
        >>> pca.components.round(2).tolist()
        [[0.6, 0.8]]
        >>> pca.transform(np.array([[6.0, 8.0]])).round(2).tolist()
        [[5.0]]
    """

    options = ("n_components", "whiten")

    def __init__(self, n_components: float | None = None, whiten: bool = False) -> None:
        self.n_components = _count_or_share(n_components)
        self.whiten = numbers.flag("PCA", "whiten", whiten)

    def _count(self, s: Floats, x: NDArray[Any]) -> int:
        wanted = self.n_components
        if wanted is None:
            return len(s)
        if isinstance(wanted, float):
            share = np.cumsum(s**2) / (np.sum(s**2) or 1.0)
            return min(int(np.searchsorted(share, wanted, side="right")) + 1, len(s))
        if wanted > len(s):
            features = math.prod(x.shape[1:])
            raise ValueError(
                f"PCA: 'n_components' is {wanted}, expected at most {len(s)}; X has {len(x)} "
                f"samples of {features} features"
            )
        return wanted

    @np.errstate(over="ignore", invalid="ignore")
    def transform(self, X: Any) -> Any:
        """(N, n_components): ``X`` along the components, in its own floating dtype."""
        x, centred = self._centred(X)
        assert self.components is not None
        y = centred @ self.components.T
        y = _divided(y, self._deviations()) if self.whiten else y / self.unit
        return y.astype(result_dtype(x), copy=False)

    @np.errstate(over="ignore", invalid="ignore")
    def inverse_transform(self, X: Any) -> Any:
        """The data whose transform is ``X``, as far as the components reach: (N, …)."""
        y, rows = self._given(X, self.spread.shape if self.components is not None else ())
        assert self.components is not None
        rows = rows * self._deviations() if self.whiten else rows * self.unit
        return self._restored(rows @ self.components, y)

    def _deviations(self) -> Floats:
        return np.where(np.arange(len(self.spread)) < self.rank, self.spread, 0.0)

    def __repr__(self) -> str:
        return f"PCA(n_components={self.n_components}, whiten={self.whiten})"


class Whiten(_Projection):
    """Features without correlation, of variance 1: ``y = (Λ + eps)^(-1/2) V (x - mean)``.

    V are the principal components, Λ their variances (over N - 1). That is the kind "pca"; "zca"
    turns back, ``y = Vᵀ (Λ + eps)^(-1/2) V (x - mean)``, and so stays as near to x as it can be: an
    image remains one. With ``eps = 0`` a direction without variance gives 0.

    Args:
        kind: "pca" or "zca".
        eps: added to the variances, >= 0: small directions are then not blown up.

    Attributes:
        mean: float64, the shape of a sample.
        components: float64 (directions, features), orthonormal rows, as many as the smaller of N
            and features; None before fit.
        explained_variance, explained_variance_ratio: float64 (directions,).

    Raises:
        ValueError: an argument out of range; in fit, X has no two samples or a value that is not
            finite.
        TypeError: ``eps`` is not a number; in fit and transform, no array of real numbers.
        RuntimeError: transform before fit.

    Source: Bell and Sejnowski 1997; Kessy, Lewin and Strimmer 2018.

    Example:
        >>> import numpy as np
        >>> from onepass.data import Whiten
        >>> x = np.random.default_rng(0).standard_normal((500, 2)) @ [[2.0, 1.0], [0.0, 1.0]]
        >>> bool(np.allclose(np.cov(Whiten("zca").fit_transform(x).T), np.eye(2)))
        True
    """

    options = ("kind", "eps")

    def __init__(self, kind: str = "pca", eps: float = 0.0) -> None:
        numbers.one_of("Whiten", "kind", kind, KINDS)
        self.kind = kind
        self.eps = numbers.in_range("Whiten", "eps", eps, 0)

    @np.errstate(over="ignore", invalid="ignore")
    def transform(self, X: Any) -> Any:
        """``X`` whitened, in its own floating dtype: (N, directions), of "zca" like ``X``."""
        x, centred = self._centred(X)
        assert self.components is not None
        rows = centred @ self.components.T
        y = _divided(rows, self._deviations())
        if self.kind == "zca":
            beyond, floor = centred - rows @ self.components, self._floor()
            y = y @ self.components
            y = (y + beyond / floor if floor and self._reaches_beyond() else y).reshape(x.shape)
        return y.astype(result_dtype(x), copy=False)

    @np.errstate(over="ignore", invalid="ignore")
    def inverse_transform(self, X: Any) -> Any:
        """The data whose transform is ``X``: (N, …)."""
        zca = self.kind == "zca"
        shape: tuple[int, ...] = ()
        if self.components is not None:
            shape = tuple(self.shape.tolist()) if zca else self.spread.shape
        y, rows = self._given(X, shape)
        assert self.components is not None
        along = rows @ self.components.T if zca else rows
        back = (along * self._deviations()) @ self.components
        if zca and self._reaches_beyond():
            back = back + (rows - along @ self.components) * self._floor()
        return self._restored(back, y)

    def _deviations(self) -> Floats:
        if not self.eps:
            return np.where(np.arange(len(self.spread)) < self.rank, self.spread, 0.0)
        wide: Floats = np.hypot(self.spread, self._floor())
        return wide

    def _floor(self) -> float:
        """The deviation of a direction without variance, in units."""
        return math.sqrt(self.eps) * float(self.unit)

    def _reaches_beyond(self) -> bool:
        """Whether there are directions that no sample of fit had."""
        assert self.components is not None
        directions, features = self.components.shape
        return bool(directions < features)

    def __repr__(self) -> str:
        return f"Whiten(kind={self.kind!r}, eps={self.eps})"


def _count_or_share(value: Any) -> int | float | None:
    if value is None:
        return None
    if isinstance(value, (float, np.floating)):
        if not 0 < value < 1:
            raise ValueError(
                f"PCA: 'n_components' is {value!r}, expected a whole number >= 1, a share of the "
                "variance between 0 and 1, or None"
            )
        return float(value)
    return numbers.integer("PCA", "n_components", value, 1)


def _divided(y: Floats, deviations: Floats) -> Floats:
    """0 along directions without any."""
    return np.divide(y, deviations, out=np.zeros_like(y), where=deviations > 0)


def _rank(s: Floats, samples: int, features: int) -> int:
    """How many singular values of centred data are more than rounding.

    That of the decomposition grows with the largest; that of the data itself, which is about 1 in
    units before its mean is taken, makes a matrix of norm (√N + √features)·ε.
    """
    eps = np.finfo(np.float64).eps
    of_data = 2 * (math.sqrt(samples) + math.sqrt(features))
    above = s > eps * max(max(samples, features) * s[0], of_data)
    return min(int(np.sum(above)), samples - 1)


def _signed(directions: Floats) -> Floats:
    """The rows, each with a positive largest element: the first of those that count as equal."""
    size = np.abs(directions)
    largest = np.argmax(size >= size.max(axis=1, keepdims=True) * (1 - TIE), axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    turned: Floats = directions * np.where(signs == 0, 1.0, signs)[:, None]
    return turned
