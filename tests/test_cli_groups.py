"""`onepass train --groups COLUMN`: rows that belong together are in one part, and in one fold."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from onepass import cli, load_run
from onepass.data import fold_indices, read_table
from onepass.runs import _cross_validation, _parts
from onepass.runs._command_line import command_line
from onepass.runs._options import Options
from onepass.runs._source import Source

FAST = ["--hidden", "4", "--epochs", "2", "--quiet"]
ROWS, PATIENTS = 96, 12


def write(path, patients, target="kind", numbers=False):
    """A table whose rows of a patient are alike."""
    rng = np.random.default_rng(0)
    of = {name: rng.standard_normal() for name in sorted(set(patients))}
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "patient", "b", target])
        for name in patients:
            a, b = rng.standard_normal(2)
            kind = f"{a + of[name]:.4f}" if numbers else ["no", "yes"][int(a + of[name] > 0)]
            writer.writerow([f"{a:.4f}", name, f"{b:.4f}", kind])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    write("t.csv", [f"p{i}" for i in rng.integers(0, PATIENTS, ROWS)])
    write("n.csv", [f"p{i}" for i in rng.integers(0, PATIENTS, ROWS)], "price", numbers=True)
    return tmp_path


@pytest.fixture
def run(here, capsys):
    def call(*arguments, status=0, command="train"):
        assert cli.main([command, *arguments]) == status, capsys.readouterr()
        shown = capsys.readouterr()
        if status:
            assert len(shown.err.splitlines()) == 1, shown.err
            return shown.err
        return shown.out

    return call


def cells(path, name):
    with open(path, newline="") as file:
        return np.array([row[name] for row in csv.DictReader(file)])


def record(folder):
    return json.loads((Path(folder) / "run.json").read_text())


def rows_of(folder):
    """The rows of the held-out part."""
    return cells(Path(folder) / "held_out.csv", "row").astype(int) - 1


@pytest.mark.parametrize("table", ["t.csv", "n.csv"])
def test_a_group_is_in_one_fold_and_in_one_part(here, table):
    source = Source.read(Options(data=table, groups="patient"))
    patients = cells(table, "patient")
    rows = _cross_validation.folds(source, 4, seed=3)
    assert sorted(np.concatenate([test for _, test in rows])) == list(range(ROWS))
    for rest, test in rows:
        assert sorted([*rest, *test]) == list(range(ROWS))
        assert not set(patients[test]) & set(patients[rest])
        parts = _parts.split_rest(source, rest, test, 3)
        assert len(parts.train) + len(parts.validation) == len(rest)
        assert not set(patients[parts.train]) & set(patients[parts.validation])
    parts = _parts.split(source, 3)
    held = [set(patients[part]) for part in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, held)) == len(set().union(*held)) == len(set(patients))
    assert 0.1 < len(parts.test) / ROWS < 0.4


def test_the_folds_are_those_of_fold_indices(here):
    table = read_table("t.csv", groups="patient")
    assert table.groups.tolist() == cells("t.csv", "patient").tolist()
    assert table.columns == ("a", "b")
    expected = fold_indices(table.y, 4, groups=table.groups, seed=3)
    found = _cross_validation.folds(Source.read(Options(data="t.csv", groups="patient")), 4, 3)
    for pair, wanted in zip(found, expected, strict=True):
        for part, rows in zip(pair, wanted, strict=True):
            np.testing.assert_array_equal(part, rows)


def test_a_run_holds_out_whole_groups_and_predicts_without_them(run):
    run("t.csv", "--groups", "patient", "--cv", "3", *FAST, "--out", "r")
    patients = cells("t.csv", "patient")
    held = [rows_of(folder) for folder in ("r/folds/1", "r/folds/2", "r/folds/3")]
    assert sorted(np.concatenate(held)) == list(range(ROWS))
    for rows in (*held, rows_of("r")):
        others = np.setdiff1d(np.arange(ROWS), rows)
        assert not set(patients[rows]) & set(patients[others])
    assert load_run("r").features == ["a", "b"]
    assert record("r")["data"]["inputs"] == ["a", "b"]
    lines = [line.split(",") for line in Path("t.csv").read_text().splitlines()]
    Path("new.csv").write_text("".join(f"{a},{b}\n" for a, _, b, _ in lines))
    assert len(load_run("r").predict("new.csv")) == ROWS
    assert "held-out part" in run("r", "t.csv", "--held-out", command="evaluate")


def test_what_belongs_together_is_said_and_repeated(run):
    shown = run("t.csv", "--groups", "patient", *FAST[:-1], "--out", "r")
    assert f"{PATIENTS} groups that stay together" in " ".join(shown.split())
    assert "--groups patient" in command_line(record("r")["options"])
    run("t.csv", "--groups", "patient", *FAST, "--out", "s")
    assert (Path("r") / "history.csv").read_text() == (Path("s") / "history.csv").read_text()
    run("t.csv", "--drop", "patient", *FAST, "--out", "d")
    assert rows_of("d").tolist() != rows_of("r").tolist()


def test_a_resume_compares_the_groups(run):
    run("t.csv", "--groups", "patient", *FAST, "--out", "r")
    go_on = ["--resume", "--out", "r", "--epochs", "3", "--quiet"]
    assert "was started with --groups patient; --resume cannot go on with --groups b" in run(
        *go_on, "--groups", "b", status=2
    )
    run("t.csv", "--drop", "patient", *FAST, "--out", "d")
    assert "was started with no --groups; --resume cannot go on with --groups patient" in run(
        "--resume", "--out", "d", "--epochs", "3", "--groups", "patient", status=2
    )
    text = Path("t.csv").read_text()
    Path("t.csv").write_text(text.replace(",p1,", ",p2,"))
    assert "was started with other groups in 'patient' of t.csv" in run(*go_on, status=2)
    Path("t.csv").write_text(text.replace(",p1,", ",first,"))  # another name of the same group
    run(*go_on)
    assert record("r")["epochs"] == 3


def test_rows_without_a_target_take_their_group_along(here):
    rows = ["a,who,y", "1,x,1", "2,,", "3,y,2", ",,", "4,x,3"]
    Path("gaps.csv").write_text("\n".join(rows) + "\n")
    table = read_table("gaps.csv", groups="who", missing="impute", task="regression")
    assert (table.y.tolist(), table.groups.tolist()) == ([1, 2, 3], ["x", "y", "x"])
    assert table.x.tolist() == [[1], [3], [4]]


def test_groups_of_a_frame(here):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2, 3], "who": [7, 8, 7], "y": [1.5, 2.5, 3.5]})
    assert read_table(frame, groups="who").groups.tolist() == ["7", "8", "7"]
    assert read_table(frame, groups=2).columns == ("a",)


@pytest.mark.parametrize(("arguments", "words"), [
    (["t.csv", "--groups", "patients"], "t.csv: no column 'patients', expected .* mean 'patient'"),
    (["t.csv", "--groups", "kind"], "'groups' has 'kind', the last column, which is the target"),
    (["t.csv", "--groups", "a", "--target", "a"], "'groups' has 'a', the target, expected ano"),
    (["t.csv", "--groups", "a", "--features", "a,b"], "'features' has 'a', which 'groups' has too"),
    (["t.csv", "--groups", "patient", "--cv", "13"], "'--cv' is 13, expected at most 12, the numb"),
    (["two.csv", "--groups", "patient"], "'--groups' leaves one group of .* rows to train on"),
    (["three.csv", "--groups", "patient", "--cv", "3"], None),
    (["three.csv", "--groups", "patient", "--cv", "2"], "more groups than 3: at least two must be"),
    (["hole.csv", "--groups", "patient"], r"column 'patient', row 3: the cell is empty, expected"),
    (["na.csv", "--groups", "patient"], r"column 'patient', row 3: the cell is 'NA', a missing"),
    (["word.csv", "--groups", "patient", "--na-values", "none given"],
     r"column 'patient', row 3: the cell is 'none given', a missing"),
    (["iris", "--groups", "patient"], "'--groups' is given, expected it with a table only, and ir"),
    (["search"], "unknown argument '--groups'"),
])  # fmt: skip
def test_wrong_use_is_one_line(run, arguments, words):
    write("two.csv", ["x", "y"] * 20)
    write("three.csv", ["x", "y", "z"] * 20)
    for name, gap in (("hole", ""), ("na", "NA"), ("word", "none given")):
        write(f"{name}.csv", ["x", "y", gap, "z"] * 10)
    command = "train"
    if arguments == ["search"]:
        command, arguments = "search", ["t.csv", "--groups", "patient"]
    error = run(*arguments, *FAST, "--out", "r", status=2 * (words is not None), command=command)
    if words is not None:
        assert re.search(words, error), error
        assert not Path("r").exists()


def test_a_model_that_is_loaded_knows_its_held_out_rows(run):
    run("n.csv", "--groups", "patient", *FAST, "--out", "r")
    assert load_run("r").held_out.tolist() == rows_of("r").tolist()


@pytest.mark.parametrize(("options", "error", "words"), [
    ({"groups": "x"}, ValueError, "no column 'x'"),
    ({"groups": 9}, ValueError, "'groups' is 9, expected"),
    ({"groups": 0}, ValueError, "'groups' is 0, expected a position"),
])  # fmt: skip
def test_wrong_groups_of_a_table(here, options, error, words):
    with pytest.raises(error, match=words):
        read_table("t.csv", **options)
    with pytest.raises(ValueError, match="'groups' is 'b', expected None beside 'like'"):
        read_table("t.csv", like=read_table("t.csv", drop=["patient"]).encoding, groups="b")
