"""The Trainer: checks its parts and data, then runs the loop; evaluates, predicts, saves, loads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from onepass import _numbers as numbers
from onepass._files import path_of
from onepass._keywords import suggest_keywords
from onepass.ops import StepInfo
from onepass.optim.lr_scheduler import LRScheduler
from onepass.parallel import Communicator, find
from onepass.parallel._errors import told
from onepass.train import _checks, _loaders, _resume, _saving, _schedule, _settings
from onepass.train._agreement import refuse_difference
from onepass.train._blas import threads_for
from onepass.train._callbacks import Callback, CSVLogger
from onepass.train._checkpoint import newest, weights
from onepass.train._evaluation import BATCH
from onepass.train._from_rank_0 import by_rank_0
from onepass.train._history import FILE, History
from onepass.train._loaders import Loader
from onepass.train._marks import fingerprint
from onepass.train._metrics import Chosen, Metric
from onepass.train._of_run import _OfRun
from onepass.train._progress import ProgressBar
from onepass.train._ranks import pieces_of
from onepass.train._run import Run
from onepass.train._shared_loop import loop_of
from onepass.train._totals import Totals
from onepass.train._warned import by_rank
from onepass.train._weights import ClassWeight
from onepass.train.regularizers import Regularizer

T = TypeVar("T")


class Trainer:
    """Train a model.

    Args:
        model: an ``nn.Module``.
        loss: a loss module, or any function with ``(loss, dy) = loss(y, target)``. Its attribute
            ``outputs`` tells metrics what one output a sample is: ``"logits"`` (class 1 above 0),
            ``"probabilities"`` or ``"numbers"`` (above 0.5), such as ``my_loss.outputs =
            "probabilities"``. Without it, outputs of a Sequential that ends in a Sigmoid are
            probabilities, others logits; those of a module of your own are if one lies outside of
            0 to 1, and else the metric asks.
        optimizer: an optimizer over ``model.parameters()``, or over some of them. One whose step
            evaluates the loss several times, such as LBFGS, needs all samples in one batch
            (``batch_size=len(X)``); every evaluation of a step has the same masks of dropout and
            begins with the same running statistics, and the history has ``grad_norm``. With its
            ``ema_decay``, validation, ``evaluate`` and ``predict`` use ``optimizer.averages``, and
            so do the best weights and ``load_weights``. The model holds its own parameters
            before and after, trains on with them and keeps them after fit, unless EarlyStopping
            restores the best weights, from which the averages then start again, as they do from
            those of ``load_weights`` (not from those of ``model.load_state_dict``, with which you
            may swap weights yourself).
        metrics: of a whole epoch, not averages over batches. Names: ``"accuracy"``,
            ``"top_5_accuracy"`` (any number), ``"balanced_accuracy"``, ``"f1"``, ``"auc"``,
            ``"mse"``, ``"rmse"``, ``"mae"``, ``"r2"``, and those of scikit-learn's scorers and
            metrics, called as it calls them. Functions of (outputs, targets), as NumPy arrays. Or a
            dict of both, with names of your own. All but the accuracies, mse, rmse and mae keep an
            epoch's outputs in memory. Ignored labels do not count in those of classes. An output
            with NaN is never right: in accuracy, top-k, balanced accuracy and f1 it is a wrong
            answer; auc, those of numbers and scikit-learn's are NaN with it.
        callbacks: called in this order; ``Checkpoint`` runs after the others.
        scheduler: a schedule of ``optimizer``, stepped as its ``interval`` says: after each epoch
            (ReduceLROnPlateau with ``val_loss``, or with ``loss`` if there is no validation), or
            after each optimizer step that was not skipped.
        max_norm: clip gradients to this global norm. The history has ``grad_norm``, the mean of
            the norms before clipping; inf only measures. None with LBFGS.
        nonfinite: ``"raise"``, ``"skip"`` (the step, and its loss in the averages) or
            ``"propagate"``. A refused or skipped step leaves the parameters and the running
            statistics as they were before it.
        accumulate: batches that make one step, with the gradient of one batch of all their samples;
            the rest at an epoch's end is a step too.
        regularizers: of ``onepass.train.regularizers``: penalties that training adds to the loss,
            each with a column of the history, such as ``history["l2"]``; ``history["loss"]`` stays
            the loss of the data.
        last_batch: ``"balance"`` spreads the samples of an epoch evenly over its batches, so that
            none is much smaller than the others, which would spoil a batch norm; ``"keep"`` and
            ``"drop"`` as in DataLoader, which has its own where you pass one.
        seed: seeds dropout, the order of batches, and ``validation_split``. A checkpoint keeps it,
            and a resume uses it, so you need not pass it again.
        log_dir: a directory for ``history.csv``; one that cannot be written to is refused by fit.
        progress: add a ProgressBar.
        device: "cpu", "cuda" or "cuda:N": move the model and the loss there now, and each batch
            before its step. None leaves everything where it is.
        parallel: with whom it trains: "auto" for all processes that ``mpiexec`` or ``torchrun``
            has started, a communicator of ``onepass.parallel``, or None for this process alone.
            Each rank trains on its rows of the same batches, of ``batch_size`` rows together, with
            the results of one process up to rounding; all ranks make the same calls with the same
            arguments. Rank 0 writes and prints. ``evaluate`` and ``predict`` compute all on each
            rank, without the others.
        reproducible: a power of two that the number of ranks divides, or True for 8: each batch is
            computed in so many pieces, whose gradients are added up in one order, so that the
            parameters and the history are the same bit for bit on 1, 2, 4 and 8 ranks.

    Attributes:
        run: the state of the run, which callbacks receive. The trainer has the same attributes:
            ``trainer.history``, ``trainer.epoch``, ``trainer.stop`` and the others of ``Run``.

    ``fit``, ``evaluate`` and ``predict`` convert floating-point samples and targets, batch by
    batch, to the dtype of the model's parameters; integers and booleans stay as they are.

    Raises:
        TypeError: a part of the wrong type, or an unknown keyword. ValueError: an option out of
            range, an optimizer's parameter that the model lacks, a schedule of another optimizer, a
            loss with ``reduction="none"``.

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

        A regression of two numbers a sample, with a loss and a metric of one's own, beside metrics
        of scikit-learn's by name:

        >>> def log_cosh(y, target):  # the mean, and its gradient by y
        ...     e = y - target
        ...     return np.log(np.cosh(e)).mean(), np.tanh(e) / e.size
        >>> log_cosh.outputs = "numbers"
        >>> def worst(outputs, targets):
        ...     return np.abs(outputs - targets).max()
        >>> both = np.hstack([X, 1 - X])
        >>> model = nn.Sequential(nn.Linear(1, 2))
        >>> trainer = Trainer(model, log_cosh, optim.AdamW(model.parameters(), lr=0.1),
        ...                   metrics=["r2", "neg_mean_absolute_error", worst], progress=False)
        >>> history = trainer.fit(X, both, max_epochs=60, batch_size=4)
        >>> list(history)
        ['loss', 'r2', 'neg_mean_absolute_error', 'worst', 'lr']
        >>> history["r2"][-1] > 0.99, history["worst"][-1] < 0.1
        (True, True)
    """

    model = _OfRun[Any]()
    loss = _OfRun[Any]()
    optimizer = _OfRun[Any]()
    scheduler = _OfRun["LRScheduler | None"]()
    metrics = _OfRun[dict[str, Metric]]()
    callbacks = _OfRun[list[Callback]]()
    max_norm = _OfRun["float | None"]()
    nonfinite = _OfRun[str]()
    accumulate = _OfRun[int]()
    regularizers = _OfRun[list[Regularizer]]()
    last_batch = _OfRun[str]()
    seed = _OfRun[int]()
    history = _OfRun[History]()
    epoch = _OfRun[int]()
    step = _OfRun[int]()
    position = _OfRun[int]()
    max_epochs = _OfRun[int]()
    batches = _OfRun[int]()
    skipped_steps = _OfRun[int]()
    lr = _OfRun[float]()
    batch_loss = _OfRun[float]()
    step_info = _OfRun[StepInfo | None]()
    grad_scale = _OfRun[float]()
    row = _OfRun[dict[str, float]]()
    stop = _OfRun[bool]()
    resumed = _OfRun[bool]()
    loaded = _OfRun[bool]()
    at_boundary = _OfRun[bool]()
    sums = _OfRun[Totals]()
    data = _OfRun["dict[str, Any] | None"]()
    comm = _OfRun[Communicator]()
    reproducible = _OfRun["int | None"]()

    @suggest_keywords
    def __init__(
        self,
        model: Any,
        loss: Any,
        optimizer: Any,
        *,
        metrics: Chosen | Sequence[Chosen] | Mapping[str, Chosen] = (),
        callbacks: Iterable[Callback] = (),
        scheduler: LRScheduler | None = None,
        max_norm: float | None = None,
        nonfinite: str = "raise",
        accumulate: int = 1,
        regularizers: Iterable[Regularizer] = (),
        last_batch: str = "balance",
        seed: int = 0,
        log_dir: str | Path | None = None,
        progress: bool = True,
        device: str | None = None,
        parallel: Any = None,
        reproducible: int | bool | None = None,
    ) -> None:
        comm = find(parallel)
        # Run refuses what cannot be used before anything moves.
        self.run = run = Run(
            model=model,
            loss=loss,
            metrics=cast("Any", metrics),  # as the caller chose them
            device=device,
            optimizer=optimizer,
            scheduler=scheduler,
            callbacks=cast("Any", callbacks),
            max_norm=max_norm,
            nonfinite=nonfinite,
            accumulate=accumulate,
            regularizers=cast("Any", regularizers),
            last_batch=last_batch,
            seed=seed,
            comm=comm,
            reproducible=pieces_of(reproducible, comm.size),
        )
        _checks.of_model("Trainer", model, optimizer)
        _schedule.of_optimizer(scheduler, optimizer)
        helpers = [*run.callbacks]
        if log_dir is not None:
            logger = CSVLogger(path_of("Trainer", "log_dir", log_dir) / FILE)
            logger._argument = ("Trainer", "log_dir")
            helpers.append(logger)
        if numbers.flag("Trainer", "progress", progress) and not any(
            isinstance(c, ProgressBar) for c in helpers
        ):
            helpers.append(ProgressBar())
        run.callbacks = helpers
        if device:
            model.to(device)
            if hasattr(loss, "to"):
                loss.to(device)
        self._loop = loop_of(run)

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
        transform: Any = None,
        num_workers: int | None = None,
        sample_weight: Any = None,
        class_weight: ClassWeight = None,
        ckpt_path: str | Path | None = None,
    ) -> History:
        """Train until ``max_epochs`` epochs are done, counted over all calls and resumes.

        Args:
            X: samples along axis 0, floating point; a memory-mapped array is read batch by batch.
                Or a data set, by ``X[i]`` and ``len(X)``, without ``iter()``: pairs (x, y), then
                without ``y``, or x alone. Or batches: a DataLoader, one of PyTorch, or any object
                whose ``iter()`` gives the pairs (x, y) of an epoch. A resume inside an epoch then
                skips as many batches as were done.
            y: targets: classes (integers), or numbers.
            max_epochs: the total.
            batch_size, shuffle: as in DataLoader, with the ``seed`` of the trainer and its
                ``last_batch``.
            validation_data: ``(X, y)``, batches or a data set, to evaluate after each epoch.
            validation_split: share of the data to hold out for that (by class where y is integers).
            transform: of each training batch, as in DataLoader; validation data stay as they are.
            num_workers: threads that read and transform batches ahead, as in DataLoader.
            sample_weight: (N,) a weight for each sample: the loss is Σ w l / Σ w. The metrics, and
                the loss of validation, count every sample once.
            class_weight: {class: weight} (1 for others), an array of them, or "balanced" for
                samples / (classes · samples of the class): multiplies the weight of each sample by
                that of its class.
            ckpt_path: a Checkpoint directory to go on from: its newest valid checkpoint, with a
                warning for a damaged one; a fresh start where it has none. Going on with other
                data or batches than the checkpoint's is a RuntimeWarning between two epochs, and a
                ValueError inside one.

        A fit of the same trainer with the same model and data goes on with its training; callbacks
        keep what they remember. Other data or another model begin a new training for them, and so
        does another trainer. Where all epochs are done it gives a RuntimeWarning.

        Returns:
            ``trainer.history``.

        Raises:
            TypeError: an unknown keyword. ValueError: before the first batch, data or options that
                cannot work, or a checkpoint that does not fit. FloatingPointError: a loss or
                gradient is not finite, with ``nonfinite="raise"``. KeyboardInterrupt: after Ctrl-C,
                at the end of a step. OSError: before the first step, a callback cannot write where
                it should. RuntimeError: another thread uses the model, or another fit a callback; a
                second Ctrl-C has ended the last fit inside a step (a checkpoint still goes on).

        Example:
            >>> import numpy as np
            >>> from onepass import nn, optim
            >>> from onepass.train import Trainer
            >>> X = np.array([[0.0], [0.0], [0.0], [0.0]], np.float32)  # all look the same
            >>> y = np.array([0, 0, 0, 1])
            >>> def share_of_1(**weights):
            ...     model = nn.Sequential(nn.Linear(1, 2))
            ...     optimizer = optim.SGD(model.parameters(), lr=1.0)
            ...     trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False)
            ...     trainer.fit(X, y, max_epochs=200, batch_size=4, **weights)
            ...     z = trainer.predict(X)[0]
            ...     return round(float(1 / (1 + np.exp(z[0] - z[1]))), 3)
            >>> share_of_1(), share_of_1(sample_weight=[1, 1, 0, 2])
            (0.25, 0.5)
            >>> share_of_1(class_weight={1: 9.0}), share_of_1(class_weight="balanced")
            (0.75, 0.5)
        """
        numbers.integer("fit", "max_epochs", max_epochs, 1)
        run = self.run
        with told(run.comm), by_rank(run.comm), run.alone():
            if ckpt_path is None:
                run.refuse_torn("fit")
            _settings.check_again(run)
            # First: a rank may have nothing to do.
            refuse_difference(run.comm, "max_epochs", repr(max_epochs))
            refuse_difference(run.comm, "ckpt_path", "none" if ckpt_path is None else "a path")
            if run.ended and not run.loaded and ckpt_path is None and run.epoch >= max_epochs:
                _resume.say_nothing_is_left(run.epoch, max_epochs)
                return run.history
            parts = None
            if ckpt_path is not None:
                path = path_of("fit", "ckpt_path", ckpt_path)
                parts = by_rank_0(run.comm, lambda: newest(path))
            if parts is None:
                run.refuse_torn("fit")
            seed = run.seed if parts is None else _saving.seed_of(run, parts)
            loader, validation = _loaders.to_train(
                X,
                y,
                batch_size,
                shuffle,
                run.last_batch,
                seed,
                validation_data=validation_data,
                validation_split=validation_split,
                sample_weight=sample_weight,
                class_weight=class_weight,
                transform=transform,
                num_workers=num_workers,
                ignored=getattr(run.loss, "ignore_index", None),
            )
            _checks.before_training(run, loader, validation)
            _schedule.reaches(run, len(loader), max_epochs, parts)
            failed = run.training is not None and not run.ended and not run.loaded
            self._start(loader, validation, max_epochs, parts)
            # A fit that failed behind its last epoch still has its on_fit_end to go.
            if run.epoch >= max_epochs and not (failed and parts is None):
                _resume.say_nothing_is_left(run.epoch, max_epochs)
            with threads_for(run.model, loader):
                self._loop.train(loader, validation)
        return run.history

    @suggest_keywords
    def evaluate(self, X: Any, y: Any = None, *, batch_size: int = BATCH) -> dict[str, float]:
        """``loss`` and the metrics over ``(X, y)``, batches or a data set, in evaluation mode.

        Args:
            X, y: as for ``fit``.
            batch_size: samples at a time; it changes rounding alone.

        Raises:
            TypeError: no ``y``, or not arrays. ValueError: no samples, or X and y of different
                lengths.
        """
        return self.run.evaluate(X, y, batch_size=batch_size)

    @suggest_keywords
    def predict(self, X: Any, *, batch_size: int = BATCH) -> Any:
        """The model's raw outputs for ``X``, in evaluation mode, on the device of ``X``.

        Args:
            X: samples along axis 0, or batches.
            batch_size: samples at a time; it changes rounding alone.

        Raises:
            TypeError: X is not an array. ValueError: it has no samples.
        """
        return self.run.predict(X, batch_size=batch_size)

    @suggest_keywords
    def save(self, dir: str | Path) -> Path:
        """Write a checkpoint of everything into ``dir``; returns the new directory inside it.

        With several ranks all of them call it, and rank 0 writes.

        Args:
            dir: a directory, made where it is missing; ``load`` and ``fit(ckpt_path=)`` read it.

        Raises:
            OSError: the file that could not be written, and what is whole. RuntimeError: another
                thread trains the model, or the last fit was interrupted inside a step.
        """
        return self.run.save(path_of("save", "dir", dir))

    @classmethod
    @suggest_keywords
    def load(
        cls, dir: str | Path, model: Any, loss: Any, optimizer: Any, **options: Any
    ) -> Trainer:
        """A trainer that goes on from the newest valid checkpoint in ``dir``.

        With several ranks all of them call it, and rank 0 reads.

        Args:
            dir: of ``save`` or of a Checkpoint.
            model, loss, optimizer, options: as for ``Trainer``, of the same architecture.

        Raises:
            FileNotFoundError: no such directory, or no checkpoint in it. ValueError: the checkpoint
                is of another architecture or seed (model and optimizer keep their values), or none
                is valid.
        """
        options["parallel"] = comm = find(options.get("parallel"))

        def read() -> dict[str, Any]:
            parts = newest(_existing("load", dir))
            if parts is None:
                raise FileNotFoundError(f"no checkpoint in {dir}")
            return parts

        parts = by_rank_0(comm, read)
        trainer = cls(model, loss, optimizer, **options)
        _saving.restore(trainer.run, parts)
        return trainer

    def log(self, name: str, value: float) -> None:
        """Add ``value``, a number, to the epoch's row of the history as ``name``, in a hook:
        see ``Run.log``."""
        self.run.log(name, value)

    def __repr__(self) -> str:
        return self.run.shown("Trainer")

    @staticmethod
    @suggest_keywords
    def load_weights(dir: str | Path, model: T, *, which: str = "best") -> T:
        """Give ``model`` the weights of a checkpoint, to predict with; returns the model.

        Neither the optimizer nor the schedule of the training is needed. Running averages that an
        optimizer keeps of the model (``ema_decay``) start again from these weights.

        Args:
            dir: of ``save`` or of a Checkpoint.
            model: of the same architecture.
            which: ``"best"``, those of the best epoch by EarlyStopping or else by a Checkpoint with
                ``monitor``; or ``"last"``, those of the newest valid checkpoint.

        Raises:
            FileNotFoundError: no such directory, or no checkpoint in it. ValueError: another
                architecture (the model keeps its values), or no callback has kept the best.
        """
        _settings.a_module("load_weights", model)
        saved = weights(_existing("load_weights", dir), which)
        _saving.load_model(model, saved["model"], saved["modules"])
        return model

    def _start(
        self,
        loader: Loader,
        validation: Loader | None,
        max_epochs: int,
        parts: dict[str, Any] | None,
    ) -> None:
        run = self.run
        run.batches = len(loader)
        before: Mapping[str, Any] = vars(run) if parts is None else parts["trainer"]
        data = _resume.described(run, loader, validation)
        restores = parts is not None
        if not restores and run.position > run.batches > 0:
            raise ValueError(
                f"Trainer: 'position' is {run.position}, expected at most {run.batches}, the "
                "batches of an epoch"
            )
        _resume.check(data, before, resumes=run.loaded or restores, restores=restores)
        if parts is not None:
            _saving.restore(run, parts)
            _resume.warn_of_options(data, before["data"])
        if run.loaded:
            _resume.warn_of_frozen(run.model, run.frozen)
        run.begin(fingerprint(loader, validation))
        if not run.resumed:
            run.stop = False
            if run.step == 0:
                run.seed_dropout()
        run.data = data
        run.max_epochs = max_epochs


def _existing(owner: str, dir: str | Path) -> Path:
    folder = path_of(owner, "dir", dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such directory: {dir}")
    return folder
