"""LBFGS: PyTorch's iterations, SciPy's minima, two line searches, and what it keeps."""

import copy
import math
import pickle

import numpy as np
import pytest
from onepass import nn, optim
from onepass.optim._flat import Flat
from onepass.optim._lbfgs_step import Memory, Step
from onepass.optim._line_search import Point, backtracking, strong_wolfe

SEARCHES = [None, "strong_wolfe", "backtracking"]


def rosenbrock(x):
    """The loss and its gradient, written out."""
    a, b = x[:-1], x[1:]
    gap = b - a**2
    slope = np.zeros_like(x)
    slope[:-1] += -2 * (1 - a) - 400 * a * gap
    slope[1:] += 200 * gap
    return float(((1 - a) ** 2 + 100 * gap**2).sum()), slope


def start_of(n):
    return np.resize(np.array([-1.2, 1.0]), n) + np.linspace(0, 0.1, n)


def logistic(seed=0):
    rng = np.random.default_rng(seed)
    x, true = rng.standard_normal((200, 6)), rng.standard_normal(6)
    y = np.where(rng.uniform(size=200) < 1 / (1 + np.exp(-x @ true)), 1.0, -1.0)

    def loss(w):
        z = y * (x @ w)
        falling = 1 / (1 + np.exp(z))
        return float(np.logaddexp(0, -z).mean() + 0.05 * w @ w), -(y * falling) @ x / 200 + 0.1 * w

    return loss


PROBLEMS = {
    "rosenbrock 2": (rosenbrock, start_of(2), 1e-3),
    "rosenbrock 7": (rosenbrock, start_of(7), 1e-3),
    "logistic": (logistic(), np.zeros(6), 1.0),
}


def closure_of(loss, *params):
    """A closure over a list of arrays that are one vector in all."""

    def closure():
        value, slope = loss(np.concatenate([p.reshape(-1) for p in params]))
        parts = np.split(slope, np.cumsum([p.size for p in params])[:-1])
        return value, [g.reshape(p.shape) for g, p in zip(parts, params, strict=True)]

    return closure


# ---------------------------------------------------------------------------------- the iterations


@pytest.mark.parametrize("search", SEARCHES[:2], ids=str)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_iteration_is_pytorchs(problem, search):
    torch = pytest.importorskip("torch")
    loss, x0, lr = PROBLEMS[problem]
    p, q = x0.copy(), torch.tensor(x0)
    options = {"lr": lr if search is None else 1, "line_search_fn": search, "history_size": 5}
    ours = optim.LBFGS([p], max_iter=7, **options)
    theirs = torch.optim.LBFGS([q], max_iter=7, **options)

    def closure():
        value, slope = loss(q.numpy())
        q.grad = torch.tensor(slope)
        return torch.tensor(value, dtype=torch.float64)

    for step in range(9):  # 63 iterations
        info = ours.step(closure_of(loss, p))
        assert info.loss == pytest.approx(float(theirs.step(closure)), rel=1e-6, abs=1e-12)
        np.testing.assert_allclose(p, q.numpy(), 1e-5, 1e-7, err_msg=f"step {step}")
        entry, other = ours.state_dict()["state"][0], theirs.state_dict()["state"][0]
        assert [entry[k] for k in ("n_iter", "func_evals")] == [
            other[k] for k in ("n_iter", "func_evals")
        ]
        assert len(entry["old_dirs"]) == len(other["old_dirs"]) <= 5
        if step in (2, 5):  # the state of each goes on in the other
            saved = copy.deepcopy(ours.state_dict()), copy.deepcopy(theirs.state_dict())
            if step == 2:
                ours.load_state_dict(saved[1])
                np.testing.assert_array_equal(ours._memory.d, saved[1]["state"][0]["d"])
                p[:] = q.numpy()
            else:
                tensors = {
                    key: [torch.tensor(v) for v in value] if isinstance(value, list)
                    else torch.tensor(value) if isinstance(value, np.ndarray) else value
                    for key, value in saved[0]["state"][0].items()
                }  # fmt: skip
                theirs.load_state_dict(
                    {"state": {0: tensors}, "param_groups": saved[0]["param_groups"]}
                )
                q.copy_(torch.tensor(p))


