"""parallel.NCCL against a stand-in for NCCL: threads with arrays of the stand-in for CuPy.

NCCL itself is seen by tests/test_gpu_layers.py alone, with one GPU.
"""

from __future__ import annotations

import sys

import fake_nccl
import numpy as np
import pytest
from helpers import assert_same
from onepass import parallel
from onepass.parallel import _collectives
from ranks import Exchanging, Verbs, run_threads

each_ident = pytest.mark.parametrize("ident", [fake_nccl.IDENT, bytes(range(128))], ids=type)


def of_rank(rank, shape=(3, 4), dtype="float32"):
    return (np.arange(12).reshape(3, 4) * (rank + 1) % 7).astype(dtype).reshape(shape)


@each_ident
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_arrays_of_cupy_go_by_nccl_and_those_of_numpy_do_not(monkeypatch, ident, dtype):
    fake_nccl.install(monkeypatch, 3, ident)
    import cupy

    def call(host):
        comm = parallel.NCCL(host)
        before = len(host.calls)
        x, y = (cupy.asarray(of_rank(comm.rank, dtype=dtype)) for _ in range(2))
        comm.sum_(x)
        comm.broadcast_(y, 2)
        comm.sum_(cupy.zeros((0,), dtype))
        assert len(host.calls) == before
        z = of_rank(comm.rank, dtype=dtype)
        comm.sum_(z)
        w = of_rank(comm.rank, dtype=dtype)
        comm.broadcast_(w, 1)
        comm.barrier()
        assert [name for name, _ in host.calls[before:]] == ["sum_", "broadcast_"]
        return comm.rank, comm.size, x.get(), y.get(), z, w

    every = [of_rank(rank, dtype=dtype) for rank in range(3)]
    for rank, got in enumerate(run_threads(call, 3)):
        assert got[:2] == (rank, 3)
        for array, want in zip(got[2:], (sum(every), every[2], sum(every), every[1]), strict=True):
            assert_same(array, want.astype(dtype))


@pytest.mark.parametrize("shape", [(5,), (10_001,)])
@pytest.mark.parametrize("library", ["cupy", "numpy"])
def test_the_tree(monkeypatch, shape, library):
    fake_nccl.install(monkeypatch, 4)
    import cupy

    parts = [np.random.default_rng(rank).standard_normal(shape) for rank in range(4)]

    def call(host):
        comm = parallel.NCCL(host)
        x = parts[comm.rank].copy()
        x = cupy.asarray(x) if library == "cupy" else x
        _collectives.tree_sum_(comm, x)
        return x.get() if library == "cupy" else x

    for kind in (Exchanging, Verbs):
        fake_nccl.install(monkeypatch, 4)
        for got in run_threads(call, 4, kind):
            assert_same(got, (parts[0] + parts[1]) + (parts[2] + parts[3]))


class Optimizer:
    """What a reduction reads of one: those over CuPy's arrays need a build with CUDA."""

    def __init__(self, params):
        self.param_groups = [{"params": params}]


def test_gradients_on_a_device_and_on_the_host(monkeypatch):
    fake_nccl.install(monkeypatch, 2)
    import cupy

    def call(host):
        comm = parallel.NCCL(host)
        arrays = [cupy.zeros(3, "float16"), cupy.zeros((2, 2), "float32"), np.zeros(2)]
        grads = [cupy.ones(3, "float16"), None if comm.rank else cupy.ones((2, 2), "float32"),
                 np.ones(2)]  # fmt: skip
        optimizers = [Optimizer(arrays[:2]), Optimizer(arrays[2:])]
        first = grads[:2]
        parallel.all_reduce_gradients(optimizers[0], comm, first)
        parallel.all_reduce_gradients(optimizers[1], comm, last := grads[2:])
        return [g.get() for g in first] + last

    for got in run_threads(call, 2):
        assert_same(got[0], np.full(3, 2, np.float16))
        assert_same(got[1], np.ones((2, 2), np.float32))
        assert_same(got[2], np.full(2, 2.0))


def test_what_is_not_an_array_of_this_device_is_refused(monkeypatch):
    fake_nccl.install(monkeypatch, 1)
    import cupy

    comm = parallel.NCCL(parallel.Alone())
    with cupy.cuda.Device(1):
        elsewhere = cupy.zeros(3)
    with pytest.raises(TypeError, match="NCCL: 'array' is a ndarray on <CUDA Device 1>, expected"):
        comm.sum_(elsewhere)
    with pytest.raises(TypeError, match="NCCL: 'array' has dtype float16, expected float32"):
        comm.sum_(cupy.zeros(3, "float16"))
    with pytest.raises(ValueError, match="NCCL: 'array' of shape"):
        comm.sum_(cupy.zeros((4, 4))[::2, ::2])
    with pytest.raises(ValueError, match="NCCL: 'root' is 1, expected"):
        comm.broadcast_(cupy.zeros(3), 1)
    with pytest.raises(TypeError, match="MPI: 'array' is on <CUDA Device 0>, expected the CPU"):
        parallel._protocol.check("MPI", cupy.zeros(3), on="cpu")


def test_calls_count_as_those_that_others_wait_for(monkeypatch):
    fake_nccl.install(monkeypatch, 1)
    import cupy

    host = parallel.Alone()
    entered = []
    host._enter = lambda: entered.append(1)
    comm = parallel.NCCL(host)
    comm.sum_(cupy.zeros(3))
    comm.broadcast_(cupy.zeros(3))
    assert len(entered) == 2


@pytest.mark.parametrize("missing", ["cupy", "cupy.cuda.nccl"])
def test_without_cupy_or_nccl(monkeypatch, missing):
    fake_nccl.install(monkeypatch, 1)
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "cupy.cuda.nccl":
        monkeypatch.delattr("cupy.cuda.nccl")
    with pytest.raises(ModuleNotFoundError, match=r"NCCL: CuPy with NCCL .* pip install onepass\["):
        parallel.NCCL(parallel.Alone())
