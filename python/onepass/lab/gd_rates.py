"""With the rate 1/L gradient descent always descends, at a guaranteed speed.

L is the largest curvature, μ the least, κ = L/μ. Each step lowers f by at least η/2·‖∇f‖², so
after T steps f - f* of a convex f is at most ‖w₀ - w*‖²/(2ηT). A quadratic also shrinks it by the
factor (1 - 1/κ)² a step, at least.

From 2/L on there is no such promise: at 2/L the steepest coordinate oscillates and comes no
nearer, above it grows.
"""

import numpy as np

from onepass import optim
from onepass.lab import Lab, path

CODE, CHAPTER, SECONDS = "C03", "step sizes", 0.4
SOURCES = ("nesterov-2004", "optimization-3")
STEPS = 2000


def bounce(lr: float) -> np.ndarray:
    """x₂ of x₁² + 4x₂², which has L = 8, from (1, 1)."""
    points = path(lambda w: optim.SGD(w, lr=lr), lambda x: np.array([2, 8]) * x, [1, 1], 100)
    return points[:, 1]


def run(lab: Lab) -> str:
    rng = lab.rng()
    X = rng.standard_normal((200, 20)) * np.geomspace(1, 0.03, 20)
    y = X @ rng.standard_normal(20) + rng.standard_normal(200)
    best = np.linalg.lstsq(X, y, rcond=None)[0]
    H = X.T @ X / len(X)
    curvatures = np.linalg.eigvalsh(H)
    lr, kappa = 1 / curvatures[-1], curvatures[-1] / curvatures[0]
    points = path(
        lambda w: optim.SGD(w, lr=lr), lambda w: X.T @ (X @ w - y) / len(X), np.zeros(20), STEPS
    )
    losses = ((points @ X.T - y) ** 2).mean(axis=1) / 2
    least = ((X @ best - y) ** 2).mean() / 2
    slopes = (((points - best) @ H) ** 2).sum(axis=1)
    gap, T = losses - least, np.arange(STEPS + 1)
    sublinear = (best @ best) / (2 * lr * np.maximum(T, 1e-9))
    linear = (1 - 1 / kappa) ** (2 * T) * gap[0]

    rows = [(t, gap[t], sublinear[t], linear[t]) for t in (1, 10, 100, 1000, STEPS)]
    lab.table(["T", "f - f*", "‖w₀-w*‖²/(2ηT)", "(1-1/κ)²ᵀ(f₀-f*)"], rows, f"κ = {kappa:.0f}")
    rise = (losses[1:] - losses[:-1] + lr / 2 * slopes[:-1]).max()
    lab.check("each step lowers f by η/2·‖∇f‖²", rise <= 1e-9, f"and {-rise:.1e} more")
    over = (gap - sublinear)[1:].max()
    lab.check("f - f* is within ‖w₀-w*‖²/(2ηT)", over <= 1e-9, f"{-over:.1e} below, or more")
    part, step = (gap / linear)[1:].max(), (gap[1:] / gap[:-1]).max()
    lab.check("f - f* is within (1-1/κ)²ᵀ(f₀-f*)", part <= 1 + 1e-9, f"at most {part:.4f} of it")
    shrinks = step <= (1 - 1 / kappa) ** 2 + 1e-9
    lab.check("and shrinks by (1-1/κ)² a step, at least", shrinks, f"at most {step:.6f}")
    rates = {lr: bounce(lr) for lr in (0.2, 0.25, 0.26)}
    flips = (rates[0.25] == (-1.0) ** np.arange(101)).all()
    lab.check("at 2/L x₂ is 1 and -1 by turns", flips)
    grown = abs(rates[0.26][-1])
    lab.check("above, it is 1.08¹⁰⁰", abs(grown / 1.08**100 - 1) < 1e-3, f"{grown:.2f}")

    left, right = lab.figure(1, 2)
    left.loglog(T[1:], gap[1:], label="f - f*")
    left.loglog(T[1:], sublinear[1:], "--", label="‖w₀-w*‖² / 2ηT")
    left.loglog(T[1:], linear[1:], ":", label="(1-1/κ)²ᵀ (f₀-f*)")
    left.set(xlabel="step T", ylabel="f - f*", title=f"Below both bounds (κ = {kappa:.0f})")
    for lr, values in rates.items():
        right.semilogy(np.abs(values), label=f"rate {lr:.3g} = {lr * 8:.3g}/L")
    right.set(xlabel="step", ylabel="|x₂|", title="2/L is the edge")
    for axes in (left, right):
        axes.legend()
    return f"""f stays below both bounds for {STEPS} steps; at 2/L |x₂| stays 1, at 2.08/L it grows
        to {grown:.0f} in 100 steps."""
