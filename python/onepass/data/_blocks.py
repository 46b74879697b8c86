"""Parses a part of a text into columns: by pandas if it agrees with NumPy (faster), else by NumPy.

Both accept plain numbers and words without quotes, and refuse a part with anything else.
"""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass._quiet import ignored

NUMBER, WORD, SKIP = "f8", "O", "U1"  # the dtypes of a column within loadtxt
GAP = "nAn"  # stands for an empty cell on the way through loadtxt, which reads it as NaN
WORTH_AN_IMPORT = 1 << 28  # bytes of a text; importing pandas takes as long as reading 50 MB

Block = dict[int, NDArray[Any]]
Reader = Callable[..., Any]

# What a reader of numbers must read to the last bit, and what it must refuse.
HARD = ("0.1", "-2.2250738585072011e-308", "9007199254740993", "123456789012345678901234567890",
        "8.442911973260991817129021e-309", "0.000000000000000000000000000001", "1e23", " 7", ".5",
        "5.", "1.7976931348623157e308", "-0.0", "3.0540412e5", "1E5")  # fmt: skip
ODD = ("1e", "1_0", "0x10", "1.2.3", "+-1", "-", ".", "1 2", "1d5", "nan", "NA", "1,5",
       "\u0661", "1f", "e5")  # fmt: skip


def of(text: str, sep: str, kinds: Sequence[str], size: int) -> Block | None:
    """The columns that are not skipped, NaN for gaps among numbers; None if it is not plain.

    Args:
        size: bytes of the whole text.
    """
    read = reader() if "pandas" in sys.modules or size >= WORTH_AN_IMPORT else None
    if read is not None and not _may_be_truth(text):
        return _by_pandas(read, text, sep, kinds)
    block = _by_numpy(text, sep, kinds)
    if block is None:
        filled = _filled(text, sep)
        block = _by_numpy(filled, sep, kinds) if filled != text else None
        if block is None:
            return None
    return {p: block[f"f{p}"] for p, kind in enumerate(kinds) if kind != SKIP}


@cache
def reader() -> Reader | None:
    """``pandas.read_csv`` if it reads numbers exactly and takes no more than numbers, else None."""
    try:
        import pandas
    except ImportError:
        return None
    common = {"header": None, "engine": "c", "quoting": csv.QUOTE_NONE, "low_memory": False}
    gaps = {"keep_default_na": False, "skipinitialspace": False}
    for more in ({}, {"float_precision": "round_trip"}):
        read = partial(pandas.read_csv, **common, **gaps, **more)
        if _is_strict(read):
            return read
    return None


def _is_strict(read: Reader) -> bool:
    def numbers(cells: Sequence[str]) -> Any:
        found = _by_pandas(read, "".join(f"1;{c};2\n" for c in cells), ";", [NUMBER] * 3)
        return found and found[1].tolist()

    with ignored():
        exact = numbers(HARD) == list(map(float, HARD))
        gaps = numbers(["", "1"])
        return bool(
            exact and gaps and math.isnan(gaps[0]) and all(numbers([c]) is None for c in ODD)
        )


def _may_be_truth(text: str) -> bool:
    """Whether a column may be True or False, which pandas takes for numbers."""
    letters = {"u": "rue", "U": "RUE", "s": "alse", "S": "ALSE"}  # one letter is found quickly
    return any(letter in text and word in text for letter, word in letters.items())


def _by_pandas(read: Reader, text: str, sep: str, kinds: Sequence[str]) -> Block | None:
    dtypes = {p: "f8" if kind == NUMBER else object for p, kind in enumerate(kinds)}
    gaps = {p: [""] for p, kind in enumerate(kinds) if kind == NUMBER}
    try:
        frame = read(io.StringIO(text), sep=sep, dtype=dtypes, na_values=gaps)
    except ValueError:  # such as ParserError
        return None
    if frame.shape[1] != len(kinds) or _count(text, sep) != len(frame) * (len(kinds) - 1):
        return None  # a short row would be filled up
    return {p: frame[p].to_numpy() for p, kind in enumerate(kinds) if kind != SKIP}


def _count(text: str, sep: str) -> int:
    """``text.count(sep)``, quicker."""
    return int(np.count_nonzero(np.frombuffer(text.encode(), np.uint8) == ord(sep)))


def _by_numpy(text: str, sep: str, kinds: Sequence[str]) -> Any:
    dtypes = [(f"f{place}", kind) for place, kind in enumerate(kinds)]
    try:
        return np.loadtxt(io.StringIO(text), dtypes, comments=None, delimiter=sep, ndmin=1)
    except ValueError:
        return None


def _filled(text: str, sep: str) -> str:
    """The text with GAP in its empty cells."""
    filled = f"\n{text}" if text.endswith("\n") else f"\n{text}\n"
    for _ in range(2):  # of three separators in a row, one pass sees the first two
        filled = filled.replace(sep * 2, f"{sep}{GAP}{sep}")
    return filled.replace(f"\n{sep}", f"\n{GAP}{sep}").replace(f"{sep}\n", f"{sep}{GAP}\n")
