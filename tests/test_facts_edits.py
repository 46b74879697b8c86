"""A decision on fusion is kept only until a module is edited, in whatever way."""

import numpy as np
import pytest
from onepass import nn

EDITS = {
    "an option": lambda m: setattr(m, "fuse", False),
    "a layer": lambda m: m.__setitem__(1, nn.Identity()),
    "a bias": lambda m: setattr(m[0], "bias", None),
    "a method": lambda m: setattr(m[1], "forward", lambda x: x),
    "a class": lambda m: setattr(m[1], "__class__", nn.Tanh),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_a_module_is_seen_at_the_next_call(name):
    x = np.float32([[-1, 2, 3]])
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    model(x)
    before = model.groups()
    assert model.groups() is before
    EDITS[name](model)
    assert model.groups() is not before
    nn.manual_seed(0)
    fresh = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    EDITS[name](fresh)
    np.testing.assert_array_equal(model(x), fresh(x))


def test_a_deleted_method_of_a_layer_is_seen():
    x = np.float32([[-1, 2, 3]])
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    y = model(x)
    model[1].forward = lambda x: x
    model(x)
    del model[1].forward
    np.testing.assert_array_equal(model(x), y)
    assert len(model.groups()) == 1


def test_a_patched_class_is_seen(monkeypatch):
    x = np.float32([[-1, 2, 3]])
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    model(x)
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: x)
    np.testing.assert_array_equal(model(x), model[0](x))
    monkeypatch.undo()
    assert (model(x) >= 0).all()
