"""data.fold_indices and train.cross_validate."""

import contextlib
import json
import math
import pickle
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onepass import nn, optim
from onepass.data import DataLoader, MinMax, Standardize, fold_indices, split_indices
from onepass.train import (
    Callback,
    Checkpoint,
    CrossValidation,
    EarlyStopping,
    Fold,
    Trainer,
    _contents,
    cross_validate,
)
from test_cli import ENVIRONMENT

RNG = np.random.default_rng(3)
N = 61
X = RNG.standard_normal((N, 3)) * [1, 100, 0.01]
Y = (X[:, 0] > 0).astype(np.int64)
NUMBERS = X[:, :1] + 0.1 * RNG.standard_normal((N, 1))
FIT = {"max_epochs": 3, "batch_size": 8}


class KilledError(Exception):
    pass


class KillAt(Callback):
    """Of the fold that begins as the ``fold``-th, at a step."""

    begun = 0

    def __init__(self, fold, step):
        self.fold, self.step = fold, step

    def on_fit_begin(self, run):
        KillAt.begun += 1

    def on_step_end(self, run):
        if (KillAt.begun, run.step) == (self.fold, self.step):
            raise KilledError


def build(seed, callbacks=(), lr=0.05, outputs=2, loss=None, metrics=("accuracy",)):
    model = nn.Sequential(
        nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, outputs)
    )
    return Trainer(
        model, loss or nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=lr), seed=seed,
        metrics=metrics, callbacks=callbacks, progress=False,
    )  # fmt: skip


def build_numbers(seed):
    return build(seed, outputs=1, loss=nn.MSELoss(), metrics=["r2"])


def bits(model):
    return {name: value.tobytes() for name, value in model.state_dict().items()}


def everything(found):
    return [
        (f.number, f.test.tolist(), f.scores, dict(f.history), bits(f.trainer.model)) for f in found
    ]


# ---- folds


def held_out(y, folds, **options):
    return [test for _, test in fold_indices(y, folds, **options)]


@pytest.mark.parametrize("folds", [2, 3, 7])
@pytest.mark.parametrize("seed", [0, 11])
def test_each_sample_is_held_out_once_and_classes_are_spread_evenly(folds, seed):
    y = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [30, 20, 11]))
    pairs = fold_indices(y, folds, seed=seed)
    assert sorted(np.concatenate([test for _, test in pairs])) == list(range(N))
    for train, test in pairs:
        assert np.array_equal(train, np.setdiff1d(np.arange(N), test))
        assert test.dtype == train.dtype == np.int64
    counts = np.array([np.bincount(y[test], minlength=3) for _, test in pairs])
    assert np.ptp(counts, axis=0).max() <= 1
    assert np.ptp(counts.sum(axis=1)) <= 1
    plain = held_out(y, folds, seed=seed, stratify=False)
    assert np.ptp([len(test) for test in plain]) <= 1
    assert any(not np.array_equal(a, b) for a, b in zip(plain, held_out(y, folds), strict=True))


def test_folds_are_a_function_of_seed_size_and_labels_alone():
    same = held_out(Y, 4, seed=5)
    for y in (Y.tolist(), Y.astype(np.uint8), Y[:, None], np.array(["a", "b"])[Y], Y * 7 - 3,
              Y.astype(np.float32), Y.astype(bool)):  # fmt: skip
        for a, b in zip(same, held_out(y, 4, seed=5), strict=True):
            assert np.array_equal(a, b)
    numbers = held_out(NUMBERS, 4, seed=5)
    for y in (np.zeros((N, 2)), X[:, 1], np.arange(N)):  # hardly repeat: no classes
        for a, b in zip(numbers, held_out(y, 4, seed=5), strict=True):
            assert np.array_equal(a, b)
    assert [test.tolist() for test in held_out(np.zeros(6), 3, stratify=False)] == [
        [4, 5],
        [0, 3],
        [1, 2],
    ]


