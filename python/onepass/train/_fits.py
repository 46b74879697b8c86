"""The fits of functions that train several times: their arguments, marks of these, and going on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from onepass._suggest import suggestion
from onepass.train import _resume
from onepass.train._checkpoint import Checkpoint
from onepass.train._marks import mark
from onepass.train._trainer import Trainer

CKPT_PATH = "ckpt_path"  # of each fit, which the function itself gives it
WITHOUT_EFFECT = ("num_workers", CKPT_PATH)  # on any result


def check_keywords(
    function: Callable[..., Any], fit: Mapping[str, Any], cures: Mapping[str, str]
) -> None:
    """Refuse keywords that ``Trainer.fit`` lacks, or that this function takes otherwise.

    Args:
        function: that has got them. cures: name → what to pass to it instead.

    Raises:
        TypeError: there is one.
    """
    owner = function.__name__
    known = [n for n in inspect.signature(Trainer.fit).parameters if n not in ("self", "X", "y")]
    own = [n for n in inspect.signature(function).parameters if n != "fit"]
    for name in fit:
        if name in cures:
            raise TypeError(f"{owner}: unknown keyword {name!r}, expected {cures[name]}")
        if name not in known:
            hint = suggestion(name, [*own, *(n for n in known if n not in cures)])
            raise TypeError(
                f"{owner}: unknown keyword {name!r}{hint or ', expected one of Trainer.fit'}"
            )


def marks_of_fit(owner: str, fit: Mapping[str, Any], but: Collection[str] = ()) -> dict[str, Any]:
    """Marks of the arguments of fit, also of those that were left at their defaults.

    Args:
        but: names that are left out, as are those without effect on a result.
    """
    parameters = inspect.signature(Trainer.fit).parameters.values()
    options = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY} | dict(fit)
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name in WITHOUT_EFFECT or name in but:
            continue
        if isinstance(value, Mapping):  # class → weight
            value = {str(k): _number(v) for k, v in value.items()}
        found[name] = mark(owner, name, value)
    return found


def fit_on(
    trainer: Trainer,
    X: Any,
    y: Any,
    options: Mapping[str, Any],
    checkpoint: Checkpoint | None = None,
) -> None:
    """A fit that goes on where an earlier one was cut off; of one that was done it says nothing.

    Args:
        options: of fit.
        checkpoint: a callback that the trainer gets; what is in its directory is gone on with.
    """
    if checkpoint is not None:
        trainer.callbacks = [*trainer.callbacks, checkpoint]
        options = {**options, CKPT_PATH: checkpoint.dir}
    with _resume.goes_on():
        trainer.fit(X, y, **options)


def _number(value: Any) -> Any:
    """2 and 2.0 are one weight; what is none is refused by the Trainer."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)
