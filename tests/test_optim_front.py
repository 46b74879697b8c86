"""Optimizers apart from their arithmetic: groups, closures, states, PyTorch's
keywords, converted parameters, models."""

import copy
import threading

import numpy as np
import pytest
from cases.optimizers import OPTIMIZERS
from helpers import each_variant
from onepass import nn, ops, optim
from onepass.optim._riders import OF_GROUPS
from small_steps import backward, network

# ------------------------------------------------------------------------------------------- groups


def test_keys_of_ones_own_are_kept_in_groups_and_in_state_dicts():
    p, q = np.ones(3), np.ones(2)
    groups = [{"params": [p], "name": "body", "lr_scale": 0.5}, {"params": [q], "tags": [1, 2]}]
    opt = optim.AdamW(groups, lr=0.1)
    assert (opt.param_groups[0]["name"], opt.param_groups[0]["lr_scale"]) == ("body", 0.5)
    opt.step([np.ones(3), np.ones(2)])
    saved = opt.state_dict()
    assert saved["param_groups"][0]["name"] == "body"
    assert saved["param_groups"][1]["tags"] == [1, 2]
    other = optim.AdamW([{"params": [p.copy()]}, {"params": [q.copy()]}])
    other.load_state_dict(copy.deepcopy(saved))
    assert other.param_groups[0]["lr_scale"] == 0.5
    opt.add_param_group({"params": [np.ones(1)], "name": "late"})
    assert opt.param_groups[2]["name"] == "late"


def test_keys_of_ones_own_change_no_bit():
    p, q = np.ones(3), np.ones(3)
    for array, more in ((p, {}), (q, {"name": "x", "lr_scale": 0.1, "initial_lr": 3.0})):
        optim.SGD([{"params": [array], **more}], lr=0.1).step([np.arange(3.0)])
    np.testing.assert_array_equal(p, q)


