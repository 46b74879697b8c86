"""Optimizers over many steps: the float64 reference and torch.optim, with late gradients,
clipping, overflow, resume. What every optimizer has is tested on every one of OPTIMIZERS."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
import reference as ref
from cases import BFLOAT16, DTYPES, SIGNIFICAND, as_float64, computing
from helpers import DTYPE_IDS, LAYOUTS, Layout, assert_all_same, assert_same, from_torch, to_torch
from onepass import ops, optim

SHAPES = [(7, 5), (33,), (3, 4, 2, 2), (), (1025,), (0,), (2, 3)]

# Class, reference rule, names of its states, the options to sweep; the first are the defaults.
OPTIMIZERS = {
    "SGD": (
        ref.sgd,
        ("momentum_buffer",),
        [
            {},
            {"lr": 0.1},
            {"lr": 0.05, "momentum": 0.9},
            {"lr": 0.05, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01},
            {"lr": 0.02, "momentum": 0.8, "nesterov": True},
            {"lr": 0.1, "weight_decay": 0.1, "maximize": True},
        ],
    ),
    **{
        kind: (
            rule,
            ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
            [
                {},
                {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1},
                {"lr": 0.05, "eps": 1e-2, "maximize": True},
                {"lr": 0.1, "betas": (0.9, 0.95), "amsgrad": True},
                {"lr": 0.01, "betas": (0.0, 0.5), "amsgrad": True, "weight_decay": 0.0},
            ],
        )
        for kind, rule in (("Adam", ref.adam), ("AdamW", ref.adamw))
    },
}
EVERY = [(kind, options) for kind, (_, _, sweep) in OPTIMIZERS.items() for options in sweep]
every_configuration = pytest.mark.parametrize(
    ("kind", "options"), EVERY, ids=[f"{k}-{o}" for k, o in EVERY]
)
every_kind = pytest.mark.parametrize("kind", OPTIMIZERS)
MOMENTUM = {"SGD": {"lr": 0.1, "momentum": 0.9}, "Adam": {"lr": 0.1}, "AdamW": {"lr": 0.1}}


class Reference:
    """The float64 trajectory of a list of parameters, each with its own states and step count."""

    def __init__(self, kind, params, **options):
        self.rule, names, _ = OPTIMIZERS[kind]
        self.options = dict(options)
        self.states = len(names) - ("max_exp_avg_sq" in names and not options.get("amsgrad"))
        self.options.pop("amsgrad", None)
        self.params = [as_float64(p.copy()) for p in params]
        self.state = [[np.zeros_like(p) for _ in range(self.states)] for p in self.params]
        self.steps = [0] * len(params)

    def step(self, grads, **controls):
        grads, norm = ref.clip([None if g is None else as_float64(g) for g in grads], **controls)
        for i, g in enumerate(grads):
            if g is not None:
                self.steps[i] += 1
                self.params[i], *self.state[i] = self.rule(
                    self.params[i], g, *self.state[i], step=self.steps[i], **self.options
                )
                self.state[i] = self.state[i][: self.states]
        return norm


def start(dtype="float64", shapes=SHAPES, seed=0):
    rng = np.random.default_rng(seed)
    return rng, [np.asarray(rng.standard_normal(s)).astype(dtype) for s in shapes]


def gradients(rng, params, present=lambda i: True):
    """Fresh arrays in a layout that changes from call to call, None where not present."""
    grads = []
    for i, p in enumerate(params):
        g = np.asarray(rng.standard_normal(p.shape)).astype(p.dtype)
        layout = ["plain", "plain", *LAYOUTS][rng.integers(2 + len(LAYOUTS))]
        grads.append(Layout(g, layout).view if present(i) else None)
    return grads


def assert_near(params, want, rel, label):
    for i, (p, w) in enumerate(zip(params, want, strict=True)):
        top = np.abs(w).max() if w.size else 0.0
        np.testing.assert_allclose(as_float64(p), w, rel, rel * top, err_msg=f"{label} [{i}]")


def steps_of(optimizer, count):
    """Step counts, 0 for parameters without state."""
    state = optimizer.state_dict()["state"]
    return [int(state[i]["step"]) if i in state and "step" in state[i] else 0 for i in range(count)]


# ------------------------------------------------------------------------------------- trajectories


@every_configuration
def test_trajectory(kind, options):
    """40 steps: float64 to 1e-12, float32 to 1e-4 (a rounding a step, amplified by √v near 0)."""
    for dtype, rel in (("float64", 1e-12), ("float32", 1e-4)):
        rng, params = start(dtype)
        opt, want = getattr(optim, kind)(params, **options), Reference(kind, params, **options)
        for step in range(40):
            grads = gradients(rng, params)
            want.step(grads)
            info = opt.step(grads)
            assert (info.skipped, info.grad_norm, info.nonfinite_param) == (False, None, None)
            assert_near(params, want.params, rel, f"{kind} {options} {dtype} step {step}")


@every_configuration
def test_trajectory_equals_torch(kind, options):
    torch = pytest.importorskip("torch")
    rng, params = start()
    theirs = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params]
    opt, other = (
        getattr(optim, kind)(params, **options),
        getattr(torch.optim, kind)(theirs, **options),
    )
    for step in range(40):
        grads = gradients(rng, params, lambda i, s=step: s >= 3 * i and (i + s) % 4)
        for p, g in zip(theirs, grads, strict=True):
            p.grad = None if g is None else torch.from_numpy(g.copy())
        max_norm = [None, 2.0][step % 2]
        if max_norm:
            norm = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
        info = opt.step(grads, max_norm=max_norm)
        other.step()
        if max_norm:
            assert info.grad_norm == pytest.approx(float(norm), rel=1e-12)
        assert_near(params, [p.detach().numpy() for p in theirs], 1e-11, f"step {step}")


@every_configuration
def test_late_and_missing_gradients(kind, options):
    """A parameter's own first gradient starts its buffers and its step count."""
    rng, params = start()
    opt, want = getattr(optim, kind)(params, **options), Reference(kind, params, **options)
    for step in range(36):
        grads = gradients(rng, params, lambda i, step=step: step >= 5 * i and (i + step) % 3)
        untouched = [(p, p.copy()) for p, g in zip(params, grads, strict=True) if g is None]
        opt.step(grads)
        want.step(grads)
        assert_near(params, want.params, 1e-12, f"step {step}")
        for p, before in untouched:
            assert_same(p, before)
        if opt.state_dict()["state"]:
            assert steps_of(opt, len(params)) == want.steps
    assert opt.step([None] * len(params), max_norm=1.0).grad_norm == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)