@pytest.mark.parametrize("labels", [None, Y])
def test_groups_stay_together(labels):
    groups = np.random.default_rng(7).integers(0, 12, N)
    y = NUMBERS if labels is None else labels
    pairs = fold_indices(y, 4, groups=groups, seed=2)
    for train, test in pairs:
        assert not set(groups[train]) & set(groups[test])
        assert len(test)
    assert sorted(np.concatenate([test for _, test in pairs])) == list(range(N))
    sizes = [len(test) for _, test in pairs]
    assert max(sizes) - min(sizes) <= np.bincount(groups).max()
    named = np.array([f"p{g:02}" for g in range(12)])[groups]  # the names only have to differ
    for (_, one), (_, two) in zip(pairs, fold_indices(y, 4, groups=named, seed=2), strict=True):
        assert np.array_equal(one, two)
    if labels is not None:  # a class that is in a few groups is not all in one fold
        of_group = np.repeat(np.arange(10), 6)
        rare = (of_group < 4).astype(int)
        for test in held_out(rare, 4, groups=of_group):
            assert rare[test].sum() == 6


def test_a_rare_class_goes_as_far_as_it_does():
    y = np.r_[np.repeat(np.arange(40), 5), np.arange(100, 110)]  # whole numbers, some of them once
    counts = np.array([np.bincount(y[test], minlength=110) for test in held_out(y, 5)])
    assert (counts[:, :40] == 1).all()
    assert (counts[:, 100:].sum(axis=0) == 1).all()
    assert np.ptp(counts.sum(axis=1)) <= 1


def test_one_group_a_sample_is_no_group():
    sizes = [len(test) for test in held_out(NUMBERS, 5, groups=np.arange(N))]
    assert max(sizes) - min(sizes) <= 1


WRONG = [
    (Y, 1, {}, ValueError, "'folds' is 1, expected a whole number >= 2"),
    (Y, 2.0, {}, TypeError, "'folds' is 2.0, expected a whole number"),
    (Y, True, {}, TypeError, "'folds' is True"),
    (NUMBERS, N + 1, {}, ValueError, f"'folds' is 62, expected at most {N}, the number of samples"),
    (np.r_[Y, [7, 7]], 3, {"stratify": True}, ValueError,
     r"'folds' is 3, expected at most 2, the number of samples of class '7' \(stratify=False"),
    (np.r_[["b"] * 5, ["a"] * 9], 6, {"stratify": True}, ValueError, ".* at most 5, .* class 'b'"),
    (Y, 3, {"groups": Y}, ValueError, "'folds' is 3, expected at most 2, the number of groups"),
    (Y, 3, {"groups": Y[:5]}, ValueError, "'groups' has 5 values, expected 61"),
    (Y, 3, {"groups": np.zeros((N, 2))}, ValueError, r"'groups' has shape \(61, 2\)"),
    (Y, 3, {"groups": np.where(X[:, 0] > 2, np.nan, 1.0)}, ValueError, "'groups' has nan at "),
    (Y, 3, {"stratify": "yes"}, TypeError, "'stratify' is 'yes', expected True or False"),
    (Y, 3, {"seed": -1}, ValueError, "'seed' is -1"),
    (Y[:0], 3, {}, ValueError, r"'y' has shape \(0,\), expected samples"),
    (7, 3, {}, TypeError, "'y' is a int, expected an array"),
]  # fmt: skip


@pytest.mark.parametrize(("y", "folds", "options", "kind", "words"), WRONG)
def test_folds_that_cannot_be_are_refused(y, folds, options, kind, words):
    with pytest.raises(kind, match=f"fold_indices: {words}"):
        fold_indices(y, folds, **options)


# ---- trainings


