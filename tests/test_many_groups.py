"""A group for each parameter: every change between steps takes effect, at the cost of one group.

A step asks a dict for its options only if the dict has changed, and keeps the rows of
hyper-parameters otherwise. So each step is compared with optimizers of one parameter, made anew."""

import copy
import gc
import weakref

import numpy as np
import pytest
from onepass import _C, optim

RIDERS = {"l1": 1e-3, "noise": 1e-3, "seed": 3, "ema_decay": 0.9}
KINDS = {
    "adamw": (optim.AdamW, {}),
    "sgd": (optim.SGD, {"momentum": 0.9}),
    "lion": (optim.Lion, {}),  # counts no steps
    "nadam": (optim.NAdam, {}),  # a scalar, which comes before the step
    "asgd": (optim.ASGD, {}),  # scalars, which come after it
    "riders": (optim.AdamW, RIDERS),
}
each_kind = pytest.mark.parametrize("kind", KINDS)
GROUPS = 40


class Twins:
    """An optimizer with a group for each parameter, and one that is made anew for each step."""

    def __init__(self, kind):
        self.cls, self.options = KINDS[kind]
        self.rng = np.random.default_rng(1)
        start = [self.rng.standard_normal(3).astype(np.float32) for _ in range(GROUPS)]
        self.params, self.others = copy.deepcopy(start), copy.deepcopy(start)
        self.opt = self.make(self.params, [{"lr": 0.01 + i / 1000} for i in range(GROUPS)])
        self.saved = copy.deepcopy(self.opt.state_dict())

    def make(self, params, options):
        groups = [{"params": [p], **own} for p, own in zip(params, options, strict=True)]
        return self.cls(groups, **self.options)

    def step(self, without=(), **controls):
        grads = [self.rng.standard_normal(3).astype(np.float32) for _ in range(GROUPS)]
        grads = [None if i in without else g for i, g in enumerate(grads)]
        if controls:
            grads[1][0] = np.inf
        own = [
            {key: value for key, value in group.items() if key in self.opt.defaults}
            for group in self.opt.param_groups
        ]
        fresh = self.make(self.others, own)
        fresh.load_state_dict(self.saved)
        for group, now in zip(fresh.param_groups, own, strict=True):
            group.update(now)
        for optimizer in (self.opt, fresh):
            optimizer.step(copy.deepcopy(grads), **controls)
        self.saved = copy.deepcopy(fresh.state_dict())
        np.testing.assert_array_equal(self.params, self.others)


