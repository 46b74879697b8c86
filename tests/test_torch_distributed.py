"""DTensors, FSDP2 and distributed checkpoints of optimizers with options that ride along."""

import copy
import os
import warnings

import numpy as np
import pytest
from small_distributed import checkpointed, dcp
from small_torch import give_gradients, network, same, train
from test_torch_loops import batches, loss_of
from test_torch_riders import RIDERS, STORED, dtype_of, each_storage

torch = pytest.importorskip("torch")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from onepass.torch import optim  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch.distributed itself


@each_storage
@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_a_distributed_checkpoint_has_the_averages_and_master_copies(name, storage, tmp_path):
    dtype, options = dtype_of(storage), {**RIDERS, **STORED[storage]}
    model = network(dtype)
    optimizer = getattr(optim, name)(model.parameters(), lr=0.1, **options)
    train(model, optimizer)
    again = network(dtype)
    resumed = getattr(optim, name)(again.parameters(), lr=0.7, **options)
    checkpointed(model, optimizer, again, resumed, tmp_path)
    assert same(model, again)
    assert all(map(torch.equal, optimizer.averages, resumed.averages))
    train(model, optimizer, seed=2)
    train(again, resumed, seed=2)
    assert same(model, again)
    assert all(map(torch.equal, optimizer.averages, resumed.averages))


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_a_distributed_checkpoint_beside_a_layer_frozen_from_the_start(name, tmp_path):
    made = []
    for lr in (0.1, 0.7):
        model = network()
        model[0].requires_grad_(False)
        made.append((model, getattr(optim, name)(model.parameters(), lr=lr, ema_decay=0.5)))
    (model, optimizer), (again, resumed) = made
    train(model, optimizer)
    dcp.save({"model": model, "optimizer": optimizer}, checkpoint_id=tmp_path)
    dcp.load({"model": again, "optimizer": resumed}, checkpoint_id=tmp_path)
    for m, o in made:
        train(m, o, seed=2)
    assert same(model, again)
    assert all(map(torch.equal, optimizer.averages, resumed.averages))


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_a_distributed_checkpoint_of_torchs_own_optimizer_is_loaded(name, tmp_path):
    options = {"lr": 0.1, **({"momentum": 0.9} if name == "SGD" else {})}
    model = network()
    theirs = getattr(torch.optim, name)(model.parameters(), **options)
    train(model, theirs)
    again = network()
    ours = getattr(optim, name)(
        again.parameters(), lr=0.7, **({"momentum": 0.5} if name == "SGD" else {})
    )
    planner = dcp.DefaultLoadPlanner(allow_partial_load=True)  # options that PyTorch lacks
    checkpointed(model, theirs, again, ours, tmp_path, planner=planner)
    assert ours.param_groups[0]["lr"] == 0.1
    assert name != "SGD" or ours.param_groups[0]["momentum"] == 0.9
    train(model, theirs, seed=2)
    train(again, ours, seed=2)
    for p, q in zip(again.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("placement", ["Shard", "Replicate"])
def test_riders_of_a_dtensor_lie_beside_it(placement, mesh):
    where = [Shard(0)] if placement == "Shard" else [Replicate()]
    whole = [torch.randn(4, 3), torch.randn(5)]
    mine = [torch.nn.Parameter(distribute_tensor(p, mesh, where)) for p in whole]
    theirs = [torch.nn.Parameter(p.clone()) for p in whole]
    options = {"lr": 0.1, "l1": 0.01, "ema_decay": 0.5, "cautious": True}
    ours, other = (optim.AdamW(params, **options) for params in (mine, theirs))
    for step in range(3):
        give_gradients(step, theirs)
        for p, q in zip(mine, theirs, strict=True):
            p.grad = distribute_tensor(q.grad, mesh, where)
        ours.step()
        other.step()
    saved = ours.state_dict()
    for i, (p, q) in enumerate(zip(mine, theirs, strict=True)):
        assert torch.equal(p.full_tensor(), q)
        average = saved["state"][i]["average"]
        assert isinstance(average, DTensor)
        assert torch.equal(average.full_tensor(), other.averages[i])
    resumed = optim.AdamW(copy.deepcopy(mine), **options)
    resumed.load_state_dict(saved)
    for a, b in zip(resumed.averages, other.averages, strict=True):
        np.testing.assert_array_equal(a, b)


def sharded(mesh):
    model = network()
    fully_shard(model[0], mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


CASES = [
    ("AdamW", {}), ("SGD", {"momentum": 0.9}), ("Muon", {}), ("LAMB", {}),
    ("AdamW", {"ema_decay": 0.5, "noise": 0.1, "l1": 0.01}),
]  # fmt: skip


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
    again = sharded(mesh)
    resumed = getattr(optim, name)(again.parameters(), lr=0.7, **options)
    checkpointed(model, ours, again, resumed, tmp_path)
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
    os._exit(0)  # Gloo's threads may abort an interpreter that ends before they let go


@pytest.mark.slow
def test_two_processes_of_a_fully_sharded_model_train_as_one(tmp_path):
    torch.multiprocessing.spawn(two_processes, (str(tmp_path),), nprocs=2)
