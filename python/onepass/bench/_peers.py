"""Rivals (temporary: the package of this name takes its place)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple

from onepass.bench._records import case as records
from onepass.bench._row import Context, Function


class Found(NamedTuple):
    functions: dict[str, Function]
    missing: dict[str, str]


class Library(NamedTuple):
    module: str

    def absent(self) -> str | None:
        there = importlib.util.find_spec(self.module) is not None
        return None if there else f"{self.module} is not installed"


LIBRARIES: dict[str, Library] = {
    "torch": Library("torch"),
    "torch-compile": Library("torch"),
    "jax": Library("jax"),
    "optax": Library("optax"),
    "numpy": Library("numpy"),
    "thinc": Library("thinc"),
    "sklearn": Library("sklearn"),
    "keras": Library("keras"),
}


def kernel(context: Context, case: Any, inputs: Any, keywords: Any) -> Found:
    return Found(case.rivals(inputs, keywords), {})


def both(context: Context, case: Any, inputs: Any, keywords: Any) -> Found:
    functions = dict(case.both(inputs, keywords))
    functions.pop("onepass")
    return Found(functions, {})


def steps(
    context: Context, variant: Any, params: Sequence[Any], grads: Sequence[Any], options: Any = None
) -> Found:
    if variant.record.torch is None or not records.has_torch():
        return Found({}, {})
    given = ([records.tensor_of(a) for a in arrays] for arrays in (params, grads))
    return Found(variant.torch_steps(*given, {"lr": 1e-5}), {})


def library_of(label: str) -> str:
    return "torch-compile" if label.startswith("torch compile") else label.split()[0]
