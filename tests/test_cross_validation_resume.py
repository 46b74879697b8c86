"""The folder of train.cross_validate: what an interruption leaves, what a resume refuses."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from onepass import nn
from onepass.data import MinMax, Standardize
from onepass.optim.lr_scheduler import LambdaLR
from onepass.train import Callback, EarlyStopping, Trainer, cross_validate
from small_folds import FIT, KillAt, KilledError, N, X, Y, bits, build, everything
from test_cli import ENVIRONMENT


@pytest.mark.filterwarnings("ignore:cross_validate. the callbacks of your own are")
@pytest.mark.parametrize(("fold", "step"), [(1, 2), (2, 1), (2, 9), (3, 15)])
def test_after_an_interruption_it_gives_the_same_bits(tmp_path, fold, step):
    options = {"folds": 3, "preprocess": Standardize(), "validation_split": 0.2, **FIT}
    whole = cross_validate(build, X, Y, **options)
    KillAt.begun = 0
    with pytest.raises(KilledError):
        cross_validate(lambda s: build(s, [KillAt(fold, step)]), X, Y, resume=tmp_path, **options)
    stepped = []

    class Watched(Callback):
        def on_step_end(self, run):
            stepped.append(run.step)

    again = cross_validate(lambda s: build(s, [Watched()]), X, Y, resume=tmp_path, **options)
    assert everything(again) == everything(whole)
    steps = [f.trainer.step for f in whole]
    epoch = steps[fold - 1] // 3
    kept = sum(steps[: fold - 1]) + (step - 1) // epoch * epoch
    assert len(stepped) == sum(steps) - kept
    stepped.clear()
    done = cross_validate(lambda s: build(s, [Watched()]), X, Y, resume=tmp_path, **options)
    assert everything(done) == everything(whole)
    assert not stepped
    record = json.loads((tmp_path / "cross_validation.json").read_text())
    assert [fold["scores"] for fold in record["folds"]] == [f.scores for f in again]


def test_the_folder_is_of_use_to_others(tmp_path):
    found = cross_validate(build, X, Y, folds=2, resume=tmp_path / "ü", **FIT)
    for fold in found:
        place = tmp_path / "ü" / f"fold_{fold.number}"
        model = Trainer.load_weights(place, build(0).model, which="last")
        assert bits(model) == bits(fold.trainer.model)
        assert (place / "history.csv").read_text().startswith("epoch,loss,accuracy")


def test_early_stopping_outlives_a_resume(tmp_path):
    def stopped(seed):
        return build(seed, [EarlyStopping("val_loss", patience=2)], lr=0.5)

    options = {"folds": 2, "max_epochs": 15, "validation_split": 0.3}
    first = everything(cross_validate(stopped, X, Y, resume=tmp_path / "a", **options))
    assert len(first[0][3]["loss"]) < 15
    assert everything(cross_validate(stopped, X, Y, resume=tmp_path / "a", **options)) == first


KILLED = """
import os, signal, sys
import numpy as np
from onepass import nn, optim
from onepass.data import Standardize
from onepass.train import Callback, Trainer, cross_validate

class Kill(Callback):
    steps = 0
    def on_step_end(self, run):
        Kill.steps += 1
        if Kill.steps == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

X = np.random.default_rng(0).standard_normal((40, 3))
y = (X[:, 0] > 0).astype(np.int64)
def build(seed):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.3), nn.Linear(4, 2))
    return Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.05),
                   metrics=["accuracy"], callbacks=[Kill()], seed=seed, progress=False)
found = cross_validate(build, X, y, folds=3, preprocess=Standardize(), resume=sys.argv[1],
                       max_epochs=3, batch_size=9)
