"""The loss and metrics of an epoch, gathered from its batches whatever their sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from onepass import _numbers as numbers
from onepass._array import to_numpy
from onepass.train._metrics import Metric


class Totals(dict[str, Any]):
    """Name → [sum, count]; and where a metric needs them, all outputs and targets so far.

    A plain dict of numbers and arrays, so that a checkpoint inside an epoch keeps it.
    """

    def add(
        self,
        metrics: Mapping[str, Metric],
        loss: float,
        divisor: float | None,
        output: Any,
        target: Any,
    ) -> None:
        """Add a batch.

        Args:
            loss: of the batch.
            divisor: what the loss was divided by; None for a sum.
        """
        if divisor is None:
            self._count("loss", loss, 0.0)
            self["loss"][1] = 1.0
        elif divisor:
            self._count("loss", loss * divisor, divisor)
        for name, metric in metrics.items():
            if metric.parts is not None:
                with naming(name):
                    self._count(name, *metric.parts(output, target))
        if any(metric.parts is None for metric in metrics.values()):
            self.setdefault("outputs", []).append(np.array(to_numpy(output)))
            self.setdefault("targets", []).append(np.array(to_numpy(target)))

    def values_of(self, metrics: Mapping[str, Metric]) -> dict[str, float]:
        """The loss and the metrics; NaN if every batch was skipped."""
        return {"loss": self._mean("loss")} | {
            name: self._whole(name, metric)
            if metric.parts is None
            else metric.finish(self._mean(name))
            for name, metric in metrics.items()
        }

    def copied(self) -> Totals:
        """A copy that later batches do not change."""
        return Totals({name: [*values] for name, values in self.items()})

    def _count(self, name: str, total: float, count: float) -> None:
        sums = self.setdefault(name, [0.0, 0.0])
        sums[0] += total
        sums[1] += count

    def _mean(self, name: str) -> float:
        total, count = self.get(name, (math.nan, 1.0))
        return total / count if count else math.nan

    def _whole(self, name: str, metric: Metric) -> float:
        if "outputs" not in self or metric.whole is None:
            return math.nan
        with naming(name):
            value = metric.whole(np.concatenate(self["outputs"]), np.concatenate(self["targets"]))
        return numbers.as_float("Trainer", f"metrics[{name!r}]", value, "a number")


@contextmanager
def naming(name: str) -> Iterator[None]:
    """An error of a metric says which one."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"the metric {name!r} failed: {error}") from error
