"""scripts/gpu from end to end where there is no GPU: programs of ours stand for the driver, the
compiler, the sanitizer, the profiler, and for Python, pip, pytest and the benchmark."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import types
import zipfile
from pathlib import Path

import pytest
from onepass.bench._row import GROUPS

ROOT = Path(__file__).parents[1]


def script(*arguments, root=ROOT, **environment):
    return subprocess.run(
        [str(root / "scripts" / "gpu"), *map(str, arguments)],
        env=os.environ | {"PYTHON": sys.executable} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_stages():
    stages = script("--list").stdout.split()
    assert stages[:2] == ["build", "check"]
    done = script("--dry-run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line[3:] for line in lines if line.startswith("== ")] == stages
    for command in (line for line in lines if not line.startswith("== ")):
        for word in command.split():
            if word.endswith(".py"):
                assert (ROOT / word).exists(), word
    one = script("--dry-run", "racecheck")
    assert "--tool racecheck" in one.stdout
    assert "pip" not in one.stdout


def test_what_is_checked_first_exists():
    """Each word of the first short look chooses tests."""
    shown = script("--dry-run", "check").stdout
    words = re.search(r"-k '(.+)'", shown)[1].split(" or ")
    tests = re.findall(r"^def (test_\w+)", (ROOT / "tests" / "test_gpu.py").read_text(), re.M)
    assert len(words) > 5
    for word in words:
        assert any(word in name for name in tests), word


def test_groups_of_rows_are_stages():
    stages = script("--list").stdout.split()
    benches = [name for name in stages if name.startswith("bench-")]
    assert benches[0] == "bench-first"
    assert {f"bench-{group}" for group in GROUPS} - {"bench-end-to-end"} == {*benches[1:]}


def test_wrong_use_and_a_machine_without_gpu(tmp_path):
    for arguments, words in {
        ("everything",): "'everything' is not a stage",
        ("--minutes", "0"): "--minutes is 0.0, expected a number above 0",
        ("--from", tmp_path): f"--from {tmp_path} has no package.zip",
    }.items():
        wrong = script(*arguments)
        assert (wrong.returncode, words in wrong.stderr) == (2, True), wrong.stderr
    missing = script(PYTHON="no-such-python")
    assert missing.returncode == 1
    assert missing.stderr == "scripts/gpu: missing on this machine: no-such-python\n"
    if shutil.which("nvidia-smi"):
        pytest.skip("there is an NVIDIA driver")
    missing = script("--out", tmp_path)
    assert missing.returncode == 1
    assert missing.stderr.count("\n") == 1
    assert "an NVIDIA driver with a GPU (nvidia-smi)" in missing.stderr
    assert not list(tmp_path.iterdir())


PROCESS = "build/gpu/process"  # where the last one under a sanitizer leaves its number
FOUR = {"figures.json", "gpu.log", "ncu.csv", "package.zip"}
# Stands for Python, and says what it was given: pip leaves a package, the benchmark figures.
STAND_IN = """
import json, os, pathlib, sys, time
given = sys.argv[1:]
if given[0].endswith("gpu.py"):
    os.execv(sys.executable, [sys.executable, *given])
if given[0] == "-c":
    sys.exit(given[1].removeprefix("import ") in os.environ.get("MISSING", "").split())
names = ("ONEPASS_CUDA", "CUDAARCHS", "CUDACXX", "PYTEST_DISABLE_PLUGIN_AUTOLOAD")
print(*given, {name: os.environ[name] for name in names if name in os.environ})
option = lambda name: pathlib.Path(given[given.index(name) + 1])
if "pip" in given:
    site = option("--target") / "onepass"
    site.mkdir(parents=True, exist_ok=True)
    (site / "_cuda.so").write_bytes(os.urandom(int(os.environ.get("PACKAGE_BYTES", 99))))
    pathlib.Path("build/gpu/build").mkdir(exist_ok=True)
    sys.exit(int(os.environ.get("PIP_FAILS", 0)))
