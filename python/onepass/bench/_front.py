"""Rows of `onepass.torch.nn`: forward and backward of modules through autograd, against PyTorch's
modules of the same names, eager and compiled. A row is a function of (compiled) that returns
(functions by label, elements, fewest bytes), as in workloads.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from cases import BY_NAME
from workloads import Function, Made, both_bytes


def _training(model: Any, x: Any, *target: Any) -> Function:
    """A forward, and the gradients of the input and all parameters."""
    import torch

    wanted = [x, *model.parameters()]
    dy = torch.ones_like(model(x, *target))
    return lambda: torch.autograd.grad(model(x, *target), wanted, dy)


def _row(
    shape: tuple[int, ...], make: Callable[[Any], Any], count: Callable[[], float], classes: int = 0
) -> Callable[[bool], Made]:
    """``make(nn)`` builds the model from the modules of ``nn``, or (from ours, from torch's)."""

    def made(compiled: bool) -> Made:
        import torch
        from onepass.torch import nn

        x = torch.randn(shape, requires_grad=True)
        target = [torch.randint(0, classes, shape[:1])] if classes else []
        ours, theirs = make(nn), make(torch.nn)
        functions = {
            "onepass": _training(ours, x, *target),
            "torch eager": _training(theirs, x, *target),
        }
        if compiled:
            torch._dynamo.reset()  # what was compiled for another number of threads
            functions["torch compiled"] = _training(torch.compile(theirs), x, *target)
        return functions, math.prod(shape), math.prod(shape) * count()

    return made


def _followed(norm: str, channels: int) -> Callable[[Any], Any]:
    """The norm and ReLU: one module of ours, two of PyTorch's."""

    def make(nn: Any) -> Any:
        import torch

        cls = getattr(nn, norm)
        if nn is torch.nn:
            return nn.Sequential(cls(channels), nn.ReLU())
        return cls(channels, activation="relu")

    return make


def _bytes(name: str) -> Callable[[], float]:
    return lambda: both_bytes(name, 4)


ROWS: dict[str, Callable[[bool], Made]] = {
    "front relu 64": _row((64,), lambda nn: nn.ReLU(), _bytes("relu")),
    "front relu 1M": _row((1 << 20,), lambda nn: nn.ReLU(), _bytes("relu")),
    "front bn relu 32x64": _row((32, 64), _followed("BatchNorm1d", 64), _bytes("batch_norm")),
    "front bn relu 1024x256": _row(
        (1024, 256), _followed("BatchNorm1d", 256), _bytes("batch_norm")
    ),
    "front bn relu 32x64x28x28": _row(
        (32, 64, 28, 28), _followed("BatchNorm2d", 64), _bytes("batch_norm")
    ),
    "front layer_norm 8x64": _row((8, 64), lambda nn: nn.LayerNorm(64), _bytes("layer_norm")),
    "front layer_norm 8192x1024": _row(
        (8192, 1024), lambda nn: nn.LayerNorm(1024), _bytes("layer_norm")
    ),
    "front cross_entropy 32x10": _row(
        (32, 10), lambda nn: nn.CrossEntropyLoss(), lambda: BY_NAME["cross_entropy"].bytes(4), 10
    ),
    "front cross_entropy 2048x1000": _row(
        (2048, 1000), lambda nn: nn.CrossEntropyLoss(), lambda: BY_NAME["cross_entropy"].bytes(4),
        1000,
    ),
}  # fmt: skip
