"""Results as lines of a table, and as files."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FORMAT = 2
_NAME = 38
_HEAD = f"{'row':{_NAME}} thr       time (10-90 %)          GB/s  limit  error      theirs / ours"
LEGEND = """\
time   median of one call, and where four in five samples lie
GB/s   on the fewest bytes that the row must move
limit  the time of a loop that only moves those bytes, in as many streams, over ours
error  against float64: in units in the last place, or as a share of the bound derived for the
       row; beyond the bound the row is WRONG
ratios the rival's median over ours: above 1 onepass is faster"""


def head(machine: dict[str, Any]) -> str:
    """The machine, and the names of the columns."""
    about = f"{machine['cpu']}, {machine['cpus']} processors, {machine['level']}"
    return f"onepass {machine['onepass']} on {about}\n\n{_HEAD}"


def line(result: dict[str, Any]) -> str:
    """One row."""
    name = f"{result['row']:{_NAME}} {result['threads']:3d}"
    if "skipped" in result:
        return f"{name}  skipped: {result['skipped']}"
    seconds = result["seconds"]["onepass"]
    spread = _spread(seconds, result["low"]["onepass"], result["high"]["onepass"])
    rate, share = f"{result['bytes'] / seconds / 1e9:.1f}", ""
    if "limit" in result["seconds"]:
        share = f"{result['seconds']['limit'] / seconds:.0%}"
    elif result["products"]:
        rate, share = "", f"{result['products'] / seconds:.0%} products"
    ratios = sorted(result["ratios"].items(), key=lambda item: float(item[1]))
    rivals = "  ".join(f"{label} {ratio:.2f}x" for label, ratio in ratios)
    own = f"{name} {time_text(seconds):>10} {spread:<13} {rate:>7} {share:>6}"
    return f"{own}  {error(result):<10} {rivals}".rstrip()


def error(result: dict[str, Any]) -> str:
    """The column of that name."""
    if result["wrong"]:
        return "WRONG"
    if result["error"] is None:
        return "unchecked"
    if result["ulps"]:
        return f"{result['ulps']:.2g} ulp"
    return f"{result['error']:.2g} of bound" if result["error"] else "exact"


UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))


def _unit(seconds: float) -> tuple[str, float]:
    return next((unit for unit in UNITS if seconds >= unit[1]), UNITS[-1])


def time_text(seconds: float) -> str:
    """With a unit: "4.64 us"."""
    unit, scale = _unit(seconds)
    return f"{seconds / scale:.3g} {unit}"


def _spread(middle: float, low: float, high: float) -> str:
    scale = _unit(middle)[1]
    return f"({low / scale:.3g}-{high / scale:.3g})"


def summary(results: Sequence[dict[str, Any]], absent: dict[str, str]) -> list[str]:
    """What to take home: wrong rows, rows behind a rival, rivals that are missing."""
    done = [result for result in results if "skipped" not in result]
    lines = []
    for result in done:
        if result["wrong"]:
            error = result["error"]
            how = f"error {error:.3g} times its bound" if error != float("inf") else "no result"
            lines.append(
                f"WRONG: {_place(result)}: {how}"
                + (f" ({result['checked']})" if result["checked"] else "")
            )
    compared = [result for result in done if result["ratios"]]
    behind = [(min(r["ratios"].items(), key=lambda item: float(item[1])), r) for r in compared]
    behind = sorted((pair for pair in behind if pair[0][1] < 1), key=lambda pair: pair[0][1])
    if compared:
        count = len(compared) - len(behind)
        lines.append(f"{count} of {len(compared)} rows are faster than every rival" + (
            "; behind one are:" if behind else ""))  # fmt: skip
    lines += [f"  {ratio:.2f}x {label}: {_place(r)}" for (label, ratio), r in behind]
    missing = dict(absent)
    for result in done:
        missing |= {name: why for name, why in result["missing"].items() if name not in missing}
    if missing:
        lines.append("not measured:")
        lines += [f"  {name}: {why}" for name, why in sorted(missing.items())]
    return lines


def _place(result: dict[str, Any]) -> str:
    threads = result["threads"]
    return f"{result['row']}, {threads} thread{'s' if threads > 1 else ''}"


def content(
    machine: dict[str, Any], options: dict[str, Any], results: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The file of ``--json``."""
    return {"format": FORMAT, "machine": machine, "options": options, "results": list(results)}


def write_json(path: Path, whole: dict[str, Any]) -> None:
    """The whole file or the one before it, whatever happens."""
    text = json.dumps(_plain(whole), indent=1, allow_nan=False) + "\n"
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _plain(value: Any) -> Any:
    """JSON has no infinity, which is the error of a row without a result."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return 1e308 if value == float("inf") else value


COLUMNS = (
    "row", "group", "device", "dtype", "threads", "elements", "bytes", "label", "seconds", "low",
    "high", "theirs_over_ours", "gb_per_second", "share_of_limit", "error_of_bound", "ulps",
    "wrong",
)  # fmt: skip


def csv_text(results: Sequence[dict[str, Any]]) -> str:
    """A line for each function of each row."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for r in results:
        for label, seconds in r.get("seconds", {}).items():
            ours = label == "onepass"
            limit = r["seconds"].get("limit")
            writer.writerow([
                *(r[name] for name in COLUMNS[:6]), f"{r['bytes']:.0f}", label,
                f"{seconds:.4g}", f"{r['low'][label]:.4g}", f"{r['high'][label]:.4g}",
                _cell(r["ratios"].get(label)), f"{r['bytes'] / seconds / 1e9:.4g}",
                _cell(limit / seconds if limit else None),
                *((_cell(r["error"]), _cell(r["ulps"]), r["wrong"]) if ours else ("", "", "")),
            ])  # fmt: skip
    return file.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
