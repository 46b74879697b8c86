"""Trials of train.search that fail, are pruned, or end by themselves."""

import math

import pytest
from onepass.train import (
    Callback,
    MedianPruner,
    SuccessiveHalvingPruner,
    Uniform,
    search,
)
from small_search import FIT, SPACE, X, Y, build


@pytest.mark.parametrize("resume", [False, True])
def test_a_trial_that_fails_is_a_row_with_its_reason(tmp_path, resume) -> None:
    def some(params):
        if params["kind"] == 0:
            raise RuntimeError("no such\nnetwork")
        if params["kind"] == 1:
            return build({"lr": 1e38, "width": 4})
        if params["kind"] == 2:
            return build({"lr": 1e38, "width": 4}, nonfinite="propagate")
        return build({"lr": 0.01, "width": 4})

    options = {**FIT, "resume": tmp_path / "a"} if resume else FIT
    result = search(some, {"kind": [0, 1, 2, 3]}, X, Y, **options)
    for again in [result, search(some, {"kind": [0, 1, 2, 3]}, X, Y, **options)]:
        told = {t.params["kind"]: (t.state, t.reason) for t in again.trials}
        assert told[0] == ("failed", "RuntimeError: no such network")
        assert told[1][1].startswith("FloatingPointError: the loss")
        assert told[2] == ("failed", "val_loss is nan")
        assert told[3] == ("complete", "")
        assert again.best.params == {"kind": 3}
        assert all(math.isnan(t.score) == (t.state == "failed") for t in again.trials)
        assert again.summary().startswith("4 trials: 1 complete, 3 failed; best val_loss")
    errors = {t.params["kind"]: type(t.error) for t in result.trials}
    assert errors == {0: RuntimeError, 1: FloatingPointError, 2: type(None), 3: type(None)}
    assert "nan" in result.table().splitlines()[-1]


def test_where_all_fail_the_best_says_why() -> None:
    def none(params):
        raise ValueError("never")

    result = search(none, SPACE, X, Y, **FIT)
    assert result.summary() == "4 trials: 4 failed"
    with pytest.raises(ValueError, match="none of 4 trials is complete: trial 0 failed: ValueErro"):
        _ = result.best
    assert repr(result) == "SearchResult(4 trials: 4 failed)"


@pytest.mark.parametrize("error", [OSError("disk"), ImportError("no")])
def test_what_is_not_the_fault_of_a_trial_ends_the_search(error) -> None:
    def broken(params):
        raise error

    with pytest.raises(type(error), match=str(error)):
        search(broken, SPACE, X, Y, **FIT)


class Measures(Callback):
    """Logs a curve of the trial's own."""

    logs = ("curve",)

    def __init__(self, curve):
        self.curve = curve

    def on_validation_end(self, run):
        run.log("curve", self.curve[run.epoch])


def curves_of(found, mode, pruner, **options):
    """The states and epochs of trials that measure these curves."""
    order = iter(found)

    def measured(params):
        return build({"lr": 0.01, "width": 4}, [Measures(next(order))])

    fit = {**FIT, "trials": len(found), "max_epochs": len(found[0]), "validation_split": 0.2}
    result = search(
        measured, {"x": Uniform(0, 1)}, X, Y, metric="curve", mode=mode, pruner=pruner, **fit,
        **options,
    )  # fmt: skip
    return [(t.state, t.epochs) for t in result.trials], result


def test_the_median_pruner() -> None:
    found = [[3, 2, 1], [5, 4, 3], [4, 3, 2], [6, 3, 0], [4, 5, 0], [3, 9, 2.0]]
    ends = [("complete", 3)] * 3
    pruner = MedianPruner(n_startup_trials=3)
    assert curves_of(found, "min", pruner)[0] == [
        *ends, ("pruned", 1), ("pruned", 2), ("complete", 3)
    ]  # fmt: skip
    upside = [[-v for v in curve] for curve in found]
    states, result = curves_of(upside, "max", pruner)
    assert states == [*ends, ("pruned", 1), ("pruned", 2), ("complete", 3)]
    assert result.trials[3].reason == "curve -6 after epoch 1, the median of 3 is -4"
    assert result.trials[3].score == -6
    assert result.best.number == 0
    warm = MedianPruner(n_startup_trials=3, n_warmup_steps=2)
    assert curves_of(found, "min", warm)[0] == [("complete", 3)] * 6  # the last epoch ends anyway
    assert curves_of(found, "min", "median")[0][3] == ("complete", 3)  # five first
    nothing = [[1, 1, 1], [math.nan, 1, 1]]
    assert curves_of(nothing, "min", MedianPruner(1))[0][1] == ("failed", 1)


def test_the_halving_pruner() -> None:
    found = [[5.0] * 5, [4.0] * 5, [6.0] * 5, [4.5] * 5, [3.0] * 5, [3.5, 3.5, 9, 9, 9.0]]
    pruner = SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    assert curves_of(found, "min", pruner)[0] == [
        ("complete", 5), ("complete", 5), ("pruned", 1), ("pruned", 2), ("complete", 5),
        ("pruned", 4),
    ]  # fmt: skip
    assert curves_of(found, "min", "halving")[0][1:4] == [
        ("complete", 5), ("pruned", 1), ("pruned", 1)
    ]  # fmt: skip


def test_pruned_trials_are_told() -> None:
    _, result = curves_of([[1, 1], [2, 2.0]], "min", MedianPruner(1))
    assert result.summary() == "2 trials: 1 complete, 1 pruned; best curve 1, trial 0"
    lines = result.table().splitlines()
    assert lines[0].split() == ["trial", "x", "curve", "epochs"]
    assert lines[2].endswith("2       1  pruned: curve 2 after epoch 1, the median of 1 is 1")
    assert [line.split()[0] for line in lines[1:]] == ["0", "1"]


def test_a_trial_that_ends_by_itself_is_complete() -> None:
    """Where the pruner would end it in the same epoch too."""

    class Ends(Callback):
        def on_validation_end(self, run):
            run.stop = run.epoch == 1

    curves = iter([[1, 1, 1], [0.5, 3, 3], [0.5, 3, 3.0]])
    ends = iter([False, True, False])

    def made(params):
        own = [Ends()] if next(ends) else []
        return build({"lr": 0.01, "width": 4}, [Measures(next(curves)), *own])

    result = search(
        made, {"x": Uniform(0, 1)}, X, Y, metric="curve", mode="min", max_epochs=3, trials=3,
        pruner=SuccessiveHalvingPruner(2, 2), progress=False, validation_split=0.2,
    )  # fmt: skip
    assert [(t.state, t.epochs) for t in result.trials] == [
        ("complete", 3), ("complete", 2), ("pruned", 2)
    ]  # fmt: skip


@pytest.mark.parametrize("error", [NameError("lr"), AttributeError("nn.Lin")])
def test_a_slip_in_build_ends_the_search_in_its_first_trial(tmp_path, error) -> None:
    calls = []

    def wrong(params):
        calls.append(params)
        if len(calls) > good:
            raise error
        return build(params)

    good = 0
    with pytest.raises(type(error)):
        search(wrong, SPACE, X, Y, resume=tmp_path, **FIT)
    assert len(calls) == 1
    assert search(build, SPACE, X, Y, resume=tmp_path, **FIT).count("complete") == 4
    good = 2
    assert search(wrong, SPACE, X, Y, **FIT).count("failed") == 3
