"""Options of ``onepass train``: what they do, what is printed, and which run they go on with."""

import csv
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import ENVIRONMENT
from onepass import nn
from onepass.cli import main
from onepass.runs import _cross_validation, _options, _parts, _scores
from onepass.runs._losses import PlainCrossEntropy, ScaledMSE
from onepass.runs._options import Options
from onepass.runs._recipe import Recipe
from onepass.runs._saved_run import SavedRun
from onepass.runs._source import Source
from onepass.train import History

FAST = ["--hidden", "4", "--epochs", "2"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 120))
    write("t.csv", a, b, np.where(a + b > 0, "yes", "no"))
    write("n.csv", a, b, np.round(100 * a + 1000, 2))
    write("rare.csv", a, b, (a + b > 2.2).astype(int))
    return tmp_path


def write(name, *columns):
    rows = zip(*(c.tolist() for c in columns), strict=True)
    Path(name).write_text("a,b,y\n" + "".join(f"{a},{b},{y}\n" for a, b, y in rows))


@pytest.fixture
def run(here, capsys):
    def call(*arguments, status=0):
        assert main(["train", *arguments]) == status, capsys.readouterr()
        shown = capsys.readouterr()
        if status:
            assert len(shown.err.splitlines()) == 1, shown.err
            return shown.err
        assert shown.err == ""
        return shown.out

    return call


def record(folder):
    return json.loads((Path(folder) / "run.json").read_text())


# ------------------------------------------------------------------------------- what is printed


def test_a_run_ends_with_three_lines(run):
    """They say what was learnt, where the model is and how to predict; --quiet prints no more."""
    for more in ([], ["--quiet"]):
        first, second, third = run("t.csv", *FAST, *more).splitlines()[-3:]
        assert re.match(r"held-out part: accuracy \d\.\d{4}  loss .*\(2 epochs, best epoch", first)
        assert re.match(r"the run is in runs/t(-2)?: model.npz, .*history.csv", second)
        assert re.match(r"predict with: onepass predict runs/t(-2)? NEW.csv --out", third)
    assert len(run("t.csv", *FAST, "--quiet").splitlines()) == 3


