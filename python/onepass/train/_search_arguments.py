"""Checks of what a search is given."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import onepass
from onepass import _numbers as numbers
from onepass.train import _loaders, _pruners, _search_optuna
from onepass.train._built import validates
from onepass.train._marks import mark
from onepass.train._pruners import Pruner
from onepass.train._search_optuna import PRUNERS, SAMPLERS
from onepass.train._trainer import Trainer

RANDOM = "random"
VALIDATION = 0.2  # of the samples, where the metric needs some and none were given


def with_validation(fit: dict[str, Any], metric: str, *, splits: bool) -> dict[str, Any]:
    """The arguments of fit; a part of the samples is held out where the metric needs one."""
    needs = metric.startswith("val_") and not validates(fit)
    if needs and splits and "validation_split" not in fit:
        return {**fit, "validation_split": VALIDATION}
    return fit


def check_data(X: Any, y: Any, fit: Mapping[str, Any], seed: int) -> None:
    """Refuse at once what would fail in every trial."""
    names = inspect.signature(_loaders.to_train).parameters
    usual = inspect.signature(Trainer.fit).parameters
    options = {name: usual[name].default for name in ("batch_size", "shuffle")}
    options["last_batch"] = "balance"
    weights = ("sample_weight", "class_weight")  # the labels that count are the loss's matter
    options |= {k: value for k, value in fit.items() if k in names and k not in weights}
    _loaders.to_train(X, y, seed=seed, **options)


def sampler_of(sampler: Any, resumes: bool) -> Any:
    """A function of a seed or an object of Optuna's; None for draws of our own."""
    if isinstance(sampler, str):
        numbers.one_of("search", "sampler", sampler, (RANDOM, *SAMPLERS))
        return None if sampler == RANDOM else _search_optuna.named_sampler(sampler)
    if _search_optuna.is_of_optuna(sampler) and hasattr(sampler, "sample_independent"):
        if resumes:
            raise ValueError(
                f"search: 'sampler' is {type(sampler).__name__} with random numbers of its own, "
                "expected a function of a seed with resume, such as lambda seed: "
                f"{type(sampler).__name__}(seed=seed)"
            )
        return sampler
    if callable(sampler):
        _search_optuna.optuna("a function as sampler")
        return sampler
    names = ", ".join(map(repr, (RANDOM, *SAMPLERS)))
    raise TypeError(
        f"search: 'sampler' is {sampler!r}, expected {names}, or a function of a seed that returns "
        "a sampler of Optuna"
    )


def pruner_of(pruner: Any, max_epochs: int) -> Any:
    if pruner is None or isinstance(pruner, Pruner):
        return pruner
    if isinstance(pruner, str):
        numbers.one_of("search", "pruner", pruner, (*_pruners.NAMED, *PRUNERS))
        if pruner in _pruners.NAMED:
            return _pruners.NAMED[pruner]()
        return _search_optuna.named_pruner(pruner, max_epochs)
    if _search_optuna.is_of_optuna(pruner) and hasattr(pruner, "prune"):
        return copy.deepcopy(pruner)  # some settle their arguments at the first trial
    names = ", ".join(map(repr, (*_pruners.NAMED, *PRUNERS)))
    raise TypeError(
        f"search: 'pruner' is {pruner!r}, expected {names}, MedianPruner(), "
        "SuccessiveHalvingPruner(), a pruner of Optuna, or None"
    )


def versions(*, with_optuna: bool) -> dict[str, str]:
    """Of what decides which trials come next."""
    found = {"onepass": onepass.__version__}
    if with_optuna:
        found["optuna"] = str(_search_optuna.optuna("it").__version__)
    return found


def mark_of_pruner(pruner: Any) -> Any:
    """The same for a name and for the object that it means."""
    if isinstance(pruner, str) and pruner in _pruners.NAMED:
        pruner = _pruners.NAMED[pruner]()
    return mark("search", "pruner", pruner)
