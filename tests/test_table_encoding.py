"""The encoding of a table: how it is learnt, stored, and applied to another table."""

import gzip
import io
import json
import re
import sys

import numpy as np
import pytest
from onepass.data import Encoding, load, read_table

TRAIN = "size,town,rate,y\n" + "".join(
    f"{i},{('Oslo', 'Rome')[i % 2]},{i}%,{i / 4 + 0.1}\n" for i in range(8)
)


def file(text):
    return io.StringIO(text)


@pytest.fixture
def table():
    return read_table(file(TRAIN), categorical="auto")


@pytest.fixture
def encoding(table):
    """As it comes back from JSON."""
    return Encoding.from_dict(json.loads(json.dumps(table.encoding.to_dict())))


def test_an_encoding_comes_back_from_json(table, encoding):
    assert encoding == table.encoding
    assert encoding.columns == ("size", "town", "rate")
    assert encoding.feature_names == ("size", "town=Oslo", "town=Rome", "rate")
    np.testing.assert_array_equal(encoding.apply(file(TRAIN)), table.x)
    with pytest.raises(ValueError, match="stored 'format' is 99, expected"):
        Encoding.from_dict({**table.encoding.to_dict(), "format": 99})


OTHERS = {
    "the columns shuffled": "rate,y,town,size\n4%,1.5,Rome,3\n",
    "no target": "size,town,rate\n3,Rome,4%\n",
    "further columns": "id,size,note,town,rate\nk1,3,x,Rome,4%\n",
    "another separator": "town;rate;size\nRome;4%;3\n",
    "an index": ",size,town,rate\n0,3,Rome,4%\n",
    "a dict": {"town": ["Rome"], "rate": [0.04], "size": [3]},
    "an array": np.array([[3, "Rome", 0.04]], object),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_table_is_encoded_as_the_first(encoding, other):
    given = OTHERS[other]
    given = file(given) if isinstance(given, str) else given
    assert encoding.apply(given).tolist() == [[3, 0, 1, 0.04]]


WRONG = {
    "size,town\n3,Rome\n": "no column 'rate', which the model was trained on; the table has size, ",
    "size,city,rates\n3,Rome,4%\n": "no column 'town', 'rate', which the",
    "size,town,rate\nx,Rome,4%\n": "column 'size', row 1: 'x' is not a finite number",
    "size,town,rate\n3,Rome,4\n": "column 'rate' has no unit, expected % as in the training data",
    "size,town,rate\n$3,Rome,4%\n": "column 'size' has the unit \\$, expected plain numbers",
    "size,town,rate\n": "expected a header line and at least one row",
}


@pytest.mark.parametrize("text", WRONG, ids=repr)
def test_another_table_that_differs_is_refused_by_column(encoding, text):
    with pytest.raises(ValueError, match=WRONG[text]):
        encoding.apply(file(text))


def test_an_array_of_another_width_is_refused(encoding):
    with pytest.raises(ValueError, match=r"shape \(1, 2\), expected \(N, 3\): size, town, rate"):
        encoding.apply(np.ones((1, 2)))


def test_each_row_of_a_new_table_is_a_row_also_without_cells(monkeypatch):
    """Else predictions would not stand beside their rows; at the end of a file it is none."""
    encoding = read_table(file("a,b,y\n1,2,0.5\n3,4,1.5\n,5,2.5\n"), missing="impute").encoding
    text = "a,b\n,\n1,2\n,\n\n,\n3,4\n,\n\n"
    for size in (1 << 20, 5):
        monkeypatch.setattr("onepass.data._text.CHUNK", size)
        assert encoding.apply(file(text)).tolist() == [[2, 4], [1, 2], [2, 4], [2, 4], [3, 4]]
    refusing = read_table(file("a,b,y\n1,2,0.5\n3,4,1.5\n")).encoding
    with pytest.raises(ValueError, match="column 'a', row 1: missing value ''; 3 of 5 rows have"):
        refusing.apply(file(text))


@pytest.mark.parametrize(
    ("rows", "cure"),
    [
        (",1\n2,2", "fill them in, or pass missing='impute' (--missing impute)"),
        (
            "1,\n2,2",
            "leave out the rows without a target, or pass missing='impute' (--missing impute), "
            "which does so",
        ),
        (
            "1,\n,2",
            "fill in the features and leave out the rows without a target, or pass "
            "missing='impute' (--missing impute), which does both",
        ),
    ],
)
def test_a_missing_target_is_not_to_be_filled_in(rows, cure):
    text = f"a,y\n{rows}\n3,3.5\n4,4.5\n"
    with pytest.raises(ValueError, match=f"; {re.escape(cure)}$"):
        read_table(file(text))
    table = read_table(file("a,y\n1,2.5\n2,3.5\n3,4.5\n"))
    do = "leave out the rows without a target" if rows == "1,\n2,2" else "fill them in"
    with pytest.raises(ValueError, match=f"; {do}: the model was trained without missing cells$"):
        read_table(file(text), like=table.encoding)


@pytest.mark.parametrize("gap", ["", '""', " ", "NA"])
def test_a_row_of_a_table_of_one_column_may_be_a_gap(gap):
    encoding = read_table(file("a,y\n1,0.5\n3,1.5\n"), missing="impute").encoding
    assert encoding.apply(file(f"a\n1\n{gap}\n3\n")).tolist() == [[1], [2], [3]]


def test_rows_without_cells_are_left_out_of_a_training_and_noted():
    table = read_table(file("a,b,y\n1,2,0.5\n,,\n3,4,1.5\n,,\n,,\n"))
    assert table.x.tolist() == [[1, 2], [3, 4]]
    assert table.notes == ("left out 1 row in which every cell is empty",)


def test_empty_columns_are_noted_and_need_not_be_there_later():
    table = read_table(file("e,a,y\n,1,0.5\nNA,3,1.5\n"))
    assert table.notes == ("left out the empty columns 'e'",)
    assert table.columns == ("a",)
    assert table.encoding.apply(file("a\n5\n")).tolist() == [[5]]


def test_what_stands_above_the_table_is_noted():
    table = read_table(file("My sales\n2024\n\na,y\n1,0.5\n3,1.5\n"))
    assert table.notes == ("left out the lines above the header line: 'My sales'",)


def test_words_that_training_lacked_are_none_of_the_known(encoding):
    text = "size,town,rate\n1,Paris,4%\n2,Rome,5%\n3,Paris,5%\n"
    table = read_table(file(text), like=encoding)
    assert table.x.tolist() == [[1, 0, 0, 0.04], [2, 0, 1, 0.05], [3, 0, 0, 0.05]]
    assert table.y is None
    assert [
        n for n in table.notes if "2 rows hold words that training lacked, such as 'Paris'" in n
    ]


def test_a_column_that_is_empty_where_it_is_predicted_is_noted():
    train = read_table(file("a,b,y\n1,2,0.5\n3,2,1.5\n"), missing="impute").encoding
    table = read_table(file("b,a\n-,1\n,2\n"), like=train)
    assert table.x.tolist() == [[1, 2], [2, 2]]
    assert "no numbers in 'b': the training part's median is in each row" in table.notes
    assert read_table(file("b,a\n7,1\n,2\n"), like=train).notes == ()


def test_a_frame_without_rows_is_refused(encoding):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"size": [1.0], "town": ["Oslo"], "rate": [0.5]})
    with pytest.raises(ValueError, match="the table: no rows, expected at least one"):
        encoding.apply(frame[:0])


