"""train.search: what it draws, what it keeps, what a kill leaves."""

import contextlib
import csv
import functools
import json
import math
import os
import pickle
import threading

import numpy as np
import pytest
from onepass import config, nn, optim
from onepass.data import DataLoader, augment
from onepass.train import (
    Callback,
    Choice,
    EarlyStopping,
    Integer,
    LogUniform,
    MedianPruner,
    SearchResult,
    SuccessiveHalvingPruner,
    Trainer,
    Trial,
    Uniform,
    search,
)
from onepass.train import _search_run as module
from onepass.train._search_marks import marks_of
from onepass.train._search_space import Draws, checked

RNG = np.random.default_rng(5)
X = RNG.standard_normal((48, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
SPACE = {"lr": LogUniform(1e-4, 1e-1), "width": [4, 8], "p": Uniform(0, 0.5)}
FIT = {"trials": 4, "max_epochs": 3, "batch_size": 16, "progress": False}


class KilledError(BaseException):
    pass


def build(params, callbacks=(), **options):
    width = params["width"]
    model = nn.Sequential(
        nn.Linear(3, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(params.get("p", 0.1)),
        nn.Linear(width, 2),
    )  # fmt: skip
    optimizer = optim.Adam(model.parameters(), lr=params["lr"])
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=callbacks, **options)


def bits(trainer):
    return {name: value.tobytes() for name, value in trainer.model.state_dict().items()}


def everything(result):
    return result.trials, result.best.number, bits(result.best.trainer)


# What is drawn.


def drawn(space, count, seed=0):
    draws = Draws(checked(space), seed)
    return [draws.params(number) for number in range(count)]


def test_a_draw_is_a_function_of_seed_number_and_name() -> None:
    many = drawn(SPACE, 6)
    assert many == drawn(SPACE, 6)
    assert many[:3] == drawn(SPACE, 3)
    assert many != drawn(SPACE, 6, seed=1)
    assert [p["lr"] for p in drawn({"x": Uniform(0, 1), "lr": SPACE["lr"]}, 6)] == [
        p["lr"] for p in many
    ]
    assert len({p["lr"] for p in many}) == 6
    # A promise to searches that go on with a later version.
    assert drawn({"lr": LogUniform(1e-4, 1), "n": Integer(1, 9, log=True)}, 3, seed=7) == GOLDEN


GOLDEN = [{"lr": 0.0001939, "n": 2}, {"lr": 0.1694, "n": 6}, {"lr": 0.0004292, "n": 1}]


def test_a_log_uniform_number_is_as_likely_in_each_decade() -> None:
    values = [p["x"] for p in drawn({"x": LogUniform(1e-4, 1.0)}, 2000)]
    assert all(1e-4 <= v <= 1 for v in values)
    counts = np.bincount([min(int(math.log10(v) + 4), 3) for v in values], minlength=4)
    assert (abs(counts - 500) < 90).all()  # 4.6 standard deviations
    assert all(v == float(f"{v:.4g}") for v in values)  # a table shows the value itself


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3, 5), (1e6, 1e6 + 1), (1e-300, 1e-299), (0.1, 0.1000001)]
)
def test_a_uniform_number_is_as_likely_in_each_part(low, high) -> None:
    values = np.array([p["x"] for p in drawn({"x": Uniform(low, high)}, 1200)])
    assert values.min() >= low
    assert values.max() <= high
    counts = np.histogram((values - low) / (high - low), 4, (0, 1))[0]
    assert (abs(counts - 300) < 70).all()
    assert len(set(values)) > 500


def test_whole_numbers_reach_both_ends() -> None:
    values = [p["n"] for p in drawn({"n": Integer(2, 5), "u": Uniform(0, 1)}, 800)]
    assert (abs(np.bincount(values) - [0, 0, 200, 200, 200, 200]) < 60).all()
    logs = [p["n"] for p in drawn({"n": Integer(1, 100, log=True)}, 3000)]
    assert {1, 100} <= set(logs)
    assert abs(sum(v < 10 for v in logs) - 1650) < 160  # log(9.5/0.5) / log(100.5/0.5) = 0.555
    assert all(type(v) is int for v in values + logs)


def test_a_finite_space_gives_each_combination_once() -> None:
    space = {"a": [1, 2, 3], "b": Integer(0, 3), "c": ["x", None]}
    found = drawn(space, 24)
    assert len({tuple(p.items()) for p in found}) == 24
    assert len({str(drawn(space, 24, seed)) for seed in range(4)}) == 4
    assert [*found[0]] == ["a", "b", "c"]


