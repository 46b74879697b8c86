"""CUDA arrays at the border: on the caller's stream, with the caller's memory, nothing waited for.

Arrays of the CuPy of fake_cupy.py, whose device memory is host memory, and the simulator of
tests/cuda_sim as the CUDA backend. What a kernel computes is checked in test_cuda_backend.py too;
here it is what reaches it and what comes back.
"""

from __future__ import annotations

import fake_cupy
import numpy as np
import pytest
from cases import DTYPES
from helpers import DTYPE_IDS, assert_all_close, assert_all_same, flat
from onepass import _C
from test_cuda_backend import ELEMENTWISE, RUNNABLE, simulable, simulator  # noqa: F401

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)
each_case = pytest.mark.parametrize("case", RUNNABLE, ids=[c.name for c in RUNNABLE])

ADAMW = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}


@pytest.fixture
def cupy(monkeypatch, simulator):  # noqa: F811
    """CuPy, with the simulator behind it."""
    module = fake_cupy.install(monkeypatch)
    simulator.set_order("forward", 0, 4)
    simulator.current_device(0)
    simulator.device_calls()
    _C.set_test_cuda_backend(simulator.device_backend())
    yield module
    _C.set_test_cuda_backend(None)


def to_device(value):
    """NumPy arrays, alone or in lists, as CuPy's."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(to_device, value))
    return fake_cupy.cupy.asarray(value) if isinstance(value, np.ndarray) else value


def to_host(value):
    if isinstance(value, (list, tuple)):
        return type(value)(map(to_host, value))
    return value.get() if isinstance(value, fake_cupy.ndarray) else value


def values(shape, dtype=np.float32):
    return np.random.default_rng(3).standard_normal(shape).astype(dtype)


def smallest(case, count=3):
    """The few shapes of a row that say most for their time."""
    shapes = [s for s in case.shapes if simulable(s) and np.prod(s) <= 600]
    return shapes[-count:]


# ----------------------------------------------------------------------------------- the numbers


@each_dtype
@each_case
def test_against_reference(cupy, case, dtype):
    for shape in smallest(case):
        for options in case.options:
            host = case.inputs(shape, dtype, options)
            want = case.expect(host, options)
            before = fake_cupy.state.synchronised
            got = case.run(to_device(host), options)
            assert fake_cupy.state.synchronised == before, "the host waited for the device"
            for result in flat(got):
                assert result is None or isinstance(result, fake_cupy.ndarray), type(result)
            label = f"{case.name}{shape} {options}"
            assert_all_close(to_host(got), want, case.tolerance, dtype, label)
            if case in ELEMENTWISE:
                want = case.run(case.inputs(shape, dtype, options), options)
                assert_all_same(to_host(got), want, label)
