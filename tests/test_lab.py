"""The experiments: each holds what it claims, and is a file that one reads.

Those of more than QUICK seconds run with --all-labs.
"""

from __future__ import annotations

import ast
import dataclasses
import html.parser
import inspect
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import onepass
import pytest
from onepass import _files, lab
from onepass.cli import main
from onepass.lab import _run, _sources, _text, second_order

ROOT = Path(__file__).parents[1]
EXPERIMENTS = lab.experiments()
QUICK = 1.5  # seconds
MOST_LINES = 90  # with its docstring


def test_every_experiment_has_a_code_of_its_own():
    codes = [experiment.code for experiment in EXPERIMENTS]
    assert len(set(codes)) == len(codes)
    for page in ("README.md", "docs/index.md"):
        assert f"{len(EXPERIMENTS)} experiments" in (ROOT / page).read_text(encoding="utf-8"), page
    assert all(experiment.title and experiment.title.endswith(".") for experiment in EXPERIMENTS)
    assert all(len(experiment.title) <= 90 for experiment in EXPERIMENTS)
    assert all(len(experiment.claim) > 80 for experiment in EXPERIMENTS)


def test_every_experiment_names_a_paper_first_then_lectures():
    papers, lectures = set(_sources.PAPERS.values()), set(_sources.LECTURES.values())
    for experiment in EXPERIMENTS:
        known = [source in papers for source in experiment.sources]
        assert known == sorted(known, reverse=True), experiment.name
        assert set(known) == {True, False}, experiment.name
    cited = {source for experiment in EXPERIMENTS for source in experiment.sources}
    assert cited == papers | lectures
    assert all(re.search(r", (19|20)\d\d(, [a-z]+ [\d.]+)?$", paper) for paper in papers)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_an_experiment_is_a_short_file_of_public_names(experiment):
    source = inspect.getsource(inspect.getmodule(experiment.function))
    assert source.count("\n") <= MOST_LINES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert not any(part.startswith("_") for part in node.module.split("."))
        if isinstance(node, ast.ImportFrom | ast.Import):
            parts = [part for name in node.names for part in name.name.split(".")]
            assert not any(part.startswith("_") for part in parts)
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), f"{node.attr} is private"


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_the_claim_holds(experiment, request, tmp_path):
    if not (experiment.seconds < QUICK or request.config.getoption("--all-labs")):
        pytest.skip("with --all-labs")
    outcome = lab.run(experiment.name, out=tmp_path)
    failed = [f"{c.claim}: {c.seen}" for c in outcome.checks if not c.holds]
    assert not failed
    assert outcome.checks
    assert outcome.verdict.endswith(".")
    assert outcome.tables
    assert (tmp_path / f"{experiment.name}.png").stat().st_size > 5000
    for axes in outcome.figure.axes:
        assert axes.get_xlabel() or axes.get_label() == "<colorbar>" or not axes.axison
    assert _text.shown(outcome)
    kept, picture = _run.saved(experiment.name, 0, tmp_path)
    assert picture == (tmp_path / f"{experiment.name}.png").read_bytes()
    assert [c.claim for c in kept.checks] == [c.claim for c in outcome.checks]
    assert kept.holds


def test_the_command_lists_them(capsys):
    assert main(["lab"]) == 0
    listed = capsys.readouterr().out
    for experiment in EXPERIMENTS:
        assert f"{experiment.code}  {experiment.name} " in listed
    assert all(len(line) <= 130 for line in listed.splitlines())


