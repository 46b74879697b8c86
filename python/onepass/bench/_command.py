"""The command ``onepass bench``: its options, and errors of one line."""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from onepass import _console
from onepass._suggest import suggestion
from onepass.bench._options import Parser, number, positive, threads
from onepass.bench._row import DTYPES, GROUPS, UsageError

DESCRIPTION = """\
Time the kernels of onepass on this machine, each in turn with the libraries that people use today
and with the limit of memory, after a check of its results against float64. Exit status 1: a result
is wrong, or a row failed. `onepass bench compare OLD NEW` compares two files of --json; `onepass
bench roofline` measures the limits of memory, `onepass bench parallel` steps of several ranks."""
EPILOG = """\
Without --plain-malloc the command starts itself anew with GLIBC_TUNABLES set, so that malloc keeps
its memory: else page faults of fresh results would take most of the time of a rival that cannot
write to memory that is there."""
MOST_VISITS = 10_000
# Each has a main(arguments) of its own.
COMMANDS = {"compare": "_compare", "roofline": "_roofline", "parallel": "_parallel"}


def main(given: Sequence[str] | None = None) -> int:
    """Run the command with these arguments; returns its exit status."""
    arguments = list(sys.argv[1:] if given is None else given)
    if arguments and arguments[0] in COMMANDS:
        module = importlib.import_module(f"onepass.bench.{COMMANDS[arguments[0]]}")
        status: int = module.main(arguments[1:])
        return status
    try:
        options = _parser().parse_args(arguments)
        _check(options)
        from onepass.bench import _session

        if not (options.plain_malloc or options.list):
            _session.restart(arguments)
        return _session.Session(options).run()
    except UsageError as error:
        _console.write(f"onepass bench: {error}\n", sys.stderr)
        return 2
    except KeyboardInterrupt:
        _console.write("\nonepass bench: interrupted\n", sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="onepass bench", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False,
        usage="onepass bench [GROUP ...] [options]",
    )  # fmt: skip
    add = parser.add_argument
    add("groups", nargs="*", type=_group, metavar="GROUP", help=f"some of {', '.join(GROUPS)}")
    add("--only", type=_pattern, default="", metavar="PATTERN", help="rows whose name matches")
    add("--list", action="store_true", help="name the rows, and measure none")
    add("--quick", action="store_true", help="a selection of small rows, in less than a minute")
    add("--shape", type=_shape, metavar="NxM", help="of arrays, for rows of one kernel")
    add("--dtype", choices=DTYPES, help="of arrays, for rows of one kernel (default: float32)")
    add("--threads", type=threads, metavar="LIST", help="e.g. 1,2 (default: 1, all processors)")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--against", type=_rivals, metavar="LIST", help="libraries, e.g. torch,numpy; none: no one")
    add("--json", type=_file, metavar="FILE", help="all samples, for `compare` and --resume")
    add("--csv", type=_file, metavar="FILE", help="a line for each function")
    add("--html", type=_file, metavar="FILE", help="a page with tables to sort")
    add("--resume", action="store_true", help="go on with FILE of --json: keep the rows it has")
    add("--overwrite", action="store_true", help="replace files that are there")
    add("--repeat", type=partial(number, most=MOST_VISITS), default=1, metavar="N",
        help="visit all rows so often, for `compare` to see small changes")  # fmt: skip
    add("--minutes", type=positive, default=1e9, metavar="N", help="start no row after so long")
    add("--processor-time", action="store_true",
        help="of the calling thread, for a busy machine; with --threads 1")  # fmt: skip
    add("--plain-malloc", action="store_true", help="leave malloc as it is; see below")
    return parser


def _check(options: argparse.Namespace) -> None:
    if options.processor_time and (options.threads != [1] or options.device != "cpu"):
        raise UsageError("--processor-time is that of one thread; pass --threads 1, without cuda")
    if options.device == "cuda":
        for name in ("shape", "dtype", "threads", "quick"):
            if getattr(options, name):
                raise UsageError(f"--{name} is for the CPU; with --device cuda pass --only")
    if options.quick and options.repeat > 1:
        raise UsageError("--quick ends within a minute; for --repeat pass --only PATTERN")
    if options.dtype == "bfloat16" and importlib.util.find_spec("ml_dtypes") is None:
        raise UsageError("--dtype bfloat16: NumPy has it with ml_dtypes; pip install ml_dtypes")
    files = [path for path in (options.json, options.csv, options.html) if path is not None]
    if len({path.resolve() for path in files}) < len(files):
        raise UsageError("--json, --csv and --html: expected a file for each")
    if options.resume and options.json is None:
        raise UsageError("--resume: expected --json FILE, whose rows are not measured again")
    if options.overwrite and (options.resume or not files):
        raise UsageError("--overwrite: expected --json, --csv or --html FILE, and no --resume")


def _group(text: str) -> str:
    if text not in GROUPS:
        hint = suggestion(text, GROUPS)
        raise argparse.ArgumentTypeError(f"{text!r}, expected some of {', '.join(GROUPS)}{hint}")
    return text


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from None


def _shape(text: str) -> tuple[int, ...]:
    sizes = tuple(int(n) if n.isdigit() and n.isascii() else 0 for n in text.split("x"))
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected sizes such as 4096x512")
    return sizes


def _file(text: str) -> Path:
    path = Path(text)
    if not text or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}, expected the name of a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}, but there is no folder {path.parent}")
    return path


def _rivals(text: str) -> frozenset[str]:
    from onepass.bench._peers import LIBRARIES

    names = frozenset(text.split(",")) - {"none"}
    for name in sorted(names - LIBRARIES.keys()):
        hint = suggestion(name, LIBRARIES)
        raise argparse.ArgumentTypeError(f"{name!r}, expected some of {','.join(LIBRARIES)}{hint}")
    return names
