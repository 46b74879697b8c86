"""The command line: ``onepass train``, ``onepass bench``, ``onepass info``.

Wrong use is one line on standard error and exit status 2; a run that fails, 1; Ctrl-C, 130.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import onepass
from onepass import _numbers as numbers
from onepass._suggest import suggestion

# What onepass uses where it is installed, and for what.
LIBRARIES = {
    "numpy": "arrays",
    "cupy": "arrays on CUDA: --device cuda, Module.to",
    "torch": "its tensors are taken everywhere",
    "scikit-learn": "data sets by name, its metrics by name",
    "matplotlib": "curves.png, plot()",
    "tqdm": "the progress bar",
    "threadpoolctl": "one BLAS thread while small nets train",
    "ml_dtypes": "bfloat16 arrays of NumPy",
    "tensorboardX": "the TensorBoard callback",
}
OTHER_NAMES = {"--learning-rate": "--lr", "--output": "--out", "--layers": "--hidden"}
COMMANDS = ("train", "bench", "info")
CUPY_PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "cupy")
T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console may lack a character
    if arguments[:1] == ["bench"]:
        return _bench(arguments[1:])
    try:
        try:
            options = _parsed(arguments)
            command: Callable[[argparse.Namespace], int] = options.command
            return command(options)
        finally:
            if sys.stdout is not None and not sys.stdout.closed:
                sys.stdout.flush()  # here, because an error at exit could not be reported
    except _UsageError as error:
        return _fail(error, 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader (head, less) has gone
            return 1
        return _fail(f"cannot write the output: {error.strerror}", 1)


class _Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


class _UsageError(Exception):
    """An option with a wrong value; argparse passes the exception on and ``main`` prints it."""


class _Defaults(argparse.HelpFormatter):
    """Help that shows the defaults of options that have one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        hidden = action.default in (None, argparse.SUPPRESS) or action.nargs == 0
        return str(action.help) if hidden else f"{action.help} (default {action.default})"


def _parsed(arguments: list[str]) -> argparse.Namespace:
    """The options; an unknown command or option is an error with the nearest one."""
    parser = _parser()
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        known = ", ".join(COMMANDS)
        hint = suggestion(arguments[0], COMMANDS)
        raise _UsageError(f"unknown command {arguments[0]!r}, expected one of {known}{hint}")
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        names = options.names if "names" in options else ()
        name = next((a.partition("=")[0] for a in unknown if a.startswith("-")), unknown[0])
        near = OTHER_NAMES.get(name)
        hint = f"; did you mean {near!r}?" if near in names else suggestion(name, names)
        raise _UsageError(f"{arguments[0]}: unknown argument {name!r}{hint}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="onepass", description="Fused training kernels: train, bench, info.")
    parser.add_argument("--version", action="version", version=f"onepass {onepass.__version__}")
    commands = parser.add_subparsers(metavar="{train,bench,info}", required=True)
    _add_train(commands)
    commands.add_parser("bench", help="measure the kernels (in the source tree)")
    info = commands.add_parser("info", help="version, CPU, CUDA, optional libraries")
    info.add_argument("--json", action="store_true", help="as one JSON object")
    info.set_defaults(command=_info)
    return parser


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a network on a data set",
        description="Train a multilayer perceptron; the results go to runs/<name>.",
        formatter_class=_Defaults,
        allow_abbrev=False,
    )
    add = train.add_argument
    add("data", metavar="DATA", help="digits, breast_cancer, wine, diabetes, or a CSV or NPZ file")
    add("--target", metavar="NAME", help="the target's column (CSV: the last) or array (NPZ: y)")
    add("--task", choices=("classification", "regression"), help="if not by the target's type")
    add("--epochs", type=_count("--epochs"), default=60, metavar="N", help="at most this many")
    count = _count("--batch-size")
    add("--batch-size", type=count, default=32, metavar="N", help="samples a step")
    rate = _number("--lr", above=0)
    add("--lr", type=rate, metavar="X", help="peak rate (0.004 for Adam's kin, else its own)")
    add("--optimizer", default="adamw", metavar="NAME", help="adamw, sgd, …")
    add("--hidden", type=_sizes, default="256,256", metavar="SIZES", help="hidden layers")
    add("--norm", choices=("batch", "none"), default="batch", help="after each hidden layer")
    add("--activation", default="relu", metavar="NAME", help="relu, leaky_relu, gelu, …")
    share = _number("--dropout", low=0, high=1)
    add("--dropout", type=share, default=0.2, metavar="P", help="probability, 0 for none")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute")
    add("--seed", type=_seed, default=0, metavar="N", help="of the split, weights and dropout")
    add("--out", type=_path, metavar="DIR", help="instead of runs/<name>")
    add("--diagnose", action="store_true", help="gradients, updates and dead units by layer")
    add("--resume", action="store_true", help="go on from the newest checkpoint")
    add("--overwrite", action="store_true", help="replace the run that is in --out")
    train.set_defaults(command=_train, names=[*train._option_string_actions])


