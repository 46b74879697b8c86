"""``torch.optim.Optimizer``s whose step is one call: a class for each optimizer of onepass.optim.

Change ``from torch import optim`` to ``from onepass.torch import optim``; schedules, hooks, scalers
and checkpoints of PyTorch work on them as before. ``lr_scheduler`` and ``swa_utils`` are PyTorch's.

Beside what the docstring of each class says, they differ from PyTorch's in this:

- States of 16-bit parameters are float32.
- SGD with momentum makes a sparse gradient dense, where PyTorch's buffer would grow by its rows at
  every step; the numbers are the same.
- Adagrad's ``initial_accumulator_value`` of a group counts; PyTorch reads the constructor's alone.
- Frozen parameters are left alone also where they have a gradient.
- Subnormal float32 numbers, below 1.2e-38, count as zero in a step.
"""

from __future__ import annotations

import sys

from torch.optim import lr_scheduler, swa_utils

from onepass.optim import StepInfo
from onepass.torch.optim._classes import CLASSES
from onepass.torch.optim._optimizer import Optimizer

__all__ = ["Optimizer", "StepInfo"]
__all__ += list(CLASSES)


def __getattr__(name: str) -> type[Optimizer]:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


globals().update(CLASSES)
# As ``from onepass.torch.optim.lr_scheduler import StepLR`` wants them.
for _module in (lr_scheduler, swa_utils):
    sys.modules[f"{__name__}.{_module.__name__.rpartition('.')[2]}"] = _module
