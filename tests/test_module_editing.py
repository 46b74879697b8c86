"""Lists of modules, replacing layers, partial loads, and what a parameter says to arithmetic."""

from __future__ import annotations

import collections
import copy
import dataclasses
import math
import pickle
import pydoc
import types

import numpy as np
import pytest
from onepass import nn, ops, optim
from small_models import assert_same, normal, perturb

X = normal((5, 4), "float32")


def build(fuse=True):
    nn.manual_seed(8)
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), fuse=fuse)


@pytest.mark.parametrize("fuse", [True, False])
def test_layers_are_replaced_added_and_removed(fuse):
    """As in a Sequential that was built so, also after a forward; new layers follow ``fuse``."""
    a, b, c = nn.Linear(4, 4), nn.Tanh(), nn.BatchNorm1d(4)
    nested = nn.Sequential(nn.Linear(4, 4), nn.GELU())
    edits = [
        (lambda m: m.__setitem__(1, b), lambda p: [p[0], b, p[2]]),
        (lambda m: m.__setitem__(-1, a), lambda p: [p[0], p[1], a]),
        (lambda m: m.append(c), lambda p: [*p, c]),
        (lambda m: m.append(nested), lambda p: [*p, nested]),
        (lambda m: m.extend([c, b]), lambda p: [*p, c, b]),
        (lambda m: m.insert(0, c), lambda p: [c, *p]),
        (lambda m: m.insert(-1, b), lambda p: [p[0], p[1], b, p[2]]),
        (lambda m: m.__delitem__(1), lambda p: [p[0], p[2]]),
        (lambda m: m.__delitem__(slice(1, 3)), lambda p: [p[0]]),
        (lambda m: m.pop(), lambda p: p[:2]),
        (lambda m: m.__iadd__([c]), lambda p: [*p, c]),
    ]
    for edit, expected in edits:
        model = build(fuse)
        model(X)
        parts = list(model)
        edit(model)
        assert list(model) == expected(parts)
        twin = copy.deepcopy(nn.Sequential(*expected(parts), fuse=fuse))
        np.testing.assert_array_equal(model(X), twin(X))
        np.testing.assert_array_equal(model.backward(X), twin.backward(X))
        assert all(not m.fuse for m in model.modules() if hasattr(m, "fuse")) or fuse
        assert repr(model) == repr(twin)
        assert list(model.state_dict()) == list(twin.state_dict())
    assert model.append(nn.ReLU()) is model
    assert model.extend([nn.ReLU()]).insert(0, nn.ReLU()) is model
    assert isinstance(build().__add__([b]), nn.Sequential)


@pytest.mark.parametrize("make", [build, lambda: nn.ModuleList(build())])
def test_refused_edits_change_nothing(make):
    model = make()
    before = list(model)
    twice = ValueError if isinstance(model, nn.Sequential) else None
    cases = [
        (
            lambda: model.append(np.ones(3)),
            TypeError,
            "layer 3 is a numpy ndarray, expected",
        ),
        (lambda: model.append(nn.ReLU), TypeError, "the class ReLU.*write ReLU"),
        (lambda: model.insert(0, None), TypeError, "layer 0 is a NoneType"),
        (lambda: model.extend(3), TypeError, "'extend' is a int, expected several modules"),
        (lambda: model.extend([nn.ReLU(), 3]), TypeError, "layer 4 is a int"),
        (lambda: model.__setitem__(7, nn.ReLU()), IndexError, "out of range"),
        (lambda: model.__delitem__(7), IndexError, "out of range"),
        (lambda: model.append(nn.Residual(model)), ValueError, "circle"),
        (lambda: model.append(model[0]), twice, "stands in two places"),
    ]
    for edit, error, match in cases:
        if error is not None:
            with pytest.raises(error, match=match):
                edit()
            assert list(model) == before


def test_a_module_list_is_found():
    class Net(nn.Module):
        def __init__(self):
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.norm(x)

        def backward(self, dy, *, need_input_grad=True):
            dy = self.norm.backward(dy)
            for layer in reversed(list(self.layers)):
                dy = layer.backward(dy)
            return dy

    net = Net()
    assert len(list(net.parameters())) == 8
    assert list(net.state_dict())[:2] == ["layers.0.weight", "layers.0.bias"]
    assert not net.eval().layers[1].training
    assert isinstance(net.layers[1:], nn.ModuleList)
    assert len(net.layers.__add__([nn.ReLU()])) == 4
    assert "(0): Linear" in repr(net)
    optimizer = optim.SGD(net.train(), lr=0.1)
    before = net.layers[1].weight.data.copy()
    net.backward(net(X))
    optimizer.step()
    assert (net.layers[1].weight.data != before).any()
    with pytest.raises(NotImplementedError, match="ModuleList has no forward"):
        net.layers(X)


