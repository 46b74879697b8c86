"""Every kernel once on the GPU, on small odd shapes, for compute-sanitizer: see scripts/gpu.

Uses CuPy, which starts few kernels of its own, or PyTorch where that is missing. Says how many
calls it made; what they compute is checked by test_gpu.py.
"""

from __future__ import annotations

import math
import sys

import numpy as np
from cases import BFLOAT16, CASES
from helpers import mapped, to_torch
from onepass import ops


def to_device():
    """(a function that copies an array to the device, one that waits for it)."""
    try:
        import cupy
    except ImportError:
        import torch

        return lambda a: to_torch(np.ascontiguousarray(a)).cuda(), torch.cuda.synchronize
    return cupy.asarray, lambda: cupy.cuda.Device().synchronize()


def shapes_of(case):
    """The largest row of up to 3000 elements, and one in which several blocks share the sums."""
    small = [s for s in case.shapes if 0 < math.prod(s) <= 3000]
    chosen = sorted(small, key=math.prod)[-2:]
    if case.family == "norm":
        chosen += [(2, 3, 91, 93), (4100, 5)]
    return chosen


def main() -> int:
    copy, wait = to_device()
    calls = 0
    for case in CASES:
        if case.family == "mask":  # below
            continue
        for dtype in ("float32", "float64", "float16", BFLOAT16):
            for shape in shapes_of(case):
                for options in case.options:
                    inputs = case.inputs(shape, dtype or "float16", options)
                    try:
                        inputs = mapped(copy, inputs)
                    except (TypeError, ValueError):  # a library without bfloat16
                        continue
                    case.run(inputs, options)
                    calls += 1
    for out in (np.zeros(9001, np.bool_), np.zeros(1126, np.uint8)):
        ops.dropout_mask(9001, 0.3, seed=1, packed=out.dtype != np.bool_, out=copy(out))
        calls += 1
    wait()
    print(f"{calls} calls")
    return 0


if __name__ == "__main__":
    sys.exit(main())