print(repr(found.scores), [f.trainer.model[0].weight.data.tobytes().hex() for f in found])
"""


def test_a_kill_in_every_fold_changes_no_bit(tmp_path):
    def run(folder, step):
        code = [sys.executable, "-c", KILLED, str(folder), str(step)]
        return subprocess.run(code, env=ENVIRONMENT, capture_output=True, text=True)

    whole = run(tmp_path / "whole", 0)
    assert whole.returncode == 0, whole.stderr
    for step in (5, 7, 6):  # of each process: in the first fold, the first again, the second, …
        killed = run(tmp_path / "killed", step)
        assert killed.returncode == -signal.SIGKILL
    assert run(tmp_path / "killed", 0).stdout == whole.stdout


class Drawn:
    """A scaling with random numbers, from the generator of all or from one of its own."""

    def __init__(self, of_all, factor=1):
        self.of_all, self.factor = of_all, factor

    def fit(self, X):
        draw = np.random if self.of_all else np.random.default_rng()
        self.turn = draw.standard_normal((X.shape[1], 3)) * self.factor

    def transform(self, X):
        return X / [1, 100, 0.01] @ self.turn


@pytest.mark.filterwarnings("ignore:cross_validate. the callbacks of your own are")
@pytest.mark.parametrize(("fold", "step"), [(2, 9), (9, 0)])
def test_a_random_scaling_is_the_same_after_an_interruption(tmp_path, fold, step):
    options = {"folds": 3, "preprocess": Drawn(True), **FIT}
    state = np.random.get_state()[1].tobytes()  # noqa: NPY002
    whole = cross_validate(build, X, Y, **options)
    assert np.random.get_state()[1].tobytes() == state  # noqa: NPY002
    np.random.random()  # noqa: NPY002
    KillAt.begun = 0
    with contextlib.suppress(KilledError):
        cross_validate(lambda s: build(s, [KillAt(fold, step)]), X, Y, resume=tmp_path, **options)
    np.random.random()  # noqa: NPY002
    again = cross_validate(build, X, Y, resume=tmp_path, **options)
    assert everything(again) == everything(whole)
    assert again.predict(X).tobytes() == whole.predict(X).tobytes()


def test_a_scaling_that_cannot_be_repeated_is_refused(tmp_path):
    options = {"folds": 2, "preprocess": Drawn(False), "resume": tmp_path, **FIT}
    found = cross_validate(build, X, Y, **options)
    assert found.predict(X).shape == (N, 2)
    with pytest.raises(ValueError, match=r"'preprocess' makes other .* of fold 1 .*random_state"):
        cross_validate(build, X, Y, **options)


class Own:
    def __init__(self, k):
        self.k = k

    def fit(self, X):
        return self

    def transform(self, X):
        return X / [1, 100, 0.01] * self.k


def scored(sign):
    return {"right": lambda output, target: sign * float((output.argmax(axis=1) == target).mean())}


def test_parts_of_ones_own_are_told_apart(tmp_path):
    def call(k=1, sign=1, loss=None):
        return cross_validate(lambda s: build(s, metrics=scored(sign), loss=loss), X, Y, folds=2,
                              preprocess=Own(k), resume=tmp_path, **FIT)  # fmt: skip

    def cross(output, target):
        return nn.CrossEntropyLoss()(output, target)

    first = everything(call())
    assert everything(call()) == first
    with pytest.raises(ValueError, match=r"'preprocess' is Own\(k=2\), expected Own\(k=1\), as in"):
        call(k=2)
    with pytest.raises(ValueError, match="'metrics' is right with other contents"):
        call(sign=-1)
    with pytest.raises(ValueError, match="'loss' is another one, expected the same as in"):
        call(loss=cross)


NOTES = []


class Notes:
    def __init__(self):
        self.seen = []

    def append(self, value):
        self.seen.append(value)

    def __getstate__(self):
        return ()


@pytest.mark.parametrize("where", ["list", "global", "left out"])
def test_a_metric_that_notes_what_it_sees(where, tmp_path):
    """What a function brings along tells it from others, and what it finds elsewhere does not."""
    notes = {"list": [], "global": None, "left out": Notes()}[where]

    def of_list(output, target):
        notes.append(len(target))
        return len(target)

    def of_global(output, target):
        NOTES.append(len(target))
        return len(target)

    metrics = {"seen": of_global if where == "global" else of_list}

    def call():
        options = {"folds": 2, "resume": tmp_path, **FIT}
        return everything(cross_validate(lambda s: build(s, metrics=metrics), X, Y, **options))

    first = call()
    if where == "list":
        with pytest.raises(ValueError, match="'metrics' is seen with other contents"):
            call()
        notes.clear()  # as in a process that begins
    assert call() == first


def test_functions_in_a_step_of_scikit_learn_are_told_apart(tmp_path):
    pytest.importorskip("sklearn")
    from sklearn.preprocessing import FunctionTransformer

    scale = np.array([1, 100, 0.01])
    for function, refused in ((lambda x: x / scale, False), (lambda x: x / scale, False),
                              (lambda x: -x / scale, True)):  # fmt: skip
        options = {"folds": 2, "preprocess": FunctionTransformer(function), "resume": tmp_path}
        with (
            pytest.raises(ValueError, match="'preprocess' is")
            if refused
            else (contextlib.nullcontext())
        ):
            cross_validate(build, X, Y, **options, **FIT)


THIN = {
    "no settings": lambda r: r.update(settings={}),
    "a setting less": lambda r: r["settings"].pop("X"),
    "a fold more": lambda r: r["folds"].append(r["folds"][0]),
    "other names": lambda r: r["folds"][0].update(scores={"loss": 0.0}),
    "a gap": lambda r: r["folds"][0].update(scores=None),
    "no mark": lambda r: r["folds"][0].pop("samples"),
}


@pytest.mark.parametrize("name", THIN)
def test_a_record_that_lacks_something_is_refused(begun, tmp_path, name):
    folder = shutil.copytree(begun, tmp_path / "cv")
    record = json.loads((folder / "cross_validation.json").read_text())
    THIN[name](record)
    (folder / "cross_validation.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="is damaged"):
        cross_validate(build, X, Y, folds=2, resume=folder, **FIT)


def test_what_another_version_began_is_told(begun, tmp_path):
    folder = shutil.copytree(begun, tmp_path / "cv")
    record = json.loads((folder / "cross_validation.json").read_text())
    record["folds"][1]["onepass"] = "0.0.1"
    (folder / "cross_validation.json").write_text(json.dumps(record))
    with pytest.warns(
        RuntimeWarning, match=r"fold 2 in .* was begun with onepass 0\.0\.1, this is"
    ):
        cross_validate(build, X, Y, folds=2, resume=folder, **FIT)


def test_scores_that_are_not_those_of_the_model_are_told(begun, tmp_path):
    folder = shutil.copytree(begun, tmp_path / "cv")
    right = cross_validate(build, X, Y, folds=2, **FIT)
    shutil.rmtree(folder / "fold_1")  # trained anew: nothing to tell
    assert everything(cross_validate(build, X, Y, folds=2, resume=folder, **FIT)) == everything(
        right
    )
    record = json.loads((folder / "cross_validation.json").read_text())
    record["folds"][1]["scores"]["loss"] = 0.0
    (folder / "cross_validation.json").write_text(json.dumps(record))
    with pytest.warns(RuntimeWarning, match="fold 2 has the scores"):
        found = cross_validate(build, X, Y, folds=2, resume=folder, **FIT)
    assert everything(found) == everything(right)


def test_rows_of_a_file_are_all_compared(tmp_path):
    def call(rows):
        np.save(tmp_path / "x.npy", rows)
        x = np.load(tmp_path / "x.npy", mmap_mode="r")
        return cross_validate(build, x, Y, folds=2, resume=tmp_path / "cv", **FIT)

    many = np.concatenate([X, X])[:N]
    first = everything(call(many))
    assert everything(call(many.copy())) == first
    assert everything(cross_validate(build, many, Y, folds=2, resume=tmp_path / "cv", **FIT)) == (
        first
    )
    with pytest.raises(ValueError, match="'X' is another one, expected the same as in"):
        call(np.r_[many[:-1], many[-1:] + 1e-9])


def test_one_call_at_a_time_has_the_folder(tmp_path):
    pytest.importorskip("fcntl")
    refused = []

    class Second(Callback):
        def on_fit_begin(self, run):
            with pytest.raises(BlockingIOError, match="in which another call trains") as error:
                cross_validate(build, X, Y, folds=2, resume=tmp_path, **FIT)
            refused.append(error)

    cross_validate(lambda s: build(s, [Second()]), X, Y, folds=2, resume=tmp_path, **FIT)
    assert len(refused) == 2
    with pytest.warns(RuntimeWarning, match="callbacks of your own"):
        cross_validate(build, X, Y, folds=2, resume=tmp_path, **FIT)


CHANGED = {
    "X": ({}, lambda o: {**o, "X": X + 1}, "'X' is"),
    "one target": ({}, lambda o: {**o, "y": np.r_[1 - Y[:1], Y[1:]]}, "'y' is"),
    "weights": ({}, lambda o: {**o, "sample_weight": np.ones(N)}, "'sample_weight' is"),
    "folds": ({}, lambda o: {**o, "folds": 3}, "'folds' is 3, expected 2"),
    "seed": ({}, lambda o: {**o, "seed": 1}, "'seed' is 1, expected 0"),
    "groups": ({}, lambda o: {**o, "groups": np.arange(N)}, "'stratify or groups' is"),
    "no stratify": ({}, lambda o: {**o, "stratify": False}, "'stratify or groups' is"),
    "epochs": ({}, lambda o: {**o, "max_epochs": 9}, "'max_epochs' is 9, expected 3"),
    "shuffle": ({}, lambda o: {**o, "shuffle": False}, "'shuffle' is False, expected True"),
    "split": ({}, lambda o: {**o, "validation_split": 0.5}, "'validation_split' is 0.5"),
    "scaling": ({}, lambda o: {**o, "preprocess": MinMax()}, "'preprocess' is MinMax"),
    "rate": ({"lr": 0.1}, dict, "'lr' in 'optimizer' is 0.1, expected 0.05"),
    "metrics": ({"metrics": ["auc"]}, dict, "'metrics' is auc, expected accuracy"),
    "loss": ({"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}, dict, "'loss' is"),
    "patience": ({"callbacks": [EarlyStopping("loss", 9)]}, dict, "'callbacks' is another one"),
    "network": ({"outputs": 3}, dict, "'model' is another one"),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cv") / "begun"
    cross_validate(build, X, Y, folds=2, resume=folder, **FIT)
    return folder


@pytest.mark.parametrize("name", CHANGED)
def test_a_resume_with_other_data_or_settings_is_refused(begun, name):
    made, change, words = CHANGED[name]
    before = {p: p.stat().st_mtime_ns for p in begun.rglob("*")}
    options = change({"X": X, "y": Y, "folds": 2, "resume": begun, **FIT})
    with pytest.raises(ValueError, match=f"cross_validate: {words}.*pass another directory"):
        cross_validate(lambda seed: build(seed, **made), **options)
    assert {p: p.stat().st_mtime_ns for p in begun.rglob("*")} == before


def test_another_function_of_a_schedule_is_refused(tmp_path):
    def falling(factor):
        def build_with(seed):
            trainer = build(seed)
            trainer.scheduler = LambdaLR(trainer.optimizer, lambda epoch: factor**epoch)
            return trainer

        return build_with

    options = {"folds": 2, "resume": tmp_path, **FIT}
    first = cross_validate(falling(0.9), X, Y, **options)
    assert everything(cross_validate(falling(0.9), X, Y, **options)) == everything(first)
    with pytest.raises(ValueError, match="'scheduler' is another one"):
        cross_validate(falling(0.8), X, Y, **options)


class Shifted(nn.Module):
    """An option in each of the forms that a module of one's own may keep it in."""

    def __init__(self, option):
        self.option = option

    def forward(self, x):
        return x

    def backward(self, dy):
        return dy


