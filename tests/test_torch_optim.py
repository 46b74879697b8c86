"""onepass.torch.optim beside torch.optim: the same steps, groups, hooks, states and schedules."""

import copy
import inspect

import numpy as np
import pytest
from small_torch import (  # noqa: F401
    ALL,
    COMPARED,
    assert_equal,
    copies,
    each_compared,
    each_name,
    give_gradients,
    numbers_in_float64,
    pair,
    parameters,
)

torch = pytest.importorskip("torch")

import onepass.torch  # noqa: E402
from onepass import optim as arrays  # noqa: E402
from onepass.torch import optim  # noqa: E402
from torch.optim.optimizer import register_optimizer_step_post_hook  # noqa: E402

# ---- the same steps


@each_compared
def test_a_swapped_import_gives_the_steps_of_torch(record, sweep):
    """With parameters that get their first gradient late, or miss one."""
    mine, theirs, ours, other = pair(record.torch, **sweep)
    for step in range(30):
        give_gradients(step, mine, theirs, present=lambda i, s: s >= 3 * i and (i + s) % 4)
        assert ours.step() is None
        other.step()
        assert_equal(mine, theirs)
    assert ours.state_dict()["state"].keys() == other.state_dict()["state"].keys()
    for index, entry in other.state_dict()["state"].items():
        own = ours.state_dict()["state"][index]
        assert own.keys() == {key for key, value in entry.items() if value is not None}
        for key, value in own.items():
            assert value.shape == entry[key].shape
            np.testing.assert_allclose(value, entry[key], 1e-10, 1e-12)
    groups = [o.state_dict()["param_groups"] for o in (ours, other)]
    assert groups[0] == groups[1]


