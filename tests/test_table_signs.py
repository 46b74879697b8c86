"""Points and commas, gaps, codes and units are what the cells that are read say, and no others."""

import io

import numpy as np
import pytest
from onepass.data import _text, read_table
from onepass.runs._source import rows_of


def file(*lines):
    return io.StringIO("\n".join(lines) + "\n")


COMMAS = ("a;b;y", "0,5;0,25;1,5", "1,25;0,75;2,5", "2,5;1,125;4")
TYPED = [1.125, 1.5, 1e-7, 1234.125, -2.0]


@pytest.mark.parametrize("kind", ["array", "dict", "objects", "frame", "with a gap"])
@pytest.mark.parametrize("decimal", [",", None])
def test_numbers_of_an_array_stay_themselves_in_a_model_of_decimal_commas(kind, decimal):
    encoding = read_table(file(*COMMAS), decimal=decimal, missing="impute").encoding
    pair = np.stack([TYPED, TYPED[::-1]], 1)
    given = {"a": pair[:, 0], "b": pair[:, 1]}
    if kind == "array":
        given = pair
    elif kind == "objects":
        given = {name: column.astype(object) for name, column in given.items()}
    elif kind == "frame":
        given = pytest.importorskip("pandas").DataFrame(given)
    elif kind == "with a gap":
        given = {name: [*column, None] for name, column in given.items()}
        pair = np.vstack([pair, np.median([[0.5, 0.25], [1.25, 0.75], [2.5, 1.125]], 0)])
    np.testing.assert_array_equal(encoding.apply(given), pair)
    np.testing.assert_array_equal(rows_of(given, encoding).x, pair)


def test_numbers_beside_text_with_decimal_commas_stay_themselves():
    table = read_table({"a": ["1,5", 1.125, 1234.25, 3], "y": [1.125, 2.5, 3.5, 4.5]}, decimal=",")
    assert table.x[:, 0].tolist() == [1.5, 1.125, 1234.25, 3]
    assert table.y.tolist() == [1.125, 2.5, 3.5, 4.5]


@pytest.mark.parametrize(
    "other",
    [
        {"y": [1.5, 2.5, 3.25]},
        {"y": [1, 2, 4]},
        {"y": [1.0, 2.0, 4]},
        {"b": [0.5, 1.5, 2.25], "y": [1, 2, 4]},
    ],
)
def test_typed_numbers_say_nothing_of_text_with_points_or_commas(other):
    for cells in (["1,500", "2,500", "3,700"], ["1,234", 1.5, 2.5]):
        with pytest.raises(ValueError, match=r"'a', row 1: '1,\d+' is 1\d+ or 1\.\d+; pass"):
            read_table({"a": cells, **other})


DECIDE = {
    "dates": (["02.01", "03.01", "04.02"], {"drop": ["d"]}),
    "versions that are words": (["3.10", "3.11", "3.10"], {"words": ["d"]}),
    "a column that is not chosen": (["1.5", "2.5", "3.5"], {"features": ["p"]}),
    "classes": (["1.1", "1.2", "1.1"], {"target": "d", "words": ["d"], "drop": ["y"]}),
}


@pytest.mark.parametrize("case", DECIDE)
@pytest.mark.parametrize("sep", [";", "\t", "|"])
def test_a_column_that_is_no_number_does_not_decide_the_decimal_sign(case, sep):
    cells, options = DECIDE[case]
    rows = [f"{d};1.20{i};{i}" for i, d in enumerate(cells)]
    text = "\n".join(["d;p;y", *rows, *rows]).replace(";", sep)
    with pytest.raises(
        ValueError, match=r"column 'p', row 1: '1.200' is 1.2 or 1200; pass decimal"
    ):
        read_table(io.StringIO(text), **options)


def test_an_extra_column_of_a_file_to_predict_does_not_decide_the_decimal_sign():
    encoding = read_table(file("a;y", "1;2", "2;3", "3;4"), task="regression").encoding
    for text in (("a", "1.200"), ("a;d", "1.200;02.01"), ("a;d", "1.200;2.5")):
        with pytest.raises(ValueError, match=r"'1.200' is 1.2 or 1200"):
            encoding.apply(file(*text))


@pytest.mark.parametrize("given", [-9.999, "-9.999", 1.234, 99.999])
@pytest.mark.parametrize("dress", ["{}", "{} kg", "${}"])
def test_a_gap_with_decimals_is_no_thousandfold(given, dress):
    thousand = f"{1000 * float(given):.0f}"
    cells = [thousand, str(given), "5.5", "6", "7"]
    rows = [f"{dress.format(cell)},{i}.5" for i, cell in enumerate(cells)]
    table = read_table(file("a,y", *rows), na_values=[given], missing="impute")
    assert table.x[0, 0] == float(thousand)
    assert table.x[1, 0] == np.median([float(thousand), 5.5, 6, 7])


