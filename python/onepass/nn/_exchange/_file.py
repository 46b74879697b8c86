"""A model in one file: its arrays under PyTorch's names, and how it is built.

The file is written beside its place and then renamed into it. What is read runs no code: arrays are
numbers, layers are named in a list of our own, and every option passes its constructor's checks.
"""

from __future__ import annotations

import json
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._array import to_numpy
from onepass._files import path_of, replacing
from onepass._keywords import suggest_keywords
from onepass._kind import FLOATS
from onepass._parameter import Computed, Parameter
from onepass.nn import _state_dict
from onepass.nn._exchange import _safetensors
from onepass.nn._exchange._architecture import build, described, difference
from onepass.nn._exchange._layers import NotALayerError
from onepass.nn._module import Module
from onepass.nn._random import without_drawing
from onepass.nn._state_dict import LoadResult
from onepass.nn._use import using

FORMAT = 1
KEY = "onepass"  # of the description among the metadata
_NPZ = b"PK\x03\x04"
Arrays = dict[str, NDArray[Any]]


def save(model: Module, path: str | os.PathLike[str], weights_only: bool = False) -> None:
    """`Module.save`."""
    place = path_of("save", "path", path)
    numbers.flag("save", "weights_only", weights_only)
    with using(model, "save"):
        state = {name: _portable(name, array) for name, array in model.state_dict().items()}
        about: dict[str, Any] = {"format": FORMAT, "version": _version()}
        try:
            if not weights_only:
                about["model"] = described(model)
        except NotALayerError as error:
            about["because"] = str(error)
            warnings.warn(
                f"save: {place} gets the weights alone, which nn.load cannot build a model from: "
                f"{error}; weights_only=True says that this is meant",
                stacklevel=3,
            )
    text = json.dumps(about, allow_nan=False)
    with replacing(place, "model") as file:
        if place.suffix.lower() == ".npz":
            from onepass import _npz  # and zipfile, which takes a while

            narrow = [name for name, array in state.items() if array.dtype.name == "bfloat16"]
            text = json.dumps({**about, "bfloat16": narrow}, allow_nan=False)
            _npz.write(file, state, text)
        else:
            _safetensors.write(file, state, {KEY: text})


def _version() -> str:
    from onepass import __version__

    return __version__


def _portable(name: str, array: Any) -> NDArray[Any]:
    """On the host, in C order and the machine's own order of bytes."""
    own = np.asarray(to_numpy(array), order="C")
    if name == _safetensors.METADATA or "/" in name or "\\" in name:
        raise ValueError(f"save: a parameter has the name {name!r}, which a file cannot hold")
    if own.dtype.name == "bfloat16":
        return own
    if own.dtype.kind not in "biuf" or own.dtype.itemsize > 8:
        raise TypeError(f"save: {name!r} has dtype {own.dtype}, expected numbers of up to 8 bytes")
    return own.astype(own.dtype.newbyteorder("="), copy=False)


def load_into(model: Module, path: Any, strict: Any, prefix: Any) -> LoadResult:
    """`Module.load`."""
    place = path_of("load", "path", path)
    strict = _state_dict.checked("load", model, strict, prefix)
    about, arrays, narrow = _read(place)
    for name in narrow:
        arrays[name] = _widened(arrays[name])
    if strict and not prefix and about is not None and "model" in about:
        with _damage(place):
            other = difference(model, about["model"])
        if other is not None:
            raise ValueError(
                f"load: {place} is of another model: {other}; nothing was changed (strict=False "
                "copies the values that fit)"
            )
    if about is None:
        _give_all_names(model, arrays, prefix)
    return _state_dict.load(model, arrays, strict, prefix, f"load: {place}")


def _give_all_names(model: Module, arrays: Arrays, prefix: str) -> None:
    """Let the values of a parameter that layers share stand under all of its names.

    Other programs keep one of them: ``safetensors.torch.save_model`` does, and chooses which.
    """
    names: dict[int, list[str]] = {}
    for name, array in _state_dict.live_arrays(model):
        names.setdefault(id(array), []).append(prefix + name)
    for shared in names.values():
        held = next((name for name in shared if name in arrays), None)
        if held is not None:
            for name in shared:
                arrays.setdefault(name, arrays[held])


@suggest_keywords
def load(path: str | os.PathLike[str]) -> Module:
    """The model in a file of `Module.save`, built anew from the file alone.

    It has the values, dtypes, modes and frozen parameters that it had, and parameters that layers
    shared are shared again. It lies on the CPU. Its dropout layers have new masks, as those of a
    new model; no random number is drawn from those of the process.

    No code of the file runs: it has numbers, names of onepass's layers, and their options.

    Args:
        path: a file of `Module.save`, in either form.

    Raises:
        FileNotFoundError: there is none.
        ValueError: another file, damaged, cut off, or of a later version; or one that has weights
            alone, since a module of your own was in the model: build that yourself, and call
            ``model.load(path)``.
        ModuleNotFoundError: the model has bfloat16 parameters, which NumPy takes from ml_dtypes.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from onepass import nn
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.1), nn.Linear(4, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.eval().save(f"{folder}/model.safetensors")
        ...     again = nn.load(f"{folder}/model.safetensors")
        >>> x = np.ones((2, 3), np.float32)
        >>> bool((again(x) == model(x)).all())
        True
    """
    place = path_of("load", "path", path)
    about, arrays, narrow = _read(place)
    for name in narrow:
        arrays[name] = _as_bfloat16(arrays[name], place)
    if about is None:
        raise ValueError(
            f"load: {place} has weights alone and does not say of which model; build the model, "
            "and call model.load(path)"
        )
    if "model" not in about:
        raise ValueError(
            f"load: {place} has weights alone{_because(about)}; build the model, and call "
            "model.load(path)"
        )
    with _damage(place), without_drawing():
        model = build(about["model"], lambda name: getattr(arrays.get(name), "shape", None))
        _fill(model, arrays)
        _tie(model, about["model"]["tied"], arrays)
        _freeze(model, about["model"]["frozen"])
    return model


