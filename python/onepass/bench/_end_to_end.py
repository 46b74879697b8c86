"""One training step of whole networks, in onepass on NumPy and in others: forward, loss, backward,
clipping by the norm, AdamW, and gradients cleared.

All begin with the same parameters and batch. `checked` compares a step with float64: the loss and
the parameters after it, without dropout, whose bits every library draws in its own way.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from onepass.bench import _networks as networks
from onepass.bench._peers import LIBRARIES, tried
from onepass.bench._peers._library import Lacks, Lazily, Step, line_of
from onepass.bench._records import cases
from onepass.bench._row import Check, Context, Function, Row, Workload

jax: Any = Lazily("jax")
jnp: Any = Lazily("jax.numpy")
optax: Any = Lazily("optax")
torch: Any = Lazily("torch")

CLASSES = 10
MAX_NORM = 1.0
DECAY = 0.01
BETAS = (0.9, 0.999)
MOMENTUM, EPS = 0.1, 1e-5  # of the batch norms


@dataclasses.dataclass(frozen=True)
class Rate:
    """Of AdamW."""

    lr: float = 1e-3
    eps: float = 1e-8


# A first step of Adam moves each parameter by lr·g/(|g| + eps): with a small eps by the sign of g,
# which rounding decides where g is about zero.
SMOOTH = Rate(lr=0.1, eps=1e-2)


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

    def in_jax(self, key: Any, params: list[Any], stats: list[Any], x: Any, dropout: bool) -> Any:
        """(logits, new running statistics) on JAX's arrays."""

    def in_double(self, params: list[np.ndarray], x: np.ndarray, t: np.ndarray) -> Any:
        """(loss, gradients) by the records' formulas."""

    def normed(self) -> list[int]:
        """Channels of each batch norm."""

    def products(self) -> Function | None:
        """The matrix products of our step alone, by the function that `nn.Linear` calls."""

    def bytes(self) -> float: ...


def target(network: Network) -> np.ndarray:
    return np.random.default_rng(1).integers(0, CLASSES, len(network.x))


# ------------------------------------------------------------------------------------ the networks


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

    def in_jax(self, key: Any, params: list[Any], stats: list[Any], x: Any, dropout: bool) -> Any:
        found = []
        for i in range(len(self.sizes) - 2):
            w, b, gain, shift = params[4 * i : 4 * i + 4]
            x, new = _jax_norm(x @ w + b, gain, shift, stats[i])
            x = jax.nn.relu(x)
            found.append(new)
            if dropout:
                key, now = jax.random.split(key)
                keep = jax.random.bernoulli(now, 1 - self.p, x.shape)
                x = jnp.where(keep, x / (1 - self.p), 0)
        w, b = params[-2:]
        return x @ w + b, found

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

    def bytes(self) -> float:
        """Of the step over the parameters: an AdamW's, the norm's and the gradient's."""
        return 36.0 * sum(p.size for p in self.parameters())


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
        return networks.lying(drawn, self.last)

    @property
    def in_order(self) -> np.ndarray:
        return np.moveaxis(self.x, 1, 3) if self.last else self.x

    def parameters(self) -> list[np.ndarray]:
        rng, channels = np.random.default_rng(2), self.shape[1]
        norms = [v for _ in range(2 * self.blocks) for v in _affine(rng, channels)]
        return norms + _linear(rng, channels, CLASSES)

    def modules(self, n: Any, dropout: bool) -> Any:
        channels = self.shape[1]
        residual = networks.residual_of(n)
        parts = []
        for _ in range(self.blocks):
            body = (n.BatchNorm2d(channels), n.ReLU(), n.BatchNorm2d(channels))
            parts += [residual(*body), n.ReLU()]
        return n.Sequential(
            *parts, n.AdaptiveAvgPool2d(1), n.Flatten(), n.Linear(channels, CLASSES)
        )

    def in_jax(self, key: Any, params: list[Any], stats: list[Any], x: Any, dropout: bool) -> Any:
        axis = 3 if self.last else 1
        found = []
        for i in range(self.blocks):
            gain, shift, gain2, shift2 = params[4 * i : 4 * i + 4]
            h, first = _jax_norm(x, gain, shift, stats[2 * i], axis)
            h, second = _jax_norm(jax.nn.relu(h), gain2, shift2, stats[2 * i + 1], axis)
            x = jax.nn.relu(h + x)
            found += [first, second]
        w, b = params[-2:]
        return x.mean((1, 2) if self.last else (2, 3)) @ w + b, found

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

    def bytes(self) -> float:
        """Of the maps: each norm reads and writes them, and reads two and writes one backward; the
        second of a block reads one more, and writes one more backward."""
        return 4.0 * math.prod(self.shape) * self.blocks * (2 + 3 + 3 + 4)


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


