"""Learning-rate schedules: each a pure function of the number of steps taken.

A schedule keeps the base rates and one counter, so its rate after a resume is exactly the rate of
an uninterrupted run; a schedule made longer than the one whose state it loads goes on with its own
rates at that count. Names, arguments and values are PyTorch's for the schedules that PyTorch has;
``lr`` in the formulas is the base rate and ``t`` the counter, 0 until the first ``step()``. Only
``ReduceLROnPlateau`` depends on a metric and keeps more.

A constructor sets the optimizer's rate for t = 0. The optimizer is anything with ``param_groups``,
a list of dicts with ``"lr"``; as in PyTorch, the base rate stays there as ``"initial_lr"``.

The base rate is a group's rate when the schedule is made (or ``"initial_lr"``, if another schedule
has set the rate to 0 by then). Later changes are kept: if ``group["lr"]`` is no longer the rate
that the schedule has set, the next ``step()`` chooses the base rate that leads to it, and continues
from there. So

- two schedules of one optimizer, stepped in turn, multiply: lr·f₁(t)·f₂(t), even if one sets the
  rate itself, as `LambdaLR`, `OneCycleLR` and `HarmonicLR` do. (PyTorch's `LambdaLR` and
  `OneCycleLR` overwrite the work of other schedules, and a factor of 0 is final.) While a factor
  is 0, ``group["lr_without_zeros"]`` keeps the product of the others, and the rate is -0.0. With an
  ``eta_min`` the schedules of a step apply one after another;
- if you set a rate yourself, the schedule continues in proportion to it; a 0 that you set stays,
  even if a schedule had already set the rate to 0;
- the schedule of a group that was added later starts at the group's rate.

If the schedule's factor is 0 when you set a rate, no base rate leads to it: ``step()`` raises a
ValueError.

``interval`` says when a Trainer calls ``step()``: after each "epoch", the default, or after each
"step" of the optimizer that was not skipped, the default of `OneCycleLR`, `LinearWarmup` and a
`SequentialLR` with one of those. Count ``T_max``, ``step_size`` and the like in that unit. In your
own loop, ``t`` is the number of your ``step()`` calls.
"""

from onepass.optim.lr_scheduler._anneal import _cosine, _linear
from onepass.optim.lr_scheduler._base import LRScheduler
from onepass.optim.lr_scheduler._one_cycle import OneCycleLR
from onepass.optim.lr_scheduler._plateau import ReduceLROnPlateau
from onepass.optim.lr_scheduler._schedules import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    HarmonicLR,
    InverseTimeLR,
    LambdaLR,
    LinearWarmup,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from onepass.optim.lr_scheduler._sequential import SequentialLR

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "HarmonicLR",
    "InverseTimeLR",
    "LRScheduler",
    "LambdaLR",
    "LinearWarmup",
    "MultiStepLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]

# Pickles name the public path, whichever file a schedule is in.
for _public in (*(globals()[_name] for _name in __all__), _cosine, _linear):
    _public.__module__ = __name__
