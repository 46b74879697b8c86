"""Gradients summed over ranks, by one call for all of a kind."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np

from onepass._array import (
    Array,
    copy_into,
    empty,
    is_contiguous,
    library,
    parameter_dtype,
    zeros_like,
)
from onepass._parameter import data_of
from onepass.parallel._collectives import all_equal
from onepass.parallel._protocol import Communicator

Grads = list["Array | None"]


def all_reduce_gradients(optimizer: Any, comm: Communicator, grads: Grads | None = None) -> None:
    """g = Σ over ranks of g, for every gradient of the optimizer, in place.

    It belongs between ``backward`` and ``step``, on every rank. Gradients are sums: what a mean
    over the samples of all ranks divides by goes into ``step(grad_scale=)``, or into the loss.
    Gradients of one dtype go as one array, and those of 16 bits in float32, rounded once. One that
    a rank lacks counts as 0 there; one that all ranks lack stays None.

    Args:
        optimizer: of `onepass.optim` or PyTorch.
        comm: a communicator, as `find` gives it.
        grads: the list that ``optimizer.step(grads)`` gets, which is changed; without it each
            ``.grad`` is.

    Raises:
        ValueError: at the first call, on every rank: ranks differ in the names, shapes, dtypes or
            the order of their parameters. TypeError: a gradient that is not an array.

    Example:
        >>> import numpy as np
        >>> from onepass import optim, parallel
        >>> comm = parallel.find("auto")  # all that mpiexec started
        >>> w, grads = np.ones(3, np.float32), [np.float32([1, 2, 2])]
        >>> optimizer = optim.SGD([w], lr=0.1)
        >>> parallel.all_reduce_gradients(optimizer, comm, grads)
        >>> optimizer.step(grads, grad_scale=comm.size, max_norm=9).grad_norm
        3.0
    """
    if comm.size == 1:
        return
    known = _reductions.get(optimizer)
    if known is None or known.comm is not comm:
        known = _reductions[optimizer] = Reduction(optimizer, comm)
    known(grads)


class Reduction:
    """The sums of an optimizer's gradients over the ranks of a communicator.

    Its buffers are kept from call to call. Making one compares the parameters of all ranks.
    """

    def __init__(self, optimizer: Any, comm: Communicator) -> None:
        self.comm, self._optimizer = comm, ref(optimizer)  # weak: _reductions has it as a key
        self._flats: dict[tuple[str, ...], _Flat] = {}
        _refuse_others(optimizer, comm)

    def __call__(self, grads: Grads | None = None, extra: Any = None) -> None:
        """Sums them.

        Args:
            grads: as in `all_reduce_gradients`.
            extra: NumPy array of float64 without gaps, summed along with little ones.
        """
        optimizer = self._optimizer()
        assert optimizer is not None
        params = [p for group in optimizer.param_groups for p in group["params"]]
        own = _held(params) if grads is None else grads
        _check(params, own)
        arrays = [data_of(p) for p in params]
        count = len(own)
        small = np.zeros(count + (0 if extra is None else extra.size))
        small[:count] = [grad is not None for grad in own]
        if extra is not None:
            small[count:] = extra.reshape(-1)
        self.comm.sum_(small)
        if extra is not None:
            extra.reshape(-1)[:] = small[count:]
        kinds: dict[tuple[str, ...], Grads] = {}
        for i in np.flatnonzero(small[:count]).tolist():
            grad = own[i]
            if grad is None:
                grad = zeros_like(arrays[i], arrays[i].dtype)
                if grads is None:
                    params[i].grad = grad
                else:
                    grads[i] = grad
            kinds.setdefault(_kind(grad), []).append(grad)
        for kind, alike in kinds.items():
            self._sum(kind, alike)

    def _sum(self, kind: tuple[str, ...], grads: Sequence[Array]) -> None:
        whole = _as_one(grads)
        if whole is not None:
            self.comm.sum_(whole)
            return
        shapes = [tuple(grad.shape) for grad in grads]
        flat = self._flats.get(kind)
        if flat is None or flat.shapes != shapes:
            flat = self._flats[kind] = _Flat(shapes, grads[0])
        copy = _copy_of_numpy if type(flat.whole) is np.ndarray else copy_into
        for part, grad in zip(flat.parts, grads, strict=True):
            copy(part, grad)
        self.comm.sum_(flat.whole)
        for part, grad in zip(flat.parts, grads, strict=True):
            copy(grad, part)


class _Flat:
    """An array for others of these shapes, one after the other, in the dtype of sums."""

    def __init__(self, shapes: list[tuple[int, ...]], like: Array) -> None:
        ends = [*accumulate(map(math.prod, shapes), initial=0)]
        self.shapes, self.whole = shapes, empty((ends[-1],), parameter_dtype(like), like)
        self.parts = [
            self.whole[begin:end].reshape(shape)
            for (begin, end), shape in zip(pairwise(ends), shapes, strict=True)
        ]


_reductions: WeakKeyDictionary[Any, Reduction] = WeakKeyDictionary()


def _kind(grad: Array) -> tuple[str, ...]:
    """Library, device, and the dtype that it is summed in."""
    if type(grad) is np.ndarray:  # at once: every gradient of every step comes here
        return _OF_DOUBLE if grad.dtype == np.float64 else _OF_SINGLE
    place = str(getattr(grad, "device", "cpu"))
    return library(grad).__name__, place, str(parameter_dtype(grad))


_OF_SINGLE, _OF_DOUBLE = (("numpy", "cpu", name) for name in ("float32", "float64"))


def _as_one(grads: Sequence[Array]) -> Array | None:
    """The array that the gradients already are, each beginning where the one before ends: a single
    one, or views of one of NumPy's. None if they are not, or of 16 bits."""
    first = grads[0]
    base = first.base if type(first) is np.ndarray else None
    if len(grads) > 1 and base is None:
        return None  # at once: most own their memory
    if first.dtype != parameter_dtype(first) or not all(map(is_contiguous, grads)):
        return None
    if len(grads) == 1:
        return first
    if type(base) is not np.ndarray or base.dtype != first.dtype or not is_contiguous(base):
        return None
    start = end = (_address(first) - _address(base)) // first.itemsize
    for grad in grads:
        if grad.base is not base or _address(grad) != _address(base) + end * first.itemsize:
            return None
        end += grad.size
    return base.reshape(-1)[start:end]


