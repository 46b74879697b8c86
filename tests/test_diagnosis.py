"""train.Diagnosis: its numbers are those of a plain loop, training is the same bits, it resumes."""

import copy
import io
import math
import pickle
import re
import sys

import numpy as np
import pytest
from onepass import cli, nn, optim
from onepass.train import Callback, Checkpoint, Diagnosis, ProgressBar, Trainer
from small_training import (
    EPOCHS,
    KilledError,
    StopAt,
    X,
    Y,
    everything,
    fit,
    make,
    uninterrupted,
)

RNG = np.random.default_rng(0)


def deep(seed=0, act=nn.ReLU):
    nn.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 6),
        nn.BatchNorm1d(6),
        act(),
        nn.Dropout(0.3),
        nn.Residual(nn.Linear(6, 6), nn.BatchNorm1d(6)),
        nn.ReLU(),
        nn.Sequential(nn.Linear(6, 5), nn.Tanh()),
        nn.Dropout(0.2),
        nn.Linear(5, 2),
    )


def trained(callbacks, model=None, **options):
    model = model or deep()
    optimizer = optim.AdamW(model.parameters(), lr=0.02)
    t = Trainer(
        model, nn.CrossEntropyLoss(), optimizer, callbacks=callbacks, progress=False, **options
    )
    fit(t)
    return t


@pytest.mark.parametrize(
    "options", [{}, {"accumulate": 3}, {"max_norm": 0.1}, {"nonfinite": "skip"}]
)
@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU, nn.Sigmoid, nn.SELU])
def test_training_is_the_same_bits_as_without(options, act):
    plain = everything(trained([], deep(act=act), **options))
    assert everything(trained([Diagnosis()], deep(act=act), **options)) == plain


def test_the_model_is_fused_again_afterwards_and_its_layers_have_no_trace():
    model = deep()
    shown = repr(model)
    trained([Diagnosis()], model)
    assert repr(model) == shown
    assert all("forward" not in vars(module) for module in model.modules())
    model = deep()
    with pytest.raises(KilledError):
        trained([Diagnosis(), StopAt(2)], model)
    assert repr(model) == shown


class Plain(Callback):
    """The numbers again, from copies, for the net of `small`."""

    def __init__(self):
        self.grads, self.ratios = [], []

    def on_before_step(self, run):
        self.batches = run.grad_scale
        self.kept = [p.data.astype(np.float64) for p in run.model[0].parameters()]
        flat = [p.grad.astype(np.float64).ravel() for p in run.model[0].parameters()]
        self.grads.append(np.sqrt(np.mean(np.concatenate(flat) ** 2)) / self.batches)

    def on_step_end(self, run):
        change = [p.data - k for p, k in zip(run.model[0].parameters(), self.kept, strict=True)]
        norms = [math.sqrt(sum((a**2).sum() for a in arrays)) for arrays in (change, self.kept)]
        self.ratios.append(norms[0] / norms[1])


@pytest.mark.parametrize("accumulate", [1, 3])
def test_gradients_and_updates_are_those_of_a_plain_loop(accumulate):
    """With four batches an epoch, three to a step, the last step of an epoch has one batch."""
    plain, diagnosis = Plain(), Diagnosis()
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    trained([plain, diagnosis], model, accumulate=accumulate)
    steps = len(plain.grads) // EPOCHS
    for epoch in range(EPOCHS):
        span = slice(epoch * steps, (epoch + 1) * steps)
        assert diagnosis.gradient_rms["0"][epoch] == pytest.approx(np.mean(plain.grads[span]))
        ratio = np.mean(plain.ratios[span])
        assert diagnosis.update_ratio["0"][epoch] == pytest.approx(ratio, rel=1e-4)
    assert list(diagnosis.gradient_rms) == ["0", "2"]
    assert list(diagnosis.dead_units) == list(diagnosis.activation_variance) == ["1"]
    assert set(diagnosis.history["1"]) == {"dead_units", "activation_variance"}
    assert diagnosis.history["0"]["gradient_rms"] is diagnosis.gradient_rms["0"]


