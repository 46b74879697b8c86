"""PyTorch's own database of optimizers, which its wheel brings, driven through ours."""

import importlib.util
import sys
import unittest
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from small_torch import numbers_in_float64  # noqa: F401 (of ASGD eta and mu)

torch = pytest.importorskip("torch")

from onepass.torch import optim  # noqa: E402

with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
    warnings.simplefilter("ignore")
    if importlib.util.find_spec("expecttest") is None:  # its TestCase is all that PyTorch imports
        patch.setitem(sys.modules, "expecttest", SimpleNamespace(TestCase=unittest.TestCase))
    common = pytest.importorskip("torch.testing._internal.common_optimizers")

INFOS = [info for info in common.optim_db if hasattr(optim, info.optim_cls.__name__)]
CONFIGS = [
    (info, given)
    for info in INFOS
    for given in common._get_optim_inputs_including_global_cliquey_kwargs("cpu", None, info)
]
ERRORS = [
    (info, error)
    for info in INFOS
    for error in info.optim_error_inputs_func(device="cpu", dtype=torch.float32)
]


def label(pair):
    info, given = pair
    given = getattr(given, "optimizer_error_input", given)
    return f"{info.optim_cls.__name__}-{given.desc}"


def test_the_database_has_our_optimizers():
    assert {"SGD", "Adam", "AdamW", "NAdam", "RMSprop"} <= {i.optim_cls.__name__ for i in INFOS}
    assert len(CONFIGS) > 100
    assert len(ERRORS) > 60


@pytest.mark.parametrize(("info", "given"), CONFIGS, ids=map(label, CONFIGS))
def test_every_configuration_takes_the_steps_of_torch(info, given):
    """A differentiable one over leaves, which PyTorch itself cannot step."""
    torch.manual_seed(0)
    muon = info.optim_cls is torch.optim.Muon  # of matrices alone
    shapes = ((4, 3), (3, 1) if muon else (3,))
    mine = [torch.nn.Parameter(torch.randn(s, dtype=torch.float64)) for s in shapes]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in mine]
    ours = getattr(optim, info.optim_cls.__name__)(mine, **given.kwargs)
    plain = {k: v for k, v in given.kwargs.items() if k not in ("differentiable", "fused")}
    other = info.optim_cls(theirs, **plain)
    keys = other.param_groups[0].keys()
    assert ours.state_dict()["param_groups"][0].keys() == keys
    assert ours.param_groups[0].keys() - keys == ours._foreign.keys()  # to be set between steps
    assert keys <= ours.param_groups[0].keys()
    for schedules in info.scheduler_inputs[:1]:
        for schedule in schedules:
            schedule(ours), schedule(other)
    for step in range(6):

        def loss(params, step=step):
            return (params[0].sin() * (step + 1)).sum() + (params[0] @ params[1]).square().sum()

        for params, optimizer in ((mine, ours), (theirs, other)):

            def closure(params=params, optimizer=optimizer):
                optimizer.zero_grad()
                value = loss(params)
                value.backward()
                if info.only_supports_sparse_grads:
                    for p in params:
                        p.grad = p.grad.to_sparse(1)
                return value.detach()

            if step % 2 or info.optim_cls is torch.optim.LBFGS:
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
        for p, q in zip(mine, theirs, strict=True):
            # NAdam's product is a float32 in PyTorch, and so is a rate that is a tensor.
            single = info.optim_cls.__name__ == "NAdam" or "Tensor lr" in given.desc
            near = 1e-6 if single else 1e-11
            if muon:  # whose directions are of bfloat16: one rounding of each, at √3 the rate
                near = (step + 1) * float(given.kwargs.get("lr", 1e-3)) * 3**0.5 * 2.0**-7
            np.testing.assert_allclose(p.detach(), q.detach(), 0 if muon else near, near)


@pytest.mark.parametrize(("info", "error"), ERRORS, ids=map(label, ERRORS))
def test_every_error_of_the_database_is_raised(info, error):
    """With PyTorch's words; where it only warns of duplicates, they are an error. What PyTorch
    refuses in a step is refused here in the constructor, in words of ours."""
    given = error.optimizer_error_input
    if given.desc == "only support 2D parameters":  # ours takes the others too
        optim.Muon(given.params)
        return
    if error.error_on is common.OptimizerErrorEnum.STEP_ERROR:
        with pytest.raises(TypeError, match="complex"):
            getattr(optim, info.optim_cls.__name__)(given.params, **given.kwargs)
        return
    params = given.params
    if params is None:
        params = [torch.nn.Parameter(torch.randn(2, 3))]
    kind = ValueError if error.error_type is UserWarning else error.error_type
    words = error.error_regex
    if error.error_on is common.OptimizerErrorEnum.STEP_ERROR and "complex" in words:
        kind, words = TypeError, "has dtype torch.complex"  # which our constructor sees
    with pytest.raises(kind, match=words) as caught:
        getattr(optim, info.optim_cls.__name__)(params, **given.kwargs)
    if kind is not TypeError and error.error_type is not TypeError and given.params is None:
        assert str(caught.value).startswith(f"{info.optim_cls.__name__}: ")
