"""Symptoms that users of PyTorch's optimizers report, on those that swap in: one a test."""

import copy

import numpy as np
import pytest
from small_torch import NAMES, assert_equal, each_name, give_gradients, parameters

torch = pytest.importorskip("torch")

import onepass.torch  # noqa: E402
from onepass import _C  # noqa: E402
from onepass.torch import optim  # noqa: E402

LAYOUTS = {
    "channels_last gradient": (lambda: torch.randn(2, 3, 4, 5), "channels_last"),
    "transposed parameter": (lambda: torch.randn(6, 5).t(), None),
    "columns of a larger tensor": (lambda: torch.randn(7, 9)[1:6, 2:5], None),
    "every other row": (lambda: torch.randn(9, 4)[::2], None),
}


@each_name
@pytest.mark.parametrize("layout", LAYOUTS)
def test_fused_steps_update_the_wrong_elements_of_strided_tensors(name, layout):
    """PyTorch's, on a CPU: also memory beside the view."""
    torch.manual_seed(0)
    make, grad_layout = LAYOUTS[layout]
    view = make()
    whole = view if view._base is None else view._base
    before = whole.clone()
    dense = torch.nn.Parameter(view.detach().clone(memory_format=torch.contiguous_format))
    strided = torch.nn.Parameter(view)
    pair = [getattr(optim, name)([p], lr=0.1, fused=True) for p in (strided, dense)]
    for _ in range(3):
        g = torch.randn(dense.shape)
        dense.grad = g.clone()
        strided.grad = g.contiguous(memory_format=torch.channels_last) if grad_layout else g
        for optimizer in pair:
            optimizer.step()
    assert torch.equal(strided, dense)
    touched = torch.zeros_like(whole, dtype=torch.bool)
    torch.as_strided(touched, view.shape, view.stride(), view.storage_offset()).fill_(True)
    assert torch.equal(whole[~touched], before[~touched])


@pytest.mark.parametrize("fused", [None, True])
def test_weights_become_1e36_after_an_overflow_in_the_first_step(fused):
    """PyTorch's fused SGD reads momentum that a skipped step never wrote."""
    p = torch.nn.Parameter(torch.linspace(-1, 1, 64))
    q = torch.nn.Parameter(p.detach().clone())
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9, dampening=0.5, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    reference = torch.optim.SGD([q], lr=0.1, momentum=0.9, dampening=0.5)
    for value in (torch.inf, 1.0, 2.0):
        scaler.scale((p * value).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if value < torch.inf:
            q.grad = torch.full((64,), value)
            reference.step()
    torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("fused", [None, True])
def test_a_parameter_that_gets_its_first_gradient_late_is_no_type_error(fused):
    """PyTorch's fused SGD: expected Tensor, got NoneType."""
    mine = [torch.nn.Parameter(torch.ones(4)) for _ in range(3)]
    theirs = [torch.nn.Parameter(torch.ones(4)) for _ in range(3)]
    ours = optim.SGD(mine, lr=0.1, momentum=0.9, dampening=0.5, fused=fused)
    other = torch.optim.SGD(theirs, lr=0.1, momentum=0.9, dampening=0.5)
    for step in range(6):
        give_gradients(step, mine, theirs, present=lambda i, s: s >= 2 * i)
        ours.step()
        other.step()
        assert_equal(mine, theirs, 1e-6)


@each_name
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [7, 8, 16, 31, 64, 257])
def test_half_precision_parameters_move_at_every_size(name, dtype, size):
    """PyTorch's fused SGD skipped the vectorised ones; its tests were too small to see."""
    p = torch.nn.Parameter(torch.linspace(0.5, 2, size, dtype=torch.float64).to(dtype))
    q = torch.nn.Parameter(p.detach().double())
    for parameter in (p, q):
        optimizer = getattr(optim, name)([parameter], lr=0.25)
        for _ in range(2):
            parameter.grad = torch.ones_like(parameter)
            optimizer.step()
    # Two steps, each rounded once on store.
    spacing = torch.finfo(dtype).eps * 2
    np.testing.assert_allclose(p.detach().double(), q.detach(), rtol=0, atol=2 * spacing)
    assert (q.detach() - torch.linspace(0.5, 2, size)).abs().min() > 0 or name == "Adadelta"


