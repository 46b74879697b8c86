"""CUDA arrays at the border: on the caller's stream, with the caller's memory, nothing waited for.

Arrays of the CuPy of fake_cupy.py, whose device memory is host memory, and the simulator of
tests/cuda_sim as the CUDA backend. What a kernel computes is checked in test_cuda_backend.py too;
here it is what reaches it and what comes back.
"""

from __future__ import annotations

import copy
import pickle

import fake_cupy
import numpy as np
import pytest
from cases import DTYPES
from helpers import DTYPE_IDS, assert_all_close, assert_all_same, flat
from onepass import _C, ops, optim
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


# ------------------------------------------------------------------------------- optimizer steps


def steps_of(cls, arrays, gradients, wrap, **options):
    """Parameters, states, counts and infos after a step for each list of gradients."""
    params = [wrap(a.copy()) for a in arrays]
    optimizer = cls(params)
    infos = [
        optimizer.step([None if g is None else wrap(g) for g in grads], **options)
        for grads in gradients
    ]
    state = optimizer.state_dict()["state"]
    values = [[to_host(v) for k, v in state[i].items() if k != "step"] for i in sorted(state)]
    counts = {i: entry["step"] for i, entry in state.items()}
    return [to_host(p) for p in params], values, counts, [tuple(info) for info in infos]


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.1, weight_decay=0.01, amsgrad=True),
    "adamw": lambda p: optim.AdamW(p, lr=0.1, maximize=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_norm": 0.5},
        {"nonfinite": "skip"},
        {"max_norm": 0.5, "max_value": 0.4, "grad_scale": 4.0, "nonfinite": "skip"},
        {"nonfinite": "skip", "zero_grad": True},
    ],
    ids=lambda o: "-".join(o) or "plain",
)
def test_steps_are_those_of_the_cpu(cupy, name, options):
    """Also a skipped step, a missing gradient, an empty parameter, and counts that differ by it."""
    arrays = [values((5, 7)), values(0), values(3), values(70, np.float64)]
    rng = np.random.default_rng(5)
    gradients = [[rng.standard_normal(a.shape).astype(a.dtype) for a in arrays] for _ in range(5)]
    gradients[1][2] = None
    if "nonfinite" in options:
        gradients[2][3] = gradients[2][3].copy()
        gradients[2][3][7] = np.inf
    on_cpu = [[None if g is None else g.copy() for g in grads] for grads in gradients]
    want = steps_of(OPTIMIZERS[name], arrays, on_cpu, lambda a: a, **options)
    zeroed = []
    got = steps_of(
        OPTIMIZERS[name], arrays, gradients, lambda a: zeroed.append(to_device(a)) or zeroed[-1],
        **options,
    )  # fmt: skip
    if "max_norm" in options:  # sums in another order: the last bits
        for results, wanted in zip(got[:2], want[:2], strict=True):
            for g, w in zip(flat(results), flat(wanted), strict=True):
                np.testing.assert_allclose(g, w, rtol=2e-6, atol=1e-7)
        for info, wanted in zip(got[3], want[3], strict=True):
            assert (info[0], info[2]) == (wanted[0], wanted[2])
            assert info[1] == pytest.approx(wanted[1], rel=1e-6)
    else:
        assert_all_same(got[0], want[0], name)
        assert_all_same(flat(got[1]), flat(want[1]), name)
        assert got[3] == want[3]
    assert got[2] == want[2]
    if "zero_grad" in options:
        assert all(not a.get().any() for a in zeroed[len(arrays) :])


def test_a_step_waits_for_nothing_until_its_info_is_read(cupy):
    params = to_device([values(40), values((3, 3))])
    optimizer = optim.AdamW(params)
    gradients = to_device([values(40), values((3, 3))])
    before = fake_cupy.state.synchronised
    first = optimizer.step(gradients, max_norm=1.0, nonfinite="skip")
    gradients[1][0, 0] = cupy.nan
    second = optimizer.step(gradients, nonfinite="skip")
    assert fake_cupy.state.synchronised == before
    assert (first.skipped, second.skipped) == (False, True)
    assert fake_cupy.state.synchronised > before
    assert (first.nonfinite_param, second.nonfinite_param) == (None, 1)
    assert first.grad_norm == pytest.approx(
        np.sqrt(sum((values(s).astype(float) ** 2).sum() for s in (40, (3, 3)))), rel=1e-6
    )
    skipped, norm, index = second
    assert (skipped, norm, index) == (True, None, 1) == second == tuple(second)
    assert second == ops.StepInfo(True, None, 1)
    assert second != first
    assert (second[2], len(second)) == (1, 3)
    assert repr(second) == "StepInfo(skipped=True, grad_norm=None, nonfinite_param=1)"
    assert pickle.loads(pickle.dumps(second)) == second
    assert isinstance(second, ops.StepInfo)


def test_a_step_that_raises_changes_nothing(cupy):
    params = to_device([values(9)])
    optimizer = optim.Adam(params)
    with pytest.raises(FloatingPointError, match=r"gradient of parameter 0 is not finite"):
        optimizer.step([cupy.full(9, cupy.inf, np.float32)], nonfinite="raise")
    assert np.array_equal(params[0].get(), values(9))
    assert optimizer.state_dict()["state"] == {}
    optimizer.step([cupy.ones(9, np.float32)], nonfinite="raise")
    assert optimizer.state_dict()["state"][0]["step"] == 1


def test_states_are_saved_and_loaded(cupy):
    arrays, grads = [values(9), values((2, 4))], [values(9), values((2, 4))]
    one = optim.Adam(to_device([a.copy() for a in arrays]))
    two = optim.Adam([a.copy() for a in arrays])
    for optimizer, wrap in ((one, to_device), (two, lambda a: a)):
        optimizer.step(wrap(grads))
        optimizer.step(wrap(grads))
    saved = one.state_dict()
    assert [saved["state"][i]["step"] for i in (0, 1)] == [2, 2]
    assert isinstance(saved["state"][0]["exp_avg"], fake_cupy.ndarray)
    for saved_by in (two.state_dict(), saved):  # from the host, and from a device
        third = optim.Adam(to_device([a.copy() for a in two._arrays]))
        third.load_state_dict(saved_by)
        for twin in (third, copy.deepcopy(third), pickle.loads(pickle.dumps(third))):
            twin.step(to_device(grads))
            assert twin.state_dict()["state"][1]["step"] == 3
    two.step(grads)
    assert_all_same([to_host(a) for a in third._arrays], two._arrays)
    third.add_param_group({"params": [cupy.ones(3, np.float32)]})
    third.step([None, to_device(grads[1]), cupy.ones(3, np.float32)])
    assert [third.state_dict()["state"][i]["step"] for i in range(3)] == [3, 4, 1]


def test_functions_take_the_step_from_their_argument(cupy):
    def run(wrap):
        arrays = [wrap(np.abs(values(33)) + np.float32(i)) for i in range(4)]
        p, g, m, v = ([a] for a in arrays)
        ops.adamw_(p, g, m, v, step=7, **ADAMW)
        info = ops.adamw_(p, g, m, v, step=[8], nonfinite="skip", **ADAMW)
        return tuple(map(to_host, arrays)), tuple(info)

    got, want = run(to_device), run(lambda a: a)
    assert_all_same(got[0], want[0])
    assert got[1] == want[1] == (False, None, None)
