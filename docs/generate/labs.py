"""The gallery: what ``onepass lab`` runs, with the figures that docs/lab has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from generate import docstrings

DOCS = Path(__file__).resolve().parents[1]
CHAPTERS = {
    "optimisation": "Optimisation", "step sizes": "Step sizes",
    "initialisation": "Initialisation", "normalisation": "Normalisation",
    "regularisation": "Regularisation", "dropout": "Dropout",
    "generalisation": "Generalisation", "landscape": "Landscape", "data": "Data",
}  # fmt: skip


def labs() -> list[Any]:
    """All labs of the package, in their order; none where it has no lab."""
    try:
        from onepass import lab
    except ImportError:
        return []
    found = lab.labs()
    return list(found.values()) if isinstance(found, dict) else list(found)


def of_chapter(chapter: str) -> str:
    """The list of a chapter's labs, for the page of that subject."""
    found = [lab for lab in labs() if lab.chapter == chapter]
    if not found:
        return ""
    lines = [f"- [{lab.name}](../lab.md#{lab.name}): {_plain(lab.title)}" for lab in found]
    return "## To see it happen\n\n`onepass lab NAME` runs one.\n\n" + "\n".join(lines)


def page() -> str:
    """The gallery."""
    if not labs():
        return "# The lab\n\nThis version of onepass has no lab.\n"
    parts = [
        "# The lab",
        "Experiments from courses on deep learning. `onepass lab` lists them, `onepass lab NAME` "
        "runs one: it prints its claim, a table and a verdict, and writes one figure.",
    ]
    for chapter in dict.fromkeys(lab.chapter for lab in labs()):
        parts.append(f"## {CHAPTERS.get(chapter, chapter.capitalize())}")
        for lab in labs():
            if lab.chapter == chapter:
                parts += _shown(lab)
    return "\n\n".join(parts) + "\n"


def _shown(lab: Any) -> list[str]:
    parts = [f"### {lab.name}", f"**{_plain(lab.title)}**"]
    parts += [_plain(paragraph) for paragraph in lab.claim.split("\n\n")]
    if (DOCS / "lab" / f"{lab.name}.png").exists():
        parts.append(f"![{lab.name}: the figure](lab/{lab.name}.png)")
    source = "; ".join(lab.sources)
    parts.append(f"`onepass lab {lab.name}`, about {lab.seconds:g} s. {_plain(source)}")
    return parts


def _plain(text: str) -> str:
    return docstrings.inline(" ".join(text.split()), lambda _: None)
