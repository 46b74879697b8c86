"""Losses: ``loss, dy = loss_fn(y, target)``; one pass gives both."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np

from onepass import _numbers as numbers
from onepass import ops
from onepass._array import (
    Array,
    is_floating,
    is_tensor_of_torch,
    library,
    mover,
    parameter_dtype,
    to_numpy,
)
from onepass._keywords import suggest_keywords
from onepass._kind import like

L = TypeVar("L", bound="ClassLoss")
SAFE = 1e8  # between a weight and the ends of its dtype's range, for products
_INTEGERS = tuple(np.dtype(kind) for kind in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"))


class ClassLoss:
    """Common to losses of class labels: weights of classes, and labels that are ignored."""

    outputs = "logits"  # what metrics take y for
    _owner = ""  # of messages

    def __init__(
        self, weight: Array | None, ignore_index: int, reduction: Literal["none", "mean", "sum"]
    ) -> None:
        owner = self._owner
        numbers.one_of(owner, "reduction", reduction, ("mean", "sum", "none"))
        if isinstance(weight, (list, tuple)) or getattr(weight, "dtype", None) in _INTEGERS:
            try:
                weight = np.array(weight, np.float64)
            except (TypeError, ValueError):
                raise TypeError(
                    f"{owner}: 'weight' is {weight!r}, expected a number for each class"
                ) from None
        if weight is not None:
            shape = like(owner, "weight", weight)[2]
            if len(shape) != 1:
                raise ValueError(
                    f"{owner}: 'weight' has shape {shape}, expected (C,), a number for each class"
                )
            _check_weight(owner, weight, weight)
        self.weight = weight
        self.ignore_index = numbers.integer(owner, "ignore_index", ignore_index, -(2**63), 2**63)
        self.reduction = reduction

    def _checked(self, y: Array, target: Array) -> Array:
        """The target as integers, or as it is."""
        target = check_arrays(self._owner, y, target)
        if getattr(target.dtype, "kind", None) == "b":  # those of PyTorch have none
            target = target.astype(np.uint8)
        if y.ndim < 2:
            raise ValueError(
                f"{self._owner}: 'y' has shape {tuple(y.shape)}, expected (N, C) or more"
            )
        return target

    def weights(self, target: Array) -> Array:
        """The weight of each loss in their mean: that of its class, 0 where it is ignored.

        1 for probabilities.
        """
        if is_floating(target):
            return np.ones((len(target), *target.shape[2:]))
        labels = to_numpy(target)
        used = labels != self.ignore_index
        if self.weight is None:
            return used.astype(np.float64)
        return np.where(used, to_numpy(self.weight)[used * labels], 0.0)

    def divisor(self, target: Array) -> float | None:
        """The divisor of the loss; None for a sum."""
        return None if self.reduction == "sum" else float(self.weights(target).sum())

    def _weight(self, y: Array) -> Array | None:
        given = self.weight
        weight = weight_beside(self._owner, "weight", given, y)
        if weight is not None and weight is not given and not is_tensor_of_torch(y):
            _check_weight(self._owner, given, weight)
        return weight

    def to(self: L, device: str) -> L:
        """Move the class weights, as `Module.to` does."""
        move = mover(device)
        self.weight = None if self.weight is None else move(self.weight)
        return self


class CrossEntropyLoss(ClassLoss):
    """``loss = -Σ_c w_c q_c log softmax(y)_c``, averaged; q is the target, smoothed.

    Args:
        weight: array or list (C,), a weight for each class, or None; used in the dtype of y.
        ignore_index: targets with this class count for nothing; below 0 where they are
            probabilities.
        reduction: "mean" (over the weights of the targets), "sum" or "none".
        label_smoothing: s in 0 to 1; q becomes ``(1 - s) q + s / C``.

    Raises:
        TypeError: an argument is not a number, or ``weight`` not an array of floats.
        ValueError: an argument out of range.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> loss, dy = nn.CrossEntropyLoss()(np.zeros((1, 4), np.float32), np.array([2]))
        >>> round(float(loss), 4), dy.tolist()
        (1.3863, [[0.25, 0.25, -0.75, 0.25]])
    """

    _owner = "CrossEntropyLoss"

    @suggest_keywords
    def __init__(
        self,
        weight: Array | None = None,
        *,
        ignore_index: int = -100,
        reduction: Literal["none", "mean", "sum"] = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, ignore_index, reduction)
        self.label_smoothing = numbers.in_range(
            self._owner, "label_smoothing", label_smoothing, 0, most=1
        )

    def __call__(self, y: Array, target: Array) -> tuple[Array, Array]:
        """Loss and its gradient.

        Args:
            y: logits (N, C) or (N, C, d1, …).
            target: classes (N, d1, …), integers, or probabilities shaped like y.

        Returns:
            The loss, () or shaped as the target for "none"; and the gradient of the loss (of its
            sum for "none") by y, to pass to ``model.backward``.
        """
        target = self._checked(y, target)
        column = target.ndim == y.ndim and target.shape[1] == 1 != y.shape[1]
        if is_floating(target) and (column or target.ndim == y.ndim - 1):
            raise TypeError(
                f"CrossEntropyLoss: 'target' has dtype {target.dtype} and shape "
                f"{tuple(target.shape)}, expected class indices as integers, such as "
                "target.astype('int64'), or probabilities shaped like y"
            )
        return ops.cross_entropy(
            y,
            target,
            weight=self._weight(y),
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )

    def __repr__(self) -> str:
        return (
            f"CrossEntropyLoss(ignore_index={self.ignore_index}, reduction={self.reduction!r}, "
            f"label_smoothing={self.label_smoothing})"
        )


class NLLLoss(ClassLoss):
    """``loss = -w[target] y[target]`` of log-probabilities ``y``, averaged.

    Args:
        weight: array or list (C,), a weight for each class, or None; used in the dtype of y.
        ignore_index: targets with this class count for nothing.
        reduction: "mean" (over the weights of the targets), "sum" or "none".

    Raises:
        TypeError: an argument is not a number, or ``weight`` not an array of floats.
        ValueError: an argument out of range.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> loss, dy = nn.NLLLoss()(np.log(np.float32([[0.5, 0.5]])), np.array([1]))
        >>> round(float(loss), 4), dy.tolist()
        (0.6931, [[0.0, -1.0]])
    """

    _owner = "NLLLoss"

    @suggest_keywords
    def __init__(
        self,
        weight: Array | None = None,
        *,
        ignore_index: int = -100,
        reduction: Literal["none", "mean", "sum"] = "mean",
    ) -> None:
        super().__init__(weight, ignore_index, reduction)

    def __call__(self, y: Array, target: Array) -> tuple[Array, Array]:
        """Loss and its gradient.

        Args:
            y: log-probabilities (N, C) or (N, C, d1, …).
            target: classes (N, d1, …), integers.
        """
        target = self._checked(y, target)
        return ops.nll_loss(
            y,
            target,
            weight=self._weight(y),
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )

    def __repr__(self) -> str:
        return f"NLLLoss(ignore_index={self.ignore_index}, reduction={self.reduction!r})"


def weight_beside(owner: str, name: str, weight: Any, y: Array) -> Any:
    """Weights in the dtype of ``y``, or the one it computes in; None stays None.

    Raises:
        TypeError: ``y`` is a tensor of PyTorch and the weights are none.
    """
    if weight is None or weight.dtype == y.dtype:
        return weight
    dtype = parameter_dtype(y)
    if weight.dtype == dtype:
        return weight
    if is_tensor_of_torch(y):
        if not is_tensor_of_torch(weight):
            raise TypeError(
                f"{owner}: {name!r} is a {type(weight).__name__} and 'y' a Tensor, expected one: "
                "pass the weights as a tensor"
            )
        return weight.to(dtype)
    if is_tensor_of_torch(weight) and isinstance(y, np.ndarray):
        weight = to_numpy(weight)
    with np.errstate(over="ignore", under="ignore"):
        return weight.astype(dtype, copy=False)


def _check_weight(owner: str, given: Any, used: Any) -> None:
    """Refuse weights of classes that are not weights, or that lose digits as they are used.

    Raises:
        ValueError: one is negative, NaN or infinite, or its product with a loss may be.
    """
    weights, kept = to_numpy(given), to_numpy(used)
    kind = np.finfo(kept.dtype if kept.dtype.kind == "f" else np.float32)
    least, most = SAFE * float(kind.tiny), float(kind.max) / SAFE
    right = (weights == 0) | ((kept >= least) & (kept <= most))
    if not right.all():
        place = int(np.argmin(right))
        raise ValueError(
            f"{owner}: 'weight' has {weights[place]} at {place}, expected 0 or a number "
            f"from {least:.2g} to {most:.2g}, which {kind.dtype} can multiply"
        )


def check_arrays(owner: str, y: Any, target: Any) -> Any:
    """The target as an array: outputs are floats, targets real numbers of the same library.

    A Series or DataFrame is taken by position.

    Raises:
        TypeError: they are not.
    """
    lib = like(owner, "'y'", y)[0]
    if type(target) is np.ndarray and lib is np and target.dtype.kind in "iufb":
        return target
    if hasattr(target, "iloc") and lib is np:
        from onepass.data._given import array_of

        return array_of(owner, "target", target)
    kind = type(target).__name__
    if not hasattr(target, "dtype") or not hasattr(target, "ndim") or hasattr(target, "filled"):
        raise TypeError(f"{owner}: 'target' is a {kind}, expected an array like y")
    if not (is_floating(target) or any(k in str(target.dtype) for k in ("int", "bool"))):
        raise TypeError(f"{owner}: 'target' has dtype {target.dtype}, expected real numbers")
    if library(target) is not lib:
        raise TypeError(f"{owner}: 'target' is a {kind} and 'y' a {type(y).__name__}, expected one")
    return target
