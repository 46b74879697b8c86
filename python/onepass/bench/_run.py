"""Measures rows: ours is checked, then timed in turn with its rivals and the limit of memory."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from onepass.bench._peers import LIBRARIES, counted, library_of
from onepass.bench._peers._library import Lacks
from onepass.bench._row import (
    Check,
    Context,
    FunctionError,
    Row,
    Workload,
    is_other,
    is_ours,
    line_of,
    own_form,
)
from onepass.bench._timing import MOST_SECONDS, ROUNDS, Clock, Samples, interleaved, quantile

# Bytes that a visit takes out of reach, up to more than the second cache of most machines.
PADS = tuple(1 << i for i in range(12, 23))


@dataclasses.dataclass
class Meter:
    """Times functions on the processor; ``--device cuda`` has another one.

    most_seconds  for one row
    """

    clock: Clock = time.perf_counter
    rounds: int = ROUNDS
    most_seconds: float = MOST_SECONDS
    device = "cpu"

    def pinned(self, context: Context) -> contextlib.AbstractContextManager[None]:
        """All thread pools have as many threads."""
        return pinned(context)

    def samples(self, workload: Workload, context: Context) -> tuple[Samples, dict[str, Any]]:
        """Seconds of a call of each function, of the limit, of the products; more for the file."""
        functions = dict(workload.functions)
        if workload.products is not None:
            functions["products"] = workload.products
        if workload.streams is not None and workload.bytes is not None:
            from onepass.bench._limits import limit

            functions["limit"] = limit(
                workload.streams, workload.bytes, context.threads, workload.rotates
            )
        return interleaved(functions, self.rounds, self.clock, self.most_seconds), {}

    def about(self) -> dict[str, Any]:
        """What the file says of the machine."""
        about = {} if self.clock is time.perf_counter else {"clock": "processor time"}
        if not sets_blas_threads():
            about["blas"] = "its threads are not set (pip install threadpoolctl)"
        return about

    def release(self) -> None:
        """Nothing is held."""

    def is_out_of_memory(self, error: Exception) -> bool:
        """Whether the row does not fit this machine."""
        return isinstance(error, MemoryError)


@contextlib.contextmanager
def pinned(context: Context) -> Iterator[None]:
    """All pools of loaded libraries have as many threads, as far as they can be told so: ours,
    PyTorch's, those of BLAS and OpenMP. Other rivals do the same with theirs, or say that they
    cannot (`_peers`)."""
    from onepass import config

    before, threads = config.get_num_threads(), context.threads
    config.set_num_threads(threads)
    try:
        with contextlib.ExitStack() as stack:
            torch = LIBRARIES["torch"]
            if ("torch" in sys.modules or context.wants("torch")) and torch.absent() is None:
                torch.pin(threads)
            if sets_blas_threads():
                from threadpoolctl import threadpool_limits

                stack.enter_context(threadpool_limits(threads))
            yield
    finally:
        config.set_num_threads(before)


def sets_blas_threads() -> bool:
    """Whether NumPy's BLAS gets as many threads as the others."""
    return importlib.util.find_spec("threadpoolctl") is not None


def measured(
    row: Row, context: Context, meter: Meter, before: dict[str, Any] | None = None
) -> dict[str, Any]:
    """One row at one number of threads, as the file has it: a run goes on, whatever a row does.
    With `before`, the row as it was found in earlier visits, this is one more visit."""
    try:
        with meter.pinned(context), _elsewhere(0 if before is None else visits(before)):
            found = _found(row, context, meter, before is None)
    except _UnfitError as error:
        return skipped(row, context, meter, str(error))
    except Exception as error:
        cause = error.__cause__ if isinstance(error, FunctionError) else error
        if isinstance(cause, Exception) and meter.is_out_of_memory(cause):
            return skipped(row, context, meter, "not enough memory")
        line = str(error) if isinstance(error, FunctionError) else line_of(error)
        return skipped(row, context, meter, line) | {"wrong": True}
    finally:
        meter.release()
    return _joined(before, found) if before else _about(row, context, meter) | found


