"""`Module.summary`: every number against counts by hand, and against PyTorch's counter."""

from __future__ import annotations

import numpy as np
import pytest
from onepass import nn
from onepass.nn._exchange import _layers, _work
from small_layers import ALL, layer
from small_models import assert_same, perturb, residual_model


def line(summary, name):
    return next(row for row in summary.layers if row.name == name)


def test_a_network_counted_by_hand():
    model = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3, bias=False))
    found = model.summary((4, 7))
    assert (found.input_shape, found.output_shape, found.dtype) == ((4, 7), (4, 3), "float32")
    assert (found.parameters, found.trainable, found.frozen) == (55, 55, 0)
    assert (found.parameter_bytes, found.statistics, found.groups) == (220, 0, (("0", "1"),))
    first, relu, last = found.layers
    assert (first.shape, first.parameters, first.products) == ((4, 5), 40, (140, 140))
    # x, W, product written; product, b read and y written. dy, product, b → dz, db; dz, x → dW.
    assert first.bytes == (4 * (28 + 35 + 20 + 40 + 5), 4 * (60 + 10 + 20 + 28 + 35))
    assert (relu.fused_into, relu.products, relu.bytes) == ("0", (0, 0), (0, 0))
    # x, W → y; dy, x → dW; dy, W → dx
    assert (last.products, last.bytes) == ((60, 120), (4 * 47, 4 * (12 + 20 + 15 + 12 + 15 + 20)))
    assert found.products == (200, 260)
    assert found.bytes == tuple(np.add(first.bytes, last.bytes))


def test_a_convolution_and_norms_by_hand():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3), nn.Dropout(0.1),
    )  # fmt: skip
    found = model.summary((5, 2, 6, 6))
    assert found.groups == (("1", "2", "3"), ("6", "7"))
    assert line(found, "0").products == (5 * 4 * 16 * 18, 5 * 4 * 16 * 18)  # no dx in front
    assert line(found, "0").bytes == (4 * (360 + 72 + 320), 4 * (320 + 360 + 72))
    assert line(found, "1").bytes == (4 * (640 + 8), 4 * (960 + 16))
    assert line(found, "4").bytes == (4 * (320 + 80 + 80), 4 * (80 + 80 + 320))
    assert line(found, "5").bytes == (0, 0)
    assert line(found, "1").statistics == 8
    assert line(found, "6").products == (240, 480)
    model.eval()
    assert model.summary((5, 2, 6, 6)) == found, "a step is one of training"


def test_a_residual_block_by_hand():
    fused = nn.Sequential(nn.Linear(4, 4), nn.Residual(nn.Linear(4, 4), nn.BatchNorm1d(4)),
                          nn.ReLU())  # fmt: skip
    found = fused.summary((6, 4))
    assert found.groups == (("1.body.1", "1", "2"),)
    assert line(found, "1.body.1").bytes == (4 * (24 * 3 + 8), 4 * (24 * 5 + 16))
    plain = nn.Residual(nn.Linear(4, 4, bias=False)).summary((6, 4))
    assert plain.groups == ()
    assert line(plain, "").bytes == (4 * 72, 0)
    assert line(plain, "body.0").products == (96, 96)
    behind = nn.Sequential(nn.Linear(4, 4), nn.Residual(nn.Linear(4, 4, bias=False)))
    assert line(behind.summary((6, 4)), "1").bytes == (4 * 72, 4 * 72)


def test_what_is_frozen_takes_no_part():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].freeze()
    model[1].bias.requires_grad = False
    found = model.summary((2, 4))
    assert (found.parameters, found.trainable, found.frozen) == (60, 36, 24)
    assert [row.frozen for row in found.layers] == [20, 4, 0]
    assert [row.products for row in found.layers] == [(32, 0), (32, 32), (32, 64)]
    assert found.layers[0].bytes[1] == 0


def test_parameters_that_layers_share_count_once():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    found = model.summary((2, 4))
    assert found.parameters == 24 == sum(row.parameters for row in found.layers)


CHAINS = {
    "linear": lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)),
    "images": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2),
        nn.Conv2d(4, 6, (1, 2), bias=False, dilation=(1, 2)), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(6, 5),
    ),
    "blocks": lambda: residual_model(dtype="float32"),
    "rows": lambda: nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 2)),
}  # fmt: skip
SHAPES = {"linear": (5, 6), "images": (3, 2, 9, 8), "blocks": (7, 6), "rows": (2, 3, 5)}


@pytest.mark.parametrize("name", CHAINS)
def test_products_are_those_that_pytorch_counts(name):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    model = CHAINS[name]()
    theirs, x = model.to_torch(), torch.randn(SHAPES[name])
    with FlopCounterMode(display=False) as counter:
        y = theirs(x)
    forward = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        y.sum().backward()
    assert model.summary(SHAPES[name]).products == (forward // 2, counter.get_total_flops() // 2)


class Counting:
    """Counts the multiply-adds of NumPy's products of matrices."""

    def __init__(self, monkeypatch):
        self.count = 0
        for name in ("dot", "matmul"):
            monkeypatch.setattr(np, name, self.counted(getattr(np, name)))

    def counted(self, function):
        def call(a, b, **options):
            y = function(a, b, **options)
            self.count += y.size * a.shape[-1]
            return y

        return call


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)), (5, 6)),
        (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 2)), (3, 2, 7, 7)),
        (
            lambda: nn.Sequential(nn.Linear(3, 6), nn.DecorrelatedBatchNorm(6, 2, iterations=3)),
            (20, 3),
        ),
        (lambda: nn.Sequential(nn.WeightNorm(nn.Linear(4, 3)), nn.Linear(3, 3)), (5, 4)),
    ],
    ids=["linear", "conv", "decorrelated", "weight norm"],
)
def test_products_are_those_that_a_step_does(make, shape, monkeypatch):
    model = make()
    found = model.summary(shape)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    counting = Counting(monkeypatch)
    y = model(x)
    forward = counting.count
    model.backward(np.ones_like(y), need_input_grad=False)
    assert found.products == (forward, counting.count - forward)


