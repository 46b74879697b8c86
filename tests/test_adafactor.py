"""Adafactor beyond what tests/cases and tests/test_tensor_norms.py ask of every such optimizer: its
states of rows and columns, in all shapes, beside its formula in float64 and beside PyTorch's."""

import copy
import pickle

import numpy as np
import pytest
from cases import DTYPES, as_float64
from helpers import assert_all_same, assert_same, each_dtype, flat, to_torch
from onepass import _C, config, ops, optim
from small_steps import assert_unchanged, everything, steps_of

SHAPES = [(), (1,), (7,), (1025,), (1, 1), (1, 9), (9, 1), (5, 7), (3, 4, 5), (4, 2, 3, 3),
          (2, 1, 1, 33), (66, 530), (65, 31), (4200, 2), (2, 2300), (0,), (0, 4), (4, 0),
          (2, 0, 3), (1, 2, 1, 2, 1, 3)]  # fmt: skip


class Reference:
    """The formula in float64, as PyTorch documents it; None gradients are left out."""

    def __init__(self, params, lr=1e-2, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0,
                 weight_decay=0.0, maximize=False):  # fmt: skip
        self.eps1 = [np.finfo(p.dtype).eps if eps[0] is None else eps[0] for p in params]
        self.params = [as_float64(p.copy()) for p in params]
        self.options = lr, beta2_decay, eps[1], d, weight_decay, -1.0 if maximize else 1.0
        self.steps, self.states = [0] * len(params), [None] * len(params)

    def step(self, grads):
        lr, decay, eps2, d, weight_decay, sign = self.options
        for i, (p, g) in enumerate(zip(self.params, grads, strict=True)):
            if g is None:
                continue
            self.steps[i] += 1
            if p.size == 0:
                continue
            t, eps1 = float(self.steps[i]), self.eps1[i]
            g = sign * as_float64(np.asarray(g))
            alpha = max(eps2, np.sqrt(np.mean(p**2))) * min(lr, 1 / np.sqrt(t))
            gain = t**decay
            if p.ndim < 2:
                held = np.zeros(p.shape) if self.states[i] is None else self.states[i]
                self.states[i] = v = (1 - gain) * held + gain * g**2
            else:
                r, c = self.states[i] or (0.0, 0.0)
                r = (1 - gain) * r + gain * np.mean(g**2, axis=-1, keepdims=True)
                c = (1 - gain) * c + gain * np.mean(g**2, axis=-2, keepdims=True)
                self.states[i] = r, c
                v = r * c / np.maximum(np.mean(r, axis=-2, keepdims=True), eps1)
            u = g / np.maximum(np.sqrt(v), eps1)
            size = alpha / max(1.0, np.sqrt(np.mean(u**2)) / d)
            self.params[i] = (1 - lr * weight_decay) * p - size * u


def drawn(shapes, dtype="float64", seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return [np.asarray(scale * rng.standard_normal(s)).astype(dtype) for s in shapes]


def assert_near(params, want, rel, label=""):
    for i, (p, w) in enumerate(zip(params, want, strict=True)):
        top = np.abs(w).max() if w.size else 0.0
        np.testing.assert_allclose(as_float64(p), w, rel, rel * top, err_msg=f"{label} [{i}]")


# ------------------------------------------------------------------------------------- the formula


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.5, "weight_decay": 0.05, "beta2_decay": -0.5, "d": 2.0},
        {"lr": 0.05, "eps": (0.4, 0.3), "maximize": True},
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_two_hundred_steps_over_every_shape(options, dtype):
    """With gradients that are missing at times, and some that come late."""
    params = drawn(SHAPES, dtype)
    reference, opt = Reference(params, **options), optim.Adafactor(params, **options)
    rng = np.random.default_rng(1)
    for t in range(200):
        grads = [np.asarray(rng.standard_normal(p.shape)).astype(dtype) for p in params]
        absent = rng.random(len(params)) < 0.2
        grads = [
            None if skip or (i % 4 == 0 and t < 20) else g
            for i, (g, skip) in enumerate(zip(grads, absent, strict=True))
        ]
        opt.step(grads)
        reference.step(grads)
    assert_near(params, reference.params, 1e-12 if dtype == "float64" else 3e-5)
    assert steps_of(opt, len(params)) == reference.steps


