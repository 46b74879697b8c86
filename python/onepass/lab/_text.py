"""An experiment in a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from onepass.lab._catalogue import Experiment, by_chapter
from onepass.lab._lab import Outcome, Table

WIDTH = 88


def cell(value: Any) -> str:
    """A cell of a table: numbers with four digits, words as they are."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e6):
        return str(int(value))
    return f"{float(value):.4g}"


def listed(experiments: Sequence[Experiment]) -> str:
    """All experiments by chapter, a line each."""
    wide = max(len(experiment.name) for experiment in experiments)
    lines = []
    for chapter, found in by_chapter(experiments).items():
        lines += ["", chapter.capitalize()]
        lines += [f"  {e.code}  {e.name:<{wide}}  {e.title}" for e in found]
    return "\n".join(lines[1:])


def introduction(experiment: Experiment) -> str:
    """What is claimed, and by whom."""
    source = "Source: " + "; ".join(experiment.sources)
    parts = [experiment.title, *experiment.paragraphs, source]
    head = f"{experiment.code} {experiment.name} ({experiment.chapter})"
    return "\n\n".join([head, *(textwrap.fill(part, WIDTH) for part in parts)]) + "\n"


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
