"""Norms of each tensor, which LARS, LAMB and diagnostics=True need: where squares leave the range
of numbers, on any number of threads and any instruction set, with every rider, and in a step that
is skipped. The optimizers' formulas are tested as those of all others."""

import copy

import numpy as np
import pytest
from cases import BFLOAT16, as_float64
from helpers import LAYOUTS, Layout, assert_all_same, assert_same, to_torch
from onepass import config, optim
from small_steps import assert_unchanged, everything, start

NEED_NORMS = [
    pytest.param(lambda p, **more: optim.LARS(p, lr=0.5, weight_decay=0.1, **more), id="LARS"),
    pytest.param(lambda p, **more: optim.LARS(p, lr=0.5, momentum=0.0, **more), id="LARS-plain"),
    pytest.param(lambda p, **more: optim.LAMB(p, lr=0.1, weight_decay=0.1, **more), id="LAMB"),
    pytest.param(
        lambda p, **more: optim.Adafactor(p, lr=0.5, weight_decay=0.1, **more), id="Adafactor"
    ),
]
each_optimizer = pytest.mark.parametrize("make", NEED_NORMS)
EDGES = [1, 2, 3, 4, 7, 8, 15, 16, 17, 127, 128, 129, 255, 256, 257, 1023, 1024, 1025, 2048, 9000]


def drawn(sizes, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(size).astype(dtype) for size in sizes]


# ---------------------------------------------------------------------------------- the norms alone


def moved_by(p, g, **more):
    """How far a step of LAMB moves each parameter, relative to its rate and norm: 1 by its formula,
    whose ratio is of nothing but norms."""
    before = [as_float64(x) for x in p]
    optim.LAMB(p, lr=0.25, weight_decay=0.0, **more).step(g)
    found = []
    for x, b in zip(p, before, strict=True):
        unit = np.abs(b).max()
        moved = (as_float64(x) - b) / unit / 0.25
        found.append(np.linalg.norm(moved) / np.linalg.norm(b / unit))
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sizes_around_every_edge_of_a_vector(dtype):
    sizes = [*EDGES, 70001]
    found = moved_by(drawn(sizes, dtype), drawn(sizes, dtype, seed=1))
    np.testing.assert_allclose(found, 1, rtol=1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("size", [3, 1025, 20000])
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("float32", 1e30), ("float32", 1e-30), ("float64", 1e200), ("float64", 1e-200),
     ("float64", 1e153), ("float64", 1e-158), ("float64", 1.0)],
)  # fmt: skip
def test_norms_whose_squares_leave_the_range_of_numbers(dtype, scale, size):
    (p,), (g,) = drawn([size], dtype), drawn([size], dtype, seed=1)
    p *= np.asarray(scale, dtype)
    (found,) = moved_by([p], [g])
    assert found == pytest.approx(1, rel=1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e160, 1e-158])
def test_a_few_elements_far_from_all_others_decide(scale):
    p, g = np.ones(5000), np.ones(5000)
    p[::1000] = scale
    opt = optim.SGD([p], lr=0.0, diagnostics=True)
    opt.step([g])
    want = np.sqrt(4995.0) if scale < 1 else np.sqrt(5.0) * scale
    assert opt.per_parameter.param_norm[0] == pytest.approx(want, rel=1e-14)


def test_a_norm_of_zero_leaves_the_step_as_it_is():
    zero, one, g = np.zeros(3), np.ones(3), np.full(3, 0.5)
    lars = optim.LARS([zero], lr=0.5, momentum=0.0, weight_decay=0.1)
    lars.step([g])
    np.testing.assert_array_equal(zero, -0.25)
    lars = optim.LARS([one], lr=0.5, momentum=0.0, weight_decay=0.5)
    lars.step([np.zeros(3)])
    np.testing.assert_array_equal(one, 0.75)  # g is 0: the decay alone, with ratio 1
    zero[:] = 0
    optim.LAMB([zero], lr=0.5, eps=0.0).step([g])
    np.testing.assert_allclose(zero, -0.5, rtol=1e-15)
    before = one.copy()
    optim.LAMB([one], lr=0.5, weight_decay=0.0).step([np.zeros(3)])
    np.testing.assert_array_equal(one, before)