def _jax_norm(x: Any, gain: Any, shift: Any, stats: Any, axis: int = 1) -> Any:
    others = tuple(i for i in range(x.ndim) if i != axis)
    wide = [-1 if i == axis else 1 for i in range(x.ndim)]
    mean, var, n = x.mean(others), x.var(others), x.size // x.shape[axis]
    scale = gain * jax.lax.rsqrt(var + EPS)
    y = (x - mean.reshape(wide)) * scale.reshape(wide) + shift.reshape(wide)
    old_mean, old_var = stats
    new_mean = (1 - MOMENTUM) * old_mean + MOMENTUM * mean
    return y, (new_mean, (1 - MOMENTUM) * old_var + MOMENTUM * var * (n / (n - 1)))


# ----------------------------------------------------------------------------------- the libraries


def ours(network: Network, rate: Rate, dropout: bool) -> Step:
    from onepass import nn, optim

    nn.manual_seed(0)
    model, loss = network.modules(nn, dropout), nn.CrossEntropyLoss()
    x, t = network.x, target(network)
    for p, start in zip(model.parameters(), network.parameters(), strict=True):
        p.data[...] = start
    optimizer = optim.AdamW(
        model.parameters(), lr=rate.lr, eps=rate.eps, betas=BETAS, weight_decay=DECAY
    )

    def run() -> Any:
        value, dy = loss(model(x), t)
        model.backward(dy, need_input_grad=False)
        optimizer.step(max_norm=MAX_NORM, zero_grad=True)
        return value

    return Step(run, lambda: [p.data.copy() for p in model.parameters()])


def _torch_model(network: Network, dropout: bool) -> tuple[Any, Any, Any]:
    """The model, and the batch, which lies in memory as ours does."""
    model = network.modules(torch.nn, dropout)
    with torch.no_grad():
        for p, start in zip(model.parameters(), network.parameters(), strict=True):
            p.copy_(torch.from_numpy(start))
    return model, torch.from_numpy(network.x), torch.from_numpy(target(network))


def _torch(compiled: bool) -> Callable[[Network, Rate, bool], Step]:
    def make(network: Network, rate: Rate, dropout: bool) -> Step:
        model, x, t = _torch_model(network, dropout)
        forward = _torch_forward(model, compiled)
        parameters = list(model.parameters())
        optimizer = torch.optim.AdamW(
            parameters, lr=rate.lr, eps=rate.eps, betas=BETAS, weight_decay=DECAY, fused=True
        )

        def run() -> Any:
            loss = forward(x, t)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
            optimizer.step()
            optimizer.zero_grad()
            return loss.detach()

        return Step(run, lambda: [p.detach().numpy().copy() for p in parameters])

    return make


def _front(compiled: bool) -> Callable[[Network, Rate, bool], Step]:
    """PyTorch's model with its norms fused, and `onepass.torch.optim`."""

    def make(network: Network, rate: Rate, dropout: bool) -> Step:
        from onepass.torch import fuse, optim

        adamw: Any = optim.AdamW
        model, x, t = _torch_model(network, dropout)
        fuse(model)
        forward = _torch_forward(model, compiled)
        parameters = list(model.parameters())
        optimizer = adamw(parameters, lr=rate.lr, eps=rate.eps, betas=BETAS, weight_decay=DECAY)

        def run() -> Any:
            loss = forward(x, t)
            loss.backward()
            optimizer.step(max_norm=MAX_NORM, zero_grad=True)
            return loss.detach()

        return Step(run, lambda: [p.detach().numpy().copy() for p in parameters])

    return make


def _torch_forward(model: Any, compiled: bool) -> Callable[[Any, Any], Any]:
    from onepass.bench._peers import _torch_compile

    def forward(x: Any, t: Any) -> Any:
        return torch.nn.functional.cross_entropy(model(x), t)

    return _torch_compile.compiled(forward) if compiled else forward


def _jax(network: Network, rate: Rate, dropout: bool) -> Step:
    """Weights lie as (in, out), as is JAX's custom; a step takes the memory of the one before."""

    def turned(p: Any) -> Any:
        return p.T if p.ndim == 2 else p

    x, t = jnp.array(network.in_order), jnp.array(target(network))
    optimizer = optax.chain(
        optax.clip_by_global_norm(MAX_NORM),
        optax.adamw(rate.lr, *BETAS, eps=rate.eps, weight_decay=DECAY),
    )

    def loss_of(params: Any, stats: Any, key: Any, x: Any, t: Any) -> Any:
        logits, stats = network.in_jax(key, params, stats, x, dropout)
        each = optax.softmax_cross_entropy_with_integer_labels(logits, t)
        return each.mean(), stats

    def updated(params: Any, stats: Any, state: Any, key: Any, x: Any, t: Any) -> Any:
        key, now = jax.random.split(key)
        slope = jax.value_and_grad(loss_of, has_aux=True)
        (loss, stats), grads = slope(params, stats, now, x, t)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), stats, state, key), loss

    params = [jnp.array(turned(p)) for p in network.parameters()]
    stats = [(jnp.zeros(n), jnp.ones(n)) for n in network.normed()]
    compiled = jax.jit(updated, donate_argnums=(0, 1, 2, 3))
    now = (params, stats, optimizer.init(params), jax.random.key(0))

    def run() -> Any:
        nonlocal now
        now, loss = jax.block_until_ready(compiled(*now, x, t))
        return loss

    return Step(run, lambda: [np.array(turned(p)) for p in now[0]])


