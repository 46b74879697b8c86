"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onepass._array import Array
from onepass.ops._rule import Rule, State
from onepass.ops._step import StepInfo, run, shared_docs

_MAXIMUM = State("max_exp_avg_sq", when="amsgrad")
ADAM_RULE = Rule("adam", _MAXIMUM, instead=("decoupled_weight_decay", "adamw"))
ADAMW_RULE = Rule("adamw", _MAXIMUM)


@shared_docs
def adam_(
    params: Sequence[Array],
    grads: Sequence[Array | None],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
    max_exp_avg_sqs: Sequence[Array] | None = None,
    *,
    step: int | Sequence[int] = 1,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    **options: Any,
) -> StepInfo:
    """Adam: m and v are running averages of g and g²; p -= lr·m̂/(√v̂ + eps).

    m += (1 - β₁)(g - m), v = β₂v + (1 - β₂)g², m̂ = m/(1 - β₁ᵗ), v̂ = v/(1 - β₂ᵗ), with
    g += weight_decay·p before. With ``max_exp_avg_sqs`` (AMSGrad) v̂ is the running maximum of v,
    corrected. All arrays in place, in one launch.

    Args:
        max_exp_avg_sqs: the running maximum of v, likewise; None for plain Adam.
        eps: added to √v̂.

    Source: Kingma & Ba, Adam: A Method for Stochastic Optimization, 2014; Reddi et al., 2018.

    Example:
        >>> p, m, v = (np.zeros(1, np.float32) for _ in range(3))
        >>> info = onepass.ops.adam_([p], [np.float32([2.0])], [m], [v], step=1, lr=0.5)
        >>> p
        array([-0.5], dtype=float32)
    """
    return run(ADAM_RULE, locals())


@shared_docs
def adamw_(
    params: Sequence[Array],
    grads: Sequence[Array | None],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
    max_exp_avg_sqs: Sequence[Array] | None = None,
    *,
    step: int | Sequence[int] = 1,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    **options: Any,
) -> StepInfo:
    """AdamW: p *= 1 - lr·weight_decay, then the step of :func:`adam_` on the plain gradient.

    Args:
        max_exp_avg_sqs: the running maximum of v, likewise; None for plain AdamW.
        eps: added to √v̂.
        weight_decay: decoupled, scaled by lr.

    Source: Loshchilov & Hutter, Decoupled Weight Decay Regularization, 2017.

    Example:
        >>> p, m, v = np.ones(1, np.float32), np.zeros(1, np.float32), np.zeros(1, np.float32)
        >>> info = onepass.ops.adamw_([p], [np.float32([0.0])], [m], [v], lr=0.5, weight_decay=0.5)
        >>> p
        array([0.75], dtype=float32)
    """
    return run(ADAMW_RULE, locals())
