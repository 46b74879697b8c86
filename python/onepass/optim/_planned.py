"""Keeps parameters, their states and the plan of a step in agreement when groups change."""

from __future__ import annotations

import copy
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from threading import get_ident
from typing import Any, ClassVar

from onepass import _C
from onepass._array import Array, is_capturing, torch_if_imported
from onepass._numbers import is_constant
from onepass._one_thread import OneThread
from onepass._parameter import Parameter, data_of, renewals
from onepass.ops._rule import Launch, OptionRule, State, flag_of_groups
from onepass.optim._codes import storage_of
from onepass.optim._groups import Group, filled, group_numbers, of_parameters
from onepass.optim._riders import ALL, RiderArrays, Riders, Settings, refusal_of, riders
from onepass.optim._states import Owner
from onepass.optim.lr_scheduler import _zeros as zeros

# For each group: its list of parameters, and the list's contents.
Lists = tuple[tuple[list[Any], tuple[Any, ...]], ...]


class ParametersChangedError(ValueError):
    """Groups hold other parameters than those that the states belong to."""


def params_of(group: Any) -> Any:
    """What a group has for parameters, or what stands in its place."""
    return group.get("params", ()) if isinstance(group, Mapping) else group


def is_frozen(parameter: Any) -> bool:
    """Whether a step leaves the parameter alone, even if it has a gradient."""
    torch = torch_if_imported()
    of_torch = torch is not None and isinstance(parameter, torch.nn.Parameter)
    return (of_torch or isinstance(parameter, Parameter)) and not parameter.requires_grad


