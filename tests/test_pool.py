"""The thread pool, csrc/cpu/parallel.h: compiles tests/cpp/parallel_test.cpp and runs it.

ThreadSanitizer runs the same checks, those of fork included. It sees the futex as no more than a
pause, so whatever it accepts is ordered by the pool's atomics alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    ROOT / name
    for name in ("tests/cpp/parallel_test.cpp", "csrc/cpu/parallel.cpp", "csrc/cpu/cpus.cpp")
]
BUILDS = {
    "plain": ["-O2"],
    "condition_variable": ["-O2", "-DONEPASS_FUTEX=0"],
    "tsan": ["-O1", "-fsanitize=thread"],
    "tsan_condition_variable": ["-O1", "-fsanitize=thread", "-DONEPASS_FUTEX=0"],
}
# A child forked from a threaded process starts threads (which TSan refuses unless told otherwise),
# and TSan would let each of them sleep a second at exit.
VARIABLES = {"ONEPASS_NUM_THREADS", "OMP_NUM_THREADS"}
TSAN_OPTIONS = "halt_on_error=1 die_after_fork=0 atexit_sleep_ms=50"


def build(directory: Path, flags: list[str]) -> Path:
    """Compiles the test program; skips where this machine cannot."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile the test program with")
    program = directory / "parallel_test"
    flags = ["-std=c++17", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", *flags]
    command = [compiler, *flags, *map(str, SOURCES), "-o", str(program)]
    result = subprocess.run(command, capture_output=True, text=True)
    if "cannot find" in result.stderr and "tsan" in result.stderr:
        pytest.skip("g++ has no ThreadSanitizer library")
    assert result.returncode == 0, result.stderr
    return program


def run(*command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    environment = {**inherited, "TSAN_OPTIONS": TSAN_OPTIONS, **env}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("parallel"), BUILDS["plain"])


@pytest.mark.parametrize("name", BUILDS)
def test_pool(name: str, tmp_path: Path) -> None:
    program = build(tmp_path, BUILDS[name])
    result = run(program)
    if "unexpected memory mapping" in result.stderr:  # TSan of older compilers, newer kernels
        setarch = shutil.which("setarch")
        result = run(setarch, "-R", program) if setarch else result
        if setarch is None or "Operation not permitted" in result.stderr:
            pytest.skip("ThreadSanitizer cannot map its memory here")
    assert (result.returncode, result.stdout, result.stderr) == (0, "ok\n", "")


@pytest.mark.skipif(shutil.which("taskset") is None, reason="no taskset to allow a single CPU with")
def test_pool_on_one_cpu(plain: Path) -> None:
    cpu = min(os.sched_getaffinity(0))
    result = run("taskset", "-c", str(cpu), plain)
    assert (result.returncode, result.stdout, result.stderr) == (0, "ok\n", "")
    assert run("taskset", "-c", str(cpu), plain, "threads").stdout == "1\n"


def usable_cpus(program: Path) -> int:
    """Of the affinity mask, within the quota, of which the next test knows what is right."""
    quota = int(run(program, "/proc/self/cgroup", "/sys/fs/cgroup").stdout)
    return min(len(os.sched_getaffinity(0)), quota or 1024, 1024)


@pytest.mark.parametrize(
    ("process", "files", "cpus"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "100000 100000"}, 1),
        ("0::/", {"cpu.max": "1000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, 0),
        ("0::/", {"cpu.max": ""}, 0),
        ("0::/", {"cpu.max": "100000"}, 0),
        ("0::/", {"cpu.max": "100000 0"}, 0),
        ("0::/", {}, 0),
        ("", {"cpu.max": "100000 100000"}, 0),
        ("nonsense", {"cpu.max": "100000 100000"}, 0),
        # The least of a group and of those around it.
        ("0::/a/b", {"a/b/cpu.max": "800000 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/a/b", {"a/b/cpu.max": "200000 100000", "cpu.max": "300000 100000"}, 2),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "cpu.max": "300000 100000"}, 3),
        ("0::/a b/c:d", {"a b/c:d/cpu.max": "400000 100000"}, 4),
        # A container that sees its own group as the root, and the path of the machine.
        ("0::/docker/0f", {"cpu.max": "300000 100000"}, 3),
        # The first version, whose folder has the names of several controllers or a link to it.
        ("4:cpu,cpuacct:/a", {"cpu,cpuacct/a/cpu.cfs_quota_us": "250000\n",
                              "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"}, 3),
        ("4:cpuacct,cpu:/docker/0f", {"cpu/cpu.cfs_quota_us": "50000",
                                      "cpu/cpu.cfs_period_us": "100000"}, 1),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 0),
        ("4:cpuset:/", {"cpuset/cpu.cfs_quota_us": "100000",
                        "cpuset/cpu.cfs_period_us": "100000"}, 0),
        # Both at once.
        ("4:cpu:/a\n0::/a", {"cpu/a/cpu.cfs_quota_us": "300000",
                             "cpu/a/cpu.cfs_period_us": "100000",
                             "a/cpu.max": "max 100000"}, 3),
    ],
)  # fmt: skip
def test_quotas_of_control_groups(
    plain: Path, tmp_path: Path, process: str, files: dict[str, str], cpus: int
) -> None:
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "cgroup").write_text(process)
    assert run(plain, tmp_path / "cgroup", tmp_path / "root").stdout == f"{cpus}\n"


