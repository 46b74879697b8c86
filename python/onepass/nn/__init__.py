"""Modules with forward and backward: ``y = m(x)``, ``dx = m.backward(dy)``."""

from onepass._parameter import Parameter
from onepass.nn import _activation, _pointwise_loss, _row_norm, init
from onepass.nn._activation import *  # noqa: F403
from onepass.nn._batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from onepass.nn._batch_renorm import BatchRenorm
from onepass.nn._conv import Conv2d
from onepass.nn._decorrelated import DecorrelatedBatchNorm
from onepass.nn._dropout import (
    AlphaDropout,
    Dropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    FeatureAlphaDropout,
)
from onepass.nn._exchange._file import load
from onepass.nn._exchange._from_torch import from_torch
from onepass.nn._exchange._summary import LayerSummary, Summary
from onepass.nn._flatten import Flatten
from onepass.nn._fold import fold_batch_norm
from onepass.nn._gated import GLU, Maxout
from onepass.nn._gradcheck import gradcheck
from onepass.nn._linear import Linear
from onepass.nn._loss import CrossEntropyLoss, NLLLoss
from onepass.nn._module import Module
from onepass.nn._module_list import ModuleList
from onepass.nn._pointwise_loss import *  # noqa: F403
from onepass.nn._pool import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from onepass.nn._random import get_rng_state, manual_seed, set_rng_state
from onepass.nn._rescaling import Rescaling
from onepass.nn._residual import Residual
from onepass.nn._row_norm import *  # noqa: F403
from onepass.nn._sequential import Sequential
from onepass.nn._softmax import LogSoftmax, Softmax
from onepass.nn._statistics import update_batch_norm
from onepass.nn._sync_batch_norm import convert_sync_batch_norm
from onepass.nn._weight_norm import WeightNorm

__all__ = [
    "GLU",
    "AdaptiveAvgPool2d",
    "AlphaDropout",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "BatchRenorm",
    "Conv2d",
    "CrossEntropyLoss",
    "DecorrelatedBatchNorm",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
    "Flatten",
    "LayerSummary",
    "Linear",
    "LogSoftmax",
    "MaxPool2d",
    "Maxout",
    "Module",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "Rescaling",
    "Residual",
    "Sequential",
    "Softmax",
    "Summary",
    "WeightNorm",
    "convert_sync_batch_norm",
    "fold_batch_norm",
    "from_torch",
    "get_rng_state",
    "gradcheck",
    "init",
    "load",
    "manual_seed",
    "set_rng_state",
    "update_batch_norm",
]
__all__ += _activation.__all__
__all__ += _pointwise_loss.__all__
__all__ += _row_norm.__all__
