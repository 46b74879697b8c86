"""onepass.torch.optim.LBFGS beside torch.optim.LBFGS: iterations, closures, states, errors."""

import copy

import pytest
from small_torch import WAYS, gone_on

torch = pytest.importorskip("torch")

from onepass.torch import optim  # noqa: E402


def start(dtype=torch.float64):
    return [torch.nn.Parameter(torch.tensor([-1.2, 1.0, -0.5], dtype=dtype)),
            torch.nn.Parameter(torch.tensor([[0.8], [1.3]], dtype=dtype))]  # fmt: skip


def closure_of(params, optimizer, calls=None):
    """Rosenbrock's function."""

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        x = torch.cat([p.reshape(-1) for p in params])
        loss = ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()
        loss.backward()
        if calls is not None:
            calls.append(float(loss.detach()))
        return loss

    return closure


def both(**options):
    mine, theirs = start(), start()
    return mine, theirs, optim.LBFGS(mine, **options), torch.optim.LBFGS(theirs, **options)


def near(mine, theirs, rtol=1e-9):
    for p, q in zip(mine, theirs, strict=True):
        torch.testing.assert_close(p.detach(), q.detach(), rtol=rtol, atol=1e-12)


OPTIONS = [
    {"lr": 1e-3, "max_iter": 4, "history_size": 3},
    {"lr": 1.0, "max_iter": 5, "line_search_fn": "strong_wolfe", "history_size": 4},
    {"lr": torch.tensor(1e-3, dtype=torch.float64), "max_iter": 2},
]
each_options = pytest.mark.parametrize("options", OPTIONS, ids=["plain", "search", "tensor lr"])


@each_options
def test_a_swapped_import_gives_the_iterations_of_torch(options):
    mine, theirs, ours, other = both(**options)
    own, seen = [], []
    for _ in range(4):
        loss = ours.step(closure_of(mine, ours, own))
        want = other.step(closure_of(theirs, other, seen))
        assert isinstance(loss, torch.Tensor)
        torch.testing.assert_close(loss.detach(), want.detach(), rtol=1e-9, atol=0)
        near(mine, theirs)
        # Of a line search too, where the closure is called and in which order.
        assert own == pytest.approx(seen, rel=1e-8)
    assert not ours.last_step.skipped
    entry, expected = ours.state[mine[0]], other.state[theirs[0]]
    assert entry.keys() == expected.keys() - {"al"}
    assert {k: entry[k] for k in ("n_iter", "func_evals")} == {
        k: expected[k] for k in ("n_iter", "func_evals")
    }
    groups = [o.state_dict()["param_groups"] for o in (ours, other)]
    assert groups[0] == groups[1]
    assert repr(ours) == repr(other)


@each_options
def test_a_state_of_torch_goes_on_here_and_back(options):
    mine, theirs, ours, other = both(**options)
    for step in range(9):
        ours.step(closure_of(mine, ours))
        other.step(closure_of(theirs, other))
        near(mine, theirs, 1e-6)
        if step == 2:
            ours = optim.LBFGS(mine, **options)
            ours.load_state_dict(copy.deepcopy(other.state_dict()))
        if step == 5:
            other = torch.optim.LBFGS(theirs, **options)
            other.load_state_dict(copy.deepcopy(ours.state_dict()))


@pytest.mark.parametrize("way", WAYS)
def test_training_goes_on_bit_for_bit_after_a_resume(way):
    mine = start()
    ours = optim.LBFGS(mine, max_iter=3, line_search_fn="strong_wolfe")
    ours.step(closure_of(mine, ours))
    again, resumed = gone_on(way, mine, ours, lambda copied: optim.LBFGS(copied, max_iter=9))
    for params, optimizer in ((mine, ours), (again, resumed)):
        for _ in range(2):
            optimizer.step(closure_of(params, optimizer))
    assert all(map(torch.equal, mine, again))
    assert resumed.state[again[0]]["n_iter"] == ours.state[mine[0]]["n_iter"]


