"""A checkpoint on disk: one directory a step, always the whole old or the whole new one.

``<root>/step_00000120/`` holds ``<part>.npz`` for each part that has arrays, and ``state.json``:
the version of the format, the rest of the state, and for every file its size, its SHA-256 and a
table of its arrays. ``state.json`` carries a SHA-256 of itself.

Writing: make ``.tmp-<name>-<pid>``, sync each file and the directory, rename it, sync the parent.
The newest checkpoint is the one with the highest step; no pointer file can disagree.
Reading: fixed file names, no links, no pickle. Compare every hash before using anything, and the
size of an array with its table before allocating memory for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from onepass._files import alive, naming, writing
from onepass._paths import expanded
from onepass.train._tree import pack, unpack

FORMAT = 1
STATE = "state.json"
MAX_STATE_BYTES = 100_000_000
_STEP = re.compile(r"step_(\d{8,})(?:\.(\d+))?")
_PART = re.compile(r"[a-z]+")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and what is wrong.

    Example:
        >>> from onepass.train import CheckpointError
        >>> issubclass(CheckpointError, ValueError)
        True
    """


def checkpoints(root: str | Path) -> list[Path]:
    """The checkpoint directories in ``root``, oldest step first, valid or not."""
    folder = expanded(root)
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((p for p in found if _STEP.fullmatch(p.name)), key=_order)


def step_of(path: Path) -> int:
    """The step in a checkpoint directory's name."""
    return _order(path)[0]


def write(root: str | Path, step: int, parts: Mapping[str, Any]) -> Path:
    """Write one checkpoint and return its directory.

    A checkpoint of the same step stays until the new one, ``step_<step>.<n>``, is in place; then it
    is retired.

    Raises:
        OSError: with the file that could not be written and the newest checkpoint there is.
    """
    folder = expanded(root)
    older = checkpoints(folder)
    kept = f"{older[-1]} is whole" if older else "no checkpoint was written before"
    with naming(folder, kept):
        return _write(folder, step, parts)


