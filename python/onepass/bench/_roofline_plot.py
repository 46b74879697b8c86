"""The picture of a roofline: a panel for each place, rates over threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onepass.bench._rates import Place, Rate

# Told apart in print without colours: by marker and line.
STYLES = {
    "read": ("#1b6ca8", "o", "-"),
    "write": ("#b5443c", "s", "--"),
    "copy": ("#3a7d44", "^", "-."),
    "in place": ("#7a5195", "D", ":"),
    "optimizer": ("#222222", "v", "-"),
}


def plot(
    cpu: str, places: Sequence[Place], rates: Sequence[Rate], file: str | os.PathLike[str]
) -> None:
    """Draw what a processor moves into a file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(3.4 * len(places) + 0.6, 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(places), squeeze=False)[0]
    for axes, place in zip(panels, places, strict=True):
        for shape, (color, marker, line) in STYLES.items():
            drawn = [r for r in rates if (r.shape, r.place) == (shape, place.name)]
            drawn.sort(key=lambda rate: rate.threads)
            threads = [rate.threads for rate in drawn]
            middle = [rate.bytes_per_second / 1e9 for rate in drawn]
            below = [(rate.bytes_per_second - rate.low) / 1e9 for rate in drawn]
            above = [(rate.high - rate.bytes_per_second) / 1e9 for rate in drawn]
            axes.errorbar(
                threads, middle, [below, above], label=shape, color=color, marker=marker,
                linestyle=line, linewidth=1.4, markersize=5, elinewidth=0.8, capsize=2,
            )  # fmt: skip
        axes.set_title(place.title, fontsize=10)
        axes.set_xlabel("threads")
        axes.set_xticks(threads, [str(count) for count in threads])
        axes.margins(x=0.15)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    panels[0].set_ylabel("GB/s (median, bars 10 to 90 %)")
    figure.suptitle(f"What {cpu} moves", fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(Path(file), dpi=160)