def _copy_of_numpy(to: np.ndarray[Any, Any], value: np.ndarray[Any, Any]) -> None:
    """As `copy_into`, which asks every array whose it is."""
    np.copyto(to, value, casting="unsafe")


def _address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _held(params: Sequence[Any]) -> Grads:
    try:
        return [p.grad for p in params]
    except AttributeError:
        raise TypeError(
            "all_reduce_gradients: 'grads' is None and a parameter has no .grad; pass the "
            "gradients: all_reduce_gradients(optimizer, comm, grads)"
        ) from None


def _check(params: Sequence[Any], grads: Any) -> None:
    if not isinstance(grads, list):
        raise TypeError(
            f"all_reduce_gradients: 'grads' is a {type(grads).__name__}, expected a list with an "
            "array or None for each parameter"
        )
    if len(grads) != len(params):
        raise ValueError(
            f"all_reduce_gradients: 'grads' has {len(grads)} entries, expected {len(params)}: an "
            "array or None for each parameter"
        )
    for i, (parameter, grad) in enumerate(zip(params, grads, strict=True)):
        if grad is None:
            continue
        if type(grad) is np.ndarray and grad.shape == data_of(parameter).shape:
            continue  # at once: most are these
        if not hasattr(grad, "dtype") or getattr(grad, "is_sparse", False):
            shown = "sparse" if hasattr(grad, "dtype") else f"a {type(grad).__name__}"
            raise TypeError(
                f"all_reduce_gradients: 'grads[{i}]' is {shown}, expected a dense array or None"
            )
        shape = tuple(data_of(parameter).shape)
        if tuple(grad.shape) != shape:
            raise ValueError(
                f"all_reduce_gradients: 'grads[{i}]' has shape {tuple(grad.shape)}, expected "
                f"{shape}, that of its parameter"
            )


def _refuse_others(optimizer: Any, comm: Communicator) -> None:
    """ValueError, on all ranks alike, where a rank has other parameters than rank 0."""
    groups = optimizer.param_groups
    arrays = [data_of(p) for group in groups for p in group["params"]]
    names = getattr(optimizer, "_names", None)  # PyTorch has them in the groups
    if names is None:
        names = [name for group in groups
                 for name in group.get("param_names", [None] * len(group["params"]))]  # fmt: skip
    listed = [
        (name, list(map(int, array.shape)), str(array.dtype))
        for name, array in zip(names, arrays, strict=True)
    ]
    rank = all_equal(comm, json.dumps([[len(group["params"]) for group in groups], listed]))
    if rank is not None:
        shown = [f"{name or ''} {dtype}{tuple(shape)}".strip() for name, shape, dtype in listed]
        more = ", …" if len(shown) > 4 else ""
        raise ValueError(
            f"all_reduce_gradients: ranks 0 and {rank} have other parameters, expected the same "
            f"names, shapes, dtypes and order on every rank; rank {comm.rank} has {len(shown)}: "
            f"{', '.join(shown[:4])}{more}"
        )
