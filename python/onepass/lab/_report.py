"""One page of all experiments: tables, checks and pictures in a single file, without a network."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onepass._files import replacing
from onepass._page import page
from onepass.lab._catalogue import Experiment, by_chapter
from onepass.lab._lab import Outcome, Table
from onepass.lab._text import cell

STYLE = """
@media screen { body { font-size: 16px; line-height: 1.5; max-width: 60rem; } }
nav h2 { font-size: 1rem; border: 0; margin: 1rem 0 0 }
nav ul { columns: 18rem; column-gap: 2.5rem; margin: .2rem 0; padding-left: 1.2rem }
nav li { break-inside: avoid }
h2 { border-bottom: 1px solid var(--line); margin-top: 3rem }
article { margin: 2rem 0 3rem }
img { max-width: 100%; height: auto; background: white; border-radius: 4px }
table { margin: 1rem 0 }
th, td { padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); text-align: left }
td.number { text-align: right }
li.holds::marker { content: "✓ "; color: var(--good) }
li.fails::marker { content: "✗ "; color: var(--bad) }
.source, .seen { color: var(--soft) } .verdict { font-weight: 600 }
"""


def report(results: Sequence[tuple[Experiment, Outcome, bytes]], folder: Path) -> Path:
    """Write ``folder/report.html`` from outcomes and their pictures. Returns its path."""
    outcomes = {experiment: outcome for experiment, outcome, _ in results}
    pictures = {experiment: picture for experiment, _, picture in results}
    body = [
        "<h1>The lab</h1>",
        f"<p>{sum(o.holds for o in outcomes.values())} of {len(outcomes)} experiments hold what "
        "they claim.</p>",
    ]
    chapters = by_chapter(outcomes).items()
    for chapter, found in chapters:
        links = [f'<li><a href="#{e.name}">{html.escape(e.title)}</a></li>' for e in found]
        body.append(f"<nav><h2>{chapter.capitalize()}</h2><ul>{''.join(links)}</ul></nav>")
    for chapter, found in chapters:
        body.append(f"<h2>{chapter.capitalize()}</h2>")
        body += [_article(e, outcomes[e], pictures[e]) for e in found]
    text = page("onepass: the lab", "".join(body), style=STYLE)
    path = folder / "report.html"
    with replacing(path, "report") as file:
        file.write(text.encode())
    return path


def _article(experiment: Experiment, outcome: Outcome, picture: bytes) -> str:
    paragraphs = "".join(f"<p>{html.escape(p)}</p>" for p in experiment.paragraphs)
    checks = "".join(
        f'<li class="{"holds" if check.holds else "fails"}">{html.escape(check.claim)} '
        f'<span class="seen">{html.escape(check.seen)}</span></li>'
        for check in outcome.checks
    )
    return (
        f'<article id="{experiment.name}"><h3>{html.escape(experiment.title)}</h3>{paragraphs}'
        f'<p class="source">{experiment.code} · {html.escape("; ".join(experiment.sources))} · '
        f"seed {outcome.seed} · <code>onepass lab {experiment.name}</code></p>"
        f"{''.join(map(_table, outcome.tables))}{_image(experiment, picture)}<ul>{checks}</ul>"
        f'<p class="verdict">{html.escape(outcome.verdict)}</p></article>'
    )


def _image(experiment: Experiment, picture: bytes) -> str:
    if not picture:
        return ""
    data = base64.b64encode(picture).decode()
    return f'<img alt="{html.escape(experiment.title)}" src="data:image/png;base64,{data}">'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in table.columns)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    title = f"<p>{html.escape(table.title)}</p>" if table.title else ""
    return f'{title}<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'


def _cell(value: Any) -> str:
    kind = "" if isinstance(value, str) else ' class="number"'
    return f"<td{kind}>{html.escape(cell(value))}</td>"
