"""`onepass report` of a run in whatever state: in progress, cut off, failed, resumed, damaged."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from onepass import _files, nn, optim
from onepass.cli import main
from onepass.runs import _folder, _report, write_report
from onepass.runs._sessions import lengths
from onepass.train import History, Trainer
from report_pages import (
    FAST,
    UNFINISHED,
    Page,
    badge,
    check_numbers,
    copied,
    history_in,
    lines_of,
    page_of,
    two_runs,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return two_runs(tmp_path_factory.mktemp("runs"))


def test_a_run_in_progress(home, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    folder = copied(home, tmp_path, **UNFINISHED)
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        page = page_of(folder)
    finally:
        os.close(descriptor)
    assert badge(page) == "in progress"
    assert not page.all("td", data_row=True)
    assert check_numbers(folder, page)
    assert badge(page_of(folder)) == "cut off"
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)  # as another report does for a moment
    try:
        assert badge(page_of(folder)) == "cut off"
    finally:
        os.close(descriptor)


def test_a_run_that_was_interrupted_and_resumed(home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(home / "words.csv", tmp_path)
    append = History.append

    def stop(self, row):
        append(self, row)
        if self.epochs == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(History, "append", stop)
        assert main(["train", "words.csv", *FAST, "--out", "r"]) == 130
    assert main(["report", "r", "--out", "first.html"]) == 0
    page = Page(Path("first.html").read_text(encoding="utf-8"))
    assert badge(page) == "interrupted"
    assert "onepass train --resume --out" in "".join(t for _, t in page.all("code"))
    assert main(["train", "--resume", "--out", "r", "--quiet"]) == 0
    page = page_of(Path("r"))
    assert badge(page) == "finished"
    begun = lines_of(Path("r"))
    epoch = json.loads(Path("r/run.json").read_text())["sessions"][1]["epoch"]
    assert 1 <= epoch < len(begun)
    assert f"resumed after epoch {epoch}" in "".join(t for _, t in page.all("td"))
    assert len(page.all("line", **{"class": "resumed"})) == len(page.all("svg", data_names=True))
    check_numbers(Path("r"), page)


def test_a_run_that_no_command_repeats(home, tmp_path, monkeypatch):
    """A resume with other --epochs has changed the learning rates of a part of it alone."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(home / "words.csv", tmp_path)
    options = [*FAST, "--cv", "2"]

    def notes():
        said = [t for _, t in page_of(Path("r")).all("p")]
        return [t for t in said if t.startswith("The numbers may be others")]

    assert main(["train", "words.csv", *options, "--out", "r"]) == 0
    assert notes() == []
    assert main(["train", "--resume", "--out", "r", "--quiet", "--epochs", "6"]) == 0
    (note,) = notes()
    for who in ("the run", "fold 1", "fold 2"):
        assert f"{who} 4 from epoch 1 on, then 6 from epoch 5 on" in note
    assert main(["train", "words.csv", *options, "--epochs", "6", "--out", "whole"]) == 0
    rates = [[row["lr"] for row in lines_of(Path(run))] for run in ("r", "whole")]
    assert rates[0][4:] == rates[1][4:]
    assert rates[0][:4] != rates[1][:4]


def test_lengths_of_a_run_are_those_that_left_epochs():
    def found(*pairs):
        return lengths({"sessions": [{"epoch": a, "epochs": b} for a, b in pairs]})

    assert found((0, 4), (2, 4)) == [(0, 4)]
    assert found((0, 4), (0, 6)) == [(0, 6)]  # the first has done none
    assert found((0, 4), (2, 6), (1, 5)) == [(0, 4), (1, 5)]
    assert lengths({"sessions": [{"epoch": 3}]}) == []  # of a version that did not keep them


