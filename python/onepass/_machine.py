"""What a result was computed on."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any

import numpy as np


def cpu() -> str:
    """The processor's name, as far as the system knows one."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = ""
    found = re.search(r"model name\s*:\s*(.*)", text)
    return found[1] if found else platform.processor() or platform.machine()


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
