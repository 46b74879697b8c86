"""Functions on arrays: one documented function per kernel.

An *array* is a NumPy array, a CuPy array, a PyTorch tensor or anything with
``__cuda_array_interface__`` or ``__dlpack__``. Nothing is copied on the way in unless a function
says so; outputs come back in the library of the first input, those of a CPU array that has DLPack
only (JAX) as NumPy arrays. float32 and float64 compute as they are, float16 and bfloat16 are stored
as such and computed in float32.

PyTorch's autograd does not see these calls. So a tensor that requires a gradient is refused where
grad mode is on, by a TypeError that names the argument: pass its ``detach()``. Under
``torch.no_grad()`` it is taken. The in-place optimizer functions take parameters as they are.

All arrays of a call lie on one device. On CUDA a call runs on the current stream of the library of
the first array, borrows memory from its pool, waits for nothing and can be captured in a graph.
"""

from onepass.ops import _activation, _pointwise_loss, _row_norm, _update
from onepass.ops._activation import *  # noqa: F403
from onepass.ops._batch_renorm import SavedBatchRenorm, batch_renorm, batch_renorm_backward
from onepass.ops._bias_act import bias_act, bias_act_backward
from onepass.ops._dropout import (
    alpha_dropout,
    alpha_dropout_backward,
    dropout,
    dropout_backward,
    dropout_mask,
    feature_alpha_dropout,
    feature_alpha_dropout_backward,
    feature_dropout,
    feature_dropout_backward,
)
from onepass.ops._glu import glu, glu_backward
from onepass.ops._loss import cross_entropy, nll_loss, wasserstein_1d
from onepass.ops._maxout import maxout, maxout_backward
from onepass.ops._muon import muon_
from onepass.ops._norm import SavedBatchNorm, batch_norm, batch_norm_backward
from onepass.ops._pointwise_loss import *  # noqa: F403
from onepass.ops._reduce import global_norm
from onepass.ops._row_norm import *  # noqa: F403
from onepass.ops._softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from onepass.ops._sparse_adam import sparse_adam_
from onepass.ops._step_info import StepInfo

# Not from _update: type checkers see no name through the list that it computes.
from onepass.ops._update_adagrad import *  # noqa: F403
from onepass.ops._update_adam import *  # noqa: F403
from onepass.ops._update_lamb_lars import *  # noqa: F403
from onepass.ops._update_lion_rprop import *  # noqa: F403
from onepass.ops._update_schedule_free import *  # noqa: F403
from onepass.ops._update_sgd import *  # noqa: F403
from onepass.ops._windows import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    col2im,
    depthwise_conv2d,
    depthwise_conv2d_backward,
    depthwise_conv2d_weight_backward,
    im2col,
    max_pool2d,
    max_pool2d_backward,
)

__all__ = [
    "SavedBatchNorm",
    "SavedBatchRenorm",
    "StepInfo",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "alpha_dropout",
    "alpha_dropout_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_renorm",
    "batch_renorm_backward",
    "bias_act",
    "bias_act_backward",
    "col2im",
    "cross_entropy",
    "depthwise_conv2d",
    "depthwise_conv2d_backward",
    "depthwise_conv2d_weight_backward",
    "dropout",
    "dropout_backward",
    "dropout_mask",
    "feature_alpha_dropout",
    "feature_alpha_dropout_backward",
    "feature_dropout",
    "feature_dropout_backward",
    "global_norm",
    "glu",
    "glu_backward",
    "im2col",
    "log_softmax",
    "log_softmax_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "maxout",
    "maxout_backward",
    "muon_",
    "nll_loss",
    "softmax",
    "softmax_backward",
    "sparse_adam_",
    "wasserstein_1d",
]
__all__ += _activation.__all__
__all__ += _pointwise_loss.__all__
__all__ += _row_norm.__all__
__all__ += _update.__all__
