"""Schedules: PyTorch's values step by step, exact resume, and errors."""

import math
import pickle

import pytest
from onepass.optim import lr_scheduler as schedules


class Groups:
    """All that a schedule asks of an optimizer."""

    def __init__(self, *lrs, **options):
        self.param_groups = [{"lr": lr, **options} for lr in lrs]

    @property
    def lrs(self):
        return [group["lr"] for group in self.param_groups]


def warm_then_cosine(module, optimizer):
    parts = [
        module.ConstantLR(optimizer, 0.25, 3),
        module.StepLR(optimizer, 2, 0.5),
        module.CosineAnnealingLR(optimizer, 6, 0.001),
    ]
    return module.SequentialLR(optimizer, parts, [4, 9])


SHARED = {
    "constant": lambda m, o: m.ConstantLR(o, 0.2, 7),
    "constant by default": lambda m, o: m.ConstantLR(o),
    "step": lambda m, o: m.StepLR(o, 4, 0.3),
    "multi-step": lambda m, o: m.MultiStepLR(o, [3, 4, 4, 11], 0.5),
    "exponential": lambda m, o: m.ExponentialLR(o, 0.9),
    "cosine": lambda m, o: m.CosineAnnealingLR(o, 8, 0.01),
    "polynomial": lambda m, o: m.PolynomialLR(o, 12, 2.0),
    "polynomial by default": lambda m, o: m.PolynomialLR(o),
    "lambda": lambda m, o: m.LambdaLR(o, lambda t: 1 / (1 + t) ** 0.5),
    "lambdas": lambda m, o: m.LambdaLR(o, [lambda t: 0.9**t, lambda t: 1 + t]),
    "one cycle": lambda m, o: m.OneCycleLR(o, 0.5, total_steps=25),
    "one cycle, linear": lambda m, o: m.OneCycleLR(
        o, [0.5, 1.0], epochs=5, steps_per_epoch=5, anneal_strategy="linear", pct_start=0.5
    ),
    "one cycle, three phases": lambda m, o: m.OneCycleLR(
        o, 0.5, 25, three_phase=True, div_factor=10.0, final_div_factor=50.0
    ),
    "one cycle, down only": lambda m, o: m.OneCycleLR(
        o, 0.5, 25, pct_start=0.0, base_momentum=0.7, max_momentum=0.8
    ),
    "sequential": warm_then_cosine,
}
OWN = {
    "inverse time": (lambda o: schedules.InverseTimeLR(o, 0.5), lambda lr, t: lr / (1 + 0.5 * t)),
    "warm-up": (lambda o: schedules.LinearWarmup(o, 6), lambda lr, t: lr * min(1, (t + 1) / 6)),
}


def make(name, optimizer):
    return SHARED[name](schedules, optimizer) if name in SHARED else OWN[name][0](optimizer)


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"betas": (0.9, 0.999)}], ids=str)
@pytest.mark.parametrize("name", SHARED)
def test_values_are_pytorchs(name, options):
    torch = pytest.importorskip("torch")
    parameters = [torch.zeros(2, requires_grad=True) for _ in range(2)]
    groups = [{"params": [p], "lr": lr} for p, lr in zip(parameters, (0.1, 0.03), strict=True)]
    cls = torch.optim.SGD if "momentum" in options else torch.optim.Adam
    theirs_optimizer = cls(groups, **options)
    theirs = SHARED[name](torch.optim.lr_scheduler, theirs_optimizer)
    optimizer = Groups(0.1, 0.03, **options)
    ours = make(name, optimizer)
    for _ in range(25):
        assert optimizer.lrs == pytest.approx(
            [g["lr"] for g in theirs_optimizer.param_groups], rel=1e-11, abs=1e-17
        )
        assert ours.get_last_lr() == optimizer.lrs
        for own, their in zip(optimizer.param_groups, theirs_optimizer.param_groups, strict=True):
            for key in options:
                assert own[key] == pytest.approx(their[key], rel=1e-12)
        theirs_optimizer.step()
        theirs.step()
        ours.step()
    assert ours.last_epoch == theirs.last_epoch == 25


@pytest.mark.parametrize("name", OWN)
def test_values_are_the_formula(name):
    optimizer = Groups(0.1, 0.03)
    schedule = make(name, optimizer)
    for t in range(20):
        assert optimizer.lrs == [OWN[name][1](lr, t) for lr in (0.1, 0.03)]
        schedule.step()


