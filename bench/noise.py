"""How often `onepass bench compare` is right: python bench/noise.py RUN.json RUN.json …

The files are runs of the same code. Each pair is compared as it is, where every row ought to be
SAME, and with the samples of ours in the second run times 1.1, where it ought to be SLOWER.
"""

from __future__ import annotations

import copy
import itertools
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from onepass import bench

PLANTED = 1.1


def slower(content: dict[str, Any]) -> dict[str, Any]:
    """The run, had ours taken a tenth longer."""
    planted = copy.deepcopy(content)
    for result in planted["results"]:
        for label, samples in result.get("samples", {}).items():
            if label.split()[0] == "onepass":
                result["samples"][label] = [PLANTED * seconds for seconds in samples]
    return planted


def main(files: list[str]) -> None:
    runs = [json.loads(Path(file).read_text(encoding="utf-8")) for file in files]
    for title, change in (("unchanged", lambda run: run), ("10 % slower", slower)):
        verdicts = Counter(
            found.verdict
            for old, new in itertools.permutations(runs, 2)
            for found in bench.compare(old, change(new)).changes
        )
        count = sum(verdicts.values())
        shares = ", ".join(f"{100 * n / count:.1f} % {v}" for v, n in verdicts.most_common())
        print(f"{title}: {count} comparisons, {shares}")


if __name__ == "__main__":
    main(sys.argv[1:])