@each_name
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_steps_have_the_bits_of_onepass_optim(name, dtype):
    mine, theirs = parameters(dtype), [p.detach().clone() for p in parameters(dtype)]
    ours, other = getattr(optim, name)(mine, lr=0.01), getattr(arrays, name)(theirs, lr=0.01)
    for step in range(5):
        give_gradients(step, mine)
        ours.step(max_norm=1.0, max_value=0.5, grad_scale=2.0)
        info = other.step([p.grad for p in mine], max_norm=1.0, max_value=0.5, grad_scale=2.0)
        assert ours.last_step == info
        assert all(torch.equal(p, q) for p, q in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_every_optimizer_has_a_signature_and_a_docstring(name):
    cls = getattr(optim, name)
    ours = inspect.signature(cls).parameters
    base = getattr(arrays, name)
    own = inspect.signature(base).parameters
    assert [p for p in ours if p not in optim._optimizer.FLAGS] == [
        p for p in own if own[p].annotation != "Unpack[TorchOptions]"
    ]
    for flag, default in optim._optimizer.FLAGS.items():
        assert ours[flag].default is default
    theirs = getattr(torch.optim, name, None)
    if theirs is not None:
        for key, parameter in inspect.signature(theirs).parameters.items():
            assert ours[key].default == parameter.default, key
    assert list(ours) == [p for p in inspect.signature(cls.__init__).parameters if p != "self"]
    for word in ("Args:", "lr: ", "Raises:", "Source:", "Example:", f"`onepass.optim.{name}`"):
        assert word in cls.__doc__
    assert issubclass(cls, torch.optim.Optimizer)
    assert cls.__module__ == "onepass.torch.optim"


def test_every_optimizer_of_onepass_optim_is_here():
    """The classes are found, not listed: each one of onepass.optim has its own."""
    assert {n for n in arrays.__all__ if inspect.isclass(getattr(arrays, n))} <= {*optim.__all__}
    assert {name for name in ALL if hasattr(torch.optim, name)} >= {r.torch for r, _ in COMPARED}


@pytest.mark.parametrize(("name", "flag", "options"), [
    ("Adam", "amsgrad", {"weight_decay": 0.1}),
    ("Adam", "decoupled_weight_decay", {"weight_decay": 0.1, "amsgrad": True}),
    ("AdamW", "amsgrad", {}),
    ("RMSprop", "centered", {"momentum": 0.9, "eps": 1e-3}),
    ("NAdam", "decoupled_weight_decay", {"weight_decay": 0.1}),
    ("RAdam", "decoupled_weight_decay", {"weight_decay": 0.1}),
    ("SGD", "nesterov", {"momentum": 0.9}),
    ("SGD", "maximize", {"momentum": 0.9}),
])  # fmt: skip
def test_groups_may_differ_in_every_flag_as_in_torch(name, flag, options):
    made = torch.Generator().manual_seed(0)
    sizes = [(5,), (3, 4), (), (8,)]
    mine = [torch.nn.Parameter(torch.randn(s, generator=made, dtype=torch.float64)) for s in sizes]
    theirs = copy.deepcopy(mine)

    def make(module, params):
        groups = [{"params": [p], flag: i % 2 == 0} for i, p in enumerate(params)]
        return getattr(module, name)(groups, lr=0.05, **options)

    ours, other = make(optim, mine), make(torch.optim, theirs)
    for step in range(30):
        for p, q in zip(mine, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=made, dtype=torch.float64)
            q.grad = p.grad.clone()
        if step == 20:  # changes hands; PyTorch makes no state late
            for optimizer in (ours, other):
                for i, group in enumerate(optimizer.param_groups):
                    group[flag] = flag not in ("amsgrad", "centered") and i % 2 == 1
        ours.step()
        other.step()
        for p, q in zip(mine, theirs, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-13, msg=f"step {step}")
        if step == 10:
            entries = [
                list(optimizer.state_dict()["state"].values()) for optimizer in (ours, other)
            ]
            assert [e.keys() for e in entries[0]] == [e.keys() for e in entries[1]]
            saved = copy.deepcopy(other.state_dict())
            other.load_state_dict(copy.deepcopy(ours.state_dict()))
            ours.load_state_dict(saved)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", sorted(set(ALL) - {"LBFGS", "SparseAdam"}))
def test_an_infinite_parameter_ends_where_it_ends_in_torch(name, decay):
    """Such as the -Inf of a mask, whose gradient is zero. Without a counterpart in torch it stays,
    or the docstring says that it does not."""
    for shape in ((4,), (2, 2)):
        mine = torch.nn.Parameter(torch.tensor([1.0, -torch.inf, 2.0, torch.inf]).reshape(shape))
        theirs = copies([mine])[0]
        options = {} if name in ("Rprop",) else {"weight_decay": decay}
        pairs = [(mine, getattr(optim, name)([mine], lr=0.01, **options))]
        beside = hasattr(torch.optim, name) and not (name == "Muon" and len(shape) < 2)
        if beside:
            pairs.append((theirs, getattr(torch.optim, name)([theirs], lr=0.01, **options)))
        for _ in range(3):
            for p, optimizer in pairs:
                p.grad = torch.tensor([0.5, 0.0, -0.25, 0.0]).reshape(shape)
                optimizer.step()
        if beside:
            torch.testing.assert_close(mine, theirs, equal_nan=True, rtol=1e-3, atol=0)
        elif torch.isnan(mine.flatten()[[1, 3]]).all():
            assert "becomes NaN" in " ".join((getattr(optim, name).__doc__ or "").split()), (
                f"an infinite parameter ends as NaN with weight_decay={decay}: if the formula has "
                "it so, the docstring in python/onepass/ops/_update.py says that it becomes NaN"
            )
        else:
            assert mine.flatten()[[1, 3]].tolist() == [-torch.inf, torch.inf]


def test_sparse_gradients_of_an_embedding_move_their_rows_as_in_torch():
    torch.manual_seed(0)
    mine = torch.nn.Embedding(20, 4, sparse=True)
    theirs = torch.nn.Embedding(20, 4, sparse=True, _weight=mine.weight.detach().clone())
    ours, other = (
        m.SparseAdam(e.parameters(), lr=0.1) for m, e in ((optim, mine), (torch.optim, theirs))
    )
    for step in range(9):
        words = torch.randint(0, 20, (7,))
        for table, optimizer in ((mine, ours), (theirs, other)):
            optimizer.zero_grad()
            table(words).square().sum().backward()
            optimizer.step()
        assert_equal([mine.weight], [theirs.weight])
        if step == 4:
            saved = ours.state_dict()
            ours = optim.SparseAdam(mine.parameters(), lr=0.1)
            ours.load_state_dict(other.state_dict())
            other = torch.optim.SparseAdam(theirs.parameters(), lr=0.1)
            other.load_state_dict(saved)


def test_an_unknown_keyword_has_its_nearest_name():
    p = [torch.nn.Parameter(torch.ones(2))]
    with pytest.raises(
        TypeError, match="AdamW: unknown keyword 'learning_rate'; did you mean 'lr'"
    ):
        optim.AdamW(p, learning_rate=1.0)
    with pytest.raises(TypeError, match="AdamW: unknown keyword 'warp', expected params, lr"):
        optim.AdamW(p, warp=1)


# ---- groups


def test_groups_options_and_schedules_of_torch():
    mine = parameters()
    theirs = copies(mine)

    def build(module, params):
        groups = [
            {"params": params[:2], "lr": 0.1},
            {"params": []},
            {"params": params[2:5], "weight_decay": 0.3, "name": "middle"},
        ]
        optimizer = module.AdamW(groups, lr=0.02, betas=(0.8, 0.9))
        optimizer.add_param_group({"params": params[5], "eps": 1e-3})
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)

    (ours, first), (other, second) = build(optim, mine), build(torch.optim, theirs)
    for step in range(12):
        give_gradients(step, mine, theirs)
        for optimizer, schedule in ((ours, first), (other, second)):
            optimizer.step()
            schedule.step()
            optimizer.param_groups[2]["weight_decay"] *= 0.9
        assert_equal(mine, theirs)
        assert first.get_last_lr() == second.get_last_lr()
    assert repr(ours) == repr(other)


