"""What is published: the size of the wheel, its list of parts; and, with ONEPASS_TEST_PACKAGE=1,
the distributions as their users meet them (scripts/package), the kernels on aarch64
(scripts/aarch64) and the package without a GIL (scripts/free-threads), which take many minutes."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import onepass
import pytest
from onepass import _C

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(onepass.__file__).parent
CASES = ROOT / "tests" / "cases"  # the wheel has them as onepass/bench/_cases
MOST_ON_CPU, MOST_WITH_CUDA = 5_000_000, 15_000_000  # bytes
each_slow = pytest.mark.skipif(
    os.environ.get("ONEPASS_TEST_PACKAGE") != "1", reason="ONEPASS_TEST_PACKAGE is not 1"
)


def in_the_wheel() -> list[Path]:
    own = [p for p in PACKAGE.rglob("*") if p.suffix in {".py", ".pyi", ".so", ".typed"}]
    own += [p for p in PACKAGE.rglob("*") if p.name == "py.typed"]
    copied = (PACKAGE / "bench" / "_cases").exists()
    return [*dict.fromkeys(own), *([] if copied else CASES.glob("*.py"))]


def archived(files: list[Path]) -> int:
    """Bytes of a wheel of these files and the list of them."""
    memory = io.BytesIO()
    lines = []
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path in files:
            own = path.is_relative_to(PACKAGE)
            name = f"onepass/{path.relative_to(PACKAGE) if own else f'bench/_cases/{path.name}'}"
            wheel.write(path, name)
            digest = hashlib.sha256(path.read_bytes()).digest()
            lines.append(
                f"{name},sha256={base64.urlsafe_b64encode(digest).decode()},{path.stat().st_size}"
            )
        wheel.writestr("onepass.dist-info/RECORD", "\n".join(lines))
    return len(memory.getvalue())


def test_the_wheel_is_small() -> None:
    """What pip would load; with CUDA, of a build for one processor, as for the GPU of a machine."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    files = [p for p in in_the_wheel() if p.suffix != ".so" or p.name.endswith(suffix)]
    on_cpu = archived([p for p in files if not p.name.startswith("_cuda.")])
    assert 1_000_000 < on_cpu < MOST_ON_CPU
    if _C.cuda_built() and os.environ.get("CUDAARCHS", "").count("-real") == 1:
        assert archived(files) < MOST_WITH_CUDA


def test_the_extensions_link_nothing_but_the_system() -> None:
    if shutil.which("readelf") is None:
        pytest.skip("no readelf")
    known = {"libc", "libm", "libstdc++", "libgcc_s", "ld-linux-x86-64", "ld-linux-aarch64"}
    known |= {"libpthread", "libdl", "librt"}  # of glibc before 2.34
    for path in PACKAGE.glob("_*.so"):
        found = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True)
        needed = set(re.findall(r"\(NEEDED\).*\[(.*?)\.so", found.stdout))
        assert needed, found.stdout
        assert needed <= known, f"{path.name} links {sorted(needed - known)}"


@pytest.mark.parametrize("cuda", [False, True])
def test_the_list_of_parts_names_what_is_compiled_in(cuda: bool) -> None:
    """With the versions in the sources; cmake/sbom.cmake fills in those that a build finds."""
    found = {"sbom_cuda": "", "sbom_cuda_ref": ""}
    if cuda:
        text = (ROOT / "cmake" / "sbom.cmake").read_text(encoding="utf-8")
        given = re.findall(r'set\((sbom_\w+) "([^"].*?)"\)\n', text, re.S)
        found = {name: value.replace('\\"', '"') for name, value in given}
        assert set(found) == {"sbom_cuda", "sbom_cuda_ref"}
    template = (ROOT / "cmake" / "sbom.json.in").read_text(encoding="utf-8")
    material = json.loads(re.sub(r"@(\w+)@", lambda m: found.get(m[1], "1.2.3"), template))
    parts = {part["bom-ref"]: part for part in material["components"]}
    assert set(parts) == {"pybind11", "xla-ffi"} | ({"cuda-runtime"} if cuda else set())
    assert {*material["dependencies"][0]["dependsOn"]} == set(parts)
    (header,) = [p for p in (ROOT / "third_party").rglob("*") if p.is_file()]
    own = header.read_text(encoding="utf-8")
    version = ".".join(re.findall(r"#define XLA_FFI_API_M(?:AJOR|INOR) (\d+)", own))
    assert parts["xla-ffi"]["version"] == version
    place = header.relative_to(ROOT).as_posix()
    assert place in parts["xla-ffi"]["description"]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (oldest,) = re.findall(r'"jax>=(.*?)"', project)
    notice = " ".join((ROOT / "NOTICE").read_text(encoding="utf-8").split())
    said = f"is the C interface of XLA's custom calls, version {version}, as jaxlib {oldest} has it"
    assert f"{place} {said}" in notice


@each_slow
def test_both_distributions_as_their_users_meet_them(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable}
    command = [ROOT / "scripts" / "package", "--twice", tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = ("built without network: ", "built twice, equal: ", "manylinux_2_", " works: Python ")
    for words in said:
        assert words in done.stdout


def test_what_aarch64_runs_asks_no_simulator() -> None:
    """scripts/aarch64 links none; the gate has no time to compile it."""
    rule = (ROOT / "cmake" / "levels_test.cmake").read_text(encoding="utf-8")
    left_out = re.findall(r'EXCLUDE REGEX "(.*?)"', rule)[0].replace("\\\\", "\\")
    for part in (ROOT / "tests" / "cuda_sim").glob("backend_test_*.cpp"):
        asks = "cusim" in part.read_text(encoding="utf-8")
        assert asks == bool(re.search(left_out, part.name)), part.name


@each_slow
@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="no qemu-aarch64")
def test_aarch64_has_the_same_bits(tmp_path: Path) -> None:
    command = [ROOT / "scripts" / "aarch64", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" bytes ") == 10


@each_slow
def test_without_a_gil() -> None:
    if not any(shutil.which(f"python3.{minor}t") for minor in (13, 14, 15)):
        pytest.skip("no Python without a GIL")
    command = [ROOT / "scripts" / "free-threads"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "without a GIL: 3." in done.stdout


def test_the_script_asks_for_such_a_python() -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    given = {**os.environ, "PYTHON": "a-python-that-is-not-there"}
    done = subprocess.run(
        [ROOT / "scripts" / "free-threads"], env=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "PYTHON is 'a-python-that-is-not-there', expected an interpreter without" in done.stderr