def test_what_comes_again_comes_from_the_next_seed() -> None:
    def made(params):
        return build({"lr": 0.01, **params})

    result = search(made, {"width": [4, 8]}, X, Y, seed=2**64 - 2, **{**FIT, "trials": 6})
    widths = [t.params["width"] for t in result.trials]
    assert widths == widths[:2] * 3
    assert set(widths) == {4, 8}
    assert [t.seed for t in result.trials] == [*[2**64 - 2] * 2, *[2**64 - 1] * 2, 0, 0]
    assert len({t.score for t in result.trials}) == 6
    trainer = result.build()
    trainer.callbacks = []
    trainer.fit(X, Y, max_epochs=3, batch_size=16, validation_split=0.2)
    assert bits(trainer) == bits(result.best.trainer)


def test_choices_are_any_values_and_a_fresh_copy_each_time() -> None:
    values = [None, True, 1, 1.0, "adamw", (64, 64), [64], {"lr": 0.1}, nn.ReLU, math.tanh]
    of = Choice([*values, np.float64(0.5), np.str_("word")])
    assert [of.back(of.kept(v)) for v in values] == values
    assert [type(v) for v in of.values[-2:]] == [float, str]
    of.nth(6).append(1)
    assert of.nth(6) == [64]
    assert repr(Choice(["a", 2])) == "Choice(values=['a', 2])"


# What a search returns.


def test_two_searches_with_one_seed_are_equal() -> None:
    result = search(build, SPACE, X, Y, **FIT)
    assert everything(search(build, SPACE, X, Y, **FIT)) == everything(result)
    assert [t.number for t in result.trials] == [0, 1, 2, 3]
    assert result.trials != search(build, SPACE, X, Y, seed=1, **FIT).trials
    more = search(build, SPACE, X, Y, **{**FIT, "trials": 6})
    assert more.trials[:4] == result.trials
    assert all(t.state == "complete" and t.epochs == 3 for t in result.trials)
    assert result.best.score == min(t.score for t in result.trials)
    assert [t.trainer is None for t in result.ranked] == [False, True, True, True]
    assert everything(pickle.loads(pickle.dumps(result))) == everything(result)


def test_threads_change_nothing() -> None:
    before = config.get_num_threads()
    try:
        config.set_num_threads(1)
        one = search(build, SPACE, X, Y, **FIT)
        config.set_num_threads(3)
        assert everything(search(build, SPACE, X, Y, **FIT)) == everything(one)
    finally:
        config.set_num_threads(before)


def test_the_best_can_be_built_again() -> None:
    result = search(build, SPACE, X, Y, **FIT)
    trainer = result.build()
    assert trainer.step == 0
    trainer.callbacks = []
    trainer.fit(X, Y, max_epochs=3, batch_size=16, validation_split=0.2)
    assert bits(trainer) == bits(result.best.trainer)
    assert trainer.history["val_loss"][-1] == result.best.score
    with pytest.raises(ValueError, match="expected a result of search"):
        SearchResult(result.trials, "val_loss", "min").build()


def test_the_metric_decides_and_its_direction() -> None:
    def measured(params):
        return build(params, metrics=["accuracy"])

    result = search(measured, SPACE, X, Y, metric="val_accuracy", **FIT)
    assert result.mode == "max"
    assert result.best.score == max(t.score for t in result.trials)
    assert result.best.trainer.history["val_accuracy"][-1] == result.best.score
    worst = search(measured, SPACE, X, Y, metric="val_accuracy", mode="min", **FIT)
    assert worst.best.score == min(t.score for t in result.trials)
    assert search(build, SPACE, X, Y, metric="loss", **FIT).trials[0].history.keys() == {
        "loss", "lr"
    }  # fmt: skip


def test_the_score_is_that_of_the_weights_that_the_model_has() -> None:
    def stopped(params):
        return build({**params, "lr": 0.5}, [EarlyStopping("val_loss", patience=1)])

    options = {**FIT, "max_epochs": 12, "validation_data": (X[:15], Y[:15])}
    result = search(stopped, SPACE, X, Y, **options)
    for trial in result.trials:
        assert trial.score == min(trial.history["val_loss"])
    found = result.best.trainer.evaluate(X[:15], Y[:15])["loss"]
    np.testing.assert_allclose(result.best.score, found, rtol=1e-6)
    assert any(trial.epochs < 12 for trial in result.trials)


