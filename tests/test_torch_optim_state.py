"""optimizer.state is the real state: what a program edits, saves, copies or exchanges there."""

import copy
import pickle
from collections import defaultdict

import numpy as np
import pytest
from small_torch import (  # noqa: F401
    WAYS,
    assert_equal,
    copies,
    each_compared,
    each_name,
    give_gradients,
    gone_on,
    network,
    numbers_in_float64,
    pair,
    parameters,
    same,
    train,
)

torch = pytest.importorskip("torch")

from onepass import optim as arrays  # noqa: E402
from onepass.torch import optim  # noqa: E402

# ---- saving and loading


@each_compared
def test_a_state_of_torch_goes_on_here_and_back(record, sweep):
    mine, theirs, ours, other = pair(record.torch, **sweep)
    for step in range(9):
        give_gradients(step, mine, theirs, present=lambda i, s: s >= i)
        ours.step()
        other.step()
        assert_equal(mine, theirs, 1e-10)
        if step == 3:
            ours = getattr(optim, record.torch)(mine, **sweep)
            ours.load_state_dict(other.state_dict())
        if step == 6:
            other = getattr(torch.optim, record.torch)(theirs, **sweep)
            other.load_state_dict(copy.deepcopy(ours.state_dict()))


@each_name
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_goes_on_bit_for_bit_after_a_resume(name, way, dtype):
    """Also with float32 state of bfloat16 parameters, which PyTorch's loading would round."""
    model, scalars = network(dtype), getattr(arrays, name)._rule.scalars
    optimizer = getattr(optim, name)(model.parameters(), lr=0.01)
    train(model, optimizer)
    again, resumed = gone_on(
        way, model, optimizer, lambda m: getattr(optim, name)(m.parameters(), lr=0.5)
    )
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        assert optimizer.state[p].keys() == resumed.state[q].keys()
        assert all(map(torch.equal, optimizer.state[p].values(), resumed.state[q].values()))
        for key, value in resumed.state[q].items():
            assert value.dtype == (torch.float64 if key in scalars else torch.float32)
    train(model, optimizer, seed=1)
    train(again, resumed, seed=1)
    assert same(model, again)
    assert resumed.param_groups[0]["lr"] == 0.01


def test_a_loaded_state_is_a_copy():
    """PyTorch's optimizers share the tensors of a state_dict that they load."""
    model = network()
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer)
    twin = optim.Adam(copy.deepcopy(model).parameters())
    twin.load_state_dict(optimizer.state_dict())
    before = optimizer.state[model[0].weight]["exp_avg"].clone()
    for entry in twin.state.values():
        entry["exp_avg"].zero_()
    assert torch.equal(optimizer.state[model[0].weight]["exp_avg"], before)


