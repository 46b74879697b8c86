"""What changed from one run to another, and how much of that may be chance.

    x       of a function in a run: the mean of the logarithms of the faster half of its samples.
            Disturbances only ever add time, and this half has few of them.
    d       new x - old x; of ours, and of each function beside it. Its variance is that of drawing
            the samples again with replacement, plus place², plus, on a busy machine, the square of
            WAITING times the tasks for each processor.
    m       what the machine changed: the mean of the d beside ours and of the median d of all rows,
            each weighted by 1 / variance. That median is as uncertain as `common` says. Of functions
            that disagree, the variance is as large as the disagreement.
    change  d of ours - m. Where m is more than a quarter away from that median, d of ours - median if
            that is smaller, and 0 if it has another sign: functions that went wild prove nothing.
    noise   two standard deviations of the change
    sees    a change that is found in 95 of 100 comparisons

Two numbers are learned from the files. The code of a rival is the same in both, so what it seems to
have changed is noise: `place`, what differs between two runs of a function and not between samples,
such as the addresses of arrays, is as large as it takes for each rival, were it ours, to be found
unchanged in 95 of 100 rows. `common` is how much rows differ in what the machine changed. Where too
few functions stand beside rows to learn from, the scatter of our own changes is taken.

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
# How different two runs of a function are: the values to choose from, and one where nothing is known.
PLACES = (0.008, 0.012, 0.017, 0.024, 0.034, 0.048, 0.068, 0.096, 0.13, 0.18, 0.25, 0.35)
PLACE = 0.02
WAITING = 0.04
COMMON, LEAST_COMMON = 0.08, 0.015
MANY = 5  # rows whose median says something; of fewer, the machine is taken to be as it was
ENOUGH = 10  # functions from which `place` can be learned
# A machine that changed by more than this, beside a row, proves nothing about the row by itself.
PLAUSIBLE = math.log(1.25)
# Of a median whose samples are not there.
MEDIAN = 0.04
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

    median      d of all functions beside rows
    limit       what the limit changed beside the rivals, if that is why it does not count
    only_limit  no rival was timed
    """

    median: float
    common: float
    place: float
    limit: float | None = None
    only_limit: bool = False


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
    ours = pair.ours.wider(machine.place)
    beside = [d.wider(machine.place) for d in pair.witnesses(machine.limit is None)]
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
    disagreement = max(1.0, apart / max(1, len(known) - 1))
    return Level(x, disagreement / sum(weights))


# ---- what is learned


def learn(pairs: Sequence[Pair], across: bool) -> Machine:
    """From all rows."""
    limit = _limit_apart(pairs)
    rows = [p.witnesses(limit is None) for p in pairs]
    only_limit = not any(p.witnesses(False) for p in pairs)
    rivals = [d.x for p in pairs for d in p.witnesses(only_limit)]
    median = statistics.median(rivals) if len(pairs) >= MANY and rivals else 0.0
    found = Machine(median, COMMON, PLACE, limit, only_limit)
    several = [row for row in rows if len(row) > 1]
    if sum(map(len, several)) < ENOUGH:
        return _from_ours(pairs, rows, found, across)
    for place in PLACES:
        found = dataclasses.replace(found, place=place, common=_common(rows, place, median))
        if _unchanged(several, found, across) >= 0.95:
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


def _common(rows: Sequence[Sequence[Level]], place: float, median: float) -> float:
    """How much rows differ in what the machine changed."""
    means = [_mean([d.wider(place) for d in row]) for row in rows if row]
    if len(means) < MANY:
        return COMMON
    scatter = 1.48 * statistics.median(abs(each.x - median) for each in means)
    known = statistics.median(
        1 / sum(1 / (d.variance + place**2) for d in row) for row in rows if row
    )
    return math.sqrt(max(LEAST_COMMON**2, scatter**2 - known))


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
    found = dataclasses.replace(found, common=_common(rows, PLACE, found.median))
    changes = [change(p, found, across) for p in pairs]
    middle = statistics.median(c.x for c in changes)
    scatter = 1.48 * statistics.median(abs(c.x - middle) for c in changes)
    rest = scatter**2 - statistics.median(c.variance for c in changes)
    return dataclasses.replace(found, place=math.sqrt(PLACE**2 + max(0.0, rest)))
