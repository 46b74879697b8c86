"""A step as one call of XLA: an optimizer's state, the call, its form on flat parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from onepass.jax._checks import bits, number
from onepass.jax._flat import FlatParams, Leaves, checked, leaves_of, of_dtype, sizes
from onepass.jax._targets import NOTHING, call, like, result
from onepass.ops._declare_update import RULES
from onepass.ops._rule import UPDATES, State
from onepass.ops._step import positive

PLACES = {kernel: i for i, kernel in enumerate(UPDATES)}  # as the handlers know them


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["count", "hyper", "scalars", "buffers"],
    meta_fields=["kernel", "maximize"],
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
        maximize: whether steps ascend.
    """

    count: jax.Array
    hyper: jax.Array
    scalars: jax.Array
    buffers: dict[str, dict[str, jax.Array]]
    kernel: str
    maximize: bool = False

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


def lengths(kernel: str, leaves: Leaves) -> dict[str, int]:
    """How many elements each state has for parameters of these shapes."""
    states = [_kept(kernel, state) for state in RULES[kernel].states]
    shapes = [[state.shape(shape) for shape, _ in leaves] for state in states]
    return {
        state.key: sum(math.prod(shape) for shape in own if shape is not None)
        for state, own in zip(states, shapes, strict=True)
    }


def _kept(kernel: str, state: State) -> State:
    """A matrix that Muon steps has no average of squares."""
    without = kernel == "muon" and state.key == "exp_avg_sq"
    return state._replace(extent="vector's element") if without else state


# ---- the call


class Controls(NamedTuple):
    """Operands of one step: each an array, without elements where it is not given."""

    lr: Any
    max_norm: Any
    grad_norm: Any


def _step(
    state: OptimizerState,
    dtype: str,
    controls: Controls,
    moved: list[jax.Array],
    arrays: list[jax.Array],
    leaves: Leaves | None,
) -> tuple[OptimizerState, list[jax.Array]]:
    """(the state after the step of one dtype, what replaces ``moved``).

    Args:
        moved: the parameters; in place those of ``leaves``, in one array.
        arrays: the gradients.
    """
    in_place = leaves is not None
    own = leaves_of(moved) if leaves is None else leaves
    states = _in_order(state.kernel, state.buffers[dtype])
    kept = [state.count, state.scalars, *states.values()]
    lr, *clips = controls
    operands = [state.hyper, state.count, lr, state.scalars, *clips, *states.values()]
    first = len(operands) - len(states)
    aliases = {1: 0, 3: 1, **{first + i: 2 + i for i in range(len(states))}}
    if in_place:
        aliases[len(operands)] = len(kept)
    given = [*moved, *arrays] if in_place else [*arrays, *moved]
    info = UPDATES[state.kernel]
    muon = state.kernel == "muon"  # whose products are NumPy's
    whole = info["norms"] or info["factors"] or muon
    target, extents = ("muon", _matrices) if muon else ("update", _extents)
    count, scalars, *rest = call(
        target, state.kernel, [like(a) for a in (*kept, *moved)], *operands, *given,
        aliases=aliases, kernel=PLACES[state.kernel], variant=_variant(state.kernel, states),
        rate=rate_of(state.kernel), states=len(states), in_place=int(in_place),
        norms=len(info["norms"]), factors=len(info["factors"]), maximize=int(state.maximize),
        leaves=extents(own) if whole or controls.max_norm is not NOTHING else (),
    )  # fmt: skip
    found = dict(zip(states, rest, strict=False))
    buffers = {**state.buffers, dtype: found}
    return replace(state, count=count, scalars=scalars, buffers=buffers), rest[len(states) :]


def _extents(leaves: Leaves) -> tuple[float, ...]:
    """(height, width, size) of each parameter: its last two extents, 0 where it has fewer."""
    found: list[float] = []
    for shape, _ in leaves:
        found += [*(shape[-2:] if len(shape) >= 2 else (0, 0)), math.prod(shape)]
    return tuple(found)


def _matrices(leaves: Leaves) -> tuple[float, ...]:
    """(rows, columns, size) of each parameter: its first axis and all others, 0 of a vector."""
    found: list[float] = []
    for shape, _ in leaves:
        found += [*((shape[0], math.prod(shape[1:])) if len(shape) >= 2 else (0, 0))]
        found.append(math.prod(shape))
    return tuple(found)


def controls_of(op: str, state: OptimizerState, lr: Any, max_norm: Any, grad_norm: Any) -> Controls:
    """Checked."""
    if max_norm is None and grad_norm is not None:
        raise ValueError(f"{op}: 'grad_norm' is given, expected None without 'max_norm'")
    if max_norm is None:
        limit = NOTHING
    elif isinstance(max_norm, jax.Array):
        limit = number(op, "max_norm", max_norm)
    else:
        limit = bits(positive(op, "max_norm", max_norm))
    norm = NOTHING if grad_norm is None else number(op, "grad_norm", grad_norm, low=0)
    return Controls(_lr_operand(state.kernel, lr), limit, norm)


def _with_norm(controls: Controls, gradients: list[jax.Array]) -> Controls:
    """With the norm of gradients of several dtypes, which no call has all of."""
    dtypes = {str(g.dtype) for g in gradients}
    if len(dtypes) < 2 or controls.max_norm is NOTHING or controls.grad_norm is not NOTHING:
        return controls
    return controls._replace(grad_norm=_norm(gradients)[1])


