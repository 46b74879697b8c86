"""What an estimator watches while it is fitted: the loss, the validation score, when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from onepass.sklearn._options import Options
from onepass.train import Callback, Run, _blas

CUT = 5.0  # of the rate, with learning_rate="adaptive"
LEAST_RATE = 1e-6
SMALLEST_CHANGE = 2.22e-9  # of the loss in a step of L-BFGS, relative: SciPy's


@dataclass
class Record:
    """The numbers of all epochs of a network.

    Attributes:
        losses: of each epoch. scores: of the validation part, where there is one.
        samples: that steps have seen.
    """

    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    samples: int = 0


class Convergence(Callback):
    """Stops a fit that has converged, by scikit-learn's rules, and sets the learning rate.

    Args:
        score: the score of the validation part, by the model as it is; None without one.
        full_batch: whether a step is of all samples, and made by L-BFGS.

    Attributes:
        converged: why the fit has stopped; "" before.
        best_state: the model at the best score, the first of those that are equal.
    """

    def __init__(
        self,
        options: Options,
        record: Record,
        score: Callable[[], float] | None,
        *,
        full_batch: bool,
    ) -> None:
        self.options, self.record, self.samples = options, record, 0
        self.score, self.full_batch = score, full_batch
        self.best = math.inf if score is None else -math.inf
        self.without_gain = 0
        self.last = math.nan  # loss
        self.converged = ""
        self.best_state: dict[str, Any] | None = None

    def on_fit_begin(self, run: Run) -> None:
        if self.score is not None and self.record.losses:  # a warm start: from the best so far
            self._keep(run, self.score())

    def on_step_end(self, run: Run) -> None:
        _blas.check()

    def on_epoch_end(self, run: Run) -> None:
        _blas.check(takes_over=True)
        history, record = run.history, self.record
        loss = history["loss"][-1] + history.get("l2", [0.0])[-1]
        before, self.last = self.last, loss
        record.losses.append(loss)
        record.samples += self.samples
        self._say(f"Iteration {run.epoch}, loss = {loss:.8f}")
        if self.score is not None:
            self._follow_score(run, self.score())
        elif not self.full_batch:
            self._follow_loss(loss)
        if self.options.rate == "invscaling":
            slower = (record.samples + 1) ** self.options.power_t
            self._set_rate(run, lambda first, now: first / slower)
        if self.full_batch and self.score is None:
            if before - loss <= SMALLEST_CHANGE * max(abs(before), abs(loss), 1.0):
                self._stop(run, "the loss changes no more")
        elif self.without_gain > self.options.patience:
            self._without_gain(run)

    def on_fit_end(self, run: Run) -> None:
        if self.best_state is not None:
            run.model.load_state_dict(self.best_state)

    def _follow_loss(self, loss: float) -> None:
        gained = loss <= self.best - self.options.tol
        self.without_gain = 0 if gained else self.without_gain + 1
        self.best = min(self.best, loss)

    def _follow_score(self, run: Run, score: float) -> None:
        self.record.scores.append(score)
        self._say(f"Validation score: {score:.6f}")
        gained = score >= self.best + self.options.tol
        self.without_gain = 0 if gained else self.without_gain + 1
        if score > self.best or self.best_state is None:
            self._keep(run, score)

    def _keep(self, run: Run, score: float) -> None:
        self.best, self.best_state = score, run.evaluated_weights()

    def _without_gain(self, run: Run) -> None:
        what = "validation score" if self.score is not None else "training loss"
        text = (
            f"{what} did not improve by tol={self.options.tol:g} in more than "
            f"{self.options.patience} epochs"
        )
        rate = run.optimizer.param_groups[0]["lr"]
        if self.options.rate == "adaptive" and rate > LEAST_RATE:
            self._set_rate(run, lambda first, now: now / CUT)
            self._say(f"{text}; the learning rate is {rate / CUT:g} now")
            self.without_gain = 0
            return
        self._stop(run, text)

    def _stop(self, run: Run, why: str) -> None:
        self.converged, run.stop = why, True
        self._say(f"{why}: stopped")

    def _set_rate(self, run: Run, rate: Callable[[float, float], float]) -> None:
        for group in run.optimizer.param_groups:
            first = group.setdefault("initial_lr", group["lr"])
            group["lr"] = rate(first, group["lr"])

    def _say(self, text: str) -> None:
        if self.options.verbose:
            print(text)
