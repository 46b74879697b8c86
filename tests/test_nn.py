"""Modules: against torch.nn with the same weights, fused against unfused, state, modes, errors."""

from __future__ import annotations

import copy
import json
import pickle
import sys

import fake_cupy
import numpy as np
import pytest
from onepass import nn, ops

DTYPES = ["float32", "float64"]


def normal(shape, dtype="float64", seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def perturb(model, seed=2):
    """Weights and running statistics that no formula can ignore."""
    rng = np.random.default_rng(seed)
    state = model.state_dict()
    for name, value in state.items():
        if value.dtype.kind == "f":
            state[name] = value + rng.uniform(0.1, 0.5, value.shape).astype(value.dtype)
    model.load_state_dict(state)
    return model


def grads(model):
    return {name: p.grad for name, p in model.named_parameters()}


def assert_same(a, b):
    """Equal bits, shapes and names."""
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name, strict=True)


# -- against PyTorch ---------------------------------------------------------------------------

# (name, layers of ours, the same of torch's, shape of x); `n` is either nn module
CASES = [
    ("linear", lambda n, k: [n.Linear(7, 5, **k)], (6, 7)),
    ("linear_no_bias", lambda n, k: [n.Linear(7, 5, bias=False, **k), n.ReLU()], (6, 7)),
    ("linear_three_axes", lambda n, k: [n.Linear(7, 5, **k), n.Tanh()], (2, 3, 7)),
    ("linear_vector", lambda n, k: [n.Linear(7, 5, **k), n.ReLU()], (7,)),
    ("linear_relu", lambda n, k: [n.Linear(17, 33, **k), n.ReLU()], (19, 17)),
    ("linear_leaky", lambda n, k: [n.Linear(7, 5, **k), n.LeakyReLU(0.2)], (6, 7)),
    ("linear_sigmoid", lambda n, k: [n.Linear(7, 5, **k), n.Sigmoid()], (6, 7)),
    ("linear_gelu", lambda n, k: [n.Linear(7, 5, **k), n.GELU()], (6, 7)),
    ("linear_gelu_tanh", lambda n, k: [n.Linear(7, 5, **k), n.GELU(approximate="tanh")], (6, 7)),
    ("bn1d", lambda n, k: [n.BatchNorm1d(5, **k)], (9, 5)),
    ("bn1d_length", lambda n, k: [n.BatchNorm1d(5, **k), n.Tanh()], (4, 5, 7)),
    ("bn1d_average", lambda n, k: [n.BatchNorm1d(5, momentum=None, **k), n.ReLU()], (9, 5)),
    ("bn1d_plain", lambda n, k: [n.BatchNorm1d(5, affine=False, **k), n.Sigmoid()], (9, 5)),
    (
        "bn1d_untracked",
        lambda n, k: [n.BatchNorm1d(5, track_running_stats=False, **k), n.ReLU()],
        (9, 5),
    ),
    ("bn2d", lambda n, k: [n.BatchNorm2d(3, eps=1e-3, momentum=0.3, **k), n.ReLU()], (4, 3, 5, 7)),
    ("bn3d", lambda n, k: [n.BatchNorm3d(2, **k), n.LeakyReLU(0.1)], (3, 2, 3, 4, 5)),
    ("flatten", lambda n, k: [n.Flatten(), n.Identity(), n.Linear(24, 3, **k)], (5, 2, 3, 4)),
    ("flatten_some", lambda n, k: [n.Flatten(1, 2), n.BatchNorm1d(6, **k)], (5, 2, 3, 4)),
    (
        "mlp",
        lambda n, k: [
            n.Linear(11, 16, **k),
            n.BatchNorm1d(16, **k),
            n.ReLU(),
            n.Linear(16, 9, **k),
            n.GELU(),
            n.Linear(9, 4, **k),
        ],
        (13, 11),
    ),
]


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "layers", "shape"), CASES, ids=[c[0] for c in CASES])
def test_matches_torch(name, layers, shape, dtype, fuse):
    torch = pytest.importorskip("torch")
    ours = perturb(nn.Sequential(*layers(nn, {"dtype": dtype}), fuse=fuse))
    theirs = torch.nn.Sequential(*layers(torch.nn, {"dtype": getattr(torch, dtype)}))
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    close = {"rtol": 1e-11, "atol": 1e-12} if dtype == "float64" else {"rtol": 1e-4, "atol": 1e-5}

    for step in range(3):
        if step == 2:
            ours.eval()
            theirs.eval()
        x = normal(shape, dtype, seed=step)
        xt = torch.from_numpy(x).requires_grad_()
        y, yt = ours(x), theirs(xt)
        np.testing.assert_allclose(y, yt.detach().numpy(), strict=True, **close)
        dy = normal(y.shape, dtype, seed=10 + step)
        dx = ours.backward(dy)
        yt.backward(torch.from_numpy(dy))  # both sides accumulate over the steps
        np.testing.assert_allclose(dx, xt.grad.numpy(), strict=True, **close)
        for key, p in theirs.named_parameters():
            np.testing.assert_allclose(
                grads(ours)[key], p.grad.numpy(), err_msg=key, strict=True, **close
            )
        state, expected = ours.state_dict(), theirs.state_dict()
        assert list(state) == list(expected)
        for key, value in expected.items():
            np.testing.assert_allclose(state[key], value.numpy(), err_msg=key, strict=True, **close)