@every_configuration
def test_every_dtype_step_by_step(kind, options, dtype):
    """Each step judged from the parameters as they are: half a unit in the last place, and what
    the computing type loses. Storage is rounded to nearest, states are of the computing type."""
    rng, params = start(dtype)
    opt, want = getattr(optim, kind)(params, **options), Reference(kind, params, **options)
    half_ulp = 2.0 ** -SIGNIFICAND[dtype.name]
    drift = {"float64": 1e-13, "float32": 1e-5}[computing(dtype).name]
    for step in range(30):
        grads = gradients(rng, params)
        want.params = [as_float64(p) for p in params]
        before = [as_float64(p) for p in params]
        opt.step(grads)
        want.step(grads)
        for p, w, b in zip(params, want.params, before, strict=True):
            moved = np.abs(w - b).max() if w.size else 0.0
            bound = half_ulp * np.abs(w) + drift * (np.abs(w) + moved) + 2.0**-24 * (p.itemsize < 4)
            worst = np.abs(as_float64(p) - w) - bound
            assert (worst <= 0).all(), f"step {step}: off by {worst.max():.3g} more than allowed"
    for entry in opt.state_dict()["state"].values():
        for key, value in entry.items():
            if key != "step":
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


@every_kind
def test_groups_have_options_of_their_own(kind):
    rng, params = start()
    groups = [{"params": params[:2], "lr": 0.3}, {"params": params[2:], "weight_decay": 0.2}]
    opt = getattr(optim, kind)(groups, lr=0.1)
    parts = [
        Reference(kind, params[:2], lr=0.3),
        Reference(kind, params[2:], lr=0.1, weight_decay=0.2),
    ]
    assert [g["lr"] for g in opt.param_groups] == [0.3, 0.1]
    for step in range(10):
        if step == 5:  # as a scheduler does
            opt.param_groups[1]["lr"] = parts[1].options["lr"] = 0.01
        grads = gradients(rng, params)
        opt.step(grads)
        parts[0].step(grads[:2])
        parts[1].step(grads[2:])
        assert_near(params, parts[0].params + parts[1].params, 1e-12, f"step {step}")


