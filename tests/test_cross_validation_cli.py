"""``onepass train --cv``: each fold is a run that can be resumed and used; what it prints."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onepass
import pytest
from onepass import cli
from onepass.runs import _cross_validation
from onepass.runs._fitting import Fitting
from onepass.runs._past import Past
from test_cli import ENVIRONMENT
from test_cli_kill import DRIVER

FAST = ["--hidden", "4", "--epochs", "2"]
SHAPES = {"yes": 13, "no": 20, "perhaps": 9}


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    kind = np.repeat(list(SHAPES), list(SHAPES.values()))
    a = rng.standard_normal(42) + np.repeat([0, 2, 4], [13, 20, 9])
    town = rng.choice(["Ulm", "Kiel", ""], 42)
    rows = "".join(f"{x:.3f},{t},{k}\n" for x, t, k in zip(a, town, kind, strict=True))
    (tmp_path / "t.csv").write_text(f"a,town,kind\n{rows}")
    return tmp_path / "t.csv"


@pytest.fixture
def run(table, capsys):
    def call(*arguments, status=0, command="train"):
        assert cli.main([command, *arguments]) == status, capsys.readouterr()
        shown = capsys.readouterr()
        if status:
            assert len(shown.err.splitlines()) == 1, shown.err
            return shown.err
        return shown.out

    return call


def record(folder):
    return json.loads((Path(folder) / "run.json").read_text())


TRAIN = ["t.csv", "--categorical", "auto", *FAST, "--cv", "3", "--out", "r"]


def test_the_table_has_every_score_of_every_fold(run):
    shown = run(*TRAIN)
    folds = record("r")["folds"]
    lines = shown.splitlines()
    (at,) = [i for i, line in enumerate(lines) if line.split()[:1] == ["fold"] and "/" not in line]
    names = ("accuracy", "balanced_accuracy", "loss")
    assert lines[at].split("  ")[0] == "fold"
    assert [name.replace("_", " ") in lines[at] for name in names] == [True] * 3
    for fold, line in zip(folds, lines[at + 1 :], strict=False):
        assert line.split()[1:] == [f"{fold[name]:.4f}" for name in names]
    for name in names:
        values = [fold[name] for fold in folds]
        assert f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" in lines[at + 4]
    assert lines[at + 4].startswith("mean ± sd")
    assert "run.json, checkpoints, folds\n" in shown
    quiet = run(*TRAIN[:-1], "q", "--quiet")
    assert "3 folds: accuracy" in quiet
    assert "mean ± sd" not in quiet


def test_each_fold_is_a_run_that_other_commands_take(run):
    run(*TRAIN)
    folds = record("r")["folds"]
    kept = []
    for number, scores in enumerate(folds, 1):
        folder = f"r/folds/{number}"
        found = json.loads(
            run(folder, "t.csv", "--held-out", "--json", command="evaluate").partition("\n\n")[0]
        )
        assert found == scores
        assert record(folder)["result"] == scores
        assert record(folder)["fold"] == {"number": number, "of": 3}
        saved = onepass.load_run(folder)
        kept.append(saved.held_out)
        assert saved.predict("t.csv").shape == (42,)
        assert (Path(folder) / "history.csv").read_text().count("\n") == 3
    assert sorted(np.concatenate(kept)) == list(range(42))
    run("t.csv", "--categorical", "auto", *FAST, "--init-from", "r/folds/2", "--out", "s")


def test_a_fold_is_resumed_with_its_run_alone(run):
    run(*TRAIN)
    error = run("--resume", "--out", "r/folds/2", status=2)
    assert "--cv 3, as fold 2 of a run; --resume goes on with that run" in error
    error = run("t.csv", "--drop", "town", "--out", "r/folds/2", status=2)
    assert "which holds a run" in error


def test_folds_that_are_done_are_not_trained_again(run, monkeypatch):
    run(*TRAIN)
    before = {p: p.read_bytes() for p in Path("r/folds").rglob("*") if p.is_file()}
    fitted = []

    class Watched(Fitting):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            fitted.append(arguments)

    monkeypatch.setattr(_cross_validation, "Fitting", Watched)
    shown = run("--resume", "--out", "r")
    assert not fitted
    assert "fold 1/3: accuracy" in shown
    assert {p: p.read_bytes() for p in Path("r/folds").rglob("*") if p.is_file()} == before
    shutil.rmtree("r/folds")  # to save space: their scores are in run.json
    assert "mean ± sd" in run("--resume", "--out", "r")
    assert not fitted


def test_fewer_epochs_than_a_fold_has_done_are_told(run):
    run(*TRAIN)
    words = "the mean and deviation are of folds of unequal length"
    fewer = record("r")["options"]["epochs"] - 1
    assert words in run("--resume", "--out", "r", "--epochs", str(fewer))
    assert words not in run("--resume", "--out", "r", "--epochs", str(fewer + 3))


def test_more_epochs_go_on_with_every_fold(run):
    run(*TRAIN, "--schedule", "none")
    run("--resume", "--out", "r", "--epochs", "4")
    run("t.csv", "--categorical", "auto", "--hidden", "4", "--epochs", "4", "--cv", "3", "--out",
        "s", "--schedule", "none")  # fmt: skip
    assert record("r")["folds"] == record("s")["folds"]
    assert [record(f"r/folds/{n}")["epochs"] for n in (1, 2, 3)] == [4, 4, 4]


def test_a_resume_with_other_data_or_folds_is_refused(run):
    run(*TRAIN)
    error = run("--resume", "--out", "r", "--cv", "4", status=2)
    assert "--cv 3; --resume cannot go on with --cv 4" in error
    text = Path("t.csv").read_text()
    Path("t.csv").write_text(text.replace("Ulm", "Bonn"))
    error = run("--resume", "--out", "r", status=2)
    assert "was started with other contents of t.csv" in error


def test_more_folds_than_samples_of_a_class_are_refused(run):
    error = run("t.csv", "--cv", "10", "--categorical", "auto", "--out", "r", status=2)
    assert "'--cv' is 10, expected at most 9, the number of samples of class 'perhaps'" in error
    assert "a class too rare may be left out of the table" in error
    assert not Path("r").exists()
    run("t.csv", "--cv", "9", "--categorical", "auto", *FAST, "--out", "r")


def test_a_loss_that_is_not_finite_names_its_fold(run):
    error = run("t.csv", "--drop", "town", *FAST, "--cv", "2", "--lr", "1e30", "--optimizer", "sgd",
                "--norm", "none", "--quiet", status=1)  # fmt: skip
    assert "in fold 1, epoch" in error
    assert "pass a lower --lr" in error


def test_a_run_that_replaces_another_takes_its_folds_too(run):
    run(*TRAIN)
    (Path("r/folds/1") / "notes.txt").write_text("mine")
    old = (Path("r/folds/3/model.npz")).read_bytes()
    run(*TRAIN, "--overwrite", "--seed", "1")
    assert (Path("r/folds/3/model.npz")).read_bytes() != old
    assert sorted(p.name for p in Path("r/folds").iterdir()) == ["1", "2", "3"]
    assert (Path("r/folds/1") / "notes.txt").read_text() == "mine"
    run("t.csv", "--categorical", "auto", *FAST, "--out", "r", "--overwrite")
    assert [p.name for p in Path("r/folds").rglob("*")] == ["1", "notes.txt"]


def test_the_page_of_a_fold_is_that_of_a_run(run):
    run(*TRAIN)
    whole, fold = record("r"), record("r/folds/2")
    assert fold.keys() >= {*whole} - {"folds"}
    assert fold["data"]["held_out"] == len(onepass.load_run("r/folds/2").held_out)
    assert fold["data"]["inputs"] == whole["data"]["inputs"]
    assert [s["epoch"] for s in fold["sessions"]] == [0]
    run("r/folds/2", command="report")
    page = (Path("r/folds/2") / "report.html").read_text()
    assert "Confusion matrix" in page or "confusion" in page.lower()
    assert "Go on with it" not in page
    rows = [line.split(",")[0] for line in Path("r/folds/2/held_out.csv").read_text().splitlines()]
    assert [int(row) - 1 for row in rows[1:]] == onepass.load_run("r/folds/2").held_out.tolist()


def test_the_page_of_a_fold_that_is_not_done_tells_how_to_go_on(run, monkeypatch):
    states = []

    class Stopped(Fitting):
        def fit(self, trainer, checkpoints=None):
            if len(states) == 1:
                states.append(Past.read(Path("r/folds/2")).state)
                raise KeyboardInterrupt
            states.append(Past.read(Path("r/folds/1")).state)
            super().fit(trainer, checkpoints)

    monkeypatch.setattr(_cross_validation, "Fitting", Stopped)
    run(*TRAIN, status=130)
    assert states == ["in progress", "in progress"]
    assert Past.read(Path("r/folds/2")).state == "interrupted"
    run("r/folds/2", command="report")
    page = (Path("r/folds/2") / "report.html").read_text()
    assert f"onepass train --resume --out {Path('r').resolve()}<" in page
    monkeypatch.setattr(_cross_validation, "Fitting", Fitting)
    run("--resume", "--out", "r")
    assert Past.read(Path("r/folds/2")).state == "finished"


def test_folds_of_another_version_are_told(run):
    run(*TRAIN)
    path = Path("r/run.json")
    path.write_text(json.dumps({**record("r"), "onepass": "0.0.1"}))
    assert "the folds that are done are of onepass 0.0.1, this is" in run("--resume", "--out", "r")


OWN = ("history.csv", "model.npz", "curves.png", "report.html")


def foreign(folder, record=None):
    """Files of somebody else, with the names of ours."""
    folder.mkdir(parents=True)
    for name in OWN:
        (folder / name).write_text("mine")
    if record is not None:
        (folder / "run.json").write_text(record)
    return {p: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("record", [None, "{}", "no JSON", "[1]"])
def test_folders_that_are_no_folds_are_left_alone(run, record):
    before = foreign(Path("r/folds/1"), record)
    run("t.csv", "--drop", "town", *FAST, "--out", "r")
    assert {p: p.read_bytes() for p in before} == before
    assert "r/folds/1 is not a fold of a run" in run(*TRAIN, "--overwrite", status=2)
    run("t.csv", "--drop", "town", *FAST, "--out", "r", "--overwrite")
    assert {p: p.read_bytes() for p in before} == before
    foreign(Path("s/folds/2"), record)
    assert "s/folds/2 is not a fold of a run" in run(*TRAIN[:-1], "s", status=2)
    assert [p for p in Path("s").rglob("*") if p.is_file() and p.parent.name != "2"] == []


@pytest.mark.parametrize("link", ["r/folds", "r/folds/1"])
def test_no_link_is_followed(run, link):
    run(*TRAIN)
    at = Path(link)
    at.rename("away")
    at.symlink_to(Path("away").resolve())
    before = {p: p.read_bytes() for p in Path("away").rglob("*") if p.is_file()}
    assert "r/folds/1 is not a fold of a run" in run(*TRAIN, "--overwrite", "--seed", "2", status=2)
    run("t.csv", "--drop", "town", *FAST, "--out", "r", "--overwrite")
    assert {p: p.read_bytes() for p in Path("away").rglob("*") if p.is_file()} == before
    assert at.is_symlink()


def test_folds_alone_are_a_run(run):
    run(*TRAIN)
    for path in Path("r").iterdir():
        if path.name != "folds":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = {p: p.read_bytes() for p in Path("r").rglob("*") if p.is_file()}
    assert "'--out' is 'r', which holds a run" in run(*TRAIN, status=2)
    assert {p: p.read_bytes() for p in Path("r").rglob("*") if p.is_file()} == before


def test_a_kill_in_any_fold_changes_no_bit(table):
    train = ["train", str(table), "--drop", "town", *FAST, "--cv", "2", "--out", "run", "--quiet"]
    code = "import sys\nsys.modules['matplotlib'] = None\n" + DRIVER  # pictures take long
    given = json.dumps([str(table.parent), str(table), train, [*train, "--resume"], 71])
    done = subprocess.run([sys.executable, "-c", code, given], env=ENVIRONMENT,
                          capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    outcomes = json.loads(done.stdout)
    assert len(outcomes) > 4
    whole = table.parent / "whole" / "run"
    files = ["model.npz", "history.csv", *(f"folds/{n}/model.npz" for n in (1, 2)),
             *(f"folds/{n}/history.csv" for n in (1, 2))]  # fmt: skip
    for number, killed, again, last, _ in outcomes:
        assert (killed, last) == (-9, 0), number
        assert again in (-9, 0)
        run = table.parent / str(number) / "run"
        for name in files:
            assert (run / name).read_bytes() == (whole / name).read_bytes(), (number, name)
        for name in ("folds", "result"):
            assert record(run)[name] == record(whole)[name]
        assert [p.name for p in run.rglob(".*")] == []
