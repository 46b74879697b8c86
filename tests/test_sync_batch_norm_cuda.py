"""Batch norm over ranks on CUDA arrays: fake_cupy's, with the simulator of tests/cuda_sim."""

from __future__ import annotations

import fake_cupy
import numpy as np
import pytest
from cases.norms import BatchNorm
from onepass import nn
from onepass.nn._shares import place
from ranks import run_threads
from small_models import normal
from small_ranks import shares_of


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["first", "last"])
def test_everything_stays_on_the_device(cupy, layout, dtype):
    """The same calls as on the CPU. The host waits for nothing but, on a rank without samples,
    whether the others have enough.
    """
    x, dy = normal((9, 3, 4, 5), dtype), normal((9, 3, 4, 5), dtype, seed=2)
    want = BatchNorm(x.astype(np.float64), np.ones(3), np.zeros(3), np.zeros(3), np.ones(3),
                     training=True, activation="relu")  # fmt: skip
    parts = shares_of(len(x), [0.3, 0.3])

    def run(rank):
        rows = parts[rank.rank]
        model = nn.Sequential(nn.BatchNorm2d(3, dtype=dtype), nn.ReLU()).to("cuda")
        nn.convert_sync_batch_norm(model, rank)
        given, grad = (fake_cupy.cupy.asarray(a[rows]) for a in (x, dy))
        if layout == "last":
            given = fake_cupy.cupy.asarray(np.moveaxis(x[rows], 1, -1).copy()).transpose(0, 3, 1, 2)
        place(model, rows.start)
        before = fake_cupy.state.synchronised
        y = model(given)
        dx = model.backward(grad)
        assert fake_cupy.state.synchronised == before + (len(y) == 0)
        norm = model[0]
        found = [y, dx, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]
        assert all(isinstance(array, fake_cupy.ndarray) for array in found)
        return [array.get() for array in found]

    y, dx, dweight, dbias, mean, var = zip(*run_threads(run, 3, in_turn=True), strict=True)
    near = {"rtol": 2e-5, "atol": 2e-5} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-11}
    np.testing.assert_allclose(np.concatenate(y), want.y, **near)
    wanted = want.backward(dy.astype(np.float64))
    np.testing.assert_allclose(np.concatenate(dx), wanted[0], **near)
    np.testing.assert_allclose(sum(dweight), wanted[1], rtol=near["rtol"], atol=1e-4)
    np.testing.assert_allclose(sum(dbias), wanted[2], rtol=near["rtol"], atol=1e-4)
    for moved, wanted in ((mean, want.running_mean), (var, want.running_var)):
        np.testing.assert_allclose(moved[0], wanted, **near)
        assert all((each == moved[0]).all() for each in moved)
