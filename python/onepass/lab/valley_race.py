"""In a bent valley momentum and RMSprop reach the minimum; plain descent still crawls.

Beale's function has its minimum at (3, ½), at the end of a flat bent valley between steep walls.
All start at (1, 1.5). At the adaptive rules' rate of 0.01 momentum diverges, so it and SGD have a
tenth of that. Adagrad hardly gets away, since it divides by the first, huge gradients ever after;
Adadelta comes near and then oscillates.
"""

from typing import Any

import numpy as np

from onepass import optim
from onepass.lab import Lab, path

CODE, CHAPTER, SECONDS = "C07", "landscape", 0.5
SOURCES = ("beale-1958", "skoltech")
STEPS, NEAR, C = 4000, 1e-3, np.array([1.5, 2.25, 2.625])
COUNTS = {"momentum": 538, "Nesterov": 539, "RMSprop": 376, "Adam": 2085}  # nothing is random
RULES = {
    "SGD": lambda w: optim.SGD(w, lr=1e-3),
    "momentum": lambda w: optim.SGD(w, lr=1e-3, momentum=0.9),
    "Nesterov": lambda w: optim.SGD(w, lr=1e-3, momentum=0.9, nesterov=True),
    "RMSprop": lambda w: optim.RMSprop(w, lr=0.01, alpha=0.9),
    "Adam": lambda w: optim.Adam(w, lr=0.01),
    "Adagrad": lambda w: optim.Adagrad(w, lr=0.01),
    "Adadelta": lambda w: optim.Adadelta(w),
}


def beale(x: np.ndarray, y: np.ndarray) -> Any:
    return sum((c - x + x * y**k) ** 2 for k, c in enumerate(C, start=1))


def slope(w: np.ndarray) -> np.ndarray:
    x, y = w
    terms = [(2 * (c - x + x * y**k), k) for k, c in enumerate(C, start=1)]
    return np.array([
        sum(t * (y**k - 1) for t, k in terms), sum(t * k * x * y ** (k - 1) for t, k in terms)
    ])  # fmt: skip


def run(lab: Lab) -> str:
    paths = {
        name: path(rule, slope, [1.0, 1.5], STEPS, until=lambda w: beale(*w) < NEAR)
        for name, rule in RULES.items()
    }
    ends = {name: float(beale(*points[-1])) for name, points in paths.items()}
    steps = {name: len(points) - 1 for name, points in paths.items()}
    rows = [(name, steps[name] if ends[name] < NEAR else "–", ends[name]) for name in RULES]
    lab.table(
        ["", f"steps to {NEAR}", "f at the end"], rows, f"Beale's function, {STEPS} steps at most"
    )
    for name, count in COUNTS.items():
        arrives = ends[name] < NEAR and abs(steps[name] - count) <= 1
        lab.check(f"{name} arrives after {count} steps, ±1", arrives, steps[name])
    lab.check(f"SGD does not within {STEPS}", ends["SGD"] >= NEAR, f"f = {ends['SGD']:.5f}")
    stays = abs(ends["Adagrad"] - 8.73) < 0.01
    lab.check("Adagrad has only come to 8.73", stays, f"{ends['Adagrad']:.3f}")
    values = beale(*paths["Adadelta"].T)
    least, last, rises = values.min(), values[-500:].min(), (np.diff(values[-500:]) > 0).mean()
    oscillates = least < 0.02 < 0.03 < last and 0.4 < rises < 0.6
    seen = f"least {least:.3f}, of the last 500 {last:.3f}, {100 * rises:.0f} % of them upward"
    lab.check("Adadelta comes below 0.02, then goes up and down above 0.03", oscillates, seen)
    fast = path(
        lambda w: optim.SGD(w, lr=0.01, momentum=0.9), slope, [1.0, 1.5], 20,
        until=lambda w: np.abs(w).max() > 1e6,
    )  # fmt: skip
    far = np.abs(fast[-1]).max()
    lab.check("momentum at 0.01 is beyond 1e6 within 20 steps", far > 1e6, f"{far:.0e}")

    left, right = lab.figure(1, 2)
    x, y = np.meshgrid(np.linspace(0.5, 3.5, 200), np.linspace(-1, 1.6, 200))
    left.contour(
        x, y, beale(x, y), levels=np.geomspace(1e-2, 100, 13), colors="0.85", linewidths=0.8
    )
    for name in RULES:
        left.plot(*paths[name].T, label=name)
        right.loglog(np.arange(1, steps[name] + 2), beale(*paths[name].T), label=name)
    left.plot(3, 0.5, "k*", markersize=12)
    left.set(xlabel="x", ylabel="y", title="Paths to the minimum ★")
    right.axhline(NEAR, color="0.5", linestyle=":")
    right.set(xlabel="step", ylabel="f", ylim=(3e-4, 60), title="RMSprop and momentum arrive first")
    right.legend(fontsize="small", loc="lower left")
    return f"""RMSprop arrives after {steps["RMSprop"]} steps, momentum after {steps["momentum"]},
        Adam after {steps["Adam"]}; SGD not within {STEPS}."""
