"""onepass.torch.optim.Muon beside PyTorch's Muon for the matrices and AdamW for the rest."""

import copy

import pytest
from small_torch import network, same, train

torch = pytest.importorskip("torch")

from onepass.torch import optim  # noqa: E402

# One rounding of bfloat16 in some elements of a direction, in each step.
ULP = 2.0**-7


def give_gradients(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)


def theirs(model, **options):
    params = list(model.parameters())
    muon = torch.optim.Muon([p for p in params if p.ndim == 2], lr=0.05, **options)
    rest = [p for p in params if p.ndim != 2]
    return muon, torch.optim.AdamW(rest, lr=0.05, weight_decay=options.get("weight_decay", 0.1))


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.8, "nesterov": False}, {"adjust_lr_fn": "match_rms_adamw"},
     {"weight_decay": 0.0, "ns_steps": 3}],
    ids=str,
)  # fmt: skip
def test_one_optimizer_steps_matrices_as_muon_and_the_rest_as_adamw(options):
    model, twin = network(), network()
    ours, others = optim.Muon(model.parameters(), lr=0.05, **options), theirs(twin, **options)
    scale = 0.2 * 5**0.5 if "adjust_lr_fn" in options else 1.25
    for step in range(12):
        give_gradients(model, step)
        give_gradients(twin, step)
        ours.step()
        for other in others:
            other.step()
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            bound = (step + 1) * 0.05 * scale * ULP if p.ndim == 2 else 1e-5
            torch.testing.assert_close(p, q, rtol=0, atol=bound)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        want = others[p.ndim != 2].state[q]
        assert ours.state[p].keys() == want.keys()
        for key, value in want.items():
            torch.testing.assert_close(ours.state[p][key], value)


def test_a_state_of_torch_goes_on_here_and_back():
    model, twin = network(), network()
    params, matrices = list(model.parameters()), lambda m: [p for p in m.parameters() if p.ndim > 1]
    ours = optim.Muon(matrices(model), lr=0.05)
    other = torch.optim.Muon(matrices(twin), lr=0.05)
    assert len(params) == 4
    for step in range(9):
        give_gradients(model, step)
        give_gradients(twin, step)
        ours.step()
        other.step()
        for p, q in zip(matrices(model), matrices(twin), strict=True):
            bound = (step + 1) * 0.05 * 1.25 * ULP
            torch.testing.assert_close(p, q, rtol=0, atol=bound)
        assert ours.state_dict()["param_groups"] == other.state_dict()["param_groups"]
        if step == 3:
            ours = optim.Muon(matrices(model), lr=0.7)
            ours.load_state_dict(copy.deepcopy(other.state_dict()))
        if step == 6:
            other = torch.optim.Muon(matrices(twin), lr=0.7)
            other.load_state_dict(copy.deepcopy(ours.state_dict()))
            for p, q in zip(matrices(model), matrices(twin), strict=True):
                held = other.state[q]["momentum_buffer"]
                assert torch.equal(held, ours.state[p]["momentum_buffer"])


def test_a_state_cleared_exchanged_or_edited_takes_effect():
    model, twin = network(), network()
    ours, others = optim.Muon(model.parameters(), lr=0.05), theirs(twin)
    for step in range(8):
        give_gradients(model, step)
        give_gradients(twin, step)
        ours.step()
        for other in others:
            other.step()
        for i, (p, q) in enumerate(zip(model.parameters(), twin.parameters(), strict=True)):
            for optimizer, own in ((ours, p), (others[p.ndim != 2], q)):
                if step == 2 and i in (0, 1):
                    del optimizer.state[own]
                if step == 4 and i == 2:
                    held = optimizer.state[own]["momentum_buffer"]
                    optimizer.state[own]["momentum_buffer"] = held * 0.5
                if step == 5 and i == 2:
                    optimizer.state[own]["momentum_buffer"].zero_()
            bound = (step + 1) * 0.05 * 1.25 * ULP
            torch.testing.assert_close(p, q, rtol=0, atol=bound)


def test_matrices_that_are_frozen_first_and_groups_that_join():
    """The directions are laid out again; nothing of the others is lost."""
    model, twin = network(), network()
    model[0].weight.requires_grad_(False)
    first = [*model[0].parameters(), *model[2].parameters()]
    ours = optim.Muon(first[:3], lr=0.05)
    ours.add_param_group({"params": first[3:], "lr": 0.1})
    other = optim.Muon(
        [{"params": [twin[0].bias, twin[2].weight]}, {"params": [twin[2].bias], "lr": 0.1}], lr=0.05
    )
    train(model, ours)
    train(twin, other)
    assert same(model, twin)
    model[0].weight.requires_grad_(True)
    other.add_param_group({"params": [twin[0].weight]})
    train(model, ours, seed=2)
    train(twin, other, seed=2)
    assert same(model, twin)
    # A matrix has its momentum alone, and no count of steps, as in PyTorch.
    assert ours.state[model[0].weight].keys() == {"momentum_buffer"}
    assert ours.state[model[0].bias].keys() == {"step", "exp_avg", "exp_avg_sq"}


def test_use_muon_false_leaves_a_group_to_adamw():
    model, twin = network(), network()
    groups = [
        {"params": model[0].parameters()},
        {"params": model[2].parameters(), "use_muon": False},
    ]
    ours = optim.Muon(groups, lr=0.05)
    other = torch.optim.AdamW(twin[2].parameters(), lr=0.05, weight_decay=0.1)
    for step in range(4):
        give_gradients(model, step)
        give_gradients(twin, step)
        ours.step()
        other.step()
    for p, q in zip(model[2].parameters(), twin[2].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    saved = ours.state_dict()
    assert saved["state"][2].keys() == {"step", "exp_avg", "exp_avg_sq"}
    resumed = optim.Muon(
        [{"params": twin[0].parameters()}, {"params": twin[2].parameters(), "use_muon": False}]
    )
    resumed.load_state_dict(saved)
    del saved["state"][2]["step"]
    with pytest.raises(ValueError, match="'step' of parameter 2 is missing"):
        resumed.load_state_dict(saved)