def test_the_command_for_predictions_can_be_pasted(run):
    last = run("t.csv", *FAST, "--quiet", "--out", "my runs/it's").splitlines()[-1]
    command = last.partition(": ")[2].replace("NEW.csv", "t.csv").replace("onepass ", "", 1)
    line = f"{sys.executable} -m onepass {command}"
    done = subprocess.run(["bash", "-c", line], env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(Path("predictions.csv").read_text().splitlines()) == 121


def test_the_table_of_times_is_an_option(run):
    assert "part of a step" not in run("t.csv", *FAST)
    shown = run("t.csv", *FAST, "--profile", "--batch-size", "8")
    assert "matrix products" in shown
    assert "whole step" in shown
    assert "whole step" in run("t.csv", *FAST, "--profile", "--quiet", "--batch-size", "8")


def test_a_finished_run_resumes_with_a_diagnosis_of_nothing(run):
    run("t.csv", *FAST, "--out", "r")
    shown = run("t.csv", "--resume", "--diagnose", "--out", "r")
    assert "the run is in r: model.npz, curves.png, confusion.png, history.csv" in shown


def test_the_table_and_the_result_have_one_unit(run):
    """A mean absolute error in the target's unit; the loss is its square's."""
    run("n.csv", *FAST, "--out", "r")
    header, *rows = (line.split(",") for line in Path("r/history.csv").read_text().splitlines())
    last = dict(zip(header, map(float, rows[-1]), strict=True))
    result = record("r")["result"]
    assert 0.2 < last["val_mae"] / result["mae"] < 5
    assert 0.2 < math.sqrt(last["val_loss"]) / result["rmse"] < 5
    assert result["mae"] > 5


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_losses_are_those_without_smoothing(run, smoothing):
    """Of training, with weights that do not move: as computed here from the probabilities."""
    options = {"data": "t.csv", "hidden": (4,), "epochs": 1, "lr": 1e-30, "dropout": 0.0,
               "norm": "none", "label_smoothing": smoothing}  # fmt: skip
    recipe = Recipe(options, Path("r"), progress=False)
    recipe.train()
    for part, name in ((recipe.parts.train, "loss"), (recipe.parts.validation, "val_loss")):
        logits = recipe.trainer.predict(recipe.parts.inputs(part)).astype(np.float64)
        own = logits[np.arange(len(part)), recipe.parts.y[part]]
        expected = np.mean(np.log(np.exp(logits).sum(axis=1)) - own)
        np.testing.assert_allclose(recipe.trainer.history[name], [expected], rtol=1e-6)


@pytest.mark.parametrize("weight", [None, [1.0, 30.0, 0.5]])
def test_the_gradient_is_that_of_the_smoothed_loss(weight):
    """Of each sample, times the weight of its class over the sum of weights."""
    rng = np.random.default_rng(0)
    y, target = rng.standard_normal((6, 3)), np.array([0, 1, 2, 0, 0, 2])
    loss, dy = PlainCrossEntropy(weight, label_smoothing=0.3)(y, target)
    shares = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
    w = np.ones(6) if weight is None else np.array(weight)[target]
    smoothed = 0.7 * np.eye(3)[target] + 0.1
    expected = (shares - smoothed) * (w / w.sum())[:, None]
    np.testing.assert_allclose(dy, expected, rtol=1e-12)
    plain = -np.log(shares[np.arange(6), target])
    np.testing.assert_allclose(float(loss), (w * plain).sum() / w.sum(), rtol=1e-12)


def test_a_loss_in_another_unit():
    y, target = np.array([[1.0], [3.0]]), np.array([[2.0], [1.0]])
    loss, dy = ScaledMSE(100.0)(y, target)
    assert loss == 250.0
    np.testing.assert_array_equal(dy, nn.MSELoss()(y, target)[1])


def test_a_spread_whose_square_leaves_the_range_is_refused(run):
    write("huge.csv", *np.random.default_rng(0).standard_normal((2, 40)), np.arange(40) * 1e160)
    assert "leave the range of float64; divide them by a unit" in run("huge.csv", status=2)


def test_a_target_that_never_changes(run):
    write("same.csv", *np.random.default_rng(0).standard_normal((2, 40)), np.full(40, 2.5))
    shown = run("same.csv", *FAST, "--task", "regression", "--out", "r")
    assert "note: the same in every row: the target 'y', of which nothing can be learnt" in shown
    assert "r2 0.0000" in shown
    assert record("r")["result"]["r2"] == 0


# ------------------------------------------------------------------------------- classes


@pytest.mark.parametrize(("scores", "beside"), [
    ({"accuracy": 0.68, "majority": 0.68}, "  (no better than always the majority: 0.6800)"),
    ({"accuracy": 0.69, "majority": 0.68}, ""),
    ({"r2": 0.0}, "  (no better than always the mean)"),
    ({"r2": 0.01}, ""),
    ({"r2": float("nan")}, ""),
])  # fmt: skip
def test_what_needs_no_model_stands_beside_scores_that_are_no_better(scores, beside):
    line = _scores.line({"loss": 0.1, "rmse": 1.0, "mae": 1.0, **scores})
    assert line[len(line.partition("  (")[0]) :] == beside


def test_rare_classes_are_told_apart(run):
    shown = run("rare.csv", *FAST, "--quiet", "--out", "r")
    assert "balanced accuracy" in shown
    assert re.search(r"always the majority: 0\.9\d+\)", shown)
    full = run("rare.csv", *FAST)
    assert re.search(r"^class +precision +recall +f1 +support$", full, re.MULTILINE)
    assert re.search(r"^1( +\d\.\d{4}){3} +\d+$", full, re.MULTILINE)
    assert "val_balanced_accuracy" in full
    assert "balanced" not in run("t.csv", *FAST)


def test_balanced_classes_find_the_rare_one(here):
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 600))
    write("f.csv", a, b, (a + b + 0.5 * rng.standard_normal(600) > 3.0).astype(int))
    recall = {}
    for weight in (None, "balanced"):
        options = {"data": "f.csv", "hidden": (16,), "epochs": 8, "class_weight": weight}
        scores = Recipe(options, Path(str(weight)), progress=False).train().scores
        recall[weight] = scores["recall"]
    assert recall["balanced"]["1"] > recall[None].get("1", 0)
    assert recall["balanced"]["1"] >= 0.5
    assert recall["balanced"]["0"] > 0.8


