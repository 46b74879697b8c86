"""Cross-validation: a training for each fold, scored on the samples that it has not seen."""

from __future__ import annotations

import copy
import inspect
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._array import to_numpy
from onepass._files import path_of
from onepass._keywords import suggest_keywords
from onepass._one_thread import Lock
from onepass._suggest import suggestion
from onepass.data import DataLoader, split_indices
from onepass.data._folds import indices_of, split_groups
from onepass.data._given import array_of, rows_of
from onepass.data._rows import Rows, add_note, part_of, rows_or_array, samples_or_array
from onepass.data._shares import placed
from onepass.data._split import Indices, held_out
from onepass.data._weights import checked_weights
from onepass.nn import _random
from onepass.train import _fold_record, _score_table
from onepass.train._checkpoint import Checkpoint
from onepass.train._contents import digest
from onepass.train._evaluation import BATCH
from onepass.train._fold_record import OWNER, FoldRecord
from onepass.train._history import FILE, History
from onepass.train._trainer import NothingLeft, Trainer

_one_at_a_time = Lock(reentrant=True)  # draws from generators that the process has for all


@dataclass(frozen=True, eq=False)
class Fold:
    """One training of a cross-validation.

    Attributes:
        number: counted from 1.
        train, test: positions of the samples that it was trained on, and of those held out.
        trainer: with the model as it was when its fit ended.
        scores: "loss" and the metrics, of the samples held out.
        preprocess: the scaling that was fitted to the training samples, but for those of a
            ``validation_split``, or None.

    Example:
        >>> from onepass.train import Fold
        >>> Fold(1, [0, 1, 3], [2], trainer=None, scores={"loss": 0.5}).scores["loss"]
        0.5
    """

    number: int
    train: Indices
    test: Indices
    trainer: Any
    scores: dict[str, float]
    preprocess: Any = None

    @property
    def history(self) -> History:
        """The losses and metrics of each epoch: ``trainer.history``."""
        history: History = self.trainer.history
        return history

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value:.4g}" for name, value in self.scores.items())
        sizes = f"{len(self.train)} training, {len(self.test)} held out"
        return f"Fold({self.number}: {sizes}; {shown})"


