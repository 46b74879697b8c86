"""Does all work that needs a GPU, without network and from a bare checkout: builds onepass for the
GPUs of the machine, checks and measures it, and runs the tests, a profiler and compute-sanitizer.

    scripts/gpu [--list] [--dry-run] [--minutes N] [--out DIR] [--from DIR] [STAGE ...]

Stages run in the order of --list; without names, all but those that have passed with these sources.
PYTHON (python3) needs numpy and pytest, CuPy or PyTorch, and for the build pybind11,
scikit-build-core, cmake and ninja. nvcc, compute-sanitizer and ncu are looked for on PATH, then in
CUDA_HOME and /usr/local/cuda. A stage ends as one of

    passed, failed
    partly     time ran out; what was measured is kept, and the next call goes on there
    not run    a tool or library is missing, or less time is left than the stage takes

--minutes: nothing begins that would take longer than what is left, and the call ends in time.
--out ($OUT, else build/gpu/out) gets at most four files: figures.json, the rows that were measured;
gpu.log; package.zip, what was built and which stages have passed; ncu.csv, the profiler's table.
Everything else is in build/gpu, where the next call goes on; elsewhere one goes on from a folder
with such a package.zip and figures.json: --from.

Of NCCL the tests run what one GPU can show (tests/test_gpu_layers.py); between several GPUs nobody
has run it.

Exit status 1: a stage failed, all were tried. 3: none failed, some are partly done or not run.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "gpu"
SITE, PACKAGE, STATE = WORK / "site", WORK / "package.zip", WORK / "state.json"
FIGURES, PROFILE = WORK / "figures.json", WORK / "ncu.csv"
PYTHON = os.environ.get("PYTHON", sys.executable)
SOURCES = ("CMakeLists.txt", "pyproject.toml", "cmake", "csrc", "python", "tests/cases")

MOST_SECONDS = 600.0  # of one stage, or twice what it takes
TO_WRITE = 0.03  # of all the time, for the files at the end
TO_START = 30.0  # seconds of a benchmark before its first row and in its last one
MOST_PACKAGE = 16 << 20  # bytes
MOST_LOG = 256 << 10  # of one stage in gpu.log; build/gpu has all of it
BUILD_SECONDS = 1500.0  # of one processor, for one architecture; the longest file takes 180

PROFILED = 6  # rows
METRICS = (
    "gpu__time_duration.sum", "dram__bytes_read.sum", "dram__bytes_write.sum",
    "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "sm__warps_active.avg.pct_of_peak_sustained_active", "launch__registers_per_thread",
)  # fmt: skip
# One of each kind, of what a wrong build or a wrong driver breaks first.
CHECKS = (
    "elementwise_kernels", "masks_give", "products_around", "same_bits", "current_stream",
    "host_does_not_wait", "captured", "each_replay", "labels_out_of_range",
)  # fmt: skip

# Rows of the benchmark that are measured before all others, as far as time reaches.
FIRST = (
    "adamw (1 tensor of 1 G|1000 tensors of 68 M|120 tensors of [0-9.]+ M( graph)?)",
    r"clip\+adamw\+zero (1 tensor of 1 G|1000 tensors of 68 M|120 tensors of 5 M)",
    "global_norm 1 G (float32|bfloat16)",
    "dropout 1 G bfloat16",
    r"bn\+relu (fwd|fwd\+bwd) 256x(64x112x112|256x56x56|128x28x28|512x7x7) .*",
    "cross_entropy 8192x50257 bfloat16",
    r"bn\+relu\+dropout fwd 4096x1024 .*",
)

Words = list[str]


class Stage(NamedTuple):
    """What is run; where it says so, how long it takes and what it cannot do without."""

    command: Callable[[float], Words]  # for so many seconds
    seconds: float
    needs: tuple[str, ...] = ()
    cut: bool = False  # it ends by itself when time runs out, and goes on in the next call
    shows: str = ""  # a pattern in the output of what did its work


def built(seconds: float) -> Words:
    return [
        *(PYTHON, "-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check"),
        *("--no-build-isolation", "--no-deps", "--upgrade", "--target", str(SITE)),
        *(f"-Cbuild-dir={WORK / 'build'}", "."),
    ]


def tested(chosen: str) -> Callable[[float], Words]:
    """Warnings are shown, not errors: on that machine they are those of other libraries."""
    return lambda seconds: [
        *(PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default"),
        *("tests/test_gpu.py", "tests/test_gpu_layers.py", "-k", chosen),
    ]


def measured(*chosen: str) -> Callable[[float], Words]:
    """Rows of a group, or others."""
    return lambda seconds: [
        *(PYTHON, "-m", "onepass.bench", *chosen, "--device", "cuda", "--resume"),
        *("--json", str(FIGURES), "--minutes", f"{max(1.0, seconds - TO_START) / 60:.2f}"),
    ]


def sanitized(tool: str) -> Callable[[float], Words]:
    only = ["--kernel-name", "kernel_substring=onepass"]
    if tool == "initcheck":
        only = []  # it must see what the library's kernels wrote
    return lambda seconds: [
        *(found("compute-sanitizer") or "compute-sanitizer", "--tool", tool, *only),
        *("--error-exitcode", "1", PYTHON, "tests/gpu_kernels.py"),
    ]


def profiled(seconds: float) -> Words:
    rows = "|".join(f"^{re.escape(name)}$" for name in worst(PROFILED))
    return [
        *(found("ncu") or "ncu", "--profile-from-start", "off", "--clock-control", "none"),
        *("--csv", "--page", "raw", "--metrics", ",".join(METRICS)),
        *("--force-overwrite", "--log-file", str(PROFILE)),
        *(PYTHON, "bench/gpu_profile.py", "--only", rows),
    ]


# Seconds are those of one H200 with 16 processors, rounded up.
STAGES = {
    "build": Stage(
        built,
        max(180.0, BUILD_SECONDS / (os.cpu_count() or 1)),
        ("nvcc", "pybind11", "scikit_build_core", "cmake", "ninja"),
    ),
    "check": Stage(tested(" or ".join(CHECKS)), 60.0, ("cupy or torch",), shows=r"\d passed"),
    "bench-first": Stage(
        measured("--only", f"^({'|'.join(FIRST)})$"), 2 * TO_START, ("torch",), cut=True
    ),
    **{
        f"bench-{group}": Stage(measured(group), 2 * TO_START, ("torch",), cut=True)
        for group in ("optim", "dropout", "norm", "loss", "activation", "conv")
    },
    **{
        f"test-{name}": Stage(
            tested(f"{name} or test_gpu_layers"), 120.0, (name,), shows=r"\d passed"
        )
        for name in ("cupy", "torch")
    },
    "profile": Stage(profiled, 90.0, ("ncu", "torch", "figures")),
    **{
        tool: Stage(
            sanitized(tool), 240.0, ("compute-sanitizer", "cupy or torch"), shows=r"\d calls"
        )
        for tool in ("memcheck", "racecheck", "synccheck", "initcheck")
    },
}


# -------------------------------------------------------------------------------------- the machine


@functools.cache
def found(tool: str) -> str | None:
    """Where a program of the CUDA toolkit is; None where it is missing."""
    homes = [os.environ.get("CUDA_HOME", ""), "/usr/local/cuda"]
    path = [os.environ.get("PATH", ""), *(str(Path(home, "bin")) for home in homes if home)]
    return shutil.which(tool, path=os.pathsep.join(path))


@functools.cache
def is_here(need: str) -> bool:
    """A tool, a module, or one of several."""
    if need == "figures":
        return bool(worst(1))
    if " or " in need:
        return any(map(is_here, need.split(" or ")))
    if need in ("nvcc", "ncu", "compute-sanitizer"):
        return found(need) is not None
    if need in ("cmake", "ninja") and shutil.which(need):
        return True
    return said([PYTHON, "-c", f"import {need}"]) is not None


def said(command: Words) -> str | None:
    """What a command prints; None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def worst(count: int) -> Words:
    """The names of the rows that are farthest from the limit of memory, of single calls."""
    if not FIGURES.exists():
        return []
    results = json.loads(FIGURES.read_text(encoding="utf-8"))["results"]
    shares = {
        result["row"]: result["seconds"]["limit"] / result["seconds"]["onepass"]
        for result in results
        if "limit" in result.get("seconds", ()) and "graph" not in result["row"]
    }
    return sorted(shares, key=shares.__getitem__)[:count]


