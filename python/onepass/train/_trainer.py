"""The training loop: loader → model → loss → backward → optimizer step → scheduler."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from onepass import _numbers as numbers
from onepass._array import brought_to, convert, is_floating, library, mover
from onepass.data import DataLoader
from onepass.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from onepass.train import _checks, _state
from onepass.train._buffers import Buffers
from onepass.train._callbacks import Callback, CSVLogger
from onepass.train._checkpoint import Checkpoint, newest
from onepass.train._history import History
from onepass.train._interrupt import Interrupt
from onepass.train._keywords import suggest_keywords
from onepass.train._metrics import Metric, resolve
from onepass.train._progress import ProgressBar

EVALUATION_BATCH = 256
R = TypeVar("R")
Sums = dict[str, list[float]]  # name → [sum over samples, samples]


class Trainer:
    """Train a model.

    Args:
        model: an ``nn.Module``.
        loss: a loss module, or any function with ``(loss, dy) = loss(y, target)``.
        optimizer: an optimizer over ``model.parameters()``, or over some of them.
        metrics: names (``"accuracy"``, ``"mse"``, ``"mae"``) and functions of (output, target).
        callbacks: in the order given; ``Checkpoint`` runs after the others.
        scheduler: stepped once an optimizer step that was not skipped; ReduceLROnPlateau once an
            epoch, with ``val_loss``, or ``loss`` where there is no validation.
        max_norm: clip gradients to this global norm.
        nonfinite: ``"raise"``, ``"skip"`` (the step, and its loss in the averages) or
            ``"propagate"``. A step that is refused or skipped leaves the parameters and the
            running statistics as they were before it.
        accumulate: batches averaged into one step; what is left at an epoch's end is a step too.
        seed: of dropout, of the batches' order, and of ``validation_split``. A checkpoint keeps
            it: a resume goes on with the checkpoint's, so that it need not be repeated.
        log_dir: a directory that gets ``history.csv``.
        progress: add a ProgressBar.
        device: "cpu", "cuda" or "cuda:N": the model and the loss are moved there now, every batch
            when its turn comes. None leaves everything where it is.

    Attributes:
        history: the numbers of all epochs so far.
        epoch, step, position: epochs done, steps done, batches done in the epoch that runs.
        stop: set by a callback to end the run.
        resumed: whether this run goes on from a saved state.
        batch_loss: loss of the last batch. skipped_steps: steps skipped so far.

    Floating-point samples and targets of another dtype than the model's parameters (float64 from
    most files) are brought to theirs batch by batch, in ``fit``, ``evaluate`` and ``predict``;
    integers and booleans are passed on as they are.

    Raises:
        TypeError: a part is not what it should be, or an unknown keyword. ValueError: an option out
            of range, a parameter of the optimizer that is not the model's, or a loss with
            ``reduction="none"``.

    Example:
        >>> import numpy as np
        >>> from onepass import nn, optim
        >>> from onepass.train import Trainer
        >>> X = np.array([[0.0], [1.0]] * 8, np.float32)
        >>> y = np.array([0, 1] * 8)
        >>> model = nn.Sequential(nn.Linear(1, 2))
        >>> trainer = Trainer(model, nn.CrossEntropyLoss(), optim.AdamW(model.parameters(), lr=0.1),
        ...                   metrics=["accuracy"], progress=False)
        >>> trainer.fit(X, y, max_epochs=30, batch_size=4)["accuracy"][-1]
        1.0
    """

    @suggest_keywords
    def __init__(
        self,
        model: Any,
        loss: Any,
        optimizer: Any,
        *,
        metrics: str | Metric | Sequence[str | Metric] = (),
        callbacks: Iterable[Callback] = (),
        scheduler: LRScheduler | None = None,
        max_norm: float | None = None,
        nonfinite: str = "raise",
        accumulate: int = 1,
        seed: int = 0,
        log_dir: str | Path | None = None,
        progress: bool = True,
        device: str | None = None,
    ) -> None:
        _checks.parts(model, loss, optimizer)
        _checks.options(max_norm, nonfinite, accumulate, seed)
        helpers = _checks.helpers(callbacks, scheduler)
        functions = resolve(metrics)
        self._move: Callable[[Any], Any] = mover(device) if device else lambda array: array
        if device:
            model.to(device)
            if hasattr(loss, "to"):
                loss.to(device)
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.metrics = functions
        self.scheduler = scheduler
        self.max_norm = max_norm
        self.nonfinite = nonfinite
        self.accumulate = accumulate
        self.seed = int(seed)
        self.callbacks = helpers
        if log_dir is not None:
            self.callbacks.append(CSVLogger(Path(log_dir) / "history.csv"))
        if progress and not any(isinstance(c, ProgressBar) for c in self.callbacks):
            self.callbacks.append(ProgressBar())
        # A checkpoint keeps the other callbacks' state of the same moment: it comes last.
        self.callbacks.sort(key=lambda callback: isinstance(callback, Checkpoint))

        self.history = History()
        self.epoch = self.step = self.position = self.skipped_steps = 0
        self.max_epochs = self.batches = 0
        self.lr = float(optimizer.param_groups[0]["lr"])
        self.batch_loss = math.nan
        self.stop = self.resumed = self.loaded = self.at_boundary = False
        self.sums: Sums = {}
        self.data: dict[str, Any] | None = None
        self._interrupt = Interrupt()
        self._buffers = Buffers(None)
        self._dtype: np.dtype[Any] = next(iter(model.parameters())).dtype
        self._options = (
            {"need_input_grad": False}
            if "need_input_grad" in inspect.signature(model.backward).parameters
            else {}
        )

    @suggest_keywords
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        max_epochs: int,
        batch_size: int = 32,
        validation_data: tuple[Any, Any] | None = None,
        validation_split: float = 0.0,
        shuffle: bool = True,
        drop_last: bool = False,
        ckpt_path: str | Path | None = None,
    ) -> History:
        """Train until ``max_epochs`` epochs are done, counted over all calls and resumes.

        Args:
            X: samples along axis 0, floating point; or a DataLoader, and no ``y``.
            y: targets: classes (integers), or numbers.
            max_epochs: the total.
            batch_size, shuffle, drop_last: as in DataLoader, whose ``seed`` is the trainer's.
            validation_data: ``(X, y)`` to evaluate after each epoch.
            validation_split: share of the data to hold out for that (by class where y is integers).
            ckpt_path: a Checkpoint directory to go on from: its newest valid checkpoint, with a
                warning for a damaged one; a fresh start where it has none. Going on with other
                data or batches than the checkpoint's is a RuntimeWarning between two epochs, and a
                ValueError inside one.

        Returns:
            ``trainer.history``.

        Raises:
            TypeError: an unknown keyword. ValueError: before the first batch, data or options that
                cannot work, or a checkpoint that does not fit. FloatingPointError: a loss or
                gradient is not finite, with ``nonfinite="raise"``. KeyboardInterrupt: after Ctrl-C,
                at the end of a step.
        """
        numbers.integer("max_epochs", max_epochs, 1)
        parts = None if ckpt_path is None else newest(ckpt_path)
        seed = self.seed if parts is None else _state.seed(self, parts)
        loader, validation = _checks.data(
            X, y, batch_size, shuffle, drop_last, seed, validation_data, validation_split
        )
        _checks.before_training(self, loader, validation)
        self._start(loader, max_epochs, parts)
        with self._interrupt:
            try:
                self._call("on_fit_begin")
                while self.epoch < max_epochs and not self.stop:
                    self._run_epoch(loader, validation)
                self.at_boundary = False
                self._call("on_fit_end")
            except BaseException as error:
                for callback in self.callbacks:
                    callback.on_abort(self, error)
                raise
        return self.history

    def evaluate(self, X: Any, y: Any, *, batch_size: int = EVALUATION_BATCH) -> dict[str, float]:
        """``loss`` and the metrics over ``(X, y)``, in evaluation mode.

        Raises:
            TypeError: no ``y``, or not arrays. ValueError: no samples, or X and y of different
                lengths.
        """
        return self._evaluate(_checks.to_read("evaluate", X, y, batch_size))

    def predict(self, X: Any, *, batch_size: int = EVALUATION_BATCH) -> Any:
        """The model's raw outputs for ``X``, in evaluation mode, and where ``X`` is.

        Raises:
            TypeError: X is not an array. ValueError: it has no samples.
        """
        loader = _checks.to_read("predict", X, None, batch_size)

        def outputs() -> list[Any]:
            return [brought_to(X, self.model(self._moved(x))) for x in loader]

        return library(X).concatenate(self._in_evaluation(outputs))

    def save(self, dir: str | Path) -> Path:
        """Write a checkpoint of everything into ``dir``; returns the new directory inside it."""
        return _state.save(self, dir)

    @classmethod
    def load(
        cls, dir: str | Path, model: Any, loss: Any, optimizer: Any, **options: Any
    ) -> Trainer:
        """A trainer that goes on from the newest valid checkpoint in ``dir``.

        Args:
            dir: of ``save`` or of a Checkpoint.
            model, loss, optimizer, options: as for ``Trainer``, of the same architecture.

        Raises:
            FileNotFoundError: no such directory, or no checkpoint in it. ValueError: the checkpoint
                is of another architecture or seed (model and optimizer keep their values), or none
                is valid.
        """
        if not Path(dir).is_dir():
            raise FileNotFoundError(f"no such directory: {dir}")
        parts = newest(dir)
        if parts is None:
            raise FileNotFoundError(f"no checkpoint in {dir}")
        trainer = cls(model, loss, optimizer, **options)
        _state.restore(trainer, parts)
        return trainer

    def _start(self, loader: DataLoader, max_epochs: int, parts: dict[str, Any] | None) -> None:
        before = vars(self) if parts is None else parts["trainer"]
        data = _checks.same_data(self, loader, before, resumes=self.loaded or parts is not None)
        if parts is not None:
            _state.restore(self, parts)
        self.resumed, self.loaded = self.loaded, False
        if not self.resumed:
            self.stop = False
            if self.step == 0:
                _state.seed_dropout(self.model, self.seed)
        self.data = data
        self.max_epochs, self.batches = max_epochs, len(loader)
        self._buffers = Buffers(None if self.nonfinite == "propagate" else self.model)
        self._interrupt.requested = False
        self.at_boundary = True
        self.optimizer.zero_grad()

    def _run_epoch(self, loader: DataLoader, validation: DataLoader | None) -> None:
        """The batches from ``position`` on, then validation and the epoch's row."""
        self._call("on_epoch_begin")
        self.model.train()
        pending = 0
        for batch in loader.batches(self.epoch, self.position):
            self.at_boundary = False
            if pending == 0:
                self._buffers.keep()
            pending += 1
            last = pending == self.accumulate or self.position + 1 == len(loader)
            try:
                self._forward_backward(*map(self._moved, batch))
                self.position += 1
                if last:
                    self._update(pending)
            except FloatingPointError:
                self._buffers.put_back()
                raise
            if last:
                pending = 0
                self.at_boundary = True
                self._call("on_step_end")
                if self.stop:
                    return
        row = _means(self.sums, self.metrics)
        if validation is not None:
            row |= {f"val_{k}": v for k, v in self._evaluate(validation).items()}
        self.history.append({**row, "lr": self.lr})
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(row.get("val_loss", row["loss"]))
        self.epoch += 1
        self.position, self.sums = 0, {}
        self._call("on_epoch_end")

    def _forward_backward(self, x: Any, target: Any) -> None:
        output = self.model(x)
        loss, dy = self.loss(output, target)
        self.batch_loss = float(loss)
        finite = math.isfinite(self.batch_loss)
        if not finite and self.nonfinite == "raise":
            where = f"epoch {self.epoch + 1}, batch {self.position + 1}"
            raise FloatingPointError(
                f"the loss is {self.batch_loss} in {where}; lower the learning rate, "
                "check the data, or pass nonfinite='skip'"
            )
        if finite or self.nonfinite == "propagate":
            self._add(self.sums, self.batch_loss, output, target)
        self.model.backward(dy, **self._options)

    def _update(self, batches: int) -> None:
        """One step on the mean of the accumulated gradients, which it zeroes."""
        self.lr = float(self.optimizer.param_groups[0]["lr"])
        info = self.optimizer.step(
            max_norm=self.max_norm,
            grad_scale=float(batches) if batches > 1 else None,
            nonfinite=self.nonfinite,
            zero_grad=True,
        )
        skipped = self.nonfinite == "skip" and bool(info.skipped)
        self.step += 1
        self.skipped_steps += skipped
        if skipped:
            self._buffers.put_back()
        by_epoch = isinstance(self.scheduler, ReduceLROnPlateau)
        if self.scheduler is not None and not by_epoch and not skipped:
            self.scheduler.step()

    def _moved(self, array: Any) -> Any:
        """A batch's samples or targets on the device, floating ones in the model's dtype."""
        if array.dtype != self._dtype and is_floating(array):
            array = convert(array, self._dtype.name)
        return self._move(array)

    def _add(self, sums: Sums, loss: float, output: Any, target: Any) -> None:
        """Add a batch to the averages, which weigh every sample alike."""
        size = len(target)
        values = {name: float(metric(output, target)) for name, metric in self.metrics.items()}
        for name, value in {"loss": loss, **values}.items():
            total = sums.setdefault(name, [0.0, 0.0])
            total[0] += value * size
            total[1] += size

    def _evaluate(self, loader: DataLoader) -> dict[str, float]:
        def run() -> dict[str, float]:
            sums: Sums = {}
            for batch in loader:
                x, target = map(self._moved, batch)
                output = self.model(x)
                self._add(sums, float(self.loss(output, target)[0]), output, target)
            return _means(sums, self.metrics)

        return self._in_evaluation(run)

    def _in_evaluation(self, function: Callable[[], R]) -> R:
        training = self.model.training
        self.model.eval()
        try:
            return function()
        finally:
            self.model.train(training)

    def _call(self, hook: str) -> None:
        """Call a hook of every callback; Ctrl-C waits until all have had their turn."""
        for callback in self.callbacks:
            try:
                getattr(callback, hook)(self)
            except KeyboardInterrupt:
                self._interrupt.requested = True
        if self._interrupt.requested:
            raise KeyboardInterrupt


def _means(sums: Sums, metrics: Iterable[str]) -> dict[str, float]:
    """Averages; NaN where every batch was left out."""
    missing = [math.nan, 1.0]
    totals = {name: sums.get(name, missing) for name in ("loss", *metrics)}
    return {name: total / count for name, (total, count) in totals.items()}
