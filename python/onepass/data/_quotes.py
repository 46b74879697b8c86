"""Quotes around whole cells taken away, so that a quick reader may read a text that has some."""

from __future__ import annotations

import numpy as np

HELD = "\x1f"  # stands for a separator that was within quotes


def without(text: str, sep: str) -> str | None:
    """The text without its quotes, HELD for separators within; None if that would change a cell.

    Each quote must begin or end a cell, with nothing between it and the separator or the end of the
    line. Quotes that are doubled, and line breaks within quotes, are left to ``csv``.
    """
    if HELD in text:
        return None
    cells = np.frombuffer(f"\n{text}\n".encode(), np.uint8)
    quotes = np.flatnonzero(cells == ord('"'))
    begins, ends = quotes[::2], quotes[1::2]
    if len(begins) != len(ends):
        return None
    borders = np.frombuffer(f"{sep}\n".encode(), np.uint8)
    if not (np.isin(cells[begins - 1], borders).all() and np.isin(cells[ends + 1], borders).all()):
        return None
    lines = np.flatnonzero(cells == ord("\n"))
    if (np.searchsorted(lines, begins) != np.searchsorted(lines, ends)).any():
        return None
    within = np.zeros(len(cells), np.int8)
    within[begins], within[ends] = 1, -1
    kept = cells.copy()
    kept[(kept == ord(sep)) & (np.cumsum(within, dtype=np.int8) > 0)] = ord(HELD)
    bare: str = kept[cells != ord('"')][1:-1].tobytes().decode()
    return bare