def _because(about: dict[str, Any]) -> str:
    return f": {about['because']}" if "because" in about else ", as was asked for"


def _fill(model: Module, arrays: Arrays) -> None:
    """Give the model the arrays themselves."""
    left = set(arrays)
    for prefix, module in model.named_modules():
        dot = f"{prefix}." if prefix else ""
        for key, value in tuple(vars(module).items()):
            if isinstance(value, Parameter) and not isinstance(value, Computed):
                value.data = _taken(arrays, dot + key, value.data)
                left.discard(dot + key)
        for key in module.buffer_names:
            if (buffer := getattr(module, key)) is not None:
                setattr(module, key, _taken(arrays, dot + key, buffer))
                left.discard(dot + key)
    if left:
        raise ValueError(f"it has {sorted(left)[0]!r}, of which its layers know nothing")


def _taken(arrays: Arrays, name: str, like: NDArray[Any]) -> NDArray[Any]:
    if name not in arrays:
        raise ValueError(f"it lacks {name!r}")
    array, floats = arrays[name], like.dtype.kind == "f"
    fits = array.dtype.name in FLOATS if floats else array.dtype == like.dtype
    if not fits or array.shape != like.shape or (not floats and (array < 0).any()):
        raise ValueError(
            f"{name!r} is {array.dtype} {array.shape}, expected {like.dtype} {like.shape}"
        )
    return array


def _tie(model: Module, tied: dict[str, str], arrays: Arrays) -> None:
    """Let layers share parameters, as they did."""
    modules = dict(model.named_modules())
    for name, first in tied.items():
        owner, key = _slot(modules, name)
        other = getattr(*_slot(modules, first))
        if arrays[name].tobytes() != arrays[first].tobytes():
            raise ValueError(f"{name!r} and {first!r} are one parameter, and differ")
        if getattr(owner, key).data.dtype != other.data.dtype or name in tied.values():
            raise ValueError(f"{name!r} and {first!r} cannot be one parameter")
        setattr(owner, key, other)


def _freeze(model: Module, frozen: list[str]) -> None:
    modules = dict(model.named_modules())
    for name in frozen:
        getattr(*_slot(modules, name)).requires_grad = False


def _slot(modules: dict[str, Module], name: str) -> tuple[Module, str]:
    prefix, _, key = name.rpartition(".")
    found = vars(modules[prefix]).get(key)
    if not isinstance(found, Parameter) or isinstance(found, Computed):
        raise ValueError(f"{name!r} is not a parameter")
    return modules[prefix], key


# Reading.


def _read(place: Path) -> tuple[dict[str, Any] | None, Arrays, list[str]]:
    """The description, the arrays, and which of them have the bits of bfloat16."""
    if stat.S_ISFIFO(place.stat().st_mode):  # which would wait for somebody to write
        raise ValueError(f"load: {place} cannot be used: it is a pipe")
    with open(place, "rb") as file, _damage(place):
        begin, size = file.read(4), os.fstat(file.fileno()).st_size
        file.seek(0)
        text, arrays, narrow = (_read_npz if begin == _NPZ else _read_plain)(file, size)
        about = None if text is None else json.loads(text)
        if about is not None and about["format"] > FORMAT:
            raise ValueError(
                f"it has format {about['format']}, expected at most {FORMAT}: it was written by "
                f"onepass {about.get('version')}, a later version than this one"
            )
        if begin == _NPZ and about is not None:
            narrow = [name for name in about["bfloat16"] if arrays[name].dtype == np.uint16]
    return about, arrays, narrow


def _read_plain(file: BinaryIO, size: int) -> tuple[str | None, Arrays, list[str]]:
    metadata, arrays, narrow = _safetensors.read(file, size)
    return metadata.get(KEY), arrays, sorted(narrow)


def _read_npz(file: BinaryIO, size: int) -> tuple[str | None, Arrays, list[str]]:
    from onepass import _npz

    text, arrays = _npz.read(file)
    return text, arrays, []


@contextmanager
def _damage(place: Path) -> Iterator[None]:
    """An error inside becomes one that names the file."""
    try:
        yield
    except (
        ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, MemoryError,
    ) as error:  # fmt: skip
        said = str(error) or type(error).__name__
        raise ValueError(f"load: {place} cannot be used: {said}") from error


def _widened(bits: NDArray[Any]) -> NDArray[Any]:
    """The values of bfloat16 in float32, all of which it has."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _as_bfloat16(bits: NDArray[Any], place: Path) -> NDArray[Any]:
    try:
        import ml_dtypes
    except ImportError:
        raise ModuleNotFoundError(
            f"load: {place} has bfloat16 parameters, which NumPy takes from ml_dtypes: "
            "pip install 'onepass[bfloat16]'; or build the model in float32, and call "
            "model.load(path)"
        ) from None
    return bits.view(ml_dtypes.bfloat16)
