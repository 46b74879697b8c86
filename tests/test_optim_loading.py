"""load_state_dict of an optimizer: what fits is taken, anything else is refused in one message that
names the parameter and the entry, and nothing is changed."""

import copy
import decimal
import math

import numpy as np
import pytest
from helpers import each_variant
from onepass import nn, optim


def trained(cls=optim.AdamW, **options):
    model = nn.Sequential(nn.Linear(3, 2))
    opt = cls(model, lr=0.1, **options)
    for _ in range(3):
        opt.step([np.ones((2, 3), np.float32), np.ones(2, np.float32)])
    return opt


def assert_refused(opt, state, words):
    before = copy.deepcopy(opt.state_dict())
    weights = [p.data.copy() for p in opt.param_groups[0]["params"]]
    state["param_groups"][0]["lr"] = 9.0
    state["state"][0]["exp_avg"] = np.full((2, 3), 7, np.float32)
    with pytest.raises(ValueError, match=f"{words}.*; nothing was changed$"):
        opt.load_state_dict(state)
    after = opt.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for index, entry in before["state"].items():
        for key, value in entry.items():
            np.testing.assert_array_equal(after["state"][index][key], value)
    for p, w in zip(opt.param_groups[0]["params"], weights, strict=True):
        np.testing.assert_array_equal(p.data, w)


NO_COUNTS = {
    "a word": "3",
    "bytes": b"3",
    "negative": -3,
    "a fraction": 2.5,
    "a 0-d fraction": np.array(2.5),
    "nan": math.nan,
    "inf": math.inf,
    "true": True,
    "a numpy bool": np.True_,
    "a list": [3],
    "a vector": np.array([3]),
    "complex": 3j,
    "too large": 2**63,
    "far too large": 10**400,
    "masked": np.ma.masked,
    "a masked array": np.ma.array(3, mask=True),
    "a dict": {},
    "an object": object(),
}


@pytest.mark.parametrize("kind", NO_COUNTS)
def test_a_step_that_is_no_count_is_refused_by_name(kind):
    opt = trained()
    state = copy.deepcopy(opt.state_dict())
    state["state"][1]["step"] = NO_COUNTS[kind]
    words = r"(?s)^AdamW.load_state_dict: 'step' of parameter 1 \(0.bias\) is .*, expected a whole "
    assert_refused(opt, state, words)


@pytest.mark.parametrize("step", [
    3, 3.0, np.int64(3), np.float32(3), np.array(3), np.array(3.0, np.float32),
    decimal.Decimal(3), 2**62 + 1, np.int64(2**62 + 1),
], ids=repr)  # fmt: skip
def test_a_step_that_is_a_count_is_taken_exactly(step):
    opt = trained()
    state = copy.deepcopy(opt.state_dict())
    state["state"][1]["step"] = step
    opt.load_state_dict(state)
    assert opt.state_dict()["state"][1]["step"] == int(step)
    assert type(opt.state_dict()["state"][1]["step"]) is int


@each_variant
def test_a_state_that_lost_its_steps_does_not_begin_again_in_silence(variant):
    """SGD and Lion of other libraries have none: one gradient more or less does not matter
    there, nor to an optimizer that keeps nothing else."""
    p = np.ones(4)
    opt = variant.make([p])
    for _ in range(5):
        opt.step([np.ones(4)])
    state = copy.deepcopy(opt.state_dict())
    del state["state"][0]["step"]
    if isinstance(opt, (optim.SGD, optim.Lion)) or not variant.states:
        opt.load_state_dict(state)
        twin = copy.deepcopy(state)
        q = p.copy()
        other = variant.make([q])
        other.load_state_dict({**twin, "state": {0: {**twin["state"][0], "step": 5}}})
        opt.step([np.ones(4)])
        other.step([np.ones(4)])
        np.testing.assert_array_equal(p, q)
    else:
        with pytest.raises(ValueError, match="'step' of parameter 0 is missing, expected a state "):
            opt.load_state_dict(state)
        assert opt.state_dict()["state"][0]["step"] == 5


