"""The numeric core, csrc/core/{math,philox,dtype}.h: one C++ test program at every instruction set.

Its results are hashed: the hash must not depend on the instruction set. Its only loop must be
vectorised in every instantiation. The headers must also compile for CUDA, without one operation
that would change bits: of the fused ones only muladd's own, in float.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "tests" / "cpp" / "core_test.cpp"
# As in cmake/kernels.cmake.
FLAGS = ["-O2", "-ftree-vectorize", "-fvect-cost-model=dynamic"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
VECTOR_BYTES = {"v2": 16, "v3": 32, "v4": 64}
CUDA_PROBE = """
#include "core/dtype.h"
#include "core/math.h"
#include "core/philox.h"
using namespace onepass;
using namespace onepass::ONEPASS_ISA;
template <class T>
__device__ T functions(T x) {
  return math::exp(x) + math::scaled_expm1(T(-2), x) + math::log(x) + math::log1p(x) +
         math::tanh(x) + math::erf(x) + math::sigmoid(x) + math::sqrt(x) + math::max(x, T(1)) +
         math::min(x, T(2)) + math::copysign(x, T(1)) + (math::isfinite(x) ? T(1) : T(0));
}
__global__ void probe(float* f, double* d, Half* h, BFloat16* b, uint32_t* m, DropoutStream s) {
  int i = threadIdx.x;
  f[i] = functions(f[i]) + to_float(h[i]) + to_float(b[i]) + dropout_scale<float>(s.threshold);
  d[i] = functions(d[i]) + to_double(f[i]) + to_double(b[i]) + dropout_scale<double>(s.threshold);
  h[i] = i % 2 ? from_float<Half>(f[i]) : from_double<Half>(d[i]);
  b[i] = i % 2 ? from_float<BFloat16>(f[i]) : from_double<BFloat16>(d[i]);
  f[i] += from_double<float>(d[i]);
  m[i] = keep_word(s, i);
}
"""


def levels() -> list[str]:
    """The instruction sets this machine can run."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ["base"]
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else {"sse4_2"}
    needs = {"v2": {"sse4_2"}, "v3": {"avx2", "bmi2"}, "v4": {"avx512bw", "avx512dq", "avx512vl"}}
    return [level for level, need in needs.items() if need <= flags]


LEVELS = levels()


def capture(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def compiler() -> str:
    found = shutil.which("g++")
    if found is None:
        pytest.skip("no g++ to compile the test program with")
    return found


@dataclass
class Outcome:
    program: Path
    vectorised: str  # what the compiler reports
    result: subprocess.CompletedProcess[str]


def build_and_run(directory: Path, level: str) -> Outcome:
    program = directory / f"core_test_{level}"
    arch = [] if level == "base" else [f"-march=x86-64-{level}"]
    arch += ["-mprefer-vector-width=512"] if level == "v4" else []
    warnings = ["-Wall", "-Wextra", "-Werror", "-fopt-info-vec-optimized"]
    arch += ["-funswitch-loops"] if level != "v2" else []
    command = [compiler(), "-std=c++17", *FLAGS, *arch, *warnings, f"-DONEPASS_ISA={level}"]
    built = capture(*command, f"-I{ROOT / 'csrc'}", SOURCE, "-o", program)
    assert built.returncode == 0, built.stderr
    mode = ["accuracy"] if level == LEVELS[-1] else []  # the same hash needs no second measurement
    return Outcome(program, built.stderr, capture(program, *mode))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """The test program's outcome at every level."""
    compiler()
    directory = tmp_path_factory.mktemp("core")
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(LEVELS, pool.map(partial(build_and_run, directory), LEVELS), strict=True))


@pytest.mark.parametrize("level", LEVELS)
def test_core(outcomes: dict[str, Outcome], level: str) -> None:
    result = outcomes[level].result
    assert result.returncode == 0, result.stdout + result.stderr


def test_same_bits_at_every_level(outcomes: dict[str, Outcome]) -> None:
    hashes = {level: o.result.stdout.splitlines()[-1] for level, o in outcomes.items()}
    assert all(re.fullmatch(r"hash [0-9a-f]{16}", line) for line in hashes.values()), hashes
    assert len(set(hashes.values())) == 1, hashes


