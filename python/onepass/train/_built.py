"""Checks of what a function ``build`` returns, in `restarts` and `search`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from onepass.train import _checks
from onepass.train._trainer import Trainer


def validates(fit: Mapping[str, Any]) -> bool:
    """Whether these arguments of fit measure on other samples too."""
    return fit.get("validation_data") is not None or bool(fit.get("validation_split"))


def check(
    owner: str,
    trainer: Any,
    earlier: Iterable[tuple[str, Any]],
    metric: str,
    fit: Mapping[str, Any],
) -> None:
    """Refuse what cannot be trained and compared.

    Args:
        earlier: names and models of the trainings before.

    Raises:
        TypeError: no Trainer. ValueError: an earlier model, or a history without the metric.
    """
    if not isinstance(trainer, Trainer):
        raise TypeError(f"{owner}: 'build' returned a {type(trainer).__name__}, expected a Trainer")
    for name, model in earlier:
        if model is trainer.model:
            raise ValueError(
                f"{owner}: 'build' returned the model of {name} again, expected a new one each time"
            )
    _checks.of_name(trainer.run, owner, "metric", metric, validates=validates(fit))
