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
    """(case, dtype, shape, options, whether its arrays are views) of each call: every record once,
    on the largest of its rows of up to 3000 elements, dtypes and options in turn; norms once more
    on each shape of SHARED, windows in both layouts, alone and eight channels at once, and every
    third elementwise kernel on views, for which each has code of its own.

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
                options = fits[turn % len(fits)]
                yield case, DTYPES[turn % len(DTYPES)] or "float16", shape, options, False
                turn += 1
            continue
        for shape in shapes:
            dtype = DTYPES[turn % len(DTYPES)]
            options = case.options[turn % len(case.options)]
            yield case, dtype or "float16", shape, options, False
            if case.elementwise and turn % 3 == 0:
                yield case, dtype or "float16", shape, options, True
            turn += 1


def run(copy) -> int:
    """All calls, on what `copy` makes of NumPy's arrays; how many they are."""

    def as_view(a):
        """Every second element along the last axis of an array."""
        return copy(np.repeat(a, 2, -1))[..., ::2] if a.ndim else copy(a)

    calls = 0
    for case, dtype, shape, options, views in chosen():
        place = as_view if views else copy
        inputs = case.inputs(shape, dtype, options)
        try:
            inputs = mapped(place, inputs)
        except (TypeError, ValueError):  # a library without bfloat16
            inputs = mapped(place, case.inputs(shape, "float16", options))
        case.run(inputs, options)
        calls += 1
    for out in (np.zeros(9001, np.bool_), np.zeros(1126, np.uint8)):
        ops.dropout_mask(9001, 0.3, seed=1, packed=out.dtype != np.bool_, out=copy(out))
        calls += 1
    return calls


def main() -> int:
    copy, wait = to_device()
    calls = run(copy)
    wait()
    print(f"{calls} calls")
    return 0


if __name__ == "__main__":
    sys.exit(main())
