"""Muon: orthogonal directions for matrices, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from onepass import _C
from onepass import _numbers as numbers
from onepass._array import Array, empty, parameter_dtype, zeros_like
from onepass.ops import _muon as ops
from onepass.ops._declare_update import RULES, Betas
from onepass.ops._muon import COEFFICIENTS, Coefficients
from onepass.ops._ranges import RANGES, Range, several
from onepass.ops._rule import Options, Rule, State, flag_of_groups
from onepass.ops._step import Controls, row_of, take_step, was_skipped
from onepass.ops._step_info import StepInfo
from onepass.optim._groups import group_numbers, of_parameters
from onepass.optim._optimizer import Optimizer, Parameters
from onepass.optim._per_parameter import ArrayWatch
from onepass.optim._states import is_array
from onepass.optim._torch_options import TorchOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from onepass.ops._rule import Launch

_OF_ADAMW = ("use_muon", "adamw_lr_ratio", "adamw_betas", "adamw_eps", "adamw_weight_decay")


class MuonRule(Rule):
    """The kernel's rule, with options of two halves that make a row of hyper-parameters each."""

    def __init__(self) -> None:
        super().__init__("muon", ranges={"look": Range(), "matrix": None}, counted=False)
        self.options = frozenset(
            (
                *("lr", "weight_decay", "momentum", "nesterov", "eps"),
                *("ns_coefficients", "ns_steps", "adjust_lr_fn"),
                *_OF_ADAMW,
            )
        )
        self.lr_leads = None  # its rate is adjusted
        self.added = frozenset(_OF_ADAMW)

    def of_group(self, owner: str, group: Options) -> tuple[float, ...]:
        """The hyper-parameters of AdamW's half, where all options are checked."""
        ops.Matrices.of(owner, group)

        def checked(key: str, option: str, value: Any) -> float:
            limits = RANGES[option]
            assert isinstance(limits, Range)
            return limits.check(owner, key, value)

        ratio = checked("adamw_lr_ratio", "lr", group["adamw_lr_ratio"])
        limits = RANGES["betas"]
        assert isinstance(limits, Range)
        beta1, beta2 = several(owner, "adamw_betas", group["adamw_betas"], (limits,) * 2)
        eps = checked("adamw_eps", "eps", group["adamw_eps"])
        key = "adamw_weight_decay"
        decay = group["weight_decay" if group[key] is None else key]
        decay = numbers.in_range(owner, key, decay, 0, or_none=True)
        if (use := group["use_muon"]) is not None:
            use = numbers.flag(owner, "use_muon", use)
        for index, p in enumerate(group["params"]):
            if use and len(getattr(p, "shape", (0, 0))) < 2:
                raise ValueError(
                    f"{owner}: 'use_muon' is True, and parameter {index} of the group has shape "
                    f"{tuple(p.shape)}, expected two axes or more; None leaves it to AdamW"
                )
        rate = float(group["lr"]) * ratio
        return row_of("muon", lr=rate, beta1=beta1, beta2=beta2, eps=eps, weight_decay=decay)


RULE = RULES["muon"] = MuonRule()


