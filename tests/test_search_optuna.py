"""Samplers and pruners of Optuna in train.search."""

import contextlib
import importlib.util

import numpy as np
import pytest
from onepass import nn, optim
from onepass.train import (
    Callback,
    Integer,
    LogUniform,
    MedianPruner,
    SuccessiveHalvingPruner,
    Trainer,
    Trial,
    Uniform,
    search,
)
from onepass.train._search_optuna import Study, _quietly, named_sampler

optuna = pytest.importorskip("optuna")

RNG = np.random.default_rng(5)
X = RNG.standard_normal((48, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
SPACE = {
    "lr": LogUniform(1e-4, 1e-1), "width": Integer(2, 9, log=True), "p": Uniform(0, 0.5),
    "act": [nn.ReLU, nn.Tanh, (1, 2)],
}  # fmt: skip
FIT = {"max_epochs": 3, "batch_size": 16, "validation_split": 0.2, "progress": False}


class KilledError(BaseException):
    pass


def build(params, callbacks=()):
    width = params["width"]
    act = nn.Tanh if params["act"] == (1, 2) else params["act"]
    model = nn.Sequential(nn.Linear(3, width), act(), nn.Dropout(params["p"]), nn.Linear(width, 2))
    optimizer = optim.Adam(model.parameters(), lr=params["lr"])
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=callbacks)


def bits(result):
    return {k: v.tobytes() for k, v in result.best.trainer.model.state_dict().items()}


def tpe(seed):
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=3)


@pytest.mark.parametrize(
    ("sampler", "pruner"),
    [
        (tpe, None), (tpe, "hyperband"), ("tpe", "median"),
        ("random", optuna.pruners.SuccessiveHalvingPruner(1, 2)),
        ("random", optuna.pruners.PercentilePruner(40.0, 1)),
    ],
)  # fmt: skip
def test_a_search_that_was_killed_tries_what_it_would_have_tried(tmp_path, sampler, pruner) -> None:
    options = {**FIT, "trials": 8, "sampler": sampler, "pruner": pruner}
    whole = search(build, SPACE, X, Y, **options)
    assert len({repr(t.params) for t in whole.trials}) == 8
    assert not whole.count("failed")
    assert (pruner is None) == (whole.count("pruned") == 0)
    assert search(build, SPACE, X, Y, **options).trials == whole.trials
    calls = []

    class Kill(Callback):
        def on_step_end(self, run):
            if run.step == 4 and len(calls) == 6:
                raise KilledError

    def killed(params):
        calls.append(params)
        return build(params, [Kill()])

    options["resume"] = tmp_path / "it"
    with contextlib.suppress(KilledError):
        search(killed, SPACE, X, Y, **options)
    again = search(build, SPACE, X, Y, **options)
    assert again.trials == whole.trials
    assert bits(again) == bits(whole)
    assert search(build, SPACE, X, Y, **options).trials == whole.trials
    with _quietly(optuna):
        backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "it" / "optuna.log"))
        study = optuna.load_study(
            study_name="search", storage=optuna.storages.JournalStorage(backend)
        )
    assert study.best_value == whole.best.score
    assert study.best_trial.number == whole.best.number
    states = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    assert [states[t.state.name] for t in study.trials] == [t.state for t in whole.trials]
    assert [t.params["lr"] for t in study.trials] == [t.params["lr"] for t in whole.trials]


def test_a_sampler_made_anew_for_each_trial_learns_all_the_same() -> None:
    scores = []
    for seed in range(4):
        study = Study({"lr": SPACE["lr"]}, seed, "far", "min", named_sampler("tpe"), None, None)
        scores.append([])
        for number in range(30):
            params = study.ask(number, None)
            far = abs(np.log10(params["lr"]) + 2)
            scores[-1].append(far)
            study.prunes([far])
            study.tell(Trial(number, params, "complete", far))
    assert len({tuple(found[:1]) for found in scores}) == 4  # the seed decides
    assert np.mean(np.array(scores)[:, 15:]) < 0.7 * np.mean(np.array(scores)[:, :10])


class Curves(Callback):
    logs = ("curve",)

    def __init__(self, values):
        self.values = values

    def on_validation_end(self, run):
        run.log("curve", self.values[run.epoch])


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (MedianPruner(3, 1), optuna.pruners.MedianPruner(3, 2)),  # which counts steps from 0
        (SuccessiveHalvingPruner(1, 2), optuna.pruners.SuccessiveHalvingPruner(1, 2)),
        (SuccessiveHalvingPruner(2, 3), optuna.pruners.SuccessiveHalvingPruner(2, 3)),
    ],
)
def test_our_pruners_decide_as_optunas(ours, theirs, mode) -> None:
    curves = np.random.default_rng(3).standard_normal((16, 7)).cumsum(axis=1).round(1)
    ends = []
    for pruner in (ours, theirs):
        order = iter(curves)
        result = search(
            lambda p, order=order: build(p, [Curves(next(order))]), SPACE, X, Y, trials=16,
            metric="curve", mode=mode, pruner=pruner, **{**FIT, "max_epochs": 7},
        )  # fmt: skip
        ends.append([(t.state, t.epochs, t.score) for t in result.trials])
    assert ends[0] == ends[1]
    assert 4 < sum(end[0] == "pruned" for end in ends[0]) < 16


