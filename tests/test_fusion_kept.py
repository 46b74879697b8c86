"""The groups of a Sequential are found once, and again when something they depend on changed."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from onepass import nn
from onepass.nn import _sequential
from onepass.nn._activation import Activation
from small_models import normal

X = normal((6, 4), "float32")


def build():
    nn.manual_seed(1)
    return nn.Sequential(
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)),
        nn.LeakyReLU(0.3),
        nn.Dropout(0.5),
        nn.Residual(nn.Linear(4, 4), nn.BatchNorm1d(4)),
        nn.ReLU(),
    )


def louder(self, x):
    return Activation.forward(self, x) + 1


def swapped(model):
    model.layers = (model[0], nn.Tanh(), *model.layers[2:])


def appended(model):
    model.layers = list(model.layers)
    model(X)
    model.layers.append(nn.Tanh())


CHANGES = {
    "another layer": lambda m, _: swapped(m),
    "a list that grows": lambda m, _: appended(m),
    "an option": lambda m, _: setattr(m[1], "negative_slope", 0.7),
    "evaluation": lambda m, _: m.eval(),
    "evaluation of the batch norm inside": lambda m, _: m[0][1].eval(),
    "evaluation of the batch norm of the block": lambda m, _: m[3].body[1].eval(),
    "evaluation of the dropout": lambda m, _: m[2].eval(),
    "no dropout": lambda m, _: setattr(m[2], "p", 0.0),
    "more dropout": lambda m, _: setattr(m[2], "p", 0.9),
    "no fusing": lambda m, _: setattr(m, "fuse", False),
    "no fusing inside": lambda m, _: setattr(m[0], "fuse", False),
    "no fusing in the block": lambda m, _: setattr(m[3], "fuse", False),
    "another class": lambda m, _: setattr(m[4], "__class__", nn.Tanh),
    "forward of one layer": lambda m, _: setattr(m[4], "forward", lambda x: x * 2),
    "forward by way of the dictionary": lambda m, _: vars(m[1]).update(forward=lambda x: x * 2),
    "forward of a class": lambda m, patch: patch.setattr(nn.LeakyReLU, "forward", louder),
    "forward of the base class": lambda m, patch: patch.setattr(
        Activation, "forward", lambda self, x: x + 3
    ),
    "backward of a class": lambda m, patch: patch.setattr(
        nn.ReLU, "backward", lambda self, dy, **_: dy * 5
    ),
    "dropout of a class": lambda m, patch: patch.setattr(nn.Dropout, "forward", lambda s, x: x),
    "call of a class": lambda m, patch: patch.setattr(nn.ReLU, "__call__", lambda s, x: x + 3),
    "forward of the block": lambda m, _: setattr(m[3], "forward", lambda x: x * 2),
}

# A forward that saves nothing: the class whose backward says so.
SAVE_NOTHING = {
    "forward of one layer": "ReLU",
    "forward by way of the dictionary": "LeakyReLU",
    "forward of the base class": "ReLU",
    "dropout of a class": "Dropout",
    "call of a class": "ReLU",
    "forward of the block": "Residual",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_two_calls_counts(change, monkeypatch):
    """As in a model that is changed before its first call, and as in one that fuses nothing."""
    results, saves = [], change not in SAVE_NOTHING
    for early, fuse in ((False, True), (True, True), (True, False)):
        with monkeypatch.context() as patch:
            model = build()
            if not early:
                model(X)
            state = build().state_dict()
            CHANGES[change](model, patch)
            model.load_state_dict(state)
            if not fuse:
                for module in model.modules():
                    if hasattr(module, "fuse"):
                        module.fuse = False
            model[2].stream.set(3, 4)
            y = model(X)
            groups = repr(model) if fuse else None
            dy, dx = normal(y.shape, "float32", seed=5), None
            if saves or (change == "forward of the block" and not early):
                dx = model.backward(dy)  # the block still holds what its own forward saved
            else:
                with pytest.raises(RuntimeError, match=f"^{SAVE_NOTHING[change]}.backward came"):
                    model.backward(dy)
            results.append((y, dx, groups))
    (y, dx, groups), first, plain = results
    for other in (first, plain):
        np.testing.assert_array_equal(y, other[0])
        if saves:
            np.testing.assert_array_equal(dx, other[1])
    assert groups == first[2]


def test_nothing_is_decided_twice(monkeypatch):
    model = build()
    model(X)
    counted = []
    original = _sequential.group
    monkeypatch.setattr(_sequential, "group", lambda *a: counted.append(a) or original(*a))
    model.freeze(statistics=False)
    for _ in range(3):
        model.backward(model(X))
        model.train()
    assert not counted
    model.eval()
    model(X)
    assert counted


def test_copies_decide_for_themselves():
    model = build()
    model(X)
    for twin in (copy.deepcopy(model), copy.copy(model), pickle.loads(pickle.dumps(model))):
        assert "_found" not in vars(twin)
        assert "_adds" not in vars(twin[3]) or twin[3] is model[3]
        np.testing.assert_array_equal(twin.eval()(X), model.eval()(X))
        model.train()