def test_a_thousand_tiny_matrices_and_vectors_in_one_step():
    shapes = [[(1 + i % 5, 1 + i % 3), (1 + i % 7,), (2, 1 + i % 2, 3)][i % 3] for i in range(3000)]
    params = drawn(shapes)
    reference, opt = Reference(params, lr=0.1), optim.Adafactor(params, lr=0.1)
    for t in range(3):
        grads = drawn(shapes, seed=1 + t)
        opt.step(grads)
        reference.step(grads)
    assert_near(params, reference.params, 1e-13)


@each_dtype
def test_eps_of_none_is_the_machine_epsilon_of_the_parameter(dtype):
    """Of the gradient, each element is far below it; so the update is g/eps."""
    eps = 2.0 ** (1 - {"float32": 24, "float64": 53, "float16": 11, "bfloat16": 8}[dtype.name])
    p = np.ones((2, 3)).astype(dtype)
    g = np.full((2, 3), 2.0**-14 if dtype.itemsize == 2 else eps / 4).astype(dtype)
    optim.Adafactor([p], lr=0.5, eps=(None, 1e-3)).step([g])
    want = 1 - 0.5 * float(g[0, 0]) / eps
    np.testing.assert_allclose(as_float64(p), want, atol=float(eps))


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("float32", 1e18), ("float32", 1e-18), ("float64", 1e150), ("float64", 1e-150)],
)
def test_squares_near_the_ends_of_the_range(dtype, scale):
    """The product of a row's and a column's value would leave it."""
    (p,), (g,) = drawn([(40, 50)], dtype), drawn([(40, 50)], dtype, seed=1)
    other, g = p.copy(), g.astype(dtype)
    for array, by in ((p, 1.0), (other, scale)):
        optim.Adafactor([array], lr=0.5, eps=(0.0, 1e-3)).step([(g * by).astype(dtype)])
    near = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(other, p, near, near)


def test_a_gradient_that_is_not_finite_stays_in_its_rows_and_columns():
    p, g = (drawn([(5, 6)], seed=i)[0] for i in (0, 1))
    with np.errstate(all="ignore"):
        g[2, 3] = np.nan
    before = p.copy()
    opt = optim.Adafactor([p])
    opt.step([g])
    assert np.isnan(p[2]).all()
    assert np.isnan(opt.state_dict()["state"][0]["row_var"]).ravel().tolist() == [
        False, False, True, False, False,
    ]  # fmt: skip
    assert not np.isfinite(before - p).all()


# ----------------------------------------------------------------------------------------- PyTorch


@pytest.mark.parametrize("options", [{}, {"lr": 0.3, "weight_decay": 0.1, "eps": (1e-3, 0.1)},
                                     {"lr": 0.1, "d": 1.5, "beta2_decay": -0.6,
                                      "maximize": True}])  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pytorchs_steps(options, dtype):
    torch = pytest.importorskip("torch")
    shapes = [s for s in SHAPES if np.prod(s) > 0]
    params = drawn(shapes, dtype)
    tensors = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params]
    theirs, ours = torch.optim.Adafactor(tensors, **options), optim.Adafactor(params, **options)
    for t in range(30):
        grads = drawn(shapes, dtype, seed=1 + t)
        for tensor, g in zip(tensors, grads, strict=True):
            tensor.grad = torch.from_numpy(g.copy())
        theirs.step()
        ours.step(grads)
    want = [t.detach().numpy() for t in tensors]
    assert_near(params, want, 1e-12 if dtype == "float64" else 1e-4)
    for index, entry in theirs.state_dict()["state"].items():
        own = ours.state_dict()["state"][index]
        assert own.keys() == entry.keys()
        for key, value in entry.items():
            assert tuple(np.shape(own[key])) == tuple(value.shape), key
            np.testing.assert_allclose(own[key], value, 1e-4 if dtype == "float32" else 1e-12)


