"""One run of ``onepass bench``: measures rows, prints each result as it comes, keeps the files."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from onepass import _bar, _console, _files, _page
from onepass.bench import _choice, _format, _machine, _results, _rows, _run, _table
from onepass.bench._options import keep
from onepass.bench._row import Context, Row, UsageError

QUICK_SECONDS = 37.0  # for a quick run without its start: with all rivals that takes 15 more
QUICK_END = 42.0  # later rows are left out, and said
QUICK_ROUNDS = 7
# With --repeat. Of two samples both are kept, preempted or not: `compare` takes the faster one, and
# more visits do what dropping samples does elsewhere.
VISIT_ROUNDS = 2
WRITE_SECONDS = 10.0  # between two writes of files whose rows are to be visited again
INTERRUPTED, UNREAD = 130, 141  # exit status: as a shell has it of SIGINT and of SIGPIPE
# What two parts of one run may have different in a file's head.
VARYING = ("commit", "date", "load", "copy_bytes_per_second")
# Of a file's head, what a row has for itself in "run" where it was measured at another time.
RUN = ("commit", "date", "load")

Key = tuple[str, int, str]  # see `_key`


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
        self.found: dict[Key, dict[str, Any]] = {}  # what the files have
        self.kept: dict[str, Any] | None = None  # what the file had that is gone on with
        self.again: set[Key] = set()  # what the file has that could not be measured
        self.measured = False
        self.written = 0.0  # when
        self.about: dict[str, Any] = {}  # the machine, once anything is measured on it
        self.bar: _bar.Count | _bar.Tqdm | None = None
        self.meter, rows_of = self._device()
        chosen, contexts = _choice.chosen(options, rows_of), _choice.contexts(options)
        self.rows = [(row, context) for row in chosen for context in contexts]

    @property
    def shown(self) -> list[dict[str, Any]]:
        """The results of the chosen rows. Files may have more."""
        keys = [self._key_of(row, context) for row, context in self.rows]
        return [self.found[key] for key in keys if key in self.found]

    def run(self) -> int:
        """Measure, print, write; returns the exit status."""
        if self.options.list:
            for name in dict.fromkeys((row.group, row.name) for row, _ in self.rows):
                _say(f"{name[0]:12} {name[1]}")
            return 0
        self.about = _machine.machine() | self.meter.about()
        self._check_files()
        self._resume()
        _say(_table.head(self.about))
        for result in self._known():
            _say(_table.line(result))
        status = self._measure()
        # A library whose import was interrupted cannot be asked again.
        absent = (
            {} if status == INTERRUPTED else _run.absent(self.options.against, self.options.device)
        )
        asked = self.options.against or ()
        for text in (
            "",
            _table.LEGEND,
            "",
            *_table.summary(self.shown, absent, asked),
            *self._rest(),
        ):
            _say(text)
        return status or int(any(result.get("wrong") for result in self.shown))

    def _known(self) -> list[dict[str, Any]]:
        """The chosen rows that the file has with all their visits."""
        most = self.options.repeat
        keys = [self._key_of(*each) for each in self.rows if self._visits(*each) >= most]
        return [self.found[key] for key in keys]

    def _rest(self) -> Iterator[str]:
        """What the file has besides the rows above."""
        more = len(self.found) - len(self.shown)
        if more:
            count = "one row more, which is" if more == 1 else f"{more} rows more, which are"
            yield f"{self.options.json} has {count} not chosen here"

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
                key = self._key_of(row, context)
                if "skipped" in self.found.get(key, {}) and key not in self.again:
                    continue  # it cannot be measured, which an earlier visit found
                if not self._visit(row, context):
                    return UNREAD  # `onepass bench | head`: nobody sees the rest
        except KeyboardInterrupt:
            self._end()
            _console.write("\nonepass bench: interrupted\n", sys.stderr)
            return INTERRUPTED
        finally:
            if self.bar is not None:
                self.bar.close()
        self._end()
        return 0

    def _visits(self, row: Row, context: Context) -> int:
        key = self._key_of(row, context)
        return _run.visits(self.found[key]) if key in self.found and key not in self.again else 0

    def _visit(self, row: Row, context: Context) -> bool:
        """Measure a row, once more if it was; False where nobody reads what is said of it."""
        key = self._key_of(row, context)
        before = None if key in self.again else self.found.get(key)
        result = _run.measured(row, context, self.meter, before)
        self.found[key] = result
        self.again.discard(key)
        self.measured = True
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
        for result in self.shown:
            if not self._is_whole(result):
                _say(_table.line(result))
        if self.found:
            self._write()

    def _check_files(self) -> None:
        """An error before anything is measured in vain, where a file cannot be written, or would be
        lost. One that is there stays until it has a row to give way to."""
        given = self.options
        goes_on = given.resume and given.json.exists()
        files = {"json": given.json, "csv": given.csv, "html": given.html}
        files = {name: path for name, path in files.items() if path is not None}
        there = {name: path for name, path in files.items() if _is_file(name, path)}
        for name, path in there.items():
            if not (given.overwrite or (goes_on and _is_of_a_run(name, path))):
                keep(f"--{name}", path, "--resume to go on with it, " if name == "json" else "")
        kept = [path for path in there.values() if os.access(path.parent, os.W_OK)]
        if len(kept) < len(files):
            self._write(without=kept)
            for name, path in files.items():
                if name not in there and path.is_file():
                    path.unlink()

    def _device(self) -> tuple[Any, _choice.RowsOf]:
        """Its meter and its rows."""
        if self.options.device == "cpu":
            clock = time.thread_time if self.options.processor_time else time.perf_counter
            return _run.Meter(clock), _rows.rows
        from onepass.bench import _cuda

        reason = _cuda.unusable()
        if reason is not None:
            raise UsageError(f"--device cuda: {reason}")
        return _cuda.Meter(), _cuda.rows

    def _resume(self) -> None:
        """Take the visits along that the file has already, if they are of such a run as this."""
        path = self.options.json
        if not self.options.resume or not path.exists():
            return
        content = _results.content_of(path)
        _format.check(content, str(path))
        if content.get("format") != _table.FORMAT:
            raise UsageError(f"--resume: {path} is of another version; pass another --json FILE")
        _format.check_whole(content, str(path))
        self._check_same_run(content)
        self.kept = content
        earlier = {name: content["machine"].get(name) for name in RUN}
        if earlier != {name: self.about.get(name) for name in RUN}:
            for result in content["results"]:
                result.setdefault("run", earlier)
        self.found = {
            self._key(
                result["row"], result["threads"], result.get("asked", result["dtype"])
            ): result
            for result in content["results"]
        }
        chosen = {self._key_of(row, context) for row, context in self.rows}
        self.again = {key for key in chosen if "skipped" in self.found.get(key, {})}

    def _key_of(self, row: Row, context: Context) -> Key:
        return self._key(row.name, context.threads, context.dtype)

    def _key(self, row: str, threads: int, dtype: str) -> Key:
        """What is measured once. On a GPU the row's name says its dtype."""
        return row, threads, "" if self.options.device == "cuda" else dtype

    def _check_same_run(self, content: dict[str, Any]) -> None:
        """One file has one head."""
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
        content = self._content()
        if content is self.kept:
            without = [*without, given.json]  # it stays as it is
        try:
            for path, text in self._texts(content).items():
                if path in without:
                    continue
                with _files.replacing(path, "file", sync=False) as file:
                    file.write(text.encode())
        except OSError as error:
            raise UsageError(str(error)) from None
        self.written = time.perf_counter()

    def _content(self) -> dict[str, Any]:
        """Of the file of ``--json``."""
        said = {
            name: _as_text(value)
            for name, value in vars(self.options).items()
            if name not in ("resume", "overwrite")
            and (value or (name == "against" and value is not None))  # none of them
        }
        calls = [said]
        if self.kept is not None:
            if not self.measured:
                return self.kept
            calls = [self.kept["options"], *self.kept.get("resumed", [])]
            calls += [said] if said not in calls else []
        return _table.content(self.about, calls, list(self.found.values()))

    def _texts(self, content: dict[str, Any]) -> dict[Path, str]:
        """What the files contain."""
        given = self.options
        texts: dict[Path, str] = {}
        if given.json is not None:
            texts[given.json] = _table.json_text(content, indent=1) + "\n"
        if given.csv is not None:
            texts[given.csv] = _table.csv_text(content["results"])
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
    return value.name if isinstance(value, Path) else value  # its folder is nobody's business


def _is_file(name: str, path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:  # its name is too long
        raise UsageError(f"--{name} {str(path)[:60]}…: {error.strerror}") from None


def _is_of_a_run(name: str, path: Path) -> bool:
    """Whether a run has written a table or a page, which goes on with its --json; that one is
    looked at when it is read."""
    if name == "html":
        return _page.is_page(path)
    if name == "csv":
        head = ",".join(_table.COLUMNS).encode()
        with contextlib.suppress(OSError), path.open("rb") as file:
            return file.read(len(head)) == head
        return False
    return True


def _say(text: str) -> bool:
    """False where nobody reads it."""
    return _console.write(text + "\n", sys.stdout)
