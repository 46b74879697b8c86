"""Saves the buffers that a step changes, to restore them if the step is skipped or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onepass._array import copy_into, empty_like


class Buffers:
    """Copies of the buffers of a model; copies on a device do not synchronise.

    The forward pass updates the running statistics before the loss shows whether the step counts.
    Without the copies, one NaN among the samples would stay in them for ever.

    Args:
        model: an ``nn.Module``.
    """

    def __init__(self, model: Any) -> None:
        self._kept = [
            (_copier(array), module, name, empty_like(array))
            for module in model.modules()
            for name in module.buffer_names
            if (array := getattr(module, name)) is not None
        ]

    def keep(self) -> None:
        """Copy the present values."""
        for copy, module, name, kept in self._kept:
            copy(kept, getattr(module, name))

    def put_back(self) -> None:
        """Give the model the values of the last ``keep``, in its own arrays."""
        for copy, module, name, kept in self._kept:
            copy(getattr(module, name), kept)


class ModelState:
    """What a forward call changes: the buffers, and the places in the streams of dropout."""

    def __init__(self, model: Any, buffers: Buffers | None = None) -> None:
        self.buffers = Buffers(model) if buffers is None else buffers
        streams = (getattr(module, "stream", None) for module in model.modules())
        self._streams: list[Any] = [stream for stream in streams if hasattr(stream, "peek")]

    def keep(self) -> None:
        """Keep the present state."""
        self.buffers.keep()
        self._masks = [stream.peek() for stream in self._streams]

    def again(self) -> None:
        """Give the model the buffers and the masks of the last ``keep``."""
        self.buffers.put_back()
        for stream, mask in zip(self._streams, self._masks, strict=True):
            stream.set(*mask)


class StepStart(ModelState):
    """The state at the start of a step, for one that an exception ends: it is done again.

    A fit that goes on, or a checkpoint written afterwards, then has every batch once, with the
    masks of dropout that it would have had.
    """

    def __init__(self, run: Any, buffers: Buffers) -> None:
        super().__init__(run.model, buffers)
        self._run = run

    def keep(self) -> None:
        super().keep()
        self._counters = self._run.counters()

    def put_back(self) -> None:
        """Return to the state of the last ``keep``, unless the step was done."""
        if self._run.go_back(self._counters):
            self.again()


def _copier(array: Any) -> Callable[[Any, Any], None]:
    """Every step copies, so NumPy arrays skip the search for the library of an array."""
    return _set if isinstance(array, np.ndarray) else copy_into


def _set(to: Any, value: Any) -> None:
    to[...] = value
