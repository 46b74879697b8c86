"""Every error message of the sources, and the one that a program has printed.

What stands for a value is ``…`` or the name of the variable in braces. Messages that differ only in
these names are one, with several sources.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from generate.messages_cpp import of_cpp
from generate.messages_python import of_python

ROOT = Path(__file__).resolve().parents[2]
# The folder of a source → the title of its group, and what a reader of a message knows it by.
GROUPS = {
    "bind": "Arrays and options, as kernels check them",
    "ops": "onepass.ops", "optim": "onepass.optim", "nn": "onepass.nn", "data": "onepass.data",
    "train": "onepass.train", "runs": "onepass.runs and the command line",
    "cli": "onepass.runs and the command line", "torch": "onepass.torch", "lab": "onepass.lab",
    "bench": "onepass.bench",
    "": "Numbers, words, paths, threads: in every part",
}  # fmt: skip
PLACE = re.compile(r"\{[^{}]*\}|…")  # of a value
PLACES = re.compile(rf"({PLACE.pattern})+")  # of values beside each other
SHORT = 2  # words that a message needs to be worth an entry


class Message(NamedTuple):
    """A message as its sources build it.

    Attributes:
        errors: the classes, such as ValueError, or "warning".
        text: with ``{name}`` or ``…`` in the place of each value.
        sources: files and lines.
        group: the title that it stands under.
        anchor: of its place on the page.
    """

    errors: tuple[str, ...]
    text: str
    sources: tuple[str, ...]
    group: str
    anchor: str

    @property
    def literals(self) -> list[str]:
        """The words that are the same each time, between the values."""
        return PLACE.split(self.text)

    def matches(self, said: str) -> bool:
        """Whether `said` can be this message with its values."""
        return re.fullmatch(".*?".join(map(re.escape, self.literals)), said, re.S) is not None


@cache
def messages() -> tuple[Message, ...]:
    """All of them, each once."""
    found: dict[str, list[tuple[str, str, Path, int]]] = {}
    sources = (of_python(ROOT / "python" / "onepass"), of_cpp(ROOT / "csrc" / "bind"))
    for entry in (entry for of in sources for entry in of):
        if len(re.findall(r"[A-Za-z']{2,}", re.sub(r"\{[^{}]*\}", "", entry[1]))) >= SHORT:
            found.setdefault(PLACES.sub("…", entry[1]), []).append(entry)
    taken: dict[str, int] = {}
    return tuple(_message(entries, taken) for entries in found.values())


def _message(entries: list[tuple[str, str, Path, int]], taken: dict[str, int]) -> Message:
    _, text, path, _ = entries[0]
    words = re.findall(r"[a-z0-9_]+", PLACE.sub(" ", text).lower())
    slug = "-".join(["e", *words[:8]])
    taken[slug] = taken.get(slug, 0) + 1
    return Message(
        errors=tuple(dict.fromkeys(error for error, *_ in entries)),
        text=text,
        sources=tuple(f"{p.relative_to(ROOT).as_posix()}:{line}" for *_, p, line in entries),
        group=GROUPS[_folder(path.relative_to(ROOT))],
        anchor=slug if taken[slug] == 1 else f"{slug}-{taken[slug]}",
    )


def _folder(place: Path) -> str:
    if place.parts[0] == "csrc":
        return place.parts[1]
    return place.parts[2] if len(place.parts) > 3 else ""


def message_of(said: str) -> Message | None:
    """The message that a program has printed: of those that fit, the one of most words."""
    fitting = [message for message in messages() if message.matches(said)]
    return max(fitting, key=lambda message: len("".join(message.literals)), default=None)
