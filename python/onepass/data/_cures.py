"""The cures in messages, written as Python code or as command-line options."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence

HEADER = "pass header=False (--no-header) if it is data, header=True (--header) if it has names"
NAMES = "pass task='classification' (--task classification) if the cells are names of classes"


def names_of(names: Sequence[str]) -> str:
    """The names in quotes, between commas."""
    return ", ".join(map(repr, names))


def option(name: str, values: Sequence[str]) -> str:
    """An option with these values as a shell takes it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    joint = "=" if values[0].startswith("-") else " "  # so that a value is not read as an option
    return f"{name}{joint}{shlex.quote(text.getvalue())}"


def leave_out(names: Sequence[str]) -> str:
    """How to leave these columns out."""
    return f"leave it out with drop={list(names)} ({option('--drop', names)})"


def keep_words(names: Sequence[str]) -> str:
    """How to read these columns as words."""
    return f"words={list(names)} ({option('--words', names)}) if they are names"
