"""Scaling all weights by c scales the signal by cˡ after l layers.

With ReLU, weights of variance c²·2/n multiply the mean square by c² at every layer, exactly, if the
random draws are the same. So thirty layers leave 10⁻¹⁸ of it with c = ½ and 10¹⁸ times as much with
c = 2; only c = 1 keeps its size. Without an activation, normal weights of variance 1/n keep
lengths on average only, orthogonal ones the length of each vector.
"""

import numpy as np

from onepass import nn, ops
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C17", "initialisation", 0.7
SOURCES = ("he-2015", "saxe-2014", "initialisation")
LAYERS, WIDTH, BATCH = 30, 256, 64
FACTORS = (0.5, 1.0, 2.0)


def inputs(lab: Lab) -> np.ndarray:
    return lab.rng().standard_normal((BATCH, WIDTH), dtype=np.float32)


def squares(lab: Lab, c: float) -> np.ndarray:
    """Mean square before the ReLU of each layer."""
    x, found = inputs(lab), []
    for depth in range(LAYERS):
        layer = nn.Linear(WIDTH, WIDTH, bias=False)
        std = c * (2 / WIDTH) ** 0.5
        nn.init.normal(layer.weight, std=std, seed=100 * lab.seed + depth)
        z = layer(x)
        found.append(np.mean(np.square(z, dtype=np.float64)))
        x = ops.relu(z)
    return np.array(found)


def lengths(lab: Lab, scheme: str) -> np.ndarray:
    """|x_l| / |x_0| of each input after each linear layer: (LAYERS + 1, BATCH)."""
    x = inputs(lab)
    found = [np.linalg.norm(x.astype(np.float64), axis=1)]
    for depth in range(LAYERS):
        layer = nn.Linear(WIDTH, WIDTH, bias=False)
        nn.init.apply(layer, scheme, seed=100 * lab.seed + depth)
        x = layer(x)
        found.append(np.linalg.norm(x.astype(np.float64), axis=1))
    return np.array(found / found[0])


def run(lab: Lab) -> str:
    layer = np.arange(1, LAYERS + 1)
    square = {c: squares(lab, c) for c in FACTORS}
    lab.table(
        ["layer", *(f"c = {c:g}" for c in FACTORS)],
        [(n, *(square[c][n - 1] for c in FACTORS)) for n in (1, 10, 20, 30)],
        "Mean square before ReLU",
    )
    for c in (0.5, 2.0):
        off = np.abs(square[c] / (square[1.0] * c ** (2.0 * layer)) - 1).max()
        lab.check(f"c = {c:g} multiplies it by c²ˡ", off < 1e-4, f"off by {off:.1e}")
    kept = square[1.0][-1] / square[1.0][0]
    lab.check("c = 1 keeps it within a factor of 20", 1 / 20 < kept < 20, f"×{kept:.2f}")
    length = {scheme: lengths(lab, scheme) for scheme in ("orthogonal", "lecun_normal")}
    off = np.abs(length["orthogonal"] - 1).max()
    lab.check("orthogonal layers keep every length", off < 1e-5, f"off by {off:.1e}")
    ends = length["lecun_normal"][-1]
    seen = f"{ends.min():.2f} to {ends.max():.2f}"
    lab.check("normal ones do not", ends.max() > 1.2 * ends.min(), seen)
    scale, spread = lab.figure(1, 2)
    for c in FACTORS:
        (line,) = scale.semilogy(layer, square[c], "o", ms=4)
        scale.semilogy(layer, square[1.0] * c ** (2.0 * layer), color=line.get_color(), lw=1)
        scale.annotate(f"c = {c:g}", (30, square[c][-1]), (4, 0), textcoords="offset points",
                       va="center", color=line.get_color())  # fmt: skip
    scale.set(xlabel="layer l", ylabel="mean square before ReLU", xlim=(0, 35))
    scale.set_title("Weights of variance c²·2/n: dots measured, lines c²ˡ")
    for scheme, color in (("lecun_normal", "C1"), ("orthogonal", "C0")):
        values = length[scheme]
        name = "normal, variance 1/n" if scheme == "lecun_normal" else "orthogonal"
        spread.plot(values, color=color, lw=2 if scheme == "orthogonal" else 0.6)
        spread.plot([], [], color=color, label=name)
    spread.set(xlabel="linear layers", ylabel="length of x / length at the input", xlim=(0, 30))
    spread.set_title("Each of 64 inputs through linear layers")
    spread.legend()
    return (
        f"Thirty layers with c = 2 multiply the mean square by {square[2.0][-1]:.0e} and with "
        f"c = ½ by {square[0.5][-1]:.0e}; orthogonal ones keep every length to {off:.0e}."
    )
