"""One HTML page about a training: its numbers, figures, settings, and how to repeat it."""

from __future__ import annotations

import base64
import datetime
import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onepass
from onepass._files import path_of, replacing
from onepass._page import embedded, page, text
from onepass._text import printable
from onepass.runs import _report_charts as charts
from onepass.runs import _scores
from onepass.runs._command_line import changed, command_line
from onepass.runs._names import DIAGNOSIS, HISTORY, REPORT
from onepass.runs._past import Past
from onepass.runs._report_folds import Fold, around, events, folds_of
from onepass.runs._report_folds import section as of_folds
from onepass.runs._report_style import SCRIPT, STYLE
from onepass.runs._sessions import lengths
from onepass.train._confusion import ClassificationReport
from onepass.train._score_table import number

SUFFIXES = (".html", ".htm")
MOST_EPOCHS = 300  # lines of the table of all numbers
MOST_NAMES = 60
MOST_LAYERS = 200
MOST_SESSIONS = 50
_NONE: tuple[Any, ...] = (None, [], "")
Pairs = Sequence[tuple[str, Any]]


def write_report(
    folder: str | os.PathLike[str], path: str | os.PathLike[str] | None = None
) -> Path:
    """Write all about a training as one HTML page, which needs no network and no other file.

    Args:
        folder: of a run of ``onepass train``, also of one that is still trained, was interrupted or
            failed; or the ``log_dir`` of a Trainer, whose page has the curves alone.
        path: of the page, which ends in .html; None: report.html in the folder.

    Returns:
        Where the page is.

    Raises:
        FileNotFoundError: no training is there. ValueError: run.json or history.csv is damaged; a
            path that does not end in .html, or is a directory. OSError: the page cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from onepass.runs import write_report
        >>> from onepass.train import History
        >>> history = History()
        >>> for loss in (0.9, 0.5, 0.4):
        ...     history.append({"loss": loss, "val_loss": loss + 0.1})
        >>> folder = Path(tempfile.mkdtemp())
        >>> history.to_csv(folder / "history.csv")
        >>> write_report(folder).name
        'report.html'
    """
    past, out = opened(folder, path)
    return written(past, out)


def renewed(folder: Path) -> str:
    """Write anew a page that shows an earlier state of its run.

    Returns:
        A sentence for the user where that fails; else "".
    """
    try:
        write_report(folder)
    except (ValueError, OSError, MemoryError) as error:
        return f"{REPORT} shows an earlier state: {error}"
    return ""


def opened(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str] | None,
    owner: str = "write_report: 'path'",
) -> tuple[Past, Path]:
    """What ``write_report`` reads, and where it writes; raises what wrong use does."""
    place = path_of("write_report", "folder", folder)
    out = place / REPORT if path is None else path_of("write_report", "path", path)
    if out.suffix.lower() not in SUFFIXES or out.is_dir():
        raise ValueError(f"{owner} is {str(out)!r}, expected the name of a file that ends in .html")
    return Past.read(place), out


def written(past: Past, out: Path) -> Path:
    """Write the page."""
    with replacing(out, "report") as file:
        file.write(render(past, out.parent).encode("utf-8"))
    return out


def render(past: Past, beside: Path | None = None) -> str:
    """The page.

    Args:
        beside: the folder that it is for, from which its links lead; None: that of the run.
    """
    body = "\n".join(
        f"<section><h2>{title}</h2>{content}</section>" if title else content
        for title, content in _sections(past, beside or past.folder)
    )
    history = embedded("history", charts.embedded_history(past))
    title = f"{printable(past.title)}: a training"
    return page(title, f"<main>{body}</main>\n{history}", style=STYLE, script=SCRIPT)


def _sections(past: Past, beside: Path) -> Iterator[tuple[str, str]]:
    folds = folds_of(past)
    yield "", _begin(past) + around(past, beside)
    yield "How it went", f"<p class=verdict>{text(past.verdict)}</p>{charts.curves(past)}"
    if len(past.numbers):
        yield "Numbers", charts.course(past)
    if past.held_out is not None:
        yield "Held-out part", _held_out(past)
    if folds or past.record.get("folds"):
        yield "Cross-validation", of_folds(past, folds, beside)
    if past.record:
        yield "Data", _data(past)
        yield "Network", _network(past)
        yield "Settings", _settings(past)
    if diagnosis := _picture(past.folder / DIAGNOSIS):
        yield "Layers", diagnosis
    if past.record:
        yield "Sessions and environment", _sessions(past, folds)
        yield "How to repeat it", _again(past, folds)
    if len(past.numbers):
        yield "All numbers", _listing(past)
    yield "", _end()


