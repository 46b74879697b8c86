"""optim.full_batch: gradient descent and Newton's method against formulas written out."""

import copy
import inspect
import math
import pickle

import numpy as np
import pytest
from onepass import nn, optim
from onepass.optim.full_batch import GradientDescent, Newton
from onepass.train import Checkpoint, GradientTolerance, Trainer
from onepass.train.regularizers import L2

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 4))
SIGN = np.where(X @ RNG.standard_normal(4) + RNG.standard_normal(120) > 0, 1.0, -1.0)
BOTH = [GradientDescent, Newton]


def logistic(w):
    """The loss, its gradient and its Hessian."""
    z = SIGN * (X @ w)
    falling = 1 / (1 + np.exp(z))
    loss = np.logaddexp(0, -z).mean() + 0.05 * w @ w
    slope = -(SIGN * falling) @ X / len(X) + 0.1 * w
    curve = (X.T * (falling * (1 - falling))) @ X / len(X) + 0.1 * np.eye(4)
    return float(loss), slope, curve


def closure_of(*params):
    def closure():
        w = np.concatenate([np.asarray(p, np.float64).ravel() for p in params])
        loss, slope, _ = logistic(w)
        ends = np.cumsum([p.size for p in params])[:-1]
        parts = np.split(slope, ends)
        return loss, [g.reshape(p.shape) for g, p in zip(parts, params, strict=True)]

    return closure


def halved(w, d, t):
    """The first of t, t/2, … with Armijo's decrease."""
    loss, slope, _ = logistic(w)
    while logistic(w + t * d)[0] > loss + 1e-4 * t * (slope @ d):
        t /= 2
    return t


def test_gradient_descent_takes_the_steps_of_the_formula() -> None:
    p, w, t = np.full(4, 2.0), np.full(4, 2.0), 16.0
    optimizer = GradientDescent([p], lr=16.0)
    lengths = []
    for step in range(12):
        optimizer.step(closure_of(p))
        d = -logistic(w)[1]
        t = halved(w, d, 16.0 if step == 0 else 2 * t)
        w = w + t * d
        lengths.append(t)
        np.testing.assert_allclose(p, w, rtol=1e-12, atol=1e-14)
    assert len(set(lengths)) > 1
    assert optimizer.state_dict()["state"][0]["t"] == t


@pytest.mark.parametrize("way", ["matrix", "product", "differences"])
def test_newton_takes_the_steps_of_the_formula(way) -> None:
    p = np.full(4, 3.0)
    one, two = p[:1], p[1:].reshape(3, 1)
    optimizer = Newton([one, two], cg_tolerance=0.0 if way != "matrix" else None)

    def product(parts):
        assert [part.shape for part in parts] == [(1,), (3, 1)]
        hv = logistic(p)[2] @ np.concatenate([part.ravel() for part in parts])
        return [hv[:1], hv[1:].reshape(3, 1)]

    hessians = {"matrix": lambda: logistic(p)[2], "product": lambda: product, "differences": None}
    w = p.copy()
    for _ in range(7):
        optimizer.step(closure_of(one, two), hessians[way])
        _, slope, curve = logistic(w)
        d = -np.linalg.solve(curve, slope)
        w = w + halved(w, d, 1.0) * d
        np.testing.assert_allclose(p, w, rtol=1e-7, atol=1e-9)
    assert np.abs(logistic(p)[1]).max() < 1e-10


def test_a_quadratic_takes_newton_one_step_and_the_unit_does_not_matter() -> None:
    ends = []
    for unit in (0.1, 1.0, 10.0):
        p = np.array([3.0, -2.0]) * unit
        Newton([p], cg_tolerance=1e-12).step(
            lambda p=p, unit=unit: ((p**2 * [1, 4]).sum() / unit**2, [p * [2, 8] / unit**2])
        )
        ends.append(p / unit)
    assert np.abs(ends).max() < 1e-7