def test_state_dict_comes_from_torch():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    theirs(torch.randn(8, 3))
    ours = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ours.load_state_dict(theirs.state_dict())
    assert_same(ours.state_dict(), {k: v.numpy() for k, v in theirs.state_dict().items()})
    ours.load_state_dict({k: v.bfloat16() for k, v in theirs.state_dict().items()})
    assert ours[0].weight.data.tolist() == theirs[0].weight.bfloat16().tolist()


def residual_model(fuse=True, dtype="float64", p=0.0):
    k = {"dtype": dtype}
    return nn.Sequential(
        nn.Linear(6, 8, **k),
        nn.Residual(nn.Linear(8, 8, **k), nn.ReLU(), nn.Linear(8, 8, **k), nn.BatchNorm1d(8, **k)),
        nn.ReLU(),
        nn.Dropout(p),
        nn.Residual(nn.BatchNorm1d(8, **k), nn.Tanh(), shortcut=nn.Linear(8, 8, **k)),
        nn.Residual(
            nn.Sequential(nn.Linear(8, 5, bias=False, **k), nn.BatchNorm1d(5, affine=False, **k)),
            shortcut=nn.Sequential(nn.Linear(8, 5, **k), nn.GELU()),
        ),
        nn.Linear(5, 3, **k),
        fuse=fuse,
    )


