"""Options of optimizers: ranges that a rule may set for itself, options that need each other, and
what a step does where options have changed since the last one."""

import copy
import dataclasses
import inspect
import re

import cases._optimizer as cases
import numpy as np
import pytest
from cases import optimizers
from helpers import each_variant
from onepass import _C, optim
from onepass.ops._ranges import RANGES, Range, reads
from onepass.ops._rule import Needs, Rule, State

SGD = {"lr": 0.5, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0, "nesterov": False,
       "decoupled_weight_decay": False, "lr_inside": False}  # fmt: skip
OPTIMIZERS = {record.name: record for record in optimizers.OPTIMIZERS}


def sgd(**more):
    return Rule("sgd", State("momentum_buffer", when="momentum"), **more)


# ------------------------------------------------------------------------------------------ ranges


@pytest.mark.parametrize(
    ("limits", "inside", "outside", "words"),
    [
        (Range(above=0), [1e-300, 1.0, 5], [0, 0.0, -1, np.nan, np.inf], "a number > 0"),
        (Range(0, most=1), [0, 0.0, 0.5, 1, 1.0], [1.0000001, -0.1, np.inf], ">= 0 and <= 1"),
        (Range(above=0, most=1), [1.0, 0.5], [0.0, 1.5], "> 0 and <= 1"),
        (Range(1, 2), [1, 1.5], [2, 2.0, 0.9], ">= 1 and < 2"),
        (Range(), [-1e308, 0.0], [np.inf, -np.inf, np.nan], "a finite number"),
    ],
    ids=str,
)
def test_a_rule_has_ranges_of_its_own_with_ends_that_belong_to_them_or_not(
    limits, inside, outside, words
):
    rule = sgd(ranges={"lr": limits})
    for value in inside:
        assert rule.hyper("Me", {**SGD, "lr": value})[0] == value
    for value in outside:
        with pytest.raises(ValueError, match=re.escape(words)):
            rule.hyper("Me", {**SGD, "lr": value})
    assert RANGES["lr"] == Range(0)  # of all others


def test_numbers_of_a_tuple_have_the_range_of_the_rule():
    rule = Rule("lion", ranges={"betas": Range(above=0, most=1)})
    assert rule.hyper("Me", {"lr": 1.0, "betas": (0.5, 1.0), "weight_decay": 0.0})[1:3] == (0.5, 1)
    with pytest.raises(ValueError, match=r"Me: 'betas\[0\]' is 0\.0, expected a number > 0 and <="):
        rule.hyper("Me", {"lr": 1.0, "betas": (0.0, 1.0), "weight_decay": 0.0})


@pytest.mark.parametrize(
    ("hyper", "ranges", "options"),
    [
        (["lr", "eps1", "eps2"], {}, ["lr", "eps"]),  # Adafactor's: no "epss"
        (["lr", "beta1", "beta2", "beta3"], {}, ["lr", "betas"]),
        (["lr", "eta1", "eta2"], {"etas": (Range(0, 1), Range(1))}, ["lr", "etas"]),
        (["l2", "lr"], {"l2": Range(0)}, ["l2", "lr"]),  # not the second of a tuple
    ],
)
def test_numbered_hyper_parameters_are_read_from_a_tuple(hyper, ranges, options):
    found = reads("mine", [*hyper, "step"], {}, {**RANGES, **ranges})
    assert [option for option, *_ in found] == options
    counts = [len(limits) for _, limits, *_ in found if not isinstance(limits, (Range, type(None)))]
    assert counts == [sum(name[-1].isdigit() for name in hyper)] * (hyper[0] != "l2")


