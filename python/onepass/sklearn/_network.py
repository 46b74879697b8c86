"""A network in training: what an estimator keeps between its calls."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from onepass import nn
from onepass._array import to_numpy
from onepass.data import Standardize
from onepass.nn import _random
from onepass.runs._network import Architecture
from onepass.sklearn import _optimizers
from onepass.sklearn._convergence import Convergence, Record
from onepass.sklearn._options import MOST_IN_A_BATCH, Options
from onepass.train import GradientTolerance, Trainer
from onepass.train._checks import FEW
from onepass.train._totals import Totals
from onepass.train.regularizers import L2


class Network:
    """The network, its optimizer, the scales around it, and the numbers of its epochs.

    Args:
        estimator: whose optimizer it takes.
        outputs: of the last layer.
        loss: of ``onepass.nn``.
        seed: decides the first weights, the order of batches, the masks of dropout and the part
            that is held out.
        dtype: "float32" or "float64".
    """

    def __init__(
        self,
        estimator: Any,
        options: Options,
        inputs: int,
        outputs: int,
        loss: Any,
        seed: int,
        dtype: str,
    ) -> None:
        self.made_with = options.network
        self.dtype = np.dtype(dtype)
        self.inputs: Standardize | None = None
        self.targets: Standardize | None = None
        self.record = Record()
        self._convergence: Convergence | None = None
        self._masks: list[tuple[int, int]] = []
        architecture = Architecture(
            inputs, options.hidden, outputs, options.norm, options.activation, options.dropout
        )
        model = _built(architecture, dtype, seed)
        self._optimizer_of = self._key(estimator)
        model.to(options.device)
        self.trainer = Trainer(
            model,
            loss,
            _optimizers.made(estimator, model),
            seed=seed,
            progress=False,
            device=options.device,
        )

    def __getstate__(self) -> dict[str, Any]:
        # In one piece, since joblib may map arrays that it finds read-only, and steps write.
        return {**vars(self), "trainer": pickle.dumps(self.trainer)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, trainer=pickle.loads(state["trainer"]))

    def copied(self) -> Network:
        """A network that can be trained while this one stays as it is."""
        new = object.__new__(Network)
        changes = {"trainer": self.trainer, "record": self.record}
        vars(new).update(vars(self) | copy.deepcopy(changes))
        return new

    @property
    def model(self) -> Any:
        """The modules; inputs and targets are scaled around them."""
        return self.trainer.model

    def follow(self, estimator: Any) -> None:
        """Take a new optimizer where the estimator's parameters of it have changed."""
        key = self._key(estimator)
        if key != self._optimizer_of:
            self.trainer.optimizer = _optimizers.made(estimator, self.model)
            self._optimizer_of = key

    @staticmethod
    def _key(estimator: Any) -> tuple[Any, ...]:
        return (
            estimator.optimizer,
            estimator.learning_rate,
            *(getattr(estimator, name) for name in _optimizers.PARAMETERS),
        )

    def scale(self, X: Any, y: Any, weight: Any, *, targets: bool) -> None:
        """Learn the scales of the inputs, and of ``targets`` too."""
        self.inputs = Standardize().fit(X, weight)
        self.targets = Standardize().fit(y, weight) if targets else None

    def train(
        self,
        options: Options,
        X: Any,
        y: Any,
        weight: Any,
        *,
        epochs: int,
        full_batch: bool,
        goes_on: bool,
        score: Callable[[], float] | None = None,
    ) -> bool:
        """Train on data as the user has them.

        Args:
            weight: of each sample, or None.
            goes_on: what decides to cut the rate goes on from the last call too.
            score: of the part that is held out, where one is.

        Returns:
            Whether it has converged before the last epoch.
        """
        count = len(X)
        batch = count if full_batch else min(options.batch_size or MOST_IN_A_BATCH, count)
        _refuse_single_samples(options, count, count // math.ceil(count / batch))
        convergence = self._convergence if goes_on else None
        if convergence is None:
            convergence = Convergence(options, self.record, score, full_batch=full_batch)
            if options.rate == "adaptive":  # the last fit may have cut it to next to nothing
                for group in self.trainer.optimizer.param_groups:
                    group["lr"] = group.get("initial_lr", group["lr"])
        convergence.options, convergence.samples = options, count
        small = GradientTolerance(options.tol, math.inf)
        trainer = self.trainer
        trainer.callbacks = [convergence, small] if full_batch else [convergence]
        in_a_batch = (count if weight is None else float(weight.sum())) / math.ceil(count / batch)
        trainer.regularizers = [L2(options.alpha / in_a_batch)] if options.alpha else []
        first, streams = trainer.epoch, _random.streams(self.model).values()
        with _random.undisturbed():
            for stream, place in zip(streams, self._masks, strict=False):
                stream.set(*place)  # nn.manual_seed may have moved it
            try:
                with np.errstate(over="ignore", invalid="ignore"):  # the trainer looks at the loss
                    trainer.fit(
                        self.scaled(self.inputs, X),
                        self.scaled(self.targets, y) if y.dtype.kind == "f" else y,
                        max_epochs=first + epochs,
                        batch_size=batch,
                        shuffle=options.shuffle and not full_batch,
                        sample_weight=weight,
                    )
            except BaseException:
                trainer.position, trainer.run.sums = 0, Totals()  # the next call begins an epoch
                raise
            finally:
                trainer.callbacks = []
            self._masks = [stream.peek() for stream in streams]
        self._convergence = convergence if goes_on else None
        self.epochs = trainer.epoch - first
        return bool(convergence.converged) or (full_batch and small.converged)

    def scaled(self, scale: Standardize | None, X: Any) -> Any:
        """``X`` on that scale, in the dtype of the network."""
        if scale is None:
            return np.asarray(X, self.dtype)
        with np.errstate(over="ignore"):
            return scale.transform(np.asarray(X, np.float64)).astype(self.dtype)

    def outputs(self, X: Any) -> Any:
        """The network's outputs in float64, before their scale is undone."""
        with np.errstate(over="ignore", invalid="ignore"):
            y = to_numpy(self.trainer.predict(self.scaled(self.inputs, X))).astype(np.float64)
        wrong = ~np.isfinite(y).all(axis=1)
        if wrong.any():
            raise ValueError(
                f"the network's output is not finite for sample {int(wrong.argmax())} of X: its "
                "numbers are too far from those of the training, or a partial_fit has diverged"
            )
        return y

    def predicted(self, X: Any) -> Any:
        """The outputs in the unit of the targets."""
        y = self.outputs(X)
        if self.targets is not None:
            y = self.targets.inverse_transform(y)
        return y.astype(self.dtype)

    def layers(self) -> list[tuple[Any, Any]]:
        """Weights (in, out) and bias of each linear layer, of inputs and outputs without scale."""
        state = {name: to_numpy(a) for name, a in self.trainer.run.evaluated_weights().items()}
        linear = [n for n, m in self.model.named_modules() if isinstance(m, nn.Linear)]
        found = [
            (state[f"{n}.weight"].astype(np.float64).T, state[f"{n}.bias"].astype(np.float64))
            for n in linear
        ]
        if self.inputs is not None:
            mean, std = _moments(self.inputs)
            weight, bias = found[0]
            found[0] = weight / std[:, None], bias - (mean / std) @ weight
        if self.targets is not None:
            mean, std = _moments(self.targets)
            weight, bias = found[-1]
            found[-1] = weight * std, bias * std + mean
        return [(w.astype(self.dtype), b.astype(self.dtype)) for w, b in found]


def _refuse_single_samples(options: Options, count: int, smallest: int) -> None:
    if smallest < 2 and options.norm == "batch" and options.hidden:
        given = "'auto'" if options.batch_size is None else options.batch_size
        cure = f"a batch_size above {FEW}" if count > FEW else "more samples"
        raise ValueError(
            f"{options.owner}: 'batch_size' is {given}, which leaves {smallest} of {count} samples "
            f"in a batch, expected {cure}, or norm='layer': norm='batch' divides by the deviation "
            "of a batch, and one sample has none"
        )


def _moments(scale: Standardize) -> tuple[Any, Any]:
    return scale.mean, scale.std


def _built(architecture: Architecture, dtype: str, seed: int) -> Any:
    """The network with weights that depend on the seed alone."""
    with _random.seeded(seed):
        model = architecture.build(dtype)
    nn.init.apply(model, "auto", seed)
    nn.init.zeros(model[-1].weight)  # the first predictions are the mean, or all classes alike
    return model
