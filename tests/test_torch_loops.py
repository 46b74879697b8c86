"""Usage of other programs around an optimizer: wrappers, moves of states, Inductor."""

import copy
import shutil

import pytest
from small_torch import network, same, train

torch = pytest.importorskip("torch")

from onepass.torch import optim  # noqa: E402

# ---- a wrapper that imitates the class, as PyTorch Lightning's and Fabric's


class Wrapper:
    """Has the methods of the optimizer's class, and none of its attributes."""

    def __init__(self, optimizer):
        self._optimizer = optimizer
        kinds = (self.__class__, optimizer.__class__)
        self.__class__ = type(f"Wrapped{optimizer.__class__.__name__}", kinds, {})

    def __getattr__(self, name):
        return getattr(self._optimizer, name)

    def step(self, closure=None, **options):
        return self._optimizer.step(closure=closure, **options)


def loss_of(model, batch):
    return model(batch).square().mean()


def batches(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(8, 4, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("name", ["AdamW", "SGD", "Muon", "ScheduleFreeSGD"])
def test_a_wrapper_that_imitates_the_class_trains_and_tells_as_the_optimizer(name):
    model, twin = network(), network()
    inner, plain = (getattr(optim, name)(m.parameters(), lr=0.05) for m in (model, twin))
    wrapped = Wrapper(inner)
    assert isinstance(wrapped, torch.optim.Optimizer)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch) for o in (inner, plain)
    ]
    for batch in batches(4):

        def closure(batch=batch):
            wrapped.zero_grad()
            loss = loss_of(model, batch)
            loss.backward()
            return loss

        wrapped.step(closure, max_norm=1.0)
        plain.zero_grad()
        loss_of(twin, batch).backward()
        plain.step(max_norm=1.0)
        for schedule in schedules:
            schedule.step()
        assert wrapped.last_step == inner.last_step == plain.last_step
        assert wrapped.last_step is not None
        assert wrapped.param_groups is inner.param_groups
    assert same(model, twin)
    engine = inner._entries.engine
    assert str(wrapped.state_dict()) == str(plain.state_dict())
    assert wrapped.state is inner.state
    assert inner._entries.engine is engine  # the wrapper made no other one
    wrapped.load_state_dict(copy.deepcopy(plain.state_dict()))
    train(model, inner, seed=1)
    train(twin, plain, seed=1)
    assert same(model, twin)


def test_a_loop_by_hand_as_lightning_runs_one():
    """States moved to a device before the first step, accumulation, frozen parameters toggled,
    a checkpoint in between, a closure in every step."""

    def fit(module, epochs, model, saved=None):
        optimizer = module.AdamW(model.parameters(), lr=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=12)
        if saved is not None:
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
        for p, entry in list(optimizer.state.items()):
            optimizer.state[p] = {k: v.to("cpu") for k, v in entry.items()}
        for epoch in epochs:
            for at, batch in enumerate(batches(6, seed=epoch)):
                for p in model[0].parameters():
                    p.requires_grad_(at < 4)

                def closure(batch=batch, at=at):
                    loss = loss_of(model, batch) / 2
                    if at % 2 == 0:
                        optimizer.zero_grad()
                    loss.backward()
                    return loss

                if at % 2 == 0:
                    closure()
                else:
                    optimizer.step(closure=closure)
                    schedule.step()
        return {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}

    model, twin = network(), network()
    saved = fit(optim, [0, 1], model)
    fit(optim, [2, 3], model, copy.deepcopy(saved))
    saved = fit(torch.optim, [0, 1], twin)
    fit(torch.optim, [2, 3], twin, copy.deepcopy(saved))
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


# ---- Inductor

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("c++") is None,
    reason="needs a C++ compiler (g++ or c++) for PyTorch's Inductor",
)


@needs_compiler
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch.compile itself
def test_a_step_compiled_by_inductor_has_the_bits_of_an_eager_one():
    """Beside a clone in the same graph, for which it might give the parameter itself."""
    torch._dynamo.reset()
    model, twin = network(), network()
    ours, eager = (optim.AdamW(m.parameters(), lr=0.1) for m in (model, twin))

    @torch.compile(fullgraph=True, backend="inductor")
    def step():
        before = model[0].weight.detach().clone()
        ours.step(max_norm=1.0)
        return before

    for seed in range(3):
        held = model[0].weight.detach().clone()
        for m in (model, twin):
            for p, g in zip(m.parameters(), gradients(m, seed), strict=True):
                p.grad = g
        before = step()
        eager.step(max_norm=1.0)
        assert torch.equal(before, held)
        assert same(model, twin)
    assert str(ours.state_dict()) == str(eager.state_dict())
    torch._dynamo.reset()


def gradients(model, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=generator) for p in model.parameters()]
