"""``onepass bench compare``: which rows became slower from one file of results to another.

Times of two runs differ by more than the code: clocks, neighbours on the host, where the arrays
lie. So a row's time is compared beside what was timed in turn with it, the limit of memory and the
rivals, and a difference counts if it is larger than the noise of all of these samples.

    x    of a function in a run: the mean of the logarithms of the faster half of its samples.
         Disturbances only ever add time, and this half has few of them.
    d    new x - old x; of ours, and of each function beside it
    m    what the machine changed: the mean of the d beside ours, each weighted by 1 / variance,
         and of the median d of all rows, weighted as uncertain by MACHINE
    change = d of ours - m

A row is SLOWER if its change is more than LEAST and more than its noise: 1.3 standard deviations,
and 2.5 where those are so large that 10 % could not be told. Variances are those of x when the
samples are drawn again with replacement, plus PLACE² for what differs between runs and not between
samples, such as the addresses of arrays; on a busy machine plus the square of WAITING times the
tasks for each processor. Of functions beside ours that disagree, they are as large as that
disagreement.
tests/test_bench_compare.py counts how often the rule is right.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onepass import _console
from onepass.bench._options import Parser
from onepass.bench._results import Entry, Key, Results, check_same_machine, read
from onepass.bench._row import UsageError

LEAST = math.log(1.05)
NOISE, CERTAIN = 1.3, 2.5
TELLING = math.log(1.08)  # noise with which 10 % can be told
PLACE, WAITING = 0.006, 0.04
MACHINE = 0.08
MANY = 5  # rows whose median says something; of fewer, the machine is taken to be as it was
# A machine that changed by more than this, beside a row, proves nothing about the row by itself.
PLAUSIBLE = math.log(1.25)
# Of a median whose samples are not there.
MEDIAN = 0.04
DRAWS = 200

SLOWER, FASTER, SAME, WRONG = "SLOWER", "FASTER", "SAME", "WRONG"
ORDER = (WRONG, SLOWER, FASTER, SAME)


class Level(NamedTuple):
    """Of a function in a run, or of a difference: x and its variance."""

    x: float
    variance: float

    def __sub__(self, other: Level) -> Level:
        return Level(self.x - other.x, self.variance + other.variance)


@dataclasses.dataclass(frozen=True)
class Change:
    """A row at one number of threads, in both files.

    old, new  median seconds
    change    new time over old time - 1, after what the machine changed
    noise     a change smaller than this may be chance
    """

    row: str
    threads: int
    device: str
    dtype: str
    label: str
    old: float
    new: float
    change: float
    noise: float
    verdict: str

    @property
    def name(self) -> str:
        """The row as the table has it."""
        more = [self.label] if self.label != "onepass" else []
        more += [self.dtype] if self.dtype != "float32" else []
        return " ".join([self.row, *more])


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` found: the changed rows first."""

    changes: list[Change]
    only_old: list[str]
    only_new: list[str]
    notes: list[str]

    @property
    def slower(self) -> list[Change]:
        """Rows that are slower, or wrong."""
        return [c for c in self.changes if c.verdict in (SLOWER, WRONG)]

    def __str__(self) -> str:
        return "\n".join(_lines(self))


Source = str | os.PathLike[str] | Mapping[str, Any]


def compare(old: Source, new: Source, *, across_machines: bool = False) -> Comparison:
    """Which rows became slower, with the noise taken into account: ``onepass bench compare``.

    A row's time is compared beside what was timed in turn with it, the limit of memory and the
    rivals. It is SLOWER or FASTER if it changed by more than 5 % and by more than the noise of the
    samples (``bench/README.md`` has the rule), and WRONG if the new result is.

    Args:
        old: a file of ``onepass bench --json``, or its content; those of earlier versions too.
        new: another one.
        across_machines: compare files of different machines, by their ratios alone.

    Returns:
        ``changes``, a `Change` for each row and number of threads, and ``only_old``, ``only_new``:
        rows of one file. ``print`` shows the table.

    Raises:
        ValueError: a file cannot be read, or the files are of different machines.

    Example:
        >>> from onepass import bench
        >>> machine = {"cpu": "a processor"}
        >>> def file(ms):
        ...     samples = {"onepass": ms, "limit": [1.0, 1.01, 1.02]}
        ...     row = {"row": "relu 1024", "threads": 1, "samples": samples}
        ...     return {"format": 2, "machine": machine, "results": [row]}
        >>> found = bench.compare(file([2.0, 2.01, 2.02]), file([2.6, 2.61, 2.62]))
        >>> found.changes[0].verdict
        'SLOWER'
    """
    try:
        before, after = read(old), read(new)
        if not across_machines:
            check_same_machine(before, after)
    except UsageError as error:
        raise ValueError(f"compare: {error}") from None
    return _compared(before, after, across_machines)


