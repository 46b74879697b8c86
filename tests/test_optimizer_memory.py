"""The memory that a step of an optimizer takes beside the parameters, gradients and states."""

import sys

import numpy as np
import pytest
from helpers import each_variant
from onepass import optim

ELEMENTS = 3_000_000
PEAK = "VmHWM:"


def peak():
    """The most memory in kB that the process has held since `forget_peak`."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(PEAK))


def forget_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells the peak")
@each_variant
def test_a_step_takes_no_memory_in_the_size_of_the_parameters(variant):
    """Where PyTorch's foreach optimizers take as much again as the parameters."""
    shapes = [(ELEMENTS // 3, 3) if i % 2 else (ELEMENTS,) for i in range(2)]
    params = [np.full(s, 0.5, np.float32) for s in shapes]
    grads = [np.full(s, 0.25, np.float32) for s in shapes]
    opt = variant.make(params, lr=1e-3)
    opt.step(grads, max_norm=1.0)  # the first makes what is kept
    forget_peak()
    before = peak()
    for _ in range(3):
        opt.step(grads, max_norm=1.0, grad_scale=2.0)
    more = peak() - before
    assert more * 1024 < sum(p.nbytes for p in params) / 20
    assert params[0][0] != 0.5


def test_large_states_begin_at_different_places_of_a_page():
    params = [np.ones(200_000, np.float32), np.ones(100_000, np.float32)]
    opt = optim.AdamW(params, lr=1e-3, amsgrad=True)
    opt.step([p * 0.5 for p in params])
    states = [opt.state[p] for p in opt.param_groups[0]["params"]]
    keys = ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"]
    assert len({states[0][key].ctypes.data % 4096 for key in keys}) == len(keys)
    assert all(states[0][key].ctypes.data % 1024 == 0 for key in keys)
    for key in keys:  # one stretch of memory, and each state on lines of its own
        first, second = (state[key] for state in states)
        assert second.ctypes.data - first.ctypes.data == first.nbytes
        assert (first != 0).all()
        assert (second != 0).all()