class CrossValidation(Sequence[Fold]):
    """What `cross_validate` returns: a sequence of `Fold`; printed, it is a table.

    Args:
        folds: the trainings.

    Attributes:
        folds: the same, as a list.

    Example:
        >>> from onepass.train import CrossValidation, Fold
        >>> scores = [{"loss": 0.5}, {"loss": 0.25}]
        >>> print(CrossValidation([Fold(n, [], [], None, s) for n, s in enumerate(scores, 1)]))
        fold                  loss
        1                   0.5000
        2                   0.2500
        mean ± sd  0.3750 ± 0.1768
    """

    def __init__(self, folds: Sequence[Fold]) -> None:
        self.folds = list(folds)

    @property
    def scores(self) -> dict[str, list[float]]:
        """Name → the score of each fold."""
        return {name: [fold.scores[name] for fold in self.folds] for name in self._names()}

    @property
    def mean(self) -> dict[str, float]:
        """Name → the mean over the folds; NaN where one is."""
        return {name: _score_table.mean_of(self._rows(), name) for name in self._names()}

    @property
    def std(self) -> dict[str, float]:
        """Name → the standard deviation over the folds, of a sample: over K - 1."""
        return {name: _score_table.deviation_of(self._rows(), name) for name in self._names()}

    def table(self) -> str:
        """A line for each fold, and one with mean ± standard deviation."""
        return _score_table.table(self._rows(), self._names())

    def predict(self, X: Any, *, batch_size: int = BATCH) -> NDArray[Any]:
        """The outputs for each sample, of the model that has not seen it: (N, …), as NumPy has it.

        Args:
            X: the samples that `cross_validate` got, in their order.
            batch_size: samples at a time; it changes rounding alone.

        Raises:
            ValueError: another number of samples; some of the folds alone.
        """
        size = sum(len(fold.test) for fold in self.folds)
        places = np.concatenate([np.zeros(0, np.int64), *(fold.test for fold in self.folds)])
        if not size or not np.array_equal(np.sort(places), np.arange(size)):
            raise ValueError(
                "CrossValidation.predict: these folds do not hold out each sample once, expected "
                "all folds of one cross_validate"
            )
        if len(X) != size:
            raise ValueError(
                f"CrossValidation.predict: 'X' has {len(X)} samples, expected the {size} that the "
                "folds were made of"
            )
        result: Any = None
        for fold in self.folds:
            samples = _samples(X, fold.preprocess)
            x = _prepared(fold.preprocess, _part(samples, fold.test))
            outputs = to_numpy(fold.trainer.predict(x, batch_size=batch_size))
            if result is None:
                result = np.empty((size, *outputs.shape[1:]), outputs.dtype)
            result[fold.test] = outputs
        outputs_of_all: NDArray[Any] = result
        return outputs_of_all

    def _rows(self) -> list[dict[str, float]]:
        return [fold.scores for fold in self.folds]

    def _names(self) -> list[str]:
        return list(self.folds[0].scores) if self.folds else []

    @overload
    def __getitem__(self, index: int) -> Fold: ...
    @overload
    def __getitem__(self, index: slice) -> CrossValidation: ...
    def __getitem__(self, index: int | slice) -> Fold | CrossValidation:
        found = self.folds[index]
        return CrossValidation(found) if isinstance(found, list) else found

    def __len__(self) -> int:
        return len(self.folds)

    def __iter__(self) -> Iterator[Fold]:
        return iter(self.folds)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        rows = self._rows()
        shown = ", ".join(f"{name} {_score_table.spread(rows, name)}" for name in self._names())
        return f"CrossValidation({len(self)} folds: {shown})"


