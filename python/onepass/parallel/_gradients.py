"""Gradients summed over ranks, by one call for all of a kind."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate, pairwise
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np

from onepass._array import (
    Array,
    bfloat16,
    copy_into,
    empty,
    is_contiguous,
    library,
    parameter_dtype,
    to_numpy,
    zeros_like,
)
from onepass._parameter import data_of, parameters_of
from onepass.parallel._collectives import broadcast_object, first_other
from onepass.parallel._protocol import Communicator

Grads = list["Array | None"]
DTYPES = ("float16", "bfloat16", "float32", "float64")  # that a gradient may have


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

    Each call with another optimizer, or another object as ``comm``, compares the parameters of all
    ranks and makes buffers: find the communicator once, before the loop.

    Raises:
        ValueError: at the first call, on every rank: ranks differ in the names (which
            ``model.named_parameters()`` has), shapes, dtypes, the order or the values of their
            parameters. On every rank: one gradient has other dtypes on some.
            TypeError: a gradient that is not an array of floats.

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
    if comm.size == 1:  # nobody's gradients are looked at
        return
    known = _reductions.get(optimizer)
    if known is None or known.comm is not comm:
        known = _reductions[optimizer] = Reduction(optimizer, comm)
    known(grads)


class Reduction:
    """The sums of an optimizer's gradients over the ranks of a communicator.

    Its buffers are kept from call to call. Making one compares the parameters of all ranks.

    Args:
        add: leaves the sum over ranks of an array in it; None: ``comm.sum_``.
    """

    def __init__(
        self, optimizer: Any, comm: Communicator, add: Callable[[Array], None] | None = None
    ) -> None:
        self.comm, self._optimizer = comm, ref(optimizer)  # weak: _reductions has it as a key
        self._add = add or comm.sum_
        self._flats: dict[tuple[str, ...], _Flat] = {}
        self._weights = (comm.size + 1.0) ** np.arange(len(DTYPES))  # see _agreed
        _refuse_others(optimizer, comm)

    def __call__(self, grads: Grads | None = None, extra: Any = None) -> None:
        """Sums them.

        Args:
            grads: as in `all_reduce_gradients`.
            extra: NumPy array of float64 without gaps, summed along with little ones.
        """
        if self.comm.size == 1:
            return
        optimizer = self._optimizer()
        assert optimizer is not None
        params = parameters_of(optimizer)
        own = _held(params) if grads is None else grads
        _check(params, own)
        arrays = [data_of(p) for p in params]
        count = len(own)
        small = np.zeros(count + (0 if extra is None else extra.size))
        small[:count] = [0 if g is None else self._weights[_level(g.dtype)] for g in own]
        if extra is not None:
            small[count:] = extra.reshape(-1)
        self.comm.sum_(small)
        if extra is not None:
            extra.reshape(-1)[:] = small[count:]
        levels = self._agreed(small[:count], own)
        kinds: dict[tuple[str, ...], Grads] = {}
        for i in np.flatnonzero(small[:count]).tolist():
            grad = own[i]
            if grad is None:
                grad = _zeros(arrays[i], DTYPES[levels[i]])
                if grads is None:
                    params[i].grad = grad
                else:
                    grads[i] = grad
            kinds.setdefault(_kind(grad), []).append(grad)
        for kind, alike in kinds.items():
            self._sum(kind, alike)

    def _agreed(self, summed: Any, own: Sequence[Array | None]) -> Any:
        """The place in DTYPES of the dtype of each gradient that a rank has.

        Args:
            summed: over ranks, of w**place of what each has and 0 for None; w, the number of ranks
                and one more, is above every count, so the digits in base w are the counts.

        Raises:
            ValueError: on all ranks, if one has another dtype than another.
        """
        levels = np.searchsorted(self._weights, summed, side="right") - 1
        mixed = np.flatnonzero(summed % self._weights[levels] * (summed > 0))
        if mixed.size:
            i = int(mixed[0])
            grad = own[i]
            here = "None" if grad is None else f"one of {grad.dtype}"
            raise ValueError(
                f"all_reduce_gradients: 'grads[{i}]' has another dtype on another rank, here "
                f"it is {here}, expected one dtype on all ranks that have it"
            )
        return levels

    def _sum(self, kind: tuple[str, ...], grads: Sequence[Array]) -> None:
        whole = _as_one(grads)
        if whole is not None:
            self._add(whole)
            return
        shapes = [tuple(grad.shape) for grad in grads]
        flat = self._flats.get(kind)
        if flat is None or flat.shapes != shapes:
            flat = self._flats[kind] = _Flat(shapes, grads[0])
        copy = _copy_of_numpy if type(flat.whole) is np.ndarray else copy_into
        for part, grad in zip(flat.parts, grads, strict=True):
            copy(part, grad)
        self._add(flat.whole)
        with np.errstate(over="ignore"):  # ∞ is what the step finds then: nonfinite=
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


@cache
def _level(dtype: Any) -> int:
    """The place of a dtype in DTYPES, of any library."""
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise TypeError(
            f"all_reduce_gradients: a gradient has dtype {dtype}, expected {', '.join(DTYPES)}"
        )
    return DTYPES.index(name)


def _zeros(like: Array, name: str) -> Array:
    return zeros_like(like, bfloat16(like) if name == "bfloat16" else getattr(library(like), name))


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
    rank = first_other(comm, json.dumps([[len(group["params"]) for group in groups], listed]))
    if rank is not None:
        shown = [f"{name or ''} {dtype}{tuple(shape)}".strip() for name, shape, dtype in listed]
        more = ", …" if len(shown) > 4 else ""
        raise ValueError(
            f"all_reduce_gradients: ranks 0 and {rank} have other parameters, expected the same "
            f"names, shapes, dtypes and order on every rank; rank {comm.rank} has {len(shown)}: "
            f"{', '.join(shown[:4])}{more}"
        )
    _refuse_other_values(comm, names, arrays)


def _refuse_other_values(comm: Communicator, names: list[str | None], arrays: list[Array]) -> None:
    """As `_refuse_others`: of one shape and without names, another order shows in the values."""
    sums = [zlib.crc32(to_numpy(array).tobytes()) for array in arrays]
    rank = first_other(comm, json.dumps(sums))
    if rank is None:
        return
    first, other = (broadcast_object(comm, sums, root) for root in (0, rank))
    i = next(i for i in range(len(sums)) if first[i] != other[i])
    raise ValueError(
        f"all_reduce_gradients: parameter {names[i] or i} has other values on rank {rank} than on "
        "rank 0, expected equal parameters in the same order on every rank: the same seed "
        "(nn.manual_seed) before the model, or for each comm.broadcast_(parameter.data)"
    )
