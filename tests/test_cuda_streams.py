"""Streams, devices and contexts of CUDA arrays, and other libraries that lend them."""

from __future__ import annotations

import ctypes
import sys

import fake_cupy
import numpy as np
import pytest
from helpers import Exported
from onepass import _C, ops, optim
from small_cuda import Foreign, on_device, values

relu = _C.activation["relu"]


def test_a_call_runs_on_the_current_stream_of_the_arrays_device(cupy, simulator):
    x = cupy.asarray(values(40))
    with cupy.cuda.Device(1):
        far = cupy.asarray(values(40))
        there = cupy.cuda.Stream(non_blocking=True)
    here = cupy.cuda.Stream(non_blocking=True)
    ops.relu(x)
    with here:
        ops.relu(x)
        ops.relu(far)  # the stream of device 1 is another
        with there:
            assert ops.relu(far).device.id == 1
            ops.global_norm([far])
            ops.cross_entropy(far.reshape(8, 5), on_device(1, np.zeros(8, np.int64)))
            optim.AdamW([far]).step([on_device(1, values(40))])
        optim.AdamW([x]).step([x.copy()], max_norm=1.0)
    want = [(0, 0), (0, here.ptr), (1, 0), *[(1, there.ptr)] * 4, *[(0, here.ptr)] * 2]
    assert simulator.device_calls() == want
    assert simulator.current_device(0) == 0  # as it was before
    assert fake_cupy.state.waits == []


def test_no_device_but_that_of_the_arrays_gets_a_context(cupy, simulator):
    """It takes memory there. What is current in the calling thread is so afterwards."""
    with cupy.cuda.Device(1):
        stream = cupy.cuda.Stream(non_blocking=True)
    for current in (None, 1):
        simulator.forget_contexts()
        if current is not None:
            simulator.current_device(current)
        far, grad = on_device(1, values(40)), on_device(1, values(40))
        optimizer = optim.AdamW([far])
        optimizer.step([grad], max_norm=1.0, nonfinite="skip")
        ops.relu(far)
        ops.dropout(far, 0.5, seed=1)
        ops.dropout_mask(40, seed=1, out=on_device(1, np.zeros(40, np.bool_)))
        ops.cross_entropy(far.reshape(8, 5), on_device(1, np.zeros(8, np.int64)))
        ops.layer_norm(far.reshape(8, 5), 5)
        ops.global_norm([far])
        if current is not None:  # which the interface means
            relu(Foreign(far), on_device(1, np.zeros(40, np.float32)))
        with stream:
            stream.begin_capture()
            optimizer.step([grad])
            stream.end_capture()
        optimizer.param_groups[0]["lr"] = 0.5  # is written to the device
        assert simulator.contexts() == ([1], current is None)
    simulator.current_device(0)


def test_work_of_another_library_comes_first_and_the_call_before_what_follows(cupy, simulator):
    x, theirs = cupy.asarray(values(12)), Foreign(cupy.zeros(12, np.float32), stream=0x77)
    with cupy.cuda.Stream() as ours:
        relu(x, theirs)
    # The stream of x, the first input, takes the call; that of 'out' is waited for, and waits.
    assert simulator.device_calls() == [(0, ours.ptr)]
    assert fake_cupy.state.waits == [(ours.ptr, 0x77), (0x77, ours.ptr)]
    assert np.array_equal(theirs.array.get(), np.maximum(values(12), 0))
    del fake_cupy.state.waits[:]
    params, grads = [cupy.ones(5, np.float32)], [Foreign(cupy.ones(5, np.float32), stream=0x88)]
    optimizer = optim.SGD(params, lr=1.0)
    optimizer.step(grads)
    optimizer.step(grads)
    assert fake_cupy.state.waits == [(0, 0x88), (0x88, 0)] * 2
    assert params[0].get().tolist() == [-1] * 5
    del fake_cupy.state.waits[:]
    relu(x, Foreign(cupy.zeros(12, np.float32), stream=1))  # 1 is the default stream, as is 0
    relu(Foreign(x, stream=None, version=2), cupy.zeros(12, np.float32))
    assert fake_cupy.state.waits == []


