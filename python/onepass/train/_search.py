"""Training with many sets of parameters, to find good ones."""

from __future__ import annotations

import copy
import inspect
import math
import sys
import time
import warnings
import weakref
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onepass import _bar, _console, nn
from onepass import _numbers as numbers
from onepass._array import to_numpy
from onepass._files import path_of
from onepass._keywords import suggest_keywords
from onepass._suggest import suggestion
from onepass.train import _checks, _loaders, _pruners, _search_optuna
from onepass.train._callbacks import Callback
from onepass.train._checkpoint import Checkpoint
from onepass.train._history import History
from onepass.train._monitor import MODES, better, direction, name_of
from onepass.train._progress import ProgressBar
from onepass.train._pruners import Pruner
from onepass.train._restarts import score_of
from onepass.train._run import Run
from onepass.train._search_folder import TABLE, SearchFolder
from onepass.train._search_optuna import JOURNAL, PRUNERS, SAMPLERS, Study
from onepass.train._search_result import SearchResult
from onepass.train._search_space import Draws, checked, described, shown
from onepass.train._search_trial import COMPLETE, FAILED, PRUNED, Trial
from onepass.train._trainer import NothingLeft, Trainer
from onepass.train._training import row_marks

RANDOM = "random"
VALIDATION = 0.2  # of the samples, where the metric needs some and none were given
DATA = "validation_data"
SECONDS = 10.0  # between two checkpoints of a trial
MOST_BYTES = 2**28  # of an array that is compared in all its bytes
# What build may give to fit beside a Trainer; the rest is the same for all trials.
OF_TRIAL = ("batch_size", "shuffle", "transform", "num_workers", "sample_weight", "class_weight")
# Not the fault of the parameters of a trial.
NOT_OF_TRIAL = (OSError, ImportError)


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

    Before each ``build(params)``, ``nn.manual_seed(seed)`` is called: trials differ by their
    parameters alone. Train the best ones from other seeds (`restarts`) before you trust a small
    difference, and keep data for the last word that no trial has seen: the best of many scores is
    better than it will be on new data.

    Args:
        build: a function of a dict of parameters, which returns a new Trainer of a new model; or
            the pair of it and a dict of arguments for its fit, such as ``{"batch_size": 64}``.
        space: {name: `Uniform`, `LogUniform`, `Integer` or a list of choices}.
        X, y: as for ``Trainer.fit``.
        trials: how many. In a finite space all combinations come before one comes again, then from
            the next seed.
        seed: of the draws, and of each training.
        metric: a name in the history, such as "val_accuracy".
        mode: "min", "max", or "auto": what the name says.
        sampler: "random": independent draws, each a function of (seed, number, name). Of Optuna,
            where it is installed, "tpe", "gp", "cmaes"; or a function of a seed that returns one of
            its samplers; or, without ``resume``, such an object.
        pruner: "median" or "halving", or an object: `MedianPruner`, `SuccessiveHalvingPruner`. Of
            Optuna "hyperband", or an object of its pruners. None lets every trial end.
        resume: a folder. Each trial has a file there; called again after an interruption, the
            search takes those that have ended, goes on inside the trial that was cut off, and
            tries what it would have tried, with the same bits. A larger ``trials`` adds some.
            Everything else must be as it was; ``build`` is not compared. The folder also gets
            ``trials.csv``, and with Optuna the journal of a study named "search", for its tools.
        progress: a line for each trial, and a bar on a terminal, instead of the trainers' own.
        max_epochs, fit: arguments of ``Trainer.fit``. Where the metric is one of validation and no
            data for it are given, a fifth of the samples is held out.

    Returns:
        A `SearchResult`, with ``trials``, ``best``, ``plot(path)``, ``build()``; ``print`` shows a
        table. ``best.trainer`` is the trainer of the best trial. A trial that raises an exception
        is one that failed, with the reason; OSError and ImportError end the search.

    Raises:
        TypeError: build returns no Trainer; an unknown keyword; a space of something else.
        ValueError: an argument out of range, a metric that the history will not have, a trainer or
            model of an earlier trial, a folder of another search. ImportError: Optuna is missing.
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
) -> _Search:
    """`search` after all checks, with further entries of the record in the folder."""
    if not callable(build):
        raise TypeError(f"search: 'build' is {build!r}, expected a function of a dict")
    found = checked(space)
    trials = numbers.integer("search", "trials", trials, 1)
    seed = numbers.seed("search", "seed", seed)
    numbers.flag("search", "progress", progress)
    fit = {**fit, "max_epochs": numbers.integer("search", "max_epochs", fit["max_epochs"], 1)}
    numbers.one_of("search", "mode", mode, MODES)
    name_of("search", metric, "metric")
    fit = _checked_fit(fit, metric, splits=y is not None)
    draws = Draws(found, seed)
    mode = direction("search", metric, mode)
    draws_with = _sampler(sampler, resume is not None)
    prunes_with = _pruner(pruner, fit["max_epochs"])
    _check_data(X, y, fit, seed)
    folder = None
    if resume is not None:
        record = {
            "trials": trials,
            "seed": seed,
            "metric": metric,
            "mode": mode,
            "sampler": sampler if isinstance(sampler, str) else _name_of(sampler),
            "pruner": _described_pruner(pruner),
            "space": described(found),
            "fit": {name: _marks(value) for name, value in fit.items() if name != DATA},
            "data": [_marks(X), _marks(y)],
            "validation": _marks(fit.get(DATA)),
            **(about or {}),
        }
        folder = SearchFolder(path_of("search", "resume", resume), record, found)
    try:
        result = SearchResult([], metric, mode, seed, found)
        result._build = build
        study = None
        ours = prunes_with if isinstance(prunes_with, Pruner) else None
        theirs = None if ours is not None else prunes_with
        if draws_with is not None or theirs is not None:
            journal = None if folder is None else folder.path / JOURNAL
            study = Study(found, seed, metric, mode, draws_with, theirs, journal)
        return _Search(
            result, trials, draws if draws_with is None else None, study, ours, folder, fit, X, y,
            progress,
        )  # fmt: skip
    except BaseException:
        if folder is not None:
            folder.close()
        raise


