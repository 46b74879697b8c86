"""What scalings and projections share: fitted or not yet, their state, the checks of data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from onepass._array import to_numpy
from onepass.data._given import array_of

F = TypeVar("F", bound="Fitted")


class Fitted:
    """Base of what learns numbers from the training part.

    Attributes:
        options: names of the constructor's arguments, which are attributes or properties.
        arrays: names of what fit learns; the first is None before.
        integers: those of them that are whole numbers; the others are float64.
    """

    options: ClassVar[tuple[str, ...]] = ()
    arrays: ClassVar[tuple[str, ...]]
    integers: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Kind, options and what fit has learnt, as text, numbers and arrays of NumPy.

        Raises:
            RuntimeError: before fit.
        """
        self._check_fitted("to_dict")
        names = (*self.options, *self.arrays)
        return {"class": type(self).__name__, **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_dict(cls: type[F], stored: Mapping[str, Any]) -> F:
        """From ``stored``, which ``to_dict`` gave; arrays may be lists, as from JSON.

        Raises:
            TypeError: no dict. ValueError: it is of another kind, or not whole.
        """
        if not isinstance(stored, Mapping):
            raise TypeError(
                f"{cls.__name__}.from_dict: 'stored' is a {type(stored).__name__}, expected what "
                "to_dict gave"
            )
        kind = stored.get("class")
        if str(kind) != cls.__name__:
            raise ValueError(
                f"{cls.__name__}: the stored 'class' is {kind!r}, expected its own name"
            )
        names = {"class", *cls.options, *cls.arrays}
        if names != set(stored):
            wrong = ", ".join(sorted(map(repr, names ^ set(stored))))
            raise ValueError(f"{cls.__name__}: the stored state lacks, or has beyond it: {wrong}")
        made = cls(**{name: stored[name] for name in cls.options})
        for name in cls.arrays:
            try:
                kind = np.int64 if name in cls.integers else np.float64
                array = np.asarray(stored[name], kind)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{cls.__name__}: the stored {name!r} is damaged: {error}"
                ) from None
            setattr(made, name, array)
        if not made._is_consistent():
            shapes = {name: getattr(made, name).shape for name in cls.arrays}
            raise ValueError(f"{cls.__name__}: the stored arrays have shapes {shapes}")
        return made

    def _is_consistent(self) -> bool:
        """Whether the shapes of the arrays go together."""
        raise NotImplementedError

    def _check_fitted(self, call: str = "transform") -> None:
        if getattr(self, self.arrays[0], None) is None:
            name = type(self).__name__
            raise RuntimeError(f"{name}: {call} before fit; call fit(X_train) first")

    def _checked(self, X: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """The samples, whose shape is this."""
        name = type(self).__name__
        x = host(name, X)
        if x.ndim < 1 or x.shape[1:] != shape:
            raise ValueError(
                f"{name}: 'X' has features of shape {x.shape[1:]}, expected {shape} as in fit"
            )
        return x


def result_dtype(x: NDArray[Any]) -> np.dtype[Any]:
    """The dtype of what is computed from ``x``."""
    return np.dtype(np.float64) if x.dtype.kind in "biu" else x.dtype


def host(owner: str, X: Any) -> NDArray[Any]:
    """``X`` as an array of NumPy."""
    return to_numpy(array_of(owner, "X", X))


def refuse_nonfinite(owner: str, x: NDArray[Any]) -> None:
    """Refuse NaN and infinities, and say where the first is."""
    bad = np.argwhere(~np.isfinite(x))
    if bad.size:
        sample, *feature = (int(i) for i in bad[0])
        where = f", column {feature[0] if len(feature) == 1 else tuple(feature)}" if feature else ""
        raise ValueError(
            f"{owner}: 'X' holds {x[tuple(bad[0])]} in sample {sample}{where}, expected finite "
            "numbers (drop or fill the others first)"
        )
