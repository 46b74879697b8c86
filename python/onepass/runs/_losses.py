"""Losses that report their value in the user's unit, although they train on a scaled one."""

from __future__ import annotations

from typing import Any

from onepass import nn
from onepass._array import Array


class PlainCrossEntropy(nn.CrossEntropyLoss):
    """The gradient of the smoothed cross entropy, and the value of the plain one.

    ``weight`` weighs samples by their class. The class weights of ``CrossEntropyLoss`` also weigh
    what smoothing gives to the other classes, so a class of one sample in a hundred would get most
    of every sample.
    """

    def __call__(self, y: Array, target: Array) -> tuple[Array, Array]:
        """The plain loss, and the gradient of the smoothed one."""
        weight = self._weight(y)
        loss, dy = nn.CrossEntropyLoss(weight)(y, target)
        if not self.label_smoothing:
            return loss, dy
        if weight is None:
            return loss, super().__call__(y, target)[1]
        smoothed = nn.CrossEntropyLoss(reduction="none", label_smoothing=self.label_smoothing)
        shares = weight[target] / weight[target].sum()
        return loss, smoothed(y, target)[1] * shares[:, None]


class ScaledMSE(nn.MSELoss):
    """The mean squared error times ``square``, and the gradient without it.

    The network is trained on targets that were divided by their spread; with the square of that
    spread the loss is in the unit of the targets, squared.
    """

    def __init__(self, square: float) -> None:
        super().__init__()
        self.square = square

    def __call__(self, y: Array, target: Array) -> tuple[Any, Array]:
        """The loss in the unit of the targets, squared, and the gradient in that of ``y``."""
        loss, dy = super().__call__(y, target)
        return float(loss) * self.square, dy
