"""Excel and Parquet files: read as their CSV would be, trained on, evaluated and predicted."""

import datetime
import decimal
import json
import sys

import numpy as np
import pytest
from onepass import load_run
from onepass.cli import main
from onepass.data import read_table

NEEDED = {".csv": ["pandas"], ".xlsx": ["pandas", "openpyxl"], ".parquet": ["pandas", "pyarrow"]}
BINARY = [".xlsx", ".parquet"]


def pandas_for(ending):
    """pandas, with what it needs for such files; else the test is skipped and says the package."""
    for name in NEEDED[ending]:
        reason = f"{name} is not installed, so {ending} is untested: pip install {name}"
        pytest.importorskip(name, reason=f"{reason} (scripts/test does)")
    return sys.modules["pandas"]


def written(path, frame):
    to = {".csv": frame.to_csv, ".xlsx": frame.to_excel, ".parquet": frame.to_parquet}
    to[path.suffix](path, index=False)
    return path


def things(pandas, count=60):
    rng = np.random.default_rng(4)
    size, rooms = rng.random(count).round(3), rng.integers(1, 6, count)
    return pandas.DataFrame({
        "size": np.where(rng.random(count) < 0.1, np.nan, size),
        "rooms": pandas.array([None if i == 7 else int(r) for i, r in enumerate(rooms)], "Int64"),
        "sold": rng.random(count) < 0.5,
        "code": rng.choice(["007", "7", "012"], count),
        "town": pandas.Categorical(rng.choice(["Oslo", "Köln", "Rio"], count)),
        "price": (size * 3 + rooms).round(2),
    })  # fmt: skip


@pytest.mark.parametrize("ending", BINARY)
def test_a_file_is_read_as_its_csv(tmp_path, ending):
    pandas = pandas_for(ending)
    frame = things(pandas)
    for target in ("price", "town", "code", "rooms", "sold"):
        one, other = (
            read_table(written(tmp_path / f"t{e}", frame), target=target, categorical="auto")
            for e in (ending, ".csv")
        )
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.y, other.y)
        assert (one.classes, one.feature_names) == (other.classes, other.feature_names)
        assert one.notes == other.notes