@pytest.mark.parametrize("search", SEARCHES[1:])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_minima_are_scipys(problem, search):
    optimize = pytest.importorskip("scipy.optimize")
    loss, x0, _ = PROBLEMS[problem]
    p = x0.copy()
    optimizer = optim.LBFGS(
        [p], max_iter=200, max_eval=1000, tolerance_change=0.0, line_search_fn=search
    )
    first = optimizer.step(closure_of(loss, p)).loss
    want = optimize.minimize(loss, x0, jac=True, method="L-BFGS-B", options={"gtol": 1e-10})
    assert loss(p)[0] <= want.fun + 1e-12 < first
    np.testing.assert_allclose(p, want.x, 1e-4, 1e-5)
    assert np.abs(loss(p)[1]).max() <= 1e-7


def test_directions_are_those_of_the_inverse_hessian_written_out():
    rng = np.random.default_rng(0)
    n, count = 6, 4
    hessian = np.diag(rng.uniform(0.5, 3, n))
    s = [rng.standard_normal(n) for _ in range(count)]
    y = [hessian @ v for v in s]
    ro = [1 / (a @ b) for a, b in zip(s, y, strict=True)]
    inverse = np.eye(n) * (s[-1] @ y[-1]) / (y[-1] @ y[-1])
    for a, b, r in zip(s, y, ro, strict=True):
        left = np.eye(n) - r * np.outer(a, b)
        inverse = left @ inverse @ left.T + r * np.outer(a, a)
    g = rng.standard_normal(n)
    flat = Flat("me", [np.zeros(n)])
    step = Step("me", flat, [np.zeros(n)], lambda: (0.0, [g]), {"maximize": False}, False)
    scale = (s[-1] @ y[-1]) / (y[-1] @ y[-1])
    memory = Memory(old_dirs=tuple(y), old_stps=tuple(s), ro=tuple(ro), H_diag=scale)
    np.testing.assert_allclose(step._direction(memory, g), -inverse @ g, 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_long_vectors_move_as_short_ones(dtype):
    rng = np.random.default_rng(1)
    for n in (5, (1 << 16) - 1, 1 << 16, (1 << 17) + 7):
        x, y, z = rng.standard_normal((3, n)).astype(dtype)
        flat, want = Flat("me", [np.zeros(n, dtype)]), x.copy()
        add = flat.adder(x)
        for factor, v in ((0.3, y), (-2.7, z), (0.0, y), (1e-3, z)):
            add(factor, v)
            want += np.asarray(factor, dtype) * v
        np.testing.assert_array_equal(x, want)


# -------------------------------------------------------------------------------- the line searches

CURVES = {  # φ and φ'
    "parabola": (lambda t: (t - 3) ** 2, lambda t: 2 * (t - 3)),
    "far": (lambda t: (t - 400) ** 2, lambda t: 2 * (t - 400)),
    "near": (lambda t: (t - 1e-3) ** 2, lambda t: 2 * (t - 1e-3)),
    "waves": (lambda t: 0.1 * t - math.sin(3 * t), lambda t: 0.1 - 3 * math.cos(3 * t)),
    "quartic": (lambda t: t**4 - 2 * t**2 - t, lambda t: 4 * t**3 - 4 * t - 1),
    "wall": (lambda t: -math.log(1 - t) - 5 * t if t < 1 else math.inf,
             lambda t: 1 / (1 - t) - 5 if t < 1 else math.nan),
    "cliff": (lambda t: -t if t < 0.3 else math.nan, lambda t: -1.0 if t < 0.3 else math.nan),
}  # fmt: skip


def line(curve, seen):
    value, slope = CURVES[curve]

    def evaluate(t):
        seen.append(t)
        loss = value(t)
        return Point(t, math.inf if math.isnan(loss) else loss, slope(t), None)

    return evaluate


@pytest.mark.parametrize("first", [1.0, 1e-4, 37.0])
@pytest.mark.parametrize("curve", [c for c in CURVES if c != "cliff"])
def test_a_strong_wolfe_point_has_both_conditions(curve, first):
    seen = []
    evaluate = line(curve, seen)
    start = evaluate(0.0)
    point = strong_wolfe(evaluate, start, first, 40, 1e-12)
    assert point.loss <= start.loss + 1e-4 * point.t * start.slope
    assert abs(point.slope) <= 0.9 * abs(start.slope)
    assert point.t in seen[1:]
    assert len(seen) <= 42


@pytest.mark.parametrize("first", [1.0, 1e-4, 37.0])
@pytest.mark.parametrize("curve", CURVES)
def test_backtracking_stops_at_the_first_half_that_falls_enough(curve, first):
    seen = []
    evaluate = line(curve, seen)
    start = evaluate(0.0)
    point = backtracking(evaluate, start, first, 40, 1e-12)
    enough = [CURVES[curve][0](t) <= start.loss + 1e-4 * t * start.slope for t in seen[1:]]
    assert seen[1:] == [first / 2**i for i in range(len(seen) - 1)]
    assert enough == [False] * (len(enough) - 1) + [True]
    assert point.t == seen[-1]


@pytest.mark.parametrize("search", [strong_wolfe, backtracking])
def test_a_search_without_success_ends(search):
    seen = []

    def rising(t):  # the slope at 0 is wrong
        seen.append(t)
        return Point(t, t, -1.0, None)

    point = search(rising, Point(0.0, 0.0, -1.0, None), 1.0, 10, 1e-3)
    assert point.t == 0.0
    assert len(seen) <= 11
    assert search(rising, Point(0.0, 0.0, -1.0, None), 1.0, 40, 0.0).t == 0.0


def wavy(rng):
    """A falling curve with waves of all sizes, and its slope."""
    size, pace, phase = rng.uniform(0, 1, 5), 10 ** rng.uniform(-2, 2, 5), rng.uniform(0, 6, 5)
    fall = -1.0 - float((size * np.cos(phase)).sum())  # the slope at 0 is -1

    def value(t):
        return float((size / pace * np.sin(pace * t + phase)).sum() + fall * t + 1e-3 * t * t)

    return value, lambda t: float((size * np.cos(pace * t + phase)).sum() + fall + 2e-3 * t)


def test_searches_are_pytorchs():
    torch = pytest.importorskip("torch")
    from torch.optim.lbfgs import _strong_wolfe

    rng = np.random.default_rng(0)
    finite = [CURVES[c] for c in ("parabola", "far", "near", "waves", "quartic")]
    for value, slope in [*finite, *(wavy(rng) for _ in range(60))]:
        for first in (1.0, 1e-4, 37.0):
            seen, theirs = [], []

            def objective(x, t, d, value=value, slope=slope, theirs=theirs):
                theirs.append(float(t))
                return value(float(t)), torch.tensor([slope(float(t))], dtype=torch.float64)

            def evaluate(t, value=value, slope=slope, seen=seen):
                seen.append(t)
                return Point(t, value(t), slope(t), None)

            zero = torch.tensor([slope(0.0)], dtype=torch.float64)
            one = torch.ones(1, dtype=torch.float64)
            _, _, t, _ = _strong_wolfe(objective, None, first, one, value(0.0), zero, zero[0])
            start = Point(0.0, value(0.0), slope(0.0), None)
            assert strong_wolfe(evaluate, start, first, 25, 1e-9).t == pytest.approx(float(t))
            assert seen == pytest.approx(theirs, rel=1e-6)


def test_the_second_point_may_be_higher_than_the_first():
    """As in PyTorch, which compares from the third on."""
    answers = [(-0.5, -0.95), (-0.4, -0.95), (-9.0, 0.0)]
    seen = []

    def evaluate(t):
        seen.append(t)
        return Point(t, *answers[len(seen) - 1], None)

    point = strong_wolfe(evaluate, Point(0.0, 0.0, -1.0, None), 1.0, 25, 1e-9)
    assert seen == sorted(seen)  # outwards
    assert (len(seen), point.loss) == (3, -9.0)


def test_a_loss_that_is_not_finite_is_too_far():
    """PyTorch's search goes on from it, and the parameters become NaN."""
    for search in SEARCHES[1:]:
        p = np.array([0.5])

        def closure(p=p):
            with np.errstate(invalid="ignore"):
                return float(-np.log(p[0]) + 20 * p[0]), [np.array([-1 / p[0] + 20])]

        optimizer = optim.LBFGS([p], lr=10.0, max_iter=50, line_search_fn=search)
        optimizer.step(closure)
        assert p[0] == pytest.approx(1 / 20, rel=1e-4)


# ------------------------------------------------------------------- what it is given, and what not


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_several_arrays_are_one_vector(search):
    x0 = start_of(7)
    whole, parts = x0.copy(), [x0[:3].copy().reshape(3, 1), np.array(x0[3]), x0[4:].copy()]
    strided = np.zeros((3, 2))
    strided[:, 0] = parts[2]
    parts[2] = strided[:, 0]
    options = {"lr": 1e-3 if search is None else 1, "line_search_fn": search}
    a, b = optim.LBFGS([whole], **options), optim.LBFGS(parts, **options)
    for _ in range(3):
        a.step(closure_of(rosenbrock, whole))
        b.step(closure_of(rosenbrock, *parts))
    np.testing.assert_array_equal(np.concatenate([p.reshape(-1) for p in parts]), whole)
    assert not strided[:, 1].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_narrow_parameters_are_stepped_in_float32(dtype):
    p = np.zeros(6, dtype)
    loss = logistic()

    def closure():
        value, slope = loss(p.astype(np.float64))
        return value, [slope.astype(dtype)]

    optim.LBFGS([p], max_iter=60, line_search_fn="strong_wolfe").step(closure)
    wide = np.zeros(6)
    optim.LBFGS([wide], max_iter=60, line_search_fn="strong_wolfe").step(closure_of(loss, wide))
    assert p.dtype == dtype
    np.testing.assert_allclose(p, wide, 0, 1e-3 if dtype == np.float32 else 2e-2)


def test_a_model_trains_with_gradients_in_grad():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 3)).astype(np.float32)
    y = np.sin(x[:, :1])
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")
    frozen = next(iter(model.parameters()))
    frozen.requires_grad = False
    before, calls = frozen.data.copy(), []

    def closure():
        optimizer.zero_grad()
        loss, dy = nn.MSELoss()(model(x), y)
        model.backward(dy)
        calls.append(float(loss))
        return loss

    for _ in range(3):
        info = optimizer.step(closure, zero_grad=True)
    assert calls[-1] < 0.05 * calls[0]
    assert float(info.loss) in calls
    np.testing.assert_array_equal(frozen.data, before)
    assert all(p.grad is None for p in model.parameters())