@pytest.mark.parametrize("level", [level for level in LEVELS if level in VECTOR_BYTES])
def test_every_loop_is_vectorised(outcomes: dict[str, Outcome], level: str) -> None:
    if "clang" in capture(compiler(), "-v").stderr:
        pytest.skip("the report is GCC's")
    lines = SOURCE.read_text().splitlines()
    loop = 1 + next(i for i, line in enumerate(lines) if "y[i] = F::f(x[i])" in line)
    symbols = capture("nm", "-C", outcomes[level].program).stdout
    instances = len(set(re.findall(r"::apply<.*", symbols)))
    pattern = rf"core_test\.cpp:{loop}:\d+: .*vectorized using (\d+) byte"
    widths = re.findall(pattern, outcomes[level].vectorised)
    assert instances > 20
    assert widths.count(str(VECTOR_BYTES[level])) == instances, outcomes[level].vectorised


@pytest.mark.skipif("v3" not in LEVELS, reason="compiles for AVX2")
def test_every_optimizer_is_vectorised(tmp_path: Path) -> None:
    """One that is not takes five times as long, and its results are the same."""
    objdump = shutil.which("objdump")
    if objdump is None:
        pytest.skip("no objdump to read the program with")
    unit = tmp_path / "leaves.o"
    source = ROOT / "tests" / "cpp" / "leaves.cpp"
    options = ["-march=x86-64-v3", "-funswitch-loops", "-DONEPASS_ISA=v3", "-c", "-o", unit]
    built = capture(compiler(), "-std=c++17", *FLAGS, f"-I{ROOT / 'csrc'}", *options, source)
    assert built.returncode == 0, built.stderr
    functions = capture(objdump, "-dC", "--no-show-raw-insn", unit).stdout.split("\n\n")
    leaves = [text for text in functions if re.match(r"\w+ <.*::leaf<", text)]
    scalar = [
        text.splitlines()[0] for text in leaves if not re.search(r"v(add|mul)ps .*%ymm", text)
    ]
    assert len(leaves) > 30
    assert not scalar


POWERS = """
#include <cstdio>
#include "core/math.h"
int main() {
  double x;
  unsigned long n;
  while (std::scanf("%lf %lu", &x, &n) == 2) std::printf("%a\\n", onepass::host::math::power(x, n));
}
"""


def test_power_is_as_exact_as_it_says(tmp_path: Path) -> None:
    """Bias corrections: 1 - beta^t, in the same order of products on every machine."""
    source, program = tmp_path / "powers.cpp", tmp_path / "powers"
    source.write_text(POWERS)
    built = capture(compiler(), "-std=c++17", *FLAGS, f"-I{ROOT / 'csrc'}", source, "-o", program)
    assert built.returncode == 0, built.stderr
    counts = [*range(1, 70), 100, 999, 1000, 1023, 12345, 65535, 65536, 99999, 524287, 10**6]
    asked = [(x, n) for x in (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0) for n in counts]
    lines = "\n".join(f"{x!r} {n}" for x, n in asked)
    done = subprocess.run([program], input=lines, capture_output=True, text=True, check=True)
    with localcontext() as context:
        context.prec = 60
        for (x, n), line in zip(asked, done.stdout.splitlines(), strict=True):
            want, got = Decimal(x) ** n, Decimal(float.fromhex(line))
            error = abs(got - want)
            assert error <= want * n * Decimal(2) ** -53 + Decimal(2) ** -1074, (x, n, line)
            assert n > 2 or float.fromhex(line) == x**n  # rounded once at most


def test_cuda_compiles_without_inexact_operations(tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    source, ptx = tmp_path / "probe.cu", tmp_path / "probe.ptx"
    source.write_text(CUDA_PROBE)
    command = [nvcc, "-std=c++17", "--fmad=false", "-arch=compute_80", "-ptx", "-DONEPASS_ISA=cuda"]
    command += ["-Werror", "all-warnings"]
    result = capture(*command, f"-I{ROOT / 'csrc'}", source, "-o", ptx)
    assert (result.returncode, result.stderr) == (0, "")
    inexact = r"\b(?:fma|mad|div|sqrt|ex2|lg2|tanh|rcp|rsqrt)\.[\w.]*f(?:32|64)\b"
    found = set(re.findall(inexact, ptx.read_text()))
    # A contraction that nobody asked for would show in double too.
    assert found == {"div.rn.f32", "div.rn.f64", "sqrt.rn.f32", "sqrt.rn.f64", "fma.rn.f32"}