def _train(options: argparse.Namespace) -> int:
    import numpy as np

    from onepass import config
    from onepass.train._recipe import Options, Recipe

    if options.device == "cuda" and not config.cuda_available():
        return _fail(f"--device cuda: {config.cuda_why_not()}", 2)
    fields = {field.name for field in dataclasses.fields(Options)}
    given = {k: v for k, v in vars(options).items() if k in fields}
    try:
        run = Recipe(
            Options(**given),
            options.out,
            options.resume,
            overwrite=options.overwrite,
            diagnose=options.diagnose,
        )
    except (ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:
        return _fail(error, 2)
    print(run.describe(), flush=True)
    if importlib.util.find_spec("matplotlib") is None:
        print("note: there will be no curves.png, matplotlib is not installed", flush=True)
    try:
        with np.errstate(all="ignore"):  # no warnings: the error below is one line
            result = run.train()
    except KeyboardInterrupt:
        return _fail("interrupted; go on with the same command and --resume", 130)
    except FloatingPointError:
        where = f"epoch {run.trainer.epoch + 1}, with a learning rate of {run.trainer.lr:g}"
        return _fail(f"not finite: the loss or a gradient in {where}; pass a lower --lr", 1)
    except BrokenPipeError:
        raise
    except (OSError, ValueError, MemoryError) as error:
        return _fail(error, 1)
    _report(run, result)
    return 0


def _report(run: Any, result: dict[str, float]) -> None:
    best = f", best epoch {run.stopping.best_epoch}" if run.stopping.best_epoch else ""
    numbers = "  ".join(f"{name} {value:.4f}" for name, value in result.items())
    print(f"\nheld-out part: {numbers}  ({run.trainer.epoch} epochs{best})\n")
    print(f"{run.diagnosed()}\n")
    if run.options.device == "cpu":
        print(run.profile.table() + "\n")
    try:
        run.trainer.history.plot(run.out / "curves.png")
        written = "curves.png, history.csv, run.json, checkpoints"
        if run.diagnosis is not None:
            run.diagnosis.plot(run.out / "diagnosis.png")
            written = f"diagnosis.png, {written}"
    except ImportError as error:
        written = f"history.csv, run.json, checkpoints (no curves.png: {error})"
    print(f"{run.out}: {written}")


def _bench(arguments: list[str]) -> int:
    """Run bench/run.py of the source tree; the package does not contain it."""
    script = Path("bench") / "run.py"
    here = Path(__file__).resolve()
    for root in (Path.cwd(), here.parents[2]):
        if (root / script).is_file() and (root / "python" / "onepass").is_dir():
            return subprocess.call([sys.executable, str(root / script), *arguments])
    return _fail(f"bench: {script} is in onepass's source tree; run this inside it", 2)


def _info(options: argparse.Namespace) -> int:
    found = _collect()
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    cuda = found["cuda"]
    print(f"onepass    {found['version']}")
    print(f"python     {found['python']}")
    print(f"cpu        level {found['cpu_level']}, {found['threads']} threads")
    print(f"blas       {_blas(found['blas'])}")
    print(f"cuda       {'usable' if cuda['usable'] else cuda['why_not']}")
    for name, version in found["libraries"].items():
        print(f"{name:<14}{version or 'not installed':<15}{LIBRARIES[name]}")
    return 0


def _collect() -> dict[str, Any]:
    from onepass import _C, config

    usable = config.cuda_available()
    return {
        "version": onepass.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_level": config.cpu_level(),
        "threads": config.get_num_threads(),
        "blas": _blas_state(),
        "cuda": {
            "built": _C.cuda_built(),
            "usable": usable,
            "why_not": None if usable else config.cuda_why_not(),
        },
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def _blas_state() -> dict[str, Any]:
    from onepass.train._blas import state

    return state()


def _blas(state: dict[str, Any]) -> str:
    """The line about NumPy's BLAS and its threads."""
    if not state["libraries"]:
        return "threads unknown; install threadpoolctl, or train small nets with OMP_NUM_THREADS=1"
    how = "one while small nets train" if state["set_by_training"] else "ONEPASS_BLAS_THREADS=keep"
    return f"{', '.join(state['libraries'])}, {state['threads']} threads ({how})"


def _version(name: str) -> str | None:
    """The installed version from the metadata of the package, without importing it."""
    for package in CUPY_PACKAGES if name == "cupy" else (name,):
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _fail(error: object, status: int) -> int:
    """Print the error as one line."""
    print(f"onepass: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def _count(option: str) -> Callable[[str], int]:
    """An argparse type: a whole number >= 1."""
    return lambda text: _checked(numbers.integer, option, text, int, least=1)


def _number(option: str, **bounds: float) -> Callable[[str], float]:
    """An argparse type: a number within the bounds of ``numbers.in_range``."""
    return lambda text: _checked(numbers.in_range, option, text, float, **bounds)


def _path(text: str) -> Path:
    if not text:
        raise _UsageError("train: '--out' is empty, expected a directory")
    return Path(text).expanduser()


def _seed(text: str) -> int:
    return _checked(numbers.seed, "--seed", text, int)


def _sizes(text: str) -> tuple[int, ...]:
    count = _count("--hidden")
    return tuple(count(part.strip()) for part in text.split(",") if text.strip())


def _checked(
    check: Callable[..., T], option: str, text: str, parse: Callable[[str], Any], **bounds: Any
) -> T:
    """``text`` as a number that passes ``check``; _UsageError, naming the option, if not."""
    try:
        value = parse(text)
    except ValueError:
        value = text
    try:
        return check("train", option, value, **bounds)
    except (TypeError, ValueError) as error:
        raise _UsageError(error) from None
