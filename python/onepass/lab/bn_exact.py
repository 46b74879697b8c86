"""Normalisation as identities: which elements share a mean, and what undoes it.

A batch norm whose scale is the batch's deviation and whose shift is its mean gives its input back.
Batch renorm is batch norm within the limits 1 and 0, and without limits the same in training as in
evaluation. The norms differ in nothing but the elements that share a mean and a variance, so that
an output of a batch norm depends on the other samples, of the other norms on its own alone.
"""

from typing import Any

import numpy as np

from onepass import nn
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C26", "normalisation", 0.3
SOURCES = ("ioffe-2015", "ioffe-2017", "wu-2018", "optimization-3", "skoltech", "minnesota-2025")
N, C, L = 5, 6, 8  # samples, channels, length
NORMS: dict[str, tuple[Any, ...]] = {
    "batch norm": (nn.BatchNorm1d, [C], lambda n, c: c == 0),
    "layer norm": (nn.LayerNorm, [(C, L)], lambda n, c: n == 0),
    "instance norm": (nn.InstanceNorm1d, [C], lambda n, c: n + c == 0),
    "group norm": (nn.GroupNorm, [2, C], lambda n, c: (n == 0) & (c < 3)),
}


def reach(norm: nn.Module, x: np.ndarray) -> Any:
    """|∂y/∂x| of an output of sample 0, channel 0: (N, C), the largest along the length."""
    dy = np.zeros_like(x)
    dy[0, 0, 0] = 1.0
    norm(x)
    dx: Any = norm.backward(dy)
    return np.abs(dx).max(axis=2)


def run(lab: Lab) -> str:
    rng = lab.rng()
    x = rng.standard_normal((64, C)) * 3 + 5
    dy = rng.standard_normal(x.shape)

    def close(claim: str, a: Any, b: Any, bound: float = 1e-12) -> None:
        off = np.abs(a - b).max() / np.abs(b).max()
        lab.check(claim, off < bound, f"off by {off:.1e}")

    undone = nn.BatchNorm1d(C, dtype="float64")
    scale, shift = undone.parameters()
    scale.data[:] = np.sqrt(x.var(axis=0) + undone.eps)
    shift.data[:] = x.mean(axis=0)
    close("γ = √(Var + ε), β = mean gives x back", undone(x), x)
    plain = nn.BatchNorm1d(C, dtype="float64")
    bound = nn.BatchRenorm(C, rmax=1, dmax=0, dtype="float64")
    close("renorm within 1 and 0 is batch norm", bound(x), plain(x))
    close("and so is its gradient", bound.backward(dy), plain.backward(dy))
    free = nn.BatchRenorm(C, rmax=np.inf, dmax=np.inf, dtype="float64")
    state = {"running_mean": rng.normal(5, 1, C), "running_var": rng.uniform(4, 16, C)}
    free.load_state_dict(state, strict=False)
    evaluated = free.eval()(x)
    close("renorm without limits: training is evaluation", free.train()(x), evaluated)
    model = nn.Sequential(nn.Linear(C, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    single = x.astype(np.float32)
    for _ in range(20):
        model(single)
    folded = nn.fold_batch_norm(model)
    close("folded into the layer before it", folded(single), model.eval()(single), 1e-6)

    x = rng.standard_normal((N, C, L)) * 3 + 5
    rows = []
    panels = lab.figure(2, 2, sharex=True, sharey=True)
    for axes, (name, (kind, sizes, shares)) in zip(panels.flat, NORMS.items(), strict=True):
        norm = kind(*sizes, eps=1e-12, dtype="float64")
        reached, own = reach(norm, x) > 0, np.fromfunction(shares, (N, C))
        seen = f"{np.sum(reached)} of {N * C} cells"
        lab.check(f"{name}: an output depends on its set", np.array_equal(reached, own), seen)
        group = norm(x)[own]
        rows.append((name, int(group.size), abs(group.mean()), abs(group.var() - 1)))
        good = max(rows[-1][2:]) < 1e-9
        lab.check(f"{name}: mean 0, variance 1 over it", good, f"{max(rows[-1][2:]):.1e}")
        shade = np.where(reached, 0.75, 0.1)
        axes.pcolormesh(shade, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=3)
        axes.plot(0.5, 0.5, "o", color="C1", ms=9)
        axes.set(xticks=np.arange(C) + 0.5, xticklabels=range(C), xlabel="channel", title=name)
        axes.set(yticks=np.arange(N) + 0.5, yticklabels=range(N), ylabel="sample")
        axes.grid(False)
    axes.invert_yaxis()
    axes.figure.suptitle("Elements (blue) on which an output of the orange cell depends")
    lab.table(["norm", "elements", "|mean|", "|variance - 1|"], rows, "Of the output's set")
    return (
        "Every identity holds to rounding; an output of a batch norm depends on all samples of its "
        "channel, and that of the others on its own sample only."
    )