def test_a_state_dict_of_pytorch_goes_on_here_and_ours_there():
    torch = pytest.importorskip("torch")
    shapes = [(), (5,), (4, 6), (2, 3, 3, 3)]
    params, grads = drawn(shapes), [drawn(shapes, seed=t) for t in range(1, 7)]
    tensors = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params]
    theirs, ours = torch.optim.Adafactor(tensors, lr=0.1), optim.Adafactor(params, lr=0.1)

    def step(optimizer, given):
        for tensor, g in zip(tensors, given, strict=True):
            tensor.grad = torch.from_numpy(g.copy())
        optimizer.step()

    for given in grads[:3]:
        step(theirs, given)
    for p, tensor in zip(params, tensors, strict=True):
        p[...] = tensor.detach().numpy()
    ours.load_state_dict(theirs.state_dict())
    for given in grads[3:5]:
        ours.step(given)
        step(theirs, given)
    assert_near(params, [t.detach().numpy() for t in tensors], 1e-13)
    back = torch.optim.Adafactor(tensors, lr=0.1)
    saved = copy.deepcopy(ours.state_dict())
    for entry in saved["state"].values():
        entry.update({k: torch.as_tensor(v) for k, v in entry.items() if k != "step"})
        entry["step"] = torch.tensor(float(entry["step"]))
    for group in saved["param_groups"]:
        group.pop("diagnostics", None)
    back.load_state_dict(saved)
    step(back, grads[5])
    ours.step(grads[5])
    assert_near(params, [t.detach().numpy() for t in tensors], 1e-13)


def test_the_front_for_pytorch_has_its_states():
    torch = pytest.importorskip("torch")
    from onepass.torch import optim as front

    torch.manual_seed(0)
    parts = torch.nn.Conv2d(2, 4, 3), torch.nn.Flatten(), torch.nn.Linear(16, 3)
    model = torch.nn.Sequential(*parts)
    other = copy.deepcopy(model)
    x, y = torch.randn(8, 2, 4, 4), torch.randint(3, (8,))
    ours, theirs = front.Adafactor(model.parameters()), torch.optim.Adafactor(other.parameters())
    for net, optimizer in ((model, ours), (other, theirs)):
        for _ in range(20):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
        assert ours.state[p].keys() == theirs.state[q].keys()
        for key, value in theirs.state[q].items():
            assert ours.state[p][key].shape == value.shape
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    ours.add_param_group({"params": [torch.nn.Parameter(torch.ones(2, 3))]})
    ours.state[next(model.parameters())]["variance"] = torch.zeros(3)
    with pytest.raises(ValueError, match="'variance' in the state of parameter 0 is given"):
        ours.step()


# ---------------------------------------------------------------------------------------- the plan


def test_one_call_a_step_whatever_the_groups(monkeypatch):
    calls = []
    params = drawn([(4, 5), (3,), (2, 2, 2)] * 40)
    groups = [{"params": [p], "lr": 0.01 * (1 + i)} for i, p in enumerate(params)]
    opt = optim.Adafactor(groups)
    opt._take = lambda *a, take=opt._take: calls.append(1) or take(*a)
    opt.step([np.ones_like(p) for p in params])
    assert calls == [1]


