"""The losses: value and gradient in one call."""

from __future__ import annotations

import numpy as np
from onepass import ops

from cases._case import (
    Case,
    Tolerance,
    functional,
    gradients,
    has_torch,
    normal,
    quiet,
    tensor_of,
    torch,
    vector,
)
from cases.channels import per_channel


@quiet
def cross_entropy(
    logits, target, *, label_smoothing=0.0, ignore_index=-100, weight=None, reduction="mean"
):
    """(loss, dlogits) as PyTorch defines them, axis 1 of logits being the classes.

    loss = Σ_c a_c·(-log p_c) with a_c = w_c·((1-ε)·t_c + ε/C). With class indices t is one-hot, an
    ignored target has a = 0, and "mean" divides by Σ w[target]; with probabilities by the count.
    """
    classes = logits.shape[1]
    w = np.ones(classes) if weight is None else weight
    w = per_channel(w, logits.ndim, 1)
    top = logits.max(axis=1, keepdims=True) if logits.size else logits[:, :1]
    shifted = logits - top
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    if np.issubdtype(target.dtype, np.integer):
        used = np.expand_dims(target != ignore_index, 1)
        index = np.where(used, np.expand_dims(target, 1), 0)
        one_hot = np.arange(classes).reshape(per_channel(range(classes), logits.ndim, 1).shape)
        t = (one_hot == index) * 1.0
        a = np.where(used, w * ((1 - label_smoothing) * t + label_smoothing / classes), 0.0)
        count = (np.where(used, w * t, 0.0)).sum()
    else:
        a = w * ((1 - label_smoothing) * target + label_smoothing / classes)
        count = logits.size / classes
    losses = np.where(a == 0, 0.0, -a * log_p).sum(axis=1)
    dlogits = np.exp(log_p) * a.sum(axis=1, keepdims=True) - a
    dlogits = np.where(a.any(axis=1, keepdims=True), dlogits, 0.0)
    if reduction == "none":
        return losses, dlogits
    if reduction == "sum":
        return losses.sum(), dlogits
    return losses.sum() / count, np.where(dlogits == 0, 0.0, dlogits / count)


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


def _torch(logits, target, weight, **options):
    weight = None if weight is None else weight.detach()
    loss = functional.cross_entropy(logits, target.detach(), weight, **options)
    return loss, *gradients(loss.sum(), None, [logits])


def _rivals(inputs, keywords):
    if not has_torch():
        return {}
    logits, target, weight = map(tensor_of, inputs)
    logits.requires_grad_()

    def both():
        loss = functional.cross_entropy(logits, target, weight, **keywords)
        torch.autograd.grad(loss if loss.ndim == 0 else loss.sum(), logits)

    return {"torch": both}


def rows():
    yield Case(
        "cross_entropy",
        "loss",
        lambda logits, target, weight, **o: ops.cross_entropy(logits, target, weight=weight, **o),
        _make,
        lambda logits, target, weight, **o: cross_entropy(logits, target, weight=weight, **o),
        _torch,
        Tolerance(8, 8, why="exp of a difference with the largest logit, whose rounding exp turns"
                  " into a relative error; p - t cancels", sums=4),
        lambda s: 2 * s,
        ROW_SHAPES,
        [(64, 10), (256, 1000), (4096, 1024)],
        _rivals,
        [
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
    )  # fmt: skip