class _Search:
    """A search as it runs: what decides, and the trials so far."""

    def __init__(
        self,
        result: SearchResult,
        trials: int,
        draws: Draws | None,
        study: Study | None,
        pruner: Pruner | None,
        folder: SearchFolder | None,
        fit: dict[str, Any],
        X: Any,
        y: Any,
        progress: bool,
    ) -> None:
        self.result, self.trials, self.draws, self.study = result, trials, draws, study
        self.pruner, self.folder, self.fit, self.data = pruner, folder, fit, (X, y)
        self.shows = _Shows(result, trials, fit["max_epochs"], progress)
        self.best: Trial | None = None
        self._models: list[Any] = []

    def run(self) -> SearchResult:
        """Trials until there are so many."""
        try:
            self._run()
        except KeyboardInterrupt as error:
            raised = KeyboardInterrupt(self._told())  # a subclass would exit with another status
            vars(raised)["result"] = self.result
            raise raised from error
        finally:
            self.shows.end()
            if self.folder is not None:
                self.folder.close()
        return self.result

    def _run(self) -> None:
        done = {} if self.folder is None else self.folder.trials()
        for number in range(self.trials):
            if number in done:
                trial, attributes = done[number].trial, done[number].attributes
                assert trial is not None
                self._add(trial)
                if self.study is not None:
                    self.study.add(trial, attributes)
                continue
            self._clean()
            params = self._params(number)
            self.shows.begin(number)
            trial = self._tried(number, params)
            attributes = {} if self.study is None else self.study.tell(trial)
            if self.folder is not None:
                self.folder.end(trial, attributes)
            self._add(trial)
            if self.folder is not None:
                self.result.to_csv(self.folder.path / TABLE)
            self.shows.ended(trial)
        self._clean()
        best = self.best
        if best is not None and best.trainer is None:
            trainer, given = self._built(best.params, best.seed)
            # From its last checkpoint, where nothing is left to train.
            self._fit(trainer, given, best.number, [])
            best.trainer = trainer

    def _add(self, trial: Trial) -> None:
        self.result.trials.append(trial)
        before = self.best
        beats = trial.state == COMPLETE and (
            before is None or better(self.result.mode, trial.score, before.score)
        )
        loser = before if beats else trial
        if loser is not None:
            loser.trainer = None
        if beats:
            self.best = trial

    def _clean(self) -> None:
        """Checkpoints stay of the best trial, and of the one that is next or was cut off."""
        if self.folder is not None:
            kept = {len(self.result.trials)}
            self.folder.keep_checkpoints_of(kept | ({self.best.number} if self.best else set()))

    def _params(self, number: int) -> dict[str, Any]:
        params = None if self.draws is None else self.draws.params(number)
        if self.study is not None:
            params = self.study.ask(number, params)
        assert params is not None
        if self.folder is not None and self.folder.begun(number) != params:
            self.folder.begin(number, params)
        return params

    def _tried(self, number: int, params: dict[str, Any]) -> Trial:
        start = time.perf_counter()
        seed = self.result.seed if self.draws is None else self.draws.seed_of(number)
        judge = _Judge(self, number)
        trainer: Any = None
        error: Exception | None = None
        try:
            trainer, given = self._built(params, seed)
            self._check(trainer, given)
            self._fit(trainer, given, number, [judge, self.shows])
        except _WrongUseError as found:
            raise found.error from None
        except NOT_OF_TRIAL:
            raise
        except Exception as found:
            error = found.with_traceback(None)  # whose frames hold the model
            error.__cause__ = error.__context__ = None
        history = History()
        if isinstance(trainer, Trainer):
            history |= {name: [*values] for name, values in trainer.history.items()}
        state, score, reason = self._outcome(trainer, judge, error)
        return Trial(
            number, params, state, score, reason, history,
            time.perf_counter() - start, seed, trainer, error,
        )  # fmt: skip

    def _outcome(
        self, trainer: Any, judge: _Judge, error: Exception | None
    ) -> tuple[str, float, str]:
        """State, score and reason of a trial that has ended."""
        if error is not None:
            return FAILED, math.nan, f"{type(error).__name__}: {' '.join(str(error).split())}"
        metric = self.result.metric
        values = trainer.history.get(metric)
        if not values:
            return FAILED, math.nan, f"the history has no {metric!r}"
        judge.follow(trainer.run)  # a checkpoint may be of the epoch that it was pruned at
        if judge.reason is not None:
            return PRUNED, values[-1], judge.reason
        score = score_of(trainer, metric)
        if not math.isfinite(score):
            return FAILED, math.nan, f"{metric} is {score}"
        return COMPLETE, score, ""

    def _built(self, params: dict[str, Any], seed: int) -> tuple[Any, dict[str, Any]]:
        nn.manual_seed(seed)
        assert self.result._build is not None
        made = self.result._build(copy.deepcopy(params))
        if isinstance(made, tuple) and len(made) == 2:
            return made
        return made, {}

    def _check(self, trainer: Any, given: Any) -> None:
        """Refuse what no parameters could mend."""
        try:
            if not isinstance(trainer, Trainer):
                raise TypeError(
                    f"search: 'build' returned a {type(trainer).__name__}, expected a Trainer"
                )
            if not isinstance(given, dict):
                raise TypeError(
                    f"search: 'build' returned {given!r} beside the Trainer, expected a dict of "
                    "arguments of its fit"
                )
            for name in given:
                if name not in OF_TRIAL:
                    raise TypeError(
                        f"search: 'build' returned {name!r} for fit, expected one of "
                        f"{', '.join(OF_TRIAL)}{suggestion(str(name), OF_TRIAL)}"
                    )
            if trainer.step or trainer.epoch:
                raise ValueError(
                    "search: 'build' returned a Trainer that has trained, expected a new one for "
                    "each trial"
                )
            if any(model() is trainer.model for model in self._models):
                raise ValueError(
                    "search: 'build' returned the model of an earlier trial, expected a new one "
                    "each time"
                )
            self._models.append(weakref.ref(trainer.model))
            metric = self.result.metric
            _checks.of_name(trainer.run, "search", "metric", metric, validates=_validates(self.fit))
        except (TypeError, ValueError) as error:
            raise _WrongUseError(error) from error

    def _fit(
        self, trainer: Trainer, given: dict[str, Any], number: int, more: list[Callback]
    ) -> None:
        """A fit with more callbacks, none of which the trainer has afterwards."""
        own, fit = trainer.callbacks, {**self.fit, **given}
        quiet = [callback for callback in own if not isinstance(callback, ProgressBar)]
        if self.folder is not None:
            place = self.folder.checkpoints(number)
            self.folder.drop_damaged(number)
            more = [*more, _Checkpoints(place, keep=1)]
            fit = {**fit, "ckpt_path": place}
        trainer.callbacks = [*quiet, *more]
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore", NothingLeft)
                trainer.fit(*self.data, **fit)
        finally:
            trainer.callbacks = own

    def _told(self) -> str:
        count = f"{len(self.result.trials)} of {self.trials}"
        ended = f"search: interrupted, {count} trials have ended"
        if self.folder is None:
            return f"{ended}; the exception's 'result' has them (resume=FOLDER keeps them)"
        return f"{ended}; the same call goes on from {self.folder.path}"


