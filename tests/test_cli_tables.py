"""Tables as people have them, from the file to predictions in a file, by the README's commands."""

import csv

import numpy as np
import pytest
from onepass.cli import main

pytest.importorskip("pandas")
pytest.importorskip("sklearn")

FAST = ["--hidden", "32", "--epochs", "30", "--quiet"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, header, rows, *, sep=",", encoding="utf-8", end="\r\n"):
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=sep, lineterminator=end)
        writer.writerow(header)
        writer.writerows(rows)


def predicted(capsys, train, new, keep, rows):
    """train, evaluate, predict; the lines of predictions."""
    name, *options = train
    assert main(["train", name, *options, *FAST, "--out", "run"]) == 0, capsys.readouterr()
    line = capsys.readouterr().out.splitlines()[0]
    assert main(["evaluate", "run", name, "--held-out"]) == 0
    assert line.startswith(capsys.readouterr().out.strip().splitlines()[-1])
    assert main(["predict", "run", new, "--keep", keep, "--out", "p.csv"]) == 0, capsys.readouterr()
    with open("p.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert len(found) == rows
    return found


def test_prices_with_columns_of_text(here, capsys):
    rng = np.random.default_rng(0)
    each = {"São Paulo": 1500, "Oslo": 5200, "New York, NY": 9000}
    rows = []
    for i in range(200):
        city, size = list(each)[i % 3], rng.uniform(30, 200)
        price, heating = each[city] * size, ["gas", "oil", ""][i % 7 % 3]
        cells = [i, f"L{i:05d}", f"2024-{1 + i % 12:02d}-11", city, heating, f"{size:.1f}"]
        rows.append([*cells, ["True", "False"][i % 2], f"${price:,.2f}"])
    header = ["", "listing", "date", "city", "heating", "size, m2", "garden", "price"]
    write("prices.csv", header, rows)
    write("new.csv", header[:-1], [row[:-1] for row in rows[:50]])
    options = ["--target", "price", "--categorical", "auto", "--drop", "listing,date"]
    found = predicted(capsys, ["prices.csv", *options], "new.csv", "listing", 50)
    assert [row["listing"] for row in found] == [row[1] for row in rows[:50]]
    truth = [float(row[-1].replace("$", "").replace(",", "")) for row in rows[:50]]
    assert np.corrcoef(truth, [float(row["price"]) for row in found])[0, 1] > 0.8


def test_sensors_with_gaps(here, capsys):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(200):
        heat, shake = rng.uniform(10, 30), rng.gamma(2)
        wear = f"{0.3 * heat + shake:.3f}".replace(".", ",")
        cells = [f"{heat:.3f}".replace(".", ","), f"{shake:.3f}".replace(".", ","), wear]
        if i % 11 < 2:
            cells[i % 11] = ""
        rows.append([f"2024-01-01 {i // 60:02d}:{i % 60:02d}", *cells])
    write("sensor.csv", ["time", "heat", "shake", "wear"], rows, sep=";")
    options = ["--missing", "impute", "--drop", "time"]
    found = predicted(capsys, ["sensor.csv", *options], "sensor.csv", "time", 200)
    assert found[1]["time"] == "2024-01-01 00:01"
    truth = [float(row[-1].replace(",", ".")) for row in rows]
    assert np.corrcoef(truth, [float(row["wear"]) for row in found])[0, 1] > 0.8


def test_fraud_of_one_percent(here, capsys):
    rng = np.random.default_rng(0)
    v = rng.standard_normal((2000, 3))
    fraud = (v[:, 0] + v[:, 1] > 3.3).astype(int)
    assert 0.005 < fraud.mean() < 0.02
    rows = [
        [i, *values, int(f)] for i, (values, f) in enumerate(zip(v.round(4), fraud, strict=True))
    ]
    write("fraud.csv", ["Time", "V1", "V2", "Amount", "Class"], rows)
    options = ["--drop", "Time", "--class-weight", "balanced"]
    found = predicted(capsys, ["fraud.csv", *options], "fraud.csv", "Time", 2000)
    answers = np.array([int(row["Class"]) for row in found])
    assert answers[fraud == 1].mean() > 0.7
    assert answers[fraud == 0].mean() < 0.1


def test_an_export_of_a_spreadsheet(here, capsys):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(160):
        turnover, rebate = rng.uniform(1000, 90000), rng.uniform(0, 40)
        shown = f"{turnover:,.2f}".translate(str.maketrans(",.", ".,"))
        leaves = "ja" if turnover / 1000 > rebate + 20 else "nein"
        percent = f"{rebate:.1f}%".replace(".", ",")
        rows.append([100000 + i, f"{shown} €", percent, ["Nord", "Süd"][i % 2], leaves, ""])
    header = ["Kunde", "Umsatz", "Rabatt", "Region", "Kündigt", ""]
    write("export.csv", header, rows, sep=";", encoding="utf-8-sig")
    options = ["--categorical", "auto", "--drop", "Kunde"]
    found = predicted(capsys, ["export.csv", *options], "export.csv", "Kunde", 160)
    assert {row["Kündigt"] for row in found} <= {"ja", "nein"}
    right = [row["Kündigt"] == cells[4] for row, cells in zip(found, rows, strict=True)]
    assert np.mean(right) > 0.8


def test_a_pair_of_files_as_kaggle_has_them(here, capsys):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(260):
        sex, age = ["male", "female"][rng.integers(2)], rng.uniform(1, 80)
        lives = int((sex == "female") != (rng.random() < 0.1))
        place = rng.choice(["S", "C", ""], p=[0.6, 0.38, 0.02])
        known = "" if rng.random() < 0.2 else f"{age:.0f}"
        rows.append([i + 1, lives, f"Name, Mr. {i}", sex, known, place])
    header = ["PassengerId", "Survived", "Name", "Sex", "Age", "Embarked"]
    write("train.csv", header, rows[:200])
    write("test.csv", [header[0], *header[2:]], [[row[0], *row[2:]] for row in rows[200:]])
    options = ["--target", "Survived", "--categorical", "auto", "--drop", "PassengerId,Name"]
    found = predicted(capsys, ["train.csv", *options], "test.csv", "PassengerId", 60)
    assert [*found[0]] == ["PassengerId", "Survived"]
    assert [row["PassengerId"] for row in found] == [str(i) for i in range(201, 261)]
    right = [int(row["Survived"]) == cells[1] for row, cells in zip(found, rows[200:], strict=True)]
    assert np.mean(right) > 0.7
