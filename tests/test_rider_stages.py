"""Riders equal the stages written one after another around a plain step, bit for bit."""

import copy
import math
from inspect import signature

import numpy as np
import pytest
import staged
from cases import BFLOAT16, DTYPES
from cases.optimizers import VARIANTS
from helpers import LAYOUTS, Layout, assert_all_same, assert_same, each_dtype
from onepass import _C, config, ops, optim
from onepass.optim import _riders
from small_steps import assert_unchanged, everything, gradients, start

RIDDEN = [v for v in VARIANTS if staged.riders_of(v)]
each_variant = pytest.mark.parametrize("variant", RIDDEN, ids=[v.label for v in RIDDEN])
NARROW = [d for d in DTYPES if d.itemsize == 2]
HYPER = {"lr": 0.1, "weight_decay": 0.1}


def hyper(variant):
    """HYPER, of which some optimizers have less."""
    return {
        name: value
        for name, value in HYPER.items()
        if name in signature(variant.record.cls).parameters
    }


each_narrow = pytest.mark.parametrize("dtype", NARROW, ids=[d.name for d in NARROW])


def compare(variant, dtype, riders, label, steps=3, own=(), **options):
    """Steps with late gradients, other layouts and clipping against `staged.Staged`."""
    rng, params = start(dtype)
    storage = {"stochastic_rounding": "stochastic" in own, "master_weights": "master" in own}
    options = hyper(variant) | options
    opt = variant.make(params, seed=7, **storage, **riders, **options)
    want = staged.Staged(
        variant, params, riders, 7, "stochastic" in own, "master" in own, **options
    )
    for t in range(steps):
        grads = gradients(rng, params, lambda i, t=t: t > 0 or i != 3)
        control = [{}, {"grad_scale": 4.0}, {"max_value": 0.5}][t % 3]
        opt.step(grads, **control)
        want.step(grads, **control)
        assert_all_same(params, want.params, f"{label}, step {t}")
        if want.averages is not None:
            assert_all_same(opt.averages, want.averages, f"{label}, average of step {t}")
    return opt


@each_variant
def test_every_rider_alone_and_every_two_equal_the_stages_one_after_another(variant):
    for riders in staged.COMBINATIONS:
        if riders.keys() <= staged.riders_of(variant).keys():
            compare(variant, "float32", riders, staged.label(riders))


@each_variant
@each_dtype
def test_all_riders_at_once_in_every_dtype(variant, dtype):
    compare(variant, dtype, staged.riders_of(variant), dtype.name)
    compare(variant, dtype, {}, dtype.name, own=["master"])
    if dtype.itemsize == 2:
        for own in (["master"], ["stochastic"]):
            for riders in (staged.riders_of(variant), {"ema_decay": 0.5}, {}):
                compare(variant, dtype, riders, f"{dtype.name} {own} {riders}", own=own)


@pytest.mark.parametrize("size", [1, 3, 7, 8, 15, 16, 17, 63, 1023, 1024, 1025, 3077, 20011])
def test_sizes_around_the_width_of_vectors_and_blocks(size):
    rng = np.random.default_rng(size)
    params = [rng.standard_normal(size).astype(np.float32), rng.standard_normal((3, size))]
    variant = next(v for v in VARIANTS if v.label == "AdamW")
    opt = optim.AdamW(params, **HYPER, **staged.RIDERS)
    want = staged.Staged(variant, params, staged.RIDERS, **HYPER)
    for _ in range(2):
        grads = [rng.standard_normal(p.shape).astype(p.dtype) for p in params]
        opt.step(grads)
        want.step(grads)
        assert_all_same(params, want.params)
        assert_all_same(opt.averages, want.averages)


@pytest.mark.parametrize("layout", LAYOUTS)
@each_dtype
def test_a_view_of_any_layout_takes_the_steps_of_a_plain_array(layout, dtype):
    """Random bits follow the C-order index; nothing outside the view is written."""
    rng = np.random.default_rng(0)
    plain = rng.standard_normal((5, 6, 7)).astype(dtype)
    view = Layout(plain.copy(), layout)
    grads = [rng.standard_normal(plain.shape).astype(dtype) for _ in range(3)]
    storage = {"stochastic_rounding": dtype.itemsize == 2, "seed": 3}
    one = optim.AdamW([plain], **HYPER, **staged.RIDERS, **storage)
    two = optim.AdamW([view.view], **HYPER, **staged.RIDERS, **storage)
    for g in grads:
        one.step([g])
        two.step([Layout(g, layout).view])
        assert_same(np.ascontiguousarray(view.view), plain, layout)
        assert_all_same(two.averages, one.averages)
    view.check(layout)


@each_variant
def test_zeroing_the_gradients_changes_nothing_else(variant):
    for dtype in ("float32", "float16"):
        rng, params = start(dtype)
        other = [p.copy() for p in params]
        one = variant.make(params, **hyper(variant), **staged.riders_of(variant))
        two = variant.make(other, **hyper(variant), **staged.riders_of(variant))
        for _ in range(2):
            grads = gradients(rng, params)
            kept = [g.copy() for g in grads]
            one.step(grads)
            assert_all_same([g.copy() for g in grads], kept, "read only")
            two.step(grads, zero_grad=True)
            assert not any(np.any(g) for g in grads)
            assert_all_same(other, params)


