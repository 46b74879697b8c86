"""Every optimizer beside torch.optim's: trajectories, states both ways, tensors as parameters."""

import copy

import numpy as np
import pytest
from cases import as_float64
from helpers import (
    SWEEPS,
    assert_all_same,
    assert_same,
    each_dtype,
    each_variant,
    from_torch,
    to_torch,
)
from onepass import ops, optim
from small_steps import SHAPES, assert_near, gradients, start

COMPARED = [(v, sweep) for v, sweep in SWEEPS if v.record.in_torch(sweep)]
each_torch_sweep = pytest.mark.parametrize(
    ("variant", "sweep"),
    COMPARED,
    ids=[f"{v.record.cls.__name__}-{sweep}" for v, sweep in COMPARED],
)


def shapes_of(variant):
    """PyTorch's Adafactor divides by the number of elements."""
    return [s for s in SHAPES if 0 not in s] if variant.factored else SHAPES


@pytest.fixture
def torch_in_float64():
    """PyTorch keeps the numbers beside a state, such as NAdam's product, in its default dtype."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


@each_torch_sweep
def test_trajectory_equals_torch(variant, sweep, torch_in_float64):
    torch = torch_in_float64
    rng, params = start(shapes=shapes_of(variant))
    theirs = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params]
    opt, other = (
        variant.record.cls(params, **sweep),
        getattr(torch.optim, variant.record.torch)(theirs, **sweep),
    )
    for step in range(40):
        grads = gradients(rng, params, lambda i, s=step: s >= 3 * i and (i + s) % 4)
        for p, g in zip(theirs, grads, strict=True):
            p.grad = None if g is None else torch.from_numpy(g.copy())
        max_norm = [None, 2.0][step % 2]
        if max_norm:
            norm = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
        info = opt.step(grads, max_norm=max_norm)
        other.step()
        if max_norm:
            assert info.grad_norm == pytest.approx(float(norm), rel=1e-12)
        assert_near(params, [p.detach().numpy() for p in theirs], 1e-11, f"step {step}")


@each_torch_sweep
def test_state_dicts_go_to_torch_and_back(variant, sweep):
    torch = pytest.importorskip("torch")
    rng, params = start("float32", shapes_of(variant))
    opt = variant.record.cls([to_torch(p) for p in params], **sweep)
    theirs = [torch.nn.Parameter(to_torch(p.copy())) for p in params]
    other = getattr(torch.optim, variant.record.torch)(theirs, **sweep)
    for step in range(6):
        grads = gradients(rng, params)
        for p, g in zip(theirs, grads, strict=True):
            p.grad = torch.from_numpy(g.copy())
        other.step()
        opt.step([torch.from_numpy(g.copy()) for g in grads])
        if step == 2:
            opt.load_state_dict(other.state_dict())
    assert_near(params, [as_float64(from_torch(p)) for p in theirs], 1e-4, variant.name)
    mine = opt.state_dict()
    for key in ("exp_avg", "momentum_buffer"):
        for i, entry in other.state_dict()["state"].items():
            if entry.get(key) is not None:
                got = mine["state"][i][key]
                got = as_float64(from_torch(got) if isinstance(got, torch.Tensor) else got)
                want = entry[key].double().numpy()
                np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_adam_with_decoupled_decay_is_adamw():
    torch = pytest.importorskip("torch")
    a, b, t = np.ones(5), np.ones(5), torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
    t.grad = torch.arange(5.0, dtype=torch.float64)
    options = {"lr": 0.1, "weight_decay": 0.3}
    adam = optim.Adam([a], decoupled_weight_decay=True, **options)
    adamw = optim.AdamW([b], **options)
    theirs = torch.optim.Adam([t], decoupled_weight_decay=True, **options)
    for optimizer in (adam, adamw):
        optimizer.step([np.arange(5.0)])
    theirs.step()
    assert_same(a, b)
    np.testing.assert_allclose(a, t.detach().numpy(), rtol=1e-14)
    adam.load_state_dict(theirs.state_dict())
    with pytest.raises(ValueError, match="decoupled_weight_decay"):
        optim.Adam([a]).load_state_dict(theirs.state_dict())


def test_results_of_operations_are_no_parameters():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="leaf"):
        optim.SGD([torch.nn.Parameter(torch.ones(3)) * 2])


@each_variant
@each_dtype
def test_torch_parameters(variant, dtype):
    """Parameters and their .grad, the same bits as arrays; autograd sees the write."""
    torch = pytest.importorskip("torch")
    rng, params = start(dtype)
    theirs = [torch.nn.Parameter(to_torch(p.copy())) for p in params]
    opt, other = (variant.make(p, lr=0.1) for p in (params, theirs))
    for step in range(8):
        grads = gradients(rng, params, lambda i, s=step: (i + s) % 3)
        for p, g in zip(theirs, grads, strict=True):
            p.grad = None if g is None else to_torch(np.array(g))
        versions = [p._version for p in theirs]
        info = opt.step(grads, max_norm=1.0)
        assert other.step(max_norm=1.0).grad_norm == info.grad_norm
        assert_all_same([from_torch(p) for p in theirs], params, f"step {step}")
        for p, v, g in zip(theirs, versions, grads, strict=True):
            assert p.numel() == 0 or (p._version > v) == (g is not None)
            assert g is None or p.grad.abs().sum() > 0 or p.numel() == 0
    other.zero_grad()
    assert all(p.grad is None or not p.grad.any() for p in theirs)


def test_autograd_refuses_what_a_step_overwrote():
    torch = pytest.importorskip("torch")
    w = torch.nn.Parameter(torch.ones(3))
    loss = (w * w).sum()
    optim.SGD([w], lr=0.1).step([torch.ones(3)])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    g = torch.ones(3, requires_grad=True)
    square = (g * g).sum()
    ops.relu(torch.ones(3), out=g.detach())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        square.backward()


def test_training_a_torch_network():
    """An end to end check: the loss of a small regression falls as under torch.optim."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    x, y = torch.randn(64, 5), torch.randn(64, 1)
    first = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    second = copy.deepcopy(first)
    mine = optim.AdamW(first.parameters(), lr=1e-2)
    theirs = torch.optim.AdamW(second.parameters(), lr=1e-2)
    for _ in range(60):
        losses = []
        for net, opt in ((first, mine), (second, theirs)):
            net.zero_grad()
            loss = ((net(x) - y) ** 2).mean()
            loss.backward()
            opt.step()
            losses.append(float(loss.detach()))
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
