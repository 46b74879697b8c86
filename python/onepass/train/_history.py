"""The numbers of a run, one an epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onepass._figures import new_figure, save_figure
from onepass._files import replacing
from onepass._paths import expanded

FEW = 10  # epochs, which are drawn with a marker each
FILE = "history.csv"  # its name in a log_dir
OWN = ("loss", "lr", "epoch", "grad_norm")  # names that no metric and no log may take


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

    def set_last(self, name: str, value: float) -> None:
        """Set a number of the last epoch; a new name is NaN in the epochs before."""
        self.setdefault(name, [float("nan")] * self.epochs)[-1] = float(value)

    def to_csv(self, path: str | Path) -> None:
        """Write a table: ``epoch`` from 1, then one column a name, with all digits."""
        with replacing(expanded(path), "table", sync=False) as file:
            text = io.TextIOWrapper(file, "utf-8", newline="")
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(["epoch", *self])
            rows = zip(range(1, self.epochs + 1), *self.values(), strict=True)
            writer.writerows(rows)
            text.detach()

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={values[-1]:.4g}" for name, values in self.items())
        return f"History({self.epochs} epochs{last and f', last {last}'})"

    def plot(self, path: str | Path, *, best: int | None = None) -> None:
        """Draw the learning curves, training and validation together, into an image file.

        Args:
            best: an epoch to mark, counted from 1.

        Raises:
            ImportError: Matplotlib is not installed.
        """
        save_figure(self._figure(best), path)

    def _repr_png_(self) -> bytes | None:
        """The curves, for a notebook; None without Matplotlib or epochs."""
        try:
            figure = self._figure(None)
        except (ImportError, ValueError):
            return None
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=80)
        return image.getvalue()

    def _figure(self, best: int | None) -> Any:
        names = [n for n in self if not n.startswith("val_") and n != "lr"]
        if not names:
            raise ValueError("the history is empty: nothing to plot")
        figure = new_figure(width=5 * len(names))
        epochs = range(1, self.epochs + 1)
        marker = "o" if self.epochs < FEW else ""  # a line of one point is invisible
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            for key, label in ((name, "training"), (f"val_{name}", "validation")):
                if key in self:
                    axes.plot(epochs, self[key], marker=marker, label=label)
            if best:
                axes.axvline(best, color="0.6", linestyle="--", label=f"best epoch, {best}")
            axes.set(xlabel="epoch", ylabel=name)
            axes.set_xlim(0.5, self.epochs + 0.5)
            axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            axes.legend()
        return figure


def is_other_table(path: Path, history: History, owner: str, name: str) -> bool:
    """Whether ``path`` holds the table of another run than ``history``; no file holds none.

    Raises:
        ValueError: it holds something else than such a table.
    """
    if not path.is_file() or not path.stat().st_size:
        return False
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.reader(file)
        try:
            header = next(rows)
            table = list(rows) if header[:1] == ["epoch"] else None  # else it may be large
        except csv.Error:
            table = None
    if table is None or any(
        row[:1] != [str(number)] or len(row) != len(header) for number, row in enumerate(table, 1)
    ):
        raise ValueError(
            f"{owner}: {name!r} is {str(path)!r}, which holds something else than the history of a "
            "training, expected a path where nothing is overwritten; move the file away, or pass "
            "another path"
        )
    if "loss" not in header or not history.get("loss"):
        return bool(table)
    at, values = header.index("loss"), history["loss"]  # hooks may log into the other columns later
    count = min(len(table), len(values))
    return [row[at] for row in table[:count]] != [str(value) for value in values[:count]]