def test_threads_and_levels_give_the_same_bits():
    threads, level = config.get_num_threads(), config.cpu_level()
    dtypes = [np.float32, np.float64, np.float16, *([BFLOAT16] if BFLOAT16 is not None else [])]
    results = []
    try:
        for each in _C.cpu_levels():
            for n in (1, 2, 3, 7):
                config.set_cpu_level(each)
                config.set_num_threads(n)
                rng = np.random.default_rng(1)
                params = [rng.standard_normal((40, 1001)).astype(d) for d in dtypes]
                for own in ("stochastic_rounding", "master_weights"):
                    opt = optim.AdamW(params, **HYPER, **staged.RIDERS, **{own: True})
                    for _ in range(2):
                        opt.step([rng.standard_normal(p.shape).astype(p.dtype) for p in params])
                results.append([*params, *opt.averages])
                if BFLOAT16 is not None:
                    wide = [p for p in params if p.dtype != np.float64]
                    stored = optim.AdamW(wide, **HYPER, state_dtype="bfloat16")
                    for _ in range(2):
                        stored.step([rng.standard_normal(p.shape).astype(p.dtype) for p in wide])
                    results[-1] += [a for held in stored._kept().values() for a in held]
    finally:
        config.set_num_threads(threads)
        config.set_cpu_level(level)
    for result in results[1:]:
        assert_all_same(result, results[0])


# --------------------------------------------------------------------------------- single riders


def test_cautious_leaves_elements_whose_update_and_gradient_disagree():
    """The momentum still points where the first gradient did; the decay happens all the same."""
    p = np.ones(4, np.float32)
    opt = optim.Lion([p], lr=0.25, weight_decay=0.5, cautious=True)
    opt.step([np.float32([1, -1, 1, -1])])
    np.testing.assert_array_equal(p, np.float32([0.625, 1.125, 0.625, 1.125]))
    opt.step([np.float32([1, -1, -0.01, 0])])
    # 0.875·p - 0.25·sign where both agree
    np.testing.assert_array_equal(p, np.float32([0.296875, 1.234375, 0.546875, 0.984375]))


def test_cautious_decides_by_signs_and_not_by_a_product_that_may_vanish():
    p = np.full(2, 1e-30, np.float32)
    optim.SGD([p], lr=1.0, cautious=True).step([np.float32([2e-30, -2e-30])])
    np.testing.assert_array_equal(p, np.float32([1e-30 - 2e-30, 3e-30]))


def test_cautious_lets_a_nan_through():
    p = np.ones(2, np.float32)
    optim.SGD([p], lr=1.0, cautious=True).step([np.float32([np.nan, 1])])
    assert math.isnan(p[0])
    assert p[1] == 0


@each_variant
def test_to_maximize_is_to_minimize_along_the_negated_gradient(variant):
    rng, params = start("float32")
    other = [p.copy() for p in params]
    riders = {**staged.riders_of(variant), "noise": 0.0}
    one = variant.make(params, maximize=True, **hyper(variant), **riders)
    two = variant.make(other, **hyper(variant), **riders)
    for _ in range(2):
        grads = gradients(rng, params)
        one.step(grads)
        two.step([np.negative(g, out=np.empty_like(g)) for g in grads])
        assert_all_same(params, other)


def test_l1_makes_exact_zeros_and_follows_the_learning_rate():
    p = np.float32([0.1, -0.1, 1, -1])
    opt = optim.SGD([p], lr=0.5, l1=0.25)
    opt.step([np.zeros(4, np.float32)])
    np.testing.assert_array_equal(p, np.float32([0, 0, 0.875, -0.875]))
    opt.param_groups[0]["lr"] = 0.0
    opt.step([np.ones(4, np.float32)])
    np.testing.assert_array_equal(p, np.float32([0, 0, 0.875, -0.875]))


def test_each_group_has_riders_of_its_own():
    rng, params = start("float32")
    groups = [
        {"params": params[:2], "l1": 0.5},
        {"params": params[2:4], "ema_decay": 0.5, "cautious": True},
        {"params": params[4:]},
    ]
    alone = [[p.copy() for p in g["params"]] for g in groups]
    opt = optim.AdamW(groups, lr=0.1)
    others = [optim.AdamW([{**g, "params": p}], lr=0.1) for g, p in zip(groups, alone, strict=True)]
    for _ in range(3):
        grads = [rng.standard_normal(p.shape).astype(p.dtype) for p in params]
        opt.step(grads)
        for other, part in zip(others, (grads[:2], grads[2:4], grads[4:]), strict=True):
            other.step(part)
    assert_all_same(params, [p for part in alone for p in part])
    assert [a is not None for a in opt.averages] == [i in (2, 3) for i in range(len(params))]
    assert_all_same(opt.averages[2:4], others[1].averages)


