"""Results as lines of a table, and as files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from onepass.bench._row import is_rival, own_form

FORMAT = 2
EVEN = 1.05  # times by which another run of the same code may differ

_NAME = 38
_HEAD = f"{'row':{_NAME}} thr       time (10-90 %)          GB/s  limit  error      theirs / ours"
LEGEND = """\
time   median of one call, and where four in five samples lie
GB/s   on the fewest bytes that the row must move, where memory sets a limit
limit  the time of a loop that only moves those bytes, in as many streams, over ours
error  against float64: in units in the last place, or as a share of the bound derived for the
       row; beyond the bound the row is WRONG; FAILED: something raised an error
ratios the rival's median over ours: above 1 onepass is faster; a rival whose label has "out=" is
       compared with "onepass out=". Last come other forms of ours"""


def head(machine: dict[str, Any]) -> str:
    """The machine, and the names of the columns."""
    about = f"{machine['cpu']}, {machine['cpus']} processors, {machine['level']}"
    note = f"\nBLAS: {machine['blas']}" if "blas" in machine else ""
    if is_busy(machine):
        load = machine["load"]
        note += f"\nbusy, a load of {load:.1f}: times and the ratios of many threads say little"
    return f"onepass {machine['onepass']} on {about}{note}\n\n{_HEAD}"


def load_each(machine: dict[str, Any]) -> float:
    """Tasks for each processor when a run began; 0 where that is not known."""
    load, processors = machine.get("load"), machine.get("cpus")
    return load / processors if load and processors else 0.0


def is_busy(machine: dict[str, Any]) -> bool:
    """Whether other work ran: there were more tasks than processors."""
    return load_each(machine) > 1


def line(result: dict[str, Any]) -> str:
    """One row."""
    name = f"{result['row']:{_NAME}} {result['threads']:3d}"
    if "skipped" in result:
        return f"{name}  {'FAILED' if result.get('wrong') else 'skipped'}: {result['skipped']}"
    seconds = result["seconds"]["onepass"]
    spread = spread_text(seconds, result["low"]["onepass"], result["high"]["onepass"])
    moved, share = rate(result), ""
    if "limit" in result["seconds"]:
        share = f"{result['seconds']['limit'] / seconds:.0%}"
    elif result["products"]:
        share = f"{result['products'] / seconds:.0%} products"
    ratios = [*_sorted(result["ratios"]), *_sorted(result["own"])]
    rivals = "  ".join(f"{label} {ratio:.2f}x" for label, ratio in ratios)
    own = f"{name} {time_text(seconds):>10} {spread:<13} {_rounded(moved):>7} {share:>6}"
    return f"{own}  {error(result):<10} {rivals}".rstrip()


def rate(result: dict[str, Any], label: str = "onepass") -> float | None:
    """10⁹ bytes a second; None where something else than memory sets the limit."""
    seconds = result["seconds"]
    return result["bytes"] / seconds[label] / 1e9 if "limit" in seconds else None


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _sorted(ratios: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(ratios.items(), key=lambda item: item[1])


def error(result: dict[str, Any]) -> str:
    """The column of that name."""
    if result["wrong"]:
        return "WRONG"
    if result["error"] is None:
        return "unchecked"
    return error_text(result["error"], result["ulps"])


def error_text(error: float, ulps: float | None, bound: str = "bound") -> str:
    """Of a right result."""
    if ulps:
        return f"{ulps:.2g} ulp"
    return f"{error:.2g} of {bound}" if error else "exact"


_UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))


def _unit(seconds: float) -> tuple[str, float]:
    return next((unit for unit in _UNITS if seconds >= unit[1]), _UNITS[-1])


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.3g}"


def time_text(seconds: float, micro: str = "us") -> str:
    """With a unit: "4.64 us"; a page has "µs"."""
    unit, scale = _unit(seconds)
    return f"{_digits(seconds / scale)} {micro if unit == 'us' else unit}"


def spread_text(middle: float, low: float, high: float) -> str:
    """In the unit of the middle: "(4.6-4.71)"."""
    scale = _unit(middle)[1]
    return f"({_digits(low / scale)}-{_digits(high / scale)})"


def wrong_text(error: float | None) -> str:
    """How a result is wrong; a file that is read again has None where the error was infinite."""
    if error is None or not math.isfinite(error):
        return "an infinite error"
    return f"error {error:.3g} times its bound"


def summary(
    results: Sequence[dict[str, Any]], absent: dict[str, str], asked: Iterable[str] = ()
) -> list[str]:
    """What to take home: wrong rows, rows behind a rival, rivals that are missing.

    Args:
        absent: rivals that are not installed, and why.
        asked: those that the user has named.
    """
    done = [result for result in results if "skipped" not in result]
    lines = [
        f"FAILED: {_place(result)}: {result['skipped']}"
        for result in results
        if "skipped" in result and result.get("wrong")
    ]
    for result in done:
        if result["wrong"]:
            checked = f" ({result['checked']})" if result["checked"] else ""
            lines.append(f"WRONG: {_place(result)}: {wrong_text(result['error'])}{checked}")
    lines += _standing(done)
    missing = _missing(done, asked) | absent
    if missing:
        lines.append("not measured:")
        lines += [f"  {name}: {why}" for name, why in sorted(missing.items())]
    return lines


def _missing(done: Sequence[dict[str, Any]], asked: Iterable[str]) -> dict[str, str]:
    """Rivals that some rows lack, and why."""
    from onepass.bench._peers import libraries_of

    found: dict[str, str] = {}
    for name in dict.fromkeys(name for result in done for name in result["missing"]):
        why = [result["missing"][name] for result in done if name in result["missing"]]
        of = f", in {len(why)} of {len(done)} rows" if len(why) < len(done) else ""
        found[name] = why[0] + of
    said = [*found, *(label for result in done for label in result["ratios"])]
    told = {name for label in said for name in libraries_of(label)}
    silent = [name for name in asked if name not in told] if done else ()
    return found | dict.fromkeys(silent, "has no function of these rows")


def _standing(done: Sequence[dict[str, Any]]) -> Iterator[str]:
    """How many rows are faster than every rival, and those that are not."""
    right = [result for result in done if not result.get("wrong")]
    best = [(*found, result) for result in right if (found := best_rival(result)) is not None]
    if not best:
        return
    even = [found for found in best if is_even(found[2], found[0])]
    behind = sorted(
        (found for found in best if found[1] < 1 and found not in even), key=lambda found: found[1]
    )
    ahead = len(best) - len(even) - len(behind)
    yield (
        f"{ahead} of {len(best)} rows are faster than every rival, {len(even)} even with the best "
        f"within the noise" + ("; behind one are:" if behind else "")
    )
    for label, ratio, result in behind:
        yield f"  {ratio:.2f}x {label}: {_place(result)}"


def best_rival(result: dict[str, Any]) -> tuple[str, float] | None:
    """The label and the ratio of the fastest that does all that ours does."""
    rivals = {k: v for k, v in result["ratios"].items() if is_rival(k)}
    return _sorted(rivals)[0] if rivals else None


def is_even(result: dict[str, Any], label: str) -> bool:
    """Whether another run may say the opposite: a ratio between 1 / EVEN and EVEN, or the median of
    either lies where four in five samples of the other do."""
    low, middle, high = (result[name] for name in ("low", "seconds", "high"))
    ours = own_form(label, middle)
    close: bool = 1 / EVEN < result["ratios"][label] < EVEN
    within: bool = low[label] <= middle[ours] <= high[label]
    return close or within or bool(low[ours] <= middle[label] <= high[ours])


def _place(result: dict[str, Any]) -> str:
    threads = result["threads"]
    return f"{result['row']}, {threads} thread{'s' if threads > 1 else ''}"


def content(
    machine: dict[str, Any],
    options: Sequence[dict[str, Any]],
    results: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """The file of ``--json``. The options are those of the call that began it, then of calls that
    went on with it with other ones."""
    first, *more = options
    head = {"format": FORMAT, "machine": machine, "options": first}
    return head | ({"resumed": more} if more else {}) | {"results": list(results)}


def json_text(whole: Any, indent: int | None = None) -> str:
    """As every reader of JSON takes it."""
    return json.dumps(plain(whole), indent=indent, allow_nan=False)


def plain(value: Any) -> Any:
    """JSON has no infinity and no NaN, the errors of a row without a result: they are null."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


