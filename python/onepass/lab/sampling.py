"""The order of the samples decides how low SGD gets at a constant rate.

Least squares, one sample a step. The noise of the samples keeps SGD at a floor above the least
loss. Drawn with replacement, it is about proportional to the rate. With each sample once an epoch,
what one step has moved too far the others take back: the floor falls much faster with the rate. A
rate that falls as 1/k leads far below; drawn with replacement, to the floor of what it is by then.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onepass import optim
from onepass.data import DataLoader
from onepass.lab import Lab
from onepass.optim.lr_scheduler import LambdaLR

CODE, CHAPTER, SECONDS = "C10", "step sizes", 0.9
SOURCES = ("bottou-2009", "minnesota-2025", "optimization-3")
PROBLEMS, SAMPLES, FEATURES = 3, 200, 10
ORDERS: dict[str, dict[str, Any]] = {
    "with replacement": {"sampling": "replacement"},
    "reshuffled": {"shuffle": True},
    "cyclic": {"shuffle": True, "sampling": "cyclic"},
}
RATES = (0.02, 0.01, 0.005, 0.0025)


def gaps(
    lab: Lab, rates: Sequence[Callable[[int], float]], epochs: int, options: dict[str, Any]
) -> np.ndarray:
    """f - f* of half the mean square, (epochs, rates, problems), after each epoch of SGD.

    All rates, functions of the step, run side by side, on three problems each.
    """
    rng, all_problems = lab.rng(), np.arange(PROBLEMS)
    X = rng.standard_normal((PROBLEMS, SAMPLES, FEATURES))
    y = X.sum(axis=-1) + rng.standard_normal((PROBLEMS, SAMPLES))
    best = np.stack([np.linalg.lstsq(a, b, rcond=None)[0] for a, b in zip(X, y, strict=True)])
    W = np.zeros((len(rates), PROBLEMS, FEATURES))
    optimizer = optim.SGD([{"params": [w]} for w in W], lr=1.0)
    schedule = LambdaLR(optimizer, list(rates))
    seeds = range(PROBLEMS * lab.seed, PROBLEMS * (lab.seed + 1))
    numbers = np.arange(SAMPLES)
    loaders = [DataLoader(numbers, batch_size=SAMPLES, seed=seed, **options) for seed in seeds]
    found = []
    for _ in range(epochs):
        for chosen in np.stack([next(iter(loader)) for loader in loaders], axis=1):
            x = X[all_problems, chosen]
            errors = (W * x).sum(axis=-1) - y[all_problems, chosen]
            optimizer.step(list(errors[..., None] * x))
            schedule.step()
        found.append(((X @ (W - best)[..., None]) ** 2).mean(axis=(-2, -1)) / 2)
    return np.array(found)


def run(lab: Lab) -> str:
    schedules = [lambda k, lr=lr: lr for lr in RATES] + [lambda k: RATES[0] / (1 + 0.002 * k)]
    curves = {name: gaps(lab, schedules, 40, options) for name, options in ORDERS.items()}
    floors = {name: curve[20:].mean(axis=(0, 2)) for name, curve in curves.items()}
    rows = [(n, *values, curves[n][-1, 4].mean()) for n, values in floors.items()]
    names = ["", *map(str, RATES), "0.02/(1+k/500)", "in epoch 40"]
    lab.table(names, rows, "Mean f - f* of epochs 21 to 40; last, 1/k at the end")
    drawn = floors["with replacement"]
    falls = drawn[:3] / drawn[1:4]
    proportional = falls.min() > 1.5 and falls.max() < 2.8
    lab.check("with replacement half the rate about halves it", proportional, falls.round(2))
    less = drawn[3] / floors["reshuffled"][3]
    lab.check("at 0.0025 reshuffling's floor is below 1/8 of it", less > 8, f"1/{less:.0f}")
    far = {name: values[0] / values[3] for name, values in floors.items()}
    faster = min(far["reshuffled"], far["cyclic"]) / far["with replacement"]
    lab.check("without it falls 3 times as far to 0.0025", faster > 3, f"{faster:.1f} times")
    for name, at in floors.items():
        lab.check(f"{name}: 1/k beats 0.02 fivefold", (more := at[0] / at[4]) > 5, f"{more:.0f}")
    now = np.mean([schedules[4](k) for k in range(20 * SAMPLES, 40 * SAMPLES)])
    share = drawn[4] / drawn[3] * RATES[3] / now
    lab.check("with replacement it is at the floor of its rate", 0.6 < share < 1.6, f"×{share:.2f}")

    left, right = lab.figure(1, 2, sharey=True)
    for row, (name, curve) in enumerate(curves.items()):
        left.semilogy(range(1, 41), curve[:, 0].mean(axis=1), f"C{row}", label=name)
        left.semilogy(range(1, 41), curve[:, 4].mean(axis=1), f"C{row}:")
        right.loglog(RATES, floors[name][:4], f"C{row}o-")
    left.set(xlabel="epoch", ylabel="f - f*", title="Rate 0.02, and far below it 1/k (dotted)")
    right.set(xlabel="rate", title="The floor by the rate, epochs 21 to 40")
    right.set_xticks(RATES, map(str, RATES))
    right.minorticks_off()
    left.legend(fontsize="small")
    return f"At 0.0025 reshuffling has 1/{less:.0f} of the floor of draws with replacement."
