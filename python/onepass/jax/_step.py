"""A step as one call of XLA: an optimizer's state, the call, its form on flat parameters."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onepass.jax._checks import bits, number
from onepass.jax._flat import FlatParams, Leaves, checked, leaves_of, of_dtype, sizes
from onepass.jax._kernels import Kernel, kernel_of, state_dtype
from onepass.jax._targets import NOTHING, call, like, result
from onepass.ops._step import positive


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["count", "hyper", "scalars", "buffers"],
    meta_fields=["kernel", "maximize", "names", "leaves"],
)
@dataclass(frozen=True)
class OptimizerState:
    """What an optimizer of `onepass.jax` keeps, a pytree.

    Attributes:
        count: steps so far, int32.
        hyper: the hyper-parameters of the kernel, as the words of doubles; see `with_lr`. NaN
            stands for one that the optimizer was given as an array or a schedule.
        scalars: the numbers that some rules carry from step to step, likewise.
        buffers: name of a dtype of parameters → name of a state → its elements for all parameters
            of that dtype, float32 (float64 for float64 parameters).
        kernel: the rule, in csrc/kernels/update_list.h.
        maximize: whether steps ascend.
        names: of the numbers in ``hyper`` and ``scalars``.
        leaves: stands for the shapes and dtypes of the parameters, in their order.
    """

    count: jax.Array
    hyper: jax.Array
    scalars: jax.Array
    buffers: dict[str, dict[str, jax.Array]]
    kernel: str
    maximize: bool = False
    names: tuple[str, ...] = ()
    leaves: str = ""

    def with_lr(self, lr: float) -> OptimizerState:
        """The same with another learning rate, as a double; nothing is compiled again.

        `apply` takes it, and ``update`` of an optimizer that was made with a number: one that was
        made with a schedule or an array goes on with that.
        """
        rate = check_state(self.kernel, self).rate
        words = number(self.kernel, "lr", lr, low=0)
        if rate < 0:
            raise ValueError(f"{self.kernel}: no learning rate, expected one that has 'lr'")
        if isinstance(words, jax.Array):
            raise TypeError(
                f"{self.kernel}: 'lr' is an array, expected a number; pass lr= to apply"
            )
        hyper = jnp.asarray(self.hyper)  # NumPy's after jax.device_get, or out of a file
        return replace(self, hyper=hyper.at[2 * rate : 2 * rate + 2].set(words))


def check_state(op: str, state: Any) -> Kernel:
    """The kernel of a state.

    Raises:
        TypeError, ValueError: it is none, or not what this release keeps.
    """
    if not isinstance(state, OptimizerState):
        raise TypeError(
            f"{op}: 'state' is a {type(state).__name__}, expected OptimizerState: what the init of "
            "an optimizer of onepass.jax gives"
        )
    kernel = kernel_of(state.kernel)
    wrong = f"is of {state.kernel!r}, expected an optimizer" if kernel is None else ""
    if kernel is not None:
        wrong = _not_kept(state, kernel)
    if kernel is None or wrong:
        raise ValueError(
            f"{op}: 'state' {wrong}; it is of another release of onepass, or has been changed: "
            "make it anew, with init"
        )
    return kernel


def _not_kept(state: OptimizerState, kernel: Kernel) -> str:
    """What this release keeps otherwise; empty: nothing."""
    if state.names != kernel.names:
        return f"has the numbers {state.names}, expected {kernel.names}"
    words = [((2 * len(names),), "uint32") for names in (kernel.numbers, kernel.scalars)]
    given = [state.count, state.hyper, state.scalars]
    found = [(getattr(a, "shape", None), str(getattr(a, "dtype", None))) for a in given]
    if found != [((), "int32"), *words]:
        return f"has count, hyper and scalars of {found}, expected {[((), 'int32'), *words]}"
    if not state.leaves:
        return "does not say of which parameters it is"
    least = {s.key for s in kernel.states if s.when is None}
    known = {s.key for s in kernel.states}
    keys = {key for states in state.buffers.values() for key in states}
    if not all(least <= {*states} == keys <= known for states in state.buffers.values()):
        return f"keeps {sorted(keys)}, expected {sorted(least)} of {sorted(known)}"
    return ""


# ---- parameters


class Moving(NamedTuple):
    """Parameters that a step moves.

    Attributes:
        arrays: name of a dtype → the parameters of that dtype; of FlatParams one array.
    """

    kernel: Kernel
    given: Any
    tree: Any
    leaves: Leaves
    arrays: dict[str, list[jax.Array]]

    @property
    def several(self) -> bool:
        """Whether no call has the gradients of all."""
        return sum(size > 0 for size in sizes(self.leaves).values()) > 1

    def filled(self, found: dict[str, list[jax.Array]]) -> Any:
        """What was given, with these in the place of ``arrays``."""
        if isinstance(self.given, FlatParams):
            return replace(self.given, buffers={dtype: own[0] for dtype, own in found.items()})
        each = {dtype: iter(own) for dtype, own in found.items()}
        return jax.tree_util.tree_unflatten(self.tree, [next(each[d]) for _, d in self.leaves])


def moving_of(op: str, params: Any, state: OptimizerState) -> Moving:
    """Checked, and that the state is of such parameters."""
    kernel = check_state(op, state)
    if isinstance(params, FlatParams):
        buffers = {dtype: [buffer] for dtype, buffer in params.buffers.items()}
        moving = Moving(kernel, params, params.tree, params.leaves, buffers)
        own = {dtype: (buffer.shape, str(buffer.dtype)) for dtype, buffer in params.buffers.items()}
        if own != {dtype: ((size,), dtype) for dtype, size in sizes(params.leaves).items()}:
            raise ValueError(
                f"{op}: 'params' have buffers of {own}, expected those that flat makes of "
                f"{params.leaves}"
            )
    else:
        given, tree = jax.tree_util.tree_flatten(params)
        arrays = checked(op, "params", given)
        leaves = leaves_of(arrays)
        moving = Moving(kernel, params, tree, leaves, _of_each_dtype(arrays, leaves))
    wanted = {
        dtype: (kernel.lengths(of_dtype(moving.leaves, dtype)), state_dtype(dtype))
        for dtype in moving.arrays
    }
    if not _kept_as_wanted(state, wanted):
        kept = {
            dtype: {key: (held.size, str(held.dtype)) for key, held in states.items()}
            for dtype, states in state.buffers.items()
        }
        raise ValueError(
            f"{op}: 'params' have {sizes(moving.leaves)} elements, expected those that the state "
            f"is of: it has {kept}"
        )
    if state.leaves != name_of(moving.leaves):
        raise ValueError(
            f"{op}: 'params' have {_short(moving.leaves)}, expected leaves of the shapes and "
            "dtypes that the state was made for, in that order; make a state with init of these "
            "params, inside of jax.shard_map where they are parts of arrays"
        )
    return moving


def _short(leaves: Leaves) -> str:
    shown = ", ".join(f"{dtype}{list(shape)}" for shape, dtype in leaves[:8])
    return f"{len(leaves)} leaves, {shown}, …" if len(leaves) > 8 else shown


@lru_cache
def name_of(leaves: Leaves) -> str:
    """What tells leaves of other shapes or dtypes, or in another order, from these; short, since
    JAX compares it at each call."""
    return hashlib.blake2b(repr(leaves).encode(), digest_size=8).hexdigest()


def _kept_as_wanted(state: OptimizerState, wanted: dict[str, tuple[dict[str, int], str]]) -> bool:
    """Whether the states of each dtype have as many elements, of the computing type."""
    return wanted.keys() == state.buffers.keys() and all(
        (held.size, str(held.dtype)) == (wanted[dtype][0][key], wanted[dtype][1])
        for dtype, states in state.buffers.items()
        for key, held in states.items()
    )


def _of_each_dtype(arrays: list[jax.Array], leaves: Leaves) -> dict[str, list[jax.Array]]:
    found: dict[str, list[jax.Array]] = {dtype: [] for dtype in sizes(leaves)}
    for array, (_, dtype) in zip(arrays, leaves, strict=True):
        found[dtype].append(array)
    return found


def _gradients(op: str, grads: Any, moving: Moving) -> list[jax.Array]:
    """Leaf by leaf, like the parameters; of whatever dtypes."""
    given, tree = jax.tree_util.tree_flatten(grads)
    if tree != moving.tree:
        raise ValueError(
            f"{op}: 'grads' is the tree {tree}, expected that of 'params', {moving.tree}"
        )
    arrays = checked(op, "grads", given)
    for i, (gradient, (shape, _)) in enumerate(zip(arrays, moving.leaves, strict=True)):
        if gradient.shape != shape:
            raise ValueError(
                f"{op}: leaf {i} of 'grads' has shape {gradient.shape}, expected {shape}, that of "
                "'params'"
            )
    return arrays


# ---- the call


class Controls(NamedTuple):
    """Operands of one step.

    Attributes:
        numbers: place of a hyper-parameter → an array in the place of what the state has.
        max_norm, grad_norm: arrays, without elements where they are not given.
    """

    numbers: dict[int, Any]
    max_norm: Any
    grad_norm: Any


def _step(
    kernel: Kernel,
    state: OptimizerState,
    dtype: str,
    controls: Controls,
    moved: list[jax.Array],
    gradients: list[jax.Array],
    leaves: Leaves,
    in_place: bool,
) -> tuple[OptimizerState, list[jax.Array]]:
    """(the state after the step of one dtype, what replaces ``moved``)."""
    held = state.buffers[dtype]
    # As the kernel takes them: JAX sorts a dict by its keys.
    states = {s.key: held[s.key] for s in kernel.states if s.key in held}
    places = sorted(controls.numbers)
    kept = [state.count, state.scalars, *states.values()]
    operands = [
        *(state.hyper, state.count, state.scalars, controls.max_norm, controls.grad_norm),
        *(controls.numbers[place] for place in places),
        *states.values(),
    ]
    first = len(operands) - len(states)
    aliases = {1: 0, 2: 1, **{first + i: 2 + i for i in range(len(states))}}
    if in_place:
        aliases[len(operands)] = len(kept)
    whole = kernel.whole or controls.max_norm is not NOTHING
    count, scalars, *rest = call(
        kernel.target, state.kernel, [like(a) for a in (*kept, *moved)], *operands, *moved,
        *gradients, aliases=aliases, kernel=kernel.place, variant=kernel.variant([*states]),
        rate=kernel.rate, places=tuple(map(float, places)), states=len(states),
        in_place=int(in_place), norms=kernel.norms, factors=kernel.factors,
        maximize=int(state.maximize), leaves=kernel.extents(leaves) if whole else (),
    )  # fmt: skip
    found = dict(zip(states, rest, strict=False))  # the parameters follow
    buffers = {**state.buffers, dtype: found}
    return replace(state, count=count, scalars=scalars, buffers=buffers), rest[len(states) :]


def _stepped(
    op: str,
    grads: Any,
    state: OptimizerState,
    params: Any,
    numbers: dict[int, Any],
    max_norm: Any,
    grad_norm: Any,
    in_place: bool,
) -> tuple[Any, OptimizerState]:
    """(what becomes of the parameters or is added to them, the state)."""
    moving = moving_of(op, params, state)
    flat = isinstance(grads, FlatParams)
    if flat and not _fits(grads):
        raise ValueError(
            f"{op}: 'grads' have other buffers than their leaves, expected those that flat makes"
        )
    if flat and isinstance(params, FlatParams) and _same(grads, params):
        gradients = {dtype: [buffer] for dtype, buffer in grads.buffers.items()}
    else:
        arrays = _gradients(op, grads.unflatten() if flat else grads, moving)
        gradients = _of_each_dtype(arrays, moving.leaves)
    controls = _controls(op, numbers, max_norm, grad_norm)
    if moving.several and max_norm is not None and grad_norm is None:
        each = jax.tree_util.tree_leaves(grads.unflatten() if flat else grads)
        controls = controls._replace(grad_norm=_norm(checked(op, "grads", each))[1])
    after, found = state, {}
    if not moving.arrays:  # no call counts the step
        after = replace(state, count=state.count + (state.count < np.iinfo(np.int32).max))
    for dtype, arrays in moving.arrays.items():
        of = replace(after, count=state.count, scalars=state.scalars)
        leaves = of_dtype(moving.leaves, dtype)
        after, found[dtype] = _step(
            moving.kernel, of, dtype, controls, arrays, gradients[dtype], leaves, in_place
        )
    return moving.filled(found), after


def _fits(flat: FlatParams) -> bool:
    return {d: b.size for d, b in flat.buffers.items()} == sizes(flat.leaves)


def _same(one: FlatParams, other: FlatParams) -> bool:
    return (one.tree, one.leaves) == (other.tree, other.leaves)


def _controls(op: str, numbers: dict[int, Any], max_norm: Any, grad_norm: Any) -> Controls:
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
    return Controls(numbers, limit, norm)


def rate_in_its_place(op: str, state: OptimizerState, lr: Any) -> dict[int, Any]:
    """The learning rate of a step where it is given, as `Controls` has it."""
    if lr is None:
        return {}
    if (place := check_state(op, state).rate) < 0:
        raise ValueError(
            f"{op}: 'lr' is given, and the update of {state.kernel} has no learning rate"
        )
    return {place: number(op, "lr", lr, low=0)}


def updated(
    op: str,
    grads: Any,
    state: OptimizerState,
    params: Any,
    numbers: dict[int, Any],
    max_norm: Any,
    grad_norm: Any,
) -> tuple[Any, OptimizerState]:
    """(what is to be added to the parameters, the state)."""
    return _stepped(op, grads, state, params, numbers, max_norm, grad_norm, in_place=False)


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
            ``params.unflatten()``. Their dtypes may be others than those of ``params``: float32
            beside bfloat16, where losses are summed up in float32.
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
        TypeError, ValueError: other structures or shapes than those of ``params``, a ``state`` of
            other parameters or of another release, gradients that are not floating.

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
    numbers = rate_in_its_place("apply", state, lr)
    return _stepped("apply", grads, state, params, numbers, max_norm, grad_norm, in_place=True)