def architectures() -> str:
    """Of every GPU of the machine, each once: 90-real, or 89-real;90-real."""
    listed = said(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]) or ""
    numbers = {int(line.replace(".", "")) for line in listed.split() if re.match(r"\d+\.\d$", line)}
    return ";".join(f"{number}-real" for number in sorted(numbers))


def identity() -> str:
    """What a package is built from and for."""
    digest = hashlib.sha256()
    for source in SOURCES:
        top = ROOT / source
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.suffix not in (".so", ".pyc") and path.is_file():
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    for text in (architectures(), sysconfig.get_config_var("EXT_SUFFIX")):
        digest.update(f"{text}\0".encode())
    return digest.hexdigest()


# ------------------------------------------------------------------------- what earlier calls found


def unpack(folder: Path) -> None:
    """Put what an earlier call wrote to a folder in the place of what build/gpu has."""
    for path in (PACKAGE, FIGURES, STATE, PROFILE):
        path.unlink(missing_ok=True)
    shutil.rmtree(SITE, ignore_errors=True)
    with zipfile.ZipFile(folder / PACKAGE.name) as archive:
        archive.extractall(SITE)
        STATE.write_bytes(archive.comment or b"{}")  # of another origin: built anew
    shutil.copyfile(folder / PACKAGE.name, PACKAGE)
    if (folder / FIGURES.name).exists():
        shutil.copyfile(folder / FIGURES.name, FIGURES)