def test_each_fold_is_a_training_of_its_own():
    found = cross_validate(build, X, Y, folds=3, seed=4, preprocess=Standardize(), **FIT)
    assert len(found) == 3
    for fold, (train, test) in zip(found, fold_indices(Y, 3, seed=4), strict=True):
        scale = Standardize().fit(X[train])
        nn.manual_seed(4)
        alone = build(4)
        alone.fit(scale.transform(X[train]), Y[train], **FIT)
        assert bits(alone.model) == bits(fold.trainer.model)
        assert fold.scores == alone.evaluate(scale.transform(X[test]), Y[test])
        assert np.array_equal(fold.preprocess.mean, scale.mean)
        assert np.array_equal(fold.train, train)
        assert fold.history["loss"] == alone.history["loss"]
    values = [fold.scores["accuracy"] for fold in found]
    assert found.scores["accuracy"] == values
    assert found.mean["accuracy"] == np.mean(values)
    assert found.std["accuracy"] == np.std(values, ddof=1)
    outputs = found.predict(X)
    right = (outputs.argmax(axis=1) == Y)[np.concatenate([fold.test for fold in found])]
    assert right.mean() == pytest.approx(
        np.average(values, weights=[len(fold.test) for fold in found])
    )


def test_the_table():
    found = cross_validate(build_numbers, X, NUMBERS, folds=2, **FIT)
    lines = str(found).splitlines()
    assert lines[0].split() == ["fold", "loss", "r2"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "mean"]
    shown = [f"{found.mean[name]:.4f} ± {found.std[name]:.4f}" for name in ("loss", "r2")]
    assert lines[-1].split("  ", 1)[0] == "mean ± sd"
    assert all(text in lines[-1] for text in shown)
    assert len({len(line) for line in lines}) == 1
    assert repr(found) == f"CrossValidation(2 folds: loss {shown[0]}, r2 {shown[1]})"
    assert isinstance(found[:1], CrossValidation)
    assert found[1] is found.folds[1]
    assert "nan" in str(found[:1])  # no deviation of one
    again = pickle.loads(pickle.dumps(CrossValidation([Fold(1, [], [], None, {"loss": 1.0})])))
    assert again.mean == {"loss": 1.0}
    assert math.isnan(again.std["loss"])


def test_the_scaling_sees_the_training_samples_alone():
    seen = []

    class Spy(Standardize):
        def fit(self, X, sample_weight=None):
            seen.append(X.copy())
            return super().fit(X)

    given = Spy()
    found = cross_validate(build, X, Y, folds=3, preprocess=given, validation_split=0.2, **FIT)
    assert len(seen) == 3
    for fold, fitted in zip(found, seen, strict=True):
        used, _ = split_indices(Y[fold.train], 0.2)  # as fit would split them
        assert np.array_equal(fitted, X[fold.train][used])
        assert len(fold.history["val_loss"]) == 3
    assert given.mean is None  # copies were fitted


def test_a_supervised_step_of_scikit_learn_sees_the_training_targets_alone():
    """The best known leak: features that were chosen with the held-out targets."""
    pytest.importorskip("sklearn")
    from sklearn.feature_selection import SelectKBest
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    noise = np.random.default_rng(5).standard_normal((60, 2000))
    y = np.arange(60) % 2
    steps = make_pipeline(SelectKBest(k=3), StandardScaler())
    inside = cross_validate(build, noise, y, folds=5, preprocess=steps, max_epochs=10)
    chosen = [set(np.flatnonzero(f.preprocess[0].get_support())) for f in inside]
    assert len(set(map(frozenset, chosen))) > 1
    assert inside.mean["accuracy"] < 0.7
    outside = cross_validate(build, steps.fit_transform(noise, y), y, folds=5, max_epochs=10)
    assert outside.mean["accuracy"] > inside.mean["accuracy"] + 0.1


def test_frames_with_words_go_through_the_scaling():
    pd = pytest.importorskip("pandas")
    pytest.importorskip("sklearn")
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = pd.DataFrame({"a": X[:, 0], "town": np.array(["Ulm", "Kiel"])[Y]},
                         index=np.arange(N)[::-1])  # fmt: skip
    columns = make_column_transformer(
        (StandardScaler(), ["a"]), (OneHotEncoder(sparse_output=False), ["town"])
    )
    found = cross_validate(build, frame, Y, folds=2, preprocess=columns, max_epochs=20)
    assert found.mean["accuracy"] > 0.9
    plain = cross_validate(build, pd.DataFrame(X), pd.Series(Y), folds=2, **FIT)
    assert everything(plain) == everything(cross_validate(build, X, Y, folds=2, **FIT))


