"""In-place optimizer steps, one function each; ``onepass.optim`` has them as classes.

A function is a signature, a docstring and the rule (_rule.py) beside its name; the decorator adds
the descriptions that all share, and the imports to the example. They stand in alphabetical order,
as their classes in ``optim/_optimizers.py`` do.
"""

from __future__ import annotations

from typing import Any

from onepass.ops._ranges import Range
from onepass.ops._rule import Needs, State
from onepass.ops._step import Arrays, Betas, Factors, Grads, StepInfo, Steps, run, update

__all__ = [
    "adadelta_",
    "adafactor_",
    "adagrad_",
    "adam_",
    "adamax_",
    "adamw_",
    "ademamix_",
    "adopt_",
    "asgd_",
    "lamb_",
    "lars_",
    "lion_",
    "nadam_",
    "radam_",
    "rmsprop_",
    "rprop_",
    "schedulefreeadamw_",
    "schedulefreesgd_",
    "sgd_",
]
_CORRECTS = ("bias_correction",)
_MAXIMUM = State("max_exp_avg_sq", when="amsgrad")


@update("adadelta")
def adadelta_(
    params: Arrays,
    grads: Grads,
    square_avgs: Arrays,
    acc_deltas: Arrays,
    *,
    step: Steps = 1,
    lr: float = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    **options: Any,
) -> StepInfo:
    """Adadelta: v = ρv + (1 - ρ)g², d = √(u + eps)/√(v + eps)·g, u = ρu + (1 - ρ)d²; p -= lr·d.

    Before that g += weight_decay·p.

    Against the paper, d is scaled by lr (1 by default). Nothing differs from PyTorch.

    Args:
        square_avgs: v, like ``params`` (float32 for 16-bit parameters).
        acc_deltas: u, the running average of d², likewise.
        rho: ρ.
        eps: under both roots.

    Source: Zeiler, ADADELTA: An Adaptive Learning Rate Method, 2012; PyTorch's Adadelta.

    Example:
        >>> p, v, u = (np.zeros(1, np.float32) for _ in range(3))
        >>> info = onepass.ops.adadelta_([p], [np.float32([2.0])], [v], [u], rho=0.75, eps=1.0)
        >>> p.round(4), v
        (array([-1.4142], dtype=float32), array([1.], dtype=float32))
    """
    return run("adadelta", locals())


@update("adafactor", ranges={"eps": (Range(0, none=-1), Range(0))})
def adafactor_(
    params: Arrays,
    grads: Grads,
    row_vars: Factors,
    col_vars: Factors,
    variances: Factors,
    *,
    step: Steps = 1,
    lr: float = 1e-2,
    beta2_decay: float = -0.8,
    eps: tuple[float | None, float] = (None, 1e-3),
    d: float = 1.0,
    weight_decay: float = 0.0,
    **options: Any,
) -> StepInfo:
    """Adafactor: u = g/max(√v, ε₁); p = (1 - lr·weight_decay)·p - α/max(1, RMS(u)/d)·u.

    α = max(ε₂, RMS(p))·min(lr, 1/√t), with p as it is before the decay. v averages g²: with
    β = 1 - t^beta2_decay, v = βv + (1 - β)g² of a parameter with fewer than two axes. Of any other
    r = βr + (1 - β)·mean g² along each row of its matrices, the last two axes, c likewise along
    each column, and v = r·c/max(mean of r, ε₁). RMS(x) is ‖x‖/√size, over a whole parameter.

    Against the paper, lr bounds 1/√t (there 0.01 does), ε₁ bounds √v and the mean of r (there ε₁ is
    added to g²), r and c are means (there sums), and the decay is added. PyTorch does the same.
    Against it, r·c does not leave the range of numbers, an empty parameter is left alone (PyTorch
    divides by its size), and with 16-bit parameters all is computed in float32, with float32
    states. A parameter with an infinite element becomes infinite or NaN, in PyTorch too: α is
    infinite.

    Args:
        row_vars: r, arrays of shape (…, rows, 1), None for a parameter with fewer than two axes.
        col_vars: c, arrays of shape (…, 1, columns), likewise.
        variances: v, like ``params`` (float32 for 16-bit parameters), None for a parameter with two
            axes or more.
        lr: the largest step relative to RMS(p).
        beta2_decay: how fast β goes to 1; a number <= 0.
        eps: (ε₁, ε₂); None stands for the machine epsilon of the parameter's dtype.
        d: the largest RMS of u; a number >= 1.
        weight_decay: of p, decoupled: scaled by lr alone.

    Source: Shazeer & Stern, Adafactor: Adaptive Learning Rates with Sublinear Memory Cost, 2018;
    PyTorch's Adafactor.

    Example:
        >>> p, g = np.float32([[3, 3], [3, 3]]), np.float32([[2, 2], [4, 4]])
        >>> r, c = np.zeros((2, 1), np.float32), np.zeros((1, 2), np.float32)
        >>> info = onepass.ops.adafactor_([p], [g], [r], [c], [None], step=1, lr=0.5)
        >>> p
        array([[1.5, 1.5],
               [1.5, 1.5]], dtype=float32)
        >>> r, c
        (array([[ 4.],
               [16.]], dtype=float32), array([[10., 10.]], dtype=float32))
    """
    return run("adafactor", locals())


