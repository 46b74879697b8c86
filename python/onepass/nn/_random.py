"""Randomness of the modules: one seed, a generator for initialisation, a stream per dropout layer.

A dropout mask is a function of ``(seed, offset, element index)``. Every dropout layer owns a range
of offsets, ``stream * 2**40 + call``, so no two layers and no two calls share a mask, and the state
of a layer is two integers.

The process has one seed. A training that has a seed of its own draws in a scope (`seeded`), which
belongs to its thread: it neither moves what others draw nor is moved by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from math import prod
from threading import local
from typing import TYPE_CHECKING, Any

import numpy as np

from onepass import _C
from onepass import _numbers as numbers
from onepass._array import (
    Array,
    copy_into,
    empty,
    is_capturing,
    keep_for_graph,
    library,
    zeros,
)
from onepass.ops._step import is_on_device

if TYPE_CHECKING:
    from onepass.nn._module import Module

_CALLS_PER_STREAM = 1 << 40
_HALF = _CALLS_PER_STREAM // 2


class _State:
    """What is drawn from: a seed, the streams that were given away, a generator."""

    def __init__(self, seed: int) -> None:
        self.reset(seed)

    def reset(self, seed: int) -> None:
        self.seed = seed
        self.streams = 0
        self.init = np.random.Generator(np.random.PCG64(seed))

    def copy(self) -> _State:
        twin = _State(self.seed)
        twin.streams = self.streams
        twin.init.bit_generator.state = self.init.bit_generator.state
        return twin


class _Scope:
    """Where code draws from, and which call of `manual_seed` was the last that it has seen.

    Attributes:
        epoch: of that call; of two calls anywhere the later one has the larger.
    """

    def __init__(self, state: _State, epoch: int) -> None:
        self.state, self.epoch = state, epoch


_process = _Scope(_State(0), 0)
_scope: ContextVar[_Scope] = ContextVar("onepass.nn random numbers", default=_process)
_epochs = count(1)


class Stream:
    """The masks of one dropout layer: ``(seed, offset)`` of the next call.

    A call that a CUDA graph captures takes its offset from a count on the device, in the upper half
    of the range: each replay has the next mask.

    Attributes:
        row: which row of a mask the first sample of a call gets; see `_shares.place`.
    """

    row: int = 0
    _count: Array | None = None  # on a device
    _counted: Array | None = None  # the offset of the last call, if that was captured

    def __init__(self) -> None:
        self._new_range()

    def _new_range(self) -> None:
        here = _scope.get()
        self._epoch = here.epoch
        self._seed = here.state.seed
        self._offset = here.state.streams * _CALLS_PER_STREAM
        self._count = None
        here.state.streams += 1

    def peek(self) -> tuple[int, int]:
        """Seed and offset of the next call."""
        if self._epoch < _scope.get().epoch:  # seeded anew since the last call
            self._new_range()
        return self._seed, self._offset

    def take(self, x: Array) -> tuple[int, int | Array]:
        """Seed and offset of a call on ``x`` that begins; the next one gets another mask."""
        if self._epoch < _scope.get().epoch:
            self._new_range()
        if type(x) is not np.ndarray and library(x) is not np:
            self._counted = self._take_on_device(x)
            if self._counted is not None:
                return self._seed, self._counted
        offset = self._offset
        self._offset = offset + 1
        return self._seed, offset

    def _take_on_device(self, x: Array) -> Array | None:
        """The offset of a call that is captured; for any other makes sure that one may follow."""
        captured = is_capturing(x)
        if self._count is None or self._count.device != x.device:
            if not is_on_device(x):
                return None
            if captured:
                raise RuntimeError(
                    "dropout: a CUDA graph is being captured, and the count of its replays is not "
                    "there yet: call the layer once before the capture begins"
                )
            self._count = zeros((1,), library(x).int64, x)
            copy_into(self._count, self._offset // _CALLS_PER_STREAM * _CALLS_PER_STREAM + _HALF)
        if not captured:
            return None
        taken = empty((1,), library(x).int64, x)
        keep_for_graph(self._count)
        keep_for_graph(taken)
        _C.take_number(self._count, taken)
        return taken

    def first(self, shape: Sequence[int]) -> int:
        """The index in the mask of the first element of an array whose axis 0 has the samples."""
        return self.row and self.row * prod(shape[1:])

    def give_back(self) -> None:
        """The call was refused: the next one gets its mask."""
        self._offset -= self._counted is None

    def set(self, seed: int, offset: int) -> None:
        """Continue at this seed and offset."""
        self._epoch, self._seed, self._offset = _scope.get().epoch, int(seed), int(offset)
        self._count = None

    def __getstate__(self) -> tuple[int, int]:
        return self.peek()

    def __setstate__(self, state: tuple[int, int]) -> None:
        self.set(*state)  # a copied or unpickled layer continues where it was


class _OfThread(local):
    fills_later: bool = False


_of_thread = _OfThread()


def init_generator() -> np.random.Generator:
    """The generator that initialisers without a ``seed`` of their own draw from."""
    return _scope.get().state.init


def fills_later() -> bool:
    """Whether nobody will use the initial values that are wanted now: see `without_drawing`."""
    return _of_thread.fills_later


@contextmanager
def without_drawing() -> Iterator[None]:
    """Inside, initial values, which others will replace, are ones instead of random numbers.

    Dropout layers that are made inside keep their streams, unless an error ends it.
    """
    state = _scope.get().state
    streams = state.streams
    _of_thread.fills_later = True
    try:
        yield
    except BaseException:
        state.streams = streams
        raise
    finally:
        _of_thread.fills_later = False


def untouched_streams(model: Module) -> dict[int, Any]:
    """For the memory of ``deepcopy``: streams where they are, by id; a copy would move them on."""
    copies = {}
    for stream in streams(model).values():
        copies[id(stream)] = copied = Stream.__new__(Stream)
        vars(copied).update(vars(stream))
    return copies


def manual_seed(seed: int) -> None:
    """Seed initialisation and dropout, in layers that exist as well as in new ones.

    Until the first call the seed is 0, so a script gives the same numbers every time. The seed is
    that of the process, for all threads; but what `search`, `restarts` and `cross_validate` train,
    and the ``build`` that they call, have random numbers of their own, which a call outside does
    not reach and which a call inside alone seeds. The layers of a ``Trainer.fit`` that runs in
    another thread keep their masks, too.

    Args:
        seed: an integer, 0 <= seed < 2**64.

    Raises:
        TypeError: ``seed`` is not an integer.
        ValueError: ``seed`` is out of range.

    Example:
        >>> from onepass import nn
        >>> nn.manual_seed(1)
        >>> a = nn.Linear(3, 2).weight.data
        >>> nn.manual_seed(1)
        >>> bool((nn.Linear(3, 2).weight.data == a).all())
        True
    """
    value = numbers.seed("manual_seed", "seed", seed)
    here = _scope.get()
    here.epoch = next(_epochs)
    here.state.reset(value)


@contextmanager
def _inside(scope: _Scope) -> Iterator[None]:
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, this thread draws what is behind ``manual_seed(seed)``, whatever others draw.

    Layers that exist go on with their masks, and so does afterwards all that is drawn outside.
    """
    with _inside(_Scope(_State(seed), _scope.get().epoch)):
        yield