@pytest.mark.parametrize("of_loss", [1e-18, 1e-9, 1.0, 1e18])
@pytest.mark.parametrize("way", ["matrix", "product", "differences"])
def test_newton_takes_one_step_whatever_the_unit_of_the_loss(of_loss, way) -> None:
    curve = of_loss * np.array([2.0, 8.0])
    p = np.array([3.0, -2.0])
    hessians = {
        "matrix": lambda: np.diag(curve),
        "product": lambda: lambda parts: [curve * parts[0]],
        "differences": None,
    }
    Newton([p], cg_tolerance=1e-12, tolerance_grad=0.0).step(
        lambda: (0.5 * (curve * p**2).sum(), [curve * p]), hessians[way]
    )
    assert np.abs(p).max() < 1e-7


def test_where_the_curvature_is_negative_newton_goes_down() -> None:
    for hessian in (None, lambda: np.diag([2.0, -2.0])):
        p = np.array([0.5, 0.1])
        start = p[0] ** 2 - p[1] ** 2
        Newton([p]).step(
            lambda p=p: (p[0] ** 2 - p[1] ** 2 + 0.1 * p[1] ** 4,
                         [np.array([2 * p[0], -2 * p[1] + 0.4 * p[1] ** 3])]),
            hessian,
        )  # fmt: skip
        assert p[0] ** 2 - p[1] ** 2 < start
        assert abs(p[1]) >= 0.1


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("search", ["backtracking", "strong_wolfe"])
def test_no_step_raises_the_loss(cls, search) -> None:
    p = np.array([-1.2, 1.0])

    def rosenbrock():
        x, y = p
        slope = [-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)]
        return (1 - x) ** 2 + 100 * (y - x * x) ** 2, [np.array(slope)]

    optimizer = cls([p], line_search_fn=search)
    losses = [optimizer.step(rosenbrock).loss for _ in range(80)]
    assert np.all(np.diff(losses) <= 0)
    assert losses[-1] < (1e-6 if cls is Newton else 4.0)


@pytest.mark.parametrize("cls", BOTH)
def test_without_a_search_the_step_is_lr(cls) -> None:
    p, w = np.full(4, 0.5), np.full(4, 0.5)
    optimizer = cls([p], lr=0.5, line_search_fn=None, max_iter=3)
    optimizer.step(closure_of(p), **({"hessian": lambda: logistic(p)[2]} if cls is Newton else {}))
    for _ in range(3):
        _, slope, curve = logistic(w)
        w = w - 0.5 * (np.linalg.solve(curve, slope) if cls is Newton else slope)
    np.testing.assert_allclose(p, w, rtol=1e-10)


@pytest.mark.parametrize("cls", BOTH)
def test_maximize_and_float32_and_frozen(cls) -> None:
    p, q = np.full(4, 2.0), np.full(4, 2.0)
    up = cls([q], maximize=True)
    cls([p]).step(closure_of(p))

    def negative():
        loss, (slope,) = closure_of(q)()
        return -loss, [-slope]

    up.step(negative)
    np.testing.assert_allclose(p, q, rtol=1e-12)
    narrow = np.full(4, 2.0, np.float32)
    optimizer = cls([narrow], max_iter=60)
    optimizer.step(closure_of(narrow))
    assert np.abs(logistic(narrow.astype(np.float64))[1]).max() < 1e-3
    parts = [nn.Parameter(np.full(2, 2.0)), nn.Parameter(np.full(2, 2.0))]
    parts[0].requires_grad = False
    arrays = [part.data for part in parts]
    optimizer = cls(parts, max_iter=40)
    optimizer.step(closure_of(*arrays))
    assert np.array_equal(arrays[0], [2.0, 2.0])
    assert np.abs(logistic(np.concatenate(arrays))[1][2:]).max() < 1e-5
    if cls is Newton:
        start = arrays[1].copy()
        arrays[1][:] = 2.0
        optimizer.step(closure_of(*arrays), lambda: logistic(np.concatenate(arrays))[2])
        assert np.array_equal(arrays[0], [2.0, 2.0])
        np.testing.assert_allclose(arrays[1], start, atol=1e-5)