def test_residual_matches_torch():
    torch = pytest.importorskip("torch")
    t = torch.nn

    class Block(t.Module):
        def __init__(self, *body, shortcut=None):
            super().__init__()
            self.body, self.shortcut = t.Sequential(*body), shortcut

        def forward(self, x):
            return self.body(x) + (x if self.shortcut is None else self.shortcut(x))

    theirs = t.Sequential(
        t.Linear(6, 8),
        Block(t.Linear(8, 8), t.ReLU(), t.Linear(8, 8), t.BatchNorm1d(8)),
        t.ReLU(),
        t.Dropout(0.0),
        Block(t.BatchNorm1d(8), t.Tanh(), shortcut=t.Linear(8, 8)),
        Block(
            t.Sequential(t.Linear(8, 5, bias=False), t.BatchNorm1d(5, affine=False)),
            shortcut=t.Sequential(t.Linear(8, 5), t.GELU()),
        ),
        t.Linear(5, 3),
    ).double()
    ours = perturb(residual_model())
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    x, dy = normal((10, 6)), normal((10, 3), seed=3)
    xt = torch.from_numpy(x).requires_grad_()
    yt = theirs(xt)
    yt.backward(torch.from_numpy(dy))
    np.testing.assert_allclose(ours(x), yt.detach().numpy(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(ours.backward(dy), xt.grad.numpy(), rtol=1e-10, atol=1e-12)
    for key, p in theirs.named_parameters():
        np.testing.assert_allclose(
            grads(ours)[key], p.grad.numpy(), rtol=1e-10, atol=1e-12, err_msg=key
        )


@pytest.mark.parametrize(
    "options",
    [{}, {"label_smoothing": 0.1}, {"ignore_index": 2}, {"reduction": "sum"}, {"weight": True}],
    ids=str,
)
def test_cross_entropy_matches_torch(options):
    torch = pytest.importorskip("torch")
    if "weight" in options:
        options = {"weight": np.linspace(0.5, 2, 5)}
    theirs = {k: torch.from_numpy(v) if k == "weight" else v for k, v in options.items()}
    y, target = normal((9, 5)), np.arange(9) % 5
    yt = torch.from_numpy(y).requires_grad_()
    expected = torch.nn.CrossEntropyLoss(**theirs)(yt, torch.from_numpy(target))
    expected.backward()
    loss, dy = nn.CrossEntropyLoss(**options)(y, target)
    assert float(loss) == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(dy, yt.grad.numpy(), rtol=1e-11, atol=1e-13)


# -- gradients ---------------------------------------------------------------------------------


def test_central_differences():
    model = nn.Sequential(
        nn.Linear(4, 6, dtype="float64"),
        nn.BatchNorm1d(6, dtype="float64"),
        nn.Tanh(),
        nn.Dropout(0.3),
        nn.Residual(nn.Linear(6, 6, dtype="float64"), nn.BatchNorm1d(6, dtype="float64")),
        nn.GELU(),
        nn.Linear(6, 3, dtype="float64"),
    )
    perturb(model)
    loss_fn, x, target = nn.CrossEntropyLoss(), normal((5, 4)), np.array([0, 2, 1, 1, 0])
    stream = nn.get_rng_state(model)

    def loss():
        nn.set_rng_state(stream, model)  # the same mask every time
        return loss_fn(model(x), target)

    _, dy = loss()
    dx = model.backward(dy)
    checked = {"x": (x, dx)} | {n: (p.data, p.grad) for n, p in model.named_parameters()}
    for name, (values, grad) in checked.items():
        grad = grad.copy()
        for i in np.ndindex(values.shape):
            kept = values[i]
            values[i] = kept + 1e-5
            up = float(loss()[0])
            values[i] = kept - 1e-5
            down = float(loss()[0])
            values[i] = kept
            assert grad[i] == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-8), (name, i)


def test_gradients_accumulate():
    model = residual_model()
    x, dy = normal((7, 6)), normal((7, 3))
    model(x)
    model.backward(dy)
    once = {name: grad.copy() for name, grad in grads(model).items()}
    model.backward(dy)
    assert_same(grads(model), {name: 2 * grad for name, grad in once.items()})
    model.zero_grad(set_to_none=False)
    assert not any(grad.any() for grad in grads(model).values())
    model.zero_grad()
    assert all(grad is None for grad in grads(model).values())


@pytest.mark.parametrize("fuse", [True, False])
def test_need_input_grad(fuse):
    model = perturb(residual_model(fuse))
    x, dy = normal((7, 6)), normal((7, 3))
    model(x)
    assert model.backward(dy).shape == x.shape
    expected = grads(model)
    model.zero_grad()
    assert model.backward(dy, need_input_grad=False) is None
    assert_same(grads(model), expected)


def test_frozen_front_is_skipped_when_nobody_needs_dx():
    class Front(nn.Module):
        def forward(self, x):
            return x

        def backward(self, dy, *, need_input_grad=True):
            raise AssertionError("backward went further than needed")

    for trained in (1, 3):
        model = nn.Sequential(Front(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)).freeze()
        model[trained].unfreeze()
        y = model(normal((4, 3), "float32"))
        model.backward(y, need_input_grad=False)
        assert [i for i in (1, 3) if model[i].weight.grad is not None] == [trained]


# -- fusion ------------------------------------------------------------------------------------

ACTIVATIONS = [nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.GELU]


def run(model, x, steps=3):
    """Everything that a few steps compute: outputs, gradients, statistics."""
    results = {}
    for step in range(steps):
        y = model(x)
        dx = model.backward(normal(y.shape, y.dtype, seed=step))
        results |= {f"y{step}": y, f"dx{step}": dx}
    return results | grads(model) | model.state_dict()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS], ids=lambda a: a and a.__name__)
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_fused_is_bitwise_unfused(activation, p, dtype):
    def build(fuse):
        nn.manual_seed(3)
        then = [] if activation is None else [activation()]
        drop = [activation()] if activation else []
        return perturb(
            nn.Sequential(
                nn.Linear(37, 67, dtype=dtype),
                *then,
                nn.Dropout(p),
                nn.BatchNorm1d(67, dtype=dtype),
                *drop,
                nn.Dropout(p),
                nn.Linear(67, 5, dtype=dtype),
                fuse=fuse,
            )
        )

    x = normal((131, 37), dtype)
    assert_same(run(build(True), x), run(build(False), x))


