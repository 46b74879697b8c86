"""What changed from one run to another, and how much of that may be chance.

    x       of a function in a run: the mean of the logarithms of the faster half of its samples.
            Disturbances only ever add time, and this half has few of them.
    d       new x - old x; of ours, and of each function beside it. Its variance is `drawn` times
            that of drawing the samples again with replacement, plus place². On a busy machine,
            WAITING times the tasks for each processor, squared, is added to the former.
    m       what the machine changed: the mean of the d beside ours and of the median d of all rows,
            each weighted by 1 / variance. The deviation of that median is `common`. Where functions
            disagree by more than their noise, the variance of m is as large as the disagreement.
    change  d of ours - m. Where m is more than a quarter away from the median, whichever of this
            and d of ours - median is smaller, and 0 if their signs differ: functions that went wild
            prove nothing. The noise remains that of the first.
    noise   two standard deviations of the change
    sees    a change that is found in 95 of 100 comparisons

Three numbers are learned from the files. The code of a rival is the same in both, so what it seems
to have changed is noise: `drawn` and `place` are as large as it takes for the rivals, each judged
as if it were ours, to be unchanged. `place` is what differs between runs and not between samples,
such as the addresses of arrays; `drawn` is below 1 where disturbances meet ours and rivals alike.
`common` is how much rows differ in what the machine changed. Where too few functions stand beside
each other, `place` is taken from the scatter of our own changes.

The limit runs in our own pool, so what makes that slower must not pass for the machine: where it
changed beside the rivals, it does not count.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onepass.bench._results import Entry

LEAST = math.log(1.05)
CERTAIN, POWER = 2.0, 1.65  # standard deviations: of noise, and for 95 of 100 to lie beyond
# What two runs of a function differ by beside their samples: to choose from, or if it is unknown.
# Samples share disturbances with those beside them; then so much of their variance counts.
PLACES = (0.008, 0.012, 0.017, 0.024, 0.034, 0.048, 0.068, 0.096, 0.13, 0.18, 0.25, 0.35)
DRAWN = (0.25, 0.5)
PLACE = 0.02
UNCHANGED = 0.97  # of the rivals; of ours 95 in 100 are then, in files of few rows too
WAITING = 0.04
COMMON, LEAST_COMMON = 0.08, 0.015
APART = 3.0  # times their noise, squared: functions that disagree more make m uncertain
MANY = 5  # rows whose median says something; of fewer, the machine is taken to be as it was
ENOUGH = 10  # functions from which `place` can be learned
# A machine that changed by more than this, beside a row, proves nothing about the row by itself.
PLAUSIBLE = math.log(1.25)
MEDIAN = 0.04  # the deviation of a median whose samples are not there
DRAWS = 200


class Level(NamedTuple):
    """Of a function in a run, or of a difference: x and its variance."""

    x: float
    variance: float

    def __sub__(self, other: Level) -> Level:
        return Level(self.x - other.x, self.variance + other.variance)

    def wider(self, deviation: float) -> Level:
        """As uncertain as it is, and as that."""
        return Level(self.x, self.variance + deviation**2)

    @property
    def deviation(self) -> float:
        return math.sqrt(self.variance)


@dataclasses.dataclass(frozen=True)
class Pair:
    """d of ours, and of each function beside it."""

    ours: Level
    beside: dict[str, Level]

    def witnesses(self, with_limit: bool) -> list[Level]:
        """What the machine's change is taken from."""
        return [d for label, d in self.beside.items() if with_limit or label != "limit"]


@dataclasses.dataclass(frozen=True)
class Machine:
    """What the machine changed, and the noise of two runs.

    median      d of the rivals in all rows
    common, place, drawn  as above
    limit       what the limit changed beside the rivals, if that is why it does not count
    only_limit  no rival was timed
    """

    median: float
    common: float
    place: float
    drawn: float = 1.0
    limit: float | None = None
    only_limit: bool = False

    def of(self, d: Level) -> Level:
        """With its whole noise."""
        return Level(d.x, self.drawn * d.variance + self.place**2)


def pair(old: Entry, new: Entry, dropped: Iterable[str] = ()) -> Pair:
    """Of an entry in both files, without the labels of other versions."""
    both = [label for label in old.beside if label in new.beside and label not in dropped]
    beside = {label: level(new, label) - level(old, label) for label in both}
    return Pair(level(new) - level(old), beside)


def level(entry: Entry, label: str | None = None) -> Level:
    """Of our function, or of one beside it."""
    samples = entry.ours if label is None else entry.beside[label]
    logs = np.log(np.sort(np.asarray(samples, np.float64)))
    x = float(_faster_half(logs[None])[0])
    busy = (WAITING * entry.waiting) ** 2 / 2
    if entry.medians or len(logs) < 2:
        return Level(x, MEDIAN**2 + busy)
    rng = np.random.default_rng(len(logs))  # the same draws for the same file
    drawn = np.sort(logs[rng.integers(0, len(logs), (DRAWS, len(logs)))], axis=1)
    again = _faster_half(drawn)
    return Level(x, float(again.var()) * len(logs) / (len(logs) - 1) + busy)


