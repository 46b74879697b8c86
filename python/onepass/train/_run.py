"""The state of a training run, and saving and restoring it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from onepass import nn
from onepass.train import _store
from onepass.train._evaluation import Evaluator, Sums
from onepass.train._history import History

COUNTERS = ("epoch", "step", "position", "skipped_steps", "stop", "lr", "sums", "data")


class Stateful(Protocol):
    """A callback as a run sees it: a monitored name, and a state to save."""

    monitor: str | None

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


@dataclass(eq=False)
class Run(Evaluator):
    """The state of a training run; the Trainer holds it and callbacks receive it.

    A callback may read and set every attribute.

    Attributes:
        model, loss, metrics, optimizer, scheduler, callbacks: the parts, as the Trainer got them.
        max_norm, nonfinite, accumulate, seed, device: the Trainer's options.
        history: the numbers of all epochs so far.
        epoch, step, position: epochs done, steps done, batches done in the current epoch.
        max_epochs, batches: epochs at which the run ends, batches in an epoch.
        stop: set it to True to end the run after the current step.
        lr: learning rate of the last step. batch_loss: loss of the last batch.
        skipped_steps: steps skipped so far.
        resumed: whether this run continues from a saved state.
        at_boundary: whether the run is between two steps.

    Example:
        >>> from onepass.train import Callback, Run
        >>> class StopAfter(Callback):
        ...     def on_step_end(self, run: Run) -> None:
        ...         run.stop = run.step == 100
    """

    optimizer: Any
    scheduler: Any
    callbacks: Sequence[Stateful]
    max_norm: float | None
    nonfinite: str
    accumulate: int
    seed: int
    history: History = field(default_factory=History)
    epoch: int = 0
    step: int = 0
    position: int = 0
    skipped_steps: int = 0
    max_epochs: int = 0
    batches: int = 0
    lr: float = field(init=False)
    batch_loss: float = math.nan
    stop: bool = False
    resumed: bool = False
    loaded: bool = False  # a state was restored and fit has not started from it yet
    at_boundary: bool = False
    sums: Sums = field(default_factory=dict)  # of the current epoch
    data: dict[str, Any] | None = None  # the description of the data, as same_data compares it

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lr = float(self.optimizer.param_groups[0]["lr"])

    def save(self, dir: str | Path) -> Path:
        """Write a checkpoint of everything into ``dir``; returns the new directory inside it."""
        scheduler = self.scheduler
        parts = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if scheduler is None else scheduler.state_dict(),
            "callbacks": {key: c.state_dict() for key, c in _named(self.callbacks).items()},
            "trainer": {
                **{name: getattr(self, name) for name in COUNTERS},
                "history": dict(self.history),
                "gradients": [k for k, p in self.model.named_parameters() if p.grad is not None],
                "rng": nn.get_rng_state(self.model),
                "seed": self.seed,
                "modules": _classes(self.model),
            },
        }
        return _store.write(dir, self.step, parts)

    def restore(self, parts: dict[str, Any]) -> None:
        """Put a saved state back.

        Raises:
            ValueError: the state is of another architecture or seed; nothing is changed.
        """
        seed = self.seed_of(parts)
        # Restore the optimizer last: restoring a schedule sets the rates.
        holders = [h for h in (self.model, self.scheduler, self.optimizer) if h is not None]
        before = [copy.deepcopy(holder.state_dict()) for holder in holders]
        saved = parts["trainer"]
        try:
            _check_classes(self.model, saved.get("modules"))
            self.model.load_state_dict(parts["model"])
            self.optimizer.load_state_dict(parts["optimizer"])
            self._restore_scheduler(parts["scheduler"])
            nn.set_rng_state(saved["rng"], self.model)
        except (ValueError, KeyError, TypeError) as error:
            for holder, state in zip(holders, before, strict=True):
                holder.load_state_dict(state)
            raise ValueError(f"the checkpoint does not fit this trainer: {error}") from error
        self.seed = seed
        # A zero gradient still advances its parameter's step count; None does not. So restore
        # which ones existed.
        for name, parameter in self.model.named_parameters():
            there = name in saved["gradients"]
            parameter.grad = np.zeros_like(parameter.data) if there else None
        for name in COUNTERS:
            setattr(self, name, saved[name])
        self.history = History(saved["history"])
        for key, callback in _named(self.callbacks).items():
            if key in parts["callbacks"]:
                callback.load_state_dict(parts["callbacks"][key])
        self.loaded = True

    def seed_of(self, parts: dict[str, Any]) -> int:
        """The seed of the saved run; a trainer with the default seed adopts it.

        Raises:
            ValueError: the trainer has another seed, so the batches would come in another order.
        """
        saved = int(parts["trainer"].get("seed", self.seed))
        if self.seed not in (0, saved):
            raise ValueError(
                f"Trainer: 'seed' is {self.seed}, expected {saved}, the seed of the checkpoint (or "
                "no seed: the run then takes that of the checkpoint)"
            )
        return saved

    def seed_dropout(self) -> None:
        """Give dropout the masks of ``nn.manual_seed(seed)`` without seeding anything else.

        Seeding everything would make an ensemble trained in a loop start from the same weights each
        time.
        """
        state = nn.get_rng_state(self.model)
        state["layers"] = {name: [self.seed, i << 40] for i, name in enumerate(state["layers"])}
        nn.set_rng_state(state, self.model)

    def _restore_scheduler(self, state: dict[str, Any] | None) -> None:
        if (state is None) != (self.scheduler is None):
            has, gets = ("no", "one") if state is None else (f"a {state['type']}", "none")
            raise ValueError(f"the checkpoint has {has} scheduler and the trainer has {gets}")
        if self.scheduler is not None and state is not None:
            self.scheduler.load_state_dict(state)


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
