"""The search of ``onepass search``: over options of ``onepass train``, on one split of a table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onepass._array import mover
from onepass.runs import _options, _parts, _scores
from onepass.runs._fitting import Fitting
from onepass.runs._folder import OtherRunError, candidates, newest_first
from onepass.runs._names import BEST
from onepass.runs._names import RECORD as OF_RUN
from onepass.runs._options import Options
from onepass.runs._recipe import Recipe, check_options_of_classes
from onepass.runs._source import Source, digest, found_again, name_of, same_place
from onepass.train._checks import of_name
from onepass.train._marks import mark
from onepass.train._record import ELSE, read_json
from onepass.train._search import prepared
from onepass.train._search_folder import PICTURE, RECORD, read_record
from onepass.train._search_result import SearchResult
from onepass.train._search_space import Choice, Distribution, LogUniform, Uniform, combinations
from onepass.train._search_trial import COMPLETE, STATES, Trial
from onepass.train._trainer import Trainer

SPACE: dict[str, Distribution] = {
    "lr": LogUniform(3e-4, 0.1),
    "hidden": Choice([(64,), (256,), (64, 64), (128, 128), (256, 256)]),
    "dropout": Uniform(0, 0.5),
    "weight_decay": LogUniform(1e-5, 0.5),
    "batch_size": Choice([16, 32, 64, 128]),
    "optimizer": Choice(["adamw", "nadam", "sgd"]),
}
HOW = {"sampler": "random", "pruner": "none", "metric": "val_loss", "trials": 20}


class OptionSearch:
    """A search in one directory; the constructor finds all wrong options.

    Args:
        given: options of a run by name, which do not vary.
        how: of `HOW`, what was given; and ``"space"``, texts.
        space: what those texts mean; None for `SPACE`, without what is given.
        out: the directory, or None for one in runs/.
        fresh: the directory must not hold a search yet.
        progress: show a bar and a line for each trial.

    Attributes:
        options, out, trials: of the search. notes: sentences for the user.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        how: Mapping[str, Any],
        space: Mapping[str, Distribution] | None,
        out: Path | None = None,
        *,
        fresh: bool = True,
        progress: bool = True,
    ) -> None:
        if fresh and out is not None and (out.resolve() / RECORD).is_file():
            raise ValueError(
                f"search: '--out' is {str(out)!r}, which holds a search, expected another "
                "directory (or --resume to go on with it)"
            )
        self._given = dict(given)
        self._how = {**HOW, **how}
        self.options = Options.of(given)
        self.source = Source.read(self.options)
        self.notes = [*self.source.notes]
        self._space = self._varied(space)
        check_options_of_classes(self.source, {**given, **dict.fromkeys(self._space, True)})
        self.parts = _parts.split(self.source, self.options.seed, self.options.preprocess)
        self.out = out or _free(f"{name_of(self.options.data)}-search")
        self.trials = int(self._how["trials"])
        self._search = self._prepared(progress)

    @classmethod
    def earlier(
        cls, given: Mapping[str, Any], how: Mapping[str, Any], out: Path | None
    ) -> tuple[dict[str, Any], dict[str, Any], Path] | None:
        """What a search that is to go on was given, with what may change; None without one.

        Raises:
            ValueError: it was started with something else, or neither DATA nor the folder is given.
        """
        if out is None and "data" not in given:
            raise ValueError("search: '--resume' is given, expected DATA or --out with it")
        name = f"{name_of(given.get('data', ''))}-search"
        reason = None
        for path in [out] if out is not None else newest_first(name):
            if not (path / RECORD).is_file():
                continue
            record = read_record(path)
            parts = {"given": dict, "how": dict, "directory": str, "trials": int}
            if not all(isinstance(record.get(name), kind) for name, kind in parts.items()):
                raise ValueError(f"search: {path} holds no search of `onepass search`")
            told = _contradiction(path, record, given, how) or _too_few(path, how)
            if told is None:
                before = {**record["given"], **{k: v for k, v in given.items() if k == "device"}}
                before["data"] = found_again(before["data"], record["directory"])
                return before, {**record["how"], "trials": record["trials"], **how}, path
            reason = reason or told  # of the newest
        if reason is not None:
            raise ValueError(reason)
        return None

    def describe(self) -> str:
        """The data, its parts, what is searched, and the notes."""
        parts = self.parts
        sizes = (
            f"{len(parts.train)} training, {len(parts.validation)} validation, "
            f"{len(parts.test)} held out, which the search does not see"
        )
        space = [f"{name} {_told(of)}" for name, of in self._space.items()]
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([self.source.describe(), sizes, f"over {'; '.join(space)}", *notes])

    def run(self) -> SearchResult:
        """Search."""
        result: SearchResult = self._search.run()
        return result

    def best(self, result: SearchResult) -> Recipe:
        """The run of the best trial, in a folder of its own, to be trained; that of a trial which
        was the best before gives its place.

        Raises:
            ValueError: a run there is damaged, or of none of the trials; it stays as it is.
        """
        given, place = {**self._given, **result.best.params}, self.out / BEST
        try:
            return Recipe(given, place, resume=True, progress=False, source=self.source)
        except OtherRunError as error:
            if not any(self._is_of(trial, place) for trial in result.trials):
                raise ValueError(
                    f"search: {place} holds a run of none of the trials, expected that of one of "
                    "them or none; move it away"
                ) from error
            return Recipe(given, place, overwrite=True, progress=False, source=self.source)
        except ValueError as error:  # whose cure is one of `onepass train`
            told = of_search(error).removeprefix("search: ").partition("; ")[0]
            raise ValueError(
                f"search: {told}; delete {place}, whose run is then trained again"
            ) from error

    def _is_of(self, trial: Trial, place: Path) -> bool:
        """Whether the run in a folder was started with the options of a trial."""
        if trial.state != COMPLETE:
            return False
        before = read_json(place / OF_RUN)["options"]
        return Options.of({**self._given, **trial.params}).contradicts(before) is None

    def command(self, result: SearchResult) -> str:
        """What trains the best trial again, for a shell."""
        return _options.command(Options.of({**self._given, **result.best.params}))

    def plot(self, result: SearchResult) -> str:
        """Write the picture; returns its name.

        Raises:
            ImportError: Matplotlib is not installed. OSError: it cannot be written.
        """
        result.plot(self.out / PICTURE)
        return PICTURE

    def _build(self, params: dict[str, Any]) -> tuple[Trainer, dict[str, Any]]:
        try:
            options = Options.of({**self._given, **params})
            trainer = Fitting(self.source, self.parts, options).trainer([])
        except ValueError as error:
            raise ValueError(of_search(error)) from error
        return trainer, {"batch_size": options.batch_size}

    def _varied(self, space: Mapping[str, Distribution] | None) -> dict[str, Distribution]:
        if space is None:
            kept = {name: of for name, of in SPACE.items() if name not in self._given}
            if not _options.takes_weight_decay(self.options.optimizer):
                kept.pop("weight_decay", None)
            if not kept:
                raise ValueError(
                    "search: every option is given, expected one to vary, such as "
                    "--space lr=1e-4..1e-1"
                )
            return kept
        for name, of in space.items():
            if name in self._given:
                raise ValueError(
                    f"search: '--{name.replace('_', '-')}' is given and varies (--space), expected "
                    "one of both"
                )
            ends = of.values if isinstance(of, Choice) else [of.back(e) for e in _ends(of)]
            for value in ends:
                try:
                    Options.of({**self._given, name: value})
                except ValueError as error:
                    option = f"'--{name.replace('_', '-')}'"
                    told = of_search(error).replace(
                        f"search: {option} ", f"search: '--space {name}' "
                    )
                    raise ValueError(told) from None
        chosen: Any = space.get("optimizer")
        names = [self.options.optimizer] if chosen is None else chosen.values
        lacking = [name for name in names if not _options.takes_weight_decay(name)]
        if "weight_decay" in space and lacking:
            raise ValueError(
                f"search: '--space' has weight_decay, which {lacking[0]} lacks, expected "
                "optimizers that have it"
            )
        return dict(space)

    def _prepared(self, progress: bool) -> Any:
        options, move, parts = self.options, mover(self.options.device), self.parts

        def moved(rows: Any) -> tuple[Any, Any]:
            return move(parts.inputs(rows)), move(parts.targets(rows))

        named, pruner = str(self._how["metric"]), self._how["pruner"]
        metric = f"val_{named}" if named in _scores.MEASURED else named
        trials = self.trials
        count = combinations(self._space)
        if count is not None and trials > count and self._how["sampler"] == "random":
            self.notes.append(f"there are no more than {count} combinations to try")
            trials = self.trials = count
        fitting = Fitting(self.source, parts, options)
        if not {"batch_size", "norm"} & self._space.keys():
            try:
                fitting.check([], [(parts.train, parts.validation)])
            except ValueError as error:
                raise ValueError(of_search(error)) from None
        trainer = fitting.trainer([])
        try:
            of_name(trainer.run, "search", "--metric", metric, validates=True)
        except ValueError as error:  # which has the name as it was typed
            raise ValueError(str(error).replace(repr(metric), repr(named), 1)) from None
        contents = digest(self.source.classes, parts.X, parts.y)
        return prepared(
            self._build,
            self._space,
            *moved(parts.train),
            trials=trials,
            seed=options.seed,
            metric=metric,
            mode="auto",
            sampler=self._how["sampler"],
            pruner=None if pruner == "none" else pruner,
            resume=self.out,
            progress=progress,
            fit={"max_epochs": options.epochs, "validation_data": moved(parts.validation)},
            about={
                "given": _plain(self._given),
                "how": {k: v for k, v in self._how.items() if k != "trials"},
                "DATA": mark("search", "DATA", contents, Path(options.data).name),
                "directory": os.getcwd(),
            },
            free=("given", "how", "directory"),  # `_contradiction` has compared them
        )