def test_what_the_rest_of_the_file_decides_is_noted():
    text = "lat,b,y\n52.123,1,1.5\n52.456,2,2.5\n"
    german = text.replace(",", ";").replace("1.5", "1,5").replace("2.5", "2,5")
    table = read_table(file(german))
    assert table.x.tolist() == [[52123, 1], [52456, 2]]
    assert table.notes[0].startswith("as the rest of the file shows, 52.123 in 'lat' is 52123; ")
    for clear in (read_table(file(text)), read_table(file(german), decimal=",")):
        assert not any("as the rest" in note for note in clear.notes)


def test_medians_and_words_are_those_of_the_training_part():
    rows = ["1,x", "2,x", "900,z", ",z", "3,x", "800,z", "1,w", "2,w"]
    text = "a,c,y\n" + "".join(f"{row},{i}.5\n" for i, row in enumerate(rows))
    table = read_table(file(text), categorical="auto")
    assert table.feature_names == ("a", "c=w", "c=x", "c=z")
    train = np.array([0, 1, 3, 4])
    fitted = table.fit(train)
    assert fitted.feature_names == ("a", "c=x", "c=z")
    assert fitted.encoding.features[0].fill == 2.0
    assert fitted.x[3].tolist() == [2, 0, 1]
    assert fitted.x[6].tolist() == [1, 0, 0]
    assert fitted.encoding.apply(file("a,c\nNA,x\n")).tolist() == [[2, 1, 0]]
    mask = np.isin(np.arange(8), train)
    assert table.fit(mask).encoding == fitted.encoding
    with pytest.raises(ValueError, match="column 'a' has no number in the training part"):
        table.fit([3])


