"""What calls on CUDA arrays borrow and give back, also where they fail or a graph is captured."""

from __future__ import annotations

import fake_cupy
import numpy as np
import pytest
from helpers import assert_all_same
from onepass import _C, _array, ops, optim
from small_cuda import Foreign, values

relu = _C.activation["relu"]


def calls(cupy):
    """One call of every kind, on arrays that exist already: (call, arrays that it changes)."""
    x, out = cupy.asarray(values((6, 5))), cupy.empty((6, 5), np.float32)
    vector = cupy.ones(5, np.float32)
    mean, var = cupy.zeros(5, np.float32), cupy.ones(5, np.float32)
    labels = cupy.zeros(6, np.int64)
    saved = ops.batch_norm(x, vector, vector, None, None, training=True)[1]
    of_rows, maps = ops.layer_norm(x, 5, vector, vector)[1], x.reshape(2, 3, 5)
    of_groups = [cupy.zeros(3, np.float32), cupy.ones(3, np.float32)]
    p, g = [cupy.ones(40, np.float32)], [cupy.ones(40, np.float32)]
    many = [[cupy.ones(3, np.float32) for _ in range(60)] for _ in range(4)]  # a long table
    optimizer = optim.AdamW(p)
    return {
        "relu": (lambda: ops.relu(x), []),
        "gelu_backward": (lambda: ops.gelu_backward(x, x), []),
        "dropout": (lambda: ops.dropout(x, seed=1), []),
        "bias_act": (lambda: ops.bias_act(x, vector, out=out), [out]),
        "bias_act_backward": (lambda: ops.bias_act_backward(x, x, vector, out=out), [out]),
        "batch_norm": (
            lambda: ops.batch_norm(x, vector, vector, mean, var, training=True, out=out),
            [out, mean, var],
        ),
        "batch_norm_backward": (lambda: ops.batch_norm_backward(x, saved, out=out), [out]),
        "layer_norm": (lambda: ops.layer_norm(x, 5, vector, vector, out=out), [out]),
        "layer_norm_backward": (lambda: ops.layer_norm_backward(x, of_rows, out=out), [out]),
        "instance_norm": (lambda: ops.instance_norm(maps, *of_groups), of_groups),
        "cross_entropy": (lambda: ops.cross_entropy(x, labels, out=out), [out]),
        "global_norm": (lambda: ops.global_norm([x]), []),
        "adamw_": (lambda: ops.adamw_(*many, step=1), [*many[0], *many[2], *many[3]]),
        "step": (
            lambda: optimizer.step(g, max_norm=1.0, nonfinite="skip", zero_grad=True),
            [*p, *g, *optimizer._states["exp_avg"]],
        ),
    }


KINDS = ["relu", "gelu_backward", "dropout", "bias_act", "bias_act_backward", "batch_norm"]
KINDS += ["batch_norm_backward", "layer_norm", "layer_norm_backward", "instance_norm"]
KINDS += ["cross_entropy", "global_norm", "adamw_", "step"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_call_borrows_it_gives_back(cupy, kind):
    call, _ = calls(cupy)[kind]
    call()
    before = len(fake_cupy.state.live)
    call()
    assert len(fake_cupy.state.live) == before


@pytest.mark.parametrize("kind", KINDS)
def test_out_of_memory_is_the_librarys_own_error_and_changes_nothing(cupy, kind):
    call, written = calls(cupy)[kind]
    before = [a.get() for a in written]
    count = fake_cupy.state.allocations
    call()
    assert fake_cupy.state.allocations > count, "nothing was allocated"
    for array, value in zip(written, before, strict=True):
        array.set(value)
    fake_cupy.state.limit = -1
    with pytest.raises(fake_cupy.OutOfMemoryError, match="Out of memory allocating"):
        call()
    assert_all_same([a.get() for a in written], before, kind)
    fake_cupy.state.limit = float("inf")
    call()
    assert not written or any(
        a.get().tobytes() != b.tobytes() for a, b in zip(written, before, strict=True)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("reported", "cure"),
    [
        ("operation would make the legacy stream depend on a capturing stream", "before the capt"),
        ("an illegal memory access was encountered", "CUDA_LAUNCH_BLOCKING=1.*start the process"),
        ("out of memory", "free memory"),
        ("too many resources requested for launch", "not valid"),
    ],
)
def test_a_launch_that_fails(cupy, simulator, kind, reported, cure):
    call, written = calls(cupy)[kind]
    before = [a.get() for a in written]
    simulator.device_fails(reported)
    with pytest.raises(RuntimeError, match=f"CUDA device 0 reports: {reported}; .*{cure}"):
        call()
    assert_all_same([a.get() for a in written], before, kind)
    call()
    assert kind != "global_norm" or float(call()) > 0


def test_a_step_that_failed_was_not_counted(cupy, simulator):
    optimizer = optim.AdamW([cupy.ones(40, np.float32)])
    simulator.device_fails("no luck")
    with pytest.raises(RuntimeError, match=r"^AdamW: CUDA device 0 reports: no luck"):
        optimizer.step([cupy.ones(40, np.float32)])
    optimizer.step([cupy.ones(40, np.float32)])
    assert optimizer.state_dict()["state"][0]["step"] == 1


def test_what_a_graph_must_not_capture_is_refused(cupy, simulator):
    """States and counts that are made in a capture would be zero again at each replay; those of an
    optimizer are made with it."""
    params, grads = [cupy.ones(40, np.float32)], [cupy.ones(40, np.float32)]
    early = optim.AdamW(params)  # made before, without a step
    theirs = Foreign(cupy.zeros(40, np.float32), stream=0x77)
    stream = cupy.cuda.Stream()
    stream.begin_capture()
    try:
        with stream:
            simulator.device_calls()
            said = r"captured, .*first step, before the capture"
            with pytest.raises(RuntimeError, match=said):
                optim.AdamW(params)
            with pytest.raises(RuntimeError, match=r"streams .* 0x77.* outside of the capture"):
                relu(params[0], theirs)
            assert simulator.device_calls() == []
    finally:
        stream.end_capture()
    assert (params[0].get() == 1).all()
    host = [np.ones(40, np.float32)]
    optim.AdamW(host).step([np.ones(40, np.float32)])
    early.step(grads)  # as if nothing had happened
    assert np.array_equal(params[0].get(), host[0])


def test_memory_lent_while_a_graph_is_captured_stays(cupy):
    params, grads = [cupy.ones(40, np.float32)], [cupy.ones(40, np.float32)]
    optimizer = optim.AdamW(params)
    optimizer.step(grads, max_norm=1.0)
    before, kept = len(fake_cupy.state.live), len(_array._captured)
    with cupy.cuda.Stream() as stream:
        stream.begin_capture()
        optimizer.step(grads, max_norm=1.0)
        stream.end_capture()
    assert len(fake_cupy.state.live) == before + 2  # a workspace and the norm
    assert len(_array._captured) == kept + 4  # and the plan's own: counts, and a workspace
    optimizer.step(grads, max_norm=1.0)
    assert len(_array._captured) == kept + 4
    del _array._captured[kept:]
