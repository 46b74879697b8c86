"""A fit that an exception ends: what it leaves, what is called, and how it goes on."""

import numpy as np
import pytest
from onepass.train import Callback, Checkpoint, Profile, _store
from small_training import KilledError, X, Y, everything, fit, make, uninterrupted


class Raises(Callback):
    """Raises in the given hook at its n-th call, once."""

    def __init__(self, hook, at, error):
        self.left, self.error = at, error
        setattr(self, hook, self.called)

    def called(self, run, *more):
        self.left -= 1
        if self.left == 0:
            raise self.error


def test_ctrl_c_before_a_step_lets_the_step_end(tmp_path):
    trainer = make([Raises("on_before_step", 6, KeyboardInterrupt), Checkpoint(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    assert (trainer.step, trainer.position) == (6, 2)
    assert [_store.step_of(path) for path in _store.checkpoints(tmp_path)] == [4, 6]
    fit(trainer)
    assert everything(trainer) == uninterrupted()


def test_ctrl_c_after_a_validation_lets_the_epoch_end(tmp_path):
    trainer = make([Raises("on_validation_end", 2, KeyboardInterrupt), Checkpoint(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    assert (trainer.epoch, trainer.history.epochs) == (2, 2)
    assert len(trainer.history["val_loss"]) == 2
    fit(trainer)
    assert everything(trainer) == uninterrupted()


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("nonfinite", ["raise", "propagate"])
def test_no_batch_is_lost_when_a_hook_fails_before_the_step(accumulate, nonfinite):
    """The batches of that step, their masks and the running statistics come again."""
    options = {"accumulate": accumulate, "nonfinite": nonfinite, "max_norm": 0.5}
    expected = uninterrupted(**options)
    trainer = make([Raises("on_before_step", 2, KilledError)], **options)
    with pytest.raises(KilledError):
        fit(trainer)
    assert (trainer.step, trainer.position) == (1, accumulate)
    fit(trainer)
    assert everything(trainer) == expected


@pytest.mark.parametrize("other", [{"y": 1 - Y}, {"X": X + 1}])
def test_other_data_inside_an_epoch_are_refused(other):
    trainer = make([Raises("on_step_end", 2, KilledError)])
    data = {"X": X, "y": Y, "max_epochs": 3, "batch_size": 8}
    with pytest.raises(KilledError):
        trainer.fit(**data)
    before = everything(trainer)
    with pytest.raises(ValueError, match="the last fit ended inside an epoch, expected the same"):
        trainer.fit(**{**data, **other})
    assert everything(trainer) == before
    trainer.fit(**data)
    assert trainer.epoch == 3


def test_every_callback_hears_of_the_end_also_where_one_fails():
    heard = []

    class Hears(Callback):
        def on_abort(self, run, error):
            heard.append(type(error))

    matmul = np.matmul
    trainer = make([
        Raises("on_step_end", 3, KilledError), Raises("on_abort", 1, OSError("disk")),
        Profile(steps=99, skip=0), Hears(),
    ])  # fmt: skip
    with pytest.raises(OSError, match="disk"):
        fit(trainer)
    assert heard == [KilledError]
    assert np.matmul is matmul
    assert "step" not in vars(type(trainer.optimizer))


def test_a_fit_that_failed_at_its_end_goes_on_there():
    """The best weights are given back by the fit that comes through."""
    ends = []

    class Ends(Callback):
        def on_fit_end(self, run):
            ends.append(run.epoch)

    trainer = make([Raises("on_fit_end", 1, KilledError), Ends()])
    with pytest.raises(KilledError):
        fit(trainer)
    fit(trainer)
    assert ends == [3]
    with pytest.warns(RuntimeWarning, match="3 of 3 epochs are done"):
        fit(trainer)
