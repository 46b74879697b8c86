"""Muon: directions made orthogonal, in batches, and AdamW for the rest, in one optimizer."""

import copy
import math

import numpy as np
import pytest
from onepass import _C, nn, ops, optim
from onepass.ops._muon import COEFFICIENTS, Directions, Iteration, orthogonalize
from small_steps import assert_resumes

MATRICES = [(8, 5), (5, 8), (8, 5), (1, 7), (7, 1), (3, 3), (4, 2, 3, 3), (33, 17), (8, 5)]
OTHERS = [(17,), (), (1,), (0,)]
SWEEP = [
    {},
    {"lr": 0.05, "nesterov": False, "momentum": 0.8, "weight_decay": 0.0},
    {"lr": 0.02, "momentum": 0.0, "maximize": True, "adjust_lr_fn": "match_rms_adamw"},
    {"lr": 0.05, "ns_steps": 2, "ns_coefficients": (2.0, -1.5, 0.5), "eps": 0.5},
    {"lr": 0.05, "adjust_lr_fn": "original", "adamw_lr_ratio": 0.5, "adamw_weight_decay": 0.3},
]


def newton_schulz(g, coefficients=COEFFICIENTS, eps=1e-7, steps=5):
    """The iteration on singular values: X·Xᵀ has the vectors of X, so each is a number's."""
    a, b, c = coefficients
    u, s, vt = np.linalg.svd(g, full_matrices=False)
    s = s / max(np.sqrt((s * s).sum()), eps)
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return (u * s) @ vt


class Reference:
    """Muon on matrices in float64, one at a time."""

    def __init__(self, p, *, lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True, eps=1e-7,
                 ns_coefficients=COEFFICIENTS, ns_steps=5, adjust_lr_fn=None, maximize=False,
                 **_):  # fmt: skip
        self.p, self.b = np.array(p, np.float64), np.zeros(p.shape)
        self.lr, self.decay, self.mu, self.nesterov = lr, weight_decay, momentum, nesterov
        self.adjust, self.sign = adjust_lr_fn, -1 if maximize else 1
        self.iteration = (ns_coefficients, eps, ns_steps)

    def step(self, g):
        g = self.sign * np.float64(g)
        self.b = self.mu * self.b + (1 - self.mu) * g
        u = self.mu * self.b + (1 - self.mu) * g if self.nesterov else self.b
        u = u.reshape(len(u), -1)
        m, n = u.shape
        rate = 0.2 * math.sqrt(max(m, n)) if self.adjust == "match_rms_adamw" else (
            math.sqrt(max(1, m / n)))  # fmt: skip
        o = newton_schulz(u, *self.iteration).reshape(self.p.shape)
        self.p = self.p * (1 - self.lr * self.decay) - self.lr * rate * o


def drawn(shapes, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return rng, [np.asarray(rng.standard_normal(s), dtype) for s in shapes]


# ------------------------------------------------------------------------------------- the formula


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-9), (np.float32, 2e-3)])
@pytest.mark.parametrize("options", SWEEP, ids=str)
def test_sixty_steps_are_the_formula_and_adamw(options, dtype, bound):
    """The bound is of a step's length: singular values near 0 amplify a rounding by 3.4445⁵."""
    rng, params = drawn([*MATRICES, *OTHERS], dtype)
    want = [Reference(p, **options) for p in params[: len(MATRICES)]]
    rest = copy.deepcopy(params[len(MATRICES) :])
    function = copy.deepcopy(params[: len(MATRICES)])
    buffers = [np.zeros_like(p) for p in function]
    optimizer = optim.Muon(params, **options)
    lr = options.get("lr", 1e-3)
    adamw = optim.AdamW(
        rest,
        lr=lr * options.get("adamw_lr_ratio", 1.0),
        weight_decay=options.get("adamw_weight_decay", options.get("weight_decay", 0.1)),
        maximize=options.get("maximize", False),
    )
    own = {k: v for k, v in options.items() if not k.startswith("adamw")}
    for _ in range(60):
        grads = [np.asarray(rng.standard_normal(p.shape), dtype) for p in params]
        optimizer.step(grads)
        adamw.step(grads[len(MATRICES) :])
        ops.muon_(function, grads[: len(MATRICES)], buffers, **own)
        for reference, g in zip(want, grads, strict=False):
            reference.step(g)
    for p, reference, q in zip(params, want, function, strict=False):
        scale = 60 * lr * (0.2 * 33**0.5 if options.get("adjust_lr_fn") == SWEEP[2].get(
            "adjust_lr_fn") else 7**0.5)  # fmt: skip
        np.testing.assert_allclose(p, reference.p, 0, bound * scale)
        np.testing.assert_array_equal(p, q)
        np.testing.assert_allclose(optimizer.state[p]["momentum_buffer"], reference.b, 0, 1e-6)
    for p, q in zip(params[len(MATRICES) :], rest, strict=True):
        np.testing.assert_array_equal(p, q, "AdamW")


