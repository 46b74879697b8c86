"""Ties the memory of callbacks to one training, and refuses a callback in two fits at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from onepass._one_thread import Lock, after_fork

_LOCK = Lock()
fits: dict[Any, int] = {}  # the runs that are in a fit, and its thread


@after_fork
def _forget_others(thread: int) -> None:
    """In a forked child, where this thread is the only one: the fits of others are over."""
    for run, other in list(fits.items()):
        if other != thread:
            del fits[run]
            run.fitting = run.training.fitting = False
            run.torn = run.torn or not run.at_boundary


class Training:
    """One model trained on one set of data, over any number of fits and resumes.

    A fit of the same trainer, with the same model and data, goes on with it. Another trainer, model
    or training or validation data begin a new one, in which callbacks start afresh.
    """

    def __init__(self, model: Any, data: Any = None) -> None:
        self.model = model
        self.data = data
        self.fitting = False

    def includes(self, model: Any, data: Any) -> bool:
        """Whether a fit of ``model`` on ``data`` goes on with this training."""
        return self.model is model and self.data in (None, data)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "fitting": False}  # a copy made by a hook is in no fit


def adopt(training: Training, callbacks: Iterable[Any], *, fitting: bool) -> None:
    """Make ``training`` the one that the callbacks remember; those of another start afresh.

    Raises:
        RuntimeError: another fit is using a callback; nothing is changed.
    """
    with _LOCK:
        known = [(c, getattr(c, "_training", None)) for c in callbacks]
        for callback, other in known:
            if other is not None and other is not training and other.fitting:
                raise RuntimeError(
                    f"{type(callback).__name__}: another fit is using this callback, expected one "
                    "fit at a time; make one for each Trainer"
                )
        for callback, other in known:
            if other is not training:
                callback.reset()
                callback._training = training
        training.fitting = fitting