def _faster_half(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of sorted rows."""
    mean: NDArray[np.float64] = logs[:, : (logs.shape[1] + 1) // 2].mean(axis=1)
    return mean


def change(pair: Pair, machine: Machine, across: bool) -> Level:
    """Of a row, after what the machine changed."""
    ours = machine.of(pair.ours)
    beside = [machine.of(d) for d in pair.witnesses(machine.limit is None)]
    found = ours - _machine_change(beside, machine, across)
    x = found.x
    if not across and abs(ours.x - x - machine.median) > PLAUSIBLE:
        alone = ours.x - machine.median
        x = 0.0 if x * alone <= 0 else min(x, alone, key=abs)
    return Level(x, found.variance)


def noise(change: Level) -> float:
    """What chance alone may do."""
    return CERTAIN * change.deviation


def sees(change: Level) -> float:
    """A change that is found in 95 of 100 comparisons."""
    return max(LEAST, noise(change)) + POWER * change.deviation


def _machine_change(beside: Sequence[Level], machine: Machine, across: bool) -> Level:
    """m, from what was timed beside a row."""
    known = list(beside)
    if not (across and beside):
        known.append(Level(machine.median, machine.common**2))
    return _mean(known)


def _mean(known: Sequence[Level]) -> Level:
    weights = [1 / each.variance for each in known]
    x = sum(w * each.x for w, each in zip(weights, known, strict=True)) / sum(weights)
    apart = sum(w * (each.x - x) ** 2 for w, each in zip(weights, known, strict=True))
    disagreement = apart / max(1, len(known) - 1)
    disagreement = disagreement if disagreement > APART else 1.0
    return Level(x, disagreement / sum(weights))


# ---- what is learned


def learn(pairs: Sequence[Pair], across: bool) -> Machine:
    """From all rows."""
    limit = _limit_apart(pairs)
    rows = [p.witnesses(limit is None) for p in pairs]
    only_limit = {"limit"} == {label for p in pairs for label in p.beside}
    rivals = [d.x for p in pairs for d in p.witnesses(only_limit)]
    median = statistics.median(rivals) if len(pairs) >= MANY and rivals else 0.0
    found = Machine(median, COMMON, PLACE, limit=limit, only_limit=only_limit)
    several = [row for row in rows if len(row) > 1]
    if sum(map(len, several)) < ENOUGH:
        return _from_ours(pairs, rows, found, across)
    for drawn, place in (*((share, PLACES[0]) for share in DRAWN), *((1.0, p) for p in PLACES)):
        found = dataclasses.replace(found, place=place, drawn=drawn)
        found = dataclasses.replace(found, common=_common(rows, found))
        if _unchanged(several, found, across) >= UNCHANGED:
            break
    return found


def _limit_apart(pairs: Sequence[Pair]) -> float | None:
    """What the limit changed beside the rivals, if more than chance does."""
    apart = [
        p.beside["limit"].wider(PLACE) - _mean([d.wider(PLACE) for d in p.witnesses(False)])
        for p in pairs
        if "limit" in p.beside and len(p.beside) > 1
    ]
    if not apart:
        return None
    x = statistics.median(each.x for each in apart)
    scatter = 1.48 * statistics.median(abs(each.x - x) for each in apart)
    deviation = max(scatter, statistics.median(each.deviation for each in apart))
    return x if abs(x) > max(LEAST, 1.25 * CERTAIN * deviation / math.sqrt(len(apart))) else None


def _common(rows: Sequence[Sequence[Level]], machine: Machine) -> float:
    """How much rows differ in what the machine changed."""
    known = [[machine.of(d) for d in row] for row in rows if row]
    means = [_mean(row) for row in known]
    if len(means) < MANY:
        return COMMON
    scatter = 1.48 * statistics.median(abs(each.x - machine.median) for each in means)
    chance = statistics.median(1 / sum(1 / d.variance for d in row) for row in known)
    return math.sqrt(max(LEAST_COMMON**2, scatter**2 - chance))


def _unchanged(rows: Sequence[Sequence[Level]], machine: Machine, across: bool) -> float:
    """The share of functions that, were they ours, would be found unchanged."""
    verdicts = [
        abs(found.x) <= noise(found) for row in rows for found in _as_ours(row, machine, across)
    ]
    return sum(verdicts) / len(verdicts)


def _as_ours(row: Sequence[Level], machine: Machine, across: bool) -> Iterator[Level]:
    labels = {str(i): d for i, d in enumerate(row)}
    for label, d in labels.items():
        others = {name: other for name, other in labels.items() if name != label}
        yield change(Pair(d, others), dataclasses.replace(machine, limit=None), across)


def _from_ours(
    pairs: Sequence[Pair], rows: Sequence[Sequence[Level]], found: Machine, across: bool
) -> Machine:
    """Where functions do not stand beside each other: from the scatter of our own changes."""
    if len(pairs) < ENOUGH:
        return found
    found = dataclasses.replace(found, common=_common(rows, found))
    changes = [change(p, found, across) for p in pairs]
    middle = statistics.median(c.x for c in changes)
    scatter = 1.48 * statistics.median(abs(c.x - middle) for c in changes)
    rest = scatter**2 - statistics.median(c.variance for c in changes)
    return dataclasses.replace(found, place=math.sqrt(PLACE**2 + max(0.0, rest)))
