"""The sentence after a run, on real trainings that go wrong in a known way, and on healthy ones."""

import re

import numpy as np
import pytest
from onepass import nn, optim
from onepass.train import Callback, Diagnosis, Trainer, verdict
from test_lr_finder import blobs, momentum, net

HARD, LABELS = blobs(600)


def diagnosed(model, lr, x=HARD, y=LABELS, epochs=8, kind=optim.SGD, loss=None, split=0.25):
    diagnosis = Diagnosis()
    optimizer = kind(model.parameters(), lr=lr)
    t = Trainer(
        model, loss or nn.CrossEntropyLoss(), optimizer, callbacks=[diagnosis], progress=False
    )
    try:
        with np.errstate(all="ignore"):
            t.fit(x, y, max_epochs=epochs, validation_split=split)
    except FloatingPointError:
        pass
    return diagnosis.verdict


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "lr"), [(optim.SGD, 60), (momentum, 5), (optim.AdamW, 1.0)])
def test_a_rate_too_high_is_told(seed, kind, lr):
    assert diagnosed(net(seed, 64, 64, 10), lr, kind=kind).startswith("rate too high: the loss is")


def test_a_rate_so_high_that_the_loss_is_not_finite():
    said = diagnosed(net(0, 64, 64, 10), 1e4)
    assert said.startswith("rate too high: the loss is not finite in epoch 1")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
@pytest.mark.parametrize("sample", [0, 300, 599])
def test_a_value_that_is_not_finite_in_the_data_is_not_called_a_rate_too_high(sample, value):
    x = HARD.astype(np.float64)
    x[sample, 5] = value  # 1e39 is infinite in the float32 of the model
    said = diagnosed(net(0, 64, 64, 10), 0.05, x, split=0.0)
    assert said.startswith("data not finite: the loss is not finite in epoch 1, as a value of the")


def test_the_same_in_a_later_epoch():
    class Spoil(Callback):
        def on_epoch_begin(self, run):
            if run.epoch == 2:
                x[7] = np.nan

    x = HARD.copy()
    diagnosis, model = Diagnosis(), net(0, 64, 64, 10)
    t = Trainer(
        model,
        nn.CrossEntropyLoss(),
        optim.SGD(model.parameters(), lr=0.05),
        callbacks=[Spoil(), diagnosis],
        progress=False,
    )
    with pytest.raises(FloatingPointError), np.errstate(all="ignore"):
        t.fit(x, LABELS, max_epochs=5)
    assert diagnosis.verdict.startswith("data not finite: the loss is not finite in epoch 3")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("samples", "lr", "epochs"), [(64, 0.1, 3), (300, 0.5, 3), (64, 0.5, 3), (64, 0.1, 5)]
)
def test_a_short_run_that_falls_is_not_called_flat(seed, samples, lr, epochs):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    said = diagnosed(net(seed, 4, 16, 2, norm=True), lr, x, y, epochs=epochs, split=0.0)
    assert not said.startswith("rate too high")


@pytest.mark.parametrize("seed", range(3))
def test_a_rate_too_low_is_told(seed):
    assert diagnosed(net(seed, 64, 64, 10), 1e-6).startswith("rate too low: the loss stays at")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("lr", "epochs"), [(0.01, 3), (0.003, 8)])
def test_a_loss_that_still_slopes_wants_more_epochs(seed, lr, epochs):
    said = diagnosed(net(seed, 64, 64, 10), lr, epochs=epochs)
    assert said.startswith("more epochs wanted: val_loss is still sloping")


