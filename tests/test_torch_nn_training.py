"""onepass.torch.nn in whole trainings: a script with one import line swapped, DDP, what is kept."""

import copy
import socket

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from onepass.torch import fuse, nn  # noqa: E402
from test_torch_nn import ACTIVATIONS, near, randn  # noqa: E402

SCRIPT = """
import torch
from sklearn.datasets import load_digits
from torch.nn import Conv2d, Flatten, MaxPool2d, Module, Sequential
from {front} import nn


class Block(Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + x)


torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data / 16, dtype=torch.{dtype}).view(-1, 1, 8, 8)
y = torch.tensor(digits.target)
model = Sequential(
    Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.SiLU(), Block(8), MaxPool2d(2),
    nn.GroupNorm(2, 8), Flatten(), nn.Linear(128, 32), nn.LayerNorm(32), nn.GELU(),
    nn.Linear(32, 10),
).to(x.dtype)
loss_function = nn.CrossEntropyLoss(label_smoothing=0.1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
losses = []
for step in range(60):
    batch = torch.arange(step * 32, step * 32 + 32) % 1600
    optimizer.zero_grad()
    loss = loss_function(model(x[batch]), y[batch])
    loss.backward()
    optimizer.step()
    losses.append(float(loss.detach()))
model.eval()
with torch.no_grad():
    accuracy = float((model(x[1600:]).argmax(1) == y[1600:]).double().mean())
"""


def script(front, dtype):
    namespace = {"__name__": __name__}
    exec(SCRIPT.format(front=front, dtype=dtype), namespace)
    return namespace


# The bounds are those that rounding of the format allows after 60 steps, found in float64 to be
# proportional to its ulp: 2⁻⁵³ → 1e-12, hence 2⁻²⁴ → 5e-4.
@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-12), ("float32", 5e-4)])
def test_a_swap_of_the_import_line_gives_the_same_losses(dtype, bound):
    theirs, ours = script("torch", dtype), script("onepass.torch", dtype)
    assert isinstance(ours["model"][1], nn.BatchNorm2d)
    assert not isinstance(theirs["model"][1], nn.BatchNorm2d)
    assert theirs["accuracy"] > 0.85
    assert theirs["losses"][-1] < 0.6 * theirs["losses"][0]
    for one, other in zip(ours["losses"], theirs["losses"], strict=True):
        assert abs(one - other) <= bound
    assert abs(ours["accuracy"] - theirs["accuracy"]) <= (0 if dtype == "float64" else 0.02)
    state = theirs["model"].state_dict()
    assert list(ours["model"].state_dict()) == list(state)
    for key, value in ours["model"].state_dict().items():
        near(value, state[key], 100 * bound)


