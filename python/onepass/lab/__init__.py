"""The lab: experiments from lecture courses on training deep networks, run with onepass.

``onepass lab`` lists them, ``onepass lab NAME`` runs one: it prints what is claimed, a table and a
verdict, writes a picture, and has exit status 1 where the claim does not hold. Each experiment is a
file of this package, written to be read: it uses the public interface only.

Example:
    >>> from onepass import lab
    >>> len(lab.experiments()) > 10
    True
    >>> outcome = lab.run("momentum", seed=1)
    >>> outcome.holds
    True
"""

from onepass.lab._catalogue import CHAPTERS, Experiment, experiments, find
from onepass.lab._digits import digits, mislabelled
from onepass.lab._lab import Check, Lab, Outcome, Table
from onepass.lab._paths import path
from onepass.lab._run import run

__all__ = [
    "CHAPTERS",
    "Check",
    "Experiment",
    "Lab",
    "Outcome",
    "Table",
    "digits",
    "experiments",
    "find",
    "mislabelled",
    "path",
    "run",
]
