"""Charts of measured rows as SVG, written out plainly so that the files are the same everywhere.

They stand on white and on black: no background, greys and hues of a middle lightness.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence

from generate.drawing import BLUE, GREY, RED

LINE = 26  # pixels of a row of the chart
RATIOS = (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100)
SHARES = (0, 0.25, 0.5, 0.75, 1, 1.25)
Scale = Callable[[float], float]


def _logarithmic(ticks: Sequence[float], left: float, right: float) -> Scale:
    low, high = math.log(ticks[0]), math.log(ticks[-1])

    def place(value: float) -> float:
        at = min(max(math.log(max(value, 1e-9)), low), high)
        return left + (right - left) * (at - low) / (high - low)

    return place


def _linear(ticks: Sequence[float], left: float, right: float) -> Scale:
    def place(value: float) -> float:
        at = min(max(value, ticks[0]), ticks[-1])
        return left + (right - left) * (at - ticks[0]) / (ticks[-1] - ticks[0])

    return place


def _text(x: float, y: float, words: str, anchor: str = "start", size: float = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size:g}">'
        f"{html.escape(words, False)}</text>"
    )


def _grid(ticks: Sequence[float], place: Scale, bottom: float, unit: str) -> list[str]:
    parts = []
    for tick in ticks:
        x = place(tick)
        strong = ' stroke-width="1.4"' if tick == 1 else ' stroke-opacity="0.3"'
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom:.1f}" stroke="{GREY}"{strong}/>'
        )
        words = f"{tick:.0%}".replace("%", " %") if unit == "%" else f"{tick:g}"
        parts.append(_text(x, bottom + 15, words, "middle", 11))
    return parts


def _svg(width: float, height: float, words: str, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'font-family="sans-serif" fill="{GREY}">\n<title>{html.escape(words, False)}</title>\n'
        f"{body}\n</svg>\n"
    )


def spread(groups: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> str:
    """Dots of all rows: (title, ratios, shares of the limit) of each group is a line."""
    width, bottom = 860.0, 8 + LINE * len(groups)
    ratio, share = _logarithmic(RATIOS, 210, 560), _linear(SHARES, 610, 840)
    parts = [*_grid(RATIOS, ratio, bottom, ""), *_grid(SHARES, share, bottom, "%")]
    for i, (title, ratios, shares) in enumerate(groups):
        middle = 8 + LINE * (i + 0.5)
        parts.append(_text(195, middle + 4, title, "end"))
        parts += _dots(ratios, ratio, middle, lambda value: RED if value < 1 else BLUE)
        parts += _dots(shares, share, middle, lambda _: BLUE)
    parts.append(_text(385, bottom + 34, "times faster than the best rival", "middle"))
    parts.append(_text(725, bottom + 34, "share of the limit", "middle"))
    return _svg(width, bottom + 44, "Measured rows by group", parts)


def _dots(
    values: Sequence[float], place: Scale, middle: float, ink: Callable[[float], str]
) -> list[str]:
    """Dots, of which neighbours stand a little above or below each other."""
    return [
        f'<circle cx="{place(value):.1f}" cy="{middle + (i % 5 - 2) * 3:.1f}" r="2.6" '
        f'fill="{ink(value)}" fill-opacity="0.6"/>'
        for i, value in enumerate(sorted(values))
    ]


def bars(rows: Sequence[tuple[str, float, str]], where: str) -> str:
    """(label, ratio, best rival) of some rows, from 1 to the right or, in red, to the left."""
    width, left, bottom = 860.0, 330.0, 8 + LINE * len(rows)
    place = _logarithmic(RATIOS, left, 730)
    parts = _grid(RATIOS, place, bottom, "")
    for i, (label, ratio, rival) in enumerate(rows):
        top = 8 + LINE * i
        low, high = sorted((place(1), place(ratio)))
        ink = RED if ratio < 1 else BLUE
        parts.append(
            f'<rect x="{low:.1f}" y="{top + 5:.1f}" width="{max(high - low, 1):.1f}" '
            f'height="{LINE - 10}" fill="{ink}"/>'
        )
        parts.append(_text(left - 12, top + 17, label, "end"))
        parts.append(_text(max(high, place(1)) + 6, top + 17, f"{ratio:.1f}× {rival}", size=11))
    parts.append(_text(530, bottom + 34, f"times faster than the best rival ({where})", "middle"))
    return _svg(width, bottom + 44, "Times faster than the best rival", parts)
