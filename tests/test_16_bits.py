"""Modules on float16 and bfloat16: computed in float32, stored as x is, from images to logits."""

from __future__ import annotations

import copy

import fake_cupy
import numpy as np
import pytest
from onepass import nn
from small_models import assert_same, grads, normal
from test_init_apply import EVERY, made

DTYPES = ["float16", "bfloat16"]
UNIT = {"float16": 2.0**-11, "bfloat16": 2.0**-8}  # the largest relative error of a rounding


def dtype_of(name):
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else name)


LAYERS = {
    "linear": lambda: [nn.Linear(5, 7)],
    "without bias": lambda: [nn.Linear(5, 7, bias=False)],
    "fused": lambda: [nn.Linear(5, 7), nn.GELU(), nn.Dropout(0.3)],
    "weight norm": lambda: [nn.WeightNorm(nn.Linear(5, 7))],
    "convolution": lambda: [nn.Conv2d(4, 7, 3), nn.ReLU()],
    "decorrelated": lambda: [nn.DecorrelatedBatchNorm(4, 2)],
}


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("layers", LAYERS)
def test_a_layer_has_the_bits_of_float32_rounded_once(layers, name):
    dtype = dtype_of(name)
    narrow = nn.Sequential(*LAYERS[layers]())
    wide = copy.deepcopy(narrow)  # the streams of dropout too
    images = layers in ("convolution", "decorrelated")
    shapes = [(2, 4, 5, 6)] if images else [(3, 5), (2, 3, 5), (0, 5)]
    for shape in shapes:
        for seed in range(2):  # the second call writes where the first did
            x = normal(shape, seed=seed).astype(dtype)
            y, y32 = narrow(x), wide(x.astype(np.float32))
            np.testing.assert_array_equal(y, y32.astype(dtype), strict=True)
            dy = (y32 * 0.7 + 0.1).astype(dtype)
            dx, dx32 = narrow.backward(dy), wide.backward(dy.astype(np.float32))
            np.testing.assert_array_equal(dx, dx32.astype(dtype), strict=True)
            assert_same(grads(narrow), grads(wide))
    with pytest.raises(TypeError, match="float32"):
        narrow.backward(dy.astype(np.float32))


SHAPES = [(8, 4), (8, 3), (4, 4, 5), (4, 4, 5, 5), (4, 4, 5, 5, 5)]


@pytest.mark.parametrize("cls", [cls for cls in EVERY if cls is not nn.ModuleList])
def test_every_module_takes_them_where_it_takes_float32(cls):
    layer, taken = made(cls), 0
    for shape in SHAPES:
        x = normal(shape, "float32")
        try:
            layer(x)
        except (TypeError, ValueError):
            continue
        y = layer(x.astype(np.float16))
        dx = layer.backward(np.ones_like(y))
        assert (y.dtype, dx.dtype, dx.shape) == (np.float16, np.float16, shape)
        assert all(gradient.dtype == np.float32 for gradient in grads(layer).values())
        taken += 1
    assert taken, "no shape here is one that it takes"


def test_on_a_device_too(monkeypatch):
    fake_cupy.install(monkeypatch)
    layer = nn.Linear(5, 7, bias=False)  # a bias is added by a kernel
    x, dy = normal((3, 5), "float16"), normal((3, 7), "float16")
    layer(x.astype(np.float32))
    want = layer.backward(dy.astype(np.float32)).astype(np.float16)
    layer.to("cuda")
    assert layer(fake_cupy.asarray(x)).dtype == "float16"
    dx = layer.backward(fake_cupy.asarray(dy))
    np.testing.assert_array_equal(dx.get(), want, strict=True)


@pytest.mark.parametrize("channels_last", [None, True])
@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("name", DTYPES)
def test_images_reach_the_logits_and_every_gradient_is_near_that_of_float64(
    name, fuse, channels_last
):
    dtype = dtype_of(name)

    def model(width):
        nn.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False, channels_last=channels_last, dtype=width),
            nn.BatchNorm2d(8, dtype=width),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Residual(nn.Conv2d(8, 8, 3, padding=1, groups=8, dtype=width), nn.SiLU()),
            nn.Flatten(),
            nn.Linear(8 * 3 * 4, 16, dtype=width),
            nn.LayerNorm(16, dtype=width),
            nn.GELU(),
            nn.Linear(16, 5, dtype=width),
            fuse=fuse,
        )

    narrow, wide = model("float32"), model("float64")
    wide.load_state_dict({k: v.astype(float) for k, v in narrow.state_dict().items()})
    x, target = normal((12, 3, 6, 8)).astype(dtype), np.arange(12) % 5
    found = {}
    for key, net, images in (("narrow", narrow, x), ("wide", wide, x.astype(float))):
        y = net(images)
        assert y.dtype == images.dtype
        loss, dy = nn.CrossEntropyLoss()(y, target)
        dx = net.backward(dy)
        assert dx.dtype == images.dtype
        found[key] = {"y": y, "loss": np.asarray(loss), "dx": dx, **grads(net)}
    # Ten arrays are rounded on the way to the loss and ten on the way back.
    for part, want in found["wide"].items():
        error = np.linalg.norm(found["narrow"][part].astype(float) - want)
        assert error <= 20 * UNIT[name] * np.linalg.norm(want), part