def test_layers_keep_their_order():
    """The kernels run activation, then dropout: anything else starts a new group."""

    def build(fuse):
        nn.manual_seed(3)
        return perturb(
            nn.Sequential(
                nn.Linear(9, 9),
                nn.Dropout(0.2),
                nn.Tanh(),
                nn.Linear(9, 9),
                nn.Sigmoid(),
                nn.LeakyReLU(0.3),
                nn.BatchNorm1d(9),
                nn.Dropout(0.2),
                nn.Dropout(0.3),
                nn.Sequential(nn.Linear(9, 9), nn.BatchNorm1d(9)),
                nn.GELU(),
                nn.Sequential(nn.Linear(9, 9), nn.GELU()),
                nn.Sequential(),
                nn.GELU(),
                nn.Residual(nn.Linear(9, 9)),
                nn.ReLU(),
                fuse=fuse,
            )
        )

    x = normal((21, 9), "float32")
    assert [len(g) for g in build(True).groups()] == [2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1]
    assert_same(run(build(True), x), run(build(False), x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_fused_residual_is_bitwise_unfused(dtype):
    def build(fuse):
        nn.manual_seed(3)
        return perturb(residual_model(fuse, dtype, p=0.4))

    x = normal((67, 6), dtype)
    assert_same(run(build(True), x), run(build(False), x))


def test_fused_images_are_bitwise_unfused():
    def build(fuse):
        nn.manual_seed(3)
        block = nn.Residual(nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3), fuse=fuse)
        return perturb(nn.Sequential(block, nn.LeakyReLU(0.2), nn.Dropout(0.2), fuse=fuse))

    x = normal((5, 3, 7, 9), "float32")
    assert_same(run(build(True), x), run(build(False), x))


def test_fusion_calls_one_kernel(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("not fused")

    for name in ("relu", "relu_backward", "dropout", "dropout_backward"):
        monkeypatch.setattr(ops, name, fail)
    layers = [nn.Linear(4, 4), nn.ReLU(), nn.Dropout(), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout()]
    x = normal((6, 4), "float32")
    model = nn.Sequential(*layers)
    model.backward(model(x))
    with pytest.raises(AssertionError, match="not fused"):
        nn.Sequential(*layers, fuse=False)(x)


def test_fused_residual_adds_in_the_kernel(monkeypatch):
    given = []
    original = ops.batch_norm

    def spy(*args, **kwargs):
        given.append(kwargs)
        return original(*args, **kwargs)

    monkeypatch.setattr(ops, "batch_norm", spy)
    model = nn.Sequential(nn.Residual(nn.Linear(4, 4), nn.BatchNorm1d(4)), nn.ReLU())
    x = normal((6, 4), "float32")
    model(x)
    assert given[0]["residual"] is x
    assert given[0]["activation"] == ("relu", {})


def test_modes_of_single_layers_hold_in_a_group():
    """A batch norm in evaluation cannot drop in its kernel: the dropout layer still must."""

    def build(fuse):
        nn.manual_seed(5)
        model = perturb(nn.Sequential(nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), fuse=fuse))
        model[0].eval()
        return model

    x = normal((16, 8), "float32")
    fused = run(build(True), x)
    assert_same(fused, run(build(False), x))
    assert fused["0.num_batches_tracked"] == 0
    relu_only = build(True).eval()(x)
    assert (fused["y0"][relu_only > 0] == 0).any()  # it dropped


def test_overridden_methods_are_not_bypassed():
    class Loud(nn.ReLU):
        def forward(self, x):
            return super().forward(x) + 1

    class Straight(nn.ReLU):
        def backward(self, dy, *, need_input_grad=True):
            return dy

    x = normal((4, 3), "float32")
    linear = nn.Linear(3, 3)
    assert (nn.Sequential(linear, Loud())(x) >= 1).all()
    model = nn.Sequential(linear, Straight(), fuse=True)
    y = model(x)
    model.backward(np.ones_like(y))
    assert linear.bias.grad.tolist() == [4, 4, 4]


def test_print_shows_groups():
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2, bias=False)
    )
    assert repr(model) == (
        "Sequential(\n"
        "  (0): Flatten(start_dim=1, end_dim=-1)\n"
        "  fused(\n"
        "    (1): Linear(in_features=4, out_features=8, bias=True)\n"
        "    (2): ReLU()\n"
        "    (3): Dropout(p=0.1)\n"
        "  )\n"
        "  (4): Linear(in_features=8, out_features=2, bias=False)\n"
        ")"
    )
    assert "fused" not in repr(residual_model(fuse=False))
    assert repr(nn.LeakyReLU(0.2)) == "LeakyReLU(negative_slope=0.2)"
    assert repr(nn.BatchNorm2d(3)) == (
        "BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"
    )


