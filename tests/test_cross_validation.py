"""train.cross_validate: its trainings, its scores, and what it refuses."""

import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onepass import nn
from onepass.data import DataLoader, MinMax, Standardize, fold_indices, split_indices
from onepass.train import Checkpoint, CrossValidation, Fold, cross_validate
from small_folds import FIT, NUMBERS, N, X, Y, bits, build, build_numbers, everything


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
