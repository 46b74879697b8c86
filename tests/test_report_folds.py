"""The folds of a cross-validation in a report: a row each, and the way to their own pages."""

import csv
import json
import os
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from onepass.cli import main
from onepass.runs import write_report
from onepass.train import History
from report_pages import (
    FAST,
    Page,
    badge,
    check_numbers,
    copied,
    lines_of,
    page_of,
    shown,
    two_runs,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return two_runs(tmp_path_factory.mktemp("runs"))


def test_folds_are_shown(home, tmp_path):
    folds = [{"accuracy": 0.5, "loss": 1.25, "recall": {"a": 1}}, {"accuracy": 0.75, "loss": None}]
    folder = copied(home, tmp_path, folds=folds)
    for number in (1, 2):
        (folder / "folds" / str(number)).mkdir(parents=True)
        shutil.copy(folder / "history.csv", folder / "folds" / str(number))
    page = page_of(folder)
    cells = [
        (a["data-fold"], a["data-measure"], a["data-value"]) for a, _ in page.all(data_fold=True)
    ]
    assert cells == [("1", "accuracy", "0.5"), ("1", "loss", "1.25"),
                     ("2", "accuracy", "0.75"), ("2", "loss", "None")]  # fmt: skip
    assert "0.6250 ± 0.1768" in [t for _, t in page.all("td")]
    curves = [a for a, _ in page.all("polyline") if a["data-name"].startswith("fold ")]
    keys = {t: a["class"] for a, t in page.all("span") if a.get("class", "").startswith("key fold")}
    assert {f"fold {t}": kind for t, kind in keys.items()} == {
        a["data-name"]: f"key {a['class']}" for a in curves
    }
    assert [a["data-name"] for a in curves] == ["fold 1", "fold 2"]
    assert len({a["class"] for a in curves}) == 2
    assert badge(page_of(folder / "folds" / "1"))
    odd = copied(home, tmp_path / "odd", folds="later")
    assert "run.json has something else" in "".join(t for _, t in page_of(odd).all("p"))


def states(page):
    return {a["data-state"]: t for a, t in page.all("td", data_state=True)}


def check_folds(folder, page):
    """Epochs and the least loss of each are those of its history.csv; returns how many were."""
    seen = 0
    for a, text in page.all("td", data_of_fold=True):
        lines = lines_of(folder / "folds" / a["data-of-fold"])
        losses = [float(line["val_loss"]) for line in lines]
        assert int(a["data-at"]) == int(np.argmin(losses)) + 1
        assert a["data-value"] == lines[int(a["data-at"]) - 1]["val_loss"]
        assert text == f"{shown(min(losses))}epoch {a['data-at']}"
        seen += 1
    for a, text in page.all("td", data_epochs=True):
        place = folder / "folds" / a["data-epochs"]
        there = (place / "history.csv").is_file()
        assert text == (str(len(lines_of(place))) if there else "–")
    return seen


def times(page):
    """What happened when, in order."""
    text = page.text.partition("Sessions and environment")[2].partition("</table>")[0]
    rows = re.findall(r'<time datetime="(.*?)">.*?<td class=word>(.*?)</td>', text)
    assert [when for when, _ in rows] == sorted(when for when, _ in rows)
    return [what for _, what in rows]


def read(path):
    text = Path(path).read_text(encoding="utf-8")
    page = Page(text)
    page.text = text
    return page


def trained(*arguments, status=0):
    assert main(["train", *arguments, *FAST]) == status


def test_a_run_with_folds_says_how_each_went(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(home / "words.csv", tmp_path)
    append, calls = History.append, []

    def stop(self, row):
        append(self, row)
        calls.append(row)
        if len(calls) == 4 + 2:  # in the second epoch of the second fold
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(History, "append", stop)
        trained("words.csv", "--cv", "3", "--out", "r", status=130)
    page = read(write_report("r"))
    assert badge(page) == "interrupted"
    assert states(page) == {"1": "finished", "2": "interrupted", "3": "not begun"}
    assert "1 of 3 folds are done." in [t for _, t in page.all("p")]
    assert check_folds(Path("r"), page) == 2
    assert times(page) == ["fold 1 begun", "fold 1 finished", "fold 2 begun", "fold 2 interrupted",
                           "interrupted"]  # fmt: skip
    trained("--resume", "--out", "r")
    page = read("r/report.html")  # renewed
    assert states(page) == dict.fromkeys("123", "finished")
    assert check_folds(Path("r"), page) == 3
    happened = times(page)
    resumed = json.loads(Path("r/folds/2/run.json").read_text())["sessions"][1]["epoch"]
    expected = f"fold 2 resumed after epoch {resumed}" if resumed else "fold 2 again from the start"
    assert happened == ["fold 1 begun", "fold 1 finished", "fold 2 begun", expected,
                        "fold 2 finished", "fold 3 begun", "fold 3 finished", "begun",
                        "finished"]  # fmt: skip
    check_numbers(Path("r"), page)
    folds = json.loads(Path("r/run.json").read_text())["folds"]
    cells = {(a["data-fold"], a["data-measure"]): a["data-value"]
             for a, _ in page.all("td", data_fold=True)}  # fmt: skip
    assert cells == {(str(i), name): repr(fold[name]) for i, fold in enumerate(folds, 1)
                     for name in ("accuracy", "balanced_accuracy", "loss", "majority")}  # fmt: skip
    fold = page_of(Path("r/folds/1"))
    assert not fold.all("td", data_state=True)  # it has none itself
    assert "Fold 1 of the 3 of r." in [t for _, t in fold.all("p")]
    assert links(fold) == ["../../report.html"]
    Path("r/report.html").unlink()
    assert links(page_of(Path("r/folds/1"))) == []


def links(page):
    return [a["href"] for a, _ in page.all("a")]


def with_folds(home, tmp_path, name):
    """A run with two folds, of which the second has a page."""
    folder = copied(home, tmp_path, folds=[{"accuracy": 0.5}, {"accuracy": 0.75}])
    folder = folder.rename(tmp_path / name)
    for number in (1, 2):
        shutil.copytree(home / "words", folder / "folds" / str(number))
    (folder / "folds" / "1" / "report.html").unlink()
    return folder


def test_a_page_elsewhere_links_to_the_folds(home, tmp_path):
    folder = with_folds(home, tmp_path, "a run & more")
    (tmp_path / "pages").mkdir()
    for path in (folder / "report.html", tmp_path / "pages" / "page.html", tmp_path / "page.html"):
        (link,) = links(read(write_report(folder, path)))
        there = path.parent / unquote(link)
        assert there.samefile(folder / "folds" / "2" / "report.html")
    assert links(read(folder / "report.html")) == ["folds/2/report.html"]


def test_no_name_of_a_folder_is_a_scheme(home, tmp_path):
    folder = with_folds(home, tmp_path, "javascript:alert(1)")
    (link,) = links(read(write_report(folder, tmp_path / "page.html")))
    assert link == "javascript%3Aalert%281%29/folds/2/report.html"


def test_a_fold_that_cannot_be_read_is_a_row(home, tmp_path):
    folder = with_folds(home, tmp_path, "run")
    (folder / "folds" / "1" / "history.csv").write_text("epoch,loss\n1,2\n1,3\n")
    (folder / "folds" / "2" / "run.json").write_text("[]")
    page = page_of(folder)
    assert states(page) == {"1": "damaged", "2": "damaged"}
    titles = [a["title"] for a, _ in page.all("td", data_state=True)]
    assert "holds something else than a history" in titles[0]
    assert "run.json is damaged" in titles[1]
    assert [a["data-value"] for a, _ in page.all("td", data_measure="accuracy")][-2:] == [
        "0.5", "0.75"
    ]  # fmt: skip


def test_a_fold_whose_folder_is_gone_keeps_its_scores(home, tmp_path):
    folder = with_folds(home, tmp_path, "run")
    shutil.rmtree(folder / "folds")
    page = page_of(folder)
    assert states(page) == {"1": "finished", "2": "finished"}
    assert len(page.all("td", data_fold=True)) == 2
    assert not page.all("td", data_of_fold=True)


def test_a_run_whose_folds_are_not_begun(home, tmp_path):
    known = json.loads((home / "words" / "run.json").read_text())
    options = {**known["options"], "cv": 1000}
    page = page_of(copied(home, tmp_path, options=options, result=None))
    assert set(states(page).values()) == {"not begun"}
    assert len(states(page)) == 100  # of a forged number too
    assert "0 of 1000 folds are done." in [t for _, t in page.all("p")]


def test_a_fold_in_progress(home, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    folder = with_folds(home, tmp_path, "run")
    known = json.loads((folder / "folds" / "1" / "run.json").read_text())
    del known["result"]
    (folder / "folds" / "1" / "run.json").write_text(json.dumps(known))
    descriptor = os.open(folder / "folds" / "1", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        assert states(page_of(folder)) == {"1": "in progress", "2": "finished"}
    finally:
        os.close(descriptor)
    assert states(page_of(folder)) == {"1": "cut off", "2": "finished"}


def test_a_page_of_a_fold_is_renewed_with_it(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(home / "words.csv", tmp_path)
    trained("words.csv", "--cv", "2", "--out", "r")
    write_report("r/folds/2")
    assert main(["train", "--resume", "--out", "r", "--epochs", "5", "--quiet"]) == 0
    page = read("r/folds/2/report.html")
    assert {e for _, e in check_numbers(Path("r/folds/2"), page)} == {1, 2, 3, 4, 5}
    assert not Path("r/folds/1/report.html").exists()


def test_words_of_folds_are_no_elements(home, tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    folder = with_folds(home, tmp_path, "run")
    file = folder / "folds" / "1" / "run.json"
    known = json.loads(file.read_text())
    known |= {"ended": {"how": evil, "why": evil, "when": evil}, "finished": evil, "result": None}
    known["sessions"] = [{"began": evil, "epoch": 1, "environment": {}}]
    file.write_text(json.dumps(known))
    with open(folder / "folds" / "1" / "history.csv", "w", newline="") as out:
        csv.writer(out).writerows([["epoch", "val_loss", evil], [1, 0.5, 1]])
    page = read(write_report(folder))
    assert not page.all("img")
    assert evil not in page.text
