"""One training of a search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from onepass.train._history import History

COMPLETE, PRUNED, FAILED = STATES = ("complete", "pruned", "failed")


@dataclass(eq=False)
class Trial:
    """One training of a search.

    Attributes:
        number: from 0 on.
        params: what ``build`` got.
        state: ``"complete"``, ``"pruned"`` or ``"failed"``: an exception, or a metric that is not
            finite, whether a pruner ended the trial for it or not.
        score: the metric at the epoch whose weights the model has; of a pruned trial, at its last
            epoch; NaN of a failed one.
        reason: why it was pruned or has failed, else "".
        history: the losses and metrics of each epoch.
        seed: of its training.
        seconds: that it took. Trials that differ in it alone are equal.
        traceback: of the exception of a failed trial.
        trainer: of the best trial, with the model as it was when its fit ended; else None.
        error: the exception of a failed trial; None after a resume.

    Example:
        >>> from onepass.train import Trial
        >>> Trial(3, {"lr": 0.1}, "complete", 0.25).score
        0.25
    """

    number: int
    params: dict[str, Any]
    state: str
    score: float
    reason: str = ""
    history: History = field(default_factory=History)
    seconds: float = 0.0
    seed: int = 0
    traceback: str = field(default="", repr=False)
    trainer: Any = field(default=None, repr=False)
    error: Exception | None = field(default=None, repr=False)

    @property
    def epochs(self) -> int:
        """How many were done."""
        return self.history.epochs

    def _essence(self) -> str:
        told = (self.number, self.params, self.seed, self.state, self.score, self.reason)
        return repr((*told, dict(self.history)))  # NaN is like NaN

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trial) and self._essence() == other._essence()
