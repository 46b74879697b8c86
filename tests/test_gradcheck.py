"""nn.gradcheck: right modules pass, fused or not; a planted mistake is named with its element."""

import copy
import itertools
import re

import numpy as np
import pytest
from onepass import nn
from onepass.nn._activation import MODULES
from small_models import DTYPES, grads, normal, perturb, residual_model

RNG = np.random.default_rng(0)
FUSE = pytest.mark.parametrize("fuse", [True, False])


@FUSE
@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_activation_passes_alone_and_behind_layers(name, fuse):
    nn.manual_seed(0)
    make = MODULES[name]
    nn.gradcheck(make(), 3 * normal((4, 5)))
    nn.gradcheck(nn.Sequential(nn.Linear(4, 3), make(), nn.Dropout(0.4), fuse=fuse), normal((3, 4)))
    norm = nn.Sequential(perturb(nn.BatchNorm1d(3)), make(), nn.Dropout(0.4), fuse=fuse)
    nn.gradcheck(norm, normal((5, 3), "float32"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d, (5, 3)),
        (nn.BatchNorm1d, (3, 3, 2)),
        (nn.BatchNorm2d, (2, 3, 2, 2)),
        (nn.BatchNorm3d, (2, 3, 1, 2, 2)),
    ],
)
def test_batch_norm_passes_and_keeps_its_statistics(norm, shape, training, dtype):
    for options in ({}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}):
        layer = perturb(norm(3, dtype=dtype, **options)).train(training)
        before = layer.state_dict()
        nn.gradcheck(layer, normal(shape, dtype))
        for key, value in layer.state_dict().items():
            np.testing.assert_array_equal(value, before[key])


@FUSE
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("p", [0.0, 0.5])
def test_residuals_and_nested_models_pass(fuse, training, p):
    model = perturb(residual_model(fuse, p=p)).train(training)
    nn.gradcheck(model, normal((5, 6)), samples=20)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(4, 3),
        lambda: nn.Linear(4, 3, bias=False),
        lambda: nn.Dropout(0.5),
        lambda: nn.Flatten(),
        lambda: nn.Identity(),
        lambda: nn.Residual(nn.Linear(4, 4)),
    ],
)
def test_the_other_modules_pass(make):
    nn.gradcheck(make(), normal((2, 3, 4), "float32"))


def test_kinks_are_no_mistakes():
    """At 0 of a ReLU any slope from 0 to 1 is right; 1e-9 beside it the differences straddle it."""
    x = np.array([[0.0, 1e-9, -1e-9, 1e-7, 2.0]])
    nn.gradcheck(nn.ReLU(), x)
    nn.gradcheck(nn.LeakyReLU(), x)
    nn.gradcheck(nn.Sequential(nn.Linear(5, 4), nn.ReLU()), np.zeros((2, 5)))


@FUSE
@pytest.mark.parametrize("x", [np.ones((4, 3)), np.zeros((5, 3)), np.full((6, 3), -2.5, np.float32),
                               np.array([[1.0, 2, 3]] * 4)])  # fmt: skip
@pytest.mark.parametrize("behind", [0, 1, 2])
@pytest.mark.parametrize("make", [nn.ReLU, nn.LeakyReLU])
def test_a_constant_x_behind_a_batch_norm_is_no_mistake(x, behind, make, fuse):
    """All outputs of the batch norm lie at the kink, and moving one element moves all of them."""
    nn.manual_seed(0)
    more = [nn.Linear(3, 4), nn.Linear(4, 2)][:behind]
    nn.gradcheck(nn.Sequential(nn.BatchNorm1d(3), make(), *more, fuse=fuse), x)
    head = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), make(), *more, fuse=fuse)
    nn.gradcheck(head, x)


@pytest.mark.parametrize("factor", [1.1, 0.0, -1.0, np.nan])
def test_a_mistake_is_seen_also_where_kinks_meet(factor):
    def spoil(dx, named):
        dx *= factor
        return dx

    body = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"gradient of x\[\d, \d\] is"):
        nn.gradcheck(Spoilt(spoil, body), np.ones((5, 3)))


def test_parameters_of_very_different_sizes_pass():
    layer = nn.Linear(3, 2)
    layer.weight.data *= 1e6
    nn.gradcheck(layer, normal((4, 3)))
    nn.gradcheck(layer, 1e-6 * normal((4, 3)))


# Mistakes.


