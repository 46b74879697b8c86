"""How a comparison is timed: rivals interleaved in one run, disturbed samples dropped.

One sample calls a function often enough to last about SAMPLE_SECONDS. Rivals take turns, and each
round begins with another of them: what the machine does meanwhile, and what one leaves behind for
the next, meets all of them alike. A sample in which a thread was preempted (on one thread the
calling one, else any of the process) is dropped while three others are left. Absolute times move
with the host's neighbours; ratios within one run hold.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from onepass import config
from onepass._streams import Function
from onepass.bench._row import FunctionError

try:
    import resource
except ImportError:  # not on this system: no sample is known to be disturbed
    resource = None  # type: ignore[assignment]

SAMPLE_SECONDS = 4e-3
LONGEST_SAMPLE = 10 * SAMPLE_SECONDS
ROUNDS = 15
LEAST_ROUNDS = 5
MOST_SECONDS = 6.0
# Other libraries' idle threads spin for a while on the cores that the next rival needs.
REST_SECONDS = 10e-3
TRIALS = 3  # calls that say how many make a sample: one alone may be disturbed

Clock = Callable[[], float]
Samples = dict[str, list[float]]


def interleaved(
    functions: Mapping[str, Function],
    rounds: int = ROUNDS,
    clock: Clock = time.perf_counter,
    most_seconds: float = MOST_SECONDS,
) -> Samples:
    """Seconds of one call of each function, in each sample that is kept: those in which the thread
    was preempted are dropped where three are left without them.

    Args:
        functions: what to compare, by name.
        rounds: samples of each; fewer where one round takes long, but never fewer than 5 of more.
        clock: in seconds.
        most_seconds: no round begins after that, once there are 5.

    Raises:
        FunctionError: one of the functions raised an error.
    """
    calls = {}
    for name, function in functions.items():
        with naming(name):
            calls[name] = _calls_per_sample(function, clock)
    quiet: Samples = {name: [] for name in functions}
    disturbed: Samples = {name: [] for name in functions}
    began = time.perf_counter()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(rounds):
            if turn >= LEAST_ROUNDS and time.perf_counter() - began > most_seconds:
                break
            for name in _from(list(functions), turn):
                function = functions[name]
                time.sleep(REST_SECONDS)
                with naming(name):
                    function()  # what the rivals pushed out of the caches comes back untimed
                    before = _preemptions()
                    seconds = _sample(function, calls[name], clock)
                (quiet if _preemptions() == before else disturbed)[name].append(seconds)
    finally:
        if collecting:
            gc.enable()
    return {
        name: quiet[name] if len(quiet[name]) >= 3 else quiet[name] + disturbed[name]
        for name in functions
    }


@contextlib.contextmanager
def naming(label: str) -> Iterator[None]:
    """What a function raises meanwhile is a `FunctionError` with its label."""
    try:
        yield
    except Exception as error:
        raise FunctionError(label, error) from error


def _from(names: Sequence[str], turn: int) -> Sequence[str]:
    """All of them in their order, from another one in each turn."""
    first = turn % max(1, len(names))
    return [*names[first:], *names[:first]]


def _sample(function: Function, calls: int, clock: Clock) -> float:
    """Seconds of one of so many calls. Where they take far longer than they did at first, as a
    rival's spinning threads on a busy machine, of fewer."""
    start, done = clock(), 0
    while done < calls:
        part = min(calls - done, math.ceil(calls / 8))
        for _ in range(part):
            function()
        done += part
        seconds = clock() - start
        if seconds > LONGEST_SAMPLE:
            break
    return seconds / done


def _preemptions() -> int:
    """How often the calling thread was preempted, or any where several compute."""
    if resource is None:
        return 0
    several = config.get_num_threads() > 1
    who = resource.RUSAGE_SELF if several else getattr(resource, "RUSAGE_THREAD", 0)
    return resource.getrusage(who).ru_nivcsw


def _calls_per_sample(function: Function, clock: Clock) -> int:
    """From the least of a few calls, after the threads of the function before have come to rest.
    Of one that takes longer than any sample there is no doubt."""
    time.sleep(REST_SECONDS)
    function()
    least = math.inf
    for _ in range(TRIALS):
        start = clock()
        function()
        least = min(least, clock() - start)
        if least > LONGEST_SAMPLE:
            break
    return max(1, min(10_000, round(SAMPLE_SECONDS / max(least, 1e-7))))


def in_rotation(
    make: Callable[[], dict[str, Function]], count: float, cache: int
) -> dict[str, Function]:
    """Functions that take turns between copies of their arrays: by the time the first copy comes
    again, four times the last cache has passed, so each call finds its data in memory.

    Args:
        make: makes the functions of one copy.
        count: bytes that a call of one of them moves.
        cache: bytes of the last cache.
    """
    copies = [make() for _ in range(max(1, math.ceil(4 * cache / max(count, 1))))]
    if len(copies) == 1:
        return copies[0]
    return {label: _turns([copy[label] for copy in copies]) for label in copies[0]}


def _turns(functions: Sequence[Function]) -> Function:
    following = itertools.cycle(functions).__next__
    return lambda: following()()


def quantile(samples: Sequence[float], share: float) -> float:
    """The value below which that share of the samples lies, between two of them if need be."""
    ordered = sorted(samples)
    at = share * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])
