"""The memory of a callback belongs to one training: it starts afresh in another, and only there."""

import copy
import math

import numpy as np
import pytest
from onepass import nn, optim
from onepass.train import (
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    Profile,
    ProgressBar,
    TerminateOnNaN,
    Trainer,
    _store,
)
from small_training import BATCH, VALIDATION, KilledError, StopAt, X, Y, everything, fit, make

RANDOM = np.random.default_rng(5).integers(0, 2, len(Y))
EASY = np.where(X[:, 0] > 0, 1, 0)


class Marks(Callback):
    """Scripted validation losses, and weights that tell trainer and epoch."""

    def __init__(self, mark, *losses):
        self.mark, self.losses = mark, losses

    def on_epoch_end(self, run):
        run.history["val_loss"][-1] = self.losses[run.epoch - 1]
        run.model[0].weight.data[...] = self.mark + run.epoch


def weight(trainer):
    return float(trainer.model[0].weight.data[0, 0])


def test_the_second_model_ends_with_its_own_best_weights():
    """Case 2 of the field: easy data, then a new model on random labels, with the same callback."""
    stopping = EarlyStopping("val_loss", patience=2)
    fit(make([Marks(100, 0.1, 0.05, 0.04), stopping]))
    second = make([Marks(200, 0.9, 0.8, 0.85), stopping])
    fit(second)
    assert (stopping.best, stopping.best_epoch, stopping.wait) == (0.8, 2, 1)
    assert weight(second) == 202
    alone = EarlyStopping("val_loss", patience=2)
    fit(make([Marks(200, 0.9, 0.8, 0.85), alone]))
    assert alone.state_dict().keys() == stopping.state_dict().keys()
    assert alone.best == stopping.best


def test_the_same_callback_gives_what_a_new_one_gives():
    """Random labels after easy ones: bit for bit the training alone, the epoch it stops at too."""
    stopping = EarlyStopping("val_loss", patience=2)
    easy = make([stopping])
    easy.fit(X, EASY, max_epochs=6, batch_size=BATCH, validation_data=(X, EASY))
    results = []
    for callback in (stopping, EarlyStopping("val_loss", patience=2)):
        trainer = make([callback])
        trainer.fit(X, RANDOM, max_epochs=8, batch_size=BATCH, validation_data=(X, 1 - RANDOM))
        results.append((everything(trainer), callback.best, callback.stopped_epoch))
    assert results[0] == results[1]
    assert results[0][2] < 8


@pytest.mark.parametrize("other", [
    {"y": RANDOM}, {"validation_data": (X[:9] + 1, Y[:9])},
    {"validation_data": (X[:9], RANDOM[:9])}, {"X": X * 2}, {"X": X[:24], "y": Y[:24]},
], ids=["targets", "validation", "validation targets", "samples", "fewer samples"])  # fmt: skip
def test_other_data_in_the_same_trainer_begin_a_new_training(other):
    stopping = EarlyStopping("val_loss", patience=9)
    losses = (0.1, 0.05, 0.04, 0.9, 0.8, 0.85)
    trainer = make([Marks(0, *losses), stopping], scheduled=False)
    data = {"X": X, "y": Y, "validation_data": VALIDATION, "batch_size": BATCH}
    trainer.fit(**data, max_epochs=3)
    assert (stopping.best, weight(trainer)) == (0.04, 3)
    trainer.fit(**{**data, **other}, max_epochs=6)
    assert (stopping.best, stopping.best_epoch, weight(trainer)) == (0.8, 5, 5)


@pytest.mark.parametrize("copied", [False, True])
def test_a_larger_max_epochs_goes_on_and_keeps_the_best(copied):
    """Also where the arrays are other objects with the same numbers."""
    stopping = EarlyStopping("val_loss", patience=3)
    trainer = make([Marks(0, 0.1, 0.05, 0.2, 0.9, 0.8, 0.85), stopping], scheduled=False)
    fit(trainer)
    assert stopping.wait == 1
    data = (X.copy(), Y.copy(), (VALIDATION[0].copy(), VALIDATION[1].copy()))
    X2, Y2, held = data if copied else (X, Y, VALIDATION)
    trainer.fit(X2, Y2, max_epochs=6, batch_size=BATCH, validation_data=held)
    assert trainer.epoch == 6  # the whole patience again: three bad epochs are not four
    assert (stopping.best, stopping.best_epoch, weight(trainer)) == (0.05, 2, 2)


def test_another_model_in_the_same_trainer_begins_a_new_training():
    stopping = EarlyStopping("val_loss", patience=9)
    trainer = make([Marks(0, 0.1, 0.05, 0.04, 0.9, 0.8, 0.85), stopping], scheduled=False)
    fit(trainer)
    trainer.model = copy.deepcopy(trainer.model)
    trainer.optimizer = optim.AdamW(trainer.model.parameters(), lr=0.02)
    fit(trainer, max_epochs=6)
    assert (stopping.best, stopping.best_epoch, weight(trainer)) == (0.8, 5, 5)


def test_a_stopped_training_goes_on():
    stopping = EarlyStopping("val_loss", patience=1, restore_best_weights=False)
    trainer = make([Marks(0, 0.1, 0.2, 0.09, 0.08), stopping], scheduled=False)
    fit(trainer, max_epochs=4)
    assert (trainer.epoch, stopping.stopped_epoch) == (2, 2)
    fit(trainer, max_epochs=4)
    assert (trainer.epoch, stopping.stopped_epoch, stopping.best) == (4, 0, 0.08)


