"""Tables as people have them are read as they are meant, or refused with the place and the cure."""

import re

import numpy as np
import pytest
from onepass.data import load, read_table


def table(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def refused(tmp_path, text, words, name="t.csv", **options):
    with pytest.raises(ValueError, match=words):
        load(table(tmp_path, text, name), **options)


# ------------------------------------------------------------------------------- one odd cell


ODD = ["-", "--", "*", "n.d.", "12_3", "1,5", "missing", "5%"]
# Beside whole numbers 1,5 is one and a half, and a word that comes again is a class.
AMONG_WHOLE = {1: [o for o in ODD if o != "1,5"], 3: ["-", "--", "*", "12_3", "5%"]}


@pytest.mark.parametrize(
    ("whole", "times", "odd"),
    [(False, times, odd) for times in (1, 3) for odd in ODD]
    + [(True, times, odd) for times, cells in AMONG_WHOLE.items() for odd in cells],
)
def test_one_odd_cell_among_numbers_does_not_make_a_classification(tmp_path, whole, times, odd):
    values = [str(i // 2) if whole else f"{i // 2}.25" for i in range(20)]
    for i in range(times):
        values[5 + 3 * i] = odd
    rows = "".join(f'{i},"{v}"\n' for i, v in enumerate(values))
    refused(
        tmp_path,
        f"a,y\n{rows}",
        f"column 'y', row 6: (missing value )?'{re.escape(odd)}'(; [13] of| among)",
    )


def test_one_number_among_words_is_odd_too(tmp_path):
    rows = "".join(f"{i},{'cat' if i % 2 else 'dog'}\n" for i in range(9))
    refused(tmp_path, f"a,y\n{rows}9,7.5\n", "column 'y', row 10: '7.5' among text")


def test_names_of_classes_may_be_words_and_numbers(tmp_path):
    rows = "".join(f"{i},{('36', '38', 'XL')[i % 3]}\n" for i in range(9))
    data = load(table(tmp_path, f"a,size\n{rows}"))
    assert data.classes == ("36", "38", "XL")
    odd = table(tmp_path, f"a,size\n{rows}9,none-such\n")
    with pytest.raises(ValueError, match="row 10: 'none-such' among numbers"):
        load(odd)
    assert load(odd, task="classification").classes == ("36", "38", "XL", "none-such")


# ------------------------------------------------------------------------------- quotes


def test_an_unclosed_quote_does_not_swallow_the_rest(tmp_path):
    rows = [f"{i},{2 * i},{'red' if i % 2 else 'blue'}" for i in range(10)]
    rows[3] = '3,6,"red'
    refused(tmp_path, "\n".join(["a,b,y", *rows]), "quote not closed")


@pytest.mark.parametrize("second", ['7,14,"blue', '7,14,blue"', '7,"14,blue'])
def test_two_unclosed_quotes_do_not_swallow_the_rows_between(tmp_path, second):
    rows = [f"{i},{2 * i},{'red' if i % 2 else 'blue'}" for i in range(10)]
    rows[3], rows[7] = '3,6,"red', second
    refused(tmp_path, "\n".join(["a,b,y", *rows]), "quote not closed")


def test_an_unclosed_quote_in_the_header_or_the_last_row(tmp_path):
    refused(tmp_path, 'a,"y\n1,2\n2,3\n', "quote not closed")
    refused(tmp_path, 'a,y\n1,2\n2,"3\n', "quote not closed")
    refused(tmp_path, 'a,y\n1,"2\r\n2,3"\r\n', "line 2: a cell of 2 lines .* quote not closed")


def test_quotes_that_are_closed_are_read(tmp_path):
    data = load(table(tmp_path, '"a","the ""y"", it is"\n1,"x, y"\n2,"z"\n3,"z"\n'))
    assert data.target == 'the "y", it is'
    assert data.classes == ("x, y", "z")


# ------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    "cell", ["12_3", "1_000.5", "١٢", "1e5_0", "0x10", "infinity", "1e999", "1 2"]
)
def test_what_only_python_takes_for_a_number_is_none(tmp_path, cell):
    refused(
        tmp_path, f"a,y\n1,2\n{cell},3\n", f"column 'a', row 2: '{cell}' is not a finite number"
    )


@pytest.mark.parametrize("cell", ["1", "-1.5", "+.5", "2.", "1e-3", "1.5E+10", " 7 ", "1e-400"])
def test_numbers_as_files_have_them(tmp_path, cell):
    data = load(table(tmp_path, f"a,y\n1,2\n{cell},3.5\n"))
    assert data.X[1, 0] == float(cell)


def test_a_cell_that_is_no_number_is_told_with_the_number_it_may_be(tmp_path):
    refused(tmp_path, "a,y\n1,2\n1_2,3\n", "column 'a', row 2: '1_2' .* without underscores, 12")


# ------------------------------------------------------------------------------- header, separator


@pytest.mark.parametrize("first", ["5.0,3.4,1.5,0.3,oak", "-1,a,b,c,oak", "x,y,z,0.3,oak",
                                   "5.0,3.4,1.5,0.3,7", "1e3,a,b,c,d"])  # fmt: skip
def test_a_file_without_a_header_line_loses_no_sample(tmp_path, first):
    rows = "".join(f"{i}.5,2.5,3.5,{i},{'ash' if i % 2 else 'oak'}\n" for i in range(6))
    refused(tmp_path, f"{first}\n{rows}", "first line")


@pytest.mark.parametrize(
    ("first", "row"),
    [
        ("red,big,yes", "{c},{s},{y}"),
        ("big,yes", "{s},{y}"),
        ("a17,red,yes", "b{i},{c},{y}"),
        (" red , big,yes", "{c},{s},{y}"),
    ],
)
def test_a_file_of_words_without_a_header_line_loses_no_sample(tmp_path, first, row):
    """Each name is a cell of its own column, but for one whose words never repeat."""
    words = [{"i": i, "c": ("red", "blue")[i % 2], "s": ("big", "small", "tiny")[i % 3],
              "y": ("yes", "no")[i // 2 % 2]} for i in range(12)]  # fmt: skip
    rows = "".join(row.format(**cells) + "\n" for cells in words)
    refused(tmp_path, f"{first}\n{rows}", "cells of theirs; is the first line data?")
    path = table(tmp_path, f"{first}\n{rows}")
    drop = [1] if first.startswith("a17") else []
    assert len(read_table(path, header=False, categorical="auto", drop=drop).y) == 13
    assert len(read_table(path, header=True, categorical="auto", drop=drop).y) == 12


@pytest.mark.parametrize(
    "text",
    [
        "y,n\n" + "y,n\nn,y\n" * 3 + "y,m\n",
        "x,size,y\n" + "x,1,y\nn,2,n\n" * 4,
        "red,town,y\n" + "red,Ulm,y\nblue,Bonn,n\n" * 4,
    ],
)
def test_a_name_may_be_a_cell_of_its_column(tmp_path, text):
    if text.startswith("y,n"):  # each of them: asked about
        refused(tmp_path, text, "is the first line data")
    else:
        assert len(read_table(table(tmp_path, text), categorical="auto").y) == 8


def test_a_first_line_is_looked_at_in_a_spreadsheet_and_not_in_a_dataframe(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("openpyxl")
    rows = [("red", "big", "yes"), ("red", "small", "no"), ("blue", "big", "no")] * 3
    frame = pandas.DataFrame(rows, columns=["red", "big", "yes"])
    path = tmp_path / "t.xlsx"
    frame.to_excel(path, index=False)
    with pytest.raises(ValueError, match="cells of theirs; is the first line data"):
        read_table(path, categorical="auto")
    assert len(read_table(frame, categorical="auto").y) == 9


def test_columns_may_begin_with_digits(tmp_path):
    assert load(table(tmp_path, "2019 sales,3d,y\n1,2,3.5\n2,3,4.5\n")).feature_names == (
        "2019 sales", "3d",
    )  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [
    ("t.csv", 'size;"price, EUR";y\n1;2;3.5\n4;5;6.5\n'),
    ("t.tsv", "size, m2\tprice\ty\n1\t2\t3.5\n4\t5\t6.5\n"),
    ("t.csv", "size|price|y\n1|2|3.5\n4|5|6.5\n"),
    ("t.csv", '"size;1","price;2",y\n1,2,3.5\n4,5,6.5\n'),
    ("t.csv", "size, m2\tprice, EUR\ty\n1\t2\t3.5\n4\t5\t6.5\n"),
    ("t.csv", "size;price;y, total\n1;2;3.5\n4;5;6.5\n"),
    ("t.csv", "size;price;y, in EUR, net, total\n1;2;3.5\n4;5;6.5\n"),
    ("t.tsv", "size;1\tprice|2\ty\n1\t2\t3.5\n4\t5\t6.5\n"),
    ("T.TSV", "a\tb,c\ty\n1\t2\t3.5\n4\t5\t6.5\n"),
    ("t.csv", "\ufeffsize;price;y\r\n1;2;3.5\r\n\r\n4;5;6.5\r\n"),
])  # fmt: skip
def test_the_separator_is_that_of_the_file(tmp_path, name, text):
    data = load(table(tmp_path, text, name))
    np.testing.assert_array_equal(data.X, [[1, 2], [4, 5]])
    np.testing.assert_array_equal(data.y, [3.5, 6.5])


def test_rows_of_other_lengths_are_refused_whatever_the_separator(tmp_path):
    refused(tmp_path, "a;b;y\n1;2;3\n1;2\n", "row 2 has 2 cells, expected 3")
    refused(tmp_path, "a,b;c,y\n1,2,3\n1,2\n", "row 2 has 2 cells, expected 3")


def test_another_encoding_is_told_with_the_cure(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("größe,y\n1,2\n".encode("latin-1"))
    with pytest.raises(ValueError, match="save it as UTF-8"):
        load(path)


def test_a_tilde_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    table(tmp_path, "a,y\n1,2.5\n2,3.5\n")
    assert len(load("~/t.csv").y) == 2


# ------------------------------------------------------------------------------- targets


@pytest.mark.parametrize(("cell", "number"), [
    ("{},5", "{}.5"), ("1.{}00.000", "1{}00000"), ("{}%", "0.0{}"), ("$0.{}", "0.{}"),
    ("1{}00 EUR", "1{}00"), ("{} \u20ac", "{}"), ("-\xa3{}", "-{}"), ("\u2212{},5", "-{}.5"),
])  # fmt: skip
def test_numbers_as_people_write_them_are_no_classes(tmp_path, cell, number):
    rows = "".join(f"{i}\t{cell.format(i % 8)}\n" for i in range(40))
    data = load(table(tmp_path, f"a\ty\n{rows}", "t.tsv"))
    assert data.classes is None
    assert data.y.tolist() == [float(number.format(i % 8)) for i in range(40)]
    assert load(tmp_path / "t.tsv", task="classification").classes is not None


def test_codes_with_leading_zeros_are_names(tmp_path):
    rows = "".join(f"{i},{('0123', '123', '1230')[i % 3]}\n" for i in range(30))
    data = load(table(tmp_path, f"a,zip\n{rows}"))
    assert data.classes == ("0123", "123", "1230")
    assert np.bincount(data.y).tolist() == [10, 10, 10]
    decimals = "".join(f"{i},0.{i}5\n" for i in range(10, 30))
    assert load(table(tmp_path, f"a,y\n{decimals}")).classes is None


def test_whole_numbers_beyond_float64_are_not_merged(tmp_path):
    rows = "".join(f"{i},{2**53 + i % 4}\n" for i in range(40))
    assert load(table(tmp_path, f"a,id\n{rows}")).classes == tuple(str(2**53 + i) for i in range(4))
    rows = "".join(f"{i},{2**53 + i}\n" for i in range(40))
    refused(tmp_path, f"a,id\n{rows}", "cannot tell apart, such as 90071992547409")


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("first", [2**53 + 1, 10**18 + 1, 10**24 + 1])
def test_ids_beyond_float64_are_refused_among_the_features_too(tmp_path, first, sign):
    """Merged they would be one number, and the column 'the same in every row'."""
    rows = "".join(f"{sign}{first + i},{i}.5\n" for i in range(6))
    text = f"id,y\n{rows}"
    refused(
        tmp_path, text, r"column 'id', row \d: .* is .* to float64.*leave it out with.*--drop id"
    )
    grouped = re.sub(r"(\d)(?=(\d{3})+,\d\.5)", r"\1'", text)
    refused(tmp_path, grouped, r"column 'id', row \d: .* is .* to float64")
    words = read_table(table(tmp_path, text + rows), words=["id"])
    assert words.x.tolist() == np.concatenate([np.eye(6)] * 2).tolist()


def test_amounts_beyond_float64_are_rounded_and_noted(tmp_path):
    """As 0.1 is: they stay apart. One that float64 holds is not noted."""
    rng = np.random.default_rng(0)
    amounts = [str(rng.integers(10**18, 9 * 10**18) | 1) for _ in range(9)]
    for cells, noted in ((amounts, True), ([str(10**18 * i) for i in range(9)], False)):
        rows = "".join(f"{cell},{i}.5\n" for i, cell in enumerate(cells))
        found = read_table(table(tmp_path, f"wei,y\n{rows}"))
        assert found.x[:, 0].tolist() == [float(cell) for cell in cells]
        assert (
            any("beyond 2**53, which are rounded: 'wei'" in note for note in found.notes) == noted
        )
    typed = {"wei": list(map(int, amounts)), "y": [0.5] * 4 + [1.5] * 5}
    assert any("which are rounded: 'wei'" in note for note in read_table(typed).notes)
    typed["wei"] = np.arange(10**18, 10**18 + 9)
    with pytest.raises(ValueError, match=r"column 'wei', row 2: '10.*01' is 10.* to float64"):
        read_table(typed)
