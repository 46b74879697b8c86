"""A stand-in for CuPy over host memory, for tests that run where there is no GPU.

``cupy`` is a module with CuPy's names for what onepass and its tests use; ``install(monkeypatch)``
puts it in CuPy's place for a test. Arrays say that they lie on CUDA device 0 or 1, and turn into
NumPy arrays by ``get()`` alone, as CuPy's do. Device memory is host memory, so the simulator of
tests/cuda_sim can be the CUDA backend.

For tests: ``state.allocations`` and ``state.live`` count arrays with memory of their own,
``state.limit`` (bytes that an allocation may have) lets the allocator run out, ``state.waits``
lists (stream, stream it was made to wait for), ``state.synchronised`` counts waits of the host, in
the thread that asks.
"""

from __future__ import annotations

import sys
import threading
import types
import weakref
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

DEVICES = 2


class State:
    def __init__(self) -> None:
        self.device = 0
        self.streams: dict[int, Stream] = {}  # of each device, where it is not the null stream
        self.allocations = 0
        self._waits = threading.local()
        self.live: weakref.WeakSet[MemoryPointer] = weakref.WeakSet()
        self.limit: float = float("inf")
        self.waits: list[tuple[int, int]] = []
        self.next_stream = 0x5000
        self.captured: int | None = None  # the stream that a graph is made of
        self.recorder: Any = None  # the simulator, which keeps the launches of a graph

    @property
    def synchronised(self) -> int:
        return getattr(self._waits, "count", 0)

    @synchronised.setter
    def synchronised(self, count: int) -> None:
        self._waits.count = count


state: State


def reset() -> None:
    """One state for each test: device 0, the null stream, nothing allocated."""
    global state
    state = State()


# ------------------------------------------------------------------------------ devices, streams


class Device:
    def __init__(self, device: Any = None) -> None:
        self.id = state.device if device is None else int(device)
        if not 0 <= self.id < DEVICES:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        self._before: list[int] = []

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def __enter__(self) -> Device:
        self._before.append(state.device)
        state.device = self.id
        return self

    def __exit__(self, *_: object) -> None:
        state.device = self._before.pop()

    def use(self) -> None:
        state.device = self.id

    def synchronize(self) -> None:
        state.synchronised += 1


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class Event:
    def __init__(
        self, block: bool = False, disable_timing: bool = False, interprocess: bool = False
    ) -> None:
        self._stream: int | None = None

    def record(self, stream: Any = None) -> None:
        self._stream = (get_current_stream() if stream is None else stream).ptr


class Graph:
    """The launches that were captured, without what CuPy itself computes meanwhile."""

    def __init__(self, recorder: Any, number: int | None) -> None:
        self._recorder, self._number = recorder, number

    def launch(self, stream: Any = None) -> None:
        self._recorder.replay(self._number)


class _BaseStream:
    def __init__(self, ptr: int, device_id: int) -> None:
        self.ptr, self.device_id = ptr, device_id
        self._before: list[Any] = []

    def _device(self) -> int:
        return state.device if self.device_id < 0 else self.device_id

    def use(self) -> Any:
        state.streams[self._device()] = self
        return self

    def __enter__(self) -> Any:
        self._before.append((self._device(), state.streams.get(self._device())))
        return self.use()

    def __exit__(self, *_: object) -> None:
        device, before = self._before.pop()
        if before is None:
            del state.streams[device]
        else:
            state.streams[device] = before

    def wait_event(self, event: Event) -> None:
        assert event._stream is not None, "an event that was not recorded"
        if state.captured == self.ptr != event._stream:
            raise CUDARuntimeError(
                "cudaErrorStreamCaptureIsolation: dependency created on uncaptured work in another "
                "stream"
            )
        state.waits.append((self.ptr, event._stream))

    def record(self, event: Event | None = None) -> Event:
        event = Event() if event is None else event
        event.record(self)
        return event

    def synchronize(self) -> None:
        state.synchronised += 1

    def begin_capture(self, mode: Any = None) -> None:
        state.captured = self.ptr
        if state.recorder is not None:
            state.recorder.start_recording()

    def end_capture(self) -> Graph:
        state.captured = None
        recorder = state.recorder
        return Graph(recorder, None if recorder is None else recorder.stop_recording())

    def is_capturing(self) -> bool:
        return state.captured == self.ptr


