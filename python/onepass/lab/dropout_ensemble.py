"""Dropout trains 2ⁿ networks at once, and evaluation is exactly their mean.

Dropping hidden units at random picks one of 2⁸ = 256 sub-networks of a 4-8-3 network. With a linear
output layer the mean of all of them, each weighed by its probability, is the network with all its
units, if a kept unit counts 1/(1 - p) times: no test-time rule is needed. The other convention,
kept units as they are and weights times 1 - p at the test, is the same network with other weights.
With a nonlinear function of the outputs, here tanh, the mean is only near.
"""

import itertools
from typing import Any

import numpy as np

from onepass import nn, ops
from onepass.lab import Lab

CODE, CHAPTER, SECONDS = "C32", "dropout", 0.5
SOURCES = ("baldi-2013", "srivastava-2014", "minnesota-2025", "optimization-3")

MASKS = np.array(list(itertools.product([0.0, 1.0], repeat=8)))  # (256, 8)
DRAWS = 20000


def network(lab: Lab) -> tuple[nn.Linear, nn.Linear, np.ndarray]:
    """Two layers in float64, and what the hidden units give for one input, (8,)."""
    nn.manual_seed(lab.seed)
    first, last = nn.Linear(4, 8, dtype="float64"), nn.Linear(8, 3, dtype="float64")
    x = 2.0 * lab.rng().standard_normal((1, 4))
    return first, last, ops.relu(first(x))


def chances(p: float) -> Any:
    """The probability of each mask, (256, 1)."""
    return np.prod(np.where(MASKS, 1 - p, p), axis=1, keepdims=True)


def run(lab: Lab) -> str:
    _, last, hidden = network(lab)
    whole = last(hidden)[0]
    rows = []
    for p in (0.5, 0.8):
        mean = np.sum(chances(p) * last(MASKS * hidden / (1 - p)), axis=0)
        rows += [(p, unit, whole[unit], mean[unit], mean[unit] - whole[unit]) for unit in range(3)]
        off = np.abs(mean - whole).max()
        claim = f"p = {p}: the mean of all 256 sub-networks is the network"
        lab.check(claim, off < 1e-12, f"off by {off:.1e}")
    bent = np.sum(chances(0.5) * np.tanh(last(MASKS * hidden / 0.5)), axis=0)
    off = np.abs(bent - np.tanh(whole)).max()
    lab.check("after a tanh it is only near, p = 0.5", 1e-4 < off < 0.5, f"off by {off:.3f}")
    lab.table(["p", "output", "all units", "mean of 256", "difference"], rows)

    p = 0.5
    classic = nn.Linear(8, 3, dtype="float64")  # kept units as they are, weights × (1 - p) at test
    classic.load_state_dict(last.state_dict())
    classic.weight.data /= 1 - p
    trained = np.abs(classic(MASKS * hidden) - last(MASKS * hidden / (1 - p))).max()
    tested = np.abs(classic((1 - p) * hidden)[0] - whole).max()
    claim = "scaling at the test instead is the same, with weights × 1/(1 - p)"
    lab.check(claim, max(trained, tested) < 1e-12, f"off by {max(trained, tested):.1e}")

    start = DRAWS * lab.seed
    kept = [ops.dropout(hidden[0], p, seed=start + draw) for draw in range(DRAWS)]
    outputs = last(np.array(kept))  # (20000, 3)
    means = np.cumsum(outputs, axis=0) / np.arange(1, DRAWS + 1)[:, None]
    error = outputs.std(axis=0) / np.sqrt(DRAWS)
    off = (np.abs(means[-1] - whole) / error).max()
    claim = f"the mean of {DRAWS:,} draws of ops.dropout is the network too"
    lab.check(claim, off < 5, f"{off:.1f} standard errors off")

    left, right = lab.figure(1, 2)
    single = last(MASKS * hidden / (1 - p))[:, 0]
    left.hist(single, bins=24, color="C0", alpha=0.6, label="256 sub-networks")
    left.axvline(whole[0], color="C1", label="all units = mean of the 256")
    left.set(xlabel="output 0", ylabel="sub-networks", title="One input, p = 0.5")
    left.set_ylim(top=1.3 * left.get_ylim()[1])
    left.legend(loc="upper left")
    draws = np.arange(1, DRAWS + 1)
    right.plot(draws, means[:, 0] - whole[0], label="mean of the first k draws")
    band = 2 * outputs[:, 0].std() / np.sqrt(draws)
    right.fill_between(draws, -band, band, alpha=0.2, lw=0, label="±2 standard errors")
    right.axhline(0, color="C1", lw=1)
    right.set(xscale="log", xlabel="draws k", ylabel="mean - evaluation", xlim=(1, DRAWS))
    right.set_title("Random masks converge to evaluation")
    right.legend()
    return "One evaluation with all units gives the mean of all 256 sub-networks, to rounding."
