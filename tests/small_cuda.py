"""Arrays on the device of fake_cupy.py, and on those of other libraries."""

from __future__ import annotations

import fake_cupy
import numpy as np


def to_device(value):
    """NumPy arrays, alone or in lists, as CuPy's."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(to_device, value))
    return fake_cupy.cupy.asarray(value) if isinstance(value, np.ndarray) else value


def to_host(value):
    if isinstance(value, (list, tuple)):
        return type(value)(map(to_host, value))
    return value.get() if isinstance(value, fake_cupy.ndarray) else value


def values(shape, dtype=np.float32):
    return np.random.default_rng(3).standard_normal(shape).astype(dtype)


def on_device(device, array):
    with fake_cupy.Device(device):
        return fake_cupy.cupy.asarray(array)


class Foreign:
    """An array of a library that knows __cuda_array_interface__ and nothing else."""

    def __init__(self, array, stream=None, read_only=False, version=3):
        self.array, self.stream, self.read_only, self.version = array, stream, read_only, version

    @property
    def __cuda_array_interface__(self):
        facts = self.array.__cuda_array_interface__
        facts |= {"version": self.version, "data": (facts["data"][0], self.read_only)}
        del facts["stream"]
        return facts if self.stream is None else {**facts, "stream": self.stream}