def test_build_may_give_arguments_of_fit() -> None:
    sizes = []

    class Sizes(Callback):
        def on_epoch_begin(self, run):
            sizes.append(run.batches)

    space = {**SPACE, "batch_size": [8, 48]}
    options = {k: v for k, v in FIT.items() if k != "batch_size"}
    result = search(
        lambda p: (build(p, [Sizes()]), {"batch_size": p["batch_size"]}), space, X, Y, **options
    )
    expected = [5 if t.params["batch_size"] == 8 else 1 for t in result.trials for _ in range(3)]
    assert sizes == expected
    assert [result.build()[0].step, result.build()[1]] == [
        0, {"batch_size": result.best.params["batch_size"]}
    ]  # fmt: skip


# Trials that fail or are pruned.


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
    assert curves_of(nothing, "min", MedianPruner(1))[0][1] == ("pruned", 1)


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


# A folder.


def killed_at(step, where):
    """A build whose trainer, of trial ``where``, is killed at a step."""
    calls = []

    class Kill(Callback):
        def on_step_end(self, run):
            if run.step == step and len(calls) == where + 1:
                raise KilledError

    def made(params):
        calls.append(params)
        return build(params, [Kill()])

    return made


@pytest.mark.parametrize(("where", "step"), [(0, 1), (0, 9), (1, 5), (3, 7)])
@pytest.mark.parametrize("pruner", [None, "halving"])
def test_after_a_kill_it_gives_the_same_bits(tmp_path, monkeypatch, where, step, pruner) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0)
    options = {**FIT, "pruner": pruner}
    expected = everything(search(build, SPACE, X, Y, **options))
    options["resume"] = tmp_path / "found"
    with contextlib.suppress(KilledError):
        search(killed_at(step, where), SPACE, X, Y, **options)
    steps = []

    class Count(Callback):
        def on_step_end(self, run):
            steps.append(run.step)

    again = search(lambda p: build(p, [Count()]), SPACE, X, Y, **options)
    assert everything(again) == expected
    if pruner is None:  # what was done is not done again, but for the epoch that was cut
        assert len(steps) == 4 * 9 - where * 9 - (step - 1) // 3 * 3
    whole = search(build, SPACE, X, Y, **options)
    assert everything(whole) == expected
    more = search(build, SPACE, X, Y, **{**options, "trials": 5})
    assert more.trials[:4] == expected[0]


def test_a_kill_at_any_change_of_the_disk_loses_nothing(tmp_path, monkeypatch) -> None:
    """Each rename and removal in turn is the last thing that a process does."""
    monkeypatch.setattr(module, "SECONDS", 0.0)
    options = {**FIT, "trials": 3, "max_epochs": 2, "pruner": "halving"}
    expected = everything(search(build, SPACE, X, Y, **options))
    names, moments, kill_at = ("replace", "rename", "mkdir", "unlink", "rmdir"), 0, 0

    def counted(function):
        def changed(*args, **kwargs):
            nonlocal moments
            for _ in range(2):
                moments += 1
                if kill_at and moments >= kill_at:
                    raise KilledError  # whatever tidies up afterwards fails too
                if _ == 0:
                    result = function(*args, **kwargs)
            return result

        return changed

    real = {name: getattr(os, name) for name in names}
    with monkeypatch.context() as patch:
        for name in names:
            patch.setattr(os, name, counted(real[name]))
        assert everything(search(build, SPACE, X, Y, resume=tmp_path / "0", **options)) == expected
    total, moments = moments, 0
    assert total > 60
    for kill_at in range(1, total, 7):
        place, moments = tmp_path / str(kill_at), 0
        with monkeypatch.context() as patch:
            for name in names:
                patch.setattr(os, name, counted(real[name]))
            with pytest.raises(KilledError):
                search(build, SPACE, X, Y, resume=place, **options)
        assert everything(search(build, SPACE, X, Y, resume=place, **options)) == expected


def test_checkpoints_stay_of_the_best_alone(tmp_path) -> None:
    result = search(build, SPACE, X, Y, resume=tmp_path, **FIT)
    best = f"trial_{result.best.number:04d}"
    assert [p.parent.name for p in tmp_path.rglob("checkpoints")] == [best]
    rows = [*csv.DictReader((tmp_path / "trials.csv").read_text().splitlines())]
    assert [float(row["val_loss"]) for row in rows] == [t.score for t in result.trials]
    assert [float(row["lr"]) for row in rows] == [t.params["lr"] for t in result.trials]
    assert not [*tmp_path.rglob(".*")]


