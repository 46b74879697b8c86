"""What changed from one run to another, and how much of that may be chance.

    x       of a function in a visit: the mean of the logarithms of the faster half of its samples.
            Disturbances only ever add time, and this half has few of them. Of a run: the mean of
            its visits. Where one of the files has medians alone, of both the logarithm of the
            median.
    d       new x - old x; of ours, and of each function beside it. Of VISITS visits and more, their
            scatter is the noise of d, and says how far functions of one row vary together. Of one
            visit, its variance is `drawn` times that of drawing the samples again with replacement,
            plus place². On a busy machine, WAITING times the tasks for each processor, squared, is
            added.
    m       what the machine changed: what ours ought to have, given the d beside it and the median
            d of all rows, were all jointly normal. Without covariances that is their mean weighted
            by 1 / variance. The deviation of the median is `common`. Where functions disagree by
            more than their noise, the variance of m is as large as the disagreement.
    change  d of ours - m. Where m is more than a quarter away from the median, whichever of this
            and d of ours - median is smaller, and 0 if their signs differ: functions that went wild
            prove nothing. The noise remains that of the first.
    noise   two standard deviations of the change
    sees    a change that is found in 95 of 100 comparisons

Three numbers are learned from the files. The code of a rival is the same in both, so what it seems
to have changed is noise: `drawn` and `place` are as large as it takes for the rivals, each judged
as if it were ours, to be unchanged. `place` is what differs between runs and not between samples,
such as the addresses of arrays; `drawn` is below 1 where disturbances meet ours and rivals alike,
and 1 with visits. `common` is how much rows differ in what the machine changed. Where too few
functions stand beside each other, `place` is taken from the scatter of our own changes.

The limit runs in our own pool, so what makes that slower must not pass for the machine: where it
changed beside the rivals, it does not count.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onepass.bench._results import Entry, Visits

Array = NDArray[np.float64]

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
MEDIAN = 0.04  # the deviation of a median, where the samples of one of the two are not there
DRAWS = 200
VISITS = 5  # of a row, whose scatter says more than that of samples
FEW = 10  # visits of which half a covariance is believed
UNKNOWN = 10.0  # the deviation of what another machine takes


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
    """d of ours and of each function beside it, with their covariance. Ours is the first."""

    labels: tuple[str, ...]  # of the others
    d: Array
    covariance: Array
    visited: bool = False  # often enough for their scatter to be their noise

    def level(self, i: int) -> Level:
        """Of one function by itself."""
        return Level(float(self.d[i]), float(self.covariance[i, i]))

    def witnesses(self, with_limit: bool) -> list[int]:
        """What the machine's change is taken from."""
        return [i for i, name in enumerate(self.labels, 1) if with_limit or name != "limit"]

    def as_ours(self, i: int, others: Sequence[int]) -> Pair:
        """A witness in the place of ours."""
        chosen = [i, *(j for j in others if j != i)]
        labels = tuple("" for _ in chosen[1:])
        covariance = self.covariance[np.ix_(chosen, chosen)]
        return Pair(labels, self.d[chosen], covariance, self.visited)


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

    def noise(self, pair: Pair, chosen: Sequence[int]) -> Array:
        """The whole covariance of these functions, but for what the machine changed."""
        found: Array = self.drawn * pair.covariance[np.ix_(chosen, chosen)]
        return found + self.place**2 * np.eye(len(chosen))


def pair(old: Entry, new: Entry, dropped: Iterable[str] = ()) -> Pair:
    """Of an entry in both files, without the labels of other versions."""
    both = tuple(label for label in old.beside if label in new.beside and label not in dropped)
    a, b = ([entry.ours, *(entry.beside[label] for label in both)] for entry in (old, new))
    if old.medians or new.medians:
        (x, before), (y, after) = _medians(a, old), _medians(b, new)
        return Pair(both, y - x, before + after)
    (x, before), (y, after) = _levels(a, old), _levels(b, new)
    return Pair(both, y - x, before + after, _are_visited(a) and _are_visited(b))


def _are_visited(functions: Sequence[Visits]) -> bool:
    return len(functions[0]) >= VISITS and len({len(f) for f in functions}) == 1


