"""A state_dict is taken over whole or not at all, also where no entry of it is wrong by itself: a
parameter has changed since, an array has no memory, a number does not fit the state's dtype."""

import copy
import re

import numpy as np
import pytest
from onepass import optim


def stepped(state_dtype=None, groups=1, n=600):
    params = [np.linspace(0, 1, n, dtype=np.float32) for _ in range(2 * groups)]
    opt = optim.AdamW(params, lr=0.1, state_dtype=state_dtype)
    opt.step([np.full(n, 0.5, np.float32) for _ in params])
    return opt


def assert_refused(opt, state, words):
    """Refused in these words, with groups, states and counts as before."""
    state["param_groups"][0]["lr"] = 0.7
    before = copy.deepcopy(opt.state_dict())
    with pytest.raises((TypeError, ValueError), match=words):
        opt.load_state_dict(state)
    after = opt.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert after["state"].keys() == before["state"].keys()
    for index, entry in before["state"].items():
        for name, value in entry.items():
            np.testing.assert_array_equal(after["state"][index][name], value)


@pytest.mark.parametrize("state_dtype", [None, "int8", "bfloat16"])
@pytest.mark.parametrize("number", [1e300, -1e39])
def test_a_number_beyond_the_dtype_of_a_state_is_refused_and_becomes_no_infinity(
    number, state_dtype
):
    if state_dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    state = copy.deepcopy(stepped().state_dict())
    state["state"][0]["exp_avg"] += 3  # what comes first is not taken over either
    state["state"][1]["exp_avg"] = np.full(600, 1.0)
    state["state"][1]["exp_avg"][400] = number
    stored = "bfloat16" if state_dtype == "bfloat16" else "float32"
    shown = re.escape(str(float(number)))
    words = f"'exp_avg' of parameter 1 holds {shown}, expected numbers of {stored}: .*Load an"
    assert_refused(stepped(state_dtype), state, words)


def test_an_infinity_and_a_nan_of_the_file_are_taken_over():
    opt, state = stepped(), copy.deepcopy(stepped().state_dict())
    state["state"][0]["exp_avg"] = np.full(600, np.inf)
    state["state"][1]["exp_avg"] = np.full(600, np.nan)
    opt.load_state_dict(state)
    assert np.isinf(opt.state_dict()["state"][0]["exp_avg"]).all()
    assert np.isnan(opt.state_dict()["state"][1]["exp_avg"]).all()


def test_an_average_beyond_float32_is_refused():
    params = [np.ones(3, np.float32)]
    opt = optim.SGD(params, lr=0.1, ema_decay=0.9)
    opt.step([np.ones(3, np.float32)])
    state = copy.deepcopy(opt.state_dict())
    (name,) = [k for k in state["state"][0] if k not in {"step", "momentum_buffer"}]
    state["state"][0][name] = np.full(3, 1e200)
    assert_refused(opt, state, f"'{name}' of parameter 0 holds 1e.200")


def test_numbers_beside_codes_and_an_infinite_scale_are_refused():
    opt = stepped("int8")
    state = copy.deepcopy(opt.state_dict())
    state["state"][1]["exp_avg"] = np.ones(600, np.float32)
    assert_refused(opt, state, "parameter 1 has 'exp_avg' and 'exp_avg_codes', expected one")
    state = copy.deepcopy(opt.state_dict())
    state["state"][1]["exp_avg_scale"][1] = np.inf
    assert_refused(opt, state, "'exp_avg' of parameter 1 has codes, .*scale >= 0, not inf")


@pytest.mark.parametrize("front", [False, True])
@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("change", ["shape", "dtype"])
def test_a_load_beside_a_parameter_that_has_changed_leaves_the_options(change, used, front):
    torch = pytest.importorskip("torch")
    import onepass.torch.optim

    parameter = torch.nn.Parameter(torch.ones(3))
    opt = (onepass.torch.optim if front else optim).AdamW([parameter], lr=0.1)
    parameter.grad = torch.ones(3)
    opt.step()
    state = copy.deepcopy(opt.state_dict())
    state["param_groups"][0]["lr"] = 0.7
    if not used:
        state["state"] = {}
    old = parameter.data
    parameter.data = torch.ones(4) if change == "shape" else torch.ones(3, dtype=torch.float64)
    with pytest.raises(
        (TypeError, ValueError), match=r"parameter 0 has .*(make the optim|optimizer was made)"
    ):
        opt.load_state_dict(state)
    assert opt.param_groups[0]["lr"] == 0.1
    parameter.data = old
    opt.step()
    assert opt.state_dict()["state"][0]["step"] == 2


@pytest.mark.parametrize("front", [False, True])
def test_a_state_without_memory_is_refused_before_any_is_written(front):
    torch = pytest.importorskip("torch")
    import onepass.torch.optim

    params = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    opt = (onepass.torch.optim if front else optim).AdamW(params, lr=0.1)
    for parameter in params:
        parameter.grad = torch.ones(3)
    opt.step()
    state = copy.deepcopy(opt.state_dict())
    state["state"][0]["exp_avg"] = torch.full((3,), 5.0)
    state["state"][1]["exp_avg"] = torch.empty(3, device="meta")
    assert_refused(opt, state, "'exp_avg' of parameter 1 is on the device 'meta'")


def test_a_plan_that_cannot_be_made_leaves_the_old_options(monkeypatch):
    """As where memory ends for states that the loaded options ask for."""
    opt = optim.SGD([np.ones(3, np.float32)], lr=0.1, ema_decay=0.5)
    opt.step([np.ones(3, np.float32)])
    state = copy.deepcopy(optim.SGD([np.ones(3, np.float32)], lr=0.7, momentum=0.9).state_dict())
    state["param_groups"][0]["ema_decay"] = None
    before = copy.deepcopy(opt.state_dict())

    def no_memory(*_):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(opt, "_new_plan", no_memory)
        with pytest.raises(MemoryError):
            opt.load_state_dict(state)
    after = opt.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for name, value in before["state"][0].items():
        np.testing.assert_array_equal(after["state"][0][name], value)


def test_a_refused_load_wakes_no_frozen_parameter():
    torch = pytest.importorskip("torch")
    import onepass.torch.optim

    def made(frozen):
        params = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
        params[1].requires_grad_(not frozen)
        opt = onepass.torch.optim.AdamW(params, lr=0.1)
        for parameter in params[: 1 if frozen else 2]:
            parameter.grad = torch.ones(3)
        opt.step()
        return params, opt

    params, opt = made(frozen=True)
    good = copy.deepcopy(made(frozen=False)[1].state_dict())
    bad = copy.deepcopy(good)
    bad["state"][1]["exp_avg"] = torch.ones(7)
    with pytest.raises(ValueError, match=r"'exp_avg' of parameter 1 has shape \(7,\)"):
        opt.load_state_dict(bad)
    assert not opt.state.get(params[1])
    assert 1 not in opt.state_dict()["state"]
    opt.step()
    assert not opt.state.get(params[1])
    opt.load_state_dict(good)
    assert opt.state[params[1]]["exp_avg"].shape == (3,)