@pytest.mark.parametrize("cls", BOTH)
def test_it_goes_on_from_its_state(cls) -> None:
    p = np.full(4, 5.0)
    optimizer = cls([p], lr=8.0)
    for _ in range(2):
        optimizer.step(closure_of(p))
    ends = []
    state = copy.deepcopy(optimizer.state_dict())
    for way in ("load", "pickle", "copy", "same"):
        q = p.copy()
        other = cls([q], lr=8.0)
        if way == "load":
            other.load_state_dict(state)
        elif way == "pickle":
            q, other = pickle.loads(pickle.dumps((p, optimizer)))
        elif way == "copy":
            q, other = copy.deepcopy((p, optimizer))
        else:
            q, other = p, optimizer
        other.step(closure_of(q))
        ends.append((q.tobytes(), other.state_dict()["state"][0]))
    assert all(end == ends[0] for end in ends)


@pytest.mark.parametrize("cls", BOTH)
def test_a_failed_closure_changes_nothing(cls) -> None:
    p = np.full(4, 5.0)
    optimizer = cls([p])
    optimizer.step(closure_of(p))
    before, state = p.copy(), copy.deepcopy(optimizer.state_dict())
    calls = []

    def failing():
        calls.append(0)
        if len(calls) == 2:
            raise KeyError("away")
        return closure_of(p)()

    with pytest.raises(KeyError):
        optimizer.step(failing)
    assert np.array_equal(p, before)
    assert optimizer.state_dict() == state
    assert optimizer.step(lambda: (math.nan, [p]), nonfinite="skip").skipped
    with pytest.raises(FloatingPointError, match="the gradient of parameter 0"):
        optimizer.step(lambda: (1.0, [p * np.nan]), nonfinite="raise")
    assert np.array_equal(p, before)


@pytest.mark.parametrize("search", ["strong_wolfe", "backtracking"])
@pytest.mark.parametrize("nonfinite", ["propagate", "skip", "raise"])
@pytest.mark.parametrize("cls", [GradientDescent, Newton, optim.LBFGS])
def test_a_gradient_that_is_not_a_number_is_no_place_to_go_on_from(cls, nonfinite, search) -> None:
    """|p| without a gradient at its lowest point, where the first step of a search arrives."""
    p = np.array([1.0])

    def closure():
        with np.errstate(invalid="ignore"):
            return float(np.abs(p).sum()), [p / np.abs(p)]

    optimizer = cls([p], lr=1.0, max_iter=3, line_search_fn=search)
    info = optimizer.step(closure, nonfinite=nonfinite)
    assert not info.skipped
    assert np.isfinite(p).all()
    assert abs(p[0]) < 1


@pytest.mark.parametrize("cls", BOTH)
def test_tensors_of_torch(cls) -> None:
    torch = pytest.importorskip("torch")
    p = torch.full((4,), 2.0, dtype=torch.float64)
    w = p.numpy().copy()
    optimizer, twin = cls([p]), cls([w])

    def closure():
        loss, slope, _ = logistic(p.numpy())
        return loss, [torch.from_numpy(slope)]

    for _ in range(4):
        optimizer.step(closure)
        twin.step(closure_of(w))
    np.testing.assert_allclose(p.numpy(), w, rtol=1e-9)
    if cls is Newton:
        optimizer.step(closure, lambda: torch.from_numpy(logistic(p.numpy())[2]))
        twin.step(closure_of(w), lambda: logistic(w)[2])
        np.testing.assert_allclose(p.numpy(), w, rtol=1e-9)


def lbfgs(parameters):
    options = {"max_iter": 1, "max_eval": 25, "tolerance_change": 0}
    return optim.LBFGS(parameters, line_search_fn="strong_wolfe", **options)


def network():
    nn.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 1, dtype="float64"))


def trained(make, callbacks=(), **options):
    model = network()
    made = Trainer(
        model, nn.BCEWithLogitsLoss(), make(model.parameters()), callbacks=callbacks,
        regularizers=[L2(0.01)], progress=False,
    )  # fmt: skip
    made.fit(X, (SIGN[:, None] + 1) / 2, batch_size=len(X), **{"max_epochs": 3000, **options})
    return made


