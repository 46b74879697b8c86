"""Fitting a sine with a cubic: a formula says where gradient descent is after k steps.

The sum of squared errors of a + bx + cx² + dx³ is a quadratic with one Hessian H. So k steps with
the rate η lead to w* + (1 - ηH)ᵏ(w₀ - w*): the error along each eigenvector shrinks by a factor of
its own, and grows where η is above 2/λ of the largest curvature λ. The step may be
NumPy, onepass.ops, a layer, or a module of one's own: the numbers are the same.
"""

import numpy as np

from onepass import nn, ops, optim
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C01", "optimisation", 0.5
SOURCES = ("johnson-2017", "minnesota-2025")
LR, STEPS = 1e-6, 2000
Array = np.ndarray


class Cubic(nn.Module):  # a + bx + cx² + dx³ of the powers x, x², x³
    def __init__(self) -> None:
        self.w = nn.Parameter(np.zeros((4, 1), np.float32))

    def forward(self, x: Array) -> Array:
        self.saved = x
        return np.asarray(x @ self.w.data[1:] + self.w.data[:1])

    def backward(self, dy: Array, *, need_input_grad: bool = True) -> None:
        self.w.accumulate(np.concatenate([dy.sum(axis=0, keepdims=True), self.recall().T @ dy]))


def by_hand(X: Array, y: Array, w: Array, lr: float, steps: int) -> Array:
    for _ in range(steps):
        w = w - np.float32(2 * lr) * (X.T @ (X @ w - y))
    return w


def by_ops(X: Array, y: Array, w: Array) -> Array:
    for _ in range(STEPS):
        _, dy = ops.mse_loss(X @ w, y, reduction="sum")
        ops.sgd_([w], [X.T @ dy], lr=LR)
    return w


def by_model(model: nn.Module, optimizer: optim.Optimizer, x: Array, y: Array) -> Array:
    losses = np.zeros(STEPS)
    for k in range(STEPS):
        losses[k], dy = ops.mse_loss(model(x), y, reduction="sum")
        model.backward(dy)
        optimizer.step(zero_grad=True)
    return losses


def run(lab: Lab) -> str:
    x = np.linspace(-np.pi, np.pi, 2000)
    exact, sine = x[:, None] ** [0, 1, 2, 3], np.sin(x)[:, None]
    X, y, w0 = (a.astype(np.float32) for a in (exact, sine, lab.rng().standard_normal((4, 1))))
    best, (least,), *_ = np.linalg.lstsq(exact, sine, rcond=None)
    curvatures, V = np.linalg.eigh(2 * exact.T @ exact)
    formula = best + V @ ((1 - LR * curvatures[:, None]) ** STEPS * (V.T @ (w0 - best)))
    nn.manual_seed(lab.seed)
    own, layer, other = Cubic(), nn.Linear(3, 1), nn.Linear(3, 1)
    weight, bias = (p.data for p in layer.parameters())
    own.w.data[:], weight[:], bias[:] = w0, w0[1:].T, w0[0]
    by_model(own, optim.SGD(own.parameters(), lr=LR), X[:, 1:], y)
    losses = by_model(layer, optim.SGD(layer.parameters(), lr=LR), X[:, 1:], y)
    adaptive = by_model(other, optim.RMSprop(other.parameters(), lr=1e-3), X[:, 1:], y)
    forms = {"NumPy": by_hand(X, y, w0, LR, STEPS), "onepass.ops": by_ops(X, y, w0.copy())}
    forms |= {"layer": np.append(bias, weight)[:, None], "own": own.w.data}
    shown = {"formula": formula, **forms, "least squares": best}
    lab.table(["", *"abcd"], [(name, *w[:, 0]) for name, w in shown.items()], f"{STEPS} steps")
    off = max(np.abs(w - formula).max() for w in forms.values())
    apart = float(np.ptp([*forms.values()], axis=0).max())
    far = np.linalg.norm(by_hand(X, y, np.ones_like(w0), 2.25 / curvatures[-1], 100))
    lab.check("the formula has every coefficient to 1e-5", off < 1e-5, f"off by {off:.1e}")
    lab.check("no loss is below least squares'", min(*losses, *adaptive) > least - 1e-5, least)
    lab.check("the four forms agree to 1e-5", apart < 1e-5, f"{apart:.1e}")
    lab.check("2.25/λ leads from 1 beyond 1e8 in 100 steps", far > 1e8, f"{far:.1e}")
    lab.check("RMSprop ends from 8.84 to 9.5", 8.84 < adaptive[-1] < 9.5, f"{adaptive[-1]:.3f}")
    left, right = lab.figure(1, 2)
    left.plot(x, sine, "0.7", linewidth=4, label="sin x")
    left.plot(x, exact @ formula, label=f"after {STEPS} steps")
    left.plot(x, exact @ best, "--", label="least squares")
    left.set(xlabel="x", ylabel="y", title="On the way to the best cubic")
    right.loglog(range(1, STEPS + 1), losses - least, label="gradient descent, 1e-6")
    right.loglog(range(1, STEPS + 1), adaptive - least, label="RMSprop, 1e-3")
    right.set(xlabel="step", ylabel="loss above the least", title="RMSprop ends above the least")
    for axes in (left, right):
        axes.legend()
    return f"Gradient descent ends at {losses[-1]:.2f}, where the formula says; least {least:.2f}."