def test_riders_that_change_between_steps_take_effect():
    p = np.ones(3, np.float32)
    opt = optim.SGD([p], lr=1.0)
    zero = [np.zeros(3, np.float32)]
    opt.step(zero)
    assert (p == 1).all()
    opt.param_groups[0]["l1"] = 0.25
    opt.step(zero)
    assert (p == 0.75).all()
    opt.param_groups[0]["l1"] = 0.5
    opt.step(zero)
    assert (p == 0.25).all()
    opt.param_groups[0].update(l1=0.0, ema_decay=0.5)
    opt.step([np.ones(3, np.float32)])
    assert (p == -0.75).all()
    # The average started at the parameter before that step.
    np.testing.assert_array_equal(opt.averages[0], np.float32([-0.25] * 3))
    opt.param_groups[0]["ema_decay"] = None
    opt.step(zero)
    assert opt.averages == [None]


def test_averages_start_as_copies_and_have_no_bias_correction():
    p = [np.float16([1, 2]), np.float64([3])]
    opt = optim.SGD(p, lr=0.0, ema_decay=0.9)
    assert_all_same(opt.averages, [np.float32([1, 2]), np.float64([3])])
    opt.step([np.float16([1, 1]), None])
    assert_all_same(opt.averages, [np.float32([1, 2]), np.float64([3])])


def test_the_average_of_decay_0_is_the_parameter_and_of_decay_1_the_start():
    p = np.float32([1, 2, 4])
    last, first = (optim.SGD([q], lr=0.5, ema_decay=d) for q, d in ((p, 0.0), (p.copy(), 1.0)))
    last.step([np.float32([1, 1, 1])])
    assert_same(last.averages[0], p)
    first.step([np.float32([1, 1, 1])])
    np.testing.assert_array_equal(first.averages[0], np.float32([1, 2, 4]))


