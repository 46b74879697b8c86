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


def environment() -> dict[str, Any]:
    """Versions, the processor and how it is used."""
    import onepass
    from onepass import config

    return {
        "onepass": onepass.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu(),
        "cpu_level": config.cpu_level(),
        "threads": config.get_num_threads(),
    }
