"""Samplers and pruners of Optuna, around trials that a search keeps itself.

The study holds no more than those trials, so that it can be made again from them at any time. Every
trial gets a sampler of its own seed: what it draws depends on (seed, number) and on the trials
before it, not on how often the search was interrupted.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from onepass._quiet import ProcessSetting, ignored
from onepass.train._search_space import Choice, Distribution, Integer, word
from onepass.train._search_trial import COMPLETE, PRUNED, Trial

NAME = "search"  # of the study
JOURNAL = "optuna.log"
SAMPLERS = {"tpe": "TPESampler", "gp": "GPSampler"}
PRUNERS = ("hyperband",)
NEEDS = {"CmaEsSampler": "cmaes", "GPSampler": "torch"}  # imported once they have learned
GRIDS = ("GridSampler", "BruteForceSampler")
Attributes = dict[str, Any]


def optuna(why: str) -> Any:
    """The library.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import optuna as library
    except ImportError as error:
        raise ImportError(f"search: {why} needs Optuna: pip install 'onepass[search]'") from error
    return library


def is_of_optuna(value: Any) -> bool:
    """Whether it is an object of one of Optuna's classes."""
    return any(kind.__module__.partition(".")[0] == "optuna" for kind in type(value).__mro__)


class Study:
    """A study of Optuna that follows a search.

    Args:
        space, seed, metric, mode: of the search.
        sampler: None draws nothing: parameters are given; or a function of a seed, or an object.
        pruner: an object of Optuna's, or None.
        journal: a file for Optuna's tools, made anew; None keeps the study in memory.
    """

    def __init__(
        self,
        space: Mapping[str, Distribution],
        seed: int,
        metric: str,
        mode: str,
        sampler: Callable[[int], Any] | Any | None,
        pruner: Any,
        journal: Path | None,
    ) -> None:
        self._library = library = optuna("a sampler or pruner of its")
        self._space, self._seed, self._metric, self._sampler = space, seed, metric, sampler
        # Samplers draw one parameter after the other: the order of a dict has no say in it.
        self._distributions = {name: _distribution(library, space[name]) for name in sorted(space)}
        self._keeps = journal is not None
        self.pruner = type(pruner).__name__
        self._trial: Any = None
        self._reported = 0
        with _quietly(library):
            storage = None
            if journal is not None:
                for path in (journal, journal.with_name(f"{journal.name}.lock")):
                    with suppress(FileNotFoundError):
                        path.unlink()
                backend = library.storages.journal.JournalFileBackend(str(journal))
                storage = library.storages.JournalStorage(backend)
            self._study = library.create_study(
                storage=storage,
                study_name=NAME,
                direction="minimize" if mode == "min" else "maximize",
                pruner=pruner or library.pruners.NopPruner(),
                sampler=library.samplers.RandomSampler(seed=0),
            )

    def add(self, trial: Trial, attributes: Attributes) -> None:
        """A trial that has ended, with what Optuna noted of it."""
        library = self._library
        values = trial.history.get(self._metric, [])
        state = library.trial.TrialState.FAIL
        if trial.state == COMPLETE:
            state = library.trial.TrialState.COMPLETE
        elif trial.state == PRUNED:
            state = library.trial.TrialState.PRUNED
        with _quietly(library):
            self._study.add_trial(
                library.trial.create_trial(
                    state=state,
                    value=None if math.isnan(trial.score) else trial.score,
                    params=self._to_optuna(trial.params),
                    distributions=self._distributions,
                    system_attrs=attributes,
                    intermediate_values=dict(enumerate(values, 1)),
                )
            )

    def ask(self, number: int, params: dict[str, Any] | None) -> dict[str, Any]:
        """Begin trial ``number``: with these parameters, or with those that the sampler draws."""
        self._reported = 0
        with _quietly(self._library):
            if params is not None:
                self._study.enqueue_trial(self._to_optuna(params))
            else:
                self._study.sampler = self._made_sampler(number)
            try:
                self._trial = self._study.ask(self._distributions)
            except Exception as error:
                name = type(self._study.sampler).__name__
                raise ValueError(
                    f"search: 'sampler' is a {name} that draws nothing from this space, expected "
                    f"one that does ({type(error).__name__}: {error})"
                ) from error
        assert self._trial.number == number
        return params if params is not None else self._from_optuna(self._trial.params)

    def _made_sampler(self, number: int) -> Any:
        if not callable(self._sampler):
            return _usable(self._sampler)
        made = self._sampler(word(self._seed, number, "sampler") >> 32)
        if not isinstance(made, self._library.samplers.BaseSampler):
            raise TypeError(
                f"search: 'sampler' returned {made!r}, expected a sampler of Optuna for each seed"
            )
        if self._keeps:
            self._refuse_unrepeatable(made)
        return _usable(made)

    def _refuse_unrepeatable(self, sampler: Any) -> None:
        kinds = self._library.samplers
        inner = _inner(sampler)
        told = {
            kinds.CmaEsSampler: "a CmaEsSampler, whose state is a pickle",
            kinds.QMCSampler: "a QMCSampler, which counts draws that an interruption has cut off",
        }
        for kind, what in told.items():
            if isinstance(inner, kind):
                raise ValueError(
                    f"search: 'sampler' makes {what}, expected another one with resume"
                )

    def prunes(self, values: Sequence[float]) -> bool:
        """Whether to end the trial that runs, which has measured these values."""
        found = False
        with ignored("All-NaN", RuntimeWarning):  # of its medians
            for epoch in range(self._reported, len(values)):
                self._trial.report(values[epoch], epoch + 1)
                found = bool(self._trial.should_prune())
        self._reported = len(values)
        return found

    def tell(self, trial: Trial) -> Attributes:
        """The trial that ran has ended; returns what Optuna noted of it."""
        state = self._library.trial.TrialState
        with _quietly(self._library):
            if trial.state == COMPLETE:
                self._study.tell(self._trial, trial.score)
            else:
                ended = state.PRUNED if trial.state == PRUNED else state.FAIL
                self._study.tell(self._trial, state=ended)
        attributes: Attributes = dict(self._study.get_trials(deepcopy=False)[-1].system_attrs)
        return attributes

    def _to_optuna(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _named(of, params[name]) for name, of in self._space.items()}

    def _from_optuna(self, params: Mapping[str, Any]) -> dict[str, Any]:
        found = {}
        for name, of in self._space.items():
            value = params[name]
            found[name] = of.nth(of.labels.index(value)) if isinstance(of, Choice) else value
        return found


