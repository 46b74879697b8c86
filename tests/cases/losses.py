"""The losses, one record each: value and gradient in one call. cross_entropy is the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onepass import ops

from cases._case import (
    Case,
    Derived,
    functional,
    gradients,
    has_torch,
    normal,
    quiet,
    tensor_of,
    torch,
    vector,
)
from cases._rounding import Constant, Rounded, derived, where
from cases.channels import per_channel


@dataclasses.dataclass(frozen=True)
class Loss:
    """One loss. No field has a default: an incomplete record cannot be made.

    name      of the function in onepass.ops: (input, target, weight=…, **options) -> (loss, dinput)
    formula   the same in float64, `derived` from operators, NumPy's functions and `where` on
              `Rounded`, as the paper writes it: the bound of each element follows (_rounding.py).
              A sum that the kernel adds up in double is `total`
    make      make(rng, shape, dtype, **options) -> (input, target, weight), None without a weight
    shapes    of the input, for the tests
    bench     of the input, for the benchmark
    sweep     options, the defaults first: every reduction, weights, what is ignored. A key that
              starts with "with_" chooses inputs
    torch     torch(input, target, weight, **options) -> loss; None if PyTorch has no such loss
    """

    name: str
    formula: Callable[..., Any]
    make: Callable[..., tuple]
    shapes: Sequence[tuple[int, ...]]
    bench: Sequence[tuple[int, ...]]
    sweep: Sequence[dict[str, Any]]
    torch: Callable[..., Any] | None

    def _weighted(self, function, x, target, weight, options):
        return function(x, target, **options if weight is None else options | {"weight": weight})

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
            torch.autograd.grad(loss if loss.ndim == 0 else loss.sum(), x)

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
            Derived(),
            lambda s: 2 * s,
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


LOSSES = [
    Loss(
        "cross_entropy",
        formula=cross_entropy,
        make=_make,
        shapes=ROW_SHAPES,
        bench=[(64, 10), (256, 1000), (4096, 1024)],
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
]


def rows():
    for record in LOSSES:
        yield record.row()
