"""``--device cuda``: the meter of a CUDA device, and the rows that it measures."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from statistics import median
from typing import Any

from onepass.bench import _cuda_rows, _cuda_timing, _run
from onepass.bench._peers import LIBRARIES, library_of
from onepass.bench._row import Context, Row, Workload
from onepass.bench._timing import Samples, naming


def unusable() -> str | None:
    """Why nothing can be measured, in a line; None where it can."""
    from onepass import config

    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed, whose tensors are measured"
    import torch

    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} sees no CUDA device"
    return None if config.cuda_available() else "onepass was built without CUDA, see onepass info"


def rows(context: Context) -> Iterator[Row]:
    """All rows; each has a shape and a dtype of its own, so the user chooses neither."""
    del context
    return _cuda_rows.rows()


def _waits(label: str) -> bool:
    library = LIBRARIES.get(library_of(label))
    return library is not None and library.waits


class Meter(_run.Meter):
    """Times functions on a device. The limit is the rate at which it copies 1 GiB."""

    device = "cuda"

    def __init__(self, on: Any = None) -> None:
        super().__init__(rounds=_cuda_timing.ROUNDS, most_seconds=_cuda_timing.MOST_SECONDS)
        self.on = _cuda_timing.Device() if on is None else on
        self._rate = 0.0

    def about(self) -> dict[str, Any]:
        """What the file says of the machine."""
        return self.on.about() | {"copy_bytes_per_second": self.rate}

    @property
    def rate(self) -> float:
        """Bytes that a copy moves in a second, read and written."""
        if not self._rate:
            copy, total = self.on.copy()
            samples, _ = _cuda_timing.interleaved(self.on, {"copy": copy})
            self._rate = total / median(samples["copy"])
            del copy
            self.release()
        return self._rate

    def pinned(self, context: Context) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def samples(self, workload: Workload, context: Context) -> tuple[Samples, dict[str, Any]]:
        rate = self.rate
        functions = dict(workload.functions)
        waiting = {label for label in functions if _waits(label)}  # not on the stream of a capture
        repeats = dict.fromkeys(functions, 1)
        for label in [n for n in functions if workload.graph and n not in waiting]:
            with naming(label):
                for _ in range(_cuda_timing.WARM_UP):
                    functions[label]()
                functions[label] = self.on.captured(functions[label])
            repeats[label] = _cuda_timing.REPLAYS
        device, host = _cuda_timing.interleaved(
            self.on, functions, self.rounds, self.most_seconds, waiting
        )
        found = {label: [s / repeats[label] for s in samples] for label, samples in device.items()}
        calls = {label: median(samples) / repeats[label] for label, samples in host.items()}
        limit = {} if workload.bytes is None else {"limit": [workload.bytes / rate]}
        return found | limit, {"host": calls}

    def release(self) -> None:
        self.on.release()

    def is_out_of_memory(self, error: Exception) -> bool:
        return bool(self.on.is_out_of_memory(error))
