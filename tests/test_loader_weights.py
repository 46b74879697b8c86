"""Weights of a DataLoader: as checked as those of fit."""

import numpy as np
import pytest
from onepass import nn, optim
from onepass.data import DataLoader
from onepass.train import Trainer
from small_training import X, Y

ONES = np.ones(30)
CASES = {
    "negative": (np.where(np.arange(30) == 3, -1.0, 1.0), ValueError, r"has -1\.0 at 3, expected"),
    "NaN": (np.where(np.arange(30) == 29, np.nan, 1.0), ValueError, "has nan at 29"),
    "inf": (np.full(30, np.inf), ValueError, "has inf at 0"),
    "too few": (np.ones(29), ValueError, r"has shape \(29,\), expected \(30,\)"),
    "too many": (np.ones(31), ValueError, r"has shape \(31,\), expected \(30,\)"),
    "a column": (np.ones((30, 1)), TypeError, r"shape \(30, 1\)"),
    "a scalar": (np.float32(1), TypeError, r"shape \(\)"),
    "none counts": (np.zeros(30), ValueError, "the sum 0"),
    "vanishing": (np.full(30, 1e-50), ValueError, "has 1e-50 at 0"),
    "text": (np.array(["1"] * 30), TypeError, "sample_weight"),
    "complex": (ONES * 1j, TypeError, "dtype complex128"),
    "masked": (np.ma.masked_equal(np.arange(30.0), 3), TypeError, "MaskedArray"),
    "objects": (np.array([1.0, None] * 15), TypeError, "sample_weight"),
    "a number": (3, TypeError, "sample_weight"),
}


@pytest.mark.parametrize("name", CASES)
def test_weights_that_would_give_wrong_numbers_are_refused_by_a_loader(name):
    weights, kind, words = CASES[name]
    with pytest.raises(kind, match=f"DataLoader: 'sample_weight'.*{words}|{words}"):
        DataLoader(X, Y, 8, sample_weight=weights)


@pytest.mark.parametrize("kind", [list, tuple, np.float32, np.int64, "pandas"])
def test_weights_of_any_kind_weigh_alike(kind):
    weights = [i % 3 for i in range(30)]
    if kind == "pandas":
        pandas = pytest.importorskip("pandas")
        given = pandas.Series(weights, index=range(30, 0, -1))
    else:
        given = kind(weights) if kind in (list, tuple) else np.array(weights, kind)
    losses = []
    for weight in (given, np.array(weights, float)):
        nn.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 2))
        trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
                          progress=False)  # fmt: skip
        losses.append(trainer.fit(DataLoader(X, Y, 7, sample_weight=weight), max_epochs=2)["loss"])
    assert losses[0] == losses[1]


def test_weights_may_differ_along_a_sequence():
    y = np.arange(60).reshape(30, 2) % 2
    loader = DataLoader(np.zeros((30, 2), np.float32), y, 8, sample_weight=np.ones((30, 2)))
    assert next(iter(loader))[2].shape == (8, 2)
    with pytest.raises(ValueError, match=r"has -2\.0 at \(3, 1\)"):
        DataLoader(y * 1.0, y, 8, sample_weight=np.where(np.arange(60).reshape(30, 2) == 7, -2, 1))
