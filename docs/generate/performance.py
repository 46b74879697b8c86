"""What was measured, from bench/results/*.json: the rows that we lose first."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from generate.names import Name

ROOT = Path(__file__).resolve().parents[2]


class Row(NamedTuple):
    """One measured row.

    Attributes:
        ratio: the best rival's time over ours.
        share: the time of a loop that only moves the bytes, over ours.
    """

    name: str
    threads: str
    ours: float  # microseconds
    rival: str
    theirs: float
    ratio: float
    share: float


class File(NamedTuple):
    """One file of results: what it was measured on, and its rows."""

    name: str
    machine: dict[str, Any]
    rows: list[Row]

    @property
    def title(self) -> str:
        """Processor or device, and the day."""
        chip = self.machine.get("gpu") or f"{self.machine['cpu']}, {self.machine['level']}"
        return f"{chip}, {self.machine['date']}"

    @property
    def how(self) -> str:
        """What a reader has to know of the run before any number."""
        said = []
        if "cpus" in self.machine:
            said.append(
                f"{self.machine['cpus']} processors, load average {self.machine['load']:.1f}"
            )
        said.append(f"PyTorch {self.machine['torch']}")
        if "clock" in self.machine:
            said.append(f"{self.machine['clock']} of one thread, not elapsed time")
        if self.machine.get("load", 0) > 2 and "clock" not in self.machine:
            said.append("other work ran on the machine: compare ratios only")
        if "note" in self.machine:
            said.append(self.machine["note"])
        return "; ".join(said) + "."


@cache
def files() -> tuple[File, ...]:
    """All of them, the newest first."""
    found = []
    for path in sorted((ROOT / "bench" / "results").glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        rows = [_row(entry) for entry in data["results"]]
        found.append(File(path.name, data["machine"], [row for row in rows if row is not None]))
    return tuple(sorted(found, key=lambda f: (f.machine["date"], f.name), reverse=True))


def _row(entry: dict[str, Any]) -> Row | None:
    if "ratios" in entry:  # since format 2, on any device
        return _row2(entry)
    if not entry.get("ratio") or not _rivals(entry):
        return None  # nothing to compare with
    if "us" in entry:  # of a GPU
        times = dict(entry["us"])
        ours, rivals = times.pop("onepass"), {k: v for k, v in times.items() if v}
        rival = min(rivals, key=lambda name: rivals[name])
        theirs, name, threads = rivals[rival], entry["name"], "GPU"
        share = entry["share_of_copy"]
    else:
        ours, rival = entry["seconds"]["onepass"] * 1e6, entry["best_rival"]
        theirs, name = entry["seconds"][rival] * 1e6, entry["row"]
        threads, share = str(entry["threads"]), entry["copy_share"]
    return Row(name, threads, ours, rival, theirs, entry["ratio"], share or 0.0)


def _row2(entry: dict[str, Any]) -> Row | None:
    if not entry["ratios"]:
        return None
    rival = min(entry["ratios"], key=lambda name: entry["ratios"][name])
    seconds = entry["seconds"]
    threads = "GPU" if entry["device"] == "cuda" else str(entry["threads"])
    share = seconds.get("limit", 0.0) / seconds["onepass"]
    return Row(
        entry["row"], threads, seconds["onepass"] * 1e6, rival, seconds[rival] * 1e6,
        entry["ratios"][rival], share,
    )  # fmt: skip


def page() -> str:
    """The whole page."""
    lost = [(file, row) for file in files() for row in file.rows if row.ratio < 1]
    lost.sort(key=lambda pair: pair[1].ratio)
    parts = [
        HEAD.format(lost=len(lost), rows=sum(len(file.rows) for file in files())),
        "## The runs",
        _html_table(
            ("rows", "a rival is faster", "median ratio", "run", "file"),
            [
                (
                    *(len(file.rows), sum(row.ratio < 1 for row in file.rows)),
                    f"{median(row.ratio for row in file.rows):.2f}",
                    *(file.title, file.name.removesuffix(".json")),
                )
                for file in files()
            ],
        ),
        "## Where a rival is faster",
        _html_table((*COLUMNS, "run"), [(*_cells(row), file.title) for file, row in lost]),
        "## All rows",
        "![Times faster than the best rival, in a dozen rows](speed.svg)",
    ]  # fmt: skip
    for file in files():
        rows = sorted(file.rows, key=lambda row: row.ratio)
        table = _html_table(COLUMNS, [_cells(row) for row in rows])
        parts.append(
            f"### {file.title}: {file.name.removesuffix('.json')}\n\n{file.how}\n\n"
            "```{raw} html\n<details><summary>"
            f"{len(rows)} rows</summary>\n```\n{table}\n```{{raw}} html\n</details>\n```"
        )
    return "\n\n".join(parts) + "\n"


HEAD = """# Performance

Of {rows} measured rows a rival is faster in {lost}. They stand first.

- **ratio**: the best rival's median over ours, all candidates in turn in one process. Below 1 the
  rival is faster.
- **limit**: the time to move the fewest bytes that the operation has to move, over our time: in as
  many streams, or in files before December 2026 by a copy. Near 100 % memory is the limit.
- **onepass plain** and **float32 states** as rivals are the same step of ours without the option
  that the row is named after.
- Figures of several machines and days stand beside each other because no one machine says it all.
  A ratio between 0.95 and 1.05 may be the other way round in the next run. Absolute times of
  different runs cannot be compared.

`onepass bench` measures the same on your machine ([how](bench.md)); [what the measurements led
to](performance.md) has the reasons."""


def _rivals(entry: dict[str, Any]) -> list[str]:
    """Who was measured beside us; not our own kernels, which some rows stand beside."""
    times = entry.get("us") or entry["seconds"]
    return [name for name in times if not name.startswith(("onepass", "copy"))]


COLUMNS = ("ratio", "row", "threads", "onepass, µs", "best rival", "its µs", "limit")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"{row.ratio:.2f}", row.name, row.threads, _number(row.ours), row.rival,
        _number(row.theirs), f"{row.share:.0%}" if row.share else "",
    )  # fmt: skip


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _html_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as HTML: a thousand rows of Markdown would take most of the build's time."""

    def cells(row: Sequence[object], tag: str) -> str:
        return "".join(f"<{tag}{_class(cell)}>{html.escape(str(cell))}</{tag}>" for cell in row)

    body = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return (
        '```{raw} html\n<div class="wide"><table class="docutils"><thead>'
        f"<tr>{cells(head, 'th')}</tr></thead><tbody>\n{body}\n</tbody></table></div>\n```"
    )


def _class(cell: object) -> str:
    text = str(cell)
    if re.fullmatch(r"[\d,.]+ ?%?", text):
        return ' class="number"'
    return ""


def lines_of(entries: Sequence[Name]) -> str:
    """The ratios of the functions and classes of one page, in the newest run that has them."""
    wanted = {name.short.rpartition(".")[2].lower().rstrip("_") for name in entries}
    for file in files():
        if "gpu" in file.machine:
            continue
        found = [row for row in file.rows if row.name.partition(" ")[0] in wanted]
        if found:
            least, most = min(r.ratio for r in found), max(r.ratio for r in found)
            return (
                f"{least:.2f} to {most:.2f} times the speed of the best rival in {len(found)} "
                f"rows ({file.title})"
            )
    return ""