def _inner(sampler: Any) -> Any:
    return getattr(sampler, "_base_sampler", sampler)  # of a PartialFixedSampler


def _usable(sampler: Any) -> Any:
    """The sampler; refuses one that would fail in the middle of a search."""
    names = [kind.__name__ for kind in type(_inner(sampler)).__mro__]
    for name in names:
        if name in GRIDS:
            raise ValueError(
                f"search: 'sampler' is a {name}, which ends a study itself, expected another one; "
                "without a sampler a search tries every combination of lists in 'space' once"
            )
        if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
            raise ImportError(
                f"search: 'sampler' is a {name}, which needs {NEEDS[name]}: pip install "
                f"{NEEDS[name]}"
            )
    return sampler


def named_sampler(name: str) -> Callable[[int], Any]:
    """A function of a seed that makes the sampler of this name."""
    kind = getattr(optuna(f"sampler={name!r}").samplers, SAMPLERS[name])
    return lambda seed: kind(seed=seed)


def named_pruner(name: str, max_epochs: int) -> Any:
    """The pruner of this name."""
    library = optuna(f"pruner={name!r}")
    return library.pruners.HyperbandPruner(max_resource=max_epochs)


def _distribution(library: Any, of: Distribution) -> Any:
    kinds = library.distributions
    if isinstance(of, Choice):
        return kinds.CategoricalDistribution(of.labels)
    if isinstance(of, Integer):
        return kinds.IntDistribution(of.low, of.high, log=of.log)
    ends: Any = of
    return kinds.FloatDistribution(ends.low, ends.high, log=of.log)


def _named(of: Distribution, value: Any) -> Any:
    return of.labels[of.kept(value)] if isinstance(of, Choice) else value


def _kept_verbosity() -> Callable[[], object]:
    from optuna import logging

    return partial(logging.set_verbosity, logging.get_verbosity())


_verbosity = ProcessSetting(_kept_verbosity)


@contextmanager
def _quietly(library: Any) -> Iterator[None]:
    """Without Optuna's lines on standard error, and without its notes on what is experimental."""
    logging = library.logging
    with (
        _verbosity.changed(lambda: logging.set_verbosity(logging.WARNING)),
        ignored(category=library.exceptions.ExperimentalWarning),
    ):
        yield
