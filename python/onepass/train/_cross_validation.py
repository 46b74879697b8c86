"""Cross-validation: a training for each fold, scored on the samples that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onepass import _numbers as numbers
from onepass._files import path_of
from onepass._keywords import suggest_keywords
from onepass.data._folds import indices_of
from onepass.data._rows import add_note
from onepass.data._split import Indices
from onepass.nn._random import seeded
from onepass.train import _fold_record
from onepass.train._fits import CKPT_PATH, check_keywords, marks_of_fit
from onepass.train._fold_arguments import check_preprocess, check_trainer, data_of, groups_of
from onepass.train._fold_record import FoldRecord
from onepass.train._fold_result import CrossValidation, Fold
from onepass.train._fold_run import FoldTraining, each_fold
from onepass.train._fold_samples import OWNER
from onepass.train._marks import mark
from onepass.train._trainer import Trainer

CURES = {
    CKPT_PATH: "resume=, a directory for all folds",
    "validation_data": "validation_split=, a share of the training samples of each fold",
}


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
    the trainings differ by their samples alone. A fold depends on nothing else: an interruption,
    or another thread, changes none.

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
            a data set, its attributes), what ``preprocess`` makes of the training samples, and what
            model, loss, metrics and optimizer are made with. A function counts by its code and by
            the values that it brings along, as they are when the call begins: one that fills a list
            of the function around it is another one in the next call. What it finds by a global
            name is not compared. Other callbacks of your own are warned of, and so is another
            version of onepass.
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
    check_keywords(cross_validate, fit, CURES)
    if "max_epochs" not in fit:
        raise TypeError(
            f"{OWNER}: 'max_epochs' is missing, expected {OWNER}(build, X, y, max_epochs=…, …)"
        )
    check_preprocess(preprocess)
    X, y, weight = data_of(X, y, preprocess, fit.get("sample_weight"))
    parts = indices_of(OWNER, y, folds, stratify=stratify, groups=groups, seed=seed)
    given = FoldTraining(X, y, weight, groups_of(groups), preprocess, fit, seed)
    record: FoldRecord | None = None
    done: list[Fold] = []

    def one(number: int, train: Indices, test: Indices) -> Fold:
        nonlocal record
        with seeded(seed):
            trainer = build(seed)
            check_trainer(trainer, done)
            if resume is not None and record is None:
                record = _record(path_of(OWNER, "resume", resume), given, trainer, parts)
            try:
                return given.fold(number, train, test, trainer, record)
            except Exception as error:
                add_note(error, OWNER, f"fold {number}")
                raise

    try:
        for fold in each_fold(parts, one):
            done.append(fold)
    finally:
        if record is not None:
            record.close()
    return CrossValidation(done)


def _record(
    folder: Path,
    given: FoldTraining,
    trainer: Trainer,
    parts: Sequence[tuple[Indices, Indices]],
) -> FoldRecord:
    data = {
        "X": given.X,
        "y": given.y,
        "sample_weight": given.weight,
        "stratify or groups": np.concatenate([test for _, test in parts]),
        "groups": given.groups,
    }
    settings = {
        "folds": len(parts),
        "seed": given.seed,
        **{name: mark(OWNER, name, array) for name, array in data.items()},
        **marks_of_fit(OWNER, given.fit, but=["sample_weight"]),  # which is among the data
        "preprocess": mark(OWNER, "preprocess", given.preprocess, refitted=True),
        **_fold_record.marks_of_trainer(trainer),
    }
    return FoldRecord(folder, settings, len(parts), ["loss", *trainer.metrics])
