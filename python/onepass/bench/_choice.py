"""Which rows the options of a run choose, with how many threads, and what to say where there are
none."""

from __future__ import annotations

import argparse
import collections
import re
from collections.abc import Callable, Iterable
from typing import Any

from onepass._suggest import suggestion
from onepass.bench import _machine
from onepass.bench._row import GROUPS, Context, Row, UsageError, named

RowsOf = Callable[[Context], Iterable[Row]]  # all that a device has of a shape and dtype

# The options that choose rows, where they are not given.
NONE: dict[str, Any] = {
    "groups": [], "quick": False, "shape": None, "dtype": None, "only": re.compile(""),
}  # fmt: skip


def chosen(given: argparse.Namespace, rows_of: RowsOf) -> list[Row]:
    """Rows that the options choose.

    Raises:
        UsageError: there is none.
    """
    found = _matching(given, rows_of)
    if not found:
        raise UsageError(_nothing(given, rows_of))
    return spread(found) if given.quick else found


def spread(rows: list[Row]) -> list[Row]:
    """The rows of all groups in turn: of a run that time ends, each group has its share."""
    sizes = collections.Counter(row.group for row in rows)
    before: collections.Counter[str] = collections.Counter()
    places = []
    for row in rows:
        places.append((before[row.group] + 0.5) / sizes[row.group])
        before[row.group] += 1
    return [rows[i] for i in sorted(range(len(rows)), key=places.__getitem__)]


def contexts(given: argparse.Namespace) -> list[Context]:
    """One for each number of threads."""
    return [_context(given, threads) for threads in _threads(given)]


def _threads(given: argparse.Namespace) -> list[int]:
    processors = _machine.processors()
    if given.threads:
        return list(given.threads)
    if given.device == "cuda":
        return [1]
    return [processors] if given.quick else sorted({1, processors})


def _context(given: argparse.Namespace, threads: int) -> Context:
    return Context(given.device, given.dtype or "float32", given.shape, threads, given.against)


def _matching(given: argparse.Namespace, rows_of: RowsOf) -> list[Row]:
    groups = given.groups or GROUPS
    return [
        row
        for row in rows_of(_context(given, 1))
        if row.group in groups and (row.quick or not given.quick) and given.only.search(row.name)
    ]


def _nothing(given: argparse.Namespace, rows_of: RowsOf) -> str:
    """Names every option that took part, and one without which there are rows."""
    texts = {
        "groups": ", ".join(given.groups),
        "quick": "--quick",
        "shape": f"--shape {named(given.shape)}" if given.shape else "",
        "dtype": f"--dtype {given.dtype}",
        "only": f"--only {given.only.pattern!r}",
    }
    texts = {name: text for name, text in texts.items() if getattr(given, name) != NONE[name]}
    others = [text for name, text in texts.items() if name not in ("only", "groups")]
    where = f" of {texts['groups']}" if "groups" in texts else ""
    where += f" with {' and '.join(others)}" if others else ""
    what = f"{texts['only']} matches no row" if "only" in texts else "there is no row"
    without = ""
    for name, text in texts.items():
        fewer = _matching(_but(given, name), rows_of)
        if fewer and len(texts) > 1:
            without = f"; without {text} there {_are(len(fewer))}"
            break
    every = _matching(_but(given, *NONE), rows_of)
    known = [row for row in every if given.only.search(row.name)]
    names = {row.name.split()[0] for row in every}
    hint = "" if known else suggestion(given.only.pattern, names)
    return f"{what}{where}{without}, see --list{hint}"


def _but(given: argparse.Namespace, *names: str) -> argparse.Namespace:
    """The options without some that choose rows."""
    return argparse.Namespace(**(vars(given) | {name: NONE[name] for name in names}))


def _are(count: int) -> str:
    return "is one" if count == 1 else f"are {count}"
