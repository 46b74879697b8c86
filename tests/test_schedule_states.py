"""load_state_dict of a schedule: a state that does not fit is refused by name."""

import copy
import json
import math

import pytest
from onepass.optim import lr_scheduler as schedules


class Groups:
    """All that a schedule asks of an optimizer."""

    def __init__(self, *lrs):
        self.param_groups = [{"lr": lr} for lr in lrs]

    @property
    def lrs(self):
        return [group["lr"] for group in self.param_groups]


def exponential(optimizer):
    return schedules.ExponentialLR(optimizer, 0.5)


def plateau(optimizer):
    return schedules.ReduceLROnPlateau(optimizer)


def sequence(optimizer):
    return schedules.SequentialLR(optimizer, [exponential(optimizer), exponential(optimizer)], [3])


NO_STATES = {
    **{
        repr(state): (exponential, lambda s, state=state: state, "'state_dict' is .*, expected a")
        for state in (None, 3, "x", [], [("type", "ExponentialLR")])
    },
    "no count": (exponential, {"last_epoch": None}, "last_epoch.* is None"),
    "a fraction of a count": (exponential, {"last_epoch": 1.5}, r"last_epoch.* is 1\.5"),
    "no bases": (exponential, {"base_lrs": None}, "base_lrs.* is None, expected a list of rates"),
    "a word for a base": (exponential, {"base_lrs": ["a", 0.1]}, r"base_lrs'\]\[0\].* is 'a'"),
    "nan for a base": (exponential, {"base_lrs": [0.1, math.nan]}, r"base_lrs'\]\[1\].* is nan"),
    "too many bases": (exponential, {"base_lrs": [0.1] * 3}, "has 3 groups in 'base_lrs'"),
    "a word for rates": (exponential, {"lrs": "ab"}, "lrs.* is 'ab', expected a list"),
    "a negative rate": (exponential, {"lrs": [-1.0, 0.1]}, r"lrs'\]\[0\].* is -1\.0"),
    "too few rates": (exponential, {"lrs": [0.1]}, "has 1 groups in 'lrs', expected 2"),
    "infinite rates": (exponential, {"lrs": [math.inf, 0.1]}, r"lrs'\]\[0\].* is inf"),
    "rates set before": (exponential, {"last_lrs": [0.1] * 3}, "has 3 groups in 'last_lrs'"),
    "a word for what zeros hide": (exponential, {"without_zeros": "ab"}, "without_zeros.* is 'ab'"),
    "too few of them": (exponential, {"without_zeros": [None]}, "expected a list with 2 entries"),
    "a list in it": (exponential, {"without_zeros": [None, [0.1]]}, r"\[1\].* is \[0\.1\]"),
    "a word in one": (exponential, {"without_zeros": ["a", None]}, r"\[0\].* is 'a'"),
    "a word for the best": (plateau, {"best": "low"}, "best.* is 'low'"),
    "a negative count": (plateau, {"num_bad_epochs": -1}, "num_bad_epochs.* is -1"),
    "no cooldown": (plateau, {"cooldown_counter": None}, "cooldown_counter.* is None"),
    "no rates of a plateau": (plateau, {"current": 0.1}, r"current.* is 0\.1, expected a list"),
    "no parts": (sequence, {"schedulers": None}, "schedulers.* is None, expected a list"),
    "an empty part": (sequence, {"schedulers": [None, None]}, "'state_dict' is None, expected a"),
    "too few parts": (sequence, {"schedulers": []}, "has 0 schedules, expected 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_STATES)
def test_what_is_no_state_of_a_schedule_is_refused_by_name_and_nothing_is_changed(name):
    make, wrong, words = NO_STATES[name]
    optimizer = Groups(0.1, 0.2)
    schedule = make(optimizer)
    schedule.step(1.0)
    before = copy.deepcopy(schedule.state_dict())
    state = wrong(before) if callable(wrong) else {**copy.deepcopy(before), **wrong}
    owner = type(schedule).__name__
    if name == "an empty part":
        owner = "ExponentialLR"
    with pytest.raises((TypeError, ValueError), match=f"^{owner}: .*{words}"):
        schedule.load_state_dict(state)
    assert schedule.state_dict() == before


@pytest.mark.parametrize("make", [exponential, plateau, sequence])
def test_a_state_goes_through_json(make):
    first, second = Groups(0.1, 0.2), Groups(0.1, 0.2)
    old, new = make(first), make(second)
    old.step(1.0)
    first.param_groups.append({"lr": 0.3})  # later than the last step
    second.param_groups.append({"lr": 0.3})
    new.load_state_dict(json.loads(json.dumps(old.state_dict())))
    for schedule in (old, new):
        schedule.step(1.0)
    assert first.lrs == second.lrs


def test_a_longer_schedule_goes_on_where_a_shorter_one_had_come_to_0():
    """As the rest of a run of the longer length, alone and as a part."""

    def cosine(optimizer, length):
        return schedules.CosineAnnealingLR(optimizer, length)

    def warmed(optimizer, length):
        parts = [
            schedules.LinearWarmup(optimizer, 1),
            schedules.CosineAnnealingLR(optimizer, length - 1),
        ]
        return schedules.SequentialLR(optimizer, parts, [1])

    for make in (cosine, warmed):
        ended = make(Groups(0.5), 4)
        for _ in range(4):
            ended.step()
        assert ended.get_last_lr() == [0]
        longer = make(Groups(0.5), 8)
        longer.load_state_dict(json.loads(json.dumps(ended.state_dict())))
        whole = make(Groups(0.5), 8)
        for _ in range(4):
            whole.step()
        for _ in range(5):
            assert longer.get_last_lr() == whole.get_last_lr()
            longer.step()
            whole.step()
