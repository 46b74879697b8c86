"""The rules beside their kernels: where states start, options that groups may vary, compat, the
docstrings; and what is RMSprop's alone."""

import copy
import inspect
import math
import pickle
import re

import numpy as np
import pytest
from cases.optimizers import rmsprop
from onepass import ops, optim
from onepass.ops._ranges import RANGES
from onepass.ops._rule import Needs, Rule, State
from onepass.optim import _optimizers

SHAPES = [(7, 5), (33,), (), (1025,), (0,)]
OPTIONS = {"lr": 0.05, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}


def start(seed=0):
    rng = np.random.default_rng(seed)
    return rng, [np.asarray(rng.standard_normal(shape)) for shape in SHAPES]


def assert_near(params, want, label, rel=1e-12):
    for i, (p, w) in enumerate(zip(params, want, strict=True)):
        top = np.abs(w).max() if w.size else 0.0
        np.testing.assert_allclose(p, w, rel, rel * top, err_msg=f"{label} [{i}]")


# ------------------------------------------------------------------------------------------ RMSprop


def test_states_of_groups_that_differ_go_to_torch_and_back():
    torch = pytest.importorskip("torch")

    def made(cls, params):
        groups = [{"params": params[:2], "momentum": 0.9}, {"params": params[2:]}]
        return cls(groups, **OPTIONS)

    rng, params = start()
    theirs = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params]
    opt, other = made(optim.RMSprop, params), made(torch.optim.RMSprop, theirs)
    own = copy.deepcopy(opt.state_dict())
    for step in range(9):
        grads = [np.asarray(rng.standard_normal(p.shape)) for p in params]
        for p, g in zip(theirs, grads, strict=True):
            p.grad = torch.from_numpy(g.copy())
        opt.step(grads)
        other.step()
        assert_near(params, [p.detach().numpy() for p in theirs], f"step {step}", 1e-11)
        if step == 2:
            opt.load_state_dict(other.state_dict())
        if step == 5:
            saved = opt.state_dict()
            for entry in saved["state"].values():
                entry.update({k: torch.from_numpy(v.copy()) for k, v in entry.items()
                              if k != "step"}, step=torch.tensor(float(entry["step"])))  # fmt: skip
            other.load_state_dict(saved)
    opt.load_state_dict(own)  # which lacks options of torch's that were loaded in between


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": 1.0}, "'alpha' is 1.0, expected a number >= 0 and < 1"),
        ({"momentum": -1}, "'momentum' is -1, expected a number >= 0"),
        ({"lr": float("nan")}, "'lr' is nan, expected a number >= 0"),
    ],
)
def test_rmsprop_refuses(options, words):
    p = [np.ones(3)]
    for call in (lambda: optim.RMSprop(p, **options), lambda: ops.rmsprop_(p, p, p, **options)):
        with pytest.raises(ValueError, match=re.escape(words)):
            call()
    with pytest.raises(ValueError, match="'momentum_buffers' is None"):
        ops.rmsprop_(p, [np.ones(3)], [np.ones(3)], momentum=0.9)
    with pytest.raises(TypeError, match="'square_avgs' is None"):
        ops.rmsprop_(p, [np.ones(3)], None)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rmsprop_centred_has_no_nan_where_the_variance_vanishes(dtype, momentum):
    """Of a constant gradient: v - a² of rounding errors is below 0 for some, and counts as 0."""
    p, g = np.zeros(1025, dtype), np.linspace(0.1, 10, 1025).astype(dtype)
    opt = optim.RMSprop([p], lr=1e-3, alpha=0.5, momentum=momentum, centered=True)
    negative = False
    for _ in range(100):
        opt.step([g])
        entry = opt.state_dict()["state"][0]
        variance = entry["square_avg"] - entry["grad_avg"] ** 2
        negative |= bool((variance < 0).any())
        assert np.isfinite(p).all()
    assert negative
    assert (p < 0).all()
    under_zero, g[:] = np.full(1025, 0.5, dtype), 1
    p[:] = 0
    ops.rmsprop_([p], [g], [under_zero], grad_avgs=[np.ones(1025, dtype)], lr=2**-10, eps=0.5)
    np.testing.assert_allclose(p, -(2**-9), rtol=1e-6)  # lr·g/eps
    g[::3] = np.nan
    ops.rmsprop_([p], [g], [under_zero], grad_avgs=[np.ones(1025, dtype)], lr=2**-10, eps=0.5)
    np.testing.assert_array_equal(np.isnan(p), np.isnan(g))


# ------------------------------------------------------------------------------- states that start


class Ones(optim.RMSprop):
    """TensorFlow's RMSprop, whose averages start at one; the buffer starts at the rate."""

    _rule = Rule(
        "rmsprop",
        State("square_avg", start=1.0),
        State("momentum_buffer", when="momentum", start="lr"),
        State("grad_avg", when="centered"),
    )


def expected(p, g, lr, first=None):
    options = {"alpha": 0.9, "eps": 1e-3, "momentum": 0.5, "lr": lr}
    return rmsprop(p, g, np.ones_like(p), np.full_like(p, first or lr), None, step=1, **options)[0]


