"""Errors that come early: wrong arguments of the trainer, its callbacks and fit, wrong data."""

import math

import numpy as np
import pytest
from onepass import nn, optim
from onepass.data import DataLoader, train_test_split
from onepass.optim import lr_scheduler
from onepass.train import Callback, Checkpoint, EarlyStopping, Trainer
from small_training import X, Y, fit, make, network


def early(words, kind=ValueError, **options):
    build = {k: options.pop(k) for k in list(options) if k in BUILD}
    return pytest.param(build, options, kind, words, id=words)


BUILD = ("callbacks", "metrics", "max_norm", "nonfinite", "accumulate", "optimiser",
         "metric", "last_batch")  # fmt: skip


@pytest.mark.parametrize(("build", "options", "kind", "words"), [
    early("did you mean 'batch_size'", TypeError, batchsize=8),
    early("did you mean 'max_epochs'", TypeError, max_epoch=8),
    early("did you mean 'metrics'", TypeError, metric=["accuracy"]),
    early("unknown keyword 'optimiser'", TypeError, optimiser=1),
    early("did you mean 'accuracy'", metrics=["acuracy"]),
    early("'metrics' has 3", TypeError, metrics=[3]),
    early("'metrics' is 3", TypeError, metrics=3),
    early("'callbacks' is 3", TypeError, callbacks=3),
    early("'validation_split' is 1.0", validation_data=None, validation_split=1.0),
    early("'validation_split' is -0.1", validation_data=None, validation_split=-0.1),
    early("'validation_split' is nan", validation_data=None, validation_split=math.nan),
    early("is 0.01, expected a share", validation_data=None, validation_split=0.01),
    early("'validation_split' is 'a'", TypeError, validation_data=None, validation_split="a"),
    early("validation_data: 'y' is None", TypeError, validation_data=(X, None)),
    early("not taken", metrics=["mse", "mse"]),
    early("'monitor' is 'val_los'.*did you mean 'val_loss'", callbacks=[EarlyStopping("val_los")]),
    early("val_… needs validation_data", callbacks=[EarlyStopping()], validation_data=None),
    early("'monitor' is 'f1'", callbacks=[Checkpoint("x", every_n_epochs=1, monitor="f1")]),
    early("expected last_batch='balance' or 'drop'", last_batch="keep", batch_size=29),
    early("a batch_size above 4", batch_size=1),
    early("'last_batch' is 'even'", last_batch="even"),
    early("unknown keyword 'drop_last'", TypeError, drop_last=True),
    early("'max_epochs' is 0", max_epochs=0),
    early("'batch_size' is 0", batch_size=0),
    early("expected 0 with validation_data", validation_split=0.5),
    early("a pair", TypeError, validation_data=X),
    early("'max_norm' is 0", max_norm=0),
    early("'nonfinite' is 'ignore'", nonfinite="ignore"),
    early("'accumulate' is 0", accumulate=0),
])  # fmt: skip
def test_early_errors(build, options, kind, words):
    with pytest.raises(kind, match=words):
        fit(make(**build), **options)


@pytest.mark.parametrize("last_batch", ["balance", "drop"])
def test_balanced_or_dropped_batches_are_the_cure(last_batch):
    fit(make(last_batch=last_batch), batch_size=29)


def test_wrong_parts():
    model = network()
    optimizer = optim.AdamW(model.parameters())
    loss = nn.CrossEntropyLoss()
    with pytest.raises(TypeError, match=r"nn\.Module"):
        Trainer(lambda x: x, loss, optimizer)
    with pytest.raises(TypeError, match=r"nn\.CrossEntropyLoss\(\)"):
        Trainer(model, nn.CrossEntropyLoss, optimizer)
    with pytest.raises(TypeError, match="'optimizer' is the class AdamW"):
        Trainer(model, loss, optim.AdamW)
    other = optim.AdamW([*model.parameters(), *network().parameters()])
    with pytest.raises(ValueError, match=r"parameter 6, .*optim\.AdamW\(model\.parameters\(\)\)"):
        Trainer(model, loss, other)
    Trainer(model, loss, optim.SGD(model[4].parameters()))  # some of them are legal
    with pytest.raises(ValueError, match=r"CrossEntropyLoss\(reduction='mean'\)"):
        Trainer(model, nn.CrossEntropyLoss(reduction="none"), optimizer)
    with pytest.raises(TypeError, match="did you mean 'patience'"):
        EarlyStopping(patient=3)
    with pytest.raises(TypeError, match="did you mean 'every_n_steps'"):
        Checkpoint("x", every_n_step=3)


@pytest.mark.parametrize(("options", "words"), [
    ({"every_n_steps": 1, "every_n_epochs": 1}, "None with every"), ({"every_n_steps": 0}, "is 0"),
    ({"keep": 0}, "'keep' is 0"), ({"every_n_steps": 2, "monitor": "loss"}, "every_n_epochs"),
    ({"mode": "best"}, "'mode' is 'best'"),
])  # fmt: skip
def test_wrong_checkpoints(options, words):
    with pytest.raises(ValueError, match=words):
        Checkpoint("x", **options)


