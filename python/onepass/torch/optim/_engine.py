"""The optimizer of ``onepass.optim`` behind one of PyTorch's kind: it works on the same groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from onepass import _C, optim
from onepass._array import Array
from onepass.ops._rule import State

Entry = dict[str, Any]
Groups = list[dict[str, Any]]


class Engine(optim.Optimizer):
    """Mixed into a class of ``onepass.optim`` by `engine_of`.

    Args:
        groups: those of the front, which stay its own: a change of an option takes effect here.
        options: of the constructor.
        entries: for each parameter what ``state`` holds of it; tensors that fit become the
            engine's own.

    Attributes:
        parameters: in flat order.
        group_numbers: the group of each.
        dormant: positions of parameters that need no state yet: they were frozen from the start.
    """

    OWN: ClassVar[frozenset[str]]  # names of this class that no optimizer of onepass.optim has

    def __init__(
        self, groups: Groups, options: Mapping[str, Any], entries: Sequence[Entry]
    ) -> None:
        self.group_numbers = [n for n, group in enumerate(groups) for _ in group["params"]]
        self.parameters = [p for group in groups for p in group["params"]]
        sleeping = [
            _frozen(p) and p.grad is None and not entry
            for p, entry in zip(self.parameters, entries, strict=True)
        ]
        self.dormant = {i for i, sleeps in enumerate(sleeping) if sleeps}
        self._asleep = {id(self.parameters[i]) for i in self.dormant}
        self._entries = entries
        # DTensors, with the parts of them that lie here.
        self._parts: list[tuple[Any, Array]] = []
        super().__init__(groups, **options)
        self.param_groups = groups
        self._lists = tuple(((), g["params"], tuple(g["params"])) for g in groups)
        self._entries = ()

    # ---- what the optimizer asks

    def _filled(self, group: Mapping[str, Any]) -> tuple[dict[str, Any], list[str | None]]:
        assert isinstance(group, dict)
        return group, list(group.get("param_names", [None] * len(group["params"])))

    def _array_of(self, parameter: Any) -> Array:
        if id(parameter) in self._asleep:
            return torch.empty(0, dtype=parameter.dtype, device=parameter.device)
        return part_of(self._name, parameter)

    def _replan(self, kernel: str, names: tuple[str | None, ...]) -> _C.Plan:
        plan = super()._replan(kernel, names)
        pairs = zip(self.parameters, self._arrays, strict=True)
        self._parts = [(p, a) for p, a in pairs if a is not p and id(p) not in self._asleep]
        self._refuse_shards()
        return plan

    def _refuse_shards(self) -> None:
        """What is a function of a whole tensor would differ from rank to rank."""
        shards = [p for p, part in self._parts if tuple(p.shape) != tuple(part.shape)]
        if not shards:
            return
        ridden = [
            name
            for group in self.param_groups
            for name in ("max_weight_norm", "noise")
            if group.get(name)
        ] + ["stochastic_rounding"] * self._settings.stochastic_rounding
        if self._rule.norms or self._measures or ridden:
            what = (
                "norms of whole parameters"
                if self._rule.norms
                else ", ".join(sorted({*ridden, *["diagnostics"] * self._measures}))
            )
            raise TypeError(
                f"{self._name}: a parameter of shape {tuple(shards[0].shape)} is a DTensor of "
                f"which a part lies here, expected whole parameters for {what}; use an "
                "optimizer that treats each element by itself, without them"
            )

    def _refuse_codes(self, arrays: Sequence[Array], names: Sequence[str | None]) -> None:
        raise ValueError(
            f"{self._name}: 'state_dtype' is 'int8', expected None or 'bfloat16', since .state "
            "holds tensors of the parameters' shapes; onepass.optim takes tensors with 8-bit states"
        )

    def _follow(self, state: State, arrays: list[Array]) -> list[Array]:
        if self._plan is not None:
            return super()._follow(state, arrays)
        # At first: what the entries hold where it fits, else new.
        held = [part_of(self._name, entry.get(state.key)) for entry in self._entries]
        fits = [adoptable(part, array) for part, array in zip(held, arrays, strict=True)]
        made = self._new(state, arrays, [i for i, fit in enumerate(fits) if not fit])
        other = [i for i, fit in enumerate(fits) if fit and held[i].dtype != made[i].dtype]
        more = self._new(state, arrays, other)
        for i, fit in enumerate(fits):
            if fit:
                made[i] = more[i] if i in other else held[i]
        return made

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

    @property
    def current_plan(self) -> _C.Plan | None:
        """As the last step left it."""
        return self._plan

    @property
    def arrays(self) -> Sequence[Array]:
        return self._arrays

    def keys(self, index: int) -> list[str]:
        """The states that parameter ``index`` has, by the options of its group."""
        group = self.param_groups[self.group_numbers[index]]
        states = [state for state in self._rule.states if state.key in self._wanted[1]]
        return [state.key for state in states if state.when is None or group[state.when]]

    @property
    def states(self) -> dict[str, list[Array]]:
        return self._kept()

    @property
    def scalar_starts(self) -> dict[str, float]:
        return self._rule.scalars

    @property
    def counted(self) -> bool:
        """Whether ``state`` shows the counts of steps."""
        return self._rule.counted

    def further(self) -> dict[int, Entry]:
        """What the optimizer saves beside its states, for options such as running averages: of
        parameters that have taken a step, by the id of the parameter."""
        shown = {"step", *self._rule.keys, *self._rule.scalars}
        groups, pairs = self.param_groups, zip(self.param_groups, self._lists, strict=False)
        # Also where the groups hold other parameters by now.
        self.param_groups = [{**group, "params": [*own]} for group, (_, _, own) in pairs]
        try:
            saved = self.state_dict()["state"]
        finally:
            self.param_groups, self._seen = groups, ()
        more = {
            i: {k: shown_as(self.parameters[i], v) for k, v in entry.items() if k not in shown}
            for i, entry in saved.items()
        }
        return {id(self.parameters[i]): entry for i, entry in more.items() if entry}

    def gradients(self, given: list[Array | None] | None = None) -> list[Array | None]:
        """The gradients, None where there is none, of DTensors the part that lies here.

        Args:
            given: of a compiled graph, in place of ``.grad``.
        """
        grads = [p.grad for p in self.parameters] if given is None else given
        for part in self._parts:
            if part_of(self._name, part[0]) is not part[1]:
                self._plan_is_current, self._seen = False, ()
        if self._parts:
            grads = [
                None if grad is None else _part_of_grad(self._name, p, grad)
                for p, grad in zip(self.parameters, grads, strict=True)
            ]
        if self.dormant:
            ready = [i for i in self.dormant if grads[i] is not None]
            self.wake([i for i in ready if not _frozen(self.parameters[i])])
            for i in self.dormant:
                grads[i] = None
        return grads

    def wake(self, indices: Sequence[int]) -> None:
        """Parameters that were frozen from the start are to be trained."""
        for i in indices:
            self.dormant.discard(i)
            self._asleep.discard(id(self.parameters[i]))
        if indices:
            self.restart(indices)
            self._prepare()

    def restart(self, indices: Sequence[int]) -> None:
        """Gives parameters new states, as before their first gradients; others may hold the old."""
        arrays = [self._array_of(p) for p in self.parameters]
        for state in self._rule.states:
            if state.key in self._states:
                new = self._new(state, arrays, indices)
                for i in indices:
                    self._states[state.key][i] = new[i]
        self._rider_arrays.restart(indices)
        self.renew()

    def put(self, key: str, index: int, array: Array) -> None:
        """An array to keep a state in; call `renew` afterwards."""
        self._states[key][index] = array

    def mark_written(self, grads: Sequence[Array | None]) -> None:
        """Tells autograd that DTensors were written; of other tensors the step tells it."""
        if self._parts:
            pairs = zip(self.parameters, grads, strict=True)
            written = [p for p, grad in pairs if grad is not None and hasattr(p, "to_local")]
            torch.autograd.graph.increment_version(written)

    def renew(self) -> None:
        """The next step looks at all arrays afresh."""
        self._plan_is_current, self._seen = False, ()


Engine.OWN = frozenset({*vars(Engine), "parameters", "group_numbers", "dormant"})


def engine_of(cls: type[optim.Optimizer]) -> type[Engine]:
    return type(cls.__name__, (Engine, cls), {"__doc__": None})


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


def shown_as(parameter: Any, part: Array) -> Array:
    """A state as the user sees it: beside a DTensor a DTensor, on the same memory."""
    if not hasattr(parameter, "to_local"):
        return part
    return type(parameter.data).from_local(
        part,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def adoptable(value: Any, array: Array) -> bool:
    """Whether a tensor can serve as the state of a parameter where it is, if its dtype does."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.shape == array.shape
        and value.device == array.device
        and not value.requires_grad
    )


def _frozen(parameter: Any) -> bool:
    return isinstance(parameter, torch.nn.Parameter) and not parameter.requires_grad


def _part_of_grad(owner: str, parameter: Any, grad: Any) -> Array:
    placed = getattr(parameter, "placements", None)
    if placed is not None and getattr(grad, "placements", placed) != placed:
        grad = grad.redistribute(placements=placed)
    return part_of(owner, grad)
