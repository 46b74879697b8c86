"""Times onepass on a CUDA device against PyTorch, and against a copy of the fewest bytes.

    python bench/gpu.py [--group NAME] [--only REGEX] [--minutes N] [--json FILE]

Rows come in the order of what they decide. Kernels and rivals are those of the records in
tests/cases. With --json, rows that FILE has are not measured again, so a run that was stopped goes
on; group "all" also writes the file to bench/results/<gpu>-<date>.json. See bench/README.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

from gpu_timing import Device, Function, Row, interleaved, measure, show  # noqa: E402

DEVICE = "cuda"
LARGE = 1 << 30
DECISIVE = [(256, 64, 112, 112), (256, 256, 56, 56), (256, 128, 28, 28), (256, 512, 7, 7)]
RESNET50 = [
    *DECISIVE, (256, 64, 56, 56), (256, 512, 28, 28), (256, 256, 14, 14), (256, 1024, 14, 14),
    (256, 2048, 7, 7),
]  # fmt: skip
# Optimizers that PyTorch runs as lists of elementwise kernels.
NOT_FUSED = ["rmsprop", "adadelta", "adamax", "nadam", "radam", "lamb", "lion"]
MANY = [(64_000 + 8 * i,) for i in range(1000)]
FEW = [(384, 216 + i % 3) if i % 2 else (1024 + i,) for i in range(120)]
TINY = [(48, 170 + i % 3) if i % 2 else (256 + i,) for i in range(120)]


# ------------------------------------------------------------------------------------------- rows


def copy_row() -> Row:
    def make() -> tuple[dict[str, Function], float]:
        import torch

        source = torch.randn(1 << 28, device="cuda")
        target = torch.empty_like(source)
        return {"copy": lambda: target.copy_(source)}, 2.0 * source.numel() * 4

    return Row("copy 1 GiB", "copy", make)


def _random(shape: Any, dtype: str = "float32") -> Any:
    import torch

    return torch.randn(shape, device=DEVICE, dtype=getattr(torch, dtype))


def _step(
    name: str,
    shapes: list[tuple[int, ...]],
    clips: bool = False,
    dtype: str = "float32",
    graph: bool = False,
    form: str = "fused",
) -> tuple[dict[str, Function], float]:
    import workloads
    from cases import optimizers

    variant = optimizers.BY_NAME[name]
    params = [_random(shape, dtype) for shape in shapes]
    grads = [_random(shape, dtype).mul_(0.01) for shape in shapes]
    options = {"capturable": True} if graph else {}
    functions = workloads.optimizer_step(variant, params, grads, clips, (form,), options)
    each = workloads.step_bytes(variant, clips, params[0].element_size())
    return functions, sum(p.numel() for p in params) * each


def _options(each: float, **options: Any) -> tuple[dict[str, Function], float]:
    """AdamW of one tensor with options of ours, beside the step without them."""
    from onepass import optim

    def step(**options: Any) -> Function:
        p, g = _random(LARGE), _random(LARGE)
        own = optim.AdamW([p], lr=1e-5, **options)
        return lambda: own.step([g])

    return {"onepass": step(**options), "onepass plain": step()}, LARGE * each


def _single(
    name: str, inputs: tuple[Any, ...], keywords: dict[str, Any], elements: int
) -> tuple[dict[str, Function], float]:
    import workloads
    from cases import BY_NAME

    case, first = BY_NAME[name], inputs[0][0] if isinstance(inputs[0], list) else inputs[0]
    functions = workloads.single(case, inputs, keywords)
    return functions, elements * case.bytes(first.element_size())


def _elementwise(
    name: str, elements: int, dtype: str, **keywords: Any
) -> tuple[dict[str, Function], float]:
    return _single(name, (_random(elements, dtype),), keywords, elements)


def _loss(name: str, elements: int, dtype: str) -> tuple[dict[str, Function], float]:
    inputs = (_random(elements, dtype), _random(elements, dtype).sigmoid_(), None)
    return _single(name, inputs, {}, elements)


def _norm(elements: int, dtype: str) -> tuple[dict[str, Function], float]:
    return _single("global_norm", ([_random(elements, dtype)],), {}, elements)


def _batch_norm(
    shape: tuple[int, ...], dtype: str, last: bool, backward: bool, **more: Any
) -> tuple[dict[str, Function], float]:
    import torch
    import workloads
    from cases import BY_NAME

    n, c, *image = shape
    shape = (n, *image, c) if last else shape
    x, dy = _random(shape, dtype), _random(shape, dtype)
    vectors = [torch.rand(c, device=DEVICE) + 0.5 for _ in range(4)]
    keywords = {"training": True, "activation": "relu", "channels_last": last, **more}
    if not backward:
        return _single("batch_norm", (x, *vectors, None), keywords, x.numel())
    functions = BY_NAME["batch_norm_backward"].both((dy, x, *vectors, None), keywords)
    return functions, x.numel() * workloads.both_bytes("batch_norm", x.element_size())


def _renorm(shape: tuple[int, ...]) -> tuple[dict[str, Function], float]:
    """Batch renormalisation beside our batch norm."""
    import torch

    from onepass import ops

    n, c, *image = shape
    x = _random((n, *image, c), "bfloat16")
    out = torch.empty_like(x)
    vectors = [torch.rand(c, device=DEVICE) + 0.5 for _ in range(4)]
    keywords = {"training": True, "activation": "relu", "channels_last": True, "out": out}
    functions = {
        "onepass": lambda: ops.batch_renorm(x, *vectors, rmax=3.0, dmax=5.0, **keywords),
        "onepass batch_norm": lambda: ops.batch_norm(x, *vectors, **keywords),
    }
    return functions, x.numel() * 2.0 * x.element_size()


def _mask() -> tuple[dict[str, Function], float]:
    import torch

    from onepass import ops

    out = torch.empty(LARGE // 8, device=DEVICE, dtype=torch.uint8)
    functions = {"onepass": lambda: ops.dropout_mask(LARGE, 0.5, seed=1, packed=True, out=out)}
    return functions, LARGE / 8


def _row_norm(
    name: str, shape: tuple[int, ...], dtype: str, backward: bool, **keywords: Any
) -> tuple[dict[str, Function], float]:
    import torch
    import workloads
    from cases import BY_NAME

    x, dy = _random(shape, dtype), _random(shape, dtype)
    w, b = (torch.rand(shape[1], device=DEVICE) + 0.5 for _ in range(2))
    if dtype != "float32":  # as PyTorch wants them
        w, b = w.to(x.dtype), b.to(x.dtype)
    if name == "rms_norm":
        b = None
    if not backward:
        return _single(name, (x, w, b, None), keywords, x.numel())
    functions = BY_NAME[f"{name}_backward"].both((dy, x, w, b, None), keywords)
    return functions, x.numel() * workloads.both_bytes(name, x.element_size())


def _cross_entropy(rows: int, classes: int, dtype: str) -> tuple[dict[str, Function], float]:
    import torch

    logits = _random((rows, classes), dtype)
    labels = torch.randint(classes, (rows,), device=DEVICE)
    return _single("cross_entropy", (logits, labels, None), {}, logits.numel())


def _optimizer_rows() -> Iterator[Row]:
    for name, shapes in (
        ("1 tensor of 1 G", [(LARGE,)]),
        ("1000 tensors of 68 M", MANY),
        ("120 tensors of 5 M", FEW),
    ):
        for clips in (False, True):
            label = "clip+adamw+zero" if clips else "adamw"
            make = lambda s=shapes, c=clips: _step("adamw", s, c)  # noqa: E731
            yield Row(f"{label} {name}", "optimizer", make)
    yield Row(
        "adamw 1 tensor of 1 G bfloat16",
        "optimizer",
        lambda: _step("adamw", [(LARGE,)], dtype="bfloat16"),
    )
    for name, shapes in (("120 tensors of 5 M", FEW), ("120 tensors of 0.5 M", TINY)):
        make = lambda s=shapes: _step("adamw", s, graph=True)  # noqa: E731
        yield Row(f"adamw {name} graph", "optimizer", make, graph=True)
    for dtype in ("float32", "bfloat16"):
        yield Row(f"global_norm 1 G {dtype}", "optimizer", lambda d=dtype: _norm(LARGE, d))
    for name in NOT_FUSED:
        make = lambda n=name: _step(n, [(LARGE,)], form="foreach")  # noqa: E731
        yield Row(f"{name} 1 tensor of 1 G", "optimizer", make)
    # Bytes: 12 for the parameter and gradient, twice two states; an average is read and written.
    for each, label, options in (
        (20.0, "bfloat16 states", {"state_dtype": "bfloat16"}),
        (16.0 + 4 / 64, "int8 states", {"state_dtype": "int8"}),
        (36.0, "ema", {"ema_decay": 0.999}),
        (28.0, "cautious", {"cautious": True}),
    ):
        make = lambda e=each, o=options: _options(e, **o)  # noqa: E731
        yield Row(f"adamw 1 G {label}", "optimizer", make)


def _elementwise_rows() -> Iterator[Row]:
    for dtype in ("bfloat16", "float32"):
        make = lambda d=dtype: _elementwise("dropout", LARGE, d, p=0.1, seed=1)  # noqa: E731
        yield Row(f"dropout 1 G {dtype}", "elementwise", make)
    for name in ("relu", "gelu", "silu", "tanh"):
        make = lambda n=name: _elementwise(n, LARGE, "bfloat16")  # noqa: E731
        yield Row(f"{name} 1 G bfloat16", "elementwise", make)
    for name in ("gelu", "mish"):
        make = lambda n=name: _elementwise(n, LARGE // 4, "float32")  # noqa: E731
        yield Row(f"{name} 256 M float32", "elementwise", make)


def _row_norm_rows() -> Iterator[Row]:
    shapes = [("layer_norm", s) for s in ((8192, 1024), (65536, 1024), (16384, 8192), (262144, 64))]
    shapes += [("rms_norm", (65536, 1024)), ("rms_norm", (16384, 8192))]
    shapes += [("group_norm", (64, 256, 56, 56)), ("group_norm", (256, 512, 7, 7))]
    for name, shape in shapes:
        more = {"num_groups": 32} if name == "group_norm" else {}
        for dtype in ("bfloat16", "float32"):
            for backward in (True, False):
                what = "fwd+bwd" if backward else "fwd"
                yield Row(
                    f"{name} {what} {'x'.join(map(str, shape))} {dtype}",
                    "rows",
                    lambda a=(name, shape, dtype, backward), m=more: _row_norm(*a, **m),
                )


def _row_rows() -> Iterator[Row]:
    """Kernels along rows."""
    for shape in ((8192, 1024), (65536, 4096), (512, 65536)):
        for dtype in ("bfloat16", "float32"):
            for name in ("softmax", "log_softmax"):
                make = lambda n=name, s=shape, d=dtype: _single(  # noqa: E731
                    n, (_random(s, d),), {}, s[0] * s[1]
                )
                yield Row(f"{name} {shape[0]}x{shape[1]} {dtype}", "rows", make)


def _window_rows() -> Iterator[Row]:
    """Windows over images, channels last, as networks for images have them."""
    keywords = {"kernel_size": 3, "stride": 1, "padding": 1, "channels_last": True}
    kinds = ["depthwise_conv2d", "max_pool2d", "avg_pool2d"]
    for name in [f"{kind}{back}" for kind in kinds for back in ("", "_backward")] + [
        "depthwise_conv2d_weight_backward"
    ]:
        for dtype in ("bfloat16", "float32"):
            make = lambda n=name, d=dtype: _windows(n, d, keywords)  # noqa: E731
            yield Row(f"{name} 256x56x56x128 {dtype}", "windows", make)


def _windows(name: str, dtype: str, keywords: dict[str, Any]) -> tuple[dict[str, Function], float]:
    x, dy = _random((256, 56, 56, 128), dtype), _random((256, 56, 56, 128), dtype)
    kernel = [_random((128, 1, 3, 3), dtype)] if name.startswith("depthwise") else []
    inputs = [dy, *kernel, x] if name.endswith("backward") else [x, *kernel]
    if "weight" in name:
        inputs = [dy, x]
    return _single(name, tuple(inputs), keywords, x.numel())


def _loss_rows() -> Iterator[Row]:
    for dtype in ("bfloat16", "float32"):
        make = lambda d=dtype: _cross_entropy(8192, 50257, d)  # noqa: E731
        yield Row(f"cross_entropy 8192x50257 {dtype}", "loss", make)
    for name in ("mse_loss", "bce_with_logits"):
        make = lambda n=name: _loss(n, LARGE // 4, "float32")  # noqa: E731
        yield Row(f"{name} 256 M float32", "loss", make)


def _norm_rows(shapes: list[tuple[int, ...]]) -> Iterator[Row]:
    for shape in shapes:
        for dtype in ("bfloat16", "float32"):
            for last in (False, True):
                for backward in (True, False):
                    what = "fwd+bwd" if backward else "fwd"
                    order = "NHWC" if last else "NCHW"
                    yield Row(
                        f"bn+relu {what} {'x'.join(map(str, shape))} {order} {dtype}",
                        "norm",
                        lambda a=(shape, dtype, last, backward): _batch_norm(*a),
                    )


def rows() -> Iterator[Row]:
    yield from _optimizer_rows()
    yield from _elementwise_rows()
    yield from _norm_rows(DECISIVE)
    yield from _loss_rows()
    yield from _row_norm_rows()
    yield from _row_rows()
    yield from _window_rows()
    yield Row("dropout_mask 1 G packed", "elementwise", _mask)
    for dtype in ("bfloat16", "float32"):
        make = lambda d=dtype: _batch_norm(  # noqa: E731
            (4096, 1024), d, False, False, dropout_p=0.1, seed=1
        )
        yield Row(f"bn+relu+dropout fwd 4096x1024 {dtype} graph", "norm", make, graph=True)
    for shape in ((256, 64, 112, 112), (256, 512, 7, 7)):
        make = lambda s=shape: _renorm(s)  # noqa: E731
        yield Row(f"batch_renorm fwd {'x'.join(map(str, shape))} NHWC bfloat16", "norm", make)
    yield from _norm_rows(RESNET50[len(DECISIVE) :])


# ------------------------------------------------------------------------------------------- file


def machine() -> dict[str, str]:
    import torch

    import onepass

    return {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "onepass": onepass.__version__,
        "date": datetime.date.today().isoformat(),
    }


def result_path(about: Mapping[str, str]) -> Path:
    gpu = re.sub(r"[^a-z0-9]+", "-", about["gpu"].lower()).strip("-")
    return Path(__file__).parent / "results" / f"{gpu}-{about['date']}.json"


def run(
    device: Any,
    todo: list[Row],
    known: dict[str, Any],
    save: Callable[[dict[str, Any]], None],
    deadline: float = float("inf"),
) -> dict[str, Any]:
    """Measures what `known` lacks, and saves after every row. Starts none after `deadline`."""
    if "copy_bytes_per_second" not in known:
        functions, total = copy_row().make()
        known["copy_bytes_per_second"] = total / interleaved(device, functions)["copy"].device
        device.release()
    results = known.setdefault("results", [])
    done = {result["name"] for result in results}
    for row in todo:
        if row.name in done:
            continue
        if device.now() > deadline:
            print(f"out of time before {row.name}")
            break
        results.append(measure(device, row, known["copy_bytes_per_second"]))
        print(show(results[-1]), flush=True)
        save(known)
    return known


def write(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    groups = ["optimizer", "elementwise", "norm", "loss", "rows", "windows"]
    parser.add_argument("--group", choices=[*groups, "all"], default="all")
    parser.add_argument("--only", metavar="REGEX", default="", help="rows whose name matches")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no row after so long")
    parser.add_argument("--json", metavar="FILE", type=Path)
    options = parser.parse_args()
    deadline = time.perf_counter() + 60 * options.minutes
    known = {"machine": machine()}
    if options.json and options.json.exists():
        known = json.loads(options.json.read_text())
    todo = [row for row in rows() if options.group in ("all", row.group)]
    todo = [row for row in todo if re.search(options.only, row.name)]

    def save(content: dict[str, Any]) -> None:
        if options.json:
            write(options.json, content)

    known = run(Device(), todo, known, save, deadline)
    print(f"copy: {known['copy_bytes_per_second'] / 1e12:.3f} TB/s")
    if options.group == "all" and not options.only:
        path = result_path(known["machine"])
        write(path, known)
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