def test_weights_belong_to_their_samples():
    weight = np.where(Y == 1, 3.0, 1.0)
    found = cross_validate(build, X, Y, folds=2, sample_weight=weight, **FIT)
    by_class = cross_validate(build, X, Y, folds=2, class_weight={1: 3.0}, **FIT)
    for a, b in zip(found, by_class, strict=True):
        assert np.allclose(a.history["loss"], b.history["loss"], rtol=1e-6)
    plain = cross_validate(build, X, Y, folds=2, **FIT)
    assert plain[0].history["loss"] != found[0].history["loss"]


def test_a_transform_is_told_places_in_the_data_of_the_caller():
    seen = []

    def noted(x, y, *, seed, epoch, index):
        seen.append((x.copy(), index))
        return x, y

    found = cross_validate(build, X, Y, folds=2, transform=noted, validation_split=0.2, **FIT)
    assert seen
    for x, index in seen:
        assert np.array_equal(x, X[index])
    assert not {*seen[0][1].tolist()} & {*found[0].test.tolist()}


@pytest.mark.parametrize("kind", ["memory-mapped", "torch", "float32"])
def test_samples_of_other_kinds(kind, tmp_path):
    expected = everything(cross_validate(build, X, Y, folds=2, **FIT))
    x, y = X, Y
    if kind == "memory-mapped":
        np.save(tmp_path / "x.npy", X)
        x = np.load(tmp_path / "x.npy", mmap_mode="r")
    elif kind == "torch":
        torch = pytest.importorskip("torch")
        x, y = torch.from_numpy(X), torch.from_numpy(Y)
    else:
        x = X.astype(np.float32)
    found = cross_validate(build, x, y, folds=2, **FIT)
    assert everything(found) == expected
    assert found.predict(x).shape == (N, 2)
    scaled = cross_validate(build, x, y, folds=2, preprocess=MinMax(), **FIT)
    assert scaled.mean["loss"] > 0


# ---- an interruption


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


def test_groups_are_apart_in_the_validation_part_too(tmp_path):
    groups = np.random.default_rng(7).integers(0, 20, N)
    seen = []

    class Spy(Standardize):
        def fit(self, X, sample_weight=None):
            seen.append(X.copy())
            return super().fit(X)

    options = {"folds": 3, "groups": groups, "preprocess": Spy(), "validation_split": 0.25, **FIT}
    found = cross_validate(build, X, Y, **options)
    for fold, fitted in zip(found, seen, strict=True):
        used = np.array([np.flatnonzero((row == X).all(axis=1))[0] for row in fitted])
        rest = np.setdiff1d(fold.train, used)
        assert set(used) <= set(fold.train)
        assert not set(groups[used]) & set(groups[rest])
        assert abs(len(rest) / len(fold.train) - 0.25) < 0.1
        assert abs(Y[rest].mean() - Y[fold.train].mean()) < 0.15
        inside = fold.trainer.evaluate(fold.preprocess.transform(X[rest]), Y[rest])
        assert fold.history["val_loss"][-1] == inside["loss"]
    with pytest.raises(ValueError, match="'groups' has one group"):
        cross_validate(build, X, Y, **{**options, "groups": np.arange(N) % 2, "folds": 2})


def test_the_split_of_fit_is_that_of_each_fold():
    found = cross_validate(build, X, Y, folds=2, validation_split=0.2, **FIT)
    for fold in found:
        nn.manual_seed(0)
        alone = build(0)
        alone.fit(X[fold.train], Y[fold.train], validation_split=0.2, **FIT)
        assert dict(alone.history) == dict(fold.history)


# ---- what is refused


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
    with pytest.raises(ValueError, match=r"'preprocess' is .*Own object> with other contents"):
        call(k=2)
    with pytest.raises(ValueError, match="'metrics' is right with other contents"):
        call(sign=-1)
    with pytest.raises(ValueError, match="'loss' is not that of the folds"):
        call(loss=cross)


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


