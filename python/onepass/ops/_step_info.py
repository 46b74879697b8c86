"""What a step reports: on the host, and on a device that is still at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from onepass._array import Array
from onepass._cuda_memory import read_back


class StepInfo(NamedTuple):
    """The outcome of a step.

    A step on CUDA arrays leaves some attributes on the device: all of them with
    ``nonfinite="skip"``, ``grad_norm`` with ``max_norm``. Reading one of those waits for the step.
    If a CUDA graph captured the step, they describe the last replay.

    Attributes:
        skipped: True if a gradient was not finite and nothing was changed.
        grad_norm: global norm of the gradients after unscaling and before clipping; None without
            ``max_norm``.
        nonfinite_param: index of the first parameter whose gradient holds Inf or NaN; None if
            there is none or ``nonfinite`` is "propagate".
        loss: what the closure of ``step(closure)`` returned; None without one. Not part of the
            tuple.
    """

    skipped: bool
    grad_norm: float | None
    nonfinite_param: int | None

    @property
    def loss(self) -> Any:
        """The result of the closure of ``step(closure)``; None without one."""
        return getattr(self, "_loss", None)


class _OwnStepInfo(StepInfo):
    """A StepInfo with room for a loss."""

    _loss: Any

    def __repr__(self) -> str:
        return repr(StepInfo(*self))


def with_loss(info: StepInfo, loss: Any) -> StepInfo:
    """``info`` of a step before which a closure returned ``loss``."""
    own = info if isinstance(info, _OwnStepInfo) else _OwnStepInfo(*info)
    own._loss = loss
    return own


class _DeviceStepInfo(_OwnStepInfo):
    """A StepInfo that lies on a device; each look at it copies it from there."""

    _read: Callable[[], StepInfo]

    def __new__(cls, read: Callable[[], StepInfo]) -> _DeviceStepInfo:
        self = super().__new__(cls, False, None, None)
        self._read = read
        return self

    skipped = property(lambda self: self._read().skipped)
    grad_norm = property(lambda self: self._read().grad_norm)
    nonfinite_param = property(lambda self: self._read().nonfinite_param)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._read())

    def __getitem__(self, key: Any) -> Any:
        return self._read()[key]

    def __eq__(self, other: object) -> bool:
        return tuple(self) == (tuple(other) if isinstance(other, tuple) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._read())

    def __repr__(self) -> str:
        return repr(self._read())

    def __reduce__(self) -> Any:
        return StepInfo, tuple(self)


def on_device(
    result: Array, where: tuple[tuple[int, ...], int, int], clips: bool, checks: bool
) -> StepInfo:
    """The StepInfo of a step whose ``result`` is a NormResult (csrc/core/backend.h) on a device."""
    positions, device, stream = where

    def read() -> StepInfo:
        host = read_back(result, device, stream)
        first = int(host.view(np.int64)[2])
        index = positions[first] if checks and first >= 0 else None
        return StepInfo(index is not None, float(host[0]) if clips else None, index)

    return _DeviceStepInfo(read)
