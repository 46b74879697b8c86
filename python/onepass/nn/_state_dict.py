"""Reading and writing a module's state: PyTorch's names, all or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from onepass import _numbers as numbers
from onepass._array import Array, converted, mover, to_numpy
from onepass._interruptions import to_the_end
from onepass._kind import namespace
from onepass._parameter import Computed, Parameter
from onepass.nn._saved import Saved
from onepass.nn._sharing import overlaps, place_of
from onepass.nn._use import refuse_change


class Model(Protocol):
    """The part of a `Module` that has to do with its state."""

    _saved: Saved
    buffer_names: ClassVar[tuple[str, ...]]
    statistics_frozen: bool

    def named_modules(self) -> Iterator[tuple[str, Model]]: ...
    def modules(self) -> Iterator[Model]: ...
    def parameters(self) -> Iterator[Parameter]: ...


def live_arrays(model: Model) -> Iterator[tuple[str, Array]]:
    """``(name, array)``, parameters before buffers; a shared parameter under each of its names."""
    for prefix, module in model.named_modules():
        dot = f"{prefix}." if prefix else ""
        for name, value in tuple(vars(module).items()):
            if isinstance(value, Parameter) and not isinstance(value, Computed):
                yield dot + name, value.data
        for name in module.buffer_names:
            if (array := getattr(module, name)) is not None:
                yield dot + name, array


def frozen_arrays(model: Model) -> Iterator[tuple[str, Array]]:
    """Those of `live_arrays` that training leaves alone."""
    for prefix, module in model.named_modules():
        dot = f"{prefix}." if prefix else ""
        for name, value in tuple(vars(module).items()):
            if isinstance(value, Parameter) and not value.requires_grad:
                yield dot + name, value.data
        for name in module.buffer_names if module.statistics_frozen else ():
            if (array := getattr(module, name)) is not None:
                yield dot + name, array


def move(model: Model, device: str) -> None:
    """Move every array, all or none; what forward saved is forgotten.

    Integer buffers (the count of batches) stay on the host, where they are read at every step.
    """
    refuse_change(model, "to")
    move_one = mover(device)
    slots: list[tuple[Any, str]] = [
        (p, name) for p in model.parameters() for name in ("data", "grad")
    ]
    slots += [(module, name) for module in model.modules() for name in module.buffer_names]
    moved = []
    for owner, name in slots:
        array = getattr(owner, name)
        if array is not None and array.dtype.kind == "f":
            moved.append((owner, name, move_one(array)))
    to_the_end(partial(_take, model, moved))


def _take(model: Model, moved: list[tuple[Any, str, Array]]) -> None:
    for owner, name, array in moved:
        setattr(owner, name, array)
    for module in model.modules():
        module._saved = Saved()


class Mismatch(str):
    """The name of an entry of another shape, or of values that do not fit.

    Attributes:
        given, expected: the shapes; ``given`` is None where the entry is not an array.
        problem: in words.
    """

    given: tuple[int, ...] | None
    expected: tuple[int, ...]
    problem: str

    @classmethod
    def of(cls, name: str, value: Any, target: Array, problem: str) -> Mismatch:
        mismatch = cls(name)
        shape = getattr(value, "shape", None)
        mismatch.given = None if shape is None else tuple(map(int, shape))
        mismatch.expected = tuple(target.shape)
        mismatch.problem = problem
        return mismatch

    def __repr__(self) -> str:
        return f"<{self} {self.problem}>"


class LoadResult(NamedTuple):
    """Names of entries that `load_state_dict` left out."""

    missing: list[str]
    unexpected: list[str]
    mismatched: list[Mismatch]


def checked(owner: str, model: Model, strict: Any, prefix: Any) -> bool:
    """``strict``, once it is known that the model may change, and that both arguments are right."""
    refuse_change(model, owner)
    if not isinstance(prefix, str):
        raise TypeError(f"{owner}: 'prefix' is {prefix!r}, expected a text such as 'body.'")
    return numbers.flag(owner, "strict", strict)


def load(
    model: Model, state_dict: Any, strict: Any, prefix: Any, owner: str = "load_state_dict"
) -> LoadResult:
    """Check everything, then copy everything that fits."""
    strict = checked(owner, model, strict, prefix)
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"{owner}: 'state_dict' is a {type(state_dict).__name__}, expected a dict of "
            "names and arrays as state_dict() gives; nothing was changed"
        )
    targets = {prefix + name: array for name, array in live_arrays(model)}
    given = {k: v for k, v in state_dict.items() if str(k).startswith(prefix)}
    result = LoadResult([k for k in targets if k not in given], [], [])
    result.unexpected.extend(k for k in given if k not in targets)
    problems = [f"missing {k}" for k in result.missing]
    problems += [f"unexpected {k}" for k in result.unexpected]
    sources = {}
    for name in filter(given.__contains__, targets):
        source, problem = _fitted(given[name], targets[name])
        if not problem:
            sources[name] = source
            continue
        result.mismatched.append(Mismatch.of(name, given[name], targets[name], problem))
        problems.append(f"{name} {problem}")
    if problems and strict:
        raise ValueError(
            f"{owner}: the state does not fit this {type(model).__name__}; nothing was "
            "changed (strict=False copies what fits):\n  " + "\n  ".join(problems)
        )
    pairs = {name: (targets[name], source) for name, source in sources.items()}
    if strict and (shared := _shared(targets)):
        wrong = _disagreeing({name: pairs[name] for name in shared})
        if wrong:
            raise ValueError(
                f"{owner}: {wrong[0]!r} shares its memory with another entry, which has other "
                "values; nothing was changed (strict=False lets the last one count)"
            )
    to_the_end(partial(_put, pairs))
    return result


def _shared(targets: Mapping[str, Array]) -> list[str]:
    """The names of arrays that lie in the memory of others, as those that layers share do."""
    pairs = overlaps(place_of(name, array, name) for name, array in targets.items())
    found = {place.name for pair in pairs for place in pair}
    return [name for name in targets if name in found]


def _put(pairs: Mapping[str, tuple[Array, Any]]) -> None:
    for target, source in pairs.values():
        target[...] = namespace(target).asarray(source)


def _disagreeing(pairs: Mapping[str, tuple[Array, Any]]) -> list[str]:
    """Those that would have other values once all are copied; nothing is changed."""
    before = [(target, target.copy()) for target, _ in pairs.values()]
    wrong: list[str] = []

    def look() -> None:
        wrong.clear()
        _put(pairs)
        for name, (target, source) in pairs.items():
            if to_numpy(target).tobytes() != source.tobytes():
                wrong.append(name)
        for target, values in before:
            target[...] = values

    to_the_end(look)
    return wrong


def _fitted(value: Any, target: Array) -> tuple[Any, str]:
    """``value`` in the dtype of ``target``; or why that cannot be, in words behind its name."""
    if isinstance(value, np.ma.MaskedArray):
        return None, "is a MaskedArray, expected an array whose values all count"
    try:
        source = to_numpy(value)
    except ValueError as error:  # rows of different lengths
        return None, f"is not an array ({error})"
    floats = source.dtype.kind == "f" or source.dtype.name == "bfloat16"
    shape = tuple(target.shape)
    if source.shape != shape or not (floats or source.dtype.kind in "iu"):
        return None, f"is {source.dtype} {source.shape}, expected {target.dtype} {shape}"
    if target.dtype.kind in "iu":
        with np.errstate(all="ignore"):
            result = source.astype(target.dtype)
            wrong = (result != source) | (result < 0)
        lost = source[wrong][0] if wrong.any() else None
        expected = "whole numbers"
    else:
        result, lost = converted(source, source, target.dtype)
        expected = f"numbers of {target.dtype}"
    return (result, "") if lost is None else (None, f"holds {lost!s}, expected {expected}")
