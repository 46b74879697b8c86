"""`onepass report`: every number of the page is that of the run's files, in whatever state."""

import csv
import json
import math
import os
import re
import shlex
import shutil
from decimal import Decimal
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from onepass import _files, nn, optim
from onepass._svg import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Axis, tick_labels
from onepass.cli import _parser, main
from onepass.runs import (
    _command_line,
    _folder,
    _held_out,
    _past,
    _report,
    _report_charts,
    load_run,
    write_report,
)
from onepass.runs._options import Options
from onepass.train import (
    ClassificationReport,
    History,
    Trainer,
    classification_report,
    regression_report,
)
from test_bench_html import BROWSER, browse, with_script

FAST = ["--hidden", "6", "--epochs", "4", "--quiet"]
NAMES = ["a <b>bold</b> name", "gr\u00fcn \u732b", "</script><script>alert(1)</script>", "$x^2$"]


class Page(HTMLParser):
    """The elements of a page: (tag, attributes, the text in it)."""

    VOID = ("meta", "img", "br", "line", "circle", "rect", "polyline", "path")

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.style = [], [], ""
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        element = [tag, dict(attributes), ""]
        self.found.append(element)
        if tag not in self.VOID or tag in ("line", "rect"):
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.found.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[2] += data

    def all(self, tag=None, **attributes):
        names = {k.replace("_", "-"): v for k, v in attributes.items()}
        return [
            (a, t)
            for of, a, t in self.found
            if (tag is None or of == tag)
            and all(k in a and v in (True, a[k]) for k, v in names.items())
        ]


