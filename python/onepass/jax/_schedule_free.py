"""What a schedule-free optimizer is evaluated at."""

from __future__ import annotations

from typing import Any

from onepass.jax._kernels import kernel_of
from onepass.jax._step import OptimizerState, check_state, moving_of
from onepass.jax._targets import call, like
from onepass.ops._step import plain_sgd
from onepass.optim._schedule_free import place_of_beta

_KERNELS = ("schedulefreeadamw", "schedulefreesgd")


def schedule_free_eval_params(state: OptimizerState, params: Any) -> Any:
    """x = y + (1 - 1/β)·(z - y), the average that a schedule-free optimizer is evaluated at.

    Training goes on at y, which `apply` and ``update`` give: evaluate and keep x, step y. β is the
    momentum of `schedulefreesgd` or β₁ of `schedulefreeadamw`. It is one call for each dtype, and
    `onepass.optim` does it in place with ``eval()``.

    Args:
        state: of `schedulefreeadamw` or `schedulefreesgd`.
        params: y, the parameters after the step that gave ``state``: a pytree, or FlatParams.

    Returns:
        x, like ``params``, which stay as they are; before the first step their values.

    Raises:
        TypeError, ValueError: a state of another optimizer, or of other parameters.

    Source: Defazio et al., The Road Less Scheduled, 2024; ``schedule_free_eval_params`` of
    ``optax.contrib`` does so for optax's.

    Example:
        >>> import numpy as np
        >>> import onepass.jax
        >>> params = onepass.jax.flat([np.ones(2, np.float32)])
        >>> state = onepass.jax.schedulefreesgd(lr=0.5, momentum=0.5).init(params)
        >>> for _ in range(2):
        ...     params, state = onepass.jax.apply([np.float32([1, 0])], params, state)
        >>> params.unflatten()[0].tolist()
        [0.125, 1.0]
        >>> onepass.jax.schedule_free_eval_params(state, params).unflatten()[0].tolist()
        [0.25, 1.0]
    """
    op = "schedule_free_eval_params"
    check_state(op, state)
    if state.kernel not in _KERNELS:
        raise ValueError(
            f"{op}: 'state' is of {state.kernel}, expected of {' or '.join(_KERNELS)}: other "
            "optimizers are evaluated at the parameters that they step"
        )
    moving = moving_of(op, params, state)
    sgd = kernel_of("sgd")
    assert sgd is not None
    found = {
        dtype: call(
            "average", op, [like(a) for a in arrays], state.hyper, state.count, *arrays,
            state.buffers[dtype]["z"], beta=place_of_beta(state.kernel),
            row=plain_sgd(0.0, -1.0), kernel=sgd.place,
        )
        for dtype, arrays in moving.arrays.items()
    }  # fmt: skip
    return moving.filled(found)
