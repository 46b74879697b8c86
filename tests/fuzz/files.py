"""Checkpoints and models from files: no bytes do more than raise the error that is documented.

A hash is made right again after the bytes around it have changed, or nothing behind it would ever
be reached.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from onepass import nn
from onepass.nn._exchange import _safetensors
from onepass.train import CheckpointError, _store

from fuzz.choices import Choices

PART = "model"
HEAD = struct.Struct("<I")


def checkpoint(data: bytes) -> None:
    """The size of state.json, its text, and the archive of its arrays."""
    size = HEAD.unpack(data[:4].ljust(4, b"\0"))[0] % (len(data) + 1)
    state, archive = data[4 : 4 + size], data[4 + size :]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "step_00000001")
        place.mkdir()
        (place / _store.STATE).write_bytes(_sealed(state, archive))
        (place / f"{PART}.npz").write_bytes(archive)
        with suppress(CheckpointError):
            parts = _store.read(place)
            assert isinstance(parts, dict)
            _store.write(Path(folder, "again"), 1, {k: v for k, v in parts.items() if k})


def _sealed(state: bytes, archive: bytes) -> bytes:
    """Its text with the hashes that it should have, as far as it can be read."""
    try:
        document = json.loads(state)
        entry = document["state"]["files"][PART]
        entry["bytes"], entry["sha256"] = len(archive), hashlib.sha256(archive).hexdigest()
        document["sha256"] = _store._digest(document["state"])
        return json.dumps(document).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        return state


def model(data: bytes) -> None:
    """A file of `Module.save`; the first byte says its ending."""
    choices = Choices(data)
    ending = choices.of((".safetensors", ".npz"))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, f"model{ending}")
        place.write_bytes(_resealed(choices.rest()))
        with suppress(ValueError):
            nn.load(place)
        known = small_model()
        before = {name: a.copy() for name, a in known.state_dict().items()}
        try:
            known.load(place, strict=False)
        except ValueError:
            for name, array in known.state_dict().items():
                assert np.array_equal(array, before[name], equal_nan=True), name


def _resealed(data: bytes) -> bytes:
    """A file of safetensors with the hash that it should have, as far as it can be read."""
    try:
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        metadata = header[_safetensors.METADATA]
        del metadata[_safetensors.DIGEST]
        text = json.dumps(header).encode()
        bare = struct.pack("<Q", len(text)) + text + data[8 + length :]
        about, arrays, _ = _safetensors.read(io.BytesIO(bare), len(bare))
        kinds = {name: header[name]["dtype"] for name in arrays}
        metadata[_safetensors.DIGEST] = _safetensors._digest(about, arrays, kinds)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error):
        return data


def small_model() -> Any:
    return nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.1), nn.Linear(4, 2)
    )


def seeds_of_checkpoint() -> list[bytes]:
    parts = {
        PART: {
            "w": np.arange(3.0),
            "n": [np.int32([1, 2]), 1, None, "x"],
            "t": (1.5, float("inf")),
        },
        "trainer": {"epoch": 3, "history": {"loss": [1.0, 0.5]}},
    }
    with tempfile.TemporaryDirectory() as folder:
        place = _store.write(folder, 1, parts)
        state = (place / _store.STATE).read_bytes()
        return [HEAD.pack(len(state)) + state + (place / f"{PART}.npz").read_bytes()]


def seeds_of_model() -> list[bytes]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, ending in enumerate((".safetensors", ".npz")):
            place = Path(folder, f"model{ending}")
            small_model().save(place)
            found.append(bytes([number]) + place.read_bytes())
    return found