@contextmanager
def apart() -> Iterator[None]:
    """Inside, this thread draws what it would draw, and draws it again afterwards."""
    here = _scope.get()
    with _inside(_Scope(here.state.copy(), here.epoch)):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside, layers keep their masks, though another thread calls `manual_seed`."""
    outside = _scope.get()
    here = _Scope(outside.state, outside.epoch)
    try:
        with _inside(here):
            yield
    finally:
        outside.epoch = max(outside.epoch, here.epoch)  # seeded inside


def streams(model: Module) -> dict[str, Stream]:
    """The streams of a model's dropout layers, by the name of the layer."""
    return {
        name: stream
        for name, module in model.named_modules()
        if isinstance(stream := getattr(module, "stream", None), Stream)
    }


def get_rng_state(model: Module | None = None) -> dict[str, Any]:
    """Everything that the next random numbers depend on, for a bitwise resume.

    Args:
        model: also save the position of each of its dropout layers.

    Returns:
        A dict of plain integers and strings that JSON keeps exactly: ``seed``, ``streams``,
        ``init`` (NumPy's bit generator state), ``layers`` (name of the layer → [seed, offset]).

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> layer, x = nn.Dropout(0.5), np.ones((4, 4), np.float32)
        >>> state = nn.get_rng_state(layer)
        >>> y = layer(x)
        >>> nn.set_rng_state(state, layer)
        >>> bool((layer(x) == y).all())
        True
    """
    state = _scope.get().state
    return {
        "seed": state.seed,
        "streams": state.streams,
        "init": dict(state.init.bit_generator.state),
        "layers": {} if model is None else {k: list(s.peek()) for k, s in streams(model).items()},
    }


def set_rng_state(state: dict[str, Any], model: Module | None = None) -> None:
    """Restore what `get_rng_state` returned.

    Args:
        state: from `get_rng_state`.
        model: the model that the layers' positions go into; needed where the state has any.

    Raises:
        ValueError: the dropout layers of the model are not those of the state; nothing is changed.

    Example:
        >>> from onepass import nn
        >>> state = nn.get_rng_state()
        >>> first = nn.Linear(3, 2).weight.data
        >>> nn.set_rng_state(state)
        >>> bool((nn.Linear(3, 2).weight.data == first).all())
        True
    """
    found = {} if model is None else streams(model)
    layers = state["layers"]
    if layers.keys() != found.keys():
        raise ValueError(
            f"set_rng_state: the state has dropout layers {sorted(layers)}, the model has "
            f"{sorted(found)}; pass the model that the state was taken from"
        )
    generator = np.random.Generator(np.random.PCG64())
    generator.bit_generator.state = state["init"]
    now = _scope.get().state
    now.seed, now.streams, now.init = state["seed"], state["streams"], generator
    for name, stream in found.items():
        stream.set(*layers[name])


def kept_streams(model: Module) -> Callable[[], None]:
    """A function that puts the streams of ``model`` back to where they are now."""
    positions = [(stream, vars(stream).copy()) for stream in streams(model).values()]

    def put_back() -> None:
        for stream, values in positions:
            vars(stream).update(values)

    return put_back