def test_missing_cells_that_training_did_not_have_are_refused():
    encoding = read_table(file("a,b,y\n1,2,3.5\n4,5,6.5\n")).encoding
    with pytest.raises(ValueError, match=r"row 2: missing value '-'; 2 of 3 .*'a' \(2\); fill"):
        encoding.apply(file("b,a\n1,2\n2,-\n3,\n"))


def test_a_decimal_sign_that_another_file_does_not_show_is_that_of_training():
    encoding = read_table(file("a;y\n1.200;0,5\n1,5;1,5\n")).encoding
    assert encoding.apply(file("a\n1.200\n")).tolist() == [[1200]]
    with pytest.raises(ValueError, match="as 'b' has another decimal sign than in the training"):
        encoding.apply(file("a;b\n1.200;2.5\n"))
    assert encoding.apply(file("a\n1.200\n"), decimal=".").tolist() == [[1.2]]


def test_a_file_is_read_as_the_first_was():
    first = "1:0,5:1,5\n2:1,5:2,5\n"
    encoding = read_table(file(first), sep=":", decimal=",", header=False).encoding
    again = Encoding.from_dict(json.loads(json.dumps(encoding.to_dict())))
    assert again.apply(file("3:1.000,5\n")).tolist() == [[3, 1000.5]]


def test_numbers_that_name_categories_stay_names():
    rows = "".join(f"{i},{('36', '38', 'XL')[i % 3]},{i / 2}\n" for i in range(9))
    encoding = read_table(file(f"a,size,y\n{rows}"), categorical="auto").encoding
    assert encoding.feature_names == ("a", "size=36", "size=38", "size=XL")
    assert encoding.apply(file("a,size\n1,38\n2,36\n")).tolist() == [[1, 0, 1, 0], [2, 1, 0, 0]]
    assert encoding.apply({"a": [1], "size": [38]}).tolist() == [[1, 0, 1, 0]]


@pytest.mark.parametrize(("labels", "other", "y"), [
    ("cat dog cat dog", "dog dog", [1, 1]), ("1 2 1 2", "2 1", [1, 0]),
    ("1 2 1 2", "2.0 1", [1, 0]), ("1.0 2.0 1.0 2.0", "2 1", [1, 0]), ("01 1 01 1", "1 01", [1, 0]),
])  # fmt: skip
def test_targets_of_another_table_have_the_classes_of_the_first(labels, other, y):
    rows = "".join(f"{i},{label}\n" for i, label in enumerate(labels.split()))
    encoding = read_table(file(f"a,y\n{rows}")).encoding
    table = read_table(
        file("y,a\n" + "".join(f"{label},7\n" for label in other.split())), like=encoding
    )
    assert table.y.tolist() == y
    assert table.classes == encoding.classes
    with pytest.raises(
        ValueError, match="column 'y', row 1: '3' is not a class of the training data"
    ):
        read_table(file("y,a\n3,1\n"), like=encoding)


