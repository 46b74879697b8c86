"""Text in columns: how wide names of any script are in a terminal, and tables of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

WIDE = ("W", "F")  # East Asian letters, two columns each
ELLIPSIS = "…"
JOINERS = "\u200c\u200d"  # in words of Persian, in emoji; they move no cursor


def printable(text: str) -> str:
    """In one line, without characters that move the cursor or turn the direction."""
    return "".join(map(_printable, text)) or '""'


def width(text: str) -> int:
    """Columns of a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if c in JOINERS or unicodedata.combining(c) or unicodedata.category(c) in ("Me", "Mn")
        else 2 if unicodedata.east_asian_width(c) in WIDE else 1
        for c in text
    )  # fmt: skip


def cut(text: str, most: int) -> str:
    """The text, shortened in its middle where it is wider than ``most``: both ends tell apart."""
    if width(text) <= most:
        return text
    room = max(most - 1, 0)
    end = _fitting(text[::-1], room // 3)[::-1]
    return _fitting(text, room - width(end)) + ELLIPSIS * (most > 0) + end


def padded(text: str, size: int, right: bool = False) -> str:
    """Filled up with blanks to ``size`` columns."""
    blanks = " " * max(0, size - width(text))
    return blanks + text if right else text + blanks


def amount(value: float) -> str:
    """A count with all its digits; a sum of weights with six."""
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def table(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of cells below each other, two blanks between them.

    Args:
        left: the first columns, which begin at the left; the others end at the right.
    """
    sizes = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            padded(cell, size, at >= left)
            for at, (cell, size) in enumerate(zip(row, sizes, strict=True))
        ).rstrip()
        for row in rows
    ]


def _fitting(text: str, most: int) -> str:
    """The longest beginning of at most so many columns."""
    used = 0
    for at, c in enumerate(text):
        used += width(c)
        if used > most:
            return text[:at]
    return text


def _printable(c: str) -> str:
    if c.isspace():
        return " "
    if c in JOINERS:
        return c
    return "\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c
