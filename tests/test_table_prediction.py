"""Cells of a table that a model is used on: read as in its training, noted, or refused."""

import io
import json
import warnings

import numpy as np
import pytest
from onepass.data import Encoding, read_table


def file(text):
    return io.StringIO(text)


GERMAN = "lat;b;y\n{};1,5;2,5\n{};2,5;3,5\n"
READ_AS = "{}, 52.123 in 'lat' is {}; if it is not, write it with the decimal sign of the others"
REST, TRAINING = "as the rest of the file shows", "as the training data show"


@pytest.mark.parametrize(("cells", "row", "lat", "why"), [
    ("52.1 48.2", "52.123;1,5", 52.123, ""),  # the column had points in training
    ("52.1 48.2", "52.123;1", 52.123, ""), ("52.1 48.2", "52.123;1.5", 52.123, ""),
    ("52,1 48,2", "52.123;1,5", 52123, ""), ("52,1 48,2", "52.123;1", 52123, ""),
    ("52 48", "52.123;1,5", 52123, REST), ("52 48", "52.123;1", 52123, TRAINING),
    ("52.123 48.456", "52.123;1,5", 52123, REST), ("52.123 48.456", "52.123;1", 52123, TRAINING),
])  # fmt: skip
def test_a_point_is_read_as_its_column_was_and_else_noted(cells, row, lat, why):
    """Where a model is used, by notes and by warnings, as where it was trained."""
    train = read_table(file(GERMAN.format(*cells.split()))).encoding
    train = Encoding.from_dict(json.loads(json.dumps(train.to_dict())))
    for head, more in (("lat;b", ""), ("lat;b;y", ";7,25")):
        text = f"{head}\n{row}{more}\n"
        table = read_table(file(text), like=train)
        assert table.x[0, 0] == lat
        if more and why == TRAINING:
            continue  # now the target shows a comma
        begins = READ_AS.format(why, lat)
        notes = [note for note in table.notes if note.startswith("as ")]
        assert [note.startswith(begins) for note in notes] == [True] * bool(why)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert train.apply(file(f"lat;b\n{row}\n"))[0, 0] == lat
    assert len(caught) == bool(why)


@pytest.mark.parametrize("row", ["52.123;1.5", "52.123;0.5", "1.000;-7.25"])
def test_a_point_is_refused_where_the_file_contradicts_the_training(row):
    train = read_table(file(GERMAN.format("52,1", "48,2"))).encoding
    with pytest.raises(ValueError, match=r"row 1: '.*' is .* or .*, as 'b' has another decimal"):
        train.apply(file(f"lat;b\n{row}\n"))
    assert train.apply(file(f"lat;b\n{row}\n"), decimal=".").tolist() == [
        [float(cell) for cell in row.split(";")]
    ]


@pytest.mark.parametrize(("cells", "task"), [
    ("3.512 4.125", None), ("3.000 4.000 3.000", "regression"), ("1.200 7", None),
    ("-3.512 4", None), ("3.512_€ 4.125_€", None),
])  # fmt: skip
def test_a_target_of_doubtful_points_is_noted(cells, task):
    rows = "".join(f"{i},5;{cell.replace('_', ' ')}\n" for i, cell in enumerate(cells.split()))
    table = read_table(file(f"a;y\n{rows}"), task=task)
    first = cells.split()[0].replace("_", " ")
    note = f"as the rest of the file shows, {first} in 'y' is {table.y[0]:.15g}; "
    assert [n for n in table.notes if n.startswith(note)]
    again = read_table(file(f"a;y\n{rows}"), like=table.encoding)
    assert [n for n in again.notes if n.startswith(note)]
    assert again.y.tolist() == table.y.tolist()
    assert abs(table.y[0]) >= 1000


@pytest.mark.parametrize("cells", ["True False", "true FALSE", "False True  False"])
def test_true_and_false_take_no_other_number_where_they_are_predicted(cells):
    rows = "".join(f"{cell},{i}.5\n" for i, cell in enumerate(cells.split(" ")))
    train = read_table(file(f"f,y\n{rows}"), missing="impute").encoding
    for cell in ("2", "-1", "0.5", "1e9"):
        with pytest.raises(ValueError, match=f"'f', row 2: {float(cell):.15g} is neither true nor"):
            train.apply(file(f"f\n1\n{cell}\n"))
        with pytest.raises(ValueError, match=f"'f', row 2: {float(cell):.15g} is neither true nor"):
            train.apply({"f": [1, float(cell)]})
    assert train.apply(file("f\nTRUE\nfalse\n")).tolist() == [[1], [0]]
    assert train.apply(file("f\n1\n0\n")).tolist() == [[1], [0]]
    assert train.apply({"f": np.array([True, False])}).tolist() == [[1], [0]]


def test_true_and_false_of_a_dataframe_take_no_other_number():
    train = read_table({"f": np.array([True, False]), "y": [0.5, 1.5]}).encoding
    with pytest.raises(ValueError, match="row 1: 2 is neither true nor false"):
        train.apply(file("f\n2\n"))
    assert train.apply({"f": [0, 1]}).tolist() == [[0], [1]]


@pytest.mark.parametrize("rows", [1, 2, 9, 10])
def test_a_gap_such_as_training_had_is_no_note_where_rows_are_predicted_one_by_one(rows):
    """Half of the cells are missing in training: ten in a row hardly by chance, the share is kept
    beside the model."""
    train = read_table(file("a,b,y\n1,2,0.5\n3,,1.5\n"), missing="impute").encoding
    train = Encoding.from_dict(json.loads(json.dumps(train.to_dict())))
    table = read_table(file("b,a\n" + ",1\n" * rows), like=train)
    assert table.x.tolist() == [[1, 2]] * rows
    assert any("no numbers in 'b'" in note for note in table.notes) == (rows == 10)


def test_a_gap_that_training_never_had_is_noted_in_a_single_row():
    train = read_table(file("a,b,y\n1,2,0.5\n,2,1.5\n"), missing="impute").encoding
    assert read_table(file("a,b\n1,\n"), like=train).notes[0].startswith("no numbers in 'b'")
    assert read_table(file("a,b\n,1\n"), like=train).notes == ()