def test_a_gap_that_may_be_one_of_two_numbers_is_refused():
    rows = ("a;y", "-9999;1", "5;2", "6;2", "7;1")
    with pytest.raises(
        ValueError, match=r"row 1: '-9999' may be a gap .* -9.999 or -9999; pass dec"
    ):
        read_table(file(*rows), na_values=["-9.999"], missing="impute")
    for decimal, first in ((".", -9999), (",", 6)):
        table = read_table(file(*rows), na_values=["-9.999"], missing="impute", decimal=decimal)
        assert table.x[0, 0] == first
    found = read_table(file(*rows), na_values=[-9999], missing="impute")
    assert found.x[:, 0].tolist() == [6, 5, 6, 7]


@pytest.mark.parametrize("cell", ["12", "12.5", "5 kg"])
def test_text_in_a_dict_needs_the_unit_of_the_training_as_in_a_file(cell):
    encoding = read_table(file("s;y", "1%;1.5", "2%;2.5", "3%;3.5")).encoding
    for given in ({"s": [cell]}, file("s", cell)):
        with pytest.raises(ValueError, match=r"column 's' has .*, expected % as in the training"):
            encoding.apply(given)
    assert encoding.apply({"s": [0.12]}).tolist() == [[0.12]]
    assert encoding.apply({"s": ["12%"]}).tolist() == [[0.12]]


@pytest.mark.parametrize(
    ("cells", "decimal"), [(("1,234", "1 234"), "."), (("1.234", "1'234"), ","),
                           (("1,234", "1'234", "7"), "."), (("1.234", "5", "1 234"), ",")]
)  # fmt: skip
def test_numbers_that_cannot_be_read_in_one_way_are_refused_with_the_cells(cells, decimal):
    rows = [f"{cell};{i}.5" if decimal == "." else f"{cell};{i},5" for i, cell in enumerate(cells)]
    with pytest.raises(ValueError, match=r"column 'a', row [123]: .*among numbers such as '"):
        read_table(file("a;y", *rows), decimal=decimal)


@pytest.mark.parametrize("odd", ["1'234.5", "5.5 kg", "1 234.5", "$1.5"])
def test_the_cell_that_breaks_a_column_is_named_and_no_innocent_one(odd):
    cells = ["1,234.5", "7.5", "8.5", odd, "9.5"]
    with pytest.raises(ValueError, match=r"column 'a', row 4: ['\"].*among numbers such"):
        read_table(file("a;y", *(f"{cell};{i}.5" for i, cell in enumerate(cells))))


@pytest.mark.parametrize(
    ("names", "word"),
    [("7 8", "007"), ("9007199254740993 8", "9007199254740992"), ("1.0 2.0", "01")],
)
def test_a_class_is_evaluated_as_no_other_class(names, word):
    rows = [f"{i},{name}" for i, name in enumerate(names.split() * 2)]
    encoding = read_table(file("a,y", *rows), task="classification").encoding
    with pytest.raises(ValueError, match=f"'{word}' is not a class of the training data"):
        read_table(file("a,y", f"1,{word}"), like=encoding)


def test_of_two_columns_with_one_name_none_is_taken():
    encoding = read_table(file("a,b,y", "1,2,3.5", "2,3,4.5", "3,4,5.5")).encoding
    twice = ("a,b,y,y,id,id", "1,2,3.5,99.5,1,2", "2,3,4.5,98.5,1,2")
    with pytest.raises(ValueError, match="two columns are called 'y'; rename one"):
        read_table(file(*twice), like=encoding)
    rows = rows_of(file(*twice), encoding)
    assert rows.x.tolist() == [[1, 2], [2, 3]]
    with pytest.raises(ValueError, match="two columns are called 'id'; rename one"):
        rows.cells("id")


def test_cells_that_are_kept_are_those_of_the_file_though_they_are_gaps_elsewhere():
    encoding = read_table(
        file("a,y", "1,3.5", "2,4.5", "-9999,5.5"), missing="impute", na_values=[-9999]
    ).encoding
    rows = rows_of(file("id,a", "-9999,1", "8,-9999"), encoding)
    assert rows.cells("id") == ["-9999", "8"]
    assert rows.x.tolist() == [[1], [1.5]]
    strict = read_table(file("a,y", "1,3.5", "2,4.5"), na_values=["unknown"]).encoding
    with pytest.raises(ValueError, match="missing value 'unknown'"):
        strict.apply(file("a", "1", "unknown"))


