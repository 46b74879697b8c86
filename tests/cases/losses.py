"""The losses, one record each: value and gradient in one call. cross_entropy is the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onepass import ops

from ._case import (
    BENCH,
    SHAPES,
    Case,
    Derived,
    Tolerance,
    computing,
    functional,
    gradients,
    has_torch,
    normal,
    quiet,
    roundings,
    tensor_of,
    torch,
    vector,
)
from ._rounding import Constant, Rounded, derived, where
from .channels import per_channel


@dataclasses.dataclass(frozen=True)
class Loss:
    """One loss. No field has a default: an incomplete record cannot be made.

    name      of the function in onepass.ops: (input, target, **options) -> (loss, dinput)
    weight    the keyword of its weight, None without
    formula   the same in float64, `derived` from operators, NumPy's functions and `where` on
              `Rounded`, as the paper writes it: the bound of each element follows (_rounding.py).
              A sum that the kernel adds up in double is `total`
    make      make(rng, shape, dtype, **options) -> (input, target, weight), None without a weight
    shapes    of the input, for the tests
    bench     of the input, for the benchmark
    sweep     options, the defaults first: every reduction, weights, what is ignored. A key that
              starts with "with_" chooses inputs
    bound     of the results: `Derived()` where the formula yields it
    torch     torch(input, target, weight, **options) -> loss; None if PyTorch has no such loss
    """

    name: str
    weight: str | None
    formula: Callable[..., Any]
    make: Callable[..., tuple]
    shapes: Sequence[tuple[int, ...]]
    bench: Sequence[tuple[int, ...]]
    bound: Any
    sweep: Sequence[dict[str, Any]]
    torch: Callable[..., Any] | None

    def _weighted(self, function, x, target, weight, options):
        return function(x, target, **options if weight is None else options | {self.weight: weight})

    def _torch(self, x, target, weight, **options):
        weight = None if weight is None else weight.detach()
        loss = self.torch(x, target.detach(), weight, **options)
        return loss, *gradients(loss.sum(), None, [x])

    def _rivals(self, inputs, keywords):
        if not has_torch() or self.torch is None:
            return {}
        x, target, weight = map(tensor_of, inputs)
        x.requires_grad_()

        def both():
            loss = self.torch(x, target, weight, **keywords)
            return loss, torch.autograd.grad(loss if loss.ndim == 0 else loss.sum(), x)[0]

        return {"torch": both}

    def row(self) -> Case:
        op = getattr(ops, self.name)
        return Case(
            self.name,
            "loss",
            lambda x, target, weight, **o: self._weighted(op, x, target, weight, o),
            self.make,
            lambda x, target, weight, **o: self._weighted(self.formula, x, target, weight, o),
            self._torch if self.torch is not None else None,
            self.bound,
            # The input is read and its gradient written; a target that is not labels is read too.
            # Of nll_loss's input only the elements at the labels are.
            lambda s: {"cross_entropy": 2, "nll_loss": 1}.get(self.name, 3) * s,
            self.shapes,
            self.bench,
            self._rivals,
            self.sweep,
            no_rival="" if self.torch is not None else "PyTorch has no such loss",
        )


# ---------------------------------------------------------------------------------- cross entropy


@derived
@quiet
def cross_entropy(
    logits, target, *, label_smoothing=0.0, ignore_index=-100, weight=None, reduction="mean"
):
    """(loss, dlogits) as PyTorch defines them, axis 1 of logits being the classes.

    loss = Σ_c a_c·(-log p_c) with a_c = w_c·((1-ε)·t_c + ε/C). With class indices t is one-hot, an
    ignored target has a = 0, and "mean" divides by Σ w[target]; with probabilities by the count.
    """
    classes = logits.shape[1]
    smoothing = Constant(label_smoothing)
    w = np.ones(classes) if weight is None else weight
    w = Rounded(per_channel(w, logits.ndim, 1))
    top = logits.max(axis=1, keepdims=True) if logits.size else logits[:, :1]
    shifted = Rounded(logits) - top
    e = np.exp(shifted)
    sum_e = e.sum(axis=1, keepdims=True)
    if np.issubdtype(target.dtype, np.integer):
        used = np.expand_dims(target != ignore_index, 1)
        index = np.where(used, np.expand_dims(target, 1), 0)
        one_hot = np.arange(classes).reshape(w.value.shape)
        t = (one_hot == index) * 1.0
        a = where(used, w * ((1 - smoothing) * Rounded(t) + smoothing / float(classes)), 0.0)
        count = where(used, w * Rounded(t), 0.0).total()
    else:
        a = w * ((1 - smoothing) * Rounded(target) + smoothing / float(classes))
        count = Constant(logits.size / classes)
    losses = where(a.value == 0, 0.0, a * (np.log(sum_e) - shifted)).sum(axis=1)
    dlogits = e * (a.sum(axis=1, keepdims=True) / sum_e) - a
    dlogits = where(a.value.any(axis=1, keepdims=True), dlogits, 0.0)
    if reduction == "none":
        return losses, dlogits
    if reduction == "sum":
        return losses.total(), dlogits
    return losses.total() / count, where(dlogits.value == 0, 0.0, dlogits / count)


ROW_SHAPES = [(1, 1), (3, 2), (17, 10), (5, 33), (64, 10), (7, 1023), (3, 65), (1025, 16)]
ROW_SHAPES += [(2, 65539), (2, 4, 5), (33, 17, 3), (2, 3, 4, 5), (2, 31, 7, 7)]


def _make(rng, shape, dtype, with_probabilities=False, with_weight=False, with_ignored=None, **_):
    n, c, *rest = shape
    logits = normal(rng, shape, dtype, 3)
    weight = vector(rng, c, dtype) if with_weight else None
    if with_probabilities:
        target = rng.dirichlet(np.ones(c), (n, *rest)).astype(dtype)
        return logits, np.moveaxis(target, -1, 1).copy(), weight
    target = rng.integers(0, c, (n, *rest))
    if with_ignored is not None:
        target = np.where(rng.random((n, *rest)) < 0.4, with_ignored, target)
    return logits, target, weight


@derived
@quiet
def negative_log_likelihood(x, target, *, ignore_index=-100, weight=None, reduction="mean"):
    """(loss, gradient) of log-probabilities, axis 1 of x being the classes."""
    classes = x.shape[1]
    w = Rounded(per_channel(np.ones(classes) if weight is None else weight, x.ndim, 1))
    used = np.expand_dims(target != ignore_index, 1)
    index = np.where(used, np.expand_dims(target, 1), 0)
    hot = used & (np.arange(classes).reshape(w.value.shape) == index)
    weights = where(hot, w * Rounded(np.ones(x.shape)), 0.0)
    losses = where(hot, -1.0 * (w * Rounded(x)), 0.0).sum(axis=1)
    gradient = -1.0 * weights
    if reduction == "none":
        return losses, gradient
    if reduction == "sum":
        return losses.total(), gradient
    count = weights.total()
    return losses.total() / count, where(hot, gradient * (1.0 / count), 0.0)


@quiet
def earth_mover(x, target, *, reduction="mean"):
    """(loss, gradient) of histograms along the last axis; the sums are in longer precision."""
    difference = np.cumsum(x.astype(np.longdouble) - target, axis=-1)
    losses, sign = np.abs(difference).sum(axis=-1), np.sign(difference)
    gradient = np.cumsum(sign[..., ::-1], axis=-1)[..., ::-1]
    if reduction == "none":
        return losses.astype(np.float64), gradient.astype(np.float64)
    loss, count = losses.sum(), losses.size if reduction == "mean" else 1
    return (loss / count).astype(np.float64), (gradient / count).astype(np.float64)


# ----------------------------------------------------------------------------- losses of elements


def of_elements(element):
    """The reference of a loss of elements, from element(x, t, **options) -> (loss, gradient)."""

    @derived
    @quiet
    def reference(x, target, *, reduction="mean", **options):
        losses, gradient = element(Rounded(x), Rounded(target), **options)
        if reduction == "none":
            return losses, gradient
        if reduction == "sum":
            return losses.total(), gradient
        count = Constant(len(x) if reduction == "batchmean" else x.size)
        return losses.total() / count, gradient * (Constant(1.0) / count)

    return reference


def squared(x, t):
    d = x - t
    return d * d, 2.0 * d


def absolute(x, t):
    d = x - t
    return np.abs(d), np.sign(d)


def smooth(x, t, *, beta=1.0):
    d, beta = x - t, Constant(beta)
    near = np.abs(d.value) < beta.value
    half = np.abs(d) - 0.5 * beta
    return where(near, 0.5 * d * (d / beta), half), where(near, d / beta, np.sign(d))


def huber(x, t, *, delta=1.0):
    d, delta = x - t, Constant(delta)
    near = np.abs(d.value) <= delta.value
    far = delta * (np.abs(d) - 0.5 * delta)
    return where(near, 0.5 * d * d, far), where(near, d, delta * np.sign(d))


def binary(x, t):
    """With PyTorch's limits: logarithms of at least -100, a divisor of at least 1e-12."""
    loss = -1.0 * (t * np.maximum(np.log(x), -100.0))
    loss = loss - (1.0 - t) * np.maximum(np.log1p(-1.0 * x), -100.0)
    return loss, (x - t) / np.maximum((1.0 - x) * x, 1e-12)


