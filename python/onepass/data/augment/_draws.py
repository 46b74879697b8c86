"""Random numbers of each sample: Philox words of (seed, epoch, index) and the transform's name.

A sample's words lie in a stream of its own: the counter of Philox holds its index and the name, the
key holds seed and epoch. So they depend on nothing else of a batch. NumPy keeps raw words from
release to release, which it does not promise for the distributions of its generators.

Reference: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

import copy
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

DOMAIN = 1  # the last word of the counter; the order of a DataLoader has 0 there
SEEDS = 2  # seeds of the parts of a Compose
TRIES = 16  # of a rejection that takes at least 95 in 100: all fail once in 1e20
WORDS_OF_GAMMA = TRIES // 2 + TRIES + 1  # two normal numbers of a word; uniform ones
MANY, FEW = 64, 16  # samples, and words of each, from where all at once is faster
ROUNDS = 10
_LOW, _HALF = np.uint64(2**32 - 1), np.uint64(32)
_FACTORS = np.array([[0xD2E7470EE14C6C93], [0xCA5A826395121157]], np.uint64)
_KEY_STEPS = np.array([[0x9E3779B97F4A7C15], [0xBB67AE8584CAA73B]], np.uint64)


class Draws:
    """The words of the samples of one call; each method goes on behind those taken before."""

    def __init__(self, name: str, seed: int, epoch: int, index: NDArray[np.uint64]) -> None:
        self._key = (seed, epoch)
        self._name = zlib.crc32(name.encode())
        self._index = index
        self._part = 0

    def of(self, samples: slice) -> Draws:
        """Those of these samples alone, from here on."""
        part = copy.copy(self)
        part._index = self._index[samples]
        return part

    def words(self, count: int) -> NDArray[np.uint64]:
        """(N, count) words of 64 bits. A transform asks once where it can: each call has a cost."""
        many = len(self._index) >= MANY and count <= FEW
        stream = self._name + (self._part << 32)
        self._part += 1
        return (_at_once if many else _by_sample)(self._key, stream, self._index, count)

    def uniform(self, count: int, low: float = 0.0, high: float = 1.0) -> NDArray[np.float64]:
        """(N, count) numbers, uniform in [low, high)."""
        return between(_unit(self.words(count)), (low, high))

    def normal(self, count: int, dtype: Any = np.float64) -> NDArray[Any]:
        """(N, count) standard normal numbers."""
        return _normal(self.words((count + 1) // 2), dtype)[:, :count]

    def beta(self, alpha: float) -> NDArray[np.float64]:
        """(N,) numbers of the distribution Beta(alpha, alpha)."""
        one, other = np.hsplit(self.words(2 * WORDS_OF_GAMMA), 2)
        difference = np.clip(_log_gamma(one, alpha) - _log_gamma(other, alpha), -700, 700)
        return np.asarray(1 / (1 + np.exp(difference)))


def between(u: NDArray[np.float64], ends: tuple[float, float]) -> NDArray[np.float64]:
    """Numbers that are uniform in [0, 1) as such of [low, high)."""
    return np.asarray(ends[0] + (ends[1] - ends[0]) * u)


def whole(u: NDArray[np.float64], below: int) -> NDArray[np.int64]:
    """Numbers that are uniform in [0, 1) as whole ones in [0, below), to within below / 2**53."""
    return np.minimum(u * below, below - 1).astype(np.int64)


def seed_of_part(seed: int, part: int) -> int:
    """The seed of part number ``part`` of a Compose of this seed."""
    return int(_philox(seed, part, SEEDS).random_raw())


def _philox(seed: int, second: int, domain: int) -> np.random.Philox:
    key = np.array([seed, second], np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, 0, domain], np.uint64))


def _by_sample(
    key: tuple[int, int], stream: int, index: NDArray[np.uint64], count: int
) -> NDArray[np.uint64]:
    """(N, count) words by NumPy's generator, which starts anew at each sample's counter."""
    out = np.empty((len(index), count), np.uint64)
    generator = _philox(*key, DOMAIN)
    state: Any = generator.state  # without words left from a sample before
    counter = state["state"]["counter"]
    counter[1] = stream
    for row, place in zip(out, index, strict=True):
        counter[0], counter[2] = 0, place
        generator.state = state
        row[:] = generator.random_raw(count)
    return out


def _at_once(
    key: tuple[int, int], stream: int, index: NDArray[np.uint64], count: int
) -> NDArray[np.uint64]:
    """The same words, of all samples at once: rounds of Philox over an array of counters."""
    blocks = -(-count // 4)
    even = np.empty((2, len(index) * blocks), np.uint64)  # words 0 and 2 of the counters
    odd = np.empty_like(even)  # 1 and 3
    even[0] = np.tile(np.arange(1, blocks + 1), len(index))  # NumPy counts, then makes a block
    even[1] = np.repeat(index, blocks)
    odd[0], odd[1] = stream, DOMAIN
    keys = np.array(key, np.uint64)[:, None]
    for _ in range(ROUNDS):
        above, even = _products(even)
        even, odd = above[::-1] ^ odd ^ keys, even[::-1]
        keys = keys + _KEY_STEPS
    words = np.stack([even[0], odd[0], even[1], odd[1]], axis=1)
    return words.reshape(len(index), 4 * blocks)[:, :count]


def _products(x: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The upper and the lower 64 bits of ``x`` times the factors, from products of halves."""
    low, high = x & _LOW, x >> _HALF
    factor_low, factor_high = _FACTORS & _LOW, _FACTORS >> _HALF
    middle = high * factor_low + (low * factor_low >> _HALF)
    rest = low * factor_high + (middle & _LOW)
    return high * factor_high + (middle >> _HALF) + (rest >> _HALF), x * _FACTORS


def _normal(words: NDArray[np.uint64], dtype: Any) -> NDArray[Any]:
    """(N, 2 · words) standard normal numbers: two of each word, by Box and Muller (1958)."""
    one = np.dtype(dtype).type(2.0**-32)
    radius: Any = ((words >> _HALF).astype(dtype) + 1) * one  # in (0, 1]
    radius = np.sqrt(-2 * np.log(np.minimum(radius, 1)))
    angle = (words & _LOW).astype(dtype) * (one * dtype(2 * np.pi))
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
    return pairs.reshape(len(words), 2 * words.shape[1])


def _log_gamma(words: NDArray[np.uint64], alpha: float) -> NDArray[np.float64]:
    """(N,) logarithms of numbers of the gamma distribution of shape ``alpha``, scale 1.

    Marsaglia and Tsang 2000: of shape alpha + 1, by rejection, times U^(1 / alpha).
    """
    d = alpha + 1 - 1 / 3
    z = _normal(words[:, : TRIES // 2], np.float64)
    u = _unit(words[:, TRIES // 2 :])
    v = (1 + z / np.sqrt(9 * d)) ** 3
    log_v = np.log(np.maximum(v, 1e-300))
    taken = (v > 0) & (np.log1p(-u[:, 1:]) < z**2 / 2 + d - d * v + d * log_v)
    accepted = log_v[np.arange(len(v)), taken.argmax(axis=1)]
    return np.asarray(np.log(d) + accepted + np.log1p(-u[:, 0]) / alpha)


def _unit(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    return np.asarray((words >> np.uint64(11)) * 2.0**-53, np.float64)