# Flags that groups may differ in, each with what the optimizer has elsewhere.
FLAGS = {
    "amsgrad": (optim.AdamW, {"weight_decay": 0.1}),
    "decoupled_weight_decay": (optim.Adam, {"weight_decay": 0.1, "amsgrad": True}),
    "centered": (optim.RMSprop, {"momentum": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    "amsgrad with riders": (optim.Adam, {**RIDERS, "weight_decay": 0.1}),
    "decoupled_weight_decay, cautious": (optim.Adam, {"cautious": True, "weight_decay": 0.1}),
    "amsgrad of 8 bits": (optim.Adam, {"state_dtype": "int8"}),
    "centered of bfloat16": (optim.RMSprop, {"state_dtype": "bfloat16", "eps": 1e-3}),
}
SHAPES = [(3,), (40, 33), (), (0, 2), (7,), (257,)]


@pytest.mark.parametrize("case", FLAGS)
def test_groups_that_differ_in_a_flag_step_as_optimizers_of_their_own(case):
    """In one launch; the flags change hands between the steps, and take their states along."""
    (cls, options), flag = FLAGS[case], case.replace(",", "").split()[0]
    rng = np.random.default_rng(0)
    options = {key: value for key, value in options.items() if key != "noise"}  # by position
    same = options.get("state_dtype") is None  # random bits follow the position too
    params = [np.asarray(rng.standard_normal(s), np.float32) for s in SHAPES]
    others, on = copy.deepcopy(params), {0, 1, 4}
    groups = [{"params": [p], flag: i in on} for i, p in enumerate(params)]
    opt = cls(groups, lr=0.1, **options)
    alone = [cls([p], lr=0.1, **options, **{flag: i in on}) for i, p in enumerate(others)]
    for step in range(9):
        if step in (3, 6):  # other groups, then back
            on ^= {1, 2, 5}
            for i, own in enumerate(alone):
                opt.param_groups[i][flag] = own.param_groups[0][flag] = i in on
        grads = [np.asarray(rng.standard_normal(p.shape), np.float32) for p in params]
        opt.step(grads)
        for own, g in zip(alone, grads, strict=True):
            own.step([g])
        if same:
            for p, q in zip(params, others, strict=True):
                np.testing.assert_array_equal(p, q, f"step {step}")
        else:
            np.testing.assert_array_equal(params[0], others[0])
        saved = opt.state_dict()["state"]
        for i, own in enumerate(alone):
            entry = own.state_dict()["state"][0]
            assert entry.keys() <= saved[i].keys()  # which has the states of all groups
            for key, value in entry.items() if same else ():
                np.testing.assert_array_equal(saved[i][key], value, f"{key} {i}, step {step}")


def to_half(group):
    group["lr"] *= 0.5


CHANGES = {
    "one rate": lambda groups: to_half(groups[3]),
    "all rates": lambda groups: [to_half(group) for group in groups],
    "a decay": lambda groups: groups[7].update(weight_decay=0.25),
    "a rate and a decay": lambda groups: groups[39].update(lr=0.5, weight_decay=0.25),
    "a rate of another type": lambda groups: groups[2].update(lr=1),
    "deleted and set again": lambda groups: groups[5].update(lr=groups[5].pop("lr") / 4),
    "the last dict, by another one": lambda groups: groups.append({**groups.pop(), "lr": 0.125}),
    "a key of the user": lambda groups: groups[0].update(note=[1]),
    "past the methods of dict": lambda groups: dict.__setitem__(groups[1], "lr", 0.75),
}


@each_kind
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_one_group_among_many_takes_effect_at_the_next_step(kind, change):
    twins = Twins(kind)
    twins.step()
    twins.step()
    CHANGES[change](twins.opt.param_groups)
    twins.step()
    twins.step()


@each_kind
def test_parameters_of_many_groups_keep_their_own_steps(kind):
    twins = Twins(kind)
    twins.step(without=range(0, 40, 3))
    twins.step(nonfinite="skip")
    twins.step(without=range(20))
    twins.step()
    twins.step()


@each_kind
def test_many_groups_go_on_from_a_state_dict(kind):
    twins = Twins(kind)
    twins.step()
    before = copy.deepcopy(twins.opt.state_dict())
    held = [p.copy() for p in twins.params]
    twins.step()
    twins.opt.load_state_dict(before)
    for arrays in (twins.params, twins.others):
        for array, old in zip(arrays, held, strict=True):
            array[...] = old
    twins.saved = before
    twins.step()
    twins.step()


@each_kind
def test_parameters_of_one_group_part_where_a_state_dict_says_so(kind):
    cls, options = KINDS[kind]
    rng = np.random.default_rng(2)
    params = [rng.standard_normal(3).astype(np.float32) for _ in range(3)]
    grads = [rng.standard_normal(3).astype(np.float32) for _ in range(3)]
    opt = cls(params, lr=0.01, **options)
    opt.step(grads)
    saved = copy.deepcopy(opt.state_dict())
    for index, step in enumerate((1, 5, 1)):
        saved["state"][index]["step"] = step
    start = [p.copy() for p in params]
    opt.load_state_dict(saved)
    opt.step(grads)
    others = [p.copy() for p in start]
    fresh = cls(others, lr=0.01, **options)
    fresh.load_state_dict(saved)
    fresh.step(grads)
    np.testing.assert_array_equal(params, others)
    assert [opt.state_dict()["state"][i]["step"] for i in range(3)] == [2, 6, 2]


def test_a_parameter_exchanged_in_the_list_of_one_group_is_refused():
    twins = Twins("adamw")
    twins.step()
    twins.opt.param_groups[11]["params"][0] = np.ones(3, np.float32)
    with pytest.raises(ValueError, match="'params' of group 11 has another parameter at 0"):
        twins.step()


def test_groups_that_lead_back_to_their_optimizer_are_collected():
    opt = Twins("adamw").opt
    opt.step([np.ones(3, np.float32)] * GROUPS)
    opt.param_groups[0]["owner"] = opt
    opt.step([np.ones(3, np.float32)] * GROUPS)
    gone = weakref.ref(opt)
    del opt
    gc.collect()
    assert gone() is None


def test_rows_of_groups_follow_a_rate_and_nothing_else():
    groups = [{"params": [np.ones(1)], "lr": 0.5, "decay": 0.25, "note": 1} for _ in range(3)]
    rows = _C.GroupRows(groups, "lr", ("decay",), [(0.5, 0.25)] * 3, 0.0, np.inf)
    assert rows.follow(groups)
    groups[1].update(lr=0.125, note=2)
    assert rows.follow(groups)
    assert list(rows) == [(0.5, 0.25), (0.125, 0.25), (0.5, 0.25)]
    groups[2]["decay"] = 0.75
    assert not rows.follow(groups)


@pytest.mark.parametrize("lr", [-0.5, 0.25, 0.75, np.nan, np.inf, 1, "0.5", np.float64(0.5)])
def test_rows_of_groups_take_over_no_other_rate(lr):
    groups = [{"params": [], "lr": 0.5}]
    rows = _C.GroupRows(groups, "lr", (), [(0.5,)], 0.375, 0.75)
    groups[0]["lr"] = 0.375
    assert rows.follow(groups)
    groups[0]["lr"] = lr
    assert not rows.follow(groups)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([1], None, (), [(1.0,)]), "a group is 1, expected a dict"),
        (([{}], None, (), [(1.0,)]), "a group has no list 'params'"),
        (([{"params": ()}], None, (), [(1.0,)]), "a group has no list 'params'"),
        (([{"params": []}], None, ["lr"], [(1.0,)]), r"'keys' is \['lr'\], expected a tuple"),
        (([{"params": []}], "lr", (), []), "'rows' has 0 entries, expected 1"),
        (([{"params": []}], None, (), [()]), r"rows\[0\] has 0 values"),
        (([{"params": []}], None, (), [(1.0,), (1.0, 2.0)]), r"rows\[1\] has 2 values"),
        (([{"params": []}], None, (), [("x",)]), "'rows' is 'x', expected a number"),
    ],
)
def test_what_rows_of_groups_refuse(given, message):
    with pytest.raises((TypeError, ValueError), match=message):
        _C.GroupRows(*given, 0.0, np.inf)
    with pytest.raises(TypeError, match="not initialised"):
        _C.GroupRows.__new__(_C.GroupRows).follow([])
