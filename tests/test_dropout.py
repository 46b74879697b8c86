"""Dropout layers and their random streams: masks, seeds, exact resume, copies."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from onepass import nn, ops
from small_models import normal


def test_dropout_draws_a_new_mask_each_call_and_the_same_in_backward():
    layer, x = nn.Dropout(0.25), np.ones((64, 64), np.float32)
    first, second = layer(x), layer(x)
    assert (first != second).any()
    np.testing.assert_array_equal(layer.backward(x), second)
    assert set(np.unique(first)) == {0, np.float32(1 / 0.75)}
    assert (nn.Dropout(0.25)(x) != first).any()  # another layer, another stream
    seed, offset = layer.stream.peek()
    np.testing.assert_array_equal(
        layer(x) != 0, ops.dropout_mask(x.shape, 0.25, seed=seed, offset=offset)
    )


def test_dropout_in_evaluation_and_at_the_ends():
    x = normal((5, 5), "float32")
    layer = nn.Dropout(0.5).eval()
    assert layer(x) is x
    assert layer.backward(x) is x
    assert nn.Dropout(0.0)(x) is x
    assert not nn.Dropout(1.0)(x).any()


def test_manual_seed_reaches_existing_layers():
    layer, x = nn.Dropout(0.5), np.ones((32, 32), np.float32)
    nn.manual_seed(7)
    first = layer(x)
    layer(x)
    nn.manual_seed(7)
    np.testing.assert_array_equal(layer(x), first)
    nn.manual_seed(8)
    assert (layer(x) != first).any()


def test_rng_state_resumes_bitwise():
    def build():
        return nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.ReLU(), nn.Dropout(0.3))

    nn.manual_seed(1)
    model, x = build(), normal((9, 8), "float32")
    model(x)
    state = json.loads(json.dumps(nn.get_rng_state(model)))
    weights = model.state_dict()
    expected = [model(x), model(x), nn.Linear(5, 5).weight.data]

    nn.manual_seed(99)
    resumed = build()
    resumed.load_state_dict(weights)
    nn.set_rng_state(state, resumed)
    for a, b in zip([resumed(x), resumed(x), nn.Linear(5, 5).weight.data], expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_rng_state_of_another_model_is_refused():
    model, other = nn.Sequential(nn.Dropout()), nn.Sequential(nn.ReLU(), nn.Dropout())
    state = nn.get_rng_state(model)
    nn.Linear(3, 3)
    before = nn.get_rng_state(other)
    for target in (None, other):
        with pytest.raises(ValueError, match="dropout layers"):
            nn.set_rng_state(state, target)
    assert nn.get_rng_state(other) == before


def test_copies_continue_where_the_layer_was():
    layer, x = nn.Dropout(0.5), np.ones((32, 32), np.float32)
    layer(x)
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    expected = layer(x)
    for other in copies:
        np.testing.assert_array_equal(other(x), expected)
