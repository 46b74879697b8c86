"""The scaling of the features decides how fast gradient descent converges.

The curvature of least squares is XᵀX/m, and descent needs some κ steps, the ratio of its largest to
its smallest eigenvalue. Features of different units and with a mean make κ huge. Dividing each by
its deviation leaves (1 + |r|)/(1 - |r|), which only their correlation r decides; whitening removes
that too, and a single step is enough. Centring alone can make κ larger.
"""

import numpy as np

from onepass import optim
from onepass.data import Standardize, Whiten
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C21", "data", 0.6
SOURCES = ("lecun-1998", "minnesota-2025")
MOST = 1000  # steps
MINIMUM = np.array([1.0, 0.5])


def features(lab: Lab, correlation: float) -> np.ndarray:
    """1000 samples of a feature of size 1 around 5, and one of size 100 around -300."""
    z = lab.rng().standard_normal((1000, 2))
    z[:, 1] = correlation * z[:, 0] + np.sqrt(1 - correlation**2) * z[:, 1]
    return z * (1, 100) + (5, -300)


def condition(X: np.ndarray) -> float:
    low, high = np.linalg.eigvalsh(X.T @ X / len(X))
    return float(high / low)


def descent(X: np.ndarray) -> np.ndarray:
    """The path of w from (0, 0) until 0.1 % of the way to the minimum is left, at rate 1/L."""
    curvature = X.T @ X / len(X)
    w = np.zeros(2)
    optimizer = optim.SGD([w], lr=1 / np.linalg.eigvalsh(curvature)[-1])
    path = [w.copy()]
    while np.linalg.norm(w - MINIMUM) > 1e-3 * np.linalg.norm(MINIMUM) and len(path) <= MOST:
        optimizer.step([curvature @ (w - MINIMUM)])
        path.append(w.copy())
    return np.array(path)


def run(lab: Lab) -> str:
    rows, paths = [], {}
    for rho in (0.0, 0.95):
        X = features(lab, rho)
        r = abs(np.corrcoef(X.T)[0, 1])
        versions = {
            "raw": X, "centred": X - X.mean(axis=0),
            "normalised": Standardize().fit_transform(X), "whitened": Whiten().fit_transform(X),
        }  # fmt: skip
        kappa = {name: condition(Z) for name, Z in versions.items()}
        paths = {name: descent(Z) for name, Z in versions.items()}
        for name, path in paths.items():
            steps = len(path) - 1 if len(path) <= MOST else f"over {MOST}"
            rows.append((f"{rho:g}", name, kappa[name], steps))
        off = abs(kappa["normalised"] / ((1 + r) / (1 - r)) - 1)
        case = f"correlation {rho:g}:"
        lab.check(f"{case} normalised has (1+|r|)/(1-|r|)", off < 1e-9, f"off by {off:.1e}")
        off = abs(kappa["whitened"] - 1)
        lab.check(f"{case} whitened has κ = 1", off < 1e-9, f"off by {off:.1e}")
        seen = f"{kappa['centred']:.0f}"
        lab.check(f"{case} centred has κ above 1000", kappa["centred"] > 1e3, seen)
        lab.check(f"{case} raw has κ above 1000", kappa["raw"] > 1e3, f"{kappa['raw']:.0f}")
        most = kappa["normalised"] * np.log(1000)
        steps = len(paths["normalised"]) - 1
        lab.check(f"{case} normalised takes at most κ ln 1000 steps", steps <= most, steps)
        steps = len(paths["whitened"]) - 1
        lab.check(f"{case} whitened takes a single step", steps == 1, steps)
    worse = kappa["centred"] / kappa["raw"]
    lab.check("correlation 0.95: centring makes κ twice as large", worse > 2, f"×{worse:.1f}")
    lab.table(["correlation", "features", "κ", "steps"], rows)

    grid = np.linspace(-0.4, 1.4, 101)
    u, v = np.meshgrid(grid - MINIMUM[0], grid - MINIMUM[1])
    for axes, (name, Z), row in zip(lab.figure(2, 2).flat, versions.items(), rows[4:], strict=True):
        (a, b), (_, c) = Z.T @ Z / len(Z)
        loss = a * u**2 + 2 * b * u * v + c * v**2
        levels = loss.max() * np.geomspace(1e-5, 1, 11)
        axes.contour(grid, grid, loss, levels=levels, colors="0.6", linewidths=0.8)
        axes.plot(*paths[name].T, "o-", ms=3, lw=1.2, color="C0")
        axes.plot(*MINIMUM, "k*", ms=11)
        axes.set(xlabel="weight of feature 1", ylabel="weight of feature 2", aspect="equal")
        axes.set_title(f"{name}: κ = {row[2]:.3g}, steps: {row[3]}")
    return (
        f"With a correlation of 0.95, κ is {kappa['raw']:.0f} raw, {kappa['normalised']:.0f} "
        f"normalised, 1 whitened; descent takes over {MOST}, {rows[6][3]} and {rows[7][3]} steps."
    )