def test_outputs_are_never_reused():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh())
    x = normal((6, 4), "float32")
    y = model(x)
    dx = model.backward(np.ones_like(y))
    kept = y.copy(), dx.copy()
    model.backward(model(-x))  # same shapes: buffers fit
    model[0](-x)
    model.backward(model(-x))
    assert_same({"y": y, "dx": dx}, {"y": kept[0], "dx": kept[1]})
    np.testing.assert_array_equal(model(x), y)
    assert model(x[:4]).shape == (4, 4)  # the last batch is smaller


# -- dropout and its state -----------------------------------------------------------------------


def test_dropout_draws_a_new_mask_each_call_and_the_same_in_backward():
    layer, x = nn.Dropout(0.25), np.ones((64, 64), np.float32)
    first, second = layer(x), layer(x)
    assert (first != second).any()
    np.testing.assert_array_equal(layer.backward(x), second)
    assert set(np.unique(first)) == {0, np.float32(1 / 0.75)}
    assert (nn.Dropout(0.25)(x) != first).any()  # another layer, another stream
    seed, offset = layer.stream.peek()
    np.testing.assert_array_equal(
        layer(x) != 0, ops.dropout_mask(x.shape, 0.25, seed=seed, offset=offset)
    )


def test_dropout_in_evaluation_and_at_the_ends():
    x = normal((5, 5), "float32")
    layer = nn.Dropout(0.5).eval()
    assert layer(x) is x
    assert layer.backward(x) is x
    assert nn.Dropout(0.0)(x) is x
    assert not nn.Dropout(1.0)(x).any()


def test_manual_seed_reaches_existing_layers():
    layer, x = nn.Dropout(0.5), np.ones((32, 32), np.float32)
    nn.manual_seed(7)
    first = layer(x)
    layer(x)
    nn.manual_seed(7)
    np.testing.assert_array_equal(layer(x), first)
    nn.manual_seed(8)
    assert (layer(x) != first).any()


def test_rng_state_resumes_bitwise():
    def build():
        return nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.ReLU(), nn.Dropout(0.3))

    nn.manual_seed(1)
    model, x = build(), normal((9, 8), "float32")
    model(x)
    state = json.loads(json.dumps(nn.get_rng_state(model)))
    weights = model.state_dict()
    expected = [model(x), model(x), nn.Linear(5, 5).weight.data]

    nn.manual_seed(99)
    resumed = build()
    resumed.load_state_dict(weights)
    nn.set_rng_state(state, resumed)
    for a, b in zip([resumed(x), resumed(x), nn.Linear(5, 5).weight.data], expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_rng_state_of_another_model_is_refused():
    model, other = nn.Sequential(nn.Dropout()), nn.Sequential(nn.ReLU(), nn.Dropout())
    state = nn.get_rng_state(model)
    nn.Linear(3, 3)
    before = nn.get_rng_state(other)
    for target in (None, other):
        with pytest.raises(ValueError, match="dropout layers"):
            nn.set_rng_state(state, target)
    assert nn.get_rng_state(other) == before


def test_copies_continue_where_the_layer_was():
    layer, x = nn.Dropout(0.5), np.ones((32, 32), np.float32)
    layer(x)
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    expected = layer(x)
    for other in copies:
        np.testing.assert_array_equal(other(x), expected)


# -- freeze, state, devices ----------------------------------------------------------------------


@pytest.mark.parametrize("fuse", [True, False])
def test_freeze(fuse):
    def build():
        nn.manual_seed(2)
        return perturb(
            nn.Sequential(
                nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), fuse=fuse
            )
        )

    x = normal((8, 4), "float32")
    model, trained = build(), build()
    model[1].freeze()
    model[3].bias.requires_grad = False
    free, frozen = run(trained, x), run(model, x)
    for name in ("1.weight", "1.bias", "3.bias"):
        assert grads(model)[name] is None
    for name in ("0.weight", "0.bias", "3.weight"):
        np.testing.assert_array_equal(grads(model)[name], grads(trained)[name])
    np.testing.assert_array_equal(frozen["dx2"], free["dx2"])
    model.unfreeze()
    model.backward(model(x))
    assert all(grad is not None for grad in grads(model).values())


