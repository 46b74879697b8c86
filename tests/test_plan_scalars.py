"""Scalars that a parameter carries beside its step count: NAdam's product of momenta, at the level
of a plan, against a float64 reference, torch.optim.NAdam and the CUDA backend in the simulator."""

import numpy as np
import pytest
from onepass import _C, ops, optim
from test_cuda_arrays import cupy, to_device, to_host  # noqa: F401
from test_cuda_backend import ORDERS, on, simulator  # noqa: F401

SHAPES = [(7, 5), (33,), (1025,), (0,), ()]
DEFAULTS = {
    "lr": 2e-3,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "weight_decay": 0.0,
    "momentum_decay": 4e-3,
    "decoupled_weight_decay": False,
}
SWEEP = [
    {},
    {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.1},
    {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True, "momentum_decay": 0.5},
]
every_option = pytest.mark.parametrize("options", SWEEP, ids=str)


def hyper(options):
    given = {**DEFAULTS, **options}
    return (
        given["lr"], *given["betas"], given["eps"], given["weight_decay"],
        given["momentum_decay"], float(given["decoupled_weight_decay"]), 1.0,
    )  # fmt: skip


class Reference:
    """torch's formula for one parameter, in float64."""

    def __init__(self, param):
        self.p = param.astype(np.float64)
        self.m, self.v = np.zeros_like(self.p), np.zeros_like(self.p)
        self.t, self.product = 0, 1.0

    def step(self, grad, options):
        lr, beta1, beta2, eps, decay, psi, decoupled, _ = hyper(options)
        g = grad.astype(np.float64)
        self.t += 1
        mu = beta1 * (1 - 0.5 * 0.96 ** (self.t * psi))
        ahead = beta1 * (1 - 0.5 * 0.96 ** ((self.t + 1) * psi))
        self.product *= mu
        if decoupled:
            self.p *= 1 - lr * decay
        else:
            g = g + decay * self.p
        self.m = beta1 * self.m + (1 - beta1) * g
        self.v = beta2 * self.v + (1 - beta2) * g * g
        under = np.sqrt(self.v / (1 - beta2**self.t)) + eps
        self.p = self.p - lr * (1 - mu) / (1 - self.product) * g / under
        self.p -= lr * ahead / (1 - self.product * ahead) * self.m / under


def arrays(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(s), dtype) for s in SHAPES]


def plan_of(params, states=None, steps=None):
    states = states or [[np.zeros_like(p) for p in params] for _ in range(2)]
    return _C.Plan("nadam", params, states, [0] * len(params), steps)


def step(plan, grads, options, check_nonfinite=False):
    return plan.step(grads, [hyper(options)], 1.0, None, None, check_nonfinite, False, False, True)


# Rounding: a few operations on numbers of this size a step, and one division.
TOLERANCE = {np.float64: 1e-12, np.float32: 2e-5}


def assert_near(params, references):
    for p, r in zip(params, references, strict=True):
        bound = TOLERANCE[p.dtype.type]
        np.testing.assert_allclose(p, r.p, rtol=bound, atol=bound)


def run(dtype, options, steps=20):
    """Each parameter misses some gradients, so steps and products differ between parameters."""
    params = arrays(dtype)
    references = [Reference(p) for p in params]
    plan = plan_of(params)
    for t in range(steps):
        # A schedule of the momentum: the product is not a function of the step.
        now = {**options, "betas": (0.9 - 0.01 * t, 0.99)} if t % 3 else options
        grads = [g if (t + i) % 4 else None for i, g in enumerate(arrays(dtype, seed=100 + t))]
        step(plan, grads, now)
        for g, r in zip(grads, references, strict=True):
            if g is not None:
                r.step(g, now)
    return params, references, plan


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
def test_against_the_reference(dtype, options):
    params, references, plan = run(dtype, options)
    assert_near(params, references)
    assert plan.steps == [r.t for r in references]
    np.testing.assert_allclose(
        plan.scalars["mu_product"], [r.product for r in references], rtol=1e-14
    )
    assert len(set(plan.scalars["mu_product"])) > 1


