"""Loaders, splits, scaling and data sets."""

import io
import sys

import numpy as np
import pytest
from onepass.data import (
    DataLoader,
    MinMax,
    Standardize,
    load,
    read_table,
    split_indices,
    train_test_split,
)
from onepass.runs._source import targets

N = 23
X = np.arange(2 * N, dtype=np.float32).reshape(N, 2)
Y = np.arange(N)


def samples(loader):
    return [y.tolist() for _, y in loader]


# Loaders.


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("sampling", ["epoch", "replacement", "cyclic"])
def test_order_is_a_function_of_seed_and_epoch(sampling, shuffle):
    def loader(seed=5):
        return DataLoader(X, Y, 4, shuffle, seed=seed, sampling=sampling)

    one, other = loader(), loader()
    epochs = [samples(one) for _ in range(4)]
    assert one.epoch == 4
    other.epoch = 2
    assert [samples(other), samples(other)] == epochs[2:]
    other.epoch = 0
    assert [samples(other) for _ in range(4)] == epochs
    moves = shuffle or sampling == "replacement"
    assert (loader(6).order(0) is not None) == moves
    if moves:
        assert samples(loader(6)) != epochs[0]
    changes = sampling == "replacement" or (shuffle and sampling == "epoch")
    assert (epochs[0] != epochs[1]) == changes


def test_order_is_pinned():
    """These numbers must never change: runs are resumed by later versions."""
    assert DataLoader(X, Y, N, True, seed=1).order(2)[:6].tolist() == [4, 11, 2, 19, 13, 16]
    draws = DataLoader(X, Y, N, seed=1, sampling="replacement").order(2)[:6].tolist()
    assert draws == [7, 8, 0, 22, 0, 9]


@pytest.mark.parametrize(("batch", "drop", "sizes"), [
    (5, False, [5, 5, 5, 5, 3]), (5, True, [5, 5, 5, 5]), (23, True, [23]), (40, False, [23]),
])  # fmt: skip
def test_batches(batch, drop, sizes):
    loader = DataLoader(X, Y, batch, True, drop)
    batches = list(loader)
    assert [len(y) for _, y in batches] == sizes
    assert len(loader) == len(sizes)
    assert loader.smallest_batch == min(sizes)
    seen = np.concatenate([y for _, y in batches])
    assert len(set(seen.tolist())) == sum(sizes)
    for x, y in batches:
        np.testing.assert_array_equal(x, X[y])


def test_starting_inside_an_epoch():
    loader = DataLoader(X, Y, 4, True)
    whole = [y.tolist() for _, y in loader.batches(3)]
    for start in range(len(loader) + 1):
        assert [y.tolist() for _, y in loader.batches(3, start)] == whole[start:]
    assert loader.epoch == 0


def test_replacement_is_uniform():
    loader = DataLoader(np.zeros(10), np.arange(10), 10, sampling="replacement")
    drawn = np.concatenate([loader.order(epoch) for epoch in range(2000)])
    counts = np.bincount(drawn, minlength=10)
    assert len(counts) == 10
    assert abs(counts - 2000).max() < 5 * 2000**0.5


def test_without_targets_and_without_copies():
    batches = list(DataLoader(X, batch_size=4))
    assert all(np.shares_memory(x, X) for x in batches)
    np.testing.assert_array_equal(np.concatenate(batches), X)


@pytest.mark.parametrize(("arguments", "kind", "words"), [
    ((X, Y[:-1]), ValueError, "22"), ((X[:0],), ValueError, "at least one sample"),
    (([1, 2],), TypeError, "list"), ((np.float32(1),), ValueError, "scalar"),
    ((X, Y, 0), ValueError, "'batch_size' is 0"), ((X, Y, 2.0), TypeError, "'batch_size' is 2.0"),
    ((X, Y, 30, False, True), ValueError, "drop_last"), ((X, Y, 4, True, False, -1), ValueError,
    "'seed' is -1"), ((X, Y, 4, True, False, 0, "random"), ValueError, "'random'"),
])  # fmt: skip
def test_wrong_loaders(arguments, kind, words):
    with pytest.raises(kind, match=words):
        DataLoader(*arguments)