SETTLED = [{"target": "b"}, {"drop": ["a"]}, {"features": ["a"]}, {"task": "regression"},
           {"missing": "impute"}, {"categorical": "auto"}, {"words": ["a"]}]  # fmt: skip


@pytest.mark.parametrize("option", SETTLED, ids=str)
def test_an_option_that_another_table_settles_is_refused_beside_it(option):
    rows = ("a,b,y", "1,2,3.5", "2,3,4.5")
    encoding = read_table(file(*rows)).encoding
    name = next(iter(option))
    with pytest.raises(ValueError, match=f"read_table: '{name}' is .* beside 'like'"):
        read_table(file(*rows), like=encoding, **option)
    with pytest.raises(ValueError, match="'sep' is ';', expected none with the table"):
        encoding.apply({"a": [1], "b": [2]}, sep=";")


@pytest.mark.parametrize("numbers", [[1234, 12345], [1234.0, 12345.0]])
def test_a_number_that_may_be_one_of_two_codes_is_refused(numbers):
    codes = ["01234", "12345", "1234"] * 3
    given = {"zip": codes, "y": [i + 0.5 for i in range(9)]}
    encoding = read_table(given, categorical="auto").encoding
    with pytest.raises(
        ValueError, match=r"column 'zip' holds the number 1234, .*'01234'.*dtype=str"
    ):
        encoding.apply({"zip": numbers})
    assert encoding.apply({"zip": codes[:2]}).tolist() == [[1, 0, 0], [0, 0, 1]]
    classes = read_table({"a": list(range(9)), "y": codes}).encoding
    with pytest.raises(ValueError, match=r"column 'y' holds the number 1234, which"):
        read_table({"a": [1, 2], "y": numbers}, like=classes)


# ------------------------------------------------------- a doubt is noted whatever reads the cells


@pytest.fixture(params=["at once", "cell by cell"])
def way(request, monkeypatch):
    if request.param == "cell by cell":
        monkeypatch.setattr(_text._Reading, "_quick", lambda *a: False)
    return request.param


def doubts(text, **options):
    notes = read_table(io.StringIO(text), **options).notes
    return [note.partition("; ")[0] for note in notes if note.startswith("as ")]


def column(sep, cells, unit=""):
    rows = (sep.join((f"{cell}{unit}", f"{i}.25", f"{i}.5")) for i, cell in enumerate(cells))
    return "\n".join((sep.join("aby"), *rows)) + "\n"


IN_DOUBT = {
    "at once": (["1.200", "7.125"], "1.200{} in 'a' is 1.2"),
    "and whole numbers": (["7", "1.200", "3"], "1.200{} in 'a' is 1.2"),
    "late": (["7"] * 60 + ["1.200"], "1.200{} in 'a' is 1.2"),
    "late and whole": (["7"] * 60 + ["-1.000"], "-1.000{} in 'a' is -1"),
    "late decimals": (["7"] * 60 + ["7.5"], None),
    "decimals behind": (["1.200"] * 60 + ["7.5"], None),
    "a point before nothing": (["1.200"] * 60 + ["7."], None),
    "no group": (["1.200"] * 60 + ["1234.000"], None),
    "a zero before": (["1.200"] * 60 + ["0.125"], None),
    "none": (["7"] * 60 + ["9"], None),
}


@pytest.mark.parametrize("unit", ["", " kg"])
@pytest.mark.parametrize("sep", [";", "\t", "|", ","])
@pytest.mark.parametrize("case", IN_DOUBT)
def test_a_doubt_is_noted_of_numbers_and_of_words_alike(case, sep, unit, way):
    """Points are usual between commas: nothing is noted of them there."""
    cells, said = IN_DOUBT[case]
    want = [f"as the rest of the file shows, {said.format(unit)}"] if said and sep != "," else []
    text = column(sep, cells, unit)
    assert doubts(text) == want
    assert doubts(text, decimal=".") == []


def test_a_doubt_of_any_part_is_noted_once(way, monkeypatch):
    monkeypatch.setattr(_text, "CHUNK", 300)
    cells = ["7"] * 100 + ["1.200"] * 50 + ["7"] * 50
    assert doubts(column(";", cells)) == ["as the rest of the file shows, 1.200 in 'a' is 1.2"]
    assert doubts(column(";", [*cells, "7.5"])) == []
    assert doubts(column(";", ["7.5", *cells])) == []


def test_text_of_a_frame_in_doubt_is_noted():
    frame = {"a": ["1.200", "7.125"], "y": [0.5, 1.5]}
    notes = read_table(frame).notes
    assert notes[0].startswith("as decimal points are usual, 1.200 in 'a' is 1.2; ")
