"""Training on numbers that are not finite: raised, skipped or stopped at, and what then stays."""

import numpy as np
import pytest
from onepass import nn, optim
from onepass.data import DataLoader
from onepass.optim import lr_scheduler
from onepass.train import Callback, TerminateOnNaN, Trainer
from small_training import BATCH, X, Y


def poisoned(trainer):
    bad = X.copy()
    bad[DataLoader(X, Y, BATCH, True).order(0)[BATCH]] = np.nan  # the second batch of epoch 0
    return lambda **options: trainer.fit(bad, Y, max_epochs=2, batch_size=BATCH, **options)


def linear(**options):
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 2))
    optimizer = optim.AdamW(model.parameters(), lr=0.02)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.9, interval="step")
    options = {"progress": False, "scheduler": scheduler, **options}
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, **options)


def test_nonfinite_raises():
    trainer = linear()
    with pytest.raises(FloatingPointError, match="epoch 1, batch 2"):
        poisoned(trainer)()
    assert trainer.step == 1
    assert all(np.isfinite(p.data).all() for p in trainer.model.parameters())


def test_nonfinite_skips_the_step_and_the_schedule():
    trainer = linear(nonfinite="skip")
    history = poisoned(trainer)()
    assert trainer.skipped_steps == 2
    assert trainer.step == 8
    assert trainer.scheduler.last_epoch == 6
    assert np.isfinite(history["loss"]).all()
    assert all(np.isfinite(p.data).all() for p in trainer.model.parameters())


def test_terminate_on_nan():
    trainer = linear(nonfinite="propagate", callbacks=[TerminateOnNaN()])
    poisoned(trainer)()
    assert trainer.step == 2
    assert trainer.stop


def normalised(**options):
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, momentum=None), nn.ReLU())
    optimizer = optim.AdamW(model.parameters(), lr=0.02)
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False, **options)


def buffers(trainer):
    norm = trainer.model[1]
    return [np.copy(getattr(norm, name)) for name in norm.buffer_names]


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("nonfinite", ["skip", "raise"])
def test_running_statistics_forget_a_step_not_taken(nonfinite, accumulate):
    seen = []

    class Watch(Callback):
        def on_epoch_begin(self, trainer):
            seen.append(buffers(trainer))

        def on_step_end(self, trainer):
            seen.append(buffers(trainer))

    trainer = normalised(nonfinite=nonfinite, accumulate=accumulate, callbacks=[Watch()])
    if nonfinite == "raise":
        with pytest.raises(FloatingPointError, match="epoch 1, batch 2"):
            poisoned(trainer)()
        seen.append(buffers(trainer))
    else:
        poisoned(trainer)()
        assert trainer.skipped_steps == 2
    bad = 2 if accumulate == 1 else 1  # where the second batch's step is in the list
    for before, after in zip(seen[bad - 1], seen[bad], strict=True):
        np.testing.assert_array_equal(before, after)
    assert all(np.isfinite(array).all() for array in buffers(trainer))
    assert nonfinite == "raise" or buffers(trainer)[2] > 0


def test_running_statistics_forget_a_gradient_that_is_not_finite():
    """The loss is finite: it is the optimizer that refuses."""

    class Steep(nn.CrossEntropyLoss):
        def __call__(self, y, target):
            loss, dy = super().__call__(y, target)
            return loss, dy * np.float32(np.inf)

    trainer = normalised()
    trainer.loss = Steep()
    before = buffers(trainer)
    with np.errstate(invalid="ignore"), pytest.raises(FloatingPointError, match="gradient"):
        trainer.fit(X, Y, max_epochs=1, batch_size=BATCH)
    for now, then in zip(buffers(trainer), before, strict=True):
        np.testing.assert_array_equal(now, then)