def test_state_dict_is_a_copy():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    state = model.state_dict()
    model[0].weight.data += 1
    model(normal((4, 3), "float32"))
    assert state["1.num_batches_tracked"] == 0
    model.load_state_dict(state)
    assert_same(model.state_dict(), state)


def test_load_state_dict_is_all_or_nothing():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = model.state_dict()
    state = {k: v + 1 for k, v in before.items()}
    del state["1.running_mean"]
    state["0.weight"] = np.zeros((4, 4), np.float32)
    state["0.bias"] = "text"
    state["extra"] = np.zeros(1)
    with pytest.raises(ValueError, match="nothing was changed") as error:
        model.load_state_dict(state)
    for part in ("missing 1.running_mean", "unexpected extra", "0.weight", "(4, 3)", "0.bias"):
        assert part in str(error.value)
    assert_same(model.state_dict(), before)


def test_shared_parameters_count_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "2.bias"]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_pickle_leaves_activations_out():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    x = normal((1000, 3), "float32")
    expected = model(x)
    data = pickle.dumps(model)
    assert len(data) < x.nbytes / 2
    np.testing.assert_array_equal(pickle.loads(data)(x), expected)


def test_to_cpu_keeps_the_arrays():
    model = nn.Linear(3, 3)
    weight = model.weight.data
    assert model.to("cpu") is model
    assert model.weight.data is weight


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0"])
def test_unknown_device(device):
    with pytest.raises(ValueError, match="device="):
        nn.Linear(3, 3).to(device)


def test_cuda_that_cannot_be_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # import cupy → ImportError
    model = nn.Linear(3, 3)
    with pytest.raises(RuntimeError, match="CUDA cannot be used"):
        model.to("cuda")
    assert isinstance(model.weight.data, np.ndarray)


def test_to_cuda():
    cupy = pytest.importorskip("cupy")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(str(error))
    nn.manual_seed(4)
    model, twin = perturb(residual_model(p=0.3)), perturb(residual_model(p=0.3))
    twin.load_state_dict(model.state_dict())
    twin.to("cuda")
    nn.set_rng_state(nn.get_rng_state(model), twin)
    x = normal((12, 6))
    y = model(x)
    z = twin(cupy.asarray(x))
    np.testing.assert_allclose(cupy.asnumpy(z), y, rtol=1e-10)
    np.testing.assert_allclose(cupy.asnumpy(twin.backward(z)), model.backward(y), rtol=1e-9)
    twin.to("cpu")
    for name, grad in grads(model).items():
        np.testing.assert_allclose(grads(twin)[name], grad, rtol=1e-9, atol=1e-12, err_msg=name)


