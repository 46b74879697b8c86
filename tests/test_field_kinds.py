"""What users of other libraries reported in public, in kinds other than the reported one."""

import numpy as np
import pytest
from onepass import nn, ops, optim
from onepass.data import DataLoader, MinMax, Standardize, load, read_table, train_test_split
from onepass.optim import lr_scheduler
from onepass.train import Trainer

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def trainer(outputs=2, loss=None, **options):
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs))
    loss = loss or nn.CrossEntropyLoss()
    return Trainer(model, loss, optim.SGD(model.parameters(), lr=0.1), progress=False, **options)


def squares(y, target):
    """A loss of one's own, over targets of shape (N,)."""
    error = y[:, 0] - target
    return float(np.mean(error**2)), (2 * error / len(error)).astype(y.dtype)[:, None]


def samples(outputs, targets):
    return float(len(targets))


# ---------------------------------------------------------------- validation_split of whole numbers


@pytest.mark.parametrize(
    "target",
    [
        np.arange(40) * 7,
        np.r_[np.arange(39) * 7, 7],
        RNG.poisson(3, 40),
        np.repeat(np.arange(20), 2),
        (np.arange(40) % 3).astype(np.uint8),
        np.arange(40) % 2 == 0,
    ],
    ids=["all differ", "one twice", "counts", "pairs", "bytes", "true and false"],
)
def test_a_quarter_is_held_out_of_whole_numbers_of_any_kind(target):
    t = trainer(1, squares, metrics={"samples": samples})
    history = t.fit(X, target, max_epochs=1, validation_split=0.25)
    assert (history["samples"], history["val_samples"]) == ([30.0], [10.0])


@pytest.mark.parametrize("rare", [1, 2])
def test_a_quarter_is_held_out_where_a_class_is_rare_or_labels_are_ignored(rare):
    for label in (1, -100):
        y = np.zeros(40, np.int64)
        y[:rare] = label
        history = trainer(metrics={"samples": samples}).fit(
            X, y, max_epochs=1, validation_split=0.25
        )
        assert history["val_samples"] == [10.0]


# ------------------------------------------------------------------------------- pandas by position


def shuffled(pandas, values, seed):
    return pandas.Series(values, index=np.random.default_rng(seed).permutation(len(values)))


def test_weights_of_samples_are_taken_by_position():
    pandas = pytest.importorskip("pandas")
    weights = np.linspace(0.1, 2, 40)
    want = trainer().fit(X, Y, max_epochs=2, sample_weight=weights)["loss"]
    given = shuffled(pandas, weights, 1)
    assert trainer().fit(X, Y, max_epochs=2, sample_weight=given)["loss"] == want


def test_frames_with_indices_of_any_kind_train_alike():
    pandas = pytest.importorskip("pandas")
    want = trainer().fit(X, Y, max_epochs=2, validation_split=0.25)["loss"]
    for index in (np.zeros(40, int), [f"row {i}" for i in range(40)][::-1],
                  pandas.date_range("2024", periods=40)[::-1],
                  pandas.MultiIndex.from_arrays([range(40), range(40, 0, -1)])):  # fmt: skip
        frame, series = pandas.DataFrame(X, index=index), pandas.Series(Y, index=index[::-1])
        assert trainer().fit(frame, series, max_epochs=2, validation_split=0.25)["loss"] == want


def test_a_loader_and_a_split_keep_each_rows_target():
    pandas = pytest.importorskip("pandas")
    x, y = np.arange(40.0)[:, None], np.arange(40) * 10
    frame = pandas.DataFrame(x, index=np.arange(40)[::-1])
    series = shuffled(pandas, y, 2)
    for inputs, targets in DataLoader(frame, series, batch_size=7, shuffle=True):
        np.testing.assert_array_equal(np.asarray(inputs)[:, 0] * 10, targets)
    a, b, c, d = map(np.asarray, train_test_split(frame, series, seed=3))
    np.testing.assert_array_equal(a[:, 0] * 10, c)
    np.testing.assert_array_equal(b[:, 0] * 10, d)


def test_evaluate_and_predict_take_frames_by_position():
    pandas = pytest.importorskip("pandas")
    t = trainer(metrics=["accuracy", "auc"])
    frame, series = pandas.DataFrame(X, index=np.arange(40)[::-1]), shuffled(pandas, Y, 3)
    assert t.evaluate(frame, series) == t.evaluate(X, Y)
    np.testing.assert_array_equal(t.predict(frame), t.predict(X))


# ------------------------------------------------------------------------------------ masked values


MASKED = np.ma.masked_less(X, 0)
TAKES = {
    "fit": lambda: trainer().fit(MASKED, Y, max_epochs=1),
    "targets": lambda: trainer().fit(X, np.ma.masked_equal(Y, 1), max_epochs=1),
    "validation": lambda: trainer().fit(X, Y, max_epochs=1, validation_data=(MASKED, Y)),
    "weights": lambda: trainer().fit(
        X, Y, max_epochs=1, sample_weight=np.ma.masked_less(X[:, 0], 0)
    ),
    "predict": lambda: trainer().predict(MASKED),
    "evaluate": lambda: trainer().evaluate(MASKED, Y),
    "Standardize": lambda: Standardize().fit_transform(MASKED),
    "MinMax": lambda: MinMax().fit(X).transform(MASKED),
    "DataLoader": lambda: DataLoader(MASKED, Y),
    "split": lambda: train_test_split(MASKED, Y),
    "ops": lambda: ops.relu(MASKED),
    "norm": lambda: ops.global_norm([MASKED]),
    "step": lambda: optim.SGD([X.copy()], lr=0.1).step([MASKED]),
    "parameter": lambda: optim.SGD([MASKED.copy()], lr=0.1),
}