def test_the_best_checkpoint_of_another_training_is_forgotten(tmp_path):
    checkpoint = Checkpoint(tmp_path / "a", keep=1, monitor="val_loss")
    fit(make([Marks(0, 0.1, 0.2, 0.3), checkpoint]))
    assert (checkpoint.best, checkpoint.best_step) == (0.1, 4)
    checkpoint.dir = tmp_path / "b"
    fit(make([Marks(0, 0.9, 0.8, 0.85), checkpoint]))
    assert (checkpoint.best, checkpoint.best_step) == (0.8, 8)
    kept = [_store.step_of(path) for path in _store.checkpoints(tmp_path / "b")]
    assert kept == [8, 12]


def test_a_resume_into_a_used_callback_forgets_the_other_training(tmp_path):
    """The checkpoint has no state of it: nothing of the other training may stay."""
    fit(make([Checkpoint(tmp_path)]), max_epochs=1)
    stopping = EarlyStopping("val_loss", patience=9)
    fit(make([Marks(100, 0.01, 0.01, 0.01), stopping]))
    trainer = make([Marks(0, 9.0, 0.9, 0.8), stopping])
    fit(trainer, ckpt_path=tmp_path)
    assert (stopping.best, stopping.best_epoch, weight(trainer)) == (0.8, 3, 3)


def test_trainings_that_take_turns_do_not_mix():
    """Trainer A, trainer B, and A again: A's callback has been B's, so it starts afresh."""
    stopping = EarlyStopping("val_loss", patience=9)
    first = make([Marks(0, 0.5, 0.4, 0.45, 0.6, 0.44, 0.7), stopping], scheduled=False)
    fit(first)
    fit(make([Marks(100, 0.01, 0.02, 0.03), stopping]))
    fit(first, max_epochs=6)
    assert (stopping.best, stopping.best_epoch, weight(first)) == (0.44, 5, 5)


def test_a_callback_in_two_fits_at_once_is_refused():
    stopping = EarlyStopping("val_loss")
    inner = make([stopping])

    class Inner(Callback):
        def on_epoch_end(self, run):
            with pytest.raises(RuntimeError, match="EarlyStopping: another fit is using"):
                fit(inner)
            assert inner.step == 0

    outer = make([stopping, Inner()])
    fit(outer)
    assert outer.epoch == 3
    fit(inner)
    assert inner.epoch == 3


def test_a_fit_inside_a_fit_of_the_same_trainer_is_refused():
    class Again(Callback):
        def on_step_end(self, run):
            with pytest.raises(RuntimeError, match=r"fit: a hook of this trainer's fit calls it"):
                fit(trainer)

    trainer = make([Again()])
    fit(trainer)
    assert trainer.epoch == 3


def test_a_callback_twice_in_one_trainer_is_refused():
    stopping = EarlyStopping()
    with pytest.raises(ValueError, match=r"'callbacks\[2\]' is EarlyStopping"):
        make([stopping, TerminateOnNaN(), stopping])
    make([EarlyStopping(), EarlyStopping()])


def test_a_users_callback_is_reset_like_ours():
    class Best(Callback):
        resets = 0

        def reset(self):
            self.resets += 1
            self.best = math.inf

        def on_epoch_end(self, run):
            self.best = min(self.best, run.history["loss"][-1])

    best = Best()
    first = make([best], scheduled=False)
    fit(first)
    assert best.resets == 1
    fit(first, max_epochs=4)  # goes on
    assert best.resets == 1
    second = make([best])
    with pytest.raises(KilledError):
        fit(make([best, StopAt(5)]))
    fit(second)
    assert best.resets == 3
    assert best.best == min(second.history["loss"])


def test_a_resume_resets_nothing_after_the_state_is_there(tmp_path):
    stopping = EarlyStopping("val_loss", patience=9)
    losses = (0.1, 0.5, 0.4)
    with pytest.raises(KilledError):
        fit(make([Marks(0, *losses), stopping, Checkpoint(tmp_path), StopAt(step=9)]))
    for same in (stopping, EarlyStopping("val_loss", patience=9)):
        trainer = make([Marks(0, *losses), same])
        fit(trainer, ckpt_path=tmp_path)
        assert (same.best, same.best_epoch, weight(trainer)) == (0.1, 1, 1)


def test_a_profile_counts_afresh():
    profile = Profile(steps=3, skip=2)
    for _ in range(2):
        fit(make([profile]))
        assert (profile.counted, profile.skip) == (3, 2)


def test_tables_of_two_trainings(tmp_path, capsys):
    """One line of names each, and a file with the rows of the last training."""
    bar, logger = ProgressBar(), CSVLogger(tmp_path / "h.csv")
    for _ in range(2):
        fit(make([bar, logger]), max_epochs=2)
    assert capsys.readouterr().out.count("epoch") == 2
    assert len((tmp_path / "h.csv").read_text().splitlines()) == 3


def test_an_ensemble_with_one_early_stopping():
    """Members trained in a loop: each ends with the weights of its own best epoch."""
    stopping = EarlyStopping("val_loss", patience=3)
    for seed in range(3):
        nn.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        optimizer = optim.SGD(model.parameters(), lr=2.0)
        trainer = Trainer(
            model, nn.CrossEntropyLoss(), optimizer, callbacks=[stopping], progress=False
        )
        history = trainer.fit(X, Y, max_epochs=6, batch_size=BATCH, validation_data=VALIDATION)
        assert trainer.evaluate(*VALIDATION)["loss"] == pytest.approx(min(history["val_loss"]))
