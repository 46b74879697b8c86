"""Which experiments there are: every file of this package without an underscore is one.

An experiment's file has a docstring, whose first line is its title and whose rest says what is
claimed, the constants CODE, CHAPTER, SOURCES and SECONDS, and a function ``run(lab)``, which
returns the verdict.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from onepass._suggest import suggestion
from onepass.lab._lab import Lab
from onepass.lab._sources import cited

CHAPTERS = (
    "optimisation", "step sizes", "initialisation", "normalisation", "regularisation", "dropout",
    "generalisation", "landscape", "data",
)  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """What there is to run.

    Attributes:
        name: as in ``onepass lab NAME``.
        code: C01 to C52.
        chapter: one of CHAPTERS.
        title: a line.
        claim: paragraphs, with an empty line between.
        sources: papers, then the lectures that it is taken from.
        seconds: on one core, about.
        function: gets a `Lab` and returns the verdict.

    Example:
        >>> from onepass import lab
        >>> experiment = lab.find("momentum")
        >>> experiment.code, experiment.chapter
        ('C05', 'optimisation')
    """

    name: str
    code: str
    chapter: str
    title: str
    claim: str
    sources: tuple[str, ...]
    seconds: float
    function: Callable[[Lab], str]

    @property
    def paragraphs(self) -> list[str]:
        """The claim's paragraphs, a line each."""
        return [" ".join(p.split()) for p in self.claim.split("\n\n") if p]


def by_chapter(some: Iterable[Experiment]) -> dict[str, list[Experiment]]:
    """The experiments of each chapter that has any, in their order."""
    found: dict[str, list[Experiment]] = {}
    for experiment in some:
        found.setdefault(experiment.chapter, []).append(experiment)
    return {chapter: found[chapter] for chapter in CHAPTERS if chapter in found}


@functools.cache
def experiments() -> tuple[Experiment, ...]:
    """All experiments, by chapter and code.

    Example:
        >>> from onepass import lab
        >>> "momentum" in [experiment.name for experiment in lab.experiments()]
        True
    """
    import onepass.lab

    names = [m.name for m in pkgutil.iter_modules(onepass.lab.__path__) if m.name[0] != "_"]
    found = [_experiment(name) for name in names]
    return tuple(sorted(found, key=lambda e: (CHAPTERS.index(e.chapter), e.code)))


def _experiment(name: str) -> Experiment:
    module = importlib.import_module(f"onepass.lab.{name}")
    title, _, claim = inspect.cleandoc(module.__doc__ or "").partition("\n")
    return Experiment(
        name.replace("_", "-"), module.CODE, module.CHAPTER, title, claim.strip(),
        cited(module.SOURCES), module.SECONDS, module.run,
    )  # fmt: skip


def find(name: str) -> Experiment:
    """The experiment of this name or code.

    Args:
        name: in any case; _ may be for -.

    Raises:
        ValueError: there is none; the message has the nearest name.

    Example:
        >>> from onepass import lab
        >>> lab.find("C05").name
        'momentum'
    """
    wanted = name.lower().replace("_", "-")
    known = {key: e for e in experiments() for key in (e.name, e.code.lower())}
    if wanted not in known:
        names = [experiment.name for experiment in experiments()]
        raise ValueError(
            f"lab: there is no experiment {name!r}, expected a name or code as `onepass lab` "
            f"lists them{suggestion(wanted, names)}"
        )
    return known[wanted]
