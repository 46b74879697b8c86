"""The run of ``onepass train``: a multilayer perceptron on a table, with sound defaults.

A quarter of the data is held out for the result; a tenth of the rest decides when to stop. The
statistics of the training part alone standardise the inputs and the targets of a regression. The
result of a regression is in the unit of its targets.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import nn, optim
from onepass._array import mover, to_numpy
from onepass._suggest import suggestion
from onepass.data import Dataset, Standardize, load, split_indices, train_test_split
from onepass.nn._activation import MODULES
from onepass.optim.lr_scheduler import CosineAnnealingLR, LinearWarmup, LRScheduler, SequentialLR
from onepass.train._callbacks import EarlyStopping
from onepass.train._checkpoint import Checkpoint
from onepass.train._diagnosis import Diagnosis
from onepass.train._folder import Folder
from onepass.train._profile import Profile
from onepass.train._trainer import Trainer
from onepass.train._verdict import verdict

TEST_SHARE = 0.25
VALIDATION_SHARE = 0.1
MIN_SAMPLES = 8  # with fewer, the validation part would round to none
WARMUP_SHARE = 0.05
PATIENCE = 20
LABEL_SMOOTHING = 0.2
ADAM_LR = 4e-3
ADAMW_WEIGHT_DECAY = 0.3  # times the rate; strong, because the tables are small
NEED_MORE_THAN_A_GRADIENT = ("lbfgs", "sparseadam")

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Options:
    """Options of the command line; ``lr`` None means ADAM_LR for the Adam family, else the default
    of the optimizer."""

    data: str
    target: str | None
    task: str | None
    epochs: int
    batch_size: int
    lr: float | None
    optimizer: str
    hidden: tuple[int, ...]
    norm: str
    activation: str
    dropout: float
    device: str
    seed: int


@dataclass(frozen=True)
class Parts:
    """Scaled inputs and targets of the three parts, and how to undo the targets' scaling."""

    train: tuple[Any, Any]
    validation: tuple[Any, Any]
    test: tuple[Any, Any]
    target_scale: Standardize | None


def optimizers() -> dict[str, Any]:
    """Lower-case name → class, of those that step on gradients alone."""
    return {
        name.lower(): cls
        for name, cls in vars(optim).items()
        if isinstance(cls, type)
        and issubclass(cls, optim.Optimizer)
        and cls is not optim.Optimizer
        and name.lower() not in NEED_MORE_THAN_A_GRADIENT
    }


def activations() -> dict[str, Any]:
    """Name in ``onepass.ops`` → class."""
    return dict(sorted(MODULES.items()))


class Recipe:
    """One run in one directory; the constructor finds all wrong options."""

    def __init__(
        self,
        options: Options,
        out: Path | None,
        resume: bool,
        *,
        overwrite: bool = False,
        diagnose: bool = False,
    ) -> None:
        self.options = options
        if options.batch_size == 1 and options.norm == "batch":
            raise ValueError(
                "train: '--batch-size' is 1, expected a number above 1 with batch norm (or --norm "
                "none)"
            )
        self.dataset = load(options.data, options.target, task=options.task)
        self.resume = resume
        self.parts = _split(self.dataset, options)
        nn.manual_seed(options.seed)
        self.model = _model(self.dataset, options).to(options.device)
        self.optimizer = _optimizer(self.model, options)
        recorded = json.loads(json.dumps(asdict(options)))
        recorded["contents"] = _digest(self.dataset.X, self.dataset.y)
        self.folder = Folder(self.dataset.name, out, recorded, resume=resume, overwrite=overwrite)
        self.out = self.folder.path
        self.stopping = EarlyStopping(patience=PATIENCE)
        self.profile = Profile()
        self.diagnosis = Diagnosis() if diagnose else None
        self.trainer = self._trainer()

    def describe(self) -> str:
        """The data, its parts and the model."""
        sizes = ", ".join(
            f"{len(pair[0])} {name}"
            for name, pair in (
                ("training", self.parts.train),
                ("validation", self.parts.validation),
                ("held out", self.parts.test),
            )
        )
        note = f"\n{self.folder.note}" if self.folder.note else ""
        return f"{self.dataset!r}\n{sizes}\n{self.model!r}{note}"

    def train(self) -> dict[str, float]:
        """Train, evaluate the held-out part, write the result; returns it."""
        X, y = self.parts.train
        options = self.options
        self.trainer.fit(
            X,
            y,
            max_epochs=options.epochs,
            batch_size=options.batch_size,
            validation_data=self.parts.validation,
            ckpt_path=self.checkpoints if self.resume else None,
        )
        result = self._evaluate()
        self.folder.record(result)
        return result

    def diagnosed(self) -> str:
        """One sentence about the run; the table of a Diagnosis, which has said its own."""
        if self.diagnosis is not None:
            return self.diagnosis.table()
        history = self.trainer.history
        return verdict(history.get("loss", []), history.get("val_loss", []))

    @property
    def checkpoints(self) -> Path:
        """The directory of the checkpoints."""
        return self.out / "checkpoints"

    def _trainer(self) -> Trainer:
        classes = self.dataset.classes is not None
        loss = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING) if classes else nn.MSELoss()
        steps = self.options.epochs * math.ceil(len(self.parts.train[0]) / self.options.batch_size)
        return Trainer(
            self.model,
            loss,
            self.optimizer,
            metrics=["accuracy"] if classes else ["mae"],
            callbacks=[
                self.stopping,
                self.profile,
                *filter(None, [self.diagnosis]),
                Checkpoint(self.checkpoints, keep=2),
            ],
            scheduler=_schedule(self.optimizer, steps),
            max_norm=1.0,
            seed=self.options.seed,
            log_dir=self.out,
        )

    def _in_units(self, scaled: Any) -> Any:
        """In the unit of the target, in double: float32 may not reach so far."""
        assert self.parts.target_scale is not None
        return self.parts.target_scale.inverse_transform(to_numpy(scaled).astype(np.float64))

    def _evaluate(self) -> dict[str, float]:
        """Metrics of the held-out part: accuracy, or errors in the unit of the target."""
        X, y = self.parts.test
        if self.parts.target_scale is None:
            return self.trainer.evaluate(X, y)
        predicted = self._in_units(self.trainer.predict(X))
        truth = self._in_units(y)
        error = predicted - truth
        spread = float(np.mean((truth - truth.mean()) ** 2))
        square = float(np.mean(error**2))
        return {
            "rmse": math.sqrt(square),
            "mae": float(np.mean(np.abs(error))),
            "r2": 1.0 - square / spread if spread else math.nan,
        }


