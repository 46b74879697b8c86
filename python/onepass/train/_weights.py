"""Weights of samples and classes in a loss."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from onepass._array import beside, to_numpy
from onepass.data._weights import checked_weights

ClassWeight = Mapping[Any, float] | Any | str | None


def loss_of(loss: Any, output: Any, target: Any) -> tuple[Any, Any, float | None]:
    """The loss, its gradient by the output, and what it was divided by; None for a sum.

    The losses of ``onepass.nn`` have a method ``divisor`` for the last, as any loss may. One
    without it is taken for a mean over samples.
    """
    value, dy = _called(loss, output, target)
    return value, dy, divisor_of(loss, target)


def divisor_of(loss: Any, target: Any) -> float | None:
    """What a loss of these targets is divided by; None for a sum."""
    own = getattr(loss, "divisor", None)
    return float(len(target)) if own is None else own(target)


def _called(loss: Any, output: Any, *arguments: Any, **options: Any) -> tuple[Any, Any]:
    result = loss(output, *arguments, **options)
    pair = isinstance(result, (tuple, list)) and len(result) == 2
    shape = getattr(result[1], "shape", None) if pair else None
    if shape is None or tuple(shape) != tuple(output.shape):
        shown = f"a {type(result).__name__}"
        if pair:
            shown = f"a gradient that is a {type(result[1]).__name__}"
        if shape is not None:
            shown = f"a gradient of shape {tuple(shape)}"
        raise TypeError(
            f"Trainer: 'loss' returned {shown}, expected a pair (loss, dy): the loss, and its "
            f"gradient by the output, of shape {tuple(output.shape)}"
        )
    if getattr(result[1], "dtype", None) != output.dtype:
        raise TypeError(
            f"Trainer: 'loss' returned a gradient of {getattr(result[1], 'dtype', None)}, expected "
            f"{output.dtype}, the dtype of the output: dy.astype(y.dtype)"
        )
    if math.prod(getattr(result[0], "shape", ())) != 1:
        raise TypeError(
            f"Trainer: 'loss' returned a loss of shape {tuple(result[0].shape)}, expected one "
            "number, such as the mean"
        )
    # By name: NumPy's own question is a call of the array's library, which need not have it.
    if "complex" in str(getattr(result[0], "dtype", type(result[0]))):
        raise TypeError(
            f"Trainer: 'loss' returned a loss of {result[0]!r}, expected one real number: "
            "its real part"
        )
    return result[0], result[1]


class WeightedLoss:
    """``loss = Σ w_i l_i / Σ w_i c_i``: w weighs samples, c are the weights of classes within l.

    A function takes w itself, as ``sample_weight``; it is then divided by Σ w.
    """

    def __init__(self, loss: Any) -> None:
        self._own = loss
        self._each = None
        if hasattr(loss, "weights") and hasattr(loss, "reduction"):
            self._each = copy.copy(loss)
            self._each.reduction = "none"
        elif not _takes_weights(loss):
            raise TypeError(
                f"fit: 'sample_weight' and 'class_weight' need a loss that takes weights, and "
                f"{getattr(loss, '__name__', type(loss).__name__)} takes none, expected a loss "
                "module of onepass.nn, or a function with an argument sample_weight"
            )

    def __call__(self, y: Any, target: Any, weight: Any) -> tuple[Any, Any, float | None]:
        """As `loss_of`."""
        if self._each is None:
            value, dy = _called(self._own, y, target, sample_weight=weight)
            return value, dy, self.divisor(target, weight)
        losses, dy = self._each(y, target)
        divisor = self.divisor(target, weight)
        own = _shaped(weight, losses)
        total = float((own * losses).sum(dtype=np.float64))
        scale = own if divisor is None else own / (divisor or 1.0)
        if losses.ndim < dy.ndim:  # one loss for all classes
            scale = scale[:, None]
        loss = total if divisor is None else total / (divisor or 1.0)
        return loss, dy * scale.astype(dy.dtype), divisor

    def divisor(self, target: Any, weight: Any) -> float | None:
        """What the loss of these targets is divided by; None for a sum."""
        if self._each is None:
            return float(to_numpy(weight).sum())
        if self._own.reduction == "sum":
            return None
        counted = self._own.weights(target)
        return float((to_numpy(_shaped(weight, counted)) * to_numpy(counted)).sum())


def of_samples(
    y: Any, sample_weight: Any, class_weight: ClassWeight, ignored: int | None = None
) -> Any:
    """One weight for each target from both kinds of weights; None without any.

    Args:
        ignored: labels that the loss leaves out: no class.

    Raises:
        TypeError, ValueError: weights that are not numbers, negative, or do not fit y.
    """
    weight = None
    if sample_weight is not None:
        weight = checked_weights("fit", "sample_weight", sample_weight)
        if weight.shape != (len(y),):
            raise ValueError(
                f"fit: 'sample_weight' has shape {weight.shape}, expected ({len(y)},), one for "
                "each sample of X"
            )
    if class_weight is not None:
        by_class = _by_class(to_numpy(y), class_weight, ignored)
        weight = by_class if weight is None else by_class * _shaped(weight, by_class)
    if weight is not None and not weight.sum() > 0:
        name = "class_weight" if sample_weight is None else "sample_weight"
        raise ValueError(f"fit: {name!r} has the sum 0, expected a positive weight")
    return None if weight is None else beside(y, weight)


def balanced(counts: Any) -> Any:
    """samples / (classes · samples of the class), of classes that have any."""
    there = counts > 0
    return counts.sum() / (np.count_nonzero(there) * np.where(there, counts, 1))


def _by_class(y: Any, class_weight: ClassWeight, ignored: int | None) -> Any:
    to_dict = getattr(class_weight, "to_dict", None)
    if to_dict is not None:  # the index of a Series has the classes
        class_weight = to_dict()
    if y.dtype.kind not in "iub":
        raise TypeError(
            f"fit: 'class_weight' needs class indices, and y has dtype {y.dtype}, expected "
            "integers; pass sample_weight instead"
        )
    known = np.unique(y[y >= 0]) if y.dtype.kind == "i" else np.unique(y)
    known = known if ignored is None else known[known != ignored]
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(
                f"fit: 'class_weight' is {class_weight!r}, expected 'balanced', a dict or an array"
            )
        counts = np.array([np.sum(y == c) for c in known])
        given = dict(zip(known.tolist(), balanced(counts), strict=True))
    elif isinstance(class_weight, Mapping):
        values = checked_weights("fit", "class_weight", list(class_weight.values()))
        wrong = [k for k in class_weight if not isinstance(k, (int, np.integer))]
        if wrong:
            raise TypeError(
                f"fit: 'class_weight' has the key {wrong[0]!r}, expected classes, whole numbers"
            )
        given = dict(zip(map(int, class_weight), values.tolist(), strict=True))
    else:
        given = dict(enumerate(checked_weights("fit", "class_weight", class_weight).tolist()))
    classes = known.astype(int).tolist()
    others = [c for c in given if c not in classes and c != ignored]
    strange = others if isinstance(class_weight, Mapping) else []
    missing = [] if isinstance(class_weight, Mapping) else [c for c in classes if c not in given]
    if strange or missing:
        what = f"has the class {strange[0]}" if strange else f"has no weight for class {missing[0]}"
        raise ValueError(f"fit: 'class_weight' {what}, expected the classes in y: {classes}")
    weight = np.ones(y.shape)  # also of labels that are ignored, and of classes not in a dict
    for c in classes:
        weight[y == c] = given.get(c, 1.0)
    return weight


def _shaped(weight: Any, like: Any) -> Any:
    """A weight for each sample beside an array with more axes."""
    return weight.reshape(weight.shape + (1,) * (like.ndim - weight.ndim))


def _takes_weights(loss: Any) -> bool:
    try:
        return "sample_weight" in inspect.signature(loss).parameters
    except (TypeError, ValueError):
        return False
