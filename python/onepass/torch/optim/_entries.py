"""``optimizer.state``: for each parameter a dict with its step count and states, as PyTorch has it.

The dicts are the user's to edit. The tensors in them are the memory that a step works on, so an
edit in place counts at once; what was put in, taken out or exchanged is taken over before a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from onepass._array import copy_into, to_numpy
from onepass._C import same_states
from onepass._numbers import as_float
from onepass.torch.optim._engine import Engine, Entry, adoptable, part_of, shown_as

State = dict[Any, Entry]


class Entries:
    """Binds the dicts of ``state`` to an engine.

    Args:
        owner: the optimizer's name, for messages.
        engine: has the arrays and the counts.
        state: the mapping, which is filled.
        known: exact counts of steps, by the id of a dict: a dict shows them as float32 or not at
            all.
    """

    def __init__(self, owner: str, engine: Engine, state: State, known: Mapping[int, int]) -> None:
        self.engine, self._owner = engine, owner
        count = len(engine.parameters)
        self._steps, self._step_tensors = _numbers(count, np.float32)
        self._scalars = {name: _numbers(count, np.float64) for name in engine.plan.scalars}
        self._shown: dict[str, list[Any]] = {}
        self._seen: tuple[tuple[Any, Entry, tuple[Any, ...]], ...] = ()
        self._plan: Any = None
        self._asked: list[bool] = []
        # The counts lie on a device and have moved on, or a step has been cut off.
        self.behind = False
        self._written: list[bytes] = []
        self.take_over(state, known, fresh=True)

    # ---- before and after a step

    def holds(self, state: State) -> bool:
        """Whether nothing in ``state`` has been exchanged and no count edited."""
        return same_states(state, self._seen) and self._bytes() == self._written

    def follow_step(self, state: State) -> None:
        """The counts as a step left them, and entries for states that it needed first."""
        engine = self.engine
        if self._is_new():
            self._show(state)
        if engine.arrays and engine.arrays[0].device.type != "cpu":
            self.behind = True  # reading them would wait for the device
        else:
            self.read_counts()

    def catch_up(self, state: State) -> None:
        """Shows what steps have left, where `follow_step` did not."""
        if self._is_new():
            self._show(state)
        if self.behind:
            self.read_counts()

    def _is_new(self) -> bool:
        """Whether the engine has other states, or groups ask for others."""
        return self.engine.current_plan is not self._plan or self.engine.asked != self._asked

    def read_counts(self) -> None:
        """Shows the counts that the engine has."""
        plan = self.engine.current_plan
        assert plan is not None
        plan.write_steps(self._steps)
        if self._scalars:
            for name, values in plan.scalars.items():
                self._scalars[name][0][:] = values
        self.behind = False
        self._written = self._bytes()

    def _bytes(self) -> list[bytes]:
        return [self._steps.tobytes(), *(values.tobytes() for values, _ in self._scalars.values())]

    def counts(self, state: State) -> dict[int, int]:
        """The steps that each parameter has taken, by the id of its dict."""
        plan = self.engine.current_plan  # also where the groups have others now
        assert plan is not None
        steps = plan.steps
        pairs = zip(self.engine.parameters, steps, strict=True)
        return {id(state[p]): count for p, count in pairs if p in state}

    def steps(self) -> list[int] | None:
        """The steps that each parameter has taken, for a pickle."""
        return self.engine.plan.steps

    def unused(self) -> set[int]:
        """Positions of parameters that have taken no step."""
        return {index for index, count in enumerate(self.engine.plan.steps) if count == 0}

    # ---- what the user has changed

    def take_over(
        self, state: State, known: Mapping[int, int] | None = None, *, fresh: bool = False
    ) -> None:
        """Takes over what ``state`` holds, and completes it.

        Args:
            state: the mapping; a parameter without an entry starts afresh.
            known: as in the constructor; None: those of the engine.
            fresh: the states of the engine are at their start.

        Raises:
            ValueError: a state of another shape, a step that is not a count.
            TypeError: a state that is not a tensor.
        """
        engine = self.engine
        if self.behind:
            self.read_counts()
        # PyTorch's SGD says None for a buffer that no step has used.
        entries = [state.get(p) or {} for p in engine.parameters]
        empty = [all(value is None for value in entry.values()) for entry in entries]
        waking = [i for i in engine.dormant if not empty[i]]
        plan = engine.current_plan
        assert plan is not None
        before = plan.steps
        if known is None:
            known = {id(e): n for e, n in zip(entries, before, strict=True)}
        counts = [
            self._count(i, entry, known.get(id(entry)))
            if (i in waking or self._shows(i) or engine.idle(i)) and not empty[i]
            else 0
            for i, entry in enumerate(entries)
        ]
        scalars = plan.scalars
        for name, numbers in scalars.items():
            start = engine.scalar_starts[name]
            for i, entry in enumerate(entries):
                numbers[i] = self._scalar(i, name, entry, start)
        # First: the engine starts a state afresh whose parameter has taken no step.
        plan.steps = counts
        try:
            engine.wake(waking)
            values = {
                key: [self._state(i, key, entries[i]) for i in range(len(entries))]
                for key in engine.states
            }
        except (TypeError, ValueError):
            plan.steps = before
            raise
        if not fresh:
            cleared = [i for i, none in enumerate(empty) if none and self._shows(i)]
            if cleared:
                engine.restart(cleared)
        for key, parts in values.items():
            for i, part in enumerate(parts):
                self._put(key, i, part)
        plan = engine.plan
        plan.steps, plan.scalars = counts, scalars
        self._show(state)
        self.read_counts()

    def load(self, state: State, state_dict: Any) -> None:
        """Takes over a state_dict.

        Raises:
            ValueError: it does not fit; nothing was changed.
        """
        engine = self.engine
        own, others, used = self._sorted(state_dict)
        waking = [i for i in engine.dormant if i in used]
        try:
            engine.wake(waking)
            engine.load_state_dict(
                state_dict if own is state_dict else {**state_dict, "state": own}
            )
        except BaseException:
            engine.sleep(waking)
            raise
        state.update(others)
        self._show(state)
        names = [index for group in state_dict["param_groups"] for index in group["params"]]
        for i, name in enumerate(names):
            self._show_idle(i, state, own.get(name) or {})
        self.read_counts()

    def _show_idle(self, i: int, state: State, loaded: Entry) -> None:
        """Shows what was loaded of states that no option asks for now, and nothing older."""
        parameter = self.engine.parameters[i]
        for name, part in self.engine.idle(i).items():
            if loaded.get(name) is not None:
                state.setdefault(parameter, {})[name] = shown_as(parameter, part)
            elif parameter in state:
                state[parameter].pop(name, None)

    def _sorted(self, state_dict: Any) -> tuple[Any, State, Any]:
        """Entries of parameters that have taken steps, as the engine reads them; what is no
        parameter's; the positions of the former."""
        try:
            names = [index for group in state_dict["param_groups"] for index in group["params"]]
            saved = dict(state_dict["state"])
        except (KeyError, TypeError, ValueError):
            return state_dict, {}, state_dict  # the engine refuses it
        positions = {name: at for at, name in enumerate(names)}
        others = {
            k: v
            for k, v in saved.items()
            if k not in positions
            and not isinstance(k, int)
            # Of a file in JSON: the engine refuses it.
            and not (isinstance(k, str) and k.isdecimal() and int(k) in positions)
        }
        own, used = {}, set()
        for name, entry in saved.items():
            if name in others:
                continue
            if isinstance(entry, Mapping):
                if "step" in entry and not np.any(to_numpy(entry["step"])):
                    continue  # as before the first gradient
                entry = {key: part_of(self._owner, value) for key, value in entry.items()}
                buffer = entry.get("momentum_buffer")
                if buffer is not None and getattr(
                    buffer, "is_sparse", False
                ):  # PyTorch's, beside a sparse gradient
                    entry["momentum_buffer"] = buffer.to_dense()
                if all(value is None for value in entry.values()):
                    continue
            own[name] = entry
            used.add(positions.get(name))
        return own, others, used

    def _shows(self, i: int) -> bool:
        """Whether parameter ``i`` has an entry."""
        engine = self.engine
        return i not in engine.dormant and (engine.shows_count(i) or bool(engine.keys(i)))

    def _state(self, i: int, key: str, entry: Entry) -> Any:
        """The tensor that an entry holds as a state: None where it is the engine's or there is
        none."""
        name = self.engine.shown_as(i, key)
        value = None if name is None else entry.get(name)
        shown = self._shown.get(key)
        if value is None or (shown is not None and shown[i] is value):
            return None
        what = f"{self._owner}: {name!r} in the state of parameter {i}"
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{what} is a {type(value).__name__}, expected a tensor")
        part, held = part_of(self._owner, value), self.engine.states[key][i]
        if held is None:
            raise ValueError(
                f"{what} is given, expected none beside a parameter of shape "
                f"{tuple(self.engine.parameters[i].shape)}; nothing was changed"
            )
        if part.shape != held.shape:
            raise ValueError(
                f"{what} has shape {tuple(part.shape)}, expected {tuple(held.shape)}; nothing was "
                "changed"
            )
        return value

    def _put(self, key: str, i: int, value: Any) -> None:
        if value is None:
            return
        engine = self.engine
        part, held = part_of(self._owner, value), engine.states[key][i]
        if part is held:
            self._shown.setdefault(key, [None] * len(engine.parameters))[i] = value
        elif adoptable(part, engine.arrays[i], held.shape) and part.dtype == held.dtype:
            engine.put(key, i, part)
            self._shown.setdefault(key, [None] * len(engine.parameters))[i] = value
            engine.renew()
        else:
            copy_into(held, part)

    def _count(self, i: int, entry: Entry, known: int | None) -> int:
        step = entry.get("step")
        if step is None:
            return int(not self.engine.counted(i)) if known is None else known
        expected = "a whole number >= 0, the steps taken"
        what = f"'step' in the state of parameter {i}"
        number = as_float(self._owner, what, step, expected)
        if known is not None and float(np.float32(known)) == number:
            return known
        if not (number.is_integer() and 0 <= number < 2**63):
            raise ValueError(f"{self._owner}: {what} is {step!r}, expected {expected}")
        return int(number)

    def _scalar(self, i: int, name: str, entry: Entry, start: float) -> float:
        value = entry.get(name)
        if value is None:
            return start
        what = f"{name!r} in the state of parameter {i}"
        return as_float(self._owner, what, value, "a number")

    def _show(self, state: State) -> None:
        """Puts the engine's states and the counts where they are not in the dicts."""
        engine = self.engine
        self._plan, self._asked = engine.plan, engine.asked
        shown: dict[str, list[Any]] = {}
        for key, parts in engine.states.items():
            before = self._shown.get(key, [None] * len(parts))
            shown[key] = [
                b if b is not None and part_of(self._owner, b) is part else shown_as(p, part)
                for p, b, part in zip(engine.parameters, before, parts, strict=True)
            ]
        self._shown = shown
        for i, parameter in enumerate(engine.parameters):
            if not self._shows(i):
                continue
            entry = state.get(parameter)
            if not isinstance(entry, dict):
                entry = state[parameter] = {}
            if engine.shows_count(i):
                entry["step"] = self._step_tensors[i]
            for name, (_, tensors) in self._scalars.items():
                entry[name] = tensors[i]
            for own, key in engine.keys(i).items():
                entry[own] = shown[key][i]
        self._seen = tuple(
            (key, entry, tuple(entry.values()) if isinstance(entry, dict) else ())
            for key, entry in state.items()
        )


def _numbers(count: int, dtype: Any) -> tuple[Any, list[torch.Tensor]]:
    """Numbers, and for each a tensor without axes on its memory."""
    values = np.zeros(count, dtype)
    tensor = torch.from_numpy(values)
    return values, [tensor[i] for i in range(count)]
