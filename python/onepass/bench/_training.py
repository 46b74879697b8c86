"""The networks whose training step is timed: their parameters, batch, modules, and formulas."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from onepass._streams import Function
from onepass.bench._records import case as records
from onepass.bench._records import cases

CLASSES = 10
MAX_NORM = 1.0


@dataclasses.dataclass(frozen=True)
class AdamWOptions:
    """Of the AdamW of every library."""

    lr: float = 1e-3
    eps: float = 1e-8
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01


# A first step of Adam moves each parameter by lr·g/(|g| + eps): with a small eps by the sign of g,
# which rounding decides where g is about zero.
SMOOTH = AdamWOptions(lr=0.1, eps=1e-2)


class Network(Protocol):
    """A network and its batch."""

    @property
    def name(self) -> str: ...
    @property
    def x(self) -> np.ndarray: ...
    @property
    def in_order(self) -> np.ndarray:
        """x as JAX takes it, whose arrays have no strides: with the last axis last in memory."""

    def parameters(self) -> list[np.ndarray]: ...
    def modules(self, n: Any, dropout: bool) -> Any:
        """Of onepass.nn or torch.nn, with their own parameters, in the order of `parameters`."""

    def in_double(self, params: list[np.ndarray], x: np.ndarray, t: np.ndarray) -> Any:
        """(loss, gradients) by the records' formulas."""

    def normed(self) -> list[int]:
        """Channels of each batch norm."""

    def products(self) -> Function | None:
        """The matrix products of our step alone, by the function that `nn.Linear` calls."""


def target(network: Network) -> np.ndarray:
    return np.random.default_rng(1).integers(0, CLASSES, len(network.x))


def model_of(network: Network, n: Any, dropout: bool) -> Any:
    """A model of onepass.nn or torch.nn that begins with the network's parameters."""
    model = network.modules(n, dropout)
    for p, start in zip(model.parameters(), network.parameters(), strict=True):
        p.data[...] = start if isinstance(p.data, np.ndarray) else records.tensor_of(start)
    return model


@dataclasses.dataclass(frozen=True)
class Mlp:
    """Linear, batch norm, ReLU and dropout for each hidden layer; then Linear."""

    name: str
    sizes: tuple[int, ...]
    batch: int
    p: float

    @property
    def x(self) -> np.ndarray:
        drawn = np.random.default_rng(0).standard_normal((self.batch, self.sizes[0]))
        return drawn.astype(np.float32)

    @property
    def in_order(self) -> np.ndarray:
        return self.x

    def parameters(self) -> list[np.ndarray]:
        rng = np.random.default_rng(2)
        found = []
        for i, (a, b) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            found += _linear(rng, a, b)
            found += _affine(rng, b) if i < len(self.sizes) - 2 else []
        return found

    def modules(self, n: Any, dropout: bool) -> Any:
        parts = []
        for a, b in zip(self.sizes, self.sizes[1:-1], strict=False):
            parts += [n.Linear(a, b), n.BatchNorm1d(b), n.ReLU()]
            parts += [n.Dropout(self.p)] if dropout else []
        return n.Sequential(*parts, n.Linear(*self.sizes[-2:]))

    def in_double(self, params: list[np.ndarray], x: np.ndarray, t: np.ndarray) -> Any:
        kept = []
        for i in range(len(self.sizes) - 2):
            w, b, gain, shift = params[4 * i : 4 * i + 4]
            norm = _norm(x @ w.T + b, gain, shift)
            kept.append((w, x, norm))
            x = norm.y
        w, b = params[-2:]
        loss, dy = _cross_entropy(x @ w.T + b, t)
        found = [dy.T @ x, dy.sum(0)]
        dy = dy @ w
        for w, x, norm in reversed(kept):
            dz, dgain, dshift, _ = norm.backward(dy)
            found = [dz.T @ x, dz.sum(0), dgain, dshift, *found]
            dy = dz @ w
        return loss, found

    def normed(self) -> list[int]:
        return list(self.sizes[1:-1])

    def products(self) -> Function:
        rng = np.random.default_rng(3)

        def drawn(*shape: int) -> np.ndarray:
            return rng.standard_normal(shape).astype(np.float32)

        values = [drawn(self.batch, size) for size in self.sizes]
        weights = [drawn(b, a) for a, b in zip(self.sizes, self.sizes[1:], strict=False)]
        results = [np.empty_like(a) for a in values]
        slopes = [np.empty_like(w) for w in weights]

        def run() -> None:
            for i, w in enumerate(weights):
                np.dot(values[i], w.T, out=results[i + 1])
            for i in reversed(range(len(weights))):
                np.dot(values[i + 1].T, values[i], out=slopes[i])
                if i:
                    np.dot(values[i + 1], weights[i], out=results[i])

        return run


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Residual blocks of two batch norms, y = relu(bn(relu(bn(x))) + x): those of a ResNet without
    its convolutions, so that memory counts. Then the means of the maps, and Linear.
    """

    name: str
    shape: tuple[int, int, int, int]
    blocks: int
    last: bool  # the channels, in memory

    @property
    def x(self) -> np.ndarray:
        drawn = np.random.default_rng(0).standard_normal(self.shape).astype(np.float32)
        return lying(drawn, self.last)

    @property
    def in_order(self) -> np.ndarray:
        return np.moveaxis(self.x, 1, 3) if self.last else self.x

    def parameters(self) -> list[np.ndarray]:
        rng, channels = np.random.default_rng(2), self.shape[1]
        norms = [v for _ in range(2 * self.blocks) for v in _affine(rng, channels)]
        return norms + _linear(rng, channels, CLASSES)

    def modules(self, n: Any, dropout: bool) -> Any:
        channels = self.shape[1]
        residual = residual_of(n)
        parts = []
        for _ in range(self.blocks):
            body = (n.BatchNorm2d(channels), n.ReLU(), n.BatchNorm2d(channels))
            parts += [residual(*body), n.ReLU()]
        return n.Sequential(
            *parts, n.AdaptiveAvgPool2d(1), n.Flatten(), n.Linear(channels, CLASSES)
        )

    def in_double(self, params: list[np.ndarray], x: np.ndarray, t: np.ndarray) -> Any:
        norms = []
        for i in range(self.blocks):
            gain, shift, gain2, shift2 = params[4 * i : 4 * i + 4]
            one = _norm(x, gain, shift)
            two = _norm(one.y, gain2, shift2, residual=x)
            norms.append((one, two))
            x = two.y
        w, b = params[-2:]
        means = x.mean((2, 3))
        loss, dy = _cross_entropy(means @ w.T + b, t)
        found = [dy.T @ means, dy.sum(0)]
        pixels = x.shape[2] * x.shape[3]
        dx = np.broadcast_to((dy @ w)[:, :, None, None] / pixels, x.shape)
        for one, two in reversed(norms):
            dh, *second, side = two.backward(dx)
            dx, *first, _ = one.backward(dh)
            dx, found = dx + side, [*first, *second, *found]
        return loss, found

    def normed(self) -> list[int]:
        return [self.shape[1]] * (2 * self.blocks)

    def products(self) -> None:
        """Those of the last layer are next to nothing."""


def lying(x: np.ndarray, last: bool) -> np.ndarray:
    """The same array, with the channels last in memory."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if last else x


