"""Attributes set on a trainer between fits, or on a run in a hook, are checked like arguments."""

import copy
import math
import pickle

import numpy as np
import pytest
from onepass import nn, optim
from onepass.optim import lr_scheduler
from onepass.train import Callback, Checkpoint, EarlyStopping, Trainer
from small_training import VALIDATION, X, Y, everything, fit, make, network

NONSENSE = {
    "model": [3, None, nn.Linear],
    "loss": [3, None, nn.MSELoss, nn.MSELoss(reduction="none")],
    "optimizer": [3, None, optim.SGD],
    "scheduler": [3, "step", lr_scheduler.StepLR],
    "metrics": [3, None, ["acuracy"], {"loss": "accuracy"}],
    "callbacks": [3, None, [3], [EarlyStopping]],
    "max_norm": [0, -1.0, math.nan, "a", True],
    "nonfinite": ["ignore", None, 3],
    "accumulate": [0, -1, 1.5, True, "2", None, math.inf],
    "last_batch": ["even", None, 3],
    "seed": [-1, 1.5, None, 2**64],
    "history": [None, 3, [], {"loss": 3}, {"loss": [1.0], "lr": []}],
    "epoch": [-1, 1.5, None, "1", True],
    "step": [-1, 1.5, None],
    "position": [-1, 1.5, None],
    "skipped_steps": [-1, 1.5],
    "stop": ["no", None, 2],
}
CASES = [pytest.param(name, value, id=f"{name} {value!r}"[:40])
         for name, values in NONSENSE.items() for value in values]  # fmt: skip


@pytest.fixture(scope="module")
def fitted():
    trainer = make(scheduled=False)
    fit(trainer, max_epochs=1)
    return trainer


@pytest.mark.parametrize("on_run", [False, True], ids=["trainer", "run"])
@pytest.mark.parametrize(("name", "value"), CASES)
def test_nonsense_in_an_attribute_is_refused_where_it_is_set(fitted, name, value, on_run):
    owner = fitted.run if on_run else fitted
    before, kept = everything(fitted), getattr(owner, name)
    with pytest.raises((TypeError, ValueError), match=f"Trainer: '{name}"):
        setattr(owner, name, value)
    assert getattr(owner, name) is kept
    assert everything(fitted) == before


@pytest.mark.parametrize(
    "name",
    [
        "lr",
        "batch_loss",
        "step_info",
        "grad_scale",
        "row",
        "resumed",
        "loaded",
        "at_boundary",
        "sums",
        "data",
        "max_epochs",
        "batches",
    ],
)
def test_what_a_fit_says_of_itself_cannot_be_set(fitted, name):
    kept = getattr(fitted, name)
    with pytest.raises(AttributeError, match=f"Trainer: '{name}' is set to 0.5, expected no value"):
        setattr(fitted, name, 0.5)
    assert getattr(fitted, name) is kept or name == "lr"


def test_the_rate_is_not_set_through_the_run_either():
    """``run.lr = …`` in a hook would change nothing."""

    class Sets(Callback):
        def on_step_end(self, run):
            run.lr = 0.5

    with pytest.raises(AttributeError, match=r"run\.optimizer\.param_groups\[0\]\['lr'\]"):
        fit(make([Sets()]))


@pytest.mark.parametrize(
    "hook",
    [
        "on_fit_begin",
        "on_epoch_begin",
        "on_before_step",
        "on_step_end",
        "on_validation_end",
        "on_epoch_end",
    ],
)
def test_nonsense_from_a_hook_is_refused_at_once(hook):
    class Sets(Callback):
        pass

    def set_it(self, run):
        run.accumulate = 0

    setattr(Sets, hook, set_it)
    trainer = make([Sets()])
    with pytest.raises(ValueError, match="'accumulate' is 0, expected a whole number >= 1"):
        fit(trainer)
    assert trainer.accumulate == 1


