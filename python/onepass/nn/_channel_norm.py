"""Common to batch and instance norms: parameters and running statistics of each channel."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from onepass import _numbers as numbers
from onepass._array import Array
from onepass._parameter import Parameter
from onepass.nn._checks import check_dtype, like
from onepass.nn._facts import Read, bypassable
from onepass.nn._fusable import Fusable
from onepass.nn._running import Running
from onepass.nn._signal import Norm


class ChannelNorm(Norm, Running, Fusable):
    """Base of a norm whose ``weight``, ``bias`` and running statistics have a value a channel.

    ``shapes`` names the inputs, whose numbers of axes are ``ranks``.
    """

    ranks: ClassVar[tuple[int, ...]]
    shapes: ClassVar[str]
    decides = (*Fusable.decides, "uses_batch")
    buffer_names = ("running_mean", "running_var", "num_batches_tracked")

    num_features: int
    eps: float
    momentum: float | None

    def _make(self, num_features: Any, affine: bool, tracks: bool, dtype: Any) -> None:
        owner = type(self).__name__
        count = self.num_features = numbers.integer(owner, "num_features", num_features, 1)
        self.affine = affine
        self.track_running_stats = tracks
        known = check_dtype(owner, dtype)
        self.weight = Parameter(np.ones(count, known)) if affine else None
        self.bias = Parameter(np.zeros(count, known)) if affine else None
        self.running_mean: Array | None = np.empty(count, known) if tracks else None
        self.running_var: Array | None = np.empty(count, known) if tracks else None
        self.num_batches_tracked = np.empty((), np.int64) if tracks else None
        for array, value in self.fresh_statistics():
            array[...] = value

    def _fresh(self) -> dict[str, Any]:
        return {"running_mean": 0, "running_var": 1, "num_batches_tracked": 0}

    @bypassable
    def uses_batch(self, read: Read = getattr) -> bool:
        """Whether the next call takes its statistics from its input."""
        if read(self, "training") and not read(self, "statistics_frozen"):
            return True
        return read(self, "running_mean") is None

    @bypassable
    def can_drop(self, read: Read) -> bool:
        return self.uses_batch(read)  # with running statistics the kernel does not drop

    def _begin(self, x: Array) -> bool:
        """Whether the statistics are those of x, whose shape is checked."""
        shape: Any = getattr(x, "shape", ())  # the kernel refuses other things than float arrays
        if len(shape) not in self.ranks or shape[1] != self.num_features:
            owner = type(self).__name__
            given = like(owner, "x", x)[2]
            expected = self.shapes.replace("C", str(self.num_features))
            raise ValueError(f"{owner}: x has shape {given}, expected {expected}")
        return self.uses_batch()

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, track_running_stats={self.track_running_stats}"
        )