@pytest.mark.parametrize(
    ("one", "other"),
    [([1, 2], [1, 3]), ({"a": 1}, {"a": 2}), ({1}, {2}), (np.ones(2), np.zeros(2)), ((1,), (2,))],
)
def test_an_option_of_a_layer_of_ones_own_is_compared(tmp_path, one, other):
    def with_option(option):
        def build_with(seed):
            trainer = build(seed)
            trainer.model.insert(0, Shifted(option))
            return trainer

        return build_with

    options = {"folds": 2, "resume": tmp_path, **FIT}
    first = cross_validate(with_option(one), X, Y, **options)
    assert everything(cross_validate(with_option(one), X, Y, **options)) == everything(first)
    with pytest.raises(ValueError, match="'model' is "):
        cross_validate(with_option(other), X, Y, **options)


def test_what_changes_no_result_may_change(begun):
    class Watched(Callback):
        pass

    first = cross_validate(build, X, Y, folds=2, **FIT)
    with pytest.warns(RuntimeWarning, match=r"callbacks of your own are Watched\(\), .* were none"):
        again = cross_validate(lambda s: build(s, [Watched()]), X.copy(), Y.copy(), folds=2,
                               resume=str(begun), num_workers=2, **FIT)  # fmt: skip
    assert everything(again) == everything(first)


def test_what_could_not_begin_does_not_bind(tmp_path):
    with pytest.raises(ValueError, match=r"'validation_split' is 1\.5"):
        cross_validate(build, X, Y, resume=tmp_path, validation_split=1.5, **FIT)
    assert len(cross_validate(build, X, Y, folds=2, resume=tmp_path, **FIT)) == 2


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="which holds something else"):
        cross_validate(build, X, Y, resume=tmp_path, **FIT)
    (tmp_path / "cross_validation.json").write_text("{}")
    with pytest.raises(ValueError, match=r"cross_validation\.json is damaged"):
        cross_validate(build, X, Y, resume=tmp_path, **FIT)
    with pytest.raises(NotADirectoryError, match=r"'resume' is .*notes\.txt"):
        cross_validate(build, X, Y, resume=tmp_path / "notes.txt", **FIT)


def test_a_class_weight_that_is_none_is_refused_with_a_folder_too(tmp_path):
    with pytest.raises(TypeError, match="fit: 'class_weight' is a list of"):
        cross_validate(build, X, Y, class_weight={1: "a"}, resume=tmp_path, **FIT)
