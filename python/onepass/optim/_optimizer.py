"""Parameter groups and steps, for every optimizer.

A new optimizer is a subclass that names its function of ``ops`` and passes its arguments on.
_states.py makes the arrays of its state, _state_dict.py writes and checks what is saved.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from operator import itemgetter
from threading import get_ident
from typing import Any, ClassVar

import numpy as np

from onepass import _C
from onepass._array import Array, copy_into, parameter_dtype
from onepass._docs import parts, shares
from onepass._one_thread import OneThread
from onepass._parameter import Parameter
from onepass.ops._rule import Launch, Rule, State, uniform
from onepass.ops._step import RULES, Nonfinite, StepInfo, take_step, with_loss
from onepass.optim import _torch_options
from onepass.optim._groups import filled, group_dicts
from onepass.optim._state_dict import Reader, saved
from onepass.optim._state_view import StateView
from onepass.optim._states import follow

_FROZEN = (bool, int, float, str, tuple, type(None), np.generic)
_NO_OPTIONS = {"self", "params", "compat", "torch_options", "__class__"}

Parameters = Iterable[Any]

_SHARED_ARGS = {
    "params": "arrays, ``nn.Parameter`` objects, tensors, a module, or group dicts.",
    "maximize": "ascend instead.",
    "compat": "the library whose formulas and defaults to follow: 'torch', the only one so far.",
    "**torch_options": "``foreach`` and ``fused`` are ignored: a step is one launch in any case.\n"
    "        ``capturable`` and ``differentiable`` must be False.",
}
_DOC = """{formula}

The optimizer keeps the states of `onepass.ops.{op}` and counts each parameter's steps.
{own}
Raises:
    ValueError: hyper-parameters out of range, empty, duplicate or overlapping parameters.

Source:{source}

Example:
    >>> p = np.ones(3, np.float32)
    >>> optimizer = optim.{cls}([p], lr=0.1)
    >>> info = optimizer.step([np.float32([1, 2, 2])], max_norm=1.0)
    >>> info.grad_norm, bool((p < 1).all())
    (3.0, True)
