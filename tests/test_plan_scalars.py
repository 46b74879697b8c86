"""Scalars that a parameter carries beside its step count, such as NAdam's product of momenta, at
the level of a plan, against the formula of the record and the CUDA backend in the simulator."""

import numpy as np
import pytest
from cases import Derived
from cases._optimizer import Scalar
from cases.optimizers import OPTIMIZERS
from cuda_simulator import ORDERS, on
from helpers import assert_all_close
from onepass import _C, ops, optim
from small_cuda import to_device, to_host

SHAPES = [(7, 5), (33,), (1025,), (0,), ()]
RECORDS = [r for r in OPTIMIZERS if any(isinstance(s, Scalar) for s in r.states)]
NADAM = next(r for r in RECORDS if r.name == "nadam")
every_option = pytest.mark.parametrize(
    ("record", "options"),
    [(record, options) for record in RECORDS for options in record.sweep],
    ids=lambda value: getattr(value, "name", str(value)),
)


def hyper(record, options):
    """A row of the kernel."""
    rule = record.cls._rule
    return rule.hyper(record.name, {**rule.compat["torch"], **record.complete(options)})


def arrays(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(s), dtype) for s in SHAPES]


def plan_of(record, params, states=None, steps=None, groups=None):
    own = [s for s in record.states if not isinstance(s, Scalar)]
    states = states or [[s.fresh(p, record.complete({})) for p in params] for s in own]
    return _C.Plan(record.name, params, states, groups or [0] * len(params), steps)


def step(plan, grads, rows, check_nonfinite=False, maximize=False):
    return plan.step(grads, rows, 1.0, None, None, check_nonfinite, False, maximize, True)


def run(record, dtype, options, steps=20):
    """Each parameter misses some gradients, so steps and scalars differ between parameters."""
    params = arrays(dtype)
    want, plan = record.trajectory(params, **options), plan_of(record, params)
    given = record.complete(options)
    for t in range(steps):
        # Schedules: a scalar is not a function of the step alone.
        now = {**options, "lr": given["lr"] * (1 + t % 3)}
        if "betas" in given:
            now["betas"] = (given["betas"][0] * (1 - 0.01 * (t % 5)), given["betas"][1])
        grads = [g if (t + i) % 4 else None for i, g in enumerate(arrays(dtype, seed=100 + t))]
        want.options = now
        step(plan, grads, [hyper(record, now)], maximize=options.get("maximize", False))
        want.step(grads)
    return params, want, plan


def test_the_kernel_says_what_it_keeps():
    (nadam,) = (k for k in _C.kernels() if k["name"] == "nadam")
    assert nadam["kind"] == "update"
    assert nadam["operands"] == ("params", "grads", "exp_avgs", "exp_avg_sqs")
    assert nadam["optional"] == ()
    assert nadam["hyper"][-1] == "step"
    assert nadam["counts_steps"]
    assert nadam["scalars"] == ("mu_product",)
    others = {k["name"]: k for k in _C.kernels()}
    assert others["asgd"]["scalars"] == ("eta", "mu")
    assert not any(others[name]["scalars"] for name in ("adamw", "rprop", "relu"))
    assert others["adamw"]["counts_steps"]
    assert not others["rmsprop"]["counts_steps"]
    assert not others["relu"]["counts_steps"]


@every_option
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_against_the_formula(dtype, record, options):
    params, want, plan = run(record, dtype, options)
    assert_all_close(params, want.params, Derived(), np.dtype(dtype).name, record.name)
    assert plan.steps == want.steps
    for scalar in (s.name for s in record.states if isinstance(s, Scalar)):
        expected = [float(want.entry(i)[scalar]) for i in range(len(params))]
        np.testing.assert_allclose(plan.scalars[scalar], expected, rtol=1e-12, err_msg=scalar)


@every_option
@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_simulator_gives_the_same_bits(simulator, order, dtype, record, options):
    params, _, plan = run(record, dtype, options, steps=6)
    with on(simulator, order):
        again, _, other = run(record, dtype, options, steps=6)
    for p, q in zip(params, again, strict=True):
        assert p.tobytes() == q.tobytes()
    assert plan.scalars == other.scalars


def test_a_device_keeps_them_beside_its_step_counts(cupy):
    """Groups, late gradients, a skipped step and resume: the host's bits."""
    rows = [hyper(NADAM, {"lr": 0.05}), hyper(NADAM, {"lr": 0.1, "betas": (0.7, 0.9)})]
    groups = [i % 2 for i in range(len(SHAPES))]

    def trajectory(wrap):
        params = wrap(arrays())
        states = [wrap([np.zeros(s) for s in SHAPES]) for _ in range(2)]
        plan = plan_of(NADAM, params, states, groups=groups)
        for t in range(6):
            grads = [g if (t + i) % 3 else None for i, g in enumerate(arrays(seed=20 + t))]
            if t == 3:
                grads[1][5] = np.nan
            if t == 4:  # resumes in a new plan
                again = plan_of(NADAM, params, states, groups=groups)
                again.scalars, again.steps = plan.scalars, plan.steps
                plan = again
            step(plan, wrap(grads), rows, check_nonfinite=True)
        return to_host(params), plan.steps, plan.scalars

    params, steps, scalars = trajectory(to_device)
    wanted, wanted_steps, wanted_scalars = trajectory(lambda x: x)
    assert all(p.tobytes() == w.tobytes() for p, w in zip(params, wanted, strict=True))
    assert steps == wanted_steps
    assert scalars == wanted_scalars
    assert len(set(scalars["mu_product"])) > 2


