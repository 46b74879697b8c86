"""If any edit of a new kernel (CONTRIBUTING.md) is missing, pytest prints one message, which names
the file and the line that it lacks."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import missing
import onepass
import pytest
from onepass import ops, optim
from onepass.ops import _ranges
from onepass.ops._declare import activation
from onepass.ops._declare_update import RULES, update
from onepass.ops._pointwise_loss import loss_of_elements
from onepass.ops._rule import Rule

TESTS = Path(__file__).parent
CODE = """
import missing
try:
    import cases
except Exception as error:
    print(missing.stops_everything(error))
"""
LEFT_OUT = {  # what: (file, text that goes, what the message says)
    "activation": (
        "ops/_activation.py",
        r"@activation\ndef mish\(.*?(?=\nmish_backward)",
        "python/onepass/ops/_activation.py has no 'mish': add `@activation` on `def mish(",
    ),
    "gradient": (
        "ops/_activation.py",
        r"\nmish_backward = .*?\n\)\n",
        "python/onepass/ops/_activation.py has no 'mish_backward': add `mish_backward = backward_",
    ),
    "its name": (
        "ops/_activation.py",
        r'    "mish",\n',
        "python/onepass/ops/_activation.py: __all__ lacks 'mish'",
    ),
    "the gradient's name": (
        "ops/_activation.py",
        r'    "mish_backward",\n',
        "python/onepass/ops/_activation.py: __all__ lacks 'mish_backward'",
    ),
    "loss": (
        "ops/_pointwise_loss.py",
        r"@loss_of_elements\ndef l1_loss.*?(?=@loss_of_elements)",
        "python/onepass/ops/_pointwise_loss.py has no 'l1_loss': add `@loss_of_elements` on `def ",
    ),
    "the loss's name": (
        "ops/_pointwise_loss.py",
        r'    "l1_loss",\n',
        "python/onepass/ops/_pointwise_loss.py: __all__ lacks 'l1_loss'",
    ),
    "norm": (
        "ops/_row_norm.py",
        r"@_norm\ndef rms_norm.*?(?=@_gradient)",
        "python/onepass/ops/_row_norm.py has no 'rms_norm': add `def rms_norm(…)`",
    ),
    "the norm's gradient": (
        "ops/_row_norm.py",
        r"@_gradient\ndef rms_norm_backward.*?(?=@_norm)",
        "python/onepass/ops/_row_norm.py has no 'rms_norm_backward': add `def rms_norm_back",
    ),
    "module": (
        "nn/_activation.py",
        r"class Mish.*?\n",
        "python/onepass/nn/_activation.py has no 'Mish': add `class Mish(Activation, op=ops.…): .",
    ),
    "the module's name": (
        "nn/_activation.py",
        r'    "Mish",\n',
        "python/onepass/nn/_activation.py: __all__ lacks 'Mish'",
    ),
    "update": (
        "ops/_update_lion_rprop.py",
        r'@update\("lion".*?(?=@update)',
        "python/onepass/ops/_update_lion_rprop.py has no 'lion_': add `@update('lion')` on `d",
    ),
    "the update's name": (
        "ops/_update_lion_rprop.py",
        r'"lion_", ',
        "python/onepass/ops/_update_lion_rprop.py: __all__ lacks 'lion_'",
    ),
    "all of the update": (
        "ops/_update_lion_rprop.py",
        r'"lion_", |@update\("lion".*?(?=@update)',
        "python/onepass/ops/_update_*.py, the file of its family, has no 'lion_': add `@update('l",
    ),
    "class": (
        "optim/_optimizers.py",
        r"class Lion.*?(?=class )",
        "python/onepass/optim/_optimizers.py has no 'Lion': add `class Lion(Optimizer, op=ops.…_)",
    ),
    "the class's name": (
        "optim/_optimizers.py",
        r'    "Lion",\n',
        "python/onepass/optim/_optimizers.py: __all__ lacks 'Lion'",
    ),
    "an option of the class": (
        "optim/_optimizers.py",
        r"(class Lion.*?)        weight_decay: float = 0.0,\n",
        "optim._optimizers: Lion.__init__ lacks 'weight_decay: float = 0.0', an option of onepass.",
    ),
}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the Python files beside the built extensions."""
    source, copy = Path(onepass.__file__).parent, tmp_path_factory.mktemp("site") / "onepass"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for extension in source.glob("*.so"):
        (copy / extension.name).symlink_to(extension)
    return copy