class _WrongUseError(Exception):
    """An error of the search as a whole, inside a trial."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Judge(Callback):
    """Ends a trial where the pruner says so: a function of its history and of the trials before."""

    def __init__(self, search: _Search, number: int) -> None:
        self._search, self._number = search, number
        self._seen = 0
        self.reason: str | None = None

    def on_epoch_end(self, run: Run) -> None:
        self.follow(run)
        run.stop = run.stop or self.reason is not None

    def follow(self, run: Run) -> None:
        """Look at the epochs that were not looked at yet; a resume brings several."""
        pruner, study, result = self._search.pruner, self._search.study, self._search.result
        values = run.history.get(result.metric)
        if values is None:
            return
        for epoch in range(self._seen + 1, len(values) + 1):
            if self.reason is not None:
                return
            self._seen = epoch
            last = epoch >= run.max_epochs
            if study is not None and study.prunes(values[:epoch]) and not last:
                now = f"{result.metric} {values[epoch - 1]:.4g}"
                self.reason = f"{now} after epoch {epoch}, by {study.pruner}"
            if pruner is not None and not last:
                before = [t for t in result.trials if t.number < self._number]
                told = pruner.reason(result.metric, result.mode, values[:epoch], before)
                self.reason = self.reason or told

    def __repr__(self) -> str:
        return "pruner"


class _Checkpoints(Checkpoint):
    """At the end, and not more often than is worth it before."""

    _saved = 0.0

    def on_fit_begin(self, run: Run) -> None:
        super().on_fit_begin(run)
        self._saved = time.monotonic()

    def on_epoch_end(self, run: Run) -> None:
        ends = run.stop or run.epoch >= run.max_epochs
        if ends or time.monotonic() - self._saved >= SECONDS:
            super().on_epoch_end(run)
            self._saved = time.monotonic()


class _Shows(Callback):
    """A line for each trial, and a bar over the epochs of all."""

    def __init__(self, result: SearchResult, trials: int, epochs: int, progress: bool) -> None:
        self._result, self._trials, self._epochs = result, trials, epochs
        self._progress = progress
        self._bar: Any = None
        self._begun = 0
        self._header = False

    def begin(self, number: int) -> None:
        self._begun = number * self._epochs
        if self._progress and self._bar is None:
            total = self._trials * self._epochs
            self._bar = _bar.of(total, self._begun, "search", sys.stdout, unit="epoch")

    def on_epoch_end(self, run: Run) -> None:
        self._move(run.epoch)

    def ended(self, trial: Trial) -> None:
        """A line, and the bar where the next trial begins."""
        if not self._progress:
            return
        if self._bar is not None:
            self._bar.clear()
        params = "  ".join(f"{name} {shown(value)}" for name, value in trial.params.items())
        metric = self._result.metric
        told = f"{metric} {trial.score:.4g}" if trial.state == COMPLETE else trial.state
        best = "  best so far" if self._is_best(trial) else ""
        why = f": {trial.reason}" if trial.reason else ""
        _console.write(f"trial {trial.number}  {params}  {told}{why}{best}\n", sys.stdout)
        self._move(self._epochs)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _is_best(self, trial: Trial) -> bool:
        return trial.state == COMPLETE and self._result.best is trial

    def _move(self, epochs: int) -> None:
        if self._bar is not None and (step := self._begun + epochs - self._bar.n) > 0:
            self._bar.update(step)

    def __repr__(self) -> str:
        return "progress of the search"


def _validates(fit: Mapping[str, Any]) -> bool:
    return fit.get(DATA) is not None or bool(fit.get("validation_split"))


def _checked_fit(fit: dict[str, Any], metric: str, *, splits: bool) -> dict[str, Any]:
    parameters = inspect.signature(Trainer.fit).parameters
    known = [name for name in parameters if name not in ("self", "X", "y", "ckpt_path")]
    for name in fit:
        if name == "ckpt_path":
            raise TypeError(
                "search: unknown keyword 'ckpt_path', expected resume=, a folder for all trials"
            )
        if name not in known:
            own = [n for n in inspect.signature(search).parameters if n != "fit"]
            hint = suggestion(name, [*own, *known])
            raise TypeError(
                f"search: unknown keyword {name!r}{hint or ', expected one of Trainer.fit'}"
            )
    if metric.startswith("val_") and not _validates(fit) and splits:
        return {**fit, "validation_split": VALIDATION}
    return fit


def _check_data(X: Any, y: Any, fit: Mapping[str, Any], seed: int) -> None:
    """Refuse at once what would fail in every trial."""
    names = inspect.signature(_loaders.to_train).parameters
    options: dict[str, Any] = {"batch_size": 32, "shuffle": True, "last_batch": "balance"}
    weights = ("sample_weight", "class_weight")  # the labels that count are the loss's matter
    options |= {k: value for k, value in fit.items() if k in names and k not in weights}
    _loaders.to_train(X, y, seed=seed, **options)


def _sampler(sampler: Any, resumes: bool) -> Any:
    """A function of a seed or an object of Optuna's; None for draws of our own."""
    if isinstance(sampler, str):
        numbers.one_of("search", "sampler", sampler, (RANDOM, *SAMPLERS))
        return None if sampler == RANDOM else _search_optuna.sampler_of(sampler)
    if _search_optuna.is_of_optuna(sampler) and hasattr(sampler, "sample_independent"):
        if resumes:
            raise ValueError(
                f"search: 'sampler' is {type(sampler).__name__} with random numbers of its own, "
                "expected a function of a seed with resume, such as lambda seed: "
                f"{type(sampler).__name__}(seed=seed)"
            )
        return sampler
    if callable(sampler):
        _search_optuna.optuna("a function as sampler")
        return sampler
    names = ", ".join(map(repr, (RANDOM, *SAMPLERS)))
    raise TypeError(
        f"search: 'sampler' is {sampler!r}, expected {names}, or a function of a seed that returns "
        "a sampler of Optuna"
    )


