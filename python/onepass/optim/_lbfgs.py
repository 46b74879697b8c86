"""LBFGS: a step evaluates the loss several times, by a closure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from onepass import _C
from onepass import _numbers as numbers
from onepass._array import Array
from onepass._docs import shares
from onepass._turns import in_step
from onepass.ops._ranges import RANGES, Range
from onepass.ops._rule import OptionRule, Options
from onepass.ops._step import Nonfinite
from onepass.ops._step_info import StepInfo, with_loss
from onepass.optim._flat import Flat
from onepass.optim._lbfgs_step import SEARCHES, Memory, NonFiniteError, Step
from onepass.optim._optimizer import SHARED_ARGS, Optimizer, Parameters, loss_of
from onepass.optim._per_parameter import ArrayWatch
from onepass.optim._planned import is_frozen
from onepass.optim._state_dict import Reader
from onepass.optim._torch_options import TorchOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack


class LbfgsRule(OptionRule):
    """The options; no kernel belongs to them."""

    def __init__(self) -> None:
        super().__init__(
            (
                *("lr", "max_iter", "max_eval", "tolerance_grad", "tolerance_change"),
                *("history_size", "line_search_fn"),
            ),
            counted=False,
        )

    def of_group(self, owner: str, group: Options) -> tuple[float, ...]:
        for name in ("lr", "tolerance_grad", "tolerance_change"):
            limits = RANGES[name]
            assert isinstance(limits, Range)
            limits.check(owner, name, group[name])
        for name in ("max_iter", "max_eval", "history_size"):
            numbers.integer(owner, name, group[name], 1)
        if group["line_search_fn"] is not None:
            numbers.one_of(owner, "line_search_fn", group["line_search_fn"], tuple(SEARCHES))
        numbers.flag(owner, "maximize", group["maximize"])
        return ()


@shares(SHARED_ARGS)
class LBFGS(Optimizer):
    """L-BFGS: p += t·d with d = -H·∇f, H the inverse Hessian by the last ``history_size`` moves.

    H is that of the two loops of Nocedal over s = t·d and y, the change of the gradient, from
    H₀ = (s·y)/(y·y); a move with y·s ≤ 1e-10 is not remembered. ``step(closure)`` makes up to
    ``max_iter`` iterations. t is ``lr``, or what the line search finds from there; in the first
    iteration of all min(1, 1/Σ|∇f|)·lr.

    There is one group, and one vector of all parameters, so they share a library and a device. A
    parameter without gradient counts as one with a gradient of 0. It keeps 8·(history_size + 2)
    bytes an element. Unlike PyTorch's, a search takes a loss that is not finite as too far, a
    closure that fails leaves parameters and state as they were, and a search may be
    "backtracking". ``ops`` has no such function, since one step is several evaluations of the loss.
    On CUDA each of them is waited for.

    Args:
        lr: length of a move without search, where a search begins with it.
        max_iter: iterations of a step.
        max_eval: evaluations of a step, None for max_iter·5/4. A line search may end at it early.
        tolerance_grad: a step ends where no element of the gradient is larger,
        tolerance_change: or no element moves further, or the loss changes by less.
        history_size: moves remembered.
        line_search_fn: None, "strong_wolfe" (the loss falls enough, and its slope by a tenth) or
            "backtracking" (t is halved until the loss falls enough).

    Raises:
        ValueError: hyper-parameters out of range, more groups than one, empty, duplicate or
            overlapping parameters, parameters of several libraries or devices.

    Source: Liu & Nocedal, On the limited memory BFGS method for large scale optimization, 1989;
    Nocedal & Wright, Numerical Optimization, 2006; PyTorch's LBFGS.

    Example:
        >>> import numpy as np
        >>> from onepass import optim
        >>> p = np.array([-1.2, 1.0])
        >>> optimizer = optim.LBFGS([p], max_iter=60, line_search_fn="strong_wolfe")
        >>> def rosenbrock():
        ...     x, y = p
        ...     loss = (1 - x) ** 2 + 100 * (y - x**2) ** 2
        ...     slope = [-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)]
        ...     return loss, [np.array(slope)]
        >>> info = optimizer.step(rosenbrock)
        >>> bool(np.abs(p - 1).max() < 1e-3)
        True
    """

    _rule = LbfgsRule()
    _no_riders = "its step is a search along a line"
    _work = "PyTorch's products of vectors"
    _of_whole = "products of vectors of all parameters"

    def __init__(
        self,
        params: Parameters,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[TorchOptions],
    ) -> None:
        if max_eval is None:
            max_eval = numbers.integer("LBFGS", "max_iter", max_iter, 1) * 5 // 4
        self._memory = Memory()
        super().__init__(params, locals())

    def _prepare(self) -> Any:
        """Nothing is launched; the arrays are checked as one vector."""
        self._check_parameters()
        if len(self.param_groups) != 1:
            raise ValueError(
                f"{self._name}: 'params' has {len(self.param_groups)} groups, expected one: H "
                "spans all parameters"
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
            "made with: H spans all parameters; make a new optimizer"
        )

    # ---- stepping

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
            step = Step(self._name, self._flat, moving, evaluate, group, checks)
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
            entry = self._memory._asdict()
            if self._memory.n_iter == 0:
                entry = {name: entry[name] for name in ("func_evals", "n_iter")}
            lists = {key: list(value) for key, value in entry.items() if isinstance(value, tuple)}
            state = {0: {**entry, **lists}} if self._memory.func_evals else {}
            return {"state": state, "param_groups": [numbered]}

    def _load(self, state_dict: Mapping[str, Any]) -> None:
        self._prepare()
        reader = self._reader()
        (group,) = reader.groups(state_dict)
        self._rule.of_group(self._name, group)
        held = dict(state_dict["state"])
        memory = Memory()
        if entry := held.get(group["params"][0]):
            memory = _memory_of(reader, self._flat, entry)
        self.param_groups[0].update({k: v for k, v in group.items() if k != "params"})
        self._memory = memory

    def _reader(self) -> Reader:
        identity = ("maximize",)  # which PyTorch's does not have
        return Reader(self._name, self.param_groups, self._names, set(self.defaults), identity)

    def remember(self, entry: Mapping[str, Any]) -> None:
        """Goes on from the entry of the first parameter, as `state_dict` has it; {}: afresh.

        Raises:
            ValueError: it is not a memory of these parameters; nothing is changed.
        """
        self._prepare()
        memory = _memory_of(self._reader(), self._flat, entry) if entry else Memory()
        self._memory = memory

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_flat": None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()


def _memory_of(reader: Reader, flat: Flat, entry: Any) -> Memory:
    """The memory in a state_dict of ours or of PyTorch's."""

    def number(name: str) -> float:
        try:
            return numbers.in_range("", name, entry[name])
        except (TypeError, ValueError):
            raise reader.refuse(f"{name!r} is {entry[name]!r}, expected a finite number") from None

    def count(name: str) -> int:
        value = number(name)
        if not (value.is_integer() and 0 <= value < 2**63):
            raise reader.refuse(
                f"{name!r} is {entry[name]!r}, expected a whole number >= 0 and < 2**63"
            )
        return int(value)

    def listed(name: str) -> list[Any]:
        if not isinstance(entry[name], (list, tuple)):
            raise reader.refuse(f"{name!r} is a {type(entry[name]).__name__}, expected a list")
        return list(entry[name])

    def vector(name: str, value: Any) -> Any:
        shape = tuple(getattr(value, "shape", ("no array",)))
        if shape != (flat.size,):
            raise reader.refuse(f"{name!r} has shape {shape}, expected {(flat.size,)}")
        return flat.vector(value)

    if not isinstance(entry, Mapping) or not {"func_evals", "n_iter"} <= entry.keys():
        raise reader.refuse("the state lacks 'func_evals' and 'n_iter', expected that of an LBFGS")
    evals, n_iter = count("func_evals"), count("n_iter")
    if n_iter == 0:
        return Memory(evals)
    if missing := sorted(set(Memory._fields) - set(entry)):
        raise reader.refuse(f"the state lacks {', '.join(missing)}")
    lists = [listed(name) for name in ("old_dirs", "old_stps", "ro")]
    if len({len(values) for values in lists}) > 1:
        lengths = ", ".join(str(len(values)) for values in lists)
        raise reader.refuse(f"'old_dirs', 'old_stps' and 'ro' have {lengths} entries")
    try:
        curvatures = [numbers.in_range("", "ro", value) for value in lists[2]]
    except (TypeError, ValueError):
        raise reader.refuse(f"'ro' is {lists[2]!r}, expected finite numbers") from None
    if number("t") < 0:
        raise reader.refuse(f"'t' is {entry['t']!r}, expected a step length >= 0")
    return Memory(
        evals,
        n_iter,
        d=vector("d", entry["d"]),
        t=number("t"),
        old_dirs=tuple(vector("old_dirs", y) for y in lists[0]),
        old_stps=tuple(vector("old_stps", s) for s in lists[1]),
        ro=tuple(curvatures),
        H_diag=number("H_diag"),
        prev_flat_grad=vector("prev_flat_grad", entry["prev_flat_grad"]),
        prev_loss=number("prev_loss"),
    )