@pytest.fixture(params=LEFT_OUT, ids=str)
def left_out(request, package):
    file, pattern, said = LEFT_OUT[request.param]
    path = package / file
    whole = path.read_text(encoding="utf-8")
    less, count = re.subn(pattern, lambda m: m[1] if m.lastindex else "", whole, flags=re.DOTALL)
    assert count == 1 + (request.param == "all of the update")
    path.write_text(less, encoding="utf-8")
    yield said
    path.write_text(whole, encoding="utf-8")


def run(package, *command):
    done = subprocess.run(
        [sys.executable, "-B", *command],
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (package.parent, TESTS)))},
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def test_a_part_that_is_missing_is_named_with_its_file_and_line(left_out, package):
    assert left_out in run(package, "-c", CODE)


@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["alone", "xdist"])
def test_pytest_says_it_once(package, workers):
    path = package / "optim" / "_optimizers.py"
    whole = path.read_text(encoding="utf-8")
    if workers:
        pytest.importorskip("xdist")
    path.write_text(whole.replace('    "Lion",\n', ""), encoding="utf-8")
    try:
        said = run(package, "-m", "pytest", "-p", "no:cacheprovider", *workers,
                   "test_optim.py", "test_kernels.py")  # fmt: skip
    finally:
        path.write_text(whole, encoding="utf-8")
    message = "python/onepass/optim/_optimizers.py: __all__ lacks 'Lion', expected every name it"
    assert 1 <= said.count(message) <= 1 + len(workers) // 2, said
    assert "AttributeError" not in said


def test_other_errors_are_shown_as_they_are():
    for error in (AttributeError("x"), NameError("x"), ValueError("x"), KeyError("lr")):
        assert missing.cure(error) is None
        assert missing.stops_everything(error) is None


# ------------------------------------------------------------ what does not fit is refused by name

FUNCTION = '''
def lion_(params, grads, exp_avgs, *, step=1, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0,
          **options):
    """Lion: p = p.

    Source: a test.

    Example:
        >>> 1
        1
    """
'''
CLASS = """
class Lion(Optimizer, op=ops.lion_):
    def __init__(
        self, params: Parameters, lr: float = 1e-4, betas: Betas = (0.9, 0.99),
        weight_decay: float = 0.0, *, maximize: bool = False, diagnostics: bool = False,
        compat: str = "torch", **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(params, locals())
"""
ACTIVATION = '''
def leaky_relu(x, *, negative_slope=0.01, out=None):
    """y = x.

    Args:
        negative_slope: below zero.

    Source: a test.

    Example:
        >>> 1
        1
    """
'''


def execute(source, old, new, **given):
    assert source.count(old) == 1
    code = compile("from __future__ import annotations\n" + source.replace(old, new), "t", "exec")
    made = {"__name__": "onepass.somewhere", **given}
    exec(code, made)
    return made


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("step=1", "step=1", None),
        ("grads, exp_avgs", "grads", "lists params, grads, expected params, grads, exp_avgs, the"),
        ("grads, exp_avgs", "exp_avgs, grads", "lists params, exp_avgs, grads, expected params, g"),
        ("lr=1e-4, ", "", "lacks the option 'lr', which 'hyper' of the rule 'lion' (csrc/"),
        (", weight_decay=0.0", "", "lacks the option 'weight_decay', which 'hyper' of"),
        ("step=1, ", "", "lacks the option 'step'"),
        ("step=1, ", "step=1, eps=0.0, ", "has the option 'eps', which 'hyper' of the rule"),
        ("weight_decay=0.0,\n          **options", "weight_decay=0.0", "lacks **options"),
        ("Source: a test.", "", "the docstring lacks 'Source:'"),
        ("Source: a test.", "Source:", "the docstring lacks 'Source:'"),
        ("Example:\n        >>> 1\n        1\n", "", "the docstring lacks 'Example:'"),
    ],
)
def test_a_function_that_contradicts_its_kernel_is_refused(monkeypatch, old, new, words):
    monkeypatch.setitem(RULES, "lion", RULES["lion"])
    function = execute(FUNCTION, old, new)["lion_"]
    if words is None:
        assert update("lion")(function) is function
        return
    with pytest.raises((TypeError, ValueError), match=re.escape("onepass.somewhere: lion_")) as e:
        update("lion")(function)
    assert words in str(e.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("lr: float", "lr: float", None),
        ("lr: float = 1e-4, ", "", "lacks 'lr: float = 0.0001', an option of onepass.ops.lion_"),
        (
            "1e-4",
            "1e-3",
            "has 'lr: float = 0.001', expected 'lr: float = 0.0001' as in onepass.ops",
        ),
        ("lr: float", "lr: int", "has 'lr: int = 0.0001', expected 'lr: float = 0.0001' as in"),
        ("(0.9, 0.99)", "(0.9, 0.999)", "has 'betas: Betas = (0.9, 0.999)', expected 'betas: B"),
        (" diagnostics: bool = False,", "", "lacks 'diagnostics', expected it as in the other"),
        ('compat: str = "torch", ', "", "lacks 'compat', expected it as in the other classes"),
    ],
)
def test_a_class_that_contradicts_its_function_is_refused(old, new, words):
    given = {"Optimizer": optim.Optimizer, "ops": ops}
    if words is None:
        execute(CLASS, old, new, **given)
        return
    with pytest.raises(TypeError, match=r"somewhere: Lion\.__init__ ") as e:
        execute(CLASS, old, new, **given)
    assert words in str(e.value)


