"""How exact each kernel is, measured when the site is built, beside the bound of its tests."""

from __future__ import annotations

import html
import sys
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from generate import names

TESTS = Path(__file__).resolve().parents[2] / "tests"
LARGEST = 20_000  # elements of an input: a sample, of the tests' shapes
# Results below this part of the largest one may have cancelled, and an ulp of theirs says little.
SMALL = 1 / 16
FAMILIES = {
    "activation": "Activations", "rows": "Softmax, maxout, gated units",
    "channels": "Bias and activation", "norm": "Batch norms", "row_norm": "Norms over rows",
    "loss": "Losses", "dropout": "Dropout", "windows": "Convolutions and pools",
    "reduction": "Sums", "update": "Steps of optimizers",
}  # fmt: skip


@cache
def records() -> tuple[Any, ...]:
    """Those of the tests, which know formulas, bounds and bytes of every kernel.

    So the site is built from a checkout, not from an installed package.
    """
    sys.path.insert(0, str(TESTS))
    try:
        from cases import CASES
    finally:
        sys.path.pop(0)
    return tuple(CASES)


def table() -> str:
    """Every kernel by family: its largest error in float32, and what part of its bound that is."""
    label_of = names.link("onepass.ops")
    parts = []
    families = dict.fromkeys([*FAMILIES, *(record.family for record in records())])
    for family in families:
        rows = []
        for record in records():
            if record.family != family:
                continue
            measured = errors(record)
            if measured is None:
                continue  # bits of a mask
            label = label_of(record.name) or label_of(f"{record.name}_")
            shown = f"[`{record.name}`](#{label})" if label else f"`{record.name}`"
            rows.append(f"| {shown} | {measured[0]:.2f} | {measured[1]:.0%} | {_why(record)} |")
        if rows:
            head = "| function | error, ulp | of its bound | where the bound comes from |\n"
            head += "| --- | --- | --- | --- |"
            parts.append(f"### {FAMILIES.get(family, family.capitalize())}")
            parts.append("\n".join([head, *rows]))
    return "\n\n".join(parts)


def _why(record: Any) -> str:
    return html.escape(record.tolerance.why, False).replace("|", "\\|")


def errors(record: Any) -> tuple[float, float] | None:
    """(ulp, part of the bound) of the worst element of float32, over all options of the tests."""
    float32 = np.dtype(np.float32)
    fitting = [shape for shape in record.shapes if 0 < prod(shape) <= LARGEST]
    shape = max(fitting, key=prod)
    ulps, parts = [], []
    for options in record.options:
        inputs = record.inputs(shape, float32, options)
        want = record.expect(inputs, options)
        for got, expected in _pairs(record.run(inputs, options), want):
            if np.issubdtype(got.dtype, np.floating):
                ulps.append(_ulps(got, np.asarray(expected)))
                parts.append(_part(got, expected, record.tolerance))
    return (max(ulps), max(parts)) if ulps else None


def _pairs(got: tuple[Any, ...], want: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    flat = [[r for result in results for r in (result if isinstance(result, list) else [result])]
            for results in (got, want)]  # fmt: skip
    return [(np.asarray(g), w) for g, w in zip(*flat, strict=True) if g is not None and np.size(g)]


def _ulps(got: Any, want: Any) -> float:
    size = np.abs(want)
    counted = np.isfinite(want) & (size >= SMALL * np.max(size[np.isfinite(want)], initial=0.0))
    unit = np.exp2(np.frexp(np.where(counted, size, 1.0))[1] - 24.0)
    return float(np.max(np.where(counted, np.abs(got - want) / unit, 0.0), initial=0.0))


def _part(got: Any, want: Any, tolerance: Any) -> float:
    bound = tolerance.bound(want, got.dtype, np.dtype(np.float32))
    plain = np.asarray(want)
    with np.errstate(all="ignore"):
        part = np.abs(got - plain) / bound
    return float(np.max(part[np.isfinite(plain)], initial=0.0))