class Spoilt(nn.Module):
    """A model whose backward goes wrong in one place."""

    def __init__(self, spoil, inner=None):
        self.inner = inner or nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)
        )
        self.spoil = spoil

    def forward(self, x):
        return self.inner(x)

    def backward(self, dy, *, need_input_grad=True):
        dx = self.inner.backward(dy, need_input_grad=need_input_grad)
        named = dict(self.inner.named_parameters())
        return self.spoil(dx, named)


def one(name, at, factor):
    def spoil(dx, named):
        array = dx if name == "x" else named[name].grad
        array[at] *= factor
        return dx

    return spoil


@pytest.mark.parametrize("factor", [1.01, 0.0, -1.0, np.nan])
@pytest.mark.parametrize(
    ("name", "at"),
    [("x", (1, 2)), ("0.weight", (3, 1)), ("1.weight", (2,)), ("1.bias", (0,)), ("3.bias", (1,))],
)
def test_the_wrong_element_is_named_with_both_numbers(name, at, factor):
    nn.manual_seed(0)
    model = Spoilt(one(name, at, factor))
    x = normal((5, 3), "float32")
    full = name if name == "x" else f"inner.{name}"
    place = re.escape(f"{full}[{', '.join(map(str, at))}]")
    with pytest.raises(ValueError, match=rf"gradient of {place} is \S+, expected \S+ by") as error:
        nn.gradcheck(model, x)
    got, expected = map(float, re.findall(r"(?:is|expected) ([-\w.+]+)", str(error.value)))
    if factor == 0 or factor != factor:
        assert got == 0 or got != got
    else:
        assert got == pytest.approx(factor * expected, rel=1e-4)


def gone(dx, named):
    named["0.bias"].grad = named["0.weight"].grad = None
    return dx


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (gone, r"inner\.0\.weight\[\d, \d\] is missing, expected"),
        (lambda dx, named: dx.T, r"gradient of x has shape \(3, 5\), expected \(5, 3\)"),
        (lambda dx, named: None, r"gradient of x\[\d, \d\] is missing"),
    ],
)
def test_missing_and_misshapen_gradients(spoil, words):
    with pytest.raises(ValueError, match=words):
        nn.gradcheck(Spoilt(spoil), normal((5, 3)))


def test_a_mistake_in_a_large_parameter_is_found_where_all_elements_are_checked():
    layer = nn.Linear(30, 30)
    wrong = Spoilt(one("0.weight", (7, 7), 2.0), nn.Sequential(layer))
    with pytest.raises(ValueError, match=re.escape("inner.0.weight[7, 7]")):
        nn.gradcheck(wrong, normal((2, 30)), samples=None)
    whole = Spoilt(one("0.weight", slice(None), 2.0), nn.Sequential(layer))
    with pytest.raises(ValueError, match=re.escape("inner.0.weight[")):
        nn.gradcheck(whole, normal((2, 30)), samples=5)


class Table(nn.Module):
    """An embedding: integers in."""

    def __init__(self, right=True):
        self.weight = nn.Parameter(normal((5, 2), "float32"))
        self.right = right

    def forward(self, x):
        self.saved = x
        return self.weight.data[x]

    def backward(self, dy, *, need_input_grad=True):
        grad = np.zeros_like(self.weight.data)
        if self.right:
            np.add.at(grad, self.recall(), dy)
        else:
            grad[self.recall()] += dy  # repeated indices count once
        self.weight.accumulate(grad)


def test_inputs_of_integers_are_not_moved():
    x = np.array([[0, 3], [3, 1]])
    nn.gradcheck(Table(), x)
    with pytest.raises(ValueError, match=r"weight\[3, \d\]"):
        nn.gradcheck(Table(right=False), x)


# Inputs that it leaves unchanged, and inputs that it refuses.


@FUSE
def test_the_module_is_not_touched(fuse):
    nn.manual_seed(3)
    model = residual_model(fuse, "float32", p=0.3)
    x = normal((5, 6), "float32")
    model.backward(model(x))
    before = copy.deepcopy([model.state_dict(), grads(model), nn.get_rng_state(model), x])
    saved = model.saved
    nn.gradcheck(model, x, samples=3)
    after = [model.state_dict(), grads(model), nn.get_rng_state(model), x]
    for a, b in itertools.islice(zip(before, after, strict=True), 2):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], strict=True)
    assert after[2] == before[2]
    np.testing.assert_array_equal(after[3], before[3])
    assert model.saved is saved


def test_frozen_parameters_are_not_checked():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model[2].bias.requires_grad = False
    nn.gradcheck(model, normal((5, 3)))


