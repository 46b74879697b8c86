"""How a comparison is timed: rivals interleaved in one run, medians, disturbed samples dropped.

One sample calls a function often enough to last about SAMPLE_SECONDS. Rivals take turns, so what
the machine does meanwhile meets all of them alike. A sample in which the process was preempted is
dropped while three others are left. Absolute times move with the host's neighbours; ratios within
one run hold.
"""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Callable, Mapping

SAMPLE_SECONDS = 4e-3
ROUNDS = 15
MOST_SECONDS = 6.0
# Other libraries' idle threads spin for a while on the cores that the next rival needs.
REST_SECONDS = 10e-3

Function = Callable[[], object]


def _preemptions() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


def _calls_per_sample(function: Function, clock: Callable[[], float]) -> int:
    function()
    start = clock()
    function()
    once = clock() - start
    return max(1, min(10_000, round(SAMPLE_SECONDS / max(once, 1e-7))))


def interleaved(
    functions: Mapping[str, Function],
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of one call of each function.

    Args:
        functions: what to compare, by name.
        rounds: samples of each; fewer where one round takes long (at most MOST_SECONDS in all).
        clock: in seconds.
    """
    calls = {name: _calls_per_sample(function, clock) for name, function in functions.items()}
    quiet: dict[str, list[float]] = {name: [] for name in functions}
    disturbed: dict[str, list[float]] = {name: [] for name in functions}
    began = time.perf_counter()
    gc.disable()
    try:
        for turn in range(rounds):
            for name, function in functions.items():
                time.sleep(REST_SECONDS)
                function()  # what the rivals have pushed out of the caches comes back untimed
                before = _preemptions()
                start = clock()
                for _ in range(calls[name]):
                    function()
                seconds = (clock() - start) / calls[name]
                (quiet if _preemptions() == before else disturbed)[name].append(seconds)
            if turn >= 4 and time.perf_counter() - began > MOST_SECONDS:
                break
    finally:
        gc.enable()
    kept = {
        name: quiet[name] if len(quiet[name]) >= 3 else quiet[name] + disturbed[name]
        for name in functions
    }
    return {name: statistics.median(samples) for name, samples in kept.items()}