# -- errors ------------------------------------------------------------------------------------

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
        (lambda: nn.Linear(0, 3), "in_features=0"),
        (lambda: nn.Linear(3, -1), "out_features=-1"),
        (lambda: nn.Linear(3, 3, dtype="int32"), "dtype='int32'"),
        (lambda: nn.Linear(3, 3, dtype="nonsense"), "dtype='nonsense'"),
        (lambda: nn.Linear(3, 3, dtype=None), "dtype=None"),
        (lambda: nn.BatchNorm1d(0), "num_features=0"),
        (lambda: nn.BatchNorm1d(3, eps=0.0), "eps=0.0"),
        (lambda: nn.BatchNorm1d(3, eps=float("inf")), "eps=inf"),
        (lambda: nn.BatchNorm1d(3, momentum=1.5), "momentum=1.5"),
        (lambda: nn.Dropout(1.5), "p=1.5"),
        (lambda: nn.Dropout(float("nan")), "p=nan"),
        (lambda: nn.GELU("exact"), "approximate='exact'"),
        (lambda: nn.CrossEntropyLoss(reduction="avg"), "reduction='avg'"),
        (lambda: nn.CrossEntropyLoss(label_smoothing=2.0), "label_smoothing=2.0"),
        (lambda: nn.CrossEntropyLoss(ignore_index=2**63), "ignore_index="),
        (lambda: nn.manual_seed(-1), "seed=-1"),
        (lambda: nn.manual_seed(2**64), "seed=18446744073709551616"),
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
        (lambda: nn.Linear(1.5, 3), "in_features=1.5"),
        (lambda: nn.Linear(3, "3"), "out_features='3'"),
        (lambda: nn.Linear(True, 3), "in_features=True"),
        (lambda: nn.BatchNorm1d(None), "num_features=None"),
        (lambda: nn.BatchNorm1d(3.0), "num_features=3.0"),
        (lambda: nn.BatchNorm1d(3, eps="1e-5"), "eps='1e-5'"),
        (lambda: nn.BatchNorm1d(3, momentum="0.1"), "momentum='0.1'"),
        (lambda: nn.Dropout("0.5"), "p='0.5'"),
        (lambda: nn.Dropout(None), "p=None"),
        (lambda: nn.Dropout(True), "p=True"),
        (lambda: nn.LeakyReLU("0.1"), "negative_slope='0.1'"),
        (lambda: nn.Flatten(1.0), r"start_dim=1\.0"),
        (lambda: nn.Flatten(1, None), "end_dim=None"),
        (lambda: nn.CrossEntropyLoss(label_smoothing="a"), "label_smoothing='a'"),
        (lambda: nn.CrossEntropyLoss(ignore_index=0.5), "ignore_index=0.5"),
        (lambda: nn.CrossEntropyLoss(weight=[1.0, 2.0]), "weight is a list"),
        (lambda: nn.CrossEntropyLoss(weight=np.ones(3, int)), "weight has dtype int64"),
        (lambda: nn.Residual(shortcut=nn.ReLU), "shortcut is <class"),
        (lambda: nn.manual_seed(1.0), "seed=1.0"),
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


# -- initial values ------------------------------------------------------------------------------

SHAPE = (300, 100, 2)  # fan_in 200, fan_out 600
RANDOM = [
    ("lecun_normal", {}, 1 / 200, False),
    ("lecun_uniform", {}, 1 / 200, True),
    ("xavier_normal", {"gain": 2.0}, 4 * 2 / 800, False),
    ("xavier_uniform", {}, 2 / 800, True),
    ("kaiming_normal", {"nonlinearity": "relu", "mode": "fan_out"}, 2 / 600, False),
    ("kaiming_uniform", {"a": 5**0.5}, 2 / 6 / 200, True),
    ("geometric_mean", {"c": 3.0}, 3 / (200 * 600) ** 0.5, False),
    ("normal", {"std": 3.0}, 9.0, False),
    ("uniform", {"a": -1.0, "b": 1.0}, 1 / 3, True),
]


@pytest.mark.parametrize(("name", "options", "variance", "is_uniform"), RANDOM)
def test_init_distribution(name, options, variance, is_uniform):
    values = getattr(nn.init, name)(np.empty(SHAPE), **options, seed=0)
    std = variance**0.5
    assert abs(values.mean()) < 5 * std / values.size**0.5
    assert values.var() == pytest.approx(variance, rel=0.03)
    peak = np.abs(values).max() / std
    if is_uniform:
        assert 0.999 * 3**0.5 < peak <= 3**0.5
    else:
        assert peak > 3.5
        assert np.mean(np.abs(values) < std) == pytest.approx(0.6827, abs=0.01)


@pytest.mark.parametrize("name", [row[0] for row in RANDOM] + ["orthogonal"])
def test_init_is_a_function_of_the_seed(name):
    fill = getattr(nn.init, name)
    a, b = fill(np.empty((8, 6)), seed=5), fill(nn.Parameter(np.empty((8, 6), np.float32)), seed=5)
    np.testing.assert_array_equal(a.astype(np.float32), b.data)
    assert (fill(np.empty((8, 6)), seed=6) != a).any()
    nn.manual_seed(5)
    np.testing.assert_array_equal(fill(np.empty((8, 6))), a)
    assert (fill(np.empty((8, 6))) != a).any()


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (5, 3, 4), (7, 7)])
def test_orthogonal(shape):
    q = nn.init.orthogonal(np.empty(shape), gain=2.0, seed=1).reshape(shape[0], -1) / 2
    gram = q @ q.T if q.shape[0] < q.shape[1] else q.T @ q
    np.testing.assert_allclose(gram, np.eye(min(q.shape)), atol=1e-13)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3)])