def residual_of(n: Any) -> Any:
    """Residual of onepass.nn, or one like it made of torch.nn."""
    if hasattr(n, "Residual"):
        return n.Residual
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, *body: Any, shortcut: Any = None) -> None:
            super().__init__()
            self.body, self.shortcut = nn.Sequential(*body), shortcut

        def forward(self, x: Any) -> Any:
            return self.body(x) + (x if self.shortcut is None else self.shortcut(x))

    return Residual


def _linear(rng: np.random.Generator, inputs: int, outputs: int) -> list[np.ndarray]:
    bound = 1 / math.sqrt(inputs)
    shapes = ((outputs, inputs), (outputs,))
    return [rng.uniform(-bound, bound, shape).astype(np.float32) for shape in shapes]


def _affine(rng: np.random.Generator, channels: int) -> list[np.ndarray]:
    gain, shift = rng.uniform(0.5, 1.5, channels), rng.uniform(-0.5, 0.5, channels)
    return [gain.astype(np.float32), shift.astype(np.float32)]


def _norm(x: np.ndarray, w: np.ndarray, b: np.ndarray, residual: Any = None) -> Any:
    make = cases.norms.BatchNorm
    return make(x, w, b, None, None, training=True, residual=residual, activation="relu")


def _cross_entropy(logits: np.ndarray, t: np.ndarray) -> tuple[float, np.ndarray]:
    loss, dlogits = cases.losses.cross_entropy(logits, t)
    return float(loss), np.asarray(dlogits)


IMAGES = (32, 64, 28, 28)
NETWORKS: Sequence[Network] = (
    Mlp("step of 64-256-256-10 batch 32", (64, 256, 256, 10), 32, 0.2),
    Mlp("step of 784-512-512-10 batch 64", (784, 512, 512, 10), 64, 0.5),
    Mlp("step of 784-512-512-10 batch 256", (784, 512, 512, 10), 256, 0.5),
    Blocks("step of 4 bn blocks 32x64x28x28", IMAGES, 4, last=False),
    Blocks("step of 4 bn blocks 32x64x28x28 channels last", IMAGES, 4, last=True),
)