def of_search(error: object) -> str:
    """The message of an error in options, which are those of train and of `train.search`."""
    text = str(error).replace("search: 'resume' is", "search: '--out' is", 1)
    text = text.replace(ELSE, "pass another folder (--out)")
    return f"search: {text.removeprefix('train: ')}" if text.startswith("train: ") else text


def _too_few(path: Path, how: Mapping[str, Any]) -> str | None:
    """Of fewer trials than have ended another would be the best, and replace the run that is."""
    given = how.get("trials")
    records = [] if given is None else [read_json(file) for file in path.glob("trial_*/trial.json")]
    ended = sum(record.get("state") in STATES for record in records)  # the last one has only begun
    if given is None or given >= ended:
        return None
    return f"search: '--trials' is {given}, expected {ended} or more, which have ended in {path}"


def _contradiction(
    path: Path, record: Mapping[str, Any], given: Mapping[str, Any], how: Mapping[str, Any]
) -> str | None:
    for name, value in _plain(given).items():
        before = record["given"].get(name)
        same = same_place(before, value) if name == "data" else before == value
        if not same and name != "device":
            told = _options.contradiction(name, before, value)
            return f"search: {path} was started with {told}"
    for name, value in how.items():
        before = record["how"].get(name)
        if name != "trials" and before != value:
            told = _options.contradiction(name, before, value)
            return f"search: {path} was started with {told}"
    return None


def _plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has them."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}


def _ends(of: Any) -> tuple[Any, Any]:
    return of.low, of.high


def _told(of: Any) -> str:
    if isinstance(of, Choice):
        words = (",".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in of.values)
        return " / ".join(words)
    return f"{of.low:g}..{of.high:g}{' (log)' * of.log}"


def _free(name: str) -> Path:
    """runs/name, runs/name-2, …: the first that is not there, or empty."""
    for path in candidates(name):
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return path
    raise AssertionError("names do not end")
