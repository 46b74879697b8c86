"""The gradients of a step over all ranks: one sum, or one order for any number of ranks."""

from __future__ import annotations

from functools import partial
from typing import Any

from onepass._array import Array, copy_into, parameter_dtype, zeros_like
from onepass._parameter import parameters_of
from onepass.parallel._collectives import tree_sum_
from onepass.parallel._gradients import Reduction
from onepass.train._ranks import Ranks


class Summed:
    """Gradients that are added up where they are, and over ranks once a step.

    Args:
        optimizer: whose parameters' gradients they are.

    Attributes:
        by_batch: whether ranks add up after each batch, instead of once a step.
    """

    by_batch = False

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

    def end_batch(self, numbers: Any) -> None:
        """After those of all pieces that this rank has of a batch.

        Args:
            numbers: of the batch, float64; with ``by_batch`` their sum over ranks is left in them.
        """

    def end_step(self, numbers: Any) -> None:
        """Leave the sums over ranks in the gradients, and without ``by_batch`` in ``numbers``."""
        self._sum(extra=numbers)


class InTree:
    """Gradients of pieces, added up in the balanced binary tree over the pieces of a batch.

    A rank adds up those of its own pieces, and keeps a sum of 2ⁱ pieces for each i at most; ranks
    go on with the tree. Sums of 16-bit gradients are in float32, and rounded at the end. Batches
    that make one step follow one another.
    """

    by_batch = True

    def __init__(self, optimizer: Any, ranks: Ranks) -> None:
        self.optimizer = optimizer
        self._over_ranks = Reduction(optimizer, ranks.comm, partial(tree_sum_, ranks.comm))
        self.begin_step()

    def begin_step(self) -> None:
        """Before the first batch of a step."""
        self._sums: list[tuple[int, list[Array | None]]] = []  # (pieces, their sum), largest first
        self._batches: list[Array | None] | None = None

    def end_piece(self, parameters: list[Any] | None) -> None:
        """Take the gradients of a piece, as `Summed.end_piece`."""
        pieces, sums = 1, [_taken(p) for p in parameters or parameters_of(self.optimizer)]
        while self._sums and self._sums[-1][0] == pieces:
            pieces, sums = 2 * pieces, _added(self._sums.pop()[1], sums)
        self._sums.append((pieces, sums))

    def end_batch(self, numbers: Any) -> None:
        """Add up those of all ranks, and ``numbers``."""
        ((_, sums),) = self._sums
        self._sums = []
        self._over_ranks(sums, extra=numbers)
        self._batches = sums if self._batches is None else _added(self._batches, sums)

    def end_step(self, numbers: Any) -> None:
        """Leave the sums in the gradients."""
        parameters = parameters_of(self.optimizer)
        for parameter, grad in zip(parameters, self._batches or (), strict=False):
            if grad is None:
                continue
            if grad.dtype == parameter.dtype:
                parameter.grad = grad
            else:
                parameter.grad = zeros_like(parameter.data, parameter.data.dtype)
                copy_into(parameter.grad, grad)
        self.begin_step()


def gradients_of(optimizer: Any, ranks: Ranks) -> Summed | InTree:
    """How the gradients of an optimizer are added up."""
    return InTree(optimizer, ranks) if ranks.are_pieces_fixed else Summed(optimizer, ranks)


def _taken(parameter: Any) -> Array | None:
    """The gradient, in the dtype of sums, which the parameter has no more."""
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


def _added(low: list[Array | None], high: list[Array | None]) -> list[Array | None]:
    """``low + high`` of each parameter, in the memory of ``low``."""
    for index, (grad, other) in enumerate(zip(low, high, strict=True)):
        if grad is None:
            low[index] = other
        elif other is not None:
            grad += other
    return low
