"""Loss and metrics of an epoch are those of all its samples; accumulated batches are one batch."""

import math

import numpy as np
import pytest
from onepass import nn, optim
from onepass.train import Callback, Checkpoint, Trainer
from small_training import KilledError

N = 23
GENERATOR = np.random.default_rng(5)
X = GENERATOR.standard_normal((N, 4)).astype(np.float32)
LABELS = GENERATOR.integers(0, 3, N)
IGNORED = np.where(np.arange(N) % 3 == 0, -100, LABELS)
WEIGHT = [0.5, 2.0, 7.0]


def trainer_of(loss=None, outputs=3, lr=0.5, dtype="float32", **options):
    nn.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(4, 5, dtype=dtype), nn.Tanh(), nn.Linear(5, outputs, dtype=dtype)
    )
    optimizer = optim.SGD(model.parameters(), lr=lr)
    loss = loss or nn.CrossEntropyLoss()
    return Trainer(model, loss, optimizer, progress=False, **options)


def reference(z, t, weight=None, ignored=-100, sample_weight=None):
    """Σ w l / Σ w over the labels that count, in float64."""
    z = np.asarray(z, np.float64)
    logs = z - z.max(1, keepdims=True)
    logs = logs - np.log(np.exp(logs).sum(1, keepdims=True))
    total = count = 0.0
    for i, label in enumerate(t):
        if label != ignored:
            w = 1.0 if weight is None else weight[label]
            s = 1.0 if sample_weight is None else float(sample_weight[i])
            total -= s * w * logs[i, label]
            count += s * w
    return total / count


@pytest.mark.parametrize("batch_size", [1, 2, 5, 12, 23, 50])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_evaluate_gives_the_same_loss_for_any_batch_size_with_ignored_labels(batch_size, weight):
    trainer = trainer_of(nn.CrossEntropyLoss(weight), metrics=["acc"])
    found = trainer.evaluate(X, IGNORED, batch_size=batch_size)
    z = trainer.predict(X)
    assert found["loss"] == pytest.approx(reference(z, IGNORED, weight), rel=1e-6)
    counts = IGNORED != -100
    assert found["accuracy"] == np.mean(z.argmax(1)[counts] == IGNORED[counts])


@pytest.mark.parametrize("ignored", [0, 255, -1])
def test_evaluate_leaves_out_the_losses_own_ignore_index(ignored):
    labels = np.where(np.arange(N) < 9, ignored, 1 + LABELS % 2)
    trainer = trainer_of(nn.CrossEntropyLoss(ignore_index=ignored), metrics=["accuracy", "f1"])
    z = trainer.predict(X)
    rows = [trainer.evaluate(X, labels, batch_size=size) for size in (2, 5, 23)]
    for row in rows:
        assert row["loss"] == pytest.approx(reference(z, labels, ignored=ignored), rel=1e-6)
        assert row["accuracy"] == np.mean(z.argmax(1)[9:] == labels[9:])


@pytest.mark.parametrize("batch_size", [1, 4, 23])
def test_pixels_that_are_ignored_do_not_count(batch_size):
    nn.manual_seed(0)
    z = GENERATOR.standard_normal((N, 3, 2, 2)).astype(np.float32)
    t = GENERATOR.integers(0, 3, (N, 2, 2))
    t[:11] = np.where(GENERATOR.random((11, 2, 2)) < 0.8, -100, t[:11])
    t[3] = -100

    class Scale(nn.Module):
        def __init__(self):
            self.scale = nn.Parameter(np.ones(1, np.float32))

        def forward(self, x):
            return x

        def backward(self, dy):
            return dy

    model = Scale()
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters()),
                      metrics=["accuracy"], progress=False)  # fmt: skip
    found = trainer.evaluate(z, t, batch_size=batch_size)
    flat, labels = np.moveaxis(z, 1, -1).reshape(-1, 3), t.reshape(-1)
    assert found["loss"] == pytest.approx(reference(flat, labels), rel=1e-6)
    counts = labels != -100
    assert found["accuracy"] == np.mean(flat.argmax(1)[counts] == labels[counts])


def test_losses_of_training_weigh_samples_too():
    """With a rate of 0 every batch sees the same model."""
    trainer = trainer_of(nn.CrossEntropyLoss(WEIGHT), lr=0.0, metrics=["accuracy"])
    expected = reference(trainer.predict(X), IGNORED, WEIGHT)
    history = trainer.fit(X, IGNORED, max_epochs=1, batch_size=4, validation_data=(X, IGNORED))
    assert history["loss"][0] == pytest.approx(expected, rel=1e-6)
    assert history["val_loss"][0] == pytest.approx(expected, rel=1e-6)
    assert history["accuracy"] == history["val_accuracy"]


def test_sums_add_up():
    trainer = trainer_of(nn.CrossEntropyLoss(reduction="sum"))
    expected = reference(trainer.predict(X), IGNORED) * np.sum(IGNORED != -100)
    for batch_size in (1, 4, 23):
        found = trainer.evaluate(X, IGNORED, batch_size=batch_size)
        assert found["loss"] == pytest.approx(expected, rel=1e-6)


