"""Penalties of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from onepass import ops
from onepass._array import Array, library
from onepass._docs import parts, shares
from onepass.train.regularizers._base import ParameterRegularizer

# Of the constructor, which they share.
_documented = shares(parts(ParameterRegularizer.__doc__ or "")[2])


@_documented
class L2(ParameterRegularizer):
    """weight·½Σp², whose gradient is weight·p, as that of ``SGD(weight_decay=weight)``.

    Keras' L2 has no ½: its 0.01 is 0.02 here. With Adam and its kin it is not the decoupled decay
    of AdamW: it goes through the moments.

    Source: Hoerl & Kennard, Ridge Regression, 1970.

    Example:
        >>> import numpy as np
        >>> from onepass.train.regularizers import L2
        >>> value, (gradient,) = L2(0.1).penalty([np.array([3.0, 4.0])])
        >>> round(value, 6), gradient.tolist()
        (12.5, [3.0, 4.0])
    """

    name = "l2"

    def penalty(self, arrays: Sequence[Array]) -> tuple[float, Sequence[Array]]:
        norm = float(ops.global_norm(arrays))
        return 0.5 * norm * norm, arrays  # norm ** 2 raises where this is infinite


@_documented
class L1(ParameterRegularizer):
    """weight·Σ|p|, whose gradient is weight·sign(p), 0 at 0.

    A gradient step never ends at 0 exactly: for zeros take the option ``l1`` of the optimizers.

    Source: Tibshirani, Regression Shrinkage and Selection via the Lasso, 1996.

    Example:
        >>> import numpy as np
        >>> from onepass.train.regularizers import L1
        >>> value, (gradient,) = L1(0.1).penalty([np.array([3.0, 0.0, -4.0])])
        >>> value, gradient.tolist()
        (7.0, [1.0, 0.0, -1.0])
    """

    name = "l1"

    def penalty(self, arrays: Sequence[Array]) -> tuple[float, Sequence[Array]]:
        return float(ops.global_norm(arrays, 1)), [library(p).sign(p) for p in arrays]


@_documented
class SoftOrthogonality(ParameterRegularizer):
    """weight·Σ‖WWᵀ - I‖²_F, whose gradient is weight·4(WWᵀ - I)W: rows become orthonormal.

    W is a parameter of two or more axes as a matrix, axis 0 by the others. With more rows than
    columns it is ‖WᵀW - I‖²_F: of the two, the one that can be 0.

    Source: Bansal, Chen & Wang, Can We Gain More from Orthogonality Regularizations in Training
    Deep CNNs?, 2018; Brock et al., Neural Photo Editing, 2017.

    Example:
        >>> import numpy as np
        >>> from onepass.train.regularizers import SoftOrthogonality
        >>> value, (gradient,) = SoftOrthogonality(0.1).penalty([np.diag([1.0, 2.0])])
        >>> value, gradient.tolist()
        (9.0, [[0.0, 0.0], [0.0, 24.0]])
    """

    least_axes: ClassVar[int] = 2
    name = "soft_orthogonality"

    def penalty(self, arrays: Sequence[Array]) -> tuple[float, Sequence[Array]]:
        parts = [_orthogonality(array) for array in arrays]
        return sum(value for value, _ in parts), [gradient for _, gradient in parts]


def _orthogonality(array: Array) -> tuple[float, Any]:
    w = array.reshape(len(array), -1)
    tall = w.shape[0] > w.shape[1]
    a = w.T if tall else w
    gram = library(array).matmul(a, a.T)
    gram.reshape(-1)[:: len(gram) + 1] -= 1
    gradient = 4 * (gram @ a)
    norm = float(ops.global_norm([gram]))
    return norm * norm, (gradient.T if tall else gradient).reshape(array.shape)
