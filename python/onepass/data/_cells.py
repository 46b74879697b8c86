"""Parses one cell: a number in any usual notation, a truth value, a date, or nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from onepass.data import _units

MISSING = frozenset({
    "", "?", "\\n", "-", "--", "–", "—", "−", ".", "na", "n/a", "n.a.", "nan", "-nan", "+nan",
    "<na>", "nat", "null", "none", "nil", "#n/a", "#na", "#n/a n/a", "#value!", "#ref!",
    "#div/0!", "#num!", "#name?", "#null!", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan",
})  # fmt: skip
TRUTH = {"true": 1.0, "false": 0.0}
LONGEST_SHOWN = 40
EXACT = 2.0**53  # whole numbers above are rounded

PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)  # float() takes 12_3 too
WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_CODE = re.compile(r"0\d+", re.ASCII)
MINUS = "-+\u2212"  # in this order a class of a pattern, too
_SPACES = " \u00a0\u2009\u202f"
_SIGN = "[$€£¥₹]|(?:EUR|USD|GBP|CHF|JPY|CNY|INR|AUD|CAD|SEK|NOK|DKK|PLN|CZK|BRL)"
_FIGURE = re.compile(
    rf"(?P<minus>[{MINUS}]?)[{_SPACES}]?(?P<before>{_SIGN})?[{_SPACES}]?(?P<inner>[{MINUS}]?)"
    rf"(?P<body>[\d.,'’{_SPACES}]*\d[.,]?(?:[eE][+-]?\d+)?)[{_SPACES}]?(?P<after>%|{_SIGN}|{_units.UNIT})?",
    re.ASCII,
)
_THOUSANDS = re.compile(r"[+-]?(\d+|[1-9]\d{0,2}(\.\d{3})+)", re.ASCII)
GROUPS = {"comma": ",", "point": r"\.", "space": f"[{_SPACES}]", "quote": "['’]"}
_MONTH = (
    r"(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?"
    r"|oct(ober)?|nov(ember)?|dec(ember)?)\.?"
)
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?([T ]\d{1,2}:\d{2}.*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}( .*)?"
    r"|\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[ap]m)?|\d{4}-?(w\d{2}(-?\d)?|q[1-4])"
    rf"|((mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,? )?(\d{{1,2}}[- .]*{_MONTH}|{_MONTH} ?\d{{1,2}}),?"
    r"([- ]+\d{2,4})?( .*)?"
    rf"|{_MONTH}[- ]\d{{4}}",
    re.ASCII | re.IGNORECASE,
)


def number_pattern(decimal: str, group: str = "") -> str:
    """The pattern of a number without a sign; of a number with groups of three digits too.

    Args:
        decimal, group: patterns of the decimal sign and of the sign of thousands, "" for none.
    """
    decimals = rf"(?:{decimal}\d*)?" if decimal else ""
    plain = rf"(?:\d+{decimals}|{decimal}\d+)(?:[eE][+-]?\d+)?"
    return rf"{plain}|[1-9]\d{{0,2}}(?:{group}\d{{3}})+{decimals}" if group else plain


def minus_of(match: re.Match[str]) -> str | None:
    """The minus in front of a number, or "", from its parts; None for two signs."""
    signs = match["minus"] + match["inner"]
    return None if len(signs) > 1 else "" if signs in ("", "+") else "-"


def _forms(decimal: str, groups: Iterable[str]) -> list[re.Pattern[str]]:
    """Numbers with this decimal sign: without groups of three digits, then with them."""
    signs = ("", *(GROUPS[group] for group in groups))
    return [re.compile(number_pattern(decimal, sign), re.ASCII) for sign in signs]


FORMS = {
    ".": _forms(r"\.", ("comma", "space", "quote")),
    ",": _forms(",", ("point", "space", "quote")),
}


@dataclass(frozen=True)
class Figures:
    """Cells as numbers, if all are: once with a decimal point, once with a decimal comma.

    Where both are given and differ, the cells alone do not say which is meant: 1.200.
    """

    readings: dict[str, list[float]]
    unit: str

    @property
    def ambiguous(self) -> bool:
        """Whether a decimal point and a decimal comma give two sets of numbers."""
        return len(self.readings) == 2 and self.readings["."] != self.readings[","]

    @property
    def shows(self) -> str | None:
        """The decimal sign that the cells prove; None where either will do."""
        return next(iter(self.readings)) if len(self.readings) == 1 else None


def is_missing(cell: str) -> bool:
    """Whether the cell is empty or says that there is no value."""
    return cell.lower() in MISSING or not cell.strip("-–—−")


def is_plain(cell: str) -> bool:
    """Whether the cell is a finite number with digits and a decimal point alone."""
    return PLAIN.fullmatch(cell) is not None and math.isfinite(float(cell))


def is_code(cell: str) -> bool:
    """Whether a zero stands before other digits: 007 is a code, and another one than 7."""
    return _CODE.fullmatch(cell) is not None


def named_number(name: str) -> float | None:
    """The number that a name is: 1 and 1.0 are one; None for 007, for what float64 rounds, and for
    text."""
    if PLAIN.fullmatch(name) is None or is_code(name) or abs(float(name)) >= EXACT:
        return None
    return float(name)


def has_leading_zero(cell: str) -> bool:
    """Whether the cell begins with a zero and another digit: 007, 01.5. All cells of its column
    must be known then."""
    return cell[:1] == "0" and "0" <= cell[1:2] <= "9"


def are_codes(cells: Collection[str]) -> bool:
    """Whether the cells are whole numbers and one of them is a code."""
    return any(map(is_code, cells)) and all(map(WHOLE.fullmatch, cells))


def may_have_thousands(cell: str) -> bool:
    """Whether the points of a plain number may be signs of thousands: 1.200, and not 1.20."""
    return _THOUSANDS.fullmatch(cell) is not None


def is_date(cell: str) -> bool:
    """Whether the cell looks like a date or a time."""
    return _DATE.fullmatch(cell) is not None


def dates_among(values: Sequence[str]) -> bool:
    """Whether most of the words are dates or times."""
    return 2 * sum(map(is_date, values)) > len(values)


def is_figure(cell: str) -> bool:
    """Whether the cell is a number in some way of writing."""
    return is_plain(cell) or bool(figures([cell]).readings)


def figure(cell: str) -> re.Match[str] | None:
    """The parts of one number: ``minus``, ``before``, ``inner``, ``body``, ``after``."""
    return _FIGURE.fullmatch(cell)


def figures(cells: Sequence[str]) -> Figures:
    """The cells as numbers; no reading where they are not all numbers written in one way.

    One way: one unit (%, $, EUR, kg, …) or none, one decimal sign, one sign of thousands. A
    percentage is its hundredth: 12% is 0.12.
    """
    if all(map(PLAIN.fullmatch, cells)):
        return _plain_figures(cells)
    bodies, units = [], set()
    for cell in cells:
        found = _FIGURE.fullmatch(cell)
        if found is None:
            return Figures({}, "")
        before, after = found["before"] or "", found["after"] or ""
        minus = minus_of(found)
        if (before and after) or minus is None:
            return Figures({}, "")
        units.add(before or _units.name_of(after))
        bodies.append((minus, found["body"]))
    if len(units) > 1:
        return Figures({}, "")
    unit = units.pop() if units else ""
    readings = {}
    for decimal in FORMS:
        numbers = _read(bodies, decimal, unit)
        if numbers is not None:
            readings[decimal] = numbers
    return Figures(readings, unit)


def way_of(cell: str) -> tuple[str, str, str]:
    """In which way a number is written: its unit, its decimal sign if it shows one, and the signs
    between its digits."""
    found, match = figures([cell]), figure(cell)
    between = re.sub(r"[\d+-]", "", match["body"]) if match else ""
    return found.unit, found.shows or "", "".join(sorted(set(between)))


def _plain_figures(cells: Sequence[str]) -> Figures:
    """Of cells with digits and points alone: most columns, so this is quick."""
    numbers = list(map(float, cells))
    readings = {".": numbers} if all(map(math.isfinite, numbers)) else {}
    if readings and all(map(may_have_thousands, cells)):
        readings[","] = [float(cell.replace(".", "")) for cell in cells]
    return Figures(readings, "")


def _read(bodies: list[tuple[str, str]], decimal: str, unit: str) -> list[float] | None:
    """The numbers in the first form that all bodies have."""
    scale = "e-2" if unit == "%" else ""  # of the text: 12.3% is then 0.123 to the last bit
    for form in FORMS[decimal]:
        if all(map(form.fullmatch, (body for _, body in bodies))):
            break
    else:
        return None
    keep = str.maketrans({",": ".", ".": None} if decimal == "," else {",": None})
    keep.update(dict.fromkeys(map(ord, f"{_SPACES}'’")))
    try:
        numbers = [float(minus + body.translate(keep) + scale) for minus, body in bodies]
    except ValueError:  # 1e5%
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def shown(cell: str) -> str:
    """The cell as a message shows it: in quotes, shortened."""
    if len(cell) <= LONGEST_SHOWN:
        return repr(cell)
    return f"{cell[:LONGEST_SHOWN]!r} … ({len(cell)} characters)"
