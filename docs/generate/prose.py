"""The pages that people write: copied into the site, their links made those of the site."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from generate import accuracy, docstrings, labs, libraries, messages_page, names, reference

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Files that stand elsewhere in the repository, and their pages.
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "bench/README.md": "bench.md",
    "csrc/README.md": "inside/csrc.md",
    "csrc/cpu/README.md": "inside/cpu.md",
    "csrc/kernels/README.md": "inside/kernels.md",
    "python/README.md": "inside/python.md",
}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
MARK = re.compile(r"^<!-- generated: (\w+) ?([^>]*?) ?-->$", re.M)
NAMED = re.compile(
    r"`((?:onepass|optim|ops|nn|train|data|runs|config|lab|bench|sklearn)\.[\w.]+)(?:\(\))?`"
)
FENCE = re.compile(r"^(`{3,}).*?^\1\s*$", re.M | re.S)


def pages() -> dict[str, str]:
    """Path in the repository → path in the site."""
    own = {
        path.relative_to(ROOT).as_posix(): path.relative_to(DOCS).as_posix()
        for path in sorted(DOCS.rglob("*.md"))
    }
    return own | ELSEWHERE


def write(target: Path) -> None:
    """Copies them, and the images that they show."""
    for source, page in pages().items():
        path = target / page
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / source).read_text(encoding="utf-8")
        path.write_text(_with_links(_filled(text), source, page), encoding="utf-8")
    for image in DOCS.glob("*.svg"):
        (target / image.name).write_bytes(image.read_bytes())


def _filled(text: str) -> str:
    """Marks ``<!-- generated: compat keras -->`` replaced by what they name."""
    makers: dict[str, Callable[[str], str]] = {
        "accuracy": lambda _: accuracy.table(),
        "links": lambda _: reference.links(),
        "contents": lambda _: reference.contents(),
        "compat": libraries.of_library,
        "labs": labs.of_chapter,
        "messages": lambda _: messages_page.section(cures(text)),
        "svg": lambda name: f"```{{raw}} html\n{(DOCS / name).read_text(encoding='utf-8')}\n```",
    }
    return MARK.sub(lambda found: makers[found[1]](found[2]), text)


def cures(text: str) -> list[tuple[str, str]]:
    """(message as printed, slug of the heading above it) of the page on troubleshooting."""
    found = []
    for part in re.split(r"^(?=## )", text, flags=re.M):
        title = re.match(r"## (.*)", part)
        for output in re.findall(r"```text\n(.*?)```", part, re.S) if title else ():
            found += (
                [(line, docstrings.slug(title[1])) for line in output.splitlines()] if title else []
            )
    return found


def _with_links(text: str, source: str, page: str) -> str:
    """Links to files of the repository lead to their pages, or become plain text; names in
    backticks lead to theirs."""
    known = pages()
    label_of = names.link("onepass")

    def moved(found: re.Match[str]) -> str:
        image, words, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path, _, anchor = target.partition("#")
        place = os.path.normpath(os.path.join(os.path.dirname(source), path))
        if place in known:
            target = os.path.relpath(known[place], os.path.dirname(page) or ".")
            return f"[{words}]({target}{'#' + anchor if anchor else ''})"
        inside = (ROOT / place).exists() and not place.startswith("docs/")
        return words if inside and not image else found[0]

    def named(found: re.Match[str]) -> str:
        label = label_of(found[1])
        return found[0] if label is None else f"[{found[0]}](#{label})"

    def prose(part: str) -> str:
        pieces, at = [], 0
        for link in LINK.finditer(part):
            pieces += [NAMED.sub(named, part[at : link.start()]), moved(link)]
            at = link.end()
        return "".join([*pieces, NAMED.sub(named, part[at:])])

    parts, at = [], 0
    for fence in FENCE.finditer(text):
        parts += [prose(text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, prose(text[at:])])
