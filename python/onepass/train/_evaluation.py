"""Outputs, loss and metrics of a model over data, for evaluate, predict and the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onepass._array import (
    beside,
    brought_to,
    convert,
    is_floating,
    is_tensor_of_torch,
    library,
    mover,
)
from onepass.data._rows import Rows
from onepass.nn import _use
from onepass.train import _averages, _loaders
from onepass.train._blas import threads_for
from onepass.train._loaders import Loader
from onepass.train._metrics import Metric
from onepass.train._totals import Totals
from onepass.train._weights import loss_of

BATCH = 256
FEW = 4  # batches


@dataclass(eq=False)
class Evaluator:
    """Computes outputs, loss and metrics, in evaluation mode.

    Attributes:
        model: an ``nn.Module``.
        loss: a function with ``(loss, dy) = loss(y, target)``.
        metrics: name → metric of all outputs and targets.
        device: the device for every batch; None leaves it where it is.
    """

    model: Any
    loss: Any
    metrics: dict[str, Metric]
    device: str | None
    # Renewed with the device and the model:
    _move: Callable[[Any], Any] = field(init=False, repr=False)
    _dtype: np.dtype[Any] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Of a ``Run``, the settings do this whenever they change."""
        self.follow_device()
        self.follow_model()

    def follow_device(self) -> None:
        """Move arrays to ``device`` from now on."""
        self._move = mover(self.device, "Trainer") if self.device else _unmoved

    def follow_model(self) -> None:
        """Convert arrays to the dtype of ``model`` from now on."""
        self._dtype = _dtype_of(self.model)

    def evaluate(self, X: Any, y: Any, *, batch_size: int = BATCH) -> dict[str, float]:
        """``loss`` and the metrics over ``(X, y)``."""
        return self.evaluate_batches(_loaders.to_read("evaluate", X, y, batch_size))

    def predict(self, X: Any, *, batch_size: int = BATCH) -> Any:
        """The model's raw outputs for ``X``, in the library and on the device of ``X``.

        Outputs for batches that others make are NumPy arrays.
        """
        loader = _loaders.to_read("predict", X, None, batch_size)
        home = loader.X if loader.X is not None else np.empty(0)
        # Asking for the threads takes 70 microseconds, as long as a small prediction.
        threads = threads_for(self.model, loader) if len(loader) > FEW else nullcontext()
        home = np.empty(0) if isinstance(home, Rows) else home
        with self._using("predict"), threads, closing(iter(loader)) as batches:
            inputs = (batch[0] if isinstance(batch, tuple) else batch for batch in batches)
            outputs = [brought_to(home, self.model(self.moved(x))) for x in inputs]
        result = library(home).concatenate(outputs)
        return beside(X, result) if is_tensor_of_torch(X) else result

    def evaluate_batches(self, loader: Loader) -> dict[str, float]:
        """``loss`` and the metrics over the batches of ``loader``."""
        totals = Totals()
        with self.evaluating(loader), closing(iter(loader)) as batches:
            for batch in batches:
                totals.add(self.metrics, *self.judged(batch))
        return totals.values_of(self.metrics)

    def judged(self, batch: Sequence[Any]) -> tuple[float, float | None, Any, Any]:
        """The loss of a batch, its divisor, outputs and targets; every sample counts once."""
        x, target = map(self.moved, batch[:2])
        output = self.model(x)
        loss, _, divisor = loss_of(self.loss, output, target)
        return float(loss), divisor, output, target

    @contextmanager
    def evaluating(self, loader: Loader) -> Iterator[None]:
        """Around an evaluation of the batches of ``loader``."""
        with self._using("evaluate"), threads_for(self.model, loader):
            yield

    @contextmanager
    def _using(self, call: str) -> Iterator[None]:
        """The model in evaluation mode, with averages in place of its parameters if there are any:
        no other thread may train it then, and those that evaluate it with others wait."""
        optimizer = getattr(self, "optimizer", None)
        values = optimizer if _averages.swaps(optimizer) else None
        use = _use.using(self.model, call, evaluates=True, values=values)
        with use, _averages.averaged(optimizer):
            yield

    def moved(self, array: Any) -> Any:
        """Samples or targets on the device; floating-point ones in the dtype of the model."""
        dtype = self._dtype
        if dtype is not None and array.dtype != dtype and is_floating(array):
            array = convert(array, dtype.name)
        return self._move(array)


def _dtype_of(model: Any) -> Any:
    """That of the parameters, else of running statistics, else None: it takes any."""
    for parameter in model.parameters():
        return parameter.dtype
    return next((a.dtype for a in model.state_dict().values() if is_floating(a)), None)


def _unmoved(array: Any) -> Any:
    return array
