"""Numbers that are written as people write them, $1,200.50, load as plain numbers do."""

import io

import numpy as np
import pytest
from onepass.data import _layout, read_table

EURO, NBSP, MINUS = "\u20ac", "\u00a0", "\u2212"
TO_GERMAN = str.maketrans(",.", ".,")


def german(value):
    return f"{value:,.2f}".translate(TO_GERMAN)


FORMS = {
    "dollars": (",", lambda v: f'"${v:,.2f}"', "$"),
    "dollars, negative ones": (",", lambda v: f'"-${v:,.2f}"', "$"),
    "dollars by tabs": ("\t", lambda v: f"${v:,.2f}", "$"),
    "euros": (";", lambda v: f"{german(v)} {EURO}", EURO),
    "euros behind a narrow space": (";", lambda v: f"{v:.2f}{NBSP}{EURO}".replace(".", ","), EURO),
    "a currency in letters": (";", lambda v: f"EUR {v:.2f}", "EUR"),
    "percentages": (",", lambda v: f"{v:.2f}%", "%"),
    "percentages with commas": (";", lambda v: f"{v:.2f} %".replace(".", ","), "%"),
    "German thousands": (";", german, ""),
    "English thousands": ("\t", lambda v: f"{v:,.2f}", ""),
    "thousands by spaces": (";", lambda v: f"{v:,.2f}".replace(",", NBSP), ""),
    "thousands by quotes": (";", lambda v: f"{v:,.2f}".replace(",", "'"), ""),
    "commas within quotes": (",", lambda v: f'"{v:.2f}"'.replace(".", ","), ""),
    "a minus of Unicode": (",", lambda v: f"{MINUS}{v:.2f}", ""),
    "kilograms": (",", lambda v: f"{v:.2f} kg", "kg"),
    "French euros": (";", lambda v: german(v).replace(".", NBSP) + NBSP + EURO, EURO),
    "kilograms with spaces": (";", lambda v: f"{v:,.2f} kg".replace(",", " "), "kg"),
    "Swedish crowns": (";", lambda v: "SEK " + german(v).replace(".", " "), "SEK"),
    "percentages with spaces": (";", lambda v: german(v).replace(".", " ") + " %", "%"),
}


def values():
    rng = np.random.default_rng(0)
    found = (rng.uniform(1, 9, (400, 3)) * 10.0 ** rng.integers(0, 6, (400, 3))).round(2)
    found[0] = [1234567.25, 12.5, 1234567.25]  # shows the form
    return found


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_prices_percentages_and_thousands_load_as_plain_numbers_do(form, gaps, monkeypatch):
    """The same numbers to the last bit, and no column word by word, which takes tens of times as
    long."""

    def refuse(source, name, column):
        raise AssertionError(f"column {name!r} was read word by word")

    monkeypatch.setattr("onepass.data._signs.Cells.of", refuse)
    sep, written, unit = FORMS[form]
    rows = values()
    cells = [[written(v) for v in row] for row in rows]
    if gaps:
        for row, word in ((5, ""), (77, "NA"), (300, "-")):
            cells[row][1], rows[row, 1] = word, np.nan
    text = sep.join("wabny") + "\n"
    for i, row in enumerate(cells):
        text += sep.join([f"v. {i % 3}", *row[:2], str(i), row[2]]) + "\n"
    table = read_table(io.StringIO(text), drop=["w"], missing="impute")
    hundredth = np.array([[float(f"{v:.2f}e-2") for v in row] for row in values()])
    expected = np.where(np.isnan(rows), np.nan, hundredth) if unit == "%" else rows
    sign = -1 if MINUS in cells[0][0] or cells[0][0].startswith('"-') else 1
    kept = ~np.isnan(expected[:, 1])
    np.testing.assert_array_equal(table.x[:, 0], sign * expected[:, 0])
    np.testing.assert_array_equal(table.x[kept, 1], sign * expected[kept, 1])
    np.testing.assert_array_equal(table.x[:, 2], np.arange(400))
    np.testing.assert_array_equal(table.y, sign * expected[:, 2])
    assert [feature.unit for feature in table.encoding.features] == [unit, unit, ""]
    assert table.encoding.unit == unit


ODD = {
    "another unit": "5.25 " + EURO, "no unit": "5.25", "another decimal sign": "$5,25",
    "a group of four": "$1,2345.00", "a group of two": "$12,34.00",
    "four before a group": "$1234,567.5",
    "a zero before a group": "$0,123.5", "a group behind the decimals": "$1.123,456",
    "no number": "$nan", "a sign alone": "$", "two signs": "--$5.25", "the unit twice": "$$5.25",
    "an exponent": "$1,200e3", "infinity": "$inf", "an underscore": "$1_200.5", "a word": "cheap",
}  # fmt: skip


@pytest.mark.parametrize("place", [3, 399])
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_cell_among_prices_is_refused(odd, place):
    cells = [f"${v:,.2f}" for v in values()[:, 0]]
    cells[place] = ODD[odd]
    text = "a\ty\n" + "".join(f"{cell}\t{i}.5\n" for i, cell in enumerate(cells))
    with pytest.raises(ValueError, match=f"column 'a', row {place + 1}: "):
        read_table(io.StringIO(text), categorical="auto")


def outcome(text):
    try:
        table = read_table(io.StringIO(text), categorical="auto")
    except ValueError:
        return None
    units = [feature.unit for feature in table.encoding.features]
    return table.x.tolist(), table.y.tolist(), units, table.encoding.signs


def random_cell(rng, decimal, group, before, after):
    value = int(10 ** rng.uniform(0, 7))
    body = f"{value:,}".replace(",", group) if rng.random() < 0.5 else str(value)
    if decimal and rng.random() < 0.8:
        body += f"{decimal}{rng.integers(10 ** rng.integers(1, 5))}"
    sign = rng.choice(["", "", "", "", "-", MINUS])
    odd = rng.choice(["NA", "", "007", "1.234", "1,234", "5 %", "x", "0,5"])
    return odd if rng.random() < 0.002 else f"{sign}{before}{body}{after}"


@pytest.mark.parametrize("seed", range(40))
def test_a_form_is_read_as_by_the_rules_for_cells(seed, monkeypatch):
    """Random columns, some with an odd cell, in parts of any size: never another number."""
    rng = np.random.default_rng(seed)
    sep = str(rng.choice([";", ",", "\t", "|"]))
    decimal, group = [(".", ","), (",", "."), (".", ""), (",", NBSP), (".", "'"), ("", " ")][
        seed % 6
    ]
    around = [("", ""), ("$", ""), ("", f" {EURO}"), ("", "%"), ("", " kg"), ("USD ", "")]
    before, after = around[int(rng.integers(6))]
    rows = []
    for i in range(120):
        cell = random_cell(rng, decimal, group, before, after)
        cell = f'"{cell}"' if sep in cell or rng.random() < 0.1 else cell
        rows.append(sep.join([cell, "a.b" if i % 2 else '"c, d"', f"{i}.5"]))
    text = sep.join("awy") + "\n" + "\n".join(rows)
    monkeypatch.setattr("onepass.data._text.CHUNK", [1 << 20, 200, 2000][seed % 3])
    quick = outcome(text)
    monkeypatch.setattr(_layout, "form_of", lambda cells, sep: None)
    assert quick == outcome(text)
