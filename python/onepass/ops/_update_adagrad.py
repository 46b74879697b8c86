"""Steps divided by the root of an average of squares: Adagrad, Adadelta, RMSprop, Adafactor."""

from __future__ import annotations

from typing import Any

from onepass.ops._declare_update import Arrays, Factors, Grads, Steps, run, update
from onepass.ops._ranges import Range
from onepass.ops._rule import State
from onepass.ops._step_info import StepInfo

__all__ = ["adadelta_", "adafactor_", "adagrad_", "rmsprop_"]


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

    Against the paper, d is scaled by lr (1 by default). PyTorch does the same.

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

    Against the paper, eps and lr_decay are added. PyTorch does the same.

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
