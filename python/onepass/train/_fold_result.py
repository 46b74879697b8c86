"""What a cross-validation returns: folds, a table of their scores, predictions for all samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from onepass._array import to_numpy
from onepass.data._split import Indices
from onepass.train import _score_table
from onepass.train._evaluation import BATCH
from onepass.train._fold_samples import part_of_samples, prepared, samples_of
from onepass.train._history import History


@dataclass(frozen=True, eq=False)
class Fold:
    """One training of a cross-validation.

    Attributes:
        number: counted from 1.
        train, test: positions of the samples that it was trained on, and of those held out.
        trainer: with the model as it was when its fit ended.
        scores: "loss" and the metrics, of the samples held out.
        preprocess: the scaling that was fitted to the training samples, but for those of a
            ``validation_split``, or None.

    Example:
        >>> from onepass.train import Fold
        >>> Fold(1, [0, 1, 3], [2], trainer=None, scores={"loss": 0.5}).scores["loss"]
        0.5
    """

    number: int
    train: Indices
    test: Indices
    trainer: Any
    scores: dict[str, float]
    preprocess: Any = None

    @property
    def history(self) -> History:
        """The losses and metrics of each epoch: ``trainer.history``."""
        history: History = self.trainer.history
        return history

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value:.4g}" for name, value in self.scores.items())
        sizes = f"{len(self.train)} training, {len(self.test)} held out"
        return f"Fold({self.number}: {sizes}; {shown})"


class CrossValidation(Sequence[Fold]):
    """What `cross_validate` returns: a sequence of `Fold`; printed, it is a table.

    Args:
        folds: the trainings.

    Attributes:
        folds: the same, as a list.

    Example:
        >>> from onepass.train import CrossValidation, Fold
        >>> scores = [{"loss": 0.5}, {"loss": 0.25}]
        >>> print(CrossValidation([Fold(n, [], [], None, s) for n, s in enumerate(scores, 1)]))
        fold                  loss
        1                   0.5000
        2                   0.2500
        mean ± sd  0.3750 ± 0.1768
    """

    def __init__(self, folds: Sequence[Fold]) -> None:
        self.folds = list(folds)

    @property
    def scores(self) -> dict[str, list[float]]:
        """Name → the score of each fold."""
        return {name: [fold.scores[name] for fold in self.folds] for name in self._names()}

    @property
    def mean(self) -> dict[str, float]:
        """Name → the mean over the folds; NaN where one is."""
        return {name: _score_table.mean_of(self._rows(), name) for name in self._names()}

    @property
    def std(self) -> dict[str, float]:
        """Name → the standard deviation over the folds, of a sample: over K - 1."""
        return {name: _score_table.deviation_of(self._rows(), name) for name in self._names()}

    def table(self) -> str:
        """A line for each fold, and one with mean ± standard deviation."""
        return _score_table.table(self._rows(), self._names())

    def predict(self, X: Any, *, batch_size: int = BATCH) -> NDArray[Any]:
        """The outputs for each sample, of the model that has not seen it: (N, …), as NumPy has it.

        Args:
            X: the samples that `cross_validate` got, in their order.
            batch_size: samples at a time; it changes rounding alone.

        Raises:
            ValueError: another number of samples; some of the folds alone.
        """
        size = sum(len(fold.test) for fold in self.folds)
        places = np.concatenate([np.zeros(0, np.int64), *(fold.test for fold in self.folds)])
        if not size or not np.array_equal(np.sort(places), np.arange(size)):
            raise ValueError(
                "CrossValidation.predict: these folds do not hold out each sample once, expected "
                "all folds of one cross_validate"
            )
        if len(X) != size:
            raise ValueError(
                f"CrossValidation.predict: 'X' has {len(X)} samples, expected the {size} that the "
                "folds were made of"
            )
        result: Any = None
        for fold in self.folds:
            samples = samples_of(X, fold.preprocess)
            x = prepared(fold.preprocess, part_of_samples(samples, fold.test))
            outputs = to_numpy(fold.trainer.predict(x, batch_size=batch_size))
            if result is None:
                result = np.empty((size, *outputs.shape[1:]), outputs.dtype)
            result[fold.test] = outputs
        outputs_of_all: NDArray[Any] = result
        return outputs_of_all

    def _rows(self) -> list[dict[str, float]]:
        return [fold.scores for fold in self.folds]

    def _names(self) -> list[str]:
        return list(self.folds[0].scores) if self.folds else []

    @overload
    def __getitem__(self, index: int) -> Fold: ...
    @overload
    def __getitem__(self, index: slice) -> CrossValidation: ...
    def __getitem__(self, index: int | slice) -> Fold | CrossValidation:
        found = self.folds[index]
        return CrossValidation(found) if isinstance(found, list) else found

    def __len__(self) -> int:
        return len(self.folds)

    def __iter__(self) -> Iterator[Fold]:
        return iter(self.folds)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        rows = self._rows()
        shown = ", ".join(f"{name} {_score_table.spread(rows, name)}" for name in self._names())
        return f"CrossValidation({len(self)} folds: {shown})"