@contextlib.contextmanager
def _elsewhere(visit: int) -> Iterator[None]:
    """Arrays that are made meanwhile lie elsewhere in each visit: memory that is freed after one is
    taken for the next, and caches hold some places better than others."""
    random = np.random.default_rng(visit)
    sizes = [size for size in PADS for _ in range(random.integers(4))] if visit else []
    taken = [np.empty(64 * int(random.integers(size // 64)), np.uint8) for size in sizes]
    yield
    del taken


def visits(result: dict[str, Any]) -> int:
    """How often a row was measured."""
    return len(result["visits"]["onepass"]) if "visits" in result else 1


def _joined(before: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """A row with the samples of one more visit, of the functions that all visits have."""
    old, new = before["samples"], found["samples"]
    both = [label for label in old if label in new]
    counts = before.get("visits") or {label: [len(old[label])] for label in old}
    return (
        before
        | _statistics({label: old[label] + new[label] for label in both})
        | {"visits": {label: [*counts[label], len(new[label])] for label in both}}
        | {"missing": before["missing"] | found["missing"]}
        | _joined_host(before, found)
    )


def _joined_host(before: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Of a GPU, what a call takes the host: the mean of what visits found."""
    if "host" not in found:
        return {}
    earlier, count = before["host"], visits(before)
    means = {
        label: (count * earlier[label] + seconds) / (count + 1)
        for label, seconds in found["host"].items()
        if label in earlier
    }
    return {"host": means}


class _UnfitError(Exception):
    """A row does not take the shape or dtype that the user asks for, or its library is absent."""


def _found(row: Row, context: Context, meter: Meter, checks: bool) -> dict[str, Any]:
    """All arrays are gone when this returns."""
    try:
        workload = _wanted(row.make(context), context)
    except Lacks as lack:
        raise _UnfitError(str(lack)) from None
    except (ValueError, TypeError) as error:
        if context.shape is None and context.dtype == Context.dtype:
            raise
        # A kernel may ask more of a shape: an even number of channels, say.
        raise _UnfitError(" ".join(str(error).split())) from None
    if meter.clock is time.thread_time:
        functions, missing = counted(workload.functions)
        missing = workload.missing | missing
        workload = dataclasses.replace(workload, functions=functions, missing=missing)
    with meter.pinned(context):  # libraries that the row has loaded, too
        check = workload.check() if checks and workload.check is not None else None
        samples, more = meter.samples(workload, context)
    dtype = {}
    if workload.dtype not in (None, context.dtype):  # a row of its own dtype, whatever is asked for
        dtype = {"dtype": workload.dtype, "asked": context.dtype}
    return dtype | _result(workload, check, samples) | more


def skipped(row: Row, context: Context, meter: Meter, why: str) -> dict[str, Any]:
    """A row that could not be measured; with "wrong" where it ought to have been."""
    return _about(row, context, meter) | {"skipped": why}


def _about(row: Row, context: Context, meter: Meter) -> dict[str, Any]:
    return {
        "row": row.name,
        "group": row.group,
        "device": meter.device,
        "dtype": context.dtype,
        "threads": context.threads,
    }


def _wanted(workload: Workload, context: Context) -> Workload:
    """Without the rivals that were not asked for."""
    functions = {
        label: function
        for label, function in workload.functions.items()
        if is_ours(label) or context.wants(library_of(label))
    }
    return dataclasses.replace(workload, functions=functions)


def _result(workload: Workload, check: Check | None, samples: Samples) -> dict[str, Any]:
    streams = workload.streams
    return _statistics(samples) | {
        "elements": workload.elements,
        "bytes": workload.bytes,
        "streams": None if streams is None else list(dataclasses.astuple(streams)),
        "error": None if check is None else check.error,
        "ulps": None if check is None else check.ulps,
        "checked": "" if check is None else check.note,
        "wrong": check is not None and check.wrong,
        "missing": workload.missing,
    }


def _statistics(samples: Samples) -> dict[str, Any]:
    samples = {label: [float(f"{s:.4g}") for s in found] for label, found in samples.items()}
    seconds = {label: statistics.median(found) for label, found in samples.items()}
    return {
        "samples": samples,
        "seconds": seconds,
        "low": {label: quantile(found, 0.1) for label, found in samples.items()},
        "high": {label: quantile(found, 0.9) for label, found in samples.items()},
        "ratios": {
            label: theirs / seconds[own_form(label, seconds)]
            for label, theirs in seconds.items()
            if is_other(label)
        },
        "own": {
            label: others / seconds["onepass"]
            for label, others in seconds.items()
            if is_ours(label) and label != "onepass"
        },
        "products": seconds.get("products"),
    }


def absent(against: frozenset[str] | None, device: str = "cpu") -> dict[str, str]:
    """Rivals that are not there, and why: of those asked for, or of all for the device."""
    fit = [name for name, library in LIBRARIES.items() if device in library.devices]
    reasons = {name: LIBRARIES[name].absent() for name in (fit if against is None else against)}
    return {name: why for name, why in reasons.items() if why is not None}
