"""The folder of a cross-validation: with what it was begun, and the scores of folds that are done.

``cross_validation.json`` holds both; ``fold_1``, ``fold_2``, … the checkpoints and the history of
each training.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import onepass
from onepass import nn
from onepass._files import lock_folder, ready_folder, replacing
from onepass.train import _contents, _resume, _store
from onepass.train._contents import digest, mark, shown
from onepass.train._trainer import Trainer

RECORD = "cross_validation.json"
OWNER = "cross_validate"
LONGEST = 60  # characters of a value that a message shows
WITHOUT_EFFECT = ("num_workers", "sample_weight")  # the latter is among the data
CALLBACKS = "callbacks of your own"  # they may only watch
ELSE = "pass another directory to resume=, or none"


class FoldRecord:
    """The folder, which is this call's alone until `close`.

    Args:
        given: name → what must be the same in every call, as JSON takes it: a text that messages
            show, or [text or None, mark].
        count: of folds. names: of their scores.

    Raises:
        ValueError: the folder has folds of other data or settings, or something else. OSError:
            nothing can be written there, or another call uses it.
    """

    def __init__(
        self, folder: Path, given: Mapping[str, Any], count: int, names: Sequence[str]
    ) -> None:
        self.folder = folder
        self._given: dict[str, Any] = json.loads(json.dumps(given))
        self._folds: list[dict[str, Any]] = []
        self._lock: int | None = None
        if not (folder / RECORD).is_file():
            if folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir()):
                raise ValueError(
                    f"{OWNER}: 'resume' is {str(folder)!r}, which holds something else, expected a "
                    f"directory of {OWNER}, an empty one or a new one"
                )
            ready_folder(OWNER, "resume", folder)
        try:
            self._lock = lock_folder(folder)
        except BlockingIOError as error:
            raise BlockingIOError(
                f"{OWNER}: 'resume' is {str(folder)!r}, in which another call trains, expected one "
                "at a time"
            ) from error
        try:
            if (folder / RECORD).is_file():
                self._open(count, names)
            ready_folder(OWNER, "resume", folder)
            self._write()
        except BaseException:
            self.close()
            raise

    def place(self, number: int) -> Path:
        """The directory of a fold, counted from 1."""
        return self.folder / f"fold_{number}"

    def scores(self, number: int) -> dict[str, float] | None:
        """Of a fold that is done."""
        return self._folds[number - 1]["scores"] if number <= len(self._folds) else None

    def begin(self, number: int, samples: str | None) -> None:
        """A fold begins or goes on.

        Args:
            samples: a mark of those that it is trained on, as ``preprocess`` has made them.

        Raises:
            ValueError: it was begun with others.
        """
        begun = number <= len(self._folds)
        if begun and (self.scores(number) or _store.checkpoints(self.place(number))):
            fold = self._folds[number - 1]
            if fold["samples"] != samples:
                raise ValueError(
                    f"{OWNER}: 'preprocess' makes other numbers of the samples of fold {number} "
                    f"than those in {self.folder} were trained on, expected the same; give it a "
                    f"seed of its own (random_state=…) and {ELSE}"
                )
            if fold["onepass"] != onepass.__version__:
                warnings.warn(
                    f"{OWNER}: fold {number} in {self.folder} was begun with onepass "
                    f"{fold['onepass']}, this is {onepass.__version__}: it may have other bits",
                    RuntimeWarning,
                    stacklevel=5,
                )
            return
        fold = {"samples": samples, "onepass": onepass.__version__, "scores": None}
        self._folds[number - 1 :] = [fold]
        self._write()

    def add(self, number: int, scores: Mapping[str, float]) -> None:
        """A fold is done."""
        self._folds[number - 1]["scores"] = dict(scores)
        self._write()

    def close(self) -> None:
        """Let others use the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open(self, count: int, names: Sequence[str]) -> None:
        held, folds = self._read()
        if any(fold["scores"] for fold in folds) or any(
            map(_store.checkpoints, self.folder.glob("fold_*"))
        ):
            self._refuse_others(held)
            done = [fold["scores"] is not None for fold in folds]
            rows = [list(fold["scores"]) for fold in folds if fold["scores"] is not None]
            if len(folds) > count or not all(done[:-1]) or any(r != list(names) for r in rows):
                raise self._damaged()
            self._folds = folds

    def _write(self) -> None:
        folds = [{**fold, "scores": _plain(fold["scores"])} for fold in self._folds]
        with replacing(self.folder / RECORD, "record of the folds") as file:
            text = json.dumps({"settings": self._given, "folds": folds}, indent=1)
            file.write(f"{text}\n".encode())

    def _read(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        try:
            known = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
            folds = []
            for fold in known["folds"]:
                scores = fold["scores"]
                if scores is not None:
                    scores = {str(name): float(value) for name, value in scores.items()}
                begun = {"samples": fold["samples"], "onepass": str(fold["onepass"])}
                folds.append({**begun, "scores": scores})
            return dict(known["settings"]), folds
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._damaged() from None

    def _damaged(self) -> ValueError:
        return ValueError(
            f"{OWNER}: {self.folder / RECORD} is damaged, or of another version, expected what "
            f"{OWNER} wrote; {ELSE}"
        )

    def _refuse_others(self, held: Mapping[str, Any]) -> None:
        if held.keys() != self._given.keys():
            raise self._damaged()
        for name, value in self._given.items():
            was = held[name]
            if value == was:
                continue
            if name == CALLBACKS:
                warnings.warn(
                    f"{OWNER}: the {CALLBACKS} are {value}, those of the folds in {self.folder} "
                    f"were {was}: a fold may stop elsewhere than it would have",
                    RuntimeWarning,
                    stacklevel=5,
                )
                continue
            raise ValueError(f"{OWNER}: {_told(name, value, was)} in {self.folder}; {ELSE}")


def _told(name: str, value: Any, was: Any) -> str:
    """What differs, and how, where it is short."""
    now, then = (v[0] if isinstance(v, list) else v for v in (value, was))
    if now is None or max(len(str(now)), len(str(then))) > LONGEST:
        return f"{name!r} is not that of the folds"
    if now == then:
        return f"{name!r} is {now} with other contents than for the folds"
    now, then = ("none" if v == "" else v for v in (now, then))
    return f"{name!r} is {now}, expected {then}, as for the folds"


def of_data(X: Any, y: Any, weight: Any, held_out: Any, groups: Any) -> dict[str, Any]:
    """Marks of the data, and of the folds that were made of them."""
    marks = {"X": X, "y": y, "sample_weight": weight, "stratify or groups": held_out}
    return {name: [None, digest(array)] for name, array in {**marks, "groups": groups}.items()}


def of_trainer(trainer: Any) -> dict[str, Any]:
    """What a trainer is made of, as far as it decides the result."""
    run = trainer.run
    weights = {name: digest(array) for name, array in run.model.state_dict().items()}
    callbacks: dict[bool, list[str]] = {True: [], False: []}
    for callback in run.callbacks:
        callbacks[type(callback).__module__.startswith("onepass.")].append(shown(callback))
    options = {f"optimizer {n}": repr(v) for n, v in _resume._options(run.optimizer).items()}
    return {
        "model": [shown(run.model), mark(_layers(run.model))],
        "loss": [_resume._described(run.loss), mark(run.loss)],
        "optimizer": type(run.optimizer).__name__,
        **options,
        "scheduler": shown(run.scheduler),
        "metrics": [", ".join(run.metrics), mark(dict(run.metrics))],
        "callbacks": ", ".join(callbacks[True]),
        CALLBACKS: ", ".join(callbacks[False]) or "none",
        "regularizers": [", ".join(map(shown, run.regularizers)), mark(list(run.regularizers))],
        **{name: getattr(run, name) for name in (*_resume.OF_RUN, "last_batch")},
        "seed of the Trainer": run.seed,
        "initial weights that build makes of its seed": [None, mark(weights)],
    }


def of_fit(fit: Mapping[str, Any], preprocess: Any) -> dict[str, Any]:
    """The options of fit, also those that were left at their defaults, and of the scaling."""
    parameters = inspect.signature(Trainer.fit).parameters.values()
    options = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY} | dict(fit)
    found: dict[str, Any] = {}
    for name, value in options.items():
        value = value.item() if isinstance(value, np.generic) else value
        if name in WITHOUT_EFFECT:
            continue
        if name == "transform":
            found[name] = [_resume.of_transform(value), mark(value)]
        elif isinstance(value, Mapping):  # of classes
            found[name] = [None, mark({str(k): _number(v) for k, v in value.items()})]
        else:
            found[name] = _resume._argument(value)
    return {**found, "preprocess": [shown(preprocess), mark(preprocess)]}


def _layers(model: nn.Module) -> list[Any]:
    """Of each module its class, and the options that it keeps."""
    return [
        (
            type(layer).__qualname__,
            {
                name: value
                for name, value in vars(layer).items()
                if not name.startswith("_")
                and (isinstance(value, (*_contents.PLAIN, tuple)) or inspect.isfunction(value))
            },
        )
        for layer in model.modules()
    ]


def _number(value: Any) -> Any:
    """2 and 2.0 are one weight; what is none is refused by the Trainer."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def _plain(scores: Mapping[str, float] | None) -> dict[str, float | str] | None:
    """As JSON has it: "nan" and "inf" as text."""
    if scores is None:
        return None
    return {name: v if math.isfinite(v) else str(v) for name, v in scores.items()}