def test_a_skipped_step_changes_no_scalar():
    params = arrays()
    plan = plan_of(NADAM, params)
    grads = arrays(seed=1)
    step(plan, grads, [hyper(NADAM, {})])
    before, steps = plan.scalars, plan.steps
    grads[1][3] = np.inf
    assert step(plan, grads, [hyper(NADAM, {})], check_nonfinite=True)[0]
    assert (plan.scalars, plan.steps) == (before, steps)


def test_scalars_resume():
    params, _, plan = run(NADAM, np.float64, {})
    states = [[np.full_like(p, 0.25) for p in params] for _ in range(2)]
    copies = [p.copy() for p in params], [[s.copy() for s in each] for each in states]
    one = plan_of(NADAM, params, states, plan.steps)
    one.scalars = plan.scalars
    two = plan_of(NADAM, *copies, plan.steps)
    grads = arrays(seed=9)
    two.scalars = {"mu_product": tuple(plan.scalars["mu_product"])}
    step(one, grads, [hyper(NADAM, {})])
    step(two, grads, [hyper(NADAM, {})])
    for p, q in zip(params, copies[0], strict=True):
        assert p.tobytes() == q.tobytes()
    assert one.scalars == two.scalars != plan.scalars


def test_rules_without_scalars_have_none():
    params = arrays()
    plan = _C.Plan("sgd", params, [None], [0] * len(params))
    assert plan.scalars == {}
    plan.scalars = {}
    with pytest.raises(ValueError, match=r"expected a dict of \{\}"):
        plan.scalars = {"mu_product": [1.0] * len(params)}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, ValueError, "'scalars' is {}, expected a dict of {'mu_product'}"),
        ([1.0], ValueError, "'scalars' is"),
        ({"other": [1.0] * 5}, ValueError, "expected a dict of {'mu_product'}"),
        ({"mu_product": [1.0]}, ValueError, "'mu_product' has 1 entries, expected 5"),
        ({"mu_product": ["x"] * 5}, TypeError, "mu_product"),
    ],
)
def test_wrong_scalars_are_refused_and_nothing_changes(given, error, message):
    plan = plan_of(NADAM, arrays())
    step(plan, arrays(seed=1), [hyper(NADAM, {})])
    before = plan.scalars
    with pytest.raises(error, match=r"^nadam: ") as raised:
        plan.scalars = given
    assert message in str(raised.value)
    assert plan.scalars == before


# ----------------------------------------------------------------------- the function and the class


def lists(count=2):
    return [[np.ones(3) for _ in range(count)] for _ in range(4)]


def test_the_function_updates_numbers_and_arrays_of_a_list():
    given = [1.0, np.ones(()), np.ones((), np.float32), np.float64(1)]
    before = given[1]
    ops.nadam_(*lists(4), given)
    assert given[1] is before
    assert len({round(float(value), 6) for value in given}) == 1
    assert 0 < float(given[0]) < 1


@pytest.mark.parametrize(
    ("products", "error", "message"),
    [
        (1.0, TypeError, "'mu_products' is 1.0, expected a list"),
        ([1.0], ValueError, "'mu_products' has 1 entries, expected 2"),
        ([1.0, "x"], TypeError, r"'mu_products\[1\]' is 'x'"),
        ([1.0, float("nan")], ValueError, r"'mu_products\[1\]' is nan"),
        ([1.0, 1.5], ValueError, r"'mu_products\[1\]' is 1.5"),
        ([1.0, np.ones(2)], TypeError, r"'mu_products\[1\]' is"),
        ([1.0, np.ones(1)], TypeError, r"'mu_products\[1\]' is"),
        ([1.0, np.ones((), int)], TypeError, r"'mu_products\[1\]' is"),
        ([1.0, np.broadcast_to(1.0, ())], ValueError, r"'mu_products\[1\]' is read-only"),
    ],
)
def test_the_function_refuses_wrong_products_and_changes_nothing(products, error, message):
    arrays = lists()
    with pytest.raises(error, match=f"^nadam_: {message}"):
        ops.nadam_(*arrays, products)
    assert all((a == 1).all() for each in arrays for a in each)


@pytest.mark.parametrize("wrong", [float("nan"), 2.0, -0.1, "x", None])
def test_a_saved_product_out_of_range_is_refused(wrong):
    p = np.ones(3)
    optimizer = optim.NAdam([p])
    optimizer.step([np.ones(3)])
    saved = optimizer.state_dict()
    saved["state"][0]["mu_product"] = wrong
    with pytest.raises(ValueError, match="mu_product"):
        optimizer.load_state_dict(saved)
    assert 0 < optimizer.state_dict()["state"][0]["mu_product"] < 1


def test_many_parameters_with_products_of_their_own():
    """More rows of hyper-parameters than a launch shares: each parameter has its own."""
    params = [np.full(1 + i % 5, 0.5) for i in range(200)]
    plan = plan_of(NADAM, params)
    plan.scalars = {"mu_product": [0.2 + i / 400 for i in range(200)]}
    plan.steps = [i % 7 + 1 for i in range(200)]
    want = NADAM.trajectory(params)
    want.steps = list(plan.steps)
    for states, product in zip(want._states, plan.scalars["mu_product"], strict=True):
        states[-1] = NADAM.states[-1].tracked(np.asarray(product))
    grads = [np.full(p.shape, 0.25) for p in params]
    step(plan, grads, [hyper(NADAM, {})])
    want.step(grads)
    assert_all_close(params, want.params, Derived(), "float64", "")
