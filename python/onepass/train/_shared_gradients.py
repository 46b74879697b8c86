"""The gradients of a step over all ranks: one sum, or one order for any number of ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from onepass._array import Array, copy_into, empty, library, parameter_dtype, zeros_like
from onepass.parallel._collectives import tree_sum_
from onepass.parallel._gradients import Reduction
from onepass.train._ranks import Ranks


class Summed:
    """Gradients that are added up where they are, and over ranks once a step.

    Args:
        optimizer: whose parameters' gradients they are.
    """

    def __init__(self, optimizer: Any, ranks: Ranks) -> None:
        self.optimizer = optimizer
        self._sum = Reduction(optimizer, ranks.comm)

    def begin_step(self) -> None:
        """Before the first batch of a step."""

    def end_piece(self, parameters: list[Any] | None) -> None:
        """After the backward of a piece of a batch.

        Args:
            parameters: those that have its gradients; None: the optimizer's.
        """

    def end_batch(self) -> None:
        """After those of all pieces that this rank has of a batch."""

    def end_step(self, numbers: Any) -> None:
        """Leave the sums over ranks in the gradients, and in ``numbers``."""
        self._sum(extra=numbers)


class InTree:
    """Gradients of pieces, added up in the balanced binary tree over the pieces of a batch.

    A rank adds up those of its own pieces, and keeps a sum of 2ⁱ pieces for each i at most; ranks
    go on with the tree. Sums of 16-bit gradients are in float32, and rounded at the end. Batches
    that make one step follow one another.
    """

    def __init__(self, optimizer: Any, ranks: Ranks) -> None:
        self.optimizer, self._ranks = optimizer, ranks
        self.begin_step()

    def begin_step(self) -> None:
        """Before the first batch of a step."""
        self._sums: list[tuple[int, list[Array | None]]] = []  # (pieces, their sum), largest first
        self._batches: list[Array | None] | None = None
        self._count = 0

    def end_piece(self, parameters: list[Any] | None) -> None:
        """Take the gradients of a piece, as `Summed.end_piece`."""
        pieces, sums = 1, [self._taken(p) for p in parameters or self._parameters()]
        while self._sums and self._sums[-1][0] == pieces:
            pieces, sums = 2 * pieces, _added(self._sums.pop()[1], sums)
        self._sums.append((pieces, sums))

    def end_batch(self) -> None:
        """Add up those of all ranks."""
        ((_, sums),) = self._sums
        self._sums = []
        self._over_ranks(sums)
        self._batches = sums if self._batches is None else _added(self._batches, sums)

    def end_step(self, numbers: Any) -> None:
        """Leave the sums over ranks in the gradients, and in ``numbers``."""
        self._ranks.comm.sum_(numbers)
        for parameter, grad in zip(self._parameters(), self._batches or (), strict=False):
            if grad is None:
                continue
            if grad.dtype == parameter.dtype:
                parameter.grad = grad
            else:
                parameter.grad = zeros_like(parameter.data, parameter.data.dtype)
                copy_into(parameter.grad, grad)
        self.begin_step()

    def _parameters(self) -> Iterator[Any]:
        return (p for group in self.optimizer.param_groups for p in group["params"])

    def _taken(self, parameter: Any) -> Array | None:
        """The gradient, which the parameter has no more."""
        grad = parameter.grad
        if grad is None:
            return None
        parameter.grad = None
        wide = parameter_dtype(grad)
        if grad.dtype == wide:
            return grad
        converted = zeros_like(grad, wide)
        copy_into(converted, grad)
        return converted

    def _over_ranks(self, sums: list[Array | None]) -> None:
        """Of each dtype as one array."""
        comm = self._ranks.comm
        if comm.size == 1:
            return
        there = np.array([grad is not None for grad in sums], np.int64)
        comm.sum_(there)
        for index, parameter in enumerate(self._parameters()):
            if sums[index] is None and there[index]:  # used by the samples of other ranks alone
                sums[index] = zeros_like(parameter.data, parameter_dtype(parameter.data))
        kinds: dict[Any, list[Array]] = {}
        for grad in sums:
            if grad is not None:
                kinds.setdefault((library(grad).__name__, str(grad.dtype)), []).append(grad)
        for grads in kinds.values():
            ends = np.cumsum([0, *(grad.size for grad in grads)]).tolist()
            flat = empty((ends[-1],), grads[0].dtype, grads[0])
            parts = [
                flat[begin:end].reshape(grad.shape)
                for grad, begin, end in zip(grads, ends, ends[1:], strict=False)
            ]
            for part, grad in zip(parts, grads, strict=True):
                copy_into(part, grad)
            tree_sum_(comm, flat)
            for part, grad in zip(parts, grads, strict=True):
                copy_into(grad, part)


def gradients_of(optimizer: Any, ranks: Ranks) -> Summed | InTree:
    """How the gradients of an optimizer are added up."""
    return InTree(optimizer, ranks) if ranks.are_pieces_fixed else Summed(optimizer, ranks)


def _added(low: list[Array | None], high: list[Array | None]) -> list[Array | None]:
    """``low + high`` of each parameter, in the memory of ``low``."""
    for index, (grad, other) in enumerate(zip(low, high, strict=True)):
        if grad is None:
            low[index] = other
        elif other is not None:
            grad += other
    return low
