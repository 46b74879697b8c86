"""One hidden layer fits a sine within a hundredth where it was trained, and not beyond.

A network of 64 tanh units comes close to any continuous function on an interval, if it is trained
there: to sin on [-π, π] it does so within 2000 steps. Outside, nothing tells it what to do.
Without the nonlinear function between them two layers are a line, and the best line is far off.
"""

import numpy as np

from onepass import nn, optim
from onepass.lab import Lab
from onepass.optim.lr_scheduler import MultiStepLR

CODE, CHAPTER, SECONDS = "C45", "generalisation", 0.9
SOURCES = ("cybenko-1989", "skoltech")

STEPS = 2000
INSIDE = np.linspace(-np.pi, np.pi, 201, dtype=np.float32)[:, None]
OUTSIDE = np.linspace(-3 * np.pi, 3 * np.pi, 1201, dtype=np.float32)[:, None]


def fit(activation: nn.Module, seed: int) -> nn.Sequential:
    """1-64-1, trained on all points at once."""
    nn.manual_seed(seed)
    model = nn.Sequential(nn.Linear(1, 64), activation, nn.Linear(64, 1))
    loss, optimizer = nn.MSELoss(), optim.Adam(model.parameters(), lr=0.01)
    scheduler = MultiStepLR(optimizer, [1500], gamma=0.1)
    for _ in range(STEPS):
        _, dy = loss(model(INSIDE), np.sin(INSIDE))
        model.backward(dy)
        optimizer.step(zero_grad=True)
        scheduler.step()
    return model.eval()


def error(model: nn.Module, x: np.ndarray) -> float:
    return float(np.abs(model(x) - np.sin(x)).max())


def run(lab: Lab) -> str:
    models = {"tanh": fit(nn.Tanh(), lab.seed), "identity": fit(nn.Identity(), lab.seed)}
    found = {name: (error(m, INSIDE), error(m, OUTSIDE)) for name, m in models.items()}
    columns = ["between the layers", "on [-π, π]", "on [-3π, 3π]"]
    lab.table(columns, [(name, *e) for name, e in found.items()], "Largest error")
    inside, outside = found["tanh"]
    lab.check("tanh: inside the error is below 0.01", inside < 0.01, f"{inside:.4f}")
    lab.check("tanh: outside it exceeds 0.5", outside > 0.5, f"{outside:.2f}")
    line = found["identity"][0]
    lab.check("identity: inside it exceeds 0.5", line > 0.5, f"{line:.3f}")

    left, right = lab.figure(1, 2)
    left.plot(OUTSIDE, np.sin(OUTSIDE), "k--", lw=1, label="sin x")
    for (name, model), style in zip(models.items(), ("-", ":"), strict=True):
        left.plot(OUTSIDE, model(OUTSIDE), style, label=f"network, {name}")
        right.semilogy(OUTSIDE, np.abs(model(OUTSIDE) - np.sin(OUTSIDE)), style, label=name)
    left.set(ylabel="output", ylim=(-3, 3), title="Trained on the shaded interval")
    right.set(ylabel="error", ylim=(1e-6, 10), title="Its error")
    for axes in (left, right):
        axes.axvspan(-np.pi, np.pi, color="gray", alpha=0.15, lw=0)
        axes.set(xlabel="x", xticks=[k * np.pi for k in (-3, -1, 0, 1, 3)])
        axes.set_xticklabels(["-3π", "-π", "0", "π", "3π"])
        axes.legend()
    return (
        f"The network is within {inside:.4f} of sin where it was trained, {outside:.1f} off beyond."
    )
