"""Everything that can be refused before the first batch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from onepass import _numbers as numbers
from onepass.data import DataLoader
from onepass.train._callbacks import Callback
from onepass.train._keywords import suggestion
from onepass.train._run import Run

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
    if max_norm is not None:  # inf clips nothing: the norm is only measured
        numbers.in_range("Trainer", "max_norm", max_norm, above=0, most=math.inf, or_none=True)
    if nonfinite not in NONFINITE:
        raise ValueError(f"nonfinite={nonfinite!r}; expected one of {', '.join(NONFINITE)}")
    numbers.integer("Trainer", "accumulate", accumulate, 1)
    numbers.seed("Trainer", "seed", seed)


def before_training(run: Run, loader: DataLoader, validation: DataLoader | None) -> None:
    """Monitors that exist, batches that batch norm can take."""
    if validation is not None:
        given, expected = tuple(validation.X.shape[1:]), tuple(loader.X.shape[1:])
        if given != expected:
            raise ValueError(
                f"validation_data: samples have shape {given}; expected {expected} as in training"
            )
    names = ["loss", *run.metrics]
    names += [f"val_{name}" for name in names] if validation is not None else []
    for callback in run.callbacks:
        monitor = callback.monitor
        if monitor is not None and monitor not in [*names, "lr"]:
            known = ", ".join(names)
            hint = suggestion(monitor, names)
            if monitor.startswith("val_") and validation is None:
                hint += "; val_… needs validation_data or validation_split"
            name = type(callback).__name__
            raise ValueError(f"{name}: monitor={monitor!r}; expected one of {known}{hint}")
    norms = [m for m in run.model.modules() if type(m).__name__.startswith(BATCH_STATISTICS)]
    if norms and loader.last_batch == 1:
        cure = "drop_last=True" if loader.batch_size > 1 else "a batch_size above 1"
        raise ValueError(
            f"{loader.size} samples in batches of {loader.batch_size} leave a last batch of one "
            f"sample, which {type(norms[0]).__name__} cannot normalise; pass {cure}"
        )