def test_a_module_of_pytorch_trains_as_with_pytorchs():
    torch = pytest.importorskip("torch")
    results = []
    for cls in (optim.LBFGS, torch.optim.LBFGS):
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1)
        ).double()
        x = torch.linspace(-1, 1, 60, dtype=torch.float64).reshape(20, 3)
        optimizer = cls(model.parameters(), max_iter=5, line_search_fn="strong_wolfe")
        losses = []

        def closure(model=model, x=x, optimizer=optimizer, losses=losses):
            optimizer.zero_grad()
            loss = (model(x) - x[:, :1].sin()).square().mean()
            loss.backward()
            losses.append(loss.item())
            return loss

        for _ in range(4):
            optimizer.step(closure)
        results.append(losses)
    assert results[0] == pytest.approx(results[1], rel=1e-6)


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_resumed_training_has_the_same_bits(search):
    x0 = start_of(7)
    p = x0.copy()
    options = {"lr": 1e-3 if search is None else 1, "max_iter": 4, "line_search_fn": search}
    optimizer = optim.LBFGS([p], **options)
    for _ in range(3):
        optimizer.step(closure_of(rosenbrock, p))
    q = p.copy()
    loaded, pickled = optim.LBFGS([q]), pickle.loads(pickle.dumps(optimizer))
    (r,) = pickled.param_groups[0]["params"]
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(3):
        for o, x in ((optimizer, p), (loaded, q), (pickled, r)):
            o.step(closure_of(rosenbrock, x))
    np.testing.assert_array_equal(p, q)
    np.testing.assert_array_equal(p, r)


