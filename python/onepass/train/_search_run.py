"""A search as it runs, trial by trial."""

from __future__ import annotations

import copy
import math
import time
import traceback
import weakref
from typing import Any

import numpy as np

from onepass._suggest import suggestion
from onepass.nn._random import seeded
from onepass.train import _built
from onepass.train._callbacks import Callback
from onepass.train._checkpoint import Checkpoint
from onepass.train._fits import fit_on
from onepass.train._history import History
from onepass.train._monitor import better
from onepass.train._progress import ProgressBar
from onepass.train._pruners import Pruner
from onepass.train._restarts import score_of
from onepass.train._run import Run
from onepass.train._search_folder import TABLE, Entry, SearchFolder
from onepass.train._search_optuna import Study
from onepass.train._search_progress import Shows
from onepass.train._search_result import SearchResult
from onepass.train._search_space import Draws
from onepass.train._search_trial import COMPLETE, FAILED, PRUNED, Trial
from onepass.train._trainer import Trainer

SECONDS = 10.0  # between two checkpoints of a trial
# What build may give to fit beside a Trainer; the rest is the same for all trials.
OF_TRIAL = ("batch_size", "shuffle", "transform", "num_workers", "sample_weight", "class_weight")
# Not the fault of the parameters of a trial.
NOT_OF_TRIAL = (OSError, ImportError)
DIVERGED = f"{FloatingPointError.__name__}: "  # the beginning of a reason: it would again
MISTAKES = (NameError, AttributeError, SyntaxError)  # of the first trial: all would fail


