"""``onepass predict`` and ``onepass evaluate``: a run of ``onepass train`` on a table."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onepass._paths import expanded
from onepass.cli._arguments import Arguments
from onepass.cli._device import device_of
from onepass.cli._output import columns, fail, note, say

if TYPE_CHECKING:
    from onepass.runs import SavedRun
    from onepass.runs._source import Rows

Columns = dict[str, list[Any]]
PICTURES = (".png", ".svg", ".pdf", ".jpg")
ERRORS = (ValueError, TypeError, OSError, ImportError, MemoryError)


def predict(options: Arguments) -> int:
    """Write predictions; returns the exit status."""
    from onepass.runs import load_run
    from onepass.runs._folder import doubt_of
    from onepass.runs._source import rows_of

    chosen = vars(options)
    try:
        _check_out(chosen.get("out"), options.data)
        run = load_run(options.run).to(device_of(chosen))
        rows = rows_of(options.data, run.encoding, **_reading(chosen))
        found = _columns(run, rows, chosen)
    except ERRORS as error:
        return fail(error, 2)
    for text in rows.notes:
        note(text)
    doubt = doubt_of(options.run)
    if doubt is not None:
        note(doubt)
    out = chosen.get("out")
    if out is None:
        return _print(found)
    try:
        _write(out, found)
    except OSError as error:
        return fail(error, 1)
    count = len(rows.x)
    made = "1 prediction" if count == 1 else f"{count} predictions"
    say(f"{made} of {run.target!r} {'is' if count == 1 else 'are'} in {out}")
    return 0


def evaluate(options: Arguments) -> int:
    """Print scores; returns the exit status."""
    from onepass.runs import _scores, load_run
    from onepass.runs._evaluation import of_data

    chosen = vars(options)
    picture = chosen.get("plot")
    try:
        if picture is not None:
            _check_picture(picture)
        run = load_run(options.run).to(device_of(chosen))
        held_out = "held_out" in chosen
        done = of_data(run, options.data, held_out=held_out, **_reading(chosen))
    except ERRORS as error:
        return fail(error, 2)
    if sys.stdout is None:
        return fail("there is no standard output, where the metrics would be", 1)
    if "json" in chosen:
        print(json.dumps(_scores.as_json(done.scores), indent=1))
    else:
        for text in done.notes:
            note(text)
        print(f"{done.report.text(columns())}\n")
        print(done)  # not said: where it cannot be written, the command has failed
    if picture is None:
        return 0
    try:
        done.report.plot(picture)
    except Exception as error:  # Matplotlib raises anything, such as for a wrong MPLBACKEND
        return fail(error, 1)
    return 0


def _check_out(out: Path | None, data: str) -> None:
    """Refuses to write predictions over the rows that they are for, or over a run's file."""
    from onepass.runs._folder import is_of_a_run

    if out is not None and is_of_a_run(out):
        raise ValueError(
            f"predict: '--out' is {str(out)!r}, a file of a run itself, expected another name"
        )
    if out is None or not out.exists():
        return
    if out.is_dir():
        raise ValueError(
            f"predict: '--out' is {str(out)!r}, a folder, expected the name of a CSV file"
        )
    if data == "-":
        same = sys.stdin is not None and _is_open_on(sys.stdin, out)
    else:
        source = expanded(data, "predict: 'DATA'")
        same = source.exists() and out.samefile(source)
    if same:
        raise ValueError(f"predict: '--out' is {str(out)!r}, DATA itself, expected another file")


def _check_picture(path: Path) -> None:
    """Refuses a picture that cannot be drawn, before the data are read."""
    from onepass.runs._folder import is_of_a_run

    if is_of_a_run(path):
        raise ValueError(
            f"evaluate: '--plot' is {str(path)!r}, a file of a run itself, expected another name"
        )
    if path.suffix.lower() not in PICTURES or path.is_dir():
        raise ValueError(
            f"evaluate: '--plot' is {str(path)!r}, expected a name that ends in "
            f"{', '.join(PICTURES[:-1])} or {PICTURES[-1]}"
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("evaluate: '--plot' needs Matplotlib: pip install matplotlib")


def _is_open_on(file: Any, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (OSError, ValueError):  # no file behind it
        return False


def _reading(chosen: dict[str, Any]) -> dict[str, Any]:
    """How the file is read, where that was said."""
    from onepass.data._reading import READING

    return {k: chosen[k] for k in READING if k in chosen}


def _columns(run: SavedRun, rows: Rows, chosen: dict[str, Any]) -> Columns:
    """Name → cells: those to keep, the prediction, the probabilities."""
    outputs = run.outputs(rows.x)
    columns: Columns = {name: rows.cells(name) for name in chosen.get("keep", ())}
    answer = run.target
    while answer in columns:
        answer += " (predicted)"
    columns[answer] = run.answers(outputs).tolist()
    if "proba" in chosen:
        if run.classes is None:
            raise ValueError("predict: '--proba' is given, expected it with classes; the run is a "
                             "regression")  # fmt: skip
        shares = run.probabilities(outputs).T.tolist()
        columns |= {f"p({name})": share for name, share in zip(run.classes, shares, strict=True)}
    return columns


def _lines(columns: Columns, file: Any) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))


def _print(columns: Columns) -> int:
    if sys.stdout is None:
        return fail("there is no standard output; pass --out FILE", 1)
    _lines(columns, _able(sys.stdout, columns))
    return 0


def _able(file: Any, columns: Columns) -> Any:
    """The file, in UTF-8 if no terminal shows it and its encoding lacks some character."""
    if not isinstance(file, io.TextIOWrapper) or file.isatty():
        return file
    text = io.StringIO()
    _lines(columns, text)
    try:
        text.getvalue().encode(file.encoding)
    except UnicodeEncodeError:
        note(f"the predictions are in UTF-8, as {file.encoding} lacks characters of the table")
        file.reconfigure(encoding="utf-8")
    return file


def _write(path: Path, columns: Columns) -> None:
    from onepass._files import replacing

    with replacing(path, "table of predictions") as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        _lines(columns, text)
        text.detach()