def test_maximize_is_the_same_with_the_other_sign():
    p, q = np.zeros(6), np.zeros(6)
    loss = logistic()

    def negative():
        value, slope = loss(q)
        return -value, [-slope]

    optim.LBFGS([p], line_search_fn="strong_wolfe").step(closure_of(loss, p))
    info = optim.LBFGS([q], line_search_fn="strong_wolfe", maximize=True).step(negative)
    np.testing.assert_array_equal(p, q)
    assert info.loss == pytest.approx(-math.log(2))


def test_absent_gradients_count_as_zero_and_diagnostics_measure():
    params = [np.ones(2), np.ones(3)]
    optimizer = optim.LBFGS(params, diagnostics=True)
    optimizer.step(lambda: (float(params[0] @ params[0]), [2 * params[0], None]))
    np.testing.assert_array_equal(params[1], 1)
    measured = optimizer.per_parameter
    assert measured.grad_norm == [pytest.approx(2 * math.sqrt(2)), None]
    assert measured.param_norm[0] == pytest.approx(math.sqrt(2))
    assert measured.update_norm[0] == pytest.approx(math.sqrt(2) * abs(1 - params[0][0]))


@pytest.mark.parametrize("fails_at", [1, 2, 5])
@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_a_closure_that_fails_leaves_everything_as_it_was(search, fails_at):
    p = start_of(4)
    optimizer = optim.LBFGS([p], lr=1e-3, line_search_fn=search, max_iter=6)
    optimizer.step(closure_of(rosenbrock, p))
    before, held, calls = p.copy(), copy.deepcopy(optimizer.state_dict()), []

    def closure():
        calls.append(1)
        if len(calls) == fails_at:
            raise KeyboardInterrupt
        return closure_of(rosenbrock, p)()

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    np.testing.assert_array_equal(p, before)
    np.testing.assert_equal(optimizer.state_dict(), held)
    optimizer.step(closure_of(rosenbrock, p))
    assert (p != before).any()