def test_a_cleared_or_edited_state_is_taken_over():
    mine, theirs, ours, other = both(max_iter=2, lr=1e-3)
    for step in range(6):
        ours.step(closure_of(mine, ours))
        other.step(closure_of(theirs, other))
        near(mine, theirs)
        for optimizer, params in ((ours, mine), (other, theirs)):
            entry = optimizer.state[params[0]]
            if step == 1:
                entry["d"].mul_(0.5)  # in place
            if step == 2:
                optimizer.state.clear()
            if step == 3:
                entry["prev_flat_grad"] = entry["prev_flat_grad"] * 0.75
            if step == 4:
                for name in ("old_dirs", "old_stps", "ro"):
                    entry[name].clear()
    ours.state[mine[0]]["old_dirs"].append(torch.zeros(5, dtype=torch.float64))
    before = copy.deepcopy(mine)
    with pytest.raises(ValueError, match="'old_dirs', 'old_stps' and 'ro' have"):
        ours.step(closure_of(mine, ours))
    assert all(map(torch.equal, mine, before))


def test_a_closure_that_fails_changes_nothing():
    mine = start()
    ours = optim.LBFGS(mine, max_iter=4, line_search_fn="strong_wolfe")
    ours.step(closure_of(mine, ours))
    before, state = copy.deepcopy(mine), str(ours.state_dict())
    calls = []

    def failing():
        loss = closure_of(mine, ours, calls)()
        if len(calls) == 3:
            raise KeyError("mine")
        return loss

    with pytest.raises(KeyError, match="mine"):
        ours.step(failing)
    assert all(map(torch.equal, mine, before))
    assert str(ours.state_dict()) == state
    for given, error, message in (
        ((), TypeError, "LBFGS: 'closure' is None, expected a function"),
        ((lambda: "loss",), TypeError, "loss"),
    ):
        with pytest.raises(error, match=message):
            ours.step(*given)
    with pytest.raises(ValueError, match=r"LBFGS: 'max_norm' is 1\.0, expected None"):
        ours.step(closure_of(mine, ours), max_norm=1.0)
    mine[1].data[0] = torch.nan
    ours.step(closure_of(mine, ours), nonfinite="skip")
    assert ours.last_step.skipped
    assert str(ours.state_dict()) == state


def test_more_groups_than_one_are_refused_in_pytorchs_words_too():
    mine = start()
    groups = [{"params": [p]} for p in mine]
    with pytest.raises(ValueError, match=r"LBFGS: .*expected one.*doesn't support per-parameter"):
        optim.LBFGS(groups)
    ours = optim.LBFGS(mine[:1])
    with pytest.raises(ValueError, match="has 2 groups, expected one"):
        ours.add_param_group({"params": mine[1:]})
    assert len(ours.param_groups) == 1
    ours.param_groups[0]["params"] = mine[1:]  # others, put there by hand, as in PyTorch
    ours.step(lambda: closure_of(mine, ours)())
    assert set(ours.state) == {mine[1]}


def test_frozen_parameters_hooks_and_versions():
    mine = start()
    ours = optim.LBFGS(mine, max_iter=3, lr=1e-3, diagnostics=True)
    mine[1].requires_grad_(False)
    held, seen = mine[1].detach().clone(), []
    ours.register_step_post_hook(lambda *_: seen.append(mine[0].tolist()))
    version = mine[0]._version
    ours.step(closure_of(mine, ours))
    assert torch.equal(mine[1], held)
    assert seen == [mine[0].tolist()]
    assert mine[0]._version > version
    assert ours.per_parameter.update_norm[0] > 0
    assert len(ours.state[mine[0]]["d"]) == 5  # its place is kept for when it is thawed
    mine[1].requires_grad_(True)
    ours.step(closure_of(mine, ours))
    assert not torch.equal(mine[1], held)


def test_a_compiled_function_leaves_the_step_to_python():
    mine, twin = start(), start()
    ours, other = (optim.LBFGS(p, max_iter=3, lr=1e-3) for p in (mine, twin))
    closure = closure_of(mine, ours)
    torch.compile(lambda: ours.step(closure), backend="eager")()
    other.step(closure_of(twin, other))
    assert all(map(torch.equal, mine, twin))
    torch._dynamo.reset()
