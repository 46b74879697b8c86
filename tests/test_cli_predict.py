"""Predicting with a run: from the command line and from Python, on tables as people have them."""

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onepass as package
import pytest
from commands import ENVIRONMENT
from onepass import nn
from onepass.cli import main
from onepass.runs import _model_file, _saved_run

FAST = ["--hidden", "8", "--epochs", "2", "--quiet"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, columns):
    """A CSV file of {name: cells}."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def columns(kind="classes", n=120):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(n).round(3), (rng.random(n) * 1000).round(1)
    town = np.array(["Oslo", "São Paulo", "New York, NY"])[rng.integers(0, 3, n)]
    found = {"id": [f"{i:04d}" for i in range(n)], "a": a.tolist(), "b": b.tolist()}
    if kind == "words":
        gaps = [("" if i % 9 == 0 else v) for i, v in enumerate(b.tolist())]
        return {**found, "b": gaps, "town": town.tolist(), "price": (a * 3 + b).round(2).tolist()}
    if kind == "numbers":
        return {**found, "price": (a * 3 + b).round(2).tolist()}
    if kind == "rare":
        return {**found, "y": np.where(a > 1.7, "bad", "good").tolist()}
    if kind == "codes":
        return {**found, "y": np.where(a > 0, "007", "07").tolist()}
    return {**found, "y": np.where(a > 0, 3, 12).tolist()}


@pytest.fixture
def trained(here, capsys):
    """Trains on a table of a kind; returns what it printed."""

    def train(kind="classes", *more):
        write("t.csv", columns(kind))
        options = ["--categorical", "auto"] if kind == "words" else []
        status = main(["train", "t.csv", "--drop", "id", "--out", "run", *options, *FAST, *more])
        shown = capsys.readouterr()
        assert (status, shown.err) == (0, "")
        return shown.out

    return train


def said(capsys, *arguments, status=0):
    assert main([*map(str, arguments)]) == status
    shown = capsys.readouterr()
    if status:
        assert len(shown.err.splitlines()) == 1, shown.err
        return shown.err
    return shown.out


# ------------------------------------------------------------------------------- evaluate


@pytest.mark.parametrize("kind", ["classes", "numbers", "words", "rare", "codes"])
def test_evaluate_gives_the_numbers_of_the_training(trained, capsys, kind):
    """In print, in run.json, as JSON and in Python: to the last digit."""
    line = next(line for line in trained(kind).splitlines() if line.startswith("held-out part"))
    printed = said(capsys, "evaluate", "run", "t.csv", "--held-out")
    assert line.startswith(printed.splitlines()[-1] + "  (2 epochs")
    record = json.loads(Path("run/run.json").read_text())["result"]
    assert json.loads(said(capsys, "evaluate", "run", "t.csv", "--held-out", "--json")) == record


def test_scores_that_no_row_gives_are_null_in_json(trained, capsys):
    """JSON has no NaN: of one row, r2 is none."""
    trained("numbers")
    write("one.csv", columns("numbers", 1))
    text = said(capsys, "evaluate", "run", "one.csv", "--json")
    scores = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert scores["r2"] is None
    assert scores["mae"] == pytest.approx(scores["rmse"])


def test_evaluate_of_a_data_set_by_name_and_of_arrays(here, capsys):
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 2, 3))
    np.savez("t.npz", X=X, label=np.where(X[:, 0, 0] > 0, "up", "down"))
    np.savez("new.npz", X=X[:3])
    for data, more in (("iris", []), ("diabetes", []), ("t.npz", ["--target", "label"])):
        shown = said(capsys, "train", data, *more, *FAST, "--out", data[:3])
        line = next(line for line in shown.splitlines() if line.startswith("held-out part"))
        printed = said(capsys, "evaluate", data[:3], data, "--held-out")
        assert line.startswith(printed.splitlines()[-1])
    assert [row["label"] in ("up", "down") for row in rows_of(said(capsys, "predict", "t.n",
            "new.npz"))] == [True] * 3  # fmt: skip
    run = package.load_run("t.n")
    assert run.predict(X).shape == (40,)
    assert "no column 'label'" in said(capsys, "evaluate", "t.n", "new.npz", status=2)


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_how_a_file_is_read_is_refused_where_there_is_no_file(here, capsys, command):
    pytest.importorskip("sklearn")
    said(capsys, "train", "iris", *FAST, "--out", "r")
    error = said(capsys, command, "r", "iris", "--sep", ";", status=2)
    assert "'--sep' is given, expected it with a table only, and iris is none" in error
    call = getattr(package.load_run("r"), command)
    more = (np.zeros(2),) if command == "evaluate" else ()
    with pytest.raises((ValueError, TypeError), match="decimal"):
        call(np.ones((2, 4)), *more, decimal=",")


def test_evaluate_says_what_was_trained_on(trained, capsys):
    trained()
    assert main(["evaluate", "run", "t.csv"]) == 0
    shown = capsys.readouterr()
    assert "120 rows: accuracy" in shown.out
    assert "trained on most of these rows; --held-out takes the others" in shown.err
    more = columns(n=150)
    write("new.csv", {name: cells[120:] for name, cells in more.items()})
    assert main(["evaluate", "run", "new.csv"]) == 0
    assert capsys.readouterr().err == ""
    error = said(capsys, "evaluate", "run", "new.csv", "--held-out", status=2)
    assert "'--held-out' is given, expected it with the data of the training, t.csv" in error


def test_evaluate_needs_the_target_and_known_classes(trained, capsys):
    trained()
    found = columns()
    write("bare.csv", {name: found[name] for name in ("a", "b")})
    assert "no column 'y'" in said(capsys, "evaluate", "run", "bare.csv", status=2)
    write("other.csv", {**found, "y": [99] * 120})
    assert "99" in said(capsys, "evaluate", "run", "other.csv", status=2)
    run = package.load_run("run")
    with pytest.raises(ValueError, match=r"'y', row 1: '99' is not a class .* one of 3, 12"):
        run.evaluate("bare.csv", [99] * 120)
    with pytest.raises(ValueError, match="'y' has 2 values, expected 120"):
        run.evaluate("bare.csv", [3, 12])
    assert run.evaluate("bare.csv", found["y"]) == run.evaluate("t.csv")
    assert run.evaluate("bare.csv", np.array(found["y"], float)) == run.evaluate("t.csv")


def test_evaluate_of_numbers_in_python(trained):
    trained("numbers")
    run, found = package.load_run("run"), columns("numbers")
    scores = run.evaluate("t.csv")
    error = run.predict("t.csv") - np.array(found["price"])
    np.testing.assert_allclose(scores["rmse"], np.sqrt(np.mean(error**2)), rtol=1e-12)
    np.testing.assert_allclose(scores["mae"], np.mean(np.abs(error)), rtol=1e-12)
    spread = np.var(found["price"])
    np.testing.assert_allclose(scores["r2"], 1 - np.mean(error**2) / spread, rtol=1e-12)
    with pytest.raises(ValueError, match="'y' holds text"):
        run.evaluate("t.csv", ["x"] * 120)
    with pytest.raises(ValueError, match="missing or infinite"):
        run.evaluate("t.csv", [float("nan")] * 120)


def test_scores_of_classes_against_their_definitions(trained):
    trained("rare")
    run, y = package.load_run("run"), np.array(columns("rare")["y"])
    scores, p = run.evaluate("t.csv"), run.predict_proba("t.csv")
    answers = run.predict("t.csv")
    np.testing.assert_allclose(scores["accuracy"], np.mean(answers == y))
    recall = {c: np.mean(answers[y == c] == c) for c in ("bad", "good")}
    assert scores["recall"] == pytest.approx(recall)
    assert scores["balanced_accuracy"] == pytest.approx(np.mean(list(recall.values())))
    assert scores["majority"] == np.mean(y == "good")
    own = p[np.arange(120), np.searchsorted(run.classes, y)]
    np.testing.assert_allclose(scores["loss"], -np.log(own).mean(), rtol=1e-6)
    found = columns("rare")  # without a bad one there is no recall of it
    write("good.csv", {name: [v for v, c in zip(found[name], y, strict=True) if c == "good"]
                       for name in found})  # fmt: skip
    scores = run.evaluate("good.csv")
    assert scores["recall"] == pytest.approx({"good": recall["good"]})
    assert scores["balanced_accuracy"] == pytest.approx(recall["good"])


# ------------------------------------------------------------------------------- predict


@pytest.mark.parametrize("kind", ["classes", "numbers", "words"])
def test_columns_in_any_order_and_further_ones(trained, capsys, kind):
    trained(kind)
    found = columns(kind)
    target = [*found][-1]
    expected = said(capsys, "predict", "run", "t.csv")
    assert len(rows_of(expected)) == 120
    assert [*rows_of(expected)[0]] == [target]
    shuffled = {name: found[name] for name in reversed(found) if name != target}
    write("s.csv", {"new": range(120), **shuffled, "also": ["x"] * 120})
    assert said(capsys, "predict", "run", "s.csv") == expected
    assert said(capsys, "predict", "run", "s.csv", "--out", "p.csv").startswith("120 predictions")
    assert Path("p.csv").read_text() == expected
    run = package.load_run("run")
    assert [str(v) for v in run.predict("s.csv").tolist()] == [r[target] for r in rows_of(expected)]


def test_a_missing_column_is_named(trained, capsys):
    trained()
    found = columns()
    write("m.csv", {"B": found["b"], "a": found["a"]})
    assert "no column 'b', which the model was" in said(capsys, "predict", "run", "m.csv", status=2)
    with pytest.raises(ValueError, match="no column 'b'"):
        package.load_run("run").predict("m.csv")


def test_words_that_training_lacked_and_gaps(trained, capsys):
    """A new word has 0 in every column of its words; a gap is the median of the training part."""
    trained("words")
    run = package.load_run("run")
    fill = {feature.name: feature.fill for feature in run.encoding.features}
    write("n.csv", {"a": [1, 1, 1], "b": ["", fill["b"], 5], "town": ["Oslo", "Oslo", "Paris"]})
    assert main(["predict", "run", "n.csv"]) == 0
    shown = capsys.readouterr()
    first, second, third = (float(row["price"]) for row in rows_of(shown.out))
    assert first == second != third
    assert "1 row holds words that training lacked, such as 'Paris'" in shown.err


def test_a_gap_is_refused_where_training_had_none(trained, capsys):
    trained()
    write("g.csv", {"a": [1, ""], "b": [2, 3]})
    error = said(capsys, "predict", "run", "g.csv", status=2)
    assert "'a' (1)" in error or "column 'a'" in error
    assert "trained without missing" in error


def test_rows_without_a_target_are_predicted_too(trained, capsys):
    """A file may have the target's column, filled in here and there."""
    trained("words")
    found = columns("words")
    found["price"] = ["" if i % 2 else value for i, value in enumerate(found["price"])]
    write("half.csv", found)
    assert len(rows_of(said(capsys, "predict", "run", "half.csv"))) == 120


