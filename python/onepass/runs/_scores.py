"""Scores of predictions, as numbers and as printed lines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import nn
from onepass.train import _metrics
from onepass.train._score_table import number

IMBALANCED = 3.0  # times the rarest class: from here on accuracy alone misleads
MOST_LINES = 10

Scores = dict[str, Any]


def of_classes(logits: NDArray[Any], y: NDArray[np.int64], classes: list[str]) -> Scores:
    """Scores of a classification; classes without a sample have no recall.

    Returns:
        ``accuracy``; ``loss``, the plain cross entropy; ``balanced_accuracy``, the mean of the
        recalls; ``majority``, the share of the most frequent class, which is the accuracy of
        always answering it; ``recall``, the share of right answers in each class.
    """
    counts = np.bincount(y, minlength=len(classes))
    right = np.bincount(y[logits.argmax(axis=1) == y], minlength=len(classes))
    recall = {name: int(r) / int(n) for name, r, n in zip(classes, right, counts, strict=True) if n}
    loss, _ = nn.CrossEntropyLoss()(logits.astype(np.float64), y)
    return {
        "accuracy": int(right.sum()) / len(y),
        "loss": float(loss),
        "balanced_accuracy": sum(recall.values()) / len(recall),
        "majority": int(counts.max()) / len(y),
        "recall": recall,
    }


def of_numbers(predicted: NDArray[np.float64], y: NDArray[np.float64]) -> Scores:
    """Scores of a regression, in the unit of the targets.

    Returns:
        ``rmse``, ``mae``, and ``r2``, the share of the variance that is explained (NaN where all
        targets are equal).
    """
    metrics = _metrics.resolve(["rmse", "mae", "r2"])
    return {name: metric(predicted, y) for name, metric in metrics.items()}


def is_imbalanced(counts: NDArray[np.int64]) -> bool:
    """Whether the most frequent class has several times the samples of the rarest."""
    there = counts[counts > 0]
    return len(there) > 1 and bool(there.max() >= IMBALANCED * there.min())


def line(scores: Scores, *, imbalanced: bool = False) -> str:
    """The main scores, in one line."""
    names = ["accuracy", "loss"] if "accuracy" in scores else ["rmse", "mae", "r2"]
    if imbalanced:
        names[1:1] = ["balanced_accuracy"]
    shown = "  ".join(f"{name.replace('_', ' ')} {number(scores[name])}" for name in names)
    majority = f"  (always the majority: {scores['majority']:.4f})" if imbalanced else ""
    return shown + majority


def as_json(scores: Scores) -> Scores:
    """With None for NaN, which JSON lacks."""
    return {name: None if value != value else value for name, value in scores.items()}


def by_class(scores: Scores, counts: dict[str, int]) -> str:
    """A line for each class, those that are recognised least first."""
    worst = sorted(scores["recall"], key=lambda name: (scores["recall"][name], name))
    width = max(map(len, ["class", *worst[:MOST_LINES]]))
    lines = [f"{'class':<{width}}  recall  samples"]
    lines += [
        f"{n:<{width}}  {scores['recall'][n]:6.4f}  {counts[n]:>7}" for n in worst[:MOST_LINES]
    ]
    if len(worst) > MOST_LINES:
        lines.append(f"… and {len(worst) - MOST_LINES} more classes, in run.json")
    return "\n".join(lines)
