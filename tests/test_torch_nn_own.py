"""Modules of onepass.torch.nn that torch.nn has not: against onepass.nn, formulas, and torch's
parametrization of the same name."""

import copy

import numpy as np
import onepass.nn
import pytest

torch = pytest.importorskip("torch")

from onepass.torch import nn  # noqa: E402
from test_torch_nn import BOUND, each_dtype, near, randn  # noqa: E402
from torch.nn.utils import parametrizations, parametrize  # noqa: E402

theirs = torch.nn


# ---- Maxout


@each_dtype
@pytest.mark.parametrize(
    ("shape", "pieces", "dim"),
    [((3, 8), 2, 1), ((3, 9, 5), 3, 1), ((5, 4), 4, -1), ((2, 6, 3, 3), 2, 1), ((0, 4), 2, 1),
     ((7, 3), 1, 0), ((4,), 2, 0)],
)  # fmt: skip
def test_maxout_is_the_largest_of_neighbours(shape, pieces, dim, dtype):
    x = randn(shape, 1, dtype).requires_grad_()
    wide = x.detach().double().requires_grad_()
    y = nn.Maxout(pieces, dim)(x)
    expected = wide.unflatten(dim, (shape[dim] // pieces, pieces)).amax(
        dim + 1 if dim >= 0 else dim
    )
    assert y.dtype == dtype
    assert torch.equal(y.double(), expected)
    dy = randn(y.shape, 2, dtype)
    y.backward(dy)
    expected.backward(dy.double())
    assert torch.equal(x.grad.double(), wide.grad)


def test_maxout_takes_images_with_the_channels_last_and_refuses_the_rest():
    x = randn((2, 6, 3, 4)).to(memory_format=torch.channels_last)
    assert torch.equal(nn.Maxout(3)(x), nn.Maxout(3)(x.contiguous()))
    with pytest.raises(ValueError, match="'pieces' is 0"):
        nn.Maxout(0)
    with pytest.raises(ValueError, match="pieces"):
        nn.Maxout(4)(x)
    assert repr(nn.Maxout(2)) == "Maxout(pieces=2, dim=1)"


# ---- WeightNorm


LAYERS = [
    (lambda: theirs.Linear(5, 3), 0, (4, 5)), (lambda: theirs.Linear(5, 3), 1, (4, 5)),
    (lambda: nn.Linear(5, 3, activation="gelu"), 0, (4, 5)),
    (lambda: theirs.Conv2d(2, 3, 3), 0, (2, 2, 5, 5)),
    (lambda: theirs.Conv2d(2, 3, 3), 2, (2, 2, 5, 5)),
    (lambda: theirs.ConvTranspose1d(2, 3, 3), 1, (2, 2, 5)),
    (lambda: theirs.Conv2d(2, 3, 3).to(memory_format=torch.channels_last), 0, (2, 2, 5, 5)),
]  # fmt: skip


def both(make, dim, dtype=torch.float32):
    torch.manual_seed(0)
    layer = make().to(dtype)
    reference = parametrizations.weight_norm(copy.deepcopy(layer), dim=dim)
    ours = nn.WeightNorm(layer, dim=dim)
    assert ours is layer
    for model in (ours, reference):
        g = model.parametrizations.weight.original0
        g.data *= torch.linspace(0.5, 2, g.numel(), dtype=dtype).view(g.shape)
    return ours, reference


@each_dtype
@pytest.mark.parametrize(("make", "dim", "shape"), LAYERS)
def test_weight_norm_is_torchs_parametrization(make, dim, shape, dtype):
    ours, reference = both(make, dim, dtype)
    wide = copy.deepcopy(reference).double()
    near(ours.weight, wide.weight, BOUND[dtype])
    dw = randn(ours.weight.shape, 1, dtype)
    grads = []
    for model, given in ((ours, dw), (wide, dw.double())):
        model.weight.backward(given)
        grads.append([p.grad for p in model.parametrizations.weight.parameters()])
    for one, other in zip(*grads, strict=True):
        assert one.dtype == dtype
        near(one, other, 4 * BOUND[dtype])
    if dtype == torch.float32:
        x = randn(shape, 2)
        near(ours(x), reference(x), 1e-5)


@pytest.mark.parametrize(("make", "dim", "shape"), LAYERS)
def test_weight_norm_has_torchs_state_both_ways(make, dim, shape):
    ours, reference = both(make, dim)
    assert list(ours.state_dict()) == list(reference.state_dict())
    for key, value in ours.state_dict().items():
        near(value, reference.state_dict()[key], 1e-6)
    other, _ = both(make, dim)
    other.load_state_dict(reference.state_dict())
    reference.load_state_dict(ours.state_dict())
    assert [k for k, _ in ours.named_parameters()] == [k for k, _ in reference.named_parameters()]
    twin = copy.deepcopy(ours)
    x = randn(shape, 2)
    assert torch.equal(twin(x), ours(x))
    before = ours.weight.detach().clone()
    parametrize.remove_parametrizations(ours, "weight")
    assert torch.equal(ours.weight, before)
    parametrize.remove_parametrizations(reference, "weight")
    assert list(ours.state_dict()) == list(reference.state_dict())
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        torch.save(twin, "/dev/null")


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
def test_weight_norm_takes_states_of_older_names():
    model, old = nn.WeightNorm(theirs.Linear(5, 3)), theirs.utils.weight_norm(theirs.Linear(5, 3))
    whole, parts = theirs.Sequential(model), theirs.Sequential(old)
    whole.load_state_dict(parts.state_dict())
    x = randn((4, 5))
    near(whole(x), parts(x), 1e-6)
    arrays = onepass.nn.WeightNorm(onepass.nn.Linear(5, 3))
    state = {k.removeprefix("module."): torch.as_tensor(np.array(v))
             for k, v in arrays.state_dict().items()}  # fmt: skip
    state = {k: v.t() if k == "weight_v" and v.shape == (5, 3) else v for k, v in state.items()}
    model.load_state_dict(state)
    near(model(x), torch.from_numpy(arrays(x.numpy())), 1e-6)


def test_weight_norm_trains_and_its_lengths_are_in_range():
    layer = theirs.Linear(3, 2)
    layer.weight.data *= 1e30
    before = layer.weight.detach().clone()
    model = nn.WeightNorm(layer)
    near(model.weight, before, 1e-6)
    assert bool(model.parametrizations.weight.original0.isfinite().all())
    model = nn.WeightNorm(theirs.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x = randn((64, 4))
    target = x @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]])
    for _ in range(100):
        optimizer.zero_grad()
        loss = nn.MSELoss()(model(x), target)
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3


