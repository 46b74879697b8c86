"""Checks before the first batch: that the parts fit together, the data, the monitors."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, TypeVar

from onepass._array import is_floating
from onepass._parameter import parameters_of
from onepass._suggest import suggestion
from onepass.data import DataLoader
from onepass.nn import _use
from onepass.nn._batch_norm import BatchNorm, OneValueError
from onepass.nn._decorrelated import DecorrelatedBatchNorm, FewValuesError
from onepass.train import _closure
from onepass.train._loaders import Loader
from onepass.train._monitor import MODES, direction
from onepass.train._run import Run
from onepass.train._warned import warn

Refusal = TypeVar("Refusal", bound=ValueError)

FEW = 4  # samples whose statistics are too uncertain to normalise by


def of_model(owner: str, model: Any, optimizer: Any) -> None:
    """Refuse an optimizer with a parameter that the model lacks."""
    own = {id(parameter) for parameter in model.parameters()}
    stepped = parameters_of(optimizer)
    for number, parameter in enumerate(stepped):
        if id(parameter) not in own:
            raise ValueError(
                f"{owner}: 'optimizer' has parameter {number}, of shape {tuple(parameter.shape)}, "
                f"that the model lacks, expected optim.{type(optimizer).__name__}("
                "model.parameters()) of the same model"
            )


def before_training(
    run: Run,
    loader: Loader,
    validation: Loader | None,
    owner: str = "fit",
    size: str = "batch_size",
) -> None:
    """Refuse callbacks that cannot work, validation data of another shape, and batches that are too
    small.

    Args:
        owner, size: for the messages about these.
    """
    of_model("fit", run.model, run.optimizer)
    if validation is not None and validation.X is not None and loader.X is not None:
        _validates_the_same(loader, validation.X)
    of_callbacks(run, run.callbacks, validates=validation is not None)
    _closure.check(run, len(loader))
    _batches_are_large_enough(run, loader, owner, size)


def _validates_the_same(loader: Loader, X: Any) -> None:
    """Refuse samples of validation that are not like those of training, after its transform."""
    trains, alone = loader.X, ""
    given, expected = tuple(X.shape[1:]), tuple(trains.shape[1:])
    alike = given == expected and is_floating(X) and is_floating(trains)
    if not alike and isinstance(loader, DataLoader) and loader.transform is not None:
        trains = loader.first(1)
        expected = tuple(trains.shape[1:])
        alone = " after the transform, which is for training alone"
    if given != expected:
        raise ValueError(
            f"fit: 'validation_data' has samples of shape {given}, expected {expected} as in "
            f"training{alone}"
        )
    if is_floating(trains) != is_floating(X):
        cure = "; nn.Rescaling as the model's first layer scales in both" * (X.dtype.kind in "iu")
        raise TypeError(
            f"fit: 'validation_data' has samples of {X.dtype}, expected {trains.dtype} as in "
            f"training{alone}{cure}"
        )


def of_callbacks(run: Run, callbacks: Iterable[Any], *, validates: bool) -> None:
    """Refuse callbacks that refuse the run, or monitor a name that the history will not have."""
    for callback in callbacks:
        callback._refuse(run)
        if callback.monitor is not None:
            owner = type(callback).__name__
            of_name(run, owner, "monitor", callback.monitor, validates=validates)
            if (mode := getattr(callback, "mode", None)) in MODES:
                direction(owner, callback.monitor, mode)


def of_name(run: Run, owner: str, argument: str, value: str, *, validates: bool) -> None:
    """Refuse a name that the history will not have."""
    names = ["loss", *run.metrics]
    names += [f"val_{name}" for name in names] if validates else []
    measured = run.max_norm is not None or _closure.needed(run.optimizer)
    names += ["grad_norm"] if measured else []
    names += [regularizer.name for regularizer in run.regularizers]
    for callback in run.callbacks:
        names += [callback.logs] if isinstance(callback.logs, str) else callback.logs
    if value not in [*names, "lr"]:
        known, hint = ", ".join(names), suggestion(value, names)
        if value.startswith("val_") and not validates:
            hint += "; val_… needs validation_data or validation_split"
        raise ValueError(f"{owner}: {argument!r} is {value!r}, expected one of {known}{hint}")


def _batches_are_large_enough(run: Run, loader: Loader, owner: str, name: str) -> None:
    """Refuse batches that leave a norm too few values; warn where they leave a batch norm few."""
    size = loader.smallest_batch
    whitens = any(isinstance(m, DecorrelatedBatchNorm) for m in run.model.modules())
    if not isinstance(loader, DataLoader) or not (whitens or size <= FEW):
        return
    try:
        trial = copy.deepcopy(run.model)
    except TypeError:
        return  # it holds something that cannot be copied, such as a lock
    _use.train(trial)
    if whitens and (refused := _refusal(run, trial, loader.first(size), FewValuesError)):
        cause = _cause(loader, "a larger one", owner, name)
        raise ValueError(f"{cause}: {refused}") from refused
    uses = any(isinstance(m, BatchNorm) and m.uses_batch() for m in trial.modules())
    if size > FEW or not uses:
        return
    error = _refusal(run, trial, loader.first(1), OneValueError)
    if error is None:
        return  # images or sequences: one sample has many values of a channel
    cure = f"a {name} above {FEW}" if loader.size > FEW else "more samples"
    text = f"{_cause(loader, cure, owner, name)}: {error.norm} normalises by their statistics, and "
    if size == 1:
        raise ValueError(f"{text}one sample has no variance")
    warn(f"{text}those of so few samples are too uncertain to train with")


def _refusal(run: Run, trial: Any, x: Any, kind: type[Refusal]) -> Refusal | None:
    """The error of that kind that a forward of x raises; of others, training says what is wrong."""
    try:
        trial(run.moved(x))
    except kind as error:
        return error
    except ValueError:
        pass
    return None


def _cause(loader: Loader, cure: str, owner: str, name: str) -> str:
    """Where the smallest batch comes from, and what to do about it."""
    size = loader.smallest_batch
    if loader.batch_size > FEW and loader.last_batch == "keep" and size < loader.batch_size:
        cause = f"'last_batch' is 'keep', which leaves a last batch of {size}"
        cure = "last_batch='balance' or 'drop'"
    else:
        cause = f"{name!r} is {loader.batch_size}, which leaves {size} in a batch"
    return f"{owner}: {cause} of {loader.size} samples, expected {cure}"
