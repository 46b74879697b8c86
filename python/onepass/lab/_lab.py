"""What an experiment is given: a seed, and places for its table, its picture and its checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onepass import _numbers as numbers
from onepass._figures import new_figure

SEEDS = 2**32  # experiments take multiples of a seed, which then fit 64 bits
PANEL = (4.8, 3.6)  # inches, of one pair of axes


@dataclass(frozen=True)
class Table:
    """Rows under names of columns.

    Attributes:
        columns: their names.
        rows: as many cells each, words or numbers.
        title: may be empty.

    Example:
        >>> from onepass import lab
        >>> lab.run("momentum").tables[0].columns
        ('αλ', 'β', '|σ|', '√β')
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    title: str = ""


@dataclass(frozen=True)
class Check:
    """One line of the claim.

    Attributes:
        claim: what was expected.
        holds: whether it did.
        seen: the number that decided, as text.

    Example:
        >>> from onepass import lab
        >>> lab.run("momentum").checks[1]
        Check(claim='α = 1/λ without momentum is there in one step', holds=True, seen='')
    """

    claim: str
    holds: bool
    seen: str = ""


@dataclass
class Outcome:
    """What an experiment has shown.

    Attributes:
        name, seed: of the experiment, of the run.
        tables, checks: what was measured, and what of the claim holds.
        verdict: a sentence or two, after “Not shown:” where a check fails.
        figure: of Matplotlib, or None.

    Example:
        >>> from onepass import lab
        >>> outcome = lab.run("momentum")
        >>> outcome.holds, len(outcome.checks)
        (True, 6)
    """

    name: str
    seed: int
    tables: list[Table] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    verdict: str = ""
    figure: Any = None

    @property
    def holds(self) -> bool:
        """Whether all checks hold."""
        return all(check.holds for check in self.checks)


class Lab:
    """The experiment's side of a run.

    Args:
        name: of the experiment.
        seed: of all that is random in it, below 2**32.

    Raises:
        TypeError: the seed is not a whole number. ValueError: it is not in that range.

    Example:
        >>> from onepass import lab
        >>> own = lab.Lab("own", seed=3)
        >>> own.check("a mean of noise is small", abs(own.rng().normal(size=900).mean()) < 0.2)
        >>> own.outcome.holds
        True
    """

    def __init__(self, name: str, seed: int = 0) -> None:
        self.seed = numbers.integer("lab", "seed", seed, 0, SEEDS)
        self.outcome = Outcome(name, self.seed)

    def rng(self, stream: int = 0) -> np.random.Generator:
        """Random numbers of the seed; another ``stream`` has others."""
        return np.random.default_rng([self.seed, stream])

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
        """A table of what was measured."""
        content = tuple(tuple(row) for row in rows)
        for row in content:
            if len(row) != len(columns):
                raise ValueError(f"lab: a row has {len(row)} cells, expected {len(columns)}")
        self.outcome.tables.append(Table(tuple(columns), content, title))

    def figure(self, rows: int = 1, columns: int = 1, **options: Any) -> Any:
        """Axes of the picture, as Matplotlib's ``Figure.subplots`` gives them.

        Args:
            options: more arguments of ``Figure.subplots``.
        """
        if self.outcome.figure is not None:
            raise ValueError("lab: the experiment has a picture, expected one call of figure")
        figure = self.outcome.figure = new_figure(PANEL[0] * columns)
        figure.set_figheight(PANEL[1] * rows)
        return figure.subplots(rows, columns, **options)

    def check(self, claim: str, holds: Any, seen: object = "") -> None:
        """One line of the claim; ``seen`` is the number that decided."""
        self.outcome.checks.append(Check(claim, bool(holds), str(seen)))
