"""The folds of a cross-validation in a report: a row each, and the way to their own pages."""

import json
import shutil

import pytest
from report_pages import badge, copied, page_of, two_runs


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
    assert {a["data-name"] for a, _ in page.all("polyline")} >= {"fold 1", "fold 2"}
    assert badge(page_of(folder / "folds" / "1"))
    odd = copied(home, tmp_path / "odd", folds="later")
    assert "run.json has something else" in "".join(t for _, t in page_of(odd).all("p"))
