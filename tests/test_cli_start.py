"""``onepass train --init``, ``--init-from`` and ``--freeze``: where a run's weights begin."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onepass
import pytest
from onepass import nn
from onepass.cli import main
from onepass.data import MinMax, Standardize, Whiten
from onepass.runs import _cross_validation
from onepass.runs._fitting import Fitting
from onepass.runs._options import Options
from onepass.runs._recipe import Recipe
from small_models import assert_same

FAST = ["--epochs", "2", "--quiet"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 120))
    y = np.where(a + b > 0, "yes", "no")
    write("t.csv", "a,b,y", a, b, y)
    write("same.csv", "a,b,y", 5 * a + 3, b, np.where(a > 0, "yes", "no"))
    write("other.csv", "a,b,z", a[:90], b[:90], np.where(a > b, "up", "down"))
    write("n.csv", "a,b,y", a, b, a - b)
    write("m.csv", "b,a,y", b, a, y)
    return tmp_path


def write(name, header, *columns):
    rows = zip(*(c.tolist() for c in columns), strict=False)
    Path(name).write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")


@pytest.fixture
def run(here, capsys):
    def call(*arguments, status=0):
        assert main(["train", *arguments, *FAST]) == status, capsys.readouterr()
        shown = capsys.readouterr()
        assert len(shown.err.splitlines()) == bool(status), shown.err
        return shown.err if status else shown.out

    return call


def state(folder):
    return onepass.load_run(folder).model.state_dict()


def test_init_draws_the_weights_of_the_network(here):
    given = {"data": "t.csv", "hidden": (8, 4), "seed": 3, "norm": "none", "activation": "selu"}
    model = Recipe({**given, "init": "auto"}, Path("r")).fitting.model
    twin = nn.Sequential(*(type(layer)(*_sizes(layer)) for layer in model))
    nn.init.apply(twin, "auto", seed=3)
    assert_same(model.state_dict(), twin.state_dict())
    plain = Recipe(given, Path("q")).fitting.model
    assert (plain[0].bias.data != 0).all()
    record = json.loads(Path("r/run.json").read_text())
    assert record["options"]["init"] == "auto"


def _sizes(layer):
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return (layer.p,) if isinstance(layer, nn.Dropout) else ()


def test_a_run_begins_with_the_weights_network_and_scale_of_another(run):
    run("t.csv", "--hidden", "8,4", "--activation", "gelu", "--dropout", "0.1", "--out", "a")
    run("same.csv", "--init-from", "a", "--freeze", "2", "--dropout", "0", "--out", "b")
    old, new = onepass.load_run("a"), onepass.load_run("b")
    assert new.about["architecture"] == {**old.about["architecture"], "dropout": 0.0}
    np.testing.assert_array_equal(old.scale.mean, new.scale.mean)
    layers = [[layer for layer in r.model if layer.state_dict()] for r in (old, new)]
    assert [len(x) for x in layers] == [5, 5]
    for before, after in zip(*(x[:4] for x in layers), strict=True):
        assert_same(before.state_dict(), after.state_dict())
    before, after = (x[4].weight.data for x in layers)
    assert (before != after).any()
    assert np.abs(before - after).max() < 0.1  # it went on from the weights of before
    record = json.loads(Path("b/run.json").read_text())["options"]
    assert (record["init_from"], record["freeze"], record["hidden"]) == ("a", 2, [8, 4])


def test_another_target_has_a_last_layer_of_its_own(here):
    assert main(["train", "t.csv", "--hidden", "8", *FAST, "--out", "a"]) == 0
    for data, outputs in (("other.csv", 2), ("n.csv", 1)):
        recipe = Recipe({"data": data, "init_from": "a", "freeze": 1}, Path(f"r-{data}"))
        model, old = recipe.fitting.model, onepass.load_run("a").model
        assert_same(model[0].state_dict(), old[0].state_dict())
        assert_same(model[1].state_dict(), old[1].state_dict())
        assert model[-1].out_features == outputs
        assert not np.isin(model[-1].weight.data, old[-1].weight.data).any()
        trained = [name for name, p in model.named_parameters() if p.requires_grad]
        assert trained == ["4.weight", "4.bias"]
        assert "the last layer is new; the first 1 layer stays as before" in recipe.describe()


def test_a_regression_goes_on_in_the_unit_of_before(here):
    assert main(["train", "n.csv", "--hidden", "8", *FAST, "--out", "a"]) == 0
    recipe = Recipe({"data": "n.csv", "init_from": "a", "seed": 1}, Path("b"))
    old = onepass.load_run("a")
    np.testing.assert_array_equal(recipe.parts.target_scale.mean, old.target_scale.mean)
    assert_same(recipe.fitting.model[-1].state_dict(), old.model[-1].state_dict())
    assert "was trained on rows that are held out here" in recipe.describe()
    quiet = Recipe({"data": "n.csv", "init_from": "a"}, Path("c"))
    assert "held out here" not in quiet.describe()
    folds = Recipe({"data": "n.csv", "init_from": "a", "cv": 3, "init": "AUTO"}, Path("d"))
    assert "held out here: folds will look too good" in folds.describe()
    assert "--init auto has no effect: no layer is new" in folds.describe()


def test_a_resume_is_the_run_that_was_not_interrupted(run):
    run("t.csv", "--hidden", "8,4", "--out", "a")
    begin = ["same.csv", "--init-from", "a", "--freeze", "1", "--init", "orthogonal"]
    assert main(["train", *begin, "--out", "whole", "--epochs", "4", "--quiet"]) == 0
    stopped = Recipe(
        {**vars(Options.of({"data": "same.csv"})), "init_from": "a", "freeze": 1,
         "init": "orthogonal", "epochs": 4, "hidden": (8, 4)},
        Path("cut"), progress=False,
    )  # fmt: skip

    class Cut(onepass.train.Callback):
        def on_epoch_begin(self, run):
            if run.epoch == 2:
                raise KeyboardInterrupt

    stopped.trainer.callbacks.append(Cut())
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    stopped.folder.close()
    shutil.rmtree("a")  # its weights are kept with the run
    assert main(["train", "--resume", "--out", "cut", "--quiet"]) == 0
    assert_same(state("cut"), state("whole"))
    error = run("--resume", "--out", "cut", "--freeze", "2", status=2)
    assert "was started with --freeze 1; --resume cannot go on with --freeze 2" in error


def test_a_resume_without_the_copy_looks_for_the_run(here):
    assert main(["train", "t.csv", "--hidden", "8", *FAST, "--out", "a"]) == 0
    assert main(["train", "same.csv", "--init-from", "a", *FAST, "--out", "b"]) == 0
    (here / "b" / "start.npz").unlink()
    recipe = Recipe({}, here / "b", resume=True)
    assert recipe.start.run.about["data"] == "t.csv"
    recipe.folder.close()
    shutil.rmtree("a")
    (here / "b" / "start.npz").unlink()
    with pytest.raises(FileNotFoundError, match="a: no such folder, expected that of a run"):
        Recipe({}, here / "b", resume=True)


def test_a_record_from_before_an_option_has_its_default(run):
    run("t.csv", "--hidden", "8", "--out", "a")
    path = Path("a/run.json")
    record = json.loads(path.read_text())
    for name in ("init", "init_from", "freeze", "preprocess"):
        del record["options"][name]
    path.write_text(json.dumps(record))
    error = run("--resume", "--out", "a", "--preprocess", "zca", status=2)
    assert "--preprocess standardize; --resume cannot go on with --preprocess zca" in error
    error = run("--resume", "--out", "a", "--init", "auto", status=2)
    assert "was started with no --init; --resume cannot go on with --init auto" in error
    run("--resume", "--out", "a")


def test_a_run_replaces_the_one_it_began_with(run):
    run("t.csv", "--hidden", "8", "--out", "a")
    before = state("a")
    run("same.csv", "--init-from", "a", "--freeze", "1", "--out", "a", "--overwrite")
    assert_same({k: v for k, v in before.items() if k[0] in "01"},
                {k: v for k, v in state("a").items() if k[0] in "01"})  # fmt: skip
    assert onepass.load_run("a").about["data"] == "same.csv"


def test_folds_begin_with_the_weights_too(run, monkeypatch):
    run("t.csv", "--hidden", "8", "--out", "a")
    fitted = []

    class Watched(Fitting):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            fitted.append(self.model)

    monkeypatch.setattr(_cross_validation, "Fitting", Watched)
    shown = run("same.csv", "--init-from", "a", "--freeze", "1", "--cv", "2", "--out", "b")
    assert "2 folds" in shown
    assert len(fitted) == 2
    for model in fitted:
        assert_same(model[0].state_dict(), onepass.load_run("a").model[0].state_dict())


WRONG = [
    (["t.csv", "--init", "kaimin_normal"], "'--init' is 'kaimin_normal', expected one of auto, "),
    (["t.csv", "--init-from", "aa"], "aa: no such folder, expected that of a run; did you mean"),
    (["t.csv", "--init-from", "."], "holds no run (model.npz is missing)"),
    (["t.csv", "--init-from", "a", "--hidden", "8,8"], "'--hidden' is 8,8, expected 8,4 as in the"),
    (["t.csv", "--init-from", "a", "--norm", "none"], "'--norm' is none, expected batch as in"),
    (["t.csv", "--init-from", "a", "--activation", "tanh"], "'--activation' is tanh, expected r"),
    (["m.csv", "--init-from", "a"], "whose 2 inputs are 'a', 'b', expected those of the data, 2: "),
    (["t.csv", "--init-from", "a", "--drop", "b"], "expected those of the data, 1: 'a'"),
    (["t.csv", "--init-from", "a", "--freeze", "3"], "'--freeze' is 3, expected at most 2, the"),
    (["t.csv", "--freeze", "1"], "'--freeze' is given, expected --init-from with it"),
    (["t.csv", "--init-from", "a", "--freeze", "-1"], "'--freeze' is -1, expected a whole number"),
    (["t.csv", "--init-from", ""], "'--init-from' is empty, expected a path"),
]


def test_errors_are_one_line_and_leave_no_folder(run):
    run("t.csv", "--hidden", "8,4", "--out", "a")
    for options, message in WRONG:
        assert message in run(*options, "--out", "new", status=2)
        assert not Path("new").exists()


def test_a_damaged_run_is_one_line(run):
    run("t.csv", "--hidden", "8,4", "--out", "a")
    Path("a/model.npz").write_bytes(b"PK")
    assert "is damaged" in run("t.csv", "--init-from", "a", "--out", "new", status=2)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("minmax", MinMax()), ("whiten", Whiten()), ("zca", Whiten("zca")), (None, Standardize())],
)
def test_preprocess_scales_the_inputs_of_training_and_prediction(run, name, kind):
    chosen = ["--preprocess", name] if name else []
    run("t.csv", "--hidden", "8", "--out", "a", *chosen)
    saved = onepass.load_run("a")
    recipe = Recipe({"data": "t.csv", **({"preprocess": name} if name else {})}, Path("x"))
    parts = recipe.parts
    kind.fit(parts.X[parts.train])
    want = kind.transform(parts.X).astype(np.float32)
    np.testing.assert_array_equal(parts.inputs(np.arange(len(parts.X))), want)
    outputs = saved.model(want)
    np.testing.assert_allclose(saved.outputs(parts.X), outputs, rtol=1e-5, atol=1e-5)
    assert repr(saved.scale) == repr(kind)
    run("--resume", "--out", "a", *chosen)
    begun = Recipe({"data": "same.csv", "init_from": "a"}, Path("y"))
    assert repr(begun.parts.scale) == repr(kind)


def test_whitening_may_leave_fewer_inputs_and_refuses_what_is_far(run):
    rows = np.random.default_rng(0).standard_normal((12, 30))
    header = ",".join([*(f"x{i}" for i in range(30)), "y"])
    write("wide.csv", header, *rows.T, np.arange(12) % 2)
    run("wide.csv", "--hidden", "4", "--preprocess", "whiten", "--out", "a", "--norm", "none")
    saved = onepass.load_run("a")
    assert saved.about["architecture"]["inputs"] == len(saved.scale.spread) < 12
    assert saved.predict(rows).shape == (12,)
    with pytest.raises(ValueError, match="row 3 is too far from the training data"):
        saved.predict(np.where(np.arange(12)[:, None] == 2, 1e60, rows))
    message = run("wide.csv", "--init-from", "a", "--preprocess", "zca", status=2)
    assert "'--preprocess' is zca, expected whiten as in the run of --init-from, a" in message