def test_rows_are_scaled_back_to_their_largest_norm():
    p = [np.float32([[3, 4], [0.3, 0.4], [0, 0]]), np.float32([30, 40]), np.ones((2, 3, 2))]
    opt = optim.SGD(p, lr=0.0, max_weight_norm=1.0)
    opt.step([np.zeros(a.shape, a.dtype) for a in p])
    np.testing.assert_allclose(p[0], [[0.6, 0.8], [0.3, 0.4], [0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(p[1], [30, 40])
    np.testing.assert_allclose(p[2], np.full((2, 3, 2), 1 / math.sqrt(6)), rtol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "size", "limit"),
    [
        ("float64", 1e200, 1.0),
        ("float64", 1.7e308, 1e300),
        ("float64", 1e-200, 1e-210),
        ("float64", 1e-250, 1.0),
        ("float32", 3e38, 1.0),
        ("float32", 3e38, 1e38),
        ("float32", 1e-30, 1e-32),
    ],
)
def test_rows_of_any_magnitude_are_scaled_back(dtype, size, limit):
    """Squares that overflow or vanish in float64 must not leave a row as it is."""
    p = np.full((2, 70), size, dtype)
    p[1] *= 0.25
    start = p.astype(np.longdouble)
    norms = np.sqrt(np.square(start).sum(axis=1, keepdims=True))
    want = (start * np.minimum(1, limit / norms)).astype(dtype)
    opt = optim.SGD([p], lr=0.0, max_weight_norm=limit)
    opt.step([np.zeros(p.shape, p.dtype)])
    np.testing.assert_allclose(p, want, rtol=3e-7)


# ------------------------------------------------------------------------------------------ noise


def noise_of(shape, dtype=np.float32, steps=1, seed=0):
    """The noise of the last of some steps."""
    p = np.zeros(shape, dtype)
    opt = optim.SGD([p], lr=1.0, noise=1.0, seed=seed)
    for _ in range(steps):
        p[...] = 0
        opt.step([np.zeros(shape, dtype)])
    return -p


def quantiles(words):
    """The normal quantiles at (m + 1/2)/2³¹ of the lower 31 bits, signed by the highest one."""
    special = pytest.importorskip("scipy.special")
    tail = ((words & np.uint32(0x7FFFFFFF)).astype(np.float64) + 0.5) / 2.0**31
    return np.where(words >> 31, -1.0, 1.0) * -special.ndtri(tail / 2)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_noise_is_the_normal_quantile_of_random_bits(steps, seed):
    size = 100_003
    z = noise_of(size, steps=steps, seed=seed)
    want = quantiles(staged.words(seed, staged.NOISE, 0, steps, size))
    np.testing.assert_allclose(z, want, rtol=2e-6, atol=2e-7)
    assert_same(noise_of(size, np.float64, steps, seed).astype(np.float32), z)


def test_noise_has_the_moments_and_the_distribution_of_a_normal_number():
    stats = pytest.importorskip("scipy.stats")
    z = noise_of(1 << 20).astype(np.float64)
    n = z.size
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 4.5 * math.sqrt(variance / n), power
    assert stats.kstest(z, "norm").statistic < 1.63 / math.sqrt(n)  # the 1% point
    assert abs((z[1:] * z[:-1]).mean()) < 4.5 / math.sqrt(n)


def test_noise_differs_between_parameters_steps_and_seeds_and_not_between_runs():
    p = [np.zeros(1000, np.float32) for _ in range(2)]
    opt = optim.SGD(p, lr=1.0, noise=0.5, seed=1)
    seen = []
    for _ in range(2):
        for a in p:
            a[...] = 0
        opt.step([np.zeros(1000, np.float32)] * 2)
        seen += [a.copy() for a in p]
    seen.append(0.5 * -noise_of(1000, seed=2))
    for i, a in enumerate(seen):
        for b in seen[:i]:
            assert abs(np.corrcoef(a, b)[0, 1]) < 0.15
    assert_same(seen[0], -0.5 * noise_of(1000, seed=1))


def test_noise_follows_the_steps_of_rules_that_do_not_count_them():
    p = np.zeros(64, np.float32)
    opt = optim.Lion([p], lr=1.0, betas=(0.0, 0.0), noise=1.0)
    for t in (1, 2):
        p[...] = 0
        opt.step([np.zeros(64, np.float32)])
        np.testing.assert_array_equal(p, -np.sign(noise_of(64, steps=t)))


# ---------------------------------------------------------------------------- 16-bit parameters


@pytest.mark.parametrize("sign", [1, -1])
@each_narrow
def test_stochastic_rounding_makes_no_infinity_of_a_number_that_has_a_neighbour(dtype, sign):
    bits = 0x7BFF if dtype == np.float16 else 0x7F7F
    top, below = np.array([bits, bits - 1], np.uint16).view(dtype).astype(np.float64)
    p = np.full(4096, sign * top).astype(dtype)
    grad = np.full(4096, -sign * (top - below) / 32).astype(dtype)
    optim.SGD([p], lr=1.0, stochastic_rounding=True).step([grad])
    assert (p.astype(np.float64) == sign * top).all()


@each_narrow
def test_stochastic_rounding_is_right_on_average_where_nearest_never_moves(dtype):
    step = 2.0**-14
    plain, random = (np.ones(20_000, dtype) for _ in range(2))
    for p, on in ((plain, False), (random, True)):
        opt = optim.SGD([p], lr=step, stochastic_rounding=on)
        for _ in range(40):
            opt.step([np.ones(p.shape, dtype)])
    assert (plain == 1).all()
    moved = 1 - random.astype(np.float64).mean()
    assert abs(moved / (40 * step) - 1) < 0.1


@each_narrow
def test_stochastic_rounding_gives_a_neighbour_with_the_right_odds(dtype):
    for value in (1.0 + 2.0**-12, -3.1e-3, 1e-6, 5.5e-8, 70.3):
        x = np.float32(value)
        p = np.zeros(1 << 16, dtype)
        # p is 0, and the step leaves x exactly.
        optim.SGD([p], lr=1.0, stochastic_rounding=True).step([np.zeros(p.shape, dtype)])
        assert not p.any()
        random = staged.words(0, staged.ROUNDING, 0, 1, p.size)
        got = staged.rounded_at_random(np.full(p.shape, x), dtype, random)
        found = np.unique(got.astype(np.float64))
        assert len(found) <= 2
        assert np.array_equal(got.astype(dtype).astype(np.float32), got), "a value of the dtype"
        gap = found[-1] - found[0]
        odds = (got == np.float32(found[-1])).mean() if gap else 1.0
        want = (float(x) - found[0]) / gap if gap else 1.0
        assert abs(odds - want) < 0.01


@each_narrow
def test_a_master_copy_takes_the_steps_of_float32(dtype):
    """No drift: after 300 steps the parameter is the rounded float32 trajectory."""
    rng = np.random.default_rng(0)
    p = rng.standard_normal(1000).astype(dtype)
    wide = p.astype(np.float32)
    one, two = optim.AdamW([p], lr=1e-4, master_weights=True), optim.AdamW([wide], lr=1e-4)
    for _ in range(300):
        g = rng.standard_normal(1000).astype(dtype)
        one.step([g])
        two.step([g.astype(np.float32)])
        assert_same(p, wide.astype(dtype))
    assert_same(one.state_dict()["state"][0]["master_param"], wide)


@each_narrow
def test_a_parameter_changed_by_hand_is_where_its_master_copy_goes_on(dtype):
    p = np.ones(4, dtype)
    opt = optim.SGD([p], lr=2.0**-13, master_weights=True)
    for _ in range(3):
        opt.step([np.ones(4, dtype)])
    p[1] = 5
    opt.step([np.zeros(4, dtype)])
    assert p[1] == 5
    master = opt.state_dict()["state"][0]["master_param"]
    np.testing.assert_array_equal(
        master, np.float32([1 - 3 * 2.0**-13, 5, *[1 - 3 * 2.0**-13] * 2])
    )


def test_master_copies_exist_for_16_bit_parameters_alone():
    p = [np.ones(2, d) for d in DTYPES]
    opt = optim.SGD(p, lr=0.5, master_weights=True)
    opt.step([np.ones(2, d) for d in DTYPES])
    held = ["master_param" in entry for entry in opt.state_dict()["state"].values()]
    assert held == [d.itemsize == 2 for d in DTYPES]


@each_narrow
@pytest.mark.parametrize("name", ["ScheduleFreeSGD", "ScheduleFreeAdamW"])
def test_a_master_copy_of_a_schedule_free_optimizer_turns_with_its_parameter(name, dtype):
    """Evaluations between steps cost no more than float32's rounding, not the parameter's."""
    rng = np.random.default_rng(0)
    p = rng.standard_normal(1000).astype(dtype)
    wide = p.astype(np.float32)
    one, two = (
        getattr(optim, name)([q], lr=0.01, master_weights=m) for q, m in ((p, True), (wide, False))
    )
    gap = np.finfo(np.float32).eps if dtype == np.float16 else 2.0**-23
    for step in range(30):
        g = rng.standard_normal(1000).astype(dtype)
        one.step([g])
        two.step([g.astype(np.float32)])
        if step % 3 == 0:
            one.eval()
            # x = y + (1 - 1/β)·(z - y), for which z is rounded to the parameter's type
            z = two.state_dict()["state"][0]["z"]
            x = wide + (1 - 1 / 0.9) * (z.astype(dtype).astype(np.float32) - wide)
            near = np.abs(x) * 2.0 ** -(10 if dtype == np.float16 else 7)
            assert (np.abs(p.astype(np.float32) - x) <= near + 1e-6).all()
            one.train()
        master = one.state_dict()["state"][0]["master_param"]
        assert_same(p, master.astype(dtype))
        assert (np.abs(master - wide) <= 16 * (step + 1) * gap * (1 + np.abs(wide))).all()


# ------------------------------------------------------------------------- skipped steps, resume


@each_variant
@pytest.mark.parametrize("how", ["skip", "raise"])
def test_a_skipped_step_changes_nothing(variant, how):
    for dtype, own in (("float32", {}), ("float16", {"master_weights": True})):
        rng, params = start(dtype)
        opt = variant.make(params, **hyper(variant), **staged.riders_of(variant), **own)
        opt.step(gradients(rng, params))
        before, averages = everything(opt, params), copy.deepcopy(opt.averages)
        grads = gradients(rng, params)
        grads[4][1000] = math.inf
        try:
            assert opt.step(grads, nonfinite=how).skipped
        except FloatingPointError:
            assert how == "raise"
        assert_unchanged(opt, params, before, how)
        assert_all_same(opt.averages, averages)


@each_variant
def test_training_resumes_bit_for_bit(variant):
    for dtype, own in (
        ("float32", {}),
        ("float16", {"master_weights": True}),
        ("float16", {"stochastic_rounding": True}),
    ):
        rng, params = start(dtype)
        options = {**hyper(variant), **staged.riders_of(variant), **own, "seed": 5}
        opt = variant.make(params, **options)
        for _ in range(2):
            opt.step(gradients(rng, params, lambda i: i != 2))
        saved, held = copy.deepcopy(opt.state_dict()), [p.copy() for p in params]
        other = variant.make([np.zeros_like(p) for p in params], **options)
        for p, h in zip(other.param_groups[0]["params"], held, strict=True):
            p[...] = h
        other.load_state_dict(saved)
        resumed = other.param_groups[0]["params"]
        for _ in range(2):
            grads = gradients(rng, params)
            opt.step(grads)
            other.step(grads)
            assert_all_same(resumed, params)
            assert_all_same(other.averages, opt.averages)


def test_copies_and_pickles_go_on_with_averages_of_their_own():
    rng, params = start("float32")
    opt = optim.AdamW(params, **HYPER, **staged.RIDERS)
    opt.step(gradients(rng, params))
    other = copy.deepcopy(opt)
    grads = gradients(rng, params)
    opt.step(grads)
    other.step(grads)
    assert_all_same(other.averages, opt.averages)
    assert not any(
        np.shares_memory(a, b) for a, b in zip(opt.averages, other.averages, strict=True)
    )


def test_a_state_dict_of_pytorch_loads_where_nothing_is_averaged():
    rng, params = start("float32")
    opt, plain = (optim.AdamW([p.copy() for p in params], lr=0.1) for _ in range(2))
    plain.step(gradients(rng, params))
    saved = plain.state_dict()
    for group in saved["param_groups"]:
        for name in staged.RIDERS:
            del group[name]
    opt.load_state_dict(saved)
    averaging = optim.AdamW(params, lr=0.1, ema_decay=0.5)
    with pytest.raises(ValueError, match="'average' of parameter 0 is missing"):
        averaging.load_state_dict(saved)


def test_parameters_that_are_added_get_averages():
    p, q = np.ones(3, np.float32), np.full(2, 4, np.float32)
    opt = optim.SGD([p], lr=1.0, ema_decay=0.5)
    opt.step([p.copy()])
    opt.add_param_group({"params": [q]})
    assert_all_same(opt.averages, [np.float32([0.5] * 3), np.float32([4, 4])])
    with pytest.raises(ValueError, match="same array"):
        opt.add_param_group({"params": [q]})
    opt.step([p * 0, q.copy()])
    assert_all_same(opt.averages, [np.float32([0.25] * 3), np.float32([2, 2])])


def test_tensors_of_pytorch_take_the_steps_of_arrays():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    shapes, own = [(40, 33), (7,)], {"state_dtype": "bfloat16", "master_weights": True}
    for dtype in (np.float32, np.float16):
        arrays = [rng.standard_normal(s).astype(dtype) for s in shapes]
        tensors = [torch.from_numpy(a.copy()).requires_grad_() for a in arrays]
        one = optim.AdamW(arrays, **HYPER, **staged.RIDERS, **own)
        two = optim.AdamW(tensors, **HYPER, **staged.RIDERS, **own)
        for _ in range(2):
            grads = [rng.standard_normal(s).astype(dtype) for s in shapes]
            for t, g in zip(tensors, grads, strict=True):
                t.grad = torch.from_numpy(g)
            one.step(grads)
            two.step()
            assert_all_same([t.detach().numpy() for t in tensors], arrays)
            assert_all_same([a.numpy() for a in two.averages], one.averages)
        state = two.state_dict()["state"][0]
        assert state["exp_avg"].dtype == torch.bfloat16
        want = one.state_dict()["state"][0]["exp_avg"].astype(np.float32)
        assert_same(state["exp_avg"].float().numpy(), want)


# ------------------------------------------------------------------------------------- wrong use


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"l1": -1}, ValueError, "'l1' is -1, expected a number >= 0"),
        ({"l1": math.nan}, ValueError, "'l1' is nan"),
        ({"l1": None}, TypeError, "'l1' is None"),
        ({"noise": "a"}, TypeError, "'noise' is 'a', expected a number >= 0"),
        ({"ema_decay": 1.5}, ValueError, "'ema_decay' is 1.5, expected a number >= 0 and <= 1"),
        ({"ema_decay": True}, TypeError, "'ema_decay' is True"),
        ({"max_weight_norm": 0}, ValueError, "'max_weight_norm' is 0, expected a number > 0"),
        ({"cautious": 2}, TypeError, "'cautious' is 2, expected True or False"),
        ({"seed": -1}, ValueError, "'seed' is -1"),
        ({"stochastic_rounding": "yes"}, TypeError, "'stochastic_rounding' is 'yes'"),
        ({"ema_dekay": 0.5}, TypeError, "'ema_dekay'.*did you mean 'ema_decay'"),
        ({"cautios": True}, TypeError, "did you mean 'cautious'"),
        ({"master_weight": True}, TypeError, "did you mean 'master_weights'"),
        (
            {"stochastic_rounding": True, "master_weights": True},
            ValueError,
            "'stochastic_rounding' is True, expected False with master_weights=True",
        ),
    ],
)
def test_wrong_options_are_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        optim.AdamW([np.ones(2, np.float32)], **options)