@pytest.mark.parametrize("value", ["1", "3", "1024"])
def test_number_of_threads_from_the_environment(plain: Path, value: str) -> None:
    assert run(plain, "threads", ONEPASS_NUM_THREADS=value).stdout == f"{value}\n"


@pytest.mark.parametrize("value", [None, "", "0", "-2", "1025", "3x", "two", "9" * 30])
def test_number_of_threads_by_default(plain: Path, value: str | None) -> None:
    env = {} if value is None else {"ONEPASS_NUM_THREADS": value}
    assert run(plain, "threads", **env).stdout == f"{usable_cpus(plain)}\n"


@pytest.mark.parametrize(
    ("own", "openmp", "threads"),
    [
        (None, "3", "3"),
        (None, "4,2", "4"),
        (None, " 5 , 2 ", "5"),
        (None, "5000", "1024"),
        ("", "3", "3"),
        ("2", "3", "2"),
        ("2", "many", "2"),
        ("0", "3", "3"),
    ],
)
def test_number_of_threads_of_openmp(
    plain: Path, own: str | None, openmp: str, threads: str
) -> None:
    env = {} if own is None else {"ONEPASS_NUM_THREADS": own}
    assert run(plain, "threads", OMP_NUM_THREADS=openmp, **env).stdout == f"{threads}\n"


@pytest.mark.parametrize("value", ["", "0", "-1", "two", "4,", "4,x", "4;2", "1.5"])
def test_what_openmp_does_not_take_is_ignored(plain: Path, value: str) -> None:
    assert run(plain, "threads", OMP_NUM_THREADS=value).stdout == f"{usable_cpus(plain)}\n"


@pytest.mark.parametrize(
    ("variables", "ignored"),
    [
        ({"OMP_NUM_THREADS": "4,2"}, None),
        ({"OMP_NUM_THREADS": ""}, None),
        ({"OMP_NUM_THREADS": "many"}, "OMP_NUM_THREADS is 'many', expected a number of threads"),
        ({"ONEPASS_NUM_THREADS": "0"}, "ONEPASS_NUM_THREADS is '0', expected a number of threads"),
        ({"ONEPASS_NUM_THREADS": "2", "OMP_NUM_THREADS": "many"}, None),
    ],
)
def test_import_says_which_variable_it_ignores(
    variables: dict[str, str], ignored: str | None
) -> None:
    result = run(sys.executable, "-c", "import onepass", **variables)
    assert result.returncode == 0, result.stderr
    assert (ignored or "") in result.stderr
    assert ("RuntimeWarning" in result.stderr) == (ignored is not None)