@every_kind
def test_generators_and_empty_parameters(kind):
    rng, params = start()
    opt = getattr(optim, kind)((p for p in params), lr=0.1)
    want = Reference(kind, params, lr=0.1)
    for _ in range(3):
        grads = gradients(rng, params)
        opt.step(grads)
        want.step(grads)
    assert_near(params, want.params, 1e-12, kind)
    assert params[5].size == 0


@every_kind
def test_one_launch_for_many_tensors(kind):
    """Three tensors or three hundred, big beside small: the same as one at a time."""
    rng, params = start("float32", [(1 + 7 * (i % 9),) for i in range(300)] + [(90001,), (3,)])
    alone = [p.copy() for p in params]
    together = getattr(optim, kind)(params, **MOMENTUM[kind])
    single = [getattr(optim, kind)([p], **MOMENTUM[kind]) for p in alone]
    for _ in range(4):
        grads = gradients(rng, params)
        together.step(grads)
        for opt, g in zip(single, grads, strict=True):
            opt.step([g])
    assert_all_same(params, alone)


@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
def test_the_function_is_the_class(kind):
    rng, params = start("float32")
    mine = [p.copy() for p in params]
    m, v, largest = ([np.zeros_like(p) for p in params] for _ in range(3))
    opt = getattr(optim, kind)(params, lr=0.1, amsgrad=True)
    for step in range(1, 8):
        grads = gradients(rng, params)
        opt.step(grads)
        decay = opt.param_groups[0]["weight_decay"]
        function = {"Adam": ops.adam_, "AdamW": ops.adamw_}[kind]
        function(mine, grads, m, v, largest, step=step, lr=0.1, betas=(0.9, 0.999), eps=1e-8,
                 weight_decay=decay)  # fmt: skip
        assert_all_same(mine, params, f"step {step}")


def test_long_counts_stay_exact():
    """beta**t in double, and counts that float32 could not hold (2²⁴ + 1)."""
    p, g, m, v = ([np.full(3, x)] for x in (1.0, 0.5, 0.1, 0.2))
    for step in (1, 10, 1000, 2**24 + 1, 2**40):
        want = ref.adam(p[0], g[0], m[0], v[0], step=step, lr=0.1, betas=(0.9, 0.9999999))
        now = [a.copy() for a in (p[0], g[0], m[0], v[0])]
        ops.adam_(*[[a] for a in now], step=step, lr=0.1, betas=(0.9, 0.9999999), eps=1e-8,
                  weight_decay=0.0)  # fmt: skip
        np.testing.assert_allclose(now[0], want[0], rtol=1e-9, err_msg=str(step))


# ------------------------------------------------------------------------------ clipping, unscaling


