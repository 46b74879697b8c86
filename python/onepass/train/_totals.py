"""The loss and metrics of an epoch, gathered from its batches whatever their sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from onepass import _numbers as numbers
from onepass._array import to_numpy
from onepass.train._classes import UndefinedError
from onepass.train._metrics import Metric
from onepass.train._warned import warn

NONE = (0.0, 0.0)


class Totals:
    """Sums over the batches so far; and where a metric needs them, all outputs and targets.

    Attributes:
        sums: name → (sum, count).
        summed: whether the loss is a sum over samples, no mean.
        outputs, targets: arrays, one a batch.
    """

    summed = False

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, float]] = {}
        self.outputs: list[Any] = []
        self.targets: list[Any] = []

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
            self.summed = True
            self.sums["loss"] = self.sums.get("loss", NONE)[0] + loss, 1.0
        elif divisor:
            self._count("loss", loss * divisor, divisor)
        for name, metric in metrics.items():
            with naming(name):
                if metric.parts is not None:
                    self._count(name, *metric.parts(output, target))
                elif metric.settle is not None and not self.outputs:
                    metric.settle(output, target)
        if any(metric.parts is None for metric in metrics.values()):
            self.outputs.append(np.array(to_numpy(output)))
            self.targets.append(np.array(to_numpy(target)))

    def join(self, other: Totals) -> None:
        """Add what another one has counted."""
        self.summed |= other.summed
        for name, (total, count) in other.sums.items():
            if name == "loss" and other.summed:
                self.sums[name] = self.sums.get(name, NONE)[0] + total, 1.0
            else:
                self._count(name, total, count)
        self.outputs += other.outputs
        self.targets += other.targets

    def values_of(self, metrics: Mapping[str, Metric]) -> dict[str, float]:
        """The loss and the metrics; NaN if every batch was skipped."""
        return {"loss": self._mean("loss")} | {
            name: self._whole(name, metric)
            if metric.parts is None
            else metric.finish(self._mean(name))
            for name, metric in metrics.items()
        }

    def refuse_others(self, metrics: Mapping[str, Metric]) -> None:
        """Refuse metrics that the batches so far have not been counted in."""
        if "loss" not in self.sums:
            return  # all were skipped
        lacking = [
            name
            for name, metric in metrics.items()
            if (name not in self.sums if metric.parts is not None else not self.outputs)
        ]
        if lacking:
            raise ValueError(
                f"fit: 'metrics' has {lacking[0]!r}, expected those of the epoch's batches before: "
                "the run goes on inside an epoch, and a metric is of a whole one; set it in "
                "on_epoch_end, or resume from a checkpoint between two epochs"
            )

    def mark(self) -> tuple[Any, int]:
        """The state now, for `go_back`; every step asks for it."""
        return self.sums.copy(), len(self.outputs)

    def go_back(self, mark: tuple[Any, int]) -> None:
        """Forget the batches since ``mark``."""
        self.sums, count = mark
        del self.outputs[count:], self.targets[count:]

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint inside an epoch."""
        return {"sums": self.sums, "outputs": self.outputs, "targets": self.targets}

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> Totals:
        """Totals that go on from ``state_dict()``, or from what version 0.1 saved."""
        totals = Totals()
        sums = state.get("sums")
        if not isinstance(sums, dict):  # outputs and targets were among the sums
            sums = {k: v for k, v in state.items() if k not in ("outputs", "targets")}
        totals.sums = {name: (float(total), float(n)) for name, (total, n) in sums.items()}
        totals.outputs = [*state.get("outputs", ())]
        totals.targets = [*state.get("targets", ())]
        return totals

    def _count(self, name: str, total: float, count: float) -> None:
        before = self.sums.get(name, NONE)
        self.sums[name] = before[0] + total, before[1] + count

    def _mean(self, name: str) -> float:
        total, count = self.sums.get(name, (math.nan, 1.0))
        return total / count if count else math.nan

    def _whole(self, name: str, metric: Metric) -> float:
        if not self.outputs or metric.whole is None:
            return math.nan
        try:
            with naming(name):
                value = metric.whole(np.concatenate(self.outputs), np.concatenate(self.targets))
        except UndefinedError as error:
            warn(f"the metric {name!r} is nan: {error}")
            return math.nan
        return numbers.as_float("Trainer", f"metrics[{name!r}]", value, "a number")


@contextmanager
def naming(name: str) -> Iterator[None]:
    """An error of a metric says which one."""
    try:
        yield
    except UndefinedError:
        raise
    except Exception as error:
        raise ValueError(f"the metric {name!r} failed: {error}") from error
