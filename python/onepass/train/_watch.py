"""Records the activations of a model, layer by layer, without changing it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from onepass import ops
from onepass._array import library, to_numpy
from onepass.nn._activation import Activation
from onepass.parallel import Communicator
from onepass.parallel._collectives import gather
from onepass.train._stand_in import StandIn, of_class

FLAT = 0.005  # a derivative below this passes no gradient worth the name


class Units:
    """One activation layer in one epoch: which units live, and the variance of the outputs.

    A unit is a feature or a channel. It lives where the derivative is above FLAT for any sample.
    """

    def __init__(self, last_axis: bool) -> None:
        self.last_axis = last_axis
        self.alive: Any = None
        self.done = False  # every unit lives
        self.variance = Mean()

    def see(self, layer: Activation, x: Any, y: Any) -> None:
        if y.size:
            variance = float(library(y).var(y, dtype=np.float64))
            self.count(variance, None if self.done else self._live(layer, x, y))

    def count(self, variance: float, live: Any) -> None:
        """Count the variance of a batch, and which units live in it."""
        self.variance.add(variance)
        if live is not None:
            self.alive = live if self.alive is None else self.alive | live
            self.done = bool(self.alive.all())

    def share(self, number: int, batch: int, layer: Activation, x: Any, y: Any) -> Share:
        """What a rank sees of a batch, for `joined`.

        Args:
            number, batch: which of the layers it is, and which of the batches.
        """
        if not y.size:
            return Share(number, batch, 0, 0.0, 0.0, None)
        lib = library(y)
        mean = float(lib.mean(y, dtype=np.float64))
        squares = float(lib.var(y, dtype=np.float64)) * y.size
        return Share(number, batch, int(y.size), mean, squares, self._live(layer, x, y))

    def _live(self, layer: Activation, x: Any, y: Any) -> Any:
        lib = library(y)
        options = layer._options()
        slope = getattr(ops, f"{layer.declared.name}_backward")(lib.ones_like(y), x, **options)
        unit = slope.ndim - 1 if self.last_axis or slope.ndim < 2 else 1
        others = tuple(axis for axis in range(slope.ndim) if axis != unit)
        return to_numpy((lib.abs(slope) > FLAT).any(axis=others))

    @property
    def dead(self) -> float:
        """The share of units that never lived; NaN where nothing was seen."""
        return math.nan if self.alive is None else 1 - float(self.alive.mean())

    def state_dict(self) -> dict[str, Any]:
        alive = np.zeros(0, bool) if self.alive is None else self.alive
        return {"alive": alive.astype(np.uint8), "variance": self.variance.state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        alive = np.asarray(state["alive"]).astype(bool)
        self.alive = alive if alive.size else None
        self.done = bool(alive.size and alive.all())
        self.variance.load(state["variance"])


class Share(NamedTuple):
    """What a rank has seen of an activation layer in a batch.

    Attributes:
        layer, batch: which.
        size, mean, squares: of the outputs; the last is Σ(y - mean)².
        alive: which units live; None without outputs.
    """

    layer: int
    batch: int
    size: int
    mean: float
    squares: float
    alive: Any


def joined(comm: Communicator, shares: Sequence[Share]) -> Iterator[tuple[int, float, Any]]:
    """Layer, variance and living units of each batch, of the rows of all ranks; on every rank.

    The moments are merged as those of batch norms: Chan, Golub and LeVeque 1983.
    """
    flat = [
        number
        for share in shares
        for alive in ([] if share.alive is None else share.alive.tolist(),)
        for number in (*share[:5], len(alive), *alive)
    ]
    whole: dict[tuple[int, int, int], Share] = {}  # a batch may come several times in a step
    for of_rank in gather(comm, np.array(flat, np.float64)):
        place, times = 0, Counter[tuple[int, int]]()
        while place < len(of_rank):
            layer, batch, count, mean, squares, units = of_rank[place : place + 6].tolist()
            alive = of_rank[place + 6 : place + 6 + int(units)] > 0
            place += 6 + int(units)
            number, of = int(layer), int(batch)
            share = Share(number, of, int(count), mean, squares, alive)
            key = number, of, times[number, of]
            times[number, of] += 1
            before = whole.get(key)
            whole[key] = share if before is None else _merged(before, share)
    for share in whole.values():
        if share.size:
            yield share.layer, share.squares / share.size, share.alive


def _merged(a: Share, b: Share) -> Share:
    if not a.size or not b.size:
        return a if a.size else b
    size, apart = a.size + b.size, b.mean - a.mean
    mean = a.mean + apart * b.size / size
    squares = a.squares + b.squares + apart**2 * a.size * b.size / size
    return Share(a.layer, a.batch, size, mean, squares, a.alive | b.alive)


def refuse_pieces(owner: str, run: Any) -> None:
    """Refuse to watch a training whose batches are computed in pieces.

    Raises:
        ValueError: ``reproducible`` is set.
    """
    if run.reproducible is not None:
        raise ValueError(
            f"{owner}: 'reproducible' is {run.reproducible}, expected None: it measures whole "
            "batches, and these are computed in pieces; train without one of the two"
        )


class Mean:
    """An average in the making; numbers that are not finite are left out."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def add(self, value: float) -> None:
        if math.isfinite(value):
            self.total += value
            self.count += 1

    @property
    def value(self) -> float:
        return self.total / self.count if self.count else math.nan

    def state(self) -> list[float]:
        return [self.total, float(self.count)]

    def load(self, state: Any) -> None:
        self.total, self.count = float(state[0]), int(state[1])


class Watch(StandIn):
    """Calls ``layer.forward``, and shows what it gave."""

    def __init__(self, layer: Activation, see: Callable[[Activation, Any, Any], None]) -> None:
        super().__init__(layer)
        self.see = see

    def __call__(self, x: Any) -> Any:
        y = self.inner(x)
        if self.sees():
            self.see(self.layer, x, y)
        return y


def activations(model: Any) -> Iterator[tuple[str, Activation, bool]]:
    """Name, layer, and whether its units lie along the last axis: those behind a linear layer."""
    last = False
    for name, module in model.named_modules():
        if isinstance(module, Activation):
            if of_class(module):  # a method of the instance stays alone
                yield name, module, last
        elif hasattr(module, "in_features"):
            last = True
        elif hasattr(module, "num_features") or hasattr(module, "in_channels"):
            last = False
