"""Parsers of option values; an error is one line with the option and the expected value."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from onepass import _numbers as numbers
from onepass._paths import expanded

Arguments: TypeAlias = argparse.Namespace
T = TypeVar("T")
OTHER_FORMATS = (".xlsx", ".xls", ".ods", ".parquet", ".feather", ".gz", ".zip", ".json", ".npz")


class UsageError(Exception):
    """An option with a wrong value; argparse passes the exception on and ``main`` prints it."""


def count(option: str, least: int = 1, owner: str = "train") -> Callable[[str], int]:
    """A whole number >= ``least``."""
    return lambda text: _checked(numbers.integer, option, text, int, owner, least=least)


def number(option: str, owner: str = "train", **bounds: float) -> Callable[[str], float]:
    """A number within the bounds of ``numbers.in_range``."""
    return lambda text: _checked(numbers.in_range, option, text, float, owner, **bounds)


def path(option: str, owner: str = "train") -> Callable[[str], Path]:
    """A path, with ``~`` expanded."""

    def parse(text: str) -> Path:
        if not text:
            raise UsageError(f"{owner}: {option!r} is empty, expected a path")
        try:
            return expanded(text, f"{owner}: {option!r}")
        except ValueError as error:
            raise UsageError(str(error)) from None

    return parse


def written(option: str, owner: str) -> Callable[[str], Path | None]:
    """The path of a CSV file to write; None for ``-``, standard output."""
    parse = path(option, owner)

    def checked(text: str) -> Path | None:
        if text == "-":
            return None
        found = parse(text)
        if found.suffix.lower() in OTHER_FORMATS:
            raise UsageError(f"{owner}: {option!r} is {text!r}, expected the name of a CSV file")
        return found

    return checked


def seed(owner: str) -> Callable[[str], int]:
    """A whole number that fits 64 bits."""
    return lambda text: _checked(numbers.seed, "--seed", text, int, owner)


def lab_seed(text: str) -> int:
    """A seed of an experiment."""
    from onepass.lab._lab import SEEDS

    return _checked(numbers.integer, "--seed", text, int, "lab", least=0, below=SEEDS)


def sizes(option: str, owner: str = "train") -> Callable[[str], tuple[int, ...]]:
    """Whole numbers between commas."""
    one = count(option, owner=owner)
    return lambda text: tuple(one(part.strip()) for part in text.split(",") if part.strip())


def names(
    option: str, owner: str = "train", what: str = "names of columns"
) -> Callable[[str], tuple[str, ...]]:
    """Names between commas; one that has a comma stands in quotes."""

    def parse(text: str) -> tuple[str, ...]:
        parts = next(csv.reader([text], skipinitialspace=True), [])
        found = tuple(part.strip() for part in parts if part.strip())
        if not found:
            raise UsageError(f"{owner}: {option!r} is {text!r}, expected {what}")
        return found

    return parse


def separator(text: str) -> str:
    """One character; ``\\t`` and ``tab`` are the tab."""
    text = {"\\t": "\t", "tab": "\t"}.get(text, text)
    if len(text) != 1:
        raise UsageError(f"read_table: '--sep' is {text!r}, expected one character, or tab")
    return text


def _checked(
    check: Callable[..., T],
    option: str,
    text: str,
    parse: Callable[[str], Any],
    owner: str,
    **bounds: Any,
) -> T:
    """``text`` as a number that passes ``check``; UsageError, naming the option, if not."""
    try:
        value = parse(text)
    except ValueError:
        value = text
    try:
        return check(owner, option, value, **bounds)
    except (TypeError, ValueError) as error:
        raise UsageError(error) from None
