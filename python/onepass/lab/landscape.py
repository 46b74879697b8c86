"""Saddles: noise leaves them, a flat one takes a thousand times as long, a low rank is no trap.

Three landscapes without bad minima. On a saddle's ridge gradient descent walks into the saddle and
stays; the least noise on the gradient, and it leaves for a minimum. The factors U of UUᵀ ≈ M have
saddles only besides the minima, so that descent from a small random start finds M. A product of
four numbers has a saddle at zero without any curvature: the time to leave it grows as 1/start².
"""

import numpy as np

from onepass import optim
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C39", "landscape", 1.0
SOURCES = ("initialisation",)

NOISES = (1e-2, 1e-4)
STARTS, MOST = (0.5, 0.1, 0.01), 60000


def saddle(steps: int, noise: float, seed: int) -> np.ndarray:
    """y of each step on ½(x² - y²) + ¼y⁴, from (1, 0)."""
    w = np.array([1.0, 0.0])
    optimizer = optim.SGD([w], lr=0.1, noise=noise, seed=seed)
    seen = []
    for _ in range(steps):
        optimizer.step([np.array([w[0], w[1] ** 3 - w[1]])])
        seen.append(w[1])
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


def product(start: float) -> np.ndarray:
    """w1 w2 w3 w4 at each step, fitted to 1 with ½(product - 1)², until it is within 0.001."""
    w = np.full(4, start)
    optimizer, seen = optim.SGD([w], lr=0.1), [start**4]
    while abs(seen[-1] - 1) > 1e-3 and len(seen) <= MOST:
        a, b, c, d = w.tolist()
        optimizer.step([(seen[-1] - 1) * np.array([b * c * d, a * c * d, a * b * d, a * b * c])])
        seen.append(float(np.prod(w)))
    return np.array(seen)


def run(lab: Lab) -> str:
    still = saddle(2000, 0.0, 0)
    lab.check("without noise y stays 0", bool(np.all(still == 0.0)), "2000 steps")
    curvatures = (1.0, 3 * still[-1] ** 2 - 1)  # of ½x² and of ¼y⁴ - ½y²
    lab.check("where curvatures have both signs", min(curvatures) < 0 < max(curvatures))
    rows = []
    walks = {n: np.abs([saddle(300, n, 20 * lab.seed + k) for k in range(20)]) for n in NOISES}
    for noise, walk in walks.items():
        steps = np.argmax(walk > 0.9, axis=1) + 1
        rows.append((f"saddle, noise {noise:g}", steps.min(), steps.max()))
        all_left = bool(np.all(np.any(walk > 0.9, axis=1)))
        seen = f"after {steps.min()} to {steps.max()} steps"
        lab.check(f"noise {noise:g}: 20 of 20 leave within 300 steps", all_left, seen)
    ranks = np.array([low_rank(lab.rng(draw)) for draw in range(5)])
    worst = ranks[:, -1].max()
    lab.check("UUᵀ reaches M from 5 of 5 starts", worst < 1e-8, f"at most {worst:.0e} left")
    products = {start: product(start) for start in STARTS}
    times = {start: len(z) - 1 for start, z in products.items()}
    rows += [(f"product from {start:g}", times[start], times[start]) for start in STARTS]
    lab.table(["landscape", "least steps", "most steps"], rows)
    lab.check("a product at 0 never moves", bool(np.all(product(0.0) == 0.0)), f"{MOST} steps")
    ratio = times[0.01] / times[0.1]
    lab.check("a tenth of the start takes 100 times as long", 80 < ratio < 120, f"{ratio:.1f}")

    axes = lab.figure(1, 3)
    for color, (noise, walk) in zip(("C0", "C1"), walks.items(), strict=True):
        axes[0].plot(walk.T, color=color, lw=0.7)
        axes[0].plot([], [], color=color, label=f"noise {noise:g}, 20 runs")
    axes[0].plot(np.abs(still[:300]), "k--", label="no noise")
    axes[0].set(xlabel="step", ylabel="|y|", title="Leaving a saddle")
    axes[1].semilogy(ranks.T, color="C0", lw=1)
    axes[1].set(xlabel="step", ylabel="‖UUᵀ - M‖²", title="Factors of a matrix of rank 3")
    for start, z in products.items():
        axes[2].semilogx(np.arange(1, len(z) + 1), z, label=f"from {start:g}")
    axes[2].set(xlabel="step", ylabel="product of four", title="A saddle without curvature")
    for ax in axes[::2]:
        ax.legend()
    return (
        f"Noise leaves the saddle; without curvature a tenth of the start takes {ratio:.0f} times."
    )