def test_a_run_that_failed(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(home / "words.csv", tmp_path)
    assert main(["train", "words.csv", *FAST, "--lr", "1e30", "--out", "r"]) == 1
    page = page_of(Path("r"))
    assert badge(page) == "failed"
    verdict = next(t for a, t in page.all("p", **{"class": "verdict"}))
    assert verdict.startswith("rate too high: the loss is not finite in epoch 1")


def test_a_resume_takes_the_predictions_away(home, tmp_path, monkeypatch):
    """They are of the model of before, should this training not come to its end."""
    folder = copied(home, tmp_path)
    monkeypatch.chdir(home)

    def stop(self, row):
        raise KeyboardInterrupt

    monkeypatch.setattr(History, "append", stop)
    assert main(["train", "--resume", "--epochs", "9", "--quiet", "--out", str(folder)]) == 130
    assert not (folder / "held_out.csv").exists()
    assert not (folder / "confusion.png").exists()
    assert badge(page_of(folder)) == "interrupted"


def test_a_trainer_without_validation(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3)).astype(np.float32)
    model = nn.Sequential(nn.Linear(3, 1))
    trainer = Trainer(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.01), progress=False,
                      log_dir=tmp_path / "log")  # fmt: skip
    trainer.fit(X, X[:, :1], max_epochs=3)
    path = write_report(tmp_path / "log")
    assert path == tmp_path / "log" / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert badge(page) == "of a Trainer"
    assert "3 epochs" in "".join(t for _, t in page.all("p"))
    assert check_numbers(tmp_path / "log", page) == {
        (n, e) for n in ("loss", "lr") for e in (1, 2, 3)
    }


def test_a_run_before_its_first_epoch(home, tmp_path):
    folder = copied(home, tmp_path, **UNFINISHED)
    for name in ("history.csv", "model.npz", "held_out.csv"):
        (folder / name).unlink()
    page = page_of(folder)
    words = "".join(t for _, t in page.all("p"))
    assert "No epoch is done yet" in words
    assert "There is no model" in words


def test_damaged_files_beside_the_history_are_told(home, tmp_path):
    folder = copied(home, tmp_path)
    (folder / "held_out.csv").write_text("row,true,predicted\n1,nobody,knows\n")
    (folder / "model.npz").write_bytes(b"x")
    page = page_of(folder)
    wrong = [t for _, t in page.all("p", **{"class": "wrong"})]
    assert any("held_out.csv is damaged" in t for t in wrong)
    assert any("model.npz" in t for t in wrong)
    assert check_numbers(folder, page)
    (folder / "held_out.csv").write_text("")
    wrong = [t for _, t in page_of(folder).all("p", **{"class": "wrong"})]
    assert any("held_out.csv is damaged (it is empty)" in t for t in wrong)


def test_entries_that_are_null_are_missing(home, tmp_path):
    folder = copied(home, tmp_path)
    known = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**dict.fromkeys(known), "options": {}}))
    assert badge(page_of(folder)) == "cut off"


@pytest.mark.parametrize(("scores", "told"), [
    ({"accuracy": 0.25, "majority": 0.5}, "of the held-out part; no better than always the maj"),
    ({"r2": -0.5, "rmse": 2.0}, "of the held-out part; no better than always the mean"),
    ({"r2": None, "rmse": None, "accuracy": None, "majority": 0.5}, "of the held-out part"),
    ({"accuracy": 0.75, "majority": 0.5}, "of the held-out part"),
])  # fmt: skip
def test_scores_that_are_no_better_than_no_model(home, tmp_path, scores, told):
    folder = copied(home, tmp_path)
    known = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**known, "result": scores}))
    (note,) = [t for _, t in page_of(folder).all("p", **{"class": "note"}) if "held-out" in t]
    assert note[: len(told)] == told
    assert ("no better" in note) == ("no better" in told)


def test_the_best_epoch_is_that_of_this_session(home, tmp_path, monkeypatch, capsys):
    """The model of a resumed run that was cut off has the weights of the best epoch so far."""
    folder = copied(home, tmp_path)
    monkeypatch.chdir(home)
    append = History.append

    def better(self, row):
        append(self, {**row, "val_loss": 1.0 / self.epochs if self.epochs else 1.0})
        if self.epochs == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(History, "append", better)
    known = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**known, "best_epoch": 2}))
    assert main(["train", "--resume", "--epochs", "9", "--out", str(folder)]) == 130
    known = json.loads((folder / "run.json").read_text())
    assert "best_epoch" not in known
    assert "epochs" not in known
    losses = [float(line["val_loss"]) for line in lines_of(folder)]
    best = int(np.argmin(losses)) + 1
    assert best > 4
    page = page_of(folder)
    assert f"the weights of epoch {best}," in "".join(t for _, t in page.all("p"))
    (mark,) = {t for _, t in page.all("line", **{"class": "best"})}
    assert mark == f"best epoch, {best}"