def test_the_same_bits_on_any_threads_and_levels():
    """Bands, strips and units of work of every kind."""
    shapes = [*SHAPES, (130, 4200), (257, 256), (2000, 3, 3), (60001,), (70, 70, 5)]
    threads, level, want = config.get_num_threads(), config.cpu_level(), None
    try:
        for each in config.cpu_levels():
            for count in (1, 2, 3, 7):
                config.set_num_threads(count)
                config.set_cpu_level(each)
                params = drawn(shapes, "float32") + drawn([(90, 300), (33,)], seed=3)
                params += drawn([(33, 40)], "float16", seed=4)
                opt = optim.Adafactor(params, lr=0.1)
                for t in range(2):
                    grads = [g.astype(p.dtype) for g, p in
                             zip(drawn([p.shape for p in params], seed=t), params,
                                 strict=True)]  # fmt: skip
                    opt.step(grads, max_norm=1.0, max_value=0.5, grad_scale=4.0)
                entries = opt.state_dict()["state"].values()
                got = [*params, *(v for e in entries for k, v in e.items() if k != "step")]
                want = got if want is None else want
                assert_all_same(got, want, f"{each}, {count} threads")
    finally:
        config.set_num_threads(threads)
        config.set_cpu_level(level)


def test_a_parameter_in_any_order_of_memory():
    """Channels-last, transposed, reversed and strided: rows and columns are those of its axes."""
    base = drawn([(4, 6, 5, 7)])[0]
    views = [
        lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        lambda a: np.asfortranarray(a),
        lambda a: np.ascontiguousarray(a[::-1, :, ::-1])[::-1, :, ::-1],
        lambda a: np.repeat(a, 3, -1)[..., ::3],
    ]
    want, reference = base.copy(), None
    for view in [np.array, *views]:
        p = view(base)
        assert_same(p, base)
        opt = optim.Adafactor([p], lr=0.3)
        for t in range(3):
            opt.step([view(drawn([base.shape], seed=1 + t)[0])], max_norm=2.0)
        if reference is None:
            want, reference = p, opt.state_dict()["state"][0]
        # The norm that clips is added up in the order of memory.
        np.testing.assert_allclose(p, want, rtol=1e-13)
        for key in ("row_var", "col_var"):
            np.testing.assert_allclose(opt.state_dict()["state"][0][key], reference[key], 1e-13)


@each_dtype
def test_states_lie_as_the_caller_likes(dtype):
    """Reversed, with gaps and misaligned, in `ops`; also of 16-bit states."""
    (p,), (g,) = drawn([(6, 9)], dtype), drawn([(6, 9)], dtype, seed=1)
    wide = "float64" if dtype == np.float64 else "float32"
    plain = [p.copy(), np.ones((6, 1), wide), np.ones((1, 9), wide)]
    ops.adafactor_([plain[0]], [g], [plain[1]], [plain[2]], [None], step=3, lr=0.1)
    room = np.zeros(4 * 9 * 8 + 1, np.uint8)
    odd = room[1:].view(wide)[: 2 * 9 : 2].reshape(1, 9) if wide == "float32" else None
    for rows, columns in (
        (np.ones((12, 1), wide)[::-2], np.ones((1, 18), wide)[:, ::2]),
        (np.ones((6, 1), wide), odd if odd is not None else np.ones((9, 1), wide).T),
    ):
        columns[...] = 1
        q = p.copy()
        ops.adafactor_([q], [g], [rows], [columns], [None], step=3, lr=0.1)
        assert_all_same([q, rows, columns], plain)


def test_skipped_steps_change_nothing_and_zero_the_gradients():
    params = drawn([(5, 6), (7,)])
    grads = [np.full_like(p, np.inf) for p in params]
    opt = optim.Adafactor(params)
    before = everything(opt, params)
    info = opt.step(grads, nonfinite="skip", zero_grad=True)
    assert (info.skipped, info.nonfinite_param) == (True, 0)
    assert_unchanged(opt, params, before, "skipped")
    assert not any(g.any() for g in grads)
    with pytest.raises(FloatingPointError, match="parameter 1"):
        opt.step([np.ones((5, 6)), np.full(7, np.nan)], nonfinite="raise")
    assert_unchanged(opt, params, before, "refused")