@pytest.mark.parametrize("nonfinite", ["propagate", "skip", "raise"])
@pytest.mark.parametrize("what", ["loss", "gradient", "later"])
def test_what_is_not_finite(nonfinite, what):
    params = [nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))]
    optimizer = optim.LBFGS([("a", params[0]), ("b", params[1])], lr=0.1)
    calls = []

    def closure():
        calls.append(1)
        grads = [p.data.copy() for p in params]
        if what == "gradient" or (what == "later" and len(calls) == 3):
            grads[1][0] = np.nan
        return (math.nan if what == "loss" else 1.0 / len(calls)), grads

    if nonfinite == "raise":
        said = "the loss is" if what == "loss" else r"the gradient of parameter 1 \(b\) is"
        with pytest.raises(FloatingPointError, match=f"LBFGS: {said} not finite; nothing"):
            optimizer.step(closure, nonfinite=nonfinite)
    else:
        info = optimizer.step(closure, nonfinite=nonfinite)
        assert info.skipped == (nonfinite == "skip")
        if nonfinite == "skip":
            assert info.nonfinite_param == (None if what == "loss" else 1)
    if nonfinite == "propagate":
        if what != "loss":
            assert np.isnan(params[1].data).any()
    else:
        assert all((p.data == 1).all() for p in params)
        assert optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"lr": -1.0}, ValueError, "'lr' is -1.0, expected a number >= 0"),
        ({"max_iter": 0}, ValueError, "'max_iter' is 0, expected a whole number >= 1"),
        ({"max_eval": 2.5}, TypeError, "'max_eval' is 2.5"),
        ({"history_size": 0}, ValueError, "'history_size' is 0"),
        ({"tolerance_grad": -1}, ValueError, "'tolerance_grad' is -1"),
        ({"tolerance_change": math.nan}, ValueError, "'tolerance_change' is nan"),
        ({"line_search_fn": "wolfe"}, ValueError, "is 'wolfe', expected 'strong_wolfe' or 'back"),
        ({"maximize": "no"}, TypeError, "'maximize' is 'no'"),
        ({"weight_decay": 0.1}, TypeError, "unknown keyword 'weight_decay'"),
        ({"compat": "keras"}, ValueError, "'compat' is 'keras', expected 'torch'"),
    ],
    ids=str,
)
def test_options_out_of_range(options, kind, words):
    with pytest.raises(kind, match=f"LBFGS: .*{words}"):
        optim.LBFGS([np.ones(2)], **options)