SLIPS = {
    "weigth_decay": "weight_decay",
    "weight-decay": "weight_decay",
    "weightdecay": "weight_decay",
    "learning_rate": "lr",
    "LR": "lr",
    "lrs": "lr",
    "beta": "betas",
    "esp": "eps",
    "epsilon": "eps",
    "wd": "weight_decay",
    "param": "params",
    "maximise": "maximize",
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_of_the_pen_in_a_group_is_refused_with_the_right_name(slip):
    words = rf"AdamW: unknown option '{slip}' in a parameter group; did you mean '{SLIPS[slip]}'"
    with pytest.raises(TypeError, match=words):
        optim.AdamW([{"params": [np.ones(3)], slip: 0.1}])
    opt = optim.AdamW([np.ones(3)])
    with pytest.raises(TypeError, match=words):
        opt.add_param_group({"params": [np.ones(2)], slip: 0.1})
    assert len(opt.param_groups) == 1


WORDS = "name lr_scale initial_lr swa_lr layer_id tag lr_mult is_bias max_lr min_lr decay_rate"


@pytest.mark.parametrize("name", WORDS.split())
def test_words_that_people_use_are_no_slips(name):
    assert optim.AdamW([{"params": [np.ones(3)], name: 1}]).param_groups[0][name] == 1


@pytest.mark.parametrize("name", ["momentum", "nesterov", "centered", "alpha", "compat"])
def test_an_option_of_another_optimizer_in_a_group_is_refused(name):
    """It would do nothing."""
    with pytest.raises(TypeError, match=f"'{name}' in a parameter group is not an option of AdamW"):
        optim.AdamW([{"params": [np.ones(3)], name: 0.5}])


@pytest.mark.parametrize(
    ("params", "kind", "words"),
    [
        ({"w": np.ones(3)}, ValueError, r"has the keys 'w', expected 'params'.*list\(arrays"),
        ([{"params": [np.ones(3)]}, [np.ones(2)]], TypeError, "a group is a list, expected a dict"),
        (3, TypeError, "'params' is int, expected a list of arrays or parameters, a module"),
        ("abc", TypeError, "'params' is str"),
        (np.ones(3), TypeError, "'params' is ndarray"),
        ([], ValueError, "'params' is empty"),
        ({"params": []}, ValueError, "'params' is empty"),
        ({"params": 3}, TypeError, "'params' is int"),
        ([np.ones(3), 1.0], TypeError, r"'params\[1\]' is a float, expected an array: NumPy"),
        ([[1.0, 2.0]], TypeError, r"'params\[0\]' is a list, expected an array"),
        ([None], TypeError, r"'params\[0\]' is None, expected an array"),
        ([np.float32(1)], TypeError, r"'params\[0\]' is a float32, expected an array"),
        ([("a", "b")], TypeError, r"'params\[0\]' is a str, expected an array"),
        ([{"params": [1.0]}], TypeError, r"'params\[0\]' is a float, expected an array"),
        ([np.ones(2), {"params": [np.ones(3)]}], TypeError, r"'params\[1\]' is a dict, expected"),
        (nn.Sequential(nn.ReLU()), ValueError, "'params' is empty"),
    ],
    ids=str,
)
def test_what_is_no_parameters(params, kind, words):
    with pytest.raises(kind, match=f"SGD: .*{words}"):
        optim.SGD(params)


BY_HAND = {
    "appended": (lambda groups: groups[0]["params"].append(np.ones(2)), r"groups of \[2, 1\]"),
    "exchanged": (
        lambda groups: groups[0].update(params=[np.ones(3)]),
        "'params' of group 0 has another parameter at 0",
    ),
    "replaced": (
        lambda groups: groups[1]["params"].__setitem__(0, np.ones(4)),
        "'params' of group 1 has another parameter at 0",
    ),
    "a copy": (
        lambda groups: groups[0]["params"].__setitem__(0, copy.copy(groups[0]["params"][0])),
        "'params' of group 0 has another parameter at 0",
    ),
    "one twice": (
        lambda groups: groups[1]["params"].__setitem__(0, groups[0]["params"][0]),
        "'params' of group 1 has another parameter at 0",
    ),
    "swapped": (
        lambda groups: groups.reverse(),
        "'params' of group 0 has another parameter at 0",
    ),
    "tuple": (
        lambda g: g[0].update(params=tuple(g[0]["params"])),
        "a group's 'params' is not a list",
    ),
    "an array for the parameters": (
        lambda groups: groups[0].update(params=np.ones(1)),
        "groups of .*array.*, expected",
    ),
    "an array of numbers for a group": (
        lambda groups: groups.__setitem__(0, np.ones(1)),
        "groups of .*array.*, expected",
    ),
    "a number for the parameters": (
        lambda groups: groups[0].update(params=1),
        r"groups of \[1, 1\] parameters, expected",
    ),
    "a list for a group": (
        lambda groups: groups.__setitem__(0, groups[0]["params"]),
        "a group is not a dict",
    ),
    "deleted": (lambda groups: groups[0]["params"].__delitem__(0), r"groups of \[0, 1\]"),
    "cleared": (lambda groups: groups[0]["params"].clear(), r"groups of \[0, 1\]"),
    "no params": (lambda groups: groups[0].pop("params"), r"groups of \[0, 1\]"),
    "group": (lambda groups: groups.append({"params": [np.ones(2)]}), r"groups of \[1, 1, 1\]"),
    "whole group": (
        lambda groups: groups.append({**groups[0], "params": [np.ones(2)]}),
        r"groups of \[1, 1, 1\] parameters, expected \[1, 1\]",
    ),
    "removed": (lambda groups: groups.pop(), r"groups of \[1\]"),
    "emptied": (lambda groups: groups.clear(), r"groups of \[\] "),
}


@pytest.mark.parametrize("groups", [None, 3, {}])
def test_what_is_no_list_of_groups_is_refused(groups):
    optimizer = optim.SGD([np.ones(1)], lr=0.1)
    optimizer.param_groups = groups
    with pytest.raises(ValueError, match=r"SGD: 'param_groups' was changed: groups of .*expected"):
        optimizer.step([np.ones(1)])


@pytest.mark.parametrize("kind", ["array", "Parameter"])
@pytest.mark.parametrize("change", BY_HAND)
def test_parameters_put_into_groups_by_hand_are_refused(change, kind):
    """No step would train them."""
    p, q = np.ones(3), np.ones(4)
    wrap = nn.Parameter if kind == "Parameter" else lambda a: a
    opt = optim.SGD([{"params": [wrap(p)]}, {"params": [wrap(q)]}], lr=0.1, momentum=0.9)
    opt.step([np.ones(3), np.ones(4)])
    saved = copy.deepcopy(opt.state_dict())
    before = p.copy()
    act, words = BY_HAND[change]
    act(opt.param_groups)
    calls = [
        lambda: opt.step([np.ones(3), np.ones(4)]),
        opt.state_dict,
        lambda: opt.add_param_group({"params": [np.ones(2)]}),
        lambda: opt.step([np.ones(3), np.ones(4)]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=rf"'param_groups' was changed: .*{words}.*add_param"):
            call()
    np.testing.assert_array_equal(p, before)
    assert len(opt.param_groups) == len(saved["param_groups"]) + {
        "group": 1, "whole group": 1, "removed": -1, "emptied": -2,
    }.get(change, 0)  # fmt: skip


@pytest.mark.parametrize("cls", [record.cls for record in OPTIMIZERS])
def test_an_option_deleted_from_a_group_is_named(cls):
    p = np.ones(3)
    for option in cls([p]).defaults:
        opt = cls([p], lr=0.1)
        opt.step([np.ones(3)])
        value = opt.param_groups[0].pop(option)
        before = p.copy()
        for call in (
            lambda opt=opt: opt.step([np.ones(3)]),
            opt.state_dict,
            lambda opt=opt: opt.load_state_dict(cls([np.ones(3)]).state_dict()),
            lambda opt=opt: opt.add_param_group({"params": [np.ones(2)]}),
        ):
            with pytest.raises(ValueError, match=f"group 0 has no '{option}', expected every"):
                call()
        np.testing.assert_array_equal(p, before)
        opt.param_groups[0][option] = value
        opt.step([np.ones(3)])
        assert (p != before).any()


def test_a_parameter_that_is_put_back_is_trained_on():
    p, twin = np.ones(3), np.ones(3)
    opt, other = optim.AdamW([p], lr=0.1), optim.AdamW([twin], lr=0.1)
    opt.step([np.ones(3)])
    opt.param_groups[0]["params"][0] = np.zeros(3)
    with pytest.raises(ValueError, match="has another parameter at 0"):
        opt.step([np.ones(3)])
    opt.param_groups[0]["params"][0] = p
    opt.step([np.ones(3)])
    for _ in range(2):
        other.step([np.ones(3)])
    np.testing.assert_array_equal(p, twin)


def test_another_list_of_the_same_parameters_is_taken():
    p, twin = np.ones(3), np.ones(3)
    opt, other = optim.AdamW([p], lr=0.1), optim.AdamW([twin], lr=0.1)
    for turn in range(3):
        opt.step([np.ones(3)])
        other.step([np.ones(3)])
        opt.param_groups[0]["params"] = list(opt.param_groups[0]["params"])
        if turn == 1:
            opt.param_groups[0] = dict(opt.param_groups[0])
    opt.param_groups[0]["params"].append(np.ones(2))
    with pytest.raises(ValueError, match=r"groups of \[2\] parameters, expected \[1\]"):
        opt.step([np.ones(3)])
    np.testing.assert_array_equal(p, twin)


@pytest.mark.parametrize(
    "value", [np.array(0.0), np.zeros(()), [0.9, 0.999]], ids=["0-d", "zeros", "list"]
)
def test_an_option_that_becomes_an_array_of_the_same_value_is_followed_in_place(value):
    """An equal object that can change is looked at again before every step."""
    name = "betas" if isinstance(value, list) else "weight_decay"
    results = []
    for late in (False, True):
        p = np.ones(3)
        opt = optim.AdamW([p], lr=0.1, weight_decay=0.0)
        opt.step([np.ones(3)])
        if late:
            opt.param_groups[0][name] = held = copy.copy(value)
            opt.step([np.ones(3)])
            held[... if name == "weight_decay" else slice(None)] = (
                0.5 if name == "weight_decay" else [0.5, 0.9]
            )
        else:
            opt.step([np.ones(3)])
            opt.param_groups[0][name] = 0.5 if name == "weight_decay" else (0.5, 0.9)
        opt.step([np.ones(3)])
        results.append(p)
    np.testing.assert_array_equal(*results)


def test_an_array_within_a_tuple_is_followed_in_place():
    results = []
    for late in (False, True):
        p, beta = np.ones(3), np.array(0.9)
        opt = optim.AdamW([p], lr=0.1, betas=(beta, 0.999))
        opt.step([np.ones(3)])
        if late:
            beta[...] = 0.1
        else:
            opt.param_groups[0]["betas"] = (0.1, 0.999)
        opt.step([np.full(3, -2.0)])
        results.append(p)
    np.testing.assert_array_equal(*results)


def test_a_model_is_taken_as_its_parameters_and_names_them():
    model, twin = network(), network()
    twin.load_state_dict(model.state_dict())
    for m, opt in ((model, optim.AdamW(model, lr=0.1)),
                   (twin, optim.AdamW(twin.parameters(), lr=0.1))):  # fmt: skip
        backward(m)
        opt.step()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, twin.state_dict()[name])
    opt = optim.SGD(model)
    grads = [np.zeros_like(p.data) for p in model.parameters()]
    grads[2][0] = np.nan
    with pytest.raises(FloatingPointError, match=r"parameter 2 \(1\.weight\)"):
        opt.step(grads, nonfinite="raise")
    grouped = optim.SGD([{"params": model[0], "lr": 0.5}, {"params": model[3]}])
    assert [len(g["params"]) for g in grouped.param_groups] == [2, 2]


def test_a_model_of_pytorch_is_taken_too():
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 2)
    opt = optim.AdamW(model, lr=0.1)
    assert opt.param_groups[0]["params"] == list(model.parameters())


