"""One page of all experiments: tables, checks and pictures in a single file, without a network."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onepass.lab._catalogue import CHAPTERS, Entry
from onepass.lab._lab import Outcome, Table
from onepass.lab._text import cell
from onepass.train._files import replacing

STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #2a7d3f; --bad: #c0392b }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
nav ul { columns: 18rem; padding-left: 1.2rem } nav li { break-inside: avoid }
h2 { border-bottom: 1px solid var(--line); margin-top: 3rem }
article { margin: 2rem 0 3rem }
img { max-width: 100%; height: auto; background: white; border-radius: 4px }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0 }
th, td { padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); text-align: left }
td.number { text-align: right }
li.holds::marker { content: "✓ "; color: var(--good) }
li.fails::marker { content: "✗ "; color: var(--bad) }
.source, .seen { opacity: .7 } .verdict { font-weight: 600 }
"""


def report(results: Sequence[tuple[Entry, Outcome]], folder: Path) -> Path:
    """Write ``folder/report.html``; pictures are read from the folder. Returns its path."""
    chapters = [(c, [r for r in results if r[0].chapter == c]) for c in CHAPTERS]
    body = [
        "<h1>The lab</h1>",
        f"<p>{sum(outcome.holds for _, outcome in results)} of {len(results)} claims hold.</p>",
        "<nav><ul>",
        *(f'<li><a href="#{e.name}">{html.escape(e.title)}</a></li>' for e, _ in results),
        "</ul></nav>",
    ]
    for chapter, found in chapters:
        if found:
            body.append(f"<h2>{chapter.capitalize()}</h2>")
            body += [_article(entry, outcome, folder) for entry, outcome in found]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>onepass: the lab</title><style>{STYLE}</style><body>{''.join(body)}</body></html>"
    )
    path = folder / "report.html"
    with replacing(path, "report") as file:
        file.write(page.encode())
    return path


def _article(entry: Entry, outcome: Outcome, folder: Path) -> str:
    paragraphs = "".join(f"<p>{html.escape(p)}</p>" for p in entry.claim.split("\n\n") if p)
    checks = "".join(
        f'<li class="{"holds" if check.holds else "fails"}">{html.escape(check.claim)} '
        f'<span class="seen">{html.escape(check.seen)}</span></li>'
        for check in outcome.checks
    )
    return (
        f'<article id="{entry.name}"><h3>{html.escape(entry.title)}</h3>{paragraphs}'
        f'<p class="source">{entry.code} · {html.escape("; ".join(entry.sources))} · '
        f"seed {outcome.seed} · <code>onepass lab {entry.name}</code></p>"
        f"{''.join(map(_table, outcome.tables))}{_picture(entry, folder)}<ul>{checks}</ul>"
        f'<p class="verdict">{html.escape(outcome.verdict)}</p></article>'
    )


def _picture(entry: Entry, folder: Path) -> str:
    path = folder / f"{entry.name}.png"
    if not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(entry.title)}" src="data:image/png;base64,{data}">'


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    title = f"<p>{html.escape(table.title)}</p>" if table.title else ""
    return f'{title}<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'


def _cell(value: Any) -> str:
    kind = "" if isinstance(value, str) else ' class="number"'
    return f"<td{kind}>{html.escape(cell(value))}</td>"
