"""``onepass bench roofline``: how many bytes a second this machine moves, by size and threads."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from onepass import _console, config
from onepass._machine import free_memory
from onepass._numbers import integer
from onepass._streams import ITEM, Streams, arrays_moved, fastest, nearest, ways
from onepass.bench import _machine, _options
from onepass.bench._rates import Place, Rate, size_text
from onepass.bench._row import UsageError
from onepass.bench._timing import interleaved, quantile

SHAPES = {
    "read": Streams(1, 0, 0),
    "write": Streams(0, 1, 0),
    "copy": Streams(1, 1, 0),
    "in place": Streams(0, 0, 1),
    "optimizer": Streams(1, 0, 3),
}
# Where the system does not say.
L2, L3 = 1 << 20, 32 << 20
LEAST_MEMORY, MOST_MEMORY = 256 << 20, 2 << 30
ROUNDS = 9


@dataclasses.dataclass(frozen=True)
class Roofline:
    """The limits of a machine: what `roofline` measured."""

    machine: dict[str, Any]
    places: list[Place]
    rates: list[Rate]
    notes: list[str]

    def rate(self, shape: str, place: str, threads: int) -> Rate:
        """One of them: ``rate("copy", "memory", 2)``."""
        for rate in self.rates:
            if (rate.shape, rate.place, rate.threads) == (shape, place, threads):
                return rate
        raise KeyError((shape, place, threads))

    @property
    def threads(self) -> list[int]:
        """The numbers of threads that were measured."""
        return sorted({rate.threads for rate in self.rates})

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return {
            "machine": self.machine,
            "places": [dataclasses.asdict(place) for place in self.places],
            "rates": [dataclasses.asdict(rate) for rate in self.rates],
            "notes": self.notes,
        }

    def plot(self, file: str | os.PathLike[str]) -> None:
        """Draw it with matplotlib: a PNG, or what the name of the file ends with."""
        from onepass.bench._roofline_plot import plot

        plot(self.machine["cpu"], self.places, self.rates, file)

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def roofline(
    threads: Sequence[int] | None = None, *, rounds: int = ROUNDS, memory: int | None = None
) -> Roofline:
    """Measure what the caches and the memory of this machine can move: ``onepass bench roofline``.

    Loops that compute nothing read, write, copy, change an array in place, and do what an optimizer
    does with a gradient and three arrays (read one, change three in place). They run in the pool
    of onepass. Bytes are those that a program touches: a copy reads n and writes n.

    Args:
        threads: numbers of threads; all up to 8, then powers of two up to all processors.
        rounds: samples of each.
        memory: bytes of the arrays that lie in memory; else four times the last cache, 256 MiB to
            2 GiB and at most a quarter of what is free.

    Returns:
        the rates: ``print`` shows the table, ``plot(file)`` draws it, ``rates`` has the numbers.

    Raises:
        ValueError: a number is not positive, or ``memory`` is more than is free.

    Example:
        >>> from onepass import bench
        >>> found = bench.roofline([1], rounds=1, memory=1 << 20)
        >>> sorted({rate.shape for rate in found.rates})
        ['copy', 'in place', 'optimizer', 'read', 'write']
    """
    if threads is None:
        threads = _counts(_machine.processors())
    chosen = [integer("roofline", "threads", n, least=1) for n in threads]
    integer("roofline", "rounds", rounds, least=1)
    if not chosen:
        raise ValueError("roofline: 'threads' is empty, expected numbers of threads")
    found, notes = places(max(chosen))
    if memory is not None:
        size = integer("roofline", "memory", memory, least=1 << 16)
        free = free_memory()
        if size > free:
            raise ValueError(
                f"roofline: 'memory' is {memory!r}, expected at most the {free} bytes "
                f"({size_text(free)}) that are free"
            )
        found = [dataclasses.replace(p, size=size) if p.name == "memory" else p for p in found]
    rates = [
        rate for place in found for count in chosen for rate in _measured(place, count, rounds)
    ]
    return Roofline(_machine.machine(), found, rates, notes)


def _counts(processors: int) -> list[int]:
    powers = [2**k for k in range(4, 20) if 2**k < processors]
    return sorted({*range(1, min(8, processors) + 1), *powers, processors})


def places(threads: int) -> tuple[list[Place], list[str]]:
    """Sizes that fit into half of each cache, and that fit into none; and what was assumed."""
    known = _machine.caches()
    notes = [] if known else [
        "The system does not say how large the caches are: 1 MiB and 32 MiB are assumed."
    ]  # fmt: skip
    l2 = known.get("L2", L2)
    l3 = known.get("L3", 0 if known else L3)
    found = [Place("L2", l2 // 2, per_thread=True)]
    if l3 > l2 * threads:
        found.append(Place("L3", max(l3 // 2, l2 * threads)))
    else:
        notes.append("There is no third cache that is larger than the second ones together.")
    wanted = min(max(4 * max(l3, l2 * threads), LEAST_MEMORY), MOST_MEMORY)
    free = free_memory()
    size = min(wanted, free // 4)
    if size < wanted:
        notes.append(f"{size_text(free)} of memory are free: arrays there have {size_text(size)}.")
    found.append(Place("memory", size))
    return found, notes


def _measured(place: Place, threads: int, rounds: int) -> Iterator[Rate]:
    before = config.get_num_threads()
    config.set_num_threads(threads)
    try:
        for name, streams in SHAPES.items():
            shape = nearest(streams)
            size = max(1, place.bytes(threads) // (ITEM * sum(shape)))
            moved = ITEM * size * arrays_moved(shape)
            function = fastest(ways(shape, size, threads), threads)
            samples = interleaved({name: function}, rounds)[name]
            slow, fast = quantile(samples, 0.9), quantile(samples, 0.1)
            middle = statistics.median(samples)
            yield Rate(name, place.name, threads, moved / middle, moved / slow, moved / fast)
    finally:
        config.set_num_threads(before)


def _lines(found: Roofline) -> Iterator[str]:
    about = found.machine
    yield f"{about['cpu']}, {about['cpus']} processors: GB/s (10 to 90 % of the samples)"
    width = max(22, *(len(place.title) for place in found.places))
    yield f"{'':10} threads  " + "  ".join(f"{place.title:>{width}}" for place in found.places)
    for shape in SHAPES:
        for count in found.threads:
            cells = [_cell(found.rate(shape, place.name, count)) for place in found.places]
            label = shape if count == found.threads[0] else ""
            yield f"{label:10} {count:7}  " + "  ".join(f"{cell:>{width}}" for cell in cells)
    yield from found.notes


def _cell(rate: Rate) -> str:
    return f"{_gb(rate.bytes_per_second)} ({_gb(rate.low)} to {_gb(rate.high)})"


def _gb(rate: float) -> str:
    return f"{rate / 1e9:.1f}" if rate < 1e10 else f"{rate / 1e9:.0f}"


# ---- the command


def main(arguments: Iterable[str]) -> int:
    """``onepass bench roofline``; returns its exit status."""
    parser = _options.Parser(
        prog="onepass bench roofline", allow_abbrev=False,
        description="Measure how many bytes a second this machine reads, writes, copies, changes "
        "in place, and moves in the way of an optimizer: in the caches and in memory, by threads. "
        "Prints a table and draws a picture.",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=_options.threads, metavar="LIST", help="e.g. 1,2 (default: 1 to all)"
    )
    parser.add_argument(
        "--png", default="roofline.png", metavar="FILE",
        help="the picture (default: roofline.png); none: no picture",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="the numbers")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE of --json")
    try:
        options = parser.parse_args(list(arguments))
        if options.json is not None and not options.overwrite:
            _options.keep("--json", Path(options.json))
        _check_files(options.json, None if options.png == "none" else options.png)
        found = roofline(options.threads)
        _console.write(f"{found}\n", sys.stdout)
        _write(found, options.json, options.png)
    except UsageError as error:
        _console.write(f"onepass bench roofline: {error}\n", sys.stderr)
        return 2
    return 0


def _check_files(numbers: str | None, picture: str | None) -> None:
    """Before a minute is spent on what cannot be written."""
    for file in filter(None, (numbers, picture)):
        folder = Path(file).resolve().parent
        if not folder.is_dir():
            raise UsageError(f"cannot write {file}: there is no folder {folder}")
    if picture is None:
        return
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise UsageError(
            "the picture needs matplotlib: pip install matplotlib, or pass --png none"
        ) from None
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if Path(picture).suffix.removeprefix(".").lower() not in known:
        raise UsageError(f"--png {picture}: expected a name that ends with .png, .svg or .pdf")


def _write(found: Roofline, numbers: str | None, picture: str) -> None:
    try:
        if numbers is not None:
            text = json.dumps(found.as_dict(), indent=1) + "\n"
            Path(numbers).write_text(text, encoding="utf-8")
        if picture != "none":
            found.plot(picture)
            _console.write(f"wrote {picture}\n", sys.stdout)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename}: {error.strerror}") from None