# ---------------------------------------------------------------------------------- PyTorch's words


@each_variant
def test_keywords_that_say_how_a_step_runs_are_ignored(variant):
    p, q = np.ones(5), np.ones(5)
    opt = variant.make([p], lr=0.1, fused=True, foreach=False, capturable=True)
    twin = variant.make([q], lr=0.1)
    for _ in range(3):
        opt.step([np.arange(5.0)])
        twin.step([np.arange(5.0)])
    np.testing.assert_array_equal(p, q)
    assert set(opt.param_groups[0]) == set(twin.param_groups[0])


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"differentiable": True}, ValueError, "'differentiable' is True, expected False: a step"),
        ({"capturable": "yes"}, TypeError, "'capturable' is 'yes', expected True or False"),
        ({"fused": "yes"}, TypeError, "'fused' is 'yes', expected True or False"),
        (
            {"weigth_decay": 0.1},
            TypeError,
            "unknown keyword 'weigth_decay'; did you mean 'weight",
        ),
        ({"learning_rate": 0.1}, TypeError, "unknown keyword 'learning_rate'; did you mean 'lr'"),
        ({"fuse": True}, TypeError, "unknown keyword 'fuse'; did you mean 'fused'"),
        ({"zzz": 1}, TypeError, "unknown keyword 'zzz', expected lr, betas, eps, weight_decay, "),
        ({"momentum": 0.9}, TypeError, "unknown keyword 'momentum', expected lr, betas, "),
        (
            {"decoupled_weight_decay": False},
            TypeError,
            "'decoupled_weight_decay' is False, expected no such keyword: AdamW always has "
            "decoupled_weight_decay=True; use Adam to choose$",
        ),
        ({"decoupled_weight_decay": True}, TypeError, "'decoupled_weight_decay' is True, expected"),
        ({"decoupled_weight_deca": True}, TypeError, ".*did you mean 'decoupled_weight_decay'"),
    ],
    ids=str,
)
def test_keywords_that_would_change_something_are_refused(given, kind, words):
    with pytest.raises(kind, match=f"AdamW: {words}"):
        optim.AdamW([np.ones(3)], **given)


