"""`nn.fold_batch_norm`: what is merged, what stays, and the outputs."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from onepass import nn, optim
from onepass.train import Callback, Trainer
from small_models import DTYPES, assert_same, normal, perturb

NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.BatchRenorm, nn.DecorrelatedBatchNorm
)  # fmt: skip


def trained(model, shape, dtype="float32"):
    """With running statistics of data, and an affine part that no formula can ignore."""
    nn.manual_seed(4)
    for i in range(20):
        model(3 * normal(shape, dtype, seed=i) + 1)
    return perturb(model)


def norms(model):
    return [m for m in model.modules() if isinstance(m, NORMS)]


def check(model, shape, left=0, dtype="float64", rtol=1e-11):
    """Fold, compare outputs and say how many norms are left."""
    trained(model, shape, dtype)
    before, mode = model.state_dict(), [m.training for m in model.modules()]
    folded = nn.fold_batch_norm(model)
    assert_same(model.state_dict(), before)
    assert [m.training for m in model.modules()] == mode
    assert not any(m.training for m in folded.modules())
    assert len(norms(folded)) == left
    x = normal(shape, dtype, seed=99)
    want = model.eval()(x)
    np.testing.assert_allclose(folded(x), want, rtol=rtol, atol=rtol * np.abs(want).max())
    mine = {id(p) for p in model.parameters()}
    assert not mine & {id(p) for p in folded.parameters()}
    return folded


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [0, 1, 3])  # 0: a linear layer
def test_the_error_is_within_the_bound(groups, bias, affine, dtype):
    if groups:
        shape = (5, 6, 7, 8)
        layer = nn.Conv2d(6, 12, 3, 2, 1, groups=groups, bias=bias, dtype=dtype)
        norm = nn.BatchNorm2d(12, affine=affine, dtype=dtype)
        terms = 6 // groups * 9
    else:
        shape, terms = (30, 50), 50
        layer = nn.Linear(50, 12, bias=bias, dtype=dtype)
        norm = nn.BatchNorm1d(12, affine=affine, dtype=dtype)
    model = trained(nn.Sequential(layer, norm), shape, dtype)
    norm.running_mean += 100  # all but lost beside the bias, in S alone
    folded = nn.fold_batch_norm(model)
    assert len(folded) == 1
    x = normal(shape, dtype, seed=50)

    def wide(array):
        return 0.0 if array is None else np.asarray(array, np.float64)

    scale = 1 / np.sqrt(norm.running_var.astype(np.float64) + norm.eps)
    scale = scale * wide(norm.weight) if affine else scale
    w = layer.weight.data.astype(np.float64) * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
    twin = type(layer)(*((6, 12, 3, 2, 1) if groups else (50, 12)), dtype="float64", bias=False,
                       **({"groups": groups} if groups else {}))  # fmt: skip
    twin.weight.data[...] = w
    column = (-1, 1, 1) if groups else (-1,)
    shift = (wide(layer.bias) - wide(norm.running_mean)) * scale + wide(norm.bias)
    want = twin(x.astype(np.float64)) + shift.reshape(column)
    twin.weight.data[...] = np.abs(w)
    extra = (np.abs(wide(layer.bias)) + np.abs(wide(norm.running_mean))) * np.abs(scale)
    extra = (extra + np.abs(wide(norm.bias))).reshape(column)
    size = twin(np.abs(x).astype(np.float64)) + extra
    bound = (terms + 8) * np.finfo(dtype).eps / 2 * size
    assert (np.abs(folded(x) - want) <= bound).all()
    assert (np.abs(model.eval()(x) - want) <= bound).all()
    w_got = folded[0].weight.data
    once = np.finfo(dtype).eps * (0.5001 if dtype == "float32" else 4)  # rounded once
    np.testing.assert_allclose(w_got, w, rtol=once)
    np.testing.assert_allclose(folded[0].bias.data, shift, rtol=once)


@pytest.mark.parametrize("groups", [0, 1, 2])
def test_the_weights_are_those_of_torchs_fusion(groups):
    torch = pytest.importorskip("torch")
    fusion, shape = torch.nn.utils.fusion, (9, 4, 5, 5) if groups else (9, 4)
    size = (4, 6, 3) if groups else (4, 6)
    options = {"groups": groups} if groups else {}
    ours = nn.Sequential(
        (nn.Conv2d if groups else nn.Linear)(*size, **options, dtype="float64"),
        (nn.BatchNorm2d if groups else nn.BatchNorm1d)(6, dtype="float64"),
    )
    trained(ours, shape, "float64")
    theirs = torch.nn.Sequential(
        (torch.nn.Conv2d if groups else torch.nn.Linear)(*size, **options),
        (torch.nn.BatchNorm2d if groups else torch.nn.BatchNorm1d)(6),
    ).double()
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    fuse = fusion.fuse_conv_bn_eval if groups else fusion.fuse_linear_bn_eval
    want = fuse(theirs[0].eval(), theirs[1].eval())
    got = nn.fold_batch_norm(ours)[0]
    np.testing.assert_allclose(got.weight.data, want.weight.detach().numpy(), rtol=1e-13)
    np.testing.assert_allclose(got.bias.data, want.bias.detach().numpy(), rtol=1e-12)


def k(**more):
    return {"dtype": "float64", **more}


FOLDED = {
    "two in a row": (
        lambda: nn.Sequential(
            nn.Linear(4, 3, **k()), nn.BatchNorm1d(3, **k()), nn.BatchNorm1d(3, **k())
        ),
        (9, 4),
    ),
    "after dropout": (
        lambda: nn.Sequential(nn.Linear(4, 3, **k()), nn.Dropout(0.5), nn.BatchNorm1d(3, **k())),
        (9, 4),
    ),
    "across sequences": (
        lambda: nn.Sequential(
            nn.Sequential(nn.Identity(), nn.Linear(4, 3, **k())),
            nn.Sequential(nn.BatchNorm1d(3, **k()), nn.ReLU()),
        ),
        (9, 4),
    ),
    "renorm": (lambda: nn.Sequential(nn.Linear(4, 3, **k()), nn.BatchRenorm(3, **k())), (9, 4)),
    "weight norm": (
        lambda: nn.Sequential(
            nn.WeightNorm(nn.Conv2d(4, 6, 2, groups=2, **k())), nn.BatchNorm2d(6, **k()), nn.ReLU()
        ),
        (9, 4, 5, 5),
    ),
    "weight norm by columns": (
        lambda: nn.Sequential(nn.WeightNorm(nn.Linear(4, 3, **k()), dim=1),
                              nn.BatchNorm1d(3, affine=False, **k())),
        (9, 4),
    ),
    "plain average": (
        lambda: nn.Sequential(nn.Linear(4, 3, **k()), nn.BatchNorm1d(3, momentum=None, **k())),
        (9, 4),
    ),
    "decorrelated": (
        lambda: nn.Sequential(nn.Linear(4, 6, **k()), nn.DecorrelatedBatchNorm(6, 2, **k())),
        (30, 4),
    ),
    "decorrelated convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 2, groups=2, **k()), nn.DecorrelatedBatchNorm(8, 4, **k())
        ),
        (9, 4, 5, 5),
    ),
    "residual": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, bias=False, **k()), nn.BatchNorm2d(6, **k()), nn.ReLU(),
            nn.Residual(
                nn.Conv2d(6, 6, 3, padding=1, groups=3, **k()), nn.BatchNorm2d(6, **k()), nn.SiLU(),
                nn.Conv2d(6, 5, 1, **k()), nn.BatchNorm2d(5, **k()),
                shortcut=nn.Sequential(nn.Conv2d(6, 5, 1, **k()), nn.BatchNorm2d(5, **k())),
            ),
            nn.ReLU(),
        ),
        (4, 3, 6, 7),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
@pytest.mark.parametrize("fuse", [True, False])
def test_norms_are_merged(name, fuse):
    make, shape = FOLDED[name]
    model = make()
    if not fuse:
        for module in model.modules():
            module.fuse = False
    check(model, shape)


class Twice(nn.Module):
    def __init__(self):
        self.linear = nn.Linear(4, 4, **k())
        self.whole = nn.Sequential(self.linear, nn.BatchNorm1d(4, **k()))

    def forward(self, x):
        return self.whole(x) + self.linear(x)


class ByParts(nn.Module):
    """Calls the layers of a sequence by themselves, one of them twice."""

    def __init__(self):
        self.parts = nn.Sequential(nn.Linear(4, 4, **k()), nn.BatchNorm1d(4, **k()), nn.ReLU())

    def forward(self, x):
        return self.parts[2](self.parts[1](self.parts[0](x))) + self.parts[0](x)


class Doubled(nn.Linear):
    def fused_forward(self, x, epilogue):
        return 2 * super().fused_forward(x, epilogue)


class Backwards(nn.Sequential):
    def forward(self, x):
        return super().forward(-x)


KEPT = {
    "an activation": (
        lambda: nn.Sequential(nn.Linear(4, 3, **k()), nn.ReLU(), nn.BatchNorm1d(3, **k())),
        (9, 4),
    ),
    "a pool": (
        lambda: nn.Sequential(nn.Conv2d(4, 3, 1, **k()), nn.MaxPool2d(2), nn.BatchNorm2d(3, **k())),
        (9, 4, 4, 4),
    ),
    "flattened": (
        lambda: nn.Sequential(nn.Conv2d(4, 3, 1, **k()), nn.Flatten(), nn.BatchNorm1d(3, **k())),
        (9, 4, 1, 1),
    ),
    "at the beginning": (
        lambda: nn.Sequential(nn.BatchNorm1d(4, **k()), nn.Linear(4, 3, **k())),
        (9, 4),
    ),
    "behind a residual block": (
        lambda: nn.Sequential(
            nn.Linear(4, 4, **k()), nn.Residual(nn.Linear(4, 4, **k())), nn.BatchNorm1d(4, **k())
        ),
        (9, 4),
    ),
    "at the beginning of a block": (
        lambda: nn.Sequential(nn.Linear(4, 4, **k()), nn.Residual(nn.BatchNorm1d(4, **k()))),
        (9, 4),
    ),
    "without statistics": (
        lambda: nn.Sequential(
            nn.Linear(4, 3, **k()), nn.BatchNorm1d(3, track_running_stats=False, **k())
        ),
        (9, 4),
    ),
    "over the other axis": (
        lambda: nn.Sequential(nn.Linear(4, 3, **k()), nn.BatchNorm1d(5, **k())),
        (9, 5, 4),
    ),
    "a module that calls a layer of its sequence": (Twice, (9, 4)),
    "a module that calls layers by themselves": (ByParts, (9, 4)),
    "such a module in a sequence": (lambda: nn.Sequential(ByParts()), (9, 4)),
    "a layer of one's own": (
        lambda: nn.Sequential(Doubled(4, 3, **k()), nn.BatchNorm1d(3, **k())),
        (9, 4),
    ),
    "a sequence of one's own": (
        lambda: Backwards(nn.Linear(4, 3, **k()), nn.BatchNorm1d(3, **k())),
        (9, 4),
    ),
    "whitening across the groups of a convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 2, groups=2, **k()), nn.DecorrelatedBatchNorm(8, **k())
        ),
        (9, 4, 5, 5),
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_norms_that_cannot_be_merged_stay(name):
    make, shape = KEPT[name]
    check(make(), shape, left=1)


@pytest.mark.parametrize(
    ("layer", "norm"),
    [(nn.Conv2d(4, 3, 1), nn.BatchNorm1d(3)), (nn.Linear(4, 3), nn.BatchNorm2d(3)),
     (nn.Conv2d(4, 3, 1), nn.BatchNorm2d(4)), (nn.Linear(4, 3), nn.BatchNorm3d(3))],
)  # fmt: skip
def test_a_norm_that_does_not_go_with_the_layer_stays(layer, norm):
    assert len(nn.fold_batch_norm(nn.Sequential(layer, norm))) == 2


def test_a_method_on_the_layer_itself_keeps_the_norm():
    model = trained(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), (9, 4))
    linear = model[0]
    linear.fused_forward = lambda x, epilogue: nn.Linear.fused_forward(linear, 2 * x, epilogue)
    assert len(norms(nn.fold_batch_norm(model))) == 1


def test_a_weight_that_layers_share_is_folded_for_one():
    model = nn.Sequential(nn.Linear(4, 4, **k()), nn.BatchNorm1d(4, **k()), nn.ReLU(),
                          nn.Linear(4, 4, **k()))  # fmt: skip
    model[3].weight = model[0].weight
    folded = check(model, (9, 4))
    np.testing.assert_array_equal(folded[2].weight.data, model[0].weight.data)


def test_a_folded_linear_layer_takes_rows_alone():
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
    trained(model, (9, 5, 4))  # the norm is over axis 1, which the model does not show
    folded = nn.fold_batch_norm(model)
    with pytest.raises(ValueError, match=r"x has shape \(9, 5, 4\), expected \(N, 4\): a batch no"):
        folded(normal((9, 5, 4), "float32"))


def test_values_beyond_the_dtype_keep_the_norm():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, eps=1e-30))
    model[1].running_var[...] = 0
    model[0].weight.data *= 1e30
    assert len(norms(nn.fold_batch_norm(model))) == 1


def test_an_infinite_variance_gives_the_bias():
    model = perturb(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)))
    model[1].running_var[...] = np.inf
    folded = nn.fold_batch_norm(model)
    np.testing.assert_array_equal(folded(normal((2, 4), "float32")), [model[1].bias.data] * 2)


def test_freezing_and_gradients():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    model[:2].freeze()
    model.backward(model(normal((5, 4), "float32"))[:, :2])
    state = nn.get_rng_state()
    folded = nn.fold_batch_norm(model)
    assert nn.get_rng_state() == state
    assert [p.requires_grad for p in folded.parameters()] == [False, False, True, True]
    assert all(p.grad is None for p in folded.parameters())
    assert model[2].weight.grad is not None


def test_the_module_may_be_a_norm_or_no_module():
    norm = trained(nn.BatchNorm1d(3), (9, 3))
    assert_same(nn.fold_batch_norm(norm).state_dict(), norm.state_dict())
    with pytest.raises(TypeError, match="fold_batch_norm: 'model' is a list, expected an nn"):
        nn.fold_batch_norm([norm])


def test_a_model_that_another_thread_trains_is_refused():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    errors = []

    def update(model):
        nn.update_batch_norm(model, [X])

    class Fold(Callback):
        def on_epoch_end(self, run):
            def fold():
                for call in (nn.fold_batch_norm, update, nn.init.apply):
                    try:
                        call(model)
                    except RuntimeError as error:
                        errors.append(str(error))

            thread = threading.Thread(target=fold)
            thread.start()
            thread.join()

    X = normal((20, 3), "float32")
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
                      callbacks=[Fold()], progress=False)  # fmt: skip
    trainer.fit(X, (X[:, 0] > 0).astype(np.int64), max_epochs=1)
    assert len(errors) == 3
    assert "fold_batch_norm" in errors[0]
    assert "update_batch_norm" in errors[1]
    assert "nn.init.apply" in errors[2]


def test_a_sequence_of_a_module_of_ones_own_is_folded_by_itself():
    model = nn.Sequential(ByParts()).eval()
    part = model[0].parts
    x = np.random.default_rng(0).standard_normal((9, 4))
    y = part(x)
    model[0].parts = nn.fold_batch_norm(part)
    assert not norms(model)
    np.testing.assert_allclose(model[0].parts(x), y, rtol=1e-12)
