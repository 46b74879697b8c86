"""``onepass bench``: runs bench/run.py of the source tree, which the package does not contain."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from onepass.cli._output import fail


def bench(arguments: list[str]) -> int:
    """Run it with these arguments; returns its exit status."""
    script = Path("bench") / "run.py"
    here = Path(__file__).resolve()
    for root in (Path.cwd(), here.parents[3]):
        if (root / script).is_file() and (root / "python" / "onepass").is_dir():
            return subprocess.call([sys.executable, str(root / script), *arguments])
    return fail(f"bench: {script} is in onepass's source tree; run this inside it", 2)