def _levels(functions: Sequence[Visits], entry: Entry) -> tuple[Array, Array]:
    """x of each function, and their covariance."""
    if _are_visited(functions):
        x, covariance = _of_visits(functions)
    else:
        found = [_level(list(itertools.chain.from_iterable(f))) for f in functions]
        x, covariance = np.array([f.x for f in found]), np.diag([f.variance for f in found])
    return x, covariance + _busy(entry) * np.eye(len(functions))


def _medians(functions: Sequence[Visits], entry: Entry) -> tuple[Array, Array]:
    """The same where one of the files has medians alone: the other one's are taken then, since the
    faster half of samples lies below their median."""
    each = [statistics.median(itertools.chain.from_iterable(f)) for f in functions]
    return np.log(each), (MEDIAN**2 + _busy(entry)) * np.eye(len(functions))


def _busy(entry: Entry) -> float:
    """The variance that other work on the machine adds."""
    return (WAITING * entry.waiting) ** 2 / 2


def _of_visits(functions: Sequence[Visits]) -> tuple[Array, Array]:
    """The mean of visits. A bad time of the machine meets all functions in a visit, so they have
    covariances, of which the smaller part is believed where visits are few; then, too, their own
    scatter is uncertain, and Student's distribution says by how much."""
    x = np.array([[float(_faster_half(_logs(visit)[None])[0]) for visit in f] for f in functions])
    count = x.shape[1]
    covariance = np.atleast_2d(np.cov(x)) * (count - 1) / (count - 3) / count
    believed = np.full_like(covariance, count / (count + FEW))
    np.fill_diagonal(believed, 1.0)
    return x.mean(axis=1), covariance * believed


def _level(samples: Sequence[float]) -> Level:
    """Of samples of one visit, or of too few visits."""
    logs = _logs(samples)
    x = float(_faster_half(logs[None])[0])
    if len(logs) < 2:
        return Level(x, MEDIAN**2)
    rng = np.random.default_rng(len(logs))  # the same draws for the same file
    drawn = np.sort(logs[rng.integers(0, len(logs), (DRAWS, len(logs)))], axis=1)
    again = _faster_half(drawn)
    return Level(x, float(again.var()) * len(logs) / (len(logs) - 1))


def _logs(samples: Sequence[float]) -> Array:
    """The fastest first."""
    found: Array = np.log(np.sort(np.asarray(samples, np.float64)))
    return found


