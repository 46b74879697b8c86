"""`nn.init.apply`: what each parameter gets, the spread of the values, seeds, the digits."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from onepass import nn, ops, optim
from onepass.data import load
from onepass.nn._activation import MODULES
from onepass.nn._initialise import SCHEMES
from onepass.train import Trainer
from small_models import assert_same

KAIMING = {
    "relu", "leaky_relu", "relu6", "elu", "celu", "gelu", "silu", "mish", "softplus", "hardswish"
}  # fmt: skip


def schemes(model, **options):
    return {name: choice.scheme for name, choice in nn.init.apply(model, **options).items()}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_auto_goes_by_the_activation(name):
    between = (nn.BatchNorm1d(300), nn.Dropout(0.3), nn.Identity())
    model = nn.Sequential(nn.Linear(200, 300), *between, MODULES[name](), nn.Linear(300, 5))
    got = schemes(model)
    if name == "identity":  # and so another layer follows
        want, variance = "xavier_normal", 2 / 500
    elif name in KAIMING:
        slope = 0.01 if name == "leaky_relu" else 0.0
        want, variance = "kaiming_normal", 2 / (1 + slope**2) / 200
    elif name == "selu":
        want, variance = "lecun_normal", 1 / 200
    else:
        want, variance = "xavier_normal", 2 / 500
    assert got["0.weight"] == want
    assert model[0].weight.data.var() == pytest.approx(variance, rel=0.03)
    assert abs(model[0].weight.data.mean()) < 5 * math.sqrt(variance / 60000)
    assert got["5.weight"] == "xavier_normal"  # before the output


@pytest.mark.parametrize(
    ("gate", "scheme"),
    [("sigmoid", "xavier_normal"), (("silu", {}), "kaiming_normal"), (None, "xavier_normal")],
)
def test_a_gated_layer_goes_by_its_gate(gate, scheme):
    model = nn.Sequential(nn.Linear(4, 6), nn.GLU(activation=gate), nn.Linear(3, 2))
    assert schemes(model)["0.weight"] == scheme


def test_a_new_activation_is_in_the_list_above():
    for name, cls in MODULES.items():
        y = getattr(ops, name)(np.array([-3.0, 3.0]))
        like_relu = name != "selu" and y[1] >= 2 and abs(y[0]) <= 1
        assert like_relu == (name in KAIMING), cls


def test_the_slope_of_a_leaky_relu_counts():
    model = nn.Sequential(nn.Linear(300, 300), nn.LeakyReLU(1.0))
    nn.init.apply(model)
    assert model[0].weight.data.var() == pytest.approx(1 / 300, rel=0.03)


@pytest.mark.parametrize("groups", [1, 4, 16])
@pytest.mark.parametrize("scheme", ["auto", "xavier_uniform", "geometric_mean", "kaiming_uniform"])
def test_a_grouped_convolution_is_so_many_convolutions(groups, scheme):
    conv = nn.Conv2d(16, 64, 5, groups=groups, dtype="float64")
    after = nn.ReLU() if scheme == "auto" else nn.Tanh()
    nn.init.apply(nn.Sequential(conv, nn.BatchNorm2d(64), nn.MaxPool2d(2), after), scheme)
    fan_in, fan_out = 16 // groups * 25, 64 // groups * 25
    variance = {
        "auto": 2 / fan_in,
        "kaiming_uniform": 2 / fan_in,
        "xavier_uniform": 2 / (fan_in + fan_out),
        "geometric_mean": 1 / math.sqrt(fan_in * fan_out),
    }[scheme]
    assert conv.weight.data.var() == pytest.approx(variance, rel=0.08)
    assert len(np.unique(conv.weight.data)) == conv.weight.size  # no group repeats another


def test_orthogonal_has_the_gain_of_what_follows():
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Conv2d(4, 8, 1, groups=2), nn.Tanh())
    nn.init.apply(model, "orthogonal")
    w = model[0].weight.data.astype(np.float64)
    np.testing.assert_allclose(w @ w.T, 2 * np.eye(6), atol=1e-6)
    for group in model[2].weight.data.astype(np.float64).reshape(2, 4, 2):
        np.testing.assert_allclose(group.T @ group, np.eye(2), atol=1e-6)


@pytest.mark.parametrize("pieces", [1, 2, 3, 5])
def test_the_signal_keeps_its_mean_square_through_maxout(pieces):
    model = nn.Sequential(nn.Linear(400, 400 * pieces), nn.Maxout(pieces))
    nn.init.apply(model)
    x = np.random.default_rng(0).standard_normal((300, 400)).astype(np.float32)
    assert (model(x) ** 2).mean() == pytest.approx(1, rel=0.03)


def test_norms_biases_and_statistics_begin_anew():
    model = nn.Sequential(
        nn.Linear(6, 6), nn.BatchNorm1d(6), nn.LayerNorm(6), nn.DecorrelatedBatchNorm(6),
        nn.RMSNorm(6), nn.GroupNorm(2, 6), nn.BatchRenorm(6), nn.BatchNorm1d(6, affine=False),
    )  # fmt: skip
    nn.init.apply(model, seed=3)
    want = model.state_dict()
    for parameter in model.parameters():
        parameter.data += 1
    for _ in range(3):
        model(np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32))
    nn.init.apply(model, seed=3)
    assert_same(model.state_dict(), want)
    assert want["1.num_batches_tracked"] == 0
    for name, value in want.items():
        if name.endswith(("weight", "running_var")) and name != "0.weight":
            assert (value == 1).all(), name
        if name.endswith(("bias", "running_mean")):
            assert (value == 0).all(), name
    np.testing.assert_array_equal(want["3.running_projection"], [np.eye(6)])


def resnet_block():
    return nn.Residual(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 5),
                       nn.BatchNorm1d(5))  # fmt: skip


@pytest.mark.parametrize(
    ("body", "name", "scheme"),
    [
        ((nn.Linear(5, 5), nn.BatchNorm1d(5)), "1.weight", "zeros"),
        ((nn.ReLU(), nn.Linear(5, 5), nn.Dropout(0.1)), "1.weight", "zeros"),
        ((nn.Sequential(nn.Tanh(), nn.Linear(5, 5, bias=False)),), "0.1.weight", "zeros"),
        ((nn.Linear(5, 5), nn.LayerNorm(5), nn.ReLU()), "1.weight", "constant"),
        ((nn.Linear(5, 5), nn.ReLU()), "0.weight", "kaiming_normal"),
        ((nn.WeightNorm(nn.Linear(5, 5)),), "0.weight_g", "zeros"),
    ],
)
def test_a_residual_branch_begins_at_zero_or_small(body, name, scheme):
    block = nn.Residual(*body)
    report = nn.init.apply(block)
    choice = report[f"body.{name}"]
    assert choice == (scheme, choice.std, "end of a residual branch")
    x = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    share = np.linalg.norm(block.eval()(x) - x) / np.linalg.norm(x)
    assert (share == 0) if scheme == "zeros" else 0.01 < share < 0.3
    block.train()
    block(x)
    block.backward(x)
    assert any(np.abs(p.grad).max() > 0 for p in block.body.parameters())
    assert block.body.state_dict().keys() == {k[5:] for k in block.state_dict()}


class Unknown(nn.Module):
    def forward(self, x):
        return np.maximum(x, 0)


class Gated(nn.LayerNorm):
    def __init__(self, size):
        super().__init__(size)
        self.gate = nn.Parameter(np.full(size, 0.5, np.float32))


def test_what_a_norm_of_ones_own_has_beside_stays():
    report = nn.init.apply(norm := Gated(3))
    assert [c.scheme for c in report.values()] == ["ones", "zeros", "kept"]
    assert (norm.gate.data == 0.5).all()


@pytest.mark.parametrize(
    "body",
    [
        (nn.Linear(5, 5), nn.BatchNorm1d(5, affine=False)),  # would undo any scale
        (nn.Linear(5, 5), nn.Residual(nn.Tanh())),
        (nn.Linear(5, 5), nn.Softmax(1)),
        (nn.Linear(5, 5), Unknown()),  # whose gradient at 0 may be 0
    ],
)
def test_a_branch_that_no_single_layer_ends_is_left(body):
    assert schemes(nn.Residual(*body))["body.0.weight"] == "xavier_normal"


ARGUMENTS = ((), (4,), (4, 4), (2, 4), (4, 4, 3))


def made(cls):
    """A module of this class, whatever its first arguments are."""
    for arguments in (*ARGUMENTS, (nn.Linear(3, 3),)):
        try:
            return cls(*arguments)
        except (TypeError, ValueError):
            continue
    raise AssertionError(f"{cls.__name__}: no arguments here make one")


EVERY = [
    cls
    for name in nn.__all__
    if isinstance(cls := getattr(nn, name), type) and issubclass(cls, nn.Module)
    and cls not in (nn.Module, nn.Activation)
]  # fmt: skip


@pytest.mark.parametrize("cls", EVERY)
def test_every_module_is_initialised_and_folded(cls):
    model = nn.Sequential(made(cls))
    report = nn.init.apply(model)
    assert list(report) == [name for name, _ in model.named_parameters()]
    assert all(choice.scheme != "kept" for choice in report.values())
    state = model.state_dict()
    assert_same(nn.fold_batch_norm(model).state_dict(), state)


def test_named_schemes_take_every_weight_and_no_branch_is_special():
    model = nn.Sequential(nn.Residual(nn.Linear(5, 5), nn.BatchNorm1d(5)), nn.Linear(5, 3))
    got = schemes(model, scheme="xavier_uniform")
    assert got["0.body.0.weight"] == got["1.weight"] == "xavier_uniform"
    assert got["0.body.1.weight"] == "ones"
    assert (model[0].body[1].weight.data == 1).all()


class Mine(nn.Module):
    def __init__(self):
        self.first = nn.Linear(4, 6)
        self.act = nn.SELU()
        self.heads = nn.ModuleList([nn.Sequential(nn.Linear(6, 6), nn.GELU()), nn.Linear(6, 2)])
        self.my_weight = nn.Parameter(np.full((3, 3), 7.0, np.float32))
        self.my_bias = nn.Parameter(np.full(3, 7.0, np.float32))
        self.token = nn.Parameter(np.full((1, 3), 7.0, np.float32))


def test_modules_of_ones_own():
    model = nn.Sequential(Mine(), nn.Tanh())
    report = nn.init.apply(model)
    assert {name: choice.scheme for name, choice in report.items()} == {
        "0.my_weight": "xavier_normal",
        "0.my_bias": "zeros",
        "0.token": "kept",
        "0.first.weight": "lecun_normal",
        "0.first.bias": "zeros",
        "0.heads.0.0.weight": "kaiming_normal",
        "0.heads.0.0.bias": "zeros",
        "0.heads.1.weight": "xavier_normal",
        "0.heads.1.bias": "zeros",
    }
    assert report["0.token"].why == "of Mine, unknown"
    assert (model[0].token.data == 7).all()
    assert report["0.heads.1.weight"].why == "before Tanh"


def test_weight_norm_starts_at_the_drawn_weight():
    plain = nn.Sequential(nn.Linear(30, 20), nn.ReLU())
    normed = nn.Sequential(nn.WeightNorm(nn.Linear(30, 20)), nn.ReLU())
    report = nn.init.apply(normed)
    nn.init.apply(plain)
    assert report["0.weight_v"].scheme == "kaiming_normal"
    x = np.random.default_rng(0).standard_normal((4, 30)).astype(np.float32)
    normed(x)
    got = normed[0].module.weight.data
    np.testing.assert_allclose(got, normed[0].weight_v.data, rtol=1e-5)
    assert got.std() == pytest.approx(plain[0].weight.data.std(), rel=0.1)


def test_a_zero_weight_is_one_of_length_zero():
    model = nn.Sequential(nn.WeightNorm(nn.Linear(3, 2)), nn.Linear(2, 2))
    report = nn.init.apply(model, "zeros")
    assert {k: report[k].scheme for k in ("0.weight_g", "0.weight_v", "1.weight")} == {
        "0.weight_g": "zeros",
        "0.weight_v": "xavier_normal",
        "1.weight": "zeros",
    }
    assert (model[0](np.ones((4, 3), np.float32)) == 0).all()


def test_a_weight_is_a_function_of_the_seed_and_its_name():
    def model(*more, dtype="float32"):
        layer = nn.Linear(6, 6, dtype=dtype)
        return nn.Sequential(layer, nn.Tanh(), nn.Linear(6, 6, dtype=dtype), *more)

    nn.manual_seed(1)
    a, state = model(), nn.get_rng_state()
    nn.init.apply(a, seed=5)
    assert nn.get_rng_state() == state
    nn.manual_seed(2)
    b = model(nn.Tanh(), nn.Linear(6, 3))
    nn.init.apply(b, seed=5)
    assert_same(a[0].state_dict(), b[0].state_dict())
    assert_same(a[2].state_dict(), b[2].state_dict())
    assert (a[0].weight.data != a[2].weight.data).all()
    twin = model(dtype="float64")
    nn.init.apply(twin, seed=5)
    np.testing.assert_array_equal(twin[2].weight.data.astype(np.float32), a[2].weight.data)
    nn.init.apply(b, seed=6)
    assert (a[0].weight.data != b[0].weight.data).all()


def test_frozen_layers_and_their_statistics_stay():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model(np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32))
    model[:2].freeze()
    before = model[:2].state_dict()
    report = nn.init.apply(model)
    assert_same(model[:2].state_dict(), before)
    assert report["0.weight"].scheme == report["1.bias"].scheme == "kept"
    assert report["0.weight"].why == "frozen"
    assert report["0.weight"].std == pytest.approx(before["0.weight"].std())
    assert report["2.weight"].scheme == "xavier_normal"


def test_a_shared_parameter_is_drawn_once_by_its_first_name():
    model = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh())
    model[2].weight = model[0].weight
    report = nn.init.apply(model)
    assert list(report) == ["0.weight", "0.bias", "2.bias"]
    assert report["0.weight"].scheme == "kaiming_normal"
    assert model[2].weight is model[0].weight


def test_the_report_prints_a_row_a_parameter():
    report = nn.init.apply(nn.Sequential(nn.Linear(50, 8), nn.ReLU(), nn.Linear(8, 2)))
    lines = str(report).splitlines()
    assert len(lines) == 5
    assert lines[0].split() == ["parameter", "scheme", "std", "because"]
    name, scheme, std, *why = lines[1].split()
    assert (name, scheme, why) == ("0.weight", "kaiming_normal", ["before", "ReLU"])
    assert float(std) == pytest.approx(report["0.weight"].std, rel=0.01)


def test_errors_change_nothing():
    model = nn.Sequential(nn.Linear(3, 3))
    before = model.state_dict()
    with pytest.raises(ValueError, match="apply: 'scheme' is 'kaimin_normal', expected"):
        nn.init.apply(model, "kaimin_normal")
    with pytest.raises(ValueError, match="apply: 'seed' is -1"):
        nn.init.apply(model, seed=-1)
    with pytest.raises(TypeError, match=r"apply: 'model' is a ndarray, expected an nn\.Module"):
        nn.init.apply(np.zeros((3, 3)))
    assert_same(model.state_dict(), before)


def test_ten_relu_layers_learn_the_digits_with_kaiming_alone():
    data = load("digits")
    X = ((data.X - data.X.mean(axis=0)) / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(X))
    train, held_out = order[450:], order[:450]

    def accuracy(scheme):
        nn.manual_seed(0)
        layers = [layer for _ in range(10) for layer in (nn.Linear(64, 64), nn.ReLU())]
        model = nn.Sequential(*layers, nn.Linear(64, 10))
        if scheme:
            nn.init.apply(model, scheme)
        optimizer = optim.SGD(model.parameters(), lr=0.05)
        trainer = Trainer(
            model, nn.CrossEntropyLoss(), optimizer, metrics=["accuracy"], progress=False
        )
        trainer.fit(X[train], data.y[train], max_epochs=10)
        return trainer.evaluate(X[held_out], data.y[held_out])["accuracy"]

    assert accuracy(None) < 0.15
    assert accuracy("auto") > 0.9
    assert accuracy("kaiming_normal") > 0.9


def test_every_initialiser_is_a_scheme_and_named_in_the_docstring():
    names = {*nn.init.__all__} - {"apply", "calculate_gain", "constant", "Report", "Choice"}
    assert {*SCHEMES} == {"auto", *names}
    doc = nn.init.apply.__doc__
    if doc is not None:  # python -OO has none
        listed = re.search(r"name of an initialiser: (.*?)\.\n", doc, re.S)
        assert {*re.findall(r"\w+", listed[1])} == names


class Scaled(nn.BatchNorm1d):
    """A norm of one's own with a statistic more."""

    buffer_names = (*nn.BatchNorm1d.buffer_names, "scale")

    def __init__(self, num_features):
        self.scale = np.empty(num_features)
        super().__init__(num_features)

    def _fresh(self):
        return {**super()._fresh(), "scale": 0.25}


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(4), nn.BatchNorm1d(4, track_running_stats=False), nn.BatchRenorm(4),
        nn.InstanceNorm1d(4, track_running_stats=True), nn.DecorrelatedBatchNorm(4, 2), Scaled(4),
    ],
    ids=lambda norm: str(norm),
)  # fmt: skip
def test_running_statistics_are_those_of_a_new_norm(norm):
    new = {name: np.copy(getattr(norm, name)) for name in norm.buffer_names}
    for name in norm.buffer_names:
        if getattr(norm, name) is not None:
            getattr(norm, name)[...] = 7
    frozen = nn.Sequential(norm).freeze()
    nn.init.apply(frozen)
    kept = {name: np.copy(getattr(norm, name)) for name in norm.buffer_names}
    frozen.unfreeze()
    nn.init.apply(frozen)
    for name, value in new.items():
        if getattr(norm, name) is not None:
            assert (kept[name] == 7).all()
            np.testing.assert_array_equal(getattr(norm, name), value)
    if isinstance(norm, Scaled):
        assert (norm.scale == 0.25).all()
