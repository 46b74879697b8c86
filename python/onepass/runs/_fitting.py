"""Fitting a network to parts of the data."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onepass import nn
from onepass._array import mover
from onepass.data import DataLoader
from onepass.nn._random import seeded
from onepass.parallel import Communicator
from onepass.runs import _options, _parts, _scores
from onepass.runs._losses import PlainCrossEntropy, ScaledMSE
from onepass.runs._network import Architecture
from onepass.runs._options import Options
from onepass.runs._parts import Indices, Parts
from onepass.runs._source import Source
from onepass.runs._start import Start, freeze
from onepass.train import _checks
from onepass.train._callbacks import Callback, EarlyStopping
from onepass.train._fits import fit_on
from onepass.train._metrics import Metric, distances
from onepass.train._trainer import Trainer
from onepass.train._weights import balanced

MAX_NORM = 1.0


class Fitting:
    """A network that is fitted to parts of the data: for a run, or a fold of a cross-validation.

    Draws the weights from ``options.seed``; those that ``start`` has come from there. The processes
    of ``comm`` train together.
    """

    def __init__(
        self,
        source: Source,
        parts: Parts,
        options: Options,
        start: Start | None = None,
        comm: Communicator | None = None,
    ) -> None:
        if start is not None:
            start.check(options, parts)
            parts = start.scaled(parts, source)
        self.parts, self.options, self.comm = parts, options, comm
        self.architecture = Architecture(
            parts.width,
            options.hidden,
            len(source.classes) if source.classes is not None else 1,
            options.norm,
            options.activation,
            options.dropout,
        )
        with seeded(options.seed):
            model = self.architecture.build()
        if options.init is not None:
            nn.init.apply(model, options.init, options.seed)
        if start is not None:
            start.put_into(model, source)
        freeze(model, options.freeze)
        self.model = model.to(options.device)
        self.optimizer = _options.optimizer(self.model, options)
        self.stopping = EarlyStopping(patience=options.early_stopping or options.epochs)

    def trainer(self, callbacks: list[Callback], log_dir: Path | None = None) -> Trainer:
        """A trainer of the network."""
        steps = self.options.epochs * math.ceil(len(self.parts.train) / self.options.batch_size)
        schedule = _options.schedule(self.optimizer, self.options, steps)
        return self._trainer(callbacks, scheduler=schedule, log_dir=log_dir)

    def check(
        self, callbacks: Sequence[Callback], parts: Sequence[tuple[Indices, Indices]]
    ) -> None:
        """Refuse what `fit` would refuse before its first batch, before the run has a folder.

        Args:
            parts: rows to train on and to validate by, of the run and of its folds.
        """
        run = self._trainer(callbacks).run  # a schedule would change the rate
        size = self.options.batch_size
        for train, validation in parts:
            loaders = [
                DataLoader(self.parts.inputs(rows), self.parts.targets(rows), size, last_batch=last)
                for rows, last in ((train, run.last_batch), (validation, "keep"))
            ]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # fit gives them
                _checks.before_training(run, loaders[0], loaders[1], "train", "--batch-size")

    def _trainer(self, callbacks: Sequence[Callback], **more: Any) -> Trainer:
        loss, metrics = self._loss()
        return Trainer(
            self.model,
            loss,
            self.optimizer,
            metrics=metrics,
            callbacks=[self.stopping, *callbacks],
            max_norm=MAX_NORM,
            seed=self.options.seed,
            progress=False,
            parallel=self.comm,
            reproducible=self.options.reproducible,
            **more,
        )

    def fit(self, trainer: Trainer, checkpoints: Path | None = None) -> None:
        """Train to the end; the network has the weights of its best epoch then."""
        options = {
            "max_epochs": self.options.epochs,
            "batch_size": self.options.batch_size,
            "validation_data": self._moved(self.parts.validation),
            "ckpt_path": checkpoints,
        }
        fit_on(trainer, *self._moved(self.parts.train), options)

    def _moved(self, rows: Indices) -> tuple[Any, Any]:
        move = mover(self.options.device)
        return move(self.parts.inputs(rows)), move(self.parts.targets(rows))

    def _loss(self) -> tuple[Any, dict[str, Any] | list[str]]:
        """The loss and the metrics, in the unit that a user expects."""
        scale = self.parts.target_scale
        if scale is not None:
            unit = _parts.unit_of(scale)
            mae = Metric(parts=distances, finish=lambda mean: mean * unit)
            return ScaledMSE(_parts.square_of(scale)), {"mae": mae}
        counts = np.bincount(self.parts.y[self.parts.train], minlength=self.architecture.outputs)
        weight = None
        if self.options.class_weight == "balanced":
            weight = balanced(counts).tolist()
        metrics = ["accuracy"]
        if weight is not None or _scores.is_imbalanced(counts):
            metrics.append("balanced_accuracy")
        loss = PlainCrossEntropy(weight, label_smoothing=self.options.label_smoothing)
        return loss, metrics
