"""The check of a row: ours, run once on copies of the inputs, beside the records' float64
formulas, within their bounds.

The formula is evaluated for about MOST elements. Of a longer array ours runs on all of it, and the
first rows are compared, where rows do not depend on one another; else both run on fewer rows. The
check says so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from onepass.bench._records import case as records
from onepass.bench._row import Check, named

MOST = 1 << 17


def few(shape: tuple[int, ...]) -> tuple[int, ...]:
    """As many rows as are compared, two at least, if there are as many."""
    return (min(shape[0], max(2, MOST // max(1, math.prod(shape[1:])))), *shape[1:])


def of_case(
    case: Any,
    shape: tuple[int, ...],
    dtype: str,
    options: dict[str, Any],
    place: Callable[[Any], Any] = lambda value: value,
    back: Callable[[Any], Any] = lambda value: value,
    inputs: tuple[Any, ...] | None = None,
) -> Check:
    """Of a row of the records. ``place`` puts an array on a device, ``back`` brings a result.
    ``inputs`` are those of the row, where they have been made."""
    short = few(shape)
    note, part = "", None
    if short[0] < shape[0]:
        if case.by_rows:
            part, note = short[0], f"the first {short[0]:,} of {shape[0]:,} rows"
        else:
            shape, note, inputs = short, f"at {named(short)}", None
    if inputs is None:
        inputs = case.inputs(shape, dtype, options)
    want = case.expect(_cut(inputs, shape, part), options)
    results = case.run(tuple(_mapped(place, copied(inputs))), options)
    got = [back(result) for result in _flat(results)]
    return worst(
        (compared(g, w, case.tolerance, dtype, case.elementwise, part)
         for g, w in zip(got, _flat(want), strict=True)),
        note,
    )  # fmt: skip


def of_steps(
    variant: Any,
    params: Sequence[Any],
    grads: Sequence[Any],
    place: Callable[[Any], Any] = np.copy,
    back: Callable[[Any], Any] = lambda value: value,
    clip: bool = False,
) -> Check:
    """Of two steps of an optimizer over a list: those tensors that make up MOST elements.

    The second step's gradients are three times the first's. With ``clip`` they are scaled to twice,
    and all must be 0 afterwards: steps that do not depend on the size of gradients, as AdamW's, do
    depend on that of one beside the next.
    """
    ours = [place(p) for p in params]
    optimizer = variant.make(ours, lr=1e-2)
    chosen = _first(params)
    run = variant.trajectory([params[i].copy() for i in chosen], lr=1e-2)
    few = [grads[i] for i in chosen]
    # The formula sees the chosen ones alone, whose norm is smaller.
    controls, formula = (
        ({"max_norm": 2 * _norm(grads), "zero_grad": True}, {"max_norm": 2 * _norm(few)})
        if clip
        else ({}, {})
    )
    for factor in (np.float32(1), np.float32(3)):
        slopes = [place(g * factor) for g in grads]
        optimizer.step(slopes, **controls)
        run.step([g * factor for g in few], **formula)
        if clip and any(np.any(back(slope)) for slope in slopes):
            return Check(math.inf, None, "gradients are not cleared")
    note = "" if len(chosen) == len(params) else f"{len(chosen)} of {len(params)} tensors"
    checks = (
        compared(back(ours[i]), want, records.Derived(), "float32", True)
        for i, want in zip(chosen, run.params, strict=True)
    )
    return worst(checks, note)


def _first(params: Sequence[Any]) -> list[int]:
    """Places of the tensors that fit into MOST elements, one at least."""
    chosen: list[int] = []
    left = MOST
    for i, p in enumerate(params):
        if p.size <= left:
            chosen.append(i)
            left -= p.size
    return chosen or [0]


def _norm(arrays: Sequence[Any]) -> float:
    """Of all elements, in float64."""
    return math.sqrt(sum(float(np.sum(np.square(a, dtype=np.float64))) for a in arrays))


def compared(
    got: Any, want: Any, tolerance: Any, dtype: str, elementwise: bool, part: int | None = None
) -> Check:
    """One result; of ``part``, its first rows, or nothing where it has no rows."""
    if want is None or got is None:
        return Check(0.0 if got is want else math.inf)
    got, want = np.asarray(got), np.asanyarray(want, np.float64)  # a Bounded brings its bound
    if part is not None and got.shape != want.shape:
        got = got[: len(want)]
    if got.shape != want.shape:
        return Check(math.inf, None, f"shape {got.shape}, expected {want.shape}")
    given = np.dtype(dtype)
    stored = got.dtype if want.ndim or got.dtype.itemsize <= given.itemsize else given
    wide = records.as_float64(got)
    with np.errstate(all="ignore"):
        plain = np.asarray(want)
        error = np.abs(wide - plain)
        limit = tolerance.bound(want, stored, records.computing(given))
        same = (wide == plain) | (np.isnan(wide) & np.isnan(plain))
        share = np.where(same, 0.0, error / limit)
        share = np.where(np.isnan(share), np.inf, share)
        ulps = None
        # Where terms cancel, the last digit of the result says little.
        exact = elementwise and getattr(tolerance, "peak", 1.0) == 0
        if exact and stored.name in records.SIGNIFICAND and got.size:
            units = np.where(same, 0.0, error / _ulp(plain, stored.name))
            ulps = float(np.max(np.where(np.isnan(units), np.inf, units)))
    return Check(float(np.max(share, initial=0.0)), ulps)


def within(got: Any, want: Any, share: float) -> Check:
    """Of a chain of kernels, which no record bounds: error over ``share`` of the largest value."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        return Check(math.inf, None, f"shape {got.shape}, expected {want.shape}")
    size, error = (np.max(np.abs(a), initial=0.0) for a in (want, got - want))
    return Check(_relative(error, share * size))