def test_intervals_are_whole_numbers():
    with pytest.raises(TypeError, match=r"'every_n_steps' is 1\.5"):
        Checkpoint("x", every_n_steps=1.5)
    with pytest.raises(TypeError, match=r"'patience' is 0\.5"):
        EarlyStopping(patience=0.5)
    for worst in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="min_delta"):
            EarlyStopping(min_delta=worst)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"callbacks": [3]}, TypeError, r"'callbacks\[0\]' is 3"),
        ({"scheduler": 3}, TypeError, "'scheduler' is 3"),
        ({"accumulate": 1.5}, TypeError, "'accumulate' is 1.5"),
        ({"seed": -1}, ValueError, "'seed' is -1"),
        ({"seed": 2**64}, ValueError, "'seed' is 18446744073709551616"),
        ({"device": "tpu"}, ValueError, "'device' is 'tpu'"),
    ],
)
def test_helpers_are_looked_at_first(options, error, words):
    model = nn.Sequential(nn.Linear(3, 2))
    optimizer = optim.SGD(model.parameters())
    with pytest.raises(error, match=words):
        Trainer(model, nn.CrossEntropyLoss(), optimizer, **options)


def test_callbacks_from_a_generator():
    trainer = make(callback for callback in [EarlyStopping()])
    assert [type(callback) for callback in trainer.callbacks] == [EarlyStopping]


def test_data_that_are_not_there():
    trainer = make()
    with pytest.raises(ValueError, match=r"predict: 'X' has shape \(0, 4\), expected"):
        trainer.predict(X[:0])
    with pytest.raises(ValueError, match=r"evaluate: .*at least one sample"):
        trainer.evaluate(X[:0], Y[:0])
    with pytest.raises(TypeError, match="evaluate: 'y' is None"):
        trainer.evaluate(X, None)
    with pytest.raises(ValueError, match="DataLoader without y"):
        trainer.fit(DataLoader(X), max_epochs=1)


def test_validation_data_of_another_width_is_refused_before_training():
    model = nn.Sequential(nn.Linear(3, 2))
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters()), progress=False)
    X, y = np.ones((8, 3), np.float32), np.zeros(8, np.int64)
    before = model.state_dict()
    with pytest.raises(ValueError, match="validation_data"):
        trainer.fit(X, y, max_epochs=1, validation_data=(X[:, :2], y))
    with pytest.raises(TypeError, match=r"'max_epochs' is 1\.5"):
        trainer.fit(X, y, max_epochs=1.5)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


CALLS = {
    "load by the trainer": (lambda t, d: t.load(3), "'model', 'loss', 'optimizer' are missing"),
    "load without a folder": (lambda t, d: t.load(target=1), "'dir', 'model', 'loss', 'optimizer'"),
    "load of a number": (lambda t, d: t.load(1, t.model, t.loss, t.optimizer), "load: 'dir' is 1"),
    "an option that is none": (
        lambda t, d: t.load(d, t.model, t.loss, t.optimizer, target=1), "unknown keyword 'target'"),
    "weights for nothing": (
        lambda t, d: t.load_weights(d), r"expected Trainer\.load_weights\(dir, model, …\)"),
    "weights for a number": (lambda t, d: t.load_weights(d, 4), "load_weights: 'model' is a int"),
    "weights for a class": (lambda t, d: t.load_weights(d, nn.Linear), "is the class Linear"),
    "weights from a number": (
        lambda t, d: t.load_weights(3, t.model), "load_weights: 'dir' is 3, expected a path"),
    "no epochs": (lambda t, d: t.fit(X, Y), r"'max_epochs' is missing, expected Trainer\.fit\(X, "),
    "epochs by position": (
        lambda t, d: t.fit(X, Y, 3), "3 comes after the last argument by position, 'y'"),
    "no data": (lambda t, d: t.evaluate(), "Trainer.evaluate: 'X' is missing"),
    "save nowhere": (lambda t, d: t.save(), "Trainer.save: 'dir' is missing"),
    "a trainer of nothing": (lambda t, d: Trainer(), "'model', 'loss', 'optimizer' are missing"),
    "a checkpoint of nothing": (lambda t, d: Checkpoint(), r"expected Checkpoint\(dir, …\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_call_of_the_wrong_form_shows_the_right_one(tmp_path, name):
    call, words = CALLS[name]
    trainer = make()
    trainer.save(tmp_path)
    with pytest.raises(TypeError, match=words):
        call(trainer, tmp_path)


@pytest.mark.parametrize("name", ["onEpochEnd", "On_Epoch_End", "onepoch_end", "onTrainBatchEnd"])
def test_a_hook_in_another_spelling_is_told(name):
    hook = "on_epoch_end" if "poch" in name else "on_step_end"
    kind = type("Own", (Callback,), {name: lambda self, run: None})
    with pytest.raises(TypeError, match=f"has the method {name!r}.*did you mean {hook!r}"):
        make([kind()])


@pytest.mark.parametrize(
    ("call", "nearest"),
    [
        (lambda: nn.Linear(3, 4, biass=False), "bias"),
        (lambda: nn.BatchNorm1d(3, momentun=0.1), "momentum"),
        (lambda: nn.Sequential(nn.ReLU(), fused=False), "fuse"),
        (lambda: nn.CrossEntropyLoss(ignore=3), "ignore_index"),
        (lambda: nn.MSELoss(reduce="sum"), "reduction"),
        (lambda: nn.gradcheck(nn.ReLU(), X, rtoll=1e-3), "rtol"),
        (lambda: DataLoader(X, Y, batchsize=3), "batch_size"),
        (lambda: train_test_split(X, Y, testsize=0.2), "test_size"),
        (lambda: lr_scheduler.StepLR(make().optimizer, step=3), "step_size"),
        (lambda: lr_scheduler.CosineAnnealingLR(make().optimizer, T_maxx=3), "T_max"),
    ],
)
def test_unknown_keywords_are_told_with_the_nearest_name(call, nearest):
    with pytest.raises(TypeError, match=f"unknown keyword '.*'; did you mean {nearest!r}"):
        call()
