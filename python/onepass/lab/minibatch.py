"""A mini-batch gradient is unbiased, and a formula gives its variance.

Of m samples, batches of b drawn without replacement: over all of them the mean of the gradients is
the full gradient, and their variance S²/b·(1 - b/m), S² the variance of the samples' gradients.
All batches of 8 samples are taken here, so both hold to the last digits. Copies in the data add
nothing: the gradient of three samples is that of nine, each of them thrice.

Batch norm ends this: a sample's output depends on the others of its batch, so the mean over batches
is another gradient than that of all samples.
"""

from itertools import combinations

import numpy as np

from onepass import nn, ops
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C11", "optimisation", 0.3
SOURCES = ("cochran-1977", "optimization-3")
SAMPLES = 8


def network(norm: bool) -> nn.Sequential:
    """One hidden layer, float64."""
    between = [nn.BatchNorm1d(6, dtype="float64")] if norm else []
    first, last = nn.Linear(3, 6, dtype="float64"), nn.Linear(6, 2, dtype="float64")
    return nn.Sequential(first, *between, nn.Tanh(), last)


def gradient(model: nn.Module, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of the mean loss, all parameters in one vector."""
    _, dy = ops.cross_entropy(model(X), y)
    model.zero_grad()
    model.backward(dy)
    return np.concatenate([p.grad.ravel() for p in model.parameters() if p.grad is not None])


def over_batches(model: nn.Module, X: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """The gradient of every batch of this size."""
    chosen = combinations(range(SAMPLES), size)
    return np.array([gradient(model, X[list(batch)], y[list(batch)]) for batch in chosen])


def run(lab: Lab) -> str:
    rng = lab.rng()
    X, y = rng.standard_normal((SAMPLES, 3)), rng.integers(0, 2, SAMPLES)
    nn.manual_seed(lab.seed)
    model = network(norm=False)
    full = gradient(model, X, y)
    S2 = over_batches(model, X, y, 1).var(axis=0, ddof=1)
    rows, clouds = [], {}
    for size in range(1, SAMPLES + 1):
        cloud = clouds[size] = over_batches(model, X, y, size)
        formula = S2 / size * (1 - size / SAMPLES)
        means, variances = np.abs(cloud.mean(axis=0) - full), np.abs(cloud.var(axis=0) - formula)
        rows.append(
            (size, len(cloud), cloud.var(axis=0).sum(), formula.sum(), means.max(), variances.max())
        )
    columns = ["b", "batches", "variance", "S²/b·(1-b/m)", "mean off by", "variance off by"]
    lab.table(columns, rows, f"All batches of {SAMPLES} samples, summed over parameters")
    mean, variance = np.max(rows, axis=0)[-2:]
    lab.check("the mean over all batches of b is the full gradient", mean < 1e-14, f"{mean:.1e}")
    lab.check("their variance is S²/b·(1 - b/m)", variance < 1e-14, f"off by {variance:.1e}")
    thrice = np.repeat(np.arange(3), 3)
    off = np.abs(gradient(model, X[thrice], y[thrice]) - gradient(model, X[:3], y[:3])).max()
    lab.check(
        "three samples, each thrice, have the gradient of the three", off < 1e-12, f"{off:.1e}"
    )
    normed = network(norm=True)
    parts = over_batches(normed, X, y, 4).mean(axis=0)
    off = np.abs(parts - gradient(normed, X, y)).max()
    lab.check("with batch norm the mean over batches of 4 is another", off > 1e-3, f"by {off:.3f}")

    left, right = lab.figure(1, 2)
    i, j = np.argsort(-S2[:18])[:2]  # weights of the first layer
    for size, marker in ((1, "o"), (3, "s"), (6, "^")):
        left.scatter(*clouds[size][:, [i, j]].T, 14, marker=marker, label=f"b = {size}")
    left.plot(full[i], full[j], "k+", markersize=14, label="full gradient")
    left.set(
        xlabel="one element of the gradient", ylabel="another", title="All batches of b samples"
    )
    sizes = np.linspace(1, SAMPLES, 100)
    right.plot(sizes, S2.sum() / sizes, "--", label="S²/b, with replacement")
    right.plot(sizes, S2.sum() / sizes * (1 - sizes / SAMPLES), label="S²/b·(1 - b/m)")
    right.plot(*zip(*((row[0], row[2]) for row in rows), strict=True), "ko", label="all batches")
    right.set(xlabel="batch size b", ylabel="variance of the gradient", title="Variance, exact")
    for axes in (left, right):
        axes.legend(fontsize="small")
    return "Mean and variance are exact; with batch norm a mean over batches is another gradient."
