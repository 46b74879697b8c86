"""``onepass bench parallel``: steps of several ranks beside one process and beside PyTorch's."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from onepass import _console, _files
from onepass._suggest import suggestion
from onepass.bench import _machine, _options
from onepass.bench._parallel_groups import EndedError
from onepass.bench._parallel_run import ROUNDS, STEPS, Run
from onepass.bench._row import UsageError, line_of
from onepass.bench._table import json_text


def main(arguments: Iterable[str]) -> int:
    """``onepass bench parallel``; returns its exit status."""
    try:
        options = _parser().parse_args(list(arguments))
        _check(options)
        run = Run(options)
        with _ending_by_sigterm():
            right = run.run()
        if options.json is not None:
            _write(options.json, json_text(run.content, indent=1) + "\n")
    except UsageError as error:
        _console.write(f"onepass bench parallel: {error}\n", sys.stderr)
        return 2
    except EndedError as error:
        _console.write(f"onepass bench parallel: {error}\n", sys.stderr)
        return 1
    except KeyboardInterrupt:
        _console.write("\nonepass bench parallel: interrupted\n", sys.stderr)
        return 130
    except OSError as error:  # of a file between the processes, or of starting them
        _console.write(f"onepass bench parallel: {line_of(error)}\n", sys.stderr)
        return 1
    return 0 if right else 1


@contextlib.contextmanager
def _ending_by_sigterm() -> Iterator[None]:
    """SIGTERM (of `timeout`, of a batch system) ends the block as Ctrl-C does: its processes and
    its folder go with it."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _write(path: Path, text: str) -> None:
    try:
        with _files.replacing(path, "file", sync=False) as file:
            file.write(text.encode())
    except OSError as error:
        raise EndedError(str(error)) from None


def _parser() -> argparse.ArgumentParser:
    parser = _options.Parser(
        prog="onepass bench parallel", allow_abbrev=False,
        description="Time training steps on several processes, by MPI, beside one process and "
        "beside PyTorch's DistributedDataParallel; fit latency and bandwidth of sums over ranks, "
        "and say what many ranks would cost. Exit status 1: ranks compute something else than one "
        "process.",
    )  # fmt: skip
    add = parser.add_argument
    add("--ranks", type=_options.ranks, default=[1, 2], metavar="LIST",
        help="numbers of processes (default: 1,2); 1 is always there")  # fmt: skip
    add("--threads", type=_options.number, default=_machine.processors(), metavar="N",
        help="of all ranks together (default: all processors)")  # fmt: skip
    add("--only", type=_networks, default=[*STEPS], metavar="LIST",
        help=f"of {','.join(STEPS)}")  # fmt: skip
    add("--against", choices=("torch", "none"), default="torch", help="what to compare with")
    add("--rounds", type=_options.number, default=ROUNDS, metavar="N",
        help=f"samples of each (default: {ROUNDS})")  # fmt: skip
    add("--at", type=_options.ranks, default=[64, 1024], metavar="LIST",
        help="numbers of ranks to compute on paper (default: 64,1024)")  # fmt: skip
    add("--latency", type=_options.positive, default=2e-6, metavar="SECONDS",
        help="of a message, on paper (default: 2e-6)")  # fmt: skip
    add("--bandwidth", type=_options.positive, default=25e9, metavar="BYTES",
        help="a second, on paper (default: 25e9)")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="the numbers, with all samples")
    add("--overwrite", action="store_true", help="replace FILE of --json")
    return parser


def _check(options: argparse.Namespace) -> None:
    options.ranks = sorted({1, *options.ranks})
    options.against = [] if options.against == "none" else [options.against]
    least = min(STEPS[name].batch for name in options.only)
    if max(options.ranks) * 2 > least:
        raise UsageError(f"--ranks {max(options.ranks)}: expected at most {least // 2}, which have "
                         f"two samples each of a batch of {least}")  # fmt: skip
    if options.json is not None and not options.json.resolve().parent.is_dir():
        raise UsageError(f"--json: {str(options.json)!r}, but there is no folder "
                         f"{options.json.parent}")  # fmt: skip
    if options.json is not None and not options.overwrite:
        _options.keep("--json", options.json)


def _networks(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in STEPS:
            hint = suggestion(name, STEPS)
            raise argparse.ArgumentTypeError(f"{name!r}, expected some of {', '.join(STEPS)}{hint}")
    return names
