"""What other programs do around an optimizer: wrappers, moves of states, FSDP2, Inductor."""

import copy
import shutil
import warnings

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


# ---- FSDP2

if torch.distributed.is_available():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor import DTensor

needs_distributed = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed"
)


@pytest.fixture
def mesh():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield torch.distributed.init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def sharded(mesh):
    model = network()
    fully_shard(model[0], mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


CASES = [
    ("AdamW", {}), ("SGD", {"momentum": 0.9}), ("Muon", {}), ("LAMB", {}),
    ("AdamW", {"ema_decay": 0.5, "noise": 0.1, "l1": 0.01}),
]  # fmt: skip


@needs_distributed
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}-{list(o)}" for n, o in CASES])
def test_a_fully_sharded_model_takes_the_steps_of_a_plain_one_and_resumes(
    name, options, mesh, tmp_path
):
    plain, model = network(), sharded(mesh)
    ours, other = (getattr(optim, name)(m.parameters(), lr=0.1, **options) for m in (model, plain))
    for m, o in ((model, ours), (plain, other)):
        train(m, o)
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(p.full_tensor(), q)
        for key, value in ours.state[p].items():
            assert isinstance(value, DTensor) == (key != "step")
    model.zero_grad()
    weights, state = get_state_dict(model, ours)
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=tmp_path)
    again = sharded(mesh)
    resumed = getattr(optim, name)(again.parameters(), lr=0.7, **options)
    weights, state = get_state_dict(again, resumed)
    dcp.load({"model": weights, "optimizer": state}, checkpoint_id=tmp_path)
    set_state_dict(again, resumed, model_state_dict=weights, optim_state_dict=state)
    for m, o in ((model, ours), (again, resumed), (plain, other)):
        train(m, o, seed=2)
    for p, q, r in zip(model.parameters(), again.parameters(), plain.parameters(), strict=True):
        assert torch.equal(p.full_tensor(), q.full_tensor())
        assert torch.equal(p.full_tensor(), r)


def two_processes(rank, path):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{path}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    plain, model = network(), sharded(mesh)
    for name in ("Muon", "LAMB"):
        with pytest.raises(TypeError, match="a DTensor of which a part lies here"):
            getattr(optim, name)(model.parameters())
    with pytest.raises(TypeError, match=r"LBFGS: .*expected whole parameters for products"):
        optim.LBFGS(model.parameters())
    options = {"lr": 0.1, "ema_decay": 0.5, "l1": 0.01}
    ours, other = (optim.AdamW(m.parameters(), **options) for m in (model, plain))
    for batch in batches(3):
        for m, o in ((model, ours), (plain, other)):
            o.zero_grad()
            loss_of(m, batch).backward()
            if m is plain:
                o.step(max_norm=0.1)
            else:
                norm = torch.nn.utils.get_total_norm([p.grad for p in m.parameters()])
                o.step(max_norm=0.1, norm=norm.full_tensor())
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.full_tensor(), q.detach(), rtol=1e-5, atol=1e-6)
    torch.distributed.destroy_process_group()


@needs_distributed
@pytest.mark.slow
def test_two_processes_of_a_fully_sharded_model_train_as_one(tmp_path):
    torch.multiprocessing.spawn(two_processes, (str(tmp_path),), nprocs=2)
