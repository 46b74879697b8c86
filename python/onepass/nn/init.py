"""Initial values: each function fills an array or a `Parameter` in place and returns it.

Shapes follow PyTorch: ``(out, in, *kernel)``; ``fan_in = in · Π kernel``, ``fan_out = out · Π
kernel``. A convolution's weight has the input channels of one group, so its ``fan_in`` is right
with any; `apply` also knows the groups for ``fan_out``. Values are drawn in float64 and rounded: a
float32 model starts at the rounded values of its float64 twin, on every device.

Example:
    >>> import numpy as np
    >>> from onepass import nn
    >>> weight = nn.init.kaiming_normal(np.empty((256, 128)), nonlinearity="relu", seed=0)
    >>> bool(abs(weight.var() - 2 / 128) < 1e-3)
    True
"""

from onepass.nn import _initialisers
from onepass.nn._initialise import apply
from onepass.nn._initialisers import *  # noqa: F403

__all__ = ["apply"]
__all__ += _initialisers.__all__
