"""The file format safetensors: eight bytes of length, JSON, then the bytes of the arrays.

Written and read here, so that it needs no package; that of Hugging Face reads and writes the same:
https://github.com/huggingface/safetensors, "Format". The arrays lie one behind the other without
gaps, so that no file can ask for more memory than it has itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MOST_HEADER = 100_000_000  # bytes, as in the package
METADATA = "__metadata__"
DIGEST = "sha256"  # among the metadata
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64",
    "int32": "I32", "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32",
    "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


def write(file: BinaryIO, arrays: Mapping[str, NDArray[Any]], metadata: dict[str, str]) -> None:
    """Write arrays in C order. Those of wide elements come first, so that all are aligned.

    The metadata gets ``sha256``, of all that is in the file but the order.
    """
    order = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    end = 0
    entries: dict[str, Any] = {}
    for name in order:
        array = arrays[name]
        begin, end = end, end + array.nbytes
        entries[name] = {
            "dtype": _NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    kinds = {name: entry["dtype"] for name, entry in entries.items()}
    header = {METADATA: {**metadata, DIGEST: _digest(metadata, arrays, kinds)}, **entries}
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MOST_HEADER:
        raise ValueError(f"the names of the arrays take {len(text)} bytes, at most {MOST_HEADER}")
    file.write(struct.pack("<Q", len(text)) + text)
    for name in order:
        file.write(_bytes(arrays[name]))


def _digest(
    metadata: Mapping[str, str], arrays: Mapping[str, NDArray[Any]], kinds: Mapping[str, str]
) -> str:
    """Of names, dtypes, shapes, values and metadata."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        about = [name, kinds[name], list(arrays[name].shape)]
        digest.update(json.dumps(about).encode())
        digest.update(_bytes(arrays[name]))
    digest.update(json.dumps(metadata, sort_keys=True).encode())
    return digest.hexdigest()


def _bytes(array: NDArray[Any]) -> Any:
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def read(file: BinaryIO, size: int) -> tuple[dict[str, str], dict[str, NDArray[Any]], set[str]]:
    """Metadata, arrays, and the names of those that hold the bits of bfloat16 as integers.

    Raises:
        ValueError: another kind of file, cut off, or damaged.
    """
    head = file.read(8)
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
    if not 2 <= length <= MOST_HEADER:
        raise ValueError("it is neither safetensors nor an archive of NumPy")
    if length > size - 8:
        raise ValueError(f"its header has {length} bytes, and the file ends before")
    text = file.read(length)
    if text[:1] != b"{":
        raise ValueError("it is neither safetensors nor an archive of NumPy")
    header = json.loads(text, object_pairs_hook=_no_duplicates)
    metadata = header.pop(METADATA, {})
    texts = isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())
    if not texts:
        raise ValueError(f"{METADATA} is not an object of texts")
    entries = {name: _entry(name, about) for name, about in header.items()}
    end = 0
    for name in (order := sorted(entries, key=lambda name: entries[name][2:])):
        if entries[name][2] != end:
            raise ValueError(f"the bytes of {name!r} do not begin where those before it end")
        end = entries[name][3]
    if end != size - 8 - length:
        raise ValueError(f"its arrays have {end} bytes, and {size - 8 - length} are in the file")
    found: dict[str, NDArray[Any]] = {}
    for name in order:
        kind, shape, *_ = entries[name]
        array = np.empty(shape, _DTYPES[kind])
        room = _bytes(array)
        if len(room) and file.readinto(room) != len(room):  # type: ignore[attr-defined]
            raise ValueError(f"it ended while {name!r} was read")
        found[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    digest = metadata.pop(DIGEST, None)
    kinds = {name: entry[0] for name, entry in entries.items()}
    if digest is not None and digest != _digest(metadata, found, kinds):
        raise ValueError("its SHA-256 does not match: it was damaged or changed")
    return metadata, {n: found[n] for n in header}, {n for n in order if entries[n][0] == "BF16"}


def _entry(name: str, about: Any) -> tuple[str, tuple[int, ...], int, int]:
    try:
        dtype, shape, (begin, end) = about["dtype"], about["shape"], about["data_offsets"]
        numbers = (*shape, begin, end)
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"{name!r} has no dtype, shape and data_offsets") from None
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"{name!r} has dtype {dtype!r}, expected one of {', '.join(_DTYPES)}")
    if any(type(n) is not int or n < 0 for n in numbers) or len(shape) > 32:
        raise ValueError(f"{name!r} has shape {shape!r} and data_offsets {[begin, end]!r}")
    wanted = math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
    if end - begin != wanted:
        raise ValueError(f"{name!r} takes {wanted} bytes, and has {end - begin}")
    return dtype, tuple(shape), begin, end


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it has the same name twice")
    return found
