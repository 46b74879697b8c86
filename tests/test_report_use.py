"""`onepass report` and `evaluate --plot` as commands: the command that repeats a run, wrong use."""

import json
import re
import shlex
from pathlib import Path

import pytest
from onepass.cli import _parser, main
from onepass.runs import _command_line, load_run, write_report
from onepass.runs._options import Options
from onepass.train import ClassificationReport
from report_pages import copied, two_runs


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return two_runs(tmp_path_factory.mktemp("runs"))


OPTIONS = {
    "data": "my 'data'.csv", "hidden": [], "lr": 0.5, "na_values": ["-9999", "a, b"],
    "header": False, "drop": ['"q", x', "id"], "sep": "\t", "schedule": "step",
    "schedule_options": ["gamma=0.5", "step_size=2"], "cv": 5, "dropout": 0.0,
    "optimizer": "sgd", "target": "-y", "class_weight": "balanced", "seed": 7,
}  # fmt: skip


@pytest.mark.parametrize("options", [{"data": "iris"}, OPTIONS, {"data": "x", "header": True},
                                     {"data": "x", "optimizer": "schedulefreeadamw"}])  # fmt: skip
def test_the_command_has_the_options_of_the_run(options):
    record = Options.of(options).as_json()
    words = shlex.split(_command_line.command_line(record))
    assert words[:2] == ["onepass", "train"]
    given = vars(_parser.parsed(words[1:]))
    fields = Options.__dataclass_fields__
    again = Options.of({k: v for k, v in given.items() if k in fields}).as_json()
    assert again == record
    assert len(words) < 4 or options != {"data": "iris"}


WRONG = {
    "report": "the following arguments are required: RUN",
    "report nosuch": "nosuch: no such folder, expected that of a run",
    "report empty": r"empty holds no run \(run.json and history.csv are missing\)",
    "report words.csv": "words.csv is a file, expected the folder of a run",
    "report word": "did you mean 'words'",
    "report words --out page.txt": "'--out' is 'page.txt', expected the name of a file that ends",
    "report words --out words": "'--out' is 'words', expected the name of a file that ends",
    "report words --output x.html": "unknown argument '--output'; did you mean '--out'",
    "report words more": "unknown argument 'more'",
    "report found": "found holds a search, expected a run, such as its best one, found/best",
    "evaluate found words.csv": "found holds a search, expected a run, .* found/best",
    "predict found words.csv": "found holds a search, expected a run, .* found/best",
    "report damaged": r"damaged/history.csv holds something else than a history \(line 3",
    "report blank": r"blank/history.csv holds something else than a history \(it is empty\)",
    "report other": r"other/history.csv holds something else than a history \(the first line",
    "report record": "record/run.json is damaged",
    "evaluate words words.csv --plot x.txt": "'--plot' is 'x.txt', expected a name that ends in",
    "evaluate words words.csv --plot words/confusion.png": "a file of a run itself",
}  # fmt: skip


@pytest.mark.parametrize("line", WRONG)
def test_wrong_use_is_one_line(home, line, monkeypatch, capsys):
    monkeypatch.chdir(home)
    Path("empty").mkdir(exist_ok=True)
    texts = {"damaged": "epoch,loss\n1,2\n1,3\n", "other": "a,b\n1,2\n", "blank": ""}
    for name, text in texts.items():
        Path(name).mkdir(exist_ok=True)
        Path(name, "history.csv").write_text(text)
    for name in ("record", "found"):
        Path(name).mkdir(exist_ok=True)
    Path("found/search.json").write_text("{}")
    Path("record/run.json").write_text("[]")
    assert main(line.split()) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(WRONG[line], error), error


def test_a_page_that_cannot_be_written(home, capsys, monkeypatch):
    monkeypatch.chdir(home)
    for path in ("words.csv/x.html", "/proc/x.html"):
        assert main(["report", "words", "--out", path]) == 1
        assert re.search("cannot write .*(words.csv|/proc)", capsys.readouterr().err)


def test_evaluate_draws_and_shows_the_matrix(home, monkeypatch, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(home)
    picture = tmp_path / "m.png"
    assert main(["evaluate", "words", "words.csv", "--held-out", "--plot", str(picture)]) == 0
    out = capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "true class by row, predicted class by column:" in out
    assert out.splitlines()[-1].startswith("held-out part: accuracy")
    assert main(["evaluate", "numbers", "numbers.csv"]) == 0
    assert "predicted, over true" in capsys.readouterr().out
    report = load_run("words").report("words.csv")
    assert report.support.sum() == 160
    assert load_run("numbers").report("numbers.csv").true.shape == (160, 1)


@pytest.mark.parametrize("record", [
    {"data": []}, {"data": {"rows": "5"}}, {"data": {"notes": [1]}}, {"sessions": 5},
    {"sessions": [None]}, {"sessions": [{"epoch": "1"}]}, {"result": 5},
    {"result": {"accuracy": "0.5"}}, {"result": {"loss": 10**400}}, {"ended": "x"},
    {"ended": {"why": []}}, {"classes": 3}, {"classes": [1, 2]}, {"best_epoch": "2"},
    {"verdict": {}}, {"options": {"epochs": "4"}}, {"options": {"cv": -1}}, {"directory": 1},
], ids=lambda record: json.dumps(record)[:40])  # fmt: skip
def test_a_damaged_record_is_one_line(home, tmp_path, record, capsys):
    folder = copied(home, tmp_path, **record)
    with pytest.raises(ValueError, match=r"run\.json is damaged: .* expected"):
        write_report(folder)
    assert main(["report", str(folder)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(("call", "owner"), [
    (lambda folder: write_report(folder, "x.txt"), "write_report: 'path' is 'x.txt'"),
    (lambda folder: main(["report", str(folder), "--out", "x.txt"]), "report: '--out' is 'x.txt'"),
])  # fmt: skip
def test_the_argument_has_its_own_name(home, call, owner, capsys):
    try:
        assert call(home / "words") == 2
        said = capsys.readouterr().err
    except ValueError as error:
        said = str(error)
    assert owner in said


def test_a_picture_that_fails_costs_no_scores(home, monkeypatch, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(home)

    def fails(self, path):
        raise RuntimeError("no colours")

    monkeypatch.setattr(ClassificationReport, "plot", fails)
    picture = str(tmp_path / "m.png")
    assert main(["evaluate", "words", "words.csv", "--held-out", "--plot", picture]) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1].startswith("held-out part: accuracy")
    assert "no colours" in shown.err
