"""Messages of the C++ sources, found in the text of the calls that raise them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

RAISES = re.compile(r"\b(value_error|type_error|index_error|runtime_error)\s*\(")
LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
ERRORS = {
    "value_error": "ValueError", "type_error": "TypeError", "index_error": "IndexError",
    "runtime_error": "RuntimeError",
}  # fmt: skip


def of_cpp(folder: Path) -> Iterator[tuple[str, str, Path, int]]:
    """(error, text, file, line) of each call in a folder."""
    for path in sorted(folder.iterdir()):
        source = path.read_text(encoding="utf-8")
        for found in RAISES.finditer(source):
            call = _call(source, found.end() - 1)
            if not LITERAL.search(call):
                continue
            line = source.count("\n", 0, found.start()) + 1
            yield ERRORS[found[1]], _text_of(call), path, line


def _call(source: str, start: int) -> str:
    """From one parenthesis to the one that closes it."""
    depth, inside = 0, False
    for at in range(start, len(source)):
        sign = source[at]
        if sign == '"' and source[at - 1] != "\\":
            inside = not inside
        depth += 0 if inside else (sign == "(") - (sign == ")")
        if depth == 0:
            return source[start : at + 1]
    return source[start:]


def _text_of(call: str) -> str:
    """The literals of a call, with … for what is between them."""
    literals = list(LITERAL.finditer(call))
    _, comma, rest = call[1 : literals[0].start()].partition(",")
    text = "…" if not comma else f"{{op}}: {'…' if rest.strip() else ''}"
    for before, literal in zip([None, *literals], literals, strict=False):
        between = call[before.end() if before else 0 : literal.start()]
        if before is not None and between.strip():
            text += "…"
        text += literal[1].replace('\\"', '"').replace("\\n", " ")
    tail = call[literals[-1].end() : -1]
    return " ".join((text + ("…" if "+" in tail else "")).split())
