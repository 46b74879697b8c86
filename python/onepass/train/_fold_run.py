"""The trainings of a cross-validation, one fold after the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from onepass import _numbers as numbers
from onepass.data import split_indices
from onepass.data._folds import split_groups
from onepass.data._rows import part_of
from onepass.data._shares import placed
from onepass.data._split import Indices, held_out
from onepass.train._checkpoint import Checkpoint
from onepass.train._fits import fit_on
from onepass.train._fold_record import FoldRecord
from onepass.train._fold_result import Fold
from onepass.train._fold_samples import OWNER, fitted, part_of_samples, prepared
from onepass.train._history import FILE
from onepass.train._marks import digest
from onepass.train._trainer import Trainer

T = TypeVar("T")


def each_fold(
    parts: Sequence[tuple[Indices, Indices]],
    one: Callable[[int, Indices, Indices], T],
    done: Sequence[T] = (),
) -> Iterator[T]:
    """What ``one(number, train, test)`` makes of each fold, one after the other.

    Args:
        parts: positions of the samples to train on, and of those held out.
        done: of an earlier call, those that came first; they are given back as they are.
    """
    for number, (train, test) in enumerate(parts, 1):
        yield done[number - 1] if number <= len(done) else one(number, train, test)


@dataclass(frozen=True)
class FoldTraining:
    """The data, and what each fold does with them."""

    X: Any
    y: Any
    weight: Any
    groups: Any
    preprocess: Any
    fit: dict[str, Any]
    seed: int

    def fold(
        self, number: int, train: Indices, test: Indices, trainer: Trainer,
        record: FoldRecord | None,
    ) -> Fold:  # fmt: skip
        """Train and score one fold; what the record has of it is not trained again."""
        used, validation = self._parts(train, trainer.seed)
        y = part_of(self.y, used)
        scaling, x = fitted(self.preprocess, part_of_samples(self.X, used), y, self.seed)
        options = dict(self.fit)
        if validation is not None:
            del options["validation_split"]
            inside = prepared(scaling, part_of_samples(self.X, validation))
            options["validation_data"] = (inside, part_of(self.y, validation))
        if self.weight is not None:
            options["sample_weight"] = self.weight[used]
        if options.get("transform") is not None:
            options["transform"] = partial(placed, options["transform"], used)
        before, checkpoint = None, None
        if record is not None:
            record.begin(number, None if scaling is None else digest(x))
            before = record.scores(number)
            checkpoint = Checkpoint(record.place(number), every_n_epochs=1, keep=2)
        fit_on(trainer, x, y, options, checkpoint)
        x_test = prepared(scaling, part_of_samples(self.X, test))
        scores = trainer.evaluate(x_test, part_of(self.y, test))
        if record is not None and before is None:
            trainer.history.to_csv(record.place(number) / FILE)
            record.add(number, scores)
        elif record is not None and repr(before) != repr(scores):
            warnings.warn(
                f"{OWNER}: fold {number} has the scores {scores}, and had {before} when it was "
                f"trained into {record.folder}; these are of its model as it is there now",
                RuntimeWarning,
                stacklevel=6,
            )
        return Fold(number, train, test, trainer, scores, scaling)

    def _parts(self, train: Indices, seed: int) -> tuple[Indices, Indices | None]:
        """What a fold is trained on, and what decides when it ends; groups stay together."""
        share = self.fit.get("validation_split", 0.0)
        numbers.in_range(OWNER, "validation_split", share, 0, 1)
        if not share:
            return train, None
        if self.groups is not None:
            used, rest = split_groups(part_of(self.y, train), self.groups[train], share, seed)
        else:
            held_out(OWNER, "validation_split", share, len(train))
            used, rest = split_indices(part_of(self.y, train), share, seed=seed)
        return train[used], train[rest]
