"""Times onepass on a CUDA device against PyTorch, and against a copy of the fewest bytes.

    python bench/gpu.py [--group optimizer|dropout|norm|loss|all] [--json FILE]

Kernels and rivals are those of the records in tests/cases. With --json rows that FILE has are not
measured again, so a run that was stopped goes on; group "all" also writes the file to
bench/results/<gpu>-<date>.json. See bench/README.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

DEVICE = "cuda"
ROUNDS = 40
WARM_UP = 5
MOST_SECONDS = 20.0
FLUSH_BYTES = 1 << 28  # more than any second-level cache
RESNET50 = [
    (256, 64, 112, 112), (256, 64, 56, 56), (256, 256, 56, 56), (256, 128, 28, 28),
    (256, 512, 28, 28), (256, 256, 14, 14), (256, 1024, 14, 14), (256, 512, 7, 7),
    (256, 2048, 7, 7),
]  # fmt: skip
MANY = [(64_000 + 8 * i,) for i in range(1000)]
SMALL = [(384, 216 + i % 3) if i % 2 else (1024 + i,) for i in range(120)]

Function = Callable[[], object]


class Row(NamedTuple):
    name: str
    group: str
    make: Callable[[], tuple[dict[str, Function], float]]  # functions by name, fewest bytes


class Device:
    """What timing needs of CUDA: tests put a clock of their own in its place."""

    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.scratch = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")

    def event(self) -> Any:
        event = self.torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def flush(self) -> None:
        """Empties the cache, and keeps the device busy while the host gets ahead of it."""
        self.scratch.zero_()

    def seconds(self, start: Any, end: Any) -> float:
        return float(start.elapsed_time(end)) * 1e-3

    def synchronize(self) -> None:
        self.torch.cuda.synchronize()

    def is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, (self.torch.OutOfMemoryError, MemoryError))

    def release(self) -> None:
        self.torch.cuda.empty_cache()


def interleaved(
    device: Any, functions: Mapping[str, Function], rounds: int = ROUNDS
) -> dict[str, float]:
    """Median seconds of one call of each function: they take turns, each with a cold cache."""
    for function in functions.values():
        for _ in range(WARM_UP):
            function()
    device.synchronize()
    samples: dict[str, list[float]] = {name: [] for name in functions}
    spent = 0.0
    for turn in range(rounds):
        timed = []
        for name, function in functions.items():
            device.flush()
            start = device.event()
            function()
            timed.append((name, start, device.event()))
        device.synchronize()
        for name, start, end in timed:
            samples[name].append(device.seconds(start, end))
            spent += samples[name][-1]
        if turn >= 4 and spent > MOST_SECONDS:
            break
    return {name: statistics.median(values) for name, values in samples.items()}


def measure(device: Any, row: Row, bytes_per_second: float) -> dict[str, Any]:
    """A row of the file: microseconds of each function, and our share of a copy's speed."""
    try:
        functions, fewest = row.make()
        seconds = interleaved(device, functions)
    except Exception as error:
        if not device.is_out_of_memory(error):
            raise
        return {"name": row.name, "group": row.group, "skipped": "not enough memory"}
    finally:
        device.release()
    ours = seconds["onepass"]
    rivals = {name: s for name, s in seconds.items() if name != "onepass"}
    return {
        "name": row.name,
        "group": row.group,
        "us": {name: round(s * 1e6, 2) for name, s in seconds.items()},
        "bytes": fewest,
        "floor_us": round(fewest / bytes_per_second * 1e6, 2),
        "share_of_copy": round(fewest / bytes_per_second / ours, 3),
        "ratio": round(min(rivals.values()) / ours, 2) if rivals else None,
    }


def show(result: dict[str, Any]) -> str:
    if "skipped" in result:
        return f"{result['name']:<44} skipped: {result['skipped']}"
    us = result["us"]
    others = "  ".join(f"{name} {t:,.1f} us" for name, t in us.items() if name != "onepass")
    share = f"{100 * result['share_of_copy']:.0f}% of copy"
    return f"{result['name']:<44} {us['onepass']:>11,.1f} us  {share:>13}  {others}"


# ------------------------------------------------------------------------------------------- rows


def copy_row() -> Row:
    def make() -> tuple[dict[str, Function], float]:
        import torch

        source = torch.randn(1 << 28, device="cuda")
        target = torch.empty_like(source)
        return {"copy": lambda: target.copy_(source)}, 2.0 * source.numel() * 4

    return Row("copy 1 GiB", "copy", make)


def _parameters(shapes: list[tuple[int, ...]]) -> tuple[list[Any], list[Any]]:
    import torch

    params = [torch.randn(s, device=DEVICE) for s in shapes]
    return params, [torch.randn_like(p) * 0.01 for p in params]


