"""Batches that ranks get from outside, or from a transform: whole, and the same on each."""

from __future__ import annotations

import numpy as np
import pytest
from test_parallel_trainer import X, Y, errors_of, fitted, network, together, trainer_of

EACH = [(X[i : i + 8], Y[i : i + 8]) for i in range(0, 32, 8)]


class Endless:
    """Batches without a length."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def shuffled(rank):
    """As each rank has them whose seed is its own."""
    order = np.random.default_rng(rank).permutation(32)
    return [(X[i], Y[i]) for i in np.split(order, 4)]


OTHERS = {
    "a sampler for each rank": (
        lambda rank: [(X[i : i + 8], Y[i : i + 8]) for i in range(8 * rank, 32, 16)] * 2,
        "rank 0 and rank 1 have other samples in epoch 1, batch 1",
    ),
    "another seed": (shuffled, "rank 0 and rank 1 have other samples in epoch 1, batch 1"),
    "another X": (
        lambda rank: [(x + rank * (k == 2), y) for k, (x, y) in enumerate(EACH)],
        "rank 0 and rank 1 have other samples in epoch 1, batch 3",
    ),
    "another length": (
        lambda rank: [(x[: 8 - rank], y[: 8 - rank]) for x, y in EACH],
        "rank 0 has 8 samples and rank 1 has 7 in epoch 1, batch 1",
    ),
    "fewer batches": (
        lambda rank: Endless(EACH[: 4 - rank]),
        "epoch 1, batch 3 is the last of the epoch on rank 1 and not on rank 0",
    ),
}


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"accumulate": 2, "reproducible": 4}],
                         ids=["plain", "accumulated", "reproducible"])  # fmt: skip
@pytest.mark.parametrize("what", OTHERS)
def test_batches_that_differ_are_refused_by_all(what, options):
    given, match = OTHERS[what]
    errors = errors_of(
        2, lambda c: trainer_of(c, **options), lambda t: fitted(t, given(t.comm.rank), None)
    )
    assert errors[0] == errors[1]
    assert errors[0].startswith("ValueError: fit: 'X'")
    assert match in errors[0]
    assert "expected the same whole batches on every rank" in errors[0]
    assert "without a DistributedSampler" in errors[0]


def test_no_step_is_made_with_batches_that_differ():
    def run(trainer):
        with pytest.raises(ValueError, match="other samples"):
            fitted(trainer, shuffled(trainer.comm.rank), None)
        return trainer.step, trainer.model.state_dict()

    before = network().state_dict()
    for step, state in together(2, trainer_of, run):
        assert step == 0
        assert all((state[name] == before[name]).all() for name in before)


def test_a_validation_that_differs_is_refused_by_all():
    def run(trainer):
        fitted(trainer, EACH, None, validation_data=EACH[trainer.comm.rank :])

    errors = errors_of(2, trainer_of, run)
    assert errors[0] == errors[1]
    assert "fit: 'validation_data' gave other batches" in errors[0]
    assert "rank 0 has 32 samples and rank 1 has 24" in errors[0]


def test_a_transform_that_draws_by_itself_is_refused_by_all():
    draws = np.random.default_rng(0)

    def noise(X, y, *, seed, epoch, index):
        return X + draws.standard_normal(X.shape), y

    errors = errors_of(
        2, lambda c: trainer_of(c), lambda t: fitted(t, transform=noise, num_workers=0)
    )
    assert errors[0] == errors[1]
    assert errors[0].startswith("ValueError: fit: 'transform' gave other batches")
    assert "a function of X, y, seed, epoch and index alone" in errors[0]