@pytest.mark.parametrize("name", ["momentum", "C05", "c05"])
def test_the_command_runs_one(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["lab", name]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("C05 momentum (optimisation)")
    assert "holds  complex eigenvalues" in shown
    content = json.loads((tmp_path / "lab" / "momentum.json").read_text())
    assert content["seed"] == 0
    assert all(check["holds"] for check in content["checks"])


def test_a_claim_that_does_not_hold_is_exit_status_1(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("onepass.lab.momentum.size", lambda curvature, beta: 0.5)
    assert main(["lab", "momentum", "--out", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "FAILS  complex eigenvalues" in captured.out
    assert "\n\nNot shown: With complex eigenvalues" in captured.out
    assert captured.err == "onepass: lab: the claim does not hold: momentum\n"


def test_a_seed_is_of_32_bits():
    assert lab.Lab("own", np.int64(2**32 - 1)).seed == 2**32 - 1
    for wrong in (2**32, -1):
        with pytest.raises(ValueError, match=f"lab: 'seed' is {wrong}, .* >= 0 and < 4294967296"):
            lab.run("momentum", seed=wrong)
    with pytest.raises(TypeError, match=r"lab: 'seed' is 1\.5, expected a whole number"):
        lab.run("momentum", seed=1.5)


@pytest.fixture
def counted(monkeypatch):
    """Only one lab, in the place of momentum, and the seeds of its runs."""
    ran, experiment = [], lab.find("momentum")

    def function(own):
        ran.append(own.seed)
        own.figure().plot([own.seed, 1.0])
        own.table(["seed", "of it"], [(own.seed, np.float32("nan"))])
        own.check("a seed is a number", True, own.seed)
        return "It is."

    known = (dataclasses.replace(experiment, function=function),)
    monkeypatch.setattr("onepass.lab.experiments", lambda: known)
    monkeypatch.setattr("onepass.lab._catalogue.experiments", lambda: known)
    return ran


def test_a_place_that_cannot_be_written_is_told_before_the_run(tmp_path, capsys, counted):
    (tmp_path / "file").touch()
    place = str(tmp_path / "file" / "in")
    with pytest.raises(NotADirectoryError, match=r"lab: 'out' is .*expected a directory"):
        lab.run("momentum", out=place)
    assert main(["lab", "momentum", "--out", place]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"onepass: lab: '--out' is .*expected a directory.* is a file\n", shown.err)
    assert not counted


def test_what_was_seen_is_shown_before_it_is_saved(tmp_path, capsys, counted):
    (tmp_path / "momentum.png").mkdir()
    assert main(["lab", "momentum", "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert "holds  a seed is a number" in shown.out
    assert "momentum.png" in shown.err


def unlink(folder):
    (folder / "momentum.png").unlink()


def damage(folder):
    (folder / "momentum.json").write_text("{broken")


def foreign(folder):
    (folder / "momentum.json").write_text('["of", "another"]')


def other_picture(folder):
    (folder / "momentum.png").write_bytes(b"of another run")


def other_version(folder):
    path = folder / "momentum.json"
    path.write_text(path.read_text().replace(onepass.__version__, "0.0.1"))


@pytest.mark.parametrize("spoil", [unlink, damage, foreign, other_picture, other_version])
def test_a_report_runs_again_what_is_not_whole_or_of_this_version(spoil, tmp_path, counted):
    report = ["lab", "--report", "--out", str(tmp_path)]
    assert main(report) == main(report) == 0
    assert counted == [0]
    (rows,) = [
        table["rows"] for table in json.loads((tmp_path / "momentum.json").read_text())["tables"]
    ]
    assert rows == [[0, "nan"]]  # JSON has no NaN
    spoil(tmp_path)
    assert main(report) == main(report) == 0
    assert counted == [0, 0]
    assert "data:image/png;base64," in (tmp_path / "report.html").read_text()


def test_a_report_of_another_seed_or_of_all_runs_again(tmp_path, counted):
    for more in ([], ["--seed", "1"], ["--all", "--seed", "1"]):
        assert main(["lab", "--report", "--out", str(tmp_path), *more]) == 0
    assert counted == [0, 1, 1]


def test_ctrl_c_leaves_whole_files(tmp_path, capsys, monkeypatch, counted):
    report = ["lab", "--report", "--out", str(tmp_path)]
    assert main(report) == 0
    before = (tmp_path / "momentum.json").read_bytes()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("onepass._files.os.fsync", interrupted)
        assert main([*report, "--seed", "1"]) == 130
    with monkeypatch.context() as patch:  # with the picture written, and the numbers not
        patch.setattr("onepass.lab._run.json.dumps", interrupted)
        assert main([*report, "--seed", "1"]) == 130
    assert capsys.readouterr().err == "onepass: interrupted\n" * 2
    assert (tmp_path / "momentum.json").read_bytes() == before
    assert not [*tmp_path.glob(".*")]
    assert main(report) == 0  # the picture is of seed 1 now
    assert counted == [0, 1, 1, 0]


def test_of_two_runs_into_one_folder_the_files_of_one_stay(tmp_path, counted):
    """What the other writes comes before or after both."""
    lab.run("momentum", 0, tmp_path)
    began, go_on = threading.Event(), threading.Event()

    def quick(figure, path):
        path.write_bytes(b"of two")
        return b"of two"

    def slow(figure, path):
        path.write_bytes(b"of one")
        began.set()
        go_on.wait(10)
        return b"of one"

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool:
        outcomes = [lab.run("momentum", seed) for seed in (1, 2)]
        patch.setattr(_run, "save_figure", slow)
        one = pool.submit(_run.save, outcomes[0], tmp_path)
        assert began.wait(10)  # its picture is there, and its numbers are not
        patch.setattr(_run, "save_figure", quick)
        other = pool.submit(_run.save, outcomes[1], tmp_path)
        reader = pool.submit(_run.saved, "momentum", 0, tmp_path)
        wait([other, reader], timeout=0.3)  # they wait as well
        go_on.set()
        assert (one.result(), other.result()) == (b"of one", b"of two")
    assert reader.result() is None  # of seed 0, whose picture was gone
    (found,) = filter(None, (_run.saved("momentum", seed, tmp_path) for seed in (1, 2)))
    assert found[1] == (b"of one", b"of two")[found[0].seed - 1]


def test_a_folder_that_something_else_has_locked_is_written_after_all(tmp_path):
    with _files.alone_in(tmp_path), _files.alone_in(tmp_path, seconds=0.05):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["momentun"], "lab: there is no experiment 'momentun'.*did you mean 'momentum'"),
        (["momentum", "--all"], "expected one of them"),
        (["--seed", "1"], "without an experiment"),
        (["momentum", "--seed", "-1"], "lab: '--seed' is -1"),
        (["momentum", "--seed", "4294967296"], "lab: '--seed' is .*>= 0 and < 4294967296"),
        (["momentum", "--seed", "x"], "lab: '--seed' is 'x'"),
    ],
)
def test_wrong_use_is_one_line(arguments, message, capsys):
    assert main(["lab", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.found = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_one_page_without_a_network(tmp_path, capsys, counted):
    assert main(["lab", "--report", "--out", str(tmp_path)]) == 0
    assert "1 of 1 experiments hold what they claim" in capsys.readouterr().out
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert not page.open
    images = [attrs["src"] for tag, attrs in page.found if tag == "img"]
    assert len(images) == 1
    assert images[0].startswith("data:image/png;base64,")
    assert not any("://" in str(attrs) for _, attrs in page.found)
    assert main(["lab", "--report", "--out", str(tmp_path)]) == 0  # from the files
    assert "C05" not in capsys.readouterr().out


def test_cells():
    assert [_text.cell(v) for v in (1, 2.0, np.float32(0.5), 1e-7, "a", True, float("nan"))] == [
        "1", "2", "0.5", "1e-07", "a", "1", "nan",
    ]  # fmt: skip


def test_a_lab_refuses_a_second_figure_and_crooked_rows():
    own = lab.Lab("own")
    own.figure()
    with pytest.raises(ValueError, match="expected one call"):
        own.figure()
    with pytest.raises(ValueError, match="a row has 1 cells, expected 2"):
        own.table(["a", "b"], [(1,)])


@pytest.mark.parametrize(("share", "steps"), [(1e-4, 73), (0.5, 59)])
def test_the_steps_of_a_line_search_are_those_of_one_by_hand(share, steps):
    """The numbers in second_order's text: how much of the promised fall the search asks for."""
    loss = second_order.Logistic(np.random.default_rng(0))
    w, t, taken = loss.w, 0.5, 0
    while np.abs(slope := loss()[1][0]).max() >= 1e-6:
        before, t, taken = loss()[0], 2 * t, taken + 1
        loss.w = w - t * slope
        while loss()[0] > before - share * t * slope @ slope:
            t /= 2
            loss.w = w - t * slope
        w = loss.w
    assert taken == steps
