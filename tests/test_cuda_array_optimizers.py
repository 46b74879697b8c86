"""Optimizers that stand on array operations, over CuPy's arrays with the simulator behind them: the
numbers are those over NumPy's."""

import copy

import numpy as np
import pytest
from helpers import assert_all_same, row_of
from onepass import _C, optim
from small_cuda import to_device, to_host

SHAPES = [(5, 8), (8, 5), (5, 8), (2, 3, 2), (7,), ()]


def arrays(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(s), np.float32) for s in shapes]


@pytest.mark.parametrize("controls", [{}, {"max_norm": 1.0}, {"nonfinite": "skip"}], ids=str)
def test_muon(cupy, controls):
    params = arrays(SHAPES)
    there = to_device(copy.deepcopy(params))
    here, device = optim.Muon(params, lr=0.1), optim.Muon(there, lr=0.1)
    for step in range(4):
        grads = arrays(SHAPES, step + 1)
        if step == 2:
            grads[1] = None
        infos = here.step(grads, **controls), device.step(to_device(grads), **controls)
        assert infos[0].grad_norm == pytest.approx(infos[1].grad_norm)
    bad = arrays(SHAPES, 9)
    bad[0][0] = np.inf
    if controls.get("nonfinite"):
        assert device.step(to_device(bad), **controls).skipped
    for p, q in zip(params, there, strict=True):
        np.testing.assert_allclose(to_host(q), p, 0, 1e-5)
    state = device.state_dict()["state"]
    assert [entry["step"] for entry in state.values()] == [4, 3, 4, 4, 4, 4]


@pytest.mark.parametrize("controls", [{}, {"max_norm": 1.0}, {"nonfinite": "skip"}], ids=str)
def test_sparse_adam(cupy, controls):
    (table,) = arrays([(20, 3)])
    there = to_device(table.copy())
    here, device = optim.SparseAdam([table], lr=0.1), optim.SparseAdam([there], lr=0.1)
    rng = np.random.default_rng(1)
    for _ in range(5):
        indices, values = rng.integers(0, 20, 9), arrays([(9, 3)], rng.integers(99))[0]
        infos = (
            here.step([(indices, values)], **controls),
            device.step([(to_device(indices), to_device(values))], **controls),
        )
        assert infos[0].grad_norm == pytest.approx(infos[1].grad_norm)
        np.testing.assert_allclose(to_host(there), table, 1e-5, 1e-6)
    assert device.state[there]["step"] == 5
    with pytest.raises(IndexError, match="has the index 20, expected 0 <= index < 20"):
        device.step([(to_device(np.array([20])), to_device(values[:1]))])


@pytest.mark.parametrize("search", [None, "strong_wolfe", "backtracking"], ids=str)
def test_lbfgs(cupy, search):
    params = arrays([(4, 2), (3,)])
    there = to_device(copy.deepcopy(params))
    scales = arrays([(4, 2), (3,)], 5)

    def closure(own, scale):
        grads = [np.abs(to_host(s)) * to_host(p) for p, s in zip(own, scale, strict=True)]
        loss = sum(float((to_host(p) * g).sum()) for p, g in zip(own, grads, strict=True)) / 2
        return loss, to_device(grads) if own is there else grads

    for own in (params, there):
        optimizer = optim.LBFGS(own, lr=0.5, line_search_fn=search, max_iter=8)
        optimizer.step(lambda own=own: closure(own, scales))
    for p, q in zip(params, there, strict=True):
        np.testing.assert_allclose(to_host(q), p, 1e-4, 1e-5)
    assert float(np.abs(params[0]).max()) < 0.5


def test_codes_stand_in_c_order_though_no_stage_asks_for_it(cupy):
    """Also beside a parameter that starts within a unit, or that is transposed."""
    (plain,), (grad,) = arrays([(12, 50)]), arrays([(12, 50)], 1)
    row, results = row_of("adamw", 0.1, 0.9, 0.999, 1e-8, 0.01), []

    def within_a_unit(a):
        memory = cupy.zeros(a.size + 1, np.float32)
        memory[1:] = to_device(a.ravel())
        return memory[1:].reshape(a.shape)

    for place in (None, to_device, within_a_unit, lambda a: to_device(a.T.copy()).T):
        size = _C.coded_bytes(plain.size)
        codes = [[np.zeros(size, d)] for d in (np.int8, np.uint8)]
        p, g = plain.copy(), grad
        if place is not None:
            p, g, codes = place(p), place(g), to_device(codes)
        plan = _C.Plan("adamw", [p], [*codes, None], [0], None, ([None], [None]))
        for _ in range(3):
            plan.step([g], (row,), 1.0, None, None, False, False, False, True)
        results.append([np.ascontiguousarray(to_host(p)), *(to_host(held) for (held,) in codes)])
    for result in results[1:]:
        assert_all_same(result, results[0])
