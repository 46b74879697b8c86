"""Fused layers: the bits of the unfused ones, in one kernel, in the order they were given."""

from __future__ import annotations

import numpy as np
import pytest
from cases import label_of
from cases.activations import FORMS
from onepass import nn, ops
from onepass.nn import _sequential
from small_models import DTYPES, assert_same, normal, perturb, residual_model, run

MODULES = {"None": (None, {})} | {
    "-".join(filter(None, [record.module.__name__, label_of(form.options)])): (
        record.module,
        form.options,
    )
    for record, form in FORMS
    if record.module is not None
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("module", "options"), MODULES.values(), ids=MODULES)
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_fused_is_bitwise_unfused(module, options, p, dtype):
    def build(fuse):
        nn.manual_seed(3)
        then = [] if module is None else [module(**options)]
        drop = [] if module is None else [module(**options)]
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


def test_what_is_fused_is_decided_once_for_each_block_around(monkeypatch):
    def nested(depth):
        inner = nn.Linear(3, 3) if depth == 0 else nested(depth - 1)
        block = nn.Residual(inner, nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Sequential(nn.ReLU()))
        return nn.Sequential(nn.Residual(nn.Linear(3, 3), block), nn.ReLU())

    calls = []

    def counted(*args):
        calls.append(args)
        return group(*args)

    group = _sequential.group
    monkeypatch.setattr(_sequential, "group", counted)
    model = nested(6)
    model(normal((4, 3), "float32"))
    blocks = [m for m in model.modules() if isinstance(m, (nn.Sequential, nn.Residual))]
    inside = [sum(isinstance(m, nn.Sequential) for m in block.modules()) for block in blocks]
    assert len(calls) <= sum(inside)
    del calls[:]
    model(normal((4, 3), "float32"))
    assert not calls


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

    def spy(*args, **kwargs):
        given.append(kwargs)
        return ops.batch_norm(*args, **kwargs)

    monkeypatch.setattr(nn.BatchNorm1d, "function", staticmethod(spy))
    model = nn.Sequential(nn.Residual(nn.Linear(4, 4), nn.BatchNorm1d(4)), nn.ReLU())
    x = normal((6, 4), "float32")
    model(x)
    assert given[0]["residual"] is x
    assert given[0]["activation"] == ("relu", ())


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


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_first_batch_norm_adds_the_shortcuts_gradient(monkeypatch, channels_last):
    """Onto the memory of the residual's gradient, which the last batch norm wrote."""
    given = []

    def spy(dy, saved, **options):
        results = ops.batch_norm_backward(dy, saved, **options)
        given.append((options, results))
        return results

    monkeypatch.setattr(nn.BatchNorm2d, "gradient", staticmethod(spy))

    def build(fuse):
        nn.manual_seed(3)
        body = nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3)
        return perturb(nn.Sequential(nn.Residual(*body, fuse=fuse), nn.ReLU(), fuse=fuse))

    x = normal((5, 3, 7, 9), "float32")
    if channels_last:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    fused = run(build(True), x)
    (last, (_, _, _, side)), (first, (dx, *_)) = given[:2]
    assert not last
    assert first["add"] is not None
    assert np.shares_memory(dx, side)
    assert np.shares_memory(fused["dx0"], side)
    assert_same(fused, run(build(False), x))


def test_the_first_batch_norm_adds_the_gradient_of_the_block():
    """That of the caller, which stays as it is."""

    def build(fuse, kind=nn.BatchNorm1d):
        nn.manual_seed(3)
        return perturb(nn.Residual(kind(6), nn.ReLU(), nn.Linear(6, 6), fuse=fuse))

    class Doubling(nn.BatchNorm1d):
        def backward(self, dy, *, need_input_grad=True):
            return super().backward(2 * dy, need_input_grad=need_input_grad)

    x, dy = normal((9, 6), "float32"), normal((9, 6), "float32", seed=4)
    before = dy.copy()
    for kind in (nn.BatchNorm1d, Doubling):
        fused, plain = build(True, kind), build(False, kind)
        for model in (fused, plain):
            model(x)
        np.testing.assert_array_equal(fused.backward(dy), plain.backward(dy), strict=True)
        assert_same(run(fused, x), run(plain, x))
    np.testing.assert_array_equal(dy, before)