def test_a_mark_is_the_same_in_every_process():
    code = """if True:
        from functools import partial
        from onepass import nn
        from onepass.train import Trainer, _contents
        from onepass.data import Standardize
        def f(x, k=3, *, names=frozenset("abcdef")):
            return x in {"one", "two", "three"} or [y for y in x if y in ("a", "b")]
        class Own:
            def __init__(self):
                self.f, self.g, self.me, self.s = f, lambda: f, self, {"x", "y", "z"}
        print(_contents.mark([Own(), Standardize(), nn.MSELoss(), partial(f, k=Own), len]))
    """
    marks = {
        subprocess.run([sys.executable, "-c", code], env={**ENVIRONMENT, "PYTHONHASHSEED": seed},
                       capture_output=True, text=True, check=True).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(marks) == 1


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
    with pytest.raises(ValueError, match="is damaged, or of another version"):
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
    with pytest.raises(ValueError, match="'X' is not that of the folds"):
        call(np.r_[many[:-1], many[-1:] + 1e-9])


def test_marks_of_files_are_read_in_pieces(tmp_path, monkeypatch):
    values = np.random.default_rng(0).standard_normal((300, 3))
    np.save(tmp_path / "x.npy", values)
    rows = np.load(tmp_path / "x.npy", mmap_mode="r")
    monkeypatch.setattr(_contents, "CHUNK", 500)
    whole = _contents.digest(values)
    assert _contents.digest(rows) == whole
    for place in (0, 20, 21, 150, 299):  # of 64 rows that are spread, most are others
        changed = values.copy()
        changed[place, 1] += 1e-12
        assert _contents.digest(changed) != whole


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


def test_a_build_may_cross_validate():
    def searched(seed):
        best = max((0.01, 0.1), key=lambda lr: cross_validate(
            lambda s: build(s, lr=lr), X, Y, folds=2, max_epochs=1).mean["accuracy"])  # fmt: skip
        return build(seed, lr=best)

    assert len(cross_validate(searched, X, Y, folds=2, **FIT)) == 2


def test_predictions_need_every_fold_once():
    found = cross_validate(build, X, Y, folds=2, **FIT)
    for folds in (found[:1], CrossValidation([found[0], found[0]]), CrossValidation([])):
        with pytest.raises(ValueError, match="do not hold out each sample once"):
            folds.predict(X)


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
    "rate": ({"lr": 0.1}, dict, "'optimizer lr' is 0.1, expected 0.05"),
    "metrics": ({"metrics": ["auc"]}, dict, "'metrics' is auc, expected accuracy"),
    "loss": ({"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}, dict, "'loss' is"),
    "patience": ({"callbacks": [EarlyStopping("loss", 9)]}, dict, "'callbacks' is not that"),
    "network": ({"outputs": 3}, dict, "'model' is not that"),
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


def returning(thing):
    return lambda seed: thing


ONE = build(0)
REFUSED = {
    "build": ({"build": 3}, TypeError, "'build' is 3, expected a function of a seed"),
    "no trainer": ({"build": returning("x")}, TypeError, "'build' returned a str, expected a Tra"),
    "the same": ({"build": returning(ONE)}, ValueError, "'build' returned the model of fold 1 aga"),
    "checkpoint": ({"build": lambda s: build(s, [Checkpoint("x")])}, ValueError, "with a Checkpo"),
    "few of a class": ({"y": np.r_[Y[:-2], 2, 2], "stratify": True}, ValueError,
                       "at most 2, .* of class '2'"),
    "one fold": ({"folds": 1}, ValueError, "'folds' is 1, expected a whole number >= 2"),
    "loader": ({"X": DataLoader(X, Y), "y": None}, TypeError, "'X' is a DataLoader, expected arr"),
    "no y": ({"y": None}, TypeError, "'y' is None, expected arrays X and y"),
    "pairs": ({"X": [(X[0], 1), (X[1], 0)]}, ValueError, r"'X' has pairs \(x, y\)"),
    "lengths": ({"y": Y[:9]}, ValueError, r"'y' has shape \(9,\), expected a target for each"),
    "a list": ({"y": Y.tolist()}, TypeError, "'y' is a list, expected an array"),
    "ckpt_path": ({"ckpt_path": "x"}, TypeError, "unknown keyword 'ckpt_path', expected resume="),
    "data": ({"validation_data": (X, Y)}, TypeError, "'validation_data', expected validation_sp"),
    "keyword": ({"max_epoch": 3}, TypeError, "unknown keyword 'max_epoch'; did you mean 'max_ep"),
    "fold": ({"fold": 3}, TypeError, "unknown keyword 'fold'; did you mean 'folds'"),
    "a class": ({"preprocess": Standardize}, TypeError, "'preprocess' is the class Standardize"),
    "no scaling": ({"preprocess": "std"}, TypeError, "'preprocess' is 'std', expected an object"),
    "weights": ({"sample_weight": np.ones(5)}, ValueError, r"'sample_weight' has shape \(5,\)"),
    "negative": ({"sample_weight": -np.ones(N)}, ValueError, "'sample_weight' has -1.0 at 0"),
    "epochs": ({"max_epochs": 0}, ValueError, "'max_epochs' is 0"),
    "class weight": ({"class_weight": {1: "a"}}, TypeError, "fit: 'class_weight' is a list of"),
    "path": ({"resume": 3}, TypeError, "'resume' is 3, expected a path"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change, kind, words = REFUSED[name]
    options = {"build": build, "X": X, "y": Y, **FIT, **change}
    with pytest.raises(kind, match=words):
        cross_validate(**options)
    assert not list(tmp_path.iterdir())


def test_a_class_weight_that_is_none_is_refused_with_a_folder_too(tmp_path):
    with pytest.raises(TypeError, match="fit: 'class_weight' is a list of"):
        cross_validate(build, X, Y, class_weight={1: "a"}, resume=tmp_path, **FIT)


def test_the_number_of_epochs_is_needed():
    with pytest.raises(TypeError, match=r"'max_epochs' is missing, expected cross_validate\(build"):
        cross_validate(build, X, Y)


def test_a_trainer_that_has_trained_is_refused():
    def trained(seed):
        made = build(seed)
        made.fit(X, Y, max_epochs=1)
        return made

    with pytest.raises(ValueError, match="a Trainer that has done 2 steps, expected a new one"):
        cross_validate(trained, X, Y, **FIT)


def test_an_error_names_the_fold():
    def of_second(seed):
        of_second.count += 1
        return build(seed, lr=1e38 if of_second.count == 2 else 0.05)

    of_second.count = 0
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError) as error:
        cross_validate(of_second, X, Y, **FIT)
    shown = [*getattr(error.value, "__notes__", []), *map(str, error.value.args)]
    assert any("cross_validate: in fold 2" in text for text in shown)


def test_the_random_numbers_of_nn_are_neither_used_nor_changed():
    nn.manual_seed(99)
    before = nn.get_rng_state()
    x = np.ones((4, 4), np.float32)
    nn.set_rng_state(before)
    expected = nn.Dropout(0.5)(x)
    nn.set_rng_state(before)
    mask = nn.Dropout(0.5)
    now = nn.get_rng_state()
    one = everything(cross_validate(build, X, Y, folds=2, **FIT))
    assert nn.get_rng_state() == now
    assert np.array_equal(mask(x), expected)
    nn.manual_seed(1)
    assert everything(cross_validate(build, X, Y, folds=2, **FIT)) == one


def test_masks_of_other_models_go_on_during_a_build():
    """As those of a model that another thread trains meanwhile."""
    x, mask = np.ones((4, 4), np.float32), nn.Dropout(0.5)
    nn.manual_seed(99)
    expected = [mask(x) for _ in range(5)]
    nn.manual_seed(99)
    masks = [mask(x)]

    def built(seed):
        masks.append(mask(x))
        return build(seed)

    cross_validate(built, X, Y, folds=3, **FIT)
    masks.append(mask(x))
    assert np.array_equal(masks, expected)


def test_threads_do_not_mix_their_weights():
    one = everything(cross_validate(build, X, Y, folds=2, **FIT))
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(cross_validate, build, X, Y, folds=2, **FIT) for _ in range(4)]
        assert all(everything(call.result()) == one for call in calls)