def ones(params):
    return Ones(params, lr=0.1, alpha=0.9, eps=1e-3, momentum=0.5)


def test_a_start_waits_for_the_first_gradient():
    """However late, and with the options of then: a schedule has changed them since."""
    p, q = np.ones((3, 4)), np.asfortranarray(np.ones((2, 3)))
    g, h = np.full(p.shape, 0.5), np.full(q.shape, 0.25)
    opt = ones([p, q])
    opt.step([g, None])
    np.testing.assert_allclose(p, expected(np.ones((3, 4)), g, 0.1), rtol=1e-14)
    opt.param_groups[0]["lr"] = 0.2
    held = opt._states["momentum_buffer"][0].copy()
    opt.step([None, h])
    np.testing.assert_allclose(q, expected(np.ones((2, 3)), h, 0.2), rtol=1e-14)
    np.testing.assert_array_equal(opt._states["momentum_buffer"][0], held)  # it had its gradient


def test_a_start_in_a_group_that_comes_later():
    p, q = np.ones(5), np.ones(7)
    opt = ones([p])
    opt.step([p.copy()])
    opt.add_param_group({"params": [q], "lr": 0.3})
    opt.step([None, np.full(7, 0.5)])
    np.testing.assert_allclose(q, expected(np.ones(7), np.full(7, 0.5), 0.3), rtol=1e-14)


@pytest.mark.parametrize("way", ["load", "copy", "pickle"])
def test_a_start_survives_saving(way):
    """A parameter without a gradient has no entry: its states are where they start."""
    p, q = np.ones(5), np.ones(7)
    opt = ones([p, q])
    opt.step([np.ones(5), None])
    if way == "load":
        other = ones([p, q])
        other.step([None, np.ones(7)])
        q[...] = 1
        other.load_state_dict(opt.state_dict())
    else:
        other = copy.deepcopy(opt) if way == "copy" else pickle.loads(pickle.dumps(opt))
    other.step([None, np.full(7, 0.5)])
    q = other.param_groups[0]["params"][1]
    np.testing.assert_allclose(q, expected(np.ones(7), np.full(7, 0.5), 0.1), rtol=1e-14)


def test_a_start_goes_to_the_library_of_the_parameter():
    torch = pytest.importorskip("torch")
    p = torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
    ones([p]).step([torch.full((5,), 0.5, dtype=torch.float64)])
    want = expected(np.ones(5), np.full(5, 0.5), 0.1)
    np.testing.assert_allclose(p.detach().numpy(), want, rtol=1e-14)


# --------------------------------------------------------------------------------- compat and rules


def test_compat_offers_what_there_is():
    with pytest.raises(ValueError, match=r"'compat' is 'keras', expected 'torch'$"):
        optim.ADOPT([np.ones(3)], compat="keras")
    with pytest.raises(ValueError, match=r"'compat' is 'jax', expected 'torch', .* or 'apex'$"):
        optim.AdamW([np.ones(3)], compat="jax")
    with pytest.raises(ValueError, match=r"adam_: 'compat' is \['keras'\], expected 'torch', "):
        ops.adam_(*[[np.ones(3)]] * 4, compat=["keras"])


class Scaled(optim.SGD):
    """A second row of compat sets an option that the constructor does not have."""

    _rule = Rule(
        "sgd",
        State("momentum_buffer", when="momentum"),
        compat={"torch": {"note": 1}, "other": {"note": 2}},
    )


def test_compat_is_a_row_of_options():
    p = [np.ones(3)]
    torchlike, other = Scaled(p), Scaled(p, compat="other")
    assert [o.param_groups[0]["note"] for o in (torchlike, other)] == [1, 2]
    with pytest.raises(ValueError, match="'note' is 2, expected 1: a state of another"):
        torchlike.load_state_dict(other.state_dict())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Rule("sgd"), "nothing says when momentum_buffer is kept"),
        (lambda: Rule("sgd", State("exp_avg")), "are not states of the kernel"),
        (lambda: Rule("adam", State("max_exp_avg_sq", "amsgrad"), instead=("amsgrad", "sgd")),
         "sgd has other states"),
        (lambda: Rule("sgd", State("momentum_buffer", "momentum"), compat={"a": {}, "b": {"c": 1}}),
         "needs all of"),
    ],
)  # fmt: skip
def test_a_rule_that_does_not_fit_its_kernel_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_hyper_parameter_without_range_is_refused(monkeypatch):
    monkeypatch.delitem(RANGES, "dampening")
    with pytest.raises(ValueError, match="no range for the hyper-parameter 'dampening'"):
        Rule("sgd", State("momentum_buffer", when="momentum"))


