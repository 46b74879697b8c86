"""Every module of onepass.torch.nn: documented, with a counterpart, compared with a reference."""

import doctest
import inspect
import re

import pytest

torch = pytest.importorskip("torch")

import onepass  # noqa: E402
import test_torch_nn  # noqa: E402
from onepass.torch import nn  # noqa: E402

MODULES = [getattr(nn, name) for name in nn.__all__ if name != "Identity"]
# Those that PyTorch has not.
OWN = {"Abs", "Sin", "BatchRenorm"}
each_module = pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)


def test_identity_is_torchs():
    assert nn.Identity is torch.nn.Identity


def test_all_names_are_there():
    public = {name for name, value in vars(nn).items()
              if inspect.isclass(value) and not name.startswith("_")}  # fmt: skip
    assert public == set(nn.__all__)
    assert len(nn.__all__) == len(public)


@each_module
def test_it_is_documented(module):
    """A formula, what PyTorch calls it, shapes, what is kept, and an example that runs."""
    doc = inspect.getdoc(module)
    assert doc is not None
    assert "l = " in doc or re.search("[ly] = |\\] = ", doc.splitlines()[0])
    assert module.__name__ in OWN or f"`torch.nn.{module.__name__}`" in doc
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


@each_module
def test_it_is_compared_with_a_reference(module):
    rows = [*test_torch_nn.NORMS, *test_torch_nn.PLAIN, *test_torch_nn.DROPOUTS]
    named = {row[0] for row in rows} | {*test_torch_nn.LOSSES, "CrossEntropyLoss", "NLLLoss"}
    named |= {"Linear", "Abs", "Sin", "BatchRenorm"}  # in tests of their own
    assert module.__name__ in named
