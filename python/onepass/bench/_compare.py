"""``onepass bench compare``: which rows became slower from one file of results to another.

Times of two runs differ by more than the code: clocks, neighbours on the host, where the arrays
lie. So a row's time is compared beside what was timed in turn with it, the limit of memory and the
rivals, and a difference counts if it is larger than the noise of all of these samples
(`_changes.py` has the rule). A row is SLOWER or FASTER if its change is more than 5 % and more than
its noise. A row that is neither, of which 10 % would not be found either, says so.
tests/test_bench_compare.py counts how often the rule is right.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from onepass import _console
from onepass.bench import _changes
from onepass.bench._changes import LEAST, MEDIAN, Machine
from onepass.bench._options import Parser
from onepass.bench._results import Entry, Key, Place, Results, check_same_machine, read
from onepass.bench._row import UsageError
from onepass.bench._table import time_text

SLOWER, FASTER, SAME, WRONG = "SLOWER", "FASTER", "SAME", "WRONG"
ORDER = (WRONG, SLOWER, FASTER, SAME)
TENTH = 0.1  # a change that ought to be found


@dataclasses.dataclass(frozen=True)
class Change:
    """A row at one number of threads, in both files.

    old, new  median seconds
    change    new time over old time - 1, after what the machine changed
    noise     a change smaller than this may be chance
    sees      a change of this size is found in 95 of 100 comparisons: SAME rules out no smaller one
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
    sees: float
    verdict: str

    @property
    def name(self) -> str:
        """The row as the table has it."""
        return _name(self.row, self.dtype, self.label)

    @property
    def blind(self) -> bool:
        """Whether it is SAME, and the noise would hide a change of 10 %."""
        return self.verdict == SAME and self.sees > TENTH


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` found: the changed rows first.

    failed  rows that raised an error in the new run, and what it said
    wrong   rows that are wrong in the new run, and were not measured in the old one
    mended  rows that raised an error or were wrong in the old run, and are right in the new one
    """

    changes: list[Change]
    only_old: list[str]
    only_new: list[str]
    notes: list[str]
    failed: list[str] = dataclasses.field(default_factory=list)
    wrong: list[str] = dataclasses.field(default_factory=list)
    mended: list[str] = dataclasses.field(default_factory=list)

    @property
    def slower(self) -> list[Change]:
        """Rows that are slower, or wrong."""
        return [c for c in self.changes if c.verdict in (SLOWER, WRONG)]

    @property
    def blind(self) -> list[Change]:
        """Rows that are SAME, of which a change of 10 % would not be found."""
        return [c for c in self.changes if c.blind]

    def __str__(self) -> str:
        return "\n".join(_lines(self))


Source = str | os.PathLike[str] | Mapping[str, Any]


def compare(old: Source, new: Source, *, across_machines: bool = False) -> Comparison:
    """Which rows became slower, with the noise taken into account: ``onepass bench compare``.

    A row's time is compared beside what was timed in turn with it, the limit of memory and the
    rivals. It is SLOWER or FASTER if it changed by more than 5 % and by more than the noise of the
    samples (``bench/README.md`` has the rule), and WRONG if the new result is. A row that is SAME
    may still have changed by less than its ``sees``.

    Args:
        old: a file of ``onepass bench --json``, or its content; those of earlier versions too.
        new: another one.
        across_machines: compare files of different machines, by their ratios alone.

    Returns:
        ``changes``, a `Change` for each row and number of threads; ``failed``, ``wrong`` and
        ``mended``: rows that raised an error in the new run, are wrong without an old time, or are
        right again; ``only_old``, ``only_new``: rows of one file. ``print`` shows the table.

    Raises:
        ValueError: a file cannot be read, or the files are of different machines.
        TypeError: ``old`` or ``new`` is neither a path nor the content of a file.

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
    for name, source in (("old", old), ("new", new)):
        if not isinstance(source, str | os.PathLike | Mapping):
            raise TypeError(
                f"compare: {name!r} is {source!r}, expected a file of --json, or its content"
            )
    try:
        before, after = read(old), read(new)
        if not across_machines:
            check_same_machine(before, after)
    except UsageError as error:
        raise ValueError(f"compare: {error}") from None
    return _compared(before, after, across_machines)


def _compared(old: Results, new: Results, across: bool) -> Comparison:
    both = [key for key in old.entries if key in new.entries]
    dropped = _other_versions(old, new)
    pairs = {
        key: _changes.pair(old.entries[key], new.entries[key], dropped.keys()) for key in both
    }  # fmt: skip
    machine = _changes.learn(list(pairs.values()), across)
    changes = [
        _change(key, old.entries[key], new.entries[key], _changes.change(pair, machine, across))
        for key, pair in pairs.items()
    ]
    changes.sort(key=lambda change: ORDER.index(change.verdict))
    notes = list(_notes(old, new, machine, set(dropped.values())))
    failed = [
        _described(place, new) + ("; in the old file too" if place in old.failed else "")
        for place in new.skipped
        if place in new.failed
    ]
    wrong = [key for key, e in new.entries.items() if e.wrong and key not in old.entries]
    places = dict.fromkeys(key[:4] for key in wrong)
    return Comparison(
        changes,
        _rest(old, new),
        _rest(new, old, without=wrong),
        notes,
        failed,
        [_described(place, new) for place in places],
        list(_mended(old, new)),
    )


def _change(key: Key, old: Entry, new: Entry, change: _changes.Level) -> Change:
    noise = _changes.noise(change)
    verdict = SAME if abs(change.x) <= max(LEAST, noise) else SLOWER if change.x > 0 else FASTER
    device, row, dtype, threads, label = key
    return Change(
        row, threads, device, dtype, label,
        old.seconds, new.seconds,
        math.expm1(change.x), math.expm1(noise), math.expm1(_changes.sees(change)),
        WRONG if new.wrong else verdict,
    )  # fmt: skip


def _other_versions(old: Results, new: Results) -> dict[str, str]:
    """Labels of functions that say nothing about the machine: they run in a library that is not of
    the same version in both runs, which is the value."""
    from onepass.bench._peers import LIBRARIES, libraries_of

    a, b = old.machine, new.machine
    other = {n for n in LIBRARIES if a.get(n) and b.get(n) and a[n] != b[n]}
    labels = {label for entry in old.entries.values() for label in entry.beside}
    of = {label: {"numpy"} if label == "products" else libraries_of(label) for label in labels}
    return {label: min(names & other) for label, names in of.items() if names & other}


def _rest(one: Results, other: Results, without: Sequence[Key] = ()) -> list[str]:
    """Rows that the other file lacks, with the reason where one is known."""
    return [
        _described(key[:4], other, key[4])
        for key in one.entries
        if key not in other.entries and key[:4] not in other.failed and key not in without
    ]


def _mended(old: Results, new: Results) -> Iterator[str]:
    """Rows that the new run has right."""
    right = {key[:4] for key, entry in new.entries.items() if not entry.wrong}
    wrong = {key[:4] for key, entry in old.entries.items() if entry.wrong}
    for place in dict.fromkeys(key[:4] for key in new.entries):
        if place in right and place in old.failed:
            yield f"{_described(place, new)}, FAILED in the old file: {old.skipped[place]}"
        elif place in right and place in wrong:
            yield f"{_described(place, new)}, WRONG in the old file"


def _described(place: Place, results: Results, label: str = "onepass") -> str:
    """With the reason that the results have for leaving the row out."""
    why = results.skipped.get(place)
    name = f"{_name(place[1], place[2], label)} ({_threads(place[3])})"
    return f"{name}: {why}" if why else name


def _name(row: str, dtype: str, label: str) -> str:
    more = [label] if label != "onepass" else []
    more += [dtype] if dtype != "float32" else []
    return " ".join([row, *more])


def _threads(count: int) -> str:
    return f"{count} thread" + "s" * (count != 1)


def _notes(old: Results, new: Results, machine: Machine, other: set[str]) -> Iterator[str]:
    if abs(machine.median) > LEAST:
        yield (
            f"What was timed beside the rows takes {_more(machine.median)} time than before: the "
            "machine changed, and changes are given after that."
        )
    if machine.limit is not None:
        yield (
            f"Beside the rivals, the limit takes {_more(machine.limit)} time than before. It runs "
            "in the threads of onepass, and is left out."
        )
    if machine.only_limit:
        yield (
            "No rival was timed, and the limit runs in the threads of onepass: what makes all of "
            "these slower cannot be told from a slower machine."
        )
    for name in sorted(other):
        yield f"{name} {old.machine[name]} became {new.machine[name]}: it is left out."
    for results in (old, new):
        if results.waiting:
            yield (
                f"{results.name}: the load was {results.machine['load']:.0f} on "
                f"{results.machine['cpus']} processors; only large differences can be told."
            )
        medians = sum(entry.medians for entry in results.entries.values())
        if medians:
            rows = "" if medians == len(results.entries) else f" in {medians} rows"
            yield (
                f"{results.name} has medians without samples{rows}: there medians are compared, "
                f"whose noise is not known; {MEDIAN:.0%} are assumed of each."
            )


def _more(x: float) -> str:
    return f"{abs(math.expm1(x)):.0%} {'more' if x > 0 else 'less'}"


def _lines(found: Comparison) -> Iterator[str]:
    if found.changes:
        width = max(len(change.name) for change in found.changes)
        yield f"{'row':{width}}  threads {'old':>10} {'new':>10}   change   noise"
        for c in found.changes:
            blind = f", but less than {c.sees:.0%} cannot be seen" if c.blind else ""
            yield (
                f"{c.name:{width}}  {c.threads:7} {time_text(c.old):>10} {time_text(c.new):>10} "
                f"{100 * c.change:+7.1f}% {100 * c.noise:6.1f}%  {c.verdict}{blind}"
            )
    for row in found.failed:
        yield f"FAILED in the new file: {row}"
    for row in found.wrong:
        yield f"WRONG in the new file: {row}"
    for row in found.mended:
        yield f"mended: {row}"
    for title, rows in (("old", found.only_old), ("new", found.only_new)):
        for row in rows:
            yield f"only in the {title} file: {row}"
    yield from found.notes
    count = dict.fromkeys(ORDER, 0)
    for change in found.changes:
        count[change.verdict] += 1
    total = ", ".join(f"{count[v]} {v}" for v in ORDER if count[v] or v in (SLOWER, FASTER, SAME))
    if found.wrong:
        total = f"{len(found.wrong)} WRONG without an old time, {total}"
    if found.failed:
        total = f"{len(found.failed)} FAILED, {total}"
    if found.blind:
        total += f"; in {len(found.blind)} of these the noise would hide a change of {TENTH:.0%}"
    yield total


# ---- the command


def main(arguments: Iterable[str]) -> int:
    """``onepass bench compare``; returns its exit status."""
    parser = Parser(
        prog="onepass bench compare", allow_abbrev=False,
        description="Say which rows became FASTER or SLOWER from one file of --json to another, "
        "with the noise of both taken into account. Exit status 1: a row is SLOWER, or is "
        "wrong or failed in the new one.",
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
        if not (found.changes or found.failed or found.wrong or found.mended):
            raise UsageError(f"{old.name} and {new.name} have no row in common")
    except UsageError as error:
        _console.write(f"onepass bench compare: {error}\n", sys.stderr)
        return 2
    _console.write(f"{found}\n", sys.stdout)
    return int(bool(found.slower or found.failed or found.wrong))


def _matching(results: Results, only: str) -> Results:
    try:
        pattern = re.compile(only)
    except re.error as error:
        raise UsageError(f"--only {only!r} is not a regular expression: {error}") from None
    entries = {key: e for key, e in results.entries.items() if pattern.search(key[1])}
    skipped = {key: why for key, why in results.skipped.items() if pattern.search(key[1])}
    if only and not (entries or skipped):
        raise UsageError(f"--only {only!r} matches no row of {results.name}")
    return dataclasses.replace(results, entries=entries, skipped=skipped)
