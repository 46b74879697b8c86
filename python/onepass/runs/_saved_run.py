"""A saved run that can predict: its best weights, and the encodings around them."""

from __future__ import annotations

import html
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from onepass._array import to_numpy
from onepass._paths import expanded
from onepass._suggest import suggestion
from onepass.data import Encoding, Standardize
from onepass.data._given import array_of
from onepass.runs import _labels, _model_file, _scores
from onepass.runs._folder import settled
from onepass.runs._held_out import Report, report_of
from onepass.runs._names import BEST, MODEL, RECORD
from onepass.runs._network import Architecture
from onepass.runs._parts import PREPROCESS, Parts, Scale, check_range, scaled
from onepass.runs._source import Rows, rows_of, rows_with_targets, targets
from onepass.train._callbacks import Callback, EarlyStopping
from onepass.train._classes import softmax
from onepass.train._confusion import ClassificationReport
from onepass.train._evaluation import Evaluator
from onepass.train._residuals import RegressionReport
from onepass.train._run import Run
from onepass.train._search_folder import RECORD as OF_SEARCH

WEIGHTS = "weights/"
S = TypeVar("S", Scale, Standardize)
HELD_OUT = "held_out"  # an array of model.npz
MOST_SHOWN = 20  # names in a notebook


@dataclass(frozen=True, repr=False)
class SavedRun:
    """A trained network with its encoding, scaling and classes: what ``onepass train`` leaves.

    Neither the optimizer nor the schedule of the training is needed.

    Attributes:
        model: the network, an ``nn.Sequential`` in evaluation mode; its inputs are scaled.
        encoding: how the columns of a table become numbers.
        scale, target_scale: of the inputs, and of a regression's target, or None.
        about: the version, the data, the target and more, as the file has them.
        held_out: the rows of the training's data that no training has seen.
        device: where the network computes.

    Example:
        >>> import onepass
        >>> run = onepass.load_run("runs/prices")  # doctest: +SKIP
        >>> run.predict("new.csv")  # doctest: +SKIP
        array([231.5, 180.2])
    """

    model: Any
    encoding: Encoding
    scale: Scale
    target_scale: Standardize | None
    about: dict[str, Any]
    held_out: NDArray[np.int64]
    device: str = "cpu"

    @classmethod
    def of(cls, about: dict[str, Any], model: Any, parts: Parts) -> SavedRun:
        """From a training: a copy of the network as it is now, on the CPU."""
        weights = {name: to_numpy(array) for name, array in model.state_dict().items()}
        copy = _architecture(about).filled(weights)
        return cls(copy, parts.encoding, parts.scale, parts.target_scale, about, parts.test)

    def to(self, device: str) -> SavedRun:
        """This run with its network on ``device``: "cpu", "cuda" or "cuda:N".

        Raises:
            ValueError: another device. RuntimeError: CuPy or the device is not usable.
        """
        if device == self.device:
            return self
        weights = {name: to_numpy(array) for name, array in self.model.state_dict().items()}
        model = _architecture(self.about).filled(weights).to(device)
        return replace(self, model=model, device=device)

    @property
    def classes(self) -> list[Any] | None:
        """The classes, as ``predict`` gives them: whole numbers or text; None for a regression."""
        names = self.about["classes"]
        return None if names is None else _labels.as_given(names).tolist()

    @property
    def features(self) -> list[str]:
        """The columns that a table must have, in the order of an array."""
        return list(self.encoding.columns)

    @property
    def target(self) -> str:
        """The name of what is predicted."""
        return str(self.about["target"])

    def predict(self, X: Any) -> NDArray[Any]:
        """The class of each row, or the number in the unit of the target.

        Args:
            X: a table as it was in the file: a path, a DataFrame, an open file, with the columns in
                any order and further ones; or an array (N, features) of numbers in the order of
                ``features``.

        Returns:
            (N,): numbers in float64, classes as in ``classes``.

        Warns of words that training lacked (RuntimeWarning). The network computes in float32: from
        about the seventh digit on, a number depends on how many rows are predicted together.

        Raises:
            ValueError: a column is missing, or a cell cannot be read. TypeError: X is something
                else. OSError: no such file.
        """
        return self.answers(self.outputs(self._rows(X).x))

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of each class, (N, classes), in the order of ``classes``.

        Raises:
            TypeError: the run is a regression. Others as ``predict``.
        """
        if self.about["classes"] is None:
            raise TypeError("predict_proba: the run is a regression, expected a classification")
        return self.probabilities(self.outputs(self._rows(X).x))

    def evaluate(self, X: Any, y: Any = None) -> dict[str, Any]:
        """How good the predictions are.

        Args:
            X: as for ``predict``.
            y: (N,) classes as in ``classes``, or numbers; None where X is a table with its target.

        Returns:
            For classes ``accuracy``, ``loss`` (the cross entropy), ``balanced_accuracy``,
            ``majority`` (the share of the most frequent class), ``recall``, ``precision``, ``f1``
            and ``support`` by class, ``macro`` and ``weighted`` means of these; for numbers
            ``rmse``, ``mae`` and ``r2``.

        Raises:
            ValueError: no target, a class that the training did not have, or as ``predict``.
        """
        return self.scores(*self._pairs(X, y))

    def report(self, X: Any, y: Any = None) -> Report:
        """What of the predictions is right: by class, or the residuals of a regression.

        Args:
            X, y: as for ``evaluate``.

        Returns:
            A `train.ClassificationReport` or a `train.RegressionReport`, to print and to plot.

        Raises:
            As ``evaluate``.

        Example:
            >>> import onepass
            >>> report = onepass.load_run("runs/iris").report("new.csv")  # doctest: +SKIP
            >>> report.plot("confusion.png")  # doctest: +SKIP
        """
        return self.judged(*self._pairs(X, y))[1]

    def _pairs(self, X: Any, y: Any) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Encoded rows, and their class indices or numbers."""
        if y is None:
            rows = _told(rows_with_targets(X, self.encoding))
            assert rows.y is not None
            return rows.x, rows.y
        rows = _told(rows_of(X, self.encoding))
        values = to_numpy(array_of("evaluate", "y", _array(y), text=True)).reshape(-1)
        if len(values) != len(rows.x):
            raise ValueError(f"evaluate: 'y' has {len(values)} values, expected {len(rows.x)}")
        return rows.x, targets(values, self.encoding)

    def _rows(self, X: Any) -> Rows:
        return _told(rows_of(X, self.encoding))

    def outputs(self, X: NDArray[np.float64]) -> NDArray[np.float32]:
        """The network's outputs for encoded rows."""
        check_range(self.scale, X, self.encoding)
        x = scaled(self.scale, X)
        evaluator = Evaluator(self.model, None, {}, None if self.device == "cpu" else self.device)
        with np.errstate(all="ignore"):
            result: NDArray[np.float32] = to_numpy(evaluator.predict(x))
        odd = ~np.isfinite(result).all(axis=1)
        if odd.any():
            raise ValueError(
                f"row {int(odd.argmax()) + 1}: the network's output is not finite; its numbers "
                "are too far from the training data, correct them"
            )
        return result

    def answers(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Classes or numbers from the network's outputs."""
        names = self.about["classes"]
        if names is None:
            return self._in_units(outputs)
        named: NDArray[Any] = _labels.as_given(names)[outputs.argmax(axis=1)]
        return named

    def probabilities(self, outputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """The softmax of the network's outputs, in double precision."""
        result: NDArray[np.float64] = softmax(outputs)
        return result

    def scores(self, X: NDArray[np.float64], y: NDArray[Any]) -> dict[str, Any]:
        """``evaluate`` of rows that are encoded, and their class indices or numbers."""
        return self.judged(X, y)[0]

    def judged(
        self, X: NDArray[np.float64], y: NDArray[Any]
    ) -> tuple[dict[str, Any], Report, NDArray[Any]]:
        """``scores``, the report behind them, and the predicted class indices or numbers."""
        outputs = self.outputs(X)
        names = self.about["classes"]
        if names is None:
            numbers = self._in_units(outputs)
            report = report_of(y, numbers, None, self.target)
            assert isinstance(report, RegressionReport)
            return _scores.of_numbers(report), report, numbers
        predicted = outputs.argmax(axis=1)
        report = report_of(y, predicted, names)
        assert isinstance(report, ClassificationReport)
        return _scores.of_classes(outputs, y, report), report, predicted

    def write(self, folder: Path, name: str = MODEL) -> None:
        """Write model.npz into the folder, or a file of another name."""
        weights = self.model.state_dict()
        arrays = {f"{WEIGHTS}{key}": to_numpy(array) for key, array in weights.items()}
        scales = {"inputs": self.scale, "target": self.target_scale}
        for part, scale in scales.items():
            if scale is not None:
                arrays |= {f"{part}/{key}": getattr(scale, key) for key in scale.arrays}
        arrays[HELD_OUT] = self.held_out
        about = {**self.about, "encoding": self.encoding.to_dict()}
        _model_file.write(folder, about, arrays, name)

    def _in_units(self, outputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """In double: float32 may not reach as far as the targets."""
        assert self.target_scale is not None
        back = self.target_scale.inverse_transform(outputs.astype(np.float64))
        result: NDArray[np.float64] = back[:, 0]
        return result

    def __repr__(self) -> str:
        names = self.about["classes"]
        what = "regression" if names is None else f"{len(names)} classes"
        return (
            f"SavedRun({_architecture(self.about)}; {what} of {self.target!r} from "
            f"{len(self.features)} features, trained on {self.about['data']})"
        )

    def _repr_html_(self) -> str:
        names = self.about["classes"]
        what = "regression" if names is None else f"classes {', '.join(names[:MOST_SHOWN])}"
        more = " …" if names is not None and len(names) > MOST_SHOWN else ""
        features = [
            f"{feature.name} ({len(feature.categories)} words)" if feature.categories
            else f"{feature.name}{f' ({feature.unit})' if feature.unit else ''}"
            for feature in self.encoding.features
        ]  # fmt: skip
        listed = ", ".join(features[:MOST_SHOWN]) + (" …" if len(features) > MOST_SHOWN else "")
        rows = {
            "target": f"{self.target} ({what}{more})",
            f"{len(features)} features": listed,
            "network": str(_architecture(self.about)),
            "trained on": str(self.about["data"]),
            "onepass": str(self.about["version"]),
        }
        cells = (
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>"
            for name, text in rows.items()
        )
        return f"<table>{''.join(cells)}</table>"


def load_run(folder: str | os.PathLike[str]) -> SavedRun:
    """The model of a run of ``onepass train``, to predict with.

    Args:
        folder: such as runs/digits.

    Raises:
        FileNotFoundError: no run is there. ValueError: its model.npz is damaged, or of a later
            version of onepass.

    Example:
        >>> import onepass
        >>> onepass.load_run("runs/no-such-run")
        Traceback (most recent call last):
        FileNotFoundError: runs/no-such-run: no such folder, expected that of a run
    """
    path = expanded(folder, "load_run: 'folder'")
    settled(path)
    file = path / MODEL
    if not file.is_file():
        raise FileNotFoundError(no_run(path))
    return read_run(file)


def read_run(file: Path) -> SavedRun:
    """What `SavedRun.write` has written.

    Raises:
        ValueError: the file is damaged, or of a later version. OSError: it cannot be read.
    """
    about, arrays = _model_file.read(file)
    try:
        encoding = Encoding.from_dict(about.pop("encoding"))
        weights = {k.removeprefix(WEIGHTS): a for k, a in arrays.items() if k.startswith(WEIGHTS)}
        return SavedRun(
            _architecture(about).filled(weights),
            encoding,
            _filled(PREPROCESS[about.get("preprocess", "standardize")](), arrays, "inputs"),
            _filled(Standardize(), arrays, "target") if about["classes"] is None else None,
            about,
            arrays[HELD_OUT],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _model_file.damaged(file, error) from error


class KeepBest(Callback):
    """Write model.npz at each best epoch, so that a run can predict while it is trained, and after
    a kill.

    Args:
        stopping: what says which epoch is the best; it comes before this callback.
        saved: the run as it is now.
        folder: of the run.
    """

    rank_0_only = True

    def __init__(
        self, stopping: EarlyStopping, saved: Callable[[], SavedRun], folder: Path
    ) -> None:
        self.stopping, self.saved, self.folder = stopping, saved, folder

    def on_epoch_end(self, run: Run) -> None:
        if self.stopping.best_epoch == run.epoch:
            self.saved().write(self.folder)


def _architecture(about: dict[str, Any]) -> Architecture:
    fields = about["architecture"]
    return Architecture(**{**fields, "hidden": tuple(fields["hidden"])})


def _filled(scale: S, arrays: dict[str, NDArray[Any]], part: str) -> S:
    for name in scale.arrays:
        setattr(scale, name, arrays[f"{part}/{name}"])
    return scale


def _told(rows: Rows) -> Rows:
    """The rows, after a warning of each cell that may have been misunderstood."""
    for text in rows.warned:
        warnings.warn(text, RuntimeWarning, stacklevel=4)
    return rows


def _array(y: Any) -> Any:
    return np.asarray(y) if isinstance(y, (list, tuple)) else y


def no_run(path: Path) -> str:
    """Why there is no model in the folder."""
    if path.is_dir():
        if (path / RECORD).is_file():
            cure = _model_file.written_anew(path / MODEL)
            cure = cure or "; no epoch of the training is done yet"
            return f"{path}: no {MODEL}{cure}"
        if (path / OF_SEARCH).is_file():
            return f"{path} holds a search, expected a run, such as its best one, {path / BEST}"
        return f"{path} holds no run ({MODEL} is missing)"
    beside = path.parent
    there = [p.name for p in beside.iterdir() if p.is_dir()] if beside.is_dir() else []
    return f"{path}: no such folder, expected that of a run{suggestion(path.name, there)}"
