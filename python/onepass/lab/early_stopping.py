"""Trained too long, a network learns wrong labels; the validation loss says when to stop.

A fifth of the labels of 600 digits is wrong, and as many of the validation part. The network first
learns what digits have in common, then the mistakes: the validation loss falls for a few epochs and
then rises by more than half, while the training loss goes on towards zero. EarlyStopping waits some
epochs for a better one and gives the best epoch's weights back, bit for bit.
"""

from typing import Any

import numpy as np

from onepass import nn, optim
from onepass.lab import Lab, digits, mislabelled
from onepass.train import Callback, EarlyStopping, History, Trainer

CODE, CHAPTER, SECONDS = "C34", "regularisation", 6.0
SOURCES = ("prechelt-1998", "minnesota-2025", "optimization-3")

EPOCHS, PATIENCE = 40, 5


class Keep(Callback):
    """The weights after every epoch, and their accuracy on data with true labels."""

    def __init__(self, X: Any, y: Any) -> None:
        self.X, self.y = X, y
        self.weights: list[dict[str, Any]] = []
        self.accuracy: list[float] = []

    def on_epoch_end(self, run: Any) -> None:
        self.weights.append({k: v.copy() for k, v in run.model.state_dict().items()})
        run.model.eval()
        self.accuracy.append(float(np.mean(run.model(self.X).argmax(axis=1) == self.y)))


def train(data: tuple[Any, ...], seed: int, callback: Callback) -> tuple[nn.Sequential, History]:
    X, y, X_val, y_val = data
    nn.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optimizer, callbacks=[callback], seed=seed, progress=False
    )
    return model, trainer.fit(X, y, max_epochs=EPOCHS, validation_data=(X_val, y_val))


def run(lab: Lab) -> str:
    X, y, X_test, y_test = digits(lab.seed)
    y = mislabelled(y, 0.2, lab.rng())
    data = X[:600], y[:600], X[600:], y[600:]
    keep = Keep(X_test, y_test)
    _, history = train(data, lab.seed, keep)
    loss, accuracy = np.array(history["val_loss"]), np.array(keep.accuracy)
    best = int(loss.argmin())
    shown = sorted({0, best, 9, 19, EPOCHS - 1})
    rows = [(e + 1, history["loss"][e], loss[e], accuracy[e]) for e in shown]
    lab.table(["epoch", "training loss", "validation loss", "test accuracy, true labels"], rows)
    lab.check("the best epoch is an early one", best + 1 <= 15, f"epoch {best + 1}")
    ratio = loss[-1] / loss[best]
    lab.check("the validation loss then rises by half", ratio > 1.5, f"{ratio:.2f} times")
    last = history["loss"][-1]
    lab.check("the training loss ends below 0.1", last < 0.1, f"{last:.3f}")

    stopping = EarlyStopping(patience=PATIENCE)
    model, _ = train(data, lab.seed, stopping)
    epochs = (stopping.best_epoch, stopping.stopped_epoch)
    in_time = epochs == (best + 1, best + 1 + PATIENCE)
    lab.check("EarlyStopping has that best epoch, and stops 5 later", in_time, epochs)
    then = keep.weights[stopping.best_epoch - 1]
    same = all(np.array_equal(v, then[k]) for k, v in model.state_dict().items())
    lab.check("it restores that epoch's weights bit for bit", same)
    model.eval()
    restored = float(np.mean(model(X_test).argmax(axis=1) == y_test))
    seen = f"{restored:.3f} and {accuracy[-1]:.3f}"
    lab.check("they are better than the last by 0.03", restored > accuracy[-1] + 0.03, seen)

    left, right = lab.figure(1, 2)
    every = range(1, EPOCHS + 1)
    left.plot(every, history["loss"], "--", label="training")
    left.plot(every, loss, label="validation")
    left.set(xlabel="epoch", ylabel="cross entropy", title="Loss, a fifth of the labels wrong")
    right.plot(every, accuracy, label="test, true labels")
    right.set(xlabel="epoch", ylabel="accuracy", title="Accuracy on digits with true labels")
    for axes in (left, right):
        axes.axvline(stopping.best_epoch, color="gray", ls=":", label="restored")
        axes.legend()
    return f"Test accuracy is {restored:.3f} when stopped, {accuracy[-1]:.3f} after all epochs."
