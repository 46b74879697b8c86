"""Batch normalisation over vectors, sequences, images and volumes: one class, three ranks."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from onepass import _numbers as numbers
from onepass import ops
from onepass._array import Array
from onepass._docs import continues
from onepass.nn._channel_norm import ChannelNorm
from onepass.nn._epilogue import Epilogue
from onepass.nn._facts import Facts, bypassable
from onepass.nn._images import channels_first, channels_last, lies_channels_last, take_mask
from onepass.ops._shared_batch_norm import (
    ONE_VALUE,
    SavedShare,
    shared_batch_norm,
    shared_batch_norm_backward,
)


class OneValueError(ValueError):
    """A batch that has one value per channel, which has no variance.

    Attributes:
        norm: the class of the layer.
    """

    norm = "BatchNorm"


class BatchNorm(ChannelNorm):
    """``y = (x - mean) / √(var + eps) · weight + bias``, per channel (axis 1).

    In training mean and var are those of the batch (var over n), and the running statistics move:
    ``running = (1 - momentum) running + momentum · batch`` (var over n - 1). In evaluation mean and
    var are the running ones. Source: Ioffe and Szegedy 2015.

    Args:
        num_features: number of channels.
        eps: added to the variance, finite and > 0.
        momentum: weight of the new batch, 0 to 1; None gives the plain average of all batches.
        affine: False leaves weight and bias out.
        track_running_stats: False keeps no running statistics; evaluation then uses the batch too.
        dtype: "float32" or "float64".

    Attributes:
        weight, bias: `Parameter` (num_features,), ones and zeros at first, or None.
        running_mean, running_var: arrays (num_features,), zeros and ones at first, or None.
        num_batches_tracked: int64 array (), on the host, or None.

    Raises:
        TypeError: an argument is not a number; in forward and backward, not an array of floats, or
            another dtype.
        ValueError: an argument out of range; in forward, another shape, or a single value per
            channel in training.
    """

    function: ClassVar[Any] = staticmethod(ops.batch_norm)  # gives (y, saved)
    gradient: ClassVar[Any] = staticmethod(ops.batch_norm_backward)  # goes backward
    own_options: ClassVar[tuple[str, ...]] = ()  # attributes that function takes besides
    _comm: Any = None  # of the ranks whose batch is one: see convert_sync_batch_norm

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: Any = "float32",
    ) -> None:
        owner = type(self).__name__
        self._make(num_features, affine, track_running_stats, dtype)
        self.eps = numbers.in_range(owner, "eps", eps, above=0)
        if momentum is not None:
            momentum = numbers.in_range(owner, "momentum", momentum, 0, most=1, or_none=True)
        self.momentum = momentum

    @bypassable
    def takes_residual(self, facts: Facts[Any]) -> bool:
        return self.epilogue_head(facts) is not None

    def fused_forward(self, x: Array, epilogue: Epilogue) -> Array:
        momentum, batch = self.momentum, self._begin(x)
        options = epilogue.options(x, x.shape)
        for name in self.own_options:
            options[name] = getattr(self, name)
        last = lies_channels_last(x)
        mask = take_mask(options) if last else None
        if last:
            options["channels_last"] = True
            if "residual" in options:
                options["residual"] = channels_last(options["residual"])
        function = type(self).function
        if batch and (comm := self._comm) is not None and getattr(comm, "is_open", True):
            function = partial(shared_batch_norm, comm)
        try:
            y, saved = function(
                channels_last(x) if last else x,
                None if self.weight is None else self.weight.data,
                None if self.bias is None else self.bias.data,
                self.running_mean,
                self.running_var,
                training=batch,
                momentum=self._average() if momentum is None else momentum,
                eps=self.eps,
                **options,
            )
        except BaseException as error:
            epilogue.refused()
            if batch and isinstance(error, ValueError) and ONE_VALUE in str(error):
                refused = OneValueError(str(error))
                refused.norm = type(self).__name__
                raise refused from error
            raise
        if batch and (tracked := self.num_batches_tracked) is not None:
            tracked[...] = int(tracked) + 1  # `tracked += 1` takes a microsecond, this 0.15
        self._remember((saved, epilogue, mask))
        y = channels_first(y) if last else y
        return y if mask is None else ops.dropout(y, out=y, **mask)

    @bypassable
    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        dx = self._go_back(dy, {})
        return dx if need_input_grad else None

    def takes_gradient(self, facts: Facts[Any]) -> bool:
        return facts.keeps(self, "forward", "backward")

    def backward_onto(self, dy: Array, onto: Epilogue) -> Array:
        other, last = onto.residual_grad, self.recall()[0].axis != 1
        if other is None or other.dtype != dy.dtype:
            return self._go_back(dy, {}) + other
        whole = channels_last(other) if last else other
        in_place = onto.residual is not None and lies_channels_last(other) == last
        return self._go_back(dy, {"add": whole, "out": whole if in_place else None})

    def _go_back(self, dy: Array, options: dict[str, Any]) -> Array:
        saved, epilogue, mask = self.recall()
        last = saved.axis != 1
        if mask is not None:
            dy = ops.dropout_backward(dy, **mask)
        given = channels_last(dy) if last else dy
        shared = type(saved) is SavedShare
        gradient = shared_batch_norm_backward if shared else type(self).gradient
        dx, dweight, dbias, *rest = gradient(given, saved, **options)
        if self.weight is not None:
            self.weight.accumulate(dweight)
        if self.bias is not None:
            self.bias.accumulate(dbias)
        if rest:
            epilogue.residual_grad = channels_first(rest[0]) if last else rest[0]
        return channels_first(dx) if last else dx

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_comm", None)  # a copy is a layer by itself
        return state

    def _average(self) -> float:
        """The plain average is a momentum of 1/n at the n-th batch."""
        return 1.0 if self.num_batches_tracked is None else 1 / (int(self.num_batches_tracked) + 1)


@continues
class BatchNorm1d(BatchNorm):
    """Batch norm of vectors (N, C) or sequences (N, C, L).

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.BatchNorm1d(1)(np.array([[1], [3]], np.float32)).round(3).tolist()
        [[-1.0], [1.0]]
    """

    ranks = (2, 3)
    shapes = "(N, C) or (N, C, L)"


@continues
class BatchNorm2d(BatchNorm):
    """Batch norm of images (N, C, H, W).

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.BatchNorm2d(3)(np.zeros((2, 3, 4, 4), np.float32)).shape
        (2, 3, 4, 4)
    """

    ranks = (4,)
    shapes = "(N, C, H, W)"


@continues
class BatchNorm3d(BatchNorm):
    """Batch norm of volumes (N, C, D, H, W).

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.BatchNorm3d(3)(np.zeros((2, 3, 4, 4, 4), np.float32)).shape
        (2, 3, 4, 4, 4)
    """

    ranks = (5,)
    shapes = "(N, C, D, H, W)"
