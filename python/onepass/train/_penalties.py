"""The regularizers of a run: when the loop calls them, and their values for the history."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from onepass.train._history import OWN
from onepass.train.regularizers import Regularizer


def checked(regularizers: Any) -> list[Regularizer]:
    """The regularizers as a list, with a name each."""
    if isinstance(regularizers, (str, Regularizer)) or not isinstance(regularizers, Iterable):
        raise TypeError(
            f"Trainer: 'regularizers' is {regularizers!r}, expected a list of regularizers, such "
            "as [train.regularizers.L2(1e-4)]"
        )
    found: list[Any] = list(regularizers)
    names: set[str] = set()
    for number, regularizer in enumerate(found):
        if not isinstance(regularizer, Regularizer):
            shown = regularizer.__name__ if isinstance(regularizer, type) else repr(regularizer)
            raise TypeError(
                f"Trainer: 'regularizers[{number}]' is {shown}, expected a regularizer of "
                "onepass.train.regularizers, such as L2(1e-4)"
            )
        if regularizer.name in names:
            raise ValueError(
                f"Trainer: 'regularizers[{number}]' has the name {regularizer.name!r}, expected "
                f"one of its own: {type(regularizer).__name__}(…, name=…)"
            )
        names.add(regularizer.name)
    return found


def refuse_taken_names(run: Any) -> None:
    """Refuse a regularizer with the name of another column of the history."""
    taken = {*OWN, "val_loss", *run.metrics, *(f"val_{name}" for name in run.metrics)}
    for callback in run.callbacks:
        taken |= {callback.logs} if isinstance(callback.logs, str) else {*callback.logs}
    for regularizer in run.regularizers:
        if regularizer.name in taken:
            raise ValueError(
                f"Trainer: a regularizer has the name {regularizer.name!r}, expected one that the "
                f"history does not have: {type(regularizer).__name__}(…, name=…)"
            )


class Penalties:
    """The regularizers of a fit in progress."""

    def __init__(self) -> None:
        self._active: list[Regularizer] = []

        self.silent = False  # whether values stay out of the history: those of a line search
        self.value = 0.0  # of those of the step, at the last call

    def __bool__(self) -> bool:
        return bool(self._active)

    def __len__(self) -> int:
        return len(self._active)

    @property
    def are_of_batches(self) -> bool:
        """Whether one has a penalty of batches, beside those of parameters alone."""
        own = ("before_backward", "after_batch")
        return any(
            getattr(type(r), name) is not getattr(Regularizer, name)
            for r in self._active
            for name in own
        )

    def follow(self, run: Any) -> None:
        """Begin those of the run, and end those that it has no more."""
        self.end()
        refuse_taken_names(run)
        for regularizer in run.regularizers:
            if regularizer._fit is not None:
                self.end()
                raise RuntimeError(
                    f"fit: another fit uses {regularizer!r}, expected a regularizer of its own for "
                    "each Trainer"
                )
            regularizer._fit = self
            self._active.append(regularizer)
            try:
                regularizer.begin(run)
            except BaseException:
                self.end()
                raise

    def end(self) -> None:
        """End all, the last that began first."""
        while self._active:
            regularizer = self._active.pop()
            regularizer._fit = None
            regularizer.end()

    def before_backward(self, run: Any, share: float) -> None:
        for regularizer in self._active:
            regularizer.before_backward(run, share)

    def of_batch(self, run: Any, x: Any, share: float) -> list[float | None]:
        """The penalties of a batch, whose gradients are added."""
        return [regularizer.after_batch(run, x, share) for regularizer in self._active]

    def after_batch(
        self, run: Any, values: list[float | None], divisor: float | None, batch: int
    ) -> None:
        """Count the penalties of batch number ``batch``, of ``of_batch``."""
        count = 1.0 if divisor is None else divisor
        self.value = 0.0
        for regularizer, value in zip(self._active, values, strict=True):
            self._note(run, regularizer, value, count, batch)

    def before_step(self, run: Any) -> None:
        for regularizer in self._active:
            self._note(run, regularizer, regularizer.before_step(run), 1.0, run.position)

    def _note(
        self, run: Any, regularizer: Regularizer, value: float | None, count: float, batch: int
    ) -> None:
        if value is None:
            return
        self.value += value
        if self.silent:
            return
        finite = math.isfinite(value)
        if not finite and run.nonfinite == "raise":
            where = f"epoch {run.epoch + 1}, batch {batch}"
            raise FloatingPointError(
                f"{type(regularizer).__name__}: the penalty is {value} in {where}; lower the "
                "learning rate or its weight, or pass nonfinite='skip' to the Trainer"
            )
        if finite or run.nonfinite == "propagate":
            run.add_to_epoch(regularizer.name, value, count)
