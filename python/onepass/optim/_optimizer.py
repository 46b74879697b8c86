"""Parameter groups and steps, for every optimizer.

A new optimizer is a subclass that names its function of ``ops`` and passes its arguments on.
_states.py makes the arrays of its state, _state_dict.py writes and checks what is saved.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from functools import partial
from threading import get_ident
from typing import Any, Protocol

from onepass import _C
from onepass._array import (
    Array,
    copy_into,
    is_capturing,
    negative,
    parameter_dtype,
    torch_if_imported,
)
from onepass._docs import parts, shares
from onepass._interruptions import interrupts, to_the_end
from onepass._kind import like
from onepass._numbers import flag
from onepass._parameter import Parameter
from onepass._turns import turns
from onepass.ops._compat import libraries
from onepass.ops._declare_update import RULES
from onepass.ops._rule import State
from onepass.ops._step import Controls, Nonfinite, described, take_step, was_skipped
from onepass.ops._step_info import StepInfo, with_loss
from onepass.optim import _codes, _describe, _explain, _riders, _torch_options
from onepass.optim._explain import StepExplanation
from onepass.optim._groups import group_dicts, of_parameters
from onepass.optim._per_parameter import ArrayWatch, Measured, PerParameter, PlanWatch
from onepass.optim._planned import Planned
from onepass.optim._riders import ALL, OF_UPDATES
from onepass.optim._state_dict import Reader, saved
from onepass.optim._state_view import StateView
from onepass.optim.lr_scheduler import _zeros as zeros

_stepping = turns.stepping
_NO_OPTIONS = {"self", "params", "compat", "diagnostics", "options", "__class__"}


class Model(Protocol):
    """A module of onepass or PyTorch."""

    def parameters(self) -> Iterable[Any]: ...


Parameters = Iterable[Any] | Model

SHARED_ARGS = {
    "params": "arrays, ``nn.Parameter`` objects, tensors, a module, or group dicts.",
    "maximize": "ascend instead. Where groups differ in it, a step copies the gradients of those\n"
    "        that ascend.",
    "diagnostics": "measure each step: ``per_parameter`` then has the norms of each parameter's\n"
    "        gradient, update and value before it. It takes two more passes over memory and a\n"
    "        copy of the parameters.",
    "compat": _describe.compat(),
    "**options": _torch_options.DOC,
}
_DOC = """{formula}

The optimizer keeps the states of `onepass.ops.{op}` and counts each parameter's steps.
{kept}
{own}
Raises:
    ValueError: hyper-parameters out of range, empty, duplicate or overlapping parameters.

Source:{source}

Example:{example}
"""
_EXAMPLE = """
    >>> import numpy as np
    >>> from onepass import optim
    >>> p = np.ones(3, np.float32)
    >>> optimizer = optim.{cls}([p], lr=0.1)
    >>> for _ in range(2):
    ...     info = optimizer.step([np.float32([1, 2, 2])], max_norm=1.0)
    >>> info.grad_norm, bool((p < 1).all())
    (3.0, True)
