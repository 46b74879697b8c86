"""Momentum rolls through shallow minima and may end in the deepest, by luck.

A parabola with ripples has four minima, of which the third is the lowest. Gradient descent stays in
the first valley it comes to. With momentum a ball keeps its speed: at 0.9 it crosses the first
ridge, at 0.95 the second and ends in the lowest valley. That is luck of this landscape, not a law:
at 0.97 it rolls past and ends in the fourth, and at 0.98 it comes back to the second.
"""

from typing import Any

import numpy as np

from onepass import optim
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C41", "landscape", 0.3
SOURCES = ("attouch-2000", "skoltech")

START, RATE, STEPS = -3.0, 0.05, 2000
ENDS = {0.0: -1.157, 0.5: -1.157, 0.9: 1.736, 0.95: 4.665, 0.97: 7.585, 0.98: 1.736}


def height(x: Any) -> Any:
    return 0.05 * (x - 4) ** 2 + 0.35 * np.cos(2 * x)


def slope(x: Any) -> Any:
    return 0.1 * (x - 4) - 0.7 * np.sin(2 * x)


def roll(momentum: float) -> np.ndarray:
    """All places from the start on."""
    x = np.array([START])
    optimizer, seen = optim.SGD([x], lr=RATE, momentum=momentum), [START]
    for _ in range(STEPS):
        optimizer.step([slope(x)])
        seen.append(float(x[0]))
    return np.array(seen)


def minima() -> Any:
    """By a change of the slope's sign from - to +."""
    x = np.linspace(-4.0, 9.0, 130001)
    rises = np.diff(np.sign(slope(x))) > 0
    return x[:-1][rises]


def run(lab: Lab) -> str:
    known = minima()
    lowest = known[height(known).argmin()]
    paths = {momentum: roll(momentum) for momentum in ENDS}
    rows = [(m, p[-1], float(height(p[-1])), p.max()) for m, p in paths.items()]
    lab.table(["momentum", "ends at", "height there", "farthest"], rows)
    seen = ", ".join(f"{x:.3f}" for x in known)
    lab.check("there are four minima", len(known) == 4, seen)
    for momentum, expected in ENDS.items():
        end = paths[momentum][-1]
        claim = f"momentum {momentum:g} ends at {expected:g}"
        lab.check(claim, abs(end - expected) < 1e-3, f"{end:.4f}")
    end = paths[0.95][-1]
    lab.check("which is the lowest for 0.95", abs(end - lowest) < 1e-3, f"{lowest:.4f}")
    farthest = paths[0.98].max()
    lab.check("0.98 has been to the fourth before", farthest > known[3], f"{farthest:.3f}")

    left, right = lab.figure(1, 2)
    x = np.linspace(-3.3, 9.0, 800)
    left.plot(x, height(x), "k", lw=1)
    left.plot(START, height(START), "k>", label="start")
    for (momentum, path), style in zip(paths.items(), ("o", "x", "s", "D", "^", "+"), strict=True):
        left.plot(path[-1], height(path[-1]), style, ms=8, label=f"momentum {momentum:g}")
        right.plot(path[:200], label=f"{momentum:g}")
    left.set(xlabel="x", ylabel="f(x)", title="Where descent ends on a parabola with ripples")
    right.set(xlabel="step", ylabel="x", xlim=(-8, 270), title="Paths, and the four minima")
    for minimum in known:
        right.axhline(minimum, color="gray", lw=0.8, ls=":")
    left.legend()
    right.legend(title="momentum", loc="center right")
    ends = ", ".join(f"{momentum:g} at {path[-1]:.2f}" for momentum, path in paths.items())
    return f"Momentum ends: {ends}; the lowest minimum is at {lowest:.2f}."