@pytest.mark.parametrize(
    "pruner",
    [optuna.pruners.SuccessiveHalvingPruner(1, 2), optuna.pruners.MedianPruner(2), "hyperband"],
)
def test_a_longer_search_knows_what_the_shorter_one_did(tmp_path, pruner) -> None:
    """Its study is made of the folder."""

    def measured(params):
        rng = np.random.default_rng(int(params["lr"] * 1e12))
        return build(params, [Curves(rng.standard_normal(7).cumsum())])

    options = {**FIT, "max_epochs": 7, "metric": "curve", "mode": "min", "pruner": pruner}
    whole = search(measured, SPACE, X, Y, trials=16, **options)
    for trials in (4, 7, 16):
        found = search(measured, SPACE, X, Y, trials=trials, resume=tmp_path, **options)
        assert found.trials == whole.trials[:trials]
    assert 3 < whole.count("pruned") < 16


def test_a_pruner_is_used_as_it_was_given() -> None:
    """That of Optuna settles min_resource="auto" by the first trial that it sees."""
    pruner = optuna.pruners.SuccessiveHalvingPruner()
    before = dict(vars(pruner))
    found = [search(build, SPACE, X, Y, trials=12, pruner=pruner, **FIT) for _ in range(2)]
    assert found[0].trials == found[1].trials
    assert vars(pruner) == before


def test_a_failed_trial_is_one_of_the_study(tmp_path) -> None:
    def some(params):
        if params["act"] is nn.ReLU:
            raise RuntimeError("no")
        return build({**params, "lr": 1e38 if params["act"] is nn.Tanh else 0.01})

    result = search(some, SPACE, X, Y, sampler="tpe", trials=8, resume=tmp_path, **FIT)
    assert {t.state for t in result.trials} == {"complete", "failed"}
    assert search(some, SPACE, X, Y, sampler="tpe", trials=8, resume=tmp_path, **FIT) == result


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_order_of_a_space_has_no_say(sampler, tmp_path) -> None:
    turned = dict(reversed(SPACE.items()))
    assert list(turned) != list(SPACE)
    given = {"sampler": sampler, **FIT}
    whole = search(build, SPACE, X, Y, trials=14, **given)
    search(build, SPACE, X, Y, trials=6, resume=tmp_path, **given)
    resumed = search(build, turned, X, Y, trials=14, resume=tmp_path, **given)
    assert [t.params for t in resumed.trials] == [t.params for t in whole.trials]


def test_objects_and_wrong_ones(tmp_path) -> None:
    sampler = optuna.samplers.TPESampler(seed=3)
    result = search(build, SPACE, X, Y, trials=2, sampler=sampler, **FIT)
    assert len(result.trials) == 2
    with pytest.raises(ValueError, match="TPESampler with random numbers of its own, expected a f"):
        search(build, SPACE, X, Y, trials=2, sampler=sampler, resume=tmp_path / "a", **FIT)
    with pytest.raises(TypeError, match=r"'sampler' returned .*, expected a sampler of Optuna"):
        search(build, SPACE, X, Y, trials=2, sampler=int, **FIT)
    with pytest.raises(TypeError, match=r"'sampler' is <optuna\.pruners"):
        search(build, SPACE, X, Y, trials=2, sampler=optuna.pruners.NopPruner(), **FIT)
    with pytest.raises(ValueError, match="CmaEsSampler, whose state is a pickle"):
        search(
            build, SPACE, X, Y, trials=2, resume=tmp_path / "c",
            sampler=lambda seed: optuna.samplers.CmaEsSampler(seed=seed), **FIT,
        )  # fmt: skip
    qmc, fixed = optuna.samplers.QMCSampler, optuna.samplers.PartialFixedSampler
    for sampler, name in (
        (lambda seed: qmc(seed=seed), "d"),
        (lambda seed: fixed({"p": 0.1}, qmc(seed=seed)), "e"),
    ):
        assert search(build, SPACE, X, Y, trials=2, sampler=sampler, **FIT).count("complete") == 2
        with pytest.raises(ValueError, match=r"QMCSampler, which counts draws .* with resume"):
            search(build, SPACE, X, Y, trials=2, sampler=sampler, resume=tmp_path / name, **FIT)
    search(build, SPACE, X, Y, trials=2, sampler="tpe", resume=tmp_path / "b", **FIT)
    assert '"optuna": "' in (tmp_path / "b" / "trial_0000" / "trial.json").read_text()
    for options, message in [
        ({}, "'sampler' is 'random', expected 'tpe'"),
        ({"sampler": "tpe", "pruner": "hyperband"}, "'pruner' is 'hyperband', expected None"),
    ]:
        with pytest.raises(ValueError, match=message):
            search(build, SPACE, X, Y, trials=2, resume=tmp_path / "b", **options, **FIT)
    assert optuna.logging.get_verbosity() == optuna.logging.INFO  # the caller's