@update("adagrad", State("sum", start="initial_accumulator_value"))
def adagrad_(
    params: Arrays,
    grads: Grads,
    sums: Arrays,
    *,
    step: Steps = 1,
    lr: float = 1e-2,
    lr_decay: float = 0.0,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
    **options: Any,
) -> StepInfo:
    """Adagrad: s += g²; p -= lr/(1 + (t - 1)·lr_decay)·g/(√s + eps).

    Before that g += weight_decay·p.

    Against the paper, eps and lr_decay are added. Nothing differs from PyTorch.

    Args:
        sums: s, like ``params`` (float32 for 16-bit parameters).
        lr_decay: how fast the rate falls with the steps.
        eps: added to √s.

    Source: Duchi, Hazan & Singer, Adaptive Subgradient Methods for Online Learning, 2011; PyTorch's
    Adagrad.

    Example:
        >>> p, s = np.zeros(1, np.float32), np.zeros(1, np.float32)
        >>> info = onepass.ops.adagrad_([p], [np.float32([2.0])], [s], lr=0.5)
        >>> p, s
        (array([-0.5], dtype=float32), array([4.], dtype=float32))
    """
    return run("adagrad", locals())


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
    same, and nothing differs from it.

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

    Against the paper, eps is added to \\|g\\|. Nothing differs from PyTorch.

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
    PyTorch does the same, and nothing differs from it.

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


@update("asgd", State("ax"), ranges={"alpha": Range(0)})
def asgd_(
    params: Arrays,
    grads: Grads,
    axs: Arrays,
    etas: list[Any],
    mus: list[Any],
    *,
    step: Steps = 1,
    lr: float = 1e-2,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0.0,
    **options: Any,
) -> StepInfo:
    """ASGD: p = (1 - lambd·η)·p - η·g, and ax, the average of p: ax += μ(p - ax).

    Before that g += weight_decay·p. After step t η = lr/(1 + lambd·lr·t)^alpha and
    μ = 1/max(1, t - t0) for the next one; the first has η = lr and μ = 1, with which ax = p. A new
    lr takes effect one step later.

    Against the papers, averaging starts at a step that is given. Against PyTorch, η and μ are
    kept in double instead of float32.

    Args:
        axs: ax, like ``params`` (float32 for 16-bit parameters): the weights to evaluate with.
        etas: η, a list with a number or a 0-d array for each parameter, not read by the first step;
            the step updates it. On a CUDA device a step with ``nonfinite`` waits for that.
        mus: μ, likewise.
        lambd: how fast the rate falls; it also shrinks the parameters, as part of the update,
            which ``cautious`` may hold back.
        alpha: the power at which the rate falls.
        t0: the step at which averaging starts.

    Source: Polyak & Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992; Bottou,
    Stochastic Gradient Descent, 2010; PyTorch's ASGD.

    Example:
        >>> p, ax = np.float32([1.0]), np.zeros(1, np.float32)
        >>> eta, mu = [0.0], [1.0]
        >>> info = onepass.ops.asgd_([p], [np.float32([2.0])], [ax], eta, mu, lr=0.5, lambd=0.5)
        >>> p, ax, round(eta[0], 4)
        (array([-0.25], dtype=float32), array([-0.25], dtype=float32), 0.4229)
    """
    return run("asgd", locals())


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


