"""Gradient descent: SGD with momentum, and ASGD, which averages."""

from __future__ import annotations

from typing import Any

from onepass.ops._declare_update import Arrays, Grads, Steps, run, update
from onepass.ops._ranges import Range
from onepass.ops._rule import Needs, State
from onepass.ops._step_info import StepInfo

__all__ = ["asgd_", "sgd_"]


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
