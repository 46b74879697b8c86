"""Shared by the tests of files, PyTorch's and ONNX's models: every layer, with its options."""

from __future__ import annotations

import math

import numpy as np
import test_init_apply
from onepass import nn

# A layer, the shape of its input; D is a dict with the dtype, where a layer has one.
VECTORS, ROWS, MAPS, VOLUMES = (6, 8), (4, 8, 5), (3, 4, 7, 6), (2, 4, 3, 4, 5)
ALL = {
    "linear": (lambda D: nn.Linear(8, 5, **D), VECTORS),
    "linear of rows": (lambda D: nn.Linear(5, 3, bias=False, **D), ROWS),
    "linear of more": (lambda D: nn.Linear(6, 2, **D), MAPS),
    "conv": (lambda D: nn.Conv2d(4, 6, 3, **D), MAPS),
    "conv same": (lambda D: nn.Conv2d(4, 6, (2, 4), padding="same", dilation=(2, 1), **D), MAPS),
    "conv groups": (lambda D: nn.Conv2d(4, 6, (3, 2), (2, 1), (0, 1), groups=2, **D), MAPS),
    "conv valid": (lambda D: nn.Conv2d(4, 4, 2, padding="valid", groups=4, bias=False, **D), MAPS),
    "max pool": (lambda D: nn.MaxPool2d(2), MAPS),
    "max pool ceil": (lambda D: nn.MaxPool2d(3, 2, 1, ceil_mode=True), MAPS),
    "max pool dilated": (lambda D: nn.MaxPool2d((2, 3), 1, 1, (2, 2)), MAPS),
    "max pool padded far": (lambda D: nn.MaxPool2d((2, 3), 1, 2, (3, 2)), MAPS),
    "avg pool": (lambda D: nn.AvgPool2d((2, 3)), MAPS),
    "avg pool ceil": (lambda D: nn.AvgPool2d(3, 2, 1, ceil_mode=True), MAPS),
    "avg pool of the image": (lambda D: nn.AvgPool2d(3, 2, 1, True, False), MAPS),
    "global pool": (lambda D: nn.AdaptiveAvgPool2d(1), MAPS),
    "adaptive pool": (lambda D: nn.AdaptiveAvgPool2d((3, None)), MAPS),
    "batch norm": (lambda D: nn.BatchNorm1d(8, **D), VECTORS),
    "batch norm of rows": (lambda D: nn.BatchNorm1d(8, 1e-3, None, affine=False, **D), ROWS),
    "batch norm 2d": (lambda D: nn.BatchNorm2d(4, momentum=0.3, **D), MAPS),
    "batch norm 3d": (lambda D: nn.BatchNorm3d(4, track_running_stats=False, **D), VOLUMES),
    "batch renorm": (lambda D: nn.BatchRenorm(4, rmax=math.inf, dmax=0.5, **D), MAPS),
    "layer norm": (lambda D: nn.LayerNorm(5, **D), ROWS),
    "layer norm of more": (lambda D: nn.LayerNorm((7, 6), 1e-3, bias=False, **D), MAPS),
    "layer norm plain": (lambda D: nn.LayerNorm((8, 5), elementwise_affine=False, **D), ROWS),
    "rms norm": (lambda D: nn.RMSNorm(5, **D), ROWS),
    "rms norm of more": (lambda D: nn.RMSNorm((7, 6), 1e-2, **D), MAPS),
    "rms norm plain": (lambda D: nn.RMSNorm(5, elementwise_affine=False, **D), ROWS),
    "group norm": (lambda D: nn.GroupNorm(2, 4, **D), MAPS),
    "group norm plain": (lambda D: nn.GroupNorm(4, 8, 1e-3, affine=False, **D), ROWS),
    "instance norm": (lambda D: nn.InstanceNorm1d(8, affine=True, **D), ROWS),
    "instance norm 2d": (lambda D: nn.InstanceNorm2d(4, track_running_stats=True, **D), MAPS),
    "instance norm 3d": (lambda D: nn.InstanceNorm3d(4, **D), VOLUMES),
    "decorrelated": (lambda D: nn.DecorrelatedBatchNorm(4, 2, momentum=0.5, **D), MAPS),
    "weight norm": (lambda D: nn.WeightNorm(nn.Linear(8, 5, **D)), VECTORS),
    "weight norm of a conv": (lambda D: nn.WeightNorm(nn.Conv2d(4, 6, 3, **D), dim=1), MAPS),
    "flatten": (lambda D: nn.Flatten(), MAPS),
    "flatten some": (lambda D: nn.Flatten(-2, 3), MAPS),
    "flatten the batch": (lambda D: nn.Flatten(0, 1), MAPS),
    "softmax": (lambda D: nn.Softmax(1), MAPS),
    "log softmax": (lambda D: nn.LogSoftmax(-1), ROWS),
    "glu": (lambda D: nn.GLU(1), MAPS),
    "swiglu": (lambda D: nn.GLU(activation="silu"), VECTORS),
    "glu with options": (lambda D: nn.GLU(activation=("elu", {"alpha": 0.5})), VECTORS),
    "maxout": (lambda D: nn.Maxout(2), MAPS),
    "maxout of the last": (lambda D: nn.Maxout(4, -1), VECTORS),
    "rescaling": (lambda D: nn.Rescaling(0.5, -1.0), VECTORS),
    "dropout": (lambda D: nn.Dropout(0.3), VECTORS),
    "dropout 1d": (lambda D: nn.Dropout1d(0.25), ROWS),
    "dropout 2d": (lambda D: nn.Dropout2d(0.1), MAPS),
    "dropout 3d": (lambda D: nn.Dropout3d(), VOLUMES),
    "alpha dropout": (lambda D: nn.AlphaDropout(0.2), VECTORS),
    "feature alpha dropout": (lambda D: nn.FeatureAlphaDropout(), MAPS),
    "identity": (lambda D: nn.Identity(), VECTORS),
    "relu": (lambda D: nn.ReLU(), VECTORS),
    "leaky relu": (lambda D: nn.LeakyReLU(0.2), VECTORS),
    "elu": (lambda D: nn.ELU(0.7), VECTORS),
    "celu": (lambda D: nn.CELU(1.3), VECTORS),
    "selu": (lambda D: nn.SELU(), VECTORS),
    "sigmoid": (lambda D: nn.Sigmoid(), VECTORS),
    "tanh": (lambda D: nn.Tanh(), VECTORS),
    "gelu": (lambda D: nn.GELU(), VECTORS),
    "gelu tanh": (lambda D: nn.GELU("tanh"), VECTORS),
    "silu": (lambda D: nn.SiLU(), VECTORS),
    "mish": (lambda D: nn.Mish(), VECTORS),
    "softplus": (lambda D: nn.Softplus(2.0, 1.5), VECTORS),
    "relu6": (lambda D: nn.ReLU6(), VECTORS),
    "hardtanh": (lambda D: nn.Hardtanh(-0.5, 2.0), VECTORS),
    "hardsigmoid": (lambda D: nn.Hardsigmoid(), VECTORS),
    "hardswish": (lambda D: nn.Hardswish(), VECTORS),
    "softsign": (lambda D: nn.Softsign(), VECTORS),
    "abs": (lambda D: nn.Abs(), VECTORS),
    "sin": (lambda D: nn.Sin(), VECTORS),
    "sequential": (
        lambda D: nn.Sequential(
            nn.Linear(8, 5, **D),
            nn.Sequential(nn.BatchNorm1d(5, **D), nn.LeakyReLU(0.3), nn.Dropout(0.4)),
            fuse=False,
        ),
        VECTORS,
    ),
    "residual": (
        lambda D: nn.Residual(
            nn.Conv2d(4, 6, 3, padding=1, **D), nn.ReLU(), nn.BatchNorm2d(6, **D),
            shortcut=nn.Conv2d(4, 6, 1, **D),
        ),
        MAPS,
    ),
    "residual without": (lambda D: nn.Residual(nn.Linear(8, 8, **D), nn.Tanh()), VECTORS),
}  # fmt: skip
LACKING = {  # in torch.nn
    *("batch renorm", "decorrelated", "swiglu", "glu with options", "maxout"),
    *("maxout of the last", "max pool padded far", "rescaling", "abs", "sin"),
}


def layer(name, dtype="float64"):
    """A layer whose values no formula can ignore, and an input that reaches all its branches."""
    make, shape = ALL[name]
    made = make({"dtype": dtype})
    rng = np.random.default_rng(3)
    state = made.state_dict()
    for key, value in state.items():
        if value.dtype.kind == "f":
            state[key] = rng.uniform(0.2, 1.5, value.shape).astype(dtype)
    made.load_state_dict(state)
    x = 2 * rng.standard_normal(shape)
    x.flat[:2] = 8, -8
    return made, x.astype(dtype)


def classes():
    """The classes of all layers in ALL."""
    made = [ALL[name][0]({"dtype": "float32"}) for name in ALL]
    return {type(module).__name__ for whole in made for module in whole.modules()}


EVERY = {cls.__name__ for cls in test_init_apply.EVERY if cls is not nn.ModuleList}