@every_kind
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_unscale_then_clip_values_then_clip_the_norm(kind, dtype):
    rel = 1e-12 if dtype == "float64" else 2e-5
    controls = [
        {"max_norm": n, "max_value": v, "grad_scale": s}
        for n, v, s in itertools.product((None, 0.5, 1e6), (None, 0.3, 50.0), (None, 8.0, 0.3))
    ]
    rng, params = start(dtype)
    opt, want = getattr(optim, kind)(params, lr=0.1), Reference(kind, params, lr=0.1)
    for control in controls:
        grads = gradients(rng, params, lambda i: i != 3)
        before = [None if g is None else g.copy() for g in grads]
        norm = want.step(grads, **control)
        info = opt.step(grads, **control)
        assert_near(params, want.params, rel, str(control))
        if control["max_norm"] is None:
            assert info.grad_norm is None
        else:
            assert float(info.grad_norm) == pytest.approx(norm, rel=1e-6)
        for g, b in zip(grads, before, strict=True):
            assert_same(g, b, "gradients are only read")


def test_clipping_is_what_torch_does():
    """coefficient = min(1, max_norm/(norm + 1e-6)), visible where the norm is near 1e-6."""
    p, g = [np.zeros(4)], [np.full(4, 1e-6)]
    optim.SGD(p, lr=1.0).step(g, max_norm=1e-6)
    np.testing.assert_allclose(p[0], -1e-6 * (1e-6 / (2e-6 + 1e-6)), rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)
def test_norm_of_scaled_16_bit_gradients(dtype):
    """A loss scale of 2¹⁴: gradients near the top of float16, their norm beyond it."""
    rng, params = start(dtype)
    grads = [np.asarray(rng.uniform(0.5, 1, p.shape) * 2.0**14).astype(dtype) for p in params]
    want = ref.global_norm([as_float64(g) for g in grads]) / 2.0**14
    info = optim.SGD(params, lr=0.0).step(grads, grad_scale=2.0**14, max_norm=1.0)
    assert float(info.grad_norm) == pytest.approx(want, rel=1e-6)


# --------------------------------------------------------------------------------- zeroed gradients


@every_kind
@pytest.mark.parametrize("nonfinite", ["propagate", "skip"])
def test_zero_grad(kind, nonfinite):
    for dtype, bad in itertools.product(DTYPES, (None, math.inf)):
        rng, params = start(dtype)
        opt = getattr(optim, kind)(params, lr=0.1)
        with np.errstate(all="ignore"):
            grads = gradients(rng, params, lambda i: i != 1)
        if bad is not None:
            grads[4][1000] = bad
        info = opt.step(grads, zero_grad=True, nonfinite=nonfinite, max_norm=1.0)
        assert info.skipped == (bad is not None and nonfinite == "skip")
        assert grads[1] is None
        for g in grads:
            assert g is None or not g.any()


@every_kind
def test_a_step_that_raises_leaves_the_gradients(kind):
    rng, params = start("float32")
    opt = getattr(optim, kind)(params, lr=0.1)
    grads = gradients(rng, params)
    opt.step(grads, zero_grad=True, nonfinite="raise")
    assert not any(g.any() for g in grads)
    grads = gradients(rng, params)
    grads[2].flat[0] = math.nan
    before = [g.copy() for g in grads]
    with pytest.raises(FloatingPointError, match=r"parameter 2 .*nothing was changed"):
        opt.step(grads, zero_grad=True, nonfinite="raise")
    assert_all_same(grads, before)


@every_kind
def test_zeroing_changes_nothing_else(kind):
    rng, params = start("float32")
    other = [p.copy() for p in params]
    one, two = (getattr(optim, kind)(p, **MOMENTUM[kind]) for p in (params, other))
    for control in ({}, {"max_norm": 0.5}, {"max_value": 0.1, "grad_scale": 2.0}):
        grads = gradients(rng, params)
        one.step([g.copy() for g in grads], **control)
        two.step(grads, zero_grad=True, **control)
        assert_all_same(params, other, str(control))


# ----------------------------------------------------------------------------------------- overflow


def everything(optimizer, params):
    return copy.deepcopy([params, optimizer.state_dict()])


