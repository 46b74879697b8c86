"""Distributed checkpoints and DTensors, in one process and in two."""

import copy
import os
import warnings

import pytest
from small_torch import network, same, train

torch = pytest.importorskip("torch")
if not torch.distributed.is_available():
    pytest.skip("this PyTorch has no torch.distributed", allow_module_level=True)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from onepass.torch import optim  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch.distributed itself


CASES = [
    ("AdamW", {}), ("NAdam", {}), ("SGD", {"momentum": 0.9}), ("SGD", {}), ("Adagrad", {}),
    ("Lion", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}-{o}" for n, o in CASES])
def test_a_distributed_checkpoint_needs_no_dummy_step(name, options, tmp_path):
    """It loads into a fresh optimizer's state; saving takes no step, and moves and counts none."""
    cls = getattr(optim, name)
    model = network()
    model[0].bias.requires_grad_(False)
    optimizer = cls(model.parameters(), lr=0.1, **options)
    train(model, optimizer)
    model.zero_grad()
    before, held = copy.deepcopy(model), str(optimizer.state_dict())
    weights, state = get_state_dict(model, optimizer)
    assert str(optimizer.state_dict()) == held
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=tmp_path)

    again = network()
    again[0].bias.requires_grad_(False)
    resumed = cls(again.parameters(), lr=0.7, **options)
    weights, state = get_state_dict(again, resumed)
    dcp.load({"model": weights, "optimizer": state}, checkpoint_id=tmp_path)
    set_state_dict(again, resumed, model_state_dict=weights, optim_state_dict=state)
    assert same(again, before)
    assert str(resumed.state_dict()["state"]) == str(optimizer.state_dict()["state"])
    assert resumed.param_groups[0]["lr"] == 0.1
    train(model, optimizer, seed=2)
    train(again, resumed, seed=2)
    assert same(model, again)


def test_a_distributed_checkpoint_keeps_parameters_whose_first_gradient_is_to_come(tmp_path):
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    model[2](torch.ones(1, 5)).sum().backward()
    optimizer.step()
    weights, state = get_state_dict(model, optimizer)
    assert len(state["state"]) == 4
    assert len(optimizer.state_dict()["state"]) == 2
    dcp.save({"optimizer": state}, checkpoint_id=tmp_path)
    again = copy.deepcopy(model)
    resumed = optim.Adam(again.parameters(), lr=0.1)
    _, state = get_state_dict(again, resumed)
    dcp.load({"optimizer": state}, checkpoint_id=tmp_path)
    set_state_dict(again, resumed, model_state_dict=weights, optim_state_dict=state)
    assert len(resumed.state_dict()["state"]) == 2
    train(model, optimizer)
    train(again, resumed)
    assert same(model, again)


def sharded(model, mesh, placements):
    for module in model:
        for name, p in list(module.named_parameters(recurse=False)):
            part = distribute_tensor(p.detach(), mesh, placements)
            module.register_parameter(name, torch.nn.Parameter(part))
    return model


def give_gradients(model, seed, mesh=None, placements=None):
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        grad = torch.randn(p.shape, generator=generator)
        p.grad = grad if mesh is None else distribute_tensor(grad, mesh, placements)


@pytest.mark.parametrize("placements", [[Shard(0)], [Replicate()]], ids=str)
def test_a_dtensor_is_stepped_where_it_lies(mesh, placements):
    plain = network()
    model = sharded(network(), mesh, placements)
    optimizer, other = (optim.AdamW(m.parameters(), lr=0.1) for m in (model, plain))
    for step in range(4):
        give_gradients(model, step, mesh, placements)
        give_gradients(plain, step)
        version = model[0].weight._version
        optimizer.step(max_norm=1.0)
        other.step(max_norm=1.0)
        assert model[0].weight._version > version
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(p.full_tensor(), q)
        for key, value in optimizer.state[p].items():
            assert isinstance(value, DTensor) == (key != "step")
            whole = value.full_tensor() if key != "step" else value
            assert torch.equal(whole, other.state[q][key])
    again = copy.deepcopy(model)
    resumed = optim.AdamW(again.parameters(), lr=0.1)
    resumed.load_state_dict(optimizer.state_dict())
    for m, o in ((model, optimizer), (again, resumed)):
        give_gradients(m, 9, mesh, placements)
        o.step()
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(p.full_tensor(), q.full_tensor())


def test_a_dtensor_checkpoint_resumes(mesh, tmp_path):
    model = sharded(network(), mesh, [Shard(0)])
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    give_gradients(model, 0, mesh, [Shard(0)])
    optimizer.step()
    model.zero_grad()
    weights, state = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=tmp_path)
    again = sharded(network(), mesh, [Shard(0)])
    resumed = optim.AdamW(again.parameters(), lr=0.1)
    weights, state = get_state_dict(again, resumed)
    dcp.load({"model": weights, "optimizer": state}, checkpoint_id=tmp_path)
    set_state_dict(again, resumed, model_state_dict=weights, optim_state_dict=state)
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(p.full_tensor(), q.full_tensor())
        for key, value in optimizer.state[p].items():
            assert torch.equal(value.to(torch.float32), resumed.state[q][key].to(torch.float32))


def two_processes(rank, path):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{path}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    plain = network()
    # Three rows on two processes, and one: the second process has one row, and none.
    odd = torch.nn.ParameterList([torch.ones(3, 2), torch.ones(1, 4), *plain.parameters()])
    parts = [torch.nn.Parameter(distribute_tensor(p.detach(), mesh, [Shard(0)])) for p in odd]
    optimizer, other = optim.AdamW(parts, lr=0.1), optim.AdamW(odd, lr=0.1)
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        for part, p in zip(parts, odd, strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            part.grad = distribute_tensor(p.grad, mesh, [Shard(0)])
        norm = torch.nn.utils.get_total_norm([p.grad for p in parts]).full_tensor()
        optimizer.step(max_norm=0.5, norm=norm)
        other.step(max_norm=0.5)
    for part, p in zip(parts, odd, strict=True):
        torch.testing.assert_close(part.full_tensor(), p.detach(), rtol=2e-6, atol=2e-7)
    torch.distributed.destroy_process_group()
    os._exit(0)  # Gloo's threads may abort an interpreter that ends before they let go


def test_two_processes_with_empty_shards_clip_by_their_common_norm(tmp_path):
    torch.multiprocessing.spawn(two_processes, (str(tmp_path),), nprocs=2)
