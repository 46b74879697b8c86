"""Where a fifth of the labels is wrong, dropout with a bound on the weights' norms helps most.

600 digits, 20 % of them with a wrong label, and a network large enough to learn them all by heart.
Decay of the weights and dropout each keep it from that; dropout together with max-norm, a bound on
the norm of each unit's weights, does best, and the bound lets it train at a high rate. Dropout pays
where there is something to overfit: on as many clean labels, plain training is better.
"""

from typing import Any

import numpy as np

from onepass import nn, optim
from onepass.lab import Lab, digits, mislabelled
from onepass.train import TerminateOnNaN, Trainer

CODE, CHAPTER, SECONDS = "C33", "regularisation", 30.0
SOURCES = ("optimization-3",)

EPOCHS, SEEDS = 60, 3
WAYS: dict[str, dict[str, Any]] = {
    "none": {},
    "L2 0.01": {"weight_decay": 0.01},
    "dropout": {"p": 0.5},
    "dropout + max-norm 1": {"p": 0.5, "max_weight_norm": 1.0},
}


def network(p: float) -> nn.Sequential:
    """64-256-256-10 with dropout on its hidden layers."""
    return nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Dropout(p),
        nn.Linear(256, 256), nn.ReLU(), nn.Dropout(p), nn.Linear(256, 10),
    )  # fmt: skip


def train(X: Any, y: Any, seed: int, lr: float = 0.02, p: float = 0.0, **options: Any) -> Trainer:
    nn.manual_seed(seed)
    model = network(p)
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9, **options)
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optimizer, metrics=["accuracy"],
        callbacks=[TerminateOnNaN()], nonfinite="propagate", seed=seed, progress=False,
    )  # fmt: skip
    trainer.fit(X, y, max_epochs=EPOCHS)
    return trainer


def run(lab: Lab) -> str:
    errors = {name: [] for name in WAYS}
    learned = {name: [] for name in WAYS}
    longest = 0.0
    for seed in range(lab.seed, lab.seed + SEEDS):
        X, y, X_test, y_test = digits(seed, 600)
        y = mislabelled(y, 0.2, lab.rng(seed))
        for name, options in WAYS.items():
            trainer = train(X, y, seed, **options)
            errors[name].append(100 * (1 - trainer.evaluate(X_test, y_test)["accuracy"]))
            learned[name].append(trainer.evaluate(X, y)["accuracy"])
        weights = [p.data for p in trainer.model.parameters() if p.data.ndim == 2]
        longest = max(longest, *(np.linalg.norm(w, axis=1).max() for w in weights))
    rows = [(n, np.mean(errors[n]), *errors[n], np.mean(learned[n])) for n in WAYS]
    columns = ["regulariser", "mean", *(f"seed {lab.seed + k}" for k in range(SEEDS))]
    lab.table([*columns, "training accuracy"], rows, "Test error in %, true labels")
    gain = np.mean(errors["none"]) - np.mean(errors["dropout + max-norm 1"])
    claim = "dropout + max-norm: at least 1.5 points fewer errors"
    lab.check(claim, gain >= 1.5, f"{gain:.1f} points")
    heart = min(learned["none"])
    lab.check("without, all labels are learned by heart", heart == 1.0, f"{heart:.4f}")
    heart = max(learned["dropout + max-norm 1"])
    lab.check("with them they are not", heart < 0.97, f"at most {heart:.3f}")
    lab.check("no unit's norm exceeds 1", longest <= 1 + 1e-6, f"{longest:.7f}")

    X, y, X_test, y_test = digits(lab.seed, 300)
    fast = train(X, y, lab.seed, lr=0.05, p=0.5, max_weight_norm=2.0)
    error = 100 * (1 - fast.evaluate(X_test, y_test)["accuracy"])
    claim = "at rate 0.05 and momentum 0.9, max-norm 2 keeps the loss finite"
    lab.check(claim, np.isfinite(fast.history["loss"]).all(), f"{error:.1f} % errors")

    axes = lab.figure()
    for place, name in enumerate(WAYS):
        axes.plot(errors[name], [place] * SEEDS, "o", color="C0", ms=5)
        axes.plot(np.mean(errors[name]), place, "k|", ms=22, mew=2)
    axes.set_yticks(range(len(WAYS)), WAYS)
    axes.set(xlabel="test error in % (dots: seeds, bar: mean)", ylim=(len(WAYS) - 0.5, -0.5))
    axes.set_title("600 digits, 20 % of the labels wrong")
    return f"Dropout with max-norm makes {gain:.1f} points fewer errors than training without."