def assert_unchanged(optimizer, params, before, label):
    now = everything(optimizer, params)
    assert_all_same(now[0], before[0], label)
    assert now[1]["param_groups"] == before[1]["param_groups"], label
    assert now[1]["state"].keys() == before[1]["state"].keys(), label
    for i, entry in before[1]["state"].items():
        for key, value in entry.items():
            assert_same(now[1]["state"][i][key], value, f"{label}: {key} of {i}")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@every_configuration
def test_a_skipped_step_changes_nothing(kind, options, bad):
    """Also on the very first step, where the buffers have never been written."""
    for first, dtype in itertools.product((0, 3), DTYPES):
        rng, params = start(dtype)
        quiet_rng, twin = start(dtype)
        opt, same = (getattr(optim, kind)(p, **options) for p in (params, twin))
        for step in range(6):
            if step == first:
                for at, place in ((1, 32), (4, 0), (4, 1024), (6, 5)):
                    grads = [np.ones(p.shape, dtype) for p in params]
                    grads[at].flat[place] = bad
                    before = everything(opt, params)
                    info = opt.step(grads, nonfinite="skip", max_norm=1.0, max_value=2.0)
                    assert info.skipped
                    assert info.nonfinite_param == at
                    assert_unchanged(opt, params, before, f"skip at {at}")
                    with pytest.raises(FloatingPointError, match=rf"\b{at}\b"):
                        opt.step(grads, nonfinite="raise")
                    assert_unchanged(opt, params, before, f"raise at {at}")
            grads = gradients(rng, params)
            info = opt.step(grads, nonfinite="skip")
            assert not info.skipped
            assert info.nonfinite_param is None
            same.step([g.copy() for g in gradients(quiet_rng, twin)])
            assert_all_same(params, twin, f"step {step} after the skip")


@every_kind
def test_the_first_offender_is_named(kind):
    _, params = start("float32")
    opt = getattr(optim, kind)(params, lr=0.1)
    grads = [np.ones_like(p) for p in params]
    grads[0] = None
    grads[6][1, 2] = math.nan
    grads[2][0] = math.inf
    assert opt.step(grads, nonfinite="skip").nonfinite_param == 2
    assert opt.step(grads, nonfinite="propagate").nonfinite_param is None
    assert not np.isfinite(params[2]).all()
    assert np.isfinite(params[1]).all()


@every_kind
def test_propagate_is_ieee(kind):
    """One NaN spoils its own element; with a norm over everything it spoils all."""
    _, params = start("float32")
    opt = getattr(optim, kind)(params, lr=0.1)
    grads = [np.ones_like(p) for p in params]
    grads[1][5] = math.nan
    info = opt.step(grads)
    assert not info.skipped
    assert np.flatnonzero(np.isnan(params[1])).tolist() == [5]
    info = opt.step(grads, max_norm=1.0)
    assert math.isnan(float(info.grad_norm))
    assert info.nonfinite_param is None
    assert np.isnan(params[0]).all()


@every_kind
def test_overflow_of_the_division_counts(kind):
    """The check follows the division by grad_scale: what overflows there is not finite."""
    _, params = start("float32")
    opt = getattr(optim, kind)(params, lr=0.1)
    grads = [np.full(p.shape, 1e30, np.float32) for p in params]
    before = everything(opt, params)
    assert opt.step(grads, grad_scale=1e-20, nonfinite="skip").skipped
    assert_unchanged(opt, params, before, kind)
    info = opt.step(grads, nonfinite="skip", max_norm=1.0)  # large, but finite
    assert not info.skipped
    assert float(info.grad_norm) > 1e30


