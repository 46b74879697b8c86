"""Converts a run to the parts of a checkpoint, and back."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from onepass import nn
from onepass._interruptions import to_the_end
from onepass._parameter import renewals
from onepass.nn import _use
from onepass.train import _resume
from onepass.train._averages import has_averages
from onepass.train._history import History
from onepass.train._totals import Totals
from onepass.train._training import Training, adopt

COUNTERS = ("epoch", "step", "position", "skipped_steps", "stop", "data", "logged")


class Stateful(Protocol):
    """A callback as a run sees it: a monitored name, and a state to save."""

    monitor: str | None
    logs: tuple[str, ...]

    def _refuse(self, run: Any) -> None: ...
    def reset(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def parts_of(run: Any) -> dict[str, Any]:
    """All that a run needs to go on, as the parts of a checkpoint."""
    scheduler = run.scheduler
    averages = run.evaluated_weights() if has_averages(run.optimizer) else None
    return {
        "model": run.model.state_dict(),
        "averages": averages,  # to predict with, in the place of "model"
        "optimizer": run.optimizer.state_dict(),
        "scheduler": None if scheduler is None else scheduler.state_dict(),
        "callbacks": {key: c.state_dict() for key, c in _named(run.callbacks).items()},
        "trainer": {
            **{name: getattr(run, name) for name in COUNTERS},
            "lr": run.lr,
            "sums": run.sums.state_dict(),
            "history": dict(run.history),
            "rng": nn.get_rng_state(run.model),
            "seed": run.seed,
            "modules": _classes(run.model),
            "frozen": frozen_names(run.model),
        },
    }


def frozen_names(model: Any) -> list[str]:
    """The parameters that are frozen now."""
    return [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


def restore(run: Any, parts: dict[str, Any]) -> None:
    """Put a saved state back.

    Raises:
        ValueError: the state is of another architecture or seed; nothing is changed.
        RuntimeError: another thread uses the model, or another fit a callback.
    """
    with _use.using(run.model, "load", trains=True):
        seed = seed_of(run, parts)
        # Restore the optimizer last: restoring a schedule sets the rates.
        holders = [h for h in (run.model, run.scheduler, run.optimizer) if h is not None]
        holders += _named(run.callbacks).values()
        to_the_end(partial(_restore, run, parts, seed, _Before(run, holders)))


class _Before:
    """The run before a load, to go back to where the load is refused."""

    def __init__(self, run: Any, holders: Sequence[Any]) -> None:
        self._run, self._torn, self._rng = run, run.torn, nn.get_rng_state(run.model)
        self._states = [(holder, copy.deepcopy(holder.state_dict())) for holder in holders]
        self._trainings = [(c, getattr(c, "_training", None)) for c in run.callbacks]

    def come_back(self) -> None:
        for holder, state in self._states:
            holder.load_state_dict(state)
        for callback, training in self._trainings:
            callback._training = training
        nn.set_rng_state(self._rng, self._run.model)
        self._run.torn = self._torn


def _restore(run: Any, parts: dict[str, Any], seed: int, before: _Before) -> None:
    saved = parts["trainer"]
    training = Training(run.model)
    adopt(training, run.callbacks, fitting=False)
    run.torn = True
    try:
        _check_classes(run.model, saved.get("modules"))
        run.model.load_state_dict(parts["model"])
        run.optimizer.load_state_dict(parts["optimizer"])
        _restore_scheduler(run.scheduler, parts["scheduler"])
        _resume.check_fixed(run, saved["data"])
        nn.set_rng_state(saved["rng"], run.model)
        sums, history = Totals.from_state(saved["sums"]), History(saved["history"])
        for key, callback in _named(run.callbacks).items():
            if key in parts["callbacks"]:
                callback.load_state_dict(parts["callbacks"][key])
    except Exception as error:
        before.come_back()
        if not isinstance(error, (ValueError, KeyError, TypeError)):
            raise
        raise ValueError(f"the checkpoint does not fit this trainer: {error}") from error
    run.seed = seed
    run.model.zero_grad()
    for name in COUNTERS:
        if name in saved:  # checkpoints of earlier versions lack "logged"
            setattr(run, name, saved[name])
    run.note_lr(saved["lr"])
    run.sums, run.history, run.training = sums, history, training
    run.frozen = saved.get("frozen")
    run.loaded, run.torn = True, False


def seed_of(run: Any, parts: dict[str, Any]) -> int:
    """The seed of the saved run; a trainer with the default seed adopts it.

    Raises:
        ValueError: the trainer has another seed, so the batches would come in another order.
    """
    saved = int(parts["trainer"].get("seed", run.seed))
    if run.seed not in (0, saved):
        raise ValueError(
            f"Trainer: 'seed' is {run.seed}, expected {saved}, the seed of the checkpoint (or "
            "no seed: the run then takes that of the checkpoint)"
        )
    return saved


def load_model(model: Any, state: dict[str, Any], classes: dict[str, str] | None) -> None:
    """Give ``model`` a saved state; ValueError, and nothing changed, where it does not fit.

    Running averages of its parameters start again from it.
    """
    with _use.using(model, "load_weights", trains=True):
        try:
            _check_classes(model, classes)
            model.load_state_dict(state)
            renewals.note(model.parameters())
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"the checkpoint does not fit this model: {error}") from error


def _restore_scheduler(scheduler: Any, state: dict[str, Any] | None) -> None:
    if (state is None) != (scheduler is None):
        has, gets = ("no", "one") if state is None else (f"a {state['type']}", "none")
        raise ValueError(f"the checkpoint has {has} scheduler and the trainer has {gets}")
    if scheduler is not None and state is not None:
        scheduler.load_state_dict(state)


def _classes(model: Any) -> dict[str, str]:
    """Name of every module → its class: two architectures may have arrays of the same shapes."""
    return {name: type(module).__name__ for name, module in model.named_modules()}


def _check_classes(model: Any, saved: dict[str, str] | None) -> None:
    """Refuse a saved model of other classes; checkpoints of earlier versions name none."""
    if saved is None:
        return
    here = _classes(model)
    for name in {**saved, **here}:
        was, now = saved.get(name, "not there"), here.get(name, "not there")
        if was != now:
            what = f"module {name!r}" if name else "the model"
            raise ValueError(f"{what} is {now} here and {was} in the checkpoint")


def _named(callbacks: Sequence[Stateful]) -> dict[str, Stateful]:
    """Callbacks that have a state, by class and number: EarlyStopping, EarlyStopping-1, …"""
    named: dict[str, Stateful] = {}
    for callback in callbacks:
        key = kind = type(callback).__name__
        number = 0
        while key in named:
            number += 1
            key = f"{kind}-{number}"
        named[key] = callback
    return {key: callback for key, callback in named.items() if callback.state_dict()}