def test_a_class_without_the_option_that_brings_a_state_is_refused():
    source = inspect.getsource(optim.RMSprop)
    given = {"Optimizer": optim.Optimizer, "ops": ops}
    with pytest.raises(TypeError, match=r"RMSprop\.__init__ lacks 'centered'"):
        execute(source, "        centered: bool = False,\n", "", **given)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("leaky_relu", "mish2", "activation_list.h has no 'mish2', expected its header among the"),
        ("*, negative_slope=0.01, ", "*, ", "has the options [], expected ['negative_slope']"),
        ("*, negative_slope", "*, slope", "has the options ['slope'], expected ['negative_slope']"),
        ("Source: a test.", "", "the docstring lacks 'Source: '"),
        ("Source: a test.", "Source:", "the docstring lacks 'Source: '"),
        ("Example:\n        >>> 1\n        1\n", "", "the docstring lacks 'Example:'"),
    ],
)
def test_an_activation_that_contradicts_its_kernel_is_refused(old, new, words):
    made = execute(ACTIVATION, old, new, Literal=None)
    function = next(value for value in made.values() if inspect.isfunction(value))
    with pytest.raises(TypeError, match=r"onepass\.somewhere: ") as e:
        activation(function)
    assert words in str(e.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("mse_loss", "mse2", "loss_list.h has no 'mse2', expected its header among the includes"),
        ("Source: a test.", "Source:", "mse_loss: the docstring lacks 'Source:'"),
        ("Example:\n        >>> 1\n        1\n", "", "mse_loss: the docstring lacks 'Example:'"),
    ],
)
def test_a_loss_that_lacks_something_is_refused(old, new, words):
    source = ACTIVATION.replace("leaky_relu(x, *, negative_slope=0.01,", "mse_loss(input, target,")
    made = execute(source, old, new)
    function = next(value for value in made.values() if inspect.isfunction(value))
    with pytest.raises(TypeError, match=r"onepass\.somewhere: ") as e:
        loss_of_elements(function)
    assert words in str(e.value)


def test_a_class_that_does_not_describe_an_option_says_where_to():
    source = inspect.getsource(optim.Adagrad)
    given = {"Optimizer": optim.Optimizer, "ops": ops, "SparseGradients": optim.Adagrad.__base__}
    words = r"Adagrad: the docstring lacks 'initial_accumulator_value', expected a line `init"
    line = "        initial_accumulator_value: s before a parameter's first gradient.\n"
    with pytest.raises(ValueError, match=words):
        execute(source, line, "", **given)


def test_a_rule_whose_kernel_is_not_registered_says_where_to_register_it():
    with pytest.raises(
        ValueError, match=r"^yoogi: csrc/kernels/update_list\.h has no such optimizer"
    ):
        Rule("yoogi")


@pytest.mark.parametrize("table", ["RANGES", "SCALAR_RANGES"])
def test_a_number_without_range_says_which_table_lacks_it(monkeypatch, table):
    name = {"RANGES": "momentum_decay", "SCALAR_RANGES": "mu_product"}[table]
    monkeypatch.delitem(getattr(_ranges, table), name)
    words = rf"nadam: no range for the .* '{name}': add it to {table} in python/.*/_ranges.py"
    with pytest.raises(ValueError, match=words):
        Rule("nadam")
