"""The quick readers of a part of a table read the same, and nothing that is not a plain number."""

from functools import partial

import numpy as np
import pytest
from onepass.data import _blocks, _quotes, read_table
from onepass.data._blocks import NUMBER, SKIP, WORD
from test_table_list import READ, REFUSED, source


@pytest.fixture
def pandas_reader():
    pytest.importorskip("pandas")
    reader = _blocks.reader()
    if reader is None:
        pytest.skip("this pandas does not read numbers as NumPy does")
    return reader


def test_a_pandas_of_today_reads_as_numpy_does():
    pandas = pytest.importorskip("pandas")
    if tuple(map(int, pandas.__version__.split(".")[:2])) >= (3, 1):
        assert _blocks.reader() is not None


@pytest.mark.parametrize("case", READ)
def test_a_table_is_the_same_by_either(case, pandas_reader, monkeypatch):
    contents, options, x, y, classes = READ[case]
    for reader in (None, pandas_reader):
        monkeypatch.setattr(_blocks, "reader", lambda reader=reader: reader)
        table = read_table(source(contents), **options)
        assert (table.x.tolist(), table.y.tolist(), table.classes) == (x, y, classes)


@pytest.mark.parametrize("case", [case for case, (_, _, words) in REFUSED.items() if words])
def test_a_table_is_refused_by_either(case, pandas_reader, monkeypatch):
    contents, options, words = REFUSED[case]
    for reader in (None, pandas_reader):
        monkeypatch.setattr(_blocks, "reader", lambda reader=reader: reader)
        with pytest.raises(ValueError, match=words):
            read_table(source(contents), **options)


CELLS = ["1e", "1_0", "0x10", " 1", "1 ", "1.2.3", "+-1", "", "inf", "nan", "NaN", "NA", "True",
         "FALSE", "1e999", "1e-400", "\u0661", "1d5", "1e+", ".", "-", "1.", ".5", "2e-320", "nAn",
         "1 2", "1'000", "1\xa0", "#1", "1#", "\\N", "-0.0", "0.1", "9007199254740993"]  # fmt: skip


@pytest.mark.parametrize("cell", CELLS, ids=ascii)
def test_a_cell_is_the_same_number_or_refused_by_pandas(cell, pandas_reader, monkeypatch):
    """None is right for either: then csv and the rules for cells decide."""
    text = f"1,{cell},x\n{'1,' + cell},y\n" * 3
    kinds = [NUMBER, NUMBER, WORD]
    found = _blocks.of(text, ",", kinds, 0)
    monkeypatch.setattr(_blocks, "reader", lambda: None)
    other = _blocks.of(text, ",", kinds, 0)
    if found is not None and other is not None:
        np.testing.assert_array_equal(found[1], other[1])
        assert found[2].tolist() == other[2].tolist() == ["x", "y"] * 3
    if cell in ("1e", "1_0", "0x10", "1.2.3", "True", "FALSE", "NA", "-", "1 2"):
        assert found is None


@pytest.mark.parametrize("row", ["1", "1,2,3,4", "1,2\n1,2,3,4", ""])
def test_rows_of_other_lengths_are_refused_by_pandas(row, pandas_reader):
    for text in (f"1,2,3\n{row}\n4,5,6\n", f"{row}\n4,5,6\n"):
        found = _blocks._by_pandas(pandas_reader, text, ",", [NUMBER, WORD, SKIP])
        if row:
            assert found is None
        else:
            assert [*found] == [0, 1]


def test_a_pandas_that_is_not_exact_is_not_used(monkeypatch):
    pandas = pytest.importorskip("pandas")
    whole = pandas.read_csv

    def rounded(*args, float_precision=None, **more):
        frame = whole(*args, **more)
        numbers = frame.select_dtypes("number").columns
        frame[numbers] = frame[numbers].astype("float32").astype("float64")
        return frame

    monkeypatch.setattr(pandas, "read_csv", rounded)
    assert _blocks.reader.__wrapped__() is None

    def lax(file, **more):
        return whole(type(file)(file.getvalue().replace("_", "")), **more)

    monkeypatch.setattr(pandas, "read_csv", lax)
    assert _blocks.reader.__wrapped__() is None


def test_quotes_around_cells_are_taken_away_and_others_left_to_csv():
    without = partial(_quotes.without, sep=",")
    assert without('"a","b, c",1\n"",x,"y"\n') == f"a,b{_quotes.HELD} c,1\n,x,y\n"
    assert without("é,1\n") == "é,1\n"
    for text in ('a"b,c\n', '"a""b",c\n', '"a\nb",c\n', '"a,b\n', '"a" ,b\n', ' "a",b\n',
                 '"a"b,c\n', f'"a",{_quotes.HELD}\n'):  # fmt: skip
        assert without(text) is None, text


def test_decimal_commas_load_as_points_do(monkeypatch):
    """The same numbers, and no column word by word, which takes tens of times as long."""

    def refuse(source, name, column):
        raise AssertionError(f"column {name!r} was read word by word")

    monkeypatch.setattr("onepass.data._signs.Cells.of", refuse)
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((3000, 5)) * 10.0 ** rng.integers(-3, 6, 5)
    rows = "".join(f"02.01.2024;{';'.join(f'{v:.7g}' for v in row)};7\n" for row in numbers)
    points = "d;a;b;c;e;f;n\n" + rows
    commas = "d;a;b;c;e;f;n\n" + rows.replace(".", ",").replace("02,01,2024", "02.01.2024")
    options = {"drop": ["d"], "target": "f"}
    expected = read_table(source(points.replace("02.01.2024", "x")), **options)
    for given in (commas, commas.replace("02.01.2024", "2024"), commas.replace(";", "\t")):
        table = read_table(source(given), **options)
        np.testing.assert_array_equal(table.x, expected.x)
        np.testing.assert_array_equal(table.y, expected.y)
    prices = [f"{v:.2f}".replace(".", ",") for v in rng.uniform(1, 999, 3000)]
    table = read_table(source("a;y\n" + "".join(f"{p};7,25\n" for p in prices)), target="y")
    assert table.x[:, 0].tolist() == [float(p.replace(",", ".")) for p in prices]
    told = read_table(source(commas), decimal=",", **options)
    np.testing.assert_array_equal(told.x, expected.x)