def _compared(old: Results, new: Results, across_machines: bool) -> Comparison:
    both = [key for key in old.entries if key in new.entries]
    dropped = _other_versions(old.machine, new.machine)
    beside = {
        key: _beside(old.entries[key], new.entries[key], dropped) for key in both
    }  # fmt: skip
    every = [level.x for levels in beside.values() for level in levels]
    machine = statistics.median(every) if every and len(both) >= MANY else 0.0
    changes = [
        _change(key, old.entries[key], new.entries[key], beside[key], machine, across_machines)
        for key in both
    ]
    changes.sort(key=lambda change: ORDER.index(change.verdict))
    return Comparison(
        changes, _rest(old, new), _rest(new, old), list(_notes(old, new, machine, dropped))
    )


def _change(
    key: Key, old: Entry, new: Entry, beside: list[Level], machine: float, across: bool
) -> Change:
    ours = level(new) - level(old)
    change = ours - machine_change(beside, machine, across)
    x = change.x
    if not across and abs(ours.x - change.x - machine) > PLAUSIBLE:
        alone = ours.x - machine
        x = 0.0 if x * alone <= 0 else min(x, alone, key=abs)
    noise = _noise(change)
    verdict = SAME if abs(x) <= max(LEAST, noise) else SLOWER if x > 0 else FASTER
    device, row, dtype, threads, label = key
    return Change(
        row, threads, device, dtype, label,
        statistics.median(old.ours), statistics.median(new.ours), math.expm1(x), math.expm1(noise),
        WRONG if new.wrong else verdict,
    )  # fmt: skip


def _noise(change: Level) -> float:
    deviation = math.sqrt(change.variance)
    return (NOISE if NOISE * deviation <= TELLING else CERTAIN) * deviation


def level(entry: Entry, label: str | None = None) -> Level:
    """Of our function, or of one beside it."""
    samples = entry.ours if label is None else entry.beside[label]
    logs = np.log(np.sort(np.asarray(samples, np.float64)))
    x = float(_faster_half(logs[None])[0])
    place = max(PLACE, WAITING * entry.waiting) ** 2 / 2
    if entry.medians or len(logs) < 2:
        return Level(x, MEDIAN**2 + place)
    rng = np.random.default_rng(len(logs))  # the same draws for the same file
    drawn = np.sort(logs[rng.integers(0, len(logs), (DRAWS, len(logs)))], axis=1)
    again = _faster_half(drawn)
    return Level(x, float(again.var()) * len(logs) / (len(logs) - 1) + place)


