"""Wrong things in a state_dict, or as gradients: one message names them, and nothing changes."""

import copy

import numpy as np
import pytest
from onepass import optim


def quadratic(params):
    return lambda: (float(sum((p**2).sum() for p in params)), [2 * p for p in params])


@pytest.mark.parametrize("value", ["x", [1, 2], 1.5, None])
def test_a_momentum_of_muon_that_is_no_array_is_named(value):
    opt = optim.Muon([np.ones((2, 3), np.float32)])
    opt.step([np.ones((2, 3), np.float32)])
    saved = copy.deepcopy(opt.state_dict())
    saved["state"][0]["momentum_buffer"] = value
    with pytest.raises(ValueError, match=r"'momentum_buffer' of parameter 0 is .*nothing was"):
        opt.load_state_dict(saved)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[(key, value) for key in ("old_dirs", "old_stps", "ro") for value in (None, 3, "x")],
        ("ro", [np.nan]),
        ("ro", ["x"]),
        ("t", -1),
        ("t", None),
        ("n_iter", 1.5),
        ("n_iter", 2**70),
        ("n_iter", -1),
        ("func_evals", 0.5),
        ("H_diag", np.inf),
    ],
)
def test_a_wrong_memory_of_lbfgs_is_named(key, value):
    params = [np.ones(3, np.float32)]
    opt = optim.LBFGS(params, lr=0.1, max_iter=2)
    for _ in range(2):
        opt.step(quadratic(params))
    saved = copy.deepcopy(opt.state_dict())
    assert saved["state"][0]["ro"]
    saved["state"][0][key] = value
    before = str(opt.state_dict())
    with pytest.raises(ValueError, match=f"'{key}'.* is .*nothing was changed"):
        opt.load_state_dict(saved)
    assert str(opt.state_dict()) == before


@pytest.mark.parametrize("given", [{"w": np.ones(3, np.float32)}, "w"])
def test_gradients_by_name_are_refused(given):
    opt = optim.SGD([np.ones(3, np.float32)])
    with pytest.raises(TypeError, match=r"SGD: 'grads' is a (dict|str), expected a list with"):
        opt.step(given)


@pytest.mark.parametrize("given", [None, "x", [1]])
def test_the_front_of_pytorch_refuses_what_is_no_state_dict(given):
    torch = pytest.importorskip("torch")
    from onepass.torch import optim as front

    opt = front.Adam([torch.nn.Parameter(torch.ones(2))])
    with pytest.raises(ValueError, match=r"Adam.load_state_dict: .*expected a dict with 'state'"):
        opt.load_state_dict(given)
    with pytest.raises(TypeError, match=r"Optimizer\.step\(\) got an unexpected keyword argument"):
        opt.step(foo=1)


def test_an_error_is_in_the_name_of_the_class():
    p = np.ones(3, np.float32)
    with pytest.raises(TypeError, match=r"^SGD: 'params\[1\]'"):
        optim.SGD([p, np.ones(3, np.int64)])
    opt = optim.SGD([p], lr=0.1)
    with pytest.raises(ValueError, match=r"^SGD: 'grads\[0\]'"):
        opt.step([np.ones(4, np.float32)])
    with pytest.raises(ValueError, match=r"^SGD: 'grad_scale'"):
        opt.step([p.copy()], grad_scale=1e39)