def test_a_state_dict_that_does_not_fit_changes_nothing():
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    train(model, optimizer)
    before = copy.deepcopy(optimizer.state_dict())

    def broken(change):
        state = copy.deepcopy(before)
        change(state)
        return state

    for change, message in (
        (lambda s: s["param_groups"].append(s["param_groups"][0]), "groups"),
        (lambda s: s["param_groups"][0]["params"].pop(), "groups"),
        (lambda s: s["state"][0].pop("exp_avg"), "'exp_avg'"),
        (lambda s: s["state"][0].update(exp_avg=torch.ones(3)), "shape"),
        (lambda s: s["state"][0].update(step=torch.tensor(1.5)), "'step'"),
        (lambda s: s["param_groups"][0].pop("betas"), "betas"),
        (lambda s: s.pop("state"), "expected a dict"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(broken(change))
        assert str(optimizer.state_dict()) == str(before)


def test_hooks_of_state_dicts_run_as_in_torch():
    def run(module):
        model = network()
        optimizer = module.Adam(model.parameters(), lr=0.1)
        train(model, optimizer)
        seen = []
        optimizer.register_state_dict_pre_hook(lambda o: seen.append("saving"))
        optimizer.register_state_dict_post_hook(lambda o, d: {**d, "epoch": sorted(d["state"])})
        optimizer.register_load_state_dict_pre_hook(
            lambda o, d: {k: v for k, v in d.items() if k != "epoch"}
        )
        optimizer.register_load_state_dict_post_hook(lambda o: seen.append("loaded"))
        saved = optimizer.state_dict()
        optimizer.load_state_dict(saved)
        return seen, saved["epoch"]

    assert run(optim) == run(torch.optim) == (["saving", "loaded"], [0, 1, 2, 3])


def test_older_and_foreign_entries_load_as_in_torch():
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    train(model, optimizer)
    saved = copy.deepcopy(optimizer.state_dict())
    for group in saved["param_groups"]:
        for key in ("maximize", "foreach", "capturable", "differentiable", "fused",
                    "decoupled_weight_decay"):  # fmt: skip
            del group[key]
    for entry in saved["state"].values():
        entry["step"] = 7
        entry["seen"] = "by me"
    saved["state"]["of nobody"] = {"note": 1}
    optimizer.load_state_dict(saved)
    assert {
        float(e["step"]) for p, e in optimizer.state.items() if isinstance(p, torch.Tensor)
    } == {7.0}
    assert optimizer.state["of nobody"] == {"note": 1}
    train(model, optimizer)
    assert optimizer.param_groups[0]["foreach"] is None


# ---- edits


@each_name
def test_edits_in_place_take_effect_at_the_next_step(name):
    """Zeroed moments and counts are those of a new optimizer."""
    mine, theirs = parameters(), copies(parameters())
    cls = getattr(optim, name)
    options = {"lr": 0.1, **({"momentum": 0.9} if name in ("SGD", "RMSprop") else {})}
    ours = cls(mine, **options)
    for step in range(3):
        give_gradients(step, mine)
        ours.step()
    with torch.no_grad():
        for p, q in zip(mine, theirs, strict=True):
            q.copy_(p)
    fresh = cls(theirs, **options)
    for p, q in zip(mine, theirs, strict=True):
        assert ours.state[p].keys() == fresh.state[q].keys()
        for key, value in ours.state[p].items():
            value.copy_(fresh.state[q][key])
    for step in range(3, 6):
        give_gradients(step, mine, theirs)
        ours.step()
        fresh.step()
    assert_equal(mine, theirs, 1e-14)


@pytest.mark.parametrize("way", ["clear", "new dict", "delete", "empty entries"])
@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_a_cleared_state_starts_afresh_as_in_torch(way, name):
    options = {"lr": 0.1, **({"momentum": 0.9, "dampening": 0.5} if name == "SGD" else {})}
    mine, theirs, ours, other = pair(name, **options)
    kept = None
    for step in range(8):
        give_gradients(step, mine, theirs)
        if step == 4:
            kept = [e.copy() for e in ours.state.values()]
            values = [{k: v.clone() for k, v in e.items()} for e in kept]
            for optimizer, params in ((ours, mine), (other, theirs)):
                if way == "clear":
                    optimizer.state.clear()
                elif way == "new dict":
                    optimizer.state = defaultdict(dict)
                else:
                    for p in params[1::2]:
                        if way == "delete":
                            del optimizer.state[p]
                        else:
                            optimizer.state[p] = {}
        ours.step()
        other.step()
        assert_equal(mine, theirs)
    for before, entry in zip(values[1::2], kept[1::2], strict=True):  # nobody wrote to the old
        assert all(torch.equal(before[k], entry[k]) for k in before if k != "step")


def test_exchanged_tensors_are_used_and_counted_from():
    mine, theirs, ours, other = pair("Adam", lr=0.1)
    for step in range(8):
        give_gradients(step, mine, theirs)
        ours.step()
        other.step()
        assert_equal(mine, theirs)
        for optimizer, params in ((ours, mine), (other, theirs)):
            entry = optimizer.state[params[2]]
            if step == 2:
                entry["exp_avg"] = torch.full((3,), 0.25, dtype=torch.float64)
            if step == 3:
                entry["step"] = torch.tensor(1.0)
            if step == 4:
                entry["exp_avg_sq"] = entry["exp_avg_sq"].clone() * 2
                entry["step"] += 3
    given = torch.zeros(3, dtype=torch.float64)
    ours.state[mine[2]]["exp_avg"] = given
    ours.step()
    assert ours.state[mine[2]]["exp_avg"] is given
    assert given.any()
    for key, value, error, message in (
        ("exp_avg", torch.zeros(4), ValueError, "in the state of parameter 2 has shape"),
        ("exp_avg", "m", TypeError, "in the state of parameter 2 is a str, expected a tensor"),
        ("step", torch.tensor(0.5), ValueError, r"in the state of parameter 2 is tensor\(0.5"),
    ):
        entry = ours.state[mine[2]]
        before, entry[key] = entry[key], value
        with pytest.raises(error, match=f"Adam: '{key}' {message}"):
            ours.step()
        entry[key] = before
    ours.step()


def test_parameters_exchanged_in_a_group_keep_the_state_that_was_moved_to_them():
    """As in programs that grow or prune a model, such as Gaussian splatting."""
    mine, theirs, ours, other = pair("Adam", lr=0.1)
    for step in range(6):
        if step == 3:
            for optimizer, params in ((ours, mine), (other, theirs)):
                group, old = optimizer.param_groups[0], params[2]
                stored = optimizer.state.get(old)
                for key in ("exp_avg", "exp_avg_sq"):
                    stored[key] = torch.cat([stored[key], torch.zeros(2, dtype=old.dtype)])
                del optimizer.state[old]
                grown = torch.cat([old.detach(), torch.ones(2, dtype=old.dtype)])
                params[2] = group["params"][2] = torch.nn.Parameter(grown)
                optimizer.state[params[2]] = stored
                params[3] = group["params"][3] = torch.nn.Parameter(params[3].detach().clone())
        give_gradients(step, mine, theirs)
        ours.step()
        other.step()
        assert_equal(mine, theirs)
    assert [float(ours.state[p]["step"]) for p in mine[:4]] == [6, 6, 6, 3]


def test_replaced_data_is_followed():
    mine, theirs, ours, other = pair("AdamW", lr=0.1)
    for step in range(5):
        give_gradients(step, mine, theirs)
        ours.step()
        other.step()
        assert_equal(mine, theirs)
        for params in (mine, theirs):
            params[3].data = params[3].detach().t().contiguous().t() * 2
            params[4].data = params[4].detach().clone(memory_format=torch.contiguous_format)


def test_a_model_converted_after_the_optimizer_was_made():
    """float32 → bfloat16 goes on with float32 state; to float64 is refused, nothing changed."""
    model = network()
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    train(model, optimizer)
    model.to(torch.bfloat16)
    train(model, optimizer)
    assert optimizer.state[model[0].weight]["exp_avg"].dtype == torch.float32
    model.to(torch.float64)
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    with pytest.raises(TypeError, match="make the optimizer after converting the model"):
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_a_changed_option_takes_effect_at_the_next_step():
    mine, theirs, ours, other = pair("SGD", lr=0.1)
    assert len(ours.state) == 0
    changes = [("momentum", 0.9), ("weight_decay", 0.1), ("maximize", True), ("nesterov", True)]
    for step, (key, value) in enumerate(changes):
        give_gradients(step, mine, theirs)
        ours.step()
        other.step()
        assert_equal(mine, theirs)
        for optimizer in (ours, other):
            optimizer.param_groups[0][key] = value
    assert len(ours.state) == len(mine)
    mine, theirs, ours, other = pair("Adam", lr=0.1)
    for optimizer in (ours, other):
        optimizer.param_groups[0]["betas"] = (0.5, 0.6)
        optimizer.param_groups = [{**optimizer.param_groups[0], "lr": 0.2}]
    give_gradients(0, mine, theirs)
    ours.step()
    other.step()
    assert_equal(mine, theirs)


def test_states_filled_by_hand_before_the_first_step_stay():
    """As a distributed checkpoint fills them; also one that starts at an option."""
    mine, theirs, ours, other = pair("Adagrad", lr=0.1, initial_accumulator_value=0.5)
    for step in range(4):
        give_gradients(step, mine, theirs)
        if step == 0:
            for optimizer, params in ((ours, mine), (other, theirs)):
                optimizer.state_dict()
                for p in params:
                    optimizer.state[p]["sum"].fill_(2.0)
                    optimizer.state[p]["step"].fill_(3.0)
        ours.step()
        other.step()
        assert_equal(mine, theirs)


# ---- parameters without gradients


def test_frozen_parameters_cost_nothing_and_do_not_move():
    """A large frozen part of a model gets no state until it is trained."""
    model = network()
    model[0].requires_grad_(False)
    optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    assert set(optimizer.state) == set(model[2].parameters())
    before = copy.deepcopy(model)
    train(model, optimizer)
    assert torch.equal(model[0].weight, before[0].weight)
    assert set(optimizer.state_dict()["state"]) == {2, 3}
    model[0].requires_grad_(True)
    train(model, optimizer)
    assert not torch.equal(model[0].weight, before[0].weight)
    assert [float(optimizer.state[p]["step"]) for p in model.parameters()] == [3, 3, 6, 6]
    model[0].requires_grad_(False)  # its gradient is still there
    held = model[0].weight.detach().clone()
    optimizer.step()
    assert torch.equal(model[0].weight, held)
    again = copy.deepcopy(model)
    again[0].requires_grad_(False)
    again.zero_grad()
    resumed = optim.AdamW(again.parameters(), lr=0.1, weight_decay=0.5)
    assert len(resumed.state) == 2
    resumed.load_state_dict(optimizer.state_dict())
    assert float(resumed.state[again[0].weight]["step"]) == 3


def test_a_parameter_without_gradient_is_left_out_of_what_is_saved():
    model = network()
    for module in (optim, torch.optim):
        optimizer = module.Adam(model.parameters(), lr=0.1)
        assert optimizer.state_dict()["state"] == {}
        model.zero_grad()
        model[0].bias.grad = torch.ones_like(model[0].bias)
        optimizer.step()
        assert set(optimizer.state_dict()["state"]) == {1}
    adagrad = [m.Adagrad(model.parameters()).state_dict()["state"] for m in (optim, torch.optim)]
    assert adagrad[0].keys() == adagrad[1].keys() == {0, 1, 2, 3}


@each_name
def test_an_empty_list_of_gradients_changes_nothing(name):
    model = network()
    before = copy.deepcopy(model)
    optimizer = getattr(optim, name)(model.parameters())
    optimizer.step()
    optimizer.step(max_norm=1.0)
    assert optimizer.last_step.grad_norm == 0.0
    assert same(model, before)
    assert optimizer.state_dict()["state"].keys() in ({}.keys(), dict.fromkeys(range(4)).keys())


def test_counts_beyond_what_float32_holds_are_not_lost():
    """PyTorch's counts stop at 2**24."""
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = optim.Adam([p], lr=0.1)
    p.grad = torch.ones(3)
    optimizer.step()
    optimizer.state[p]["step"].fill_(2.0**24)
    for _ in range(3):
        optimizer.step()
    assert optimizer._entries.engine.plan.steps == [2**24 + 3]
    assert copy.deepcopy(optimizer)._current().engine.plan.steps == [2**24 + 3]
    assert np.float32(optimizer.state[p]["step"]) == np.float32(2**24 + 3)


# ---- options that PyTorch lacks


def test_a_state_dict_has_an_option_that_pytorch_lacks_only_where_it_is_used():
    """PyTorch loads it then too, and keeps the option in its groups."""
    p = torch.nn.Parameter(torch.ones(3))
    theirs = torch.optim.Adam([p])
    plain = optim.Adam([p])
    assert plain.param_groups[0]["bias_correction"] is True
    assert plain.state_dict() == theirs.state_dict()
    mixed = optim.Adam([{"params": [p]}, {"params": [torch.nn.Parameter(torch.ones(2))]}])
    mixed.param_groups[1]["bias_correction"] = False
    saved = mixed.state_dict()
    assert [group["bias_correction"] for group in saved["param_groups"]] == [True, False]
    assert "eps_hat" not in saved["param_groups"][0]
    assert repr(mixed).count("bias_correction") == 2
    other = [torch.nn.Parameter(torch.ones(n)) for n in (3, 2)]
    groups = [{"params": [q]} for q in other]
    resumed = optim.Adam(groups, bias_correction=False)
    resumed.load_state_dict(saved)
    assert [group["bias_correction"] for group in resumed.param_groups] == [True, False]
    torch.optim.Adam([{"params": [q]} for q in other]).load_state_dict(saved)
    kept = optim.Adam([p], bias_correction=False)
    kept.load_state_dict(theirs.state_dict())  # which says nothing about it
    assert kept.param_groups[0]["bias_correction"] is False


def test_a_state_of_pytorch_is_none_of_another_formula():
    """Keras's momentum buffer holds the rate, PyTorch's does not."""
    p = torch.nn.Parameter(torch.ones(3))
    keras = optim.SGD([p], lr=0.1, momentum=0.9, compat="keras")
    ours, theirs = (m.SGD([p], lr=0.1, momentum=0.9) for m in (optim, torch.optim))
    for other in (ours, theirs):
        with pytest.raises(ValueError, match="decoupled_weight_decay' is False, expected True"):
            keras.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="decoupled_weight_decay' is True, expected False"):
        ours.load_state_dict(keras.state_dict())
    again = optim.SGD([p], lr=0.1, momentum=0.9, compat="keras")
    again.load_state_dict(keras.state_dict())


# ---- training and evaluation


@pytest.mark.parametrize("name", ["ScheduleFreeSGD", "ScheduleFreeAdamW"])
def test_parameters_turn_into_their_average_and_back(name):
    mine, theirs = parameters(torch.float32), parameters(torch.float32)
    ours = getattr(optim, name)(mine, lr=0.1)
    other = getattr(arrays, name)(theirs, lr=0.1)
    for step in range(4):
        give_gradients(step, mine, theirs)
        ours.step()
        other.step()
    for mode in (False, True, False):
        for optimizer in (ours, other):
            optimizer.train(mode)
        assert ours.training is mode
        assert all(map(torch.equal, mine, theirs))
    ours.eval()
    assert all(map(torch.equal, mine, theirs))
    with pytest.raises(RuntimeError, match="a step in eval mode"):
        ours.step()
    for resumed in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
        assert resumed.training is False
        resumed.train()
        assert resumed.training is True
    saved = ours.state_dict()
    loaded = getattr(optim, name)(copies(mine), lr=0.1)
    loaded.load_state_dict(saved)
    more = torch.nn.Parameter(torch.ones(2))
    for optimizer in (ours, loaded):
        optimizer.add_param_group({"params": [copies([more])[0]]})
        assert optimizer.training is False
        optimizer.train()
    other.train()
    for optimizer in (ours, loaded):
        held = [p for group in optimizer.param_groups for p in group["params"]]
        assert all(map(torch.equal, held, theirs))


@pytest.mark.parametrize("name", ["ScheduleFreeSGD", "ScheduleFreeAdamW"])
def test_an_average_is_that_of_the_states_as_they_are_now(name):
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = getattr(optim, name)([p], lr=0.1)
    p.grad = torch.ones(3)
    optimizer.step()
    y = p.detach().clone()
    optimizer.state[p]["z"] = torch.zeros(3)
    optimizer.eval()
    torch.testing.assert_close(p.detach(), y / 0.9)  # y = (1 - 0.9)·z + 0.9·x


def test_a_parameter_thawed_later_gets_an_average_of_its_shape():
    p, q = (torch.nn.Parameter(torch.ones(4)) for _ in range(2))
    q.requires_grad_(False)
    opt = optim.SGD([p, q], lr=0.5, ema_decay=0.5)
    p.grad = torch.ones(4)
    opt.step()
    q.requires_grad_(True)
    q.grad = torch.ones(4)
    opt.step()
    assert torch.equal(opt.state_dict()["state"][1]["average"], torch.full((4,), 0.75))


def test_a_step_skipped_for_an_outside_norm_zeroes_what_it_skipped():
    p = torch.nn.Parameter(torch.ones(3))
    opt = optim.SGD([p], lr=0.5)
    p.grad = torch.full((3,), torch.inf)
    opt.step(norm=torch.tensor(torch.inf), max_norm=1.0, nonfinite="skip", zero_grad=True)
    assert opt.last_step.skipped
    assert torch.equal(p.grad, torch.zeros(3))
    assert torch.equal(p.detach(), torch.ones(3))


@pytest.mark.parametrize(
    ("name", "options"),
    [("LARS", {}), ("LAMB", {}), ("SGD", {"max_weight_norm": 1.0}), ("SGD", {"noise": 0.1})],
)
def test_what_needs_whole_parameters_is_refused_for_a_part_of_one(name, options, monkeypatch):
    from onepass.torch.optim import _engine

    p = torch.nn.Parameter(torch.ones(4, 2))
    whole = _engine.part_of
    monkeypatch.setattr(
        _engine, "part_of", lambda owner, t: t.detach()[:2] if t is p else whole(owner, t)
    )
    with pytest.raises(TypeError, match=r"shape \(4, 2\) is a DTensor .* expected whole"):
        getattr(optim, name)([p], **options)
    optim.SGD([p])


@pytest.mark.parametrize("option", ["max_weight_norm", "noise"])
def test_what_needs_whole_parameters_is_refused_when_it_is_set_later_too(option, monkeypatch):
    """At every step until it is taken back, also where another option rides along already."""
    from onepass.torch.optim import _engine

    p = torch.nn.Parameter(torch.ones(4, 2))
    p.grad = torch.ones(4, 2)
    whole, local = _engine.part_of, {id(t): t.detach()[:2] for t in (p, p.grad)}
    monkeypatch.setattr(
        _engine, "part_of", lambda owner, t: local[id(t)] if id(t) in local else whole(owner, t)
    )
    opt = optim.SGD([p], lr=0.5, l1=0.25)
    before = opt.param_groups[0][option]
    opt.param_groups[0][option] = 0.5
    for _ in range(2):
        with pytest.raises(TypeError, match=rf"is a DTensor .* expected whole .* for {option}"):
            opt.step()
        assert torch.equal(p.detach(), torch.ones(4, 2))
    opt.param_groups[0][option] = before


def test_a_layer_frozen_from_the_start_has_its_own_values_as_averages():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    model[0].requires_grad_(False)
    opt = optim.AdamW(model.parameters(), ema_decay=0.5)
    for frozen, average in zip(model[0].parameters(), opt.averages[:2], strict=True):
        assert torch.equal(frozen, average)
        assert average.data_ptr() != frozen.data_ptr()
    model(torch.ones(4, 3)).sum().backward()
    opt.step()
    with torch.no_grad():
        for p, average in zip(model.parameters(), opt.averages, strict=True):
            p.copy_(average)


def test_a_count_of_steps_beyond_floats_survives_a_pickle_beside_averages():
    p = torch.nn.Parameter(torch.ones(3))
    opt = optim.SGD([p], ema_decay=0.5)
    p.grad = torch.ones(3)
    opt.step()
    opt._current().engine.plan.steps = [2**24 + 2]
    opt.step()
    again = pickle.loads(pickle.dumps(opt))
    assert again._current().engine.plan.steps == [2**24 + 3]
