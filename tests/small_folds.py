"""Shared by the tests of cross-validation: data, and functions that build a trainer."""

import numpy as np
from onepass import nn, optim
from onepass.train import Callback, Trainer

RNG = np.random.default_rng(3)
N = 61
X = RNG.standard_normal((N, 3)) * [1, 100, 0.01]
Y = (X[:, 0] > 0).astype(np.int64)
NUMBERS = X[:, :1] + 0.1 * RNG.standard_normal((N, 1))
FIT = {"max_epochs": 3, "batch_size": 8}


class KilledError(Exception):
    pass


class KillAt(Callback):
    """Of the fold that begins as the ``fold``-th, at a step."""

    begun = 0

    def __init__(self, fold, step):
        self.fold, self.step = fold, step

    def on_fit_begin(self, run):
        KillAt.begun += 1

    def on_step_end(self, run):
        if (KillAt.begun, run.step) == (self.fold, self.step):
            raise KilledError


def build(seed, callbacks=(), lr=0.05, outputs=2, loss=None, metrics=("accuracy",)):
    model = nn.Sequential(
        nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, outputs)
    )
    return Trainer(
        model, loss or nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=lr), seed=seed,
        metrics=metrics, callbacks=callbacks, progress=False,
    )  # fmt: skip


def build_numbers(seed):
    return build(seed, outputs=1, loss=nn.MSELoss(), metrics=["r2"])


def bits(model):
    return {name: value.tobytes() for name, value in model.state_dict().items()}


def everything(found):
    return [
        (f.number, f.test.tolist(), f.scores, dict(f.history), bits(f.trainer.model)) for f in found
    ]
