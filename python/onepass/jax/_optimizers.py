"""Optimizers whose whole update is one call of XLA, made from those of `onepass.optim`.

Options, their defaults, ranges and formulas are those of the classes there: a factory here makes
one for a parameter of its own and reads its group. In the state a hyper-parameter is data, so that
another value compiles nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onepass import optim
from onepass._docs import parts
from onepass.jax._checks import bits, number
from onepass.jax._flat import FlatParams, checked, leaves_of, of_dtype, sizes
from onepass.jax._kernels import Kernel, kernel_of, state_dtype
from onepass.jax._step import OptimizerState, check_state, name_of, rate_in_its_place, updated
from onepass.ops._rule import Rule
from onepass.optim._optimizer import Optimizer
from onepass.optim._schedule_free import ScheduleFree


class GradientTransformation(NamedTuple):
    """What a factory gives where optax is not installed: the same two functions."""

    init: Callable[[Any], OptimizerState]
    update: Callable[..., tuple[Any, OptimizerState]]


def _transformation(init: Any, update: Any) -> Any:
    try:
        import optax
    except (ImportError, AttributeError):  # it is not there, or is too new for this JAX
        return GradientTransformation(init, update)
    return optax.GradientTransformationExtraArgs(init, update)


def _of(cls: type[Optimizer], name: str, also: str = "") -> Callable[..., Any]:
    """The factory of an optimizer of `onepass.optim`; ``also`` is what its docstring says more."""
    parameters = inspect.signature(cls).parameters
    left_out = {"params", "diagnostics", "options", "use_muon"}
    signature = inspect.Signature([p for n, p in parameters.items() if n not in left_out])

    def factory(*args: Any, **options: Any) -> Any:
        try:
            given = signature.bind(*args, **options).arguments
        except TypeError as error:
            known = ", ".join(signature.parameters)
            raise TypeError(f"{name}: {error}; the options are {known}") from None
        made = _made(cls, name, dict(given))
        return _transformation(partial(_init, made), partial(_update, made))

    factory.__name__ = factory.__qualname__ = name
    factory.__signature__ = signature  # type: ignore[attr-defined]
    factory.__doc__ = _doc(cls, name, signature, also)
    return factory


_LR = (
    "learning rate: a number; a schedule, a function of the count of steps before this one, as\n"
    "        optax has; or an array without axes. A float32 array is taken as it is, not as the\n"
    "        double of the same digits."
)
_DOC = """{formula}

The whole update is one call of XLA for each dtype of parameters, on flat states. Any option that is
one number may be an array without axes, also a traced one, as ``optax.inject_hyperparams`` gives
it: another value compiles nothing, and nobody checks the range of what is traced. ``update`` takes
the options of this optimizer, but for an ``lr`` that is a number, which is data in the state:
`OptimizerState.with_lr` changes it; ``update(…, lr=…)`` has another one for that step. `apply`
takes all of them from the state.
``update(…, max_norm=…, grad_norm=…)`` clips as `apply` does. {kept}{also}

Args:
{args}

Returns:
    An ``optax.GradientTransformationExtraArgs`` (without optax a pair of the same two functions):
    ``init(params)`` and ``update(grads, state, params)``, which gives what is to be added to the
    parameters, rounded to their dtype; the gradients may have other dtypes. `apply` steps flat
    parameters in place.

Raises:
    TypeError, ValueError: hyper-parameters out of range, or unknown ones; of ``update`` a state
        that is not of this optimizer, its options and this release.

Source:{source}

Example:
    >>> import jax
    >>> import numpy as np
    >>> import onepass.jax
    >>> optimizer = onepass.jax.{name}(lr=0.1)
    >>> params, grads = {{"w": np.ones(3, np.float32)}}, {{"w": np.float32([1, 2, 2])}}
    >>> state = optimizer.init(params)
    >>> updates, state = jax.jit(optimizer.update)(grads, state, params)
    >>> updates["w"].shape, int(state.count)
    ((3,), 1)