class Searching:
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
        self.shows = Shows(result, trials, fit["max_epochs"], progress)
        self.best: Trial | None = None
        self._models: list[tuple[int, Any]] = []

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
            trial, attributes = self._done(done, number)
            if trial is not None:
                self._add(trial)
                if self.study is not None:
                    self.study.add(trial, attributes)
                continue
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
        best = self.best
        if best is not None and best.trainer is None:
            with seeded(best.seed):
                trainer, given = self._built(best.params)
                # From its last checkpoint, where nothing is left to train.
                self._fit(trainer, given, best.number, [])
            best.trainer = trainer

    def _done(self, done: dict[int, Entry], number: int) -> tuple[Trial | None, dict[str, Any]]:
        """A trial of the folder; not one whose exception may have been mended since."""
        entry = done.get(number)
        if entry is None or entry.trial is None:
            return None, {}
        trial = entry.trial
        params = trial.params if self.draws is None else self.draws.params(number)
        expected = params, self._seed(number)
        if (trial.params, trial.seed) != expected:
            raise ValueError(
                f"search: trial {number} in {self.folder and self.folder.path} has the parameters "
                f"and the seed {trial.params, trial.seed}, expected {expected}; delete the folder "
                "of this trial, which is then run again"
            )
        again = trial.state == FAILED and trial.traceback and not trial.reason.startswith(DIVERGED)
        return (None, {}) if again else (trial, entry.attributes)

    def _add(self, trial: Trial) -> None:
        """Checkpoints stay of the best trial, and of one that was cut off."""
        self.result.trials.append(trial)
        before = self.best
        beats = trial.state == COMPLETE and (
            before is None or better(self.result.mode, trial.score, before.score)
        )
        loser = before if beats else trial
        if loser is not None:
            loser.trainer = None
            if self.folder is not None:
                self.folder.drop_checkpoints(loser.number)
        if beats:
            self.best = trial

    def _params(self, number: int) -> dict[str, Any]:
        params = None if self.draws is None else self.draws.params(number)
        if self.study is not None:
            params = self.study.ask(number, params)
        assert params is not None
        if self.folder is not None and self.folder.begun(number) != params:
            self.folder.begin(number, params)
        return params

    def _seed(self, number: int) -> int:
        return self.result.seed if self.draws is None else self.draws.seed_of(number)

    def _tried(self, number: int, params: dict[str, Any]) -> Trial:
        start = time.perf_counter()
        seed = self._seed(number)
        judge = _Judge(self, number)
        trainer: Any = None
        error: Exception | None = None
        lines = ""
        try:
            with seeded(seed):
                trainer, given = self._built(params)
                self._check(number, trainer, given)
                self._fit(trainer, given, number, [judge, self.shows])
        except _WrongUseError as found:
            raise found.error from None
        except NOT_OF_TRIAL:
            raise
        except Exception as found:
            if "checkpoint does not fit" in str(found) and self.folder is not None:
                raise ValueError(
                    f"search: trial {number} in {self.folder.path} was begun by another build "
                    f"({found}); delete the folder of this trial, which is then run again"
                ) from found
            if number == 0 and isinstance(found, MISTAKES):
                raise
            lines = "".join(traceback.format_exception(found))
            error = found.with_traceback(None)  # whose frames hold the model
            error.__cause__ = error.__context__ = None
        history = History()
        if isinstance(trainer, Trainer):
            history |= {name: [*values] for name, values in trainer.history.items()}
        state, score, reason = self._outcome(trainer, judge, error)
        return Trial(
            number, params, state, score, reason, history,
            time.perf_counter() - start, seed, lines, trainer, error,
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
        judge.report(values)
        if judge.reason is not None and math.isfinite(values[-1]):
            return PRUNED, values[-1], judge.reason
        if judge.reason is not None:  # a pruner ends what is not a number as if it lagged behind
            return FAILED, math.nan, f"{metric} is {values[-1]} after epoch {len(values)}"
        score = score_of(trainer, metric)
        if not math.isfinite(score):
            return FAILED, math.nan, f"{metric} is {score}"
        return COMPLETE, score, ""

    def _built(self, params: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        assert self.result._build is not None
        made = self.result._build(copy.deepcopy(params))
        if isinstance(made, tuple) and len(made) == 2:
            return made
        return made, {}

    def _check(self, number: int, trainer: Any, given: Any) -> None:
        """Refuse what no parameters could mend."""
        try:
            earlier = ((f"trial {number}", model()) for number, model in self._models)
            _built.check("search", trainer, earlier, self.result.metric, self.fit)
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
            self._models.append((number, weakref.ref(trainer.model)))
        except (TypeError, ValueError) as error:
            raise _WrongUseError(error) from error

    def _fit(
        self, trainer: Trainer, given: dict[str, Any], number: int, more: list[Callback]
    ) -> None:
        """A fit with more callbacks, none of which the trainer has afterwards."""
        own, fit = trainer.callbacks, {**self.fit, **given}
        quiet = [callback for callback in own if not isinstance(callback, ProgressBar)]
        checkpoint = None
        if self.folder is not None:
            self.folder.drop_damaged(number)
            checkpoint = _Checkpoints(self.folder.checkpoints(number), keep=1)
        trainer.callbacks = [*quiet, *more]
        try:
            with np.errstate(all="ignore"):
                fit_on(trainer, *self.data, fit, checkpoint)
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
    """Ends a trial where the pruner says so: a function of its history and of the trials before.

    A trial that ends by itself in the same epoch is complete; so a checkpoint has the verdict.
    """

    def __init__(self, search: Searching, number: int) -> None:
        self._search, self._number = search, number
        self.reason: str | None = None

    def on_epoch_end(self, run: Run) -> None:
        values = run.history.get(self._search.result.metric)
        if values is None:
            return
        told = self._verdict(values)
        if not run.stop and run.epoch < run.max_epochs:
            self.reason = told
            run.stop = told is not None

    def report(self, values: list[float]) -> None:
        """Tell Optuna what a resume has brought."""
        if self._search.study is not None:
            self._search.study.prunes(values)

    def _verdict(self, values: list[float]) -> str | None:
        pruner, study, result = self._search.pruner, self._search.study, self._search.result
        if study is not None and study.prunes(values):
            now = f"{result.metric} {values[-1]:.4g}"
            return f"{now} after epoch {len(values)}, by {study.pruner}"
        if pruner is None:
            return None
        before = [trial for trial in result.trials if trial.number < self._number]
        return pruner.reason(result.metric, result.mode, values, before)

    def state_dict(self) -> dict[str, Any]:
        return {"reason": self.reason}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.reason = state_dict["reason"]


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
