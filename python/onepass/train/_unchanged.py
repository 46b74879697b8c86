"""Restores a model and its optimizer afterwards, whatever happened in between."""

from __future__ import annotations

import copy
from typing import Any

from onepass._array import copy_into
from onepass._interruptions import to_the_end
from onepass.nn._random import kept_streams


class Unchanged:
    """Keeps copies when made; gives everything back at `restore`, and when the block ends.

    Parameters, gradients, running statistics, the optimizer's state, step counts and groups, the
    streams of dropout. Modes come back by themselves: `using` of onepass.nn._use sees to them.
    """

    def __init__(self, model: Any, optimizer: Any) -> None:
        self.model, self.optimizer = model, optimizer
        self._weights = model.state_dict()
        self._state = copy.deepcopy(optimizer.state_dict())
        self._groups = [dict(group) for group in optimizer.param_groups]
        self._grads = [
            (p, p.grad, None if p.grad is None else p.grad.copy()) for p in model.parameters()
        ]
        self._masks = kept_streams(model)

    def restore(self) -> None:
        """Give everything back; may be called again."""
        self.model.load_state_dict(self._weights)
        self.optimizer.load_state_dict(self._state)
        for group, kept in zip(self.optimizer.param_groups, self._groups, strict=True):
            group.clear()
            group.update(kept)
        for parameter, array, values in self._grads:
            if values is not None:
                copy_into(array, values)
            parameter.grad = array
        self._masks()

    def __enter__(self) -> Unchanged:
        return self

    def __exit__(self, *error: object) -> None:
        to_the_end(self.restore)
