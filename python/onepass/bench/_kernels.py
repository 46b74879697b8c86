"""Rows of the records, on either device: one kernel, and a forward with its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from onepass._streams import Function, Streams
from onepass.bench import _arrays as arrays
from onepass.bench import _check as check
from onepass.bench import _machine
from onepass.bench import _peers as peers
from onepass.bench._records import case as records
from onepass.bench._records import cases
from onepass.bench._row import Check, Context, Make, Workload, named
from onepass.bench._timing import in_rotation

# From this many elements on a kernel's row is about memory: no call may find its data in a cache.
MEMORY = 1 << 23

Shape = tuple[int, ...]


def kernel(
    case: Any,
    shape: Shape,
    dtype: str | None = None,
    options: dict[str, Any] | None = None,
    graph: bool = False,
) -> Make:
    """A call of a kernel.

    Args:
        case: its record.
        shape: as the record's: channels second, whatever the layout.
        dtype: of the arrays; None: the one that the user asked for.
        options: of the call; None: those of the record.
        graph: whether captured calls are replayed, on a GPU.
    """

    def make(asked: Context) -> Workload:
        context = asked.of_dtype(dtype)
        given = options_of(case, options)
        keywords = cases.keywords_of(given)
        inputs = arrays.inputs(context, case, shape, given)
        elements = math.prod(shape)
        count = elements * float(case.bytes(arrays.itemsize(context.dtype)))
        missing: dict[str, str] = {}

        def functions() -> dict[str, Function]:
            found = peers.kernel(context, case, tuple(check.copied(inputs)), keywords)
            missing.update(found.missing)
            return forms(case, inputs, keywords, found.functions) | found.functions

        own = checked(context, [case], shape, given, inputs)

        def both_forms() -> Check:
            results: list[Any] = [
                single(case, check.copied(inputs), keywords, into)() for into in (False, True)
            ]
            new, there = results
            if isinstance(new, tuple):
                new, there = new[0], there[0]
            assert own is not None
            return check.worst(iter((own(), check.same(new, there, "out="))))

        on_cpu = context.device == "cpu"
        # One that moves running statistics gives another result at each call.
        compares = on_cpu and case.out and not case.written and own is not None
        rotates = on_cpu and elements >= MEMORY
        return Workload(
            in_rotation(functions, count, _machine.last_cache() if rotates else 0),
            elements,
            count,
            streams(case, shape, context.dtype, given) if on_cpu else None,
            both_forms if compares else own,
            missing=missing,
            graph=graph,
            dtype=dtype,
            rotates=rotates,
        )

    return make


def both(
    name: str,
    shape: Shape,
    dtype: str | None = None,
    options: dict[str, Any] | None = None,
    graph: bool = False,
) -> Make:
    """A kernel and its gradient together; arguments as `kernel`'s, with the forward's name."""

    def make(asked: Context) -> Workload:
        context = asked.of_dtype(dtype)
        forward, case = cases.BY_NAME[name], cases.BY_NAME[f"{name}_backward"]
        given = options_of(case, options)
        keywords = cases.keywords_of(given)
        inputs = arrays.inputs(context, case, shape, given)
        found = peers.both(context, case, inputs, keywords)
        itemsize = arrays.itemsize(context.dtype)
        moved = float(forward.bytes(itemsize) + case.bytes(itemsize))
        if given.get("with_residual"):  # it is read, and its gradient written
            moved += 2 * itemsize
        elements = math.prod(shape)
        return Workload(
            {"onepass": case.both(inputs, keywords)["onepass"]} | found.functions,
            elements,
            elements * moved,
            Streams(round(moved / itemsize) - 2, 2),  # y and dx are written
            checked(context, [forward, case], shape, given),
            missing=found.missing,
            graph=graph,
            dtype=dtype,
        )

    return make


def options_of(case: Any, options: dict[str, Any] | None) -> dict[str, Any]:
    """Of a row's calls: those given, empty ones too, else the record's."""
    if options is not None:
        return options
    found: dict[str, Any] = case.bench_options or case.options[0]
    return found


def checked(
    context: Context,
    kernels: Sequence[Any],
    shape: Shape,
    options: dict[str, Any],
    inputs: tuple[Any, ...] | None = None,
) -> Callable[[], Check] | None:
    """The check of records; ``inputs`` are those of the only one. On a GPU of few rows, and none
    where NumPy lacks the dtype."""
    if context.dtype == "bfloat16" and records.BFLOAT16 is None:
        return None
    if context.device == "cpu":
        return lambda: check.worst(
            check.of_case(case, shape, context.dtype, options, inputs=inputs) for case in kernels
        )
    small = check.few(shape)
    return lambda: check.worst(
        (
            check.of_case(case, small, context.dtype, options, arrays.placed, arrays.back)
            for case in kernels
        ),
        f"at {named(small)}",
    )


def forms(
    case: Any, inputs: Sequence[Any], keywords: dict[str, Any], rivals: Iterable[str]
) -> dict[str, Function]:
    """Ours of a row of the records, each form on inputs of its own. "onepass" makes a new result at
    each call; where a rival does not, which its label says, there is "onepass out=" as well
    (`own_form` says which of them a rival is compared with)."""
    found = {"onepass": single(case, check.copied(inputs), keywords)}
    if case.out and any("out=" in label for label in rivals):
        found["onepass out="] = single(case, check.copied(inputs), keywords, into=True)
    return found


def single(
    case: Any, inputs: Sequence[Any], keywords: dict[str, Any], into: bool = False
) -> Function:
    """A call of ours; `into`: its result goes to memory that is there."""
    prepared = case.prepare(*inputs, **keywords)
    more = {}
    if into:
        result = case.op(*prepared, **keywords)  # `out` is like the first of the results
        more["out"] = records.empty_like(result[0] if isinstance(result, tuple) else result)
    return lambda: case.op(*prepared, **keywords, **more)


def streams(
    case: Any, shape: tuple[int, ...], dtype: str, options: dict[str, Any] | None = None
) -> Streams:
    """What a row reads and writes, from its results on a few rows of that shape. An input that need
    not be read does not count: all add up to the bytes of the record."""
    itemsize = arrays.itemsize(dtype)
    few = (min(8, shape[0]), *shape[1:]) if len(shape) > 1 else (min(4096, shape[0]),)
    options = options_of(case, options)
    inputs = case.inputs(few, dtype, options)
    results = case.run(inputs, options)
    array = math.prod(few) * itemsize
    updated = _bytes([inputs[i] for i in case.written], array)
    written = _bytes(results[: len(results) - len(case.written)], array)
    count = case.bytes(itemsize) * math.prod(few)
    parts = (max(0.0, count - written - 2 * updated), written, updated)
    unit = min(array, *(part for part in parts if part > count / 20))
    if any(abs(part / unit - round(part / unit)) > 0.2 for part in parts):
        unit /= 2  # one and a half to one
    return Streams(*(round(part / unit) for part in parts))


def _bytes(values: Any, least: float) -> float:
    """Of all arrays of some size: sums along rows or columns hardly count. Of a list the first, as
    the others are there for tests."""
    first = [value[0] if isinstance(value, list) else value for value in values]
    sizes = [a.nbytes for a in first if isinstance(a, np.ndarray)]
    return float(sum(size for size in sizes if size > least / 8))
