"""If one hyper-parameter matters, nine random trials try nine values of it, a grid three.

With several hyper-parameters usually few matter, and one does not know which. A grid of 3×3 spends
its nine trials on three values of each; nine random points have nine different values of every
one. Over targets drawn at random, the best of the random points is nearer to the optimum.
"""

from typing import Any

import numpy as np

from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C48", "step sizes", 0.3
SOURCES = ("bergstra-2012", "minnesota-2025")
TARGETS = 2000


def score(points: Any, target: Any) -> Any:
    """Of trials (…, 2): the first number decides, the second hardly matters."""
    u, v = points[..., 0], points[..., 1]
    return -((u - target) ** 2) + 0.01 * v * (1 - v)


def distance(points: Any, targets: Any) -> Any:
    """Square of the distance, in the number that matters, of the trial with the best score."""
    best = score(points, targets[:, None]).argmax(axis=1)
    return (points[np.arange(len(points)), best, 0] - targets) ** 2


def run(lab: Lab) -> str:
    rng = lab.rng()
    places = np.array([1, 3, 5]) / 6
    grid = np.stack(np.meshgrid(places, places, indexing="ij"), axis=-1).reshape(9, 2)
    random = rng.random((TARGETS, 9, 2))
    targets = rng.random(TARGETS)
    off = {
        "grid": distance(np.broadcast_to(grid, random.shape), targets),
        "random": distance(random, targets),
    }
    values = np.moveaxis(random, 1, -1).reshape(-1, 9)  # of each number, for each target
    tried = {
        "grid": len(np.unique(grid[:, 0])),
        "random": min(len(np.unique(nine)) for nine in values),
    }
    lab.table(
        ["search", "trials", "values tried", "mean square distance"],
        [(name, 9, tried[name], off[name].mean()) for name in off],
    )
    lab.check("a grid of nine tries three values", tried["grid"] == 3, tried["grid"])
    lab.check("nine random points try nine of every one", tried["random"] == 9, tried["random"])
    expected, error = 1 / 108, off["grid"].std() / TARGETS**0.5
    within = abs(off["grid"].mean() - expected) < 5 * error
    lab.check("the grid's mean square distance is 1/108", within, f"{off['grid'].mean():.5f}")
    ratio = off["random"].mean() / off["grid"].mean()
    lab.check("random: below 0.8 of it", ratio < 0.8, f"{ratio:.3f}")

    fine = np.linspace(0, 1, 201)
    panels = lab.figure(1, 3)
    for axes, points, name in zip(panels, (grid, random[0]), off, strict=False):
        axes.plot(fine, score(np.stack([fine, 0 * fine], axis=-1), 0.6), color="0.4", lw=1)
        axes.plot(*points.T, "o", ms=7)
        axes.text(0.35, -0.3, "score, for 0.6", color="0.4")
        axes.vlines(points[:, 0], score(points, 0.6), points[:, 1], color="C0", lw=0.6, alpha=0.6)
        axes.set(
            xlabel="hyper-parameter that matters",
            ylabel="one that does not",
            ylim=(-0.4, 1.02),
            yticks=(0, 0.5, 1),
        )
        axes.set_title(f"{name.capitalize()}: {tried[name]} values tried")
    edges = np.linspace(0, 0.5, 51)
    for name, found in off.items():
        panels[2].hist(np.sqrt(found), edges, alpha=0.6, label=name)
    panels[2].set(xlabel="distance of the best trial from the optimum", ylabel="targets of 2,000")
    panels[2].set_title("After nine trials")
    panels[2].legend()
    return (
        f"With nine trials each, random search ends at {ratio:.2f} times the mean square distance "
        "of the grid, since it never tries a value twice."
    )
