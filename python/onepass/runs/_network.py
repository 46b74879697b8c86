"""Builds the network of a run from numbers that a file can hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onepass import nn
from onepass.nn._activation import MODULES
from onepass.nn._random import seeded

NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "rms": nn.RMSNorm}


@dataclass(frozen=True)
class Architecture:
    """(Linear → norm → activation → dropout) for each hidden layer, then Linear."""

    inputs: int
    hidden: tuple[int, ...]
    outputs: int
    norm: str
    activation: str
    dropout: float

    def build(self, dtype: str = "float32") -> Any:
        """The network, with new weights."""
        layers: list[Any] = []
        width = self.inputs
        for size in self.hidden:
            layers.append(nn.Linear(width, size, dtype=dtype))
            if self.norm != "none":
                layers.append(NORMS[self.norm](size, dtype=dtype))
            layers.append(activations()[self.activation]())
            if self.dropout:
                layers.append(nn.Dropout(self.dropout))
            width = size
        layers.append(nn.Linear(width, self.outputs, dtype=dtype))
        return nn.Sequential(*layers)

    def filled(self, weights: dict[str, Any]) -> Any:
        """The network with these weights, in evaluation mode; no random number is drawn from those
        of the process."""
        with seeded(0):
            model = self.build()
        model.load_state_dict(weights)
        return model.eval()

    def __str__(self) -> str:
        """``4 → 256 → 256 → 3, batch norm, relu, dropout 0.2``, in one line."""
        sizes = " → ".join(map(str, (self.inputs, *self.hidden, self.outputs)))
        norm = f", {self.norm} norm" if self.norm != "none" else ""
        dropout = f", dropout {self.dropout:g}" if self.dropout else ""
        return f"{sizes}{norm}, {self.activation}{dropout}" if self.hidden else sizes


def activations() -> dict[str, Any]:
    """Name in ``onepass.ops`` → class."""
    return dict(sorted(MODULES.items()))