def test_another_search_is_refused_with_what_differs(tmp_path) -> None:
    place = tmp_path / "über all"
    search(build, SPACE, X, Y, resume=place, **FIT)
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    other = X.copy()
    other[7, 1] += 1e-3
    held = (X[:9], Y[:9])
    for changed, message in [
        (lambda: search(build, SPACE, X, Y, seed=1, resume=place, **FIT),
         "'seed' is 1, expected 0"),
        (lambda: search(build, {**SPACE, "p": Uniform(0, 0.4)}, X, Y, resume=place, **FIT),
         r"'p' in 'space' is Uniform\(low=0.0, high=0.4\), expected Uniform\(low=0.0, high=0.5\)"),
        (lambda: search(build, {**SPACE, "width": [4, 9]}, X, Y, resume=place, **FIT),
         "'width' in 'space' is"),
        (lambda: search(build, {**SPACE, "q": [1]}, X, Y, resume=place, **FIT),
         "'q' in 'space' is .*, expected not there"),
        (lambda: search(build, SPACE, other, Y, resume=place, **FIT), "'X' and 'y' are other data"),
        (lambda: search(build, SPACE, X, 1 - Y, resume=place, **FIT), "'X' and 'y' are other data"),
        (lambda: search(build, SPACE, X, Y, validation_data=held, resume=place, **FIT),
         "'validation_split' is not there, expected 0.2|validation data are other data"),
        (lambda: search(build, SPACE, X, Y, metric="loss", resume=place, **FIT),
         "'metric' is 'loss', expected 'val_loss'"),
        (lambda: search(build, SPACE, X, Y, pruner="median", resume=place, **FIT),
         r"'pruner' is 'MedianPruner\(.*, expected None"),
        (lambda: search(build, SPACE, X, Y, resume=place, **{**FIT, "max_epochs": 4}),
         "'max_epochs' is 4, expected 3"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message) as error:
            changed()
        assert "\n" not in str(error.value)
        assert str(place) in str(error.value)
    assert {p: p.read_bytes() for p in place.rglob("*") if p.is_file()} == before


def shift(X, y, by, **_):
    return X + np.float32(by), y


def shifts_by(by):
    def shifted(X, y, **_):
        return shift(X, y, by)

    return shifted


class Shifts:
    def __init__(self, by):
        self._held = {"by": by, "itself": self}
        self._lock = threading.Lock()

    def __call__(self, X, y, **_):
        return shift(X, y, self._held["by"])

    def slowly(self, X, y, **_):
        return self(X, y)


class Samples:
    """A data set whose attributes have other names than its arguments."""

    def __init__(self, by):
        self._x = X + np.float32(by)

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return self._x[index], Y[index]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: {"class_weight": [1, 9]}, lambda: {"class_weight": [9, 1]}),
        (lambda: {"sample_weight": np.ones(48)}, lambda: {"sample_weight": np.arange(1, 49.0)}),
        (lambda: {"transform": augment.GaussianNoise(0.1)},
         lambda: {"transform": augment.GaussianNoise(0.2)}),
        (lambda: {"X": DataLoader(X, Y, 8)}, lambda: {"X": DataLoader(X, Y, 16)}),
        (lambda: {"X": DataLoader(X, Y, 8)},
         lambda: {"X": DataLoader(X, Y, 8, sample_weight=np.ones(48))}),
        (lambda: {"X": Samples(1)}, lambda: {"X": Samples(2)}),
        (lambda: {"X": DataLoader(Samples(1), batch_size=8)},
         lambda: {"X": DataLoader(Samples(2), batch_size=8)}),
        (lambda: {"transform": Shifts(1)}, lambda: {"transform": Shifts(2)}),
        (lambda: {"transform": Shifts(1).slowly}, lambda: {"transform": Shifts(2).slowly}),
        (lambda: {"transform": shifts_by(1)}, lambda: {"transform": shifts_by(2)}),
        (lambda: {"transform": lambda X, y, **_: (X + 1, y)},
         lambda: {"transform": lambda X, y, **_: (X - 1, y)}),
        (lambda: {"transform": functools.partial(shift, by=1)},
         lambda: {"transform": functools.partial(shift, by=2)}),
        (lambda: {"transform": augment.Compose([shifts_by(1)])},
         lambda: {"transform": augment.Compose([shifts_by(2)])}),
    ],
)  # fmt: skip
def test_every_argument_must_be_as_it_was(tmp_path, one, other) -> None:
    def searched(given):
        data = (given.pop("X"), None) if "X" in given else (X, Y)
        options = {"trials": 1, "max_epochs": 1, "metric": "loss", "progress": False, **given}
        return search(build, SPACE, *data, resume=tmp_path, **options)

    assert searched(one()) == searched(one())
    with pytest.raises(ValueError, match="expected"):
        searched(other())


