"""The one table of kernels, one record a kernel, one subject a file.

A record says what a kernel computes, how exactly, and which options to try. The rows of CASES,
limits, gradient checks, fusion, trajectories, PyTorch's counterpart, the simulator's and the
benchmark's lists follow from it; tests iterate over them and name no kernel. To add a kernel, add
its record: to activations.py, optimizers.py, norms.py, row_norms.py or losses.py. test_codebase.py
fails with the line to write where one is missing.

The float64 formulas stand beside the records, written as the papers write them: whole arrays, no
blocking, nothing in place. They share no code with the package. Arrays come in and go out as
float64; a caller that tests float16 rounds its inputs first, so that the formula sees exactly what
the kernel sees. Nothing here needs pytest, and PyTorch is imported where it is used.
"""

from . import channels, dropout, losses, norms, optimizers, reductions, row_norms, rows, windows
from ._case import (
    BFLOAT16,
    DTYPES,
    SIGNIFICAND,
    Case,
    Derived,
    Tolerance,
    as_float64,
    computing,
    keywords_of,
    label_of,
)
from .activations import ACTIVATIONS

__all__ = [
    "BFLOAT16",
    "BY_NAME",
    "CASES",
    "DTYPES",
    "SIGNIFICAND",
    "Case",
    "Derived",
    "Tolerance",
    "as_float64",
    "computing",
    "keywords_of",
    "label_of",
]

CASES: list[Case] = [
    *(row for record in ACTIVATIONS for row in record.rows()),
    *dropout.rows(),
    *channels.rows(),
    *norms.rows(),
    *row_norms.rows(),
    *losses.rows(),
    *rows.rows(),
    *windows.rows(),
    *reductions.rows(),
    *optimizers.rows(),
]
BY_NAME = {case.name: case for case in CASES}
