"""Reports of a classification (``matrix``) or a regression (``residuals``) as pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from onepass._figures import drawable, new_figure, save_figure
from onepass._text import amount, cut_apart, printable, width

NUMBERED = 25  # classes up to which cells have their numbers
NAMED = 50  # classes up to which rows have their names
MOST_CLASSES = 1000  # in the picture
MOST_OUTPUTS = 6
CROWDED = 5000  # points from which on their number is shown, not each
LONGEST = 20  # columns of a name


def matrix(report: Any, path: str | os.PathLike[str]) -> None:
    """The confusion matrix, shaded by the share of the row's class."""
    count = len(report.labels)
    chosen = list(range(count)) if count <= MOST_CLASSES else report.muddled(MOST_CLASSES)
    cells = report.part(chosen)
    support = report.support[chosen].astype(np.float64)[:, None]
    shares = np.divide(cells, support, out=np.zeros(cells.shape), where=support > 0)
    side = 3.2 + 0.32 * min(max(len(chosen), 4), NUMBERED)
    figure = new_figure(side, side)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    folded = f", the {len(chosen)} with most mistakes of {count}" if len(chosen) < count else ""
    axes.set(xlabel="predicted", ylabel="true")
    shade = "shade: share of the true class"
    axes.set_title(f"{report.headline}{folded}\n{shade}", fontsize=10)
    if len(chosen) <= NAMED:
        names = _names(report, chosen, "class")
        places = range(len(chosen))
        long = max(map(width, names), default=0) > 4 or len(chosen) > NUMBERED
        small = 9 if len(chosen) <= NUMBERED else 6
        axes.set_xticks(places, names, rotation=90 if long else 0, fontsize=small, **_TEXT)
        axes.set_yticks(places, names, fontsize=small, **_TEXT)
    if len(chosen) <= NUMBERED:
        for row, column in np.argwhere(cells):
            value = cells[row, column]
            color = "white" if shares[row, column] > 0.6 else "black"
            text = amount(value.item()) if value < 1e5 else f"{value:.1e}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    save_figure(figure, os.fspath(path))


def residuals(report: Any, path: str | os.PathLike[str]) -> None:
    """Predictions over targets, and residuals over predictions."""
    chosen = report.worst(MOST_OUTPUTS)
    figure = new_figure(9, 4 * len(chosen))
    panels = figure.subplots(len(chosen), 2, squeeze=False)
    names = _names(report, chosen, "output")
    for k, name, (left, right) in zip(chosen, names, panels, strict=True):
        true, predicted, residual = (
            values[:, k] for values in (report.true, report.predicted, report.residuals)
        )
        _points(left, true, predicted)
        ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
        left.plot(ends, ends, color="0.4", linestyle="--", linewidth=1, label="equal")
        _points(right, predicted, residual)
        right.axhline(0, color="0.4", linestyle="--", linewidth=1)
        left.set_title(f"{name}: R² {report.r2[k]:.4f}", **_TEXT)
        right.set_title(f"rmse {report.rmse[k]:.4g}, mae {report.mae[k]:.4g}")
        left.set(xlabel="true", ylabel="predicted")
        right.set(xlabel="predicted", ylabel="residual: true - predicted")
    if len(chosen) < len(report.names):
        figure.suptitle(f"the {len(chosen)} outputs with the smallest R² of {len(report.names)}")
    save_figure(figure, os.fspath(path))


_TEXT: dict[str, Any] = {"parse_math": False}  # a dollar in a name is a dollar


def _names(report: Any, chosen: Iterable[int], what: str) -> list[str]:
    names = drawable({i: printable(report.names[i]) for i in chosen}, what)
    return cut_apart(list(names), LONGEST)


def _points(axes: Any, x: Any, y: Any) -> None:
    if len(x) > CROWDED:
        axes.hexbin(x, y, gridsize=60, bins="log", mincnt=1, cmap="Blues", linewidths=0)
    else:
        alpha = 0.8 if len(x) < 200 else 0.4
        axes.scatter(x, y, s=14, alpha=alpha, linewidths=0)
