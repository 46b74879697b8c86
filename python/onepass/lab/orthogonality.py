"""A penalty pulls all singular values to one, so that a matrix keeps lengths and angles.

The penalty ‖WᵀW - I‖² is Σ (σ² - 1)² over the singular values σ of W, and gradient descent moves
each of them by itself, without turning its directions. Large ones come down within ten steps;
the smallest, near zero, grow slowly at first, since zero is a saddle. Or one starts orthogonal.
"""

import numpy as np

from onepass import nn, optim
from onepass.lab import Lab
from onepass.train.regularizers import SoftOrthogonality

CODE, CHAPTER, SECONDS = "C37", "regularisation", 0.3
SOURCES = ("bansal-2018", "minnesota-2025")

SIZE, STEPS, RATE = 64, 2000, 0.01


def descend(w: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Steps on the penalty alone; singular values at some of them."""
    penalty = SoftOrthogonality(1.0)
    optimizer = optim.SGD([w], lr=RATE)
    steps, seen = [0], [np.linalg.svd(w, compute_uv=False)]
    for step in range(1, STEPS + 1):
        _, gradients = penalty.penalty([w])
        optimizer.step(gradients)
        if step < 20 or step % 10 == 0:
            steps.append(step)
            seen.append(np.linalg.svd(w, compute_uv=False))
    return steps, np.array(seen)


def run(lab: Lab) -> str:
    w = nn.init.kaiming_normal(np.empty((SIZE, SIZE)), seed=lab.seed)
    left, _, right = np.linalg.svd(w)
    steps, values = descend(w)
    rows = [
        (step, v.max(), np.median(v), v.min(), np.sum((v**2 - 1) ** 2))
        for step, v in zip(steps, values, strict=True)
        if step in (0, 1, 10, 50, 100, 200, 500, STEPS)
    ]
    lab.table(["step", "largest σ", "median", "least", "‖WᵀW - I‖²"], rows)
    off = np.abs(values[-1] - 1).max()
    lab.check("all singular values are 1 after 2000 steps", off < 1e-6, f"off by {off:.1e}")
    off = np.abs(w - left @ right).max()
    lab.check("its directions have not turned", off < 1e-6, f"off by {off:.1e}")
    high, low = values[10].max(), values[10].min()
    early = high < 1.5 and 1 - low > high - 1
    lab.check("the largest come down first", early, f"step 10: {high:.2f}, the least {low:.2f}")
    q = nn.init.orthogonal(np.empty((SIZE, SIZE)), seed=lab.seed)
    off = np.abs(q.T @ q - np.eye(SIZE)).max()
    lab.check("init.orthogonal starts with QᵀQ = I", off < 1e-12, f"off by {off:.1e}")

    axes = lab.figure()
    axes.plot(steps, values, color="C0", lw=0.6, alpha=0.7)
    axes.axhline(1.0, color="C1", ls="--", lw=1, label="orthogonal")
    axes.plot([], [], color="C0", lw=0.6, label=f"the {SIZE} singular values")
    axes.set_xscale("symlog", linthresh=1)
    axes.set(xlabel="step", ylabel="singular value", xlim=(0, STEPS))
    axes.set_xticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"])
    axes.set_title("A Kaiming start becomes orthogonal")
    axes.legend()
    far = [s for s, v in zip(steps, values, strict=True) if np.abs(v - 1).max() > 0.01]
    return f"All {SIZE} singular values are within 0.01 of 1 after {far[-1]} steps."