def binary_of_logits(x, t, *, pos_weight=None):
    w = Rounded(np.broadcast_to(1.0 if pos_weight is None else pos_weight, x.value.shape))
    e = np.exp(-1.0 * np.abs(x))  # at most 1
    both = np.log1p(e)
    up, down = np.maximum(x, 0.0) + both, np.maximum(-1.0 * x, 0.0) + both
    large, small = 1.0 / (1.0 + e), e / (1.0 + e)
    rises = x.value >= 0
    sigmoid, opposite = where(rises, large, small), where(rises, small, large)
    return w * t * down + (1.0 - t) * up, (1.0 - t) * sigmoid - w * t * opposite


def divergence(x, t, *, log_target=False):
    if log_target:
        p = np.exp(t)
        return p * (t - x), -1.0 * p
    return where(t.value == 0, 0.0, t * (np.log(t) - x)), -1.0 * t


def _pair(rng, shape, dtype, **_):
    """Of ten elements one is right."""
    x = normal(rng, shape, dtype, 2)
    return x, np.where(rng.random(shape) < 0.1, x, normal(rng, shape, dtype, 2)).astype(dtype), None


def _probabilities(rng, shape, dtype, **_):
    x = np.asarray(rng.uniform(0.01, 0.99, shape)).astype(dtype)
    return x, _shares(rng, shape, dtype), None


