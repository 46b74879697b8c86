"""What all figures share: colours, axes without a background, files that are the same each time."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

# Of one lightness, so that a figure without a background reads on white and on black.
GREY, BLUE, RED = "#808080", "#3b82c4", "#d0683c"
GREEN, PURPLE = "#4a9a5b", "#9a70c4"


class Figure(NamedTuple):
    """A file of the folder of figures, and what it shows."""

    file: str
    words: str


@cache
def pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "onepass", "font.family": "sans-serif",
        "font.size": 10, "axes.edgecolor": GREY, "axes.labelcolor": GREY, "xtick.color": GREY,
        "ytick.color": GREY, "text.color": GREY, "axes.spines.top": False,
        "axes.spines.right": False, "legend.frameon": False, "lines.linewidth": 1.8,
    })  # fmt: skip
    return pyplot


def save(figure: Any, path: Path) -> None:
    figure.savefig(path, transparent=True, metadata={"Date": None})
    pyplot().close(figure)


def axes_of(width: float = 5.6, height: float = 2.9, columns: int = 1) -> tuple[Any, Any]:
    """A figure with axes beside each other."""
    figure, axes = pyplot().subplots(1, columns, figsize=(width, height), squeeze=False)
    figure.subplots_adjust(left=0.125, right=0.99, top=0.97, bottom=0.17)
    for cell in axes[0]:
        cell.grid(color=GREY, alpha=0.25, linewidth=0.6)
    return figure, axes[0, 0] if columns == 1 else axes[0]
