"""``onepass search``."""

import argparse
import csv
import dataclasses
import io
import json
import re
import shlex

import numpy as np
import onepass
import pytest
from onepass.cli import main
from onepass.runs._options import Options, command
from onepass.train import _history, _search_plot
from onepass.train import _search_progress as module

FAST = ["--epochs", "3", "--hidden", "8", "--trials", "4"]


@pytest.fixture
def table(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    rows = "".join(f"{a:.3f},{b:.3f},{'yn'[int(a > b)]}\n" for a, b in rng.random((60, 2)))
    (tmp_path / "t.csv").write_text(f"a,b,y\n{rows}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def without_pictures(monkeypatch):
    """Which take longer than all else."""

    def refuse(width):
        raise ImportError("no pictures here")

    monkeypatch.setattr(_search_plot, "new_figure", refuse)
    monkeypatch.setattr(_history, "new_figure", refuse)


def ran(capsys, *arguments):
    """Exit status, standard output, standard error."""
    try:
        status = main([str(a) for a in arguments])
    except SystemExit as error:
        status = error.code
    return (status, *capsys.readouterr())


def table_of(file):
    return [*csv.DictReader(file.read_text().splitlines())]


def rows(folder):
    found = table_of(folder / "trials.csv")
    for row in found:
        del row["seconds"]
    return found


def test_it_finds_trains_and_tells_how_to_go_on(table, capsys) -> None:
    status, out, err = ran(capsys, "search", "t.csv", *FAST)
    assert (status, err) == (0, "")
    folder = table / "runs" / "t-search"
    found = rows(folder)
    assert [*found[0]] == ["trial", "lr", "dropout", "weight_decay", "batch_size", "optimizer",
                           "val_loss", "state", "epochs", "reason"]  # fmt: skip
    assert len(found) == 4
    best = min(found, key=lambda row: float(row["val_loss"]))
    assert "4 trials: 4 complete; best val_loss" in out
    assert out.count("best so far") >= 1
    assert "11 validation" not in out
    # The best run is the trial, bit for bit, and predicts.
    history = table_of(folder / "best" / "history.csv")
    assert min(float(row["val_loss"]) for row in history) == float(best["val_loss"])
    assert len(onepass.load_run(folder / "best").predict("t.csv")) == 60
    # The command line makes the same run.
    line = next(x for x in out.splitlines() if x.startswith("train it again with: "))
    words = shlex.split(line.removeprefix("train it again with: "))
    assert words[:3] == ["onepass", "train", "t.csv"]
    status, again, _ = ran(capsys, *words[1:], "--out", "again", "--quiet")
    assert status == 0
    assert (table / "again" / "history.csv").read_text() == (
        folder / "best" / "history.csv"
    ).read_text()
    assert again.splitlines()[0].split("  (")[0] in out
    pytest.importorskip("matplotlib")
    assert (folder / "search.png").stat().st_size > 1000
    assert "runs/t-search: search.png, trials.csv; its best run in runs/t-search/best" in out


def test_a_search_that_was_cut_off_goes_on(table, capsys, monkeypatch, without_pictures) -> None:
    expected = ran(capsys, "search", "t.csv", *FAST, "--out", "whole", "--pruner", "median")
    assert expected[0] == 0
    with monkeypatch.context() as patch:
        begin = module.Shows.begin

        def interrupted(self, number):
            begin(self, number)
            if number == 2:
                raise KeyboardInterrupt

        patch.setattr(module.Shows, "begin", interrupted)
        status, _, err = ran(
            capsys, "search", "t.csv", *FAST, "--out", "my search", "--pruner", "median"
        )
    assert status == 130
    assert err == (
        "onepass: interrupted, 2 of 4 trials have ended; go on with: onepass search --resume "
        "--out 'my search'\n"
    )
    status, out, err = ran(capsys, "search", "--resume", "--out", "my search")
    assert (status, err) == (0, "")
    assert rows(table / "my search") == rows(table / "whole")
    assert out.splitlines()[-4:-3] == expected[1].splitlines()[-4:-3]


def test_a_longer_search_has_another_best_run(table, capsys, monkeypatch, without_pictures) -> None:
    """Also from another directory; the run that was the best gives its place."""
    assert ran(capsys, "search", "t.csv", *FAST[:-1], 1, "--seed", 4, "--out", "it")[0] == 0
    before = rows(table / "it")
    monkeypatch.chdir(table / "it")
    for _ in range(2):
        status, _, err = ran(capsys, "search", "--resume", "--out", "../it", "--trials", 4)
        assert (status, err) == (0, "")
        found = rows(table / "it")
        assert (len(found), found[:1]) == (4, before)
        best = min(found, key=lambda row: float(row["val_loss"]))
        assert best != found[0]
        history = table_of(table / "it" / "best" / "history.csv")
        assert min(float(row["val_loss"]) for row in history) == float(best["val_loss"])
        record = json.loads((table / "it" / "best" / "run.json").read_text())
        assert [session["epoch"] for session in record["sessions"]] == [0]  # none without epochs


def test_a_space_of_ones_own(table, capsys, without_pictures) -> None:
    space = ["lr=1e-3..1e-1", "hidden=4/8,8", "optimizer=adamw/lion", "norm=none/batch",
             "label_smoothing=0..0.2", "batch-size=8..32"]  # fmt: skip
    status, out, err = ran(
        capsys, "search", "t.csv", "--epochs", 2, "--trials", 5, "--space", *space, "--metric",
        "accuracy", "--quiet", "--seed", 3, "--dropout", 0,
    )  # fmt: skip
    assert (status, err) == (0, "")
    found = rows(table / "runs" / "t-search")
    for row in found:
        assert 1e-3 <= float(row["lr"]) <= 1e-1
        assert row["hidden"] in ("4", "8,8")
        assert row["optimizer"] in ("adamw", "lion")
        assert 0 <= float(row["label_smoothing"]) <= 0.2
        assert 8 <= int(row["batch_size"]) <= 32
    assert "val_accuracy" in found[0]
    assert "--seed 3" in out
    assert "--dropout 0.0" in out
    record = json.loads((table / "runs" / "t-search" / "search.json").read_text())
    assert record["mode"] == "max"
    assert record["space"]["lr"][0] == "LogUniform(low=0.001, high=0.1)"


def test_the_held_out_part_is_not_seen(table, capsys, without_pictures) -> None:
    """Its rows may hold anything: the trials are the same."""
    assert ran(capsys, "search", "t.csv", *FAST, "--quiet")[0] == 0
    held = onepass.load_run("runs/t-search/best").held_out
    lines = (table / "t.csv").read_text().splitlines()
    expected = rows(table / "runs" / "t-search")
    for row in held:
        a, b, y = lines[row + 1].split(",")
        lines[row + 1] = f"{float(b) * 7},{a},{y}"
    (table / "t.csv").write_text("\n".join(lines))
    status, out, _ = ran(capsys, "search", "t.csv", *FAST, "--quiet")
    assert status == 0
    assert len(out.splitlines()) == 4
    assert rows(table / "runs" / "t-search-2") == expected


def test_a_regression_is_searched_too(table, capsys, without_pictures) -> None:
    rng = np.random.default_rng(0)
    body = "".join(f"{a:.3f},{b:.3f},{a - 2 * b:.3f}\n" for a, b in rng.random((60, 2)))
    (table / "r.csv").write_text(f"a,b,y\n{body}")
    status, out, err = ran(capsys, "search", "r.csv", *FAST, "--metric", "mae")
    assert (status, err) == (0, "")
    assert "best val_mae" in out
    refused(ran(capsys, "search", "r.csv", "--space", "label_smoothing=0..0.1"), "with classes")


def test_trials_that_all_fail_are_told(table, capsys, without_pictures) -> None:
    status, out, err = ran(
        capsys, "search", "t.csv", *FAST, "--space", "lr=1e37..1e38", "--optimizer", "sgd",
        "--norm", "none", "--activation", "identity",
    )  # fmt: skip
    assert status == 1
    assert "4 failed" in out
    assert err == "onepass: search: no trial is complete; they are in runs/t-search\n"


def refused(done, message):
    status, out, err = done
    assert (status, out) == (2, ""), done
    assert len(err.splitlines()) == 1, err
    assert re.search(message, err), err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "'DATA' is missing"),
        (["--resume", "--out", "no"], "'DATA' is missing.*; no has no search to resume"),
        (["no.csv"], "no.csv"),
        (["t.csv", "--trials", "0"], "search: '--trials' is 0"),
        (["t.csv", "--trials", "x"], "search: '--trials' is 'x'"),
        (["t.csv", "--lr", "0"], "search: '--lr' is 0"),
        (["t.csv", "--optimizer", "adamm"], "search: '--optimizer' is 'adamm'.*did you mean"),
        (["t.csv", "--metric", "acuracy"], "'--metric' is 'acuracy', expected one.*did you mean"),
        (["t.csv", "--sampler", "best"], "invalid choice: 'best'"),
        (["t.csv", "--pruner", "mean"], "invalid choice: 'mean'"),
        (["t.csv", "--n-trials", "3"], "did you mean '--trials'"),
        (["t.csv", "--cv", "3"], "unknown argument '--cv'"),
        (["t.csv", "--space", "lr"], "'--space' is 'lr', expected NAME=LOW..HIGH or"),
        (["t.csv", "--space", "lr="], "'--space' is 'lr=', expected NAME"),
        (["t.csv", "--space", "rate=1..2"], "is 'rate=1..2', expected one of lr, "),
        (["t.csv", "--space", "lr=2..1"], "is 'lr=2..1': LogUniform: 'high' is 1.0"),
        (["t.csv", "--space", "lr=a..b"], "search: '--space lr' is 'a', expected a number > 0"),
        (["t.csv", "--space", "lr=0..1"], "^onepass: search: '--space lr' is 0"),
        (["t.csv", "--space", "hidden=4/x"], "^onepass: search: '--space hidden' is 'x'"),
        (["t.csv", "--seed", "x"], "^onepass: search: '--seed' is 'x'"),
        (["t.csv", "--hidden", "x"], "^onepass: search: '--hidden' is 'x'"),
        (["t.csv", "--schedule-options", ","], "^onepass: search: '--schedule-options' is ','"),
        (["train: no.csv", "--lr", "1"], "train: no.csv"),
        (["t.csv", "--space", "lr=0.1/0.1"], "has 0.1 twice"),
        (["t.csv", "--space", "optimizer=sgd..adam"], "optimizer=A/B/C"),
        (["t.csv", "--space", "optimizer=sgd/adamm"], "search: '--space optimizer' is 'adamm'"),
        (["t.csv", "--space", "norm=batch/layer"], "'layer', expected batch or none"),
        (["t.csv", "--space", "lr=1..2", "--space", "lr=2..3"], "has 'lr' twice"),
        (["t.csv", "--space", "lr=1..2", "--lr", "1"], "'--lr' is given and varies"),
        (["t.csv", "--lr", "1", "--hidden", "4", "--dropout", "0", "--weight-decay", "0",
          "--batch-size", "8", "--optimizer", "sgd"], "every option is given"),
        (["t.csv", "--optimizer", "rprop", "--weight-decay", "0.1"], "Rprop has no such option"),
        (["t.csv", "--space", "optimizer=sgd/rprop", "weight_decay=0.1..1"], "which rprop lacks"),
        (["t.csv", "--out", "t.csv"], "t.csv"),
        (["--resume"], "expected DATA or --out with it"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line(table, capsys, arguments, message) -> None:
    refused(ran(capsys, "search", *arguments, "--quiet"), message)


def test_standard_input_is_read_once(table, capsys, monkeypatch, without_pictures) -> None:
    """Its best run is trained on what the trials have read."""
    assert ran(capsys, "search", "t.csv", *FAST, "--quiet", "--out", "file")[0] == 0
    for more in ([], ["--resume"]):
        monkeypatch.setattr("sys.stdin", io.StringIO((table / "t.csv").read_text()))
        done = ran(capsys, "search", "-", *FAST, "--quiet", "--out", "stdin", *more)
        assert (done[0], done[2]) == (0, ""), done
    best = [(table / name / "best" / "history.csv").read_text() for name in ("file", "stdin")]
    assert best[0] == best[1]


def test_a_folder_by_way_of_one_that_is_not_there(table, capsys) -> None:
    """It is judged as what it will be."""
    before = sorted(table.iterdir())
    done = ran(capsys, "search", "t.csv", *FAST, "--out", "x/..")
    refused((done[0], "", done[2]), "holds something else")
    assert sorted(table.iterdir()) == before


def test_messages_have_the_words_that_were_typed(table, capsys) -> None:
    rows = "".join(f"{i},{i % 7 + 0.5}\n" for i in range(60))
    (table / "numbers.csv").write_text(f"a,y\n{rows}")
    done = ran(capsys, "search", "numbers.csv", *FAST, "--metric", "accuracy")
    refused(done, "'--metric' is 'accuracy', expected one of loss")
    done = ran(capsys, "search", "t.csv", *FAST, "--out", "/proc/x", "--quiet")
    refused(done, "search: '--out' is '/proc/x', expected a place to write to")


def test_its_options_are_those_that_a_search_has() -> None:
    """And its space those of `onepass train`."""
    from onepass.cli import _parser, _space
    from onepass.runs import _search
    from onepass.runs._options import Options
    from onepass.train import Choice, LogUniform, _pruners, _search_arguments, _search_optuna

    parser = _parser._parser()
    commands = next(a for a in parser._actions if a.dest == argparse.SUPPRESS or a.choices)
    actions = {a.dest: a for a in commands.choices["search"]._actions}
    names = (_search_arguments.RANDOM, *_search_optuna.SAMPLERS)
    assert actions["sampler"].choices == names
    pruners = (_search.HOW["pruner"], *_pruners.NAMED, *_search_optuna.PRUNERS)
    assert actions["pruner"].choices == pruners
    about = commands.choices["search"].description
    fields = {field.name for field in dataclasses.fields(Options)}
    for name in _space.VARIED:
        assert name in actions["space"].help
        assert name in fields
    for name, of in _search.SPACE.items():
        assert name in about
        kind = _space.VARIED[name][0]
        if not isinstance(of, Choice):
            assert (kind == "log") == isinstance(of, LogUniform)


def test_another_search_is_refused(table, capsys, without_pictures) -> None:
    assert ran(capsys, "search", "t.csv", *FAST, "--out", "a", "--quiet")[0] == 0
    refused(ran(capsys, "search", "t.csv", *FAST, "--out", "a"), "holds a search.*--resume")
    again = ["search", "--resume", "--quiet", "--out", "a"]
    refused(ran(capsys, *again, "--lr", "0.1"), "a was started with no --lr; --resume cannot go on")
    refused(ran(capsys, *again, "--seed", "4"), "a was started with no --seed; --resume cannot")
    refused(ran(capsys, *again, "--pruner", "median"), "with --pruner none; --resume cannot go on")
    refused(ran(capsys, *again, "wine"), "started with --data t.csv; --resume cannot go on with")
    text = (table / "t.csv").read_text()
    lines = text.splitlines()
    lines[onepass.load_run("a/best").held_out[0] + 1] = "0.5,0.25,n"  # which no trial has seen
    (table / "t.csv").write_text("\n".join(lines))
    refused(
        ran(capsys, *again),
        "search: 'DATA' is t.csv with other contents, expected the same as in a; pass another fold"
        r"er \(--out\)$",
    )
    (table / "t.csv").write_text(text)
    assert ran(capsys, *again)[0] == 0
    (table / "b").mkdir()
    (table / "b" / "file").touch()
    refused(ran(capsys, "search", "t.csv", *FAST, "--out", "b"), "holds something else")


def test_a_resume_with_fewer_trials_keeps_the_best(table, capsys, without_pictures) -> None:
    assert ran(capsys, "search", "t.csv", *FAST, "--out", "s")[0] == 0
    before = {path: path.read_bytes() for path in (table / "s/best").iterdir() if path.is_file()}
    status, _, err = ran(capsys, "search", "--resume", "--out", "s", "--trials", "1")
    assert (status, err.count("\n")) == (2, 1)
    assert "'--trials' is 1, expected 4 or more, which have ended in s" in err
    assert {path: path.read_bytes() for path in before} == before


def test_the_run_of_a_trial_that_was_the_best_gives_its_place_and_no_other(
    table, capsys, without_pictures
) -> None:
    """What is damaged, or was never the best, is an error; it stays as it is."""
    assert ran(capsys, "search", "t.csv", *FAST, "--out", "s", "--quiet")[0] == 0
    best, again = table / "s" / "best", ["search", "--resume", "--out", "s", "--quiet"]
    record = (best / "run.json").read_text()

    def is_refused(message):
        before = {path: path.read_bytes() for path in best.rglob("*") if path.is_file()}
        status, _, err = ran(capsys, *again)
        assert (status, len(err.splitlines())) == (1, 1), err
        assert re.search(message, err), err
        assert {path: path.read_bytes() for path in before} == before

    cure = "; delete s/best, whose run is then trained again$"
    (best / "run.json").write_text("{")
    is_refused(rf"search: s/best/run\.json is damaged \(.*\){cure}")
    (best / "run.json").unlink()
    is_refused(rf"search: s/best: run\.json is missing.*{cure}")
    known = json.loads(record)
    other = {**known, "options": {**known["options"], "hidden": [9]}}
    (best / "run.json").write_text(json.dumps(other))
    is_refused("search: s/best holds a run of none of the trials, expected .*; move it away")
    second = sorted(rows(table / "s"), key=lambda row: float(row["val_loss"]))[1]
    kinds = {"lr": float, "dropout": float, "weight_decay": float, "batch_size": int,
             "optimizer": str}  # fmt: skip
    before = {**known["options"], **{name: kind(second[name]) for name, kind in kinds.items()}}
    assert before != known["options"]
    (best / "run.json").write_text(json.dumps({**known, "options": before}))
    assert ran(capsys, *again)[0] == 0
    assert json.loads((best / "run.json").read_text())["options"] == known["options"]


def test_a_resume_without_a_search_begins_one(table, capsys, without_pictures) -> None:
    status, out, _ = ran(capsys, "search", "t.csv", *FAST, "--resume")
    assert status == 0
    assert "there is no search to resume; this one begins" in out


def test_a_command_line_gives_back_its_options() -> None:
    given = {
        "data": "my data.csv", "hidden": (), "header": False, "drop": ("size, m2", "id"),
        "na_values": ("-9999", "unknown"), "lr": 0.0031623, "weight_decay": 0.5, "seed": 7,
        "sep": ";", "schedule": "step", "schedule_options": ("gamma=0.5", "step_size=10"),
    }  # fmt: skip
    from onepass.cli._parser import parsed

    words = shlex.split(command(Options.of(given)))
    back = vars(parsed(words[1:]))
    assert {name: back[name] for name in given} == given
    assert command(Options.of({"data": "wine"})) == "onepass train wine"


def test_weight_decay_is_an_option_of_train(table, capsys, without_pictures) -> None:
    ends = {}
    for decay in ("0.3", "0", "5"):
        out = f"wd{decay}"
        done = ran(
            capsys, "train", "t.csv", "--epochs", 3, "--hidden", 8, "--weight-decay", decay,
            "--out", out, "--quiet",
        )  # fmt: skip
        assert done[0] == 0
        ends[decay] = (table / out / "history.csv").read_text()
    assert (
        ran(capsys, "train", "t.csv", "--epochs", 3, "--hidden", 8, "--out", "d", "--quiet")[0] == 0
    )
    assert (table / "d" / "history.csv").read_text() == ends["0.3"]  # the default of adamw
    assert len({*ends.values()}) == 3
    refused(
        ran(capsys, "train", "t.csv", "--optimizer", "rprop", "--weight-decay", "1"),
        "'--weight-decay' is given, expected none: Rprop has no such option",
    )
