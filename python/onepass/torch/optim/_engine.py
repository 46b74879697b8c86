"""The optimizer of ``onepass.optim`` behind one of PyTorch's kind: it works on the same groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from onepass import _C, optim
from onepass._array import Array
from onepass.ops._rule import State
from onepass.optim._groups import Group, group_numbers
from onepass.optim._per_parameter import with_larger_gradients
from onepass.optim._planned import is_frozen
from onepass.optim._riders import written

Entry = dict[str, Any]
Groups = list[dict[str, Any]]


class Engine(optim.Optimizer):
    """Mixed into a class of ``onepass.optim`` by `engine_of`.

    Args:
        groups: those of the front, which stay its own: a change of an option takes effect here.
        options: of the constructor.
        entries: for each parameter what ``state`` holds of it; tensors that fit become the
            engine's own.
        begun: `Engine.begun` of the engine that those come from.

    Attributes:
        parameters: in flat order.
        group_numbers: the group of each.
        dormant: positions of parameters that need no state yet: they were frozen from the start.
        asked: for each option that asks for a state whether each group has it on.
    """

    OWN: ClassVar[frozenset[str]]  # names of this class that no optimizer of onepass.optim has

    def __init__(
        self,
        groups: Groups,
        options: Mapping[str, Any],
        entries: Sequence[Entry],
        begun: Mapping[int, Mapping[str, float]],
    ) -> None:
        self.group_numbers = group_numbers(groups)
        self.parameters = [p for group in groups for p in group["params"]]
        self.dormant = {i for i, own in enumerate(self._dormant_at_first(entries)) if own}
        self._dormant_ids = {id(self.parameters[i]) for i in self.dormant}
        self._entries = entries
        # DTensors, with the parts of them that lie here.
        self._parts: list[tuple[Any, Array]] = []
        super().__init__(groups, **options)
        self.param_groups = groups
        self._lists = tuple((g["params"], tuple(g["params"])) for g in groups)
        for key, starts in self._begun.items():
            for i, p in enumerate(self.parameters):
                starts[i] = begun.get(id(p), {}).get(key, starts[i])
        self._entries = ()

    def _dormant_at_first(self, entries: Sequence[Entry]) -> list[bool]:
        """Whether each parameter is frozen and has never had a state."""
        return [
            is_frozen(p) and p.grad is None and not entry
            for p, entry in zip(self.parameters, entries, strict=True)
        ]

    # ---- what the optimizer asks

    def _filled(self, group: Mapping[str, Any]) -> tuple[dict[str, Any], list[str | None]]:
        assert isinstance(group, dict)
        return group, list(group.get("param_names", [None] * len(group["params"])))

    def _array_of(self, parameter: Any) -> Array:
        if id(parameter) in self._dormant_ids:
            return torch.empty(0, dtype=parameter.dtype, device=parameter.device)
        return part_of(self._name, parameter)

    def _replan(self, kernel: str, names: tuple[str | None, ...]) -> _C.Plan:
        self._find_parts()
        return super()._replan(kernel, names)

    def _note_capture(self, plan: _C.Plan) -> None:
        # Not before: torch.compile can trace a step over plain dicts alone.
        self.param_groups[:] = [Group(group) for group in self.param_groups]
        super()._note_capture(plan)

    def _is_held(self, state: State) -> bool:
        if self._plan is not None:
            return super()._is_held(state)
        entries = enumerate(self._entries)
        return any(
            entry.get(self._saved_as(i, state.key) or "") is not None for i, entry in entries
        )

    def _look(self) -> _C.GroupRows | None:
        self._refuse_parts()
        seen = super()._look()
        options = [state.when for state in self._rule.states if state.when is not None]
        self.asked = [bool(group[option]) for option in options for group in self.param_groups]
        return seen

    def _find_parts(self) -> None:
        """Which parameters lie here in part, as far as a step can do with parts."""
        pairs = [(p, self._array_of(p)) for p in self.parameters]
        self._parts = [(p, a) for p, a in pairs if a is not p and id(p) not in self._dormant_ids]
        self._refuse_parts()

    def _refuse_parts(self) -> None:
        """TypeError where a parameter lies here in part and a step needs the whole one: it would
        differ from rank to rank."""
        shards = [p for p, part in self._parts if tuple(p.shape) != tuple(part.shape)]
        if not shards:
            return
        ridden = [
            name
            for group in self.param_groups
            for name in ("max_weight_norm", "noise")
            if group.get(name)
        ] + ["stochastic_rounding"] * self._settings.stochastic_rounding
        ridden += ["diagnostics"] * self._measures
        what = "norms of whole parameters" if self._rule.norms else self._of_whole
        if what is not None or ridden:
            what = what or ", ".join(sorted(set(ridden)))
            raise TypeError(
                f"{self._name}: a parameter of shape {tuple(shards[0].shape)} is a DTensor of "
                f"which a part lies here, expected whole parameters for {what}; use an "
                "optimizer that treats each element by itself, without them"
            )

    def _storage_refusal(
        self, wanted: str | None, arrays: Sequence[Array], names: Sequence[str | None]
    ) -> str | None:
        if wanted == "int8":
            return (
                "expected None or 'bfloat16', since .state holds tensors of the parameters' "
                f"shapes; onepass.optim.{self._name} steps these tensors with states of 8 bits, "
                "and loads them"
            )
        return super()._storage_refusal(wanted, arrays, names)

    def _follow(self, state: State, arrays: list[Array]) -> list[Array]:
        if self._plan is not None:
            return super()._follow(state, arrays)
        # At first: what the entries hold where it fits, else new.
        held = [
            part_of(self._name, entry.get(self._saved_as(i, state.key) or ""))
            for i, entry in enumerate(self._entries)
        ]
        fits = [
            adoptable(part, array, state.shape(array.shape))
            for part, array in zip(held, arrays, strict=True)
        ]
        made = self._new(state, arrays, [i for i, fit in enumerate(fits) if not fit])
        dtypes = [self._storage.dtype(self._name, array) for array in arrays]
        other = [i for i, dtype in enumerate(dtypes) if fits[i] and held[i].dtype != dtype]
        more = self._new(state, arrays, other)
        for i, fit in enumerate(fits):
            if fit:
                made[i] = more[i] if i in other else held[i]
        return made

    def _twin(self) -> Any:
        groups = [
            {**group, "params": [p.detach().clone() for p in group["params"]]}
            for group in self.param_groups
        ]
        options = {**written(self._settings, False), "diagnostics": self._measures}
        return type(self)(groups, options, [{} for _ in self.parameters], {})

    def _new(self, state: State, arrays: list[Array], indices: Sequence[int]) -> list[Array]:
        """New states where ``indices`` say, elsewhere empty ones of the same dtype."""
        wanted, kept = set(indices), self._states.pop(state.key, None)
        stand_ins = [
            a if i in wanted else torch.empty(0, dtype=a.dtype, device=a.device)
            for i, a in enumerate(arrays)
        ]
        try:
            return super()._follow(state, stand_ins)
        finally:
            if kept is not None:
                self._states[state.key] = kept

    # ---- what the front asks

    @property
    def plan(self) -> _C.Plan:
        """Up to date with the groups and arrays."""
        return self._prepare()

    def bring_up_to_date(self) -> None:
        """Takes over changes of the groups and arrays before a step does."""
        self._prepare()

    @property
    def current_plan(self) -> _C.Plan | None:
        """As the last step left it."""
        return self._plan

    @property
    def arrays(self) -> Sequence[Array]:
        return self._arrays

    def shown_as(self, index: int, key: str) -> str | None:
        """The name of a state in the entry of parameter ``index``; None: it is not shown."""
        return self._saved_as(index, key)

    def keys(self, index: int) -> dict[str, str]:
        """The states that parameter ``index`` has, by the options of its group: its name in an
        entry → its key."""
        group = self.param_groups[self.group_numbers[index]]
        states = [state for state in self._rule.states if state.key in self._wanted[1]]
        held = [
            state.key
            for state in states
            if (state.when is None or group[state.when])
            and self._states[state.key][index] is not None
        ]
        named = {self._saved_as(index, key): key for key in held}
        return {name: key for name, key in named.items() if name is not None}

    def idle(self, index: int) -> dict[str, Array]:
        """States of parameter ``index`` that its group does not ask for now, by their names in an
        entry."""
        asked, found = {*self.keys(index).values()}, {}
        for key, held in self._states.items():
            name = self._saved_as(index, key)
            if key not in asked and name is not None and held[index] is not None:
                found[name] = held[index]
        return found

    @property
    def states(self) -> dict[str, list[Array]]:
        return self._kept()

    @property
    def settings(self) -> dict[str, Any]:
        """Options of the whole optimizer that a state_dict says."""
        return written(self._settings, self._riders.active)

    @property
    def scalar_starts(self) -> dict[str, float]:
        return dict(self._rule.scalars)

    @property
    def averages(self) -> list[Array | None]:
        found = super().averages
        for i in self.dormant:
            if (stand_in := found[i]) is not None:
                part = part_of(self._name, self.parameters[i]).detach()
                found[i] = part.to(stand_in.dtype, copy=True)
        return found

    def counted(self, index: int) -> bool:
        """Whether the states of parameter ``index`` mean nothing without its count of steps."""
        return self._counts_steps(index)

    def shows_count(self, index: int) -> bool:
        """Whether ``state`` shows that count: noise, random roundings and averages follow it too,
        and a distributed checkpoint steps an optimizer whose ``state`` is empty."""
        return self._riders.active or self._counts_steps(index)

    def further(self, everyone: bool = False) -> dict[int, Entry]:
        """Values of riders beside the states, by the id of the parameter: running averages and
        master copies; of parameters that have taken a step, or of everyone."""
        if self.fits():  # else as the last step left them
            self._prepare()
        assert self._plan is not None
        steps = self._plan.steps
        self._rider_arrays.begin(self._arrays)
        saved = self._rider_arrays.saved(self._riders)
        found: dict[int, Entry] = {}
        for i, (p, count) in enumerate(zip(self.parameters, steps, strict=True)):
            if i in self.dormant or not (count or everyone):
                continue
            arrays = {key: held[i] for key, held in saved.items()}
            own = {key: shown_as(p, a) for key, a in arrays.items() if a is not None}
            if own:
                found[id(p)] = own
        return found

    def fits(self) -> bool:
        """Whether the groups hold the parameters that the engine was made for."""
        return self._lists_are_same(list(self.param_groups))

    def gradients(self, given: list[Array | None] | None = None) -> list[Array | None]:
        """The gradients, None where there is none, of DTensors the part that lies here.

        Args:
            given: of a compiled graph, in place of ``.grad``.
        """
        grads = [p.grad for p in self.parameters] if given is None else given
        for part in self._parts:
            if part_of(self._name, part[0]) is not part[1]:
                self._plan_is_current, self._seen = False, None
        if self._parts:
            grads = [
                None if grad is None else _part_of_grad(self._name, p, grad)
                for p, grad in zip(self.parameters, grads, strict=True)
            ]
        if self.dormant:
            ready = [i for i in self.dormant if grads[i] is not None]
            self.wake([i for i in ready if not is_frozen(self.parameters[i])])
            for i in self.dormant:
                grads[i] = None
        return grads

    @property
    def begun(self) -> dict[int, dict[str, float]]:
        """The first values of each parameter's states, by its id."""
        return {
            id(p): {key: starts[i] for key, starts in self._begun.items()}
            for i, p in enumerate(self.parameters)
        }

    def follow_starts(self) -> None:
        """States of parameters without a step, whose start has changed, start anew."""
        if self._rule.starts_follow:
            self._restart()

    def restore(self, further: Mapping[int, Entry]) -> None:
        """Takes over what `further` of another engine gave."""
        self._prepare()
        ids = [id(p) for p in self.parameters]
        entries = {
            i: {name: part_of(self._name, value) for name, value in further[key].items()}
            for i, key in enumerate(ids)
            if key in further
        }
        self._rider_arrays.load(entries, self._arrays, self._riders)

    def zero(self, grads: Sequence[Array | None]) -> None:
        """Leaves gradients at zero."""
        for grad in grads:
            if grad is not None:
                self._zero(grad)

    def wake(self, indices: Sequence[int]) -> None:
        """Parameters that were frozen from the start are to be trained."""
        for i in indices:
            self.dormant.discard(i)
            self._dormant_ids.discard(id(self.parameters[i]))
        if indices:
            self.restart(indices)
            self._prepare()

    def sleep(self, indices: Sequence[int]) -> None:
        """Takes back what `wake` did."""
        self.dormant.update(indices)
        self._dormant_ids.update(id(self.parameters[i]) for i in indices)
        if indices:
            self.restart(indices)
            self._prepare()

    def restart(self, indices: Sequence[int]) -> None:
        """Gives parameters new states, as before their first gradients; others may hold the old."""
        arrays = [self._array_of(p) for p in self.parameters]
        for state in self._rule.states:
            if state.key in self._states:
                new = self._new(state, arrays, indices)
                starts = self._starts(state)
                for i in indices:
                    self._states[state.key][i] = new[i]
                    self._begun[state.key][i] = starts[i]
        self._rider_arrays.restart(indices)
        self.renew()

    def put(self, key: str, index: int, array: Array) -> None:
        """An array to keep a state in; call `renew` afterwards."""
        self._states[key][index] = array

    def unclip(self, factor: float) -> None:
        """The gradients of the last step were divided by ``factor`` to clip them: their norms are
        those before that."""
        if self._measured is not None:
            self._measured = with_larger_gradients(self._measured, factor)

    def mark_written(self, grads: Sequence[Array | None]) -> None:
        """Tells autograd that DTensors were written; of other tensors the step tells it."""
        if self._parts:
            pairs = zip(self.parameters, grads, strict=True)
            written = [p for p, grad in pairs if grad is not None and hasattr(p, "to_local")]
            torch.autograd.graph.increment_version(written)

    def renew(self) -> None:
        """The next step looks at all arrays afresh."""
        self._plan_is_current, self._seen = False, None