def _digest(*arrays: Any) -> str:
    """Tells the contents of data apart."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _split(dataset: Dataset, options: Options) -> Parts:
    classes = dataset.classes is not None
    if len(dataset.y) < MIN_SAMPLES:
        raise ValueError(
            f"{dataset.name} has {len(dataset.y)} samples, expected at least {MIN_SAMPLES}: one "
            "part is held out and one decides when to stop"
        )
    if dataset.classes is not None and len(dataset.classes) == len(dataset.y):
        raise ValueError(
            f"target {dataset.target!r} has a class of its own for each of {len(dataset.y)} "
            "samples; if it is numbers, pass --task regression"
        )
    features = dataset.X.reshape(len(dataset.X), -1)
    by_class = None if classes else False  # None: where enough of the classes come again
    X, X_test, y, y_test = train_test_split(
        features, dataset.y, TEST_SHARE, stratify=by_class, seed=options.seed
    )
    train, held = split_indices(y, VALIDATION_SHARE, stratify=by_class, seed=options.seed)
    scale = Standardize().fit(X[train])
    target_scale = None if classes else Standardize().fit(y[train, None])
    move = mover(options.device)

    def prepared(inputs: Any, targets: Any) -> tuple[Any, Any]:
        if target_scale is not None:
            targets = target_scale.transform(targets[:, None]).astype(np.float32)
        return move(scale.transform(inputs).astype(np.float32)), move(targets)

    return Parts(
        prepared(X[train], y[train]),
        prepared(X[held], y[held]),
        prepared(X_test, y_test),
        target_scale,
    )


def _model(dataset: Dataset, options: Options) -> Any:
    """(Linear → norm → activation → dropout) for each hidden layer, then Linear."""
    activation = _named("activation", options.activation, activations())
    layers: list[Any] = []
    width = math.prod(dataset.X.shape[1:])
    for size in options.hidden:
        layers.append(nn.Linear(width, size))
        if options.norm == "batch":
            layers.append(nn.BatchNorm1d(size))
        layers.append(activation())
        if options.dropout:
            layers.append(nn.Dropout(options.dropout))
        width = size
    layers.append(nn.Linear(width, len(dataset.classes) if dataset.classes else 1))
    return nn.Sequential(*layers)


def _optimizer(model: Any, options: Options) -> Any:
    cls = _named("optimizer", options.optimizer, optimizers())
    name = options.optimizer.lower()
    chosen: dict[str, float] = {}
    if options.lr is not None:
        chosen["lr"] = options.lr
    elif name in ("adam", "adamw", "nadam", "radam"):
        chosen["lr"] = ADAM_LR
    if name == "adamw":
        chosen["weight_decay"] = ADAMW_WEIGHT_DECAY
    return cls(model.parameters(), **chosen)


def _schedule(optimizer: Any, steps: int) -> LRScheduler:
    """A linear warm-up over a twentieth of the steps, then half a cosine to zero."""
    warmup = max(1, round(steps * WARMUP_SHARE))
    phases = [LinearWarmup(optimizer, warmup), CosineAnnealingLR(optimizer, max(1, steps - warmup))]
    return SequentialLR(optimizer, phases, [warmup])


def _named(what: str, name: str, known: dict[str, Any]) -> Any:
    if name.lower() not in known:
        hint = suggestion(name.lower(), known)
        raise ValueError(
            f"train: '--{what}' is {name!r}, expected one of {', '.join(sorted(known))}{hint}"
        )
    return known[name.lower()]
