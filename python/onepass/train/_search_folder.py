"""The folder of a search: what is searched, a file for each trial, checkpoints of two of them.

``search.json`` has what a resume compares. ``trial_0003/trial.json`` has a trial: first the
parameters alone, then all of it; it is replaced as a whole. ``trial_0003/checkpoints`` is there
while the trial runs, and as long as it is the best. ``trials.csv`` repeats the trials as a table.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from onepass import _numbers as numbers
from onepass.train import _record, _tree
from onepass.train._checkpoint import are_damaged
from onepass.train._history import History
from onepass.train._record import Record
from onepass.train._search_space import Distribution
from onepass.train._search_trial import COMPLETE, PRUNED, STATES, Trial

OWNER = "search"
RUNNING = "running"
RECORD, TABLE, PICTURE, TRIAL, CHECKPOINTS = (
    "search.json", "trials.csv", "search.png", "trial.json", "checkpoints",
)  # fmt: skip
_FOLDER = re.compile(r"trial_(\d{4,})")
_HEX = re.compile("[0-9a-fA-F]{2,}")


class Entry(NamedTuple):
    """What is known of a trial: of one that has ended, all, and what Optuna noted of it.

    Attributes:
        versions: with which it was begun.
    """

    params: dict[str, Any]
    versions: Mapping[str, str]
    trial: Trial | None = None
    attributes: dict[str, Any] = {}  # noqa: RUF012


class SearchFolder:
    """A folder that this search alone writes to, as long as the object lives.

    Args:
        path: of a new search, or of one that goes on.
        record: what is searched, for JSON; has "metric".
        free: names of entries that may differ when it goes on.
        space: of the parameters.
        versions: of what decides which trials come next, kept with each trial.

    Raises:
        ValueError: it holds another search, something else or a damaged record. OSError: another
            process uses it, or nothing can be written there.
    """

    def __init__(
        self,
        path: Path,
        record: Mapping[str, Any],
        free: Collection[str],
        space: Mapping[str, Distribution],
        versions: Mapping[str, str],
    ) -> None:
        self.path, self._space, self._metric = path, space, record["metric"]
        self._versions = dict(versions)
        self._record = Record(OWNER, path, RECORD)
        try:
            self._record.begin(record, free)
        except BaseException:
            self.close()
            raise

    def trials(self) -> dict[int, Entry]:
        """Those that have ended, by number; warns where another version began one."""
        found = {number: self._read(number) for number in self._numbers()}
        self._warn_of_versions(entry.versions for entry in found.values() if entry)
        return {n: entry for n, entry in found.items() if entry and entry.trial is not None}

    def begun(self, number: int) -> dict[str, Any] | None:
        """The parameters of a trial that was begun; None without one."""
        entry = self._read(number)
        return None if entry is None else entry.params

    def begin(self, number: int, params: Mapping[str, Any]) -> None:
        """A trial begins, from nothing."""
        _remove(self.checkpoints(number))
        known = {"params": self._kept(params), "versions": self._versions}
        self._write(number, {"state": RUNNING, **known})

    def end(self, trial: Trial, attributes: Mapping[str, Any]) -> None:
        """A trial has ended."""
        for name, value in attributes.items():
            if isinstance(value, str) and _HEX.fullmatch(value):
                raise ValueError(
                    f"search: the sampler noted {name!r}, bytes that a resume would have to trust, "
                    "such as the pickle of a CmaEsSampler, expected another sampler with resume"
                )
        names = ("state", "score", "reason", "seconds", "seed", "traceback")
        known = {name: getattr(trial, name) for name in names}
        known |= {"params": self._kept(trial.params), "history": dict(trial.history)}
        begun = self._read(trial.number)
        known["versions"] = self._versions if begun is None else begun.versions
        self._write(trial.number, {**known, "attributes": dict(attributes)})

    def checkpoints(self, number: int) -> Path:
        """The folder for checkpoints of a trial."""
        return self._of(number) / CHECKPOINTS

    def drop_damaged(self, number: int) -> None:
        """Let a trial begin anew where none of its checkpoints can be read."""
        if are_damaged(self.checkpoints(number)):
            self.drop_checkpoints(number)

    def drop_checkpoints(self, number: int) -> None:
        """Delete those of a trial."""
        _remove(self.checkpoints(number))

    def close(self) -> None:
        """Let other processes use the folder."""
        self._record.close()

    def _of(self, number: int) -> Path:
        return self.path / f"trial_{number:04d}"

    def _numbers(self) -> list[int]:
        found = (_FOLDER.fullmatch(path.name) for path in self.path.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def _write(self, number: int, known: dict[str, Any]) -> None:
        self._of(number).mkdir(exist_ok=True)
        arrays: dict[str, Any] = {}
        packed = _tree.pack(known, arrays, "trial")
        if arrays:
            raise TypeError(
                f"search: the sampler noted arrays ({', '.join(arrays)}), expected none"
            )
        _record.write_json(self._of(number) / TRIAL, "record of the trial", packed)

    def _read(self, number: int) -> Entry | None:
        file = self._of(number) / TRIAL
        if not file.is_file():
            return None  # killed before it was written
        try:
            known = _tree.unpack(_record.read_json(file), {}, "trial")
            params = {name: of.back(known["params"][name]) for name, of in self._space.items()}
            versions = {str(name): str(text) for name, text in known["versions"].items()}
            if known["state"] == RUNNING:
                return Entry(params, versions)
            numbers.one_of("trial", "state", known["state"], STATES)
            history = History({name: [*map(float, v)] for name, v in known["history"].items()})
            rest = (known["state"], float(known["score"]), str(known["reason"]), history)
            ends = (float(known["seconds"]), int(known["seed"]), str(known["traceback"]))
            trial = Trial(number, params, *rest, *ends)
            _check_score(trial, self._metric)
            # Words may be pickles: those of CmaEsSampler are.
            noted = {k: v for k, v in known["attributes"].items() if not isinstance(v, str)}
            return Entry(params, versions, trial, noted)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"search: {file} is damaged ({error or type(error).__name__}); delete the folder "
                "of this trial, which is then run again"
            ) from None

    def _warn_of_versions(self, begun: Iterable[Mapping[str, str]]) -> None:
        now = self._versions
        for before in begun:
            if before != now:
                told = (f"{name} {before.get(name)}, now {found}" for name, found in now.items())
                warnings.warn(
                    f"the search in {self.path} was begun with {', '.join(told)}: what it tries "
                    "next may differ from what it would have tried",
                    RuntimeWarning,
                    stacklevel=7,
                )
                return

    def _kept(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {name: of.kept(params[name]) for name, of in self._space.items()}


def read_record(folder: Path) -> dict[str, Any]:
    """What is searched in a folder.

    Raises:
        ValueError: it is damaged, or of a later version.
    """
    return _record.read(OWNER, folder / RECORD)


def _check_score(trial: Trial, metric: str) -> None:
    """Refuse a score that no training has given."""
    values = trial.history.get(metric, [])
    found, right = trial.score, math.isnan(trial.score)
    if trial.state == COMPLETE:
        right = math.isfinite(found) and found in values
    elif trial.state == PRUNED:
        right = bool(values) and repr(found) == repr(values[-1])
    if not right:
        raise ValueError(f"'score' is {found!r}, which its history has not")


def _remove(folder: Path) -> None:
    """Delete a folder of checkpoints, and what a kill has left of that."""
    trash = folder.with_name(f".{folder.name}.done")
    shutil.rmtree(trash, ignore_errors=True)
    if folder.is_dir():
        os.rename(folder, trash)
        shutil.rmtree(trash, ignore_errors=True)
