"""What was measured: bench/results/*.json in one form, the newest file of each machine.

A file is named MACHINE-DATE.json or MACHINE-DATE-WORDS.json. Those with ``"format": 2`` are of
``onepass bench``; the GPU's without are older. What findings cite of processors, in forms of its
own, lies in bench/results/earlier and is not read.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from onepass.bench._row import ON_DEMAND, is_rival
from onepass.bench._table import EVEN, best_rival, is_even, rate

FOLDER = Path(__file__).resolve().parents[2] / "bench" / "results"
NAMED = re.compile(r"(?P<machine>.+?)-(?P<date>\d{4}-\d\d-\d\d)(-.*)?\.json")
# What stands in the place of a rival in a GPU's older files, and is another call of ours.
OLD_OWN = "float32 states"
# The groups of a GPU's older files → ours; of two kinds in one, a word of the name decides.
OLD_GROUPS = {"optimizer": "optim", "norm": "norm", "loss": "loss", "windows": "conv"}
OLD_PAIRS = {
    "rows": ("softmax", "activation", "norm"),
    "elementwise": ("dropout", "dropout", "activation"),
}


class Row(NamedTuple):
    """One measured row.

    Attributes:
        seconds: our median; `low` and `high` hold 80 % of the samples, where they were kept.
        beside: what was measured in turn with us → its time over ours, the smallest first.
        share: the time in which the fewest bytes can be moved, over ours.
        error: the largest error over its bound; above 1 a result is wrong. `ulps` is the largest in
            units of the last place, where that says something.
        products: the part of our time that is inside matrix products.
        even: another run may say the opposite of whether the best rival is faster.
        run: commit, date and load of a row that was measured at another time than the file's head
            says; with "added", the commit that put it into the file, and "before", its ratio
            until then.
    """

    name: str
    group: str
    dtype: str
    threads: str
    seconds: float
    beside: dict[str, float]
    gb_per_second: float | None = None
    share: float | None = None
    low: float | None = None
    high: float | None = None
    error: float | None = None
    ulps: float | None = None
    products: float | None = None
    wrong: bool = False
    even: bool = False
    run: dict[str, Any] | None = None

    @property
    def rival(self) -> str:
        """The fastest of another library; "" where none was measured."""
        return next((n for n in self.beside if is_rival(n) and n != OLD_OWN), "")

    @property
    def ratio(self) -> float:
        """The best rival's time over ours; inf without one."""
        return self.beside[self.rival] if self.rival else float("inf")

    @property
    def behind(self) -> bool:
        """Whether the best rival is faster, by more than the noise."""
        return self.ratio < 1 and not self.even


class File(NamedTuple):
    """One file of results: the machine, its rows, and rivals that were not measured: why, and in
    how many rows."""

    path: Path
    key: str
    date: str
    form: int
    machine: dict[str, Any]
    rows: list[Row]
    missing: dict[tuple[str, str], int]

    @property
    def on_gpu(self) -> bool:
        return "gpu" in self.machine

    @property
    def title(self) -> str:
        """Processor or device, as a heading has it; the file's name tells two processors apart."""
        return str(self.machine.get("gpu") or f"{self.machine['cpu']} ({self.key})")

    @property
    def behind(self) -> list[Row]:
        """The rows in which a rival is faster by more than the noise, the worst first."""
        return [row for row in self.slower if row.behind]

    @property
    def slower(self) -> list[Row]:
        """The rows in which a rival's median is below ours, even ones too, the worst first."""
        return sorted((row for row in self.rows if row.ratio < 1), key=lambda row: row.ratio)


def read(path: Path) -> File:
    """One file, of either format."""
    data = json.loads(path.read_text(encoding="utf-8"))
    named = NAMED.fullmatch(path.name)
    if named is None:
        raise SystemExit(f"{path}: expected a name of the form MACHINE-YYYY-MM-DD.json")
    form = data.get("format", 1)
    make = _second if form == 2 else _first
    rows = [make(entry) for entry in data["results"] if "skipped" not in entry]
    missing = dict(Counter(p for e in data["results"] for p in e.get("missing", {}).items()))
    if form == 2 and "gpu" not in data["machine"] and "against" not in data.get("options", {}):
        missing = dict.fromkeys(ON_DEMAND.items(), 0) | missing
    return File(path, named["machine"], named["date"], form, data["machine"], rows, missing)


@cache
def files() -> tuple[File, ...]:
    """The newest of each machine, the newest first.

    Of one day that of the newer form counts, and of these that with the most rows.
    """
    found: dict[str, File] = {}
    for path in sorted(FOLDER.glob("*.json")):
        file = read(path)
        known = found.get(file.key)
        if known is None or _age(known) < _age(file):
            found[file.key] = file
    order = sorted(found.values(), key=lambda file: (file.on_gpu, file.key))
    return tuple(sorted(order, key=lambda file: file.date, reverse=True))


def _age(file: File) -> tuple[str, int, int]:
    return file.date, file.form, len(file.rows)


def _sorted(ratios: dict[str, float]) -> dict[str, float]:
    return dict(sorted(ratios.items(), key=lambda pair: pair[1]))


def _second(entry: dict[str, Any]) -> Row:
    ours = entry["seconds"]["onepass"]
    limit = entry["seconds"].get("limit")
    device = entry.get("device", "cpu")
    best = best_rival(entry)
    return Row(
        name=entry["row"], group=entry["group"], dtype=entry.get("dtype") or "",
        threads="GPU" if device.startswith("cuda") else str(entry["threads"]), seconds=ours,
        beside=_sorted(entry["ratios"] | entry.get("own", {})),
        gb_per_second=rate(entry), share=limit / ours if limit else None,
        low=entry.get("low", {}).get("onepass"), high=entry.get("high", {}).get("onepass"),
        error=entry.get("error"), ulps=entry.get("ulps"), wrong=bool(entry.get("wrong")),
        products=entry["products"] / ours if entry.get("products") else None,
        even=best is not None and is_even(entry, best[0]), run=entry.get("run"),
    )  # fmt: skip


def _first(entry: dict[str, Any]) -> Row:
    """Of a GPU, before ``onepass bench --device cuda``."""
    times = {name: time * 1e-6 for name, time in entry["us"].items() if time}
    name, share = entry["name"], entry["share_of_copy"]
    ours = times.pop("onepass")
    times.pop("copy", None)
    dtype = re.search(r" (float32|float16|bfloat16|float64)(?=$| graph$)", name)
    row = Row(
        name=name.replace(dtype[0], "") if dtype else name, group=_group(entry),
        dtype=dtype[1] if dtype else "float32", threads="GPU", seconds=ours,
        beside=_sorted({k: v / ours for k, v in times.items()}),
        gb_per_second=entry["bytes"] / ours / 1e9 if entry.get("bytes") else None,
        share=share or None,
    )  # fmt: skip
    return row._replace(even=1 / EVEN < row.ratio < EVEN)  # there are no samples


def _group(entry: dict[str, Any]) -> str:
    if entry["group"] in OLD_GROUPS:
        return OLD_GROUPS[entry["group"]]
    word, has, lacks = OLD_PAIRS[entry["group"]]
    return has if word in entry["name"] else lacks
