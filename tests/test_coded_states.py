"""States of 8 bits: the code, its decision points, every optimizer, saving and training."""

import copy
import pickle

import numpy as np
import pytest
import staged
from helpers import LAYOUTS, Layout, assert_all_same, assert_same, row_of
from onepass import _C, config, optim
from onepass._parameter import Parameter
from small_steps import assert_unchanged, everything, gradients, start
from test_rider_stages import RIDDEN, hyper

HYPER = {"lr": 0.1, "weight_decay": 0.1}


FIT = [v for v in RIDDEN if staged.may_be_coded(v)]
each_fit = pytest.mark.parametrize("variant", FIT, ids=[v.label for v in FIT])


def states(opt):
    return [state for held in opt._kept().values() for state in held]


# ------------------------------------------------------------------------------------------ code


@pytest.mark.parametrize("squares", [True, False])
def test_every_code_is_worth_what_is_documented(squares):
    codes = np.arange(256).astype(np.uint8)
    for scale in (1.0, 0.75, 3e38, 2e-25):
        got = _C.values_of(codes, np.float32([scale]), not squares)
        want = staged.worth(squares) * float(np.float32(scale))
        np.testing.assert_allclose(got, want, rtol=2.0**-22, atol=0)
        assert (np.diff(got if squares else got.view(np.float32)[np.argsort(want)]) > 0).all()
    if not squares:
        assert staged.worth(False)[0] == 0


def adamax(grads):
    """Codes, scales and values of exp_avg = g and exp_inf = |g| after a step."""
    p = np.zeros(grads.shape, np.float32)
    opt = optim.Adamax([p], lr=0.0, betas=(0.0, 0.0), eps=0.0, state_dtype="int8")
    opt.step([grads])
    return opt.state_dict()["state"][0]


@pytest.mark.parametrize("squares", [True, False])
def test_a_number_goes_to_the_neighbour_that_its_random_bits_choose(squares):
    """Around every decision point of every code, in every position of a block."""
    level = np.sort(staged.worth(squares))[0 if squares else 1 :]  # of int8 from -127
    low, high = level[:-1], level[1:]
    # The smallest are further than twice apart, so that lines have a corner between them.
    straight = np.minimum(np.abs(low), np.abs(high)) > (2.0**-25 if squares else 2.0**-13)
    random = staged.code_dither(0, 1, 1 if squares else 0).astype(np.int64)
    key = "exp_inf_codes" if squares else "exp_avg_codes"
    for shift in range(0, 256, 5):
        for margin in (-24, 24):
            position = (np.arange(low.size) + shift) % 255 + 1
            share = (65536 - random[position] + margin) / 65536
            inside = (share > 0.001) & (share < 0.999)
            g = np.zeros(256, np.float32)
            g[0] = 1
            g[position] = (low + (high - low) * share).astype(np.float32)
            codes = adamax(g)[key]
            got = staged.worth(squares)[codes.view(np.uint8)][position]
            want = high if margin > 0 else low
            assert codes.dtype == (np.uint8 if squares else np.int8)
            assert ((got == low) | (got == high))[inside].all()
            sure = inside & straight
            np.testing.assert_array_equal(got[sure], want[sure], f"{shift}, {margin}")
            assert sure.sum() > 200


def test_the_largest_number_of_a_block_is_its_scale():
    rng = np.random.default_rng(0)
    g = (rng.standard_normal(2000) * 10.0 ** rng.uniform(-30, 30, 2000)).astype(np.float32)
    entry = adamax(g)
    for key in ("exp_avg", "exp_inf"):
        want = [np.abs(g[i : i + 256]).max() for i in range(0, g.size, 256)]
        np.testing.assert_array_equal(entry[f"{key}_scale"], np.float32(want))


@pytest.mark.parametrize("largest", [3.4e38, 1e30, 1.0, 1e-30, 1e-36])
def test_a_step_stores_what_the_reference_stores(largest):
    rng = np.random.default_rng(1)
    for size in (1, 7, 255, 256, 257, 1023, 1025, 5000):
        g = (rng.standard_normal(size) ** 3).astype(np.float32)
        g = (g.astype(np.float64) * (largest / float(np.abs(g).max()))).astype(np.float32)
        g[np.abs(g) < 2.0**-126] = 0  # as a step flushes it
        entry = adamax(g)
        for number, key in enumerate(("exp_avg", "exp_inf")):
            random = staged.code_dither(0, 1, number)
            values = np.abs(g) if number else g
            _, codes, scales = staged.coded(values, bool(number), random)
            assert_same(entry[f"{key}_codes"].view(np.uint8), codes, f"{key} {size}")
            assert_same(entry[f"{key}_scale"], scales, f"{key} {size}")


