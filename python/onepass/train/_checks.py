"""Checks before the first batch: parts, options, data and monitors."""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Iterable
from typing import Any

from onepass import _numbers as numbers
from onepass._suggest import suggestion
from onepass.data._loader import LAST_BATCH
from onepass.nn import _modes
from onepass.train._callbacks import HOOKS, Callback
from onepass.train._loaders import Loader
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
FEW = 4  # samples whose statistics are too uncertain to normalise by
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
    of_model("Trainer", model, optimizer)
    if getattr(loss, "reduction", None) == "none":
        raise ValueError(
            "Trainer: 'loss' has reduction='none', one number a sample, expected "
            f"{type(loss).__name__}(reduction='mean') or 'sum', one number a batch"
        )


def threshold(model: Any) -> float:
    """Where one output a sample means class 1: a half behind a Sigmoid, 0 for a logit."""
    last = [*model.modules()][-1] if hasattr(model, "modules") else None
    return 0.5 if type(last).__name__ == "Sigmoid" else 0.0


def of_model(owner: str, model: Any, optimizer: Any) -> None:
    """Refuse an optimizer with a parameter that the model lacks."""
    own = {id(parameter) for parameter in model.parameters()}
    stepped = [p for group in optimizer.param_groups for p in group["params"]]
    for number, parameter in enumerate(stepped):
        if id(parameter) not in own:
            raise ValueError(
                f"{owner}: 'optimizer' has parameter {number}, of shape {tuple(parameter.shape)}, "
                f"that the model lacks, expected optim.{type(optimizer).__name__}("
                "model.parameters()) of the same model"
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


def options(
    max_norm: float | None, nonfinite: str, accumulate: int, last_batch: str, seed: int
) -> None:
    """Refuse options of the trainer that are out of range."""
    if max_norm is not None:  # inf only measures the norm
        numbers.in_range("Trainer", "max_norm", max_norm, above=0, most=math.inf, or_none=True)
    numbers.one_of("Trainer", "nonfinite", nonfinite, NONFINITE)
    numbers.integer("Trainer", "accumulate", accumulate, 1)
    numbers.one_of("Trainer", "last_batch", last_batch, LAST_BATCH)
    numbers.seed("Trainer", "seed", seed)


def before_training(run: Run, loader: Loader, validation: Loader | None) -> None:
    """Refuse unknown monitors, validation data of another shape, and batches that are too small."""
    of_model("fit", run.model, run.optimizer)
    if validation is not None and validation.X is not None and loader.X is not None:
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
    _batches_are_large_enough(run, loader)


def _batches_are_large_enough(run: Run, loader: Loader) -> None:
    """Refuse batches that leave a batch norm one value per channel; warn where they leave few."""
    size = loader.smallest_batch
    norms = [m for m in run.model.modules() if type(m).__name__.startswith(BATCH_STATISTICS)]
    if not norms or size > FEW:
        return
    trial = copy.deepcopy(run.model)
    _modes.train(trial)
    try:
        trial(run.moved(loader.X[:1]))
    except ValueError as error:
        if "one value per channel" not in str(error):
            return  # training says what is wrong
    else:
        return  # images or sequences: one sample has many values of a channel
    name = type(norms[0]).__name__
    if loader.batch_size > FEW and loader.last_batch == "keep":
        cause = f"'last_batch' is 'keep', which leaves a last batch of {size}"
        cure = "last_batch='balance' or 'drop'"
    else:
        cause = f"'batch_size' is {loader.batch_size}, which leaves {size} in a batch"
        cure = f"a batch_size above {FEW}" if loader.size > FEW else "more samples"
    text = f"fit: {cause} of {loader.size} samples, expected {cure}: {name} normalises by their "
    if size == 1:
        raise ValueError(f"{text}statistics, and one sample has no variance")
    warnings.warn(
        f"{text}statistics, and those of so few samples are too uncertain to train with",
        RuntimeWarning,
        stacklevel=5,
    )
