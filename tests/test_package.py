"""What is published: the size of the wheel, its list of parts; and, with ONEPASS_TEST_PACKAGE=1,
the distributions as their users meet them (scripts/package) and the kernels on aarch64
(scripts/aarch64), which take many minutes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zlib
from pathlib import Path

import onepass
import pytest
from onepass import _C

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(onepass.__file__).parent
CASES = ROOT / "tests" / "cases"  # the wheel has them as onepass/bench/_cases
MOST_ON_CPU, MOST_WITH_CUDA = 5_000_000, 15_000_000  # bytes
OF_ENTRY = 300  # of an archive: two headers, and the line of RECORD
each_slow = pytest.mark.skipif(
    os.environ.get("ONEPASS_TEST_PACKAGE") != "1", reason="ONEPASS_TEST_PACKAGE is not 1"
)


def in_the_wheel() -> list[Path]:
    own = [p for p in PACKAGE.rglob("*") if p.suffix in {".py", ".pyi", ".so", ".typed"}]
    own += [p for p in PACKAGE.rglob("*") if p.name == "py.typed"]
    copied = (PACKAGE / "bench" / "_cases").exists()
    return [*dict.fromkeys(own), *([] if copied else CASES.glob("*.py"))]


def packed(path: Path) -> int:
    return len(zlib.compress(path.read_bytes())) + OF_ENTRY


def test_the_wheel_is_small() -> None:
    """What pip would load: an archive compresses each file by itself."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    files = [p for p in in_the_wheel() if p.suffix != ".so" or p.name.endswith(suffix)]
    sizes = {p: packed(p) for p in files}
    of_cuda = sum(size for p, size in sizes.items() if p.name.startswith("_cuda."))
    whole = sum(sizes.values())
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    listed = ", ".join(f"{p.name} {size / 1e6:.2f} MB" for p, size in largest)
    assert whole - of_cuda < MOST_ON_CPU, f"{(whole - of_cuda) / 1e6:.2f} MB: {listed}"
    if _C.cuda_built():
        assert whole < MOST_WITH_CUDA, f"{whole / 1e6:.2f} MB: {listed}"


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


@each_slow
def test_both_distributions_as_their_users_meet_them(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable}
    command = [ROOT / "scripts" / "package", "--twice", tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("built without network: ", "built twice, equal: ", " works: Python "):
        assert words in done.stdout


@each_slow
@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="no qemu-aarch64")
def test_aarch64_has_the_same_bits(tmp_path: Path) -> None:
    command = [ROOT / "scripts" / "aarch64", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" bytes ") == 10
