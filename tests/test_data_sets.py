"""Data that are read batch by batch: memory-mapped arrays, files, samples by number; threads."""

import os
import threading
import time
import tracemalloc

import fake_cupy
import numpy as np
import pytest
from onepass import nn, optim
from onepass.data import DataLoader
from onepass.data._rows import Part, Rows
from onepass.data.augment import RandomFlip
from onepass.train import Callback, Trainer
from small_training import everything

N = 30
X = np.random.default_rng(0).standard_normal((N, 4)).astype(np.float32)
Y = (X[:, 0] + 0.5 * X[:, 1] > 0).astype(np.int64)


def trainer(**options):
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
    optimizer = optim.AdamW(model.parameters(), lr=0.02)
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, metrics=["accuracy"], progress=False,
                   **options)  # fmt: skip


class Samples:
    """Samples by number; remembers which were read."""

    def __init__(self, X=X, y=Y):
        self.X, self.y, self.read = X, y, []

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        assert type(i) is int
        if not 0 <= i < len(self.X):
            raise IndexError(i)
        self.read.append(i)
        return self.X[i] if self.y is None else (self.X[i], self.y[i])


class File:
    """As h5py's data sets: a shape and a dtype, a row by number or a slice; it counts its reads."""

    def __init__(self, array):
        self._array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self.reads = []

    def __len__(self):
        return len(self._array)

    def __getitem__(self, index):
        assert isinstance(index, (int, slice)), "h5py takes few other orders"
        self.reads.append(index)
        return self._array[index]

    def __array__(self, *args, **kwargs):
        raise AssertionError("read as a whole")


def mapped(path, array):
    np.save(path, array)
    return np.load(path, mmap_mode="r")


def torch_set(path):
    torch = pytest.importorskip("torch")
    return torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), None


def h5_set(path):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(path / "data.h5", "w")
    file["X"], file["y"] = X, Y
    return file["X"], file["y"]


KINDS = {
    "mapped": lambda path: (mapped(path / "X.npy", X), mapped(path / "y.npy", Y)),
    "file": lambda path: (File(X), File(Y)),
    "h5py": h5_set,
    "samples": lambda path: (Samples(), None),
    "pairs": lambda path: ([(x, int(t)) for x, t in zip(X, Y, strict=True)], None),
    "pairs of numpy": lambda path: (list(zip(X, Y, strict=True)), None),
    "torch": torch_set,
    "samples of x": lambda path: (Samples(X, None), Y),
    "list of x": lambda path: ([*X], Y),
    "list of x, y in a file": lambda path: ([*X], File(Y)),
}


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        a, b = (v if isinstance(v, tuple) else (v,) for v in (a, b))
        for first, second in zip(a, b, strict=True):
            assert first.dtype == second.dtype
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [
    {}, {"shuffle": True, "seed": 4}, {"sampling": "replacement"}, {"last_batch": "balance"},
    {"shuffle": True, "drop_last": True}, {"sample_weight": np.arange(N)}, {"num_workers": 3},
])  # fmt: skip
def test_batches_are_those_of_arrays(kind, options, tmp_path):
    loader, arrays = (
        DataLoader(*KINDS[kind](tmp_path), 7, **options),
        DataLoader(X, Y, 7, **options),
    )
    for _ in range(2):
        same([*loader], [*arrays])
    same([*loader.batches(1, 2)], [*arrays.batches(1, 2)])
    assert loader.X.shape == (N, 4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [None, 2])
def test_fit_evaluate_and_predict_take_them(kind, workers, tmp_path):
    one, other = trainer(), trainer()
    data = KINDS[kind](tmp_path)
    pair = data if data[1] is not None else data[0]
    options = {"max_epochs": 2, "batch_size": 7}
    one.fit(*data, num_workers=workers, validation_data=pair, **options)
    other.fit(X, Y, validation_data=(X, Y), **options)
    assert everything(one) == everything(other)
    assert one.evaluate(*data, batch_size=7) == other.evaluate(X, Y, batch_size=7)
    np.testing.assert_array_equal(
        one.predict(data[0], batch_size=7), other.predict(X, batch_size=7)
    )
    loader = DataLoader(*data, 7)
    assert one.evaluate(loader) == other.evaluate(X, Y, batch_size=7)
    np.testing.assert_array_equal(one.predict(loader), other.predict(X, batch_size=7))