def test_it_resumes_with_the_same_bits():
    """From a state_dict, a copy and a pickle; a group added between steps has states too."""
    shapes = [(5, 6), (), (3, 2, 4), (9,)]
    params = drawn(shapes, "float32")
    opt = optim.Adafactor(params[:2], lr=0.1, diagnostics=True)
    opt.step(drawn(shapes[:2], "float32", seed=1))
    opt.add_param_group({"params": params[2:], "lr": 0.2, "eps": (1e-3, 0.1)})
    opt.step([*drawn(shapes[:3], "float32", seed=2), None])
    twins = [copy.deepcopy((params, opt)), pickle.loads(pickle.dumps((params, opt)))]
    other = [p.copy() for p in params]
    again = optim.Adafactor(
        [{"params": other[:2], "lr": 0.1}, {"params": other[2:]}], diagnostics=True
    )
    again.load_state_dict(copy.deepcopy(opt.state_dict()))
    for _ in range(2):
        for each in (opt, again, *(twin for _, twin in twins)):
            each.step(drawn(shapes, "float32", seed=3))
    for own in (other, *(p for p, _ in twins)):
        assert_all_same(own, params)
    assert opt.per_parameter == again.per_parameter
    assert steps_of(again, 4) == [4, 4, 3, 2]


def test_a_change_of_options_takes_effect():
    (p,), (q,) = drawn([(4, 5)]), drawn([(4, 5)])
    opt, other = optim.Adafactor([p], lr=0.1), optim.Adafactor([q], lr=0.1)
    for each in (opt, other):
        each.step([np.ones((4, 5))])
    opt.param_groups[0].update(lr=0.01, eps=(0.5, 0.5))
    opt.step([np.full((4, 5), 0.1)])
    other.step([np.full((4, 5), 0.1)])
    assert (p != q).all()


# ------------------------------------------------------------------------------------------- errors


def test_states_that_do_not_fit_their_parameter():
    p, v = np.ones((4, 5), np.float32), np.ones(3, np.float32)
    row, col = np.zeros((4, 1), np.float32), np.zeros((1, 5), np.float32)

    def refused(match, params, *states, error=ValueError):
        grads = [np.ones_like(a) for a in params]
        before = [None if a is None else a.copy() for a in flat([params, *states])]
        with pytest.raises(error, match=match):
            ops.adafactor_(params, grads, *states, step=1)
        assert_all_same(flat([params, *states]), before)

    refused(
        r"'row_vars\[0\]' is None, expected an array of shape \(4, 1\): a value for each row of "
        r"'params\[0\]'",
        [p], [None], [col], [None],
    )  # fmt: skip
    refused(
        r"'col_vars\[0\]' has shape \(5,\), expected \(1, 5\): a value for each column",
        [p], [row], [col[0]], [None],
    )  # fmt: skip
    refused(
        r"'variances\[0\]' is given, expected None: 'params\[0\]' has shape \(4, 5\), so its rows "
        "and columns have the values",
        [p], [row], [col], [p.copy()],
    )  # fmt: skip
    refused(
        r"'row_vars\[0\]' is given, expected None: 'params\[0\]' has shape \(3,\), without rows",
        [v], [row], [None], [v.copy()],
    )  # fmt: skip
    refused(
        r"'variances\[0\]' is None, expected an array of shape \(3,\): a value for each element",
        [v], [None], [None], [None],
    )  # fmt: skip
    wide = row.astype(float)
    refused(r"'row_vars\[0\]' has dtype float64", [p], [wide], [col], [None], error=TypeError)
    refused(r"'row_vars\[0\]' overlaps 'params\[0\]'", [p], [p[:, 1:2]], [col], [None])
    with pytest.raises(TypeError, match="'row_vars' is None, expected a list of arrays"):
        ops.adafactor_([p], [p], None, [col], [None], step=1)
    with pytest.raises(ValueError, match="'stages' is given"):
        _C.Plan("adafactor", [p], [[row], [col], [None]], [0], None, (None, None))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"beta2_decay": 0.1}, "'beta2_decay' is 0.1, expected a number <= 0"),
        ({"d": 0.5}, "'d' is 0.5, expected a number >= 1"),
        ({"eps": (-1, 1e-3)}, r"'eps\[0\]' is -1, expected a number >= 0, or None"),
        ({"eps": (None, None)}, r"'eps\[1\]' is None"),
        ({"eps": 1e-3}, "'eps' is 0.001, expected a pair of numbers"),
        ({"weight_decay": -1}, "'weight_decay' is -1"),
        ({"ema_decay": 0.9}, "'ema_decay' is 0.9, expected no such keyword: Adafactor takes no"),
    ],
)
def test_options_out_of_range(options, match):
    with pytest.raises((TypeError, ValueError), match=match):
        optim.Adafactor([np.ones(3)], **options)


