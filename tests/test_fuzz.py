"""The targets of scripts/fuzz: on what they start from, on bytes drawn at random, and on inputs
that once failed."""

import base64
import random
import struct
import zipfile

import numpy as np
import pytest
from fuzz import files
from fuzz.targets import TARGETS
from helpers import Extent
from onepass.train import CheckpointError, _store

# What scripts/fuzz found, in base64.
FAILED = {
    "border": [
        "Ki+R3/////+MLBAUxKsKDRKzKxHmICQ=",  # bfloat16 that NumPy cannot read
        "/////////7P///8BAP+z",  # null, and a byte offset from there
        "J1162v8=",  # no elements, and more of them than memory has room for
    ],
}


@pytest.mark.parametrize("name", TARGETS)
def test_what_it_starts_from(name):
    seeds = TARGETS[name].seeds()
    assert seeds
    for seed in seeds:
        TARGETS[name].run(seed)


def test_seeds_are_taken(tmp_path):
    """Else nothing behind the first check would be reached."""
    (data,) = files.seeds_of_checkpoint()
    size = files.HEAD.unpack(data[:4])[0]
    state, archive = data[4 : 4 + size], data[4 + size :]
    assert files._sealed(state, archive) != b""
    assert b'"sha256"' in files._sealed(state.replace(b'"epoch": 3', b'"epoch": 4'), archive)
    (tmp_path / _store.STATE).write_bytes(
        files._sealed(state.replace(b'"epoch": 3', b'"epoch": 4'), archive)
    )
    (tmp_path / f"{files.PART}.npz").write_bytes(archive)
    assert _store.read(tmp_path)["trainer"]["epoch"] == 4
    changed = bytearray(files.seeds_of_model()[0][1:])
    changed[-1] ^= 1
    length = struct.unpack("<Q", changed[:8])[0]
    assert files._resealed(bytes(changed))[8 : 8 + length] != changed[8 : 8 + length]


@pytest.mark.parametrize("name", TARGETS)
def test_bytes_drawn_at_random(name):
    """A seed with a few bytes changed, cut, doubled or put elsewhere."""
    rng, target = random.Random(0), TARGETS[name]
    seeds = target.seeds()
    for _ in range(2000 if Extent.whole else 150):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data) + 1)
            how = rng.randrange(5)
            if how == 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            elif how == 1:
                del data[at : at + rng.randint(1, 9)]
            elif how == 2:
                data[at:at] = data[at : at + rng.randint(1, 40)]
            elif how == 3:
                data[at:at] = rng.randbytes(rng.randint(1, 12))
            else:
                data[at : at + 1] = (
                    bytes([data[at] ^ 1 << rng.randrange(8)]) if at < len(data) else b""
                )
        target.run(bytes(data))


@pytest.mark.parametrize("name", FAILED)
def test_what_once_failed(name):
    for text in FAILED[name]:
        TARGETS[name].run(base64.b64decode(text))


@pytest.mark.parametrize(
    ("offset", "value"),
    [(8, 1), (8, 0x40), (10, 99)],
    ids=["encrypted", "strongly encrypted", "an unknown method"],
)
def test_an_archive_that_zipfile_refuses(tmp_path, offset, value):
    """Found by scripts/fuzz: RuntimeError and NotImplementedError of zipfile came through; a fit
    that resumes falls back to the checkpoint before at a CheckpointError alone."""
    place = _store.write(tmp_path, 1, {"model": {"w": np.arange(3.0)}})
    path = place / "model.npz"
    data = bytearray(path.read_bytes())
    directory = data.rindex(b"PK\x01\x02")
    data[directory + offset] |= value
    data[offset - 2] |= value
    path.write_bytes(bytes(data))
    with pytest.raises((RuntimeError, NotImplementedError, zipfile.BadZipFile)):
        zipfile.ZipFile(path).read("w.npy")
    state = (place / _store.STATE).read_bytes()
    (place / _store.STATE).write_bytes(files._sealed(state, bytes(data)))
    with pytest.raises(CheckpointError, match=r"model\.npz: "):
        _store.read(place)
