"""Ridge regression: a moderate penalty beats both almost none and too much.

Powers 1 to 14 of x, standardised, are fitted to 21 points of a parabola with noise, at a cost of
λ/2 times the squared norm of the weights. More λ means smaller weights and a larger error on the
given points, always. On new points there is a best λ between a fit of the noise and no fit at all.
The penalty is what optimizers call weight_decay: gradient descent with it ends at the formula's
weights.
"""

from typing import Any

import numpy as np

from onepass import optim
from onepass.data import Standardize
from onepass.lab import Lab
from onepass.lab.poly_degree import END, points

CODE, CHAPTER, SECONDS = "C29", "regularisation", 0.5
SOURCES = ("hoerl-1970", "optimization-3")

LAMBDAS = np.geomspace(1e-10, 1e4, 29)


def powers(x: np.ndarray, degree: int) -> np.ndarray:
    return (2 * x[:, None] / END - 1) ** np.arange(1, degree + 1)


def solve(X: np.ndarray, y: np.ndarray, penalty: float) -> Any:
    """The weights of least ½ ‖Xw - y‖² + ½ penalty·‖w‖²."""
    u, s, v = np.linalg.svd(X, full_matrices=False)
    return v.T @ (s / (s**2 + penalty) * (u.T @ y))


def descend(X: np.ndarray, y: np.ndarray, penalty: float, steps: int = 4000) -> np.ndarray:
    """The same by gradient descent with weight_decay."""
    w = np.zeros(X.shape[1])
    rate = 1.0 / (np.linalg.eigvalsh(X.T @ X).max() + penalty)
    optimizer = optim.SGD([w], lr=rate, weight_decay=penalty)
    for _ in range(steps):
        optimizer.step([X.T @ (X @ w - y)])
    return w


def path(rng: np.random.Generator) -> np.ndarray:
    """For every λ: error on given points, on new points, norm of the weights."""
    (x, y), (x_new, y_new) = points(21, rng), points(201, rng)
    scale = Standardize()
    X, X_new = scale.fit_transform(powers(x, 14)), scale.transform(powers(x_new, 14))
    rows = []
    for penalty in LAMBDAS:
        w = solve(X, y - y.mean(), penalty)
        errors = [np.mean((Z @ w + y.mean() - t) ** 2) for Z, t in ((X, y), (X_new, y_new))]
        rows.append([*errors, np.linalg.norm(w)])
    return np.array(rows)


def run(lab: Lab) -> str:
    found = np.array([path(lab.rng(draw)) for draw in range(10)])  # (10, λ, 3)
    train, test, norm = np.moveaxis(found, -1, 0)
    best = test.argmin(axis=1)
    mean = found.mean(axis=0)
    rows = [(LAMBDAS[k], *mean[k]) for k in range(0, len(LAMBDAS), 4)]
    lab.table(["λ", "given points", "new points", "‖w‖"], rows, "Errors, mean of 10 draws")
    fall = np.diff(train, axis=1).min()
    lab.check("the error on given points never falls", fall > -1e-9, f"least change {fall:.1e}")
    rise = np.diff(norm, axis=1).max()
    lab.check("the weights never grow", rise < 1e-9, f"largest change {rise:.1e}")
    inner = bool(np.all((best > 0) & (best < len(LAMBDAS) - 1)))
    seen = f"λ {LAMBDAS[best.min()]:.2g} to {LAMBDAS[best.max()]:.2g}"
    lab.check("the best λ is between the ends", inner, seen)
    least, ends = mean[:, 1].min(), mean[[0, -1], 1]
    seen_ends = f"{least:.1f}, ends {ends[0]:.1f} and {ends[1]:.1f}"
    lab.check("its mean error is below 0.8 of both ends", least < 0.8 * ends.min(), seen_ends)
    x, y = points(21, lab.rng())
    X, y = Standardize().fit_transform(powers(x, 3)), y - y.mean()
    off = np.abs(descend(X, y, 0.1) - solve(X, y, 0.1)).max()
    lab.check("SGD with weight_decay ends at the formula", off < 1e-6, f"off by {off:.1e}")

    left, right = lab.figure(1, 2, sharex=True)
    for row in test:
        left.loglog(LAMBDAS, row, "C0", lw=0.5, alpha=0.5)
    left.loglog(LAMBDAS, mean[:, 1], "C0", label="new points (thin: each draw)")
    left.loglog(LAMBDAS, mean[:, 0], "C1--", label="given points")
    left.axhline(4.0, color="gray", lw=1, ls=":", label="variance of the noise")
    left.set(xlabel="penalty λ", ylabel="mean squared error", title="Error, mean of 10 draws")
    left.legend()
    right.loglog(LAMBDAS, mean[:, 2])
    right.set(xlabel="penalty λ", ylabel="‖w‖", title="Size of the weights")
    return f"New points are predicted best at {seen}: error {seen_ends}."