def same(result: Any, other: Any, form: str) -> Check:
    """The same call in another form has the same bits."""
    one, two = (np.ascontiguousarray(array).tobytes() for array in (result, other))
    return Check(0.0, None) if one == two else Check(math.inf, None, f"{form} gives another result")


def together(got: Any, want: Any, share: float) -> Check:
    """Of values that are stored in few bits: the norm of all errors over ``share`` of the norm."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    return Check(_relative(np.linalg.norm(got - want), share * np.linalg.norm(want)))


def _relative(error: Any, bound: Any) -> float:
    """Nothing is right to a bound of 0 but what is exact, and nothing where there is a NaN."""
    if error == 0:
        return 0.0
    return float(error / bound) if bound > 0 and not math.isnan(error) else math.inf


def worst(checks: Iterator[Check], note: str = "") -> Check:
    """All of them as one."""
    found = list(checks)
    ulps = [check.ulps for check in found if check.ulps is not None]
    notes = [note, *(check.note for check in found)]
    return Check(
        max((check.error for check in found), default=0.0),
        max(ulps) if ulps else None,
        "; ".join(dict.fromkeys(filter(None, notes))),
    )


def copied(inputs: Sequence[Any]) -> list[Any]:
    """Copies of all arrays."""
    return list(_mapped(lambda a: a.copy(), inputs))


def _ulp(want: np.ndarray, dtype: str) -> np.ndarray:
    _, exponent = np.frexp(want)
    unit = np.exp2(exponent - float(records.SIGNIFICAND[dtype]))
    return np.maximum(unit, records.SMALLEST[dtype])  # type: ignore[no-any-return]


def _cut(inputs: tuple[Any, ...], shape: tuple[int, ...], part: int | None) -> tuple[Any, ...]:
    def rows(a: Any) -> Any:
        whole = part is None or a.ndim != len(shape) or a.shape[0] != shape[0]
        return a.copy() if whole else a[:part].copy()

    return tuple(_mapped(rows, inputs))


def _mapped(function: Callable[[Any], Any], inputs: Sequence[Any]) -> Iterator[Any]:
    for value in inputs:
        if isinstance(value, list):
            yield [function(a) if isinstance(a, np.ndarray) else a for a in value]
        else:
            yield function(value) if isinstance(value, np.ndarray) else value


def _flat(results: Sequence[Any]) -> list[Any]:
    parts = [r if isinstance(r, list) else [r] for r in results]
    return list(itertools.chain.from_iterable(parts))
