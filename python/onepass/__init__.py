"""Fused training kernels for CPU and CUDA, on the arrays you already have.

>>> import numpy as np, onepass
>>> onepass.ops.relu(np.float32([-1, 2]))
array([0., 2.], dtype=float32)

Submodules are imported when they are first used: ``ops`` (functions on arrays), ``optim``, ``nn``,
``data``, ``train``, ``parallel``, ``runs``, ``lab``, ``bench``, ``config``, and, where PyTorch, JAX
or scikit-learn is installed, ``torch``, ``jax`` and ``sklearn``. ``load_run`` opens a run that
``onepass train`` has saved.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING, Any

from onepass import _environment, _threadpools
from onepass._C import __version__

if TYPE_CHECKING:
    from onepass import bench, config, data, lab, nn, ops, optim, parallel, runs, train
    from onepass import sklearn as sklearn
    from onepass.runs import load_run

__all__ = [
    "__version__", "bench", "config", "data", "lab", "load_run", "nn", "ops", "optim", "parallel",
    "runs", "train",
]  # fmt: skip

_environment.check(os.environ)
_threadpools.connect()
# Not in __all__: `from onepass import *` would import PyTorch and JAX, and take their names.
_OPTIONAL = frozenset({"torch", "jax", "sklearn"})
_SUBMODULES = frozenset({*__all__, "cli"} - {"__version__", "load_run"})


if not TYPE_CHECKING:  # a type checker would take any name from it

    def __getattr__(name: str) -> Any:
        if name in _SUBMODULES or name in _OPTIONAL:
            return importlib.import_module(f"onepass.{name}")
        if name == "load_run":
            return importlib.import_module("onepass.runs").load_run
        raise AttributeError(f"module 'onepass' has no attribute {name!r}")


def __dir__() -> list[str]:
    own = (name for name in globals() if name.startswith("__"))
    usable = (name for name in _OPTIONAL if importlib.util.find_spec(name) is not None)
    return sorted({*own, *_SUBMODULES, *usable, "load_run"})
