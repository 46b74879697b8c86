"""What other libraries say of arrays on a CUDA device, where it cannot be: one error, and no memory
is touched."""

from __future__ import annotations

import numpy as np
import pytest
from onepass import ops


class Foreign:
    """An array of a library that knows __cuda_array_interface__ and nothing else."""

    def __init__(self, facts):
        self.__cuda_array_interface__ = facts


class Likeness:
    """What of CuPy's arrays is read."""

    __module__ = "cupy"

    def __init__(self, array, **others):
        self.data, self.dtype, self.strides = array.data, array.dtype, array.strides
        self.shape = array.shape
        self.__dict__.update(others)


class Data:
    def __init__(self, ptr, device_id=0):
        self.ptr, self.device_id = ptr, device_id


PLACE = Data(0x1000)
LIES = {
    "a stride too many": ({"strides": (24, 4, 4)}, "it has 2 axes and 3 strides"),
    "many strides": ({"strides": (4,) * 10_000}, "it has 2 axes and 10000 strides"),
    "a stride too few": ({"strides": (4,)}, "it has 2 axes and 1 strides"),
    "strides of words": ({"strides": ("a", "b")}, "'str' object cannot be interpreted|integer"),
    "a stride past 64 bits": ({"strides": (2**70, 4)}, "too large|too big"),
    "axes of words": ({"shape": ("a", 6)}, "'str' object cannot be interpreted|integer"),
    "a number of axes": ({"shape": 6}, "not iterable"),
    "too many axes": ({"shape": (1,) * 100, "strides": (4,) * 100}, ""),
    "a negative axis": ({"shape": (-4, 6)}, ""),
}
OF_CUPY = LIES | {
    "a negative device": ({"data": Data(0x1000, -1)}, "its device is -1"),
    "a device past 32 bits": ({"data": Data(0x1000, 2**32 + 1)}, "its device is 4294967297"),
    "a negative address": ({"data": Data(-8)}, "negative"),
}
OF_FOREIGN = LIES | {
    "no shape": ({"shape": ...}, "its __cuda_array_interface__ lacks 'shape'"),
    "no data": ({"data": ...}, "its __cuda_array_interface__ lacks 'data'"),
    "no typestr": ({"typestr": ...}, "its __cuda_array_interface__ lacks 'typestr'"),
    "data of None": ({"data": None}, "not iterable"),
    "half of data": ({"data": (0x1000,)}, "out of range"),
    "a negative address": ({"data": (-8, False)}, "negative"),
    "a typestr of numbers": ({"typestr": 4}, "has dtype"),
}


@pytest.mark.parametrize("lie", OF_CUPY)
def test_a_likeness_of_cupy_that_lies(cupy, lie):
    told, said = OF_CUPY[lie]
    array = Likeness(cupy.ones((4, 6), np.float32), **told)
    with pytest.raises((TypeError, ValueError), match=rf"^relu: 'x' .*({said})"):
        ops.relu(array)


@pytest.mark.parametrize("lie", OF_FOREIGN)
def test_a_foreign_array_that_lies(cupy, lie):
    told, said = OF_FOREIGN[lie]
    facts = cupy.ones((4, 6), np.float32).__cuda_array_interface__ | told
    array = Foreign({key: value for key, value in facts.items() if value is not ...})
    with pytest.raises((TypeError, ValueError), match=rf"^relu: 'x' .*({said})"):
        ops.relu(array)
