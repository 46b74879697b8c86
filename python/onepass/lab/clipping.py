"""At a cliff the gradient is huge: clipping bounds the step's length, not its direction.

Where a flat landscape rises like a wall, the gradient on the wall says nothing about how far the
flat goes. Without a bound one step from there is thrown two units away, past whatever is in
between. With max_norm a step is at most rate × max_norm long, in the same direction, and gradients
below the bound are left alone, bit for bit.
"""

from typing import Any

import numpy as np

from onepass import ops, optim
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C40", "optimisation", 0.2
SOURCES = ("pascanu-2013", "initialisation")

START, RATE, BOUND = 1.1, 0.1, 1.0


def cliff(x: np.ndarray) -> Any:
    """Flat below 1, then a slope of 20."""
    return 20 / 50 * ops.softplus(50 * (x - 1), threshold=700.0)


def slope(x: np.ndarray) -> Any:
    return 20 * ops.sigmoid(50 * (x - 1))


def walk(steps: int, max_norm: float | None) -> np.ndarray:
    """The places of descent from 1.1."""
    x = np.array([START])
    optimizer, seen = optim.SGD([x], lr=RATE), [START]
    for _ in range(steps):
        optimizer.step([slope(x)], max_norm=max_norm)
        seen.append(float(x[0]))
    return np.array(seen)


def moved(gradients: list[np.ndarray], max_norm: float | None) -> np.ndarray:
    """What one step takes from parameters at 0, as one vector."""
    parameters = [np.zeros_like(g) for g in gradients]
    optim.SGD(parameters, lr=RATE).step(gradients, max_norm=max_norm)
    return -np.concatenate([p.ravel() for p in parameters])


def run(lab: Lab) -> str:
    walks = {"no bound": walk(3, None), "max_norm 1": walk(3, BOUND)}
    rows = [(name, *w, w[0] - w[1]) for name, w in walks.items()]
    columns = ["gradient", *(f"x{k}" for k in range(4)), "first step"]
    lab.table(columns, rows, f"Descent from the cliff, rate {RATE:g}")
    first = START - walks["no bound"][1]
    expected = RATE * 20 / (1 + np.exp(-5))
    claim = f"without a bound: a step of rate × 20σ(5) = {expected:.3f}"
    lab.check(claim, abs(first - expected) < 1e-6, f"{first:.4f}")
    first = START - walks["max_norm 1"][1]
    lab.check("with it: rate × max_norm", abs(first - RATE * BOUND) < 1e-6, f"{first:.7f}")

    large = [100 * lab.rng().standard_normal((4, 3)), lab.rng(1).standard_normal(7)]
    free, bound = moved(large, None), moved(large, BOUND)
    size = float(np.linalg.norm(bound))
    claim = "of several parameters: their common norm is bounded"
    lab.check(claim, size <= RATE * BOUND * (1 + 1e-6), f"{size:.7f}")
    off = np.abs(bound / np.linalg.norm(bound) - free / np.linalg.norm(free)).max()
    lab.check("the direction is kept", off < 1e-12, f"off by {off:.1e}")
    small = [g / 1000 for g in large]
    same = np.array_equal(moved(small, None), moved(small, BOUND))
    norm = np.linalg.norm(moved(small, None)) / RATE
    lab.check("a gradient below the bound stays, bit for bit", same, f"norm {norm:.2f}")

    axes = lab.figure()
    x = np.linspace(-1.1, 1.2, 500)
    axes.plot(x, cliff(x), "k", lw=1)
    for (name, w), style in zip(walks.items(), ("o--", "s-"), strict=True):
        axes.plot(w, cliff(w), style, ms=5, label=f"{name}: {w[0] - w[1]:.2f} in the first step")
    axes.set(xlabel="x", ylabel="f(x)", title="Three steps from a cliff")
    axes.legend()
    return (
        f"Clipping turns a step of {expected:.2f} into one of {first:.2f}, in the same direction."
    )
