"""docs/performance.md and its figures, from what was measured.

``python docs/generate --performance`` writes them, and nobody edits them: what the measurements led
to stands in docs/findings.md.
"""

from __future__ import annotations

import html
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from statistics import median

from onepass.bench._table import EVEN, error_text, is_busy, time_text, wrong_text

from generate import aims, charts
from generate.docstrings import slug
from generate.libraries import table
from generate.names import Name
from generate.results import File, Row, files

DOCS = Path(__file__).resolve().parents[1]
# Group of rows → its title, in the order of the page.
GROUPS = {
    "optim": "Optimizers", "norm": "Norms", "activation": "Activations", "dropout": "Dropout",
    "loss": "Losses", "conv": "Convolutions and pools",
    "end-to-end": "Whole training steps",
}  # fmt: skip
# In docs/findings.md, below a heading: the rows that it explains, by a pattern of their names.
MARK = re.compile(r"^<!-- behind (cpu|cuda): (.+?) -->$")
AIMS = "Aims on a GPU, and what falls short"  # its heading in docs/findings.md
HEAD = """# Performance

<!-- Written by python docs/generate --performance from bench/results/*.json. -->

Of {rows} measured rows that have a rival, the best rival is faster by more than the noise in
{behind}, and by less in {close}. [They stand first](#rows-behind-a-rival).

How to read the tables:

- **ratio** is the best rival's median time over ours. All candidates run in turn in one process.
  Below 1 the rival is faster. *Even*: the next run may say the opposite, since the ratio is between
  {least:.2f} and {most:.2f}, or the median of either is among four in five samples of the other.
- **time** is our median; in brackets, where the samples were kept, the range of all but the fastest
  and the slowest tenth.
- **of limit** is the time in which memory can move the fewest bytes that the operation needs, over
  our time. Near 100 % nothing but fewer bytes would help. More than 100 % is possible: arrays that
  fit into the caches are not fetched from memory, and older runs compare with a copy, which must
  fetch its target before it writes.
- **threads** is the number of threads, or GPU.
- **error** is the largest against float64, in units in the last place (ulp) or as a part of the
  bound that was derived for that element. The GPU's older runs did not keep it.
- *onepass* with more words and *float32 states* are other calls of ours, shown beside the rivals
  and not counted among them.
- Compare ratios, and never absolute times of different runs. Each machine has its newest run here.

[How the measurements are made](../bench/README.md) tells how to repeat them on your machine,
[findings](findings.md) what they taught us."""


def slug_of_machine(file: File) -> str:
    return f"performance-{file.key}.svg"


def figures() -> dict[str, str]:
    """File of docs/ → its text: one figure for each machine, and that of the README."""
    found = {slug_of_machine(file): charts.spread(_spread(file)) for file in files()}
    newest = next((file for file in files() if not file.on_gpu), None)
    if newest is not None:
        found["speed.svg"] = charts.bars(_bars(newest), f"{newest.title}, {newest.date}")
    return found


