"""The sources of the documentation site: what people wrote, and what follows from the code."""

from __future__ import annotations

from pathlib import Path


def sources(target: Path) -> None:
    """Writes all pages of the site, as Markdown for Sphinx, into an empty folder."""
    from generate import figures, labs, performance, prose, reference

    prose.write(target)
    reference.write(target)
    figures.overviews(target / "figures")
    (target / "speed.md").write_text(performance.page(), encoding="utf-8")
    (target / "lab.md").write_text(labs.page(), encoding="utf-8")
