"""Scores of predictions, as numbers and as printed lines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import nn
from onepass.train._confusion import ClassificationReport
from onepass.train._residuals import RegressionReport
from onepass.train._score_table import number

IMBALANCED = 3.0  # times the rarest class: from here on accuracy alone misleads

# The single numbers of a result, in the order in which a page has them.
NAMES = ("accuracy", "balanced_accuracy", "loss", "majority", "rmse", "mae", "r2")
OF_FOLDS = tuple(name for name in NAMES if name != "majority")  # which is alike in all of them
MEASURED = ("loss", "accuracy", "balanced_accuracy", "mae")  # of validation, after each epoch

Scores = dict[str, Any]


def of_classes(logits: NDArray[Any], y: NDArray[np.int64], report: ClassificationReport) -> Scores:
    """Scores of a classification; a class without a sample has no recall.

    Returns:
        ``accuracy``; ``loss``, the plain cross entropy; ``balanced_accuracy``, the mean of the
        recalls; ``majority``, the share of the most frequent class, which is the accuracy of
        always answering it; ``recall``, ``precision``, ``f1``, ``support`` by class; ``macro``,
        ``weighted``: means over all classes, in which, as in scikit-learn, 0/0 counts as 0, the
        recall of a class without a sample too.
    """
    loss, _ = nn.CrossEntropyLoss()(logits.astype(np.float64), y)
    every = np.ones(len(report.labels), bool)
    recall = _by_name(report, report.recall, report.support > 0)
    return {
        "accuracy": report.accuracy,
        "loss": float(loss),
        "balanced_accuracy": sum(recall.values()) / len(recall),
        "majority": int(report.support.max()) / len(y),
        "recall": recall,
        "precision": _by_name(report, report.precision, every),
        "f1": _by_name(report, report.f1, every),
        "support": _by_name(report, report.support, every),
        "macro": report.macro,
        "weighted": report.weighted,
    }


def _by_name(report: ClassificationReport, values: NDArray[Any], of: Any) -> dict[str, Any]:
    return {report.names[i]: values[i].item() for i in np.flatnonzero(of)}


def of_numbers(report: RegressionReport) -> Scores:
    """Scores of a regression, in the unit of the targets: ``rmse``, ``mae``, and ``r2``, the share
    of the variance that is explained."""
    return {name: float(getattr(report, name)[0]) for name in ("rmse", "mae", "r2")}


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
    said = beside(scores, imbalanced=imbalanced)
    return f"{shown}  ({said})" if said else shown


def beside(scores: Scores, *, imbalanced: bool = False) -> str:
    """What to read the scores beside: answers that need no model. "" where there is no need."""
    r2, accuracy, majority = (_number(scores.get(n)) for n in ("r2", "accuracy", "majority"))
    if r2 <= 0:
        return "no better than always the mean"
    if majority != majority:
        return ""
    told = f"always the majority: {majority:.4f}"
    if accuracy <= majority:
        return f"no better than {told}"
    return told if imbalanced else ""


def _number(value: Any) -> float:
    """NaN for what a record lacks, or has as null."""
    return value if isinstance(value, (int, float)) else float("nan")


def as_json(scores: Scores) -> Scores:
    """With None for NaN, which JSON lacks."""
    return {name: None if value != value else value for name, value in scores.items()}