def test_lamb_of_apex_adapts_nothing_without_decay():
    """FusedLAMB without use_nvlamb: the ratio is 1 in a group whose weight_decay is 0."""
    for compat, decay in (("apex", 0.0), ("apex", 0.1), ("torch", 0.0)):
        p, g = np.float64([3.0, 4.0]), np.float64([0.5, -2.0])
        opt = optim.LAMB([p], lr=0.25, eps=0.5, weight_decay=decay, compat=compat)
        opt.step([g])
        u = g / (np.abs(g) + 0.5) + decay * np.float64([3.0, 4.0])
        ratio = 1.0 if (compat, decay) == ("apex", 0.0) else 5.0 / np.linalg.norm(u)
        np.testing.assert_allclose(p, np.float64([3.0, 4.0]) - 0.25 * ratio * u, rtol=1e-13)
    with pytest.raises(ValueError, match="'adapts_undecayed' is True, expected False"):
        optim.LAMB([p], compat="apex").load_state_dict(opt.state_dict())


@each_optimizer
def test_every_parameter_has_norms_of_its_own(make):
    """3,000 small ones and some large, in one step or each by itself."""
    sizes = [1 + i % 37 for i in range(3000)] + [90001, 5, 40000]
    params, grads = drawn(sizes, "float64"), drawn(sizes, "float64", seed=1)
    chosen = [0, 1, 36, 37, 1500, 2999, 3000, 3001, 3002]
    alone = {i: params[i].copy() for i in chosen}
    make(params).step(grads)
    for i, p in alone.items():
        make([p]).step([grads[i]])
        assert_same(params[i], p, f"parameter {i}")


# -------------------------------------------------------------------------- threads, levels, memory


def mixed():
    rng, params = start("float32", [(70, 50), (33,), (), (0,), (300001,), (3, 4, 2, 2)])
    params.append(rng.standard_normal(20001))
    params.append(rng.standard_normal(5001).astype(np.float16))
    if BFLOAT16 is not None:
        params.append(rng.standard_normal(700).astype(BFLOAT16))
    params += [rng.standard_normal(1 + i % 5).astype(np.float32) for i in range(300)]
    grads = [rng.standard_normal(p.shape).astype(p.dtype) for p in params]
    return params, grads


@each_optimizer
def test_the_same_bits_on_any_threads_and_levels(make):
    threads, level = config.get_num_threads(), config.cpu_level()
    want = None
    try:
        for each in config.cpu_levels():
            for count in (1, 2, 3, 7):
                config.set_num_threads(count)
                config.set_cpu_level(each)
                params, grads = mixed()
                opt = make(params, diagnostics=True)
                for _ in range(2):
                    opt.step(grads, max_norm=1.0, grad_scale=4.0)
                got = [*params, *map(np.float64, opt.per_parameter)]
                want = got if want is None else want
                assert_all_same(got, want, f"{each}, {count} threads")
    finally:
        config.set_num_threads(threads)
        config.set_cpu_level(level)


@each_optimizer
@pytest.mark.parametrize("layout", LAYOUTS)
def test_views_inside_guarded_memory(make, layout):
    rng, params = start("float64", [(7, 5), (3, 4, 2, 2), (33,), ()])
    laid = [Layout(p.copy(), layout) for p in params]
    one, other = make(params), make([p.view for p in laid])
    for _ in range(3):
        grads = [rng.standard_normal(p.shape) for p in params]
        moved = [Layout(g, layout) for g in grads]
        one.step(grads)
        other.step([g.view for g in moved], zero_grad=True)
        for p, own, g in zip(laid, params, moved, strict=True):
            np.testing.assert_allclose(p.view, own, rtol=1e-13, atol=1e-15)
            assert not g.view.any()
            g.check(layout)
    for p in laid:
        p.check(layout)


# ------------------------------------------------------------------------------------------- riders


def test_the_norm_of_lars_is_that_of_the_clipped_gradient():
    p, g = np.float64([3, 4]), np.float64([30, 40])
    optim.LARS([p], lr=1.0, momentum=0.0, trust_coefficient=0.5, eps=1.0).step(
        [g], grad_scale=10.0, max_norm=1.0
    )
    clipped = np.float64([0.6, 0.8])  # to 1, but for the 1e-6 beside the norm
    np.testing.assert_allclose(p, np.float64([3, 4]) - 0.5 * 5 / 2 * clipped, rtol=1e-6)
    p[:] = 3, 4
    optim.LARS([p], lr=1.0, momentum=0.0, trust_coefficient=0.5, eps=0.0).step([g], max_value=3.0)
    np.testing.assert_allclose(p, np.float64([3, 4]) - 0.5 * 5 / np.sqrt(18) * 3, rtol=1e-14)


