"""A step as one call of XLA: an optimizer's state, the call, its form on flat parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax

from onepass.jax._checks import number
from onepass.jax._flat import FlatParams, checked, sizes
from onepass.jax._targets import NOTHING, call, like
from onepass.ops._declare_update import RULES
from onepass.ops._rule import UPDATES

PLACES = {kernel: i for i, kernel in enumerate(UPDATES)}  # as the handlers know them


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["count", "hyper", "scalars", "buffers"],
    meta_fields=["kernel"],
)
@dataclass(frozen=True)
class OptimizerState:
    """What an optimizer of `onepass.jax` keeps, a pytree.

    Attributes:
        count: steps so far, int32.
        hyper: the hyper-parameters of the kernel, as the words of doubles; see `with_lr`.
        scalars: the numbers that some rules carry from step to step, likewise.
        buffers: name of a dtype of parameters → name of a state → its elements for all parameters
            of that dtype, float32 (float64 for float64 parameters).
        kernel: the rule, in csrc/kernels/update_list.h.
    """

    count: jax.Array
    hyper: jax.Array
    scalars: jax.Array
    buffers: dict[str, dict[str, jax.Array]]
    kernel: str

    def with_lr(self, lr: float) -> OptimizerState:
        """The same with another learning rate, as a double; nothing is compiled again."""
        rate = rate_of(self.kernel)
        words = number(self.kernel, "lr", lr, low=0)
        if rate < 0:
            raise ValueError(f"{self.kernel}: no learning rate, expected one that has 'lr'")
        if isinstance(words, jax.Array):
            raise TypeError(
                f"{self.kernel}: 'lr' is an array, expected a number; pass lr= to apply"
            )
        return replace(self, hyper=self.hyper.at[2 * rate : 2 * rate + 2].set(words))


def rate_of(kernel: str) -> int:
    """The place of the learning rate among the hyper-parameters; -1: they have none."""
    hyper = UPDATES[kernel]["hyper"]
    return hyper.index("lr") if "lr" in hyper else -1


def _variant(kernel: str, states: dict[str, jax.Array]) -> int:
    """A bit for each optional state that is kept."""
    optional = [state.key for state in RULES[kernel].states if state.when is not None]
    return sum(1 << i for i, key in enumerate(optional) if key in states)


def _in_order(kernel: str, states: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """States as the kernel takes them: JAX sorts a dict by its keys."""
    return {key: states[key] for key in RULES[kernel].keys if key in states}


# ---- the call


def _step(
    state: OptimizerState,
    dtype: str,
    lr: Any,
    moved: list[jax.Array],
    arrays: list[jax.Array],
    in_place: bool,
) -> tuple[OptimizerState, list[jax.Array]]:
    """(the state after the step of one dtype, what replaces ``moved``)."""
    states = _in_order(state.kernel, state.buffers[dtype])
    kept = [state.count, state.scalars, *states.values()]
    operands = [state.hyper, state.count, lr, state.scalars, *states.values()]
    aliases = {1: 0, 3: 1, **{4 + i: 2 + i for i in range(len(states))}}
    if in_place:
        aliases[len(operands)] = len(kept)
    given = [*moved, *arrays] if in_place else [*arrays, *moved]
    count, scalars, *rest = call(
        "update", state.kernel, [like(a) for a in (*kept, *moved)], *operands, *given,
        aliases=aliases, kernel=PLACES[state.kernel], variant=_variant(state.kernel, states),
        rate=rate_of(state.kernel), states=len(states), in_place=int(in_place),
    )  # fmt: skip
    found = dict(zip(states, rest, strict=False))
    buffers = {**state.buffers, dtype: found}
    return replace(state, count=count, scalars=scalars, buffers=buffers), rest[len(states) :]


def _lr_operand(kernel: str, lr: Any) -> Any:
    if lr is None:
        return NOTHING
    if rate_of(kernel) < 0:
        raise ValueError(f"{kernel}: 'lr' is given, and the update has no learning rate")
    return number(kernel, "lr", lr, low=0)


def _check_sizes(op: str, state: OptimizerState, arrays: list[jax.Array]) -> None:
    given = sizes(arrays)
    kept = {dtype: _length(states) for dtype, states in state.buffers.items()}
    if given.keys() != kept.keys() or any(kept[d] not in (None, n) for d, n in given.items()):
        raise ValueError(
            f"{op}: 'params' have {given} elements, expected those that the state is of, {kept}"
        )


def _length(states: dict[str, jax.Array]) -> int | None:
    return next((s.size for s in states.values()), None)


def _together(op: str, grads: Any, params: Any) -> tuple[list[jax.Array], list[jax.Array], Any]:
    """Gradients and parameters, leaf by leaf."""
    leaves, given = map(jax.tree_util.tree_leaves, (params, grads))
    tree: Any = jax.tree_util.tree_structure(params)
    own: Any = jax.tree_util.tree_structure(grads)
    if own != tree:
        raise ValueError(f"{op}: 'grads' is the tree {own}, expected that of 'params', {tree}")
    arrays, gradients = checked(op, "params", leaves), checked(op, "grads", given)
    for i, (p, g) in enumerate(zip(arrays, gradients, strict=True)):
        if p.shape != g.shape:
            raise ValueError(
                f"{op}: leaf {i} of 'grads' has shape {g.shape}, expected {p.shape}, that of "
                "'params'"
            )
    return arrays, gradients, tree


def updated(grads: Any, state: OptimizerState, params: Any, lr: Any) -> tuple[Any, OptimizerState]:
    arrays, gradients, tree = _together(state.kernel, grads, params)
    _check_sizes(state.kernel, state, arrays)
    rate = _lr_operand(state.kernel, lr)
    found: list[Any] = [None] * len(arrays)
    after = state
    for dtype in state.buffers:
        places = [i for i, a in enumerate(arrays) if str(a.dtype) == dtype]
        of = replace(after, count=state.count, scalars=state.scalars)
        after, updates = _step(
            of, dtype, rate, [arrays[i] for i in places], [gradients[i] for i in places], False
        )
        for i, update in zip(places, updates, strict=True):
            found[i] = update
    return jax.tree_util.tree_unflatten(tree, found), after


def apply(
    grads: Any, params: FlatParams, state: OptimizerState, *, lr: Any = None
) -> tuple[FlatParams, OptimizerState]:
    """One step on flat parameters: the fast form, one call for each dtype.

    The new parameters have the bits of `onepass.optim`. Inside `jax.jit` with ``donate_argnums`` of
    ``params`` and ``state`` they take the memory of the old ones, and nothing is copied.

    Args:
        grads: FlatParams, as `jax.grad` with respect to ``params`` gives; or a pytree like
            ``params.unflatten()``.
        params: from `flat`.
        state: from the ``init`` of an optimizer of `onepass.jax`.
        lr: learning rate of this step, a number or an array without axes (float32 is taken as it
            is, not as the double of the same digits); None for that in the state. An optimizer that
            was made with a schedule needs ``lr=schedule(state.count)``.

    Returns:
        (params, state) after the step.

    Raises:
        TypeError, ValueError: other structures, shapes or dtypes than those of ``params`` and
            ``state``.

    Source: the sources of the optimizers.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import onepass.jax
        >>> params = onepass.jax.flat({"w": np.ones(3, np.float32)})
        >>> state = onepass.jax.sgd(lr=0.5).init(params)
        >>> step = jax.jit(onepass.jax.apply, donate_argnums=(1, 2))
        >>> params, state = step({"w": np.float32([1, 2, 0])}, params, state)
        >>> params.unflatten()["w"].tolist()
        [0.5, 0.0, 1.0]
    """
    if not isinstance(params, FlatParams):
        raise TypeError(
            f"apply: 'params' is a {type(params).__name__}, expected FlatParams: flat(params)"
        )
    parts = list(params.buffers.values())
    _check_sizes("apply", state, parts)
    if isinstance(grads, FlatParams):
        if (grads.tree, grads.leaves) != (params.tree, params.leaves):
            raise ValueError("apply: 'grads' are of other parameters, expected those of 'params'")
        gradients = {dtype: [buffer] for dtype, buffer in grads.buffers.items()}
    else:
        gradients = _by_dtype(grads, params)
    rate = _lr_operand(state.kernel, lr)
    after, buffers = state, {}
    for dtype, buffer in params.buffers.items():
        of = replace(after, count=state.count, scalars=state.scalars)
        after, (buffers[dtype],) = _step(of, dtype, rate, [buffer], gradients[dtype], True)
    return replace(params, buffers=buffers), after


def _by_dtype(grads: Any, params: FlatParams) -> dict[str, list[jax.Array]]:
    """The gradients of the parameters of each dtype."""
    given, tree = jax.tree_util.tree_flatten(grads)
    if tree != params.tree:
        raise ValueError(
            f"apply: 'grads' is the tree {tree}, expected that of 'params', {params.tree}"
        )
    found: dict[str, list[jax.Array]] = {dtype: [] for dtype in params.buffers}
    arrays = checked("apply", "grads", given)
    for i, (gradient, (shape, dtype)) in enumerate(zip(arrays, params.leaves, strict=True)):
        if gradient.shape != shape:
            raise ValueError(
                f"apply: leaf {i} of 'grads' has shape {gradient.shape}, expected {shape}, that of "
                "'params'"
            )
        found[dtype].append(gradient)
    return found
