"""Batch norms that normalise by the samples of all ranks of a data-parallel run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from onepass.nn._batch_norm import BatchNorm
from onepass.nn._module import Module
from onepass.nn._running import Running

OWNER = "convert_sync_batch_norm"
M = TypeVar("M", bound=Module)


def convert_sync_batch_norm(model: M, comm: Any) -> M:
    """Let batch norms use the batch of all ranks together, in place. Returns the model.

    Each `BatchNorm1d`, `BatchNorm2d` and `BatchNorm3d` inside then does in training what one layer
    would do with the samples of all ranks in one batch: mean, variance and running statistics are
    those of all samples, and the gradient of x accounts for it. All ranks have the same running
    statistics. The gradients of weight and bias are those of a rank's own samples: add them up over
    ranks, as all others. Ranks may have different numbers of samples, also none; but all must make
    the same calls. Where the running statistics normalise nothing changes.

    A forward call exchanges 5, a backward call 3 float64 numbers for each channel and rank, which
    every rank then merges in the order of ranks (Chan, Golub and LeVeque 1983): the work grows with
    the number of ranks. Gradients of float64 whose sum over a channel is beyond 2^1024 overflow.

    The layers keep ``comm``; copies and files of the model do not.

    Args:
        model: module.
        comm: a communicator of `onepass.parallel`, or any object with ``rank``, ``size`` and
            ``sum_(array)``, which leaves in an array the sum over ranks; of NumPy arrays for a
            model on the CPU, of CuPy's for one on CUDA. With one rank, or None, the layers are
            ordinary ones again.

    Raises:
        TypeError: ``model`` is not a module, or ``comm`` lacks one of these.
        ValueError: ``model`` has another norm whose running statistics follow the batch:
            `BatchRenorm`, `DecorrelatedBatchNorm`, an instance norm with running statistics. One
            that is frozen may stay. Nothing is changed.

    Example:
        >>> from onepass import nn
        >>> class Alone:
        ...     rank, size = 0, 1
        ...     def sum_(self, array):
        ...         pass
        >>> model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU())
        >>> nn.convert_sync_batch_norm(model, Alone()) is model
        True
    """
    if not isinstance(model, Module):
        raise TypeError(f"{OWNER}: 'model' is a {type(model).__name__}, expected an nn.Module")
    several = comm is not None and _size(comm) > 1
    norms = list(_norms(model, several))
    for norm in norms:
        norm._comm = comm if several else None
    return model


def _size(comm: Any) -> int:
    rank, size = getattr(comm, "rank", None), getattr(comm, "size", None)
    if isinstance(rank, int) and isinstance(size, int) and callable(getattr(comm, "sum_", None)):
        return size
    raise TypeError(
        f"{OWNER}: 'comm' is a {type(comm).__name__}, expected a communicator: integers 'rank' and "
        "'size', and 'sum_(array)'"
    )


def _norms(model: Module, several: bool) -> Iterator[BatchNorm]:
    for name, module in model.named_modules():
        if isinstance(module, BatchNorm) and type(module).function is BatchNorm.function:
            yield module
        elif (
            several
            and isinstance(module, Running)
            and module.has_statistics()
            and not module.statistics_frozen
        ):
            kind = type(module).__name__
            raise ValueError(
                f"{OWNER}: {name!r} is a {kind}, whose statistics are those of one rank; expected "
                "nn.BatchNorm1d, BatchNorm2d or BatchNorm3d, or a norm that is frozen"
            )
