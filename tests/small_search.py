"""Shared by the tests of searches: a small space, data, and a function that builds a trainer."""

import numpy as np
from onepass import nn, optim
from onepass.train import LogUniform, Trainer, Uniform

RNG = np.random.default_rng(5)
X = RNG.standard_normal((48, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
SPACE = {"lr": LogUniform(1e-4, 1e-1), "width": [4, 8], "p": Uniform(0, 0.5)}
FIT = {"trials": 4, "max_epochs": 3, "batch_size": 16, "progress": False}


class KilledError(BaseException):
    pass


def build(params, callbacks=(), **options):
    width = params["width"]
    model = nn.Sequential(
        nn.Linear(3, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(params.get("p", 0.1)),
        nn.Linear(width, 2),
    )  # fmt: skip
    optimizer = optim.Adam(model.parameters(), lr=params["lr"])
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=callbacks, **options)


def bits(trainer):
    return {name: value.tobytes() for name, value in trainer.model.state_dict().items()}


def everything(result):
    return result.trials, result.best.number, bits(result.best.trainer)
