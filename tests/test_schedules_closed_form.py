"""Every schedule is there and has PyTorch's closed form, over 60 steps, two groups and a resume."""

import inspect
import json

import numpy as np
import pytest
from onepass import optim
from onepass.optim import lr_scheduler as ours

STEPS = 60
# Every schedule by its name: what makes it, of PyTorch's module or of ours.
MAKE = {
    "ConstantLR": lambda m, o: m.ConstantLR(o, 0.3, 17),
    "StepLR": lambda m, o: m.StepLR(o, 9, 0.4),
    "MultiStepLR": lambda m, o: m.MultiStepLR(o, [3, 21, 22, 50], 0.5),
    "ExponentialLR": lambda m, o: m.ExponentialLR(o, 0.93),
    "CosineAnnealingLR": lambda m, o: m.CosineAnnealingLR(o, 25, 0.002),  # up and down again
    "PolynomialLR": lambda m, o: m.PolynomialLR(o, 41, 1.7),
    "LambdaLR": lambda m, o: m.LambdaLR(o, [lambda t: 0.9**t, lambda t: 1 / (1 + t)]),
    "OneCycleLR": lambda m, o: m.OneCycleLR(o, [0.5, 0.9], STEPS + 5, cycle_momentum=False),
    "SequentialLR": lambda m, o: m.SequentialLR(
        o, [m.ConstantLR(o, 0.1, 5), m.ExponentialLR(o, 0.9), m.StepLR(o, 7, 0.5)], [5, 30]
    ),
    "ReduceLROnPlateau": lambda m, o: m.ReduceLROnPlateau(o, patience=3, factor=0.5, cooldown=2),
    "InverseTimeLR": lambda m, o: m.InverseTimeLR(o, 0.3),
    "HarmonicLR": lambda m, o: m.HarmonicLR(o, 2.0, 8.0, 7),
    "LinearWarmup": lambda m, o: m.LinearWarmup(o, 23),
}
# Those that PyTorch does not have: rate, t → rate.
FORMULA = {
    "InverseTimeLR": lambda lr, t: lr / (1 + 0.3 * t),
    "HarmonicLR": lambda lr, t: 2.0 / (t // 7 + 8.0),
    "LinearWarmup": lambda lr, t: lr * min(1, (t + 1) / 23),
}
RATES = (0.1, 0.03)
# Those that are made for a number of steps.
OF_LENGTH = {
    "CosineAnnealingLR": lambda o, n: ours.CosineAnnealingLR(o, n),
    "PolynomialLR": lambda o, n: ours.PolynomialLR(o, n),
    "StepLR": lambda o, n: ours.StepLR(o, n // 3),
    "MultiStepLR": lambda o, n: ours.MultiStepLR(o, [n // 2, 3 * n // 4]),
    "ExponentialLR": lambda o, n: ours.ExponentialLR(o, 0.01 ** (1 / n)),
    "InverseTimeLR": lambda o, n: ours.InverseTimeLR(o, 10 / n),
    "HarmonicLR": lambda o, n: ours.HarmonicLR(o, 2.0, 8.0, n // 3),
    "ConstantLR": lambda o, n: ours.ConstantLR(o, 0.3, n // 2),
    "LinearWarmup": lambda o, n: ours.LinearWarmup(o, n),
    "LambdaLR": lambda o, n: ours.LambdaLR(o, lambda t: 1 - t / (2 * n)),
    "OneCycleLR": lambda o, n: ours.OneCycleLR(o, [0.5, 0.9], n, cycle_momentum=False),
    "SequentialLR": lambda o, n: ours.SequentialLR(
        o, [ours.LinearWarmup(o, n // 4), ours.CosineAnnealingLR(o, n - n // 4)], [n // 4]
    ),
}
METRICS = [1 / (1 + t % 13) for t in range(STEPS)]


def optimizer():
    groups = [{"params": [np.ones(1)], "lr": lr} for lr in RATES]
    return optim.SGD(groups, lr=1.0)


def stepped(schedule, t):
    schedule.step(*[METRICS[t]] * (type(schedule).__name__ == "ReduceLROnPlateau"))


def lrs(of):
    return [float(group["lr"]) for group in of.param_groups]


def test_every_schedule_is_here():
    classes = {n for n in ours.__all__ if inspect.isclass(getattr(ours, n))} - {"LRScheduler"}
    assert classes == set(MAKE)
    assert classes - set(OF_LENGTH) == {"ReduceLROnPlateau"}, "which has no length"


@pytest.mark.parametrize("name", sorted(set(MAKE) - set(FORMULA)))
def test_sixty_steps_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in RATES]
    their_optimizer = torch.optim.SGD(groups, lr=1.0)
    theirs = MAKE[name](torch.optim.lr_scheduler, their_optimizer)
    own = optimizer()
    schedule = MAKE[name](ours, own)
    closed = getattr(theirs, "_get_closed_form_lr", None)
    their_optimizer.step()
    for t in range(STEPS):
        want = lrs(their_optimizer) if closed is None else closed()
        assert lrs(own) == pytest.approx(want, rel=1e-12, abs=1e-17), f"step {t}"
        assert lrs(own) == pytest.approx(lrs(their_optimizer), rel=1e-9, abs=1e-15), f"step {t}"
        stepped(theirs, t)
        stepped(schedule, t)


@pytest.mark.parametrize("name", FORMULA)
def test_sixty_steps_are_the_formula(name):
    own = optimizer()
    schedule = MAKE[name](ours, own)
    for t in range(STEPS):
        assert lrs(own) == pytest.approx([FORMULA[name](lr, t) for lr in RATES], rel=1e-15)
        schedule.step()


@pytest.mark.parametrize("name", MAKE)
def test_a_resumed_schedule_has_the_same_rates(name):
    whole = optimizer()
    schedule = MAKE[name](ours, whole)
    for t in range(STEPS):
        if t == 31:
            states = json.loads(json.dumps(schedule.state_dict())), whole.state_dict()
            again = optimizer()
            loaded = MAKE[name](ours, again)
            again.load_state_dict(states[1])
            loaded.load_state_dict(states[0])
        stepped(schedule, t)
        if t >= 31:
            stepped(loaded, t)
            assert lrs(again) == lrs(whole), f"step {t}"


@pytest.mark.parametrize("stop", [5, 12])
@pytest.mark.parametrize("lengths", [(12, 24), (24, 12)])
@pytest.mark.parametrize("name", OF_LENGTH)
def test_a_schedule_of_another_length_goes_on_with_its_own_rates(name, lengths, stop):
    """From the resume on, not from the step after it; up to where the shorter of both ends."""
    check_another_length(name, lengths, stop)


@pytest.mark.parametrize("name", OF_LENGTH)
def test_an_optimizer_loaded_after_its_schedule_brings_the_rate_before_for_one_step(name):
    check_another_length(name, (12, 24), 5, late=True)
    check_another_length(name, (12, 24), 12, late=True)


def check_another_length(name, lengths, stop, late=False):
    short, whole, again = optimizer(), optimizer(), optimizer()
    schedule, expected = (
        OF_LENGTH[name](o, n) for o, n in zip((short, whole), lengths, strict=True)
    )
    for t in range(stop):
        stepped(schedule, t)
        stepped(expected, t)
    states = json.loads(json.dumps(schedule.state_dict())), short.state_dict()
    if not late:
        again.load_state_dict(states[1])
    loaded = OF_LENGTH[name](again, lengths[1])
    loaded.load_state_dict(states[0])
    if late:
        again.load_state_dict(states[1])
    for t in range(stop, lengths[1]):
        assert (late and t == stop) or lrs(again) == lrs(whole), f"step {t}"
        stepped(loaded, t)
        stepped(expected, t)
    assert lrs(again) == lrs(whole)


@pytest.mark.parametrize("when", ["before a step", "after the last"])
@pytest.mark.parametrize("name", OF_LENGTH)
def test_a_rate_set_by_hand_outlives_a_resume_to_another_length(name, when):
    """It is the rate of the step after the resume, and the schedule goes on from it."""
    short, again = optimizer(), optimizer()
    schedule = OF_LENGTH[name](short, 12)
    for t in range(5):
        if t == 3 and when == "before a step":
            short.param_groups[0]["lr"] *= 0.5
        stepped(schedule, t)
    if when == "after the last":
        short.param_groups[0]["lr"] *= 0.5
    longer = OF_LENGTH[name](again, 24)
    again.load_state_dict(short.state_dict())
    longer.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    expected = OF_LENGTH[name](optimizer(), 24).rates(5)
    share = 0.5
    if when == "before a step":
        assert lrs(again) == pytest.approx([expected[0] * share, expected[1]], rel=1e-12)
    else:
        assert lrs(again)[0] == lrs(short)[0]
        share = lrs(short)[0] / expected[0]
    after = OF_LENGTH[name](optimizer(), 24).rates(6)
    stepped(longer, 5)
    assert lrs(again) == pytest.approx([after[0] * share, after[1]], rel=1e-12)