def test_a_subclass_of_ones_own_says_where_an_option_can_be_chosen():
    class Mine(optim.AdamW):
        def __init__(self, params, **more):
            super().__init__(params, lr=0.1, **more)

    with pytest.raises(TypeError, match="Mine always has decoupled_weight_decay=True; use Adam to"):
        Mine([np.ones(3)], decoupled_weight_decay=False)


NO_FLAGS = ["yes", "False", None, 2, -1, 0.5, np.array(1), np.array([1, 0]), [], {}]


@pytest.mark.parametrize("value", NO_FLAGS, ids=repr)
@pytest.mark.parametrize("kind", ["array", "Parameter", "closure"])
def test_zero_grad_that_is_no_flag_is_refused_and_nothing_is_changed(kind, value):
    p = np.ones(3)
    held = nn.Parameter(p) if kind == "Parameter" else p
    opt = optim.SGD([held], lr=0.1)
    grad, called = np.ones(3), []
    grads = {"array": [grad], "Parameter": None, "closure": lambda: called.append(1)}[kind]
    if kind == "Parameter":
        held.grad = grad
    with pytest.raises(TypeError, match=r"^SGD: 'zero_grad' is .*, expected True or False$"):
        opt.step(grads, zero_grad=value)
    with pytest.raises(TypeError, match=r"^SGD: 'set_to_none' is .*, expected True or False$"):
        opt.zero_grad(value)
    assert not called
    np.testing.assert_array_equal(p, 1)
    np.testing.assert_array_equal(grad, 1)
    assert opt.state_dict()["state"] == {}


