"""Rows of ``--device cuda``, in the order of what they decide: kernels and optimizers of the
records in the sizes that GPUs are bought for, then every other kernel at its own size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from onepass.bench import _arrays as arrays
from onepass.bench._kernels import both, kernel
from onepass.bench._records import cases
from onepass.bench._row import Check, Context, Make, Row, Workload, named
from onepass.bench._steps import ADAMW, adamw_bytes, step
from onepass.bench._steps_alone import with_options

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
FUSED = ("fused",)
SIXTEEN_AND_32 = ("bfloat16", "float32")


def rows() -> Iterator[Row]:
    """All of them; each has a shape and a dtype of its own."""
    decided: set[str] = set()
    for row in _decisive():
        decided.add(row.name.split()[0])
        yield row
    for case in cases.CASES:
        if case.name not in decided and case.family != "mask":
            shape = case.bench_shapes[-1]
            yield Row(f"{case.name} {named(shape)}", case.group, kernel(case, shape))


def _decisive() -> Iterator[Row]:
    yield from _optimizer_rows()
    yield from _elementwise_rows()
    yield from _norm_rows(DECISIVE)
    yield from _loss_rows()
    for dtype in SIXTEEN_AND_32:
        options = {"training": True, "activation": "relu", "dropout_p": 0.1, "seed": 1}
        name = f"bn+relu+dropout fwd 4096x1024 {dtype} graph"
        yield _row(name, "batch_norm", (4096, 1024), dtype, options, graph=True)
    yield from _added_rows()
    yield from _row_norm_rows()
    yield from _softmax_rows()
    yield from _window_rows()
    yield Row("dropout_mask 1 G packed", "dropout", _mask)
    for shape in (DECISIVE[0], DECISIVE[-1]):
        yield Row(f"batch_renorm fwd {named(shape)} NHWC bfloat16", "norm", _renorm(shape))
    yield from _norm_rows(RESNET50[len(DECISIVE) :])


def _row(
    title: str,
    name: str,
    shape: Shape,
    dtype: str,
    options: dict[str, Any] | None = None,
    backward: bool = False,
    graph: bool = False,
) -> Row:
    """A kernel; `backward`: with its gradient."""
    case = cases.BY_NAME[name]
    make = (
        both(name, shape, dtype, options, graph)
        if backward
        else kernel(case, shape, dtype, options, graph)
    )
    return Row(title, case.group, make)


def _optimizer_rows() -> Iterator[Row]:
    one: list[Shape] = [(LARGE,)]
    for name, shapes in (
        ("1 tensor of 1 G", one), ("1000 tensors of 68 M", MANY), ("120 tensors of 5 M", FEW),
    ):  # fmt: skip
        yield Row(f"adamw {name}", "optim", step(ADAMW, shapes, forms=FUSED))
        yield Row(f"clip+adamw+zero {name}", "optim", step(ADAMW, shapes, True, forms=FUSED))
    half = step(ADAMW, one, dtype="bfloat16", forms=FUSED)
    yield Row("adamw 1 tensor of 1 G bfloat16", "optim", half)
    for name, shapes in (("120 tensors of 5 M", FEW), ("120 tensors of 0.5 M", TINY)):
        yield Row(f"adamw {name} graph", "optim", step(ADAMW, shapes, forms=FUSED, graph=True))
    for dtype in ("float32", "bfloat16"):
        yield _row(f"global_norm 1 G {dtype}", "global_norm", (LARGE,), dtype)
    for name in NOT_FUSED:
        variant = cases.optimizers.BY_NAME[name]
        yield Row(f"{name} 1 tensor of 1 G", "optim", step(variant, one, forms=("foreach",)))
    plain = adamw_bytes("float32")
    average = {"ema_decay": 0.999}  # is read and written beside it: 8 bytes, as many as the clip
    clipped = with_options(LARGE, plain + 16, clip=True, **average)
    yield Row("clip+adamw+zero 1 G ema", "optim", clipped)
    options: list[tuple[float, str, dict[str, Any]]] = [
        (adamw_bytes("bfloat16"), "bfloat16 states", {"state_dtype": "bfloat16"}),
        (adamw_bytes("int8"), "int8 states", {"state_dtype": "int8"}),
        (plain + 8, "ema", average),
        (plain, "cautious", {"cautious": True}),
    ]
    for each, label, given in options:
        yield Row(f"adamw 1 G {label}", "optim", with_options(LARGE, each, **given))


def _elementwise_rows() -> Iterator[Row]:
    for dtype in SIXTEEN_AND_32:
        yield _row(f"dropout 1 G {dtype}", "dropout", (LARGE,), dtype, {"p": 0.1, "seed": 1})
    for name in ("relu", "gelu", "silu", "tanh"):
        yield _row(f"{name} 1 G bfloat16", name, (LARGE,), "bfloat16")
    for name in ("gelu", "mish"):
        yield _row(f"{name} 256 M float32", name, (LARGE // 4,), "float32")


def _row_norm_rows() -> Iterator[Row]:
    layers: list[Shape] = [(8192, 1024), (65536, 1024), (16384, 8192), (262144, 64)]
    shapes = [("layer_norm", shape) for shape in layers]
    shapes += [("rms_norm", shape) for shape in layers[1:3]]
    shapes += [("group_norm", (64, 256, 56, 56)), ("group_norm", (256, 512, 7, 7))]
    for name, shape in shapes:
        options = {"num_groups": 32} if name == "group_norm" else None
        for dtype in SIXTEEN_AND_32:
            for what, backward in (("fwd+bwd", True), ("fwd", False)):
                title = f"{name} {what} {named(shape)} {dtype}"
                yield _row(title, name, shape, dtype, options, backward)


def _softmax_rows() -> Iterator[Row]:
    for shape in ((8192, 1024), (65536, 4096), (512, 65536)):
        for dtype in SIXTEEN_AND_32:
            for name in ("softmax", "log_softmax"):
                yield _row(f"{name} {named(shape)} {dtype}", name, shape, dtype)


def _window_rows() -> Iterator[Row]:
    """Windows over images, channels last, as networks for images have them."""
    kinds = ["depthwise_conv2d", "max_pool2d", "avg_pool2d"]
    names = [f"{kind}{back}" for kind in kinds for back in ("", "_backward")]
    for name in [*names, "depthwise_conv2d_weight_backward"]:
        for dtype in SIXTEEN_AND_32:
            yield _row(f"{name} 256x56x56x128 {dtype}", name, (256, 128, 56, 56), dtype)


def _loss_rows() -> Iterator[Row]:
    for dtype in SIXTEEN_AND_32:
        title = f"cross_entropy 8192x50257 {dtype}"
        yield _row(title, "cross_entropy", (8192, 50257), dtype)
    for name in ("mse_loss", "bce_with_logits"):
        yield _row(f"{name} 256 M float32", name, (LARGE // 4,), "float32")


def _norm_rows(shapes: Sequence[Shape]) -> Iterator[Row]:
    for shape in shapes:
        for dtype in SIXTEEN_AND_32:
            for order, last in (("NCHW", False), ("NHWC", True)):
                options = {"training": True, "activation": "relu", "channels_last": last}
                for what, backward in (("fwd+bwd", True), ("fwd", False)):
                    title = f"bn+relu {what} {named(shape)} {order} {dtype}"
                    yield _row(title, "batch_norm", shape, dtype, options, backward)


def _added_rows() -> Iterator[Row]:
    """With a residual, as behind the last norm of a block."""
    for shape in DECISIVE:
        for dtype in SIXTEEN_AND_32:
            for order, last in (("NCHW", False), ("NHWC", True)):
                options = {
                    "training": True, "activation": "relu", "channels_last": last,
                    "with_residual": True,
                }  # fmt: skip
                title = f"bn+add+relu fwd+bwd {named(shape)} {order} {dtype}"
                yield _row(title, "batch_norm", shape, dtype, options, backward=True)


def _renorm(shape: Shape) -> Make:
    """Batch renormalisation beside our batch norm."""
    options = {"training": True, "activation": "relu", "channels_last": True}
    limits = {"rmax": 3.0, "dmax": 5.0}

    def make(context: Context) -> Workload:
        found, plain = (
            kernel(cases.BY_NAME[name], shape, "bfloat16", given)(context)
            for name, given in (("batch_renorm", options | limits), ("batch_norm", options))
        )
        functions = {
            "onepass": found.functions["onepass"],
            "onepass batch_norm": plain.functions["onepass"],
        }
        return dataclasses.replace(found, functions=functions)

    return make


def _mask(context: Context) -> Workload:
    import torch

    from onepass import ops

    def packed(count: int) -> Any:
        out = torch.empty(count // 8, device=arrays.DEVICE, dtype=torch.uint8)
        return lambda: ops.dropout_mask(count, 0.5, seed=1, packed=True, out=out)

    def compare() -> Check:
        got = arrays.back(packed(1 << 16)())
        same = np.array_equal(got, ops.dropout_mask(1 << 16, 0.5, seed=1, packed=True))
        return Check(0.0 if same else np.inf, None, "beside the processor's")

    return Workload({"onepass": packed(LARGE)}, LARGE, LARGE / 8, check=compare)