@pytest.mark.parametrize(
    "cls",
    [
        cls
        for cls in (getattr(optim, name) for name in optim.__all__)
        if hasattr(cls, "_rule") and (cls._no_riders or cls._rule.norms or cls._rule.factors)
    ],
)
def test_an_optimizer_that_takes_no_riders_says_why(cls):
    refused = cls._refused_riders()
    assert refused == (_riders.OF_UPDATES if "ScheduleFree" in cls.__name__ else _riders.ALL)
    for name in refused:
        with pytest.raises(TypeError, match=f"{name!r} is 1, expected no such.*since") as caught:
            cls([np.ones((2, 2), np.float32)], **{name: 1})
        assert cls._why_no_riders() in str(caught.value)
        with pytest.raises(TypeError, match=f"'{name}' in a parameter group is not an option"):
            cls([{"params": [np.ones((2, 2), np.float32)], name: 1}])


@pytest.mark.parametrize("base", [optim.LAMB, optim.LARS, optim.Adafactor])
def test_a_class_cannot_take_riders_that_its_rule_refuses(base):
    """It would run with norms of the plain gradient."""

    class Own(base):
        _no_riders = None

    with pytest.raises(TypeError, match=r"'noise' is 1\.0, expected no such keyword.*since its"):
        Own([np.ones(3, np.float32)], noise=1.0)
    p = np.ones(3, np.float32)
    states = [[np.zeros(3, np.float32)] for _ in range(2)]
    with pytest.raises(
        ValueError, match="'stages' is given, expected None for an update with norm"
    ):
        _C.Plan("lamb", [p], states, [0], None, (None, None))