@each_optimizer
@pytest.mark.parametrize("zero_grad", [False, True])
def test_overflow_on_the_first_step_changes_nothing(make, zero_grad):
    """Not even the averages, which a pass before the update moves."""
    _, params = start("float32")
    grads = [np.ones_like(p) for p in params]
    grads[4][1000] = np.inf
    opt = make(params)
    before = everything(opt, params)
    info = opt.step(grads, nonfinite="skip", max_norm=1.0, zero_grad=zero_grad)
    assert (info.skipped, info.nonfinite_param) == (True, 4)
    assert_unchanged(opt, params, before, "skipped")
    assert all(not g.any() for g in grads) == zero_grad
    other = copy.deepcopy(before[0])
    grads = [np.ones_like(p) for p in params]
    opt.step(grads, nonfinite="skip", max_norm=1.0)
    make(other).step(grads, max_norm=1.0)
    assert_all_same(params, other)


@each_optimizer
def test_a_nan_stays_in_its_own_parameter(make):
    params, grads = drawn([40, 50], "float32"), drawn([40, 50], "float32", seed=1)
    other = params[1].copy()
    grads[0][7] = np.nan
    make(params).step(grads)
    make([other]).step(grads[1:])
    assert np.isnan(params[0][7])
    assert_same(params[1], other)


@each_optimizer
def test_tensors_of_torch(make):
    torch = pytest.importorskip("torch")
    params, grads = drawn(EDGES, "float32"), drawn(EDGES, "float32", seed=1)
    tensors = [torch.nn.Parameter(to_torch(p)) for p in params]
    versions = [t._version for t in tensors]
    here, there = make(params), make(tensors)
    for _ in range(2):
        here.step(grads)
        for tensor, g in zip(tensors, grads, strict=True):
            tensor.grad = torch.from_numpy(g.copy())
        there.step()
    assert_all_same([t.detach().numpy() for t in tensors], params)
    assert all(t._version > v for t, v in zip(tensors, versions, strict=True))


# -------------------------------------------------------------------------------------- diagnostics


def test_diagnostics_follow_the_plan():
    """Groups added, a saved and a copied optimizer, gradients that come late."""
    params = drawn([7, 5], "float64")
    opt = optim.AdamW(params[:1], lr=0.1, diagnostics=True)
    opt.step([np.ones(7)])
    assert opt.per_parameter.grad_norm == [pytest.approx(np.sqrt(7))]
    opt.add_param_group({"params": params[1:]})
    opt.step([None, np.ones(5)])
    assert opt.per_parameter.grad_norm == [None, pytest.approx(np.sqrt(5))]
    twin = copy.deepcopy(opt)
    assert twin.per_parameter == opt.per_parameter
    twin.step([np.ones(7), None])
    assert twin.per_parameter.grad_norm == [pytest.approx(np.sqrt(7)), None]
    opt.step([None, None])
    assert opt.per_parameter == ([None, None],) * 3


def test_diagnostics_of_a_clipped_gradient_tell_the_norm_before():
    p, g = np.float32([0.0, 0.0]), np.float32([3000.0, 4000.0])
    opt = optim.SGD([p], lr=1.0, diagnostics=True)
    opt.step([g], grad_scale=1000.0, max_norm=1.0, max_value=3.5, zero_grad=True)
    assert opt.per_parameter.grad_norm == [pytest.approx(5.0)]
    assert opt.per_parameter.update_norm == [pytest.approx(1.0, rel=1e-5)]
    assert not g.any()


def in_columns(values):
    """As core/squares.h says: value i is added to column i mod 256, then columns fold by halves."""
    columns = np.zeros(256)
    for first in range(0, len(values), 256):
        row = values[first : first + 256]
        columns[: len(row)] += row
    while len(columns) > 1:
        columns = columns[: len(columns) // 2] + columns[len(columns) // 2 :]
    return columns[0]


@pytest.mark.parametrize("size", [5, 255, 1023, 1024, 1025, 3 * 1024 + 257, 300 * 1024])
def test_squares_are_added_in_the_order_that_is_documented(size):
    values = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    opt = optim.SGD([values.copy()], lr=0.0, diagnostics=True)
    opt.step([values])
    squares = values.astype(np.float64) ** 2
    blocks = [in_columns(squares[first : first + 1024]) for first in range(0, size, 1024)]
    assert opt.per_parameter.grad_norm == [np.sqrt(in_columns(np.array(blocks)))]
