"""A resume of a run that was made otherwise: a warning between two epochs, or one clear error."""

import functools

import numpy as np
import pytest
from onepass import nn, optim
from onepass.optim import lr_scheduler
from onepass.train import Checkpoint, Trainer
from small_training import (
    BATCH,
    STEPS,
    VALIDATION,
    KilledError,
    StopAt,
    X,
    Y,
    everything,
    fit,
    make,
    network,
)  # fmt: skip


def saved_in_an_epoch(folder):
    with pytest.raises(KilledError):
        fit(make([StopAt(step=3), Checkpoint(folder, every_n_steps=1)]))


def trainer_with(loss=None, interval="step"):
    model = network()
    optimizer = optim.AdamW(model.parameters(), lr=0.02)
    schedule = lr_scheduler.CosineAnnealingLR(optimizer, STEPS, interval=interval)
    return Trainer(model, loss or nn.CrossEntropyLoss(), optimizer, scheduler=schedule,
                   metrics=["accuracy"], progress=False)  # fmt: skip


RESUMES = {
    "ckpt_path": lambda trainer, folder: fit(trainer, ckpt_path=folder),
    "load": lambda trainer, folder: Trainer.load(
        folder, trainer.model, trainer.loss, trainer.optimizer, scheduler=trainer.scheduler,
        progress=False,
    ),
}  # fmt: skip


def own_loss(y, target, scale=1.0):
    value, dy = nn.CrossEntropyLoss()(y, target)
    return value * scale, dy * np.float32(scale)


OTHER_LOSSES = {
    "class": nn.MSELoss(),
    "reduction": nn.CrossEntropyLoss(reduction="sum"),
    "smoothing": nn.CrossEntropyLoss(label_smoothing=0.1),
    "ignored label": nn.CrossEntropyLoss(ignore_index=1),
    "weights of classes": nn.CrossEntropyLoss([1.0, 2.0]),
    "function": own_loss,
    "partial": functools.partial(own_loss, scale=2.0),
}


@pytest.mark.parametrize("inside", [False, True], ids=["between epochs", "inside an epoch"])
@pytest.mark.parametrize("way", ["load", "ckpt_path"])
@pytest.mark.parametrize("kind", OTHER_LOSSES)
def test_a_resume_with_another_loss_is_refused(tmp_path, kind, way, inside):
    if inside:
        saved_in_an_epoch(tmp_path)
    else:
        fit(make([Checkpoint(tmp_path)]), max_epochs=1)
    trainer = trainer_with(OTHER_LOSSES[kind])
    before = everything(trainer)
    with pytest.raises(ValueError, match=r"'loss' is .*, expected CrossEntropyLoss\(weight=None"):
        RESUMES[way](trainer, tmp_path)
    assert everything(trainer) == before


@pytest.mark.parametrize("loss", [own_loss, functools.partial(own_loss, scale=2.0),
                                  nn.CrossEntropyLoss(np.float32([1, 2]))],
                         ids=["function", "partial", "weights"])  # fmt: skip
def test_a_resume_with_the_same_loss_goes_on(tmp_path, loss):
    whole = trainer_with(loss)
    fit(whole)
    want = everything(whole)
    cut = trainer_with(loss)
    cut.callbacks = [Checkpoint(tmp_path)]
    fit(cut, max_epochs=1)
    again = trainer_with(loss)
    fit(again, ckpt_path=tmp_path)
    assert everything(again) == want


@pytest.mark.parametrize("way", ["load", "ckpt_path"])
def test_a_resume_whose_schedule_counts_something_else_is_refused(tmp_path, way):
    fit(make([Checkpoint(tmp_path)]), max_epochs=1)
    trainer = trainer_with(interval="epoch")
    before = everything(trainer)
    with pytest.raises(ValueError, match="'interval' is epoch, expected step"):
        RESUMES[way](trainer, tmp_path)
    assert everything(trainer) == before


