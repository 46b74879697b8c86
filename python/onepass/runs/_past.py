"""What the folder of a training tells about it, whatever state it is in."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass.runs import _folder, _held_out
from onepass.runs._folder import in_use, settled
from onepass.runs._held_out import Report
from onepass.runs._names import HISTORY, MODEL, RECORD
from onepass.runs._past_record import WrongEntryError, checked
from onepass.runs._replacing import NEW
from onepass.runs._saved_run import SavedRun, no_run, read_run
from onepass.train._search_folder import RECORD as OF_SEARCH
from onepass.train._verdict import verdict

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Numbers:
    """history.csv: ``names`` of the columns behind the epoch, ``cells`` as the file has them.

    Attributes:
        values: name → one number an epoch.
    """

    names: Sequence[str]
    cells: Sequence[Sequence[str]]
    values: dict[str, Floats]

    @classmethod
    def read(cls, path: Path) -> Numbers:
        """Of the file; none where it is missing.

        Raises:
            ValueError: it holds something else.
        """
        try:
            with open(path, newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if row]
            if not rows:
                raise ValueError("it is empty")
            head, *rows = rows
            if head[0] != "epoch" or len(set(head)) != len(head):
                raise ValueError(f"the first line is {','.join(head)[:40]}")
            for number, row in enumerate(rows, 1):
                if row[0] != str(number) or len(row) != len(head):
                    raise ValueError(f"line {number + 1} is {','.join(row)[:40]}")
            columns = list(zip(*rows, strict=True)) or [()] * len(head)
            values = {
                name: np.array([float(cell) for cell in column], np.float64)
                for name, column in zip(head[1:], columns[1:], strict=True)
            }
        except FileNotFoundError:
            return cls([], [], {})
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path} holds something else than a history ({error})") from error
        return cls(head[1:], rows, values)

    def __len__(self) -> int:
        return len(self.cells)

    def cell(self, name: str, epoch: int) -> str:
        """As it stands in the file; epochs count from 1."""
        return self.cells[epoch - 1][1 + list(self.names).index(name)]

    def best(self, name: str, *, least: bool = True) -> int | None:
        """The epoch of the least finite number of a column, or of the largest; None without one."""
        values = self.values.get(name, np.zeros(0))
        finite = np.isfinite(values)
        if not finite.any():
            return None
        ranked = np.where(finite, values if least else -values, np.inf)
        return int(ranked.argmin()) + 1

    def get(self, name: str) -> list[float]:
        """A column, [] where there is none."""
        return self.values[name].tolist() if name in self.values else []


@dataclass(frozen=True)
class Past:
    """A training, as its folder has it.

    Attributes:
        record: what run.json holds, {} for a Trainer's log_dir. saved: the model, or None.
        held_out: what was predicted for the held-out part, or None. state: a word, and
        sentence: what is behind it. troubles: what could not be read.
    """

    folder: Path
    record: dict[str, Any]
    numbers: Numbers
    saved: SavedRun | None
    held_out: Report | None
    state: str
    sentence: str
    troubles: Sequence[str]

    @classmethod
    def read(cls, folder: Path) -> Past:
        """Of a folder.

        Raises:
            FileNotFoundError: it holds no training. ValueError: run.json or history.csv is
                damaged.
        """
        settled(folder)
        recorded, listed = (folder / RECORD).is_file(), (folder / HISTORY).is_file()
        if not recorded and not listed:
            raise FileNotFoundError(_nothing(folder))
        record = record_of(folder) if recorded else {}
        numbers = Numbers.read(folder / HISTORY)
        troubles: list[str] = []
        saved, held_out = None, None
        try:
            if recorded and (folder / MODEL).is_file():
                saved = read_run(folder / MODEL)
        except (ValueError, OSError) as error:
            troubles.append(str(error))
        try:
            classes = record.get("classes")
            found = _held_out.read(folder, classes) if record.get("result") else None
            if found is not None:
                held_out = found.report(classes, _target(record))
        except (ValueError, OSError) as error:
            troubles.append(str(error))
        if (folder / NEW).is_dir():
            troubles.append(f"a training that is to replace this run is in {folder / NEW}")
        state, sentence = state_of(folder, record, len(numbers))
        return cls(folder, record, numbers, saved, held_out, state, sentence, troubles)

    @property
    def title(self) -> str:
        """The name of the folder, or of the run that another one is to replace."""
        folder = self.folder.resolve()
        return f"{folder.parent.name} (new)" if folder.name == NEW else folder.name or str(folder)

    @property
    def is_fold(self) -> bool:
        """Whether a run two folders above goes on with it."""
        return "fold" in self.record

    @property
    def target(self) -> str:
        """What is predicted."""
        return _target(self.record)

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights the model has: that of the least validation loss.

        A Trainer may have watched anything: of its folder, None.
        """
        if not self.record:
            return None
        if (best := self.record.get("best_epoch")) is not None:
            return int(best) or None
        return self.numbers.best("val_loss")

    @property
    def verdict(self) -> str:
        """The sentence about the training."""
        if self.record.get("verdict"):
            return str(self.record["verdict"])
        failed = self.record.get("ended", {}).get("where") or ""
        return verdict(self.numbers.get("loss"), self.numbers.get("val_loss"), failed=failed)


def record_of(folder: Path) -> dict[str, Any]:
    """run.json, checked.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return checked(_folder._read(folder))
    except (WrongEntryError, RecursionError) as error:
        raise ValueError(f"{folder / RECORD} is damaged: {error}") from error


def _target(record: dict[str, Any]) -> str:
    return str(record.get("data", {}).get("target") or record["options"].get("target") or "target")


def state_of(folder: Path, record: dict[str, Any], epochs: int) -> tuple[str, str]:
    """A word, and what is behind it."""
    done = f"{epochs} epoch{'s' * (epochs != 1)}"
    if not record:
        return "of a Trainer", f"{done}, as history.csv has them"
    most = record["options"].get("epochs")
    if record.get("result"):
        early = isinstance(most, int) and epochs < most
        more = f", of at most {most}: it stopped early" if early else ""
        return "finished", f"after {done}{more}"
    used = in_use(folder)
    if used:
        return "in progress", f"{done} of {most} are done"
    ended = record.get("ended")
    if isinstance(ended, dict) and ended.get("how") in ("interrupted", "failed"):
        why = f": {ended['why']}" if ended.get("why") else ""
        return str(ended["how"]), f"after {done} of {most}{why}"
    if used is None:
        return "unfinished", f"{done} of {most}; whether it is still trained cannot be told here"
    return "cut off", f"after {done} of {most}, without a word: killed, perhaps"


def _nothing(folder: Path) -> str:
    if not folder.exists():
        return no_run(folder)
    if not folder.is_dir():
        return f"{folder} is a file, expected the folder of a run"
    if (folder / OF_SEARCH).is_file():
        return no_run(folder)
    return f"{folder} holds no run ({RECORD} and {HISTORY} are missing)"
