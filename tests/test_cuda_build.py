"""What nvcc made of the CUDA backend, without a GPU: no kernel spills or has a stack, registers
and shared memory stay within budget.json, dense float32 arrays are moved 16 bytes at a time, and
only the units that include cuda/flushed.h take subnormal values for zero.

Reads the machine code of the installed module for each processor that it was built for:
`CUDAARCHS="75-real;90-real" scripts/test` for the least one too, which scripts/test leaves out
because it takes minutes more.
"""

from __future__ import annotations

import collections
import importlib.util
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import Extent

ROOT = Path(__file__).parents[1]
BUDGET = Path(__file__).parent / "cuda_sim" / "budget.json"
# With --ftz=true, as cmake/cuda.cmake has them.
FLUSHED = {"channel_norms", "losses", "passes", "row_norms", "rows", "workspaces"}
KEPT = {"bias", "dropout", "glu", "pointwise_losses", "windows"}
HOST = {"backend", "host"}
RESOURCES = re.compile(
    r" Function (?P<name>\S+):\s+REG:(?P<registers>\d+) STACK:(?P<stack>\d+) "
    r"SHARED:(?P<shared>\d+) LOCAL:(?P<local>\d+)"
)
SECTION = re.compile(r"\s*\.section\s+\.text\.(\w+)")
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")


def test_every_unit_is_compiled_and_those_that_flush_are_told_to():
    sources = {p.stem: p.read_text() for p in (ROOT / "csrc/cuda").glob("*.cu")}
    assert set(sources) == FLUSHED | KEPT | HOST
    cmake = (ROOT / "cmake/cuda.cmake").read_text()
    library, flushed = re.search(
        r"add_library\(onepass_cuda OBJECT(.*?)\)\s*(?:#[^\n]*\s*)?"
        r"set_source_files_properties\((.*?)PROPERTIES COMPILE_OPTIONS --ftz=true\)",
        cmake,
        re.DOTALL,
    ).groups()
    assert set(re.findall(r"csrc/cuda/(\w+)\.cu", library)) == set(sources)
    assert set(re.findall(r"csrc/cuda/(\w+)\.cu", flushed)) == FLUSHED
    assert {u for u, text in sources.items() if '"cuda/flushed.h"' in text} == FLUSHED


# ------------------------------------------------------------- the machine code of what was built


@pytest.fixture(scope="module")
def cuobjdump():
    """Runs cuobjdump on the module, or nvdisasm on a part of it; yields their lines."""
    built = importlib.util.find_spec("onepass._cuda")
    if built is None:
        pytest.skip("onepass is built without CUDA")
    wheels = [str(p) for d in sys.path for p in Path(d or ".").glob("nvidia/cu1*/bin")]
    path = os.pathsep.join([os.environ["PATH"], *wheels])  # cuobjdump looks for nvdisasm there
    dump = shutil.which("cuobjdump", path=path)
    if dump is None or shutil.which("nvdisasm", path=path) is None:
        pytest.skip("needs cuobjdump: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm")

    def lines(*options: str, tool: str = "", cwd: Path | None = None):
        command = [tool, *options] if tool else [dump, *options, built.origin]
        own = {"env": os.environ | {"PATH": path}, "cwd": cwd}
        with subprocess.Popen(command, **own, stdout=subprocess.PIPE, text=True) as run:
            yield from run.stdout
        assert run.returncode == 0, command

    return lines


def demangled(names: list[str]) -> list[str]:
    tool = shutil.which("cu++filt") or shutil.which("c++filt")
    if tool is None:
        pytest.skip("needs c++filt")
    given = "\n".join(names)
    done = subprocess.run([tool], input=given, capture_output=True, text=True, check=True)
    return [line.replace("(anonymous namespace)::", "") for line in done.stdout.splitlines()]


def short(kernel: str) -> str:
    return re.sub(r"onepass::cuda(_flushed)?::", "", kernel)


def family(kernel: str) -> str:
    """`normalise::sum_kernel` of `void normalise::sum_kernel<float, …>(…)`."""
    return re.match(r"(?:void )?([\w:]+)", short(kernel))[1]


@pytest.fixture(scope="module")
def entries(cuobjdump):
    """What each kernel takes, on each processor."""
    found = []
    parts = "".join(cuobjdump("-res-usage")).split("Fatbin elf code:")[1:]
    for number, part in enumerate(parts):
        own = {"arch": re.search(r"arch = (\w+)", part)[1], "part": number}
        found += [m.groupdict() | own for m in RESOURCES.finditer(part)]
    assert len(found) > 200
    for entry, name in zip(found, demangled([e["name"] for e in found]), strict=True):
        entry["kernel"] = name
        if entry["arch"] == "sm_90":  # a block that has any also has the system's 1 KiB
            entry["shared"] = max(0, int(entry["shared"]) - 1024)
    return found


def test_nothing_spills(entries):
    wrong = [
        f"{e['arch']} {short(e['kernel'])[:150]}: local {e['local']}"
        for e in entries
        if int(e["local"])  # a stack that no instruction uses costs nothing: see below
    ]
    assert not wrong, "\n".join(wrong)


