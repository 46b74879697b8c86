"""Splits, scalers and tables: what silently leaks or shifts when it is wrong."""

import functools
import zipfile
import zlib

import numpy as np
import pytest
from onepass.data import Standardize, load, split_indices, train_test_split
from onepass.data._loader import permutation
from onepass.data._split import _quotas
from onepass.train import _recipe, _store
from onepass.train._recipe import Options, Recipe


def test_a_split_shares_no_order_with_an_epoch():
    y = np.arange(200) / 7
    for seed in range(3):
        train, test = split_indices(y, seed=seed)
        order = np.concatenate([test, train])
        assert not np.array_equal(order, permutation(200, seed, 0))


def test_the_largest_remainder_gets_the_sample_that_is_left():
    counts = np.array([10, 11, 13])
    # Shares of 0.25: 2.5, 2.75, 3.25; floors 2, 2, 3, one left for 2.75, then one for 2.5.
    assert _quotas(counts, 0.25, 8).tolist() == [2, 3, 3]
    assert _quotas(counts, 0.25, 9).tolist() == [3, 3, 3]


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_target_that_begins_with_a_number_may_be_text(tmp_path):
    rows = "\n".join(f"{i},{label}" for i, label in enumerate(["1", "two", "3"] * 4))
    data = load(write(tmp_path / "t.csv", f"a,y\n{rows}\n"), "y")
    assert [str(c) for c in data.classes] == ["1", "3", "two"]


def test_a_semicolon_in_a_name_does_not_part_columns(tmp_path):
    rows = "\n".join(f"{i},{2 * i},{i % 2}" for i in range(8))
    data = load(write(tmp_path / "t.csv", f"size;old,b,y\n{rows}\n"), "y")
    assert data.X.shape == (8, 2)


def test_columns_near_overflow_are_scaled():
    x = np.array([[1.7e308], [1.6e308], [1.65e308]])
    scaled = Standardize().fit_transform(x)
    assert np.isfinite(scaled).all()
    np.testing.assert_allclose(scaled.mean(), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(), 1, 1e-12)


def options(data, **more):
    keys = {
        "data": str(data), "target": None, "task": None, "epochs": 1, "batch_size": 8, "lr": None,
        "optimizer": "adamw", "hidden": (4,), "norm": "batch", "activation": "relu", "dropout": 0.0,
        "device": "cpu", "seed": 0,
    }  # fmt: skip
    return Options(**{**keys, **more})


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{a:.6f},{b:.6f},{a - b:.6f}" for a, b in rng.standard_normal((120, 2)) * 5 + 3]
    return write(tmp_path / "table.csv", "a,b,y\n" + "\n".join(rows) + "\n")


def test_the_scaler_sees_the_training_part_alone(table, tmp_path):
    """Its training part has mean 0 exactly; validation and held-out parts do not."""
    run = Recipe(options(table), tmp_path / "run", False)
    parts = run.parts
    np.testing.assert_allclose(parts.train[0].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(parts.train[0].std(axis=0), 1, atol=1e-5)
    for held in (parts.validation, parts.test):
        assert np.abs(held[0].mean(axis=0)).max() > 1e-3


def test_another_seed_holds_out_another_part(table, tmp_path, monkeypatch):
    """Another validation part too, of the same samples for training and validation."""
    same_test_part = functools.partial(_split_as_with_any_seed, train_test_split)
    monkeypatch.setattr(_recipe, "train_test_split", same_test_part)
    runs = [Recipe(options(table, seed=seed), tmp_path / str(seed), False) for seed in (0, 1)]
    first, second = (np.sort(run.parts.validation[1].ravel()) for run in runs)
    assert first.shape == second.shape
    assert not np.allclose(first, second)


def _split_as_with_any_seed(split, *arguments, seed, **options):
    return split(*arguments, seed=0, **options)


def crc(data):
    return zlib.crc32(data).to_bytes(4, "little")


def test_an_array_that_was_changed_with_its_checksum_is_found(tmp_path):
    """The CRC of the zip entry is mended too: only the SHA-256 of the file can tell."""
    path = _store.write(tmp_path, 1, {"model": {"w": np.arange(64, dtype=np.float32)}})
    file = path / "model.npz"
    with zipfile.ZipFile(file) as archive:
        data = archive.read(archive.namelist()[0])
    changed = data[:-4] + bytes([data[-4] ^ 1]) + data[-3:]
    raw = file.read_bytes()
    for old, new in [(data, changed), *[(crc(data), crc(changed))] * 2]:  # in both directories
        assert old in raw
        raw = raw.replace(old, new, 1)
    file.write_bytes(raw)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
    with pytest.raises(_store.CheckpointError, match=r"model\.npz"):
        _store.read(path)
