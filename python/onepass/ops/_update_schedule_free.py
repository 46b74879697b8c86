"""The schedule-free optimizers."""

from __future__ import annotations

from typing import Any

from onepass.ops._declare_update import Arrays, Betas, Grads, Steps, run, update
from onepass.ops._ranges import Range
from onepass.ops._step_info import StepInfo

__all__ = ["schedulefreeadamw_", "schedulefreesgd_"]

_DOCS = {
    "zs": "z, like ``params`` (float32 for 16-bit parameters); not read by the first step.",
    "weight_sums": "Σw, a list with a number or a 0-d array for each parameter, 0 before the\n"
    "        first step; the step updates it. On a CUDA device a step with ``nonfinite``\n"
    "        waits for that.",
    "lr_maxs": "lr_max, likewise.",
    "warmup_steps": "over which lr grows linearly.",
    "r": "the power of t in the weights of the average.",
    "weight_lr_power": "the power of lr_max in them.",
}


@update(
    "schedulefreeadamw",
    docs=_DOCS,
    ranges={"betas": (Range(above=0, high=1), Range(0, 1))},
)
def schedulefreeadamw_(
    params: Arrays,
    grads: Grads,
    zs: Arrays,
    exp_avg_sqs: Arrays,
    weight_sums: list[Any],
    lr_maxs: list[Any],
    *,
    step: Steps = 1,
    lr: float = 2.5e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    warmup_steps: int = 0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
    **options: Any,
) -> StepInfo:
    """Schedule-free AdamW: the step of :func:`schedulefreesgd_` with u = g/(√v̂ + eps) + wd·y.

    v = β₂v + (1 - β₂)g², v̂ = v/(1 - β₂ᵗ), wd the weight_decay. y += c(z - y) + lr(β₁(1 - c) - 1)·u
    and z -= lr·u; y is what ``params`` hold, and z starts as y. w = tʳ·lr_max^weight_lr_power and
    c = w/Σw, with lr times min(1, t/warmup_steps) and lr_max the largest lr so far. The average of
    z, which one evaluates with, is x = y + (1 - 1/β₁)(z - y).

    Nothing differs from the paper; the authors' package keeps Σw and lr_max for each group
    instead of each parameter. An infinite parameter, such as the -Inf of a mask, becomes NaN in
    both. PyTorch has no schedule-free optimizer.

    Args:
        betas: β₁, the part of x in y, and β₂.
        eps: added to √v̂.
        weight_decay: of y, where the gradient is taken; decoupled, scaled by lr.

    Source: Defazio et al., The Road Less Scheduled, 2024, and the authors' package schedulefree.

    Example:
        >>> y, z, v, sums, largest = np.ones(1), np.zeros(1), np.zeros(1), [0.0], [0.0]
        >>> info = onepass.ops.schedulefreeadamw_(
        ...     [y], [np.full(1, 0.5)], [z], [v], sums, largest, lr=0.5
        ... )
        >>> y.round(4), z.round(4)
        (array([0.5]), array([0.5]))
    """
    return run("schedulefreeadamw", locals())


@update(
    "schedulefreesgd",
    docs=_DOCS,
    ranges={"momentum": Range(above=0, high=1)},
)
def schedulefreesgd_(
    params: Arrays,
    grads: Grads,
    zs: Arrays,
    weight_sums: list[Any],
    lr_maxs: list[Any],
    *,
    step: Steps = 1,
    lr: float = 1.0,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    warmup_steps: int = 0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
    **options: Any,
) -> StepInfo:
    """Schedule-free SGD: y += c(z - y) + lr(β(1 - c) - 1)·u and z -= lr·u, u = g + weight_decay·y.

    y is what ``params`` hold; z starts as y. w = tʳ·lr_max^weight_lr_power and c = w/Σw, with lr
    times min(1, t/warmup_steps) and lr_max the largest lr so far. The average of z, which one
    evaluates with, is x = y + (1 - 1/β)(z - y).

    Nothing differs from the paper; the authors' package keeps Σw and lr_max for each group
    instead of each parameter. An infinite parameter, such as the -Inf of a mask, becomes NaN in
    both. PyTorch has no schedule-free optimizer.

    Args:
        momentum: β, the part of x in y.
        weight_decay: of y, where the gradient is taken.

    Source: Defazio et al., The Road Less Scheduled, 2024, and the authors' package schedulefree.

    Example:
        >>> y, z, sums, largest = np.ones(1), np.zeros(1), [0.0], [0.0]
        >>> for t in (1, 2):
        ...     info = onepass.ops.schedulefreesgd_(
        ...         [y], [np.full(1, 0.5)], [z], sums, largest, step=t, lr=0.5
        ...     )
        >>> y.round(4), z
        (array([0.6125]), array([0.5]))
    """
    return run("schedulefreesgd", locals())
