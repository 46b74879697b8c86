"""The figures of a report: curves, confusion matrix, residuals."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass._page import text
from onepass._svg import BOTTOM, LEFT, RIGHT, TOP, Axis, Chart
from onepass._text import amount, cut, cut_apart, printable
from onepass.runs._past import Numbers, Past
from onepass.train import _report_text
from onepass.train._confusion import ClassificationReport
from onepass.train._monitor import direction
from onepass.train._residuals import RegressionReport
from onepass.train._score_table import number

MOST_CELLS = 40  # classes of a matrix; of more, those with the most mistakes
SOME_CELLS = 25
MOST_CLASSES = 60  # of the table that is always seen
MOST_LISTED = 2000  # of the whole table
MOST_MISTAKES = 20
MOST_OUTPUTS = 8
WORDS = {"rmse": "RMSE", "mae": "MAE", "r2": "R²"}
LONGEST = 28  # columns of a name in the matrix
MOST_TEXT = 4 << 20  # bytes of numbers in the page; of more, some epochs
MOST_RESUMES = 30  # marked in the curves

Floats = NDArray[np.float64]


# ------------------------------------------------------------------------------- curves


def panels(names: Sequence[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """(title, [(column, training or validation)]) of each chart; the rate comes last."""
    found = []
    for name in [*(n for n in names if n != "lr"), *(n for n in names if n == "lr")]:
        of = name.removeprefix("val_")
        if name != of and of in names:
            continue  # beside that of training
        if name != of:
            found.append((name, [(name, "validation")]))
            continue
        curves = [(name, "training")]
        if f"val_{name}" in names:
            curves.append((f"val_{name}", "validation"))
        found.append(("learning rate" if name == "lr" else name, curves))
    return found


def curves(past: Past) -> str:
    """A figure for each number of the history."""
    numbers = past.numbers
    if not len(numbers):
        return "<p>No epoch is done yet.</p>"
    made = [_panel(past, title, drawn) for title, drawn in panels(numbers.names)]
    return f'<div class="grid">{"".join(made)}</div>{_lost(numbers)}'


def _panel(past: Past, title: str, drawn: list[tuple[str, str]]) -> str:
    numbers = past.numbers
    epochs = np.arange(1, len(numbers) + 1, dtype=np.float64)
    columns = [numbers.values[name] for name, _ in drawn]
    x = Axis(0.5, len(numbers) + 0.5, LEFT, RIGHT)
    y = Axis.of(columns, BOTTOM, TOP, log=title != "learning rate")
    log = ", log scale" if y.log else ""
    said = "; ".join(f"{kind} {_course(numbers, name)}" for name, kind in drawn)
    chart = Chart(x, y, f"{title} by epoch: {said}", "epoch", whole=True)
    chart.about = {
        "names": json.dumps([name for name, _ in drawn]),
        "labels": json.dumps([kind if len(drawn) > 1 else title for _, kind in drawn]),
        "x": _axis(x),
        "y": _axis(y),
    }
    resumes = [s for s in past.record.get("sessions", []) if s.get("epoch", 0) > 0][-MOST_RESUMES:]
    for session in resumes:
        chart.mark(session["epoch"] + 0.5, "resumed", f"resumed after epoch {session['epoch']}")
    if past.best_epoch and len(numbers) >= past.best_epoch:
        chart.mark(past.best_epoch, "best", f"best epoch, {past.best_epoch}")
    for name, kind in drawn:
        chart.curve(epochs, numbers.values[name], name, kind)
    keys = "".join(f'<span class="key {kind}">{kind}</span>' for _, kind in drawn)
    keys = keys if len(drawn) > 1 else ""
    if past.best_epoch and drawn == panels(numbers.names)[0][1]:
        keys += '<span class="key best">best epoch</span>'
    return (
        f"<figure><figcaption><b>{text(printable(title))}</b>{log} {keys}</figcaption>"
        f'{chart.svg()}<output aria-live="polite"></output></figure>'
    )


def _course(numbers: Numbers, name: str) -> str:
    cells = [numbers.cell(name, epoch) for epoch in (1, len(numbers))]
    shown = [number(float(cell)) for cell in cells]
    return f"from {shown[0]} to {shown[1]}" if len(numbers) > 1 else shown[0]


def _axis(axis: Axis) -> str:
    return ",".join(map(repr, (axis.low, axis.high, axis.begin, axis.end))) + f",{int(axis.log)}"


def _lost(numbers: Numbers) -> str:
    """Where a number is none; a name that was first logged later has no number before."""
    found = []
    for name, values in numbers.values.items():
        lost = np.flatnonzero(~np.isfinite(values)) + 1
        if len(lost):
            found.append(f"<li>{text(printable(name))}: {text(ranges(lost))}</li>")
    return f"<p>Not finite (× in the curves), by epoch:</p><ul>{''.join(found)}</ul>" * bool(found)


def ranges(epochs: Iterable[int], most: int = 12) -> str:
    """``2, 5 to 9``."""
    found: list[list[int]] = []
    for epoch in map(int, epochs):
        if found and found[-1][1] == epoch - 1:
            found[-1][1] = epoch
        else:
            found.append([epoch, epoch])
    shown = [str(a) if a == b else f"{a} to {b}" for a, b in found[:most]]
    return ", ".join(shown) + f" and {len(found) - most} more" * (len(found) > most)


def embedded_history(past: Past) -> dict[str, Any]:
    """The lines of history.csv for the script: all, or of a long one some at equal distances."""
    numbers = past.numbers
    lines = [",".join(row) for row in numbers.cells]
    size = sum(map(len, lines))
    if size > MOST_TEXT:
        step = math.ceil(size / MOST_TEXT)
        lines = [*lines[:-1:step], lines[-1]]
    return {"names": list(numbers.names), "rows": "\n".join(lines)}


# ------------------------------------------------------------------------------- tables of numbers


def course(past: Past) -> str:
    """The first, best and last number of each column."""
    numbers, rows = past.numbers, []
    for name in numbers.names:
        cells = [
            _number(numbers, name, 1),
            _best(numbers, name),
            _number(numbers, name, len(numbers)),
        ]
        rows.append(f'<tr><th scope="row">{text(printable(name))}</th>{"".join(cells)}</tr>')
    head = "".join(f'<th scope="col">{h}</th>' for h in ("", "first epoch", "best", "last epoch"))
    return (
        f'<div class="wide"><table class="numbers"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _best(numbers: Numbers, name: str) -> str:
    try:
        least = direction("report", name, "auto") == "min"
    except ValueError:
        return "<td class=note>–</td>"
    epoch = None if name == "lr" else numbers.best(name, least=least)
    return "<td class=note>–</td>" if epoch is None else _number(numbers, name, epoch, True)


def _number(numbers: Numbers, name: str, epoch: int, where: bool = False) -> str:
    cell = numbers.cell(name, epoch)
    at = f"<small>epoch {epoch}</small>" if where else ""
    return (
        f'<td data-name="{text(name)}" data-epoch="{epoch}" data-value="{text(cell)}">'
        f"{number(float(cell))}{at}</td>"
    )


def listing(numbers: Numbers, most: int) -> str:
    """The history as a table; of a long one, epochs at equal distances."""
    count = len(numbers)
    step = math.ceil(count / most)
    epochs = sorted({*range(1, count + 1, step), count})
    head = "".join(f'<th scope="col">{text(printable(n))}</th>' for n in ("epoch", *numbers.names))
    rows = "\n".join(
        f'<tr><th scope="row">{epoch}</th>'
        + "".join(_number(numbers, name, epoch) for name in numbers.names)
        + "</tr>"
        for epoch in epochs
    )
    return (
        f'<div class="wide"><table class="numbers"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


# ------------------------------------------------------------------------------- classes


def matrix(report: ClassificationReport) -> str:
    """The confusion matrix as a table, shaded by the share of the row's class."""
    count = len(report.labels)
    chosen = list(range(count)) if count <= MOST_CELLS else report.muddled(SOME_CELLS)
    cells, support = report.part(chosen), report.support[chosen]
    names = [report.names[i] for i in chosen]
    folded = ""
    if len(chosen) < count:
        folded = f" The {len(chosen)} of {count} classes with the most mistakes."
    tall = " tall" * (max((len(name) for name in names), default=0) > 5)
    shown = cut_apart([printable(name) for name in names], LONGEST)
    head = "".join(_head(*each, "col") for each in zip(names, shown, strict=True))
    rows = "".join(
        f"<tr>{_head(name, short, 'row')}{''.join(_cells(row, i, total, chosen))}</tr>"
        for i, (name, short, row, total) in enumerate(
            zip(names, shown, cells.tolist(), support.tolist(), strict=True)
        )
    )
    return (
        f"<p>Rows are the true classes, columns what they were taken for.{folded}</p>"
        f'<div class="wide"><table class="matrix{tall}" aria-label="confusion matrix"><thead><tr>'
        f'<th scope="col">true \\ predicted</th>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )


def _head(name: str, shown: str, scope: str) -> str:
    return f'<th scope="{scope}" title="{text(printable(name))}"><span>{text(shown)}</span></th>'


def _cells(row: list[float], at: int, total: float, chosen: list[int]) -> Iterable[str]:
    for column, value in enumerate(row):
        kind = "zero" if not value else "hit" if column == at else "miss"
        share = value / total if total else 0.0
        style = f' style="--s:{share:.3f}"' if value else ""
        yield (
            f'<td class="{kind}" data-row="{chosen[at]}" data-column="{chosen[column]}" '
            f'data-value="{value!r}"{style}>{amount(value)}</td>'
        )


def classes(report: ClassificationReport) -> str:
    """Precision, recall, F1 and support by class, the worst first where they are many."""
    count = len(report.labels)
    order = np.arange(count)
    if count > MOST_CLASSES:
        order = _report_text.worst_first(report)
    shown = _classes(report, order[:MOST_CLASSES], averages=True)
    if count <= MOST_CLASSES:
        return shown
    rest = min(count, MOST_LISTED)
    of = f"{rest} of the {count}" if rest < count else f"All {count}"
    return (
        f"<p>The {MOST_CLASSES} classes with the smallest F1; "
        f"{_report_text.others(report, count - MOST_CLASSES)}.</p>"
        f"{shown}<details><summary>{of} classes</summary>{_classes(report, order[:rest])}</details>"
    )


def _classes(report: ClassificationReport, order: NDArray[Any], *, averages: bool = False) -> str:
    heads = ("class", "precision", "recall", "F1", "support")
    head = "".join(f'<th scope="col">{h}</th>' for h in heads)
    rows = [_class(report, int(i)) for i in order]
    foot = ""
    if averages:
        total = _value(report.support.sum().item(), "support", amount(report.support.sum().item()))
        lines = []
        for name, means in report.averages.items():
            cells = "<td></td>" * (3 - len(means))
            cells += "".join(_value(value, measure) for measure, value in means.items())
            lines.append(f'<tr><th scope="row">{name}</th>{cells}{total}</tr>')
        foot = f"<tfoot>{''.join(lines)}</tfoot>"
    note = _report_text.undefined(report) if averages else ""
    return (
        f'<div class="wide"><table class="numbers"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody>{foot}</table></div>"
        + f"<p class=note>{note}</p>"
        * bool(note)
    )


def _class(report: ClassificationReport, i: int) -> str:
    measures = report.measures(i)
    cells = (
        *(
            _value(value, name, _report_text.marked(value, there, number))
            for name, (value, there) in measures.items()
        ),
        _value(report.support[i].item(), "support", amount(report.support[i].item())),
    )
    name = printable(report.names[i])
    return f'<tr data-class="{i}"><th scope="row">{text(name)}</th>{"".join(cells)}</tr>'


def _value(value: float, measure: str, shown: str | None = None) -> str:
    if value != value:
        return f'<td data-measure="{measure}" data-value="nan" class=note>–</td>'
    return f'<td data-measure="{measure}" data-value="{value!r}">{shown or number(value)}</td>'


def mistakes(report: ClassificationReport) -> str:
    """The most frequent ones."""
    found = report.mistakes(MOST_MISTAKES)
    if not found:
        return "<p>No mistake.</p>" if report.support.sum() else ""
    called = dict(zip(report.labels, report.names, strict=True))
    rows = "".join(
        f"<tr><td>{amount(n)}</td><td>{text(printable(called[a]))}</td>"
        f"<td>{text(printable(called[b]))}</td></tr>"
        for a, b, n in found
    )
    head = "".join(f'<th scope="col">{h}</th>' for h in ("samples", "true", "taken for"))
    return (
        '<div class="wide"><table class="words"><thead>'
        f"<tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


# ------------------------------------------------------------------------------- numbers


def residuals(report: RegressionReport) -> str:
    """Predictions over targets and residuals over predictions, and the residuals' quantiles."""
    chosen = report.worst(MOST_OUTPUTS)
    figures = "".join(_clouds(report, k) for k in chosen)
    errors = {m: getattr(report, m) for m in ("rmse", "mae", "r2", "bias", "deviation")}
    folded = len(report.names) - len(chosen)
    note = f"<p>The {len(chosen)} outputs with the smallest R²; {folded} others.</p>" * bool(folded)
    return (
        f'{note}<div class="grid">{figures}</div>{_by_output(report, errors)}'
        "<p>Quantiles of the residuals, which are target minus prediction:</p>"
        f"{_by_output(report, report.quantiles)}"
    )


def _by_output(report: RegressionReport, measures: Mapping[str, Floats]) -> str:
    """A line for each output."""
    head = "".join(f'<th scope="col">{WORDS.get(m, m)}</th>' for m in ("output", *measures))
    rows = "".join(
        f'<tr><th scope="row">{text(printable(name))}</th>'
        + "".join(_value(float(values[k]), measure) for measure, values in measures.items())
        + "</tr>"
        for k, name in enumerate(report.names)
    )
    return (
        f'<div class="wide"><table class="numbers"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _clouds(report: RegressionReport, k: int) -> str:
    true, predicted = report.true[:, k], report.predicted[:, k]
    name = printable(report.names[k])
    across = Axis.of([true, predicted], LEFT, RIGHT)
    up = Axis(across.low, across.high, BOTTOM, TOP)
    label = (
        f"{name}: {len(true)} predictions over targets, R² {number(float(report.r2[k]))}, rmse "
        f"{number(float(report.rmse[k]))}"
    )
    first = Chart(across, up, label, "true", "predicted")
    first.line(across.low, across.low, across.high, across.high)
    first.cloud(true, predicted)
    low, middle, high = (number(float(report.quantiles[q][k])) for q in ("10 %", "median", "90 %"))
    label = (
        f"{name}: residuals over predictions; 10 % below {low}, median {middle}, 10 % above {high}"
    )
    x = Axis.of([predicted], LEFT, RIGHT)
    second = Chart(x, Axis.of([report.residuals[:, k], [0.0]], BOTTOM, TOP), label,
                   "predicted", "residual")  # fmt: skip
    second.line(x.low, 0.0, x.high, 0.0)
    second.cloud(predicted, report.residuals[:, k])
    shown = text(cut(name, LONGEST))
    return (
        f"<figure><figcaption><b>{shown}</b>: predicted over true</figcaption>{first.svg()}"
        f"</figure><figure><figcaption><b>{shown}</b>: residuals</figcaption>{second.svg()}"
        "</figure>"
    )
