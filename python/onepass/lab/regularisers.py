"""Where a fifth of the labels is wrong, dropout with bounded weights helps most.

600 digits, 20 % with a wrong label, and a network that can learn them by heart. Weight decay and
dropout each make fewer errors than none, dropout with max-norm, a bound on each unit's weights, the
fewest. It trains at a higher rate too, but on 300 clean labels it gains nothing.
"""

from typing import Any

import numpy as np

from onepass import nn, optim
from onepass.lab import Lab, digits, mislabelled
from onepass.train import TerminateOnNaN, Trainer

CODE, CHAPTER, SECONDS = "C33", "regularisation", 16.0
SOURCES = ("srivastava-2014", "optimization-3")
EPOCHS, SEEDS = 60, 3
BEST, FAST = "dropout + max-norm 1", "300 clean: dropout + max-norm 2"
CLEAN: dict[str, Any] = {"samples": 300, "wrong": 0.0, "lr": 0.05}
WAYS: dict[str, dict[str, Any]] = {
    "none": {},
    "L2 0.01": {"weight_decay": 0.01},
    "dropout": {"p": 0.5},
    BEST: {"p": 0.5, "max_weight_norm": 1.0},
    "300 clean: none": CLEAN,
    FAST: {**CLEAN, "p": 0.5, "max_weight_norm": 2.0},
}


def network(p: float) -> nn.Sequential:
    """64-256-256-10 with dropout on its hidden layers."""
    return nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Dropout(p),
        nn.Linear(256, 256), nn.ReLU(), nn.Dropout(p), nn.Linear(256, 10),
    )  # fmt: skip


def train(
    seed: int, samples: int = 600, wrong: float = 0.2, lr: float = 0.02, p: float = 0.0, **rest: Any
) -> tuple[Trainer, float, float]:
    """The trainer, its accuracy on the given labels, and the error on new digits in %."""
    X, y, X_test, y_test = digits(seed, samples)
    y = mislabelled(y, wrong, np.random.default_rng(seed))
    nn.manual_seed(seed)
    model = network(p)
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9, **rest)
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optimizer, metrics=["accuracy"],
        callbacks=[TerminateOnNaN()], nonfinite="propagate", seed=seed, progress=False,
    )  # fmt: skip
    trainer.fit(X, y, max_epochs=EPOCHS)
    learned, new = (trainer.evaluate(*part)["accuracy"] for part in ((X, y), (X_test, y_test)))
    return trainer, learned, 100 * (1 - new)


def run(lab: Lab) -> str:
    seeds = range(lab.seed, lab.seed + SEEDS)
    found = {name: [train(seed, **options) for seed in seeds] for name, options in WAYS.items()}
    errors = {name: [error for *_, error in runs] for name, runs in found.items()}
    learned = {name: [accuracy for _, accuracy, _ in runs] for name, runs in found.items()}
    mean = {name: float(np.mean(errors[name])) for name in WAYS}
    rows = [(n, mean[n], *errors[n], np.mean(learned[n])) for n in WAYS]
    columns = ["regulariser", "mean", *map("seed {}".format, seeds), "training accuracy"]
    lab.table(columns, rows, "Test error in %, true labels")
    gain = mean["none"] - mean[BEST]
    lab.check("dropout + max-norm: 1.5 points fewer errors", gain >= 1.5, f"{gain:.1f} points")
    for name in ("L2 0.01", "dropout"):
        seen = f"{mean[name]:.1f} %"
        lab.check(f"{name}: between the two", mean[BEST] < mean[name] < mean["none"], seen)
    less = mean["300 clean: none"] - mean[FAST]
    lab.check("300 clean: with it no gain", less < 0.5, f"{less:+.1f} points fewer errors")
    heart, both = min(learned["none"]), max(learned[BEST])
    lab.check("without, 99.5 % of labels are learned", heart > 0.995, f"at least {heart:.4f}")
    lab.check("with both, less than 97 %", both < 0.97, f"at most {both:.3f}")
    weights = [t.model[layer].weight.data for t, *_ in found[BEST] for layer in (0, 3, 6)]
    longest = max(float(np.linalg.norm(w, axis=1).max()) for w in weights)
    lab.check("no unit's norm exceeds 1", longest <= 1 + 1e-6, f"{longest:.7f}")
    losses = np.concatenate([t.history.get("loss", [np.inf]) for t, *_ in found[FAST]])
    finite = np.isfinite(losses).all()
    lab.check("max-norm 2: finite at rate 0.05", finite, f"at most {losses.max():.2f}")
    axes = lab.figure()
    axes.figure.set_figwidth(7.5)
    for place, name in enumerate(WAYS):
        axes.plot(errors[name], [place] * SEEDS, "o", color=f"C{place // 4}", ms=5)
        axes.plot(mean[name], place, "k|", ms=22, mew=2)
    axes.set_yticks(range(len(WAYS)), WAYS)
    axes.set(xlabel="test error in % (dots: seeds, bars: means)", ylim=(len(WAYS) - 0.5, -0.5))
    axes.set_title("600 digits, 20 % mislabelled, and 300 clean ones")
    return f"Dropout with max-norm makes {gain:.1f} points fewer errors than training without."