@pytest.mark.parametrize("change", [
    lambda t: t.callbacks.append(3), lambda t: t.callbacks.append(EarlyStopping),
    lambda t: t.metrics.update(auc=3), lambda t: t.history.update(loss=3),
], ids=["callback", "class", "metric", "history"])  # fmt: skip
def test_nonsense_put_into_a_list_of_the_trainer_is_refused_by_fit(change):
    trainer = make()
    fit(trainer, max_epochs=1)
    change(trainer)
    before = trainer.step
    with pytest.raises((TypeError, ValueError), match=r"^Trainer: "):
        fit(trainer)
    assert trainer.step == before


def test_a_position_beyond_the_epoch_is_refused():
    trainer = make()
    trainer.position = 5
    with pytest.raises(ValueError, match="'position' is 5, expected at most 4"):
        fit(trainer)
    assert trainer.step == 0


def test_what_is_set_counts_as_if_it_had_been_given():
    """Options, names of metrics, callbacks with a Checkpoint last."""
    given = make([Checkpoint("x")], accumulate=2, max_norm=0.5, metrics=["accuracy", "f1"])
    later = make()
    later.accumulate, later.max_norm, later.metrics = 2, 0.5, ["accuracy", "f1"]
    given.callbacks = []
    assert list(fit(later)) == list(fit(given))
    assert everything(later)["moments"] == everything(given)["moments"]
    stopping, saving = EarlyStopping(), Checkpoint("x")
    later.callbacks = (saving, stopping)
    assert later.callbacks == [stopping, saving]
    later.stop = np.bool_(True)
    assert later.stop is True


def test_a_model_of_another_dtype_gets_its_own_dtype():
    trainer = make(scheduled=False)
    nn.manual_seed(0)
    trainer.model = nn.Sequential(nn.Linear(4, 2, dtype="float64"))
    trainer.optimizer = optim.SGD(trainer.model.parameters(), lr=0.1)
    assert trainer.predict(X).dtype == np.float64
    fit(trainer, max_epochs=1)


def test_copies_and_pickles_are_checked_too(fitted):
    for trainer in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        assert everything(trainer) == everything(fitted)
        with pytest.raises(ValueError, match="'accumulate' is 0"):
            trainer.accumulate = 0


def test_a_sigmoid_of_ones_own_counts_and_a_layer_called_so_does_not():
    """Where one output means class 1: by what the layer is, not by its name."""

    class Mine(nn.Sigmoid):
        pass

    class Sigmoid(nn.Identity):
        pass

    y = (X[:, :1] > 0).astype(np.float32)
    for last, threshold in ((Mine(), 0.5), (Sigmoid(), 0.0)):
        nn.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 1), last)
        trainer = Trainer(model, lambda y, t: nn.MSELoss()(y, t), optim.SGD(model.parameters()),
                          metrics=["accuracy"], progress=False)  # fmt: skip
        right = float(np.mean((trainer.predict(X) > threshold) == y))
        assert trainer.evaluate(X, y)["accuracy"] == pytest.approx(right)


def test_validation_data_may_be_left_out_later():
    trainer = make()
    fit(trainer, max_epochs=1)
    fit(trainer, max_epochs=2, validation_data=None)
    assert len(trainer.history["val_loss"]) == 2
    assert len(VALIDATION) == 2
    assert Y.shape == (30,)


# Set by a hook in the middle of a fit.


def sets(hook, change, *, epoch=1):
    class Sets(Callback):
        def called(self, run):
            if run.epoch == epoch:
                change(run)

    callback = Sets()
    setattr(callback, hook, callback.called)
    return callback


