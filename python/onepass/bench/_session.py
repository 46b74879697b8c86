"""One run of ``onepass bench``: chooses rows, prints each result as it comes, keeps the files."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from onepass import _bar, _console, _files
from onepass._suggest import suggestion
from onepass.bench import _machine, _results, _rows, _run, _table
from onepass.bench._row import Context, Row, UsageError, named

QUICK_SECONDS = 37.0  # for a quick run without its start: with all rivals that takes 15 more
QUICK_END = 42.0  # later rows are left out, and said
QUICK_ROUNDS = 7
VISIT_ROUNDS = 2  # with --repeat
WRITE_SECONDS = 10.0  # between two writes of files whose rows are to be visited again
# What two parts of one run may have different in a file's head.
VARYING = ("date", "load", "copy_bytes_per_second")


def restart(arguments: list[str]) -> None:
    """Start the command anew with malloc told to keep its memory, if it was not.

    malloc maps large outputs anew at every call, which times the page faults of a rival and not the
    rival: so results that are made at each call get the memory of the previous one back, as in a
    tuned program. All in huge pages: NumPy asks for them, PyTorch does not; which arrays had them
    was chance.
    """
    ours = sys.argv[1:] in (arguments, ["bench", *arguments])  # not called by a Python program
    if not ours or _machine.has_tuned_malloc() or platform.libc_ver()[0] != "glibc":
        return
    given = os.environ.get("GLIBC_TUNABLES", "")
    tuned = ":".join(filter(None, (given, _machine.TUNED_MALLOC)))
    with contextlib.suppress(OSError):  # then malloc is as it is, which the file says
        environment = os.environ | {"GLIBC_TUNABLES": tuned}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


class Session:
    """What is measured, what was found, where it is written."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.found: dict[tuple[str, int, str], dict[str, Any]] = {}  # by `_key`
        self.written = 0.0  # when
        self.meter, rows = self._device()
        found = list(rows(self._context(1)))
        chosen = [row for row in found if self._is_chosen(row)]
        if not chosen:
            self._nothing_chosen([row.name for row in found])
        contexts = [self._context(threads) for threads in self._threads()]
        self.rows = [(row, context) for row in chosen for context in contexts]

    @property
    def results(self) -> list[dict[str, Any]]:
        """What the files have."""
        return list(self.found.values())

    def run(self) -> int:
        """Measure, print, write; returns the exit status."""
        if self.options.list:
            for name in dict.fromkeys((row.group, row.name) for row, _ in self.rows):
                _say(f"{name[0]:12} {name[1]}")
            return 0
        self.about = _machine.machine() | self.meter.about()
        self._resume()
        self._check_files()
        _say(_table.head(self.about))
        status = self._measure()
        absent = _run.absent(self.options.against)
        for text in ("", _table.LEGEND, "", *_table.summary(self.results, absent)):
            _say(text)
        return status or int(any(result.get("wrong") for result in self.results))

    def _measure(self) -> int:
        """Visit all rows, as often as is asked for."""
        given = self.options
        todo = [
            (row, context)
            for visit in range(given.repeat)
            for row, context in self.rows
            if self._visits(row, context) <= visit
        ]
        began, left = time.perf_counter(), len(todo)
        seconds = 60 * given.minutes
        deadline = began + (min(seconds, QUICK_END) if given.quick else seconds)
        unit = "row" if given.repeat == 1 else "visit"
        self.bar = _bar.of(left, 0, "onepass bench", sys.stderr, unit)
        if given.repeat > 1:
            self.meter.rounds = VISIT_ROUNDS
        try:
            for row, context in todo:
                if time.perf_counter() > deadline:
                    _say(f"out of time before {row.name}, {left} {unit}s are left out")
                    break
                if given.quick:  # what is left of the time is shared
                    spent = time.perf_counter() - began
                    self.meter.rounds = QUICK_ROUNDS
                    self.meter.most_seconds = max(0.1, (QUICK_SECONDS - spent) / left)
                left -= 1
                if "skipped" in self.found.get(self._key_of(row, context), {}):
                    continue  # it cannot be measured, which an earlier visit found
                if not self._visit(row, context):
                    return 1  # `onepass bench | head`: nobody is there to see the rest
        except KeyboardInterrupt:
            self._end()
            _console.write("\nonepass bench: interrupted\n", sys.stderr)
            return 130
        finally:
            if self.bar is not None:
                self.bar.close()
        self._end()
        return 0

    def _visits(self, row: Row, context: Context) -> int:
        result = self.found.get(self._key_of(row, context))
        return 0 if result is None else _run.visits(result)

    def _visit(self, row: Row, context: Context) -> bool:
        """Measure a row, once more if it was; False where nobody reads what is said of it."""
        key = self._key_of(row, context)
        result = _run.measured(row, context, self.meter, self.found.get(key))
        self.found[key] = result
        read, whole = True, self._is_whole(result)
        if whole:
            if self.bar is not None:
                self.bar.clear()
            read = _say(_table.line(result))
        if self.bar is not None:
            self.bar.update(1)
        if whole or time.perf_counter() > self.written + WRITE_SECONDS:
            self._write()
        given = self.options
        return bool(read or given.json or given.csv or given.html)

    def _is_whole(self, result: dict[str, Any]) -> bool:
        """Whether no visit is left."""
        return "skipped" in result or _run.visits(result) >= self.options.repeat

    def _end(self) -> None:
        """Of rows that were to be visited again."""
        for result in self.results:
            if not self._is_whole(result):
                _say(_table.line(result))
        if self.results:
            self._write()

    def _check_files(self) -> None:
        """An error before anything is measured in vain, where one cannot be written. A file that is
        there stays until it has a row to give way to."""
        given = self.options
        paths = [path for path in (given.json, given.csv, given.html) if path is not None]
        kept = [path for path in paths if path.is_file() and os.access(path.parent, os.W_OK)]
        if len(kept) < len(paths):
            self._write(without=kept)

    def _device(self) -> tuple[Any, Any]:
        if self.options.device == "cpu":
            clock = time.thread_time if self.options.processor_time else time.perf_counter
            return _run.Meter(clock), _rows.rows
        from onepass.bench import _cuda

        reason = _cuda.unusable()
        if reason is not None:
            raise UsageError(f"--device cuda: {reason}")
        return _cuda.Meter(), _cuda.rows

    def _context(self, threads: int) -> Context:
        given = self.options
        return Context(given.device, given.dtype or "float32", given.shape, threads, given.against)

    def _threads(self) -> list[int]:
        processors = _machine.processors()
        if self.options.threads:
            return list(self.options.threads)
        if self.options.device == "cuda":
            return [1]
        return [processors] if self.options.quick else sorted({1, processors})

    def _is_chosen(self, row: Row) -> bool:
        given = self.options
        if (given.groups and row.group not in given.groups) or (given.quick and not row.quick):
            return False
        return given.only.search(row.name) is not None

    def _nothing_chosen(self, names: list[str]) -> NoReturn:
        given = self.options
        if not names:
            raise UsageError(
                f"--shape {named(given.shape)}: no row takes arrays of {len(given.shape)} axes"
            )
        where = " of " + ", ".join(given.groups) if given.groups else ""
        where += " in --quick" if given.quick else ""
        if not given.only.pattern:
            raise UsageError(f"there is no row{where}")
        hint = suggestion(given.only.pattern, {name.split()[0] for name in names})
        raise UsageError(f"--only {given.only.pattern!r} matches no row{where}, see --list{hint}")

    def _resume(self) -> None:
        """Take the visits along that the file has already, if they are of such a run as this."""
        path = self.options.json
        if not self.options.resume or not path.exists():
            return
        _results.read(path)  # UsageError where it is none
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            self._check_same_run(content)
            kept = {
                self._key(result["row"], result["threads"], result["dtype"]): result
                for result in content["results"]
                if "skipped" not in result
            }
            self.found = kept
            # What lines need is there:
            self._texts(content), _table.summary(self.results, {})
            for result in self.results:
                _table.line(result)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"--resume: {path} is damaged: {error!r}") from None

    def _key_of(self, row: Row, context: Context) -> tuple[str, int, str]:
        return self._key(row.name, context.threads, context.dtype)

    def _key(self, row: str, threads: int, dtype: str) -> tuple[str, int, str]:
        """What is measured once. On a GPU the row's name says its dtype."""
        return row, threads, "" if self.options.device == "cuda" else dtype

    def _check_same_run(self, content: dict[str, Any]) -> None:
        """One file has one head."""
        if content.get("format") != _table.FORMAT:
            raise UsageError(
                f"--resume: {self.options.json} is of another version; pass another --json FILE"
            )
        pairs = [
            (name, content["machine"].get(name), self.about.get(name))
            for name in dict.fromkeys([*content["machine"], *self.about])
            if name not in VARYING
        ]
        quick = bool(content.get("options", {}).get("quick"))
        pairs.append(("--quick", quick, bool(self.options.quick)))
        against = content.get("options", {}).get("against")
        pairs.append(("--against", against, _as_text(self.options.against)))
        for name, there, here in pairs:
            if there != here:
                raise UsageError(
                    f"--resume: {self.options.json} is of another run: {name} was {there!r} and is "
                    f"{here!r}; pass another --json FILE, and compare the two"
                )

    def _write(self, without: Sequence[Path] = ()) -> None:
        given = self.options
        said = {
            name: _as_text(value)
            for name, value in vars(given).items()
            if value or (name == "against" and value is not None)  # none of them
        }
        content = _table.content(self.about, said, self.results)
        try:
            for path, text in self._texts(content).items():
                if path in without:
                    continue
                with _files.replacing(path, "file", sync=False) as file:
                    file.write(text.encode())
        except OSError as error:
            raise UsageError(str(error)) from None
        self.written = time.perf_counter()

    def _texts(self, content: dict[str, Any]) -> dict[Path, str]:
        """What the files contain."""
        given = self.options
        texts: dict[Path, str] = {}
        if given.json is not None:
            texts[given.json] = _table.json_text(content, indent=1) + "\n"
        if given.csv is not None:
            texts[given.csv] = _table.csv_text(self.results)
        if given.html is not None:
            from onepass.bench._html import page

            texts[given.html] = page(content)
        return texts


def _as_text(value: Any) -> Any:
    """An option as the file has it."""
    if isinstance(value, re.Pattern):
        return value.pattern
    if isinstance(value, tuple | frozenset):
        return sorted(value) if isinstance(value, frozenset) else list(value)
    return str(value) if isinstance(value, Path) else value


def _say(text: str) -> bool:
    """False where nobody reads it."""
    return _console.write(text + "\n", sys.stdout)
