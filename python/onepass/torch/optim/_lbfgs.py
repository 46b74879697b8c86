"""LBFGS: a step evaluates the loss several times, and keeps one entry, of the first parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch

from onepass.ops._step import Nonfinite
from onepass.ops._step_info import StepInfo
from onepass.optim._planned import ParametersChangedError
from onepass.torch.optim._engine import Engine, Entry
from onepass.torch.optim._entries import State
from onepass.torch.optim._optimizer import Optimizer


class LBFGSEngine(Engine):
    """Mixed into ``onepass.optim.LBFGS``."""

    def _dormant_at_first(self, entries: Sequence[Entry]) -> list[bool]:
        return [False] * len(entries)  # a frozen parameter has its place in the vectors

    def _prepare(self) -> Any:
        group = super()._prepare()
        self._find_parts()
        return group

    def _grads(self) -> list[Any]:
        return self.gradients()

    def further(self, everyone: bool = False) -> dict[int, Entry]:
        return {}


class MemoryEntry:
    """Binds the entry of the first parameter in ``state`` to an engine, as `Entries` binds those of
    all parameters.

    Args:
        owner: the optimizer's name.
        engine: has the memory.
        state: the mapping.
        known: unused.
    """

    def __init__(self, owner: str, engine: Any, state: State, known: Mapping[int, int]) -> None:
        self.engine = engine
        self.behind = False  # a step has been cut off after it was taken
        self._seen: list[Any] = []
        self.take_over(state)

    def holds(self, state: State) -> bool:
        """Whether nothing in the entry has been exchanged; an edit in place counts at once."""
        now = _values(state.get(self.engine.parameters[0]))
        pairs = zip(now, self._seen, strict=False)
        return len(now) == len(self._seen) and all(a is b for a, b in pairs)

    def take_over(self, state: State) -> None:
        """Takes over what the entry holds.

        Raises:
            ValueError: it is not a memory of an LBFGS over these parameters.
        """
        self.engine.remember(state.get(self.engine.parameters[0]) or {})
        self.follow_step(state)

    def catch_up(self, state: State) -> None:
        """Shows the memory where `follow_step` did not."""
        if self.behind:
            self.follow_step(state)

    def read_counts(self) -> None:
        """There are none beside the memory."""

    def follow_step(self, state: State) -> None:
        """Shows the memory that the engine has."""
        first = self.engine.parameters[0]
        if memory := self.engine.state_dict()["state"].get(0):
            entry = state.get(first)
            if not isinstance(entry, dict):
                entry = state[first] = {}
            entry.update(memory)
        self._seen = _values(state.get(first))
        self.behind = False

    def load(self, state: State, state_dict: Any) -> None:
        """Takes over a state_dict.

        Raises:
            ValueError: it does not fit; nothing was changed.
        """
        self.engine.load_state_dict(state_dict)
        state.pop(self.engine.parameters[0], None)
        self.follow_step(state)

    def counts(self, state: State) -> dict[int, int]:
        return {}

    def steps(self) -> None:
        return None

    def unused(self) -> set[int]:
        return set()


def _values(entry: Any) -> list[Any]:
    """The values of an entry, with the contents of its lists."""
    if not isinstance(entry, dict):
        return []
    values: list[Any] = [entry]
    for value in entry.values():
        values += value if isinstance(value, list) else [value]
    return values


class LBFGSBase(Optimizer):
    """The parts of LBFGS alone: its step calls the closure, several times."""

    _binds: ClassVar[Any] = MemoryEntry
    _step_supports_amp_scaling = False  # PyTorch's scalers take no closure

    def _step(  # type: ignore[override]
        self,
        closure: Callable[[], Any] | None = None,
        *,
        max_norm: float | None = None,
        max_value: float | None = None,
        grad_scale: float | None = None,
        zero_grad: bool = False,
        nonfinite: Nonfinite = "propagate",
    ) -> Any:
        """Up to ``max_iter`` iterations; ``last_step`` tells about it.

        Args:
            closure: computes the gradients and returns the loss; called several times, with
                autograd on.
            max_norm: must be None, as ``max_value`` and ``grad_scale``: a gradient that was changed
                is not the slope of the loss, by which the step is found.
            max_value: must be None.
            grad_scale: must be None.
            zero_grad: forget the gradients afterwards.
            nonfinite: "propagate" (IEEE); "skip": where the first loss or gradient, or without line
                search a later one, is not finite, the step changes nothing; "raise": then
                FloatingPointError.

        Returns:
            What the first call of the closure returned.

        Raises:
            TypeError: no closure. ValueError: gradients that do not fit. Parameters and state are
            then as before, as after any error in the closure.
        """
        entries = self._current()
        entries.catch_up(self._state)
        for attempt in range(2):
            entries.behind = True  # until `follow_step`, which an interruption may prevent
            try:
                info = entries.engine.step(
                    closure,
                    max_norm=max_norm,
                    max_value=max_value,
                    grad_scale=grad_scale,
                    zero_grad=zero_grad,
                    nonfinite=nonfinite,
                )
                break
            except ParametersChangedError:  # before the closure was called
                if attempt:
                    raise
                entries = self._rebuild()
        entries.follow_step(self._state)
        self._last_step = StepInfo(*info)  # without the loss, which holds a graph
        return info.loss

    _hooked_step = torch.optim.Optimizer.profile_hook_step(_step)  # type: ignore[arg-type]
    # A closure's backward pass is not part of a graph.
    step = torch._disable_dynamo(Optimizer.step)  # type: ignore[assignment,attr-defined]