def test_dead_units_are_those_that_no_sample_of_the_epoch_reaches():
    """Fused with the linear layer before, and a dropout behind; one sample keeps a unit alive."""
    x = np.zeros((12, 4), np.float32)
    x[7, 0] = 1
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 2))
    model[0].weight.data[:] = 0
    model[0].weight.data[0, 0] = 3
    model[0].weight.data[1, 1] = 3  # a unit that no sample reaches, but one of validation would
    model[0].bias.data[:] = [-1, -1, -1, 1, -1]
    diagnosis = Diagnosis()
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    t = Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=[diagnosis], progress=False)
    alive = np.full((3, 4), 2, np.float32)  # in validation alone, which does not count
    t.fit(x, np.arange(12) % 2, max_epochs=2, batch_size=4, shuffle=False,
          validation_data=(alive, np.arange(3) % 2))  # fmt: skip
    assert diagnosis.dead_units["1"] == pytest.approx([3 / 5, 3 / 5])
    weight, bias = (p.data.astype(np.float64) for p in model[0].parameters())
    outputs = np.maximum(x @ weight.T + bias, 0)
    variance = np.mean([outputs[i : i + 4].var() for i in (0, 4, 8)])
    assert diagnosis.activation_variance["1"] == pytest.approx([variance] * 2)


@pytest.mark.parametrize("act", [nn.Tanh, nn.Sigmoid])
def test_saturated_units_are_dead(act):
    model = nn.Sequential(nn.Linear(4, 4), act(), nn.Linear(4, 2))
    model[0].bias.data[:] = [30, -30, 0, 0]
    diagnosis = Diagnosis()
    trained([diagnosis], model)
    assert diagnosis.dead_units["1"] == [0.5] * EPOCHS


def test_channels_are_the_units_of_images():
    x = RNG.standard_normal((16, 3, 4, 4)).astype(np.float32)
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
    model[0].bias.data[:] = [0, -50, 0]
    diagnosis = Diagnosis()
    optimizer = optim.SGD(model.parameters(), lr=1e-3)
    t = Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=[diagnosis], progress=False)
    t.fit(x, np.arange(16) % 2, max_epochs=1, batch_size=8)
    assert diagnosis.dead_units["1"] == pytest.approx([1 / 3])


def test_skipped_steps_do_not_count():
    x = X.copy()
    x[3] = np.nan
    plain, diagnosis = Plain(), Diagnosis()
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    options = {"callbacks": [plain, diagnosis], "progress": False, "nonfinite": "skip"}
    t = Trainer(model, nn.CrossEntropyLoss(), optimizer, **options)
    t.fit(x, Y, max_epochs=2, batch_size=8)
    assert t.skipped_steps == 2
    assert np.isfinite(diagnosis.gradient_rms["0"]).all()
    steps = np.reshape(plain.ratios, (2, -1))
    assert np.sum(steps == 0) == 2
    for ratio, done in zip(diagnosis.update_ratio["0"], steps, strict=True):
        assert ratio == pytest.approx(done[done > 0].mean(), rel=1e-4)


def test_a_frozen_layer_has_no_numbers_and_a_late_one_begins_with_nan():
    model = deep()
    model[0].freeze()
    diagnosis = Diagnosis()

    class Thaw(Callback):
        def on_epoch_begin(self, run):
            if run.epoch == 1:
                run.model[0].unfreeze()

    trained([diagnosis, Thaw()], model)
    first, *rest = diagnosis.gradient_rms["0"]
    assert math.isnan(first)
    assert np.isfinite(rest).all()


@pytest.mark.parametrize("step", [3, 6, 9])
def test_it_resumes_with_the_same_numbers(tmp_path, step):
    whole, killed, again = Diagnosis(), Diagnosis(), Diagnosis()
    expected = uninterrupted(callbacks=[whole])
    keep = [Checkpoint(tmp_path, every_n_steps=1)]
    with pytest.raises(KilledError):
        fit(make([killed, *keep, StopAt(step)]))
    t = make([again, Checkpoint(tmp_path, every_n_steps=1)])
    fit(t, ckpt_path=tmp_path)
    assert everything(t) == expected
    assert again.history == whole.history
    assert again.verdict == whole.verdict
    assert again.start == whole.start


def test_another_training_begins_afresh():
    diagnosis = Diagnosis()
    fit(make([diagnosis]))
    fit(make([diagnosis]), max_epochs=1)
    assert {len(v) for layer in diagnosis.history.values() for v in layer.values()} == {1}


def test_copies_taken_inside_a_fit_are_whole():
    copies = []

    class Copy(Callback):
        def on_step_end(self, run):
            copies.append((copy.deepcopy(run.model), pickle.loads(pickle.dumps(run.model))))

    model = deep()
    shown = repr(model)
    trained([Diagnosis(), Copy()], model)
    for pair in copies:
        for other in pair:
            assert repr(other) == shown
            other.eval()(X)
    for a, b in zip(copies[-1], (model, model), strict=True):
        np.testing.assert_array_equal(a.eval()(X), b.eval()(X))


