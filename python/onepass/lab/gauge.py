"""Moving a factor between layers leaves the outputs alone but rescales both gradients.

ReLU passes positive factors on, so a network whose first weights are c times larger and whose
second are c times smaller is the same function. Its gradients are not: the first is c times
smaller, the second c times larger, and one learning rate can hardly suit both. Before a batch norm
the first weights may be scaled alone: the loss and the second gradient stay, and the first is at
right angles to each unit's weights, since their length has no effect.
"""

from typing import Any

import numpy as np

from onepass import nn
from onepass.lab import Lab, digits

CODE, CHAPTER, SECONDS = "C19", "initialisation", 0.5
SOURCES = ("neyshabur-2015", "skoltech")


def chain(w: tuple[float, ...]) -> tuple[float, np.ndarray]:
    """z = w₄w₃w₂w₁ and its derivatives."""
    z = float(np.prod(w))
    return z, z / np.array(w)


def network(seed: int, norm: bool, c: float) -> nn.Sequential:
    """64-32-10; W₁ times c, and without the norm W₂ divided by it."""
    middle = [nn.BatchNorm1d(32, eps=1e-12, dtype="float64")] if norm else []
    first = nn.Linear(64, 32, bias=False, dtype="float64")
    last = nn.Linear(32, 10, dtype="float64")
    model = nn.Sequential(first, *middle, nn.ReLU(), last)
    nn.init.apply(model, seed=seed)
    first.weight.data *= c
    if not norm:
        last.weight.data /= c
    return model


def gradients(model: nn.Sequential, X: np.ndarray, y: np.ndarray) -> tuple[Any, Any, Any]:
    """Loss, |∇W₁|, |∇W₂|."""
    loss, dy = nn.CrossEntropyLoss()(model(X), y)
    model.backward(dy)
    grads: list[Any] = [p.grad for p in model.parameters() if p.data.ndim == 2]
    return loss, np.linalg.norm(grads[0]), np.linalg.norm(grads[1])


def run(lab: Lab) -> str:
    (z, dz), (z_moved, dz_moved) = chain((1, 1, 1, 1)), chain((1, 0.01, 100, 1))
    same = z == z_moved and np.allclose(dz_moved / dz, (1, 100, 0.01, 1), rtol=1e-12)
    lab.check("a chain of factors: z stays, ∂z/∂w₂ grows 100 times", same, f"{dz_moved[1]:g}")
    X, y, _, _ = digits(lab.seed, samples=256)
    X = X.astype(np.float64)
    factors = np.geomspace(0.01, 100, 9)
    seen = {n: [gradients(network(lab.seed, n, c), X, y) for c in factors] for n in (False, True)}
    rows = [
        ("batch norm" if norm else "plain", c, *seen[norm][i])
        for norm in (False, True) for i, c in enumerate(factors) if i % 4 == 0
    ]  # fmt: skip
    lab.table(["network", "c", "loss", "|∇W₁|", "|∇W₂|"], rows)
    for norm, power in ((False, 1.0), (True, 0.0)):
        loss, first, second = (np.array(v) / v[4] for v in zip(*seen[norm], strict=True))
        name = "batch norm" if norm else "plain"
        off = [np.abs(v - 1).max() for v in (loss, first * factors, second / factors**power)]
        lab.check(f"{name}: the loss stays", off[0] < 1e-6, f"off by {off[0]:.1e}")
        lab.check(f"{name}: |∇W₁| is divided by c", off[1] < 1e-6, f"off by {off[1]:.1e}")
        does = "stays" if norm else "is multiplied by c"
        lab.check(f"{name}: |∇W₂| {does}", off[2] < 1e-6, f"off by {off[2]:.1e}")
    outputs, moved = (network(lab.seed, False, c)(X) for c in (1.0, 100.0))
    off = np.abs(moved - outputs).max()
    lab.check("plain: every output stays", off < 1e-9, f"off by {off:.1e}")
    model = network(lab.seed, True, 1.0)
    gradients(model, X, y)
    weight = next(model.parameters())
    inner = np.abs(np.sum(weight.data * weight.grad, axis=1)).max()
    lab.check("batch norm: ∇W₁ is at right angles to W₁, row by row", inner < 1e-9, f"{inner:.1e}")

    for axes, norm in zip(lab.figure(1, 2, sharey=True), (False, True), strict=True):
        for values, label in zip(
            zip(*seen[norm], strict=True), ("loss", "|∇W₁|", "|∇W₂|"), strict=True
        ):
            axes.loglog(factors, values, "o-", ms=4, label=label)
        axes.set_xlabel("factor c on W₁" + ("" if norm else ", 1/c on W₂"))
        axes.set_title("Batch norm behind W₁" if norm else "No norm: the same function")
        axes.legend()
    axes.figure.axes[0].set_ylabel("loss, length of a gradient")
    return (
        "The same function has gradients that differ by any factor, as its layers share their "
        "scale; a batch norm takes away the effect of the first layer's scale on the second."
    )