def read(path: str | Path) -> dict[str, Any]:
    """The verified parts of one checkpoint; CheckpointError if it is damaged."""
    folder = Path(path)
    state = _read_state(folder)
    arrays: dict[str, NDArray[Any]] = {}
    for part, entry in state["files"].items():
        if not _PART.fullmatch(part):
            raise CheckpointError(f"{folder / STATE}: bad file name {part!r}")
        for key, array in _read_arrays(folder / f"{part}.npz", entry).items():
            arrays[f"{part}/{key}"] = array
    try:
        return {part: unpack(tree, arrays, part) for part, tree in state["parts"].items()}
    except (KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise CheckpointError(f"{folder / STATE}: {error}") from error


def retire(path: Path) -> None:
    """Delete a checkpoint: rename it first, so that no reader sees half of it."""
    trash = path.with_name(f".trash-{path.name}-{os.getpid()}")
    shutil.rmtree(trash, ignore_errors=True)
    os.rename(path, trash)
    shutil.rmtree(trash, ignore_errors=True)


def clean(root: str | Path) -> None:
    """Remove temporary directories and retired checkpoints of killed processes."""
    folder = expanded(root)
    for path in folder.iterdir() if folder.is_dir() else ():
        left = re.fullmatch(r"\.(tmp|trash)-.*-(\d+)", path.name)
        if left and (int(left[2]) == os.getpid() or not alive(int(left[2]))):
            shutil.rmtree(path, ignore_errors=True)


def _order(path: Path) -> tuple[int, int]:
    match = _STEP.fullmatch(path.name)
    assert match is not None
    return int(match[1]), int(match[2] or 0)


# Writing.


def _write(folder: Path, step: int, parts: Mapping[str, Any]) -> Path:
    if not folder.is_dir():
        folder.mkdir(parents=True)
        _sync_directory(folder.parent)
    same = [path for path in checkpoints(folder) if step_of(path) == step]
    revision = f".{_order(same[-1])[1] + 1}" if same else ""
    final = folder / f"step_{step:08d}{revision}"
    partial = folder / f".tmp-{final.name}-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        _write_files(partial, parts)
        _sync_directory(partial)
        os.rename(partial, final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync_directory(folder)
    for path in same:
        retire(path)
    return final


def _write_files(folder: Path, parts: Mapping[str, Any]) -> None:
    files, trees = {}, {}
    for part, value in parts.items():
        arrays: dict[str, NDArray[Any]] = {}
        trees[part] = pack(value, arrays, part)
        if arrays:
            files[part] = _write_arrays(folder / f"{part}.npz", arrays)
    state = {"format": FORMAT, "files": files, "parts": trees}
    document = {"sha256": _digest(state), "state": state}
    with writing(folder / STATE), open(folder / STATE, "xb") as file:
        file.write(json.dumps(document, indent=1, allow_nan=False).encode())
        _sync(file)


def _write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    with writing(path), open(path, "xb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for key, array in arrays.items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, _storable(array), allow_pickle=False)
        _sync(file)
    with open(path, "rb") as file:
        size, digest = _hash(file)
    table = {k: {"dtype": a.dtype.name, "shape": list(a.shape)} for k, a in arrays.items()}
    return {"bytes": size, "sha256": digest, "arrays": table}


def _storable(array: NDArray[Any]) -> NDArray[Any]:
    """In C order and native byte order; bfloat16, which NumPy's format lacks, as integers."""
    if _dtype(array.dtype.name).kind == "V":
        return np.asarray(array, order="C").view(f"u{array.dtype.itemsize}")
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# Reading.


def _read_state(folder: Path) -> dict[str, Any]:
    path = folder / STATE
    with _open(path) as file:
        if os.fstat(file.fileno()).st_size > MAX_STATE_BYTES:
            raise CheckpointError(f"{path}: larger than {MAX_STATE_BYTES} bytes")
        raw = file.read()
    try:
        document = json.loads(raw, object_pairs_hook=_no_duplicates)
        state = document["state"]
        if document["sha256"] != _digest(state):
            raise ValueError("SHA-256 does not match: the file was damaged")
        if not isinstance(state["format"], int) or state["format"] > FORMAT:
            raise ValueError(
                f"format is {state['format']!r}, expected at most {FORMAT} for this version"
            )
        if not isinstance(state["files"], dict) or not isinstance(state["parts"], dict):
            raise ValueError("'files' and 'parts' are not objects")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: {error or type(error).__name__}") from error
    return dict(state)


def _read_arrays(path: Path, entry: Any) -> dict[str, NDArray[Any]]:
    with _open(path) as file:
        try:
            size, digest = _hash(file)
            if size != entry["bytes"] or digest != entry["sha256"]:
                raise ValueError(
                    f"SHA-256 does not match ({size} bytes, written {entry['bytes']}): "
                    "the file was damaged"
                )
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                if sorted(archive.namelist()) != sorted(f"{k}.npy" for k in entry["arrays"]):
                    raise ValueError("its arrays are not those listed in state.json")
                return {
                    key: _read_array(archive, key, about) for key, about in entry["arrays"].items()
                }
        except Exception as error:  # an archive can be damaged in every way
            raise CheckpointError(f"{path}: {error or type(error).__name__}") from error


def _read_array(archive: zipfile.ZipFile, key: str, about: dict[str, Any]) -> NDArray[Any]:
    """One array; stored uncompressed and as large as its shape says, so memory stays bounded."""
    member = archive.getinfo(f"{key}.npy")
    dtype = _dtype(about["dtype"])
    count = int(np.prod([int(n) for n in about["shape"]], dtype=object))
    if member.compress_type != zipfile.ZIP_STORED or member.file_size < count * dtype.itemsize:
        raise ValueError(f"array {key!r} is not as large as {about['shape']}")
    with archive.open(member) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    array = array.view(dtype) if dtype.kind == "V" else array
    if array.dtype != dtype or list(array.shape) != about["shape"]:
        raise ValueError(f"array {key!r} is {array.dtype} {array.shape}; state.json has {about}")
    return array


def _dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        narrow: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return narrow
    dtype = np.dtype(name)
    if dtype.kind not in "biufc":
        raise ValueError(f"dtype {name!r} does not belong in a checkpoint")
    return dtype


def _open(path: Path) -> BinaryIO:
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error


def _hash(file: BinaryIO) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while block := file.read(1 << 20):
        digest.update(block)
        size += len(block)
    return size, digest.hexdigest()


def _digest(state: Any) -> str:
    canonical = json.dumps(state, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the same key twice in one object")
    return found
