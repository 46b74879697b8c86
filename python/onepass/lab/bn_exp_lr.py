"""Weight decay before a batch norm is a learning rate that grows exponentially.

The length of weights before a batch norm has no effect on the output, and the gradient gets smaller
as they get longer. Decay shortens them by a = 1 - ηλ a step, which is the same as leaving them
alone and raising their rate: run B without decay, with the rate η·a^(-2t-1) for these weights, is
at every step t as good as run A with decay, loss for loss, and its weights are a^(-t) times A's
(Li & Arora, 2020).
"""

import numpy as np

from onepass import nn, optim
from onepass.data import DataLoader
from onepass.lab import Lab, digits
from onepass.optim.lr_scheduler import LambdaLR

CODE, CHAPTER, SECONDS = "C24", "normalisation", 0.6
SOURCES = ("li-2020", "initialisation")
RATE, DECAY, STEPS = 0.05, 0.01, 200
SHRINK = 1 - RATE * DECAY


def network(seed: int) -> nn.Sequential:
    nn.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(64, 32, bias=False, dtype="float64"),
        nn.BatchNorm1d(32, eps=1e-12, dtype="float64"), nn.ReLU(),
        nn.Linear(32, 10, dtype="float64"),
    )  # fmt: skip


def training(lab: Lab, decay: float, growth: float) -> tuple[np.ndarray, np.ndarray]:
    """Losses and lengths of the first weights; their rate is η·growth^(-2t-1) at step t."""
    X, y, _, _ = digits(lab.seed)
    batches = DataLoader(X.astype(np.float64), y, 32, shuffle=True, drop_last=True, seed=lab.seed)
    model, loss_fn = network(lab.seed), nn.CrossEntropyLoss()
    first, *others = model.parameters()
    groups = [{"params": [first], "weight_decay": decay}, {"params": others}]
    optimizer = optim.SGD(groups, lr=RATE)
    schedule = LambdaLR(optimizer, [lambda t: growth ** (-2 * t - 1), lambda t: 1.0])
    losses: list[float] = []
    lengths: list[float] = []
    while len(losses) < STEPS:
        for x, target in batches:
            lengths.append(float(np.linalg.norm(first.data)))
            loss, dy = loss_fn(model(x), target)
            model.backward(dy)
            optimizer.step(zero_grad=True)
            schedule.step()
            losses.append(float(loss))
    return np.array(losses[:STEPS]), np.array(lengths[:STEPS])


def run(lab: Lab) -> str:
    decayed, length = training(lab, DECAY, 1.0)
    grown, grown_length = training(lab, 0.0, SHRINK)
    plain, plain_length = training(lab, 0.0, 1.0)
    step = np.arange(STEPS)
    same = np.abs(grown - decayed)
    other = np.abs(plain - decayed)
    ratio = np.abs(grown_length / length * SHRINK**step - 1).max()
    rows = [
        ("A: decay", decayed[-1], 0.0, length[-1]),
        ("B: growing rate", grown[-1], same.max(), grown_length[-1]),
        ("neither", plain[-1], other.max(), plain_length[-1]),
    ]
    lab.table(["run", f"loss of step {STEPS}", "largest distance to A's losses", "|W|"], rows)
    lab.check("B's losses are A's", same.max() < 1e-9, f"differ by {same.max():.1e}")
    lab.check("B's weights are a^(-t) times A's", ratio < 1e-9, f"off by {ratio:.1e}")
    lab.check("without either they are not", other.max() > 1e-3, f"differ by {other.max():.4f}")

    losses, distance, rate = lab.figure(1, 3)
    losses.plot(step, decayed, lw=4, alpha=0.4, label="A: weight decay")
    losses.plot(step, grown, lw=1, label="B: growing rate")
    losses.set(xlabel="step", ylabel="loss of the batch", title="Two runs, one curve")
    losses.legend()
    distance.semilogy(step, other, color="C2", label="neither", nonpositive="mask")
    distance.semilogy(step, same, color="C1", label="B", nonpositive="mask")
    distance.set(xlabel="step", ylabel="|loss - loss of A|", title="Distance to run A")
    distance.legend(loc="center right")
    rate.plot(step, SHRINK ** (-2.0 * step - 1), color="C1", label="B's rate / η")
    rate.plot(step, grown_length / length, "--", color="C3", label="B's |W| / A's |W|")
    rate.set(xlabel="step", ylabel="ratio", title="What differs between A and B")
    rate.legend()
    return (
        f"Over {STEPS} steps the losses of the two runs differ by at most {same.max():.0e}: before "
        "a batch norm, weight decay only sets the pace of the learning rate."
    )
