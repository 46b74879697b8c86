"""Numbers that a step is given from outside: a loss scale, a norm over all processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from onepass import _C
from onepass._numbers import as_float, in_range
from onepass.ops._step import Nonfinite, is_on_device
from onepass.ops._step_info import StepInfo

# A larger one has an inverse below the least normal number of 32 bits.
LARGEST_SCALE = 8e37
_LESS = 2.0**-4
_LEAST = 5e-324


def scaled(owner: str, grad_scale: Any, of_scaler: Any) -> Any:
    """The divisor of gradients: the product of the user's scale and a GradScaler's; on the device
    if one of them is there."""
    given = [scale for scale in (grad_scale, of_scaler) if scale is not None]
    if not given:
        return None
    if any(map(is_on_device, given)):
        return math.prod(given[1:], start=given[0])
    expected = "a number > 0, or None"
    return math.prod(as_float(owner, "grad_scale", scale, expected) for scale in given)


def lessened(grads: Sequence[Any], scale: float) -> tuple[list[Any], float]:
    """Copies of gradients for a scale beyond LARGEST_SCALE, and theirs. A GradScaler doubles its
    scale up to 2^127 where no loss overflows."""
    return [None if grad is None else grad * _LESS for grad in grads], scale * _LESS


class OutsideNorm:
    """Clipping by a norm that was computed elsewhere.

    Args:
        owner: the optimizer's name, for messages.
        norm: the norm, of unscaled gradients.
        max_norm, max_value, nonfinite: of the step.

    Attributes:
        norm: as a float.
        skips: the norm is not finite, and such a step is to be skipped.

    Raises:
        ValueError: no ``max_norm``; also a ``max_value``, which would change the norm.
        FloatingPointError: the norm is not finite, and the step is not to be skipped.
    """

    def __init__(
        self, owner: str, norm: Any, max_norm: Any, max_value: Any, nonfinite: Nonfinite
    ) -> None:
        self.norm = as_float(owner, "norm", norm, "a number >= 0, or None")
        if max_norm is None or max_value is not None:
            wrong = "max_norm is None" if max_norm is None else f"max_value is {max_value!r}"
            raise ValueError(
                f"{owner}: 'norm' is {self.norm!r} and {wrong}, expected a norm to clip by "
                "max_norm alone"
            )
        self._most = in_range(owner, "max_norm", max_norm, above=0.0, most=math.inf)
        if self.norm < 0:
            raise ValueError(f"{owner}: 'norm' is {self.norm!r}, expected a number >= 0, or None")
        self.skips = not math.isfinite(self.norm)
        if self.skips and nonfinite != "skip":
            raise FloatingPointError(
                f"{owner}: 'norm' is {self.norm!r}, expected a finite number; nothing was changed. "
                "Lower the learning rate or the gradient scale, or pass nonfinite='skip'"
            )

    def clips(
        self, grads: Sequence[Any], grad_scale: float | None
    ) -> tuple[float | None, float | None, float]:
        """How a step clips ``grads``: by its options (grad_scale, max_norm), of which the scale
        may have a factor, which is the last, in the place of a max_norm.
        """
        scale = 1.0 if grad_scale is None else grad_scale
        factor = max(1.0, (self.norm + 1e-6) / self._most)
        if scale * factor <= LARGEST_SCALE:
            return scale * factor, None, factor
        # No gradient of 32 bits can be divided by so much: the step clips by its own norm, which
        # takes another pass, to the part that it has of the norm of all.
        held = [g.coalesce().values() if g.is_sparse else g for g in grads if g is not None]
        own = float(_C.global_norm(held, 2)) / scale
        return grad_scale, max((own + 1e-6) / (self.norm + 1e-6) * self._most, _LEAST), 1.0

    def told(self, info: StepInfo) -> StepInfo:
        return StepInfo(info.skipped, self.norm, info.nonfinite_param)
