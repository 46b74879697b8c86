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
from collections.abc import Callable
from dataclasses import dataclass

from onepass._suggest import suggestion
from onepass.lab._lab import Lab

CHAPTERS = (
    "optimisation", "step sizes", "initialisation", "normalisation", "regularisation", "dropout",
    "generalisation", "landscape", "data",
)  # fmt: skip
SOURCES = {
    "minnesota-2025": "University of Minnesota, lectures on deep learning, 2025",
    "minnesota-2020": "University of Minnesota, lectures on deep learning, 2020",
    "optimization-3": "lecture “Optimization III”",
    "initialisation": "lecture on initialisation, batch normalisation and the landscape",
    "skoltech": "Skoltech, lectures on deep learning",
}
QUICK_SECONDS = 1.5  # an experiment that takes less runs in every run of the tests


@dataclass(frozen=True)
class Entry:
    """An experiment.

    Attributes:
        name: as in ``onepass lab NAME``.
        code: C01 to C52.
        chapter: one of CHAPTERS.
        title: a line.
        claim: paragraphs, with an empty line between.
        sources: lectures that it is taken from.
        seconds: on one core, about.
        function: gets a `Lab` and returns the verdict.

    Example:
        >>> from onepass import lab
        >>> entry = lab.find("momentum")
        >>> entry.code, entry.chapter
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
    def quick(self) -> bool:
        return self.seconds < QUICK_SECONDS


@functools.cache
def labs() -> tuple[Entry, ...]:
    """All experiments, by chapter and code.

    Example:
        >>> from onepass import lab
        >>> "momentum" in [entry.name for entry in lab.labs()]
        True
    """
    import onepass.lab

    names = [m.name for m in pkgutil.iter_modules(onepass.lab.__path__) if m.name[0] != "_"]
    found = [_entry(name) for name in names]
    return tuple(sorted(found, key=lambda entry: (CHAPTERS.index(entry.chapter), entry.code)))


def _entry(name: str) -> Entry:
    module = importlib.import_module(f"onepass.lab.{name}")
    title, _, claim = inspect.cleandoc(module.__doc__ or "").partition("\n")
    return Entry(
        name.replace("_", "-"), module.CODE, module.CHAPTER, title, claim.strip(),
        tuple(SOURCES[source] for source in module.SOURCES), module.SECONDS, module.run,
    )  # fmt: skip


def find(name: str) -> Entry:
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
    known = {key: entry for entry in labs() for key in (entry.name, entry.code.lower())}
    if wanted not in known:
        names = [entry.name for entry in labs()]
        raise ValueError(
            f"lab: there is no experiment {name!r}, expected a name or code as `onepass lab` "
            f"lists them{suggestion(wanted, names)}"
        )
    return known[wanted]
