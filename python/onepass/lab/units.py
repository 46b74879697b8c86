"""In other units the right step has another length; of these rules only Newton's adapts.

f(x/c) is f of an x in other units: the same place is c times as far, and a step should be c times
as long. Plain SGD's is 1/c times as long, RMSprop's and Adam's do not change, Newton's is right.

Adadelta was made to have the unit of x too. But its first step is √(ε/(1-ρ)) in any unit, and where
that is short, it takes long to grow out of it: on ½(x/c)² from c, 300 steps go 0.94 of the way to 0
for c = 0.1, but 0.15 of it for c = 10.
"""

import numpy as np

from onepass import optim
from onepass.lab import Lab, path
from onepass.optim.full_batch import Newton

CODE, CHAPTER, SECONDS = "C50", "step sizes", 0.2
SOURCES = ("zeiler-2012", "skoltech")
UNITS, START = (0.1, 1.0, 10.0), np.array([1.0, 2.0])
RHO, EPS = 0.9, 1e-6  # of Adadelta
LATER = "Adadelta, 300 steps on ½(x/c)²"
RULES = {
    "SGD": lambda w: optim.SGD(w, lr=0.01),
    "RMSprop": lambda w: optim.RMSprop(w, lr=0.01, eps=1e-12),
    "Adam": lambda w: optim.Adam(w, lr=0.01, eps=1e-12),
    "Adadelta": lambda w: optim.Adadelta(w, rho=RHO, eps=EPS),
}
POWERS = {"SGD": -1, "RMSprop": 0, "Adam": 0, "Newton": 1}


def f(z: np.ndarray) -> float:
    return float(z[0] ** 4 / 4 + z[0] ** 2 + 2 * z[1] ** 2)


def slope(z: np.ndarray) -> np.ndarray:
    return np.array([z[0] ** 3 + 2 * z[0], 4 * z[1]])


def curvature(z: np.ndarray) -> np.ndarray:
    return np.diag([3 * z[0] ** 2 + 2, 4])


def moved(name: str, c: float) -> float:
    """How far the rule's first step goes on f(x/c) from c·START."""
    points = path(RULES[name], lambda x: slope(x / c) / c, c * START, 1)
    return float(np.linalg.norm(points[-1] - points[0]))


def moved_by_newton(c: float) -> float:
    x = c * START
    Newton([x], line_search_fn=None).step(
        lambda: (f(x / c), [slope(x / c) / c]), hessian=lambda: curvature(x / c) / c**2
    )
    return float(np.linalg.norm(x - c * START))


def gone(c: float) -> float:
    """How far Adadelta gets in 300 steps on ½(x/c)² from c."""
    return c - float(path(RULES["Adadelta"], lambda x: x / c**2, [c], 300)[-1, 0])


def run(lab: Lab) -> str:
    lengths = {name: np.array([moved(name, c) for c in UNITS]) for name in RULES}
    lengths["Newton"] = np.array([moved_by_newton(c) for c in UNITS])
    lengths[LATER] = np.array([gone(c) for c in UNITS])
    rows = [(name, *values) for name, values in lengths.items()]
    lab.table(["length of", *(f"c = {c:g}" for c in UNITS)], rows, "The first step on f(x/c)")
    for name, power in POWERS.items():
        expected = lengths[name][1] * np.array(UNITS) ** power
        off = np.abs(lengths[name] / expected - 1).max()
        words = {-1: "1/c", 0: "no power of c", 1: "c"}[power]
        lab.check(f"{name}'s first step goes by {words}", off < 1e-6, f"off by {off:.1e}")
    off = np.abs(lengths["Adadelta"] / (2 * EPS / (1 - RHO)) ** 0.5 - 1).max()
    lab.check("Adadelta's is √(ε/(1-ρ)) along both axes, any c", off < 1e-4, f"off by {off:.1e}")
    short = lengths[LATER]
    off = np.abs(short / (0.0936, 0.9085, 1.452) - 1).max()  # nothing is random
    lab.check("and after 300 0.0936, 0.9085 and 1.452 on ½(x/c)²", off < 1e-3, f"off by {off:.1e}")

    axes = lab.figure()
    styles = ("v-", "s-", "o--", "x:", "o-", "x-")  # those that do not change, one in the other
    for (name, values), style, wide in zip(
        lengths.items(), styles, (6, 15, 9, 5, 6, 6), strict=True
    ):
        axes.loglog(UNITS, values / values[1], style, label=name, markersize=wide, fillstyle="none")
    axes.set(xlabel="unit c", ylabel="length of the step / that for c = 1", ylim=(0.07, 90))
    axes.set_title("On f(x/c) a step should be c times as long")
    axes.legend(fontsize="small", loc="upper center", ncols=2)
    return f"""Newton's step follows the unit, SGD's goes the wrong way, RMSprop's and Adam's stay.
        After 300 steps Adadelta has gone {short[0]:.2g}, {short[1]:.2g} and {short[2]:.2g}, which
        should be as 1 to 10 to 100."""
