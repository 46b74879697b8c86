"""train.restarts and train.Ensemble."""

import copy
import json
import math
import pickle

import numpy as np
import pytest
from onepass import nn, optim
from onepass.train import Callback, EarlyStopping, Ensemble, Restart, Restarts, Trainer, restarts
from onepass.train.regularizers import L2, Jacobian

RNG = np.random.default_rng(5)
X = RNG.standard_normal((40, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
FIT = {"max_epochs": 4, "batch_size": 8}


class KilledError(Exception):
    pass


class KillAt(Callback):
    def __init__(self, seed, step):
        self.seed, self.step = seed, step

    def on_step_end(self, run):
        if (run.seed, run.step) == (self.seed, self.step):
            raise KilledError


def build(seed, callbacks=(), lr=0.05):
    model = nn.Sequential(
        nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2)
    )
    return Trainer(
        model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=lr), seed=seed,
        regularizers=[L2(1e-3), Jacobian(1e-3)], callbacks=callbacks, progress=False,
    )  # fmt: skip


def bits(model):
    return {name: value.tobytes() for name, value in model.state_dict().items()}


def everything(runs):
    return [(run.seed, run.score, dict(run.history), bits(run.trainer.model)) for run in runs]


def test_each_training_depends_on_its_seed_alone() -> None:
    runs = restarts(build, X, Y, n=3, seed=7, **FIT)
    assert [run.seed for run in runs] == [7, 8, 9]
    assert len({run.score for run in runs}) == 3
    for run in runs:
        nn.manual_seed(run.seed)
        alone = build(run.seed)
        alone.fit(X, Y, **FIT)
        assert bits(alone.model) == bits(run.trainer.model)
        assert run.score == alone.history["loss"][-1]
    assert runs.metric == "loss"
    assert runs.best.score == min(runs.scores)
    assert [r.score for r in runs.ranked] == sorted(runs.scores)


def test_the_metric_decides_and_its_direction() -> None:
    options = {**FIT, "validation_data": (X[:11], Y[:11])}
    assert restarts(build, X, Y, n=2, **options).metric == "val_loss"

    def measured(seed):
        trainer = build(seed)
        trainer.metrics = ["accuracy"]
        return trainer

    runs = restarts(measured, X, Y, n=3, metric="val_accuracy", **options)
    assert runs.mode == "max"
    assert runs.best.score == max(runs.scores)
    worst = restarts(measured, X, Y, n=3, metric="val_accuracy", mode="min", **options)
    assert worst.best.score == min(runs.scores)


def test_the_score_is_that_of_the_weights_that_the_model_has() -> None:
    def stopped(seed):
        return build(seed, [EarlyStopping("val_loss", patience=2)], lr=0.5)

    runs = restarts(stopped, X, Y, n=2, max_epochs=12, validation_data=(X[:15], Y[:15]))
    for run in runs:
        found = run.trainer.evaluate(X[:15], Y[:15])["loss"]
        np.testing.assert_allclose(run.score, found, rtol=1e-6)
        assert run.score == min(run.history["val_loss"])


@pytest.mark.parametrize(("seed", "step"), [(0, 3), (1, 1), (1, 12), (2, 20)])
def test_after_an_interruption_it_gives_the_same_bits(tmp_path, seed, step) -> None:
    expected = everything(restarts(build, X, Y, n=3, **FIT))
    place = tmp_path / "runs"
    with pytest.raises(KilledError):
        restarts(lambda s: build(s, [KillAt(seed, step)]), X, Y, n=3, resume=place, **FIT)
    built = []

    def counted(s):
        built.append(s)
        return build(s)

    again = restarts(counted, X, Y, n=3, resume=place, **FIT)
    assert everything(again) == expected
    assert built == [0, 1, 2]
    more = restarts(build, X, Y, n=4, resume=place, **FIT)
    assert everything(more)[:3] == expected
    assert bits(more[3].trainer.model) != bits(more[2].trainer.model)


def test_early_stopping_outlives_a_resume(tmp_path) -> None:
    options = {"max_epochs": 15, "validation_data": (X[:15], Y[:15])}

    def stopped(seed):
        return build(seed, [EarlyStopping("val_loss", patience=2)], lr=0.5)

    first = everything(restarts(stopped, X, Y, n=2, resume=tmp_path / "a", **options))
    assert everything(restarts(stopped, X, Y, n=2, resume=tmp_path / "a", **options)) == first