@every_option
def test_against_torch(options):
    torch = pytest.importorskip("torch")
    params = arrays()
    plan = plan_of(params)
    theirs = [torch.from_numpy(p.copy()).requires_grad_() for p in params]
    optimizer = torch.optim.NAdam(theirs, **{**DEFAULTS, **options})
    for t in range(20):
        grads = arrays(seed=t + 1)
        step(plan, grads, options)
        for p, g in zip(theirs, grads, strict=True):
            p.grad = torch.from_numpy(g)
        optimizer.step()
    for p, q in zip(params, theirs, strict=True):
        # torch keeps the product in a float32 tensor.
        np.testing.assert_allclose(p, q.detach().numpy(), rtol=1e-5, atol=1e-6)


@every_option
@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_simulator_gives_the_same_bits(simulator, order, dtype, options):  # noqa: F811
    params, _, plan = run(dtype, options, steps=6)
    with on(simulator, order):
        again, _, other = run(dtype, options, steps=6)
    for p, q in zip(params, again, strict=True):
        assert p.tobytes() == q.tobytes()
    assert plan.scalars == other.scalars


def test_a_device_keeps_them_beside_its_step_counts(cupy):  # noqa: F811
    """Groups, late gradients, a skipped step and resume: the host's bits."""
    options = [DEFAULTS | {"lr": 0.05}, DEFAULTS | {"lr": 0.1, "betas": (0.7, 0.9)}]
    rows = [hyper(o) for o in options]
    groups = [i % 2 for i in range(len(SHAPES))]

    def trajectory(wrap):
        params = wrap(arrays())
        states = [wrap([np.zeros(s) for s in SHAPES]) for _ in range(2)]
        plan = _C.Plan("nadam", params, states, groups)
        for t in range(6):
            grads = [g if (t + i) % 3 else None for i, g in enumerate(arrays(seed=20 + t))]
            if t == 3:
                grads[1][5] = np.nan
            if t == 4:  # resumes in a new plan
                again = _C.Plan("nadam", params, states, groups)
                again.scalars, again.steps = plan.scalars, plan.steps
                plan = again
            plan.step(wrap(grads), rows, 1.0, None, None, True, False, False, True)
        return to_host(params), plan.steps, plan.scalars

    params, steps, scalars = trajectory(to_device)
    wanted, wanted_steps, wanted_scalars = trajectory(lambda x: x)
    assert all(p.tobytes() == w.tobytes() for p, w in zip(params, wanted, strict=True))
    assert steps == wanted_steps
    assert scalars == wanted_scalars
    assert len(set(scalars["mu_product"])) > 2


def test_a_skipped_step_changes_no_scalar():
    params = arrays()
    plan = plan_of(params)
    grads = arrays(seed=1)
    step(plan, grads, {})
    before, steps = plan.scalars, plan.steps
    grads[1][3] = np.inf
    assert step(plan, grads, {}, check_nonfinite=True)[0]
    assert (plan.scalars, plan.steps) == (before, steps)


def test_scalars_resume():
    params, _, plan = run(np.float64, {})
    states = [[np.full_like(p, 0.25) for p in params] for _ in range(2)]
    copies = [p.copy() for p in params], [[s.copy() for s in each] for each in states]
    one = plan_of(params, states, plan.steps)
    one.scalars = plan.scalars
    two = plan_of(*copies, plan.steps)
    grads = arrays(seed=9)
    two.scalars = {"mu_product": tuple(plan.scalars["mu_product"])}
    step(one, grads, {})
    step(two, grads, {})
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
    plan = plan_of(arrays())
    step(plan, arrays(seed=1), {})
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
    plan = plan_of(params)
    plan.scalars = {"mu_product": [0.2 + i / 400 for i in range(200)]}
    plan.steps = [i % 7 + 1 for i in range(200)]
    references = [Reference(p) for p in params]
    for i, r in enumerate(references):
        r.t, r.product = i % 7 + 1, 0.2 + i / 400
    grads = [np.full(p.shape, 0.25) for p in params]
    step(plan, grads, {})
    for g, r in zip(grads, references, strict=True):
        r.step(g, {})
    assert_near(params, references)