def _shares(rng, shape, dtype):
    """Numbers from 0 to 1, most of them either."""
    t = np.asarray(rng.random(shape))
    return np.where(t < 0.7, t < 0.3, t).astype(dtype)


def _logits(rng, shape, dtype, with_weight=None, **_):
    x = normal(rng, shape, dtype, 4)
    weight = None
    if with_weight is not None and x.ndim:
        extents = {"classes": shape[-1:], "maps": (*shape[:1], *(1,) * (len(shape) - 1))}
        weight = np.asarray(rng.uniform(0.5, 3, extents[with_weight])).astype(computing(dtype))
    return x, _shares(rng, shape, dtype), weight


def _logarithms(rng, shape, dtype, log_target=False, **_):
    x, t = np.log(rng.uniform(0.01, 1, shape)), _shares(rng, shape, np.float64)
    return np.asarray(x).astype(dtype), (np.log(t + 0.01) if log_target else t).astype(dtype), None


REDUCTIONS = [{}, {"reduction": "sum"}, {"reduction": "none"}]


def elements(name, element, make, torch, sweep=(), shapes=SHAPES, weight=None, bench=BENCH):
    """The record of a loss of elements. `sweep`: options beside the reductions."""
    return Loss(
        name,
        weight=weight,
        formula=of_elements(element),
        make=make,
        shapes=[shape for shape in shapes if 0 not in shape],  # tests/test_pointwise_losses.py
        bench=bench,
        bound=Derived(),
        sweep=[*REDUCTIONS, *sweep],
        torch=torch,
    )


def _without_weight(name):
    return lambda x, target, _, **options: getattr(functional, name)(x, target, **options)


def _torch_kl_div(x, target, _, reduction="mean", **options):
    if reduction != "mean":
        return functional.kl_div(x, target, reduction=reduction, **options)
    return functional.kl_div(x, target, reduction="sum", **options) / x.numel()  # or it warns