def test_probabilities_beside_the_classes(trained, capsys):
    trained()
    rows = rows_of(said(capsys, "predict", "run", "t.csv", "--proba", "--keep", "id"))
    assert [*rows[0]] == ["id", "y", "p(3)", "p(12)"]
    assert [row["id"] for row in rows[:2]] == ["0000", "0001"]
    for row in rows:
        shares = {name: float(row[f"p({name})"]) for name in ("12", "3")}
        assert sum(shares.values()) == pytest.approx(1)
        assert row["y"] == max(shares, key=shares.get)
    trained("numbers", "--overwrite")
    assert "expected it with classes" in said(
        capsys, "predict", "run", "t.csv", "--proba", status=2
    )
    with pytest.raises(TypeError, match="regression"):
        package.load_run("run").predict_proba("t.csv")


def test_columns_to_keep(trained, capsys):
    trained()
    rows = rows_of(said(capsys, "predict", "run", "t.csv", "--keep", "id,b,y"))
    assert [*rows[0]] == ["id", "b", "y", "y (predicted)"]
    assert [row["b"] for row in rows] == [str(b) for b in columns()["b"]]
    error = said(capsys, "predict", "run", "t.csv", "--keep", "idd", status=2)
    assert "'--keep' has 'idd', expected one of id, a, b, y; did you mean 'id'" in error