def lines_of(folder):
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two finished runs: words of any kind as classes, and numbers."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    X = rng.standard_normal((160, 2))
    kind = (X[:, 0] > 0) * 2 + (X[:, 1] > 0.8)
    with open(folder / "words.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "kind"])
        writer.writerows([*row, NAMES[k]] for row, k in zip(X.tolist(), kind, strict=True))
    with open(folder / "numbers.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "price"])
        writer.writerows([*row, 1000 + 50 * row[0] - row[1]] for row in X.tolist())
    before = os.getcwd()
    os.chdir(folder)
    try:
        for name in ("words", "numbers"):
            assert main(["train", f"{name}.csv", *FAST, "--out", name]) == 0
            assert main(["report", name]) == 0
    finally:
        os.chdir(before)
    return folder


def page_of(folder):
    return Page(_report.render(_past.Past.read(Path(folder))))


def shown(value):
    """As the page rounds."""
    if value != value:
        return "nan"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e6 or value == 0 else f"{value:.5g}"


def check_numbers(folder, page):
    """Every number that has an epoch is the one in history.csv."""
    lines, seen = lines_of(folder), set()
    for attributes, text in page.all(data_epoch=True):
        name, epoch = attributes["data-name"], int(attributes["data-epoch"])
        cell = lines[epoch - 1][name]
        assert attributes["data-value"] == cell, (name, epoch)
        assert text.partition("epoch")[0] == shown(float(cell))
        seen.add((name, epoch))
    return seen


def check_curves(folder, page):
    """Every point that is drawn is where its number is; returns how many by name."""
    lines = lines_of(folder)
    points = {}
    for svg, _ in page.all("svg", data_names=True):
        axes = [list(map(float, svg[f"data-{axis}"].split(","))) for axis in "xy"]
        own = json.loads(svg["data-names"])
        for name in own:
            expected = {}
            for number, line in enumerate(lines, 1):
                value = float(line[name])
                if math.isfinite(value):
                    x, y = place(axes[0], number), place(axes[1], value)
                    expected.setdefault(f"{x:.2f}", []).append(y)
            drawn = [p.split(",") for a, _ in page.all("polyline", data_name=name)
                     for p in a["points"].split()]  # fmt: skip
            drawn += [(a["cx"], a["cy"]) for a, _ in page.all("circle", data_name=name)]
            for x, y in drawn:
                assert min(abs(float(y) - e) for e in expected[x]) < 0.0051, (name, x, y)
            points[name] = {x for x, _ in drawn}
    return points


def place(axis, value):
    low, high, begin, end, log = axis
    f = math.log if log else lambda v: v / 2
    return begin + (f(value) - f(low)) / (f(high) - f(low)) * (end - begin)


def embedded(page):
    return json.loads(next(t for a, t in page.all("script", id="history")))


# ------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("name", ["words", "numbers"])
def test_every_number_is_that_of_the_history(home, name):
    folder = home / name
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    lines = lines_of(folder)
    columns = [c for c in lines[0] if c != "epoch"]
    assert check_numbers(folder, page) == {(c, e + 1) for c in columns for e in range(4)}
    found = check_curves(folder, page)
    assert {c: len(points) for c, points in found.items()} == dict.fromkeys(columns, 4)
    text = (folder / "history.csv").read_text()
    history = embedded(page)
    assert history["names"] == columns
    assert text == f"epoch,{','.join(columns)}\n{history['rows']}\n"


@pytest.mark.parametrize("name", ["words", "numbers"])
def test_every_score_is_that_of_the_record(home, name):
    page = page_of(home / name)
    result = json.loads((home / name / "run.json").read_text())["result"]
    cards = {a["data-result"]: (a["data-value"], t) for a, t in page.all("dd", data_result=True)}
    expected = {k: v for k, v in result.items() if isinstance(v, float)}
    assert {k: float(v) for k, (v, _) in cards.items()} == expected
    assert {k: t for k, (_, t) in cards.items()} == {k: shown(v) for k, v in expected.items()}


def test_the_matrix_is_that_of_the_predictions(home):
    page, folder = page_of(home / "words"), home / "words"
    with open(folder / "held_out.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classes = json.loads((folder / "run.json").read_text())["classes"]
    assert set(classes) == set(NAMES)
    cells = {}
    for a, text in page.all("td", data_row=True):
        assert text == a["data-value"]
        cells[int(a["data-row"]), int(a["data-column"])] = int(text)
    assert len(cells) == 16
    for (true, predicted), count in cells.items():
        there = [
            r for r in rows if (r["true"], r["predicted"]) == (classes[true], classes[predicted])
        ]
        assert len(there) == count
    report = classification_report([r["true"] for r in rows], [r["predicted"] for r in rows],
                                   labels=classes)  # fmt: skip
    measures = page.all("td", data_measure=True)
    assert len(measures) == 4 * 4 + 2 + 2 * 4
    order = ("precision", "recall", "f1", "support")
    expected = [getattr(report, name)[i].item() for i in range(4) for name in order]
    values = [float(a["data-value"]) for a, _ in measures[:16]]
    assert values == expected
    assert [a["data-measure"] for a, _ in measures[:16]] == [*order] * 4
    heads = [t for a, t in page.all("th", scope="row") if t in classes]
    assert set(heads) == set(classes)
    assert "alert(1)" not in "".join(t for _, t in page.all("script"))
    predicted = load_run(folder).predict(home / "words.csv")
    for row in rows:
        assert predicted[int(row["row"]) - 1] == row["predicted"]


def test_residuals_are_where_they_are(home):
    page, folder = page_of(home / "numbers"), home / "numbers"
    with open(folder / "held_out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    true, predicted = (np.array([float(r[n]) for r in rows]) for n in ("true", "predicted"))
    table = np.loadtxt(home / "numbers.csv", delimiter=",", skiprows=1)
    np.testing.assert_array_equal(table[[int(r["row"]) - 1 for r in rows], 2], true)
    report = regression_report(true, predicted)
    circles = page.all("circle", **{"class": "point"})
    assert len(circles) == 2 * len(true)
    ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
    room = 0.03 * (ends[1] - ends[0])
    axis = [ends[0] - room, ends[1] + room]
    for (a, _), x, y in zip(circles[: len(true)], true, predicted, strict=True):
        assert abs(float(a["cx"]) - place([*axis, LEFT, RIGHT, 0], x)) < 0.006
        assert abs(float(a["cy"]) - place([*axis, BOTTOM, TOP, 0], y)) < 0.006
    for a, text in page.all("td", data_measure=True):
        measure = a["data-measure"]
        of = report.quantiles if measure in report.quantiles else report.__dict__
        assert float(a["data-value"]) == pytest.approx(float(of[measure][0]), rel=1e-12)
        assert text == shown(float(a["data-value"]))


def test_a_table_of_classes_has_the_right_lines(home):
    report = classification_report([0, 1, 1, 3], [0, 1, 0, 3], target_names=["a", "b", "c", "d"])
    page = Page(f"<main>{_report_charts.classes(report)}</main>")
    rows = re.findall(r'<tr data-class="(\d)">(.*?)</tr>', _report_charts.classes(report))
    assert len(rows) == 4
    for i, row in rows:
        values = re.findall(r'data-measure="(\w+)" data-value="(.*?)"', row)
        for measure, value in values:
            expected = getattr(report, measure)[int(i)]
            assert float(value) == pytest.approx(expected, nan_ok=True, rel=1e-12)
    assert [t for a, t in page.all("td", data_measure="recall")][2] == "0*"
    means = np.array([[float(a["data-value"]) for a, _ in page.all("td", data_measure=name)]
                      for name in ("precision", "recall", "f1")])  # fmt: skip
    np.testing.assert_allclose(means[:, 4], means[:, :4].mean(axis=1), rtol=1e-12)
    assert "* 0/0, counts as 0 in the averages" in "".join(t for _, t in page.all("p"))
    assert "4" in [t for _, t in page.all("td", data_measure="support")]


# ------------------------------------------------------------------------------- states


def copied(home, tmp_path, name="words", **record):
    """A copy of a run, whose record differs: None takes something out."""
    folder = tmp_path / "run"
    shutil.copytree(home / name, folder)
    known = json.loads((folder / "run.json").read_text())
    known = {k: v for k, v in {**known, **record}.items() if v is not None}
    (folder / "run.json").write_text(json.dumps(known))
    return folder


UNFINISHED = {"result": None, "finished": None, "verdict": None}


def badge(page):
    return next(t for a, t in page.all("span") if "badge" in a.get("class", ""))


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


def history_in(folder, rows):
    history = History()
    for row in rows:
        history.append(row)
    folder.mkdir(exist_ok=True)
    history.to_csv(folder / "history.csv")
    return folder


def test_numbers_that_are_none_are_gaps(tmp_path):
    nan, inf = float("nan"), float("inf")
    losses = [1.0, nan, 0.5, 0.25, inf, nan, nan, 2.0]
    rows = [{"loss": value, "accuracy": nan} for value in losses]
    folder = history_in(tmp_path / "n", rows)
    page = page_of(folder)
    check_numbers(folder, page)
    found = check_curves(folder, page)
    assert {name: len(points) for name, points in found.items()} == {"loss": 4, "accuracy": 0}
    lines = [a["points"].split() for a, _ in page.all("polyline")]
    assert list(map(len, lines)) == [2]  # two epochs beside each other
    assert "loss: 2, 5 to 7" in [t for _, t in page.all("li")]
    assert "accuracy: 1 to 8" in [t for _, t in page.all("li")]
    assert [len(page.all("text", **{"class": "lost"}))] == [4 + 8]


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


@pytest.mark.parametrize("rows", [[], [{"loss": 0.0}], [{"loss": 1e308}, {"loss": -1e308}],
                                  [{"loss": 5e-324}, {"loss": 1e-320}],
                                  [{"loss": 1.0, "val_q,\"</script>": 2.0}] * 3])  # fmt: skip
def test_histories_of_few_or_odd_numbers(tmp_path, rows):
    folder = history_in(tmp_path / "n", rows)
    page = page_of(folder)
    assert len(check_numbers(folder, page)) == sum(map(len, rows))
    check_curves(folder, page)
    assert "nan" not in "".join(str(a) for _, a, _ in page.found if "points" in a or "cx" in a)


def test_a_run_before_its_first_epoch(home, tmp_path):
    folder = copied(home, tmp_path, **UNFINISHED)
    for name in ("history.csv", "model.npz", "held_out.csv"):
        (folder / name).unlink()
    page = page_of(folder)
    words = "".join(t for _, t in page.all("p"))
    assert "No epoch is done yet" in words
    assert "There is no model" in words


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


# ------------------------------------------------------------------------------- large ones


def test_a_hundred_thousand_epochs(tmp_path):
    """The page stays small, and yet has the extremes of every curve."""
    rng = np.random.default_rng(0)
    folder, count = tmp_path / "n", 100_000
    folder.mkdir()
    loss = np.exp(-np.arange(count) / 2e4) + 0.1 * rng.random(count)
    loss[70_001] = 1.75
    val = loss + 0.1
    val[33_333] = np.nan
    lines = [f"{i},{a!r},{b!r},0.001" for i, (a, b) in
             enumerate(zip(loss.tolist(), val.tolist(), strict=True), 1)]  # fmt: skip
    (folder / "history.csv").write_text("\n".join(["epoch,loss,val_loss,lr", *lines]) + "\n")
    text = _report.render(_past.Past.read(folder))
    assert len(text) < 6e6
    page = Page(text)
    assert len(page.found) < 4000
    check_numbers(folder, page)
    drawn = [tuple(map(float, p.split(","))) for a, _ in page.all("polyline", data_name="loss")
             for p in a["points"].split()]  # fmt: skip
    svg = page.all("svg", data_names=True)[0][0]
    y = list(map(float, svg["data-y"].split(",")))
    assert min(b for _, b in drawn) == pytest.approx(place(y, loss.max()), abs=0.006)
    assert max(b for _, b in drawn) == pytest.approx(place(y, loss.min()), abs=0.006)
    assert len(drawn) < 4 * (RIGHT - LEFT + 2)
    assert len(page.all("polyline", data_name="val_loss")) == 2
    kept = [line.split(",")[0] for line in embedded(page)["rows"].split("\n")]
    assert (kept[0], kept[-1]) == ("1", str(count))


def test_a_thousand_classes(tmp_path):
    rng = np.random.default_rng(0)
    true = rng.integers(0, 1000, 20_000)
    predicted = np.where(rng.random(20_000) < 0.6, true, rng.integers(0, 1000, 20_000))
    report = classification_report(
        true, predicted, target_names=[f"class {i}" for i in range(1000)]
    )
    text = _report_charts.matrix(report) + _report_charts.classes(report)
    assert len(text) < 1e6
    assert text.count("data-row=") == _report_charts.SOME_CELLS**2
    assert text.count("<tr data-class=") == 1000 + _report_charts.MOST_CLASSES
    worst = [float(v) for v in re.findall(r'data-measure="f1" data-value="(.*?)"', text)]
    assert (
        worst[: _report_charts.MOST_CLASSES - 1]
        == sorted(report.f1.tolist())[: _report_charts.MOST_CLASSES - 1]
    )
    assert _report_charts.mistakes(report).count("<tr>") == 1 + _report_charts.MOST_MISTAKES


def test_many_residuals_are_counted_in_cells():
    x = np.random.default_rng(0).standard_normal(5000)
    text = _report_charts.residuals(regression_report(x, x * 0.9))
    counts = [int(n) for n in re.findall(r"<title>(\d+) points</title>", text)]
    assert sum(counts) == 2 * 5000
    assert len(text) < 1e6
    places = re.findall(r'<rect class="cell" x="([\d.]+)" y="([\d.-]+)"', text)
    assert all(LEFT - 1 < float(a) < RIGHT and TOP - 1 < float(b) < BOTTOM for a, b in places)


# ------------------------------------------------------------------------------- how to repeat it


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


# ------------------------------------------------------------------------------- wrong use


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
    Path("record").mkdir(exist_ok=True)
    Path("record/run.json").write_text("[]")
    with pytest.raises(SystemExit) if line == "report" else monkeypatch.context() as done:
        assert main(line.split()) == 2
    if line == "report":
        assert done.value.code == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(WRONG[line], error), error


def test_a_page_that_cannot_be_written(home, capsys, monkeypatch):
    monkeypatch.chdir(home)
    for path in ("words.csv/x.html", "/proc/x.html"):
        assert main(["report", "words", "--out", path]) == 1
        assert re.search("cannot write .*(words.csv|/proc)", capsys.readouterr().err)


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


# ------------------------------------------------------------------------------- in a browser


LOOKS = (
    f"const EDGE = {RIGHT / WIDTH};"
    + """
const said = {};
const rgb = text => {
  const p = text.match(/[\\d.]+/g).map(Number);
  return text.startsWith("color(") ? p.slice(0, 3).map(v => 255 * v).concat(p[3] ?? 1)
    : p.slice(0, 3).concat(p[3] ?? 1);
};
const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
  .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = e => {
  for (; e; e = e.parentElement) {
    const colour = rgb(getComputedStyle(e).backgroundColor);
    if (colour[3] > 0) return colour;
  }
  return [255, 255, 255, 1];
};
const pale = [];
for (const e of document.querySelectorAll("body *")) {
  const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!own || ["SCRIPT", "STYLE"].includes(e.tagName) || !e.getClientRects().length) continue;
  const style = getComputedStyle(e);
  const [a, b] = [light(rgb(e.closest("svg") ? style.fill : style.color)), light(behind(e))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) pale.push(`${e.tagName} ${e.className.baseVal ?? e.className} ${ratio}`);
}
said.pale = [...new Set(pale)];
said.wide = document.documentElement.scrollWidth - window.innerWidth;
said.paper = getComputedStyle(document.body).backgroundColor;
const svg = document.querySelector("svg[data-names]"), box = svg.getBoundingClientRect();
const out = svg.closest("figure").querySelector("output");
svg.dispatchEvent(new PointerEvent("pointermove",
  {clientX: box.left + box.width * EDGE, clientY: box.top + 5}));
said.last = out.textContent;
for (const key of ["Home", "ArrowRight"]) svg.dispatchEvent(new KeyboardEvent("keydown", {key}));
said.second = out.textContent;
const dot = svg.querySelector("circle.at");
said.dot = [dot.getAttribute("cx"), dot.getAttribute("cy")].map(Number);
svg.dispatchEvent(new PointerEvent("pointerleave"));
said.after = out.textContent;
said.unnamed = [...document.querySelectorAll("svg, img")].filter(
  e => !(e.getAttribute("aria-label") || e.getAttribute("alt"))).length;
said.headless = [...document.querySelectorAll("table")].filter(
  t => !t.querySelector("th[scope]")).length;
said.small = Math.min(...[...document.querySelectorAll("svg text")].map(
  t => t.getBoundingClientRect().height).filter(h => h));
said.outside = [...document.querySelectorAll("svg text")].filter(t => {
  const own = t.getBoundingClientRect(), all = t.closest("svg").getBoundingClientRect();
  return own.left < all.left - 1 || own.right > all.right + 1 || own.top < all.top - 1 ||
    own.bottom > all.bottom + 1;
}).map(t => t.textContent);
said.errors = window.errors;
document.body.dataset.said = JSON.stringify(said);
"""
)
WATCH = """window.errors = [];
addEventListener("error", e => errors.push(String(e.message)));
addEventListener("securitypolicyviolation", e => errors.push(e.blockedURI));"""


def watched(text, script):
    """The page with two scripts more: the first looks for errors from the beginning."""
    text = with_script(with_script(text, script), WATCH)
    first = f"<script>{WATCH}</script>"
    return text.replace(first, "", 1).replace("<title>", first + "<title>", 1)


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
@pytest.mark.parametrize(("name", "size", "scheme"), [("words", "360,800", 0),
                                                      ("numbers", "1400,900", 1)])  # fmt: skip
def test_the_page_in_a_browser(home, tmp_path, name, size, scheme):
    text = (home / name / "report.html").read_text(encoding="utf-8")
    path = tmp_path / "page.html"
    path.write_text(watched(text, LOOKS), encoding="utf-8")
    said = browse(path, f"--window-size={size}", f"--blink-settings=preferredColorScheme={scheme}")
    lines = lines_of(home / name)
    for key, line in (("last", lines[-1]), ("second", lines[1])):
        kinds = f"training {line['loss']}, validation {line['val_loss']}"
        assert said[key] == f"epoch {line['epoch']}: {kinds}"
    svg = Page(text).all("svg", data_names=True)[0][0]
    axes = [list(map(float, svg[f"data-{axis}"].split(","))) for axis in "xy"]
    assert said["dot"] == pytest.approx(
        [place(axes[0], 2), place(axes[1], float(lines[1]["loss"]))], abs=0.01
    )
    assert said["after"] == ""
    assert said["paper"] == ("rgb(20, 24, 28)" if scheme == 0 else "rgb(255, 255, 255)")
    assert said["wide"] <= 0
    assert (said["pale"], said["errors"], said["outside"]) == ([], [], [])
    assert (said["unnamed"], said["headless"]) == (0, 0)
    assert said["small"] >= 9


def test_the_page_needs_no_network(home):
    for name in ("words", "numbers"):
        text = (home / name / "report.html").read_text(encoding="utf-8")
        assert not re.search(r"https?:|src=(?!\"data:)|@import|url\(|<link", text)
        assert "default-src 'none'" in text
        assert "<b>bold" not in text


EVIL = "<img src=x onerror=alert(1)>"
HOSTILE_RECORD = {
    "options": {"data": EVIL, "cv": 3, "epochs": 4, "hidden": [EVIL], "target": EVIL, EVIL: EVIL,
                "device": EVIL},
    "data": {"rows": 5, "training": 3, "target": EVIL, "inputs": [EVIL], "notes": [EVIL]},
    "classes": None, "result": None, "contents": EVIL, "directory": EVIL, "verdict": EVIL,
    "ended": {"how": "failed", "why": EVIL, "when": EVIL, "where": EVIL}, "finished": EVIL,
    "folds": [{"accuracy": 0.5, "loss": 1.0, EVIL: EVIL}],
    "sessions": [{"began": EVIL, "epoch": 1, "environment": {EVIL: EVIL}}],
}  # fmt: skip
EVIL_SCRIPT = """
document.body.dataset.said = JSON.stringify({errors, ran: window.ran ?? 0,
  images: document.querySelectorAll("img").length,
  handlers: [...document.querySelectorAll("*")].filter(
    e => [...e.attributes].some(a => a.name.startsWith("on"))).length});
"""


def hostile_run(home, folder):
    """Texts that would be elements, wherever a run has texts; returns the folder."""
    shutil.copytree(home / "words", folder)
    known = json.loads((folder / "run.json").read_text())
    own = HOSTILE_RECORD | {"classes": [EVIL, "a", "b", "c"], "result": known["result"]}
    (folder / "run.json").write_text(json.dumps(own))
    rows = [{"loss": 1.0, "val_loss": 2.0, EVIL: 0.5}] * 3
    history_in(folder, rows)
    with open(folder / "held_out.csv", "w", newline="") as file:
        csv.writer(file).writerows([["row", "true", "predicted"], [1, EVIL, "a"], [2, "b", EVIL]])
    (folder / "folds" / EVIL.replace("/", "")).mkdir(parents=True)
    shutil.copy(folder / "history.csv", folder / "folds" / EVIL)
    return folder


@pytest.mark.parametrize("kind", ["record", "cv", "log"])
def test_no_text_of_a_run_is_an_element(home, tmp_path, kind):
    folder = hostile_run(home, tmp_path / EVIL.replace("/", ""))
    if kind == "log":
        (folder / "run.json").unlink()
    if kind == "cv":  # a text where a number is
        known = json.loads((folder / "run.json").read_text())
        known["options"]["cv"] = EVIL
        (folder / "run.json").write_text(json.dumps(known))
        with pytest.raises(ValueError, match="'options' has 'cv', which is '<img"):
            write_report(folder)
        return
    path = write_report(folder, tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.all("img")
    assert not [a for _, a, _ in page.found if any(name.startswith("on") for name in a)]
    assert EVIL not in text
    assert text.count("onerror=alert(1)") > 5
    if BROWSER is not None:
        path.write_text(watched(text, EVIL_SCRIPT), encoding="utf-8")
        said = browse(path)
        assert said == {"errors": [], "ran": 0, "images": 0, "handlers": 0}


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
def test_the_policy_lets_no_other_script_run(home, tmp_path):
    """Should a text come into a page as an element after all."""
    text = (home / "words" / "report.html").read_text(encoding="utf-8")
    there = "<main><script>window.ran = 1</script><img src=x onerror='window.ran = 2'>"
    path = tmp_path / "page.html"
    path.write_text(watched(text.replace("<main>", there, 1), EVIL_SCRIPT), encoding="utf-8")
    said = browse(path, "--virtual-time-budget=2000")
    assert said["ran"] == 0
    assert (said["images"], said["handlers"]) == (1, 1)
    assert "inline" in said["errors"]


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


def test_entries_that_are_null_are_missing(home, tmp_path):
    folder = copied(home, tmp_path)
    known = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**dict.fromkeys(known), "options": {}}))
    assert badge(page_of(folder)) == "cut off"


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
    (folder / "report.html").write_text("of before")
    capsys.readouterr()
    assert main(["train", "--resume", "--epochs", "9", "--out", str(folder)]) == 130
    told = " ".join(capsys.readouterr().out.split())
    assert "report.html showed the part before and is gone" in told
    known = json.loads((folder / "run.json").read_text())
    assert "best_epoch" not in known
    assert "epochs" not in known
    assert not (folder / "report.html").exists()
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


def test_a_report_of_something_else_stays(tmp_path):
    """A folder that has a report.html alone holds no run, and keeps it."""
    (tmp_path / "report.html").write_text("mine")
    folder = _folder.Folder.new("x", tmp_path)
    folder.close()
    assert (tmp_path / "report.html").read_text() == "mine"


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


AXES = {
    "millions": (1.2e6, 1.21e6), "beside each other": (0.693147, 0.693148), "shares": (0.0, 1.0),
    "one in a billion": (1.0, 1.0 + 1e-9), "negative": (-1.0000001, -1.0), "small": (1e-9, 7e-9),
    "huge": (-1e300, 1.5e308), "tiny": (0.0, 5e-320), "years": (1990.0, 2026.0),
    "around zero": (-3e-7, 4e-7), "large and near": (1e15, 1e15 + 8), "equal": (3.0, 3.0),
}  # fmt: skip


@pytest.mark.parametrize("name", AXES)
@pytest.mark.parametrize("log", [False, True])
def test_a_tick_is_where_its_label_says(name, log):
    axis = Axis.of([AXES[name]], 0.0, 400.0, log=log)
    values = axis.ticks()
    labels, base = tick_labels(values)
    assert len(values) == len(labels) >= 2
    assert len(set(labels)) == len(labels)
    assert max(map(len, labels)) <= 8 or name in ("huge", "tiny", "equal")
    places = [Decimal(label) + Decimal(base or "0") for label in labels]
    gap = min(b - a for a, b in pairwise(values))
    for place_, value in zip(places, values, strict=True):
        assert abs(place_ - Decimal(value)) <= Decimal("0.011") * Decimal(gap)


def test_what_is_added_to_the_ticks_is_shown(tmp_path):
    rows = [{"loss": 0.693147 + 1e-7 * e} for e in range(10)]
    page = page_of(history_in(tmp_path / "n", rows))
    assert page.all("text", **{"class": "base"})[0][1].startswith("+ 0.69314")


def test_classes_with_a_carriage_return_are_kept(tmp_path):
    classes = ["a\rb", "c,d", '"', "\n", ""]
    of = np.arange(5)
    _held_out.write(tmp_path, _held_out.HeldOut(of, of, of[::-1]), classes)
    found = _held_out.read(tmp_path, classes)
    assert (found.true.tolist(), found.predicted.tolist()) == ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0])


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
