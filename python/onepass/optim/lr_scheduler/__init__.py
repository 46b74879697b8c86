"""Learning-rate schedules: each a pure function of the number of steps taken.

A schedule keeps the base rates and one counter, so its rate after a resume is exactly the rate of
an uninterrupted run. Names, arguments and values are PyTorch's for the schedules that PyTorch has;
``lr`` in the formulas is the base rate and ``t`` the counter, 0 until the first ``step()``. Only
``ReduceLROnPlateau`` depends on a metric and keeps more.

A constructor sets the optimizer's rate for t = 0. The optimizer is anything with ``param_groups``,
a list of dicts with ``"lr"``; as in PyTorch, the base rate stays there as ``"initial_lr"``.
"""

from onepass.optim.lr_scheduler._anneal import _cosine, _linear
from onepass.optim.lr_scheduler._base import LRScheduler
from onepass.optim.lr_scheduler._one_cycle import OneCycleLR
from onepass.optim.lr_scheduler._plateau import ReduceLROnPlateau
from onepass.optim.lr_scheduler._schedules import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
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
