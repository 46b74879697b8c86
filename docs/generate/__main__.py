"""Builds the site: python docs/generate FOLDER. Sphinx's warnings are errors."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
sys.path[0] = str(DOCS)  # this folder itself would hide modules of the same names


def main(folder: str) -> int:
    from sphinx.cmd.build import build_main

    from generate import sources

    target = Path(folder)
    pages = target.with_name(f"{target.name}-pages")
    for path in (target, pages):
        shutil.rmtree(path, ignore_errors=True)
    pages.mkdir(parents=True)
    sources(pages)
    options = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(DOCS)]
    status = build_main([*options, "-d", f"{pages}/.doctrees", str(pages), str(target)])
    if status == 0:
        print(f"the site is in {target / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
