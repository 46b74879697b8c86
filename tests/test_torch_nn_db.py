"""torch's own database of modules, run on the modules of the same names here."""

import importlib.util
import sys
import unittest
import warnings
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from onepass.torch import nn  # noqa: E402

with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
    warnings.simplefilter("ignore")  # of a tool that it would use where installed
    if importlib.util.find_spec("expecttest") is None:  # its TestCase is all that PyTorch imports
        patch.setitem(sys.modules, "expecttest", SimpleNamespace(TestCase=unittest.TestCase))
    from torch.testing._internal.common_modules import module_db

NAMES = set(nn.__all__) - {"Identity"}
INFOS = [info for info in module_db if info.module_cls.__name__ in NAMES]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.module_cls.__name__)
@pytest.mark.filterwarnings("ignore")
def test_every_configuration_gives_torchs_results(info, training):
    torch.manual_seed(0)
    ran = 0
    inputs = info.module_inputs_func(
        info, device="cpu", dtype=torch.float64, requires_grad=True, training=training
    )
    for case in inputs:
        made, given = case.constructor_input, case.forward_input
        if given is None:
            continue
        torch.manual_seed(1)
        reference = info.module_cls(*made.args, **made.kwargs).double().train(training)
        ours = getattr(nn, info.module_cls.__name__)(*made.args, **made.kwargs).double()
        ours.load_state_dict(reference.state_dict())
        ours.train(training)
        # The only thing of torch's that these losses refuse is a gradient of their target.
        target_is_given = info.module_cls.__name__ in ("KLDivLoss", "CrossEntropyLoss")
        results = []
        for m in (ours, reference):
            # an in-place module changes its input, which must not be a leaf
            args = [
                a.detach().clone().requires_grad_(a.requires_grad and not (i and target_is_given))
                for i, a in enumerate(given.args)
            ]
            kwargs = given.kwargs
            call = [a * 1 if i == 0 and a.is_floating_point() else a for i, a in enumerate(args)]
            y = m(*call, **kwargs)
            if y.requires_grad:
                y.backward(torch.ones_like(y))
            grads = [a.grad for a in (*args, *m.parameters()) if a.grad is not None]
            results.append([y.detach(), *grads, *m.buffers()])
        if training and info.module_cls is torch.nn.Dropout:
            continue
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9, equal_nan=True)
        ran += 1
    assert ran or info.module_cls is torch.nn.Dropout


def test_the_database_has_most_modules():
    assert len({info.module_cls for info in INFOS}) >= 30
