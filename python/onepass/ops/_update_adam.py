"""Adam and what its two averages have led to: AdamW, Adamax, NAdam, RAdam, ADOPT, AdEMAMix."""

from __future__ import annotations

from typing import Any

from onepass.ops._declare_update import Arrays, Betas, Grads, Steps, run, update
from onepass.ops._ranges import Range
from onepass.ops._rule import State
from onepass.ops._step_info import StepInfo

__all__ = ["adam_", "adamax_", "adamw_", "ademamix_", "adopt_", "nadam_", "radam_"]
_CORRECTS = ("bias_correction",)
_MAXIMUM = State("max_exp_avg_sq", when="amsgrad")


@update(
    "adam",
    _MAXIMUM,
    instead=("decoupled_weight_decay", "adamw"),
    added=_CORRECTS,
    decided={"decoupled_weight_decay": False},
)
def adam_(
    params: Arrays,
    grads: Grads,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays | None = None,
    *,
    step: Steps = 1,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    bias_correction: bool = True,
    **options: Any,
) -> StepInfo:
    """Adam: m and v are running averages of g and g²; p -= lr·m̂/(√v̂ + eps).

    m += (1 - β₁)(g - m), v = β₂v + (1 - β₂)g², m̂ = m/(1 - β₁ᵗ), v̂ = v/(1 - β₂ᵗ), with
    g += weight_decay·p before. With AMSGrad (``max_exp_avg_sqs``) v̂ is the running maximum of
    v, corrected.

    Against the paper, AMSGrad takes the maximum of v before its correction; PyTorch does the
    same.

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
    return run("adam", locals())


@update("adamax", added=_CORRECTS)
def adamax_(
    params: Arrays,
    grads: Grads,
    exp_avgs: Arrays,
    exp_infs: Arrays,
    *,
    step: Steps = 1,
    lr: float = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    bias_correction: bool = True,
    **options: Any,
) -> StepInfo:
    """Adamax: m += (1 - β₁)(g - m), u = max(β₂u, |g| + eps); p -= lr/(1 - β₁ᵗ)·m/u.

    Before that g += weight_decay·p.

    Against the paper, eps is added to \\|g\\|. PyTorch does the same.

    Args:
        exp_infs: u, the decaying maximum of \\|g\\|, likewise.
        eps: added to the magnitude of g, as in PyTorch; the paper has none.

    Source: Kingma & Ba, Adam: A Method for Stochastic Optimization, 2014, §7.1; PyTorch's Adamax.

    Example:
        >>> p, m, u = (np.zeros(1, np.float32) for _ in range(3))
        >>> info = onepass.ops.adamax_([p], [np.float32([2.0])], [m], [u], step=1, lr=0.5)
        >>> p, u
        (array([-0.5], dtype=float32), array([2.], dtype=float32))
    """
    return run("adamax", locals())


@update("adamw", _MAXIMUM, added=_CORRECTS, decided={"decoupled_weight_decay": True})
def adamw_(
    params: Arrays,
    grads: Grads,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays | None = None,
    *,
    step: Steps = 1,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    bias_correction: bool = True,
    **options: Any,
) -> StepInfo:
    """AdamW: p *= 1 - lr·weight_decay, then the step of :func:`adam_` on the plain gradient.

    Against the paper, the decay is scaled by lr itself, not by a schedule's multiplier alone;
    PyTorch does the same.

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
    return run("adamw", locals())


@update("ademamix", ranges={"alpha": Range(0)})
def ademamix_(
    params: Arrays,
    grads: Grads,
    exp_avg_fasts: Arrays,
    exp_avg_slows: Arrays,
    exp_avg_sqs: Arrays,
    *,
    step: Steps = 1,
    lr: float = 1e-3,
    betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
    alpha: float = 5.0,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    total_steps: int | None = None,
    **options: Any,
) -> StepInfo:
    """AdEMAMix: p -= lr·((m̂₁ + α·m₂)/(√v̂ + eps) + weight_decay·p), with a fast and a slow average.

    m₁ += (1 - β₁)(g - m₁), m₂ += (1 - β₃)(g - m₂), v = β₂v + (1 - β₂)g², m̂₁ = m₁/(1 - β₁ᵗ),
    v̂ = v/(1 - β₂ᵗ). Over the first ``total_steps`` steps α grows from 0 linearly, and β₃ from β₁ so
    that the half-life of its average does: with s = t/total_steps αₜ = s·α and
    1/log β₃ₜ = (1 - s)/log β₁ + s/log β₃.

    Against the paper, one number of steps serves both warm-ups. PyTorch has no AdEMAMix.

    Args:
        exp_avg_fasts: m₁, like ``params`` (float32 for 16-bit parameters).
        exp_avg_slows: m₂, likewise.
        betas: β₁, β₂ and β₃.
        alpha: α, the weight of the slow average.
        eps: added to √v̂.
        weight_decay: decoupled, scaled by lr.
        total_steps: over which α and β₃ grow; None: they have their values from the start.

    Source: Pagliardini, Ablin & Grangier, The AdEMAMix Optimizer: Better, Faster, Older, 2024, and
    the authors' code.

    Example:
        >>> p, m1, m2, v = (np.zeros(1, np.float32) for _ in range(4))
        >>> info = onepass.ops.ademamix_([p], [np.float32([2.0])], [m1], [m2], [v], lr=0.5)
        >>> p
        array([-0.50025], dtype=float32)
    """
    return run("ademamix", locals())


