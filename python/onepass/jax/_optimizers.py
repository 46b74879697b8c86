"""Optimizers whose whole update is one call of XLA, made from those of `onepass.optim`.

Options, their defaults, ranges and formulas are those of the classes there: a factory here makes
one for a parameter of its own and reads its group. In the state a hyper-parameter is data, so that
another value compiles nothing.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onepass import optim
from onepass._docs import parts
from onepass.jax._checks import bits
from onepass.jax._flat import FlatParams, checked, leaves_of, of_dtype, sizes
from onepass.jax._muon import numbers_of
from onepass.jax._step import OptimizerState, lengths, rate_of, updated
from onepass.ops._rule import Rule
from onepass.optim._optimizer import Optimizer


class GradientTransformation(NamedTuple):
    """What a factory gives where optax is not installed: the same two functions."""

    init: Callable[[Any], OptimizerState]
    update: Callable[..., tuple[Any, OptimizerState]]


def _transformation(init: Any, update: Any) -> Any:
    if importlib.util.find_spec("optax") is None:
        return GradientTransformation(init, update)
    import optax

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
        lr, schedule = given.get("lr"), None
        if callable(lr) or isinstance(lr, jax.Array):
            schedule = lr if callable(lr) else lambda _: lr
            del given["lr"]
        start = _start(cls, name, given, schedule is not None)
        return _transformation(start, partial(_update, name, schedule))

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

The whole update is one call of XLA for each dtype of parameters, on flat states. A number such as
``lr`` is data in the state, `OptimizerState.with_lr` changes it; ``update(…, lr=…)`` has another
one for that step, ``update(…, max_norm=…, grad_norm=…)`` clips as `apply` does. {kept}{also}

Args:
{args}

Returns:
    An ``optax.GradientTransformationExtraArgs`` (without optax a pair of the same two functions):
    ``init(params)`` and ``update(grads, state, params)``, which gives what is to be added to the
    parameters, rounded to their dtype. `apply` steps flat parameters in place.

Raises:
    TypeError, ValueError: hyper-parameters out of range, or unknown ones.

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
wheels export no BLAS that kernels could call, so that a step runs Python inside of the call,
needs the GIL and takes 0.1 ms and some microseconds for each parameter besides."""


def _doc(cls: type[Optimizer], name: str, signature: inspect.Signature, also: str) -> str | None:
    """Written from the docstring of the class."""
    if cls.__doc__ is None:  # python -OO has none
        return None
    text, sections, described = parts(cls.__doc__)
    formula, kept = text.split("\n\nThe optimizer keeps", 1)
    says = {**described, "lr": _LR}
    args = "\n".join(f"    {option}: {says[option]}" for option in signature.parameters)
    kept = "Keeps" + kept.split("\nKeeps", 1)[1].split("\n\n", 1)[0]
    source = sections["Source"].rstrip()
    return _DOC.format(
        formula=formula, kept=kept, args=args, source=source, name=name, also=also and f"\n\n{also}"
    )


def _start(
    cls: type[Optimizer], name: str, given: dict[str, Any], scheduled: bool
) -> Callable[[Any], OptimizerState]:
    """The function ``init`` for checked options."""
    (group,) = cls([np.zeros(1, np.float32)], **given).param_groups
    rule = cls._rule
    assert isinstance(rule, Rule)
    kernel, keys = rule.launch(name, [group])
    hyper = numbers_of(group) if kernel == "muon" else list(rule.of_group(name, group))
    if scheduled:
        if rate_of(kernel) < 0:
            raise TypeError(f"{name}: 'lr' is a schedule, expected a number, where states start")
        hyper[rate_of(kernel)] = float("nan")
    starts = {s.key: rule.start(name, s, group) for s in rule.states if s.key in keys}
    scalars = list(rule.scalars.values())

    ascends = bool(group["maximize"])

    def init(params: Any) -> OptimizerState:
        if isinstance(params, FlatParams):
            leaves = params.leaves
        else:
            leaves = leaves_of(checked(name, "params", jax.tree_util.tree_leaves(params)))
        buffers = {}
        for dtype in sizes(leaves):
            counts = lengths(kernel, of_dtype(leaves, dtype))
            own = np.float64 if dtype == "float64" else np.float32
            buffers[dtype] = {key: jnp.full(counts[key], s, own) for key, s in starts.items()}
        zero = jnp.zeros((), np.int32)
        words, carried = (jnp.asarray(bits(*values)) for values in (hyper, scalars))
        return OptimizerState(zero, words, carried, buffers, kernel, ascends)

    return init


def _update(
    name: str,
    schedule: Callable[[Any], Any] | None,
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
    if params is None:
        raise ValueError(f"{name}: update(grads, state) lacks 'params', expected them as third")
    if lr is None and schedule is not None:
        lr = schedule(state.count)
    return updated(grads, state, params, lr, max_norm, grad_norm)


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
schedulefreeadamw = _of(optim.ScheduleFreeAdamW, "schedulefreeadamw")
schedulefreesgd = _of(optim.ScheduleFreeSGD, "schedulefreesgd")
sgd = _of(optim.SGD, "sgd")
