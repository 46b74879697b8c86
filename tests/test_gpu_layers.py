"""What stands on the kernels, on a real GPU: modules of `nn` over CuPy's arrays, a Trainer, and the
PyTorch front. Skipped where there is no GPU; `scripts/gpu` runs it.
"""

from __future__ import annotations

import copy
import importlib

import numpy as np
import pytest
from onepass import config, nn, optim, parallel, train
from onepass.parallel._collectives import tree_sum_

pytestmark = pytest.mark.skipif(
    not config.cuda_available(), reason=f"CUDA cannot be used: {config.cuda_why_not()}"
)
RNG = np.random.default_rng(5)


def close(got, expected, tolerance=2e-5):
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(got, expected, atol=tolerance * scale, rtol=0)


# ------------------------------------------------------------------------------------- nn, CuPy

NETWORKS = {
    "dense": (
        lambda: nn.Sequential(
            nn.Linear(12, 33), nn.BatchNorm1d(33), nn.ReLU(), nn.Linear(33, 17), nn.LayerNorm(17),
            nn.GELU(), nn.Linear(17, 5),
        ),
        (40, 12),
    ),
    "images": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.GroupNorm(2, 8), nn.SiLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
        ),
        (6, 3, 10, 9),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_modules_on_the_device_are_those_of_the_host(name):
    cupy = pytest.importorskip("cupy")
    make, shape = NETWORKS[name]
    x = RNG.standard_normal(shape).astype(np.float32)
    dy = RNG.standard_normal((shape[0], 5)).astype(np.float32)
    nn.manual_seed(3)
    host = make()
    device = make()
    device.load_state_dict(host.state_dict())
    device.to("cuda")
    expected, got = host(x), device(cupy.asarray(x))
    close(got.get(), expected)
    close(device.backward(cupy.asarray(dy)).get(), host.backward(dy))
    for own, other in zip(device.parameters(), host.parameters(), strict=True):
        close(own.grad.get(), other.grad)


def test_a_trainer_trains_on_the_device():
    cupy = pytest.importorskip("cupy")
    X = RNG.standard_normal((300, 12)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
    nn.manual_seed(0)
    model = NETWORKS["dense"][0]().to("cuda")
    trainer = train.Trainer(model, nn.CrossEntropyLoss(), optim.AdamW(model.parameters(), lr=1e-2))
    history = trainer.fit(cupy.asarray(X), cupy.asarray(y), max_epochs=15, batch_size=50)
    assert history["loss"][-1] < 0.3 * history["loss"][0]


# ------------------------------------------------------------------------------------- the front

# name, arguments of both, shape of the input
LAYERS = [
    ("ReLU", (), {}, (7, 33)),
    ("GELU", (), {"approximate": "tanh"}, (7, 33)),
    ("Mish", (), {}, (7, 33)),
    ("GLU", (), {}, (7, 34)),
    ("Softmax", (), {"dim": 1}, (7, 33)),
    ("LogSoftmax", (), {"dim": 1}, (7, 33)),
    ("BatchNorm1d", (33,), {}, (9, 33)),
    ("BatchNorm2d", (5,), {}, (4, 5, 7, 7)),
    ("LayerNorm", (33,), {}, (9, 33)),
    ("RMSNorm", (33,), {}, (9, 33)),
    ("GroupNorm", (2, 6), {}, (4, 6, 5, 5)),
    ("InstanceNorm2d", (6,), {"affine": True}, (4, 6, 5, 5)),
    ("Linear", (33, 20), {}, (9, 33)),
]
LOSSES = [("CrossEntropyLoss", True), ("MSELoss", False), ("SmoothL1Loss", False)]


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    return torch


@pytest.mark.parametrize(("name", "args", "options", "shape"), LAYERS, ids=[a[0] for a in LAYERS])
def test_layers_of_the_front(torch, name, args, options, shape):
    front = importlib.import_module("onepass.torch").nn
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    theirs = getattr(torch.nn, name)(*args, **options).double()
    ours = getattr(front, name)(*args, **options).to("cuda")
    ours.load_state_dict(theirs.state_dict())
    there = x.double().requires_grad_()
    here = x.cuda().requires_grad_()
    expected, got = theirs(there), ours(here)
    dy = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    expected.backward(dy.double())
    got.backward(dy.cuda())
    close(got.detach().cpu().numpy(), expected.detach().numpy())
    close(here.grad.cpu().numpy(), there.grad.numpy())
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        close(own.grad.cpu().numpy(), other.grad.numpy())


@pytest.mark.parametrize(("name", "classes"), LOSSES)
def test_losses_of_the_front(torch, name, classes):
    front = importlib.import_module("onepass.torch").nn
    x = torch.randn(9, 13, generator=torch.Generator().manual_seed(1))
    target = torch.arange(9) % 13 if classes else torch.ones(9, 13)
    there, here = x.double().requires_grad_(), x.cuda().requires_grad_()
    expected = getattr(torch.nn, name)()(there, target if classes else target.double())
    got = getattr(front, name)()(here, target.cuda())
    expected.backward()
    got.backward()
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)
    close(here.grad.cpu().numpy(), there.grad.numpy())


