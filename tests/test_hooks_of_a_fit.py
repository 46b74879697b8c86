"""What hooks do to the fit that calls them: other callbacks, other metrics, a fit inside a fit."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from onepass.train import Callback, Checkpoint, CSVLogger, EarlyStopping
from small_training import X, Y, everything, fit, make, uninterrupted

BETWEEN = ("on_fit_begin", "on_epoch_begin", "on_before_step", "on_step_end", "on_validation_end",
           "on_epoch_end")  # fmt: skip


class Does(Callback):
    """Calls a function in one hook, once, at its n-th call."""

    def __init__(self, hook, what, at=1):
        self.left, self.what = at, what
        setattr(self, hook, self.called)

    def called(self, run):
        self.left -= 1
        if self.left == 0:
            self.what(run)


class Heard(Callback):
    def __init__(self):
        self.hooks = []
        for hook in (*BETWEEN, "on_fit_end"):
            setattr(self, hook, lambda run, hook=hook: self.hooks.append(hook))


# Callbacks that a hook puts into the list.

CHANGES = {
    "append": lambda run, new: run.callbacks.append(new),
    "insert": lambda run, new: run.callbacks.insert(0, new),
    "+=": lambda run, new: run.callbacks.__iadd__([new]),
    "replace": lambda run, new: run.callbacks.__setitem__(0, new),
    "set": lambda run, new: setattr(run, "callbacks", [*run.callbacks, new]),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("hook", BETWEEN)
def test_a_callback_put_into_the_list_in_a_hook_begins_with_on_fit_begin(hook, change):
    heard = Heard()
    trainer = make([Callback(), Does(hook, lambda run: CHANGES[change](run, heard))])
    fit(trainer)
    assert heard.hooks[0] == "on_fit_begin"
    assert heard.hooks.count("on_fit_begin") == 1
    assert heard.hooks[-1] == "on_fit_end"
    assert heard.hooks.count("on_epoch_end") >= 2
    assert everything(trainer) == uninterrupted()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("what", "error"),
    [
        (lambda path: "early stopping", "is 'early stopping', expected a Callback"),
        (lambda path: EarlyStopping("val_acuracy"), "'monitor' is 'val_acuracy', expected one of"),
        (lambda path: type("Own", (Callback,), {"on_epochend": lambda *_: None})(), "on_epochend"),
        (lambda path: CSVLogger(path / "history.csv"), "where Hears writes too"),
    ],
)
def test_a_callback_put_into_the_list_in_a_hook_is_checked(tmp_path, change, what, error):
    aborted = []

    class Hears(CSVLogger):
        def on_abort(self, run, error):
            aborted.append(type(error))

    own = Hears(tmp_path / "history.csv")
    does = Does("on_epoch_begin", lambda run: CHANGES[change](run, what(tmp_path)), at=2)
    trainer = make([Callback(), own, does])
    with pytest.raises((TypeError, ValueError), match=error):
        fit(trainer)
    assert len(aborted) == 1
    assert trainer.epoch == 1


def test_a_callback_that_leaves_the_list_in_a_hook_is_no_longer_called():
    heard = Heard()
    trainer = make([Does("on_epoch_end", lambda run: run.callbacks.remove(heard)), heard])
    fit(trainer)
    assert heard.hooks.count("on_epoch_end") == 1  # of this round
    assert "on_fit_end" not in heard.hooks


def test_one_callback_twice_is_refused_in_a_hook_too():
    heard = Heard()
    trainer = make([heard, Does("on_step_end", lambda run: run.callbacks.append(heard))])
    with pytest.raises(ValueError, match="expected each callback once"):
        fit(trainer)


# Metrics that a hook sets.


class Sets(Callback):
    def __init__(self, metrics, epoch=0):
        self.metrics, self.epoch = metrics, epoch

    def on_epoch_begin(self, run):
        if run.epoch >= self.epoch:
            run.metrics = self.metrics


@pytest.mark.parametrize("metrics", [["accuracy", "f1"], ["f1"], ["accuracy"], []])
@pytest.mark.parametrize("how", ["again", "ckpt_path"])
def test_a_resume_inside_an_epoch_takes_the_metrics_that_its_beginning_set(tmp_path, metrics, how):
    """The message told to set them in on_epoch_begin, which did."""
    whole = make([Sets(metrics)])
    fit(whole)
    expected = everything(whole)

    def stops(run):
        raise ValueError("stop")

    ckpt = Checkpoint(tmp_path, every_n_steps=1)
    trainer = make([Sets(metrics), Does("on_step_end", stops, at=6), ckpt])
    with pytest.raises(ValueError, match="stop"):
        fit(trainer)
    if how == "again":
        fit(trainer)
    else:
        trainer = make([Sets(metrics)])
        fit(trainer, ckpt_path=tmp_path)
    assert everything(trainer) == expected


@pytest.mark.parametrize("late", [["accuracy", "f1"], ["accuracy", "balanced_accuracy"], ["mse"]])
def test_a_metric_that_the_epochs_first_batches_lack_is_refused_at_a_resume(late):
    def stops(run):
        raise ValueError("stop")

    sets = Sets(["accuracy"])
    trainer = make([sets, Does("on_step_end", stops, at=6)])
    with pytest.raises(ValueError, match="stop"):
        fit(trainer)
    sets.metrics = late
    with pytest.raises(ValueError, match=rf"'metrics' has '{late[-1]}', expected those of the ep"):
        fit(trainer)
    sets.metrics = ["accuracy"]
    fit(trainer)
    assert everything(trainer) == uninterrupted()


@pytest.mark.parametrize("hook", ["on_before_step", "on_step_end"])
def test_metrics_set_in_the_middle_of_an_epoch_are_refused(hook):
    trainer = make([Does(hook, lambda run: setattr(run, "metrics", ["f1"]), at=2)])
    with pytest.raises(ValueError, match="in the middle of an epoch, expected a hook between two"):
        fit(trainer)


# A fit in a hook of another one.


def press(run=None):
    signal.raise_signal(signal.SIGINT)


class Outer(Callback):
    """Fits another trainer in one of its hooks."""

    def __init__(self, inner, hook="on_epoch_begin", swallows=False):
        self.inner, self.ended, self.swallows = inner, [], swallows
        setattr(self, hook, self.fits)

    def fits(self, run):
        if self.ended:
            return
        try:
            fit(self.inner)
            self.ended.append("through")
        except KeyboardInterrupt:
            self.ended.append("interrupted")
            if not self.swallows:
                raise


@pytest.mark.parametrize("hook", ["on_fit_begin", "on_epoch_begin", "on_step_end", "on_epoch_end"])
@pytest.mark.parametrize("swallows", [False, True])
def test_ctrl_c_in_a_fit_within_a_fit_ends_both_between_two_steps(hook, swallows):
    """The inner one went on to its end and the outer one took the Ctrl-C."""
    expected = uninterrupted()
    inner = make([Does("on_step_end", press, at=5)])
    outer = Outer(inner, hook, swallows)
    trainer = make([outer])
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    assert outer.ended == ["interrupted"]
    assert (inner.step, inner.run.torn, trainer.run.torn) == (5, False, False)
    assert trainer.step == {"on_step_end": 1, "on_epoch_end": 4}.get(hook, 0)
    fit(trainer)
    assert everything(trainer) == expected


def test_a_second_ctrl_c_in_a_fit_within_a_fit_interrupts_at_once():
    def twice(run):
        press()
        press()
        raise AssertionError("not reached")

    inner = make([Does("on_step_end", twice, at=5)])
    trainer = make([Outer(inner)])
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    assert inner.run.torn
    assert trainer.run.torn  # its hook was cut too


def test_ctrl_c_before_a_fit_within_a_fit_ends_that_one_at_its_beginning():
    inner = make()
    outer = Outer(inner, "on_step_end")
    trainer = make([Does("on_step_end", press), outer])
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    assert outer.ended == ["interrupted"]
    assert (trainer.step, inner.step) == (1, 0)


def test_after_a_fit_within_a_fit_ctrl_c_is_the_outer_ones():
    trainer = make([Outer(make()), Does("on_step_end", press, at=3)])
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    assert trainer.step == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_programs_own_handler_hears_one_ctrl_c_once():
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    outer = Outer(make([Does("on_step_end", press, at=5)]))
    trainer = make([outer])
    try:
        fit(trainer)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (seen, outer.ended) == ([signal.SIGINT], ["through"])
    assert everything(trainer) == uninterrupted()


def test_three_fits_within_each_other():
    expected = uninterrupted()
    first = make([Does("on_step_end", press, at=2)])
    second = make([Outer(first)])
    third = make([Outer(second)])
    with pytest.raises(KeyboardInterrupt):
        fit(third)
    assert [t.step for t in (first, second, third)] == [2, 0, 0]
    for trainer in (first, second, third):
        fit(trainer)
        assert everything(trainer)["model"] == expected["model"]


def test_a_resume_with_other_metrics_at_an_epochs_end_is_no_matter():
    trainer = make([Sets(["accuracy", "f1"], epoch=1)])
    history = fit(trainer)
    assert np.isnan(history["f1"][0])
    assert not np.isnan(history["f1"][1:]).any()
    assert len(X) == len(Y)
