"""How a comparison on a CUDA device is timed: one call between two events, with a cold cache, all
candidates in turn, medians.

Before each call the cache is emptied, and the device is kept busy until the host is well ahead, so
that the events enclose the work of the device alone. The host's own microseconds are a column of
their own. A workload with `graph` replays captured calls, back to back, so its caches are warm.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from onepass._streams import Function
from onepass.bench._timing import Samples, naming

ROUNDS = 30
WARM_UP = 4
MOST_SECONDS = 6.0
REPLAYS = 20  # calls in one captured graph
FLUSH_BYTES = 1 << 28  # more than any second-level cache


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

    def copy(self) -> tuple[Function, float]:
        """A copy of 1 GiB, and the bytes that it reads and writes."""
        source = self.torch.randn(1 << 28, device="cuda")
        target = self.torch.empty_like(source)
        return lambda: target.copy_(source), 2.0 * source.numel() * 4

    def about(self) -> dict[str, Any]:
        """For the head of a file of results."""
        return {
            "gpu": self.torch.cuda.get_device_name(),
            "torch": self.torch.__version__,
            "cuda": str(self.torch.version.cuda),
        }


def interleaved(
    device: Any,
    functions: Mapping[str, Function],
    rounds: int = ROUNDS,
    most_seconds: float = MOST_SECONDS,
    waiting: Collection[str] = (),
) -> tuple[Samples, Samples]:
    """Seconds of one call of each function on the device, and until it returned on the host: they
    take turns.

    Args:
        device: where they run.
        functions: what to compare, by name.
        rounds: samples of each; fewer where one round takes long, but never fewer than 5 of more.
        most_seconds: no round begins after so much time on the device, once there are 5.
        waiting: those that work on streams of their own and wait for them, where the host's clock
            is all that sees their work.

    Raises:
        FunctionError: one of the functions raised an error, or what it launched did: the device
            says so at the next wait for it, which therefore belongs to the function.
    """
    slowest = 0.0
    for name, function in functions.items():
        with naming(name):
            for _ in range(WARM_UP):
                device.synchronize()
                start = device.now()
                function()
                last = device.now() - start
            device.synchronize()
        slowest = max(slowest, last)
    busy = 2 * slowest + 1e-3
    samples: Samples = {name: [] for name in functions}
    host: Samples = {name: [] for name in functions}
    spent = 0.0
    for turn in range(rounds):
        for name, function in functions.items():
            waits = name in waiting
            device.flush(0.0 if waits else busy)
            if waits:
                device.synchronize()
            start = device.event()
            with naming(name):
                began = device.now()
                function()
                host[name].append(device.now() - began)
                end = device.event()
                device.synchronize()
            samples[name].append(host[name][-1] if waits else device.seconds(start, end))
            spent += samples[name][-1] + busy
        if turn >= 4 and spent > most_seconds:
            break
    return samples, host
