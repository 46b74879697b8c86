"""Softmax with cross-entropy: gradient P - target; without label smoothing no minimum.

For two classes softmax is the sigmoid of the difference of the logits. The gradient of cross-
entropy is the prediction minus the target, so it never is 0 for a target of 0 and 1: the logits of
a single sample drift apart for ever, like log t. Label smoothing with ε for each wrong class moves
the optimum to a finite gap, ln((1 - (m-1)ε)/ε) for m classes, where the loss is the entropy of the
target.
"""

import numpy as np

from onepass import nn, ops, optim
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C46", "regularisation", 0.7
SOURCES = ("szegedy-2016", "skoltech", "minnesota-2025")
CLASSES, SMOOTHING, STEPS = 10, 0.2, 20_000


def descent(smoothing: float) -> tuple[np.ndarray, float]:
    """Gaps between the right logit and the others, step by step; the last loss."""
    logits = np.zeros((1, CLASSES))
    target = np.array([0])
    loss_fn = nn.CrossEntropyLoss(label_smoothing=smoothing)
    optimizer = optim.SGD([logits], lr=1.0)
    gaps = []
    for _ in range(STEPS):
        loss, gradient = loss_fn(logits, target)
        optimizer.step([gradient])
        gaps.append(logits[0, 0] - logits[0, 1])
    return np.array(gaps), float(loss)


def run(lab: Lab) -> str:
    rng = lab.rng()
    pairs = rng.normal(0, 5, (1000, 2))
    off = np.abs(ops.softmax(pairs)[:, 0] - ops.sigmoid(pairs[:, 0] - pairs[:, 1])).max()
    lab.check("of two classes, softmax is the sigmoid", off < 1e-15, f"off by {off:.1e}")
    logits, target = rng.normal(0, 2, (32, CLASSES)), rng.integers(0, CLASSES, 32)
    _, gradient = nn.CrossEntropyLoss()(logits, target)
    off = np.abs(gradient - (ops.softmax(logits) - np.eye(CLASSES)[target]) / 32).max()
    lab.check("the gradient is (P - target)/n", off < 1e-15, f"off by {off:.1e}")

    epsilon = SMOOTHING / CLASSES
    share = 1 - (CLASSES - 1) * epsilon
    optimum = np.log(share / epsilon)
    entropy = -share * np.log(share) - (CLASSES - 1) * epsilon * np.log(epsilon)
    (smooth, loss), (hard, hard_loss) = descent(SMOOTHING), descent(0.0)
    rows = [("smoothed", smooth[-1], loss), ("optimum", optimum, entropy)]
    rows.append(("not smoothed", hard[-1], hard_loss))
    lab.table(["target", "gap of the logits", "loss"], rows, f"After {STEPS:,} steps")
    off = abs(smooth[-1] - optimum)
    lab.check("smoothed: the gap is ln((1-9ε)/ε)", off < 1e-6, f"{smooth[-1]:.6f}")
    lab.check(
        "smoothed: the loss is the target's entropy", abs(loss - entropy) < 1e-6, f"{loss:.6f}"
    )
    growth = hard[-1] - hard[STEPS // 10 - 1]
    claim = "not smoothed: the gap grows by ln 10 in the last decade of steps"
    lab.check(claim, abs(growth - np.log(10)) < 0.01, f"{growth:.4f}")

    axes = lab.figure()
    step = np.arange(1, STEPS + 1)
    axes.semilogx(step, hard, label="target 1 and 0")
    axes.semilogx(step, smooth, label=f"target {share:.2f} and {epsilon:.2f}")
    axes.axhline(optimum, color="k", lw=1, ls="--", label="ln((1 - 9ε)/ε)")
    axes.set(xlabel="step", ylabel="right logit minus another", title="Logits of a single sample")
    axes.legend()
    return (
        f"The smoothed target stops the logits at a gap of {smooth[-1]:.4f}; without it the gap is "
        f"{hard[-1]:.1f} after {STEPS:,} steps and still grows."
    )
