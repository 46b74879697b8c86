"""The picture of a search: parallel coordinates."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

from onepass._figures import new_figure, save_figure
from onepass.train._search_space import Choice, Distribution, Integer, shown
from onepass.train._search_trial import COMPLETE, FAILED, PRUNED, Trial

MOST_NAMED = 12  # choices of an axis that all have their names
SPREAD = 0.5  # of the room of a choice: the lines of its trials lie beside one another
LONGEST = 16  # letters of a tick
DASHES = {PRUNED: "dotted", FAILED: "dashed"}
Ticks = list[tuple[float, str]]


def draw(result: Any, path: Path) -> None:
    """Draw a SearchResult."""
    if not result.trials:
        raise ValueError("plot: there are no trials, expected one or more to draw")
    space: dict[str, Distribution] = dict(result.space) or _guessed(result.trials)
    axis = _Metric([t.score for t in result.trials if not math.isnan(t.score)], result.mode)
    figure = new_figure(width=max(6.0, 1.6 * (len(space) + 1.5)))
    axes = figure.subplots()
    columns = [_column(of, [t.params[name] for t in result.trials]) for name, of in space.items()]
    crossings = dict(zip(map(id, result.trials), zip(*columns, strict=True), strict=True))
    *_, top = _order(result)
    for trial in _order(result):
        _line(axes, trial, [*crossings[id(trial)]], axis, best=trial is top)
    titles = [_wrapped(shown(name)) for name in space]
    for at, (title, of) in enumerate(zip(titles, space.values(), strict=True)):
        _draw_axis(axes, at, title, _ticks(of), left=at == 0)
    arrow = "lower" if result.mode == "min" else "higher"
    metric = f"{_wrapped(result.metric)}\n({arrow} is better)"
    _draw_axis(axes, len(space), metric, axis.ticks(), left=False)
    lines = max(title.count("\n") for title in (*titles, metric))
    states = {trial.state for trial in result.trials}
    dashes = [f"{state}: {how}" for state, how in DASHES.items() if state in states]
    axes.text(0, -0.12, "   ".join(dashes), fontsize="small", color="0.3")
    axes.set_xlim(-0.15, len(space) + 0.15)
    axes.set_ylim(-0.04, 1.04)
    axes.axis("off")
    axes.set_title(result.summary(), fontsize="medium", pad=20 + 14 * lines, parse_math=False)
    save_figure(figure, path)


def _order(result: Any) -> list[Trial]:
    """Worst first: the best is drawn on top."""
    ranked: list[Trial] = result.ranked
    return ranked[::-1]


def _guessed(trials: list[Trial]) -> dict[str, Distribution]:
    """Axes for trials whose space is not known."""
    found: dict[str, Distribution] = {}
    for name in trials[0].params:
        values: list[Any] = []
        for trial in trials:
            if trial.params[name] not in values:
                values.append(trial.params[name])
        found[name] = Choice(values)
    return found


def _column(of: Distribution, values: list[Any]) -> list[float]:
    """Where each trial crosses an axis; those with one choice side by side."""
    places = [of.place(value) for value in values]
    if not isinstance(of, Choice):
        return places
    spread = []
    for number, place in enumerate(places):
        same = [n for n, other in enumerate(places) if other == place]
        share = (same.index(number) + 0.5) / len(same) - 0.5
        spread.append(place + share * SPREAD / len(of.values))
    return spread


def _line(axes: Any, trial: Trial, places: list[float], axis: _Metric, *, best: bool) -> None:
    ends = [] if math.isnan(trial.score) else [axis.place(trial.score)]
    heights = [*places, *ends]
    style: dict[str, Any] = {"color": "0.6", "linewidth": 0.8, "linestyle": "--"}
    if trial.state != FAILED and ends:
        import matplotlib

        colour = matplotlib.colormaps["viridis_r"](axis.place(trial.score))
        complete = trial.state == COMPLETE
        style = {"color": colour, "linewidth": 1.3, "linestyle": "-" if complete else ":"}
        style["alpha"] = 0.9 if complete else 0.7
        if best and complete:
            axes.plot(range(len(heights)), heights, color="white", linewidth=6)
            style |= {"color": "crimson", "linewidth": 3, "marker": "o", "alpha": 1}
    axes.plot(range(len(heights)), heights, **style)


def _wrapped(name: str) -> str:
    """In lines between two axes, of which there is room for three."""
    words = name.replace("_", "_ ").replace(".", ". ")
    lines = textwrap.wrap(words, LONGEST, max_lines=3, placeholder="…")
    return "\n".join(line.replace("_ ", "_").replace(". ", ".") for line in lines)


def _draw_axis(axes: Any, at: int, name: str, ticks: Ticks, *, left: bool) -> None:
    axes.plot([at, at], [0, 1], color="black", linewidth=1)
    axes.text(at, 1.06, name, ha="center", va="bottom", parse_math=False)
    for place, text in ticks:
        axes.plot([at - 0.02, at + 0.02], [place, place], color="black", linewidth=1)
        text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
        side = {"ha": "right"} if left else {"ha": "left"}
        axes.text(
            at - 0.05 if left else at + 0.05, place, text, va="center", fontsize="small", **side,
            parse_math=False,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
            zorder=10,
        )  # fmt: skip


class _Metric:
    """The axis of the scores, better upwards; logarithmic where they are of many sizes."""

    def __init__(self, scores: list[float], mode: str) -> None:
        finite = [score for score in scores if math.isfinite(score)]
        self.known = bool(finite)
        self.low, self.high = min(finite, default=0.0), max(finite, default=1.0)
        self.log = self.low > 0 and self.high > 30 * self.low
        self.mode = mode

    def place(self, score: float) -> float:
        score = min(max(score, self.low), self.high)
        if self.low == self.high:
            return 0.5
        if self.log:
            share = math.log(score / self.low) / math.log(self.high / self.low)
        else:
            share = (score - self.low) / (self.high - self.low)
        return 1 - share if self.mode == "min" else share

    def ticks(self) -> Ticks:
        """None without a score."""
        if not self.known:
            return []
        if self.low == self.high:
            return [(0.5, shown(self.low))]
        shares = [0, 0.25, 0.5, 0.75, 1]
        if self.log:
            values = [self.low * (self.high / self.low) ** s for s in shares]
        else:
            values = [self.low + (self.high - self.low) * s for s in shares]
        return [(self.place(value), f"{value:.3g}") for value in values]


def _ticks(of: Distribution) -> Ticks:
    if isinstance(of, Choice):
        step = math.ceil(len(of.values) / MOST_NAMED)
        return [(of.place(value), shown(value)) for value in of.values[::step]]
    ends: Any = of
    if of.log:
        values = _decades(ends.low, ends.high)
    else:
        values = [ends.low + (ends.high - ends.low) * s for s in (0, 0.25, 0.5, 0.75, 1)]
    if isinstance(of, Integer):
        values = sorted({round(value) for value in values})
    return [(of.place(value), f"{value:.4g}") for value in values]


def _decades(low: float, high: float) -> list[float]:
    """The ends, and the powers of ten (of two, in a short range) that are not next to one."""
    base = 10.0 if high / low >= 100 else 2.0
    first, last = (math.log(end) / math.log(base) for end in (low, high))
    inner = [base**n for n in range(math.ceil(first), math.floor(last) + 1)]
    step = math.ceil(len(inner) / 8) or 1
    width = math.log(high / low)
    kept = [v for v in inner[::step] if min(math.log(v / low), math.log(high / v)) > 0.07 * width]
    return [low, *kept, high]
