"""An entry of the lists of planted mistakes."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """A mistake that tests must see.

    name     short, unique: `run.py NAME` runs it
    file     from the root of the tree
    find     text that occurs exactly once there
    put      what replaces it
    tests    of these tests at least one must fail; arguments of pytest
    """

    name: str
    file: str
    find: str
    put: str
    tests: tuple[str, ...]
