"""The parameters of an estimator, checked when it is fitted: scikit-learn wants none checked
before."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from onepass import _numbers as numbers
from onepass._suggest import suggestion
from onepass.runs._network import NORMS, activations

ACTIVATIONS = {"logistic": "sigmoid"}  # scikit-learn's name → that of onepass.ops
RATES = ("constant", "invscaling", "adaptive")
MOST_IN_A_BATCH = 200  # of "auto", as in scikit-learn


@dataclass(frozen=True, kw_only=True)
class Options:
    """The parameters as they are used."""

    owner: str
    hidden: tuple[int, ...]
    activation: str
    norm: str
    dropout: float
    standardize: bool
    alpha: float
    batch_size: int | None
    rate: str
    power_t: float
    max_iter: int
    shuffle: bool
    tol: float
    verbose: bool
    early_stopping: bool
    validation_fraction: float
    patience: float
    device: str

    @classmethod
    def of(cls, estimator: Any) -> Options:
        """Those of an estimator.

        Raises:
            TypeError, ValueError: a parameter of another type or out of range.
        """
        owner = type(estimator).__name__
        given = vars(estimator)  # a subclass may name fewer in its __init__

        def flag(name: str) -> bool:
            return numbers.flag(owner, name, given[name])

        def least(name: str, low: float) -> float:
            return numbers.in_range(owner, name, given[name], low)

        numbers.one_of(owner, "learning_rate", given["learning_rate"], RATES)
        batch, patience = given["batch_size"], given["n_iter_no_change"]
        if batch != "auto":
            expected = "'auto' or a whole number >= 1"
            if isinstance(batch, str):
                raise ValueError(f"{owner}: 'batch_size' is {batch!r}, expected {expected}")
            batch = numbers.integer(owner, "batch_size", batch, 1)
        if patience != math.inf:
            patience = numbers.integer(owner, "n_iter_no_change", patience, 1)
        flag("warm_start")
        if given["verbose"] not in (0, 1):
            numbers.integer(owner, "verbose", given["verbose"], 0)
        fraction = numbers.in_range(
            owner, "validation_fraction", given["validation_fraction"], above=0, high=1
        )
        return cls(
            owner=owner,
            hidden=_hidden(owner, given["hidden_layer_sizes"]),
            activation=_activation(owner, given["activation"]),
            norm=_norm(owner, given["norm"]),
            dropout=numbers.in_range(owner, "dropout", given["dropout"], 0, 1),
            standardize=flag("standardize"),
            alpha=least("alpha", 0),
            batch_size=None if batch == "auto" else batch,
            rate=given["learning_rate"],
            power_t=least("power_t", 0),
            max_iter=numbers.integer(owner, "max_iter", given["max_iter"], 1),
            shuffle=flag("shuffle"),
            tol=least("tol", 0),
            verbose=bool(given["verbose"]),
            early_stopping=flag("early_stopping"),
            validation_fraction=fraction,
            patience=patience,
            device=_device(owner, given["device"]),
        )

    @property
    def network(self) -> tuple[Any, ...]:
        """What a fit that goes on with the same network cannot change."""
        return self.hidden, self.activation, self.norm, self.dropout, self.standardize, self.device


def _hidden(owner: str, sizes: Any) -> tuple[int, ...]:
    listed = sizes if isinstance(sizes, Iterable) and not isinstance(sizes, str) else (sizes,)
    return tuple(numbers.integer(owner, "hidden_layer_sizes", size, 1) for size in listed)


def _activation(owner: str, name: Any) -> str:
    known = {**activations(), **ACTIVATIONS}
    if not isinstance(name, str) or name not in known:
        hint = suggestion(str(name), known)
        raise ValueError(
            f"{owner}: 'activation' is {name!r}, expected one of {', '.join(sorted(known))}{hint}"
        )
    return ACTIVATIONS.get(name, name)


def _norm(owner: str, name: Any) -> str:
    if name is None:
        return "none"
    if not isinstance(name, str) or name not in NORMS:
        known = ", ".join(map(repr, NORMS))
        raise ValueError(f"{owner}: 'norm' is {name!r}, expected None, {known}")
    return name


def _device(owner: str, name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{owner}: 'device' is {name!r}, expected 'cpu', 'cuda' or 'cuda:N'")
    return name
