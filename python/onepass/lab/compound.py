"""Small errors compound: at 60 % per digit, 0.2 % of twelve-digit numbers are read right.

If each of n readings is right with probability a, independently, all are with aⁿ. A reader that is
right 60 times in a hundred practically never reads a number of twelve digits; one that is right
989 times in a thousand does seven times in eight. So the last percents of accuracy decide
whether a chain of decisions is of use.
"""

import numpy as np

from onepass import nn, optim
from onepass.lab import Lab, digits
from onepass.train import Trainer

CODE, CHAPTER, SECONDS = "C49", "data", 0.4
SOURCES = ("goodfellow-2014", "skoltech")
DRAWS, LENGTH = 100_000, 12


def right(lab: Lab, epochs: int) -> np.ndarray:
    """Which test images a network reads right after so many epochs."""
    X, y, X_test, y_test = digits(lab.seed)
    nn.manual_seed(lab.seed)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
        seed=lab.seed, progress=False,
    )  # fmt: skip
    trainer.fit(X, y, max_epochs=epochs)
    return np.array(trainer.predict(X_test).argmax(axis=1) == y_test)


def run(lab: Lab) -> str:
    low, high = 0.6**LENGTH, 0.989**LENGTH
    lab.check("0.6¹² is 0.002177", round(low, 6) == 0.002177, f"{low:.6f}")
    lab.check("0.989¹² is 0.8757", round(high, 4) == 0.8757, f"{high:.4f}")
    rows, simulated = [], {}
    for epochs in (1, 15):
        read = right(lab, epochs)
        a = float(read.mean())
        numbers = read[lab.rng(epochs).integers(len(read), size=(DRAWS, LENGTH))]
        simulated[a] = np.logical_and.accumulate(numbers, axis=1).mean(axis=0)
        seen, expected = simulated[a][-1], a**LENGTH
        deviation = np.sqrt(expected * (1 - expected) / DRAWS)
        off = abs(seen - expected) / deviation
        trained = f"{epochs} epoch{'s' * (epochs > 1)}"
        claim = f"a network after {trained} reads a¹² of the numbers"
        lab.check(claim, off < 5, f"{seen:.4f}, {off:.1f} deviations off")
        rows.append((f"network, {trained}", a, expected, f"{seen:.4f}"))
    rows += [("example", 0.6, low, ""), ("example", 0.989, high, "")]
    lab.table(["reader", "right a", "a¹²", "simulated"], rows)

    axes = lab.figure()
    n = np.arange(1, LENGTH + 1)
    accuracies = sorted([0.6, *simulated, 0.989])
    for number, a in enumerate(accuracies):
        axes.plot(n, a**n, color=f"C{number}")
        if a in simulated:
            axes.plot(n, simulated[a], "o", ms=5, color=f"C{number}")
        text = f" a = {a:.3f}" + (", network" if a in simulated else "")
        place = ("center", "center", "top", "bottom")[number]
        axes.text(LENGTH + 0.2, a**LENGTH, text, color=f"C{number}", va=place)
    axes.set(xlabel="digits n in the number", ylabel="share of numbers read right")
    axes.set(
        xlim=(0.5, 18.5),
        ylim=(-0.03, 1.01),
        xticks=n,
        title="All n digits right: lines aⁿ, dots simulated",
    )
    return (
        f"The trained network is right in {rows[1][1]:.1%} of single digits, and reads "
        f"{rows[1][2]:.1%} of the numbers of {LENGTH} digits without an error."
    )