@pytest.mark.parametrize(
    "shape", [(1, 5, 8), (4, 8, 5), (3, 1, 1), (2, 64, 64), (1, 7, 200)], ids=str
)
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30, 0.0])
def test_directions_are_those_of_the_singular_vectors(shape, scale):
    _, (stack,) = drawn([shape], np.float32)
    stack = stack * np.float32(scale)
    for steps in (0, 1, 5):
        out = np.empty_like(stack)
        orthogonalize(stack, Iteration(COEFFICIENTS, 1e-7, steps), out)
        for x, g in zip(out, stack, strict=True):
            want = newton_schulz(np.float64(g), steps=steps)
            np.testing.assert_allclose(x, want, 0, 2e-4)


def test_tensors_are_orthogonalised_as_by_pytorch():
    """In bfloat16, so the singular values are within 0.05 of what exact products give."""
    torch = pytest.importorskip("torch")
    from torch.optim._muon import _zeropower_via_newtonschulz

    for shape in MATRICES[:4]:
        stack = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
        out = torch.empty_like(stack)
        orthogonalize(stack, Iteration(COEFFICIENTS, 1e-7, 5), out)
        for x, g in zip(out, stack, strict=True):
            theirs = _zeropower_via_newtonschulz(g, COEFFICIENTS, 5, 1e-7).float()
            assert (x - theirs).abs().max() <= 2**-7
            assert np.abs(x.numpy() - newton_schulz(g.double().numpy())).max() < 0.05


@pytest.mark.parametrize("options", SWEEP[:3], ids=str)
def test_fifty_steps_are_pytorchs_muon_beside_its_adamw(options):
    torch = pytest.importorskip("torch")
    shapes = [*MATRICES[:3], (3, 3), *OTHERS[:3]]
    rng, arrays = drawn(shapes, np.float32)
    ours, theirs = ([torch.nn.Parameter(torch.tensor(a)) for a in arrays] for _ in range(2))
    optimizer = optim.Muon(ours, **options)
    known = {k: v for k, v in options.items() if k != "maximize"}
    matrices, rest = ([p for p in theirs if (p.ndim == 2) == two] for two in (True, False))
    muon = torch.optim.Muon(matrices, **known)
    adamw = torch.optim.AdamW(
        rest, lr=options.get("lr", 1e-3), weight_decay=options.get("weight_decay", 0.1),
        maximize=options.get("maximize", False),
    )  # fmt: skip
    sign = -1 if options.get("maximize") else 1
    for _ in range(50):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.tensor(np.asarray(rng.standard_normal(p.shape), np.float32))
            q.grad = p.grad.clone() * (sign if q.ndim == 2 else 1)
        optimizer.step()
        muon.step()
        adamw.step()
    for p, q in zip(ours, theirs, strict=True):
        # One rounding of bfloat16 in some elements of a direction, 50 times.
        assert (p - q).abs().max() <= 50 * options.get("lr", 1e-3) * 2**-7


def test_a_matrix_is_stepped_alike_alone_and_in_a_batch():
    _, params = drawn([(6, 9)] * 4 + [(9, 6)])
    _, grads = drawn([(6, 9)] * 4 + [(9, 6)], seed=1)
    alone = copy.deepcopy(params)
    together = optim.Muon(params, lr=0.1)
    assert [len(places) for _, places in together._directions._stacks] == [4, 1]
    single = [optim.Muon([p], lr=0.1) for p in alone]
    for step in range(6):
        kept = [None if (step + i) % 4 == 0 else g for i, g in enumerate(grads)]
        together.step(kept)
        for optimizer, g in zip(single, kept, strict=True):
            optimizer.step([g])
    for p, q in zip(params, alone, strict=True):
        np.testing.assert_allclose(p, q, 0, 1e-12)


