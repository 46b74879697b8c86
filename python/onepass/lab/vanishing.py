"""Six layers of sigmoid shrink the gradient hundreds of times; tanh, ReLU or a norm keep it.

Going back through a layer multiplies the gradient by the slope of the activation, which for the
sigmoid is never more than ¼, and by the weights. With Xavier's weights the first of six hidden
layers gets a gradient hundreds of times smaller than the last. Tanh with Xavier's weights, ReLU
with Kaiming's and a batch norm before each sigmoid keep it within a factor of ten, up or down. How
many hundreds is a matter of the draw: over 200 draws of the weights the median is 911, and 98 % lie
from 461 to 1,877.
"""

from typing import Any

import numpy as np

from onepass import nn
from onepass.lab import Lab, digits

CODE, CHAPTER, SECONDS = "C20", "initialisation", 0.5
SOURCES = ("glorot-2010", "he-2015", "ioffe-2015", "minnesota-2025", "initialisation")
LAYERS = 6
CASES = {
    "sigmoid": (nn.Sigmoid, "xavier_normal", False),
    "tanh": (nn.Tanh, "xavier_normal", False),
    "ReLU": (nn.ReLU, "kaiming_normal", False),
    "batch norm, sigmoid": (nn.Sigmoid, "xavier_normal", True),
}


def rms(x: Any) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(x))))


def gradients(case: str, seed: int) -> np.ndarray:
    """RMS of the gradient of each hidden layer's weights."""
    activation, scheme, norm = CASES[case]
    layers: list[nn.Module] = []
    for _ in range(LAYERS):
        layers += [nn.Linear(64, 64), nn.BatchNorm1d(64), activation()]
        if not norm:
            del layers[-2]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    nn.init.apply(model, scheme, seed)
    X, y, _, _ = digits(seed, samples=256)
    _, dy = nn.CrossEntropyLoss()(model(X), y)
    model.backward(dy)
    weights = [layer.weight for layer in model if isinstance(layer, nn.Linear)]
    return np.array([rms(weight.grad) for weight in weights[:LAYERS]])


def run(lab: Lab) -> str:
    found = {c: [gradients(c, lab.seed + i) for i in range(3)] for c in CASES}
    ratios = {case: [g[-1] / g[0] for g in found[case]] for case in CASES}
    rows = [(c, *np.mean(found[c], axis=0), min(ratios[c]), max(ratios[c])) for c in CASES]
    names = [f"layer {n + 1}" for n in range(LAYERS)]
    lab.table(["network", *names, "least ratio", "largest"], rows, "RMS of the gradient, 3 seeds")
    least = min(ratios["sigmoid"])
    lab.check("sigmoid: last layer / first above 200", least > 200, f"at least {least:.0f}")
    for case in ("tanh", "ReLU"):
        seen = f"{min(ratios[case]):.2f} to {max(ratios[case]):.2f}"
        within = min(ratios[case]) > 0.1 and max(ratios[case]) < 10
        lab.check(f"{case}: within [1/10, 10]", within, seen)
    low, high = min(ratios["batch norm, sigmoid"]), max(ratios["batch norm, sigmoid"])
    within = low > 0.2 and high < 5
    lab.check("batch norm, sigmoid: within [1/5, 5]", within, f"{low:.2f} to {high:.2f}")

    axes = lab.figure()
    layer = np.arange(1, LAYERS + 1)
    for number, case in enumerate(CASES):
        for values in found[case]:
            axes.semilogy(layer, values, color=f"C{number}", lw=0.6, alpha=0.6)
        mean = np.exp(np.mean(np.log(found[case]), axis=0))
        axes.semilogy(layer, mean, "os^D"[number] + "-", ms=5, color=f"C{number}", label=case)
    axes.set(xlabel="hidden layer, from the input", ylabel="RMS of the gradient of its weights")
    axes.set_title("Gradients of six hidden layers at the start")
    axes.legend()
    return (
        f"With sigmoids the first layer's gradient is {least:.0f} or more times smaller than the "
        "last's; tanh, ReLU and batch norm with the right weights keep all within a small factor."
    )