def test_needs_and_ignored_options():
    rule = Rule(
        "sgd",
        State("momentum_buffer", when="momentum"),
        ignored={"dampening": "momentum"},
        needs=[Needs("nesterov", ("lr",), lambda nesterov, lr: not nesterov or lr < 1, "lr < 1")],
    )
    options = {"lr": 0.5, "momentum": 0.0, "dampening": 0.25, "weight_decay": 0, "nesterov": True}
    options |= rule.compat["torch"]
    assert rule.hyper("Me", options)[:5] == (0.5, 0.0, 0.0, 0.0, 1.0)
    assert rule.hyper("Me", {**options, "momentum": 0.5})[:5] == (0.5, 0.5, 0.25, 0.0, 1.0)
    with pytest.raises(ValueError, match="Me: 'nesterov' is True, expected lr < 1 with it, given "):
        rule.hyper("Me", {**options, "lr": 2.0})
    with pytest.raises(ValueError, match="'dampening' is inf, expected a finite number"):
        rule.hyper("Me", {**options, "dampening": float("inf")})


def test_a_refused_load_of_amsgrad_changes_nothing():
    opt = optim.Adam([{"params": [np.ones(3)]}, {"params": [np.ones(2)]}])
    saved = copy.deepcopy(opt.state_dict())
    saved["param_groups"][1].update(amsgrad="yes", lr=7.0)
    with pytest.raises(TypeError, match="'amsgrad' is 'yes', expected True or False"):
        opt.load_state_dict(saved)
    assert [group["lr"] for group in opt.param_groups] == [1e-3, 1e-3]


@pytest.mark.parametrize("name", _optimizers.__all__)
def test_docstrings_of_optimizers_describe_every_argument_once(name):
    cls = getattr(optim, name)
    text = cls.__doc__
    for argument in inspect.signature(cls).parameters:
        assert len(re.findall(rf"^    \*{{0,2}}{argument}: ", text, re.M)) == 1, argument
    heads = re.findall(r"^(Args|Returns|Raises|Source|Example):", text, re.M)
    assert heads == ["Args", "Raises", "Source", "Example"]


def test_a_refused_group_does_not_undo_options_changed_before_it():
    """The buffer that momentum asks for is there afterwards, as if nothing had been refused."""
    results = []
    for refused in (False, True):
        p = np.ones(4)
        optimizer = optim.SGD([p], lr=0.1)
        optimizer.step([np.ones(4)])
        optimizer.param_groups[0]["momentum"] = 0.9
        if refused:
            with pytest.raises(ValueError, match=r"overlaps|same array"):
                optimizer.add_param_group({"params": [p[:2]]})
        for _ in range(2):
            optimizer.step([np.ones(4)])
        results.append(p)
    np.testing.assert_array_equal(results[1], results[0])


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"step": 2**63}, "'step' of parameter 0 is"),
        ({"step": 0.5}, "'step' of parameter 0 is"),
        ({"mu_product": math.nan}, "mu_product"),
        ({"mu_product": math.inf}, "mu_product"),
        ({"exp_avg": np.zeros(3)}, "shape"),
    ],
)
def test_a_refused_state_changes_nothing(entry, words):
    p = np.ones(4)
    optimizer = optim.NAdam([p], lr=0.1)
    optimizer.step([np.ones(4)])
    before = copy.deepcopy(optimizer.state_dict())
    other = copy.deepcopy(before)
    other["param_groups"][0]["lr"] = 9.0
    other["state"][0]["exp_avg"] += 7
    other["state"][0] |= entry
    with pytest.raises(ValueError, match=f"{words}.*nothing was changed"):
        optimizer.load_state_dict(other)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for key, value in before["state"][0].items():
        np.testing.assert_array_equal(after["state"][0][key], value, err_msg=key)


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (lambda p: optim.RMSprop(p, centered="False"), "centered"),
        (lambda p: optim.Adam(p, amsgrad="no"), "amsgrad"),
        (lambda p: optim.SGD(p, momentum=0.9, nesterov="no"), "nesterov"),
        (lambda p: optim.SGD(p, maximize="no"), "maximize"),
        (lambda p: optim.NAdam(p, decoupled_weight_decay="x"), "decoupled_weight_decay"),
    ],
)
def test_words_are_no_flags(make, option):
    with pytest.raises(TypeError, match=f"'{option}' is '.*', expected True or False"):
        make([np.ones(4)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lion_does_not_move_where_nothing_pulls(dtype):
    """The sign of 0 is 0."""
    params, grads, means = np.ones(5, dtype), np.array([0, 1, -1, 0, 0], dtype), np.zeros(5, dtype)
    ops.lion_([params], [grads], [means], lr=0.25, weight_decay=0)
    np.testing.assert_array_equal(params, np.array([1, 0.75, 1.25, 1, 1], dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("eps", [0.0, 1e-60])
def test_adopts_first_step_moves_nothing_whatever_eps(dtype, eps):
    """An element without a gradient was 0/0 there, and NaN ever after."""
    g = np.linspace(-1, 1, 33).astype(dtype)
    g[::4] = 0
    p, start = np.ones(33, dtype), np.ones(33, dtype)
    opt = optim.ADOPT([p], lr=0.1, eps=eps)
    opt.step([g])
    np.testing.assert_array_equal(p, start)
    opt.step([np.where(g == 0, dtype(1), g)])
    assert np.isfinite(p[g != 0]).all()