OTHERS = {
    "batch_size": ({}, {"batch_size": 10}),
    "last_batch": ({"last_batch": "keep"}, {}),
    "shuffle": ({}, {"shuffle": False}),
    "accumulate": ({"accumulate": 2}, {}),
    "max_norm": ({"max_norm": 1.0}, {}),
    "nonfinite": ({"nonfinite": "skip"}, {}),
    "other validation data": ({}, {"validation_data": (VALIDATION[0] + 1, VALIDATION[1])}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_resume_made_otherwise_is_told_between_epochs_and_refused_inside_one(tmp_path, name):
    build, options = OTHERS[name]
    fit(make([Checkpoint(tmp_path / "between")]), max_epochs=1)
    with pytest.warns(RuntimeWarning, match=f"the saved run had {name}.* will differ"):
        fit(make(**build), ckpt_path=tmp_path / "between", **options)
    saved_in_an_epoch(tmp_path / "inside")
    trainer = make(**build)
    before = everything(trainer)
    words = "the same validation data" if name.startswith("other") else f"'{name}' is .* inside an"
    with pytest.raises(ValueError, match=words):
        fit(trainer, ckpt_path=tmp_path / "inside", **options)
    assert everything(trainer) == before


def test_all_differences_are_told_at_once(tmp_path):
    fit(make([Checkpoint(tmp_path)]), max_epochs=1)
    with pytest.warns(RuntimeWarning) as told:
        fit(make(max_norm=1.0), ckpt_path=tmp_path, batch_size=10)
    (message,) = {str(w.message) for w in told}
    assert "had batch_size=8 and goes on with 10" in message
    assert "had max_norm=None and goes on with 1.0" in message


def test_a_resume_of_the_same_run_says_nothing(tmp_path):
    """Warnings are errors here."""
    whole = make()
    fit(whole)
    want = everything(whole)
    saved_in_an_epoch(tmp_path)
    again = make()
    fit(again, ckpt_path=tmp_path)
    assert everything(again) == want
    assert (BATCH, len(X), len(Y)) == (8, 30, 30)


def test_another_loss_inside_an_epoch_of_the_same_trainer_is_refused():
    trainer = make([StopAt(step=2)])
    with pytest.raises(KilledError):
        fit(trainer)
    trainer.loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    with pytest.raises(ValueError, match=r"'loss' is .*inside an epoch"):
        fit(trainer)


def test_a_resume_with_other_weights_of_classes_is_refused(tmp_path):
    saved = trainer_with(nn.CrossEntropyLoss([1.0, 2.0]))
    saved.callbacks = [Checkpoint(tmp_path)]
    fit(saved, max_epochs=1)
    with pytest.raises(ValueError, match=r"'loss' is CrossEntropyLoss.*expected CrossEntropyLoss"):
        fit(trainer_with(nn.CrossEntropyLoss([2.0, 1.0])), ckpt_path=tmp_path)


@pytest.mark.parametrize("scheduled", [False, True])
def test_options_of_the_optimizer_that_the_checkpoint_replaces_are_told(tmp_path, scheduled):
    fit(make([Checkpoint(tmp_path)], scheduled=scheduled), max_epochs=2)
    same = make([Checkpoint(tmp_path)], scheduled=scheduled)
    fit(same, ckpt_path=tmp_path)  # warns of nothing: a warning is an error in these tests
    other = make([Checkpoint(tmp_path / "other")], scheduled=scheduled, lr=0.5)
    other.optimizer.param_groups[0].update(weight_decay=0.3, eps=1e-5)
    words = r"lr=0\.02, not 0\.5, eps=1e-08, not 1e-05, weight_decay=0\.01, not 0\.3; to change"
    with pytest.warns(RuntimeWarning, match=words):
        fit(other, ckpt_path=tmp_path, max_epochs=4)
    assert other.optimizer.param_groups[0]["weight_decay"] == 0.01


def test_what_a_schedule_keeps_beside_a_rate_of_zero_is_no_option(tmp_path):
    def made(*callbacks):
        trainer = make(callbacks, scheduled=False)
        trainer.run.scheduler = lr_scheduler.LambdaLR(trainer.optimizer, lambda t: t % 3 / 2)
        return trainer

    first = made(Checkpoint(tmp_path))
    fit(first, max_epochs=3)
    fit(first, max_epochs=5)
    fit(made(), ckpt_path=tmp_path, max_epochs=6)  # a warning is an error in these tests


def test_a_loss_that_is_no_number_is_refused():
    def each(y, target):
        return np.ones(len(y), np.float32), np.zeros_like(y)

    model = network()
    trainer = Trainer(model, each, optim.SGD(model.parameters()), progress=False)
    with pytest.raises(
        TypeError, match=r"'loss' returned a loss of shape \(8,\), expected one num"
    ):
        trainer.fit(X, Y, max_epochs=1, batch_size=8)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_gradient_of_another_dtype_is_the_losss(weighted):
    def far(y, target, sample_weight=None):
        return np.float32(1), np.ones(y.shape)

    model = network()
    trainer = Trainer(model, far, optim.SGD(model.parameters()), progress=False)
    weights = {"sample_weight": np.ones(len(X))} if weighted else {}
    with pytest.raises(
        TypeError, match=r"^Trainer: 'loss' returned a gradient of float64, expected float32, the"
    ):
        trainer.fit(X, Y, max_epochs=1, batch_size=8, **weights)
