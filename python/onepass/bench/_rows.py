"""All rows of the CPU: each kernel of the records at its shapes, a forward with its gradient, lists
of tensors, layers, networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onepass.bench import _end_to_end, _front, _networks, _steps, _steps_alone
from onepass.bench._kernels import both, kernel
from onepass.bench._records import cases
from onepass.bench._row import Context, Make, Row, named

Shape = tuple[int, ...]

MATRICES: list[Shape] = [(256, 1024), (4096, 512)]
LAYERS: list[Shape] = [(8192, 1024), (512, 4096)]  # of the norms over rows
MAPS: list[Shape] = [(64, 256, 14, 14), (8, 512, 7, 7)]
IMAGES: Shape = (32, 64, 56, 56)


def rows(context: Context) -> Iterator[Row]:
    """Those that have the shape and dtype that the user asks for."""
    for case in cases.CASES:
        for i, shape in enumerate([context.shape] if context.shape else case.bench_shapes):
            if not context.shape or fits(case, shape):
                quick = i == 0 and _shown(case)
                yield Row(f"{case.name} {named(shape)}", case.group, kernel(case, shape), quick)
    if context.shape is None and context.dtype == "float32":
        yield from _steps.rows()
        yield from _steps_alone.rows()
        yield from _both_rows()
        yield from _networks.rows()
        yield from _end_to_end.rows()
        yield from _front.rows()


def fits(case: Any, shape: Shape) -> bool:
    """Whether a kernel takes arrays of as many dimensions."""
    least = min(map(len, case.bench_shapes))
    exactly = least > 1 and case.family in ("windows", "loss")
    return len(shape) == least if exactly else len(shape) >= least


def _shown(case: Any) -> bool:
    """Whether a quick run has the kernel: gradients look like forwards, and so do optimizers."""
    if case.family == "update":
        return case.name in ("adamw", "sgd_momentum", "lion", "rmsprop", "lamb", "adafactor")
    return not case.name.endswith("_backward") or case.family == "norm"


def _both_rows() -> Iterator[Row]:
    """Forward and gradient together."""
    for shape in ((256, 1024), (64, 128), IMAGES):
        yield Row(f"bn fwd+bwd {named(shape)}", "norm", _bn(shape, None, 0.0))
    for shape in ((64, 128), *MATRICES, IMAGES, *MAPS):
        quick = shape == (256, 1024)
        row = _bn(shape, "relu", 0.5)
        yield Row(f"bn+relu+dropout {named(shape)}", "norm", row, quick=quick)
    for name, shapes in (
        ("layer_norm", LAYERS), ("rms_norm", LAYERS), ("group_norm", MAPS), ("instance_norm", MAPS),
    ):  # fmt: skip
        for shape in shapes:
            yield Row(f"{name} fwd+bwd {named(shape)}", "norm", both(name, shape))
    yield Row("bias+gelu(tanh) fwd+bwd 256x1024", "activation", _bias_gelu("tanh"))
    yield Row("bias+gelu fwd+bwd 256x1024", "activation", _bias_gelu("none"))


def _bn(shape: Shape, activation: str | None, p: float) -> Make:
    options = {"training": True, "activation": activation, "dropout_p": p}
    return both("batch_norm", shape, options=options)


def _bias_gelu(approximate: str) -> Make:
    options = {"activation": ("gelu", {"approximate": approximate})}
    return both("bias_act", (256, 1024), options=options)