def test_classes_come_back_as_they_were(trained):
    """Whole numbers as such, so that they can be compared; codes with zeros as text."""
    trained()
    run = package.load_run("run")
    assert sorted(run.classes) == [3, 12]
    assert run.predict("t.csv").dtype == np.int64
    trained("codes", "--overwrite")
    run = package.load_run("run")
    assert run.classes == ["007", "07"]
    assert set(run.predict("t.csv")) <= {"007", "07"}


def test_arrays_and_frames(trained):
    pandas = pytest.importorskip("pandas")
    trained("words")
    run = package.load_run("run")
    frame = pandas.read_csv("t.csv")
    expected = run.predict("t.csv")
    np.testing.assert_array_equal(run.predict(frame), expected)
    np.testing.assert_array_equal(run.predict(frame[reversed(frame.columns)]), expected)
    trained("numbers", "--overwrite")
    run, found = package.load_run("run"), columns("numbers")
    assert run.features == ["a", "b"]
    array = np.array([found["a"], found["b"]]).T
    np.testing.assert_array_equal(run.predict(array), run.predict("t.csv"))
    with pytest.raises(ValueError, match=r"shape \(120, 3\), expected \(N, 2\): a, b"):
        run.predict(np.ones((120, 3)))
    with pytest.raises(TypeError, match="expected a path"):
        run.predict(3)