def test_a_group_added_later_starts_afresh_and_the_others_go_on():
    mine, theirs, ours, other = pair("Adam", lr=0.1)
    more, same = copies(parameters(seed=3)), copies(parameters(seed=3))
    for step in range(6):
        give_gradients(step, [*mine, *more], [*theirs, *same])
        if step == 3:
            held = ours.state[mine[2]]["exp_avg"]
            ours.add_param_group({"params": more, "lr": 0.3})
            other.add_param_group({"params": same, "lr": 0.3})
            assert ours.state[mine[2]]["exp_avg"] is held
        ours.step()
        other.step()
        assert_equal([*mine, *more], [*theirs, *same])
    for bad in ({"params": [more[0]]}, {"params": [more[0].detach().view(-1)]}):
        with pytest.raises(ValueError, match=r"parameter|overlap"):
            ours.add_param_group(bad)
        assert len(ours.param_groups) == 2
    give_gradients(9, [*mine, *more], [*theirs, *same])
    ours.step()
    other.step()
    assert_equal([*mine, *more], [*theirs, *same])


def test_the_rate_may_be_a_tensor():
    mine, theirs, ours, other = pair("AdamW", lr=torch.tensor(0.1))
    for step in range(4):
        give_gradients(step, mine, theirs)
        ours.step()
        other.step()
        for optimizer in (ours, other):
            optimizer.param_groups[0]["lr"].mul_(0.5)
        assert_equal(mine, theirs)


@pytest.mark.parametrize(
    "params",
    [lambda p: [p, p], lambda p: [("a", p), ("b", p)], lambda p: [{"params": [p]}, {"params": p}],
     lambda p: [p, p.detach()], lambda p: [p.detach()[:2], p.detach()[1:]]],
    ids=["twice", "named twice", "in two groups", "a view of it", "overlapping"],
)  # fmt: skip
def test_a_parameter_given_twice_is_refused(params):
    p = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match=r"duplicate|more than one|overlap|same array"):
        optim.SGD(params(p))