class Planned:
    """The contents of an optimizer; `_prepare` brings it up to date with the options and arrays.

    Args:
        defaults: options of a group that does not set its own.
        groups: the group dicts.
        settings: options of the whole optimizer.
    """

    _rule: ClassVar[OptionRule]
    _name: ClassVar[str] = "Optimizer"  # of the class, for messages
    steps_by_closure: ClassVar[bool] = False  # whether ``step`` needs a closure
    # Why some of _riders.py are refused, beside what the rule says; and which, where it is not all.
    _no_riders: ClassVar[str | None] = None
    _refused: ClassVar[frozenset[str]] = ALL
    # turns.changes and the thread of the last step that found all gradients to be its own.
    _changes, _stepper = -1, 0
    _of_whole: ClassVar[str | None] = None  # what a step needs whole parameters for, if it does
    _plans: ClassVar[bool] = True  # whether a step runs the plan
    # Why a CUDA graph cannot hold a step, if it cannot.
    _no_capture: ClassVar[str | None] = None
    # What a step is; and for the optimizer of PyTorch's kind that stands on this one whether a
    # saved count of steps is an int, as in PyTorch.
    _work: ClassVar[str] = "one call"
    _counts_in_ints: ClassVar[bool] = False

    def __init__(
        self, defaults: dict[str, Any], groups: Sequence[Mapping[str, Any]], settings: Settings
    ) -> None:
        self._alone = OneThread(self._name)
        self.param_groups: list[dict[str, Any]] = []
        self.defaults: dict[str, Any] = defaults
        self._parameters: list[Any] = []
        self._lists: Lists = ()
        self._names: list[str | None] = []
        self._arrays: list[Array] = []
        self._states: dict[str, list[Array]] = {}
        self._begun: dict[str, list[float]] = {}  # where those that follow an option have started
        self._plan: _C.Plan | None = None
        self._plan_is_current = False  # it is for this kernel and these parameters
        self._option_names = tuple(defaults)
        # What the groups hold. While they do, and no Parameter has another array, the plan is
        # current. None: the next step looks at all groups.
        self._seen: _C.GroupRows | None = None
        self._all_started = False  # every parameter has had a gradient
        self._hypers: Sequence[tuple[float, ...]] = []  # those in _seen, where it is there
        self._wanted: Launch = ("", ())
        self._maximize: bool | tuple[bool, ...] = False  # a tuple: for each group
        self._settings = settings
        self._storage = storage_of(settings.state_dtype)
        self._riders = Riders((), (), ())
        self._rider_arrays = RiderArrays()
        self._captured: _C.Plan | None = None  # the one of which a CUDA graph holds a step
        self._renewals = renewals.count  # of the values that the averages follow
        self._shapes: list[tuple[int, ...]] = []  # of the parameters that the plan was made for
        self._holders: list[tuple[Parameter, Array]] = []  # parameters whose array may be replaced
        self._of_torch: list[Any] = []  # of torch.nn.Parameter, which may be frozen too
        for group in groups:
            self._append(group)
        self._prepare()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the plan, which holds addresses: for pickle and copy."""
        assert self._plan is not None
        state = {
            **self.__dict__,
            "_plan": None,
            "_holders": [],
            "_seen": None,
            "_captured": None,
            "_hypers": [*self._hypers],
        }
        return {**state, "_counts": (self._plan.steps, self._plan.scalars)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        zeros.adopt(self.param_groups)
        self._renewals = renewals.count
        steps, scalars = self.__dict__.pop("_counts")
        self._plan = self._replan(*self._wanted)
        self._plan.steps, self._plan.scalars = steps, scalars

    def _twin(self) -> Any:
        """A copy over copies of the parameters and states, for steps that nobody is to see."""
        return copy.deepcopy(self)

    def _add(self, group: Mapping[str, Any]) -> None:
        self._check_parameters()
        before, plan = len(self._parameters), self._plan
        self._append(group)
        try:
            self._prepare()
        except (TypeError, ValueError):
            del self.param_groups[-1]
            self._lists = self._lists[:-1]
            for entries in (
                self._parameters,
                self._names,
                self._arrays,
                self._shapes,
                *self._states.values(),
                *self._begun.values(),
            ):
                del entries[before:]
            self._rider_arrays.drop(before)
            # The old plan has the counts; options changed before may ask for another one.
            self._plan, self._plan_is_current, self._seen = plan, False, None
            raise

    def _append(self, group: Mapping[str, Any]) -> None:
        options, names = self._filled(group)
        self._rule.of_group(self._name, options)
        for index, parameter in enumerate(options["params"], len(self._parameters)):
            if getattr(getattr(parameter, "device", None), "type", None) == "meta":
                raise ValueError(
                    f"{self._name}: parameter {index} is on the device 'meta', expected one with "
                    "memory: give it some before, by model.to_empty(device=...)"
                )
        self.param_groups.append(options)
        self._names += names
        self._parameters += options["params"]
        self._lists += ((options["params"], tuple(options["params"])),)
        self._arrays += map(self._array_of, options["params"])
        self._plan_is_current = self._all_started = False
        self._seen = None

    def _filled(self, group: Mapping[str, Any]) -> tuple[dict[str, Any], list[str | None]]:
        """The dict that stands for ``group`` in ``param_groups``, and its parameters' names."""
        return filled(self._name, group, self.defaults)

    def _array_of(self, parameter: Any) -> Array:
        """The arrays that a step writes to for ``parameter``."""
        return data_of(parameter)

    @classmethod
    def _why_no_riders(cls) -> str | None:
        """Why some of _riders.py are refused; None: none is."""
        return refusal_of(cls._rule) or cls._no_riders

    @classmethod
    def _refused_riders(cls) -> frozenset[str]:
        if refusal_of(cls._rule) is not None:
            return ALL
        return frozenset() if cls._no_riders is None else cls._refused

    def _saved_as(self, index: int, key: str) -> str | None:
        """The name of a state in the entry of parameter ``index``; None: it is not shown there."""
        return key

    def _counts_steps(self, index: int) -> bool:
        """Whether the entry of parameter ``index`` must have its count of steps."""
        return self._rule.counted

    def _shown(self) -> dict[str, list[Any]]:
        """The states as a state_dict has them, with those that no option asks for any more: it may
        again, and PyTorch keeps them too."""
        shown: dict[str, list[Any]] = {}
        for state in self._rule.states:
            if (held := self._states.get(state.key)) is not None:
                shown |= self._storage.shown(state, held, self._shapes)
        return shown

    def _kept(self) -> dict[str, list[Array]]:
        """The states that the options ask for, by name."""
        return {state.key: held for state, held in self._kept_states()}

    def _kept_states(self) -> list[tuple[State, list[Array]]]:
        wanted = self._wanted[1]
        return [(s, self._states[s.key]) for s in self._rule.states if s.key in wanted]

    def _is_held(self, state: State) -> bool:
        """Whether there is something in the state, though no option may ask for it now."""
        return state.key in self._states

    def _prepare(self) -> _C.Plan:
        """The plan of a step: rebuilt when the kernel or an array has changed."""
        seen = self._seen
        follows = seen is not None and seen.follow(self.param_groups)
        if not follows:
            self._seen = None
            seen = self._look()
        for parameter, array in self._holders:
            if parameter.data is not array:
                self._plan_is_current = False
        if renewals.count != self._renewals:
            self._restart_averages()
        if self._plan is None or not self._plan_is_current:
            self._plan = self._replan(*self._wanted)
        if not follows:
            self._set_stages(self._plan)
            self._seen = seen
            self._hypers = self._hypers if seen is None else seen
        return self._plan

    def _restart_averages(self) -> None:
        """Parameters got other values, such as saved ones, of which averages are to be made."""
        self._rider_arrays.waiting |= {
            index
            for index, (p, use) in enumerate(
                zip(self._parameters, self._riders.averaged, strict=False)
            )
            if use and getattr(p, "_renewed", 0) > self._renewals
        }
        self._renewals = renewals.count

    def _look(self) -> _C.GroupRows | None:
        """Takes over what follows from the options of all groups.

        Returns:
            What tells later that nothing has changed; None where nothing can: a list or an array
            may get other contents and stay the same object.
        """
        now = self._check_parameters()
        groups = self._own_groups(now)
        maximize, wanted, hypers = self._derived(groups)
        self._accept(hypers)
        rides = self._ridden(groups)
        same = self._wanted == wanted and self._riders.arrays == rides.arrays
        self._plan_is_current = self._plan_is_current and same
        self._maximize, self._wanted, self._hypers = maximize, wanted, hypers
        self._riders = rides
        if self._rule.starts_follow:
            self._restart()
        # A new value of this one changes the first hyper-parameter and nothing else.
        span = self._rule.lr_leads
        leads = span is not None and all(type(group["lr"]) is float for group in groups)
        rate = "lr" if leads else None
        keys = tuple(key for key in self._option_names if key != rate)
        if not all(is_constant(group[key]) for group in groups for key in keys):
            return None
        seen = _C.GroupRows(now, rate, keys, hypers, *(span or (0.0, 0.0)))
        # What another thread has changed meanwhile is for the next step to look at.
        return seen if self._are_as(groups, keys) else None

    def _derived(
        self, groups: list[dict[str, Any]]
    ) -> tuple[bool | tuple[bool, ...], Launch, list[tuple[float, ...]]]:
        """Checked: whether to maximize, the kernel with its states, each group's hypers."""
        maximize = flag_of_groups(self._name, "maximize", groups)
        hypers = [self._rule.of_group(self._name, group) for group in groups]
        return maximize, self._rule.launch(self._name, groups), hypers

    def _accept(self, hypers: list[tuple[float, ...]]) -> None:
        """ValueError where the states cannot go on with these."""

    def _ridden(self, groups: list[dict[str, Any]]) -> Riders:
        """Checked: what rides along."""
        arrays = [self._array_of(p) for p in self._parameters]
        if self._refused_riders() == ALL:
            return Riders((), (False,) * len(arrays), (False,) * len(arrays))
        return riders(self._name, groups, arrays, self._settings)

    def _restart(self) -> None:
        """A start that depends on options follows them until a parameter's first gradient."""
        if self._plan is None or self._all_started:
            return
        steps = self._plan.steps  # on a device this waits; once all have started, never again
        self._all_started = len(steps) == len(self._parameters) and all(steps)
        for state in self._rule.states:
            if not isinstance(state.start, str) or state.key not in self._states:
                continue
            begun = self._begun[state.key]
            for index, (start, step) in enumerate(zip(self._starts(state), steps, strict=False)):
                if step == 0 and begun[index] != start:  # else an edit of it would be lost
                    begun[index] = start
                    shape = tuple(self._arrays[index].shape)
                    self._storage.put(state, self._states[state.key][index], shape, start)

    def _replan(self, kernel: str, names: tuple[str | None, ...]) -> _C.Plan:
        self._refuse_changed()
        arrays = [self._array_of(p) for p in self._parameters]
        self._refuse_storage(arrays, names)
        for state in self._rule.states:
            if state.key in names or self._is_held(state):
                self._states[state.key] = self._follow(state, arrays)
                begun = self._begun.setdefault(state.key, [])
                begun += self._starts(state)[len(begun) :]
        self._arrays = arrays
        self._rider_arrays.follow(arrays, self._riders)
        plan = self._new_plan(kernel, names)
        self._set_stages(plan)
        if self._plan is not None:
            old, scalars = self._plan.steps, plan.scalars
            for name, values in self._plan.scalars.items():
                scalars[name][: len(old)] = values
            plan.steps, plan.scalars = old + [0] * (len(arrays) - len(old)), scalars
        self._shapes = [tuple(a.shape) for a in arrays]
        self._plan_is_current = True
        self._changes = -1
        self._holders = [
            (p, a)
            for p, a in zip(self._parameters, arrays, strict=True)
            if isinstance(p, Parameter)
        ]
        if (torch := torch_if_imported()) is not None:
            kind = torch.nn.Parameter
            self._of_torch = [p for p in self._parameters if isinstance(p, kind)]
        return plan

    def _follow(self, state: State, arrays: list[Array]) -> list[Array]:
        """A state for each parameter: those held, brought to where it lies, and new ones."""
        held = self._states.get(state.key, [])
        return self._storage.follow(self._name, state, arrays, held, self._starts(state))

    def _refuse_storage(self, arrays: Sequence[Array], names: Sequence[str | None]) -> None:
        """ValueError where states of these names are not stored as the options say."""
        why = self._storage_refusal(self._settings.state_dtype, arrays, names)
        if why is not None:
            raise ValueError(
                f"{self._name}: 'state_dtype' is {self._settings.state_dtype!r}, {why}"
            )

    def _storage_refusal(
        self, wanted: str | None, arrays: Sequence[Array], names: Sequence[str | None]
    ) -> str | None:
        """Why such states of these parameters are not stored as ``wanted`` says."""
        states = [state for state in self._rule.states if state.key in names]
        return storage_of(wanted).refusal(states, arrays)

    def _refuse_changed(self) -> None:
        """An error for a parameter that no longer fits the states that it has."""
        arrays = [self._array_of(p) for p in self._parameters]
        owner = Owner(self._name, self._names)
        self._storage.refuse_changed(owner, self._states, self._shapes, arrays)

    def _refuse_reshaped(self) -> None:
        """ValueError for a parameter of another shape than its states: a step's plan refuses it."""
        arrays = [self._array_of(p) for p in self._parameters]
        Owner(self._name, self._names).check_shapes(arrays, self._shapes)

    def _check_parameters(self) -> list[dict[str, Any]]:
        """Others would be trained in silence by no step, or their states be those of others.

        Returns:
            The groups that it has compared: another thread may change the list at any time.
        """
        given, held = self.param_groups, self._lists
        groups = list(given) if isinstance(given, (list, tuple)) else [given]
        if self._lists_are_same(groups):
            self._check_options(groups)
            return groups
        lists = [params_of(group) for group in groups]
        # Another thread may change the lists while they are compared.
        seen = [tuple(params) if isinstance(params, (list, tuple)) else params for params in lists]
        now = [len(params) if isinstance(params, tuple) else params for params in seen]
        before = [len(own) for _, own in held]
        what = f"groups of {now} parameters, expected {before}"
        if all(isinstance(params, tuple) for params in seen) and now == before:
            others = [
                f"'params' of group {number} has another parameter at {index}"
                for number, (params, (_, own)) in enumerate(zip(seen, held, strict=True))
                for index, (new, old) in enumerate(zip(params, own, strict=True))
                if new is not old
            ]
            are_dicts = all(isinstance(group, dict) for group in groups)
            are_lists = all(isinstance(params, list) for params in lists)
            if not others and are_dicts and are_lists:
                # Other lists of the same parameters.
                self._lists = tuple(zip(lists, seen, strict=True))
                self._check_options(groups)
                return groups
            kind = "a group's 'params' is not a list" if are_dicts else "a group is not a dict"
            what = others[0] if others else kind
            what += ", expected those that the optimizer was made with"
        raise ParametersChangedError(
            f"{self._name}: 'param_groups' was changed: {what}; use add_param_group for more "
            "parameters, or make a new optimizer"
        )

    def _lists_are_same(self, groups: Sequence[Any]) -> bool:
        lists = self._lists
        return len(groups) == len(lists) and all(
            isinstance(group, dict)
            and group.get("params") is held
            and len(held) == len(own)
            and all(map(operator.is_, held, own))
            for group, (held, own) in zip(groups, lists, strict=True)
        )

    def _groups_now(self) -> list[dict[str, Any]]:
        """As many as there are lists of parameters, or `ParametersChangedError`."""
        while len(groups := list(self.param_groups)) != len(self._lists):
            self._check_parameters()
        return groups

    def _own_groups(self, now: Sequence[Mapping[str, Any]] | None = None) -> list[dict[str, Any]]:
        """The groups with the parameters that the optimizer was made with: another thread may
        change their lists at any time, and a step is for all of these."""
        pairs = zip(self._groups_now() if now is None else now, self._lists, strict=True)
        return [{**group, "params": own} for group, (_, own) in pairs]

    def _are_as(self, groups: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> bool:
        """Whether the parameters and these options are still those of ``groups``."""
        now = list(self.param_groups)
        return self._lists_are_same(now) and all(
            own.get(key) is group[key]
            for own, group in zip(now, groups, strict=True)
            for key in keys
        )

    def _check_options(self, groups: Sequence[Mapping[str, Any]]) -> None:
        for number, group in enumerate(groups):
            if not self.defaults.keys() <= group.keys():
                lost = ", ".join(repr(key) for key in self.defaults if key not in group)
                raise ValueError(
                    f"{self._name}: 'param_groups' was changed: group {number} has no {lost}, "
                    "expected every option; assign a value instead of deleting one"
                )

    def _new_plan(self, kernel: str, names: tuple[str | None, ...]) -> _C.Plan:
        """A plan over the arrays and states as they are, which has counted nothing."""
        groups = group_numbers(self._own_groups())
        states = [None if name is None else self._states[name] for name in names]
        stages = self._rider_arrays.stages(self._riders)
        return _C.Plan(kernel, self._arrays, states, groups, None, stages, self._name)

    def _set_stages(self, plan: _C.Plan) -> None:
        if self._riders.active:
            rates = [group["lr"] for group in self._groups_now()]
            plan.set_stages(self._riders.rows, rates, self._settings.seed)

    def _starts(self, state: State) -> list[float]:
        """The value of a state before each parameter's first gradient."""
        groups = self._own_groups()
        return of_parameters(groups, [self._rule.start(self._name, state, g) for g in groups])

    # ---- in a CUDA graph

    def _note_capture(self, plan: _C.Plan) -> None:
        """From now on the replays of a step that was captured follow the options of the groups."""
        for number, group in enumerate(self.param_groups):
            if not isinstance(group, Group):
                raise RuntimeError(
                    f"{self._name}: param_groups[{number}] is a {type(group).__name__} of your "
                    "own, of whose changes the replays of a CUDA graph would learn nothing: use "
                    "add_param_group, or assign to the groups that are there"
                )
            for key in self._option_names:
                if not is_constant(group[key]):
                    raise RuntimeError(
                        f"{self._name}: {key!r} of group {number} is a "
                        f"{type(group[key]).__name__}, of whose changes the replays of a CUDA "
                        f"graph would learn nothing, expected a number: group[{key!r}] = x takes "
                        "effect in them"
                    )
        for group in self.param_groups:
            assert isinstance(group, Group)
            group.changed = self._renew
        self._captured = plan

    @contextmanager
    def _groups_together(self) -> Iterator[None]:
        """Inside, several groups change, of which one alone may be refused."""
        captured, self._captured = self._captured, None
        try:
            yield
        finally:
            self._captured = captured
        self._renew()

    def _renew(self) -> None:
        """Gives the replays of a captured step the options as they are now."""
        plan = self._captured
        if plan is None:
            return
        if is_capturing(self._arrays[0]):
            raise RuntimeError(
                f"{self._name}: an option of a group is changed while a CUDA graph is captured, "
                "and each replay would set it again: change it before, or between replays"
            )
        inside = self._alone.held.get("by") == get_ident()  # of a call that changes a group itself
        with nullcontext() if inside else self._alone:
            turns = self._maximize
            if self._prepare() is plan and self._maximize == turns:
                plan.renew(self._hypers)
                return
        warnings.warn(
            f"{self._name}: a CUDA graph holds a step with other options than the groups have now, "
            "which replays cannot follow: a state came or went, or the direction changed; capture "
            "the step anew",
            RuntimeWarning,
            stacklevel=5,
        )

    def _frozen(self) -> set[int]:
        """The ids of the parameters that `is_frozen` holds for, of those that may be."""
        frozen = {id(p) for p, _ in self._holders if not p.requires_grad}
        if self._of_torch:
            frozen |= {id(p) for p in self._of_torch if not p.requires_grad}
        return frozen
