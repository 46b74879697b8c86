"""The gallery: every lab, and what each has shown where the site is built with ``--labs``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onepass import lab

from generate import docstrings

CHAPTERS = {chapter: chapter.capitalize() for chapter in lab.CHAPTERS}


def labs() -> list[Any]:
    """All labs of the package, in their order."""
    return list(lab.experiments())


def run(folder: Path) -> None:
    """Run every lab, which takes some minutes, and keep its figure in the folder.

    Raises:
        SystemExit: a claim does not hold.
    """
    failed = []
    for entry in labs():
        print(f"onepass lab {entry.name}", flush=True)
        if not lab.run(entry.name, out=folder).holds:
            failed.append(entry.name)
    if failed:
        raise SystemExit(f"the claim does not hold: {', '.join(failed)}")


def of_chapter(chapter: str) -> str:
    """The list of a chapter's labs, for the page of that subject."""
    found = [entry for entry in labs() if entry.chapter == chapter]
    if not found:
        return ""
    lines = [f"- [{e.name}](../lab.md#{e.name}): {_plain(e.title)}" for e in found]
    return "## To see it happen\n\n`onepass lab NAME` runs one.\n\n" + "\n".join(lines)


def page(figures: Path) -> str:
    """The gallery, with the figures of this folder."""
    parts = [
        "# The lab",
        "Experiments from courses on deep learning. `onepass lab` lists them, `onepass lab NAME` "
        "runs one: it prints its claim, a table and a verdict, and writes one figure.",
    ]
    if not figures.exists():
        parts.append("This site was built without their figures: `scripts/docs --labs` has them.")
    for chapter in dict.fromkeys(entry.chapter for entry in labs()):
        parts.append(f"## {CHAPTERS[chapter]}")
        for entry in labs():
            if entry.chapter == chapter:
                parts += _shown(entry, figures)
    return "\n\n".join(parts) + "\n"


def _shown(entry: Any, figures: Path) -> list[str]:
    parts = [f"### {entry.name}", f"**{_plain(entry.title)}**"]
    parts += [_plain(paragraph) for paragraph in entry.claim.split("\n\n")]
    if (figures / f"{entry.name}.png").exists():
        parts.append(f"![{entry.name}: the figure]({figures.name}/{entry.name}.png)")
    source = "; ".join(entry.sources)
    parts.append(f"`onepass lab {entry.name}`, about {entry.seconds:g} s. {_plain(source)}")
    return parts


def _plain(text: str) -> str:
    return docstrings.inline(" ".join(text.split()), lambda _: None)