def test_a_loss_of_ones_own_counts_samples():
    def half_square(y, target):
        return float(np.mean((y - target) ** 2) / 2), (y - target) / y.size

    trainer = trainer_of(half_square, outputs=1)
    y = X[:, :1] * 3
    expected = np.mean((trainer.predict(X).astype(np.float64) - y) ** 2) / 2
    for batch_size in (1, 5, 23):
        found = trainer.evaluate(X, y, batch_size=batch_size)
        assert found["loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("nonfinite", ["raise", "skip", "propagate"])
def test_a_batch_without_labels_is_no_nan_and_moves_nothing(nonfinite):
    trainer = trainer_of(nonfinite=nonfinite, metrics=["accuracy"], max_norm=1.0)
    labels = np.where(np.arange(N) < 8, -100, LABELS)
    before = trainer.predict(X)
    history = trainer.fit(X[:8], labels[:8], max_epochs=1, batch_size=4)
    assert math.isnan(history["loss"][0])  # nothing at all counts
    np.testing.assert_array_equal(trainer.predict(X), before)
    trainer = trainer_of(nonfinite=nonfinite, lr=0.0)
    history = trainer.fit(X, labels, max_epochs=1, batch_size=4, shuffle=False)
    assert history["loss"][0] == pytest.approx(reference(before, labels), rel=1e-6)
    assert trainer.skipped_steps == 0


# Accumulated batches.


def stepped(labels, batch_size, accumulate, loss, **options):
    trainer = trainer_of(loss, dtype="float64", accumulate=accumulate, **options)
    fits = {"max_epochs": 2, "shuffle": False, "batch_size": batch_size}
    history = trainer.fit(X.astype(np.float64), labels, **fits)
    return trainer, history


@pytest.mark.parametrize(("size", "many"), [(4, 6), (4, 100), (7, 4), (1, 23), (22, 2)])
@pytest.mark.parametrize("last_batch", ["balance", "keep"])
@pytest.mark.parametrize("labels", [LABELS, IGNORED], ids=["all", "ignored"])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("max_norm", [None, 0.05])
def test_accumulated_batches_are_one_large_batch(size, many, last_batch, labels, weight, max_norm):
    loss = nn.CrossEntropyLoss(weight)
    options = {"max_norm": max_norm, "last_batch": last_batch, "metrics": ["accuracy"]}
    one, expected = stepped(labels, N, 1, loss, **options)
    other, found = stepped(labels, size, many, loss, **options)
    assert one.step == other.step == 2
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        np.testing.assert_allclose(b.data, a.data, rtol=1e-12, atol=1e-14)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-12)


def test_six_samples_in_batches_of_four():
    """A step is that of one batch of six, by the formula in float64."""
    x, t = X[:6].astype(np.float64), np.float64([[1], [2], [3], [5], [8], [13]])
    for last_batch in ("keep", "balance"):
        nn.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 1, dtype="float64"))
        before = model[0].weight.data.copy()
        residual = x @ before.T + model[0].bias.data - t
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        trainer = Trainer(model, nn.MSELoss(), optimizer, accumulate=2, last_batch=last_batch,
                          progress=False)  # fmt: skip
        trainer.fit(x, t, max_epochs=1, batch_size=4)
        expected = before - 0.1 * 2 / 6 * residual.T @ x
        np.testing.assert_allclose(model[0].weight.data, expected, rtol=1e-13)


def test_accumulated_sums_are_one_large_sum():
    loss = nn.CrossEntropyLoss(reduction="sum")
    one, expected = stepped(IGNORED, N, 1, loss, lr=0.01)
    other, found = stepped(IGNORED, 4, 10, loss, lr=0.01)
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        np.testing.assert_allclose(b.data, a.data, rtol=1e-12, atol=1e-14)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-12)


def test_one_nan_skips_the_accumulated_step_as_it_does_the_large_one():
    x = X.copy()
    x[6] = np.nan
    runs = []
    for size, many in ((12, 1), (3, 4)):
        trainer = trainer_of(nonfinite="skip", accumulate=many, metrics=["accuracy"],
                             last_batch="keep")  # fmt: skip
        history = trainer.fit(x, IGNORED, max_epochs=2, batch_size=size, shuffle=False)
        runs.append((trainer, history))
    (one, expected), (other, found) = runs
    assert one.skipped_steps == other.skipped_steps == 2
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert found["accuracy"] == expected["accuracy"]
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        np.testing.assert_allclose(b.data, a.data, rtol=1e-5, atol=1e-6)


# A resume inside an epoch.


class Kill(Callback):
    def on_step_end(self, run):
        if run.step == 3:
            raise KilledError


@pytest.mark.parametrize("last_batch", ["balance", "keep", "drop"])
def test_metrics_of_an_epoch_survive_a_resume_inside_it(tmp_path, last_batch):
    def made(*callbacks):
        return trainer_of(metrics=["accuracy", "auc", "f1"], callbacks=callbacks,
                          last_batch=last_batch)  # fmt: skip

    options = {"max_epochs": 2, "batch_size": 5}
    expected = made().fit(X, IGNORED, **options)
    with pytest.raises(KilledError):
        made(Checkpoint(tmp_path, every_n_steps=1), Kill()).fit(X, IGNORED, **options)
    found = made().fit(X, IGNORED, ckpt_path=tmp_path, **options)
    assert dict(found) == dict(expected)


@pytest.mark.parametrize("ignored", [255, -100, -1, 2])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    "class_weight", [[1.0, 3.0], {0: 1.0, 1: 3.0}, {1: 3.0}, "balanced"], ids=str
)
def test_an_ignored_label_is_no_class_that_needs_a_weight(ignored, reduction, class_weight):
    """Whatever its number, it is as if its samples were not there."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((24, 4)).astype("f4"), rng.integers(0, 2, 24)
    y[::3] = ignored

    def losses(*data):
        loss = nn.CrossEntropyLoss(ignore_index=ignored, reduction=reduction)
        trainer = trainer_of(loss, outputs=3, lr=0.01)
        return trainer.fit(
            *data, max_epochs=2, batch_size=24, shuffle=False, class_weight=class_weight
        )["loss"]

    used = y != ignored
    np.testing.assert_allclose(losses(x, y), losses(x[used], y[used]), rtol=1e-5)
