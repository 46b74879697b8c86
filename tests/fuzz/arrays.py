"""The array border: producers whose descriptions are odd, false or impossible.

Memory that a description names lies within memory of ours, or the description cannot be true: of a
false address nobody can know. A call then gives NumPy's result and touches nothing else, or raises
an error that is documented and touches nothing at all.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
from onepass import ops, optim

from fuzz.choices import Choices

ROOM = 64  # elements of float64 between the guards
GUARD = 32
FLOATS = {32: np.float32, 64: np.float64, 16: np.float16}
REFUSALS = (TypeError, ValueError, RuntimeError)  # see expect_documented
NO_CUDA = "lies on a CUDA device, but CUDA is not usable: "
CODES = (2, 2, 2, 2, 0, 1, 3, 4, 5, 6, 17, 255)
BFLOAT = 4
BITS = (32, 32, 64, 16, 8, 1, 0, 128, 12)


class Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("offset", ctypes.c_uint64),
    )


class Managed(ctypes.Structure):
    """DLManagedTensor, of capsules "dltensor"."""

    _fields_ = (("tensor", Tensor), ("manager", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class Versioned(ctypes.Structure):
    """DLManagedTensorVersioned, of capsules "dltensor_versioned"."""

    _fields_ = (
        ("version", ctypes.c_uint32 * 2),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    )


_new = ctypes.pythonapi.PyCapsule_New
_new.restype = ctypes.py_object
_new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
NAMES = (b"dltensor_versioned", b"dltensor", b"used_dltensor", b"", b"numpy")


class Producer:
    """One description of one piece of memory, and odd answers beside it."""

    def __init__(self, choices: Choices) -> None:
        self.whole = np.frombuffer(bytearray(range(1, 2 * GUARD + 1)) * 16, np.uint8).copy()
        room = self.whole[GUARD : GUARD + 8 * ROOM]
        # Numbers from -2 to 2, in every reading as floats not far from that.
        room.view(np.float64)[:] = np.linspace(-2, 2, ROOM)
        self.before = self.whole.copy()
        self.room = room
        self.name = choices.of(NAMES[:2] * 4 + NAMES)
        self.ndim = choices.of((1, 2, 2, 3, 1, 0, -1, 64, 65, 3))
        count = min(max(self.ndim, 0), 70)
        if count > 3:  # axes of one element but the last
            self.shape = [1] * (count - 1) + [choices.below(9)]
            self.strides = [choices.below(9) for _ in range(count)]
        else:
            self.shape = [choices.integer() for _ in range(count)]
            self.strides = [choices.integer() for _ in range(count)]
        self.code, self.bits = choices.of(CODES), choices.of(BITS)
        self.lanes = choices.of((1, 1, 1, 1, 1, 1, 0, 2, 65535))
        self.dense = choices.below(3) == 0
        self.null = choices.below(12) == 11
        self.no_shape = choices.below(16) == 15
        self.offset = choices.of((0, 0, 0, 8, 4, 1, 16))
        self.device = choices.of(((1, 0),) * 8 + ((2, 0), (3, 0), (8, 0), (13, 0), (0, 0), (-1, 9)))
        self.said = choices.of((self.device,) * 8 + (None, (1,), "xx", (1.5, 0), (2**40, 0)))
        self.version = choices.of(((1, 0),) * 4 + ((1, 3), (2, 0), (0, 8), (1, 2**31)))
        self.flags = choices.of((0, 0, 0, 1, 2, 3, 2**63))
        self.answer = choices.of(("capsule",) * 12 + ("none", "error", "system", "text", "self"))
        self.fickle = choices.below(8) == 7  # says something else when it is asked again
        self._kept: list[Any] = []

    def __dlpack_device__(self) -> Any:
        return self.said

    def __dlpack__(self, **options: Any) -> Any:
        if self.answer == "error":
            raise BufferError("no memory today")
        if self.answer == "system":
            raise OSError(5, "read error")
        if self.answer != "capsule":
            return {"none": None, "text": "capsule", "self": self}[self.answer]
        shape, bits = self.shape, self.bits
        if self.fickle and self._kept:
            shape, bits = [n // 2 for n in shape], 32 if bits == 64 else bits
        dims = (ctypes.c_int64 * 72)(*shape)
        strides = (ctypes.c_int64 * 72)(*self.strides)
        tensor = Tensor(
            None if self.null else self.room.ctypes.data, self.device, self.ndim, self.code,
            bits, self.lanes, None if self.no_shape else ctypes.addressof(dims),
            None if self.dense else ctypes.addressof(strides), self.offset,
        )  # fmt: skip
        managed: Any = Managed(tensor)
        if self.name != b"dltensor":
            managed = Versioned(self.version, None, None, self.flags, tensor)
        self._kept += [dims, strides, managed]
        return _new(ctypes.addressof(managed), self.name, None)

    @property
    def item(self) -> int:
        return self.bits // 8 * self.lanes

    def reach(self) -> tuple[int, int] | None:
        """The bytes of the room that the description names, from and to; None: of no memory."""
        if self.ndim < 0 or any(n < 0 for n in self.shape):
            return None
        if 0 in self.shape:
            return 0, 0
        strides = self.strides
        if self.dense:
            strides = [math.prod(self.shape[d + 1 :]) for d in range(len(self.shape))]
        steps = [(n - 1) * s * self.item for n, s in zip(self.shape, strides, strict=True)]
        low = self.offset + sum(s for s in steps if s < 0)
        return low, self.offset + sum(s for s in steps if s > 0) + self.item

    def plausible(self) -> bool:
        """Whether it could be true of memory that only its producer knows."""
        size, reach = math.prod(n for n in self.shape if n), self.reach()
        far = reach is not None and reach[1] - reach[0] - self.item >= 2**63
        return not self.null and not far and size * max(self.item, 1) < 2**63

    def inside(self) -> bool:
        reach = self.reach()
        return reach is None or (reach[0] >= 0 and reach[1] <= self.room.nbytes)

    def array(self, room: np.ndarray) -> np.ndarray:
        """NumPy's view of it, in that copy of the room; of bfloat16 a copy in float32."""
        dtype = np.dtype(np.uint16 if self.code == BFLOAT else FLOATS[self.bits])
        if 0 in self.shape:
            return np.zeros(self.shape, dtype)
        steps = zip(self.shape, self.strides, strict=True)
        strides = None if self.dense else [s * dtype.itemsize * (n > 1) for n, s in steps]
        view = np.ndarray(self.shape, dtype, room, self.offset, strides)
        if self.code == BFLOAT:
            return np.left_shift(view, 16, dtype=np.uint32).view(np.float32)
        return view

    def check_untouched(self) -> None:
        assert np.array_equal(self.whole, self.before), "memory was written"

    def check_refused(self, error: Exception) -> None:
        expect_documented(error)
        self.check_untouched()


