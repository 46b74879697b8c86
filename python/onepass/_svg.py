"""Curves and clouds of points as inline SVG.

A point of a curve is drawn where its value is: of a long curve those that make a difference at this
size, the first, least, largest and last of each column of pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass._page import text

WIDTH, HEIGHT = 440, 264
LEFT, RIGHT, TOP, BOTTOM = 84, 414, 12, 226  # beside LEFT a title and MOST_LETTERS
LOG = 100.0  # times the least value: from here on the axis is logarithmic
FEW = 40  # values, which are drawn with a dot each
MOST_DOTS = 1500  # of a cloud; more are counted in cells
CELLS = 48  # of its side
MOST_MARKS = 60
MOST_LETTERS = 8  # beside a tick

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """A scale from numbers to places; where ``log``, of their logarithms."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    @classmethod
    def of(cls, values: Iterable[Any], begin: float, end: float, *, log: bool = False) -> Axis:
        """Around all finite ones of the values; logarithmic if asked for and they want it."""
        every = np.concatenate([np.ravel(v).astype(np.float64) for v in values] or [np.zeros(0)])
        every = every[np.isfinite(every)]
        if not len(every):
            return cls(0.0, 1.0, begin, end)
        low, high = float(every.min()), float(every.max())
        log = log and low > 0 and high / low > LOG
        if not high > low:
            room = abs(low) * 0.5 or 1.0
            return cls(low - room, high + room, begin, end)
        if log:
            room = (high / low) ** 0.03
            return cls(max(low / room, 5e-324), min(high * room, 1.7e308), begin, end, True)
        room = 0.03 * (high / 2 - low / 2) * 2 if high - low < math.inf else 0.0
        return cls(low - room, high + room, begin, end)

    def __call__(self, values: Any) -> Any:
        """The places; NaN where a value has none."""
        v = np.asarray(values, np.float64)
        with np.errstate(all="ignore"):
            if self.log:
                share = np.log(v / self.low) / math.log(self.high / self.low)
            else:
                share = (v / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
            return self.begin + share * (self.end - self.begin)

    def ticks(self, most: int = 6, *, whole: bool = False) -> list[float]:
        """Round numbers within the axis."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            every = max(1, math.ceil((last - first + 1) / most))
            found = [10.0**e for e in range(first, last + 1, every)]
            if len(found) > 1:
                return found
        span = self.high / most - self.low / most
        if not span > 0:
            return [self.low, self.high]
        exponent = math.floor(math.log10(span))
        unit = 10.0**exponent if exponent > -300 else span
        step = unit * next(m for m in (1, 2, 5, 10, 20) if m * unit >= span * 0.999)
        if whole:
            step = max(1.0, step)
        if not (0 < step < math.inf):
            return [self.low, self.high]
        first = math.ceil(self.low / step)
        return [round(i * step, 12 - exponent) if abs(exponent) < 290 else i * step
                for i in range(first, math.floor(self.high / step) + 1)]  # fmt: skip


@dataclass
class Chart:
    """A frame with two axes, filled part by part."""

    x: Axis
    y: Axis
    label: str
    x_title: str = ""
    y_title: str = ""
    whole: bool = False
    about: dict[str, str] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)

    def curve(self, xs: Floats, ys: Floats, name: str, kind: str) -> None:
        """A line through the finite ones; a cross below the others."""
        finite = np.isfinite(ys)
        keep = _seen(self.x(xs), ys, finite)
        gaps = np.flatnonzero(~finite)
        stretches = np.searchsorted(gaps, keep)  # which of the parts between gaps a point is in
        for stretch in np.unique(stretches):
            own = keep[stretches == stretch]
            points = " ".join(
                f"{a:.2f},{b:.2f}" for a, b in zip(self.x(xs[own]), self.y(ys[own]), strict=True)
            )
            if len(own) > 1:
                self.parts.append(
                    f'<polyline class="{kind}" data-name="{text(name)}" points="{points}"/>'
                )
            if len(own) == 1 or len(xs) <= FEW:
                self.parts += [_dot(point, kind, name) for point in points.split()]
        for at in gaps[:: max(1, math.ceil(len(gaps) / MOST_MARKS))]:
            place = float(self.x(xs[at]))
            self.parts.append(
                f'<text class="lost" x="{place:.2f}" y="{BOTTOM - 3}" text-anchor="middle">×'
                f"<title>{text(name)} is {ys[at]} there</title></text>"
            )

    def cloud(self, xs: Floats, ys: Floats) -> None:
        """A dot a point; of many, a square for those in a cell, the fuller the more."""
        at, up = self.x(xs), self.y(ys)
        if len(xs) <= MOST_DOTS:
            self.parts += [
                f'<circle class="point" cx="{a:.2f}" cy="{b:.2f}" r="2.4"/>'
                for a, b in zip(at, up, strict=True)
            ]
            return
        size = (RIGHT - LEFT) / CELLS
        column = np.minimum((at - LEFT) / size, CELLS - 1).astype(int)
        row = ((up - TOP) / size).astype(int)
        cells, counts = np.unique(row * CELLS + column, return_counts=True)
        shade = 0.15 + 0.85 * np.log1p(counts) / np.log1p(counts.max())
        self.parts += [
            f'<rect class="cell" x="{LEFT + cell % CELLS * size:.2f}" '
            f'y="{TOP + cell // CELLS * size:.2f}" width="{size:.2f}" height="{size:.2f}" '
            f'opacity="{s:.2f}"><title>{n} points</title></rect>'
            for cell, n, s in zip(cells.tolist(), counts.tolist(), shade.tolist(), strict=True)
        ]

    def line(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """A broken line between two points."""
        ends = [*self.x([x1, x2]), *self.y([y1, y2])]
        a, b, c, d = (f"{end:.2f}" for end in ends)
        self.parts.append(f'<line class="guide" x1="{a}" x2="{b}" y1="{c}" y2="{d}"/>')

    def mark(self, x: float, kind: str, title: str) -> None:
        """An upright line over the whole height."""
        at = f"{float(self.x(x)):.2f}"
        self.parts.append(
            f'<line class="{kind}" x1="{at}" x2="{at}" y1="{TOP}" y2="{BOTTOM}">'
            f"<title>{text(title)}</title></line>"
        )

    def svg(self) -> str:
        """The element."""
        about = "".join(f' data-{key}="{text(value)}"' for key, value in self.about.items())
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{text(self.label)}"{about}>'
            f"{self._grid()}{''.join(self.parts)}</svg>"
        )

    def _grid(self) -> str:
        parts = []
        values = self.y.ticks()
        names, base = tick_labels(values)
        if base:
            parts.append(f'<text class="base" x="{LEFT + 6}" y="{TOP}">+ {base}</text>')
        for value, name in zip(values, names, strict=True):
            at = f"{float(self.y(value)):.2f}"
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{at}" y2="{at}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{at}" dy=".35em" text-anchor="end">'
                         f"{name}</text>")  # fmt: skip
        values = self.x.ticks(whole=self.whole)
        names, base = tick_labels(values)
        for value, name in zip(values, names, strict=True):
            at = f"{float(self.x(value)):.2f}"
            parts.append(
                f'<line class="tick" x1="{at}" x2="{at}" y1="{BOTTOM}" y2="{BOTTOM + 4}"/>'
            )
            parts.append(f'<text x="{at}" y="{BOTTOM + 18}" text-anchor="middle">{name}</text>')
        middle = (LEFT + RIGHT) / 2
        parts.append(f'<path class="frame" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/>')
        parts.append(f'<text class="title" x="{middle}" y="{HEIGHT - 3}" text-anchor="middle">'
                     f"{text(self.x_title)}{f' (+ {base})' * bool(base)}</text>")  # fmt: skip
        if self.y_title:
            parts.append(
                f'<text class="title" transform="translate(12 {(TOP + BOTTOM) / 2}) rotate(-90)" '
                f'text-anchor="middle">{text(self.y_title)}</text>'
            )
        return "".join(parts)


def tick_labels(values: Sequence[float]) -> tuple[list[str], str]:
    """What stands beside ticks: their places, as exactly as the distances between them need.

    Returns:
        The labels, and what is to be added to each, which is "" unless they would be too long.
    """
    gaps = [abs(b - a) for a, b in pairwise(values)]
    least = min((gap for gap in gaps if gap > 0), default=0.0)
    labels = _labels(values, least)
    if max(map(len, labels), default=0) <= MOST_LETTERS:
        return labels, ""
    span = max(gaps) * len(gaps)
    place = Decimal(1).scaleb(math.ceil(math.log10(span))) if span > 0 else Decimal(1)
    base = (Decimal(values[0]) / place).to_integral_value(ROUND_FLOOR) * place
    rest = _labels([float(Decimal(value) - base) for value in values], least)
    if not base or max(map(len, rest)) > MOST_LETTERS:
        return labels, ""
    return rest, _plain(base)


def _labels(values: Sequence[float], gap: float) -> list[str]:
    """Each with as few digits as keep it within a hundredth of the gap to the next one."""
    return [
        next((s for s in _forms(value) if abs(float(s) - value) <= 0.01 * gap), repr(value))
        for value in values
    ]


def _forms(value: float) -> Iterator[str]:
    """From the shortest on; a whole number that is not long as it is."""
    if value == int(value) and abs(value) < 10**MOST_LETTERS / 10:
        yield str(int(value))
    for digits in range(1, 18):
        yield f"{value:.{digits}g}"


def _plain(value: Decimal) -> str:
    shown = f"{value.normalize():f}"
    return shown if len(shown) <= 20 else str(value.normalize())


def _dot(point: str, kind: str, name: str) -> str:
    x, y = point.split(",")
    return f'<circle class="{kind}" data-name="{text(name)}" cx="{x}" cy="{y}" r="2.6"/>'


def _seen(places: Floats, ys: Floats, finite: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The indices of the points that make a difference, in order."""
    there = np.flatnonzero(finite)
    if len(there) <= 2 * (RIGHT - LEFT):
        return there
    column = np.floor(places[there]).astype(np.int64)
    order = np.lexsort((ys[there], column))
    sorted_columns = column[order]
    first = np.flatnonzero(np.r_[True, np.diff(sorted_columns) > 0])
    last = np.r_[first[1:], len(order)] - 1
    begin = np.flatnonzero(np.r_[True, np.diff(column) > 0])
    end = np.r_[begin[1:], len(column)] - 1
    edges = np.flatnonzero(np.diff(there) > 1)[:MOST_MARKS]  # beside a gap
    chosen: Sequence[NDArray[np.int64]] = (order[first], order[last], begin, end, edges, edges + 1)
    found: NDArray[np.int64] = there[np.unique(np.concatenate(chosen))]
    return found