def test_a_run_has_a_telling_repr(trained):
    trained()
    assert repr(package.load_run("run")) == (
        "SavedRun(2 → 8 → 2, batch norm, relu, dropout 0.2; 2 classes of 'y' from 2 features, "
        "trained on t.csv)"
    )


def test_another_separator_in_the_new_file(trained, capsys):
    trained()
    expected = said(capsys, "predict", "run", "t.csv")
    text = Path("t.csv").read_text().replace(",", "|")
    Path("t.txt").write_text(text.replace("\r\n", "\n"))
    assert said(capsys, "predict", "run", "t.txt", "--sep", "|") == expected


# ------------------------------------------------------------------------------- the model file


def test_the_model_file_alone_predicts(trained, capsys, here):
    """In another folder and another process, without the data, the checkpoints or the record."""
    trained("words")
    expected = said(capsys, "predict", "run", "t.csv")
    (here / "elsewhere").mkdir()
    os.rename("run/model.npz", "elsewhere/model.npz")
    line = [sys.executable, "-m", "onepass", "predict", "elsewhere", "t.csv"]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, expected)


def test_the_weights_are_those_of_the_best_epoch(here, capsys):
    """Not of the last one, as in the checkpoint."""
    write("t.csv", columns("numbers"))
    said(capsys, "train", "t.csv", "--drop", "id", "--hidden", "32", "--lr", "0.1", "--out", "run",
         "--epochs", "12", "--quiet")  # fmt: skip
    record = json.loads(Path("run/run.json").read_text())
    assert record["best_epoch"] < record["epochs"]
    best = package.train.Trainer.load_weights(
        "run/checkpoints", package.load_run("run").model, which="best"
    ).state_dict()
    for name, array in package.load_run("run").model.state_dict().items():
        np.testing.assert_array_equal(array, best[name])


def test_a_run_predicts_while_it_is_trained(here, capsys, monkeypatch):
    """With its best weights so far, and a note."""
    write("t.csv", columns())
    seen = []

    def stop_there(self, run):
        if run.epoch == 2:
            seen.append(main(["predict", "run", "t.csv", "--out", "early.csv"]))
            raise KeyboardInterrupt

    keep = _saved_run.KeepBest.on_epoch_end
    monkeypatch.setattr(
        _saved_run.KeepBest, "on_epoch_end", lambda s, r: (keep(s, r), stop_there(s, r))
    )
    assert main(["train", "t.csv", "--drop", "id", *FAST, "--out", "run"]) == 130
    error = capsys.readouterr().err
    assert seen == [0]
    assert "note: run is not trained to its end" in error
    assert "go on with: onepass train --resume --out run" in error
    assert len(Path("early.csv").read_text().splitlines()) == 121


def test_a_damaged_model_is_one_line(trained, capsys):
    trained()
    whole = Path("run/model.npz").read_bytes()
    place = whole.index(b"weights/0.weight.npy") + 400
    damages = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "one bit": whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
        "text": b"hello",
    }
    for name, raw in damages.items():
        Path("run/model.npz").write_bytes(raw)
        error = said(capsys, "predict", "run", "t.csv", status=2)
        assert "run/model.npz is damaged" in error, name
        assert error.rstrip().endswith("; write it anew with: onepass train --resume --out run")
    Path("run/model.npz").unlink()
    error = said(capsys, "predict", "run", "t.csv", status=2)
    assert "run: no model.npz; write it anew with: onepass train --resume --out run" in error
    Path("run/model.npz").write_bytes(whole)
    about, arrays = _model_file.read(Path("run/model.npz"))
    for gone in ("weights/0.weight", "held_out", "inputs/shift"):
        rest = {name: array for name, array in arrays.items() if name != gone}
        _model_file.write(Path("run"), about, rest)
        assert "is damaged" in said(capsys, "predict", "run", "t.csv", status=2)
    _model_file.write(Path("run"), {**about, "format": 99, "version": "9.9"}, arrays)
    error = said(capsys, "predict", "run", "t.csv", status=2)
    assert "format 99, expected at most 1: it was written by onepass 9.9" in error