GOOD = np.ones(2, np.float32)
NO_MOMENTS = {
    "negative": (np.float32([1, -1e-30]), "holds a negative number"),
    "masked": (np.ma.masked_equal(np.float32([1, 2]), 2), "is a MaskedArray"),
    "a mask of nothing": (np.ma.array(GOOD), "is a MaskedArray"),
    "another shape": (np.ones(3, np.float32), r"has shape \(3,\), expected \(2,\)"),
    "one that broadcasts": (np.ones(1, np.float32), r"has shape \(1,\), expected \(2,\)"),
    "0-d": (np.array(1.0), r"has shape \(\), expected \(2,\)"),
    "an axis more": (np.ones((1, 2)), r"has shape \(1, 2\)"),
    "whole numbers": (np.ones(2, int), "has dtype int64"),
    "complex": (np.ones(2, complex), "has dtype complex128"),
    "objects": (np.ones(2, object), "has dtype object"),
    "words": (np.array(["1", "2"]), "has dtype <U1"),
    "a list": ([1.0, 1.0], "is a list"),
    "a number": (1.0, "is a float"),
    "a word": ("1", "is a str"),
}


@pytest.mark.parametrize("kind", NO_MOMENTS)
def test_a_moment_that_does_not_fit_is_refused_by_name(kind):
    opt = trained()
    state = copy.deepcopy(opt.state_dict())
    value, words = NO_MOMENTS[kind]
    state["state"][1]["exp_avg_sq"] = value
    assert_refused(opt, state, rf"'exp_avg_sq' of parameter 1 \(0.bias\) {words}")


@pytest.mark.parametrize(
    ("cls", "options", "key"),
    [
        (optim.AdamW, {"amsgrad": True}, "max_exp_avg_sq"),
        (optim.NAdam, {}, "exp_avg_sq"),
        (optim.RMSprop, {"momentum": 0.9, "centered": True}, "square_avg"),
    ],
)
def test_averages_of_squares_are_never_negative_and_the_others_may_be(cls, options, key):
    p = np.ones(2)
    opt = cls([p], lr=0.1, **options)
    opt.step([np.ones(2)])
    state = copy.deepcopy(opt.state_dict())
    for name, value in state["state"][0].items():
        if name not in ("step", "mu_product", key, "exp_avg_sq"):
            value -= 9
    opt.load_state_dict(state)
    state["state"][0][key] -= 9
    with pytest.raises(ValueError, match=rf"'{key}' of parameter 0 holds a negative number"):
        opt.load_state_dict(state)


def test_moments_that_overflowed_go_on():
    """Infinity is what a large gradient leaves in float32, and a step over it is defined."""
    p = np.ones(2, np.float32)
    opt = optim.AdamW([p], lr=0.1)
    opt.step([np.float32([1e25, 1])])
    state = copy.deepcopy(opt.state_dict())
    assert np.isinf(state["state"][0]["exp_avg_sq"][0])
    other = optim.AdamW([p.copy()], lr=0.1)
    other.load_state_dict(state)
    np.testing.assert_array_equal(
        other.state_dict()["state"][0]["exp_avg_sq"], state["state"][0]["exp_avg_sq"]
    )


def test_a_parameter_named_twice_is_refused():
    opt = trained()
    state = copy.deepcopy(opt.state_dict())
    state["param_groups"][0]["params"] = [0, 0]
    del state["state"][1]
    with pytest.raises(ValueError, match=r"names a parameter twice.*nothing was changed"):
        opt.load_state_dict(state)


@pytest.mark.parametrize("in_torch", [False, True])
def test_a_state_that_went_through_json_is_refused_by_the_name_of_its_keys(in_torch):
    """The front took strings for entries of its user's own, and trained on without moments."""
    opt = trained()
    if in_torch:
        torch = pytest.importorskip("torch")
        import onepass.torch.optim as front

        p = torch.nn.Parameter(torch.ones(3))
        p.grad = torch.ones(3)
        opt = front.Adam([p])
        opt.step()
    state = opt.state_dict()
    state = {**state, "state": {str(key): entry for key, entry in state["state"].items()}}
    with pytest.raises(ValueError, match=r"the key '0', expected the number 0: JSON makes strings"):
        opt.load_state_dict(state)


