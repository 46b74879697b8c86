"""The arrays of a row, on the device that is measured: NumPy's, or tensors of PyTorch's on a GPU.

A GPU's rows have up to 2³⁰ elements, for which the host would draw numbers for half a minute: it
draws about as many as a check compares, and the device repeats them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onepass.bench._check import few
from onepass.bench._records import case as records
from onepass.bench._row import Context

DEVICE = "cuda"  # PyTorch's name of it


def itemsize(dtype: str) -> int:
    """Bytes of an element."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def inputs(context: Context, case: Any, shape: tuple[int, ...], options: Any) -> tuple[Any, ...]:
    """Those of a row of the records, in the dtype and on the device of the context."""
    if context.device == "cpu":
        return tuple(case.inputs(shape, context.dtype, options))
    # NumPy may lack bfloat16; vectors of channels are float32 beside either.
    kind = "float16" if context.dtype == "bfloat16" else context.dtype
    rows, *rest = few(shape)
    drawn, longer = (case.inputs((n, *rest), kind, options) for n in (rows, rows + 1))
    # PyTorch's norms over rows have no kernel for a GPU with vectors of another dtype.
    kinds = ("float16", "float32") if case.family == "row_norm" else ("float16",)
    return tuple(
        _converted(_repeated(a, b, rows, shape[0]), kinds, context.dtype)
        for a, b in zip(drawn, longer, strict=True)
    )


def _repeated(value: Any, longer: Any, rows: int, wanted: int) -> Any:
    """A tensor on the device with as many rows as are wanted, along the axis that has more of them
    in `longer`; None, numbers and vectors of channels have none."""
    if isinstance(value, list):
        pairs = zip(value, longer, strict=True)
        return [_repeated(a, b, rows, wanted) for a, b in pairs]
    if not isinstance(value, np.ndarray):
        return value
    tensor = placed(value)
    for axis, (some, more) in enumerate(zip(value.shape, longer.shape, strict=True)):
        if some != more:
            each = some // rows
            times = [1] * value.ndim
            times[axis] = -(-wanted // rows)
            return tensor.repeat(times).narrow(axis, 0, each * wanted).contiguous()
    return tensor


def _converted(value: Any, kinds: Sequence[str], dtype: str) -> Any:
    """Tensors of those dtypes to another one."""
    import torch

    if isinstance(value, list):
        return [_converted(a, kinds, dtype) for a in value]
    if not isinstance(value, torch.Tensor) or value.dtype not in [getattr(torch, k) for k in kinds]:
        return value
    return value.to(getattr(torch, dtype))


def drawn(context: Context, shapes: Sequence[tuple[int, ...]]) -> list[list[Any]]:
    """Parameters, and gradients a hundredth as large on a GPU."""
    if context.device == "cpu":
        rng = np.random.default_rng(0)
        return [[rng.standard_normal(s).astype(context.dtype) for s in shapes] for _ in range(2)]
    return [[_random(context, shape).mul_(scale) for shape in shapes] for scale in (1.0, 0.01)]


def _random(context: Context, shape: tuple[int, ...]) -> Any:
    import torch

    return torch.randn(shape, device=DEVICE, dtype=getattr(torch, context.dtype))


def placed(value: Any) -> Any:
    """An array on the GPU."""
    return records.tensor_of(value).to(DEVICE)


def back(value: Any) -> Any:
    """A result on the GPU as an array."""
    return records.array_of(value) if hasattr(value, "detach") else value
