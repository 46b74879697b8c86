"""Times onepass against its rivals and against a plain copy of the fewest bytes.

    python bench/run.py [--quick] [--only PATTERN] [--against LIST] [--threads 1,2] [--json FILE]

Rows are those of tests/cases plus the workloads of bench/workloads.py. See bench/README.md.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

# malloc maps large outputs anew at every call, which times the page faults of the rival and not the
# rival: so PyTorch's results get the memory of the previous call back, as in a tuned program. All
# in huge pages: NumPy asks for them, PyTorch does not; which arrays had them was chance.
TUNED_MALLOC = (
    "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184:"
    "glibc.malloc.top_pad=268435456:glibc.malloc.hugetlb=1"
)


def rows(only: re.Pattern[str], quick: bool, compiled: bool) -> Iterator[tuple[str, Any]]:
    """(name, maker) pairs; maker() gives (functions, elements, bytes)."""
    import cases
    import front
    import workloads
    from cases._case import has_torch

    def of_case(case: Any, shape: tuple[int, ...]) -> Any:
        def make() -> tuple[dict[str, Any], int, float]:
            options = case.bench_options or case.options[0]
            inputs = case.inputs(shape, "float32", options)
            keywords = cases.keywords_of(options)
            functions = workloads.single(case, inputs, keywords)
            if compiled and case.name in cases.activations.BY_NAME:
                functions["torch compiled"] = compiled_by_torch(case, inputs, keywords)
            elements = math.prod(shape)
            return functions, elements, elements * case.bytes(4)

        return make

    for case in cases.CASES:
        shapes = list(case.bench_shapes)[: 1 if quick else None]
        for shape in shapes:
            name = f"{case.name} {'x'.join(map(str, shape))}"
            if only.search(name):
                yield name, of_case(case, shape)
    for name, make in workloads.WORKLOADS.items():
        if only.search(name) and not (quick and name.endswith(("16M", "25M"))):
            yield name, make
    for name, build in front.ROWS.items() if has_torch() else ():
        if only.search(name) and not (quick and re.search("1M|8192|2048|28x28", name)):
            yield name, functools.partial(build, compiled)


def compiled_by_torch(case: Any, inputs: tuple, keywords: dict[str, Any]) -> Any:
    import torch
    from cases._case import tensor_of, without_grad

    function = torch.compile(functools.partial(case.torch, **keywords))
    return without_grad(function, *map(tensor_of, inputs))


def copier(count: float, threads: int) -> Any:
    """A copy that reads and writes `count` bytes in all, on the pool's threads."""
    import numpy as np

    from onepass import ops

    source = np.ones(max(1, int(count) // 8), np.float32)
    target = np.empty_like(source)
    return lambda: ops.identity(source, out=target)


def measure(
    name: str, make: Any, threads: int, against: set[str] | None, clock: Any = time.perf_counter
) -> dict[str, Any]:
    """One row at one number of threads."""
    from cases._case import has_torch, torch
    from timing import interleaved

    from onepass import config

    config.set_num_threads(threads)
    if has_torch():
        torch.set_num_threads(threads)
    functions, elements, count = make()
    if against is not None:
        functions = {
            label: f for label, f in functions.items() if label.split()[0] in {"onepass", *against}
        }
    if threads != os.cpu_count():
        functions.pop("optax jit", None)  # JAX takes all processors
    functions["copy"] = copier(count, threads)
    seconds = interleaved(functions, clock=clock)
    own = ("onepass", "onepass tensors", "copy")
    rivals = {k: v for k, v in seconds.items() if k not in own}
    best = min(rivals, key=lambda label: rivals[label]) if rivals else None
    return {
        "row": name,
        "threads": threads,
        "elements": elements,
        "bytes": count,
        "seconds": seconds,
        "best_rival": best,
        "ratio": rivals[best] / seconds["onepass"] if best else None,
        "copy_share": seconds["copy"] / seconds["onepass"],
    }


def show(result: dict[str, Any]) -> str:
    ours = result["seconds"]["onepass"]
    rival = result["best_rival"]
    other = f"{rival:14s} {result['seconds'][rival] * 1e6:11.1f} us" if rival else " " * 29
    ratio = f"{result['ratio']:6.2f}x" if rival else " " * 7
    return (
        f"{result['row']:34s} {result['threads']:2d}  {ours * 1e6:11.1f} us  {other}  {ratio}"
        f"  {100 * result['copy_share']:4.0f}% of copy"
    )


def machine() -> dict[str, Any]:
    import numpy as np

    import onepass
    from onepass import config

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
        cpu = found.group(1) if found else cpu
    torch = sys.modules.get("torch")
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "level": config.cpu_level(),
        "load": os.getloadavg()[0],
        "onepass": onepass.__version__,
        "numpy": np.__version__,
        "torch": torch.__version__ if torch else None,
    }


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"bench: {message}\n")


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from None


def _threads(text: str) -> list[int]:
    numbers = [int(n) if n.isdigit() else 0 for n in text.split(",")]
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected numbers of threads, e.g. 1,2")
    return numbers


def _rivals(text: str) -> set[str]:
    names = set(text.split(","))
    if not names <= {"torch", "numpy", "sklearn", "optax", "thinc"}:
        raise argparse.ArgumentTypeError(
            f"{text!r}; expected some of torch,numpy,sklearn,optax,thinc"
        )
    return names


def main() -> int:
    parser = _Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest shape of each row")
    parser.add_argument(
        "--only", type=_pattern, default="", metavar="PATTERN", help="rows that match"
    )
    parser.add_argument(
        "--against",
        type=_rivals,
        metavar="LIST",
        help="rivals, some of torch,numpy,sklearn,optax,thinc",
    )
    parser.add_argument("--threads", type=_threads, default="1,2", metavar="LIST")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--compile", action="store_true", help="torch.compile too (slow to start)")
    parser.add_argument("--plain-malloc", action="store_true", help="leave malloc as it is")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="of the calling thread, for a busy machine; with --threads 1 only",
    )
    options = parser.parse_args()
    if options.processor_time and options.threads != [1]:
        parser.error("--processor-time is that of one thread; pass --threads 1")
    if not options.plain_malloc and os.environ.get("GLIBC_TUNABLES") != TUNED_MALLOC:
        os.environ["GLIBC_TUNABLES"] = TUNED_MALLOC
        os.execv(sys.executable, [sys.executable, *sys.argv])
    results = []
    for name, make in rows(options.only, options.quick, options.compile):
        for threads in options.threads:
            clock = time.thread_time if options.processor_time else time.perf_counter
            results.append(measure(name, make, threads, options.against, clock))
            print(show(results[-1]), flush=True)
    if not results:
        pattern = options.only.pattern
        parser.error(f"--only {pattern!r} matches no row; expected a part of a row's name")
    if options.json:
        about = {"clock": "processor time"} if options.processor_time else {}
        Path(options.json).write_text(
            json.dumps({"machine": machine() | about, "results": results}, indent=1) + "\n"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
