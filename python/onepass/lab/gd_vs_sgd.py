"""One pass of small batches beats many of gradient descent, until noise sets a floor.

Linear regression with 10,000 samples. A step of gradient descent looks at all of them, a step of
SGD at 100. Step for step the full gradient is better. For the same number of samples looked at,
SGD has taken 100 steps instead of one, and is far ahead. But at a constant rate the noise of its
batches leaves it at a floor, which gradient descent passes: SGD is the way to a result of medium
accuracy.
"""

import numpy as np

from onepass import optim
from onepass.data import DataLoader
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C02", "optimisation", 0.6
SOURCES = ("bottou-2008", "minnesota-2025")
SAMPLES, FEATURES, BATCH, PASSES = 10_000, 500, 100, 5
STEPS = SAMPLES // BATCH  # of SGD, a pass


def errors(loader: DataLoader, best: np.ndarray, lr: float, steps: int) -> np.ndarray:
    """w - w*, before the first step and after each."""
    w = np.zeros(FEATURES, np.float32)
    optimizer = optim.SGD([w], lr=lr)
    found = [w - best]
    while len(found) <= steps:
        for X, y in loader:
            optimizer.step([X.T @ (X @ w - y) / len(X)])
            found.append(w - best)
    return np.array(found)


def run(lab: Lab) -> str:
    rng = lab.rng()
    X = rng.standard_normal((SAMPLES, FEATURES), np.float32)
    noise = rng.standard_normal(SAMPLES, np.float32)
    y = X @ rng.standard_normal(FEATURES, np.float32) + np.float32(0.1) * noise
    exact = X.astype(np.float64)
    H = exact.T @ exact / SAMPLES  # the Hessian of half the mean square
    best = np.linalg.solve(H, exact.T @ y / SAMPLES)
    full = DataLoader(X, y, batch_size=SAMPLES)
    batches = DataLoader(X, y, batch_size=BATCH, shuffle=True, seed=lab.seed)
    gd = errors(full, best, 1 / np.linalg.eigvalsh(H)[-1], 20)
    sgd = errors(batches, best, 0.1, PASSES * STEPS)
    # F - F* as a part of what it was at the start
    gd, sgd = (((e @ H) * e).sum(axis=1) / (best @ H @ best) for e in (gd, sgd))

    rows = [(f"step {k}", gd[k], sgd[k]) for k in (1, 2, 3, 5, 10, 20)]
    rows += [(f"pass {k}", gd[k], sgd[k * STEPS]) for k in range(1, PASSES + 1)]
    lab.table(["after", "gradient descent", "SGD"], rows, "Gap (F - F*) / (F₀ - F*)")
    lower = int((gd[1:21] < sgd[1:21]).sum())
    lab.check("step for step gradient descent is lower", lower == 20, f"{lower} of 20")
    share, floor = sgd[STEPS] / gd[1], sgd[2 * STEPS :].min()
    lab.check("after one pass SGD is below a thousandth of it", share < 1e-3, f"1/{1 / share:.0f}")
    worth = int((gd > sgd[STEPS]).sum())
    lab.check("a pass of SGD is worth 6 of it, or more", worth >= 6, worth)
    lab.check("SGD stays above 1e-7", floor > 1e-7, f"least {floor:.1e}")
    lab.check("gradient descent is below 1e-9 in 20 steps", gd[20] < 1e-9, f"{gd[20]:.1e}")

    left, right = lab.figure(1, 2, sharey=True)
    left.semilogy(gd, ".-", label="gradient descent")
    left.semilogy(sgd[:21], ".-", label=f"SGD, batches of {BATCH}")
    right.semilogy(gd, ".-")
    right.semilogy(np.arange(len(sgd)) / STEPS, sgd)
    left.set(xlabel="step", ylabel="gap (F - F*) / (F₀ - F*)", xticks=range(0, 21, 5))
    left.set_title("Step for step, the full gradient")
    right.set(xlabel="passes over the data", xlim=(0, PASSES))
    right.set_title("Pass for pass, small batches, to a floor")
    left.legend()
    return f"""A pass of SGD is worth {worth} of gradient descent. It stays above
        {floor:.0e}; gradient descent is at {gd[20]:.0e} after 20."""