def test_module_list_as_in_torch():
    torch = pytest.importorskip("torch")
    ours, theirs = nn.ModuleList([nn.ReLU()]), torch.nn.ModuleList([torch.nn.ReLU()])
    for lib, m in ((nn, ours), (torch.nn, theirs)):
        m.append(lib.Tanh()).extend([lib.GELU(), lib.SiLU()])
        m.insert(1, lib.Sigmoid())
        m[0] = lib.Identity()
        del m[2]
        m += [lib.ReLU()]
        m.pop(1)
    names = [[type(layer).__name__ for layer in m] for m in (ours, theirs)]
    assert names[0] == names[1]
    public = {name for name in vars(torch.nn.ModuleList) if not name.startswith("_")}
    assert public <= set(dir(nn.ModuleList))


CONTAINERS = {
    "list": lambda m: [m],
    "tuple": lambda m: (nn.ReLU(), m),
    "dict": lambda m: {"a": m},
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_modules_in_a_plain_container_are_refused(kind):
    """Filled in the constructor or later, in the model or deep inside."""

    class Net(nn.Module):
        def __init__(self):
            self.parts = CONTAINERS[kind](nn.Linear(4, 4))

    match = rf"Net: 'parts' is a {kind} that holds a (Linear|ReLU), .* expected nn.ModuleList"
    for build_it in (Net, lambda: nn.Sequential(nn.ReLU(), Net())):
        for use in (nn.Module.parameters, nn.Module.state_dict, nn.Module.eval, optim.SGD):
            with pytest.raises(TypeError, match=match):
                list(use(build_it()))
    assert "Net(" in repr(Net())
    net = Net()
    net.first = net.parts["a"] if kind == "dict" else net.parts[-1]
    if kind != "tuple":  # in which a ReLU is still known to nothing else
        assert len(list(net.parameters())) == 2


@dataclasses.dataclass
class Parts:
    layer: nn.Module


@pytest.mark.parametrize("wrap", [
    lambda m: {m: 1},
    lambda m: {(0, m): "key"},
    lambda m: np.array([m, None], object),
    lambda m: collections.UserList([m]),
    lambda m: collections.UserDict(a=m),
    lambda m: collections.deque([m]),
    lambda m: types.SimpleNamespace(layer=m),
    lambda m: types.MappingProxyType({"a": m}),
    lambda m: {"a": m}.values(),
    lambda m: {"a": m}.items(),
    Parts,
    lambda m: [[[[[[m]]]]]],
    lambda m: [np.array([{"a": Parts(m)}], object)],
])  # fmt: skip
@pytest.mark.parametrize("inner", [nn.ReLU, lambda: nn.Parameter(np.ones(2, np.float32))])
def test_modules_in_any_container_are_refused(wrap, inner):
    for net in (nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2), nn.ModuleList([nn.Linear(2, 2)])):
        net.parts = wrap(inner())
        with pytest.raises(TypeError, match=r": 'parts' is a \w+ that holds a (ReLU|Parameter)"):
            list(net.parameters())
        net.parts = wrap(3)
        assert len(list(net.parameters())) == 2


def test_a_module_beside_the_layers_of_a_sequence_is_refused():
    """PyTorch's Sequential would call it after the layers."""

    class Net(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(2, 2), nn.ReLU())
            self.head = nn.Linear(2, 2)

    for use in (nn.Module.parameters, nn.Module.state_dict, nn.Module.eval, optim.SGD):
        with pytest.raises(TypeError, match="Net: 'head' is a Linear beside the layers"):
            list(use(Net()))
    net = Net()
    net.append(net.head)  # another name of a layer does no harm
    assert len(list(net.parameters())) == 4


def test_parameters_in_a_list_are_refused():
    layer = nn.Linear(4, 4)
    layer.extra = [nn.Parameter(np.ones(3, np.float32))]
    with pytest.raises(TypeError, match=r"holds a Parameter.*expected an attribute for each"):
        list(layer.parameters())


@pytest.mark.parametrize("value", [np.ones((4, 4), np.float32), [1.0], 3])
def test_an_array_over_a_parameter_is_refused(value):
    layer = nn.Linear(4, 4)
    weight = layer.weight
    with pytest.raises(TypeError, match=r"'weight' is a .*, expected an nn.Param.*\.data"):
        layer.weight = value
    assert layer.weight is weight
    layer.weight = nn.Parameter(np.ones((4, 4), np.float32))
    layer.bias = None
    np.testing.assert_array_equal(layer(X), X @ np.ones((4, 4), np.float32))


