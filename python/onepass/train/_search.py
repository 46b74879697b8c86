"""Training with many sets of parameters, to find good ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from onepass import _numbers as numbers
from onepass._files import path_of
from onepass._keywords import suggest_keywords
from onepass.train._fits import CKPT_PATH, check_keywords, marks_of_fit
from onepass.train._marks import mark
from onepass.train._monitor import MODES, direction, name_of
from onepass.train._pruners import Pruner
from onepass.train._search_arguments import (
    RANDOM,
    check_data,
    mark_of_pruner,
    pruner_of,
    sampler_of,
    versions,
    with_validation,
)  # fmt: skip
from onepass.train._search_folder import SearchFolder
from onepass.train._search_optuna import JOURNAL, Study
from onepass.train._search_result import SearchResult
from onepass.train._search_run import Searching
from onepass.train._search_space import Draws, checked, marks_of_space
from onepass.train._trainer import Trainer


@suggest_keywords
def search(
    build: Callable[[dict[str, Any]], Trainer | tuple[Trainer, dict[str, Any]]],
    space: Mapping[str, Any],
    X: Any,
    y: Any = None,
    *,
    trials: int,
    seed: int = 0,
    metric: str = "val_loss",
    mode: str = "auto",
    sampler: Any = RANDOM,
    pruner: Any = None,
    resume: str | Path | None = None,
    progress: bool = True,
    max_epochs: int = 30,
    **fit: Any,
) -> SearchResult:
    """Train with ``trials`` sets of parameters drawn from ``space``, one after the other.

    Each ``build(params)`` makes its layers as behind ``nn.manual_seed(seed)`` (and the random
    numbers of ``nn`` go on behind the search as before): trials differ by their parameters alone,
    whatever other threads do. Train the best ones from other seeds (`restarts`) before you trust a
    small difference, and keep data for the last word that no trial has seen: the best of many
    scores is better than it will be on new data.

    Args:
        build: a function of a dict of parameters, which returns a new Trainer of a new model; or
            the pair of it and a dict of arguments for its fit, such as ``{"batch_size": 64}``, in
            place of those given here.
        space: {name: `Uniform`, `LogUniform`, `Integer` or a list of choices}.
        X, y: as for ``Trainer.fit``.
        trials: how many. In a finite space all combinations come before one comes again, then from
            the next seed.
        seed: of the draws, and of each training.
        metric: a name in the history, such as "val_accuracy".
        mode: "min", "max", or "auto": what the name says.
        sampler: "random": independent draws, each a function of (seed, number, name). Of Optuna,
            where it is installed, "tpe", "gp"; or a function of a seed that returns one of
            its samplers (neither GridSampler nor BruteForceSampler, which lists make needless; with
            ``resume`` neither CmaEsSampler nor QMCSampler); or, without ``resume``, such an object,
            whose draws are its own and not of ``seed``.
        pruner: "median" or "halving", or an object: `MedianPruner`, `SuccessiveHalvingPruner`. Of
            Optuna "hyperband", or an object of its pruners. None lets every trial end.
        resume: a directory. Each trial has a file there; called again after an interruption, the
            search takes those that have ended, goes on inside the trial that was cut off, and
            tries what it would have tried, with the same bits; trials with an exception, but for
            FloatingPointError, are run again. A larger ``trials`` adds some. Everything else but
            ``num_workers`` must be as it was: arrays by content, functions by their code and the
            values that they bring along (not by what they find by a global name), objects by their
            state; ``build`` is not compared. The directory also gets ``trials.csv``, and
            with Optuna the journal of a study named "search", for its tools.
        progress: a line for each trial, and a bar on a terminal, instead of the trainers' own.
        max_epochs, fit: arguments of ``Trainer.fit``. Where the metric is one of validation and no
            data for it are given, a fifth of the samples is held out.

    Returns:
        A `SearchResult`, with ``trials``, ``best``, ``plot(path)``, ``build()``; ``print`` shows a
        table. ``best.trainer`` is the trainer of the best trial. A trial that raises an exception,
        or whose metric is not finite, is one that failed, with the reason; OSError and ImportError
        end the search, as do NameError, AttributeError and SyntaxError of the first trial.

    Raises:
        TypeError: build returns no Trainer; an unknown keyword; a space of something else.
        ValueError: an argument out of range, a metric that the history will not have, a trainer or
            model of an earlier trial, a directory of another search. BlockingIOError: another call
            trains in the directory. ImportError: Optuna is missing.
        KeyboardInterrupt: after Ctrl-C; the exception's ``result`` has the trials that had ended.

    Example:
        >>> import numpy as np
        >>> from onepass import nn, optim
        >>> from onepass.train import LogUniform, Trainer, search
        >>> X = np.random.default_rng(0).standard_normal((80, 2), np.float32)
        >>> y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
        >>> def build(params):
        ...     width = params["width"]
        ...     model = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2))
        ...     optimizer = optim.Adam(model.parameters(), lr=params["lr"])
        ...     return Trainer(model, nn.CrossEntropyLoss(), optimizer)
        >>> space = {"lr": LogUniform(1e-4, 1e-1), "width": [4, 16]}
        >>> result = search(build, space, X, y, trials=6, pruner="median", progress=False)
        >>> result.best.score == min(trial.score for trial in result.trials)
        True
        >>> trainer = result.build()  # with the best parameters, to train on all data
    """
    return prepared(
        build,
        space,
        X,
        y,
        trials=trials,
        seed=seed,
        metric=metric,
        mode=mode,
        sampler=sampler,
        pruner=pruner,
        resume=resume,
        progress=progress,
        fit={"max_epochs": max_epochs, **fit},
    ).run()  # fmt: skip


def of_optuna(pruner: Any) -> bool:
    return pruner is not None and not isinstance(pruner, Pruner)


def prepared(
    build: Any,
    space: Any,
    X: Any,
    y: Any,
    *,
    trials: int,
    seed: int,
    metric: str,
    mode: str,
    sampler: Any,
    pruner: Any,
    resume: Any,
    progress: bool,
    fit: dict[str, Any],
    about: Mapping[str, Any] | None = None,
    free: Collection[str] = (),
) -> Searching:
    """`search` after all checks, with further entries of the record in the folder, of which those
    named in ``free`` may differ when it goes on."""
    if not callable(build):
        raise TypeError(f"search: 'build' is {build!r}, expected a function of a dict")
    found = checked(space)
    trials = numbers.integer("search", "trials", trials, 1)
    seed = numbers.seed("search", "seed", seed)
    numbers.flag("search", "progress", progress)
    fit = {**fit, "max_epochs": numbers.integer("search", "max_epochs", fit["max_epochs"], 1)}
    numbers.one_of("search", "mode", mode, MODES)
    name_of("search", metric, "metric")
    check_keywords(search, fit, {CKPT_PATH: "resume=, a directory for all trials"})
    fit = with_validation(fit, metric, splits=y is not None)
    draws = Draws(found, seed)
    mode = direction("search", metric, mode)
    draws_with = sampler_of(sampler, resume is not None)
    prunes_with = pruner_of(pruner, fit["max_epochs"])
    check_data(X, y, fit, seed)
    folder = None
    if resume is not None:
        record = {
            **(about or {}),
            "trials": trials,
            "seed": seed,
            "metric": metric,
            "mode": mode,
            "sampler": mark("search", "sampler", sampler),
            "pruner": mark_of_pruner(pruner),
            "space": marks_of_space(found),
            "X": mark("search", "X", X),
            "y": mark("search", "y", y),
            **marks_of_fit("search", fit),
        }
        folder = SearchFolder(
            path_of("search", "resume", resume),
            record,
            ("trials", *free),
            found,
            versions(with_optuna=draws_with is not None or of_optuna(prunes_with)),
        )
    try:
        result = SearchResult([], metric, mode, seed, found)
        result._build = build
        study = None
        theirs = prunes_with if of_optuna(prunes_with) else None
        ours = None if theirs is not None else prunes_with
        if draws_with is not None or theirs is not None:
            journal = None if folder is None else folder.path / JOURNAL
            study = Study(found, seed, metric, mode, draws_with, theirs, journal)
        return Searching(
            result, trials, draws if draws_with is None else None, study, ours, folder, fit, X, y,
            progress,
        )  # fmt: skip
    except BaseException:
        if folder is not None:
            folder.close()
        raise
