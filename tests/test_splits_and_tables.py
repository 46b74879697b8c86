"""Splits, scalers and tables: what silently leaks or shifts when it is wrong."""

import zipfile
import zlib

import numpy as np
import pytest
from onepass.data import Standardize, load, split_indices, train_test_split
from onepass.data._loader import permutation
from onepass.data._split import _quotas
from onepass.runs import _parts
from onepass.runs._options import Options
from onepass.runs._source import Source
from onepass.train import _store


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


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{a:.6f},{b:.6f},{a - b:.6f}" for a, b in rng.standard_normal((120, 2)) * 5 + 3]
    return write(tmp_path / "table.csv", "a,b,y\n" + "\n".join(rows) + "\n")


def source_of(table):
    return Source.read(Options(data=str(table)))


def test_the_scaler_sees_the_training_part_alone(table):
    """Its training part has mean 0 exactly; validation and held-out parts do not."""
    parts = _parts.split(source_of(table), seed=0)
    np.testing.assert_allclose(parts.inputs(parts.train).mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(parts.inputs(parts.train).std(axis=0), 1, atol=1e-5)
    for held in (parts.validation, parts.test):
        assert np.abs(parts.inputs(held).mean(axis=0)).max() > 1e-3
        assert np.abs(parts.targets(held).mean(axis=0)).max() > 1e-4
    np.testing.assert_allclose(parts.targets(parts.train).mean(axis=0), 0, atol=1e-5)


def test_the_parts_have_every_row_once(table):
    parts = _parts.split(source_of(table), seed=0)
    rows = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(rows) == list(range(120))
    assert [len(parts.train), len(parts.validation), len(parts.test)] == [81, 9, 30]


def test_another_seed_holds_out_another_part(table):
    """Another validation part too, of the same samples for training and validation."""
    source = source_of(table)
    first, second = (_parts.split(source, seed).test for seed in (0, 1))
    assert set(first) != set(second)
    rest, test = np.arange(90), np.arange(90, 120)
    first, second = (_parts.split_rest(source, rest, test, seed).validation for seed in (0, 1))
    assert len(first) == len(second)
    assert set(first) != set(second)


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


@pytest.mark.parametrize("value", [5.0, np.float32(2), np.array(3), np.array("a")])
def test_one_value_is_no_data_to_split(value):
    """It was a TypeError of len(), or a message about test_size."""
    array = np.asarray(value)
    with pytest.raises(ValueError, match=r"train_test_split: 'y' has shape \(\), expected samples"):
        train_test_split(np.zeros((4, 2)), array)
    with pytest.raises(ValueError, match=r"split_indices: 'y' has shape \(\), expected samples"):
        split_indices(array)
    if array.dtype.kind != "U":
        words = r"train_test_split: 'X' has shape \(\), expected samples along axis 0"
        with pytest.raises(ValueError, match=words):
            train_test_split(array, np.zeros(4))
