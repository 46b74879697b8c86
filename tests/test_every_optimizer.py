"""Every class of ``optim``, found by looking: its documentation, tests, benchmark row, state and
options. One that lacks something is named here with what it lacks."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from cases import CASES
from cases.optimizers import BY_NAME, OPTIMIZERS
from onepass import ops, optim
from onepass.optim import _optimizers

ROOT = Path(__file__).parents[1]
CLASSES = [getattr(optim, name) for name in optim.__all__]
CLASSES = [c for c in CLASSES if inspect.isclass(c) and hasattr(c, "step")]
CLASSES = [c for c in CLASSES if c is not optim.Optimizer]
RULED = [c for c in CLASSES if issubclass(c, optim.Optimizer) and c.__name__ in _optimizers.__all__]
RECORDS = {record.cls: record for record in OPTIMIZERS}
# Options of PyTorch's that say how a step runs.
EXECUTION = ("foreach", "fused", "capturable", "differentiable")

each_class = pytest.mark.parametrize("cls", CLASSES, ids=[c.__name__ for c in CLASSES])
each_ruled = pytest.mark.parametrize("cls", RULED, ids=[c.__name__ for c in RULED])


def text_of(cls):
    return " ".join(inspect.getdoc(cls).split())


@each_class
def test_the_readme_lists_it(cls):
    readme = (ROOT / "README.md").read_text()
    paragraph = re.search(
        r"^Optimizers, each one call of the extension a step: .*?\n\n", readme, re.M | re.S
    )[0]
    assert re.search(rf"\b{cls.__name__}\b", paragraph)


@each_class
def test_its_docstring_says_all_that_a_user_asks(cls):
    doc, text = inspect.getdoc(cls), text_of(cls)
    assert re.search(r"[-+·=]", doc.split("Args:")[0]), "the formula"
    for head in ("Args", "Raises", "Source", "Example"):
        assert re.search(rf"^{head}:", doc, re.M), head
    assert re.search(r"\d{4}", doc.split("Source:")[1]), "the year of the source"
    assert ">>>" in doc.split("Example:")[1]
    assert cls not in RULED or "paper" in text, "where it differs from the paper"
    assert "PyTorch" in text, "where it differs from PyTorch"
    for argument in inspect.signature(cls).parameters:
        assert re.search(rf"^    \*{{0,2}}{argument}: ", doc, re.M), argument


@each_ruled
def test_it_keeps_the_bytes_that_its_docstring_says(cls):
    """For each element of a parameter: counted in a state_dict."""
    record = RECORDS[cls]
    for variant in record.variants():
        for dtype, factor in (("float32", 1), ("float64", 2), ("float16", 1)):
            p = np.ones(10, dtype)
            opt = variant.make([p])
            opt.step([np.ones(10, dtype)])
            arrays = [v for v in opt.state_dict()["state"][0].values() if isinstance(v, np.ndarray)]
            kept = sum(v.nbytes for v in arrays if v.shape == p.shape) / p.size
            said = re.search(
                r"Keeps .*?: (\d+) bytes for each element of a parameter", text_of(cls)
            )
            each = int(said[1])
            for switch in variant.switches:
                each += int(re.search(rf"(\d+) more with {switch} ", text_of(cls))[1])
            assert kept == factor * each, (variant.name, dtype)


@each_ruled
def test_it_has_a_record_and_a_row_of_the_benchmark(cls):
    rows = {case.name for case in CASES if case.family == "update"}
    if cls not in RECORDS:  # an assertion would print all of them
        pytest.fail(f"{cls.__name__}: add a record to tests/cases/optimizers.py")
    for variant in RECORDS[cls].variants():
        assert variant.name in BY_NAME
        assert variant.name in rows
    assert f"{RECORDS[cls].name}_" in ops.__all__


@each_ruled
def test_it_has_pytorchs_options_and_defaults(cls):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.optim, cls.__name__, None)
    if theirs is None:
        return
    own = inspect.signature(cls).parameters
    for name, parameter in inspect.signature(theirs).parameters.items():
        if name in ("params", *EXECUTION):
            continue
        if cls is optim.AdamW and name == "decoupled_weight_decay":
            continue  # it always is
        assert name in own, f"PyTorch has the option {name!r}"
        default = parameter.default
        assert own[name].default == default, (name, default)
    before = [
        n
        for n, p in inspect.signature(theirs).parameters.items()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    mine = [n for n, p in own.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    shared = [n for n in before if n in mine]
    assert mine[: len(shared)] == shared, "the positions of PyTorch's arguments"
    for name in EXECUTION:
        cls([np.ones(3)], **{name: False})


@each_ruled
def test_it_can_ascend_and_leave_the_correction_out(cls):
    own = inspect.signature(cls).parameters
    assert own["maximize"].default is False
    if "bias_correction" in own:
        if hasattr(pytest.importorskip("torch").optim, cls.__name__):
            assert "bias_correction" in cls._rule.added, (
                "PyTorch lacks the option, expected it in added= of the rule: a state_dict of "
                "PyTorch's has none"
            )
        p, q = np.ones(3), np.ones(3)
        for opt, grads in (
            (cls([p]), [np.ones(3)]),
            (cls([q], bias_correction=False), [np.ones(3)]),
        ):
            opt.step(grads)
        assert (p != q).all()
        state = cls([p], bias_correction=False).state_dict()
        del state["param_groups"][0]["bias_correction"]  # as PyTorch saves it
        cls([q]).load_state_dict(state)
