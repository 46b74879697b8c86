"""Rates that somebody else sets: two schedules, a user, a callback, groups that come later."""

import copy
import itertools
import json
import math
import pickle

import numpy as np
import pytest
from onepass import nn, optim
from onepass.optim import lr_scheduler as schedules
from onepass.train import Trainer

LRS = (0.1, 0.03)


class Groups:
    """All that a schedule asks of an optimizer."""

    def __init__(self, *lrs, **options):
        self.param_groups = [{"lr": lr, **options} for lr in lrs]

    def add_param_group(self, group):
        self.param_groups.append(group)

    @property
    def lrs(self):
        return [group["lr"] for group in self.param_groups]


# make, and the factor after t steps; True where PyTorch's two multiply in either order
FACTORS = {
    "constant": (lambda o: schedules.ConstantLR(o, 0.2, 7), lambda t: 0.2 if t < 7 else 1, True),
    "step": (lambda o: schedules.StepLR(o, 4, 0.3), lambda t: 0.3 ** (t // 4), True),
    "multi-step": (
        lambda o: schedules.MultiStepLR(o, [3, 9], 0.5), lambda t: 0.5 ** ((t >= 3) + (t >= 9)),
        True,
    ),
    "exponential": (lambda o: schedules.ExponentialLR(o, 0.9), lambda t: 0.9**t, True),
    "polynomial": (lambda o: schedules.PolynomialLR(o, 30, 2.0), lambda t: (1 - t / 30) ** 2, True),
    "cosine": (
        lambda o: schedules.CosineAnnealingLR(o, 40),
        lambda t: (1 + math.cos(math.pi * t / 40)) / 2,
        True,
    ),
    "lambda": (
        lambda o: schedules.LambdaLR(o, lambda t: 1 / (1 + t)), lambda t: 1 / (1 + t), False,
    ),
    "inverse time": (lambda o: schedules.InverseTimeLR(o, 0.5), lambda t: 1 / (1 + t / 2), None),
    "warm-up": (lambda o: schedules.LinearWarmup(o, 6), lambda t: min(1, (t + 1) / 6), None),
}  # fmt: skip
TORCH = {
    "constant": lambda m, o: m.ConstantLR(o, 0.2, 7),
    "step": lambda m, o: m.StepLR(o, 4, 0.3),
    "multi-step": lambda m, o: m.MultiStepLR(o, [3, 9], 0.5),
    "exponential": lambda m, o: m.ExponentialLR(o, 0.9),
    "polynomial": lambda m, o: m.PolynomialLR(o, 30, 2.0),
    "cosine": lambda m, o: m.CosineAnnealingLR(o, 40),
}
PAIRS = list(itertools.combinations(FACTORS, 2))
# Factors that are 0 at the beginning, in between, or again and again.
ZEROS = {
    "warm-up from zero": (
        lambda o: schedules.LambdaLR(o, lambda t: min(1, t / 3)), lambda t: min(1, t / 3),
    ),
    "late start": (lambda o: schedules.ConstantLR(o, 0.0, 3), lambda t: float(t >= 3)),
    "pause": (
        lambda o: schedules.LambdaLR(o, lambda t: float(t not in (2, 3, 9))),
        lambda t: float(t not in (2, 3, 9)),
    ),
    "waves": (
        lambda o: schedules.CosineAnnealingLR(o, 3), lambda t: (1 + math.cos(math.pi * t / 3)) / 2,
    ),
    "zero for ever": (lambda o: schedules.ConstantLR(o, 0.0, 99), lambda t: 0.0),
}  # fmt: skip
ALL = {**FACTORS, **ZEROS}
PAIRS_WITH_ZEROS = [p for p in itertools.combinations(ALL, 2) if p not in PAIRS]


# ------------------------------------------------------------------------- two on one optimizer


@pytest.mark.parametrize("order", [1, -1], ids=["", "turned"])
@pytest.mark.parametrize("pair", PAIRS + PAIRS_WITH_ZEROS, ids=" and ".join)
def test_two_schedules_of_one_optimizer_multiply(pair, order):
    optimizer = Groups(*LRS)
    both = [ALL[name][0](optimizer) for name in pair[::order]]
    for t in range(20):
        product = math.prod(ALL[name][1](t) for name in pair)
        want = [lr * product for lr in LRS]
        assert optimizer.lrs == pytest.approx(want, rel=1e-11, abs=1e-18)
        for schedule in both:
            schedule.step()


@pytest.mark.parametrize("pair", [p for p in PAIRS if all(FACTORS[n][2] for n in p)],
                         ids=" and ".join)  # fmt: skip
def test_two_schedules_are_pytorchs(pair):
    torch = pytest.importorskip("torch")
    parameters = [torch.zeros(2, requires_grad=True) for _ in LRS]
    theirs = torch.optim.SGD(
        [{"params": [p], "lr": lr} for p, lr in zip(parameters, LRS, strict=True)]
    )
    optimizer = Groups(*LRS)
    both = [TORCH[name](torch.optim.lr_scheduler, theirs) for name in pair]
    mine = [FACTORS[name][0](optimizer) for name in pair]
    for _ in range(20):
        assert optimizer.lrs == pytest.approx([g["lr"] for g in theirs.param_groups], rel=1e-11)
        theirs.step()
        for schedule in (*both, *mine):
            schedule.step()


def test_three_schedules_multiply():
    optimizer = Groups(0.1)
    names = ["cosine", "lambda", "warm-up"]
    three = [FACTORS[name][0](optimizer) for name in names]
    for t in range(15):
        assert optimizer.lrs[0] == pytest.approx(
            0.1 * math.prod(FACTORS[n][1](t) for n in names), rel=1e-12
        )
        for schedule in three:
            schedule.step()


def test_a_plateau_cuts_what_another_schedule_gives():
    """And the other goes on from the cut rate."""
    optimizer = Groups(0.1)
    plateau = schedules.ReduceLROnPlateau(optimizer, patience=1, factor=0.5)
    other = schedules.ExponentialLR(optimizer, 0.9)
    for t in range(8):
        other.step()
        plateau.step(1.0)
        assert optimizer.lrs[0] == pytest.approx(0.1 * 0.9 ** (t + 1) * 0.5 ** (t // 2), rel=1e-12)


def test_one_cycle_beside_another_multiplies():
    alone, together = Groups(0.1, momentum=0.9), Groups(0.1, momentum=0.9)
    reference = schedules.OneCycleLR(alone, 0.5, 25)
    pair = [schedules.OneCycleLR(together, 0.5, 25), schedules.StepLR(together, 10, 0.1)]
    for t in range(25):
        assert together.lrs[0] == pytest.approx(alone.lrs[0] * 0.1 ** (t // 10), rel=1e-11)
        for schedule in (reference, *pair):
            schedule.step()


def test_the_factor_of_a_plateau_outlives_a_pause():
    optimizer = Groups(0.1)
    pause = schedules.LambdaLR(optimizer, lambda t: float(t not in (2, 3)))
    plateau = schedules.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    found = []
    for _ in range(5):
        pause.step()
        plateau.step(1.0)
        found.append(optimizer.lrs[0])
    assert found == pytest.approx([0.1, 0, 0, 0.0125, 0.00625])


def test_a_rate_of_zero_set_by_hand_is_kept_by_every_schedule():
    for make, *_ in FACTORS.values():
        optimizer = Groups(0.1, 0.1)
        schedules.ConstantLR(optimizer, 1.0).step()
        optimizer.param_groups[0]["lr"] = 0.0  # to hold this group
        schedule = make(optimizer)
        for _ in range(4):
            assert optimizer.lrs[0] == 0
            assert optimizer.lrs[1] > 0
            schedule.step()


def rising(optimizer):
    return schedules.LambdaLR(optimizer, lambda t: min(1, t / 2))


@pytest.mark.parametrize("how", ["alone", "in a sequence", "in a trainer", "beside another"])
def test_a_schedule_that_is_gone_holds_no_rate_at_zero(how):
    """A notebook's cell, run twice."""
    optimizer = Groups(0.1)
    schedule = trainer = None
    for _ in range(2):
        if how == "in a sequence":
            parts = [rising(optimizer), schedules.StepLR(optimizer, 1, 1.0)]
            with pytest.raises(ValueError, match="milestones"):
                schedules.SequentialLR(optimizer, parts, [9, 10])
            parts = [rising(optimizer), schedules.StepLR(optimizer, 1, 1.0)]
            schedule = schedules.SequentialLR(optimizer, parts, [9])
        else:
            schedule = rising(optimizer)
        if how == "beside another":
            other = schedules.StepLR(optimizer, 1, 1.0)
        if how == "in a trainer":
            model = nn.Sequential(nn.Linear(4, 2))
            optimizer = optim.SGD(model.parameters(), lr=0.1)
            schedule = rising(optimizer)
            for _ in range(2):
                trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False,
                                  scheduler=rising(optimizer))  # fmt: skip
    if trainer is not None:
        del schedule
        history = trainer.fit(np.ones((8, 4), np.float32), np.arange(8) % 2, max_epochs=4)
        assert history["lr"] == pytest.approx([0, 0.05, 0.1, 0.1])
        return
    found = []
    for _ in range(4):
        found.append(optimizer.lrs[0])
        schedule.step()
        if how == "beside another":
            other.step()
    assert found == pytest.approx([0, 0.05, 0.1, 0.1])


@pytest.mark.parametrize("order", [1, -1])
def test_a_group_that_joins_where_one_of_two_schedules_is_at_zero(order):
    optimizer = Groups(0.1)
    pair = [lambda o: schedules.ExponentialLR(o, 0.5),
            lambda o: schedules.LambdaLR(o, lambda t: float(t >= 2))][::order]  # fmt: skip
    both = [make(optimizer) for make in pair]
    for schedule in both:
        schedule.step()
    optimizer.add_param_group({"lr": 0.1})
    for schedule in both:
        schedule.step()
    assert optimizer.lrs == pytest.approx([0.025, 0.05])


def test_what_is_kept_beside_a_zero_is_gone_with_it():
    optimizer = Groups(0.1)
    both = [ZEROS["pause"][0](optimizer), schedules.StepLR(optimizer, 1, 0.5)]
    for t in range(6):
        kept = "lr_without_zeros" in optimizer.param_groups[0]
        assert kept == (t in (2, 3))
        for schedule in both:
            schedule.step()


@pytest.mark.parametrize(
    "pair",
    [("step", "exponential"), ("cosine", "lambda"), ("pause", "step"), ("waves", "late start")],
    ids=" and ".join,
)
@pytest.mark.parametrize("stop", [0, 1, 3, 7])
def test_two_schedules_resume_exactly(pair, stop):
    whole, after = Groups(*LRS), Groups(*LRS)
    first = [ALL[name][0](whole) for name in pair]
    second = [ALL[name][0](after) for name in pair]
    for t in range(20):
        if t == stop:
            for old, new in zip(first, second, strict=True):
                new.load_state_dict(copy.deepcopy(old.state_dict()))
        for schedule in (*first, *(second if t >= stop else [])):
            schedule.step()
        if t >= stop:
            assert after.lrs == whole.lrs


def test_a_schedule_made_after_another_goes_on_from_its_rate():
    optimizer = Groups(0.1)
    old = schedules.ExponentialLR(optimizer, 0.5)
    for _ in range(3):
        old.step()
    schedules.StepLR(optimizer, 10)
    assert optimizer.lrs == [0.1 * 0.5**3]


def test_a_schedule_made_after_one_that_ended_at_zero_starts_from_the_first_rate():
    """PyTorch's stays at 0 for ever, and the training stands still."""
    optimizer = Groups(0.1)
    old = schedules.CosineAnnealingLR(optimizer, 2)
    for _ in range(2):
        old.step()
    assert optimizer.lrs == [0.0]
    schedules.StepLR(optimizer, 10)
    assert optimizer.lrs == [0.1]


# ------------------------------------------------------------------------------- rates set by hand


@pytest.mark.parametrize("name", FACTORS)
def test_a_rate_set_by_hand_is_kept_and_scheduled_on(name):
    """By a user or a callback between two steps: as if training had begun with that rate."""
    optimizer = Groups(*LRS)
    make, factor, _ = FACTORS[name]
    schedule = make(optimizer)
    for _ in range(4):
        schedule.step()
    optimizer.param_groups[1]["lr"] = 0.7
    for t in range(5, 15):
        schedule.step()
        expected = [LRS[0] * factor(t), 0.7 * factor(t) / factor(4)]
        assert optimizer.lrs == pytest.approx(expected, rel=1e-12)


def test_a_rate_set_by_hand_under_one_cycle_is_kept():
    alone, changed = (Groups(0.1, momentum=0.9) for _ in range(2))
    reference, schedule = (schedules.OneCycleLR(o, 0.5, 25) for o in (alone, changed))
    for t in range(25):
        if t == 3:
            changed.param_groups[0]["lr"] *= 2
        assert changed.lrs[0] == pytest.approx(alone.lrs[0] * (2 if t >= 3 else 1), rel=1e-12)
        reference.step()
        schedule.step()


def test_a_rate_set_by_hand_outlives_the_phases_of_a_sequence():
    optimizer = Groups(0.1)
    parts = [schedules.LinearWarmup(optimizer, 4), schedules.StepLR(optimizer, 2, 0.5)]
    schedule = schedules.SequentialLR(optimizer, parts, [5])
    for _ in range(4):
        schedule.step()
    optimizer.param_groups[0]["lr"] = 0.04
    expected = [0.04, 0.04, 0.02, 0.02, 0.01]
    for lr in expected:
        schedule.step()
        assert optimizer.lrs == pytest.approx([lr], rel=1e-12)


def test_a_rate_set_by_hand_beside_eta_min_is_pytorchs():
    torch = pytest.importorskip("torch")
    theirs = torch.optim.SGD([torch.zeros(2, requires_grad=True)], lr=0.1)
    optimizer = Groups(0.1)
    both = [
        module.CosineAnnealingLR(o, 12, 0.01)
        for module, o in ((schedules, optimizer), (torch.optim.lr_scheduler, theirs))
    ]
    for t in range(11):
        if t == 4:
            optimizer.param_groups[0]["lr"] = theirs.param_groups[0]["lr"] = 0.3
        theirs.step()
        for schedule in both:
            schedule.step()
        assert optimizer.lrs == pytest.approx([theirs.param_groups[0]["lr"]], rel=1e-11)


@pytest.mark.parametrize("make", [
    lambda o: schedules.CosineAnnealingLR(o, 3),
    lambda o: schedules.PolynomialLR(o, 3),
    lambda o: schedules.LambdaLR(o, lambda t: 1 - t / 3),
    lambda o: schedules.SequentialLR(o, [schedules.PolynomialLR(o, 3)], []),
], ids=["cosine", "polynomial", "lambda", "sequence"])  # fmt: skip
def test_a_rate_set_by_hand_where_the_schedule_is_zero_is_refused(make):
    optimizer = Groups(0.1)
    schedule = make(optimizer)
    for _ in range(3):
        schedule.step()
    optimizer.param_groups[0]["lr"] = 0.05
    saved = schedule.state_dict()
    with pytest.raises(ValueError, match=r"'lr' of group 0 is 0\.05, set elsewhere.*make a new"):
        schedule.step()
    assert optimizer.lrs == [0.05]
    assert schedule.state_dict() == saved


@pytest.mark.parametrize("zero", [0, 0.0])
@pytest.mark.parametrize("through", ["nothing", "a state", "a copy", "a text"])
@pytest.mark.parametrize("others", [0, 1])
def test_a_zero_set_by_hand_where_a_schedule_is_zero_stays(zero, through, others):
    """To hold a group from then on; the group beside it comes back."""
    optimizer = Groups(0.1, 0.1)
    all_of = [ZEROS["pause"][0](optimizer), *[schedules.StepLR(optimizer, 99)] * others]
    while optimizer.lrs[0] != 0:
        all_of[0].step()
    optimizer.param_groups[0]["lr"] = zero
    if through == "a state":
        for schedule in all_of:
            schedule.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    elif through == "a copy":
        optimizer, all_of = copy.deepcopy((optimizer, all_of))
    elif through == "a text":
        for group, text in zip(optimizer.param_groups, json.loads(json.dumps(
            [{k: v for k, v in g.items() if "lr" in k} for g in optimizer.param_groups])),
            strict=True):  # fmt: skip
            group.update(text)
    for _ in range(4):
        for schedule in all_of:
            schedule.step()
        assert optimizer.lrs[0] == 0
    assert optimizer.lrs[1] == pytest.approx(0.1)


BY_HAND = {
    "0": lambda lr: 0,
    "0.0": lambda lr: 0.0,
    "-0.0": lambda lr: -0.0,
    "times 0": lambda lr: lr * 0,
    "times 0.5": lambda lr: lr * 0.5,
    "NumPy's": lambda lr: np.float64(0),
    "NumPy's negative": lambda lr: np.float32(-0.0),
}


@pytest.mark.parametrize("name", ZEROS)
@pytest.mark.parametrize("by_hand", BY_HAND)
@pytest.mark.parametrize("through", ["nothing", "a pickle", "a copy"])
def test_a_zero_by_hand_over_a_schedules_zero_is_not_lost(name, by_hand, through):
    """A schedule's 0 is -0.0, and so is what ``*= 0`` makes of it."""
    optimizer = optim.SGD([np.zeros(2)], lr=0.1)
    schedule = ZEROS[name][0](optimizer)
    group = optimizer.param_groups[0]
    for _ in range(20):
        if group["lr"] == 0:
            break
        schedule.step()
    assert group["lr"] == 0
    if through != "nothing":
        both = optimizer, schedule
        pickles = through == "a pickle" and not isinstance(schedule, schedules.LambdaLR)
        both = pickle.loads(pickle.dumps(both)) if pickles else copy.deepcopy(both)
        optimizer, schedule = both
        group = optimizer.param_groups[0]
        schedule.get_last_lr()
    group["lr"] = BY_HAND[by_hand](group["lr"])
    try:
        for _ in range(5):
            schedule.step()
            assert group["lr"] == 0
    except ValueError as error:
        assert "set elsewhere" in str(error)  # noqa: PT017 (either way)
        assert group["lr"] == 0


IN_PLACE = ["mul_(0)", "mul_(0.5)", "zero_()", "fill_(0.0)", "fill_(-0.0)", "div_(2)"]


@pytest.mark.parametrize("name", ZEROS)
@pytest.mark.parametrize("by_hand", [*IN_PLACE, ""])
@pytest.mark.parametrize("through", ["nothing", "a pickle", "a copy"])
def test_a_tensor_set_to_zero_over_a_schedules_zero_is_not_lost(name, by_hand, through):
    """``mul_(0)`` leaves -0.0 as it is, in the same object. Without it the schedule goes on."""
    torch = pytest.importorskip("torch")
    rates = []
    for lr in (torch.tensor(0.1, dtype=torch.float64), 0.1):
        optimizer = optim.SGD([np.zeros(2)], lr=lr)
        schedule = ZEROS[name][0](optimizer)
        for _ in range(20):
            if optimizer.param_groups[0]["lr"] == 0:
                break
            schedule.step()
        if through != "nothing":
            both = optimizer, schedule
            pickles = through == "a pickle" and not isinstance(schedule, schedules.LambdaLR)
            both = pickle.loads(pickle.dumps(both)) if pickles else copy.deepcopy(both)
            optimizer, schedule = both
        group = optimizer.param_groups[0]
        assert group["lr"] == 0
        if by_hand:
            if lr == 0:  # a rate that a schedule has brought to 0 in place
                exec(f"rate.{by_hand}", {"rate": group["lr"]})
            else:
                group["lr"] = 0.0
        seen = []
        try:
            for _ in range(5):
                schedule.step()
                seen.append(float(group["lr"]))
        except ValueError as error:
            assert "set elsewhere" in str(error)  # noqa: PT017 (either way)
            seen = [0.0]
        rates.append(seen)
    assert rates[0] == pytest.approx(rates[1], rel=1e-12)
    assert not by_hand or set(rates[0]) == {0.0}


def test_a_rate_set_by_hand_where_two_schedules_are_zero_is_refused_and_kept():
    optimizer = Groups(0.1)
    both = [ZEROS["pause"][0](optimizer) for _ in range(2)]
    while optimizer.lrs[0] != 0:
        for schedule in both:
            schedule.step()
    optimizer.param_groups[0]["lr"] = 0.05
    for schedule in both:
        with pytest.raises(ValueError, match=r"'lr' of group 0 is 0\.05, set elsewhere"):
            schedule.step()
    assert optimizer.lrs == [0.05]


def test_a_schedule_made_while_another_is_at_zero_begins_with_the_base_rate():
    """The other may have ended. If it goes on, its zeros count from its next step."""
    optimizer = Groups(0.1)
    pause = ZEROS["pause"][0](optimizer)
    while optimizer.lrs[0] != 0:
        pause.step()
    other = schedules.ExponentialLR(optimizer, 0.5)
    found = [optimizer.lrs[0]]
    for _ in range(3):
        pause.step()
        other.step()
        found.append(optimizer.lrs[0])
    assert found == pytest.approx([0.1, 0, 0.1 / 4, 0.1 / 8])


def test_a_schedules_zero_is_shown_without_a_sign():
    optimizer = Groups(0.1)
    schedule = ZEROS["pause"][0](optimizer)
    while optimizer.lrs[0] != 0:
        schedule.step()
    assert str(schedule.get_last_lr()) == "[0.0]"
    assert "-0.0" not in repr(schedule)


@pytest.mark.parametrize(("lr", "kind"), [("0.1", TypeError), (math.nan, ValueError),
                                          (-1.0, ValueError), (None, TypeError)])  # fmt: skip
def test_a_rate_that_is_none_is_refused_by_the_schedule(lr, kind):
    optimizer = Groups(0.1)
    schedule = schedules.StepLR(optimizer, 1)
    optimizer.param_groups[0]["lr"] = lr
    with pytest.raises(kind, match="StepLR: 'lr' is"):
        schedule.step()
    assert schedule.last_epoch == 0


@pytest.mark.parametrize("name", ["step", "cosine", "lambda"])
def test_a_resume_between_a_rate_set_by_hand_and_the_next_step_is_exact(name):
    whole, after = Groups(0.1), Groups(0.1)
    first, second = (FACTORS[name][0](o) for o in (whole, after))
    for _ in range(3):
        first.step()
    whole.param_groups[0]["lr"] = 0.017
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for _ in range(9):
        assert after.lrs == whole.lrs
        first.step()
        second.step()


def test_a_rate_held_in_a_tensor_is_filled():
    """As PyTorch does: a CUDA graph reads it where it is."""
    torch = pytest.importorskip("torch")
    optimizer = Groups(0.1)
    held = optimizer.param_groups[0]["lr"] = torch.tensor(0.1)
    schedule = schedules.ExponentialLR(optimizer, 0.5)
    for t in range(5):
        assert optimizer.param_groups[0]["lr"] is held
        assert float(held) == pytest.approx(0.1 * 0.5**t, rel=1e-6)
        schedule.step()


# ---------------------------------------------------------------------------- groups added later


@pytest.mark.parametrize("name", [n for n in FACTORS if n != "lambda"])
def test_a_group_added_later_follows_from_its_own_rate(name):
    optimizer = Groups(0.1)
    make, factor, _ = FACTORS[name]
    schedule = make(optimizer)
    for _ in range(3):
        schedule.step()
    optimizer.add_param_group({"lr": 0.02})
    for t in range(4, 12):
        schedule.step()
        expected = [0.1 * factor(t), 0.02 * factor(t) / factor(3)]
        assert optimizer.lrs == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["step", "exponential", "cosine", "multi-step", "polynomial"])
def test_a_group_added_later_is_pytorchs(name):
    torch = pytest.importorskip("torch")
    theirs = torch.optim.SGD([torch.zeros(2, requires_grad=True)], lr=0.1)
    mine = optim.SGD([np.zeros(2)], lr=0.1)
    both = [
        TORCH[name](torch.optim.lr_scheduler, theirs),
        TORCH[name](schedules, mine),
    ]
    for t in range(12):
        if t == 5:
            theirs.add_param_group({"params": [torch.zeros(3, requires_grad=True)], "lr": 0.02})
            mine.add_param_group({"params": [np.zeros(3)], "lr": 0.02})
        theirs.step()
        for schedule in both:
            schedule.step()
        assert [g["lr"] for g in mine.param_groups] == pytest.approx(
            [g["lr"] for g in theirs.param_groups], rel=1e-11
        )


def test_the_case_of_the_field_a_group_under_a_step_schedule():
    p, q = np.ones(2), np.ones(3)
    optimizer = optim.SGD([p], lr=0.1)
    schedule = schedules.StepLR(optimizer, 1)
    optimizer.add_param_group({"params": [q], "lr": 0.5})
    schedule.step()
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.01, 0.05])
    state = schedule.state_dict()
    assert len(state["base_lrs"]) == 2
    schedule.load_state_dict(state)


def test_a_group_added_later_under_one_cycle_a_sequence_and_a_plateau():
    one = Groups(0.1, momentum=0.9)
    cycle = schedules.OneCycleLR(one, 0.5, 25)
    cycle.step()
    one.add_param_group({"lr": one.lrs[0] / 4, "momentum": 0.5})
    two = Groups(0.1)
    parts = [schedules.ConstantLR(two, 0.5, 2), schedules.StepLR(two, 1, 0.1)]
    sequence = schedules.SequentialLR(two, parts, [2])
    two.add_param_group({"lr": 0.2})
    three = Groups(0.1)
    plateau = schedules.ReduceLROnPlateau(three, patience=0, factor=0.5, min_lr=0.01)
    three.add_param_group({"lr": 0.2})
    for t in range(1, 6):
        cycle.step()
        assert one.lrs[1] == pytest.approx(one.lrs[0] / 4, rel=1e-12)
        assert one.param_groups[1]["momentum"] == one.param_groups[0]["momentum"]
        sequence.step()
        assert two.lrs[1] == pytest.approx(two.lrs[0] * 4, rel=1e-12)
        plateau.step(1.0)
        expected = [max(lr * 0.5 ** (t - 1), 0.01) for lr in (0.1, 0.2)]
        assert three.lrs == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda o: schedules.LambdaLR(o, [lambda t: 1]), "'lr_lambda' has 1 functions.*lr_lambdas"),
        (lambda o: schedules.ReduceLROnPlateau(o, min_lr=[0.1]), "'min_lr' has 1 numbers.*min_lrs"),
    ],
)
def test_a_list_for_each_group_must_grow_with_the_groups(make, words):
    optimizer = Groups(0.1)
    schedule = make(optimizer)
    optimizer.add_param_group({"lr": 0.2})
    with pytest.raises(ValueError, match=words):
        schedule.step(1.0)
    assert (optimizer.lrs, schedule.last_epoch) == ([0.1, 0.2], 0)


