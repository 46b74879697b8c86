"""The learning-rate range test (Smith 2017, 1506.01186): raise the rate, watch the loss."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onepass import _numbers as numbers
from onepass import nn
from onepass.train._callbacks import Callback
from onepass.train._history import new_figure, save_figure
from onepass.train._run import Run
from onepass.train._trainer import Trainer

SMOOTHING = 0.98
DIVERGED = 4.0


@dataclass(frozen=True)
class LRFinderResult:
    """Rates, the smoothed loss at each, and the rate where the loss falls fastest."""

    lrs: list[float]
    losses: list[float]
    suggestion: float

    def plot(self, path: str | Path) -> None:
        """Draw the loss over the rate into an image file."""
        figure = new_figure(width=6)
        axes = figure.subplots()
        axes.semilogx(self.lrs, self.losses)
        axes.axvline(self.suggestion, linestyle=":", label=f"suggestion {self.suggestion:.2g}")
        axes.set(xlabel="learning rate", ylabel="loss, smoothed")
        axes.legend()
        save_figure(figure, path)


class LRFinder(Callback):
    """Raise the rate from ``min_lr`` to ``max_lr`` in equal ratios, one a step, then stop.

    The run ends early once the smoothed loss is four times its least value. Afterwards model and
    optimizer have the state of the start again.

    Args:
        min_lr, max_lr: first and last rate.
        steps: how many rates.
    """

    def __init__(self, min_lr: float = 1e-7, max_lr: float = 10.0, steps: int = 100) -> None:
        numbers.in_range("LRFinder", "max_lr", max_lr, above=0)
        numbers.in_range("LRFinder", "min_lr", min_lr, high=max_lr, above=0)
        numbers.integer("LRFinder", "steps", steps, 3)
        self.rates = np.geomspace(min_lr, max_lr, steps).tolist()
        self.lrs: list[float] = []
        self.losses: list[float] = []
        self._average = 0.0
        self._before: tuple[Any, Any] | None = None

    @property
    def result(self) -> LRFinderResult:
        """The rates tried, their losses and the suggestion."""
        return LRFinderResult(self.lrs, self.losses, _steepest(self.lrs, self.losses))

    def on_fit_begin(self, run: Run) -> None:
        optimizer = copy.deepcopy(run.optimizer.state_dict())
        self._before = run.model.state_dict(), optimizer
        self.lrs, self.losses, self._average = [], [], 0.0
        self._set(run, self.rates[0])

    def on_step_end(self, run: Run) -> None:
        count = len(self.lrs) + 1
        self._average = SMOOTHING * self._average + (1 - SMOOTHING) * run.batch_loss
        smoothed = self._average / (1 - SMOOTHING**count)
        if not math.isfinite(smoothed) or smoothed > DIVERGED * min(self.losses, default=math.inf):
            run.stop = True
            return
        self.lrs.append(self.rates[count - 1])
        self.losses.append(smoothed)
        if count == len(self.rates):
            run.stop = True
        else:
            self._set(run, self.rates[count])

    def on_fit_end(self, run: Run) -> None:
        self._restore(run)

    def on_abort(self, run: Run, error: BaseException) -> None:
        self._restore(run)

    def _restore(self, run: Run) -> None:
        if self._before is not None:
            weights, optimizer = self._before
            run.model.load_state_dict(weights)
            run.optimizer.load_state_dict(optimizer)
            run.optimizer.zero_grad()
            self._before = None

    def _set(self, run: Run, lr: float) -> None:
        for group in run.optimizer.param_groups:
            group["lr"] = lr


def find_lr(
    trainer: Trainer,
    X: Any,
    y: Any,
    *,
    min_lr: float = 1e-7,
    max_lr: float = 10.0,
    steps: int = 100,
    batch_size: int = 32,
) -> LRFinderResult:
    """Try ``steps`` rates on the trainer's model and leave model and optimizer as they were.

    Returns:
        ``lrs``, ``losses`` (smoothed), ``suggestion`` (where the loss falls fastest over the
        logarithm of the rate) and ``plot(path)``.

    Raises:
        RuntimeError: the first loss was not finite.
    """
    finder = LRFinder(min_lr, max_lr, steps)
    probe = Trainer(
        trainer.model,
        trainer.loss,
        trainer.optimizer,
        callbacks=[finder],
        max_norm=trainer.max_norm,
        nonfinite="propagate",
        accumulate=trainer.accumulate,
        seed=trainer.seed,
        progress=False,
    )
    rng = nn.get_rng_state(trainer.model)
    try:
        probe.fit(X, y, max_epochs=steps * trainer.accumulate, batch_size=batch_size)
    finally:
        nn.set_rng_state(rng, trainer.model)
    if not finder.lrs:
        raise RuntimeError(f"the loss is not finite at lr={min_lr}: nothing to compare")
    return finder.result


def _steepest(lrs: list[float], losses: list[float]) -> float:
    """The rate where the loss falls fastest, after the first tenth, where the average settles."""
    skip = len(lrs) // 10
    if len(lrs) - skip < 2:
        return lrs[0]
    slope = np.gradient(losses[skip:], np.log(lrs[skip:]))
    return lrs[skip + int(np.argmin(slope))]
