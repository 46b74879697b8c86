"""Every module of onepass.torch.nn: documented, with a counterpart, compared with a reference."""

import doctest
import inspect
import re

import pytest

torch = pytest.importorskip("torch")

import onepass  # noqa: E402
from onepass.torch import nn  # noqa: E402

MODULES = [getattr(nn, name) for name in nn.__all__ if name != "Identity"]
# Those that PyTorch has not, or not as a class of torch.nn.
OWN = {"Abs", "Sin", "BatchRenorm", "DecorrelatedBatchNorm", "Maxout", "WeightNorm"}
# Classes of onepass.nn that are not here, and why.
ABSENT = {
    "Activation": "a base class",
    "Module": "torch.nn's", "Parameter": "torch.nn's", "ModuleList": "torch.nn's",
    "Sequential": "torch.nn's", "Flatten": "torch.nn's: no kernel",
    "Residual": "a forward of PyTorch adds by itself, and norms take residual=",
    "Conv2d": "PyTorch's own kernels: ours are for arrays, which have none",
    "Summary": "of a model of onepass's", "LayerSummary": "likewise",
    "Rescaling": "a division in a transform; PyTorch has none",
    "MaxPool2d": "likewise", "AvgPool2d": "likewise", "AdaptiveAvgPool2d": "likewise",
}  # fmt: skip
each_module = pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)


def test_identity_is_torchs():
    assert nn.Identity is torch.nn.Identity


def test_all_names_are_there():
    public = {name for name, value in vars(nn).items()
              if inspect.isclass(value) and not name.startswith("_")}  # fmt: skip
    assert public == set(nn.__all__)
    assert len(nn.__all__) == len(public)


def test_every_class_of_onepass_nn_is_here_or_left_out_for_a_reason():
    classes = {name for name in onepass.nn.__all__ if inspect.isclass(getattr(onepass.nn, name))}
    missing = classes - {*nn.__all__}
    assert missing == ABSENT.keys(), (
        "python/onepass/torch/nn: add the class, or to ABSENT of this file the reason why not"
    )
    for name, why in ABSENT.items():
        ours = name in ("Activation", "LayerSummary", "Rescaling", "Residual", "Summary")
        assert hasattr(torch.nn, name) == (not ours), why


@each_module
def test_it_is_documented(module):
    """A formula, what PyTorch calls it, shapes, what is kept, and an example that runs."""
    doc = inspect.getdoc(module)
    assert doc is not None
    assert "l = " in doc or re.search("[lyw] = |\\] = ", doc.splitlines()[0])
    named = module.__name__ in OWN - {"WeightNorm"} or "`torch.nn.utils.param" in doc
    assert named or f"`torch.nn.{module.__name__}`" in doc
    assert re.search(r"shape|Shapes: |\(N, C|\(…, ", doc)
    assert re.search(r"[Kk]ept\s+for the backward|constants\s+in the backward", doc)
    assert max(map(len, doc.splitlines())) <= 100
    (example,) = doctest.DocTestFinder(recurse=False).find(module, module.__name__, globs={})
    assert len(example.examples) >= 3
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert result.failed == 0


@each_module
def test_it_has_counterparts(module):
    """A class of the same name in onepass.nn, and it is one of torch where torch has it."""
    assert hasattr(onepass.nn, module.__name__)
    theirs = getattr(torch.nn, module.__name__, None)
    assert (theirs is None) == (module.__name__ in OWN)
    if theirs is not None:
        assert issubclass(module, theirs)
        ours, given = (inspect.signature(m).parameters for m in (module, theirs))
        arguments = {p.kind for p in ours.values()}
        if inspect.Parameter.VAR_POSITIONAL not in arguments:
            assert list(ours)[: len(given)] == list(given)
