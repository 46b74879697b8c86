"""Every optimizer with every combination of its optional states over many steps: against float64,
with late gradients, in groups. Riders, saved states and PyTorch are in test_optim_riders.py,
test_optim_state.py and test_optim_torch.py."""

import numpy as np
import pytest
from cases import BFLOAT16, DTYPES, Derived, as_float64, computing
from cases.optimizers import adam
from helpers import (
    Extent,
    assert_all_close,
    assert_all_same,
    assert_same,
    each_dtype,
    each_sweep,
    each_variant,
)
from onepass import ops, optim
from small_steps import gradients, start, steps_of

# ------------------------------------------------------------------------------------- trajectories


@each_sweep
def test_trajectory(variant, sweep):
    """200 steps of float32 with the defaults and 25 with other options (200 with --all-cases), and
    the states then, within the bound that the formula accumulates."""
    long = Extent.whole or sweep == variant.record.sweep[0]
    for dtype, steps in (("float64", 40 if long else 25), ("float32", 200 if long else 25)):
        rng, params = start(dtype)
        opt, want = variant.record.cls(params, **sweep), variant.record.trajectory(params, **sweep)
        for step in range(steps):
            grads = gradients(rng, params)
            want.step(grads)
            info = opt.step(grads)
            assert (info.skipped, info.grad_norm, info.nonfinite_param) == (False, None, None)
            label = f"{sweep} {dtype} step {step}"
            assert_all_close(params, want.params, Derived(), dtype, label)
        for index, entry in opt.state_dict()["state"].items():
            expected = want.entry(index)
            got = [np.asarray(entry[name]) for name in expected]
            label = f"{sweep} {dtype}: {list(expected)} of parameter {index}"
            assert_all_close(got, list(expected.values()), Derived(), dtype, label)


@each_sweep
def test_late_and_missing_gradients(variant, sweep):
    """A parameter's own first gradient starts its buffers and its step count."""
    rng, params = start()
    opt, want = variant.record.cls(params, **sweep), variant.record.trajectory(params, **sweep)
    for step in range(36):
        grads = gradients(rng, params, lambda i, step=step: step >= 5 * i and (i + step) % 3)
        untouched = [(p, p.copy()) for p, g in zip(params, grads, strict=True) if g is None]
        opt.step(grads)
        want.step(grads)
        assert_all_close(params, want.params, Derived(), "float64", f"step {step}")
        for p, before in untouched:
            assert_same(p, before)
        if opt.state_dict()["state"]:
            assert steps_of(opt, len(params)) == want.steps
    assert opt.step([None] * len(params), max_norm=1.0).grad_norm == 0


@each_dtype
@each_sweep
def test_every_dtype_step_by_step(variant, sweep, dtype):
    """Each step judged from the parameters as they are: the formula's bound, and half a unit in the
    last place. Storage is rounded to nearest, states are of the computing type."""
    rng, params = start(dtype)
    opt, want = variant.record.cls(params, **sweep), variant.record.trajectory(params, **sweep)
    long = Extent.whole or sweep == variant.record.sweep[0]
    for step in range(30 if long else 12):
        grads = gradients(rng, params)
        want.params = params
        opt.step(grads)
        want.step(grads)
        assert_all_close(params, want.params, Derived(), dtype, f"step {step}")
    for entry in opt.state_dict()["state"].values():
        for key, value in entry.items():
            if isinstance(value, np.ndarray):
                assert value.dtype == computing(dtype), key


def test_small_steps_of_a_large_float16_list():
    """More elements than a vector, in every 16-bit type, with gradients that are not zero."""
    for dtype in (d for d in DTYPES if d.itemsize == 2):
        p = [np.ones(n, dtype) for n in (15, 16, 17, 4099, 70001)]
        before = [a.copy() for a in p]
        optim.SGD(p, lr=0.5).step([np.ones_like(a) for a in p])
        for a, b in zip(p, before, strict=True):
            np.testing.assert_array_equal(as_float64(a), as_float64(b) - 0.5)


# ------------------------------------------------------------------- groups, learning rates, counts


@each_variant
def test_groups_have_options_of_their_own(variant):
    rng, params = start()
    decay = variant.record.accepted(weight_decay=0.2)
    groups = [{"params": params[:2], "lr": 0.3}, {"params": params[2:], **decay}]
    opt = variant.make(groups, lr=0.1)
    parts = [
        variant.trajectory(params[:2], lr=0.3),
        variant.trajectory(params[2:], lr=0.1, **decay),
    ]
    assert [g["lr"] for g in opt.param_groups] == [0.3, 0.1]
    for step in range(10):
        if step == 5:  # as a scheduler does
            opt.param_groups[1]["lr"] = parts[1].options["lr"] = 0.01
        grads = gradients(rng, params)
        opt.step(grads)
        parts[0].step(grads[:2])
        parts[1].step(grads[2:])
        wanted = parts[0].params + parts[1].params
        assert_all_close(params, wanted, Derived(), "float64", f"step {step}")