def test_marks_are_short_and_the_same_for_equal_values() -> None:
    class Held:
        __slots__ = ("value",)

        def __init__(self, value):
            self.value = value

    def some():
        itself = [1]
        itself.append(itself)
        values = [np, int, print, {1, 2}, b"ab", range(3), np.dtype("f4"), np.array(["a"])]
        return [*values, itself, list(range(10**5)), "a" * 10, Held(1), threading.Lock()]

    marks = [json.dumps(marks_of("transform", value)) for value in some()]
    assert marks == [json.dumps(marks_of("transform", value)) for value in some()]
    assert len(set(marks)) == len(marks)
    assert max(map(len, marks)) < 100
    assert marks_of("transform", Held(1)) != marks_of("transform", Held(2))
    with pytest.raises(ValueError, match="'transform' has a Generator, which a resume"):
        marks_of("transform", np.random.default_rng(0))


def test_an_argument_that_no_resume_could_know_again_is_refused(tmp_path) -> None:
    class Draws:
        def __init__(self):
            self.handle = iter([])

        def __call__(self, X, y, **_):
            return X, y

    options = {**FIT, "trials": 1, "transform": Draws()}
    with pytest.raises(ValueError, match="'transform' has a list_iterator, which a resume could"):
        search(build, SPACE, X, Y, resume=tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()
    assert search(build, SPACE, X, Y, **options).count("complete") == 1


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


def test_another_version_goes_on_with_a_warning(tmp_path, monkeypatch) -> None:
    expected = search(build, SPACE, X, Y, resume=tmp_path, **FIT)
    monkeypatch.setattr("onepass.__version__", "99.0")
    with pytest.warns(RuntimeWarning, match=r"was begun with onepass .*, now 99\.0") as told:
        assert search(build, SPACE, X, Y, resume=tmp_path, **FIT) == expected
    assert [warning.filename for warning in told] == [__file__]


def test_a_build_that_was_mended_runs_what_failed_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0)

    def wrong(params):
        raise KeyError("a typo")

    found = search(wrong, SPACE, X, Y, resume=tmp_path / "a", **FIT)
    assert found.count("failed") == 4
    assert 'raise KeyError("a typo")' in found.trials[0].traceback
    again = search(build, SPACE, X, Y, resume=tmp_path / "a", **FIT)
    assert again == search(build, SPACE, X, Y, **FIT)
    with pytest.raises(KilledError):
        search(killed_at(5, 0), SPACE, X, Y, resume=tmp_path / "b", **FIT)
    with pytest.raises(ValueError, match=r"trial 0 in .* was begun by another build"):
        search(lambda p: build({**p, "width": 5}), SPACE, X, Y, resume=tmp_path / "b", **FIT)


def test_a_trial_that_no_search_has_written_is_refused(tmp_path) -> None:
    search(build, SPACE, X, Y, resume=tmp_path, **FIT)
    file = tmp_path / "trial_0000" / "trial.json"
    known = json.loads(file.read_text())
    held = known["params"]
    other = r"trial 0 in .* has the parameters and the seed .*, expected"
    damaged = r"trial_0000.*is damaged \(.*delete the folder"
    for change, message in [
        ({"params": {**held, "lr": 0.05}}, other),
        ({"seed": 5}, other),
        ({"params": {**held, "lr": 0.5}}, damaged),
        ({"params": {**held, "lr": "abc"}}, damaged),
        ({"params": {**held, "lr": True}}, damaged),
        ({"params": {**held, "width": -1}}, damaged),
        ({"params": {**held, "width": 2}}, damaged),
        ({"params": {**held, "width": 0.0}}, damaged),
        ({"score": -5}, damaged),
        ({"score": {"$float": "nan"}}, damaged),
        ({"state": "failed"}, damaged),
        ({"history": {}}, damaged),
    ]:
        file.write_text(json.dumps({**known, **change}))
        with pytest.raises(ValueError, match=message):
            search(build, SPACE, X, Y, resume=tmp_path, **FIT)