@np.errstate(all="ignore")
def test_a_training_that_is_not_finite_does_not_end_the_others() -> None:
    def some(seed):
        return build(seed, lr=0.05 if seed % 2 else 1e38)

    runs = restarts(some, X, Y, n=3, **FIT)
    assert [run.error is None for run in runs] == [False, True, False]
    assert math.isnan(runs[0].score)
    assert runs.best.seed == 1
    assert len(runs.ensemble()) == 1
    with pytest.raises(FloatingPointError):
        restarts(some, X, Y, n=1, **FIT)


def test_an_ensemble_averages_probabilities_of_classifiers() -> None:
    runs = restarts(build, X, Y, n=3, **FIT)
    ensemble = runs.ensemble()
    assert ensemble.average == "softmax"
    logits = [run.trainer.predict(X).astype(np.float64) for run in runs]
    each = [np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in logits]
    np.testing.assert_allclose(ensemble.predict(X), np.mean(each, axis=0), rtol=1e-6)
    np.testing.assert_allclose(
        runs.ensemble(2, "outputs").predict(X, batch_size=7),
        np.mean([run.trainer.predict(X) for run in runs.ranked[:2]], axis=0),
        rtol=1e-5, atol=1e-6,
    )  # fmt: skip
    models = [run.trainer.model for run in runs]
    assert Ensemble(models).average == "outputs"
    np.testing.assert_allclose(Ensemble(models).predict(X), np.mean(logits, axis=0), 1e-4, 1e-6)
    assert all(model.training for model in models)  # the modes are as they were


def test_an_ensemble_of_one_output_and_of_averaged_weights() -> None:
    trainers = []
    for seed in (1, 2):
        nn.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 1))
        optimizer = optim.SGD(model.parameters(), lr=0.5, ema_decay=0.9)
        trainers.append(Trainer(model, nn.BCEWithLogitsLoss(), optimizer, progress=False))
        trainers[-1].fit(X, Y[:, None].astype(np.float32), max_epochs=2)
    ensemble = Ensemble(trainers)
    assert ensemble.average == "sigmoid"
    each = [1 / (1 + np.exp(-t.predict(X).astype(np.float64))) for t in trainers]
    np.testing.assert_allclose(ensemble.predict(X), np.mean(each, axis=0), rtol=1e-6)


def test_an_identity_does_not_change_its_input() -> None:
    x = X.copy()
    out = Ensemble([nn.Sequential(nn.Linear(3, 3)), nn.Sequential(nn.Linear(3, 3))]).predict(x)
    assert np.array_equal(x, X)
    assert out.dtype == np.float32


class Halves(nn.Linear):
    """A layer whose results are float16."""

    def forward(self, x):
        return x.astype(np.float16)


def test_the_mean_of_float16_outputs_is_taken_in_float32() -> None:
    """Their sum is beyond float16's 65504, and has 11 bits."""
    x = np.array([[60000.0, 3.0, 0.1]], np.float16)
    out = Ensemble([Halves(3, 3) for _ in range(7)]).predict(x)
    assert out.dtype == np.float16
    assert np.array_equal(out, x)


def test_models_without_parameters_predict_too() -> None:
    """Those with running statistics in their dtype, others in that of X."""
    x = np.array([[-1.0, 2.0, 1e-9]])
    assert np.array_equal(Ensemble([nn.Sequential(nn.ReLU())]).predict(x), np.maximum(x, 0))
    assert Ensemble([nn.BatchNorm1d(3, affine=False)]).predict(x).dtype == np.float32
    bare, other = nn.Sequential(nn.ReLU()), nn.Linear(3, 1)
    with pytest.raises(ValueError, match=r"'optimizer' has parameter 0, .* that the model lacks"):
        Trainer(bare, nn.MSELoss(), optim.SGD(other.parameters()))