def test_a_copy_taken_inside_a_fit_can_be_diagnosed_too():
    copies = []

    class Copy(Callback):
        def on_fit_end(self, run):
            copies.append(copy.deepcopy(run.model))

    first, second = Diagnosis(), Diagnosis()
    trained([Copy(), first])
    trained([second], copies[0])
    assert list(second.dead_units) == list(first.dead_units) == ["2", "5", "6.1"]


def test_the_command_line_diagnoses_on_any_console(tmp_path, monkeypatch):
    rows = np.column_stack([X, Y])
    lines = ["a,b,c,d,y", *(",".join(map(str, row[:4])) + f",{int(row[4])}" for row in rows)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    options = ["--epochs", "3", "--hidden", "8", "--out", str(tmp_path / "run")]
    assert cli.main(["train", str(table), "--diagnose", *options]) == 0
    sys.stdout.flush()
    printed = raw.getvalue().decode("ascii")
    assert re.search(r"^layer +gradient rms +update/weight", printed, re.MULTILINE)
    sentences = ("more epochs wanted", "all well", "rate too", "dead units", "nothing", "overfit")
    assert len([line for line in printed.splitlines() if line.startswith(sentences)]) == 1


def test_it_is_printed_beside_a_bar_and_drawn(tmp_path):
    stream = io.StringIO()
    diagnosis = Diagnosis(every=2)
    assert diagnosis.table() == "no epoch was measured"
    with pytest.raises(ValueError, match="nothing to plot"):
        diagnosis.plot(tmp_path / "d.svg")
    fit(make([diagnosis, ProgressBar(file=stream)]))
    assert stream.getvalue().rstrip().endswith(diagnosis.verdict)
    assert diagnosis.table().isascii()
    assert [line.split()[0] for line in diagnosis.table().splitlines()] == [
        "layer",
        *diagnosis.history,
    ]
    pytest.importorskip("matplotlib")
    diagnosis.plot(tmp_path / "d.svg")
    assert "dead units" in (tmp_path / "d.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("every", [0, 1.5])
def test_wrong_every(every):
    with pytest.raises((ValueError, TypeError), match="'every'"):
        Diagnosis(every=every)


class Freezes(Callback):
    """Freezes something in one hook of one step."""

    def __init__(self, hook, freeze):
        self.freeze = freeze
        setattr(self, hook, self.called)

    def called(self, run):
        if run.step == 3:
            self.freeze(run.model)


def freeze_weight(model):
    model[0].weight.requires_grad = False


@pytest.mark.parametrize("hook", ["on_before_step", "on_step_end"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "freeze",
    [lambda m: m[0].freeze(), freeze_weight, lambda m: m.freeze(), lambda m: m[0].unfreeze()],
    ids=["layer", "one parameter", "all", "thaw"],
)
def test_a_hook_may_freeze_and_thaw_in_the_middle_of_a_step(hook, first, freeze):
    def run(*diagnosis):
        callbacks = [Freezes(hook, freeze), *diagnosis]
        return everything(trained(callbacks if first else callbacks[::-1]))

    diagnosis = Diagnosis()
    assert run(diagnosis) == run()
    assert diagnosis.gradient_rms.keys() == diagnosis.update_ratio.keys()
    assert all(len(values) == EPOCHS for values in diagnosis.update_ratio.values())


@pytest.mark.parametrize("scale", [1e160, 1e-170, 1e300])
def test_gradients_whose_squares_leave_float64_have_their_rms(scale):
    """A loss in other units: the gradients are larger, the updates are the same."""

    def numbers(factor):
        class Scaled:
            outputs = "numbers"

            def __call__(self, y, target):
                return float(np.mean((y - target) ** 2)), 2 * (y - target) / y.size * factor

        nn.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5, dtype="float64"), nn.Tanh())
        diagnosis = Diagnosis()
        optimizer = optim.SGD(model.parameters(), lr=0.1 / factor)
        trainer = Trainer(model, Scaled(), optimizer, callbacks=[diagnosis], progress=False)
        trainer.fit(X.astype(float), np.tile(Y[:, None], 5).astype(float), max_epochs=2)
        return diagnosis.gradient_rms["0"], diagnosis.update_ratio["0"]

    plain, large = numbers(1.0), numbers(scale)
    np.testing.assert_allclose(np.divide(large[0], scale), plain[0], rtol=1e-12)
    np.testing.assert_allclose(large[1], plain[1], rtol=1e-12)