def test_targets_of_another_table_are_numbers_as_in_the_first():
    encoding = read_table(file("a,y\n1,0.5%\n2,1.5%\n")).encoding
    assert read_table(file("a,y\n1,2%\n2,3%\n"), like=encoding).y.tolist() == [0.02, 0.03]
    with pytest.raises(ValueError, match="column 'y' has no unit, expected %"):
        read_table(file("a,y\n1,2\n2,3\n"), like=encoding)
    with pytest.raises(ValueError, match="column 'y', row 2: 'x' is text"):
        read_table(file("a,y\n1,2%\n2,x\n"), like=encoding)


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch):
    for module in ("sklearn", "sklearn.impute", "sklearn.preprocessing"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"need scikit-learn: pip install 'onepass\[demo\]'"):
        read_table(file(TRAIN), categorical="auto")
    with pytest.raises(ImportError, match="scikit-learn"):
        read_table(file("a,y\n1,0.5\n,1.5\n"), missing="impute")
    assert len(read_table(file("a,y\n1,0.5\n3,1.5\n"), missing="impute")) == 2


# ------------------------------------------------------------------------------- notes


NOTES = {
    "id": (
        "id,a,y\n" + "".join(f"{7 * i},{i % 3},{i}.5\n" for i in range(9)),
        "different in every",
    ),
    "numbers": ("k,a,y\n" + "".join(f"{i},{i % 3},{i}.5\n" for i in range(30)), "--drop k"),
    "constant": ("c,a,y\n" + "".join(f"4,{i % 3},{i}.5\n" for i in range(9)), "every row: 'c'"),
    "long": (
        f"n,y\n{2**62 + 1},0.5\n{2**61 + 1},1.5\n",
        "beyond 2\\*\\*53, which are rounded: 'n'",
    ),
    "dates as numbers": (
        "d,a,y\n" + "".join(f"202402{i + 1:02d},{i % 3},{i}.5\n" for i in range(9)),
        "dates as numbers, perhaps: 'd'; .*--drop d",
    ),
    "two decimal signs": (
        "a;b;y\n" + "".join(f"{i},5;{i % 3}.25;{i},75\n" for i in range(9)),
        "some columns have decimal points, some decimal commas",
    ),
    "a filler": (
        "p,y\n" + "".join(f"{(1013 + i, -9999)[i % 3 == 0]},{i}.5\n" for i in range(9)),
        "'p' has -9999 in several rows, far from its other numbers; if that means a missing value",
    ),
    "amounts as classes": (
        "a,y\n" + "".join(f"{i % 5}.5,{1000 * (i % 9)}\n" for i in range(30)),
        "the 9 whole numbers of 'y' are classes; as amounts, .*--task regression",
    ),
    "classes of two spellings": (
        "a,y\n" + "".join(f"{i % 4},{w}\n" for i, w in enumerate(["True", "no", "true", "NO"] * 2)),
        "capitals alone, and count as different: 'NO', 'no' of 'y'; 'True', 'true' of 'y'",
    ),
    "rare": ("a,y\n1,x\n2,x\n3,z\n", "classes of one sample: 'z'"),
    "index": (",a,y\n0,1,0.5\n1,3,1.5\n", "left out the first column, which has no name"),
}


@pytest.mark.parametrize("case", NOTES)
def test_what_is_worth_a_look_is_noted(case):
    text, words = NOTES[case]
    notes = read_table(file(text)).notes
    assert [note for note in notes if re.search(words, note)], notes


def test_words_of_two_spellings_are_noted():
    """They are two columns of x, which is seldom meant."""
    text = "town,y\n" + "".join(f"{w},{i}.5\n" for i, w in enumerate(["Rome", "rome", "Oslo"] * 3))
    assert read_table(file(text), categorical="auto").notes == (
        "one-hot encoded: 'town' (3 words)",
        "words differ in capitals alone, and count as different: 'Rome', 'rome' of 'town'",
    )


def test_nothing_is_noted_of_an_ordinary_table():
    text = "a,b,y\n" + "".join(f"{i % 5},{i / 3:.4f},{i}.5\n" for i in range(30))
    assert read_table(file(text)).notes == ()


def test_units_are_noted_and_compared():
    table = read_table(file("w,p,y\n5 kg,$1,0.5\n7.5 kg,$2,1.5\n"))
    assert table.notes == ("numbers of one unit each: 'w' (kg)",)
    assert table.encoding.apply(file("p,w\n3,2\n")).tolist() == [[2, 3]]
    with pytest.raises(ValueError, match="column 'w' has the unit lb, expected kg as in the train"):
        table.encoding.apply(file("p,w\n3,2 lbs\n"))


