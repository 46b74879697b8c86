"""The folder of train.search: what a kill leaves, what a resume goes on with and refuses."""

import contextlib
import csv
import functools
import json
import os
import threading

import numpy as np
import pytest
from onepass.data import DataLoader, augment
from onepass.train import Callback, Uniform, search
from onepass.train import _search_run as module
from small_search import FIT, SPACE, KilledError, X, Y, bits, build, everything


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
    """Before and after some rename or removal a process ends: at every seventh such moment, which
    are others of each trial."""
    monkeypatch.setattr(module, "SECONDS", 0.0)
    options = {**FIT, "trials": 3, "max_epochs": 2, "pruner": "halving"}
    expected = everything(search(build, SPACE, X, Y, **options))
    names, moments, kill_at = ("replace", "rename", "mkdir", "unlink", "rmdir"), 0, 0

    def moment():
        nonlocal moments
        moments += 1
        if kill_at and moments >= kill_at:
            raise KilledError  # whatever tidies up afterwards fails too

    def counted(function):
        def changed(*args, **kwargs):
            moment()
            result = function(*args, **kwargs)
            moment()
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
        (lambda: search(build, SPACE, other, Y, resume=place, **FIT), "'X' is another one"),
        (lambda: search(build, SPACE, X, 1 - Y, resume=place, **FIT), "'y' is another one"),
        (lambda: search(build, SPACE, X, Y, validation_data=held, resume=place, **FIT),
         "'validation_data' is another one, expected the same"),
        (lambda: search(build, SPACE, X, Y, metric="loss", resume=place, **FIT),
         "'metric' is 'loss', expected 'val_loss'"),
        (lambda: search(build, SPACE, X, Y, pruner="median", resume=place, **FIT),
         r"'pruner' is MedianPruner\(.*, expected None"),
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


def test_another_version_goes_on_with_a_warning(tmp_path, monkeypatch) -> None:
    expected = search(build, SPACE, X, Y, resume=tmp_path, **FIT)
    monkeypatch.setattr("onepass.__version__", "99.0")
    for _ in range(2):  # each time: the trials stay those of both
        with pytest.warns(RuntimeWarning, match=r"was begun with onepass .*, now 99\.0") as told:
            assert search(build, SPACE, X, Y, resume=tmp_path, **FIT) == expected
        assert [warning.filename for warning in told] == [__file__]


@pytest.mark.parametrize("error", [FloatingPointError("loss"), ValueError("a FloatingPointError")])
def test_a_trial_that_would_fail_again_alone_is_not_run_again(tmp_path, error) -> None:
    def wrong(params):
        raise error

    found = search(wrong, SPACE, X, Y, resume=tmp_path, **FIT)
    again = search(build, SPACE, X, Y, resume=tmp_path, **FIT)
    assert again.count("failed") == (found.count("failed") if "loss" in str(error) else 0)


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
        with pytest.raises(BlockingIOError, match="in which another call trains"):
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