def test_a_group_that_was_removed_is_refused():
    optimizer = Groups(*LRS)
    schedule = schedules.StepLR(optimizer, 1)
    del optimizer.param_groups[1]
    with pytest.raises(ValueError, match="'optimizer' has 1 groups, expected the 2"):
        schedule.step()


WHERE_ALL_RATES_ARE_ONE = {
    "ended at zero": (lambda o: schedules.PolynomialLR(o, 2), 2, lambda lr, t: 0.0),
    "ended at a least rate": (
        lambda o: schedules.CosineAnnealingLR(o, 2, eta_min=0.01),
        2,
        lambda lr, t: 0.01 + (lr - 0.01) * (1 + math.cos(math.pi * t / 2)) / 2,
    ),
    "a warm-up from zero": (
        lambda o: schedules.LambdaLR(o, lambda t: min(1.0, t / 3)), 0,
        lambda lr, t: lr * min(1, t / 3),
    ),
    "a pause": (
        lambda o: schedules.LambdaLR(o, lambda t: float(t != 1)), 1, lambda lr, t: lr * (t != 1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("initial", [None, 0.05])
@pytest.mark.parametrize("name", WHERE_ALL_RATES_ARE_ONE)
def test_a_group_that_joins_where_all_rates_are_zero_follows_with_its_own(name, initial):
    make, before, rate = WHERE_ALL_RATES_ARE_ONE[name]
    optimizer = Groups(0.1)
    schedule = make(optimizer)
    for _ in range(before):
        schedule.step()
    optimizer.add_param_group({"lr": 0.2, **({"initial_lr": initial} if initial else {})})
    for t in range(before + 1, before + 5):
        schedule.step()
        want = [rate(0.1, t), rate(initial or 0.2, t)]
        assert optimizer.lrs == pytest.approx(want, rel=1e-12, abs=1e-17)
    assert optimizer.param_groups[1]["initial_lr"] == (initial or 0.2)


def test_a_group_that_joins_a_sequence_at_zero_follows():
    optimizer = Groups(0.1)
    parts = [schedules.PolynomialLR(optimizer, 2), schedules.StepLR(optimizer, 1, 0.5)]
    schedule = schedules.SequentialLR(optimizer, parts, [3])
    schedule.step()
    schedule.step()
    assert optimizer.lrs == [0.0]
    optimizer.add_param_group({"lr": 0.2})
    for t in range(3, 7):
        schedule.step()
        assert optimizer.lrs == pytest.approx([lr * 0.5 ** (t - 3) for lr in (0.1, 0.2)])


def test_a_group_of_a_real_optimizer_joins_a_trained_one_whose_rate_is_zero():
    p, q = np.ones(2), np.ones(3)
    optimizer = optim.AdamW([p], lr=0.1)
    schedule = schedules.CosineAnnealingLR(optimizer, 4)
    for _ in range(4):
        optimizer.step([np.ones(2)])
        schedule.step()
    optimizer.add_param_group({"params": [q]})
    assert [g["lr"] for g in optimizer.param_groups] == [0.0, 0.1]
    optimizer.step([np.ones(2), np.ones(3)])
    schedule.step()
    rates = [g["lr"] for g in optimizer.param_groups]
    assert rates[0] == pytest.approx(rates[1])
    assert rates[0] > 0


def test_a_rate_set_by_hand_where_the_schedule_is_at_zero_is_still_refused():
    """Of two groups, one of them new: nothing is changed."""
    optimizer = Groups(0.1)
    schedule = schedules.PolynomialLR(optimizer, 2)
    schedule.step()
    schedule.step()
    optimizer.param_groups[0]["lr"] = 0.3
    optimizer.add_param_group({"lr": 0.2})
    with pytest.raises(ValueError, match=r"'lr' of group 0 is 0\.3, set elsewhere after step 2"):
        schedule.step()
    assert optimizer.lrs == [0.3, 0.2]
    assert len(schedule.state_dict()["base_lrs"]) == 1


# ------------------------------------------------------------------------------------- sequences


@pytest.mark.parametrize("order", ["rise first", "rise last"])
def test_a_warm_up_from_zero_and_then_another(order):
    optimizer = Groups(0.1)
    made = {}
    for name in ("rise", "fall") if order == "rise first" else ("fall", "rise"):
        made[name] = (
            schedules.LambdaLR(optimizer, lambda t: t / 4)
            if name == "rise"
            else schedules.ExponentialLR(optimizer, 0.5)
        )
    schedule = schedules.SequentialLR(optimizer, [made["rise"], made["fall"]], [4])
    for lr in [0.0, 0.025, 0.05, 0.075, 0.1, 0.05, 0.025]:
        assert optimizer.lrs == pytest.approx([lr], rel=1e-12)
        schedule.step()


def test_a_sequence_begins_with_the_rate_before_the_part_that_was_made_first():
    """Which need not be the first of the sequence."""
    optimizer = Groups(0.1)
    later = schedules.ConstantLR(optimizer, 0.5, 9)  # sets 0.05
    first = schedules.LinearWarmup(optimizer, 2)
    schedule = schedules.SequentialLR(optimizer, [first, later], [2])
    for lr in (0.05, 0.1, 0.05):
        assert optimizer.lrs == pytest.approx([lr])
        schedule.step()


def test_a_rate_set_by_hand_after_the_parts_were_made_is_where_a_sequence_begins():
    optimizer = Groups(0.1)
    parts = [schedules.LinearWarmup(optimizer, 2), schedules.StepLR(optimizer, 1, 0.5)]
    optimizer.param_groups[0]["lr"] = 0.8
    schedule = schedules.SequentialLR(optimizer, parts, [2])
    for lr in (0.4, 0.8, 0.8, 0.4):
        assert optimizer.lrs == pytest.approx([lr])
        schedule.step()


def test_a_rate_set_by_hand_scales_a_later_part_that_has_rates_of_its_own():
    alone, changed = (Groups(0.1, momentum=0.9) for _ in range(2))
    both = []
    for optimizer in (alone, changed):
        parts = [schedules.LinearWarmup(optimizer, 2), schedules.OneCycleLR(optimizer, 0.5, 9)]
        both.append(schedules.SequentialLR(optimizer, parts, [3]))
    changed.param_groups[0]["lr"] *= 3
    for _ in range(10):
        for schedule in both:
            schedule.step()
        assert changed.lrs == pytest.approx([3 * alone.lrs[0]], rel=1e-12)


def test_a_rate_set_by_hand_before_a_sequence_is_where_it_begins():
    optimizer = Groups(0.1)
    optimizer.param_groups[0].update(lr=0.4, initial_lr=0.1)
    parts = [schedules.LinearWarmup(optimizer, 2), schedules.StepLR(optimizer, 1, 0.5)]
    schedule = schedules.SequentialLR(optimizer, parts, [2])
    for lr in (0.2, 0.4, 0.4, 0.2):
        assert optimizer.lrs == pytest.approx([lr])
        schedule.step()


def test_a_sequence_inside_a_sequence():
    optimizer = Groups(0.1)
    inner = schedules.SequentialLR(
        optimizer,
        [schedules.LinearWarmup(optimizer, 2), schedules.ConstantLR(optimizer, 0.5, 9)],
        [2],
    )
    schedule = schedules.SequentialLR(optimizer, [inner, schedules.StepLR(optimizer, 1, 0.1)], [4])
    assert schedule.interval == "step"
    for lr in (0.05, 0.1, 0.05, 0.05, 0.1, 0.01):
        assert optimizer.lrs == pytest.approx([lr])
        schedule.step()


def test_one_cycle_in_a_sequence_ends():
    def made(milestone, total):
        optimizer = Groups(0.1, momentum=0.9)
        parts = [schedules.LinearWarmup(optimizer, 3), schedules.OneCycleLR(optimizer, 0.5, total)]
        return schedules.SequentialLR(optimizer, parts, [milestone])

    schedule = made(3, 10)
    assert schedule.total_steps == 13
    for _ in range(13):
        schedule.step()
    with pytest.raises(ValueError, match="OneCycleLR: 'total_steps' is 10, expected at least 11"):
        schedule.step()
    optimizer = Groups(0.1, momentum=0.9)
    parts = [schedules.OneCycleLR(optimizer, 0.5, 10), schedules.StepLR(optimizer, 1)]
    with pytest.raises(ValueError, match=r"'schedulers\[0\]' has total_steps=10, expected"):
        schedules.SequentialLR(optimizer, parts, [20])


# -------------------------------------------------------------------------------------- copies


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("make", [
    lambda o: schedules.StepLR(o, 2),
    lambda o: schedules.OneCycleLR(o, 0.5, 20),
    lambda o: schedules.HarmonicLR(o, 1.0, 10.0, 3),
    lambda o: schedules.SequentialLR(
        o, [schedules.LinearWarmup(o, 3), schedules.StepLR(o, 2)], [3]),
], ids=["step", "one cycle", "harmonic", "sequence"])  # fmt: skip
def test_a_schedule_and_its_optimizer_are_copied_together_inside_a_run(make, duplicate):
    p = np.ones(3)
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
    schedule = make(optimizer)
    for _ in range(2):
        optimizer.step([np.ones(3)])
        schedule.step()
    other, twin = duplicate((optimizer, schedule))
    assert twin.optimizer is other
    assert repr(twin) == repr(schedule)
    for _ in range(6):
        for o, s in ((optimizer, schedule), (other, twin)):
            o.step([np.ones(3)])
            s.step()
        assert [g["lr"] for g in other.param_groups] == [g["lr"] for g in optimizer.param_groups]
    np.testing.assert_array_equal(other.param_groups[0]["params"][0], p)
    schedule.step()
    assert twin.last_epoch == schedule.last_epoch - 1
