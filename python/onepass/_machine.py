"""What a result was computed on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np

CPUS = Path("/sys/devices/system/cpu")


def cpu() -> str:
    """The processor's name, as far as the system knows one."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = ""
    found = re.search(r"model name\s*:\s*(.*)", text)
    return found[1] if found else platform.processor() or platform.machine()


def caches() -> dict[str, int]:
    """Bytes of each level of data cache of the first processor: {"L1": …}; empty if not known."""
    found: dict[str, int] = {}
    for folder in sorted((CPUS / "cpu0" / "cache").glob("index*")):
        try:
            kind, level, size = (
                (folder / n).read_text().strip() for n in ("type", "level", "size")
            )
        except OSError:
            continue
        number = re.fullmatch(r"(\d+)([KMG]?)", size)
        if kind != "Instruction" and number:
            scale = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[number[2]]
            found[f"L{level}"] = int(number[1]) * scale
    return found


def last_cache() -> int:
    """Bytes of the last level; 32 MiB if not known."""
    return max(caches().values(), default=32 << 20)


def last_caches(threads: int) -> int:
    """Bytes of the last levels that so many threads may reach: chiplets have one each."""
    found: set[str] = set()
    for number in os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ():
        levels = sorted((CPUS / f"cpu{number}" / "cache").glob("index*"))
        try:
            found.update((level / "shared_cpu_list").read_text() for level in levels[-1:])
        except OSError:
            continue
    return last_cache() * max(1, min(threads, len(found)))


def free_memory() -> int:
    """Bytes of memory that are free; plenty if not known."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            name, _, rest = line.partition(":")
            if name == "MemAvailable":
                return int(rest.split()[0]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return 1 << 40


def environment() -> dict[str, Any]:
    """Versions, the processor and how it is used."""
    import onepass
    from onepass import _C

    return {
        "onepass": onepass.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu(),
        "cpu_level": _C.cpu_level(),
        "threads": _C.get_num_threads(),
    }