def _histograms(rng, shape, dtype, **_):
    """Whole numbers of 1/64: sums are exact in every dtype, hence the signs of differences."""
    x, t = (np.asarray(rng.integers(0, 32, shape)) / 64 for _ in range(2))
    return x.astype(dtype), t.astype(dtype), None


LOSSES = [
    elements("mse_loss", squared, _pair, _without_weight("mse_loss")),
    elements("l1_loss", absolute, _pair, _without_weight("l1_loss")),
    elements(
        "smooth_l1_loss",
        smooth,
        _pair,
        _without_weight("smooth_l1_loss"),
        [{"beta": 0.3}, {"beta": 2.5, "reduction": "none"}, {"beta": 0.0, "reduction": "sum"}],
    ),
    elements(
        "huber_loss",
        huber,
        _pair,
        _without_weight("huber_loss"),
        [{"delta": 0.3}, {"delta": 2.5, "reduction": "none"}],
    ),
    elements("bce_loss", binary, _probabilities, _without_weight("binary_cross_entropy")),
    elements(
        "bce_with_logits",
        binary_of_logits,
        _logits,
        lambda x, target, weight, **options: functional.binary_cross_entropy_with_logits(
            x, target, pos_weight=weight, **options
        ),
        [
            {"with_weight": "classes"},
            {"with_weight": "classes", "reduction": "none"},
            {"with_weight": "maps", "reduction": "sum"},
        ],
        weight="pos_weight",
        bench=[(64, 1024), (1024, 1024), (16384, 1024)],
    ),
    elements(
        "kl_div",
        divergence,
        _logarithms,
        _torch_kl_div,
        [
            {"reduction": "batchmean"},
            {"log_target": True, "reduction": "batchmean"},
            {"log_target": True, "reduction": "none"},
        ],
        shapes=[shape for shape in SHAPES if shape],
    ),
    Loss(
        "cross_entropy",
        weight="weight",
        formula=cross_entropy,
        make=_make,
        shapes=ROW_SHAPES,
        bench=[(64, 10), (256, 1000), (4096, 1024)],
        bound=Derived(),
        sweep=[
            {},
            {"reduction": "sum"},
            {"reduction": "none"},
            {"label_smoothing": 0.1, "with_weight": True},
            {"with_ignored": -100, "with_weight": True, "label_smoothing": 0.2},
            {"with_ignored": 0, "ignore_index": 0, "reduction": "none", "label_smoothing": 0.3},
            {"with_probabilities": True},
            {"with_probabilities": True, "label_smoothing": 0.1, "with_weight": True},
            {"with_probabilities": True, "reduction": "none", "with_weight": True},
        ],
        torch=lambda logits, target, weight, **options: functional.cross_entropy(
            logits, target, weight, **options
        ),
    ),
    Loss(
        "nll_loss",
        weight="weight",
        formula=negative_log_likelihood,
        make=_make,
        shapes=ROW_SHAPES,
        bench=[(64, 10), (256, 1000), (4096, 1024)],
        bound=Derived(),
        sweep=[
            {},
            {"reduction": "sum"},
            {"reduction": "none"},
            {"with_weight": True},
            {"with_ignored": -100, "with_weight": True},
            {"with_ignored": 0, "ignore_index": 0, "reduction": "none"},
        ],
        torch=lambda x, target, weight, **options: functional.nll_loss(
            x, target, weight, **options
        ),
    ),
    Loss(
        "wasserstein_1d",
        weight=None,
        formula=earth_mover,
        make=_histograms,
        shapes=[(7,), (1, 1), (3, 2), (17, 10), (64, 48), (5, 49), (300, 33), (3, 2500), (2, 3, 5)],
        bench=[(4096, 32), (1024, 256)],
        bound=Tolerance(
            roundings(2),
            why="a float's differences are added in double, so their sum is rounded once, and a "
            "count of signs is exact: the gradient is rounded where 1/rows and the product are",
            sums=4096,
        ),
        sweep=[{}, {"reduction": "sum"}, {"reduction": "none"}],
        torch=None,
    ),
]


def rows():
    for record in LOSSES:
        yield record.row()
