"""A trainer's schedule: of its own optimizer, stepped when its interval says, for as long as the
training lasts; rates that a callback sets; resumes."""

import copy
import pickle

import numpy as np
import pytest
from onepass import nn, optim
from onepass.optim import lr_scheduler as schedules
from onepass.train import Callback, Trainer, find_lr
from small_training import BATCH, EPOCHS, STEPS, X, Y, everything, fit, network

A_STEP = STEPS // EPOCHS


def trainer_of(make_schedule, callbacks=(), cls=optim.SGD, **options):
    model = network()
    optimizer = cls(model.parameters(), lr=0.1)
    schedule = make_schedule(optimizer)
    return Trainer(
        model, nn.CrossEntropyLoss(), optimizer, scheduler=schedule, callbacks=callbacks,
        progress=False, **options,
    )  # fmt: skip


class Rates(Callback):
    """The rate of every step."""

    def __init__(self):
        self.seen = []

    def on_step_end(self, run):
        self.seen.append(run.lr)


# ----------------------------------------------------------- a schedule of another optimizer


def other():
    return optim.SGD(network(1).parameters(), lr=0.1)


def in_a_sequence(optimizer):
    return schedules.SequentialLR(optimizer, [schedules.StepLR(optimizer, 1)], [])


STRANGERS = {
    "another optimizer": lambda o: schedules.StepLR(other(), 1),
    "a plateau": lambda o: schedules.ReduceLROnPlateau(other()),
    "one over the same parameters": lambda o: schedules.StepLR(
        optim.SGD(o.param_groups[0]["params"], lr=0.1), 1
    ),
    "a deep copy": lambda o: schedules.StepLR(copy.deepcopy(o), 1),
    "unpickled": lambda o: schedules.StepLR(pickle.loads(pickle.dumps(o)), 1),
    "a copied schedule": lambda o: copy.deepcopy(schedules.StepLR(o, 1)),
    "in a sequence": lambda o: in_a_sequence(other()),
}


@pytest.mark.parametrize("case", STRANGERS)
def test_a_schedule_of_another_optimizer_is_refused(case):
    """It would step, and the trainer's rate would never change."""
    with pytest.raises(ValueError, match=r"'scheduler' is a .* of another optimizer, expected"):
        trainer_of(STRANGERS[case])


def test_a_schedule_of_another_optimizer_inside_a_schedule_of_ones_own_is_refused():
    class Both(schedules.LRScheduler):
        def __init__(self, optimizer):
            self.schedulers = [schedules.StepLR(other(), 1)]
            super().__init__(optimizer)

        def rate(self, lr, t, group):
            return lr

    with pytest.raises(ValueError, match="'scheduler' is a StepLR of another optimizer"):
        trainer_of(Both)


@pytest.mark.parametrize("part", ["scheduler", "optimizer"])
def test_a_schedule_or_optimizer_exchanged_later_is_refused_by_fit(part):
    trainer = trainer_of(lambda o: schedules.StepLR(o, 1))
    if part == "scheduler":
        trainer.scheduler = schedules.StepLR(other(), 1)
    else:
        trainer.optimizer = optim.SGD(trainer.model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="of another optimizer"):
        fit(trainer)
    assert trainer.step == 0


def test_a_class_is_no_schedule():
    with pytest.raises(TypeError, match=r"'scheduler' is the class StepLR, expected StepLR\(opt"):
        trainer_of(lambda o: schedules.StepLR)


def test_an_interval_that_is_none_is_refused():
    """It would never be stepped."""
    trainer = trainer_of(lambda o: schedules.StepLR(o, 1))
    trainer.scheduler.interval = "batch"
    with pytest.raises(ValueError, match=r"'scheduler\.interval' is 'batch', expected 'epoch' or"):
        fit(trainer)


def test_find_lr_leaves_the_schedule_as_it_was():
    trainer = trainer_of(lambda o: schedules.ExponentialLR(o, 0.5, interval="step"))
    before = trainer.scheduler.state_dict()
    find_lr(trainer, X, Y, steps=8, batch_size=BATCH)
    assert trainer.scheduler.state_dict() == before
    rates = Rates()
    trainer.callbacks.append(rates)
    fit(trainer, max_epochs=1)
    assert rates.seen == [0.1 * 0.5**t for t in range(A_STEP)]


