"""The hooks that the training loop calls, and the small callbacks.

=====================  =========================================================================
hook                   called
=====================  =========================================================================
``on_fit_begin``       once, after a resume has restored the state
``on_epoch_begin``     before an epoch's batches (again after a resume in the middle of one)
``on_before_step``     before each optimizer step; the gradients are there
``on_step_end``        after each optimizer step
``on_validation_end``  after validation; ``run.row`` has the epoch's numbers
``on_epoch_end``       ``run.history`` has the epoch's row
``on_fit_end``         once, after the last epoch or after ``run.stop``
``on_abort``           instead of on_fit_end when an exception, such as Ctrl-C, ends the run
=====================  =========================================================================

A hook gets the ``Run`` and may set its attributes; ``run.stop = True`` ends the run after the step.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from onepass import _numbers as numbers
from onepass._array import to_numpy
from onepass._files import claim, path_of, put_aside, ready_file
from onepass._interruptions import to_the_end
from onepass._keywords import suggest_keywords
from onepass._paths import expanded
from onepass._repr import as_call
from onepass.nn._state_dict import frozen_arrays
from onepass.train import _averages
from onepass.train._history import is_other_table
from onepass.train._monitor import MODES, better, direction, name_of
from onepass.train._run import Run


class Callback:
    """Base of all callbacks; override the hooks you need.

    A method ``on_…`` that is not a hook is refused by the Trainer, with the nearest one.

    Attributes:
        monitor: the name in the history that the callback watches; fit checks it before training.
        logs: the names that the callback gives to ``run.log``, so that others may monitor them.
        rank_0_only: where several ranks train together, whether the hooks are called on rank 0
            alone, as those of what writes and prints are. Others must do the same on all ranks:
            what they log at the end of an epoch is taken from rank 0, and all stop where one is to.

    Example:
        >>> import numpy as np
        >>> from onepass import nn, optim
        >>> from onepass.train import Callback, Trainer
        >>> class GradientNorms(Callback):
        ...     def on_before_step(self, run):
        ...         for name, p in run.model.named_parameters():
        ...             if p.grad is not None:
        ...                 run.log(f"norm of {name}", np.linalg.norm(p.grad) / run.grad_scale)
        ...
        ...     def on_epoch_end(self, run):
        ...         run.stop = run.history["norm of 0.weight"][-1] < 0.01
        >>> X = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
        >>> model = nn.Sequential(nn.Linear(1, 1))
        >>> trainer = Trainer(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.3),
        ...                   callbacks=[GradientNorms()], progress=False)
        >>> history = trainer.fit(X, 2 * X + 1, max_epochs=100, batch_size=8)
        >>> list(history), history.epochs < 100
        (['loss', 'norm of 0.weight', 'norm of 0.bias', 'lr'], True)
    """

    monitor: str | None = None
    logs: tuple[str, ...] = ()
    rank_0_only: bool = False
    _only_watches: bool = False  # one rank may have it and another not
    _training: Any = None  # what the memory belongs to, see _training.py

    def _refuse(self, run: Run) -> None:
        """Raise a ValueError where it cannot work with this run: before the training begins."""

    def reset(self) -> None:
        """Forget what an earlier training left.

        Called before ``on_fit_begin`` where a fit begins a new training: with another trainer,
        model or data than before. It is not called where a fit goes on, with a larger
        ``max_epochs`` or from a checkpoint.
        """

    def on_fit_begin(self, run: Run) -> None:
        """Before the first batch."""

    def on_epoch_begin(self, run: Run) -> None:
        """Before an epoch's batches."""

    def on_before_step(self, run: Run) -> None:
        """Before an optimizer step: each parameter's ``grad`` is there, and may be changed.

        It is the sum over the accumulated batches; the step divides it by ``run.grad_scale``.
        """

    def on_step_end(self, run: Run) -> None:
        """After an optimizer step; the gradients are cleared, ``run.step_info`` is there."""

    def on_validation_end(self, run: Run) -> None:
        """After an epoch's validation; ``run.row`` has the epoch's numbers."""

    def on_epoch_end(self, run: Run) -> None:
        """After an epoch and its validation; ``run.history`` has the epoch's row."""

    def on_fit_end(self, run: Run) -> None:
        """After the last epoch."""

    def on_abort(self, run: Run, error: BaseException) -> None:
        """On an exception, which is raised again afterwards.

        ``run.at_boundary`` is True if the run is between two steps. After Ctrl-C it is: the first
        one lets the step end.
        """

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: arrays, numbers, text, lists and dicts of them."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from ``state_dict``."""

    def __repr__(self) -> str:
        return as_call(self)


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


def watched(callback: Callback, run: Run) -> float:
    """The monitored number of the epoch that is done."""
    values = run.history.get(str(callback.monitor))
    if values is None:
        raise ValueError(
            f"{type(callback).__name__}: 'monitor' is {callback.monitor!r}, expected a name that "
            f"was logged by the end of epoch {run.epoch}; the callback that logs it comes first"
        )
    return values[-1]


