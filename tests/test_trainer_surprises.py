"""Things that users do between or beside fits never give wrong numbers."""

import copy
import inspect
import os
import stat
import threading

import numpy as np
import pytest
from onepass import nn, optim
from onepass.data import DataLoader
from onepass.train import Callback, Checkpoint, CSVLogger, Trainer, find_lr
from onepass.train._metrics import resolve
from small_training import VALIDATION, X, Y, everything, fit, make


def plain(outputs=2, loss=None, **options):
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs))
    return Trainer(model, loss or nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
                   progress=False, **options)  # fmt: skip


# ------------------------------------------------------------------------- other data, other models


@pytest.mark.parametrize("other", [
    {"X": X + 1}, {"y": 1 - Y}, {"sample_weight": np.linspace(0.5, 1, 30)},
    {"class_weight": [1, 2]},
], ids=["X", "y", "weights", "class weights"])  # fmt: skip
def test_a_resume_with_other_data_of_the_same_shape_is_told(tmp_path, other):
    fit(make([Checkpoint(tmp_path)]), max_epochs=1)
    given = {"X": X, "y": Y, "max_epochs": 2, "batch_size": 8, "ckpt_path": tmp_path, **other}
    with pytest.warns(RuntimeWarning, match="other data, targets or weights"):
        make().fit(given.pop("X"), given.pop("y"), validation_data=VALIDATION, **given)


def test_a_resume_inside_an_epoch_with_other_data_is_refused(tmp_path):
    class Stop(Callback):
        def on_step_end(self, run):
            run.stop = run.step == 2

    fit(make([Stop(), Checkpoint(tmp_path, every_n_steps=1)]))
    trainer = make()
    before = everything(trainer)
    with pytest.raises(ValueError, match="inside an epoch, expected the same data"):
        trainer.fit(X + 1, Y, max_epochs=3, batch_size=8, ckpt_path=tmp_path)
    assert everything(trainer) == before


@pytest.mark.parametrize("change", ["layer", "model"])
def test_a_layer_that_the_optimizer_does_not_know_is_told_at_the_next_fit(change):
    t = plain()
    t.fit(X, Y, max_epochs=1)
    if change == "layer":
        t.model[2] = nn.Linear(5, 2)
    else:
        t.model = copy.deepcopy(t.model)
    with pytest.raises(
        ValueError, match=r"fit: .optimizer. has parameter ., .*that the model lacks"
    ):
        t.fit(X, Y, max_epochs=2)


# ------------------------------------------------------------------------------- targets, metrics


def test_whole_numbers_are_the_targets_of_a_regression():
    y = np.arange(30)[:, None] * 7
    ours, floats = plain(1, nn.MSELoss()), plain(1, nn.MSELoss())
    for t, target in ((ours, y), (floats, y.astype(np.float32))):
        t.optimizer.param_groups[0]["lr"] = 1e-5
        t.fit(X, target, max_epochs=2, validation_split=0.25)
    assert dict(ours.history) == dict(floats.history)


def test_a_sigmoid_at_the_end_gives_probabilities_to_the_metrics():
    y = (X[:, :1] > 0).astype(np.float32)
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())
    t = Trainer(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=5.0), progress=False,
                metrics=["accuracy", "f1", "balanced_accuracy"])  # fmt: skip
    t.fit(X, y, max_epochs=30)
    right = float(np.mean((t.predict(X) > 0.5) == y))
    assert right > 0.9
    assert t.evaluate(X, y)["accuracy"] == pytest.approx(right)


@pytest.mark.parametrize(("outputs", "y", "words"), [
    (3, (np.arange(90).reshape(30, 3) % 4 < 2).astype(np.float32), "rows that do not sum to 1"),
    (1, np.linspace(-2, 3, 30, dtype=np.float32)[:, None], "numbers outside of 0 to 1"),
    (1, np.where(np.arange(30) % 3, 1, -1)[:, None], "holds -1, expected classes from 0 to 1, as"),
    (1, (1 + np.arange(30) % 2)[:, None].astype(np.uint8), "holds 2, expected classes from 0 to 1"),
    (1, np.full((30, 1), 7), "holds 7"),
])  # fmt: skip
@pytest.mark.parametrize("metric", ["accuracy", "f1", "auc", "balanced_accuracy"])
def test_metrics_of_classes_refuse_other_targets_and_name_themselves(outputs, y, words, metric):
    t = plain(outputs, nn.MSELoss(), metrics=[metric])
    with pytest.raises(ValueError, match=f"the metric '{metric}' failed: .*{words}"):
        t.evaluate(X, y)


@pytest.mark.parametrize("metric", ["accuracy", "top_2_accuracy", "f1", "auc", "roc_auc"])
@pytest.mark.parametrize("first", [-1, 1])
def test_labels_that_no_output_stands_for_are_refused_by_metrics(first, metric):
    """A loss of the user's own may take them; the metric would count every sample as wrong."""
    pytest.importorskip("sklearn") if metric == "roc_auc" else None
    outputs = np.random.default_rng(0).standard_normal((6, 3))
    labels = first + np.arange(6) % 3
    with pytest.raises(ValueError, match=f"holds {-1 if first < 0 else 3}, expected classes from"):
        resolve([metric])[metric](outputs, labels)
    ignored = np.where((labels < 0) | (labels > 2), -100, labels)
    resolve(["accuracy"])["accuracy"](outputs, ignored)


def test_a_metric_that_fails_says_which_one():
    def odd(outputs, targets):
        raise KeyError("here")

    with pytest.raises(ValueError, match="the metric 'mine' failed: 'here'"):
        plain(metrics={"mine": odd}).evaluate(X, Y)