def test_a_copied_trainer_schedules_its_own_optimizer():
    trainer = trainer_of(lambda o: schedules.ExponentialLR(o, 0.5))
    model, optimizer, schedule = copy.deepcopy(
        (trainer.model, trainer.optimizer, trainer.scheduler)
    )
    twin = Trainer(model, nn.CrossEntropyLoss(), optimizer, scheduler=schedule, progress=False)
    fit(twin, max_epochs=2)
    assert optimizer.param_groups[0]["lr"] == 0.025
    assert trainer.optimizer.param_groups[0]["lr"] == 0.1


# ----------------------------------------------------------- interval


INTERVALS = {
    "step size in epochs": (lambda o: schedules.StepLR(o, 2), lambda s, e: 0.1 ** (e // 2)),
    "a cosine over the epochs": (
        lambda o: schedules.CosineAnnealingLR(o, EPOCHS),
        lambda s, e: (1 + np.cos(np.pi * e / EPOCHS)) / 2,
    ),
    "by step": (
        lambda o: schedules.StepLR(o, 2, interval="step"), lambda s, e: 0.1 ** (s // 2),
    ),
    "a warm-up": (lambda o: schedules.LinearWarmup(o, 6), lambda s, e: min(1, (s + 1) / 6)),
    "a warm-up in epochs": (
        lambda o: schedules.LinearWarmup(o, 3, interval="epoch"), lambda s, e: (e + 1) / 3,
    ),
    "a sequence that holds a warm-up": (
        lambda o: schedules.SequentialLR(
            o, [schedules.LinearWarmup(o, 4), schedules.StepLR(o, 3, 0.5)], [4]),
        lambda s, e: (s + 1) / 4 if s < 4 else 0.5 ** ((s - 4) // 3),
    ),
    "a sequence in epochs": (
        lambda o: schedules.SequentialLR(
            o, [schedules.ConstantLR(o, 0.5, 9), schedules.StepLR(o, 1, 0.1)], [1]),
        lambda s, e: 0.5 if e < 1 else 0.1 ** (e - 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("case", INTERVALS)
def test_the_rate_of_every_step(case, accumulate):
    make, factor = INTERVALS[case]
    rates = Rates()
    trainer = trainer_of(make, [rates], accumulate=accumulate)
    fit(trainer)
    per_epoch = -(-A_STEP // accumulate)
    expected = [0.1 * factor(s, s // per_epoch) for s in range(EPOCHS * per_epoch)]
    assert rates.seen == pytest.approx(expected, rel=1e-12)


def test_a_schedule_without_an_interval_counts_epochs():
    class Mine:
        steps = 0

        def step(self):
            self.steps += 1

        def state_dict(self):
            return {}

    trainer = trainer_of(lambda o: Mine())
    fit(trainer)
    assert trainer.scheduler.steps == EPOCHS


@pytest.mark.parametrize("stop", [3, A_STEP, A_STEP + 1])
@pytest.mark.parametrize("case", INTERVALS)
def test_a_resume_anywhere_is_exact(case, stop, tmp_path):
    make, _ = INTERVALS[case]

    class Stop(Callback):
        def on_step_end(self, run):
            run.stop = run.step == stop

    whole = trainer_of(make)
    fit(whole)
    expected = everything(whole)
    first = trainer_of(make, [Stop()])
    fit(first)
    first.stop = False
    first.save(tmp_path)
    second = trainer_of(make)
    fit(second, ckpt_path=tmp_path)
    assert everything(second) == expected


# ----------------------------------------------------------- rates set by hand


def test_a_rate_that_a_callback_sets_is_kept():
    class Halve(Callback):
        def on_epoch_end(self, run):
            if run.epoch == 1:
                run.optimizer.param_groups[0]["lr"] /= 2

    rates = Rates()
    fit(trainer_of(lambda o: schedules.ExponentialLR(o, 0.5), [rates, Halve()]))
    assert rates.seen[::A_STEP] == pytest.approx([0.1, 0.025, 0.0125])


def test_a_callback_may_cut_the_rate_inside_an_epoch():
    class Cut(Callback):
        def on_step_end(self, run):
            if run.step == 2:
                run.optimizer.param_groups[0]["lr"] = 0.01

    rates = Rates()
    fit(trainer_of(lambda o: schedules.StepLR(o, 1, 0.5), [rates, Cut()]))
    assert rates.seen[1:3] == [0.1, 0.01]
    assert rates.seen[A_STEP] == pytest.approx(0.005)


# ----------------------------------------------------------- its length


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda o: schedules.OneCycleLR(o, 0.5, 10), {}, "goes on for 12 steps, expected at most"),
        (lambda o: schedules.OneCycleLR(o, 0.5, 2, interval="epoch"), {}, "goes on for 3 epochs"),
        (lambda o: schedules.OneCycleLR(o, 0.5, 5), {"accumulate": 2}, "goes on for 6 steps"),
        (
            lambda o: schedules.SequentialLR(
                o, [schedules.LinearWarmup(o, 3), schedules.OneCycleLR(o, 0.5, 8)], [3]
            ),
            {},
            "SequentialLR goes on for 12 steps, expected at most its total_steps=11",
        ),
    ],
    ids=["steps", "epochs", "accumulated", "sequence"],
)
def test_a_schedule_that_ends_before_the_training_is_refused_before_it(make, options, words):
    trainer = trainer_of(make, cls=optim.AdamW, **options)
    with pytest.raises(ValueError, match=rf"fit: 'max_epochs' is 3, for which .*{words}"):
        fit(trainer)
    assert trainer.step == 0


def test_a_schedule_of_just_the_length_of_the_training():
    trainer = trainer_of(lambda o: schedules.OneCycleLR(o, 0.5, STEPS), cls=optim.AdamW)
    fit(trainer, max_epochs=1)
    fit(trainer)
    assert trainer.scheduler.last_epoch == STEPS
    with pytest.raises(ValueError, match="goes on for 16 steps, expected at most"):
        fit(trainer, max_epochs=EPOCHS + 1)


def test_the_length_is_checked_for_a_resume_too(tmp_path):
    def made(total):
        return trainer_of(lambda o: schedules.OneCycleLR(o, 0.5, total), cls=optim.AdamW)

    first = made(STEPS)
    fit(first, max_epochs=1)
    first.save(tmp_path)
    fit(made(STEPS), ckpt_path=tmp_path)
    with pytest.raises(ValueError, match="goes on for 12 steps"):
        fit(made(11), ckpt_path=tmp_path)


@pytest.mark.parametrize("stop", [1, A_STEP - 1, A_STEP + 2])
def test_a_resume_inside_an_epoch_needs_no_more_steps(stop, tmp_path):
    class Stop(Callback):
        def on_step_end(self, run):
            run.stop = run.step == stop

    def made(callbacks=()):
        make = lambda o: schedules.OneCycleLR(o, 0.5, STEPS)  # noqa: E731
        return trainer_of(make, callbacks, cls=optim.AdamW)

    first = made([Stop()])
    fit(first)
    first.stop = False
    first.save(tmp_path)
    second = made()
    fit(second, ckpt_path=tmp_path)
    assert second.scheduler.last_epoch == STEPS


def test_a_linear_one_cycle_can_be_saved_at_its_end(tmp_path):
    trainer = trainer_of(
        lambda o: schedules.OneCycleLR(o, 0.5, STEPS, pct_start=0.5, anneal_strategy="linear"),
        cls=optim.AdamW,
    )
    fit(trainer)
    trainer.save(tmp_path)


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_a_schedule_that_raises_leaves_the_run_whole_or_the_next_fit_says_why_not(interval):
    """Not one epoch with two rows, nor steps whose rates are one behind."""
    trainer = trainer_of(
        lambda o: schedules.LambdaLR(o, lambda t: 1 / (2 - t), interval=interval)  # fails at 2
    )
    for _ in range(2):
        with pytest.raises((ZeroDivisionError, RuntimeError)) as error:
            trainer.fit(X, Y, max_epochs=EPOCHS, batch_size=BATCH, validation_data=(X, Y))
        assert len(dict(trainer.history).get("loss", ())) == (1 if interval == "epoch" else 0)
    if interval == "step":  # the optimizer has taken the step that the schedule has not
        assert "interrupted inside a step, which is half done" in str(error.value)
    else:
        assert error.type is ZeroDivisionError
        assert trainer.step == 2 * A_STEP