""".rstrip()


class Optimizer(Planned):
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

    _taken = 0  # steps, with those that were skipped: tells whether one that failed was done

    # What a subclass may do otherwise: one launch of the plan, a gradient filled with zeros, and a
    # copy of one with the other sign.
    _take: Callable[..., StepInfo] = staticmethod(take_step)
    _zero = staticmethod(partial(copy_into, value=0.0))
    _negative: Callable[..., Any] = staticmethod(negative)

    def __init_subclass__(cls, *, op: Callable[..., StepInfo] | None = None) -> None:
        super().__init_subclass__()
        cls._name = cls.__name__
        if op is None:
            return  # a subclass of a named optimizer
        kernel = op.__name__.removesuffix("_")
        if "_rule" not in vars(cls):
            cls._rule = RULES[kernel]
        _check_signature(cls, op)
        _follow_defaults(cls, kernel)
        if op.__doc__ is not None:  # python -OO has none
            formula, sections, described = parts(op.__doc__)
            own, _, example = inspect.cleandoc(cls.__doc__ or "").partition("Example:")
            own = f"\n{own.rstrip()}\n" if own else ""
            cls.__doc__ = _DOC.format(
                formula=formula,
                op=op.__name__,
                kept=_describe.kept(cls._rule),
                own=own,
                source=sections["Source"].rstrip(),
                example=example.rstrip() or _EXAMPLE.format(cls=cls.__name__),
            )
            refused, riders = cls._refused_riders(), {}
            if refused != _riders.ALL:
                riders = {"**options": _riders.doc(refused, cls._why_no_riders())}
            compat = {"compat": _describe.compat(kernel)}
            shares({**described, **SHARED_ARGS, **compat, **riders})(cls)

    def __init__(self, params: Parameters, given: Mapping[str, Any]) -> None:
        formula = self._rule.formula(self._name, given["compat"])
        defaults = {key: value for key, value in given.items() if key not in _NO_OPTIONS}
        options = given.get("options", {})
        refused = self._refused_riders()
        _riders.refuse(self._name, options, refused, self._why_no_riders())
        of_groups = {k: v for k, v in _riders.OF_GROUPS.items() if k not in refused}
        of_optimizer = {k: v for k, v in _riders.OF_OPTIMIZER.items() if k not in refused}
        shared = {*of_groups, *of_optimizer}
        other = {key: value for key, value in options.items() if key not in shared}
        _torch_options.check(type(self), other, defaults, [*of_groups, *of_optimizer])
        defaults |= formula
        defaults |= {key: options.get(key, value) for key, value in of_groups.items()}
        self._measures = flag(self._name, "diagnostics", given.get("diagnostics", False))
        self._measured: Measured | None = None
        settings = _riders.settings(self._name, options)
        super().__init__(defaults, group_dicts(self._name, params), settings)

    # ---- stepping

    def step(
        self,
        grads: Sequence[Array | None] | Callable[[], Any] | None = None,
        *,
        max_norm: float | Array | None = None,
        max_value: float | None = None,
        grad_scale: float | Array | None = None,
        zero_grad: bool = False,
        nonfinite: Nonfinite = "propagate",
    ) -> StepInfo:
        """Updates every parameter that has a gradient, in one call.

        Order: divide by ``grad_scale`` → non-finite check → clamp to ±``max_value`` → scale by
        min(1, max_norm/(norm + 1e-6)) → the update.

        On CUDA nothing is waited for, the steps are counted on the device, and the result is copied
        from there when one of its fields is read; only ``nonfinite="raise"`` waits. Every replay of
        a step that a CUDA graph has captured (after one that was not) counts as a step, and has the
        options that the groups have then: ``group["lr"] = x`` takes effect. ``max_norm`` and
        ``grad_scale`` are those of the capture if they are numbers; of arrays on the device each
        replay reads what they hold.

        Args:
            grads: one array or None per parameter, in flat order; without it ``Parameter.grad`` (or
                a tensor's ``.grad``) is read. A parameter without gradient is left alone and its
                step count does not advance, and so is a frozen one, even if it has a gradient. A
                function, PyTorch's closure, is called first, with autograd on; it fills ``.grad``,
                and ``info.loss`` is what it returns.
            max_norm: clip by the global norm; a number, or an array of one beside the parameters on
                a CUDA device, which is read there. A clipped gradient below four of the computing
                type's least normal numbers (5e-38, 9e-308 in float64) may count as zero.
                Subnormal numbers (below 1.2e-38, 2.2e-308 in float64) count as zero in any step,
                and a parameter or state that is one becomes zero.
            max_value: clamp elements first.
            grad_scale: what the loss was multiplied by, likewise.
            zero_grad: forget the gradients of ``Parameter``s, as `zero_grad` does, and leave other
                gradient arrays at zero; on a skipped step too (not where the step raises: they
                show what was wrong).
            nonfinite: "propagate" (IEEE), "skip" (nothing changes) or "raise" (nothing changes,
                then FloatingPointError).

        Returns:
            StepInfo(skipped, grad_norm, nonfinite_param).

        Raises:
            ValueError: wrong number or shape of gradients, options out of range, parameters
                exchanged in ``param_groups``; nothing is changed.
            TypeError: a gradient that is not an array, is sparse (except of SGD, Adagrad and
                SparseAdam) or of another dtype, a parameter whose dtype has changed, or a
                ``zero_grad`` that is not a flag.
            FloatingPointError: with ``nonfinite="raise"``, naming the parameter.
            RuntimeError: another thread uses the optimizer, or trains one of its ``Parameter``s.
        """
        if zero_grad is not False:
            zero_grad = flag(self._name, "zero_grad", zero_grad)
        if type(grads) is not list and callable(grads):
            loss = loss_of(grads)
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
        outer = _stepping.setdefault(me, self)  # whose closure this is in
        if outer is not self:
            _stepping[me] = self
        try:
            return self._step_alone(
                me, grads, max_norm, max_value, grad_scale, zero_grad, nonfinite
            )
        except TypeError:
            self._refuse_changed()
            listed = grads is None or isinstance(grads, Iterable)
            if isinstance(grads, (Mapping, str)) or not listed:
                raise TypeError(
                    f"{self._name}: 'grads' is a {type(grads).__name__}, expected a list with "
                    "an array or None for each parameter"
                ) from None
            raise
        finally:
            if outer is self:
                _stepping.pop(me, None)
            else:
                _stepping[me] = outer
            held.clear()

    def _step_alone(
        self,
        me: int,
        grads: Sequence[Array | None] | None,
        max_norm: float | Array | None,
        max_value: float | None,
        grad_scale: float | Array | None,
        zero_grad: bool,
        nonfinite: Nonfinite,
    ) -> StepInfo:
        """`step` in this thread, ``me``, which has the optimizer to itself."""
        if len(_stepping) > 1 or turns.adding.locked():
            turns.refuse_steps(self)
        shared: Sequence[Parameter] = ()
        if grads is None and (turns.changes != self._changes or me != self._stepper):
            changes = turns.changes
            shared = turns.taken(self._name, self._holders, me)
            self._changes, self._stepper = (-1 if shared else changes), me
        given = self._grads() if grads is None else grads
        plan, seen = self._plan, self._seen
        if self._holders or plan is None or seen is None or not seen.follow(self.param_groups):
            plan = self._prepare()
        frozen = self._frozen() if self._holders or self._of_torch else None
        taken: Sequence[Array | None] = self._without(frozen, given) if frozen else given
        maximize, turned = self._maximize, None
        if maximize is not False and maximize is not True:
            taken, turned = self._ascending(maximize, taken)
            maximize = False
        watch = self._watch(plan, taken) if self._measures else None
        waiting = self._rider_arrays.waiting
        begun = self._rider_arrays.begin(self._arrays, taken) if waiting else ()
        # Before the launch: an interruption may come right after it, and an average that began
        # again would lack this step.
        if begun:
            self._rider_arrays.waiting = waiting - begun
        # Those of Parameters are forgotten below, which takes no pass over memory.
        zeroes = zero_grad and (grads is not None or len(self._holders) < len(given))
        controls = Controls(max_norm, max_value, grad_scale, zeroes, nonfinite, maximize)
        if self._no_capture is not None and is_capturing(self._arrays[0]):
            raise RuntimeError(
                f"{self._name}: a CUDA graph is being captured, which cannot hold a step of "
                f"{self._name}: {self._no_capture}; step outside of the graph"
            )
        try:
            info = self._take(self._name, plan, taken, self._hypers, controls, self._names)
        except BaseException as error:
            if begun and not interrupts(error):
                self._rider_arrays.waiting = waiting
            raise
        self._taken += 1
        if self._captured is not plan and plan.captured:
            self._note_capture(plan)
        if begun and was_skipped(info, nonfinite):
            self._rider_arrays.waiting = waiting
        if watch is not None:
            self._measured = watch.result(grad_scale)
        if shared:
            turns.note_step(shared, me, zeroed=zero_grad)
        if zero_grad:
            self._zero_others(given, grads is None, turned or (), frozen or ())
        return info

    def _ascending(
        self, maximize: Sequence[bool], grads: Sequence[Any]
    ) -> tuple[list[Any], set[int]]:
        """The gradients, negated where groups have ``maximize``, and the positions of those: a
        launch knows one direction."""
        grads, ascends = list(grads), of_parameters(self._own_groups(), maximize)
        pairs = enumerate(zip(ascends, grads, strict=False))
        turned = {i for i, (own, grad) in pairs if own and grad is not None}
        return [self._turned(i, g) if i in turned else g for i, g in enumerate(grads)], turned

    def _zero_others(
        self,
        given: Sequence[Array | None],
        forgets: bool,
        turned: Collection[int],
        frozen: Collection[int],
    ) -> None:
        """``zero_grad`` of the gradients that the launch has not zeroed: of ``Parameter``s, which
        forget them if they were read from there, those of which it had copies, and of frozen
        parameters."""
        if forgets:
            for parameter, _ in self._holders:
                parameter._forget()
        for index in turned:
            self._zero(given[index])
        for parameter, grad in zip(self._parameters, given, strict=True) if frozen else ():
            forgotten = forgets and isinstance(parameter, Parameter)
            if grad is not None and not forgotten and id(parameter) in frozen:
                self._zero(grad)

    def _turned(self, index: int, grad: Any) -> Any:
        like(self._name, f"'grads[{index}]'", grad)
        return self._negative(grad)

    def _watch(self, plan: _C.Plan, grads: Sequence[Any]) -> PlanWatch | ArrayWatch | None:
        return PlanWatch(plan)

    def _watch_arrays(self, grads: Sequence[Array | None]) -> ArrayWatch | None:
        """For a step that is not its plan's alone."""
        try:
            return ArrayWatch(self._arrays, grads)
        except (TypeError, ValueError):
            return None  # the step refuses them, in words of its own

    def _grads(self) -> list[Array | None]:
        try:
            return [p.grad for p in self._parameters]
        except AttributeError:
            without = next(i for i, p in enumerate(self._parameters) if not hasattr(p, "grad"))
            raise TypeError(
                f"{self._name}: 'grads' is None and parameter {without} has no .grad; pass the "
                "gradients: step(grads)"
            ) from None

    def _without(self, frozen: set[int], grads: Sequence[Array | None]) -> list[Array | None]:
        """The gradients, None for a frozen parameter: a step leaves it alone."""
        kept = list(grads)
        for index, parameter in enumerate(self._parameters[: len(kept)]):
            if id(parameter) in frozen:
                kept[index] = None
        return kept

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of ``Parameter``s and tensors, or fills them with zeros.

        A parameter without a new gradient is left alone by the next step.

        Args:
            set_to_none: False fills the gradients with zeros: a step then still decays the
                parameters and moves them by their momentum.

        Raises:
            TypeError: ``set_to_none`` is not a flag.
            RuntimeError: another thread uses the optimizer.
        """
        set_to_none = flag(self._name, "set_to_none", set_to_none)
        with self._alone:
            for parameter in self._parameters:
                if isinstance(parameter, Parameter):
                    parameter.zero_grad(set_to_none)
                elif (grad := getattr(parameter, "grad", None)) is not None:
                    if set_to_none:
                        parameter.grad = None
                    else:
                        self._zero(grad)

    def explain(
        self,
        *,
        max_norm: float | None = None,
        zero_grad: bool = False,
        nonfinite: Nonfinite = "propagate",
        measure: bool = True,
    ) -> StepExplanation:
        """What a step with these options launches and moves, how fast, and why: ``print`` it.

        Every parameter that is not frozen counts as one with a gradient, of its dtype unless a step
        has seen another. Nothing of the optimizer changes.

        Args:
            max_norm, zero_grad, nonfinite: as for `step`, with the gradients of ``.grad``.
            measure: time steps of a copy of the optimizer, on the CPU, and a loop that moves as
                many bytes and computes nothing. Takes memory for the copy, and half a second.

        Returns:
            A dataclass with ``passes``, ``launches``, ``bytes``, ``fused_groups``, ``seconds``,
            ``limit_seconds``, ``share``, ``notes``, ``machine`` (`onepass.config.explain`) and
            more.

        Raises:
            ValueError, TypeError: options out of range; parameters that a step would refuse.
            RuntimeError: another thread uses the optimizer.

        Example:
            >>> import numpy as np
            >>> from onepass import optim
            >>> optimizer = optim.AdamW([np.zeros((100, 10), np.float32), np.zeros(10, np.float32)])
            >>> about = optimizer.explain(max_norm=1.0, measure=False)
            >>> about.launches, about.passes
            (2, {'global_norm': 4040, 'update': 28280})
        """
        controls = described(self._name, max_norm, zero_grad, nonfinite)
        measure = flag(self._name, "measure", measure)
        with self._alone:
            return _explain.explain(self, controls, measure, self._measures)

    @property
    def per_parameter(self) -> PerParameter | None:
        """With ``diagnostics=True``, what the last step did to each parameter; None before one.

        ``grad_norm``, ``update_norm`` and ``param_norm``, a list each. On a device each look waits
        for the step and copies them from there; if a CUDA graph captured the step, they describe
        the last replay.
        """
        return self._measured() if callable(self._measured) else self._measured

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_measured": self.per_parameter, "_changes": -1}

    @property
    def state(self) -> StateView:
        """A parameter → its ``"step"`` and states, read-only; {} before its first gradient."""
        return StateView(self._parameters, lambda: self.state_dict()["state"])

    @property
    def averages(self) -> list[Array | None]:
        """The running averages of the parameters, in flat order; None without ``ema_decay``.

        Each is a copy of its parameter until the first step of that parameter, and of the state's
        dtype. They are the optimizer's own arrays.
        """
        with self._alone:
            self._prepare()
            self._rider_arrays.begin(self._arrays)
            averaged = zip(self._rider_arrays.averages, self._riders.averaged, strict=True)
            return [average if use else None for average, use in averaged]

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Adds parameters with options of their own; their state starts afresh.

        Args:
            group: dict with "params" and any options.

        Raises:
            ValueError: a parameter that is there already, or overlaps one; nothing is changed.
        """
        with self._alone:
            self._add(group)

    # ---- saving

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's layout: {"state": {index: {"step": t, name: array}}, "param_groups": […]}.

        The arrays are the optimizer's own, not copies. Parameters that never had a gradient have no
        entry. With ``state_dtype="int8"`` there are ``name_codes``, of the parameter's shape (uint8
        of averages of squares, int8 of others), and ``name_scale``, a float32 for each 256 of them
        in C order, in place of ``name``.
        """
        with self._alone:
            plan = self._prepare()
            self._rider_arrays.begin(self._arrays)
            states = {**self._shown(), **self._rider_arrays.saved(self._riders)}
            settings = _riders.written(self._settings, self._riders.active)
            return saved(self.param_groups, {**plan.scalars, **states}, plan.steps, settings)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state_dict` (or PyTorch's) gave; values are copied in.

        Args:
            state_dict: of an optimizer of the same kind over parameters of the same shapes.

        Raises:
            ValueError: another number of groups or parameters; missing or misshapen entries, a
                negative average of squares, a number beyond the state's dtype, a count that is
                none, or no count (SGD and Lion do without), a parameter that has changed since
                the states were made; nothing is changed. NaN in an array is taken over, as in
                PyTorch: a run goes on as it was saved.
        """
        with self._alone:
            to_the_end(partial(self._load, state_dict))

    def _load(self, state_dict: Mapping[str, Any]) -> None:
        self._check_parameters()
        self._refuse_changed()
        self._refuse_reshaped()
        state_dict = _codes.decoded(self._name, state_dict)
        reader = self._reader()
        # Those of PyTorch have no riders.
        groups = [
            {**{key: own[key] for key in _riders.OF_GROUPS if key in own}, **group}
            for own, group in zip(self.param_groups, reader.groups(state_dict), strict=True)
        ]
        _, (_, asked), _ = self._derived(groups)
        rides = self._ridden(groups)
        arrays = [self._array_of(p) for p in self._parameters]  # as they are now
        # With what was saved of states that no option asks for now: one may again.
        entries_as_saved = [e for e in state_dict["state"].values() if isinstance(e, Mapping)]
        there = {key for entry in entries_as_saved for key, v in entry.items() if v is not None}
        kept = [state for state in self._rule.states if state.key in {*asked, *there}]
        wanted = tuple(state.key for state in kept)
        self._refuse_storage(arrays, wanted)
        shapes: dict[str, Callable[[Sequence[int]], tuple[int, ...] | None]]
        shapes = {state.key: state.shape for state in kept}
        shapes |= dict.fromkeys(_riders.names(rides), tuple)
        required = self._required(groups, kept, rides, arrays)
        entries = reader.entries(state_dict, groups, shapes, required, self._rule.scalars, arrays)
        for index, entry in entries.items():  # beside their parameters before one is written
            stored = self._storage.number_dtype(self._name, arrays[index])
            for name in shapes.keys() & entry.keys():
                dtype = stored if name in wanted else parameter_dtype(arrays[index])
                entry[name] = reader.placed(name, index, entry[name], arrays[index], dtype)
        self._take_over(self._take_groups(groups), kept, entries, rides)

    def _reader(self) -> Reader:
        """Of a state_dict for this optimizer."""
        return Reader(
            self._name,
            self.param_groups,
            self._names,
            set(self.defaults) - set(_riders.OF_GROUPS),
            self._rule.identity,
            {"maximize", *self._rule.added},  # older files of PyTorch's, and its Muon, have none
            self._rule.compat["torch"],
            self._settings._asdict(),
            self._setting_refusal,
        )

    def _required(
        self,
        groups: Sequence[Mapping[str, Any]],
        kept: Sequence[State],
        rides: _riders.Riders,
        arrays: Sequence[Array],
    ) -> list[set[str]]:
        """What the entry of each parameter must have."""
        required = []
        for i, (group, array) in enumerate(zip(of_parameters(groups), arrays, strict=True)):
            own = {
                state.key
                for state in kept
                if (state.when is None or group[state.when])
                and state.shape(array.shape) is not None
            }
            counts = {"step"} if self._counts_steps(i) else set()
            required.append(own | _riders.required(rides, i) | counts)
        return required

    def _take_over(
        self,
        plan: _C.Plan,
        kept: Sequence[State],
        entries: Mapping[int, Mapping[str, Any]],
        rides: _riders.Riders,
    ) -> None:
        """Writes what `_load` has read and checked."""
        for state in self._rule.states:
            if state not in kept:
                self._states.pop(state.key, None)
            elif state.key not in self._states:
                self._states[state.key] = self._follow(state, self._arrays)
        for state in kept:
            self._begun[state.key] = self._starts(state)
            for index, start in enumerate(self._begun[state.key]):
                held = self._states[state.key][index]
                if held is not None:
                    shape = tuple(self._arrays[index].shape)
                    self._storage.load(state, held, shape, entries.get(index, {}), start)
        self._rider_arrays.load(entries, self._arrays, rides)
        everyone = range(len(self._arrays))
        plan.scalars = {
            name: [entries.get(i, {}).get(name, start) for i in everyone]
            for name, start in self._rule.scalars.items()
        }
        plan.steps = [entries.get(i, {"step": 0})["step"] for i in everyone]
        self._all_started = False

    def _take_groups(self, groups: list[dict[str, Any]]) -> _C.Plan:
        """The plan for the options of ``groups``; where it cannot be made, the old ones stay."""
        before, rides = [dict(group) for group in self.param_groups], copy(self._rider_arrays)
        try:
            with self._groups_together():
                for group, loaded in zip(self.param_groups, groups, strict=True):
                    group.update({key: value for key, value in loaded.items() if key != "params"})
                zeros.adopt(self.param_groups)
                return self._prepare()
        except BaseException:
            with self._groups_together():
                for group, own in zip(self.param_groups, before, strict=True):
                    group.clear()
                    group.update(own)
            self._rider_arrays, self._seen, self._plan_is_current = rides, None, False
            raise

    def _setting_refusal(self, key: str, value: Any) -> str | None:
        """Why the optimizer cannot be made with that value of a setting, as far as it is known."""
        if key != "state_dtype" or value not in _riders.STATE_DTYPES:
            return None
        return self._storage_refusal(value, self._arrays, self._wanted[1])

    def __repr__(self) -> str:
        return _describe.shown(self._name, self.param_groups)