@pytest.mark.parametrize("name", ["shuffle", "drop_last"])
def test_words_are_no_flags(name):
    with pytest.raises(TypeError, match=f"'{name}' is 'no', expected True or False"):
        DataLoader(X, **{name: "no"})


@pytest.mark.parametrize(("epoch", "kind"), [
    (-1, ValueError), (2**64, ValueError), (1.5, TypeError), ("a", TypeError), (None, TypeError),
])  # fmt: skip
def test_wrong_epochs_are_refused_where_they_are_set(epoch, kind):
    loader = DataLoader(X, shuffle=True)
    loader.epoch = 3
    with pytest.raises(kind, match=f"DataLoader: 'epoch' is {epoch!r}, expected a whole number"):
        loader.epoch = epoch
    assert loader.epoch == 3


# Splits.


def test_split_is_stratified():
    y = np.repeat([0, 1, 2, 3], [40, 24, 10, 1])
    train, test = split_indices(y, 0.25, seed=3)
    assert sorted([*train, *test]) == list(range(75))
    counts = np.bincount(y[test], minlength=4)
    assert len(test) == 19
    assert abs(counts[:3] - [10, 6, 2.5]).max() <= 1
    assert counts[3] == 0
    again = split_indices(y, 0.25, seed=3)
    np.testing.assert_array_equal(again[1], test)
    assert set(split_indices(y, 0.25, seed=4)[1]) != set(test)


def test_split_of_numbers():
    y = np.linspace(0, 1, 10)
    inputs = np.stack([y, y], 1)
    X_train, X_test, y_train, y_test = train_test_split(inputs, y, 0.3)
    assert (len(y_train), len(y_test)) == (7, 3)
    np.testing.assert_array_equal(X_test[:, 0], y_test)
    np.testing.assert_array_equal(X_train[:, 1], y_train)


@pytest.mark.parametrize(("y", "share", "words"), [
    (np.arange(4.0), 1.5, "1.5"), (np.arange(4.0), 0.01, "empty"),
])  # fmt: skip
def test_wrong_splits(y, share, words):
    with pytest.raises(ValueError, match=words):
        split_indices(y, share)


# Scaling.