def test_a_state_is_not_loaded_over_parameters_exchanged_by_hand():
    opt = trained()
    state = copy.deepcopy(opt.state_dict())
    state["param_groups"][0]["lr"] = 9.0
    opt.param_groups[0]["params"].reverse()
    with pytest.raises(ValueError, match="has another parameter at 0"):
        opt.load_state_dict(state)
    assert opt.param_groups[0]["lr"] == 0.1


TORCH = {
    "SGD": {"momentum": 0.9},
    "Adam": {"amsgrad": True},
    "AdamW": {},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "NAdam": {"decoupled_weight_decay": True},
    "ASGD": {"lambd": 0.1, "t0": 2},
    "Rprop": {},
}
IN_FLOAT32 = {"NAdam": 1e-8, "ASGD": 1e-6}  # numbers beside a state: what their rounding leaves


@pytest.mark.parametrize("counts", ["float32", "float64", "int64"])
@pytest.mark.parametrize("name", TORCH)
def test_what_pytorch_saves_is_loaded_and_trains_on_as_there(name, counts, tmp_path):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
    options = {"lr": 0.1, **TORCH[name]}
    opt = getattr(torch.optim, name)([theirs], **options)
    grads = [np.linspace(-1, k, 5) for k in range(1, 7)]
    for grad in grads[:3]:
        theirs.grad = torch.from_numpy(grad.copy())
        opt.step()
    for entry in opt.state.values():
        for key in {"step"} & set(entry):
            entry[key] = entry[key].to(getattr(torch, counts))
    torch.save(opt.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    ours = theirs.detach().numpy().copy()
    mine = getattr(optim, name)([ours], **options)
    mine.load_state_dict(state)
    for grad in grads[3:]:
        theirs.grad = torch.from_numpy(grad.copy())
        mine.step([grad])
        if counts != "int64":  # PyTorch's own steps need floats
            opt.step()
    if counts != "int64":
        rtol = IN_FLOAT32.get(name, 1e-12)
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=rtol)
    if "step" in state["state"][0]:
        assert mine.state_dict()["state"][0]["step"] == 6


@pytest.mark.parametrize("value", ["sparse", "complex", "integers", "shape"])
def test_a_tensor_that_does_not_fit_is_refused_by_name(value):
    torch = pytest.importorskip("torch")
    tensor, words = {
        "sparse": (torch.ones(2).to_sparse(), "is a sparse tensor"),
        "complex": (torch.ones(2, dtype=torch.complex64), "has dtype torch.complex64"),
        "integers": (torch.ones(2, dtype=torch.int32), "has dtype torch.int32"),
        "shape": (torch.ones(2, 1), r"has shape \(2, 1\)"),
    }[value]
    opt = trained()
    state = copy.deepcopy(opt.state_dict())
    state["state"][1]["exp_avg"] = tensor
    assert_refused(opt, state, rf"'exp_avg' of parameter 1 \(0.bias\) {words}")


@pytest.mark.parametrize("options", [{}, {"state_dtype": "int8"}, {"ema_decay": 0.9}])
@pytest.mark.parametrize("other", [np.ones(500, np.float32), np.ones((600, 1), np.float32)])
def test_a_load_into_a_parameter_of_another_shape_changes_nothing(options, other):
    parameter = nn.Parameter(np.ones(600, np.float32))
    optimizer = optim.AdamW([parameter], lr=0.1, **options)
    parameter.grad = np.ones(600, np.float32)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][0]["lr"] = 0.7
    own = parameter.data
    before = copy.deepcopy(optimizer.state_dict())
    parameter.data = other
    with pytest.raises(ValueError, match="parameter 0"):
        optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.1
    parameter.data = own
    np.testing.assert_equal(optimizer.state_dict(), before)
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.7
