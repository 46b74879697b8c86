"""``onepass info``: version, processor, CUDA, and the libraries that are used where installed."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import sys
from typing import Any

import onepass
from onepass.cli._arguments import Arguments
from onepass.cli._output import fail

# Optional packages, and what onepass uses them for.
LIBRARIES = {
    "numpy": "arrays",
    "cupy": "arrays on CUDA: --device cuda, Module.to",
    "torch": "its tensors are taken everywhere",
    "jax": "onepass.jax; its arrays are read everywhere",
    "scikit-learn": "text columns and gaps, data sets and metrics by name",
    "pandas": "Parquet and Excel files",
    "pyarrow": "Parquet files",
    "openpyxl": "Excel files",
    "matplotlib": "curves.png, plot()",
    "tqdm": "the progress bar",
    "threadpoolctl": "one BLAS thread while small nets train",
    "ml_dtypes": "bfloat16 arrays of NumPy",
    "optuna": "samplers and pruners of a search",
    "tensorboardX": "the TensorBoard callback",
}
CUPY_PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "cupy")


def info(options: Arguments) -> int:
    """Print it; returns the exit status."""
    if sys.stdout is None:
        return fail("there is no standard output", 1)
    found = _collect()
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    cuda = found["cuda"]
    print(f"onepass    {found['version']}")
    print(f"python     {found['python']}")
    machine = found["machine"]
    print(f"cpu        {machine['cpu']}")
    print(f"level      {found['cpu_level']}: {machine['level_reason']}")
    print(f"threads    {found['threads']}: {machine['threads_reason']}")
    print(f"blas       {_blas(found['blas'])}")
    print(f"cuda       {'usable' if cuda['usable'] else cuda['why_not']}")
    for name, version in found["libraries"].items():
        print(f"{name:<14}{version or 'not installed':<15}{LIBRARIES[name]}")
    return 0


def _collect() -> dict[str, Any]:
    from onepass import _C, config

    machine = dataclasses.asdict(config.explain(measure=False))
    usable = config.cuda_available()
    return {
        "version": onepass.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_level": machine["level"],
        "threads": machine["threads"],
        "machine": machine,
        "blas": _blas_state(),
        "cuda": {
            "built": _C.cuda_built(),
            "usable": usable,
            "why_not": None if usable else config.cuda_why_not(),
        },
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def _blas_state() -> dict[str, Any]:
    from onepass.train._blas import state

    return state()


def _blas(state: dict[str, Any]) -> str:
    """The line about NumPy's BLAS and its threads."""
    if not state["libraries"]:
        return "threads unknown; install threadpoolctl, or train small nets with OMP_NUM_THREADS=1"
    how = "one while small nets train" if state["set_by_training"] else "ONEPASS_BLAS_THREADS=keep"
    return f"{', '.join(state['libraries'])}, {state['threads']} threads ({how})"


def _version(name: str) -> str | None:
    """The installed version from the metadata of the package, without importing it."""
    for package in CUPY_PACKAGES if name == "cupy" else (name,):
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