@pytest.mark.parametrize("name", ALL)
def test_every_layer_has_numbers_and_nothing_changes(name):
    model, x = layer(name)
    model.train()
    y = model(x)
    saved = [m.saved for m in model.modules()]
    state, random, before = model.state_dict(), nn.get_rng_state(model), repr(model)
    modes = [(m.training, m._holds_eval) for m in model.modules()]
    by_shape, by_array = model.summary(x.shape), model.summary(x)
    assert by_shape.output_shape == y.shape
    assert by_shape.dtype != by_array.dtype or by_shape.bytes == by_array.bytes
    assert by_shape.parameters == sum(p.size for p in model.parameters())
    assert len(by_shape.layers) >= 1
    assert_same(model.state_dict(), state)
    assert nn.get_rng_state(model) == random
    assert [(m.training, m._holds_eval) for m in model.modules()] == modes
    assert all(a is b for a, b in zip(saved, (m.saved for m in model.modules()), strict=True))
    assert repr(model) == before
    assert all(len(row) <= 80 for row in str(by_shape).splitlines())
    assert_lines_add_up(by_shape)


def assert_lines_add_up(found):
    for total in ("products", "bytes"):
        parts = [getattr(row, total) for row in found.layers]
        assert getattr(found, total) == tuple(map(sum, zip(*parts, strict=True)))


class Own(nn.Module):
    def __init__(self):
        self.inner = nn.Linear(4, 4)
        self.scale = nn.Parameter(np.ones(4, np.float32))

    def forward(self, x):
        return self.inner(self.inner(x)) * self.scale.data


class Around(nn.Module):
    def __init__(self, part):
        self.a_part_with_a_long_name = part

    def forward(self, x):
        return self.a_part_with_a_long_name(x)


class Net(nn.Module):
    def __init__(self):
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.b(self.a(x))


@pytest.mark.parametrize("make", [Own, Net, lambda: Around(Net()), lambda: Around(Own())])
def test_the_lines_of_a_module_of_ones_own_add_up(make):
    assert_lines_add_up(make().summary((3, 4)))
    assert_lines_add_up(nn.Sequential(nn.Linear(4, 4), make()).summary((3, 4)))


def test_a_layer_of_onepass_without_a_rule_is_no_module_of_ones_own(monkeypatch):
    known = _layers.layers()
    monkeypatch.setattr(_work, "layers", lambda: {**known, "Net": Net})
    with pytest.raises(NotImplementedError, match=r"_work\.py has no rule for Net"):
        Net().summary((3, 4))


def test_modules_of_ones_own():
    found = nn.Sequential(Own(), nn.Linear(4, 2)).summary((3, 4))
    assert [row.name for row in found.layers] == ["0", "0.inner", "1"]
    assert line(found, "0").parameters == 4
    assert line(found, "0.inner").products == (96, 192)  # twice


def test_a_convolution_of_groups_by_hand():
    """In whose gradient PyTorch counts all pairs of channels."""
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 6, 3, groups=2))
    assert line(model.summary((5, 2, 6, 6)), "1").products == (one := 5 * 6 * 16 * 18, 2 * one)


def test_the_table():
    model = perturb(nn.Sequential(
        nn.Linear(784, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.2), nn.Linear(256, 10)
    ))  # fmt: skip
    model[0].freeze()
    assert str(model.summary((32, 784))) == TABLE
    deep = Own()
    for _ in range(12):
        deep = Around(deep)
    text = str(deep.summary((3, 4)))
    assert max(map(len, text.splitlines())) <= 80
    assert "...a_part_with_a_long_name.inner Linear  (3, 4)" in text


TABLE = """\
Sequential: x (32, 784) float32 -> y (32, 10)

layer          y              parameters  products      bytes
0 Linear       (32, 256)  200,960 frozen    6.42 M    1.00 MB
1 BatchNorm1d  (32, 256)             512               170 kB
+ 2 ReLU       in 1
+ 3 Dropout    in 1
4 Linear       (32, 10)            2,570     246 k     137 kB

parameters  204,042 (3,082 trained, 200,960 frozen), 816 kB
statistics  512
forward     6.50 M products, 1.12 MB
backward    164 k products, 192 kB"""


@pytest.mark.parametrize("given", [None, 3, "ab", (3, "a"), (3, 0), (2.5, 4), [None, 4], np.bool_])
def test_what_is_no_shape(given):
    with pytest.raises((TypeError, ValueError), match="summary: 'x' is "):
        nn.Linear(4, 2).summary(given)


def test_a_shape_that_the_model_does_not_take():
    with pytest.raises(ValueError, match=r"Linear: x has shape \(3, 5\), expected \(…, 4\)"):
        nn.Linear(4, 2).summary((3, 5))
