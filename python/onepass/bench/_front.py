"""Rows of `onepass.torch.nn`: forward and backward of modules through autograd, against PyTorch's
modules of the same names, eager and compiled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from onepass._streams import Function, Streams
from onepass.bench import _check as check
from onepass.bench._beside import beside
from onepass.bench._networks import FORMS, Around, MakeModule
from onepass.bench._peers import need_torch
from onepass.bench._row import Check, Context, Row, Workload, named


def _training(model: Any, around: Around, x: Any, *target: Any) -> Function:
    """A forward, and the gradients of the input and all parameters; `around` makes the function
    that runs the forward."""
    import torch

    wanted, forward = [x, *model.parameters()], around(model)
    dy = torch.ones_like(forward(x, *target))
    return lambda: torch.autograd.grad(forward(x, *target), wanted, dy)


def _row(
    shape: tuple[int, ...], make: MakeModule, streams: Streams, classes: int = 0
) -> Callable[[Context], Workload]:
    """``make(nn)`` builds the model from the modules of ``nn``, ours or PyTorch's."""

    def made(context: Context) -> Workload:
        need_torch()
        import torch

        from onepass.torch import nn

        x = torch.randn(shape, requires_grad=True)
        target = [torch.randint(0, classes, shape[:1])] if classes else []

        def rival(around: Around) -> Function:
            return _training(make(torch.nn), around, x, *target)

        found = beside(context, {label: partial(rival, f) for label, f in FORMS.items()})
        arrays = streams.reads + streams.writes
        count = 4.0 * arrays * math.prod(shape)
        return Workload(
            {"onepass": _training(make(nn), FORMS["torch eager"], x, *target), **found.functions},
            math.prod(shape),
            count,
            streams,
            lambda: _compared(shape, make, classes),
            missing=found.missing,
        )

    return made


def _compared(shape: tuple[int, ...], make: MakeModule, classes: int) -> Check:
    """Ours beside PyTorch's modules in float64, on as many rows as are compared at most."""
    import torch

    from onepass.torch import nn

    few = check.few(shape)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(few, generator=generator)
    target = [torch.randint(0, classes, few[:1], generator=generator)] if classes else []
    dy: Any = None
    results = []
    for model, dtype in ((make(torch.nn).double(), torch.float64), (make(nn), torch.float32)):
        held = x.detach().to(dtype).requires_grad_()
        y = model(held, *target)
        dy = torch.randn(y.shape, generator=generator) if dy is None else dy
        found = torch.autograd.grad(y, [held, *model.parameters()], dy.to(dtype))
        results.append([y, *found])
    checks = (
        check.within(got.detach(), want.detach(), 1e-5) for want, got in zip(*results, strict=True)
    )
    return check.worst(checks, f"at {named(few)}, beside PyTorch in float64")


def _followed(norm: str, channels: int) -> MakeModule:
    """The norm and ReLU: one module of ours, two of PyTorch's."""

    def make(nn: Any) -> Any:
        import torch

        cls = getattr(nn, norm)
        if nn is torch.nn:
            return nn.Sequential(cls(channels), nn.ReLU())
        return cls(channels, activation="relu")

    return make


_BOTH = Streams(3, 2)  # x for y, then dy and x for dx
_MAKE: dict[str, tuple[str, Callable[[Context], Workload]]] = {
    "front relu 64": ("activation", _row((64,), lambda n: n.ReLU(), _BOTH)),
    "front relu 1M": ("activation", _row((1 << 20,), lambda n: n.ReLU(), _BOTH)),
    **{
        f"front bn relu {named(shape)}": (
            "norm",
            _row(shape, _followed(f"BatchNorm{len(shape) // 2}d", shape[1]), _BOTH),
        )
        for shape in ((32, 64), (1024, 256), (32, 64, 28, 28))
    },
    **{
        f"front layer_norm {rows}x{n}": (
            "norm",
            _row((rows, n), lambda nn, n=n: nn.LayerNorm(n), _BOTH),  # type: ignore[misc]
        )
        for rows, n in ((8, 64), (8192, 1024))
    },
    **{
        f"front cross_entropy {rows}x{n}": (
            "loss",
            _row((rows, n), lambda nn: nn.CrossEntropyLoss(), Streams(1, 1), n),
        )
        for rows, n in ((32, 10), (2048, 1000))
    },
}


def rows() -> Iterator[Row]:
    for name, (group, make) in _MAKE.items():
        yield Row(name, group, make)
