"""Schedules of one formula each."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from onepass import _numbers as numbers
from onepass.optim.lr_scheduler._anneal import _cosine
from onepass.optim.lr_scheduler._arguments import groups_of, steps
from onepass.optim.lr_scheduler._base import Interval, LRScheduler


class ConstantLR(LRScheduler):
    """lr·factor for the first ``total_iters`` steps, then lr.

    Args:
        factor: what lr is multiplied by, in [0, 1].
        total_iters: how many steps, >= 0.
        optimizer, last_epoch, interval: as of `LRScheduler`.

    Raises:
        TypeError, ValueError: an argument of another type or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass import optim
        >>> from onepass.optim.lr_scheduler import ConstantLR
        >>> optimizer = optim.SGD([np.ones(2, np.float32)], lr=1.0)
        >>> schedule = ConstantLR(optimizer, factor=0.5, total_iters=2)
        >>> [schedule.rates(t)[0] for t in range(5)]
        [0.5, 0.5, 1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        optimizer: Any,
        factor: float = 1 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
        *,
        interval: Interval = "epoch",
    ) -> None:
        numbers.in_range("ConstantLR", "factor", factor, 0, most=1)
        numbers.integer("ConstantLR", "total_iters", total_iters, 0)
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch, interval)

    def rate(self, lr: float, t: int, group: int) -> float:
        return lr * self.factor if t < self.total_iters else lr


