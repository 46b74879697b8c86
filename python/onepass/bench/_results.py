"""Files of results as `compare` and the page read them: of this version, and of earlier ones.

The first format has no "format": medians of seconds without samples, a copy as the limit; on a GPU
microseconds, and "name" for the row.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onepass.bench import _format, _table
from onepass.bench._row import UsageError, is_ours

# Of a machine, what makes times comparable; a file of an earlier version lacks some.
ALIKE = ("cpu", "cpus", "caches", "level", "gpu", "clock", "malloc")

Place = tuple[str, str, str, int]  # device, row, dtype, threads
Key = tuple[str, str, str, int, str]  # and the label of one of our functions


Visits = list[list[float]]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One of our functions in a file, and what was timed beside it, by label: seconds, a list for
    each visit to the row."""

    ours: Visits
    beside: dict[str, Visits]
    wrong: bool = False
    medians: bool = False  # there are no samples
    waiting: float = 0.0  # tasks for each processor, of a machine that did other work meanwhile

    @property
    def seconds(self) -> float:
        """The median of ours."""
        return statistics.median(itertools.chain.from_iterable(self.ours))


@dataclasses.dataclass(frozen=True)
class Results:
    """A file."""

    name: str
    machine: dict[str, Any]
    entries: dict[Key, Entry]
    skipped: dict[Place, str]
    failed: set[Place] = dataclasses.field(default_factory=set)  # of what was skipped

    @property
    def waiting(self) -> float:
        """Tasks for each processor when the run began; 0 if no more than two, or not known."""
        each = _table.load_each(self.machine)
        return each if each > 2 else 0.0


def read(source: str | os.PathLike[str] | Mapping[str, Any]) -> Results:
    """A file, or its content."""
    if isinstance(source, Mapping):
        return _parsed(dict(source), "these results")
    return _parsed(content_of(source), os.fspath(source))


def content_of(path: str | os.PathLike[str]) -> Any:
    """Of a file of JSON, as it is.

    Raises:
        UsageError: there is none.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {os.fspath(path)}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        name = os.fspath(path)
        raise UsageError(f"{name} cannot be read as a file of --json: {error}") from None


def _parsed(content: Any, name: str) -> Results:
    _format.check(content, name)
    machine = content["machine"]
    found = Results(name, machine, {}, {})
    for result in content["results"]:
        _add(found, result, "cuda" if "gpu" in machine else "cpu")
    return found


def _add(found: Results, result: dict[str, Any], device: str) -> None:
    place = (
        result.get("device", device),
        result.get("row") or result["name"],
        result.get("dtype", "float32"),
        result.get("threads", 1),
    )
    wrong = result.get("wrong", False)
    if "skipped" in result:
        found.skipped[place] = result["skipped"]
        if wrong:
            found.failed.add(place)
        return
    medians = "samples" not in result
    seconds = _visits(result)
    ours = [label for label in seconds if is_ours(label)]
    beside = {label: s for label, s in seconds.items() if label not in ours}
    for label in ours:
        entry = Entry(seconds[label], beside, wrong, medians, found.waiting)
        found.entries[(*place, label)] = entry


def _visits(result: dict[str, Any]) -> dict[str, Visits]:
    seconds, counts = _seconds(result), result.get("visits", {})
    return {label: _parts(each, counts.get(label, [len(each)])) for label, each in seconds.items()}


def _parts(seconds: list[float], counts: list[int]) -> Visits:
    left = iter(seconds)
    return [list(itertools.islice(left, count)) for count in counts]


def _seconds(result: dict[str, Any]) -> dict[str, list[float]]:
    if "samples" in result:
        return {label: list(map(float, each)) for label, each in result["samples"].items()}
    if "us" in result:
        return {label: [us * 1e-6] for label, us in result["us"].items()}
    return {label: [float(s)] for label, s in result["seconds"].items()}


def check_same_machine(old: Results, new: Results) -> None:
    """UsageError where times of one say nothing about times of the other."""
    for name in ALIKE:
        a, b = old.machine.get(name), new.machine.get(name)
        both = name in old.machine and name in new.machine
        if a != b and (both or name in ("gpu", "clock")):
            raise UsageError(
                f"{old.name} and {new.name} were not measured alike: {name} is {_text(a)} and "
                f"{_text(b)}; --across-machines compares their ratios"
            )


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k} {v}" for k, v in value.items()) or "not known"
    return "absent" if value is None else repr(value)
