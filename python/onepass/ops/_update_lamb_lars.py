"""Steps scaled by norms of each tensor, for large batches: LAMB and LARS."""

from __future__ import annotations

from typing import Any

from onepass.ops._declare_update import Arrays, Betas, Grads, Steps, run, update
from onepass.ops._rule import Needs, State
from onepass.ops._step_info import StepInfo

__all__ = ["lamb_", "lars_"]


@update("lamb")
def lamb_(
    params: Arrays,
    grads: Grads,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    *,
    step: Steps = 1,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-6,
    weight_decay: float = 0.01,
    **options: Any,
) -> StepInfo:
    """LAMB: u = m̂/(√v̂ + eps) + weight_decay·p; p -= lr·‖p‖/‖u‖·u, of each parameter by itself.

    m += (1 - β₁)(g - m), v = β₂v + (1 - β₂)g², m̂ = m/(1 - β₁ᵗ), v̂ = v/(1 - β₂ᵗ). The ratio is 1
    where ‖p‖ or ‖u‖ is 0. A first pass moves m and v and measures the norms, in the same call.

    Against the paper, its function φ of ‖p‖ is the identity. PyTorch has no LAMB. An infinite
    element has no norm to go by: its parameter becomes NaN.

    Args:
        eps: added to √v̂.
        weight_decay: part of u, which the ratio scales.

    Source: You et al., Large Batch Optimization for Deep Learning: Training BERT in 76 minutes,
    2019, with φ(‖p‖) = ‖p‖.

    Example:
        >>> p, m, v = np.float32([3.0, 4.0]), *(np.zeros(2, np.float32) for _ in range(2))
        >>> info = onepass.ops.lamb_(
        ...     [p], [np.float32([0.0, 2.0])], [m], [v], step=1, lr=0.5, weight_decay=0.0
        ... )
        >>> p.round(4)
        array([3. , 1.5], dtype=float32)
    """
    return run("lamb", locals())


@update(
    "lars",
    State("momentum_buffer", when="momentum"),
    needs=[
        Needs(
            "nesterov",
            ("momentum",),
            lambda nesterov, momentum: not nesterov or momentum > 0,
            "momentum > 0",
        )
    ],
)
def lars_(
    params: Arrays,
    grads: Grads,
    momentum_buffers: Arrays | None = None,
    *,
    step: Steps = 1,
    lr: float = 1e-1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    trust_coefficient: float = 1e-3,
    eps: float = 1e-8,
    nesterov: bool = False,
    **options: Any,
) -> StepInfo:
    """LARS: d = r·(g + weight_decay·p), b = momentum·b + d; p -= lr·(d + momentum·b or b).

    r = trust_coefficient·‖p‖/(‖g‖ + weight_decay·‖p‖ + eps), of each parameter by itself; 1 where
    ‖p‖ or ‖g‖ is 0. Without momentum p -= lr·d. A pass over p and g measures the norms, in the same
    call; ``max_norm`` and the others change g before.

    Against the paper, lr stands outside the buffer and eps is added to the divisor. PyTorch has no
    LARS. An infinite element has no norm to go by: its parameter becomes NaN.

    Args:
        momentum_buffers: b, like ``params`` (float32 for 16-bit parameters); needed with momentum.
        trust_coefficient: how far a step may move a parameter, relative to its norm.
        eps: added to the norms that divide.
        nesterov: look ahead by the momentum; needs momentum > 0.

    Source: You et al., Large Batch Training of Convolutional Networks, 2017.

    Example:
        >>> p, b = np.float32([3.0, 4.0]), np.zeros(2, np.float32)
        >>> options = {"lr": 1.0, "trust_coefficient": 0.5, "eps": 0.0}
        >>> info = onepass.ops.lars_([p], [np.float32([0.0, 2.0])], [b], **options)
        >>> p
        array([3. , 1.5], dtype=float32)
    """
    return run("lars", locals())
