"""The largest error of every activation and its slope, in units in the last place of float32.

    python bench/ulps.py [--every 16] [NAME …]

Compares with the float64 formulas of tests/cases/activations.py over every float32 there is, or one
in so many, and prints a row of the table in docs/numerics.md for each form.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from cases._case import label_of
from cases.activations import FORMS

CHUNK = 1 << 20


def ulps(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """|got - want| in units in the last place of want, those of subnormals included."""
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(want)
        error = np.abs(got.astype(np.float64) - want) * np.exp2(-np.maximum(exponent - 24.0, -149))
        same = (got == want.astype(np.float32)) | (np.isnan(got) & np.isnan(want))
    return np.where(same & ~np.isfinite(got), 0.0, np.where(np.isnan(error), np.inf, error))


def measure(record, form, every: int) -> tuple[list[float], list[float]]:
    """The largest errors of f and its slope, and where they are."""
    worst, where = [0.0, 0.0], [0.0, 0.0]
    one = np.ones(CHUNK, np.float32)
    for first in range(0, 1 << 32, CHUNK * every):
        bits = np.arange(first, min(first + CHUNK * every, 1 << 32), every, dtype=np.uint64)
        x = bits.astype(np.uint32).view(np.float32)
        x = x[np.isfinite(x)]
        if x.size == 0:
            continue
        wide = x.astype(np.float64)
        # A dtype that remembers float32: see cases.as_float64.
        wide = wide.astype(np.dtype(np.float64, metadata={"before": "float32"}))
        results = (
            (record.op(x, **form.options), record.reference(wide, **form.options)),
            (
                record.op_backward(one[: x.size], x, **form.options),
                record.reference_backward(1.0, wide, **form.options),
            ),
        )
        for i, (got, want) in enumerate(results):
            error = ulps(got, np.asarray(want))
            at = int(error.argmax())
            if error[at] > worst[i]:
                worst[i], where[i] = float(error[at]), float(x[at])
    return worst, where


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="one float in so many")
    parser.add_argument("names", nargs="*", help="of activations; all without any")
    args = parser.parse_args()
    for record, form in FORMS:
        if args.names and record.name not in args.names:
            continue
        worst, where = measure(record, form, args.every)
        label = " ".join(filter(None, [record.name, label_of(form.options)]))
        cells = [f"{w:.2f} at {x:.9g}" for w, x in zip(worst, where, strict=True)]
        print(f"| {label} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
