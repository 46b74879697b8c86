"""Text in columns: how wide names of any script are in a terminal, and tables of them."""

from __future__ import annotations

import os
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


def cut_apart(texts: Sequence[str], most: int) -> list[str]:
    """Each shortened to ``most`` columns, so that different ones stay different.

    Those that `cut` makes alike lose what they begin with alike; where that does not tell them
    apart either, they are numbered.
    """
    shown = [cut(text, most) for text in texts]
    for alike in _alike(texts, shown):
        begin = len(os.path.commonprefix([texts[i] for i in alike]))
        for i in alike:
            head = _fitting(texts[i], min(most // 4, begin))
            shown[i] = head + ELLIPSIS + cut(texts[i][begin:], most - width(head) - 1)
    places = {text: place for place, text in enumerate(dict.fromkeys(texts), 1)}
    for alike in _alike(texts, shown):
        for i in alike:
            number = f" {places[texts[i]]}"
            shown[i] = cut(texts[i], most - len(number)) + number
    return shown


def _alike(texts: Sequence[str], shown: Sequence[str]) -> list[list[int]]:
    """Places of different texts that are shown alike."""
    places: dict[str, list[int]] = {}
    for place, form in enumerate(shown):
        places.setdefault(form, []).append(place)
    return [same for same in places.values() if len({texts[i] for i in same}) > 1]


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
