"""Steps by the signs of gradients: Lion and Rprop."""

from __future__ import annotations

from typing import Any

from onepass.ops._declare_update import Arrays, Betas, Grads, Steps, run, update
from onepass.ops._ranges import Range
from onepass.ops._rule import Needs, State
from onepass.ops._step_info import StepInfo

__all__ = ["lion_", "rprop_"]


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