def test_a_class_offers_the_keywords_that_it_takes():
    """help() and mypy read them from the constructor."""
    with pytest.raises(TypeError, match=r"has '\*\*options: Unpack\[SharedOptions\]', expected"):

        class Own(optim.LAMB, op=ops.lamb_):
            def __init__(
                self,
                params,
                lr: "float" = 1e-3,
                betas: "Betas" = (0.9, 0.999),  # noqa: F821
                eps: "float" = 1e-6,
                weight_decay: "float" = 0.01,
                *,
                maximize=False,
                diagnostics=False,
                compat="torch",
                **options: "Unpack[SharedOptions]",  # noqa: F821
            ):
                """Never called."""


def test_an_option_of_the_optimizer_is_none_of_a_group():
    for name in ("seed", "master_weights", "stochastic_rounding"):
        with pytest.raises(TypeError, match=f"'{name}' in a parameter group is not an option"):
            optim.SGD([{"params": [np.ones(2)], name: 1}])


def test_wrong_riders_between_steps_change_nothing():
    p = np.ones(2, np.float32)
    opt = optim.SGD([p], lr=1.0, ema_decay=0.5)
    opt.param_groups[0]["l1"] = -1.0
    with pytest.raises(ValueError, match=r"'l1' is -1\.0"):
        opt.step([np.ones(2, np.float32)])
    assert (p == 1).all()