def test_a_number_is_right_on_average():
    """Over many steps, each with random bits of its own, the mean of what is stored."""
    rng = np.random.default_rng(2)
    g = rng.standard_normal(256).astype(np.float32)
    total = np.zeros(256)
    for step in range(1, 401):
        total += staged.coded(g, False, staged.code_dither(0, step, 0))[0]
    level = np.sort(staged.worth(False)) * float(np.abs(g).max())
    at = np.minimum(np.searchsorted(level, g, "right"), 255)
    gap = level[at] - level[at - 1]
    assert (np.abs(total / 400 - g) < 5 * gap / 2 / 400**0.5 + 1e-6).all()


def test_squares_are_never_rounded_to_zero_and_gradients_that_never_came_stay_zero():
    g = np.full(256, 1e-12, np.float32)
    g[0], g[7] = 1, 0
    p = np.ones(256, np.float32)
    opt = optim.AdamW([p], lr=0.5, weight_decay=0.0, state_dtype="int8")
    for _ in range(20):
        opt.step([g])
    entry = opt.state_dict()["state"][0]
    assert p[7] == 1
    assert entry["exp_avg_codes"][7] == 0
    v = _C.values_of(entry["exp_avg_sq_codes"], entry["exp_avg_sq_scale"], False)
    assert (v > 0).all()
    assert (np.abs(p - 1) <= 20 * 0.5 * 1.001).all()


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_makes_its_block_nan(bad):
    g = np.ones(700, np.float32)
    g[300] = bad
    entry = adamax(g)
    for key, signed in (("exp_avg", True), ("exp_inf", False)):
        flat = entry[f"{key}_codes"].view(np.uint8)
        got = np.isnan(_C.values_of(flat, entry[f"{key}_scale"], signed))
        np.testing.assert_array_equal(got, np.arange(700) // 256 == 1)


# ------------------------------------------------------------------------------------- optimizers


@each_fit
def test_states_are_float32_ones_coded_after_every_step(variant):
    for dtype in ("float32", "float16"):
        for riders in ({}, staged.RIDERS):
            rng, params = start(dtype)
            opt = variant.make(params, state_dtype="int8", seed=7, **riders, **hyper(variant))
            want = staged.Staged(variant, params, riders, 7, stored="int8", **hyper(variant))
            for t in range(4):
                grads = gradients(rng, params, lambda i, t=t: t > 0 or i != 3)
                control = [{}, {"grad_scale": 4.0}, {"max_value": 0.5}][t % 3]
                opt.step(grads, **control)
                want.step(grads, **control)
                assert_all_same(params, want.params, f"{dtype} {list(riders)}, step {t}")
                entries = opt.state_dict()["state"]
                for key, plain in want.plain._kept().items():
                    for i, entry in entries.items():
                        flat = np.ascontiguousarray(entry[f"{key}_codes"]).view(np.uint8).ravel()
                        signed = key not in staged.SQUARES
                        got = _C.values_of(flat, entry[f"{key}_scale"], signed)
                        assert_same(got.reshape(plain[i].shape), plain[i], f"{key} {i}, step {t}")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_view_of_any_layout_takes_the_steps_of_a_plain_array(layout):
    rng = np.random.default_rng(0)
    plain = rng.standard_normal((5, 6, 67)).astype(np.float32)
    view = Layout(plain.copy(), layout)
    one = optim.AdamW([plain], **HYPER, state_dtype="int8")
    two = optim.AdamW([view.view], **HYPER, state_dtype="int8")
    for _ in range(3):
        g = rng.standard_normal(plain.shape).astype(np.float32)
        one.step([g])
        two.step([Layout(g, layout).view])
        assert_same(np.ascontiguousarray(view.view), plain, layout)
        assert_all_same(states(two), states(one))
    view.check(layout)


def test_threads_and_levels_give_the_same_bits():
    threads, level = config.get_num_threads(), config.cpu_level()
    results = []
    try:
        for each in _C.cpu_levels():
            for n in (1, 2, 3, 7):
                config.set_cpu_level(each)
                config.set_num_threads(n)
                rng = np.random.default_rng(1)
                params = [rng.standard_normal((40, 1001)).astype(d) for d in ("f4", "f2")]
                params += [np.float32(rng.standard_normal(())), np.zeros((0, 3), np.float32)]
                params[2] = np.asarray(params[2])
                opt = optim.Adam(params, lr=0.1, amsgrad=True, state_dtype="int8")
                for _ in range(3):
                    opt.step([np.asarray(rng.standard_normal(p.shape), p.dtype) for p in params])
                results.append([*params, *states(opt)])
    finally:
        config.set_num_threads(threads)
        config.set_cpu_level(level)
    for result in results[1:]:
        assert_all_same(result, results[0])


@pytest.mark.parametrize("how", ["skip", "raise"])
def test_a_skipped_step_changes_nothing(how):
    rng, params = start("float32")
    opt = optim.AdamW(params, **HYPER, state_dtype="int8")
    opt.step(gradients(rng, params))
    before = everything(opt, params)
    grads = gradients(rng, params)
    grads[4][1000] = np.inf
    try:
        assert opt.step(grads, nonfinite=how).skipped
    except FloatingPointError:
        assert how == "raise"
    assert_unchanged(opt, params, before, how)


def test_tensors_of_pytorch_take_the_steps_of_arrays():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in [(40, 33), (7,), ()]]
    tensors = [torch.from_numpy(a.copy()).requires_grad_() for a in arrays]
    one = optim.AdamW(arrays, **HYPER, state_dtype="int8")
    two = optim.AdamW(tensors, **HYPER, state_dtype="int8")
    for _ in range(2):
        grads = [np.asarray(rng.standard_normal(a.shape), np.float32) for a in arrays]
        for t, g in zip(tensors, grads, strict=True):
            t.grad = torch.from_numpy(g)
        one.step(grads)
        two.step()
        assert_all_same([t.detach().numpy() for t in tensors], arrays)
        assert_all_same([t.numpy() for t in states(two)], states(one))
    entry = two.state_dict()["state"][0]
    assert entry["exp_avg_codes"].dtype == torch.int8
    assert entry["exp_avg_codes"].shape == (40, 33)
    assert entry["exp_avg_sq_scale"].shape == (-(-40 * 33 // 256),)
    one.load_state_dict(two.state_dict())
    assert_all_same([t.numpy() for t in states(two)], states(one))


# ----------------------------------------------------------------------------------------- saving


@each_fit
def test_training_resumes_bit_for_bit(variant):
    rng, params = start("float32")
    options = {**hyper(variant), "state_dtype": "int8"}
    opt = variant.make(params, **options)
    for _ in range(2):
        opt.step(gradients(rng, params, lambda i: i != 2))
    others = [p.copy() for p in params]
    other = variant.make(others, **options)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert_all_same(states(other), states(opt))
    twin = pickle.loads(pickle.dumps(opt))
    for _ in range(2):
        grads = gradients(rng, params)
        for each in (opt, other, twin):
            each.step(grads)
        assert_all_same(others, params)
        assert_all_same(twin._arrays, params)
        assert_all_same(states(other), states(opt))


def test_states_go_from_float32_to_8_bits_and_back():
    rng = np.random.default_rng(0)
    p = [rng.standard_normal((30, 40)).astype(np.float32), np.ones(3, np.float32)]
    wide, narrow = (
        optim.AdamW([a.copy() for a in p], state_dtype=d, **HYPER) for d in (None, "int8")
    )
    for _ in range(3):
        wide.step([rng.standard_normal(a.shape).astype(np.float32) for a in p])
    narrow.load_state_dict(wide.state_dict())
    for key in ("exp_avg", "exp_avg_sq"):
        entry, want = narrow.state_dict()["state"][0], wide.state_dict()["state"][0][key]
        got, _, scales = staged.coded(want, key in staged.SQUARES, np.uint32(0x8000))
        assert_same(entry[f"{key}_scale"], scales)
        assert (np.abs(got - want) <= np.abs(want) / 8 + scales.max() * 2.0**-13).all()
    saved = narrow.state_dict()
    back = optim.AdamW([a.copy() for a in p], **HYPER)
    with pytest.raises(ValueError, match=r"'state_dtype' is 'int8', .*to go on otherwise, delete"):
        back.load_state_dict(saved)
    groups = [{k: v for k, v in g.items() if k != "state_dtype"} for g in saved["param_groups"]]
    back.load_state_dict({**saved, "param_groups": groups})
    for key in ("exp_avg", "exp_avg_sq"):
        want = staged.coded(wide._states[key][0], key in staged.SQUARES, np.uint32(0x8000))[0]
        assert_same(back._states[key][0], want)
    again = optim.AdamW([a.copy() for a in p], state_dtype="int8", **HYPER)
    again.load_state_dict(back.state_dict())
    for key in ("exp_avg", "exp_avg_sq"):
        assert_same(
            again.state_dict()["state"][0][f"{key}_codes"], saved["state"][0][f"{key}_codes"]
        )


def test_codes_that_do_not_fit_are_refused_and_nothing_changes():
    p = np.ones(300, np.float32)
    opt = optim.AdamW([p], state_dtype="int8")
    opt.step([p.copy()])
    before = [s.copy() for s in states(opt)]
    for key, value in (
        ("exp_avg_codes", np.zeros(300, np.uint8)),
        ("exp_avg_codes", np.zeros(299, np.int8)),
        ("exp_avg_codes", np.zeros(300, np.float32)),
        ("exp_avg_sq_scale", np.zeros(1, np.float32)),
        ("exp_avg_sq_scale", np.full(2, -1, np.float32)),
        ("exp_avg_sq_scale", np.ones(2)),
        ("exp_avg_scale", None),
    ):
        saved = copy.deepcopy(opt.state_dict())
        saved["state"][0][key] = value
        with pytest.raises(ValueError, match=r"exp_avg.*nothing was changed"):
            opt.load_state_dict(saved)
        assert_all_same(states(opt), before)


def test_states_follow_added_parameters_and_an_initial_value():
    p, q = np.ones(300, np.float32), np.full((2, 2), 4, np.float32)
    opt = optim.Adagrad([p], lr=0.5, initial_accumulator_value=0.25, state_dtype="int8")
    opt.step([p.copy()])
    held = states(opt)[0].copy()
    opt.add_param_group({"params": [q]})
    assert_same(states(opt)[0], held)
    opt.step([None, np.ones((2, 2), np.float32)])
    assert_same(q, np.full((2, 2), np.float32(4 - 0.5 / np.sqrt(np.float32(1.25)))))
    assert_same(opt.state_dict()["state"][1]["sum_scale"], np.float32([1.25]))


def test_pytorch_does_not_take_codes_for_numbers():
    torch = pytest.importorskip("torch")
    p = torch.nn.Parameter(torch.ones(300))
    p.grad = torch.ones(300)
    ours = optim.AdamW([p], state_dtype="int8")
    ours.step()
    theirs = torch.optim.AdamW([p])
    theirs.load_state_dict(ours.state_dict())
    with pytest.raises(KeyError, match="exp_avg"):
        theirs.step()


# -------------------------------------------------------------------------------------- wrong use


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda p: optim.Rprop(p, state_dtype="int8"), "too much of 'prev'"),
        (lambda p: optim.ASGD(p, state_dtype="int8"), "too much of 'ax'"),
        (lambda p: optim.RMSprop(p, centered=True, state_dtype="int8"), "too much of 'grad_avg'"),
    ],
)
def test_states_that_8_bits_cannot_hold_are_refused(make, why):
    with pytest.raises(
        ValueError, match=f"'state_dtype' is 'int8', expected None or 'bfloat16', since .*{why}"
    ):
        make([np.ones(3, np.float32)])


