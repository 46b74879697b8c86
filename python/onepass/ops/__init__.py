"""Functions on arrays: one documented function per kernel.

An *array* is a NumPy array, a CuPy array, a PyTorch tensor or anything with
``__cuda_array_interface__`` or ``__dlpack__``. Nothing is copied on the way in unless a function
says so; outputs come back in the library of the first input. float32 and float64 compute as they
are, float16 and bfloat16 are stored as such and computed in float32.

All arrays of a call lie on one device. On CUDA a call runs on the current stream of the library of
the first array, borrows memory from its pool, waits for nothing and can be captured in a graph.
"""

from onepass.ops._activation import (
    gelu,
    gelu_backward,
    identity,
    identity_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    selu,
    selu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    tanh,
    tanh_backward,
)
from onepass.ops._adam import adam_, adamw_
from onepass.ops._bias_act import bias_act, bias_act_backward
from onepass.ops._dropout import dropout, dropout_backward, dropout_mask
from onepass.ops._loss import cross_entropy
from onepass.ops._norm import SavedBatchNorm, batch_norm, batch_norm_backward
from onepass.ops._reduce import global_norm
from onepass.ops._rmsprop import rmsprop_
from onepass.ops._sgd import sgd_
from onepass.ops._step import StepInfo

__all__ = [
    "SavedBatchNorm",
    "StepInfo",
    "adam_",
    "adamw_",
    "batch_norm",
    "batch_norm_backward",
    "bias_act",
    "bias_act_backward",
    "cross_entropy",
    "dropout",
    "dropout_backward",
    "dropout_mask",
    "gelu",
    "gelu_backward",
    "global_norm",
    "identity",
    "identity_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "relu",
    "relu_backward",
    "rmsprop_",
    "selu",
    "selu_backward",
    "sgd_",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "tanh",
    "tanh_backward",
]
