"""Optimizers over any arrays: one launch steps all parameters, clips, unscales and zeroes."""

from onepass.ops import StepInfo
from onepass.optim import lr_scheduler
from onepass.optim._adam import Adam, AdamW
from onepass.optim._optimizer import Optimizer
from onepass.optim._rmsprop import RMSprop
from onepass.optim._sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "StepInfo", "lr_scheduler"]
