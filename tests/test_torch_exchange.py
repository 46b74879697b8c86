"""`to_torch` and `from_torch`: each layer computes what its counterpart does; what is refused."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import onepass
import pytest
from onepass import nn
from small_layers import ALL, EVERY, LACKING, classes, layer
from small_models import assert_same, perturb, residual_model

torch = pytest.importorskip("torch")
T = torch.nn
CLOSE = {"rtol": 1e-12, "atol": 1e-12}
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even:UserWarning")
SINGLE = {"celu": {"rtol": 1e-6}, "hardsigmoid": {"rtol": 1e-7}}  # PyTorch's gradients
BOTH = sorted(ALL.keys() - LACKING)


def flags(model):
    return {
        name: (m.training, m._holds_eval, m.statistics_frozen) for name, m in model.named_modules()
    }


def trained(model):
    return {name: p.requires_grad for name, p in model.named_parameters()}


def arrays(module):
    return {name: t.detach().numpy() for name, t in module.state_dict().items()}


def without_dropout(model):
    for module in model.modules():
        if hasattr(module, "p"):
            module.p = 0.0
    return model


def test_every_layer_is_tested():
    assert classes() == EVERY


@pytest.mark.parametrize("name", BOTH)
def test_a_layer_computes_what_pytorchs_does(name):
    ours, x = layer(name)
    without_dropout(ours)
    theirs = ours.to_torch()
    assert isinstance(theirs, T.Module)
    for step, training in enumerate((True, True, False)):
        ours.train(training)
        theirs.train(training)
        xt = torch.from_numpy(x + step).requires_grad_()
        y, yt = ours(x + step), theirs(xt)
        np.testing.assert_allclose(y, yt.detach().numpy(), strict=True, **CLOSE)
        dy = np.random.default_rng(step).standard_normal(y.shape)
        dx = ours.backward(dy)
        yt.backward(torch.from_numpy(dy))
        np.testing.assert_allclose(dx, xt.grad.numpy(), strict=True, **(SINGLE.get(name, CLOSE)))
        mine = [p.grad for p in ours.parameters()]
        other = [p.grad.numpy() for p in theirs.parameters()]
        assert len(mine) == len(other)
        if "weight norm" in name:  # in another order
            mine, other = (sorted(g, key=lambda a: (a.size, a.ndim)) for g in (mine, other))
        for a, b in zip(mine, other, strict=True):
            np.testing.assert_allclose(a, b, strict=True, **CLOSE)
    if "weight norm" not in name:
        state, expected = ours.state_dict(), arrays(theirs)
        assert list(state) == list(expected)
        for key, value in expected.items():
            np.testing.assert_allclose(state[key], value, err_msg=key, strict=True, **CLOSE)


@pytest.mark.parametrize("name", BOTH)
def test_there_and_back_is_the_same(name):
    ours, x = layer(name)
    random, theirs_random = nn.get_rng_state(ours), torch.get_rng_state()
    theirs = ours.to_torch()
    again = nn.from_torch(theirs)
    assert torch.equal(torch.get_rng_state(), theirs_random)
    kept = nn.get_rng_state(ours)
    assert (kept["init"], kept["layers"]) == (random["init"], random["layers"])
    if "sequential" not in name:
        assert repr(again) == repr(ours)
    assert type(again) is type(ours)
    assert_same(again.state_dict(), ours.state_dict())
    assert flags(again) == flags(ours)
    np.testing.assert_array_equal(again.eval()(x), ours.eval()(x))
    thence = again.to_torch()
    assert repr(thence) == repr(theirs.eval())
    for (key, a), (other, b) in zip(arrays(theirs).items(), arrays(thence).items(), strict=True):
        assert key == other
        np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize("name", BOTH)
def test_dropouts_have_their_rate(name):
    ours, _ = layer(name)
    rates = [m.p for m in ours.modules() if hasattr(m, "p")]
    assert rates == [m.p for m in ours.to_torch().modules() if hasattr(m, "p")]


@pytest.mark.parametrize("name", sorted(LACKING))
def test_what_pytorch_lacks_is_refused_by_name(name):
    ours, _ = layer(name)
    kind = type(ours).__name__
    with pytest.raises(ValueError, match=rf"to_torch: the model is a {kind}\b"):
        ours.to_torch()
    with pytest.raises(ValueError, match=rf"to_torch: layer '1\.body\.0' is a {kind}\b.*torch\.nn"):
        nn.Sequential(nn.ReLU(), nn.Residual(ours)).to_torch()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes_stay(dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    theirs = T.Sequential(T.Linear(3, 4), T.BatchNorm1d(4)).to(getattr(torch, dtype))
    ours = nn.from_torch(theirs)
    assert {p.dtype.name for p in ours.parameters()} == {dtype}
    assert ours[1].running_var.dtype.name == dtype
    for key, value in ours.to_torch().state_dict().items():
        assert value.dtype == theirs.state_dict()[key].dtype
        assert torch.equal(value, theirs.state_dict()[key])


def test_no_memory_is_shared():
    ours = perturb(residual_model())
    theirs = ours.to_torch()
    again = nn.from_torch(theirs)
    before, there = ours.state_dict(), arrays(theirs)
    there = {k: v.copy() for k, v in there.items()}
    with torch.no_grad():
        for tensor in theirs.state_dict().values():
            tensor.add_(1)
    assert_same(ours.state_dict(), before)
    assert_same(again.state_dict(), before)
    for parameter in again.parameters():
        parameter.data += 1
    assert_same(arrays(theirs), {k: v + 1 for k, v in there.items()})


def test_modes_and_frozen_parameters_stay():
    ours = residual_model()
    ours[1].eval()
    ours[4].freeze()
    ours[6].weight.requires_grad = False
    theirs = ours.to_torch()
    assert not theirs[1].body[0].training
    assert theirs[4].training
    assert not theirs[4].body[0].training, "frozen statistics are a norm in evaluation there"
    again = nn.from_torch(theirs)
    assert (
        trained(again)
        == trained(ours)
        == {k: p.requires_grad for k, p in theirs.named_parameters()}
    )
    x = np.random.default_rng(0).standard_normal((9, 6))
    state = again.state_dict()
    np.testing.assert_allclose(again(x), ours(x), **CLOSE)
    np.testing.assert_allclose(theirs(torch.from_numpy(x)).detach().numpy(), again(x), **CLOSE)
    after = again.state_dict()
    for key in state:
        moved = not np.array_equal(state[key], after[key])
        assert moved == (key.startswith("5.body.0.1.") and "weight" not in key), key
    assert again.eval().train()[1].training


def test_a_layer_in_evaluation_keeps_that_in_training():
    theirs = T.Sequential(T.Linear(3, 3), T.BatchNorm1d(3))
    theirs[1].eval()
    ours = nn.from_torch(theirs)
    assert flags(ours) == {
        "": (True, False, False), "0": (True, False, False), "1": (False, True, False)
    }  # fmt: skip
    assert flags(nn.from_torch(theirs.eval()))["1"] == (False, False, False)


def test_shared_parameters_are_shared():
    ours = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    ours[2].weight = ours[0].weight
    theirs = ours.to_torch()
    assert theirs[0].weight is theirs[2].weight
    assert theirs[0].bias is not theirs[2].bias
    again = nn.from_torch(theirs)
    assert again[0].weight is again[2].weight
    assert len(list(again.parameters())) == 3


def test_a_norm_without_one_of_its_parameters():
    ours = nn.BatchNorm1d(3, dtype="float64")
    ours.weight = None
    theirs = ours.to_torch()
    assert next(iter(theirs._parameters.items())) == ("weight", None)
    x = np.random.default_rng(0).standard_normal((5, 3))
    np.testing.assert_allclose(ours(x), theirs(torch.from_numpy(x)).detach().numpy(), **CLOSE)
    assert nn.from_torch(theirs).weight is None


def test_a_residual_model_is_saved_and_copied_there():
    ours = perturb(residual_model())
    theirs = ours.to_torch().eval()
    x = torch.randn(5, 6, dtype=torch.float64)
    for other in (copy.deepcopy(theirs), pickle.loads(pickle.dumps(theirs))):
        assert torch.equal(other(x), theirs(x))
    np.testing.assert_allclose(ours.eval()(x.numpy()), theirs(x).detach().numpy(), **CLOSE)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    assert pickle.dumps(onepass.torch.Residual).find(b"_exchange") == -1
    assert type(theirs[1]) is onepass.torch.Residual


def test_an_option_that_pytorch_lacks_names_the_layer(monkeypatch):
    class Earlier(torch.nn.Module):
        def __init__(self, normalized_shape, eps):
            pass

    monkeypatch.setattr(torch.nn, "LayerNorm", Earlier)
    with pytest.raises(ValueError, match="layer '0', a LayerNorm, is not in this version of torch"):
        nn.Sequential(nn.LayerNorm(3)).to_torch()


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: setattr(layer, "more", nn.Parameter(np.ones(3))),
        lambda layer: setattr(layer, "buffer_names", (*layer.buffer_names, "eps")),
    ],
)
def test_values_that_one_of_the_two_lacks_are_not_dropped(change):
    layer = nn.BatchNorm1d(3)
    layer.eps = np.float64(1e-5)
    change(layer)
    with pytest.raises(NotImplementedError, match=r"do not both have \['(more|eps)'\]"):
        layer.to_torch()


@pytest.mark.parametrize("tracks", [True, False])
def test_statistics_against_track_running_stats_are_refused(tracks):
    layer = torch.nn.BatchNorm1d(3, track_running_stats=tracks).eval()
    fresh = None if tracks else torch.ones(3)
    layer.running_mean, layer.running_var = fresh, fresh
    with pytest.raises(ValueError, match=r"layer '0', a BatchNorm1d, has running_mean.* against"):
        nn.from_torch(torch.nn.Sequential(layer))


def test_a_folded_model_goes_there():
    model = perturb(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU())).eval()
    theirs = nn.fold_batch_norm(model).to_torch()
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    np.testing.assert_allclose(
        theirs(torch.from_numpy(x)).detach().numpy(), model(x), rtol=1e-5, atol=1e-5
    )


# -- from PyTorch ----------------------------------------------------------------------------------


def compare(theirs, x, train=True):
    """Both in training, then in evaluation."""
    theirs = theirs.double()
    ours = nn.from_torch(theirs)
    xt = torch.from_numpy(x)
    for mode in (True, False) if train else (False,):
        ours.train(mode)
        theirs.train(mode)
        np.testing.assert_allclose(ours(x), theirs(xt).detach().numpy(), strict=True, **CLOSE)
    return ours


@pytest.mark.parametrize("kind", ["old", "new", "ours"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_every_kind_of_weight_norm(kind):
    from onepass.torch import nn as own

    wrap = {
        "old": T.utils.weight_norm, "new": T.utils.parametrizations.weight_norm,
        "ours": own.WeightNorm,
    }[kind]  # fmt: skip
    theirs = T.Sequential(wrap(T.Linear(6, 4)), T.ReLU(), wrap(T.Linear(4, 3), dim=1))
    ours = compare(theirs, np.random.default_rng(0).standard_normal((5, 6)))
    assert [type(layer).__name__ for layer in ours] == ["WeightNorm", "ReLU", "WeightNorm"]
    assert ours[2].dim == 1


def test_modules_of_our_front_become_layers():
    from onepass.torch import nn as own

    theirs = T.Sequential(
        own.Linear(6, 8, activation="gelu"),
        own.BatchNorm1d(8, activation=("leaky_relu", {"negative_slope": 0.2}), dropout=0.0),
        own.BatchRenorm(8, rmax=2.0),
        own.DecorrelatedBatchNorm(8, 2),
        own.LayerNorm(8, activation="silu"),
        own.GLU(activation="relu"),
        own.Maxout(2),
        own.Sin(),
        own.Softmax(dim=1),
    )
    ours = compare(theirs, np.random.default_rng(0).standard_normal((30, 6)))
    assert repr(ours[1]) == repr(nn.Sequential(nn.BatchNorm1d(8), nn.LeakyReLU(0.2)))
    assert [type(layer).__name__ for layer in ours] == [
        *("Sequential", "Sequential", "BatchRenorm", "DecorrelatedBatchNorm", "Sequential"),
        *("GLU", "Maxout", "Sin", "Softmax"),
    ]


def test_an_epilogue_with_dropout_and_a_fused_model():
    from onepass.torch import fuse

    theirs = T.Sequential(T.Linear(4, 6), T.BatchNorm1d(6), T.ReLU(), T.Dropout(0.3)).eval()
    x = torch.randn(5, 4)
    want = theirs(x).detach().numpy()
    fuse(theirs)
    ours = nn.from_torch(theirs)
    np.testing.assert_allclose(ours(x.numpy()), want, rtol=1e-5, atol=1e-6)
    drops = [m for m in ours.modules() if isinstance(m, nn.Dropout)]
    assert [(d.p, d.training) for d in drops] == [(0.3, False)]


def test_subclasses_that_change_nothing_and_named_layers():
    class Block(T.Sequential):
        def __init__(self, width):
            super().__init__(T.Linear(width, width), T.ReLU())

    from collections import OrderedDict

    theirs = T.Sequential(OrderedDict(a=Block(4), b=T.Hardtanh(-2, 1)))
    ours = compare(theirs, np.random.default_rng(0).standard_normal((5, 4)))
    assert list(ours.state_dict()) == ["0.0.weight", "0.0.bias"]


class Changed(T.Linear):
    def forward(self, x):
        return super().forward(x) + 1


class Net(T.Module):
    def __init__(self):
        super().__init__()
        self.inner = T.Linear(2, 2)

    def forward(self, x):
        return self.inner(x)


def hooked():
    layer = T.Linear(2, 2)
    layer.register_forward_hook(lambda *_: None)
    return layer


def patched():
    layer = T.ReLU()
    layer.forward = torch.sigmoid
    return layer


def masked(after=False):
    layer = T.Linear(2, 2)
    if after:
        layer.bias.register_post_accumulate_grad_hook(lambda _: None)
    else:
        layer.weight.register_hook(lambda g: 0 * g)
    return layer


def masked_within_a_norm():
    layer = T.utils.parametrizations.weight_norm(T.Linear(2, 2))
    layer.parametrizations.weight.original1.register_hook(lambda g: 0 * g)
    return layer


class Standardized(T.Linear):
    @property
    def weight(self):
        if "weight" not in self._parameters:
            raise AttributeError("weight")
        return self._parameters["weight"] - self._parameters["weight"].mean()


class Shifted(T.BatchNorm1d):
    @property
    def running_mean(self):
        if "running_mean" not in self._buffers:
            raise AttributeError("running_mean")
        return self._buffers["running_mean"] + 1


class MyReLU(T.Module):
    def forward(self, x):
        return x.relu()


REFUSED = {
    "a class": (lambda: T.Conv1d(2, 2, 1), "Conv1d of torch, which onepass.nn lacks"),
    "a subclass": (lambda: Changed(2, 2), "Changed of test_torch_exchange, which"),
    "a model": (Net, "a Net of .*; convert the parts that can be"),
    "an embedding": (lambda: T.Embedding(3, 2), "Embedding"),
    "synchronised": (lambda: T.SyncBatchNorm(3), "SyncBatchNorm"),
    "lazy": (lambda: T.LazyLinear(3), "a LazyLinear, has parameters without values"),
    "compiled": (lambda: torch.compile(T.ReLU(), backend="eager"), "is compiled: .*_orig_mod"),
    "scripted": (lambda: torch.jit.script(MyReLU()), "is scripted: convert the module that"),
    "a loss": (T.CrossEntropyLoss, "a CrossEntropyLoss of torch, a loss.*onepass.nn.CrossEnt"),
    "another loss": (T.CTCLoss, "CTCLoss of torch, which onepass.nn lacks"),
    "padding": (lambda: T.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), "padding_mode='c"),
    "indices": (lambda: T.MaxPool2d(2, return_indices=True), "return_indices=True"),
    "divisor": (lambda: T.AvgPool2d(2, divisor_override=3), "divisor_override=3"),
    "softmax": (lambda: T.Softmax(), "'dim' is None"),
    "momentum": (lambda: T.BatchNorm1d(2, momentum=2), "'momentum' is 2"),
    "hooks": (hooked, "a Linear, has hooks, which would be lost"),
    "hooks of a weight": (masked, "weight has hooks, which would be lost"),
    "hooks of a bias": (lambda: masked(after=True), "bias has hooks, which would be lost"),
    "hooks of a part": (masked_within_a_norm, "weight_v has hooks, which would be lost"),
    "a computed weight": (lambda: Standardized(2, 2), "weight is computed, expected a parameter"),
    "a computed mean": (lambda: Shifted(2), "running_mean is computed, expected a buffer"),
    "a forward": (patched, "a ReLU, has a forward of its own"),
    "meta": (lambda: T.Linear(2, 2, device="meta"), "weight has no plain values"),
    "complex": (lambda: T.Linear(2, 2, dtype=torch.complex64), "complex64"),
    "spectral": (lambda: T.utils.parametrizations.spectral_norm(T.Linear(2, 2)), "_SpectralNorm"),
    "of a whole": (
        lambda: T.utils.parametrizations.weight_norm(T.Linear(2, 2), dim=None), "dim=-1",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # of the compilers themselves
@pytest.mark.parametrize("what", REFUSED)
def test_what_we_lack_is_refused_by_name(what):
    make, words = REFUSED[what]
    model = T.Sequential(T.ReLU(), T.Sequential(make()))
    state = nn.get_rng_state()
    with pytest.raises(ValueError, match=rf"from_torch: (layer '1\.0'|1\.0\.).*{words}"):
        nn.from_torch(model)
    assert nn.get_rng_state() == state


def test_none_in_the_place_of_a_layer_is_refused():
    with pytest.raises(ValueError, match=r"layer '1' is None, expected a torch\.nn\.Module"):
        nn.from_torch(T.Sequential(T.ReLU(), None))


def test_running_statistics_in_two_places_are_refused():
    norm = T.BatchNorm1d(2)
    with pytest.raises(ValueError, match="layer '2' is the same BatchNorm1d as layer '0'"):
        nn.from_torch(T.Sequential(norm, T.ReLU(), norm))
    relu = T.ReLU()
    assert len(nn.from_torch(T.Sequential(relu, T.Linear(2, 2), relu))) == 3


@pytest.mark.parametrize("given", [None, "x", T.Linear, torch.ones(2), nn.ReLU()])
def test_what_is_no_module_is_refused(given):
    with pytest.raises(TypeError, match="from_torch: 'module' is a "):
        nn.from_torch(given)


class Twice(nn.Module):
    def __init__(self):
        self.inner = nn.Linear(2, 2)

    def forward(self, x):
        return self.inner(self.inner(x))


class Louder(nn.ReLU):
    def forward(self, x):
        return 2 * super().forward(x)


def test_modules_of_ones_own_are_refused():
    for made, words in (
        (Twice(), "layer '1' is a Twice, which is not a layer of onepass"),
        (Louder(), "layer '1' is a Louder, which is not a layer"),
    ):
        with pytest.raises(ValueError, match=f"to_torch: {words}"):
            nn.Sequential(nn.ReLU(), made).to_torch()
    model = nn.Sequential(nn.ReLU())
    model[0].forward = lambda x: x
    with pytest.raises(ValueError, match="to_torch: layer '0', a ReLU, has a forward of its own"):
        model.to_torch()
