"""All rows: each kernel of the records at its shapes, and the workloads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from onepass.bench import _check as check
from onepass.bench import _end_to_end, _front, _machine, _workloads
from onepass.bench import _peers as peers
from onepass.bench._records import case as records
from onepass.bench._records import cases
from onepass.bench._row import Context, Function, Row, Streams, Workload, named
from onepass.bench._timing import in_rotation

# From this many elements on a kernel's row is about memory: no call may find its data in a cache.
MEMORY = 1 << 23


def rows(context: Context) -> Iterator[Row]:
    """Those that have the shape and dtype that the user asks for."""
    for case in cases.CASES:
        for i, shape in enumerate([context.shape] if context.shape else case.bench_shapes):
            if not context.shape or fits(case, shape):
                quick = i == 0 and _shown(case)
                yield Row(f"{case.name} {named(shape)}", case.group, _kernel(case, shape), quick)
    if context.shape is None and context.dtype == "float32":
        yield from _workloads.rows()
        yield from _end_to_end.rows()
        if records.has_torch():
            yield from _front.rows()


def stored(dtype: str) -> np.dtype[Any]:
    """NumPy's type of that name."""
    return records.BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)


def fits(case: Any, shape: tuple[int, ...]) -> bool:
    """Whether a kernel takes arrays of as many dimensions."""
    least = min(map(len, case.bench_shapes))
    exactly = least > 1 and case.family in ("windows", "loss")
    return len(shape) == least if exactly else len(shape) >= least


def _shown(case: Any) -> bool:
    """Whether a quick run has the kernel: gradients look like forwards, and so do optimizers."""
    if case.family == "update":
        return case.name in ("adamw", "sgd_momentum", "lion", "rmsprop", "lamb", "adafactor")
    return not case.name.endswith("_backward") or case.family == "norm"


def _kernel(case: Any, shape: tuple[int, ...]) -> Callable[[Context], Workload]:
    def make(context: Context) -> Workload:
        options = case.bench_options or case.options[0]
        keywords = cases.keywords_of(options)
        dtype = stored(context.dtype)
        inputs = case.inputs(shape, dtype, options)
        elements = math.prod(shape)
        count = elements * float(case.bytes(dtype.itemsize))
        missing: dict[str, str] = {}

        def functions() -> dict[str, Function]:
            own = tuple(check.copied(inputs))
            found = peers.kernel(context, case, own, keywords)
            missing.update(found.missing)
            return forms(case, inputs, keywords, found.functions) | found.functions

        rotates = elements >= MEMORY
        cache = _machine.last_cache() if rotates else 0
        return Workload(
            in_rotation(functions, count, cache),
            elements,
            count,
            streams(case, shape, context.dtype),
            lambda: check.of_case(case, shape, str(dtype), options, inputs=inputs),
            missing=missing,
            rotates=rotates,
        )

    return make


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


def streams(case: Any, shape: tuple[int, ...], dtype: str) -> Streams:
    """What a row reads and writes, from its results on a few rows of that shape. An input that need
    not be read does not count: all add up to the bytes of the record."""
    kind = stored(dtype)
    few = (min(8, shape[0]), *shape[1:]) if len(shape) > 1 else (min(4096, shape[0]),)
    options = case.bench_options or case.options[0]
    inputs = case.inputs(few, kind, options)
    results = case.run(inputs, options)
    array = math.prod(few) * kind.itemsize
    updated = _bytes([inputs[i] for i in case.written], array)
    written = _bytes(results[: len(results) - len(case.written)], array)
    count = case.bytes(kind.itemsize) * math.prod(few)
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
