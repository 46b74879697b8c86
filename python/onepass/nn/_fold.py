"""Batch norms merged into the layers before them, for inference."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from onepass._array import beside, to_numpy
from onepass._kind import Like
from onepass._parameter import Parameter
from onepass.nn._activation import Identity
from onepass.nn._batch_norm import BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d
from onepass.nn._batch_renorm import BatchRenorm
from onepass.nn._conv import Conv2d
from onepass.nn._decorrelated import DecorrelatedBatchNorm
from onepass.nn._dropout import Dropout
from onepass.nn._linear import Linear
from onepass.nn._module import Module
from onepass.nn._residual import Residual
from onepass.nn._sequential import Sequential
from onepass.nn._use import using
from onepass.nn._weight_norm import WeightNorm

CHANNEL_NORMS = (BatchNorm1d, BatchNorm2d, BatchNorm3d, BatchRenorm)
NORMS = (*CHANNEL_NORMS, DecorrelatedBatchNorm)
NOTHING_IN_EVALUATION = (Identity, Dropout)
M = TypeVar("M", bound=Module)
Floats = NDArray[np.float64]


class FoldedLinear(Linear):
    """A `Linear` that has taken up a batch norm, and so takes rows alone.

    Over (N, C, L) the norm works on axis 1 and the layer on the last.
    """

    def _check(self, x: Any) -> Like:
        kind = super()._check(x)
        if len(kind[2]) != 2:
            raise ValueError(
                f"Linear: x has shape {kind[2]}, expected (N, {self.in_features}): a batch norm "
                "was folded into this layer, which would work on axis 1; call the model that "
                "fold_batch_norm was given"
            )
        return kind


def fold_batch_norm(model: M) -> M:
    """A copy for inference: batch norms merged into the linear layer or convolution before them.

    ``weight ← weight · γ/√(var + eps)`` and ``bias ← (bias - mean) · γ/√(var + eps) + β`` for each
    output, with the running statistics, computed in float64 and rounded once. A
    `DecorrelatedBatchNorm` multiplies by its running projection. The copy is in evaluation mode. An
    output differs from that of the model by at most ``(n + 8) · ε · S``: S is the sum of the
    magnitudes of all that is added up in it (each w·x, bias, mean and β, with the norm's factors),
    and n the number of the w·x.

    A norm is merged where it comes right after the layer in a `Sequential`, across `Sequential` in
    `Sequential` too, and after dropout, which does nothing in evaluation. All others stay: after an
    activation, a pool or a residual block, at the beginning of a block, without running statistics,
    where a method is overridden. So do those in modules of your own, which may call their layers in
    any order: fold their sequences by themselves, as in ``model.head =
    nn.fold_batch_norm(model.head)``. `WeightNorm` of a layer with a norm behind it becomes the
    plain layer.

    The layers that follow a merged norm are renumbered, as it is gone.

    Args:
        model: module; left as it is, as is a parameter that layers share.

    Raises:
        TypeError: not a module.
        RuntimeError: another thread trains the model.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.ReLU()).eval()
        >>> folded = nn.fold_batch_norm(model)
        >>> folded
        Sequential(
          fused(
            (0): FoldedLinear(in_features=3, out_features=2, bias=True)
            (1): ReLU()
          )
        )
        >>> x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
        >>> bool(np.allclose(folded(x), model(x), atol=1e-6))
        True
    """
    if not isinstance(model, Module):
        raise TypeError(
            f"fold_batch_norm: 'model' is a {type(model).__name__}, expected an nn.Module"
        )
    with using(model, "fold_batch_norm"):
        copy = deepcopy(model)
    copy.eval()
    for chain in list(_chains(copy)):
        _fold(chain)
    for parameter in copy.parameters():
        parameter.grad = None
    return copy


def _chains(module: Module) -> Iterator[Module]:
    """Sequences of which it is known how they are called: none within a module of the user's own,
    which may call their layers by themselves, or twice.
    """
    if _is_chain(module):
        yield module
        parts = [layer for _, layer in _flat(module)]
    elif _is_plain(module, (Residual,)):
        parts = [child for _, child in module.named_children()]
    else:
        return
    for part in parts:
        yield from _chains(part)


def _fold(chain: Module) -> None:
    """Fold within one sequence of layers, those of sequences inside among them."""
    before: tuple[Any, Module] | None = None
    for owner, layer in list(_flat(chain)):
        if _is_plain(layer, NOTHING_IN_EVALUATION):
            continue
        if _is_plain(layer, (Linear, FoldedLinear, Conv2d, WeightNorm)):
            before = owner, layer
        elif before is not None and _is_plain(layer, NORMS):
            merged = _merged(before[1], layer)
            if merged is None:
                before = None
                continue
            _put(before[0], before[1], merged)
            before = before[0], merged
            _put(owner, layer)
        else:
            before = None


def _flat(chain: Any) -> Iterator[tuple[Any, Module]]:
    for layer in chain.layers:
        if _is_chain(layer):
            yield from _flat(layer)
        else:
            yield chain, layer


def _put(owner: Any, layer: Module, *new: Module) -> None:
    """Replace a layer, or take it out."""
    i = next(i for i, other in enumerate(owner) if other is layer)
    owner[i : i + 1] = new


def _is_chain(module: Module) -> bool:
    """Whether it calls its layers one after the other, and does nothing else."""
    cls = type(module)
    return isinstance(module, Sequential) and all(
        getattr(cls, name) is getattr(Sequential, name) and name not in vars(module)
        for name in ("__call__", "forward", "fused_forward")
    )


def _is_plain(module: Module, classes: tuple[type[Module], ...]) -> bool:
    """Whether it computes what these classes do: no subclass, no method of its own."""
    return type(module) in classes and not {"forward", "fused_forward"} & vars(module).keys()


def _merged(layer: Any, norm: Any) -> Module | None:
    """The layer with the norm in it, or None where that cannot be."""
    inner: Any = layer.module if type(layer) is WeightNorm else layer
    if not _is_plain(inner, (Linear, FoldedLinear, Conv2d)) or not _fits(inner, norm):
        return None
    if inner is layer:
        weight = _wide(layer.weight)
    elif layer.name == "weight":
        weight = _normed(_wide(layer.weight_v), _wide(layer.weight_g), layer.dim)
    else:
        return None
    bias = _wide(inner.bias) if inner.bias is not None else np.zeros(len(weight))
    with np.errstate(all="ignore"):
        weight, bias = _with_norm(weight, bias, norm)
        dtype = inner.weight.dtype
        rounded = weight.astype(dtype), bias.astype(dtype)
    if not all(np.isfinite(values).all() for values in rounded):
        return None
    trained = any(p.requires_grad for p in layer.parameters())
    like = norm.running_mean
    new = [Parameter(beside(like, values), trained) for values in rounded]
    return _holding(inner, *new)


def _holding(layer: Any, weight: Parameter, bias: Parameter) -> Module:
    """The layer with these; it is of the copy already, and others may share its old ones."""
    if isinstance(layer, Conv2d):
        layer.weight, layer.bias = weight, bias
        return layer
    folded = FoldedLinear.__new__(FoldedLinear)
    folded.in_features, folded.out_features = layer.in_features, layer.out_features
    folded.weight, folded.bias = weight, bias
    folded.training = False
    return folded


def _fits(layer: Any, norm: Any) -> bool:
    """Whether the norm has running statistics, of the axis that holds the layer's outputs."""
    if norm.running_mean is None:
        return False
    conv = isinstance(layer, Conv2d)
    outputs = layer.out_channels if conv else layer.out_features
    if norm.num_features != outputs:
        return False
    if isinstance(norm, BatchNorm):
        return (4 if conv else 2) in norm.ranks
    width = outputs // norm.num_groups
    return not conv or (outputs // layer.groups) % width == 0 or layer.groups == 1


def _with_norm(weight: Floats, bias: Floats, norm: Any) -> tuple[Floats, Floats]:
    """Weight and bias of the layer and the norm as one."""
    mean = to_numpy(norm.running_mean).astype(np.float64)
    rows, bias = weight.reshape(len(weight), -1), bias - mean
    if isinstance(norm, BatchNorm):
        scale = 1 / np.sqrt(to_numpy(norm.running_var).astype(np.float64) + norm.eps)
    else:
        projection = to_numpy(norm.running_projection).astype(np.float64)
        groups, width, _ = projection.shape
        rows = (projection @ rows.reshape(groups, width, -1)).reshape(len(weight), -1)
        bias = (projection @ bias.reshape(groups, width, 1)).reshape(-1)
        scale = np.ones(len(weight))
    if norm.weight is not None:
        scale = scale * _wide(norm.weight)
    bias = bias * scale
    if norm.bias is not None:
        bias = bias + _wide(norm.bias)
    return (rows * scale[:, None]).reshape(weight.shape), bias


def _normed(v: Floats, g: Floats, dim: int) -> Floats:
    """The weight of a `WeightNorm`."""
    others = tuple(i for i in range(v.ndim) if i != dim)
    unit = v / np.abs(v).max(axis=others, keepdims=True)
    weight: Floats = g * unit / np.sqrt((unit**2).sum(axis=others, keepdims=True))
    return weight


def _wide(parameter: Parameter) -> Floats:
    return to_numpy(parameter.data).astype(np.float64)
