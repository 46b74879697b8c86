"""The folder of a cross-validation: with what it was begun, and the scores of folds that are done.

``cross_validation.json`` holds both; ``fold_1``, ``fold_2``, … the checkpoints and the history of
each training.
"""

from __future__ import annotations

import inspect
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import onepass
from onepass import nn
from onepass.train import _marks, _resume, _store
from onepass.train._fold_samples import OWNER
from onepass.train._marks import mark, without_addresses
from onepass.train._record import ELSE, Record

RECORD = "cross_validation.json"
CALLBACKS = "callbacks of your own"  # they may only watch
OPTIONS = (*_marks.PLAIN, tuple, list, dict, set, frozenset, np.ndarray)  # of a layer


class FoldRecord:
    """The folder, which is this call's alone until `close`.

    Args:
        given: name → what must be the same in every call, as `_marks.mark` has it.
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
        self._record = Record(OWNER, folder, RECORD)
        try:
            if self._record.held is not None:
                self._open(self._record.held, count, names)
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
                    stacklevel=7,
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
        self._record.close()

    def _open(self, known: Mapping[str, Any], count: int, names: Sequence[str]) -> None:
        held, folds = self._parts(known)
        if any(fold["scores"] for fold in folds) or any(
            map(_store.checkpoints, self.folder.glob("fold_*"))
        ):
            own = {name: value for name, value in self._given.items() if name != CALLBACKS}
            self._record.compare(own, held)
            done = [fold["scores"] is not None for fold in folds]
            rows = [list(fold["scores"]) for fold in folds if fold["scores"] is not None]
            if len(folds) > count or not all(done[:-1]) or any(r != list(names) for r in rows):
                raise self._record.damaged("these are not the folds of such a call")
            self._warn_of_callbacks(self._given[CALLBACKS], held.get(CALLBACKS))
            self._folds = folds

    def _write(self) -> None:
        folds = [{**fold, "scores": _plain(fold["scores"])} for fold in self._folds]
        self._record.write({"settings": self._given, "folds": folds})

    def _parts(self, known: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Settings and folds in the file."""
        try:
            folds = []
            for fold in known["folds"]:
                scores = fold["scores"]
                if scores is not None:
                    scores = {str(name): float(value) for name, value in scores.items()}
                begun = {"samples": fold["samples"], "onepass": str(fold["onepass"])}
                folds.append({**begun, "scores": scores})
            return dict(known["settings"]), folds
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._record.damaged(repr(error)) from None

    def _warn_of_callbacks(self, now: str, was: Any) -> None:
        if now != was:
            warnings.warn(
                f"{OWNER}: the {CALLBACKS} are {now}, those of the folds in {self.folder} were "
                f"{was}: a fold may stop elsewhere than it would have",
                RuntimeWarning,
                stacklevel=9,
            )


def marks_of_trainer(trainer: Any) -> dict[str, Any]:
    """What a trainer is made of, as far as it decides the result."""
    run = trainer.run
    callbacks: dict[bool, list[str]] = {True: [], False: []}
    for callback in run.callbacks:
        ours = type(callback).__module__.startswith("onepass.")
        callbacks[ours].append(without_addresses(callback))
    texts = {
        "callbacks": ", ".join(callbacks[True]) or "none",
        "scheduler": without_addresses(run.scheduler),
    }
    held = [c for c in run.callbacks if type(c).__module__.startswith("onepass.")]
    brought = {"callbacks": [*map(_functions, held)], "scheduler": _functions(run.scheduler)}
    model = without_addresses(run.model)
    initial = "initial weights that build makes of its seed"
    return {
        "model": mark(OWNER, "model", (model, _layers(run.model)), model),
        "loss": mark(OWNER, "loss", run.loss, _resume.loss_of(run.loss)),
        "optimizer": {
            "class": type(run.optimizer).__name__,
            **_resume.options_of(run.optimizer),
        },
        "metrics": mark(OWNER, "metrics", dict(run.metrics), ", ".join(run.metrics)),
        "regularizers": mark(OWNER, "regularizers", list(run.regularizers)),
        **{
            name: mark(OWNER, name, [texts[name], functions], texts[name])
            for name, functions in brought.items()
        },
        CALLBACKS: ", ".join(callbacks[False]) or "none",
        **{name: getattr(run, name) for name in (*_resume.OF_RUN, "last_batch")},
        "seed of the Trainer": run.seed,
        initial: mark(OWNER, initial, run.model.state_dict()),
    }


def _functions(part: Any) -> dict[str, Any]:
    """What of an object its text does not tell: the code of the functions that it keeps."""
    kept = vars(part) if hasattr(part, "__dict__") else {}
    found = {}
    for name, value in kept.items():
        several = value if isinstance(value, (list, tuple)) else [value]
        if several and all(map(inspect.isroutine, several)):
            found[name] = value
    return found


def _layers(model: nn.Module) -> list[Any]:
    """Of each module its class, and the options that it keeps."""
    return [
        (
            type(layer).__qualname__,
            {
                name: value
                for name, value in vars(layer).items()
                if not name.startswith("_")
                and (isinstance(value, OPTIONS) or inspect.isfunction(value))
            },
        )
        for layer in model.modules()
    ]


def _plain(scores: Mapping[str, float] | None) -> dict[str, float | str] | None:
    """As JSON has it: "nan" and "inf" as text."""
    if scores is None:
        return None
    return {name: v if math.isfinite(v) else str(v) for name, v in scores.items()}
