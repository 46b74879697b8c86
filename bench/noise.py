"""How often `onepass bench compare` is right on this machine, with this noise.

    python bench/noise.py --run             # makes four runs of ten rows, in a quarter of an hour
    python bench/noise.py RUN.json RUN.json …

The files are runs of the same code. Each pair is compared as it is, where every row ought to be
SAME, and with the samples of ours in the second run times 1.1, where it ought to be SLOWER. Where
`compare` says that the noise hides a change of 10 %, it cannot be found; those rows are counted by
themselves.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from onepass import bench
from onepass.bench._compare import TENTH, Change

PLANTED = 1.1
RUNS = 4
ROWS = (
    r"^(tanh 65536|sigmoid_backward 1048576|dropout 1048576|softmax 8192x1024|mse_loss 65536"
    r"|layer_norm 8192x1024|batch_norm 256x1024|(adamw|sgd_momentum|lion) 1048576)$"
)


def measured(folder: Path, options: argparse.Namespace) -> list[Path]:
    """Runs, one after another."""
    files = [folder / f"{i}.json" for i in range(RUNS)]
    for file in files:
        command = [sys.executable, "-m", "onepass.bench", "--json", str(file)]
        for name in ("only", "threads", "against", "repeat"):
            command += [f"--{name}", str(getattr(options, name))]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"{file.name} is measured", flush=True)
    return files


def slower(content: dict[str, Any]) -> dict[str, Any]:
    """The run, had ours taken a tenth longer."""
    planted = copy.deepcopy(content)
    for result in planted["results"]:
        for label, samples in result.get("samples", {}).items():
            if label.split()[0] == "onepass":
                result["samples"][label] = [PLANTED * seconds for seconds in samples]
    return planted


def report(runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines."""
    for title, change in (("unchanged", lambda run: run), ("10 % slower", slower)):
        found = [
            each
            for old, new in itertools.permutations(runs, 2)
            for each in bench.compare(old, change(new)).changes
        ]
        seen = [each for each in found if each.sees <= TENTH]
        yield f"{title}: {len(found)} comparisons, {_shares(found)}"
        yield f"  where 10 % can be seen: {len(seen)} comparisons, {_shares(seen)}"
    sees = sorted(each.sees for each in found)
    few, half, most = (sees[round(share * (len(sees) - 1))] for share in (0.1, 0.5, 0.9))
    yield f"what can be seen: {half:.0%} in half of them (10-90 %: {few:.0%} to {most:.0%})"
    rows = {each.name for each in found}
    for row in sorted(rows):
        mine = [each.sees for each in found if each.name == row]
        yield f"  {row}: {statistics.median(mine):.0%}"


def _shares(found: Sequence[Change]) -> str:
    count = Counter(each.verdict for each in found)
    return ", ".join(f"{100 * n / len(found):.1f} % {v}" for v, n in count.most_common()) or "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="runs of the same code")
    parser.add_argument("--run", action="store_true", help="make the runs")
    parser.add_argument("--only", default=ROWS, help="with --run: rows that match")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeat", type=int, default=100, help="visits to each row")
    parser.add_argument("--against", default="torch,numpy", help="libraries beside ours")
    options = parser.parse_args()
    if options.run == bool(options.files):
        parser.error("expected --run, or files")
    with tempfile.TemporaryDirectory() as folder:
        files = options.files
        if options.run:
            files = measured(Path(folder), options)
        if len(files) < 2:
            parser.error("expected two files or more")
        runs = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    for line in report(runs):
        print(line)


if __name__ == "__main__":
    main()
