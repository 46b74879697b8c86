"""``onepass bench --html FILE``: the results as one page that needs no network.

Each number is in the page as the JSON file has it (``data-value`` of its cell, by which columns are
sorted); what one reads is rounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from onepass import _page
from onepass._page import embedded
from onepass._page import text as _text
from onepass.bench._rates import size_text
from onepass.bench._row import GROUPS
from onepass.bench._table import best_rival, plain, rate, time_text

COLUMNS = {
    "row": "what is measured, and the elements",
    "threads": "of every library",
    "time": "median of a call; below it 10 to 90 % of the samples",
    "GB/s": "on the fewest bytes: each input read once, each output written once; "
    "none where something else than memory sets the limit",
    "limit": "time of a loop that moves the same bytes and computes nothing, over ours",
    "ratio": "time of the best rival over ours: above 1 onepass is faster",
    "rivals": "time of each over ours; last, in grey, other forms of ours",
    "error": "largest error over its bound, against float64: above 1 is WRONG; FAILED: something "
    "raised an error",
}


def page(content: Mapping[str, Any]) -> str:
    """The page."""
    content = plain(content)
    results = content["results"]
    named = [r.get("group", "") for r in results]
    groups = [g for g in GROUPS if g in named] + sorted({g for g in named if g not in GROUPS})
    tables = "\n".join(
        _table(group, [r for r in results if r.get("group", "") == group]) for group in groups
    )
    about = content["machine"]
    title = f"onepass bench: {about.get('gpu') or about.get('cpu', '')}"
    columns = "".join(f"<dt>{name}</dt><dd>{_text(what)}</dd>" for name, what in COLUMNS.items())
    body = (
        f"<h1>{_text(title)}</h1>\n<dl>{_machine(about)}</dl>\n"
        "<details><summary>How to read the columns; a click on a head sorts</summary>\n"
        f"<dl>{columns}</dl></details>\n"
        f"{tables or '<p>No row has been measured.</p>'}\n{embedded('results', content)}"
    )
    return _page.page(title, body, style=_STYLE, script=_SCRIPT)


def _machine(about: Mapping[str, Any]) -> str:
    items = []
    for name, value in about.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{k} {size_text(v)}" for k, v in value.items())
        if value not in (None, ""):
            value = f"{value:.3g}" if isinstance(value, float) else value
            items.append(f"<div><dt>{_text(name)}</dt> <dd>{_text(value)}</dd></div>")
    return "".join(items)


def _table(group: str, results: list[dict[str, Any]]) -> str:
    head = "".join(
        f'<th scope="col" title="{_text(what)}"><button type="button">{name}</button></th>'
        for name, what in COLUMNS.items()
    )
    body = "\n".join(f"<tr>{''.join(_cells(result))}</tr>" for result in results)
    return (
        f"<section><h2>{_text(group)}</h2><div class=wide><table><thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody></table></div></section>"
    )


def _cells(result: dict[str, Any]) -> Iterator[str]:
    dtype = result.get("dtype", "float32")
    name = result["row"] + (f" {dtype}" if dtype != "float32" else "")
    yield f'<th scope="row" data-value="{_text(name)}">{_text(name)}</th>'
    yield _cell(result["threads"], str(result["threads"]))
    if "skipped" in result:
        kind, word = ("wrong", "FAILED: ") if result.get("wrong") else ("note", "")
        text = _text(word + result["skipped"])
        yield f'<td colspan="{len(COLUMNS) - 2}" class={kind}>{text}</td>'
        return
    seconds = result["seconds"]
    ours = seconds["onepass"]
    low, high = result["low"]["onepass"], result["high"]["onepass"]
    yield _cell(ours, f"{_time(ours)}<small>{_time(low)} to {_time(high)}</small>")
    moved = rate(result)
    yield _ABSENT if moved is None else _cell(moved, f"{moved:.3g}")
    yield _limit(seconds["limit"] / ours if "limit" in seconds else None)
    ratios = sorted(result["ratios"].items(), key=lambda item: item[1])
    best = best_rival(result)
    yield _ratio(None if best is None else best[1])
    each = [f"<span><b>{ratio:.2f}×</b> {_text(label)}</span>" for label, ratio in ratios]
    own = sorted(result.get("own", {}).items(), key=lambda item: item[1])
    each += [f"<span class=note>{ratio:.2f}× {_text(label)}</span>" for label, ratio in own]
    each += [
        f'<span class=note title="{_text(why)}">no {_text(label)}</span>'
        for label, why in result.get("missing", {}).items()
    ]
    yield f'<td class=rivals data-value="{len(ratios)}">{"".join(each)}</td>'
    yield _error(result)


def _cell(value: float | str, text: str, kind: str = "") -> str:
    kind = f' class="{kind}"' if kind else ""
    return f'<td data-value="{value!r}"{kind}>{text}</td>'


_ABSENT = '<td data-value="" class=note>–</td>'


def _limit(share: float | None) -> str:
    if share is None:
        return _ABSENT
    width = min(100.0, 100 * share)
    bar = f'<span class="bar" style="width:{width:.1f}%"></span>'
    return _cell(share, f"{100 * share:.0f} %<span class=track>{bar}</span>")


def _ratio(ratio: float | None) -> str:
    """A bar from 1 in the middle: to the right up to 10 times faster, to the left slower."""
    if ratio is None:
        return _ABSENT
    width = 50 * min(1.0, abs(math.log10(ratio)))
    begin, kind = (50.0, "ahead") if ratio >= 1 else (50 - width, "behind")
    bar = f'<span class="bar {kind}" style="margin-left:{begin:.1f}%;width:{width:.1f}%"></span>'
    return _cell(ratio, f"{ratio:.2f}×<span class=track>{bar}</span>")


def _error(result: Mapping[str, Any]) -> str:
    error = result.get("error")
    if result.get("wrong"):
        return _cell(math.inf if error is None else error, "WRONG", "wrong")
    if error is None:
        return _ABSENT
    ulps = result.get("ulps")
    more = f"<small>{ulps:.3g} ulp</small>" if ulps is not None else ""
    return _cell(error, f"{error:.2g}{more}")


def _time(seconds: float) -> str:
    return time_text(seconds, "µs")


_STYLE = """
dl { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; margin: 0 0 .6rem; font-size: .86rem; }
dl div { display: flex; gap: .4rem; } dt { font-weight: 600; color: var(--soft); } dd { margin: 0; }
details dl { display: grid; grid-template-columns: max-content 1fr; margin-top: .5rem; }
.wide { border: 1px solid var(--line); border-radius: 6px; } table { width: 100%; }
thead th:nth-child(1) { width: 19rem; } thead th:nth-child(3) { width: 11rem; }
thead th:nth-child(5), thead th:nth-child(6) { width: 8rem; }
thead th:nth-child(7) { text-align: left; } thead th:nth-child(8) { width: 6rem; }
td, th { padding: .35rem .6rem; text-align: right; vertical-align: top; white-space: nowrap; }
tbody tr:nth-child(even) { background: var(--stripe); }
thead th { border-bottom: 1px solid var(--line); padding: 0; }
tbody th, thead th:first-child { text-align: left; font-weight: 500; position: sticky; left: 0;
  background: var(--paper); }