def test_a_partial_load():
    body = build()
    whole = perturb(nn.Sequential(copy.deepcopy(body), nn.Linear(4, 2)))
    state = whole.state_dict()
    assert body.load_state_dict(state, prefix="0.") == ([], [], [])
    assert_same(body.state_dict(), whole[0].state_dict())
    other = nn.Sequential(build(), nn.Linear(4, 3), nn.BatchNorm1d(3))
    kept = other.state_dict()
    state["extra"] = np.ones(3)
    missing, unexpected, mismatched = other.load_state_dict(state, strict=False)
    assert missing == [f"2.{k}" for k in nn.BatchNorm1d(3).state_dict()]
    assert unexpected == ["extra"]
    assert mismatched == ["1.weight", "1.bias"]
    assert_same(other[0].state_dict(), whole[0].state_dict())
    assert_same(other[1].state_dict(), {k[2:]: v for k, v in kept.items() if k[0] == "1"})
    with pytest.raises(ValueError, match="nothing was changed"):
        other.load_state_dict(state)
    with pytest.raises(ValueError, match=r"missing 7\.0\.0\.weight"):
        whole.load_state_dict(state, prefix="7.")
    with pytest.raises(TypeError, match="'strict' is 'no', expected True or False"):
        whole.load_state_dict(state, strict="no")
    with pytest.raises(TypeError, match="'prefix' is 3"):
        whole.load_state_dict(state, prefix=3)


def test_an_optimizer_takes_a_module():
    model = build()
    optimizer = optim.AdamW(model, lr=0.1)
    assert [p for g in optimizer.param_groups for p in g["params"]] == list(model.parameters())
    groups = [{"params": model[0], "lr": 0.3}, {"params": model[2]}]
    assert optim.AdamW(groups).param_groups[0]["lr"] == 0.3
    model[0].weight.grad = np.full((4, 4), np.nan, np.float32)
    with pytest.raises(FloatingPointError, match=r"parameter 0 \(0.weight\)"):
        optimizer.step(nonfinite="raise")
    with pytest.raises(ValueError, match=r"has the keys 'w', .*values"):
        optim.AdamW({"w": np.ones(3, np.float32)})


def test_a_module_of_torch_is_named():
    torch = pytest.importorskip("torch")
    for make in (
        lambda: nn.Sequential(torch.nn.Linear(3, 3)),
        lambda: nn.ModuleList([torch.nn.Linear(3, 3)]),
        lambda: nn.Residual(nn.ReLU(), shortcut=torch.nn.Linear(3, 3)),
    ):
        with pytest.raises(TypeError, match=r"is a torch\.nn Linear, expected an onepass"):
            make()


