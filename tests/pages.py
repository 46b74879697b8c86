"""Runs what the pages say: their Python, their commands, and what these print."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from onepass import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md"] + [
    path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))
]


class Block(NamedTuple):
    """A block of code, and what it prints where the page says that."""

    language: str
    code: str
    prints: str | None


def blocks(text: str) -> list[Block]:
    """The blocks of a page; what it prints is the block right behind it, ``text`` or unnamed."""
    fences = list(re.finditer(r"^```([^\n`]*)\n(.*?)^```$", text, re.M | re.S))
    found, printed = [], set()
    for i, fence in enumerate(fences):
        if i in printed:
            continue
        prints = None
        after = fences[i + 1] if i + 1 < len(fences) else None
        behind = after is not None and not text[fence.end() : after.start()].strip()
        if fence[1] == "python" and behind and after[1] in ("", "text"):
            prints = after[2]
            printed.add(i + 1)
        found.append(Block(fence[1], fence[2], prints))
    return found


def run(page: str) -> int:
    """Runs all blocks of a page in one namespace, in the working directory; returns how many."""
    names: dict[str, object] = {"__name__": "__main__"}
    done = 0
    for block in blocks((ROOT / page).read_text(encoding="utf-8")):
        if block.language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(block.code, page, "exec"), names)
            if block.prints is not None:
                assert printed.getvalue() == block.prints, (
                    f"{page}: it prints\n{printed.getvalue()}"
                )
            done += 1
        elif block.language == "console":
            for line in block.code.splitlines():
                _command(page, line)
            done += 1
    return done


def _command(page: str, line: str) -> None:
    """One line of a console: ``$ onepass …``."""
    words = shlex.split(line.removeprefix("$ "))
    assert line.startswith("$ onepass "), f"{page}: {line!r} cannot be run"
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = cli.main(words[1:])
    assert status == 0, f"{page}: {line}: {said.getvalue()}"


def needs(page: str, module: str) -> bool:
    """Whether a page imports a module."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return (
        re.search(rf"^(?:import|from) {module}\b|onepass\.{module} import", text, re.M) is not None
    )


def skip_without(page: str) -> None:
    """Skips where a package is missing that the page needs."""
    for module in ("torch", "jax", "optax", "sklearn"):
        wanted = needs(page, module) or (
            module == "sklearn" and 'load("' in (ROOT / page).read_text()
        )
        if wanted and find_spec(module) is None:
            pytest.skip(f"{page} needs {module}")