class StepLR(LRScheduler):
    """lr·gamma^⌊t / step_size⌋.

    Args:
        step_size: steps from one factor to the next, >= 1.
        gamma: the factor, >= 0.
        optimizer, last_epoch, interval: as of `LRScheduler`.

    Raises:
        TypeError, ValueError: an argument of another type or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass import optim
        >>> from onepass.optim.lr_scheduler import StepLR
        >>> optimizer = optim.SGD([np.ones(2, np.float32)], lr=1.0)
        >>> schedule = StepLR(optimizer, step_size=2, gamma=0.5)
        >>> [schedule.rates(t)[0] for t in range(5)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(
        self,
        optimizer: Any,
        step_size: int,
        gamma: float = 0.1,
        last_epoch: int = -1,
        *,
        interval: Interval = "epoch",
    ) -> None:
        numbers.integer("StepLR", "step_size", step_size, 1)
        self.step_size = step_size
        self.gamma = numbers.in_range("StepLR", "gamma", gamma, 0)
        super().__init__(optimizer, last_epoch, interval)

    def rate(self, lr: float, t: int, group: int) -> float:
        return lr * float(self.gamma ** (t // self.step_size))


class MultiStepLR(LRScheduler):
    """lr·gamma^(number of milestones ≤ t).

    Args:
        milestones: steps in ascending order, from 1; one may come twice.
        gamma: the factor at each, >= 0.
        optimizer, last_epoch, interval: as of `LRScheduler`.

    Raises:
        TypeError, ValueError: an argument of another type or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass import optim
        >>> from onepass.optim.lr_scheduler import MultiStepLR
        >>> optimizer = optim.SGD([np.ones(2, np.float32)], lr=1.0)
        >>> schedule = MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5)
        >>> [schedule.rates(t)[0] for t in range(5)]
        [1.0, 0.5, 0.5, 0.25, 0.25]
    """

    def __init__(
        self,
        optimizer: Any,
        milestones: Sequence[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
        *,
        interval: Interval = "epoch",
    ) -> None:
        self.milestones = steps("MultiStepLR", "milestones", milestones)
        self.gamma = numbers.in_range("MultiStepLR", "gamma", gamma, 0)
        super().__init__(optimizer, last_epoch, interval)

    def rate(self, lr: float, t: int, group: int) -> float:
        return lr * float(self.gamma ** bisect_right(self.milestones, t))


class ExponentialLR(LRScheduler):
    """lr·gamma^t.

    Args:
        gamma: the factor of a step, >= 0.
        optimizer, last_epoch, interval: as of `LRScheduler`.

    Raises:
        TypeError, ValueError: an argument of another type or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass import optim
        >>> from onepass.optim.lr_scheduler import ExponentialLR
        >>> optimizer = optim.SGD([np.ones(2, np.float32)], lr=1.0)
        >>> schedule = ExponentialLR(optimizer, gamma=0.5)
        >>> [schedule.rates(t)[0] for t in range(5)]
        [1.0, 0.5, 0.25, 0.125, 0.0625]
    """

    def __init__(
        self,
        optimizer: Any,
        gamma: float,
        last_epoch: int = -1,
        *,
        interval: Interval = "epoch",
    ) -> None:
        self.gamma = numbers.in_range("ExponentialLR", "gamma", gamma, 0)
        super().__init__(optimizer, last_epoch, interval)

    def rate(self, lr: float, t: int, group: int) -> float:
        return lr * float(self.gamma**t)


class InverseTimeLR(LRScheduler):
    """lr / (1 + decay·t): the Robbins-Monro schedule.

    Args:
        decay: how fast the rate falls, >= 0: it is half of lr at t = 1 / decay.
        optimizer, last_epoch, interval: as of `LRScheduler`.

    Raises:
        TypeError, ValueError: an argument of another type or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass import optim
        >>> from onepass.optim.lr_scheduler import InverseTimeLR
        >>> optimizer = optim.SGD([np.ones(2, np.float32)], lr=1.0)
        >>> schedule = InverseTimeLR(optimizer, decay=1.0)
        >>> [schedule.rates(t)[0] for t in (0, 1, 3)]
        [1.0, 0.5, 0.25]
    """

    def __init__(
        self,
        optimizer: Any,
        decay: float,
        last_epoch: int = -1,
        *,
        interval: Interval = "epoch",
    ) -> None:
        numbers.in_range("InverseTimeLR", "decay", decay, 0)
        self.decay = decay
        super().__init__(optimizer, last_epoch, interval)

    def rate(self, lr: float, t: int, group: int) -> float:
        return lr / (1.0 + self.decay * t)


class HarmonicLR(LRScheduler):
    """scale / (⌊t / period⌋ + shift), whatever rate the groups had: a Robbins-Monro staircase.

    Args:
        scale, shift: numbers > 0: the first rate is scale / shift.
        period: the steps of a stair, >= 1.
        optimizer, last_epoch, interval: as of `LRScheduler`.

    Raises:
        TypeError, ValueError: an argument of another type or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass import optim
        >>> from onepass.optim.lr_scheduler import HarmonicLR
        >>> optimizer = optim.SGD([np.ones(2, np.float32)], lr=1.0)
        >>> schedule = HarmonicLR(optimizer, scale=4.0, shift=2.0, period=2)
        >>> [round(schedule.rates(t)[0], 3) for t in range(5)]
        [2.0, 2.0, 1.333, 1.333, 1.0]
    """

    def __init__(
        self,
        optimizer: Any,
        scale: float,
        shift: float,
        period: int,
        last_epoch: int = -1,
        *,
        interval: Interval = "epoch",
    ) -> None:
        self.scale = numbers.in_range("HarmonicLR", "scale", scale, above=0)
        self.shift = numbers.in_range("HarmonicLR", "shift", shift, above=0)
        self.period = numbers.integer("HarmonicLR", "period", period, 1)
        super().__init__(optimizer, last_epoch, interval)

    def rate(self, lr: float, t: int, group: int) -> float:
        return self.scale / (t // self.period + self.shift) * (lr / (self.scale / self.shift))

    def _bases(self, lrs: list[float]) -> list[float]:
        return [self.scale / self.shift for _ in lrs]


class CosineAnnealingLR(LRScheduler):
    """eta_min + (lr - eta_min)·(1 + cos(π·t / T_max)) / 2.

    Source: Loshchilov & Hutter 2017, SGDR.

    Args:
        T_max: the steps down to ``eta_min``, >= 1.
        eta_min: the least rate, >= 0.
        optimizer, last_epoch, interval: as of `LRScheduler`.

    Raises:
        TypeError, ValueError: an argument of another type or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass import optim
        >>> from onepass.optim.lr_scheduler import CosineAnnealingLR
        >>> optimizer = optim.SGD([np.ones(2, np.float32)], lr=1.0)
        >>> schedule = CosineAnnealingLR(optimizer, T_max=4)
        >>> [round(schedule.rates(t)[0], 3) for t in range(5)]
        [1.0, 0.854, 0.5, 0.146, 0.0]
    """

    def __init__(
        self,
        optimizer: Any,
        T_max: int,
        eta_min: float = 0.0,
        last_epoch: int = -1,
        *,
        interval: Interval = "epoch",
    ) -> None:
        numbers.integer("CosineAnnealingLR", "T_max", T_max, 1)
        numbers.in_range("CosineAnnealingLR", "eta_min", eta_min, 0)
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch, interval)

    def rate(self, lr: float, t: int, group: int) -> float:
        return _cosine(lr, self.eta_min, t / self.T_max)


class LinearWarmup(LRScheduler):
    """lr·min(1, (t + 1) / steps): the first step is taken with lr / steps, not with 0.

    A Trainer steps it after each step of the optimizer.

    Args:
        steps: up to lr, >= 1.
        optimizer, last_epoch, interval: as of `LRScheduler`.

    Raises:
        TypeError, ValueError: an argument of another type or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass import optim
        >>> from onepass.optim.lr_scheduler import LinearWarmup
        >>> optimizer = optim.SGD([np.ones(2, np.float32)], lr=1.0)
        >>> schedule = LinearWarmup(optimizer, steps=4)
        >>> [schedule.rates(t)[0] for t in range(5)]
        [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    def __init__(
        self, optimizer: Any, steps: int, last_epoch: int = -1, *, interval: Interval = "step"
    ) -> None:
        numbers.integer("LinearWarmup", "steps", steps, 1)
        self.steps = steps
        super().__init__(optimizer, last_epoch, interval)

    def rate(self, lr: float, t: int, group: int) -> float:
        return lr * min(1.0, (t + 1) / self.steps)


class PolynomialLR(LRScheduler):
    """lr·(1 - min(t, total_iters) / total_iters)^power.

    Args:
        total_iters: the steps down to 0, >= 1.
        power: of the curve, >= 0: 1 is a line, more falls faster at first.
        optimizer, last_epoch, interval: as of `LRScheduler`.

    Raises:
        TypeError, ValueError: an argument of another type or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass import optim
        >>> from onepass.optim.lr_scheduler import PolynomialLR
        >>> optimizer = optim.SGD([np.ones(2, np.float32)], lr=1.0)
        >>> schedule = PolynomialLR(optimizer, total_iters=4)
        >>> [schedule.rates(t)[0] for t in range(5)]
        [1.0, 0.75, 0.5, 0.25, 0.0]
    """

    def __init__(
        self,
        optimizer: Any,
        total_iters: int = 5,
        power: float = 1.0,
        last_epoch: int = -1,
        *,
        interval: Interval = "epoch",
    ) -> None:
        numbers.integer("PolynomialLR", "total_iters", total_iters, 1)
        self.total_iters = total_iters
        self.power = numbers.in_range("PolynomialLR", "power", power, 0)
        super().__init__(optimizer, last_epoch, interval)

    def rate(self, lr: float, t: int, group: int) -> float:
        return lr * float((1.0 - min(t, self.total_iters) / self.total_iters) ** self.power)


class LambdaLR(LRScheduler):
    """lr·lr_lambda(t). Functions are not part of ``state_dict``.

    Args:
        lr_lambda: a function for all groups, or a list of one each, which returns a number >= 0.
        optimizer, last_epoch, interval: as of `LRScheduler`.

    Raises:
        TypeError: ``lr_lambda`` is neither a function nor a list. ValueError: the list has not
            one for each group, or, in ``step()``, one returns something else than a number >= 0.

    Example:
        >>> import numpy as np
        >>> from onepass import optim
        >>> from onepass.optim.lr_scheduler import LambdaLR
        >>> optimizer = optim.SGD([np.ones(2, np.float32)], lr=1.0)
        >>> schedule = LambdaLR(optimizer, lambda t: 1 / (t + 1))
        >>> [schedule.rates(t)[0] for t in (0, 1, 3)]
        [1.0, 0.5, 0.25]
    """

    def __init__(
        self,
        optimizer: Any,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
        *,
        interval: Interval = "epoch",
    ) -> None:
        count = len(groups_of("LambdaLR", optimizer))
        self._for_all = callable(lr_lambda)
        each = [lr_lambda] if callable(lr_lambda) else lr_lambda
        if not isinstance(each, (list, tuple)) or not all(map(callable, each)):
            raise TypeError(
                f"LambdaLR: 'lr_lambda' is {lr_lambda!r}, expected a function or a list of them"
            )
        self.lr_lambdas = [*each]
        if not self._for_all and len(each) != count:
            raise ValueError(f"LambdaLR: 'lr_lambda' is {lr_lambda!r}, expected {count} functions")
        super().__init__(optimizer, last_epoch, interval)

    def rate(self, lr: float, t: int, group: int) -> float:
        if not self._for_all and group >= len(self.lr_lambdas):
            raise ValueError(
                f"LambdaLR: 'lr_lambda' has {len(self.lr_lambdas)} functions, one for each group, "
                f"expected {group + 1}: a group was added; append its function to lr_lambdas"
            )
        factor = self.lr_lambdas[0 if self._for_all else group](t)
        return lr * numbers.in_range("LambdaLR", f"lr_lambda({t})", factor, 0)
