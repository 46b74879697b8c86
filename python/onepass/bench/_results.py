"""Files of results as `compare` and the page read them: of this version, and of earlier ones.

The first format has no "format": medians of seconds without samples, a copy as the limit; on a GPU
microseconds, and "name" for the row.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onepass.bench._row import UsageError
from onepass.bench._table import FORMAT

# Of a machine, what makes times comparable; a file of an earlier version lacks some.
SAME = ("cpu", "cpus", "caches", "level", "gpu", "clock", "malloc")

Key = tuple[str, str, str, int, str]  # device, row, dtype, threads, label


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
    skipped: dict[Key, str]
    failed: set[Key] = dataclasses.field(default_factory=set)  # of what was skipped

    @property
    def waiting(self) -> float:
        """Tasks for each processor when the run began; 0 if no more than two, or not known."""
        load, processors = self.machine.get("load"), self.machine.get("cpus")
        each = load / processors if load and processors else 0.0
        return each if each > 2 else 0.0


def read(source: str | os.PathLike[str] | Mapping[str, Any]) -> Results:
    """A file, or its content."""
    if isinstance(source, Mapping):
        return _parsed(source, "these results")
    path = Path(source)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as a file of --json: {error}") from None
    return _parsed(content, str(path))


def _parsed(content: Any, name: str) -> Results:
    try:
        version = content.get("format", 1)
        if version not in (1, FORMAT):
            raise UsageError(
                f"{name} has format {version}, this version of onepass reads 1 and {FORMAT}"
            )
        machine = dict(content["machine"])
        found = Results(name, machine, {}, {})
        for result in content["results"]:
            _add(found, result, "cuda" if "gpu" in machine else "cpu")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{name} cannot be read as a file of --json: {error!r}") from None
    return found


def _add(found: Results, result: dict[str, Any], device: str) -> None:
    place = (
        result.get("device", device),
        result.get("row") or result["name"],
        result.get("dtype", "float32"),
        int(result.get("threads", 1)),
    )
    if "skipped" in result:
        found.skipped[(*place, "onepass")] = str(result["skipped"])
        if result.get("wrong"):
            found.failed.add((*place, "onepass"))
        return
    seconds = _visits(result)
    ours = [label for label in seconds if label.split()[0] == "onepass"]
    beside = {label: s for label, s in seconds.items() if label not in ours}
    for label in ours:
        found.entries[(*place, label)] = Entry(
            seconds[label],
            beside,
            bool(result.get("wrong")),
            "samples" not in result,
            found.waiting,
        )


def _visits(result: dict[str, Any]) -> dict[str, Visits]:
    seconds, counts = _seconds(result), result.get("visits", {})
    return {label: _parts(each, counts.get(label, [len(each)])) for label, each in seconds.items()}


def _parts(seconds: list[float], counts: list[int]) -> Visits:
    if sum(counts) != len(seconds) or min(counts) < 1:
        raise ValueError(f"visits of {counts} samples, of {len(seconds)}")
    left = iter(seconds)
    return [list(itertools.islice(left, count)) for count in counts]


def _seconds(result: dict[str, Any]) -> dict[str, list[float]]:
    if "samples" in result:
        found = {label: [float(s) for s in each] for label, each in result["samples"].items()}
    elif "us" in result:
        found = {label: [float(us) * 1e-6] for label, us in result["us"].items()}
    else:
        found = {label: [float(s)] for label, s in result["seconds"].items()}
    if any(not each or not all(0 < s < math.inf for s in each) for each in found.values()):
        raise ValueError("a time is not a number > 0")
    return found


def check_same_machine(old: Results, new: Results) -> None:
    """UsageError where times of one say nothing about times of the other."""
    for name in SAME:
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
