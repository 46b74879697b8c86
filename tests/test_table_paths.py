"""The quick path over a text reads what the path cell by cell does, and no row is lost."""

import io
import random

import numpy as np
import pytest
from onepass.data import _blocks, _text, read_table

NARROW, NBSP, MINUS = "\u202f", "\u00a0", "\u2212"


def german(value):
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


FORMS = {
    "decimal comma": lambda v: f"{v:.2f}".replace(".", ","),
    "German": lambda v: german(1000 * v),
    "dollars": lambda v: f"${1000 * v:,.2f}",
    "whole dollars": lambda v: f"${int(100 * v)}",
    "percent": lambda v: f"{v:.1f}%",
    "percent behind a space": lambda v: f"{v:.1f} %",
    "kilograms": lambda v: f"{v:.1f} kg",
    "groups by spaces": lambda v: f"{int(1000 * v):,}".replace(",", " "),
    "French": lambda v: german(1000 * v).replace(".", NARROW) + f"{NBSP}€",
    "groups by quotes": lambda v: f"{1000 * v:,.1f}".replace(",", "'"),
    "points": lambda v: f"{v:.3f}",
    "whole": lambda v: str(int(10 * v)),
    "a long minus": lambda v: f"{MINUS}{v:.2f}",
    "words": lambda v: "abc"[int(v) % 3],
}
ODD = ["", "NA", "-", "--", MINUS, "n/a", ".", ",", " ", "-,", " ,", "  5", "\t5", "  007", "007",
       " 007", "\t007", f"{NBSP}007", f"{NARROW}5", "+5", "-5", "1e400", "1e5", "$1,200e3",
       "1,234", "1.234", "1.200", "1,2,3", "1.2.3", "12.34.567", "0.500", "0,500", "-$5", "$-5",
       f"${MINUS}5", f"{MINUS}$5", "- 5", "5-", "5$", "$5", "5%", "5 %", "5  %", "5kg", "5 kg",
       "kg", "%", "$", "1 234", "1  234", "1'234", "1.234.567,8", "1,234,567.8", "01.5", "0",
       "00", "-007", "+007", f"{MINUS}007", "00%", "inf", "nan", "True", "1_000", "0x10", "\u0661",
       ".5", ",5", "5.", "5,", "e5", f"1{NBSP}234", f"5{NBSP}", "$.5", "  $5", "$  5", "+$5", "+-5",
       "9007199254740993", "\x1f", "1\x1f5", "\x015", "5\x1e"]  # fmt: skip


@pytest.fixture(params=["numpy", "pandas"])
def reader(request, monkeypatch):
    """Either reader of a part of a text."""
    found = None
    if request.param == "pandas":
        pytest.importorskip("pandas")
        found = _blocks.reader()
        if found is None:
            pytest.skip("this pandas does not read numbers as NumPy does")
    monkeypatch.setattr(_blocks, "reader", lambda: found)


def outcome(text, **options):
    """What a user gets: all of the table, or the message."""
    try:
        table = read_table(io.StringIO(text), **options)
    except ValueError as error:
        return str(error)
    features = [(f.name, f.kind, f.unit) for f in table.encoding.features]
    return (
        table.x.tolist(), table.y.tolist(), table.classes, features, table.notes,
        table.encoding.unit, table.encoding.signs, table.encoding.shown,
    )  # fmt: skip


def random_table(rng):
    sep, width = rng.choice(",;\t|"), rng.randint(1, 3) + 1
    forms = [rng.choice(list(FORMS.values())) for _ in range(width)]
    rows = [[form(rng.uniform(1, 90)) for form in forms] for _ in range(rng.randint(55, 70))]
    for _ in range(rng.randint(1, 3)):
        first = 50 if rng.random() < 0.85 else 0  # the first 50 rows show the layout
        rng.choice(rows[first:])[rng.randrange(width)] = rng.choice(ODD)
    if rng.random() < 0.1:
        rows[-3] = [rng.choice(["", " "]) for _ in forms]

    def written(cell):
        return f'"{cell}"' if sep in cell or rng.random() < 0.05 else cell

    lines = [sep.join("abcd"[:width]), *(sep.join(map(written, row)) for row in rows)]
    return sep, "\n".join(lines) + "\n"


