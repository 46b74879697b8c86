"""SparseAdam: a step of Adam over the rows that gradients name, and nothing else (_rows.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onepass.ops._declare_update import (
    RULES,
    Arrays,
    Betas,
    Steps,
    counts_of,
    shared_docs,
)
from onepass.ops._ranges import Range
from onepass.ops._rows import Gradient, all_rows_of, take_rows
from onepass.ops._rule import Rule, State
from onepass.ops._step import controls_of
from onepass.ops._step_info import StepInfo

# Adam's, without what would concern every row.
RULE = RULES["sparse_adam"] = Rule(
    "adam",
    State("max_exp_avg_sq", when="amsgrad"),
    ranges={"eps": Range(above=0)},
    compat={"torch": {"eps_hat": True}},  # PyTorch adds eps to √v before the correction here
    fixed={
        "weight_decay": 0.0,
        "decoupled_weight_decay": False,
        "amsgrad": False,
        "bias_correction": True,
    },
)


@shared_docs()
def sparse_adam_(
    params: Arrays,
    grads: Sequence[Gradient | None],
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    *,
    step: Steps = 1,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    **options: Any,
) -> StepInfo:
    """m += (1 - β₁)(g - m), v = β₂v + (1 - β₂)g², p -= lr·√(1 - β₂ᵗ)/(1 - β₁ᵗ)·m/(√v + eps).

    Of rows without gradient neither p nor m and v move, as if they had not been part of the model:
    Adam would decay their m and v, and move p by m. Rows of equal index are summed first, in the
    order given. The rows are copied together and back, around one call of the kernel.

    Args:
        params: arrays of one axis or more.
        grads: pairs (indices, values): values[j] is the gradient of params[i][indices[j]]; or
            sparse COO tensors; or None.
        eps: added to √v.

    Returns:
        StepInfo; all arrays are updated in place.

    Raises:
        ValueError: hyper-parameters out of range, mismatched lists or shapes; nothing is changed.
        TypeError: a dense gradient, or wrong dtypes.
        IndexError: a row that a parameter does not have.

    Source: Kingma & Ba, Adam: A Method for Stochastic Optimization, 2014; PyTorch's SparseAdam.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> p, m, v = (np.zeros((3, 1), np.float32) for _ in range(3))
        >>> grad = (np.array([2, 2]), np.float32([[1], [1]]))
        >>> info = onepass.ops.sparse_adam_([p], [grad], [m], [v], lr=0.5)
        >>> p.ravel().round(3)
        array([ 0. ,  0. , -0.5], dtype=float32)
    """
    given, op = {**locals()}, "sparse_adam_"
    hyper = RULE.hyper(op, {**RULE.compat["torch"], **given})
    controls = controls_of(op, options)
    for name in ("params", "grads", "exp_avgs", "exp_avg_sqs"):
        if type(given[name]) is not list and not isinstance(given[name], Sequence):
            raise TypeError(f"{op}: {name!r} is {given[name]!r}, expected a list of arrays")
        if len(given[name]) != len(params):
            raise ValueError(
                f"{op}: {name!r} has {len(given[name])} entries, expected {len(params)}"
            )
    taken = [count - 1 for count in counts_of(op, step, len(params))]
    rows = all_rows_of(op, params, grads)
    states = (exp_avgs, exp_avg_sqs, None)
    hypers = [hyper] * len(params)
    return take_rows(op, "adam", params, grads, rows, states, hypers, taken, controls)
