"""Optimizers over any arrays: one call steps all parameters, clips, unscales and zeroes."""

from onepass.ops import StepInfo
from onepass.optim import _optimizers, full_batch, lr_scheduler
from onepass.optim._lbfgs import LBFGS
from onepass.optim._muon import Muon
from onepass.optim._optimizer import Optimizer
from onepass.optim._optimizers import *  # noqa: F403
from onepass.optim._param_groups import param_groups
from onepass.optim._sparse_adam import SparseAdam

__all__ = [
    "LBFGS",
    "Muon",
    "Optimizer",
    "SparseAdam",
    "StepInfo",
    "full_batch",
    "lr_scheduler",
    "param_groups",
]
__all__ += _optimizers.__all__
