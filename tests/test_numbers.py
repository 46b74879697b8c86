"""Every public constructor refuses a wrong number or word in the one form of the messages."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from onepass import nn, optim
from onepass.data import DataLoader, MinMax, load, split_indices
from onepass.optim import lr_scheduler as schedules
from onepass.train import Checkpoint, EarlyStopping, LRFinder, Profile, Trainer


class Groups:
    """The part of an optimizer that a schedule uses."""

    def __init__(self):
        self.param_groups = [{"lr": 0.1, "momentum": 0.9}]


def trainer(**options):
    model = nn.Sequential(nn.Linear(3, 2))
    optimizer = optim.SGD(model.parameters())
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False, **options)


def fit(**options):
    given = {"max_epochs": 1, **options}
    trainer().fit(np.ones((9, 3), np.float32), np.arange(9) % 2, **given)


def sequential(milestone):
    optimizer = Groups()
    return S.SequentialLR(optimizer, [S.StepLR(optimizer, 1), S.StepLR(optimizer, 1)], [milestone])


X = np.arange(9.0)
W = np.zeros((3, 2))
TM = "threshold_mode"
S = schedules
# owner, name, call, a number out of range (None: every finite number is legal)
CASES = [
    ("Linear", "in_features", lambda v: nn.Linear(v, 2), 0),
    ("Linear", "out_features", lambda v: nn.Linear(2, v), 0),
    ("BatchNorm1d", "num_features", nn.BatchNorm1d, 0),
    ("BatchNorm2d", "eps", lambda v: nn.BatchNorm2d(3, eps=v), 0.0),
    ("BatchNorm1d", "momentum", lambda v: nn.BatchNorm1d(3, momentum=v), 1.5),
    ("Dropout", "p", nn.Dropout, 1.5),
    ("Flatten", "start_dim", nn.Flatten, None),
    ("Flatten", "end_dim", lambda v: nn.Flatten(1, v), None),
    ("LeakyReLU", "negative_slope", nn.LeakyReLU, None),
    ("CrossEntropyLoss", "label_smoothing", lambda v: nn.CrossEntropyLoss(label_smoothing=v), 2),
    ("CrossEntropyLoss", "ignore_index", lambda v: nn.CrossEntropyLoss(ignore_index=v), 2**63),
    ("DataLoader", "batch_size", lambda v: DataLoader(X, batch_size=v), 0),
    ("DataLoader", "seed", lambda v: DataLoader(X, seed=v), -1),
    ("MinMax", "feature_range[0]", lambda v: MinMax((v, 1)), None),
    ("MinMax", "feature_range[1]", lambda v: MinMax((0, v)), None),
    ("split_indices", "test_size", lambda v: split_indices(X, v), 1.0),
    ("Trainer", "max_norm", lambda v: trainer(max_norm=v), 0),
    ("Trainer", "accumulate", lambda v: trainer(accumulate=v), 0),
    ("Trainer", "seed", lambda v: trainer(seed=v), 2**64),
    ("fit", "max_epochs", lambda v: fit(max_epochs=v), 0),
    ("fit", "validation_split", lambda v: fit(validation_split=v), 1),
    ("EarlyStopping", "patience", lambda v: EarlyStopping(patience=v), -1),
    ("EarlyStopping", "min_delta", lambda v: EarlyStopping(min_delta=v), -0.5),
    ("Checkpoint", "every_n_steps", lambda v: Checkpoint("x", every_n_steps=v), 0),
    ("Checkpoint", "every_n_epochs", lambda v: Checkpoint("x", every_n_epochs=v), 0),
    ("Checkpoint", "keep", lambda v: Checkpoint("x", keep=v), 0),
    ("LRFinder", "min_lr", lambda v: LRFinder(min_lr=v), 0.0),
    ("LRFinder", "max_lr", lambda v: LRFinder(max_lr=v), -1.0),
    ("LRFinder", "steps", lambda v: LRFinder(steps=v), 2),
    ("Profile", "steps", lambda v: Profile(steps=v), 0),
    ("Profile", "skip", lambda v: Profile(skip=v), -1),
    ("StepLR", "last_epoch", lambda v: S.StepLR(Groups(), 2, last_epoch=v), -2),
    ("StepLR", "step_size", lambda v: S.StepLR(Groups(), v), 0),
    ("StepLR", "gamma", lambda v: S.StepLR(Groups(), 2, v), -1.0),
    ("MultiStepLR", "milestones[0]", lambda v: S.MultiStepLR(Groups(), [v]), -1),
    ("MultiStepLR", "gamma", lambda v: S.MultiStepLR(Groups(), [2], v), -1.0),
    ("ExponentialLR", "gamma", lambda v: S.ExponentialLR(Groups(), v), -1.0),
    ("InverseTimeLR", "decay", lambda v: S.InverseTimeLR(Groups(), v), -1.0),
    ("ConstantLR", "factor", lambda v: S.ConstantLR(Groups(), v), 1.5),
    ("ConstantLR", "total_iters", lambda v: S.ConstantLR(Groups(), total_iters=v), -1),
    ("CosineAnnealingLR", "T_max", lambda v: S.CosineAnnealingLR(Groups(), v), 0),
    ("CosineAnnealingLR", "eta_min", lambda v: S.CosineAnnealingLR(Groups(), 9, v), -1.0),
    ("LinearWarmup", "steps", lambda v: S.LinearWarmup(Groups(), v), 0),
    ("PolynomialLR", "total_iters", lambda v: S.PolynomialLR(Groups(), v), 0),
    ("PolynomialLR", "power", lambda v: S.PolynomialLR(Groups(), power=v), -1.0),
    ("OneCycleLR", "max_lr", lambda v: S.OneCycleLR(Groups(), v, 9), -1.0),
    ("OneCycleLR", "total_steps", lambda v: S.OneCycleLR(Groups(), 1.0, v), 0),
    ("OneCycleLR", "pct_start", lambda v: S.OneCycleLR(Groups(), 1.0, 9, pct_start=v), 1.5),
    ("OneCycleLR", "div_factor", lambda v: S.OneCycleLR(Groups(), 1.0, 9, div_factor=v), 0.0),
    ("ReduceLROnPlateau", "factor", lambda v: S.ReduceLROnPlateau(Groups(), factor=v), 1.0),
    ("ReduceLROnPlateau", "patience", lambda v: S.ReduceLROnPlateau(Groups(), patience=v), -1),
    ("ReduceLROnPlateau", "cooldown", lambda v: S.ReduceLROnPlateau(Groups(), cooldown=v), -1),
    ("ReduceLROnPlateau", "threshold", lambda v: S.ReduceLROnPlateau(Groups(), threshold=v), None),
    ("ReduceLROnPlateau", "min_lr", lambda v: S.ReduceLROnPlateau(Groups(), min_lr=v), None),
    ("SequentialLR", "milestones[0]", sequential, -1),
    ("split_indices", "seed", lambda v: split_indices(X, seed=v), -1),
    ("nn.init", "seed", lambda v: nn.init.normal(W, seed=v), -1),
    ("normal", "mean", lambda v: nn.init.normal(W, v), None),
    ("normal", "std", lambda v: nn.init.normal(W, 0.0, v), -1.0),
    ("uniform", "a", lambda v: nn.init.uniform(W, v), None),
    ("uniform", "b", lambda v: nn.init.uniform(W, 2.0, v), 1.0),
    ("xavier_normal", "gain", lambda v: nn.init.xavier_normal(W, v), None),
    ("xavier_uniform", "gain", lambda v: nn.init.xavier_uniform(W, v), None),
    ("kaiming_normal", "a", lambda v: nn.init.kaiming_normal(W, v), None),
    ("kaiming_uniform", "a", lambda v: nn.init.kaiming_uniform(W, v), None),
    ("geometric_mean", "c", lambda v: nn.init.geometric_mean(W, v), 0.0),
    ("orthogonal", "gain", lambda v: nn.init.orthogonal(W, v), None),
    ("calculate_gain", "param", lambda v: nn.init.calculate_gain("leaky_relu", v), None),
]
# owner, name, call
WORDS = [
    ("GELU", "approximate", nn.GELU),
    ("CrossEntropyLoss", "reduction", lambda v: nn.CrossEntropyLoss(reduction=v)),
    ("Linear", "dtype", lambda v: nn.Linear(3, 2, dtype=v)),
    ("BatchNorm2d", "dtype", lambda v: nn.BatchNorm2d(3, dtype=v)),
    ("to", "device", lambda v: nn.Linear(3, 2).to(v)),
    ("apply", "scheme", lambda v: nn.init.apply(nn.Linear(3, 2), v)),
    ("kaiming_normal", "mode", lambda v: nn.init.kaiming_normal(W, mode=v)),
    ("kaiming_uniform", "mode", lambda v: nn.init.kaiming_uniform(W, mode=v)),
    ("kaiming_normal", "nonlinearity", lambda v: nn.init.kaiming_normal(W, nonlinearity=v)),
    ("kaiming_uniform", "nonlinearity", lambda v: nn.init.kaiming_uniform(W, nonlinearity=v)),
    ("calculate_gain", "nonlinearity", nn.init.calculate_gain),
    ("DataLoader", "sampling", lambda v: DataLoader(X, sampling=v)),
    ("load", "task", lambda v: load("table.csv", task=v)),
    ("Trainer", "nonfinite", lambda v: trainer(nonfinite=v)),
    ("Trainer", "device", lambda v: trainer(device=v)),
    ("EarlyStopping", "mode", lambda v: EarlyStopping(mode=v)),
    ("Checkpoint", "mode", lambda v: Checkpoint("x", mode=v)),
    ("OneCycleLR", "anneal_strategy", lambda v: S.OneCycleLR(Groups(), 1, 9, anneal_strategy=v)),
    ("OneCycleLR", "cycle_momentum", lambda v: S.OneCycleLR(Groups(), 1, 9, cycle_momentum=v)),
    ("OneCycleLR", "three_phase", lambda v: S.OneCycleLR(Groups(), 1, 9, three_phase=v)),
    ("ReduceLROnPlateau", "mode", lambda v: S.ReduceLROnPlateau(Groups(), v)),
    ("ReduceLROnPlateau", "threshold_mode", lambda v: S.ReduceLROnPlateau(Groups(), **{TM: v})),
]


@pytest.mark.parametrize(
    ("owner", "name", "call", "beyond"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES]
)
def test_wrong_numbers_have_one_form_of_message(owner, name, call, beyond):
    for value in ("1", 1j, True, math.nan, *([] if beyond is None else [beyond])):
        form = re.escape(f"{owner}: {name!r} is {value!r}, expected ")
        with pytest.raises((TypeError, ValueError), match=form):
            call(value)


@pytest.mark.parametrize(("owner", "name", "call"), WORDS, ids=[f"{c[0]}-{c[1]}" for c in WORDS])
def test_wrong_words_have_one_form_of_message(owner, name, call):
    for value in ("nonsense", 2.5, ["mean"]):
        form = re.escape(f"{owner}: {name!r} is {value!r}, expected ")
        with pytest.raises((TypeError, ValueError), match=form):
            call(value)


def test_every_initialiser_with_options_is_here():
    tested = {owner for owner, *_ in CASES + WORDS} | {"constant"}  # which takes NaN as well
    for name in nn.init.__all__:
        function = getattr(nn.init, name)
        options = set(getattr(function, "__annotations__", ())) - {"tensor", "seed", "return"}
        if options:
            assert name in tested, name
