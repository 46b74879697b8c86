"""Counters and memory of a trainer and its callbacks over a resume, a second fit and a load."""

import os

import numpy as np
import pytest
from onepass import nn, optim
from onepass.data import DataLoader
from onepass.optim import lr_scheduler
from onepass.train import Callback, Checkpoint, EarlyStopping, Trainer
from small_training import BATCH, KilledError, StopAt, X, Y, fit, make, network


class Scripted(Callback):
    """Writes a validation loss of its own into the history, before EarlyStopping reads it."""

    def __init__(self, *values):
        self.values = values

    def on_epoch_end(self, trainer):
        trainer.history["val_loss"][-1] = self.values[min(trainer.epoch, len(self.values)) - 1]


FALLING_THEN_WORSE = (1.0, 0.5, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9)


@pytest.mark.parametrize("killed_after", [3, 4])
def test_early_stopping_stops_at_the_same_epoch_after_a_resume(tmp_path, killed_after):
    def callbacks(*more):
        return [Scripted(*FALLING_THEN_WORSE), EarlyStopping(patience=3), *more]

    whole = make(callbacks())
    fit(whole, max_epochs=8)
    assert whole.epoch == 5
    with pytest.raises(KilledError):
        # After the checkpoint of that epoch: callbacks run in order, Checkpoint last.
        fit(
            make(
                callbacks(Checkpoint(tmp_path, every_n_epochs=1), StopAt(step=4 * killed_after + 1))
            ),
            max_epochs=8,
        )
    second = make(callbacks())
    fit(second, max_epochs=8, ckpt_path=tmp_path)
    assert second.epoch == 5


def test_a_second_fit_gives_early_stopping_its_whole_patience_again():
    stopping = EarlyStopping(patience=3, restore_best_weights=False)
    trainer = make([Scripted(*FALLING_THEN_WORSE), stopping], scheduled=False)
    fit(trainer, max_epochs=4)
    assert stopping.wait == 2
    fit(trainer, max_epochs=6)
    assert trainer.epoch == 6  # two more bad epochs: not yet three


def test_skipped_steps_are_counted_over_a_resume(tmp_path):
    class Overflow(Callback):
        def on_step_end(self, trainer):
            bad = trainer.step in (2, 6)  # of the next step
            trainer.model[0].weight.data[0, 0] = np.inf if bad else 0.1

    whole = make([Overflow()], nonfinite="skip")
    fit(whole)
    assert whole.skipped_steps > 1
    with pytest.raises(KilledError):
        fit(make([Overflow(), Checkpoint(tmp_path, every_n_steps=1), StopAt(step=5)],
                 nonfinite="skip"))  # fmt: skip
    second = make([Overflow()], nonfinite="skip")
    fit(second, ckpt_path=tmp_path)
    assert second.skipped_steps == whole.skipped_steps


def test_a_parameter_that_never_had_a_gradient_stays_without_one_after_a_resume(tmp_path):
    """A zero gradient in place of none would decay it, and count a step."""

    def trainer(callbacks=()):
        model = network()
        spare = nn.Parameter(np.ones(3, np.float32))
        model.spare = spare
        optimizer = optim.AdamW([*model.parameters()], lr=0.02, weight_decay=0.5)
        assert any(p is spare for p in model.parameters())
        return Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=callbacks, progress=False)

    with pytest.raises(KilledError):
        fit(trainer([Checkpoint(tmp_path, every_n_steps=1), StopAt(step=6)]))
    second = trainer()
    fit(second, ckpt_path=tmp_path)
    assert second.model.spare.data.tolist() == [1, 1, 1]
    at = [p is second.model.spare for p in second.model.parameters()].index(True)
    assert not second.optimizer.state_dict()["state"].get(at, {}).get("step")


def test_a_plateau_schedule_reads_the_validation_loss():
    """The training loss falls; the validation loss, of turned labels, rises: the rate falls, as
    often as the validation loss says and not as often as the training loss would."""

    def rate_after(losses):
        follower = optim.AdamW(network().parameters(), lr=0.02)
        plateau = lr_scheduler.ReduceLROnPlateau(follower, patience=1, factor=0.5)
        for value in losses:
            plateau.step(value)
        return follower.param_groups[0]["lr"]

    model = network()
    optimizer = optim.AdamW(model.parameters(), lr=0.02)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, factor=0.5)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, scheduler=scheduler, progress=False)
    history = fit(trainer, max_epochs=12, validation_data=(X, 1 - Y))
    assert history["loss"][-1] < history["loss"][0]
    assert history["val_loss"][-1] > history["val_loss"][0]
    assert optimizer.param_groups[0]["lr"] < 0.02
    assert optimizer.param_groups[0]["lr"] == rate_after(history["val_loss"])
    assert rate_after(history["loss"]) != rate_after(history["val_loss"])


