"""Learning-rate schedules: each a pure function of the number of steps taken.

A schedule keeps the base rates and one counter, so its rate after a resume is exactly the rate of
an uninterrupted run. Names, arguments and values are PyTorch's for the schedules that PyTorch has;
``lr`` in the formulas is the base rate and ``t`` the counter, 0 until the first ``step()``. Only
``ReduceLROnPlateau`` depends on a metric and keeps more.

A constructor sets the optimizer's rate for t = 0. The optimizer is anything with ``param_groups``,
a list of dicts with ``"lr"``; as in PyTorch, the base rate stays there as ``"initial_lr"``.

The base rate is the rate that a group has when the schedule is made (``"initial_lr"`` if another
schedule has brought it down to 0 by then, which that one's next ``step()`` may do again). Nobody's
rate is lost afterwards: if ``group["lr"]`` is no longer what the schedule has set, the next
``step()`` goes on from there, as if the base rate had been the one that leads to it. So

- two schedules of one optimizer, stepped in turn, multiply: lr·f₁(t)·f₂(t), also those that set the
  rate itself, as `LambdaLR`, `OneCycleLR` and `HarmonicLR` do. (PyTorch's `LambdaLR` and
  `OneCycleLR` undo what other schedules have done, and a factor of 0 is for ever.) While a factor
  is 0, ``group["lr_without_zeros"]`` keeps the product of the others, and the rate is -0.0. With an
  ``eta_min`` the schedules of a step apply one after another;
- a rate set by hand is kept, and scheduled on in proportion; a 0 set by hand stays, also where a
  schedule had set the rate to 0;
- a group that was added follows from its own rate at that step.

Where the schedule itself is at 0, no base rate leads to a rate set by hand: then ``step()`` is a
ValueError.

``interval`` says when a Trainer calls ``step()``: after each "epoch", the default, or after each
"step" of the optimizer that was not skipped, the default of `OneCycleLR`, `LinearWarmup` and a
`SequentialLR` with one of those. Count ``T_max``, ``step_size`` and the like in that unit. In a
loop of your own, ``t`` is however often you call ``step()``.
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
