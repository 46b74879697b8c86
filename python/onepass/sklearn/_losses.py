"""Losses with scikit-learn's factors, so that ``alpha`` and ``tol`` mean what they do there."""

from __future__ import annotations

from typing import Any

from onepass import nn
from onepass._array import Array


class LogLoss(nn.BCEWithLogitsLoss):
    """-Σ_k (t log p + (1 - t) log(1 - p)), p = σ(y): the sum over labels, the mean over samples."""

    def __call__(self, y: Array, target: Array) -> tuple[Any, Array]:
        """The loss and its gradient."""
        loss, dy = super().__call__(y, target)
        labels = y.shape[1]
        return (loss, dy) if labels == 1 else (labels * loss, labels * dy)


class HalfSquaredError(nn.MSELoss):
    """½(y - t)², the mean over samples and outputs."""

    def __call__(self, y: Array, target: Array) -> tuple[Any, Array]:
        """The loss and its gradient."""
        loss, dy = super().__call__(y, target)
        return 0.5 * loss, 0.5 * dy