def test_a_log_has_no_best_epoch(tmp_path):
    """The Trainer may have watched anything."""
    folder = history_in(tmp_path / "n", [{"loss": 1.0, "val_loss": v} for v in (3.0, 1.0, 2.0)])
    assert not page_of(folder).all("line", **{"class": "best"})


def written(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("end", ["finished", "interrupted", "failed"])
def test_a_resume_keeps_the_page_true(home, tmp_path, monkeypatch, end):
    """It is written anew when the training begins and when it ends, in whatever way."""
    folder = copied(home, tmp_path)
    monkeypatch.chdir(home)
    append, begun = History.append, []

    def look(self, row):
        append(self, row)
        if not begun:
            begun.append(written(folder))
        if end == "interrupted" and self.epochs == 6:
            raise KeyboardInterrupt
        if end == "failed" and self.epochs == 6:
            raise FloatingPointError

    monkeypatch.setattr(History, "append", look)
    status = {"finished": 0, "interrupted": 130, "failed": 1}[end]
    more = ["--epochs", "7", "--early-stopping", "0", "--quiet", "--out", str(folder)]
    assert main(["train", "--resume", *more]) == status
    assert badge(begun[0]) == "in progress"
    assert not begun[0].all("td", data_row=True)  # the predictions were of the model before
    page = written(folder)
    assert badge(page) == end
    assert bool(page.all("td", data_row=True)) == (end == "finished")
    lines = lines_of(folder)
    assert len(lines) >= 5
    assert {e for _, e in check_numbers(folder, page)} >= {1, len(lines)}


def test_a_run_without_a_page_gets_none(home, tmp_path, monkeypatch):
    folder = copied(home, tmp_path)
    (folder / "report.html").unlink()
    monkeypatch.chdir(home)
    assert main(["train", "--resume", "--epochs", "5", "--quiet", "--out", str(folder)]) == 0
    assert not (folder / "report.html").exists()


def test_a_run_that_replaces_another_replaces_its_page(home, tmp_path, monkeypatch):
    folder = copied(home, tmp_path)
    monkeypatch.chdir(home)
    options = ["--hidden", "3", "--epochs", "2", "--quiet", "--overwrite", "--out", str(folder)]
    assert main(["train", "words.csv", *options]) == 0
    page = written(folder)
    assert {e for _, e in check_numbers(folder, page)} == {1, 2}
    assert not list(folder.glob(".new*"))


def test_a_page_that_cannot_be_renewed_is_a_note(home, tmp_path, monkeypatch, capsys):
    folder = copied(home, tmp_path)
    monkeypatch.chdir(home)

    def full(past, beside=None):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_report, "render", full)
    capsys.readouterr()
    assert main(["train", "--resume", "--epochs", "5", "--quiet", "--out", str(folder)]) == 0
    said = capsys.readouterr().err
    assert said.startswith("note: report.html shows an earlier state: cannot write")
    assert "No space left on device" in said


@pytest.mark.parametrize("more", [["--resume", "--epochs", "5"], ["words.csv", "--overwrite"]])
def test_a_report_of_something_else_stays(home, tmp_path, monkeypatch, more):
    """A folder that has a report.html alone holds no run; no training touches that file."""
    (tmp_path / "report.html").write_text("mine")
    folder = _folder.Folder.new("x", tmp_path)
    folder.close()
    assert (tmp_path / "report.html").read_text() == "mine"
    run = copied(home, tmp_path)
    (run / "report.html").write_text("<html>mine</html>")
    monkeypatch.chdir(home)
    assert main(["train", *more, "--quiet", "--out", str(run)]) == 0
    assert (run / "report.html").read_text() == "<html>mine</html>"


def test_a_state_that_cannot_be_told(home, tmp_path, monkeypatch):
    """Where there are no locks, a run that has not ended may still be trained."""
    monkeypatch.setattr(_folder, "_lock", lambda path, shared=False: None)
    page = page_of(copied(home, tmp_path, **UNFINISHED))
    assert badge(page) == "unfinished"
    assert "cannot be told" in "".join(t for _, t in page.all("p"))


def test_a_glance_at_a_folder_stops_no_training(tmp_path, monkeypatch):
    """A report asks, by a shared lock, whether it is in use."""
    fcntl = pytest.importorskip("fcntl")
    glance = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(glance, fcntl.LOCK_SH)
    monkeypatch.setattr(_files.time, "sleep", lambda seconds: os.close(glance))
    lock = _files.lock_folder(tmp_path)
    assert lock is not None
    os.close(lock)