@pytest.mark.parametrize("stop", [0, 1, 4, 5, 9, 17])
@pytest.mark.parametrize("name", [*SHARED, *OWN])
def test_resume_is_exact(name, stop):
    whole, before, after = (Groups(0.1, 0.03, momentum=0.9) for _ in range(3))
    reference, first, second = (make(name, o) for o in (whole, before, after))
    for _ in range(stop):
        reference.step()
        first.step()
    second.load_state_dict(first.state_dict())
    for _ in range(25 - stop):
        assert after.param_groups == whole.param_groups
        reference.step()
        second.step()


METRICS = [3.0, 2.0, 2.0, 2.1, 1.9999, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.6, 0.6, 0.6]
PLATEAU = [
    {"patience": 1},
    {"patience": 0, "factor": 0.5, "cooldown": 2},
    {"patience": 1, "threshold": 0.5, "threshold_mode": "abs", "min_lr": [0.02, 0.0001]},
    {"patience": 1, "mode": "max", "factor": 0.3, "eps": 0.005},
    {"patience": 0, "mode": "max", "threshold_mode": "abs"},
]


@pytest.mark.parametrize("options", PLATEAU, ids=str)
def test_plateau_is_pytorchs(options):
    torch = pytest.importorskip("torch")
    parameters = [torch.zeros(2, requires_grad=True) for _ in range(2)]
    groups = [{"params": [p], "lr": lr} for p, lr in zip(parameters, (0.1, 0.03), strict=True)]
    theirs_optimizer = torch.optim.SGD(groups)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs_optimizer, **options)
    optimizer = Groups(0.1, 0.03)
    ours = schedules.ReduceLROnPlateau(optimizer, **options)
    lowered = False
    for number, metric in enumerate(METRICS):
        if number == 9:  # somebody else changes the rate
            for own, their in zip(
                optimizer.param_groups, theirs_optimizer.param_groups, strict=True
            ):
                own["lr"] = their["lr"] = 0.07
        theirs.step(metric)
        ours.step(metric)
        assert optimizer.lrs == [g["lr"] for g in theirs_optimizer.param_groups]
        lowered |= optimizer.lrs[0] < 0.1
    assert lowered


@pytest.mark.parametrize("stop", range(len(METRICS)))
def test_plateau_resumes_exactly(stop):
    whole, after = Groups(0.1), Groups(0.1)
    reference = schedules.ReduceLROnPlateau(whole, patience=1, cooldown=1)
    second = schedules.ReduceLROnPlateau(after, patience=1, cooldown=1)
    for number, metric in enumerate(METRICS):
        if number == stop:
            second.load_state_dict(reference.state_dict())
        reference.step(metric)
        if number >= stop:
            second.step(metric)
            assert after.lrs == whole.lrs


def test_beginning_in_the_middle():
    optimizer = Groups(0.1)
    optimizer.param_groups[0]["initial_lr"] = 0.2
    schedule = schedules.ExponentialLR(optimizer, 0.5, last_epoch=2)
    assert optimizer.lrs == [0.2 * 0.5**3]
    assert schedule.last_epoch == 3


def plateau(**options):
    return schedules.ReduceLROnPlateau(Groups(1), **options)