def _faster_half(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of sorted rows."""
    mean: NDArray[np.float64] = logs[:, : (logs.shape[1] + 1) // 2].mean(axis=1)
    return mean


def _beside(old: Entry, new: Entry, dropped: frozenset[str]) -> list[Level]:
    """What the functions beside ours changed."""
    return [
        level(new, label) - level(old, label)
        for label in old.beside
        if label in new.beside and label.split()[0] not in dropped
    ]


def machine_change(beside: Sequence[Level], machine: float, across: bool) -> Level:
    """m, from what was timed beside the row."""
    known = list(beside)
    if not (across and beside):
        known.append(Level(machine, MACHINE**2))
    weights = [1 / each.variance for each in known]
    x = sum(w * each.x for w, each in zip(weights, known, strict=True)) / sum(weights)
    apart = sum(w * (each.x - x) ** 2 for w, each in zip(weights, known, strict=True))
    disagreement = max(1.0, apart / max(1, len(known) - 1))
    return Level(x, disagreement / sum(weights))


LIBRARIES = (
    "torch",
    "jax",
    "optax",
    "numpy",
    "thinc",
    "sklearn",
    "keras",
    "bitsandbytes",
    "onednn",
)


def _other_versions(old: dict[str, Any], new: dict[str, Any]) -> frozenset[str]:
    """Libraries that are not the same in both runs: they say nothing about the machine."""
    both = (name for name in LIBRARIES if name in old and name in new)
    return frozenset(name for name in both if old[name] != new[name])


def _rest(one: Results, other: Results) -> list[str]:
    """Rows that the other file lacks, with the reason where one is known."""
    found = []
    for key in one.entries:
        if key in other.entries:
            continue
        why = other.skipped.get(key)
        found.append(f"{key[1]} ({_threads(key[3])})" + (f": {why}" if why else ""))
    return list(dict.fromkeys(found))


def _threads(count: int) -> str:
    return f"{count} thread" + "s" * (count != 1)


def _notes(
    old: Results, new: Results, machine: float, dropped: frozenset[str]
) -> Iterator[str]:  # fmt: skip
    if abs(machine) > LEAST:
        more = "more" if machine > 0 else "less"
        yield (
            f"What was timed beside the rows takes {abs(math.expm1(machine)):.0%} {more} time than "
            "before: the machine changed, and changes are given after that."
        )
    for name in sorted(dropped):
        yield f"{name} {old.machine[name]} became {new.machine[name]}: it is left out."
    for results in (old, new):
        if results.waiting:
            yield (
                f"{results.name}: the load was {results.machine['load']:.0f} on "
                f"{results.machine['cpus']} processors; only large differences can be told."
            )
        if any(entry.medians for entry in results.entries.values()):
            yield f"{results.name} has medians without samples: their noise is taken as 4 %."


def _lines(found: Comparison) -> Iterator[str]:
    if found.changes:
        width = max(len(change.name) for change in found.changes)
        yield f"{'row':{width}}  threads {'old':>10} {'new':>10}   change   noise"
        for c in found.changes:
            yield (
                f"{c.name:{width}}  {c.threads:7} {_time(c.old):>10} {_time(c.new):>10} "
                f"{100 * c.change:+7.1f}% {100 * c.noise:6.1f}%  {c.verdict}"
            )
    for title, rows in (("old", found.only_old), ("new", found.only_new)):
        for row in rows:
            yield f"only in the {title} file: {row}"
    yield from found.notes
    count = dict.fromkeys(ORDER, 0)
    for change in found.changes:
        count[change.verdict] += 1
    yield ", ".join(f"{count[v]} {v}" for v in ORDER if count[v] or v in (SLOWER, FASTER, SAME))


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return (
                f"{seconds / scale:.3g} {unit}"
                if seconds < 100 * scale
                else (f"{seconds / scale:.0f} {unit}")
            )
    return f"{seconds * 1e9:.0f} ns"


# ---- the command


def main(arguments: Iterable[str]) -> int:
    """``onepass bench compare``; returns its exit status."""
    parser = Parser(
        prog="onepass bench compare", allow_abbrev=False,
        description="Say which rows became FASTER or SLOWER from one file of --json to another, "
        "with the noise of both taken into account. Exit status 1: a row is SLOWER, or wrong.",
    )  # fmt: skip
    parser.add_argument("old", metavar="OLD", help="a file of `onepass bench --json`")
    parser.add_argument("new", metavar="NEW")
    parser.add_argument("--only", type=str, default="", metavar="PATTERN", help="rows that match")
    parser.add_argument(
        "--across-machines", action="store_true", help="compare ratios of different machines"
    )
    try:
        options = parser.parse_args(list(arguments))
        old, new = (_matching(read(path), options.only) for path in (options.old, options.new))
        if not options.across_machines:
            check_same_machine(old, new)
        found = _compared(old, new, options.across_machines)
        if not found.changes:
            raise UsageError(f"{old.name} and {new.name} have no row in common")
    except UsageError as error:
        _console.write(f"onepass bench compare: {error}\n", sys.stderr)
        return 2
    _console.write(f"{found}\n", sys.stdout)
    return int(bool(found.slower))


def _matching(results: Results, only: str) -> Results:
    try:
        pattern = re.compile(only)
    except re.error as error:
        raise UsageError(f"--only {only!r} is not a regular expression: {error}") from None
    entries = {key: e for key, e in results.entries.items() if pattern.search(key[1])}
    if only and not entries:
        raise UsageError(f"--only {only!r} matches no row of {results.name}")
    skipped = {key: why for key, why in results.skipped.items() if pattern.search(key[1])}
    return dataclasses.replace(results, entries=entries, skipped=skipped)