@each_variant
def test_generators_and_empty_parameters(variant):
    rng, params = start()
    opt = variant.make((p for p in params), lr=0.1)
    want = variant.trajectory(params, lr=0.1)
    for _ in range(3):
        grads = gradients(rng, params)
        opt.step(grads)
        want.step(grads)
    assert_all_close(params, want.params, Derived(), "float64", variant.name)
    assert params[5].size == 0


@each_variant
def test_one_launch_for_many_tensors(variant):
    """Three tensors or three thousand, big beside small: the same as a few at a time, and some of
    them as one at a time."""
    rng, params = start("float32", [(1 + 7 * (i % 9),) for i in range(3000)] + [(90001,), (3,)])
    alone = [p.copy() for p in params]
    parts = [*([i] for i in (*range(20), *range(2980, 3002))), *np.arange(20, 2980).reshape(80, 37)]
    together = variant.make(params, lr=0.1)
    few = [variant.make([alone[i] for i in part], lr=0.1) for part in parts]
    for _ in range(4 if Extent.whole else 2):
        grads = gradients(rng, params)
        together.step(grads)
        for opt, part in zip(few, parts, strict=True):
            opt.step([grads[i] for i in part])
    assert_all_same(params, alone)


@each_variant
def test_the_function_is_the_class(variant):
    rng, params = start("float32")
    mine = [p.copy() for p in params]
    opt = variant.make(params, lr=0.1)
    group = {key: value for key, value in opt.param_groups[0].items() if key != "params"}
    states = [[s.fresh(p, group) for p in params] for s in variant.states]
    keywords = variant.record.keywords(group)
    for step in range(1, 8):
        grads = gradients(rng, params)
        opt.step(grads)
        variant.update(mine, grads, *states, step=step, **keywords)
        assert_all_same(mine, params, f"step {step}")


def test_long_counts_stay_exact():
    """beta**t in double, and counts that float32 could not hold (2²⁴ + 1)."""
    p, g, m, v = ([np.full(3, x)] for x in (1.0, 0.5, 0.1, 0.2))
    for step in (1, 10, 1000, 2**24 + 1, 2**40):
        want = adam(p[0], g[0], m[0], v[0], None, step=step, lr=0.1, betas=(0.9, 0.9999999))
        now = [a.copy() for a in (p[0], g[0], m[0], v[0])]
        ops.adam_(*[[a] for a in now], step=step, lr=0.1, betas=(0.9, 0.9999999), eps=1e-8,
                  weight_decay=0.0)  # fmt: skip
        np.testing.assert_allclose(now[0], want[0], rtol=1e-9, err_msg=str(step))


def test_numpy_integers_count_steps():
    for step in (np.int64(1), np.array(1), [np.int32(1)]):
        p = np.ones(3)
        ops.adam_([p], [np.ones(3)], [np.zeros(3)], [np.zeros(3)], step=step, lr=0.5)
        np.testing.assert_allclose(p, 0.5, rtol=1e-7)


@pytest.mark.skipif(BFLOAT16 is None, reason="needs ml_dtypes")
def test_float32_gradients_of_16_bit_parameters_are_refused_or_exact():
    p = [np.ones(5, BFLOAT16)]
    g = [np.full(5, 0.25, np.float32)]
    want = 0.75
    try:
        optim.SGD(p, lr=1.0).step(g)
    except TypeError:
        want = 1.0
    assert as_float64(p[0]).tolist() == [want] * 5


@pytest.mark.parametrize("kind", [list, np.array])
def test_options_changed_in_place_are_seen(kind):
    p, q = np.float32([1.0, -2.0]), np.float32([1.0, -2.0])
    g = np.float32([0.5, 0.25])
    mine = optim.Adam([p], lr=0.1, betas=kind([0.9, 0.99]))
    want = optim.Adam([q], lr=0.1, betas=(0.9, 0.99))
    for _ in range(2):
        mine.step([g])
        want.step([g])
        mine.param_groups[0]["betas"][0] = 0.5
        want.param_groups[0]["betas"] = (0.5, 0.99)
    np.testing.assert_array_equal(p, q)