def test_what_weight_norm_refuses():
    zero = theirs.Linear(3, 2)
    zero.weight.data[1] = 0
    for call, error, match in [
        (lambda: nn.WeightNorm(3), TypeError, "'module' is int"),
        (lambda: nn.WeightNorm(theirs.ReLU()), ValueError, r"parameters of ReLU: \[\]"),
        (
            lambda: nn.WeightNorm(theirs.Linear(2, 2), dim=2),
            ValueError,
            "'dim' is 2, expected an a",
        ),
        (lambda: nn.WeightNorm(theirs.Linear(2, 2), dim=None), ValueError, "'dim' is None"),
        (lambda: nn.WeightNorm(nn.WeightNorm(theirs.Linear(2, 2))), ValueError, "one of the param"),
        (lambda: nn.WeightNorm(zero), ValueError, "a slice of weight along axis 0 is zero"),
    ]:
        with pytest.raises(error, match=match):
            call()
    assert list(zero.state_dict()) == ["weight", "bias"]


# ---- DecorrelatedBatchNorm


SHAPES = [((30, 6), 2), ((9, 4, 8), 1), ((5, 6, 3, 4), 3), ((3, 4, 2, 3, 4), 4)]


def decorrelated(shape, groups, dtype=torch.float32, **options):
    ours = nn.DecorrelatedBatchNorm(shape[1], groups, **options).to(dtype)
    arrays = onepass.nn.DecorrelatedBatchNorm(shape[1], groups, dtype="float64", **options)
    for i, (p, q) in enumerate(zip(ours.parameters(), arrays.parameters(), strict=True)):
        p.data = (1 + randn(p.shape, i) / 3).to(dtype)
        q.data[...] = p.detach().double().numpy()
    return ours, arrays