def test_groups_that_differ_in_their_iterations_are_batches_of_their_own():
    _, params = drawn([(6, 6)] * 3)
    _, grads = drawn([(6, 6)] * 3, seed=1)
    alone = copy.deepcopy(params)
    groups = [{"params": params[:1], "ns_steps": 1}, {"params": params[1:], "lr": 0.5}]
    optim.Muon(groups, lr=0.1).step(grads)
    optim.Muon(alone[:1], lr=0.1, ns_steps=1).step(grads[:1])
    optim.Muon(alone[1:], lr=0.5).step(grads[1:])
    for p, q in zip(params, alone, strict=True):
        np.testing.assert_allclose(p, q, 0, 1e-12)


@pytest.mark.parametrize("matrix", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 7, 8, 9, 65, 1025])
def test_the_kernel_leaves_directions_of_matrices_and_steps_the_others(size, dtype, matrix):
    _, (p, g, m, v) = drawn([(size,)] * 4, dtype)
    v = np.abs(v)
    before = [np.array(a, np.float64) for a in (p, g, m, v)]
    hyper = (0.1, 0.8, 0.9, 1e-3, 0.2, 0.3, float(matrix))
    _C.Plan("muon", [p], [[m], [v]], [0], [4]).step(
        [g], [hyper], 1.0, None, None, False, False, False, True
    )
    p0, g0, m0, v0 = before
    mean, square = m0 + 0.2 * (g0 - m0), 0.9 * v0 + 0.1 * g0 * g0
    moved = p0 * (1 - 0.1 * 0.2) - 0.1 / (1 - 0.8**5) * mean / (
        np.sqrt(square / (1 - 0.9**5)) + 1e-3
    )
    want = [p0, mean, mean + 0.3 * (g0 - mean)] if matrix else [moved, mean, square]
    for got, expected in zip((p, m, v), want, strict=True):
        np.testing.assert_allclose(got, expected, 16 * np.finfo(dtype).eps, 1e-6)
    if matrix:
        np.testing.assert_array_equal(p, p0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_matrices_of_sixteen_bits_are_rounded_once(dtype):
    kind = np.float16 if dtype == "float16" else pytest.importorskip("ml_dtypes").bfloat16
    _, (p, g) = drawn([(6, 9)] * 2)
    p, g = p.astype(kind), g.astype(kind)
    wide = p.astype(np.float32)
    optim.Muon([p], lr=0.1).step([g])
    optim.Muon([wide], lr=0.1).step([g.astype(np.float32)])
    np.testing.assert_array_equal(p.astype(np.float32), wide.astype(kind).astype(np.float32))


def test_strided_matrices_are_stepped_where_they_lie():
    rng, (whole,) = drawn([(20, 12)])
    views = [whole[::2, :5], whole[1::2, 6:].T]
    copies, gap = [np.array(v) for v in views], whole[::2, 5:].copy()
    a, b = optim.Muon(views, lr=0.1), optim.Muon(copies, lr=0.1)
    for _ in range(5):
        grads = [rng.standard_normal(v.shape) for v in views]
        a.step(grads)
        b.step(grads)
    for view, plain in zip(views, copies, strict=True):
        np.testing.assert_array_equal(view, plain)
    np.testing.assert_array_equal(whole[::2, 5:], gap)


# ------------------------------------------------------------------------ which half steps what


def test_a_group_without_muon_is_adamws():
    _, params = drawn([(4, 3), (4, 3), (3,)])
    _, grads = drawn([(4, 3), (4, 3), (3,)], seed=1)
    alone = copy.deepcopy(params)
    optimizer = optim.Muon(
        [{"params": params[:1]}, {"params": params[1:], "use_muon": False, "lr": 0.3}],
        lr=0.1, adamw_betas=(0.8, 0.9), adamw_eps=1e-3, adamw_weight_decay=0.2,
    )  # fmt: skip
    adamw = optim.AdamW(alone[1:], lr=0.3, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.2)
    for _ in range(5):
        optimizer.step(grads)
        adamw.step(grads[1:])
    for p, q in zip(params[1:], alone[1:], strict=True):
        np.testing.assert_array_equal(p, q)
    kept = [sorted(optimizer.state[p]) for p in params]
    assert kept == [["momentum_buffer", "step"], *[["exp_avg", "exp_avg_sq", "step"]] * 2]


def test_use_muon_stays_as_it_was():
    p = np.ones((3, 3))
    optimizer = optim.Muon([p])
    optimizer.step([np.eye(3)])
    optimizer.param_groups[0]["use_muon"] = False
    with pytest.raises(ValueError, match="'use_muon' of a group was changed"):
        optimizer.step([np.eye(3)])
    optimizer.param_groups[0]["use_muon"] = None
    optimizer.step([np.eye(3)])
    with pytest.raises(ValueError, match=r"'use_muon' is True, .* has shape \(3,\)"):
        optimizer.add_param_group({"params": [np.ones(3)], "use_muon": True})
    optimizer.add_param_group({"params": [np.ones(3), np.ones((3, 3))]})
    optimizer.step([np.eye(3), np.ones(3), np.eye(3)])
    assert [entry["step"] for entry in optimizer.state_dict()["state"].values()] == [3, 1, 1]


def test_memory_beside_a_matrix_is_its_momentum_and_one_direction():
    params = [np.zeros((64, 64), np.float32) for _ in range(3)] + [np.zeros(64, np.float32)]
    optimizer = optim.Muon(params)
    held = {id(a if a.base is None else a.base): a if a.base is None else a.base
            for arrays in optimizer._states.values() for a in arrays}  # fmt: skip
    assert sum(a.nbytes for a in held.values()) <= 8 * sum(p.size for p in params) + 1024


# ---------------------------------------------------------------- what it shares with the others


def test_resumed_training_has_the_same_bits():
    rng, params = drawn([*MATRICES, *OTHERS], np.float32)
    grads = [
        [np.asarray(rng.standard_normal(p.shape), np.float32) for p in params] for _ in range(12)
    ]
    assert_resumes(optim.Muon, params, grads, lr=0.1)


def test_states_go_to_pytorch_and_back():
    torch = pytest.importorskip("torch")
    rng, arrays = drawn([(4, 6), (6, 4)], np.float32)
    ours, theirs = ([torch.nn.Parameter(torch.tensor(a)) for a in arrays] for _ in range(2))
    a, b = optim.Muon(ours, lr=0.05), torch.optim.Muon(theirs, lr=0.05)
    for step in range(12):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.tensor(np.asarray(rng.standard_normal(p.shape), np.float32))
            q.grad = p.grad.clone()
        a.step()
        b.step()
        for p, q in zip(ours, theirs, strict=True):
            assert (p - q).abs().max() <= 12 * 0.05 * 2**-7
        if step == 3:
            a.load_state_dict(copy.deepcopy(b.state_dict()))
        if step == 7:
            b.load_state_dict(copy.deepcopy(a.state_dict()))
            for p, q in zip(ours, theirs, strict=True):
                assert torch.equal(b.state[q]["momentum_buffer"], a.state[p]["momentum_buffer"])


def test_one_norm_spans_both_halves():
    params = [np.ones((2, 2)), np.ones(2)]
    alone = copy.deepcopy(params)
    grads = [np.full((2, 2), 3.0), np.full(2, 4.0)]
    norm = math.sqrt(4 * 9 + 2 * 16)
    info = optim.Muon(params, lr=0.1, eps=10.0).step(grads, max_norm=1.0, grad_scale=0.5)
    assert info.grad_norm == pytest.approx(2 * norm)
    factor = 2 / (2 * norm + 1e-6)
    optim.Muon(alone, lr=0.1, eps=10.0).step([g * factor for g in grads])
    for p, q in zip(params, alone, strict=True):
        np.testing.assert_allclose(p, q, 1e-12)


@pytest.mark.parametrize("nonfinite", ["skip", "raise"])
@pytest.mark.parametrize("where", [0, 1])
def test_a_gradient_that_is_not_finite_changes_nothing(nonfinite, where):
    params = [np.ones((3, 2)), np.ones(3)]
    optimizer = optim.Muon(params, lr=0.1)
    optimizer.step([np.ones((3, 2)), np.ones(3)])
    before = copy.deepcopy((params, optimizer.state_dict()["state"]))
    grads = [np.ones((3, 2)), np.ones(3)]
    grads[where][0] = np.nan
    if nonfinite == "raise":
        with pytest.raises(FloatingPointError, match=f"Muon: the gradient of parameter {where}"):
            optimizer.step(grads, nonfinite=nonfinite)
    else:
        info = optimizer.step(grads, nonfinite=nonfinite, zero_grad=True)
        assert (info.skipped, info.nonfinite_param) == (True, where)
        assert not any(g.any() for g in grads)
    np.testing.assert_equal((params, optimizer.state_dict()["state"]), before)


def test_absent_gradients_and_frozen_parameters_stay():
    params = [nn.Parameter(np.ones((3, 3), np.float32)) for _ in range(3)]
    optimizer = optim.Muon(params, lr=0.1)
    params[2].requires_grad = False
    for p in (params[0], params[2]):
        p.grad = np.eye(3, dtype=np.float32)
    optimizer.step(zero_grad=True)
    assert [bool((p.data == 1).all()) for p in params] == [False, True, True]
    assert [optimizer.state[p].get("step") for p in params] == [1, None, None]
    assert all(p.grad is None for p in params)


def test_a_gradient_of_zero_decays_only_and_a_schedule_reaches_both_halves():
    params = [np.ones((3, 2)), np.ones(3)]
    optimizer = optim.Muon(params, lr=0.5, weight_decay=0.1)
    schedule = optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    optimizer.step([np.zeros((3, 2)), np.zeros(3)])
    schedule.step()
    optimizer.step([np.zeros((3, 2)), np.zeros(3)])
    for p in params:
        np.testing.assert_allclose(p, 0.95 * 0.975, 1e-12)
    optimizer.param_groups[0]["lr"] = 0.0
    before = copy.deepcopy(params)
    optimizer.step([np.ones((3, 2)), np.ones(3)])
    np.testing.assert_equal(params, before)


def test_diagnostics_measure_both_halves():
    params = [np.ones((2, 2)), np.ones(4)]
    optimizer = optim.Muon(params, lr=0.1, weight_decay=0.0, diagnostics=True)
    optimizer.step([np.eye(2), np.ones(4)])
    measured, change = optimizer.per_parameter, np.linalg.norm(params[0] - 1)
    assert measured.grad_norm == pytest.approx([math.sqrt(2), 2.0])
    assert measured.update_norm == pytest.approx([change, 0.2], rel=1e-6)
    assert measured.param_norm == pytest.approx([2.0, 2.0])


def test_empty_matrices_and_modules():
    optimizer = optim.Muon([np.zeros((0, 4)), np.zeros((4, 0)), np.ones((2, 2))], lr=0.1)
    optimizer.step([np.zeros((0, 4)), np.zeros((4, 0)), np.eye(2)])
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = optim.Muon(model, lr=0.05)
    losses = []
    x = np.random.default_rng(0).standard_normal((32, 3)).astype(np.float32)
    for _ in range(60):
        loss, dy = nn.MSELoss()(model(x), x[:, :2])
        model.backward(dy)
        optimizer.step(zero_grad=True)
        losses.append(float(loss))
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"lr": -1.0}, ValueError, "'lr' is -1.0, expected a number >= 0"),
        ({"momentum": 1.0}, ValueError, "'momentum' is 1.0"),
        ({"weight_decay": -0.1}, ValueError, "'weight_decay' is -0.1"),
        ({"nesterov": "no"}, TypeError, "'nesterov' is 'no', expected True or False"),
        ({"eps": 0.0}, ValueError, "'eps' is 0.0, expected a number > 0"),
        (
            {"ns_steps": 100},
            ValueError,
            "'ns_steps' is 100, expected a whole number >= 0 and < 100",
        ),
        ({"ns_steps": 2.5}, TypeError, "'ns_steps' is 2.5"),
        ({"ns_coefficients": (1, 2)}, ValueError, r"'ns_coefficients' is \(1, 2\), expected 3"),
        ({"ns_coefficients": (1, 2, math.nan)}, ValueError, r"'ns_coefficients\[2\]' is nan"),
        ({"adjust_lr_fn": "x"}, ValueError, "'adjust_lr_fn' is 'x', expected 'original' or"),
        ({"use_muon": "yes"}, TypeError, "'use_muon' is 'yes'"),
        ({"adamw_lr_ratio": -1.0}, ValueError, "'adamw_lr_ratio' is -1.0"),
        ({"adamw_betas": (0.9, 2.0)}, ValueError, r"'adamw_betas\[1\]' is 2.0"),
        ({"adamw_eps": -1.0}, ValueError, "'adamw_eps' is -1.0"),
        ({"adamw_weight_decay": -1.0}, ValueError, "'adamw_weight_decay' is -1.0.*or None"),
        ({"betas": (0.9, 0.9)}, TypeError, "unknown keyword 'betas'"),
    ],
    ids=str,
)
def test_options_out_of_range(options, kind, words):
    with pytest.raises(kind, match=words):
        optim.Muon([np.ones((2, 2))], **options)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda s: s["state"][0].pop("momentum_buffer"),
            "'momentum_buffer' of parameter 0 is missing",
        ),
        (lambda s: s["state"][0].update(momentum_buffer=np.ones(3)), r"of shape \(3,\), expected"),
        (lambda s: s["state"][1].pop("exp_avg_sq"), "'exp_avg_sq' of parameter 1 is missing"),
        (
            lambda s: s["param_groups"][0].update(use_muon=False),
            "'use_muon' of a group was changed",
        ),
        (lambda s: s["param_groups"][0].update(ns_steps=-1), "'ns_steps' is -1"),
        (lambda s: s["param_groups"][0].pop("momentum"), "a group lacks momentum"),
        (lambda s: s.pop("state"), "expected a dict with 'state'"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change, words):
    params = [np.ones((3, 2)), np.ones(3)]
    optimizer = optim.Muon(params, lr=0.1)
    optimizer.step([np.ones((3, 2)), np.ones(3)])
    before = copy.deepcopy(optimizer.state_dict())
    other = copy.deepcopy(before)
    other["param_groups"][0]["lr"] = 9.0
    change(other)
    with pytest.raises(ValueError, match=words):
        optimizer.load_state_dict(other)
    np.testing.assert_equal(optimizer.state_dict(), before)