"""


class Optimizer:
    """Base of all optimizers; not used by itself.

    Args:
        params: arrays, ``nn.Parameter`` objects, (name, parameter) pairs, a module, or dicts with a
            "params" entry and options of their own. Other keys of such a dict are kept. The arrays
            are updated in place and must not overlap.
        given: the arguments of the subclass's constructor, by name: options of every group that
            does not set its own, and ``compat``.

    Attributes:
        param_groups: list of dicts; change ``group["lr"]`` and friends between steps.
        defaults: options of a group that does not set its own.
        state: a parameter → its ``"step"`` and states, read-only, as in PyTorch.
    """

    _rule: ClassVar[Rule]

    def __init_subclass__(cls, *, op: Callable[..., StepInfo] | None = None) -> None:
        super().__init_subclass__()
        if op is None:
            return  # a subclass of a named optimizer
        if "_rule" not in vars(cls):
            cls._rule = RULES[op.__name__.removesuffix("_")]
        if op.__doc__ is not None:  # python -OO has none
            formula, sections, described = parts(op.__doc__)
            own = f"\n{inspect.cleandoc(cls.__doc__)}\n" if cls.__doc__ else ""
            cls.__doc__ = _DOC.format(
                formula=formula,
                op=op.__name__,
                own=own,
                source=sections["Source"].rstrip(),
                cls=cls.__name__,
            )
            shares({**described, **_SHARED_ARGS})(cls)

    def __init__(self, params: Iterable[Any], given: Mapping[str, Any]) -> None:
        rule, compat = self._rule, given["compat"]
        if compat not in rule.compat:
            known = " or ".join(map(repr, rule.compat))
            raise ValueError(f"{self._name}: 'compat' is {compat!r}, expected {known}")
        defaults = {key: value for key, value in given.items() if key not in _NO_OPTIONS}
        _torch_options.check(self._name, given.get("torch_options", {}), [*defaults, "compat"])
        defaults |= rule.compat[compat]
        self._alone = OneThread(self._name)
        self.param_groups: list[dict[str, Any]] = []
        self.defaults: dict[str, Any] = defaults
        self._parameters: list[Any] = []
        self._names: list[str | None] = []
        self._arrays: list[Array] = []
        self._states: dict[str, list[Array]] = {}
        self._plan: _C.Plan | None = None
        self._plan_is_current = False  # it is for this kernel and these parameters
        # Reads a group's options, and what they were when the fields below were derived from them.
        self._read_options = itemgetter(*defaults)
        self._options: list[tuple[Any, ...]] | None = None
        self._lr_leads = rule.lr_leads and next(iter(defaults)) == "lr"
        self._all_started = False  # every parameter has had a gradient
        self._hypers: list[tuple[float, ...]] = []
        self._wanted: Launch = ("", ())
        self._maximize = False
        self._holders: list[tuple[Parameter, Array]] = []  # parameters whose array may be replaced
        for group in group_dicts(self._name, params):
            self._append(group)
        self._prepare()

    # ---- stepping

    def step(
        self,
        grads: Sequence[Array | None] | Callable[[], Any] | None = None,
        *,
        max_norm: float | None = None,
        max_value: float | None = None,
        grad_scale: float | None = None,
        zero_grad: bool = False,
        nonfinite: Nonfinite = "propagate",
    ) -> StepInfo:
        """Updates every parameter that has a gradient, in one launch.

        Order: divide by ``grad_scale`` → non-finite check → clamp to ±``max_value`` → scale by
        min(1, max_norm/(norm + 1e-6)) → the update.

        On CUDA nothing is waited for, the steps are counted on the device, and the result is copied
        from there when one of its fields is read; only ``nonfinite="raise"`` waits. A step captured
        in a CUDA graph (after one that was not) keeps the hyper-parameters it was captured with;
        every replay counts as a step.

        Args:
            grads: one array or None per parameter, in flat order; without it ``Parameter.grad`` (or
                a tensor's ``.grad``) is read. A parameter without gradient is left alone and its
                step count does not advance. A function, PyTorch's closure, is called first, with
                autograd on; it fills ``.grad``, and ``info.loss`` is what it returns.
            max_norm: clip by the global norm.
            max_value: clamp elements first.
            grad_scale: what the loss was multiplied by.
            zero_grad: leave the gradient arrays at zero, on a skipped step too (not where the step
                raises: they show what was wrong).
            nonfinite: "propagate" (IEEE), "skip" (nothing changes) or "raise" (nothing changes,
                then FloatingPointError).

        Returns:
            StepInfo(skipped, grad_norm, nonfinite_param).

        Raises:
            ValueError: wrong number or shape of gradients, options out of range; nothing is
                changed.
            TypeError: a gradient that is no array, is sparse or of another dtype, or a parameter
                whose dtype has changed.
            FloatingPointError: with ``nonfinite="raise"``, naming the parameter.
            RuntimeError: another thread uses the optimizer.
        """
        if callable(grads):
            loss = _loss_of(grads)
            info = self.step(
                max_norm=max_norm,
                max_value=max_value,
                grad_scale=grad_scale,
                zero_grad=zero_grad,
                nonfinite=nonfinite,
            )
            return with_loss(info, loss)
        held, me = self._alone.held, get_ident()  # as `with self._alone`, in a third of its time
        if held.setdefault("by", me) != me:
            raise self._alone.error()
        try:
            plan = self._prepare()
            if grads is None:
                grads = self._grads()
            return take_step(
                self._name,
                plan,
                grads,
                self._hypers,
                max_norm,
                max_value,
                grad_scale,
                zero_grad,
                nonfinite,
                self._maximize,
                self._names,
            )
        except TypeError:
            self._refuse_other_dtypes([_data(p) for p in self._parameters])
            raise
        finally:
            held.clear()

    def _grads(self) -> list[Array | None]:
        try:
            return [p.grad for p in self._parameters]
        except AttributeError:
            without = next(i for i, p in enumerate(self._parameters) if not hasattr(p, "grad"))
            raise TypeError(
                f"{self._name}: 'grads' is None and parameter {without} has no .grad; pass the "
                "gradients: step(grads)"
            ) from None

    def zero_grad(self) -> None:
        """Fills the gradients of ``Parameter``s and tensors with zeros, where they exist."""
        for parameter in self._parameters:
            grad = getattr(parameter, "grad", None)
            if grad is not None:
                grad[...] = 0

    @property
    def state(self) -> StateView:
        """A parameter → its ``"step"`` and states, read-only; {} before its first gradient."""
        return StateView(self._parameters, lambda: self.state_dict()["state"])

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Adds parameters with options of their own; their state starts afresh.

        Args:
            group: dict with "params" and any options.

        Raises:
            ValueError: a parameter that is there already, or overlaps one; nothing is changed.
        """
        with self._alone:
            self._add(group)

    def _add(self, group: Mapping[str, Any]) -> None:
        before, plan = len(self._parameters), self._plan
        self._append(group)
        try:
            self._prepare()
        except (TypeError, ValueError):
            del self.param_groups[-1]
            for entries in (
                self._parameters,
                self._names,
                self._arrays,
                *self._states.values(),
            ):
                del entries[before:]
            # The old plan has the counts; options changed before may ask for another one.
            self._plan, self._plan_is_current = plan, False
            raise

    # ---- saving

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's layout: {"state": {index: {"step": t, name: array}}, "param_groups": […]}.

        The arrays are the optimizer's own, not copies. Parameters that never had a gradient have no
        entry.
        """
        with self._alone:
            plan = self._prepare()
            states = {name: self._states[name] for name in self._wanted[1] if name is not None}
            return saved(self.param_groups, {**plan.scalars, **states}, plan.steps)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state_dict` (or PyTorch's) gave; values are copied in.

        Args:
            state_dict: of an optimizer of the same kind over parameters of the same shapes.

        Raises:
            ValueError: another number of groups or parameters, missing or misshapen entries;
                nothing is changed.
        """
        with self._alone:
            self._load(state_dict)

    def _load(self, state_dict: Mapping[str, Any]) -> None:
        reader = Reader(self._name, self.param_groups, set(self.defaults), self._rule.identity)
        groups = reader.groups(state_dict)
        _, (_, wanted), _ = self._derived(groups)
        kept = [state for state in self._rule.states if state.key in wanted]
        required = [
            {state.key for state in kept if state.when is None or group[state.when]}
            for group in groups
            for _ in group["params"]
        ]
        names = [state.key for state in kept]
        scalars = self._rule.scalars
        entries = reader.entries(state_dict, groups, names, required, scalars, self._arrays)
        for group, loaded in zip(self.param_groups, groups, strict=True):
            group.update({key: value for key, value in loaded.items() if key != "params"})
        plan = self._prepare()
        for state in kept:
            for index, start in enumerate(self._starts(state)):
                value = entries.get(index, {}).get(state.key, start)
                copy_into(self._states[state.key][index], value)
        everyone = range(len(self._arrays))
        plan.scalars = {
            name: [entries.get(i, {}).get(name, start) for i in everyone]
            for name, start in scalars.items()
        }
        plan.steps = [entries.get(i, {"step": 0})["step"] for i in everyone]
        self._all_started = False

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the plan, which holds addresses: for pickle and copy."""
        assert self._plan is not None
        state = {**self.__dict__, "_plan": None, "_holders": []}
        return {**state, "_counts": (self._plan.steps, self._plan.scalars)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        steps, scalars = self.__dict__.pop("_counts")
        self._plan = self._replan(*self._wanted)
        self._plan.steps, self._plan.scalars = steps, scalars

    def __repr__(self) -> str:
        lines = [f"{self._name} ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])

    # ---- inside

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _append(self, group: Mapping[str, Any]) -> None:
        options, names = filled(self._name, group, self.defaults)
        self._rule.hyper(self._name, options)
        self.param_groups.append(options)
        self._names += names
        self._parameters += options["params"]
        self._arrays += map(_data, options["params"])
        self._plan_is_current = self._all_started = False

    def _prepare(self) -> _C.Plan:
        """The plan of a step: rebuilt when the kernel or an array has changed."""
        options = [*map(self._read_options, self.param_groups)]
        if options != self._options:
            self._derive(options)
        for parameter, array in self._holders:
            if parameter.data is not array:
                self._plan_is_current = False
        if self._plan is None or not self._plan_is_current:
            self._plan = self._replan(*self._wanted)
        return self._plan

    def _derive(self, options: list[tuple[Any, ...]]) -> None:
        """Takes over what follows from the options of all groups."""
        if self._options is not None and self._only_rates(self._options, options):
            return
        maximize, wanted, hypers = self._derived(self.param_groups)
        self._plan_is_current = self._plan_is_current and self._wanted == wanted
        self._maximize, self._wanted, self._hypers = maximize, wanted, hypers
        # A list or an array may get other contents and stay the same object: derived every time.
        frozen = all(isinstance(v, _FROZEN) for values in options for v in values)
        self._options = options if frozen else None
        if self._rule.starts_follow:
            self._restart()

    def _only_rates(self, before: list[tuple[Any, ...]], options: list[tuple[Any, ...]]) -> bool:
        """Takes over new learning rates, if that is all: a schedule brings one every step."""
        if len(before) != len(options) or not self._lr_leads:
            return False
        hypers = list(self._hypers)
        for number, (old, new) in enumerate(zip(before, options, strict=True)):
            lr = new[0]
            if old[1:] != new[1:] or not (type(lr) is float and 0 <= lr < inf):
                return False
            hypers[number] = (lr, *hypers[number][1:])
        self._hypers, self._options = hypers, options
        return True

    def _derived(
        self, groups: list[dict[str, Any]]
    ) -> tuple[bool, Launch, list[tuple[float, ...]]]:
        """Checked: whether to maximize, the kernel with its states, each group's hypers."""
        maximize = uniform(self._name, "maximize", groups)
        hypers = [self._rule.hyper(self._name, group) for group in groups]
        return maximize, self._rule.launch(self._name, groups), hypers

    def _restart(self) -> None:
        """A start that depends on options follows them until a parameter's first gradient."""
        if self._plan is None or self._all_started:
            return
        steps = self._plan.steps  # on a device this waits; once all have started, never again
        self._all_started = len(steps) == len(self._parameters) and all(steps)
        for state in self._rule.states:
            if not callable(state.start) or state.key not in self._states:
                continue
            for held, start, step in zip(
                self._states[state.key], self._starts(state), steps, strict=False
            ):
                if step == 0:
                    copy_into(held, start)

    def _replan(self, kernel: str, names: tuple[str | None, ...]) -> _C.Plan:
        arrays = [_data(p) for p in self._parameters]
        self._refuse_other_dtypes(arrays)
        for state in self._rule.states:
            if state.key in names:
                held = self._states.get(state.key, [])
                self._states[state.key] = follow(arrays, held, self._starts(state))
        self._arrays = arrays
        plan = self._new_plan(kernel, names)
        if self._plan is not None:
            old, scalars = self._plan.steps, plan.scalars
            for name, values in self._plan.scalars.items():
                scalars[name][: len(old)] = values
            plan.steps, plan.scalars = old + [0] * (len(arrays) - len(old)), scalars
        self._plan_is_current = True
        self._holders = [
            (p, a)
            for p, a in zip(self._parameters, arrays, strict=True)
            if isinstance(p, Parameter)
        ]
        return plan

    def _refuse_other_dtypes(self, arrays: Sequence[Array]) -> None:
        """A message of its own for a parameter that was converted: its states were not."""
        for key, states in self._states.items():
            for index, (array, held) in enumerate(zip(arrays, states, strict=False)):
                if held.dtype != parameter_dtype(array):
                    name = f" ({self._names[index]})" if self._names[index] else ""
                    raise TypeError(
                        f"{self._name}: parameter {index}{name} has dtype {array.dtype}, and its "
                        f"{key!r} is of {held.dtype}, expected the dtype that it had when the "
                        "optimizer was made: make the optimizer after converting the model"
                    )

    def _new_plan(self, kernel: str, names: tuple[str | None, ...]) -> _C.Plan:
        """A plan over the arrays and states as they are, which has counted nothing."""
        groups = [number for number, g in enumerate(self.param_groups) for _ in g["params"]]
        states = [None if name is None else self._states[name] for name in names]
        return _C.Plan(kernel, self._arrays, states, groups)

    def _starts(self, state: State) -> list[float]:
        """What a state holds before each parameter's first gradient."""
        return [state.start_in(group) for group in self.param_groups for _ in group["params"]]


def _loss_of(closure: Callable[[], Any]) -> Any:
    """What PyTorch's closure returns, called as PyTorch's optimizers call it."""
    torch = sys.modules.get("torch")
    with torch.enable_grad() if torch is not None else contextlib.nullcontext():
        return closure()


def _data(parameter: Any) -> Array:
    return parameter.data if isinstance(parameter, Parameter) else parameter