@pytest.mark.parametrize("name", TAKES)
def test_masked_values_count_nowhere_as_numbers(name):
    with pytest.raises(TypeError, match="is a MaskedArray"):
        TAKES[name]()


# ------------------------------------------------------------------------------------------- quotes


@pytest.mark.parametrize("sep", [",", ";", "\t"])
@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("row", [0, 4, 9])
def test_an_unclosed_quote_anywhere_loses_no_row(tmp_path, sep, column, row):
    rows = [[str(i), f"{2 * i}", ("red", "blue")[i % 2]] for i in range(10)]
    rows[row][column] = '"' + rows[row][column]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(map(sep.join, [["i", "x", "c"], *rows])) + "\n")
    with pytest.raises(ValueError, match=rf"line {row + 2}: .*quote"):
        load(path)


# -------------------------------------------------------------------------------------- odd numbers


@pytest.mark.parametrize("cell", ["1_2", "0b1", "0o7", "1e", "e5", ".", "+", "1.2.3", "1j", "(1)",
                                  "\u0663", "\uff13", "1\u200b2", "True1"])  # fmt: skip
@pytest.mark.parametrize("place", ["a feature", "the target"])
def test_what_is_no_number_of_a_file_is_told_with_its_place(tmp_path, cell, place):
    feature = place == "a feature"
    rows = [(f"{i}.5", f"{i}.25") for i in range(12)]
    rows[5] = (cell, rows[5][1]) if feature else (rows[5][0], cell)
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "".join(f"{a},{y}\n" for a, y in rows), encoding="utf-8")
    with pytest.raises(ValueError, match=f"column '{'a' if feature else 'y'}', row 6: "):
        read_table(path)


# ------------------------------------------------------------------------------ rates and schedules


def rates(schedule, values):
    seen = []
    for value in values:
        schedule.step(value)
        seen.append(schedule.optimizer.param_groups[0]["lr"])
    return seen


@pytest.mark.parametrize("size", [1.0, 1e-300, 5e-324, 1e-8, 1.7e308, 0.0])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_value_that_stays_is_a_plateau_at_any_magnitude(size, sign, mode):
    optimizer = optim.SGD([np.ones(2)], lr=1.0)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, patience=2, mode=mode)
    assert rates(schedule, [sign * size] * 6) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1])


@pytest.mark.parametrize("at", [0, 3])
def test_a_value_that_is_nan_or_infinite_is_no_progress(at):
    for bad in (np.nan, np.inf):
        optimizer = optim.SGD([np.ones(2)], lr=1.0)
        schedule = lr_scheduler.ReduceLROnPlateau(optimizer, patience=2)
        values = [-1.0 - i for i in range(at)] + [bad] * (4 if at == 0 else 3)
        assert rates(schedule, values)[-1] == pytest.approx(0.1)
        assert rates(schedule, [-9.0, -10.0]) == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"div_factor": 0.0}, "'div_factor' is 0.0, expected a number > 0"),
        ({"div_factor": np.inf}, "'div_factor' is inf"),
        ({"final_div_factor": -1}, "'final_div_factor' is -1"),
        ({"pct_start": 1.5}, "'pct_start' is 1.5, expected a number >= 0 and <= 1"),
        ({"max_lr": np.nan}, "'max_lr' is nan"),
        ({"max_lr": 0}, "'max_lr' is 0"),
        ({"total_steps": 0}, "'total_steps' is 0"),
        ({"base_momentum": 1.0}, "'base_momentum' is 1.0"),
    ],
)
def test_one_cycle_names_what_it_cannot_use(options, named):
    optimizer = optim.SGD([np.ones(2)], lr=1.0, momentum=0.9)
    with pytest.raises(ValueError, match=named):
        lr_scheduler.OneCycleLR(optimizer, **{"max_lr": 1.0, "total_steps": 10, **options})
    assert optimizer.param_groups[0]["lr"] == 1.0
    assert "initial_lr" not in optimizer.param_groups[0]


# ------------------------------------------------------------------------------------------ metrics


def in_a_column(y, target):
    return ops.cross_entropy(y, target.reshape(-1))


@pytest.mark.parametrize(
    "name", ["accuracy", "balanced_accuracy", "f1", "auc", "top_1_accuracy", "cohen_kappa_score"]
)
def test_labels_in_a_column_give_the_numbers_of_labels_in_a_row(name):
    if name == "cohen_kappa_score":
        pytest.importorskip("sklearn")
    row = trainer(metrics=[name]).evaluate(X, Y)[name]
    column = trainer(2, in_a_column, metrics=[name]).evaluate(X, Y[:, None], batch_size=7)[name]
    assert column == pytest.approx(row)


@pytest.mark.parametrize("name", ["mae", "mse", "rmse", "r2", "max_error"])
def test_numbers_in_a_row_give_the_errors_of_numbers_in_a_column(name):
    """(N, 1) - (N,) would be (N, N)."""
    if name == "max_error":
        pytest.importorskip("sklearn")
    row = trainer(1, squares, metrics=[name]).evaluate(X, X[:, 1], batch_size=7)[name]
    column = trainer(1, nn.MSELoss(), metrics=[name]).evaluate(X, X[:, 1:2])[name]
    assert row == pytest.approx(column, rel=1e-5)