class Muon(Optimizer, op=ops.muon_):
    """
    Parameters of fewer than two axes are stepped by `adamw_` in the same launch. So is a group with
    ``use_muon=False``: put embeddings and the last layer into one, as Muon's authors do.

    PyTorch's Muon takes two axes only, and leaves the rest to a second optimizer. The authors' code
    adjusts the rate of a convolution by its last two axes, this one by the matrix's. A parameter
    keeps 8 bytes an element beside itself, for matrices the momentum and room for the direction.

    Args:
        use_muon: of a group: False steps all of it with AdamW, True wants matrices only, None
            chooses by the number of axes.
        adamw_lr_ratio: AdamW's rate is lr·adamw_lr_ratio, so that schedules reach both.
        adamw_betas: AdamW's (β₁, β₂).
        adamw_eps: AdamW's eps, added to √v̂.
        adamw_weight_decay: AdamW's; None: ``weight_decay``.

    Example:
        >>> from onepass import nn, optim
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> groups = [
        ...     {"params": [*model.parameters()][:2]},
        ...     {"params": [*model.parameters()][2:], "use_muon": False},
        ... ]
        >>> optimizer = optim.Muon(groups, lr=0.02, adamw_lr_ratio=0.015)  # AdamW at 3e-4
    """

    _rule = RULE
    _no_riders = "its step is more than one pass over each element"
    _of_whole = "products of matrices"
    _no_capture = "its rates are numbers of the host"
    _work = "two calls with PyTorch's products between them"

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: Coefficients = COEFFICIENTS,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        use_muon: bool | None = None,
        adamw_lr_ratio: float = 1.0,
        adamw_betas: Betas = (0.9, 0.999),
        adamw_eps: float = 1e-8,
        adamw_weight_decay: float | None = None,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[TorchOptions],
    ) -> None:
        self._matrices: list[bool] = []  # whether each parameter is one
        super().__init__(params, locals())

    # ---- the launch, and what follows it

    def _take(
        self,
        op: str,
        plan: _C.Plan,
        grads: Sequence[Array | None],
        hypers: Sequence[tuple[float, ...]],
        controls: Controls,
        names: Sequence[str | None],
    ) -> StepInfo:
        active = [g is not None for g in grads]
        info = take_step(op, plan, grads, hypers, controls, names)
        if not was_skipped(info, controls.nonfinite):
            taking = [there for there, own in zip(active, self._matrices, strict=True) if own]
            self._directions.apply(op, taking, self._options)
        return info

    def _watch(self, plan: _C.Plan, grads: Sequence[Array | None]) -> ArrayWatch | None:
        return self._watch_arrays(grads)

    def _kinds(self, groups: Sequence[Options]) -> list[bool]:
        """Whether each parameter is a matrix that Muon steps."""
        uses = [group["use_muon"] for group in of_parameters(groups)]
        return [
            len(p.shape) >= 2 if use is None else bool(use)
            for use, p in zip(uses, self._parameters, strict=True)
        ]

    def _derived(
        self, groups: list[dict[str, Any]]
    ) -> tuple[bool | tuple[bool, ...], Launch, list[tuple[float, ...]]]:
        kinds = self._kinds(groups)
        if kinds[: len(self._matrices)] != self._matrices[: len(kinds)]:
            raise ValueError(
                f"{self._name}: 'use_muon' of a group was changed, expected it as the optimizer "
                "was made with: the states of Muon and AdamW differ; make a new optimizer"
            )
        if not self._matrices:
            self._matrices = kinds
        maximize = flag_of_groups(self._name, "maximize", groups)
        hypers = []
        adamw = [self._rule.of_group(self._name, group) for group in groups]
        matrices = [ops.Matrices.of(self._name, group).hyper for group in groups]
        for group, is_matrix in self._rows(groups, kinds):
            hypers.append(matrices[group] if is_matrix else adamw[group])
        return maximize, self._rule.launch(self._name, groups), hypers

    def _rows(self, groups: Sequence[Options], kinds: list[bool]) -> dict[tuple[int, bool], int]:
        """The number of the row of hyper-parameters of each (group, is a matrix) that there is."""
        keys = dict.fromkeys(zip(group_numbers(groups), kinds, strict=True))
        return {key: row for row, key in enumerate(keys)}

    def _look(self) -> _C.GroupRows | None:
        values = super()._look()
        groups = self._own_groups()
        each = [ops.Matrices.of(self._name, group) for group in groups]
        options, kinds = of_parameters(groups, each), self._kinds(groups)
        self._options = [o for o, own in zip(options, kinds, strict=True) if own]
        return values

    def _follow(self, state: State, arrays: list[Array]) -> list[Array]:
        """Averages of squares; a matrix has none. `_new_plan` puts its direction there."""
        if state.key != "exp_avg_sq":
            return super()._follow(state, arrays)
        kinds = self._kinds(self._own_groups())
        others = [i for i, own in enumerate(kinds) if not own]
        held = [
            s for s, own in zip(self._states.get(state.key, []), kinds, strict=False) if not own
        ]
        own_arrays, starts = [arrays[i] for i in others], [0.0] * len(others)
        averages = iter(self._storage.follow(self._name, state, own_arrays, held, starts))
        return [
            empty((0,), parameter_dtype(array), array) if own else next(averages)
            for array, own in zip(arrays, kinds, strict=True)
        ]

    def _new_plan(self, kernel: str, names: tuple[str | None, ...]) -> _C.Plan:
        groups = self._own_groups()
        kinds = self._kinds(groups)
        matrices = [array for array, own in zip(self._arrays, kinds, strict=True) if own]
        self._directions = ops.Directions(matrices)
        directions = iter(self._directions.arrays)
        self._states["exp_avg_sq"] = [
            next(directions) if own else average
            for average, own in zip(self._states["exp_avg_sq"], kinds, strict=True)
        ]
        rows = self._rows(groups, kinds)
        states = [self._states[name] for name in names if name is not None]
        keys = zip(group_numbers(groups), kinds, strict=True)
        numbers = [rows[key] for key in keys]
        plan = _C.Plan(kernel, self._arrays, states, numbers, None, None, self._name)
        self._matrices = kinds  # not before: a group that is refused leaves the others as they are
        return plan

    # ---- saving

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_directions": None}  # they are laid out again

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's layout: {"state": {index: {"step": t, name: array}}, "param_groups": […]}.

        A matrix has a "momentum_buffer", as in PyTorch; other parameters "exp_avg" and
        "exp_avg_sq". The arrays are the optimizer's own, not copies.
        """
        saved = super().state_dict()
        for index, entry in saved["state"].items():
            named = {key: self._saved_as(index, key) for key in self._rule.keys}
            for key, name in named.items():
                array = entry.pop(key)
                if name is not None:
                    entry[name] = array
        return saved

    def _counts_steps(self, index: int) -> bool:
        return not self._matrices[index]

    def _saved_as(self, index: int, key: str) -> str | None:
        if not self._matrices[index]:
            return key
        return "momentum_buffer" if key == "exp_avg" else None

    def _load(self, state_dict: Mapping[str, Any]) -> None:
        try:
            groups = [dict(group) for group in state_dict["param_groups"]]
            position = {i: at for at, i in enumerate(i for g in groups for i in g["params"])}
            entries = {
                index: self._entry(position.get(index, -1), entry)
                for index, entry in dict(state_dict["state"]).items()
            }
        except (KeyError, TypeError):
            return super()._load(state_dict)  # refuses it, in words of its own
        return super()._load({"state": entries, "param_groups": groups})

    def _entry(self, at: int, entry: Any) -> Any:
        """A matrix's entry as the plan holds it: its momentum, and room for the direction."""
        if not 0 <= at < len(self._matrices) or not self._matrices[at]:
            return entry
        if not isinstance(entry, Mapping) or not entry:
            return entry
        momentum = entry.get("momentum_buffer")
        shape = tuple(self._arrays[at].shape)
        if tuple(getattr(momentum, "shape", ())) != shape:
            said = "missing"
            if momentum is not None and is_array(momentum):
                said = f"of shape {tuple(momentum.shape)}"
            elif momentum is not None:
                said = f"of type {type(momentum).__name__}"
            raise ValueError(
                f"{self._name}.load_state_dict: 'momentum_buffer' of parameter {at} is {said}, "
                f"expected an array of shape {shape}; nothing was changed"
            )
        room = zeros_like(self._states["exp_avg_sq"][at], self._states["exp_avg_sq"][at].dtype)
        return {"step": entry.get("step", 1), "exp_avg": momentum, "exp_avg_sq": room}
