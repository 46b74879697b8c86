"""Analyses the curve of a learning-rate range test: pure functions of its numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from onepass._figures import new_figure, save_figure

MARGIN = 3.0  # between neighbouring candidates
NEAR = 0.05  # of the way from the first loss to the best: as good as the best
NOISE = 4.0  # standard deviations that a fall must exceed
LEAST_FALL = 1e-3  # of the first loss
SAFE = 10.0  # without trials: the suggestion is the rate of the least loss over this


@dataclass(frozen=True)
class LRFinderResult:
    """The results of a range test.

    Attributes:
        lrs, losses: the rates, and the loss after a step with each, smoothed over neighbours.
        suggestion: a rate at which training works, one of ``lrs``; None where there is none.
        reason: how the suggestion was chosen, or why there is none.
        trials: (rate, final loss) of the short trainings that chose it, from the highest rate.

    Example:
        >>> from onepass.train import LRFinderResult
        >>> LRFinderResult([0.01, 0.1], [2.0, 1.0], 0.1, "the best of 2 rates").suggestion
        0.1
    """

    lrs: list[float]
    losses: list[float]
    suggestion: float | None
    reason: str
    trials: list[tuple[float, float]] = field(default_factory=list)

    def plot(self, path: str | Path) -> None:
        """Draw the losses over the rate, the trials and the suggestion into an image file.

        Raises:
            ImportError: Matplotlib is not installed.
        """
        figure = new_figure(width=7)
        axes = figure.subplots()
        axes.semilogx(self.lrs, self.losses, label="one step with each rate, smoothed")
        ran = [(lr, loss) for lr, loss in self.trials if math.isfinite(loss)]
        top = 1.2 * max(map(abs, self.losses), default=1.0)
        inside = [pair for pair in ran if abs(pair[1]) <= top]
        if inside:
            axes.semilogx(*zip(*inside, strict=True), "o", label="after a short training")
        broken = [lr for lr, loss in self.trials if (lr, loss) not in inside]
        if broken:
            axes.semilogx(broken, [top] * len(broken), "x", label="that diverged")
        if self.suggestion is not None:
            label = f"suggestion {self.suggestion:.2g}"
            axes.axvline(self.suggestion, color="black", linestyle=":", label=label)
        axes.set(xlabel="learning rate", ylabel="loss")
        axes.set_title(self.reason, fontsize="small", wrap=True)
        axes.legend()
        save_figure(figure, path)


def _width(losses: Sequence[float]) -> float:
    return max(1.0, len(losses) / 50)


def smoothed(losses: Sequence[float]) -> list[float]:
    """Averages over neighbours on both sides, so that the curve does not lag behind the rate."""
    at = np.arange(len(losses))
    weights = np.exp(-0.5 * ((at[:, None] - at) / _width(losses)) ** 2)
    values = weights @ np.asarray(losses, np.float64) / weights.sum(axis=1)
    return [float(value) for value in values]


def diverged(start: float, losses: Sequence[float], noise: float = 0.0) -> bool:
    """Whether the loss has left for good: not finite, three in a row above the start, or far off.

    Above the start means by the start's own size, or by twice the fall so far, and by the noise.
    """
    if not losses or not math.isfinite(losses[-1]):
        return bool(losses)
    room = max(abs(start), 2 * (start - min(losses))) + 2 * NOISE * noise
    return losses[-1] > start + 10 * room or (len(losses) > 2 and min(losses[-3:]) > start + room)


def judge(
    start: float | None,
    lrs: list[float],
    losses: Sequence[float],
    train: Callable[[float], float] | None = None,
) -> LRFinderResult:
    """The result of a range test.

    Args:
        start: the loss before any step; None takes that of the first rate.
        lrs, losses: the rates, and the loss after each step.
        train: the loss after a short training with a rate, inf where it diverged; None suggests a
            tenth of the rate of the least loss.
    """
    curve = smoothed(losses)
    if len(curve) < 3:
        rate = f" {lrs[0]:.2g}" if lrs else ""
        why = f"no suggestion: the loss diverges at the first rates{rate}; lower min_lr"
        return LRFinderResult(lrs, curve, None, why)
    first = curve[0] if start is None else start
    noise = _noise(losses, curve)
    if not first - min(curve) > max(LEAST_FALL * abs(first), NOISE * noise):
        why = (
            f"no suggestion: no rate from {lrs[0]:.2g} to {lrs[-1]:.2g} lowers the loss from "
            f"{first:.4g} by more than its noise (least {min(curve):.4g}); try another range, more "
            "steps, or see whether anything can be learnt: frozen parameters, constant data"
        )
        return LRFinderResult(lrs, curve, None, why)
    if train is not None:
        return LRFinderResult(lrs, curve, *choose(first, lrs, curve, noise, train))
    low = lrs[int(np.argmin(curve))]
    tenth = min(lrs, key=lambda lr: abs(math.log(lr * SAFE / low)))
    reason = f"{tenth:.2g} is a tenth of {low:.2g}, where the loss is least"
    return LRFinderResult(lrs, curve, tenth, reason)


def _noise(losses: Sequence[float], curve: Sequence[float]) -> float:
    """The standard deviation that smoothing leaves, from the bends before the least loss."""
    bends = np.abs(np.diff(losses[: max(int(np.argmin(curve)), 4)], 2))
    single = 1.4826 * float(np.median(bends)) / math.sqrt(6)
    return single / math.sqrt(2 * math.sqrt(math.pi) * _width(losses))


def choose(
    start: float,
    lrs: Sequence[float],
    losses: Sequence[float],
    noise: float,
    train: Callable[[float], float],
) -> tuple[float | None, str, list[tuple[float, float]]]:
    """The suggestion, the reason and the trials.

    The candidates lie a factor of about three apart, from above the rate of the least loss down.
    Those that train as well as the best are one stretch, cut off above by divergence and below by
    slowness. The suggestion is its middle (the lower of two), which leaves a margin on both sides.
    A rate that alone is good may lie just below those that diverge in a longer training: the
    suggestion is half a stride below it.

    Args:
        start: the loss before any step.
        lrs, losses, noise: the smoothed curve, and its standard deviation.
        train: the loss after a short training with a rate; inf where it diverged.
    """
    ratio = math.log(lrs[1] / lrs[0])
    stride = max(1, round(math.log(MARGIN) / ratio)) if ratio else 1
    first = min(int(np.argmin(losses)) + stride, len(lrs) - 1)
    trials: list[tuple[float, float]] = []
    for index in range(first, -1, -stride):
        trials.append((lrs[index], train(lrs[index])))
        best = min(loss for _, loss in trials)
        worse = [loss > _limit(start, best, noise) for _, loss in trials[-2:]]
        if best < start and len(trials) >= 3 and all(worse):
            break
    best = min(loss for _, loss in trials)
    if not start - best > max(LEAST_FALL * abs(start), NOISE * noise):
        why = f"no suggestion: a training with each of {len(trials)} rates did not lower the loss"
        return None, f"{why} from {start:.4g} (best {best:.4g})", trials
    good = [(rate, loss) for rate, loss in trials if loss <= _limit(start, best, noise)]
    rate, loss = good[len(good) // 2]
    why = f"the middle of {good[-1][0]:.2g} to {good[0][0]:.2g}, which train equally well"
    if len(good) == 1:
        why = f"a step below {rate:.2g}, the best of {len(trials)} rates a factor of 3 apart"
        rate = lrs[max(0, lrs.index(rate) - (stride + 1) // 2)]
    return rate, f"{rate:.2g} is {why} (loss {start:.3g} to {loss:.3g})", trials


def _limit(start: float, best: float, noise: float) -> float:
    return best + NEAR * (start - best) + 2 * noise
