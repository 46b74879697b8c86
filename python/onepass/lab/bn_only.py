"""A network of random weights learns digits by the scales and shifts of its norms alone.

All linear layers keep their random initial weights. Only the two vectors of each batch norm are
trained, 1,024 of 86,026 numbers: they can scale, shift and switch off random features, no more.
That reads four digits in five and more: much of what a network does is to choose among what is
there (Frankle et al., 2021).
"""

import numpy as np

from onepass import nn, optim
from onepass.lab import Lab, digits
from onepass.train import Trainer

CODE, CHAPTER, SECONDS = "C23", "normalisation", 2.5
SOURCES = ("frankle-2021", "initialisation")
EPOCHS = 30


def network(seed: int) -> nn.Sequential:
    nn.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(64, 256), nn.BatchNorm1d(256), nn.ReLU(),
        nn.Linear(256, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 10),
    )  # fmt: skip


def training(lab: Lab, model: nn.Sequential) -> Trainer:
    X, y, X_test, y_test = digits(lab.seed)
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.01),
        metrics=["accuracy"], seed=lab.seed, progress=False,
    )  # fmt: skip
    trainer.fit(X, y, max_epochs=EPOCHS, validation_data=(X_test, y_test))
    return trainer


def run(lab: Lab) -> str:
    norms, everything = network(lab.seed), network(lab.seed)
    for layer in norms:
        if isinstance(layer, nn.Linear):
            layer.freeze()
    before = norms.state_dict()
    trained = {"norms only": training(lab, norms), "everything": training(lab, everything)}
    after = norms.state_dict()
    rows = []
    for name, trainer in trained.items():
        count = sum(p.data.size for p in trainer.model.parameters() if p.requires_grad)
        history = trainer.history
        rows.append((name, count, history["loss"][-1], history["val_accuracy"][-1]))
    lab.table(["trained", "numbers", "training loss", "test accuracy"], rows)
    frozen = [k for k in before if k[0] in "036"]  # the linear layers
    kept = all(np.array_equal(before[k], after[k]) for k in frozen)
    lab.check("the linear layers keep every bit", kept, f"{len(frozen)} arrays")
    counts = [row[1] for row in rows]
    lab.check("1,024 of 86,026 numbers are trained", counts == [1024, 86026], counts)
    accuracy = rows[0][3]
    lab.check("norms alone are right above 0.8", accuracy > 0.8, f"{accuracy:.3f}")

    curves, scales = lab.figure(1, 2)
    for name, trainer in trained.items():
        curves.plot(range(1, EPOCHS + 1), trainer.history["val_accuracy"], label=name)
    curves.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1), title="Trained numbers")
    curves.legend(loc="lower right")
    edges = np.linspace(-2, 4, 61)
    for name, trainer in trained.items():
        gamma = np.concatenate([trainer.model[i].weight.data for i in (1, 4)])
        scales.hist(gamma, edges, alpha=0.7, label=name)
    scales.axvline(1, color="k", lw=1, ls="--", label="at the start")
    scales.set(xlabel="scale γ of a unit", ylabel="units", title="Scales after training")
    scales.legend()
    return (
        f"Training 1 % of the numbers gets {accuracy:.1%} of the test images right, training all "
        f"of them {rows[1][3]:.1%}."
    )