@each_name
def test_an_empty_parameter_at_the_end_hides_no_update(name):
    mine = [torch.nn.Parameter(torch.ones(s)) for s in ((3,), (0,), (5,), (0, 4))]
    twin = [torch.nn.Parameter(torch.ones(s)) for s in ((3,), (5,))]
    first, second = (getattr(optim, name)(params, lr=0.1) for params in (mine, twin))
    for _ in range(3):
        for p in (*mine, *twin):
            p.grad = torch.full_like(p, 0.5)
        first.step()
        second.step()
    assert torch.equal(mine[0], twin[0])
    assert torch.equal(mine[2], twin[1])
    assert (mine[0] != 1).all()


@each_name
def test_a_step_needs_no_memory_of_the_size_of_the_parameters(name):
    """PyTorch's foreach steps run out of memory where loops do not."""
    p = torch.nn.Parameter(torch.ones(100_000))
    p.grad = torch.ones(100_000)
    optimizer = getattr(optim, name)([p])
    optimizer.step()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        optimizer.step(max_norm=1.0)
    most = max(event.cpu_memory_usage for event in profile.events())
    assert most < 10_000


def test_a_step_with_clipping_over_many_tensors_is_one_launch(monkeypatch):
    """Where PyTorch walks over thousands of small tensors three times."""
    params = [torch.nn.Parameter(torch.ones(3)) for _ in range(300)]
    for p in params:
        p.grad = torch.ones(3)
    groups = [{"params": [p], "lr": 1e-3 * i} for i, p in enumerate(params)]
    optimizer = optim.AdamW(groups)
    optimizer.step()
    calls = []

    class Counted:
        def __init__(self, plan):
            self.plan = plan

        def step(self, *args):
            calls.append(1)
            return self.plan.step(*args)

        def __getattr__(self, key):
            return getattr(self.plan, key)

    engine = optimizer._entries.engine
    assert type(engine._plan) is _C.Plan
    optimizer._entries._plan = engine._plan = Counted(engine._plan)
    optimizer.step(max_norm=1.0, grad_scale=2.0, nonfinite="skip")
    assert calls == [1]
    assert optimizer.last_step.grad_norm == pytest.approx(15.0)


def test_the_first_step_of_radam_is_no_step_off():
    """Another library's counts from 0."""
    p, q = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    for parameter, module in ((p, optim), (q, torch.optim)):
        optimizer = module.RAdam([parameter], lr=0.1)
        parameter.grad = torch.ones(1)
        optimizer.step()
    torch.testing.assert_close(p, q)
    assert p.item() == pytest.approx(0.9)


def test_resuming_does_not_drop_moments_or_counts_in_silence():
    """A dict with a key missing is refused, and a loaded count is where the parameters are."""
    params = parameters(torch.float32)
    optimizer = optim.AdamW(params, lr=0.1)
    give_gradients(0, params)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    for key in ("step", "exp_avg", "exp_avg_sq"):
        damaged = copy.deepcopy(saved)
        del damaged["state"][2][key]
        with pytest.raises(ValueError, match=f"'{key}'"):
            optim.AdamW(params, lr=0.1).load_state_dict(damaged)
    saved["param_groups"][0].update(fused=True, capturable=True)
    resumed = optim.AdamW(params, lr=0.1)
    resumed.load_state_dict(saved)
    assert resumed.state[params[2]]["step"].device.type == "cpu"
    assert resumed.state[params[2]]["step"].item() == 1


def test_a_schedule_can_see_that_the_scaler_skipped_the_step():
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = optim.AdamW([p], lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    scaler = onepass.torch.GradScaler("cpu", init_scale=2.0)
    for value in (1.0, torch.inf, 1.0):
        optimizer.zero_grad()
        scaler.scale((p * value).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        if not optimizer.last_step.skipped:
            schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    assert len(NAMES) > 8
