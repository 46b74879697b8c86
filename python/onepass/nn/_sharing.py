"""Which arrays of a model lie in the same memory, though each is a parameter of its own.

Layers share a `Parameter` by having it as an attribute, and everything heeds that. Two over one
array, or over views of it, are two for whatever names, copies or steps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onepass._array import Array
from onepass._parameter import Computed, Parameter


class Place(NamedTuple):
    """An array of a model, and where its first and last bytes are.

    Attributes:
        owner: what it belongs to: arrays of one owner are the same array.
    """

    name: str
    array: Array
    owner: Any
    low: int
    high: int


class _Layout:
    """Where the elements of an array of NumPy, CuPy or PyTorch lie, as NumPy's interface has it."""

    def __init__(self, array: Array) -> None:
        if hasattr(array, "data_ptr"):
            self.begin, self.size = int(array.data_ptr()), int(array.element_size())
            self.strides = tuple(stride * self.size for stride in array.stride())
        else:
            own = isinstance(array, np.ndarray)
            self.begin = int(array.__array_interface__["data"][0] if own else array.data.ptr)
            self.size, self.strides = int(array.dtype.itemsize), tuple(array.strides)
        self.shape = tuple(map(int, array.shape))

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": self.shape,
            "strides": self.strides,
            "typestr": f"|V{self.size}",
            "data": (self.begin, True),
        }


def place_of(name: str, array: Array, owner: Any) -> Place:
    """Where an array of NumPy, CuPy or PyTorch lies."""
    layout = _Layout(array)
    begin, size, strides = layout.begin, layout.size, layout.strides
    steps = [s * (n - 1) for s, n in zip(strides, array.shape, strict=True)]
    if 0 in array.shape:
        return Place(name, array, owner, begin, begin)
    low = begin + sum(step for step in steps if step < 0)
    return Place(name, array, owner, low, begin + sum(step for step in steps if step > 0) + size)


def elements(place: Place) -> NDArray[np.int64]:
    """The addresses of the elements of an array of NumPy or CuPy, each once."""
    found = np.array([place.low])
    for stride, count in zip(place.array.strides, place.array.shape, strict=True):
        found = np.add.outer(found, abs(stride) * np.arange(count)).reshape(-1)
    return np.unique(found)


def places(model: Any) -> Iterator[Place]:
    """Parameters and running statistics; one that layers share, at its first name."""
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        dot = f"{prefix}." if prefix else ""
        for name, value in tuple(vars(module).items()):
            if isinstance(value, Computed) or id(value) in seen:
                continue
            if isinstance(value, Parameter):
                seen.add(id(value))
                yield place_of(dot + name, value.data, id(value))
        for name in module.buffer_names:
            array = getattr(module, name)
            if hasattr(array, "__dlpack_device__"):  # a count may be a number
                yield place_of(dot + name, array, dot + name)


def overlaps(found: Iterable[Place]) -> list[tuple[Place, Place]]:
    """Pairs of different owners in the same memory, each in the order in which they came."""
    listed = list(found)
    order = sorted(range(len(listed)), key=lambda i: (listed[i].low, i))
    pairs: list[tuple[int, int]] = []
    open_: list[int] = []
    for i in order:
        here = listed[i]
        open_ = [j for j in open_ if listed[j].high > here.low]
        if here.high > here.low:
            pairs += [(min(i, j), max(i, j)) for j in open_ if _same(listed[j], here)]
            open_.append(i)
    return [(listed[i], listed[j]) for i, j in sorted(pairs)]


def _same(a: Place, b: Place) -> bool:
    """Whether arrays whose ends overlap have an element in common."""
    if a.owner == b.owner:
        return False
    # Arrays over the same addresses: nothing reads what is there, which may lie on a GPU.
    one, other = (np.asarray(_Layout(place.array)) for place in (a, b))
    return np.shares_memory(one, other)


def overlap(model: Any) -> str | None:
    """What to say of the first two; None where there are none."""
    return said(overlaps(places(model)))


def said(pairs: list[tuple[Place, Place]]) -> str | None:
    """In words, with the cure."""
    if not pairs:
        return None
    first, second = pairs[0]
    if isinstance(second.owner, str) or isinstance(first.owner, str):
        return (
            f"{first.name!r} and {second.name!r} are two arrays in the same memory; give each "
            "layer one of its own"
        )
    return (
        f"{first.name!r} and {second.name!r} are two parameters in the same memory; let the layers "
        "share one nn.Parameter, or copy one of the arrays"
    )
