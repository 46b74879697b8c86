"""Modules refuse wrong arguments, inputs and gradients, and are as they were afterwards."""

from __future__ import annotations

import fake_cupy
import numpy as np
import pytest
from onepass import nn
from small_models import assert_same, grads, normal

FRESH = [
    nn.Linear(3, 3),
    nn.BatchNorm1d(3),
    nn.ReLU(),
    nn.Identity(),
    nn.Dropout(),
    nn.Flatten(),
    nn.Sequential(nn.ReLU()),
    nn.Residual(nn.ReLU()),
]


@pytest.mark.parametrize("module", FRESH, ids=lambda m: type(m).__name__)
def test_backward_before_forward(module):
    with pytest.raises(RuntimeError, match="before forward"):
        module.backward(np.ones((2, 3), np.float32))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: nn.Linear(0, 3), "'in_features' is 0"),
        (lambda: nn.Linear(3, -1), "'out_features' is -1"),
        (lambda: nn.Linear(3, 3, dtype="int32"), "'dtype' is 'int32'"),
        (lambda: nn.Linear(3, 3, dtype="nonsense"), "'dtype' is 'nonsense'"),
        (lambda: nn.Linear(3, 3, dtype=None), "'dtype' is None"),
        (lambda: nn.BatchNorm1d(0), "'num_features' is 0"),
        (lambda: nn.BatchNorm1d(3, eps=0.0), "'eps' is 0.0"),
        (lambda: nn.BatchNorm1d(3, eps=float("inf")), "'eps' is inf"),
        (lambda: nn.BatchNorm1d(3, momentum=1.5), "'momentum' is 1.5"),
        (lambda: nn.Dropout(1.5), "'p' is 1.5"),
        (lambda: nn.Dropout(float("nan")), "'p' is nan"),
        (lambda: nn.GELU("exact"), "'approximate' is 'exact'"),
        (lambda: nn.CrossEntropyLoss(reduction="avg"), "'reduction' is 'avg'"),
        (lambda: nn.CrossEntropyLoss(label_smoothing=2.0), "'label_smoothing' is 2.0"),
        (lambda: nn.CrossEntropyLoss(ignore_index=2**63), "'ignore_index' is "),
        (lambda: nn.manual_seed(-1), "'seed' is -1"),
        (lambda: nn.manual_seed(2**64), "'seed' is 18446744073709551616"),
        (lambda: nn.Residual(nn.Linear(3, 4))(np.ones((2, 3), np.float32)), "shortcut"),
        (lambda: nn.Flatten(2)(np.ones((2, 3), np.float32)), "no such axes"),
        (lambda: nn.Linear(3, 4)(np.ones((2, 4), np.float32)), r"expected \(…, 3\)"),
        (lambda: nn.BatchNorm2d(3)(np.ones((2, 3), np.float32)), r"expected \(N, 3, H, W\)"),
        (lambda: nn.BatchNorm1d(3)(np.ones((2, 4), np.float32)), r"expected \(N, 3\)"),
    ],
)
def test_values_out_of_range(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: nn.Linear(1.5, 3), "'in_features' is 1.5"),
        (lambda: nn.Linear(3, "3"), "'out_features' is '3'"),
        (lambda: nn.Linear(True, 3), "'in_features' is True"),
        (lambda: nn.BatchNorm1d(None), "'num_features' is None"),
        (lambda: nn.BatchNorm1d(3.0), "'num_features' is 3.0"),
        (lambda: nn.BatchNorm1d(3, eps="1e-5"), "'eps' is '1e-5'"),
        (lambda: nn.BatchNorm1d(3, momentum="0.1"), "'momentum' is '0.1'"),
        (lambda: nn.Dropout("0.5"), "'p' is '0.5'"),
        (lambda: nn.Dropout(None), "'p' is None"),
        (lambda: nn.Dropout(True), "'p' is True"),
        (lambda: nn.LeakyReLU("0.1"), "'negative_slope' is '0.1'"),
        (lambda: nn.Flatten(1.0), r"'start_dim' is 1\.0"),
        (lambda: nn.Flatten(1, None), "'end_dim' is None"),
        (lambda: nn.CrossEntropyLoss(label_smoothing="a"), "'label_smoothing' is 'a'"),
        (lambda: nn.CrossEntropyLoss(ignore_index=0.5), "'ignore_index' is 0.5"),
        (lambda: nn.CrossEntropyLoss(weight={"a": 1.0}), "weight is a dict"),
        (lambda: nn.CrossEntropyLoss(weight=np.ones(3, bool)), "weight has dtype bool"),
        (lambda: nn.Residual(shortcut=nn.ReLU), "shortcut is the class ReLU"),
        (lambda: nn.manual_seed(1.0), "'seed' is 1.0"),
        (lambda: nn.Parameter(None), "data is None"),
        (lambda: nn.Parameter([1.0]), "data is a list"),
        (lambda: nn.Parameter(np.ones(3, int)), "data has dtype int64"),
        (lambda: nn.Parameter(np.ones(3, ">f4")), "data has dtype >f4"),
    ],
)
def test_arguments_of_a_wrong_type(make, match):
    before = nn.get_rng_state()
    with pytest.raises(TypeError, match=match):
        make()
    assert nn.get_rng_state() == before