@pytest.mark.parametrize("seed", range(3))
def test_overfitting_is_told_with_its_epoch(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((80, 64)).astype(np.float32)
    y = (x[:, 0] + 2 * rng.standard_normal(80) > 0).astype(np.int64)
    said = diagnosed(net(seed, 64, 128, 2), 3e-3, x, y, epochs=40, kind=optim.AdamW, split=0.5)
    assert said.startswith("overfitting since epoch ")
    assert 1 <= int(said.split(":")[0].split()[-1]) <= 15


@pytest.mark.parametrize("share", [0.4, 0.7])
def test_dead_units_are_told_with_their_layer(share):
    model = net(0, 64, 100, 50, 10)
    model[2].bias.data[: int(50 * share)] = -100
    said = diagnosed(model, 0.1)
    assert said.startswith(f"dead units in layer 3: {share:.0%} of its units")


@pytest.mark.parametrize("seed", range(3))
def test_vanishing_gradients_are_told_with_their_layer(seed):
    said = diagnosed(net(seed, 64, *[32] * 10, 10, act=nn.Sigmoid), 0.1)
    assert said.startswith("vanishing gradients in layer 0: layer 20 gets")


@pytest.mark.parametrize(
    ("act", "words"), [(nn.ReLU, ": the activations"), (nn.Tanh, " in layer 0")]
)
def test_exploding_gradients_are_told(act, words):
    model = net(0, 64, *[64] * 16, 10, act=act)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data *= 12
    assert diagnosed(model, 1e-4).startswith(f"exploding gradients{words}")


HEALTHY = {
    "sgd": (lambda s: net(s, 64, 64, 10), 0.2, optim.SGD),
    "momentum": (lambda s: net(s, 64, 64, 10), 0.02, momentum),
    "adamw": (lambda s: net(s, 64, 64, 32, 10), 3e-3, optim.AdamW),
    "batch norm, dropout": (lambda s: net(s, 64, 64, 64, 10, norm=True, p=0.2), 5e-3, optim.AdamW),
    "tanh": (lambda s: net(s, 64, 64, 10, act=nn.Tanh), 0.2, optim.SGD),
    "gelu": (lambda s: net(s, 64, 64, 64, 10, act=nn.GELU), 3e-3, optim.AdamW),
    "float64": (lambda s: net(s, 64, 32, 10, dtype="float64"), 0.2, optim.SGD),
}


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("seed", range(4))
def test_a_healthy_run_raises_no_alarm(name, seed):
    model, lr, kind = HEALTHY[name]
    x, y = blobs(600, seed)
    assert diagnosed(model(seed), lr, x, y, epochs=20, kind=kind).startswith("all well: ")


@pytest.mark.parametrize("seed", range(4))
def test_a_regression_with_noise_raises_no_alarm(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((600, 8)).astype(np.float32)
    y = (x[:, :1] + 0.5 * rng.standard_normal((600, 1))).astype(np.float32)
    said = diagnosed(net(seed, 8, 16, 1), 0.02, x, y, epochs=30, loss=nn.MSELoss())
    assert said.startswith("all well: ")


# The numbers alone.

FALLING = [2.0, 1.0, 0.5, 0.3, 0.2, 0.15, 0.13, 0.125, 0.124, 0.124]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"loss": []}, "no epoch is done"),
        ({"loss": FALLING}, "all well"),
        ({"loss": FALLING[:4]}, "more epochs wanted: loss"),
        ({"loss": [2.0, float("nan")]}, "rate too high: the loss is nan in epoch 2"),
        ({"loss": [2.0, 0.5, 0.4, 3.0, 4.0]}, "rate too high: the loss rises, from 0.4"),
        ({"loss": [5.0, 0.5], "start": 1.0}, "rate too high: the loss is 5 in epoch 1"),
        (
            {"loss": [2.2, 2.1, 2.15, 2.12, 2.13], "update_ratio": {"0": [0.3] * 5}},
            "rate too high: the loss is flat early",
        ),
        (
            {"loss": [0.70, 0.62, 0.53], "update_ratio": {"0": [0.06] * 3}},
            "more epochs wanted: loss",
        ),
        (
            {"loss": [0.74, 0.72, 0.65, 0.62, 0.58], "update_ratio": {"0": [0.06] * 5}},
            "more epochs wanted: loss",
        ),
        ({"loss": [2.0], "failed": "epoch 2"}, "rate too high: the loss is not finite in epoch 2"),
        (
            {"loss": [2.0], "failed": "epoch 2", "spoilt": True},
            "data not finite: the loss is not finite in epoch 2",
        ),
        ({"loss": [2.2, 2.2, 2.2]}, "nothing is learnt"),
        ({"loss": [2.2, 2.19, 2.195, 2.18]}, "nothing is learnt"),
        ({"loss": [1.11, 1.107, 1.104, 1.1, 1.098]}, "more epochs wanted: loss falls in every"),
        (
            {"loss": [1.11, 1.107, 1.104, 1.1, 1.098], "update_ratio": {"0": [1e-6] * 5}},
            "rate too low",
        ),
        ({"loss": [1.11]}, "more epochs wanted: one is too few"),
        ({"loss": FALLING, "dead_units": {"1": [0.1, 0.3]}}, "dead units in layer 1: 30%"),
        ({"loss": FALLING, "dead_units": {"1": [0.9, 0.1]}}, "all well"),
        (
            {"loss": FALLING, "gradient_rms": {"0": [1e-6], "2": [1e-2]}},
            "vanishing gradients in layer 0",
        ),
        (
            {"loss": FALLING, "gradient_rms": {"0": [10.0], "2": [1e-3]}},
            "exploding gradients in layer 0",
        ),
        (
            {"loss": FALLING, "val_loss": [2, 1, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5]},
            "overfitting since epoch 3",
        ),
        ({"loss": FALLING, "val_loss": [v + 0.1 for v in FALLING]}, "all well"),
        ({"loss": [-v for v in FALLING[::-1]]}, "more epochs wanted"),
    ],
)
def test_the_sentence_is_a_function_of_the_numbers(numbers, words):
    said = verdict(numbers.pop("loss"), numbers.pop("val_loss", ()), **numbers)
    assert said.startswith(words)
    assert said.isascii()
    assert "\n" not in said