@suggest_keywords
def cross_validate(
    build: Callable[[int], Trainer],
    X: Any,
    y: Any,
    *,
    folds: int = 5,
    seed: int = 0,
    stratify: bool | None = None,
    groups: Any = None,
    preprocess: Any = None,
    resume: str | Path | None = None,
    **fit: Any,
) -> CrossValidation:
    """Train once for each fold on the samples outside of it, and score the model on those inside.

    The folds are those of `data.fold_indices`: a function of ``seed``, the number of samples and
    the labels or groups alone. Each ``build(seed)`` makes its layers as behind
    ``nn.manual_seed(seed)`` (and the random numbers of ``nn`` go on behind it as before), so that
    the trainings differ by their samples alone. A fold depends on nothing else: an interruption
    changes none.

    Args:
        build: a function of the seed, which returns a new Trainer of a new model.
        X, y: arrays as for ``Trainer.fit``.
        folds: how many, at least 2.
        seed: of the folds; ``build`` gets it too.
        stratify, groups: as of `data.fold_indices`: whether to spread classes evenly, and which
            samples must not be apart.
        preprocess: an object with fit and transform, such as ``data.Standardize()`` or a pipeline
            of scikit-learn: a copy of it is fitted to the training samples of each fold, without
            those of ``validation_split``, and transforms these and all others. Scaling all of X
            before would let the training see what it is scored on. X may then be a DataFrame that
            only ``preprocess`` understands. Random numbers that NumPy and Python have for all, as
            steps without a ``random_state`` draw them, are seeded with ``seed`` meanwhile.
        resume: a directory. Each fold keeps a checkpoint an epoch in a folder of its own there;
            called again after an interruption, those that are done are loaded and the others go on,
            with the same bits. Its ``cross_validation.json`` holds the scores, and marks of data
            and settings, which must be those of before: all values of X, y, weights and groups (of
            a data set, shapes and dtypes), what ``preprocess`` makes of the training samples, and
            what model, loss, metrics and optimizer are made with. Other callbacks of your own are
            warned of, and so is another version of onepass.
        fit: the other arguments of ``Trainer.fit``, such as ``max_epochs``. ``validation_split`` is
            a share of the training samples of each fold, of whole groups where there are
            ``groups``. ``sample_weight`` is for all of X: the training uses it, the scores count
            every sample once.

    Returns:
        A `CrossValidation`: ``print`` it for a table; ``mean``, ``std``, ``scores`` by name,
        ``predict(X)``, and a `Fold` for each training.

    Raises:
        TypeError: X or y are not arrays; build returns no Trainer; an unknown keyword. ValueError:
            more folds than groups, or with ``stratify=True`` than samples of a class; an argument
            out of range; a trainer or a model of an earlier fold; a directory of other data or
            settings. BlockingIOError: another call trains in the directory. FloatingPointError: a
            fold whose loss or gradient is not finite.

    Source: Stone, Cross-Validatory Choice and Assessment of Statistical Predictions, 1974.

    Example:
        >>> import numpy as np
        >>> from onepass import nn, optim
        >>> from onepass.data import Standardize
        >>> from onepass.train import Trainer, cross_validate
        >>> X = np.random.default_rng(0).standard_normal((90, 2)) * [1, 100]
        >>> y = (X[:, 0] > 0).astype(np.int64)
        >>> def build(seed):
        ...     model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        ...     optimizer = optim.Adam(model.parameters(), lr=0.05)
        ...     return Trainer(model, nn.CrossEntropyLoss(), optimizer, metrics=["accuracy", "auc"],
        ...                    seed=seed, progress=False)
        >>> found = cross_validate(build, X, y, folds=3, preprocess=Standardize(), max_epochs=20)
        >>> found.mean["accuracy"] > 0.9, len(found.scores["auc"])
        (True, 3)
        >>> found.predict(X).shape
        (90, 2)
    """
    if not callable(build):
        raise TypeError(f"{OWNER}: 'build' is {build!r}, expected a function of a seed")
    seed = numbers.seed(OWNER, "seed", seed)
    _check_keywords(fit)
    _check_preprocess(preprocess)
    X, y, weight = _data(X, y, preprocess, fit.get("sample_weight"))
    parts = indices_of(OWNER, y, folds, stratify=stratify, groups=groups, seed=seed)
    given = _Given(X, y, weight, _groups(groups), preprocess, fit, seed)
    record: FoldRecord | None = None
    done: list[Fold] = []
    try:
        for number, (train, test) in enumerate(parts, 1):
            trainer = _built(build, seed)
            _check_trainer(trainer, done)
            if resume is not None and record is None:
                record = _record(path_of(OWNER, "resume", resume), given, trainer, parts)
            try:
                done.append(given.fold(number, train, test, trainer, record))
            except Exception as error:
                add_note(error, OWNER, f"fold {number}")
                raise
    finally:
        if record is not None:
            record.close()
    return CrossValidation(done)


def _record(
    folder: Path, given: _Given, trainer: Trainer, parts: list[tuple[Indices, Indices]]
) -> FoldRecord:
    settings = {
        "folds": len(parts),
        "seed": given.seed,
        **_fold_record.of_data(
            given.X, given.y, given.weight, np.concatenate([test for _, test in parts]),
            given.groups,
        ),
        **_fold_record.of_fit(given.fit, given.preprocess),
        **_fold_record.of_trainer(trainer),
    }  # fmt: skip
    return FoldRecord(folder, settings, len(parts), ["loss", *trainer.metrics])


def _groups(groups: Any) -> Any:
    if groups is None:
        return None
    return (
        np.asarray(groups)
        if isinstance(groups, (list, tuple))
        else to_numpy(array_of(OWNER, "groups", groups, text=True))
    )


def _built(build: Callable[[int], Trainer], seed: int) -> Any:
    """What ``build`` makes of a process that was seeded, which is left as it was."""
    with _one_at_a_time, _random.seeded(seed):
        return build(seed)


