"""Checks of what a cross-validation is given, and of what build returns in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onepass._array import to_numpy
from onepass.data import DataLoader
from onepass.data._given import array_of
from onepass.data._rows import rows_or_array
from onepass.data._weights import checked_weights
from onepass.train._checkpoint import Checkpoint
from onepass.train._fold_result import Fold
from onepass.train._fold_samples import OWNER, in_memory, samples_of
from onepass.train._trainer import Trainer


def check_preprocess(preprocess: Any) -> None:
    if preprocess is None:
        return
    parts = [getattr(preprocess, name, None) for name in ("fit", "transform")]
    if isinstance(preprocess, type) or not all(map(callable, parts)):
        shown = f"the class {preprocess.__name__}" if isinstance(preprocess, type) else None
        raise TypeError(
            f"{OWNER}: 'preprocess' is {shown or repr(preprocess)}, expected an object with fit "
            "and transform, such as data.Standardize()"
        )


def data_of(X: Any, y: Any, preprocess: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    """Samples and targets of which parts can be taken, and the weights."""
    if isinstance(X, DataLoader) or y is None:
        alone = not isinstance(X, DataLoader) and (hasattr(X, "shape") or hasattr(X, "iloc"))
        what = "'y' is None" if alone else f"'X' is a {type(X).__name__}"
        raise TypeError(f"{OWNER}: {what}, expected arrays X and y, of which folds are made")
    X, y = samples_of(X, preprocess), in_memory(rows_or_array(OWNER, "y", y))
    if not X.ndim or not y.ndim or len(X) != len(y):
        raise ValueError(
            f"{OWNER}: 'y' has shape {tuple(y.shape)}, expected a target for each of the samples "
            f"of X, {tuple(X.shape)}"
        )
    if sample_weight is None:
        return X, y, None
    weight = checked_weights(OWNER, "sample_weight", sample_weight)
    if weight.shape != (len(y),):
        raise ValueError(
            f"{OWNER}: 'sample_weight' has shape {weight.shape}, expected ({len(y)},), one for "
            "each sample of X"
        )
    return X, y, weight


def groups_of(groups: Any) -> Any:
    """As an array."""
    if groups is None:
        return None
    return (
        np.asarray(groups)
        if isinstance(groups, (list, tuple))
        else to_numpy(array_of(OWNER, "groups", groups, text=True))
    )


def check_trainer(trainer: Any, done: Sequence[Fold]) -> None:
    if not isinstance(trainer, Trainer):
        raise TypeError(f"{OWNER}: 'build' returned a {type(trainer).__name__}, expected a Trainer")
    for fold in done:
        if fold.trainer.model is trainer.model:
            raise ValueError(
                f"{OWNER}: 'build' returned the model of fold {fold.number} again, expected a new "
                "one each time"
            )
    if trainer.step:
        raise ValueError(
            f"{OWNER}: 'build' returned a Trainer that has done {trainer.step} steps, expected a "
            "new one: it may have seen the samples that a fold holds out"
        )
    if any(isinstance(callback, Checkpoint) for callback in trainer.callbacks):
        raise ValueError(
            f"{OWNER}: 'build' returned a Trainer with a Checkpoint, expected none: pass "
            "resume=, a directory for all folds"
        )
