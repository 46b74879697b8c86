"""A little noise gets descent off a saddle; a flat saddle takes far longer to leave.

Three landscapes without bad minima. Started on its ridge, gradient descent walks into a saddle and
stays; a little noise on the gradient, and it leaves for a minimum. The factors U of UUᵀ ≈ M have
only saddles besides the minima, so that descent from a small random start finds M. A product of
four numbers has a saddle at zero without any curvature: the time to leave it grows as 1/start².
"""

import numpy as np

from onepass import optim
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C39", "landscape", 1.2
SOURCES = ("ge-2015", "ge-2016", "initialisation")


def saddle(steps: int, noise: float, seed: int) -> np.ndarray:
    """(x, y) of each step on ½(x² - y²) + ¼y⁴, from (1, 0)."""
    w = np.array([1.0, 0.0])
    optimizer = optim.SGD([w], lr=0.1, noise=noise, seed=seed)
    seen = []
    for _ in range(steps):
        optimizer.step([np.array([w[0], w[1] ** 3 - w[1]])])
        seen.append(w.copy())
    return np.array(seen)


def low_rank(rng: np.random.Generator) -> np.ndarray:
    """‖UUᵀ - M‖² at each step, M 20×20 with the eigenvalues 3, 2, 1 and 0."""
    basis = np.linalg.qr(rng.standard_normal((20, 3)))[0]
    target = basis @ np.diag([3.0, 2.0, 1.0]) @ basis.T
    u = 0.01 * rng.standard_normal((20, 3))
    optimizer, seen = optim.SGD([u], lr=0.05), []
    for _ in range(2000):
        residual = u @ u.T - target
        optimizer.step([residual @ u])
        seen.append(np.sum(residual**2))
    return np.array(seen)


def product(start: float, most: int = 60000) -> np.ndarray:
    """w1 w2 w3 w4 at each step, fitted to 1 with ½(product - 1)², until it is within 0.001."""
    w = np.full(4, start)
    optimizer, seen = optim.SGD([w], lr=0.1), [start**4]
    while abs(seen[-1] - 1) > 1e-3 and len(seen) <= most:
        a, b, c, d = w.tolist()
        optimizer.step([(seen[-1] - 1) * np.array([b * c * d, a * c * d, a * b * d, a * b * c])])
        seen.append(float(np.prod(w)))
    return np.array(seen)


def run(lab: Lab) -> str:
    still = saddle(2000, 0.0, 0)
    there = np.all(still[:, 1] == 0.0) and abs(still[-1, 0]) < 1e-9
    lab.check("without noise it walks into (0, 0), y stays 0", there, "2000 steps")
    curvatures = np.array([1.0, 3 * still[-1, 1] ** 2 - 1])  # the Hessian is diagonal
    seen = f"{curvatures[0]:g} and {curvatures[1]:g}"
    lab.check("where curvatures have both signs", curvatures.min() < 0 < curvatures.max(), seen)
    seeds, rows = range(20 * lab.seed, 20 * lab.seed + 20), []
    walks = {noise: np.abs([saddle(300, noise, s)[:, 1] for s in seeds]) for noise in (1e-2, 1e-4)}
    for noise, walk in walks.items():
        steps = np.argmax(walk > 0.9, axis=1) + 1
        rows.append((f"saddle, noise {noise:g}", steps.min(), steps.max()))
        claim = f"noise {noise:g}: 20 of 20 leave within 300 steps"
        lab.check(claim, walk.max(axis=1).min() > 0.9, f"{steps.min()} to {steps.max()}")
    ranks = np.array([low_rank(lab.rng(draw)) for draw in range(5)])
    worst = ranks[:, -1].max()
    lab.check("UUᵀ reaches M from 5 of 5 starts", worst < 1e-8, f"at most {worst:.0e} left")
    products = {start: product(start) for start in (0.5, 0.1, 0.01)}
    times = {start: len(z) - 1 for start, z in products.items()}
    rows += [(f"product from {start:g}", times[start], times[start]) for start in times]
    lab.table(["landscape", "least steps", "most steps"], rows)
    lab.check("a product that starts at 0 never moves", not product(0.0, 2000).any(), "2000 steps")
    ratio = times[0.01] / times[0.1]
    lab.check("a tenth of the start takes 100 times as long", 80 < ratio < 120, f"{ratio:.1f}")
    left, middle, right = lab.figure(1, 3)
    for color, (noise, walk) in zip(("C0", "C1"), walks.items(), strict=True):
        labels = [f"noise {noise:g}, 20 runs", *[""] * 19]
        left.plot(walk.T, color=color, lw=0.7, label=labels)
    left.plot(np.abs(still[:300, 1]), "k--", label="no noise")
    left.set(xlabel="step", ylabel="|y|", title="Leaving a saddle")
    left.legend()
    middle.semilogy(ranks.T, color="C0", lw=1)
    middle.set(xlabel="step", ylabel="‖UUᵀ - M‖²", title="Factors of a matrix of rank 3")
    for start, z in products.items():
        right.semilogx(np.arange(1, len(z) + 1), z, label=f"from {start:g}")
    right.set(xlabel="step", ylabel="product of four", title="A saddle without curvature")
    right.legend()
    return f"Noise leaves the saddle; the flat one takes {ratio:.0f} times as long from a tenth."