def kept(model, *inputs):
    """Bytes of the storages that a forward keeps for the backward, parameters apart."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages = {}

    def pack(t):
        storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = model(*inputs)
    del y
    return sum(size for at, size in storages.items() if at not in own)


C, SHAPE = 16, (8, 16, 12, 12)
SIZE = 8 * 16 * 12 * 12 * 4
theirs = torch.nn


class Added(torch.nn.Module):
    def __init__(self, norm, rest):
        super().__init__()
        self.norm, self.rest = norm, rest

    def forward(self, x, residual):
        return self.rest(self.norm(x) + residual)


# ours, torch's, how many inputs, how many tensors of the input's size we keep
KEPT = [
    (nn.BatchNorm2d(C), theirs.BatchNorm2d(C), 1, 1),
    (nn.BatchNorm2d(C, activation="relu"),
     theirs.Sequential(theirs.BatchNorm2d(C), theirs.ReLU()), 1, 1),
    (nn.BatchNorm2d(C, activation="relu"), Added(theirs.BatchNorm2d(C), theirs.ReLU()), 2, 2),
    (nn.BatchNorm2d(C), Added(theirs.BatchNorm2d(C), theirs.Identity()), 2, 1),
    (nn.BatchNorm2d(C, activation="gelu", dropout=0.3),
     theirs.Sequential(theirs.BatchNorm2d(C), theirs.GELU(), theirs.Dropout(0.3)), 1, 1),
    (nn.LayerNorm(12, activation="silu", dropout=0.1),
     theirs.Sequential(theirs.LayerNorm(12), theirs.SiLU(), theirs.Dropout(0.1)), 1, 1),
    (nn.GroupNorm(4, C, activation="mish"),
     theirs.Sequential(theirs.GroupNorm(4, C), theirs.Mish()), 1, 1),
    (nn.RMSNorm(12, activation="tanh"),
     theirs.Sequential(theirs.RMSNorm(12), theirs.Tanh()), 1, 1),
    (nn.InstanceNorm2d(C, activation="elu"),
     theirs.Sequential(theirs.InstanceNorm2d(C), theirs.ELU()), 1, 1),
    (nn.Dropout(0.3), theirs.Dropout(0.3), 1, 0),
    (nn.AlphaDropout(0.3), theirs.AlphaDropout(0.3), 1, 0),
    (nn.ReLU(), theirs.ReLU(), 1, 1),
    (nn.Softmax(-1), theirs.Softmax(-1), 1, 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "reference", "count", "tensors"), KEPT, ids=lambda v: type(v).__name__
)
def test_the_backward_keeps_inputs_statistics_and_a_seed(ours, reference, count, tensors):
    """No mask, no result between, and never more than PyTorch."""
    inputs = [randn(SHAPE, i).requires_grad_() for i in range(count)]
    bytes_ = kept(ours, *inputs)
    # statistics are three numbers a channel, group or row
    rows = SIZE // 4 // 12 if isinstance(ours, (nn.LayerNorm, nn.RMSNorm)) else 8 * C
    small = 3 * 4 * rows + 8
    assert tensors * SIZE <= bytes_ <= tensors * SIZE + small
    assert bytes_ <= kept(reference, *inputs) + small


def between_layers(make):
    """Kept by a network of two layers with ``make(library)`` between them."""
    return [kept(theirs.Sequential(*make(library), theirs.Linear(64, 8)), randn((128, 32)))
            for library in (nn, theirs)]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "GLU"])
def test_an_activation_between_layers_keeps_no_more_than_torchs(name):
    """ReLU, sigmoid and tanh their result, which is the next layer's input: nothing more."""
    ours, reference = between_layers(
        lambda library: (theirs.Linear(32, 64), getattr(library, name)())
    )
    assert ours <= reference
    if name in ("ReLU", "Sigmoid", "Tanh"):
        assert ours == reference == 128 * (32 + 64) * 4


def test_relu_behind_the_bias_of_a_layer_keeps_no_more_than_torchs():
    for dropout in (0.0, 0.3):
        ours, reference = between_layers(
            lambda library, p=dropout: (nn.Linear(32, 64, activation="relu", dropout=p),)
            if library is nn else (theirs.Linear(32, 64), theirs.ReLU(), theirs.Dropout(p))
        )  # fmt: skip
        assert ours == 128 * (32 + 64) * 4 + (8 if dropout else 0)
        assert ours <= reference


def test_a_module_that_trains_alone_under_ddp():
    """One process: the same steps and statistics as without, also of a fused model."""

    def build():
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
            torch.nn.Flatten(), nn.Linear(64, 8, activation="gelu"),
            nn.BatchNorm1d(8, activation="silu"), nn.LayerNorm(8), torch.nn.Linear(8, 5),
        )  # fmt: skip

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    distributed = torch.distributed
    distributed.init_process_group("gloo", f"tcp://localhost:{port}", rank=0, world_size=1)
    try:
        model = build()
        assert len(fuse(model).replaced) == 1
        twin = copy.deepcopy(model)
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
        loss, labels = nn.CrossEntropyLoss(), torch.tensor([0, 1, 2, 3, 4, 0])
        for step in range(3):
            x = randn((6, 3, 6, 6), step)
            for each in (wrapped, twin):
                each.zero_grad()
                loss(each(x), labels).backward()
            for p, q in zip(model.parameters(), twin.parameters(), strict=True):
                assert torch.equal(p.grad, q.grad)
                with torch.no_grad():
                    p -= 0.1 * p.grad
                    q -= 0.1 * q.grad
        for p, q in zip(model.buffers(), twin.buffers(), strict=True):
            assert torch.equal(p, q)
        # no norm of these stands alone in sync_bn's way
        with pytest.raises(RuntimeError, match="would drop activation='relu'"):
            torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    finally:
        distributed.destroy_process_group()
