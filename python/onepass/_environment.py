"""The environment variables that onepass reads. An invalid value is ignored, with a warning."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping

from onepass import _C

BLAS_THREADS = "ONEPASS_BLAS_THREADS"
# The values of each variable. csrc/cpu/parallel.cpp checks the number of threads when it reads it.
VALUES: dict[str, tuple[str, ...] | None] = {
    "ONEPASS_NUM_THREADS": None,
    "ONEPASS_CPU_LEVEL": (*_C.cpu_levels(),),
    BLAS_THREADS: ("keep",),
    "ONEPASS_CUDA_CHECK": ("0", "1"),
}
# Variables of the build and of the tests, which other programs read.
OTHERS = ("ONEPASS_CUDA", "ONEPASS_CUDA_ARCHS", "ONEPASS_WERROR", "ONEPASS_WRITE_BUDGET")
OTHER_PREFIX = "ONEPASS_TEST_"


def keeps_blas_threads() -> bool:
    """Whether the threads of NumPy's BLAS are left alone."""
    return os.environ.get(BLAS_THREADS) == "keep"


def sets_threads() -> bool:
    """Whether somebody has chosen the number of threads of our kernels."""
    return bool(os.environ.get("ONEPASS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS"))


def check(environment: Mapping[str, str]) -> None:
    """Warn of each variable of onepass that has no meaning, and of each value."""
    for name, value in environment.items():
        if not name.startswith("ONEPASS_") or name in OTHERS or name.startswith(OTHER_PREFIX):
            continue
        if name not in VALUES:
            from onepass._suggest import suggestion  # which takes longer than all of this file

            known = ", ".join(VALUES)
            _warn(f"{name} is set, expected one of {known}{suggestion(name, VALUES)}")
            continue
        allowed = VALUES[name]
        if value and allowed is not None and value not in allowed:
            _warn(f"{name} is {value!r}, expected {' or '.join(map(repr, allowed))}")


def _warn(text: str) -> None:
    warnings.warn(f"onepass: {text}; it is ignored", RuntimeWarning, stacklevel=3)