@update("adopt")
def adopt_(
    params: Arrays,
    grads: Grads,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    *,
    step: Steps = 1,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.9999),
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    **options: Any,
) -> StepInfo:
    """ADOPT: n = g/max(√v, eps), m += (1 - β₁)(n - m), p -= lr·m; then v = β₂v + (1 - β₂)g².

    n is clipped to ±(t - 1)^¼. The first step sets v = g² and moves nothing. Before that
    g += weight_decay·p. The present g is not in the v that divides it, so any β₂ converges.

    Against the paper, n is clipped, as in the authors' code. PyTorch has no ADOPT. An infinite
    parameter becomes NaN with a weight decay that is not decoupled.

    Args:
        eps: the least √v.
        decoupled_weight_decay: p *= 1 - lr·weight_decay instead of the penalty.

    Source: Taniguchi et al., ADOPT: Modified Adam Can Converge with Any β₂ with the Optimal Rate,
    2024, and the authors' code (the clipping).

    Example:
        >>> p, m, v = (np.zeros(1, np.float32) for _ in range(3))
        >>> for t in (1, 2):
        ...     info = onepass.ops.adopt_([p], [np.float32([2.0])], [m], [v], step=t, lr=0.5)
        >>> p.round(4), v
        (array([-0.05], dtype=float32), array([4.], dtype=float32))
    """
    return run("adopt", locals())


@update("nadam", added=_CORRECTS)
def nadam_(
    params: Arrays,
    grads: Grads,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    mu_products: list[Any],
    *,
    step: Steps = 1,
    lr: float = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
    bias_correction: bool = True,
    **options: Any,
) -> StepInfo:
    """NAdam: p -= lr·((1 - μₜ)/(1 - Pₜ)·g + μₜ₊₁/(1 - Pₜμₜ₊₁)·m)/(√v̂ + eps).

    m += (1 - β₁)(g - m), v = β₂v + (1 - β₂)g², v̂ = v/(1 - β₂ᵗ), with g += weight_decay·p before.
    μₜ = β₁(1 - 0.96^(t·momentum_decay)/2), and Pₜ is the product of all μ up to t.

    Against the paper, μ has PyTorch's schedule. Against PyTorch, P is kept in double instead of
    float32.

    Args:
        mu_products: P, a list with a number or a 0-d array for each parameter, 1 before the first
            step; the step updates it. On a CUDA device a step with ``nonfinite`` waits for that.
        eps: added to √v̂.
        momentum_decay: how fast μ grows from β₁/2 to β₁.
        decoupled_weight_decay: p *= 1 - lr·weight_decay instead of the penalty.

    Source: Dozat, Incorporating Nesterov Momentum into Adam, 2016, in PyTorch's form.

    Example:
        >>> p, m, v = (np.zeros(1, np.float32) for _ in range(3))
        >>> products = [1.0]
        >>> info = onepass.ops.nadam_([p], [np.float32([2.0])], [m], [v], products, lr=0.5)
        >>> p.round(3), round(products[0], 4)
        (array([-0.528], dtype=float32), 0.4501)
    """
    return run("nadam", locals())


@update("radam", added=_CORRECTS)
def radam_(
    params: Arrays,
    grads: Grads,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    *,
    step: Steps = 1,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    bias_correction: bool = True,
    **options: Any,
) -> StepInfo:
    """RAdam: p -= lr·r·m̂·√(1 - β₂ᵗ)/(√v + eps) once the variance of v can be known, before lr·m̂.

    m += (1 - β₁)(g - m), v = β₂v + (1 - β₂)g², m̂ = m/(1 - β₁ᵗ), with g += weight_decay·p before.
    ρ∞ = 2/(1 - β₂) - 1 and ρ = ρ∞ - 2tβ₂ᵗ/(1 - β₂ᵗ); it can be known where ρ > 5, and then
    r = √((ρ - 4)(ρ - 2)ρ∞/((ρ∞ - 4)(ρ∞ - 2)ρ)).

    Against the paper, the step adapts where ρ > 5 instead of 4. PyTorch does the same.

    Args:
        eps: added to √v, uncorrected, as in PyTorch.
        decoupled_weight_decay: p *= 1 - lr·weight_decay instead of the penalty.

    Source: Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, 2019; PyTorch's
    RAdam.

    Example:
        >>> p, m, v = (np.zeros(1, np.float32) for _ in range(3))
        >>> info = onepass.ops.radam_([p], [np.float32([2.0])], [m], [v], step=1, lr=0.5)
        >>> p
        array([-1.], dtype=float32)
    """
    return run("radam", locals())