@dataclass(frozen=True)
class _Given:
    """The data, and what each fold does with them."""

    X: Any
    y: Any
    weight: Any
    groups: Any
    preprocess: Any
    fit: dict[str, Any]
    seed: int

    def fold(
        self, number: int, train: Indices, test: Indices, trainer: Trainer,
        record: FoldRecord | None,
    ) -> Fold:  # fmt: skip
        """Train and score one fold; what the record has of it is not trained again."""
        used, validation = self._parts(train, trainer.seed)
        scaling, x = self._fitted(used)
        options = dict(self.fit)
        if validation is not None:
            del options["validation_split"]
            inside = _prepared(scaling, _part(self.X, validation))
            options["validation_data"] = (inside, part_of(self.y, validation))
        if self.weight is not None:
            options["sample_weight"] = self.weight[used]
        if options.get("transform") is not None:
            options["transform"] = partial(placed, options["transform"], used)
        before = None
        if record is not None:
            place = record.place(number)
            record.begin(number, None if scaling is None else digest(x))
            before = record.scores(number)
            trainer.callbacks = [*trainer.callbacks, Checkpoint(place, every_n_epochs=1, keep=2)]
            options["ckpt_path"] = place
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NothingLeft)
            trainer.fit(x, part_of(self.y, used), **options)
        x_test = _prepared(scaling, _part(self.X, test))
        scores = trainer.evaluate(x_test, part_of(self.y, test))
        if record is not None and before is None:
            trainer.history.to_csv(record.place(number) / FILE)
            record.add(number, scores)
        elif record is not None and repr(before) != repr(scores):
            warnings.warn(
                f"{OWNER}: fold {number} has the scores {scores}, and had {before} when it was "
                f"trained into {record.folder}; these are of its model as it is there now",
                RuntimeWarning,
                stacklevel=4,
            )
        return Fold(number, train, test, trainer, scores, scaling)

    def _parts(self, train: Indices, seed: int) -> tuple[Indices, Indices | None]:
        """What a fold is trained on, and what decides when it ends; groups stay together."""
        share = self.fit.get("validation_split", 0.0)
        numbers.in_range(OWNER, "validation_split", share, 0, 1)
        if not share:
            return train, None
        if self.groups is not None:
            used, rest = split_groups(part_of(self.y, train), self.groups[train], share, seed)
        else:
            held_out(OWNER, "validation_split", share, len(train))
            used, rest = split_indices(part_of(self.y, train), share, seed=seed)
        return train[used], train[rest]

    def _fitted(self, used: Indices) -> tuple[Any, Any]:
        """A copy of the scaling, fitted to these samples, and the samples as it makes them."""
        x = _part(self.X, used)
        if self.preprocess is None:
            return None, x
        scaling = copy.deepcopy(self.preprocess)
        x = _read(x)
        arguments = (x, part_of(self.y, used)) if _wants_targets(scaling) else (x,)
        with _one_at_a_time, _seeded(self.seed):
            scaling.fit(*arguments)
            return scaling, scaling.transform(x)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The random numbers that NumPy and Python have for all, which a step of scikit-learn without
    a random_state draws: a function of the seed inside, as they were behind it."""
    before, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        np.random.seed(np.random.SeedSequence(seed).generate_state(4))  # noqa: NPY002
        random.seed(seed)
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
        random.setstate(of_python)


def _check_keywords(fit: dict[str, Any]) -> None:
    known = [n for n in inspect.signature(Trainer.fit).parameters if n not in ("self", "X", "y")]
    own = [n for n in inspect.signature(cross_validate).parameters if n != "fit"]
    cures = {
        "ckpt_path": "resume=, a directory for all folds",
        "validation_data": "validation_split=, a share of the training samples of each fold",
    }
    for name in fit:
        if name in cures:
            raise TypeError(f"{OWNER}: unknown keyword {name!r}, expected {cures[name]}")
        if name not in known:
            hint = suggestion(name, [*own, *(n for n in known if n not in cures)])
            raise TypeError(f"{OWNER}: unknown keyword {name!r}{hint}")
    if "max_epochs" not in fit:
        raise TypeError(
            f"{OWNER}: 'max_epochs' is missing, expected {OWNER}(build, X, y, max_epochs=…, …)"
        )


def _check_preprocess(preprocess: Any) -> None:
    if preprocess is None:
        return
    parts = [getattr(preprocess, name, None) for name in ("fit", "transform")]
    if isinstance(preprocess, type) or not all(map(callable, parts)):
        shown = f"the class {preprocess.__name__}" if isinstance(preprocess, type) else None
        raise TypeError(
            f"{OWNER}: 'preprocess' is {shown or repr(preprocess)}, expected an object with fit "
            "and transform, such as data.Standardize()"
        )


def _data(X: Any, y: Any, preprocess: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    """Samples and targets of which parts can be taken, and the weights."""
    if isinstance(X, DataLoader) or y is None:
        alone = not isinstance(X, DataLoader) and _is_array(X)
        what = "'y' is None" if alone else f"'X' is a {type(X).__name__}"
        raise TypeError(f"{OWNER}: {what}, expected arrays X and y, of which folds are made")
    X, y = _samples(X, preprocess), _read(rows_or_array(OWNER, "y", y))
    if not X.ndim or not y.ndim or len(X) != len(y):
        raise ValueError(
            f"{OWNER}: 'y' has shape {tuple(y.shape)}, expected a target for each of the samples "
            f"of X, {tuple(X.shape)}"
        )
    if sample_weight is None:
        return X, y, None
    weight = checked_weights(OWNER, "sample_weight", sample_weight)
    if weight.shape != (len(y),):
        raise ValueError(
            f"{OWNER}: 'sample_weight' has shape {weight.shape}, expected ({len(y)},), one for "
            "each sample of X"
        )
    return X, y, weight


def _check_trainer(trainer: Any, done: list[Fold]) -> None:
    if not isinstance(trainer, Trainer):
        raise TypeError(f"{OWNER}: 'build' returned a {type(trainer).__name__}, expected a Trainer")
    for fold in done:
        if fold.trainer.model is trainer.model:
            raise ValueError(
                f"{OWNER}: 'build' returned the model of fold {fold.number} again, expected a new "
                "one each time"
            )
    if trainer.step:
        raise ValueError(
            f"{OWNER}: 'build' returned a Trainer that has done {trainer.step} steps, expected a "
            "new one: it may have seen the samples that a fold holds out"
        )
    if any(isinstance(callback, Checkpoint) for callback in trainer.callbacks):
        raise ValueError(
            f"{OWNER}: 'build' returned a Trainer with a Checkpoint, expected none: pass "
            "resume=, a directory for all folds"
        )


def _is_array(X: Any) -> bool:
    return hasattr(X, "shape") or hasattr(X, "iloc")


def _samples(X: Any, preprocess: Any) -> Any:
    """An array or rows of a file; a DataFrame where a scaling is to read it."""
    if preprocess is not None and hasattr(X, "iloc"):
        return X
    return samples_or_array(OWNER, X)


def _part(X: Any, places: Indices) -> Any:
    return rows_of(X, places) if hasattr(X, "iloc") else part_of(X, places)


def _read(array: Any) -> Any:
    """What lies in a file, in memory."""
    return array[:] if isinstance(array, Rows) else array


def _prepared(scaling: Any, x: Any) -> Any:
    return x if scaling is None else scaling.transform(_read(x))


def _wants_targets(scaling: Any) -> bool:
    """Whether its fit has an argument y, as scikit-learn's."""
    try:
        return "y" in inspect.signature(scaling.fit).parameters
    except (TypeError, ValueError):
        return False