tbody tr:nth-child(even) th { background: var(--stripe); }
thead button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0;
  width: 100%; padding: .45rem .6rem; text-align: inherit; cursor: pointer; }
thead button:hover, thead button:focus-visible { color: var(--ahead); }
[aria-sort=ascending] button::after { content: " ▲"; }
[aria-sort=descending] button::after { content: " ▼"; }
.track { display: block; height: 5px; width: 6rem; margin: .3rem 0 0 auto; border-radius: 3px;
  background: var(--track); overflow: hidden; }
.bar { display: block; height: 100%; background: var(--ahead); }
.behind { background: var(--behind); }
.rivals { text-align: left; white-space: normal; min-width: 13rem; }
.rivals span { display: inline-block; margin-right: .9rem; white-space: nowrap; }
.rivals b { font-weight: 600; } td[colspan] { text-align: left; }
@media (max-width: 40rem) { tbody th { max-width: 9.5rem;
  white-space: normal; } td, th { padding: .35rem .4rem; } .track { width: 4rem; } }
"""

_SCRIPT = """
// A click on a column's head sorts the table by it; another click turns the order round.
for (const head of document.querySelectorAll("thead th")) {
  head.querySelector("button").addEventListener("click", () => {
    const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
    const down = head.getAttribute("aria-sort") !== "descending" && column > 0 ||
      head.getAttribute("aria-sort") === "ascending";
    const value = row => row.cells[column]?.dataset.value ?? "";
    const number = text => text === "" ? NaN : text === "inf" ? Infinity : Number(text);
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (column === 0) return x.localeCompare(y, "en", {numeric: true});
      return number(x) - number(y);
    };
    const rows = [...body.rows];
    const there = rows.filter(row => value(row) !== "");
    const absent = rows.filter(row => value(row) === "");
    there.sort((a, b) => down ? compare(b, a) : compare(a, b));
    body.append(...there, ...absent);
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  });
}
"""