def write() -> None:
    """The page and its figures, and no figure of a machine that is gone."""
    drawn = figures()
    for old in DOCS.glob("performance-*.svg"):
        if old.name not in drawn:
            old.unlink()
    for name, text in drawn.items():
        (DOCS / name).write_text(text, encoding="utf-8")
    (DOCS / "performance.md").write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page."""
    rows = [row for file in files() for row in file.rows]
    behind = sum(len(file.behind) for file in files())
    parts = [
        HEAD.format(
            rows=sum(bool(row.rival) for row in rows),
            behind=behind,
            close=sum(len(file.slower) for file in files()) - behind,
            least=1 / EVEN,
            most=EVEN,
        ),
        "## The runs",
        table(
            ("machine", "day", "threads", "rows", "behind", "median ratio"),
            [_run(file) for file in files()],
        ),
    ]
    parts.append("\n".join(f"- {file.title}, {file.date}: {_note(file)}." for file in files()))
    apart = [_apart(file) for file in files() if any(row.run for row in file.rows)]
    parts += ["## Rows of other times", APART, *apart] if apart else []
    missing = [_missing(file) for file in files() if file.missing]
    parts += ["## Not measured", *missing] if missing else []
    wrong = [(file, row) for file in files() for row in file.rows if row.wrong]
    if wrong:
        lines = [f"- {row.name} ({file.title}): {_error(row)}" for file, row in wrong]
        parts += ["## Rows with a wrong result", "\n".join(lines)]
    parts.append("## Rows behind a rival")
    parts.append(
        "**why** leads to what was found about a row. A row without it is still to be explained."
    )
    for file in files():
        if file.slower:
            lines = [_behind(file, row) for row in file.slower]
            parts += [f"### {file.title}, {file.date}", table(BEHIND, lines)]
    aimed = [file for file in files() if file.on_gpu and aims.reached(file)]
    if aimed:
        parts += ["## Aims on a GPU", aims.TEXT]
        for file in aimed:
            parts += aims.section(file, time, slug(AIMS))
    parts.append("## All rows")
    for file in files():
        words = f"Ratios and shares of the limit of all rows on {file.title}"
        parts.append(f"### All rows of {file.title}, {file.date}")
        parts.append(f"![{words}]({slug_of_machine(file)})")
        parts.append(
            "*A dot is a row. Left: how many times faster than the best rival, red where the rival "
            "is faster. Right: the share of the limit.*"
        )
        for group, rows_of in _grouped(file.rows):
            parts.append(_details(group, rows_of))
    return "\n\n".join(parts) + "\n"


def _run(file: File) -> tuple[str, ...]:
    ratios = [row.ratio for row in file.rows if row.rival]
    threads = sorted({row.threads for row in file.rows})
    return (
        *(file.title, file.date, ", ".join(threads), str(len(file.rows)), str(len(file.behind))),
        f"{median(ratios):.2f}" if ratios else "",
    )


# What a file of results knows of its machine → how the page has it.
VERSIONS = {
    "level": "x86-64-", "commit": "commit ", "onepass": "onepass ", "torch": "PyTorch ",
    "jax": "JAX ", "optax": "optax ", "thinc": "thinc ", "numpy": "NumPy ", "cuda": "CUDA ",
    "sklearn": "scikit-learn ", "keras": "Keras ", "bitsandbytes": "bitsandbytes ",
    "onednn": "oneDNN ", "cupy": "CuPy ", "malloc": "malloc ",
}  # fmt: skip


def _note(file: File) -> str:
    """What a reader has to know of the run before any number."""
    said = [f"`{file.path.name}`"]
    known = [f"{name}{file.machine[key]}" for key, name in VERSIONS.items()
             if file.machine.get(key) and isinstance(file.machine[key], str)]  # fmt: skip
    said += [", ".join(known)] if known else []
    if "clock" in file.machine:
        said.append(f"{file.machine['clock']} of one thread, not elapsed time")
    elif is_busy(file.machine):
        said.append(f"other work ran on the machine (load average {file.machine['load']:.1f})")
    if apart := sum(row.run is not None for row in file.rows):
        said.append(f"{apart} of its rows were [measured at other times](#rows-of-other-times)")
    return "; ".join(said)


APART = """These rows are not of the run that the head of their file tells of: they were measured
at another time, under another load, alone or with others. **ratio before** is what stood in the
file until then, where it was kept. A row that was timed again, by itself and with the same code,
was chosen by its result, whatever the intention: its ratio before is as good a measurement."""


def _apart(file: File) -> str:
    """Rows that were not measured in the run that the file's head tells of, by their own."""
    lines = []
    for row in file.rows:
        if row.run is None:
            continue
        run = {name: value for name, value in row.run.items() if value is not None}
        commit = f"added by {run['added']}" if "added" in run else ""
        before = f"{run['before']:.2f}" if "before" in run else ""
        ratio = _times(row.ratio) if row.rival else ""
        lines.append((
            row.name, row.threads, str(run.get("date", "")), str(run.get("commit", commit)),
            f"{run['load']:.1f}" if "load" in run else "not recorded", before, ratio,
        ))  # fmt: skip
    head = ("row", "threads", "day", "commit", "load", "ratio before", "ratio")
    return f"On {file.title}, {file.date}:\n\n" + table(head, sorted(lines, key=lambda e: e[3]))