def test_predictions_say_that_the_record_of_the_run_is_damaged(trained, capsys):
    trained()
    for content in ("[]", "{}", "null", "x", ""):
        Path("run/run.json").write_text(content)
        assert main(["predict", "run", "t.csv", "--out", "p.csv"]) == 0
        assert "note: run/run.json is damaged" in capsys.readouterr().err, content
    Path("run/run.json").unlink()  # a model that was copied alone
    assert main(["predict", "run", "t.csv", "--out", "p.csv"]) == 0
    assert capsys.readouterr().err == ""


def test_equal_models_are_equal_bytes(tmp_path):
    arrays = {"x": np.arange(3.0)}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        _model_file.write(tmp_path / name, {"k": 1}, arrays)
    first, second = ((tmp_path / n / "model.npz").read_bytes() for n in ("a", "b"))
    assert first == second
    with zipfile.ZipFile(tmp_path / "a" / "model.npz") as archive:
        assert archive.namelist() == ["about.json", "x.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "a" / "model.npz")["x"], arrays["x"])


def test_a_folder_that_holds_no_run(here, capsys):
    assert "runs/a: no such folder" in said(capsys, "predict", "runs/a", "t.csv", status=2)
    os.makedirs("runs/prices")
    error = said(capsys, "predict", "runs/price", "t.csv", status=2)
    assert "did you mean 'prices'" in error
    assert "holds no run" in said(capsys, "predict", "runs/prices", "t.csv", status=2)
    Path("runs/prices/run.json").write_text("{}")
    assert "no epoch of the training" in said(capsys, "predict", "runs/prices", "t.csv", status=2)


def test_loading_a_run_draws_no_random_number(trained):
    trained()
    nn.manual_seed(5)
    expected = nn.Linear(3, 3).weight.data.copy()
    nn.manual_seed(5)
    package.load_run("run").predict("t.csv")
    np.testing.assert_array_equal(nn.Linear(3, 3).weight.data, expected)


# ------------------------------------------------------------------------------- outputs


def test_a_reader_that_goes_away_ends_a_prediction_in_silence(trained):
    trained()
    write("many.csv", columns(n=20_000))
    line = f"{sys.executable} -m onepass predict run many.csv | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.stdout.splitlines(), done.stderr) == (["y", "141"], "")


@pytest.mark.parametrize("encoding", ["ascii", "shift_jis"])
def test_a_plain_console_shows_the_recalls_of_classes_with_other_letters(trained, encoding):
    trained("rare")
    found = columns("rare")
    write("t.csv", {**found, "y": ["gr\u00fcn" if y == "bad" else y for y in found["y"]]})
    assert main(["train", "t.csv", "--drop", "id", "--out", "green", *FAST]) == 0
    line = [sys.executable, "-m", "onepass", "evaluate", "green", "t.csv", "--held-out"]
    env = {**ENVIRONMENT, "PYTHONIOENCODING": encoding}
    done = subprocess.run(line, env=env, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"gr?n" in done.stdout


def test_a_prediction_that_cannot_be_written_is_one_line(trained, capsys):
    trained()
    if os.path.exists("/dev/full"):
        error = said(capsys, "predict", "run", "t.csv", "--out", "/dev/full", status=1)
        assert "cannot write /dev/full: No space left" in error
    error = said(capsys, "predict", "run", "t.csv", "--out", "/proc/p.csv", status=1)
    assert "cannot write /proc/p.csv" in error
    error = said(capsys, "predict", "run", "t.csv", "--out", "run", status=2)
    assert "'--out' is 'run', a folder, expected the name of a CSV" in error


def test_a_full_disk_leaves_the_predictions_of_before(trained):
    """A limit on the size of files stands for the disk."""
    resource = pytest.importorskip("resource")
    trained()
    Path("p.csv").write_text("before\n")
    line = [sys.executable, "-m", "onepass", "predict", "run", "t.csv", "--out", "p.csv"]

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "onepass: cannot write p.csv: File too large; the table of predictions of before is whole"
    ]
    assert Path("p.csv").read_text() == "before\n"
    assert not [*Path().glob(".p.csv*")]


@pytest.mark.parametrize("command", ["predict run t.csv", "evaluate run t.csv", "info"])
def test_a_closed_output_is_one_line(trained, command):
    trained()
    line = f"{sys.executable} -m onepass {command} >&-"
    done = subprocess.run(["bash", "-c", line], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("onepass: there is no standard output")
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------------- how a file is read


NEW_FILES = {
    "another encoding": ("größe,preis\n1,x\n2,z\n".encode("latin-1"), ["--encoding", "latin-1"]),
    "UTF-16 without a mark": ("größe\n1\n2\n".encode("utf-16-le"), ["--encoding", "utf-16-le"]),
    "another separator": ("größe:b\n1:7\n2:8\n".encode(), ["--sep", ":"]),
    "another decimal sign": ("größe;b\n1,5;7\n2,5;8\n".encode(), ["--decimal", ","]),
    "names that look like data": ("größe,2019\n1,7\n2,8\n".encode(), ["--header"]),
}


@pytest.mark.parametrize("case", NEW_FILES)
def test_a_new_file_is_read_as_its_options_say(here, capsys, case):
    """By predict and by evaluate, whatever the file of the training was like."""
    rows = "".join(f"{i},{i / 2 + 0.25}\n" for i in range(20))
    Path("t.csv").write_text(f"größe,y\n{rows}", encoding="utf-8")
    said(capsys, "train", "t.csv", *FAST, "--out", "run")
    contents, options = NEW_FILES[case]
    Path("new.csv").write_bytes(contents)
    assert len(rows_of(said(capsys, "predict", "run", "new.csv", *options))) == 2
    error = said(capsys, "evaluate", "run", "new.csv", *options, status=2)
    assert "no column 'y', expected the target" in error


# ------------------------------------------------------------------------------- nothing is lost


@pytest.mark.parametrize("out", ["t.csv", "./t.csv", "link.csv"])
def test_predictions_do_not_replace_their_rows(trained, capsys, out):
    trained("numbers")
    before = Path("t.csv").read_bytes()
    Path("link.csv").symlink_to("t.csv")
    error = said(capsys, "predict", "run", "t.csv", "--out", out, status=2)
    assert f"'--out' is {str(Path(out))!r}, DATA itself, expected another file" in error
    assert Path("t.csv").read_bytes() == before


@pytest.mark.parametrize("out", ["p.xlsx", "p.parquet", "p.csv.gz", ""])
def test_predictions_are_csv_by_their_name_too(trained, capsys, out):
    trained("numbers")
    error = said(capsys, "predict", "run", "t.csv", "--out", out, status=2)
    assert error.startswith("onepass: predict: '--out' is ")
    assert not out or not Path(out).exists()


def test_a_bar_is_standard_output(trained, capsys):
    trained("numbers")
    assert len(rows_of(said(capsys, "predict", "run", "t.csv", "--out", "-"))) == 120
    assert not Path("-").exists()


def test_columns_to_keep_are_kept_beside_the_prediction(trained, capsys):
    trained("numbers")
    found = columns("numbers", 3)
    write("new.csv", {**found, "price (predicted)": [7, 8, 9]})
    shown = said(capsys, "predict", "run", "new.csv", "--keep", "price,price (predicted)")
    names = ["price", "price (predicted)", "price (predicted) (predicted)"]
    assert [*rows_of(shown)[0]] == names
    assert [row["price (predicted)"] for row in rows_of(shown)] == ["7", "8", "9"]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_predictions_in_a_pipe_keep_every_character(trained, encoding):
    trained("numbers")
    write("new.csv", {**columns("numbers", 2), "Größe": ["красный", "é"]})
    done = subprocess.run(
        [sys.executable, "-m", "onepass", "predict", "run", "new.csv", "--keep", "Größe"],
        capture_output=True, check=True, env={**ENVIRONMENT, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert [row["Größe"] for row in rows_of(done.stdout.decode())] == ["красный", "é"]
    assert (b"are in UTF-8, as " in done.stderr) == (encoding != "utf-8")


def test_predictions_never_replace_the_file_on_standard_input(trained, here):
    trained("numbers")
    write("new.csv", columns("numbers", 3))
    before = Path("new.csv").read_bytes()
    with open("new.csv", "rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "onepass", "predict", "run", "-", "--out", "new.csv"],
            stdin=file, capture_output=True, text=True, env=ENVIRONMENT,
        )  # fmt: skip
    assert done.returncode == 2
    assert "'--out' is 'new.csv', DATA itself" in done.stderr
    assert Path("new.csv").read_bytes() == before


@pytest.mark.parametrize("cell", ["1e39", "-1e39", "1e300"])
@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_a_number_beyond_the_network_is_refused_with_its_place(trained, capsys, kind, cell):
    trained(kind)
    Path("new.csv").write_text(f"a,b,y,price\n1,2,3,3\n{cell},3,12,4\n")
    for command in ("predict", "evaluate"):
        error = said(capsys, command, "run", "new.csv", status=2)
        assert f"column 'a', row 2: {float(cell):.6g} is too far from the training data" in error
    found = columns(kind)
    row = int(package.load_run("run").held_out[0])
    write("t.csv", {**found, "a": [cell if i == row else a for i, a in enumerate(found["a"])]})
    error = said(capsys, "train", "t.csv", "--drop", "id", "--out", "other", *FAST, status=2)
    assert f"column 'a', row {row + 1}: " in error


def test_a_row_from_which_nothing_finite_follows_is_refused(trained, capsys):
    """Within the range of the inputs, but not of the products."""
    trained()
    Path("new.csv").write_text("a,b,y\n1,2,3\n2e38,3,12\n-2e38,3,12\n")
    run = package.load_run("run")
    for parameter in run.model.parameters():
        parameter.data[...] *= 1e6
    with pytest.raises(ValueError, match="row 2: the network's output is not finite; its numb"):
        run.predict("new.csv")


@pytest.mark.parametrize("header", ["a,b,", "a,b,x,x", "a,b,x,", ",a,b"])
def test_columns_that_a_model_does_not_need_may_be_called_anything(trained, capsys, header):
    trained("numbers")
    Path("new.csv").write_text(header + "\n" + ",".join(["7"] * len(header.split(","))) + "\n")
    assert len(rows_of(said(capsys, "predict", "run", "new.csv"))) == 1
    Path("new.csv").write_text("a,b,b\n1,2,3\n")
    assert "two columns are called 'b'" in said(capsys, "predict", "run", "new.csv", status=2)


def test_cures_of_predict_are_options_that_it_has(trained, capsys):
    trained("numbers")
    for cell in ("x", "", "1_0"):
        Path("new.csv").write_text(f"a,b,price\n1,2,3\n3,{cell},4\n")
        for command in ("predict", "evaluate"):
            error = said(capsys, command, "run", "new.csv", status=2)
            assert "column 'b', row 2" in error
            assert "--" not in error


def test_evaluate_without_a_target_in_any_row(trained, capsys):
    trained("words")
    write("new.csv", {**columns("words", 3), "price": ["", "", ""]})
    assert "column 'price' is empty" in said(capsys, "evaluate", "run", "new.csv", status=2)


def test_a_run_in_a_notebook_shows_what_it_predicts_from_what(trained):
    trained("words")
    text = package.load_run("run")._repr_html_()
    for words in ("price (regression)", "a, b, town (3 words)", "t.csv", "batch norm"):
        assert words in text
    trained("rare", "--overwrite")
    assert "y (classes bad, good)" in package.load_run("run")._repr_html_()


def test_words_for_gaps_are_told_once_and_hold_for_every_file(here, capsys):
    """The run keeps them: predict and evaluate need not be told again."""
    found = columns("numbers")
    marked = [("unknown", "-9999")[i % 2] if i % 7 == 0 else v for i, v in enumerate(found["b"])]
    blank = ["" if i % 7 == 0 else v for i, v in enumerate(found["b"])]
    write("marked.csv", {**found, "b": marked})
    write("blank.csv", {**found, "b": blank})
    options = ["--drop", "id", "--missing", "impute", *FAST]
    assert main(["train", "blank.csv", "--out", "one", *options]) == 0
    assert main(["train", "marked.csv", "--out", "two", "--na-values=-9999,Unknown", *options]) == 0
    capsys.readouterr()
    for name, (run, file) in {"want": ("one", "blank.csv"), "got": ("two", "marked.csv")}.items():
        assert main(["predict", run, file, "--out", f"{name}.csv"]) == 0
        assert main(["evaluate", run, file, "--held-out", "--json"]) == 0
    want, got = (Path(f"{name}.csv").read_text() for name in ("want", "got"))
    assert want == got
    error = said(capsys, "train", "marked.csv", "--out", "three", *options, status=2)
    assert "column 'b'" in error


@pytest.mark.parametrize("name", ["history.csv", "curves.png", "diagnosis.png", "checkpoints",
                                  "checkpoints/new.csv", "../run/history.csv"])  # fmt: skip
def test_a_file_of_a_run_is_no_place_for_predictions(trained, capsys, name):
    trained("classes")
    capsys.readouterr()
    before = {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()}
    assert main(["predict", "run", "t.csv", "--out", f"run/{name}"]) == 2
    assert "a file of a run itself, expected another name" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()} == before


def test_a_link_to_a_file_of_a_run_is_none_either(trained, capsys):
    trained("classes")
    Path("link.csv").symlink_to("run/history.csv")
    before = Path("run/history.csv").read_bytes()
    assert main(["predict", "run", "t.csv", "--out", "link.csv"]) == 2
    assert Path("run/history.csv").read_bytes() == before
    assert main(["predict", "run", "t.csv", "--out", "run/mine.csv"]) == 0
    assert main(["predict", "run", "t.csv", "--out", "history.csv"]) == 0


def test_columns_of_words_are_kept_with_the_run(here, capsys):
    found = columns("classes")
    found = {"ram": (["32GB", "1TB", "512GB"] * 40), "ratio": ["2:10", "1:12"] * 60, **found}
    write("t.csv", found)
    assert main(["train", "t.csv", *FAST]) == 2
    assert "(--words ram) if they are names" in capsys.readouterr().err
    assert main(["train", "t.csv", *FAST, "--words", "ram,ratio", "--drop", "id"]) == 0
    run = package.load_run("runs/t")
    assert run.encoding.feature_names[:3] == ("ram=1TB", "ram=32GB", "ram=512GB")
    assert main(["train", "--resume", "--out", "runs/t", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["train", "t.csv", "--resume", "--words", "ram", "--quiet"]) == 2
    assert "--words ram,ratio; --resume cannot go on with --words ram" in capsys.readouterr().err


def test_words_that_training_lacked_are_told_in_python_too(trained):
    trained("words")
    run = package.load_run("run")
    new = {"a": [1.0, 2.0], "b": [3.0, 4.0], "town": ["Oslo", "Paris"], "price": [1.0, 2.0]}
    for call in (run.predict, run.evaluate):
        with pytest.warns(RuntimeWarning, match=r"'town': 1 row holds words that training lacked"):
            call(new)
    with pytest.warns(RuntimeWarning, match="'Paris'"):
        run.evaluate({k: v for k, v in new.items() if k != "price"}, [1.0, 2.0])
    run.predict({**new, "town": ["Oslo", "Oslo"]})


def test_a_utf8_file_for_a_run_of_latin1_is_told_the_cure(here, capsys):
    found = {"größe": [str(i) for i in range(60)], "ort": ["Köln", "Berlin"] * 30,
             "y": ["5.5", "7.25"] * 30}  # fmt: skip
    write("u.csv", found)
    write("n.csv", {"ort": found["ort"], "groesse": found["größe"], "y": found["y"]})
    for name in ("u", "n"):
        Path(f"{name}1.csv").write_bytes(Path(f"{name}.csv").read_text("utf-8").encode("latin-1"))
    options = ["--categorical", "auto", "--encoding", "latin-1", *FAST]
    assert main(["train", "u1.csv", *options, "--out", "one"]) == 0
    assert main(["train", "n1.csv", *options, "--out", "two"]) == 0
    cure = "if the file is UTF-8, pass encoding='utf-8' (--encoding utf-8)"
    capsys.readouterr()
    assert main(["predict", "one", "u.csv"]) == 2
    assert cure in capsys.readouterr().err
    assert main(["predict", "two", "n.csv"]) == 0
    assert cure in capsys.readouterr().err
    for run, file in (("one", "u.csv"), ("two", "n.csv")):
        assert main(["predict", run, file, "--encoding", "utf-8"]) == 0
        assert "UTF-8" not in capsys.readouterr().err
    assert main(["predict", "two", "n1.csv"]) == 0
    assert capsys.readouterr().err == ""


def test_one_epoch_is_no_epochs(here, capsys):
    write("t.csv", columns("classes"))
    assert main(["train", "t.csv", *FAST, "--epochs", "1", "--drop", "id"]) == 0
    assert "(1 epoch, best epoch 1)" in capsys.readouterr().out


def test_messages_have_the_name_of_the_file_and_the_right_number(trained, capsys):
    trained()
    write("new.csv", {"a": [1], "b": [2]})
    assert main(["evaluate", "run", "new.csv"]) == 2
    assert "new.csv: no column 'y'" in capsys.readouterr().err
    assert main(["predict", "run", "new.csv", "--out", "p.csv"]) == 0
    assert capsys.readouterr().out == "1 prediction of 'y' is in p.csv\n"
    assert main(["train", "new.csv", "--target", "b"]) == 2
    assert "new.csv has 1 sample, expected at least" in capsys.readouterr().err
