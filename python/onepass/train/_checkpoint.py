"""Writing checkpoints while training, and finding the newest one to resume from."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

from onepass import _numbers as numbers
from onepass.train import _store
from onepass.train._callbacks import MODES, Callback, better
from onepass.train._keywords import suggest_keywords
from onepass.train._run import Run
from onepass.train._store import CheckpointError


class Checkpoint(Callback):
    """Save all that a bitwise-equal resume needs: ``fit(…, ckpt_path=dir)`` goes on from here.

    At the end of a step it writes a checkpoint beside the others and then renames it into place; a
    kill or a full disk leaves the old ones as they were. Ctrl-C writes one more.

    Args:
        dir: the directory of the run's checkpoints.
        every_n_steps, every_n_epochs: how often; one of them, or every epoch if neither is given.
        keep: newest checkpoints to keep.
        monitor: a name in the history: the best checkpoint by it is kept as well.
        mode: ``"min"``, ``"max"`` or ``"auto"``, as in EarlyStopping.

    Raises:
        ValueError: both intervals, one below 1, ``monitor`` with ``every_n_steps``; at the start of
            training, ``dir`` holds checkpoints of another run that are further on.

    Example:
        >>> from onepass.train import Checkpoint
        >>> Checkpoint("runs/digits/checkpoints", every_n_epochs=5).keep
        3
    """

    @suggest_keywords
    def __init__(
        self,
        dir: str | Path,
        every_n_steps: int | None = None,
        every_n_epochs: int | None = None,
        keep: int = 3,
        monitor: str | None = None,
        mode: str = "auto",
    ) -> None:
        if every_n_steps is not None and every_n_epochs is not None:
            raise ValueError(
                f"Checkpoint: 'every_n_steps' is {every_n_steps!r}, expected None with "
                "every_n_epochs"
            )
        if monitor is not None and every_n_steps is not None:
            raise ValueError(
                f"Checkpoint: 'monitor' is {monitor!r}, expected None with every_n_steps: its "
                "value is known after an epoch (use every_n_epochs)"
            )
        for name, value in (("every_n_steps", every_n_steps), ("every_n_epochs", every_n_epochs)):
            if value is not None:
                numbers.integer("Checkpoint", name, value, 1)
        numbers.integer("Checkpoint", "keep", keep, 1)
        numbers.one_of("Checkpoint", "mode", mode, MODES)
        self.dir = Path(dir)
        self.every_n_steps = every_n_steps
        self.every_n_epochs = None if every_n_steps is not None else every_n_epochs or 1
        self.keep = keep
        self.monitor = monitor
        self.mode = mode
        self.best = math.nan
        self.best_step = -1

    @property
    def best_path(self) -> Path | None:
        """The best checkpoint by ``monitor``, or None."""
        found = (p for p in _store.checkpoints(self.dir) if _store.step_of(p) == self.best_step)
        return next(found, None)

    def on_fit_begin(self, run: Run) -> None:
        _store.clean(self.dir)
        found = _store.checkpoints(self.dir)
        if found and not run.resumed and _store.step_of(found[-1]) > run.step:
            raise ValueError(
                f"Checkpoint: 'dir' is {str(self.dir)!r}, which holds checkpoints of another run "
                f"up to {found[-1].name}, expected a directory without them (pass ckpt_path to go "
                "on from them, or remove them)"
            )

    def on_step_end(self, run: Run) -> None:
        if self.every_n_steps is not None and run.step % self.every_n_steps == 0:
            self._save(run)

    def on_epoch_end(self, run: Run) -> None:
        if self.every_n_epochs is None or run.epoch % self.every_n_epochs:
            return
        if self.monitor is not None:
            value = run.history[self.monitor][-1]
            if better(self.mode, self.monitor, value, self.best):
                self.best, self.best_step = value, run.step
        self._save(run)

    def on_abort(self, run: Run, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt) and run.at_boundary:
            self._save(run)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = float(state_dict["best"])
        self.best_step = int(state_dict["best_step"])

    def _save(self, run: Run) -> None:
        run.save(self.dir)
        *older, _ = _store.checkpoints(self.dir)
        for path in older[: len(older) + 1 - self.keep]:
            if _store.step_of(path) != self.best_step:
                _store.retire(path)


def newest(root: str | Path) -> dict[str, Any] | None:
    """The state in the newest valid checkpoint of ``root``; None if there is no checkpoint.

    Gives a RuntimeWarning, with the file, for each damaged one that it passes over.

    Raises:
        CheckpointError: there are checkpoints and none is valid. NotADirectoryError: ``root`` is a
            file.
    """
    folder = Path(root)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder}: a file, expected a Checkpoint directory")
    if (folder / _store.STATE).exists():
        return _store.read(folder)
    found = _store.checkpoints(folder)
    for path in reversed(found):
        try:
            return _store.read(path)
        except CheckpointError as error:
            reason = error
            warnings.warn(f"damaged checkpoint left out: {error}", RuntimeWarning, stacklevel=3)
    if found:
        raise CheckpointError(f"{folder}: none of {len(found)} checkpoints is valid: {reason}")
    return None
