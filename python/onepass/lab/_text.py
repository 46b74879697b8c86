"""An experiment in a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from onepass.lab._catalogue import CHAPTERS, Entry
from onepass.lab._lab import Outcome, Table

WIDTH = 88


def cell(value: Any) -> str:
    """A cell of a table: numbers with four digits, words as they are."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e6):
        return str(int(value))
    return f"{float(value):.4g}"


def listed(entries: Sequence[Entry]) -> str:
    """All experiments by chapter, a line each."""
    wide = max(len(entry.name) for entry in entries)
    lines = []
    for chapter in CHAPTERS:
        found = [entry for entry in entries if entry.chapter == chapter]
        if found:
            lines += ["", chapter.capitalize()]
            lines += [f"  {e.code}  {e.name:<{wide}}  {e.title}" for e in found]
    return "\n".join(lines[1:])


def introduction(entry: Entry) -> str:
    """What is claimed, and by whom."""
    paragraphs = [entry.title, *entry.claim.split("\n\n"), "Source: " + "; ".join(entry.sources)]
    filled = [textwrap.fill(" ".join(p.split()), WIDTH) for p in paragraphs if p]
    return f"{entry.code} {entry.name} ({entry.chapter})\n\n" + "\n\n".join(filled) + "\n"


def shown(outcome: Outcome) -> str:
    """Tables, checks and verdict."""
    parts = [_table(table) for table in outcome.tables]
    parts.append("\n".join(
        f"{'holds' if c.holds else 'FAILS'}  {c.claim}{': ' * bool(c.seen)}{c.seen}"
        for c in outcome.checks
    ))  # fmt: skip
    parts.append(textwrap.fill(outcome.verdict, WIDTH))
    return "\n\n".join(parts)


def _table(table: Table) -> str:
    rows = [list(table.columns), *([cell(value) for value in row] for row in table.rows)]
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    words = [all(isinstance(v, str) for v in column) for column in zip(*table.rows, strict=True)]
    words = words or [True] * len(wide)
    lines = [
        "  ".join(
            f"{text:<{width}}" if left else f"{text:>{width}}"
            for text, width, left in zip(row, wide, words, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*([table.title] if table.title else []), *lines])