def test_an_ensemble_saves_and_loads_its_models() -> None:
    runs = restarts(build, X, Y, n=2, **FIT)
    state = {name: np.array(value) for name, value in runs.ensemble().state_dict().items()}
    other = Ensemble([build(s).model for s in (5, 6)], "softmax")
    other.load_state_dict(state)
    ranked = [run.trainer.model for run in runs.ranked]
    for x in (X, X[:1]):
        assert np.array_equal(other.predict(x), Ensemble(ranked, "softmax").predict(x))
    before = [bits(model) for model in other.models]
    state.pop("1.0.weight")
    with pytest.raises((KeyError, ValueError), match=r"1\.0\.weight"):
        other.load_state_dict(state)
    assert [bits(model) for model in other.models] == before
    again = pickle.loads(pickle.dumps(other))
    assert np.array_equal(again.predict(X), other.predict(X))


@pytest.mark.parametrize("kind", ["ema_decay", "schedule-free"])
def test_the_state_of_an_ensemble_is_what_it_predicts_with(kind) -> None:
    """Averages of the weights, where the trainers have them."""

    def averaging(seed):
        nn.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        if kind == "ema_decay":
            optimizer = optim.Adam(model.parameters(), lr=0.05, ema_decay=0.9)
        else:
            optimizer = optim.ScheduleFreeAdamW(model.parameters(), lr=0.05)
        trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, seed=seed, progress=False)
        trainer.fit(X, Y, max_epochs=3)
        return trainer

    first = Ensemble([averaging(s) for s in (1, 2)])
    bare = Ensemble([averaging(s).model for s in (5, 6)], "softmax")
    bare.load_state_dict(first.state_dict())
    assert np.array_equal(bare.predict(X), first.predict(X))
    other = Ensemble([averaging(s) for s in (3, 4)])
    assert not np.array_equal(other.predict(X), first.predict(X))
    other.load_state_dict(first.state_dict())
    assert np.array_equal(other.predict(X), first.predict(X))


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: restarts(build(0), X, Y, n=1, **FIT), TypeError, "'build' is Trainer"),
        (lambda: restarts(build, X, Y, n=0, **FIT), ValueError, "restarts: 'n' is 0"),
        (lambda: restarts(build, X, Y, n=2.0, **FIT), TypeError, "restarts: 'n' is 2.0"),
        (lambda: restarts(build, X, Y, n=1, seed=-1, **FIT), ValueError, "'seed' is -1"),
        (lambda: restarts(build, X, Y, n=1, mode="up", **FIT), ValueError, "'mode' is 'up'"),
        (lambda: restarts(build, X, Y, n=1, metric=1, **FIT), TypeError, "'metric' is 1"),
        (lambda: restarts(build, X, Y, n=1, metric="val_loss", **FIT), ValueError,
         "restarts: 'metric' is 'val_loss', expected one of loss.*validation"),
        (lambda: restarts(build, X, Y, n=1, ckpt_path="a", **FIT), TypeError, "expected resume="),
        (lambda: restarts(build, X, Y, n=1, epochs=3), TypeError, "unknown keyword 'epochs'"),
        (lambda: restarts(lambda s: 3, X, Y, n=1, **FIT), TypeError, "returned a int, expected a"),
        (lambda: Ensemble([]), ValueError, "'models' is empty"),
        (lambda: Ensemble(nn.Linear(1, 1)), TypeError, "expected a list of models"),
        (lambda: Ensemble([3]), TypeError, "'model' is a int, expected an nn.Module"),
        (lambda: Ensemble([nn.Linear(1, 1)], "mean"), ValueError, "'average' is 'mean'"),
        (lambda: Ensemble([nn.Linear(3, 1)], "softmax").predict(X), ValueError, "several classes"),
        (lambda: Ensemble([nn.Linear(3, 1), nn.Linear(3, 2)]).predict(X), ValueError,
         r"'models\[1\]' gives outputs of shape \(40, 2\), expected \(40, 1\)"),
        (lambda: restarts(build, X, Y, n=1, **FIT).ensemble(2), ValueError, "'most' is 2"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(wrong, error, message) -> None:
    with pytest.raises(error, match=message):
        wrong()


def test_one_model_twice_is_refused() -> None:
    trainer = build(0)
    with pytest.raises(ValueError, match="returned the model of seed 0 again"):
        restarts(lambda s: trainer, X, Y, n=2, **FIT)
    with pytest.raises(ValueError, match=r"'models\[1\]' is there before"):
        Ensemble([trainer, trainer.model])


def test_a_directory_of_something_else_is_refused(tmp_path) -> None:
    restarts(build, X, Y, n=1, seed=3, resume=tmp_path / "a", **FIT)
    with pytest.raises(ValueError, match="'seed' is 0, expected 3"):
        restarts(build, X, Y, n=1, resume=tmp_path / "a", **FIT)
    (tmp_path / "a" / "restarts.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        restarts(build, X, Y, n=1, seed=3, resume=tmp_path / "a", **FIT)
    with pytest.raises(ValueError, match="holds something else"):
        restarts(build, X, Y, n=1, resume=tmp_path, **FIT)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"restarts: 'resume' is .*file"):
        restarts(build, X, Y, n=1, resume=tmp_path / "file", **FIT)
    record = tmp_path / "b"
    restarts(build, X, Y, n=1, resume=record, **FIT)
    known = json.loads((record / "restarts.json").read_text())
    assert {**known, "seed": 0, "metric": "loss", "mode": "min", "format": 1, **FIT} == known
    with pytest.raises(ValueError, match="'metric' is 'l2', expected 'loss', as in"):
        restarts(build, X, Y, n=1, metric="l2", mode="min", resume=record, **FIT)
    with pytest.raises(ValueError, match="'mode' is 'max', expected 'min', as in"):
        restarts(build, X, Y, n=1, mode="max", resume=record, **FIT)


def moved(values):
    """One value in the middle is another one, which no sample of rows need show."""
    other = values.copy()
    other[len(other) // 2] += 1
    return other


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("X", {"X": moved(X)}),
        ("y", {"y": 1 - Y}),
        ("max_epochs", {"max_epochs": 99}),
        ("batch_size", {"batch_size": 5}),
        ("shuffle", {"shuffle": False}),
        ("sample_weight", {"sample_weight": np.ones(len(X))}),
        ("validation_split", {"validation_split": 0.3, "metric": "loss"}),
        ("class_weight", {"class_weight": {1: 2.0}}),
        ("transform", {"transform": lambda x, y, *, seed, epoch, index: (x, y)}),
    ],
)
def test_data_and_arguments_of_before_are_expected(tmp_path, name, options) -> None:
    first = everything(restarts(build, X, Y, n=1, resume=tmp_path, **FIT))
    other = {"X": X, "y": Y, **FIT, **options}
    with pytest.raises(ValueError, match=rf"restarts: '{name}' is .*expected .* as in "):
        restarts(build, n=2, resume=tmp_path, **other)
    again = restarts(build, X.copy(), Y.copy(), n=2, resume=tmp_path, num_workers=1, **FIT)
    assert everything(again)[:1] == first


