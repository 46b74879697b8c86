"""Cross-validation: as many trainings as folds, each scored on the fold that it has not seen.

Each fold has a folder of its own, ``folds/1``, ``folds/2``, …, in that of the run: a run with its
model, history and checkpoints, from which a resume goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np

from onepass._page import is_page
from onepass.data._folds import assigned, pairs_of
from onepass.runs import _evaluation, _parts, _scores, _sessions
from onepass.runs._fitting import Fitting
from onepass.runs._folder import Folder
from onepass.runs._names import CHECKPOINTS, FOLDS, HISTORY, REPORT
from onepass.runs._options import Options
from onepass.runs._parts import Indices
from onepass.runs._report import renewed
from onepass.runs._saved_run import KeepBest, SavedRun
from onepass.runs._source import Source, digest
from onepass.runs._start import Start
from onepass.train._checkpoint import Checkpoint
from onepass.train._fold_run import each_fold
from onepass.train._score_table import spread, table
from onepass.train._verdict import verdict

LEAST = 6  # samples outside of a fold: with fewer, none would be left to decide when to stop


def folds(source: Source, count: int, seed: int) -> list[tuple[Indices, Indices]]:
    """The rows outside and inside of each fold; classes are spread evenly, a group is in one.

    Raises:
        ValueError: too few samples or groups, or too few of a class, for so many folds.
    """
    size, groups = len(source.y), source.groups
    held_out = assigned(
        "train", "--cv", size, count, seed, labels=source.y if source.classes is not None else None,
        names=source.classes, groups=groups, cure="; a class too rare may be left out of the table",
    )  # fmt: skip
    if size - int(np.bincount(held_out).max()) < LEAST:
        raise ValueError(
            f"train: '--cv' is {count}, expected more folds: of {size} samples, at least {LEAST} "
            "must be outside of each"
        )
    if groups is not None and any(
        len(np.unique(groups[held_out != fold])) < 2 for fold in range(count)
    ):
        raise ValueError(
            f"train: '--cv' is {count}, expected more groups than {groups.max() + 1}: at least two "
            "must be outside of each fold, one of which decides when to stop"
        )
    return pairs_of(held_out)


def trained_on(source: Source, count: int, seed: int) -> list[tuple[Indices, Indices]]:
    """The rows of each fold to train on, and those that decide when to stop.

    Raises:
        ValueError: as `folds`.
    """
    return [_parts.to_train(source, rest, seed) for rest, _ in folds(source, count, seed)]


class FoldRuns:
    """The folds of a run.

    Args:
        source, options, start: of the run.
        about: what a model's file says of it, but for what depends on the fold.
        folder: of the run.
        record: what the record of a fold has beside its own.
    """

    def __init__(
        self,
        source: Source,
        options: Options,
        about: dict[str, Any],
        folder: Path,
        record: dict[str, Any],
        start: Start | None = None,
    ) -> None:
        self.source, self.options, self.about = source, options, about
        self.folder, self.record, self.start = folder, record, start

    def scores(self, done: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The scores of each fold; those in ``done`` are not trained again.

        Args:
            done: of an earlier call, those that came first.

        Raises:
            ValueError: the loss of a fold is not finite.
        """
        parts = folds(self.source, self.options.cv or 0, self.options.seed)
        return each_fold(parts, self._scored, done)

    def _scored(self, number: int, rest: Indices, test: Indices) -> dict[str, Any]:
        """The scores of a fold, which its folder has where it is done."""
        folder = Folder.inside(self.folder / FOLDS / str(number))
        earlier: dict[str, Any] | None = folder.record.get("result")
        if earlier is not None and same_length(folder.record["options"], self.options):
            return earlier
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.lock()
        had_page = is_page(folder.path / REPORT)
        try:
            with closing(folder):
                return self._trained(number, rest, test, folder)
        finally:
            if had_page:
                renewed(folder.path)  # where that fails the old page stays: it hides no error

    def _trained(self, number: int, rest: Indices, test: Indices, folder: Folder) -> dict[str, Any]:
        source, options = self.source, self.options
        parts = _parts.split_rest(source, rest, test, options.seed, options.preprocess)
        fitting = Fitting(source, parts, options, self.start)
        parts = fitting.parts
        contents = digest(source.classes, parts.X, parts.y)
        about = {**self.about, "contents": contents, "architecture": vars(fitting.architecture)}
        folder.put_damaged_history_aside()
        folder.remove_figures()
        folder.write(
            **self.record,
            fold={"number": number, "of": options.cv},
            contents=contents,
            started=folder.record.get("started", _sessions.now()),
            finished=None,
            epochs=None,
            best_epoch=None,
            result=None,
            ended=None,
            verdict=None,
            data=parts.described(source),
        )

        def saved() -> SavedRun:
            return SavedRun.of(about, fitting.model, parts)

        place = folder.path / CHECKPOINTS
        keep = KeepBest(fitting.stopping, saved, folder.path)
        trainer = fitting.trainer([_sessions.Began(folder), keep, Checkpoint(place, keep=2)],
                                  log_dir=folder.path)  # fmt: skip
        try:
            fitting.fit(trainer, place)
        except FloatingPointError as error:
            where = f"epoch {trainer.epoch + 1}, with a learning rate of {trainer.lr:g}"
            why = f"not finite: the loss or a gradient in fold {number}, {where}"
            _sessions.ended(folder, "failed", why, where)
            raise ValueError(f"{why}; pass a lower --lr") from error
        except KeyboardInterrupt:
            with suppress(OSError):
                _sessions.ended(folder, "interrupted")
            raise
        history = trainer.history
        history.to_csv(folder.path / HISTORY)
        run = saved()
        run.write(folder.path)
        result = _evaluation.of_held_out(run, parts, source.classes, folder.path)
        scores = _scores.as_json(result.scores)
        folder.write(
            finished=_sessions.now(),
            epochs=trainer.epoch,
            best_epoch=fitting.stopping.best_epoch,
            verdict=verdict(history.get("loss", []), history.get("val_loss", [])),
            result=scores,
        )
        return scores


def same_length(before: Mapping[str, Any], options: Options) -> bool:
    """Whether options that a resume may change, and that decide when to stop, are as before."""
    own = options.as_json()
    return all(before.get(name, own[name]) == own[name] for name in ("epochs", "early_stopping"))


def shown(done: Sequence[dict[str, Any]]) -> str:
    """A table of the scores: a line for each fold, and mean ± standard deviation."""
    return table(done, [name for name in _scores.OF_FOLDS if name in done[0]])


def summary(done: Sequence[dict[str, Any]]) -> str:
    """Mean and standard deviation of the main scores over the folds."""
    names = [name for name in _scores.OF_FOLDS if name in done[0] and name != "loss"]
    parts = [f"{name.replace('_', ' ')} {spread(done, name)}" for name in names]
    return f"{len(done)} folds: {'  '.join(parts)}"
