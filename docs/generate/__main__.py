"""Builds the site, by Sphinx whose warnings are errors; python docs/generate --help."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
sys.path[0] = str(DOCS)  # this folder itself would hide modules of the same names


def main(folder: str, run_labs: bool = False) -> int:
    from sphinx.cmd.build import build_main

    from generate import sources

    target = Path(folder)
    if target.exists() and any(target.iterdir()) and not (target / "searchindex.js").exists():
        print(
            f"{target} has other files, expected a new folder or an earlier site", file=sys.stderr
        )
        return 2
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as pages:
        sources(Path(pages), run_labs)
        options = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(DOCS)]
        status = build_main([*options, "-d", f"{pages}/.doctrees", pages, str(target)])
    if status == 0:
        print(f"the site is in {target / 'index.html'}")
    return status


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's; a folder or --performance."""
    parser = argparse.ArgumentParser(
        prog="python docs/generate", description="Build the documentation site.", allow_abbrev=False
    )
    add = parser.add_argument
    add("folder", nargs="?", metavar="FOLDER", help="new, or an earlier site, which it replaces")
    add("--labs", action="store_true", help="run every lab, for its figure")
    add("--performance", action="store_true",
        help="build nothing, and write docs/performance.md from bench/results")  # fmt: skip
    options = parser.parse_args(arguments)
    if options.performance == (options.folder is not None) or options.performance & options.labs:
        parser.error("expected a FOLDER, or --performance alone")
    return options


if __name__ == "__main__":
    options = parsed()
    if options.performance:
        from generate import performance

        sys.exit(performance.write())
    sys.exit(main(options.folder, options.labs))
