"""Schedules: PyTorch's values step by step, exact resume, and errors."""

import math
import pickle
import threading

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
    "harmonic": (lambda o: schedules.HarmonicLR(o, 0.5, 10, 4), lambda lr, t: 0.5 / (t // 4 + 10)),
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


def between(start, end, done):
    """Half a cosine."""
    return start + (end - start) * math.sin(math.pi / 2 * done) ** 2


# (what it makes, t → rate) at base rate 0.1, written down without PyTorch
CURVES = {
    "cosine with a floor": (
        lambda o: schedules.CosineAnnealingLR(o, 8, 0.01), lambda t: between(0.1, 0.01, t / 8),
    ),
    "one cycle": (
        lambda o: schedules.OneCycleLR(o, 0.5, 20),
        lambda t: between(0.02, 0.5, t / 5) if t <= 5 else between(0.5, 2e-6, (t - 5) / 14),
    ),
    "one cycle, linear": (
        lambda o: schedules.OneCycleLR(o, 0.5, 20, anneal_strategy="linear", div_factor=5.0),
        lambda t: 0.1 + 0.4 * t / 5 if t <= 5 else 0.5 - (0.5 - 1e-5) * (t - 5) / 14,
    ),
    "one cycle, three phases": (
        lambda o: schedules.OneCycleLR(o, 0.5, 20, three_phase=True),
        lambda t: between(0.02, 0.5, t / 5) if t <= 5
        else between(0.5, 0.02, (t - 5) / 5) if t <= 10 else between(0.02, 2e-6, (t - 10) / 9),
    ),
    "constant, then steps": (
        lambda o: schedules.SequentialLR(
            o, [schedules.ConstantLR(o, 0.25, 3), schedules.StepLR(o, 2, 0.5)], [4]),
        lambda t: 0.025 if t < 3 else 0.1 if t < 4 else 0.1 * 0.5 ** ((t - 4) // 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CURVES)
def test_values_are_the_curve(name):
    optimizer = Groups(0.1, momentum=0.9)
    make, rate = CURVES[name]
    schedule = make(optimizer)
    for t in range(20):
        assert optimizer.lrs == pytest.approx([rate(t)], rel=1e-12)
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


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("value", [-1.0, -1e-30, -1e30, 0.0, 1.0, math.inf, -math.inf, math.nan])
def test_a_plateau_of_any_number_is_a_plateau(value, mode):
    """The case of the field: -1.0 shown six times with patience 2."""
    optimizer = Groups(1.0)
    schedule = schedules.ReduceLROnPlateau(optimizer, mode, factor=0.5, patience=2)
    for _ in range(4):
        schedule.step(value)
    first_is_better = not math.isnan(value) and value != (math.inf if mode == "min" else -math.inf)
    for _ in range(2):
        schedule.step(value)
    assert optimizer.lrs == [0.5 if first_is_better else 0.25]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("best", [-2.0, 0.0, 2.0])
def test_better_means_by_a_margin_on_either_side_of_zero(best, mode):
    towards = -1.0 if mode == "min" else 1.0
    for moved in (0.25, 0.75, -0.75):
        schedule = schedules.ReduceLROnPlateau(Groups(1.0), mode, threshold=0.25)
        schedule.step(best)
        value = best + towards * moved
        schedule.step(value)
        better = moved > 0.25 * abs(best)
        assert schedule.best == (value if better else best)


def test_a_plateau_of_negative_numbers_that_improves_is_none():
    optimizer = Groups(1.0)
    schedule = schedules.ReduceLROnPlateau(optimizer, patience=0)
    for step in range(10):
        schedule.step(-1.0 - 0.01 * step)
    assert optimizer.lrs == [1.0]


def test_a_refused_metric_changes_nothing():
    schedule = plateau(patience=0)
    schedule.step(1.0)
    before = schedule.state_dict()
    for wrong, kind in (("x", TypeError), (None, ValueError), ([1.0, 2.0], TypeError)):
        with pytest.raises(kind, match="'metric'"):
            schedule.step(wrong)
    assert schedule.state_dict() == before


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
    "twice": (ValueError, "2 ascending steps", lambda: sequential([3, 3], 3)),
    "never": (
        ValueError,
        r"'milestones\[0\]' is 0, expected a whole number >= 1",
        lambda: sequential([0]),
    ),
    "one schedule twice": (ValueError, "one schedule twice", lambda: twice()),
    "falling milestones": (
        ValueError,
        r"MultiStepLR: 'milestones' is \[30, 8\], expected steps in ascending order",
        lambda: schedules.MultiStepLR(Groups(1), [30, 8]),
    ),
    "milestone 0": (
        ValueError,
        r"'milestones\[0\]' is 0",
        lambda: schedules.MultiStepLR(Groups(1), [0, 3]),
    ),
    "interval": (
        ValueError,
        "StepLR: 'interval' is 'batch', expected 'epoch' or 'step'",
        lambda: schedules.StepLR(Groups(1), 2, interval="batch"),
    ),
    "harmonic scale": (
        ValueError,
        "'scale' is 0, expected a number > 0",
        lambda: schedules.HarmonicLR(Groups(1), 0, 10, 1),
    ),
    "harmonic shift": (
        ValueError,
        "'shift' is -1",
        lambda: schedules.HarmonicLR(Groups(1), 1, -1, 1),
    ),
    "harmonic period": (
        TypeError,
        r"'period' is 1\.5",
        lambda: schedules.HarmonicLR(Groups(1), 1, 10, 1.5),
    ),
    "no function": (
        TypeError,
        "'lr_lambda' is 0.5, expected a function",
        lambda: schedules.LambdaLR(Groups(1), 0.5),
    ),
    "no functions": (TypeError, "expected a function", lambda: schedules.LambdaLR(Groups(1), [1])),
    "a word": (TypeError, "expected a function", lambda: schedules.LambdaLR(Groups(1), "x")),
    "lambda nan": (
        ValueError,
        r"'lr_lambda\(0\)' is nan",
        lambda: schedules.LambdaLR(Groups(1), lambda t: math.nan),
    ),
    "lambda negative": (
        ValueError,
        r"'lr_lambda\(0\)' is -1",
        lambda: schedules.LambdaLR(Groups(1), lambda t: -1),
    ),
    "lambda word": (
        TypeError,
        r"'lr_lambda\(0\)' is '1'",
        lambda: schedules.LambdaLR(Groups(1), lambda t: "1"),
    ),
    "lambda None": (
        TypeError,
        r"'lr_lambda\(0\)' is None",
        lambda: schedules.LambdaLR(Groups(1), lambda t: None),
    ),
    "rate": (ValueError, "StepLR: 'lr' is nan", lambda: schedules.StepLR(Groups(math.nan), 1)),
    "plateau factor": (
        ValueError,
        "'factor' is 0, expected a number > 0 and < 1",
        lambda: plateau(factor=0),
    ),
    "plateau factor 1": (ValueError, r"'factor' is 1\.0", lambda: plateau(factor=1.0)),
    "cooldown": (TypeError, r"'cooldown' is 0\.5", lambda: plateau(cooldown=0.5)),
    "threshold": (ValueError, r"'threshold' is -0\.1", lambda: plateau(threshold=-0.1)),
    "threshold mode": (ValueError, "'threshold_mode' is 'x'", lambda: plateau(threshold_mode="x")),
    "least": (ValueError, "'min_lr' is -1", lambda: plateau(min_lr=-1)),
    "least of one": (ValueError, r"'min_lr\[0\]' is -1", lambda: plateau(min_lr=[-1])),
    "least of two": (
        ValueError,
        r"'min_lr' is \[0, 1\], expected one number or 1",
        lambda: plateau(min_lr=[0, 1]),
    ),
    "metric word": (TypeError, "'metric' is 'x'", lambda: plateau().step("x")),
    "div_factor": (
        ValueError,
        r"OneCycleLR: 'div_factor' is 0\.0, expected a number > 0",
        lambda: cycle(div_factor=0.0),
    ),
    "div_factor inf": (ValueError, "'div_factor' is inf", lambda: cycle(div_factor=math.inf)),
    "final_div_factor": (
        ValueError,
        "'final_div_factor' is -1",
        lambda: cycle(final_div_factor=-1),
    ),
    "max_lr": (ValueError, "'max_lr' is 0, expected a number > 0", lambda: cycle(max_lr=0)),
    "max_lr nan": (ValueError, r"'max_lr\[0\]' is nan", lambda: cycle(max_lr=[math.nan])),
    "pct_start": (ValueError, r"'pct_start' is 1\.1", lambda: cycle(pct_start=1.1)),
    "pct_start word": (TypeError, "'pct_start' is '0.3'", lambda: cycle(pct_start="0.3")),
    "three phases": (
        ValueError,
        r"'pct_start' is 0\.6, expected a number >= 0 and <= 0\.5",
        lambda: cycle(pct_start=0.6, three_phase=True),
    ),
    "base_momentum": (
        ValueError,
        "'base_momentum' is 1, expected a number >= 0 and < 1",
        lambda: cycle(base_momentum=1),
    ),
    "max_momentum": (ValueError, r"'max_momentum' is -0\.1", lambda: cycle(max_momentum=-0.1)),
    "epochs": (
        ValueError,
        "'epochs' is 0",
        lambda: cycle(total_steps=None, epochs=0, steps_per_epoch=5),
    ),
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


def twice():
    optimizer = Groups(1.0)
    part = schedules.StepLR(optimizer, 1)
    return schedules.SequentialLR(optimizer, [part, part], [3])


def cycle(**options):
    options = {"max_lr": 0.5, "total_steps": 9, **options}
    return schedules.OneCycleLR(Groups(1.0, momentum=0.9), **options)


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


@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_one_cycle_never_goes_below_its_end(strategy):
    """The step() after the last step of a training is one beyond the curve."""
    optimizer = Groups(1.0, momentum=0.9)
    schedule = schedules.OneCycleLR(optimizer, 1.0, 10, pct_start=0.5, anneal_strategy=strategy)
    for _ in range(9):
        schedule.step()
    last = optimizer.lrs
    assert last == pytest.approx([1 / 25 / 1e4])
    schedule.step()
    assert optimizer.lrs == last


@pytest.mark.parametrize("make", [
    lambda o: schedules.ExponentialLR(o, 1e200),
    lambda o: schedules.StepLR(o, 1, 1e200),
    lambda o: schedules.LambdaLR(o, lambda t: 1e200**t),
], ids=["exponential", "step", "lambda"])  # fmt: skip
def test_a_rate_beyond_every_number_is_refused(make):
    optimizer = Groups(1.0)
    schedule = make(optimizer)
    schedule.step()
    with pytest.raises(ValueError, match="the rate of group 0 is inf after 2 steps, expected a f"):
        schedule.step()
    assert (schedule.last_epoch, optimizer.lrs) == (1, [1e200])


@pytest.mark.parametrize("options", [
    {"total_steps": 1}, {"total_steps": 2, "pct_start": 0.5}, {"total_steps": 5, "pct_start": 1.0},
    {"total_steps": 4, "pct_start": 0.5, "three_phase": True}, {"total_steps": 3, "pct_start": 0},
], ids=str)  # fmt: skip
def test_one_cycle_of_any_length_stays_between_its_ends(options):
    optimizer = Groups(1.0, momentum=0.9)
    schedule = schedules.OneCycleLR(optimizer, 0.5, **options)
    for _ in range(options["total_steps"]):
        assert 0.5 / 25 / 1e4 <= optimizer.lrs[0] <= 0.5
        assert 0.85 <= optimizer.param_groups[0]["momentum"] <= 0.95
        schedule.step()
    assert optimizer.lrs == pytest.approx([0.5 / 25 / 1e4])


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


def test_a_schedule_is_used_by_one_thread_at_a_time():
    """A second thread gets an error at once, and the first goes on."""
    inside, leave = threading.Event(), threading.Event()

    def slow(t):
        if t == 1:
            inside.set()
            assert leave.wait(10)
        return 0.5**t

    optimizer = Groups(1.0)
    schedule = schedules.LambdaLR(optimizer, slow)
    first = threading.Thread(target=schedule.step)
    first.start()
    assert inside.wait(10)
    try:
        with pytest.raises(RuntimeError, match="LambdaLR: another thread uses it"):
            schedule.step()
    finally:
        leave.set()
        first.join()
    schedule.step()
    assert (schedule.last_epoch, optimizer.lrs) == (2, [0.25])


def test_a_schedule_says_what_it_is():
    text = repr(schedules.StepLR(Groups(0.1), 4, 0.5))
    assert text == "StepLR(step_size=4, gamma=0.5, interval='epoch', last_epoch=0, lrs=[0.1])"
    optimizer = Groups(0.1)
    both = [schedules.LinearWarmup(optimizer, 2), schedules.StepLR(optimizer, 4)]
    text = repr(schedules.SequentialLR(optimizer, both, [2]))
    assert text.startswith("SequentialLR(schedulers=[LinearWarmup(steps=2, ")
    assert text.endswith("milestones=[2], interval='step', last_epoch=0, lrs=[0.05])")
    assert "min_lrs=[0.0]" in repr(plateau())


@pytest.mark.parametrize(
    ("make", "interval"),
    [
        (lambda o: schedules.StepLR(o, 1), "epoch"),
        (lambda o: schedules.StepLR(o, 1, interval="step"), "step"),
        (lambda o: schedules.HarmonicLR(o, 1, 10, 1), "epoch"),
        (lambda o: schedules.ReduceLROnPlateau(o), "epoch"),
        (lambda o: schedules.OneCycleLR(o, 1.0, 9), "step"),
        (lambda o: schedules.OneCycleLR(o, 1.0, 9, interval="epoch"), "epoch"),
        (lambda o: schedules.LinearWarmup(o, 9), "step"),
        (lambda o: schedules.SequentialLR(o, [schedules.StepLR(o, 1)], []), "epoch"),
        (lambda o: schedules.SequentialLR(o, [schedules.LinearWarmup(o, 2)], []), "step"),
        (lambda o: schedules.SequentialLR(o, [schedules.LinearWarmup(o, 2)], [], interval="epoch"),
         "epoch"),
    ],
)  # fmt: skip
def test_the_interval_is_that_of_pytorch_users(make, interval):
    assert make(Groups(1.0, momentum=0.9)).interval == interval


def test_a_state_of_an_earlier_version_is_taken():
    """It lacks the rates, which then follow from the counter."""
    first, second = Groups(0.1), Groups(0.1)
    old, new = (schedules.ExponentialLR(o, 0.5) for o in (first, second))
    old.step()
    state = {k: v for k, v in old.state_dict().items() if k not in ("lrs", "last_lrs")}
    new.load_state_dict(state)
    assert second.lrs == [0.05]


@pytest.mark.parametrize("state", [
    {"type": "ExponentialLR", "last_epoch": -1, "base_lrs": [1.0]},
    {"type": "ExponentialLR", "last_epoch": 1, "base_lrs": [1.0, 2.0]},
])  # fmt: skip
def test_a_state_that_does_not_fit_is_refused(state):
    optimizer = Groups(0.1)
    schedule = schedules.ExponentialLR(optimizer, 0.5)
    with pytest.raises(ValueError, match="state_dict"):
        schedule.load_state_dict(state)
    assert (schedule.last_epoch, optimizer.lrs) == (0, [0.1])


def test_a_schedule_is_pickled_whole():
    """With its annealing function, which pickles of earlier versions name as well."""
    schedule = schedules.OneCycleLR(Groups(0.1, momentum=0.9), 0.5, total_steps=5)
    copy = pickle.loads(pickle.dumps(schedule))
    assert [copy.rates(t) for t in range(5)] == [schedule.rates(t) for t in range(5)]
    assert b"lr_scheduler._" not in pickle.dumps(schedule)
