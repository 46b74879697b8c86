"""Builds the site: python docs/generate [--labs] FOLDER. Sphinx's warnings are errors.

python docs/generate --performance writes docs/performance.md from bench/results.
"""

from __future__ import annotations

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


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments == ["--performance"]:
        from generate import performance

        sys.exit(performance.write())
    run_labs = "--labs" in arguments
    folders = [argument for argument in arguments if argument != "--labs"]
    if len(folders) != 1:
        sys.exit("usage: python docs/generate [--labs] FOLDER, or --performance")
    sys.exit(main(folders[0], run_labs))