CODED = "zip,a,y\n" + "".join(f"{('0123', '123')[i % 2]},{i},{i}.5\n" for i in range(8))


def test_codes_with_leading_zeros_are_words_and_noted():
    table = read_table(file(CODED), categorical="auto")
    assert table.feature_names == ("zip=0123", "zip=123", "a")
    assert table.notes[-1] == "codes, as they have leading zeros, and no numbers: 'zip'"
    assert table.encoding.apply(file("a,zip\n5,123\n")).tolist() == [[0, 1, 5]]
    plain = read_table(file(CODED.replace("0123", "124"))).encoding
    with pytest.raises(ValueError, match=r"'zip', row 2: '0123' has a leading zero, expected numb"):
        plain.apply(file("a,zip\n5,123\n6,0123\n"))


def test_codes_are_found_wherever_they_are(monkeypatch):
    """Whatever comes before and after: the position of the column, spaces, gaps, CRLF."""
    monkeypatch.setattr("onepass.data._text.CHUNK", 40)
    for place in range(3):
        for cell in ("07", " 07", "\t07 "):
            rows = [[str(i)] * 3 for i in range(120)]
            rows[90][place] = cell
            text = "a,b,c,y\r\n" + "".join(f"{','.join(r)},{i}.5\r\n" for i, r in enumerate(rows))
            with pytest.raises(ValueError, match=f"'{'abc'[place]}', row 91: '07' has a leading"):
                read_table(file(text))


def test_what_was_encoded_and_filled_is_noted():
    text = "a,c,y\n1,x,0.5\n,x,1.5\n2,,2.5\n3,x,\n5,z,7\n5,z,8\n"
    notes = read_table(file(text), categorical="auto").notes
    assert notes == (
        "one-hot encoded: 'c' (3 words)",
        "filled with the training part's median: 'a' (1)",
        "a missing cell counts as a word: 'c' (1)",
        "left out 1 of 6 rows, which have no target",
    )


# ------------------------------------------------------------------------------- sources


def test_standard_input_and_packed_files(tmp_path, monkeypatch):
    packed = tmp_path / "prices.csv.gz"
    packed.write_bytes(gzip.compress(b"a,y\n1,0.5\n2,1.5\n"))
    table = read_table(packed)
    assert (table.name, table.x.tolist()) == ("prices", [[1], [2]])
    assert load(packed).y.tolist() == [0.5, 1.5]
    tabs = tmp_path / "t.tsv.gz"
    tabs.write_bytes(gzip.compress(b"a, b\ty\n1\t0.5\n2\t1.5\n"))
    assert read_table(tabs).columns == ("a, b",)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a,y\n1,0.5\n2,1.5\n")))
    assert read_table("-").y.tolist() == [0.5, 1.5]
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ValueError, match="no standard input"):
        read_table("-")


def test_paths_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*none\.csv"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read_table(tmp_path)
    with pytest.raises(TypeError, match="'source' is a ndarray, expected a path"):
        read_table(np.ones((2, 2)))


def test_a_data_frame_is_read_as_its_file_would_be():
    pandas = pytest.importorskip("pandas")
    text = "a,b,c,d,y\n1,True,x,1,0.5\n2,False,z,,1.5\n3,True,x,3,2.5\n4,False,z,4,3.5\n"
    frame = pandas.read_csv(file(text))
    frame["d"] = frame["d"].astype("Int64")
    frame["c"] = frame["c"].astype("category")
    frame.index = [3, 1, 2, 0]
    one, other = (read_table(s, categorical="auto") for s in (frame, file(text)))
    np.testing.assert_array_equal(one.x, other.x)
    np.testing.assert_array_equal(one.y, other.y)
    assert (one.columns, one.encoding.features) == (other.columns, other.encoding.features)
    dated = frame.assign(b=pandas.to_datetime(["2024-01-02"] * 4))
    with pytest.raises(ValueError, match=r"column 'b', row 1: '2024-01-02.*is a date"):
        read_table(dated, categorical="auto")
    spans = frame.assign(b=pandas.to_timedelta([1, 2, 3, 4], "D"))
    with pytest.raises(ValueError, match=r"column 'b', row 1: '.*' is "):
        read_table(spans)
    with pytest.raises(ValueError, match="column 'd', row 2: missing value ''"):
        read_table(frame, drop=["c"])
    with pytest.raises(ValueError, match="column 'a', row 2: inf is not a finite number"):
        read_table(frame.assign(a=[1, np.inf, 2, 3]), categorical="auto")