def _begin(past: Past) -> str:
    kind = past.state.replace(" ", "-")
    result = past.record.get("result") or {}
    scores = "".join(
        f'<div><dt>{name.replace("_", " ")}</dt><dd data-result="{name}" '
        f'data-value="{text(repr(result[name]))}">{number(result[name])}</dd></div>'
        for name in _scores.NAMES
        if name in result
    )
    said = "; ".join(filter(None, ("of the held-out part", _scores.beside(result))))
    cards = f'<dl class="cards">{scores}</dl><p class=note>{said}</p>' * bool(scores)
    notes = "".join(f"<p class=wrong>{text(t)}</p>" for t in past.troubles)
    return (
        f"<h1>{text(printable(past.title))} <span class='badge {kind}'>{past.state}</span></h1>"
        f"<p>{text(past.sentence[:1].upper() + past.sentence[1:])}.{_best(past)}</p>{cards}{notes}"
    )


def _best(past: Past) -> str:
    if not past.best_epoch:
        return ""
    return f" The model has the weights of epoch {past.best_epoch}, the best one."


def _held_out(past: Past) -> str:
    report = past.held_out
    if report is None:
        return ""
    if isinstance(report, ClassificationReport):
        return (
            f"{charts.matrix(report)}<h3>By class</h3>{charts.classes(report)}"
            f"<h3>Most frequent mistakes</h3>{charts.mistakes(report)}"
        )
    return charts.residuals(report)


def _data(past: Past) -> str:
    data = past.record.get("data", {})
    options = past.record["options"]
    classes = past.record.get("classes")
    inputs = data.get("inputs", [])
    kind = "regression" if classes is None else f"{len(classes)} classes: {_listed(classes)}"
    sizes = ", ".join(
        f"{data[part]:,} {words}"
        for part, words in (
            ("training", "training"), ("validation", "validation"), ("held_out", "held out"),
        )
        if part in data
    )  # fmt: skip
    pairs = [
        ("data", options.get("data")),
        ("rows", f"{data['rows']:,}: {sizes}" if "rows" in data else None),
        ("target", f"{past.target}, {kind}"),
        ("inputs", f"{len(inputs)}: {_listed(inputs)}" if inputs else None),
        ("contents", past.record.get("contents")),
    ]
    notes = "".join(f"<li>{text(note)}</li>" for note in data.get("notes", []))
    return _pairs(pairs) + (f"<ul>{notes}</ul>" if notes else "")


