"""Before tanh, weights of variance 1/n keep the signal alive; with 1/(3n) it dies out.

Near 0 tanh is the identity, so a layer multiplies the mean square of a small signal by n times the
variance of its weights. For Xavier's uniform weights that is 1: only the bend of tanh takes from
the signal, and the less the smaller it is. The old habit of drawing from ±1/√n has variance
1/(3n): the signal falls to a third at every layer.
"""

import numpy as np

from onepass import nn, ops
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C18", "initialisation", 0.3
SOURCES = ("glorot-2010", "initialisation")
LAYERS, WIDTH, BATCH = 10, 256, 256
STARTS = {"xavier": "Xavier, ±√(3/n)", "default": "±1/√n, default of Linear"}


def activations(lab: Lab, start: str) -> list[np.ndarray]:
    """What each layer gives for normal inputs."""
    nn.manual_seed(lab.seed)
    x = lab.rng().standard_normal((BATCH, WIDTH), dtype=np.float32)
    found = []
    for _ in range(LAYERS):
        layer = nn.Linear(WIDTH, WIDTH, bias=False)
        if start == "xavier":
            nn.init.xavier_uniform(layer.weight)
        x = ops.tanh(layer(x))
        found.append(x)
    return found


def run(lab: Lab) -> str:
    found = {start: activations(lab, start) for start in STARTS}
    square = {s: [float(np.mean(np.square(x, dtype=np.float64))) for x in found[s]] for s in STARTS}
    rows = [(n + 1, square["xavier"][n], square["default"][n]) for n in range(LAYERS)]
    lab.table(["layer", *STARTS.values()], rows, "Mean square after tanh")
    ratio = square["default"][-1] / square["default"][-2]
    lab.check("±1/√n leaves a third a layer", abs(ratio - 1 / 3) < 0.03, f"{ratio:.4f}")
    ratio = square["xavier"][-1] / square["xavier"][-2]
    lab.check("Xavier leaves more than 0.8 at layer 10", ratio > 0.8, f"{ratio:.4f}")
    last = square["xavier"][-1]
    lab.check("Xavier's layer 10 has more than 0.03", last > 0.03, f"{last:.4f}")

    for axes, start in zip(lab.figure(1, 2, sharey=True), STARTS, strict=True):
        edges = np.linspace(-1, 1, 202)
        middle = (edges[1:] + edges[:-1]) / 2
        for n in reversed(range(LAYERS)):
            share, _ = np.histogram(found[start][n], edges)
            height = 1.6 * share / share.max()
            axes.fill_between(middle, n + 1, n + 1 - height, color="C0", alpha=0.75, zorder=n)
            axes.plot(middle, n + 1 - height, color="white", lw=0.8, zorder=n)
        axes.set(xlabel="activation, after tanh", xlim=(-1, 1), yticks=range(1, LAYERS + 1))
        axes.set(ylim=(LAYERS + 0.4, -0.8), title=STARTS[start])
    axes.figure.axes[0].set_ylabel("layer (histograms of equal height)")
    return (
        f"After ten layers the mean square is {last:.3f} with Xavier's weights and "
        f"{square['default'][-1]:.0e} with ±1/√n, which loses two thirds of it at each layer."
    )
