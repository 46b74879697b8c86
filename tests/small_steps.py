"""Shared by the tests of optimizers: parameters of many shapes, gradients in changing layouts,
comparisons of everything an optimizer holds."""

import copy
import pickle

import numpy as np
from cases import as_float64
from helpers import LAYOUTS, Layout, assert_all_same, assert_same
from onepass import nn

SHAPES = [(7, 5), (33,), (3, 4, 2, 2), (), (1025,), (0,), (2, 3)]


def start(dtype="float64", shapes=SHAPES, seed=0):
    rng = np.random.default_rng(seed)
    return rng, [np.asarray(rng.standard_normal(s)).astype(dtype) for s in shapes]


def gradients(rng, params, present=lambda i: True):
    """Fresh arrays in a layout that changes from call to call, None where not present. One element
    in 16 is 0, as those of a unit that took no part."""
    grads = []
    for i, p in enumerate(params):
        g = np.asarray(rng.standard_normal(p.shape)).astype(p.dtype)
        g[rng.random(p.shape) < 1 / 16] = 0
        layout = ["plain", "plain", *LAYOUTS][rng.integers(2 + len(LAYOUTS))]
        grads.append(Layout(g, layout).view if present(i) else None)
    return grads


def assert_near(params, want, rel, label):
    for i, (p, w) in enumerate(zip(params, want, strict=True)):
        top = np.abs(w).max() if w.size else 0.0
        np.testing.assert_allclose(as_float64(p), w, rel, rel * top, err_msg=f"{label} [{i}]")


def steps_of(optimizer, count):
    """Step counts, 0 for parameters without state."""
    state = optimizer.state_dict()["state"]
    return [int(state[i]["step"]) if i in state and "step" in state[i] else 0 for i in range(count)]


def everything(optimizer, params):
    return copy.deepcopy([params, optimizer.state_dict()])


def assert_unchanged(optimizer, params, before, label):
    now = everything(optimizer, params)
    assert_all_same(now[0], before[0], label)
    assert now[1]["param_groups"] == before[1]["param_groups"], label
    assert now[1]["state"].keys() == before[1]["state"].keys(), label
    for i, entry in before[1]["state"].items():
        for key, value in entry.items():
            assert_same(now[1]["state"][i][key], value, f"{label}: {key} of {i}")


def assert_resumes(cls, params, grads, **options):
    """A run stopped halfway goes on with the same bits, loaded with its options or unpickled."""
    optimizer, half = cls(params, **options), len(grads) // 2
    for g in grads[:half]:
        optimizer.step(g)
    saved, held = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(params)
    loaded, pickled = cls(held), pickle.loads(pickle.dumps(optimizer))
    loaded.load_state_dict(saved)
    for g in grads[half:]:
        for each in (optimizer, loaded, pickled):
            each.step(g)
    own = [p for group in pickled.param_groups for p in group["params"]]
    assert_all_same(held, params, "loaded")
    assert_all_same(own, params, "unpickled")


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def backward(model, seed=0):
    """Gradients of a random batch."""
    rng = np.random.default_rng(seed)
    y = model(rng.standard_normal((5, 3)).astype(np.float32))
    model.backward(rng.standard_normal(y.shape).astype(np.float32))