def test_damaged_and_foreign_folders_are_refused(tmp_path) -> None:
    place = tmp_path / "a"
    search(build, SPACE, X, Y, resume=place, **FIT)
    file = place / "trial_0002" / "trial.json"
    whole = file.read_text()
    for text in ("{", "[]", '{"state": "complete"}', whole.replace('"width": ', '"width": 9')):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"trial_0002.*is damaged.*delete the folder"):
            search(build, SPACE, X, Y, resume=place, **FIT)
    expected = search(build, SPACE, X, Y, **FIT).trials
    for damaged in place.rglob("state.json"):
        damaged.write_text("{")
    file.unlink()
    file.parent.rmdir()
    again = search(build, SPACE, X, Y, resume=place, **FIT)
    assert again.trials == expected
    assert bits(again.best.trainer) == bits(search(build, SPACE, X, Y, **FIT).best.trainer)
    record = json.loads((place / "search.json").read_text())
    (place / "search.json").write_text(json.dumps({**record, "format": 2}))
    with pytest.raises(ValueError, match="has the format 2, expected at most 1"):
        search(build, SPACE, X, Y, resume=place, **FIT)
    (place / "search.json").write_text("{")
    with pytest.raises(ValueError, match=r"search\.json is damaged"):
        search(build, SPACE, X, Y, resume=place, **FIT)
    with pytest.raises(ValueError, match="which holds something else"):
        search(build, SPACE, X, Y, resume=tmp_path, **FIT)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="search: 'resume' is"):
        search(build, SPACE, X, Y, resume=tmp_path / "file", **FIT)


def test_two_searches_at_once_in_one_folder_are_refused(tmp_path) -> None:
    def nested(params):
        with pytest.raises(BlockingIOError, match="is in use by another process"):
            search(build, SPACE, X, Y, resume=tmp_path, **FIT)
        return build(params)

    assert search(nested, SPACE, X, Y, resume=tmp_path, **FIT).count("complete") == 4


@pytest.mark.parametrize("resume", [False, True])
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tmp_path, resume) -> None:
    class Interrupts(Callback):
        def on_step_end(self, run):
            if run.step == 4 and len(calls) == 3:
                raise KeyboardInterrupt

    calls = []

    def made(params):
        calls.append(params)
        return build(params, [Interrupts()])

    options = {**FIT, "resume": tmp_path / "it"} if resume else FIT
    with pytest.raises(KeyboardInterrupt) as error:
        search(made, SPACE, X, Y, **options)
    assert "interrupted, 2 of 4 trials have ended" in str(error.value)
    expected = search(build, SPACE, X, Y, **FIT)
    assert error.value.result.trials == expected.trials[:2]
    if resume:
        assert f"the same call goes on from {tmp_path / 'it'}" in str(error.value)
        assert everything(search(build, SPACE, X, Y, **options)) == everything(expected)


# A table, a picture, progress.


def trials_by_hand():
    rows = [
        ({"lr": 0.001, "kind": "a"}, "complete", 0.5, ""),
        ({"lr": 0.1, "kind": "b"}, "complete", 0.25, ""),
        ({"lr": 0.01, "kind": "a"}, "pruned", 0.75, "late"),
        ({"lr": 0.03, "kind": "b"}, "failed", math.nan, "RuntimeError: no"),
    ]
    space = {"lr": LogUniform(0.001, 0.1), "kind": Choice(["a", "b"])}
    found = [Trial(n, *row) for n, row in enumerate(rows)]
    return SearchResult(found, "val_loss", "min", 0, space)


def test_the_table_is_best_first() -> None:
    assert str(trials_by_hand()) == (
        "4 trials: 2 complete, 1 pruned, 1 failed; best val_loss 0.25, trial 1\n"
        " trial     lr  kind  val_loss  epochs\n"
        "     1    0.1     b      0.25       0\n"
        "     0  0.001     a       0.5       0\n"
        "     2   0.01     a      0.75       0  pruned: late\n"
        "     3   0.03     b       nan       0  failed: RuntimeError: no"
    )
    assert trials_by_hand().table(1).splitlines()[-1] == " … and 3 more"
    assert repr(trials_by_hand()).endswith("trial 1: lr=0.1, kind=b)")


def lines_of(result, monkeypatch):
    """The lines of the picture: (x, y, colour, style)."""
    from onepass.train import _search_plot

    figures = []
    monkeypatch.setattr(_search_plot, "save_figure", lambda figure, path: figures.append(figure))
    result.plot("any.png")
    (axes,) = figures[0].axes
    texts = {t.get_text(): t.get_position() for t in axes.texts}
    lines = [(*map(list, line.get_data()), line.get_color(), line.get_linestyle())
             for line in axes.lines]  # fmt: skip
    return [line for line in lines if line[0] == [0, 1, 2][: len(line[0])]], texts


