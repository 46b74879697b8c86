"""Cross-validation: as many trainings as folds, each scored on the fold that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass.data._loader import permutation
from onepass.data._split import STREAM
from onepass.runs import _parts, _scores
from onepass.runs._fitting import Fitting
from onepass.runs._options import Options
from onepass.runs._saved_run import SavedRun
from onepass.runs._source import Source
from onepass.runs._start import Start

LEAST = 6  # samples outside of a fold: with fewer, none would be left to decide when to stop


def folds(source: Source, count: int, seed: int) -> list[NDArray[np.int64]]:
    """The rows of each fold, in random order; the samples of a class are spread evenly.

    Raises:
        ValueError: too few samples for so many folds.
    """
    size = len(source.y)
    if count > size:
        raise ValueError(
            f"train: '--cv' is {count}, expected at most {size}, the number of samples"
        )
    if size - math.ceil(size / count) < LEAST:
        raise ValueError(
            f"train: '--cv' is {count}, expected more folds: of {size} samples, at least {LEAST} "
            "must be outside of each"
        )
    order = permutation(size, seed, STREAM)
    if source.classes is not None:
        order = order[np.argsort(source.y[order], kind="stable")]
    return [np.sort(order[fold::count]) for fold in range(count)]


def scores(
    source: Source,
    options: Options,
    about: dict[str, Any],
    done: list[dict[str, Any]],
    start: Start | None = None,
) -> Iterator[dict[str, Any]]:
    """The scores of each fold, from the one after those that are ``done``."""
    rows = folds(source, options.cv or 0, options.seed)
    for test in rows[len(done) :]:
        rest = np.setdiff1d(np.arange(len(source.y)), test)
        parts = _parts.split_rest(source, rest, test, options.seed, options.preprocess)
        fitting = Fitting(source, parts, options, start)
        fitting.fit(fitting.trainer([]))
        about = {**about, "architecture": vars(fitting.architecture)}
        saved = SavedRun.of(about, fitting.model, fitting.parts)
        yield _scores.as_json(saved.scores(parts.X[test], parts.y[test]))


def summary(done: list[dict[str, Any]]) -> str:
    """Mean and standard deviation of the main scores over the folds."""
    names = [n for n in ("accuracy", "balanced_accuracy", "rmse", "mae", "r2") if n in done[0]]
    shown = []
    for name in names:
        values = [math.nan if fold[name] is None else fold[name] for fold in done]
        mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
        spread = f"{_scores.number(mean)} ± {_scores.number(deviation)}"
        shown.append(f"{name.replace('_', ' ')} {spread}")
    return f"{len(done)} folds: {'  '.join(shown)}"
