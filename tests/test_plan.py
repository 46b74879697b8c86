"""The plan of an optimizer step: its arrays, its counts, and what it refuses."""

import sys
import threading

import numpy as np
import pytest
from helpers import Exported, row_of, shifted, values
from onepass import _C

relu = _C.activation["relu"]
HYPER = (row_of("adamw", 0.1, 0.9, 0.999, 1e-8, 0.01),)


def adamw(params, **options):
    states = [[np.zeros_like(p) for p in params] for _ in range(2)]
    return _C.Plan("adamw", params, [*states, None], [0] * len(params)), states


PLAIN, TENTH = (row_of("sgd", lr, 0, 0, 0, 0) for lr in (1.0, 0.1))


def run(plan, grads, hyper=HYPER, *, unscale=1.0, max_value=None, max_norm=None, check=False,
        zero=False, maximize=False):  # fmt: skip
    return plan.step(grads, hyper, unscale, max_value, max_norm, check, zero, maximize, True)


def test_a_plan_holds_its_parameters_and_no_gradient():
    param, grad = np.ones(3, np.float32), np.ones(3, np.float32)
    before = sys.getrefcount(param), sys.getrefcount(grad)
    plan = _C.Plan("sgd", [param], [None], [0])
    plan.step([grad], (TENTH,), 1.0, None, None, False, False, False, True)
    assert sys.getrefcount(param) == before[0] + 1
    assert sys.getrefcount(grad) == before[1]
    del plan
    assert sys.getrefcount(param) == before[0]


def test_a_refused_step_changes_nothing_and_the_next_one_is_right():
    wrong = {
        "shape": np.ones((3, 2), np.float32),
        "dtype": np.ones((2, 3), np.float64),
        "integers": np.ones((2, 3), np.int64),
        "list": [[1.0] * 3] * 2,
        "device": Exported(np.ones((2, 3), np.float32), (2, 0)),
    }
    params = [values(4), values((2, 3))]
    plan, states = adamw(params)
    twins = [p.copy() for p in params]
    twin, _ = adamw(twins)
    grads = [np.ones_like(p) for p in params]
    for label, bad in {**wrong, "parameter": params[1], "state": states[0][1]}.items():
        run(plan, grads)
        run(twin, grads)
        before = [p.copy() for p in params], plan.steps
        with pytest.raises((TypeError, ValueError), match=r"^adamw: 'grads\[1\]'"):
            run(plan, [grads[0], bad])
        with pytest.raises((TypeError, ValueError), match=r"^adamw: 'grads\[1\]'"):
            run(plan, [grads[0], bad])  # nor is it accepted the second time
        assert plan.steps == before[1], label
        for got, want in zip(params, before[0], strict=True):
            assert np.array_equal(got, want), label
    run(plan, grads)
    run(twin, grads)
    for got, want in zip(params, twins, strict=True):
        assert np.array_equal(got, want)


def test_gradients_may_change_in_every_way_between_steps():
    rng = np.random.default_rng(1)
    params = [rng.standard_normal((6, 5), np.float32) for _ in range(3)]
    twins = [p.copy() for p in params]
    plan, states = adamw(params)
    twin, twin_states = adamw(twins)
    for step in range(12):
        grads = [rng.standard_normal((6, 5), np.float32) for _ in params]
        layouts = [
            lambda g: g,
            np.asfortranarray,
            lambda g: np.repeat(g, 2, 1)[:, ::2],
            lambda g: g[::-1].copy()[::-1],
            lambda g: shifted(g, 3),
            lambda g: None,
        ]
        given = [layouts[(step + i * 5) % 6](g) for i, g in enumerate(grads)]
        run(plan, given)
        run(twin, [None if g is None else np.ascontiguousarray(g) for g in given])
        assert plan.steps == twin.steps
    assert len(set(plan.steps)) == 1
    assert plan.steps[0] == 10
    for got, want in zip(
        params + states[0] + states[1], twins + twin_states[0] + twin_states[1], strict=True
    ):
        assert np.array_equal(got, want)


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda a: shifted(a, 1),
                                    lambda a: np.repeat(a, 3, 0)[::3]])  # fmt: skip
def test_parameters_of_any_layout(layout):
    want = values((4, 6))
    plan, _ = adamw([want])
    base = layout(values((4, 6)))
    assert base.shape == want.shape
    odd = _C.Plan(
        "adamw", [base], [*([layout(np.zeros((4, 6), np.float32))] for _ in "mv"), None], [0]
    )
    for _ in range(3):
        run(plan, [values((4, 6))], max_norm=1.0)
        run(odd, [values((4, 6))], max_norm=1.0)
    assert np.array_equal(base, want)