def _pruner(pruner: Any, max_epochs: int) -> Any:
    if pruner is None or isinstance(pruner, Pruner):
        return pruner
    if isinstance(pruner, str):
        numbers.one_of("search", "pruner", pruner, (*_pruners.NAMED, *PRUNERS))
        if pruner in _pruners.NAMED:
            return _pruners.NAMED[pruner]()
        return _search_optuna.pruner_of(pruner, max_epochs)
    if _search_optuna.is_of_optuna(pruner) and hasattr(pruner, "prune"):
        return pruner
    names = ", ".join(map(repr, (*_pruners.NAMED, *PRUNERS)))
    raise TypeError(
        f"search: 'pruner' is {pruner!r}, expected {names}, MedianPruner(), "
        "SuccessiveHalvingPruner(), a pruner of Optuna, or None"
    )


def _described_pruner(pruner: Any) -> str | None:
    if pruner is None:
        return None
    if isinstance(pruner, str):
        return repr(_pruners.NAMED[pruner]()) if pruner in _pruners.NAMED else pruner
    return repr(pruner) if isinstance(pruner, Pruner) else _name_of(pruner)


def _name_of(made: Any) -> str:
    return str(getattr(made, "__qualname__", type(made).__qualname__))


def _marks(value: Any) -> Any:
    """What tells an argument of fit from another, for JSON."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)) and len(value) <= 2:
        return [_marks(part) for part in value]
    if isinstance(value, Mapping):
        return {str(key): _marks(part) for key, part in value.items()}
    if hasattr(value, "X") and hasattr(value, "y"):  # a DataLoader
        return [type(value).__name__, _marks(value.X), _marks(value.y)]
    if hasattr(value, "iloc"):  # a DataFrame or a Series
        value = value.to_numpy()
    if hasattr(value, "dtype") and hasattr(value, "shape") and value.shape:
        if getattr(value, "nbytes", MOST_BYTES + 1) > MOST_BYTES:
            return [*map(str, row_marks(value))]
        array = np.ascontiguousarray(to_numpy(value))
        content = repr(array.tolist()).encode() if array.dtype.kind == "O" else array.tobytes()
        return [str(array.dtype), list(array.shape), f"{zlib.crc32(content):08x}"]
    return type(value).__name__
