"""Columns of words that look like numbers, amounts, dates; and numbers where words were learnt."""

import io

import numpy as np
import pytest
from onepass.data import read_table

# ------------------------------------------------------------------ words that look like numbers


def written(tmp_path, header, rows):
    path = tmp_path / "t.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.mark.parametrize("words", [
    ["32GB", "1TB", "512GB"], ["2:10", "1:12", "3:07"], ["3g", "4g", "5g"], ["10k", "20k", "1M"],
    ["2024-01", "2024-02", "2024-03"], ["1", "2", "3"], ["5%", "$5", "5"], ["1.10", "1.1", "2.0"],
], ids=str)  # fmt: skip
def test_words_that_look_like_something_else_are_kept_where_that_is_said(tmp_path, words):
    rows = [f"{word},{n}.5" for n, word in enumerate(words * 4)]
    path = written(tmp_path, "what,y", rows)
    table = read_table(path, words=["what"])
    assert table.feature_names == tuple(f"what={word}" for word in sorted(words))
    assert table.x.sum(axis=0).tolist() == [4, 4, 4]
    again = table.encoding.apply({"what": [words[1], words[0]]})
    assert again.tolist() == [table.x[1].tolist(), table.x[0].tolist()]
    rows = [f"{n}.5,{word}" for n, word in enumerate(words * 4)]
    as_target = read_table(written(tmp_path, "y,what", rows), words=[-1])
    assert as_target.task == "classification"
    assert as_target.classes == tuple(sorted(words))
    like = read_table(io.StringIO(f"y,what\n1.5,{words[1]}\n"), like=as_target.encoding)
    assert like.y.tolist() == [sorted(words).index(words[1])]


@pytest.mark.parametrize("words", [
    ["32GB", "1TB", "512GB"], ["2:10", "1:12", "3:07"], ["10k", "20k", "1M"],
    ["2024-01", "2024-02", "2024-03"],
], ids=str)  # fmt: skip
def test_the_refusal_of_such_words_names_the_option(tmp_path, words):
    path = written(tmp_path, "what,y", [f"{word},{n}.5" for n, word in enumerate(words * 4)])
    with pytest.raises(
        ValueError, match=r"pass words=\['what'\] \(--words what\) if they are names"
    ):
        read_table(path, categorical="auto")


@pytest.mark.parametrize("words", [["3g", "4g", "5g"], ["1h", "2h"], ["64GB", "128GB", "256GB"]])
def test_a_target_that_may_be_names_or_amounts_is_asked_about(tmp_path, words):
    path = written(tmp_path, "a,y", [f"{n},{word}" for n, word in enumerate(words * 4)])
    with pytest.raises(ValueError, match=r"row 1: '\d+\w+' may be an amount in \w+ or a name"):
        read_table(path)
    names = read_table(path, task="classification")
    assert sorted(names.classes) == sorted(words)
    amounts = read_table(path, task="regression")
    assert amounts.y[:2].tolist() == [float(word.rstrip("ghGB")) for word in words[:2]]


@pytest.mark.parametrize("cells", [["5 kg", "7 kg"] * 4, ["5.5kg", "7.5kg"] * 4, ["5kg", "7kg"]])
def test_amounts_that_are_no_names_are_not_asked_about(tmp_path, cells):
    path = written(tmp_path, "a,y", [f"{n},{cell}" for n, cell in enumerate(cells)])
    assert read_table(path).task == "regression"


def test_words_that_are_no_columns_or_too_many_are_refused(tmp_path):
    path = written(tmp_path, "a,b,y", [f"{n},{n % 2},{n}.5" for n in range(12)])
    for words, what in (("b", "a list"), (["c"], "no column 'c'"), (["a"], "too many words")):
        with pytest.raises((TypeError, ValueError), match=what):
            read_table(path, words=words)
    with pytest.raises(ValueError, match="'words' has 'a', expected columns that are used"):
        read_table(path, words=["a"], drop=["a"])
    with pytest.raises(ValueError, match="'words' has the target 'y', expected none with"):
        read_table(path, words=["y"], task="regression")


# --------------------------------------------------------------- numbers where words were learnt