@pytest.mark.parametrize(
    ("variables", "ignored"),
    [
        ({"ONEPASS_BLAS_THREADS": "bogus"}, "ONEPASS_BLAS_THREADS is 'bogus', expected 'keep'"),
        ({"ONEPASS_BLAS_THREADS": "1"}, "ONEPASS_BLAS_THREADS is '1', expected 'keep'"),
        ({"ONEPASS_CPU_LEVEL": "avx2"}, "ONEPASS_CPU_LEVEL is 'avx2', expected '"),
        ({"ONEPASS_CUDA_CHECK": "yes"}, "ONEPASS_CUDA_CHECK is 'yes', expected '0' or '1'"),
        ({"ONEPASS_NUM_THREADS": "all"}, "ONEPASS_NUM_THREADS is 'all', expected a number"),
        ({"ONEPASS_NUM_THREAD": "2"}, "did you mean 'ONEPASS_NUM_THREADS'?; it is ignored"),
    ],
)
def test_a_variable_of_onepass_that_says_nothing_is_told_at_import(
    variables: dict[str, str], ignored: str
) -> None:
    result = run(sys.executable, "-c", "import onepass", **variables)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("RuntimeWarning") == 1
    assert ignored in result.stderr


def test_variables_that_say_what_they_may_are_no_warning() -> None:
    right = {"ONEPASS_BLAS_THREADS": "keep", "ONEPASS_CUDA_CHECK": "1", "ONEPASS_NUM_THREADS": "2",
             "ONEPASS_CUDA": "OFF", "ONEPASS_CUDA_ARCHS": "all",
             "ONEPASS_TEST_TORCH": "1"}  # fmt: skip
    for variables in (right, dict.fromkeys(right, "")):
        assert run(sys.executable, "-W", "error", "-c", "import onepass", **variables).stderr == ""


THREADPOOLCTL = """
import importlib.util, sys

class Old:  # a finder of before Python 3.4, which Python passes over
    def find_module(self, name, path=None):
        return None

sys.meta_path.insert(0, Old())
import {first}
assert importlib.util.find_spec("threadpoolctl")  # to look is not to import
import {second}
assert "threadpoolctl" in sys.modules
import onepass, threadpoolctl
onepass.config.set_num_threads(3)
pools = [p for p in threadpoolctl.threadpool_info() if p["user_api"] == "onepass"]
assert len(pools) == 1 and pools[0]["num_threads"] == 3, pools
assert pools[0]["version"] == onepass.__version__
for limits in (2, {{"onepass": 2}}):
    with threadpoolctl.threadpool_limits(limits):
        assert onepass.config.get_num_threads() == 2
    assert onepass.config.get_num_threads() == 3
with threadpoolctl.threadpool_limits(5000, user_api="onepass"):
    assert onepass.config.get_num_threads() == 1024
with threadpoolctl.threadpool_limits(1, user_api="blas"):
    assert onepass.config.get_num_threads() == 3
assert not any(type(f).__module__.startswith("onepass") for f in sys.meta_path)
assert any(type(f) is Old for f in sys.meta_path)
assert "class" in __import__("inspect").getsource(threadpoolctl)  # its loader is its own again
"""


@pytest.mark.parametrize("names", [("onepass", "threadpoolctl"), ("threadpoolctl", "onepass")])
def test_threadpoolctl_limits_the_pool(names: tuple[str, str]) -> None:
    pytest.importorskip("threadpoolctl")
    code = THREADPOOLCTL.format(first=names[0], second=names[1])
    result = run(sys.executable, "-c", code)
    assert result.returncode == 0, result.stderr


def test_without_threadpoolctl_its_import_fails_as_ever() -> None:
    code = """
import sys, onepass
sys.path[:] = []  # nothing is found any more
sys.modules.pop("threadpoolctl", None)
for _ in range(2):
    try:
        import threadpoolctl
    except ModuleNotFoundError as error:
        assert error.name == "threadpoolctl"
    else:
        raise AssertionError
"""
    result = run(sys.executable, "-c", code)
    assert result.returncode == 0, result.stderr
