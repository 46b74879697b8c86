"""Shared by the tests of modules: inputs, weights, a small model, and everything it computes."""

from __future__ import annotations

import numpy as np
from onepass import nn

DTYPES = ["float32", "float64"]


def normal(shape, dtype="float64", seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def perturb(model, seed=2):
    """Weights and running statistics that no formula can ignore."""
    rng = np.random.default_rng(seed)
    state = model.state_dict()
    for name, value in state.items():
        if value.dtype.kind == "f":
            state[name] = value + rng.uniform(0.1, 0.5, value.shape).astype(value.dtype)
    model.load_state_dict(state, strict=False)  # of what layers share, the last counts
    return model


def grads(model):
    return {name: p.grad for name, p in model.named_parameters()}


def assert_same(a, b):
    """Equal bits, shapes and names."""
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name, strict=True)


def run(model, x, steps=3):
    """Everything that a few steps compute: outputs, gradients, statistics."""
    results = {}
    for step in range(steps):
        y = model(x)
        dx = model.backward(normal(y.shape, y.dtype, seed=step))
        results |= {f"y{step}": y, f"dx{step}": dx}
    return results | grads(model) | model.state_dict()


def residual_model(fuse=True, dtype="float64", p=0.0):
    k = {"dtype": dtype}
    return nn.Sequential(
        nn.Linear(6, 8, **k),
        nn.Residual(nn.Linear(8, 8, **k), nn.ReLU(), nn.Linear(8, 8, **k), nn.BatchNorm1d(8, **k)),
        nn.ReLU(),
        nn.Dropout(p),
        nn.Residual(nn.BatchNorm1d(8, **k), nn.Tanh(), shortcut=nn.Linear(8, 8, **k)),
        nn.Residual(
            nn.Sequential(nn.Linear(8, 5, bias=False, **k), nn.BatchNorm1d(5, affine=False, **k)),
            shortcut=nn.Sequential(nn.Linear(8, 5, **k), nn.GELU()),
        ),
        nn.Linear(5, 3, **k),
        fuse=fuse,
    )
