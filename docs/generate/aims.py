"""What kernels are to reach on a GPU, beside what the newest run on one has."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from generate.libraries import table
from generate.results import File, Row


class Aim(NamedTuple):
    """What rows are to reach.

    Attributes:
        rows: a pattern of their names, which has to match the whole.
        dtypes: theirs.
        share: of the rate of a copy, on the fewest bytes.
        ratio: the best time of PyTorch over ours.
        why: the item of docs/findings.md, by its bold words, that says why rows fall short.
        seconds: the longest time.
    """

    rows: str
    dtypes: tuple[str, ...]
    share: float | None
    ratio: float | None
    why: str
    seconds: float | None = None

    def of(self, row: Row) -> bool:
        return row.dtype in self.dtypes and re.fullmatch(self.rows, row.name) is not None

    def shortfall(self, row: Row) -> float:
        """What was reached over the aim, of the aim that is farthest off; 1: all are met."""
        parts = [1.0]
        if self.share is not None:
            parts.append((row.share or 0.0) / self.share)
        if self.ratio is not None:
            parts.append(row.ratio / self.ratio)
        if self.seconds is not None:
            parts.append(self.seconds / row.seconds)
        return min(parts)

    def text(self) -> str:
        parts = []
        if self.share is not None:
            parts.append(f"{self.share:.0%}")
        if self.seconds is not None:
            parts.append(f"{self.seconds * 1e6:g} µs")
        if self.ratio is not None:
            parts.append(f"{self.ratio:g} times PyTorch")
        return ", ".join(parts)


F32, BF16 = ("float32",), ("bfloat16",)
BN = r"bn\+(add\+)?relu fwd\+bwd .*"
AIMS = (
    Aim("adamw 1 tensor of 1 G", F32, 0.92, 1.05, "AdamW of one tensor"),
    Aim(r"adamw 1000 tensors of .*", F32, 0.92, 1.05, "A list of 1,000 tensors"),
    Aim("adamw 1 tensor of 1 G", BF16, 0.88, None, "AdamW of one tensor"),
    Aim(r"clip\+adamw\+zero 1 tensor of 1 G", F32, 0.88, 1.4, "Clipping and zeroing"),
    Aim(r"clip\+adamw\+ema\+zero 1 tensor of 1 G", F32, 0.88, None, "Clipping and zeroing"),
    Aim(r"(rmsprop|adadelta|adamax|nadam|radam) 1 tensor of 1 G", F32, 0.90, 2, "RMSprop"),
    Aim("adamw 120 tensors of 5 M graph", F32, 0.75, 1.5, "120 tensors of 5 M in a graph"),
    Aim("adamw 120 tensors of 0.5 M graph", F32, None, 3, "120 tensors of 5 M in a graph", 10e-6),
    Aim("global_norm 1 G", F32 + BF16, 0.88, 1.1, "The norm of 16-bit gradients"),
    Aim(BN, F32, 0.80, 2, "Batch norm"),
    Aim(BN, BF16, 0.70, 2, "Batch norm"),
    Aim("dropout 1 G", F32, 0.90, 1.15, "Dropout"),
    Aim("dropout 1 G", BF16, 0.85, 1.15, "Dropout"),
    Aim("gelu 1 G", BF16, 0.60, 0.9, "GELU"),
    Aim("cross_entropy 8192x50257", BF16, 0.75, 2.5, "Cross entropy"),
    Aim("cross_entropy 8192x50257", F32, 0.85, 2.5, "Cross entropy"),
    Aim(r"bn\+relu\+dropout fwd 4096x1024 graph", BF16, None, 3, "Small batch norms", 12e-6),
    Aim(r"bn\+relu\+dropout fwd 4096x1024 graph", F32, None, 3, "Small batch norms", 18e-6),
)
HEAD = ("row", "dtype", "floor", "time", "of a copy", "ratio", "aim", "why")
TEXT = """**floor** is the time in which the copy of the same run moves the fewest bytes that a row
needs (a batch norm's as if it read once), **of a copy** that over our time, **ratio** the best time
of PyTorch over ours. What falls short stands first, the farthest first; **why** leads to the
reason."""


def reached(file: File) -> list[tuple[float, Aim, Row]]:
    """(shortfall, aim, row) of each row of a GPU that has an aim, the farthest off first."""
    found = [(aim.shortfall(row), aim, row) for aim in AIMS for row in file.rows if aim.of(row)]
    return sorted(found, key=lambda each: each[0])


def section(file: File, time: Callable[[float], str], anchor: str) -> list[str]:
    """The parts of the page that tell of a run: a heading, words and a table."""
    found = reached(file)
    met = sum(share >= 1 for share, *_ in found)
    lines = []
    for share, aim, row in found:
        floor = time(row.share * row.seconds) if row.share else ""
        why = "" if share >= 1 else f"[{aim.why}](findings.md#{anchor})"
        lines.append((
            row.name, row.dtype, floor, time(row.seconds), f"{row.share:.0%}" if row.share else "",
            f"{row.ratio:.2f}" if row.rival else "", aim.text(), why,
        ))  # fmt: skip
    absent = [aim for aim in AIMS if not any(aim is of for _, of, _ in found)]
    words = f"{met} of {len(found)} rows have what they aim at."
    if absent:
        names = [f"`{aim.rows}` ({', '.join(aim.dtypes)})".replace("\\", "") for aim in absent]
        words += f" Not measured: {', '.join(names)}."
    return [f"### {file.title}, {file.date}, and its aims", words, table(HEAD, lines)]
