"""Decoupled decay shrinks weights by a factor; L2 inside Adam, by a fixed amount.

With a gradient of zero, only the decay moves the weights. SGD multiplies them by 1 - rate × decay,
and so does AdamW, whose decay is apart from the gradient. In Adam it is part of the gradient, which
Adam divides by its own size: what remains is the sign, so that every weight, large or small, goes
by about the rate towards zero, whatever the decay.
"""

from typing import Any

import numpy as np

from onepass import optim
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C31", "regularisation", 0.2
SOURCES = ("loshchilov-2019", "optimization-3")

STEPS, DECAY = 100, 0.02
START = np.array([2.0, -1.0, 0.5, -0.25])
RATES = {"SGD": 0.1, "AdamW": 0.1, "Adam": 0.002}


def decayed(name: str, dtype: str = "float64", decay: float = DECAY) -> np.ndarray:
    """The weights before every step and at the end, with zero gradients."""
    w = START.astype(dtype)
    optimizer = getattr(optim, name)([w], lr=RATES[name], weight_decay=decay)
    seen = [w.copy()]
    for _ in range(STEPS):
        optimizer.step([np.zeros_like(w)])
        seen.append(w.copy())
    return np.array(seen)


def by_hand(rate: float, decay: float) -> Any:
    """Adam's formula with the gradient decay × w, after all steps."""
    w, m, v = START.copy(), 0.0, 0.0
    for t in range(1, STEPS + 1):
        g = decay * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return w


def run(lab: Lab) -> str:
    seen = {name: decayed(name) for name in RATES}
    rows = [(name, *w[-1], RATES[name]) for name, w in seen.items()]
    lab.table(["optimizer", *map("{:g} becomes".format, START), "rate"], rows, "After 100 steps")
    factor = (1 - 0.1 * DECAY) ** STEPS
    for name in ("SGD", "AdamW"):
        off = np.abs(seen[name][-1] / START / factor - 1).max()
        claim = f"{name}: (1 - rate × decay)^100 = {factor:.4f} of each"
        lab.check(claim, off < 1e-12, f"off by {off:.1e}")
    off = np.abs(decayed("SGD", "float32")[-1] / START / factor - 1).max()
    lab.check("SGD in float32 too, to 1e-6", off < 1e-6, f"off by {off:.1e}")
    first = (seen["Adam"][0] - seen["Adam"][1]) / RATES["Adam"]
    off = np.abs(first - np.sign(START)).max()
    lab.check("Adam's first step is rate × sign(w)", off < 1e-4, f"off by {off:.1e}")
    moved = (seen["Adam"][0] - seen["Adam"][-1]) / (RATES["Adam"] * STEPS) * np.sign(START)
    few = f"{moved.min():.2f} to {moved.max():.2f} of it"
    most = moved.min() > 0.75 and moved.max() < 1
    lab.check("Adam goes most of rate × 100 in 100 steps", most, few)
    off = np.abs(seen["Adam"][-1] - by_hand(0.002, DECAY)).max()
    lab.check("as its formula does, at the rate 0.002", off < 1e-12, f"off by {off:.1e}")
    off = np.abs(decayed("Adam", decay=10 * DECAY)[-1] - seen["Adam"][-1]).max()
    lab.check("and ten times the decay changes nothing", off < 1e-4, f"off by {off:.1e}")

    axes = lab.figure(1, 2, sharey=True)
    shown = {"SGD and AdamW, rate 0.1": seen["SGD"], "Adam, rate 0.002": seen["Adam"]}
    for ax, (title, w) in zip(axes, shown.items(), strict=True):
        for column, start in zip(np.abs(w).T, np.abs(START), strict=True):
            ax.plot(column, label=f"from {start:g}")
        ax.set(xlabel="step", yscale="log", title=title)
    axes[0].set_ylabel("|w|")
    axes[0].set_yticks([0.05, 0.1, 0.25, 0.5, 1, 2], ["0.05", "0.1", "0.25", "0.5", "1", "2"])
    axes[0].minorticks_off()
    axes[-1].legend(loc="lower left")
    return (
        "SGD and AdamW shrink all weights by the same factor; Adam moves all by about the same "
        "amount, which matters more for small ones."
    )
