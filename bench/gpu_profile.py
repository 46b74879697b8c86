"""Runs our side of rows of `onepass bench --device cuda` once each, for a profiler to watch.

    ncu --profile-from-start off --clock-control none --csv --page raw --metrics METRICS \\
        python bench/gpu_profile.py --only REGEX > profile.csv

Each row is called a few times before the profiled call. The profiler lists the kernels in the order
in which `row NAME` is printed.
"""

from __future__ import annotations

import argparse
import re
import sys

from onepass.bench import _cuda
from onepass.bench._row import Context

WARM_UP = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="REGEX", default="", help="rows whose name matches")
    options = parser.parse_args()
    import torch

    context = Context("cuda")
    for row in _cuda.rows(context):
        if not re.search(options.only, row.name):
            continue
        ours = row.make(context).functions["onepass"]
        for _ in range(WARM_UP):
            ours()
        torch.cuda.synchronize()
        torch.cuda.profiler.start()
        ours()
        torch.cuda.synchronize()
        torch.cuda.profiler.stop()
        print(f"row {row.name}", flush=True)
        del ours
        torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    sys.exit(main())
