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
from machine_code import Code

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
def disassembled(cuobjdump, tmp_path_factory):
    """Yields (processor, kernel, a line of its machine code) of the kernels with these names."""
    folder = tmp_path_factory.mktemp("cubins")
    collections.deque(cuobjdump("-xelf", "all", cwd=folder), maxlen=0)

    def lines(chosen: set[str]):
        for cubin in folder.iterdir():
            arch = re.search(r"\.(sm_\w+)\.cubin", cubin.name)[1]
            places = [str(i) for name, i in symbols(cubin.read_bytes()).items() if name in chosen]
            kernel = ""
            if places:
                for line in cuobjdump("-c", "-fun", ",".join(places), str(cubin), tool="nvdisasm"):
                    if found := SECTION.match(line):
                        kernel = found[1]
                    yield arch, kernel, line

    return lines


@pytest.fixture(scope="module")
def instructions(disassembled, entries):
    """(processor, kernel) -> how often it has each instruction; with --all-cases of all kernels."""
    chosen = {e["name"] for e in entries} if Extent.whole else sampled(entries)
    counts: dict[tuple[str, str], collections.Counter] = {}
    for arch, kernel, line in disassembled(chosen):
        if found := INSTRUCTION.search(line):
            counts.setdefault((arch, kernel), collections.Counter())[found[1]] += 1
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


# ------------------------------------------------------------------------------------- hot loops

# The most registers of kernels that users meet most, by their name.
REGISTERS = {
    r"elementwise_kernel<ActivationForward<Relu<float>, float>, float, -1, false": 48,
    r"elementwise_kernel<Variant<AdamW, 0\w*,.*?::Kernel<float>, float, 1, false": 104,
    r"global_norm_kernel<float, true": 64,
    r"rows::plain_kernel<512, 512, 8>": 64,
}


@pytest.mark.parametrize("pattern", REGISTERS)
def test_registers_of_kernels_by_name(entries, pattern):
    found = [e for e in entries if re.search(pattern, short(e["kernel"]))]
    assert found
    for entry in found:
        assert int(entry["registers"]) <= REGISTERS[pattern], (
            entry["arch"],
            short(entry["kernel"]),
        )


NARROW_NORM = r"CallOf<BatchNormRule, \w+, \(normalise::Stored\)2>"
LOOPS = (
    r"global_norm_kernel<float, true, 3840",
    r"elementwise_kernel<Variant<AdamW, 0\w*,.*?::Kernel<float>, float, 1, false, 3840",
    r"rows::plain_kernel<\d+, \d+, 8>",
    rf"normalise::(sum|share|whole|apply)_kernel<float, .*{NARROW_NORM}",
    r"row_norms::\w+_kernel<float,.*Stored\)2",
)


@pytest.fixture(scope="module")
def loops(disassembled, entries):
    """A function: the loops of the kernels whose name has a pattern of LOOPS, by (processor,
    kernel)."""
    wanted = re.compile("|".join(LOOPS))
    chosen = {e["name"]: short(e["kernel"]) for e in entries if wanted.search(short(e["kernel"]))}
    lines: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for arch, kernel, line in disassembled(set(chosen)):
        if kernel in chosen:
            lines[arch, chosen[kernel]].append(line)
    codes = {key: Code(of_kernel).loops() for key, of_kernel in lines.items()}

    def of(pattern: str):
        found = {key: own for key, own in codes.items() if re.search(pattern, key[1])}
        assert found, pattern
        return found

    return of


@pytest.mark.parametrize("width", [4, 8], ids=["float32", "16 bits"])
def test_the_norm_squares_by_one_conversion_and_one_multiply_add(loops, width):
    """Of four loads of 16 bytes: at most 64 instructions for each 8 elements."""
    elements = 4 * width
    for key, own in loops(LOOPS[0]).items():
        squares = [loop for loop in own if loop.count("DFMA") == loop.count("F2F") == elements]
        assert squares, key
        for loop in squares:
            assert loop.count(r"LDG.*\.128") == loop.count("LDG") == 4, key
            turn = loop.turn({"DFMA": elements, "F2F": elements, r"LDG.*\.128": 4})
            assert turn is not None, key
            assert turn <= elements // 8 * 64, (key, turn)


def test_adamw_of_16_bits_takes_few_instructions(loops):
    """Of 8 elements of bfloat16, whose conversion takes another instruction than that of halves."""
    for key, own in loops(LOOPS[1]).items():
        if key[0] == "sm_75":
            continue  # it converts bfloat16 by hand
        turns = [
            turn
            for loop in own
            if loop.count("HADD2") >= 32
            and (turn := loop.turn({r"LDG.*\.128": 4, r"STG.*\.128": 3}, "HADD2|CALL")) is not None
        ]
        assert min(turns) <= 8 * 60, (key, turns)


def test_cross_entropy_takes_few_instructions(loops):
    """Of 32 elements of 16 bits in each of both sweeps, in all: 40 for each, with the device's own
    exponential."""
    for key, own in loops(LOOPS[2]).items():
        turns = {
            loop: turn
            for loop in own
            if (
                turn := loop.turn(
                    {r"LDG.*\.128": 4, "MUFU.EX2": 32}, "HADD2" if key[0] != "sm_75" else "(?!)"
                )
            )
            is not None
        }
        sums = min(t for loop, t in turns.items() if not loop.count("STG"))
        gradients = min(t for loop, t in turns.items() if loop.count(r"STG.*\.128"))
        assert sums + gradients <= 32 * 40, (key, sums, gradients)


def test_batch_norm_of_16_bits_moves_16_bytes_and_divides_in_no_loop(loops):
    """Each kernel for units of eight elements, of planes and of columns (channels last, and (N,
    C)), forward and backward, with light epilogues and any; and the one in memory order."""
    wide: dict[str, set[str]] = collections.defaultdict(set)
    for key, own in loops(LOOPS[3]).items():
        inner = [a for a in own if not any(a is not b and b.inside(a) for b in own)]
        loads = [loop for loop in inner if loop.count("LDG")]
        assert not any(loop.calls(r"div_[us]64|rem_[us]64") for loop in loads), key
        kernel, which = re.search(r"::(\w+)_kernel<float, (.*?Stored)", key[1]).groups()
        if kernel != "apply" and ", 8, " not in which:
            continue
        walks = [loop for loop in inner if loop.count(r"LDG.*\.128")]
        assert walks, key
        if kernel == "apply":  # beside loops for units of four and of one
            assert any(loop.count(r"STG.*\.128") for loop in walks), key
        else:
            assert not any(loop.count(r"(LDG|STG).*\.(64|U16)") for loop in walks), key
        wide[kernel].add(which)
    found = {kernel: len(kinds) for kernel, kinds in wide.items()}
    assert found == {"sum": 8, "share": 8, "whole": 8, "apply": 1}


def test_norms_of_rows_of_16_bits_load_16_bytes(loops):
    found = loops(LOOPS[4])
    assert any(loop.count(r"LDG.*\.128") for own in found.values() for loop in own)