def _network(past: Past) -> str:
    if past.saved is None:
        return "<p>There is no model in the folder.</p>"
    rows, total, model = [], 0, past.saved.model
    for name, layer in list(model.named_children())[:MOST_LAYERS]:
        shapes = {n: p.data.shape for n, p in layer.named_parameters()}
        count = sum(math.prod(shape) for shape in shapes.values())
        shown = ", ".join(f"{n} {' × '.join(map(str, s))}" for n, s in shapes.items())
        rows.append(
            f'<tr><th scope="row">{text(name)}</th><td class=word>{text(repr(layer))}</td>'
            f"<td class=word>{text(shown)}</td><td>{count:,}</td></tr>"
        )
    total = sum(p.data.size for p in model.parameters())
    head = "".join(f'<th scope="col">{h}</th>' for h in ("", "layer", "parameters", "how many"))
    named = _architecture(past.saved.about)
    return (
        f"<p>{text(named)}: {total:,} parameters.</p>"
        f'<div class="wide"><table class="numbers words"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _architecture(about: Mapping[str, Any]) -> str:
    from onepass.runs._network import Architecture

    fields = about["architecture"]
    return str(Architecture(**{**fields, "hidden": tuple(fields["hidden"])}))


def _settings(past: Past) -> str:
    options = past.record["options"]
    try:
        own = changed(options)
    except (ValueError, TypeError):  # of another version
        own = {}
    chosen = [(name, value) for name, value in options.items() if name in own]
    usual = [(n, v) for n, v in options.items() if n not in own and n != "data" and v not in _NONE]
    given = _pairs([(n.replace("_", " "), _shown(v)) for n, v in chosen])
    others = "".join(
        f"<div><dt>{text(n.replace('_', ' '))}</dt> <dd>{text(_shown(v))}</dd></div>"
        for n, v in usual
    )
    head = "Others, as they are by default" if chosen else "All as they are by default"
    return (
        f"<h3>Chosen</h3>{given}" * bool(chosen) + f'<h3>{head}</h3><dl class="facts">{others}</dl>'
    )


def _sessions(past: Past, folds: Sequence[Fold]) -> str:
    record, rows = past.record, events(past, folds)
    sessions = record.get("sessions", [])
    skipped = len(rows) - MOST_SESSIONS
    if skipped > 0:
        rows = [*rows[:1], ("", f"{skipped} more"), *rows[1 + skipped :]]
    lines = "".join(
        f'<tr><th scope="row">{_time(when)}</th><td class=word>{text(what)}</td></tr>'
        for when, what in rows
    )
    table = f'<table class="numbers words"><tbody>{lines}</tbody></table>' if rows else ""
    environment = sessions[-1].get("environment", {}) if sessions else {}
    pairs = [(name.replace("_", " "), value) for name, value in environment.items()]
    pairs.append(("device", record["options"].get("device")))
    others = sum(s.get("environment") != environment for s in sessions)
    note = f"<p>{others} earlier sessions ran elsewhere.</p>" if others else ""
    return f"{table}{_pairs(pairs)}{note}"


def _again(past: Past, folds: Sequence[Fold]) -> str:
    options, where = past.record["options"], past.record.get("directory")
    try:
        command = command_line(options)
    except (ValueError, TypeError):
        return "<p>The options are those of another version.</p>"
    lines = [f"cd {shlex.quote(str(where))}"] * bool(where) + [command]
    folder = shlex.quote(str(past.folder.resolve()))
    goes_on = ""
    if past.state in ("interrupted", "cut off", "failed", "unfinished"):
        whole = shlex.quote(str(past.folder.resolve().parents[1])) if past.is_fold else folder
        goes_on = f"<p>Go on with it:</p>{_code([f'onepass train --resume --out {whole}'])}"
    return (
        f"<p>The seed decides the parts, the weights and the order. Train it again:</p>"
        f"{_code(lines)}{_note_on_lengths(past, folds)}{goes_on}<p>Predict with it:</p>"
        f"{_code([f'onepass predict {folder} NEW.csv --out predictions.csv'])}"
    )


def _note_on_lengths(past: Past, folds: Sequence[Fold]) -> str:
    """Where the number of epochs was another for a part of them, on which the rate depends."""
    trained = {"the run": past.record, **{f"fold {fold.number}": fold.record for fold in folds}}
    found = {who: turns for who, record in trained.items() if len(turns := lengths(record)) > 1}
    if not found:
        return ""
    told = "; ".join(
        f"{who} " + ", then ".join(f"{most} from epoch {epoch + 1} on" for epoch, most in turns)
        for who, turns in found.items()
    )
    return (
        f"<p>The numbers may be others: a resume has changed --epochs ({told}), and the command "
        "has the last one from the first epoch on, on which most schedules of the rate depend.</p>"
    )


def _listing(past: Past) -> str:
    count = len(past.numbers)
    some = f", {min(count, MOST_EPOCHS)} of {count:,} epochs" if count > MOST_EPOCHS else ""
    return (
        f"<details><summary>{HISTORY}{some}</summary>"
        f"{charts.listing(past.numbers, MOST_EPOCHS)}</details>"
    )


def _end() -> str:
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return f"<footer class=note>Made {_time(now)} by onepass {onepass.__version__}.</footer>"


def _picture(path: Path) -> str:
    try:
        data = base64.b64encode(path.read_bytes()).decode()
    except OSError:
        return ""
    alt = "Gradient rms, update over weight, dead units and variance of activations by layer"
    return f'<img alt="{alt}" src="data:image/png;base64,{data}">'


def _pairs(pairs: Pairs) -> str:
    items = "".join(
        f"<dt>{text(name)}</dt><dd>{text(printable(str(value)))}</dd>"
        for name, value in pairs
        if value is not None
    )
    return f'<dl class="pairs">{items}</dl>'


def _listed(names: Sequence[Any]) -> str:
    shown = ", ".join(printable(str(name)) for name in names[:MOST_NAMES])
    return shown + f" and {len(names) - MOST_NAMES} more" * (len(names) > MOST_NAMES)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _code(lines: Sequence[str]) -> str:
    return f"<pre><code>{text(chr(10).join(lines))}</code></pre>"


def _time(value: Any) -> str:
    shown = str(value or "").replace("T", " ").replace("+00:00", " UTC")
    return f'<time datetime="{text(value or "")}">{text(shown)}</time>'