def pack() -> None:
    with zipfile.ZipFile(PACKAGE, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(SITE.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                archive.write(path, path.relative_to(SITE))


class Known:
    """How each stage ended, of the sources as they are: `words`, and how long it took."""

    def __init__(self) -> None:
        state = json.loads(STATE.read_text(encoding="utf-8")) if STATE.exists() else {}
        self.identity = identity()
        self.seconds: dict[str, float] = state.get("seconds", {})
        self.words: dict[str, str] = {}
        self.lines: Words = []  # to be said
        if PACKAGE.exists() and state.get("identity") == self.identity:
            self.words = state["words"]
            return
        if PACKAGE.exists():
            self.lines.append("package.zip is of other sources or GPUs: built anew")
            PACKAGE.unlink()
        if FIGURES.exists():
            self.lines.append("figures.json is of another build: now it is figures-old.json")
            FIGURES.replace(WORK / "figures-old.json")
        PROFILE.unlink(missing_ok=True)

    def text(self) -> str:
        names = ("identity", "words", "seconds")
        return json.dumps({name: getattr(self, name) for name in names})

    def ended(self, stage: str, word: str, seconds: float) -> None:
        self.words[stage] = word
        if word == "passed":
            self.seconds[stage] = round(seconds, 1)
        STATE.write_text(self.text(), encoding="utf-8")


# ------------------------------------------------------------------------------------- one call


class Call:
    """Runs stages until its time is over, and writes what came of them."""

    def __init__(self, began: float, minutes: float, out: Path) -> None:
        self.end = began + 60 * minutes * (1 - TO_WRITE)
        self.out = out
        self.known = Known()
        self.log: Words = [*about(), *self.known.lines]
        self.chosen: Words = []

    def run(self, chosen: Words) -> int:
        self.chosen = chosen or list(STAGES)
        try:
            for name in self.chosen:
                before = self.known.words.get(name)
                if before == "passed" and not (chosen and name in chosen):
                    self._say(f"== {name}: passed before")
                else:
                    self._say(f"== {name}")
                    self._try(name)
        finally:  # also where the call was interrupted
            status = self._summary()
            self._deliver()
        return status

    def _try(self, name: str) -> None:
        stage = STAGES[name]
        left = self.end - time.monotonic()
        takes = stage.seconds if stage.cut else self.known.seconds.get(name, stage.seconds)
        missing = [need for need in stage.needs if not is_here(need)]
        if name != "build" and self.known.words.get("build") != "passed":
            self._ended(name, "not run: onepass is not built")
        elif missing:
            self._ended(name, f"not run: missing {', '.join(missing)}")
        elif takes > left:
            self._ended(name, f"not run: takes about {takes:.0f} s, {max(0, left):.0f} s are left")
        else:
            self._run(name, stage, min(left, max(MOST_SECONDS, 2 * stage.seconds)))

    def _run(self, name: str, stage: Stage, seconds: float) -> None:
        log = WORK / f"{name}.log"
        began = time.monotonic()
        status = watched(stage.command(seconds), environment(name), log, seconds)
        text = log.read_text(encoding="utf-8", errors="replace")
        self.log.append(text if len(text) < MOST_LOG else "[…]\n" + text[-MOST_LOG:])
        took = time.monotonic() - began
        if status is None:
            word = f"failed: stopped after {took:.0f} s"
        elif status:
            word = f"failed: exit status {status}"
        elif not re.search(stage.shows, text):
            word = "not run: nothing of it could run here"  # each test was skipped
        elif stage.cut and re.search(r"^out of time before ", text, re.MULTILINE):
            word = "partly"
        else:
            word = "passed"
        if name == "build" and word == "passed":
            pack()
        self._ended(name, word, took)

    def _ended(self, name: str, word: str, seconds: float = 0.0) -> None:
        self.known.ended(name, word, seconds)
        self._say(f"== {name}: {word}" + (f", {seconds:.0f} s" if seconds else ""))

    def _say(self, line: str) -> None:
        self.log.append(line)
        print(line, flush=True)

    def _summary(self) -> int:
        """A line for each way to end; the exit status."""
        ways: dict[str, Words] = {"passed": [], "partly": [], "not run": [], "failed": []}
        for name in self.chosen:
            word = self.known.words.get(name, "not run: the call ended before")
            ways[word.partition(":")[0]].append(name)
        for way, names in ways.items():
            if names:
                self._say(f"{way}: {' '.join(names)}")
        if ways["failed"]:
            return 1
        return 3 if ways["partly"] or ways["not run"] else 0

    def _deliver(self) -> None:
        """The four files, as far as there is something to write."""
        self.out.mkdir(parents=True, exist_ok=True)
        if PACKAGE.exists() and PACKAGE.stat().st_size <= MOST_PACKAGE:
            shutil.copyfile(PACKAGE, self.out / PACKAGE.name)
            with zipfile.ZipFile(self.out / PACKAGE.name, "a") as archive:
                archive.comment = self.known.text().encode()
        elif PACKAGE.exists():
            self._say(f"package.zip is left in build/gpu: it has {PACKAGE.stat().st_size} bytes")
        for path in (FIGURES, PROFILE):
            if path.exists():
                shutil.copyfile(path, self.out / path.name)
        (self.out / "gpu.log").write_text("\n".join(self.log) + "\n", encoding="utf-8")


def about() -> Iterator[str]:
    """The machine and its tools, for the head of the log."""
    yield said(["nvidia-smi"]) or "nvidia-smi says nothing"
    for tool in ("nvcc", "compute-sanitizer", "ncu"):
        path = found(tool)
        if path is None:
            yield f"{tool}: missing"
        else:
            yield f"{path}: {(said([path, '--version']) or '').splitlines()[-1:]}"
    yield f"{PYTHON}: {sys.version}"


def environment(stage: str) -> dict[str, str]:
    """Of a stage's process."""
    own = {
        "PYTHONPATH": str(SITE),
        "PYTHONUNBUFFERED": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    if stage == "build":
        own = {
            "ONEPASS_CUDA": "ON",
            "ONEPASS_CUDA_ARCHS": "",
            "CUDAARCHS": architectures(),
            "CUDACXX": found("nvcc") or "",
        }
    return os.environ | own


def watched(command: Words, variables: dict[str, str], log: Path, seconds: float) -> int | None:
    """Runs a command, whose output goes to a file and, as it comes, to the screen; its exit status,
    None where it was stopped after so many seconds."""
    with log.open("wb") as file, log.open("rb") as shown:

        def show() -> None:
            sys.stdout.buffer.write(shown.read())
            sys.stdout.buffer.flush()

        child = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL,
            stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        end = time.monotonic() + seconds
        try:
            while child.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
                show()
            return child.poll()
        finally:
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)  # with what it started
                child.wait()
            show()


# ------------------------------------------------------------------------------------- the command


def arguments(given: Words | None) -> argparse.Namespace:
    head, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="scripts/gpu", description=head, epilog=rest, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="see --list")
    parser.add_argument("--list", action="store_true", help="name the stages, and run none")
    parser.add_argument("--dry-run", action="store_true", help="show the commands, and run none")
    parser.add_argument("--minutes", type=float, default=math.inf, metavar="N")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT") or WORK / "out"))
    parser.add_argument("--from", type=Path, dest="earlier", metavar="DIR")
    options = parser.parse_args(given)
    for name in options.stages:
        if name not in STAGES:
            parser.error(f"{name!r} is not a stage; expected some of: {' '.join(STAGES)}")
    if not options.minutes > 0:
        parser.error(f"--minutes is {options.minutes}, expected a number above 0")
    if options.earlier and not zipfile.is_zipfile(options.earlier / PACKAGE.name):
        parser.error(f"--from {options.earlier} has no package.zip, which an earlier call wrote")
    return options


def main(given: Words | None = None) -> int:
    began = time.monotonic()
    options = arguments(given)
    if options.list:
        print("\n".join(STAGES))
        return 0
    chosen = [name for name in STAGES if name in options.stages]
    if options.dry_run:
        for name in chosen or STAGES:
            print(f"== {name}\n{shlex.join(STAGES[name].command(MOST_SECONDS))}")
        return 0
    missing = [name for name in ("numpy", "pytest") if not is_here(name)]
    if not architectures():
        missing.insert(0, "an NVIDIA driver with a GPU (nvidia-smi)")
    if missing:
        print(f"scripts/gpu: missing on this machine: {', '.join(missing)}", file=sys.stderr)
        return 1
    WORK.mkdir(parents=True, exist_ok=True)
    if options.earlier:
        unpack(options.earlier)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # it ends by writing its files
    return Call(began, options.minutes, options.out.resolve()).run(chosen)


if __name__ == "__main__":
    sys.exit(main())