def _faster_half(logs: Array) -> Array:
    """Of sorted rows."""
    mean: Array = logs[:, : (logs.shape[1] + 1) // 2].mean(axis=1)
    return mean


def change(pair: Pair, machine: Machine, across: bool) -> Level:
    """Of a row, after what the machine changed.

    Ours and the witnesses are taken as jointly normal, around what the machine changed: what the
    witnesses did in the same visits says what ours would have done.
    """
    beside = pair.witnesses(machine.limit is None)
    noise = machine.noise(pair, [0, *beside])
    common = (UNKNOWN if across and beside else machine.common) ** 2
    whole = noise + common
    d = pair.d[beside] - machine.median
    weights = np.linalg.solve(whole[1:, 1:], whole[1:, 0])
    expected = machine.median + float(weights @ d)
    variance = float(whole[0, 0] - weights @ whole[1:, 0])
    variance += _disagreement(d, noise[1:, 1:], common)
    x = float(pair.d[0]) - expected
    if not across and abs(expected - machine.median) > PLAUSIBLE:
        alone = float(pair.d[0]) - machine.median
        x = 0.0 if x * alone <= 0 else min(x, alone, key=abs)
    return Level(x, variance)


def _disagreement(d: Array, noise: Array, common: float) -> float:
    """The variance that it adds, where witnesses and the median of all rows differ by more than
    their noise."""
    if not len(d):
        return 0.0
    inverse = np.linalg.inv(noise)
    variance = 1 / float(inverse.sum() + 1 / common)
    m = float((inverse @ d).sum()) * variance
    apart = (float((d - m) @ inverse @ (d - m)) + m**2 / common) / len(d)
    return (apart - 1) * variance if apart > APART else 0.0


def noise(found: Level) -> float:
    """What chance alone may do."""
    return CERTAIN * found.deviation


def sees(found: Level) -> float:
    """A change that is found in 95 of 100 comparisons."""
    return max(LEAST, noise(found)) + POWER * found.deviation


# ---- what is learned


def learn(pairs: Sequence[Pair], across: bool) -> Machine:
    """From all rows."""
    limit = _limit_apart(pairs)
    only_limit = {"limit"} == {label for p in pairs for label in p.labels}
    rivals = [float(p.d[i]) for p in pairs for i in p.witnesses(only_limit)]
    median = statistics.median(rivals) if len(pairs) >= MANY and rivals else 0.0
    found = Machine(median, COMMON, PLACE, limit=limit, only_limit=only_limit)
    judged = [p.as_ours(i, row) for p, row in _several(pairs, limit is None) for i in row]
    if len(judged) < ENOUGH:
        return _from_ours(pairs, found, across)
    # The scatter of visits is their noise, whole: of few functions one more may differ by chance.
    visited = all(p.visited for p in pairs)
    enough = UNCHANGED - visited * math.sqrt(UNCHANGED * (1 - UNCHANGED) / len(judged))
    shares = () if visited else DRAWN
    for drawn, place in (*((share, PLACES[0]) for share in shares), *((1.0, p) for p in PLACES)):
        found = dataclasses.replace(found, place=place, drawn=drawn)
        found = dataclasses.replace(found, common=_common(pairs, found))
        if _unchanged(judged, dataclasses.replace(found, limit=None), across) >= enough:
            break
    return found


def _several(pairs: Sequence[Pair], with_limit: bool) -> Iterator[tuple[Pair, list[int]]]:
    """Rows that have witnesses beside each other."""
    for p in pairs:
        row = p.witnesses(with_limit)
        if len(row) > 1:
            yield p, row


def _limit_apart(pairs: Sequence[Pair]) -> float | None:
    """What the limit changed beside the rivals, if more than chance does."""
    apart = [
        p.level(1 + p.labels.index("limit")).wider(PLACE)
        - _mean([p.level(i).wider(PLACE) for i in p.witnesses(False)])
        for p in pairs
        if "limit" in p.labels and len(p.labels) > 1
    ]
    if not apart:
        return None
    x = statistics.median(each.x for each in apart)
    scatter = 1.48 * statistics.median(abs(each.x - x) for each in apart)
    deviation = max(scatter, statistics.median(each.deviation for each in apart))
    return x if abs(x) > max(LEAST, 1.25 * CERTAIN * deviation / math.sqrt(len(apart))) else None


def _common(pairs: Sequence[Pair], machine: Machine) -> float:
    """How much rows differ in what the machine changed."""
    rows = [(p, p.witnesses(machine.limit is None)) for p in pairs]
    means = [_mean([machine.of(p.level(i)) for i in row]) for p, row in rows if row]
    if len(means) < MANY:
        return COMMON
    scatter = 1.48 * statistics.median(abs(each.x - machine.median) for each in means)
    chance = statistics.median(each.variance for each in means)
    return math.sqrt(max(LEAST_COMMON**2, scatter**2 - chance))


def _mean(known: Sequence[Level]) -> Level:
    weights = [1 / each.variance for each in known]
    x = sum(w * each.x for w, each in zip(weights, known, strict=True)) / sum(weights)
    return Level(x, 1 / sum(weights))


def _unchanged(judged: Sequence[Pair], machine: Machine, across: bool) -> float:
    """The share of functions that, were they ours, would be found unchanged."""
    found = [change(each, machine, across) for each in judged]
    return sum(abs(each.x) <= noise(each) for each in found) / len(found)


def _from_ours(pairs: Sequence[Pair], found: Machine, across: bool) -> Machine:
    """Where functions do not stand beside each other: from the scatter of our own changes."""
    if len(pairs) < ENOUGH:
        return found
    found = dataclasses.replace(found, common=_common(pairs, found))
    changes = [change(p, found, across) for p in pairs]
    middle = statistics.median(c.x for c in changes)
    scatter = 1.48 * statistics.median(abs(c.x - middle) for c in changes)
    rest = scatter**2 - statistics.median(c.variance for c in changes)
    return dataclasses.replace(found, place=math.sqrt(PLACE**2 + max(0.0, rest)))