def test_all_of_them_find_one_minimum() -> None:
    ends = {}
    for name, make, most in (
        ("newton", Newton, 10),
        ("backtracking", GradientDescent, 200),
        ("lbfgs", lbfgs, 60),
        ("fixed", lambda p: optim.SGD(p, lr=0.5), 3000),
    ):
        small = GradientTolerance(1e-6, math.inf)
        made = trained(make, [small])
        assert small.converged
        assert made.epoch <= most, name
        ends[name] = np.concatenate([p.data.ravel() for p in made.model.parameters()])
        total = np.array(made.history["loss"]) + made.history["l2"]
        assert np.all(np.diff(total) <= 1e-15), name
    for end in ends.values():
        np.testing.assert_allclose(end, ends["newton"], atol=1e-4)


@pytest.mark.parametrize("cls", BOTH)
def test_a_trainer_resumes_with_the_same_bits(tmp_path, cls) -> None:
    whole = trained(cls, max_epochs=6)
    trained(cls, [Checkpoint(tmp_path)], max_epochs=3)
    again = trained(cls, [Checkpoint(tmp_path)], max_epochs=6, ckpt_path=tmp_path)
    for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert a.data.tobytes() == b.data.tobytes()
    assert dict(whole.history) == dict(again.history)
    assert whole.optimizer.state_dict()["state"] == again.optimizer.state_dict()["state"]


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "'lr' is -1.0, expected a number >= 0"),
        ({"max_iter": 0}, "'max_iter' is 0, expected"),
        ({"tolerance_grad": math.nan}, "'tolerance_grad' is nan"),
        ({"line_search_fn": "golden"}, "'line_search_fn' is 'golden', expected"),
        ({"compat": "keras"}, "'compat' is 'keras'"),
    ],
)
def test_wrong_options_are_refused(cls, options, message) -> None:
    with pytest.raises(ValueError, match=f"{cls.__name__}: {message}"):
        cls([np.ones(2)], **options)


def test_wrong_calls_are_refused() -> None:
    p = np.ones(4)
    optimizer = Newton([p])
    for wrong, error, message in (
        (lambda: optimizer.step(), TypeError, "Newton: 'closure' is None"),
        (lambda: optimizer.step(closure_of(p), np.eye(4)), TypeError, "'hessian' is a ndarray"),
        (lambda: optimizer.step(closure_of(p), lambda: np.eye(3)), ValueError,
         r"'hessian' returned an array of shape \(3, 3\), expected \(4, 4\)"),
        (lambda: optimizer.step(closure_of(p), lambda: lambda v: v[0]), ValueError,
         "is a ndarray, expected a list of 1 arrays"),
        (lambda: optimizer.step(closure_of(p), lambda: lambda v: [v[0][:2]]), ValueError,
         "has shape"),
        (lambda: optimizer.step(closure_of(p), max_norm=1.0), ValueError, "'max_norm' is 1.0"),
        (lambda: Newton([p], cg_tolerance=2), ValueError, "'cg_tolerance' is 2"),
        (lambda: Newton([p], cg_max_iter=0), ValueError, "'cg_max_iter' is 0"),
        (lambda: GradientDescent([{"params": [p]}, {"params": [np.ones(1)]}]), ValueError,
         "has 2 groups, expected one: the search spans all parameters"),
        (lambda: optimizer.add_param_group({"params": [np.ones(1)]}), ValueError, "cannot be add"),
        (lambda: optimizer.load_state_dict({**optimizer.state_dict(), "state": {0: {"t": 1}}}),
         ValueError, "Newton.load_state_dict.*expected 'func_evals', 'n_iter' and 't'"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            wrong()
        assert np.array_equal(p, np.ones(4))


@pytest.mark.parametrize("cls", BOTH)
def test_every_option_is_documented(cls) -> None:
    text = inspect.getdoc(cls) or ""
    for name in inspect.signature(cls).parameters:
        assert f"    {name}: " in text or f"    {name}, " in text, name
