"""Time of a step by part: matrix products, fused kernels, the optimizer, and the rest."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from onepass import _numbers as numbers
from onepass import ops
from onepass._keywords import suggest_keywords
from onepass.train._callbacks import Callback
from onepass.train._run import Run
from onepass.train._watch import refuse_pieces

PARTS = ("matrix products", "fused kernels", "optimizer step", "Python and the rest")


class Profile(Callback):
    """Time the parts of some training steps.

    For those steps a clock wraps ``numpy.matmul`` and ``dot``, the functions of ``onepass.ops`` and
    the ``step`` of the optimizer. Use it on the CPU: on CUDA calls return before the work is done.

    With several processes each has its own times; what it waits for the others is of "the rest".
    Not with ``reproducible``, whose pieces may be in several threads: a ValueError.

    Args:
        steps: how many steps to time.
        skip: steps before, to warm up. A training that has no others is timed by its last one.

    Attributes:
        seconds: part → seconds, over ``counted`` steps.

    Raises:
        TypeError, ValueError: an argument that is not a whole number, or out of range.

    Example:
        >>> from onepass.train import Profile
        >>> Profile(steps=20).table()
        'no step was timed'
    """

    _only_watches = True

    @suggest_keywords
    def __init__(self, steps: int = 50, skip: int = 5) -> None:
        self.steps = numbers.integer("Profile", "steps", steps, 1)
        self.skip = numbers.integer("Profile", "skip", skip, 0)
        self.reset()

    def reset(self) -> None:
        self._passed = 0
        self._undo: list[tuple[Any, str, Any]] = []
        self._inside = False
        self._spent = dict.fromkeys(PARTS[:3], 0.0)
        self._mark = 0.0
        self._begin_count()

    def _begin_count(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.counted = 0

    def table(self) -> str:
        """The parts, microseconds a step and shares, a line each."""
        total = sum(self.seconds.values())
        if not self.counted or not total:
            return "no step was timed"
        lines = [f"{'part of a step':<22}{'us':>10}{'share':>8}"]
        for part, seconds in self.seconds.items():
            lines.append(f"{part:<22}{seconds / self.counted * 1e6:>10.1f}{seconds / total:>8.1%}")
        lines.append(f"{'whole step':<22}{total / self.counted * 1e6:>10.1f}{1:>8.1%}")
        return "\n".join(lines)

    def _refuse(self, run: Run) -> None:
        refuse_pieces("Profile", run)

    def on_epoch_begin(self, run: Run) -> None:
        if self.counted < self.steps and not self._undo:
            self._wrap(run)
        self._begin_step()

    def on_step_end(self, run: Run) -> None:
        whole = time.perf_counter() - self._mark
        if self._undo:
            if self._passed <= self.skip:
                self._begin_count()  # the step before was to warm up
            self.counted += 1
            for part, seconds in self._spent.items():
                self.seconds[part] += seconds
            self.seconds[PARTS[3]] += whole - sum(self._spent.values())
            self._passed += 1
        if self.counted >= self.steps and self._passed > self.skip:
            self._unwrap()
        self._begin_step()

    def on_fit_end(self, run: Run) -> None:
        self._unwrap()

    def on_abort(self, run: Run, error: BaseException) -> None:
        self._unwrap()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_undo": []}  # the copy has wrapped nothing

    def _begin_step(self) -> None:
        """Start the clock; work between steps, such as validation, does not count."""
        self._spent = dict.fromkeys(PARTS[:3], 0.0)
        self._mark = time.perf_counter()

    def _wrap(self, run: Run) -> None:
        for name in ("matmul", "dot"):
            self._replace(np, name, PARTS[0])
        for name in ops.__all__:
            if not isinstance(getattr(ops, name), type):
                self._replace(ops, name, PARTS[1])
        # The class: an optimizer with a wrapper of its own could not be copied.
        self._replace(type(run.optimizer), "step", PARTS[2])

    def _replace(self, owner: Any, name: str, part: str) -> None:
        function = getattr(owner, name)
        self._undo.append((owner, name, function if name in vars(owner) else None))
        setattr(owner, name, self._timed(function, part))

    def _unwrap(self) -> None:
        for owner, name, function in reversed(self._undo):
            if function is None:  # inherited
                delattr(owner, name)
            else:
                setattr(owner, name, function)
        self._undo = []

    def _timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """Count the outermost wrapped call: ``ops`` inside ``step`` count as the optimizer."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return function(*args, **kwargs)
            self._inside = True
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._spent[part] += time.perf_counter() - begin
                self._inside = False

        return timed
