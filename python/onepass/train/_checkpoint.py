"""Writing checkpoints while training, and finding the newest one to resume from."""

from __future__ import annotations

import math
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from onepass import _numbers as numbers
from onepass._files import claim, path_of, ready_folder
from onepass._keywords import suggest_keywords
from onepass._paths import expanded
from onepass.train import _store
from onepass.train._callbacks import Callback, watched
from onepass.train._monitor import MODES, better, direction, name_of
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
            training, ``dir`` holds checkpoints of another run that are further on, or belongs to
            another Checkpoint of the trainer as well. OSError: at the start of training, nothing
            can be written there; later, such as on a full disk: the file, and what is whole.
            RuntimeError: at the start of training, another fit of this process writes there.

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
        self.dir = path_of("Checkpoint", "dir", dir)
        self.every_n_steps = every_n_steps
        self.every_n_epochs = None if every_n_steps is not None else every_n_epochs or 1
        self.keep = keep
        self.monitor = None if monitor is None else name_of("Checkpoint", monitor)
        self.mode = mode
        self.reset()

    def reset(self) -> None:
        self.best = math.nan
        self.best_step = -1

    rank_0_only = True

    @property
    def best_path(self) -> Path | None:
        """The best checkpoint by ``monitor``, or None."""
        found = (p for p in _store.checkpoints(self.dir) if _store.step_of(p) == self.best_step)
        return next(found, None)

    def on_fit_begin(self, run: Run) -> None:
        claim("Checkpoint", "dir", self.dir, run)
        ready_folder("Checkpoint", "dir", self.dir)
        others = [c for c in run.callbacks if isinstance(c, Checkpoint) and c is not self]
        if any(other.dir.resolve() == self.dir.resolve() for other in others):
            raise ValueError(
                f"Checkpoint: 'dir' is {str(self.dir)!r} twice in 'callbacks', expected a "
                "directory for each: they would remove each other's checkpoints"
            )
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
            value = watched(self, run)
            if better(direction("Checkpoint", self.monitor, self.mode), value, self.best):
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
        if run.torn:  # by a signal that cut another hook, which the run ends with
            return
        run.write(self.dir)
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
    folder = expanded(root)
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


def are_damaged(folder: Path) -> bool:
    """Whether there are checkpoints in a folder, of which none can be read."""
    found = _store.checkpoints(folder)
    for path in reversed(found):
        with suppress(CheckpointError):
            _store.read(path)
            return False
    return bool(found)


def weights(root: str | Path, which: str) -> dict[str, Any]:
    """The model's part of the newest valid checkpoint, with the weights of its best epoch if asked.

    Those are what EarlyStopping gives back at the end, else those of the checkpoint that a
    Checkpoint with ``monitor`` keeps.

    Raises:
        FileNotFoundError: no checkpoint in ``root``. ValueError: ``which`` is another word, or
            ``"best"`` and no callback has kept one.
    """
    numbers.one_of("load_weights", "which", which, ("best", "last"))
    folder = expanded(root)
    parts = newest(folder)
    if parts is None:
        raise FileNotFoundError(f"no checkpoint in {folder}")
    model = _evaluated(parts)
    modules = parts["trainer"].get("modules")
    if which == "best":
        states = parts["callbacks"].values()
        kept = [s["best_weights"] for s in states if s.get("best_weights") is not None]
        steps = [s["best_step"] for s in states if s.get("best_step", -1) >= 0]
        paths = [p for p in _store.checkpoints(folder) if _store.step_of(p) in steps]
        if not kept and not paths:
            raise ValueError(
                f"load_weights: 'which' is 'best', expected 'last': no EarlyStopping and no "
                f"Checkpoint with a monitor has kept the best weights in {folder}"
            )
        model = kept[0] if kept else _evaluated(_store.read(paths[-1]))
    return {"model": model, "modules": modules}


def _evaluated(parts: dict[str, Any]) -> dict[str, Any]:
    """The model as it was evaluated; earlier versions kept no averages."""
    averages: dict[str, Any] | None = parts.get("averages")
    model: dict[str, Any] = parts["model"]
    return model if averages is None else averages
