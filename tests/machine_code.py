"""Reads what nvdisasm -c prints of a kernel: its loops, and how many instructions a turn takes.

A turn is a path through the loop. Of the paths that are wanted, those that meet some instructions
(the loads of all arrays, say) and avoid others (the conversions of another dtype), the shortest
counts.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

LABEL = re.compile(r"\s*(\.L_[\w.]+):")
INSTRUCTION = re.compile(
    r"/\*[0-9a-f]{4,}\*/\s+(?P<guard>@!?U?P\w+\s+)?(?P<name>[A-Z][A-Z0-9_.]*)(?P<rest>[^;]*);"
)
TARGET = re.compile(r"`\((\.L_[\w.]+)\)")


class Instruction(NamedTuple):
    name: str
    guarded: bool  # a predicate decides whether it runs
    target: str | None  # of a branch
    called: str  # what a call names


class Loop:
    """Instructions from `first` to the branch back at `last`."""

    def __init__(self, code: Code, first: int, last: int) -> None:
        self.code, self.first, self.last = code, first, last

    def __len__(self) -> int:
        return self.last - self.first + 1

    def inside(self, other: Loop) -> bool:
        return other.first <= self.first and self.last <= other.last

    def count(self, pattern: str) -> int:
        """How many instructions of the loop have such a name."""
        return sum(bool(re.match(pattern, i.name)) for i in self._body())

    def calls(self, pattern: str) -> int:
        """How many calls of the loop name such a function."""
        return sum(bool(re.search(pattern, i.called)) for i in self._body())

    def _body(self) -> list[Instruction]:
        return self.code.instructions[self.first : self.last + 1]

    def turn(self, met: Mapping[str, int], avoided: str = "(?!)") -> int | None:
        """The fewest instructions from the top to the branch back, over at least so many of each
        of ``met`` and none of ``avoided``; None where no path is like that."""
        patterns = list(met)
        wanted = tuple(met.values())
        # Only forward: where an instruction is reached, and what was met on the way.
        reached: dict[int, dict[tuple[int, ...], int]] = collections.defaultdict(dict)
        reached[self.first] = {(0,) * len(wanted): 0}
        for at in range(self.first, self.last + 1):
            here = self.code.instructions[at]
            if at not in reached or (re.match(avoided, here.name) and not here.guarded):
                continue
            hits = [bool(re.match(p, here.name)) for p in patterns]
            for state, steps in reached.pop(at).items():
                after = tuple(min(n + h, w) for n, h, w in zip(state, hits, wanted, strict=True))
                if at == self.last:
                    reached[-1][after] = min(steps + 1, reached[-1].get(after, steps + 1))
                    continue
                for target in self.code.after(at):
                    if at < target <= self.last:
                        known = reached[target].get(after, steps + 1)
                        reached[target][after] = min(steps + 1, known)
        return reached[-1].get(wanted)


class Code:
    def __init__(self, lines: Iterable[str]) -> None:
        self.instructions: list[Instruction] = []
        self._labels: dict[str, int] = {}
        for line in lines:
            if found := LABEL.match(line):
                self._labels[found[1]] = len(self.instructions)
            elif found := INSTRUCTION.search(line):
                target = TARGET.search(found["rest"])
                guard = found["guard"] is not None or re.match(r"\s+!?U?P\d,", found["rest"])
                self.instructions.append(
                    Instruction(
                        found["name"],
                        bool(guard),
                        target[1] if target else None,
                        found["rest"] if found["name"].startswith("CALL") else "",
                    )
                )

    def after(self, at: int) -> Iterator[int]:
        """Where the program may go on after an instruction."""
        here = self.instructions[at]
        jumps = here.name.split(".")[0] in ("BRA", "BRX", "JMP")
        if jumps and here.target in self._labels:
            yield self._labels[here.target]
        ends = jumps or here.name.split(".")[0] in ("EXIT", "RET")
        if here.guarded or not ends:
            yield at + 1

    def loops(self) -> list[Loop]:
        """All of them, each with those inside it."""
        found = []
        for at, here in enumerate(self.instructions):
            if here.name.startswith("BRA") and here.target in self._labels:
                first = self._labels[here.target]
                if first < at:
                    found.append(Loop(self, first, at))
        return found