@each_dtype
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("shape", "groups"), SHAPES)
def test_decorrelated_batch_norm_is_that_of_onepass_nn(shape, groups, last, dtype):
    ours, arrays = decorrelated(shape, groups, dtype)
    # whitening multiplies errors by the ratio of the directions' sizes, which is a few here
    bound = 20 * BOUND[dtype]
    for step in range(3):
        if step == 2:
            ours.eval(), arrays.eval()
        x = (randn(shape, step) * 2 + 1).to(dtype)
        if last:
            x = x.movedim(1, -1).contiguous().movedim(-1, 1)
        x = x.requires_grad_()
        y = ours(x)
        expected = torch.from_numpy(arrays(x.detach().double().numpy()))
        near(y, expected, bound)
        assert y.dtype == dtype
        assert y.stride() == x.stride()
        dy = randn(shape, 7, dtype)
        ours.zero_grad(), arrays.zero_grad()
        y.backward(dy)
        dx = arrays.backward(dy.double().numpy())
        near(x.grad, torch.from_numpy(dx), 2 * bound)
        for p, q in zip(ours.parameters(), arrays.parameters(), strict=True):
            near(p.grad, torch.from_numpy(q.grad), 2 * bound)
        near(ours.running_mean, torch.from_numpy(arrays.running_mean), bound)
        near(ours.running_projection, torch.from_numpy(arrays.running_projection), bound)
    assert list(ours.state_dict()) == list(arrays.state_dict())


@pytest.mark.parametrize(("shape", "groups"), SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_decorrelated_batch_norm_are_those_of_differences(shape, groups, training):
    model = decorrelated(shape, groups, torch.float64, momentum=0.0)[0].train(training)
    x = randn(shape, 1, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, *_: model(x), (x, *model.parameters()), fast_mode=True
    )


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e-6, 1e6, 1e18])
def test_decorrelated_batch_norm_of_any_magnitude(scale):
    model = nn.DecorrelatedBatchNorm(3)
    x = (randn((40, 3), 1, torch.float64) * scale).float().requires_grad_()
    y = model(x)
    y.sum().backward()
    assert bool(y.isfinite().all())
    assert bool(x.grad.isfinite().all())
    assert scale < 1 or 0.9 < float(y.detach().std()) < 1.1


def test_decorrelated_batch_norm_under_autocast_computes_in_float32():
    model, x = nn.DecorrelatedBatchNorm(3), randn((40, 3), 1)
    twin = copy.deepcopy(model)
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x)
    assert torch.equal(y, twin(x))
    assert torch.equal(model.running_projection, twin.running_projection)


def test_what_decorrelated_batch_norm_refuses():
    x = randn((40, 4))
    for call, error, match in [
        (lambda: nn.DecorrelatedBatchNorm(4, 3), ValueError, "num_groups is 3, expected a divisor"),
        (lambda: nn.DecorrelatedBatchNorm(4, eps=0), ValueError, "'eps' is 0"),
        (lambda: nn.DecorrelatedBatchNorm(3)(x), ValueError, r"\(40, 4\), expected \(N, 3\)"),
        (lambda: nn.DecorrelatedBatchNorm(4)(x[:4]), ValueError, "needs more than 4"),
        (lambda: nn.DecorrelatedBatchNorm(4)(x[:0]), ValueError, "0 values per channel"),
        (lambda: nn.DecorrelatedBatchNorm(4)(x.double()), TypeError, "expected torch.float32 like"),
        (lambda: nn.DecorrelatedBatchNorm(4)(x.long()), TypeError, "is torch.int64"),
    ]:  # fmt: skip
        with pytest.raises(error, match=match):
            call()
    assert nn.DecorrelatedBatchNorm(4).eval()(x[:0]).shape == (0, 4)
