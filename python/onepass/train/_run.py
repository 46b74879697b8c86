"""The state of a training run, and saving and restoring it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from onepass import _numbers as numbers
from onepass import nn
from onepass.ops import StepInfo
from onepass.train import _store, _use
from onepass.train._evaluation import Evaluator
from onepass.train._history import History
from onepass.train._totals import Totals
from onepass.train._training import Training, adopt

COUNTERS = ("epoch", "step", "position", "skipped_steps", "stop", "lr", "sums", "data", "logged")
RESERVED = ("loss", "val_loss", "lr", "epoch", "grad_norm")


class Stateful(Protocol):
    """A callback as a run sees it: a monitored name, and a state to save."""

    monitor: str | None
    logs: tuple[str, ...]

    def reset(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


@dataclass(eq=False)
class Run(Evaluator):
    """The state of a training run; the Trainer holds it and callbacks receive it.

    A callback may read and set every attribute.

    Attributes:
        model, loss, metrics, optimizer, scheduler, callbacks: the parts, as the Trainer got them.
        max_norm, nonfinite, accumulate, last_batch, seed, device: the Trainer's options.
        history: the numbers of all epochs so far.
        epoch, step, position: epochs done, steps done, batches done in the current epoch.
        max_epochs, batches: epochs at which the run ends, batches in an epoch.
        stop: set it to True to end the run after the current step.
        lr: learning rate of the last step. batch_loss: loss of the last batch.
        step_info: what the optimizer told of the last step: skipped, grad_norm, nonfinite_param;
            None before the first. On CUDA a look at it waits for the step.
        grad_scale: what the step divides the gradients by, where it accumulates over batches; 1
            elsewhere.
        row: from on_validation_end to on_epoch_end, the numbers of the epoch.
        skipped_steps: steps skipped so far.
        resumed: whether this run continues from a saved state, or goes on with a fit that an
            exception has ended.
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
    last_batch: str
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
    step_info: StepInfo | None = None
    grad_scale: float = 1.0
    row: dict[str, float] = field(default_factory=dict)
    stop: bool = False
    resumed: bool = False
    loaded: bool = False  # a state was restored and fit has not started from it yet
    at_boundary: bool = False
    sums: Totals = field(default_factory=Totals)  # of the current epoch
    logged: dict[str, list[float]] = field(default_factory=dict)  # in the current epoch, by log
    data: dict[str, Any] | None = None  # the description of the data, as same_data compares it
    training: Training | None = None
    fitting: bool = False
    ended: bool = False  # the last fit came to its end, on_fit_end included
    row_is_done: bool = False  # log adds to the history's last row
    _unread: StepInfo | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lr = float(self.optimizer.param_groups[0]["lr"])

    def __repr__(self) -> str:
        return self.shown("Run")

    def shown(self, name: str) -> str:
        """The parts and how far the run is, in one line that begins with ``name``."""
        kinds = [type(part).__name__ for part in (self.model, self.loss, self.optimizer)]
        more = [f"metrics={list(self.metrics)}"] if self.metrics else []
        more += [f"callbacks={self.callbacks}"] if self.callbacks else []
        return f"{name}({', '.join([*kinds, *more])}, epoch={self.epoch}, step={self.step})"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "fitting": False}  # a copy made by a hook is in no fit

    def log(self, name: str, value: float) -> None:
        """Add a number to the epoch's row of the history; several in one epoch are averaged.

        A callback calls it in any hook; from ``on_epoch_end`` on, it sets the number in the row
        that is done. A callback that names what it logs in ``logs`` lets others monitor it.

        Raises:
            ValueError: the name is one of the history's own. TypeError: ``value`` is no number.
            RuntimeError: no fit is in progress.
        """
        taken = {*RESERVED, *self.metrics, *(f"val_{name}" for name in self.metrics)}
        if not isinstance(name, str) or not name or name in taken:
            raise ValueError(
                f"log: 'name' is {name!r}, expected a name that the history does not have itself "
                f"({', '.join(sorted(taken))})"
            )
        number = numbers.as_float("log", "value", value, "a number")
        if not self.fitting:
            raise RuntimeError("log: no fit is in progress; call it in a hook of a callback")
        if self.row_is_done:
            self.history.set_last(name, number)
        else:
            self._add(name, number)

    def take_logged(self) -> dict[str, float]:
        """The averages of what was logged in this epoch, which begin anew."""
        self.read_norm()
        averages = {name: total / count for name, (total, count) in self.logged.items()}
        self.logged = {}
        return averages

    def counters(self) -> tuple[Any, ...]:
        """What the batches of a step change in the run, for ``go_back``."""
        return self.step, self.position, self.sums.copied(), _copied(self.logged), self._unread

    def go_back(self, counters: tuple[Any, ...]) -> bool:
        """Undo the batches since ``counters``, and return True, unless the step is done."""
        if counters[0] != self.step:
            return False
        _, self.position, self.sums, self.logged, self._unread = counters
        return True

    def note_step(self, info: StepInfo) -> None:
        """Keep what the optimizer told of a step; its norm is read later, so as not to wait."""
        self.step_info = info
        if self.max_norm is not None:
            self._unread = info

    def read_norm(self) -> None:
        """Add the norm of the last step's gradients to the average of the epoch."""
        info, self._unread = self._unread, None
        if info is not None and info.grad_norm is not None and not info.skipped:
            self._add("grad_norm", info.grad_norm)

    def _add(self, name: str, value: float) -> None:
        total = self.logged.setdefault(name, [0.0, 0.0])
        total[0] += value
        total[1] += 1

    def begin(self, data: Any) -> None:
        """Begin a fit: callbacks start afresh, unless it goes on with the training before.

        Raises:
            RuntimeError: another fit is using a callback. ValueError: the last fit ended inside an
                epoch, of another model or other data.
        """
        training = self.training
        goes_on = training is not None and (self.loaded or training.includes(self.model, data))
        if not goes_on and self.position:
            raise ValueError(
                "fit: the last fit ended inside an epoch, expected the same model and data to go "
                "on with it; make a new Trainer for others"
            )
        if training is None or not goes_on:
            training = Training(self.model)
        adopt(training, self.callbacks, fitting=True)
        training.data = data
        self.training = training
        self.resumed = self.loaded or (goes_on and not self.ended)
        self.loaded, self.fitting, self.ended, self.row_is_done = False, True, False, False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Around a fit: no other one of this model in another thread, and none inside it.

        Raises:
            RuntimeError: there is one.
        """
        with _use.using(self.model, "fit", trains=True):
            if self.fitting:
                raise RuntimeError("fit: a hook of this trainer's fit calls it, expected one fit")
            try:
                yield
            finally:
                self.fitting = False
                if self.training is not None:
                    self.training.fitting = False

    def save(self, dir: str | Path) -> Path:
        """Write a checkpoint of everything into ``dir``; returns the new directory inside it.

        Raises:
            OSError: the file that could not be written, and what is whole.
            RuntimeError: another thread trains the model.
        """
        with _use.using(self.model, "save"):
            self.read_norm()
            return self._save(dir)

    def _save(self, dir: str | Path) -> Path:
        scheduler = self.scheduler
        parts = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if scheduler is None else scheduler.state_dict(),
            "callbacks": {key: c.state_dict() for key, c in _named(self.callbacks).items()},
            "trainer": {
                **{name: getattr(self, name) for name in COUNTERS},
                "history": dict(self.history),
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
            RuntimeError: another thread uses the model, or another fit a callback.
        """
        with _use.using(self.model, "load", trains=True):
            self._restore(parts)

    def _restore(self, parts: dict[str, Any]) -> None:
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
        self.model.zero_grad()
        for name in COUNTERS:
            if name in saved:  # checkpoints of earlier versions lack "logged"
                setattr(self, name, saved[name])
        self.sums = Totals(self.sums)
        self.history = History(saved["history"])
        self.training = Training(self.model)
        adopt(self.training, self.callbacks, fitting=False)
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


def _copied(sums: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [*total] for name, total in sums.items()}


def load_model(model: Any, state: dict[str, Any], classes: dict[str, str] | None) -> None:
    """Give ``model`` a saved state; ValueError, and nothing changed, where it does not fit."""
    with _use.using(model, "load_weights", trains=True):
        try:
            _check_classes(model, classes)
            model.load_state_dict(state)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"the checkpoint does not fit this model: {error}") from error


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
