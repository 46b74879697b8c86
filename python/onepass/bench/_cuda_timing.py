"""How a comparison on a CUDA device is timed: one call between two events, with a cold cache, all
candidates in turn, medians.

Before each call the cache is emptied, and the device is kept busy until the host is well ahead, so
that the events enclose the work of the device alone. The host's own microseconds are a column of
their own. A row with `graph` replays captured calls, back to back, so its caches are warm.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

ROUNDS = 30
WARM_UP = 4
MOST_SECONDS = 6.0
REPLAYS = 20  # calls in one captured graph
FLUSH_BYTES = 1 << 28  # more than any second-level cache

Function = Callable[[], object]


class Row(NamedTuple):
    name: str
    group: str
    make: Callable[[], tuple[dict[str, Function], float]]  # functions by name, fewest bytes
    graph: bool = False


class Times(NamedTuple):
    device: float  # median seconds between the events of one call
    host: float  # median seconds until the call returned


class Device:
    """What timing needs of CUDA: tests put a clock of their own in its place."""

    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.scratch = torch.ones(FLUSH_BYTES // 4, device="cuda")
        self.cycles = 2e9  # a second, or somewhat more

    def now(self) -> float:
        return time.perf_counter()

    def event(self) -> Any:
        event = self.torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def flush(self, busy: float) -> None:
        """Empties the cache, and keeps the device busy for `busy` seconds: the host gets ahead.

        The scratch memory is read after it was written. Lines that were only written would be
        written back to memory during the timed call.
        """
        self.scratch.add_(1.0)
        self.scratch.sum()
        self.torch.cuda._sleep(int(busy * self.cycles))

    def seconds(self, start: Any, end: Any) -> float:
        return float(start.elapsed_time(end)) * 1e-3

    def synchronize(self) -> None:
        self.torch.cuda.synchronize()

    def captured(self, function: Function) -> Function:
        """REPLAYS calls as one graph."""
        graph = self.torch.cuda.CUDAGraph()
        self.synchronize()
        with self.torch.cuda.graph(graph):
            for _ in range(REPLAYS):
                function()
        return graph.replay

    def is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, (self.torch.OutOfMemoryError, MemoryError))

    def release(self) -> None:
        self.torch.cuda.empty_cache()


def interleaved(
    device: Any, functions: Mapping[str, Function], rounds: int = ROUNDS
) -> dict[str, Times]:
    """The time of one call of each function: they take turns."""
    slowest = 0.0
    for function in functions.values():
        for _ in range(WARM_UP):
            device.synchronize()
            start = device.now()
            function()
            last = device.now() - start
        slowest = max(slowest, last)
    device.synchronize()
    busy = 2 * slowest + 1e-3
    samples: dict[str, list[float]] = {name: [] for name in functions}
    host: dict[str, list[float]] = {name: [] for name in functions}
    spent = 0.0
    for turn in range(rounds):
        for name, function in functions.items():
            device.flush(busy)
            start = device.event()
            began = device.now()
            function()
            host[name].append(device.now() - began)
            end = device.event()
            device.synchronize()
            samples[name].append(device.seconds(start, end))
            spent += samples[name][-1] + busy
        if turn >= 4 and spent > MOST_SECONDS:
            break
    return {n: Times(statistics.median(samples[n]), statistics.median(host[n])) for n in samples}


def measure(device: Any, row: Row, bytes_per_second: float) -> dict[str, Any]:
    """A row of the file: microseconds of each function, and our share of a copy's speed."""
    about = {"name": row.name, "group": row.group}
    try:
        functions, fewest = row.make()
        if row.graph:
            for function in functions.values():
                for _ in range(WARM_UP):
                    function()
            graphs = {name: device.captured(f) for name, f in functions.items()}
            times = {
                name: Times(t.device / REPLAYS, t.host / REPLAYS)
                for name, t in interleaved(device, graphs).items()
            }
        else:
            times = interleaved(device, functions)
    except Exception as error:
        if not device.is_out_of_memory(error):
            raise
        return about | {"skipped": "not enough memory"}
    finally:
        functions = graphs = {}  # and with them the memory of their arrays
        device.release()
    ours = times["onepass"].device
    rivals = {name: t.device for name, t in times.items() if name != "onepass"}
    return about | {
        "us": {name: round(t.device * 1e6, 2) for name, t in times.items()},
        "host_us": {name: round(t.host * 1e6, 2) for name, t in times.items()},
        "bytes": fewest,
        "floor_us": round(fewest / bytes_per_second * 1e6, 2),
        "share_of_copy": round(fewest / bytes_per_second / ours, 3),
        "ratio": round(min(rivals.values()) / ours, 2) if rivals else None,
    }


def show(result: dict[str, Any]) -> str:
    if "skipped" in result:
        return f"{result['name']:<48} skipped: {result['skipped']}"
    us = result["us"]
    others = "  ".join(f"{name} {t:,.1f}" for name, t in us.items() if name != "onepass")
    share = f"{100 * result['share_of_copy']:.0f}% of copy"
    host = f"host {result['host_us']['onepass']:,.0f}"
    return f"{result['name']:<48} {us['onepass']:>9,.1f} us {share:>12}  {host:>9}  {others}"