Engine.OWN = frozenset(
    {*vars(Engine), "parameters", "group_numbers", "dormant", "asked"} - {"averages"}
)


def engine_of(cls: type[optim.Optimizer], base: type[Engine] = Engine) -> type[Engine]:
    return type(cls.__name__, (base, cls), {"__doc__": None})


def part_of(owner: str, tensor: Any) -> Any:
    """The part of a DTensor that lies here; any other tensor itself.

    Raises:
        TypeError: a tensor that has no memory of its own.
    """
    to_local = getattr(tensor, "to_local", None)
    if to_local is not None:
        with torch.no_grad():
            return to_local()
    if hasattr(tensor, "__tensor_flatten__"):
        raise TypeError(
            f"{owner}: a parameter or state is a {type(tensor).__name__}, expected a dense tensor "
            "or a DTensor"
        )
    return tensor


def shown_as(parameter: Any, part: Array | None) -> Array | None:
    """A state as the user sees it: beside a DTensor a DTensor, on the same memory."""
    if part is None or not hasattr(parameter, "to_local"):
        return part
    # One of rows or columns is there for whole parameters alone.
    like = parameter if part.shape == parameter.to_local().shape else part
    return type(parameter.data).from_local(
        part,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )


def adoptable(value: Any, array: Array, shape: tuple[int, ...] | None) -> bool:
    """Whether a tensor can serve as a state of that shape where it is, if its dtype does."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.shape == shape
        and value.device == array.device
        and not value.requires_grad
    )


def _part_of_grad(owner: str, parameter: Any, grad: Any) -> Array:
    placed = getattr(parameter, "placements", None)
    if placed is not None and getattr(grad, "placements", placed) != placed:
        grad = grad.redistribute(placements=placed)
    return part_of(owner, grad)