@pytest.mark.parametrize(("value", "text"), [
    (0.5, "0.5000"), (1234.5, "1234.5000"), (1e39, "1e+39"), (1e-5, "1e-05"), (0, "0.0000"),
    (math.nan, "nan"),
])  # fmt: skip
def test_numbers_far_from_one_are_short(value, text):
    assert _scores.number(value) == text


# ------------------------------------------------------------------------------- options


def test_early_stopping(run):
    run("t.csv", "--hidden", "4", "--lr", "0.5", "--epochs", "30", "--early-stopping", "1",
        "--out", "a")  # fmt: skip
    run("t.csv", "--hidden", "4", "--lr", "0.5", "--epochs", "30", "--early-stopping", "0",
        "--out", "b")  # fmt: skip
    first, second = record("a"), record("b")
    assert first["epochs"] == first["best_epoch"] + 1 < 30
    assert second["epochs"] == 30
    assert 1 <= second["best_epoch"] < 30


def test_cross_validation_scores_each_fold_on_what_it_has_not_seen(run, monkeypatch):
    shown = run("t.csv", *FAST, "--cv", "3", "--out", "r")
    assert [f"fold {i}/3: accuracy" in shown for i in (1, 2, 3)] == [True] * 3
    folds = record("r")["folds"]
    values = [fold["accuracy"] for fold in folds]
    mean, spread = np.mean(values), np.std(values, ddof=1)
    assert f"3 folds: accuracy {mean:.4f} ± {spread:.4f}" in shown.splitlines()[-3]
    source = Source.read(Options(data="t.csv"))
    pairs = _cross_validation.folds(source, 3, seed=0)
    rows = [test for _, test in pairs]
    assert sorted(np.concatenate(rows)) == list(range(120))
    for rest, test in pairs:
        assert np.array_equal(rest, np.setdiff1d(np.arange(120), test))
        assert abs(np.mean(source.y[test]) - np.mean(source.y)) < 0.02
        parts = _parts.split_rest(source, rest, test, 0)
        assert not set(parts.train) & set(test)
        assert not set(parts.validation) & set(test)
    scored, judged = [], SavedRun.judged
    monkeypatch.setattr(SavedRun, "judged", lambda own, X, y: scored.append(X) or judged(own, X, y))
    again = _cross_validation.FoldRuns(
        source, Options(data="t.csv", cv=3, hidden=(4,), epochs=2), {"classes": ["no", "yes"]},
        Path("other"), {"options": {}},
    )  # fmt: skip
    assert list(again.scores(folds[:2])) == folds
    assert len(scored) == 1
    np.testing.assert_array_equal(scored[0], parts.X[rows[2]])


def test_folds_of_one_row_have_no_r2(run):
    Path("n.csv").write_text("".join(Path("n.csv").read_text().splitlines(True)[:9]))
    shown = run("n.csv", *FAST, "--cv", "8", "--out", "r")
    assert re.search("fold 1/8: rmse [^ ]+  mae [^ ]+  r2 nan\n", shown)
    error = run("n.csv", *FAST, "--cv", "3", "--out", "s", status=2)
    assert "'--cv' is 3, expected more folds: of 8 samples, at least 6 must be outside" in error


def test_too_many_folds_are_refused(run):
    error = run("t.csv", "--cv", "121", "--out", "r", status=2)
    assert "'--cv' is 121, expected at most 120, the number of samples" in error
    assert not os.path.exists("r")


def test_a_table_with_options_of_a_table(run):
    text = Path("n.csv").read_text().splitlines()[1:]
    rows = "".join(line.replace(",", ";").replace(".", ",") + ";x\n" for line in text)
    Path("d.csv").write_text(rows, encoding="utf-16")
    options = ["--sep", ";", "--decimal", ",", "--no-header", "--drop", "4", "--target", "3"]
    run("d.csv", *options, "--features", "1,2", "--encoding", "utf-16", *FAST, "--out", "r")
    run("n.csv", *FAST, "--out", "s")
    assert record("r")["result"] == record("s")["result"]
    error = run("iris", "--sep", ";", status=2)
    assert "'--sep' is given, expected it with a table only, and iris is none" in error


