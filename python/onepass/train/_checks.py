"""Everything that can be refused before the first batch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._array import beside, to_numpy
from onepass.data import DataLoader, split_indices
from onepass.data._split import held_out
from onepass.train._callbacks import Callback
from onepass.train._keywords import suggestion

if TYPE_CHECKING:
    from onepass.train._trainer import Trainer

NONFINITE = ("raise", "skip", "propagate")
BATCH_STATISTICS = ("BatchNorm", "BatchRenorm", "DecorrelatedBatchNorm")


def parts(model: Any, loss: Any, optimizer: Any) -> None:
    """Model, loss and optimizer are what they should be."""
    for name in ("parameters", "backward", "state_dict"):
        if not hasattr(model, name):
            raise TypeError(f"model is a {type(model).__name__}; expected an nn.Module")
    if isinstance(loss, type) or not callable(loss):
        shown = f"the class {loss.__name__}" if isinstance(loss, type) else repr(loss)
        raise TypeError(f"loss is {shown}; expected a loss module such as nn.CrossEntropyLoss()")
    if not hasattr(optimizer, "param_groups") or isinstance(optimizer, type):
        kind = optimizer if isinstance(optimizer, type) else type(optimizer)
        raise TypeError(f"optimizer is {kind.__name__}; expected optim.<Name>(model.parameters())")
    own = {id(parameter) for parameter in model.parameters()}
    stepped = [p for group in optimizer.param_groups for p in group["params"]]
    for number, parameter in enumerate(stepped):
        if id(parameter) not in own:
            raise ValueError(
                f"optimizer: its parameter {number}, of shape {tuple(parameter.shape)}, is not one "
                f"of the model's; expected optim.{type(optimizer).__name__}(model.parameters()) "
                "of the same model"
            )
    if getattr(loss, "reduction", None) == "none":
        raise ValueError(
            "loss has reduction='none', a number a sample; training needs one number a batch: "
            f"expected {type(loss).__name__}(reduction='mean') or 'sum'"
        )


def helpers(callbacks: Iterable[Any], scheduler: Any) -> list[Any]:
    """The callbacks as a list; they and the scheduler are what they should be."""
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks is {callbacks!r}; expected a list of callbacks")
    found = list(callbacks)
    for callback in found:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks holds {callback!r}; expected callbacks of onepass.train")
    if scheduler is not None and not callable(getattr(scheduler, "step", None)):
        raise TypeError(f"scheduler is {scheduler!r}; expected a schedule of optim.lr_scheduler")
    return found


def options(max_norm: float | None, nonfinite: str, accumulate: int, seed: int) -> None:
    """Ranges of the trainer's options."""
    if max_norm is not None and not max_norm > 0:
        raise ValueError(f"max_norm={max_norm}; expected a number > 0, or None")
    if nonfinite not in NONFINITE:
        raise ValueError(f"nonfinite={nonfinite!r}; expected one of {', '.join(NONFINITE)}")
    numbers.integer("accumulate", accumulate, 1)
    numbers.seed("seed", seed)


def data(
    X: Any,
    y: Any,
    batch_size: int,
    shuffle: bool,
    drop_last: bool,
    seed: int,
    validation_data: tuple[Any, Any] | None,
    validation_split: float,
) -> tuple[DataLoader, DataLoader | None]:
    """The loaders for training and for validation."""
    if not isinstance(validation_split, (int, float, np.integer, np.floating)):
        raise TypeError(f"validation_split={validation_split!r}; expected a number")
    if not 0.0 <= validation_split < 1.0:
        raise ValueError(f"validation_split={validation_split}; expected a share from 0 to below 1")
    if validation_data is not None and validation_split:
        raise ValueError("validation_data and validation_split are both given; expected one")
    if isinstance(X, DataLoader):
        if y is not None or validation_split:
            raise ValueError("X is a DataLoader; expected no y and no validation_split")
        if X.y is None:
            raise ValueError("the DataLoader has no y; expected DataLoader(X, y, …)")
        return X, _validation(validation_data)
    if y is None:
        raise ValueError("y is missing; expected fit(X, y, …), or a DataLoader alone")
    whole = DataLoader(X, y, batch_size, shuffle, seed=seed)
    if validation_split:
        held_out("validation_split", validation_split, whole.size)
        train, rest = split_indices(to_numpy(y), validation_split, seed=seed)
        validation_data = (_take(X, rest), _take(y, rest))
        X, y = _take(X, train), _take(y, train)
    loader = DataLoader(X, y, batch_size, shuffle, drop_last, whole.seed)
    return loader, _validation(validation_data)


