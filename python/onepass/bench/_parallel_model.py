"""What sums over ranks cost on paper: latency, bytes, and what the backward hides.

A message of n bytes takes α + nβ seconds, adding n bytes nγ. R. Thakur, R. Rabenseifner, W. Gropp,
"Optimization of Collective Communication Operations in MPICH", 2005, section 4, of p ranks:

    recursive doubling                     ⌈lg p⌉ (α + nβ + nγ)
    recursive halving, then doubling       2 ⌈lg p⌉ α + 2 (p - 1)/p nβ + (p - 1)/p nγ
    ring: reduce-scatter, then all-gather  2 (p - 1) α + 2 (p - 1)/p nβ + (p - 1)/p nγ
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

SMALL = 1 << 16  # bytes up to which every engine sums by recursive doubling


@dataclasses.dataclass(frozen=True)
class Link:
    """What joins the ranks.

    latency  α, seconds of a message without bytes
    inverse  β, seconds of a byte
    adding   γ, seconds of adding a byte
    """

    latency: float
    inverse: float
    adding: float


def doubling(count: float, ranks: int, by: Link) -> float:
    """Seconds of a sum of so many bytes by recursive doubling."""
    rounds = math.ceil(math.log2(ranks))
    return rounds * (by.latency + count * (by.inverse + by.adding))


def halving(count: float, ranks: int, by: Link) -> float:
    """By recursive halving, then doubling: Rabenseifner's algorithm."""
    return 2 * math.ceil(math.log2(ranks)) * by.latency + _scattered(count, ranks, by)


def ring(count: float, ranks: int, by: Link) -> float:
    """By a ring: reduce-scatter, then all-gather."""
    return 2 * (ranks - 1) * by.latency + _scattered(count, ranks, by)


def _scattered(count: float, ranks: int, by: Link) -> float:
    return (ranks - 1) / ranks * count * (2 * by.inverse + by.adding)


ALGORITHMS = {"doubling": doubling, "halving": halving, "ring": ring}


@dataclasses.dataclass(frozen=True)
class Step:
    """A training step of one rank.

    sums      bytes of each sum over ranks
    computes  seconds without messages
    backward  seconds of the backward in it
    last      share of the gradients that is there only when the backward ends
    """

    sums: Sequence[int]
    computes: float
    backward: float
    last: float

    @property
    def gradients(self) -> int:
        """Bytes of the largest sum, which is that of the gradients."""
        return max(self.sums)

    @property
    def others(self) -> list[int]:
        """Bytes of all other sums, those of batch norms above all: nothing can hide them."""
        rest = sorted(self.sums)
        return rest[:-1]

    def seconds(self, algorithm: str, ranks: int, by: Link, *, overlap: bool = False) -> float:
        """Of the whole step.

        Args:
            overlap: the gradients are sent while the backward computes those of earlier layers, at
                best: what is left is what the backward is too short for, and those of the first.
        """
        cost = ALGORITHMS[algorithm]
        sent = cost(self.gradients, ranks, by)
        if overlap:
            sent = max(sent - self.backward, cost(self.last * self.gradients, ranks, by))
        small = sum((doubling if n <= SMALL else cost)(n, ranks, by) for n in self.others)
        return self.computes + small + sent


def fitted(sizes: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """a and b of seconds = a + b·bytes, with the least sum of squares of relative errors; neither
    is negative."""
    n, t = np.asarray(sizes, float), np.asarray(seconds)
    design = np.stack([1 / t, n / t], axis=1)
    (a, b), *_ = np.linalg.lstsq(design, np.ones(len(t)), rcond=None)
    if a < 0 or b < 0:  # of one column alone
        column = int(a < 0)
        one = float(design[:, column].sum() / (design[:, column] ** 2).sum())
        a, b = (0.0, one) if column else (one, 0.0)
    return float(a), float(b)