WRONG = {
    "no optimizer": (TypeError, "param_groups", lambda: schedules.StepLR([], 1)),
    "gap": (ValueError, "milestones", lambda: sequential([1, 2])),
    "disorder": (ValueError, "ascending", lambda: sequential([3, 1], 3)),
    "plateau inside": (ValueError, "ReduceLROnPlateau", lambda: sequential([], 0)),
    "another optimizer": (ValueError, "another optimizer", lambda: stranger()),
    "no steps": (ValueError, "total_steps", lambda: schedules.OneCycleLR(Groups(1), 1.0)),
    "no momentum": (ValueError, "momentum", lambda: schedules.OneCycleLR(Groups(1), 1.0, 9)),
    "step size": (ValueError, "'step_size' is 0", lambda: schedules.StepLR(Groups(1), 0)),
    "warm-up": (ValueError, "'steps' is 0", lambda: schedules.LinearWarmup(Groups(1), 0)),
    "T_max": (ValueError, "'T_max' is 0", lambda: schedules.CosineAnnealingLR(Groups(1), 0)),
    "decay": (ValueError, "'decay' is -1", lambda: schedules.InverseTimeLR(Groups(1), -1)),
    "factor": (
        ValueError,
        "'factor' is 2",
        lambda: plateau(factor=2),
    ),
    "gamma": (ValueError, "'gamma' is nan", lambda: schedules.ExponentialLR(Groups(1), math.nan)),
    "no number": (TypeError, "'gamma' is 'a'", lambda: schedules.StepLR(Groups(1), 2, "a")),
    "patience": (
        ValueError,
        "patience",
        lambda: schedules.ReduceLROnPlateau(Groups(1), patience=-1),
    ),
    "one milestone": (TypeError, "'milestones' is 5", lambda: schedules.MultiStepLR(Groups(1), 5)),
    "no step": (
        TypeError,
        r"'milestones\[1\]' is 1\.5",
        lambda: schedules.MultiStepLR(Groups(1), [1, 1.5]),
    ),
    "no list": (TypeError, "'schedulers' is 3", lambda: schedules.SequentialLR(Groups(1), 3, [])),
    "empty": (
        ValueError,
        r"'schedulers' is \[\], expected at least one",
        lambda: schedules.SequentialLR(Groups(1), [], []),
    ),
    "no schedule": (TypeError, "int", lambda: schedules.SequentialLR(Groups(1), [3], [])),
    "mode": (
        ValueError,
        "'mode' is 'best'",
        lambda: plateau(mode="best"),
    ),
    "count": (ValueError, "2", lambda: schedules.LambdaLR(Groups(1, 2), [math.sqrt])),
    "metric": (ValueError, "metric", lambda: schedules.ReduceLROnPlateau(Groups(1)).step()),
    "middle": (ValueError, "initial_lr", lambda: schedules.StepLR(Groups(1), 2, last_epoch=4)),
}


def sequential(milestones, count=2):
    optimizer = Groups(1.0)
    parts = [schedules.StepLR(optimizer, 1) for _ in range(count)]
    parts = parts or [schedules.ReduceLROnPlateau(optimizer)]
    return schedules.SequentialLR(optimizer, parts, milestones)


def stranger():
    return schedules.SequentialLR(Groups(1.0), [schedules.StepLR(Groups(1.0), 1)], [])


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use(case):
    kind, words, call = WRONG[case]
    with pytest.raises(kind, match=words):
        call()


def test_a_refused_schedule_leaves_the_optimizer_alone():
    def fails(step):
        raise RuntimeError("no rate")

    optimizer = Groups(1.0, momentum=0.9)
    before = [dict(group) for group in optimizer.param_groups]
    for make in (
        lambda: schedules.LambdaLR(optimizer, fails),
        lambda: schedules.OneCycleLR(optimizer, -1.0, total_steps=3),
    ):
        with pytest.raises((RuntimeError, ValueError)):
            make()
        assert optimizer.param_groups == before


def test_one_cycle_ends():
    optimizer = Groups(1.0, momentum=0.9)
    schedule = schedules.OneCycleLR(optimizer, 1.0, total_steps=3)
    for _ in range(3):
        schedule.step()
    before = [dict(group) for group in optimizer.param_groups]
    with pytest.raises(ValueError, match="'total_steps' is 3, expected at least 4"):
        schedule.step()
    assert optimizer.param_groups == before


@pytest.mark.parametrize("state", [{}, {"type": "StepLR", "last_epoch": 1, "base_lrs": [1.0]}])
def test_foreign_state(state):
    schedule = schedules.ExponentialLR(Groups(0.1), 0.5)
    with pytest.raises(ValueError, match="state_dict"):
        schedule.load_state_dict(state)
    assert schedule.last_epoch == 0


@pytest.mark.parametrize("name", schedules.__all__)
def test_pickles_name_the_public_path(name):
    """A pickle of any version finds the class by ``onepass.optim.lr_scheduler.<Name>``."""
    cls = getattr(schedules, name)
    assert cls.__module__ == "onepass.optim.lr_scheduler"
    assert pickle.loads(pickle.dumps(cls)) is cls


def test_a_schedule_is_pickled_whole():
    """With its annealing function, which pickles of earlier versions name as well."""
    schedule = schedules.OneCycleLR(Groups(0.1, momentum=0.9), 0.5, total_steps=5)
    copy = pickle.loads(pickle.dumps(schedule))
    assert [copy.rates(t) for t in range(5)] == [schedule.rates(t) for t in range(5)]
    assert b"lr_scheduler._" not in pickle.dumps(schedule)
