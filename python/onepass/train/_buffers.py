"""Running statistics as they were before a step, for one that is skipped or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onepass._array import copy_into, empty_like


class Buffers:
    """Copies of a model's buffers; on a device they wait for nothing.

    The forward pass moves the running statistics before anybody knows whether the step will be
    taken: one NaN among the samples would stay in them for ever.

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
        """Take over the present values."""
        for copy, module, name, kept in self._kept:
            copy(kept, getattr(module, name))

    def put_back(self) -> None:
        """Give the model the values of the last ``keep``, in its own arrays."""
        for copy, module, name, kept in self._kept:
            copy(getattr(module, name), kept)


def _copier(array: Any) -> Callable[[Any, Any], None]:
    """Every step copies: NumPy's arrays go without what finds out whose an array is."""
    return _set if isinstance(array, np.ndarray) else copy_into


def _set(to: Any, value: Any) -> None:
    to[...] = value
