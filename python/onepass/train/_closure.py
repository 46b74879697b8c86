"""Steps of optimizers that evaluate the loss several times, such as LBFGS: of the whole data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onepass import ops
from onepass._parameter import parameters_of

Evaluate = Callable[[], float]


def needed(optimizer: Any) -> bool:
    """Whether a step of the optimizer takes a closure."""
    return bool(getattr(optimizer, "steps_by_closure", False))


def check(run: Any, batches: int) -> None:
    """Refuse what such a step cannot be of.

    Args:
        batches: of an epoch.

    Raises:
        ValueError: several batches, or a gradient that is changed.
    """
    if not needed(run.optimizer):
        return
    name = type(run.optimizer).__name__
    if batches > 1:
        raise ValueError(
            f"fit: 'batch_size' leaves {batches} batches in an epoch, expected one of all samples "
            f"with {name}, whose step compares losses: batch_size=len(X)"
        )
    if run.accumulate > 1:
        raise ValueError(
            f"Trainer: 'accumulate' is {run.accumulate}, expected 1 with {name}, whose step is of "
            "one batch"
        )
    if run.max_norm is not None:
        raise ValueError(
            f"Trainer: 'max_norm' is {run.max_norm}, expected None with {name}: the step is found "
            "by the loss, whose slope a clipped gradient is not (the history has grad_norm anyway)"
        )


class Closure:
    """What the step calls: at first the loss that is known, whose gradients are there.

    Args:
        known: the loss and the penalties where the parameters are.
        evaluate: computes them, and the gradients, where the parameters are now.
    """

    def __init__(self, known: float, evaluate: Evaluate) -> None:
        self._known: float | None = known
        self._evaluate = evaluate

    def __call__(self) -> float:
        known, self._known = self._known, None
        return self._evaluate() if known is None else known


def gradient_norm(run: Any, order: float = 2) -> float:
    """‖∇f‖ of the step that comes, by the parameters of the optimizer."""
    parameters = parameters_of(run.optimizer)
    grads = [p.grad for p in parameters if p.grad is not None and p.requires_grad]
    norm = float(ops.global_norm(grads, order))
    return norm / float(run.grad_scale)
