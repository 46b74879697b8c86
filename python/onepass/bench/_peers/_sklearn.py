"""scikit-learn: its softmax, and the optimizers inside its MLPClassifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onepass.bench import _training as training
from onepass.bench._peers._library import (
    Functions,
    Lacks,
    Lazily,
    Library,
    Step,
    Steps,
    copied,
    only,
)

neural_network: Any = Lazily("sklearn.neural_network")
extmath: Any = Lazily("sklearn.utils.extmath")
stochastic: Any = Lazily("sklearn.neural_network._stochastic_optimizers")

_LABEL = "sklearn"


def kernel(case: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Functions:
    if inputs[0].ndim != 2 or only(keywords, axis=-1):
        raise Lacks("only over the rows of a matrix")
    x = inputs[0].copy()
    return {_LABEL: lambda: extmath.softmax(x)}


def steps(
    variant: Any, params: Sequence[Any], grads: Sequence[Any], options: dict[str, Any]
) -> Steps:
    o = only(variant.record.complete(options), maximize=False, weight_decay=0.0)
    held, slopes = copied(params), copied(grads)
    if variant.name == "adam":
        b1, b2 = only(o, amsgrad=False, bias_correction=True)["betas"]
        optimizer = stochastic.AdamOptimizer(held, o["lr"], b1, b2, o["eps"])
    else:
        momentum, nesterov = only(o, dampening=0.0)["momentum"], o["nesterov"]
        optimizer = stochastic.SGDOptimizer(held, o["lr"], momentum=momentum, nesterov=nesterov)

    return {_LABEL: Step(lambda: optimizer.update_params(held, slopes), lambda: held)}


def network_step(network: training.Network, options: training.AdamWOptions, dropout: bool) -> Step:
    """Less work than the others: it has no batch norm, no dropout and no clipping."""
    if not isinstance(network, training.Mlp):
        raise Lacks("no network but one of Linear and ReLU")
    x, t = network.x, training.target(network)
    model = neural_network.MLPClassifier(network.sizes[1:-1], batch_size=network.batch, alpha=0.0)
    model.partial_fit(x, t, classes=np.arange(training.CLASSES))

    def run() -> Any:
        model.partial_fit(x, t)
        return model.loss_

    return Step(run, lambda: [*model.coefs_, *model.intercepts_])


LIBRARY = Library(
    "sklearn",
    module="sklearn",
    install="scikit-learn",
    needs=("numpy",),
    kernels=["softmax"],
    optimizers=["adam", "sgd", "sgd_momentum"],
    kernel=kernel,
    steps=steps,
    networks={"sklearn plain MLP": network_step},
    dtypes=("float32", "float64"),
)
