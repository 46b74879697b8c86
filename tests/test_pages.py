"""Every block of code of the README and of docs/ runs and prints what the page says."""

from __future__ import annotations

import re

import pages
import pytest

RUN = [page for page in pages.PAGES if not pages.needs(page, "cupy")]  # those: test_device.py
# Lines that no test runs: they install, measure, or make what other tests make.
RUN_ELSEWHERE = re.compile(
    r'(ONEPASS_CUDA=\w+ )?pip install (--[\w-]+ )*[\w".\[\],-]+$'
    r"|(scripts/\w+|python bench/\w+\.py)( [\w-]+)*( +#.*)?$"
)
BUILT = ("docs/index.md",)  # {toctree} and other directives of the site


@pytest.mark.parametrize("page", RUN)
def test_it_runs_and_prints_what_it_says(page, tmp_path, monkeypatch) -> None:
    pages.skip_without(page)
    monkeypatch.chdir(tmp_path)
    pages.run(page)


@pytest.mark.parametrize("page", [page for page in pages.PAGES if page.startswith("docs/")])
def test_no_block_is_left_out(page) -> None:
    for block in pages.blocks((pages.ROOT / page).read_text(encoding="utf-8")):
        if block.language == "sh":
            for line in block.code.splitlines():
                assert RUN_ELSEWHERE.match(line), (
                    f"{page}: {line!r} is neither run nor an installation"
                )
                script = re.match(r"(?:python )?((?:scripts|bench)/[\w.]+)", line)
                assert script is None or (pages.ROOT / script[1]).is_file()
        else:
            known = ("python", "console") + ("{toctree}",) * (page in BUILT)
            assert block.language in known, f"{page}: no test runs a block of {block.language!r}"


def test_the_readme_has_examples_with_what_they_print() -> None:
    text = (pages.ROOT / "README.md").read_text(encoding="utf-8")
    assert sum(block.prints is not None for block in pages.blocks(text)) >= 2


def test_a_page_that_prints_something_else_is_seen(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("```python\na = 1\n```\n\nand\n\n```python\nprint(a)\n```\n\n```text\n1\n```\n")
    assert pages.run("page.md") == 2
    page.write_text(page.read_text().replace("text\n1", "text\n2"))
    with pytest.raises(AssertionError, match="it prints\n1"):
        pages.run("page.md")
