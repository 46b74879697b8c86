"""No linear model computes XOR; two hidden units do, and a network learns it from samples.

The best linear fit of XOR says one half everywhere. With one hidden layer relu(a + b) - 2 relu(a +
b - 1) is XOR exactly. For points of the plane, whose class is whether their coordinates have the
same sign, a small network with batch norm finds such a function in twenty epochs.
"""

import numpy as np

from onepass import nn, ops, optim
from onepass.data import DataLoader
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C44", "generalisation", 0.4
SOURCES = ("minsky-1969", "skoltech")

CORNERS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], np.float32)
XOR = np.array([0.0, 1.0, 1.0, 0.0])


def by_hand() -> nn.Sequential:
    """relu(a + b) - 2 relu(a + b - 1)."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1, bias=False))
    hidden, shifts, output = (parameter.data for parameter in model.parameters())
    hidden[:], shifts[:], output[:] = 1.0, [0.0, -1.0], [[1.0, -2.0]]
    return model


def learned(X: np.ndarray, y: np.ndarray, seed: int) -> nn.Sequential:
    """2-32-2 with batch norm, 20 epochs."""
    nn.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
    loss, optimizer = nn.CrossEntropyLoss(), optim.AdamW(model.parameters(), lr=0.01)
    loader = DataLoader(X, y, batch_size=64, shuffle=True, seed=seed)
    for _ in range(20):
        for inputs, targets in loader:
            _, dy = loss(model(inputs), targets)
            model.backward(dy)
            optimizer.step(max_norm=1.0, zero_grad=True)
    return model.eval()


def run(lab: Lab) -> str:
    A = np.column_stack([CORNERS, np.ones(4)])
    line = A @ np.linalg.lstsq(A, XOR, rcond=None)[0]
    hand = by_hand()
    two = hand(CORNERS)[:, 0]
    rows = [(f"{a:.0f}, {b:.0f}", *v) for (a, b), *v in zip(CORNERS, XOR, line, two, strict=True)]
    lab.table(["a, b", "XOR", "best linear fit", "two hidden units"], rows)
    off = np.abs(line - 0.5).max()
    lab.check("the best linear fit is ½ everywhere", off < 1e-12, f"off by {off:.1e}")
    lab.check("two hidden units are XOR exactly", bool(np.all(two == XOR)))
    X = lab.rng().standard_normal((1024, 2), np.float32)
    y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
    model = learned(X, y, lab.seed)
    accuracy = float(np.mean(model(X).argmax(axis=1) == y))
    lab.check("a network learns it from 1024 points", accuracy > 0.93, f"accuracy {accuracy:.3f}")

    left, right = lab.figure(1, 2)
    grid = np.stack(np.meshgrid(*2 * [np.linspace(-0.3, 1.3, 161)]), axis=-1).astype(np.float32)
    shown = left.contourf(
        grid[..., 0], grid[..., 1], hand(grid.reshape(-1, 2)).reshape(161, 161),
        levels=np.linspace(-0.75, 1.25, 17), cmap="cividis", extend="both",
    )  # fmt: skip
    left.scatter(*CORNERS.T, s=90, c=XOR, cmap="gray", edgecolors="white")
    left.set(xlabel="a", ylabel="b", title="Two hidden units (white corners: XOR is 1)")
    left.figure.colorbar(shown, ax=left, label="output")
    grid = np.stack(np.meshgrid(*2 * [np.linspace(-3, 3, 161)]), axis=-1).astype(np.float32)
    p = ops.softmax(model(grid.reshape(-1, 2)))[:, 1].reshape(161, 161)
    shown = right.contourf(
        grid[..., 0], grid[..., 1], p, levels=np.linspace(0, 1, 11), cmap="cividis"
    )
    for label, marker in ((1, "o"), (0, "x")):
        right.plot(*X[:300][y[:300] == label].T, f"k{marker}", ms=3, mfc="white", label=label)
    right.set(xlabel="a", ylabel="b", xlim=(-3, 3), ylim=(-3, 3), title="Learned from points")
    right.figure.colorbar(shown, ax=right, label="probability of equal signs")
    return f"A line says ½ to everything; a network with one hidden layer reaches {accuracy:.3f}."
