"""States of every optimizer: resumed, copied, loaded; groups that are refused."""

import copy
import pickle

import numpy as np
import pytest
from helpers import assert_all_same, assert_same, each_dtype, each_sweep, each_variant
from onepass import optim
from small_steps import SHAPES, assert_unchanged, backward, everything, gradients, network, start


@each_dtype
@each_sweep
def test_resume_is_bitwise(variant, sweep, dtype):
    """Stop after any step, load into a fresh optimizer, go on: the uninterrupted run."""
    rng, params = start(dtype)
    grads = [gradients(rng, params, lambda i, s=s: s >= i % 3) for s in range(8)]
    opt = variant.record.cls(params, **sweep)
    stops = []
    for g in grads:
        stops.append(everything(opt, params))
        opt.step(g, max_norm=3.0)
    end = everything(opt, params)
    for stop, (params_then, state_then) in enumerate(stops):
        params_then = [p.copy() for p in params_then]
        resumed = variant.record.cls(params_then, lr=77.0)  # the state_dict's options win
        resumed.load_state_dict(copy.deepcopy(state_then))
        for g in grads[stop:]:
            resumed.step(g, max_norm=3.0)
        assert_unchanged(resumed, params_then, end, f"resumed at {stop}")


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
@each_sweep
def test_copies_go_on_by_themselves(variant, sweep, duplicate):
    rng = np.random.default_rng(3)
    params = [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]
    grads = [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]
    optimizer = variant.record.cls(params, **sweep)
    optimizer.step([None, *grads[1:]])
    before = copy.deepcopy(params)
    twin = duplicate(optimizer)
    copies = twin.param_groups[0]["params"]
    twin.step(grads)
    assert_all_same(params, before)
    optimizer.step(grads)
    assert_all_same(copies, params)
    assert [s["step"] for s in twin.state_dict()["state"].values()] == [1, *[2] * (len(SHAPES) - 1)]


@each_variant
def test_a_refused_group_changes_nothing(variant):
    p, q, g = np.ones(5), np.ones(5), np.arange(5.0)
    refused, alone = (variant.make([a], lr=0.1) for a in (p, q))
    for _ in range(3):
        refused.step([g])
        alone.step([g])
        for group in ({"params": [p]}, {"params": [p[:2]]}, {"params": [np.ones(2)], "lr": -1}):
            with pytest.raises(ValueError, match=r"params|lr"):
                refused.add_param_group(group)
    assert_same(p, q)
    assert [s["step"] for s in refused.state_dict()["state"].values()] == [3]


def test_loading_copies():
    rng, params = start("float32")
    opt = optim.AdamW(params, lr=0.1)
    opt.step(gradients(rng, params))
    saved = copy.deepcopy(opt.state_dict())
    kept = copy.deepcopy(saved)
    other = optim.AdamW([p.copy() for p in params])
    other.load_state_dict(saved)
    other.step(gradients(rng, params))
    for i, entry in kept["state"].items():
        assert_same(saved["state"][i]["exp_avg"], entry["exp_avg"])
    assert saved["param_groups"] == kept["param_groups"]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))],
                         ids=["deepcopy", "pickle"])  # fmt: skip
@pytest.mark.parametrize("steps", [0, 3])
@each_variant
def test_a_model_and_its_optimizer_are_copied_together_and_go_on_alike(variant, steps, duplicate):
    """The copy's optimizer holds the copy's parameters; the same steps give the same bits."""
    model = network()
    opt = variant.make(model.parameters(), lr=0.1)
    for seed in range(steps):
        backward(model, seed)
        opt.step(zero_grad=True)
    twin, other = duplicate((model, opt))
    own = list(twin.parameters())
    assert all(a is b for a, b in zip(own, other.param_groups[0]["params"], strict=True))
    before = copy.deepcopy(model.state_dict())
    for seed in range(3):
        backward(twin, 9 + seed)
        other.step(zero_grad=True)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    for seed in range(3):
        backward(model, 9 + seed)
        opt.step(zero_grad=True)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, twin.state_dict()[name], err_msg=name)


@each_variant
def test_a_copied_optimizer_over_tensors_goes_on_alike(variant):
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 2)
    opt = variant.make(model.parameters(), lr=0.1)

    def steps(model, opt):
        for seed in range(3):
            torch.manual_seed(seed)
            model.zero_grad()
            model(torch.randn(4, 3)).square().sum().backward()
            opt.step()

    steps(model, opt)
    twin, other = copy.deepcopy((model, opt))
    assert other.param_groups[0]["params"][0] is twin.weight
    steps(model, opt)
    steps(twin, other)
    assert torch.equal(model.weight, twin.weight)