@pytest.mark.parametrize(
    ("hyper", "words"),
    [
        ("zeta", "mine: no range for the hyper-parameter 'zeta': add it to RANGES in python/"),
        ("zeta1", "mine: no range for the hyper-parameter 'zeta1' or for the tuple 'zetas': add"),
        ("moss1", "mine: no range for the hyper-parameter 'moss1' or for the tuple 'moss': add"),
    ],
)
def test_a_hyper_parameter_without_range_says_where_ranges_are(hyper, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        reads("mine", ["lr", hyper], {}, RANGES)


def test_each_number_of_a_tuple_may_have_its_own_range():
    rule = Rule("lion", ranges={"betas": (Range(0, 1), Range(above=1))})
    options = {"lr": 1.0, "weight_decay": 0.0}
    assert rule.hyper("Me", {**options, "betas": (0.5, 1.25)})[1:3] == (0.5, 1.25)
    for betas, words in (
        ((1.5, 1.25), r"'betas\[0\]' is 1\.5, expected a number >= 0 and < 1"),
        ((0.5, 1.0), r"'betas\[1\]' is 1\.0, expected a number > 1"),
        ((0.5,), r"'betas' is \(0\.5,\), expected a pair of numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            rule.hyper("Me", {**options, "betas": betas})
    with pytest.raises(ValueError, match="lion: 'betas' has 2 numbers, expected a range for each"):
        Rule("lion", ranges={"betas": (Range(0, 1),)})
    with pytest.raises(ValueError, match="lion: 'lr' is one number, expected one range for it"):
        Rule("lion", ranges={"lr": (Range(0), Range(0))})


def test_a_range_of_an_option_that_the_kernel_lacks_is_refused():
    with pytest.raises(ValueError, match=r"sgd: \['betas'\] of ranges are not hyper-parameters"):
        sgd(ranges={"betas": Range(0, 1)})


def test_an_option_without_bounds_elsewhere_may_have_some():
    rule = sgd(ranges={"dampening": Range(-1, most=1)})
    with pytest.raises(ValueError, match=r"'dampening' is 1\.5, expected a number >= -1 and <= 1"):
        rule.hyper("Me", {**SGD, "momentum": 0.5, "dampening": 1.5})


def test_the_products_of_nadam_have_both_ends():
    opt = optim.NAdam([np.ones(2)])
    opt.step([np.ones(2)])
    saved = copy.deepcopy(opt.state_dict())
    for value in (0.0, 1.0):
        saved["state"][0]["mu_product"] = value
        opt.load_state_dict(saved)
    for value in (-0.1, 1.1, "x", None, np.nan):
        saved["state"][0]["mu_product"] = value
        with pytest.raises(ValueError, match="mu_product"):
            opt.load_state_dict(saved)


# ------------------------------------------------------------------------------- needs of options


def test_needs_are_asked_whatever_the_value_of_the_option():
    """Not only where it is on: 0 and False need others too."""
    rule = sgd(needs=[Needs("dampening", ("momentum",), lambda d, m: d <= m, "at most momentum")])
    assert rule.hyper("Me", {**SGD, "momentum": 0.9, "dampening": 0.5})
    with pytest.raises(ValueError, match=r"'dampening' is 0\.5, expected at most momentum with it"):
        rule.hyper("Me", {**SGD, "momentum": 0.1, "dampening": 0.5})
    rule = sgd(needs=[Needs("weight_decay", ("lr",), lambda w, lr: w > 0 or lr < 1, "lr < 1")])
    with pytest.raises(ValueError, match="'weight_decay' is 0, expected lr < 1 with it"):
        rule.hyper("Me", {**SGD, "lr": 2})


# --------------------------------------------------------------------- options between two steps


@each_variant
def test_a_rate_that_changes_every_step_is_seen(variant):
    p, q = np.ones(5), np.ones(5)
    opt = variant.make([p], lr=0.1)
    saved = None
    for step in range(6):
        lr = 0.1 / (1 + step)
        opt.param_groups[0]["lr"] = lr
        fresh = variant.make([q], lr=lr)  # derives everything from its options
        if saved is not None:
            saved["param_groups"][0]["lr"] = lr
            fresh.load_state_dict(saved)
        for o in (opt, fresh):
            o.step([np.arange(5.0)])
        saved = copy.deepcopy(fresh.state_dict())
    np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize("lr", [-1.0, np.nan, np.inf, "0.1", None, -1])
@each_variant
def test_a_rate_that_is_none_is_refused_and_the_last_one_stays(variant, lr):
    p = np.ones(5)
    opt = variant.make([p], lr=0.1)
    opt.step([np.ones(5)])
    before = p.copy()
    opt.param_groups[0]["lr"] = lr
    for _ in range(2):
        with pytest.raises((TypeError, ValueError), match=f"{type(opt).__name__}: 'lr' is"):
            opt.step([np.ones(5)])
    np.testing.assert_array_equal(p, before)
    opt.param_groups[0]["lr"] = 0.0
    opt.step([np.zeros(5)])


def test_a_rate_and_another_option_that_change_together_are_both_seen():
    p, q = np.ones(5), np.ones(5)
    opt, twin = optim.SGD([p], lr=0.1), optim.SGD([q], lr=0.3, momentum=0.9, weight_decay=0.1)
    opt.param_groups[0].update(lr=0.3, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        opt.step([np.arange(5.0)])
        twin.step([np.arange(5.0)])
    np.testing.assert_array_equal(p, q)


def test_the_rate_of_one_group_changes_that_group():
    p, q = np.ones(3), np.ones(3)
    opt = optim.SGD([{"params": [p]}, {"params": [q], "lr": 0.5}], lr=0.1)
    opt.step([np.zeros(3), np.zeros(3)])
    opt.param_groups[1]["lr"] = 0.25
    opt.step([np.ones(3), np.ones(3)])
    np.testing.assert_allclose([p[0], q[0]], [0.9, 0.75])


def test_the_extension_says_where_scalars_start():
    kernels = {k["name"]: k for k in _C.kernels()}
    assert kernels["nadam"]["starts"] == (1.0,)
    assert all(len(k["starts"]) == len(k["scalars"]) for k in kernels.values())


class Follows(optim.RMSprop):
    """A state that starts at the rate."""

    _rule = Rule(
        "rmsprop",
        State("square_avg", start="lr"),
        State("momentum_buffer", when="momentum"),
        State("grad_avg", when="centered"),
    )


class Adagradlike(optim.RMSprop):
    """A state that starts at an option of its own, as Adagrad's does."""

    _rule = Rule(
        "rmsprop",
        State("square_avg", start="initial_value"),
        State("momentum_buffer", when="momentum"),
        State("grad_avg", when="centered"),
        ranges={"initial_value": Range(0)},
    )

    def __init__(self, params, initial_value=0.5, **options):
        given = {**RMSPROP, **options, "initial_value": initial_value}
        optim.Optimizer.__init__(self, params, given)


RMSPROP = {
    name: parameter.default
    for name, parameter in inspect.signature(optim.RMSprop).parameters.items()
    if parameter.default is not parameter.empty
}


@pytest.mark.parametrize("value", [-5, -5.0, np.nan, np.inf, "x", None, True, [1.0, 2.0]])
@pytest.mark.parametrize("way", ["constructor", "group", "later", "loaded"])
def test_an_option_that_a_state_starts_at_is_checked(way, value):
    p = np.ones(3)
    words = "Adagradlike: 'initial_value' is .*, expected a number >= 0"
    opt = Adagradlike([p])
    with pytest.raises((ValueError, TypeError), match=words):  # noqa: PT012
        if way == "constructor":
            Adagradlike([p], initial_value=value)
        elif way == "group":
            opt.add_param_group({"params": [np.ones(2)], "initial_value": value})
        elif way == "later":
            opt.param_groups[0]["initial_value"] = value
            opt.step([np.ones(3)])
        else:
            saved = opt.state_dict()
            saved["param_groups"][0]["initial_value"] = value
            opt.load_state_dict(saved)
    assert p.tolist() == [1, 1, 1]
    assert len(opt.param_groups) == 1
    assert way == "later" or opt.param_groups[0]["initial_value"] == 0.5


def test_a_state_starts_at_the_option_of_its_group():
    p, q = np.ones(3), np.ones(2)
    opt = Adagradlike([{"params": [p]}, {"params": [q], "initial_value": 4}], initial_value=2.0)
    assert [held.tolist() for held in opt._states["square_avg"]] == [[2, 2, 2], [4, 4]]
    assert opt.state_dict()["param_groups"][1]["initial_value"] == 4
    assert opt._rule.lr_leads  # a new rate needs no look at the other options
    assert not Follows([p])._rule.lr_leads


@pytest.mark.parametrize("ranges", [None, {"momentum": Range(0)}, {"other": None}])
def test_an_option_that_a_state_starts_at_needs_a_range(ranges):
    with pytest.raises(
        ValueError, match="'exp_avg' starts at the option 'other', expected a range"
    ):
        Rule("lion", State("exp_avg", start="other"), ranges=ranges)


@pytest.mark.parametrize("start", ["lr", 2.0])
def test_the_reference_of_a_record_starts_where_the_optimizer_does(start):
    class Begins(optim.Lion):
        _rule = Rule("lion", State("exp_avg", start=start))

    record = dataclasses.replace(
        OPTIMIZERS["lion"], cls=Begins, states=[cases.State("exp_avg", None, start, cases.signed)]
    )
    p = np.ones(4)
    opt, want = Begins([p], lr=0.25), record.trajectory([p.copy()], lr=0.25)
    for _ in range(3):
        opt.step([np.full(4, -0.5)])
        want.step([np.full(4, -0.5)])
        np.testing.assert_allclose(p, want.params[0], rtol=1e-14)


class CountedPlan:
    """A plan that counts how often its steps are read, which on a device waits for it."""

    def __init__(self, plan):
        self._plan, self.reads = plan, 0

    @property
    def steps(self):
        self.reads += 1
        return self._plan.steps

    def __getattr__(self, name):
        return getattr(self._plan, name)


def test_starts_that_follow_options_read_the_counts_no_more_once_all_have_started():
    p, q = np.ones(3), np.ones(2)
    opt = Follows([p, q], lr=0.1)
    opt.step([np.ones(3), None])
    opt._plan = counted = CountedPlan(opt._plan)
    for lr in (0.2, 0.3):
        opt.param_groups[0]["lr"] = lr
        opt.step([np.ones(3), None])
    assert counted.reads == 2
    assert opt._states["square_avg"][1].tolist() == [0.3, 0.3]
    opt.step([np.ones(3), np.ones(2)])
    for lr in (0.4, 0.5, 0.6):
        opt.param_groups[0]["lr"] = lr
        opt.step([np.ones(3), np.ones(2)])
    assert counted.reads == 3
    r = np.ones(4)
    opt._plan = counted._plan
    opt.add_param_group({"params": [r]})
    opt.param_groups[0]["lr"] = opt.param_groups[1]["lr"] = 0.7
    opt.step([None, None, None])
    assert opt._states["square_avg"][2].tolist() == [0.7] * 4


def test_starts_that_follow_options_do_so_after_a_state_was_loaded():
    p, q = np.ones(3), np.ones(2)
    opt = Follows([p, q], lr=0.1)
    opt.step([np.ones(3), None])
    saved = copy.deepcopy(opt.state_dict())
    opt.step([np.ones(3), np.ones(2)])
    opt.param_groups[0]["lr"] = 0.2
    opt.step([np.ones(3), np.ones(2)])
    opt.load_state_dict(saved)
    opt.param_groups[0]["lr"] = 0.5
    opt.step([np.ones(3), None])
    assert opt._states["square_avg"][1].tolist() == [0.5, 0.5]


def test_an_optimizer_of_ones_own_may_name_its_options_in_any_order():
    class Mine(optim.SGD):
        def __init__(self, params, weight_decay, lr):
            optim.Optimizer.__init__(
                self, params,
                {"weight_decay": weight_decay, "lr": lr, "momentum": 0.0, "dampening": 0.0,
                 "nesterov": False, "maximize": False, "compat": "torch"},
            )  # fmt: skip

    p, q = np.ones(3), np.ones(3)
    mine, twin = Mine([p], 0.1, 0.5), optim.SGD([q], 0.5, weight_decay=0.1)
    for wd in (0.1, 0.2):
        for opt in (mine, twin):
            opt.param_groups[0]["weight_decay"] = wd
            opt.step([np.ones(3)])
    np.testing.assert_array_equal(p, q)
    assert "lr" in inspect.signature(Mine).parameters


@pytest.mark.parametrize(
    ("grads", "words"),
    [
        ("x", r"'grads\[1\]' is a str"),
        ([1, 2, 3], r"'grads\[1\]' is a list"),
        (np.ones(3, bool), r"'grads\[1\]' has dtype bool"),
        (np.ones(3, np.int64), r"'grads\[1\]' has dtype int64"),
        (np.ma.masked_array(np.ones(3, np.float32), [0, 1, 0]), r"'grads\[1\]' is a MaskedArray"),
        (np.ones(4, np.float32), r"'grads\[1\]' has shape \(4,\)"),
    ],
)
def test_a_wrong_gradient_of_a_group_that_ascends_is_refused_by_name(grads, words):
    params = [np.ones(3, np.float32) for _ in range(2)]
    groups = [{"params": params[:1]}, {"params": params[1:], "maximize": True}]
    optimizer = optim.SGD(groups, lr=0.1)
    with pytest.raises((TypeError, ValueError), match=f"^SGD: {words}"):
        optimizer.step([np.ones(3, np.float32), grads])
    assert all((p == 1).all() for p in params)
    optimizer.step(np.ones(3, np.float32) for _ in params)  # gradients one after another
    np.testing.assert_allclose(params, [[0.9] * 3, [1.1] * 3], rtol=1e-6)


@pytest.mark.parametrize("differ", [False, True])
def test_gradients_that_are_no_list_are_refused_by_name(differ):
    params = [np.ones(3, np.float32) for _ in range(2)]
    groups = [{"params": params[:1]}, {"params": params[1:], "maximize": differ}]
    with pytest.raises(TypeError, match=r"^SGD: 'grads' is a int, expected a list"):
        optim.SGD(groups, lr=0.1).step(5)