def before_training(trainer: Trainer, loader: DataLoader, validation: DataLoader | None) -> None:
    """Monitors that exist, batches that batch norm can take."""
    if validation is not None:
        given, expected = tuple(validation.X.shape[1:]), tuple(loader.X.shape[1:])
        if given != expected:
            raise ValueError(
                f"validation_data: samples have shape {given}; expected {expected} as in training"
            )
    names = ["loss", *trainer.metrics]
    names += [f"val_{name}" for name in names] if validation is not None else []
    for callback in trainer.callbacks:
        monitor = callback.monitor
        if monitor is not None and monitor not in [*names, "lr"]:
            known = ", ".join(names)
            hint = suggestion(monitor, names)
            if monitor.startswith("val_") and validation is None:
                hint += "; val_… needs validation_data or validation_split"
            name = type(callback).__name__
            raise ValueError(f"{name}: monitor={monitor!r}; expected one of {known}{hint}")
    norms = [m for m in trainer.model.modules() if type(m).__name__.startswith(BATCH_STATISTICS)]
    if norms and loader.last_batch == 1:
        cure = "drop_last=True" if loader.batch_size > 1 else "a batch_size above 1"
        raise ValueError(
            f"{loader.size} samples in batches of {loader.batch_size} leave a last batch of one "
            f"sample, which {type(norms[0]).__name__} cannot normalise; pass {cure}"
        )


def same_data(
    trainer: Trainer, loader: DataLoader, saved: Mapping[str, Any], *, resumes: bool
) -> dict[str, Any]:
    """The loader's description, which inside an epoch must be the saved one.

    Between two epochs another one is legal, and told where the run resumes a saved one: there an
    argument that was not repeated would make it another run without a word.
    """
    now = {
        name: getattr(loader, name)
        for name in ("size", "batch_size", "shuffle", "drop_last", "seed", "sampling")
    }
    now["accumulate"] = trainer.accumulate
    before = saved["data"]
    if before is None or before == now:
        return now
    name = next(key for key in now if now[key] != before[key])
    if saved["position"]:
        raise ValueError(
            f"the run stopped inside an epoch with {name}={before[name]!r} and would go on with "
            f"{now[name]!r}; expected the same data and batches"
        )
    if resumes:
        warnings.warn(
            f"the saved run had {name}={before[name]!r} and goes on with {now[name]!r}: it will "
            "not be the run that an uninterrupted one would have been",
            RuntimeWarning,
            stacklevel=5,
        )
    return now


def to_read(call: str, X: Any, y: Any, batch_size: int) -> DataLoader:
    """The loader for one pass over the data; ``call`` says whose they are."""
    if y is None and call != "predict":
        raise TypeError(f"{call}: y is None; expected an array with a target for each sample of X")
    shape = tuple(getattr(X, "shape", ()))
    if shape and shape[0] == 0:
        raise ValueError(f"{call}: X has shape {shape}: no samples; expected at least one")
    return DataLoader(X, y, batch_size)


def _take(array: Any, index: NDArray[np.int64]) -> Any:
    return array[beside(array, index)]


def _validation(pair: tuple[Any, Any] | None) -> DataLoader | None:
    if pair is None:
        return None
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError("validation_data: expected a pair (X, y)")
    return to_read("validation_data", pair[0], pair[1], 256)
