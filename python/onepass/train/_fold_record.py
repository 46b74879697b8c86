"""The folder of a cross-validation: with what it was begun, and the scores of folds that are done.

``cross_validation.json`` holds both; ``fold_1``, ``fold_2``, … the checkpoints and the history of
each training.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onepass._array import to_numpy
from onepass._files import ready_folder, replacing
from onepass.data._rows import Rows
from onepass.train import _resume, _store, _training
from onepass.train._callbacks import EarlyStopping, TerminateOnNaN
from onepass.train._tolerance import GradientTolerance
from onepass.train._trainer import Trainer

RECORD = "cross_validation.json"
OWNER = "cross_validate"
SHORT = 60  # characters that a message shows
ENDING = (EarlyStopping, TerminateOnNaN, GradientTolerance)  # callbacks that decide the result
WITHOUT_EFFECT = ("num_workers", "sample_weight")  # the latter is among the data
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class FoldRecord:
    """The folder, opened for one call.

    Args:
        given: name → what must be the same in every call, as JSON takes it.

    Attributes:
        scores: of the folds that are done, in their order.

    Raises:
        ValueError: the folder has folds of other data or settings, or something else. OSError:
            nothing can be written there.
    """

    def __init__(self, folder: Path, given: Mapping[str, Any]) -> None:
        self.folder = folder
        self._given: dict[str, Any] = json.loads(json.dumps(given))
        self.scores: list[dict[str, float]] = []
        if (folder / RECORD).is_file():
            held, scores = self._read()
            if scores or any(map(_store.checkpoints, folder.glob("fold_*"))):
                self._refuse_others(held)
                self.scores = scores
        elif folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir()):
            raise ValueError(
                f"{OWNER}: 'resume' is {str(folder)!r}, which holds something else, expected a "
                f"directory of {OWNER}, an empty one or a new one"
            )
        ready_folder(OWNER, "resume", folder)
        self._write()

    def place(self, number: int) -> Path:
        """The directory of a fold, counted from 1."""
        return self.folder / f"fold_{number}"

    def add(self, scores: Mapping[str, float]) -> None:
        """Another fold is done."""
        self.scores.append(dict(scores))
        self._write()

    def _write(self) -> None:
        scores = [{name: _plain(v) for name, v in row.items()} for row in self.scores]
        with replacing(self.folder / RECORD, "record of the folds") as file:
            text = json.dumps({"settings": self._given, "scores": scores}, indent=1)
            file.write(f"{text}\n".encode())

    def _read(self) -> tuple[dict[str, Any], list[dict[str, float]]]:
        path = self.folder / RECORD
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            rows = [{str(k): float(v) for k, v in row.items()} for row in known["scores"]]
            return dict(known["settings"]), rows
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{OWNER}: {path} is damaged, expected what {OWNER} wrote; pass another directory "
                "to resume=, or none"
            ) from None

    def _refuse_others(self, held: Mapping[str, Any]) -> None:
        for name, value in self._given.items():
            was = held.get(name, value)
            if value == was:
                continue
            if any(isinstance(v, (list, dict)) or len(str(v)) > SHORT for v in (value, was)):
                told = f"{name!r} is not that of the folds"
            else:
                told = f"{name!r} is {value}, expected {was}, as for the folds"
            raise ValueError(
                f"{OWNER}: {told} in {self.folder}; pass another directory to resume=, or none"
            )


def of_data(X: Any, y: Any, weight: Any, held_out: Any) -> dict[str, Any]:
    """Marks of the data, and of the folds that were made of them; lists: no message shows them."""
    marks = {"X": X, "y": y, "sample_weight": weight, "stratify or groups": held_out}
    return {name: [_digest(array)] for name, array in marks.items()}


def of_trainer(trainer: Any) -> dict[str, Any]:
    """What a trainer is made of, as far as it decides the result."""
    run = trainer.run
    state = run.model.state_dict()
    weights = hashlib.blake2b(digest_size=16)
    for name, array in state.items():
        weights.update(f"{name}{_digest(array)}".encode())
    ending = [c for c in run.callbacks if isinstance(c, ENDING)]
    return {
        "model": _shown(run.model),
        "loss": _resume._described(run.loss),
        "optimizer": [type(run.optimizer).__name__, _resume._options(run.optimizer)],
        "scheduler": _shown(run.scheduler),
        "metrics": list(run.metrics),
        "callbacks": [_shown(callback) for callback in ending],
        "regularizers": [_resume._of_kind(type(r), r) for r in run.regularizers],
        **{name: getattr(run, name) for name in (*_resume.OF_RUN, "last_batch")},
        "seed of the Trainer": run.seed,
        "initial weights that build makes of its seed": [weights.hexdigest()],
    }


def of_fit(fit: Mapping[str, Any], preprocess: Any) -> dict[str, Any]:
    """The options of fit, also those that were left at their defaults, and of the scaling."""
    parameters = inspect.signature(Trainer.fit).parameters.values()
    options = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY} | dict(fit)
    found = {}
    for name, value in options.items():
        if name not in WITHOUT_EFFECT:
            described = _resume.of_transform if name == "transform" else _resume._argument
            found[name] = described(value.item() if isinstance(value, np.generic) else value)
    if isinstance(weights := options.get("class_weight"), Mapping):
        found["class_weight"] = repr(sorted((str(k), float(v)) for k, v in weights.items()))
    return {**found, "preprocess": _shown(preprocess)}


def _shown(part: Any) -> str:
    if isinstance(part, functools.partial):
        return _resume._described(part)
    return ADDRESS.sub("", repr(part))


def _plain(value: float) -> float | str:
    """As JSON has it: "nan" and "inf" as text."""
    return value if math.isfinite(value) else str(value)


def _digest(array: Any) -> Any:
    """A mark of the contents; of what lies in a file, of some of its rows."""
    if array is None:
        return None
    if isinstance(array, (Rows, np.memmap)):
        return repr(_training.row_marks(array))
    columns = [str(c) for c in array] if hasattr(array, "iloc") and array.ndim == 2 else []
    values = np.asarray(to_numpy(array) if not columns else array)
    found = hashlib.blake2b(repr((values.shape, str(values.dtype), columns)).encode(),
                            digest_size=16)  # fmt: skip
    if values.dtype.kind == "O":
        found.update(repr(values.tolist()).encode())
    else:
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()
