"""How the text of a table is read: options that hold for every file of a kind."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from onepass import _numbers as numbers
from onepass._suggest import suggestion
from onepass.data import _na_values


@dataclass(frozen=True)
class Reading:
    """The options of `read_table` that say how a file is read; None for what the file shows.

    A run keeps them, and its command line has an option for each. A new one takes a field and its
    check here, an argument of `read_table`, and an option in ``cli/_parser.py``.
    """

    sep: str | None = None
    decimal: str | None = None
    header: bool | None = None
    encoding: str | None = None
    na_values: Sequence[str | float] | None = None

    @classmethod
    def checked(cls, owner: str, given: Mapping[str, Any]) -> Reading:
        """From options as users give them.

        Raises:
            TypeError, ValueError: an option that there is not, or that cannot be.
        """
        for name in given:
            if name not in READING:
                raise TypeError(
                    f"{owner}: unknown option {name!r}, expected {', '.join(READING)}"
                    f"{suggestion(name, READING)}"
                )
        found = cls(**given)
        sep, header = found.sep, found.header
        if sep is not None and not (isinstance(sep, str) and re.fullmatch(r'[^\w\s".]|\t', sep)):
            raise ValueError(
                f"{owner}: 'sep' is {sep!r}, expected one character that is not a space, letter or "
                "digit, such as ',', ';' or '\\t'"
            )
        if found.decimal is not None:
            numbers.one_of(owner, "decimal", found.decimal, (".", ","))
        if header is not None:
            header = numbers.flag(owner, "header", header)
        return replace(found, header=header, na_values=_na_values.check(owner, found.na_values))

    def after(self, before: Mapping[str, Any]) -> Reading:
        """These options where they say something, else those of ``before``; gaps add up."""
        own = {name: value for name, value in asdict(self).items() if value is not None}
        merged = {**before, **own}
        merged["na_values"] = [*(before.get("na_values") or ()), *(self.na_values or ())] or None
        return Reading(**merged)


READING = tuple(field.name for field in fields(Reading))
