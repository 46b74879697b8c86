"""Yogi."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onepass._array import Array
from onepass.ops._rule import Rule
from onepass.ops._step import StepInfo, run, shared_docs

YOGI_RULE = Rule("yogi")


@shared_docs
def yogi_(
    params: Sequence[Array],
    grads: Sequence[Array | None],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
    *,
    step: int | Sequence[int] = 1,
    lr: float = 1e-2,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-3,
    weight_decay: float = 0.0,
    **options: Any,
) -> StepInfo:
    """Yogi: Adam, but v moves towards g² by (1 - β₂)·g²; p -= lr·m̂/(√v̂ + eps).

    m += (1 - β₁)(g - m), v -= (1 - β₂)·sign(v - g²)·g², m̂ = m/(1 - β₁ᵗ), v̂ = v/(1 - β₂ᵗ), with
    g += weight_decay·p before. All arrays in place, in one launch.

    Args:
        eps: added to √v̂.

    Source: Zaheer, Reddi, Sachan, Kale & Kumar, Adaptive Methods for Nonconvex Optimization, 2018.

    Example:
        >>> p, m, v = (np.zeros(1, np.float32) for _ in range(3))
        >>> info = onepass.ops.yogi_([p], [np.float32([2.0])], [m], [v], lr=0.5, eps=0.0)
        >>> p
        array([-0.5], dtype=float32)
    """
    return run(YOGI_RULE, locals())