GRID = {"lr": [0.1]}


@pytest.mark.parametrize(
    ("sampler", "error", "message"),
    [
        (lambda seed: optuna.samplers.GridSampler(GRID), ValueError, "is a GridSampler, which end"),
        (
            lambda seed: optuna.samplers.PartialFixedSampler({}, optuna.samplers.GridSampler(GRID)),
            ValueError,
            "is a GridSampler, which ends a study itself, .*combination of lists in 'space' once",
        ),
        (
            lambda seed: optuna.samplers.CmaEsSampler(seed=seed),
            ImportError,
            "is a CmaEsSampler, which needs cmaes: pip install cmaes",
        ),
        ("gp", ImportError, "is a GPSampler, which needs torch: pip install torch"),
        (
            lambda seed: optuna.samplers.PartialFixedSampler(
                {"lr": "x"}, optuna.samplers.RandomSampler()
            ),
            ValueError,
            r"is a PartialFixedSampler that draws nothing from this space.*\(ValueError: 'x' is",
        ),
    ],
)
def test_a_sampler_that_cannot_do_it_is_refused_before_any_training(
    sampler, error, message, monkeypatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n in ("cmaes", "torch") else find(n)
    )
    begun = []
    with pytest.raises(error, match=f"^search: 'sampler' {message}"):
        search(lambda p: begun.append(p) or build(p), SPACE, X, Y, trials=3, sampler=sampler, **FIT)
    assert not begun


class Notes(optuna.samplers.RandomSampler):
    """Keeps bytes as text, as CmaEsSampler does with its pickle."""

    def __init__(self, seed, value):
        super().__init__(seed=seed)
        self.value = value

    def before_trial(self, study, trial):
        study._storage.set_trial_system_attr(trial._trial_id, "cma:optimizer:0", self.value)


def test_bytes_in_a_folder_are_neither_written_nor_read(tmp_path) -> None:
    options = {**FIT, "trials": 2}
    with pytest.raises(ValueError, match="the sampler noted 'cma:optimizer:0', bytes that a resum"):
        search(
            build, SPACE, X, Y, resume=tmp_path / "a",
            sampler=lambda seed: Notes(seed, "80049500"), **options,
        )  # fmt: skip

    def sampler(seed):
        return Notes(seed, 3)

    seen = []
    expected = search(build, SPACE, X, Y, resume=tmp_path / "b", sampler=sampler, **options)
    file = tmp_path / "b" / "trial_0000" / "trial.json"
    text = file.read_text()
    assert '"cma:optimizer:0": 3' in text
    file.write_text(text.replace('"cma:optimizer:0": 3', '"cma:optimizer:0": "80049500"'))
    with pytest.MonkeyPatch.context() as patch:
        add = Study.add
        patch.setattr(Study, "add", lambda self, *of: (seen.append(of[1]), add(self, *of)))
        again = search(build, SPACE, X, Y, resume=tmp_path / "b", sampler=sampler, **options)
    assert again == expected
    assert [found.get("cma:optimizer:0") for found in seen] == [None, 3]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"pruner": optuna.pruners.MedianPruner(5)}, {"pruner": optuna.pruners.MedianPruner(9)}),
        ({"sampler": lambda seed: optuna.samplers.RandomSampler(seed)},
         {"sampler": lambda seed: optuna.samplers.TPESampler(seed=seed)}),
    ],
)  # fmt: skip
def test_other_samplers_and_pruners_are_refused(tmp_path, one, other) -> None:
    search(build, SPACE, X, Y, trials=1, resume=tmp_path, **one, **FIT)
    search(build, SPACE, X, Y, trials=1, resume=tmp_path, **one, **FIT)
    with pytest.raises(ValueError, match=f"'{next(iter(one))}' is .*, expected"):
        search(build, SPACE, X, Y, trials=1, resume=tmp_path, **other, **FIT)


def test_it_says_nothing_itself(capfd) -> None:
    search(build, SPACE, X, Y, trials=3, sampler="tpe", pruner="hyperband", **FIT)
    assert capfd.readouterr() == ("", "")
