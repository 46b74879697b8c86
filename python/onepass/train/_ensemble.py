"""The mean of the predictions of several models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

from onepass import _numbers as numbers
from onepass import nn, ops
from onepass._array import convert, is_floating
from onepass._keywords import SuggestsKeywords
from onepass.nn._state_dict import LoadResult
from onepass.train import _averages
from onepass.train._evaluation import BATCH, Evaluator
from onepass.train._settings import a_module
from onepass.train._trainer import Trainer

AVERAGES = ("outputs", "softmax", "sigmoid")
# What is averaged of a trainer's model, by its loss; outputs elsewhere.
OF_LOSS = {nn.CrossEntropyLoss: "softmax", nn.BCEWithLogitsLoss: "sigmoid"}


class Ensemble(SuggestsKeywords):
    """Models that were trained apart, such as from several seeds, and predict together.

    Args:
        models: modules, or Trainers; at least one, each once. Of a Trainer with running averages,
            those predict.
        average: what the mean is taken of: "outputs", as they are; "softmax" of them along axis 1
            or "sigmoid" of them, so that ``predict`` gives probabilities. None: of Trainers with
            a CrossEntropyLoss softmax, with a BCEWithLogitsLoss sigmoid, else outputs. (The mean
            of probabilities, not of logits, is that of Lakshminarayanan et al.)

    Raises:
        TypeError: no models. ValueError: none at all, one twice, or another word; in predict,
            outputs of different shapes.

    Source: Lakshminarayanan, Pritzel & Blundell, Simple and Scalable Predictive Uncertainty
    Estimation using Deep Ensembles, 2017.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> from onepass.train import Ensemble
        >>> models = [nn.Linear(2, 1), nn.Linear(2, 1)]
        >>> x = np.ones((3, 2), np.float32)
        >>> both = Ensemble(models).predict(x)
        >>> bool(np.allclose(both, (models[0](x) + models[1](x)) / 2))
        True
    """

    def __init__(self, models: Iterable[Any], average: str | None = None) -> None:
        if isinstance(models, (str, nn.Module, Trainer)) or not isinstance(models, Iterable):
            raise TypeError(f"Ensemble: 'models' is {models!r}, expected a list of models")
        found = list(models)
        if not found:
            raise ValueError("Ensemble: 'models' is empty, expected at least one model")
        kinds = set()
        for number, model in enumerate(found):
            if not isinstance(model, Trainer):
                a_module("Ensemble", model)
            if any(_model(model) is _model(other) for other in found[:number]):
                raise ValueError(
                    f"Ensemble: 'models[{number}]' is there before, expected each model once"
                )
            kinds.add(OF_LOSS.get(type(getattr(model, "loss", None)), "outputs"))
        if average is None:
            average = kinds.pop() if len(kinds) == 1 else "outputs"
        numbers.one_of("Ensemble", "average", average, AVERAGES)
        self.models, self.average = found, average

    def predict(self, X: Any, *, batch_size: int = BATCH) -> Any:
        """The mean of what the models give for ``X``, in the library and on the device of ``X``.

        Raises:
            TypeError: X is not an array. ValueError: it has no samples, or the models give
                outputs of different shapes.
        """
        total: Any = None
        for number, model in enumerate(self.models):
            if not isinstance(model, Trainer):
                model = Evaluator(model, None, {}, None)
            outputs = model.predict(X, batch_size=batch_size)
            if self.average != "outputs":
                outputs = _probabilities(outputs, self.average)
            if total is None:
                dtype = outputs.dtype
                narrow = is_floating(outputs) and dtype.itemsize == 2
                # A sum of float16 may be beyond its range; the model's own array stays as it is.
                total = convert(outputs, "float32") if narrow else outputs + 0
            elif tuple(outputs.shape) != tuple(total.shape):
                raise ValueError(
                    f"Ensemble: 'models[{number}]' gives outputs of shape {tuple(outputs.shape)}, "
                    f"expected {tuple(total.shape)} as from those before"
                )
            else:
                total += outputs
        mean = total / len(self.models)
        return convert(mean, str(dtype).removeprefix("torch.")) if narrow else mean

    def state_dict(self) -> dict[str, Any]:
        """The state of every model; the names begin with its number: ``"0.0.weight"``.

        Of a Trainer whose optimizer has averages, these: what `predict` computes with.
        """
        with ExitStack() as stack:
            for model in self.models:
                if isinstance(model, Trainer):
                    stack.enter_context(_averages.averaged(model.run.optimizer))
            return self._modules().state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> LoadResult | None:
        """Give every model its state in ``state_dict``; averages of its optimizer begin there.

        Raises:
            ValueError, KeyError: it does not fit; no model is changed.
        """
        result = self._modules().load_state_dict(dict(state_dict))
        for model in self.models:
            if isinstance(model, Trainer):
                _averages.follow(model.run.optimizer)
        return result

    def _modules(self) -> nn.ModuleList:
        return nn.ModuleList([_model(model) for model in self.models])

    def __len__(self) -> int:
        return len(self.models)

    def __repr__(self) -> str:
        names = ", ".join(type(_model(model)).__name__ for model in self.models)
        return f"Ensemble([{names}], average={self.average!r})"


def _model(model: Any) -> Any:
    return model.model if isinstance(model, Trainer) else model


def _probabilities(outputs: Any, average: str) -> Any:
    if average == "sigmoid":
        return ops.sigmoid(outputs)
    if outputs.ndim < 2 or outputs.shape[1] < 2:
        raise ValueError(
            f"Ensemble: 'average' is 'softmax', and the models give outputs of shape "
            f"{tuple(outputs.shape)}, expected several classes along axis 1; pass 'sigmoid' or "
            "'outputs'"
        )
    return ops.softmax(outputs, 1)
