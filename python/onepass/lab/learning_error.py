"""Fitting noise costs σ²d/n: more weights cost more, more samples less.

Least squares with d weights on n samples, y = Xw + noise of deviation σ. The fit is the true signal
and that part of the noise which d columns can imitate: its projection onto d of n dimensions. The
mean square of that part is the error that learning adds at the samples' places. Its expectation is
σ²d/n, exactly, for every X of full rank and whatever the true weights are.
"""

from typing import Any

import numpy as np

from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C28", "generalisation", 0.5
SOURCES = ("hastie-2009", "optimization-3")

DRAWS = 400
DIMENSIONS = (5, 20)
SAMPLES = (50, 100, 200, 500, 1000)
CHECKED = (50, 500)


def excess(d: int, n: int, rng: np.random.Generator) -> Any:
    """The mean square of X(fit - w) of each draw of the noise (σ = 1)."""
    X = rng.standard_normal((n, d))
    w = rng.standard_normal((d, 1))
    Y = X @ w + rng.standard_normal((n, DRAWS))  # a column a draw
    fits = np.linalg.lstsq(X, Y, rcond=None)[0]
    return np.mean((X @ (fits - w)) ** 2, axis=0)


def run(lab: Lab) -> str:
    found = {(d, n): excess(d, n, lab.rng(1000 * d + n)) for d in DIMENSIONS for n in SAMPLES}
    rows = [(d, n, e.mean(), d / n, e.mean() * n / d) for (d, n), e in found.items()]
    columns = ["weights d", "samples n", "measured", "σ²d/n", "ratio"]
    lab.table(columns, rows, f"Error that learning adds, mean of {DRAWS} draws")
    for d in DIMENSIONS:
        for n in CHECKED:
            ratio = found[d, n].mean() * n / d
            claim = f"d = {d}, n = {n}: σ²d/n within 15 %"
            lab.check(claim, abs(ratio - 1) < 0.15, f"ratio {ratio:.3f}")

    axes = lab.figure()
    for d, marker in zip(DIMENSIONS, "os", strict=True):
        low, high = np.array(
            [np.percentile(found[d, n], (10, 90)) for n in SAMPLES]
        ).T  # fmt: skip
        means = [found[d, n].mean() for n in SAMPLES]
        (line,) = axes.plot(SAMPLES, means, marker, label=f"d = {d}, mean of {DRAWS} draws")
        axes.fill_between(SAMPLES, low, high, color=line.get_color(), alpha=0.15, lw=0)
        axes.plot(SAMPLES, d / np.array(SAMPLES), "--", color=line.get_color())
    axes.plot([], [], "k--", label="σ²d/n")
    axes.fill_between([], [], color="gray", alpha=0.2, lw=0, label="10 % to 90 % of draws")
    axes.set(xlabel="samples n", ylabel="mean square of X(fit - w)", xscale="log", yscale="log")
    axes.set_xticks(SAMPLES, [str(n) for n in SAMPLES], minor=False)
    axes.minorticks_off()
    axes.set_title("What learning adds to the error")
    axes.legend()
    worst = max(abs(e.mean() * n / d - 1) for (d, n), e in found.items())
    return f"The error that learning adds is σ²d/n, here within {100 * worst:.0f} %."
