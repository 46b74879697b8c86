"""The numbers of a run, one an epoch."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class History(dict[str, list[float]]):
    """Name → one number an epoch: ``loss``, the metrics, each with ``val_`` too, and ``lr``.

    Example:
        >>> from onepass.train import History
        >>> history = History()
        >>> history.append({"loss": 0.5})
        >>> history["loss"]
        [0.5]
    """

    @property
    def epochs(self) -> int:
        """Epochs recorded."""
        return max(map(len, self.values()), default=0)

    def append(self, row: Mapping[str, float]) -> None:
        """Add one epoch; a new name is NaN in the epochs before."""
        before = self.epochs
        for name in {**self, **row}:
            column = self.setdefault(name, [float("nan")] * before)
            column.append(float(row.get(name, float("nan"))))

    def to_csv(self, path: str | Path) -> None:
        """Write a table: ``epoch`` from 1, then one column a name, with all digits."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        with open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["epoch", *self])
            rows = zip(range(1, self.epochs + 1), *self.values(), strict=True)
            writer.writerows(rows)
        os.replace(partial, target)

    def plot(self, path: str | Path) -> None:
        """Draw the learning curves, training and validation together, into an image file.

        Raises:
            ImportError: Matplotlib is not installed.
        """
        names = [n for n in self if not n.startswith("val_") and n != "lr"]
        if not names:
            raise ValueError("the history is empty: nothing to plot")
        figure = new_figure(width=5 * len(names))
        epochs = range(1, self.epochs + 1)
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            for key, label in ((name, "training"), (f"val_{name}", "validation")):
                if key in self:
                    axes.plot(epochs, self[key], label=label)
            axes.set(xlabel="epoch", ylabel=name)
            axes.legend()
        save_figure(figure, path)


def new_figure(width: float) -> Any:
    """A Matplotlib figure of its own, outside pyplot's global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plot needs Matplotlib: pip install matplotlib") from error
    return Figure(figsize=(width, 4), layout="constrained")


def save_figure(figure: Any, path: str | Path) -> None:
    """Write the figure, making the folder where it is missing."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
