"""The sources of the documentation site: what people wrote, and what follows from the code."""

from __future__ import annotations

from pathlib import Path


def sources(target: Path, run_labs: bool = False) -> None:
    """Writes all pages of the site, as Markdown for Sphinx, into an empty folder.

    Args:
        run_labs: run every lab, for its figure.
    """
    from generate import figures, labs, prose, reference

    prose.write(target)
    reference.write(target)
    figures.overviews(target / "figures")
    if run_labs:
        labs.run(target / "lab")
    (target / "lab.md").write_text(labs.page(target / "lab"), encoding="utf-8")