@pytest.mark.parametrize(
    "weights", [{}, {"class_weight": {0: 1.0, 1: 1.0}}, {"sample_weight": np.ones(30)}]
)
def test_a_loss_that_a_hook_sets_is_the_loss_from_then_on(weights):
    def change(run):
        run.loss = nn.CrossEntropyLoss(label_smoothing=0.5)

    trainer, plain = make([sets("on_epoch_begin", change)]), make([sets("on_epoch_begin", change)])
    fit(trainer, **weights)
    fit(plain)
    np.testing.assert_allclose(trainer.history["loss"], plain.history["loss"], rtol=1e-5)


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_step_end"])
@pytest.mark.parametrize("part", ["optimizer", "scheduler"])
def test_a_hook_cannot_set_parts_that_would_train_nothing(hook, part):
    """An optimizer of another model, or one that the schedule does not follow."""

    def change(run):
        model = network(1) if part == "optimizer" else run.model
        run.optimizer = optim.SGD(model.parameters(), lr=0.1)

    trainer = make([sets(hook, change)], scheduled=part == "scheduler")
    with pytest.raises(ValueError, match=r"that the model lacks|of another optimizer"):
        fit(trainer)


def test_a_hook_may_set_an_optimizer_together_with_its_schedule():
    def change(run):
        run.optimizer = optim.SGD(run.model.parameters(), lr=0.5)
        run.scheduler = lr_scheduler.StepLR(run.optimizer, 1, gamma=0.5)

    trainer = make([sets("on_epoch_begin", change)], scheduled=False)
    fit(trainer)
    assert trainer.history["lr"] == [0.02, 0.5, 0.25]


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_before_step", "on_epoch_end"])
@pytest.mark.parametrize(
    ("name", "value"), [("seed", 5), ("last_batch", "drop"), ("model", network())]
)
def test_what_a_fit_was_begun_with_cannot_be_set_in_a_hook(hook, name, value):
    trainer = make([sets(hook, lambda run: setattr(run, name, value))])
    with pytest.raises(ValueError, match=f"{name!r} is set to .* in a hook, expected one in a fit"):
        fit(trainer)
    assert getattr(trainer, name) is not value
    setattr(trainer, name, getattr(trainer, name))  # between two fits


@pytest.mark.parametrize("hook", ["on_before_step", "on_step_end", "on_validation_end"])
def test_metrics_are_not_set_in_the_middle_of_an_epoch(hook):
    trainer = make([sets(hook, lambda run: setattr(run, "metrics", ["f1"]))])
    with pytest.raises(ValueError, match="'metrics' is set in the middle of an epoch"):
        fit(trainer)


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_epoch_end"])
def test_metrics_set_between_two_epochs_are_of_whole_epochs(hook):
    trainer = make([sets(hook, lambda run: setattr(run, "metrics", ["f1"]))])
    fit(trainer)
    other = make(metrics=["f1"])
    fit(other)
    assert trainer.history["f1"][-1] == other.history["f1"][-1]


def test_a_callback_that_a_hook_adds_begins_too():
    class Late(Callback):
        seen = ()

        def on_fit_begin(self, run):
            self.seen += ("begin", run.epoch)

        def on_fit_end(self, run):
            self.seen += ("end",)

    late = Late()
    add = sets("on_epoch_begin", lambda run: setattr(run, "callbacks", [*run.callbacks, late]))
    fit(make([add]))
    assert late.seen == ("begin", 1, "end")


@pytest.mark.parametrize("hook", ["on_step_end", "on_before_step", "on_epoch_end"])
def test_a_hook_that_forgets_train_after_eval_changes_nothing(hook):
    """``run.model.eval(); run.model(x)`` in a hook: the next step is one of training."""

    def change(run):
        run.model.eval()
        run.model(X)

    trainer, plain = make([sets(hook, change)]), make()
    fit(trainer)
    fit(plain)
    assert everything(trainer) == everything(plain)


def test_a_model_set_later_may_have_another_backward():
    class Own(nn.Module):
        def __init__(self):
            self.linear = nn.Linear(4, 2)

        def forward(self, x):
            return self.linear(x)

        def backward(self, dy):  # without need_input_grad
            return self.linear.backward(dy)

    trainer = make(scheduled=False)
    fit(trainer, max_epochs=1)
    trainer.model = Own()
    trainer.optimizer = optim.SGD(trainer.model.parameters(), lr=0.1)
    fit(trainer)
    assert trainer.epoch == 3
