"""Makes the numbers in a part of a text plain, over all its bytes at once: $1,200.50 → 1200.50."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onepass.data._cells import MINUS, is_missing
from onepass.data._forms import Form
from onepass.data._marks import Positions, groups_at, is_digit, leading_zeros
from onepass.data._quotes import HELD

SHARE = "\x02"  # stands for a percent sign, until e-2 does
_MINUS = MINUS[-1].encode()  # that of Unicode


class Plain:
    """A part of a text, whole lines without quotes, whose columns of these forms become plain.

    Attributes:
        odd: columns with a cell that is written otherwise.
        text: the text, None if some line has another number of cells; right where no column is odd.
    """

    def __init__(self, text: str, sep: str, width: int, forms: Mapping[int, Form]) -> None:
        self.sep, self.width, self.forms = sep, width, forms
        self.odd: set[int] = set()
        self.text: str | None = None
        encoded = ("\n" + text.strip("\n") + "\n").encode()
        self.bytes = np.frombuffer(encoded, np.uint8)
        is_border = self.bytes == ord("\n")
        if width > 1:
            is_border |= self.bytes == ord(sep)
        self.borders = np.flatnonzero(is_border)
        lines = self.bytes[self.borders[::width]] == ord("\n")
        whole = len(self.borders) % width == (width > 1) and bool(lines.all())
        if not whole or encoded.count(b"\n") != len(lines) or SHARE in text:
            return
        self.has_minus, self.has_exponents = _MINUS in encoded, "e" in text or "E" in text
        self.changed = self.bytes.copy()
        self.kept = np.ones(len(self.bytes), bool)
        for form in set(forms.values()):
            self._undress([place for place, own in forms.items() if own == form], form)
        for sign in {".", ",", *(form.group for form in forms.values())} - {""}:
            self._sign(sign)
        kept = self.changed * self.kept  # what goes is NUL, which no text has
        plain = kept[1:].tobytes().translate(None, b"\0").decode()
        self.text = (
            plain.replace(SHARE, "e-2") if any(f.is_share for f in forms.values()) else plain
        )

    def zeros(self) -> list[int]:
        """The columns with a cell that begins with a zero and another digit."""
        return self._places(self._columns(leading_zeros(self.bytes, self.sep)))

    def _undress(self, places: Sequence[int], form: Form) -> None:
        """Takes away what stands around the numbers of columns, and words for gaps."""
        text = self.bytes
        begins, ends = self._ends_of(places, 0) + 1, self._ends_of(places, 1)
        cells: Any = None
        if not (there := ends > begins).all():
            cells, begins, ends = np.flatnonzero(there), begins[there], ends[there]
        first = text[begins]
        if (spaced := first == ord(" ")).any():
            begins = begins + spaced
            first = text[begins]
        after, before = form.after.encode(), form.before.encode()
        right = ends - begins > len(after) + len(before)
        for offset, code in enumerate(after):
            right &= text[ends - len(after) + offset] == code
        signed = ((first == ord("-")) | (first == ord("+"))).astype(np.intp)
        if self.has_minus:
            long = right.copy()
            for offset, code in enumerate(_MINUS):
                long &= text[np.minimum(begins + offset, ends)] == code
            self.changed[begins[long]] = ord("-")
            self.kept[begins[long] + 1] = self.kept[begins[long] + 2] = False
            signed[long] = 3
        start = begins + signed
        for offset, code in enumerate(before):
            right &= text[np.minimum(start + offset, ends)] == code
        number = np.minimum(start + len(before), ends)
        if before:
            inner = (text[number] == ord("-")) | (text[number] == ord("+"))
            number += inner & (signed == 0)
        is_number = is_digit(text, number)
        if form.decimal is not None:
            is_number |= text[number] == ord(self._byte(form.decimal))
        right &= is_number
        if not right.all():
            wrong = np.flatnonzero(~right)
            columns = np.array(places)[(wrong if cells is None else cells[wrong]) % len(places)]
            self._gaps(begins[wrong], ends[wrong], columns)
            start, ends = start[right], ends[right]
        for offset in range(len(before)):
            self.kept[start + offset] = False
        for offset in range(len(after)):
            self.kept[ends - 1 - offset] = False
        if form.is_share:
            self.changed[ends - 1] = ord(SHARE)
            self.kept[ends - 1] = True

    def _ends_of(self, places: Sequence[int], which: int) -> Positions:
        """The border before (0) or behind (1) each cell of these columns, line by line."""
        last = len(self.borders) - 1
        found = self.borders[which : last + which].reshape(-1, self.width)
        whole = len(places) == self.width
        return found.ravel() if whole else found[:, np.array(places)].ravel()

    def _gaps(self, begins: Positions, ends: Positions, columns: Positions) -> None:
        """Takes away cells that are words for gaps; columns with others are odd."""
        for begin, end, place in zip(begins.tolist(), ends.tolist(), columns.tolist(), strict=True):
            if place in self.odd:
                continue
            cell = self.bytes[begin:end].tobytes().decode().replace(HELD, self.sep)
            if is_missing(cell.strip()):
                self.kept[begin:end] = False
            else:
                self.odd.add(place)

    def _sign(self, sign: str) -> None:
        """Takes a sign of thousands away, or makes a decimal sign a point."""
        code = self._byte(sign).encode()
        found = np.flatnonzero(self.bytes == code[0])
        for offset in range(1, len(code)):
            found = found[self.bytes[found + offset] == code[offset]]
        if not len(found):
            return
        role = np.zeros(self.width, np.int8)
        for place, form in self.forms.items():
            role[place] = 1 if sign == form.decimal else 2 if sign == form.group else 3
        roles = set(role.tolist())
        if sign == "." and roles <= {0, 1}:
            return
        if roles == {1}:
            self.changed[found] = ord(".")
            return
        if roles == {2}:
            self._ungroup(found[self.kept[found]], code)
            return
        columns = self._columns(found)
        of = role[columns]
        if sign == "," and 1 in roles:
            self.changed[found[of == 1]] = ord(".")
        if 3 in roles:
            self.odd.update(self._places(columns[(of == 3) & self.kept[found]]))
        if 2 in roles:
            mine = (of == 2) & self.kept[found]  # not those around the number: 1 234 kg
            self._ungroup(found[mine], code)

    def _ungroup(self, found: Positions, code: bytes) -> None:
        """Takes away these signs of thousands, if each stands before three digits and so on."""
        if not len(found):
            return
        text = self.bytes
        right, count, head = groups_at(text, found, len(code))
        last = text[head - 1] * self.kept[head - 1]
        inner = (last == code[-1]) & (count == 3)
        begins = (text[head] != ord("0")) & (last != code[-1])
        for other in (".", ",", HELD):
            begins &= last != ord(other)
        right &= inner | begins
        self.odd.update(self._places(self._columns(found[~right])))
        for offset in range(len(code)):
            self.kept[found + offset] = False
        if self.has_exponents:  # which no number with groups has
            exponents = np.flatnonzero(((text | 32) == ord("e")) & self.kept)
            both = np.intersect1d(self._cells(found), self._cells(exponents))
            self.odd.update(self._places(both % self.width))

    def _byte(self, sign: str) -> str:
        """The stand-in for a sign in the text: within quotes, HELD for the separator."""
        return HELD if sign == self.sep else sign

    def _columns(self, found: Positions) -> Positions:
        """The column of each of these positions, which increase."""
        columns: Positions = self._cells(found) % self.width
        return columns

    def _cells(self, found: Positions) -> Positions:
        """The cell of each of these positions, counted over all lines."""
        return np.searchsorted(self.borders, found) - 1

    def _places(self, columns: Any) -> list[int]:
        """Each column once."""
        counts = np.bincount(columns, minlength=self.width)
        found: list[int] = np.flatnonzero(counts).tolist()
        return found