@pytest.mark.parametrize("seed", [6, 11, 16, 24])
def test_a_table_with_an_odd_cell_is_read_as_cell_by_cell(seed, reader, monkeypatch):
    rng, quick = random.Random(seed), _text._Reading._quick
    for _ in range(12):
        sep, text = random_table(rng)
        task = rng.choice([None, "regression", "classification"])
        options = {"sep": sep, "missing": "impute", "categorical": "auto", "task": task}
        if rng.random() < 0.2:
            options["decimal"] = rng.choice(".,")
        found = []
        for size, path in ((1 << 20, quick), (300, quick), (1 << 20, lambda self, chunk: False)):
            monkeypatch.setattr(_text, "CHUNK", size)
            monkeypatch.setattr(_text._Reading, "_quick", path)
            found.append(outcome(text, **options))
        assert repr(found[0]) == repr(found[2]), (text, options)
        if not isinstance(found[2], str):
            assert repr(found[1]) == repr(found[2]), (text, options)


GAPS = ["NA", "-", "n/a", MINUS, "", " "]
SHAPES = {"$": "${}.50", "%": "{}%", "kg": "{} kg", "a decimal comma": "{},5", "plain": "{}.5"}


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_file_of_one_column_has_a_prediction_for_each_row(gap, shape, place, reader):
    written = SHAPES[shape]
    rows = [f"{written.format(i)};{i}.5" for i in range(1, 5)]
    if shape == "a decimal comma":
        rows = [row.replace(".", ",") for row in rows]
    train = read_table(io.StringIO("\n".join(["a;y", *rows])), missing="impute", sep=";")
    cells = [written.format(i) for i in (1, 2, 3)]
    cells.insert(place, gap)
    if place == 3 and not gap.strip():
        cells.append(written.format(4))  # at the end of a file, an empty line ends it
    found = train.encoding.apply(io.StringIO("\n".join(["a", *cells])), sep=";")
    assert len(found) == len(cells)
    assert found[place, 0] == np.median(train.x)


@pytest.mark.parametrize("code", ["  007", "\t007", f"{NBSP}007", " \t 007"])
@pytest.mark.parametrize("price", ["{},5", "${}.5", "{}"])
def test_007_is_not_7_whatever_stands_before_it_and_beside_it(code, price, reader):
    rows = [f"{i};{price.format(i)};{i}.5" for i in range(1, 60)]
    rows += [f"{code};{price.format(2)};3.5", f"7;{price.format(2)};3.5"]
    with pytest.raises(ValueError, match="'007' has a leading zero"):
        read_table(io.StringIO("\n".join(["id;price;y", *rows])), decimal=None, sep=";")


@pytest.mark.parametrize("row", [",", " ,", ", ", " , ", "\t,", '"",', '" ",'])
def test_a_row_of_separators_and_spaces_is_left_out(row, reader):
    for cells in ("{},{}.5", "{},{}.5"), ("w{},{}.5", "w{},{}.5"):
        rows = [cells[0].format(i % 3, i) for i in range(60)]
        rows.insert(55, row)
        table = read_table(io.StringIO("\n".join(["x,y", *rows])), categorical="auto")
        assert len(table) == 60
        assert "left out 1 row in which every cell is empty" in table.notes


@pytest.mark.parametrize("cell", ['","', '"-,"', '" ,"', '"n/a,"'])
def test_a_quoted_separator_is_not_taken_for_a_missing_cell(cell, reader):
    rows = [f"{i} {i % 7}45,{i}.5" for i in range(10, 70)]
    rows[55] = f"{cell},1.5"
    with pytest.raises(ValueError, match="column 'a', row 56"):
        read_table(io.StringIO("\n".join(["a,y", *rows])), missing="impute")


@pytest.mark.parametrize("late", ["1e5", "1e3", "2E4"])
@pytest.mark.parametrize("size", [1 << 20, 300])
def test_an_exponent_beside_thousands_is_read_wherever_it_stands(late, size, reader, monkeypatch):
    monkeypatch.setattr(_text, "CHUNK", size)
    for place in (3, 59):
        cells = [f"{1000 + i:,}.25" for i in range(60)]
        cells[place] = late
        table = read_table(
            io.StringIO("a;y\n" + "".join(f"{c};{i}.5\n" for i, c in enumerate(cells)))
        )
        assert table.x[place, 0] == float(late)
        assert table.x[10, 0] == 1010.25