def test_numbers_alone_are_not_copied():
    """x is the memory that the numbers were read into."""
    table = read_table(file("a,y,b\n1,0.5,2\n3,1.5,4\n"), target="y")
    assert table.x.base is not None
    assert table.x.tolist() == [[1, 2], [3, 4]]
    assert table.x is table.x


def test_a_table_that_takes_more_than_a_second_shows_a_bar(monkeypatch, tmp_path):
    from onepass import _bar
    from onepass.data import _loading, _text

    shown = []

    class Bar:
        n = 0

        def update(self, count):
            self.n += count
            shown.append(self.n)

        def close(self):
            shown.append("closed")

    text = "a,y\n" + "".join(f"{i},{i}.5\n" for i in range(300))
    path = tmp_path / "t.csv"
    path.write_text(text)
    monkeypatch.setattr(_text, "CHUNK", 500)
    monkeypatch.setattr(_bar, "of", lambda *a: Bar())
    read_table(path)
    assert shown == []
    monkeypatch.setattr(_loading, "SECONDS", -1.0)
    read_table(path)
    assert shown[-1] == "closed"
    assert shown[:-1] == sorted(shown[:-1])
    assert shown[-2] == len(text)


def test_options_of_text_are_refused_for_what_is_none():
    for option in ({"sep": ";"}, {"encoding": "latin-1"}):
        with pytest.raises(ValueError, match="expected none with the table, which is not text"):
            read_table({"a": [1, 2], "y": [0.5, 1.5]}, **option)
    encoding = read_table(file("a;y\n1;0.5\n2;1.5\n"), sep=";").encoding
    assert encoding.apply({"a": [3]}).tolist() == [[3]]


def test_without_a_header_a_missing_column_is_explained():
    encoding = read_table(file("0.5,1,2\n1.5,3,5\n"), header=False, target=1).encoding
    with pytest.raises(ValueError, match=r"no column '3'.* columns are called by their places"):
        encoding.apply(file("1,2\n"))


GAPS = """city,pressure,note,y
Oslo,1013.5,a,1.5
unknown,-9999,b,2.5
Rome,1009,---,3.5
Oslo,-9999.0,a,-1
Rome,1011,UNKNOWN,4.5
Rome,1010,b,5.5
Oslo,1012,b,6.5
"""


def test_words_and_numbers_that_mean_a_gap_are_told():
    pytest.importorskip("sklearn")
    told = ["unknown", -9999, "-1"]
    table = read_table(io.StringIO(GAPS), categorical="auto", na_values=told)
    plain = GAPS.replace("UNKNOWN", "").replace("unknown", "").replace("-9999.0", "")
    plain = plain.replace("-9999", "").replace(",-1\n", ",\n")
    want = read_table(io.StringIO(plain), categorical="auto")
    np.testing.assert_array_equal(table.x, want.x)
    np.testing.assert_array_equal(table.y, want.y)
    assert len(table.y) == 6  # the row without a target is left out
    assert table.feature_names == want.feature_names
    stored = Encoding.from_dict(json.loads(json.dumps(table.encoding.to_dict())))
    other = "pressure,city,note\n-9999,Unknown,a\n1000,Oslo,-1\n"
    blank = "pressure,city,note\n,,a\n1000,Oslo,\n"
    np.testing.assert_array_equal(
        stored.apply(io.StringIO(other)), want.encoding.apply(io.StringIO(blank))
    )
    frame = {"pressure": [-9999.0, 1000.0], "city": ["unknown", "Oslo"], "note": ["a", "-1"]}
    kept = frame["pressure"].copy()
    np.testing.assert_array_equal(stored.apply(frame), stored.apply(io.StringIO(other)))
    assert frame["pressure"] == kept