@pytest.mark.parametrize(
    "name", ["lecun_normal", "xavier_uniform", "kaiming_normal", "geometric_mean", "orthogonal"]
)
def test_init_of_an_empty_array(name, shape):
    array = np.empty(shape, np.float32)
    assert getattr(nn.init, name)(array, seed=0) is array


def test_constants():
    p = nn.Parameter(np.empty((2, 2), np.float32))
    assert nn.init.ones(p) is p
    assert p.data.tolist() == [[1, 1], [1, 1]]
    assert nn.init.zeros(p.data).tolist() == [[0, 0], [0, 0]]
    assert nn.init.constant(p, 2.5).data.tolist() == [[2.5, 2.5], [2.5, 2.5]]


@pytest.mark.parametrize(
    "name", ["zeros", "ones", "constant", "orthogonal", *(row[0] for row in RANDOM)]
)
def test_every_initialiser_takes_a_seed(name):
    options = {"val": 0.5} if name == "constant" else {}
    array = np.empty((2, 3), np.float32)
    assert getattr(nn.init, name)(array, **options, seed=1) is array


def test_gain_matches_torch():
    torch = pytest.importorskip("torch")
    gain, expected = nn.init.calculate_gain, torch.nn.init.calculate_gain
    for name in ("linear", "conv1d", "conv2d", "conv3d", "sigmoid", "tanh", "relu", "selu"):
        assert gain(name) == expected(name)
    assert gain("leaky_relu") == expected("leaky_relu")
    assert gain("leaky_relu", 0.3) == expected("leaky_relu", 0.3)


def test_linear_starts_as_in_torch():
    layer = nn.Linear(400, 300)
    for values in (layer.weight.data, layer.bias.data):
        assert 0.98 / 20 < np.abs(values).max() <= np.float32(1 / 20)
        assert values.std() == pytest.approx(1 / 20 / 3**0.5, rel=0.1)
    nn.manual_seed(3)
    a = nn.Linear(4, 4).state_dict()
    nn.manual_seed(3)
    assert_same(nn.Linear(4, 4).state_dict(), a)


@pytest.mark.parametrize(
    ("name", "given", "options", "error", "match"),
    [
        ("xavier_normal", np.empty(3), {}, ValueError, "2 axes"),
        ("orthogonal", np.empty(3), {}, ValueError, "2 axes"),
        ("kaiming_normal", np.empty((3, 3)), {"mode": "fan"}, ValueError, "mode='fan'"),
        ("geometric_mean", np.empty((3, 3)), {"c": 0}, ValueError, "c=0"),
        ("normal", np.empty(3), {"std": -1.0}, ValueError, "std=-1.0"),
        ("normal", np.empty(3), {"seed": -1}, ValueError, r"seed=-1; expected 0 <= seed"),
        ("normal", np.empty(3), {"seed": 1.5}, TypeError, "seed=1.5"),
        ("orthogonal", np.empty((3, 3)), {"seed": "a"}, TypeError, "seed='a'"),
        ("uniform", np.empty(3), {"a": 2, "b": 1}, ValueError, "a=2.*b=1.*a <= b"),
        ("uniform", np.empty(3), {"b": np.inf}, ValueError, "b=inf"),
        ("uniform", np.empty(3), {"a": np.nan}, ValueError, "a=nan"),
        ("uniform", np.empty(3), {"a": "0"}, TypeError, "a='0'"),
        ("constant", np.empty(3), {"val": None}, TypeError, "val=None"),
        ("normal", np.empty(3), {"mean": [1]}, TypeError, r"mean=\[1\]"),
        ("xavier_uniform", np.empty((3, 3)), {"gain": "2"}, TypeError, "gain='2'"),
        ("kaiming_uniform", np.empty((3, 3)), {"a": "2"}, TypeError, "a='2'"),
        ("normal", np.zeros(3, np.int64), {}, TypeError, "tensor has dtype int64"),
        ("normal", [1.0], {}, TypeError, "tensor is a list"),
        ("zeros", None, {}, TypeError, "tensor is None"),
    ],
)
def test_init_errors(name, given, options, error, match):
    before = copy.deepcopy(given)
    with pytest.raises(error, match=match):
        getattr(nn.init, name)(given, **options)
    np.testing.assert_array_equal(given, before)


def test_gain_errors():
    with pytest.raises(ValueError, match="nonlinearity='swish'"):
        nn.init.calculate_gain("swish")
    with pytest.raises(TypeError, match="param='1'"):
        nn.init.calculate_gain("leaky_relu", "1")
