"""A step function has no gradient to follow; the perceptron learns from its mistakes.

The output sign(w·x) does not change where w changes a little, so the gradient of any loss of it is
zero and says nothing. The perceptron's rule needs none: at each mistake add the sample to the
weights, with its class's sign. Where the classes can be separated with a margin γ, and no sample is
longer than R, it makes at most (R/γ)² mistakes, whatever the number of samples (Novikoff, 1962).
"""

import numpy as np

from onepass import optim
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C43", "optimisation", 0.2
SOURCES = ("rosenblatt-1958", "novikoff-1962", "minnesota-2025")

MARGIN, SAMPLES = 0.2, 200


def separable(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points of the plane at least MARGIN away from a line through 0; classes -1 and 1."""
    direction = rng.standard_normal(2)
    direction /= np.linalg.norm(direction)
    X = rng.standard_normal((2 * SAMPLES, 2))
    distance = X @ direction
    far = np.abs(distance) > MARGIN
    return X[far][:SAMPLES], np.sign(distance[far])[:SAMPLES]


def loss(w: np.ndarray, X: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean((np.sign(X @ w) - y) ** 2))


def slopes(w: np.ndarray, X: np.ndarray, y: np.ndarray, h: float = 1e-9) -> list[float]:
    """The gradient by central differences."""
    return [(loss(w + e, X, y) - loss(w - e, X, y)) / (2 * h) for e in h * np.eye(2)]


def learn(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The weights, and those after each mistake: steps of SGD with the gradient -y·x."""
    w = np.zeros(2)
    optimizer = optim.SGD([w], lr=1.0)
    seen: list[np.ndarray] = []
    while np.any(y * (X @ w) <= 0) and len(seen) < 10_000:
        for x, label in zip(X, y, strict=True):
            if label * (x @ w) <= 0:
                optimizer.step([-label * x])
                seen.append(w.copy())
    return w, seen


def run(lab: Lab) -> str:
    rows = []
    for draw in range(3):
        X, y = separable(lab.rng(draw))
        w, seen = learn(X, y)
        bound = (np.linalg.norm(X, axis=1).max() / MARGIN) ** 2
        rows.append((draw, len(X), len(seen), bound, np.mean(np.sign(X @ w) != y)))
    lab.table(["draw", "samples", "mistakes", "(R/γ)²", "error at the end"], rows)
    within = all(mistakes <= bound for _, _, mistakes, bound, _ in rows)
    most = max(row[2] for row in rows)
    lab.check("mistakes are at most (R/γ)²", within, f"at most {most}")
    lab.check("no error is left", max(row[-1] for row in rows) == 0.0)
    trials = lab.rng(3).standard_normal((200, 2))
    steepest = max(abs(s) for w in trials for s in slopes(w, X, y))
    lab.check("the step's gradient is 0 at 200 random w", steepest == 0.0, steepest)

    left, right = lab.figure(1, 2)
    turns = np.linspace(0.0, 60.0, 1201)
    angles = np.deg2rad(turns) + np.arctan2(*w[::-1])
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    left.plot(turns, [loss(w, X, y) for w in around])
    left.set(xlabel="turn of w from the last line, degrees", ylabel="mean (sign(w·x) - y)²")
    left.set_title("The loss is a staircase: its slope is 0")
    for label, marker in ((1, "o"), (-1, "x")):
        right.plot(*X[y == label].T, marker, ms=4, label=f"class {label}")
    ends = np.array([-1.0, 1.0])
    for k, w in enumerate(seen):
        a, b = np.array([-w[1], w[0]]) / np.linalg.norm(w) * 5
        last = k == len(seen) - 1
        right.plot(a * ends, b * ends, "k" if last else "0.7", lw=1.6 if last else 0.8)
    right.plot([], [], "k", label=f"after mistake {len(seen)}, the last")
    right.set(xlabel="x₁", ylabel="x₂", xlim=(-4, 4), ylim=(-4, 4))
    right.set(title="The line after each mistake")
    right.legend(loc="upper right", frameon=True, framealpha=1, edgecolor="none")
    return f"The perceptron made at most {most} mistakes and then separated all classes."
