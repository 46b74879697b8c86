"""With momentum, speed depends on the square root of the condition number.

Along a ravine gradient descent must be slow enough for the steep walls, and so crawls along the
floor: its best factor a step is (κ-1)/(κ+1). The heavy ball's is (√κ-1)/(√κ+1), reached from above
since the eigenvalue is a double one. Nesterov's rule is guaranteed √(1 - 1/√κ).

At the best rate gradient descent jumps from wall to wall: on x₁² + 4x₂² with the rate 2/(L+μ) both
coordinates shrink by 0.6 a step, and the steep one changes sign each time.
"""

from typing import Any

import numpy as np

from onepass import optim
from onepass.lab import Lab, path

CODE, CHAPTER, SECONDS = "C04", "optimisation", 0.3
SOURCES = ("polyak-1964", "nesterov-1983", "minnesota-2025", "skoltech")
CURVATURES = np.array([1.0, 100.0])  # κ = 100
RULES = {
    "gradient descent": {"lr": 2 / 101},
    "heavy ball": {"lr": 4 / 121, "momentum": (9 / 11) ** 2},
    "Nesterov": {"lr": 1 / 100, "momentum": 9 / 11, "nesterov": True},
}


def walk(options: Any) -> np.ndarray:
    return path(lambda w: optim.SGD(w, **options), lambda x: CURVATURES * x, [1, 1], 400)


def heavy_ball(x: np.ndarray, lr: float, momentum: float, steps: int) -> np.ndarray:
    """x + β(x - before) - α∇f, as Polyak wrote it."""
    points = [x, x - lr * CURVATURES * x]
    for _ in range(steps - 1):
        x, before = points[-1], points[-2]
        points.append(x - lr * CURVATURES * x + momentum * (x - before))
    return np.array(points)


def run(lab: Lab) -> str:
    start = np.array([4.0, 1.0])
    zigzag = path(lambda w: optim.SGD(w, lr=0.2), lambda x: np.array([2, 8]) * x, start, 30)
    k = np.arange(31)[:, None]
    off = np.abs(zigzag / (start * [0.6, -0.6] ** k) - 1).max()
    lab.check("both coordinates shrink by 0.6 a step, x₂ turning", off < 1e-12, f"off by {off:.1e}")

    points = {name: walk(options) for name, options in RULES.items()}
    errors = {name: np.linalg.norm(p, axis=1) for name, p in points.items()}
    rates = {name: (e[400] / e[300]) ** 0.01 for name, e in errors.items()}
    near = {name: int(np.argmax(e <= 1e-2)) for name, e in errors.items()}
    bounds = dict(zip(RULES, (99 / 101, 9 / 11, 0.9**0.5), strict=True))
    rows = [(name, rates[name], bounds[name], near[name]) for name in RULES]
    lab.table(["", "factor a step", "theory", "steps to 1e-2"], rows, "κ = 100, the last 100 steps")
    gd, ball, nesterov = RULES
    off = abs(rates[gd] - 99 / 101)
    lab.check("gradient descent shrinks by 99/101", off < 1e-9, f"off by {off:.1e}")
    over = rates[ball] / (9 / 11)
    lab.check("the heavy ball by 9/11, from above", 1 <= over <= 1.01, f"{over:.4f} of it")
    lab.check("Nesterov's by less than √0.9", rates[nesterov] < 0.9**0.5, f"{rates[nesterov]:.4f}")
    order = near[ball] < near[nesterov] < near[gd] / 3
    lab.check(
        "heavy ball is first, then Nesterov, within a third of the steps",
        order,
        f"{[*near.values()]}",
    )
    known = np.abs(np.subtract([*near.values()], [248, 45, 62])).max() <= 1
    lab.check("they are 248, 45 and 62 to 1e-2, ±1", known)  # nothing is random
    polyak = heavy_ball(np.ones(2), steps=400, **RULES[ball])
    off = np.abs(points[ball] - polyak).max()
    lab.check("SGD's buffer is Polyak's heavy ball", off < 1e-12, f"off by {off:.1e}")

    left, right = lab.figure(1, 2)
    x1, x2 = np.meshgrid(np.linspace(-0.4, 4.4, 100), np.linspace(-1.3, 1.3, 100))
    left.contour(x1, x2, x1**2 + 4 * x2**2, levels=np.linspace(0.3, 4.5, 8) ** 2, colors="0.8")
    left.plot(*zigzag.T, ".-")
    left.set(xlabel="x₁", ylabel="x₂", title="At the best rate it jumps from wall to wall")
    for name, values in errors.items():
        right.semilogy(values, label=name)
    right.set(xlabel="step", ylabel="distance to the minimum", ylim=(1e-20, 3))
    right.set_title("With κ = 100 momentum is far ahead")
    right.legend()
    return f"""To 1e-2 gradient descent takes {near[gd]} steps, Nesterov's rule {near[nesterov]},
        the heavy ball {near[ball]}."""
