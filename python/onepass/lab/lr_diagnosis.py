"""The learning curve tells whether the rate is too low, right, or too high.

The same network on images of digits, trained 15 epochs with six rates. Too low: the curve is a
straight line that hardly falls. Higher: it bends and comes down. Highest of the good ones: down
fast, perhaps with bumps on the way. Too high: it leaves at once and does not come back.

find_lr looks for a good rate before training: one step with each of many rates, then short
trainings with a few. Its suggestion lies inside the good range and trains.
"""

import numpy as np

from onepass import nn, optim
from onepass.lab import Lab, digits
from onepass.train import Trainer, find_lr

CODE, CHAPTER, SECONDS = "C13", "step sizes", 1.6
SOURCES = ("smith-2017", "minnesota-2025")
RATES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 3.0)
EPOCHS = 15


def trainer(seed: int, lr: float) -> Trainer:
    nn.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = optim.SGD(model.parameters(), lr=lr)
    return Trainer(
        model, nn.CrossEntropyLoss(), optimizer, nonfinite="propagate", seed=seed, progress=False
    )


def run(lab: Lab) -> str:
    X, y, _, _ = digits(lab.seed)

    def losses(lr: float) -> list[float]:
        own = trainer(lab.seed, lr)
        before = own.evaluate(X, y)["loss"]
        with np.errstate(all="ignore"):  # the highest rate overflows
            return [before, *own.fit(X, y, max_epochs=EPOCHS)["loss"]]

    found = find_lr(trainer(lab.seed, RATES[0]), X, y, steps=100)
    suggestion = found.suggestion or 0.0
    curves = {lr: losses(lr) for lr in (*RATES, suggestion)}
    epochs = (1, 5, 10, EPOCHS)
    rows = [(lr, *(curve[epoch] for epoch in epochs)) for lr, curve in curves.items()]
    columns = ["rate", "epoch 1", *map(str, epochs[1:])]
    lab.table(columns, rows, "Training loss; last, the suggestion")
    low = np.array(curves[RATES[0]][1:])
    fall, bend = low[0] - low[-1], np.abs(low - np.linspace(low[0], low[-1], EPOCHS)).max()
    seen = f"falls {fall:.3f}, {bend:.4f} off the line"
    lab.check("1e-4 falls by less than 0.1, in a line", 0 < 10 * bend < fall < 0.1, seen)
    ends = [curves[lr][-1] for lr in RATES]
    gap = -np.diff(ends[:4]).max()
    lab.check("from 1e-4 to 0.1 each rate ends lower by 0.2", gap > 0.2, f"least gap {gap:.2f}")
    lost = not any(loss <= 1e3 for loss in curves[3.0][1:])
    seen = f"{curves[3.0][1]:.3g}, then {ends[-1]:.3g}"
    lab.check("3 is lost from the first epoch: above 1000 or not a number", lost, seen)
    lab.check("1 ends below 0.02", ends[4] < 0.02, f"{ends[4]:.4f}")
    good = 0.03 <= suggestion <= 0.7
    lab.check("find_lr suggests a rate from 0.03 to 0.7", good, f"{suggestion:.3g}")
    end = curves[suggestion][-1]
    lab.check("which ends below 0.1", end < 0.1, f"{end:.4f}")

    left, right = lab.figure(1, 2)
    for lr in RATES:
        left.semilogy(curves[lr], ".-", label=f"{lr:g}")
    left.set(xlabel="epoch", ylabel="training loss", ylim=(1e-4, 1e2))
    left.set_title("The rate 3 leaves the picture at once")
    left.legend(title="rate", fontsize="small", ncols=2, loc="lower left")
    right.semilogx(found.lrs, found.losses, label="a step with each rate")
    ran = [(lr, loss) for lr, loss in found.trials if loss < 3]
    right.semilogx(*zip(*ran, strict=True), "o", label="after 100 steps with it")
    right.axvline(suggestion, color="0.4", linestyle=":", label=f"suggestion {suggestion:.2g}")
    right.set(xlabel="rate", ylabel="loss", ylim=(0, 3), title="find_lr: a rate with a margin")
    right.legend(fontsize="small")
    return f"""The rate 0.1 ends at {ends[3]:.3f}, and 3 is lost. find_lr suggests {suggestion:.2g},
        which ends at {end:.4f}."""
