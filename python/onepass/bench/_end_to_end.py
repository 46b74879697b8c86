"""One training step of whole networks, in onepass on NumPy and in others: forward, loss, backward,
clipping by the norm, AdamW, and gradients cleared.

All begin with the same parameters and batch. `checked` compares a step with float64: the loss and
the parameters after it, without dropout, whose bits every library draws in its own way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from onepass.bench import _peers as peers
from onepass.bench._peers._library import MakeNetwork, Step
from onepass.bench._records import cases
from onepass.bench._row import Check, Context, Row, Workload
from onepass.bench._training import (
    MAX_NORM,
    NETWORKS,
    SMOOTH,
    AdamWOptions,
    Network,
    model_of,
    target,
)


def ours(network: Network, options: AdamWOptions, dropout: bool) -> Step:
    from onepass import nn, optim

    nn.manual_seed(0)
    model, loss = model_of(network, nn, dropout), nn.CrossEntropyLoss()
    x, t = network.x, target(network)
    optimizer = optim.AdamW(model.parameters(), **vars(options))

    def run() -> Any:
        value, dy = loss(model(x), t)
        model.backward(dy, need_input_grad=False)
        optimizer.step(max_norm=MAX_NORM, zero_grad=True)
        return value

    return Step(run, lambda: [p.data.copy() for p in model.parameters()])


def checked(network: Network, make: MakeNetwork = ours) -> Check:
    """A step of a library without dropout, beside float64.

    A sum of float32 numbers that is right to 2e-6 of the largest gradient moves a parameter by no
    more than that times lr / eps.
    """
    step = make(network, SMOOTH, False)
    loss, got = float(step.run()), step.read()
    start = [p.astype(np.float64) for p in network.parameters()]
    want_loss, grads = network.in_double(start, network.x.astype(np.float64), target(network))
    run = cases.optimizers.BY_NAME["adamw"].trajectory(network.parameters(), **vars(SMOOTH))
    run.step(grads, max_norm=MAX_NORM)
    norm = math.sqrt(sum(float((g**2).sum()) for g in grads))
    largest = max(float(np.abs(g).max()) for g in grads) * min(1.0, MAX_NORM / norm)
    bound = SMOOTH.lr * (2e-6 * largest / SMOOTH.eps + 2.0**-20)
    pairs = zip(got, run.params, strict=True)
    off = [float(np.abs(g - np.asarray(w)).max()) / bound for g, w in pairs]
    error = float(np.max([*off, abs(loss - want_loss) / (1e-5 * want_loss)]))  # max() passes NaN by
    return Check(math.inf if math.isnan(error) else error)


def _made(network: Network) -> Callable[[Context], Workload]:
    def make(context: Context) -> Workload:
        found = peers.networks(context, network, AdamWOptions())
        return Workload(
            {"onepass": ours(network, AdamWOptions(), True).run, **found.functions},
            sum(p.size for p in network.parameters()),
            check=lambda: checked(network),
            products=network.products(),
            missing=found.missing,
        )

    return make


def rows() -> Iterator[Row]:
    """One training step of each network."""
    for i, network in enumerate(NETWORKS):
        yield Row(network.name, "end-to-end", _made(network), quick=i == 0)