# ------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)
@every_configuration
def test_resume_is_bitwise(kind, options, dtype):
    """Stop after any step, load into a fresh optimizer, go on: the uninterrupted run."""
    rng, params = start(dtype)
    grads = [gradients(rng, params, lambda i, s=s: s >= i % 3) for s in range(8)]
    opt = getattr(optim, kind)(params, **options)
    stops = []
    for g in grads:
        stops.append(everything(opt, params))
        opt.step(g, max_norm=3.0)
    end = everything(opt, params)
    for stop, (params_then, state_then) in enumerate(stops):
        params_then = [p.copy() for p in params_then]
        resumed = getattr(optim, kind)(params_then, lr=77.0)  # the state_dict's options win
        resumed.load_state_dict(copy.deepcopy(state_then))
        for g in grads[stop:]:
            resumed.step(g, max_norm=3.0)
        assert_unchanged(resumed, params_then, end, f"resumed at {stop}")


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
@every_configuration
def test_copies_go_on_by_themselves(kind, options, duplicate):
    rng = np.random.default_rng(3)
    params = [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]
    grads = [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]
    optimizer = getattr(optim, kind)(params, **options)
    optimizer.step([None, *grads[1:]])
    before = copy.deepcopy(params)
    twin = duplicate(optimizer)
    copies = twin.param_groups[0]["params"]
    twin.step(grads)
    assert_all_same(params, before)
    optimizer.step(grads)
    assert_all_same(copies, params)
    assert [s["step"] for s in twin.state_dict()["state"].values()] == [1, *[2] * (len(SHAPES) - 1)]


def test_adam_with_decoupled_decay_is_adamw():
    torch = pytest.importorskip("torch")
    a, b, t = np.ones(5), np.ones(5), torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
    t.grad = torch.arange(5.0, dtype=torch.float64)
    options = {"lr": 0.1, "weight_decay": 0.3}
    adam = optim.Adam([a], decoupled_weight_decay=True, **options)
    adamw = optim.AdamW([b], **options)
    theirs = torch.optim.Adam([t], decoupled_weight_decay=True, **options)
    for optimizer in (adam, adamw):
        optimizer.step([np.arange(5.0)])
    theirs.step()
    assert_same(a, b)
    np.testing.assert_allclose(a, t.detach().numpy(), rtol=1e-14)
    adam.load_state_dict(theirs.state_dict())
    with pytest.raises(ValueError, match="decoupled_weight_decay"):
        optim.Adam([a]).load_state_dict(theirs.state_dict())


def test_numpy_integers_count_steps():
    for step in (np.int64(1), np.array(1), [np.int32(1)]):
        p = np.ones(3)
        ops.adam_([p], [np.ones(3)], [np.zeros(3)], [np.zeros(3)], step=step, lr=0.5)
        np.testing.assert_allclose(p, 0.5, rtol=1e-7)


@pytest.mark.parametrize("kind", MOMENTUM)
def test_a_refused_group_changes_nothing(kind):
    p, q, g = np.ones(5), np.ones(5), np.arange(5.0)
    refused, alone = (getattr(optim, kind)([a], **MOMENTUM[kind]) for a in (p, q))
    for _ in range(3):
        refused.step([g])
        alone.step([g])
        for group in ({"params": [p]}, {"params": [p[:2]]}, {"params": [np.ones(2)], "lr": -1}):
            with pytest.raises(ValueError, match=r"params|lr"):
                refused.add_param_group(group)
    assert_same(p, q)
    assert [s["step"] for s in refused.state_dict()["state"].values()] == [3]


def test_results_of_operations_are_no_parameters():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="leaf"):
        optim.SGD([torch.nn.Parameter(torch.ones(3)) * 2])


def test_loading_copies():
    rng, params = start("float32")
    opt = optim.AdamW(params, lr=0.1)
    opt.step(gradients(rng, params))
    saved = copy.deepcopy(opt.state_dict())
    kept = copy.deepcopy(saved)
    other = optim.AdamW([p.copy() for p in params])
    other.load_state_dict(saved)
    other.step(gradients(rng, params))
    for i, entry in kept["state"].items():
        assert_same(saved["state"][i]["exp_avg"], entry["exp_avg"])
    assert saved["param_groups"] == kept["param_groups"]