@pytest.mark.parametrize("value", NO_FLAGS, ids=repr)
def test_the_flags_of_a_parameter_are_flags(value):
    with pytest.raises(TypeError, match=r"^Parameter: 'requires_grad' is .*, expected True or F"):
        nn.Parameter(np.ones(3), value)
    parameter, model = nn.Parameter(np.ones(3)), nn.Linear(3, 2)
    for call in (parameter.zero_grad, model.zero_grad):
        with pytest.raises(TypeError, match=r"^Parameter: 'set_to_none' is .*, expected True or F"):
            call(value)


@pytest.mark.parametrize("value", NO_FLAGS, ids=repr)
@pytest.mark.parametrize("option", ["zero_grad", "maximize"])
def test_the_flags_of_a_function_are_flags(option, value):
    p = np.ones(3)
    with pytest.raises(TypeError, match=rf"^sgd_: '{option}' is .*, expected True or False$"):
        ops.sgd_([p], [np.ones(3)], **{option: value})
    np.testing.assert_array_equal(p, 1)


@pytest.mark.parametrize("value", [True, 1, np.True_, False, 0, np.False_], ids=repr)
def test_what_counts_as_true_or_false_does_so_everywhere(value):
    p, g = np.ones(3), np.ones(3)
    optim.SGD([p], lr=0.5, maximize=value).step([g], zero_grad=value)
    np.testing.assert_array_equal(p, 1.5 if value else 0.5)
    np.testing.assert_array_equal(g, 0 if value else 1)
    q, g = np.ones(3), np.ones(3)
    ops.sgd_([q], [g], lr=0.5, maximize=value, zero_grad=value)
    np.testing.assert_array_equal(q, p)
    np.testing.assert_array_equal(g, 0 if value else 1)


@pytest.mark.parametrize(
    "value",
    ["Skip", "ignore", "", None, True, 1, [], ["skip"], np.array(["skip", "raise"])],
    ids=repr,
)
def test_nonfinite_that_is_no_word_of_the_three_is_refused(value):
    p = np.ones(3)
    opt = optim.SGD([p], lr=0.1)
    words = "'nonfinite' is .*, expected 'propagate', 'skip' or 'raise'"
    with pytest.raises(ValueError, match=f"(?s)^SGD: {words}"):
        opt.step([np.ones(3)], nonfinite=value)
    with pytest.raises(ValueError, match=f"(?s)^sgd_: {words}"):
        ops.sgd_([p], [np.ones(3)], nonfinite=value)
    np.testing.assert_array_equal(p, 1)


def test_a_word_for_nonfinite_may_be_made_at_run_time():
    p = np.ones(3)
    opt = optim.SGD([p], lr=0.1)
    for word in ("propa", "sk"):
        opt.step([np.ones(3)], nonfinite=word + {"propa": "gate", "sk": "ip"}[word])
    assert p[0] == pytest.approx(0.8)


def test_groups_of_a_pytorch_optimizer_are_taken():
    torch = pytest.importorskip("torch")
    theirs = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))], lr=0.3)
    opt = optim.AdamW(theirs.param_groups)
    assert opt.param_groups[0]["lr"] == 0.3
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.ones(3))], lr=0.3, differentiable=True)
    with pytest.raises(ValueError, match="'differentiable' is True, expected False"):
        optim.SGD(theirs.param_groups)