def _check_signature(cls: type[Optimizer], op: Callable[..., StepInfo]) -> None:
    """TypeError for a class whose constructor differs from its function.

    The options are written in both, since no type says "the options of that function, by position
    too, and these"; a generated constructor would be opaque to type checkers and editors.
    """
    where, function = f"{cls.__module__}: {cls.__name__}", f"onepass.ops.{op.__name__}"
    own = inspect.signature(cls).parameters
    for name, option in inspect.signature(op).parameters.items():
        if option.kind is not option.KEYWORD_ONLY or name == "step":
            continue
        written = f"{name}: {option.annotation} = {option.default!r}"
        if name not in own:
            raise TypeError(f"{where}.__init__ lacks '{written}', an option of {function}")
        annotation, default = own[name].annotation, own[name].default
        if (annotation, default) != (option.annotation, option.default):
            raise TypeError(
                f"{where}.__init__ has '{name}: {annotation} = {default!r}', expected '{written}' "
                f"as in {function}"
            )
    kinds = {ALL: "TorchOptions", OF_UPDATES: "StorageOptions", frozenset(): "SharedOptions"}
    fits = f"Unpack[{kinds.get(cls._refused_riders())}]"
    others = {f"Unpack[{kind}]" for kind in kinds.values()} - {fits}
    if "options" in own and own["options"].annotation in others:
        raise TypeError(
            f"{where}.__init__ has '**options: {own['options'].annotation}', expected {fits!r}: "
            "those that ride along its steps"
        )
    switches = {*(cls._rule.options - cls._rule.reads), *cls._rule.switches}
    for name in sorted(switches | {argument.strip("*") for argument in SHARED_ARGS}):
        if name not in own:
            raise TypeError(f"{where}.__init__ lacks {name!r}, expected it as in the other classes")


def _follow_defaults(cls: type[Optimizer], kernel: str) -> None:
    """Gives options that the caller leaves out the defaults of the library in ``compat``."""
    init = cls.__init__
    signature = inspect.signature(init)
    elsewhere = {name: library.defaults for name, library in libraries(kernel).items()}

    @functools.wraps(init)
    def follow(self: Optimizer, *args: Any, **options: Any) -> None:
        compat = options.get("compat")
        if isinstance(compat, str) and compat in elsewhere:
            given = signature.bind_partial(self, *args, **options).arguments
            more = {key: v for key, v in elsewhere[compat].items() if key not in given}
            options = {**more, **options}
        init(self, *args, **options)

    cls.__init__ = follow  # type: ignore[method-assign]


def loss_of(closure: Callable[[], Any]) -> Any:
    """The result of PyTorch's closure, called as PyTorch's optimizers call it."""
    torch = torch_if_imported()
    with torch.enable_grad() if torch is not None else contextlib.nullcontext():
        return closure()