@every_configuration
def test_state_dicts_go_to_torch_and_back(kind, options):
    torch = pytest.importorskip("torch")
    rng, params = start("float32")
    opt = getattr(optim, kind)([to_torch(p) for p in params], **options)
    theirs = [torch.nn.Parameter(to_torch(p.copy())) for p in params]
    other = getattr(torch.optim, kind)(theirs, **options)
    for step in range(6):
        grads = gradients(rng, params)
        for p, g in zip(theirs, grads, strict=True):
            p.grad = torch.from_numpy(g.copy())
        other.step()
        opt.step([torch.from_numpy(g.copy()) for g in grads])
        if step == 2:
            opt.load_state_dict(other.state_dict())
    assert_near(params, [as_float64(from_torch(p)) for p in theirs], 1e-4, kind)
    mine = opt.state_dict()
    for key in ("exp_avg", "momentum_buffer"):
        for i, entry in other.state_dict()["state"].items():
            if entry.get(key) is not None:
                got = mine["state"][i][key]
                got = as_float64(from_torch(got) if isinstance(got, torch.Tensor) else got)
                want = entry[key].double().numpy()
                np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


# -------------------------------------------------------------------------------------------- torch


@every_kind
@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)
def test_torch_parameters(kind, dtype):
    """Parameters and their .grad, the same bits as arrays; autograd sees the write."""
    torch = pytest.importorskip("torch")
    rng, params = start(dtype)
    theirs = [torch.nn.Parameter(to_torch(p.copy())) for p in params]
    opt, other = (getattr(optim, kind)(p, **MOMENTUM[kind]) for p in (params, theirs))
    for step in range(8):
        grads = gradients(rng, params, lambda i, s=step: (i + s) % 3)
        for p, g in zip(theirs, grads, strict=True):
            p.grad = None if g is None else to_torch(np.array(g))
        versions = [p._version for p in theirs]
        info = opt.step(grads, max_norm=1.0)
        assert other.step(max_norm=1.0).grad_norm == info.grad_norm
        assert_all_same([from_torch(p) for p in theirs], params, f"step {step}")
        for p, v, g in zip(theirs, versions, grads, strict=True):
            assert p.numel() == 0 or (p._version > v) == (g is not None)
            assert g is None or p.grad.abs().sum() > 0 or p.numel() == 0
    other.zero_grad()
    assert all(p.grad is None or not p.grad.any() for p in theirs)


def test_autograd_refuses_what_a_step_overwrote():
    torch = pytest.importorskip("torch")
    w = torch.nn.Parameter(torch.ones(3))
    loss = (w * w).sum()
    optim.SGD([w], lr=0.1).step([torch.ones(3)])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    g = torch.ones(3, requires_grad=True)
    square = (g * g).sum()
    ops.relu(torch.ones(3), out=g.detach())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        square.backward()


def test_training_a_torch_network():
    """An end to end check: the loss of a small regression falls as under torch.optim."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    x, y = torch.randn(64, 5), torch.randn(64, 1)
    first = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    second = copy.deepcopy(first)
    mine = optim.AdamW(first.parameters(), lr=1e-2)
    theirs = torch.optim.AdamW(second.parameters(), lr=1e-2)
    for _ in range(60):
        losses = []
        for net, opt in ((first, mine), (second, theirs)):
            net.zero_grad()
            loss = ((net(x) - y) ** 2).mean()
            loss.backward()
            opt.step()
            losses.append(float(loss.detach()))
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)


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


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_clipping_huge_gradients_still_moves(dtype):
    """The coefficient is then below the normal numbers of float32, which a step flushes."""
    size, top = 100, 1e38 if dtype == "float32" else 6e4
    p, g = [np.zeros(size, dtype)], [np.full(size, top, dtype)]
    scale = 1.0 if dtype == "float32" else 1e-33
    optim.SGD(p, lr=1.0).step(g, max_norm=1.0, grad_scale=scale)
    np.testing.assert_allclose(p[0].astype(float), -0.1, rtol=1e-3)


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
