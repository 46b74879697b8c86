"""Trainers and their parts can be pickled and copied; the copy trains on bit for bit, apart."""

import copy
import io
import pickle

import numpy as np
import pytest
from helpers import each_variant
from onepass import nn, optim
from onepass.optim import lr_scheduler
from onepass.train import (
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    History,
    LRFinder,
    Profile,
    ProgressBar,
    TerminateOnNaN,
    Trainer,
)
from small_training import STEPS, X, Y, everything, fit, make, network

WAYS = {
    "deepcopy": copy.deepcopy, "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "old pickle": lambda value: pickle.loads(pickle.dumps(value, protocol=2)),
}  # fmt: skip
way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@way
@pytest.mark.parametrize("epochs", [0, 2])
def test_a_copy_trains_on_bit_for_bit_and_apart(tmp_path, way, epochs):
    trainer = make(
        [EarlyStopping(patience=9), Profile(steps=2), TerminateOnNaN(), Checkpoint(tmp_path / "a")],
        max_norm=1.0, accumulate=2, log_dir=tmp_path / "b", nonfinite="skip", device="cpu",
    )  # fmt: skip
    if epochs:
        fit(trainer, max_epochs=epochs)
    before = everything(trainer)
    other = way(trainer)
    assert everything(other) == before
    other.callbacks[-1].dir = tmp_path / "c"
    fit(other, max_epochs=5)
    assert everything(trainer) == before  # the original has not moved
    trained = everything(other)
    fit(trainer, max_epochs=5)
    assert everything(trainer) == trained
    assert trainer.callbacks[0].state_dict().keys() == other.callbacks[0].state_dict().keys()
    assert trainer.callbacks[0].best == other.callbacks[0].best


@way
@each_variant
def test_a_model_and_its_optimizer_copied_together(way, variant):
    def steps(model, optimizer, count):
        for _ in range(count):
            y = model(X)
            model.backward(np.ones_like(y) * y)
            optimizer.step(zero_grad=True)

    model = network()
    optimizer = variant.make(model.parameters(), lr=0.01)
    steps(model, optimizer, 3)
    model2, optimizer2 = way((model, optimizer))
    held = [id(p) for p in model2.parameters()]
    assert [id(p) for group in optimizer2.param_groups for p in group["params"]] == held
    before = {k: v.tobytes() for k, v in model.state_dict().items()}
    steps(model2, optimizer2, 3)
    assert {k: v.tobytes() for k, v in model.state_dict().items()} == before
    steps(model, optimizer, 3)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(model2.state_dict()[name], value)


SCHEDULES = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=60),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "sequence": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearWarmup(o, 3), lr_scheduler.CosineAnnealingLR(o, 30)], [3]
    ),
}


@way
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_follows_the_copied_optimizer(way, schedule):
    trainer = make(scheduled=False)
    trainer.scheduler = SCHEDULES[schedule](trainer.optimizer)
    fit(trainer, max_epochs=2)
    other = way(trainer)
    assert other.scheduler.optimizer is other.optimizer
    rate = trainer.optimizer.param_groups[0]["lr"]
    fit(other, max_epochs=4)
    assert trainer.optimizer.param_groups[0]["lr"] == rate
    trained = everything(other)
    fit(trainer, max_epochs=4)
    assert everything(trainer) == trained


class Copies(Callback):
    """Copies its trainer within a fit, where bars and clocks are at work."""

    def __init__(self, way):
        self.way, self.trainer, self.made = way, None, None

    def on_step_end(self, run):
        if run.step == 6 and self.way:
            self.made = self.way(self.trainer)

    def __getstate__(self):
        return {**vars(self), "way": None, "trainer": None}


@way
def test_a_copy_made_in_the_middle_of_an_epoch(way):
    copies = Copies(way)
    trainer = make([copies, Profile(steps=9, skip=0), ProgressBar(io.StringIO())], max_norm=1.0)
    copies.trainer = trainer
    fit(trainer)
    expected = everything(trainer)
    second = copies.made
    assert second.step == 6
    fit(second)
    assert everything(second) == expected
    assert everything(trainer) == expected


@way
def test_callbacks_alone(tmp_path, way):
    stopping = EarlyStopping("val_accuracy", patience=4)
    fit(make([stopping]))
    for callback in (stopping, Checkpoint(tmp_path, monitor="val_loss"), CSVLogger(tmp_path / "h"),
                     ProgressBar(), Profile(), TerminateOnNaN(), LRFinder()):  # fmt: skip
        other = way(callback)
        assert type(other) is type(callback)
        assert repr(other) == repr(callback)
    assert way(stopping).best == stopping.best


@way
def test_a_copied_callback_belongs_to_no_training(way):
    """It was in a fit with the original trainer; in another trainer it starts afresh."""
    stopping = EarlyStopping("val_loss", patience=9)
    fit(make([stopping]))
    other = way(stopping)
    other.best = -1.0
    trainer = make([other])
    history = fit(trainer)
    assert other.best == min(history["val_loss"])


@way
def test_a_history(way):
    history = History({"loss": [0.5, 0.25]})
    other = way(history)
    assert type(other) is History
    other.append({"loss": 0.1})
    assert (history.epochs, other.epochs) == (2, 3)


def test_what_is_printed():
    trainer = make([EarlyStopping(patience=3), Checkpoint("runs/x")], progress=True)
    shown = repr(trainer)
    assert shown.startswith("Trainer(Sequential, CrossEntropyLoss, AdamW, metrics=['accuracy'], ")
    assert "EarlyStopping(monitor='val_loss', patience=3, min_delta=0.0, mode='auto'" in shown
    assert "ProgressBar(" in shown
    assert shown.endswith("epoch=0, step=0)")
    assert "object at 0x" not in shown
    assert repr(trainer.run) == shown.replace("Trainer(", "Run(", 1)
    assert repr(History()) == "History(0 epochs)"
    history = History({"loss": [0.5, 0.25], "lr": [0.1, 0.1]})
    assert repr(history) == "History(2 epochs, last loss=0.25, lr=0.1)"

    class Mine(Callback):
        def __init__(self, depth, hidden=3):
            self.depth = depth

    assert repr(Mine(2)) == "Mine(depth=2)"


def test_a_copy_predicts_the_same():
    trainer = make()
    fit(trainer)
    np.testing.assert_array_equal(copy.deepcopy(trainer).predict(X), trainer.predict(X))
    assert pickle.loads(pickle.dumps(trainer)).evaluate(X, Y) == trainer.evaluate(X, Y)


@way
def test_trainer_of_a_loss_with_weights(way):
    model = nn.Sequential(nn.Linear(4, 2))
    loss = nn.CrossEntropyLoss(weight=np.float32([1, 2]))
    trainer = Trainer(model, loss, optim.SGD(model.parameters(), lr=0.1), progress=False)
    other = way(trainer)
    fit(trainer)
    fit(other)
    assert everything(other) == everything(trainer)