def test_the_picture_has_a_line_a_trial_and_the_best_on_top(monkeypatch) -> None:
    pytest.importorskip("matplotlib")
    lines, texts = lines_of(trials_by_hand(), monkeypatch)
    assert len(lines) == 5  # that of the best has a white one below it
    *others, below, best = lines
    assert (below[2], best[2]) == ("white", "crimson")
    np.testing.assert_allclose(best[1], [1, 0.6875, 1])  # lr at the top, b, the least loss
    failed, pruned, worse = others
    assert failed[0] == [0, 1]  # it has no score
    assert failed[3] == "--"
    assert pruned[3] == ":"
    np.testing.assert_allclose(pruned[1], [0.5, 0.3125, 0])  # 0.01 is half way on a log axis
    np.testing.assert_allclose(worse[1], [0, 0.1875, 0.5])
    assert texts["0.001"][1] == 0
    assert texts["0.01"][1] == pytest.approx(0.5)
    assert texts["0.75"][1] == 0
    assert texts["0.25"][1] == 1
    assert "val_loss\n(lower is better)" in texts
    assert texts["a"][1] == 0.25
    upside = trials_by_hand()
    upside = SearchResult(upside.trials, "val_accuracy", "max", 0, upside.space)
    _, texts = lines_of(upside, monkeypatch)
    assert texts["0.75"][1] == 1