@pytest.mark.parametrize("cls", [Standardize, MinMax])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
def test_scaling(cls, dtype):
    data = (np.random.default_rng(0).standard_normal((50, 3)) * 20 + 5).astype(dtype)
    data[:, 1] = 7
    scaling = cls().fit(data)
    scaled = scaling.transform(data)
    assert scaled.dtype == ("float64" if dtype == "int32" else dtype)
    exact = data.astype(np.float64)
    if cls is Standardize:
        std = exact.std(axis=0)
        expected = (exact - exact.mean(axis=0)) / np.where(std, std, 1)
        np.testing.assert_allclose(scaling.mean, exact.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(scaling.std, np.where(std, std, 1), rtol=1e-12)
    else:
        width = exact.max(axis=0) - exact.min(axis=0)
        expected = (exact - exact.min(axis=0)) / np.where(width, width, 1)
    tolerance = {"float16": 2e-3, "float32": 1e-6}.get(dtype, 1e-13)
    np.testing.assert_allclose(scaled, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(scaled[:, 1], 0)
    back = scaling.inverse_transform(scaled)
    np.testing.assert_allclose(back, exact, rtol=3 * tolerance, atol=40 * tolerance)
    np.testing.assert_array_equal(back[:, 1], 7)


@pytest.mark.parametrize("value", [0.1, 1e-300, 1e300, -123456.789])
def test_constant_columns_are_exact(value):
    data = np.full((7, 2), value)
    for scaling in (Standardize(), MinMax((-1, 1))):
        scaled = scaling.fit_transform(data)
        np.testing.assert_array_equal(scaled, -1 if isinstance(scaling, MinMax) else 0)
        np.testing.assert_array_equal(scaling.inverse_transform(scaled), data)


@pytest.mark.parametrize("factor", [1.0, 1e-20, 1e10, 2.0**1000, -3.0])
def test_a_column_that_is_constant_but_for_rounding_stays_so(factor):
    column = np.array([[0.3], [0.1 + 0.2], [0.3]]) * factor
    for scaling in (Standardize(), MinMax()):
        scaled = scaling.fit_transform(column)
        assert np.abs(scaled).max() <= 2e-16 * max(abs(factor), 1e-300)
        np.testing.assert_allclose(scaling.inverse_transform(scaled), column, rtol=1e-15)
    clear = np.array([[0.3], [0.3 * (1 + 1e-14)], [0.3]]) * factor
    np.testing.assert_allclose(np.ptp(MinMax().fit_transform(clear)), 1, rtol=0.1)


@pytest.mark.parametrize("cls", [Standardize, MinMax])
def test_samples_may_be_single_numbers(cls):
    """X is (N, …), so (N,) too."""
    for values in ([1.0, 2.0, 4.0], [7.0, 7.0, 7.0], [5.0]):
        row, column = np.array(values), np.array(values)[:, None]
        one, many = cls().fit(row), cls().fit(column)
        np.testing.assert_array_equal(one.transform(row), many.transform(column)[:, 0])
        np.testing.assert_allclose(one.inverse_transform(one.transform(row)), row, rtol=1e-15)
        if cls is Standardize:
            assert one.mean == many.mean[0]
            assert one.std == many.std[0]


def test_numbers_beyond_float64_are_refused():
    if np.finfo(np.longdouble).max == np.finfo(np.float64).max:
        pytest.skip("long double is float64 here")
    column = np.array([[1.0], [2.0]], np.longdouble)
    column[1] = np.longdouble(10) ** 4000
    with pytest.raises(ValueError, match="'X' holds inf in sample 1, column 0"):
        Standardize().fit(column)


def test_large_values_and_large_offsets():
    spread = np.array([[1.0], [2.0], [4.0]])
    expected = Standardize().fit_transform(spread)
    np.testing.assert_allclose(Standardize().fit_transform(spread * 1e300), expected, rtol=1e-14)
    np.testing.assert_allclose(Standardize().fit_transform(spread + 2**20), expected, rtol=1e-9)


def test_range_and_shape_of_samples():
    images = np.random.default_rng(1).random((9, 2, 3)).astype(np.float32)
    scaled = MinMax((2, 5)).fit_transform(images)
    assert scaled.shape == images.shape
    np.testing.assert_allclose([scaled.min(axis=0), scaled.max(axis=0)],
                               [np.full((2, 3), 2), np.full((2, 3), 5)], rtol=1e-6)  # fmt: skip


def test_wrong_scaling():
    with pytest.raises(RuntimeError, match="before fit"):
        Standardize().transform(X)
    with pytest.raises(ValueError, match=r"\(3,\)"):
        Standardize().fit(X).transform(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="sample 1, column 0"):
        Standardize().fit(np.array([[1.0], [np.nan]]))
    with pytest.raises(ValueError, match="at least one sample"):
        MinMax().fit(X[:0])
    with pytest.raises(ValueError, match="low < high"):
        MinMax((1, 1))
    for wrong in ((1,), (0, 1, 2), 5):
        with pytest.raises(ValueError, match=r"'feature_range' is .*expected \(low, high\)"):
            MinMax(wrong)
    with pytest.raises(TypeError, match=r"'feature_range\[1\]' is 'b'"):
        MinMax((0, "b"))


# Data sets.


@pytest.mark.parametrize(("name", "shape", "classes"), [
    ("digits", (1797, 64), 10), ("breast_cancer", (569, 30), 2),
    ("wine", (178, 13), 3), ("diabetes", (442, 10), None),
])  # fmt: skip
def test_bundled(name, shape, classes):
    pytest.importorskip("sklearn")
    data = load(name)
    assert data.X.shape == shape
    assert len(data.feature_names) == shape[1]
    assert data.task == ("classification" if classes else "regression")
    if classes:
        assert len(data.classes) == classes
        assert data.y.dtype == np.int64
        assert np.unique(data.y).tolist() == list(range(classes))
    else:
        assert data.y.dtype == np.float64
        assert data.classes is None


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        load("digits")


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_with_classes(tmp_path):
    path = write(tmp_path / "a.csv", "\ufeffage, kind ,height\n1,cat,2.5\n\n3,dog,1e2\n4,cat,-1\n")
    data = load(path, "kind")
    assert (data.name, data.target, data.feature_names) == ("a", "kind", ("age", "height"))
    np.testing.assert_array_equal(data.X, [[1, 2.5], [3, 100], [4, -1]])
    assert data.classes == ("cat", "dog")
    assert data.y.tolist() == [0, 1, 0]


def test_csv_with_numbers(tmp_path):
    path = write(tmp_path / "a.csv", "a;b\n1;0.5\n2;0.25\n")
    data = load(path)
    assert (data.task, data.target, data.y.tolist()) == ("regression", "b", [0.5, 0.25])


def test_whole_numbers_are_classes_where_they_repeat(tmp_path):
    few = write(tmp_path / "few.csv", "x,y\n" + "".join(f"{i},{i % 3 + 4}\n" for i in range(9)))
    assert load(few).classes == ("4", "5", "6")
    assert load(few).y.tolist() == [0, 1, 2] * 3
    assert load(few, task="regression").y.tolist() == [4, 5, 6] * 3
    for cells in ("010", "0120", "771"):
        tiny = write(
            tmp_path / "tiny.csv", "x,y\n" + "".join(f"{i},{c}\n" for i, c in enumerate(cells))
        )
        assert load(tiny).classes == tuple(sorted(set(cells)))
    wide = [*range(33), 0]
    path = write(tmp_path / "wide.csv", "x,y\n" + "".join(f"{i},{c}\n" for i, c in enumerate(wide)))
    assert load(path).task == "regression"
    many = write(tmp_path / "many.tsv", "x\ty\n" + "".join(f"{i}\t{i}\n" for i in range(9)))
    assert load(many).task == "regression"
    assert len(load(many, task="classification").classes) == 9


TABLES = {
    "a,b\n1,2\n3,\n": "column 'b', row 2: missing value ''",
    "a,b\n1,2\nNaN,4\n": "column 'a', row 2: missing value 'NaN'",
    "a,b\n1,2\n?,4\n": "column 'a', row 2: missing value",
    "a,b\nred,2\n3,4\n": "column 'a', row 1: 'red' is not a finite number.*correct the cell",
    "a,b\nred,2\nblue,4\nred,5\nblue,6\n": "column 'a', row 1: 'red' is not a .*one-hot",
    "a,b\ninf,2\n3,4\n": "column 'a', row 1: 'inf'",
    "1,2\n3,4\n": "header",
    "a,b\n": "at least one row",
    "": "at least one row",
    "a\n1\n": "one column",
    "a,a\n1,2\n": "two columns are called 'a'",
    "a,,b\n1,2,3\n": "column 2 has no name",
    ",b\n1,2\n": "one column, 'b'",
    "a,b\n1,2,3\n": "2 names of columns, and rows of 3 cells",
    "a,b\n1,x\n2,x\n": "one class x",
}


@pytest.mark.parametrize("text", TABLES, ids=repr)
def test_wrong_tables(tmp_path, text):
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(ValueError, match=TABLES[text]) as error:
        load(path)
    assert "t.csv" in str(error.value)


def test_wrong_names(tmp_path):
    path = write(tmp_path / "t.csv", "age,weight\n1,2\n")
    with pytest.raises(ValueError, match=r"no column 'wieght'.*did you mean 'weight'"):
        load(path, "wieght")
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        load(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        load("digit")
    with pytest.raises(ValueError, match="load: 'task' is 'ranking', expected"):
        load(path, task="ranking")
    (tmp_path / "latin.csv").write_bytes(b"a,b\n1,\xe9\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        load(tmp_path / "latin.csv")


def test_npz(tmp_path):
    images = np.random.default_rng(0).random((6, 1, 2, 2)).astype(np.float32)
    np.savez(tmp_path / "a.npz", X=images, y=np.array(["b", "a"] * 3), z=np.linspace(0, 1, 6))
    data = load(tmp_path / "a.npz")
    np.testing.assert_array_equal(data.X, images)
    assert (data.classes, data.y.tolist()) == (("a", "b"), [1, 0] * 3)
    assert load(tmp_path / "a.npz", "z").task == "regression"


@pytest.mark.parametrize(("values", "task"), [
    (np.array([0, 1, 0, 5]), "classification"), (np.arange(4), "classification"),
    (np.array([True, False, True, True]), "classification"),
    (np.array([0, 1, 0, 1], np.float32), "regression"), (np.linspace(0, 1, 4), "regression"),
])  # fmt: skip
def test_npz_tasks_follow_the_dtype(tmp_path, values, task):
    np.savez(tmp_path / "a.npz", X=np.ones((4, 2)), y=values)
    assert load(tmp_path / "a.npz").task == task
    other = "regression" if task == "classification" else "classification"
    assert load(tmp_path / "a.npz", task=other).task == other


@pytest.mark.parametrize("values", [
    [True, False, True, True], [10, 9, 9, -1], [1.0, 2.5, 2.5, 10.0], ["b", "a", "NA", "b"],
    ["007", "7", "07", "7"], ["2", "10", "2", "10"], [2**62 + 1, 2**62, 2**62, 7],
    np.array([b"b", b"a", b"b", b"c"]),
], ids=str)  # fmt: skip
def test_an_array_has_the_classes_of_a_table_with_its_cells(tmp_path, values):
    """Where it is trained on, and where a run is evaluated on it."""
    values = np.array(values)
    np.savez(tmp_path / "a.npz", X=np.ones((4, 2)), y=values)
    cells = values.astype(str) if values.dtype.kind == "S" else values
    rows = "".join(f"{i},{cell}\n" for i, cell in enumerate(cells.tolist()))
    rows = rows.replace(".0\n", "\n")  # 1.0 of an array is 1
    table = read_table(io.StringIO(f"a,y\n{rows}"), task="classification")
    data = load(tmp_path / "a.npz", task="classification")
    assert data.classes == table.classes
    assert data.y.tolist() == table.y.tolist()
    found = targets(values[::-1], table.encoding)
    assert found.tolist() == table.y[::-1].tolist()
    if values.dtype.kind != "b":
        with pytest.raises(ValueError, match="column 'y', row 2: '99' is not a class of the trai"):
            targets(np.array([*values.tolist()[:1], cells.dtype.type(99)]), table.encoding)


def test_an_array_of_classes_holds_no_gap(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.ones((3, 2)), y=np.array(["a", "", "b"]))
    with pytest.raises(ValueError, match=r"a.npz: 'y' holds a missing value in row 2"):
        load(tmp_path / "a.npz")


def test_a_data_set_unpacks(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.ones((4, 2)), y=np.arange(4))
    data = load(tmp_path / "a.npz")
    inputs, targets = data
    assert inputs is data.X
    assert targets is data.y


def test_wrong_npz(tmp_path):
    def refused(words, **arrays):
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(ValueError, match=words) as error:
            load(tmp_path / "a.npz")
        assert "a.npz" in str(error.value)

    refused("no array 'X'", y=Y)
    refused("no array 'y'", X=X)
    refused("shape \\(22,\\)", X=X, y=Y[:-1])
    refused("shape \\(23,\\)", X=Y, y=Y)
    refused("X is float64 of shape \\(4, 0\\)", X=np.ones((4, 0)), y=np.arange(4))
    refused("X holds a missing", X=np.full((4, 1), np.nan), y=np.arange(4))
    refused("pickle", X=np.array([[object()]]), y=Y[:1])
    np.save(tmp_path / "array.npy", X)
    for content in (b"PK\x03\x04 no archive", b"", (tmp_path / "array.npy").read_bytes()):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz"):
            load(tmp_path / "a.npz")
