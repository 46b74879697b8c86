"""`onepass report`: every number of the page is that of the run's files, and where it stands."""

import csv
import json
import re
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest
from onepass._svg import BOTTOM, LEFT, RIGHT, TOP, Axis, tick_labels
from onepass.runs import _held_out, _past, _report, _report_charts, load_run
from onepass.train import classification_report, regression_report
from report_pages import (
    NAMES,
    Page,
    check_curves,
    check_numbers,
    embedded,
    history_in,
    lines_of,
    page_of,
    place,
    shown,
    two_runs,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return two_runs(tmp_path_factory.mktemp("runs"))


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


@pytest.mark.parametrize("rows", [[], [{"loss": 0.0}], [{"loss": 1e308}, {"loss": -1e308}],
                                  [{"loss": 5e-324}, {"loss": 1e-320}],
                                  [{"loss": 1.0, "val_q,\"</script>": 2.0}] * 3])  # fmt: skip
def test_histories_of_few_or_odd_numbers(tmp_path, rows):
    folder = history_in(tmp_path / "n", rows)
    page = page_of(folder)
    assert len(check_numbers(folder, page)) == sum(map(len, rows))
    check_curves(folder, page)
    assert "nan" not in "".join(str(a) for _, a, _ in page.found if "points" in a or "cx" in a)


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
