"""Data in the types that people have: taken by position, or refused by the name of the type."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from onepass import nn, optim
from onepass.data import DataLoader, MinMax, Standardize, split_indices, train_test_split
from onepass.data._given import array_of
from onepass.train import Trainer

X = np.arange(40.0).reshape(20, 2)
Y = np.arange(20) % 2


def trainer():
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2))
    return Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=1e-3),
                   progress=False)  # fmt: skip


CALLS = {
    "fit": lambda x: trainer().fit(x, Y, max_epochs=1),
    "evaluate": lambda x: trainer().evaluate(x, Y),
    "predict": lambda x: trainer().predict(x),
    "DataLoader": lambda x: DataLoader(x, Y),
    "Standardize": lambda x: Standardize().fit(x),
    "MinMax": lambda x: MinMax().fit(X).transform(x),
    "train_test_split": lambda x: train_test_split(x, Y),
}
each_call = pytest.mark.parametrize("call", CALLS)


def odd_inputs():
    sparse = pytest.importorskip("scipy.sparse")
    pandas = pytest.importorskip("pandas")
    masked = np.ma.masked_equal(X, 7)
    return {
        "sparse": (sparse.csr_matrix(X), TypeError, "is a csr_matrix, expected an array"),
        "sparse array": (sparse.coo_array(X), TypeError, "is a coo_array, expected an array"),
        "list": (X.tolist(), TypeError, "is a list, expected an array"),
        "dict": ({"a": X}, TypeError, "is a dict, expected an array"),
        "masked": (masked, TypeError, "is a MaskedArray with masked values"),
        "complex": (X + 1j, TypeError, "has dtype complex128, expected real numbers"),
        "object": (X.astype(object), TypeError, "has dtype object.*astype"),
        "text": (X.astype(str), TypeError, "has dtype <U.*encode the text"),
        "dates": (X.astype("M8[s]"), TypeError, "has dtype datetime64"),
        "fields": (np.zeros(20, [("a", "f4")]), TypeError, "has dtype .*fields"),
        "frame of text": (pandas.DataFrame({"a": X[:, 0], "b": ["x"] * 20}), TypeError,
                          "has other things than numbers in column 'b'"),
    }  # fmt: skip


@each_call
@pytest.mark.parametrize("kind", [
    "sparse", "sparse array", "list", "dict", "masked", "complex", "object", "text", "dates",
    "fields", "frame of text",
])  # fmt: skip
def test_odd_arrays_are_refused_by_the_name_of_their_type(call, kind):
    value, error, words = odd_inputs()[kind]
    with pytest.raises(error, match=f"{call}: 'X' {words}" if kind != "dict" else words):
        CALLS[call](value)


@each_call
def test_masked_values_do_not_count_where_none_is_masked(call):
    CALLS[call](np.ma.array(X))


def test_masked_values_are_not_taken_for_numbers():
    given = np.ma.masked_equal([[1, -9999], [2, 5], [3, 7]], -9999)
    with pytest.raises(TypeError, match="fill them"):
        Standardize().fit_transform(given)
    with pytest.raises(TypeError, match="fill them"):
        Standardize().fit(X).transform(np.ma.masked_equal(X, 3))
    with pytest.raises(TypeError, match="'y' is a MaskedArray"):
        trainer().fit(X, np.ma.masked_equal(Y, 1), max_epochs=1)


# ------------------------------------------------------------------------------- frames, series


@pytest.fixture
def frame():
    pandas = pytest.importorskip("pandas")
    index = np.random.default_rng(0).permutation(20)
    return pandas.DataFrame(X, index=index, columns=["a", "b"]), pandas.Series(Y, index=index)


def test_a_shuffled_index_does_not_mix_up_the_rows(frame):
    pandas = pytest.importorskip("pandas")
    x = np.arange(20.0)[:, None]
    index = np.random.default_rng(1).permutation(20)
    y = pandas.Series(np.arange(20) * 10, index=index)
    x_train, x_test, y_train, y_test = train_test_split(x, y)
    np.testing.assert_array_equal(y_train.to_numpy(), x_train[:, 0] * 10)
    np.testing.assert_array_equal(y_test.to_numpy(), x_test[:, 0] * 10)
    frames = train_test_split(pandas.DataFrame({"x": x[:, 0]}, index=index[::-1]), y)
    np.testing.assert_array_equal(frames[2].to_numpy(), frames[0]["x"].to_numpy() * 10)
    np.testing.assert_array_equal(frames[3].to_numpy(), frames[1]["x"].to_numpy() * 10)


def test_frames_are_taken_by_position_everywhere(frame):
    table, labels = frame
    for want, got in zip(split_indices(Y, 0.3), split_indices(labels, 0.3), strict=True):
        np.testing.assert_array_equal(want, got)
    one, other = DataLoader(X, Y, 6, True), DataLoader(table, labels, 6, True)
    for (x, y), (u, v) in zip(one, other, strict=True):
        np.testing.assert_array_equal(x, u)
        np.testing.assert_array_equal(y, v)
    np.testing.assert_array_equal(
        Standardize().fit_transform(table), Standardize().fit_transform(X)
    )
    plain, framed = trainer(), trainer()
    options = {"max_epochs": 2, "batch_size": 4, "validation_split": 0.25}
    assert dict(plain.fit(X, Y, **options)) == dict(framed.fit(table, labels, **options))
    np.testing.assert_array_equal(plain.predict(X), framed.predict(table))
    assert plain.evaluate(X, Y) == framed.evaluate(table, labels)


def test_frames_of_several_kinds_of_numbers():
    pandas = pytest.importorskip("pandas")
    mixed = pandas.DataFrame({"a": [1, 2, 3], "b": [True, False, True], "c": [0.5, 1.5, 2.5]})
    mixed["d"] = mixed["a"].astype("Int64")
    want = np.array([[1, 1, 0.5, 1], [2, 0, 1.5, 2], [3, 1, 2.5, 3]])
    (got,) = DataLoader(mixed, batch_size=3)
    np.testing.assert_array_equal(got, want)


def test_tensors_of_pytorch_train_a_numpy_model():
    torch = pytest.importorskip("torch")
    x, y = torch.tensor(X, dtype=torch.float32, requires_grad=True), torch.tensor(Y)
    plain, tensors = trainer(), trainer()
    want = plain.fit(X.astype(np.float32), Y, max_epochs=2)
    assert dict(tensors.fit(x, y, max_epochs=2)) == dict(want)
    assert tensors.evaluate(x, y) == plain.evaluate(X.astype(np.float32), Y)
    assert isinstance(tensors.predict(x), torch.Tensor)
    np.testing.assert_array_equal(tensors.predict(x), plain.predict(X.astype(np.float32)))
    for odd in (torch.tensor(X).to_sparse(), torch.tensor(X) + 1j):
        with pytest.raises(TypeError, match="fit: 'X' is a Tensor"):
            trainer().fit(odd, y, max_epochs=1)


def test_a_memory_map_stays_on_disk(tmp_path):
    np.save(tmp_path / "x.npy", X)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    loader = DataLoader(x, Y, 5)
    assert loader.X is x
    np.testing.assert_array_equal(np.concatenate([b for b, _ in loader]), X)


def test_a_matrix_is_an_array():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy would have nobody make one
        scaled = Standardize().fit_transform(np.matrix(X))
    assert type(scaled) is np.ndarray
    np.testing.assert_array_equal(scaled, Standardize().fit_transform(X))


# ------------------------------------------------------------------------------- splits


@pytest.mark.parametrize("y", [
    np.arange(40) * 7, np.array([0, 0, *range(2, 40)]), np.arange(40) // 2 * 3,
    np.arange(40).astype(np.uint8), np.array([5] * 3 + [*range(37)]),
], ids=["all differ", "one comes twice", "pairs", "bytes", "one comes thrice"])  # fmt: skip
def test_whole_numbers_are_split_in_the_share_asked_for(y):
    train, test = split_indices(y, 0.25)
    assert (len(train), len(test)) == (30, 10)
    assert sorted([*train, *test]) == list(range(40))


def test_a_regression_on_whole_numbers_holds_out_its_validation_part():
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 1))
    x = np.arange(40, dtype=np.float32)[:, None]
    seen = []

    def loss(output, target):
        seen.append(len(target))
        return nn.MSELoss()(output, target.astype(np.float32))

    t = Trainer(model, loss, optim.SGD(model.parameters(), lr=1e-6), progress=False)
    t.fit(x, np.arange(40)[:, None] * 7, max_epochs=1, batch_size=64, validation_split=0.25)
    assert seen == [30, 10]


def test_classes_keep_their_shares_and_a_rare_one_stays_in_training():
    y = np.array([0] * 30 + [1] * 9 + [2])
    train, test = split_indices(y, 0.25)
    assert np.bincount(y[test], minlength=3).tolist() == [8, 2, 0]
    assert 2 in y[train]


def test_stratify_is_done_as_told_or_refused():
    y = np.arange(40) * 7
    with pytest.raises(ValueError, match="too many of them with one sample to hold out 10"):
        split_indices(y, 0.25, stratify=True)
    floats = np.repeat([0.5, 1.5], 20)
    assert np.sum(floats[split_indices(floats, 0.25, stratify=True)[1]] == 0.5) == 5
    labels = np.repeat(["a", "b"], 20)
    assert np.sum(labels[split_indices(labels, 0.25)[1]] == "a") == 5


# ------------------------------------------------------------------------------- scaling


def test_a_column_that_differs_by_rounding_alone_is_constant():
    column = np.array([0.3, 0.1 + 0.2] * 5)[:, None]
    scaler = Standardize().fit(column)
    assert scaler.std.tolist() == [1.0]
    assert scaler.transform(np.array([[0.33]]))[0, 0] == pytest.approx(0.03)


@pytest.mark.parametrize("make", [
    lambda r: np.full(50, 0.1) * 3 - 0.3 + 1e8,
    lambda r: np.full(1000, 1e20) + r.choice([0, 16384], 1000),
    lambda r: np.cumsum(np.full(9, 1e-17)) + 1, lambda r: r.standard_normal(50),
    lambda r: 1e6 + 1e-3 * r.standard_normal(50), lambda r: np.array([1.0, 1 + 1e-15] * 4),
    lambda r: np.zeros(7),
], ids=["large", "neighbours", "sums", "normal", "small spread", "last bits", "zeros"])  # fmt: skip
def test_what_is_constant_is_what_scikit_learn_takes_for_it(make):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x = make(np.random.default_rng(0))[:, None]
    want = preprocessing.StandardScaler().fit(x)
    got = Standardize().fit(x)
    assert (got.std == 1) == (want.scale_ == 1)
    if want.scale_ != 1:
        np.testing.assert_allclose(got.std, want.scale_, rtol=1e-9)


def test_columns_at_the_ends_of_float64():
    x = np.array([[1.5e308, 5e-324, 1e200, -1.7e308], [-1.5e308, 0, 2e200, -1.6e308],
                  [1.5e308, 5e-324, 3e200, -1.5e308]])  # fmt: skip
    with np.errstate(all="raise", under="ignore"):
        for scaler in (Standardize().fit(x), MinMax().fit(x)):
            y = scaler.transform(x)
            np.testing.assert_allclose(scaler.inverse_transform(y), x, rtol=1e-15, atol=0)
        mid = np.array([[0.5**0.5, 0.5**0.5], [-(2**0.5), -(2**0.5)], [0.5**0.5, 0.5**0.5]])
        np.testing.assert_allclose(Standardize().fit_transform(x)[:, :2], mid, rtol=1e-12)
        np.testing.assert_allclose(MinMax().fit_transform(x)[:, [0, 3]],
                                   [[1, 0], [0, 0.5], [1, 1]], rtol=1e-12)  # fmt: skip


def test_a_large_mean_does_not_blur_a_small_spread():
    x = 1e15 + np.arange(50.0)[:, None]
    want = (np.arange(50.0) - 24.5) / np.arange(50.0).std()
    np.testing.assert_allclose(Standardize().fit_transform(x)[:, 0], want, rtol=1e-12)


def test_integers_and_one_row_and_no_columns():
    big = np.array([[2**62, 1], [2**62 + 2**20, 3]], np.int64)
    np.testing.assert_allclose(Standardize().fit_transform(big), [[-1, -1], [1, 1]])
    assert Standardize().fit_transform(X[:1]).tolist() == [[0.0, 0.0]]
    assert Standardize().fit_transform(np.empty((3, 0))).shape == (3, 0)
    with pytest.raises(ValueError, match="at least one sample"):
        Standardize().fit(np.empty((0, 3)))
    with pytest.raises(ValueError, match=r"features of shape \(3,\), expected \(2,\)"):
        Standardize().fit(X).transform(np.zeros((2, 3)))
    assert Standardize().fit_transform(X.astype(np.float32)).dtype == np.float32


def test_scalers_and_loaders_are_copied_and_shown():
    for thing in (Standardize().fit(X), MinMax((0, 2)).fit(X)):
        for other in (copy.deepcopy(thing), pickle.loads(pickle.dumps(thing))):
            np.testing.assert_array_equal(other.transform(X), thing.transform(X))
    assert repr(Standardize()) == "Standardize()"
    assert repr(MinMax((0, 2))) == "MinMax(feature_range=(0.0, 2.0))"
    loader = DataLoader(X, Y, 6, True, last_batch="balance")
    next(iter(loader))
    again = pickle.loads(pickle.dumps(loader))
    assert again.epoch == loader.epoch == 1
    assert [y.tolist() for _, y in again] == [y.tolist() for _, y in loader]
    assert "last_batch='balance'" in repr(loader)


def test_constant_columns_at_the_end_of_float64_and_ranges_beyond_it():
    scaler = Standardize().fit(np.full((3, 1), 1.7e308))
    assert scaler.std.tolist() == [1.0]
    np.testing.assert_allclose(scaler.transform(np.array([[1.6e308]])), [[-1e307]], rtol=1e-12)
    with pytest.raises(ValueError, match="a finite difference"):
        MinMax((-1e308, 1e308))


def test_text_in_an_object_array_names_classes_and_stratify_is_a_flag():
    y = np.array(["a", "b"] * 8, object)
    _, test = split_indices(y, 0.25)
    assert sorted(y[test]) == ["a", "a", "b", "b"]
    for wrong in (y, "y"):
        with pytest.raises(TypeError, match="'stratify' is"):
            split_indices(y, 0.25, stratify=wrong)


def test_what_a_frame_of_nullable_columns_lacks_is_nan():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"a": pandas.array([1, None, 3], dtype="Int64"), "b": pandas.array([True, None, False])}
    )
    np.testing.assert_array_equal(
        array_of("X", "X", frame), [[1, 1], [np.nan, np.nan], [3, 0]], strict=True
    )


def test_a_tensor_with_the_negative_bit_has_its_sign():
    torch = pytest.importorskip("torch")
    values = torch.complex(torch.zeros(3), torch.arange(3.0)).conj().imag
    assert values.is_neg()
    np.testing.assert_array_equal(array_of("X", "X", values), [0, -1, -2])
