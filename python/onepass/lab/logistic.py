"""Separable classes have no best logistic fit: the weights grow for ever, as log t.

Where a line separates the classes, doubling the weights always lowers the loss, which is convex but
has no minimum. Gradient descent therefore never arrives: the norm of the weights grows by 0.3
and more in each decade of steps, in the limit by the same amount. A little weight decay gives the
loss a minimum, and descent is there within a thousand steps.
"""

from typing import Any

import numpy as np

from onepass import ops, optim
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C42", "landscape", 0.4
SOURCES = ("soudry-2018", "skoltech")

STEPS, RATE = 10_000, 0.5
DECADES = (100, 1000, 10_000)


def classes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """50 points around (3, 3) and 50 around (-3, -3)."""
    y = np.repeat([1.0, 0.0], 50)
    return rng.standard_normal((100, 2)) + 3 * (2 * y[:, None] - 1), y


def descend(X: np.ndarray, y: np.ndarray, decay: float) -> tuple[np.ndarray, np.ndarray]:
    """The weights, and the loss, after each step."""
    w = np.zeros(2)
    optimizer = optim.SGD([w], lr=RATE, weight_decay=decay)
    weights, losses = np.empty((STEPS, 2)), np.empty(STEPS)
    for step in range(STEPS):
        losses[step], dz = ops.bce_with_logits(X @ w, y)
        optimizer.step([X.T @ dz])
        weights[step] = w
    return weights, losses


def hessian(X: np.ndarray, w: np.ndarray) -> Any:
    p = ops.sigmoid(X @ w)
    return (X.T * (p * (1 - p))) @ X / len(X)


def run(lab: Lab) -> str:
    X, y = classes(lab.rng())
    paths = {decay: descend(X, y, decay) for decay in (0.0, 0.01)}
    norms = {decay: np.linalg.norm(w, axis=1) for decay, (w, _) in paths.items()}
    rows = [(t, norms[0.0][t - 1], paths[0.0][1][t - 1], norms[0.01][t - 1]) for t in DECADES]
    lab.table(["steps", "‖w‖", "loss", "‖w‖ with decay 0.01"], rows)
    free, decayed = ([n[t - 1] for t in DECADES] for n in norms.values())
    growth = np.diff(free).min()
    lab.check("‖w‖ grows by more than 0.3 a decade", growth > 0.3, f"at least {growth:.3f}")
    ratio = (free[2] - free[1]) / (free[1] - free[0])
    lab.check("by as much in the next, within a factor of 3", 1 / 3 < ratio < 3, f"×{ratio:.2f}")
    w = paths[0.0][0][-1]
    losses = [float(ops.bce_with_logits(X @ (k * w), y)[0]) for k in (1, 2)]
    seen = f"{losses[0]:.1e} and {losses[1]:.1e}"
    lab.check("twice the weights have a lower loss", losses[1] < losses[0], seen)
    change = abs(decayed[2] - decayed[1])
    lab.check("with decay it has arrived after 1000 steps", change < 1e-3, f"{change:.1e} more")
    least = min(
        np.linalg.eigvalsh(hessian(X, w[t - 1])).min() for w, _ in paths.values() for t in DECADES
    )
    lab.check("the loss is convex", least >= -1e-12, f"least eigenvalue {least:.1e}")

    left, right = lab.figure(1, 2)
    for label, marker in ((1, "o"), (0, "x")):
        left.plot(*X[y == label].T, marker, ms=4, label=f"class {label}")
    a, b = paths[0.01][0][-1]
    ends = np.array([-6.0, 6.0])
    left.plot(ends, -a / b * ends, "k--", lw=1, label="the line with decay")
    left.set(xlabel="x₁", ylabel="x₂", ylim=(-7, 11), title="Two classes that a line separates")
    steps = np.arange(1, STEPS + 1)
    right.semilogx(steps, norms[0.0], label="no decay")
    right.semilogx(steps, norms[0.01], "--", label="weight decay 0.01")
    right.set(xlabel="step", ylabel="‖w‖", title="Only with decay is there a minimum")
    for axes in (left, right):
        axes.legend()
    return f"Without decay ‖w‖ grows by {free[2] - free[1]:.2f} in the last decade of steps."