def _adamw(shapes: list[tuple[int, ...]], clips: bool) -> tuple[dict[str, Function], float]:
    import workloads
    from cases import optimizers

    variant = optimizers.BY_NAME["adamw"]
    params, grads = _parameters(shapes)
    functions = workloads.optimizer_step(variant, params, grads, clips, ("fused",))
    return functions, sum(p.numel() for p in params) * workloads.step_bytes(variant, clips)


def _single(
    name: str, inputs: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[dict[str, Function], float]:
    import workloads
    from cases import BY_NAME

    case, first = BY_NAME[name], inputs[0]
    functions = workloads.single(case, inputs, keywords)
    return functions, first.numel() * case.bytes(first.element_size())


def _dropout(elements: int, dtype: str) -> tuple[dict[str, Function], float]:
    import torch

    x = torch.randn(elements, device=DEVICE, dtype=getattr(torch, dtype))
    return _single("dropout", (x,), {"p": 0.1, "seed": 1})


def _batch_norm(
    shape: tuple[int, ...], dtype: str, last: bool, backward: bool
) -> tuple[dict[str, Function], float]:
    import torch
    import workloads
    from cases import BY_NAME

    n, c, *image = shape
    shape = (n, *image, c) if last else shape
    x, dy = (torch.randn(shape, device=DEVICE, dtype=getattr(torch, dtype)) for _ in range(2))
    vectors = [torch.rand(c, device=DEVICE) + 0.5 for _ in range(4)]
    keywords = {"training": True, "activation": "relu", "channels_last": last}
    if not backward:
        return _single("batch_norm", (x, *vectors, None), keywords)
    functions = BY_NAME["batch_norm_backward"].both((dy, x, *vectors, None), keywords)
    return functions, x.numel() * workloads.both_bytes("batch_norm", x.element_size())


def _cross_entropy(rows: int, classes: int, dtype: str) -> tuple[dict[str, Function], float]:
    import torch

    logits = torch.randn(rows, classes, device=DEVICE, dtype=getattr(torch, dtype))
    labels = torch.randint(classes, (rows,), device=DEVICE)
    return _single("cross_entropy", (logits, labels, None), {})


def rows() -> Iterator[Row]:
    for name, shapes in (
        ("1 tensor of 1 G", [(1 << 30,)]),
        ("1 tensor of 256 M", [(1 << 28,)]),
        ("1000 tensors of 68 M", MANY),
        ("120 tensors of 5 M", SMALL),
    ):
        for clips in (False, True):
            label = "clip+adamw+zero" if clips else "adamw"
            make = lambda s=shapes, c=clips: _adamw(s, c)  # noqa: E731
            yield Row(f"{label} {name}", "optimizer", make)
    for dtype in ("float32", "bfloat16"):
        yield Row(f"dropout 1 G {dtype}", "dropout", lambda d=dtype: _dropout(1 << 30, d))
    for shape in RESNET50:
        for dtype in ("float32", "bfloat16"):
            for last in (False, True):
                for backward in (False, True):
                    what = "fwd+bwd" if backward else "fwd"
                    order = "channels last" if last else "NCHW"
                    yield Row(
                        f"bn+relu {what} {'x'.join(map(str, shape))} {order} {dtype}",
                        "norm",
                        lambda a=(shape, dtype, last, backward): _batch_norm(*a),
                    )
    for dtype in ("float32", "bfloat16"):
        make = lambda d=dtype: _cross_entropy(8192, 50257, d)  # noqa: E731
        yield Row(f"cross_entropy 8192x50257 {dtype}", "loss", make)


# ------------------------------------------------------------------------------------------- file


def machine() -> dict[str, str]:
    import onepass
    import torch

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
) -> dict[str, Any]:
    """Measures what `known` lacks, and saves after every row."""
    if "copy_bytes_per_second" not in known:
        functions, total = copy_row().make()
        known["copy_bytes_per_second"] = total / interleaved(device, functions)["copy"]
        device.release()
    results = known.setdefault("results", [])
    done = {result["name"] for result in results}
    for row in todo:
        if row.name in done:
            continue
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
    groups = ["optimizer", "dropout", "norm", "loss"]
    parser.add_argument("--group", choices=[*groups, "all"], default="all")
    parser.add_argument("--json", metavar="FILE", type=Path)
    options = parser.parse_args()
    known = {"machine": machine()}
    if options.json and options.json.exists():
        known = json.loads(options.json.read_text())
    todo = [row for row in rows() if options.group in ("all", row.group)]

    def save(content: dict[str, Any]) -> None:
        if options.json:
            write(options.json, content)

    known = run(Device(), todo, known, save)
    print(f"copy: {known['copy_bytes_per_second'] / 1e12:.3f} TB/s")
    if options.group == "all":
        path = result_path(known["machine"])
        write(path, known)
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