def test_a_closure_is_called_before_the_step_with_autograd_on():
    torch = pytest.importorskip("torch")
    mine, theirs = (torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    pairs = [(mine, optim.SGD([mine], lr=0.1)), (theirs, torch.optim.SGD([theirs], lr=0.1))]
    losses = []
    for p, opt in pairs:

        def closure(p=p, opt=opt):
            opt.zero_grad()
            loss = (p**2).sum()
            loss.backward()
            return loss

        with torch.no_grad():
            losses.append([opt.step(closure) for _ in range(3)])
    np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), rtol=1e-6)
    assert [i.loss.item() for i in losses[0]] == pytest.approx([x.item() for x in losses[1]])
    assert losses[0][0] == (False, None, None)


def test_a_closure_over_arrays():
    model = network()
    opt = optim.AdamW(model, lr=0.1)
    before = copy.deepcopy(model.state_dict())

    def closure():
        backward(model)
        return 0.5

    info = opt.step(closure, max_norm=0.1, zero_grad=True)
    assert info.loss == 0.5
    assert info.grad_norm > 0
    assert repr(info) == f"StepInfo(skipped=False, grad_norm={info[1]!r}, nonfinite_param=None)"
    assert not np.array_equal(model.state_dict()["0.weight"], before["0.weight"])
    assert opt.step([np.zeros_like(p.data) for p in model.parameters()]).loss is None
    with pytest.raises(ZeroDivisionError):
        opt.step(lambda: 1 / 0)
    assert {s["step"] for s in opt.state_dict()["state"].values()} == {2}


def test_the_state_of_a_parameter_is_looked_up_by_the_parameter():
    p, q = np.ones(3, np.float32), np.ones((2, 2), np.float32)
    opt = optim.AdamW([p, q], lr=0.1)
    assert (len(opt.state), opt.state[p]) == (0, {})
    opt.step([np.float32([1, 2, 3]), None])
    entry = opt.state[p]
    assert set(entry) == {"step", "exp_avg", "exp_avg_sq"}
    assert entry["step"] == 1
    np.testing.assert_allclose(entry["exp_avg"], [0.1, 0.2, 0.3], rtol=1e-6)
    assert p in opt.state
    assert q not in opt.state
    assert list(map(id, opt.state)) == [id(p)]
    entry["exp_avg"][...] = 7  # the array is the optimizer's own
    assert opt.state_dict()["state"][0]["exp_avg"][0] == 7
    with pytest.raises(TypeError):
        entry["step"] = 5  # a number is not: it would be lost
    with pytest.raises(KeyError):
        opt.state[np.ones(3)]
    with pytest.raises(AttributeError):
        opt.state = {}


def test_the_state_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    mine, theirs = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    opt, other = (cls([p], lr=0.1) for cls, p in ((optim.Adam, mine), (torch.optim.Adam, theirs)))
    for p in (mine, theirs):
        p.grad = torch.tensor([1.0, 2.0, 3.0])
    opt.step()
    other.step()
    assert set(opt.state[mine]) == set(other.state[theirs])
    for key, value in other.state[theirs].items():
        np.testing.assert_allclose(np.asarray(opt.state[mine][key]), value.numpy(), rtol=1e-6)
    riders = set(OF_GROUPS)
    formula = {
        "bias_correction",
        "eps_hat",
        "decay_by_lr",
        "decay_last",
        "amsgrad_corrected",
    }  # of bias_correction=, compat=
    assert set(opt.defaults) - riders - formula <= {*other.defaults, "lr"}
    assert opt.defaults["lr"] == 0.1


def test_changed_defaults_are_those_of_the_next_group():
    opt = optim.SGD([np.ones(3)], lr=0.1)
    opt.defaults["lr"] = 0.7
    opt.add_param_group({"params": [np.ones(2)]})
    assert [g["lr"] for g in opt.param_groups] == [0.1, 0.7]


# --------------------------------------------------------------------------- converted, sparse


@pytest.mark.parametrize("to", ["double", "half", "bfloat16"])
@pytest.mark.parametrize("cls", [optim.AdamW, optim.SGD])
def test_a_model_converted_after_the_optimizer_was_made(cls, to):
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 2)
    options = {"momentum": 0.9} if cls is optim.SGD else {}
    opt = cls(model, lr=0.1, **options)
    model(torch.ones(1, 3)).sum().backward()
    opt.step()
    model.zero_grad()
    getattr(model, to)()
    before = [p.detach().clone() for p in model.parameters()]
    model(torch.ones(1, 3, dtype=model.weight.dtype)).sum().backward()
    if to == "double":
        with pytest.raises(TypeError, match=r"parameter 0 \(weight\) has dtype torch.float64, and "
                                            r"its .* make the optimizer after"):  # fmt: skip
            opt.step()
        assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    else:  # states of 16-bit parameters are float32 as before
        opt.step()
        assert not torch.equal(model.weight, before[0])