def test_help_shows_the_options_that_every_optimizer_has():
    for name in (*staged.RIDERS, "seed", "stochastic_rounding", "master_weights"):
        assert f"``{name}``" in optim.AdamW.__doc__, name


# -------------------------------------------------------------------------------- bfloat16 states

needs_bfloat16 = pytest.mark.skipif(BFLOAT16 is None, reason="needs ml_dtypes")


@needs_bfloat16
@each_variant
def test_bfloat16_states_are_float32_ones_rounded_after_every_step(variant):
    """Up or down, by bits that are a function of the parameter, its step and the element."""
    for dtype in ("float32", "float16"):
        for riders in ({}, staged.riders_of(variant)):
            rng, params = start(dtype)
            opt = variant.make(params, state_dtype="bfloat16", seed=7, **riders, **hyper(variant))
            want = staged.Staged(variant, params, riders, 7, stored="bfloat16", **hyper(variant))
            for t in range(3):
                grads = gradients(rng, params, lambda i, t=t: t > 0 or i != 3)
                opt.step(grads)
                want.step(grads)
                assert_all_same(params, want.params, f"{dtype}, step {t}")
                for held, plain in zip(opt._kept().values(), want.states(), strict=True):
                    assert all(h.dtype == BFLOAT16 for h in held)
                    assert_all_same([h.astype(np.float32) for h in held], plain, f"step {t}")


@needs_bfloat16
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bfloat16_states_of_a_view_are_those_of_a_plain_array(layout):
    rng = np.random.default_rng(0)
    plain = rng.standard_normal((5, 6, 67)).astype(np.float32)
    view = Layout(plain.copy(), layout)
    one = optim.AdamW([plain], **HYPER, state_dtype="bfloat16")
    two = optim.AdamW([view.view], **HYPER, state_dtype="bfloat16")
    for _ in range(3):
        g = rng.standard_normal(plain.shape).astype(np.float32)
        one.step([g], zero_grad=False)
        two.step([Layout(g, layout).view])
        assert_same(np.ascontiguousarray(view.view), plain, layout)
        for a, b in zip(one._kept().values(), two._kept().values(), strict=True):
            assert_same(a[0], np.ascontiguousarray(b[0]))
    view.check(layout)


@needs_bfloat16
def test_bfloat16_states_keep_a_nan_and_an_infinity():
    p = np.ones(40, np.float32)
    g = p.copy()
    g[3], g[17], g[20] = math.nan, math.inf, -math.inf
    opt = optim.SGD([p], lr=0.5, momentum=0.5, state_dtype="bfloat16")
    opt.step([g])
    assert_same(opt.state_dict()["state"][0]["momentum_buffer"].astype(np.float32), g)


@needs_bfloat16
def test_bfloat16_averages_decay_where_rounding_to_nearest_would_hold_them():
    """v = 0.999·v: a thousandth is below half of the last place."""
    p = np.zeros(10_000, np.float32)
    opt = optim.RMSprop([p], alpha=0.999, state_dtype="bfloat16")
    opt.step([np.ones(p.shape, np.float32)])
    for _ in range(400):
        opt.step([np.zeros(p.shape, np.float32)])
    v = opt.state_dict()["state"][0]["square_avg"].astype(np.float64)
    assert v.mean() == pytest.approx(0.001 * 0.999**400, rel=0.01)
    assert v.std() < 0.1 * v.mean()


@needs_bfloat16
def test_bfloat16_states_resume_and_take_their_riders():
    rng, params = start("float32")
    options = {**HYPER, **staged.RIDERS, "state_dtype": "bfloat16"}
    opt = optim.AdamW(params, **options)
    opt.step(gradients(rng, params))
    others = [p.copy() for p in params]
    other = optim.AdamW(others, **options)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    for _ in range(2):
        grads = gradients(rng, params)
        opt.step(grads)
        other.step(grads)
    assert_all_same(others, params)
    held, want = (list(o.state_dict()["state"].values()) for o in (other, opt))
    for a, b in zip(held, want, strict=True):
        assert_same(a["exp_avg_sq"], b["exp_avg_sq"])