def _missing(file: File) -> str:
    """Rivals that have no time in rows where a reader may look for one."""
    reasons: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for (label, why), count in sorted(file.missing.items()):
        reasons.setdefault(label, []).append(why)
        counts[label] += count
    lines = [
        (label, str(counts[label]) if counts[label] else _left_out(file, label), "; ".join(whys))
        for label, whys in reasons.items()
    ]
    return f"On {file.title}, {file.date}:\n\n" + table(("rival", "rows", "why"), lines)


def _left_out(file: File, library: str) -> str:
    """The rows of a library that is measured on demand alone."""
    label = library.replace("-", " ")
    measured = sum(any(name.startswith(label) for name in row.beside) for row in file.rows)
    return f"all that it has but {measured}" if measured else "all that it has"


BEHIND = ("ratio", "row", "dtype", "threads", "time", "best rival", "its time", "of limit", "why")


def _behind(file: File, row: Row) -> tuple[str, ...]:
    theirs = time(row.ratio * row.seconds)
    anchor = reason(row.name, "cuda" if file.on_gpu else "cpu")
    why = f"[{anchor[0]}](findings.md#{anchor[1]})" if anchor else ""
    return (
        *(_standing(row), row.name, row.dtype, row.threads, _timed(row), row.rival, theirs),
        *(_percent(row.share), why),
    )


@cache
def _marks() -> tuple[tuple[str, str, str, str], ...]:
    """(device, pattern of rows, heading, anchor) of each mark of docs/findings.md."""
    found, heading = [], ""
    for line in (DOCS / "findings.md").read_text(encoding="utf-8").splitlines():
        if title := re.match(r"#+ (.*)", line):
            heading = title[1]
        elif mark := MARK.match(line):
            found.append((mark[1], mark[2], heading, slug(heading)))
    return tuple(found)


def reason(row: str, device: str) -> tuple[str, str] | None:
    """The heading of docs/findings.md that explains a row, and its anchor. Of several marks that
    fit, the one that fits the most of the row's name."""
    fitting = reasons(row, device)
    if not fitting:
        return None
    _, heading, anchor = max(fitting, key=lambda found: found[0])
    return heading.partition(":")[0], anchor


def reasons(row: str, device: str) -> list[tuple[int, str, str]]:
    """(letters of the row's name that fit, heading, anchor) of each mark that fits."""
    return [
        (fits.end(), heading, anchor)
        for of, pattern, heading, anchor in _marks()
        if of == device and (fits := re.match(pattern, row))
    ]