@pytest.mark.parametrize("trained", [["1", "2", "A"], ["1.0", "2.0", "A"]], ids=str)
def test_numbers_of_a_dataframe_are_the_words_that_they_were(tmp_path, trained):
    path = written(tmp_path, "what,y", [f"{w},{n}.5" for n, w in enumerate(trained * 4)])
    encoding = read_table(path, words=["what"]).encoding
    want = [[1, 0, 0], [0, 1, 0], [1, 0, 0]]
    for given in ([1, 2, 1], [1.0, 2.0, 1.0], np.array([1, 2, 1], np.float32), [True + 0, 2, 1]):
        assert encoding.apply({"what": given}).tolist() == want
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"what": [1, 2, 1]})
    for kind in ("int8", "float64", "Int64", "Float32", "category"):
        assert encoding.apply(frame.astype(kind)).tolist() == want


@pytest.mark.parametrize("trained", [["007", "8", "012"], ["007", "012", "013"], ["3.1", "3.10"]])
def test_numbers_that_are_several_words_or_none_are_unseen(tmp_path, trained):
    path = written(tmp_path, "what,y", [f"{w},{n}.5" for n, w in enumerate(trained * 4)])
    encoding = read_table(path, words=["what"]).encoding
    columns, *_ = encoding.read({"what": [7.0, 12.0, 3.1]})
    x, notes = encoding.encode(columns)
    place = [sorted(trained).index(w) if w in trained else None for w in ("7", "12", "3.1")]
    assert [row.argmax() if row.any() else None for row in x] == place
    assert "words that training lacked" in notes[0]
    with pytest.warns(RuntimeWarning, match="words that training lacked") as caught:
        assert encoding.apply({"what": [7.0, 12.0, 3.1]}).tolist() == x.tolist()
    told = "if 7 is '007', read the column as text, such as dtype=str"
    assert (told in str(caught[0].message)) == ("007" in trained)


# --------------------------------------------------------------------------- totals without a name


TOTALLED = {
    "sums": (lambda a, b, y: (a.sum(), b.sum(), y.sum()), "the sum of those above, in all 3"),
    "means": (lambda a, b, y: (a.mean(), b.mean(), y.mean()), "the mean of those above, in all 3"),
    "no target": (lambda a, b, y: (a.sum(), b.sum(), y[0]), None),
    "one column": (lambda a, b, y: (a.sum(), b[3], y[0]), None),
    "nearly": (lambda a, b, y: (a.sum() * 1.001, b.sum() * 1.001, y.sum()), None),
}


@pytest.mark.parametrize("kind", TOTALLED)
def test_a_last_row_of_totals_without_a_name_is_noticed(tmp_path, kind):
    rng = np.random.default_rng(2)
    a, b, y = rng.random(12).round(2), rng.integers(1, 99, 12) * 1.0, rng.random(12).round(3) * 9
    of, words = TOTALLED[kind]
    rows = [*zip(a, b, y, strict=True), of(a, b, y)]
    text = "a,b,zero,y\n" + "".join(f"{i!r},{j!r},0,{k!r}\n" for i, j, k in
                                     [map(float, row) for row in rows])  # fmt: skip
    frame = {name: [float(row[i]) for row in rows] for i, name in enumerate("aby")}
    for source in (io.StringIO(text), frame):
        told = [note for note in read_table(source).notes if note.startswith("the last row is")]
        assert len(told) == (words is not None)
        assert words is None or words in told[0]


def test_numbers_that_add_up_by_chance_are_no_total():
    table = read_table(io.StringIO("a,y\n1,2.5\n2,3.5\n3,6.0\n"))
    assert not [note for note in table.notes if "last row" in note]


@pytest.mark.parametrize(("options", "kind", "words"), [
    ({"sepp": ";"}, TypeError, "unknown option 'sepp', expected sep, .*did you mean 'sep'"),
    ({"sep": "a"}, ValueError, "'sep' is 'a', expected one character"),
    ({"decimal": ";"}, ValueError, "'decimal' is ';', expected"),
    ({"header": "no"}, TypeError, "'header' is 'no', expected"),
    ({"na_values": 3j}, TypeError, "'na_values' is 3j, expected a list"),
])  # fmt: skip
def test_options_of_reading_are_checked_for_other_files_too(options, kind, words):
    encoding = read_table(io.StringIO("a,y\n1,2.5\n2,3.5\n")).encoding
    with pytest.raises(kind, match=words):
        encoding.apply(io.StringIO("a\n1\n"), **options)