@pytest.mark.parametrize("wanted", ["int8", "bfloat16"])
def test_no_other_storage_is_offered_for_states_of_float64_parameters(wanted):
    """bfloat16 would be refused next."""
    params = [np.ones(3, np.float32), np.ones(3)]
    with pytest.raises(ValueError, match="expected None, since parameter 1 has dtype float64"):
        optim.Adam(params, state_dtype=wanted)
    narrow = [p.astype(np.float32) for p in params]
    saved = optim.Adam(narrow, state_dtype="int8")
    saved.step([np.ones(3, np.float32)] * 2)
    wide = optim.Adam(params)
    with pytest.raises(ValueError, match=r"expected None, since .*otherwise, delete 'state_dtype'"):
        wide.load_state_dict(saved.state_dict())


def test_a_plan_refuses_memory_that_is_no_coded_state():
    p, size = np.ones(300, np.float32), _C.coded_bytes(300)
    assert size == 320 + 2 * 4
    good = [np.zeros(size, np.int8)], [np.zeros(size, np.uint8)]
    stages = ([None], [None])
    _C.Plan("adamw", [p], [*good, None], [0], None, stages)
    for one, two, given in (
        ([np.zeros(size - 1, np.int8)], good[1], stages),
        ([np.zeros((1, size), np.int8)], good[1], stages),
        ([np.zeros(2 * size, np.int8)[::2]], good[1], stages),
        ([np.zeros(size + 1, np.int8)[1:]], good[1], stages),
        (good[0], [np.zeros(300, np.float32)], stages),
        ([np.zeros(300, np.float32)], good[1], stages),
        (good[0], good[1], None),
    ):
        with pytest.raises((TypeError, ValueError), match="exp_avg"):
            _C.Plan("adamw", [p], [one, two, None], [0], None, given)
    with pytest.raises(TypeError, match="float64"):
        _C.Plan("adamw", [p.astype(np.float64)], [*good, None], [0], None, stages)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_plan_whose_stages_do_nothing_keeps_codes_in_c_order(layout):
    """Nothing but the codes then asks for that order."""
    rng = np.random.default_rng(3)
    plain = rng.standard_normal((5, 6, 67)).astype(np.float32)
    held, results = Layout(plain.copy(), layout), []
    grads = [rng.standard_normal(plain.shape).astype(np.float32) for _ in range(3)]
    for p, lay in ((plain, np.asarray), (held.view, lambda g: Layout(g, layout).view)):
        codes = [[np.zeros(_C.coded_bytes(plain.size), d)] for d in (np.int8, np.uint8)]
        plan = _C.Plan("adamw", [p], [*codes, None], [0], None, ([None], [None]))
        for g in grads:
            row = row_of("adamw", 0.1, 0.9, 0.999, 1e-8, 0.01)
            plan.step([lay(g)], (row,), 1.0, None, None, False, False, False, True)
        results.append([np.ascontiguousarray(p), *(held for (held,) in codes)])
    assert_all_same(*results)
    held.check(layout)


