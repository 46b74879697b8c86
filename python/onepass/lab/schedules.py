"""A rate that decays too fast stops short; one that decays as 1/k goes on to the minimum.

Gradient descent on x²/2 multiplies x by 1 - ηₖ. Where the sum of all rates is finite, as with an
exponential, x stops short of 0. The sum over 1/k is infinite: x goes on to 0, if slowly.

With noise it is the other way about: a constant rate has a floor, and a tenth of the rate one that
is several times lower, which is what a staircase is for.
"""

import math
from collections.abc import Callable

import numpy as np

from onepass import optim
from onepass.lab import Lab
from onepass.lab.sampling import ORDERS, SAMPLES, gaps
from onepass.optim import lr_scheduler as lrs

CODE, CHAPTER, SECONDS = "C12", "step sizes", 0.9
SOURCES = ("robbins-1951", "minnesota-2025", "skoltech")
LR, BETA, STEPS = 0.1, 0.1, 20_000
STAIR = 20  # epochs


def sgd(lr: float = LR) -> optim.SGD:
    return optim.SGD([np.ones(1)], lr=lr)


def positions(make: Callable[[optim.Optimizer], lrs.LRScheduler]) -> np.ndarray:
    """x on x²/2 from 1, before the first step and after each."""
    x = np.ones(1)
    optimizer = optim.SGD([x], lr=LR)
    schedule, points = make(optimizer), [1.0]
    for _ in range(STEPS):
        optimizer.step([x.copy()])  # the gradient is x
        schedule.step()
        points.append(float(x[0]))
    return np.array(points)


def run(lab: Lab) -> str:
    curves = {
        "exponential": positions(lambda o: lrs.ExponentialLR(o, math.exp(-BETA))),
        "1/k": positions(lambda o: lrs.InverseTimeLR(o, BETA)),
        "constant": positions(lambda o: lrs.LambdaLR(o, lambda t: 1.0)),
    }
    steps = (10, 100, 1000, STEPS)
    rows = [(name, *curve[[*steps]]) for name, curve in curves.items()]
    lab.table(["rate", *(f"{k} steps" for k in steps)], rows, "x on x²/2 from 1")
    end, slow = curves["exponential"][-1], curves["1/k"][-1]
    lab.check("exponential: x stops at 0.3397", abs(end - 0.3397) < 1e-4, f"{end:.6f}")
    goes_on = slow < 1e-3 and abs(curves["1/k"][STEPS // 10] / slow - 10) < 0.1
    lab.check("1/k: x gets below 1e-3, the last tenfold from 2000 on", goes_on, f"{slow:.1e}")

    stairs = lrs.StepLR(sgd(0.02), step_size=STAIR * SAMPLES, gamma=0.1)
    ways = {"a tenth half-way": lambda k: stairs.rates(k)[0], "constant": lambda k: 0.02}
    noisy = gaps(lab, [*ways.values()], 2 * STAIR, ORDERS["with replacement"]).mean(axis=2)
    high, low = (part[:, 0].mean() for part in (noisy[STAIR // 2 : STAIR], noisy[-STAIR // 2 :]))
    lab.check("a tenth of the rate: the floor falls fourfold", high / low > 4, f"{high / low:.1f}")

    gamma = math.exp(-BETA)
    formulas: dict[str, tuple[lrs.LRScheduler, Callable[[int], float]]] = {
        "InverseTimeLR": (lrs.InverseTimeLR(sgd(), BETA), lambda t: LR / (1 + BETA * t)),
        "ExponentialLR": (lrs.ExponentialLR(sgd(), gamma), lambda t: LR * math.exp(-BETA * t)),
        "StepLR": (lrs.StepLR(sgd(), 100), lambda t: LR / 10 ** (t // 100)),
        "HarmonicLR": (lrs.HarmonicLR(sgd(), 1e-3, 10, 9), lambda t: 1e-3 / (t // 9 + 10)),
        "LambdaLR": (lrs.LambdaLR(sgd(), lambda t: 1 / (t + 1)), lambda t: LR / (t + 1)),
    }
    for name, (schedule, formula) in formulas.items():
        off = max(abs(schedule.rates(t)[0] - formula(t)) for t in range(500))
        lab.check(f"{name} is its formula", off < 1e-15, f"off by {off:.0e}")
    optimizer = sgd()
    plateau, rates = lrs.ReduceLROnPlateau(optimizer, patience=5), []
    for _ in range(5 + 2):
        plateau.step(1.0)
        rates.append(optimizer.param_groups[0]["lr"])
    once = np.allclose(rates, [LR] * 6 + [LR / 10], rtol=1e-12)
    lab.check("ReduceLROnPlateau cuts once in patience + 2 flat epochs", once, f"{rates[-1]:g}")

    left, right = lab.figure(1, 2)
    for name, curve in curves.items():
        left.loglog(curve, label=name)
    left.set(xlabel="step", ylabel="x", ylim=(1e-4, 1.5), title="On x²/2, without noise")
    right.semilogy(range(1, 2 * STAIR + 1), noisy, label=[*ways])
    right.set(xlabel="epoch", ylabel="f - f*", ylim=(1e-3, 0.2), title="With noise, rate 0.02")
    left.legend()
    right.legend()
    return f"""The exponential stops at {end:.4f}, 1/k is at {slow:.1e}. With noise a tenth of
        the rate has a floor {high / low:.0f} times lower."""
