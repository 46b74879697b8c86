"""Records the activations of a model, layer by layer, without changing it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from onepass import ops
from onepass._array import library, to_numpy
from onepass.nn._activation import Activation
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
        lib = library(y)
        if y.size:
            self.variance.add(float(lib.var(y, dtype=np.float64)))
        if self.done or not y.size:
            return
        options = layer._options()
        slope = getattr(ops, f"{layer.declared.name}_backward")(lib.ones_like(y), x, **options)
        unit = slope.ndim - 1 if self.last_axis or slope.ndim < 2 else 1
        others = tuple(axis for axis in range(slope.ndim) if axis != unit)
        live = to_numpy((lib.abs(slope) > FLAT).any(axis=others))
        self.alive = live if self.alive is None else self.alive | live
        self.done = bool(self.alive.all())

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