@pytest.mark.parametrize(
    "cls",
    [
        cls
        for name in nn.__all__
        if isinstance(cls := getattr(nn, name), type)
        and cls not in (nn.Parameter, nn.Summary, nn.LayerSummary)  # which nobody calls
        and cls.__init__ is not object.__init__
    ],
)
def test_a_wrong_keyword_names_the_class_that_was_called(cls):
    """Not the one that its constructor comes from, whose name may be private."""
    with pytest.raises(TypeError, match=rf"^{cls.__name__}: unknown keyword 'no_such_keyword'"):
        cls(no_such_keyword=1)


def test_numbers_of_numpy_are_numbers():
    assert nn.Linear(np.int64(3), np.uint8(2)).weight.shape == (2, 3)
    assert nn.Dropout(np.float32(0.5)).p == 0.5
    assert repr(nn.BatchNorm1d(3, eps=np.float64(0.5), momentum=None)).startswith(
        "BatchNorm1d(3, eps=0.5, momentum=None"
    )


LAYERS = [
    lambda: nn.Linear(3, 3),
    lambda: nn.Linear(3, 3, bias=False),
    lambda: nn.BatchNorm1d(3),
    nn.ReLU,
    nn.Identity,
    nn.Dropout,
    lambda: nn.Dropout(0.0),
    lambda: nn.Flatten(0),
    nn.Sequential,
    lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU()),
    nn.Residual,
]
NO_FLOATS = [
    (None, "None"),
    (3.0, "float"),
    ([[1.0, 2.0, 3.0]], "list"),
    (np.ones((2, 3), bool), "bool"),
    (np.ones((2, 3), int), "int64"),
    (np.ones((2, 3), complex), "complex128"),
    (np.ones((2, 3), ">f4"), ">f4"),
]


@pytest.mark.parametrize(("given", "match"), NO_FLOATS, ids=[row[1] for row in NO_FLOATS])
@pytest.mark.parametrize("make", LAYERS, ids=lambda make: repr(make()))
def test_layers_take_arrays_of_floats(make, given, match):
    layer = make()
    before, streams = layer.state_dict(), nn.get_rng_state(layer)
    with pytest.raises(TypeError, match=match):
        layer(given)
    assert_same(layer.state_dict(), before)
    assert nn.get_rng_state(layer) == streams
    layer(np.ones((2, 3), np.float32))
    with pytest.raises(TypeError, match=match):
        layer.backward(given)
    assert all(grad is None for grad in grads(layer).values())