@update("lion", counted=False)
def lion_(
    params: Arrays,
    grads: Grads,
    exp_avgs: Arrays,
    *,
    step: Steps = 1,
    lr: float = 1e-4,
    betas: Betas = (0.9, 0.99),
    weight_decay: float = 0.0,
    **options: Any,
) -> StepInfo:
    """Lion: p -= lr·sign(β₁m + (1 - β₁)g), then m = β₂m + (1 - β₂)g.

    Before that p *= 1 - lr·weight_decay; sign(0) = 0.

    Nothing differs from the paper; PyTorch has no Lion.

    Args:
        weight_decay: decoupled, scaled by lr.

    Source: Chen et al., Symbolic Discovery of Optimization Algorithms, 2023.

    Example:
        >>> p, m = np.ones(3, np.float32), np.zeros(3, np.float32)
        >>> info = onepass.ops.lion_([p], [np.float32([2.0, 0.0, -0.1])], [m], lr=0.5)
        >>> p
        array([0.5, 1. , 1.5], dtype=float32)
    """
    return run("lion", locals())


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

    Against the paper, the step adapts where ρ > 5 instead of 4. Nothing differs from PyTorch.

    Args:
        eps: added to √v, uncorrected, as in PyTorch.
        decoupled_weight_decay: p *= 1 - lr·weight_decay instead of the penalty.

    Source: Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, 2019; PyTorch's
    RAdam (the paper adapts where ρ > 4).

    Example:
        >>> p, m, v = (np.zeros(1, np.float32) for _ in range(3))
        >>> info = onepass.ops.radam_([p], [np.float32([2.0])], [m], [v], step=1, lr=0.5)
        >>> p
        array([-1.], dtype=float32)
    """
    return run("radam", locals())


@update(
    "rmsprop",
    State("momentum_buffer", when="momentum"),
    State("grad_avg", when="centered"),
)
def rmsprop_(
    params: Arrays,
    grads: Grads,
    square_avgs: Arrays,
    momentum_buffers: Arrays | None = None,
    grad_avgs: Arrays | None = None,
    *,
    step: Steps = 1,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    **options: Any,
) -> StepInfo:
    """RMSprop: v = α·v + (1 - α)·g², d = g/(√v + eps); p -= lr·d, or lr·b with b = momentum·b + d.

    Centred (with ``grad_avgs``): a += (1 - α)(g - a), and v - a² stands under the root. Before that
    g += weight_decay·p. Where g is constant v - a² vanishes, and steps grow to lr·g/eps: centred
    steps want a larger eps. Rounding may leave it below 0; it counts as 0 then, where PyTorch has
    NaN.

    The paper has no eps and no momentum. Against PyTorch, only the variance that rounding
    leaves below 0 differs.

    Args:
        square_avgs: v, like ``params`` (float32 for 16-bit parameters).
        momentum_buffers: b, likewise; needed with momentum.
        grad_avgs: a, likewise; None for plain RMSprop.
        alpha: α.
        eps: added to the root.

    Source: Tieleman & Hinton, Lecture 6.5, 2012; Graves, Generating Sequences With Recurrent Neural
    Networks, 2013 (centred); PyTorch's RMSprop.

    Example:
        >>> p, v = np.zeros(1, np.float32), np.zeros(1, np.float32)
        >>> info = onepass.ops.rmsprop_([p], [np.float32([2.0])], [v], lr=0.5, alpha=0.75)
        >>> p
        array([-1.], dtype=float32)
    """
    return run("rmsprop", locals())


@update(
    "rprop",
    State("step_size", start="lr", named="sizes"),
    needs=[
        Needs("step_sizes", (), lambda sizes: sizes[0] <= sizes[1], "the smaller number first"),
    ],
    ranges={"lr": Range(0)},
)
def rprop_(
    params: Arrays,
    grads: Grads,
    prevs: Arrays,
    sizes: Arrays,
    *,
    step: Steps = 1,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[float, float] = (1e-6, 50.0),
    **options: Any,
) -> StepInfo:
    """Rprop: p -= sign(g)·size, where size grows while the sign of g stays and shrinks if it turns.

    size is multiplied by ``etas[1]`` where g has the sign of the gradient before, by ``etas[0]``
    where it has the other one, and kept within ``step_sizes``. Where the sign has turned p stays,
    and the next step counts as a first one.

    Against the paper, the step before is not taken back where the sign has turned. Against PyTorch,
    signs are compared: it multiplies the two gradients, and that underflows for small ones.

    Args:
        prevs: the gradient before, like ``params`` (float32 for 16-bit parameters), 0 at first.
        sizes: the step size of each element, likewise, the learning rate at first; it is
            ``step_size`` in a state_dict.
        etas: the factors below and above 1.
        step_sizes: the least and the largest size.

    Source: Riedmiller & Braun, A Direct Adaptive Method for Faster Backpropagation Learning: The
    RPROP Algorithm, 1993; PyTorch's Rprop.

    Example:
        >>> p, prev, size = np.zeros(2), np.float64([1.0, -1.0]), np.full(2, 0.5)
        >>> info = onepass.ops.rprop_([p], [np.float64([2.0, 2.0])], [prev], [size])
        >>> p, size
        (array([-0.6,  0. ]), array([0.6 , 0.25]))
    """
    return run("rprop", locals())


@update(
    "schedulefreeadamw",
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
        zs: z, like ``params`` (float32 for 16-bit parameters); the first step does not read it.
        weight_sums: Σw, a list with a number or a 0-d array for each parameter, 0 before the first
            step; the step updates it. On a CUDA device a step with ``nonfinite`` waits for that.
        lr_maxs: lr_max, likewise.
        betas: β₁, the part of x in y, and β₂.
        eps: added to √v̂.
        weight_decay: of y, where the gradient is taken; decoupled, scaled by lr.
        warmup_steps: over which lr grows linearly.
        r: the power of t in the weights of the average.
        weight_lr_power: the power of lr_max in them.

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
        zs: z, like ``params`` (float32 for 16-bit parameters); the first step does not read it.
        weight_sums: Σw, a list with a number or a 0-d array for each parameter, 0 before the first
            step; the step updates it. On a CUDA device a step with ``nonfinite`` waits for that.
        lr_maxs: lr_max, likewise.
        momentum: β, the part of x in y.
        weight_decay: of y, where the gradient is taken.
        warmup_steps: over which lr grows linearly.
        r: the power of t in the weights of the average.
        weight_lr_power: the power of lr_max in them.

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


@update(
    "sgd",
    State("momentum_buffer", when="momentum"),
    ignored={"dampening": "momentum"},
    needs=[
        Needs(
            "nesterov",
            ("momentum", "dampening"),
            lambda nesterov, momentum, dampening: (
                not nesterov or (momentum > 0 and dampening == 0)
            ),
            "momentum > 0 and dampening = 0",
        )
    ],
    counted=False,
)
def sgd_(
    params: Arrays,
    grads: Grads,
    momentum_buffers: Arrays | None = None,
    *,
    step: Steps = 1,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    **options: Any,
) -> StepInfo:
    """g += weight_decay·p; b = momentum·b + (1 - dampening)·g; p -= lr·(g + momentum·b or b).

    The first step sets b = g. Without momentum p -= lr·g, and b stays as it is.

    Against the paper, lr stands outside the buffer; PyTorch does the same. Where momentum is
    switched on after steps without it, b starts at zero, while PyTorch sets b = g then: with
    ``dampening`` the two differ.

    Args:
        momentum_buffers: b, like ``params`` (float32 for 16-bit parameters); needed with momentum.
        dampening: of the gradient in the buffer.
        nesterov: look ahead by the momentum; needs momentum > 0 and dampening 0.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning,
    2013; PyTorch's SGD.

    Example:
        >>> p = np.float32([1.0])
        >>> info = onepass.ops.sgd_([p], [np.float32([2.0])], lr=0.25)
        >>> p
        array([0.5], dtype=float32)
    """
    return run("sgd", locals())
