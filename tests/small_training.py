"""Shared by the tests of training: a run of twelve steps, and everything it leaves behind."""

import copy

import numpy as np
from onepass import nn, optim
from onepass.optim import lr_scheduler
from onepass.train import Callback, Trainer

GENERATOR = np.random.default_rng(0)
X = GENERATOR.standard_normal((30, 4)).astype(np.float32)
Y = (X[:, 0] + 0.5 * X[:, 1] > 0).astype(np.int64)
VALIDATION = (X[:9] + 0.1, Y[:9])
BATCH, EPOCHS = 8, 3
STEPS = 4 * EPOCHS


def network(seed=0):
    nn.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.4), nn.Linear(6, 2)
    )


def make(callbacks=(), *, scheduled=True, lr=0.02, **options):
    model = network()
    optimizer = optim.AdamW(model.parameters(), lr=lr)
    scheduler = (
        lr_scheduler.CosineAnnealingLR(optimizer, STEPS, interval="step") if scheduled else None
    )
    options = {"metrics": ["accuracy"], "progress": False, "scheduler": scheduler, **options}
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=callbacks, **options)


def fit(trainer, **options):
    defaults = {"max_epochs": EPOCHS, "batch_size": BATCH, "validation_data": VALIDATION}
    return trainer.fit(X, Y, **{**defaults, **options})


def everything(trainer):
    """All that a run leaves behind, as bytes and numbers that must be equal.

    To be taken before the next ``make``, which seeds every dropout layer there is anew.
    """
    state = copy.deepcopy(trainer.optimizer.state_dict())
    return {
        "model": {k: v.tobytes() for k, v in trainer.model.state_dict().items()},
        "moments": {
            (i, k): np.asarray(v).tobytes() for i, s in state["state"].items() for k, v in s.items()
        },
        "groups": [{k: v for k, v in g.items() if k != "params"} for g in state["param_groups"]],
        "history": dict(trainer.history),
        "counters": (trainer.epoch, trainer.step, trainer.position, trainer.stop),
        "dropout": nn.get_rng_state(trainer.model)["layers"],
        "schedule": trainer.scheduler and trainer.scheduler.state_dict(),
    }


def flat(value, path=""):
    if isinstance(value, dict):
        return {k: v for key in value for k, v in flat(value[key], f"{path}.{key}").items()}
    return {path: value.tobytes() if isinstance(value, np.ndarray) else repr(value)}


def uninterrupted(**options):
    trainer = make(**options)
    fit(trainer)
    return everything(trainer)


class KilledError(Exception):
    pass


class StopAt(Callback):
    """A kill as seen from inside: an exception after a step, or after an epoch."""

    def __init__(self, step=None, epoch=None, error=KilledError):
        self.step, self.epoch, self.error = step, epoch, error

    def on_step_end(self, trainer):
        if trainer.step == self.step:
            raise self.error

    def on_epoch_end(self, trainer):
        if trainer.epoch == self.epoch:
            raise self.error
