"""A trainer shows gradients before the step, the step's info, and the numbers that were logged."""

import math

import numpy as np
import pytest
from onepass import nn, optim
from onepass.train import Callback, Checkpoint, CSVLogger, EarlyStopping, Trainer
from small_training import (
    STEPS,
    KilledError,
    StopAt,
    X,
    Y,
    everything,
    fit,
    make,
    uninterrupted,
)


class Recorder(Callback):
    """The norm of every parameter's gradient, as the optimizer will see it, in float64."""

    def __init__(self):
        self.norms, self.infos, self.cleared = [], [], []

    def on_before_step(self, run):
        self.norms.append({
            name: float(np.linalg.norm(p.grad.astype(np.float64) / run.grad_scale))
            for name, p in run.model.named_parameters()
        })  # fmt: skip

    def on_step_end(self, run):
        self.infos.append(run.step_info)
        self.cleared.append(all(
            p.grad is None or not p.grad.any() for p in run.model.parameters()
        ))  # fmt: skip


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_and_their_norms_before_they_are_cleared(accumulate):
    recorder = Recorder()
    trainer = make([recorder], max_norm=math.inf, accumulate=accumulate)
    history = fit(trainer)
    assert len(recorder.norms) == trainer.step == STEPS // accumulate
    assert all(recorder.cleared)
    totals = [math.sqrt(sum(n * n for n in norms.values())) for norms in recorder.norms]
    assert min(min(norms.values()) for norms in recorder.norms) >= 0
    assert all(total > 0.01 for total in totals)
    measured = [info.grad_norm for info in recorder.infos]
    np.testing.assert_allclose(totals, measured, rtol=1e-5)
    per_epoch = np.reshape(measured, (3, -1)).mean(axis=1)
    np.testing.assert_allclose(history["grad_norm"], per_epoch, rtol=1e-12)
    assert trainer.step_info is recorder.infos[-1]


def test_looking_at_gradients_changes_nothing():
    expected = uninterrupted(max_norm=0.5, accumulate=2)
    assert uninterrupted(callbacks=[Recorder()], max_norm=0.5, accumulate=2) == expected


def test_gradients_may_be_changed_before_the_step():
    """All zeros: plain SGD stays where it is."""

    class Zero(Callback):
        def on_before_step(self, run):
            for parameter in run.model.parameters():
                parameter.grad[...] = 0

    model = nn.Sequential(nn.Linear(4, 2))
    before = model.state_dict()
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.5),
                      callbacks=[Zero()], max_norm=1.0, progress=False)  # fmt: skip
    fit(trainer)
    assert trainer.history["grad_norm"] == [0, 0, 0]
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_the_norm_in_the_history_is_that_before_clipping():
    assert "grad_norm" not in fit(make())
    free, clipped = fit(make(max_norm=math.inf)), fit(make(max_norm=1e-3))
    assert clipped["grad_norm"][0] > 0.1
    assert free["grad_norm"][0] > 0.1


def test_the_step_before_the_first_has_no_info():
    assert make().step_info is None


def test_a_skipped_step_says_so_and_has_no_norm_in_the_average():
    class Overflow(Callback):
        seen = ()

        def on_before_step(self, run):
            if run.step == 1:
                run.model[0].weight.grad[0, 0] = np.inf

        def on_step_end(self, run):
            self.seen = (*self.seen, bool(run.step_info.skipped))

    overflow = Overflow()
    trainer = make([overflow], nonfinite="skip", max_norm=1.0)
    history = fit(trainer, max_epochs=1)
    assert overflow.seen == (False, True, False, False)
    assert trainer.skipped_steps == 1
    assert math.isfinite(history["grad_norm"][0])


# Hooks after validation.


