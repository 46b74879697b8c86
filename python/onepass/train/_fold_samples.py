"""The samples of folds: parts of them, and the scaling that is fitted to the training part."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from onepass._one_thread import Lock
from onepass.data._given import rows_of
from onepass.data._rows import Rows, part_of, samples_or_array
from onepass.data._split import Indices

OWNER = "cross_validate"
_one_at_a_time = Lock(reentrant=True)  # draws from generators that the process has for all


def samples_of(X: Any, preprocess: Any) -> Any:
    """An array or rows of a file; a DataFrame where a scaling is to read it."""
    if preprocess is not None and hasattr(X, "iloc"):
        return X
    return samples_or_array(OWNER, X)


def part_of_samples(X: Any, places: Indices) -> Any:
    """Those at these places."""
    return rows_of(X, places) if hasattr(X, "iloc") else part_of(X, places)


def in_memory(array: Any) -> Any:
    """What lies in a file, read."""
    return array[:] if isinstance(array, Rows) else array


def fitted(preprocess: Any, x: Any, y: Any, seed: int) -> tuple[Any, Any]:
    """A copy of the scaling, fitted to these samples, and the samples as it makes them."""
    if preprocess is None:
        return None, x
    scaling = copy.deepcopy(preprocess)
    x = in_memory(x)
    arguments = (x, y) if _wants_targets(scaling) else (x,)
    with _one_at_a_time, _seeded(seed):
        scaling.fit(*arguments)
        return scaling, scaling.transform(x)


def prepared(scaling: Any, x: Any) -> Any:
    """Other samples, as the scaling makes them."""
    return x if scaling is None else scaling.transform(in_memory(x))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The random numbers that NumPy and Python have for all, which a step of scikit-learn without
    a random_state draws: a function of the seed inside, as they were behind it."""
    before, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        np.random.seed(np.random.SeedSequence(seed).generate_state(4))  # noqa: NPY002
        random.seed(seed)
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
        random.setstate(of_python)


def _wants_targets(scaling: Any) -> bool:
    """Whether its fit has an argument y, as scikit-learn's."""
    try:
        return "y" in inspect.signature(scaling.fit).parameters
    except (TypeError, ValueError):
        return False
