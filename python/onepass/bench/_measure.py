"""`measure`: functions of your own, timed as the rows of the table are."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from onepass import _numbers as numbers
from onepass._machine import free_memory
from onepass._streams import Streams
from onepass.bench._rates import size_text
from onepass.bench._row import FunctionError
from onepass.bench._timing import ROUNDS, Samples, interleaved, quantile


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What `measure` found; printing it shows a table.

    Attributes:
        samples: seconds of one call, by function, the first one yours; ``limit`` is a loop that
            only moves ``bytes``.
        bytes: as given.
    """

    samples: Samples
    bytes: float | None = None

    @property
    def seconds(self) -> dict[str, float]:
        """Median of one call of each function."""
        return {label: median(found) for label, found in self.samples.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """The time of each of the others over yours: above 1 yours is faster."""
        ours, *others = self.seconds.items()
        return {label: theirs / ours[1] for label, theirs in others if label != "limit"}

    @property
    def gb_per_s(self) -> float | None:
        """Of ``bytes`` in yours, in 10⁹ bytes a second."""
        ours = next(iter(self.seconds.values()))
        return None if self.bytes is None else self.bytes / ours / 1e9

    @property
    def share_of_limit(self) -> float | None:
        """The time of the limit over yours: near 1, only fewer bytes would help."""
        ours = next(iter(self.seconds.values()))
        return self.seconds["limit"] / ours if "limit" in self.seconds else None

    def __str__(self) -> str:
        width = max(map(len, self.samples))
        lines = []
        for label, found in self.samples.items():
            time_, *spread = (median(found), quantile(found, 0.1), quantile(found, 0.9))
            line = f"{label:{width}}  {time_ * 1e6:10.2f} us  ({spread[0] * 1e6:.2f}-"
            line += f"{spread[1] * 1e6:.2f})"
            line += f"  {self.ratios[label]:.2f}x" if label in self.ratios else ""
            lines.append(line)
        if self.gb_per_s is not None:
            lines[0] += f"  {self.gb_per_s:.1f} GB/s, {self.share_of_limit:.0%} of the limit"
        return "\n".join(lines)


def measure(
    fn: Callable[[], Any],
    *,
    bytes: float | None = None,
    against: Sequence[Callable[[], Any]] | Mapping[str, Callable[[], Any]] = (),
    streams: tuple[int, int, int] = (1, 1, 0),
    rounds: int = ROUNDS,
) -> Measurement:
    """Time functions of your own in turn, with the clock of ``onepass bench``.

    Each sample calls a function often enough to last four milliseconds; the functions take turns,
    so what the machine does meanwhile meets all of them; samples during which a computing thread
    was preempted are dropped. Give every function arrays of its own. Where a function allocates its
    result, its page faults are part of its time.

    What else ``onepass bench`` does for its rows is left to you: it sets the threads of every
    library (here each has as many as you gave it), tells malloc to keep its memory, and lets
    functions over more than 8 million elements take turns between copies of their arrays, so that
    no cache has them. Here your functions, and the limit, use the same memory at each call.

    Args:
        fn: what to measure, without arguments.
        bytes: that a call has to move at least: each input read once, each output written once.
            With it the limit of memory is measured beside it, on ``config.get_num_threads()``
            threads.
        against: functions to compare with, in a list or by name.
        streams: how many arrays of equal size those bytes are: only read, only written, and
            changed in place, whose bytes count twice.
        rounds: samples of each function.

    Returns:
        A `Measurement`: medians (``seconds``), ``ratios``, ``gb_per_s``, ``share_of_limit``, and
        all ``samples``; printing it shows a table.

    Raises:
        TypeError: ``fn`` or one of ``against`` cannot be called, ``bytes`` is not a number,
        ``rounds`` not an integer, ``streams`` not three of them. ValueError: ``bytes`` is not above
        0, or so many that the arrays of the limit exceed the memory that is free; ``rounds`` is
        below 1; ``streams`` has no array. RuntimeError: a function raised an error, which is the
        cause; the message names the function.

    Example:
        >>> import numpy as np
        >>> from onepass import bench, ops
        >>> x = np.ones(1 << 16, np.float32)
        >>> y, z = np.empty_like(x), np.empty_like(x)
        >>> found = bench.measure(
        ...     lambda: ops.relu(x, out=y),
        ...     bytes=2 * x.nbytes,
        ...     against={"numpy": lambda: np.maximum(x, 0, out=z)},
        ...     rounds=3,
        ... )
        >>> list(found.seconds)
        ['yours', 'numpy', 'limit']
        >>> found.gb_per_s > 0 and found.ratios["numpy"] > 0
        True
    """
    functions = _named(fn, against)
    bytes = None if bytes is None else numbers.in_range("measure", "bytes", bytes, above=0)
    numbers.integer("measure", "rounds", rounds, 1)
    arrays = _streams(streams)
    if bytes is not None:
        from onepass import config
        from onepass.bench._limits import limit

        _check_memory(arrays, bytes)
        functions["limit"] = limit(arrays, bytes, config.get_num_threads())
    try:
        samples = interleaved(functions, rounds, time.perf_counter)
    except FunctionError as error:
        raise RuntimeError(f"measure: {error}") from error.__cause__
    return Measurement(samples, bytes)


def _check_memory(streams: Streams, count_bytes: float) -> None:
    from onepass.bench._limits import memory

    free = free_memory()
    if memory(streams, count_bytes) > free:
        raise ValueError(
            f"measure: 'bytes' is {count_bytes:g}, expected no more than the limit can move in the "
            f"{size_text(free)} of memory that are free; without 'bytes' no limit is measured"
        )


def _streams(given: Any) -> Streams:
    """Numbers of arrays; at least one."""
    what = f"measure: 'streams' is {given!r}, expected (reads, writes, updates)"
    if not isinstance(given, tuple) or not all(type(n) is int for n in given) or len(given) != 3:
        raise TypeError(f"{what}, three integers")
    if min(given) < 0 or max(given) < 1:
        raise ValueError(f"{what}, at least one array and no negative number")
    return Streams(*given)


def _named(
    fn: Callable[[], Any],
    against: Sequence[Callable[[], Any]] | Mapping[str, Callable[[], Any]],
) -> dict[str, Callable[[], Any]]:
    """All by name; a second one of the same name has a number."""
    pairs: list[tuple[str, Any]]
    if isinstance(against, Mapping):
        pairs = [(str(label), f) for label, f in against.items()]
    elif isinstance(against, Iterable) and not isinstance(against, str):
        pairs = [(_name_of(f, "other"), f) for f in against]
    else:
        raise TypeError(
            f"measure: 'against' is {against!r}, expected functions without arguments, in a list "
            "or by name in a dict"
        )
    found: dict[str, Callable[[], Any]] = {}
    for label, function in [(_name_of(fn, "yours"), fn), *pairs]:
        if not callable(function):
            name = "against" if found else "fn"
            raise TypeError(
                f"measure: {name!r} has {function!r}, expected functions that are called without "
                "arguments, such as lambda: f(x)"
            )
        name, number = label, 2
        while name in found or name == "limit":
            name, number = f"{label} {number}", number + 1
        found[name] = function
    return found


def _name_of(function: Any, unnamed: str) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return unnamed if name == "<lambda>" else str(name)