def test_equal_scores_and_nan() -> None:
    runs = [Restart(s, None, v) for s, v in enumerate([math.nan, 2.0, 1.0, 1.0])]
    assert Restarts(runs, metric="loss", mode="min").best.seed == 2
    assert Restarts(runs, metric="f1", mode="max").best.seed == 1
    assert repr(Restarts(runs, metric="loss", mode="min")).endswith("best seed 2)")


def test_parts_sums_and_copies_know_the_metric() -> None:
    one, two = (
        Restarts([Restart(s, None, float(s % 3)) for s in seeds], metric="f1", mode="max")
        for seeds in (range(4), range(4, 7))
    )
    for runs, seeds, best in (
        (one[1:3], [1, 2], 2), (one[::-1], [3, 2, 1, 0], 2), (one + two, [*range(7)], 2),
        (two + list(one)[:1], [4, 5, 6, 0], 5), (one.copy(), [*range(4)], 2),
        (copy.copy(one), [*range(4)], 2), (pickle.loads(pickle.dumps(two)), [4, 5, 6], 5),
        (one[:0], [], None),
    ):  # fmt: skip
        assert isinstance(runs, Restarts)
        assert (runs.metric, runs.mode) == ("f1", "max")
        assert [run.seed for run in runs] == seeds
        assert best is None or runs.best.seed == best
    assert one[-1].seed == 3


def test_the_curves_can_be_drawn(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    restarts(build, X, Y, n=2, **FIT).plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
