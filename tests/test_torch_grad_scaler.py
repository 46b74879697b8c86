"""Loss scaling: torch.amp.GradScaler and onepass.torch.GradScaler beside PyTorch's optimizers."""

import copy

import pytest
from small_torch import NAMES, network, same

torch = pytest.importorskip("torch")

import onepass.torch  # noqa: E402
from onepass.torch import optim  # noqa: E402

SCALERS = [torch.amp.GradScaler, onepass.torch.GradScaler]
each_scaler = pytest.mark.parametrize("scaler_class", SCALERS, ids=["torch's", "ours"])


def run(model, optimizer, scaler, steps=8, overflow=(0, 4), unscale=(), **options):
    generator = torch.Generator().manual_seed(0)
    scales = []
    for step in range(steps):
        optimizer.zero_grad()
        x = torch.randn(8, 4, generator=generator)
        scaler.scale(model(x).square().mean()).backward()
        if step in overflow:
            model[2].weight.grad[1, 2] = torch.inf
        if step in unscale:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        scaler.step(optimizer, **options)
        scaler.update()
        scales.append(scaler.get_scale())
    return scales


def scaler_of(cls):
    return cls("cpu", init_scale=2.0**10, growth_interval=3)


@each_scaler
@pytest.mark.parametrize("name", [n for n in NAMES if hasattr(torch.optim, n) and n != "Muon"])
@pytest.mark.parametrize("unscale", [(), (1, 4, 5)], ids=["", "unscale_"])
def test_scaled_training_equals_torchs(scaler_class, name, unscale):
    """An overflow in the first step too: PyTorch's fused SGD then reads a buffer it never wrote."""
    options = {"lr": 0.05, **({"momentum": 0.9} if name == "SGD" else {})}
    if name == "RMSprop":  # else it moves by the sign of gradients that are rounding errors
        options["eps"] = 1e-2
    model = network()
    twin = copy.deepcopy(model)
    ours = getattr(optim, name)(model.parameters(), **options)
    theirs = getattr(torch.optim, name)(twin.parameters(), **options, foreach=False)
    scales = run(model, ours, scaler_of(scaler_class), unscale=unscale)
    assert scales == run(twin, theirs, scaler_of(torch.amp.GradScaler), unscale=unscale)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert scales[0] == 2.0**9
    assert ours.state_dict()["state"].keys() == theirs.state_dict()["state"].keys()


@each_scaler
@pytest.mark.parametrize("name", NAMES)
def test_a_skipped_step_changes_nothing_and_says_so(scaler_class, name):
    """No parameter, no moment, no count; a program can see it and leave its schedule alone."""
    model = network()
    optimizer, scaler = getattr(optim, name)(model.parameters()), scaler_of(scaler_class)
    run(model, optimizer, scaler, 3, ())
    assert not optimizer.last_step.skipped
    before, state = copy.deepcopy(model), copy.deepcopy(optimizer.state_dict())
    run(model, optimizer, scaler, 1, (0,))
    assert optimizer.last_step.skipped
    assert same(model, before)
    assert str(optimizer.state_dict()) == str(state)
    assert "found_inf" not in vars(optimizer)
    assert "grad_scale" not in vars(optimizer)
    run(model, optimizer, scaler, 1, ())
    assert not optimizer.last_step.skipped
    assert not same(model, before)


def test_our_scaler_leaves_the_check_to_the_step(monkeypatch):
    """And PyTorch's pass over the gradients to other optimizers."""
    passes = []
    check = torch._amp_foreach_non_finite_check_and_unscale_
    monkeypatch.setattr(
        torch,
        "_amp_foreach_non_finite_check_and_unscale_",
        lambda *args: passes.append(1) or check(*args),
    )
    model = network()
    scaler = scaler_of(onepass.torch.GradScaler)
    run(model, optim.Adam(model.parameters()), scaler, 2, (), max_norm=0.5)
    assert passes == []
    run(model, torch.optim.Adam(model.parameters()), scaler, 2, ())
    assert len(passes) == 2
    mine = optim.Adam(model.parameters())
    run(model, mine, scaler, 1, (0,), max_norm=0.5)
    assert mine.last_step == (True, None, 2) or mine.last_step.nonfinite_param == 2


def test_a_scaler_that_is_off_steps_as_usual():
    model = network()
    twin = copy.deepcopy(model)
    ours, theirs = (m.SGD(n.parameters(), lr=0.1) for m, n in ((optim, model), (torch.optim, twin)))
    run(model, ours, onepass.torch.GradScaler("cpu", enabled=False), overflow=())
    run(twin, theirs, torch.amp.GradScaler("cpu", enabled=False), overflow=())
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_two_optimizers_share_a_scaler():
    """One of them overflows: it alone is skipped, and the scale falls."""
    first, second = network(), network()
    optimizers = [optim.SGD(m.parameters(), lr=0.1) for m in (first, second)]
    scaler = scaler_of(onepass.torch.GradScaler)
    for model in (first, second):
        scaler.scale(model(torch.ones(2, 4)).sum()).backward()
    first[0].weight.grad[0, 0] = torch.nan
    for optimizer in optimizers:
        scaler.step(optimizer)
    scaler.update()
    assert [o.last_step.skipped for o in optimizers] == [True, False]
    assert scaler.get_scale() == 2.0**9


def test_clipping_under_a_scaler_is_that_of_unscaled_gradients():
    model = network()
    twin = copy.deepcopy(model)
    ours = optim.AdamW(model.parameters(), lr=0.05)
    theirs = torch.optim.AdamW(twin.parameters(), lr=0.05)
    run(model, ours, scaler_of(onepass.torch.GradScaler), overflow=(2,), max_norm=0.01)
    run(twin, theirs, scaler_of(torch.amp.GradScaler), overflow=(2,), unscale=range(8))
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
