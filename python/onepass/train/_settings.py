"""The parts and options of a run, each checked wherever it is set.

In the constructor of the Trainer, as ``trainer.accumulate = 2`` between two fits, and as
``run.accumulate = 2`` in a hook: the same check, the same message.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from onepass import _numbers as numbers
from onepass._suggest import suggestion
from onepass.data._loader import LAST_BATCH
from onepass.train import _penalties, _schedule
from onepass.train._callbacks import HOOKS, Callback
from onepass.train._checkpoint import Checkpoint
from onepass.train._classes import Classes, said
from onepass.train._history import History
from onepass.train._metrics import Metric, resolve
from onepass.train._run import Run

NONFINITE = ("raise", "skip", "propagate")
STATIC = (staticmethod, classmethod)
# Their names in Keras, Lightning and fastai.
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
    "on_keyboard_interrupt": "on_abort", "on_batch_start": "on_before_step",
}  # fmt: skip


def _plain(name: str) -> str:
    """A name in any spelling: onEpochEnd, On_Epoch_End and on_epochend are one."""
    return name.replace("_", "").lower()


_PLAIN_NAMES = {_plain(name): name for name in (*HOOKS, *OTHER_NAMES)}


class Checked:
    """An attribute of a run that takes only what its check lets through.

    Without a ``__get__``, so that reading it takes no longer than reading any other attribute.

    Args:
        check: of (run, value): the value to keep.
        follow: called with the run afterwards, to renew what depends on the attribute.
    """

    def __init__(
        self,
        name: str,
        check: Callable[[Any, Any], Any],
        follow: Callable[[Any], None] | None = None,
    ) -> None:
        self._name, self._check, self._follow = name, check, follow

    def __set__(self, run: Any, value: Any) -> None:
        run.__dict__[self._name] = self._check(run, value)
        if self._follow is not None:
            self._follow(run)


def a_module(owner: str, model: Any) -> Any:
    """``model``, or what behaves like one; TypeError elsewhere."""
    for name in ("parameters", "backward", "state_dict"):
        if not hasattr(model, name) or isinstance(model, type):
            shown = f"the class {model.__name__}" if isinstance(model, type) else None
            shown = shown or f"a {type(model).__name__}"
            raise TypeError(f"{owner}: 'model' is {shown}, expected an nn.Module")
    return model


def _model(run: Any, model: Any) -> Any:
    a_module("Trainer", model)
    _one_in_a_fit(run, "model", model, vars(run).get("model") is not model)
    _renew_classes(run, "model", model)
    return model


def _one_in_a_fit(run: Any, name: str, value: Any, other: bool) -> None:
    """Refuse a hook's change of what the fit in progress was begun with: it would do nothing.

    Args:
        other: whether ``value`` is another one.
    """
    if other and vars(run).get("fitting"):
        shown = f"a {type(value).__name__}" if name == "model" else repr(value)
        raise ValueError(
            f"Trainer: {name!r} is set to {shown} in a hook, expected one in a fit; set it between "
            "two fits"
        )


def _part_changed(run: Any) -> None:
    vars(run)["parts_changed"] = True


def _loss(run: Any, loss: Any) -> Any:
    if isinstance(loss, type) or not callable(loss):
        shown = f"the class {loss.__name__}" if isinstance(loss, type) else repr(loss)
        raise TypeError(
            f"Trainer: 'loss' is {shown}, expected a loss module such as nn.CrossEntropyLoss()"
        )
    if getattr(loss, "reduction", None) == "none":
        raise ValueError(
            "Trainer: 'loss' has reduction='none', one number a sample, expected "
            f"{type(loss).__name__}(reduction='mean') or 'sum', one number a batch"
        )
    said(loss)
    _renew_classes(run, "loss", loss)
    return loss


def _optimizer(run: Any, optimizer: Any) -> Any:
    if not hasattr(optimizer, "param_groups") or isinstance(optimizer, type):
        shown = "the class" if isinstance(optimizer, type) else "a"
        kind = optimizer if isinstance(optimizer, type) else type(optimizer)
        raise TypeError(
            f"Trainer: 'optimizer' is {shown} {kind.__name__}, expected "
            "optim.<Name>(model.parameters())"
        )
    return optimizer


def _scheduler(run: Any, scheduler: Any) -> Any:
    """Whether it belongs to the optimizer is seen by fit: one may be set before the other."""
    _schedule.of_optimizer(scheduler, getattr(scheduler, "optimizer", None))
    return scheduler


def _metrics(run: Any, metrics: Any) -> dict[str, Metric]:
    inside = vars(run).get("fitting") and run.position and not run.epoch_begins
    if inside and metrics is not vars(run).get("metrics"):
        raise ValueError(
            "Trainer: 'metrics' is set in the middle of an epoch, expected a hook between two "
            "epochs, on_epoch_begin or on_epoch_end: a metric is of a whole epoch"
        )
    known = isinstance(metrics, dict) and all(isinstance(m, Metric) for m in metrics.values())
    if known:
        found: dict[str, Metric] = metrics
        return found
    return resolve(metrics, classes_of(run))


def classes_of(run: Any) -> Classes:
    """The kind of the outputs, for the metrics of the run: one object as long as it lives."""
    found: Classes = vars(run).setdefault("_classes", Classes())
    return found


def _renew_classes(run: Any, name: str, value: Any) -> None:
    """Before ``run`` gets another loss or model."""
    parts = {**vars(run), name: value}
    if vars(run).get(name) is not value:
        classes_of(run).follow(parts.get("loss"), parts.get("model"))


def _callbacks(run: Any, callbacks: Any) -> list[Any]:
    """The callbacks as a list; those that save the others come last."""
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
    return sorted(found, key=lambda callback: isinstance(callback, Checkpoint))


def _hooks(callback: Callback) -> None:
    """Refuse a method that is named like a hook and would never be called."""
    for name in dir(callback):
        plain = _PLAIN_NAMES.get(_plain(name))  # onEpochEnd
        hook_like = plain is not None or name.startswith("on_")
        method = inspect.getattr_static(callback, name) if hook_like else None
        if name not in HOOKS and (callable(method) or isinstance(method, STATIC)):
            hint = suggestion(OTHER_NAMES.get(plain or name, plain or name), HOOKS)
            raise TypeError(
                f"Trainer: {type(callback).__name__} has the method {name!r}, expected a hook "
                f"({', '.join(HOOKS)}){hint}"
            )


def _max_norm(run: Any, value: Any) -> Any:
    if value is None:
        return None  # inf only measures the norm
    return numbers.in_range("Trainer", "max_norm", value, above=0, most=math.inf, or_none=True)


def _nonfinite(run: Any, value: Any) -> Any:
    numbers.one_of("Trainer", "nonfinite", value, NONFINITE)
    return value


def _last_batch(run: Any, value: Any) -> Any:
    numbers.one_of("Trainer", "last_batch", value, LAST_BATCH)
    _one_in_a_fit(run, "last_batch", value, vars(run).get("last_batch") != value)
    return value


def _seed(run: Any, value: Any) -> int:
    seed = numbers.seed("Trainer", "seed", value)
    _one_in_a_fit(run, "seed", seed, vars(run).get("seed") != seed)
    return seed


def _history(run: Any, value: Any) -> History:
    columns = isinstance(value, Mapping) and all(isinstance(v, list) for v in value.values())
    if not columns or len({len(column) for column in value.values()}) > 1:
        shown = dict(value) if isinstance(value, dict) else value
        raise TypeError(
            f"Trainer: 'history' is {shown!r}, expected "
            "a History, or a dict of lists of one length, a number for each epoch"
        )
    return value if isinstance(value, History) else History(value)


def _count(name: str) -> Checked:
    return Checked(name, lambda run, value: numbers.integer("Trainer", name, value, 0))


def _stop(run: Any, value: Any) -> bool:
    return numbers.flag("Trainer", "stop", value)


CHECKED = {
    "model": Checked("model", _model, Run.follow_model),
    "loss": Checked("loss", _loss, _part_changed),
    "metrics": Checked("metrics", _metrics),
    "device": Checked("device", lambda run, value: value, Run.follow_device),
    "optimizer": Checked("optimizer", _optimizer, _part_changed),
    "scheduler": Checked("scheduler", _scheduler, _part_changed),
    "callbacks": Checked("callbacks", _callbacks, _part_changed),
    "max_norm": Checked("max_norm", _max_norm),
    "nonfinite": Checked("nonfinite", _nonfinite),
    "accumulate": Checked(
        "accumulate", lambda run, value: numbers.integer("Trainer", "accumulate", value, 1)
    ),
    "regularizers": Checked(
        "regularizers", lambda run, value: _penalties.checked(value), _part_changed
    ),
    "last_batch": Checked("last_batch", _last_batch),
    "seed": Checked("seed", _seed),
    "history": Checked("history", _history),
    "stop": Checked("stop", _stop),
    **{name: _count(name) for name in ("epoch", "step", "position", "skipped_steps")},
}

for _name, _attribute in CHECKED.items():  # here: the checks know callbacks, and those know Run
    setattr(Run, _name, _attribute)


def check_again(run: Any) -> None:
    """Refuse what was put into a list or dict of the run since it was set, such as a callback."""
    for name in CHECKED:
        if not (run.torn and name == "history"):  # a checkpoint brings another one
            setattr(run, name, getattr(run, name))