def network(torch):
    torch.manual_seed(4)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3, padding=1, bias=False), torch.nn.BatchNorm2d(8), torch.nn.SiLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 5),
    ).cuda()  # fmt: skip


def trained(torch, model, optimizer, steps=20):
    x = torch.randn(32, 3, 9, 9, generator=torch.Generator().manual_seed(1)).cuda()
    y = (torch.arange(32) % 5).cuda()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_fused_network_trains_as_before(torch):
    front = importlib.import_module("onepass.torch")
    plain = network(torch)
    fused = copy.deepcopy(plain)
    report = front.fuse(fused)
    assert "BatchNorm2d" in str(report)
    expected = trained(torch, plain, torch.optim.AdamW(plain.parameters(), lr=1e-2))
    got = trained(torch, fused, front.optim.AdamW(fused.parameters(), lr=1e-2))
    np.testing.assert_allclose(got, expected, rtol=5e-3)


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adamax"])
def test_optimizers_of_the_front(torch, name):
    front = importlib.import_module("onepass.torch").optim
    start = [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (5, 33, 700)]
    ours = [p.clone().cuda() for p in start]
    theirs = [p.clone().double() for p in start]
    own = getattr(front, name)(ours, lr=1e-2)
    other = getattr(torch.optim, name)(theirs, lr=1e-2)
    for turn in range(5):
        for a, b in zip(ours, theirs, strict=True):
            gradient = torch.cos(b * (turn + 1))
            a.grad, b.grad = gradient.float().cuda(), gradient
        own.step()
        other.step()
    for a, b in zip(ours, theirs, strict=True):
        close(a.cpu().numpy(), b.numpy(), 1e-5)


@pytest.mark.filterwarnings("ignore")  # of torch.compile itself
def test_compiled_layers_of_the_front(torch):
    front = importlib.import_module("onepass.torch").nn
    torch.manual_seed(0)
    model = torch.nn.Sequential(front.Linear(16, 32), front.LayerNorm(32), front.GELU()).cuda()
    x = torch.randn(8, 16).cuda()
    expected = model(x)
    got = torch.compile(model, fullgraph=True, backend="aot_eager")(x)
    close(got.detach().cpu().numpy(), expected.detach().cpu().numpy())


# ------------------------------------------------------------------------------------------ NCCL


def test_nccl_of_a_single_gpu():
    """All that one GPU can show: that NCCL takes our calls, on arrays of every dtype."""
    cupy = pytest.importorskip("cupy")
    pytest.importorskip("cupy.cuda.nccl")
    comm = parallel.NCCL(parallel.Alone())
    for dtype in ("float32", "float64", "int64"):
        x = cupy.arange(1000).astype(dtype)
        comm.sum_(x)
        comm.broadcast_(x)
        tree_sum_(comm, x)
        comm._exchange(x, received := cupy.empty_like(x), 0)
        comm.barrier()
        for array in (x, received):
            np.testing.assert_array_equal(array.get(), np.arange(1000))
