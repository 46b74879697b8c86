"""An L1 penalty makes weights exactly zero; an L2 penalty only makes them small.

Three of twenty features matter. The soft threshold, the option l1 of every optimizer, moves each
weight after the step towards zero by rate × λ, and leaves it at zero where it would cross it. Two
others do not end there: the square (ridge) pulls less the smaller a weight is, and a gradient step
with λ·sign(w) jumps over zero and back.
"""

from typing import Any

import numpy as np

from onepass import optim
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C30", "regularisation", 0.4
SOURCES = ("tibshirani-1996", "daubechies-2004", "minnesota-2025", "optimization-3")
SUPPORT = [2, 7, 11]
PENALTY = 0.15
STEPS, SHOWN = 500, 60


def problem(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """200 samples of 20 features, of which three matter."""
    X = rng.standard_normal((200, 20))
    return X, X[:, SUPPORT] @ np.array([1.5, -2.0, 2.5]) + 0.5 * rng.standard_normal(200)


def gradient(X: np.ndarray, y: np.ndarray, w: np.ndarray) -> Any:
    """Of the mean of ½(Xw - y)²."""
    return X.T @ (X @ w - y) / len(y)


def descend(
    X: np.ndarray, y: np.ndarray, sign: float = 0.0, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The weights at the end, and after every step; ``sign`` is the λ of λ·sign(w)."""
    w = np.zeros(X.shape[1])
    optimizer = optim.SGD([w], lr=1.0 / np.linalg.eigvalsh(X.T @ X / len(y)).max(), **options)
    seen = []
    for _ in range(STEPS):
        optimizer.step([gradient(X, y, w) + sign * np.sign(w)])
        seen.append(w.copy())
    return w, np.array(seen)


def run(lab: Lab) -> str:
    X, y = problem(lab.rng())
    largest = float(np.abs(X.T @ y / len(y)).max())
    ways = {
        "soft threshold": descend(X, y, l1=PENALTY),
        "ridge": descend(X, y, weight_decay=PENALTY),
        "λ·sign(w)": descend(X, y, sign=PENALTY),
    }
    ends = {name: w for name, (w, _) in ways.items()}
    rows = [(n, np.sum(w == 0), np.abs(w).min(), np.abs(w[SUPPORT]).min()) for n, w in ends.items()]
    lab.table(["penalty", "exact zeros", "least |w|", "least that matters"], rows)
    w = ends["soft threshold"]
    found = np.flatnonzero(w).tolist()
    lab.check("the soft threshold keeps the three that matter", found == SUPPORT, found)
    zeros = sum(int(np.sum(ends[name] == 0)) for name in ("ridge", "λ·sign(w)"))
    lab.check("ridge and the plain gradient reach no zero", zeros == 0, f"{zeros} zeros")
    others = np.delete(np.sign(ways["λ·sign(w)"][1][-100:]), SUPPORT, axis=1)
    crossings = int(np.sum(np.diff(others, axis=0) != 0, axis=0).min())
    claim = "with λ·sign(w) the others jump over zero and back"
    lab.check(claim, crossings > 10, f"at least {crossings} times in the last 100 steps")
    pull = float(np.abs(gradient(X, y, w) + PENALTY * np.sign(w))[SUPPORT].max())
    lab.check("where w is not 0 the gradient is -λ·sign(w)", pull < 1e-9, f"off by {pull:.1e}")
    ridge = np.linalg.solve(X.T @ X / len(y) + PENALTY * np.eye(20), X.T @ y / len(y))
    off = float(np.abs(ends["ridge"] - ridge).max())
    lab.check("ridge is at its formula's weights", off < 1e-9, f"off by {off:.1e}")
    force = float(np.abs(gradient(X, y, w)[w == 0]).max())
    lab.check("no gradient at a zero exceeds λ", force <= PENALTY + 1e-6, f"largest {force:.4f}")
    none = int(np.count_nonzero(descend(X, y, l1=1.0001 * largest)[0]))
    left = f"λ {largest:.3f}, {none} left"
    lab.check("above λ = max |Xᵀy|/n all weights are zero", none == 0, left)

    axes = lab.figure(1, 3, sharey=True)
    for ax, (name, (_, seen)) in zip(axes, ways.items(), strict=True):
        for feature, curve in enumerate(np.abs(seen).T):
            matters = feature in SUPPORT
            color = "C1" if matters else "C0"
            ax.plot(np.maximum(curve[:SHOWN], 1e-6), color=color, lw=1.6 if matters else 0.7)
        ax.set(yscale="log", ylim=(8e-7, 5), xlabel="step", title=name)
    axes[0].set_ylabel("|w|, zeros drawn at 10⁻⁶")
    axes[0].plot([], [], color="C1", label="the three that matter")
    axes[0].plot([], [], color="C0", label="the others")
    axes[0].legend(loc="center right")
    return f"The soft threshold finds the three features and sets {20 - len(found)} weights to 0."
