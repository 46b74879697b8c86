"""The state of a training run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import get_ident
from typing import Any

from onepass import _numbers as numbers
from onepass.nn import _random, _use
from onepass.ops import StepInfo
from onepass.parallel import Alone, Communicator
from onepass.train import _averages, _saving, _store
from onepass.train._evaluation import Evaluator
from onepass.train._from_rank_0 import by_rank_0
from onepass.train._history import OWN, History
from onepass.train._saving import Stateful
from onepass.train._totals import Totals
from onepass.train._training import Training, adopt, fits


@dataclass(eq=False)
class Run(Evaluator):
    """The state of a training run; the Trainer holds it and callbacks receive it.

    A callback may read every attribute. It may set ``stop``, and the parts and options, which are
    checked as in the Trainer's constructor, and count from then on; ``metrics`` between two epochs.
    A fit has one ``model``, ``seed`` and ``last_batch``.

    Attributes:
        model, loss, metrics, optimizer, scheduler, callbacks: the parts, as the Trainer got them.
        max_norm, nonfinite, accumulate, regularizers, last_batch, seed, device: the Trainer's
            options.
        history: the numbers of all epochs so far.
        epoch, step, position: epochs done, steps done, batches done in the current epoch.
        max_epochs, batches: epochs at which the run ends, batches in an epoch.
        stop: set it to True to end the run after the current step.
        lr: learning rate of the last step. batch_loss: loss of the last batch.
        step_info: what the optimizer told of the last step: skipped, grad_norm, nonfinite_param;
            None before the first. On CUDA a look at it waits for the step.
        grad_scale: what the step divides the gradients by, where it accumulates over batches or
            over ranks; 1 elsewhere.
        row: from on_validation_end to on_epoch_end, the numbers of the epoch.
        skipped_steps: steps skipped so far.
        resumed: whether this run continues from a saved state, or goes on with a fit that an
            exception has ended.
        at_boundary: whether the run is between two steps.
        comm: the communicator of the processes that train together: ``comm.rank`` and
            ``comm.size``, 0 and 1 where there is one. Hooks are called on every rank, those of
            callbacks with ``rank_0_only`` on rank 0 alone; numbers of the run are the same on all.
        reproducible: into how many pieces a batch is cut whatever the number of ranks, or None.
        place: with several ranks, where the rows of the present part of a batch begin, and how
            many the batch has; for regularizers. None: it is the whole batch.

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
    regularizers: Sequence[Any]
    last_batch: str
    seed: int
    comm: Communicator = field(default_factory=Alone)
    reproducible: int | None = None
    history: History = field(default_factory=History)
    epoch: int = 0
    step: int = 0
    position: int = 0
    skipped_steps: int = 0
    max_epochs: int = 0
    batches: int = 0
    batch_loss: float = math.nan
    step_info: StepInfo | None = None
    grad_scale: float = 1.0
    row: dict[str, float] = field(default_factory=dict)
    stop: bool = False
    resumed: bool = False
    loaded: bool = False  # a state was restored and fit has not started from it yet
    at_boundary: bool = False
    place: tuple[int, int] | None = None
    sums: Totals = field(default_factory=Totals)  # of the current epoch
    # Values logged in the current epoch: name → (sum, count).
    logged: dict[str, tuple[float, float]] = field(default_factory=dict)
    data: dict[str, Any] | None = None  # of _resume.described
    training: Training | None = None
    fitting: bool = False
    ended: bool = False  # the last fit came to its end, on_fit_end included
    row_is_done: bool = False  # log adds to the history's last row
    epoch_begins: bool = False  # on_epoch_begin is called, at a resume also inside an epoch
    parts_changed: bool = False  # a part was set since the loop has looked
    frozen: list[str] | None = None  # the frozen parameters of a state that was restored
    torn: bool = False  # an interruption has left model, optimizer and schedule at two steps
    _unread: StepInfo | None = None
    _lr: float = 0.0

    def __post_init__(self) -> None:
        self.read_lr()

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
            ValueError: the name is one of the history's own. TypeError: ``value`` is not a number.
            RuntimeError: no fit is in progress.
        """
        taken = {*OWN, "val_loss", *self.metrics, *(f"val_{name}" for name in self.metrics)}
        taken |= {regularizer.name for regularizer in self.regularizers}
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
            self.add_to_epoch(name, number)

    @property
    def lr(self) -> float:
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        raise AttributeError(
            f"Run: 'lr' is set to {value!r}, expected no value: it tells the rate of the last "
            "step; for the next ones write run.optimizer.param_groups[0]['lr'] = …"
        )

    def read_lr(self) -> None:
        """Keep the rate of the step that comes."""
        self._lr = float(self.optimizer.param_groups[0]["lr"]) + 0.0  # a schedule's 0 is -0.0

    def note_lr(self, value: float) -> None:
        """Keep the rate of the last step of a saved run."""
        self._lr = float(value)

    def take_logged(self) -> dict[str, float]:
        """The averages of what was logged in this epoch, which begin anew."""
        self.read_norm()
        averages = {
            name: total / count if count else math.nan
            for name, (total, count) in self.logged.items()
        }
        self.logged = {}
        return averages

    def counters(self) -> tuple[Any, ...]:
        """The values of the run that the batches of a step change, for ``go_back``."""
        return self.step, self.position, self.sums.mark(), self.logged.copy(), self._unread

    def go_back(self, counters: tuple[Any, ...]) -> bool:
        """Undo the batches since ``counters``, and return True, unless the step is done."""
        if counters[0] != self.step:
            return False
        _, self.position, sums, self.logged, self._unread = counters
        self.sums.go_back(sums)
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
            self.add_to_epoch("grad_norm", info.grad_norm)

    def add_to_epoch(self, name: str, value: float, weight: float = 1.0) -> None:
        """Count a number in the epoch's average of that name."""
        total, count = self.logged.get(name, (0.0, 0))
        # A float, also of a NumPy scalar: ranks exchange them as JSON.
        self.logged[name] = float(total + value * weight), count + weight

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
        fits[self] = get_ident()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Around a fit: no other one of this model in another thread, and none inside it.

        Raises:
            RuntimeError: there is one.
        """
        with _use.using(self.model, "fit", trains=True), _random.undisturbed():
            if self.fitting:
                raise RuntimeError("fit: a hook of this trainer's fit calls it, expected one fit")
            try:
                yield
            finally:
                self.fitting = False
                fits.pop(self, None)
                if self.training is not None:
                    self.training.fitting = False

    def save(self, dir: str | Path) -> Path:
        """Write a checkpoint of everything into ``dir``; returns the new directory inside it.

        With several ranks all of them call it, and rank 0 writes.

        Raises:
            OSError: the file that could not be written, and what is whole.
            RuntimeError: another thread trains the model, or the last fit was interrupted inside a
                step.
        """
        return Path(by_rank_0(self.comm, lambda: str(self.write(dir))))

    def write(self, dir: str | Path) -> Path:
        """As ``save``, into ``dir``, by this rank alone."""
        self.refuse_torn("save")
        averaged = _averages.averaged(self.optimizer, turned_only=True)
        turns = _averages.turns(self.optimizer)
        with _use.using(self.model, "save", trains=turns), averaged:
            self.read_norm()
            return _store.write(dir, self.step, _saving.parts_of(self))

    def refuse_torn(self, call: str) -> None:
        """Refuse to go on from a step that is half done.

        Raises:
            RuntimeError: the last fit ended in one.
        """
        if self.torn:
            raise RuntimeError(
                f"{call}: the last fit was interrupted inside a step, which is half done: model, "
                "optimizer and schedule may be of different steps; go on from a checkpoint, with "
                "fit(…, ckpt_path=…) or Trainer.load, or begin anew with a new model and Trainer"
            )

    def evaluated_weights(self) -> dict[str, Any]:
        """A copy of the model's state with the weights that it is evaluated with."""
        with _averages.averaged(self.optimizer):
            return dict(self.model.state_dict())

    def seed_dropout(self) -> None:
        """Give dropout the masks of ``nn.manual_seed(seed)`` without seeding anything else.

        Seeding everything would make an ensemble trained in a loop start from the same weights each
        time. Nor is the state of the process read and set: another thread may draw meanwhile.
        """
        for number, stream in enumerate(_random.streams(self.model).values()):
            stream.set(self.seed, number << 40)
