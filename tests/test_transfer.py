"""Fine-tuning: a part of another model's weights, frozen, learns a new task from few labels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from onepass import nn, optim
from onepass.data import load
from onepass.train import Trainer
from small_models import assert_same

DATA = load("digits")
X = ((DATA.X - DATA.X.mean(axis=0)) / 16).astype(np.float32)
WIDTHS = (64, 128, 64)


def network(outputs):
    layers = [layer for i, o in pairwise(WIDTHS) for layer in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(WIDTHS[-1], outputs))


def fit(model, rows, y, epochs):
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, metrics=["accuracy"], progress=False)
    trainer.fit(X[rows], y[rows], max_epochs=epochs, batch_size=32)
    return trainer


def test_frozen_features_gain_three_points_on_twenty_labels():
    parity, gains = DATA.y % 2, []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(X))
        many, few, held_out = order[:1000], order[1000:1020], order[1020:]
        nn.manual_seed(seed)
        first = network(10)
        fit(first, many, DATA.y, 20)

        scratch = fit(network(2), few, parity, 100).evaluate(X[held_out], parity[held_out])
        model = network(2)
        result = model.load_state_dict(first.state_dict(), strict=False)
        assert (result.missing, result.unexpected) == ([], [])
        assert result.mismatched == ["4.weight", "4.bias"]
        model[:4].freeze()
        frozen = fit(model, few, parity, 100).evaluate(X[held_out], parity[held_out])
        assert_same(model[:4].state_dict(), first[:4].state_dict())
        gains.append(frozen["accuracy"] - scratch["accuracy"])
    assert np.mean(gains) > 0.03, gains
