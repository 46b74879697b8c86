"""The experiments: each holds what it claims, and is a file that one reads.

Those of more than QUICK_SECONDS run with --all-labs.
"""

from __future__ import annotations

import ast
import html.parser
import inspect
import json

import numpy as np
import pytest
from onepass import lab
from onepass.cli import main
from onepass.lab import _run, _text

ENTRIES = lab.labs()
MOST_LINES = 90  # with its docstring


def test_every_experiment_has_a_code_of_its_own():
    codes = [entry.code for entry in ENTRIES]
    assert len(set(codes)) == len(codes)
    assert all(entry.title and entry.title.endswith(".") for entry in ENTRIES)
    assert all(len(entry.title) <= 90 for entry in ENTRIES)
    assert all(len(entry.claim) > 80 and entry.sources for entry in ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_experiment_is_a_short_file_of_public_names(entry):
    source = inspect.getsource(inspect.getmodule(entry.function))
    assert source.count("\n") <= MOST_LINES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert not any(part.startswith("_") for part in node.module.split("."))
            assert not any(name.name.startswith("_") for name in node.names)
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), f"{node.attr} is private"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_claim_holds(entry, request, tmp_path):
    if not (entry.quick or request.config.getoption("--all-labs")):
        pytest.skip("with --all-labs")
    outcome = lab.run(entry.name, out=tmp_path)
    failed = [f"{c.claim}: {c.seen}" for c in outcome.checks if not c.holds]
    assert not failed
    assert outcome.checks
    assert outcome.verdict.endswith(".")
    assert outcome.tables
    assert (tmp_path / f"{entry.name}.png").stat().st_size > 5000
    for axes in outcome.figure.axes:
        assert axes.get_xlabel() or axes.get_label() == "<colorbar>" or not axes.axison
    assert _text.shown(outcome)
    kept = _run.saved(entry.name, tmp_path)
    assert [c.claim for c in kept.checks] == [c.claim for c in outcome.checks]
    assert kept.holds


def test_the_command_lists_them(capsys):
    assert main(["lab"]) == 0
    listed = capsys.readouterr().out
    for entry in ENTRIES:
        assert f"{entry.code}  {entry.name} " in listed
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
    assert captured.err == "onepass: lab: the claim does not hold: momentum\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["momentun"], "lab: there is no experiment 'momentun'.*did you mean 'momentum'"),
        (["momentum", "--all"], "expected one of them"),
        (["--seed", "1"], "without an experiment"),
        (["momentum", "--seed", "-1"], "'--seed' is -1"),
    ],
)
def test_wrong_use_is_one_line(arguments, message, capsys):
    assert main(["lab", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert __import__("re").search(message, error), error


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
        while self.open.pop() != tag:
            assert tag in {"html"}


def test_the_report_is_one_page_without_a_network(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("onepass.cli._lab.labs", lambda: [lab.find("momentum")], raising=False)
    monkeypatch.setattr("onepass.lab.labs", lambda: [lab.find("momentum")])
    assert main(["lab", "--report", "--out", str(tmp_path)]) == 0
    assert "1 of 1 claims hold" in capsys.readouterr().out
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    images = [attrs["src"] for tag, attrs in page.found if tag == "img"]
    assert len(images) == 1
    assert images[0].startswith("data:image/png;base64,")
    assert not any("http" in str(attrs) for _, attrs in page.found)
    assert main(["lab", "--report", "--out", str(tmp_path)]) == 0  # from the files
    assert "Momentum" not in capsys.readouterr().out


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
