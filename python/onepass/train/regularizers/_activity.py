"""The penalty on activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onepass._array import Array, is_floating, library
from onepass._suggest import suggestion
from onepass.nn._activation import Activation
from onepass.train._stand_in import StandIn
from onepass.train.regularizers._base import Regularizer


class ActivationSparsity(Regularizer):
    """weight·mean over samples of Σ|a|, over the outputs a of layers: few units are active.

    Its gradient, weight·sign(a)/samples, joins the backward call of the loss. Such a layer runs by
    itself, not within a fused kernel, which gives the same bits.

    Args:
        weight: what the penalty is multiplied by.
        name: the name of its column in the history.
        layers: names as in ``model.named_modules()``, such as ["1", "4.body"]; None: every
            activation.

    Source: Glorot, Bordes & Bengio, Deep Sparse Rectifier Neural Networks, 2011.

    Example:
        >>> import numpy as np
        >>> from onepass import nn, optim
        >>> from onepass.train import Trainer
        >>> from onepass.train.regularizers import ActivationSparsity
        >>> X = np.random.default_rng(0).standard_normal((64, 3), np.float32)
        >>> nn.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> trainer = Trainer(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1),
        ...                   regularizers=[ActivationSparsity(0.1)], progress=False)
        >>> history = trainer.fit(X, X[:, :1], max_epochs=20)
        >>> history["activation_sparsity"][-1] < history["activation_sparsity"][0]
        True
    """

    transient = ("_taps",)
    _taps: Sequence[Tap] = ()
    _value: float = 0.0  # of the last batch

    def __init__(
        self,
        weight: float,
        name: str = "activation_sparsity",
        *,
        layers: Sequence[str] | None = None,
    ) -> None:
        self._set(weight, name)
        if layers is not None and (
            isinstance(layers, str) or not all(isinstance(layer, str) for layer in layers)
        ):
            raise TypeError(
                f"ActivationSparsity: 'layers' is {layers!r}, expected a list of names of layers"
            )
        self.layers = None if layers is None else tuple(layers)

    def begin(self, run: Any) -> None:
        self.end()
        known = dict(run.model.named_modules())
        names = self.layers
        if names is None:
            names = tuple(name for name, layer in known.items() if isinstance(layer, Activation))
        if not names:
            raise ValueError(
                f"ActivationSparsity: 'layers' is {self.layers!r}, which names no activation of "
                f"the model, expected names of layers: {', '.join(filter(None, known))}"
            )
        for name in names:
            if name not in known:
                raise ValueError(
                    f"ActivationSparsity: 'layers' has {name!r}, expected names of layers: "
                    f"{', '.join(filter(None, known))}{suggestion(name, known)}"
                )
        self._taps = [Tap(known[name], name) for name in dict.fromkeys(names)]
        for tap in self._taps:
            tap.install()

    def end(self) -> None:
        for tap in reversed(self._taps):
            tap.remove()
        self._taps = ()

    def before_backward(self, run: Any, share: float) -> None:
        self._value = self.weight * sum(tap.size() for tap in self._taps)
        for tap in self._taps:
            tap.factor = share * self.weight

    def after_batch(self, run: Any, x: Array, share: float) -> float:
        return self._value


class Tap:
    """Sees the outputs of a layer, and adds the gradient of the penalty to what comes back."""

    def __init__(self, layer: Any, name: str) -> None:
        self.layer, self.name = layer, name
        self.factor = 0.0
        self._output: Any = None
        self._stand_ins = [_Forward(self), _Backward(self)]

    def install(self) -> None:
        for stand_in in self._stand_ins:
            stand_in.install()

    def remove(self) -> None:
        for stand_in in self._stand_ins:
            stand_in.remove()
        self._output = None

    def see(self, y: Any) -> None:
        if not is_floating(y) or not y.ndim:
            raise TypeError(
                f"ActivationSparsity: the layer {self.name!r} gives no array of floats with an "
                "axis of samples, expected one that does"
            )
        self._output = y

    def pulled(self, dy: Any) -> Any:
        """``dy`` and the gradient of the penalty; only once for each batch of the loss."""
        y, factor = self._output, self.factor
        self._output, self.factor = None, 0.0
        if y is None or not factor or not len(y):
            return dy
        return dy + library(y).sign(y) * (factor / len(y))

    def size(self) -> float:
        """The mean over samples of Σ|a|, of the last batch."""
        y = self._output
        if y is None or not len(y):
            return 0.0
        return float(abs(y).sum(dtype=np.float64)) / len(y)


class _Forward(StandIn):
    def __init__(self, tap: Tap) -> None:
        super().__init__(tap.layer)
        self._tap = tap

    def __call__(self, x: Any) -> Any:
        y = self.inner(x)
        if self.sees():
            self._tap.see(y)
        return y


class _Backward(StandIn):
    method = "backward"

    def __init__(self, tap: Tap) -> None:
        super().__init__(tap.layer)
        self._tap = tap

    def __call__(self, dy: Any, **options: Any) -> Any:
        return self.inner(self._tap.pulled(dy) if self.layer.training else dy, **options)