def test_views_of_one_buffer_are_parameters():
    table = values((6, 10))
    columns = [table[:, :4], table[:, 4:7], table[:, 7:]]
    want = [np.ascontiguousarray(c) for c in columns]
    grads = [np.ones_like(w) for w in want]
    run(adamw(columns)[0], grads)
    run(adamw(want)[0], grads)
    for got, wanted in zip(columns, want, strict=True):
        assert np.array_equal(got, wanted)
    with pytest.raises(ValueError, match=r"'params\[1\]' overlaps 'params\[0\]'"):
        adamw([table[:, :4], table[:, 3:7]])
    with pytest.raises(ValueError, match=r"'params\[1\]' is the same array as 'params\[0\]'"):
        adamw([table, table])


def test_a_plan_that_was_never_made():
    empty = _C.Plan.__new__(_C.Plan)
    for use in (lambda: run(empty, []), lambda: empty.steps):
        with pytest.raises(TypeError, match="not initialised"):
            use()


def test_what_a_plan_refuses():
    p = values((2, 3))
    frozen = values((2, 3))
    frozen.setflags(write=False)
    state = np.zeros_like(p)
    for call, message in [
        (lambda: _C.Plan("adamm", [p], [], [0]), "kernel is 'adamm', expected one of .*adamw"),
        (lambda: _C.Plan("sgd", [frozen], [None], [0]), r"'params\[0\]' is read-only"),
        (
            lambda: _C.Plan("sgd", [np.broadcast_to(values(3), (2, 3))], [None], [0]),
            "read-only|stride 0",
        ),
        (lambda: _C.Plan("sgd", [p], [None], [0, 0]), "'groups' has 2 entries, expected 1"),
        (lambda: _C.Plan("sgd", [p], [None], [-1]), r"groups\[0\] is -1"),
        (lambda: _C.Plan("sgd", [p], [None], [1]), r"groups\[0\] is 1, expected the number of"),
        (lambda: _C.Plan("sgd", [p], [], [0]), "'states' has 0 lists, expected 1"),
        (lambda: _C.Plan("sgd", [p], [[]], [0]), "'momentum_buffers' has 0 entries"),
        (
            lambda: _C.Plan("sgd", [p], [[values(6)]], [0]),
            r"'momentum_buffers\[0\]' has shape",
        ),
        (lambda: _C.Plan("sgd", [p], [[p]], [0]), "is the same array as"),
        (lambda: setattr(_C.Plan("sgd", [p], [None], [0]), "steps", [-1]), r"steps\[0\] is -1"),
        (
            lambda: run(_C.Plan("sgd", [p], [None], [0]), [state], ()),
            "'hyper' has 0 groups, expected 1",
        ),
        (
            lambda: run(_C.Plan("sgd", [p], [None], [0]), [state], ((1.0,),)),
            r"hyper\[0\] has 1 values",
        ),
        (
            lambda: run(_C.Plan("sgd", [p], [None], [0]), [], (PLAIN,)),
            "'grads' has 0 entries",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"'momentum_buffers\[0\]' has dtype float64"):
        _C.Plan("sgd", [p], [[np.zeros((2, 3))]], [0])
    with pytest.raises(TypeError, match="'exp_avg_sqs' is None, expected a list of arrays"):
        _C.Plan("adamw", [p], [[state], None, None], [0])
    assert np.array_equal(p, values((2, 3)))


def test_steps_are_counted_where_there_is_a_gradient():
    params = [values(3), values(4)]
    plan, _ = adamw(params)
    run(plan, [None, np.ones(4, np.float32)])
    run(plan, [np.ones(3, np.float32), np.ones(4, np.float32)])
    assert plan.steps == [1, 2]
    plan.steps = [5, 2**40]
    assert plan.steps == [5, 2**40]
    alone = [values(3)]
    other, _ = adamw(alone)
    run(other, [np.ones(3, np.float32)])
    assert np.array_equal(alone[0], params[0])


def test_a_skipped_step():
    params = [values(3), values(4)]
    plan, states = adamw(params)
    run(plan, [np.ones_like(p) for p in params])
    before = [a.copy() for a in params + states[0] + states[1]]
    grads = [np.ones(3, np.float32), np.array([1, np.inf, 1, 1], np.float32)]
    assert run(plan, grads, check=True) == (True, None, 1)
    assert run(plan, [None, grads[1]], check=True, zero=True) == (True, None, 1)
    assert (grads[1] == 0).all()
    assert (grads[0] == 1).all()
    assert plan.steps == [1, 1]
    for got, want in zip(params + states[0] + states[1], before, strict=True):
        assert np.array_equal(got, want)
    assert run(plan, grads, check=True) == (False, None, None)


def test_norm_clip_unscale_and_maximize():
    param, grad = np.zeros(2, np.float32), np.array([6, 8], np.float32)
    sgd = _C.Plan("sgd", [param], [None], [0])
    hyper = (PLAIN,)
    assert run(sgd, [grad], hyper, unscale=0.5, max_norm=1.0) == (False, 5.0, None)
    assert np.allclose(param, [-0.6, -0.8])
    param[:] = 0
    assert run(sgd, [grad], hyper, max_value=3.0, max_norm=1.0, maximize=True)[1] == 10.0
    assert np.allclose(param, [0.5**0.5] * 2)
    param[:] = 0
    assert run(sgd, [grad], hyper, max_norm=100.0, zero=True)[1] == 10.0
    assert np.array_equal(param, [-6, -8])
    assert not grad.any()


def test_zeroed_gradients_may_not_be_shared():
    params = [values(3), values(3)]
    plan, _ = adamw(params)
    grad = np.ones(3, np.float32)
    run(plan, [grad, grad])
    with pytest.raises(ValueError, match=r"'grads\[1\]' is the same array as 'grads\[0\]'"):
        run(plan, [grad, grad], zero=True)
    grad.setflags(write=False)
    run(plan, [grad, grad])
    with pytest.raises(ValueError, match=r"'grads\[0\]' is read-only"):
        run(plan, [grad, None], zero=True)


def test_arrays_that_change_under_the_plan():
    params = [values(6)]
    plan, states = adamw(params)
    grad = np.ones(6, np.float32)
    run(plan, [grad])
    params[0].setflags(write=False)
    before = params[0].copy()
    with pytest.raises(ValueError, match=r"'params\[0\]' is read-only"):
        run(plan, [grad])
    params[0].setflags(write=True)
    assert np.array_equal(params[0], before)
    params[0].shape = (2, 3)
    with pytest.raises(ValueError, match="expected \\(2, 3\\) like 'params\\[0\\]'"):
        run(plan, [grad])
    for array in (grad, states[0][0], states[1][0]):
        array.shape = (2, 3)
    run(plan, [grad])
    assert plan.steps == [2]


def test_two_threads_do_not_share_a_plan():
    params = [np.zeros(1 << 22, np.float32)]
    plan, _ = adamw(params)
    grads = [np.ones(1 << 22, np.float32)]
    failures = []

    def steps():
        for _ in range(10):
            try:
                run(plan, grads)
            except RuntimeError as error:
                failures.append(str(error))

    threads = [threading.Thread(target=steps) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert plan.steps == [40 - len(failures)]
    assert all("this optimizer is stepping in another thread" in f for f in failures)


# ---- PyTorch


def test_torch_negated_views_are_refused():
    torch = pytest.importorskip("torch")
    z = torch.randn(5, dtype=torch.complex64)
    with pytest.raises(TypeError, match=r"'x' is a lazily negated torch tensor; .*resolve_neg"):
        relu(z.conj().imag, torch.empty(5))
    relu(z.imag, torch.empty(5))
    param = torch.zeros(5)
    plan = _C.Plan("sgd", [param], [None], [0])
    # Also where the gradient of the step before was the same in every other respect.
    conjugate, grad = z.conj(), z.imag
    run(plan, [grad], (PLAIN,))
    place = id(grad)
    del grad
    tries = []
    while not tries or (id(tries[-1]) != place and len(tries) < 1000):
        tries.append(conjugate.imag)
    with pytest.raises(TypeError, match="resolve_neg"):
        run(plan, [tries[-1]], (PLAIN,))
    with pytest.raises(TypeError, match="resolve_neg"):
        run(plan, [torch._neg_view(torch.ones(5))], (PLAIN,))


def test_torch_versions_count_in_place_writes():
    torch = pytest.importorskip("torch")
    x, out = torch.ones(3), torch.zeros(3)

    def bumps(call, *tensors):
        before = [t._version for t in tensors]
        call()
        return [t._version > b for t, b in zip(tensors, before, strict=True)]

    assert bumps(lambda: relu(x, out), x, out) == [False, True]
    with torch.inference_mode():
        relu(x, torch.zeros(3))
    params = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(4))]
    plan = _C.Plan("sgd", params, [None], [0, 0])
    grads = [torch.ones(3), None]
    assert bumps(lambda: run(plan, grads, (TENTH,)), *params, grads[0]) == [
        True,
        False,
        False,
    ]
    assert bumps(lambda: run(plan, grads, (TENTH,), zero=True), grads[0]) == [True]
    # The counter lets autograd notice that a saved tensor was overwritten.
    leaf = torch.ones(3, requires_grad=True)
    square = leaf.exp()
    loss = (square * square).sum()
    relu(torch.ones(3), square.detach())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_torch_parameters_whose_data_is_swapped():
    torch = pytest.importorskip("torch")
    param = torch.nn.Parameter(torch.zeros(4))
    plan = _C.Plan("sgd", [param], [None], [0])
    old = param.data
    run(plan, [torch.ones(4)], (PLAIN,))
    param.data = torch.full((4,), 5.0)
    run(plan, [torch.ones(4)], (PLAIN,))
    assert old.tolist() == [-1] * 4
    assert param.tolist() == [4] * 4