COLUMNS = (
    "row", "group", "device", "dtype", "threads", "elements", "bytes", "label", "seconds", "low",
    "high", "theirs_over_ours", "gb_per_second", "share_of_limit", "error_of_bound", "ulps",
    "wrong", "skipped",
)  # fmt: skip


def csv_text(results: Sequence[dict[str, Any]]) -> str:
    """A line for each function of each row, and one for a row without times, which says why."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for r in results:
        if "skipped" in r:
            place = (*(r[name] for name in COLUMNS[:5]), "", "", "onepass")
            empty = [""] * (len(COLUMNS) - len(place) - 2)
            writer.writerow([*place, *empty, r.get("wrong", False), r["skipped"]])
            continue
        for label, seconds in r["seconds"].items():
            ours = label == "onepass"
            limit = r["seconds"].get("limit")
            writer.writerow([
                *(r[name] for name in COLUMNS[:6]), _cell(r["bytes"], ".0f"), label,
                f"{seconds:.4g}", f"{r['low'][label]:.4g}", f"{r['high'][label]:.4g}",
                _cell((r["ratios"] | r.get("own", {})).get(label)), _cell(rate(r, label)),
                _cell(limit / seconds if limit else None),
                *((_cell(r["error"]), _cell(r["ulps"]), r["wrong"]) if ours else ("", "", "")), "",
            ])  # fmt: skip
    return file.getvalue()


def _cell(value: float | None, form: str = ".4g") -> str:
    return "" if value is None else f"{value:{form}}"
