"""Diagnosis and Profile on several ranks."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
from onepass import nn
from onepass.train import Diagnosis, Profile, ProgressBar
from test_parallel_trainer import X, Y, errors_of, fitted, network, together, trainer_of


def deep(norm=True):
    """Some units die in most of the samples: each share says other ones."""
    k = {"dtype": "float64"}
    nn.manual_seed(5)
    model = nn.Sequential(
        nn.Linear(5, 9, **k), nn.ReLU(), *[nn.BatchNorm1d(9, **k)] * norm, nn.Dropout(0.2),
        nn.Linear(9, 7, **k), nn.Tanh(), nn.Linear(7, 3, **k),
    )  # fmt: skip
    model[0].bias.data[:4] = [-2.5, -3.0, -3.5, -4.0]
    return model


def watched(trainer, **options):
    fitted(trainer, **options)
    return trainer.callbacks[0]


@pytest.mark.parametrize(
    ("options", "fit"),
    [
        ({}, {}),
        ({"accumulate": 3}, {}),
        ({"model": lambda: deep(norm=False)}, {"batch_size": 2}),  # a rank has no rows
        ({}, {"batch_size": len(X)}),
    ],
    ids=["plain", "accumulated", "no rows", "whole"],
)
@pytest.mark.parametrize("size", [2, 3])
def test_a_diagnosis_is_that_of_one_process(size, options, fit):
    def make(comm=None):
        made = {"model": deep, **copy.deepcopy(options)}
        return trainer_of(comm, callbacks=[Diagnosis()], lr=0.001, **made)

    alone = watched(make(), **fit)
    dead = np.array(alone.history["1"]["dead_units"])
    assert (dead > 0).any()
    for found in together(size, make, lambda t: watched(t, **fit)):
        assert found.verdict == alone.verdict
        assert found.history.keys() == alone.history.keys()
        for name, measures in alone.history.items():
            for measure, values in measures.items():
                np.testing.assert_allclose(found.history[name][measure], values, rtol=1e-6)
        np.testing.assert_allclose(
            [*found.start_variances.values()], [*alone.start_variances.values()], rtol=1e-9
        )
        assert not found._watches


def test_rank_0_alone_prints_the_verdict():
    stream = io.StringIO()

    def make(comm):
        return trainer_of(comm, callbacks=[Diagnosis(), ProgressBar(stream)])

    found = together(3, make, watched)
    assert stream.getvalue().count(found[0].verdict) == 1


def test_a_profile_of_a_rank():
    """Of one: here ranks are threads, and it puts clocks into what is the process's."""

    def make(comm):
        callbacks = [Profile(3, 1)] if comm.rank else []
        return trainer_of(comm, model=deep, callbacks=callbacks)

    profile = together(2, make, fitted)[1].callbacks[0]
    assert profile.counted == 3
    assert "whole step" in profile.table()


@pytest.mark.parametrize("callback", [Diagnosis, Profile])
@pytest.mark.parametrize("size", [1, 2])
def test_pieces_are_not_measured(size, callback):
    def make(comm):
        return trainer_of(
            comm, model=lambda: network(norm=True), callbacks=[callback()], reproducible=4
        )

    for error in errors_of(size, make, lambda t: fitted(t, X, Y)):
        assert f"ValueError: {callback.__name__}: 'reproducible' is 4, expected None" in error
