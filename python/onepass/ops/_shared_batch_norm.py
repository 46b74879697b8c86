"""Batch norm of a batch that lies in several shares, one for each rank of a data-parallel run.

Every rank gives what the others need of its own share, `sum_` over ranks brings all of it to all of
them, and each adds it up in the order of ranks, so that all have the same statistics. A share may
be of any size; one without samples takes part.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from onepass import _C
from onepass._array import Array, contiguous, zeros
from onepass.ops._fused import ActivationSpec, resolve

# Rows of a share: count, mean, what rounding the mean lost, Σ(x - mean)², and the scale of all
# three; count, Σg and Σ g·x̂.
MOMENTS, SUMS = 5, 3
ONE_VALUE = "one value per channel has no variance"  # the kernels say it in the same words


class Ranks(Protocol):
    """What is needed of a communicator."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def sum_(self, array: Any, /) -> object:
        """The sum over ranks, in place."""


class SavedShare(NamedTuple):
    """For `shared_batch_norm_backward`.

    Attributes:
        ranks: the communicator.
        kept: what the kernels take after ``dy``: x, weight, bias, residual, statistics, axis, and
            the options of what follows the norm.
    """

    ranks: Ranks
    kept: tuple[Any, ...]

    @property
    def axis(self) -> int:
        """The axis of the channels."""
        return int(self.kept[5])


def shared_batch_norm(
    ranks: Ranks,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    *,
    training: Literal[True] = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    residual: Array | None = None,
    activation: ActivationSpec = None,
    dropout_p: float = 0.0,
    seed: int | Array = 0,
    offset: int | Array = 0,
    first: int = 0,
    channels_last: bool = False,
) -> tuple[Array, SavedShare]:
    """`batch_norm` in training, by the statistics of the shares of all ranks.

    Raises:
        ValueError: all ranks together have one value per channel; else as `batch_norm`.
        TypeError: as `batch_norm`.
    """
    name, options = resolve("batch_norm", activation)
    if eps == 0:  # only where the running statistics normalise, which is without ranks
        raise ValueError(f"batch_norm: 'eps' is {eps!r}, expected a finite number > 0")
    axis = -1 if channels_last else 1
    x = contiguous(x)
    shares = zeros((ranks.size, MOMENTS, x.shape[axis]), np.float64, x)
    _C.batch_norm_moments(x, shares[ranks.rank], axis, eps)
    fill_rows(ranks, shares)
    if x.size <= x.shape[axis]:  # else there are enough
        _check_count(x, shares)
    y, kept = _C.batch_norm_of_shares(
        x, weight, bias, running_mean, running_var, residual, None, shares, axis, momentum, eps,
        name, options, dropout_p, seed, offset, first,
    )  # fmt: skip
    return y, SavedShare(ranks, kept)


def shared_batch_norm_backward(
    dy: Array, saved: SavedShare, *, add: Array | None = None, out: Array | None = None
) -> tuple[Array | None, ...]:
    """`batch_norm_backward`: dx is that of the whole batch, dweight and dbias those of this share.

    Raises:
        TypeError, ValueError: as `batch_norm_backward`.
    """
    ranks, kept = saved
    dy, x = contiguous(dy), kept[0]
    shares = zeros((ranks.size, SUMS, x.shape[saved.axis]), np.float64, x)
    own: tuple[Any, ...] = (dy, *kept, shares[ranks.rank])
    dweight, dbias, dresidual = _C.batch_norm_backward_sums(*own)
    fill_rows(ranks, shares)
    of_all: tuple[Any, ...] = (dy, *kept, shares, dresidual, out, add)
    dx = _C.batch_norm_backward_of_shares(*of_all)
    return (dx, dweight, dbias) if dresidual is None else (dx, dweight, dbias, dresidual)


def fill_rows(ranks: Ranks, shares: Array) -> None:
    """Brings the row of each rank to all: an engine may do that with less than a sum."""
    getattr(ranks, "_fill_rows", ranks.sum_)(shares)


def _check_count(x: Array, shares: Array) -> None:
    if shares.shape[2] and float(shares[:, 0, 0].sum()) == 1:
        raise ValueError(
            f"batch_norm: 'x' has shape {tuple(x.shape)}, and all ranks together have one sample: "
            f"{ONE_VALUE}; train on at least two samples (drop_last=True "
            "drops a short last batch) or normalise by running statistics (eval mode)"
        )
