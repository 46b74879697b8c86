"""The trainer: what the loop does, bit for bit; validation, metrics, history, dtypes of data."""

import sys

import numpy as np
import pytest
from onepass import nn, optim
from onepass.data import DataLoader
from onepass.optim import lr_scheduler
from onepass.train import Trainer
from small_training import (
    BATCH,
    EPOCHS,
    STEPS,
    VALIDATION,
    X,
    Y,
    everything,
    fit,
    make,
    network,
    uninterrupted,
)

# The loop.


def test_loop_is_the_plain_loop():
    """Against the same thing written out, bit for bit."""
    trainer = make(max_norm=0.5, seed=0)
    history = fit(trainer, shuffle=True)
    model = network()
    nn.manual_seed(0)
    optimizer = optim.AdamW(model.parameters(), lr=0.02)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    loss_function = nn.CrossEntropyLoss()
    losses = []
    for epoch in range(EPOCHS):
        total = 0.0
        for x, y in DataLoader(X, Y, BATCH, True, last_batch="balance").batches(epoch):
            loss, dy = loss_function(model(x), y)
            model.backward(dy)
            optimizer.step(max_norm=0.5, zero_grad=True)
            scheduler.step()
            total += float(loss) * len(y)
        losses.append(total / len(Y))
    assert history["loss"] == losses
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(trainer.model.state_dict()[name], value)
    assert trainer.step == STEPS
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy", "grad_norm", "lr"]
    assert all(len(values) == EPOCHS for values in history.values())


@pytest.mark.parametrize("max_norm", [None, 0.05])
def test_accumulation_is_the_mean_of_the_batches(max_norm):
    """Without batch statistics, four batches of 5 are one batch of 20; the rest is a step too."""

    def run(batch_size, accumulate):
        nn.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
        optimizer = optim.SGD(model.parameters(), lr=0.5)
        options = {"accumulate": accumulate, "max_norm": max_norm, "progress": False,
                   "last_batch": "keep"}  # fmt: skip
        trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, **options)
        trainer.fit(X, Y, max_epochs=2, batch_size=batch_size)
        return trainer

    few, many = run(20, 1), run(5, 4)
    assert few.step == many.step == 4
    for one, other in zip(few.model.parameters(), many.model.parameters(), strict=True):
        np.testing.assert_allclose(one.data, other.data, rtol=1e-4, atol=1e-6)


def test_evaluate_and_predict():
    trainer = make()
    fit(trainer)
    model = trainer.model
    before = everything(trainer)
    found = trainer.evaluate(X, Y, batch_size=7)
    outputs = trainer.predict(X, batch_size=7)
    assert everything(trainer) == before
    assert model.training
    model.eval()
    np.testing.assert_allclose(outputs, model(X), rtol=1e-5, atol=1e-6)
    assert found["loss"] == pytest.approx(float(nn.CrossEntropyLoss()(model(X), Y)[0]), rel=1e-5)
    assert found["accuracy"] == np.mean(outputs.argmax(axis=1) == Y)


