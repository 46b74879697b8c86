"""The norm that `fuse` puts in the place of torch's: the same parameters and state under a kernel
that does what follows too.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn as torch_nn
from torch.nn.utils import parametrize

from onepass.torch import nn
from onepass.torch.nn._elementwise import activation as activate
from onepass.torch.nn._elementwise import dropout as drop


class _Adds(torch_nn.Module):
    """Mixin before a norm for a block whose addition was recorded: ``norm(input) + residual``.

    What is added may be no residual: it may broadcast, be a number or of another dtype. Addition
    and what follows are then passes of their own.
    """

    # operator.iadd where the block writes to the result of its norm, whose dtype that keeps.
    _add: Callable[[Any, Any], Any] = operator.add

    def forward(self, input: torch.Tensor, residual: Any = None) -> torch.Tensor:
        norm: Any = self
        if _is_like(residual, input):
            return super().forward(input, residual)  # type: ignore[misc, no-any-return]
        y = self._add(norm._normed(input, None, None, ("identity", [], 0.0)), residual)
        seed, (name, values, p) = norm._rest(y)
        y = y if norm.activation is None else activate(y, name, values)
        return y if seed is None else drop(y, seed, "dropout", p)


def _is_like(residual: object, x: torch.Tensor) -> bool:
    same = isinstance(residual, torch.Tensor) and residual.shape == x.shape
    return same and residual.dtype == x.dtype  # type: ignore[attr-defined]


class AddingBatchNorm1d(_Adds, nn.BatchNorm1d): ...


class AddingBatchNorm2d(_Adds, nn.BatchNorm2d): ...


class AddingBatchNorm3d(_Adds, nn.BatchNorm3d): ...


# torch's class → (ours, ours with an addition)
NORMS: dict[type, tuple[Any, Any]] = {
    torch_nn.BatchNorm1d: (nn.BatchNorm1d, AddingBatchNorm1d),
    torch_nn.BatchNorm2d: (nn.BatchNorm2d, AddingBatchNorm2d),
    torch_nn.BatchNorm3d: (nn.BatchNorm3d, AddingBatchNorm3d),
}
OURS = tuple(norm for norm, _ in NORMS.values())


def refusal(module: torch.nn.Module, uses: Counter[int]) -> str:
    """Why a batch norm stays as it is; "" where it need not."""
    if type(module) not in NORMS:
        return f"{type(module).__name__} is not one of torch.nn's BatchNorm1d, 2d and 3d"
    if taken := sorted(vars(module).keys() & _names_of_ours()):
        return f"it has an attribute {taken[0]!r}, which the norm in its place has for itself"
    return entangled(module, uses)


def _names_of_ours() -> set[str]:
    """The attributes of our norms that torch's have not."""
    made, theirs = AddingBatchNorm1d(1), torch_nn.BatchNorm1d(1)
    return {*vars(made), *dir(made)} - {*vars(theirs), *dir(theirs)}


def entangled(module: torch.nn.Module, uses: Counter[int]) -> str:
    if uses[id(module)] > 1:
        return "it is used at two places"
    if parametrize.is_parametrized(module):
        return "it has parametrizations"
    if any(value for key, value in vars(module).items() if key.endswith("_hooks")):
        return "it has hooks"
    if "forward" in vars(module):
        return "its forward was replaced"
    if vars(module).get("_compiled_call_impl") is not None:
        return "it is compiled"
    return ""


def replacement(
    old: Any, activation: Any, dropout: float = 0.0, add: Callable[[Any, Any], Any] | None = None
) -> Any:
    """The same parameters and buffers under a norm with its epilogue; ``add`` is its addition."""
    made = NORMS[type(old)][add is not None](
        old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats,
        device="meta", activation=activation, dropout=dropout,
    )  # fmt: skip
    if add is not None:
        made._add = add
    made._parameters, made._buffers = old._parameters, old._buffers
    made._non_persistent_buffers_set = old._non_persistent_buffers_set
    for key, value in vars(old).items():
        if key not in vars(made):  # what a user hung on it
            vars(made)[key] = value
    made.training = old.training
    return made


def said(old: Any, residual: bool, activation: Any, dropout: float) -> str:
    name = activation if isinstance(activation, str) else activation and activation[0]
    parts = [type(old).__name__, "add" if residual else "", name or "", dropout and "dropout"]
    return " → ".join(part for part in parts if part)