def test_tied_weights_of_a_module_are_one_parameter():
    tied = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    optimizer = optim.Adam(tied.parameters(), lr=0.1)
    tied(torch.ones(1, 4)).sum().backward()
    before = tied[0].weight.detach().clone()
    optimizer.step()
    assert len(optimizer.param_groups[0]["params"]) == 3
    torch.testing.assert_close(tied[1].weight, before - 0.1 * tied[0].weight.grad.sign())


# ---- closures and hooks


def test_step_returns_the_loss_of_the_closure():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = optim.SGD([p], lr=0.1)

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        loss = optimizer.step(closure)
    assert float(loss.detach()) == 3.0
    assert p.tolist() == [0.8, 0.8, 0.8]
    with pytest.raises(TypeError, match="SGD: 'closure' is a list, expected a function"):
        optimizer.step([torch.ones(3)])
    assert optimizer.step(closure=closure).item() == pytest.approx(1.92)


def test_hooks_run_around_a_step_and_may_change_its_arguments():
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = optim.SGD([p], lr=1.0)
    p.grad = torch.full((2,), 3.0)
    seen = []
    optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(("pre", args, kwargs)))
    optimizer.register_step_pre_hook(lambda o, args, kwargs: (args, {"max_value": 0.5}))
    optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(("post", p.tolist())))
    everyone = register_optimizer_step_post_hook(
        lambda o, args, kwargs: seen.append(("all", o is optimizer))
    )
    try:
        optimizer.step(max_value=2.0)
    finally:
        everyone.remove()
    assert seen == [
        ("pre", (optimizer,), {"max_value": 2.0}),
        ("post", [0.5, 0.5]),
        ("all", True),
    ]


def test_a_profiler_sees_the_step():
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    optimizer = optim.SGD([p], lr=1.0)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimizer.step()
    assert "Optimizer.step#SGD.step" in {event.key for event in profile.key_averages()}