def test_the_function_takes_matrices():
    with pytest.raises(ValueError, match=r"'params\[1\]' has shape \(3,\), expected two axes"):
        ops.muon_([np.ones((2, 2)), np.ones(3)], [None, None], [np.ones((2, 2)), np.ones(3)])
    with pytest.raises(TypeError, match="unknown option 'foo'"):
        ops.muon_([np.ones((2, 2))], [None], [np.ones((2, 2))], foo=1)
    with pytest.raises(TypeError, match="'grads' is None, expected a list"):
        ops.muon_([np.ones((2, 2))], None, [np.ones((2, 2))])
    assert len(Directions([np.ones((2, 2), np.float16)]).arrays) == 1


def test_a_group_that_is_refused_leaves_the_kinds_of_the_others():
    """The next good group was refused, since 'use_muon' had seemed to change."""
    p, q = np.ones((2, 3)), np.ones(4)
    opt = optim.Muon([p])
    with pytest.raises(
        ValueError, match=r"^Muon: 'params\[1\]' is the same array as 'params\[0\]'"
    ):
        opt.add_param_group({"params": [p[:], p][1:]})
    with pytest.raises(ValueError, match=r"^Muon: 'params\[1\]' overlaps 'params\[0\]'"):
        opt.add_param_group({"params": [p[:1]]})
    opt.add_param_group({"params": [q]})
    opt.step([np.ones((2, 3)), np.ones(4)])
    assert (p != 1).all()
    assert (q != 1).all()


def test_rows_name_their_hyper_parameters():
    """By position, one more hyper-parameter in the middle would have been silent."""
    from onepass.ops._rule import UPDATES
    from onepass.ops._step import row_of

    names = [name for name in UPDATES["muon"]["hyper"] if name != "step"]
    row = dict(zip(names, row_of("muon", look=0.5, beta1=0.9), strict=True))
    assert row == {**dict.fromkeys(names, 0.0), "look": 0.5, "beta1": 0.9}
    with pytest.raises(AssertionError):
        row_of("muon", momentum=0.9)
