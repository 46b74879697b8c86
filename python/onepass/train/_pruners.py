"""When a search gives a trial up: by comparison with the others at the same epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from onepass import _numbers as numbers
from onepass._keywords import suggest_keywords
from onepass._repr import as_call
from onepass.train._monitor import better
from onepass.train._search_trial import COMPLETE, Trial


class Pruner:
    """Base of the pruners of a search: pure functions of what the trials have measured.

    A trial that one ends while its metric is NaN or infinite counts as failed, not as pruned.
    """

    def reason(
        self, metric: str, mode: str, values: Sequence[float], others: Sequence[Trial]
    ) -> str | None:
        """Why to end the trial now, or None.

        Args:
            metric, mode: what is measured, and whether "min" or "max" of it is better.
            values: of the trial, at each epoch so far.
            others: the trials before it.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        return as_call(self)


class MedianPruner(Pruner):
    """End a trial whose best value is worse than the median of the others at the same epoch.

    Of the others, complete trials count; one that early stopping ended sooner counts with its last
    value. Golovin et al. 2017, "Google Vizier", with the rule and the defaults of Optuna's.

    Args:
        n_startup_trials: complete trials to have first.
        n_warmup_steps: epochs in which no trial is ended.

    Raises:
        TypeError, ValueError: an argument other than a whole number >= 0.

    Example:
        >>> from onepass.train import MedianPruner
        >>> MedianPruner(n_warmup_steps=3)
        MedianPruner(n_startup_trials=5, n_warmup_steps=3)
    """

    @suggest_keywords
    def __init__(self, n_startup_trials: int = 5, n_warmup_steps: int = 0) -> None:
        owner = "MedianPruner"
        self.n_startup_trials = numbers.integer(owner, "n_startup_trials", n_startup_trials, 0)
        self.n_warmup_steps = numbers.integer(owner, "n_warmup_steps", n_warmup_steps, 0)

    def reason(
        self, metric: str, mode: str, values: Sequence[float], others: Sequence[Trial]
    ) -> str | None:
        epoch = len(values)
        complete = [t.history[metric] for t in others if t.state == COMPLETE]
        if len(complete) < max(self.n_startup_trials, 1) or epoch <= self.n_warmup_steps:
            return None
        there = [v for c in complete if not math.isnan(v := c[min(epoch, len(c)) - 1])]
        if not there:
            return None
        best = math.nan
        for value in values:
            best = value if better(mode, value, best) else best
        middle = median(there)
        if best == middle or better(mode, best, middle):
            return None
        return (
            f"{metric} {best:.4g} after epoch {epoch}, the median of {len(there)} is {middle:.4g}"
        )


class SuccessiveHalvingPruner(Pruner):
    """At epochs r, r·η, r·η², … go on with the best 1/η of the trials that came as far.

    Li et al. 2020 (1810.05934), "A system for massively parallel hyperparameter tuning": the
    asynchronous rule, which compares a trial with those before it alone. The first one goes on.

    Args:
        min_resource: r, the epoch of the first comparison.
        reduction_factor: η.

    Raises:
        TypeError, ValueError: r other than a whole number >= 1, η below 2.

    Example:
        >>> from onepass.train import SuccessiveHalvingPruner
        >>> SuccessiveHalvingPruner(min_resource=2)
        SuccessiveHalvingPruner(min_resource=2, reduction_factor=4)
    """

    @suggest_keywords
    def __init__(self, min_resource: int = 1, reduction_factor: int = 4) -> None:
        owner = "SuccessiveHalvingPruner"
        self.min_resource = numbers.integer(owner, "min_resource", min_resource, 1)
        self.reduction_factor = numbers.integer(owner, "reduction_factor", reduction_factor, 2)

    def reason(
        self, metric: str, mode: str, values: Sequence[float], others: Sequence[Trial]
    ) -> str | None:
        epoch = len(values)
        rung = self.min_resource
        while rung < epoch:
            rung *= self.reduction_factor
        if rung != epoch:
            return None
        reached = [c for t in others if len(c := t.history.get(metric, [])) >= epoch]
        value = values[-1]
        there = [c[epoch - 1] for c in reached if not math.isnan(c[epoch - 1])]
        count = len(there) + 1
        keep = max(count // self.reduction_factor, 1)
        ahead = sum(better(mode, other, value) for other in there)
        if not math.isnan(value) and ahead < keep:
            return None
        return f"{metric} {value:.4g} after epoch {epoch} is not among the best {keep} of {count}"


NAMED = {"median": MedianPruner, "halving": SuccessiveHalvingPruner}