def test_a_schedule_warns_only_where_no_step_was_taken():
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    optimizer = optim.SGD([p], lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.1
    other = torch.optim.lr_scheduler.StepLR(optim.SGD([p], lr=1.0), 1)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        other.step()


# ---- what a step tells and takes


def test_last_step_tells_the_norm_and_the_parameter_that_was_not_finite():
    mine = parameters(torch.float32)
    optimizer = optim.AdamW(mine, lr=0.1, diagnostics=True)
    assert optimizer.last_step is None
    give_gradients(0, mine)
    norm = torch.nn.utils.get_total_norm([p.grad for p in mine])
    optimizer.step(max_norm=1e9)
    assert optimizer.last_step.grad_norm == pytest.approx(float(norm), rel=1e-6)
    assert optimizer.per_parameter.grad_norm[2] == pytest.approx(float(mine[2].grad.norm()))
    before = [p.detach().clone() for p in mine]
    state = [t.clone() for t in optimizer.state[mine[2]].values()]
    mine[3].grad[1, 1] = torch.inf
    optimizer.step(nonfinite="skip")
    assert optimizer.last_step == (True, None, 3)
    with pytest.raises(FloatingPointError, match="gradient of parameter 3"):
        optimizer.step(nonfinite="raise")
    assert all(torch.equal(p, q) for p, q in zip(mine, before, strict=True))
    assert all(map(torch.equal, optimizer.state[mine[2]].values(), state))
    with pytest.raises(AttributeError, match="no attribute 'warp'"):
        optimizer.warp  # noqa: B018


def test_names_of_parameters_are_in_messages():
    model = torch.nn.Linear(2, 2)
    optimizer = optim.SGD(model.named_parameters(), lr=0.1)
    model.weight.grad = torch.full((2, 2), torch.nan)
    with pytest.raises(FloatingPointError, match=r"parameter 0 \(weight\)"):
        optimizer.step(nonfinite="raise")


def test_a_norm_of_all_processes_clips_as_one_process_would():
    """Two halves of a model, each with an optimizer, clipped by the norm of both."""
    mine, theirs, _, other = pair("AdamW", lr=0.1)
    halves = [optim.AdamW(mine[:3], lr=0.1), optim.AdamW(mine[3:], lr=0.1)]
    for step in range(5):
        give_gradients(step, mine, theirs)
        norm = torch.nn.utils.get_total_norm([p.grad for p in mine])
        torch.nn.utils.clip_grad_norm_(theirs, 1.5)
        other.step()
        for p in mine:
            p.grad *= 4.0
        for half in halves:
            half.step(max_norm=1.5, norm=norm, grad_scale=4.0)
            assert half.last_step == (False, float(norm), None)
        assert_equal(mine, theirs)
    halves[0].step(max_norm=1.5, norm=torch.tensor(torch.inf), nonfinite="skip")
    assert halves[0].last_step.skipped
    assert_equal(mine, theirs)
    for options, error, message in (
        ({"norm": 1.0}, ValueError, "'norm' is 1.0 and max_norm is None"),
        ({"norm": 1.0, "max_norm": 1.0, "max_value": 1.0}, ValueError, "max_value is 1.0"),
        ({"norm": -1.0, "max_norm": 1.0}, ValueError, "'norm' is -1.0"),
        ({"norm": 1.0, "max_norm": 0.0}, ValueError, "'max_norm' is 0.0"),
        ({"norm": torch.nan, "max_norm": 1.0}, FloatingPointError, "'norm' is nan"),
        ({"norm": torch.ones(2), "max_norm": 1.0}, TypeError, "'norm'"),
    ):
        with pytest.raises(error, match=message):
            halves[0].step(**options)
    assert_equal(mine, theirs)


def test_zero_grad_forgets_or_zeroes_as_in_torch():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = optim.SGD([p], lr=1.0)
    p.grad = grad = torch.ones(3)
    optimizer.step(zero_grad=True)
    assert p.grad is grad
    assert grad.tolist() == [0, 0, 0]
    grad.fill_(2.0)
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is grad
    assert grad.tolist() == [0, 0, 0]
    optimizer.zero_grad()
    assert p.grad is None


def test_flags_of_torch_are_accepted_and_change_nothing():
    for flags in ({"foreach": True}, {"fused": True}, {"capturable": True}, {"foreach": False}):
        mine, theirs, _, other = pair("Adam", parameters(torch.float32), lr=0.1)
        flagged = optim.Adam(mine, lr=0.1, **flags)
        give_gradients(0, mine, theirs)
        flagged.step()
        other.step()
        assert_equal(mine, theirs, 1e-6)
        assert flagged.param_groups[0].items() >= flags.items()


def test_a_differentiable_step_is_refused_where_it_would_not_be_differentiated():
    """PyTorch would go on recording; a step here would cut the graph in silence."""
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = optim.SGD([p], lr=0.5, differentiable=True)
    p.grad = torch.ones(3)
    optimizer.step()
    assert p.tolist() == [0.5] * 3
    p.grad = torch.ones(3, requires_grad=True) * 2
    with pytest.raises(
        ValueError, match="'differentiable' is True and the gradient of parameter 0"
    ):
        optimizer.step()
    assert p.tolist() == [0.5] * 3
    with pytest.raises(ValueError, match="leaf"):
        optim.SGD([p * 2], differentiable=True)


def test_autograd_refuses_what_a_step_overwrote():
    w = torch.nn.Parameter(torch.ones(3))
    loss = (w * w).sum()
    w.grad = torch.ones(3)
    version = w._version
    optimizer = optim.SGD([w], lr=0.1)
    optimizer.step()
    assert w._version > version
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_sparse_and_complex_are_refused_by_name():
    p = torch.nn.Parameter(torch.ones(3, 2))
    optimizer = optim.Adam([p])
    p.grad = torch.ones(3, 2).to_sparse()
    with pytest.raises(TypeError, match=r"Adam.*'grads\[0\]' is a sparse Tensor"):
        optimizer.step()
    assert torch.equal(p, torch.ones(3, 2))
    with pytest.raises(TypeError, match="complex"):
        optim.Adam([torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))])


