"""Runs our side of rows of bench/gpu.py once each, for a profiler to watch.

    ncu --profile-from-start off --clock-control none --csv --page raw --metrics METRICS \\
        python bench/gpu_profile.py --only REGEX > profile.csv

Each row is called a few times before the profiled call. The profiler lists the kernels in the order
in which `row NAME` is printed.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent)]

WARM_UP = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="REGEX", default="", help="rows whose name matches")
    options = parser.parse_args()
    import gpu
    import torch

    for row in gpu.rows():
        if not re.search(options.only, row.name):
            continue
        functions, _ = row.make()
        ours = functions["onepass"]
        for _ in range(WARM_UP):
            ours()
        torch.cuda.synchronize()
        torch.cuda.profiler.start()
        ours()
        torch.cuda.synchronize()
        torch.cuda.profiler.stop()
        print(f"row {row.name}", flush=True)
        del functions, ours
        torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    sys.exit(main())
