"""What the commands of the benchmark share: a parser of one-line errors, a list of threads."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NoReturn

from onepass.bench._row import UsageError

MOST = 1024  # threads, as `config.set_num_threads` takes, or ranks, or rounds


class Parser(argparse.ArgumentParser):
    """Wrong use is a `UsageError`."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def threads(text: str) -> list[int]:
    """The type of ``--threads``: "1,2"."""
    return _counts(text, "threads")


def ranks(text: str) -> list[int]:
    """The type of ``--ranks``."""
    return _counts(text, "ranks")


def number(text: str, most: int = MOST) -> int:
    """A type of one number from 1 on."""
    found = int(text) if text.isdigit() and text.isascii() else 0
    if not 1 <= found <= most:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number from 1 to {most}")
    return found


def positive(text: str) -> float:
    """A type of finite numbers above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number > 0")
    return value


def _counts(text: str, what: str) -> list[int]:
    numbers = [int(n) if n.isdigit() and n.isascii() else 0 for n in text.split(",")]
    if not 1 <= min(numbers) <= max(numbers) <= MOST:
        words = f"expected numbers of {what} such as 1,2"
        raise argparse.ArgumentTypeError(f"{text!r}, {words}, none above {MOST}")
    return sorted(set(numbers))


def keep(option: str, path: Path, other_cure: str = "") -> None:
    """UsageError where a file is there, which took its time: the user says whether it may go."""
    if path.is_file() and path.stat().st_size:
        raise UsageError(
            f"{option} {path}: the file is there already, expected another one (or {other_cure}"
            "--overwrite to replace it)"
        )
