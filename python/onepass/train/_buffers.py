"""Copies of the running statistics from before a step, to undo a skipped or refused one."""

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
        model: an ``nn.Module``; None keeps nothing.
    """

    def __init__(self, model: Any) -> None:
        self._kept = [
            (_copier(array), module, name, empty_like(array))
            for module in (model.modules() if model is not None else ())
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


def _copier(array: Any) -> Callable[[Any, Any], None]:
    """Every step copies, so NumPy arrays skip the search for the library of an array."""
    return _set if isinstance(array, np.ndarray) else copy_into


def _set(to: Any, value: Any) -> None:
    to[...] = value
