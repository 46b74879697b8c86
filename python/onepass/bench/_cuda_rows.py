"""Rows of ``--device cuda``, in the order of what they decide: the kernels and rivals of the
records, on tensors of the device, in the sizes that GPUs are bought for.

A check runs the same kernel on the device at a small size.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from onepass.bench import _check as check
from onepass.bench._peers import tried
from onepass.bench._records import case as records
from onepass.bench._records import cases
from onepass.bench._row import DTYPES, Check, Context, Function, Row, Workload, named
from onepass.bench._rows import forms
from onepass.bench._workloads import both_bytes, optimizer_step, step_bytes

DEVICE = "cuda"
LARGE = 1 << 30
Shape = tuple[int, ...]
DECISIVE: list[Shape] = [
    (256, 64, 112, 112), (256, 256, 56, 56), (256, 128, 28, 28), (256, 512, 7, 7),
]  # fmt: skip
RESNET50: list[Shape] = [
    *DECISIVE, (256, 64, 56, 56), (256, 512, 28, 28), (256, 256, 14, 14), (256, 1024, 14, 14),
    (256, 2048, 7, 7),
]  # fmt: skip
# Optimizers that PyTorch runs as lists of elementwise kernels.
NOT_FUSED = ["rmsprop", "adadelta", "adamax", "nadam", "radam", "lamb", "lion"]
MANY: list[Shape] = [(64_000 + 8 * i,) for i in range(1000)]
FEW: list[Shape] = [(384, 216 + i % 3) if i % 2 else (1024 + i,) for i in range(120)]
TINY: list[Shape] = [(48, 170 + i % 3) if i % 2 else (256 + i,) for i in range(120)]


# ---------------------------------------------------------------------------------------- workloads


def _random(shape: Any, dtype: str = "float32") -> Any:
    import torch

    return torch.randn(shape, device=DEVICE, dtype=getattr(torch, dtype))


def _placed(value: Any) -> Any:
    """An array on the device."""
    return records.tensor_of(value).to(DEVICE)


def _back(value: Any) -> Any:
    """A result as an array."""
    return records.array_of(value) if hasattr(value, "detach") else value


def _checked(
    name: str, shape: Shape, dtype: str, options: dict[str, Any]
) -> Callable[[], Check] | None:
    """The record's check on the device, of few rows; bfloat16 needs a type of NumPy's."""
    if dtype == "bfloat16" and records.BFLOAT16 is None:
        return None
    few = (min(shape[0], max(2, check.MOST // max(1, math.prod(shape[1:])))), *shape[1:])
    kind = str(records.BFLOAT16) if dtype == "bfloat16" else dtype
    case = cases.BY_NAME[name]
    # RMS norm's default eps depends on the dtype; the records give one.
    given = {k: v for k, v in case.options[0].items() if k == "eps"} | options

    def compare() -> Check:
        found = check.of_case(case, few, kind, given, _placed, _back)
        return Check(found.error, found.ulps, f"at {named(few)}")

    return compare


def _step(
    name: str,
    shapes: Sequence[Shape],
    clips: bool = False,
    dtype: str = "float32",
    graph: bool = False,
    form: str = "fused",
) -> Workload:
    variant = cases.optimizers.BY_NAME[name]
    params = [_random(shape, dtype) for shape in shapes]
    grads = [_random(shape, dtype).mul_(0.01) for shape in shapes]
    options = {"capturable": True} if graph else {}
    on = Context(device=DEVICE)
    found = optimizer_step(on, variant, params, grads, clips, (form,), options)
    each = step_bytes(variant, clips, params[0].element_size())
    elements = sum(p.numel() for p in params)

    def compare() -> Check:
        rng = np.random.default_rng(0)
        few = ((4096,), (64, 65))
        p, g = ([rng.standard_normal(s).astype(np.float32) for s in few] for _ in range(2))
        off = check.of_steps(variant, p, g, _placed, _back, clip=clips)
        return Check(off.error, off.ulps, "few elements of float32")

    return Workload(
        found.functions, elements, elements * each, check=compare, missing=found.missing,
        graph=graph,
    )  # fmt: skip


def _options(each: float, **options: Any) -> Workload:
    """AdamW of one tensor with options of ours, beside the step without them."""
    from onepass import optim

    def step(**options: Any) -> Function:
        p, g = _random(LARGE), _random(LARGE)
        own = optim.AdamW([p], lr=1e-5, **options)
        return lambda: own.step([g])

    def compare() -> Check:
        rng = np.random.default_rng(0)
        p, g = (rng.standard_normal(1 << 16).astype(np.float32) for _ in range(2))
        moved = []
        for place in (_placed, np.copy):
            held, slope = place(p), place(g)
            own = optim.AdamW([held], lr=1e-2, **options)
            for _ in range(2):
                own.step([slope])
            moved.append(_back(held) - p)
        found = check.within(moved[0], moved[1], 1e-3)
        return Check(found.error, None, "beside the same steps on the processor")

    functions = {"onepass": step(**options), "onepass plain": step()}
    return Workload(functions, LARGE, LARGE * each, check=compare)


def _single(
    name: str, inputs: tuple[Any, ...], keywords: dict[str, Any], elements: int, graph: bool = False
) -> Workload:
    case, first = cases.BY_NAME[name], inputs[0][0] if isinstance(inputs[0], list) else inputs[0]
    rivals = tried(case.rivals(inputs, keywords))
    functions = forms(case, inputs, keywords, rivals.functions) | rivals.functions
    count = elements * case.bytes(first.element_size())
    dtype = str(first.dtype).removeprefix("torch.")
    compare = _checked(name, tuple(_shaped(inputs, keywords)), dtype, keywords)
    return Workload(functions, elements, count, check=compare, missing=rivals.missing, graph=graph)


def _shaped(inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Shape:
    """The shape by which the records make such inputs: of x, channels second."""
    x = inputs[0][0] if isinstance(inputs[0], list) else inputs[0]
    if keywords.get("channels_last"):
        return (x.shape[0], x.shape[-1], *x.shape[1:-1])
    return tuple(x.shape)


def _elementwise(name: str, elements: int, dtype: str, **keywords: Any) -> Workload:
    return _single(name, (_random(elements, dtype),), keywords, elements)


def _loss(name: str, elements: int, dtype: str) -> Workload:
    inputs = (_random(elements, dtype), _random(elements, dtype).sigmoid_(), None)
    return _single(name, inputs, {}, elements)


def _norm(elements: int, dtype: str) -> Workload:
    return _single("global_norm", ([_random(elements, dtype)],), {}, elements)


def _both(
    name: str, inputs: tuple[Any, ...], keywords: dict[str, Any], graph: bool = False
) -> Workload:
    """Forward and gradient together."""
    x = inputs[1]
    functions = cases.BY_NAME[f"{name}_backward"].both(inputs, keywords)
    ours = {"onepass": functions.pop("onepass")}
    found = tried(functions)
    dtype, shape = str(x.dtype).removeprefix("torch."), _shaped(inputs, keywords)
    count = x.numel() * both_bytes(name, x.element_size())
    compare = _checked(f"{name}_backward", shape, dtype, keywords)
    return Workload(
        ours | found.functions, x.numel(), count, check=compare, missing=found.missing, graph=graph
    )


def _batch_norm(
    shape: Shape, dtype: str, last: bool, backward: bool, graph: bool = False, **more: Any
) -> Workload:
    import torch

    n, c, *image = shape
    shape = (n, *image, c) if last else shape
    x, dy = _random(shape, dtype), _random(shape, dtype)
    vectors = [torch.rand(c, device=DEVICE) + 0.5 for _ in range(4)]
    keywords = {"training": True, "activation": "relu", "channels_last": last, **more}
    if backward:
        return _both("batch_norm", (dy, x, *vectors, None), keywords, graph)
    return _single("batch_norm", (x, *vectors, None), keywords, x.numel(), graph)


def _renorm(shape: Shape, dtype: str) -> Workload:
    """Batch renormalisation beside our batch norm."""
    import torch

    from onepass import ops

    n, c, *image = shape
    x = _random((n, *image, c), dtype)
    out = torch.empty_like(x)
    vectors: Any = [torch.rand(c, device=DEVICE) + 0.5 for _ in range(4)]
    keywords: dict[str, Any] = {"training": True, "activation": "relu", "channels_last": True}
    limits: dict[str, Any] = {"rmax": 3.0, "dmax": 5.0}
    renorm: Any = ops.batch_renorm
    functions: dict[str, Function] = {
        "onepass": lambda: renorm(x, *vectors, **limits, **keywords, out=out),
        "onepass batch_norm": lambda: ops.batch_norm(x, *vectors, **keywords, out=out),
    }
    compare = _checked("batch_renorm", shape, dtype, keywords | limits)
    return Workload(functions, x.numel(), 2.0 * x.numel() * x.element_size(), check=compare)


def _mask() -> Workload:
    import torch

    from onepass import ops

    out = torch.empty(LARGE // 8, device=DEVICE, dtype=torch.uint8)

    def packed() -> Any:
        return ops.dropout_mask(LARGE, 0.5, seed=1, packed=True, out=out)

    def compare() -> Check:
        few = torch.empty(1 << 13, device=DEVICE, dtype=torch.uint8)
        ops.dropout_mask(1 << 16, 0.5, seed=1, packed=True, out=few)
        same = np.array_equal(_back(few), ops.dropout_mask(1 << 16, 0.5, seed=1, packed=True))
        return Check(0.0 if same else math.inf, None, "beside the processor's")

    return Workload({"onepass": packed}, LARGE, LARGE / 8, check=compare)


def _row_norm(name: str, shape: Shape, dtype: str, backward: bool, **keywords: Any) -> Workload:
    import torch

    x, dy = _random(shape, dtype), _random(shape, dtype)
    w, b = (torch.rand(shape[1], device=DEVICE) + 0.5 for _ in range(2))
    if dtype != "float32":  # as PyTorch wants them
        w, b = w.to(x.dtype), b.to(x.dtype)
    vectors = (w, None if name == "rms_norm" else b)
    if backward:
        return _both(name, (dy, x, *vectors, None), keywords)
    return _single(name, (x, *vectors, None), keywords, x.numel())


def _softmax(name: str, shape: Shape, dtype: str) -> Workload:
    return _single(name, (_random(shape, dtype),), {}, math.prod(shape))


def _cross_entropy(rows: int, classes: int, dtype: str) -> Workload:
    import torch

    logits = _random((rows, classes), dtype)
    labels = torch.randint(classes, (rows,), device=DEVICE)
    return _single("cross_entropy", (logits, labels, None), {}, logits.numel())


def _windows(name: str, dtype: str) -> Workload:
    x, dy = _random((256, 56, 56, 128), dtype), _random((256, 56, 56, 128), dtype)
    keywords = {"kernel_size": 3, "stride": 1, "padding": 1, "channels_last": True}
    kernel = [_random((128, 1, 3, 3), dtype)] if name.startswith("depthwise") else []
    inputs = [dy, *kernel, x] if name.endswith("backward") else [x, *kernel]
    if "weight" in name:
        inputs = [dy, x]
    return _single(name, tuple(inputs), keywords, x.numel())


# --------------------------------------------------------------------------------------------- rows


def _row(name: str, group: str, make: Callable[..., Workload], *given: Any, **more: Any) -> Row:
    """A row whose dtype is among the arguments of `make`."""

    dtypes = [value for value in given if value in DTYPES]
    dtype = more.get("dtype", dtypes[0] if dtypes else "float32")

    def made(context: Context) -> Workload:
        return dataclasses.replace(make(*given, **more), dtype=dtype)

    return Row(name, group, functools.wraps(make)(made))


def _optimizer_rows() -> Iterator[Row]:
    for name, shapes in (
        ("1 tensor of 1 G", [(LARGE,)]),
        ("1000 tensors of 68 M", MANY),
        ("120 tensors of 5 M", FEW),
    ):
        yield _row(f"adamw {name}", "optim", _step, "adamw", shapes)
        yield _row(f"clip+adamw+zero {name}", "optim", _step, "adamw", shapes, True)
    yield _row(
        "adamw 1 tensor of 1 G bfloat16", "optim", _step, "adamw", [(LARGE,)], dtype="bfloat16"
    )
    for name, shapes in (("120 tensors of 5 M", FEW), ("120 tensors of 0.5 M", TINY)):
        yield _row(f"adamw {name} graph", "optim", _step, "adamw", shapes, graph=True)
    for dtype in ("float32", "bfloat16"):
        yield _row(f"global_norm 1 G {dtype}", "optim", _norm, LARGE, dtype)
    for name in NOT_FUSED:
        yield _row(f"{name} 1 tensor of 1 G", "optim", _step, name, [(LARGE,)], form="foreach")
    # Bytes: 12 for the parameter and gradient, twice two states; an average is read and written.
    options: list[tuple[float, str, dict[str, Any]]] = [
        (20.0, "bfloat16 states", {"state_dtype": "bfloat16"}),
        (16.0 + 4 / 64, "int8 states", {"state_dtype": "int8"}),
        (36.0, "ema", {"ema_decay": 0.999}),
        (28.0, "cautious", {"cautious": True}),
    ]
    for each, label, given in options:
        yield _row(f"adamw 1 G {label}", "optim", _options, each, **given)


def _elementwise_rows() -> Iterator[Row]:
    for dtype in ("bfloat16", "float32"):
        yield _row(
            f"dropout 1 G {dtype}", "dropout", _elementwise, "dropout", LARGE, dtype, p=0.1, seed=1
        )
    for name in ("relu", "gelu", "silu", "tanh"):
        yield _row(f"{name} 1 G bfloat16", "activation", _elementwise, name, LARGE, "bfloat16")
    for name in ("gelu", "mish"):
        yield _row(f"{name} 256 M float32", "activation", _elementwise, name, LARGE // 4, "float32")


def _row_norm_rows() -> Iterator[Row]:
    layers: list[Shape] = [(8192, 1024), (65536, 1024), (16384, 8192), (262144, 64)]
    shapes = [("layer_norm", shape) for shape in layers]
    shapes += [("rms_norm", shape) for shape in layers[1:3]]
    shapes += [("group_norm", (64, 256, 56, 56)), ("group_norm", (256, 512, 7, 7))]
    for name, shape in shapes:
        more = {"num_groups": 32} if name == "group_norm" else {}
        for dtype in ("bfloat16", "float32"):
            for what, backward in (("fwd+bwd", True), ("fwd", False)):
                title = f"{name} {what} {named(shape)} {dtype}"
                yield _row(title, "norm", _row_norm, name, shape, dtype, backward, **more)


def _softmax_rows() -> Iterator[Row]:
    for shape in ((8192, 1024), (65536, 4096), (512, 65536)):
        for dtype in ("bfloat16", "float32"):
            for name in ("softmax", "log_softmax"):
                title = f"{name} {named(shape)} {dtype}"
                yield _row(title, "activation", _softmax, name, shape, dtype)


def _window_rows() -> Iterator[Row]:
    """Windows over images, channels last, as networks for images have them."""
    kinds = ["depthwise_conv2d", "max_pool2d", "avg_pool2d"]
    names = [f"{kind}{back}" for kind in kinds for back in ("", "_backward")]
    for name in [*names, "depthwise_conv2d_weight_backward"]:
        for dtype in ("bfloat16", "float32"):
            yield _row(f"{name} 256x56x56x128 {dtype}", "conv", _windows, name, dtype)


def _loss_rows() -> Iterator[Row]:
    for dtype in ("bfloat16", "float32"):
        title = f"cross_entropy 8192x50257 {dtype}"
        yield _row(title, "loss", _cross_entropy, 8192, 50257, dtype)
    for name in ("mse_loss", "bce_with_logits"):
        yield _row(f"{name} 256 M float32", "loss", _loss, name, LARGE // 4, "float32")


def _norm_rows(shapes: Sequence[Shape]) -> Iterator[Row]:
    for shape in shapes:
        for dtype in ("bfloat16", "float32"):
            for order, last in (("NCHW", False), ("NHWC", True)):
                for what, backward in (("fwd+bwd", True), ("fwd", False)):
                    title = f"bn+relu {what} {named(shape)} {order} {dtype}"
                    yield _row(title, "norm", _batch_norm, shape, dtype, last, backward)


def rows() -> Iterator[Row]:
    yield from _optimizer_rows()
    yield from _elementwise_rows()
    yield from _norm_rows(DECISIVE)
    yield from _loss_rows()
    yield from _row_norm_rows()
    yield from _softmax_rows()
    yield from _window_rows()
    yield _row("dropout_mask 1 G packed", "dropout", _mask)
    for dtype in ("bfloat16", "float32"):
        yield _row(
            f"bn+relu+dropout fwd 4096x1024 {dtype} graph", "norm", _batch_norm, (4096, 1024),
            dtype, False, False, graph=True, dropout_p=0.1, seed=1,
        )  # fmt: skip
    for shape in (DECISIVE[0], DECISIVE[-1]):
        yield _row(
            f"batch_renorm fwd {named(shape)} NHWC bfloat16", "norm", _renorm, shape, "bfloat16"
        )
    yield from _norm_rows(RESNET50[len(DECISIVE) :])
