"""On the digits, adaptive optimizers generalise as well as SGD.

Wilson et al. (2017) claim, of large networks, that Adam and its kin reach a lower training loss but
do worse on new data than plain descent. Here the mean test accuracies of five optimizers, over
five seeds, are within a hundredth, though their training losses differ several times. A claim
about optimizers needs the data it was made on.
"""

from collections.abc import Callable

import numpy as np

from onepass import nn, optim
from onepass.lab import Lab, digits
from onepass.train import Trainer

CODE, CHAPTER, SECONDS = "C51", "generalisation", 10.0
SOURCES = ("wilson-2017", "initialisation")
EPOCHS, RUNS = 15, 5
OPTIMIZERS: dict[str, Callable[[nn.Module], optim.Optimizer]] = {
    "SGD": lambda model: optim.SGD(model, lr=0.1),
    "momentum": lambda model: optim.SGD(model, lr=0.02, momentum=0.9),
    "Nesterov": lambda model: optim.SGD(model, lr=0.02, momentum=0.9, nesterov=True),
    "Adam": lambda model: optim.Adam(model, lr=1e-3),
    "AdamW": lambda model: optim.AdamW(model, lr=1e-3),
}


def training(seed: int, name: str) -> tuple[list[float], list[float]]:
    """Training loss and test accuracy of each epoch."""
    X, y, X_test, y_test = digits(seed)
    nn.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), OPTIMIZERS[name](model),
        metrics=["accuracy"], seed=seed, progress=False,
    )  # fmt: skip
    history = trainer.fit(X, y, max_epochs=EPOCHS, validation_data=(X_test, y_test))
    return history["loss"], history["val_accuracy"]


def run(lab: Lab) -> str:
    seeds = range(lab.seed, lab.seed + RUNS)
    found = {name: np.array([training(seed, name) for seed in seeds]) for name in OPTIMIZERS}
    last = {name: values[:, 1, -1] for name, values in found.items()}
    rows = [
        (name, found[name][:, 0, -1].mean(), last[name].mean(), last[name].std(ddof=1))
        for name in OPTIMIZERS
    ]
    lab.table(["optimizer", "training loss", "test accuracy", "± deviation"], rows, "Five seeds")
    for name in OPTIMIZERS:
        least = last[name].min()
        lab.check(f"{name}: above 0.97 from every seed", least > 0.97, f"at least {least:.3f}")
    means = [float(row[2]) for row in rows]
    losses = [float(row[1]) for row in rows]
    apart = max(means) - min(means)
    lab.check("the means are within 0.01 of each other", apart < 0.01, f"{apart:.4f} apart")
    times = max(losses) / min(losses)
    lab.check("the training losses are not", times > 3, f"{times:.1f} times")
    loss, test = lab.figure(1, 2)
    for number, name in enumerate(OPTIMIZERS):
        curve = found[name][:, 0].mean(axis=0)
        loss.semilogy(range(1, EPOCHS + 1), curve, "os^Dv"[number] + "-", ms=4, label=name)
        spread = (number + np.linspace(-0.12, 0.12, RUNS), last[name])
        test.plot(*spread, "o", ms=4, color=f"C{number}", alpha=0.6)
        test.errorbar(number + 0.25, *rows[number][2:], fmt="_", ms=12, color=f"C{number}")
    loss.set(xlabel="epoch", ylabel="training loss (mean of 5 seeds)", title="Training")
    loss.legend()
    test.set(ylabel="test accuracy", title="Test: five seeds, mean ± deviation")
    test.set(xlabel="optimizer", xticks=range(len(OPTIMIZERS)), xticklabels=OPTIMIZERS)
    return (
        f"Mean test accuracies lie between {min(means):.3f} and {max(means):.3f}; over seeds each "
        f"has a deviation of up to {max(row[3] for row in rows):.3f}."
    )