def test_kernels_stay_within_their_budget(entries):
    """ONEPASS_WRITE_BUDGET=1 writes what is used now: for a change that is worth it, and with both
    processors of the heading."""
    used: dict[str, dict[str, int]] = {}
    for e in entries:
        most = used.setdefault(family(e["kernel"]), {"registers": 0, "shared": 0})
        for what in most:
            most[what] = max(most[what], int(e[what]))
    if os.environ.get("ONEPASS_WRITE_BUDGET"):
        BUDGET.write_text(json.dumps(dict(sorted(used.items())), indent=2) + "\n")
    budget = json.loads(BUDGET.read_text())
    assert used.keys() == budget.keys()
    for kernel, most in used.items():
        for what, amount in most.items():
            assert amount <= budget[kernel][what], f"{kernel}: {amount} {what}"


def symbols(cubin: bytes) -> dict[str, int]:
    """The place of each function in the symbol table of a cubin, an ELF file of 64 bits."""
    (start,) = struct.unpack_from("<Q", cubin, 40)
    size, count = struct.unpack_from("<HH", cubin, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", cubin, start + i * size) for i in range(count)]
    found = {}
    for _, kind, _, _, offset, length, names, *_ in sections:
        if kind == 2:  # SHT_SYMTAB
            for place in range(length // 24):
                name, info = struct.unpack_from("<IB", cubin, offset + 24 * place)
                if info & 15 == 2:  # STT_FUNC
                    at = sections[names][4] + name
                    found[cubin[at : cubin.index(b"\0", at)].decode()] = place
    return found


def sampled(entries) -> set[str]:
    """Kernels with a stack, which alone can have local memory; MOVES; and two of each family and
    source: one option of nvcc says for a whole source whether it flushes."""
    wide = re.compile("|".join(wide_functor(functor) for functor, *_ in MOVES))
    chosen = {
        e["name"]
        for e in entries
        if int(e["stack"]) or int(e["local"]) or wide.search(short(e["kernel"]))
    }
    alike: dict[tuple[str, str], list[str]] = {}
    for e in entries:
        alike.setdefault((e["part"], family(e["kernel"])), []).append(e["name"])
    return chosen | {name for names in alike.values() for name in (min(names), max(names))}


@pytest.fixture(scope="module")
def instructions(cuobjdump, entries, tmp_path_factory):
    """(processor, kernel) -> how often it has each instruction; with --all-cases of all kernels."""
    chosen = {e["name"] for e in entries} if Extent.whole else sampled(entries)
    folder = tmp_path_factory.mktemp("cubins")
    collections.deque(cuobjdump("-xelf", "all", cwd=folder), maxlen=0)
    counts: dict[tuple[str, str], collections.Counter] = {}
    for cubin in folder.iterdir():
        arch = re.search(r"\.(sm_\w+)\.cubin", cubin.name)[1]
        places = [str(i) for name, i in symbols(cubin.read_bytes()).items() if name in chosen]
        if places:
            for line in cuobjdump("-c", "-fun", ",".join(places), str(cubin), tool="nvdisasm"):
                if found := SECTION.match(line):
                    of_kernel = counts.setdefault((arch, found[1]), collections.Counter())
                elif found := INSTRUCTION.search(line):
                    of_kernel[found[1]] += 1
    assert {name for _, name in counts} == chosen
    names = demangled([name for _, name in counts])
    return {(a, n): c for ((a, _), c), n in zip(counts.items(), names, strict=True)}


# A kernel, and of how many arrays it loads and stores 16 bytes at a time at least.
MOVES = [(r"Variant<AdamW, 0\w*,.*?::Kernel<float>", 4, 3), ("ActivationForward<Relu<float>", 1, 1)]


def wide_functor(functor: str) -> str:
    return rf"elementwise_kernel<{functor}"


@pytest.mark.parametrize(("functor", "loads", "stores"), MOVES, ids=["AdamW", "Relu"])
def test_dense_arrays_are_moved_16_bytes_at_a_time(instructions, functor, loads, stores):
    wanted = re.compile(wide_functor(functor))
    kernels = {key: c for key, c in instructions.items() if wanted.search(short(key[1]))}
    assert kernels
    for key, counts in kernels.items():
        moved = {"LDG": 0, "STG": 0}
        for name, count in counts.items():
            if name[:3] in moved and ".128" in name:
                moved[name[:3]] += count
        assert moved["LDG"] >= loads, key
        assert moved["STG"] >= stores, key


def test_no_kernel_uses_local_memory(instructions):
    wrong = [
        key for key, counts in instructions.items() if any(n[:3] in ("LDL", "STL") for n in counts)
    ]
    assert not wrong


def test_only_the_flushed_units_flush(instructions):
    """An addition says whether it flushes; what divides and takes roots mixes both."""
    adding = collections.Counter()
    for key, counts in instructions.items():
        plain = sum(c for n, c in counts.items() if n.startswith("FADD") and ".FTZ" not in n)
        flushing = sum(c for n, c in counts.items() if n.startswith("FADD.FTZ"))
        flushed = "onepass::cuda_flushed::" in key[1]
        if flushed:
            assert not plain, key
        elif flushing:
            assert plain, key
        adding[flushed] += plain + flushing > 0
    assert adding[True] > 50
    assert adding[False] > 5
