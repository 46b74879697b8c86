"""A column of a table as an encoding takes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Feature:
    """A column of the file: what it holds, and what fills or encodes it.

    Attributes:
        name: of the column.
        kind: ``"number"`` or ``"category"``.
        unit: the unit that the numbers carry in the file, such as ``%`` or ``kg``; "" for none.
        fill: the number for a missing cell; None where a missing cell is an error.
        gaps: the share of missing cells in the training part.
        categories: the words that have a column of their own in x; "" is a missing cell.

    Example:
        >>> from onepass.data import Feature
        >>> Feature("town", "category", categories=("Oslo", "Rome")).names
        ('town=Oslo', 'town=Rome')
    """

    name: str
    kind: str
    unit: str = ""
    fill: float | None = None
    gaps: float = 0.0
    categories: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns in x."""
        if self.kind == "number":
            return (self.name,)
        return tuple(f"{self.name}={word or '(missing)'}" for word in self.categories)
