"""Weights that begin equal stay equal: a layer of copies is worth a single unit.

Units of a layer that begin with the same weights compute the same number, get the same gradient and
remain copies for ever: 32 of them are worth one. With zeros not even one is left: the hidden layer
gives 0 and passes no gradient on, so only the last bias moves, which cannot tell digits apart.
Random initial values break this symmetry, and the same network learns.

Rounding breaks it too, where a product adds up the units' sums in different orders: hence float64.
"""

from typing import Any

import numpy as np

from onepass import nn, optim
from onepass.lab import Lab, digits
from onepass.train import Trainer

CODE, CHAPTER, SECONDS = "C15", "initialisation", 0.8
SOURCES = ("rumelhart-1986", "minnesota-2025", "optimization-3")
STARTS = ("zeros", "constant", "random")


def network(start: str, seed: int) -> nn.Sequential:
    first, last = nn.Linear(64, 32, dtype="float64"), nn.Linear(32, 10, dtype="float64")
    model = nn.Sequential(first, nn.Tanh(), last)
    nn.init.apply(model, "zeros" if start == "zeros" else "xavier_normal", seed)
    if start == "constant":
        for name, parameter in model.named_parameters():
            if name.endswith("weight"):
                nn.init.constant(parameter, 0.05)
    return model


def units(weight: Any) -> Any:
    """The weights of 32 units as images of 8×8 pixels, in four rows."""
    images = weight.reshape(4, 8, 8, 8)
    framed = np.pad(images, [(0, 0), (0, 0), (1, 0), (1, 0)], constant_values=np.nan)
    return framed.transpose(0, 2, 1, 3).reshape(4 * 9, 8 * 9)


def run(lab: Lab) -> str:
    X, y, X_test, y_test = digits(lab.seed)
    X, X_test = X.astype(np.float64), X_test.astype(np.float64)
    models, histories = {}, {}
    for start in STARTS:
        model = models[start] = network(start, lab.seed)
        optimizer = optim.SGD(model.parameters(), lr=0.5)
        trainer = Trainer(
            model, nn.CrossEntropyLoss(), optimizer,
            metrics=["accuracy"], seed=lab.seed, progress=False,
        )  # fmt: skip
        histories[start] = trainer.fit(X, y, max_epochs=20, validation_data=(X_test, y_test))
    accuracy = {start: histories[start]["val_accuracy"][-1] for start in STARTS}
    weights = {start: models[start].state_dict()["0.weight"] for start in STARTS}
    rank = {start: int(np.linalg.matrix_rank(weights[start], tol=1e-6)) for start in STARTS}
    rows = [(s, histories[s]["loss"][-1], accuracy[s], rank[s]) for s in STARTS]
    lab.table(["start", "training loss", "test accuracy", "rank of W₁"], rows)

    zero = models["zeros"].state_dict()
    moved = [name for name, value in zero.items() if value.any()]
    lab.check("from zeros only the last bias moves", moved == ["2.bias"], ", ".join(moved))
    seen = f"{accuracy['zeros']:.3f}"
    lab.check("from zeros it guesses (accuracy at most 0.15)", accuracy["zeros"] <= 0.15, seen)
    spread = np.ptp(weights["constant"], axis=0).max()
    lab.check("from a constant all units stay the same", spread <= 1e-6, f"differ by {spread:.1e}")
    lab.check("from a constant W₁ has rank 1", rank["constant"] == 1, rank["constant"])
    seen = f"{accuracy['constant']:.3f}"
    lab.check("one unit is not enough (accuracy below 0.5)", accuracy["constant"] < 0.5, seen)

    learns = accuracy["random"] > 0.9 and rank["random"] == 32
    seen = f"{accuracy['random']:.3f}, rank {rank['random']}"
    lab.check("from random values it learns, with 32 units", learns, seen)
    curves, constant, random = lab.figure(1, 3)
    for start in STARTS:
        curves.plot(range(1, 21), histories[start]["val_accuracy"], label=start)
    curves.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1), xticks=range(0, 21, 5))
    curves.set_title("Learning by start")
    curves.legend(loc=(0.65, 0.52), title="weights begin")
    for axes, start in ((constant, "constant"), (random, "random")):
        picture = units(weights[start])
        limit = np.nanmax(np.abs(picture))
        axes.imshow(picture, cmap="PuOr", vmin=-limit, vmax=limit)
        axes.set_axis_off()
        axes.set_title(f"32 hidden units, from {start} weights")
    return (
        f"From a constant the 32 hidden units are one unit, with {accuracy['constant']:.0%} right; "
        f"from zeros nothing is learned; from random values {accuracy['random']:.0%} are right."
    )