def test_the_picture_is_written(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    result = search(build, SPACE, X, Y, **FIT)
    result.plot(tmp_path / "new" / "search.png")
    assert (tmp_path / "new" / "search.png").stat().st_size > 5000
    SearchResult([Trial(0, {"a": 1}, "failed", math.nan)], "loss", "min").plot(tmp_path / "b.svg")
    with pytest.raises(ValueError, match="there are no trials"):
        SearchResult([], "loss", "min").plot(tmp_path / "c.png")


def test_progress_is_a_line_a_trial(capsys) -> None:
    search(build, SPACE, X, Y, **{**FIT, "progress": True})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("trial 0  lr ")
    assert lines[0].endswith("best so far")
    search(build, SPACE, X, Y, **FIT)
    assert capsys.readouterr().out == ""


# Wrong use.

ONE = {"x": [1, 2]}


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: search(3, SPACE, X, Y, **FIT), TypeError, "search: 'build' is 3"),
        (lambda: search(build, [1], X, Y, **FIT), TypeError, r"'space' is \[1\], expected a dict"),
        (lambda: search(build, {}, X, Y, **FIT), ValueError, "'space' is empty"),
        (lambda: search(build, {1: [2]}, X, Y, **FIT), TypeError, "has the name 1"),
        (lambda: search(build, {"a": (1, 2)}, X, Y, **FIT), TypeError,
         "'a' in 'space' is .*; for some values write a list, for a range Uniform"),
        (lambda: search(build, {"a": np.arange(3)}, X, Y, **FIT), TypeError, "write a list"),
        (lambda: search(build, {"a": 0.1}, X, Y, **FIT), TypeError, r"never varies.*or \[0\.1\]"),
        (lambda: search(build, {"a": {"b": [1]}}, X, Y, **FIT), TypeError, "has no conditions"),
        (lambda: search(build, {"a": [1, Uniform(0, 1)]}, X, Y, **FIT), TypeError,
         r"'a' in 'space' has Uniform\(.* among its choices.*has no conditions"),
        (lambda: search(build, {"a": [{"lr": LogUniform(1, 2)}]}, X, Y, **FIT), TypeError,
         "has no conditions"),
        (lambda: search(build, {"a": []}, X, Y, **FIT), ValueError, "'a' in 'space' is empty"),
        (lambda: search(build, {"a": [1, 2, 1]}, X, Y, **FIT), ValueError, "has 1 twice"),
        (lambda: search(build, {"a": [nn.ReLU()]}, X, Y, **FIT), TypeError, "has a ReLU, .*in bui"),
        (lambda: search(build, {"a": [math.nan]}, X, Y, **FIT), ValueError, "has nan"),
        (lambda: search(build, SPACE, X, Y, **{**FIT, "trials": 0}), ValueError, "'trials' is 0"),
        (lambda: search(build, SPACE, X, Y), TypeError, "'trials' is missing"),
        (lambda: search(build, SPACE, X, Y, seed=-1, **FIT), ValueError, "'seed' is -1"),
        (lambda: search(build, SPACE, X, Y, metric=3, **FIT), TypeError, "'metric' is 3"),
        (lambda: search(build, SPACE, X, Y, metric="val_mse", **FIT),
         ValueError,
         "search: 'metric' is 'val_mse', expected one of loss, val_loss"),
        (lambda: search(build, SPACE, X, Y, mode="up", **FIT), ValueError, "'mode' is 'up'"),
        (lambda: search(build, SPACE, X, Y, sampler="best", **FIT), ValueError, "'sampler' is 'be"),
        (lambda: search(build, SPACE, X, Y, sampler=3, **FIT), TypeError, "'sampler' is 3"),
        (lambda: search(build, SPACE, X, Y, pruner="mean", **FIT), ValueError, "'pruner' is 'mean"),
        (lambda: search(build, SPACE, X, Y, pruner=3, **FIT), TypeError, "'pruner' is 3"),
        (lambda: search(build, SPACE, X, Y, ckpt_path="a", **FIT), TypeError, "expected resume="),
        (lambda: search(build, SPACE, X, Y, epochs=3, **FIT), TypeError, "unknown keyword 'ep"),
        (lambda: search(build, SPACE, X, Y, n_trials=3, **FIT), TypeError, "did you mean 'trials'"),
        (lambda: search(build, SPACE, X, Y[:9], **FIT), ValueError, "48|9"),
        (lambda: search(build, SPACE, "data", Y, **FIT), TypeError, "'X' is a str, expected"),
        (lambda: search(lambda p: 3, ONE, X, Y, **FIT), TypeError, "returned a int, expected a Tr"),
        (lambda: search(lambda p: (build({"lr": 1, "width": 4}), 3), ONE, X, Y, **FIT), TypeError,
         "returned 3 beside the Trainer"),
        (lambda: search(lambda p: (build({"lr": 1, "width": 4}), {"batchsize": 3}), ONE, X, Y,
                        **FIT), TypeError, "returned 'batchsize' for fit.*did you mean 'batch_si"),
        (lambda: Uniform(1, 1), ValueError, "Uniform: 'high' is 1, expected a number > 1"),
        (lambda: Uniform(-1e308, 1e308), ValueError, "'high' is 1e.308, expected a range"),
        (lambda: LogUniform(0, 1), ValueError, "LogUniform: 'low' is 0, expected a number > 0"),
        (lambda: Integer(3, 3), ValueError, "Integer: 'high' is 3"),
        (lambda: Integer(0, 3, log=True), ValueError, "Integer: 'low' is 0, expected .*>= 1"),
        (lambda: Integer(1.5, 3), TypeError, "Integer: 'low' is 1.5"),
        (lambda: Choice("abc"), TypeError, "'values' is 'abc', expected a list"),
        (lambda: MedianPruner(-1), ValueError, "'n_startup_trials' is -1"),
        (lambda: SuccessiveHalvingPruner(0), ValueError, "'min_resource' is 0"),
        (lambda: SuccessiveHalvingPruner(1, 1), ValueError, "'reduction_factor' is 1"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(wrong, error, message) -> None:
    with pytest.raises(error, match=message):
        wrong()


def test_a_trainer_or_model_of_an_earlier_trial_is_refused() -> None:
    one = build({"lr": 0.01, "width": 4})
    with pytest.raises(ValueError, match="the model of trial 0 again"):
        search(lambda p: one, ONE, X, Y, **{**FIT, "trials": 2})
    with pytest.raises(ValueError, match="a Trainer that has trained, expected a new one"):
        search(lambda p: one, ONE, X, Y, **FIT)
    model = build({"lr": 0.01, "width": 4}).model

    def shared(params):
        return Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))

    with pytest.raises(ValueError, match="the model of trial 0 again"):
        search(shared, ONE, X, Y, **{**FIT, "trials": 2})


def test_without_optuna_its_samplers_say_what_to_install(monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    for options in ({"sampler": "tpe"}, {"pruner": "hyperband"}, {"sampler": lambda seed: None}):
        with pytest.raises(ImportError, match="needs Optuna: pip install"):
            search(build, SPACE, X, Y, **options, **FIT)
    assert search(build, SPACE, X, Y, pruner="median", **FIT).count("complete") == 4


def test_words_of_any_kind_stand_in_one_line(tmp_path) -> None:
    space = {"a $x\ny": ["$\\frac{", "b\nc", "ü"]}
    result = search(
        lambda p: build({"lr": 0.01, "width": 4}), space, X, Y, resume=tmp_path / "ü", **FIT
    )
    assert len(result.table().splitlines()) == 5
    assert "b c" in result.table()
    pytest.importorskip("matplotlib")
    result.plot(tmp_path / "ü.png")