assert (pathlib.Path(os.environ["PYTHONPATH"]) / "onepass" / "_cuda.so").exists()
if "onepass.bench" in given:
    rows = {f"row {i}": {"onepass": 1.0, "limit": 1 - i / 10} for i in range(1, 10)}
    rows["row 0 graph"] = {"onepass": 1.0, "limit": 0.01}
    results = [{"row": row, "seconds": seconds} for row, seconds in rows.items()]
    results.append({"row": "one that is skipped", "skipped": ""})
    option("--json").write_text(json.dumps({"results": results}))
    if float(given[-1]) < float(os.environ.get("BENCH_MINUTES", 0)):
        print("out of time before row 3, 7 rows are left out")
if "pytest" in given:
    print("3 skipped" if os.environ.get("SKIPPED") else "3 passed, 1 skipped")
if "tests/gpu_kernels.py" in given:
    pathlib.Path("build/gpu/process").write_text(str(os.getpid()))
    time.sleep(float(os.environ.get("HANGS", 0)))
    print("99 calls")
"""
TOOLS = {
    "nvidia-smi": "[ $# = 0 ] || printf '9.0\\n8.9\\n9.0\\n'",
    "nvcc": "echo V13",
    "ncu": 'for w; do [ "$l" != --log-file ] || echo metrics >"$w"; l=$w; done; echo "ncu $*"',
    "compute-sanitizer": """[ "$1" != --version ] || exit 0
