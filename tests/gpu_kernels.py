"""Every record of a kernel on the GPU, on small odd shapes, for compute-sanitizer: see scripts/gpu.

Uses CuPy, which starts few kernels of its own, or PyTorch where that is missing. Says how many
calls it made; what they compute is checked by test_gpu.py.
"""

from __future__ import annotations

import itertools
import math
import os
import sys

import numpy as np
from cases import BFLOAT16, CASES
from helpers import mapped, to_torch
from onepass import ops


def to_device():
    """(a function that copies an array to the device, one that waits for it). The memory is the
    driver's: within the pool of a library a sanitizer sees no array's end."""
    os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"  # which its first allocation reads
    try:
        import cupy
    except ImportError:
        import torch

        return lambda a: to_torch(np.ascontiguousarray(a)).cuda(), torch.cuda.synchronize
    cupy.cuda.set_allocator(None)
    return cupy.asarray, lambda: cupy.cuda.Device().synchronize()


SHARED = [(2, 3, 91, 93), (4100, 5)]  # several blocks share the sums of a channel
DTYPES = ["float32", "float16", BFLOAT16, "float64"]


def chosen(cases=CASES):
    """(case, dtype, shape, options) of each call: every record once, on the largest of its rows of
    up to 3000 elements, dtypes and options in turn; norms once more on each shape of SHARED, and
    windows in both layouts, alone and eight channels at once.

    A sanitizer takes a second for a call: every combination would take an hour.
    """
    turn = 0
    for case in cases:
        if case.family == "mask":  # below
            continue
        small = [s for s in case.shapes if 0 < math.prod(s) <= 3000]
        shapes = [max(small, key=math.prod), *(SHARED if case.family == "norm" else [])]
        if case.family == "windows":
            for shape, last in itertools.product([(2, 24, 11, 5), (2, 5, 11, 5)], [True, False]):
                alike = [o for o in case.options if o.get("channels_last", False) == last]
                fits = [o for o in alike if np.max(o.get("kernel_size", 1)) <= 5]
                yield case, DTYPES[turn % len(DTYPES)] or "float16", shape, fits[turn % len(fits)]
                turn += 1
            continue
        for shape in shapes:
            dtype = DTYPES[turn % len(DTYPES)]
            yield case, dtype or "float16", shape, case.options[turn % len(case.options)]
            turn += 1


def main() -> int:
    copy, wait = to_device()
    calls = 0
    for case, dtype, shape, options in chosen():
        inputs = case.inputs(shape, dtype, options)
        try:
            inputs = mapped(copy, inputs)
        except (TypeError, ValueError):  # a library without bfloat16
            inputs = mapped(copy, case.inputs(shape, "float16", options))
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
