"""The numbers of the rate finder."""

import numpy as np
import pytest
from onepass.train import Callback, find_lr
from onepass.train._lr_finder import SMOOTHING, LRFinder, _steepest
from small_training import X, Y, make


class Losses(Callback):
    def __init__(self):
        self.all = []

    def on_step_end(self, trainer):
        self.all.append(trainer.batch_loss)


def test_losses_are_averages_of_the_batches_without_a_bias():
    """loss_n = (1 - s)·Σ s^(n-i)·l_i / (1 - s^n): a constant loss is itself from the first step."""
    seen, finder = Losses(), LRFinder(1e-5, 1e-2, 20)
    trainer = make([seen, finder], scheduled=False, nonfinite="propagate")
    trainer.fit(X, Y, max_epochs=20, batch_size=8)
    n = len(finder.losses)
    assert n > 5
    average = 0.0
    for count, (loss, got) in enumerate(zip(seen.all, finder.losses, strict=False), 1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        assert got == pytest.approx(average / (1 - SMOOTHING**count))
    assert finder.losses[0] == pytest.approx(seen.all[0])


def test_the_first_tenth_is_left_out():
    """Where the curve falls fastest at its very beginning, the suggestion lies behind it."""
    lrs = list(np.geomspace(1e-6, 1, 40))
    losses = [9.0, 5.0, 3.0, *np.linspace(2.9, 2.5, 27), *np.linspace(2.4, 1.0, 10)]
    assert _steepest(lrs, losses) >= lrs[4]
    assert _steepest(lrs, losses) in lrs


def test_the_finder_leaves_model_and_optimizer_as_they_were():
    trainer = make(scheduled=False)
    before = {k: v.copy() for k, v in trainer.model.state_dict().items()}
    find_lr(trainer, X, Y, steps=10, batch_size=8)
    for name, value in trainer.model.state_dict().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert trainer.optimizer.param_groups[0]["lr"] == 0.02