"""


_MUON = """\
Arrays of two axes or more are matrices, without an exp_avg_sq; the others step as by `adamw`.
Embeddings and the last layer belong to `adamw` itself, as Muon's authors have it:
``optax.multi_transform`` tells them apart. The products are NumPy's, as in `onepass.optim`: its
wheels export no BLAS that kernels could call, so that a step runs Python inside of the call, which
needs the GIL and costs time for each parameter: it pays where the products are large."""


_SCHEDULE_FREE = """\
Evaluate and keep ``schedule_free_eval_params(state, params)``, not the parameters that are
stepped."""


def _doc(cls: type[Optimizer], name: str, signature: inspect.Signature, also: str) -> str | None:
    """Written from the docstring of the class."""
    if cls.__doc__ is None:  # python -OO has none
        return None
    text, sections, described = parts(cls.__doc__)
    formula, kept = text.split("\n\nThe optimizer keeps", 1)
    says = {**described, "lr": _LR, "maximize": "ascend instead."}  # there are no groups
    args = "\n".join(f"    {option}: {says[option]}" for option in signature.parameters)
    kept = "Keeps" + kept.split("\nKeeps", 1)[1].split("\n\n", 1)[0]
    source = sections["Source"].rstrip()
    return _DOC.format(
        formula=formula, kept=kept, args=args, source=source, name=name, also=also and f"\n\n{also}"
    )


class Made(NamedTuple):
    """What a factory makes of its options.

    Attributes:
        name: of the factory.
        words: the numbers of a state, as words of doubles; NaN in the place of an array.
        arrays: those that are arrays, by their places.
        schedule: of the learning rate, a function of the count of steps.
        scalars: where they start.
        starts: name of each state that is kept → what it starts at.
    """

    name: str
    kernel: Kernel
    kernel_name: str
    words: np.ndarray[Any, Any]
    arrays: dict[int, Any]
    schedule: Callable[[Any], Any] | None
    scalars: tuple[float, ...]
    starts: dict[str, Any]
    maximize: bool


def _made(cls: type[Optimizer], name: str, options: dict[str, Any]) -> Made:
    """Of checked options. Those that are arrays are checked if their values are known."""
    rule = cls._rule
    assert isinstance(rule, Rule)
    arrays = {o: value for o, value in options.items() if isinstance(value, jax.Array)}
    schedule = options["lr"] if callable(options.get("lr")) and "lr" not in arrays else None
    _check_arrays(cls, name, arrays)
    # In the place of one whose value is not known stands the default, or what asks for its state.
    asked = {state.when for state in rule.states}
    for option, array in arrays.items():
        if not isinstance(array, jax.core.Tracer):
            options[option] = array.item()
        elif option in asked:
            options[option] = 0.5
        else:
            del options[option]
    if schedule is not None:
        del options["lr"]
    (group,) = cls([np.zeros(1, np.float32)], **options).param_groups
    kernel_name, keys = rule.launch(name, [{**group, **{o: 0.5 for o in arrays if o in asked}}])
    kernel = kernel_of(kernel_name)
    assert kernel is not None
    starts: dict[str, Any] = {}
    for state in rule.states:
        given = arrays.get(state.start) if isinstance(state.start, str) else None
        if state.key in keys:
            starts[state.key] = rule.start(name, state, group) if given is None else given
    values = kernel.values(name, rule, group, arrays)
    if schedule is not None:
        if kernel.rate < 0:
            raise TypeError(f"{name}: 'lr' is a schedule, expected a number, where states start")
        values[kernel.rate] = np.nan
    of_call = {place: value for place, value in enumerate(values) if isinstance(value, jax.Array)}
    words = bits(*(np.nan if place in of_call else value for place, value in enumerate(values)))
    return Made(
        name, kernel, kernel_name, words, of_call, schedule, tuple(rule.scalars.values()), starts,
        bool(group["maximize"]),
    )  # fmt: skip


def _check_arrays(cls: type[Optimizer], name: str, arrays: dict[str, Any]) -> None:
    """Refuses an option as an array where only a number of Python will do."""
    rule = cls._rule
    assert isinstance(rule, Rule)
    kernel = kernel_of(rule.kernel)
    assert kernel is not None
    for option, array in arrays.items():
        flag = isinstance(inspect.signature(cls).parameters[option].default, bool)
        if not flag:
            number(name, option, array)
        # y = (1 - β)·z + β·x: with another β it would stand for another x.
        makes_average = issubclass(cls, ScheduleFree) and option == "momentum"
        read = option in kernel.numbers or option in {state.start for state in rule.states}
        if makes_average or flag or not read:
            raise TypeError(
                f"{name}: {option!r} is an array, expected what Python has; name it in static_args "
                "of optax.inject_hyperparams"
            )


def _init(made: Made, params: Any) -> OptimizerState:
    if isinstance(params, FlatParams):
        leaves = params.leaves
    else:
        leaves = leaves_of(checked(made.name, "params", jax.tree_util.tree_leaves(params)))
    buffers = {}
    for dtype in sizes(leaves):
        counts = made.kernel.lengths(of_dtype(leaves, dtype))
        own = state_dtype(dtype)
        buffers[dtype] = {key: jnp.full(counts[key], s, own) for key, s in made.starts.items()}
    zero, words, scalars = jnp.zeros((), np.int32), jnp.asarray(made.words), bits(*made.scalars)
    return OptimizerState(
        zero, words, jnp.asarray(scalars), buffers, made.kernel_name, made.maximize,
        made.kernel.names, name_of(leaves),
    )  # fmt: skip


def _update(
    made: Made,
    grads: Any,
    state: OptimizerState,
    params: Any = None,
    *,
    lr: Any = None,
    max_norm: Any = None,
    grad_norm: Any = None,
    **_: Any,
) -> tuple[Any, OptimizerState]:
    """(updates, state), as optax has it; other arguments are for other transformations."""
    name = made.name
    if params is None:
        raise ValueError(f"{name}: update(grads, state) lacks 'params', expected them as third")
    check_state(name, state)
    own = made.kernel_name, made.maximize, sorted(made.starts)
    for states in state.buffers.values():
        given = state.kernel, state.maximize, sorted(states)
        if given != own:
            raise ValueError(
                f"{name}: 'state' is of {_shown(*given)}, expected of {_shown(*own)}: what the "
                "init of this optimizer gives"
            )
    if lr is None and made.schedule is not None:
        lr = made.schedule(state.count)
    state = replace(state, hyper=_hyper(made, state.hyper))
    numbers = {**made.arrays, **rate_in_its_place(name, state, lr)}
    return updated(name, grads, state, params, numbers, max_norm, grad_norm)


def _shown(kernel: str, maximize: bool, keys: list[str]) -> str:
    kept = f" with {', '.join(keys)}" if keys else ""
    return f"{kernel}{kept}{', to maximize' * maximize}"


def _hyper(made: Made, held: jax.Array) -> jax.Array:
    """The numbers of this optimizer; but the learning rate of the state, if that has one."""
    rate = made.kernel.rate
    if rate < 0:
        return jnp.asarray(made.words)
    # Outside of jit each call of JAX takes longer than all of this.
    xp: Any = jnp if isinstance(held, jax.core.Tracer) else np
    before, own, after = np.split(made.words, [2 * rate, 2 * rate + 2])
    lr = xp.asarray(held)[2 * rate : 2 * rate + 2]
    none = (lr == bits(np.nan)).all()
    return jnp.asarray(xp.concatenate([before, xp.where(none, own, lr), after]))


adadelta = _of(optim.Adadelta, "adadelta")
adafactor = _of(optim.Adafactor, "adafactor")
adagrad = _of(optim.Adagrad, "adagrad")
adam = _of(optim.Adam, "adam")
adamax = _of(optim.Adamax, "adamax")
adamw = _of(optim.AdamW, "adamw")
ademamix = _of(optim.AdEMAMix, "ademamix")
adopt = _of(optim.ADOPT, "adopt")
asgd = _of(optim.ASGD, "asgd")
lamb = _of(optim.LAMB, "lamb")
lars = _of(optim.LARS, "lars")
lion = _of(optim.Lion, "lion")
muon = _of(optim.Muon, "muon", _MUON)
nadam = _of(optim.NAdam, "nadam")
radam = _of(optim.RAdam, "radam")
rmsprop = _of(optim.RMSprop, "rmsprop")
rprop = _of(optim.Rprop, "rprop")
schedulefreeadamw = _of(optim.ScheduleFreeAdamW, "schedulefreeadamw", _SCHEDULE_FREE)
schedulefreesgd = _of(optim.ScheduleFreeSGD, "schedulefreesgd", _SCHEDULE_FREE)
sgd = _of(optim.SGD, "sgd")
