"""At a saddle, rules that divide by the gradient's size escape as fast from any distance.

f = x² - y² from (1, y₀), where y₀ is next to nothing. Plain SGD multiplies y by 1.02 a step, so it
needs ln(1/y₀)/ln 1.02 steps; momentum about a fifth of that, but also more the smaller y₀ is.
RMSprop, Adam and Adagrad divide by the size of past gradients: their steps do not depend on the
scale of y₀ at all, Adadelta's hardly, which begins with a length of its own. Adagrad is the slowest
here, since it divides by all that ever was.
"""

import math

import numpy as np

from onepass import optim
from onepass.lab import Lab, path

CODE, CHAPTER, SECONDS = "C06", "landscape", 0.4
SOURCES = ("dauphin-2014", "skoltech", "minnesota-2025")
STARTS = (1e-3, 1e-6)
COUNTS = {  # nothing is random, so they are known to a step
    "SGD": (349, 698), "momentum": (72, 140), "Nesterov": (67, 132), "Adagrad": (1263, 1263),
    "RMSprop": (72, 72), "Adadelta": (31, 37), "Adam": (77, 77),
}  # fmt: skip
RULES = {
    "SGD": lambda w: optim.SGD(w, lr=0.01),
    "momentum": lambda w: optim.SGD(w, lr=0.01, momentum=0.9),
    "Nesterov": lambda w: optim.SGD(w, lr=0.01, momentum=0.9, nesterov=True),
    "Adagrad": lambda w: optim.Adagrad(w, lr=0.01),
    "RMSprop": lambda w: optim.RMSprop(w, lr=0.01, alpha=0.9),
    "Adadelta": lambda w: optim.Adadelta(w, lr=1.0, rho=0.9),
    "Adam": lambda w: optim.Adam(w, lr=0.01),
}


def slope(w: np.ndarray) -> np.ndarray:
    return np.array([2 * w[0], -2 * w[1]])


def run(lab: Lab) -> str:
    paths = {
        (name, y0): path(rule, slope, [1, y0], 5000, until=lambda w: abs(w[1]) > 1)
        for name, rule in RULES.items()
        for y0 in STARTS
    }
    steps = {name: [len(paths[name, y0]) - 1 for y0 in STARTS] for name in RULES}
    rows = [(name, *counts) for name, counts in steps.items()]
    lab.table(["", *(f"y₀ = {y0:.0e}" for y0 in STARTS)], rows, "Steps until |y| > 1")
    formula = [math.ceil(math.log(1 / y0) / math.log(1.02)) for y0 in STARTS]
    lab.check("SGD takes ln(1/y₀)/ln 1.02 steps", steps["SGD"] == formula, steps["SGD"])
    for name in ("RMSprop", "Adam", "Adagrad"):
        few, many = steps[name]
        lab.check(f"{name} takes as many from both starts", abs(many - few) <= 1, steps[name])
    for name, counts in COUNTS.items():
        near = np.abs(np.subtract(steps[name], counts)).max() <= 1
        lab.check(f"{name} takes {counts[0]} and {counts[1]} steps, ±1", near, steps[name])
    slowest = {max(RULES, key=lambda name: steps[name][i]) for i in (0, 1)}
    lab.check("Adagrad is the slowest from both", slowest == {"Adagrad"}, *slowest)
    last = {name: counts[1] for name, counts in steps.items()}
    adaptive = max(last[name] for name in ("RMSprop", "Adam", "Adadelta"))
    order = adaptive < last["momentum"] < last["SGD"] / 4
    seen = f"{adaptive} < {last['momentum']} < {last['SGD'] / 4}"
    lab.check("from 1e-6: RMSprop, Adam, Adadelta, then momentum, then SGD", order, seen)

    left, right = lab.figure(1, 2)
    names = sorted(RULES, key=lambda name: steps[name][1])
    for row, name in enumerate(names):
        left.loglog(range(1, last[name] + 2), np.abs(paths[name, STARTS[1]][:, 1]), label=name)
        right.plot(steps[name], [row, row], f"C{row}")
        for count, marker, y0 in zip(steps[name], "os", STARTS, strict=True):
            label = f"from {y0:.0e}" if row == 0 else None
            right.plot(count, row, f"C{row}{marker}", fillstyle="none", label=label)
    left.set(xlabel="step", ylabel="|y|", title="Leaving the saddle from y₀ = 1e-6")
    right.set(xlabel="steps until |y| > 1", xscale="log")
    right.set_yticks(range(len(names)), names)
    for row, label in enumerate(right.get_yticklabels()):
        label.set_color(f"C{row}")
    right.set_title("Where the marks meet, scale does not matter")
    right.legend(loc="lower right")
    return f"""From y₀ = 1e-6 SGD takes {last["SGD"]} steps, momentum {last["momentum"]}, RMSprop
        {last["RMSprop"]}; Adagrad, with {last["Adagrad"]}, is slowest."""