def test_own_metrics_and_regression():
    def bias(output, target):
        return float((output - target).mean())

    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 1))
    targets = (X @ np.array([[1.0], [2], [0], [-1]], np.float32)) + 3
    optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    trainer = Trainer(model, nn.MSELoss(), optimizer, metrics=["mse", "mae", bias], progress=False)
    history = trainer.fit(X, targets, max_epochs=120, batch_size=10)
    assert history["loss"][-1] < 1e-3 < history["loss"][0]
    assert history["mse"] == pytest.approx(history["loss"], rel=1e-5)
    found = trainer.evaluate(X, targets)
    error = trainer.predict(X) - targets
    assert found["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-4)
    assert found["bias"] == pytest.approx(error.mean(), rel=1e-4, abs=1e-7)


def test_squared_error():
    y, target = np.array([[1.0], [4.0]], np.float32), np.array([[2.0], [1.0]], np.float32)
    loss, dy = nn.MSELoss()(y, target)
    assert loss == 5.0
    np.testing.assert_array_equal(dy, np.array([[-1.0], [3.0]], np.float32))
    assert dy.dtype == np.float32
    with pytest.raises(ValueError, match=r"\(2,\)"):
        nn.MSELoss()(y, target[:, 0])


def test_validation_split_holds_out():
    seen = []

    class Spy(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(4, 2)

        def forward(self, x):
            if self.training:
                seen.extend(x[:, 0].tolist())
            return self.inner(x)

        def backward(self, dy):
            return self.inner.backward(dy)

    model = Spy()
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
                      progress=False)  # fmt: skip
    history = trainer.fit(X, Y, max_epochs=2, batch_size=8, validation_split=0.2)
    assert len(set(seen)) == 24
    assert len(seen) == 48
    assert len(history["val_loss"]) == 2


def test_a_second_fit_goes_on():
    expected = uninterrupted()
    trainer = make()
    fit(trainer, max_epochs=1)
    fit(trainer)
    assert everything(trainer) == expected


def test_plateau_is_stepped_by_the_epoch():
    trainer = make(scheduled=False)
    trainer.scheduler = lr_scheduler.ReduceLROnPlateau(
        trainer.optimizer, patience=0, threshold=10, threshold_mode="abs"
    )
    history = fit(trainer, max_epochs=4)
    assert trainer.scheduler.last_epoch == 4
    assert history["lr"] == pytest.approx([0.02, 0.02, 0.002, 0.0002])


@pytest.mark.parametrize("validated", [True, False])
def test_a_plateau_is_of_the_validation_loss_where_there_is_one(validated):
    class Sees(lr_scheduler.ReduceLROnPlateau):
        seen = ()

        def step(self, metric=None):
            self.seen += (metric,)
            super().step(metric)

    trainer = make(scheduled=False)
    trainer.scheduler = Sees(trainer.optimizer)
    history = fit(trainer, **({} if validated else {"validation_data": None}))
    assert list(trainer.scheduler.seen) == history["val_loss" if validated else "loss"]


def test_loader_instead_of_arrays():
    expected = uninterrupted()
    trainer = make()
    loader = DataLoader(X, Y, BATCH, shuffle=True, seed=0, last_batch="balance")
    trainer.fit(loader, max_epochs=EPOCHS, validation_data=VALIDATION)
    assert everything(trainer) == expected
    assert loader.epoch == 0


def test_training_does_not_seed_what_is_made_later():
    nn.manual_seed(0)
    first = nn.Linear(3, 3).weight.data
    fit(make(), max_epochs=1)
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5))
    after = nn.get_rng_state()["init"]
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False).fit(X, Y, max_epochs=1)
    assert nn.get_rng_state()["init"] == after
    assert not np.array_equal(nn.Linear(3, 3).weight.data, first)


# The dtypes of data.


@pytest.mark.parametrize("dtype", ["float64", "float16", ">f4"])
def test_floating_data_is_brought_to_the_models_dtype(dtype):
    given, exact = X.astype(dtype), X.astype(dtype).astype(np.float32)
    runs = []
    for data in (given, exact):
        trainer = make()
        trainer.fit(data, Y, max_epochs=2, batch_size=BATCH, validation_data=(data[:9], Y[:9]))
        predicted = trainer.predict(data)
        assert predicted.dtype == np.float32
        runs.append((everything(trainer), trainer.evaluate(data, Y), predicted.tobytes()))
    assert runs[0] == runs[1]


def test_targets_of_a_regression_are_brought_to_the_models_dtype():
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 1))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    dtypes = []

    def loss(y, target):
        value, dy = nn.MSELoss()(y, target)
        dtypes.extend([target.dtype, dy.dtype])
        return value, dy

    trainer = Trainer(model, loss, optimizer, metrics=["mse"], progress=False)
    trainer.fit(X.astype(np.float64), X[:, :1].astype(np.float64), max_epochs=1)
    assert set(dtypes) == {np.dtype(np.float32)}


@pytest.mark.parametrize("dtype", [np.int64, bool])
def test_integers_are_not_samples(dtype):
    trainer = make()
    with pytest.raises(TypeError, match="convert"):
        trainer.fit(X.astype(dtype), Y, max_epochs=1, batch_size=BATCH)
    with pytest.raises(TypeError, match="convert"):
        trainer.predict(X.astype(dtype))


# The history's plot.


def test_plot(tmp_path):
    trainer = make()
    fit(trainer)
    pytest.importorskip("matplotlib")
    trainer.history.plot(tmp_path / "new" / "curves.png")
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_plot_without_matplotlib(monkeypatch, tmp_path):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    trainer = make()
    fit(trainer, max_epochs=1)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        trainer.history.plot(tmp_path / "curves.png")
