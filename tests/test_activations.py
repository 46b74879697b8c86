"""An activation is declared once: functions, options, modules and fused use agree with it."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onepass import _C, nn, ops
from onepass.nn._activation import MODULES, Activation
from onepass.ops._declare import ACTIVATIONS, HYPER, Kernel, activation
from onepass.ops._fused import resolve

ROOT = Path(__file__).resolve().parents[1]
KERNELS = {kernel for declared in ACTIVATIONS.values() for kernel in declared.kernels.values()}
CLASSES = [cls for cls in MODULES.values() if issubclass(cls, Activation)]


def test_every_kernel_is_declared_and_has_a_module():
    assert set(_C.activation) == set(_C.activation_backward) == set(HYPER) == KERNELS
    assert MODULES.keys() == ACTIVATIONS.keys()
    for name, cls in MODULES.items():
        assert getattr(nn, cls.__name__) is cls, f"onepass.nn lacks {cls.__name__}"
        assert {name, f"{name}_backward"} <= set(ops.__all__), f"onepass.ops lacks {name}"


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_functions_are_ordinary_functions(name):
    options = ACTIVATIONS[name].defaults
    for function, arrays in ((name, ["x"]), (f"{name}_backward", ["dy", "x"])):
        f = getattr(ops, function)
        assert (f.__name__, f.__qualname__) == (function, function)
        assert f.__module__ == "onepass.ops._activation"
        assert pickle.loads(pickle.dumps(f)) is f
        parameters = inspect.signature(f).parameters
        from_y = ["y"] if function.removesuffix("_backward") in _C.activation_backward_y else []
        from_y = from_y if function.endswith("_backward") else []
        assert list(parameters) == [*arrays, *options, *from_y, "out"]
        assert {k: parameters[k].default for k in options} == options
        with pytest.raises(TypeError, match=rf"{function}\(\) got an unexpected keyword .* 'slop'"):
            f(*(np.ones(1, np.float32) for _ in arrays), slop=1)


def test_a_declaration_that_contradicts_the_kernel_is_refused():
    def leaky_relu(x, *, slope=0.1, out=None):
        """y = x."""

    def unheard_of(x, *, out=None):
        """y = x."""

    with pytest.raises(TypeError, match=r"leaky_relu has .*'slope'.*'negative_slope'"):
        activation(leaky_relu)
    with pytest.raises(TypeError, match=r"activation_list\.h has no 'unheard_of', expected its"):
        activation(unheard_of)
    assert "unheard_of" not in ACTIVATIONS


def test_a_constructor_with_other_options_is_refused():
    with pytest.raises(TypeError, match=r"Leaky: expected the options .*negative_slope"):

        class Leaky(Activation, op=ops.leaky_relu):
            def __init__(self, negative_slope=0.5): ...

    assert MODULES["leaky_relu"] is nn.LeakyReLU


def test_fused_arguments_are_resolved_to_kernels():
    assert resolve("f", None) == ("identity", ())
    assert resolve("f", "leaky_relu") == ("leaky_relu", (0.01,))
    assert resolve("f", ("leaky_relu", {"negative_slope": 2})) == ("leaky_relu", (2.0,))
    assert resolve("f", ("gelu", {"approximate": "tanh"})) == ("gelu_tanh", ())
    assert resolve("f", "gelu") == ("gelu", ())
    done = Kernel("relu", ())
    assert resolve("f", done) is done
    for wrong in ("gelu_tanh", 3, ("relu",), ([], {}), ("relu", 1)):
        with pytest.raises((TypeError, ValueError), match="f: 'activation' is"):
            resolve("f", wrong)
    with pytest.raises(
        ValueError, match=r"f: .*gelu.*: 'approximate' is 'x', expected 'none' or 'tanh'"
    ):
        resolve("f", ("gelu", {"approximate": "x"}))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_modules_are_their_functions(cls):
    layer, x = cls(), np.linspace(-4, 4, 33).astype(np.float32)
    name = cls.declared.name
    for twin in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert isinstance(twin, Activation)
        assert repr(twin) == repr(layer)
        np.testing.assert_array_equal(twin(x), getattr(ops, name)(x))
        want = getattr(ops, f"{name}_backward")(x, x)
        np.testing.assert_array_equal(twin.backward(x), want)
    assert cls.declared.formula in cls.__doc__
    with pytest.raises(TypeError):
        cls(*[0.1] * (len(cls.declared.defaults) + 1))


def test_options_are_positional_and_may_be_changed():
    assert nn.LeakyReLU(0.5).negative_slope == 0.5
    assert nn.GELU("tanh").approximate == "tanh"
    layer = nn.LeakyReLU()
    layer.negative_slope = 3.0
    assert layer(np.float32([-1])).tolist() == [-3.0]


WRONG = {
    "ops.relu()": "call-arg",
    "ops.relu(x, slope=1)": "call-arg",
    "ops.relu_backward(x)": "call-arg",
    "ops.relu_backward(x, x, slope=1)": "call-arg",
    'ops.leaky_relu(x, negative_slope="a")': "arg-type",
    'ops.leaky_relu_backward(x, x, negative_slope="a")': "arg-type",
    "ops.leaky_relu_backward(x, x, 0.1)": "misc",
    "ops.leaky_relu_backward(x, x, slope=1)": "call-arg",
    'ops.gelu(x, approximate="fast")': "arg-type",
    'ops.gelu_backward(x, x, approximate="fast")': "arg-type",
    "nn.ReLU(1)": "call-arg",
    "nn.ReLU(inplace=True)": "call-arg",
    'nn.LeakyReLU("a")': "arg-type",
    "nn.LeakyReLU(slope=1)": "call-arg",
    'nn.GELU("fast")': "arg-type",
}
RIGHT = [
    "ops.tanh_backward(x, y=x, out=x)",
    "ops.relu(x, out=x)",
    "ops.relu_backward(x, x, out=x)",
    "ops.leaky_relu_backward(x, x, negative_slope=0.1, out=x)",
    'ops.gelu_backward(x, x, approximate="tanh")',
    "nn.LeakyReLU(0.1)",
    'nn.GELU(approximate="tanh")',
    'ops.bias_act(x, x, activation=("leaky_relu", {"negative_slope": 0.1}))',
]


def test_mypy_knows_the_options(tmp_path):
    pytest.importorskip("mypy")
    lines = ["import numpy as np", "from onepass import nn, ops", "x = np.ones(3)", *RIGHT, *WRONG]
    snippet = tmp_path / "snippet.py"
    snippet.write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(snippet)],
        cwd=ROOT, env={"MYPYPATH": str(ROOT / "python"), "PATH": ""}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    errors = re.findall(r"snippet\.py:(\d+): error: .*\[([a-z-]+)\]", done.stdout)
    found = {lines[int(line) - 1]: code for line, code in errors}
    assert found == WRONG, done.stdout + done.stderr