@pytest.mark.parametrize("seed", range(60))
def test_the_losses_it_names_are_those_of_epochs(seed):
    """As history.csv has them: a mean of several epochs is in none of its rows."""
    rng = np.random.default_rng(seed)
    epochs = int(rng.integers(2, 30))
    noise = rng.normal(0, 0.01 * rng.integers(4), (2, epochs))
    at = np.arange(epochs) / rng.integers(3, 20)
    loss = (np.exp(-at) + 0.2 + noise[0]).tolist()
    rise = float(rng.choice([0.0, 0.5, 1.0]))
    val_loss = (np.exp(-at) + rise * at * 0.3 + 0.3 + noise[1]).tolist()
    said = verdict(loss, val_loss)
    told = re.findall(r"val_loss is still sloping, from (\S+) in epoch (\d+) to (\S+) in", said)
    for first, epoch, last in told:
        assert f"{val_loss[int(epoch) - 1]:.3g}" == first
        assert f"{val_loss[-1]:.3g}" == last
        assert val_loss[int(epoch) - 1] >= val_loss[-1]
        assert said.endswith(f"in epoch {epochs}")
    assert len(told) == ("sloping" in said)
    told = re.findall(r"since epoch (\d+): val_loss rises from (\S+) to (\S+) in epoch (\d+)", said)
    for first, low, high, last in told:
        assert f"{val_loss[int(first) - 1]:.3g}" == low
        assert f"{val_loss[int(last) - 1]:.3g}" == high
        assert float(low) <= float(high)
    assert len(told) == said.startswith("overfitting")


def test_a_flat_loss_is_that_of_the_last_epoch():
    said = verdict([2.2, 2.1, 2.15, 2.12, 2.13], update_ratio={"0": [0.3] * 5})
    assert "flat early, at 2.13, while" in said
