"""The parts of the data: for training, for stopping, and held out for the result.

A quarter of the data is held out; a tenth of the rest decides when to stop. The statistics of the
training part alone encode and scale the inputs, and the targets of a regression.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onepass.data import Encoding, MinMax, Standardize, Whiten, split_indices
from onepass.data._folds import split_groups
from onepass.runs._source import Source

TEST_SHARE = 0.25
VALIDATION_SHARE = 0.1
MIN_SAMPLES = 8  # with fewer, the validation part would round to none

Indices = NDArray[np.int64]
Scale: TypeAlias = Standardize | MinMax | Whiten
PREPROCESS: dict[str, Callable[[], Scale]] = {
    "standardize": Standardize,
    "minmax": MinMax,
    "whiten": Whiten,
    "zca": partial(Whiten, "zca"),
}


@dataclass(frozen=True)
class Parts:
    """Scaled inputs and targets, and all that is needed to treat other rows in the same way.

    Attributes:
        X: encoded inputs of all rows, not scaled. y: their targets.
        train, validation, test: rows of the parts.
        encoding: of tables into numbers. scale: of inputs. target_scale: of targets, or None.
    """

    X: NDArray[np.float64]
    y: NDArray[Any]
    train: Indices
    validation: Indices
    test: Indices
    encoding: Encoding
    scale: Scale
    target_scale: Standardize | None

    @property
    def width(self) -> int:
        """How many inputs the network has."""
        return int(scaled(self.scale, self.X[:1]).shape[1])

    def described(self, source: Source) -> dict[str, Any]:
        """The data and its parts, for a record."""
        return {
            "rows": len(self.y),
            "target": source.target,
            "inputs": list(self.encoding.columns),
            "training": len(self.train),
            "validation": len(self.validation),
            "held_out": len(self.test),
            "notes": list(source.notes),
        }

    def inputs(self, rows: Indices) -> NDArray[np.float32]:
        """Scaled inputs of these rows."""
        return scaled(self.scale, self.X[rows])

    def targets(self, rows: Indices) -> NDArray[Any]:
        """Classes of these rows, or their scaled targets as a column."""
        if self.target_scale is None:
            return self.y[rows]
        return scaled(self.target_scale, self.y[rows, None])


def scaled(scale: Scale, values: NDArray[np.float64]) -> NDArray[np.float32]:
    """In single precision, as the network takes them."""
    result: NDArray[np.float32] = scale.transform(values).astype(np.float32)
    return result


def check_range(scale: Scale, X: NDArray[np.float64], encoding: Encoding) -> None:
    """Refuse inputs that are not numbers in single precision."""
    if not len(X):
        return
    if isinstance(scale, Whiten):  # every input hangs on all columns
        with np.errstate(over="ignore", invalid="ignore"):
            wrong = ~np.isfinite(scaled(scale, X)).all(axis=1)
        if wrong.any():
            raise ValueError(
                f"row {int(wrong.argmax()) + 1} is too far from the training data, beyond the "
                "range of float32; correct it"
            )
        return
    with np.errstate(over="ignore"):
        ends = scaled(scale, np.stack([X.min(axis=0), X.max(axis=0)]))
    odd = np.flatnonzero(~np.isfinite(ends).all(axis=0))
    if len(odd):
        column, end = X[:, odd[0]], ends[:, odd[0]]
        row = int(column.argmin() if not np.isfinite(end[0]) else column.argmax())
        raise ValueError(
            f"column {encoding.feature_names[odd[0]]!r}, row {row + 1}: {column[row]:.6g} is too "
            "far from the training data, beyond the range of float32; correct the cell"
        )


def split(source: Source, seed: int, preprocess: str = "standardize") -> Parts:
    """A part held out, the rest for training and for stopping."""
    check(source)
    rest, test = _two(source, np.arange(len(source.y)), TEST_SHARE, seed)
    return split_rest(source, rest, test, seed, preprocess)


def split_rest(
    source: Source, rest: Indices, test: Indices, seed: int, preprocess: str = "standardize"
) -> Parts:
    """``rest`` for training and for stopping, ``test`` held out."""
    y = source.y
    train, validation = to_train(source, rest, seed)
    encoding, X = source.encoded(train)
    scale = PREPROCESS[preprocess]().fit(X[train])
    check_range(scale, X, encoding)
    target_scale = None if source.classes is not None else Standardize().fit(y[train, None])
    if target_scale is not None and not math.isfinite(square_of(target_scale)):
        raise ValueError(
            f"target {source.target!r} has numbers up to {np.abs(y).max():.3g}, whose squares "
            "leave the range of float64; divide them by a unit"
        )
    return Parts(X, y, train, validation, test, encoding, scale, target_scale)


def to_train(source: Source, rest: Indices, seed: int) -> tuple[Indices, Indices]:
    """``rest`` in two: for training and for stopping."""
    return _two(source, rest, VALIDATION_SHARE, seed)


def _two(source: Source, rows: Indices, share: float, seed: int) -> tuple[Indices, Indices]:
    """``rows`` in two parts, the second of about this share; a group is in one of them."""
    groups = source.groups
    if groups is None:
        first, second = split_indices(source.y[rows], share, stratify=stratified(source), seed=seed)
        return rows[first], rows[second]
    if len(np.unique(groups[rows])) < 2:
        raise ValueError(
            f"train: '--groups' leaves one group of {len(rows)} rows to train on, expected two or "
            "more, one of which decides when to stop"
        )
    first, second = split_groups(source.y[rows], groups[rows], share, seed)
    return rows[first], rows[second]


def unit_of(target_scale: Standardize) -> float:
    """One step of the scaled target, in the unit of the target."""
    return float(target_scale.scale[0]) / float(target_scale.unit[0])


def square_of(target_scale: Standardize) -> float:
    """The same of squares; inf where it is none."""
    unit = unit_of(target_scale)
    return unit * unit or math.inf


def stratified(source: Source) -> bool | None:
    """How to split: None, by class where enough of the classes come again."""
    return None if source.classes is not None else False


def check(source: Source) -> None:
    """Refuse data from which nothing can be learnt."""
    if len(source.y) < MIN_SAMPLES:
        samples = "1 sample" if len(source.y) == 1 else f"{len(source.y)} samples"
        raise ValueError(
            f"{source.called} has {samples}, expected at least {MIN_SAMPLES}: one part "
            "is held out and one decides when to stop"
        )
    if source.classes is not None and len(source.classes) == len(source.y):
        raise ValueError(
            f"target {source.target!r} has a different class for each of {len(source.y)} samples; "
            "if it is numbers, pass --task regression"
        )
