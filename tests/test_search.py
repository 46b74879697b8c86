"""train.search: what it returns, and what it refuses."""

import math
import pickle

import numpy as np
import pytest
from onepass import config, nn, optim
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
    Uniform,
    search,
)
from small_search import FIT, SPACE, X, Y, bits, build, everything


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
