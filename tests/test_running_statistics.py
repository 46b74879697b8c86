"""Running statistics with a momentum of 0 stay what they are, whatever the batch holds."""

from __future__ import annotations

import numpy as np
import pytest
from cases import computing
from helpers import each_dtype
from onepass import nn, ops
from small_cuda import to_device, to_host

ODD = [np.inf, -np.inf, np.nan]
each_odd = pytest.mark.parametrize("odd", ODD)


def batch(odd, shape, dtype, last):
    """One element is odd; in float64 the sums of a second channel leave the range."""
    x = np.random.default_rng(7).standard_normal(shape)
    x[0, 0, ...] = odd
    if np.dtype(dtype) == np.float64:
        x[:, 1] *= 1e200
    return np.ascontiguousarray(np.moveaxis(x, 1, -1) if last else x).astype(dtype)


def batch_norm(x, mean, var, last):
    ops.batch_norm(x, None, None, mean, var, training=True, momentum=0.0, channels_last=last)


def batch_renorm(x, mean, var, last):
    ops.batch_renorm(x, None, None, mean, var, training=True, momentum=0.0, channels_last=last)


def instance_norm(x, mean, var, last):
    ops.instance_norm(x, mean, var, momentum=0.0)


NORMS = [
    (norm, last)
    for norm in (batch_norm, batch_renorm, instance_norm)
    for last in ((False, True) if norm is not instance_norm else (False,))
]
each_norm = pytest.mark.parametrize(
    ("norm", "last"), NORMS, ids=[f"{norm.__name__}{'-last' * last}" for norm, last in NORMS]
)
SHAPES = [(2, 3, 4, 4), (5, 3, 2), (64, 17, 7, 7), (2, 3, 40)]


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@each_norm
@each_odd
@each_dtype
def test_functions_keep_them(norm, last, odd, dtype):
    for shape in SHAPES:
        x = batch(odd, shape, dtype, last)
        mean = np.full(shape[1], 2.0, computing(dtype))
        var = np.full(shape[1], 5.0, computing(dtype))
        norm(x, mean, var, last)
        assert (mean == 2).all(), shape
        assert (var == 5).all(), shape


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@each_norm
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_of_a_device_keep_them(cupy, norm, last, dtype):
    for odd in ODD:
        for shape in SHAPES[:2]:
            x = to_device(batch(odd, shape, dtype, last))
            mean, var = (to_device(np.full(shape[1], v, dtype)) for v in (2.0, 5.0))
            norm(x, mean, var, last)
            assert (to_host(mean) == 2).all(), (odd, shape)
            assert (to_host(var) == 5).all(), (odd, shape)


MODULES = ["BatchNorm2d", "BatchRenorm", "InstanceNorm2d", "DecorrelatedBatchNorm"]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@each_odd
@pytest.mark.parametrize("name", MODULES)
def test_modules_keep_them(name, odd):
    more = {"track_running_stats": True} if name == "InstanceNorm2d" else {}
    layer = getattr(nn, name)(3, momentum=0.0, **more)
    before = layer.state_dict()
    for last in (False, True):
        x = batch(odd, (4, 3, 5, 4), np.float32, last)
        layer(x.transpose(0, 3, 1, 2) if last else x)
    for key, value in layer.state_dict().items():
        if "running" in key:
            np.testing.assert_array_equal(value, before[key])


@each_odd
@pytest.mark.parametrize("name", ["BatchNorm2d", "BatchRenorm", "InstanceNorm2d"])
def test_modules_of_the_front_keep_them(name, odd):
    torch = pytest.importorskip("torch")
    front = pytest.importorskip("onepass.torch.nn")
    more = {"track_running_stats": True} if name == "InstanceNorm2d" else {}
    layer = getattr(front, name)(3, momentum=0.0, **more)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    x = torch.from_numpy(batch(odd, (4, 3, 5, 4), np.float32, False))
    for order in (torch.contiguous_format, torch.channels_last):
        layer(x.contiguous(memory_format=order))
    for key, value in layer.state_dict().items():
        if "running" in key:
            assert torch.equal(value, before[key]), key