@pytest.mark.parametrize("kind", ["mapped", "file", "samples of x", "list of x"])
def test_a_split_of_a_file_is_that_of_an_array(kind, tmp_path):
    one, other = trainer(), trainer()
    options = {
        "max_epochs": 2,
        "batch_size": 7,
        "validation_split": 0.3,
        "class_weight": "balanced",
    }
    one.fit(*KINDS[kind](tmp_path), **options)
    other.fit(X, Y, **options)
    assert everything(one) == everything(other)


def test_a_mapped_array_is_never_in_memory_as_a_whole(tmp_path):
    large = np.random.default_rng(0).random((4000, 1024), np.float32)
    data = mapped(tmp_path / "X.npy", large)
    y = (np.arange(4000) % 2).astype(np.int64)
    del large
    model = nn.Sequential(nn.Linear(1024, 2))
    t = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1), progress=False)
    options = {"max_epochs": 1, "batch_size": 50}
    calls = {
        "fit": lambda: t.fit(data, y, **options),
        "split": lambda: trainer_of(model).fit(data, y, validation_split=0.4, **options),
        "transform": lambda: trainer_of(model).fit(
            data, y, transform=lambda x, y, **_: (x * 2, y), **options
        ),
        "evaluate": lambda: t.evaluate(data, y),
        "predict": lambda: t.predict(data),
    }
    for name, call in calls.items():
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < data.nbytes / 3, name


def trainer_of(model):
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False)


