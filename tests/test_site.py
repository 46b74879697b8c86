"""The documentation site: it builds without a warning, offline, and every name has its place.

docs/generate writes its pages; test_pages.py runs the code of those that people wrote.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import os
import posixpath
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import onepass
import pytest
from onepass.bench import _peers, _rows
from onepass.bench._row import GROUPS, Context
from onepass.ops._compat import COMPAT
from public_names import public_packages

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))

from generate import (  # noqa: E402
    accuracy,
    aims,
    counterparts,
    figures,
    labs,
    messages,
    names,
    paths,
    performance,
    prose,
    results,
)


class Page(HTMLParser):
    """What a page links to, what it loads, and the places that links can lead to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.images: list[str | None] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        article = re.search(r"<article.*?</article>", self.text, re.S)
        self.own_links = re.findall(r'<a [^>]*href="([^"]+)"', article[0] if article else "")

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        of = dict(attributes)
        self.ids |= {of[key] for key in ("id", "name") if of.get(key)}
        if tag == "a" and of.get("href"):
            self.links.append(of["href"])
        elif tag == "link" and of.get("rel") not in ("canonical",) and of.get("href"):
            self.loaded.append(of["href"])
        elif of.get("src"):
            self.loaded.append(of["src"])
        if tag == "img":
            self.images.append(of.get("alt"))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    for module in ("sphinx", "myst_parser", "furo", "matplotlib"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install '.[test]'")
    command = [sys.executable, str(ROOT / "docs" / "generate")]
    kept = os.environ.get("ONEPASS_TEST_SITE")  # whose figures take some minutes
    target = Path(kept) if kept else tmp_path_factory.mktemp("docs") / "site"
    command += [*["--labs"] * bool(kept), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(scope="module")
def built(site) -> dict[str, Page]:
    return {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html")}


def test_a_folder_with_other_files_is_left_alone(tmp_path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    command = [sys.executable, str(ROOT / "docs" / "generate"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout
    assert f"{tmp_path} has other files, expected a new folder" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_every_public_name_has_its_page(built) -> None:
    known = {name.full: name for name in names.names()}
    packages = [onepass.ops, *public_packages()]
    if find_spec("torch") is not None:
        packages += [import_module(package) for package in names.FRONT]
    for package in packages:
        for public in package.__all__:
            if inspect.ismodule(getattr(package, public)):
                continue
            name = known.get(f"{package.__name__}.{public}")
            assert name is not None, (
                f"docs/generate/names.py has no page for {package.__name__}.{public}"
            )
            assert name.label in built[f"{name.page}.html"].ids, f"{name.full} has no heading"
            assert f'href="{name.page}.html#{name.label}"' in built["names.html"].text


def test_every_link_leads_somewhere(built, site) -> None:
    broken = []
    for path, page in built.items():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = path if not parts.path else (site / path).parent.joinpath(unquote(parts.path))
            if parts.path:
                if not target.exists():
                    broken.append((path, link))
                    continue
                target = target.resolve().relative_to(site.resolve()).as_posix()
            if parts.fragment and target in built and parts.fragment not in built[target].ids:
                broken.append((path, link))
    assert not broken, broken[:20]


def test_no_page_loads_anything_from_elsewhere(built, site) -> None:
    for path, page in built.items():
        remote = [link for link in page.loaded if urlsplit(link).scheme or link.startswith("//")]
        assert not remote, f"{path} loads {remote}"
        assert all(page.images), f"{path} has an image without words for it"
    for path in site.rglob("*.css"):
        found = re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)\"']*", path.read_text())
        assert not found, f"{path.name} loads {found}"


def test_no_page_shows_its_markup(built) -> None:
    """A role, directive or link that was not understood stands in the text as it was written."""
    for path, page in built.items():
        text = re.sub(r"<(pre|script|style|code)\b.*?</\1>", "", page.text, flags=re.S)
        text = re.sub(r"<[^>]+>", "", text)
        found = re.findall(r":(?:func|class|meth|mod|any):|\{\w+\}`|```|:::|\]\(|&lt;!--", text)
        assert not found, f"{path}: {found}"


def links_of(built: dict[str, Page], path: str) -> set[tuple[str, str]]:
    """(page, anchor) that the text of a page leads to, without its navigation."""
    found = set()
    for link in built[path].own_links:
        parts = urlsplit(link)
        if not parts.scheme:
            to = (
                posixpath.join(posixpath.dirname(path), unquote(parts.path)) if parts.path else path
            )
            found.add((posixpath.normpath(to), parts.fragment))
    return found


def test_a_reader_is_two_clicks_away_from_every_subject_and_experiment(built) -> None:
    """By the text of the pages alone: the chapters of the labs are those of a course."""
    text = built["index.html"].text.partition("<article")[2].partition("</article>")[0]
    titles = dict(re.findall(r'href="(topics/[\w-]+\.html)"><span[^>]*>(.*?)</span>', text))
    assert set(titles.values()) == set(labs.CHAPTERS.values())
    assert {lab.chapter for lab in labs.labs()} == set(labs.CHAPTERS)
    first = links_of(built, "index.html")
    near = {link for page, _ in first if page in built for link in links_of(built, page)} | first
    for lab in labs.labs():
        assert ("lab.html", lab.name) in near, f"{lab.name} is more than two clicks away"
    for page in names.pages():
        assert f"{page}.html" in {to for to, _ in near}, f"{page} is more than two clicks away"
    for chapter, title in labs.CHAPTERS.items():
        (topic,) = (page for page, shown in titles.items() if shown == title)
        own = {anchor for page, anchor in links_of(built, topic) if page == "lab.html"}
        assert own == {lab.name for lab in labs.labs() if lab.chapter == chapter}, topic


# What a reader of each chapter has in mind, and the page with it.
IN_MIND = {
    "topics/optimisation": ["optimizers/sgd", "optimizers/adam", "optimizers/lbfgs"],
    "topics/step-sizes": ["schedules/onecyclelr", "schedules/steplr", "training/lrfinder"],
    "topics/initialisation": ["initialisation/all"],
    "topics/normalisation": ["norms/batchnorm", "norms/layernorm", "norms/weightnorm"],
    "topics/regularisation": ["regularizers/l2", "losses/crossentropy", "topics/dropout"],
    "topics/dropout": ["dropout/dropout", "dropout/alphadropout"],
    "topics/generalisation": ["training/earlystopping", "training/ensemble"],
    "topics/landscape": ["optimizers/newton", "layers/gradcheck"],
    "topics/data": ["data/readtable", "data/whiten", "augmentation/index"],
}  # fmt: skip


def test_each_chapter_leads_to_what_its_reader_has_in_mind(built) -> None:
    for chapter, wanted in IN_MIND.items():
        led = {page for page, _ in links_of(built, f"{chapter}.html")}
        for page in wanted:
            assert f"{page}.html" in led, f"docs/{chapter}.md has no link to {page}"


OF_STATES = {f"optim.{name}" for name in onepass.optim.__all__ if name[0].isupper()}
OF_STATES -= {"optim.Optimizer", "optim.StepInfo"}


def test_pages_of_formulas_have_what_a_reader_looks_for(built) -> None:
    for page, entries in names.pages().items():
        text = built[f"{page}.html"].text
        kind = page.partition("/")[0]
        if kind in ("activations", "norms", "losses", "dropout") and any(
            name.full.startswith("onepass.ops.") and name.short[4].islower() for name in entries
        ):
            assert "Bytes read and written" in text, page
        if (
            kind in ("optimizers", "activations", "norms", "losses")
            and page != "optimizers/stepinfo"
        ):
            assert 'class="lead' in text, page
        if entries[0].short in OF_STATES:
            assert "Memory that it keeps" in text, page


# Pages of tools, bases and results, with nothing to compare.
NOT_COMPARED = {
    "norms/convertsyncbatchnorm",
    "activations/activation", "norms/foldbatchnorm", "norms/updatebatchnorm",
    "optimizers/globalnorm", "optimizers/paramgroups", "optimizers/stepinfo",
}  # fmt: skip


def test_every_page_of_a_formula_says_what_pytorch_has(built) -> None:
    pytest.importorskip("torch")
    pages = [page for page in names.pages() if page.partition("/")[0] in counterparts.MODULES]
    bare = {
        page for page in pages if "Beside PyTorch and the paper" not in built[f"{page}.html"].text
    }
    assert bare == NOT_COMPARED


def test_a_counterpart_is_described_by_what_its_signature_has() -> None:
    class Ours:
        def __init__(self, lr, dim, eps=1e-8, clip=0) -> None: ...

    class Theirs:
        def __init__(self, lr=0.1, dim=None, eps=1e-6, amsgrad=False, foreach=None) -> None: ...

    assert counterparts._compared(Ours, Theirs, "torch.Theirs") == (
        "Its counterpart is `torch.Theirs`, with other defaults; `lr` has none here, `dim` has "
        "none here, `eps=1e-08`, there `1e-06`; options that it lacks: `clip`; options that are "
        "not here: `amsgrad`."
    )
    assert counterparts._compared(Ours, Ours, "torch.Ours") == (
        "Its counterpart is `torch.Ours`, with the same defaults."
    )


# Pages of formulas with nothing to draw.
NOT_DRAWN = {
    "norms/convertsyncbatchnorm",
    "optimizers/globalnorm", "optimizers/paramgroups", "optimizers/stepinfo",
    "schedules/lrscheduler", "schedules/reducelronplateau",
}  # fmt: skip


def test_every_page_of_a_formula_has_a_figure(built) -> None:
    kinds = ("optimizers", "schedules", "activations", "norms", "losses")
    pages = [page for page in names.pages() if page.partition("/")[0] in kinds]
    bare = {page for page in pages if '<img alt="' not in built[f"{page}.html"].text}
    assert bare == NOT_DRAWN, (
        "docs/generate: a norm has its figure by BLOCKS of blocks.py, an optimizer by SETTINGS of "
        "paths.py, a loss or activation by figures.py"
    )


def test_every_optimizer_descends_in_its_figure() -> None:
    for cls in paths.optimizers():
        points = paths.trace(cls, paths.settings(cls))
        assert points.shape == (paths.STEPS + 1, 2)
        for along, (low, high) in zip(points.T, (paths.WIDE, paths.HIGH), strict=True):
            assert ((low < along) & (along < high)).all(), f"{cls} leaves its figure"
        first, last = (paths.loss(point)[0] for point in points[[0, -1]])
        assert last < first / 4, f"docs/generate/paths.py: SETTINGS lacks a rate for {cls}"
    assert set(paths.SETTINGS) <= {cls.__name__ for cls in paths.optimizers()}


def test_every_activation_and_schedule_is_drawn(built, site) -> None:
    for page, entries in names.pages().items():
        last = entries[0].short.rpartition(".")[2]
        if page.startswith("schedules/") and last not in figures.NO_RATES:
            assert last in figures.SCHEDULES, f"docs/generate/figures.py: SCHEDULES lacks {last}"
            assert f"{last}.svg" in built[f"{page}.html"].text
    for name in figures._elementwise():
        page = next(n.page for n in names.names() if n.full == f"onepass.ops.{name}")
        assert f"{name}.svg" in built[f"{page}.html"].text
    assert len(list((site / "_images").glob("*.svg"))) > len(figures.SCHEDULES)


def test_other_libraries_have_every_row_of_the_packages_own_data(built) -> None:
    of_library = {"chainer": "chainer-thinc", "thinc": "chainer-thinc"}
    for kernel, known in COMPAT.items():
        for library in set(known) - {"torch"}:
            page = built[f"coming/{of_library.get(library, library)}.html"]
            assert re.search(rf"optimizers/{kernel}\.html#onepass-optim-{kernel}", page.text), (
                f"the page on {library} lacks {kernel}"
            )


def test_rows_that_we_lose_stand_first(built) -> None:
    text = built["performance.html"].text
    first = text.partition('id="rows-behind-a-rival"')[2].partition('id="aims-on-a-gpu"')[0]
    tables = re.findall(r"<tbody>(.*?)</tbody>", first, re.S)
    found = [[float(cell) for cell in re.findall(r"<tr[^>]*>\s*<td>(?:<p>)?([\d.]+)", rows)]
             for rows in tables]  # fmt: skip
    lost = [[row.ratio for row in file.slower] for file in results.files() if file.slower]
    assert [len(rows) for rows in found] == [len(rows) for rows in lost]
    assert all(rows == sorted(rows) for rows in found)
    whole = text.partition('id="all-rows"')[2]
    assert whole.count("<tr>") - whole.count("<details>") == sum(
        len(file.rows) for file in results.files()
    )


def test_the_page_of_measurements_is_what_the_results_say() -> None:
    made = performance.figures() | {"performance.md": performance.page()}
    lying = {path.name for path in (ROOT / "docs").glob("performance*")} | {"speed.svg"}
    assert lying == set(made), "run: python docs/generate --performance"
    for name, text in made.items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, (
            f"docs/{name} is not current, run: python docs/generate --performance"
        )


# First words of rows' names → how prose has them, where more than spaces and signs differ.
SPOKEN = {
    "adam_amsgrad": "AMSGrad",
    "adamw_amsgrad": "AMSGrad",
    "adaptive_avg_pool2d": "adaptive average",
    "avg": "average pool",
    "bce_with_logits": "binary cross entropy of logits",
    "depthwise_conv2d": "depthwise convolution",
    "depthwise_conv2d_weight": "gradient of (the|depthwise) weights|weights' gradient",
    "front": "modules of the PyTorch front",
    "resnet20": "ResNet",
    "sgd_momentum": "SGD with momentum",
    "step": "four blocks of batch norm",
}


def _speaks_of(text: str, name: str) -> bool:
    """Whether a text names the function or network of a row: "L-BFGS" is lbfgs."""
    subject = name.partition(" ")[0].removesuffix("_backward")
    words = SPOKEN.get(subject, r"[\W_]*".join(re.sub(r"\W|_", "", subject)))
    return re.search(rf"\b({words})s?(?![a-z])", text, re.I) is not None


def test_the_reason_of_a_row_speaks_of_it() -> None:
    """Each mark of the findings has rows that are behind, and no row has two reasons."""
    lines = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8").splitlines()
    sections: dict[str, str] = {}
    for line in lines:
        if line.startswith("#"):
            heading = line.lstrip("# ")
            sections[heading] = ""
        elif not performance.MARK.match(line):
            sections[heading] += line + " "
    behind = {(row.name, "cuda" if file.on_gpu else "cpu")
              for file in results.files() for row in file.slower}  # fmt: skip
    for name, device in behind:
        fits = performance.reasons(name, device)
        best = {heading for most, heading, _ in fits if most == max(fits)[0]}
        assert len(best) <= 1, (name, best)
        for heading in best:
            assert _speaks_of(sections[heading], name), f"{heading!r} has no word of {name}"
    for device, pattern, heading, _ in performance._marks():
        assert any(of == device and re.match(pattern, name) for name, of in behind), (
            f"{heading}: no row behind a rival is {pattern}"
        )
    assert not _speaks_of("using a sinus, cosine", "sin 16")
    assert _speaks_of("L-BFGS", "lbfgs 10 iterations")
    assert not _speaks_of("AdamW", "adam 1048576")


def test_each_aim_that_is_missed_has_a_reason() -> None:
    text = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {performance.AIMS}\n")[2].partition("\n## ")[0]
    gpu = [file for file in results.files() if file.on_gpu]
    found = [each for file in gpu for each in aims.reached(file)]
    assert found, "no run on a GPU"
    for share, aim, row in found:
        assert share >= 1 or f"- **{aim.why}**" in section, (row.name, aim.why)
        kept = aim._replace(share=row.share, ratio=row.ratio, seconds=row.seconds)
        assert kept.shortfall(row) == 1
        for less in ({"share": 2 * (row.share or 1)}, {"ratio": 2 * row.ratio},
                     {"seconds": row.seconds / 2}):  # fmt: skip
            assert math.isclose(kept._replace(**less).shortfall(row), 0.5)
    assert len({(row.name, row.dtype) for _, _, row in found}) == len(found), "a row has two aims"
    page = performance.page()
    for _, _, row in found:
        assert f"| {row.name} | {row.dtype} |" in page


@pytest.mark.parametrize(
    ("arguments", "status"), [(["--help"], 0), ([], 2), (["--labs", "--performance"], 2)]
)
def test_the_command_of_the_site_builds_what_it_is_told_to(arguments, status, tmp_path) -> None:
    command = [sys.executable, str(ROOT / "docs" / "generate"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, [*tmp_path.iterdir()]) == (status, [])
    assert "[--labs] [--performance] [FOLDER]" in done.stdout + done.stderr


def test_lists_of_rows_and_libraries_are_those_of_the_benchmark() -> None:
    names = {row.name for row in _rows.rows(Context())}
    assert {*performance.SHOWN} - names == set()
    assert {*performance.GROUPS} == {*GROUPS}
    assert {row.group for file in results.files() for row in file.rows} <= {*GROUPS}
    assert {*_peers.LIBRARIES} - {*performance.VERSIONS} == {"torch-compile"}  # is PyTorch's


# One row in the form of `onepass bench`, and the same in that of a GPU's older files.
SECOND = {
    "row": "gelu 65536", "group": "activation", "device": "cpu", "dtype": "float16", "threads": 2,
    "elements": 65536, "bytes": 2.5e5, "streams": [1, 1, 0],
    "samples": {"onepass": [1.9e-5, 2e-5, 2.1e-5]},
    "low": {"onepass": 1.9e-5, "torch": 3.9e-5, "numpy": 0.9e-5},
    "high": {"onepass": 2.1e-5, "torch": 4.1e-5, "numpy": 1.1e-5},
    "ratios": {"torch": 2.0, "onepass plain": 0.7, "numpy": 0.5},
    "seconds": {"onepass": 2e-5, "torch": 4e-5, "numpy": 1e-5, "limit": 5e-6,
                "onepass plain": 1.4e-5},
    "limit": "limit", "error": 0.25, "ulps": 2.0, "wrong": False, "products": None, "missing": {},
}  # fmt: skip
FIRST = {
    "name": "gelu 64k float16", "group": "elementwise", "bytes": 2.5e5, "share_of_copy": 0.25,
    "us": {"onepass": 20, "torch": 40, "numpy": 10, "copy": 5},
}  # fmt: skip
CPU = {"cpu": "A chip", "date": "2030-01-01", "torch": "3.0"}


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Writes files of results and gives what is read of them."""
    monkeypatch.setattr(results, "FOLDER", tmp_path)

    def put(name: str, *rows: dict, **head: object) -> tuple[results.File, ...]:
        text = json.dumps({"machine": CPU, "results": rows, **head})
        (tmp_path / name).write_text(text, encoding="utf-8")
        results.files.cache_clear()
        return results.files()

    yield put
    results.files.cache_clear()


def test_both_forms_of_results_are_read(measured) -> None:
    left = {"row": "mish", "threads": 1, "skipped": "no time left"}
    (new,) = measured("chip-2030-01-02.json", SECOND, left, format=2)[0].rows
    (old,) = measured("chip-2030-01-03-more.json", FIRST)[0].rows
    assert (new.rival, new.ratio, new.share, new.low, new.high) == (
        "numpy",
        0.5,
        0.25,
        1.9e-5,
        2.1e-5,
    )
    assert (new.dtype, new.threads, new.error) == ("float16", "2", 0.25)
    assert list(new.beside) == ["numpy", "onepass plain", "torch"]
    assert (old.rival, old.ratio, old.share, old.group) == ("numpy", 0.5, 0.25, "activation")
    assert (old.name, old.dtype, old.threads) == ("gelu 64k", "float16", "GPU")
    assert list(old.beside) == ["numpy", "torch"]


def test_a_rival_that_was_not_measured_stands_on_the_page(measured) -> None:
    """With the reason and the number of rows; what is left out by default, in older files too."""
    rows = [{**SECOND, "missing": {"thinc": why}} for why in ("no such", "no such", "another")]
    measured("chip-2030-01-02.json", *rows, format=2, options={})
    page = performance.page()
    assert "| thinc | 3 | another; no such |" in page
    assert "| torch-compile | all that it has | compiles for seconds a row; measured with" in page
    compiled = {**SECOND, "ratios": {**SECOND["ratios"], "torch compile": 3.0}}
    measured("chip-2030-01-02.json", *rows, compiled, format=2, options={})
    assert "| torch-compile | all that it has but 1 |" in performance.page()
    measured("chip-2030-01-02.json", *rows, format=2, options={"against": ["thinc"]})
    assert "| torch-compile" not in performance.page()


def test_a_row_within_the_noise_is_even(measured) -> None:
    """By the rule of the command's own table."""
    near = {"seconds": {**SECOND["seconds"], "numpy": 1.96e-5}, "ratios": {"numpy": 0.98}}
    wide = {"seconds": {**SECOND["seconds"], "numpy": 1.7e-5}, "ratios": {"numpy": 0.85},
            "high": {**SECOND["high"], "numpy": 2.2e-5}}  # fmt: skip
    rows = [SECOND, {**SECOND, "row": "mish", **near}, {**SECOND, "row": "tanh", **wide}]
    (file,) = measured("chip-2030-01-02.json", *rows, format=2)
    assert [row.name for row in file.behind] == ["gelu 65536"]
    page = performance.page()
    assert "in\n1, and by less in 2." in page
    assert "| 0.85, even | tanh |" in page
    assert "| 0.98, even | mish |" in page
    assert "1 of 3 behind a rival" in page


@pytest.mark.parametrize(("load", "cpus", "busy"), [(3, 64, False), (3, 2, True), (1.5, 2, False)])
def test_a_busy_machine_is_one_with_more_tasks_than_processors(measured, load, cpus, busy) -> None:
    measured("chip-2030-01-02.json", SECOND, format=2, machine={**CPU, "load": load, "cpus": cpus})
    assert ("other work ran on the machine (load average 3.0)" in performance.page()) == busy


def test_a_row_of_another_time_says_so(measured) -> None:
    run = {"commit": "abcd1234", "date": "2029-12-31", "load": 0.25}
    added = {"date": "2030-01-02", "commit": None, "load": None, "added": "ef567890", "before": 0.4}
    rows = [SECOND, {**SECOND, "run": run}, {**SECOND, "row": "mish", "run": added}]
    measured("chip-2030-01-02.json", *rows, format=2)
    page = performance.page()
    assert "2 of its rows were [measured at other times](#rows-of-other-times)" in page
    assert "| gelu 65536 | 2 | 2029-12-31 | abcd1234 | 0.2 |  | 0.50 |" in page
    assert "| mish | 2 | 2030-01-02 | added by ef567890 | not recorded | 0.40 | 0.50 |" in page
    measured("chip-2030-01-02.json", SECOND, format=2)
    assert "other times" not in performance.page()


def test_the_newest_file_of_each_machine_counts(measured) -> None:
    measured("chip-2030-01-02.json", SECOND, format=2)
    measured("chip-2030-01-01-all.json", FIRST, FIRST)
    measured("card-2029-01-01.json", FIRST)
    assert [file.path.name for file in results.files()] == [
        "chip-2030-01-02.json", "card-2029-01-01.json"
    ]  # fmt: skip
    measured("chip-2030-01-02-old.json", FIRST, FIRST)
    assert results.files()[0].path.name == "chip-2030-01-02.json"
    measured("chip-2030-01-02-two.json", SECOND, SECOND, format=2)
    assert results.files()[0].path.name == "chip-2030-01-02-two.json"
    with pytest.raises(SystemExit, match="MACHINE-YYYY-MM-DD"):
        measured("results.json", FIRST)


def test_a_row_is_behind_only_a_rival_of_another_library(measured, monkeypatch) -> None:
    ours = {**SECOND, "ratios": {"onepass plain": 0.5, "sklearn plain": 0.6, "torch": 1.5}}
    (file,) = measured(
        "chip-2030-01-02.json",
        ours,
        {**SECOND, "row": "gelu 16777216", "wrong": True, "error": 3.0},
        format=2,
    )
    assert [row.ratio for row in file.behind] == [0.5]
    page = performance.page().replace("\u00a0", " ")
    first = (
        "Of 2 measured rows that have a rival, the best rival is faster by more than the noise in"
    )
    assert f"{first}\n1, and by less in 0." in page
    assert "- gelu 16777216 (A chip (chip)): error 3 times its bound" in page
    assert (
        "| 0.50 | gelu 16777216 | float16 | 2 | 20 µs (19 µs to 21 µs) | numpy | 10 µs | 25% |"
        in page
    )
    assert "<td>20 µs (19 µs to 21 µs)</td><td>12.5</td><td>25%</td><td>1.50</td>" in page
    assert "<td>2 ulp</td>" in page
    assert "[Loops and the compiler](findings.md#loops-and-the-compiler)" in page


def test_every_kernel_stands_on_the_page_of_numerics_within_its_bound(built) -> None:
    text = re.sub(r"</?(a|code|span)\b[^>]*>", "", built["numerics.html"].text)
    for record in accuracy.records():
        if record.family == "mask":
            continue
        found = re.search(rf"<p>{record.name}</p></td>\s*<td><p>([\d.]+)</p></td>\s*"
                          r"<td><p>(\d+)%", text)  # fmt: skip
        assert found, f"docs/generate/accuracy.py: no row of {record.name}"
        assert int(found[2]) <= 100, record.name


def test_a_wrong_kernel_is_seen_beyond_its_bound() -> None:
    record = next(record for record in accuracy.records() if record.name == "tanh")
    exact = accuracy.errors(record)
    wrong = accuracy.errors(dataclasses.replace(record, op=lambda x: record.op(x) * 1.000001))
    assert exact[1] < 1 < wrong[1]
    assert exact[0] < 2.1 < wrong[0]


def test_every_message_has_an_anchor(built) -> None:
    page = built["troubleshooting.html"]
    assert len(messages.messages()) > 500
    for message in messages.messages():
        assert message.anchor in page.ids
    sources = {source.rpartition(":")[0] for m in messages.messages() for source in m.sources}
    assert {"python/onepass/_numbers.py", "csrc/bind/array.cpp"} <= sources


def test_a_message_that_many_give_has_one_entry() -> None:
    texts = [re.sub(r"(\{[^{}]*\}|…)+", "…", message.text) for message in messages.messages()]
    assert len(set(texts)) == len(texts)
    for said in ("Adam: 'lr' is -1, expected a number >= 0", "Huber: 'delta' is 'x', expected a"):
        message = messages.message_of(said)
        assert message is not None
        assert message.text == "{owner}: {name} is {value}, expected {expected}"
        assert {"TypeError", "ValueError"} <= set(message.errors)
        assert len(message.sources) > 5


def test_a_message_is_found_in_whatever_way_it_is_built(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(messages, "ROOT", tmp_path)
    source = tmp_path / "python" / "onepass" / "optim" / "_a.py"
    source.parent.mkdir(parents=True)
    (tmp_path / "csrc" / "bind").mkdir(parents=True)
    source.write_text(
        "def f(a, lr):\n"
        '    cure = f"pass {a} instead"\n'
        "    def inner():\n"
        '        raise TypeError(f"{a.op}: " + "one of these " f"{cure}")\n'
        '    warnings.warn(f"rate {lr} is large, look", stacklevel=2)\n'
        '    raise ValueError("short")\n'
        '    raise ValueError(f"rate {a.b} is large, look")\n'
    )
    (tmp_path / "csrc" / "bind" / "a.cpp").write_text(
        '  value_error(op, a.label() + " has (shape) " + text(a) + ", expected \\"x\\"");\n'
    )
    messages.messages.cache_clear()
    try:
        found = {message.text: message.errors for message in messages.messages()}
    finally:
        messages.messages.cache_clear()
    assert found == {
        "{op}: one of these pass {a} instead": ("TypeError",),
        "rate {lr} is large, look": ("warning", "ValueError"),
        '{op}: … has (shape) …, expected "x"': ("ValueError",),
    }


def test_what_troubleshooting_explains_is_a_message_of_the_sources(built) -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    explained = [said for said in prose.cures(text) if re.search(r"\w: | expected ", said[0])]
    assert len(explained) >= 6
    first: dict[messages.Message | None, str] = {}
    for said, anchor in explained:
        message = messages.message_of(said)
        assert message is not None, said
        page = built["troubleshooting.html"]
        assert anchor in page.ids
        anchor = first.setdefault(message, anchor)
        assert f'href="#{anchor}">what to do' in page.text.partition(f'id="{message.anchor}"')[2]


LAB = SimpleNamespace(
    name="ravine", chapter="optimisation", title="Momentum in a ravine", seconds=0.05,
    claim="Momentum is *faster*\nthere.\n\nBy far.", sources=("A lecture",),
)  # fmt: skip


def test_the_gallery_lists_every_lab(monkeypatch, built, tmp_path) -> None:
    for lab in labs.labs():
        assert f'id="{lab.name}"' in built["lab.html"].text
    shown = built["lab.html"].text.count("<img alt=")
    assert shown == (len(labs.labs()) if os.environ.get("ONEPASS_TEST_SITE") else 0)
    assert ("built without their figures" in built["lab.html"].text) == (shown == 0)
    monkeypatch.setattr(labs, "labs", lambda: [LAB])
    page = labs.page(tmp_path / "lab")
    assert "### ravine\n\n**Momentum in a ravine**\n\nMomentum is \\*faster\\* there." in page
    assert "`onepass lab ravine`, about 0.05 s. A lecture" in page
    assert "(../lab.md#ravine): Momentum in a ravine" in labs.of_chapter("optimisation")
    assert labs.of_chapter("data") == ""


def test_the_gallery_shows_what_the_labs_drew(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(labs, "labs", lambda: [labs.lab.find("momentum")])
    labs.run(tmp_path / "lab")
    page = labs.page(tmp_path / "lab")
    assert "![momentum: the figure](lab/momentum.png)" in page
    assert "without their figures" not in page
    (tmp_path / "lab" / "momentum.png").unlink()
    assert "](lab/" not in labs.page(tmp_path / "lab")
    monkeypatch.setattr("onepass.lab.momentum.size", lambda curvature, beta: 0.5)
    with pytest.raises(SystemExit, match="does not hold: momentum"):
        labs.run(tmp_path / "lab")


def test_project_files_say_what_adopters_look_for() -> None:
    yaml = pytest.importorskip("yaml")  # of MyST
    for template in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        if template.name != "config.yml":
            assert "onepass info --json" in template.read_text(encoding="utf-8"), template.name
    flows = {p.name: p.read_text(encoding="utf-8") for p in ROOT.glob(".github/workflows/*.yml")}
    assert ".ci/run" in flows["test.yml"]
    assert "scripts/free-threads" in flows["test.yml"]
    assert {"cibuildwheel", "scripts/package --twice", "scripts/aarch64"} <= set(
        re.findall(r"cibuildwheel|scripts/package --twice|scripts/aarch64", flows["wheels.yml"])
    )
    supported = re.findall(r"Python (\d\.\d+) to (\d\.\d+)", (ROOT / "README.md").read_text())[0]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f'"Programming Language :: Python :: {v}"' in project for v in supported)
    assert f'requires-python = ">={supported[0]}"' in project
    assert "scripts/docs" not in flows["test.yml"]  # the tests build the site once, and keep it
    recipe = yaml.safe_load((ROOT / "recipe" / "recipe.yaml").read_text(encoding="utf-8"))
    assert recipe["context"]["version"] == onepass.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == onepass.__version__
    assert {"cff-version", "title", "message", "authors", "license"} <= set(citation)
    for path in (*ROOT.glob(".github/**/*.yml"),):
        assert yaml.safe_load(path.read_text(encoding="utf-8")), path.name
    for name in ("SECURITY.md", "CODE_OF_CONDUCT.md", "NOTICE"):
        assert (ROOT / name).is_file()