def test_standard_input(here):
    line = f"{sys.executable} -m onepass train - {' '.join(FAST)} --quiet < t.csv"
    done = subprocess.run(["bash", "-c", line], env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (here / "runs" / "stdin" / "model.npz").is_file()


@pytest.mark.parametrize(("line", "words"), [
    ("t.csv --sep ab", "'--sep' is 'ab', expected one character"),
    ("t.csv --drop ,", "'--drop' is ',', expected names of columns"),
    ("t.csv --cv 1", "'--cv' is 1, expected a whole number >= 2"),
    ("t.csv --label-smoothing 1", "'--label-smoothing' is 1.0, expected a number >= 0 and < 1"),
    ("t.csv --early-stopping -1", "'--early-stopping' is -1, expected a whole number >= 0"),
    ("t.csv --patience 3", "unknown argument '--patience'; did you mean '--early-stopping'"),
    ("t.csv --delimiter ;", "did you mean '--sep'"),
    ("--resume", "'--resume' is given, expected DATA or --out with it"),
    ("t.csv --resume --overwrite", "'--overwrite' is given, expected none with --resume"),
])  # fmt: skip
def test_wrong_options(run, capsys, line, words):
    assert words in run(*line.split(), status=2)
    assert not os.path.exists("runs")


# ------------------------------------------------------------------------------- resumes


def test_a_resume_takes_what_it_is_not_told_from_the_run(run):
    options = [
        "--hidden",
        "5",
        "--lr",
        "0.05",
        "--seed",
        "3",
        "--dropout",
        "0",
        "--optimizer",
        "SGD",
    ]
    run("t.csv", *options, "--epochs", "2", "--out", "r")
    whole = Path("r/model.npz").read_bytes()
    for given in (["t.csv", "--out", "r"], ["--out", "r"], ["--out", "r", "--lr", "0.05"]):
        run(*given, "--resume")
        assert record("r")["options"]["hidden"] == [5]
        assert Path("r/model.npz").read_bytes() == whole
    run("--out", "r", "--resume", "--epochs", "4")
    assert record("r")["epochs"] == record("r")["options"]["epochs"] == 4


@pytest.mark.parametrize(("option", "before"), [
    (["--lr", "0.1"], "--lr 0.05"), (["--hidden", "9"], "--hidden 4"),
    (["--seed", "1"], "--seed 0"),
    (["--class-weight", "balanced"], "no --class-weight"), (["--drop", "b"], "no --drop"),
])  # fmt: skip
def test_a_resume_refuses_what_contradicts_the_run(run, option, before):
    run("t.csv", *FAST, "--lr", "0.05", "--out", "r")
    error = run("--out", "r", "--resume", *option, status=2)
    assert f"r was started with {before}; --resume cannot go on with {' '.join(option)}" in error
    assert "result" in record("r")


def test_a_resume_of_nothing_says_so(run):
    shown = run("t.csv", *FAST, "--resume")
    assert "note: there is no run to resume; this one begins in runs/t" in shown
    assert "no run" not in run("t.csv", "--resume")


def test_the_newest_run_that_fits_is_resumed(run):
    """Also where the first one has been deleted."""
    for seed in ("0", "1", "0"):
        run("t.csv", *FAST, "--seed", seed)
    assert "runs/t-3: " in run("t.csv", "--resume", "--seed", "0")
    assert "runs/t-2: " in run("t.csv", "--resume", "--seed", "1")
    os.rename("runs/t", "runs/gone")
    assert "runs/t-3: " in run("t.csv", "--resume")
    error = run("t.csv", "--resume", "--seed", "7", status=2)
    assert "runs/t-3 was started with --seed 0; --resume cannot go on with --seed 7" in error


@pytest.mark.parametrize("text", ["", "{", "[]", '{"options": 3}', "\x00\xff"])
def test_a_damaged_record_is_one_line(run, text):
    run("t.csv", *FAST, "--out", "r")
    Path("r/run.json").write_text(text, encoding="latin-1")
    before = sorted(os.listdir("r/checkpoints"))
    error = run("t.csv", "--out", "r", "--resume", status=2)
    assert "r/run.json is damaged" in error
    assert "--overwrite" in error
    assert sorted(os.listdir("r/checkpoints")) == before


def test_overwrite_replaces_the_run_by_name_too(run):
    run("t.csv", *FAST)
    run("t.csv", *FAST, "--seed", "1", "--overwrite")
    assert os.listdir("runs") == ["t"]
    assert record("runs/t")["options"]["seed"] == 1


# ------------------------------------------------------------------------------- disks, consoles


def test_a_folder_that_cannot_be_written_is_one_line(run):
    assert "'--out' is '/proc/x'" in run("t.csv", "--out", "/proc/x", status=2)
    Path("file").write_text("mine")
    assert "not a file" in run("t.csv", "--out", "file", status=2)
    assert "'file' is a file" in run("t.csv", "--out", "file/run", status=2)
    assert Path("file").read_text() == "mine"


def test_a_full_disk_ends_a_training_with_one_line(here):
    """And leaves the run of before the limit on the size of files as it was."""
    resource = pytest.importorskip("resource")
    line = [sys.executable, "-m", "onepass", "train", "t.csv", "--out", "r", "--quiet", "--hidden"]
    assert subprocess.run([*line, "4", "--epochs", "1"], env=ENVIRONMENT).returncode == 0
    model = Path("r/model.npz").read_bytes()
    again = [*line, "4", "--epochs", "3", "--resume"]

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))

    done = subprocess.run(again, env=ENVIRONMENT, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1
    assert re.fullmatch(r"onepass: cannot write r/\S+: File too large; .* is whole\n", done.stderr)
    assert Path("r/model.npz").read_bytes() == model
    done = subprocess.run(again, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", ["40", "60", "80"])
def test_lines_fit_a_narrow_terminal(here, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["train", "t.csv", *FAST]) == 0
    lines = re.split(r"[\n\r]", terminal.getvalue())
    table = [line for line in lines if re.search(r"^ +(epoch|\d/2) ", line)]
    assert len(table) >= 3
    assert "val_loss" in table[0]
    words = [line for line in lines if len(line.split()) > 1]
    assert max(map(len, words)) <= int(columns)
    assert "\x1b" not in terminal.getvalue()


def test_an_interrupt_leaves_curves_and_says_how_to_go_on(here, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    append = History.append

    def stop(self, row):
        append(self, row)
        if self.epochs == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(History, "append", stop)
    assert main(["train", "t.csv", "--hidden", "4", "--out", "r"]) == 130
    error = capsys.readouterr().err
    assert error.splitlines() == [
        "onepass: interrupted; go on with: onepass train --resume --out r"
    ]
    assert Path("r/curves.png").is_file()


def test_an_interrupt_while_the_curves_are_drawn_is_one_line(here, capsys, monkeypatch):
    """It may cut the import of matplotlib, of which a second import then finds parts only."""
    errors = iter([KeyboardInterrupt(), KeyError("Text:kwdoc")])
    monkeypatch.setattr(
        "onepass.runs._recipe.Recipe.plot", lambda run: (_ for _ in ()).throw(next(errors))
    )
    assert main(["train", "t.csv", *FAST, "--out", "r", "--quiet"]) == 130
    error = capsys.readouterr().err
    assert error == "onepass: interrupted; go on with: onepass train --resume --out r\n"


def test_a_warning_is_one_line(here, capsys):
    """Not a line of this package's source."""
    assert main(["train", "t.csv", *FAST, "--batch-size", "4", "--quiet"]) == 0
    error = capsys.readouterr().err
    assert re.fullmatch(r"note: fit: 'batch_size' is 4, which leaves 3 in a batch .*\n", error)


def test_a_damaged_checkpoint_is_passed_over_with_a_note(run, capsys):
    run("t.csv", *FAST, "--out", "r")
    whole = Path("r/model.npz").read_bytes()
    newest = max(Path("r/checkpoints").iterdir())
    (newest / "model.npz").write_bytes(b"")
    assert main(["train", "--resume", "--out", "r", "--quiet"]) == 0
    error = capsys.readouterr().err
    assert re.fullmatch(r"note: damaged checkpoint left out: \S+model\.npz.*\n", error)
    assert Path("r/model.npz").read_bytes() == whole


def test_a_picture_that_cannot_be_drawn_takes_nothing_with_it(here, capsys, monkeypatch):
    """The model, the numbers and the last lines are there all the same."""
    pytest.importorskip("matplotlib")

    def draw(history, *arguments, **options):
        raise ValueError("no such backend:\nnone")

    monkeypatch.setattr(History, "plot", draw)
    assert main(["train", "t.csv", *FAST, "--out", "r", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "note: there is no curves.png: no such backend: none\n"
    assert "the run is in r: model.npz, confusion.png, history.csv" in shown.out
    assert record("r")["result"]


def test_a_folder_where_the_picture_goes_takes_nothing_with_it(run, capsys):
    pytest.importorskip("matplotlib")
    run("t.csv", *FAST, "--out", "r")
    Path("r/curves.png").unlink()
    Path("r/curves.png").mkdir()
    assert main(["train", "--resume", "--out", "r", "--epochs", "3", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert re.fullmatch(r"note: there is no curves\.png: .*irectory.*\n", shown.err)
    assert "(3 epochs" in shown.out


@pytest.mark.parametrize("done", [True, False])
def test_a_trained_model_without_checkpoints_is_not_trained_over(run, done):
    """--resume has nothing to go on from: it would begin again, and replace the model."""
    run("t.csv", *FAST, "--out", "r")
    if not done:  # as a kill leaves it
        whole = record("r")
        Path("r/run.json").write_text(json.dumps({k: whole[k] for k in whole if k != "finished"}))
    before = Path("r/model.npz").read_bytes()
    shutil.rmtree("r/checkpoints")
    for empty in (False, True):
        if empty:
            Path("r/checkpoints").mkdir()
        error = run("--resume", "--out", "r", "--epochs", "3", status=2)
        assert "r has a model and no checkpoint to go on from" in error
        assert "--overwrite" in error
    assert Path("r/model.npz").read_bytes() == before
    run("t.csv", *FAST, "--out", "r", "--overwrite")


@pytest.mark.parametrize("size", ["8", "100"])
def test_a_profile_of_few_steps_times_the_last(run, size):
    """Two of one batch: warming up takes more."""
    shown = run("t.csv", *FAST, "--batch-size", size, "--profile", "--epochs", "1")
    assert re.search(r"whole step +\d", shown)
    assert "no step was timed" not in shown


@pytest.mark.parametrize("name", [".csv", ".csv.gz", "t.csv.csv"])
def test_a_file_with_an_ending_alone_is_trained_on(here, name):
    """It used to be asked for its stem without an end."""
    contents = Path("t.csv").read_bytes()
    Path(name).write_bytes(contents)
    signal.setitimer(signal.ITIMER_REAL, 60)  # ends the test, not only the wait
    try:
        assert main(["train", name, *FAST, "--quiet"]) == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert len(os.listdir("runs")) == 1


def test_an_option_behind_two_dashes_is_told_to_go_before_them(here, capsys):
    assert main(["train", "--", "t.csv", "--epochs", "2"]) == 2
    assert "unknown argument '--epochs'; options go before --\n" in capsys.readouterr().err


# ------------------------------------------------------------------------------- curves


def test_curves_mark_the_best_epoch_and_one_epoch_can_be_seen(tmp_path):
    pytest.importorskip("matplotlib")
    figure = History({"loss": [1.0], "val_loss": [2.0]})._figure(1)
    axes = figure.axes[0]
    assert [line.get_marker() for line in axes.lines[:2]] == ["o", "o"]
    assert axes.lines[2].get_xdata() == [1, 1]
    assert [text.get_text() for text in axes.get_legend().get_texts()][-1] == "best epoch, 1"
    assert all(float(tick).is_integer() for tick in axes.get_xticks())
    many = History({"loss": [1.0] * 30})._figure(None).axes[0]
    assert [line.get_marker() for line in many.lines] == [""]
    History({"loss": [1.0]}).plot(tmp_path / "new" / "c.png", best=1)
    assert os.listdir(tmp_path / "new") == ["c.png"]


def test_a_history_is_a_picture_in_a_notebook(monkeypatch):
    pytest.importorskip("matplotlib")
    assert History({"loss": [1.0, 0.5]})._repr_png_().startswith(b"\x89PNG")
    assert History()._repr_png_() is None
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert History({"loss": [1.0]})._repr_png_() is None


def test_every_option_has_its_default_in_the_help(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    defaults = Options(data="t.csv")
    for name in ("epochs", "batch_size", "optimizer", "norm", "activation", "dropout", "seed",
                 "label_smoothing", "early_stopping", "device"):  # fmt: skip
        option = "--" + name.replace("_", "-")
        value = getattr(defaults, name)
        assert re.search(rf"{option} [^()]*\(default {value}\)", text), option
    assert "(default 256,256)" in text
    assert set(vars(defaults)) >= set(_options.FREE)


@pytest.mark.parametrize("option", [["--class-weight", "balanced"], ["--label-smoothing", "0.1"]])
def test_options_of_classes_are_refused_for_numbers(tmp_path, capsys, option):
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "".join(f"{i},{i / 3:.3f}\n" for i in range(40)))
    assert main(["train", str(path), *option, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert f"'{option[0]}' is given, expected it with classes; the target 'y' is numbers" in error
    assert not (tmp_path / "run").exists()


def test_names_with_commas_stand_in_quotes(tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_text('"a, b",id,c,y\n' + "".join(f"{i},{i},1{i},{i / 3:.3f}\n" for i in range(40)))
    options = ["--epochs", "1", "--hidden", "4", "--out", str(tmp_path / "run")]
    assert main(["train", str(path), "--drop", '"a, b",id', *options]) == 0
    assert "1 features" in capsys.readouterr().out


def rates_of(run):
    lines = (run / "history.csv").read_text().splitlines()
    return [row["lr"] for row in csv.DictReader(lines)]


def test_more_epochs_say_what_becomes_of_the_learning_rate(tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "".join(f"{i % 7},{i / 3:.3f}\n" for i in range(40)))
    options = ["train", str(path), "--hidden", "4", "--batch-size", "4"]
    options += ["--out", str(tmp_path / "run")]
    assert main([*options, "--epochs", "2"]) == 0
    capsys.readouterr()
    assert main([*options, "--epochs", "4", "--resume"]) == 0
    words = "--epochs was 2; from here on the learning rate is that of a run of 4 epochs"
    assert words in capsys.readouterr().out
    rates = rates_of(tmp_path / "run")
    assert main([*options[:-1], str(tmp_path / "whole"), "--epochs", "4"]) == 0
    whole = rates_of(tmp_path / "whole")
    assert rates[2:] == whole[2:] != ["0.0", "0.0"]
    assert rates[:2] != whole[:2]
    assert main([*options, "--epochs", "4", "--resume"]) == 0
    assert words not in capsys.readouterr().out


# ------------------------------------------------------------------- what fit would refuse later


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--reproducible", "4", "--diagnose"],
         "'--diagnose' is given, expected none with --reproducible 4: it measures whole batches"),
        (["--profile", "--reproducible", "1"],
         "'--profile' is given, expected none with --reproducible 1: it measures whole batches"),
        (["--batch-size", "2"], "'--batch-size' is 2, which leaves 1 in a batch of 81 samples, "
         "expected a --batch-size above 4: BatchNorm1d normalises by their statistics"),
        (["--batch-size", "2", "--cv", "4", "--norm", "none"], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused_before_the_run_begins(run, options, words):
    error = run("t.csv", *FAST, *options, "--out", "r", status=2 * (words is not None))
    assert Path("r").exists() == (words is None)
    if words:
        assert error.startswith(f"onepass: train: {words}"), error


def test_a_fold_that_fit_would_refuse_is_refused_before_the_run_begins(here, monkeypatch, capsys):
    """The run itself has batches of two, and a fold one of one."""
    a = np.random.default_rng(0).standard_normal(12)
    write("few.csv", a, a, np.where(np.arange(12) % 2, "yes", "no"))
    arguments = ["train", "few.csv", *FAST, "--batch-size", "2", "--quiet", "--out", "r"]
    assert main(arguments) == 0
    shutil.rmtree("r")
    assert main([*arguments, "--cv", "3"]) == 2
    assert "'--batch-size' is 2, which leaves 1 in a batch of 7 samples" in capsys.readouterr().err
    assert not Path("r").exists()


def test_a_search_refuses_a_batch_size_before_its_first_trial(here, capsys):
    assert main(["search", "t.csv", "--trials", "1", "--quiet", "--batch-size", "2"]) == 2
    assert "search: '--batch-size' is 2, which leaves 1" in capsys.readouterr().err
    assert not Path("runs").exists()