def _sklearn(network: Network, rate: Rate, dropout: bool) -> Step:
    """Less work than the others: it has no batch norm, no dropout and no clipping."""
    if not isinstance(network, Mlp):
        raise Lacks("no network but one of Linear and ReLU")
    from sklearn.neural_network import MLPClassifier

    x, t = network.x, target(network)
    model = MLPClassifier(network.sizes[1:-1], batch_size=network.batch, alpha=0.0)
    model.partial_fit(x, t, classes=np.arange(CLASSES))

    def run() -> Any:
        model.partial_fit(x, t)
        return model.loss_

    return Step(run, lambda: [*model.coefs_, *model.intercepts_])


# label -> (the library that is asked for and what it needs, make). sklearn's network is another.
LABELS: dict[str, tuple[tuple[str, ...], Callable[[Network, Rate, bool], Step]]] = {
    "onepass torch": (("torch",), _front(False)),
    "onepass torch compile": (("torch-compile",), _front(True)),
    "torch eager": (("torch",), _torch(False)),
    "torch compile": (("torch-compile",), _torch(True)),
    "jax jit": (("jax", "optax"), _jax),
    "sklearn plain MLP": (("sklearn",), _sklearn),
}


# ---------------------------------------------------------------------------------------- the rows


def checked(network: Network, make: Callable[[Network, Rate, bool], Step] = ours) -> Check:
    """A step of a library without dropout, beside float64.

    A sum of float32 numbers that is right to 2e-6 of the largest gradient moves a parameter by no
    more than that times lr / eps.
    """
    step = make(network, SMOOTH, False)
    loss, got = float(step.run()), step.read()
    start = [p.astype(np.float64) for p in network.parameters()]
    want_loss, grads = network.in_double(start, network.x.astype(np.float64), target(network))
    run = cases.optimizers.BY_NAME["adamw"].trajectory(
        network.parameters(), **dataclasses.asdict(SMOOTH), betas=BETAS, weight_decay=DECAY
    )
    run.step(grads, max_norm=MAX_NORM)
    norm = math.sqrt(sum(float((g**2).sum()) for g in grads))
    largest = max(float(np.abs(g).max()) for g in grads) * min(1.0, MAX_NORM / norm)
    bound = SMOOTH.lr * (2e-6 * largest / SMOOTH.eps + 2.0**-20)
    pairs = zip(got, run.params, strict=True)
    off = [float(np.abs(g - np.asarray(w)).max()) / bound for g, w in pairs]
    error = float(np.max([*off, abs(loss - want_loss) / (1e-5 * want_loss)]))  # max() passes NaN by
    return Check(math.inf if math.isnan(error) else error)


def found(network: Network, context: Context) -> tuple[dict[str, Function], dict[str, str]]:
    """The steps of all libraries that are asked for, and why some are not there."""
    functions: dict[str, Function] = {"onepass": ours(network, Rate(), True).run}
    missing: dict[str, str] = {}
    for label, (libraries, make) in LABELS.items():
        if not context.wants(libraries[0]):
            continue
        needed = [LIBRARIES[name] for name in libraries]
        why = next((f"{o.name}: {w}" for o in needed if (w := o.absent())), None)
        if why is None:
            try:
                for library in needed:
                    library.pin(context.threads)
                good, why_not = tried({label: make(network, Rate(), True).run})
                functions |= good
                missing |= why_not
            except Lacks as lack:
                why = str(lack)
            except Exception as error:
                why = line_of(error)
        if why is not None:
            missing[label] = why
    return functions, missing


def _made(network: Network) -> Callable[[Context], Workload]:
    def make(context: Context) -> Workload:
        functions, missing = found(network, context)
        return Workload(
            functions,
            sum(p.size for p in network.parameters()),
            network.bytes(),
            check=lambda: checked(network),
            products=network.products(),
            missing=missing,
        )

    return make


IMAGES = (32, 64, 28, 28)
NETWORKS: Sequence[Network] = (
    Mlp("step of 64-256-256-10 batch 32", (64, 256, 256, 10), 32, 0.2),
    Mlp("step of 784-512-512-10 batch 64", (784, 512, 512, 10), 64, 0.5),
    Mlp("step of 784-512-512-10 batch 256", (784, 512, 512, 10), 256, 0.5),
    Blocks("step of 4 bn blocks 32x64x28x28", IMAGES, 4, last=False),
    Blocks("step of 4 bn blocks 32x64x28x28 channels last", IMAGES, 4, last=True),
)


def rows() -> Iterator[Row]:
    """One training step of each network."""
    for i, network in enumerate(NETWORKS):
        yield Row(network.name, "end-to-end", _made(network), quick=i == 0)
