"""``torch.optim.Optimizer``s whose step is one launch: a class for each optimizer of onepass.optim.

Change ``from torch import optim`` to ``from onepass.torch import optim``; schedules, hooks, scalers
and checkpoints of PyTorch work on them as before.
"""

from __future__ import annotations

from onepass.optim import StepInfo
from onepass.torch.optim._classes import CLASSES
from onepass.torch.optim._optimizer import Optimizer

__all__ = ["Optimizer", "StepInfo"]
__all__ += list(CLASSES)


def __getattr__(name: str) -> type[Optimizer]:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


globals().update(CLASSES)