class Coarse(nn.Module):
    def forward(self, x):
        self.saved = x
        return x.astype(np.float32)

    def backward(self, dy, *, need_input_grad=True):
        return dy


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: nn.gradcheck(nn.ReLU, RNG.random(3)), TypeError, "'module' is the class ReLU"),
        (lambda: nn.gradcheck(len, RNG.random(3)), TypeError, "'module' is <built-in"),
        (lambda: nn.gradcheck(nn.ReLU(), [1.0]), TypeError, "'x' is a list"),
        (lambda: nn.gradcheck(nn.ReLU(), RNG.random(3), eps=0), ValueError, "'eps' is 0"),
        (lambda: nn.gradcheck(nn.ReLU(), RNG.random(3), rtol=-1), ValueError, "'rtol' is -1"),
        (lambda: nn.gradcheck(nn.ReLU(), RNG.random(3), samples=0), ValueError, "'samples' is 0"),
        (lambda: nn.gradcheck(Coarse(), RNG.random(3)), ValueError, "gives float32"),
        (lambda: nn.gradcheck(nn.ReLU(), np.array([np.inf])), ValueError, "not finite"),
    ],
)
def test_what_cannot_be_checked_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_statistics_that_move_with_each_call_start_from_the_same_each_time():
    class Drifts(nn.Module):
        buffer_names = ("mean",)

        def __init__(self):
            self.mean = np.zeros(3)

        def forward(self, x):
            self.mean += 0.1 * (x.mean(axis=0) - self.mean)
            self.saved = len(x)
            return x - self.mean

        def backward(self, dy, *, need_input_grad=True):
            return dy - 0.1 * dy.sum(axis=0) / self.recall()

    class Forgets(Drifts):
        def backward(self, dy, *, need_input_grad=True):
            return dy

    module = Drifts()
    nn.gradcheck(module, normal((4, 3)) + 5)
    assert not module.mean.any()
    with pytest.raises(ValueError, match=r"the gradient of x\[\d, \d\] is"):
        nn.gradcheck(Forgets(), normal((4, 3)) + 5)


def test_the_worst_of_several_wrong_elements_is_named():
    class Wrong(nn.Module):
        def forward(self, x):
            return 2 * x

        def backward(self, dy, *, need_input_grad=True):
            return dy * np.array([2.1, 2.0, 9.0, 2.2])

    with pytest.raises(ValueError, match=r"the gradient of x\[2\] is"):
        nn.gradcheck(Wrong(), np.ones(4))


def test_the_generator_of_initialisation_is_put_back():
    class Draws(nn.Module):
        def forward(self, x):
            nn.init.uniform(nn.Parameter(np.zeros(1)), 0.0, 1.0)
            return 1.0 * x

        def backward(self, dy, *, need_input_grad=True):
            return 1.0 * dy

    before = nn.get_rng_state()
    nn.gradcheck(Draws(), np.ones(2))
    assert nn.get_rng_state() == before


class Replaces(nn.Linear):
    def backward(self, dy, *, need_input_grad=True):
        self.weight.grad = None  # as if with = instead of +=
        return super().backward(dy, need_input_grad=need_input_grad)


class Scales(nn.ReLU):
    def backward(self, dy, *, need_input_grad=True):
        dx = super().backward(dy, need_input_grad=need_input_grad)
        dy *= 2
        return dx


def test_a_backward_that_does_not_add_to_the_gradients_is_told():
    """Right for one backward, and wrong where gradients accumulate or weights are shared."""
    words = r"a second backward replaces the gradient of 1\.weight, expected it to add"
    with pytest.raises(ValueError, match=words):
        nn.gradcheck(nn.Sequential(nn.Linear(4, 3), Replaces(3, 2)), normal((5, 4)))


def test_a_backward_that_changes_dy_is_told():
    with pytest.raises(ValueError, match=r"Scales\.backward changes dy"):
        nn.gradcheck(Scales(), normal((5, 4)))


@pytest.mark.parametrize("size", [1e8, 1e12])
def test_a_mistake_is_seen_where_x_is_large_too(size):
    class Square(nn.Module):
        def __init__(self, factor):
            self.factor = factor

        def forward(self, x):
            self.saved = x
            return x * x

        def backward(self, dy, *, need_input_grad=True):
            return self.factor * dy * self.recall()

    x = size * (1 + np.arange(6.0))
    nn.gradcheck(Square(2), x)
    with pytest.raises(ValueError, match=r"the gradient of x\[\d\] is"):
        nn.gradcheck(Square(2.02), x)