OPERATIONS = {
    "-=": lambda p: p.__isub__(1),
    "* 2": lambda p: p * 2,
    "2 *": lambda p: 2 * p,
    "+ p": lambda p: p + p,
    "@": lambda p: p @ X,
    "**": lambda p: p**2,
    "-p": lambda p: -p,
    "p > 0": lambda p: p > 0,
    "- gradient": lambda p: p - np.ones((4, 4), np.float32),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_arithmetic_on_a_parameter_says_data(operation):
    parameter = nn.Linear(4, 4).weight
    with pytest.raises(TypeError, match=r"use the one in \.data"):
        OPERATIONS[operation](parameter)
    assert np.abs(parameter).shape == (4, 4)
    assert parameter == parameter
    assert parameter


MODULES = [
    *(getattr(nn, name)() for name in nn._activation.__all__ if name != "Activation"),
    nn.Linear(4, 4),
    nn.Linear(4, 4, bias=False),
    nn.BatchNorm1d(4),
    nn.Dropout(0.3),
    nn.Flatten(),
    nn.Residual(nn.Linear(4, 4), nn.BatchNorm1d(4)),
    build(),
]


@pytest.mark.parametrize("module", MODULES, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("training", [True, False])
def test_every_module_is_copied_also_after_a_forward(module, training):
    module.train(training)
    y = module(X)
    module.backward(y)
    for twin in (
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        copy.deepcopy(pickle.loads(pickle.dumps(module))),
    ):
        assert repr(twin) == repr(module)
        assert twin.training == training
        with pytest.raises(RuntimeError, match="came before forward"):
            twin.backward(y)
        again = copy.deepcopy(module)
        np.testing.assert_array_equal(twin(X), again(X))
        np.testing.assert_array_equal(twin.backward(y), again.backward(y))


def test_a_shallow_copy_has_values_of_its_own():
    layer = nn.Linear(4, 4)
    twin = copy.copy(layer)
    layer(X)
    twin(2 * X)
    layer.backward(X)
    expected = X.T @ X
    np.testing.assert_allclose(layer.weight.grad, expected, rtol=1e-5, atol=1e-6)


def test_help_lists_the_classes():
    text = pydoc.plain(pydoc.render_doc(nn))
    for name in nn.__all__:
        assert name in text
    assert "class ModuleList" in text


class Loud(nn.Dropout):
    def drops(self, read=getattr):
        return True


class Steep(nn.LeakyReLU):
    def kernel(self, op, read=getattr):
        return super().kernel(op, read)


class Settled(nn.BatchNorm1d):
    def uses_batch(self, read=getattr):
        return False


class Halved(nn.Linear):
    def backward(self, dy, *, need_input_grad=True):
        return super().backward(np.sign(dy), need_input_grad=need_input_grad)


@pytest.mark.parametrize(
    ("layers", "fused"),
    [
        (lambda: (nn.Linear(4, 4), Loud(0.5)), False),
        (lambda: (nn.BatchNorm1d(4), nn.ReLU(), Loud(0.5)), True),
        (lambda: (nn.Linear(4, 4), Steep(0.5)), False),
        (lambda: (Settled(4), nn.ReLU(), nn.Dropout(0.5)), False),
        (lambda: (Halved(4, 4), nn.Tanh()), False),
    ],
)
def test_a_layer_that_overrides_what_a_kernel_does_runs_by_itself(layers, fused):
    results = []
    for fuse in (True, False):
        nn.manual_seed(9)
        model = nn.Sequential(*layers(), fuse=fuse)
        assert ("fused" in repr(model)) == (fused and fuse)
        for mode in (True, False):
            model.train(mode)
            y = model(X)
            results.append((y, model.backward(X), *(p.grad.copy() for p in model.parameters())))
    for a, b in zip(results[:2], results[2:], strict=True):
        for left, right in zip(a, b, strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("slope", [math.inf, math.nan, True, "0.1", None])
def test_a_slope_is_checked_alike_everywhere(slope):
    calls = [
        lambda: nn.LeakyReLU(slope),
        lambda: ops.leaky_relu(X, negative_slope=slope),
        lambda: ops.leaky_relu_backward(X, X, negative_slope=slope),
        lambda: ops.bias_act(X, X[0], activation=("leaky_relu", {"negative_slope": slope})),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=r"'negative_slope' is .*a finite numb"):
            call()


@pytest.mark.parametrize("kind", ["Sequential", "ModuleList"])
@pytest.mark.parametrize(("span", "new"), [
    (slice(0, 2), 1), (slice(0, 2), 2), (slice(1, 1), 2), (slice(None), 3), (slice(-1, None), 0),
    (slice(0, 3, 2), 2), (slice(None, None, -1), 3),
])  # fmt: skip
def test_a_slice_is_replaced_as_in_a_list(kind, span, new):
    layers = [nn.Linear(2, 2) for _ in range(3)]
    model = nn.Sequential(*layers) if kind == "Sequential" else nn.ModuleList(layers)
    fresh = [nn.Linear(2, 2) for _ in range(new)]
    layers[span] = fresh
    model[span] = fresh
    assert list(model) == layers


WRONG_EDITS = {
    "a module for a slice": (lambda m: m.__setitem__(slice(0, 1), nn.ReLU()), TypeError, "several"),
    "a number in a slice": (lambda m: m.__setitem__(slice(0, 1), [3]), TypeError, "layer 0 is a "),
    "too many for a step": (
        lambda m: m.__setitem__(slice(0, 3, 2), [nn.ReLU()]), ValueError, "1 layers .* expected 2"),
    "a name": (lambda m: m.__setitem__("0", nn.ReLU()), TypeError, "the index is '0'"),
    "a name asked for": (lambda m: m["a"], TypeError, "the index is 'a', expected a whole number"),
    "a fraction": (lambda m: m[1.5], TypeError, "the index is 1.5"),
    "beyond the end": (lambda m: m[3], IndexError, "index 3 is out of range, expected -3 to 2"),
    "set beyond": (lambda m: m.__setitem__(-4, nn.ReLU()), IndexError, "index -4 is out of range"),
    "deleted beyond": (lambda m: m.__delitem__(3), IndexError, "index 3 is out of range"),
    "popped beyond": (lambda m: m.pop(3), IndexError, "index 3 is out of range"),
    "inserted at a name": (lambda m: m.insert("a", nn.ReLU()), TypeError, "the index is 'a'"),
    "a slice of names": (lambda m: m["a":"b"], TypeError, "slice"),
    "a step of zero": (lambda m: m[::0], ValueError, "zero"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["Sequential", "ModuleList"])
@pytest.mark.parametrize("name", WRONG_EDITS)
def test_an_edit_that_cannot_be_is_told_and_changes_nothing(kind, name):
    edit, error, words = WRONG_EDITS[name]
    layers = [nn.Linear(2, 2) for _ in range(3)]
    model = nn.Sequential(*layers) if kind == "Sequential" else nn.ModuleList(layers)
    with pytest.raises(error, match=f"^{kind}: .*{words}"):
        edit(model)
    assert list(model) == layers