def test_a_state_dict_of_other_shapes_is_refused():
    params = drawn([(4, 5), (3,)])
    opt = optim.Adafactor(params)
    opt.step([np.ones((4, 5)), np.ones(3)])
    before = everything(opt, params)
    for key, value, match in (
        ("row_var", np.zeros((4, 5)), r"'row_var' of parameter 0 has shape \(4, 5\), expected"),
        ("col_var", None, "'col_var' of parameter 0 is missing"),
        ("col_var", -np.ones((1, 5)), "'col_var' of parameter 0 holds a negative number"),
        ("variance", np.zeros((4, 5)), r"'variance' of parameter 0 is given, expected none beside"),
    ):  # fmt: skip
        saved = copy.deepcopy(opt.state_dict())
        saved["state"][0][key] = value
        with pytest.raises(ValueError, match=match):
            opt.load_state_dict(saved)
        assert_unchanged(opt, params, before, key)


def test_tensors_of_torch_of_every_dtype():
    torch = pytest.importorskip("torch")
    for dtype in DTYPES:
        params = drawn([(6, 5), (4,)], dtype)
        tensors = [torch.nn.Parameter(to_torch(p)) for p in params]
        here, there = optim.Adafactor(params, lr=0.1), optim.Adafactor(tensors, lr=0.1)
        for t in range(3):
            grads = drawn([(6, 5), (4,)], dtype, seed=t)
            here.step(grads)
            there.step([to_torch(g) for g in grads])
        for p, tensor in zip(params, tensors, strict=True):
            np.testing.assert_array_equal(as_float64(p), tensor.detach().double().numpy())


def test_a_frozen_parameter_gets_its_states_when_it_is_thawed():
    torch = pytest.importorskip("torch")
    from onepass.torch import optim as front

    def parameters():
        made = [torch.nn.Parameter(torch.from_numpy(p)) for p in drawn([(4, 5), (3,), (2, 3, 4)])]
        for p in made[:2]:
            p.requires_grad_(False)
        return made

    ours, theirs = parameters(), parameters()
    one, other = front.Adafactor(ours, lr=0.1), torch.optim.Adafactor(theirs, lr=0.1)
    for t in range(6):
        for i, g in enumerate(drawn([(4, 5), (3,), (2, 3, 4)], seed=t)):
            for p in (ours[i], theirs[i]):
                p.requires_grad_(p.requires_grad or t >= 2)
                p.grad = torch.from_numpy(g.copy()) if p.requires_grad else None
        one.step()
        other.step()
    assert_near([p.detach().numpy() for p in ours], [p.detach().numpy() for p in theirs], 1e-12)
    assert one.state_dict()["state"].keys() == other.state_dict()["state"].keys()
    frozen, (p,) = drawn([(4, 5)]), drawn([(4, 5)])
    plain = optim.Adafactor([p, *frozen])
    plain.step([np.ones((4, 5)), None])
    assert_all_same(frozen, drawn([(4, 5)]))
    assert steps_of(plain, 2) == [1, 0]