@pytest.mark.parametrize(("cells", "sep"), [
    (["-9999,0", "1,5", "2,5"], ";"), (["\u22129999", "1.5", "2"], ","),
    (["-9999 kg", "1 kg", "2.5 kg"], ","), (["-$9,999", "$1,000.5", "$2"], ";"),
    (["-9 999", "1.5", "2"], ","), (["-9999.00", "1.25", "2"], ","),
    (["-9.999e3", "1.5", "2"], ","),
])  # fmt: skip
def test_a_number_that_means_a_gap_may_be_written_in_any_way(cells, sep):
    rows = f"a{sep}y\n" + "".join(f"{cell}{sep}{i}\n" for i, cell in enumerate(cells))
    table = read_table(io.StringIO(rows), na_values=[-9999], missing="impute")
    assert table.x.min() >= 1
    assert table.x[0, 0] == np.median(table.x[1:, 0])


def test_numbers_of_a_matrix_become_gaps_in_place():
    rows = "a,b,y\n1,2,3\n-9,5,6\n7,-9,9\n4,4,4.5\n"
    table = read_table(io.StringIO(rows), na_values=[-9], missing="impute")
    np.testing.assert_array_equal(table.x, [[1, 2], [4, 5], [7, 4], [4, 4]])
    with pytest.raises(ValueError, match="missing"):
        read_table(io.StringIO(rows), na_values=[-9])
    for wrong in (5j, [None], [["a"]]):
        with pytest.raises(TypeError, match=r"'na_values' is .*, expected a list of words or n"):
            read_table(io.StringIO(rows), na_values=wrong)


def test_a_dataframe_of_text_has_the_units_of_the_training_too():
    table = read_table(io.StringIO("w,b,y\n10%,1,2\n20%,2,3\n35%,2.5,4.5\n"))
    x = table.encoding.apply({"w": ["10%", "20%"], "b": [1, 2]})
    np.testing.assert_array_equal(x, table.encoding.apply({"w": [0.1, 0.2], "b": [1, 2]}))
    for wrong in ("10 kg", "€10"):
        with pytest.raises(ValueError, match=r"column 'w' has the unit .*, expected %"):
            table.encoding.apply({"w": [wrong, wrong], "b": [1, 2]})


def test_a_number_for_gaps_is_no_code():
    rows = "a,y\n" + "".join(f"{i}.5,{('007', '8', '9')[i % 3]}\n" for i in range(12))
    table = read_table(io.StringIO(rows), na_values=["7"])
    assert table.classes == ("007", "8", "9")
    assert len(table.y) == 12


def test_more_words_for_gaps_are_added_to_those_of_the_training():
    table = read_table(io.StringIO("a,y\n1,2\n-9,3\n4,4.5\n"), na_values=[-9], missing="impute")
    rows = "a\n-9\n5\n1\n"
    x = table.encoding.apply(io.StringIO(rows), na_values=[5])
    np.testing.assert_array_equal(x[:, 0], [2.5, 2.5, 1])


def test_a_last_row_that_looks_like_a_total_is_predicted():
    pytest.importorskip("sklearn")
    rows = "brand,a,y\n" + "".join(f"{('Total', 'Shell')[i % 2]},{i},{i}.5\n" for i in range(9))
    encoding = read_table(io.StringIO(rows), categorical="auto").encoding
    x = encoding.apply(io.StringIO("brand,a\nShell,1\nTotal,2\n"))
    known = ["brand,a\nTotal,2\nShell,1\n", "brand,a\nShell,1\nTotal,2\nShell,1\n"]
    np.testing.assert_array_equal(x, encoding.apply(io.StringIO(known[0]))[::-1])
    np.testing.assert_array_equal(x, encoding.apply(io.StringIO(known[1]))[:2])
    assert x[0, 0] != x[1, 0]
    with pytest.raises(ValueError, match="a total and no sample"):
        read_table(io.StringIO("brand,a,y\nShell,1,1.5\nEsso,2,2.5\nTotal,3,4.5\n"))
