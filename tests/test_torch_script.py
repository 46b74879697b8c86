"""A training script of PyTorch, and the same with one import line swapped."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

SCRIPT = """
import torch
from sklearn.datasets import load_digits
from torch import nn
from {front} import optim
from {scaler} import GradScaler

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data / 16, dtype=torch.float32)
y = torch.tensor(digits.target)
model = nn.Sequential(
    nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)
)
decay = [p for p in model.parameters() if p.ndim > 1]
plain = [p for p in model.parameters() if p.ndim <= 1]
optimizer = optim.{name}(
    [{{"params": decay, "weight_decay": 0.05}}, {{"params": plain, "weight_decay": 0.0}}], lr={lr}
)
warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=10)
cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 90)
scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, cosine], [10])
scaler = GradScaler("cpu", init_scale=2.0**8, growth_interval=20)
losses = []
for step in range(100):
    batch = torch.arange(step * 64, step * 64 + 64) % len(x)
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x[batch]), y[batch], label_smoothing=0.1)
    scaler.scale(loss).backward()
    if step == 30:
        model[0].weight.grad[0, 0] = torch.inf
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    scaler.step(optimizer)
    scaler.update()
    scheduler.step()
    losses.append(float(loss.detach()))
"""


def losses(front, scaler, name, lr):
    namespace = {}
    exec(SCRIPT.format(front=front, scaler=scaler, name=name, lr=lr), namespace)
    return namespace["losses"], namespace["model"], namespace["scaler"].get_scale()


@pytest.mark.parametrize(
    ("name", "lr"),
    [("AdamW", 3e-3), ("SGD", 0.1), ("NAdam", 3e-3), ("RMSprop", 1e-3), ("Adagrad", 1e-2)],
)
def test_a_swap_of_the_import_line_gives_the_same_losses(name, lr):
    """To float32 rounding: a step rounds an element a few times, here 16 halves of an ulp of the
    largest weight, and a loss of 100 steps moves by no more than all of them together."""
    theirs, model, scale = losses("torch", "torch.amp", name, lr)
    ours, twin, own = losses("onepass.torch", "onepass.torch", name, lr)
    assert own == scale
    assert theirs[-1] < 0.8 * theirs[0]
    bound = 100 * 16 * 2.0**-24
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound)
    for p, q in zip(twin.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=10 * bound)
