"""Modules: against torch.nn with the same weights, and gradients against central differences."""

from __future__ import annotations

import numpy as np
import pytest
from onepass import nn
from small_models import DTYPES, assert_same, grads, normal, perturb, residual_model

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
    ("linear_silu", lambda n, k: [n.Linear(7, 5, **k), n.SiLU()], (6, 7)),
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
