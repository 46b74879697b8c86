"""Pages of `onepass report` for tests: two runs, a parser, and the check of every number."""

import csv
import json
import math
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from onepass.cli import main
from onepass.runs import _past, _report
from onepass.train import History

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


def two_runs(folder):
    """Two finished runs in a folder: words of any kind as classes, and numbers."""
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


def history_in(folder, rows):
    history = History()
    for row in rows:
        history.append(row)
    folder.mkdir(exist_ok=True)
    history.to_csv(folder / "history.csv")
    return folder