class Stream(_BaseStream):
    null: Stream

    def __init__(
        self,
        null: bool = False,
        non_blocking: bool = False,
        ptds: bool = False,
        priority: int | None = None,
    ) -> None:
        ptr = 0
        if not null:
            state.next_stream += 0x10
            ptr = state.next_stream
        super().__init__(ptr, -1 if null else state.device)


class ExternalStream(_BaseStream):
    def __init__(self, ptr: int, device_id: int = -1) -> None:
        super().__init__(ptr, device_id)


def get_current_stream(device_id: int = -1) -> Any:
    return state.streams.get(state.device if device_id < 0 else device_id, Stream.null)


# --------------------------------------------------------------------------------------- memory


class MemoryPointer:
    """A place in device memory, and the host array that is that memory."""

    def __init__(self, host: Any, device_id: int) -> None:
        self._host, self.device_id = host, device_id

    @property
    def ptr(self) -> int:
        return self._host.__array_interface__["data"][0] if self._host.size else 0


class Flags:
    def __init__(self, host: Any, owndata: bool) -> None:
        self.c_contiguous, self.f_contiguous = host.flags.c_contiguous, host.flags.f_contiguous
        self.owndata = owndata


class ndarray(NDArrayOperatorsMixin):  # noqa: N801
    __module__ = "cupy"
    __array_priority__ = 100

    def __init__(
        self, shape: Any, dtype: Any = float, memptr: Any = None, order: str = "C"
    ) -> None:
        host = np.empty(shape, dtype, order)
        if host.nbytes > state.limit:
            raise OutOfMemoryError(f"Out of memory allocating {host.nbytes:,} bytes.")
        _bytes(host)[...] = 0xFF  # nothing may count on zeros
        self._set(host, MemoryPointer(host, state.device), None)
        state.allocations += 1
        state.live.add(self.data)

    def _set(self, host: Any, data: Any, base: Any) -> None:
        self._host, self.data, self.base = host, data, base

    # ---- what it is

    shape = property(lambda self: self._host.shape)
    strides = property(lambda self: self._host.strides)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    device = property(lambda self: Device(self.data.device_id))
    flags = property(lambda self: Flags(self._host, self.base is None))
    T = property(lambda self: self.transpose())

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        stream = get_current_stream().ptr
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "stream": 1 if stream == 0 else stream,
            "version": 3,
            "strides": None if self._host.flags.c_contiguous else self.strides,
            "data": (self.data.ptr, False),
        }

    def __dlpack_device__(self) -> tuple[int, Any]:
        return 2, self.device

    # ---- to the host

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct "
            "a NumPy array explicitly."
        )

    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> Any:
        state.synchronised += 1
        if out is None:
            return self._host.copy(order)
        out[...] = self._host
        return out

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def __bool__(self) -> bool:
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __index__(self) -> int:
        return int(self.get().__index__())

    def __len__(self) -> int:
        return len(self._host)

    def __repr__(self) -> str:
        return repr(self.get())

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(self.item() if self.ndim == 0 and spec else str(self), spec)

    # ---- copies and views

    def set(self, arr: Any, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype or arr.shape != self.shape:
            raise ValueError(f"Shape mismatch: {arr.dtype}{arr.shape}, {self.dtype}{self.shape}")
        self._host[...] = arr

    def copy(self, order: str = "C") -> ndarray:
        return _owned(self._host.copy(order))

    def astype(
        self,
        dtype: Any,
        order: str = "K",
        casting: Any = None,
        subok: Any = None,
        copy: bool = True,
    ) -> ndarray:
        if not copy and np.dtype(dtype) == self.dtype:
            return self
        return _owned(self._host.astype(dtype, order))

    def view(self, dtype: Any = None) -> ndarray:
        return _view(self, self._host.view(self.dtype if dtype is None else dtype))

    def reshape(self, *shape: Any, order: str = "C") -> ndarray:
        host = self._host.reshape(*shape, order=order)
        return _view(self, host) if np.may_share_memory(host, self._host) else _owned(host)

    def transpose(self, *axes: Any) -> ndarray:
        return _view(self, self._host.transpose(*axes))

    def fill(self, value: Any) -> None:
        self._host.fill(_host_of(value))

    def __getitem__(self, key: Any) -> ndarray:
        keys = tuple(map(_host_of, key if isinstance(key, tuple) else (key,)))
        if not any(k is Ellipsis for k in keys):
            keys = (*keys, Ellipsis)  # an element is an array of no axes
        host = self._host[keys]
        return _view(self, host) if np.may_share_memory(host, self._host) else _owned(host)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[_host_of(key)] = _host_of(value)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __getattr__(self, name: str) -> Any:
        if name not in METHODS:
            raise AttributeError(f"'ndarray' object has no attribute {name!r}")
        return lambda *args, **keywords: _call(getattr(self._host, name), args, keywords)

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> ndarray:
        with self.device:
            return self.copy()

    def __reduce__(self) -> Any:
        return array, (self.get(),)

    # ---- computing

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        outs = keywords.get("out")
        result = _call(getattr(ufunc, method), inputs, keywords)
        return outs[0] if outs else result

    def __array_function__(self, func: Any, types_: Any, args: Any, keywords: Any) -> Any:
        if not hasattr(cupy, func.__name__):
            return NotImplemented
        return getattr(cupy, func.__name__)(*args, **keywords)


METHODS = {"all", "any", "argmax", "argmin", "clip", "cumsum", "dot", "flatten", "max", "mean"}
METHODS |= {"min", "nonzero", "prod", "ravel", "repeat", "round", "squeeze", "std", "sum"}
METHODS |= {"swapaxes", "take", "var"}


def _bytes(host: Any) -> Any:
    """Every byte of a dense array."""
    return host.reshape(-1, order="A").view(np.uint8)


def _owned(host: Any) -> ndarray:
    """A new array on the current device with the values and strides of a host array."""
    host = np.asarray(host)
    made = ndarray(host.shape, host.dtype, order="C" if host.flags.c_contiguous else "F")
    if made.strides != host.strides and host.size:  # neither C nor Fortran order
        made._host = np.empty_like(host)
        made.data._host = made._host
    made._host[...] = host
    return made


def _view(of: ndarray, host: Any) -> ndarray:
    made = ndarray.__new__(ndarray)
    made._set(host, MemoryPointer(host, of.data.device_id), of if of.base is None else of.base)
    return made


def _host_of(value: Any) -> Any:
    """The memory of an argument as NumPy sees it. Refuses NumPy's own arrays, as CuPy does."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, (list, tuple)):
        return type(value)(map(_host_of, value))
    return value


def _call(function: Any, args: Any, keywords: Any) -> Any:
    keywords = {key: _host_of(value) for key, value in keywords.items()}
    return _wrapped(function(*map(_host_of, args), **keywords))


def _wrapped(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return _owned(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map(_wrapped, value))
    return value


# --------------------------------------------------------------------------------- the functions


def array(
    obj: Any,
    dtype: Any = None,
    copy: bool = True,
    order: str = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> ndarray:
    host = obj._host if isinstance(obj, ndarray) else obj
    if isinstance(obj, (list, tuple)) and any(isinstance(o, ndarray) for o in obj):
        host = [o._host if isinstance(o, ndarray) else o for o in obj]
    if not isinstance(host, (np.ndarray, np.generic, list, tuple, int, float)):
        raise ValueError("Unsupported dtype object")
    return _owned(np.array(host, dtype, order=order, ndmin=ndmin))


def asarray(
    a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False
) -> ndarray:
    same = isinstance(a, ndarray) and a.data.device_id == state.device
    if same and (dtype is None or np.dtype(dtype) == a.dtype) and order is None:
        return a
    return array(a, dtype, order=order or "K")


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    if isinstance(a, ndarray) and a.flags.c_contiguous and dtype in (None, a.dtype):
        return a
    return array(a, dtype, order="C")


def asnumpy(
    a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True
) -> Any:
    return a.get(stream, order, out) if isinstance(a, ndarray) else np.asarray(a, order=order)


def _filled(value: Any) -> Any:
    def make(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
        made = ndarray(shape, dtype, order=order)
        if value is not None:
            made._host[...] = value
        return made

    return make


def _filled_like(value: Any) -> Any:
    def make(a: ndarray, dtype: Any = None, order: str = "K", subok: Any = None,
             shape: Any = None) -> ndarray:  # fmt: skip
        if subok is not None:
            raise TypeError("subok is not supported yet")
        made = _owned(np.empty_like(a._host, dtype, order, shape=shape))
        _bytes(made._host)[...] = 0xFF
        if value is not None:
            made._host[...] = value
        return made

    return make


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    return _owned(np.full(shape, _host_of(fill_value), dtype, order))


# Taken from NumPy as they are, arrays unwrapped and results wrapped.
FUNCTIONS = """
abs absolute add all allclose any arange argmax argmin argsort array_equal broadcast_to clip
concatenate cumsum divide dot equal exp expand_dims flatnonzero greater isfinite isnan less linspace
log log1p maximum mean median minimum moveaxis multiply negative percentile power prod ravel reshape
sign split sqrt square squeeze stack std subtract sum swapaxes take tanh tensordot transpose unique
var vstack where
"""
CONSTANTS = """
bool_ dtype e finfo float16 float32 float64 iinfo inf int16 int32 int64 int8 nan newaxis pi uint16
uint32 uint64 uint8
"""


def matmul(a: ndarray, b: ndarray, out: Any = None) -> ndarray:
    """With the rules of a device: all operands on one."""
    if len({x.data.device_id for x in (a, b)}) > 1:
        raise ValueError("Array device must be same as the current device")
    result = _call(np.matmul, (a, b), {} if out is None else {"out": out})
    return result if out is None else out


def fuse() -> Any:
    """What CuPy makes one kernel of, here computes step by step."""
    return lambda function: function


def _module(name: str, **members: Any) -> Any:
    module = types.ModuleType(name)
    module.__dict__.update(members)
    return module


def _random(seed: Any = None) -> Any:
    generator = np.random.default_rng(seed)
    names = ("standard_normal", "random", "uniform", "normal", "integers")

    def draw(name: str) -> Any:
        return lambda *args, **keywords: _wrapped(getattr(generator, name)(*args, **keywords))

    return types.SimpleNamespace(**{name: draw(name) for name in names})


def _drawn(size: Any, dtype: Any = float) -> ndarray:
    return _owned(np.random.default_rng(0).random(size, dtype))


def _runtime(name: str) -> Any:
    def synchronise() -> None:
        state.synchronised += 1

    def set_device(device: int) -> None:
        Device(device).use()

    return _module(
        name,
        getDeviceCount=lambda: DEVICES,
        getDevice=lambda: state.device,
        setDevice=set_device,
        deviceSynchronize=synchronise,
        CUDARuntimeError=CUDARuntimeError,
    )


cuda = _module(
    "cupy.cuda",
    Device=Device,
    Event=Event,
    ExternalStream=ExternalStream,
    MemoryPointer=MemoryPointer,
    Stream=Stream,
    get_current_stream=get_current_stream,
    is_available=lambda: True,
    memory=_module("cupy.cuda.memory", OutOfMemoryError=OutOfMemoryError),
    runtime=_runtime("cupy.cuda.runtime"),
)
cupy = _module(
    "cupy",
    __version__="14.0.0",
    ndarray=ndarray,
    array=array,
    asarray=asarray,
    ascontiguousarray=ascontiguousarray,
    asnumpy=asnumpy,
    empty=_filled(None),
    zeros=_filled(0),
    ones=_filled(1),
    full=full,
    fuse=fuse,
    empty_like=_filled_like(None),
    zeros_like=_filled_like(0),
    ones_like=_filled_like(1),
    matmul=matmul,
    cuda=cuda,
    random=_module("cupy.random", default_rng=_random, random=_drawn),
)


def _forward(name: str) -> Any:
    return lambda *args, **keywords: _call(getattr(np, name), args, keywords)


for _name in FUNCTIONS.split():
    setattr(cupy, _name, _forward(_name))
cupy.add.reduceat = lambda *args, **keywords: _call(np.add.reduceat, args, keywords)
for _name in CONSTANTS.split():
    setattr(cupy, _name, getattr(np, _name))
reset()
Stream.null = Stream(null=True)


def install(monkeypatch: Any) -> Any:
    """The module, in place of CuPy for the rest of the test."""
    reset()
    for name, module in (("cupy", cupy), ("cupy.cuda", cuda)):
        monkeypatch.setitem(sys.modules, name, module)
    return cupy