# --------------------------------------------------------------------------------------- training


def test_training_ends_where_float32_states_end():
    """Logistic regression on features of very different size."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((400, 60)) * 10.0 ** rng.uniform(-2, 1, 60)).astype(np.float32)
    y = (x @ rng.standard_normal(60) > 0).astype(np.float32)
    losses = {}
    for dtype in (None, "int8"):
        w = np.zeros((60, 8), np.float32)
        opt = optim.AdamW([w], lr=0.02, weight_decay=0.0, state_dtype=dtype)
        for t in range(300):
            rows = slice(50 * (t % 8), 50 * (t % 8) + 50)
            p = 1 / (1 + np.exp(-np.clip(x[rows] @ w, -30, 30)))
            opt.step([x[rows].T @ (p - y[rows, None]) / 50])
        p = np.clip(1 / (1 + np.exp(-np.clip(x @ w, -30, 30))), 1e-6, 1 - 1e-6)
        right = np.where(y[:, None] > 0, p, 1 - p)
        losses[dtype] = float(-np.log(right).mean())
    assert losses[None] < 0.25
    assert losses["int8"] < losses[None] * 1.1 + 0.005


@pytest.mark.parametrize("kind", ["Parameter", "torch", "added group"])
def test_a_parameter_of_another_shape_is_refused_though_its_codes_take_as_many_bytes(kind):
    """Float32 states say their shape; codes of 10 and of 60 elements have the same memory."""
    torch = pytest.importorskip("torch") if kind == "torch" else None
    first = np.ones((2, 5), np.float32)
    p = Parameter(first) if torch is None else torch.nn.Parameter(torch.from_numpy(first))
    opt = optim.AdamW([p], state_dtype="int8")
    opt.step([np.ones_like(first)] if torch is None else [torch.ones(2, 5)])
    before = [s.copy() for s in states(opt)] if torch is None else None
    for shape in ((5, 2), (60,)):
        p.data = np.ones(shape, np.float32) if torch is None else torch.ones(shape)
        g = np.ones(shape, np.float32) if torch is None else torch.ones(shape)
        message = r"shape .*, expected \(2, 5\), that of its states"
        if kind == "added group":
            with pytest.raises(ValueError, match=message):
                opt.add_param_group({"params": [np.ones(3, np.float32)]})
        with pytest.raises(ValueError, match=message):
            opt.step([g])
        assert (np.asarray(p.data) == 1).all()
    if before is not None:
        p.data = first
        assert_all_same(states(opt), before)
        opt.step([np.ones_like(first)])


def test_a_state_of_other_averages_is_refused_before_anything_changes():
    p = np.ones(300, np.float32)
    centred = optim.RMSprop([p.copy()], centered=True)
    centred.step([p.copy()])
    opt = optim.RMSprop([p], state_dtype="int8")
    with pytest.raises(ValueError, match="8 bits would lose too much of 'grad_avg'"):
        opt.load_state_dict(centred.state_dict())
    opt.step([p.copy()])
    assert not opt.param_groups[0]["centered"]