def test_validation_end_has_the_numbers_of_the_epoch():
    rows = []

    class Look(Callback):
        def on_validation_end(self, run):
            rows.append(dict(run.row))
            assert len(run.history.get("loss", [])) == run.epoch

    trainer = make([Look()])
    history = fit(trainer)
    assert rows == [
        {name: history[name][i] for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
        for i in range(3)
    ]
    rows.clear()
    fit(make([Look()]), validation_data=None)
    assert rows == []


# log.


class PerStep(Callback):
    logs = ("steps", "late")

    def on_step_end(self, run):
        run.log("steps", run.step)

    def on_epoch_end(self, run):
        run.log("late", 10 * run.epoch)


def test_logged_numbers_are_columns_of_the_history(tmp_path, capsys):
    trainer = make([PerStep(), CSVLogger(tmp_path / "h.csv")], progress=True)
    history = fit(trainer)
    assert history["steps"] == [2.5, 6.5, 10.5]  # the mean of each epoch's four
    assert history["late"] == [10, 20, 30]
    header, *rows = (tmp_path / "h.csv").read_text().splitlines()
    assert {"steps", "late"} <= set(header.split(","))
    assert float(rows[2].split(",")[header.split(",").index("late")]) == 30
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 4
    assert {"steps", "late"} <= set(table[0].split())


@pytest.mark.parametrize("at", range(1, STEPS))
def test_logged_numbers_survive_a_resume(tmp_path, at):
    options = {"max_norm": 0.5}
    expected = uninterrupted(callbacks=[PerStep()], **options)
    with pytest.raises(KilledError):
        fit(make([PerStep(), Checkpoint(tmp_path, every_n_steps=at), StopAt(at + 1)], **options))
    second = make([PerStep()], **options)
    fit(second, ckpt_path=tmp_path)
    assert everything(second) == expected


def test_a_number_that_comes_now_and_then():
    class Odd(Callback):
        def on_epoch_begin(self, run):
            if run.epoch % 2:
                run.log("odd", np.float32(0.5))

        def on_fit_end(self, run):
            run.log("at the end", 7)

    history = fit(make([Odd()]))
    np.testing.assert_array_equal(history["odd"], [math.nan, 0.5, math.nan])
    np.testing.assert_array_equal(history["at the end"], [math.nan, math.nan, 7])


def test_a_number_from_the_begin_of_a_second_fit_is_of_its_first_epoch():
    class AtBegin(Callback):
        def on_fit_begin(self, run):
            run.log("began", run.epoch)

    trainer = make([AtBegin()], scheduled=False)
    fit(trainer, max_epochs=2)
    fit(trainer, max_epochs=4)
    np.testing.assert_array_equal(trainer.history["began"], [0, math.nan, 2, math.nan])


@pytest.mark.parametrize("name", ["loss", "val_loss", "lr", "accuracy", "val_accuracy", "epoch",
                                  "grad_norm", "", 3])  # fmt: skip
def test_a_name_of_the_history_itself_is_refused(name):
    class Clash(Callback):
        def on_step_end(self, run):
            run.log(name, 0.5)

    trainer = make([Clash()])
    with pytest.raises(ValueError, match=f"log: 'name' is {name!r}, expected"):
        fit(trainer)
    assert set(trainer.history) <= {"loss"}


def test_what_is_no_number_and_where_there_is_no_epoch():
    trainer = make()
    for when in ("before", "after"):
        with pytest.raises(RuntimeError, match="log: no fit is in progress"):
            trainer.log("x", 1.0)
        if when == "before":
            fit(trainer, max_epochs=1)
    assert "x" not in trainer.history

    class Text(Callback):
        def on_step_end(self, run):
            run.log("x", "high")

    with pytest.raises(TypeError, match="log: 'value' is 'high', expected a number"):
        fit(make([Text()]))


def test_trainer_log_is_the_log_of_the_run():
    class Outside(Callback):
        def on_step_end(self, run):
            trainer.log("x", run.position)

    trainer = make([Outside()])
    assert fit(trainer, max_epochs=1)["x"] == [2.5]


def test_early_stopping_on_a_logged_number():
    class Rises(Callback):
        logs = ("auc",)

        def on_validation_end(self, run):
            run.log("auc", [0.5, 0.7, 0.6, 0.6, 0.6, 0.6][run.epoch])

    stopping = EarlyStopping("auc", patience=2)
    trainer = make([Rises(), stopping])
    fit(trainer, max_epochs=6)
    assert (trainer.epoch, stopping.best, stopping.best_epoch) == (4, 0.7, 2)


def test_a_promised_number_that_never_came():
    class Silent(Callback):
        logs = ("auc",)

    with pytest.raises(ValueError, match="EarlyStopping: 'monitor' is 'auc', expected a name that "
                       "was logged by the end of epoch 1"):  # fmt: skip
        fit(make([Silent(), EarlyStopping("auc")]))


def test_a_monitor_that_nobody_promised_is_refused_before_training():
    with pytest.raises(ValueError, match="'monitor' is 'auc'"):
        fit(make([EarlyStopping("auc")]))


# Hooks that are none.


@pytest.mark.parametrize(("name", "near"), [
    ("on_batch_end", "on_step_end"), ("on_train_begin", "on_fit_begin"),
    ("on_train_end", "on_fit_end"), ("on_epoch_ended", "on_epoch_end"),
    ("on_step_ends", "on_step_end"), ("on_train_epoch_end", "on_epoch_end"),
    ("on_before_optimizer_step", "on_before_step"), ("on_exception", "on_abort"),
    ("on_validation_epoch_end", "on_validation_end"), ("on_fit_start", "on_fit_begin"),
])  # fmt: skip
@pytest.mark.parametrize("where", ["class", "instance", "static"])
def test_a_hook_of_another_library_is_told(name, near, where):
    def method(*args):
        raise AssertionError

    body = {"class": {name: method}, "static": {name: staticmethod(method)}, "instance": {}}[where]
    callback = type("Mine", (Callback,), body)()
    if where == "instance":
        setattr(callback, name, method)
    with pytest.raises(TypeError, match=f"Mine has the method '{name}'.*did you mean '{near}'"):
        make([callback])


def test_what_is_no_hook_by_its_name_is_left_alone():
    class Mine(Callback):
        on_screen = True
        once = staticmethod(len)

    fit(make([Mine()]), max_epochs=1)


@pytest.mark.parametrize("call", [
    lambda t: t.evaluate(X, Y, batchsize=3), lambda t: t.predict(X, batchsize=3),
    lambda t: t.fit(X, Y, max_epochs=1, batchsize=3),
], ids=["evaluate", "predict", "fit"])  # fmt: skip
def test_an_unknown_keyword_is_told_with_the_nearest(call):
    with pytest.raises(TypeError, match=r"unknown keyword 'batchsize'; did you mean 'batch_size'"):
        call(make())


def test_unknown_keywords_of_callbacks():
    from onepass.train import Profile, ProgressBar, TensorBoard

    for made, word, near in [
        (lambda: EarlyStopping(monitr="loss"), "monitr", "monitor"),
        (lambda: Checkpoint("x", every_epochs=3), "every_epochs", "every_n_epochs"),
        (lambda: CSVLogger(pth="x"), "pth", "path"),
        (lambda: Profile(step=3), "step", "steps"),
        (lambda: ProgressBar(files=None), "files", "file"),
        (lambda: TensorBoard(logdir="x"), "logdir", "log_dir"),
        (lambda: Trainer.load_weights("x", None, wich="best"), "wich", "which"),
    ]:
        with pytest.raises(TypeError, match=f"unknown keyword '{word}'; did you mean '{near}'"):
            made()