class EarlyStopping(Callback):
    """Stop when ``monitor`` has not improved for ``patience`` epochs.

    Args:
        monitor: a name in the history.
        patience: epochs in a row without improvement after which training stops.
        min_delta: an improvement is a change by more than this.
        mode: ``"min"``, ``"max"``, or ``"auto"``: what the name says, such as min for loss, error
            and rmse, max for accuracy, auc, f1 and scikit-learn's ``neg_…``. fit refuses a name
            that does not settle it.
        restore_best_weights: at the end, give the model the state of its best epoch (parameters
            and running statistics), also when all epochs were run.

    A frozen parameter, and frozen statistics, never move: where one has other values now than in
    the best epoch, that epoch is forgotten, and the best one since then counts.

    A fit that goes on with the same training, with a larger ``max_epochs``, has the whole patience
    again and keeps the best epoch. Any other fit that is not a resume starts afresh.

    Attributes:
        best, best_epoch: the best value and its epoch, counted from 1; NaN and 0 at first.
        stopped_epoch: the epoch after which training stopped, or 0.

    Raises:
        TypeError, ValueError: an argument of another type or out of range; at the start of
            training, a name that is not in the history, or does not settle the mode.

    Example:
        >>> from onepass.train import EarlyStopping
        >>> EarlyStopping("val_accuracy", patience=10).monitor
        'val_accuracy'
    """

    @suggest_keywords
    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best_weights: bool = True,
    ) -> None:
        numbers.integer("EarlyStopping", "patience", patience, 0)
        numbers.in_range("EarlyStopping", "min_delta", min_delta, 0)
        numbers.one_of("EarlyStopping", "mode", mode, MODES)
        self.monitor: str = name_of("EarlyStopping", monitor)
        self.patience = patience
        self.min_delta = min_delta
        self.mode = mode
        self.restore_best_weights = numbers.flag(
            "EarlyStopping", "restore_best_weights", restore_best_weights
        )
        self.reset()

    def reset(self) -> None:
        self.best = math.nan
        self.best_epoch = 0
        self.stopped_epoch = 0
        self.wait = 0
        self.best_weights: dict[str, Any] | None = None

    def on_fit_begin(self, run: Run) -> None:
        if not run.resumed:
            self.wait = self.stopped_epoch = 0

    def on_epoch_end(self, run: Run) -> None:
        value = watched(self, run)
        mode = direction("EarlyStopping", self.monitor, self.mode)
        self._forget_what_is_frozen_elsewhere(run)
        if better(mode, value, self.best, self.min_delta):
            self.best, self.best_epoch, self.wait = value, run.epoch, 0
            if self.restore_best_weights:
                self.best_weights = run.evaluated_weights()
            return
        self.wait += 1
        if self.wait >= self.patience:
            run.stop = True
            self.stopped_epoch = run.epoch

    def on_fit_end(self, run: Run) -> None:
        self._forget_what_is_frozen_elsewhere(run)
        if self.best_weights is not None:
            to_the_end(partial(_restore, run, self.best_weights))

    def _forget_what_is_frozen_elsewhere(self, run: Run) -> None:
        """The best epoch cannot come back without moving what has been frozen since."""
        best = self.best_weights
        if best is not None and any(
            not np.array_equal(best[name], to_numpy(array), equal_nan=True)
            for name, array in frozen_arrays(run.model)
            if name in best
        ):
            self.best, self.best_epoch, self.best_weights = math.nan, 0, None

    def state_dict(self) -> dict[str, Any]:
        names = ("best", "best_epoch", "stopped_epoch", "wait", "best_weights")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = float(state_dict["best"])
        self.best_epoch = int(state_dict["best_epoch"])
        self.stopped_epoch = int(state_dict["stopped_epoch"])
        self.wait = int(state_dict["wait"])
        self.best_weights = state_dict["best_weights"]


def _restore(run: Run, weights: dict[str, Any]) -> None:
    run.model.load_state_dict(weights)
    _averages.follow(run.optimizer)


class TerminateOnNaN(Callback):
    """Stop after a step whose loss is NaN or infinite; for ``nonfinite="propagate"``.

    Example:
        >>> from onepass.train import TerminateOnNaN
        >>> TerminateOnNaN()
        TerminateOnNaN()
    """

    def on_step_end(self, run: Run) -> None:
        if not math.isfinite(run.batch_loss):
            run.stop = True


class CSVLogger(Callback):
    """Keep the history in a CSV file: a header, then one row an epoch.

    Each epoch writes a new file and then replaces the old one, so the table is always whole and a
    resumed run does not repeat rows. The table of another run is kept beside the new one, as
    ``history.1.csv``.

    Args:
        path: of the file; its folder is made.

    Example:
        >>> from onepass.train import CSVLogger
        >>> CSVLogger("runs/digits/history.csv").path.name
        'history.csv'

    Raises:
        OSError: at the start of training, the file cannot be written. ValueError: at the start of
            training, there is a file that is not a history, or another callback writes to the path.
            RuntimeError: at the start of training, another fit of this process writes there.
    """

    rank_0_only = True
    _argument = ("CSVLogger", "path")  # where the path came from, for messages

    @suggest_keywords
    def __init__(self, path: str | Path) -> None:
        self.path = path_of("CSVLogger", "path", path)

    def on_fit_begin(self, run: Run) -> None:
        claim(*self._argument, self.path, run)
        ready_file(*self._argument, self.path)
        owner, name = self._argument
        for other in run.callbacks:
            place: Any = other.path if isinstance(other, CSVLogger) else getattr(other, "dir", None)
            known = other is not self and isinstance(place, (str, Path))
            if known and expanded(place).resolve() == self.path.resolve():
                raise ValueError(
                    f"{owner}: {name!r} is {str(self.path)!r}, where {type(other).__name__} writes "
                    "too, expected a path for each: they would overwrite each other's files"
                )
        other_table = is_other_table(self.path, run.history, *self._argument)
        begun = run.resumed and not run.epoch  # rows beyond a checkpoint in the first epoch
        if other_table and not begun:
            put_aside(self.path)

    def on_epoch_end(self, run: Run) -> None:
        run.history.to_csv(self.path)
