"""What a run was measured on: processor, caches, libraries."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from onepass._machine import caches as caches
from onepass._machine import cpu
from onepass._machine import last_cache as last_cache


def processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# See `_session.restart`.
TUNED_MALLOC = (
    "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184:"
    "glibc.malloc.top_pad=268435456:glibc.malloc.hugetlb=1"
)


def has_tuned_malloc() -> bool:
    """Whether this process began with malloc told to keep its memory."""
    given = os.environ.get("GLIBC_TUNABLES", "")
    return platform.libc_ver()[0] == "glibc" and TUNED_MALLOC in given


def machine() -> dict[str, Any]:
    """For the head of a file of results."""
    import onepass
    from onepass import config
    from onepass.bench._peers import versions

    about = {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu(),
        "cpus": processors(),
        "caches": caches(),
        "level": config.cpu_level(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        "malloc": "tuned" if has_tuned_malloc() else "plain",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "onepass": onepass.__version__,
        **versions(),
    }
    commit = _commit()
    return about | ({"commit": commit} if commit else {})


def _commit() -> str | None:
    """Of the source tree that runs, where it is one."""
    root = Path(__file__).resolve().parents[3]
    if not (root / "csrc").is_dir():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"],
            capture_output=True, text=True, check=True, timeout=5,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