def _grouped(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    known = [*GROUPS, *sorted({row.group for row in rows} - set(GROUPS))]
    for group in known:
        found = [row for row in rows if row.group == group]
        if found:
            yield GROUPS.get(group, group.capitalize()), found


COLUMNS = ("row", "dtype", "threads", "time", "GB/s", "of limit", "ratio", "beside us", "error")


def _details(group: str, rows: Sequence[Row]) -> str:
    """A table that opens, as HTML: a thousand rows of Markdown take most of a build's time."""
    head = COLUMNS if any(row.error is not None for row in rows) else COLUMNS[:-1]
    lines = [f"<tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>"]
    for row in rows:
        beside = ", ".join(f"{name} {_times(ratio)}" for name, ratio in row.beside.items())
        inside = f" ({row.products:.0%} in products)" if row.products else ""
        cells = [
            *(row.name, row.dtype, row.threads, _timed(row) + inside),
            f"{row.gb_per_second:.3g}" if row.gb_per_second else "",
            *(_percent(row.share), _standing(row), beside),
            _error(row),
        ]
        texts = [html.escape(cell, False) for cell in cells[: len(head)]]
        lines.append(f"<tr>{''.join(f'<td>{text}</td>' for text in texts)}</tr>")
    with_rival = [row for row in rows if row.rival]
    lost = sum(row.behind for row in with_rival)
    summary = f"{group}: {len(rows)} rows, {lost} of {len(with_rival)} behind a rival"
    body = "\n".join(lines)
    return (
        f'<details><summary>{summary}</summary>\n<div class="wide"><table class="docutils">\n'
        f"{body}\n</table></div>\n</details>"
    )


NARROW = "\u00a0"  # a number and its unit stay on one line


def time(seconds: float) -> str:
    """With a unit."""
    return time_text(seconds, "µs").replace(" ", NARROW)


def _timed(row: Row) -> str:
    if row.low is None or row.high is None:
        return time(row.seconds)
    return f"{time(row.seconds)} ({time(row.low)} to {time(row.high)})"


def _error(row: Row) -> str:
    if row.wrong:
        return wrong_text(row.error)
    return "" if row.error is None else error_text(row.error, row.ulps, "its bound")


def _standing(row: Row) -> str:
    if not row.rival:
        return ""
    return _times(row.ratio) + (", even" if row.even else "")


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def _percent(share: float | None) -> str:
    return "" if share is None or share < 0.005 else f"{share:.0%}"


def _spread(file: File) -> list[tuple[str, list[float], list[float]]]:
    """(title, ratios, shares of the limit) of each group."""
    return [
        (
            title,
            [row.ratio for row in rows if row.rival],
            [row.share for row in rows if row.share is not None],
        )
        for title, rows in _grouped(file.rows)
    ]


# The rows of the README's figure, where the newest run has them, and how it names them.
SHOWN = {
    "adamw 6 tensors 26k": "AdamW step, 6 tensors, 26k",
    "adamw 120 tensors 250k": "AdamW step, 120 tensors, 250k",
    "param_groups adamw 465 groups 30k": "AdamW step, optim.param_groups, 465 groups",
    "clip+adamw+zero 120 tensors 250k": "clip + AdamW + zero, 120 tensors",
    "clip+adamw+zero 200 tensors 25M": "clip + AdamW + zero, 25M",
    "bn fwd+bwd 256x1024": "batch norm, 256×1024, both ways",
    "bn+relu+dropout 256x1024": "batch norm + ReLU + dropout, 256×1024",
    "bn+relu+dropout 32x64x56x56": "batch norm + ReLU + dropout, 32×64×56×56",
    "dropout 16777216": "dropout, 16M",
    "tanh 16777216": "tanh, 16M",
    "gelu 65536": "gelu, 64k",
    "cross_entropy 256x1000": "cross entropy, 256×1000",
    "step of 64-256-256-10 batch 32": "one training step of the demo",
    "resnet20 fwd+bwd 64x1x8x8": "ResNet of 20 layers, 8×8 images",
    "resnet20 fwd+bwd 32x3x32x32": "ResNet of 20 layers, 32×32 images",
}


def _bars(file: File) -> list[tuple[str, float, str]]:
    """(label, ratio, best rival) of the rows of the README's figure, with most threads."""
    bars = []
    for name, label in SHOWN.items():
        found = [row for row in file.rows if row.name == name and row.rival]
        if found:
            row = max(found, key=lambda row: int(row.threads))
            bars.append((label, row.ratio, row.rival))
    return bars


def lines_of(entries: Sequence[Name]) -> str:
    """The ratios of the functions and classes of one page, in the newest run that has them."""
    wanted = {name.short.rpartition(".")[2].lower().rstrip("_") for name in entries}
    for file in files():
        found = [row for row in file.rows if row.name.partition(" ")[0] in wanted and row.rival]
        if found and not file.on_gpu:
            least, most = (pick(row.ratio for row in found) for pick in (min, max))
            rows = f"{len(found)} rows" if len(found) > 1 else "one row"
            span = (
                _times(least) if math.isclose(least, most) else f"{_times(least)} to {_times(most)}"
            )
            return f"{span} times the speed of the best rival in {rows} ({file.title}, {file.date})"
    return ""
