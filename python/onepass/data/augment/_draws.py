"""Random numbers of each sample: Philox words of (seed, epoch, index) and the transform's name.

A sample's words lie in a stream of its own: the counter of Philox holds its index and the name, the
key holds seed and epoch. So they depend on nothing else of a batch. NumPy keeps raw words from
release to release, which it does not promise for the distributions of its generators.

Reference: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

DOMAIN = 1  # the last word of the counter; the order of a DataLoader has 0 there
SEEDS = 2  # seeds of the parts of a Compose
TRIES = 16  # of a rejection that takes at least 95 in 100: all fail once in 1e20


class Draws:
    """The words of the samples of one call; each method goes on behind those taken before."""

    def __init__(self, name: str, seed: int, epoch: int, index: NDArray[np.uint64]) -> None:
        self._generator = _philox(seed, epoch, DOMAIN)
        self._name = zlib.crc32(name.encode())
        self._index = index
        self._part = 0

    def words(self, count: int) -> NDArray[np.uint64]:
        """(N, count) words of 64 bits."""
        out = np.empty((len(self._index), count), np.uint64)
        generator = self._generator
        state: Any = generator.state
        state["buffer_pos"] = len(state["buffer"])  # words left of the sample before do not count
        counter = state["state"]["counter"]
        counter[1] = self._name + (self._part << 32)
        for row, index in zip(out, self._index, strict=True):
            counter[0], counter[2] = 0, index
            generator.state = state
            row[:] = generator.random_raw(count)
        self._part += 1
        return out

    def uniform(self, count: int, low: float = 0.0, high: float = 1.0) -> NDArray[np.float64]:
        """(N, count) numbers, uniform in [low, high)."""
        return low + (high - low) * _unit(self.words(count))

    def integers(self, below: int) -> NDArray[np.int64]:
        """(N,) whole numbers, uniform in [0, below) to within below / 2**53."""
        return np.minimum(self.uniform(1)[:, 0] * below, below - 1).astype(np.int64)

    def normal(self, count: int, dtype: Any = np.float64) -> NDArray[Any]:
        """(N, count) standard normal numbers: two of each word, by Box and Muller (1958)."""
        words = self.words((count + 1) // 2)
        one = np.dtype(dtype).type(2.0**-32)
        radius: Any = ((words >> np.uint64(32)).astype(dtype) + 1) * one  # in (0, 1]
        radius = np.sqrt(-2 * np.log(np.minimum(radius, 1)))
        angle = (words & np.uint64(0xFFFFFFFF)).astype(dtype) * (one * dtype(2 * np.pi))
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
        return pairs.reshape(len(words), 2 * words.shape[1])[:, :count]

    def log_gamma(self, alpha: float) -> NDArray[np.float64]:
        """(N,) logarithms of numbers of the gamma distribution of shape ``alpha``, scale 1.

        Marsaglia and Tsang 2000: of shape alpha + 1, by rejection, times U^(1 / alpha).
        """
        d = alpha + 1 - 1 / 3
        z = self.normal(TRIES)
        u = self.uniform(TRIES + 1)
        v = (1 + z / np.sqrt(9 * d)) ** 3
        log_v = np.log(np.maximum(v, 1e-300))
        taken = (v > 0) & (np.log1p(-u[:, 1:]) < z**2 / 2 + d - d * v + d * log_v)
        accepted = log_v[np.arange(len(v)), taken.argmax(axis=1)]
        return np.asarray(np.log(d) + accepted + np.log1p(-u[:, 0]) / alpha)

    def beta(self, alpha: float) -> NDArray[np.float64]:
        """(N,) numbers of the distribution Beta(alpha, alpha)."""
        difference = np.clip(self.log_gamma(alpha) - self.log_gamma(alpha), -700, 700)
        return np.asarray(1 / (1 + np.exp(difference)))


def seed_of_part(seed: int, part: int) -> int:
    """The seed of part number ``part`` of a Compose of this seed."""
    return int(_philox(seed, part, SEEDS).random_raw())


def _philox(seed: int, second: int, domain: int) -> np.random.Philox:
    key = np.array([seed, second], np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, 0, domain], np.uint64))


def _unit(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    return np.asarray((words >> np.uint64(11)) * 2.0**-53, np.float64)