def test_float64_parameters_have_no_bfloat16_states():
    with pytest.raises(ValueError, match=r"'state_dtype' is 'bfloat16', expected None, .*float64"):
        optim.Adam([np.ones(2)], state_dtype="bfloat16")
    with pytest.raises(
        ValueError, match="'state_dtype' is 'int4', expected None, 'bfloat16' or 'int8'"
    ):
        optim.Adam([np.ones(2)], state_dtype="int4")


def test_averages_that_were_off_start_again_at_the_parameters():
    p = np.ones(5, np.float32)
    opt = optim.SGD([p], lr=0.5, ema_decay=0.5)
    opt.step([np.ones(5, np.float32)])
    opt.param_groups[0]["ema_decay"] = None
    opt.step([np.ones(5, np.float32)])
    p[:] = 8.0
    opt.param_groups[0]["ema_decay"] = 0.5
    opt.step([np.zeros(5, np.float32)])
    assert_same(opt.averages[0], np.full(5, 8.0, np.float32))


@pytest.mark.parametrize(
    "name", ["RMSprop", "Adagrad", "Adamax", "Adadelta", "Adam", "AdamW", "SGD"]
)
def test_cautious_steps_keep_the_decoupled_decay_of_another_library(name):
    """Where the update does not agree, the decay is all that moves an element."""
    p = np.full(19, 2.0)
    opt = getattr(optim, name)([p], lr=0.25, weight_decay=0.5, compat="keras", cautious=True)
    opt.step([np.zeros(19)])
    assert_same(p, np.full(19, 2.0 * (1 - 0.25 * 0.5)))


# -------------------------------------------------------------------------- where averages start


def test_an_average_starts_where_its_parameter_is_at_its_first_step():
    """Weights may be loaded after the optimizer is made, and a part be trained late."""
    p, q = np.ones(2, np.float32), np.ones(3, np.float32)
    opt = optim.SGD([p, q], lr=1.0, ema_decay=0.75)
    p[...] = 8
    assert_all_same(opt.averages, [p, q])
    p[...] = 4
    opt.step([np.ones(2, np.float32), None])
    np.testing.assert_array_equal(opt.averages[0], 4 + 0.25 * (3 - 4))
    q[...] = 16
    assert_all_same(opt.averages[1:], [q])
    q[...] = 32
    opt.step([None, np.ones(3, np.float32)])
    np.testing.assert_array_equal(opt.averages[0], 3.75)
    np.testing.assert_array_equal(opt.averages[1], 32 + 0.25 * (31 - 32))


@pytest.mark.parametrize("how", ["skip", "raise"])
def test_an_average_does_not_start_with_a_step_that_is_skipped(how):
    p = np.ones(2, np.float32)
    opt = optim.SGD([p], lr=1.0, ema_decay=0.75)
    try:
        assert opt.step([np.float32([np.inf, 0])], nonfinite=how).skipped
    except FloatingPointError:
        assert how == "raise"
    p[...] = 4
    opt.step([np.ones(2, np.float32)], nonfinite=how)
    np.testing.assert_array_equal(opt.averages[0], 3.75)


@pytest.mark.parametrize("resumed", [False, True])
def test_an_average_that_is_switched_off_and_on_again_starts_afresh(resumed):
    p = np.ones(2, np.float32)
    opt = optim.SGD([p], lr=1.0, ema_decay=0.5)
    opt.step([np.ones(2, np.float32)])
    opt.param_groups[0]["ema_decay"] = None
    opt.step([np.ones(2, np.float32)])
    if resumed:
        saved = copy.deepcopy(opt.state_dict())
        assert "average" not in saved["state"][0]
        opt = optim.SGD([p], lr=1.0)
        opt.load_state_dict(saved)
    p[...] = 4
    opt.param_groups[0]["ema_decay"] = 0.75
    assert_all_same(opt.averages, [p])
    p[...] = 8
    again = copy.deepcopy(opt)
    for each in (opt, again):
        each.step([np.ones(2, np.float32)])
        np.testing.assert_array_equal(each.averages[0], 7.75)


def test_a_resume_before_a_first_step_leaves_the_average_to_start():
    p, q = np.ones(2, np.float32), np.ones(2, np.float32)
    opt = optim.SGD([p, q], lr=1.0, ema_decay=0.75)
    opt.step([np.ones(2, np.float32), None])
    other = optim.SGD([p, q], lr=1.0, ema_decay=0.75)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    q[...] = 4
    for each in (opt, other):
        each.step([None, np.ones(2, np.float32)])
        np.testing.assert_array_equal(each.averages[0], 0.75)
        np.testing.assert_array_equal(each.averages[1], 3.75)
        q[...] = 4
