"""The folds of a cross-validation in a report: state, epochs and scores of each, their curves."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from onepass._page import text
from onepass._svg import BOTTOM, LEFT, RIGHT, TOP, Axis, Chart
from onepass._text import printable
from onepass.runs import _scores
from onepass.runs._names import FOLDS, HISTORY, RECORD, REPORT
from onepass.runs._past import Numbers, Past, record_of, state_of
from onepass.runs._past_record import is_number
from onepass.train._score_table import number, spread

MOST_FOLDS = 100
WATCHED = "val_loss"
COLOURS, DASHES = 8, 3  # of curves: 24 kinds, of which neighbours differ in both
NOT_BEGUN, DAMAGED = "not begun", "damaged"
Event = tuple[Any, str]  # when, what


@dataclass(frozen=True)
class Fold:
    """A fold, as its own folder has it.

    Attributes:
        number: from 1. record: its run.json, {} without one. scores: that the run has of it.
        state: a word; why: what is behind it.
    """

    number: int
    folder: Path
    record: dict[str, Any]
    numbers: Numbers
    scores: dict[str, Any]
    state: str
    why: str = ""

    @classmethod
    def read(cls, folder: Path, number: int, scores: dict[str, Any]) -> Fold:
        """Of a folder that may be missing."""
        record, numbers = dict[str, Any](), Numbers([], [], {})
        state, why = "finished" if scores else NOT_BEGUN, ""
        try:
            numbers = Numbers.read(folder / HISTORY)
            if (folder / RECORD).is_file():
                record = record_of(folder)
                state, why = state_of(folder, record, len(numbers))
        except (ValueError, OSError) as error:
            state, why = DAMAGED, str(error)
        return cls(number, folder, record, numbers, scores, state, why)


def events(past: Past, folds: Sequence[Fold]) -> list[Event]:
    """When the run and its folds began, went on and ended, in the order of time."""
    found = [event for fold in folds for event in _events(fold.record, f"fold {fold.number} ")]
    found += _events(past.record)
    last, times = "", []
    for when, _ in found:  # one without a time stays behind the one before it
        last = str(when or last)
        times.append(last)
    order = sorted(range(len(found)), key=times.__getitem__) if folds else range(len(found))
    return [found[i] for i in order]


def _events(record: dict[str, Any], who: str = "") -> Iterator[Event]:
    for i, session in enumerate(record.get("sessions", [])):
        epoch = session.get("epoch", 0)
        what = f"resumed after epoch {epoch}" if epoch else "again from the start" if i else "begun"
        yield session.get("began"), f"{who}{what}"
    ended = record.get("ended") or {}
    if ended:
        why = f": {ended['why']}" if ended.get("why") else ""
        yield ended.get("when"), f"{who}{ended.get('how')}{why}"
    if record.get("finished"):
        yield record["finished"], f"{who}finished"


def folds_of(past: Past) -> list[Fold]:
    """Those that are done, trained or still to come; [] of a run without a cross-validation."""
    if past.is_fold:
        return []
    done = _done(past)
    count = max(len(done), past.record.get("options", {}).get("cv") or 0)
    scores = [*done, *[{}] * MOST_FOLDS]
    return [
        Fold.read(past.folder / FOLDS / str(i), i, scores[i - 1])
        for i in range(1, min(count, MOST_FOLDS) + 1)
    ]


def _done(past: Past) -> list[dict[str, Any]]:
    """The scores of the folds that are done."""
    folds = past.record.get("folds")
    return [f for f in folds if isinstance(f, dict) and f] if isinstance(folds, list) else []


def section(past: Past, folds: Sequence[Fold], beside: Path) -> str:
    """A row for each fold, mean and standard deviation of the scores, and the curves.

    Args:
        beside: the folder of the page, from which links lead to the pages of folds.
    """
    done = _done(past)  # also those beyond the rows
    names = [
        n for n in _scores.NAMES if done and all(_is_score(scores.get(n, "")) for scores in done)
    ]
    if past.record.get("folds") and not names:
        return "<p>Not shown: run.json has something else.</p>"
    wanted = past.record["options"].get("cv") or len(folds)
    said = f"<p>{len(done)} of {wanted} folds are done.</p>" * (len(done) != wanted)
    said += f"<p>The first {len(folds)} of them:</p>" * (len(folds) < wanted)
    heads = ("fold", "state", "epochs", "least validation loss", *names, "page")
    head = "".join(f'<th scope="col">{name.replace("_", " ")}</th>' for name in heads)
    rows = "".join(_row(fold, names, beside) for fold in folds)
    foot = ""
    if names:
        cells = "<td></td>" * 3 + "".join(f"<td>{spread(done, n)}</td>" for n in names)
        foot = f'<tfoot><tr><th scope="row">mean ± sd</th>{cells}<td></td></tr></tfoot>'
    return (
        f'{said}<div class="wide"><table class="numbers"><thead><tr>{head}</tr></thead><tbody>'
        f"{rows}</tbody>{foot}</table></div>{_curves(folds)}"
    )


def _row(fold: Fold, names: Sequence[str], beside: Path) -> str:
    cells = [
        f'<td class=word data-state="{fold.number}" title="{text(fold.why)}">'
        f"{text(fold.state)}</td>",
        f'<td data-epochs="{fold.number}">{len(fold.numbers) or "–"}</td>',
        _least(fold),
    ]
    for name in names:
        value = fold.scores.get(name, "")
        if value == "":
            cells.append("<td class=note>–</td>")
            continue
        cells.append(
            f'<td data-fold="{fold.number}" data-measure="{name}" '
            f'data-value="{text(repr(value))}">{number(value)}</td>'
        )
    page = fold.folder / REPORT
    link = linked(page, beside, REPORT) if page.is_file() else "–"
    cells.append(f"<td class=word>{link}</td>")
    return f'<tr><th scope="row">{fold.number}</th>{"".join(cells)}</tr>'


def _least(fold: Fold) -> str:
    epoch = fold.numbers.best(WATCHED)
    if epoch is None:
        return "<td class=note>–</td>"
    cell = fold.numbers.cell(WATCHED, epoch)
    return (
        f'<td data-of-fold="{fold.number}" data-at="{epoch}" data-value="{text(cell)}">'
        f"{number(float(cell))}<small>epoch {epoch}</small></td>"
    )


def around(past: Past, beside: Path) -> str:
    """Of which run a fold is one, and the way to the page of that; "" of any other run."""
    fold = past.record.get("fold")
    if not isinstance(fold, dict) or not all(type(fold.get(k)) is int for k in ("number", "of")):
        return ""
    whole = past.folder.resolve().parents[1]
    page, name = whole / REPORT, text(printable(whole.name))
    shown = linked(page, beside, name) if page.is_file() else name
    return f"<p>Fold {fold['number']} of the {fold['of']} of {shown}.</p>"


def linked(page: Path, beside: Path, shown: str) -> str:
    """HTML that leads from a folder to a page by a relative address; without a link between two
    drives of Windows, where there is none."""
    try:
        way = os.path.relpath(page.resolve(), beside.resolve()).replace(os.sep, "/")
    except ValueError:
        return shown
    # A colon is quoted too: no name of a folder is a scheme.
    return f'<a href="{text(quote(way))}">{shown}</a>'


def _curves(folds: Sequence[Fold]) -> str:
    """The validation loss of each fold in one figure; "" where the folds have no histories."""
    found = [fold for fold in folds if WATCHED in fold.numbers.names and len(fold.numbers)]
    if not found:
        return ""
    columns = [fold.numbers.values[WATCHED] for fold in found]
    x = Axis(0.5, max(map(len, columns)) + 0.5, LEFT, RIGHT)
    y = Axis.of(columns, BOTTOM, TOP, log=True)
    label = f"validation loss of {len(found)} folds by epoch"
    chart = Chart(x, y, label, "epoch", whole=True)
    keys = []
    for fold, values in zip(found, columns, strict=True):
        epochs = np.arange(1, len(values) + 1, dtype=np.float64)
        look = f"fold colour{(fold.number - 1) % COLOURS} dash{(fold.number - 1) % DASHES}"
        chart.curve(epochs, values, f"fold {fold.number}", look)
        keys.append(f'<span class="key {look}">{fold.number}</span>')
    log = ", log scale" if y.log else ""
    every = COLOURS * DASHES
    again = f" (every {every}th looks the same)" if len(folds) > every else ""
    return (
        f'<div class="grid"><figure><figcaption><b>validation loss</b> of each fold{log}{again} '
        f"{' '.join(keys)}</figcaption>{chart.svg()}</figure></div>"
    )


def _is_score(value: Any) -> bool:
    return value is None or is_number(value)