def test_wrong_use_has_one_error_and_changes_nothing():
    p = np.ones(2)
    optimizer = optim.LBFGS([p])
    with pytest.raises(TypeError, match="'closure' is None, expected a function"):
        optimizer.step()
    with pytest.raises(TypeError, match=r"'closure' is \[.*expected a function"):
        optimizer.step([np.ones(2)])
    with pytest.raises(ValueError, match=r"'max_norm' is 1.0, expected None"):
        optimizer.step(lambda: (1.0, [p]), max_norm=1.0)
    with pytest.raises(ValueError, match="'nonfinite' is 'x'"):
        optimizer.step(lambda: (1.0, [p]), nonfinite="x")
    with pytest.raises(ValueError, match=r"returned 2 gradients, expected 1"):
        optimizer.step(lambda: (1.0, [p, p]))
    with pytest.raises(ValueError, match=r"'grads\[0\]' has shape \(3,\), expected \(2,\)"):
        optimizer.step(lambda: (1.0, [np.ones(3)]))
    with pytest.raises(TypeError, match="'loss' is 'x', expected a number"):
        optimizer.step(lambda: ("x", [p]))
    with pytest.raises(
        TypeError, match=r"the closure returned a float, expected \(loss, gradients"
    ):
        optimizer.step(lambda: 1.0)
    with pytest.raises(ValueError, match="'group' cannot be added"):
        optimizer.add_param_group({"params": [np.ones(2)]})
    with pytest.raises(ValueError, match="has 2 groups, expected one"):
        optim.LBFGS([{"params": [np.ones(2)]}, {"params": [np.ones(2)]}])
    with pytest.raises(ValueError, match=r"LBFGS.*(overlap|same array)"):
        optim.LBFGS([p, p])
    np.testing.assert_array_equal(p, 1)
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="parameter 1 is of torch on cpu, expected numpy on cpu"):
        optim.LBFGS([np.ones(2), torch.ones(2)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e.pop("n_iter"), "lacks 'func_evals' and 'n_iter'"),
        (lambda e: e.update(n_iter=-1), "expected a whole number >= 0"),
        (lambda e: e.pop("ro"), "the state lacks ro"),
        (lambda e: e["ro"].pop(), "have 3, 3, 2 entries"),
        (lambda e: e.update(d=np.ones(3)), r"'d' has shape \(3,\), expected \(4,\)"),
        (lambda e: e["old_dirs"].__setitem__(0, 1.0), "'old_dirs' has shape"),
        (lambda e: e.update(t=math.nan), "'t' is nan, expected a finite number"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change, words):
    p = start_of(4)
    optimizer = optim.LBFGS([p], lr=1e-3, max_iter=4)
    optimizer.step(closure_of(rosenbrock, p))
    before = copy.deepcopy(optimizer.state_dict())
    other = copy.deepcopy(before)
    other["param_groups"][0]["lr"] = 9.0
    change(other["state"][0])
    with pytest.raises(ValueError, match=f"LBFGS.load_state_dict: .*{words}.*nothing was changed"):
        optimizer.load_state_dict(other)
    np.testing.assert_equal(optimizer.state_dict(), before)
