"""Higher-degree polynomials fit the given points better and new points worse.

The points are a parabola and noise. Every degree contains the lower ones, so least squares never
gets worse on the points it was given, and with as many coefficients as points it runs through all
of them. On new points a straight line misses the bend, and high degrees follow the noise.
"""

from typing import Any

import numpy as np

from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C27", "generalisation", 0.5
SOURCES = ("bishop-2006", "optimization-3")
DEGREES = range(1, 21)
END = 20.0


def parabola(x: np.ndarray) -> np.ndarray:
    return -1.5 * x + x**2 / 9


def points(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """x evenly on [0, 20], and the parabola with noise of deviation 2."""
    x = np.linspace(0.0, END, count)
    return x, parabola(x) + 2.0 * rng.standard_normal(count)


def features(x: np.ndarray, degree: int) -> np.ndarray:
    """Chebyshev polynomials: the same fit as by powers of x, without their rounding errors."""
    return np.polynomial.chebyshev.chebvander(2 * x / END - 1, degree)


def fit(x: np.ndarray, y: np.ndarray, degree: int) -> Any:
    return np.linalg.lstsq(features(x, degree), y, rcond=None)[0]


def errors(rng: np.random.Generator) -> np.ndarray:
    """Mean squared errors on 21 given and 201 new points: a row a degree."""
    given, new = points(21, rng), points(201, rng)
    rows = []
    for degree in DEGREES:
        w = fit(*given, degree)
        rows.append([np.mean((features(x, degree) @ w - y) ** 2) for x, y in (given, new)])
    return np.array(rows)


def run(lab: Lab) -> str:
    found = np.array([errors(lab.rng(draw)) for draw in range(20)])  # (20, degree, 2)
    train, test = found[..., 0], found[..., 1]
    shown = (1, 2, 3, 5, 8, 11, 14, 17, 20)
    rows = [(d, *np.median(found[:, d - 1], axis=0), test[:, d - 1].max()) for d in shown]
    columns = ["degree", "given points", "new points", "new, worst draw"]
    lab.table(columns, rows, "Mean squared error, median of 20 draws")

    rise = np.diff(train, axis=1).max()
    lab.check("on given points no degree is worse", rise < 1e-12, f"largest rise {rise:.1e}")
    left = train[:, -1].max()
    lab.check("degree 20 runs through all 21 points", left < 1e-12, f"error {left:.1e}")
    for degree in (1, 20):
        wins = int(np.sum(test[:, 1] < test[:, degree - 1]))
        lab.check(f"degree 2 beats {degree} on new points", wins == 20, f"{wins} of 20 draws")
    middle = np.median(test, axis=0)
    best = DEGREES[int(middle.argmin())]
    grows = best <= 4 and bool(np.all(np.diff(middle[1::6]) > 0))
    claim = "new points: the median is least near degree 2, grows to 8, 14 and 20"
    lab.check(claim, grows, f"least at {best}")
    left_axes, right_axes = lab.figure(1, 2)
    x, y = points(21, lab.rng())
    fine = np.linspace(0.0, END, 1001)
    left_axes.plot(x, y, "ko", ms=4, label="given points")
    for degree, style in ((1, ":"), (2, "-"), (14, "-."), (20, "--")):
        curve = features(fine, degree) @ fit(x, y, degree)
        left_axes.plot(fine, curve, style, label=f"degree {degree}")
    left_axes.set(xlabel="x", ylabel="y", ylim=(-20, 32), xticks=range(0, 21, 5))
    left_axes.set_title("Fits of one draw")
    left_axes.legend(ncols=3, loc="lower center", fontsize="small", frameon=True, edgecolor="none")
    for errors_, label, style in ((train, "given points", "o--"), (test, "new points", "s-")):
        right_axes.plot(DEGREES, np.median(errors_, axis=0), style, ms=4, label=label)
    right_axes.axhline(4.0, color="gray", lw=1, ls=":", label="variance of the noise")
    right_axes.set(xlabel="degree", ylabel="mean squared error", yscale="log", ylim=(0.1, 1e7))
    right_axes.set(xticks=[1, 2, 5, 10, 15, 20], title="Median of 20 draws")
    right_axes.annotate("0 at degree 20", (18.6, 0.13), ha="right")
    right_axes.legend()
    return (
        f"The error on the given points falls to 0; on new ones it is least at degree {best}, and "
        f"{middle[19] / middle[1]:.0e} times that of degree 2 at degree 20."
    )