def test_reading_a_model_leaves_its_mode():
    trainer = make()
    for training in (False, True):
        trainer.model.train(training)
        trainer.evaluate(X, Y)
        trainer.predict(X)
        assert trainer.model.training is training


def test_a_worse_epoch_after_a_resume_does_not_replace_the_best_checkpoint(tmp_path):
    def callbacks(*more):
        best = Checkpoint(tmp_path, keep=1, monitor="val_loss")
        return [Scripted(*FALLING_THEN_WORSE), best, *more], best

    first, _ = callbacks(StopAt(step=13))  # in the fourth epoch; the second was the best
    with pytest.raises(KilledError):
        fit(make(first), max_epochs=8)
    second, best = callbacks()
    fit(make(second), max_epochs=8, ckpt_path=tmp_path)
    assert best.best == 0.5
    assert best.best_step == 8


def test_a_checkpoint_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """Every file, then the directory, is synced before the rename, and the parent after it."""
    events, fsync, rename = [], os.fsync, os.rename

    def synced(fd):
        events.append(("sync", os.path.realpath(f"/proc/self/fd/{fd}")))
        fsync(fd)

    def renamed(old, new, **more):
        events.append(("rename", os.fspath(old)))
        rename(old, new, **more)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    final = make().save(tmp_path)
    at = next(i for i, event in enumerate(events) if event[0] == "rename")
    partial = events[at][1]
    before = [path for _, path in events[:at]]
    written = {os.path.join(partial, name) for name in os.listdir(final)}
    assert written == {path for path in before if os.path.dirname(path) == partial}
    assert before[-1] == partial
    assert ("sync", str(tmp_path)) in events[at:]


def test_the_global_generator_is_left_alone():
    np.random.seed(3)  # noqa: NPY002  (the global one is what this is about)
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    list(DataLoader(X, Y, batch_size=BATCH, shuffle=True, seed=1))
    fit(make())
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_a_name_that_comes_late_has_nothing_in_the_epochs_before(tmp_path):
    trainer = make(log_dir=tmp_path, scheduled=False)
    fit(trainer, max_epochs=2, validation_data=None)
    fit(trainer, max_epochs=3)
    values = trainer.history["val_loss"]
    assert len(values) == 3
    assert np.isnan(values[:2]).all()
    assert np.isfinite(values[2])
    rows = (tmp_path / "history.csv").read_text().splitlines()
    column = rows[0].split(",").index("val_loss")
    cells = [row.split(",")[column] for row in rows[1:]]
    assert float(cells[2]) == pytest.approx(values[2], rel=1e-6)
    assert cells[:2] in (["", ""], ["nan", "nan"])


@pytest.mark.parametrize("inside", [False, True])
def test_another_accumulate_is_told_by_a_resume(tmp_path, inside):
    where = StopAt(step=3) if inside else StopAt(step=5)
    every = {"every_n_steps": 1} if inside else {"every_n_epochs": 1}
    with pytest.raises(KilledError):
        fit(make([Checkpoint(tmp_path, **every), where]))
    if inside:
        with pytest.raises(ValueError, match="'accumulate' is 2, expected accumulate=1"):
            fit(make(accumulate=2), ckpt_path=tmp_path)
    else:
        with pytest.warns(RuntimeWarning, match=r"accumulate=1.*2"):
            fit(make(accumulate=2), ckpt_path=tmp_path)


def test_validation_counts_every_sample_of_three_hundred():
    rng = np.random.default_rng(1)
    many = rng.standard_normal((300, 4)).astype(np.float32)
    labels = (many[:, 0] > 0).astype(np.int64)
    labels[256:] = 1 - labels[256:]  # the last, smaller batch is unlike the others
    trainer = make()
    history = fit(trainer, max_epochs=1, validation_data=(many, labels))
    assert history["val_loss"][-1] == pytest.approx(trainer.evaluate(many, labels)["loss"])
    whole = float(trainer.loss(trainer.model.eval()(many), labels)[0])
    assert history["val_loss"][-1] == pytest.approx(whole, rel=1e-5)