def test_onepass_torch_is_in_dir_and_says_what_it_needs(monkeypatch):
    import importlib
    import sys

    assert "torch" in dir(onepass)
    assert "torch" not in onepass.__all__  # or a star import would take the name of torch
    for name in [n for n in sys.modules if n.startswith("onepass.torch")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="pip install torch"):
        importlib.import_module("onepass.torch")


@pytest.mark.parametrize("norm", [30.0, 0.5, 3e38, 1e300])
@pytest.mark.parametrize("max_norm", [1.5, 1e-300])
@pytest.mark.parametrize("name", ["SGD", "SparseAdam"])
def test_an_outside_norm_of_any_size_clips_and_diagnostics_tell_gradients_before(
    name, norm, max_norm
):
    dtype = torch.float64 if max_norm < 1 else torch.float32
    p = torch.nn.Parameter(torch.ones(4, dtype=dtype))
    optimizer = getattr(optim, name)([p], lr=1.0, diagnostics=True)
    largest = min(norm, 1e38 if dtype == torch.float32 else norm)
    g = torch.tensor([0.5, -0.5, 0.25, 0.125], dtype=dtype) * largest
    p.grad = g.clone() if name == "SGD" else g.to_sparse()
    optimizer.step(norm=norm, max_norm=max_norm, grad_scale=2.0)
    assert optimizer.last_step == (False, norm, None)
    unscaled = g.double() / 2
    want = float((unscaled / largest).norm()) * largest
    assert float(optimizer.per_parameter.grad_norm[0]) == pytest.approx(want, rel=1e-6)
    moved = 1 - p if name == "SGD" else optimizer.state[p]["exp_avg"] / 0.1
    clipped = unscaled * min(1.0, max_norm / (norm + 1e-6))
    near = 1e-7 if name == "SGD" else 1e-38
    np.testing.assert_allclose(moved.detach().double(), clipped, 1e-5, near)


def test_an_outside_norm_that_is_not_finite_is_an_error_or_a_skipped_step():
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    optimizer = optim.SGD([p], lr=1.0)
    for nonfinite in ("propagate", "raise"):
        with pytest.raises(FloatingPointError, match="'norm' is inf, expected a finite number"):
            optimizer.step(norm=torch.inf, max_norm=1.0, nonfinite=nonfinite)
    optimizer.step(norm=torch.inf, max_norm=1.0, nonfinite="skip")
    assert optimizer.last_step == (True, torch.inf, None)
    assert p.tolist() == [1.0, 1.0]


def test_groups_that_a_graph_follows_are_groups_as_before():
    """What a captured step does to them; that replays follow them needs a GPU: test_gpu.py."""
    model, twin = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    twin.load_state_dict(model.state_dict())
    pair = [optim.AdamW(m.parameters(), lr=0.1) for m in (model, twin)]
    for index, (m, opt) in enumerate(zip((model, twin), pair, strict=True)):
        for lr in (0.1, 0.3):
            opt.param_groups[0]["lr"] = lr
            for p in m.parameters():
                p.grad = torch.ones_like(p)
            opt.step()
            if index == 0 and lr == 0.1:
                engine = opt._current().engine
                engine._note_capture(engine.plan)
                assert engine.param_groups is opt.param_groups
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)
    with pytest.raises(ValueError, match="'lr'"):
        pair[0].param_groups[0]["lr"] = -1.0
    assert pair[0].param_groups[0]["lr"] == 0.3
    assert pair[0].state_dict()["param_groups"] == pair[1].state_dict()["param_groups"]
