"""Training on shifted digits buys robustness to shifts, not accuracy on centred digits.

A network that has seen 100 centred digits misreads most of those that are moved by a pixel. Trained
on the same 100, moved anew by -1, 0 or 1 pixels each time, it reads three in five of them and more.
Centred ones it reads no better: one augments by the changes one wants to be robust to.
"""

from typing import Any

import numpy as np

from onepass import data, nn, optim
from onepass.data.augment import RandomCrop
from onepass.lab import Lab
from onepass.train import Trainer

CODE, CHAPTER, SECONDS = "C35", "data", 3.0
SOURCES = ("simard-2003", "optimization-3", "minnesota-2025")

SAMPLES, EPOCHS = 100, 200
SHIFT = RandomCrop(8, padding=1)  # by -1, 0 or 1 pixels along each axis


def images(seed: int) -> tuple[Any, Any, Any, Any]:
    """Digits as images (N, 1, 8, 8) with values of 0 to 1."""
    X, y = data.load("digits")
    X = (X / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    X, X_test, y, y_test = data.train_test_split(X, y, test_size=0.25, seed=seed)
    return X[:SAMPLES], y[:SAMPLES], X_test, y_test


def train(X: Any, y: Any, seed: int, transform: Any) -> Trainer:
    nn.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optimizer, metrics=["accuracy"], seed=seed, progress=False
    )
    trainer.fit(X, y, max_epochs=EPOCHS, transform=transform)
    return trainer


def by_shift(trainer: Trainer, X: Any, y: Any) -> np.ndarray:
    """Accuracy where all of X is moved by (down, right), each -1, 0 or 1."""
    padded = np.pad(X, ((0, 0), (0, 0), (1, 1), (1, 1)))
    found = np.empty((3, 3))
    for row, column in np.ndindex(3, 3):
        moved = padded[:, :, 2 - row : 10 - row, 2 - column : 10 - column]
        found[row, column] = trainer.evaluate(np.ascontiguousarray(moved), y)["accuracy"]
    return found


def run(lab: Lab) -> str:
    X, y, X_test, y_test = images(lab.seed)
    moved, _ = SHIFT(X_test, y_test, seed=lab.seed, epoch=0, index=np.arange(len(X_test)))
    trainers = {
        "digits as they are": train(X, y, lab.seed, None),
        "digits moved anew each time": train(X, y, lab.seed, SHIFT),
    }
    accuracies = {
        name: [trainer.evaluate(inputs, y_test)["accuracy"] for inputs in (X_test, moved)]
        for name, trainer in trainers.items()
    }
    rows = [(name, *found) for name, found in accuracies.items()]
    lab.table(["trained on", "as they are", "moved"], rows, "Test accuracy")
    (plain, plain_moved), (augmented, augmented_moved) = accuracies.values()
    gain, change = augmented_moved - plain_moved, augmented - plain
    lab.check("on moved digits it gains more than 0.2", gain > 0.2, f"{gain:+.3f}")
    lab.check("without, moved digits: below 0.5", plain_moved < 0.5, f"{plain_moved:.3f}")
    lab.check("with it: above 0.6", augmented_moved > 0.6, f"{augmented_moved:.3f}")
    lab.check("as they are: no gain above 0.02", change < 0.02, f"{change:+.3f}")
    axes = lab.figure(1, 3)
    tiles = np.pad(moved[:12, 0], ((0, 0), (1, 1), (1, 1))).reshape(3, 4, 10, 10)
    axes[0].imshow(tiles.transpose(0, 2, 1, 3).reshape(30, 40), "Greys")
    axes[0].set(title="Test digits, moved")
    axes[0].axis("off")
    for ax, (name, trainer) in zip(axes[1:], trainers.items(), strict=True):
        found = by_shift(trainer, X_test, y_test)
        ax.imshow(found, "cividis", vmin=0, vmax=1)
        for row, column in np.ndindex(3, 3):
            value = found[row, column]
            color = "black" if value > 0.5 else "white"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
        ax.set(xticks=range(3), yticks=range(3), xticklabels=(-1, 0, 1), yticklabels=(-1, 0, 1))
        ax.set(xlabel="pixels to the right", ylabel="pixels down", title=f"Trained on {name}")
        ax.grid(visible=False)
    return (
        f"On moved digits accuracy rises from {plain_moved:.2f} to {augmented_moved:.2f}; as they "
        f"are, it goes from {plain:.2f} to {augmented:.2f}."
    )