def test_parameters_of_ours_converted_after_the_optimizer_was_made():
    model = network()
    opt = optim.AdamW(model, lr=0.1)
    backward(model)
    opt.step()
    for p in model.parameters():
        p.data = p.data.astype(np.float64)
    grads = [np.ones_like(p.data) for p in model.parameters()]
    for _ in range(2):
        with pytest.raises(TypeError, match=r"AdamW: parameter 0 \(0\.weight\) has dtype float64"):
            opt.step(grads)


def test_sparse_gradients_are_refused_by_name():
    torch = pytest.importorskip("torch")
    table = torch.nn.Embedding(5, 3, sparse=True)
    opt = optim.RMSprop(table.parameters(), lr=0.1)
    table(torch.tensor([1])).sum().backward()
    before = table.weight.detach().clone()
    words = r"'grads\[0\]' is a sparse Tensor, expected a dense array"
    with pytest.raises(TypeError, match=f"RMSprop: {words}"):
        opt.step()
    with pytest.raises(TypeError, match=f"sgd_: {words}"):
        ops.sgd_([table.weight], [table.weight.grad])
    assert torch.equal(table.weight, before)


def test_sparse_matrices_of_scipy_are_refused_by_name():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"'grads\[0\]' is a sparse csr_(matrix|array), expected a"):
        optim.SGD([np.ones((3, 3))]).step([sparse.csr_matrix(np.eye(3))])


# --------------------------------------------------------------------------------------- threads


def test_an_optimizer_in_two_threads_is_an_error_or_one_step_after_the_other():
    """Every step that does not raise is a whole step."""
    size, threads, rounds = 200_001, 4, 12
    p, q, g = np.ones(size, np.float32), np.ones(size, np.float32), np.ones(size, np.float32)
    opt, twin = optim.AdamW([p], lr=0.01), optim.AdamW([q], lr=0.01)
    done, refused = [], []
    begin = threading.Barrier(threads)

    def work():
        begin.wait()
        for _ in range(rounds):
            try:
                opt.step([g])
                done.append(1)
            except RuntimeError as error:
                refused.append(str(error))

    everyone = [threading.Thread(target=work) for _ in range(threads)]
    for thread in everyone:
        thread.start()
    for thread in everyone:
        thread.join()
    for _ in done:
        twin.step([g])
    np.testing.assert_array_equal(p, q)
    assert opt.state[p]["step"] == len(done)
    assert len(done) + len(refused) == threads * rounds
    assert all("AdamW: another thread uses it" in words for words in refused)


CALLS = [
    "step",
    "closure",
    "state_dict",
    "state",
    "load_state_dict",
    "add_param_group",
    "zero_grad",
]


@pytest.mark.parametrize("call", CALLS)
def test_what_another_thread_may_not_do_during_a_step(call):
    """While the gradients of a step are read, here by an attribute that takes its time."""
    inside, leave = threading.Event(), threading.Event()

    class Slow(np.ndarray):
        @property
        def grad(self):
            inside.set()
            assert leave.wait(10)
            return np.ones(3)

        @grad.setter
        def grad(self, value):
            pass

    p = np.ones(3).view(Slow)
    opt = optim.AdamW([p], lr=0.1)
    saved = opt.state_dict()
    calls = {
        "step": lambda: opt.step([np.ones(3)]),
        "closure": lambda: opt.step(lambda: 1.0),
        "zero_grad": opt.zero_grad,
        "state": lambda: opt.state[p],
        "state_dict": opt.state_dict,
        "load_state_dict": lambda: opt.load_state_dict(saved),
        "add_param_group": lambda: opt.add_param_group({"params": [np.ones(2)]}),
    }
    thread = threading.Thread(target=opt.step)
    thread.start()
    assert inside.wait(10)
    try:
        with pytest.raises(RuntimeError, match="AdamW: another thread uses it"):
            calls[call]()
        copied = copy.deepcopy(opt)
    finally:
        leave.set()
        thread.join()
    calls[call]()
    copied.state_dict()  # a copy is not in use
