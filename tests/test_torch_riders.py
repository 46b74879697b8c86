"""Options that ride along a step, in the PyTorch front: what is saved, loaded, added, thawed."""

import copy

import pytest
import staged
from small_torch import WAYS, copies, give_gradients, gone_on, network, parameters, same, train

torch = pytest.importorskip("torch")

from onepass import optim as arrays  # noqa: E402
from onepass.torch import optim  # noqa: E402

RIDERS = {**staged.RIDERS, "l1": 0.01, "seed": 5}
STORED = {
    "float32": {},
    "bfloat16 states": {"state_dtype": "bfloat16"},
    "master": {"master_weights": True},
    "stochastic": {"stochastic_rounding": True},
}
each_storage = pytest.mark.parametrize("storage", STORED)


def dtype_of(storage):
    return torch.bfloat16 if storage in ("master", "stochastic") else torch.float32


@each_storage
@pytest.mark.parametrize("name", ["AdamW", "SGD", "Lion"])
def test_riders_have_the_bits_of_onepass_optim(name, storage):
    mine = parameters(dtype_of(storage))
    theirs = [p.detach().clone() for p in mine]
    options = {"lr": 0.05, **RIDERS, **STORED[storage]}
    ours, other = getattr(optim, name)(mine, **options), getattr(arrays, name)(theirs, **options)
    for step in range(4):
        give_gradients(step, mine, present=lambda i, s: i != 3 or s > 1)
        ours.step(max_norm=1.0, grad_scale=2.0)
        other.step([p.grad for p in mine], max_norm=1.0, grad_scale=2.0)
        assert all(map(torch.equal, mine, theirs))
        assert all(map(torch.equal, ours.averages, other.averages))


@each_storage
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["AdamW", "SGD", "Lion"])
def test_training_goes_on_bit_for_bit_after_a_resume(name, way, storage):
    """Also of those that count no steps in PyTorch: noise and random roundings follow the count."""
    model = network(dtype_of(storage))
    options = {**RIDERS, **STORED[storage]}
    optimizer = getattr(optim, name)(model.parameters(), lr=0.05, **options)
    train(model, optimizer)
    again, resumed = gone_on(
        way, model, optimizer, lambda m: getattr(optim, name)(m.parameters(), lr=0.5, **options)
    )
    for m, o in ((model, optimizer), (again, resumed)):
        train(m, o, seed=1)
    assert same(model, again)
    assert all(map(torch.equal, optimizer.averages, resumed.averages))


@pytest.mark.parametrize("module", [arrays, optim], ids=["onepass.optim", "onepass.torch.optim"])
@pytest.mark.parametrize(
    ("option", "value", "dtype"),
    [("seed", 3, torch.float32), ("state_dtype", "bfloat16", torch.float32),
     ("stochastic_rounding", True, torch.bfloat16), ("master_weights", True, torch.bfloat16)],
)  # fmt: skip
def test_a_resume_with_another_seed_or_storage_is_refused(module, option, value, dtype):
    """It would go on with other bits. Files that say nothing, PyTorch's and older ones, load."""
    p = torch.nn.Parameter(torch.ones(4, dtype=dtype))
    saving = module.SGD([p], lr=0.5, momentum=0.9, noise=0.1, **{option: value})
    p.grad = torch.ones(4, dtype=dtype)
    saving.step()
    saved = copy.deepcopy(saving.state_dict())
    assert saved["param_groups"][0][option] == value
    forgetful = module.SGD([p], lr=0.5, momentum=0.9, noise=0.1)
    before = str(forgetful.state_dict())
    with pytest.raises(
        ValueError,
        match=rf"SGD.load_state_dict: '{option}' is .*, expected .*make the optimizer with "
        rf"{option}=.*; nothing was changed",
    ):
        forgetful.load_state_dict(copy.deepcopy(saved))
    assert str(forgetful.state_dict()) == before
    same_options = module.SGD([p], lr=0.5, momentum=0.9, noise=0.1, **{option: value})
    same_options.load_state_dict(copy.deepcopy(saved))
    assert option not in same_options.param_groups[0]
    with pytest.raises(ValueError, match=f"SGD.load_state_dict: '{option}' is .*, expected "):
        same_options.load_state_dict(copy.deepcopy(forgetful.state_dict()))
    older = copy.deepcopy(saved)
    del older["param_groups"][0][option]
    for optimizer in (forgetful, same_options):
        optimizer.load_state_dict(copy.deepcopy(older))
    theirs = torch.optim.SGD([p], lr=0.5, momentum=0.9)
    theirs.load_state_dict(copy.deepcopy(forgetful.state_dict()))
    theirs.load_state_dict(saved)
    theirs.step()
    assert not option_names(module.SGD([p]).state_dict())