def _norm(gradients: list[jax.Array]) -> list[jax.Array]:
    """As a number, and as the words of a double."""
    wide = any(g.dtype == np.float64 for g in gradients)
    results = [result((), np.float64 if wide else np.float32), result((2,), np.uint32)]
    return call("global_norm", "global_norm", results, *gradients)


def global_norm(grads: Any) -> jax.Array:
    """√Σg² over all elements of a pytree, in one call: what ``max_norm`` of a step clips by.

    Args:
        grads: pytree of arrays of float32, float64, float16 or bfloat16, or FlatParams. Where
            devices hold parts of it, ``jnp.sqrt(jax.lax.psum(norm**2, axis))`` is the norm of all,
            for ``grad_norm`` of a step.

    Returns:
        An array without axes, float32 (float64 if a leaf is).

    Raises:
        TypeError: a leaf of another dtype.

    Source: the sums are those of `onepass.ops.global_norm`, in double.

    Example:
        >>> import numpy as np
        >>> import onepass.jax
        >>> float(onepass.jax.global_norm({"w": np.float32([3, 0]), "b": np.float32(4)}))
        5.0
    """
    tree = grads.unflatten() if isinstance(grads, FlatParams) else grads
    return _norm(checked("global_norm", "grads", jax.tree_util.tree_leaves(tree)))[0]


def _lr_operand(kernel: str, lr: Any) -> Any:
    if lr is None:
        return NOTHING
    if rate_of(kernel) < 0:
        raise ValueError(f"{kernel}: 'lr' is given, and the update has no learning rate")
    return number(kernel, "lr", lr, low=0)


def _check_sizes(op: str, state: OptimizerState, leaves: Leaves) -> None:
    kept = {
        dtype: {key: held.size for key, held in states.items()}
        for dtype, states in state.buffers.items()
    }
    wanted = {dtype: lengths(state.kernel, of_dtype(leaves, dtype)) for dtype in sizes(leaves)}
    same = wanted.keys() == kept.keys() and all(
        wanted[dtype][key] == size for dtype in kept for key, size in kept[dtype].items()
    )
    if not same:
        raise ValueError(
            f"{op}: 'params' have {sizes(leaves)} elements, expected those that the state is of: "
            f"it has {kept}"
        )


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


def updated(
    grads: Any, state: OptimizerState, params: Any, lr: Any, max_norm: Any, grad_norm: Any
) -> tuple[Any, OptimizerState]:
    arrays, gradients, tree = _together(state.kernel, grads, params)
    _check_sizes(state.kernel, state, leaves_of(arrays))
    controls = controls_of(state.kernel, state, lr, max_norm, grad_norm)
    controls = _with_norm(controls, gradients)
    found: list[Any] = [None] * len(arrays)
    after = state
    for dtype in state.buffers:
        places = [i for i, a in enumerate(arrays) if str(a.dtype) == dtype]
        of = replace(after, count=state.count, scalars=state.scalars)
        own = [arrays[i] for i in places], [gradients[i] for i in places]
        after, updates = _step(of, dtype, controls, *own, None)
        for i, update in zip(places, updates, strict=True):
            found[i] = update
    return jax.tree_util.tree_unflatten(tree, found), after


def apply(
    grads: Any,
    params: FlatParams,
    state: OptimizerState,
    *,
    lr: Any = None,
    max_norm: Any = None,
    grad_norm: Any = None,
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
        max_norm: clip by the global norm, as `onepass.optim` does, in the same call (where
            parameters have several dtypes, one more call computes the norm of all); a number or an
            array without axes.
        grad_norm: the norm to clip by instead of that of these gradients, where other devices hold
            more: see `global_norm`.

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
    _check_sizes("apply", state, params.leaves)
    controls = controls_of("apply", state, lr, max_norm, grad_norm)
    if isinstance(grads, FlatParams):
        if (grads.tree, grads.leaves) != (params.tree, params.leaves):
            raise ValueError("apply: 'grads' are of other parameters, expected those of 'params'")
        gradients = {dtype: [buffer] for dtype, buffer in grads.buffers.items()}
        if len(gradients) > 1 and controls.max_norm is not NOTHING:
            controls = _with_norm(controls, jax.tree_util.tree_leaves(grads.unflatten()))
    else:
        arrays = _like_params(grads, params)
        controls = _with_norm(controls, arrays)
        gradients = {
            own: [a for a, (_, dtype) in zip(arrays, params.leaves, strict=True) if dtype == own]
            for own in params.buffers
        }
    after, buffers = state, {}
    for dtype, buffer in params.buffers.items():
        of = replace(after, count=state.count, scalars=state.scalars)
        leaves = of_dtype(params.leaves, dtype)
        after, (buffers[dtype],) = _step(of, dtype, controls, [buffer], gradients[dtype], leaves)
    return replace(params, buffers=buffers), after


def _like_params(grads: Any, params: FlatParams) -> list[jax.Array]:
    """The gradients, leaf by leaf."""
    given, tree = jax.tree_util.tree_flatten(grads)
    if tree != params.tree:
        raise ValueError(
            f"apply: 'grads' is the tree {tree}, expected that of 'params', {params.tree}"
        )
    arrays = checked("apply", "grads", given)
    for i, (gradient, (shape, _)) in enumerate(zip(arrays, params.leaves, strict=True)):
        if gradient.shape != shape:
            raise ValueError(
                f"apply: leaf {i} of 'grads' has shape {gradient.shape}, expected {shape}, that of "
                "'params'"
            )
    return arrays