def test_the_interface_alone_names_no_device(cupy, simulator):
    """It is the current one, and asking for that makes no other device the current one."""
    there = on_device(1, values(12)), on_device(1, np.zeros(12, np.float32))
    simulator.current_device(1)
    try:
        relu(*map(Foreign, there))
        assert simulator.device_calls() == [(1, 0)]
        assert simulator.current_device(1) == 1
    finally:
        simulator.current_device(0)
    assert np.array_equal(there[1].get(), np.maximum(values(12), 0))


class OfJax(Exported):
    __module__ = "jaxlib._jax"


def test_arrays_of_jax_on_a_device_are_refused(cupy, simulator):
    """XLA may reuse their memory while a kernel reads it."""
    x, out = OfJax(values(12), (2, 0)), cupy.zeros(12, np.float32)
    said = r"is a JAX array on a CUDA device, .*expected one on the CPU, or .*numpy.asarray\(x\)"
    with pytest.raises(TypeError, match=f"'x' {said}"):
        relu(x, out)
    params = [cupy.ones(12, np.float32)]
    optimizer = optim.SGD(params, lr=1.0)
    with pytest.raises(TypeError, match=said):
        optimizer.step([x])
    assert x.asked == []  # nothing was exported
    assert simulator.device_calls() == []
    assert (out.get() == 0).all()
    assert (params[0].get() == 1).all()
    relu(cupy.asarray(values(12)), out)
    assert np.array_equal(out.get(), np.maximum(values(12), 0))


def test_the_exchange_table_of_a_library_names_its_stream(cupy, simulator):
    class Exchanged:
        def __init__(self, array):
            self.array = array

    x, out = Exchanged(cupy.asarray(values(30))), Exchanged(cupy.zeros(30, np.float32))
    Exchanged.__dlpack_c_exchange_api__ = exchange_table(stream=0x99)
    relu(x, out)
    assert simulator.device_calls() == [(0, 0x99)]
    assert np.array_equal(out.array.get(), np.maximum(values(30), 0))
    assert fake_cupy.state.waits == []


def exchange_table(stream):
    """A DLPackExchangeAPI for objects whose `array` is CuPy's."""

    def structure(name, **fields):
        return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})

    pointer, numbers = ctypes.c_void_p, ctypes.POINTER(ctypes.c_int64)
    Tensor = structure(
        "Tensor", data=pointer, device_type=ctypes.c_int32, device_id=ctypes.c_int32,
        ndim=ctypes.c_int32, code=ctypes.c_uint8, bits=ctypes.c_uint8, lanes=ctypes.c_uint16,
        shape=numbers, strides=numbers, byte_offset=ctypes.c_uint64,
    )  # fmt: skip
    view_type = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(Tensor))
    stream_type = ctypes.PYFUNCTYPE(
        ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p)
    )

    Table = structure(
        "Table", major=ctypes.c_uint32, minor=ctypes.c_uint32, previous=pointer, allocate=pointer,
        from_object=pointer, to_object=pointer, view=view_type, current_work_stream=stream_type,
    )  # fmt: skip
    kept = []

    @view_type
    def view(given, to):
        array = given.array
        dims = (ctypes.c_int64 * 2)(array.size, 1)
        kept.append(dims)
        strides = ctypes.cast(ctypes.byref(dims, 8), numbers)
        to[0] = Tensor(array.data.ptr, 2, array.device.id, 1, 2, 32, 1, dims, strides, 0)
        return 0

    @stream_type
    def current_work_stream(device_type, device, to):
        assert device_type == 2
        to[0] = stream
        return 0

    table = Table(1, 3, None, None, None, None, view, current_work_stream)
    kept += [table, view, current_work_stream]
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = (
        ctypes.py_object,
        [pointer, ctypes.c_char_p, pointer],
    )
    capsule = new(ctypes.addressof(table), b"dlpack_exchange_api", None)
    exchange_table.kept = kept
    return capsule


def test_memory_of_a_library_that_lends_none_comes_from_another(cupy, monkeypatch, simulator):
    x = Foreign(cupy.asarray(values(12)), stream=0x77)
    norm = ops.global_norm([x])
    assert isinstance(norm, fake_cupy.ndarray)
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match=r"a call on Foreign needs memory.*import cupy or torch"):
        ops.global_norm([x])
    with pytest.raises(TypeError, match=r"cannot be allocated for Foreign: pass 'out'"):
        ops.relu(x)