def option_names(state_dict):
    names = {"seed", "state_dtype", "stochastic_rounding", "master_weights"}
    return names & state_dict["param_groups"][0].keys()


def test_a_group_that_joins_and_a_parameter_that_is_thawed_have_averages_of_their_own():
    model, twin = network(), network()
    model[0].weight.requires_grad_(False)
    ours = optim.SGD(model[0].parameters(), lr=0.5, ema_decay=0.5)
    ours.add_param_group({"params": model[2].parameters(), "ema_decay": None, "l1": 0.1})
    other = optim.SGD([twin[0].bias], lr=0.5, ema_decay=0.5)
    other.add_param_group({"params": twin[2].parameters(), "ema_decay": None, "l1": 0.1})
    train(model, ours)
    train(twin, other)
    model[0].weight.requires_grad_(True)
    with torch.no_grad():
        model[0].weight.mul_(2)
        twin[0].weight.mul_(2)
    other.add_param_group({"params": [twin[0].weight]})
    train(model, ours, seed=1)
    train(twin, other, seed=1)
    assert same(model, twin)
    weight, bias, *rest = ours.averages
    assert rest == [None, None]
    assert torch.equal(bias, other.averages[0])
    assert torch.equal(weight, other.averages[3])
    entry = ours.state_dict()["state"]
    assert [("average" in entry[i]) for i in range(4)] == [True, True, False, False]
    ours.state.clear()  # starts afresh, averages too
    train(model, ours, steps=1, seed=2)
    fresh = optim.SGD(copies(model[0].parameters()), lr=0.5, ema_decay=0.5)
    assert all(map(torch.equal, fresh.averages, model[0].parameters()))
    assert not torch.equal(ours.averages[0], weight)


def test_weights_that_are_loaded_after_the_optimizer_was_made_start_its_averages():
    model, other = network(), network()
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
    ours = optim.SGD(model.parameters(), lr=0.0, ema_decay=0.9)
    model.load_state_dict(other.state_dict())
    train(model, ours, steps=1)
    assert all(map(torch.equal, ours.averages, other.parameters()))


def test_diagnostics_tell_the_gradients_before_noise_and_what_riders_left():
    p, q = (torch.nn.Parameter(torch.full((2, 3), 2.0)) for _ in range(2))
    ours = optim.SGD([p], lr=1.0, l1=0.5, max_weight_norm=1.0, diagnostics=True, noise=0.25)
    plain = optim.SGD([q], lr=1.0, l1=0.5, max_weight_norm=1.0, noise=0.25)
    for optimizer, own in ((ours, p), (plain, q)):
        own.grad = torch.full((2, 3), 4.0)
        optimizer.step(grad_scale=2.0)
    assert torch.equal(p, q)
    told = ours.per_parameter
    assert told.grad_norm == pytest.approx([2 * 6**0.5])
    assert told.param_norm == pytest.approx([2 * 6**0.5])
    assert told.update_norm == pytest.approx([float((p.detach() - 2).norm())])


@pytest.mark.parametrize("compat", ["keras", "optax"])
def test_riders_and_compat_go_together_and_resume(compat):
    model = network()
    options = {"momentum": 0.9, "compat": compat, "ema_decay": 0.5, "cautious": True, "seed": 2}
    ours = optim.RMSprop(model.parameters(), lr=0.05, noise=0.1, **options)
    other = [p.detach().clone() for p in model.parameters()]
    theirs = arrays.RMSprop(other, lr=0.05, noise=0.1, **options)
    for step in range(3):
        give_gradients(step, list(model.parameters()))
        ours.step()
        theirs.step([p.grad for p in model.parameters()])
    assert all(map(torch.equal, model.parameters(), other))
    again = copy.deepcopy(model)
    resumed = optim.RMSprop(again.parameters(), lr=0.05, **options)
    resumed.load_state_dict(ours.state_dict())
    for m, o in ((model, ours), (again, resumed)):
        give_gradients(7, list(m.parameters()))
        o.step()
    assert same(model, again)
    assert all(map(torch.equal, ours.averages, resumed.averages))


def test_a_gradient_scale_and_a_skipped_step_leave_averages_and_noise_as_they_were():
    model, twin = network(), network()
    ours, other = (optim.SGD(m.parameters(), lr=0.1, **RIDERS) for m in (model, twin))
    for step in range(4):
        for m in (model, twin):
            give_gradients(step, list(m.parameters()))
        if step == 2:
            model[0].weight.grad[0, 0] = torch.inf
            ours.step(nonfinite="skip")
            assert ours.last_step.skipped
            give_gradients(step, list(model.parameters()))
        ours.step()
        other.step()
    assert same(model, twin)
    assert all(map(torch.equal, ours.averages, other.averages))
