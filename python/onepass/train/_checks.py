"""Checks before the first batch: parts, options, data and monitors."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from typing import Any

from onepass import _numbers as numbers
from onepass.data import DataLoader
from onepass.train._callbacks import HOOKS, Callback
from onepass.train._keywords import suggestion
from onepass.train._monitor import MODES, direction
from onepass.train._run import Run

NONFINITE = ("raise", "skip", "propagate")
STATIC = (staticmethod, classmethod)
# What Keras, Lightning and fastai call them.
OTHER_NAMES = {
    "on_train_begin": "on_fit_begin", "on_train_start": "on_fit_begin",
    "on_fit_start": "on_fit_begin", "on_train_end": "on_fit_end",
    "on_epoch_start": "on_epoch_begin", "on_train_epoch_start": "on_epoch_begin",
    "on_train_epoch_end": "on_epoch_end", "on_batch_end": "on_step_end",
    "on_train_batch_end": "on_step_end", "on_after_step": "on_step_end",
    "on_batch_begin": "on_before_step", "on_train_batch_begin": "on_before_step",
    "on_train_batch_start": "on_before_step", "on_step_begin": "on_before_step",
    "on_before_optimizer_step": "on_before_step", "on_after_backward": "on_before_step",
    "on_test_end": "on_validation_end", "on_validation_epoch_end": "on_validation_end",
    "on_evaluate_end": "on_validation_end", "on_exception": "on_abort",
    "on_keyboard_interrupt": "on_abort",
}  # fmt: skip
BATCH_STATISTICS = ("BatchNorm", "BatchRenorm", "DecorrelatedBatchNorm")


def parts(model: Any, loss: Any, optimizer: Any) -> None:
    """Refuse a model, loss or optimizer of the wrong type, or that do not belong together."""
    for name in ("parameters", "backward", "state_dict"):
        if not hasattr(model, name):
            raise TypeError(f"Trainer: 'model' is a {type(model).__name__}, expected an nn.Module")
    if isinstance(loss, type) or not callable(loss):
        shown = f"the class {loss.__name__}" if isinstance(loss, type) else repr(loss)
        raise TypeError(
            f"Trainer: 'loss' is {shown}, expected a loss module such as nn.CrossEntropyLoss()"
        )
    if not hasattr(optimizer, "param_groups") or isinstance(optimizer, type):
        shown = "the class" if isinstance(optimizer, type) else "a"
        kind = optimizer if isinstance(optimizer, type) else type(optimizer)
        raise TypeError(
            f"Trainer: 'optimizer' is {shown} {kind.__name__}, expected "
            "optim.<Name>(model.parameters())"
        )
    own = {id(parameter) for parameter in model.parameters()}
    stepped = [p for group in optimizer.param_groups for p in group["params"]]
    for number, parameter in enumerate(stepped):
        if id(parameter) not in own:
            raise ValueError(
                f"Trainer: 'optimizer' has parameter {number}, of shape {tuple(parameter.shape)}, "
                f"that the model lacks, expected optim.{type(optimizer).__name__}("
                "model.parameters()) of the same model"
            )
    if getattr(loss, "reduction", None) == "none":
        raise ValueError(
            "Trainer: 'loss' has reduction='none', one number a sample, expected "
            f"{type(loss).__name__}(reduction='mean') or 'sum', one number a batch"
        )


def helpers(callbacks: Iterable[Any]) -> list[Any]:
    """The callbacks as a list; refuses other objects."""
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"Trainer: 'callbacks' is {callbacks!r}, expected a list of callbacks")
    found = list(callbacks)
    for number, callback in enumerate(found):
        if not isinstance(callback, Callback):
            raise TypeError(
                f"Trainer: 'callbacks[{number}]' is {callback!r}, expected a Callback of "
                "onepass.train"
            )
        if any(callback is other for other in found[:number]):
            raise ValueError(
                f"Trainer: 'callbacks[{number}]' is {callback!r}, expected each callback once"
            )
        _hooks(callback)
    return found


def _hooks(callback: Callback) -> None:
    """Refuse a method that is named like a hook and would never be called."""
    for name in dir(callback):
        method = inspect.getattr_static(callback, name) if name.startswith("on_") else None
        if name not in HOOKS and (callable(method) or isinstance(method, STATIC)):
            hint = suggestion(OTHER_NAMES.get(name, name), HOOKS)
            raise TypeError(
                f"Trainer: {type(callback).__name__} has the method {name!r}, expected a hook "
                f"({', '.join(HOOKS)}){hint}"
            )


def options(max_norm: float | None, nonfinite: str, accumulate: int, seed: int) -> None:
    """Refuse options of the trainer that are out of range."""
    if max_norm is not None:  # inf only measures the norm
        numbers.in_range("Trainer", "max_norm", max_norm, above=0, most=math.inf, or_none=True)
    numbers.one_of("Trainer", "nonfinite", nonfinite, NONFINITE)
    numbers.integer("Trainer", "accumulate", accumulate, 1)
    numbers.seed("Trainer", "seed", seed)


def before_training(run: Run, loader: DataLoader, validation: DataLoader | None) -> None:
    """Refuse unknown monitors, validation data of another shape, and a last batch of one sample."""
    if validation is not None:
        given, expected = tuple(validation.X.shape[1:]), tuple(loader.X.shape[1:])
        if given != expected:
            raise ValueError(
                f"fit: 'validation_data' has samples of shape {given}, expected {expected} as in "
                "training"
            )
    names = ["loss", *run.metrics]
    names += [f"val_{name}" for name in names] if validation is not None else []
    names += ["grad_norm"] if run.max_norm is not None else []
    for callback in run.callbacks:
        names += [callback.logs] if isinstance(callback.logs, str) else callback.logs
    for callback in run.callbacks:
        monitor = callback.monitor
        if monitor is not None and monitor not in [*names, "lr"]:
            known = ", ".join(names)
            hint = suggestion(monitor, names)
            if monitor.startswith("val_") and validation is None:
                hint += "; val_… needs validation_data or validation_split"
            name = type(callback).__name__
            raise ValueError(f"{name}: 'monitor' is {monitor!r}, expected one of {known}{hint}")
        if monitor is not None and (mode := getattr(callback, "mode", None)) in MODES:
            direction(type(callback).__name__, monitor, mode)
    norms = [m for m in run.model.modules() if type(m).__name__.startswith(BATCH_STATISTICS)]
    if norms and loader.last_batch == 1:
        cure = "drop_last=True" if loader.batch_size > 1 else "a batch_size above 1"
        raise ValueError(
            f"fit: 'batch_size' is {loader.batch_size}, which leaves a last batch of one of "
            f"{loader.size} samples, expected at least two for {type(norms[0]).__name__}: pass "
            f"{cure}"
        )
