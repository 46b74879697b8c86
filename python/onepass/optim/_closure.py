"""Optimizers whose step evaluates the loss several times, by a closure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from onepass import _C
from onepass import _numbers as numbers
from onepass._array import Array
from onepass._turns import in_step
from onepass.ops._ranges import RANGES, Range
from onepass.ops._rule import OptionRule, Options
from onepass.ops._step import Nonfinite
from onepass.ops._step_info import StepInfo, with_loss
from onepass.optim._flat import Flat
from onepass.optim._lbfgs_step import SEARCHES, NonFiniteError, Step
from onepass.optim._optimizer import Optimizer, loss_of
from onepass.optim._per_parameter import ArrayWatch
from onepass.optim._planned import is_frozen
from onepass.optim._state_dict import Reader

# What the optimizers of this kind say of their options.
CLOSURE_ARGS = {
    "max_iter": "iterations of a step.",
    "tolerance_grad": "a step ends where no element of the gradient is larger.",
    "line_search_fn": '"backtracking" (t is halved until the loss falls enough), "strong_wolfe"\n'
    "        (and its slope by a tenth), or None.",
}


class SearchRule(OptionRule):
    """The options of such an optimizer; no kernel belongs to them."""

    def __init__(
        self, numbers_from_0: tuple[str, ...], counts: tuple[str, ...], others: tuple[str, ...] = ()
    ) -> None:
        super().__init__((*numbers_from_0, *counts, *others, "line_search_fn"), counted=False)
        self._numbers, self._counts = numbers_from_0, counts

    def of_group(self, owner: str, group: Options) -> tuple[float, ...]:
        for name in self._numbers:
            limits = RANGES[name]
            assert isinstance(limits, Range)
            limits.check(owner, name, group[name])
        for name in self._counts:
            numbers.integer(owner, name, group[name], 1)
        if group["line_search_fn"] is not None:
            numbers.one_of(owner, "line_search_fn", group["line_search_fn"], tuple(SEARCHES))
        numbers.flag(owner, "maximize", group["maximize"])
        return ()


class ClosureOptimizer(Optimizer):
    """Base of those: one group, one vector of all parameters.

    A subclass defines ``_make_step``, and what is kept from one step to the next: ``_memory``, a
    named tuple with defaults, which ``_entry`` saves and ``_memory_of`` reads.
    """

    steps_by_closure = True
    _plans = False
    _no_capture = "the host decides by the loss"
    _no_riders = "its step is a search along a line"
    _work = "products of vectors"
    _of_whole = "products of vectors of all parameters"
    _one_group = "H spans all parameters"
    _memory: Any

    def _prepare(self) -> Any:
        """Nothing is launched; the arrays are checked as one vector."""
        self._check_parameters()
        if len(self.param_groups) != 1:
            raise ValueError(
                f"{self._name}: 'params' has {len(self.param_groups)} groups, expected one: "
                f"{self._one_group}"
            )
        group = self.param_groups[0]
        self._rule.of_group(self._name, group)
        self._arrays = [self._array_of(p) for p in self._parameters]
        self._flat = Flat(self._name, self._arrays)
        # No step runs it: it refuses arrays that overlap or cannot be written.
        count = len(self._arrays)
        _C.Plan("sgd", self._arrays, [None], [0] * count, None, None, self._name)
        return group

    def _frozen(self) -> set[int]:
        return {id(p) for p in self._parameters if is_frozen(p)}

    def add_param_group(self, group: Mapping[str, Any]) -> NoReturn:
        """Refused: one vector of all parameters is stepped.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{self._name}: 'group' cannot be added, expected the one group that the optimizer was "
            f"made with: {self._one_group}; make a new optimizer"
        )

    # ---- stepping

    def _make_step(self, *parts: Any) -> Step:
        """A step of (the arrays that move, evaluate, group, checks)."""
        raise NotImplementedError

    def step(  # type: ignore[override]
        self,
        closure: Callable[[], Any] | None = None,
        *,
        max_norm: float | None = None,
        max_value: float | None = None,
        grad_scale: float | None = None,
        zero_grad: bool = False,
        nonfinite: Nonfinite = "propagate",
    ) -> StepInfo:
        """Up to ``max_iter`` iterations.

        Args:
            closure: computes the loss of the parameters as they are. It leaves the gradients in
                ``.grad`` and returns the loss, or returns (loss, gradients), where None counts as
                0. It is called with autograd on.
            max_norm: must be None, as ``max_value`` and ``grad_scale``: a gradient that was changed
                is not the slope of the loss, by which the step is found.
            max_value: must be None.
            grad_scale: must be None.
            zero_grad: forget the gradients afterwards.
            nonfinite: "propagate" (IEEE); "skip": where the first loss or gradient, or without line
                search a later one, is not finite, the step changes nothing; "raise": then
                FloatingPointError.

        Returns:
            StepInfo(skipped, grad_norm=None, nonfinite_param); ``info.loss`` is what the first
            call of the closure returned.

        Raises:
            TypeError: no closure. ValueError: gradients that do not fit. Parameters and state are
            then as before, as after any error in the closure.
        """
        for name, value in (
            ("max_norm", max_norm), ("max_value", max_value), ("grad_scale", grad_scale),
        ):  # fmt: skip
            if value is not None:
                raise ValueError(
                    f"{self._name}: {name!r} is {value!r}, expected None: the step is found by the "
                    "loss, whose slope a changed gradient is not"
                )
        numbers.one_of(self._name, "nonfinite", nonfinite, ("propagate", "skip", "raise"))
        zero_grad = numbers.flag(self._name, "zero_grad", zero_grad)
        if not callable(closure):
            raise TypeError(
                f"{self._name}: 'closure' is {closure!r}, expected a function that computes the "
                "loss and its gradients: step(closure)"
            )
        skipped, at = False, None
        watches: list[ArrayWatch | None] = []

        def evaluate() -> tuple[Any, Sequence[Array | None]]:
            loss = given = loss_of(closure)
            grads: Sequence[Array | None] | None = None
            if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], (list, tuple)):
                loss, grads = given
            if grads is None and not all(hasattr(p, "grad") for p in self._parameters):
                raise TypeError(
                    f"{self._name}: the closure returned a {type(given).__name__}, expected (loss, "
                    "gradients): arrays have no .grad to read them from"
                )
            grads = self._grads() if grads is None else grads
            if self._measures and not watches:
                watches.append(self._watch_arrays(grads))
            return loss, grads

        with self._alone, in_step(self):
            group = self._prepare()
            frozen = self._frozen()
            moving = [
                None if id(p) in frozen else array
                for p, array in zip(self._parameters, self._arrays, strict=True)
            ]
            checks = nonfinite != "propagate"
            step = self._make_step(moving, evaluate, group, checks)
            try:
                memory = step.run(self._memory)
            except NonFiniteError as error:
                step.restore()
                skipped, at = True, error.parameter
            except BaseException:
                step.restore()
                raise
            else:
                self._memory = memory
                self._taken += 1
                if watches and watches[0] is not None:
                    self._measured = watches[0].result(None)
        if skipped and nonfinite == "raise":
            name = "" if at is None or not self._names[at] else f" ({self._names[at]})"
            what = "the loss" if at is None else f"the gradient of parameter {at}{name}"
            raise FloatingPointError(f"{self._name}: {what} is not finite; nothing was changed")
        if zero_grad:
            self.zero_grad()
        return with_loss(StepInfo(skipped, None, at), step.loss)

    # ---- saving

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's layout: the state of all parameters is that of the first.

        The vectors are the optimizer's own, not copies.
        """
        with self._alone:
            group = self._prepare()
            options = {key: value for key, value in group.items() if key != "params"}
            numbered = {**options, "params": list(range(len(group["params"])))}
            state = {0: self._entry()} if self._memory.func_evals else {}
            return {"state": state, "param_groups": [numbered]}

    def _entry(self) -> dict[str, Any]:
        """The memory as it is saved."""
        entry: dict[str, Any] = self._memory._asdict()
        return entry

    def _load(self, state_dict: Mapping[str, Any]) -> None:
        self._prepare()
        reader = self._reader()
        (group,) = reader.groups(state_dict)
        self._rule.of_group(self._name, group)
        memory = self._read(reader, dict(state_dict["state"]).get(group["params"][0]))
        self.param_groups[0].update({k: v for k, v in group.items() if k != "params"})
        self._memory = memory

    def _read(self, reader: Reader, entry: Any) -> Any:
        """The memory in an entry; where it is None or empty, that of before the first step."""
        return self._memory_of(reader, entry) if entry else type(self._memory)()

    def _memory_of(self, reader: Reader, entry: Any) -> Any:
        """The memory in an entry, which may be anything: ``reader.refuse`` makes the error."""
        raise NotImplementedError

    def _reader(self) -> Reader:
        identity = ("maximize",)  # which PyTorch's does not have
        return Reader(self._name, self.param_groups, self._names, set(self.defaults), identity)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_flat": None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()