# ------------------------------------------------------------------------------------ weights


def test_a_series_of_class_weights_is_read_by_its_index():
    pandas = pytest.importorskip("pandas")
    weights = pandas.Series({1: 3.0, 0: 0.5})
    one, other = plain(), plain()
    one.fit(X, Y, max_epochs=2, class_weight=weights)
    other.fit(X, Y, max_epochs=2, class_weight={0: 0.5, 1: 3.0})
    assert dict(one.history) == dict(other.history)


@pytest.mark.parametrize(("options", "kind", "words"), [
    ({"class_weight": {0.9: 5.0}}, TypeError, "has the key 0.9"),
    ({"class_weight": {"a": 5.0}}, TypeError, "has the key 'a'"),
    ({"class_weight": {0: 0.0, 1: 0.0}}, ValueError, "'class_weight' has the sum 0"),
    ({"sample_weight": np.full(30, 1e-50)}, ValueError, "has 1e-50 at 0"),
    ({"sample_weight": np.full(30, 1e37)}, ValueError, r"has 1e\+37 at 0"),
    ({"sample_weight": np.ma.masked_less(np.arange(30.0), 3)}, TypeError, "MaskedArray"),
])  # fmt: skip
def test_weights_that_would_give_wrong_numbers_are_refused(options, kind, words):
    t = plain()
    with pytest.raises(kind, match=words):
        t.fit(X, Y, max_epochs=1, **options)
    assert t.step == 0


def test_a_loader_with_weights_can_be_evaluated_and_predicted():
    t = plain(metrics=["accuracy"])
    loader = DataLoader(X, Y, 7, shuffle=True, sample_weight=np.linspace(0, 2, 30))
    assert t.evaluate(loader) == pytest.approx(t.evaluate(X, Y), rel=1e-6)
    np.testing.assert_array_equal(t.predict(loader), t.predict(X, batch_size=7))


def test_a_transform_gets_places_in_the_users_data_also_beside_a_split():
    def check(x, y, *, seed, epoch, index):
        np.testing.assert_array_equal(x, X[index])
        return x, y

    plain().fit(X, Y, max_epochs=2, batch_size=8, transform=check, validation_split=0.4)


# ------------------------------------------------------------------------------ threads, files


def test_a_refused_find_lr_leaves_a_running_fit_alone():
    """Its dropout too: nothing is put back that was not taken."""
    found = []

    class Asks(Callback):
        def on_step_end(self, run):
            def ask():
                try:
                    find_lr(trainer, X, Y, steps=5)
                except RuntimeError as error:
                    found.append(str(error))

            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()

    quiet, trainer = make(), make([Asks()])
    fit(quiet)
    want = everything(quiet)
    trainer = make([Asks()])
    fit(trainer)
    assert everything(trainer) == want
    assert found
    assert all("another thread" in text for text in found)


def test_a_csv_log_writes_into_pipes_and_through_links_and_keeps_modes(tmp_path):
    real = tmp_path / "real.csv"
    real.write_text("")
    real.chmod(0o640)
    link = tmp_path / "link.csv"
    link.symlink_to(real)
    fit(make([CSVLogger(link)]), max_epochs=2)
    assert link.is_symlink()
    assert len(real.read_text().splitlines()) == 3
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(pipe.read_text().splitlines()))
    reader.start()
    history = fit(make(), max_epochs=2)
    history.to_csv(pipe)
    reader.join(10)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert len(lines) == 3


@pytest.mark.parametrize("hold", [
    lambda layer: [(layer, nn.Tanh())], lambda layer: {"enc": [layer]}, lambda layer: {layer},
    lambda layer: [[layer.weight]],
], ids=["tuples", "dict of lists", "set", "parameters"])  # fmt: skip
def test_layers_in_containers_of_containers_are_refused(hold):
    class Holds(nn.Module):
        def __init__(self):
            self.blocks = hold(nn.Linear(2, 2))

    with pytest.raises(TypeError, match=r"'blocks' is a .* that holds a"):
        list(Holds().parameters())


def test_masked_arrays_are_no_inputs_of_modules():
    masked = np.ma.masked_equal(np.float32([[1, 2, 3, 4]]), 2)
    with pytest.raises(TypeError, match="MaskedArray"):
        nn.Linear(4, 2)(masked)
    with pytest.raises(TypeError, match="MaskedArray"):
        nn.Parameter(masked)


def test_modules_can_be_inspected():
    assert dict(inspect.getmembers(nn.Module))["forward"] is nn.Module.forward


class Locked(nn.Module):
    """A model that cannot be copied."""

    def __init__(self):
        self.norm, self.linear, self.lock = nn.BatchNorm1d(4), nn.Linear(4, 2), threading.Lock()

    def forward(self, x):
        return self.linear(self.norm(x))

    def backward(self, dy, *, need_input_grad=True):
        return self.norm.backward(self.linear.backward(dy))


def test_a_model_that_cannot_be_copied_trains_in_small_batches():
    model = Locked()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False)
    trainer.fit(X, Y, max_epochs=1, batch_size=3)
    assert trainer.step == 10


def test_the_norm_that_needs_more_samples_is_the_one_that_is_named():
    model = nn.Sequential(
        nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)
    )
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False)
    with pytest.raises(ValueError, match="BatchNorm1d normalises by their statistics"):
        trainer.fit(X.reshape(-1, 1, 2, 2), Y, max_epochs=1, batch_size=1)