def border(data: bytes) -> None:
    """The first byte says the call; the rest is the description."""
    choices = Choices(data)
    call = choices.of((_read, _read, _written, _step, _listed, _labels, _interface))
    if call is _interface:
        return _interface(choices)
    producer = Producer(choices)
    if producer.plausible() and not producer.inside():
        return None  # nobody can know
    if producer.plausible() and abs(math.prod(producer.shape)) > 10**6:
        return None  # a broadcast view, whose results take memory
    call(producer)
    return None


def expect_documented(error: Exception) -> None:
    """A RuntimeError is documented of memory on a device that cannot be used, and of nothing else:
    it is also what an exception of C++ becomes that nobody foresaw."""
    if isinstance(error, RuntimeError) and NO_CUDA not in str(error):
        raise error


def _read(given: Producer) -> None:
    try:
        got = ops.relu(given)
    except REFUSALS as error:
        return given.check_refused(error)
    with np.errstate(all="ignore"):
        want = np.maximum(given.array(given.room), 0)
    assert type(got) is np.ndarray
    assert np.array_equal(got, want, equal_nan=True)
    return given.check_untouched()


def _written(given: Producer) -> None:
    """As the output of a call: every element of it is written, and no other byte."""
    fits = all(0 <= n < 1000 for n in given.shape) and len(given.shape) <= 64
    shape = given.shape if fits else [3]
    x = np.linspace(-1, 1, math.prod(shape), dtype=FLOATS.get(given.bits, np.float32))
    x = x.reshape(shape)
    try:
        got = ops.sigmoid(x, out=given)
    except REFUSALS as error:
        return given.check_refused(error)
    assert got is given
    assert given.name == b"dltensor" or not given.flags & 1, "it was read-only"
    given.array(given.before[GUARD : GUARD + given.room.nbytes])[...] = ops.sigmoid(x)
    return given.check_untouched()


def _step(given: Producer) -> None:
    """As a gradient, in two steps of one plan."""
    fits = all(0 <= n < 1000 for n in given.shape) and len(given.shape) <= 64
    shape = given.shape if fits else [3]
    p = np.ones(shape, FLOATS.get(given.bits, np.float32))
    optimizer = optim.SGD([p], lr=0.5)
    for _ in range(2):
        before = p.copy()
        try:
            optimizer.step([given], max_norm=1e9, nonfinite="skip")
        except REFUSALS as error:
            expect_documented(error)
            assert np.array_equal(p, before)
        given.check_untouched()


def _listed(given: Producer) -> None:
    try:
        norm = ops.global_norm([given, np.zeros(3, FLOATS.get(given.bits, np.float32))])
    except REFUSALS as error:
        return given.check_refused(error)
    values = given.array(given.room).ravel().tolist()
    want = math.hypot(*values)
    if all(map(math.isfinite, values)) and want < np.finfo(FLOATS[max(given.bits, 32)]).max:
        assert math.isclose(norm, want, rel_tol=1e-6, abs_tol=1e-30), (norm, want)
    return given.check_untouched()


def _labels(given: Producer) -> None:
    """As classes: whatever integers they are."""
    rows = given.shape[0] if given.shape and 0 <= given.shape[0] < 1000 else 3
    try:
        ops.cross_entropy(np.zeros((rows, 5), np.float32), given)
    except (*REFUSALS, IndexError) as error:
        expect_documented(error)
    given.check_untouched()


class Interfaced:
    """An object with an odd __cuda_array_interface__, and nothing behind it."""

    def __init__(self, said: Any) -> None:
        self.__cuda_array_interface__ = said


def _interface(choices: Choices) -> None:
    odd: tuple[Any, ...] = (
        None, "x", -1, 2**70, 1.5, (), (-1,), (2**62, 8), ("a",), {}, b"<f4", "<f4", ">f8", "|V2",
        (8, False), (None, True), (-8, 0), (3,), (0,), [3], object(),
    )  # fmt: skip
    usual = {"shape": (3,), "typestr": "<f4", "data": (8, False), "version": 3, "strides": None}
    said: Any = {k: choices.of((v, v, *odd)) for k, v in usual.items() if choices.below(8) < 7}
    if choices.below(8) == 7:
        said = choices.of(odd)
    try:
        ops.relu(Interfaced(said))
    except REFUSALS as error:
        return expect_documented(error)
    raise AssertionError(f"{said!r} was taken for an array")


def seeds_of_border() -> list[bytes]:
    rng = np.random.default_rng(0)
    return [bytes(rng.integers(0, 256, 96, dtype=np.uint8)) for _ in range(64)] + [b""]
