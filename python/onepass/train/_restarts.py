"""The same training from several seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex, cast, overload

from onepass import _numbers as numbers
from onepass._figures import new_figure, save_figure
from onepass._files import path_of
from onepass._keywords import suggest_keywords
from onepass.nn._random import seeded
from onepass.train import _built
from onepass.train._callbacks import EarlyStopping
from onepass.train._checkpoint import Checkpoint
from onepass.train._ensemble import Ensemble
from onepass.train._fits import CKPT_PATH, check_keywords, fit_on, marks_of_fit
from onepass.train._history import History
from onepass.train._marks import mark
from onepass.train._monitor import MODES, direction, name_of
from onepass.train._record import Record
from onepass.train._trainer import Trainer

RECORD = "restarts.json"


@dataclass(frozen=True)
class Restart:
    """One training of several: its seed, trainer and score.

    Attributes:
        seed: what ``build`` got.
        trainer: with the model as it was when its fit ended.
        score: the metric at the epoch whose weights the model has; NaN where ``error`` says why.
        error: the FloatingPointError that ended it, or None.

    Example:
        >>> from onepass.train import Restart
        >>> Restart(seed=3, trainer=None, score=0.5).error is None
        True
    """

    seed: int
    trainer: Any
    score: float
    error: FloatingPointError | None = None

    @property
    def history(self) -> History:
        """The losses and metrics of each epoch: ``trainer.history``."""
        history: History = self.trainer.history
        return history


class Restarts(list[Restart]):
    """What `restarts` returns: a list of `Restart`, in the order of their seeds.

    A slice, a copy and a sum are such lists too, with the metric and mode of the first.

    Args:
        runs: the trainings.
        metric, mode: by which the best is chosen, and whether "min" or "max" of it.

    Example:
        >>> from onepass.train import Restart, Restarts
        >>> runs = [Restart(seed, None, score) for seed, score in enumerate([0.5, 0.2, 0.9])]
        >>> Restarts(runs, metric="val_loss", mode="min").best.seed
        1
    """

    def __init__(self, runs: list[Restart], *, metric: str, mode: str) -> None:
        super().__init__(runs)
        self.metric, self.mode = metric, mode

    @overload
    def __getitem__(self, index: SupportsIndex) -> Restart: ...
    @overload
    def __getitem__(self, index: slice) -> Restarts: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Restart | Restarts:
        found = super().__getitem__(index)
        return self._like(found) if isinstance(index, slice) else cast(Restart, found)

    def __add__(self, other: list[Any]) -> Restarts:  # type: ignore[override]
        return self._like([*self, *other])

    def copy(self) -> Restarts:
        return self[:]

    def _like(self, runs: Any) -> Restarts:
        return Restarts(runs, metric=self.metric, mode=self.mode)

    @property
    def scores(self) -> list[float]:
        """The score of each training, NaN where it ended in an error, in the order of the seeds."""
        return [run.score for run in self]

    @property
    def ranked(self) -> list[Restart]:
        """Best first; those whose score is NaN last."""
        sign = 1 if self.mode == "min" else -1
        return sorted(self, key=lambda run: (math.isnan(run.score), sign * run.score))

    @property
    def best(self) -> Restart:
        """The one with the best score, the first of equals."""
        return self.ranked[0]

    def ensemble(self, most: int | None = None, average: str | None = None) -> Ensemble:
        """Of the ``most`` best, None for all that ended with a score.

        Raises:
            ValueError: there is none, or fewer than ``most``.
        """
        good = [run.trainer for run in self.ranked if not math.isnan(run.score)]
        if most is not None and not 1 <= numbers.integer("ensemble", "most", most) <= len(good):
            raise ValueError(
                f"ensemble: 'most' is {most}, expected 1 to {len(good)}, the trainings that ended "
                "with a score"
            )
        return Ensemble(good[:most], average)

    def plot(self, path: str | Path) -> None:
        """Draw the metric over the epochs, a line a training, into an image file.

        Raises:
            ImportError: Matplotlib is not installed.
        """
        figure = new_figure(width=8)
        axes = figure.subplots()
        for run in self:
            values = run.history.get(self.metric, [])
            axes.plot(range(1, len(values) + 1), values, label=f"seed {run.seed}")
        axes.set(xlabel="epoch", ylabel=self.metric)
        axes.legend()
        save_figure(figure, path)

    def __repr__(self) -> str:
        scores = ", ".join(f"{score:.4g}" for score in self.scores)
        return f"Restarts({self.metric}: {scores}; best seed {self.best.seed})"


@suggest_keywords
def restarts(
    build: Callable[[int], Trainer],
    X: Any,
    y: Any = None,
    *,
    n: int,
    seed: int = 0,
    metric: str | None = None,
    mode: str = "auto",
    resume: str | Path | None = None,
    **fit: Any,
) -> Restarts:
    """Train ``n`` times, from the seeds ``seed``, ``seed + 1``, …, one after the other.

    Each ``build(s)`` makes its layers as behind ``nn.manual_seed(s)``, so that the weights differ;
    pass s to the Trainer too (``Trainer(…, seed=s)``) to have other batches and masks. A training
    depends on its own seed alone: more of them, an interruption, or other threads change none. The
    random numbers of ``nn`` go on behind it as before.

    Args:
        build: a function of a seed, which returns a new Trainer of a new model.
        X, y: as for ``Trainer.fit``.
        n: how many.
        seed: the first one.
        metric: a name in the history; None: "val_loss", or "loss" without validation.
        mode: "min", "max", or "auto": what the name says.
        resume: a directory. Each training keeps a checkpoint an epoch in a folder of its own there;
            called again after an interruption, those that are done are loaded and the others go on,
            with the same bits. A larger ``n`` adds some. Everything else but ``num_workers`` must
            be as it was, by the marks in ``restarts.json``: arrays by content, functions by their
            code and the values that they bring along (not by what they find by a global name),
            objects by their state; ``build`` is not compared.
        fit: the other arguments of ``Trainer.fit``, such as ``max_epochs``.

    Returns:
        A list of `Restart`, with ``best``, ``scores``, ``ranked``, ``ensemble()``, ``plot(path)``.
        A training that ends in a FloatingPointError has the score NaN.

    Raises:
        TypeError: build returns no Trainer; an unknown keyword. ValueError: an argument out of
            range, a metric that the history will not have, a model of an earlier training, a
            directory of other restarts. BlockingIOError: another call trains in the directory.
            FloatingPointError: all trainings ended so.

    Example:
        >>> import numpy as np
        >>> from onepass import nn, optim
        >>> from onepass.train import Trainer, restarts
        >>> X = np.random.default_rng(0).standard_normal((60, 2), np.float32)
        >>> y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
        >>> def build(seed):
        ...     model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
        ...     optimizer = optim.Adam(model.parameters(), lr=0.05)
        ...     return Trainer(model, nn.CrossEntropyLoss(), optimizer, seed=seed, progress=False)
        >>> runs = restarts(build, X, y, n=3, max_epochs=30)
        >>> runs.best.score == min(runs.scores)
        True
        >>> runs.ensemble().predict(X).shape
        (60, 2)
    """
    if not callable(build):
        raise TypeError(f"restarts: 'build' is {build!r}, expected a function of a seed")
    n = numbers.integer("restarts", "n", n, 1)
    seed = numbers.seed("restarts", "seed", seed)
    numbers.seed("restarts", "seed + n - 1", seed + n - 1)
    numbers.one_of("restarts", "mode", mode, MODES)
    if metric is None:
        metric = "val_loss" if _built.validates(fit) else "loss"
    name_of("restarts", metric, "metric")
    check_keywords(restarts, fit, {CKPT_PATH: "resume=, a directory for all trainings"})
    mode = direction("restarts", metric, mode)
    seeds = range(seed, seed + n)
    with ExitStack() as stack:
        folder = None
        if resume is not None:
            folder = path_of("restarts", "resume", resume)
            given = {
                "seed": seed,
                "metric": metric,
                "mode": mode,
                "X": mark("restarts", "X", X),
                "y": mark("restarts", "y", y),
                **marks_of_fit("restarts", fit),
            }
            stack.enter_context(closing(Record("restarts", folder, RECORD))).begin(given)
        runs = _trained(build, X, y, seeds, metric, fit, folder)
    if all(run.error is not None for run in runs):
        assert runs[-1].error is not None
        raise runs[-1].error
    return Restarts(runs, metric=metric, mode=mode)


def _trained(
    build: Callable[[int], Trainer],
    X: Any,
    y: Any,
    seeds: Iterable[int],
    metric: str,
    fit: dict[str, Any],
    folder: Path | None,
) -> list[Restart]:
    """A training for each seed, with checkpoints in ``folder``."""
    runs: list[Restart] = []
    for seed in seeds:
        checkpoint = None
        if folder is not None:
            checkpoint = Checkpoint(folder / f"seed_{seed}", every_n_epochs=1, keep=2)
        error = None
        with seeded(seed):
            trainer = build(seed)
            earlier = [(f"seed {run.seed}", run.trainer.model) for run in runs]
            _built.check("restarts", trainer, earlier, metric, fit)
            try:
                fit_on(trainer, X, y, fit, checkpoint)
            except FloatingPointError as found:
                error = found
        score = math.nan if error is not None else score_of(trainer, metric)
        runs.append(Restart(seed, trainer, score, error))
    return runs


def score_of(trainer: Trainer, metric: str) -> float:
    """The metric at the epoch whose weights the model has."""
    values = trainer.history.get(metric, [])
    for callback in trainer.callbacks:
        if isinstance(callback, EarlyStopping) and callback.best_weights is not None:
            return values[callback.best_epoch - 1]
    return values[-1] if values else math.nan