@pytest.mark.parametrize("make", LAYERS, ids=lambda make: repr(make()))
def test_backward_takes_what_is_like_y(make):
    layer = make()
    y = layer(normal((2, 3), "float32"))
    for shape in ((3, 3), (3, 2), (6, 1), (2, 3, 1), ()):
        with pytest.raises(ValueError, match="shape"):
            layer.backward(np.ones(shape, np.float32))
    for dtype in ("float64", "float16"):
        with pytest.raises(TypeError, match=dtype):
            layer.backward(np.ones(y.shape, dtype))
    assert all(grad is None for grad in grads(layer).values())
    assert layer.backward(np.ones_like(y)).shape == (2, 3)


@pytest.mark.parametrize("make", [nn.Identity, nn.Dropout, nn.Flatten, nn.Sequential])
def test_layers_that_compute_nothing_take_what_the_kernels_take(make, monkeypatch):
    fake_cupy.install(monkeypatch)
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    layer = make().eval()
    for dtype in ("float32", "float64", "float16", bfloat16):
        x = np.ones((2, 3), dtype)
        for array in (x, fake_cupy.asarray(x)):
            y = layer(array)
            assert (type(y), y.dtype) == (type(array), dtype)
            assert layer.backward(array).shape == (2, 3)
    layer(fake_cupy.asarray(np.ones((2, 3), np.float32)))
    with pytest.raises(TypeError, match="dy is numpy float32, expected cupy float32"):
        layer.backward(np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match="shape"):
        layer.backward(fake_cupy.asarray(np.ones((3, 3), np.float32)))
    with pytest.raises(TypeError, match="int64"):
        layer(fake_cupy.asarray(np.ones((2, 3), np.int64)))


def test_one_module_in_two_places():
    act = nn.ReLU()
    with pytest.raises(ValueError, match="two places"):
        nn.Sequential(nn.Linear(3, 3), act, nn.Sequential(act))
    with pytest.raises(ValueError, match="two places"):
        nn.Residual(act, shortcut=act)
    with pytest.raises(TypeError, match="layer 1 is a str"):
        nn.Sequential(act, "relu")


@pytest.mark.parametrize("x", [np.ones((2, 3)), [[1.0, 2.0, 3.0]]], ids=["float64", "list"])
def test_linear_refuses_other_types(x):
    with pytest.raises(TypeError):
        nn.Linear(3, 3)(x)


def test_only_a_dtype_that_layers_have_is_offered_as_a_cure():
    for of, dtype, offered in (("float32", "float64", True), ("float64", "float16", False)):
        with pytest.raises(TypeError, match=rf"convert x with x\.astype\('{of}'\)") as caught:
            nn.Linear(3, 3, dtype=of)(np.ones((2, 3), dtype))
        assert (f"dtype='{dtype}'" in str(caught.value)) == offered


def test_backward_checks_dy():
    layer = nn.Linear(3, 4)
    layer(np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        layer.backward(np.ones((2, 3), np.float32))
    assert layer.weight.grad is None


def test_refused_batch_changes_nothing():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU(), nn.Dropout(0.5))
    before, streams = model.state_dict(), nn.get_rng_state(model)
    with pytest.raises(ValueError, match=r"(?i)value"):
        model(np.ones((1, 3), np.float32))
    assert_same(model.state_dict(), before)
    assert nn.get_rng_state(model) == streams


@pytest.mark.parametrize("given", [None, 3, "weight", [("weight", 1)]])
def test_a_state_that_is_no_dict(given):
    model = nn.Linear(2, 3)
    before = model.weight.data.copy()
    with pytest.raises(TypeError, match=r"'state_dict' is a \w+, expected a dict .* changed"):
        model.load_state_dict(given)
    np.testing.assert_array_equal(model.weight.data, before)


@pytest.mark.parametrize("mode", ["eval", None, 2, np.ones(2)], ids=str)
def test_a_mode_that_is_no_bool(mode):
    model = nn.Sequential(nn.Dropout())
    with pytest.raises(TypeError, match=r"train: 'mode' is .*, expected True or False"):
        model.train(mode)
    assert model.training
    assert model[0].training
    assert model.train(0)[0].training is False