def test_each_sample_is_read_once_an_epoch_and_only_when_it_is_due():
    data, seen = Samples(), []

    class Counts(Callback):
        def on_step_end(self, run):
            seen.append(len(data.read))

    trainer(callbacks=[Counts()]).fit(data, max_epochs=2, batch_size=6, shuffle=False)
    assert data.read[0] == 0  # its shape and dtype
    assert data.read[-2 * N :] == [*range(N)] * 2
    assert seen[0] <= seen[-1] - 2 * N + 6


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_in_order_are_one_read_of_a_file(workers):
    x, y = File(X), File(Y)
    loader = DataLoader(x, y, 7, num_workers=workers)
    same([*loader], [*DataLoader(X, Y, 7)])
    want = [slice(i, min(i + 7, N)) for i in range(0, N, 7)]
    assert sorted(x.reads, key=lambda s: s.start) == want
    assert sorted(y.reads, key=lambda s: s.start) == want
    for call in (lambda: trainer().predict(x, batch_size=7), lambda: trainer().evaluate(x, y)):
        x.reads.clear()
        call()
        assert all(isinstance(index, slice) for index in x.reads)
        assert len(x.reads) <= -(-N // 7) + 2


class Endless:
    """More samples than memory would hold the places of."""

    def __len__(self):
        return 10**12

    def __getitem__(self, i):
        return np.float32([i]), i


@pytest.mark.parametrize("transform", [None, lambda x, y, **_: (x, y)])
def test_a_batch_takes_memory_for_its_own_samples_alone(transform):
    batches = DataLoader(Endless(), batch_size=3, transform=transform, num_workers=0).batches(0)
    assert [y.tolist() for _, y in (next(batches), next(batches))] == [[0, 1, 2], [3, 4, 5]]


def test_samples_without_targets_are_predicted_and_transformed():
    alone = Samples(X, None)
    t = trainer()
    np.testing.assert_array_equal(t.predict(alone), t.predict(X))
    loader = DataLoader(alone, batch_size=7, transform=lambda x, y, **_: (x + 1, y))
    np.testing.assert_array_equal(np.concatenate([*loader]), X + 1)
    np.testing.assert_array_equal(t.predict([*X]), t.predict(X))
    np.testing.assert_array_equal(np.concatenate([*DataLoader([*X], batch_size=7)]), X)
    for data in (alone, [*X], [X, Y]):
        with pytest.raises(ValueError, match="fit: 'X' has samples of x alone, expected pairs"):
            t.fit(data, max_epochs=1)
        with pytest.raises(ValueError, match="evaluate: 'X' has samples of x alone, expected"):
            t.evaluate(data)
    with pytest.raises(ValueError, match="fit: 'X' is a DataLoader without y"):
        t.fit(DataLoader(X), max_epochs=1)


class Odd(Samples):
    def __init__(self, place, value, count=N):
        super().__init__(X[:count], Y[:count])
        self.place, self.value = place, value

    def __getitem__(self, i):
        pair = super().__getitem__(i)
        if i != self.place:
            return pair
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.mark.parametrize(("value", "kind", "words"), [
    ((X[0, :3], 1), ValueError, r"the shape \(3,\) in sample 17, expected \(4,\) as in sample 0"),
    ((X[0], [1, 2]), ValueError, r"the shape \(2,\) in sample 17, expected \(\)"),
    ((X[0], 1, 2), TypeError, r"3 parts as sample 17, expected a pair \(x, y\)"),
    (X[0], TypeError, "a ndarray as sample 17, expected a pair"),
    (None, TypeError, "a NoneType as sample 17, expected a pair"),
    ((X[0], "cat"), TypeError, "a str in sample 17, expected real numbers"),
    ((None, 1), TypeError, "a NoneType in sample 17, expected real numbers"),
    ((X[0], 0.5), ValueError, "float64 in sample 17, expected int64 as in sample 0 .give all"),
    ((X[0].astype("f8"), 1), ValueError, "float64 in sample 17, expected float32 as in sample 0"),
])  # fmt: skip
@pytest.mark.parametrize("workers", [0, 2])
def test_odd_samples_are_named(value, kind, words, workers):
    loader = DataLoader(Odd(17, value), None, 5, num_workers=workers)
    batches = iter(loader)
    same([next(batches) for _ in range(3)], [*DataLoader(X, Y, 5)][:3])
    with pytest.raises(kind, match=f"DataLoader: 'X' has {words}"):
        next(batches)


def test_all_batches_have_the_dtype_of_the_first_sample():
    samples = [(X[0], 0.5), (X[1].astype("f2"), 1), (X[2], True), (X[3], np.float32(0.25))]
    loader = DataLoader(samples, None, 1)
    assert [(x.dtype, y.dtype) for x, y in loader] == [("float32", "float64")] * 4
    assert loader.y.dtype == "float64"
    assert [float(y[0]) for _, y in loader] == [0.5, 1, 1, 0.25]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_of_the_data_set_comes_with_its_sample_and_batch(workers):
    loader = DataLoader(Odd(17, OSError(5, "damaged")), None, 5, num_workers=workers)
    with pytest.raises(OSError, match="damaged") as caught:
        list(loader)
    if hasattr(caught.value, "__notes__"):
        notes = "; ".join(caught.value.__notes__)
        assert "in sample 17" in notes
        assert "in batch 3 of epoch 0, samples 15, 16, 17, 18, 19" in notes


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_of_a_transform_comes_with_its_batch(workers):
    def fails(x, y, *, seed, epoch, index):
        if 17 in index:
            raise KeyError("x")
        return x, y

    batches = iter(DataLoader(X, Y, 10, transform=fails, num_workers=workers))
    np.testing.assert_array_equal(next(batches)[0], X[:10])
    with pytest.raises(KeyError) as caught:
        next(batches)
    if hasattr(caught.value, "__notes__"):
        want = "in batch 1 of epoch 0, samples 10, 11, 12, 13, 14, 15, 16, 17, … (10 of them)"
        assert want in caught.value.__notes__[0]
    assert threads() == []


@pytest.mark.parametrize(("make", "kind", "words"), [
    (lambda: DataLoader([]), (TypeError, ValueError), "list"),
    (lambda: DataLoader(Samples(X[:0], Y[:0])), ValueError, "a data set of no samples"),
    (lambda: DataLoader([[1, 2], [3, 4]]), TypeError, "'X' is a list"),
    (lambda: DataLoader([*Y], Y), TypeError, "'X' is a list, expected an array"),
    (lambda: DataLoader([*X[:9]], Y), ValueError, f"'y' has {N} samples, expected 9 as in 'X'"),
    (lambda: trainer().evaluate((X, Y)), TypeError, "'y' is None, expected an array"),
    (lambda: DataLoader([(0.5, 1), (0.25, 0)]), TypeError, "'X' is a list, expected an array"),
    (lambda: DataLoader({0: (X[0], 1)}), TypeError, "'X' is a dict"),
    (lambda: DataLoader("data"), TypeError, "'X' is a str"),
    (lambda: DataLoader(Samples), TypeError, "'X' is a type, expected an array"),
    (lambda: DataLoader(Samples(), Y), ValueError, r"'X' has pairs \(x, y\), expected no y beside"),
    (lambda: trainer().fit(Samples(), Y, max_epochs=1), ValueError, r"fit: 'X' has pairs \(x, y\)"),
    (lambda: DataLoader(X, Y, num_workers=-1), ValueError, "'num_workers' is -1"),
    (lambda: DataLoader(X, Y, num_workers=True), TypeError, "'num_workers' is True"),
    (lambda: trainer().fit(Samples(), max_epochs=1, validation_split=0.2), ValueError,
     "'X' is a Samples, read batch by batch, expected no validation_split"),
    (lambda: trainer().fit(Samples(), max_epochs=1, class_weight="balanced"), ValueError,
     "expected no validation_split and no weights"),
    (lambda: trainer().fit(DataLoader(X, Y), max_epochs=1, num_workers=2), ValueError,
     r"expected its num_workers in DataLoader\(…, num_workers=…\)"),
])  # fmt: skip
def test_what_cannot_work_is_refused(make, kind, words):
    with pytest.raises(kind, match=words):
        make()


def test_parts_of_rows_are_those_of_the_array():
    rows, places = Rows(File(X), X.shape, X.dtype), np.array([4, 2, 9])
    part = Part(rows, places)
    assert (len(part), part.shape, part.ndim, part.dtype) == (3, (3, 4), 2, X.dtype)
    np.testing.assert_array_equal(part[1:], X[places][1:])
    np.testing.assert_array_equal(part[np.array([2, 0])], X[places][[2, 0]])
    assert part[:0].shape == rows[:0].shape == rows[5:2].shape == (0, 4)
    np.testing.assert_array_equal(rows[-3:], X[-3:])
    np.testing.assert_array_equal(rows[20:3:-4], X[20:3:-4])


@pytest.mark.parametrize("make", [
    lambda: Rows(File(X), X.shape, X.dtype), lambda: Part(X, np.arange(N)),
    lambda: DataLoader(Samples()).X,
])  # fmt: skip
def test_rows_are_taken_by_positions_alone(make):
    rows = make()
    np.testing.assert_array_equal(rows[np.flatnonzero(Y)], X[Y == 1])
    for index in (Y == 1, 3, np.int64(3), np.array([0.0, 1.0]), np.array([[0, 1]])):
        with pytest.raises(IndexError, match="by a slice or by positions"):
            rows[index]


# ------------------------------------------------------------------------------------ threads


def threads():
    return [t.name for t in threading.enumerate() if t.name.startswith("onepass-data")]


def drawn(x, y, *, seed, epoch, index):
    return x + index[:, None].astype(np.float32) * (epoch + 1) + seed, y


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers_gives_the_same_batches(workers):
    def slow(x, y, **given):
        time.sleep(float(given["index"][0] % 3) / 200)
        return drawn(x, y, **given)

    loaders = [
        DataLoader(X, Y, 4, True, seed=3, transform=slow, num_workers=n) for n in (0, workers)
    ]
    for _ in range(2):
        same(*([*loader] for loader in loaders))
    same(*([*loader.batches(5, 3)] for loader in loaders))
    same(*([*loader.batches(5, 8)] for loader in loaders))
    assert threads() == []


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_only_a_few_batches_are_made_ahead(workers):
    made = []
    transform = lambda x, y, **given: made.append(given["index"][0]) or (x, y)  # noqa: E731
    loader = DataLoader(X, Y, 1, transform=transform, num_workers=workers)
    batches = iter(loader)
    for taken in range(1, 4):
        next(batches)
        time.sleep(0.1)
        assert len(made) == taken + 2 * workers
    assert len(threads()) <= workers
    batches.close()
    assert threads() == []
    assert len(made) <= 4 + 2 * workers


def test_nothing_is_made_before_the_first_batch_is_asked_for():
    made = []
    loader = DataLoader(X, Y, 5, transform=lambda x, y, **_: made.append(1) or (x, y))
    batches = iter(loader)
    time.sleep(0.05)
    assert made == []
    assert loader.epoch == 1
    del batches
    assert threads() == []


class StopAt(Callback):
    def __init__(self, error=None):
        self.error = error

    def on_step_end(self, run):
        if run.step == 2:
            run.stop = True
            if self.error is not None:
                raise self.error


@pytest.mark.parametrize("error", [None, ValueError("mine"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_fit_that_ends_early_ends_its_threads(error, workers):
    made = []

    def slow(X, y, **given):
        made.append(len(X))
        time.sleep(0.1 * (len(made) > 2))  # a thread that is left is still at work
        return drawn(X, y, **given)

    t = trainer(callbacks=[StopAt(error)])
    options = {"max_epochs": 2, "batch_size": 6, "transform": slow, "num_workers": workers}
    if error is None:
        t.fit(X, Y, **options)
    else:
        with pytest.raises(type(error)):
            t.fit(X, Y, **options)
    assert threads() == []
    assert t.step == 2


def test_an_interrupted_wait_for_a_batch_ends_the_threads():
    def interrupts(x, y, *, index, **_):
        if index[0] >= 6:
            os.kill(os.getpid(), __import__("signal").SIGINT)
            time.sleep(0.2)
        return x, y

    batches = iter(DataLoader(X, Y, 3, transform=interrupts))
    with pytest.raises(KeyboardInterrupt):
        for _ in batches:
            pass
    assert threads() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("workers", [1, 3])
def test_a_forked_child_goes_on_with_the_batches(workers):
    batches = iter(DataLoader(X, Y, 3, transform=drawn, num_workers=workers))
    want = [*DataLoader(X, Y, 3, transform=drawn, num_workers=0)]
    same([next(batches)], want[:1])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            same([*batches], want[1:])
            code = 0
        finally:
            os._exit(code)
    deadline = time.monotonic() + 30
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, 9)
        time.sleep(0.01)
    assert done[1] == 0
    same([*batches], want[1:])


def test_workers_have_the_callers_context():
    def divides(x, y, **_):
        return x / np.float32(0), y

    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        [*DataLoader(X, Y, 5, transform=divides)]


def test_arrays_on_a_device_stay_in_the_thread_of_their_stream(monkeypatch):
    fake_cupy.install(monkeypatch)
    x, y = fake_cupy.asarray(X), fake_cupy.asarray(Y)
    seen = set()

    def noted(x, y, **_):
        seen.add(threading.get_ident())
        return x, y

    batches = [*DataLoader(x, y, 7, True, transform=noted)]
    assert seen == {threading.get_ident()}
    assert all(isinstance(a, fake_cupy.ndarray) for batch in batches for a in batch)
    with pytest.raises(ValueError, match="'num_workers' is 1, expected 0 for arrays on a device"):
        DataLoader(x, y, 7, num_workers=1)
    with pytest.raises(TypeError, match="RandomFlip: 'X' is a ndarray, expected a NumPy array"):
        next(iter(DataLoader(x, y, 7, transform=RandomFlip())))


def test_a_transform_may_not_lose_samples():
    loader = DataLoader(X, Y, 5, transform=lambda x, y, **_: (x[:3], y))
    with pytest.raises(ValueError, match="returned 3 samples and 5 targets, expected as many, 5"):
        next(iter(loader))
    weighted = DataLoader(
        X, Y, 5, sample_weight=np.ones(N), transform=lambda x, y, **_: (x[:3], y[:3])
    )
    with pytest.raises(ValueError, match="expected as many, 5 as before"):
        next(iter(weighted))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_transform_may_write_into_what_it_gets(kind, shuffle, tmp_path):
    """And changes nothing of the data, whatever their order."""
    X, y = np.zeros((6, 2), np.float32), np.zeros(6, np.float32)
    if kind == "file":
        np.save(tmp_path / "x.npy", X)
        X = np.load(tmp_path / "x.npy", mmap_mode="r+")

    def in_place(x, y, *, seed, epoch, index):
        x += 1
        y -= 1
        return x, y

    loader = DataLoader(X, y, 4, shuffle=shuffle, transform=in_place)
    for _ in range(2):
        for x, target in loader:
            assert (x == 1).all()
            assert (target == -1).all()
    assert not X.any()
    assert not y.any()
    assert not np.load(tmp_path / "x.npy").any() if kind == "file" else True
