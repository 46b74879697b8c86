"""Notations of numbers that are not plain: 1,5 or $1,200.50 or 5 %.

A column of one form is made plain and read at once (``_plain.py``), not word by word.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onepass.data._blocks import NUMBER
from onepass.data._cells import (
    GROUPS,
    MINUS,
    figure,
    figures,
    has_leading_zero,
    is_code,
    is_missing,
    is_plain,
    minus_of,
    number_pattern,
)

DIGITS = frozenset("0123456789.+-eE")
USUAL_GROUP = {".": ",", ",": "."}  # beside each decimal sign, if the first cells have no other


@dataclass(frozen=True)
class Form:
    """One way of writing numbers.

    Attributes:
        decimal: the decimal sign; None where no cell may have one.
        group: the sign of thousands, or "".
        before, after: what stands around each number: "$", " kg", "%".
        unit: the name of that.
    """

    decimal: str | None
    group: str = ""
    before: str = ""
    after: str = ""
    unit: str = ""

    @property
    def is_share(self) -> bool:
        return self.unit == "%"

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        number = number_pattern(re.escape(self.decimal or ""), re.escape(self.group))
        before, after = re.escape(self.before), re.escape(self.after)
        signs = rf"(?P<minus>[{MINUS}]?){before}(?P<inner>{f'[{MINUS}]?' if before else ''})"
        return re.compile(rf"{signs}(?P<body>{number}){after}", re.ASCII)

    def read(self, cells: Sequence[str]) -> list[float] | None:
        """The numbers, NaN for gaps; None where a cell is written otherwise."""
        found = []
        scale = "e-2" if self.is_share else ""
        for given in cells:
            cell = given.strip()
            if is_missing(cell):
                found.append(math.nan)
                continue
            match = self._pattern.fullmatch(cell)
            if match is None or has_leading_zero(cell):
                return None
            minus = minus_of(match)
            if minus is None:
                return None
            body = match["body"].replace(self.group, "") if self.group else match["body"]
            body = body.replace(self.decimal, ".") if self.decimal else body
            try:
                found.append(float(minus + body + scale))
            except ValueError:  # 1e5%
                return None
        return None if np.isinf(found).any() else found


Kind = str | Form  # how a column is read: NUMBER, WORD, SKIP, or as numbers of a form


def is_numeric(kind: Kind) -> bool:
    """Whether a column of this kind gives numbers."""
    return kind == NUMBER or isinstance(kind, Form)


def sign_of(kind: Kind) -> str | None:
    """The decimal sign of a column that is read as this kind."""
    return kind.decimal if isinstance(kind, Form) else "."


def form_of(cells: Sequence[str], sep: str) -> Form | None:
    """The form of these cells, which are not gaps; None for plain numbers and for no one form.

    None too where they do not show what their points and commas are, but for commas alone, which
    are rather decimal signs if cells are parted by another sign.
    """
    if not cells or all(map(is_plain, cells)):
        return None
    if sep != "," and all("." not in c and is_number(c.replace(",", ".")) for c in cells):
        proven = figures(cells).shows == ","
        return Form(",", "." if proven else "")
    found = figures(cells)
    if not found.readings or found.ambiguous:
        return None
    around, groups = set(), set()
    for cell in cells:
        match = figure(cell)
        if match is None:
            return None
        head = cell[: match.start("body")]
        around.add((head.strip(MINUS) if head else "", cell[match.end("body") :]))
        groups |= set(re.sub(r"[\deE+-]", "", match["body"]))
    if len(around) > 1:
        return None
    groups.discard(found.shows or "")
    before, after = around.pop()
    if len(groups) > 1:
        return None
    group = groups.pop() if groups else USUAL_GROUP.get(found.shows or "", "")
    known = any(re.fullmatch(pattern, group) for pattern in GROUPS.values())
    if (group and not known) or group == found.shows:
        return None
    form = Form(found.shows, group, before, after, found.unit)
    return form if form.read(cells) == next(iter(found.readings.values())) else None


def is_number(cell: str) -> bool:
    """Whether it is a plain number and no code."""
    return is_plain(cell) and not is_code(cell)


def numbers_of(cells: Sequence[str], kind: Kind) -> list[float] | None:
    """Numbers, NaN for gaps; None where a cell is anything else than the kind says."""
    if isinstance(kind, Form):
        return kind.read(cells)
    found = []
    for cell in cells:
        if DIGITS.issuperset(cell) and not has_leading_zero(cell):
            try:
                found.append(float(cell))
                continue
            except ValueError:
                pass
        cell = cell.strip()
        if is_missing(cell):
            found.append(np.nan)
        elif is_plain(cell) and not has_leading_zero(cell):
            found.append(float(cell))
        else:
            return None
    return None if np.isinf(found).any() else found
