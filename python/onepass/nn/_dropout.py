"""Dropout without a stored mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from onepass import _numbers as numbers
from onepass import ops
from onepass._array import Array
from onepass.nn._checks import check_gradient, like
from onepass.nn._facts import Read, bypassable
from onepass.nn._module import Module
from onepass.nn._random import Stream
from onepass.nn._signal import Passing


class _Dropping(Passing, Module):
    """A layer that drops with probability ``p``: `_forward` and `_backward` are its functions."""

    _forward: ClassVar[Callable[..., Array]]
    _backward: ClassVar[Callable[..., Array]]

    def __init__(self, p: float = 0.5) -> None:
        self.p = numbers.in_range(type(self).__name__, "p", p, 0, most=1)
        self.stream = Stream()

    @bypassable
    def drops(self, read: Read = getattr) -> bool:
        """Whether the next call drops anything."""
        return bool(read(self, "training") and read(self, "p") > 0)

    def _check(self, x: Array) -> None:
        """Refuse a shape that the layer does not take."""

    @bypassable
    def forward(self, x: Array) -> Array:
        kind = like(type(self).__name__, "x", x)
        self._check(x)
        if not self.drops():
            self._remember((kind, None))
            return x
        seed, offset = self.stream.take(x)
        mask = self.p, seed, offset, self._first(kind[2])
        try:
            y = self._apply(type(self)._forward, x, *mask)
        except BaseException:
            self.stream.give_back()
            raise
        self._remember((kind, mask))
        return y

    @bypassable
    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        y, mask = self.recall()
        if not need_input_grad:
            return None
        check_gradient(f"{type(self).__name__}.backward", dy, y)
        return dy if mask is None else self._apply(type(self)._backward, dy, *mask)

    def _first(self, shape: Sequence[int]) -> int:
        """``first`` of the functions, for an x of this shape."""
        return self.stream.first(shape)

    def _apply(
        self,
        function: Callable[..., Array],
        x: Array,
        p: float,
        seed: int,
        offset: int | Array,
        first: int,
    ) -> Array:
        return function(x, p, seed=seed, offset=offset, first=first)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout(_Dropping):
    """``y = 0`` with probability ``p``, else ``x / (1 - p)``; in evaluation ``y = x``.

    The mask is a function of the layer's ``(seed, offset)`` and the element's index; ``backward``
    computes it again. Each training call moves ``offset`` on by one: see `manual_seed` and
    `get_rng_state`. Where nothing is dropped the layer returns ``x`` itself. Source: Srivastava
    et al. 2014.

    Args:
        p: 0 <= p <= 1.

    Raises:
        TypeError: ``p`` is not a number; in forward and backward, not an array of floats; in
            backward, another dtype than y.
        ValueError: ``p`` is out of range; in backward, another shape than y.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> y = nn.Dropout(0.5)(np.ones(1000, np.float32))
        >>> sorted(set(y.tolist()))
        [0.0, 2.0]
    """

    _forward, _backward = staticmethod(ops.dropout), staticmethod(ops.dropout_backward)


class AlphaDropout(_Dropping):
    """Dropout that keeps a mean of 0 and a variance of 1, for networks of SELU.

    `ops.alpha_dropout` has the formula. Masks, evaluation and errors are as in `Dropout`. Source:
    Klambauer et al. 2017.

    Args:
        p: 0 <= p <= 1.

    Raises:
        TypeError: as `Dropout`.
        ValueError: as `Dropout`.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> y = nn.AlphaDropout(0.5)(np.zeros(1000))
        >>> len(set(y.tolist()))
        2
    """

    _forward, _backward = staticmethod(ops.alpha_dropout), staticmethod(ops.alpha_dropout_backward)


class _MapDropping(_Dropping):
    """Of whole maps: its functions count in rows."""

    def _first(self, shape: Sequence[int]) -> int:
        return self.stream.row


class FeatureAlphaDropout(_MapDropping):
    """Alpha dropout of whole maps: those of each sample and channel are kept or dropped together.

    x is ``(N, C, …)``, with two axes or more, as in PyTorch. `ops.feature_alpha_dropout` has the
    formula. Masks and evaluation are as in `Dropout`. Source: Klambauer et al. 2017.

    Args:
        p: 0 <= p <= 1.

    Raises:
        TypeError: as `Dropout`.
        ValueError: ``x`` has fewer than two axes; else as `Dropout`.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> y = nn.FeatureAlphaDropout(0.5)(np.ones((8, 4, 3, 3)))
        >>> bool((y == y[:, :, :1, :1]).all())
        True
    """

    _forward, _backward = (
        staticmethod(ops.feature_alpha_dropout),
        staticmethod(ops.feature_alpha_dropout_backward),
    )

    def _check(self, x: Array) -> None:
        if x.ndim < 2:
            raise ValueError(
                f"{type(self).__name__}: 'x' has shape {tuple(x.shape)}, expected (N, C, ...)"
            )


class _FeatureDropout(_MapDropping):
    """Drops whole maps; ``_shapes`` names those it takes, by their number of axes."""

    _forward, _backward = (
        staticmethod(ops.feature_dropout),
        staticmethod(ops.feature_dropout_backward),
    )
    _shapes: ClassVar[dict[int, str]]
    _one_sample: ClassVar[int] = 0  # the number of axes of an array without that of samples

    def _check(self, x: Array) -> None:
        if x.ndim not in self._shapes:
            raise ValueError(
                f"{type(self).__name__}: 'x' has shape {tuple(x.shape)}, expected "
                + " or ".join(self._shapes.values())
            )

    def _apply(
        self,
        function: Callable[..., Array],
        x: Array,
        p: float,
        seed: int,
        offset: int | Array,
        first: int,
    ) -> Array:
        if x.ndim == self._one_sample:
            return super()._apply(function, x[None], p, seed, offset, first)[0]
        return super()._apply(function, x, p, seed, offset, first)


class Dropout1d(_FeatureDropout):
    """Dropout of whole maps: those of each sample and channel are kept or dropped together.

    x is ``(N, C, L)``, or ``(C, L)`` of one sample. `ops.feature_dropout`
    has the formula. Masks and evaluation are as in `Dropout`. Source: Tompson et al. 2015.

    Args:
        p: 0 <= p <= 1.

    Raises:
        TypeError: as `Dropout`.
        ValueError: ``x`` has another number of axes; else as `Dropout`.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> y = nn.Dropout1d(0.5)(np.ones((8, 4, 3)))
        >>> bool((y == y[:, :, :1]).all())
        True
    """

    _shapes: ClassVar[dict[int, str]] = {3: "(N, C, L)", 2: "(C, L)"}
    _one_sample = 2


class Dropout2d(_FeatureDropout):
    """Dropout of whole maps: those of each sample and channel are kept or dropped together.

    x is ``(N, C, H, W)``, or ``(N, C, L)`` as in PyTorch. `ops.feature_dropout`
    has the formula. Masks and evaluation are as in `Dropout`. Source: Tompson et al. 2015.

    Args:
        p: 0 <= p <= 1.

    Raises:
        TypeError: as `Dropout`.
        ValueError: ``x`` has another number of axes; else as `Dropout`.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> y = nn.Dropout2d(0.5)(np.ones((8, 4, 3, 3)))
        >>> bool((y == y[:, :, :1, :1]).all())
        True
    """

    _shapes: ClassVar[dict[int, str]] = {4: "(N, C, H, W)", 3: "(N, C, L)"}


class Dropout3d(_FeatureDropout):
    """Dropout of whole maps: those of each sample and channel are kept or dropped together.

    x is ``(N, C, D, H, W)``, or ``(C, D, H, W)`` of one sample. `ops.feature_dropout`
    has the formula. Masks and evaluation are as in `Dropout`. Source: Tompson et al. 2015.

    Args:
        p: 0 <= p <= 1.

    Raises:
        TypeError: as `Dropout`.
        ValueError: ``x`` has another number of axes; else as `Dropout`.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> y = nn.Dropout3d(0.5)(np.ones((8, 4, 3, 3, 3)))
        >>> bool((y == y[:, :, :1, :1, :1]).all())
        True
    """

    _shapes: ClassVar[dict[int, str]] = {5: "(N, C, D, H, W)", 4: "(C, D, H, W)"}
    _one_sample = 4