echo "sanitizer $*"
while [ "$1" != python ]; do shift; done
"$@"
""",
}


@pytest.fixture
def checkout(tmp_path):
    """A function that calls scripts/gpu of a checkout with nothing else in it, where programs stand
    for Python, the driver and the tools of CUDA: `bin` is its PATH, `home` CUDA_HOME, `cuda` its
    /usr/local/cuda."""
    places = ("checkout", "bin", "home/bin", "cuda/bin")
    root, bin_, home, cuda = (tmp_path / name for name in places)
    for folder in (root / "scripts", bin_, home, cuda):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "gpu", root / "scripts")
    text = (ROOT / "scripts" / "gpu.py").read_text()
    assert text.count('"/usr/local/cuda"') == 1
    (root / "scripts" / "gpu.py").write_text(text.replace("/usr/local/cuda", str(cuda.parent)))
    (root / "csrc").mkdir()
    (root / "csrc" / "kernel.cu").write_text("one")
    (bin_ / "python").write_text(f"#!{sys.executable}\n{STAND_IN}")
    for name, program in TOOLS.items():
        folder = {"compute-sanitizer": cuda, "ncu": home}.get(name, bin_)
        (folder / name).write_text(f"#!/bin/sh\n{program}\n")
    for name in ("bash", "dirname"):  # all that it needs of the system
        (bin_ / name).symlink_to(shutil.which(name))
    for path in (*bin_.iterdir(), *home.iterdir(), *cuda.iterdir()):
        if not path.is_symlink():
            path.chmod(0o755)

    def call(*arguments, out="out", **environment):
        return script(
            *("--out", tmp_path / out),
            *arguments,
            root=root,
            **{"PYTHON": "python", "PATH": str(bin_), "CUDA_HOME": str(home.parent)},
            **environment,
        )

    call.root, call.cuda, call.out = root, cuda, tmp_path / "out"
    return call


def ended(done):
    """How each stage ended, by name."""
    lines = re.findall(r"^== ([\w-]+): ([^,:\n]+)", done.stdout, re.M)
    return dict(lines)


def is_gone(checkout):
    """What the sanitizer ran has ended, or is about to."""
    stat = Path("/proc", (checkout.root / PROCESS).read_text(), "stat")
    end = time.monotonic() + 10
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while ") Z " not in stat.read_text():
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
    return True


def test_a_whole_call_of_the_script(checkout):
    done = checkout("--minutes", "60")
    stages = script("--list").stdout.split()
    assert done.returncode == 0, done.stdout + done.stderr
    assert ended(done) == dict.fromkeys(stages, "passed")
    assert {path.name for path in checkout.out.iterdir()} == FOUR
    assert {path.name for path in checkout.root.iterdir()} == {"scripts", "csrc", "build"}
    assert [path.name for path in (checkout.root / "build").iterdir()] == ["gpu"]
    lines = done.stdout.splitlines()
    build = next(line for line in lines if "-m pip install" in line)
    nvcc = checkout.cuda.parents[1] / "bin" / "nvcc"
    assert "'CUDAARCHS': '89-real;90-real'" in build
    assert f"'CUDACXX': '{nvcc}'" in build
    tests = [line for line in lines if "-m pytest" in line]
    assert len(tests) == 3
    for line in tests:
        assert " -W default " in line
        assert "'PYTEST_DISABLE_PLUGIN_AUTOLOAD': '1'" in line
    profiler = next(line for line in lines if line.startswith("ncu --profile"))
    assert re.findall(r"row\\? (\d)", profiler) == list("987654")  # the farthest from the limit
    sanitizers = [line for line in lines if line.startswith("sanitizer --tool")]
    assert [line.split()[2] for line in sanitizers] == stages[-4:]
    log = (checkout.out / "gpu.log").read_text()
    assert f"{checkout.cuda / 'compute-sanitizer'}: " in log
    assert all(line in log for line in lines)


def test_stages_that_passed_are_not_run_again(checkout):
    assert checkout("--minutes", "60").returncode == 0
    again = checkout("--minutes", "60")
    assert set(ended(again).values()) == {"passed before"}
    assert again.returncode == 0
    assert ended(checkout("test-cupy")) == {"test-cupy": "passed"}
    (checkout.root / "csrc" / "kernel.cu").write_text("two")
    other = checkout()
    assert set(ended(other).values()) == {"passed"}
    log = (checkout.out / "gpu.log").read_text()
    assert "package.zip is of other sources or GPUs: built anew" in log
    assert "figures.json is of another build" in log


def test_a_failure_is_the_end_of_one_stage_only(checkout):
    (checkout.cuda / "compute-sanitizer").write_text("#!/bin/sh\nexit 7\n")
    done = checkout()
    assert done.returncode == 1
    assert "\nfailed: memcheck racecheck synccheck initcheck\n" in done.stdout
    assert "== memcheck: failed: exit status 7" in done.stdout
    assert ended(checkout())["build"] == "passed before"
    failed = checkout("build", PIP_FAILS="1")
    assert (ended(failed), failed.returncode) == ({"build": "failed"}, 1)
    assert ended(checkout("memcheck")) == {"memcheck": "not run"}


def test_what_is_missing_has_not_run(checkout):
    """And counts as passed neither in this call nor in a later one."""
    (checkout.cuda / "compute-sanitizer").unlink()
    for _ in range(2):
        done = checkout(MISSING="cupy")
        assert done.returncode == 3
        assert "\nnot run: test-cupy memcheck racecheck synccheck initcheck\n" in done.stdout
        assert "== memcheck: not run: missing compute-sanitizer\n" in done.stdout
        assert "== test-cupy: not run: missing cupy\n" in done.stdout
    skipped = checkout("test-torch", SKIPPED="1")
    assert (ended(skipped), skipped.returncode) == ({"test-torch": "not run"}, 3)
    (checkout.cuda.parents[1] / "bin" / "nvcc").unlink()
    shutil.rmtree(checkout.root / "build")
    done = checkout()
    assert "== build: not run: missing nvcc\n" in done.stdout
    assert set(ended(done).values()) == {"not run"}
    assert {path.name for path in checkout.out.iterdir()} <= FOUR


def test_nothing_begins_that_would_not_end_in_time(checkout):
    done = checkout("--minutes", "0.05")
    assert done.returncode == 3
    assert set(ended(done).values()) == {"not run"}
    assert re.search(r"== build: not run: takes about \d+ s, [0-3] s are left\n", done.stdout)
    assert [path.name for path in checkout.out.iterdir()] == ["gpu.log"]
    # What a stage took is what it takes.
    assert checkout("build", "memcheck", "racecheck", HANGS="3").returncode == 0
    short = checkout("--minutes", "0.04", "racecheck")
    assert "== racecheck: not run: takes about 3 s, " in short.stdout


def test_what_hangs_is_stopped_in_time(checkout):
    assert checkout("build", "memcheck").returncode == 0
    began = time.monotonic()
    hangs = checkout("--minutes", "0.05", "memcheck", HANGS="50")
    assert time.monotonic() - began < 10
    assert re.search(r"== memcheck: failed: stopped after [0-3] s", hangs.stdout)
    assert (checkout.out / "package.zip").exists()
    assert is_gone(checkout)


def test_a_benchmark_goes_on_in_the_next_call(checkout):
    part = checkout("build", "bench-norm", "--minutes", "60", BENCH_MINUTES="60")
    assert (ended(part)["bench-norm"], part.returncode) == ("partly", 3)
    minutes = float(re.search(r"onepass.bench norm .* --minutes ([\d.]+)", part.stdout)[1])
    assert 8 < minutes < 10  # a stage has ten
    assert ended(checkout())["bench-norm"] == "passed"


def test_it_goes_on_elsewhere_from_what_it_wrote(checkout, tmp_path):
    assert checkout("build", "bench-optim", "test-torch").returncode == 0
    built = (checkout.root / "build" / "gpu" / "site" / "onepass" / "_cuda.so").read_bytes()
    shutil.rmtree(checkout.root / "build")
    for name in ("nvcc", "ncu"):  # not needed now
        for folder in ("bin", "home/bin"):
            (tmp_path / folder / name).unlink(missing_ok=True)
    done = checkout("--from", checkout.out, out="second")
    how = ended(done)
    assert [name for name in how if how[name] == "passed before"] == [
        "build", "bench-optim", "test-torch",
    ]  # fmt: skip
    assert how["bench-norm"] == how["memcheck"] == "passed"
    assert "-m pip" not in done.stdout
    again = checkout.root / "build" / "gpu" / "site" / "onepass" / "_cuda.so"
    assert again.read_bytes() == built
    assert {p.name for p in (tmp_path / "second").iterdir()} == FOUR - {"ncu.csv"}
    third = checkout("--from", tmp_path / "second", out="third")
    assert ended(third)["memcheck"] == "passed before"


def test_a_package_of_another_origin_is_not_taken(checkout):
    checkout.out.mkdir()
    with zipfile.ZipFile(checkout.out / "package.zip", "w") as archive:
        archive.writestr("onepass/_cuda.so", "another")
    done = checkout("--from", checkout.out, "build", "memcheck")
    assert ended(done) == {"build": "passed", "memcheck": "passed"}
    assert (
        "package.zip is of other sources or GPUs: built anew"
        in (checkout.out / "gpu.log").read_text()
    )


def test_a_package_that_is_too_large_stays(checkout):
    done = checkout("build", PACKAGE_BYTES=str((16 << 20) + 1))
    assert "package.zip is left in build/gpu: it has 167" in done.stdout
    assert {path.name for path in checkout.out.iterdir()} == {"gpu.log"}


def test_a_call_that_is_ended_writes_what_it_has(checkout, tmp_path):
    """By SIGTERM, as `timeout` does; and what it started ends too."""
    assert checkout("build", "memcheck").returncode == 0
    shutil.rmtree(checkout.out)
    (checkout.root / PROCESS).unlink()
    environment = {"PYTHON": "python", "PATH": str(tmp_path / "bin"), "HANGS": "50"}
    command = [checkout.root / "scripts" / "gpu", "--out", checkout.out, "memcheck"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if line.startswith("sanitizer"):
                while not (checkout.root / PROCESS).exists():
                    time.sleep(0.05)
                child.terminate()
        assert child.wait(timeout=10) == 143
    assert {path.name for path in checkout.out.iterdir()} == {"gpu.log", "package.zip"}
    assert is_gone(checkout)


@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_sanitizers_see_the_memory_of_each_array(monkeypatch, library):
    """The pools of the libraries are off: a sanitizer takes all of a pool for one array."""
    import gpu_kernels

    allocators = ["pool"]
    cupy = types.SimpleNamespace(
        asarray=None, cuda=types.SimpleNamespace(set_allocator=allocators.append)
    )
    monkeypatch.setenv("PYTORCH_NO_CUDA_MEMORY_CACHING", "")
    if library == "torch":
        pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "cupy", cupy if library == "cupy" else None)
    gpu_kernels.to_device()
    assert os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] == "1"
    assert allocators == ["pool", None][: 2 if library == "cupy" else 1]
