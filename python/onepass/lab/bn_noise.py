"""Batch norm helps even when random noise shifts its outputs at every step.

One explanation of batch norm is that it keeps the distribution of each layer's inputs still. So we
spoil just that: noise behind each norm whose mean and deviation are drawn anew for every unit and
step. The inputs of a layer then move more than without any norm, and training still goes far better
than without. So the norm must help in another way as well (Santurkar et al., 2018).
"""

import numpy as np

from onepass import nn, optim
from onepass.lab import Lab, digits
from onepass.train import Trainer

CODE, CHAPTER, SECONDS = "C25", "normalisation", 2.0
SOURCES = ("santurkar-2018", "initialisation")
EPOCHS = 10
NAMES = {"plain": "no norm", "norm": "batch norm", "noise": "batch norm, then noise"}


class Watch(nn.Module):
    """Passes x on, keeps the mean of its first unit; adds noise in training."""

    def __init__(self, noisy: bool, rng: np.random.Generator) -> None:
        self.noisy, self.rng = noisy, rng
        self.means: list[float] = []

    def forward(self, x: np.ndarray) -> np.ndarray:
        if self.training and self.noisy:
            mean = self.rng.uniform(-0.5, 0.5, x.shape[1])
            deviation = 0.5 * self.rng.uniform(1, 1.25, x.shape[1])
            x = x + (mean + deviation * self.rng.standard_normal(x.shape)).astype(x.dtype)
        if self.training:
            self.means.append(float(x[:, 0].mean()))
        return x

    def backward(self, dy: np.ndarray, *, need_input_grad: bool = True) -> np.ndarray:
        return dy


def training(lab: Lab, kind: str) -> tuple[list[float], list[float]]:
    """Test accuracy of each epoch; means of an input of the last activation, step by step."""
    X, y, X_test, y_test = digits(lab.seed)
    nn.manual_seed(lab.seed)
    layers: list[nn.Module] = []
    for number, size in enumerate((64, 128, 128)):
        layers.append(nn.Linear(size, 128))
        if kind != "plain":
            layers.append(nn.BatchNorm1d(128))
        watch = Watch(kind == "noise", lab.rng(number))
        layers += [watch, nn.Sigmoid()]
    model = nn.Sequential(*layers, nn.Linear(128, 10))
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        metrics=["accuracy"], seed=lab.seed, progress=False,
    )  # fmt: skip
    history = trainer.fit(X, y, max_epochs=EPOCHS, validation_data=(X_test, y_test))
    return history["val_accuracy"], watch.means


def run(lab: Lab) -> str:
    found = {kind: training(lab, kind) for kind in NAMES}
    test = {kind: accuracy[-1] for kind, (accuracy, _) in found.items()}
    moves = {kind: float(np.std(np.diff(means))) for kind, (_, means) in found.items()}
    rows = [(NAMES[kind], test[kind], moves[kind]) for kind in NAMES]
    lab.table(["network", "test accuracy", "deviation of a unit's mean, step to step"], rows)
    lab.check("norm and noise: above 0.85", test["noise"] > 0.85, f"{test['noise']:.3f}")
    seen = f"{test['noise']:.3f}, {test['plain']:.3f}"
    gain = test["noise"] - test["plain"]
    lab.check("norm and noise: 0.2 above no norm", gain > 0.2, seen)
    seen = f"{moves['noise']:.2f}, {moves['plain']:.2f}"
    lab.check("its inputs move more than without", moves["noise"] > moves["plain"], seen)

    curves, inputs = lab.figure(1, 2)
    for number, kind in enumerate(NAMES):
        accuracy, means = found[kind]
        curves.plot(range(1, EPOCHS + 1), accuracy, "os^"[number] + "-", ms=5, label=NAMES[kind])
        order = {"plain": 3, "norm": 2, "noise": 1}[kind]
        inputs.plot(means, lw=0.8, color=f"C{number}", zorder=order, label=NAMES[kind])
    curves.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1), title="Three sigmoid layers")
    curves.legend(loc=(0.4, 0.6))
    inputs.set(
        xlabel="step", ylabel="mean over the batch", title="Input of a unit of the last layer"
    )
    inputs.legend()
    return (
        f"With its inputs shaken at every step the network with norms still gets "
        f"{test['noise']:.0%} right, against {test['plain']:.0%} without norms."
    )
