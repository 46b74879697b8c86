"""A trial whose metric is not a number has failed, whatever ends it, and is never the best."""

import csv
import json
import math

import numpy as np
import pytest
from onepass import nn, optim
from onepass.train import (
    Callback,
    EarlyStopping,
    MedianPruner,
    SuccessiveHalvingPruner,
    Trainer,
    Uniform,
    _search_plot,
    search,
)
from onepass.train._search_optuna import Study
from onepass.train._search_space import Draws, checked

X = np.random.default_rng(5).standard_normal((40, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
SPACE = {"x": Uniform(0, 1)}
NAN, INF = math.nan, math.inf
CURVES = [
    [3.0, 2.0, 1.0],  # complete
    [NAN, NAN, NAN],  # from its first epoch on
    [2.5, NAN, NAN],  # became one
    [9.0, 9.0, 9.0],  # lags behind
    [INF, 1.0, 0.5],  # would have come back
    [2.0, 1.5, NAN],  # in its last epoch, which no pruner ends
    [NAN, 2.0, 0.75],  # an undefined one at first, or ended for it
]


class Measures(Callback):
    """Logs a curve of the trial's own."""

    logs = ("curve",)

    def __init__(self, curve):
        self.curve = curve

    def on_validation_end(self, run):
        run.log("curve", self.curve[run.epoch])


def searched(pruner, curves=CURVES, mode="min", more=(), **options):
    numbered = Draws(checked(SPACE), 0)
    known = {numbered.params(n)["x"]: curve for n, curve in enumerate(curves)}

    def build(params):
        nn.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 2))
        optimizer = optim.SGD(model.parameters(), lr=0.01)
        callbacks = [Measures(known[params["x"]]), *more]
        return Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=callbacks)

    return search(
        build, SPACE, X, Y, metric="curve", mode=mode, pruner=pruner,
        **{"trials": len(curves), "max_epochs": 3, "validation_split": 0.2, "progress": False,
           **options},
    )  # fmt: skip


def optunas(name):
    library = pytest.importorskip("optuna")
    return {
        "optuna median": lambda: library.pruners.MedianPruner(n_startup_trials=1),
        "optuna halving": lambda: library.pruners.SuccessiveHalvingPruner(1, 2),
    }[name]()


def pruner_of(name):
    if name is None or name.startswith("optuna"):
        return name and optunas(name)
    return {"median": MedianPruner(1), "halving": SuccessiveHalvingPruner(1, 2)}[name]


PRUNERS = [None, "median", "halving", "optuna median", "optuna halving"]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("name", PRUNERS)
def test_no_trial_that_is_not_a_number_is_pruned_or_the_best(name, mode):
    sign = 1 if mode == "min" else -1
    curves = [[sign * value for value in curve] for curve in CURVES]
    result = searched(pruner_of(name), curves, mode)
    for trial in result.trials:
        assert math.isfinite(trial.score) == (trial.state != "failed")
        last = curves[trial.number][trial.epochs - 1]
        assert (trial.state == "failed") == (not math.isfinite(last)), trial
        if trial.state == "failed":
            said = f"curve is {last}"
            after = f" after epoch {trial.epochs}" if trial.epochs < 3 else ""
            assert trial.reason == said + after
    states = [trial.state for trial in result.trials]
    assert states[0] == "complete"
    assert [states[n] for n in (1, 2, 5)] == ["failed"] * 3
    if name is not None:
        assert result.trials[1].epochs == 1  # a pruner does end it
        assert states[3] == "pruned"
    complete = [t for t in result.trials if t.state == "complete"]
    assert result.best is min(complete, key=lambda t: sign * t.score)
    failed = [t.state == "failed" for t in result.ranked]
    assert failed == sorted(failed)


def test_an_early_stopping_that_kept_a_finite_epoch_saves_the_trial():
    """The model has the weights of that epoch, whose score counts."""
    stopping = EarlyStopping(monitor="curve", mode="min", patience=9)
    result = searched(None, [[2.0, 1.5, NAN]], more=[stopping])
    assert (result.trials[0].state, result.trials[0].score) == ("complete", 1.5)


@pytest.mark.parametrize("name", PRUNERS)
def test_the_record_the_table_and_the_picture_tell_it(name, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "found"
    result = searched(pruner_of(name), resume=folder, progress=True)
    lines = capsys.readouterr().out.splitlines()
    epochs = result.trials[1].epochs
    reason = "curve is nan" + f" after epoch {epochs}" * (epochs < 3)
    assert lines[1].endswith(f"failed: {reason}")
    record = json.loads((folder / "trial_0001" / "trial.json").read_text())
    assert (record["state"], record["reason"]) == ("failed", reason)
    with open(folder / "trials.csv", newline="") as file:
        row = [*csv.DictReader(file)][1]
    assert (row["state"], row["reason"], row["curve"]) == ("failed", reason, "nan")
    table = result.table().splitlines()
    assert [line for line in table if f"failed: {reason}" in line]
    assert f"{result.count('failed')} failed" in result.summary()
    pytest.importorskip("matplotlib")
    figures = []
    monkeypatch.setattr(_search_plot, "save_figure", lambda figure, path: figures.append(figure))
    result.plot("any.png")
    (axes,) = figures[0].axes
    grey = [line for line in axes.lines if line.get_color() == "0.6"]
    assert len(grey) == result.count("failed")
    assert {len(line.get_xdata()) for line in grey} == {1}  # it ends before the axis of scores


@pytest.mark.parametrize("name", PRUNERS)
def test_a_resume_takes_it_as_it_was(name, tmp_path):
    folder = tmp_path / "found"
    first = searched(pruner_of(name), resume=folder)
    again = searched(pruner_of(name), resume=folder)
    assert again.trials == first.trials
    assert again.best.number == first.best.number


def test_optuna_is_told_that_it_failed(monkeypatch):
    """Its samplers learn nothing from such a trial; a pruned one would have no value."""
    library = pytest.importorskip("optuna")
    studies = []
    made = Study.__init__
    monkeypatch.setattr(Study, "__init__", lambda own, *a: (made(own, *a), studies.append(own))[0])
    result = searched(optunas("optuna median"))
    theirs = [trial.state for trial in studies[0]._study.get_trials()]
    states = library.trial.TrialState
    same = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}
    assert theirs == [same[trial.state] for trial in result.trials]
