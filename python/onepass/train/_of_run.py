"""Makes an attribute of a run available on its trainer, under the same name."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from onepass.train._settings import CHECKED

T = TypeVar("T")
CURES = {"lr": "optimizer.param_groups[0]['lr']", "max_epochs": "fit(…, max_epochs=…)"}


class _OfRun(Generic[T]):
    """Read and set on ``trainer.run``; what a fit says of itself can only be read."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, trainer: Any, owner: type | None = None) -> T:
        if trainer is None:
            raise AttributeError(self._name)
        value: T = getattr(trainer.run, self._name)
        return value

    def __set__(self, trainer: Any, value: T) -> None:
        if self._name not in CHECKED:
            cure = CURES.get(self._name)
            raise AttributeError(
                f"Trainer: {self._name!r} is set to {value!r}, expected no value: a fit says there "
                f"how far it is{f'; set {cure} instead' if cure else ''}"
            )
        setattr(trainer.run, self._name, value)