@pytest.mark.parametrize("ending", BINARY)
def test_a_model_trained_on_a_file_predicts_that_and_others(tmp_path, monkeypatch, capsys, ending):
    pandas = pandas_for(ending)
    monkeypatch.chdir(tmp_path)
    frame = things(pandas)
    data = written(tmp_path / f"t{ending}", frame).name
    options = ["--categorical", "auto", "--hidden", "4", "--epochs", "2", "--out", "run"]
    assert main(["train", data, *options]) == 0
    trained = capsys.readouterr().out
    assert main(["evaluate", "run", data, "--held-out", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores == json.loads((tmp_path / "run" / "run.json").read_text())["result"]
    assert f"mae {scores['mae']:.4f}" in trained
    shuffled = frame.iloc[:, ::-1].assign(more=1).drop(columns="price")
    want = load_run("run").predict(frame).tolist()
    for other in (".csv", *(e for e in BINARY if e == ending)):
        new = written(tmp_path / f"new{other}", shuffled).name
        assert main(["predict", "run", new, "--out", "p.csv"]) == 0, capsys.readouterr().err
        found = (tmp_path / "p.csv").read_text().splitlines()
        assert [float(cell) for cell in found[1:]] == want
    written(tmp_path / f"few{ending}", shuffled.drop(columns="town"))
    assert main(["predict", "run", f"few{ending}"]) == 2
    assert "no column 'town', which the model was trained on" in capsys.readouterr().err


@pytest.mark.parametrize("ending", BINARY)
def test_dates_and_damage_are_refused(tmp_path, ending):
    pandas = pandas_for(ending)
    frame = pandas.DataFrame({"t": pandas.date_range("2024-01-01", periods=4), "y": [0.5, 1, 2, 3]})
    path = written(tmp_path / f"t{ending}", frame)
    with pytest.raises(ValueError, match=r"column 't', row 1: '2024-01-01.* is a date or time"):
        read_table(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=rf"t{ending}: cannot be read as "):
        read_table(path)


@pytest.mark.parametrize("ending", BINARY)
def test_without_a_package_the_error_names_it(tmp_path, monkeypatch, ending):
    package = NEEDED[ending][1]
    (tmp_path / f"t{ending}").write_bytes(b"PK\x03\x04")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=rf"needs pandas and {package}: pip install 'onepass\["):
        read_table(tmp_path / f"t{ending}")


def test_types_of_parquet(tmp_path):
    pandas = pandas_for(".parquet")
    frame = pandas.DataFrame({
        "small": np.array([1, 2, 3, 4], np.int8), "single": np.array([0.5, 1, 2, 3], np.float32),
        "exact": [decimal.Decimal("1.10"), decimal.Decimal("2.25"), None, decimal.Decimal(3)],
        "text": ["1,5", "2,5", "3,25", "4"], "y": [0.5, 1.5, 2.5, 3.5],
    })  # fmt: skip
    table = read_table(written(tmp_path / "t.parquet", frame), missing="impute")
    assert table.x[:, 0].tolist() == [1, 2, 3, 4]
    assert table.x[:, 1].tolist() == [0.5, 1, 2, 3]
    assert table.x[:, 2].tolist() == [1.1, 2.25, 2.25, 3]
    assert table.x[:, 3].tolist() == [1.5, 2.5, 3.25, 4]
    nested = frame.assign(text=[[1, 2], [3], [], [4]])
    with pytest.raises(ValueError, match="column 'text', row 1: "):
        read_table(written(tmp_path / "t.parquet", nested), missing="impute")
    nested.index = pandas.Index([7, 8, 9, 5], name="key")
    nested.drop(columns=["text", "exact"]).to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").columns == ("small", "single")


def test_sheets_as_people_have_them(tmp_path):
    """Titles, formatted empty columns, typed percentages, errors of formulas, a second sheet."""
    pandas_for(".xlsx")
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    for row in (
        ["Sales 2024"], [], ["size", "rate", "when", "price"],
        [1.5, 0.12, datetime.date(2024, 1, 2), 10], [2, "=1/0", datetime.date(2024, 1, 3), 20.5],
        [None, 0.25, None, 30], ["3", 0.5, datetime.date(2024, 1, 5), 40],
    ):  # fmt: skip
        sheet.append(row)
    sheet["B4"].number_format = "0%"
    sheet["F4"].value = " "
    book.create_sheet("More").append(["x"])
    path = tmp_path / "t.xlsx"
    book.save(path)
    options = {"drop": ["when"], "missing": "impute"}
    table = read_table(path, **options)
    assert table.columns == ("size", "rate")
    assert table.x.tolist() == [[1.5, 0.12], [2, 0.25], [2, 0.25], [3, 0.5]]
    assert table.y.tolist() == [10, 20.5, 30, 40]
    assert "read the first of 2 sheets, 'Sheet'" in table.notes
    assert "left out the lines above the header line: 'Sales 2024'" in table.notes
    sheet.append(["Total", None, None, 100.5])
    book.save(path)
    with pytest.raises(ValueError, match="line 8: the last row begins with 'Total', a total"):
        read_table(path, **options)
    plain = openpyxl.Workbook()
    for row in ([1, 2.5], [2, 3.5]):
        plain.active.append(row)
    plain.save(path)
    with pytest.raises(ValueError, match="the first line is numbers, expected column names"):
        read_table(path)
    assert read_table(path, header=False).y.tolist() == [2.5, 3.5]
    openpyxl.Workbook().save(path)
    with pytest.raises(ValueError, match="expected a line with column names and at least one row"):
        read_table(path)
