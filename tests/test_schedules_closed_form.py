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
