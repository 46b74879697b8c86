"""Numbers of a part of a text made plain, over all its bytes at once: $1,200.50 becomes 1200.50."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass.data._cells import is_missing
from onepass.data._forms import Form
from onepass.data._quotes import HELD

Positions = NDArray[np.intp]
SHARE = "\x1e"  # stands for a percent sign, until e-2 does
_MINUS = "\u2212".encode()
_SIGNS = b"+-"


class Plain:
    """A part of a text, whole lines without quotes, whose columns of these forms become plain.

    Attributes:
        odd: columns with a cell that is written otherwise.
        pointed: columns with a point in some cell.
        text: the text, None if some line has another number of cells; right where no column is odd.
    """

    def __init__(self, text: str, sep: str, width: int, forms: Mapping[int, Form]) -> None:
        self.sep, self.width, self.forms = sep, width, forms
        self.odd: set[int] = set()
        self.pointed: Collection[int] = ()
        self.text: str | None = None
        encoded = ("\n" + text.strip("\n") + "\n").encode()
        self.bytes = np.frombuffer(encoded, np.uint8)
        borders = np.flatnonzero((self.bytes == ord(sep)) | (self.bytes == ord("\n")))
        lines = borders[::width]
        whole = len(borders) % width == 1 and bool((self.bytes[lines] == ord("\n")).all())
        if width == 1:
            whole = True
        if not whole or encoded.count(b"\n") != len(lines) or SHARE in text:
            return
        self.borders = borders
        self.changed = self.bytes.copy()
        self.has_minus = _MINUS in encoded
        self.kept = np.ones(len(self.bytes), bool)
        for place, form in forms.items():
            self._undress(place, form)
        self._signs()
        self.text = self.changed[self.kept][1:].tobytes().decode().replace(SHARE, "e-2")

    def _undress(self, place: int, form: Form) -> None:
        """Takes away what stands around the numbers of a column, and words for gaps."""
        text = self.bytes
        begins = self.borders[:-1][place :: self.width] + 1
        ends = self.borders[1:][place :: self.width]
        there = ends > begins
        if not there.all():
            begins, ends = begins[there], ends[there]
        spaced = text[begins] == ord(" ")
        if spaced.any():
            begins = begins + spaced
        after, before = form.after.encode(), form.before.encode()
        right = ends - begins > len(after) + len(before)
        first = ends - len(after)
        for offset, code in enumerate(after):
            right &= text[first + offset] == code
        signed = np.isin(text[begins], list(_SIGNS)).astype(np.intp)
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
        start = np.minimum(start + len(before), ends)
        if before:
            inner = (signed == 0) & np.isin(text[start], list(_SIGNS))
            start = start + inner
        number = text[start] - ord("0") < 10  # unsigned
        if form.decimal is not None:
            number |= text[start] == ord(self._byte(form.decimal))
        right &= number
        wrong = np.flatnonzero(~right)
        for cell in wrong.tolist():
            span = slice(int(begins[cell]), int(ends[cell]))
            if not is_missing(text[span].tobytes().decode().strip()):
                self.odd.add(place)
                return
            self.kept[span] = False
        if len(wrong):
            begins, ends, signed = begins[right], ends[right], signed[right]
        for offset in range(len(before)):
            self.kept[begins + signed + offset] = False
        for offset in range(len(after)):
            self.kept[ends - 1 - offset] = False
        if form.is_share:
            self.changed[ends - 1] = ord(SHARE)
            self.kept[ends - 1] = True

    def _signs(self) -> None:
        """Takes away signs of thousands, and makes decimal signs points."""
        groups = {form.group for form in self.forms.values()} - {""}
        for sign in {".", ","} | groups:
            found = self._found(self._byte(sign).encode())
            if not len(found):
                continue
            columns = self._columns(found)
            if sign == ".":
                self.pointed = set(_unique(columns))
            role = np.zeros(self.width, np.int8)
            for place, form in self.forms.items():
                role[place] = 1 if sign == form.decimal else 2 if sign == form.group else 3
            roles = role[columns]
            if sign == ",":
                self.changed[found[roles == 1]] = ord(".")
            self._ungroup(found[roles == 2], columns[roles == 2], sign)
            roles = roles[self.kept[found]]
            self.odd.update(_unique(columns[self.kept[found]][roles == 3]))

    def _ungroup(self, found: Positions, columns: Positions, sign: str) -> None:
        """Takes away these signs of thousands, if each stands before three digits and so on."""
        if not len(found):
            return
        code = self._byte(sign).encode()
        text = np.concatenate((self.bytes, np.zeros(8, np.uint8)))
        digit = (text - ord("0")) < 10  # unsigned
        behind = found + len(code)
        right = digit[behind] & digit[behind + 1] & digit[behind + 2] & ~digit[behind + 3]
        one, two, three, four = (digit[np.maximum(found - k, 0)] for k in (1, 2, 3, 4))
        count = 1 + two * (1 + three.astype(np.intp))
        right &= one & ~(two & three & four)
        head = found - count  # the first digit before
        last = text[head - 1]
        inner = (last == code[-1]) & (count == 3)
        begins = ~np.isin(last, [*b".,", ord(HELD), code[-1]]) & (text[head] != ord("0"))
        right &= inner | begins
        self.odd.update(_unique(columns[~right]))
        grouped = _unique(columns)
        for offset in range(len(code)):
            self.kept[found + offset] = False
        exponents = np.flatnonzero(((self.bytes | 32) == ord("e")) & self.kept)
        if len(exponents):
            self.odd.update(set(grouped) & set(_unique(self._columns(exponents))))

    def _byte(self, sign: str) -> str:
        """What stands for a sign in the text: within quotes, HELD for the separator."""
        return HELD if sign == self.sep else sign

    def _found(self, code: bytes) -> Positions:
        found = np.flatnonzero(self.bytes == code[0])
        for offset in range(1, len(code)):
            found = found[self.bytes[found + offset] == code[offset]]
        return found

    def _columns(self, found: Positions) -> Positions:
        """The column of each of these positions, which increase."""
        cells = np.searchsorted(self.borders, found) - 1
        columns: Positions = cells % self.width
        return columns


def _unique(places: Iterable[Any]) -> list[int]:
    return [int(place) for place in np.unique(np.asarray(places))]
