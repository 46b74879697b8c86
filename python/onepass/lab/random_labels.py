"""A network learns labels that mean nothing almost as perfectly as true ones.

The same digits, network and training, once with their labels and once with labels drawn at random.
Both training sets are learned to 99 % and more. The first network reads new digits, the second
guesses. So the size of the network, or that training succeeded, cannot explain that it generalises:
it depends on the data as well (Zhang et al., 2017).
"""

from typing import Any

from onepass import nn, optim
from onepass.lab import Lab, digits
from onepass.train import History, Trainer

CODE, CHAPTER, SECONDS = "C38", "generalisation", 12.0
SOURCES = ("zhang-2017", "initialisation")

EPOCHS = 60


def train(data: tuple[Any, ...], seed: int) -> History:
    X, y, X_test, y_test = data
    nn.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optimizer, metrics=["accuracy"], seed=seed, progress=False
    )
    return trainer.fit(X, y, max_epochs=EPOCHS, validation_data=(X_test, y_test))


def run(lab: Lab) -> str:
    X, y, X_test, y_test = digits(lab.seed)
    drawn = lab.rng().integers(0, 10, len(y))
    labels = {"true": y, "random": drawn}
    found = {name: train((X, t, X_test, y_test), lab.seed) for name, t in labels.items()}
    columns = ["labels", "training loss", "training accuracy", "test accuracy"]
    last = {
        name: [history[column][-1] for column in ("loss", "accuracy", "val_accuracy")]
        for name, history in found.items()
    }
    lab.table(columns, [(name, *values) for name, values in last.items()])
    for name, (_, accuracy, _) in last.items():
        lab.check(f"{name} labels are learned to 0.99", accuracy >= 0.99, f"{accuracy:.4f}")
    true, random = last["true"][2], last["random"][2]
    lab.check("true labels: new digits are read", true > 0.95, f"{true:.4f}")
    lab.check("random labels: new digits are guessed", random < 0.2, f"{random:.4f}")

    left, right = lab.figure(1, 2)
    epochs = range(1, EPOCHS + 1)
    for name, color in (("true", "C0"), ("random", "C1")):
        history = found[name]
        left.plot(epochs, history["loss"], color=color, label=f"{name} labels")
        right.plot(epochs, history["accuracy"], "--", color=color, label=f"{name}, training")
        right.plot(epochs, history["val_accuracy"], color=color, label=f"{name}, test")
    left.set(xlabel="epoch", ylabel="training loss (cross entropy)", yscale="log")
    left.set_title("Both are learned")
    right.axhline(0.1, color="gray", lw=1, ls=":")
    right.annotate("luck", (EPOCHS, 0.1), (0, 3), textcoords="offset points", ha="right")
    right.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.03), title="One generalises")
    for axes in (left, right):
        axes.legend()
    return (
        f"Training accuracy is {last['true'][1]:.3f} and {last['random'][1]:.3f}, test accuracy "
        f"{true:.3f} with true and {random:.3f} with random labels."
    )
